// RawTerminal: the caller's terminal in raw mode, so that the guest's own line discipline decides
// about echo, editing and signals. Put back on destruction, and when the process crashes (a fatal
// signal or a failed CHECK); only SIGKILL leaves it raw.
//
// Ownership: one at a time for each process: the crash handlers are process-wide by nature. Nothing
// suspends.
#pragma once

#include <sys/ioctl.h>
#include <termios.h>

#include <memory>

#include "base/result.h"
#include "hostio/sys/fd.h"

namespace uk::hostio {

class RawTerminal {
 public:
  // `fd` is borrowed and must be a terminal (else kNOTTY). kBUSY: there is one already.
  static Result<std::unique_ptr<RawTerminal>> enter(int fd);
  ~RawTerminal();
  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

  // The mode it had before: what a new guest terminal may start from (erase character, IUTF8).
  const struct termios& original() const { return original_; }
  // Leaves raw mode now (the process is about to stop or end), and comes back to it.
  Result<> suspend();
  Result<> resume();

 private:
  RawTerminal(int fd, const struct termios& original) : fd_(fd), original_(original) {}
  int fd_;
  struct termios original_;
};

// A descriptor to poll for POLLIN when the size of the process's terminal has changed (SIGWINCH).
// Blocks that signal on the calling thread, which must be the reactor's, before other threads
// start.
class WindowWatch {
 public:
  static Result<WindowWatch> make();
  int fd() const { return signals_.get(); }
  // Takes what has happened; true if the size may have changed since the last call.
  bool take();

 private:
  explicit WindowWatch(sys::Fd signals) : signals_(std::move(signals)) {}
  sys::Fd signals_;
};

}  // namespace uk::hostio
