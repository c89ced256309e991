// The line discipline: what a terminal does with characters between the keyboard and read(2), and
// between write(2) and the screen (termios(3)). Canonical editing, echo, signals by key, flow
// control, mapping of newlines and tabs. Knows no tasks and does not suspend.
//
// Ownership: a Tty owns its Line. Input is untrusted and bounded: 4096 bytes as on Linux; what does
// not fit in a line is dropped.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "ukernel/dev/tty/termios.h"

namespace uk {

// What a Line tells its terminal.
class LineEvents {
 public:
  virtual void key_signal(int signo) = 0;     // ^C, ^\, ^Z
  virtual void echo(std::string_view s) = 0;  // to be shown; already mapped for output
  virtual void flow(bool stop) = 0;           // ^S, ^Q

 protected:
  ~LineEvents() = default;
};

class Line {
 public:
  static constexpr size_t kBufferBytes = 4096;

  explicit Line(LineEvents& events) : events_(events) {}

  const UserTermios& termios() const { return t_; }
  void set_termios(const UserTermios& t);
  // Are lines made here? With EXTPROC the other side has made them (ioctl_tty(2), TIOCPKT).
  bool canonical() const { return (t_.lflag & (ICANON | kExtproc)) == ICANON; }
  bool stopped() const { return stopped_; }
  void set_stopped(bool stop) { stopped_ = stop; }

  // Characters from the keyboard. The caller offers at most room().
  void receive(std::string_view in);
  // How many characters may be offered now. In canonical mode with no whole line waiting always
  // some: the excess is dropped.
  size_t room() const;

  // Bytes of a read(2): in canonical mode at most one line, and 0 with readable() is end of file.
  std::string take(size_t max);
  // Something for read(2): a line, or at least `min` bytes.
  bool readable(size_t min = 1) const {
    return canonical() ? !marks_.empty() : ready_.size() >= min;
  }
  size_t available() const;  // FIONREAD
  void flush_input();

  // write(2): what goes to the screen.
  std::string process_output(std::string_view in);

 private:
  bool lflag(uint32_t f) const { return (t_.lflag & f) != 0; }
  bool iflag(uint32_t f) const { return (t_.iflag & f) != 0; }
  bool is(uint8_t c, int which) const;
  void receive_char(uint8_t c);
  bool signal_char(uint8_t c);
  bool edit_char(uint8_t c);
  void add(uint8_t c);
  void commit(bool eof);
  void echo_char(uint8_t c);
  void echo_raw(std::string_view s);
  void erase_one();
  void erase_word();
  void erase_line();
  size_t width_of(size_t index) const;
  size_t column_of(size_t index) const;

  LineEvents& events_;
  UserTermios t_ = default_termios();
  std::string line_;   // being edited
  std::string ready_;  // for read(2)
  struct Mark {
    size_t end;  // in ready_: a line ends here
    bool eof;
  };
  std::deque<Mark> marks_;
  bool literal_next_ = false;
  bool stopped_ = false;
  size_t column_ = 0;       // of the cursor
  size_t line_column_ = 0;  // where the edited line began
};

}  // namespace uk
