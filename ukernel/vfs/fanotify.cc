// Marks of fanotify(7): what a group hears of (fs/notify/fanotify/fanotify.c in Linux).
#include "ukernel/vfs/fanotify.h"

#include <sys/stat.h>

#include <algorithm>

#include "ukernel/vfs/mount.h"
#include "ukernel/vfs/vfs_impl.h"

namespace uk {
namespace {

constexpr uint32_t kFlags = FAN_ONDIR | FAN_EVENT_ON_CHILD;
constexpr uint32_t kNameEvents = FAN_CREATE | FAN_DELETE | FAN_MOVE;
constexpr uint32_t kEvents = FAN_ACCESS | FAN_MODIFY | FAN_ATTRIB | FAN_CLOSE | FAN_OPEN |
                             FAN_OPEN_EXEC | kNameEvents | FAN_DELETE_SELF | FAN_MOVE_SELF;
constexpr size_t kMergeDepth = 128;  // how far back an event like the new one is looked for

uint32_t dir_flag(const Inode& inode) { return inode.type() == S_IFDIR ? FAN_ONDIR : 0; }

// A mask that does not ask for directories, or for children, says nothing of them.
bool applies(uint32_t mask, bool is_dir, bool as_parent) {
  return (!is_dir || (mask & FAN_ONDIR) != 0) && (!as_parent || (mask & FAN_EVENT_ON_CHILD) != 0);
}

}  // namespace

std::shared_ptr<Fanotify> fanotify_of(Vfs& vfs) { return vfs.impl().fanotify; }

size_t Fanotify::groups_of(uint32_t uid) const {
  return static_cast<size_t>(
      std::ranges::count_if(groups_, [&](const auto* g) { return g->uid() == uid; }));
}

size_t Fanotify::marks_of(uint32_t uid) const {
  size_t n = 0;
  for (const FanotifyFile* g : groups_) n += g->uid() == uid ? g->marks() : 0;
  return n;
}

void Fanotify::tell(const FanotifyNews& news) {
  for (FanotifyFile* g : groups_) g->hear(news);
}

void Fanotify::file_event(const Path& path, uint32_t mask) {
  Inode* inode = path.inode();
  tell({.mask = (mask & kEvents) | dir_flag(*inode),
        .path = &path,
        .object = inode,
        .dir = path.dentry->parent(),
        .name = path.dentry->name()});
}

void Fanotify::name_event(const Path& dir, std::string_view name, uint32_t mask) {
  tell({.mask = mask & (kEvents | FAN_ONDIR), .dir = dir.dentry.get(), .name = name});
}

void Fanotify::self_event(Inode& inode, uint32_t mask) {
  tell({.mask = mask | dir_flag(inode), .object = &inode});
}

// The inode was deleted, and with it the mark on it.
class FanotifyFile::InodeEnd final : public InodeWatch {
 public:
  InodeEnd(FanotifyFile& file, const Inode& inode) : file_(file), inode_(inode) {}
  void event(uint32_t, uint32_t, std::string_view) override {}
  void gone(uint32_t) override {
    file_.marks_.erase({On::kInode, reinterpret_cast<uint64_t>(&inode_)});  // and with it this
  }

 private:
  FanotifyFile& file_;
  const Inode& inode_;
};

FanotifyFile::Mark::Mark() = default;
FanotifyFile::Mark::~Mark() = default;

FanotifyFile::FanotifyFile(Vfs& vfs, Path path, uint32_t init, int event_flags, bool privileged,
                           uint32_t uid)
    : File(std::move(path), O_RDWR | ((init & FAN_NONBLOCK) != 0 ? O_NONBLOCK : 0)),
      vfs_(vfs),
      all_(fanotify_of(vfs)),
      init_(init),
      event_flags_(event_flags),
      privileged_(privileged),
      uid_(uid) {
  all_->groups_.push_back(this);
}

FanotifyFile::~FanotifyFile() {
  all_->queued_ -= queue_.size();
  std::erase(all_->groups_, this);
}

FanotifyFile::Key FanotifyFile::key_of(On on, const Path& path) {
  switch (on) {
    case On::kInode:
      return {on, reinterpret_cast<uint64_t>(path.inode())};
    case On::kMount:
      return {on, path.mount->unique_id()};
    case On::kFilesystem:
      break;
  }
  return {on, reinterpret_cast<uint64_t>(&path.inode()->sb())};
}

Result<> FanotifyFile::add(const Path& path, uint64_t ino, const Change& change) {
  const Key key = key_of(change.on, path);
  const bool survives = (change.flags & FAN_MARK_IGNORED_SURV_MODIFY) != 0;
  auto at = marks_.find(key);
  if (at != marks_.end()) {
    const Mark& m = at->second;
    if (((change.flags & FAN_MARK_EVICTABLE) != 0 && !m.evictable) ||
        ((change.flags & FAN_MARK_IGNORED_MASK) != 0 && m.ignored_has_flags) ||
        ((change.flags & FAN_MARK_IGNORE) != 0 && !survives && m.survives_modify))
      return Err(Errno::kEXIST);
  } else {
    if (all_->marks_of(uid_) >= kMaxMarks) return Err(Errno::kNOSPC);
    at = marks_.try_emplace(key).first;
    Mark& m = at->second;
    m.number = change.on == On::kMount ? path.mount->id : ino;
    m.evictable = (change.flags & FAN_MARK_EVICTABLE) != 0;
    m.sb = Ref<SuperBlock>(&path.inode()->sb());
    if (change.on == On::kInode) {
      m.inode = path.dentry->inode_ref();
      if (m.inode->watches == nullptr) m.inode->watches = std::make_unique<InodeWatches>();
      m.end = std::make_unique<InodeEnd>(*this, *m.inode);
      m.inode->watches->add(*m.end);
    }
  }
  Mark& m = at->second;
  if ((change.flags & (FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORE)) == 0) {
    m.mask |= change.mask;
    return {};
  }
  m.ignored |= change.mask;
  m.survives_modify |= survives;
  m.ignored_has_flags |= (change.flags & FAN_MARK_IGNORE) != 0;
  return {};
}

Result<> FanotifyFile::remove(const Path& path, const Change& change) {
  auto at = marks_.find(key_of(change.on, path));
  if (at == marks_.end()) return Err(Errno::kNOENT);
  Mark& m = at->second;
  const bool ignored = (change.flags & (FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORE)) != 0;
  (ignored ? m.ignored : m.mask) &= ~change.mask;
  if (((m.mask | m.ignored) & ~change.unseen) == 0) marks_.erase(at);
  return {};
}

void FanotifyFile::flush(On on) {
  std::erase_if(marks_, [&](const auto& m) { return m.first.first == on; });
}

FanotifyFile::Mark* FanotifyFile::find(On on, uint64_t id) {
  auto at = marks_.find({on, id});
  return at == marks_.end() ? nullptr : &at->second;
}

uint32_t FanotifyFile::Mark::ignores(bool is_dir, bool as_parent) const {
  if ((ignored & kEvents) == 0 || (!is_dir && !as_parent)) return ignored & kEvents;
  // Of old, directories are ignored with the rest, and children as far as they are watched.
  const uint32_t flags = ignored_has_flags ? ignored : FAN_ONDIR | (mask & FAN_EVENT_ON_CHILD);
  return applies(flags, is_dir, as_parent) ? ignored & kEvents : 0;
}

// Which of the events the group wants.
uint32_t FanotifyFile::concerns(const FanotifyNews& news) {
  const bool is_dir = (news.mask & FAN_ONDIR) != 0;
  uint32_t wanted = 0, ignored = 0;
  auto weigh = [&](Mark* m, bool as_parent) {
    if (m == nullptr) return;
    if ((news.mask & FAN_MODIFY) != 0 && !m->survives_modify) m->ignored = 0;
    ignored |= m->ignores(is_dir, as_parent);
    if (applies(m->mask, is_dir, as_parent)) wanted |= m->mask;
  };
  auto inode_mark = [&](const Inode* i) { return find(On::kInode, reinterpret_cast<uint64_t>(i)); };
  const Inode* dir = news.dir != nullptr ? news.dir->inode() : nullptr;
  weigh(inode_mark(news.object != nullptr ? news.object : dir), false);
  if (news.object != nullptr && dir != nullptr) weigh(inode_mark(dir), true);
  if (news.path != nullptr && news.path->mount != nullptr)
    weigh(find(On::kMount, news.path->mount->unique_id()), false);
  const Inode* any = news.object != nullptr ? news.object : dir;
  if (any != nullptr) weigh(find(On::kFilesystem, reinterpret_cast<uint64_t>(&any->sb())), false);
  return news.mask & wanted & ~ignored;
}

std::vector<FanotifyFile::Id> FanotifyFile::ids_of(const FanotifyNews& news) const {
  auto dentry_of = [&](Inode* i) {
    return news.path != nullptr && i == news.object        ? news.path->dentry
           : news.dir != nullptr && i == news.dir->inode() ? Ref<Dentry>(news.dir)
                                                           : Ref<Dentry>();
  };
  auto id = [&](uint8_t type, Inode* i, std::string_view name = {}) {
    return Id{type, Ref<Inode>(i), dentry_of(i), std::string(name)};
  };
  Inode* dir = news.dir != nullptr ? news.dir->inode() : nullptr;
  Inode* object = news.object != nullptr ? news.object : dir;
  if (!reports(FAN_REPORT_DIR_FID)) return {id(FAN_EVENT_INFO_TYPE_FID, object)};
  const bool is_dir = news.object != nullptr && news.object->type() == S_IFDIR;
  if (is_dir) dir = news.object;
  if (dir == nullptr) return {id(FAN_EVENT_INFO_TYPE_FID, object)};
  std::vector<Id> ids;
  if (reports(FAN_REPORT_NAME)) {
    ids.push_back(id(FAN_EVENT_INFO_TYPE_DFID_NAME, dir, is_dir ? "." : news.name));
  } else {
    ids.push_back(id(FAN_EVENT_INFO_TYPE_DFID, dir));
  }
  if (reports(FAN_REPORT_FID) && news.object != nullptr && !is_dir)
    ids.push_back(id(FAN_EVENT_INFO_TYPE_FID, object));
  return ids;
}

void FanotifyFile::hear(const FanotifyNews& news) {
  uint32_t told = concerns(news);
  if ((told & ~kFlags) == 0) return;
  Event e{
      .mask = told & ~static_cast<uint32_t>(FAN_EVENT_ON_CHILD), .who = 0, .path = {}, .ids = {}};
  if (!reports_ids()) {
    const uint32_t type = news.path != nullptr ? news.path->inode()->type() : 0;
    if (type != S_IFREG && type != S_IFDIR) return;
    e.mask &= ~static_cast<uint64_t>(FAN_ONDIR);
    e.path = *news.path;
  } else {
    // Who wants directories alone hears nothing of a file without one.
    if (!reports(FAN_REPORT_FID) && news.dir == nullptr && (news.mask & FAN_ONDIR) == 0) return;
    e.ids = ids_of(news);
  }
  const Fanotify::Caller who = all_->current ? all_->current() : Fanotify::Caller{};
  e.who = reports(FAN_REPORT_TID) ? who.thread : who.process;
  queue(std::move(e));
}

bool FanotifyFile::Event::same_but_mask(const Event& o) const {
  return (mask & FAN_Q_OVERFLOW) == 0 && who == o.who && path == o.path && ids == o.ids &&
         ((mask ^ o.mask) & FAN_ONDIR) == 0;
}

void FanotifyFile::queue(Event e) {
  const size_t look = std::min(queue_.size(), kMergeDepth);
  for (size_t i = 1; i <= look; ++i) {
    Event& old = queue_[queue_.size() - i];
    if (!old.same_but_mask(e)) continue;
    old.mask |= e.mask;
    return;
  }
  const bool full = queue_.size() >= kMaxQueued && !reports(FAN_UNLIMITED_QUEUE);
  if (full || all_->queued_ >= kMaxQueuedByAll) {
    if (!queue_.empty() && (queue_.back().mask & FAN_Q_OVERFLOW) != 0) return;
    e = {.mask = FAN_Q_OVERFLOW, .who = 0, .path = {}, .ids = {}};
  }
  queue_.push_back(std::move(e));
  ++all_->queued_;
  readable_.wake_all(POLLIN | POLLRDNORM);
}

}  // namespace uk
