#include "ukernel/task/task.h"

#include <signal.h>
#include <sys/resource.h>

#include <algorithm>

#include "base/check.h"
#include "ukernel/ipc/namespace.h"
#include "ukernel/kernel.h"
#include "ukernel/mm/policy.h"
#include "ukernel/task/namespaces.h"
#include "ukernel/task/process_events.h"
#include "ukernel/task/ptrace.h"
#include "ukernel/task/seccomp.h"
#include "ukernel/task/signal_delivery.h"
#include "ukernel/task/timers.h"

namespace uk {

Ref<FsInfo> FsInfo::copy() const {
  auto f = make_ref<FsInfo>();
  f->root = root;
  f->cwd = cwd;
  f->umask = umask;
  return f;
}

void Usage::add(const Usage& o) {
  utime_ns += o.utime_ns, stime_ns += o.stime_ns;
  min_faults += o.min_faults, maj_faults += o.maj_faults;
  voluntary += o.voluntary, involuntary += o.involuntary;
  max_rss_pages = std::max(max_rss_pages, o.max_rss_pages);
  read_bytes += o.read_bytes, write_bytes += o.write_bytes;
  rchar += o.rchar, wchar += o.wchar, syscr += o.syscr, syscw += o.syscw;
}

ProcessGroup::~ProcessGroup() = default;

ThreadGroup::ThreadGroup(Kernel& k) : kernel(k), timers(std::make_unique<Timers>(*this)) {}

ThreadGroup::~ThreadGroup() {
  CHECK(threads.empty());
  for (ThreadGroup* child : children) child->parent = nullptr;  // the instance ends
}

Usage ThreadGroup::usage() const {
  Usage u = dead_threads;
  for (const Task* t : threads) u.add(t->usage_now());
  return u;
}

uint64_t ThreadGroup::cpu_ns(bool user_only) const {
  uint64_t ns = dead_threads.utime_ns + (user_only ? 0 : dead_threads.stime_ns);
  for (const Task* t : threads) ns += t->cpu_ns(user_only);
  return ns;
}

bool ThreadGroup::ignores(int signo) const {
  uint64_t handler = handlers->actions[signo].handler;
  return handler == kSigIgn || (handler == kSigDfl && kDefaultIgnored.has(signo));
}

Task::Task(Kernel& k, Ref<ThreadGroup> g, int tid, bool worker)
    : kernel(k), group(std::move(g)), tid(tid), worker(worker), sched([this] {
        if (in_user) context->kick();
      }) {
  start_ns = k.uptime_ns();
  if (worker) return;
  group->threads.push_back(this);
  ++group->live;
  ++group->unfinished;
}

Task::~Task() {
  if (worker) return;
  if (tracer != nullptr) std::erase(tracer->tracees, this);
  for (Task* t : tracees) t->tracer = nullptr;
  std::erase(group->threads, this);
  if (!exiting) {  // it never ran: making it failed
    --group->live;
    --group->unfinished;
  }
}

void Task::set_comm(std::string_view name) {
  comm = std::string(name.substr(0, 15));
  if (fiber != nullptr) fiber->set_name(comm);
}

void Task::set_cred(Ref<Cred> c) {
  const Ref<Cred> old = std::exchange(cred_, std::move(c));
  if (!processes_watched(kernel) || !old) return;
  auto uids = [](const Cred& c) { return std::array{c.uid, c.euid, c.suid, c.fsuid}; };
  auto gids = [](const Cred& c) { return std::array{c.gid, c.egid, c.sgid, c.fsgid}; };
  if (uids(*old) != uids(*cred_)) tell_watchers({ProcessEvent::Kind::kUid, *this});
  if (gids(*old) != gids(*cred_)) tell_watchers({ProcessEvent::Kind::kGid, *this});
}

FsContext Task::fs_context() const {
  return FsContext{.root = fs_->root,
                   .cwd = fs_->cwd,
                   .cred = cred_.get(),
                   .umask = fs_->umask,
                   .ns = mounts_.get()};
}

MmLimits Task::mm_limits() const {
  const auto& r = group->rlimits;
  return MmLimits{.as = r[RLIMIT_AS].cur,
                  .data = r[RLIMIT_DATA].cur,
                  .stack = r[RLIMIT_STACK].cur,
                  .memlock = cred_->has(Cap::kIpcLock) ? UINT64_MAX : r[RLIMIT_MEMLOCK].cur};
}

SigSet Task::deliverable() const {
  return (pending.pending() | group->pending.pending()) & ~blocked;
}

bool Task::fatal_signal_pending() const { return must_exit(); }

bool Task::should_interrupt(WaitMode mode) const {
  if (worker) {
    return mode != WaitMode::kUninterruptible &&
           (exit_requested || (no_wait && mode == WaitMode::kInterruptible));
  }
  switch (mode) {
    case WaitMode::kUninterruptible:
      return false;
    case WaitMode::kKillable:
      return must_exit() && !exiting;
    case WaitMode::kInterruptible:
      return must_exit() || signal_work(*this);
  }
  UNREACHABLE();
}

void Task::notify() {
  if (in_user) {
    context->kick();
  } else if (fiber != nullptr) {
    fiber->wake();
  }
}

uint64_t Task::cpu_ns(bool user_only) const {
  uint64_t ns = sched.run_ns + (user_only ? 0 : usage.stime_ns);
  if (in_user && resumed) ns += kernel.clock.monotonic_ns() - user_enter_ns;
  return ns;
}

Usage Task::usage_now() const {
  Usage u = usage;
  u.utime_ns = cpu_ns(true);
  u.voluntary = sched.voluntary_switches;
  u.involuntary = sched.involuntary_switches;
  if (mm_) u.max_rss_pages = std::max(u.max_rss_pages, mm_->stats().peak_rss_pages);
  return u;
}

void start_task(Task& task, std::function<void(Task&)> first) {
  Ref<Task> self(&task);
  Ref<Fiber> fiber =
      task.kernel.reactor.spawn(task.comm, [self, first = std::move(first)](Park& park) {
        self->park_ = &park;
        if (first) first(*self);
        run_loop(*self, park);
        park.fiber().set_interruptor(nullptr);
        self->park_ = nullptr;
        self->fiber = nullptr;
      });
  fiber->set_interruptor(&task);
  task.fiber = fiber.get();
}

}  // namespace uk
