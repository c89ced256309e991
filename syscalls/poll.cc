#include "syscalls/poll.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include <list>

#include "syscalls/wait_mask.h"
#include "ukernel/fs/anonfs/eventfd.h"
#include "ukernel/kernel.h"

namespace uk {
namespace {

constexpr uint64_t kMaxTimeoutNs = 1ull << 62;
constexpr int kMaxSelectFds = 1 << 20;

// One file being polled: keeps it alive and listens on its queue.
class Listener final : public Waiter {
 public:
  Listener(Ref<File> file, uint32_t wanted, Fiber& fiber)
      : file(std::move(file)), wanted_(wanted), fiber_(fiber) {}
  void on_wake(uint32_t events) override {
    if ((events & wanted_) != 0) fiber_.wake();
  }
  Ref<File> file;

 private:
  uint32_t wanted_;
  Fiber& fiber_;
};

// A set of files being polled by one call.
class Poller {
 public:
  explicit Poller(Task& task) : task_(task) {}

  void watch(Ref<File> file, uint32_t wanted) {
    WaitQueue* queue = file->poll_queue();
    if (queue == nullptr) return;
    queue->add(listeners_.emplace_back(std::move(file), wanted, *task_.fiber));
  }

  // Suspends until scan() (which counts what is ready) is not 0, the deadline, or a signal
  // (kRestartSys).
  template <class Scan>
  Result<int64_t> wait(Deadline deadline, Scan&& scan) {
    Park& park = task_.park();
    for (;;) {
      if (int64_t n = scan(); n != 0) return n;
      if (park.interrupted(WaitMode::kInterruptible)) return Err(Errno::kRestartSys);
      if (!deadline.never() && park.reactor().now_ns() >= deadline.at_ns) return 0;
      for (Listener& l : listeners_) l.file->poll_queue();  // files that watch the host re-arm
      task_.fiber->set_wait_reason("poll_schedule_timeout");
      park.suspend(deadline);
      task_.fiber->set_wait_reason(nullptr);
    }
  }

 private:
  Task& task_;
  std::list<Listener> listeners_;
};

Deadline after(Task& task, uint64_t ns) {
  return {task.kernel.clock.monotonic_ns() + std::min(ns, kMaxTimeoutNs)};
}

Deadline deadline_ms(Task& task, int timeout_ms) {
  return timeout_ms < 0 ? kNever : after(task, static_cast<uint64_t>(timeout_ms) * 1'000'000);
}

Result<Deadline> deadline_of(Task& task, const UserTimespec& t) {
  if (t.sec < 0 || t.nsec < 0 || t.nsec >= 1'000'000'000) return Err(Errno::kINVAL);
  uint64_t sec = std::min<uint64_t>(static_cast<uint64_t>(t.sec), kMaxTimeoutNs / kNsPerSec);
  return after(task, sec * kNsPerSec + static_cast<uint64_t>(t.nsec));
}

// personality(2): STICKY_TIMEOUTS leaves the caller's timeout as it is.
bool updates_timeouts(const Task& task) {
  constexpr uint32_t kStickyTimeouts = 0x4000000;
  return (task.personality & kStickyTimeouts) == 0;
}

UserTimespec remaining(Task& task, Deadline deadline) {
  uint64_t now = task.kernel.clock.monotonic_ns();
  uint64_t left = deadline.at_ns > now ? deadline.at_ns - now : 0;
  return {static_cast<int64_t>(left / kNsPerSec), static_cast<int64_t>(left % kNsPerSec)};
}

// select(2) and the like answer EINTR even with SA_RESTART; the remaining time is written back.
template <class T>
Result<T> no_restart(Result<T> r) {
  if (!r && r.error() == Errno::kRestartSys) return Err(Errno::kRestartNoHand);
  return r;
}
template <class T>
Result<T> as_eintr(Result<T> r) {
  if (!r && is_restart(r.error())) return Err(Errno::kINTR);
  return r;
}

Result<int64_t> do_poll(Task& task, UserInOut<UserPollFd> user, uint32_t count, Deadline deadline) {
  if (count > task.rlimit(RLIMIT_NOFILE).cur) return Err(Errno::kINVAL);
  std::vector<UserPollFd> fds = TRY(user.get_array(task.park(), task.mm(), count));
  std::vector<Ref<File>> files(count);
  Poller poller(task);
  for (uint32_t i = 0; i < count; ++i) {
    fds[i].revents = 0;
    if (fds[i].fd < 0) continue;
    auto file = task.fds().get_io(fds[i].fd);
    if (!file) {
      fds[i].revents = POLLNVAL;
      continue;
    }
    files[i] = *file;
    poller.watch(*file, static_cast<uint16_t>(fds[i].events) | POLLERR | POLLHUP);
  }
  Result<int64_t> r = poller.wait(deadline, [&] {
    int64_t n = 0;
    for (uint32_t i = 0; i < count; ++i) {
      if (files[i]) {
        uint32_t wanted = static_cast<uint16_t>(fds[i].events) | POLLERR | POLLHUP;
        fds[i].revents = static_cast<int16_t>(files[i]->ready() & wanted);
      }
      n += fds[i].revents != 0;
    }
    return n;
  });
  if (!r) return r;
  for (uint32_t i = 0; i < count; ++i) {
    UserOut<int16_t> out{{user.addr + i * sizeof(UserPollFd) + offsetof(UserPollFd, revents)}};
    TRY(out.put(task.park(), task.mm(), fds[i].revents));
  }
  return r;
}

// ---- select

constexpr uint32_t kSelectIn = POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR;
constexpr uint32_t kSelectOut = POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR;
constexpr uint32_t kSelectEx = POLLPRI;

struct FdSet {
  UserAddr at;
  std::vector<uint64_t> bits, result;
  bool has(int fd) const { return at && ((bits[static_cast<size_t>(fd) / 64] >> (fd % 64)) & 1); }
  void set(int fd) { result[static_cast<size_t>(fd) / 64] |= 1ull << (fd % 64); }
};

Result<FdSet> fetch_set(Task& task, UserAddr at, int n) {
  FdSet s{at, {}, {}};
  size_t words = (static_cast<size_t>(n) + 63) / 64;
  s.result.resize(words);
  if (at) s.bits = TRY(UserIn<uint64_t>{at}.get_array(task.park(), task.mm(), words));
  return s;
}

Result<int64_t> do_select(Task& task, int n, UserAddr in, UserAddr out, UserAddr ex,
                          Deadline deadline) {
  if (n < 0) return Err(Errno::kINVAL);
  // Bits beyond the table are not looked at; Linux's table has a multiple of 64 places.
  const int table = std::max(64, (task.fds().highest() + 64) / 64 * 64);
  n = std::min(n, std::min(table, kMaxSelectFds));
  // One by one: GCC 12 forgets the members built before a return out of an initialiser list.
  FdSet sets[3];
  sets[0] = TRY(fetch_set(task, in, n));
  sets[1] = TRY(fetch_set(task, out, n));
  sets[2] = TRY(fetch_set(task, ex, n));
  constexpr uint32_t kWanted[3] = {kSelectIn, kSelectOut, kSelectEx};
  Poller poller(task);
  struct Polled {
    int fd;
    Ref<File> file;
  };
  std::vector<Polled> polled;
  for (int fd = 0; fd < n; ++fd) {
    uint32_t wanted = 0;
    for (int s = 0; s < 3; ++s) wanted |= sets[s].has(fd) ? kWanted[s] : 0;
    if (wanted == 0) continue;
    Ref<File> file = TRY(task.fds().get_io(fd));
    polled.push_back({fd, file});
    poller.watch(std::move(file), wanted);
  }
  int64_t count = TRY(poller.wait(deadline, [&] {
    int64_t ready = 0;
    for (const Polled& p : polled) {
      uint32_t now = p.file->ready();
      for (int s = 0; s < 3; ++s) {
        if (!sets[s].has(p.fd) || (now & kWanted[s]) == 0) continue;
        sets[s].set(p.fd);
        ++ready;
      }
    }
    return ready;
  }));
  for (FdSet& s : sets) {
    if (s.at) TRY(UserOut<uint64_t>{s.at}.put_array(task.park(), task.mm(), s.result));
  }
  return count;
}

Result<int64_t> do_epoll_wait(Task& task, Fd epfd, UserOut<EpollEvent> events, int max,
                              Deadline deadline) {
  Ref<File> file = TRY(task.fds().get_io(epfd));
  if (max <= 0 || static_cast<size_t>(max) > INT32_MAX / sizeof(EpollEvent))
    return Err(Errno::kINVAL);
  auto* epoll = dynamic_cast<Epoll*>(file.get());
  if (epoll == nullptr) return Err(Errno::kINVAL);
  auto got = TRY(as_eintr(epoll->wait(task.park(), static_cast<size_t>(max), deadline)));
  TRY(events.put_array(task.park(), task.mm(), got));
  return static_cast<int64_t>(got.size());
}

Result<int64_t> install(Task& task, Ref<File> file, bool cloexec) {
  return TRY(task.fds().add(std::move(file), cloexec, task.rlimit(RLIMIT_NOFILE).cur));
}

}  // namespace

Result<int64_t> sys_poll(Task& task, UserInOut<UserPollFd> fds, uint32_t count, int timeout_ms) {
  Deadline deadline = deadline_ms(task, timeout_ms);
  Result<int64_t> r = do_poll(task, fds, count, deadline);
  if (!r && r.error() == Errno::kRestartSys) {
    task.restart_block = [=](Task& t) -> Result<int64_t> {
      auto again = do_poll(t, fds, count, deadline);
      if (!again && again.error() == Errno::kRestartSys) return Err(Errno::kRestartBlock);
      return again;
    };
    return Err(Errno::kRestartBlock);
  }
  return r;
}

Result<int64_t> sys_ppoll(Task& task, UserInOut<UserPollFd> fds, uint32_t count,
                          UserInOut<UserTimespec> timeout, UserIn<uint64_t> mask,
                          size_t mask_size) {
  Deadline deadline = kNever;
  if (timeout) deadline = TRY(deadline_of(task, TRY(timeout.get(task.park(), task.mm()))));
  bool masked = TRY(set_wait_mask(task, mask, mask_size));
  Result<int64_t> r = no_restart(do_poll(task, fds, count, deadline));
  end_wait_mask(task, masked, !r && is_restart(r.error()));
  if (timeout && updates_timeouts(task))
    (void)timeout.put(task.park(), task.mm(), remaining(task, deadline));
  return r;
}

Result<int64_t> sys_select(Task& task, int n, UserAddr in, UserAddr out, UserAddr ex,
                           UserInOut<UserTimeval> timeout) {
  Deadline deadline = kNever;
  if (timeout) {
    UserTimeval t = TRY(timeout.get(task.park(), task.mm()));
    if (t.sec < 0 || t.usec < 0) return Err(Errno::kINVAL);
    UserTimespec ts{0, t.usec % 1'000'000 * 1000};
    if (__builtin_add_overflow(t.sec, t.usec / 1'000'000, &ts.sec)) return Err(Errno::kINVAL);
    deadline = TRY(deadline_of(task, ts));
  }
  Result<int64_t> r = no_restart(do_select(task, n, in, out, ex, deadline));
  if (timeout && updates_timeouts(task)) {
    UserTimespec left = remaining(task, deadline);
    (void)timeout.put(task.park(), task.mm(), UserTimeval{left.sec, left.nsec / 1000});
  }
  return r;
}

Result<int64_t> sys_pselect6(Task& task, int n, UserAddr in, UserAddr out, UserAddr ex,
                             UserInOut<UserTimespec> timeout, UserAddr mask_arg) {
  Deadline deadline = kNever;
  if (timeout) deadline = TRY(deadline_of(task, TRY(timeout.get(task.park(), task.mm()))));
  struct MaskArg {
    uint64_t addr;
    uint64_t size;
  } mask{};
  if (mask_arg) mask = TRY(UserIn<MaskArg>{mask_arg}.get(task.park(), task.mm()));
  bool masked = TRY(set_wait_mask(task, UserIn<uint64_t>{{mask.addr}}, mask.size));
  Result<int64_t> r = no_restart(do_select(task, n, in, out, ex, deadline));
  end_wait_mask(task, masked, !r && is_restart(r.error()));
  if (timeout && updates_timeouts(task))
    (void)timeout.put(task.park(), task.mm(), remaining(task, deadline));
  return r;
}

Result<int64_t> sys_epoll_create(Task& task, int size) {
  if (size <= 0) return Err(Errno::kINVAL);
  return install(task, make_ref<Epoll>(), false);
}

Result<int64_t> sys_epoll_create1(Task& task, int flags) {
  if ((flags & ~EPOLL_CLOEXEC) != 0) return Err(Errno::kINVAL);
  return install(task, make_ref<Epoll>(), (flags & EPOLL_CLOEXEC) != 0);
}

Result<int64_t> sys_epoll_ctl(Task& task, Fd epfd, int op, Fd fd, UserIn<EpollEvent> user) {
  EpollEvent event{};
  if (op != EPOLL_CTL_DEL) event = TRY(user.get(task.park(), task.mm()));
  return epoll_control(task, epfd, op, fd, event);
}

Result<int64_t> epoll_control(Task& task, Fd epfd, int op, Fd fd, const EpollEvent& event) {
  Ref<File> epfile = TRY(task.fds().get_io(epfd));
  Ref<File> file = TRY(task.fds().get_io(fd));
  if (file->poll_queue() == nullptr) return Err(Errno::kPERM);
  auto* epoll = dynamic_cast<Epoll*>(epfile.get());
  if (epoll == nullptr || file.get() == epoll) return Err(Errno::kINVAL);
  if ((event.events & EPOLLEXCLUSIVE) != 0) {
    constexpr uint32_t kAllowed =
        EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
    if (op == EPOLL_CTL_MOD || (event.events & ~kAllowed) != 0) return Err(Errno::kINVAL);
  }
  switch (op) {
    case EPOLL_CTL_ADD:
      TRY(epoll->add(fd, file, event));
      return 0;
    case EPOLL_CTL_MOD:
      TRY(epoll->modify(fd, *file, event));
      return 0;
    case EPOLL_CTL_DEL:
      TRY(epoll->remove(fd, *file));
      return 0;
    default:
      return Err(Errno::kINVAL);
  }
}

Result<int64_t> sys_epoll_wait(Task& task, Fd epfd, UserOut<EpollEvent> events, int max,
                               int timeout_ms) {
  return do_epoll_wait(task, epfd, events, max, deadline_ms(task, timeout_ms));
}

Result<int64_t> sys_epoll_pwait(Task& task, Fd epfd, UserOut<EpollEvent> events, int max,
                                int timeout_ms, UserIn<uint64_t> mask, size_t mask_size) {
  bool masked = TRY(set_wait_mask(task, mask, mask_size));
  Result<int64_t> r = do_epoll_wait(task, epfd, events, max, deadline_ms(task, timeout_ms));
  end_wait_mask(task, masked, !r && r.error() == Errno::kINTR);
  return r;
}

Result<int64_t> sys_epoll_pwait2(Task& task, Fd epfd, UserOut<EpollEvent> events, int max,
                                 UserIn<UserTimespec> timeout, UserIn<uint64_t> mask,
                                 size_t mask_size) {
  Deadline deadline = kNever;
  if (timeout) deadline = TRY(deadline_of(task, TRY(timeout.get(task.park(), task.mm()))));
  bool masked = TRY(set_wait_mask(task, mask, mask_size));
  Result<int64_t> r = do_epoll_wait(task, epfd, events, max, deadline);
  end_wait_mask(task, masked, !r && r.error() == Errno::kINTR);
  return r;
}

Result<int64_t> sys_eventfd(Task& task, uint32_t initial) { return sys_eventfd2(task, initial, 0); }

Result<int64_t> sys_eventfd2(Task& task, uint32_t initial, int flags) {
  if ((flags & ~(EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE)) != 0) return Err(Errno::kINVAL);
  auto file = make_ref<EventFd>(initial, (flags & EFD_SEMAPHORE) != 0, flags & EFD_NONBLOCK);
  return install(task, file, (flags & EFD_CLOEXEC) != 0);
}

}  // namespace uk
