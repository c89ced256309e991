// The vfs core: path walks and the operations of system calls on names. It is handed a FsContext
// (root, working directory, umask, credentials) for each call and knows no tasks.
//
// Ownership: the Kernel owns the Vfs; a Vfs owns the filesystem registry and hands out st_dev
// numbers and mount ids. Everything with Park& may suspend. Path strings are guest input.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "ukernel/mm/phys.h"
#include "ukernel/sched/clock.h"
#include "ukernel/vfs/file.h"
#include "ukernel/vfs/mount.h"
#include "ukernel/vfs/path.h"

namespace uk {

class LockGraph;

// Who asks, from where. Borrowed for the length of a call.
struct FsContext {
  Path root;
  Path cwd;
  const Cred* cred;
  uint32_t umask = 022;
  MountNamespace* ns;
};

// Where a walk starts when the path is relative: cwd (AT_FDCWD), or the path of a descriptor.
struct WalkFrom {
  const Path* base = nullptr;  // null: ctx.cwd
};

enum WalkFlags : uint32_t {
  kWalkFollow = 1,     // follow a symlink in the last component
  kWalkDirectory = 2,  // the result must be a directory
  kWalkEmptyOk = 4,    // "" names the base itself (AT_EMPTY_PATH)
  // openat2(2) RESOLVE_*
  kWalkNoXdev = 0x100,
  kWalkNoMagiclinks = 0x200,
  kWalkNoSymlinks = 0x400,
  kWalkBeneath = 0x800,
  kWalkInRoot = 0x1000,
};

struct OpenRequest {
  int flags = 0;      // O_*
  uint32_t mode = 0;  // for O_CREAT, before umask
  uint32_t walk = 0;  // extra WalkFlags (RESOLVE_*)
};

// A filesystem type: `mount -t NAME`.
struct FsType {
  std::string name;
  bool needs_device = false;  // for /proc/filesystems ("nodev" otherwise)
  std::function<Result<Ref<SuperBlock>>(Park&, class Vfs&, const std::string& source,
                                        const std::string& options, Ref<Inode>* root)>
      mount;
  bool user_mounts = false;  // in user namespaces too
  // Those with needs_device are mounted by this instead: the device that `source` names is found.
  std::function<Result<Ref<SuperBlock>>(Park&, uint64_t rdev, bool read_only,
                                        const std::string& options, Ref<Inode>* root)>
      mount_device = nullptr;
};

// Character and block devices by number: what opening a device inode does.
struct DeviceOpener {
  std::function<Result<Ref<File>>(Park&, const Path&, int flags, const Cred&, uint64_t rdev)> open;
};

class Vfs {
 public:
  Vfs(PhysMemory& mem, Clock& clock, Log& log);
  ~Vfs();

  // ---- registries (open, filled from boot)
  void register_fs(FsType type);
  const std::vector<FsType>& fs_types() const;
  // major/minor ranges [minor, minor+count); block selects the block table.
  void register_device(bool block, uint32_t major, uint32_t minor, uint32_t count, std::string name,
                       DeviceOpener opener);
  Result<Ref<File>> open_device(Park& park, const Path& path, int flags, const Cred& cred,
                                bool block, uint64_t rdev);
  struct DeviceName {
    uint32_t major;
    std::string name;
  };
  std::vector<DeviceName> device_names(bool block) const;  // /proc/devices
  // What opening a fifo does (pipes live above the vfs). Without one fifos answer kNXIO.
  using FifoOpener = std::function<Result<Ref<File>>(Park&, const Path&, int flags, const Cred&)>;
  void set_fifo_opener(FifoOpener opener);

  // ---- walks
  Result<Path> walk(Park& park, const FsContext& ctx, WalkFrom from, std::string_view path,
                    uint32_t flags);
  // The directory and last name, for creation and removal. The last component is not followed.
  // `trailing_slash` tells.
  struct Parent {
    Path dir;
    std::string name;
    bool trailing_slash;
    enum class Last : uint8_t { kName, kDot, kDotDot, kRoot } last;
  };
  Result<Parent> walk_parent(Park& park, const FsContext& ctx, WalkFrom from, std::string_view path,
                             uint32_t flags = 0);

  // ---- operations, named after their calls (errors in the order Linux gives them)
  Result<Ref<File>> open(Park& park, const FsContext& ctx, WalkFrom from, std::string_view path,
                         const OpenRequest& req);
  Result<Ref<File>> open_path(Park& park, const Path& path, int flags,
                              const Cred& cred);  // no permission check
  // A regular file about to be executed: permission, noexec; it cannot be opened for writing while
  // inode->deny_write is held by the caller.
  Result<Ref<File>> open_exec(Park& park, const FsContext& ctx, WalkFrom from,
                              std::string_view path, uint32_t walk_flags);
  Result<> mkdir(Park& park, const FsContext& ctx, WalkFrom from, std::string_view path,
                 uint32_t mode);
  // The type in `mode` is one that mknod(2) makes; the caller has checked that.
  Result<> mknod(Park& park, const FsContext& ctx, WalkFrom from, std::string_view path,
                 uint32_t mode, uint64_t rdev);
  Result<> symlink(Park& park, const FsContext& ctx, std::string_view target, WalkFrom from,
                   std::string_view path);
  Result<> link(Park& park, const FsContext& ctx, const Path& target, WalkFrom from,
                std::string_view path);
  Result<> unlink(Park& park, const FsContext& ctx, WalkFrom from, std::string_view path);
  Result<> rmdir(Park& park, const FsContext& ctx, WalkFrom from, std::string_view path);
  Result<> rename(Park& park, const FsContext& ctx, WalkFrom from1, std::string_view path1,
                  WalkFrom from2, std::string_view path2, uint32_t flags);
  Result<std::string> readlink(Park& park, const Path& path);
  // Creates `name` in `dir` as `node`, with the sgid rule and notification; for bind(2) of AF_UNIX
  // and mkfifo as well.
  Result<Path> make_node(Park& park, const FsContext& ctx, WalkFrom from, std::string_view path,
                         MakeNode node);
  Result<FileAttr> stat(Park& park, const Path& path);
  Result<> chmod(Park& park, const FsContext& ctx, const Path& path, uint32_t mode);
  Result<> chown(Park& park, const FsContext& ctx, const Path& path, uint32_t uid,
                 uint32_t gid);  // ~0u: unchanged
  Result<> truncate(Park& park, const FsContext& ctx, const Path& path, uint64_t size);
  // utimensat(2): unset = UTIME_OMIT; `now` members say UTIME_NOW.
  struct SetTimes {
    std::optional<FileTime> atime, mtime;
    bool atime_now = false, mtime_now = false;
  };
  Result<> utimens(Park& park, const FsContext& ctx, const Path& path, const SetTimes& times);
  // Extended attributes (xattr(7)): the rules of the name spaces and permissions.
  Result<std::string> getxattr(Park& park, const FsContext& ctx, const Path& path,
                               std::string_view name);
  Result<> setxattr(Park& park, const FsContext& ctx, const Path& path, std::string_view name,
                    std::string_view value, int flags);
  Result<> removexattr(Park& park, const FsContext& ctx, const Path& path, std::string_view name);
  Result<std::vector<std::string>> listxattr(Park& park, const FsContext& ctx, const Path& path);
  // A regular file without a name, in memory: memfd_create(2), with `name` for its path.
  Result<Ref<File>> memory_file(Park& park, const Cred& cred, std::string name, uint32_t mode);
  // access(2) with the given credentials.
  Result<> access(Park& park, const Path& path, const Cred& cred, uint32_t may);
  Result<> check_permission(Park& park, Inode& inode, const Cred& cred, uint32_t may);

  // ---- mounts (mount.cc, propagation.cc, mount_new.cc)
  Result<Ref<Mount>> new_root(Park& park, MountNamespace& ns, Ref<SuperBlock> sb, Ref<Inode> root,
                              std::string source, uint32_t flags);
  Result<Ref<Mount>> mount(Park& park, const FsContext& ctx, const Path& at, std::string_view type,
                           const std::string& source, const std::string& options, uint32_t flags);
  // A filesystem of a type, not mounted yet; kNODEV, or kPERM for those that a user namespace may
  // not have of its own.
  struct NewSuper {
    Ref<SuperBlock> sb;
    Ref<Dentry> root;
  };
  Result<NewSuper> make_super(Park& park, const FsContext& ctx, std::string_view type,
                              const std::string& source, const std::string& options,
                              bool read_only = false);
  Result<Ref<Mount>> attach(MountNamespace& ns, const Path& at, Ref<SuperBlock> sb,
                            Ref<Dentry> root, std::string source, uint32_t flags);
  Result<Ref<Mount>> bind(const FsContext& ctx, const Path& from, const Path& at, bool recursive);
  Result<> umount(Park& park, const FsContext& ctx, const Path& at, int flags);
  // MS_REMOUNT: new flags; of the mount alone with `bind_only`, else of the filesystem as well.
  Result<> remount(Park& park, const FsContext& ctx, const Path& at, uint32_t flags, bool bind_only,
                   const std::string& options);
  Result<> move_mount(const FsContext& ctx, const Path& from, const Path& to);
  Result<> set_propagation(const FsContext& ctx, const Path& at, Propagation kind, bool recursive);
  // pivot_root(2). The caller moves the roots and working directories of tasks that stood on the
  // old root.
  Result<> pivot_root(const FsContext& ctx, const Path& new_root, const Path& put_old);
  // A copy for CLONE_NEWNS, owned by `owner`; `moved` is called with (old mount, its copy) so that
  // the caller can move its paths.
  Result<Ref<MountNamespace>> copy_namespace(MountNamespace& ns, Ref<UserNamespace> owner,
                                             const std::function<void(Mount&, Mount&)>& moved);
  // Trees without a place, for the new mount calls: a copy of what is at `from` (open_tree(2)), and
  // a fresh mount of a superblock (fsmount(2)). They end with their namespace unless moved out.
  Result<Ref<MountNamespace>> detached_copy(const FsContext& ctx, const Path& from, bool recursive);
  Result<Ref<MountNamespace>> detached_mount(const FsContext& ctx, Ref<SuperBlock> sb,
                                             Ref<Dentry> root, std::string source, uint32_t flags);
  Result<> change_mounts(const FsContext& ctx, const Path& at, const MountChange& change);
  // A mount of the kernel's own, in no namespace, for objects that can be bound (nsfs).
  Ref<Mount> internal_mount(Ref<SuperBlock> sb);
  // The mount on top of `path`, if any (repeatedly), as a walk does it.
  Path follow_mounts(Path path) const;
  // Forgets cached names below no longer used mounts and, with `all`, all unused ones.
  void shrink_names(bool all);
  // Absolute name of `path` as seen from ctx.root; " (deleted)" is appended for unlinked ones;
  // "(unreachable)" is put before a path outside the root if `mark_unreachable` (getcwd(2), not
  // /proc).
  std::string path_name(const Path& path, const Path& root, bool mark_unreachable = false) const;

  // ---- notification (inotify); called by the operations above and by the system call layer for
  // reads and writes.
  void notify(const Path& path, uint32_t in_mask);
  void notify_name(const Path& dir, std::string_view name, uint32_t in_mask, uint32_t cookie = 0);

  // An inode's last link is gone: watches end now or at the last close (notify_gone()).
  void notify_removed(Inode& inode);
  void notify_gone(Inode& inode);
  void notify_moved(Inode& inode);

  // Whose call is being made; null: nobody's. Set by the Kernel. Only for what Linux asks of the
  // caller where all others were asked when the file was opened.
  std::function<const Cred*()> caller;

  // Settings of /proc/sys/fs (proc_sys_fs(5)).
  struct Settings {
    bool protected_hardlinks = true, protected_symlinks = false;
    uint32_t lease_break_s = 45;
    uint32_t mount_max = 100000;  // mounts of a namespace
    // What RLIMIT_NOFILE may be at most, and the descriptors of a table that is copied.
    uint32_t nr_open = kMaxNrOpen;
    static constexpr uint32_t kMinNrOpen = 64, kMaxNrOpen = 65536;
  } settings;
  // Waits until no lease (fcntl(2) F_SETLEASE) forbids to open `inode`. kAGAIN if `nonblock`.
  Result<> break_leases(Park& park, Inode& inode, bool write, bool nonblock);

  LockGraph& lock_graph();  // POSIX lock waits, for deadlock detection (file_locks.h)
  FileTime now();
  // relatime: whether reading through `path` should set the access time, given what it is.
  bool wants_atime(const Path& path, int open_flags, const FileAttr& attr);
  PhysMemory& mem() { return mem_; }
  Clock& clock() { return clock_; }
  Log& log() { return log_; }
  uint64_t new_anon_dev();

  struct Impl;  // vfs_impl.h, for the core's own files
  Impl& impl() { return *impl_; }

 private:
  PhysMemory& mem_;
  Clock& clock_;
  Log& log_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace uk
