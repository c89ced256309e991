// Tells guests of block devices that come and go, as udev(7) and its like listen for: datagrams to
// group 1 of NETLINK_KOBJECT_UEVENT (kobject_uevent.c in Linux).
//
// Ownership: the caller owns it; it refers to the Kernel. Nothing suspends; a listener whose queue
// is full loses the event, and knows (ENOBUFS).
#pragma once

#include <cstdint>

#include "ukernel/kernel.h"

namespace uk {
class BlockDevice;
}

namespace uk::boot {

class DeviceEvents {
 public:
  explicit DeviceEvents(Kernel& kernel) : kernel_(kernel) {}
  void tell(const BlockDevice& device, bool there);

 private:
  Kernel& kernel_;
  uint64_t sequence_ = 0;
};

}  // namespace uk::boot
