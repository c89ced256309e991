#include "ukernel/net/netlink/protocols.h"

#include "ukernel/net/netlink/generic.h"
#include "ukernel/net/netlink/process_connector.h"
#include "ukernel/net/netlink/task_statistics.h"

namespace uk {
namespace {

class Route final : public NetlinkProtocol {
  void receive(NetlinkSocket& from, const SocketCaller&,
               std::span<const std::byte> datagram) override {
    each_request(from, datagram, [&](const NetlinkRequest& r) -> Result<> {
      if (!r.is_dump()) return Err(Errno::kOPNOTSUPP);
      (void)from.deliver(netlink_done(r, from.port()));
      return {};
    });
  }
};

class DeviceEvents final : public NetlinkProtocol {
  // DEVIATION: Linux passes on what the privileged send; see docs/CAVEATS.md.
  void receive(NetlinkSocket& from, const SocketCaller& who,
               std::span<const std::byte> datagram) override {
    each_request(from, datagram, [&](const NetlinkRequest&) -> Result<> {
      return Err(from.capable(who, Cap::kSysAdmin) ? Errno::kOPNOTSUPP : Errno::kPERM);
    });
  }
};

}  // namespace

std::shared_ptr<NetlinkSockets> make_netlink_sockets(Kernel& kernel) {
  auto table = std::make_shared<NetlinkSockets>();
  table->add(NETLINK_ROUTE, std::make_unique<Route>());
  table->add(NETLINK_KOBJECT_UEVENT, std::make_unique<DeviceEvents>());
  table->add(NETLINK_CONNECTOR, std::make_unique<ProcessConnector>(kernel, *table));
  auto generic = std::make_unique<GenericNetlink>();
  generic->add(std::make_unique<TaskStatistics>(kernel));
  table->add(NETLINK_GENERIC, std::move(generic));
  return table;
}

}  // namespace uk
