// The io controller of control groups (cgroups(7), cgroup-v2 "IO"): what a group and those below it
// have read and written of each block device, and the limits that make its processes wait.
//
// A request is paid for by the group of the task that makes it; what was written to a cache and
// reaches the device later, by the group that dirtied the cache last, as Linux decides for an
// inode. A limit is a rate without a burst: a request goes as soon as those before it are paid for.
//
// Ownership: a Cgroup has its IoGroup while the controller is on; who waits in it holds it too.
// Reactor-owned. charge_io() suspends. Numbers of devices have been looked up, so that there are no
// more entries than devices.
#pragma once

#include <array>
#include <cstdint>
#include <map>

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/sched/wait_queue.h"

namespace uk {

class Cgroup;
class Cgroups;
class Clock;
class Kernel;

enum class IoKind : uint8_t { kRead, kWrite, kDiscard };

class IoGroup {
 public:
  static constexpr uint64_t kMax = UINT64_MAX;
  enum Direction : uint8_t { kReads, kWrites };
  struct Limits {
    std::array<uint64_t, 2> bytes{kMax, kMax}, requests{kMax, kMax};  // a second, by Direction
    bool operator==(const Limits&) const = default;
  };
  struct Counts {
    uint64_t bytes = 0, requests = 0;
  };
  struct Device {
    Limits limits;
    std::array<Counts, 3> counts;  // by IoKind
    // Monotonic times before which nothing more may go.
    std::array<uint64_t, 2> bytes_paid_ns{}, requests_paid_ns{};
  };

  const std::map<uint64_t, Device>& devices() const { return devices_; }
  void set_limits(uint64_t dev, const Limits& limits);
  void end_limits();  // of all devices
  // Waits for the limits, then counts. kINTR: a fatal signal came first.
  Result<> charge(Park& park, Clock& clock, uint64_t dev, IoKind kind, uint64_t bytes);

 private:
  std::map<uint64_t, Device> devices_;
  uint64_t version_ = 0;  // of the limits
  WaitQueue changed_;
};

// Charges `group` (null: that of the task that runs now) and those above it.
Result<> charge_io(Kernel& kernel, Park& park, Cgroup* group, uint64_t dev, IoKind kind,
                   uint64_t bytes);
// Nobody waits any more: the instance ends.
void end_io_limits(Cgroups& cgroups);

}  // namespace uk
