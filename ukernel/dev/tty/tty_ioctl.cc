// The ioctls that all terminals have (ioctl_tty(2)). Those of pseudo terminals are in pty.cc.
#include <asm/ioctls.h>
#include <signal.h>

#include "ukernel/dev/tty/tty.h"
#include "ukernel/task/current.h"
#include "ukernel/task/pid_ns.h"

namespace uk {
namespace {

constexpr uint32_t kGetTermios2 = 0x802c542a, kSetTermios2 = 0x402c542b,
                   kSetTermios2Wait = 0x402c542c, kSetTermios2Flush = 0x402c542d;
constexpr uint32_t kGetExclusive = 0x80045440;
constexpr uint32_t kBaudMask = 0010017, kBaudOther = 0010000;

template <class T>
Result<T> fetch(Park& park, IoctlUser& user, uint64_t arg) {
  T value;
  TRY(user.copy_in(park, std::as_writable_bytes(std::span(&value, 1)), arg));
  return value;
}
template <class T>
Result<int64_t> store(Park& park, IoctlUser& user, uint64_t arg, const T& value) {
  TRY(user.copy_out(park, arg, std::as_bytes(std::span(&value, 1))));
  return 0;
}

uint32_t speed_of(uint32_t cflag, uint32_t other) {
  static constexpr uint32_t kLow[] = {0,   50,   75,   110,  134,  150,  200,   300,
                                      600, 1200, 1800, 2400, 4800, 9600, 19200, 38400};
  static constexpr uint32_t kHigh[] = {57600,   115200,  230400,  460800,  500000,
                                       576000,  921600,  1000000, 1152000, 1500000,
                                       2000000, 2500000, 3000000, 3500000, 4000000};
  const uint32_t b = cflag & kBaudMask;
  if (b == kBaudOther) return other;
  return b < kBaudOther ? kLow[b & 15] : kHigh[((b & 15) - 1) % std::size(kHigh)];
}

UserTermio old_termio(const UserTermios& t) {
  UserTermio o{};
  o.iflag = static_cast<uint16_t>(t.iflag), o.oflag = static_cast<uint16_t>(t.oflag);
  o.cflag = static_cast<uint16_t>(t.cflag), o.lflag = static_cast<uint16_t>(t.lflag);
  o.line = t.line;
  for (size_t i = 0; i < o.cc.size(); ++i) o.cc[i] = t.cc[i];
  return o;
}

UserTermios with_termio(UserTermios t, const UserTermio& o) {
  t.iflag = (t.iflag & 0xffff0000) | o.iflag, t.oflag = (t.oflag & 0xffff0000) | o.oflag;
  t.cflag = (t.cflag & 0xffff0000) | o.cflag, t.lflag = (t.lflag & 0xffff0000) | o.lflag;
  t.line = o.line;
  for (size_t i = 0; i < o.cc.size(); ++i) t.cc[i] = o.cc[i];
  return t;
}

// TIOCSPGRP: the group must be of the caller's session, which must be the terminal's.
Result<Ref<ProcessGroup>> wanted_group(Kernel& kernel, const Task& task, const Tty& tty, int pgid) {
  const Ref<Session>& session = task.group->group->session;
  if (tty.session() == nullptr || tty.session() != session.get()) return Err(Errno::kNOTTY);
  if (pgid < 0) return Err(Errno::kINVAL);
  Ref<ProcessGroup> group = kernel.pids.pgrp(kernel_pid(task, pgid));
  if (!group) return Err(Errno::kSRCH);
  if (group->session != session) return Err(Errno::kPERM);
  return group;
}

}  // namespace

Result<int64_t> tty_ioctl(Tty& tty, Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) {
  Task* task = user.task();
  const UserTermios& t = tty.line().termios();
  switch (cmd) {
    case TCGETS:
      return store(park, user, arg, t);
    case TCSETS:
    case TCSETSW:
    case TCSETSF: {
      auto wanted = TRY(fetch<UserTermios>(park, user, arg));
      TRY(tty.set_termios(park, wanted, cmd != TCSETS, cmd == TCSETSF));
      tty.ispeed_ = tty.ospeed_ = speed_of(wanted.cflag, tty.ospeed_);
      return 0;
    }
    case kGetTermios2:
      return store(park, user, arg, UserTermios2{t, tty.ispeed_, tty.ospeed_});
    case kSetTermios2:
    case kSetTermios2Wait:
    case kSetTermios2Flush: {
      auto wanted = TRY(fetch<UserTermios2>(park, user, arg));
      TRY(tty.set_termios(park, wanted.base, cmd != kSetTermios2, cmd == kSetTermios2Flush));
      tty.ispeed_ = wanted.ispeed;
      tty.ospeed_ = speed_of(wanted.base.cflag, wanted.ospeed);
      return 0;
    }
    case TCGETA:
      return store(park, user, arg, old_termio(t));
    case TCSETA:
    case TCSETAW:
    case TCSETAF: {
      UserTermios wanted = with_termio(t, TRY(fetch<UserTermio>(park, user, arg)));
      TRY(tty.set_termios(park, wanted, cmd != TCSETA, cmd == TCSETAF));
      return 0;
    }
    case TIOCGLCKTRMIOS:
      return store(park, user, arg, tty.locked_);
    case TIOCSLCKTRMIOS:
      if (!user.cred().has(Cap::kSysAdmin)) return Err(Errno::kPERM);
      tty.locked_ = TRY(fetch<UserTermios>(park, user, arg));
      return 0;
    case TCSBRK:
    case TCSBRKP:
      TRY(tty.check_foreground(SIGTTOU));
      TRY(tty.drain(park));
      return 0;
    case TCXONC:
      TRY(tty.check_foreground(SIGTTOU));
      if (arg > TCION) return Err(Errno::kINVAL);
      if (arg == TCOOFF || arg == TCOON) {
        tty.line().set_stopped(arg == TCOOFF);
        tty.flow(arg == TCOOFF);
      } else {  // sends the stop or start character to the other side
        const uint8_t c = t.cc[arg == TCIOFF ? VSTOP : VSTART];
        if (c != 0) tty.echo(std::string(1, static_cast<char>(c)));
      }
      return 0;
    case TCFLSH:
      TRY(tty.check_foreground(SIGTTOU));
      if (arg > TCIOFLUSH) return Err(Errno::kINVAL);
      tty.flush(static_cast<int>(arg));
      return 0;
    case TIOCEXCL:
      tty.exclusive_ = true;
      return 0;
    case TIOCNXCL:
      tty.exclusive_ = false;
      return 0;
    case kGetExclusive:
      return store(park, user, arg, int32_t{tty.exclusive_});
    case TIOCSCTTY:
      TRY(tty.control(*task, arg == 1));
      return 0;
    case TIOCNOTTY:
      if (task->group->group->session->tty != &tty) return Err(Errno::kNOTTY);
      if (task->group->group->session->sid == task->tgid()) tty.give_up_session();
      return 0;
    case TIOCGPGRP:
      if (task->group->group->session->tty != &tty) return Err(Errno::kNOTTY);
      return store(park, user, arg, int32_t{shown_pid(*task, std::max(0, tty.foreground_pgid()))});
    case TIOCSPGRP: {
      TRY(tty.check_foreground(SIGTTOU));
      const int pgid = TRY(fetch<int32_t>(park, user, arg));
      tty.foreground_ = TRY(wanted_group(tty.kernel_, *task, tty, pgid));
      return 0;
    }
    case TIOCGSID:
      if (tty.session() == nullptr || task->group->group->session->tty != &tty)
        return Err(Errno::kNOTTY);
      return store(park, user, arg, int32_t{shown_pid(*task, tty.session()->sid)});
    case TIOCGWINSZ:
      return store(park, user, arg, tty.winsize());
    case TIOCSWINSZ:
      tty.set_winsize(TRY(fetch<UserWinsize>(park, user, arg)));
      return 0;
    case FIONREAD:
      return store(park, user, arg, static_cast<int32_t>(tty.line().available()));
    case TIOCOUTQ:
      return store(park, user, arg, static_cast<int32_t>(tty.output_pending()));
    case TIOCSTI: {
      if (!user.cred().has(Cap::kSysAdmin)) return Err(Errno::kPERM);
      const char c = TRY(fetch<char>(park, user, arg));
      tty.input({&c, 1});
      return 0;
    }
    case TIOCGETD:
      return store(park, user, arg, int32_t{0});  // N_TTY
    case TIOCSETD:
      return TRY(fetch<int32_t>(park, user, arg)) == 0 ? Result<int64_t>(0) : Err(Errno::kINVAL);
    case TIOCGSOFTCAR:
      return store(park, user, arg, int32_t{(t.cflag & CLOCAL) != 0});
    case TIOCGDEV:
      return store(park, user, arg, static_cast<uint32_t>(tty.rdev()));
    case TIOCVHANGUP:
      if (!user.cred().has(Cap::kSysAdmin)) return Err(Errno::kPERM);
      tty.hangup();
      return 0;
    default:
      return Err(Errno::kNOTTY);
  }
}

}  // namespace uk
