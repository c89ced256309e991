#include "ukernel/task/timers.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>

#include <algorithm>

#include "base/check.h"
#include "ukernel/kernel.h"

namespace uk {
namespace {

constexpr uint64_t kWatchMinNs = 1'000'000;  // CPU timers are looked at no more often
constexpr size_t kMaxPosixTimers = 1024;     // per process
constexpr int kOverrunMax = 0x7fffffff;      // DELAYTIMER_MAX

// The first expiry of a period after `now`, and how many were passed over.
uint64_t advance(uint64_t at, uint64_t interval, uint64_t now, uint64_t* passed) {
  if (at > now) return at;
  uint64_t n = (now - at) / interval + 1;
  *passed += n;
  return at + n * interval;
}

}  // namespace

// ---- POSIX timers

PosixTimer::PosixTimer(ThreadGroup& group, int id, int clock, int cpu_tid, const TimerEvent& event)
    : id(id),
      clock(clock),
      group_(group),
      event_(event),
      cpu_(clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID),
      cpu_tid_(cpu_tid),
      timer_(group.kernel.reactor.timers(), [this] { expire(now()); }) {}

uint64_t PosixTimer::now() const {
  if (!cpu_) return group_.kernel.clock.monotonic_ns();
  if (clock == CLOCK_PROCESS_CPUTIME_ID) return group_.cpu_ns();
  Task* t = group_.kernel.pids.task(cpu_tid_);
  return t != nullptr ? t->cpu_ns() : 0;
}

void PosixTimer::drop_signal() {
  if (event_.notify == SIGEV_NONE) return;
  group_.pending.remove_timer(event_.signo, id);
  for (Task* t : group_.threads) t->pending.remove_timer(event_.signo, id);
}

void PosixTimer::arm(uint64_t at, uint64_t interval, uint64_t late_ns) {
  drop_signal();
  at_ = at;
  interval_ = interval;
  late_ = late_ns;
  waiting_ = false;
  last_overrun_ = 0;
  timer_.cancel();
  if (at_ == 0) return;
  if (cpu_) {
    group_.timers->check_cpu();
  } else {
    timer_.arm(Deadline{at_});
  }
}

ItimerValue PosixTimer::left() const {
  if (at_ == 0) return {0, interval_};
  uint64_t now_ns = now();
  uint64_t at = at_, passed = 0;
  if (at <= now_ns && interval_ != 0) at = advance(at, interval_, now_ns, &passed);
  return {at > now_ns ? at - now_ns : 1, interval_};
}

void PosixTimer::expire(uint64_t now_ns) {
  if (event_.notify == SIGEV_NONE) {
    uint64_t passed = 0;
    at_ = interval_ != 0 ? advance(at_, interval_, now_ns, &passed) : 0;
    if (at_ != 0 && !cpu_) timer_.arm(Deadline{at_});
    return;
  }
  waiting_ = interval_ != 0;
  if (interval_ == 0) at_ = 0;
  SigInfo info = siginfo_timer(event_.signo, id, 0, event_.value);
  if (event_.notify == SIGEV_THREAD_ID) {
    Task* to = group_.kernel.pids.task(event_.tid);
    if (to == nullptr || to->group.get() != &group_) return;
    (void)send_signal(*to, info);
    if (!to->pending.has_timer(event_.signo, id)) taken(info);
  } else {
    (void)send_signal_group(group_, info);
    // Ignored (or a standard signal that is pending already): nobody will take it.
    if (!group_.pending.has_timer(event_.signo, id)) taken(info);
  }
}

void PosixTimer::taken(SigInfo& info) {
  last_overrun_ = 0;
  if (waiting_) {
    waiting_ = false;
    uint64_t passed = std::exchange(late_, 0) / interval_;
    at_ = advance(at_, interval_, now(), &passed);
    last_overrun_ = static_cast<int>(std::min<uint64_t>(passed == 0 ? 0 : passed - 1, kOverrunMax));
    if (!cpu_) timer_.arm(Deadline{at_});
  }
  siginfo_set_u32(info, 20, static_cast<uint32_t>(last_overrun_));
}

// ---- the timers of a process

ThreadGroup::Timers::Timers(ThreadGroup& g)
    : group(g),
      real_timer_(g.kernel.reactor.timers(), [this] { real_expired(); }),
      cpu_watch_(g.kernel.reactor.timers(), [this] { check_cpu(); }) {}

uint64_t ThreadGroup::Timers::cpu_now(int which) const {
  return group.cpu_ns(which == ITIMER_VIRTUAL);
}

ItimerValue ThreadGroup::Timers::get(int which) const {
  const ItimerValue& t = which == ITIMER_REAL ? real_ : which == ITIMER_VIRTUAL ? virt_ : prof_;
  if (t.value == 0) return {0, t.interval};
  uint64_t now = which == ITIMER_REAL ? group.kernel.clock.monotonic_ns() : cpu_now(which);
  return {t.value > now ? t.value - now : 1, t.interval};
}

ItimerValue ThreadGroup::Timers::set(int which, ItimerValue v) {
  ItimerValue old = get(which);
  ItimerValue& t = which == ITIMER_REAL ? real_ : which == ITIMER_VIRTUAL ? virt_ : prof_;
  t.interval = v.interval;
  uint64_t now = which == ITIMER_REAL ? group.kernel.clock.monotonic_ns() : cpu_now(which);
  t.value = v.value == 0 ? 0 : (v.value > UINT64_MAX - now ? UINT64_MAX - 1 : now + v.value);
  if (which != ITIMER_REAL) {
    check_cpu();
  } else if (t.value == 0) {
    real_timer_.cancel();
  } else {
    real_timer_.arm(Deadline{t.value});
  }
  return old;
}

void ThreadGroup::Timers::real_expired() {
  uint64_t passed = 0;
  real_.value = real_.interval == 0 ? 0
                                    : advance(real_.value, real_.interval,
                                              group.kernel.clock.monotonic_ns(), &passed);
  if (real_.value != 0) real_timer_.arm(Deadline{real_.value});
  (void)send_signal_group(group, siginfo_kernel(SIGALRM));
}

bool ThreadGroup::Timers::any_cpu() const {
  if (virt_.value != 0 || prof_.value != 0 || group.rlimits[RLIMIT_CPU].cur != UINT64_MAX)
    return true;
  return std::any_of(posix.begin(), posix.end(),
                     [](const auto& p) { return p.second->cpu_ && p.second->at_ != 0; });
}

void ThreadGroup::Timers::check_cpu() {
  if (!any_cpu() || group.exiting) return;
  uint64_t next = UINT64_MAX;  // the least CPU time until something is due
  auto due = [&](ItimerValue& t, int which, int signo) {
    if (t.value == 0) return;
    uint64_t now = cpu_now(which), passed = 0;
    if (now >= t.value) {
      t.value = t.interval == 0 ? 0 : advance(t.value, t.interval, now, &passed);
      (void)send_signal_group(group, siginfo_kernel(signo));
    }
    if (t.value != 0) next = std::min(next, t.value - now);
  };
  due(virt_, ITIMER_VIRTUAL, SIGVTALRM);
  due(prof_, ITIMER_PROF, SIGPROF);
  for (auto& [id, t] : posix) {
    if (t->cpu_expired()) t->expire(t->now());
    if (t->cpu_ && t->at_ != 0 && !t->waiting_) {
      uint64_t now = t->now();
      next = std::min(next, t->at_ > now ? t->at_ - now : 0);
    }
  }
  const RLimit& limit = group.rlimits[RLIMIT_CPU];
  if (limit.cur != UINT64_MAX) {
    // setrlimit(2): SIGXCPU at the soft limit and every second after it, SIGKILL at the hard one.
    uint64_t now = group.cpu_ns();
    uint64_t soft =
        std::max(std::min<uint64_t>(limit.cur, UINT32_MAX) * kNsPerSec, next_cpu_limit_ns);
    if (limit.max != UINT64_MAX && now / kNsPerSec >= std::max<uint64_t>(limit.max, 1)) {
      begin_exit_group(group, SIGKILL);
      return;
    }
    if (now >= soft) {
      (void)send_signal_group(group, siginfo_kernel(SIGXCPU));
      next_cpu_limit_ns = soft = now + kNsPerSec;
    }
    next = std::min(next, soft - now);
  }
  int running = 0;
  for (const Task* t : group.threads) running += t->sched.on_cpu;
  if (next == UINT64_MAX || running == 0) {
    cpu_watch_.cancel();
    return;
  }
  uint64_t in = std::max(next / static_cast<uint64_t>(running), kWatchMinNs);
  cpu_watch_.arm(Deadline{group.kernel.clock.monotonic_ns() + in});
}

void ThreadGroup::Timers::clear() { posix.clear(); }

Result<PosixTimer*> ThreadGroup::Timers::create(int clock, int cpu_tid, const TimerEvent& event) {
  if (posix.size() >= kMaxPosixTimers) return Err(Errno::kAGAIN);
  while (posix.contains(next_id_)) next_id_ = next_id_ == 0x7fffffff ? 0 : next_id_ + 1;
  int id = next_id_++;
  auto timer = std::make_unique<PosixTimer>(group, id, clock, cpu_tid, event);
  PosixTimer* p = timer.get();
  posix.emplace(id, std::move(timer));
  return p;
}

PosixTimer* ThreadGroup::Timers::find(int id) const {
  auto at = posix.find(id);
  return at == posix.end() ? nullptr : at->second.get();
}

void ThreadGroup::Timers::signal_taken(SigInfo& info) {
  if (PosixTimer* t = find(static_cast<int>(siginfo_u32(info, 16)))) t->taken(info);
}

}  // namespace uk
