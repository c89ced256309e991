// fanotify(7): marks on inodes, mounts and filesystems, and the file that delivers what happens to
// them: as descriptors of the objects, or (FAN_REPORT_FID and its kin) as file handles and names.
//
// Ownership: the Vfs and each FanotifyFile share the Fanotify, which knows the files (not owned);
// a file owns its marks and its events. A mark of an inode or of a filesystem holds it, that of a
// mount knows its number. Only read() may suspend. The queue is bounded.
#pragma once

#include <sys/fanotify.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ukernel/vfs/inotify.h"

namespace uk {

class FanotifyFile;
class Vfs;

// An execution opens the file, beside IN_OPEN; inotify does not know it.
constexpr uint32_t kOpenedToExecute = FAN_OPEN_EXEC;

// What happened, as Vfs::notify() and its kin tell it.
struct FanotifyNews {
  uint32_t mask = 0;           // FAN_*, FAN_ONDIR too
  const Path* path = nullptr;  // of the object, where it is known
  Inode* object = nullptr;     // null: a name was changed, and only that is told
  Dentry* dir = nullptr;       // where the name is
  std::string_view name = {};
};

// All groups of an instance.
class Fanotify {
 public:
  struct Caller {
    int process = 0, thread = 0;
  };
  bool any() const { return !groups_.empty(); }
  // Of the object at `path`: opened, read, written, closed, changed.
  void file_event(const Path& path, uint32_t mask);
  // A name in `dir` came or went.
  void name_event(const Path& dir, std::string_view name, uint32_t mask);
  // Moved or deleted itself.
  void self_event(Inode& inode, uint32_t mask);

  // The task that runs now.
  std::function<Caller()> current;
  // Opens what an event is about for the task that reads it, as a descriptor.
  std::function<Result<int>(Park&, const Path&, int flags)> open_fd;
  size_t groups_of(uint32_t uid) const;
  size_t marks_of(uint32_t uid) const;

 private:
  friend class FanotifyFile;
  void tell(const FanotifyNews& news);
  std::vector<FanotifyFile*> groups_;
  size_t queued_ = 0;  // events of all groups
};

std::shared_ptr<Fanotify> fanotify_of(Vfs& vfs);

class FanotifyFile final : public File {
 public:
  // Of a user, FAN_UNLIMITED_MARKS or not.
  static constexpr size_t kMaxGroups = 128, kMaxMarks = 65536;
  static constexpr size_t kMaxQueued = 16384;  // fs.fanotify.max_queued_events
  // Of all groups together: what FAN_UNLIMITED_QUEUE may come to.
  static constexpr size_t kMaxQueuedByAll = 131072;

  // `init` and `event_flags` as fanotify_init(2), checked.
  FanotifyFile(Vfs& vfs, Path path, uint32_t init, int event_flags, bool privileged, uint32_t uid);
  ~FanotifyFile() override;

  // What a mark is on, FAN_MARK_*: kInode of path's inode and so on.
  enum class On : uint8_t { kInode, kMount, kFilesystem };
  struct Change {
    On on;
    uint32_t flags;  // of fanotify_mark(2), checked
    uint32_t mask;
    uint32_t unseen = 0;  // flags that do not keep a mark alive
  };
  // kNOSPC, kEXIST.
  Result<> add(const Path& path, uint64_t ino, const Change& change);
  Result<> remove(const Path& path, const Change& change);  // kNOENT
  void flush(On on);

  bool privileged() const { return privileged_; }
  bool reports(uint32_t flag) const { return (init_ & flag) != 0; }
  bool reports_ids() const { return reports(FAN_REPORT_FID | FAN_REPORT_DIR_FID); }
  uint32_t uid() const { return uid_; }
  size_t marks() const { return marks_.size(); }

  void hear(const FanotifyNews& news);

  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override;
  Result<size_t> write(Park& park, IoSource& from, uint64_t& offset) override;
  Result<int64_t> ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) override;
  uint32_t ready() override { return queue_.empty() ? 0 : POLLIN | POLLRDNORM; }
  WaitQueue* poll_queue() override { return &readable_; }
  std::string fdinfo() const override;

 private:
  using Key = std::pair<On, uint64_t>;
  class InodeEnd;
  struct Mark {
    uint32_t mask = 0, ignored = 0;
    bool ignored_has_flags = false;  // FAN_MARK_IGNORE
    bool survives_modify = false, evictable = false;
    Ref<SuperBlock> sb;
    Ref<Inode> inode;
    uint64_t number = 0;            // of the inode or the mount, for fdinfo
    std::unique_ptr<InodeEnd> end;  // of the inode
    Mark();
    ~Mark();
    uint32_t ignores(bool is_dir, bool as_parent) const;
  };
  // An info record: a handle, maybe with a name.
  struct Id {
    uint8_t type;
    Ref<Inode> inode;
    Ref<Dentry> dentry;  // leads back to it; may be null
    std::string name = {};
    bool operator==(const Id& o) const {
      return type == o.type && inode == o.inode && name == o.name;
    }
    size_t bytes() const;
  };
  struct Event {
    uint64_t mask;
    int who;
    Path path;  // to be opened
    std::vector<Id> ids;
    size_t bytes() const;
    bool same_but_mask(const Event& o) const;
  };
  static Key key_of(On on, const Path& path);
  Mark* find(On on, uint64_t id);
  uint32_t concerns(const FanotifyNews& news);
  std::vector<Id> ids_of(const FanotifyNews& news) const;
  void queue(Event e);
  Result<std::vector<std::byte>> encode(Park& park, const Event& e);

  Vfs& vfs_;
  std::shared_ptr<Fanotify> all_;
  const uint32_t init_;
  const int event_flags_;
  const bool privileged_;
  const uint32_t uid_;
  std::map<Key, Mark> marks_;
  std::deque<Event> queue_;
  WaitQueue readable_;
};

}  // namespace uk
