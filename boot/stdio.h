// The guest's stdin, stdout, stderr and console: the caller's own descriptors. A terminal becomes
// the guest's console tty (raw on the host side, put back at the end); pipes and files are passed
// through as they are. Host signals that ask ukernel to end go to the guest's first process.
#pragma once

#include <memory>
#include <string>

#include "ukernel/kernel.h"

namespace uk::boot {

class Stdio {
 public:
  Stdio();
  ~Stdio();
  // Fills init.stdio and init.console. Returns "" or a sentence for the user.
  std::string open(Park& park, Kernel& kernel, Kernel::InitRequest& init);
  // From now on SIGINT, SIGTERM, SIGHUP and SIGQUIT sent to ukernel reach pid 1.
  void forward_signals(Kernel& kernel);
  // Puts the host terminal back. Safe to call twice.
  void restore();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace uk::boot
