#include "ukernel/dev/tty/line.h"

#include <signal.h>

#include <algorithm>
#include <cctype>

namespace uk {
namespace {

constexpr uint8_t kDisabled = 0;  // _POSIX_VDISABLE
constexpr size_t kTab = 8;

bool is_continuation(uint8_t c) { return (c & 0xc0) == 0x80; }
bool is_control(uint8_t c) { return c < 0x20 || c == 0x7f; }

}  // namespace

bool Line::is(uint8_t c, int which) const {
  return t_.cc[static_cast<size_t>(which)] != kDisabled && c == t_.cc[static_cast<size_t>(which)];
}

void Line::set_termios(const UserTermios& t) {
  const bool was = canonical();
  t_ = t;
  if (was && !canonical()) {  // what was typed is there for raw reads
    ready_ += line_;
    line_.clear();
    marks_.clear();
    literal_next_ = false;
  } else if (!was && canonical() && !ready_.empty()) {
    marks_.push_back({ready_.size(), false});
  }
  if (!iflag(IXON) && stopped_) {
    stopped_ = false;
    events_.flow(false);
  }
}

size_t Line::room() const {
  const size_t used = ready_.size() + line_.size();
  if (used + 1 < kBufferBytes) return kBufferBytes - 1 - used;
  return canonical() && marks_.empty() ? 1 : 0;
}

void Line::receive(std::string_view in) {
  if (lflag(kExtproc)) {
    for (char c : in) add(static_cast<uint8_t>(c));
    return;
  }
  for (char c : in) receive_char(static_cast<uint8_t>(c));
}

void Line::receive_char(uint8_t c) {
  if (iflag(ISTRIP)) c &= 0x7f;
  if (iflag(IUCLC) && lflag(IEXTEN)) c = static_cast<uint8_t>(std::tolower(c));
  if (literal_next_) {
    literal_next_ = false;
    add(c);
    if (lflag(ECHO)) echo_char(c);
    return;
  }
  if (iflag(IXON)) {
    if (is(c, VSTART) || is(c, VSTOP)) {
      stopped_ = is(c, VSTOP) && !(is(c, VSTART) && stopped_);
      events_.flow(stopped_);
      return;
    }
    if (stopped_ && iflag(IXANY)) {
      stopped_ = false;
      events_.flow(false);
    }
  }
  if (signal_char(c)) return;
  if (c == '\r') {
    if (iflag(IGNCR)) return;
    if (iflag(ICRNL)) c = '\n';
  } else if (c == '\n' && iflag(INLCR)) {
    c = '\r';
  }
  if (canonical() && edit_char(c)) return;
  if (c == 0xff && iflag(PARMRK) && !iflag(ISTRIP)) add(c);
  add(c);
  if (lflag(ECHO)) echo_char(c);
}

bool Line::signal_char(uint8_t c) {
  if (!lflag(ISIG)) return false;
  int signo = 0;
  if (is(c, VINTR)) signo = SIGINT;
  if (is(c, VQUIT)) signo = SIGQUIT;
  if (is(c, VSUSP)) signo = SIGTSTP;
  if (signo == 0) return false;
  if (!lflag(NOFLSH)) flush_input();
  events_.key_signal(signo);
  if (iflag(IXON) && stopped_) {
    stopped_ = false;
    events_.flow(false);
  }
  if (lflag(ECHO)) echo_char(c);
  return true;
}

// Editing and ends of lines. True if the character has been dealt with.
bool Line::edit_char(uint8_t c) {
  if (is(c, VERASE)) return erase_one(), true;
  if (is(c, VKILL)) return erase_line(), true;
  if (lflag(IEXTEN)) {
    if (is(c, VWERASE)) return erase_word(), true;
    if (is(c, VLNEXT)) {
      literal_next_ = true;
      if (lflag(ECHO) && lflag(ECHOCTL)) echo_raw("^\b");
      return true;
    }
    if (is(c, VREPRINT) && lflag(ECHO)) {
      echo_char(c);
      echo_raw("\n");
      line_column_ = column_;
      for (char e : std::string(line_)) echo_char(static_cast<uint8_t>(e));
      return true;
    }
  }
  if (c == '\n') {
    if (lflag(ECHO) || lflag(ECHONL)) echo_raw("\n");
    line_ += '\n';
    commit(false);
    return true;
  }
  if (is(c, VEOF)) return commit(true), true;
  if (is(c, VEOL) || (is(c, VEOL2) && lflag(IEXTEN))) {
    if (lflag(ECHO)) echo_char(c);
    line_ += static_cast<char>(c);
    commit(false);
    return true;
  }
  return false;
}

void Line::add(uint8_t c) {
  if (canonical()) {
    if (ready_.size() + line_.size() + 1 >= kBufferBytes) {
      if (iflag(IMAXBEL)) echo_raw("\a");
      return;
    }
    if (line_.empty()) line_column_ = column_;
    line_ += static_cast<char>(c);
  } else if (ready_.size() < kBufferBytes) {
    ready_ += static_cast<char>(c);
  }
}

void Line::commit(bool eof) {
  ready_ += line_;
  line_.clear();
  marks_.push_back({ready_.size(), eof});
}

std::string Line::take(size_t max) {
  size_t n = std::min(max, ready_.size());
  if (canonical()) {
    if (marks_.empty()) return {};
    n = std::min(max, marks_.front().end);
    if (n == marks_.front().end) marks_.pop_front();
  }
  std::string out = ready_.substr(0, n);
  ready_.erase(0, n);
  for (Mark& m : marks_) m.end -= n;
  return out;
}

size_t Line::available() const {
  if (!canonical()) return ready_.size();
  return marks_.empty() ? 0 : marks_.back().end;
}

void Line::flush_input() {
  line_.clear();
  ready_.clear();
  marks_.clear();
  literal_next_ = false;
}

// ---- echo and erasing

void Line::echo_raw(std::string_view s) { events_.echo(process_output(s)); }

void Line::echo_char(uint8_t c) {
  if (is_control(c) && c != '\t' && c != '\n' && lflag(ECHOCTL)) {
    const char text[2] = {'^', static_cast<char>(c ^ 0x40)};
    echo_raw({text, 2});
  } else {
    const char text = static_cast<char>(c);
    echo_raw({&text, 1});
  }
}

// Columns that line_[index] takes; tabs depend on where they stand.
size_t Line::width_of(size_t index) const {
  const uint8_t c = static_cast<uint8_t>(line_[index]);
  if (c == '\t') return kTab - column_of(index) % kTab;
  if (is_control(c)) return lflag(ECHOCTL) ? 2 : 0;
  return (t_.iflag & IUTF8) != 0 && is_continuation(c) ? 0 : 1;
}

size_t Line::column_of(size_t index) const {
  size_t column = line_column_;
  for (size_t i = 0; i < index; ++i) {
    const uint8_t c = static_cast<uint8_t>(line_[i]);
    if (c == '\t') {
      column += kTab - column % kTab;
    } else {
      column += width_of(i);
    }
  }
  return column;
}

void Line::erase_one() {
  if (line_.empty()) return;
  size_t begin = line_.size() - 1;
  if ((t_.iflag & IUTF8) != 0) {
    while (begin > 0 && is_continuation(static_cast<uint8_t>(line_[begin]))) --begin;
  }
  size_t columns = 0;
  for (size_t i = begin; i < line_.size(); ++i) columns += width_of(i);
  const uint8_t erased = static_cast<uint8_t>(line_[begin]);
  line_.erase(begin);
  if (!lflag(ECHO)) return;
  if (!lflag(ECHOE)) {
    echo_char(t_.cc[VERASE]);
    return;
  }
  for (size_t i = 0; i < columns; ++i) echo_raw(erased == '\t' ? "\b" : "\b \b");
}

void Line::erase_word() {
  auto is_word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || (c & 0x80) != 0;
  };
  while (!line_.empty() && !is_word(line_.back())) erase_one();
  while (!line_.empty() && is_word(line_.back())) erase_one();
}

void Line::erase_line() {
  if (lflag(ECHO) && lflag(ECHOK) && lflag(ECHOKE) && lflag(ECHOE)) {
    while (!line_.empty()) erase_one();
    return;
  }
  line_.clear();
  if (!lflag(ECHO)) return;
  echo_char(t_.cc[VKILL]);
  if (lflag(ECHOK)) echo_raw("\n");
}

// ---- output

std::string Line::process_output(std::string_view in) {
  if ((t_.oflag & OPOST) == 0) return std::string(in);
  std::string out;
  out.reserve(in.size() + in.size() / 16);
  auto newline = [&] {
    if (t_.oflag & ONLCR) {
      out += "\r\n";
      column_ = 0;
    } else {
      out += '\n';
      if (t_.oflag & ONLRET) column_ = 0;
    }
  };
  for (char ch : in) {
    const uint8_t c = static_cast<uint8_t>(ch);
    switch (c) {
      case '\n':
        newline();
        continue;
      case '\r':
        if ((t_.oflag & ONOCR) && column_ == 0) continue;
        if (t_.oflag & OCRNL) {
          out += '\n';
          if (t_.oflag & ONLRET) column_ = 0;
          continue;
        }
        column_ = 0;
        break;
      case '\t': {
        const size_t spaces = kTab - column_ % kTab;
        column_ += spaces;
        if ((t_.oflag & TABDLY) == TAB3) {
          out.append(spaces, ' ');
          continue;
        }
        break;
      }
      case '\b':
        if (column_ > 0) --column_;
        break;
      default:
        if (!is_control(c) && !((t_.iflag & IUTF8) != 0 && is_continuation(c))) ++column_;
        if (t_.oflag & OLCUC) ch = static_cast<char>(std::toupper(c));
    }
    out += ch;
  }
  return out;
}

}  // namespace uk
