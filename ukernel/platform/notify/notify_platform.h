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
      : thread_(platform, pid, pid), page_(page) {}
  Result<stub::BatchResult> run_batch(Park& park) override;
  // Awaits the first "batch done" of a new stub.
  Result<> start(Park& park);
  Thread& thread() { return thread_; }

 private:
  bool batch_done() const;

  Thread thread_;
  stub::CommandPage& page_;
};

class NotifySpace final : public stub::StubSpace {
 public:
  NotifySpace(NotifyPlatform& platform, stub::Slot slot, int pid);
  ~NotifySpace() override;

  Result<std::unique_ptr<GuestContext>> new_context(Park& park, const arch::UserRegs& regs,
                                                    const arch::FpState& fp) override;
  int host_pid() const override { return pid_; }

  Result<> start(Park& park) { return mm_.start(park); }
  void take_back(std::unique_ptr<GuestThread> guest);
  // The guest tampered with what only the stub's handler should do: it dies. Always an error.
  Result<> expel();

 private:
  stub::MmThread& mm() override { return mm_; }
  Result<std::unique_ptr<GuestThread>> take_thread(Park& park);
  Result<std::unique_ptr<GuestThread>> new_thread(Park& park);

  NotifyPlatform& platform_;
  int pid_;
  NotifyMmThread mm_;
  std::vector<std::unique_ptr<stub::Stack>> stacks_;  // by place in the stub; outlive the threads
  std::vector<std::unique_ptr<GuestThread>> idle_;
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
  void count_active(int change) { active_ += change; }
  void kill_stub(int pid);
  // Blocks the host thread until the killed stub is dead.
  void reap_stub(int pid);

 private:
  NotifyPlatform(Reactor& reactor, Log& log) : reactor_(reactor), log_(log) {}
  Result<> start_zygote();
  Result<> await_zygote();
  void on_notification(const seccomp_notif& n);
  void on_death(int pid);

  Reactor& reactor_;
  Log& log_;
  stub::StackPages stacks_;
  std::unique_ptr<stub::Zygote> zygote_;
  sys::Fd listener_fd_;
  int active_ = 0;  // threads that may notify
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
};

}  // namespace uk::notify
