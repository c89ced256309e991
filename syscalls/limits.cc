#include "syscalls/limits.h"

#include <linux/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "syscalls/fs_common.h"
#include "ukernel/abi/uname.h"

namespace uk {
namespace {

constexpr uint64_t kNsPerTick = 10'000'000;  // USER_HZ is 100
constexpr int kMaxName = 64;                 // __NEW_UTS_LEN

// prlimit(2): same ids, or CAP_SYS_RESOURCE.
bool may_limit(const Task& task, const Task& target) {
  if (&task == &target || task.cred().has(Cap::kSysResource)) return true;
  const Cred &a = task.cred(), &b = target.cred();
  return a.uid == b.uid && a.uid == b.euid && a.uid == b.suid && a.gid == b.gid &&
         a.gid == b.egid && a.gid == b.sgid;
}

Result<> set_limit(Task& task, Task& target, uint32_t resource, const RLimit& wanted) {
  if (wanted.cur > wanted.max) return Err(Errno::kINVAL);
  constexpr uint64_t kNrOpen = 1048576;
  RLimit& limit = target.rlimit(static_cast<int>(resource));
  if (resource == RLIMIT_NOFILE && wanted.max > kNrOpen) return Err(Errno::kPERM);
  if (wanted.max > limit.max && !task.cred().has(Cap::kSysResource)) return Err(Errno::kPERM);
  limit = wanted;
  return {};
}

struct timeval to_timeval(uint64_t ns) {
  return {static_cast<int64_t>(ns / kNsPerSec), static_cast<int64_t>(ns % kNsPerSec / 1000)};
}

UserRusage to_rusage(const Usage& u) {
  UserRusage r{};
  r.ru_utime = to_timeval(u.utime_ns);
  r.ru_stime = to_timeval(u.stime_ns);
  r.ru_maxrss = static_cast<long>(u.max_rss_pages * kPageSize / 1024);
  r.ru_minflt = static_cast<long>(u.min_faults);
  r.ru_majflt = static_cast<long>(u.maj_faults);
  r.ru_inblock = static_cast<long>(u.read_bytes / 512);
  r.ru_oublock = static_cast<long>(u.write_bytes / 512);
  r.ru_nvcsw = static_cast<long>(u.voluntary);
  r.ru_nivcsw = static_cast<long>(u.involuntary);
  return r;
}

void copy_name(char* to, std::string_view from) {
  const size_t n = std::min<size_t>(from.size(), kMaxName);
  std::memcpy(to, from.data(), n);
  to[n] = 0;
}

Result<int64_t> set_name(Task& task, UserIn<char> user, int len, std::string& to) {
  if (!task.cred().has(Cap::kSysAdmin)) return Err(Errno::kPERM);
  if (len < 0 || len > kMaxName) return Err(Errno::kINVAL);
  auto name = TRY(user.get_array(task.park(), task.mm(), static_cast<size_t>(len)));
  to.assign(name.begin(), std::find(name.begin(), name.end(), '\0'));
  return 0;
}

}  // namespace

Result<int64_t> sys_getrlimit(Task& task, uint32_t resource, UserOut<RLimit> out) {
  if (resource >= kRLimits) return Err(Errno::kINVAL);
  return zero(out.put(task.park(), task.mm(), task.rlimit(static_cast<int>(resource))));
}

Result<int64_t> sys_setrlimit(Task& task, uint32_t resource, UserIn<RLimit> in) {
  RLimit wanted = TRY(in.get(task.park(), task.mm()));
  if (resource >= kRLimits) return Err(Errno::kINVAL);
  return zero(set_limit(task, task, resource, wanted));
}

Result<int64_t> sys_prlimit64(Task& task, int pid, uint32_t resource, UserIn<RLimit> in,
                              UserOut<RLimit> out) {
  if (resource >= kRLimits) return Err(Errno::kINVAL);
  std::optional<RLimit> wanted;
  if (in) wanted = TRY(in.get(task.park(), task.mm()));
  Ref<Task> target(pid == 0 ? &task : task.kernel.pids.task(pid));
  if (!target) return Err(Errno::kSRCH);
  if (!may_limit(task, *target)) return Err(Errno::kPERM);
  RLimit old = target->rlimit(static_cast<int>(resource));
  if (wanted) TRY(set_limit(task, *target, resource, *wanted));
  if (out) TRY(out.put(task.park(), task.mm(), old));
  return 0;
}

Result<int64_t> sys_getrusage(Task& task, int who, UserOut<UserRusage> out) {
  Usage u;
  switch (who) {
    case RUSAGE_SELF:
      u = task.group->usage();
      u.max_rss_pages = std::max(u.max_rss_pages, task.mm().stats().peak_rss_pages);
      break;
    case RUSAGE_THREAD:
      u = task.usage_now();
      u.max_rss_pages = std::max(u.max_rss_pages, task.mm().stats().peak_rss_pages);
      break;
    case RUSAGE_CHILDREN:
      u = task.group->dead_children;
      break;
    default:
      return Err(Errno::kINVAL);
  }
  return zero(out.put(task.park(), task.mm(), to_rusage(u)));
}

Result<int64_t> sys_times(Task& task, UserOut<UserTms> out) {
  if (out) {
    Usage u = task.group->usage();
    const Usage& c = task.group->dead_children;
    UserTms t{};
    t.tms_utime = static_cast<clock_t>(u.utime_ns / kNsPerTick);
    t.tms_stime = static_cast<clock_t>(u.stime_ns / kNsPerTick);
    t.tms_cutime = static_cast<clock_t>(c.utime_ns / kNsPerTick);
    t.tms_cstime = static_cast<clock_t>(c.stime_ns / kNsPerTick);
    TRY(out.put(task.park(), task.mm(), t));
  }
  return static_cast<int64_t>(task.kernel.clock.monotonic_ns() / kNsPerTick);
}

Result<int64_t> sys_sysinfo(Task& task, UserOut<UserSysinfo> out) {
  Kernel& k = task.kernel;
  UserSysinfo s{};
  s.uptime = static_cast<long>(k.uptime_ns() / kNsPerSec);
  constexpr uint64_t kLoadScale = 1 << 16;  // SI_LOAD_SHIFT
  s.loads[0] = static_cast<uint64_t>(k.vcpus.runnable()) * kLoadScale;
  s.loads[1] = s.loads[2] = s.loads[0];
  s.totalram = k.mem->total_pages() * kPageSize;
  s.freeram = k.mem->free_pages() * kPageSize;
  s.sharedram = k.mem->shmem_pages * kPageSize;
  s.procs = static_cast<uint16_t>(std::min(k.pids.count(), 65535));
  s.mem_unit = 1;
  return zero(out.put(task.park(), task.mm(), s));
}

Result<int64_t> sys_uname(Task& task, UserOut<UserUtsname> out) {
  UserUtsname u{};
  constexpr uint32_t kUname26 = 0x0020000;  // personality(2) UNAME26
  copy_name(u.sysname, kUnameSysname);
  copy_name(u.nodename, task.uts().nodename);
  copy_name(u.release, (static_cast<uint32_t>(task.personality) & kUname26) != 0 ? "2.6.72-ukernel"
                                                                                 : kUnameRelease);
  copy_name(u.version, kUnameVersion);
  copy_name(u.machine, kUnameMachine);
  copy_name(u.domainname, task.uts().domainname);
  return zero(out.put(task.park(), task.mm(), u));
}

Result<int64_t> sys_sethostname(Task& task, UserIn<char> name, int len) {
  return set_name(task, name, len, task.uts().nodename);
}
Result<int64_t> sys_setdomainname(Task& task, UserIn<char> name, int len) {
  return set_name(task, name, len, task.uts().domainname);
}

Result<int64_t> sys_getrandom(Task& task, UserOut<std::byte> buf, size_t count, uint32_t flags) {
  if ((flags & ~(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE)) != 0) return Err(Errno::kINVAL);
  if ((flags & GRND_INSECURE) != 0 && (flags & GRND_RANDOM) != 0) return Err(Errno::kINVAL);
  UserSink sink(task.mm(), buf.addr, std::min(count, kMaxRw));
  std::array<std::byte, 4096> piece;
  size_t done = 0;
  while (sink.remaining() > 0) {
    auto part = std::span(piece).first(std::min(piece.size(), sink.remaining()));
    task.kernel.random(part);
    auto n = sink.put(task.park(), part);
    if (!n && done == 0) return Err(n.error());
    if (!n) break;
    done += *n;
    if (*n < part.size() || task.park().interrupted(WaitMode::kInterruptible)) break;
  }
  return static_cast<int64_t>(done);
}

Result<int64_t> sys_personality(Task& task, uint32_t persona) {
  const auto old = static_cast<uint32_t>(task.personality);
  constexpr uint32_t kQuery = 0xffffffff;
  if (persona != kQuery) task.personality = static_cast<decltype(task.personality)>(persona);
  return old;
}

}  // namespace uk
