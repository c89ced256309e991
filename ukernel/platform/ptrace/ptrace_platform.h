// The ptrace platform: stubs traced by the reactor thread. Needs nothing of the host but ptrace of
// its own children and seccomp filters; works in containers and under Yama. register_ptrace() is
// called from boot/.
//
// Ownership: the kernel owns the platform, which outlives its spaces. new_space(), flush() and
// new_context() suspend.
#pragma once

#include <memory>
#include <vector>

#include "base/log.h"
#include "ukernel/platform/platform.h"
#include "ukernel/platform/ptrace/tracer.h"
#include "ukernel/platform/registry.h"
#include "ukernel/platform/stub/stub_space.h"
#include "ukernel/platform/stub/zygote.h"
#include "ukernel/sched/wait_queue.h"

namespace uk::ptrace {

void register_ptrace(PlatformRegistry& registry);

class PtracePlatform;

// An mm thread (a stub's or the zygote's): a stop by int3 means that it waits for a batch.
class PtraceMmThread final : public stub::MmThread {
 public:
  PtraceMmThread(Tracer& tracer, int tid) : thread_(tracer, tid, Tracee::Kind::kMm) {}
  Result<stub::BatchResult> run_batch(Park& park) override;
  // Resumes until the next int3.
  Result<> run_to_stop(Park& park);
  Tracee& thread() { return thread_; }

 private:
  Tracee thread_;
};

// A host process with its threads: what a space runs in, and what is kept for the next one.
struct PtraceStub {
  PtraceStub(PtracePlatform& platform, stub::Slot slot, int pid);
  ~PtraceStub();
  bool reusable();

  PtracePlatform& platform;
  stub::Slot slot;
  PtraceMmThread mm;
  std::vector<std::unique_ptr<Tracee>> idle;  // threads without a context
};

class PtraceSpace final : public stub::StubSpace {
 public:
  PtraceSpace(PtracePlatform& platform, std::unique_ptr<PtraceStub> stub);
  ~PtraceSpace() override;

  Result<std::unique_ptr<GuestContext>> new_context(Park& park, const arch::UserRegs& regs,
                                                    const arch::FpState& fp) override;
  int host_pid() const override { return stub_->mm.thread().tid(); }

  // A context is done with its thread, which may still run.
  void take_back(std::unique_ptr<Tracee> thread);
  Result<> store_fp(Tracee& thread, const arch::FpState& fp);

 private:
  Result<std::unique_ptr<Tracee>> take_thread(Park& park);

  PtracePlatform& platform_;
  std::unique_ptr<PtraceStub> stub_;
  uint32_t contexts_ = 0;
};

class PtracePlatform final : public Platform {
 public:
  static Result<std::unique_ptr<Platform>> create(Reactor& reactor, Log& log);
  ~PtracePlatform() override;
  std::string_view name() const override { return "ptrace"; }
  uint64_t user_limit() const override { return zygote_->area; }
  Result<std::unique_ptr<GuestSpace>> new_space(Park& park, const SpaceLine& line) override;

  // A stub whose space is gone: kept for another, or killed.
  void retire(std::unique_ptr<PtraceStub> stub);
  Tracer& tracer() { return tracer_; }
  const stub::Zygote& zygote() const { return *zygote_; }

 private:
  PtracePlatform(Reactor& reactor, Log& log) : log_(log), tracer_(reactor) {}
  Result<> start_zygote();
  Result<std::unique_ptr<PtraceStub>> new_stub(Park& park);

  Log& log_;
  Tracer tracer_;
  std::unique_ptr<stub::Zygote> zygote_;
  std::unique_ptr<PtraceMmThread> zygote_mm_;
  std::vector<std::unique_ptr<PtraceStub>> pool_;
};

}  // namespace uk::ptrace
