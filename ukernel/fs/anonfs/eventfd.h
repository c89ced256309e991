// eventfd(2): a 64-bit counter that reads wait for. read() and write() suspend.
#pragma once

#include <cstdint>

#include "ukernel/vfs/file.h"

namespace uk {

class EventFd final : public File {
 public:
  EventFd(uint64_t initial, bool semaphore, int flags);
  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override;
  Result<size_t> write(Park& park, IoSource& from, uint64_t& offset) override;
  bool writes_by_pieces() const override { return true; }
  uint32_t ready() override;
  // The kernel's own event: counts up, without waiting, as far as the counter goes.
  void signal(uint64_t n);
  WaitQueue* poll_queue() override { return &queue_; }
  std::string fdinfo() const override;

 private:
  uint64_t count_;
  const bool semaphore_;
  WaitQueue queue_;
};

}  // namespace uk
