// The files that every group has (cgroup-v2, "Core Interface Files").
#include <algorithm>
#include <array>

#include "absl/strings/str_format.h"
#include "ukernel/fs/cgroupfs/cgroup_inode.h"
#include "ukernel/task/current.h"
#include "ukernel/task/pid_ns.h"

namespace uk::cgroupfs {
namespace {

struct ControllerName {
  const char* name;
  uint8_t bit;
};
constexpr std::array kNames = {
    ControllerName{"cpu", kCpuController}, ControllerName{"io", kIoController},
    ControllerName{"memory", kMemoryController}, ControllerName{"pids", kPidsController}};

std::string names_of(uint8_t controllers) {
  std::string out;
  for (const ControllerName& c : kNames)
    if ((controllers & c.bit) != 0)
      absl::StrAppendFormat(&out, "%s%s", out.empty() ? "" : " ", c.name);
  if (!out.empty()) out += '\n';
  return out;
}

Result<std::string> show_controllers(Ctx& c) { return names_of(c.group.enabled()); }
Result<std::string> show_subtree_control(Ctx& c) { return names_of(c.group.subtree_control); }

Result<> store_subtree_control(Ctx& c, std::string_view text) {
  uint8_t on = 0, off = 0;
  for (std::string_view word : words_of(text)) {
    auto known = std::find_if(kNames.begin(), kNames.end(),
                              [&](const ControllerName& n) { return word.substr(1) == n.name; });
    if (known == kNames.end() || (word[0] != '+' && word[0] != '-')) return Err(Errno::kINVAL);
    // The last word about a controller counts.
    uint8_t &to = word[0] == '+' ? on : off, &from = word[0] == '+' ? off : on;
    to |= known->bit;
    from &= static_cast<uint8_t>(~known->bit);
  }
  return c.group.tree.control(c.group, on, off);
}

// The pid namespace of who reads or writes; null: the initial one.
const PidNamespace* numbers_of(Ctx& c) {
  const Task* task = current_task(c.kernel.reactor);
  return task != nullptr ? pid_ns_of(*task).get() : nullptr;
}

Result<std::string> show_procs(Ctx& c) {
  std::string out;
  const PidNamespace* ns = numbers_of(c);
  c.kernel.pids.each_group([&](ThreadGroup& p) {
    if (&c.group.tree.of(p) == &c.group && p.live != 0)
      absl::StrAppendFormat(&out, "%d\n", shown_pid(ns, p.tgid));
  });
  return out;
}

Result<std::string> show_threads(Ctx& c) {
  std::string out;
  const PidNamespace* ns = numbers_of(c);
  c.kernel.pids.each_task([&](Task& t) {
    if (&c.group.tree.of(*t.group) == &c.group && !t.exiting)
      absl::StrAppendFormat(&out, "%d\n", shown_pid(ns, t.tid));
  });
  return out;
}

// May the writer move `process` to the file's group? It needs the right to write to cgroup.procs
// of the nearest group above both (cgroup-v2, "Delegation Containment").
Result<Ref<ThreadGroup>> process_to_move(Ctx& c, std::string_view text) {
  const int64_t pid = TRY(number(text, 0, INT32_MAX, Errno::kINVAL));
  Task* task = pid == 0 ? current_task(c.kernel.reactor)
                        : c.kernel.pids.task(kernel_pid(numbers_of(c), static_cast<int>(pid)));
  if (task == nullptr) return Err(Errno::kSRCH);
  Ref<ThreadGroup> process = task->group;
  Ref<Cgroup> common(&c.group);
  while (!c.group.tree.of(*process).is_within(*common)) common = common->parent;
  TRY(c.group.tree.files->may_attach(c.park, *common, c.opener));
  return process;
}

Result<> store_procs(Ctx& c, std::string_view text) {
  Ref<ThreadGroup> process = TRY(process_to_move(c, text));
  return c.group.tree.attach(*process, Ref<Cgroup>(&c.group));
}

// DEVIATION: there is no threaded mode, so a thread is where its process is.
Result<> store_threads(Ctx& c, std::string_view text) {
  Ref<ThreadGroup> process = TRY(process_to_move(c, text));
  if (&c.group.tree.of(*process) != &c.group) return Err(Errno::kOPNOTSUPP);
  return {};
}

Result<std::string> show_type(Ctx& c) { return std::string(c.group.type()) + "\n"; }
Result<> store_type(Ctx&, std::string_view text) {
  return Err(text == "threaded" ? Errno::kOPNOTSUPP : Errno::kINVAL);
}

Result<std::string> show_events(Ctx& c) {
  return absl::StrFormat("populated %d\nfrozen %d\n", c.group.populated(), c.group.frozen());
}
Changes events(Cgroup& g) { return {g.events.version, &g.events.queue}; }

Result<std::string> show_freeze(Ctx& c) { return std::string(c.group.freeze ? "1\n" : "0\n"); }
Result<> store_freeze(Ctx& c, std::string_view text) {
  c.group.tree.set_freeze(c.group, TRY(number(text, 0, 1, Errno::kRANGE)) != 0);
  return {};
}

Result<std::string> no_text(Ctx&) { return Err(Errno::kINVAL); }  // for who may read all
Result<> store_kill(Ctx& c, std::string_view text) {
  TRY(number(text, 1, 1, Errno::kRANGE));
  c.group.tree.kill(c.group);
  return {};
}

template <uint64_t Cgroup::*kLimit>
Result<std::string> show_limit(Ctx& c) {
  return text_of(c.group.*kLimit);
}
template <uint64_t Cgroup::*kLimit>
Result<> store_limit(Ctx& c, std::string_view text) {
  c.group.*kLimit = text == "max"
                        ? Cgroup::kMax
                        : static_cast<uint64_t>(TRY(number(text, 0, INT32_MAX, Errno::kRANGE)));
  return {};
}

Result<std::string> show_stat(Ctx& c) {
  return absl::StrFormat("nr_descendants %d\nnr_dying_descendants 0\n", c.group.descendants);
}

constexpr Entry kEntries[] = {
    {.name = "cgroup.controllers", .perm = 0444, .show = show_controllers, .in_root = true},
    {.name = "cgroup.events", .perm = 0444, .show = show_events, .changes = events},
    {.name = "cgroup.freeze", .perm = 0644, .show = show_freeze, .store = store_freeze},
    {.name = "cgroup.kill", .perm = 0200, .show = no_text, .store = store_kill},
    {.name = "cgroup.max.depth",
     .perm = 0644,
     .show = show_limit<&Cgroup::max_depth>,
     .store = store_limit<&Cgroup::max_depth>,
     .in_root = true},
    {.name = "cgroup.max.descendants",
     .perm = 0644,
     .show = show_limit<&Cgroup::max_descendants>,
     .store = store_limit<&Cgroup::max_descendants>,
     .in_root = true},
    {.name = "cgroup.procs",
     .perm = 0644,
     .show = show_procs,
     .store = store_procs,
     .in_root = true},
    {.name = "cgroup.stat", .perm = 0444, .show = show_stat, .in_root = true},
    {.name = "cgroup.subtree_control",
     .perm = 0644,
     .show = show_subtree_control,
     .store = store_subtree_control,
     .in_root = true},
    {.name = "cgroup.threads",
     .perm = 0644,
     .show = show_threads,
     .store = store_threads,
     .in_root = true},
    {.name = "cgroup.type", .perm = 0644, .show = show_type, .store = store_type},
};

}  // namespace

std::span<const Entry> core_entries() { return kEntries; }

}  // namespace uk::cgroupfs
