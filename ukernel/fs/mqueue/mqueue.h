// POSIX message queues (mq_overview(7)): a file system whose files are queues. The mq_*(2) calls
// open them by name in its one directory; mounted, they can be listed, removed and polled.
//
// Ownership: an IPC namespace holds the superblock; the superblock's names and open files hold the
// queues. send() and receive() suspend. Messages are guest data, lengths are checked here.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <string>

#include "ukernel/vfs/file.h"
#include "ukernel/vfs/vfs.h"

namespace uk {

struct MqAttr {  // struct mq_attr
  int64_t flags, max_messages, message_bytes, messages;
  int64_t reserved[4];
};

class MqInode;

class MqSuper final : public SuperBlock {
 public:
  // At most `max_bytes` of kernel memory for messages.
  MqSuper(Vfs& vfs, uint64_t max_bytes);
  std::string_view fs_type() const override { return "mqueue"; }
  Result<FsStat> statfs(Park&) override;
  bool volatile_names() const override { return true; }
  Ref<Inode> root();

  // The queue of this name; null.
  Ref<MqInode> find(std::string_view name) const;
  // kINVAL (name), kNAMETOOLONG, kMFILE (more than `limit` bytes of queues for the owner).
  Result<Ref<MqInode>> create(std::string_view name, const FileAttr& owner, const MqAttr& attr,
                              uint64_t limit);
  Result<> unlink(std::string_view name);

  std::map<std::string, Ref<MqInode>, std::less<>> queues;
  bool charge(uint64_t bytes) {
    if (bytes > max_bytes_ - bytes_) return false;
    bytes_ += bytes;
    return true;
  }
  void uncharge(uint64_t bytes) { bytes_ -= bytes; }
  std::map<uint32_t, uint64_t>
      reserved;  // bytes that each user's queues may hold (RLIMIT_MSGQUEUE)
  Clock& clock() const { return vfs_.clock(); }
  uint64_t next_ino = 2;
  FileAttr root_attr;

 private:
  Vfs& vfs_;
  const uint64_t max_bytes_;
  uint64_t bytes_ = 0;
};

class MqInode final : public Inode {
 public:
  struct Sender {
    int pid;
    uint32_t uid;
  };
  // mq_notify(2): told once, when a message comes into an empty queue that nobody waits on.
  struct Notify {
    const void* owner = nullptr;  // null: nobody is registered
    int owner_pid = 0, kind = 0, signo = 0;
    std::function<void(const Sender&)> fire;
    std::function<void()> removed;  // the registration ends without having been told
  };

  MqInode(Ref<MqSuper> sb, const FileAttr& attr, const MqAttr& limits, uint64_t reserved);
  ~MqInode() override;
  uint32_t type() const override { return S_IFREG; }
  Result<FileAttr> getattr(Park&) override;
  Result<> setattr(Park&, const AttrChange& c) override;
  Result<Ref<File>> open(Park&, const Path& path, int flags, const Cred&) override;
  bool same_as(const Inode& other) const override { return this == &other; }

  // kAGAIN, kTIMEDOUT, kRestartSys, kMSGSIZE; kNOMEM.
  Result<> send(Park& park, std::string text, uint32_t priority, bool nonblock, Deadline deadline,
                const Sender& sender);
  struct Message {
    std::string text;
    uint32_t priority;
  };
  Result<Message> receive(Park& park, bool nonblock, Deadline deadline);
  MqAttr attr() const;
  uint32_t ready() const;
  WaitQueue& queue() { return queue_; }
  std::string status() const;
  Notify notify;
  void end_notify();

 private:
  friend class MqSuper;
  MqSuper& super() const { return static_cast<MqSuper&>(sb()); }
  FileAttr attr_;
  const uint64_t max_messages_, message_bytes_, reserved_;
  std::map<uint32_t, std::deque<std::string>, std::greater<>> messages_;  // by priority
  uint64_t count_ = 0, bytes_ = 0;
  int receivers_ = 0;  // that wait
  WaitQueue queue_;
};

// An open queue.
class MqFile final : public File {
 public:
  MqFile(Path path, int flags, Ref<MqInode> queue)
      : File(std::move(path), flags), queue_(std::move(queue)) {}
  bool seekable() const override { return true; }
  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override;
  Result<uint64_t> seek(Park&, int64_t offset, int whence) override;
  uint32_t ready() override { return queue_->ready(); }
  WaitQueue* poll_queue() override { return &queue_->queue(); }
  void on_close(Park& park, const void* owner) override;
  MqInode& queue() { return *queue_; }

 private:
  Ref<MqInode> queue_;
};

// `current`: the queues of the namespace of whoever mounts.
void register_mqueue(Vfs& vfs, std::function<Ref<MqSuper>()> current);

}  // namespace uk
