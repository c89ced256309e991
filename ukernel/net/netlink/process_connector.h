// The process events connector (<linux/cn_proc.h>): who has asked for it hears of forks, programs,
// changed ids and names, sessions, tracing, core dumps and ends, of all processes, by the numbers
// of the initial namespaces. Events are told to group CN_IDX_PROC while anybody listens; a socket
// may say which of them it wants, as since Linux 6.6.
//
// Ownership: NetlinkSockets owns it. Reactor-owned, nothing suspends. A queue that is full loses
// events, and its socket knows (ENOBUFS).
#pragma once

#include <linux/cn_proc.h>

#include <map>
#include <vector>

#include "ukernel/net/netlink/netlink_socket.h"
#include "ukernel/task/process_events.h"

namespace uk {

class ProcessConnector final : public NetlinkProtocol, public ProcessWatcher {
 public:
  ProcessConnector(Kernel& kernel, NetlinkSockets& sockets);
  ~ProcessConnector() override;

  void receive(NetlinkSocket& from, const SocketCaller& who,
               std::span<const std::byte> datagram) override;
  Result<> may_join(const SocketCaller& who, int group) override;
  void closed(NetlinkSocket& socket) override;
  void tell(const ProcessEvent& event) override;

 private:
  struct Wish {
    bool listens = false;  // it counts as a listener
    bool deaf = false;     // its last word was that it wants nothing
    uint32_t events = 0;   // PROC_EVENT_*, and kNonzeroExit
  };
  // False: not one that is told about.
  static bool fill(proc_event& out, const ProcessEvent& event);
  bool wants(const NetlinkSocket& socket, const proc_event& event) const;
  void send(proc_event& event, uint32_t ack, int cpu);
  void set_listening(Wish& wish, bool listens);

  Kernel& kernel_;
  const std::shared_ptr<Accounting> accounting_;  // where it watches; outlives the Kernel's
  NetlinkSockets& sockets_;
  std::map<const NetlinkSocket*, Wish> wishes_;  // of those that have said one
  int listeners_ = 0;
  std::vector<uint32_t> sent_;  // by CPU: events are numbered on each
};

}  // namespace uk
