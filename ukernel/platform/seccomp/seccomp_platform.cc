#include "ukernel/platform/seccomp/seccomp_platform.h"

#include <linux/filter.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>

#include "base/check.h"
#include "hostio/sys/event.h"
#include "hostio/sys/process.h"
#include "ukernel/platform/stub/probe.h"

namespace uk::seccomp {
namespace {

constexpr int64_t kBootCheckNs = 20'000'000;
constexpr uint64_t kCleanAfterNs = 100'000'000;
constexpr uint64_t kNextStepNs = 2'000'000;

}  // namespace

SeccompPlatform::SeccompPlatform(const Options& options, Reactor& reactor, Log& log)
    : options_(options),
      reactor_(reactor),
      log_(log),
      placement_(reactor.clock()),
      door_(reactor.clock(), reactor.timers(), sys::usable_cpus(), running_guests_,
            running_batches_, [this] { return clean_pool(); }),
      clean_later_(reactor.timers(), [this] { clean_late(); }) {}

Result<std::unique_ptr<Platform>> SeccompPlatform::create(const Options& options, Reactor& reactor,
                                                          Log& log) {
  std::unique_ptr<SeccompPlatform> p(new SeccompPlatform(options, reactor, log));
  p->stacks_ = TRY(stub::StackPages::create());
  TRY(p->start_zygote());
  reactor.add_source(*p);
  if (!options.slots) return p;
  p->door_.open(p->zygote_->published());
  reactor.add_source(p->door_);
  return p;
}

Result<> SeccompPlatform::start_zygote() {
  stub::Zygote::Options o = {
      .entry = stub::uk_stub_mm_notify,
      .otherwise = options_.otherwise,
      .report = SECCOMP_RET_USER_NOTIF,
      .filter_flags = SECCOMP_FILTER_FLAG_NEW_LISTENER,
      .handler = options_.handler,
      .errands = options_.slots,
      .handled = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, kKickSignal},
      .attach = [this](int pid) -> Result<> {
        // Guests that share a CPU while the reactor spins take turns when one of them waits. That
        // the one woken takes the CPU from the other costs more: an interrupt to another CPU each
        // time. Those of this policy do not. A host that forbids it does without.
        if (options_.slots) (void)sys::sched_setscheduler(pid, SCHED_BATCH);
        return {};
      }};
  zygote_ = TRY(stub::Zygote::start(o));
  fsgsbase_ = stub::has_fsgsbase();
  report_ip_ = zygote_->address(stub::uk_stub_report_ip);
  park_ip_ = zygote_->address(stub::uk_stub_park_ip);
  gate_park_ip_ = zygote_->address(stub::uk_stub_gate_park_ip);
  if (options_.slots) {
    gate_ = {.begin = zygote_->address(stub::uk_stub_gate_begin),
             .enter = zygote_->address(stub::uk_stub_gate),
             .known = zygote_->address(stub::uk_stub_gate_known),
             .saving = zygote_->address(stub::uk_stub_gate_saving),
             .saved = zygote_->address(stub::uk_stub_gate_saved),
             .posted = zygote_->address(stub::uk_stub_gate_posted),
             .loaded = zygote_->address(stub::uk_stub_gate_loaded),
             .end = zygote_->address(stub::uk_stub_gate_end)};
  }
  TRY(await_zygote());
  // The table of descriptors is shared: the listener that the child opened is ours too.
  listener_fd_ = sys::Fd(zygote_->report().listener);
  zygote_->started();
  listener_ = std::make_unique<Listener>(reactor_.ring(), listener_fd_.get(), active_,
                                         [this](const seccomp_notif& n) { on_notification(n); });
  TRY(listener_->start());
  zygote_mm_ = std::make_unique<SeccompMmThread>(*this, zygote_->pid, zygote_->slot.page());
  return {};
}

// Until its filter is in force; no fiber runs yet.
Result<> SeccompPlatform::await_zygote() {
  const uint32_t* ready = &zygote_->report().ready;
  while (__atomic_load_n(ready, __ATOMIC_ACQUIRE) == 0) {
    int status;
    if (auto r = sys::waitpid(zygote_->pid, &status, WNOHANG); !r || *r != 0) {
      const int error = zygote_->report().error;
      return Err(error != 0 ? static_cast<Errno>(error) : Errno::kIO);
    }
    (void)sys::futex_wait(ready, 0, kBootCheckNs, true);
  }
  return {};
}

SeccompPlatform::~SeccompPlatform() {
  clean_later_.cancel();
  pool_.clear();
  if (zygote_ != nullptr) kill_stub(zygote_->pid);
  zygote_mm_.reset();
  while (!killed_.empty()) reap_stub(*killed_.begin());
}

Result<std::unique_ptr<SeccompStub>> SeccompPlatform::new_stub(Park& park) {
  if (!zygote_ready_) {
    TRY(zygote_mm_->start(park));
    zygote_ready_ = true;
  }
  stub::Command clone;
  stub::Slot slot = TRY(zygote_->prepare_stub(0, &clone));
  const uint64_t pid = TRY(zygote_mm_->command(park, zygote_->slot.page(), clone));
  auto stub = std::make_unique<SeccompStub>(*this, std::move(slot), static_cast<int>(pid));
  TRY(stub->mm.start(park));
  return stub;
}

// One that was left for this line; or a clean one if there is one, the last used first. Else a new
// one is made as long as there are few. Then one of which nothing is being done.
std::unique_ptr<SeccompStub> SeccompPlatform::take_pooled(Park& park, const SpaceLine& line) {
  for (;;) {
    auto usable = [](const auto& stub) { return stub->alive() && stub->ready(); };
    auto alike = [&](const auto& stub) { return stub->left_for(line) && usable(stub); };
    auto clean = [&](const auto& stub) { return stub->clean() && usable(stub); };
    auto idle = [&](const auto& stub) {
      return stub->mm.finished() && !stub->left && usable(stub);
    };
    auto at = pool_.rend();
    if (line) at = std::find_if(pool_.rbegin(), pool_.rend(), alike);
    if (at == pool_.rend()) at = std::find_if(pool_.rbegin(), pool_.rend(), clean);
    const auto others = std::ranges::count_if(pool_, [](const auto& s) { return !s->left; });
    if (at == pool_.rend() && static_cast<size_t>(others) < stub::kStubsInTurn) return nullptr;
    if (at == pool_.rend()) at = std::find_if(pool_.rbegin(), pool_.rend(), idle);
    if (at == pool_.rend()) at = std::find_if(pool_.rbegin(), pool_.rend(), usable);
    if (at == pool_.rend()) return nullptr;
    std::unique_ptr<SeccompStub> stub = std::move(*at);
    pool_.erase(std::prev(at.base()));
    if (stub->mm.finish(park) && stub->scrub()) return stub;
  }
}

Result<std::unique_ptr<GuestSpace>> SeccompPlatform::new_space(Park& park, const SpaceLine& line) {
  std::erase_if(pool_, [](const auto& stub) { return !stub->alive(); });
  std::unique_ptr<SeccompStub> stub = take_pooled(park, line);
  if (stub == nullptr) stub = TRY(new_stub(park));
  return std::unique_ptr<GuestSpace>(std::make_unique<SeccompSpace>(*this, std::move(stub), line));
}

void SeccompPlatform::retire(std::unique_ptr<SeccompStub> stub) {
  stub->settle();
  const bool keep =
      pool_.size() < stub::kMaxRecycledStubs && stub->idle.size() == stub->stacks.size() &&
      stub->idle.size() <= stub::kMaxRecycledThreads && stub->alive() && stub->quiet();
  if (!keep) return;
  pool_.push_back(std::move(stub));
  if (!clean_later_.armed()) clean_later_.arm({reactor_.now_ns() + kCleanAfterNs});
}

// One step. False: all are clean, or being cleaned, or left for somebody.
bool SeccompPlatform::clean_pool() {
  return std::ranges::any_of(pool_, [](const auto& stub) {
    return (!stub->left || stub->left->late) && stub->clean_on();
  });
}

void SeccompPlatform::clean_late() {
  while (clean_pool()) {
  }
  bool steps = false, left = false;
  for (const auto& stub : pool_) {
    if (!stub->left || stub->left->late) {
      steps |= !stub->steps.empty();
    } else {
      left = stub->left->late = true;
    }
  }
  if (steps || left) clean_later_.arm({reactor_.now_ns() + (steps ? kNextStepNs : kCleanAfterNs)});
}

void SeccompPlatform::let_go() {
  ending_ = true;
  for (const auto& stub : pool_) stub->left.reset();
}

void SeccompPlatform::enroll(Thread& t) {
  auto [it, added] = threads_.emplace(t.tid(), &t);
  CHECK(added);
  if (!early_.contains(t.tid())) listener_->sweep();  // it may have called already, unannounced
  auto early = early_.find(t.tid());
  if (early == early_.end()) return;
  const seccomp_notif n = early->second;
  early_.erase(early);
  on_notification(n);
}

void SeccompPlatform::dismiss(Thread& t) {
  if (last_notified_ == &t) last_notified_ = nullptr;
  auto it = threads_.find(t.tid());
  if (it != threads_.end() && it->second == &t) threads_.erase(it);
}

void SeccompPlatform::on_notification(const seccomp_notif& n) {
  const int tid = static_cast<int>(n.pid);
  if (last_notified_ == nullptr || last_notified_->tid() != tid) {
    auto it = threads_.find(tid);
    if (it == threads_.end()) {
      early_[tid] = n;
      return;
    }
    last_notified_ = it->second;
  }
  const uint64_t ip = n.data.instruction_pointer;
  const bool parks = options_.slots && n.data.nr == UK_NR_PARK;
  Thread::Notice what = Thread::Notice::kCall;
  if (ip == report_ip_ && n.data.nr == UK_NR_REPORT) what = Thread::Notice::kReport;
  if (ip == park_ip_ && parks) what = Thread::Notice::kPark;
  if (ip == gate_park_ip_ && parks) what = Thread::Notice::kGatePark;
  last_notified_->on_notification(n, what);
}

bool SeccompPlatform::collect() {
  bool any = false;
  for (;;) {
    int status;
    auto pid = sys::waitpid(-1, &status, WNOHANG | WUNTRACED);
    if (!pid || *pid == 0) return any;
    if (WIFSTOPPED(status)) {
      (void)sys::kill(
          *pid, SIGCONT);  // the host's user stopped a stub: stopping guests is not done this way
    } else {
      on_death(*pid);
    }
    any = true;
  }
}

void SeccompPlatform::on_death(int pid) {
  const bool by_us = killed_.erase(pid) != 0;
  std::vector<Thread*> dead;
  for (auto& [tid, t] : threads_)
    if (t->tgid() == pid) dead.push_back(t);
  for (Thread* t : dead) {
    threads_.erase(t->tid());  // the host may give the number to another
    if (last_notified_ == t) last_notified_ = nullptr;
    t->on_death();
  }
  std::erase_if(early_, [pid](const auto& e) { return e.first == pid; });
  if (zygote_ != nullptr && pid == zygote_->pid && !by_us)
    log_.err(std::string(options_.name) + ": the zygote died; no new address spaces can be made");
}

void SeccompPlatform::kill_stub(int pid) {
  if (sys::kill(pid, SIGKILL)) killed_.insert(pid);
}

void SeccompPlatform::reap_stub(int pid) {
  int status;
  for (;;) {
    auto r = sys::waitpid(pid, &status, 0);
    if (!r && r.error() == Errno::kINTR) continue;
    return on_death(pid);  // or ECHILD: somebody else reaped it
  }
}

Result<> probe(std::string* why_not) {
  // One listener is all a process may have among its filters: it must be ours.
  Result<> r = stub::try_in_child(
      [](int) -> Result<> { return {}; },
      []() -> Result<> {
        sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
        sock_fprog prog = {.len = 1, .filter = code};
        TRY(sys::prctl(PR_SET_NO_NEW_PRIVS, 1));
        TRY(sys::seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog));
        return {};
      });
  if (!r && why_not != nullptr) {
    *why_not = "the host forbids seccomp user notification: " + std::string(errno_text(r.error()));
  }
  return r;
}

}  // namespace uk::seccomp
