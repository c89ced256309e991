#include "boot/stdio.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/signalfd.h>

#include "absl/strings/str_format.h"
#include "boot/mounts.h"
#include "hostio/sys/event.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"
#include "hostio/sys/tty.h"
#include "hostio/terminal.h"
#include "ukernel/dev/console/stdio_file.h"
#include "ukernel/dev/console/tty_console.h"
#include "ukernel/sched/host_io.h"

namespace uk::boot {

namespace {
constexpr uint64_t kFinishNs = 2 * kNsPerSec;  // for a terminal that takes no output
constexpr const char* kNames[] = {"stdin", "stdout", "stderr"};
}  // namespace

struct Stdio::Impl {
  sys::Fd signals;  // signalfd of the host signals that end us
  std::unique_ptr<hostio::RawTerminal> raw;
  std::optional<hostio::WindowWatch> window;
  Ref<ConsoleTty> console;
};

Stdio::Stdio() : impl_(std::make_unique<Impl>()) {}
Stdio::~Stdio() { restore(); }

// The host terminal among stdin, stdout, stderr as the guest's console; null when there is none.
// Interactive (raw) only when both stdin and stdout are terminals: in a pipeline the terminal
// belongs to others as well.
static Ref<ConsoleTty> make_console(Kernel& kernel, std::unique_ptr<hostio::RawTerminal>& raw,
                                    std::optional<hostio::WindowWatch>& window) {
  ConsoleTty::Host host;
  if (sys::isatty(0)) host.in = 0;
  for (int fd : {1, 2, 0}) {
    if (host.out < 0 && sys::isatty(fd)) host.out = fd;
  }
  if (host.out < 0) return nullptr;
  if (host.in == 0 && sys::isatty(1)) {
    if (auto entered = hostio::RawTerminal::enter(0)) {
      raw = std::move(*entered);
      host.raw = true;
    }
  }
  if (auto watch = hostio::WindowWatch::make()) {
    window.emplace(std::move(*watch));
    host.window_watch = window->fd();
    host.take_window = [w = &*window] { (void)w->take(); };
  }
  return make_ref<ConsoleTty>(kernel, std::move(host));
}

// The console's open file: through /dev/console, so that ttyname(3) finds it; it is given to the
// user that runs (as login(1) does).
static Result<Ref<File>> open_console(Park& park, Kernel& kernel, const Ref<ConsoleTty>& console,
                                      const Cred& user) {
  auto root = make_ref<Cred>();
  const FsContext ctx = kernel_root_context(kernel, root);
  Path path = TRY(kernel.vfs.walk(park, ctx, {}, "/dev/console", kWalkFollow));
  if (user.uid != 0) TRY(kernel.vfs.chown(park, ctx, path, user.uid, user.gid));
  return open_tty(path, O_RDWR, *root, console, kernel);
}

std::string Stdio::open(Park& park, Kernel& kernel, Kernel::InitRequest& init) {
  impl_->console = make_console(kernel, impl_->raw, impl_->window);
  register_tty_devices(kernel, impl_->console);
  if (impl_->console) {
    auto file = open_console(park, kernel, impl_->console, *init.cred);
    if (!file) kernel.log.warn(absl::StrFormat("console: %s", errno_text(file.error())));
    if (file) init.console = *file;
  }
  for (int fd = 0; fd < 3; ++fd) {
    auto flags = sys::fcntl(fd, F_GETFL);
    if (!flags) {  // closed by the caller: the guest gets none, as a native program would
      continue;
    }
    if (init.console && sys::isatty(fd)) {
      init.stdio[fd] = init.console;
      continue;
    }
    Path path(nullptr, make_ref<Dentry>(nullptr, absl::StrFormat("host:[%s]", kNames[fd]),
                                        make_stdio_inode(fd)));
    init.stdio[fd] = make_ref<StdioFile>(kernel.reactor, path, fd, *flags);
  }
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

void Stdio::restore() {
  if (impl_->console) impl_->console->finish(kFinishNs);
  impl_->console.reset();
  impl_->raw.reset();
}

}  // namespace uk::boot
