#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>

#include "base/check.h"
#include "ukernel/platform/seccomp/context.h"
#include "ukernel/platform/seccomp/seccomp_platform.h"

namespace uk::seccomp {

// --- mm thread ---

bool SeccompMmThread::batch_done() const {
  const seccomp_data& c = thread_.call();
  return c.nr == UK_NR_BATCH_DONE && c.args[2] == page_.seq;
}

Result<> SeccompMmThread::start(Park& park) {
  if (!thread_.wait(park)) return Err(Errno::kAGAIN);
  return {};
}

Result<stub::BatchResult> SeccompMmThread::run_batch(Park& park) {
  ++page_.seq;
  bool lost;
  TRY(thread_.answer(0, &lost));
  return await_batch(park);
}

Result<stub::BatchResult> SeccompMmThread::await_batch(Park& park) {
  if (!thread_.wait(park)) return Err(Errno::kSRCH);
  // Repeated while it reports an earlier batch: a stop by the host's user can make an answer be
  // lost.
  while (!batch_done()) {
    bool lost;
    TRY(thread_.answer(0, &lost));
    if (!thread_.wait(park)) return Err(Errno::kSRCH);
  }
  return stub::BatchResult{.left = static_cast<uint32_t>(thread_.call().args[1]),
                           .value = thread_.call().args[0]};
}

void SeccompMmThread::begin(const stub::Command& c) {
  begun_ = true;
  page_.commands[0] = c;
  page_.count = 1;
  ++page_.seq;
  bool lost;
  (void)thread_.answer(0, &lost);  // finish() sees what has become of it
}

Result<> SeccompMmThread::finish(Park& park) {
  if (!begun_) return {};
  const stub::BatchResult r = TRY(await_batch(park));
  begun_ = false;
  return r.left == 0 ? Result<>() : Err(static_cast<Errno>(-static_cast<int64_t>(r.value)));
}

bool SeccompMmThread::take_finished() {
  if (!begun_) return true;
  if (!thread_.waits() || !batch_done() || thread_.call().args[1] != 0) return false;
  begun_ = false;
  return true;
}

// --- stub ---

SeccompStub::SeccompStub(SeccompPlatform& p, stub::Slot s, int process)
    : platform(p), slot(std::move(s)), pid(process), mm(p, process, slot.page()) {}

SeccompStub::~SeccompStub() {
  if (mm.thread().dead()) return;
  // Threads that stand in a notification die there. One that runs could go on for a moment, in
  // memory that is about to have a new owner.
  const bool runs = !quiet();
  platform.kill_stub(pid);
  if (runs) platform.reap_stub(pid);
}

bool SeccompStub::quiet() {
  return !mm.thread().running() &&
         std::ranges::all_of(idle, [](const auto& g) { return g->thread().parked(); });
}

bool SeccompStub::clean_on() {
  if (steps.empty() || !mm.take_finished()) return false;
  left.reset();
  mm.begin(steps.back());
  steps.pop_back();
  return true;
}

void SeccompStub::settle() {
  constexpr uint64_t kAtMostNs = 200'000;
  auto parking = [&] {
    return std::ranges::any_of(idle, [](const auto& g) { return g->thread().held(); });
  };
  if (!parking()) return;
  for (const auto& g : idle) g->thread().tell_to_park();
  const uint64_t end = platform.reactor().now_ns() + kAtMostNs;
  while (parking() && platform.reactor().now_ns() < end) platform.listener().sweep();
}

bool SeccompStub::ready() {
  return std::ranges::all_of(idle, [](const auto& g) {
    return g->thread().state() == Thread::State::kReport && !g->thread().held() &&
           !g->thread().interrupt_pending() && g->frame_ok();
  });
}

bool SeccompStub::scrub() {
  return std::ranges::all_of(idle, [](const auto& g) { return g->scrub(); });
}

// --- space ---

SeccompSpace::SeccompSpace(SeccompPlatform& platform, std::unique_ptr<SeccompStub> stub,
                           const SpaceLine& line)
    : StubSpace(stub->slot.page(), stub->mm, platform.user_limit()),
      platform_(platform),
      stub_(std::move(stub)),
      line_(line) {
  if (line && stub_->left_for(line)) {
    start_with(std::move(stub_->left->mappings));
  } else if (!stub_->clean()) {
    unmap_all();
  }
  stub_->left.reset();
  stub_->steps.clear();
}

SeccompSpace::~SeccompSpace() {
  CHECK(contexts_ == 0);
  if (broken() || expelled_) return;
  stub::Mappings mappings = take_account();
  if (mappings.lost()) {
    stub_->steps = {{.nr = SYS_munmap, .args = {0, platform_.user_limit()}}};
  } else {
    stub_->steps = mappings.clear_in_steps();
    if (pins_ && !platform_.ending()) stub_->left = {line_, std::move(pins_), std::move(mappings)};
  }
  platform_.retire(std::move(stub_));
}

bool SeccompSpace::has_errands() const { return platform_.options().slots && contexts_ == 1; }

Result<> SeccompSpace::expel() {
  expelled_ = true;
  platform_.kill_stub(stub_->pid);
  return Err(Errno::kSRCH);
}

Result<std::unique_ptr<GuestThread>> SeccompSpace::new_thread(Park& park) {
  // Two threads of the guest may make one each at the same time: a place is one's only under the
  // lock.
  MutexLock hold(park, mm().lock());
  const size_t place = stub_->stacks.size();
  if (place == stub::kMaxThreads) return Err(Errno::kAGAIN);
  auto stack = std::make_unique<stub::Stack>(platform_.stacks(), TRY(platform_.stacks().take()));
  const uint64_t address = platform_.user_limit() + stub::kStacksOffset + place * stub::kStackBytes;
  const uint64_t uc = GuestThread::prepare(*stack, address);

  stub::CommandPage& p = page();
  p.commands[0] = {
      .nr = SYS_mmap,
      .args = {address, stub::kStackBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
               static_cast<uint64_t>(platform_.stacks().fd()), stack->offset()}};
  p.commands[1] = {
      .nr = SYS_clone,
      .args = {CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, 0,
               0, 0, 0, uc},
      .child = platform_.zygote().address(stub::uk_stub_thread_notify)};
  p.count = 2;
  stub::BatchResult r = TRY(mm().run_batch(park));
  if (r.left != 0) return Err(static_cast<Errno>(-static_cast<int64_t>(r.value)));
  stub_->stacks.push_back(std::move(stack));
  return std::make_unique<GuestThread>(platform_, stub_->pid, static_cast<int>(r.value),
                                       *stub_->stacks.back(), address);
}

Result<std::unique_ptr<GuestThread>> SeccompSpace::take_thread(Park& park) {
  std::unique_ptr<GuestThread> g;
  if (stub_->idle.empty()) {
    g = TRY(new_thread(park));
  } else {
    g = std::move(stub_->idle.back());
    stub_->idle.pop_back();
  }
  if (!g->thread().wait(park)) return Err(Errno::kSRCH);
  if (g->thread().state() != Thread::State::kReport || !g->frame_ok()) TRY(expel());
  TRY(g->set_breakpoints({}));
  return g;
}

Result<std::unique_ptr<GuestContext>> SeccompSpace::new_context(Park& park,
                                                                const arch::UserRegs& regs,
                                                                const arch::FpState& fp) {
  std::unique_ptr<GuestThread> g = TRY(take_thread(park));
  ++contexts_;
  return std::make_unique<SeccompContext>(*this, std::move(g), regs, fp);
}

void SeccompSpace::take_back(std::unique_ptr<GuestThread> guest) {
  --contexts_;
  if (guest->thread().dead()) return;
  guest->thread().abandon();
  // The last one: most likely the stub will be recycled, once all of its threads stand still.
  if (contexts_ == 0) guest->thread().tell_to_park();
  stub_->idle.push_back(std::move(guest));
}

}  // namespace uk::seccomp
