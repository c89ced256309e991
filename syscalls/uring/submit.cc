// From the submission ring to requests: entries are copied once, checked, and joined to chains.
#include <algorithm>

#include "syscalls/uring/request.h"
#include "ukernel/kernel.h"

namespace uk::uring {
namespace {

constexpr uint8_t kKnownFlags = IOSQE_FIXED_FILE | IOSQE_IO_DRAIN | IOSQE_IO_LINK |
                                IOSQE_IO_HARDLINK | IOSQE_ASYNC | IOSQE_BUFFER_SELECT |
                                IOSQE_CQE_SKIP_SUCCESS;

Result<> check_restrictions(const Ring& ring, const Sqe& sqe) {
  if (!ring.restricted) return {};
  const auto& r = ring.restrictions;
  if (!r.sqe_ops.test(sqe.opcode) || (sqe.flags & r.flags_required) != r.flags_required ||
      (sqe.flags & ~(r.flags_allowed | r.flags_required)) != 0)
    return Err(Errno::kACCES);
  return {};
}

Result<> prepare(Task& task, Request& r) {
  const Sqe& sqe = r.sqe();
  const Op* op = op_of(sqe.opcode);
  if (op == nullptr) return Err(Errno::kINVAL);
  if ((sqe.flags & ~kKnownFlags) != 0) return Err(Errno::kINVAL);
  TRY(check_restrictions(r.ring(), sqe));
  if (r.flag(IOSQE_BUFFER_SELECT) && !op->select) return Err(Errno::kOPNOTSUPP);
  if (r.flag(IOSQE_CQE_SKIP_SUCCESS) && r.flag(IOSQE_IO_DRAIN)) return Err(Errno::kOPNOTSUPP);
  if (!op->ioprio && sqe.ioprio != 0) return Err(Errno::kINVAL);
  if (sqe.personality != 0) {
    auto& all = r.ring().resources.personalities;
    auto it = all.find(sqe.personality);
    if (it == all.end()) return Err(Errno::kINVAL);
    r.creds = it->second;
  } else {
    r.creds = task.cred_;
  }
  return op->prepare != nullptr ? op->prepare(task, r) : Result<>();
}

}  // namespace

// One call of submit(): what has been taken, and the chain that is being built.
class Submission {
 public:
  Submission(Ring& ring, Task& task) : ring_(ring), task_(task) {}

  // False: stop here. The entry counts as taken unless nothing() says otherwise.
  bool take_one() {
    Sqe sqe;
    if (!fetch(sqe)) return false;
    Ref<Request> r = Request::create(Ref<Ring>(&ring_), task_, sqe);
    if (!r) {
      --ring_.sq_head_;
      no_room_ = true;
      return false;
    }
    ++taken_;
    ring_.add(*r);
    Result<> ok = prepare(task_, *r);
    // A timeout of a link must have something before it.
    if (ok && sqe.opcode == IORING_OP_LINK_TIMEOUT &&
        (!last_ || last_->sqe().opcode == IORING_OP_LINK_TIMEOUT))
      ok = Err(Errno::kINVAL);
    if (!ok) {
      r->failed = chain_failed_ = true;
      r->error = ok.error();
    }
    const bool open = r->linked_on();  // a chain is taken to its end
    append(std::move(r));
    return ok.has_value() || open || (ring_.flags_ & IORING_SETUP_SUBMIT_ALL) != 0;
  }

  int64_t taken() const { return taken_; }
  bool no_room() const { return no_room_; }

  // A chain that was left open ends with the call.
  void end_chain() {
    if (!head_) return;
    last_ = nullptr;
    Ref<Request> head = std::move(head_);
    if (std::exchange(chain_failed_, false)) {
      bool silent = false;
      head->cancel_chain(silent);
    } else {
      ring_.queue(std::move(head));
    }
  }

 private:
  bool fetch(Sqe& sqe) {
    const uint32_t mask = ring_.sq_entries_ - 1;
    if (ring_.sq_pending() == 0) return false;
    uint32_t index = ring_.sq_head_ & mask;
    if (ring_.array_at_ != 0)
      index = ring_.rings_->load<uint32_t>(ring_.array_at_ + uint64_t{index} * sizeof(uint32_t));
    ++ring_.sq_head_;
    if (index > mask) {
      ring_.rings_->release(kSqDroppedAt, ring_.rings_->acquire(kSqDroppedAt) + 1);
      return false;
    }
    sqe = ring_.sqes_->load<Sqe>(uint64_t{index} * sizeof(Sqe));
    return true;
  }

  void append(Ref<Request> r) {
    Request* added = r.get();
    if (head_) {
      last_->next = std::move(r);
    } else {
      head_ = std::move(r);
    }
    last_ = added;
    if (!added->linked_on()) end_chain();
  }

  Ring& ring_;
  Task& task_;
  Ref<Request> head_;
  Request* last_ = nullptr;
  bool chain_failed_ = false, no_room_ = false;
  int64_t taken_ = 0;
};

uint32_t Ring::sq_pending() const {
  return std::min(rings_->acquire(kSqTailAt) - sq_head_, sq_entries_);
}

Result<int64_t> Ring::submit(Task& task, uint32_t count) {
  Park& park = task.park();
  MutexLock lock(park, lock_);
  count = std::min(count, sq_pending());
  if (count == 0) return 0;
  const uint64_t before = started;
  Submission s(*this, task);
  for (uint32_t i = 0; i < count && !closed_ && !task.must_exit(); ++i) {
    if (!s.take_one()) break;
    if (i % 256 == 255) park.yield();
  }
  s.end_chain();
  rings_->release(kSqHeadAt, sq_head_);
  // Each job runs up to its first wait; what it starts after that (chains) does as well.
  constexpr int kTurns = 64;
  uint64_t seen = before;
  for (int i = 0; i < kTurns && started != seen; ++i) {
    seen = started;
    park.yield();
  }
  if (s.taken() == 0 && s.no_room()) return Err(Errno::kAGAIN);
  return s.taken();
}

}  // namespace uk::uring
