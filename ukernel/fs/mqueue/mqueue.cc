#include "ukernel/fs/mqueue/mqueue.h"

#include <dirent.h>

#include <algorithm>

#include "absl/strings/str_format.h"
#include "ukernel/vfs/dir_file.h"

namespace uk {
namespace {

constexpr uint64_t kMqueueMagic = 0x19800202;
constexpr uint64_t kStatusBytes = 80;
constexpr uint64_t kMessageBytes = 64;  // of kernel memory beside the text

void apply(FileAttr& attr, const AttrChange& c, FileTime now) {
  if (c.mode) attr.mode = (attr.mode & S_IFMT) | *c.mode;
  if (c.uid) attr.uid = *c.uid;
  if (c.gid) attr.gid = *c.gid;
  if (c.atime) attr.atime = *c.atime;
  if (c.mtime) attr.mtime = *c.mtime;
  attr.ctime = c.ctime ? *c.ctime : now;
}

class MqDirFile final : public DirFile {
 public:
  MqDirFile(Path path, int flags, Ref<MqSuper> super)
      : DirFile(std::move(path), flags), super_(std::move(super)) {}

 protected:
  // A queue's position is its inode number.
  Result<> list(Park& park, const DirVisitor& visit) override {
    struct Item {
      uint64_t ino;
      std::string name;
    };
    std::vector<Item> items;
    for (auto& [name, queue] : super_->queues) {
      const uint64_t ino = TRY(queue->getattr(park)).ino;
      if (ino >= pos) items.push_back({ino, name});
    }
    std::sort(items.begin(), items.end(), [](auto& a, auto& b) { return a.ino < b.ino; });
    for (const Item& i : items) {
      if (!visit({i.ino, i.ino + 1, DT_REG, i.name})) return {};
      pos = i.ino + 1;
    }
    return {};
  }

 private:
  Ref<MqSuper> super_;
};

class MqDir final : public Inode {
 public:
  explicit MqDir(Ref<MqSuper> sb) : Inode(std::move(sb)) {}
  uint32_t type() const override { return S_IFDIR; }
  Result<FileAttr> getattr(Park&) override {
    FileAttr a = super().root_attr;
    a.dev = sb().dev;
    return a;
  }
  Result<> setattr(Park&, const AttrChange& c) override {
    apply(super().root_attr, c, file_time(super().clock().realtime_ns()));
    return {};
  }
  bool same_as(const Inode& other) const override { return &other.sb() == &sb(); }
  Result<Ref<Inode>> lookup(Park&, std::string_view name) override {
    Ref<MqInode> queue = super().find(name);
    if (!queue) return Err(Errno::kNOENT);
    return Ref<Inode>(queue);
  }
  Result<> unlink(Park&, std::string_view name, Inode&) override { return super().unlink(name); }
  Result<Ref<File>> open(Park&, const Path& path, int flags, const Cred&) override {
    return Ref<File>(make_ref<MqDirFile>(path, flags, Ref<MqSuper>(&super())));
  }

 private:
  MqSuper& super() const { return static_cast<MqSuper&>(sb()); }
};

}  // namespace

MqSuper::MqSuper(Vfs& vfs, uint64_t max_bytes) : vfs_(vfs), max_bytes_(max_bytes) {
  dev = vfs.new_anon_dev();
  root_attr.ino = 1;
  root_attr.mode = S_IFDIR | S_ISVTX | 0777;
  root_attr.nlink = 2;
  root_attr.atime = root_attr.mtime = root_attr.ctime = file_time(clock().realtime_ns());
}

Result<FsStat> MqSuper::statfs(Park&) {
  FsStat s;
  s.type = kMqueueMagic;
  return s;
}

Ref<Inode> MqSuper::root() { return make_ref<MqDir>(Ref<MqSuper>(this)); }

Ref<MqInode> MqSuper::find(std::string_view name) const {
  auto it = queues.find(name);
  return it == queues.end() ? nullptr : it->second;
}

Result<Ref<MqInode>> MqSuper::create(std::string_view name, const FileAttr& owner,
                                     const MqAttr& attr, uint64_t limit) {
  constexpr uint64_t kPerMessage = 96;  // what Linux counts for each, beside its bytes
  const uint64_t bytes = static_cast<uint64_t>(attr.max_messages) *
                         (static_cast<uint64_t>(attr.message_bytes) + kPerMessage);
  uint64_t& have = reserved[owner.uid];
  if (bytes > limit || have > limit - bytes) return Err(Errno::kMFILE);
  have += bytes;
  FileAttr a = owner;
  a.ino = next_ino++;
  a.atime = a.mtime = a.ctime = a.btime = file_time(clock().realtime_ns());
  auto queue = make_ref<MqInode>(Ref<MqSuper>(this), a, attr, bytes);
  queues.emplace(name, queue);
  root_attr.mtime = root_attr.ctime = a.ctime;
  return queue;
}

Result<> MqSuper::unlink(std::string_view name) {
  auto it = queues.find(name);
  if (it == queues.end()) return Err(Errno::kNOENT);
  it->second->attr_.nlink = 0;
  queues.erase(it);
  root_attr.mtime = root_attr.ctime = file_time(clock().realtime_ns());
  return {};
}

MqInode::MqInode(Ref<MqSuper> sb, const FileAttr& attr, const MqAttr& limits, uint64_t reserved)
    : Inode(sb),
      attr_(attr),
      max_messages_(static_cast<uint64_t>(limits.max_messages)),
      message_bytes_(static_cast<uint64_t>(limits.message_bytes)),
      reserved_(reserved) {}

MqInode::~MqInode() {
  super().uncharge(bytes_);
  auto it = super().reserved.find(attr_.uid);
  if (it != super().reserved.end() && (it->second -= std::min(it->second, reserved_)) == 0)
    super().reserved.erase(it);
}

Result<FileAttr> MqInode::getattr(Park&) {
  FileAttr a = attr_;
  a.dev = sb().dev;
  a.size = kStatusBytes;
  return a;
}

Result<> MqInode::setattr(Park&, const AttrChange& c) {
  if (c.uid && *c.uid != attr_.uid) {  // the reservation goes with the owner
    super().reserved[*c.uid] += reserved_;
    super().reserved[attr_.uid] -= reserved_;
  }
  apply(attr_, c, file_time(super().clock().realtime_ns()));
  return {};
}

Result<Ref<File>> MqInode::open(Park&, const Path& path, int flags, const Cred&) {
  return Ref<File>(make_ref<MqFile>(path, flags, Ref<MqInode>(this)));
}

Result<> MqInode::send(Park& park, std::string text, uint32_t priority, bool nonblock,
                       Deadline deadline, const Sender& sender) {
  if (text.size() > message_bytes_) return Err(Errno::kMSGSIZE);
  if (count_ >= max_messages_ && nonblock) return Err(Errno::kAGAIN);
  TRY(queue_.wait(
      park, [&] { return count_ < max_messages_; }, WaitMode::kInterruptible, deadline,
      "mq_timedsend"));
  const uint64_t bytes = text.size() + kMessageBytes;
  if (!super().charge(bytes)) return Err(Errno::kNOMEM);
  bytes_ += bytes;
  messages_[priority].push_back(std::move(text));
  const bool first = count_++ == 0;
  attr_.mtime = attr_.ctime = file_time(super().clock().realtime_ns());
  queue_.wake_all(POLLIN | POLLRDNORM);
  if (first && receivers_ == 0 && notify.owner != nullptr) {
    Notify once = std::move(notify);
    notify = {};
    if (once.fire) once.fire(sender);
  }
  return {};
}

Result<MqInode::Message> MqInode::receive(Park& park, bool nonblock, Deadline deadline) {
  if (count_ == 0 && nonblock) return Err(Errno::kAGAIN);
  ++receivers_;
  Result<> r = queue_.wait(
      park, [&] { return count_ != 0; }, WaitMode::kInterruptible, deadline, "mq_timedreceive");
  --receivers_;
  if (!r) return Err(r.error());
  auto it = messages_.begin();
  Message m{std::move(it->second.front()), it->first};
  it->second.pop_front();
  if (it->second.empty()) messages_.erase(it);
  --count_;
  bytes_ -= m.text.size() + kMessageBytes;
  super().uncharge(m.text.size() + kMessageBytes);
  attr_.atime = attr_.ctime = file_time(super().clock().realtime_ns());
  queue_.wake_all(POLLOUT | POLLWRNORM);
  return m;
}

void MqInode::end_notify() {
  Notify ended = std::exchange(notify, {});
  if (ended.removed) ended.removed();
}

MqAttr MqInode::attr() const {
  MqAttr a = {};
  a.max_messages = static_cast<int64_t>(max_messages_);
  a.message_bytes = static_cast<int64_t>(message_bytes_);
  a.messages = static_cast<int64_t>(count_);
  return a;
}

uint32_t MqInode::ready() const {
  return (count_ != 0 ? POLLIN | POLLRDNORM : 0) |
         (count_ < max_messages_ ? POLLOUT | POLLWRNORM : 0);
}

std::string MqInode::status() const {
  const uint64_t text = bytes_ - count_ * kMessageBytes;
  return absl::StrFormat("QSIZE:%-10d NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n", text, notify.kind,
                         notify.signo, notify.owner_pid);
}

Result<size_t> MqFile::read(Park& park, IoSink& to, uint64_t offset) {
  const std::string text = queue_->status();
  if (offset >= text.size()) return 0;
  const std::string piece = text.substr(offset, to.remaining());
  return to.put(park, std::as_bytes(std::span(piece)));
}

Result<uint64_t> MqFile::seek(Park&, int64_t offset, int whence) {
  if (whence == SEEK_CUR) offset += static_cast<int64_t>(pos);
  if (whence == SEEK_END) offset += kStatusBytes;
  if ((whence != SEEK_SET && whence != SEEK_CUR && whence != SEEK_END) || offset < 0)
    return Err(Errno::kINVAL);
  return pos = static_cast<uint64_t>(offset);
}

void MqFile::on_close(Park& park, const void* owner) {
  if (queue_->notify.owner == owner) queue_->end_notify();
  File::on_close(park, owner);
}

void register_mqueue(Vfs& vfs, std::function<Ref<MqSuper>()> current) {
  vfs.register_fs(
      {"mqueue", false,
       [current = std::move(current)](Park&, Vfs&, const std::string&, const std::string&,
                                      Ref<Inode>* root) -> Result<Ref<SuperBlock>> {
         Ref<MqSuper> super = current();
         *root = super->root();
         return Ref<SuperBlock>(super);
       }});
}

}  // namespace uk
