#include "hostio/sys/tty.h"

#include <unistd.h>

#include "hostio/sys/ret.h"

namespace uk::sys {

using internal::ret;
using internal::ret_void;

bool isatty(int fd) { return ::isatty(fd) == 1; }
Result<struct termios> tcgetattr(int fd) {
  struct termios t;
  TRY(ret_void(::tcgetattr(fd, &t)));
  return t;
}
Result<> tcsetattr(int fd, int when, const struct termios& t) {
  return ret_void(::tcsetattr(fd, when, &t));
}
Result<struct winsize> get_winsize(int fd) {
  struct winsize size;
  TRY(ret_void(::ioctl(fd, TIOCGWINSZ, &size)));
  return size;
}
Result<> set_winsize(int fd, const struct winsize& size) {
  return ret_void(::ioctl(fd, TIOCSWINSZ, &size));
}
Result<pid_t> tcgetpgrp(int fd) { return ret<pid_t>(::tcgetpgrp(fd)); }

}  // namespace uk::sys
