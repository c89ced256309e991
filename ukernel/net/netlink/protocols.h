// What the kernel says in AF_NETLINK:
//   NETLINK_ROUTE           there are no network interfaces: dumps are empty, all else is refused;
//   NETLINK_KOBJECT_UEVENT  block devices that come and go; boot tells (boot/device_events.h);
//   NETLINK_CONNECTOR       events of processes (process_connector.h);
//   NETLINK_GENERIC         the controller and task statistics (generic.h, task_statistics.h).
//
// Ownership: whoever asks owns the table, which keeps references to the Kernel.
#pragma once

#include <memory>

#include "ukernel/net/netlink/netlink_socket.h"

namespace uk {

class Kernel;

std::shared_ptr<NetlinkSockets> make_netlink_sockets(Kernel& kernel);

}  // namespace uk
