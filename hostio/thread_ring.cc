// Ring without io_uring: polls sit in an epoll set that the waiting thread watches itself; reads,
// writes, fsync and openat run on a few worker threads. A read or write at the file position of
// something that can be polled (pipe, terminal, socket) first waits in the epoll set, so that it
// occupies no worker while there is nothing to do and can be cancelled.
//
// Limits, besides speed: no futex_wait and no waitid (their operations complete with -EOPNOTSUPP).
// A stream read whose data another process takes between the poll and the read keeps a worker until
// more comes.
#include <errno.h>
#include <sys/epoll.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "hostio/ring.h"
#include "hostio/sys/event.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"

namespace uk::hostio {
namespace {

constexpr size_t kMaxWorkers = 4;

int32_t to_res(const Result<size_t>& r) {
  return r ? static_cast<int32_t>(*r) : -static_cast<int32_t>(r.error());
}
int32_t to_res(const Result<>& r) { return r ? 0 : -static_cast<int32_t>(r.error()); }

// Makes the host call of a file operation; runs on a worker.
int32_t perform(const Op& o) {
  auto* buf = reinterpret_cast<std::byte*>(o.addr);
  struct iovec one = {buf, static_cast<size_t>(o.len)};
  sys::IoVecs iov = {&one, 1};
  if (o.code == OpCode::kReadv || o.code == OpCode::kWritev)
    iov = {reinterpret_cast<const struct iovec*>(o.addr), static_cast<size_t>(o.len)};
  switch (o.code) {
    case OpCode::kRead:
    case OpCode::kReadv:
      return to_res(sys::preadv2(o.fd, iov, o.offset, static_cast<int>(o.flags)));
    case OpCode::kWrite:
    case OpCode::kWritev:
      return to_res(sys::pwritev2(o.fd, iov, o.offset, static_cast<int>(o.flags)));
    case OpCode::kFsync:
      return to_res(o.flags != 0 ? sys::fdatasync(o.fd) : sys::fsync(o.fd));
    case OpCode::kOpenat: {
      Result<sys::Fd> fd = sys::openat(o.fd, reinterpret_cast<const char*>(o.addr),
                                       static_cast<int>(o.flags), static_cast<mode_t>(o.len));
      return fd ? fd->release() : -static_cast<int32_t>(fd.error());
    }
    default:
      UNREACHABLE();
  }
}

class ThreadRing final : public Ring {
 public:
  ThreadRing() {
    epoll_ = CHECK_OK(sys::epoll_create());
    event_ = CHECK_OK(sys::eventfd(0, O_NONBLOCK));
    CHECK_OK(sys::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, event_.get(), EPOLLIN, nullptr));
  }
  ~ThreadRing() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    work_ready_.notify_all();
    for (std::thread& t : workers_) t.join();
  }

  const char* name() const override { return "threads"; }
  bool supports(OpCode code) const override {
    return code != OpCode::kFutexWait && code != OpCode::kWaitid;
  }

 protected:
  void start(Completion& c) override;
  void request_cancel(Completion& c) override;
  void do_submit() override {}
  void reap() override;
  WaitEnd do_wait(int64_t timeout_ns, const sigset_t* mask) override;

 private:
  struct Done {
    Completion* completion;
    int32_t res;
  };
  // What a completion is doing; kept in aux(): a descriptor >= 0 while in the epoll set, else one
  // of these.
  static constexpr int kWithWorkers = -1;

  bool start_poll(Completion& c, uint32_t events);
  void end_poll(Completion& c);
  void give_to_workers(Completion& c);
  void worker();
  void on_poll_event(Completion& c, uint32_t events);

  sys::Fd epoll_, event_;
  bool ready_ = false;  // the last wait was ended by an event
  int unlooked_ = 0;
  std::vector<std::thread> workers_;
  std::mutex mutex_;  // guards all below
  std::condition_variable work_ready_;
  std::deque<Completion*> work_;
  std::vector<Done> done_;
  size_t idle_workers_ = 0;
  bool stopping_ = false;
};

void ThreadRing::start(Completion& c) {
  const Op& o = op(c);
  aux(c) = kWithWorkers;
  if (!supports(o.code)) return finish(c, -EOPNOTSUPP);
  if (o.code == OpCode::kNop) return finish(c, 0);
  if (o.code == OpCode::kPoll) {
    uint32_t mode = o.multishot ? EPOLLET : EPOLLONESHOT;
    if (start_poll(c, o.flags | mode)) return;
    // Not pollable, like a regular file: poll(2) calls it always ready. A bad descriptor is
    // reported.
    Result<int> valid = sys::fcntl(o.fd, F_GETFD);
    return finish(
        c, valid ? static_cast<int32_t>(o.flags & (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM))
                 : -EBADF);
  }
  bool reads = o.code == OpCode::kRead || o.code == OpCode::kReadv;
  bool writes = o.code == OpCode::kWrite || o.code == OpCode::kWritev;
  if ((reads || writes) && o.offset == -1 &&
      start_poll(c, (reads ? EPOLLIN : EPOLLOUT) | EPOLLONESHOT))
    return;
  give_to_workers(c);
}

// A duplicate descriptor gives each poll an entry of its own in the epoll set.
bool ThreadRing::start_poll(Completion& c, uint32_t events) {
  Result<sys::Fd> fd = sys::dup(op(c).fd);
  if (!fd) return false;
  if (!sys::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd->get(), events, &c)) return false;
  aux(c) = fd->release();
  return true;
}

void ThreadRing::end_poll(Completion& c) {
  sys::Fd fd(aux(c));
  CHECK_OK(sys::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd.get(), 0, nullptr));
  aux(c) = kWithWorkers;
}

void ThreadRing::give_to_workers(Completion& c) {
  bool more_workers = false;
  {
    std::lock_guard lock(mutex_);
    work_.push_back(&c);
    more_workers = work_.size() > idle_workers_ && workers_.size() < kMaxWorkers;
  }
  if (more_workers) {
    // Signals are for the thread that waits.
    sigset_t all;
    sigfillset(&all);
    sigset_t old = CHECK_OK(sys::sigprocmask(SIG_BLOCK, all));
    workers_.emplace_back([this] { worker(); });
    CHECK_OK(sys::sigprocmask(SIG_SETMASK, old));
  }
  work_ready_.notify_one();
}

void ThreadRing::worker() {
  std::unique_lock lock(mutex_);
  while (true) {
    ++idle_workers_;
    work_ready_.wait(lock, [this] { return stopping_ || !work_.empty(); });
    --idle_workers_;
    if (stopping_) return;
    Completion* c = work_.front();
    work_.pop_front();
    lock.unlock();
    int32_t res = perform(op(*c));
    lock.lock();
    done_.push_back({c, res});
    if (done_.size() == 1) CHECK_OK(sys::eventfd_signal(event_.get()));
  }
}

void ThreadRing::request_cancel(Completion& c) {
  if (aux(c) != kWithWorkers) {
    end_poll(c);
    return finish(c, -ECANCELED);
  }
  {
    std::lock_guard lock(mutex_);
    if (std::erase(work_, &c) == 0)
      return;  // a worker has it, or it is done: it completes by itself
  }
  finish(c, -ECANCELED);
}

void ThreadRing::on_poll_event(Completion& c, uint32_t events) {
  const Op& o = op(c);
  if (o.code != OpCode::kPoll) {
    end_poll(c);
    return give_to_workers(c);
  }
  if (!o.multishot) end_poll(c);
  finish(c, static_cast<int32_t>(events), o.multishot);
}

// Looking costs a host call, so it is done after a wait that an event ended, and else only now and
// then, for a loop that has no time to wait.
void ThreadRing::reap() {
  constexpr int kBusyLooks = 8;
  if (!ready_ && ++unlooked_ < kBusyLooks) return;
  unlooked_ = 0;
  struct epoll_event events[32];
  size_t n = CHECK_OK(sys::epoll_wait(epoll_.get(), events, 0));
  ready_ = n == std::size(events);  // there may be more
  for (size_t i = 0; i < n; ++i) {
    if (events[i].data.ptr != nullptr) {
      on_poll_event(*static_cast<Completion*>(events[i].data.ptr), events[i].events);
      continue;
    }
    (void)sys::eventfd_take(event_.get());
    std::vector<Done> done;
    {
      std::lock_guard lock(mutex_);
      done.swap(done_);
    }
    for (const Done& d : done) finish(*d.completion, d.res);
  }
}

WaitEnd ThreadRing::do_wait(int64_t timeout_ns, const sigset_t* mask) {
  struct pollfd p = {epoll_.get(), POLLIN, 0};
  Result<int> r = sys::ppoll({&p, 1}, timeout_ns, mask);
  ready_ = r && *r != 0;
  if (r) return ready_ ? WaitEnd::kEvent : WaitEnd::kTimeout;
  CHECK(r.error() == Errno::kINTR || r.error() == Errno::kNOMEM);
  return WaitEnd::kSignal;
}

}  // namespace

std::unique_ptr<Ring> make_thread_ring() { return std::make_unique<ThreadRing>(); }

}  // namespace uk::hostio
