// The console: a guest terminal whose keyboard and screen are the caller's host terminal.
// Interactive (host terminal raw): all keys go through the guest's line discipline, and the size
// follows the host's window. Otherwise (only some of stdin, stdout, stderr are the terminal) the
// host's own discipline stays in charge and is read only when the guest asks.
//
// Ownership: descriptors are the caller's, borrowed. Host I/O goes through the reactor's ring;
// nothing here suspends but the Tty's own reads and writes. Keys are untrusted input.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "ukernel/dev/tty/tty.h"

namespace uk {

class ConsoleTty final : public Tty {
 public:
  struct Host {
    int in = -1;   // read from; -1: no input
    int out = -1;  // written to, and asked for its size
    bool raw = false;
    int window_watch = -1;  // hostio::WindowWatch::fd(): readable when the size changed; -1: none
    std::function<void()> take_window;  // empties it
  };
  ConsoleTty(Kernel& kernel, Host host);
  ~ConsoleTty() override;

  // Output that has not reached the host yet goes there now, waiting up to `limit_ns` for a
  // terminal that takes nothing. For the end of the instance: outside of fibers.
  void finish(uint64_t limit_ns);

 protected:
  void output_added() override;
  void input_taken() override;
  void want_input() override;
  bool drained() const override;

 private:
  class Reader;
  class Writer;
  class Watch;
  void read_more();
  void write_more();
  void feed();
  void update_size();

  Host host_;
  std::string held_;     // read from the host, no room for it in the line discipline yet
  std::string writing_;  // on its way to the host
  std::unique_ptr<Reader> reader_;
  std::unique_ptr<Writer> writer_;
  std::unique_ptr<Watch> watch_;
};

}  // namespace uk
