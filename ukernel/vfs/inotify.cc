// inotify(7).
#include "ukernel/vfs/inotify.h"

#include <sys/ioctl.h>

#include <cstring>
#include <vector>

#include "absl/strings/str_format.h"
#include "ukernel/vfs/event_read.h"

namespace uk {

void InodeWatches::event(uint32_t mask, uint32_t cookie, std::string_view name) {
  std::vector<InodeWatch*> told;
  for (InodeWatch& w : list_) {
    if ((w.mask & mask & (IN_ALL_EVENTS | kRenamedWithin)) == 0) continue;
    if ((mask & kUnlinkedName) != 0 && (w.mask & IN_EXCL_UNLINK) != 0) continue;
    told.push_back(&w);
  }
  for (InodeWatch* w : told) w->event(mask, cookie, name);
}

void InodeWatches::end(uint32_t why) {
  while (InodeWatch* w = list_.pop_front()) w->gone(why);
}

void InotifyWatch::event(uint32_t in_mask, uint32_t cookie, std::string_view name) {
  owner->queue({wd, in_mask & ~(kRenamedWithin | kUnlinkedName), cookie, std::string(name)});
  if ((mask & IN_ONESHOT) == 0) return;
  owner->queue({wd, IN_IGNORED, 0, {}});
  owner->forget(wd);  // and with it this
}

void InotifyWatch::gone(uint32_t why) {
  if ((mask & why) != 0 || why == IN_UNMOUNT) owner->queue({wd, why, 0, {}});
  owner->queue({wd, IN_IGNORED, 0, {}});
  owner->forget(wd);
}

InotifyFile::~InotifyFile() = default;

Result<int> InotifyFile::add_watch(Ref<Inode> inode, uint32_t mask, uint64_t ino) {
  constexpr uint32_t kKept = IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK;
  if ((mask & IN_MASK_ADD) != 0 && (mask & IN_MASK_CREATE) != 0) return Err(Errno::kINVAL);
  for (auto& [wd, w] : watches_) {
    if (w->inode != inode) continue;
    if ((mask & IN_MASK_CREATE) != 0) return Err(Errno::kEXIST);
    w->mask = (mask & kKept) | ((mask & IN_MASK_ADD) != 0 ? w->mask : 0);
    return wd;
  }
  if (watches_.size() >= kMaxWatches) return Err(Errno::kNOSPC);
  auto w = std::make_unique<InotifyWatch>();
  w->owner = this;
  w->wd = next_wd_++;
  w->mask = mask & kKept;
  w->inode = inode;
  w->ino = ino;
  if (inode->watches == nullptr) inode->watches = std::make_unique<InodeWatches>();
  inode->watches->add(*w);
  int wd = w->wd;
  watches_.emplace(wd, std::move(w));
  return wd;
}

Result<> InotifyFile::remove_watch(int wd) {
  if (!watches_.contains(wd)) return Err(Errno::kINVAL);
  forget(wd);
  queue({wd, IN_IGNORED, 0, {}});
  return {};
}

void InotifyFile::forget(int wd) { watches_.erase(wd); }

void InotifyFile::queue(Event e) {
  if (!queue_.empty() && queue_.back() == e) return;  // identical successive events are one
  if (queue_.size() >= kMaxQueued) {
    Event overflow{-1, IN_Q_OVERFLOW, 0, {}};
    if (queue_.back() == overflow) return;
    e = overflow;
  }
  queue_.push_back(std::move(e));
  readable_.wake_all(POLLIN | POLLRDNORM);
}

Result<size_t> InotifyFile::read(Park& park, IoSink& to, uint64_t) {
  return read_events(
      park, to, queue_, readable_, nonblock(), "inotify", [&]() -> Result<std::vector<std::byte>> {
        const Event e = std::move(queue_.front());
        queue_.pop_front();
        std::vector<std::byte> raw(e.bytes());
        inotify_event head{e.wd, e.mask, e.cookie, static_cast<uint32_t>(e.padded_name())};
        std::memcpy(raw.data(), &head, sizeof(head));
        if (!e.name.empty()) std::memcpy(raw.data() + sizeof(head), e.name.data(), e.name.size());
        return raw;
      });
}

Result<int64_t> InotifyFile::ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) {
  if (cmd != FIONREAD) return Err(Errno::kNOTTY);
  int bytes = 0;
  for (const Event& e : queue_) bytes += static_cast<int>(e.bytes());
  TRY(user.copy_out(park, arg, std::as_bytes(std::span(&bytes, 1))));
  return 0;
}

std::string InotifyFile::fdinfo() const {
  std::string out;
  for (const auto& [wd, w] : watches_) {
    absl::StrAppendFormat(&out, "inotify wd:%x ino:%x sdev:%x mask:%x ignored_mask:0\n", wd, w->ino,
                          w->inode->sb().dev, w->mask);
  }
  return out;
}

}  // namespace uk
