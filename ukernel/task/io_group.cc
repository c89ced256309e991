#include "ukernel/task/io_group.h"

#include <algorithm>

#include "ukernel/kernel.h"
#include "ukernel/task/cgroup.h"
#include "ukernel/task/current.h"

namespace uk {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kDiscardCost = 512;  // bytes that a discard counts as, whatever its length

// How long `n` take at a rate; never so long that sums of it overflow.
uint64_t cost_ns(uint64_t n, uint64_t rate) {
  const auto ns = static_cast<unsigned __int128>(n) * kSecondNs / rate;
  return static_cast<uint64_t>(std::min<unsigned __int128>(ns, uint64_t{1} << 60));
}

void pay(uint64_t& paid_ns, uint64_t now, uint64_t n, uint64_t rate) {
  if (rate == IoGroup::kMax) return;
  paid_ns = std::min(std::max(paid_ns, now), uint64_t{1} << 61) + cost_ns(n, rate);
}

}  // namespace

void IoGroup::set_limits(uint64_t dev, const Limits& limits) {
  Device& d = devices_[dev];
  d.limits = limits;
  d.bytes_paid_ns = d.requests_paid_ns = {};  // what was owed at the old rate is forgotten
  ++version_;
  changed_.wake_all();
}

void IoGroup::end_limits() {
  for (auto& [dev, d] : devices_) d.limits = {};
  ++version_;
  changed_.wake_all();
}

Result<> IoGroup::charge(Park& park, Clock& clock, uint64_t dev, IoKind kind, uint64_t bytes) {
  const Direction way = kind == IoKind::kRead ? kReads : kWrites;
  for (;;) {
    Device& d = devices_[dev];
    const uint64_t now = clock.monotonic_ns();
    uint64_t ready = 0;
    if (d.limits.bytes[way] != kMax) ready = d.bytes_paid_ns[way];
    if (d.limits.requests[way] != kMax) ready = std::max(ready, d.requests_paid_ns[way]);
    if (ready <= now) {
      pay(d.bytes_paid_ns[way], now, kind == IoKind::kDiscard ? kDiscardCost : bytes,
          d.limits.bytes[way]);
      pay(d.requests_paid_ns[way], now, 1, d.limits.requests[way]);
      Counts& c = d.counts[static_cast<size_t>(kind)];
      c.bytes += bytes;
      ++c.requests;
      return {};
    }
    Result<> r = changed_.wait(
        park, [this, seen = version_] { return version_ != seen; }, WaitMode::kKillable,
        Deadline{ready}, "io.max");
    if (!r && r.error() != Errno::kTIMEDOUT) return Err(Errno::kINTR);
  }
}

Result<> charge_io(Kernel& kernel, Park& park, Cgroup* group, uint64_t dev, IoKind kind,
                   uint64_t bytes) {
  const Task* task = current_task(kernel.reactor);
  Ref<Cgroup> keep(group != nullptr ? group
                                    : (task != nullptr ? task->group->cgroup.get() : nullptr));
  for (Cgroup* up = keep.get(); up != nullptr; up = up->parent.get()) {
    if (std::shared_ptr<IoGroup> io = up->io) TRY(io->charge(park, kernel.clock, dev, kind, bytes));
  }
  return {};
}

void end_io_limits(Cgroups& cgroups) {
  std::vector<Cgroup*> todo{cgroups.root.get()};
  while (!todo.empty()) {
    Cgroup* group = todo.back();
    todo.pop_back();
    if (group->io) group->io->end_limits();
    for (const auto& [name, child] : group->children) todo.push_back(child.get());
  }
}

}  // namespace uk
