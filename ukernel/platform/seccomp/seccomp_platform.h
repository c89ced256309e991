// What notify and direct share: stubs whose guests' calls a seccomp filter stops, and a signal
// handler in the stub whose frame lies in memory shared with the kernel. Reports reach the kernel
// as seccomp notifications, and on direct through slots as well (door.h). No ptrace. Options say
// which platform it is; their packages register them. Needs Linux 5.0.
//
// Ownership: the kernel owns the platform, which outlives its spaces. new_space(), flush() and
// new_context() suspend. The reactor thread must be the one that forked the zygote: stubs die with
// it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/log.h"
#include "ukernel/platform/platform.h"
#include "ukernel/platform/registry.h"
#include "ukernel/platform/seccomp/door.h"
#include "ukernel/platform/seccomp/guest_thread.h"
#include "ukernel/platform/seccomp/listener.h"
#include "ukernel/platform/seccomp/thread.h"
#include "ukernel/platform/stub/stack_pages.h"
#include "ukernel/platform/stub/stub_space.h"
#include "ukernel/platform/stub/zygote.h"

namespace uk::seccomp {

struct Options {
  std::string_view name;
  uint32_t otherwise;   // what a guest's call meets: a SECCOMP_RET_ value
  const char* handler;  // the stub's, of signals
  bool slots;           // guest threads may report through slots
};

// True if the host allows what these platforms need; else why not.
Result<> probe(std::string* why_not);

class SeccompMmThread final : public stub::MmThread {
 public:
  SeccompMmThread(SeccompPlatform& platform, int pid, stub::CommandPage& page)
      : thread_(platform, pid, pid, Thread::Kind::kMm), page_(page) {}
  Result<stub::BatchResult> run_batch(Park& park) override;
  // Begins to execute one command that nobody waits for; finish() must come before the next batch.
  void begin(const stub::Command& c);
  // True if it is done, or nothing was begun.
  bool finished() const { return !begun_ || !thread_.running(); }
  // An error: kSRCH, or the command's.
  Result<> finish(Park& park);
  // The same of one that is done, without waiting. False: not now.
  bool take_finished();
  // Awaits the first "batch done" of a new stub.
  Result<> start(Park& park);
  Thread& thread() { return thread_; }

 private:
  bool batch_done() const;
  Result<stub::BatchResult> await_batch(Park& park);

  bool begun_ = false;
  Thread thread_;
  stub::CommandPage& page_;
};

// A host process with its threads: what a space runs in, and what is kept for the next one.
struct SeccompStub {
  SeccompStub(SeccompPlatform& platform, stub::Slot slot, int pid);
  ~SeccompStub();
  bool alive() { return mm.finished() ? mm.thread().waits() : !mm.thread().dead(); }
  // Unmaps what its last guest had, step by step, while nobody waits for it. False: there is
  // nothing to do, or a step is on its way.
  bool clean_on();
  // Its last guest's mappings are left for one of this line.
  bool left_for(const SpaceLine& line) const { return left && left->line == line; }
  // Nothing is mapped but the area.
  bool clean() const { return steps.empty() && mm.finished(); }
  // No thread executes guest code, nor will.
  bool quiet();
  // Waits a moment (blocking the host thread) for threads that are about to park.
  void settle();
  // Quiet, and every thread is ready for a new owner.
  bool ready();
  // For a new owner: no trace of the last one's stays on the signal stacks. False: a frame is not
  // as it must be.
  bool scrub();

  SeccompPlatform& platform;
  stub::Slot slot;
  int pid;
  SeccompMmThread mm;
  std::vector<stub::Command> steps;  // of the cleaning, the last one first
  // What a guest has left for the next one of its line.
  struct Left {
    SpaceLine line;
    Ref<RefCounted> pins;
    stub::Mappings mappings;
    bool late = false;  // nobody has come for some time
  };
  std::optional<Left> left;
  std::vector<std::unique_ptr<stub::Stack>> stacks;  // by place in the stub; outlive the threads
  std::vector<std::unique_ptr<GuestThread>> idle;    // threads without a context
};

class SeccompSpace final : public stub::StubSpace {
 public:
  SeccompSpace(SeccompPlatform& platform, std::unique_ptr<SeccompStub> stub, const SpaceLine& line);
  ~SeccompSpace() override;

  Result<std::unique_ptr<GuestContext>> new_context(Park& park, const arch::UserRegs& regs,
                                                    const arch::FpState& fp) override;
  int host_pid() const override { return stub_->pid; }
  void leave_mappings(Ref<RefCounted> pins) override { pins_ = std::move(pins); }
  std::vector<stub::Errand> take_errands() {
    return has_errands() ? StubSpace::take_errands() : std::vector<stub::Errand>();
  }
  using StubSpace::errands_over;

  void take_back(std::unique_ptr<GuestThread> guest);
  // The guest tampered with what only the stub's handler should do: it dies. Always an error.
  Result<> expel();

 private:
  bool has_errands() const override;
  Result<std::unique_ptr<GuestThread>> take_thread(Park& park);
  Result<std::unique_ptr<GuestThread>> new_thread(Park& park);

  SeccompPlatform& platform_;
  std::unique_ptr<SeccompStub> stub_;
  const SpaceLine line_;
  Ref<RefCounted> pins_;  // what is mapped is to be left
  bool expelled_ = false;
  uint32_t contexts_ = 0;
};

class SeccompPlatform final : public Platform, public EventSource {
 public:
  static Result<std::unique_ptr<Platform>> create(const Options& options, Reactor& reactor,
                                                  Log& log);
  ~SeccompPlatform() override;
  std::string_view name() const override { return options_.name; }
  uint64_t user_limit() const override { return zygote_->area; }
  uint64_t gate() const override { return gate_.enter; }
  Result<std::unique_ptr<GuestSpace>> new_space(Park& park, const SpaceLine& line) override;

  // EventSource: stubs that died or were stopped.
  bool collect() override;
  bool pending() const override { return true; }
  void wake_signals(sigset_t& set) const override { sigaddset(&set, SIGCHLD); }

  void let_go() override;
  bool ending() const { return ending_; }

  // A stub whose space is gone: kept for another, or killed. Those kept are cleaned while we spin
  // in vain, or a little later; one that is taken before that is cleaned by its first batch. What
  // was left for others of a line stays for longer.
  void retire(std::unique_ptr<SeccompStub> stub);
  Reactor& reactor() { return reactor_; }
  Listener& listener() { return *listener_; }
  stub::StackPages& stacks() { return stacks_; }
  const stub::Zygote& zygote() const { return *zygote_; }
  bool in_stub_area(uint64_t address) const {
    return address >= zygote_->area && address < zygote_->area + stub::kAreaBytes;
  }
  bool in_gate(uint64_t address) const { return address >= gate_.begin && address < gate_.end; }
  // Addresses in the gate (stub/layout.h).
  struct Gate {
    uint64_t begin = 0, enter = 0, known = 0, saving = 0, saved = 0, posted = 0, loaded = 0,
             end = 0;
  };
  const Gate& gate_places() const { return gate_; }
  // Guests can change their own bases; else only we do.
  bool fsgsbase() const { return fsgsbase_; }
  void enroll(Thread& t);
  void dismiss(Thread& t);
  void count_running(int change, Thread::Kind kind) {
    active_ += change;
    if (kind == Thread::Kind::kGuest) running_guests_ += change;
    if (kind == Thread::Kind::kMm) running_batches_ += change;
  }
  // Threads that may notify though they do not run: a held report may be parked, and a kick on its
  // way takes a thread out of the call it stands in, to its report.
  void count_expected(int change) { active_ += change; }
  const Options& options() const { return options_; }
  Door& door() { return door_; }
  stub::Placement& placement() { return placement_; }
  bool guests_run() const { return running_guests_ > 0; }
  // Before a thread is resumed. Returns Door::resumed() of a guest.
  uint64_t place(int tid, stub::Placement::Seat& seat, Thread::Kind kind) {
    const bool guest = kind == Thread::Kind::kGuest;
    placement_.before_resume(tid, seat, guest ? running_guests_ : 0, guest && door_.spins());
    return guest ? door_.resumed() : 0;
  }
  void kill_stub(int pid);
  // Blocks the host thread until the killed stub is dead.
  void reap_stub(int pid);

 private:
  SeccompPlatform(const Options& options, Reactor& reactor, Log& log);
  Result<> start_zygote();
  Result<> await_zygote();
  Result<std::unique_ptr<SeccompStub>> new_stub(Park& park);
  std::unique_ptr<SeccompStub> take_pooled(Park& park, const SpaceLine& line);
  void on_notification(const seccomp_notif& n);
  void on_death(int pid);
  bool clean_pool();
  void clean_late();

  const Options options_;
  Reactor& reactor_;
  Log& log_;
  stub::StackPages stacks_;
  std::unique_ptr<stub::Zygote> zygote_;
  sys::Fd listener_fd_;
  stub::Placement placement_;
  int active_ = 0;           // threads that may notify
  int running_guests_ = 0;   // of these, guest threads
  int running_batches_ = 0;  // and mm threads
  Door door_;
  std::unique_ptr<Listener> listener_;
  uint64_t report_ip_ = 0, park_ip_ = 0, gate_park_ip_ = 0;
  Gate gate_;  // empty without slots
  bool fsgsbase_ = false;
  std::unordered_map<int, Thread*> threads_;
  Thread* last_notified_ = nullptr;  // one of these; mostly it is the next one too
  // Notifications of threads that are not enrolled yet: a new one may call before its creator has
  // told its number.
  std::unordered_map<int, seccomp_notif> early_;
  std::unordered_set<int> killed_;  // stubs, until reaped
  std::unique_ptr<SeccompMmThread> zygote_mm_;
  bool zygote_ready_ = false;
  std::vector<std::unique_ptr<SeccompStub>> pool_;
  Timer clean_later_;
  bool ending_ = false;
};

}  // namespace uk::seccomp
