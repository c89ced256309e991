#include "ukernel/platform/ptrace/tracer.h"

#include <sys/wait.h>

#include <string_view>

#include "base/check.h"
#include "hostio/sys/process.h"
#include "ukernel/platform/stub/host_trace.h"

namespace uk::ptrace {

Tracee::Tracee(Tracer& tracer, int tid, Kind kind)
    : tracer_(tracer), tid_(tid), kind_(kind), seat_(tracer.placement().inherited()) {
  set_state(State::kRunning);
  auto [it, added] = tracer_.tracees_.emplace(tid, this);
  CHECK(added);
  auto early = tracer_.early_.find(tid);
  if (early != tracer_.early_.end()) {
    const int status = early->second;
    tracer_.early_.erase(early);
    tracer_.take(tid, status);
  } else {
    tracer_.take_one(tid);  // its signal may have been swallowed by its creator's
  }
  if (running()) watch_.start();
}

Tracee::~Tracee() {
  CHECK(waiter_ == nullptr);
  tracer_.ring_.detach(watch_);
  if (state_ != State::kDead) tracer_.tracees_.erase(tid_);
  set_state(State::kDead);
}

void Tracee::Watch::start() {
  // Still in flight: the last stop was collected by waitpid, and it waits for the next.
  if (!t_.tracer_.by_ring_ || !idle()) return;
  t_.tracer_.ring_.waitid(*this, P_PID, static_cast<id_t>(t_.tid_), &info_,
                          WEXITED | WSTOPPED | __WALL);
}

void Tracee::Watch::complete(int32_t res, bool) {
  if (res < 0) return;  // ECHILD: waitpid collected its death
  const int value = info_.si_status;
  const int status = info_.si_code == CLD_EXITED   ? W_EXITCODE(value, 0)
                     : info_.si_code == CLD_KILLED ? W_EXITCODE(0, value)
                     : info_.si_code == CLD_DUMPED ? W_EXITCODE(0, value) | WCOREFLAG
                                                   : W_STOPCODE(value);
  t_.tracer_.take(t_.tid_, status);
}

void Tracee::set_state(State s) {
  const int change = (s == State::kRunning) - (state_ == State::kRunning);
  tracer_.running_ += change;
  if (kind_ == Kind::kGuest) tracer_.running_guests_ += change;
  state_ = s;
}

int Tracee::stop_signal() const { return WSTOPSIG(status_); }
bool Tracee::at_syscall() const { return WSTOPSIG(status_) == (SIGTRAP | 0x80); }
bool Tracee::at_event_stop() const { return status_ >> 16 == PTRACE_EVENT_STOP; }

Result<> Tracee::call(long request, uint64_t addr, void* data) {
  DCHECK(state_ != State::kRunning);
  if (dead()) return Err(Errno::kSRCH);
  auto r = sys::ptrace(request, tid_, addr, reinterpret_cast<uintptr_t>(data));
  if (r) return {};
  if (r.error() == Errno::kSRCH) dying_ = true;  // killed while stopped; its exit will be reported
  return Err(r.error());
}

Result<> Tracee::set_breakpoints(const arch::Breakpoints& wanted) {
  if (wanted == breakpoints_) return {};
  if (dead()) return Err(Errno::kSRCH);
  return stub::load_breakpoints(tid_, breakpoints_, wanted);
}

Result<> Tracee::resume(long request) {
  if (dead()) return Err(Errno::kSRCH);
  CHECK(state_ == State::kStopped);
  tracer_.placement_.before_resume(tid_, seat_,
                                   kind_ == Kind::kGuest ? tracer_.running_guests_ : 0);
  TRY(call(request, 0, nullptr));
  set_state(State::kRunning);
  tracer_.last_ = tid_;
  watch_.start();
  return {};
}

void Tracee::interrupt() {
  if (running()) (void)sys::ptrace(PTRACE_INTERRUPT, tid_, 0, 0);  // ESRCH: it is dying
}

bool Tracee::wait(Park& park) {
  CHECK(waiter_ == nullptr);
  waiter_ = &park.fiber();
  park.fiber().set_wait_reason("guest");
  while (running()) park.suspend();
  park.fiber().set_wait_reason(nullptr);
  waiter_ = nullptr;
  return !dead();
}

Tracer::Tracer(Reactor& reactor)
    : ring_(reactor.ring()),
      by_ring_(std::string_view(ring_.name()) == "io_uring" &&
               ring_.supports(hostio::OpCode::kWaitid)),
      placement_(reactor.clock()) {}

void Tracer::kill_stub(int pid) {
  if (sys::kill(pid, SIGKILL)) killed_.insert(pid);
}

void Tracer::drain() {
  while (!killed_.empty()) {
    int status;
    auto tid = sys::waitpid(-1, &status, __WALL);
    if (tid) {
      take(*tid, status);
    } else if (tid.error() != Errno::kINTR) {
      killed_.clear();  // ECHILD: somebody else reaped them
    }
  }
}

void Tracer::take(int tid, int status) {
  auto it = tracees_.find(tid);
  const bool gone = !WIFSTOPPED(status);
  if (gone) killed_.erase(tid);
  if (it == tracees_.end()) {
    if (gone) {
      early_.erase(tid);
    } else {
      early_[tid] = status;
    }
    return;
  }
  Tracee& t = *it->second;
  t.status_ = status;
  t.set_state(gone ? Tracee::State::kDead : Tracee::State::kStopped);
  if (gone) tracees_.erase(it);  // the host may give the number to another
  if (t.waiter_ != nullptr) t.waiter_->wake();
}

// The host looks for one thread in constant time, for any in time proportional to all.
bool Tracer::take_one(int tid) {
  int status;
  auto r = sys::waitpid(tid, &status, __WALL | WNOHANG);
  if (!r || *r == 0) return false;
  take(tid, status);
  return true;
}

bool Tracer::collect() {
  bool any = false;
  // A single thread runs, mostly. The death of one that does not run may wait: using it will tell.
  // The first stop of a new one may wait, too: making it a Tracee looks for it.
  if (!by_ring_ && running_ == 1 && take_one(last_)) {
    if (running_ == 0 && killed_.empty()) return true;
    any = true;
  }
  for (;;) {
    int status;
    auto tid = sys::waitpid(-1, &status, __WALL | WNOHANG);
    if (!tid || *tid == 0) return any;
    take(*tid, status);
    any = true;
  }
}

}  // namespace uk::ptrace
