#include "boot/device_events.h"

#include <linux/netlink.h>

#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "ukernel/dev/block/disk.h"
#include "ukernel/net/netlink/netlink_socket.h"

namespace uk::boot {

void DeviceEvents::tell(const BlockDevice& device, bool there) {
  ++sequence_;
  if (kernel_.netlink_sockets == nullptr) return;  // nobody has ever asked
  const std::string action = there ? "add" : "remove";
  std::string at = "/devices/virtual/block/" + device.disk().options.name;
  if (device.number != 0) absl::StrAppend(&at, "/", device.name());
  std::string text;
  auto line = [&](const auto&... parts) {
    absl::StrAppend(&text, parts...);
    text += '\0';
  };
  line(action, "@", at);
  line("ACTION=", action);
  line("DEVPATH=", at);
  line("SUBSYSTEM=block");
  line("MAJOR=", dev_major(device.rdev()));
  line("MINOR=", dev_minor(device.rdev()));
  line("DEVNAME=", device.name());
  line("DEVTYPE=", device.number == 0 ? "disk" : "partition");
  if (device.number != 0) line("PARTN=", device.number);
  line("SEQNUM=", sequence_);
  constexpr int kKernelGroup = 1;
  NetlinkSender from;
  from.group = kKernelGroup;
  kernel_.netlink_sockets->each(NETLINK_KOBJECT_UEVENT, [&](NetlinkSocket& socket) {
    const auto bytes = std::as_bytes(std::span(text));
    if (socket.in_group(kKernelGroup)) (void)socket.deliver({bytes.begin(), bytes.end()}, from);
  });
}

}  // namespace uk::boot
