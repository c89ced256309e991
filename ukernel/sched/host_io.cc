#include "ukernel/sched/host_io.h"

#include "hostio/ring.h"
#include "hostio/sys/file.h"
#include "ukernel/sched/reactor.h"

namespace uk {

namespace {

// Wakes a fiber that waits for one operation. Lives on the fiber's stack, which stays until the
// operation is done.
class FiberCompletion final : public hostio::Completion {
 public:
  FiberCompletion(Park& park, const char* why) : park_(park), why_(why) {}

  // Waits for the end of the operation. Interrupted, or at the deadline: cancels it, and still
  // waits for its end.
  int32_t wait(WaitMode mode = WaitMode::kUninterruptible, Deadline deadline = kNever) {
    bool cancelled = false;
    park_.fiber().set_wait_reason(why_);
    while (!idle()) {
      const bool late = !deadline.never() && park_.reactor().now_ns() >= deadline.at_ns;
      if (!cancelled && (late || park_.interrupted(mode))) {
        park_.reactor().ring().cancel(*this);
        cancelled = true;
      }
      park_.suspend(cancelled ? kNever : deadline);
    }
    park_.fiber().set_wait_reason(nullptr);
    return res_;
  }

 private:
  void complete(int32_t res, bool) override {
    res_ = res;
    park_.fiber().wake();
  }
  Park& park_;
  const char* why_;
  int32_t res_ = 0;
};

Result<size_t> to_result(int32_t res) {
  if (res < 0) return Err(static_cast<Errno>(-res));
  return static_cast<size_t>(res);
}

}  // namespace

Result<size_t> host_read(Park& park, int fd, std::span<std::byte> buf, int64_t offset) {
  hostio::Ring& ring = park.reactor().ring();
  size_t done = 0;
  if (offset >= 0 && !ring.simulated()) {
    // What the host has cached needs no round trip through the ring.
    struct iovec iov = {buf.data(), buf.size()};
    Result<size_t> n = sys::preadv2(fd, {&iov, 1}, offset, RWF_NOWAIT);
    if (!n && n.error() != Errno::kAGAIN && n.error() != Errno::kOPNOTSUPP) return n;
    done = n.value_or(0);
    if (n && (done == 0 || done == buf.size())) return done;
    offset += static_cast<int64_t>(done);  // the rest is not cached, or the file ends here
  }
  FiberCompletion c(park, "host_read");
  do {
    ring.read(c, fd, buf.subspan(done), offset);
  } while (c.wait() == -static_cast<int32_t>(Errno::kINTR));
  Result<size_t> n = to_result(c.wait());
  return !n && done == 0 ? n : Result<size_t>(done + n.value_or(0));
}

Result<size_t> host_write(Park& park, int fd, std::span<const std::byte> buf, int64_t offset) {
  FiberCompletion c(park, "host_write");
  do {
    park.reactor().ring().write(c, fd, buf, offset);
  } while (c.wait() == -static_cast<int32_t>(Errno::kINTR));
  return to_result(c.wait());
}

Result<> host_fsync(Park& park, int fd, bool data_only) {
  FiberCompletion c(park, "host_fsync");
  do {
    park.reactor().ring().fsync(c, fd, data_only);
  } while (c.wait() == -static_cast<int32_t>(Errno::kINTR));
  TRY(to_result(c.wait()));
  return {};
}

Result<uint32_t> host_poll(Park& park, int fd, uint32_t events, Deadline deadline) {
  FiberCompletion c(park, "host_poll");
  park.reactor().ring().poll(c, fd, events);
  int32_t res = c.wait(WaitMode::kInterruptible, deadline);
  if (res == -static_cast<int32_t>(Errno::kCANCELED))
    return Err(park.interrupted(WaitMode::kInterruptible) ? Errno::kRestartSys : Errno::kTIMEDOUT);
  return static_cast<uint32_t>(TRY(to_result(res)));
}

}  // namespace uk
