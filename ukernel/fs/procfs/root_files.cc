// The files of /proc itself that tell about the whole instance (proc(5)).
#include <cmath>

#include "absl/strings/str_format.h"
#include "ukernel/abi/uname.h"
#include "ukernel/dev/block/registry.h"
#include "ukernel/fs/procfs/proc_node.h"
#include "ukernel/net/unix/unix_socket.h"
#include "ukernel/task/cgroup.h"
#include "ukernel/task/current.h"
#include "ukernel/task/time_ns.h"

namespace uk::procfs {
namespace {

constexpr uint64_t kNsPerTick = 10'000'000;  // USER_HZ is 100
constexpr uint64_t kKbPerPage = kPageSize / 1024;

Result<std::string> self_link(Ctx& c) {
  Task* t = current_task(c.kernel.reactor);
  if (t == nullptr) return Err(Errno::kNOENT);
  const int shown = c.shown(t->tgid());
  return shown != 0 ? Result<std::string>(std::to_string(shown)) : Err(Errno::kNOENT);
}

Result<std::string> thread_self_link(Ctx& c) {
  Task* t = current_task(c.kernel.reactor);
  if (t == nullptr) return Err(Errno::kNOENT);
  if (c.shown(t->tgid()) == 0) return Err(Errno::kNOENT);
  return absl::StrFormat("%d/task/%d", c.shown(t->tgid()), c.shown(t->tid));
}

Result<std::string> mounts_link(Ctx&) { return "self/mounts"; }
Result<std::string> net_link(Ctx&) { return "self/net"; }
Result<std::string> nothing(Ctx&) { return std::string(); }

Result<std::string> net_unix(Ctx& c) {
  return UnixSockets::table_header() +
         (c.kernel.unix_sockets ? c.kernel.unix_sockets->table() : "");
}

Result<std::string> meminfo(Ctx& c) {
  const PhysMemory& m = *c.kernel.mem;
  const uint64_t total = m.total_pages() * kKbPerPage;
  const uint64_t free = m.free_pages() * kKbPerPage;
  const uint64_t cached = m.cached_pages * kKbPerPage;
  const uint64_t shmem = m.shmem_pages * kKbPerPage;
  const uint64_t anon = m.anon_pages * kKbPerPage;
  const struct {
    const char* name;
    uint64_t kb;
  } rows[] = {
      {"MemTotal", total},
      {"MemFree", free},
      {"MemAvailable", std::min(total, free + cached)},
      {"Buffers", 0},
      {"Cached", cached + shmem},
      {"SwapCached", 0},
      {"Active", anon + cached + shmem},
      {"Inactive", 0},
      {"Active(anon)", anon + shmem},
      {"Inactive(anon)", 0},
      {"Active(file)", cached},
      {"Inactive(file)", 0},
      {"Unevictable", 0},
      {"Mlocked", 0},
      {"SwapTotal", 0},
      {"SwapFree", 0},
      {"Dirty", 0},
      {"Writeback", 0},
      {"AnonPages", anon},
      {"Mapped", 0},
      {"Shmem", shmem},
      {"KReclaimable", 0},
      {"Slab", 0},
      {"SReclaimable", 0},
      {"SUnreclaim", 0},
      {"KernelStack", 0},
      {"PageTables", 0},
      {"CommitLimit", m.commit_limit() * kKbPerPage},
      {"Committed_AS", m.committed() * kKbPerPage},
      {"VmallocTotal", 34359738367},
      {"VmallocUsed", 0},
      {"VmallocChunk", 0},
      {"AnonHugePages", 0},
      {"ShmemHugePages", 0},
  };
  std::string out;
  for (const auto& r : rows)
    absl::StrAppendFormat(&out, "%-15s %8d kB\n", std::string(r.name) + ":", r.kb);
  out +=
      "HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\n"
      "HugePages_Surp:        0\nHugepagesize:       2048 kB\nHugetlb:               0 kB\n";
  absl::StrAppendFormat(&out, "DirectMap4k:    %8d kB\n", total);
  return out;
}

Result<std::string> stat(Ctx& c) {
  const int cpus = c.kernel.vcpus.count();
  const uint64_t up = c.kernel.uptime_ns();
  auto line = [&](const std::string& name, uint64_t busy, uint64_t all) {
    const uint64_t idle = all > busy ? all - busy : 0;
    return absl::StrFormat("%s %d 0 0 %d 0 0 0 0 0 0\n", name, busy / kNsPerTick,
                           idle / kNsPerTick);
  };
  uint64_t busy = 0;
  std::string each;
  for (int i = 0; i < cpus; ++i) {
    busy += c.kernel.vcpus.busy_ns(i);
    each += line("cpu" + std::to_string(i), c.kernel.vcpus.busy_ns(i), up);
  }
  std::string out = line("cpu ", busy, up * static_cast<uint64_t>(cpus)) + each;
  const uint64_t boot_sec = (c.kernel.clock.realtime_ns() - time_inside(up, c.ahead())) / kNsPerSec;
  absl::StrAppendFormat(&out,
                        "intr 0\nctxt %d\nbtime %d\nprocesses %d\nprocs_running %d\n"
                        "procs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
                        c.kernel.context_switches, boot_sec, c.kernel.forks,
                        std::max(1, c.kernel.vcpus.runnable()));
  return out;
}

Result<std::string> uptime(Ctx& c) {
  const uint64_t kernel_up = c.kernel.uptime_ns(), up = time_inside(kernel_up, c.ahead());
  uint64_t busy = 0;
  for (int i = 0; i < c.kernel.vcpus.count(); ++i) busy += c.kernel.vcpus.busy_ns(i);
  const uint64_t all = kernel_up * static_cast<uint64_t>(c.kernel.vcpus.count());
  return absl::StrFormat("%.2f %.2f\n", static_cast<double>(up) / 1e9,
                         static_cast<double>(all > busy ? all - busy : 0) / 1e9);
}

// DEVIATION: no timer samples the run queue (an idle instance uses no CPU); the averages are those
// of CPU time used since boot. See docs/CAVEATS.md.
Result<std::string> loadavg(Ctx& c) {
  const std::array<double, 3> load = c.kernel.load_average();
  return absl::StrFormat("%.2f %.2f %.2f %d/%d %d\n", load[0], load[1], load[2],
                         std::max(1, c.kernel.vcpus.runnable()), c.kernel.pids.count(),
                         c.super.pid_ns ? c.super.pid_ns->last : c.kernel.pids.last());
}

Result<std::string> version(Ctx&) {
  return absl::StrFormat("%s version %s (ukernel) %s\n", kUnameSysname, kUnameRelease,
                         kUnameVersion);
}

Result<std::string> filesystems(Ctx& c) {
  std::string out;
  for (const FsType& t : c.kernel.vfs.fs_types())
    absl::StrAppendFormat(&out, "%s\t%s\n", t.needs_device ? "" : "nodev", t.name);
  return out;
}

Result<std::string> cmdline(Ctx&) { return "ukernel\n"; }

Result<std::string> devices(Ctx& c) {
  std::string out;
  for (bool block : {false, true}) {
    out += block ? "\nBlock devices:\n" : "Character devices:\n";
    std::string last;
    for (const Vfs::DeviceName& d : c.kernel.vfs.device_names(block)) {
      std::string line = absl::StrFormat("%3d %s\n", d.major, d.name);
      if (line != last) out += line;
      last = line;
    }
  }
  return out;
}

Result<std::string> partitions(Ctx& c) {
  std::string out = "major minor  #blocks  name\n\n";
  if (c.kernel.disks == nullptr) return out;
  c.kernel.disks->each([&](BlockDevice& d) {
    if (d.size() == 0) return;
    absl::StrAppendFormat(&out, "%4d  %7d %10d %s\n", dev_major(d.rdev()), dev_minor(d.rdev()),
                          d.size() / 1024, d.name());
  });
  return out;
}
Result<std::string> diskstats(Ctx& c) {
  std::string out;
  if (c.kernel.disks == nullptr) return out;
  c.kernel.disks->each([&](BlockDevice& d) {
    absl::StrAppendFormat(&out, "%4d %7d %s %s\n", dev_major(d.rdev()), dev_minor(d.rdev()),
                          d.name(), d.stats.text(c.kernel.clock.monotonic_ns()));
  });
  return out;
}
Result<std::string> swaps(Ctx&) { return "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"; }

Result<std::string> vmstat(Ctx& c) {
  const PhysMemory& m = *c.kernel.mem;
  return absl::StrFormat(
      "nr_free_pages %d\nnr_anon_pages %d\nnr_file_pages %d\nnr_shmem %d\nnr_dirty 0\n"
      "nr_writeback 0\npgpgin 0\npgpgout 0\npswpin 0\npswpout 0\npgfault 0\npgmajfault 0\n"
      "oom_kill 0\n",
      m.free_pages(), m.anon_pages, m.cached_pages + m.shmem_pages, m.shmem_pages);
}

Result<std::string> net_dev(Ctx&) {
  return "Inter-|   Receive                                                |  Transmit\n"
         " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs "
         "drop fifo colls carrier compressed\n";
}

// The controllers are all on the one tree of version 2.
Result<std::string> cgroups(Ctx& c) {
  std::string out = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n";
  for (const char* name : {"cpu", "memory", "pids"})
    absl::StrAppendFormat(&out, "%s\t0\t%d\t1\n", name, c.kernel.cgroups->groups);
  return out;
}

constexpr Entry kRoot[] = {
    text("cgroups", cgroups),
    text("cmdline", cmdline),
    text("cpuinfo", show_cpuinfo),
    text("devices", devices),
    text("diskstats", diskstats),
    text("filesystems", filesystems),
    {.name = "kmsg", .mode = S_IFREG | 0400, .make = make_kmsg},
    text("loadavg", loadavg),
    text("meminfo", meminfo),
    text("modules", nothing),
    link("mounts", mounts_link),
    link("net", net_link),
    text("partitions", partitions),
    link("self", self_link),
    text("stat", stat),
    text("swaps", swaps),
    {.name = "sys", .mode = S_IFDIR | 0555, .more = sys_entries},
    {.name = "sysvipc", .mode = S_IFDIR | 0555, .more = sysvipc_entries},
    link("thread-self", thread_self_link),
    text("uptime", uptime),
    text("version", version),
    text("vmstat", vmstat),
};
constexpr Entry kNet[] = {
    text("dev", net_dev),
    text("unix", net_unix),
};

}  // namespace

std::span<const Entry> root_entries() { return kRoot; }
std::span<const Entry> net_entries() { return kNet; }

}  // namespace uk::procfs
