// Terminals as guests see them: a line discipline, a window size, a controlling session with its
// foreground process group, and an output buffer that the other side (a pty's master, the console)
// drains.
//
// Ownership: open files hold Refs to their Tty; pseudo terminals are held by their master too. A
// session points at its controlling terminal without owning it; the Tty clears that pointer when it
// goes. Reads and writes suspend. Input and ioctl arguments are untrusted.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/dev/tty/line.h"
#include "ukernel/kernel.h"
#include "ukernel/sched/wait_queue.h"
#include "ukernel/vfs/file.h"

namespace uk {

class Tty : public RefCounted, private LineEvents {
 public:
  Tty(Kernel& kernel, uint64_t rdev);
  ~Tty() override;

  uint64_t rdev() const { return rdev_; }
  // Process group that reads and gets the keys' signals; -1 when there is none.
  int foreground_pgid() const { return foreground_ ? foreground_->pgid : -1; }
  Session* session() const { return session_.get(); }
  Line& line() { return line_; }
  const UserWinsize& winsize() const { return winsize_; }
  // Tells the foreground group (SIGWINCH) when it differs.
  void set_winsize(const UserWinsize& size);
  WaitQueue& queue() { return queue_; }

  // ---- for TtyFile: `epoch` is what epoch() was at open; after a hang-up it differs.
  uint32_t epoch() const { return epoch_; }
  Result<size_t> read(Park& park, IoSink& to, bool nonblock, uint32_t epoch);
  Result<size_t> write(Park& park, IoSource& from, bool nonblock, uint32_t epoch);
  uint32_t ready(uint32_t epoch);
  void file_opened();
  void file_closed();
  virtual Result<> check_open(const Cred& cred) const;

  // ---- controlling terminal
  // open(2) without O_NOCTTY by `task`: it becomes its session's terminal if the rules say so.
  void maybe_control(Task& task);
  // TIOCSCTTY: `steal` takes it from another session.
  Result<> control(Task& task, bool steal);
  void give_up_session();

  // ---- for the other side
  // Characters typed. Returns how many were taken.
  size_t input(std::string_view in);
  size_t input_room() const { return line_.room(); }
  // Takes up to max bytes of output.
  std::string take_output(size_t max);
  size_t output_pending() const { return out_.size(); }
  // The line is gone: everybody who has it open sees its end, the session gets SIGHUP.
  void hangup(bool whole_group = false);

 protected:
  virtual void output_added() {}         // the other side may take_output()
  virtual void input_taken() {}          // there is room for input again
  virtual void want_input() {}           // somebody waits for input, or asks whether it is there
  virtual void last_file_closed() {}     // nobody has the terminal open any more
  virtual void packet_event(uint8_t) {}  // TIOCPKT_*
  // What the hardware does not let be changed is put right in `t`.
  virtual void adjust_termios(UserTermios& t) const { (void)t; }
  // The session's leader has exited: the line is hung up.
  virtual void leader_gone() { hangup(true); }
  // Nothing that tcdrain(3) would wait for.
  virtual bool drained() const { return out_.empty(); }
  Kernel& kernel() const { return kernel_; }
  int files() const { return files_; }
  // The session loses the terminal, its foreground group is told by SIGHUP (and SIGCONT).
  void leave_session(bool resume);
  bool other_closed_ = false;  // the other side is gone: end of file

 private:
  friend Result<int64_t> tty_ioctl(Tty&, Park&, IoctlUser&, uint32_t, uint64_t);
  void key_signal(int signo) override;
  void echo(std::string_view s) override;
  void flow(bool stop) override;

  // The rules of job control for a task that is not in the foreground: may it go on? kRestartSys
  // after a signal, kIO.
  Result<> check_foreground(int signo) const;
  Result<size_t> read_raw(Park& park, IoSink& to, bool nonblock, uint32_t epoch);
  bool hung(uint32_t epoch) const { return epoch != epoch_; }
  Result<> set_termios(Park& park, const UserTermios& t, bool drain, bool flush);
  Result<> drain(Park& park);
  void flush(int which);
  void detach_session();

  Kernel& kernel_;
  const uint64_t rdev_;
  Line line_;
  UserWinsize winsize_{};  // unknown until somebody sets it, as on Linux
  WaitQueue queue_;
  std::string out_;
  Ref<Session> session_;
  Ref<ProcessGroup> foreground_;
  int files_ = 0;
  uint32_t epoch_ = 0;
  bool exclusive_ = false;
  uint32_t ispeed_ = 38400, ospeed_ = 38400;
  UserTermios locked_{};  // TIOCSLCKTRMIOS: settings whose bits are set here stay as they are
};

class TtyFile final : public File {
 public:
  TtyFile(Path path, int flags, Ref<Tty> tty);
  ~TtyFile() override;
  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override;
  Result<size_t> write(Park& park, IoSource& from, uint64_t& offset) override;
  Result<int64_t> ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) override;
  uint32_t ready() override { return tty_->ready(epoch_); }
  WaitQueue* poll_queue() override { return &tty_->queue(); }
  Tty& tty() const { return *tty_; }

 private:
  Ref<Tty> tty_;
  uint32_t epoch_;
};

// open(2) of a terminal by the current task. kIO, kBUSY.
Result<Ref<File>> open_tty(const Path& path, int flags, const Cred& cred, Ref<Tty> tty,
                           Kernel& kernel);
// Registers /dev/tty (5:0) and /dev/console (5:1; kNODEV without a console).
void register_tty_devices(Kernel& kernel, Ref<Tty> console);
// Makes the terminal behind `file` the controlling one of `leader`'s session; false if it is no
// terminal. For the first task of an instance, whose files boot opens.
bool set_controlling_tty(Task& leader, File& file);

// tty_ioctl.cc
Result<int64_t> tty_ioctl(Tty& tty, Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg);

}  // namespace uk
