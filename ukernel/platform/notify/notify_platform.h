// The notify platform: a seccomp filter turns every call of a guest into a notification to the
// kernel; signals (faults, kicks) enter a handler in the stub, whose frame lies in memory shared
// with the kernel. No ptrace, one wake-up each way. register_notify() is called from boot/. Needs
// Linux 5.0.
//
// Ownership: the kernel owns the platform, which outlives its spaces. new_space(), flush() and
// new_context() suspend. The reactor thread must be the one that forked the zygote: stubs die with
// it.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/log.h"
#include "ukernel/platform/notify/guest_thread.h"
#include "ukernel/platform/notify/listener.h"
#include "ukernel/platform/notify/notify_thread.h"
#include "ukernel/platform/platform.h"
#include "ukernel/platform/registry.h"
#include "ukernel/platform/stub/stack_pages.h"
#include "ukernel/platform/stub/stub_space.h"
#include "ukernel/platform/stub/zygote.h"

namespace uk::notify {

void register_notify(PlatformRegistry& registry);

class NotifyMmThread final : public stub::MmThread {
 public:
  NotifyMmThread(NotifyPlatform& platform, int pid, stub::CommandPage& page)
      : thread_(platform, pid, pid, Thread::Kind::kMm), page_(page) {}
  Result<stub::BatchResult> run_batch(Park& park) override;
  // Awaits the first "batch done" of a new stub.
  Result<> start(Park& park);
  Thread& thread() { return thread_; }

 private:
  bool batch_done() const;

  Thread thread_;
  stub::CommandPage& page_;
};

// A host process with its threads: what a space runs in, and what is kept for the next one.
struct NotifyStub {
  NotifyStub(NotifyPlatform& platform, stub::Slot slot, int pid);
  ~NotifyStub();
  bool alive() { return mm.thread().waits(); }
  // No thread executes guest code, nor will.
  bool quiet();
  // Quiet, and every thread is ready for a new owner.
  bool ready();
  // For a new owner: no trace of the last one's stays on the signal stacks. False: a frame is not
  // as it must be.
  bool scrub();

  NotifyPlatform& platform;
  stub::Slot slot;
  int pid;
  NotifyMmThread mm;
  std::vector<std::unique_ptr<stub::Stack>> stacks;  // by place in the stub; outlive the threads
  std::vector<std::unique_ptr<GuestThread>> idle;    // threads without a context
};

class NotifySpace final : public stub::StubSpace {
 public:
  NotifySpace(NotifyPlatform& platform, std::unique_ptr<NotifyStub> stub);
  ~NotifySpace() override;

  Result<std::unique_ptr<GuestContext>> new_context(Park& park, const arch::UserRegs& regs,
                                                    const arch::FpState& fp) override;
  int host_pid() const override { return stub_->pid; }

  void take_back(std::unique_ptr<GuestThread> guest);
  // The guest tampered with what only the stub's handler should do: it dies. Always an error.
  Result<> expel();

 private:
  Result<std::unique_ptr<GuestThread>> take_thread(Park& park);
  Result<std::unique_ptr<GuestThread>> new_thread(Park& park);

  NotifyPlatform& platform_;
  std::unique_ptr<NotifyStub> stub_;
  bool expelled_ = false;
  uint32_t contexts_ = 0;
};

class NotifyPlatform final : public Platform, public EventSource {
 public:
  static Result<std::unique_ptr<Platform>> create(Reactor& reactor, Log& log);
  ~NotifyPlatform() override;
  std::string_view name() const override { return "notify"; }
  uint64_t user_limit() const override { return zygote_->area; }
  Result<std::unique_ptr<GuestSpace>> new_space(Park& park) override;

  // EventSource: stubs that died or were stopped.
  bool collect() override;
  bool pending() const override { return true; }
  void wake_signals(sigset_t& set) const override { sigaddset(&set, SIGCHLD); }

  // A stub whose space is gone: kept for another, or killed.
  void retire(std::unique_ptr<NotifyStub> stub);
  Reactor& reactor() { return reactor_; }
  Listener& listener() { return *listener_; }
  stub::StackPages& stacks() { return stacks_; }
  const stub::Zygote& zygote() const { return *zygote_; }
  bool in_stub_area(uint64_t address) const {
    return address >= zygote_->area && address < zygote_->area + stub::kAreaBytes;
  }
  // Guests can change their own bases; else only we do.
  bool fsgsbase() const { return fsgsbase_; }
  void enroll(Thread& t);
  void dismiss(Thread& t);
  void count_running(int change, bool guest) {
    active_ += change;
    if (guest) running_guests_ += change;
  }
  stub::Placement& placement() { return placement_; }
  // Before a thread is resumed.
  void place(int tid, stub::Placement::Seat& seat, bool guest) {
    placement_.before_resume(tid, seat, guest ? running_guests_ : 0);
  }
  void kill_stub(int pid);
  // Blocks the host thread until the killed stub is dead.
  void reap_stub(int pid);

 private:
  NotifyPlatform(Reactor& reactor, Log& log)
      : reactor_(reactor), log_(log), placement_(reactor.clock()) {}
  Result<> start_zygote();
  Result<> await_zygote();
  Result<std::unique_ptr<NotifyStub>> new_stub(Park& park);
  std::unique_ptr<NotifyStub> take_pooled();
  void on_notification(const seccomp_notif& n);
  void on_death(int pid);

  Reactor& reactor_;
  Log& log_;
  stub::StackPages stacks_;
  std::unique_ptr<stub::Zygote> zygote_;
  sys::Fd listener_fd_;
  stub::Placement placement_;
  int active_ = 0;          // threads that may notify
  int running_guests_ = 0;  // of these, guest threads
  std::unique_ptr<Listener> listener_;
  uint64_t report_ip_ = 0;
  bool fsgsbase_ = false;
  std::unordered_map<int, Thread*> threads_;
  // Notifications of threads that are not enrolled yet: a new one may call before its creator has
  // told its number.
  std::unordered_map<int, seccomp_notif> early_;
  std::unordered_set<int> killed_;  // stubs, until reaped
  std::unique_ptr<NotifyMmThread> zygote_mm_;
  bool zygote_ready_ = false;
  std::vector<std::unique_ptr<NotifyStub>> pool_;
};

}  // namespace uk::notify
