// /proc/sys: settings of the instance (proc(5), sysctl(8)). Constants are shown read-only; what can
// be written has an effect.
#include <array>
#include <bit>

#include "absl/strings/str_format.h"
#include "ukernel/abi/uname.h"
#include "ukernel/fs/procfs/proc_node.h"
#include "ukernel/task/autogroup.h"
#include "ukernel/task/current.h"

namespace uk::procfs {
namespace {

// A text that never changes.
template <const auto& kText>
Result<std::string> constant(Ctx&) {
  return std::string(kText) + "\n";
}
template <int64_t kValue>
Result<std::string> number(Ctx&) {
  return std::to_string(kValue) + "\n";
}
template <int64_t kValue>
constexpr Entry fixed(const char* name) {
  return text(name, number<kValue>);
}

UtsInfo& uts(Ctx& c) {
  Task* t = current_task(c.kernel.reactor);
  return t != nullptr ? t->uts() : *c.kernel.uts;
}

std::string_view line_of(std::string_view s) { return s.substr(0, s.find('\n')); }

Result<std::string> hostname(Ctx& c) { return uts(c).nodename + "\n"; }
Result<> set_hostname(Ctx& c, std::string_view s) {
  if (!c.opener.has(Cap::kSysAdmin)) return Err(Errno::kPERM);
  uts(c).nodename = line_of(s).substr(0, 64);
  return {};
}
Result<std::string> domainname(Ctx& c) { return uts(c).domainname + "\n"; }
Result<> set_domainname(Ctx& c, std::string_view s) {
  if (!c.opener.has(Cap::kSysAdmin)) return Err(Errno::kPERM);
  uts(c).domainname = line_of(s).substr(0, 64);
  return {};
}

// Of the reader's pid namespace; null: the initial one.
PidNamespace* reader_pids(const Ctx& c) {
  const Task* t = current_task(c.kernel.reactor);
  return t != nullptr ? pid_ns_of(*t).get() : nullptr;
}

int& pid_max_of(const Ctx& c) {
  PidNamespace* ns = reader_pids(c);
  return ns != nullptr ? ns->pid_max : c.kernel.pids.pid_max;
}

Result<std::string> pid_max(Ctx& c) { return std::to_string(pid_max_of(c)) + "\n"; }
Result<> set_pid_max(Ctx& c, std::string_view s) {
  pid_max_of(c) = static_cast<int>(TRY(parse_number(s, 301, 4194304)));
  return {};
}
Result<std::string> threads_max(Ctx& c) { return std::to_string(c.kernel.pids.max_tasks) + "\n"; }

Result<> set_last_pid(Ctx& c, std::string_view s) {
  PidNamespace* ns = reader_pids(c);
  const UserNamespace* owner = ns != nullptr ? ns->owner.get() : nullptr;
  if (!c.opener.has_in(owner, Cap::kSysAdmin) && !c.opener.has_in(owner, Cap::kCheckpointRestore))
    return Err(Errno::kPERM);
  const auto last = static_cast<int>(TRY(parse_number(s, 0, pid_max_of(c) - 1)));
  if (ns == nullptr) {
    c.kernel.pids.set_last(last);
  } else {
    ns->last = last;
  }
  return {};
}
Result<std::string> last_pid(Ctx& c) {
  const PidNamespace* ns = reader_pids(c);
  return std::to_string(ns != nullptr ? ns->last : c.kernel.pids.last()) + "\n";
}

std::string uuid_text(std::array<std::byte, 16> b) {
  b[6] = (b[6] & std::byte{0x0f}) | std::byte{0x40};
  b[8] = (b[8] & std::byte{0x3f}) | std::byte{0x80};
  std::string out;
  for (size_t i = 0; i < b.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out += '-';
    absl::StrAppendFormat(&out, "%02x", static_cast<unsigned>(b[i]));
  }
  return out + "\n";
}

Result<std::string> uuid(Ctx& c) {
  std::array<std::byte, 16> bytes;
  c.kernel.random(bytes);
  return uuid_text(bytes);
}

Result<std::string> boot_id(Ctx& c) { return uuid_text(c.super.boot_id); }

Result<std::string> pipe_max(Ctx& c) {
  return std::to_string(c.kernel.settings.pipe_max_size) + "\n";
}
Result<> set_pipe_max(Ctx& c, std::string_view s) {
  const int64_t wanted = TRY(parse_number(s, 1, 1 << 30));
  c.kernel.settings.pipe_max_size =
      std::bit_ceil(std::max(static_cast<uint64_t>(wanted), kPageSize));
  return {};
}

Result<> drop_caches(Ctx& c, std::string_view s) {
  TRY(parse_number(s, 1, 4));
  c.kernel.vfs.shrink_names(true);
  return {};
}

Result<std::string> file_nr(Ctx&) { return "1024\t0\t9223372036854775807\n"; }
Result<std::string> printk(Ctx& c) {
  return std::to_string(c.kernel.log.console_level) + "\t4\t1\t7\n";
}
Result<std::string> port_range(Ctx&) { return "32768\t60999\n"; }
Result<std::string> core_pattern(Ctx& c) { return c.kernel.settings.core_pattern + "\n"; }
Result<> set_core_pattern(Ctx& c, std::string_view s) {
  constexpr size_t kMaxPattern = 127;
  s = line_of(s);
  // DEVIATION: dumps go to files only, not to programs ("|...").
  if (s.size() > kMaxPattern || s.starts_with('|')) return Err(Errno::kINVAL);
  c.kernel.settings.core_pattern = s;
  return {};
}
Result<std::string> core_uses_pid(Ctx& c) {
  return std::to_string(c.kernel.settings.core_uses_pid) + "\n";
}
Result<> set_core_uses_pid(Ctx& c, std::string_view s) {
  c.kernel.settings.core_uses_pid = TRY(parse_number(s, 0, 1)) != 0;
  return {};
}

template <auto kMember, int64_t kHigh, int64_t kLow = 0>
constexpr Entry fs_setting(const char* name) {
  return text(
      name,
      [](Ctx& c) -> Result<std::string> {
        return std::to_string(c.kernel.vfs.settings.*kMember) + "\n";
      },
      0644,
      [](Ctx& c, std::string_view s) -> Result<> {
        auto& member = c.kernel.vfs.settings.*kMember;
        member = static_cast<std::remove_reference_t<decltype(member)>>(
            TRY(parse_number(s, kLow, kHigh)));
        return {};
      });
}

Result<std::string> max_map_count(Ctx& c) {
  return std::to_string(c.kernel.mem->max_map_count) + "\n";
}
Result<> set_max_map_count(Ctx& c, std::string_view s) {
  c.kernel.mem->max_map_count = static_cast<uint64_t>(TRY(parse_number(s, 0, INT32_MAX)));
  return {};
}

template <auto kMember>
Result<std::string> overcommit(Ctx& c) {
  return std::to_string(c.kernel.mem->commit.*kMember) + "\n";
}
template <auto kMember, int64_t kHigh>
Result<> set_overcommit(Ctx& c, std::string_view s) {
  c.kernel.mem->commit.*kMember = static_cast<int>(TRY(parse_number(s, 0, kHigh)));
  return {};
}

Result<std::string> aio_nr(Ctx& c) { return std::to_string(c.kernel.settings.aio_nr) + "\n"; }
Result<std::string> aio_max_nr(Ctx& c) {
  return std::to_string(c.kernel.settings.aio_max_nr) + "\n";
}
Result<> set_aio_max_nr(Ctx& c, std::string_view s) {
  c.kernel.settings.aio_max_nr = static_cast<uint64_t>(TRY(parse_number(s, 0, INT64_MAX)));
  return {};
}
Result<std::string> io_uring_disabled(Ctx& c) {
  return std::to_string(c.kernel.settings.io_uring_disabled) + "\n";
}
Result<> set_io_uring_disabled(Ctx& c, std::string_view s) {
  c.kernel.settings.io_uring_disabled = static_cast<int>(TRY(parse_number(s, 0, 2)));
  return {};
}

// ---- sched(7)

constexpr uint64_t kNsPerUs = 1000, kNsPerMs = 1'000'000;

Result<std::string> rt_period(Ctx& c) {
  return std::to_string(c.kernel.vcpus.real_time.period_ns / kNsPerUs) + "\n";
}
Result<> set_rt_period(Ctx& c, std::string_view s) {
  VcpuSet::RealTime& rt = c.kernel.vcpus.real_time;
  const uint64_t ns = static_cast<uint64_t>(TRY(parse_number(s, 1, INT32_MAX))) * kNsPerUs;
  if (rt.runtime_ns != UINT64_MAX && rt.runtime_ns > ns) return Err(Errno::kINVAL);
  rt.period_ns = ns;
  return {};
}
Result<std::string> rt_runtime(Ctx& c) {
  const uint64_t ns = c.kernel.vcpus.real_time.runtime_ns;
  return ns == UINT64_MAX ? "-1\n" : std::to_string(ns / kNsPerUs) + "\n";
}
Result<> set_rt_runtime(Ctx& c, std::string_view s) {
  VcpuSet::RealTime& rt = c.kernel.vcpus.real_time;
  const int64_t us = TRY(parse_number(s, -1, INT32_MAX));
  const uint64_t ns = us < 0 ? UINT64_MAX : static_cast<uint64_t>(us) * kNsPerUs;
  if (us >= 0 && ns > rt.period_ns) return Err(Errno::kINVAL);
  rt.runtime_ns = ns;
  return {};
}
Result<std::string> rr_timeslice(Ctx& c) {
  return std::to_string(c.kernel.vcpus.real_time.rr_slice_ns / kNsPerMs) + "\n";
}
Result<> set_rr_timeslice(Ctx& c, std::string_view s) {
  const int64_t ms = TRY(parse_number(s, INT32_MIN, INT32_MAX));
  c.kernel.vcpus.real_time.rr_slice_ns =
      ms <= 0 ? VcpuSet::RealTime().rr_slice_ns : static_cast<uint64_t>(ms) * kNsPerMs;
  return {};
}
Result<std::string> autogroup_enabled(Ctx& c) {
  return std::to_string(c.kernel.settings.autogroup) + "\n";
}
Result<> set_autogroup_enabled(Ctx& c, std::string_view s) {
  c.kernel.settings.autogroup = TRY(parse_number(s, 0, 1)) != 0;
  regroup_all(c.kernel);
  return {};
}

constexpr Entry kRandom[] = {
    text("boot_id", boot_id),
    fixed<256>("entropy_avail"),
    fixed<256>("poolsize"),
    text("uuid", uuid),
};
constexpr Entry kKernel[] = {
    fixed<kLastCap>("cap_last_cap"),
    text("core_pattern", core_pattern, 0644, set_core_pattern),
    text("core_uses_pid", core_uses_pid, 0644, set_core_uses_pid),
    fixed<1>("dmesg_restrict"),
    text("domainname", domainname, 0644, set_domainname),
    text("hostname", hostname, 0644, set_hostname),
    text("io_uring_disabled", io_uring_disabled, 0644, set_io_uring_disabled),
    fixed<1>("kptr_restrict"),
    fixed<65536>("ngroups_max"),
    text("ns_last_pid", last_pid, 0666, set_last_pid),
    text("osrelease", constant<kUnameRelease>),
    text("ostype", constant<kUnameSysname>),
    fixed<65534>("overflowgid"),
    fixed<65534>("overflowuid"),
    fixed<0>("panic"),
    fixed<3>("perf_event_paranoid"),
    text("pid_max", pid_max, 0644, set_pid_max),
    text("printk", printk),
    dir("random", kRandom),
    fixed<2>("randomize_va_space"),
    text("sched_autogroup_enabled", autogroup_enabled, 0644, set_autogroup_enabled),
    text("sched_rr_timeslice_ms", rr_timeslice, 0644, set_rr_timeslice),
    text("sched_rt_period_us", rt_period, 0644, set_rt_period),
    text("sched_rt_runtime_us", rt_runtime, 0644, set_rt_runtime),
    fixed<0>("tainted"),
    text("threads-max", threads_max),
    fixed<1>("unprivileged_bpf_disabled"),
    text("version", constant<kUnameVersion>),
};
std::span<const Entry> kernel_entries() {
  static const std::vector<Entry> all = [] {
    std::vector<Entry> v(std::begin(kKernel), std::end(kKernel));
    const auto limits = ipc_limit_entries();
    v.insert(v.end(), limits.begin(), limits.end());
    return v;
  }();
  return all;
}

constexpr Entry kVm[] = {
    fixed<0>("admin_reserve_kbytes"),
    text("drop_caches", nullptr, 0200, drop_caches),
    text("max_map_count", max_map_count, 0644, set_max_map_count),
    fixed<0>("min_free_kbytes"),
    fixed<65536>("mmap_min_addr"),
    fixed<0>("nr_hugepages"),
    fixed<0>("oom_kill_allocating_task"),
    fixed<0>("overcommit_kbytes"),
    text("overcommit_memory", overcommit<&PhysMemory::Commit::mode>, 0644,
         set_overcommit<&PhysMemory::Commit::mode, 2>),
    text("overcommit_ratio", overcommit<&PhysMemory::Commit::ratio>, 0644,
         set_overcommit<&PhysMemory::Commit::ratio, INT32_MAX>),
    fixed<0>("panic_on_oom"),
    fixed<0>("swappiness"),
    fixed<0>("unprivileged_userfaultfd"),
    fixed<100>("vfs_cache_pressure"),
};
constexpr Entry kInotify[] = {
    fixed<16384>("max_queued_events"),
    fixed<128>("max_user_instances"),
    fixed<65536>("max_user_watches"),
};
constexpr Entry kFanotify[] = {
    fixed<16384>("max_queued_events"),
    fixed<128>("max_user_groups"),
    fixed<65536>("max_user_marks"),
};
constexpr Entry kEpoll[] = {fixed<1000000>("max_user_watches")};
constexpr Entry kFs[] = {
    text("aio-max-nr", aio_max_nr, 0644, set_aio_max_nr),
    text("aio-nr", aio_nr),
    dir("epoll", kEpoll),
    dir("fanotify", kFanotify),
    fixed<INT64_MAX>("file-max"),
    text("file-nr", file_nr),
    dir("inotify", kInotify),
    fs_setting<&Vfs::Settings::lease_break_s, INT32_MAX>("lease-break-time"),
    fixed<1>("leases-enable"),
    fs_setting<&Vfs::Settings::mount_max, INT32_MAX>("mount-max"),
    {.name = "mqueue", .mode = S_IFDIR | 0555, .more = mqueue_limit_entries},
    fs_setting<&Vfs::Settings::nr_open, Vfs::Settings::kMaxNrOpen, Vfs::Settings::kMinNrOpen>(
        "nr_open"),
    fixed<65534>("overflowgid"),
    fixed<65534>("overflowuid"),
    text("pipe-max-size", pipe_max, 0644, set_pipe_max),
    fixed<0>("pipe-user-pages-hard"),
    fixed<16384>("pipe-user-pages-soft"),
    fs_setting<&Vfs::Settings::protected_hardlinks, 1>("protected_hardlinks"),
    fs_setting<&Vfs::Settings::protected_symlinks, 1>("protected_symlinks"),
    fixed<0>("suid_dumpable"),
};
constexpr Entry kNetCore[] = {
    fixed<212992>("rmem_default"), fixed<212992>("rmem_max"), fixed<4096>("somaxconn"),
    fixed<212992>("wmem_default"), fixed<212992>("wmem_max"),
};
constexpr Entry kNetIpv4[] = {text("ip_local_port_range", port_range)};
constexpr Entry kNetUnix[] = {fixed<512>("max_dgram_qlen")};
constexpr Entry kSysNet[] = {
    dir("core", kNetCore),
    dir("ipv4", kNetIpv4),
    dir("unix", kNetUnix),
};
constexpr Entry kSys[] = {
    dir("fs", kFs),
    {.name = "kernel", .mode = S_IFDIR | 0555, .more = kernel_entries},
    dir("net", kSysNet),
    dir("vm", kVm),
};

}  // namespace

std::span<const Entry> sys_entries() { return kSys; }

}  // namespace uk::procfs
