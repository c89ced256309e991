#include "ukernel/net/netlink/task_statistics.h"

#include <linux/acct.h>
#include <linux/taskstats.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "ukernel/task/current.h"
#include "ukernel/task/pid_ns.h"

namespace uk {
namespace {

// Version 16, as Linux 6.18 has it; our header ends with 13. Which file a program comes from
// (ac_exe_*) is left out: to find its number may suspend.
struct Stats {
  taskstats known;
  uint64_t irq_count, irq_delay_total;
  uint64_t delay_max_min[16];
};
static_assert(TASKSTATS_VERSION == 13 && sizeof(Stats) == 560);
constexpr uint16_t kVersion = 16;
constexpr size_t kMaxCpuList = 100 + 6 * 64;
constexpr uint64_t kNsPerUs = 1000;

void add_cpu(taskstats& s, const Usage& u, uint64_t run_ns) {
  s.cpu_count += u.voluntary + u.involuntary;
  s.cpu_run_real_total += u.utime_ns + u.stime_ns;
  s.cpu_run_virtual_total += run_ns;
  s.ac_utime += u.utime_ns / kNsPerUs;
  s.ac_stime += u.stime_ns / kNsPerUs;
  s.nvcsw += u.voluntary;
  s.nivcsw += u.involuntary;
}

// A thread, by the numbers of `ns`.
Stats about_task(Task& t, const PidNamespace* ns, bool ending) {
  Stats all = {};
  taskstats& s = all.known;
  const ThreadGroup& g = *t.group;
  const Usage u = t.usage_now();
  const uint64_t now = t.kernel.uptime_ns();
  const uint64_t ran_us = (now - std::min(now, t.start_ns)) / kNsPerUs;
  s.version = kVersion;
  add_cpu(s, u, t.cpu_ns());
  s.ac_utimescaled = s.ac_utime;
  s.ac_stimescaled = s.ac_stime;
  s.cpu_scaled_run_real_total = s.cpu_run_real_total;
  if (ending) {
    s.ac_exitcode = static_cast<uint32_t>(t.exit_code);
    if ((t.exit_code & 0x7f) != 0) s.ac_flag |= AXSIG;
    if ((t.exit_code & 0x80) != 0) s.ac_flag |= ACORE;
  }
  if (t.is_leader() && !g.did_exec) s.ac_flag |= AFORK;
  s.ac_nice = static_cast<uint8_t>(t.sched.nice);
  s.ac_sched = static_cast<uint8_t>(t.sched.sched_class);
  s.ac_uid = t.cred().uid;
  s.ac_gid = t.cred().gid;
  s.ac_pid = static_cast<uint32_t>(shown_pid(ns, t.tid));
  s.ac_tgid = static_cast<uint32_t>(shown_pid(ns, t.tgid()));
  s.ac_ppid = g.parent != nullptr ? static_cast<uint32_t>(shown_pid(ns, g.parent->tgid)) : 0;
  s.ac_etime = ran_us;
  s.ac_tgetime = (now - std::min(now, g.start_ns)) / kNsPerUs;
  s.ac_btime64 = t.kernel.guest_realtime_ns() / kNsPerSec - ran_us / 1'000'000;
  s.ac_btime = static_cast<uint32_t>(s.ac_btime64);
  s.ac_minflt = u.min_faults;
  s.ac_majflt = u.maj_faults;
  t.comm.copy(s.ac_comm, sizeof s.ac_comm - 1);
  s.read_char = u.rchar;
  s.write_char = u.wchar;
  s.read_syscalls = u.syscr;
  s.write_syscalls = u.syscw;
  s.read_bytes = u.read_bytes;
  s.write_bytes = u.write_bytes;
  if (t.mm_ref()) {
    const MmStats mm = t.mm().stats();
    s.hiwater_rss = mm.peak_rss_pages * (kPageSize / 1024);
    s.hiwater_vm = mm.peak_pages * (kPageSize / 1024);
  }
  return all;
}

// A process: sums over its threads, those that ended included.
Stats about_group(const ThreadGroup& g) {
  Stats all = {};
  taskstats& s = all.known;
  s.version = kVersion;
  const Usage& dead = g.dead_threads;
  add_cpu(s, dead, dead.utime_ns + dead.stime_ns);
  const uint64_t now = g.kernel.uptime_ns();
  for (const Task* t : g.threads) {
    if (t->state == TaskState::kZombie && !t->is_leader()) continue;
    add_cpu(s, t->usage_now(), t->cpu_ns());
    s.ac_etime += (now - std::min(now, t->start_ns)) / kNsPerUs;
  }
  return all;
}

void add_stats(NetlinkMessage& m, uint16_t aggregate, uint16_t number_type, int number,
               const Stats& stats) {
  m.nest(aggregate, [&] {
    m.u32(number_type, static_cast<uint32_t>(number));
    m.attribute(TASKSTATS_TYPE_STATS, bytes_of(stats));
  });
}

// A decimal number at the start of `text`, which loses it.
std::optional<uint32_t> take_number(std::string_view& text) {
  uint32_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return n;
}

bool take_char(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

// "0-1,3" (cpuset(7), "List format", without strides). kRANGE for a CPU that cannot be.
Result<std::vector<bool>> parse_cpus(std::span<const std::byte> value, size_t count) {
  if (value.empty()) return Err(Errno::kRANGE);
  if (value.size() > kMaxCpuList) return Err(Errno::k2BIG);
  std::vector<bool> out(count);
  // As on Linux the text ends one byte before the value does.
  std::string_view text = attribute_text(value.first(value.size() - 1));
  while (take_char(text, ',') || take_char(text, '\n') || !text.empty()) {
    if (text.empty()) break;
    const std::optional<uint32_t> first = take_number(text);
    const std::optional<uint32_t> last = take_char(text, '-') ? take_number(text) : first;
    if (!first || !last || *first > *last) return Err(Errno::kINVAL);
    if (*last >= count) return Err(Errno::kRANGE);
    std::fill(out.begin() + *first, out.begin() + *last + 1, true);
    if (!text.empty() && text[0] != ',' && text[0] != '\n') return Err(Errno::kINVAL);
  }
  return out;
}

}  // namespace

TaskStatistics::TaskStatistics(Kernel& kernel)
    : GenericFamily(TASKSTATS_GENL_NAME, TASKSTATS_GENL_VERSION,
                    {{TASKSTATS_CMD_GET, GENL_ADMIN_PERM | GENL_CMD_CAP_DO | GENL_CMD_CAP_HASPOL}}),
      kernel_(kernel),
      accounting_(accounting_of(kernel)),
      cpus_(static_cast<size_t>(kernel.vcpus.count())) {}

TaskStatistics::~TaskStatistics() { std::erase(accounting_->watchers, this); }

Result<> TaskStatistics::handle(const GenericRequest& r) {
  auto given = [&](uint16_t type) -> const std::span<const std::byte>* {
    auto it = r.attributes.find(type);
    return it == r.attributes.end() ? nullptr : &it->second;
  };
  for (uint16_t type : {TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, TASKSTATS_CMD_ATTR_DEREGISTER_CPUMASK})
    if (auto* cpus = given(type))
      return listen(r, *cpus, type == TASKSTATS_CMD_ATTR_REGISTER_CPUMASK);
  const Task* viewer = current_task(kernel_.reactor);
  NetlinkMessage m = r.answer(id, TASKSTATS_CMD_NEW, version);
  if (auto* pid = given(TASKSTATS_CMD_ATTR_PID)) {
    const int number = static_cast<int>(TRY(attribute_u32(*pid)));
    Task* t = viewer == nullptr ? nullptr : task_by_number(*viewer, number);
    if (t == nullptr) return Err(Errno::kSRCH);
    add_stats(m, TASKSTATS_TYPE_AGGR_PID, TASKSTATS_TYPE_PID, number,
              about_task(*t, pid_ns_of(*viewer).get(), t->exiting));
  } else if (auto* tgid = given(TASKSTATS_CMD_ATTR_TGID)) {
    const int number = static_cast<int>(TRY(attribute_u32(*tgid)));
    Task* t = viewer == nullptr ? nullptr : task_by_number(*viewer, number);
    if (t == nullptr) return Err(Errno::kSRCH);
    add_stats(m, TASKSTATS_TYPE_AGGR_TGID, TASKSTATS_TYPE_TGID, number, about_group(*t->group));
  } else {
    return Err(Errno::kINVAL);
  }
  (void)r.from.deliver(std::move(m).finish());
  return {};
}

Result<> TaskStatistics::listen(const GenericRequest& r, std::span<const std::byte> cpus, bool on) {
  const std::vector<bool> wanted = TRY(parse_cpus(cpus, cpus_.size()));
  const Task* who = current_task(kernel_.reactor);
  if (who == nullptr || who->cred().user_ns || pid_ns_of(*who)) return Err(Errno::kINVAL);
  for (size_t i = 0; i < cpus_.size(); ++i) {
    if (!wanted[i]) continue;
    if (on) {
      cpus_[i].listeners.insert(&r.from);
    } else {
      cpus_[i].listeners.erase(&r.from);
    }
  }
  watch_if_needed();
  return {};
}

void TaskStatistics::watch_if_needed() {
  std::erase(accounting_->watchers, this);
  if (std::ranges::any_of(cpus_, [](const Cpu& c) { return !c.listeners.empty(); }))
    accounting_->watchers.push_back(this);
}

void TaskStatistics::closed(NetlinkSocket& socket) {
  for (Cpu& c : cpus_) c.listeners.erase(&socket);
  watch_if_needed();
}

void TaskStatistics::tell(const ProcessEvent& event) {
  if (event.kind != ProcessEvent::Kind::kEnding) return;
  Task& t = event.task;
  Cpu& cpu = cpus_[static_cast<size_t>(t.sched.cpu)];
  if (cpu.listeners.empty()) return;
  NetlinkMessage m(id, 0, cpu.sent++, 0);
  m.raw(bytes_of(genlmsghdr{TASKSTATS_CMD_NEW, version, 0}));
  Stats stats = about_task(t, nullptr, true);
  if (event.last) stats.known.ac_flag |= AGROUP;
  add_stats(m, TASKSTATS_TYPE_AGGR_PID, TASKSTATS_TYPE_PID, t.tid, stats);
  // A process that had more than one thread is told of as a whole too.
  const ThreadGroup& g = *t.group;
  const bool had_threads = g.threads.size() > 1 || g.dead_threads.utime_ns != 0;
  if (event.last && had_threads)
    add_stats(m, TASKSTATS_TYPE_AGGR_TGID, TASKSTATS_TYPE_TGID, t.tgid(), about_group(g));
  const Bytes bytes = std::move(m).finish();
  for (NetlinkSocket* s : cpu.listeners) (void)s->deliver(bytes);
}

}  // namespace uk
