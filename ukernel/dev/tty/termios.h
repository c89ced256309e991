// The guest's struct termios and friends (ioctl_tty(2), termios(3)): the kernel's layout, which
// differs from the C library's. Flag names are those of <termios.h>.
#pragma once

#include <termios.h>

#include <array>
#include <cstdint>

namespace uk {

constexpr size_t kTermiosChars = 19;

struct UserTermios {  // TCGETS
  uint32_t iflag, oflag, cflag, lflag;
  uint8_t line;
  std::array<uint8_t, kTermiosChars> cc;
};
static_assert(sizeof(UserTermios) == 36);

struct UserTermios2 {  // TCGETS2
  UserTermios base;
  uint32_t ispeed, ospeed;
};
static_assert(sizeof(UserTermios2) == 44);

struct UserTermio {  // TCGETA
  uint16_t iflag, oflag, cflag, lflag;
  uint8_t line;
  std::array<uint8_t, 8> cc;
};
static_assert(sizeof(UserTermio) == 18);

// EXTPROC; not in the C library's header.
constexpr uint32_t kExtproc = 0200000;

struct UserWinsize {
  uint16_t rows, cols, xpixel, ypixel;
  bool operator==(const UserWinsize&) const = default;
};

// The settings a terminal starts with: those of Linux (`stty sane`, with ^? for erase).
constexpr UserTermios default_termios() {
  UserTermios t{};
  t.iflag = ICRNL | IXON;
  t.oflag = OPOST | ONLCR;
  t.cflag = B38400 | CS8 | CREAD | HUPCL;
  t.lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN;
  t.cc = {};
  t.cc[VINTR] = 3;
  t.cc[VQUIT] = 28;
  t.cc[VERASE] = 127;
  t.cc[VKILL] = 21;
  t.cc[VEOF] = 4;
  t.cc[VMIN] = 1;
  t.cc[VSTART] = 17;
  t.cc[VSTOP] = 19;
  t.cc[VSUSP] = 26;
  t.cc[VREPRINT] = 18;
  t.cc[VDISCARD] = 15;
  t.cc[VWERASE] = 23;
  t.cc[VLNEXT] = 22;
  return t;
}

}  // namespace uk
