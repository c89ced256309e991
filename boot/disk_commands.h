// What `ukernel ctl NAME config|remove|mirror` does, inside the instance: disks come, go, and move
// to other files while the guest runs.
//
// Ownership: the instance owns it; it outlives the server it registers with. Handlers run on
// clients' fibers and suspend; requests are untrusted and parsed again (control/disk_words.h). A
// mirror goes on when its client is gone.
#pragma once

#include "boot/control/disk_words.h"
#include "boot/control/server.h"
#include "ukernel/kernel.h"

namespace uk {
class Disk;
}

namespace uk::boot {

class DiskCommands {
 public:
  // `kernel` is made before the first request.
  explicit DiskCommands(const std::unique_ptr<Kernel>& kernel) : kernel_place_(kernel) {}
  void register_with(ControlServer& server);
  // The instance ends: mirrors do too, and what they have made goes.
  void end(Park& park);

 private:
  std::string handle(Park& park, const Words& words, ControlReply& reply);
  std::string list();
  std::string remove(Park& park, const DiskCommand& command);
  std::string mirror(Park& park, const DiskSpec& spec, ControlReply& reply);
  std::string cancel_mirror(Disk& disk);
  Ref<Disk> find(const std::string& name) const;  // null: no host disk of that name

  Kernel& kernel() const { return *kernel_place_; }
  const std::unique_ptr<Kernel>& kernel_place_;
  int mirrors_ = 0;  // including those that clean up
  bool ending_ = false;
  WaitQueue mirror_over_;
};

}  // namespace uk::boot
