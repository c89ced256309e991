#include "ukernel/platform/ptrace/ptrace_platform.h"

#include <elf.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/check.h"
#include "hostio/sys/process.h"
#include "ukernel/platform/ptrace/ptrace_context.h"

namespace uk::ptrace {
namespace {

// The r13 that the mm loop leaves: commands not executed.
struct MmRegs : arch::UserRegs {
  uint32_t left() const { return static_cast<uint32_t>(r13); }
};

void nothing(int) {}

// SIGCHLD must have a handler, or the host discards it and it interrupts no sleep.
Result<> catch_sigchld() {
  struct sigaction sa = {};
  sa.sa_handler = nothing;
  sa.sa_flags = SA_RESTART;
  TRY(sys::sigaction(SIGCHLD, sa));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  TRY(sys::sigprocmask(SIG_BLOCK, set));
  return {};
}

}  // namespace

// --- mm thread ---

Result<> PtraceMmThread::run_to_stop(Park& park) {
  for (;;) {
    TRY(thread_.resume(PTRACE_CONT));
    if (!thread_.wait(park)) return Err(Errno::kSRCH);
    if (!thread_.at_event_stop() && thread_.stop_signal() == SIGTRAP) {
      siginfo_t info = {};
      TRY(thread_.call(PTRACE_GETSIGINFO, 0, &info));
      if (info.si_code == SI_KERNEL) return {};  // int3, not a SIGTRAP somebody sent
    }
  }
}

Result<stub::BatchResult> PtraceMmThread::run_batch(Park& park) {
  TRY(run_to_stop(park));
  MmRegs regs;
  TRY(thread_.call(PTRACE_GETREGS, 0, &regs));
  return stub::BatchResult{.left = regs.left(), .value = regs.rax};
}

// --- space ---

PtraceSpace::PtraceSpace(PtracePlatform& platform, stub::Slot slot, int pid)
    : StubSpace(std::move(slot), platform.user_limit()),
      platform_(platform),
      mm_(platform.tracer(), pid) {}

PtraceSpace::~PtraceSpace() {
  CHECK(contexts_ == 0);
  if (!gone()) platform_.tracer().kill_stub(host_pid());
}

Result<> PtraceSpace::start(Park& park) {
  if (!mm_.thread().wait(park)) return Err(Errno::kAGAIN);  // the stop every new tracee begins with
  return mm_.run_to_stop(park);
}

Result<std::unique_ptr<Tracee>> PtraceSpace::take_thread(Park& park) {
  while (!idle_.empty()) {
    std::unique_ptr<Tracee> t = std::move(idle_.back());
    idle_.pop_back();
    if (t->wait(park)) return t;
  }
  stub::Command clone = {.nr = SYS_clone,
                         .args = {CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                                  CLONE_SYSVSEM | CLONE_PTRACE},
                         .child = platform_.zygote().address(stub::uk_stub_thread_ptrace)};
  const uint64_t tid = TRY(mm_.command(park, page(), clone));
  auto t = std::make_unique<Tracee>(platform_.tracer(), static_cast<int>(tid));
  if (!t->wait(park)) return Err(Errno::kSRCH);
  return t;
}

Result<std::unique_ptr<GuestContext>> PtraceSpace::new_context(Park& park,
                                                               const arch::UserRegs& regs,
                                                               const arch::FpState& fp) {
  std::unique_ptr<Tracee> t = TRY(take_thread(park));
  TRY(store_fp(*t, fp));
  ++contexts_;
  return std::make_unique<PtraceContext>(*this, std::move(t), regs);
}

void PtraceSpace::take_back(std::unique_ptr<Tracee> thread) {
  --contexts_;
  if (thread->dead()) return;
  thread->interrupt();
  idle_.push_back(std::move(thread));
}

Result<> PtraceSpace::store_fp(Tracee& thread, const arch::FpState& fp) {
  arch::FpState safe = fp.empty() ? arch::initial_fp_state() : fp;
  arch::sanitize_fp_state(safe);
  struct iovec iov = {safe.data(), safe.size()};
  return thread.call(PTRACE_SETREGSET, NT_X86_XSTATE, &iov);
}

// --- platform ---

Result<std::unique_ptr<Platform>> PtracePlatform::create(Reactor& reactor, Log& log) {
  TRY(catch_sigchld());
  std::unique_ptr<PtracePlatform> p(new PtracePlatform(log));
  TRY(p->start_zygote());
  reactor.add_source(p->tracer_);
  return p;
}

Result<> PtracePlatform::start_zygote() {
  stub::Zygote::Options o = {
      .entry = stub::uk_stub_mm_ptrace,
      .otherwise = SECCOMP_RET_TRAP,
      .attach = [](int pid) -> Result<> {
        TRY(sys::ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD));
        return {};
      }};
  zygote_ = TRY(stub::Zygote::start(o));
  // No fiber runs yet: wait here for the zygote's first int3.
  for (;;) {
    int status = 0;
    auto r = sys::waitpid(zygote_->pid, &status, __WALL);
    if (!r && r.error() == Errno::kINTR) continue;
    TRY(r);
    if (!WIFSTOPPED(status)) {
      const int error = zygote_->report().error;
      return Err(error != 0 ? static_cast<Errno>(error) : Errno::kIO);
    }
    if (status >> 16 == 0 && WSTOPSIG(status) == SIGTRAP) break;
    if (status >> 16 == 0 && WSTOPSIG(status) == SIGSYS) {
      (void)sys::kill(zygote_->pid, SIGKILL);
      return Err(Errno::kPERM);
    }
    TRY(sys::ptrace(PTRACE_CONT, zygote_->pid, 0, 0));
  }
  zygote_->started();
  zygote_mm_ = std::make_unique<PtraceMmThread>(tracer_, zygote_->pid);
  zygote_mm_->thread().set_stopped();
  return {};
}

PtracePlatform::~PtracePlatform() {
  if (zygote_ != nullptr) tracer_.kill_stub(zygote_->pid);
  zygote_mm_.reset();
  tracer_.drain();
}

Result<std::unique_ptr<GuestSpace>> PtracePlatform::new_space(Park& park) {
  stub::Command clone;
  stub::Slot slot = TRY(zygote_->prepare_stub(CLONE_PTRACE, &clone));
  const uint64_t pid = TRY(zygote_mm_->command(park, zygote_->slot.page(), clone));
  auto space = std::make_unique<PtraceSpace>(*this, std::move(slot), static_cast<int>(pid));
  TRY(space->start(park));
  return std::unique_ptr<GuestSpace>(std::move(space));
}

// --- registration ---

void register_ptrace(PlatformRegistry& registry) {
  PlatformFactory f;
  f.name = "ptrace";
  f.preference = 10;
  f.probe = [](std::string*) -> Result<> { return {}; };
  f.create = &PtracePlatform::create;
  registry.add(std::move(f));
}

}  // namespace uk::ptrace
