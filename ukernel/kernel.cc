#include "ukernel/kernel.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/check.h"
#include "ukernel/ipc/namespace.h"
#include "ukernel/mm/futex.h"
#include "ukernel/random.h"
#include "ukernel/task/cgroup.h"
#include "ukernel/task/current.h"
#include "ukernel/task/exec.h"
#include "ukernel/task/nsfs.h"
#include "ukernel/task/pi_futex.h"
#include "ukernel/task/timers.h"
#include "ukernel/task/worker.h"
#include "ukernel/vdso/vdso.h"
#include "ukernel/vfs/kernel_log.h"

namespace uk {
namespace {

constexpr uint64_t kBytesPerTask = 64 * 1024;  // of guest memory: bounds how many there may be
constexpr int kMinTasks = 256, kMaxTasks = 16384;
constexpr int kRestInitFailed = 127 << 8;

}  // namespace

Kernel::Kernel(Reactor& reactor, Clock& clock, Log& log, std::unique_ptr<PhysMemory> m,
               std::unique_ptr<Platform> p, const KernelOptions& options)
    : reactor(reactor),
      clock(clock),
      log(log),
      options(options),
      mem(std::move(m)),
      platform(std::move(p)),
      vcpus(reactor.timers(), clock, options.cpus),
      vfs(*mem, clock, log),
      futexes(std::make_unique<FutexTable>()),
      workers(std::make_unique<Workers>(*this)),
      pi_futexes(std::make_unique<PiFutexes>()),
      guest_log(std::make_shared<KernelLog>(log)),
      cgroups(std::make_unique<Cgroups>(*this)),
      uts(make_ref<UtsInfo>()),
      mounts(make_ref<MountNamespace>()),
      ipc(make_ref<IpcNamespace>(clock, *mem,
                                 [this] {
                                   Task* t = current_task(this->reactor);
                                   return t != nullptr ? t->tgid() : 0;
                                 })),
      boot_ns(clock.monotonic_ns()),
      random_(std::make_unique<Random>(options.seed)),
      trim_(reactor.timers(), [this] {
        if (mem->trim()) trim_.arm({this->clock.monotonic_ns() + PhysMemory::kTrimNs});
      }) {
  uts->nodename = options.hostname;
  nsfs = make_ref<NsFs>(*this);
  vfs.caller = [this]() -> const Cred* {
    const Task* t = current_task(this->reactor);
    return t != nullptr ? &t->cred() : nullptr;
  };
  random(std::as_writable_bytes(std::span(order_cookies)));
  uint64_t tasks = mem->total_pages() * kPageSize / kBytesPerTask;
  pids.max_tasks = static_cast<int>(std::clamp<uint64_t>(tasks, kMinTasks, kMaxTasks));
  mem->oom_kill = [this] {
    Cgroup* limited = cgroups->at_memory_limit();
    return oom_kill(limited != nullptr ? "out of memory in its cgroup" : "out of memory", limited);
  };
  mem->on_surplus = [this] {
    if (!trim_.armed()) trim_.arm({this->clock.monotonic_ns() + PhysMemory::kTrimNs});
  };
  vdso = Vdso::create(*mem, clock, options.cpus);
}

Kernel::~Kernel() {
  platform->let_go();
  nsfs->close();
  mem->set_owners(nullptr);
  mem->oom_kill = nullptr;
  mem->on_surplus = nullptr;
  mem->code_shelf = nullptr;
}

void Kernel::random(std::span<std::byte> out) { random_->fill(out); }

std::array<double, 3> Kernel::load_average() {
  uint64_t busy = 0;
  int on_cpu = 0;
  for (int i = 0; i < vcpus.count(); ++i) busy += vcpus.busy_ns(i);
  pids.each_task([&](Task& t) { on_cpu += t.sched.on_cpu; });
  load.update(clock.monotonic_ns(), busy, vcpus.runnable() - on_cpu);
  return load.value();
}

void Kernel::before_user_mode(uint64_t now) {
  if (load.due(now)) (void)load_average();
  if (vdso) vdso->publish(now);
}

uint64_t Kernel::guest_monotonic_ns() {
  auto times = vdso ? vdso->now() : std::nullopt;
  return times ? times->monotonic_ns : clock.monotonic_ns();
}

uint64_t Kernel::guest_realtime_ns() {
  auto times = vdso ? vdso->now() : std::nullopt;
  return times ? times->realtime_ns : clock.realtime_ns();
}

Task* Kernel::init() const { return pids.task(1); }

namespace {

// rlimits of pid 1, inherited by all (getrlimit(2); what a Debian service sees).
void default_limits(std::array<RLimit, kRLimits>& r, int max_tasks) {
  r[RLIMIT_STACK] = {8 << 20, UINT64_MAX};
  r[RLIMIT_CORE] = {0, UINT64_MAX};
  r[RLIMIT_NPROC] = {static_cast<uint64_t>(max_tasks), static_cast<uint64_t>(max_tasks)};
  r[RLIMIT_NOFILE] = {1024, 65536};
  r[RLIMIT_MEMLOCK] = {8 << 20, 8 << 20};
  r[RLIMIT_SIGPENDING] = {4096, 4096};
  r[RLIMIT_MSGQUEUE] = {819200, 819200};
  r[RLIMIT_NICE] = {0, 0};
  r[RLIMIT_RTPRIO] = {0, 0};
}

// For the ioctl that makes the console the controlling terminal: it has no argument in memory.
class NoUserMemory final : public IoctlUser {
 public:
  explicit NoUserMemory(Task& task) : task_(task) {}
  Result<> copy_in(Park&, std::span<std::byte>, uint64_t) override { return Err(Errno::kFAULT); }
  Result<> copy_out(Park&, uint64_t, std::span<const std::byte>) override {
    return Err(Errno::kFAULT);
  }
  const Cred& cred() const override { return task_.cred(); }
  Task* task() const override { return &task_; }

 private:
  Task& task_;
};

}  // namespace

Ref<Task> Kernel::make_init(const InitRequest& request) {
  int tid = CHECK_OK(pids.alloc());
  CHECK(tid == 1);
  auto group = make_ref<ThreadGroup>(*this);
  group->tgid = tid;
  group->exit_signal = -1;
  group->handlers = make_ref<SigHandlers>();
  group->start_ns = uptime_ns();
  group->numbered = 1;
  default_limits(group->rlimits, pids.max_tasks);
  auto task = make_ref<Task>(*this, group, tid);
  group->leader = task.get();
  auto session = make_ref<Session>();
  session->sid = tid;
  pids.add_session(session);
  new_pgrp(*group, session);
  task->set_comm(request.argv.empty() ? "init" : request.argv[0]);
  task->cred_ = request.cred;
  task->uts_ = uts;
  task->mounts_ = mounts;
  task->ipc_ = ipc;
  task->fds_ = make_ref<FdTable>();
  task->fs_ = make_ref<FsInfo>();
  task->fs_->root = task->fs_->cwd = Path(mounts->root, mounts->root->root);
  pids.add(task);
  return task;
}

Result<> Kernel::exec_init(Task& task, const InitRequest& request) {
  Park& park = task.park();
  task.fs().cwd =
      TRY(vfs.walk(park, task.fs_context(), {}, request.cwd, kWalkFollow | kWalkDirectory));
  for (const Ref<File>& file : request.stdio)
    if (file) TRY(task.fds().add(file, false, 3));
  ExecRequest exec;
  exec.path = request.path;
  exec.argv = request.argv;
  exec.envp = request.envp;
  TRY(do_execve(task, exec));
  if (request.console) {
    NoUserMemory user(task);
    Result<int64_t> r = request.console->ioctl(park, user, TIOCSCTTY, 0);
    if (!r)
      log.warn(absl::StrFormat("the console cannot be a controlling terminal: %s",
                               errno_text(r.error())));
  }
  return {};
}

Result<Ref<Task>> Kernel::start_init(Park& park, InitRequest request) {
  CHECK(init() == nullptr);
  CHECK(mounts->root);
  Ref<Task> task = make_init(request);
  struct Start {
    WaitQueue queue;
    std::optional<Result<>> result;
  } start;
  auto report = std::exchange(on_exit, nullptr);  // a failed start is the return value
  start_task(*task, [&](Task& t) {
    start.result = exec_init(t, request);
    if (*start.result) {
      on_exit = std::move(report);
    } else {
      begin_exit_group(*t.group, kRestInitFailed);
    }
    start.queue.wake_all();
  });
  CHECK_OK(start.queue.wait(
      park, [&] { return start.result.has_value(); }, WaitMode::kUninterruptible));
  if (!*start.result) return Err(start.result->error());
  return task;
}

bool Kernel::oom_kill(std::string_view why, Cgroup* within) {
  // Who is dying does not wait for memory, least of all for its own.
  const Task* self = current_task(reactor);
  if (self != nullptr && (self->group->exiting || self->exiting)) return false;
  Task* victim = nullptr;
  int64_t worst = 0;
  auto total = static_cast<int64_t>(mem->total_pages());
  bool dying = false;
  pids.each_group([&](ThreadGroup& g) {
    if (g.zombie || !g.leader) return;
    if (within != nullptr && !cgroups->of(g).is_within(*within)) return;
    Ref<AddressSpace> space;
    for (Task* t : g.threads)
      if (t->mm_) space = t->mm_;
    if (!space) return;
    // Its memory comes back, even when its last thread is no longer alive but still has it.
    const bool leaving = g.exiting || g.live == 0;
    dying |= leaving;
    if (leaving || g.oom_score_adj == -1000) return;
    int64_t points =
        static_cast<int64_t>(space->stats().rss_pages) + g.oom_score_adj * total / 1000;
    if (g.tgid == 1) points = 0;  // only when there is nothing else
    if (victim == nullptr || points > worst) {
      victim = g.leader;
      worst = points;
    }
  });
  if (dying) return true;
  if (victim == nullptr) return false;
  log.err(absl::StrFormat("%s: killed process %d (%s), %d pages", std::string(why), victim->tgid(),
                          victim->comm, worst));
  begin_exit_group(*victim->group, SIGKILL);
  cgroups->oom_killed(cgroups->of(*victim->group), within);
  return true;
}

std::string Kernel::dump() const {
  std::string out = absl::StrFormat("tasks %d, free pages %u of %u\n", pids.count(),
                                    mem->free_pages(), mem->total_pages());
  pids.each_task([&](Task& t) {
    const char* why = t.fiber != nullptr ? t.fiber->wait_reason() : nullptr;
    absl::StrAppendFormat(
        &out, "%6d %6d %-16s %s syscall %d (%#x, %#x, %#x) pending %#x blocked %#x\n", t.tid,
        t.tgid(), t.comm,
        t.in_user        ? "user"
        : why != nullptr ? why
                         : "kernel",
        t.syscall_nr, t.syscall_args[0], t.syscall_args[1], t.syscall_args[2],
        (t.pending.pending() | t.group->pending.pending()).bits(), t.blocked.bits());
  });
  reactor.each_fiber([&](Fiber& f) {
    if (f.interruptor() == nullptr)
      absl::StrAppend(&out, "fiber ", f.name(), " ", f.wait_reason() ? f.wait_reason() : "", "\n");
  });
  const auto& lines = log.lines();
  for (size_t i = lines.size() > 50 ? lines.size() - 50 : 0; i < lines.size(); ++i)
    absl::StrAppend(&out, lines[i].text, "\n");
  return out;
}

}  // namespace uk
