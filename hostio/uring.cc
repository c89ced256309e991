// Ring over io_uring(7). The thread that makes it is its only issuer; completions are posted when
// that thread next leaves the host, from whatever call (COOP_TASKRUN), so that guests are not
// disturbed, and what came in during a call is there after it: with DEFER_TASKRUN it would take
// another call to see it, a tenth of what a guest's system call costs on notify. Looking for
// completions costs no system call: the host sets a flag in the shared ring when entering would
// produce some.
#include <errno.h>
#include <liburing.h>
#include <linux/futex.h>

#include "hostio/ring.h"
#include "hostio/sys/event.h"

namespace uk::hostio {
namespace {

// Newer than Debian 12's liburing; values of the host's ABI (include/uapi/linux/io_uring.h, 6.7).
constexpr uint8_t kOpWaitid = 50;
constexpr uint8_t kOpFutexWait = 51;
constexpr uint32_t kFutex2SizeU32 = 0x02;

constexpr unsigned kSqEntries = 256;
constexpr unsigned kCqEntries = 2048;

class Uring final : public Ring {
 public:
  static std::unique_ptr<Ring> make();
  ~Uring() override {
    if (ring_.ring_fd >= 0) io_uring_queue_exit(&ring_);
  }

  const char* name() const override { return "io_uring"; }
  bool supports(OpCode code) const override {
    if (code == OpCode::kWaitid) return has_waitid_;
    if (code == OpCode::kFutexWait) return has_futex_;
    return true;
  }

 protected:
  void start(Completion& c) override;
  void request_cancel(Completion& c) override;
  void do_submit() override {
    if (unsubmitted() != 0) enter(0, 0, nullptr, 0);
  }
  void reap() override;
  WaitEnd do_wait(int64_t timeout_ns, const sigset_t* mask) override;
  bool no_reports() const override { return cq_empty() && !must_enter(); }

 private:
  Uring() { ring_.ring_fd = -1; }
  bool setup(unsigned flags);
  void probe();
  unsigned unsubmitted() const { return ring_.sq.sqe_tail - ring_.sq.sqe_head; }
  bool cq_empty() const { return *ring_.cq.khead == io_uring_smp_load_acquire(ring_.cq.ktail); }
  // Entering would produce completions.
  bool must_enter() const {
    return (io_uring_smp_load_acquire(ring_.sq.kflags) &
            (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
  }
  struct io_uring_sqe* next_sqe();
  // io_uring_enter(2) with everything started so far. 0 or -errno, of those a caller must act on.
  int enter(unsigned min_complete, unsigned flags, const void* arg, size_t arg_size);
  void take_cqes();

  struct io_uring ring_ = {};
  bool has_waitid_ = false;
  bool has_futex_ = false;
};

bool Uring::setup(unsigned flags) {
  struct io_uring_params p = {};
  p.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
  p.cq_entries = kCqEntries;
  if (io_uring_queue_init_params(kSqEntries, &ring_, &p) < 0) {
    ring_.ring_fd = -1;
    return false;
  }
  unsigned needed = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_SINGLE_MMAP;
  if ((p.features & needed) != needed) {
    io_uring_queue_exit(&ring_);
    ring_.ring_fd = -1;
    return false;
  }
  // The slots of the submission queue are used in order, so the index array never changes.
  for (unsigned i = 0; i < *ring_.sq.kring_entries; ++i) ring_.sq.array[i] = i;
  (void)io_uring_register_ring_fd(&ring_);  // saves a descriptor look-up a call; optional
  return true;
}

std::unique_ptr<Ring> Uring::make() {
  std::unique_ptr<Uring> u(new Uring);
  constexpr unsigned kBase =
      IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
  bool ok = u->setup(kBase | IORING_SETUP_SINGLE_ISSUER) || u->setup(kBase) || u->setup(0);
  if (!ok) return nullptr;
  u->probe();
  return u;
}

void Uring::probe() {
  struct io_uring_probe* p = io_uring_get_probe_ring(&ring_);
  if (p == nullptr) return;
  has_waitid_ = p->ops_len > kOpWaitid && (p->ops[kOpWaitid].flags & IO_URING_OP_SUPPORTED);
  has_futex_ = p->ops_len > kOpFutexWait && (p->ops[kOpFutexWait].flags & IO_URING_OP_SUPPORTED);
  io_uring_free_probe(p);
}

struct io_uring_sqe* Uring::next_sqe() {
  // The queue is full only if the host could not take the last batch for want of memory; let it
  // breathe.
  for (int tries = 0; unsubmitted() == *ring_.sq.kring_entries; ++tries) {
    CHECK(tries < 1000);
    if (enter(0, 0, nullptr, 0) == -EAGAIN) (void)sys::ppoll({}, 1'000'000, nullptr);
  }
  struct io_uring_sqe* sqe = &ring_.sq.sqes[ring_.sq.sqe_tail++ & *ring_.sq.kring_mask];
  *sqe = {};
  return sqe;
}

void Uring::start(Completion& c) {
  const Op& o = op(c);
  if (!supports(o.code)) return finish(c, -EOPNOTSUPP);
  struct io_uring_sqe* sqe = next_sqe();
  sqe->fd = o.fd;
  sqe->addr = o.addr;
  sqe->len = static_cast<uint32_t>(o.len < 0x7ffff000 ? o.len : 0x7ffff000);  // as read(2) does
  sqe->user_data = reinterpret_cast<uintptr_t>(&c);
  switch (o.code) {
    case OpCode::kNop:
      sqe->opcode = IORING_OP_NOP;
      break;
    case OpCode::kRead:
    case OpCode::kWrite:
    case OpCode::kReadv:
    case OpCode::kWritev: {
      static constexpr uint8_t kOps[] = {IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READV,
                                         IORING_OP_WRITEV};
      sqe->opcode = kOps[static_cast<int>(o.code) - static_cast<int>(OpCode::kRead)];
      sqe->off = static_cast<uint64_t>(o.offset);
      sqe->rw_flags = static_cast<int>(o.flags);
      break;
    }
    case OpCode::kFsync:
      sqe->opcode = IORING_OP_FSYNC;
      sqe->fsync_flags = o.flags != 0 ? IORING_FSYNC_DATASYNC : 0;
      break;
    case OpCode::kPoll:
      sqe->opcode = IORING_OP_POLL_ADD;
      sqe->poll32_events = o.flags;
      sqe->len = o.multishot ? IORING_POLL_ADD_MULTI : 0;
      break;
    case OpCode::kOpenat:
      sqe->opcode = IORING_OP_OPENAT;
      sqe->open_flags = o.flags;
      break;
    case OpCode::kFutexWait:
      // io_futex_prep(): fd = futex2 flags, addr2 = value, addr3 = mask.
      sqe->opcode = kOpFutexWait;
      sqe->fd = kFutex2SizeU32;
      sqe->len = 0;
      sqe->off = o.len;
      sqe->addr3 = FUTEX_BITSET_MATCH_ANY;
      break;
    case OpCode::kWaitid:
      // io_waitid_prep(): len = idtype, fd = id, file_index = options, addr2 = siginfo.
      sqe->opcode = kOpWaitid;
      sqe->len = static_cast<uint32_t>(o.fd);
      sqe->fd = static_cast<int>(o.len);
      sqe->file_index = o.flags;
      sqe->off = o.addr;
      sqe->addr = 0;
      break;
  }
}

void Uring::request_cancel(Completion& c) {
  struct io_uring_sqe* sqe = next_sqe();
  sqe->opcode = IORING_OP_ASYNC_CANCEL;
  sqe->fd = -1;
  sqe->addr = reinterpret_cast<uintptr_t>(&c);
  sqe->user_data = 0;  // its own result says nothing that the operation's does not
}

int Uring::enter(unsigned min_complete, unsigned flags, const void* arg, size_t arg_size) {
  io_uring_smp_store_release(ring_.sq.ktail, ring_.sq.sqe_tail);
  unsigned n = unsubmitted();
  if (ring_.int_flags & 1) flags |= IORING_ENTER_REGISTERED_RING;  // liburing's INT_FLAG_REG_RING
  // liburing types the last argument as a signal set; with EXT_ARG it is a struct.
  int r = io_uring_enter2(static_cast<unsigned>(ring_.enter_ring_fd), n, min_complete, flags,
                          static_cast<sigset_t*>(const_cast<void*>(arg)), arg_size);
  // How many were taken: the host moves the head even when the wait after them fails.
  ring_.sq.sqe_head = io_uring_smp_load_acquire(ring_.sq.khead);
  if (r >= 0) return 0;
  switch (-r) {
    case EINTR:
    case ETIME:
      return r;
    case EAGAIN:  // no memory for a request now; it stays queued
      return r;
    case EBUSY:  // completions overflowed: take them, then try again
      take_cqes();
      return r;
    default:  // EBADF, EBADFD, EBADR, EEXIST, EFAULT, EINVAL, ENXIO, EOPNOTSUPP: our own mistake
      CHECK_OK(Result<>(Err(static_cast<Errno>(-r))));
      return r;
  }
}

void Uring::take_cqes() {
  unsigned head = *ring_.cq.khead;
  unsigned tail = io_uring_smp_load_acquire(ring_.cq.ktail);
  for (; head != tail; ++head) {
    const struct io_uring_cqe& cqe = ring_.cq.cqes[head & *ring_.cq.kring_mask];
    if (cqe.user_data == 0) continue;
    finish(*reinterpret_cast<Completion*>(cqe.user_data), cqe.res,
           (cqe.flags & IORING_CQE_F_MORE) != 0);
  }
  io_uring_smp_store_release(ring_.cq.khead, head);
}

void Uring::reap() {
  if (must_enter()) (void)enter(0, IORING_ENTER_GETEVENTS, nullptr, 0);
  take_cqes();
}

WaitEnd Uring::do_wait(int64_t timeout_ns, const sigset_t* mask) {
  if (!cq_empty()) {
    do_submit();
    return WaitEnd::kEvent;
  }
  struct __kernel_timespec ts = {timeout_ns / 1'000'000'000, timeout_ns % 1'000'000'000};
  struct io_uring_getevents_arg arg = {};
  arg.sigmask = reinterpret_cast<uintptr_t>(mask);
  arg.sigmask_sz = _NSIG / 8;
  arg.ts = timeout_ns < 0 ? 0 : reinterpret_cast<uintptr_t>(&ts);
  bool submits = unsubmitted() != 0;
  int r = enter(1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof(arg));
  // After a submission the host returns its count even if a signal ended the wait.
  if (r == -EINTR || (r == 0 && submits && cq_empty())) return WaitEnd::kSignal;
  if (r == -ETIME) return WaitEnd::kTimeout;
  if (r == -EAGAIN) (void)sys::ppoll({}, 1'000'000, mask);
  return WaitEnd::kEvent;
}

}  // namespace

std::unique_ptr<Ring> make_uring() { return Uring::make(); }

}  // namespace uk::hostio
