// The cpu controller (cgroup-v2, "CPU"): weights and quotas of scheduling groups.
#include <algorithm>
#include <vector>

#include "absl/strings/str_format.h"
#include "ukernel/fs/cgroupfs/cgroup_inode.h"

namespace uk::cgroupfs {
namespace {

constexpr uint64_t kNsPerUs = 1000;
constexpr int64_t kMinUs = 1000, kMaxPeriodUs = 1'000'000, kMaxUs = INT64_MAX / 1'000'000;
constexpr uint64_t kDefaultWeight = 100;

void set_weight(Cgroup& g, uint64_t weight) {
  g.cpu_weight = weight;
  g.cpu->set_weight(static_cast<uint32_t>(
      std::max<uint64_t>(1, weight * SchedGroup::kDefaultWeight / kDefaultWeight)));
}

Result<std::string> show_weight(Ctx& c) { return std::to_string(c.group.cpu_weight) + "\n"; }
Result<> store_weight(Ctx& c, std::string_view text) {
  set_weight(c.group, static_cast<uint64_t>(TRY(number(text, 1, 10'000, Errno::kRANGE))));
  return {};
}

uint64_t weight_of_nice(int nice) {
  return (VcpuSet::weight(nice) * kDefaultWeight + SchedGroup::kDefaultWeight / 2) /
         SchedGroup::kDefaultWeight;
}

// The nice value that comes nearest.
Result<std::string> show_nice(Ctx& c) {
  auto far = [&](int nice) {
    const auto d =
        static_cast<int64_t>(weight_of_nice(nice)) - static_cast<int64_t>(c.group.cpu_weight);
    return d < 0 ? -d : d;
  };
  int best = -20;
  for (int nice = -19; nice < 20; ++nice)
    if (far(nice) < far(best)) best = nice;
  return std::to_string(best) + "\n";
}
Result<> store_nice(Ctx& c, std::string_view text) {
  const auto nice = static_cast<int>(TRY(number(text, -20, 19, Errno::kRANGE)));
  set_weight(c.group, std::clamp<uint64_t>(weight_of_nice(nice), 1, 10'000));
  return {};
}

Result<std::string> show_max(Ctx& c) {
  const SchedGroup::Quota& q = c.group.cpu->quota();
  const std::string run =
      q.run_ns == SchedGroup::kUnlimited ? "max" : std::to_string(q.run_ns / kNsPerUs);
  return absl::StrFormat("%s %d\n", run, q.period_ns / kNsPerUs);
}

// "$MAX $PERIOD" in microseconds; the period may be left out.
Result<> store_max(Ctx& c, std::string_view text) {
  const std::vector<std::string_view> words = words_of(text);
  if (words.empty() || words.size() > 2) return Err(Errno::kINVAL);
  SchedGroup::Quota q = c.group.cpu->quota();
  if (words.size() == 2) {
    q.period_ns = kNsPerUs *
                  static_cast<uint64_t>(TRY(number(words[1], kMinUs, kMaxPeriodUs, Errno::kINVAL)));
  }
  q.run_ns = SchedGroup::kUnlimited;
  if (words[0] != "max")
    q.run_ns =
        kNsPerUs * static_cast<uint64_t>(TRY(number(words[0], kMinUs, kMaxUs, Errno::kINVAL)));
  if (q.burst_ns > q.run_ns) return Err(Errno::kINVAL);
  c.group.cpu->set_quota(q);
  return {};
}

Result<std::string> show_burst(Ctx& c) {
  return std::to_string(c.group.cpu->quota().burst_ns / kNsPerUs) + "\n";
}
Result<> store_burst(Ctx& c, std::string_view text) {
  SchedGroup::Quota q = c.group.cpu->quota();
  q.burst_ns = kNsPerUs * static_cast<uint64_t>(TRY(number(text, 0, kMaxUs, Errno::kINVAL)));
  if (q.burst_ns > q.run_ns || (q.run_ns == SchedGroup::kUnlimited && q.burst_ns != 0))
    return Err(Errno::kINVAL);
  c.group.cpu->set_quota(q);
  return {};
}

struct Time {
  uint64_t user_ns = 0, system_ns = 0;
};

// A group's account is brought up to date as its threads come back from user mode; those that are
// there now are added. Of the root nothing is kept: there it is the sum of all processes.
Time time_of(Ctx& c) {
  Time t{c.group.user_ns, c.group.system_ns};
  if (c.group.is_root()) {
    for (int i = 0; i < c.kernel.vcpus.count(); ++i) t.user_ns += c.kernel.vcpus.busy_ns(i);
    c.kernel.pids.each_group(
        [&](ThreadGroup& p) { t.system_ns += p.usage().stime_ns + p.dead_children.stime_ns; });
    return t;
  }
  c.kernel.pids.each_task([&](Task& task) {
    if (c.group.tree.of(*task.group).is_within(c.group))
      t.user_ns += task.cpu_ns(true) - task.sched.run_ns;
  });
  return t;
}

Result<std::string> show_stat(Ctx& c) {
  const Time t = time_of(c);
  std::string out = absl::StrFormat("usage_usec %d\nuser_usec %d\nsystem_usec %d\n",
                                    (t.user_ns + t.system_ns) / kNsPerUs, t.user_ns / kNsPerUs,
                                    t.system_ns / kNsPerUs);
  if (const SchedGroup* g = c.group.cpu.get()) {
    absl::StrAppendFormat(&out, "nr_periods %d\nnr_throttled %d\nthrottled_usec %d\n", g->periods,
                          g->throttled_periods, g->throttled_ns / kNsPerUs);
  }
  return out;
}

constexpr Entry kEntries[] = {
    {.name = "cpu.max",
     .perm = 0644,
     .show = show_max,
     .store = store_max,
     .controller = kCpuController},
    {.name = "cpu.max.burst",
     .perm = 0644,
     .show = show_burst,
     .store = store_burst,
     .controller = kCpuController},
    {.name = "cpu.stat", .perm = 0444, .show = show_stat, .in_root = true},
    {.name = "cpu.weight",
     .perm = 0644,
     .show = show_weight,
     .store = store_weight,
     .controller = kCpuController},
    {.name = "cpu.weight.nice",
     .perm = 0644,
     .show = show_nice,
     .store = store_nice,
     .controller = kCpuController},
};

}  // namespace

std::span<const Entry> cpu_entries() { return kEntries; }

}  // namespace uk::cgroupfs
