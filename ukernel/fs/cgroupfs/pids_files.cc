// The pids controller (cgroup-v2, "PID").
#include "absl/strings/str_format.h"
#include "ukernel/fs/cgroupfs/cgroup_inode.h"

namespace uk::cgroupfs {
namespace {

constexpr uint64_t kPidMaxLimit = 4194304;

Result<std::string> show_current(Ctx& c) { return std::to_string(c.group.pids.current) + "\n"; }
Result<std::string> show_peak(Ctx& c) { return std::to_string(c.group.pids.peak) + "\n"; }
Result<std::string> show_max(Ctx& c) { return text_of(c.group.pids.max); }
Result<> store_max(Ctx& c, std::string_view text) {
  c.group.pids.max = TRY(number_or_max(text, kPidMaxLimit));
  return {};
}
Result<std::string> show_events(Ctx& c) {
  return absl::StrFormat("max %d\n", c.group.pids.refused_below);
}
Result<std::string> show_local_events(Ctx& c) {
  return absl::StrFormat("max %d\n", c.group.pids.refused);
}
Changes events(Cgroup& g) { return {g.pids.events.version, &g.pids.events.queue}; }

constexpr Entry pids_entry(const char* name, Result<std::string> (*show)(Ctx&)) {
  return {.name = name, .perm = 0444, .show = show, .controller = kPidsController};
}

constexpr Entry kEntries[] = {
    pids_entry("pids.current", show_current),
    {.name = "pids.events",
     .perm = 0444,
     .show = show_events,
     .changes = events,
     .controller = kPidsController},
    pids_entry("pids.events.local", show_local_events),
    {.name = "pids.max",
     .perm = 0644,
     .show = show_max,
     .store = store_max,
     .controller = kPidsController},
    pids_entry("pids.peak", show_peak),
};

}  // namespace

std::span<const Entry> pids_entries() { return kEntries; }

}  // namespace uk::cgroupfs
