#include "boot/control/server.h"

#include <poll.h>
#include <sys/socket.h>

#include <utility>
#include <vector>

#include "boot/control/place.h"
#include "hostio/sys/process.h"
#include "hostio/sys/socket.h"
#include "ukernel/sched/host_io.h"

namespace uk::boot {
namespace {

constexpr uint64_t kPatienceNs = 10 * kNsPerSec;

Deadline soon(Park& park) { return Deadline{park.reactor().now_ns() + kPatienceNs}; }

}  // namespace

class ControlServer::Client final : public ControlReply {
 public:
  explicit Client(sys::Fd fd) : fd_(std::move(fd)) {}

  // The request; error: there is none, or too late.
  Result<Words> request(Park& park) {
    const struct ucred who = TRY(sys::peer_credentials(fd_.get()));
    if (who.uid != sys::geteuid() && who.uid != 0) return Err(Errno::kPERM);
    std::vector<std::byte> buffer(kMaxLine + 1);
    const Deadline deadline = soon(park);
    for (;;) {
      TRY(host_poll(park, fd_.get(), POLLIN, deadline));
      Result<size_t> n = sys::recv(fd_.get(), buffer, MSG_DONTWAIT);
      if (!n && (n.error() == Errno::kAGAIN || n.error() == Errno::kINTR)) continue;
      if (TRY(n) == 0) return Err(Errno::kPIPE);
      auto words = decode_line({reinterpret_cast<const char*>(buffer.data()), *n});
      return words ? Result<Words>(std::move(*words)) : Err(Errno::kINVAL);
    }
  }

  void out(Park& park, const std::string& text) override {
    // In pieces that fit a message, however they are written.
    constexpr size_t kPiece = kMaxLine / 3 - 64;
    for (size_t at = 0; at < text.size(); at += kPiece)
      send(park, {"out", text.substr(at, kPiece)});
  }
  void progress(uint64_t done, uint64_t total) override {
    (void)send_now({"progress", std::to_string(done), std::to_string(total)});
  }
  void send(Park& park, const Words& words) {
    const Deadline deadline = soon(park);
    while (!gone_ && !send_now(words)) {
      if (!gone_ && !host_poll(park, fd_.get(), POLLOUT, deadline)) gone_ = true;
    }
  }

 private:
  bool send_now(const Words& words) {
    if (gone_) return false;
    const std::string line = encode_line(words);
    Result<size_t> n = sys::send(fd_.get(), std::as_bytes(std::span(line)), MSG_DONTWAIT);
    if (!n && n.error() != Errno::kAGAIN && n.error() != Errno::kINTR) gone_ = true;
    return n.has_value();
  }
  const sys::Fd fd_;
  bool gone_ = false;
};

std::unique_ptr<ControlServer> ControlServer::open(Reactor& reactor, std::string name,
                                                   std::string& why) {
  auto fd = listen_as(name, why);
  if (fd)
    return std::unique_ptr<ControlServer>(
        new ControlServer(reactor, std::move(*fd), std::move(name)));
  if (why.empty())
    why = "control socket: " + std::string(errno_text(fd.error())) + "; end some of what runs here";
  return nullptr;
}

ControlServer::ControlServer(Reactor& reactor, sys::Fd fd, std::string name)
    : reactor_(reactor), fd_(std::move(fd)), name_(std::move(name)) {}

void ControlServer::start() {
  reactor_.spawn("control", [this](Park& park) { accept_clients(park); });
}

void ControlServer::accept_clients(Park& park) {
  for (;;) {
    (void)client_left_.wait(
        park, [&] { return clients_ < kMaxClients; }, WaitMode::kUninterruptible, kNever,
        "control");
    (void)host_poll(park, fd_.get(), POLLIN);
    auto fd = sys::accept(fd_.get(), SOCK_NONBLOCK);
    if (!fd) {
      const Deadline later{reactor_.now_ns() + kNsPerSec};
      if (fd.error() != Errno::kAGAIN && fd.error() != Errno::kCONNABORTED)
        while (reactor_.now_ns() < later.at_ns) park.suspend(later);  // out of descriptors, perhaps
      continue;
    }
    ++clients_;
    reactor_.spawn("control client",
                   [this, client = std::make_shared<Client>(std::move(*fd))](Park& own) mutable {
                     serve(own, *client);
                     client = nullptr;  // closes
                     --clients_;
                     client_left_.wake_all();
                   });
  }
}

void ControlServer::serve(Park& park, Client& client) {
  const std::string why = answer(park, client);
  client.send(park, why.empty() ? Words{"ok"} : Words{"error", why.substr(0, kMaxLine / 4)});
}

std::string ControlServer::answer(Park& park, Client& client) {
  Result<Words> words = client.request(park);
  if (!words) return "request: " + std::string(errno_text(words.error())) + "; use ukernel ctl";
  auto handler = handlers_.find((*words)[0]);
  if (handler == handlers_.end())
    return (*words)[0] + ": the instance does not know it; see ukernel ctl --help";
  return handler->second(park, *words, client);
}

}  // namespace uk::boot
