// The memory controller (cgroup-v2, "Memory"): limits of task/memory_group.h, in bytes.
#include <charconv>

#include "absl/strings/str_format.h"
#include "ukernel/fs/cgroupfs/cgroup_inode.h"
#include "ukernel/task/memory_group.h"

namespace uk::cgroupfs {
namespace {

// Bytes, with K, M, G, T for powers of 1024, as pages rounded down; or "max".
Result<uint64_t> pages_of(std::string_view text) {
  if (text == "max") return MemoryGroup::kUnlimited;
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return Err(Errno::kINVAL);
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  constexpr std::string_view kUnits = "kmgtpe";
  if (!text.empty()) {
    const size_t unit = kUnits.find(static_cast<char>(text[0] | 0x20));
    if (unit == kUnits.npos || text.size() > 1) return Err(Errno::kINVAL);
    const auto shift = static_cast<unsigned>(10 * (unit + 1));
    value = value > UINT64_MAX >> shift ? UINT64_MAX : value << shift;
  }
  return value / kPageSize;
}

std::string bytes(uint64_t pages) {
  return pages == MemoryGroup::kUnlimited ? "max\n" : std::to_string(pages * kPageSize) + "\n";
}

Result<std::string> show_current(Ctx& c) { return bytes(c.group.memory->pages); }
Result<std::string> show_peak(Ctx& c) { return bytes(c.group.memory->peak); }
Result<std::string> show_max(Ctx& c) { return bytes(c.group.memory->max_pages); }
Result<> store_max(Ctx& c, std::string_view text) {
  Ref<Cgroup> group(&c.group);
  return c.group.tree.set_memory_max(c.park, *group, TRY(pages_of(text)));
}

Result<std::string> show_high(Ctx& c) { return bytes(c.group.memory->high_pages); }
Result<> store_high(Ctx& c, std::string_view text) {
  const uint64_t pages = c.group.memory->high_pages = TRY(pages_of(text));
  reclaim_to(c.kernel, *c.group.memory, pages);
  return {};
}

template <uint64_t MemoryGroup::*kPages>
Result<std::string> show_protection(Ctx& c) {
  return bytes(c.group.memory.get()->*kPages);
}
template <uint64_t MemoryGroup::*kPages>
Result<> store_protection(Ctx& c, std::string_view text) {
  c.group.memory.get()->*kPages = TRY(pages_of(text));
  return {};
}

Result<std::string> show_oom_group(Ctx& c) {
  return std::string(c.group.memory->oom_group ? "1\n" : "0\n");
}
Result<> store_oom_group(Ctx& c, std::string_view text) {
  c.group.memory->oom_group = TRY(number(text, 0, 1, Errno::kINVAL)) != 0;
  return {};
}

// memory.low protects nothing, so that it is never gone below.
std::string text_of_events(const MemoryGroup::Events& e) {
  return absl::StrFormat("low 0\nhigh %d\nmax %d\noom %d\noom_kill %d\noom_group_kill %d\n", e.high,
                         e.max, e.oom, e.oom_kill, e.oom_group_kill);
}
Result<std::string> show_events(Ctx& c) { return text_of_events(c.group.memory->events); }
Result<std::string> show_local_events(Ctx& c) { return text_of_events(c.group.memory->local); }
Changes events(Cgroup& g) { return {g.memory_events.version, &g.memory_events.queue}; }

constexpr Entry memory_entry(const char* name, Result<std::string> (*show)(Ctx&)) {
  return {.name = name, .perm = 0444, .show = show, .controller = kMemoryController};
}

constexpr Entry memory_setting(const char* name, Result<std::string> (*show)(Ctx&),
                               Result<> (*store)(Ctx&, std::string_view)) {
  return {
      .name = name, .perm = 0644, .show = show, .store = store, .controller = kMemoryController};
}

constexpr Entry kEntries[] = {
    memory_entry("memory.current", show_current),
    {.name = "memory.events",
     .perm = 0444,
     .show = show_events,
     .changes = events,
     .controller = kMemoryController},
    memory_entry("memory.events.local", show_local_events),
    memory_setting("memory.high", show_high, store_high),
    memory_setting("memory.low", show_protection<&MemoryGroup::low_pages>,
                   store_protection<&MemoryGroup::low_pages>),
    memory_setting("memory.max", show_max, store_max),
    memory_setting("memory.min", show_protection<&MemoryGroup::min_pages>,
                   store_protection<&MemoryGroup::min_pages>),
    memory_setting("memory.oom.group", show_oom_group, store_oom_group),
    memory_entry("memory.peak", show_peak),
};

}  // namespace

std::span<const Entry> memory_entries() { return kEntries; }

}  // namespace uk::cgroupfs
