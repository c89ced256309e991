#include "ukernel/task/pidfd.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "absl/strings/str_cat.h"
#include "ukernel/vfs/anon_inode.h"

namespace uk {
namespace {

class PidFile final : public File {
 public:
  PidFile(Ref<ThreadGroup> g, int flags)
      : File(make_anon_path("pidfd"), O_RDWR | flags), group(std::move(g)) {}
  uint32_t ready() override { return group->zombie ? POLLIN | POLLRDNORM : 0; }
  WaitQueue* poll_queue() override { return &group->exit_queue; }
  std::string fdinfo() const override {
    int pid = group->leader != nullptr ? group->tgid : -1;
    return absl::StrCat("Pid:\t", pid, "\nNSpid:\t", pid, "\n");
  }
  const Ref<ThreadGroup> group;
};

}  // namespace

Result<int> install_pidfd(Task& task, Ref<ThreadGroup> group, int flags) {
  return task.fds().add(make_ref<PidFile>(std::move(group), flags & O_NONBLOCK), true,
                        task.rlimit(RLIMIT_NOFILE).cur);
}

Result<Ref<ThreadGroup>> pidfd_group(const File& file) {
  auto* pid = dynamic_cast<const PidFile*>(&file);
  if (pid == nullptr) return Err(Errno::kBADF);
  return pid->group;
}

Result<Ref<ThreadGroup>> process_of(const File& file) {
  if (auto* dir = dynamic_cast<const ProcessInode*>(file.inode())) return dir->process();
  return pidfd_group(file);
}

}  // namespace uk
