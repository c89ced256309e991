// An instance's end of `ukernel ctl`: answers requests (protocol.h) at its socket, a fiber for each
// client, so that one who hangs, floods or dies is nobody else's concern: a request is one message,
// must come within seconds, and an answer that is not taken within seconds ends the client. Only
// the instance's own user and root are heard (SO_PEERCRED).
//
// Ownership: the instance owns the server, which owns its socket.
// Reactor-owned; handlers run on a client's fiber, may suspend, and get untrusted words.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "boot/control/protocol.h"
#include "hostio/sys/fd.h"
#include "ukernel/sched/reactor.h"
#include "ukernel/sched/wait_queue.h"

namespace uk::boot {

// What a handler says while it works. A client that is gone is not told, and nobody minds.
class ControlReply {
 public:
  virtual ~ControlReply() = default;
  virtual void out(Park& park, const std::string& text) = 0;
  // Left out when the client does not keep up.
  virtual void progress(uint64_t done, uint64_t total) = 0;
};

class ControlServer {
 public:
  static constexpr int kMaxClients = 16;  // more wait
  // Returns "" or "WHAT: WHY; WHAT TO DO".
  using Handler = std::function<std::string(Park&, const Words&, ControlReply&)>;

  // Takes the name, and is silent until start(). Empty: one is made up. Null: see `why`. Blocks.
  static std::unique_ptr<ControlServer> open(Reactor& reactor, std::string name, std::string& why);

  const std::string& name() const { return name_; }
  void add(const std::string& verb, Handler handler) { handlers_[verb] = std::move(handler); }
  void start();

 private:
  class Client;
  ControlServer(Reactor& reactor, sys::Fd fd, std::string name);
  void accept_clients(Park& park);
  void serve(Park& park, Client& client);
  std::string answer(Park& park, Client& client);

  Reactor& reactor_;
  const sys::Fd fd_;
  const std::string name_;
  std::map<std::string, Handler> handlers_;
  int clients_ = 0;
  WaitQueue client_left_;
};

}  // namespace uk::boot
