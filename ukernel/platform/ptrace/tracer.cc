#include "ukernel/platform/ptrace/tracer.h"

#include <sys/wait.h>

#include "base/check.h"
#include "hostio/sys/process.h"

namespace uk::ptrace {

Tracee::Tracee(Tracer& tracer, int tid) : tracer_(tracer), tid_(tid) {
  auto [it, added] = tracer_.tracees_.emplace(tid, this);
  CHECK(added);
  auto early = tracer_.early_.find(tid);
  if (early == tracer_.early_.end()) return;
  const int status = early->second;
  tracer_.early_.erase(early);
  tracer_.take(tid, status);
}

Tracee::~Tracee() {
  CHECK(waiter_ == nullptr);
  if (state_ != State::kDead) tracer_.tracees_.erase(tid_);
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

Result<> Tracee::resume(long request) {
  if (dead()) return Err(Errno::kSRCH);
  CHECK(state_ == State::kStopped);
  TRY(call(request, 0, nullptr));
  state_ = State::kRunning;
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
  t.state_ = gone ? Tracee::State::kDead : Tracee::State::kStopped;
  if (gone) tracees_.erase(it);  // the host may give the number to another
  if (t.waiter_ != nullptr) t.waiter_->wake();
}

bool Tracer::collect() {
  bool any = false;
  for (;;) {
    int status;
    auto tid = sys::waitpid(-1, &status, __WALL | WNOHANG);
    if (!tid || *tid == 0) return any;
    take(*tid, status);
    any = true;
  }
}

}  // namespace uk::ptrace
