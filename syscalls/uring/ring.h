// An io_uring (io_uring_setup(2)): two rings shared with the guest, and the requests between them.
//
// How a request goes. io_uring_enter(2) copies an entry once, and what it points to (paths,
// vectors, addresses, times), so that the guest may reuse all of that when the call returns. A
// request that is done at once, waits for time or for a file to be ready needs no fiber. All others
// are Jobs (task/worker.h): the handler of the system call of the same name, on a worker with the
// files, memory and credentials of the submitter. If the file can be polled the job first runs
// without waiting; what would wait then waits in the file's queue, and runs again after a wake-up.
// Before io_uring_enter() returns or waits, each job it started has run once, up to its first wait.
// Completions are posted on fibers, never from within a waker or a timer.
//
// What is not to be trusted: everything in the rings. The kernel has its own head of submissions
// and tail of completions, and masks what it reads. Requests and completions that have no room in
// the ring are charged to the kernel-wide bound of Workers; without room a submission is kAGAIN,
// a completion is counted as lost.
//
// Ownership: descriptors and mappings hold the Handle, whose end closes the ring: everything is
// cancelled, as it is for a task that ends (TaskRings). Requests hold the Ring. Nothing in here
// suspends but what takes Park& or a Task.
#pragma once

#include <array>
#include <bitset>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "syscalls/async/shared_frames.h"
#include "syscalls/uring/abi.h"
#include "syscalls/uring/resources.h"
#include "ukernel/fs/anonfs/eventfd.h"
#include "ukernel/sched/wait_queue.h"
#include "ukernel/task/worker.h"

namespace uk::uring {

class Request;
struct ByRing;
struct ByTask;

class Ring final : public RefCounted {
 public:
  // Fills in what the guest is told. kINVAL, kNOMEM.
  static Result<Ref<Ring>> create(Kernel& kernel, io_uring_params& p);
  ~Ring() override;

  Kernel& kernel() const { return kernel_; }
  uint32_t flags() const { return flags_; }
  bool closed() const { return closed_; }
  const Ref<SharedFrames>& rings() const { return rings_; }
  const Ref<SharedFrames>& sqes() const { return sqes_; }

  // ---- submission (submit.cc)
  // Takes up to `count` entries: how many were taken. One at a time (lock()).
  Result<int64_t> submit(Task& task, uint32_t count);
  uint32_t sq_pending() const;
  bool sq_full() const { return sq_pending() >= sq_entries_; }
  Mutex& lock() { return lock_; }

  // ---- completion
  // Posts, or keeps for later what has no room.
  void post(uint64_t user_data, int32_t res, uint32_t flags);
  uint32_t unread() const { return cq_tail_ - rings_->acquire(kCqHeadAt); }
  uint32_t cq_entries() const { return cq_entries_; }
  bool full() const { return !overflow_.empty() || unread() >= cq_entries_; }
  bool overflown() const { return !overflow_.empty(); }
  void flush_overflow();
  WaitQueue& queue() { return queue_; }  // woken by completions
  // How many completions count for timeouts by number: all but those of timeouts.
  uint64_t completions() const { return posted_; }

  // ---- requests (request.cc)
  void add(Request& r);
  void remove(Request& r);
  List<Request, ByRing>& live() { return live_; }
  // Issues a request, or the chain that begins with it, when its turn comes (IOSQE_IO_DRAIN).
  void queue(Ref<Request> r);
  // Issues what became ready. Bounded in depth however long chains are.
  void run_ready(Ref<Request> r);
  // Timeouts that end after so many completions, by that number.
  std::set<std::pair<uint64_t, Request*>> counted;
  void uncount() { --posted_, ++timeouts; }  // what was posted last was a timeout
  uint64_t timeouts = 0;                     // posted, ever: one ends any wait for completions
  uint64_t started = 0;                      // jobs, ever
  // Ends everything; nothing can be submitted any more.
  void close();

  // ---- settings (register.cc)
  // Puts files, by descriptors of `task`, in places from `offset` on: how many. -1 empties a place,
  // kSkipFile leaves it. Does not suspend.
  static constexpr int32_t kSkipFile = -2;
  Result<int64_t> update_files(Task& task, uint32_t offset, const std::vector<int32_t>& fds,
                               const std::vector<uint64_t>& tags);
  Resources resources;
  Ref<EventFd> eventfd;
  bool eventfd_async = false;
  Task* issuer = nullptr;  // IORING_SETUP_SINGLE_ISSUER: compared only
  bool disabled = false;   // IORING_SETUP_R_DISABLED, until it is enabled
  struct Restrictions {
    bool registered = false;
    std::bitset<64> register_ops;
    std::bitset<256> sqe_ops;
    uint8_t flags_allowed = 0, flags_required = 0;
  } restrictions;
  bool restricted = false;

 private:
  friend class Submission;
  Ring(Kernel& kernel, uint32_t flags);
  void store_cqe(const Cqe& c);
  void run_counted();
  bool may_start(const Request& r) const;

  static constexpr uint64_t kOverflowBytes = 32;
  Kernel& kernel_;
  const uint32_t flags_;
  uint32_t sq_entries_ = 0, cq_entries_ = 0;
  uint32_t array_at_ = 0;  // of the index array, 0 without one
  Ref<SharedFrames> rings_, sqes_;
  uint32_t sq_head_ = 0, cq_tail_ = 0;
  std::deque<Cqe> overflow_;
  uint64_t posted_ = 0;
  Mutex lock_;
  WaitQueue queue_;
  List<Request, ByRing> live_;  // each holds a reference
  uint64_t issued_ = 0;         // of live_, without deferred_ and their chains
  std::deque<Ref<Request>> deferred_, ready_;
  bool drain_next_ = false, running_ = false, closed_ = false,
       inline_ = false;  // within queue()
};

// What descriptors and mappings have of a ring.
class Handle final : public RefCounted {
 public:
  explicit Handle(Ref<Ring> r) : ring(std::move(r)) {}
  ~Handle() override { ring->close(); }
  const Ref<Ring> ring;
};

class RingFile final : public File {
 public:
  explicit RingFile(Ref<Ring> ring);
  Ring& ring() { return *handle_->ring; }
  uint32_t ready() override;
  WaitQueue* poll_queue() override { return &handle_->ring->queue(); }
  Ref<MemoryObject> memory_object() override;
  Result<> check_mapping(uint64_t offset, uint64_t len, bool shared) override;
  std::string fdinfo() const override;

 private:
  Ref<Handle> handle_;
  uint64_t mapping_at_ = 0;  // what memory_object(), called right after it, is asked for
};

// What a task has to do with rings.
class TaskRings final : public TaskAsync {
 public:
  static TaskRings& of(Task& task);
  void end(Park& park) override;
  List<Request, ByTask> requests;
  WaitQueue idle;  // woken when `requests` becomes empty
  // IORING_REGISTER_RING_FDS.
  static constexpr size_t kRegistered = 16;
  std::array<Ref<File>, kRegistered> registered;
};

}  // namespace uk::uring
