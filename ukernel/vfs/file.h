// An open file description (open(2)): what descriptors refer to. Subclasses implement the reading
// and writing of one kind of file; the base keeps flags, position, owner for signals, and the path
// it was opened by.
//
// Ownership: reference counted by descriptors, SCM_RIGHTS messages and calls in progress. Functions
// with Park& may suspend; a File may be used by several tasks at once. `flags` may be changed by
// fcntl at any time.
#pragma once

#include <dirent.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "base/list.h"
#include "base/ref.h"
#include "base/result.h"
#include "ukernel/mm/io.h"
#include "ukernel/sched/wait_queue.h"
#include "ukernel/vfs/inode.h"
#include "ukernel/vfs/path.h"
#include "ukernel/vfs/types.h"

namespace uk {

class AddressSpace;

struct DirEntry {
  uint64_t ino;
  uint64_t next_pos;  // position to continue after this entry
  uint8_t type;       // DT_*
  std::string_view name;
};

// Called for each entry; false stops (the entry was not taken).
using DirVisitor = std::function<bool(const DirEntry&)>;

// The argument of an ioctl that touches guest memory goes through these; implemented by the system
// call layer, so that drivers need no AddressSpace.
class IoctlUser {
 public:
  virtual ~IoctlUser() = default;
  virtual Result<> copy_in(Park& park, std::span<std::byte> to, uint64_t from) = 0;
  virtual Result<> copy_out(Park& park, uint64_t to, std::span<const std::byte> from) = 0;
  virtual const Cred& cred() const = 0;
  // The calling task, for drivers that deal with sessions and process groups (tty); opaque to vfs.
  virtual class Task* task() const = 0;
};

// Told when a file's last reference goes (epoll drops its item then). Must not suspend.
class FileObserver : public ListNode<FileObserver> {
 public:
  virtual void file_gone(File& file) = 0;

 protected:
  ~FileObserver() = default;
};

// What O_ASYNC attached to a file (the system call layer's); goes with it.
class FileAsync {
 public:
  virtual ~FileAsync() = default;
};

class File : public RefCounted {
 public:
  File(Path path, int flags);
  ~File() override;

  // Reads at `offset`, or from the stream when !seekable(). 0 is end of file. Non-blocking files
  // return kAGAIN.
  virtual Result<size_t> read(Park& park, IoSink& to, uint64_t offset) {
    return (void)park, (void)to, (void)offset, Err(Errno::kINVAL);
  }
  // Writes at `offset` (O_APPEND: the file finds its end itself and leaves the end position in
  // `offset`).
  virtual Result<size_t> write(Park& park, IoSource& from, uint64_t& offset) {
    return (void)park, (void)from, (void)offset, Err(Errno::kINVAL);
  }
  virtual bool seekable() const { return false; }
  // writev(2) makes a write of each piece, and knows no flags (files without write_iter in Linux).
  virtual bool writes_by_pieces() const { return false; }
  // SEEK_END, SEEK_DATA, SEEK_HOLE need the size; default works from the inode's size.
  virtual Result<uint64_t> seek(Park& park, int64_t offset, int whence);
  // Directory entries from the file's own position `pos` on, "." and ".." included; moves `pos`
  // past each entry taken.
  virtual Result<> readdir(Park& park, const DirVisitor& visit) {
    return (void)park, (void)visit, Err(Errno::kNOTDIR);
  }
  virtual Result<int64_t> ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) {
    return (void)park, (void)user, (void)cmd, (void)arg, Err(Errno::kNOTTY);
  }
  virtual Result<> fsync(Park& park, bool data_only) {
    return (void)park, (void)data_only, Err(Errno::kINVAL);
  }
  virtual Result<> fallocate(Park& park, int mode, uint64_t offset, uint64_t len) {
    return (void)park, (void)mode, (void)offset, (void)len, Err(Errno::kNODEV);
  }
  virtual Result<> truncate(Park& park, uint64_t size);  // by the inode
  // Null: kNODEV for mmap.
  virtual Ref<MemoryObject> memory_object();
  // mmap(2) of these bytes, for files that can be mapped in certain pieces only.
  virtual Result<> check_mapping(uint64_t offset, uint64_t len, bool shared) {
    return (void)offset, (void)len, (void)shared, Result<>();
  }
  virtual Result<FileAttr> getattr(Park& park);

  // poll(2): which of POLLIN, POLLOUT, ... are true now.
  virtual uint32_t ready() { return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM; }
  // Woken (with poll bits) when ready() may have changed; null: ready() never changes (then epoll
  // refuses with kPERM).
  virtual WaitQueue* poll_queue() { return nullptr; }

  // Called when a descriptor of a task is closed (POSIX locks go), and when the last reference
  // goes.
  virtual void on_close(Park& park, const void* owner);
  virtual void release(Park& park) { (void)park; }
  // For /proc/PID/fdinfo: extra lines.
  virtual std::string fdinfo() const { return {}; }

  // Access mode 3 asks for the rights to do both and gives neither: only ioctl(2) is left.
  bool can_read() const { return ((flags + 1) & 1) != 0 && (flags & O_PATH) == 0; }
  bool can_write() const { return ((flags + 1) & 2) != 0 && (flags & O_PATH) == 0; }
  bool nonblock() const { return (flags & O_NONBLOCK) != 0; }

  const Path& path() const { return path_; }
  Inode* inode() const;  // null for files without one

  // Who opened it (f_cred); may be null for files the kernel made.
  Ref<const Cred> cred;
  // Counts as a writer of its inode until it goes; kTXTBSY while the inode is being executed.
  Result<> begin_write();

  bool created = false;  // the open that made this made the file
  bool quiet = false;    // what is done through it is told to nobody (an event's of fanotify(7))
  // Rights that Landlock took from this file when it was opened (vfs/landlock.h).
  bool no_truncate = false, no_ioctl = false;
  int flags;         // O_* as fcntl(F_GETFL) shows them, without creation flags
  uint64_t pos = 0;  // under pos_lock for seekable files and directories
  Mutex pos_lock;
  List<FileObserver, FileObserver> observers;  // ~File() calls and empties it
  // F_SETOWN, F_SETSIG.
  int owner_type = 0, owner_id = 0, owner_signal = 0;
  Ref<const Cred> owner_cred;          // of who set the owner
  std::unique_ptr<FileAsync> async;    // O_ASYNC
  std::unique_ptr<FileAsync> dnotify;  // F_NOTIFY

 private:
  friend class Vfs;
  bool counted_writer_ = false;
  class Vfs* opened_by_ = nullptr;  // told of the last close (inotify)
  Path path_;
};

}  // namespace uk
