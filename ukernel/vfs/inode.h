// Inodes and superblocks: what a filesystem implements. The vfs above does path walks, permissions,
// open-flag rules and locking; an Inode does the work of one object. The defaults of virtual
// functions are the errors Linux gives when a filesystem lacks the operation.
//
// Ownership: reference counted; dentries and open files hold Refs. Functions with Park& may
// suspend; the vfs holds the directory's mutex (dir_lock) around changes of a directory. Names are
// validated (no '/', not "." or "..", at most 255 bytes, not empty). Permission has been checked by
// the caller.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/mm/memory_object.h"
#include "ukernel/sched/wait_queue.h"
#include "ukernel/vfs/cred.h"
#include "ukernel/vfs/types.h"

namespace uk {

class Dentry;
class File;
class Inode;
class Mount;
class MountNamespace;
class FileLocks;
class InodeWatches;
struct Path;

// One instance of a mounted filesystem.
class SuperBlock : public RefCounted {
 public:
  virtual std::string_view fs_type() const = 0;  // "tmpfs"
  virtual Result<FsStat> statfs(Park& park) = 0;
  virtual Result<> sync(Park& park) { return (void)park, Result<>{}; }
  virtual std::string options() const { return {}; }  // for /proc/mounts
  // MS_REMOUNT with other options.
  virtual Result<> reconfigure(const std::string& options) { return (void)options, Result<>{}; }
  virtual bool never_writable() const { return false; }
  // MS_REMOUNT, after reconfigure(): read-only or not from now on.
  virtual Result<> remount(Park& park, bool now_read_only) {
    (void)park;
    if (!now_read_only && never_writable()) return Err(Errno::kROFS);
    read_only = now_read_only;
    return {};
  }
  uint64_t dev = 0;  // st_dev, assigned by the Vfs
  int mounts = 0;    // that show it, in any namespace
  // Who may reconfigure it, and whose device nodes it has (mounts of user namespaces have none);
  // null: the initial one.
  Ref<UserNamespace> user_ns;
  bool read_only = false;
  // Names that are looked up may change behind our back (procfs, hostfs rw): dentries are
  // revalidated on every walk.
  virtual bool volatile_names() const { return false; }
  // Names are worth keeping when nobody uses them. Not where that would keep what has ended
  // (procfs: its tasks).
  virtual bool keeps_names() const { return true; }
};

// What create() is to make.
struct MakeNode {
  uint32_t mode = 0;  // type and permission bits, umask applied
  uint32_t uid = 0, gid = 0;
  uint64_t rdev = 0;
  std::string symlink_target;  // S_IFLNK
};

class Inode : public RefCounted {
 public:
  explicit Inode(Ref<SuperBlock> sb);
  ~Inode() override;

  SuperBlock& sb() const { return *sb_; }
  // Type bits (S_IFMT); constant for the life of the inode.
  virtual uint32_t type() const = 0;
  virtual Result<FileAttr> getattr(Park& park) = 0;
  virtual Result<> setattr(Park& park, const AttrChange& change) {
    return (void)park, (void)change, Err(Errno::kPERM);
  }
  // May who asks though the mode bits say no (procfs: one's own descriptors)?
  virtual bool allows_anyway() const { return false; }
  // Extra permission rule after the mode bits (procfs); kOk to allow.
  virtual Result<> check_access(const Cred& cred, uint32_t may) {
    return (void)cred, (void)may, Result<>{};
  }

  // Two inodes of a filesystem with volatile names that stand for the same object: the dentry found
  // earlier stays.
  virtual bool same_as(const Inode& other) const { return this == &other; }

  // Directories. kNOENT: there is no such name.
  virtual Result<Ref<Inode>> lookup(Park& park, std::string_view name) {
    return (void)park, (void)name, Err(Errno::kNOTDIR);
  }
  // False: no name can ever be made here, which is said (kNOENT) before any permission is asked.
  virtual bool takes_names() const { return true; }
  virtual Result<Ref<Inode>> create(Park& park, std::string_view name, const MakeNode& node) {
    return (void)park, (void)name, (void)node, Err(Errno::kPERM);
  }
  virtual Result<> link(Park& park, std::string_view name, Inode& target) {
    return (void)park, (void)name, (void)target, Err(Errno::kPERM);
  }
  virtual Result<> unlink(Park& park, std::string_view name, Inode& victim) {
    return (void)park, (void)name, (void)victim, Err(Errno::kPERM);
  }
  virtual Result<> rmdir(Park& park, std::string_view name, Inode& victim) {
    return (void)park, (void)name, (void)victim, Err(Errno::kPERM);
  }
  // flags: RENAME_NOREPLACE (checked by the caller), RENAME_EXCHANGE, RENAME_WHITEOUT. `replaced`
  // may be null.
  virtual Result<> rename(Park& park, std::string_view old_name, Inode& moved, Inode& new_dir,
                          std::string_view new_name, Inode* replaced, uint32_t flags) {
    return (void)park, (void)old_name, (void)moved, (void)new_dir, (void)new_name, (void)replaced,
           (void)flags, Err(Errno::kPERM);
  }
  // O_TMPFILE.
  virtual Result<Ref<Inode>> tmpfile(Park& park, const MakeNode& node) {
    return (void)park, (void)node, Err(Errno::kOPNOTSUPP);
  }

  // Symbolic links.
  virtual Result<std::string> readlink(Park& park) { return (void)park, Err(Errno::kINVAL); }
  // Magic links (/proc/PID/fd/N, /proc/PID/cwd): jump straight to a path. False: an ordinary link.
  virtual bool is_magic_link() const { return false; }
  virtual Result<Path> magic_target(Park& park, const Cred& cred);

  // Opens; `flags` are open(2)'s. Permission and O_CREAT/O_EXCL/O_TRUNC are done by the vfs. `path`
  // is kept by the file. kNOSYS (the default): the vfs opens devices by their number, fifos as
  // pipes, and refuses sockets.
  virtual Result<Ref<File>> open(Park& park, const Path& path, int flags, const Cred& cred);
  // What mmap maps and the page cache holds; null if it cannot be mapped.
  virtual Ref<MemoryObject> memory_object() { return nullptr; }
  // An empty regular file takes its contents from `contents` (never written) until it is changed.
  virtual Result<> set_contents(Ref<MemoryObject> contents) {
    return (void)contents, Err(Errno::kOPNOTSUPP);
  }

  // Extended attributes (xattr(7)), full names ("user.x"). kOPNOTSUPP if the filesystem has none;
  // kNODATA if not there.
  virtual Result<std::string> getxattr(Park& park, std::string_view name) {
    return (void)park, (void)name, Err(Errno::kOPNOTSUPP);
  }
  virtual Result<> setxattr(Park& park, std::string_view name, std::string_view value, int flags) {
    return (void)park, (void)name, (void)value, (void)flags, Err(Errno::kOPNOTSUPP);
  }
  virtual Result<> removexattr(Park& park, std::string_view name) {
    return (void)park, (void)name, Err(Errno::kOPNOTSUPP);
  }
  virtual Result<std::vector<std::string>> listxattr(Park& park) {
    return (void)park, Err(Errno::kOPNOTSUPP);
  }

  // The mount namespace whose file in nsfs this is: it may not be mounted inside itself.
  virtual const MountNamespace* mount_namespace() const { return nullptr; }

  // File seals (fcntl(2) F_ADD_SEALS); kINVAL where there are none.
  virtual Result<uint32_t> seals() { return Err(Errno::kINVAL); }
  virtual Result<> add_seals(uint32_t seals) { return (void)seals, Err(Errno::kINVAL); }
  virtual void allow_sealing() {}  // memfd_create(2) MFD_ALLOW_SEALING

  // FS_IOC_GETFLAGS (FS_IMMUTABLE_FL, FS_APPEND_FL, ...), where the filesystem keeps them.
  virtual uint32_t inode_flags() const { return 0; }
  virtual bool has_inode_flags() const { return false; }
  virtual Result<> set_inode_flags(Park& park, uint32_t flags) {
    return (void)park, (void)flags, Err(Errno::kNOTTY);
  }

  // vfs-owned state, reactor-owned.
  Mutex dir_lock;                         // held by the vfs around changes of this directory
  std::unique_ptr<FileLocks> locks;       // POSIX, OFD and flock locks; made on first use
  std::unique_ptr<InodeWatches> watches;  // inotify; made on first use
  int writers = 0;                        // open for write (ETXTBSY)
  int deny_write = 0;                     // being executed
  int opens = 0;                          // open files; kept by File
  int path_opens = 0;                     // those of them that are O_PATH: no use of the file
  bool dead = false;     // the last link is gone; inotify is told at the last close
  bool no_link = false;  // O_TMPFILE with O_EXCL: linkat(2) may not name it
  RefCounted* pipe_or_socket =
      nullptr;  // FIFO state / bound AF_UNIX socket behind this inode; not owned

 private:
  Ref<SuperBlock> sb_;
};

// What is left of a file's permission bits when its contents change: the set-user-ID bit goes, and
// the set-group-ID bit unless it only means locking (the group cannot execute) to a member. Who has
// CAP_FSETID keeps them. `cred` null: nobody's.
uint32_t mode_after_change(const FileAttr& attr, const Cred* cred);

}  // namespace uk
