// /proc/PID/stat, statm and status (proc(5)).
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "ukernel/dev/tty/tty.h"
#include "ukernel/fs/procfs/pid_files.h"
#include "ukernel/task/seccomp.h"
#include "ukernel/task/time_ns.h"

namespace uk::procfs {
namespace {

constexpr uint64_t kNsPerTick = 10'000'000;  // USER_HZ is 100
constexpr uint64_t kKbPerPage = kPageSize / 1024;

struct Sets {
  SigSet ignored, caught;
};
Sets handler_sets(const Task& t) {
  Sets s;
  const Ref<SigHandlers>& h = t.group->handlers;
  if (!h) return s;
  for (int n = 1; n <= kSignals; ++n) {
    const uint64_t handler = h->actions[static_cast<size_t>(n)].handler;
    if (handler == 1) s.ignored.add(n);
    if (handler > 1) s.caught.add(n);
  }
  return s;
}

// Time and faults of the one thread or, for a process's directory, of all of it.
Usage usage_of(const Task& t) { return t.is_leader() ? t.group->usage() : t.usage_now(); }

const char* state_name(char letter) {
  switch (letter) {
    case 'R':
      return "R (running)";
    case 'S':
      return "S (sleeping)";
    case 'T':
      return "T (stopped)";
    case 't':
      return "t (tracing stop)";
    case 'Z':
      return "Z (zombie)";
    default:
      return "X (dead)";
  }
}

int parent_of(const Ctx& c) {
  const ThreadGroup* parent = c.task->group->parent;
  return parent != nullptr ? c.shown(parent->tgid) : 0;
}

// A line of what a kernel number is here and in each namespace below (NSpid and its like).
void add_numbers(std::string& out, const Ctx& c, const char* name, int pid) {
  absl::StrAppend(&out, "\n", name, ":");
  for (int n : numbers_from(c.kernel, c.super.pid_ns.get(), pid)) absl::StrAppend(&out, "\t", n);
}

uint64_t cpu_mask(const Task& t, int cpus) {
  const uint64_t all = cpus >= 64 ? ~0ull : (1ull << cpus) - 1;
  return t.sched.affinity & all;
}

// "0-3,5" from a mask.
std::string cpu_list(uint64_t mask) {
  std::string out;
  for (int i = 0; i < 64; ++i) {
    if (((mask >> i) & 1) == 0) continue;
    int last = i;
    while (last < 63 && ((mask >> (last + 1)) & 1)) ++last;
    if (!out.empty()) out += ',';
    out += std::to_string(i);
    if (last > i) out += "-" + std::to_string(last);
    i = last;
  }
  return out;
}

std::string escape_comm(std::string_view comm) {
  std::string out;
  for (char ch : comm) {
    if (ch == '\n') {
      out += "\\n";
    } else if (ch == '\\') {
      out += "\\\\";
    } else {
      out += ch;
    }
  }
  return out;
}

void add_memory(std::string& out, const MmStats& m) {
  const struct {
    const char* name;
    uint64_t pages;
  } rows[] = {
      {"VmPeak", std::max(m.peak_pages, m.total_pages)},
      {"VmSize", m.total_pages},
      {"VmLck", m.locked_pages},
      {"VmPin", 0},
      {"VmHWM", std::max(m.peak_rss_pages, m.rss_pages)},
      {"VmRSS", m.rss_pages},
      {"RssAnon", m.rss_pages - std::min(m.rss_pages, m.rss_file_pages + m.rss_shmem_pages)},
      {"RssFile", m.rss_file_pages},
      {"RssShmem", m.rss_shmem_pages},
      {"VmData", m.data_pages},
      {"VmStk", m.stack_pages},
      {"VmExe", m.exec_pages},
      {"VmLib", 0},
      {"VmPTE", (m.total_pages / 512 + 1)},
      {"VmSwap", 0},
  };
  for (const auto& r : rows)
    absl::StrAppendFormat(&out, "%s:\t%8d kB\n", r.name, r.pages * kKbPerPage);
  out += "HugetlbPages:\t       0 kB\nCoreDumping:\t0\nTHP_enabled:\t0\n";
}

int shown_foreground(const Ctx& c, const Tty& tty) {
  const int pgid = tty.foreground_pgid();
  return pgid < 0 ? pgid : c.shown(pgid);
}

}  // namespace

char state_letter(const Task& t) {
  switch (t.state) {
    case TaskState::kZombie:
      return 'Z';
    case TaskState::kDead:
      return 'X';
    case TaskState::kStopped:
      return 'T';
    case TaskState::kTraced:
      return 't';
    case TaskState::kRunning:
      break;
  }
  // In user mode, or on its way there or back: nothing is waited for.
  return t.fiber != nullptr && t.syscall_nr >= 0 && t.fiber->wait_reason() != nullptr ? 'S' : 'R';
}

Result<std::string> show_statm(Ctx& c) {
  if (!c.task->mm_ref()) return "0 0 0 0 0 0 0\n";
  const MmStats m = c.task->mm().stats();
  return absl::StrFormat("%d %d %d %d 0 %d 0\n", m.total_pages, m.rss_pages,
                         m.rss_file_pages + m.rss_shmem_pages, m.exec_pages,
                         m.data_pages + m.stack_pages);
}

Result<std::string> show_stat(Ctx& c) {
  const Task& t = *c.task;
  const ThreadGroup& g = *t.group;
  const bool full = may_inspect(c.opener, t, c.kernel);
  const Usage u = usage_of(t);
  const Usage& kids = g.dead_children;
  MmStats m{};
  AddressSpace::Image image;
  if (t.mm_ref()) {
    m = t.mm().stats();
    image = t.mm().image;
  }
  int pgid = 0, sid = 0, tpgid = -1;
  uint64_t tty = 0;
  if (g.group) {
    pgid = c.shown(g.group->pgid);
    if (const Ref<Session>& s = g.group->session) {
      sid = c.shown(s->sid);
      if (s->tty != nullptr) tty = s->tty->rdev(), tpgid = shown_foreground(c, *s->tty);
    }
  }
  const bool rt =
      t.sched.sched_class == SchedClass::kFifo || t.sched.sched_class == SchedClass::kRr;
  const int lent = t.sched.effective_rt();  // its own, or that of a waiter (futex(2))
  const int priority = lent != 0 ? -1 - lent : 20 + t.sched.nice;
  const Sets sets = handler_sets(t);
  auto address = [&](uint64_t a) { return full ? a : (a != 0 ? 1 : 0); };
  std::string out =
      absl::StrFormat("%d (%s) %c %d %d %d %d %d %d", c.shown(t.tid), escape_comm(t.comm),
                      state_letter(t), parent_of(c), pgid, sid, tty, tpgid, 0x400000);
  absl::StrAppendFormat(&out, " %d %d %d %d %d %d %d %d", u.min_faults, kids.min_faults,
                        u.maj_faults, kids.maj_faults, u.utime_ns / kNsPerTick,
                        u.stime_ns / kNsPerTick, kids.utime_ns / kNsPerTick,
                        kids.stime_ns / kNsPerTick);
  absl::StrAppendFormat(&out, " %d %d %d 0 %d %d %d %d", priority, t.sched.nice, g.threads.size(),
                        time_inside(t.start_ns, c.ahead()) / kNsPerTick, m.total_pages * kPageSize,
                        m.rss_pages, g.rlimits[5].cur);
  absl::StrAppendFormat(&out, " %d %d %d 0 0", address(image.start_code), address(image.end_code),
                        full ? image.start_stack : 0);
  absl::StrAppendFormat(&out, " %d %d %d %d", (t.pending.pending()).bits() & 0x7fffffff,
                        t.blocked.bits() & 0x7fffffff, sets.ignored.bits() & 0x7fffffff,
                        sets.caught.bits() & 0x7fffffff);
  absl::StrAppendFormat(&out, " %d 0 0 %d %d %d %d 0 0 0", state_letter(t) == 'S' ? 1 : 0,
                        g.exit_signal < 0 ? 0 : g.exit_signal, t.sched.cpu,
                        rt ? t.sched.rt_priority : 0, static_cast<int>(t.sched.sched_class));
  absl::StrAppendFormat(&out, " %d %d %d %d %d %d %d %d\n", address(image.start_data),
                        address(image.end_data), full && t.mm_ref() ? t.mm().brk_start() : 0,
                        address(image.arg_start), address(image.arg_end), address(image.env_start),
                        address(image.env_end), full ? t.exit_code : 0);
  return out;
}

Result<std::string> show_status(Ctx& c) {
  const Task& t = *c.task;
  const ThreadGroup& g = *t.group;
  const Cred& cred = t.cred();
  const UserNamespace* reader = c.opener.user_ns.get();
  auto u = [&](uint32_t id) { return shown_uid(reader, id); };
  auto gr = [&](uint32_t id) { return shown_gid(reader, id); };
  std::string out = absl::StrFormat("Name:\t%s\n", escape_comm(t.comm));
  if (t.fs_) absl::StrAppendFormat(&out, "Umask:\t%04o\n", t.fs_->umask);
  absl::StrAppendFormat(&out,
                        "State:\t%s\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t%d\n"
                        "Uid:\t%d\t%d\t%d\t%d\nGid:\t%d\t%d\t%d\t%d\nFDSize:\t%d\nGroups:\t",
                        state_name(state_letter(t)), c.shown(t.tgid()), c.shown(t.tid),
                        parent_of(c), t.tracer != nullptr ? c.shown(t.tracer->tid) : 0, u(cred.uid),
                        u(cred.euid), u(cred.suid), u(cred.fsuid), gr(cred.gid), gr(cred.egid),
                        gr(cred.sgid), gr(cred.fsgid),
                        t.fds_ ? (t.fds_->highest() / 64 + 1) * 64 : 0);
  for (uint32_t group : cred.groups) absl::StrAppendFormat(&out, "%d ", gr(group));
  const int pgid = g.group ? g.group->pgid : 0;
  const int sid = g.group && g.group->session ? g.group->session->sid : 0;
  add_numbers(out, c, "NStgid", t.tgid());
  add_numbers(out, c, "NSpid", t.tid);
  add_numbers(out, c, "NSpgid", pgid);
  add_numbers(out, c, "NSsid", sid);
  out += "\nKthread:\t0\n";
  if (t.mm_ref()) add_memory(out, t.mm().stats());
  const Sets sets = handler_sets(t);
  absl::StrAppendFormat(
      &out,
      "Threads:\t%d\nSigQ:\t0/%d\nSigPnd:\t%016x\nShdPnd:\t%016x\nSigBlk:\t%016x\nSigIgn:\t%016x\n"
      "SigCgt:\t%016x\n",
      g.threads.size(), g.rlimits[11].cur, t.pending.pending().bits(), g.pending.pending().bits(),
      t.blocked.bits(), sets.ignored.bits(), sets.caught.bits());
  absl::StrAppendFormat(&out,
                        "CapInh:\t%016x\nCapPrm:\t%016x\nCapEff:\t%016x\nCapBnd:\t%016x\n"
                        "CapAmb:\t%016x\nNoNewPrivs:\t%d\nSeccomp:\t%d\nSeccomp_filters:\t%d\n"
                        "Speculation_Store_Bypass:\tunknown\n"
                        "SpeculationIndirectBranch:\tunknown\n",
                        cred.cap_inheritable, cred.cap_permitted, cred.cap_effective,
                        cred.cap_bounding, cred.cap_ambient, cred.no_new_privs ? 1 : 0,
                        t.seccomp_mode, t.seccomp ? t.seccomp->count() : 0);
  const uint64_t cpus = cpu_mask(t, c.kernel.vcpus.count());
  absl::StrAppendFormat(&out,
                        "Cpus_allowed:\t%x\nCpus_allowed_list:\t%s\nMems_allowed:\t1\n"
                        "Mems_allowed_list:\t0\nvoluntary_ctxt_switches:\t%d\n"
                        "nonvoluntary_ctxt_switches:\t%d\n",
                        cpus, cpu_list(cpus), t.sched.voluntary_switches,
                        t.sched.involuntary_switches);
  return out;
}

}  // namespace uk::procfs
