// signalfd(2): pending signals of the reading task as records.
#include <signal.h>
#include <sys/signalfd.h>

#include "absl/strings/str_format.h"
#include "syscalls/fs_common.h"
#include "syscalls/timerfd.h"
#include "ukernel/task/current.h"
#include "ukernel/task/timers.h"
#include "ukernel/vfs/anon_inode.h"

namespace uk {
namespace {

static_assert(sizeof(signalfd_siginfo) == 128);

// Which fields of siginfo_t are meant depends on where the signal comes from (sigaction(2)).
signalfd_siginfo record_of(const SigInfo& info) {
  signalfd_siginfo r{};
  auto u32 = [&](size_t offset) { return siginfo_u32(info, offset); };
  r.ssi_signo = static_cast<uint32_t>(info.signo);
  r.ssi_errno = info.err;
  r.ssi_code = info.code;
  const bool fault = info.signo == SIGSEGV || info.signo == SIGBUS || info.signo == SIGILL ||
                     info.signo == SIGFPE || info.signo == SIGTRAP;
  if (info.code == SI_TIMER) {
    r.ssi_tid = u32(16);
    r.ssi_overrun = u32(20);
    r.ssi_int = static_cast<int32_t>(u32(24));
    r.ssi_ptr = u32(24) | (static_cast<uint64_t>(u32(28)) << 32);
  } else if (info.code > 0 && fault) {
    r.ssi_addr = u32(16) | (static_cast<uint64_t>(u32(20)) << 32);
  } else if (info.code > 0 && info.signo == SIGPOLL) {
    r.ssi_band = u32(16);
    r.ssi_fd = static_cast<int32_t>(u32(24));
  } else {
    r.ssi_pid = u32(16);
    r.ssi_uid = u32(20);
    if (info.signo == SIGCHLD && info.code > 0) {
      r.ssi_status = static_cast<int32_t>(u32(24));
      r.ssi_utime = u32(32);
      r.ssi_stime = u32(40);
    } else if (info.code < 0) {
      r.ssi_int = static_cast<int32_t>(u32(24));
      r.ssi_ptr = u32(24) | (static_cast<uint64_t>(u32(28)) << 32);
    }
  }
  return r;
}

class SignalFd final : public File {
 public:
  SignalFd(Reactor& reactor, SigSet mask, int flags)
      : File(make_anon_path("signalfd"), O_RDWR | flags), reactor_(reactor), mask_(mask) {}

  void set_mask(SigSet mask) {
    mask_ = mask;
    if (Task* t = current_task(reactor_)) t->signal_queue.wake_all(POLLIN | POLLRDNORM);
  }

  Result<size_t> read(Park& park, IoSink& to, uint64_t) override {
    Task* task = current_task(reactor_);
    if (task == nullptr || to.remaining() < sizeof(signalfd_siginfo)) return Err(Errno::kINVAL);
    if (!pending(*task) && nonblock()) return Err(Errno::kAGAIN);
    TRY(task->signal_queue.wait(
        park, [&] { return pending(*task); }, WaitMode::kInterruptible, kNever, "signalfd_read"));
    size_t done = 0;
    while (to.remaining() >= sizeof(signalfd_siginfo)) {
      auto info = take(*task);
      if (!info) break;
      const signalfd_siginfo record = record_of(*info);
      Result<size_t> n = to.put(park, std::as_bytes(std::span(&record, 1)));
      if (!n) return done > 0 ? Result<size_t>(done) : n;
      done += *n;
    }
    return done;
  }

  // Readiness is the asking task's own (signalfd(2), "epoll semantics").
  uint32_t ready() override {
    Task* task = current_task(reactor_);
    return task != nullptr && pending(*task) ? POLLIN : 0;
  }
  WaitQueue* poll_queue() override {
    Task* task = current_task(reactor_);
    return task != nullptr ? &task->signal_queue : nullptr;
  }
  std::string fdinfo() const override { return absl::StrFormat("sigmask:\t%016x\n", mask_.bits()); }

 private:
  bool pending(const Task& t) const {
    return !((t.pending.pending() | t.group->pending.pending()) & mask_).empty();
  }
  std::optional<SigInfo> take(Task& t) {
    std::optional<SigInfo> info = t.pending.take(mask_);
    if (!info) info = t.group->pending.take(mask_);
    if (info && info->code == SI_TIMER) t.group->timers->signal_taken(*info);
    return info;
  }
  Reactor& reactor_;
  SigSet mask_;
};

}  // namespace

Result<int64_t> sys_signalfd(Task& task, Fd fd, UserIn<uint64_t> mask, size_t mask_size) {
  return sys_signalfd4(task, fd, mask, mask_size, 0);
}

Result<int64_t> sys_signalfd4(Task& task, Fd fd, UserIn<uint64_t> user_mask, size_t mask_size,
                              int flags) {
  if ((flags & ~(SFD_CLOEXEC | SFD_NONBLOCK)) != 0) return Err(Errno::kINVAL);
  if (mask_size != sizeof(uint64_t)) return Err(Errno::kINVAL);
  SigSet mask(TRY(user_mask.get(task.park(), task.mm())));
  mask.remove(SIGKILL);
  mask.remove(SIGSTOP);
  if (fd == -1) {
    auto file = make_ref<SignalFd>(task.kernel.reactor, mask, flags & SFD_NONBLOCK);
    return install_fd(task, file, (flags & SFD_CLOEXEC) != 0);
  }
  Ref<File> file = TRY(task.fds().get_io(fd));
  auto* signalfd = dynamic_cast<SignalFd*>(file.get());
  if (signalfd == nullptr) return Err(Errno::kINVAL);
  signalfd->set_mask(mask);
  return static_cast<int64_t>(fd);
}

}  // namespace uk
