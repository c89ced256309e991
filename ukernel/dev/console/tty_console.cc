#include "ukernel/dev/console/tty_console.h"

#include <poll.h>

#include <array>

#include "hostio/ring.h"
#include "hostio/sys/event.h"
#include "hostio/sys/file.h"
#include "hostio/sys/tty.h"

namespace uk {
namespace {
constexpr size_t kReadBytes = 1024;
constexpr size_t kWriteBytes = 4096;
}  // namespace

class ConsoleTty::Reader final : public hostio::Completion {
 public:
  explicit Reader(ConsoleTty& tty) : tty_(tty) {}
  void arm() { tty_.kernel().reactor.ring().read(*this, tty_.host_.in, buf_, -1); }
  void complete(int32_t res, bool) override {
    if (res == -EINTR || res == -EAGAIN) return arm();
    if (res > 0) {
      tty_.held_.append(reinterpret_cast<const char*>(buf_.data()), static_cast<size_t>(res));
    } else if (tty_.host_.raw || res < 0) {
      tty_.host_.in = -1;  // the host's terminal is gone
      tty_.hangup();
      return;
    } else {
      tty_.held_ += static_cast<char>(tty_.line().termios().cc[VEOF]);  // ^D at the host
    }
    tty_.feed();
  }

 private:
  ConsoleTty& tty_;
  std::array<std::byte, kReadBytes> buf_;
};

class ConsoleTty::Writer final : public hostio::Completion {
 public:
  explicit Writer(ConsoleTty& tty) : tty_(tty) {}
  void arm() {
    tty_.kernel().reactor.ring().write(*this, tty_.host_.out,
                                       std::as_bytes(std::span(tty_.writing_)), -1);
  }
  void complete(int32_t res, bool) override {
    if (res == -EINTR || res == -EAGAIN) return arm();
    // Where nothing can be shown any more, output is dropped: the guest must not hang on it.
    tty_.writing_.erase(0, res < 0 ? std::string::npos : static_cast<size_t>(res));
    tty_.write_more();
    if (tty_.drained()) tty_.queue().wake_all(POLLOUT | POLLWRNORM);
  }

 private:
  ConsoleTty& tty_;
};

class ConsoleTty::Watch final : public hostio::Completion {
 public:
  explicit Watch(ConsoleTty& tty) : tty_(tty) {}
  void arm() { tty_.kernel().reactor.ring().poll(*this, tty_.host_.window_watch, POLLIN); }
  void complete(int32_t res, bool) override {
    if (res < 0) return;
    tty_.host_.take_window();
    tty_.update_size();
    arm();
  }

 private:
  ConsoleTty& tty_;
};

ConsoleTty::ConsoleTty(Kernel& kernel, Host host)
    : Tty(kernel, make_dev(5, 1)),
      host_(std::move(host)),
      reader_(std::make_unique<Reader>(*this)),
      writer_(std::make_unique<Writer>(*this)),
      watch_(std::make_unique<Watch>(*this)) {
  UserTermios t = default_termios();
  t.iflag |= IUTF8 | IMAXBEL;
  t.cflag |= CLOCAL;
  if (!host_.raw) {  // the host's discipline echoes and maps newlines
    t.lflag &= ~static_cast<uint32_t>(ECHO | ECHOE | ECHOK | ECHOKE | ECHOCTL);
    t.oflag &= ~static_cast<uint32_t>(OPOST);
  }
  line().set_termios(t);
  update_size();
  if (host_.window_watch >= 0) watch_->arm();
  if (host_.raw) read_more();
}

ConsoleTty::~ConsoleTty() {
  hostio::Ring& ring = kernel().reactor.ring();
  if (!reader_->idle()) ring.detach(*reader_);
  if (!writer_->idle()) ring.detach(*writer_);
  if (!watch_->idle()) ring.detach(*watch_);
}

void ConsoleTty::update_size() {
  if (auto size = sys::get_winsize(host_.out >= 0 ? host_.out : host_.in))
    set_winsize({size->ws_row, size->ws_col, size->ws_xpixel, size->ws_ypixel});
}

void ConsoleTty::read_more() {
  if (host_.in < 0 || !reader_->idle() || !held_.empty()) return;
  reader_->arm();
}

void ConsoleTty::feed() {
  while (!held_.empty()) {
    const size_t n = input(held_);
    if (n == 0) return;  // input_taken() goes on
    held_.erase(0, n);
  }
  if (host_.raw) read_more();
}

void ConsoleTty::input_taken() { feed(); }

void ConsoleTty::want_input() {
  if (!host_.raw) read_more();
}

void ConsoleTty::output_added() {
  if (writer_->idle()) write_more();
}

void ConsoleTty::write_more() {
  if (writing_.empty()) {
    if (line().stopped()) return;  // ^S; output_added() comes with ^Q
    writing_ = take_output(kWriteBytes);
  }
  if (writing_.empty()) return;
  if (host_.out < 0) {
    writing_.clear();
    return;
  }
  writer_->arm();
}

bool ConsoleTty::drained() const { return Tty::drained() && writing_.empty(); }

void ConsoleTty::finish(uint64_t limit_ns) {
  hostio::Ring& ring = kernel().reactor.ring();
  host_.in = -1;
  if (!reader_->idle()) ring.detach(*reader_);  // what is typed from now on is not ours
  const uint64_t end = kernel().clock.monotonic_ns() + limit_ns;
  line().set_stopped(false);
  if (writer_->idle()) write_more();
  while (!drained() && !writer_->idle()) {
    const uint64_t now = kernel().clock.monotonic_ns();
    if (now >= end) break;
    ring.wait(static_cast<int64_t>(end - now), nullptr);
    ring.drain();
  }
}

}  // namespace uk
