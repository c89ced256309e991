// epoll(7): a set of (descriptor, file) pairs with the events that interest, and a list of those
// that became ready.
//
// Ownership: an Epoll holds no reference to the files it watches: as on Linux, an item goes when
// the last reference to its file does (FileObserver). wait() suspends. Nesting is at most 5 deep
// and has no cycles (kLOOP).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/list.h"
#include "ukernel/sched/wait_queue.h"
#include "ukernel/vfs/file.h"

namespace uk {

struct EpollEvent {
  uint32_t events;
  uint64_t data;
} __attribute__((packed));
static_assert(sizeof(EpollEvent) == 12);

class Epoll final : public File {
 public:
  Epoll();
  ~Epoll() override;

  Result<> add(int fd, Ref<File> file, const EpollEvent& event);
  Result<> modify(int fd, File& file, const EpollEvent& event);
  Result<> remove(int fd, File& file);
  // Up to `max` ready events; empty at the deadline. kRestartSys -> the caller makes it kINTR.
  Result<std::vector<EpollEvent>> wait(Park& park, size_t max, Deadline deadline);

  uint32_t ready() override;
  WaitQueue* poll_queue() override { return &queue_; }
  std::string fdinfo() const override;
  // It has requests of its own (EPIOCSPARAMS, which nothing here could heed), so what is unknown is
  // kINVAL.
  Result<int64_t> ioctl(Park&, IoctlUser&, uint32_t, uint64_t) override {
    return Err(Errno::kINVAL);
  }

 private:
  struct ReadyTag;
  class Item;
  friend class Item;
  std::vector<EpollEvent> harvest(size_t max);
  int depth_below() const;
  bool reaches(const Epoll& target) const;

  // Keyed by descriptor and file, as Linux: a descriptor may be reused for another file.
  std::map<std::pair<int, File*>, std::unique_ptr<Item>> items_;
  List<Item, ReadyTag> ready_list_;
  WaitQueue queue_;
};

}  // namespace uk
