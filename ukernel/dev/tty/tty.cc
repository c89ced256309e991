#include "ukernel/dev/tty/tty.h"

#include <signal.h>
#include <sys/ioctl.h>

#include "ukernel/task/current.h"
#include "ukernel/task/job_control.h"

namespace uk {
namespace {

constexpr size_t kOutputBytes = 16 * 1024;
constexpr size_t kWriteChunk = 2048;
constexpr uint64_t kDecisecondNs = 100'000'000;

// TIOCSLCKTRMIOS: of what is locked, the old value stays.
UserTermios with_locked(UserTermios wanted, const UserTermios& old, const UserTermios& locked) {
  auto keep = [](auto& now, auto before, auto mask) {
    now = static_cast<std::remove_reference_t<decltype(now)>>((now & ~mask) | (before & mask));
  };
  keep(wanted.iflag, old.iflag, locked.iflag);
  keep(wanted.oflag, old.oflag, locked.oflag);
  keep(wanted.cflag, old.cflag, locked.cflag);
  keep(wanted.lflag, old.lflag, locked.lflag);
  if (locked.line != 0) wanted.line = old.line;
  for (size_t i = 0; i < wanted.cc.size(); ++i)
    if (locked.cc[i] != 0) wanted.cc[i] = old.cc[i];
  return wanted;
}

// Whether ^S and ^Q stop and start output: what a pty's packet mode tells (ioctl_tty(2)).
bool flow_by_keys(const UserTermios& t) {
  return (t.iflag & IXON) != 0 && t.cc[VSTOP] == 19 && t.cc[VSTART] == 17;
}

}  // namespace

Tty::Tty(Kernel& kernel, uint64_t rdev) : kernel_(kernel), rdev_(rdev), line_(*this) {}

Tty::~Tty() { detach_session(); }

// ---- LineEvents

void Tty::key_signal(int signo) {
  if ((line_.termios().lflag & NOFLSH) == 0) out_.clear();
  if (foreground_) send_signal_pgrp(*foreground_, siginfo_kernel(signo));
}

void Tty::echo(std::string_view s) {
  if (out_.size() + s.size() > kOutputBytes + Line::kBufferBytes) return;  // nobody looks
  out_ += s;
  output_added();
}

void Tty::flow(bool stop) {
  packet_event(stop ? TIOCPKT_STOP : TIOCPKT_START);
  if (!stop) output_added();
  queue_.wake_all(POLLOUT | POLLWRNORM);
}

// ---- the other side

size_t Tty::input(std::string_view in) {
  const size_t n = std::min(in.size(), line_.room());
  if (n == 0) return 0;
  line_.receive(in.substr(0, n));
  queue_.wake_all(POLLIN | POLLRDNORM);
  return n;
}

std::string Tty::take_output(size_t max) {
  std::string out = out_.substr(0, max);
  out_.erase(0, out.size());
  if (out_.size() < kOutputBytes) queue_.wake_all(POLLOUT | POLLWRNORM);
  return out;
}

void Tty::hangup(bool whole_group) {
  ++epoch_;
  if (!drained()) out_.clear();  // what a pty wrote is with its master already
  line_.flush_input();
  line_.set_stopped(false);
  if (session_) {
    if (ThreadGroup* leader = kernel_.pids.group(session_->sid)) {
      (void)send_signal_group(*leader, siginfo_kernel(SIGHUP));
      (void)send_signal_group(*leader, siginfo_kernel(SIGCONT));
    }
    if (whole_group && foreground_) {
      send_signal_pgrp(*foreground_, siginfo_kernel(SIGHUP));
      send_signal_pgrp(*foreground_, siginfo_kernel(SIGCONT));
    }
  }
  detach_session();
  exclusive_ = false;
  queue_.wake_all();  // open files have lost the terminal, but keep its other end until they are
                      // closed
}

void Tty::file_opened() { ++files_; }

void Tty::file_closed() {
  if (--files_ == 0) last_file_closed();
}

Result<> Tty::check_open(const Cred& cred) const {
  if (other_closed_) return Err(Errno::kIO);
  if (exclusive_ && !cred.has(Cap::kSysAdmin)) return Err(Errno::kBUSY);
  return {};
}

// ---- sessions

void Tty::detach_session() {
  if (session_) {
    session_->tty = nullptr;
    session_->leader_gone = nullptr;
  }
  session_.reset();
  foreground_.reset();
}

Result<> Tty::control(Task& task, bool steal) {
  const Ref<Session>& s = task.group->group->session;
  if (s->sid != task.tgid()) return Err(Errno::kPERM);
  if (session_ == s) return {};
  if (s->tty != nullptr) return Err(Errno::kPERM);
  if (session_) {
    if (!steal || !task.cred().has(Cap::kSysAdmin)) return Err(Errno::kPERM);
    detach_session();
  }
  session_ = s;
  foreground_ = task.group->group;
  s->tty = this;
  s->leader_gone = [this](Session&) {
    Ref<Tty> self(this);
    leader_gone();
  };
  return {};
}

void Tty::maybe_control(Task& task) {
  const Ref<ProcessGroup>& group = task.group->group;
  if (!group || !group->session || session_ || group->session->tty != nullptr) return;
  (void)control(task, false);
}

void Tty::leave_session(bool resume) {
  if (foreground_) {
    send_signal_pgrp(*foreground_, siginfo_kernel(SIGHUP));
    if (resume) send_signal_pgrp(*foreground_, siginfo_kernel(SIGCONT));
  }
  detach_session();
}

void Tty::give_up_session() { leave_session(true); }

Result<> Tty::check_foreground(int signo) const {
  const Task* t = current_task(kernel_.reactor);
  if (t == nullptr || !t->group->group || t->group->group->session != session_ || !session_)
    return {};
  ProcessGroup& mine = *t->group->group;
  if (!foreground_ || &mine == foreground_.get()) return {};
  const bool deaf =
      t->blocked.has(signo) || t->group->handlers->actions[static_cast<size_t>(signo)].handler == 1;
  if (deaf) {
    if (signo == SIGTTIN) return Err(Errno::kIO);
    return {};
  }
  if (is_orphaned(mine)) return Err(Errno::kIO);
  send_signal_pgrp(mine, siginfo_kernel(signo));
  return Err(Errno::kRestartSys);
}

void Tty::set_winsize(const UserWinsize& size) {
  if (size == winsize_) return;
  winsize_ = size;
  if (foreground_) send_signal_pgrp(*foreground_, siginfo_kernel(SIGWINCH));
}

// ---- reading and writing

Result<size_t> Tty::read(Park& park, IoSink& to, bool nonblock, uint32_t epoch) {
  if (hung(epoch)) return 0;
  TRY(check_foreground(SIGTTIN));
  if (to.remaining() == 0) return 0;
  want_input();
  if (!line_.canonical()) return read_raw(park, to, nonblock, epoch);
  auto ready = [&] {
    if (!line_.readable()) want_input();
    return line_.readable() || hung(epoch) || other_closed_ || !line_.canonical();
  };
  if (!ready() && nonblock) return Err(Errno::kAGAIN);
  TRY(queue_.wait(park, ready, WaitMode::kInterruptible, kNever, "n_tty_read"));
  if (hung(epoch)) return 0;
  if (!line_.canonical()) return read_raw(park, to, nonblock, epoch);
  if (!line_.readable()) return Err(Errno::kIO);  // the other side is gone
  std::string piece = line_.take(to.remaining());
  input_taken();
  if (piece.empty()) return 0;  // ^D
  return to.put(park, std::as_bytes(std::span(piece)));
}

// The four cases of termios(3) "Canonical and noncanonical mode".
Result<size_t> Tty::read_raw(Park& park, IoSink& to, bool nonblock, uint32_t epoch) {
  const size_t min = line_.termios().cc[VMIN];
  const uint64_t time = line_.termios().cc[VTIME] * kDecisecondNs;
  const size_t minimum = std::max<size_t>(min, 1);
  auto after = [&](uint64_t ns) { return Deadline{park.reactor().now_ns() + ns}; };
  Deadline deadline = min > 0 ? kNever : after(time);
  size_t done = 0;
  while (to.remaining() > 0 && done < minimum) {
    if (!line_.readable() && !hung(epoch)) {
      if (other_closed_) return done > 0 ? Result<size_t>(done) : Err(Errno::kIO);
      if (min == 0 && time == 0) break;
      if (nonblock) return done > 0 ? Result<size_t>(done) : Err(Errno::kAGAIN);
      auto waited = queue_.wait(
          park,
          [&] {
            if (!line_.readable()) want_input();
            return line_.readable() || hung(epoch) || other_closed_;
          },
          WaitMode::kInterruptible, deadline, "n_tty_read");
      if (!waited && waited.error() == Errno::kTIMEDOUT) break;
      if (!waited) return done > 0 ? Result<size_t>(done) : Err(waited.error());
    }
    if (hung(epoch)) break;
    std::string piece = line_.take(to.remaining());
    if (piece.empty()) continue;
    input_taken();
    Result<size_t> n = to.put(park, std::as_bytes(std::span(piece)));
    if (!n) return done > 0 ? Result<size_t>(done) : n;
    done += *n;
    if (*n < piece.size()) break;
    if (min > 0 && time > 0) deadline = after(time);
  }
  return done;
}

Result<size_t> Tty::write(Park& park, IoSource& from, bool nonblock, uint32_t epoch) {
  if (hung(epoch)) return Err(Errno::kIO);
  if (line_.termios().lflag & TOSTOP) TRY(check_foreground(SIGTTOU));
  size_t done = 0;
  std::string chunk;
  while (from.remaining() > 0) {
    auto may_write = [&] {
      return (!line_.stopped() && out_.size() < kOutputBytes) || hung(epoch) || other_closed_;
    };
    if (!may_write()) {
      if (nonblock) return done > 0 ? Result<size_t>(done) : Err(Errno::kAGAIN);
      auto waited = queue_.wait(park, may_write, WaitMode::kInterruptible, kNever, "n_tty_write");
      if (!waited) return done > 0 ? Result<size_t>(done) : Err(waited.error());
    }
    if (hung(epoch) || other_closed_) return done > 0 ? Result<size_t>(done) : Err(Errno::kIO);
    chunk.resize(std::min(from.remaining(), kWriteChunk));
    Result<size_t> n = from.get(park, std::as_writable_bytes(std::span(chunk)));
    if (!n || *n == 0) return done > 0 ? Result<size_t>(done) : (n ? Err(Errno::kFAULT) : n);
    out_ += line_.process_output(std::string_view(chunk).substr(0, *n));
    done += *n;
    output_added();
  }
  return done;
}

uint32_t Tty::ready(uint32_t epoch) {
  constexpr uint32_t kIn = POLLIN | POLLRDNORM, kOut = POLLOUT | POLLWRNORM;
  if (hung(epoch)) return kIn | kOut | POLLERR | POLLHUP;
  if (!line_.readable()) want_input();
  uint32_t r = 0;
  const auto& cc = line_.termios().cc;
  const size_t min = !line_.canonical() && cc[VTIME] == 0 && cc[VMIN] != 0 ? cc[VMIN] : 1;
  if (line_.readable(min)) r |= kIn;
  if (other_closed_) r |= kIn | POLLHUP;
  if (out_.size() < kOutputBytes && !line_.stopped()) r |= kOut;
  return r;
}

// ---- changes of settings

Result<> Tty::drain(Park& park) {
  return queue_.wait(
      park, [&] { return drained() || other_closed_; }, WaitMode::kInterruptible, kNever,
      "tty_wait_until_sent");
}

void Tty::flush(int which) {
  if (which != TCOFLUSH) {
    line_.flush_input();
    input_taken();
    packet_event(TIOCPKT_FLUSHREAD);
  }
  if (which != TCIFLUSH) {
    out_.clear();
    packet_event(TIOCPKT_FLUSHWRITE);
  }
  queue_.wake_all();
}

Result<> Tty::set_termios(Park& park, const UserTermios& t, bool drain_first, bool flush_first) {
  TRY(check_foreground(SIGTTOU));
  if (flush_first) flush(TCIFLUSH);
  if (drain_first) TRY(drain(park));
  const UserTermios before = line_.termios();
  UserTermios wanted = with_locked(t, before, locked_);
  adjust_termios(wanted);
  line_.set_termios(wanted);
  if (flow_by_keys(before) != flow_by_keys(wanted))
    packet_event(flow_by_keys(wanted) ? TIOCPKT_DOSTOP : TIOCPKT_NOSTOP);
  queue_.wake_all();
  return {};
}

// ---- files

TtyFile::TtyFile(Path path, int flags, Ref<Tty> tty)
    : File(std::move(path), flags), tty_(std::move(tty)), epoch_(tty_->epoch()) {
  tty_->file_opened();
}

TtyFile::~TtyFile() { tty_->file_closed(); }

Result<size_t> TtyFile::read(Park& park, IoSink& to, uint64_t) {
  Ref<Tty> tty = tty_;
  return tty->read(park, to, nonblock(), epoch_);
}

Result<size_t> TtyFile::write(Park& park, IoSource& from, uint64_t&) {
  Ref<Tty> tty = tty_;
  return tty->write(park, from, nonblock(), epoch_);
}

Result<int64_t> TtyFile::ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) {
  Ref<Tty> tty = tty_;
  if (epoch_ != tty->epoch()) return Err(cmd == TIOCSPGRP ? Errno::kNOTTY : Errno::kIO);
  return tty_ioctl(*tty, park, user, cmd, arg);
}

Result<Ref<File>> open_tty(const Path& path, int flags, const Cred& cred, Ref<Tty> tty,
                           Kernel& kernel) {
  TRY(tty->check_open(cred));
  Ref<File> file = make_ref<TtyFile>(path, flags, tty);
  Task* t = current_task(kernel.reactor);
  if (t != nullptr && (flags & O_NOCTTY) == 0 && (flags & O_ACCMODE) != O_WRONLY)
    tty->maybe_control(*t);
  return file;
}

void register_tty_devices(Kernel& kernel, Ref<Tty> console) {
  Kernel* k = &kernel;
  kernel.vfs.register_device(
      false, 5, 0, 1, "/dev/tty",
      {[k](Park&, const Path& path, int flags, const Cred&, uint64_t) -> Result<Ref<File>> {
        Task* t = current_task(k->reactor);
        if (t == nullptr || !t->group->group || !t->group->group->session) return Err(Errno::kNXIO);
        Tty* tty = t->group->group->session->tty;
        if (tty == nullptr) return Err(Errno::kNXIO);
        return Ref<File>(make_ref<TtyFile>(path, flags, Ref<Tty>(tty)));
      }});
  kernel.vfs.register_device(false, 5, 1, 1, "/dev/console",
                             {[k, console](Park&, const Path& path, int flags, const Cred& cred,
                                           uint64_t) -> Result<Ref<File>> {
                               if (!console) return Err(Errno::kNODEV);
                               // The console never becomes a controlling terminal by being opened
                               // (as on Linux).
                               return open_tty(path, flags | O_NOCTTY, cred, console, *k);
                             }});
}

bool set_controlling_tty(Task& leader, File& file) {
  auto* tty = dynamic_cast<TtyFile*>(&file);
  return tty != nullptr && tty->tty().control(leader, false).has_value();
}

}  // namespace uk
