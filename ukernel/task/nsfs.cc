#include "ukernel/task/nsfs.h"

#include <linux/nsfs.h>
#include <sched.h>
#include <sys/resource.h>

#include "absl/strings/str_format.h"
#include "ukernel/ipc/namespace.h"
#include "ukernel/kernel.h"
#include "ukernel/task/pid_ns.h"

namespace uk {
namespace {

constexpr uint64_t kNsfsMagic = 0x6e736673;

// ioctl_ns(2), newer than the headers this is built with.
constexpr uint32_t kNsGetMntnsId = _IOR(NSIO, 5, uint64_t);
struct MntNsInfo {
  uint32_t size, mounts;
  uint64_t id;
};
constexpr uint32_t kNsGetPidFromPidns = _IOR(NSIO, 6, int);  // and up to IN_PIDNS for a process
constexpr uint32_t kNsGetTgidFromPidns = _IOR(NSIO, 7, int);
constexpr uint32_t kNsGetPidInPidns = _IOR(NSIO, 8, int);
constexpr uint32_t kNsGetTgidInPidns = _IOR(NSIO, 9, int);
constexpr uint32_t kNsMntGetInfo = _IOR(NSIO, 10, MntNsInfo);
constexpr uint32_t kNsGetId = _IOR(NSIO, 13, uint64_t);

// Numbers of the initial ones, as Linux has them.
constexpr std::array<uint64_t, kNsKinds> kInitialNumbers = {
    0xeffffffb, 0xefffffff, 0xf0000001, 0xf0000000, 0xeffffffc, 0xeffffffa, 0xeffffffd, 0xeffffffe,
};

class NsFile final : public File {
 public:
  NsFile(Path path, int flags, Ref<Namespace> ns)
      : File(std::move(path), flags), ns_(std::move(ns)) {}
  Result<int64_t> ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) override;

 private:
  template <class T>
  Result<int64_t> put(Park& park, IoctlUser& user, uint64_t to, const T& value) {
    TRY(user.copy_out(park, to, std::as_bytes(std::span(&value, 1))));
    return 0;
  }
  Ref<Namespace> ns_;
};

class NsInode final : public Inode {
 public:
  NsInode(Ref<SuperBlock> sb, Ref<Namespace> ns) : Inode(std::move(sb)), ns(std::move(ns)) {}
  ~NsInode() override { static_cast<NsFs&>(sb()).bury(std::move(ns)); }
  uint32_t type() const override { return S_IFREG; }
  Result<FileAttr> getattr(Park&) override {
    FileAttr a;
    a.ino = ns->number;
    a.dev = sb().dev;
    a.mode = S_IFREG | 0444;
    return a;
  }
  Result<Ref<File>> open(Park&, const Path& path, int flags, const Cred&) override {
    return Ref<File>(make_ref<NsFile>(path, flags, ns));
  }
  const MountNamespace* mount_namespace() const override {
    return ns->kind == NsKind::kMnt ? static_cast<const MountNamespace*>(ns.get()) : nullptr;
  }
  Ref<Namespace> ns;
};

bool is_initial_user(const NsFs& fs, const Namespace& ns) {
  return &ns == fs.initial(NsKind::kUser).get();
}

// The user namespace behind a namespace's file, as credentials hold it.
const UserNamespace* user_of(const NsFs& fs, const Namespace& ns) {
  return is_initial_user(fs, ns) ? nullptr : static_cast<const UserNamespace*>(&ns);
}

// The pid namespace behind a file, as tasks hold it.
Ref<PidNamespace> pid_ns_behind(const NsFs& fs, const Ref<Namespace>& ns) {
  return ns == fs.initial(NsKind::kPid) ? nullptr : static_ref_cast<PidNamespace>(ns);
}

Result<int> parent_of(Task& task, const NsFs& fs, const Ref<Namespace>& ns) {
  const Ref<PidNamespace> child = pid_ns_behind(fs, ns);
  if (!child || !pid_ns_within(child->parent.get(), pid_ns_of(task).get()))
    return Err(Errno::kPERM);
  const Ref<PidNamespace>& parent = child->parent;
  return install_ns_fd(task, parent ? Ref<Namespace>(parent) : fs.initial(NsKind::kPid));
}

// A number of `ns` as the caller knows it, or (`in`) the other way round.
Result<int64_t> translate_pid(const Task& task, const PidNamespace* ns, int given, bool in,
                              bool process) {
  const PidNamespace* mine = pid_ns_of(task).get();
  const Task* t = task.kernel.pids.task(kernel_pid(in ? mine : ns, given));
  const int shown = t == nullptr ? 0 : shown_pid(in ? ns : mine, process ? t->tgid() : t->tid);
  return shown != 0 ? Result<int64_t>(shown) : Err(Errno::kSRCH);
}

Result<int64_t> NsFile::ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) {
  Task& task = *user.task();
  NsFs& fs = *task.kernel.nsfs;
  const UserNamespace* mine = user.cred().user_ns.get();
  const bool is_user = ns_->kind == NsKind::kUser;
  switch (cmd) {
    case NS_GET_NSTYPE:
      return static_cast<int64_t>(ns_clone_flag(ns_->kind));
    case NS_GET_PARENT:
      if (!is_user && ns_->kind != NsKind::kPid) return Err(Errno::kINVAL);
      if (!is_user) return TRY(parent_of(task, fs, ns_));
      [[fallthrough]];
    case NS_GET_USERNS: {
      // A user namespace belongs to its parent.
      if (is_user && is_initial_user(fs, *ns_)) return Err(Errno::kPERM);
      const Ref<UserNamespace> owner =
          is_user ? static_cast<const UserNamespace&>(*ns_).parent : ns_->owner;
      if (!user_ns_within(owner.get(), mine)) return Err(Errno::kPERM);
      return TRY(install_ns_fd(task, fs.user(owner)));
    }
    case NS_GET_OWNER_UID: {
      if (!is_user) return Err(Errno::kINVAL);
      const UserNamespace* ns = user_of(fs, *ns_);
      return put(park, user, arg, shown_uid(mine, ns != nullptr ? ns->owner_uid : 0));
    }
    case kNsGetMntnsId:
      if (ns_->kind != NsKind::kMnt) return Err(Errno::kINVAL);
      return put(park, user, arg, static_cast<const MountNamespace&>(*ns_).id);
    case kNsMntGetInfo: {
      if (ns_->kind != NsKind::kMnt || arg == 0) return Err(Errno::kINVAL);
      const auto& mounts = static_cast<const MountNamespace&>(*ns_);
      return put(
          park, user, arg,
          MntNsInfo{sizeof(MntNsInfo), static_cast<uint32_t>(mounts.mounts.size()), mounts.id});
    }
    case kNsGetPidFromPidns:
    case kNsGetTgidFromPidns:
    case kNsGetPidInPidns:
    case kNsGetTgidInPidns:
      if (ns_->kind != NsKind::kPid) return Err(Errno::kINVAL);
      return translate_pid(task, pid_ns_behind(fs, ns_).get(), static_cast<int>(arg),
                           cmd == kNsGetPidInPidns || cmd == kNsGetTgidInPidns,
                           cmd == kNsGetTgidFromPidns || cmd == kNsGetTgidInPidns);
    case kNsGetId:
      return put(park, user, arg, ns_->number);
    default:
      return Err(Errno::kNOTTY);
  }
}

}  // namespace

const char* ns_name(NsKind kind) {
  constexpr std::array<const char*, kNsKinds> kNames = {"cgroup", "ipc",  "mnt",  "net",
                                                        "pid",    "time", "user", "uts"};
  return kNames[static_cast<size_t>(kind)];
}

uint64_t ns_clone_flag(NsKind kind) {
  constexpr std::array<uint64_t, kNsKinds> kFlags = {CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNS,
                                                     CLONE_NEWNET,    CLONE_NEWPID, kCloneNewTime,
                                                     CLONE_NEWUSER,   CLONE_NEWUTS};
  return kFlags[static_cast<size_t>(kind)];
}

NsFs::NsFs(Kernel& k) : kernel(k) {
  dev = make_dev(0, 4);
  initial_[static_cast<size_t>(NsKind::kIpc)] = k.ipc;
  initial_[static_cast<size_t>(NsKind::kMnt)] = k.mounts;
  initial_[static_cast<size_t>(NsKind::kUts)] = k.uts;
  for (size_t i = 0; i < kNsKinds; ++i) {
    if (!initial_[i]) initial_[i] = make_ref<Namespace>(static_cast<NsKind>(i));
    initial_[i]->number = kInitialNumbers[i];
  }
  counts_->next_number = 0xf0000002;
}
NsFs::~NsFs() = default;

void NsFs::bury(Ref<Namespace> ns) {
  graves_.push_back(std::move(ns));
  if (burying_) return;
  burying_ = true;
  while (!graves_.empty()) {
    Ref<Namespace> next = std::move(graves_.back());
    graves_.pop_back();
  }
  burying_ = false;
}

void NsFs::close() {
  mount_.reset();
  initial_ = {};
}

Result<FsStat> NsFs::statfs(Park&) {
  FsStat s;
  s.type = kNsfsMagic;
  return s;
}

Result<> NsFs::admit(Namespace& ns) {
  int& count = counts_->of[static_cast<size_t>(ns.kind)];
  if (count >= kMaxOfKind) return Err(Errno::kNOSPC);
  ++count;
  ns.counted = counts_;
  ns.number = counts_->next_number++;
  return {};
}

Ref<Namespace> NsFs::initial(NsKind kind) const { return initial_[static_cast<size_t>(kind)]; }

Ref<Namespace> NsFs::user(const Ref<UserNamespace>& ns) const {
  return ns != nullptr ? Ref<Namespace>(ns) : initial(NsKind::kUser);
}

Path NsFs::path_of(Ref<Namespace> ns) {
  if (!mount_) mount_ = kernel.vfs.internal_mount(Ref<SuperBlock>(this));
  std::string name = absl::StrFormat("%s:[%d]", ns_name(ns->kind), ns->number);
  auto inode = make_ref<NsInode>(Ref<SuperBlock>(this), std::move(ns));
  return Path(mount_, make_ref<Dentry>(nullptr, std::move(name), std::move(inode)));
}

Ref<Namespace> namespace_of(const File& file) {
  if ((file.flags & O_PATH) != 0) return nullptr;
  const auto* inode = dynamic_cast<const NsInode*>(file.inode());
  return inode != nullptr ? inode->ns : nullptr;
}

Result<int> install_ns_fd(Task& task, Ref<Namespace> ns) {
  Path path = task.kernel.nsfs->path_of(ns);
  return task.fds().add(make_ref<NsFile>(std::move(path), O_RDONLY, std::move(ns)), true,
                        task.rlimit(RLIMIT_NOFILE).cur);
}

bool user_ns_within(const UserNamespace* ns, const UserNamespace* top) {
  for (; ns != nullptr; ns = ns->parent.get())
    if (ns == top) return true;
  return top == nullptr;
}

}  // namespace uk
