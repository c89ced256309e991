// One request of an io_uring: from its copied entry to its completion. See ring.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "syscalls/async/rw.h"
#include "syscalls/fs_open.h"
#include "syscalls/socket.h"
#include "syscalls/uring/ring.h"
#include "ukernel/abi/time.h"
#include "ukernel/fs/anonfs/epoll.h"
#include "ukernel/sched/timer.h"

namespace uk::uring {

class Request;

// What an operation is made of. Its name is that of a system call, mostly.
struct Op {
  // Checks the entry and copies what it points to; on the submitter's fiber, may suspend.
  Result<> (*prepare)(Task& task, Request& r) = nullptr;
  // Does it, on a worker. Null: `now` does.
  Result<int64_t> (*run)(Task& worker, Request& r) = nullptr;
  // Begins it without suspending; completes it or leaves it waiting.
  void (*now)(Request& r) = nullptr;
  uint32_t poll = 0;         // what of a file it waits for
  bool file = false;         // works on sqe.fd
  bool short_fails = false;  // doing less than asked for breaks a chain
  bool select = false;       // may choose a buffer
  bool ioprio = false;       // sqe.ioprio has a meaning
};

// Null: not supported.
const Op* op_of(uint8_t code);

// What the entry pointed to.
struct Prepared {
  AsyncRw rw;
  std::vector<std::string> paths;
  std::string address;
  UserMsghdr message{};
  UserOpenHow how{};
  EpollEvent event{};
  uint64_t time_ns = 0;  // of timeouts
  uint64_t target = 0;   // in Ring::counted by this number
  uint32_t timeout_flags = 0;
  uint32_t count = 0;  // how often a multishot timeout still fires; 0: for ever
};

class Request final : public Job, public ListNode<ByRing>, public ListNode<ByTask>, private Waiter {
 public:
  // Null if there is no room for it.
  static Ref<Request> create(Ref<Ring> ring, Task& task, const Sqe& sqe);
  ~Request() override;

  Ring& ring() const { return *ring_; }
  Task& task() const { return *task_; }  // the submitter, which ends its requests before it goes
  const Sqe& sqe() const { return sqe_; }
  bool flag(uint32_t f) const { return (sqe_.flags & f) != 0; }
  bool linked_on() const { return flag(IOSQE_IO_LINK | IOSQE_IO_HARDLINK); }

  // ---- for operations
  Prepared prepared;
  Ref<File> file;
  Ref<Resource> resource;  // the registered file or buffer in use
  Ref<Cred> creds;         // sqe.personality
  bool nowait = false;     // asked not to wait (RWF_NOWAIT, MSG_DONTWAIT)
  bool must_wait = false;  // cannot be tried without waiting (MSG_WAITALL)
  bool multishot = false;
  uint32_t poll_mask = 0;  // of POLL_ADD
  int64_t wanted = 0;      // with Op::short_fails: the result that is no failure
  // The kernel's memory for what was copied. kNOMEM.
  Result<> charge(uint64_t bytes);
  // A copied path, as an argument for handlers.
  Result<> copy_path(Task& task, uint64_t addr, bool empty_ok = true);
  UserStr path_arg(size_t i) const { return UserStr{{path_address(i)}}; }
  const std::string* path(uint64_t index) const override;
  // With IOSQE_BUFFER_SELECT: a buffer of the group, which the completion will name.
  // Of at most `limit` bytes, unless that is 0.
  Result<ChosenBuffer> choose_buffer(Task& worker, uint64_t limit);
  // Listens for poll_mask; completes, or posts with IORING_CQE_F_MORE, when some of it is true.
  void wait_ready();
  // Completes with kTIME at `at`, unless cancelled before.
  void wait_until(Deadline at);
  Deadline deadline() const { return deadline_; }

  // ---- life
  void issue();
  // Cancels what has begun. kALREADY: it runs, and was told to stop.
  Result<> cancel();
  // The end: posts, and lets go on what waited for it.
  void complete(int64_t res);
  void fail(Errno e) { complete(-static_cast<int64_t>(e)); }
  bool done() const { return done_; }
  bool issued() const { return issued_; }
  bool waits_for_time() const { return timer_ != nullptr && timer_->armed(); }
  bool is_polling() const { return Waiter::linked(); }
  void set_poll(uint32_t mask, uint64_t user_data);

  // ---- chains (submit.cc)
  Ref<Request> next;
  bool failed = false;  // its preparation: completes with `error` when its turn comes
  Errno error = Errno::kOk;
  bool drain = false;
  void cancel_chain(bool silent);  // this one and all behind it; those that failed say so
  // IORING_OP_LINK_TIMEOUT: which one it watches over, and by which one this is.
  Request* guarded = nullptr;
  Request* guard = nullptr;

  Result<int64_t> run(Task& worker) override;
  void finished(Result<int64_t> result) override;

 private:
  Request(Ref<Ring> ring, Task& task, const Sqe& sqe);
  Result<> find_file();
  void start();
  void arm_poll();
  void on_wake(uint32_t events) override;
  void post_more(int64_t res);
  uint32_t take_buffer_flags();
  void give_buffer_back();
  void arm_guard();
  bool would_wait(Errno e) const;

  static constexpr uint64_t kBytes = 2048;  // about, with its worker
  const Ref<Ring> ring_;
  Task* task_;
  TaskRings* owner_ = nullptr;  // of task_, while this is on its list
  Sqe sqe_;
  const Op* const op_;
  uint64_t charged_ = kBytes;
  bool skip_cqe_ = false, quiet_ = false, issued_ = false, done_ = false, counted_ = false,
       woken_ = false, tried_ = false;
  std::unique_ptr<Timer> timer_;
  Deadline deadline_ = kNever;
  std::optional<ChosenBuffer> buffer_;
  friend class Ring;
  friend class TaskRings;
};

}  // namespace uk::uring
