#include "ukernel/task/pidfd.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ukernel/kernel.h"
#include "ukernel/task/identity.h"
#include "ukernel/task/nsfs.h"
#include "ukernel/task/ptrace.h"
#include "ukernel/vfs/anon_inode.h"

namespace uk {
namespace {

class PidFile final : public File {
 public:
  PidFile(Ref<ThreadGroup> g, int flags)
      : File(make_anon_path("pidfd"), O_RDWR | flags),
        group(std::move(g)),
        pid_ns(group->kernel.pids.ns_of(group->tgid)) {}
  uint32_t ready() override {
    if (group->leader == nullptr) return POLLIN | POLLRDNORM | POLLHUP;  // waited for
    return group->zombie ? POLLIN | POLLRDNORM : 0;
  }
  WaitQueue* poll_queue() override { return &group->exit_queue; }
  Result<int64_t> ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) override;
  const Ref<ThreadGroup> group;
  const Ref<PidNamespace> pid_ns;  // the process's; null: the initial one
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
Result<PidfdInfo> info_of(const Task& viewer, const ThreadGroup& group, uint64_t wanted) {
  PidfdInfo info{};
  if (group.leader == nullptr) {
    if ((wanted & kInfoExit) == 0) return Err(Errno::kSRCH);
    info.mask = kInfoExit;
    info.exit_code = group.exit_code;
    return info;
  }
  const Cred& c = group.leader->cred();
  info.mask = kInfoPid | kInfoCreds;
  info.pid = info.tgid = static_cast<uint32_t>(shown_pid(viewer, group.tgid));
  const int parent = group.parent != nullptr ? shown_pid(viewer, group.parent->tgid) : 0;
  info.ppid = static_cast<uint32_t>(parent);
  auto u = [&](uint32_t uid) { return shown_uid(viewer, uid); };
  auto g = [&](uint32_t gid) { return shown_gid(viewer, gid); };
  info.ruid = u(c.uid), info.euid = u(c.euid), info.suid = u(c.suid), info.fsuid = u(c.fsuid);
  info.rgid = g(c.gid), info.egid = g(c.egid), info.sgid = g(c.sgid), info.fsgid = g(c.fsgid);
  return info;
}

// PIDFD_GET_*_NAMESPACE (ioctl_pidfd(2)).
struct NsCommand {
  uint32_t command;
  NsKind kind;
  bool for_children = false;
};
constexpr uint8_t kMagic = 0xff;
constexpr NsCommand kNsCommands[] = {
    {_IO(kMagic, 1), NsKind::kCgroup}, {_IO(kMagic, 2), NsKind::kIpc},
    {_IO(kMagic, 3), NsKind::kMnt},    {_IO(kMagic, 4), NsKind::kNet},
    {_IO(kMagic, 5), NsKind::kPid},    {_IO(kMagic, 6), NsKind::kPid, true},
    {_IO(kMagic, 7), NsKind::kTime},   {_IO(kMagic, 8), NsKind::kTime, true},
    {_IO(kMagic, 9), NsKind::kUser},   {_IO(kMagic, 10), NsKind::kUts},
};

Result<int64_t> open_namespace(Task& task, const ThreadGroup& group, const NsCommand& c,
                               uint64_t arg) {
  if (arg != 0) return Err(Errno::kINVAL);
  const Task* target = group.leader;
  if (target == nullptr || !target->mounts_) return Err(Errno::kSRCH);
  if (!may_access(task, *target)) return Err(Errno::kACCES);
  Ref<Namespace> ns = namespace_of(*target, c.kind, c.for_children);
  if (!ns) return Err(Errno::kOPNOTSUPP);
  return TRY(install_ns_fd(task, std::move(ns)));
}

// PIDFD_GET_INFO, whose size grows with what is known: ours is the first one.
Result<int64_t> PidFile::ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) {
  for (const NsCommand& c : kNsCommands)
    if (cmd == c.command) return open_namespace(*user.task(), *group, c, arg);
  constexpr unsigned kGetInfo = 11;
  if (_IOC_TYPE(cmd) != kMagic || _IOC_NR(cmd) != kGetInfo ||
      _IOC_DIR(cmd) != (_IOC_READ | _IOC_WRITE) || _IOC_SIZE(cmd) < sizeof(PidfdInfo))
    return Err(Errno::kNOTTY);
  if (arg == 0) return Err(Errno::kINVAL);
  uint64_t wanted = 0;
  TRY(user.copy_in(park, std::as_writable_bytes(std::span(&wanted, 1)), arg));
  if (!pid_ns_within(pid_ns.get(), pid_ns_of(*user.task()).get())) return Err(Errno::kSRCH);
  const PidfdInfo info = TRY(info_of(*user.task(), *group, wanted));
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

std::string pidfd_info(const ThreadGroup& group, const PidNamespace* ns) {
  if (group.leader == nullptr) return "Pid:\t-1\nNSpid:\t-1\n";
  std::string out = absl::StrCat("Pid:\t", shown_pid(ns, group.tgid), "\nNSpid:");
  const std::vector<int> numbers = numbers_from(group.kernel, ns, group.tgid);
  for (int n : numbers) absl::StrAppend(&out, "\t", n);
  return out + (numbers.empty() ? "\t0\n" : "\n");
}

Result<Ref<ThreadGroup>> process_of(const File& file) {
  if (auto* dir = dynamic_cast<const ProcessInode*>(file.inode())) return dir->process();
  return pidfd_group(file);
}

}  // namespace uk
