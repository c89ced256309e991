#include "ukernel/fs/anonfs/epoll.h"

#include <sys/epoll.h>

#include "absl/strings/str_format.h"
#include "ukernel/vfs/anon_inode.h"

namespace uk {
namespace {
constexpr int kMaxDepth = 5;
constexpr uint32_t kAlways = EPOLLERR | EPOLLHUP;
constexpr uint32_t kControl = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;
}  // namespace

class Epoll::Item final : public ListNode<ReadyTag>, public Waiter, public FileObserver {
 public:
  Item(Epoll& owner, int fd, File& file, const EpollEvent& event)
      : owner(owner), fd(fd), file(&file) {
    set(event);
  }

  void set(const EpollEvent& e) {
    event = e;
    event.events |= kAlways;  // until a one-shot has fired
  }
  uint32_t wanted() const { return event.events & ~kControl; }

  void on_wake(uint32_t events) override {
    if ((wanted() & events) != 0) mark_ready();
  }
  // Takes a wake for itself only where somebody waits for it.
  bool exclusive() const override {
    return (event.events & EPOLLEXCLUSIVE) != 0 && !owner.queue_.empty();
  }
  void mark_ready() {
    if (!on_ready_list()) owner.ready_list_.push_back(*this);
    owner.queue_.wake_one(POLLIN | POLLRDNORM);
  }
  bool on_ready_list() const { return static_cast<const ListNode<ReadyTag>*>(this)->linked(); }
  void leave_ready_list() { static_cast<ListNode<ReadyTag>*>(this)->unlink(); }
  void file_gone(File&) override {
    Epoll& o = owner;
    o.items_.erase({fd, file});  // destroys this
  }

  Epoll& owner;
  const int fd;
  File* const file;
  EpollEvent event{};
};

Epoll::Epoll() : File(make_anon_path("eventpoll"), O_RDWR) {}
Epoll::~Epoll() = default;

bool Epoll::reaches(const Epoll& target) const {
  if (this == &target) return true;
  for (const auto& [key, item] : items_) {
    auto* inner = dynamic_cast<Epoll*>(item->file);
    if (inner != nullptr && inner->reaches(target)) return true;
  }
  return false;
}

int Epoll::depth_below() const {
  int depth = 0;
  for (const auto& [key, item] : items_) {
    auto* inner = dynamic_cast<Epoll*>(item->file);
    if (inner != nullptr) depth = std::max(depth, 1 + inner->depth_below());
  }
  return depth;
}

Result<> Epoll::add(int fd, Ref<File> file, const EpollEvent& event) {
  if (auto* inner = dynamic_cast<Epoll*>(file.get()); inner != nullptr) {
    if (inner == this) return Err(Errno::kINVAL);
    if (inner->reaches(*this) || inner->depth_below() + 1 >= kMaxDepth) return Err(Errno::kLOOP);
    if (event.events & EPOLLEXCLUSIVE) return Err(Errno::kINVAL);
  }
  WaitQueue* queue = file->poll_queue();
  if (queue == nullptr) return Err(Errno::kPERM);
  auto [it, fresh] = items_.try_emplace({fd, file.get()});
  if (!fresh) return Err(Errno::kEXIST);
  it->second = std::make_unique<Item>(*this, fd, *file, event);
  Item& item = *it->second;
  file->observers.push_back(item);
  queue->add(item);
  if ((file->ready() & item.wanted()) != 0) item.mark_ready();
  return {};
}

Result<> Epoll::modify(int fd, File& file, const EpollEvent& event) {
  auto it = items_.find({fd, &file});
  if (it == items_.end()) return Err(Errno::kNOENT);
  Item& item = *it->second;
  if ((item.event.events & EPOLLEXCLUSIVE) != 0 || (event.events & EPOLLEXCLUSIVE) != 0)
    return Err(Errno::kINVAL);
  item.set(event);
  if ((file.ready() & item.wanted()) != 0) item.mark_ready();
  return {};
}

Result<> Epoll::remove(int fd, File& file) {
  if (items_.erase({fd, &file}) == 0) return Err(Errno::kNOENT);
  return {};
}

std::vector<EpollEvent> Epoll::harvest(size_t max) {
  std::vector<EpollEvent> out;
  List<Item, ReadyTag> again;  // level-triggered items stay ready, behind those not looked at yet
  while (out.size() < max && !ready_list_.empty()) {
    Item& item = *ready_list_.pop_front();
    uint32_t now = item.file->ready() & item.wanted();
    if (now == 0) {
      item.file->poll_queue();  // lets files that watch the host re-arm
      continue;
    }
    out.push_back({now, item.event.data});
    if (item.event.events & EPOLLONESHOT) {
      item.event.events &= kControl;
    } else if ((item.event.events & EPOLLET) == 0) {
      again.push_back(item);
    } else {
      item.file->poll_queue();
    }
  }
  ready_list_.splice_back(again);
  return out;
}

Result<std::vector<EpollEvent>> Epoll::wait(Park& park, size_t max, Deadline deadline) {
  std::vector<EpollEvent> out;
  auto waited = queue_.wait(
      park, [&] { return !(out = harvest(max)).empty(); }, WaitMode::kInterruptible, deadline,
      "ep_poll", true);
  if (!ready_list_.empty()) queue_.wake_one(POLLIN | POLLRDNORM);  // the next one's turn
  if (!waited && waited.error() != Errno::kTIMEDOUT) return Err(waited.error());
  return out;
}

uint32_t Epoll::ready() {
  for (Item& item : ready_list_) {
    if ((item.file->ready() & item.wanted()) != 0) return POLLIN | POLLRDNORM;
  }
  return 0;
}

std::string Epoll::fdinfo() const {
  std::string out;
  for (const auto& [key, item] : items_) {
    absl::StrAppendFormat(&out, "tfd: %8d events: %8x data: %16x\n", item->fd, item->event.events,
                          item->event.data);
  }
  return out;
}

}  // namespace uk
