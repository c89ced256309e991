// Ring: asynchronous host calls. Operations are started from one thread (the reactor's), reach the
// host in batches, and come back as completions. make_ring() picks io_uring, or a thread-pool ring
// with the same interface where the host refuses io_uring; FakeRing is for tests.
//
// Ownership: a Completion is owned by its caller, holds the operands while the operation is in
// flight, and must not die before it is idle again. complete() runs from drain() only, never inside
// submission or wait(). Results from the host are trusted as far as Linux is; data read through
// them is not. Not thread-safe.
#pragma once

#include <signal.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/check.h"
#include "base/list.h"

namespace uk::hostio {

enum class OpCode : uint8_t {
  kNop,
  kRead,
  kWrite,
  kReadv,
  kWritev,
  kFsync,
  kPoll,
  kOpenat,
  kFutexWait,
  kWaitid,
};

// The operands of one operation, in flight.
struct Op {
  OpCode code = OpCode::kNop;
  bool multishot = false;  // kPoll
  int fd = -1;             // or dirfd; kWaitid: idtype
  uint64_t addr = 0;       // buffer, iovec array, path, futex word, siginfo
  uint64_t len = 0;        // bytes, iovecs; kOpenat: mode; kFutexWait: expected value; kWaitid: id
  int64_t offset = -1;     // file offset; -1: the file position
  uint32_t flags =
      0;  // kReadv/kWritev: RWF_*; kFsync: 1 = data only; kPoll: events; kOpenat: O_*; kWaitid: W*
};

class Completion : public ListNode<> {
 public:
  Completion(const Completion&) = delete;
  Completion& operator=(const Completion&) = delete;

  // `res`: what the host call returns, or -errno. `more`: (multishot) the operation goes on and
  // will complete again. With more == false the completion is idle when this is called, so it may
  // be started again or destroyed here. A multishot poll may fold several events into one call
  // (`res` is then the union of the event bits).
  virtual void complete(int32_t res, bool more) = 0;
  bool idle() const { return state_ == State::kIdle; }

 protected:
  Completion() = default;
  virtual ~Completion() { CHECK(idle()); }

 private:
  friend class Ring;
  enum class State : uint8_t { kIdle, kInFlight, kFinished };
  Op op_;
  State state_ = State::kIdle;
  bool more_ = false;
  bool detached_ = false;
  int32_t res_ = 0;
  int aux_ = -1;  // the ring implementation's own
};

// What ended a wait. kSignal: no operation did, but a signal. With the others one may have been
// delivered as well.
enum class WaitEnd : uint8_t { kEvent, kTimeout, kSignal };

class Ring {
 public:
  Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  virtual ~Ring();  // nothing may be in flight (detach_all() first)

  virtual const char* name() const = 0;
  // An operation that is not supported completes with -EOPNOTSUPP.
  virtual bool supports(OpCode code) const = 0;
  // True if descriptors are the ring's own inventions and time does not pass by itself (FakeRing).
  virtual bool simulated() const { return false; }

  // Start operations. Buffers, paths and iovec arrays must stay put until completion. Meanings are
  // those of the host calls (read(2), preadv2(2), poll(2), openat(2), futex(2), waitid(2)).
  void nop(Completion& c) { begin(c, {}); }
  void read(Completion& c, int fd, std::span<std::byte> buf, int64_t offset) {
    begin(c, {.code = OpCode::kRead,
              .fd = fd,
              .addr = ptr(buf.data()),
              .len = buf.size(),
              .offset = offset});
  }
  void write(Completion& c, int fd, std::span<const std::byte> buf, int64_t offset) {
    begin(c, {.code = OpCode::kWrite,
              .fd = fd,
              .addr = ptr(buf.data()),
              .len = buf.size(),
              .offset = offset});
  }
  void readv(Completion& c, int fd, std::span<const struct iovec> iov, int64_t offset,
             uint32_t rwf = 0) {
    begin(c, {.code = OpCode::kReadv,
              .fd = fd,
              .addr = ptr(iov.data()),
              .len = iov.size(),
              .offset = offset,
              .flags = rwf});
  }
  void writev(Completion& c, int fd, std::span<const struct iovec> iov, int64_t offset,
              uint32_t rwf = 0) {
    begin(c, {.code = OpCode::kWritev,
              .fd = fd,
              .addr = ptr(iov.data()),
              .len = iov.size(),
              .offset = offset,
              .flags = rwf});
  }
  void fsync(Completion& c, int fd, bool data_only) {
    begin(c, {.code = OpCode::kFsync, .fd = fd, .flags = data_only});
  }
  // Completes with the events that are true. Multishot: completes with `more` at each change
  // (edge-triggered), until cancelled or the host ends it; then it must be started again.
  void poll(Completion& c, int fd, uint32_t events, bool multishot = false) {
    begin(c, {.code = OpCode::kPoll, .multishot = multishot, .fd = fd, .flags = events});
  }
  void openat(Completion& c, int dirfd, const char* path, int flags, mode_t mode) {
    begin(c, {.code = OpCode::kOpenat,
              .fd = dirfd,
              .addr = ptr(path),
              .len = mode,
              .flags = static_cast<uint32_t>(flags)});
  }
  // Waits while *word == expected on a futex shared between processes.
  void futex_wait(Completion& c, const uint32_t* word, uint32_t expected) {
    begin(c, {.code = OpCode::kFutexWait, .addr = ptr(word), .len = expected});
  }
  void waitid(Completion& c, idtype_t type, id_t id, siginfo_t* info, int options) {
    begin(c, {.code = OpCode::kWaitid,
              .fd = static_cast<int>(type),
              .addr = ptr(info),
              .len = id,
              .flags = static_cast<uint32_t>(options)});
  }

  // Asks to end it soon: it completes with -ECANCELED, or with its result if that came first. Idle:
  // no effect.
  void cancel(Completion& c);
  // Cancels and waits (blocking the thread) until the host is done with its buffers; complete() is
  // not called. For destructors.
  void detach(Completion& c);
  void detach_all();

  // Hands started operations to the host, if there are any. wait() does it too.
  void submit() { do_submit(); }
  // Runs the completions of everything that has finished. Makes no system call when nothing
  // happened. True if any ran.
  bool drain();
  // Submits, then sleeps until an operation finishes, timeout_ns passes (< 0: never) or a signal is
  // delivered that `mask` (null: the thread's) does not block. Runs no completion.
  WaitEnd wait(int64_t timeout_ns, const sigset_t* mask);
  // True if every completion that the host owes for what happened before the thread's last host
  // call has been run. False when it may not have been, or the ring cannot tell.
  bool caught_up() const { return !any_finished() && no_reports(); }
  bool nothing_in_flight() const { return const_cast<List<Completion>&>(in_flight_).empty(); }

 protected:
  // For implementations. start() may call finish() at once.
  virtual void start(Completion& c) = 0;
  virtual void request_cancel(Completion& c) = 0;
  virtual void do_submit() = 0;
  virtual void reap() = 0;  // calls finish() for what the host has finished
  virtual WaitEnd do_wait(int64_t timeout_ns, const sigset_t* mask) = 0;
  virtual bool no_reports() const { return false; }  // reap() would find nothing: see caught_up()

  void finish(Completion& c, int32_t res, bool more = false);
  static const Op& op(const Completion& c) { return c.op_; }
  static int& aux(Completion& c) { return c.aux_; }
  bool any_finished() const { return !const_cast<List<Completion>&>(finished_).empty(); }

 private:
  static uint64_t ptr(const void* p) { return reinterpret_cast<uintptr_t>(p); }
  void begin(Completion& c, const Op& op);

  List<Completion> in_flight_;
  List<Completion> finished_;
};

// The best ring the host allows. Must be used from the thread that made it.
std::unique_ptr<Ring> make_ring();
// One kind: null when the host refuses it.
std::unique_ptr<Ring> make_uring();
std::unique_ptr<Ring> make_thread_ring();

}  // namespace uk::hostio
