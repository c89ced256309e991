#include "ukernel/platform/ptrace/ptrace_platform.h"

#include <elf.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>

#include "base/check.h"
#include "hostio/sys/process.h"
#include "ukernel/platform/ptrace/ptrace_context.h"
#include "ukernel/platform/stub/probe.h"

namespace uk::ptrace {
namespace {

// The r13 that the mm loop leaves: commands not executed.
struct MmRegs : arch::UserRegs {
  uint32_t left() const { return static_cast<uint32_t>(r13); }
};

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

// --- stub ---

PtraceStub::PtraceStub(PtracePlatform& p, stub::Slot s, int pid)
    : platform(p), slot(std::move(s)), mm(p.tracer(), pid) {}

PtraceStub::~PtraceStub() {
  if (mm.thread().dead()) return;
  // A thread that runs could go on for a moment, in memory that is about to have a new owner.
  const bool runs = std::ranges::any_of(idle, [](const auto& t) { return t->running(); });
  platform.tracer().kill_stub(mm.thread().tid());
  if (runs) platform.tracer().drain();
}

bool PtraceStub::reusable() {
  if (mm.thread().dead() || mm.thread().running() || idle.size() > stub::kMaxRecycledThreads)
    return false;
  if (std::ranges::any_of(idle, [](const auto& t) { return t->running() || t->dead(); }))
    return false;
  siginfo_t info;
  return mm.thread()
      .call(PTRACE_GETSIGINFO, 0, &info)
      .has_value();  // somebody may have killed it unnoticed
}

// --- space ---

PtraceSpace::PtraceSpace(PtracePlatform& platform, std::unique_ptr<PtraceStub> stub)
    : StubSpace(stub->slot.page(), stub->mm, platform.user_limit()),
      platform_(platform),
      stub_(std::move(stub)) {}

PtraceSpace::~PtraceSpace() {
  CHECK(contexts_ == 0);
  if (!broken()) platform_.retire(std::move(stub_));
}

Result<std::unique_ptr<Tracee>> PtraceSpace::take_thread(Park& park) {
  while (!stub_->idle.empty()) {
    std::unique_ptr<Tracee> t = std::move(stub_->idle.back());
    stub_->idle.pop_back();
    if (t->wait(park)) return t;
  }
  stub::Command clone = {.nr = SYS_clone,
                         .args = {CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                                  CLONE_SYSVSEM | CLONE_PTRACE},
                         .child = platform_.zygote().address(stub::uk_stub_thread_ptrace)};
  const uint64_t tid = TRY(mm().command(park, page(), clone));
  auto t =
      std::make_unique<Tracee>(platform_.tracer(), static_cast<int>(tid), Tracee::Kind::kGuest);
  if (!t->wait(park)) return Err(Errno::kSRCH);
  return t;
}

Result<std::unique_ptr<GuestContext>> PtraceSpace::new_context(Park& park,
                                                               const arch::UserRegs& regs,
                                                               const arch::FpState& fp) {
  std::unique_ptr<Tracee> t = TRY(take_thread(park));
  TRY(store_fp(*t, fp));
  TRY(t->set_breakpoints({}));
  ++contexts_;
  return std::make_unique<PtraceContext>(*this, std::move(t), regs);
}

void PtraceSpace::take_back(std::unique_ptr<Tracee> thread) {
  --contexts_;
  if (thread->dead()) return;
  thread->interrupt();
  stub_->idle.push_back(std::move(thread));
}

Result<> PtraceSpace::store_fp(Tracee& thread, const arch::FpState& fp) {
  arch::FpState safe = fp.empty() ? arch::initial_fp_state() : fp;
  arch::sanitize_fp_state(safe);
  safe.resize(std::max(safe.size(), arch::host_xsave_bytes()));  // the host takes all or nothing
  struct iovec iov = {safe.data(), safe.size()};
  return thread.call(PTRACE_SETREGSET, NT_X86_XSTATE, &iov);
}

// --- platform ---

Result<std::unique_ptr<Platform>> PtracePlatform::create(Reactor& reactor, Log& log) {
  std::unique_ptr<PtracePlatform> p(new PtracePlatform(reactor, log));
  TRY(p->start_zygote());
  reactor.add_source(p->tracer_);
  return p;
}

Result<> PtracePlatform::start_zygote() {
  stub::Zygote::Options o = {
      .entry = stub::uk_stub_mm_ptrace,
      .otherwise = SECCOMP_RET_TRAP,
      .report = SECCOMP_RET_TRAP,
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
  pool_.clear();
  if (zygote_ != nullptr) tracer_.kill_stub(zygote_->pid);
  zygote_mm_.reset();
  tracer_.drain();
}

Result<std::unique_ptr<PtraceStub>> PtracePlatform::new_stub(Park& park) {
  stub::Command clone;
  stub::Slot slot = TRY(zygote_->prepare_stub(CLONE_PTRACE, &clone));
  const uint64_t pid = TRY(zygote_mm_->command(park, zygote_->slot.page(), clone));
  auto stub = std::make_unique<PtraceStub>(*this, std::move(slot), static_cast<int>(pid));
  if (!stub->mm.thread().wait(park))
    return Err(Errno::kAGAIN);  // the stop every new tracee begins with
  TRY(stub->mm.run_to_stop(park));
  return stub;
}

Result<std::unique_ptr<GuestSpace>> PtracePlatform::new_space(Park& park, const SpaceLine&) {
  while (!pool_.empty()) {
    std::unique_ptr<PtraceStub> stub = std::move(pool_.back());
    pool_.pop_back();
    if (!stub->reusable()) continue;
    auto space = std::make_unique<PtraceSpace>(*this, std::move(stub));
    space->unmap_all();  // of its last guest; takes effect with the new one's first changes, before
                         // anything runs
    return std::unique_ptr<GuestSpace>(std::move(space));
  }
  return std::make_unique<PtraceSpace>(*this, TRY(new_stub(park)));
}

void PtracePlatform::retire(std::unique_ptr<PtraceStub> stub) {
  if (pool_.size() < stub::kMaxRecycledStubs && stub->reusable()) pool_.push_back(std::move(stub));
}

// --- registration ---

void register_ptrace(PlatformRegistry& registry) {
  PlatformFactory f;
  f.name = "ptrace";
  f.preference = 10;
  f.probe = [](std::string* why_not) -> Result<> {
    Result<> r = stub::try_in_child(
        [](int pid) -> Result<> {
          TRY(sys::ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_EXITKILL));
          return {};
        },
        []() -> Result<> { return {}; });
    if (!r && why_not != nullptr) {
      *why_not = "the host forbids tracing a child: ptrace: " + std::string(errno_text(r.error()));
    }
    return r;
  };
  f.create = &PtracePlatform::create;
  registry.add(std::move(f));
}

}  // namespace uk::ptrace
