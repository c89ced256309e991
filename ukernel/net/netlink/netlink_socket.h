// AF_NETLINK sockets (netlink(7)): datagrams between the kernel and tasks, and to groups of
// sockets. What the kernel says in each protocol is in protocols.h.
// mq_notify(2) with SIGEV_THREAD sends its cookies to such a socket (any protocol).
//
// Ownership: descriptors hold the sockets; the table, which the Kernel owns, knows their port
// numbers. receive() suspends. What tasks send is guest data, at most kMaxMessage bytes.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "ukernel/net/netlink/netlink_protocol.h"
#include "ukernel/net/socket.h"
#include "ukernel/sched/reactor.h"

namespace uk {

class NetlinkSocket;

class NetlinkSockets {
 public:
  // A free number for (protocol, wanted); `wanted` 0: any, `tgid` if that is free.
  // kADDRINUSE.
  Result<uint32_t> take(int protocol, uint32_t wanted, uint32_t tgid, NetlinkSocket* socket);
  void give_back(int protocol, uint32_t port);
  NetlinkSocket* find(int protocol, uint32_t port) const;
  void add(int protocol, std::unique_ptr<NetlinkProtocol> kernel_end);
  // Null: there is no such protocol.
  NetlinkProtocol* protocol(int protocol) const;
  // Every bound socket of the protocol.
  void each(int protocol, const std::function<void(NetlinkSocket&)>& f) const;

 private:
  std::map<int, std::unique_ptr<NetlinkProtocol>> protocols_;
  std::map<std::pair<int, uint32_t>, NetlinkSocket*> ports_;  // not owned
  uint32_t next_ = 0;
};

// Who speaks in a datagram: the kernel, unless it says otherwise.
struct NetlinkSender {
  uint32_t port = 0;
  int group = 0;  // that was spoken to; 0: one socket alone
  UserCreds creds = {};
};

class NetlinkSocket final : public Socket {
 public:
  static constexpr size_t kMaxMessage = 65536;

  // `protocol` is one that the table has.
  NetlinkSocket(Path path, int flags, std::shared_ptr<NetlinkSockets> table, int type, int protocol,
                Ref<const Cred> opener);
  ~NetlinkSocket() override;

  int family() const override;
  int type() const override { return type_; }
  int protocol() const override { return protocol_; }
  Result<> bind(Park& park, const SocketCaller& who, std::string_view address) override;
  Result<> connect(Park& park, const SocketCaller& who, std::string_view address) override;
  Result<> listen(const SocketCaller&, int) override { return Err(Errno::kOPNOTSUPP); }
  Result<Ref<Socket>> accept(Park&, const SocketCaller&, int) override {
    return Err(Errno::kOPNOTSUPP);
  }
  Result<std::string> local_address() override;
  Result<std::string> peer_address() override;
  Result<size_t> send(Park& park, const SocketCaller& who, SendMessage& message) override;
  Result<size_t> receive(Park& park, ReceiveMessage& message) override;
  Result<> shutdown(int) override { return Err(Errno::kOPNOTSUPP); }
  Result<> set_option(const SocketCaller& who, int level, int name,
                      std::string_view value) override;
  Result<std::string> get_option(int level, int name) override;

  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override;
  Result<size_t> write(Park& park, IoSource& from, uint64_t& offset) override;
  uint32_t ready() override;
  WaitQueue* poll_queue() override { return &queue_; }

  // False: there is no room, and the socket knows (ENOBUFS).
  bool deliver(Bytes bytes, const NetlinkSender& from = {});
  bool in_group(int group) const { return group >= 1 && ((groups_ >> (group - 1)) & 1) != 0; }
  uint32_t port() const { return port_; }
  bool option(int name) const;  // of SOL_NETLINK
  // Has whoever made the socket, and who uses it, this capability over the whole instance?
  bool capable(const SocketCaller& who, Cap cap) const;

 private:
  struct Datagram {
    Bytes bytes;
    NetlinkSender from;
  };
  Result<> autobind(uint32_t tgid);
  Result<> join(const SocketCaller& who, uint32_t groups);
  void broadcast(const Bytes& bytes, const NetlinkSender& from, uint32_t except_port);

  const std::shared_ptr<NetlinkSockets> table_;
  const int type_, protocol_;
  const Ref<const Cred> opener_;
  bool bound_ = false;
  uint32_t port_ = 0, groups_ = 0;
  uint32_t peer_port_ = 0, peer_groups_ = 0;
  std::deque<Datagram> queued_;
  size_t queued_bytes_ = 0;
  Errno error_ = Errno::kOk;
  WaitQueue queue_;
  // Options.
  bool pass_creds_ = false;
  int receive_buffer_ = 212992, send_buffer_ = 212992;
  uint64_t receive_timeout_ns_ = 0;
  std::map<int, int> flags_;  // of SOL_NETLINK: kept and told
};

// socket(2). kSOCKTNOSUPPORT, kPROTONOSUPPORT.
Result<> check_netlink(const NetlinkSockets& table, int type, int protocol);

}  // namespace uk
