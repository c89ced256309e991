#include "ukernel/platform/notify/notify_platform.h"

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/check.h"
#include "hostio/sys/event.h"
#include "hostio/sys/process.h"

namespace uk::notify {
namespace {

constexpr int64_t kBootCheckNs = 20'000'000;

}  // namespace

Result<std::unique_ptr<Platform>> NotifyPlatform::create(Reactor& reactor, Log& log) {
  std::unique_ptr<NotifyPlatform> p(new NotifyPlatform(reactor, log));
  p->stacks_ = TRY(stub::StackPages::create());
  TRY(p->start_zygote());
  reactor.add_source(*p);
  return p;
}

Result<> NotifyPlatform::start_zygote() {
  stub::Zygote::Options o = {
      .entry = stub::uk_stub_mm_notify,
      .otherwise = SECCOMP_RET_USER_NOTIF,
      .filter_flags = SECCOMP_FILTER_FLAG_NEW_LISTENER,
      .handled = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, kKickSignal},
      .attach = [](int) -> Result<> { return {}; }};
  zygote_ = TRY(stub::Zygote::start(o));
  fsgsbase_ = stub::has_fsgsbase();
  report_ip_ = zygote_->address(stub::uk_stub_report_ip);
  TRY(await_zygote());
  // The table of descriptors is shared: the listener that the child opened is ours too.
  listener_fd_ = sys::Fd(zygote_->report().listener);
  zygote_->started();
  listener_ = std::make_unique<Listener>(reactor_.ring(), listener_fd_.get(), active_,
                                         [this](const seccomp_notif& n) { on_notification(n); });
  TRY(listener_->start());
  zygote_mm_ = std::make_unique<NotifyMmThread>(*this, zygote_->pid, zygote_->slot.page());
  return {};
}

// Until its filter is in force; no fiber runs yet.
Result<> NotifyPlatform::await_zygote() {
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

NotifyPlatform::~NotifyPlatform() {
  if (zygote_ != nullptr) kill_stub(zygote_->pid);
  zygote_mm_.reset();
  while (!killed_.empty()) reap_stub(*killed_.begin());
}

Result<std::unique_ptr<GuestSpace>> NotifyPlatform::new_space(Park& park) {
  if (!zygote_ready_) {
    TRY(zygote_mm_->start(park));
    zygote_ready_ = true;
  }
  stub::Command clone;
  stub::Slot slot = TRY(zygote_->prepare_stub(0, &clone));
  slot.page().seq = zygote_->slot.page().seq + 1;  // not what the clone's registers hold
  const uint64_t pid = TRY(zygote_mm_->command(park, zygote_->slot.page(), clone));
  auto space = std::make_unique<NotifySpace>(*this, std::move(slot), static_cast<int>(pid));
  TRY(space->start(park));
  return std::unique_ptr<GuestSpace>(std::move(space));
}

void NotifyPlatform::enroll(Thread& t) {
  auto [it, added] = threads_.emplace(t.tid(), &t);
  CHECK(added);
  count_active(+1);
  if (early_.empty()) listener_->sweep();  // it may have called already, unannounced
  auto early = early_.find(t.tid());
  if (early == early_.end()) return;
  const seccomp_notif n = early->second;
  early_.erase(early);
  on_notification(n);
}

void NotifyPlatform::dismiss(Thread& t) {
  auto it = threads_.find(t.tid());
  if (it != threads_.end() && it->second == &t) threads_.erase(it);
}

void NotifyPlatform::on_notification(const seccomp_notif& n) {
  auto it = threads_.find(static_cast<int>(n.pid));
  if (it == threads_.end()) {
    early_[static_cast<int>(n.pid)] = n;
    return;
  }
  it->second->on_notification(
      n, n.data.instruction_pointer == report_ip_ && n.data.nr == UK_NR_REPORT);
}

bool NotifyPlatform::collect() {
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

void NotifyPlatform::on_death(int pid) {
  killed_.erase(pid);
  std::vector<Thread*> dead;
  for (auto& [tid, t] : threads_)
    if (t->tgid() == pid) dead.push_back(t);
  for (Thread* t : dead) {
    threads_.erase(t->tid());  // the host may give the number to another
    t->on_death();
  }
  std::erase_if(early_, [pid](const auto& e) { return e.first == pid; });
  if (zygote_ != nullptr && pid == zygote_->pid)
    log_.err("notify: the zygote died; no new address spaces can be made");
}

void NotifyPlatform::kill_stub(int pid) {
  if (sys::kill(pid, SIGKILL)) killed_.insert(pid);
}

void NotifyPlatform::reap_stub(int pid) {
  int status;
  for (;;) {
    auto r = sys::waitpid(pid, &status, 0);
    if (!r && r.error() == Errno::kINTR) continue;
    return on_death(pid);  // or ECHILD: somebody else reaped it
  }
}

void register_notify(PlatformRegistry& registry) {
  PlatformFactory f;
  f.name = "notify";
  f.preference = 20;
  f.probe = [](std::string* why_not) -> Result<> {
    uint32_t action = SECCOMP_RET_USER_NOTIF;
    if (auto r = sys::seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &action); !r) {
      if (why_not != nullptr) *why_not = "the host has no seccomp user notification (Linux 5.0)";
      return Err(Errno::kOPNOTSUPP);
    }
    return {};
  };
  f.create = &NotifyPlatform::create;
  registry.add(std::move(f));
}

}  // namespace uk::notify
