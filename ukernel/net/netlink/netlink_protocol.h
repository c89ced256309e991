// The kernel's end of a protocol of AF_NETLINK: what hears the messages that tasks send to port 0.
//
// Ownership: NetlinkSockets owns them; they outlive all sockets. Nothing here suspends; messages
// are guest data, at most NetlinkSocket::kMaxMessage bytes.
#pragma once

#include <functional>
#include <span>

#include "base/result.h"
#include "ukernel/net/netlink/netlink_message.h"

namespace uk {

class NetlinkSocket;
struct SocketCaller;

class NetlinkProtocol {
 public:
  virtual ~NetlinkProtocol() = default;
  // A whole datagram of `from`; `who` sends it. Answers are delivered to `from`.
  virtual void receive(NetlinkSocket& from, const SocketCaller& who,
                       std::span<const std::byte> datagram) = 0;
  // May `who` hear what is told to group `group` (1 is the first)?
  virtual Result<> may_join(const SocketCaller&, int /*group*/) { return {}; }
  // The socket goes.
  virtual void closed(NetlinkSocket&) {}
};

// As Linux's netlink_rcv_skb(): `handle` is called with each request in the datagram, and what it
// says goes back to the socket if it is an error or NLM_F_ACK asks for it.
void each_request(NetlinkSocket& from, std::span<const std::byte> datagram,
                  const std::function<Result<>(const NetlinkRequest&)>& handle);

}  // namespace uk
