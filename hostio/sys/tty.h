// Host calls on terminals. See fd.h for the rules.
#pragma once

#include <sys/ioctl.h>
#include <termios.h>

#include "hostio/sys/fd.h"

namespace uk::sys {

bool isatty(int fd);
Result<struct termios> tcgetattr(int fd);
// when: TCSANOW, TCSADRAIN, TCSAFLUSH. The whole of it is applied or an error given.
Result<> tcsetattr(int fd, int when, const struct termios& t);
Result<struct winsize> get_winsize(int fd);
Result<> set_winsize(int fd, const struct winsize& size);
Result<pid_t> tcgetpgrp(int fd);

}  // namespace uk::sys
