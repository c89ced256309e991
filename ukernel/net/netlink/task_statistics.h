// The family TASKSTATS of NETLINK_GENERIC (<linux/taskstats.h>): what a thread or process has used,
// to who asks for it by number, and of threads that end to who has registered for the CPUs they end
// on. Delays are not accounted for (as with Linux's kernel.task_delayacct at 0).
//
// Ownership: GenericNetlink owns it. Reactor-owned, nothing suspends.
#pragma once

#include <set>
#include <vector>

#include "ukernel/net/netlink/generic.h"
#include "ukernel/task/process_events.h"

namespace uk {

class TaskStatistics final : public GenericFamily, public ProcessWatcher {
 public:
  explicit TaskStatistics(Kernel& kernel);
  ~TaskStatistics() override;

  Result<> handle(const GenericRequest& request) override;
  void closed(NetlinkSocket& socket) override;
  void tell(const ProcessEvent& event) override;

 private:
  Result<> listen(const GenericRequest& request, std::span<const std::byte> cpus, bool on);
  void watch_if_needed();

  Kernel& kernel_;
  const std::shared_ptr<Accounting> accounting_;  // where it watches; outlives the Kernel's
  struct Cpu {
    std::set<NetlinkSocket*> listeners;
    uint32_t sent = 0;
  };
  std::vector<Cpu> cpus_;
};

}  // namespace uk
