// The contexts of io_setup(2) and their requests. A context belongs to an address space, in which
// its ring of events is mapped; its number is where. The ring can be written by the guest: the
// kernel keeps the place of the next event for itself and takes only the reader's index from there,
// modulo the ring's size.
//
// Each request is a Job (task/worker.h), made with the memory, credentials and limits of the task
// that submitted it, and runs even if that thread ends. Unlike Linux, which blocks io_submit(2) for
// everything that is not direct I/O, nothing blocks here but the start. IOCB_CMD_POLL listens on
// the file and holds no fiber until something happens.
//
// Ownership: the address space holds its contexts (AddressSpace::async), a context its requests
// until their events are in the ring. io_destroy(2) and the end of the address space cancel what
// is under way and wait for it, the latter for a bounded time.
#pragma once

#include <map>
#include <vector>

#include "syscalls/async/rw.h"
#include "syscalls/async/shared_frames.h"
#include "ukernel/task/worker.h"

namespace uk {

class EventFd;

struct AioControl {  // struct iocb
  uint64_t data;
  uint32_t key, rw_flags;
  uint16_t opcode, priority;
  int32_t fd;
  uint64_t buf, bytes;
  int64_t offset;
  uint64_t reserved;
  uint32_t flags;
  int32_t resfd;
};
static_assert(sizeof(AioControl) == 64);

struct AioEvent {  // struct io_event
  uint64_t data, obj;
  int64_t res, res2;
};

class AioContext;

class AioRequest final : public Job, public ListNode<struct AioLive>, private Waiter {
 public:
  // Checks the control block; what is wrong with it is io_submit(2)'s error. May suspend.
  static Result<Ref<AioRequest>> create(Task& task, Ref<AioContext> context, uint64_t user,
                                        const AioControl& c);
  ~AioRequest() override;
  void submit();
  // Cancels what waits for a file to be ready; false: it does not.
  bool cancel_poll();
  uint64_t user() const { return user_; }

  Result<int64_t> run(Task& worker) override;
  void finished(Result<int64_t> result) override;

 private:
  friend class AioContext;
  AioRequest(Ref<AioContext> context, Ref<Task> worker, uint64_t user, uint64_t data);
  Result<> prepare(Task& task, const AioControl& c);
  Result<> prepare_rw(Task& task, const AioControl& c);
  Result<> prepare_poll(const AioControl& c);
  void on_wake(uint32_t events) override;
  void start();

  enum class Kind { kRw, kSync, kPoll };
  Ref<AioContext> context_;
  const Ref<Task> worker_;  // for whom it runs; handed to Workers each time
  Ref<File> file_;
  Ref<EventFd> eventfd_;
  const uint64_t user_, data_;  // the iocb's address, its aio_data
  Kind kind_ = Kind::kRw;
  AsyncRw rw_;
  bool data_only_ = false;    // of kSync
  uint32_t poll_events_ = 0;  // of kPoll
};

class AioContext final : public RefCounted {
 public:
  // For `count` events at least; maps its ring in the task's address space. May suspend. kINVAL,
  // kAGAIN (fs.aio-max-nr), kNOMEM.
  static Result<Ref<AioContext>> create(Task& task, uint32_t count);
  ~AioContext() override;

  uint64_t id() const { return id_; }
  uint64_t map_bytes() const { return ring_->size(); }
  uint32_t capacity() const { return slots_ - 1; }
  // Is there room for the event of one more request?
  bool has_room() const { return live_count_ + unread() < capacity(); }
  uint32_t unread() const;
  // Takes up to `max` events out of the ring.
  std::vector<AioEvent> take(size_t max);
  AioRequest* find(uint64_t user);
  // Cancels everything; no request can be made any more.
  void kill();
  bool idle() const { return live_count_ == 0; }
  bool dead() const { return dead_; }
  WaitQueue& queue() { return queue_; }  // woken by events, and when it dies or is idle

 private:
  friend class AioRequest;
  AioContext(Kernel& kernel, uint32_t charged) : kernel_(kernel), charged_(charged) {}
  void began(AioRequest& r);
  void complete(AioRequest& r, int64_t res);

  Kernel& kernel_;
  const uint32_t charged_;  // of fs.aio-max-nr
  uint64_t id_ = 0;
  Ref<SharedFrames> ring_;
  uint32_t slots_ = 0, tail_ = 0;
  bool dead_ = false;
  List<AioRequest, AioLive> live_;  // each holds a reference
  uint32_t live_count_ = 0;
  WaitQueue queue_;
};

// All contexts of an address space.
class AioSpace final : public SpaceAsync {
 public:
  // Of the task's address space, made if it is not there.
  static AioSpace& of(Task& task);
  // Null: there is none of this number.
  static Ref<AioContext> find(Task& task, uint64_t id);
  void end(Park& park) override;
  std::map<uint64_t, Ref<AioContext>> contexts;
};

}  // namespace uk
