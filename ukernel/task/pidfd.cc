#include "ukernel/task/pidfd.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include <cstring>
#include <vector>

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
  Result<int64_t> ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) override;
  const Ref<ThreadGroup> group;
};

struct PidfdInfo {  // struct pidfd_info
  uint64_t mask;
  uint64_t cgroup;
  uint32_t pid, tgid, ppid;
  uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
};
static_assert(sizeof(PidfdInfo) == 64);

constexpr uint64_t kInfoPid = 1, kInfoCreds = 2, kInfoExit = 8;

// What is known of the process. `wanted`: the exit status of one that was waited for, too.
Result<PidfdInfo> info_of(const ThreadGroup& group, uint64_t wanted) {
  PidfdInfo info{};
  if (group.leader == nullptr) {
    if ((wanted & kInfoExit) == 0) return Err(Errno::kSRCH);
    info.mask = kInfoExit;
    info.exit_code = group.exit_code;
    return info;
  }
  const Cred& c = group.leader->cred();
  info.mask = kInfoPid | kInfoCreds;
  info.pid = info.tgid = static_cast<uint32_t>(group.tgid);
  info.ppid = group.parent != nullptr ? static_cast<uint32_t>(group.parent->tgid) : 0;
  info.ruid = c.uid, info.euid = c.euid, info.suid = c.suid, info.fsuid = c.fsuid;
  info.rgid = c.gid, info.egid = c.egid, info.sgid = c.sgid, info.fsgid = c.fsgid;
  return info;
}

// PIDFD_GET_INFO, whose size grows with what is known: ours is the first one.
Result<int64_t> PidFile::ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) {
  constexpr unsigned kMagic = 0xff, kGetInfo = 11;
  if (_IOC_TYPE(cmd) != kMagic || _IOC_NR(cmd) != kGetInfo ||
      _IOC_DIR(cmd) != (_IOC_READ | _IOC_WRITE) || _IOC_SIZE(cmd) < sizeof(PidfdInfo))
    return Err(Errno::kNOTTY);
  if (arg == 0) return Err(Errno::kINVAL);
  uint64_t wanted = 0;
  TRY(user.copy_in(park, std::as_writable_bytes(std::span(&wanted, 1)), arg));
  const PidfdInfo info = TRY(info_of(*group, wanted));
  std::vector<std::byte> out(_IOC_SIZE(cmd));
  std::memcpy(out.data(), &info, sizeof info);
  TRY(user.copy_out(park, arg, out));
  return 0;
}

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
