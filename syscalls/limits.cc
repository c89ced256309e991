#include "syscalls/limits.h"

#include <sys/random.h>

#include <algorithm>
#include <cstring>

#include "syscalls/process.h"
#include "ukernel/abi/uname.h"
#include "ukernel/kernel.h"
#include "ukernel/task/time_ns.h"
#include "ukernel/task/timers.h"

namespace uk {
namespace {

constexpr uint64_t kTickNs = 10'000'000;
constexpr size_t kRandomPiece = 4096;

Result<> set_limit(Task& task, Task& target, uint32_t resource, const RLimit& next) {
  RLimit& now = target.group->rlimits[resource];
  if (next.cur > next.max) return Err(Errno::kINVAL);
  if (resource == RLIMIT_NOFILE && next.max > task.kernel.vfs.settings.nr_open)
    return Err(Errno::kPERM);
  if (next.max > now.max && !task.cred().has(Cap::kSysResource)) return Err(Errno::kPERM);
  now = next;
  if (resource == RLIMIT_STACK && target.mm_) target.mm_->set_stack_limit(next.cur);
  if (resource == RLIMIT_CPU) {
    target.group->timers->next_cpu_limit_ns = 0;
    for (Task* t : target.group->threads)
      if (t->in_user) t->notify();  // the watch starts when it goes back
  }
  return {};
}

// prlimit(2): all ids of the target are the caller's, or CAP_SYS_RESOURCE.
bool may_prlimit(const Task& task, const Task& target) {
  if (&task == &target || task.cred().has(Cap::kSysResource)) return true;
  const Cred &a = task.cred(), &b = *target.cred_;
  return a.uid == b.uid && a.uid == b.euid && a.uid == b.suid && a.gid == b.gid &&
         a.gid == b.egid && a.gid == b.sgid;
}

}  // namespace

Result<int64_t> sys_getrlimit(Task& task, uint32_t resource, UserOut<RLimit> limit) {
  if (resource >= kRLimits) return Err(Errno::kINVAL);
  TRY(limit.put(task.park(), task.mm(), task.rlimit(static_cast<int>(resource))));
  return 0;
}

Result<int64_t> sys_setrlimit(Task& task, uint32_t resource, UserIn<RLimit> limit) {
  RLimit next = TRY(limit.get(task.park(), task.mm()));
  if (resource >= kRLimits) return Err(Errno::kINVAL);
  TRY(set_limit(task, task, resource, next));
  return 0;
}

Result<int64_t> sys_prlimit64(Task& task, int pid, uint32_t resource, UserIn<RLimit> limit,
                              UserOut<RLimit> old) {
  if (resource >= kRLimits) return Err(Errno::kINVAL);
  RLimit next;
  if (limit) next = TRY(limit.get(task.park(), task.mm()));
  Task* t = TRY(find_task(task, pid));
  if (!may_prlimit(task, *t)) return Err(Errno::kPERM);
  RLimit before = t->rlimit(static_cast<int>(resource));
  if (limit) TRY(set_limit(task, *t, resource, next));
  if (old) TRY(old.put(task.park(), task.mm(), before));
  return 0;
}

Result<int64_t> sys_getrusage(Task& task, int who, UserOut<rusage> usage) {
  Usage u;
  switch (who) {
    case RUSAGE_SELF:
      u = task.group->usage();
      break;
    case RUSAGE_CHILDREN:
      u = task.group->dead_children;
      break;
    case RUSAGE_THREAD:
      u = task.usage_now();
      break;
    default:
      return Err(Errno::kINVAL);
  }
  TRY(usage.put(task.park(), task.mm(), to_rusage(u)));
  return 0;
}

Result<int64_t> sys_times(Task& task, UserOut<tms> buf) {
  if (buf) {
    Usage self = task.group->usage(), children = task.group->dead_children;
    tms t{};
    t.tms_utime = static_cast<clock_t>(self.utime_ns / kTickNs);
    t.tms_stime = static_cast<clock_t>(self.stime_ns / kTickNs);
    t.tms_cutime = static_cast<clock_t>(children.utime_ns / kTickNs);
    t.tms_cstime = static_cast<clock_t>(children.stime_ns / kTickNs);
    TRY(buf.put(task.park(), task.mm(), t));
  }
  return static_cast<int64_t>(task.kernel.uptime_ns() / kTickNs);
}

Result<int64_t> sys_sysinfo(Task& task, UserOut<struct sysinfo> info) {
  Kernel& k = task.kernel;
  struct sysinfo s {};
  const uint64_t up = time_inside(k.uptime_ns(), boottime_offset(task));
  s.uptime = static_cast<long>((up + kNsPerSec - 1) / kNsPerSec);  // a second begun counts
  constexpr double kLoadUnit = 65536;
  std::array<double, 3> load = k.load_average();
  for (size_t i = 0; i < load.size(); ++i)
    s.loads[i] = static_cast<unsigned long>(load[i] * kLoadUnit);
  s.totalram = k.mem->total_pages() * kPageSize;
  s.freeram = k.mem->free_pages() * kPageSize;
  s.sharedram = k.mem->shmem_pages * kPageSize;
  s.procs = static_cast<unsigned short>(std::min(k.pids.count(), 65535));
  s.mem_unit = 1;
  TRY(info.put(task.park(), task.mm(), s));
  return 0;
}

Result<int64_t> sys_uname(Task& task, UserOut<utsname> name) {
  utsname u{};
  auto set = [](char(&to)[65], std::string_view from) {
    std::memcpy(to, from.data(), std::min(from.size(), sizeof to - 1));
  };
  set(u.sysname, kUnameSysname);
  set(u.nodename, task.uts().nodename);
  set(u.release, kUnameRelease);
  set(u.version, kUnameVersion);
  set(u.machine, kUnameMachine);
  set(u.domainname, task.uts().domainname);
  TRY(name.put(task.park(), task.mm(), u));
  return 0;
}

namespace {

Result<int64_t> set_uts(Task& task, UserAddr name, int len, std::string& field) {
  if (!task.cred().has_in(task.uts().owner.get(), Cap::kSysAdmin)) return Err(Errno::kPERM);
  if (len < 0 || len > 64) return Err(Errno::kINVAL);
  std::string text(static_cast<size_t>(len), '\0');
  Ref<UtsInfo> keep = task.uts_;
  if (len != 0 && TRY(task.mm().copy_in(task.park(), std::as_writable_bytes(std::span(text)),
                                        name.addr)) != text.size())
    return Err(Errno::kFAULT);
  field = text.substr(0, text.find('\0'));
  return 0;
}

}  // namespace

Result<int64_t> sys_sethostname(Task& task, UserAddr name, int len) {
  return set_uts(task, name, len, task.uts().nodename);
}

Result<int64_t> sys_setdomainname(Task& task, UserAddr name, int len) {
  return set_uts(task, name, len, task.uts().domainname);
}

Result<int64_t> sys_getrandom(Task& task, UserAddr buf, size_t len, Hex flags) {
  constexpr uint64_t kInsecure = 4;
  if ((flags.value & 0xffffffff & ~(GRND_NONBLOCK | GRND_RANDOM | kInsecure)) != 0)
    return Err(Errno::kINVAL);
  if ((flags.value & (GRND_RANDOM | kInsecure)) == (GRND_RANDOM | kInsecure))
    return Err(Errno::kINVAL);
  len = std::min<size_t>(len, 0x1ffffff);
  size_t done = 0;
  std::array<std::byte, kRandomPiece> piece;
  while (done < len) {
    auto part = std::span(piece).first(std::min(len - done, piece.size()));
    task.kernel.random(part);
    Result<size_t> n = task.mm().copy_out(task.park(), buf.addr + done, part);
    if (!n) return done != 0 ? Result<int64_t>(static_cast<int64_t>(done)) : Err(n.error());
    done += *n;
    if (*n != part.size()) break;
    if (task.should_interrupt(WaitMode::kInterruptible)) break;
    if (done < len) task.park().yield();
  }
  return static_cast<int64_t>(done);
}

}  // namespace uk
