// The smaller files of /proc/PID.
#include <sys/resource.h>

#include "absl/strings/str_format.h"
#include "ukernel/fs/procfs/pid_files.h"
#include "ukernel/task/autogroup.h"
#include "ukernel/task/cgroup.h"
#include "ukernel/task/current.h"
#include "ukernel/task/process_events.h"
#include "ukernel/task/time_ns.h"
#include "ukernel/task/user_ns.h"

namespace uk::procfs {
namespace {

constexpr size_t kMaxArgs = 4 << 20;

// Guest memory [from, to) as text; short where it cannot be read.
Result<std::string> guest_text(Ctx& c, AddressSpace& mm, uint64_t from, uint64_t to) {
  if (from >= to) return std::string();
  std::string out(std::min<uint64_t>(to - from, kMaxArgs), '\0');
  auto n = mm.copy_in(c.park, std::as_writable_bytes(std::span(out)), from);
  out.resize(n ? *n : 0);
  return out;
}

}  // namespace

Result<std::string> show_auxv(Ctx& c) {
  Ref<AddressSpace> mm = c.task->mm_ref();
  if (!mm) return std::string();
  const auto& v = mm->image.auxv;
  return std::string(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(v[0]));
}

Result<std::string> show_cgroup(Ctx& c) {
  const Task* reader = current_task(c.kernel.reactor);
  Ref<Cgroup> root = reader != nullptr ? cgroup_root_of(*reader) : c.kernel.cgroups->root;
  return "0::" + cgroup_path(c.kernel.cgroups->of(*c.task->group), *root) + "\n";
}

namespace {

Autogroup* autogroup_of(const Task& t) {
  return t.group->group ? t.group->group->session->autogroup.get() : nullptr;
}

}  // namespace

// sched(7), "The autogroup feature". The first session has none.
Result<std::string> show_autogroup(Ctx& c) {
  const Autogroup* g = autogroup_of(*c.task);
  return g == nullptr ? "" : absl::StrFormat("/autogroup-%d nice %d\n", g->number, g->nice());
}

Result<> store_autogroup(Ctx& c, std::string_view text) {
  constexpr uint64_t kBetweenChangesNs = 100'000'000;
  const auto nice = static_cast<int>(TRY(parse_number(text, INT32_MIN, INT32_MAX)));
  if (nice < -20 || nice > 19) return Err(Errno::kINVAL);
  const Task* self = current_task(c.kernel.reactor);
  const uint64_t limit = self != nullptr ? self->group->rlimits[RLIMIT_NICE].cur : 0;
  if (nice < 0 && static_cast<uint64_t>(20 - nice) > limit && !c.opener.has(Cap::kSysNice))
    return Err(Errno::kPERM);
  Autogroup* g = autogroup_of(*c.task);
  if (g == nullptr) return {};
  const uint64_t now = c.kernel.clock.monotonic_ns();
  if (now < g->next_change_ns && !c.opener.has(Cap::kSysAdmin)) return Err(Errno::kAGAIN);
  g->next_change_ns = now + kBetweenChangesNs;
  g->set_nice(nice);
  return {};
}

Result<std::string> show_cmdline(Ctx& c) {
  Ref<AddressSpace> mm = c.task->mm_ref();
  if (!mm) return std::string();
  const AddressSpace::Image i = mm->image;
  std::string args = TRY(guest_text(c, *mm, i.arg_start, i.arg_end));
  // setproctitle: the last byte was overwritten, so the title runs on into the environment.
  if (!args.empty() && args.back() != '\0' && i.env_start == i.arg_end) {
    size_t end = args.find('\0');
    if (end != std::string::npos) return args.substr(0, end);
    std::string more = TRY(guest_text(c, *mm, i.env_start, i.env_end));
    args += more.substr(0, more.find('\0'));
  }
  return args;
}

Result<std::string> show_environ(Ctx& c) {
  Ref<AddressSpace> mm = c.task->mm_ref();
  if (!mm) return std::string();
  const AddressSpace::Image i = mm->image;
  return guest_text(c, *mm, i.env_start, i.env_end);
}

// DEVIATION: children belong to the process, so only its leader's directory lists them.
Result<std::string> show_children(Ctx& c) {
  std::string out;
  if (!c.task->is_leader()) return out;
  for (const ThreadGroup* child : c.task->group->children) {
    if (const int shown = c.shown(child->tgid); shown != 0) out += std::to_string(shown) + " ";
  }
  return out;
}

Result<std::string> show_timens_offsets(Ctx& c) {
  if (!c.task->mounts_) return Err(Errno::kSRCH);  // it has ended
  return show_time_offsets(*c.task);
}

Result<> store_timens_offsets(Ctx& c, std::string_view text) {
  if (!c.task->mounts_) return Err(Errno::kSRCH);
  return store_time_offsets(*c.task, c.opener, text);
}

Result<std::string> show_comm(Ctx& c) { return c.task->comm + "\n"; }

Result<> store_comm(Ctx& c, std::string_view text) {
  Task* self = current_task(c.kernel.reactor);
  if (self == nullptr || self->group != c.task->group) return Err(Errno::kINVAL);
  c.task->set_comm(text.substr(0, text.find_first_of(std::string_view("\n\0", 2))));
  tell_watchers({ProcessEvent::Kind::kComm, *c.task});
  return {};
}

Result<std::string> show_coredump_filter(Ctx&) { return "00000033\n"; }

namespace {

Task& writer(Ctx& c) {
  Task* self = current_task(c.kernel.reactor);
  return self != nullptr ? *self : *c.task;
}

}  // namespace

Result<std::string> show_uid_map(Ctx& c) {
  return show_id_map(c.task->cred().user_ns.get(), c.opener, true);
}
Result<std::string> show_gid_map(Ctx& c) {
  return show_id_map(c.task->cred().user_ns.get(), c.opener, false);
}
Result<> store_uid_map(Ctx& c, std::string_view text) {
  return store_id_map(c.task->cred().user_ns.get(), c.opener, writer(c).cred(), true, text);
}
Result<> store_gid_map(Ctx& c, std::string_view text) {
  return store_id_map(c.task->cred().user_ns.get(), c.opener, writer(c).cred(), false, text);
}
Result<> store_setgroups(Ctx& c, std::string_view text) {
  return store_setgroups(c.task->cred().user_ns.get(), c.opener, text);
}
Result<std::string> show_loginuid(Ctx&) { return "4294967295"; }
Result<std::string> show_sessionid(Ctx&) { return "4294967295"; }
Result<std::string> show_setgroups(Ctx& c) {
  const UserNamespace* ns = c.task->cred().user_ns.get();
  return std::string(ns == nullptr || ns->setgroups_allowed ? "allow\n" : "deny\n");
}

Result<std::string> show_io(Ctx& c) {
  const Usage u = c.task->group->usage();
  return absl::StrFormat(
      "rchar: %d\nwchar: %d\nsyscr: %d\nsyscw: %d\nread_bytes: %d\nwrite_bytes: %d\n"
      "cancelled_write_bytes: 0\n",
      u.rchar, u.wchar, u.syscr, u.syscw, u.read_bytes, u.write_bytes);
}

Result<std::string> show_limits(Ctx& c) {
  static constexpr struct {
    int resource;
    const char* name;
    const char* unit;
  } kRows[] = {
      {RLIMIT_CPU, "Max cpu time", "seconds"},
      {RLIMIT_FSIZE, "Max file size", "bytes"},
      {RLIMIT_DATA, "Max data size", "bytes"},
      {RLIMIT_STACK, "Max stack size", "bytes"},
      {RLIMIT_CORE, "Max core file size", "bytes"},
      {RLIMIT_RSS, "Max resident set", "bytes"},
      {RLIMIT_NPROC, "Max processes", "processes"},
      {RLIMIT_NOFILE, "Max open files", "files"},
      {RLIMIT_MEMLOCK, "Max locked memory", "bytes"},
      {RLIMIT_AS, "Max address space", "bytes"},
      {RLIMIT_LOCKS, "Max file locks", "locks"},
      {RLIMIT_SIGPENDING, "Max pending signals", "signals"},
      {RLIMIT_MSGQUEUE, "Max msgqueue size", "bytes"},
      {RLIMIT_NICE, "Max nice priority", ""},
      {RLIMIT_RTPRIO, "Max realtime priority", ""},
      {RLIMIT_RTTIME, "Max realtime timeout", "us"},
  };
  auto value = [](uint64_t v) { return v == UINT64_MAX ? "unlimited" : std::to_string(v); };
  std::string out =
      "Limit                     Soft Limit           Hard Limit           Units     \n";
  for (const auto& row : kRows) {
    const RLimit& l = c.task->group->rlimits[static_cast<size_t>(row.resource)];
    absl::StrAppendFormat(&out, "%-25s %-20s %-20s %-10s\n", row.name, value(l.cur), value(l.max),
                          row.unit);
  }
  return out;
}

Result<std::string> show_oom_score(Ctx& c) {
  if (!c.task->mm_ref()) return "0\n";
  const int64_t total = static_cast<int64_t>(std::max<uint64_t>(c.kernel.mem->total_pages(), 1));
  int64_t points = static_cast<int64_t>(c.task->mm().stats().rss_pages) * 1000 / total;
  points = (1000 + points + c.task->group->oom_score_adj) * 2 / 3;
  return std::to_string(std::clamp<int64_t>(points, 0, 2000)) + "\n";
}

Result<std::string> show_oom_score_adj(Ctx& c) {
  return std::to_string(c.task->group->oom_score_adj) + "\n";
}
Result<> store_oom_score_adj(Ctx& c, std::string_view text) {
  const int wanted = static_cast<int>(TRY(parse_number(text, -1000, 1000)));
  int& adj = c.task->group->oom_score_adj;
  if (wanted < adj && !c.opener.has(Cap::kSysResource)) return Err(Errno::kACCES);
  adj = wanted;
  return {};
}

// The older form, -17..15, kept in proportion (proc(5)).
Result<std::string> show_oom_adj(Ctx& c) {
  const int adj = c.task->group->oom_score_adj;
  return std::to_string(adj == 1000 ? 15 : adj * 17 / 1000) + "\n";
}
Result<> store_oom_adj(Ctx& c, std::string_view text) {
  const int wanted = static_cast<int>(TRY(parse_number(text, -17, 15)));
  const int scaled = wanted == 15 ? 1000 : wanted * 1000 / 17;
  int& adj = c.task->group->oom_score_adj;
  if (scaled < adj && !c.opener.has(Cap::kSysResource)) return Err(Errno::kACCES);
  adj = scaled;
  return {};
}

Result<std::string> show_personality(Ctx& c) {
  return absl::StrFormat("%08x\n", c.task->personality);
}

Result<std::string> show_schedstat(Ctx& c) {
  return absl::StrFormat("%d 0 %d\n", c.task->sched.run_ns,
                         c.task->sched.voluntary_switches + c.task->sched.involuntary_switches);
}

Result<std::string> show_syscall(Ctx& c) {
  const Task& t = *c.task;
  if (t.syscall_nr < 0 || state_letter(t) == 'R') return "running\n";
  std::string out = std::to_string(t.syscall_nr);
  for (uint64_t a : t.syscall_args) absl::StrAppendFormat(&out, " 0x%x", a);
  return out + " 0x0 0x0\n";
}

Result<std::string> show_timerslack(Ctx& c) {
  return std::to_string(c.task->timer_slack_ns) + "\n";
}

Result<std::string> show_wchan(Ctx& c) {
  const Fiber* f = c.task->fiber;
  const char* why = f != nullptr ? f->wait_reason() : nullptr;
  return std::string(why != nullptr ? why : "0");
}

}  // namespace uk::procfs
