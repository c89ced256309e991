#include "boot/stdio.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/signalfd.h>

#include "absl/strings/str_format.h"
#include "hostio/sys/event.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"
#include "hostio/sys/tty.h"
#include "ukernel/dev/console/stdio_file.h"
#include "ukernel/sched/host_io.h"

namespace uk::boot {

struct Stdio::Impl {
  sys::Fd signals;  // signalfd of the host signals that end us
};

Stdio::Stdio() : impl_(std::make_unique<Impl>()) {}
Stdio::~Stdio() { restore(); }

std::string Stdio::open(Park& park, Kernel& kernel, Kernel::InitRequest& init) {
  static constexpr const char* kNames[] = {"stdin", "stdout", "stderr"};
  for (int fd = 0; fd < 3; ++fd) {
    auto flags = sys::fcntl(fd, F_GETFL);
    if (!flags) {  // closed by the caller: the guest gets none, as a native program would
      continue;
    }
    Path path(nullptr, make_ref<Dentry>(nullptr, absl::StrFormat("host:[%s]", kNames[fd]),
                                        make_stdio_inode(fd)));
    init.stdio[fd] = make_ref<StdioFile>(kernel.reactor, path, fd, *flags);
  }
  (void)park;
  return "";
}

void Stdio::forward_signals(Kernel& kernel) {
  sigset_t set;
  sigemptyset(&set);
  for (int s : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) sigaddset(&set, s);
  CHECK_OK(sys::sigprocmask(SIG_BLOCK, set));
  impl_->signals = CHECK_OK(sys::signalfd(-1, set, SFD_NONBLOCK | SFD_CLOEXEC));
  kernel.reactor.spawn("host-signals", [this, &kernel](Park& park) {
    for (;;) {
      signalfd_siginfo info{};
      if (!host_poll(park, impl_->signals.get(), POLLIN)) continue;
      auto n = sys::read(impl_->signals.get(), std::as_writable_bytes(std::span(&info, 1)));
      if (!n || *n != sizeof info) continue;
      Task* init = kernel.init();
      if (init != nullptr)
        (void)send_signal_group(*init->group, siginfo_kernel(static_cast<int>(info.ssi_signo)));
    }
  });
}

void Stdio::restore() {}

}  // namespace uk::boot
