// inotify(7): watches on inodes and the file that delivers their events.
//
// Ownership: an InotifyFile owns its watches; each watch holds its inode; the inode's InodeWatches
// lists the watches on it (not owned). Only read() may suspend. The event queue is bounded.
#pragma once

#include <sys/inotify.h>

#include <deque>
#include <map>
#include <memory>
#include <string>

#include "base/list.h"
#include "base/ref.h"
#include "ukernel/vfs/file.h"
#include "ukernel/vfs/inode.h"

namespace uk {

class InotifyFile;

// A name changed within one directory: comes with IN_MOVED_FROM. Not inotify's, but fcntl(2)
// F_NOTIFY's.
constexpr uint32_t kRenamedWithin = 0x10000000;

// The name it is told under was unlinked: not for those who asked for IN_EXCL_UNLINK.
constexpr uint32_t kUnlinkedName = 0x20000000;

// Somebody who wants to know what happens to an inode and in a directory. Must not suspend.
class InodeWatch : public ListNode<> {
 public:
  uint32_t mask = 0;  // IN_* wanted
  // `name` is empty for events of the inode itself. The watch may end itself here.
  virtual void event(uint32_t in_mask, uint32_t cookie, std::string_view name) = 0;
  // The inode goes (IN_DELETE_SELF, IN_UNMOUNT); the watch is off the list.
  virtual void gone(uint32_t why) = 0;

 protected:
  ~InodeWatch() = default;
};

class InotifyWatch final : public InodeWatch {
 public:
  InotifyFile* owner = nullptr;
  int wd = 0;
  Ref<Inode> inode;
  uint64_t ino = 0;
  void event(uint32_t in_mask, uint32_t cookie, std::string_view name) override;
  void gone(uint32_t why) override;
};

class InodeWatches {
 public:
  // To every watch that asked for it. `name` is empty for events of the inode itself.
  void event(uint32_t mask, uint32_t cookie, std::string_view name);
  // The object no longer exists: IN_DELETE_SELF, IN_IGNORED, and the watches are gone.
  void inode_gone() { end(IN_DELETE_SELF); }
  // Its filesystem was unmounted.
  void unmounted() { end(IN_UNMOUNT); }
  void add(InodeWatch& w) { list_.push_back(w); }
  bool empty() { return list_.empty(); }

 private:
  void end(uint32_t why);
  List<InodeWatch> list_;
};

class InotifyFile final : public File {
 public:
  static constexpr size_t kMaxQueued = 16384;  // fs.inotify.max_queued_events
  static constexpr size_t kMaxWatches = 65536;

  InotifyFile(Path path, int flags) : File(std::move(path), flags) {}
  ~InotifyFile() override;

  // inotify_add_watch(2): the watch descriptor. kNOSPC, kEXIST (IN_MASK_CREATE).
  // `ino` is for fdinfo.
  Result<int> add_watch(Ref<Inode> inode, uint32_t mask, uint64_t ino = 0);
  Result<> remove_watch(int wd);  // kINVAL

  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override;
  Result<int64_t> ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) override;
  uint32_t ready() override { return queue_.empty() ? 0 : POLLIN | POLLRDNORM; }
  WaitQueue* poll_queue() override { return &readable_; }
  std::string fdinfo() const override;

 private:
  friend class InotifyWatch;
  struct Event {
    int wd;
    uint32_t mask, cookie;
    std::string name;
    bool operator==(const Event&) const = default;
    size_t padded_name() const { return name.empty() ? 0 : (name.size() + 16) / 16 * 16; }
    size_t bytes() const { return sizeof(inotify_event) + padded_name(); }
  };
  void queue(Event e);
  void forget(int wd);  // the watch ended by itself

  std::map<int, std::unique_ptr<InotifyWatch>> watches_;
  std::deque<Event> queue_;
  WaitQueue readable_;
  int next_wd_ = 1;
};

}  // namespace uk
