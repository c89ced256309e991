#include "syscalls/sched.h"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstring>

#include "syscalls/extensible.h"
#include "syscalls/process.h"
#include "ukernel/kernel.h"
#include "ukernel/task/pi_futex.h"
#include "ukernel/task/pid_ns.h"

namespace uk {
namespace {

constexpr int kResetOnFork = 0x40000000;
constexpr uint64_t kAttrResetOnFork = 1;
constexpr uint32_t kAttrMin = 48;

bool valid_policy(int p) {
  return p == SCHED_OTHER || p == SCHED_FIFO || p == SCHED_RR || p == SCHED_BATCH ||
         p == SCHED_IDLE;
}
bool real_time(SchedClass c) { return c == SchedClass::kFifo || c == SchedClass::kRr; }

// The task named by pid; negative numbers are kINVAL.
Result<Task*> sched_task(Task& task, int pid) {
  if (pid < 0) return Err(Errno::kINVAL);
  return find_task(task, pid);
}

bool owns(const Task& task, const Task& target) {
  const Cred &a = task.cred(), &b = *target.cred_;
  return a.euid == b.euid || a.euid == b.uid;
}

bool may_lower_nice(Task& task, const Task& target, int nice) {
  return static_cast<uint64_t>(20 - nice) <= target.group->rlimits[RLIMIT_NICE].cur ||
         task.cred().has(Cap::kSysNice);
}

// Parameters take effect when the task next asks for a virtual CPU.
void reschedule(Task& target) {
  if (target.in_user) target.notify();
}

struct Wish {
  int policy = 0;
  int priority = 0;
  std::optional<int> nice;
  bool reset_on_fork = false;
};

Result<> check_policy(Task& task, const Task& t, const Wish& w) {
  auto cls = static_cast<SchedClass>(w.policy);
  bool rt = real_time(cls);
  if (w.priority < 0 || w.priority > 99 || rt != (w.priority != 0)) return Err(Errno::kINVAL);
  if (task.cred().has(Cap::kSysNice)) return {};
  if (rt) {
    uint64_t limit = t.group->rlimits[RLIMIT_RTPRIO].cur;
    if (cls != t.sched.sched_class && limit == 0) return Err(Errno::kPERM);
    if (w.priority > t.sched.rt_priority && static_cast<uint64_t>(w.priority) > limit)
      return Err(Errno::kPERM);
  }
  if (w.nice &&
      *w.nice<t.sched.nice&& static_cast<uint64_t>(20 - *w.nice)> t.group->rlimits[RLIMIT_NICE].cur)
    return Err(Errno::kPERM);
  if (t.sched.sched_class == SchedClass::kIdle && cls != SchedClass::kIdle &&
      static_cast<uint64_t>(20 - t.sched.nice) > t.group->rlimits[RLIMIT_NICE].cur)
    return Err(Errno::kPERM);
  if (!owns(task, t)) return Err(Errno::kPERM);
  if (t.reset_on_fork && !w.reset_on_fork) return Err(Errno::kPERM);
  return {};
}

Result<int64_t> apply(Task& task, int pid, const Wish& w) {
  Task* t = TRY(sched_task(task, pid));
  if (!valid_policy(w.policy)) return Err(Errno::kINVAL);
  TRY(check_policy(task, *t, w));
  t->sched.sched_class = static_cast<SchedClass>(w.policy);
  t->sched.rt_priority = w.priority;
  if (w.nice && !real_time(t->sched.sched_class)) t->sched.nice = *w.nice;
  t->reset_on_fork = w.reset_on_fork;
  task.kernel.pi_futexes->priority_changed(*t);
  reschedule(*t);
  return 0;
}

}  // namespace

Result<int64_t> sys_sched_yield(Task& task) {
  task.kernel.vcpus.yield(task.sched);
  return 0;
}

Result<int64_t> sys_sched_setscheduler(Task& task, int pid, int policy, UserIn<int32_t> param) {
  if (policy < 0 || !param) return Err(Errno::kINVAL);
  int priority = TRY(param.get(task.park(), task.mm()));
  return apply(task, pid,
               {.policy = policy & ~kResetOnFork,
                .priority = priority,
                .nice = std::nullopt,
                .reset_on_fork = (policy & kResetOnFork) != 0});
}

Result<int64_t> sys_sched_getscheduler(Task& task, int pid) {
  Task* t = TRY(sched_task(task, pid));
  return static_cast<int>(t->sched.sched_class) | (t->reset_on_fork ? kResetOnFork : 0);
}

Result<int64_t> sys_sched_setparam(Task& task, int pid, UserIn<int32_t> param) {
  if (!param || pid < 0) return Err(Errno::kINVAL);
  int priority = TRY(param.get(task.park(), task.mm()));
  Task* t = TRY(sched_task(task, pid));
  return apply(task, pid,
               {.policy = static_cast<int>(t->sched.sched_class),
                .priority = priority,
                .nice = std::nullopt,
                .reset_on_fork = t->reset_on_fork});
}

Result<int64_t> sys_sched_getparam(Task& task, int pid, UserOut<int32_t> param) {
  if (!param) return Err(Errno::kINVAL);
  Task* t = TRY(sched_task(task, pid));
  int priority = real_time(t->sched.sched_class) ? t->sched.rt_priority : 0;
  TRY(param.put(task.park(), task.mm(), priority));
  return 0;
}

Result<int64_t> sys_sched_setattr(Task& task, int pid, UserInOut<UserSchedAttr> attr, Hex flags) {
  if (!attr || pid < 0 || flags.value != 0) return Err(Errno::kINVAL);
  uint32_t size = TRY(UserIn<uint32_t>{{attr.addr}}.get(task.park(), task.mm()));
  if (size == 0) size = kAttrMin;
  Result<UserSchedAttr> fetched = Err(Errno::k2BIG);
  if (size >= kAttrMin)
    fetched = fetch_extensible<UserSchedAttr>(task, {attr.addr}, size, kAttrMin);
  if (!fetched && fetched.error() == Errno::k2BIG)  // the caller learns what would do
    TRY(UserOut<uint32_t>{{attr.addr}}.put(task.park(), task.mm(), sizeof(UserSchedAttr)));
  const UserSchedAttr a = TRY(std::move(fetched));
  // DEVIATION: neither deadline scheduling nor utilization clamps.
  if ((a.flags & ~kAttrResetOnFork) != 0) return Err(Errno::kINVAL);
  if (a.policy > INT32_MAX || a.priority > 99) return Err(Errno::kINVAL);
  return apply(task, pid,
               {.policy = static_cast<int>(a.policy),
                .priority = static_cast<int>(a.priority),
                .nice = std::clamp(a.nice, -20, 19),
                .reset_on_fork = (a.flags & kAttrResetOnFork) != 0});
}

Result<int64_t> sys_sched_getattr(Task& task, int pid, UserOut<UserSchedAttr> attr, uint32_t size,
                                  Hex flags) {
  if (!attr || pid < 0 || flags.value != 0 || size < kAttrMin || size > kPageSize)
    return Err(Errno::kINVAL);
  Task* t = TRY(sched_task(task, pid));
  UserSchedAttr a{};
  a.size = std::min<uint32_t>(size, sizeof a);
  a.policy = static_cast<uint32_t>(t->sched.sched_class);
  a.flags = t->reset_on_fork ? kAttrResetOnFork : 0;
  if (real_time(t->sched.sched_class)) {
    a.priority = static_cast<uint32_t>(t->sched.rt_priority);
  } else {
    a.nice = t->sched.nice;
  }
  a.util_max = 1024;
  auto bytes = std::as_bytes(std::span(&a, 1)).first(a.size);
  if (TRY(task.mm().copy_out(task.park(), attr.addr, bytes)) != bytes.size())
    return Err(Errno::kFAULT);
  return 0;
}

Result<int64_t> sys_sched_get_priority_max(Task&, int policy) {
  if (policy == SCHED_FIFO || policy == SCHED_RR) return 99;
  return valid_policy(policy) || policy == 6 ? Result<int64_t>(0) : Err(Errno::kINVAL);
}

Result<int64_t> sys_sched_get_priority_min(Task&, int policy) {
  if (policy == SCHED_FIFO || policy == SCHED_RR) return 1;
  return valid_policy(policy) || policy == 6 ? Result<int64_t>(0) : Err(Errno::kINVAL);
}

Result<int64_t> sys_sched_rr_get_interval(Task& task, int pid, UserOut<UserTimespec> ts) {
  Task* t = TRY(sched_task(task, pid));
  uint64_t ns = VcpuSet::kSliceNs;
  if (t->sched.sched_class == SchedClass::kRr) ns = task.kernel.vcpus.real_time.rr_slice_ns;
  if (t->sched.sched_class == SchedClass::kFifo) ns = 0;
  TRY(ts.put(task.park(), task.mm(), to_timespec(ns)));
  return 0;
}

namespace {

uint64_t all_cpus(const Kernel& k) {
  int n = k.vcpus.count();
  return n >= 64 ? ~0ull : (1ull << n) - 1;
}

}  // namespace

Result<int64_t> sys_sched_setaffinity(Task& task, int pid, uint32_t size, UserAddr mask) {
  uint64_t wanted = 0;
  std::span<std::byte> to = std::as_writable_bytes(std::span(&wanted, 1));
  to = to.first(std::min<size_t>(size, sizeof wanted));
  if (TRY(task.mm().copy_in(task.park(), to, mask.addr)) != to.size()) return Err(Errno::kFAULT);
  Task* t = TRY(find_task(task, pid));
  if (!owns(task, *t) && !task.cred().has(Cap::kSysNice)) return Err(Errno::kPERM);
  wanted &= all_cpus(task.kernel);
  if (wanted == 0) return Err(Errno::kINVAL);
  t->sched.affinity = wanted;
  reschedule(*t);
  return 0;
}

Result<int64_t> sys_sched_getaffinity(Task& task, int pid, uint32_t size, UserAddr mask) {
  auto cpus = static_cast<uint64_t>(task.kernel.vcpus.count());
  if (uint64_t{size} * 8 < cpus || size % 8 != 0) return Err(Errno::kINVAL);
  Task* t = TRY(find_task(task, pid));
  uint64_t bits = t->sched.affinity & all_cpus(task.kernel);
  auto bytes = std::as_bytes(std::span(&bits, 1));
  if (TRY(task.mm().copy_out(task.park(), mask.addr, bytes)) != bytes.size())
    return Err(Errno::kFAULT);
  return static_cast<int64_t>(bytes.size());
}

// The tasks that (which, who) of getpriority(2) names.
Result<std::vector<Task*>> priority_targets(Task& task, int which, int who) {
  std::vector<Task*> out;
  PidTable& pids = task.kernel.pids;
  switch (which) {
    case PRIO_PROCESS:
      if (Result<Task*> t = find_task(task, who)) out.push_back(*t);
      break;
    case PRIO_PGRP: {
      int pgid = who == 0 ? task.group->group->pgid : kernel_pid(task, who);
      pids.each_task([&](Task& t) {
        if (t.group->group && t.group->group->pgid == pgid) out.push_back(&t);
      });
      break;
    }
    case PRIO_USER: {
      uint32_t uid = who == 0 ? task.cred().uid : static_cast<uint32_t>(who);
      pids.each_task([&](Task& t) {
        if (t.cred_->uid == uid) out.push_back(&t);
      });
      break;
    }
    default:
      return Err(Errno::kINVAL);
  }
  if (out.empty()) return Err(Errno::kSRCH);
  return out;
}

Result<int64_t> sys_getpriority(Task& task, int which, int who) {
  int best = 0;
  for (Task* t : TRY(priority_targets(task, which, who))) best = std::max(best, 20 - t->sched.nice);
  return best;
}

Result<int64_t> sys_setpriority(Task& task, int which, int who, int nice) {
  nice = std::clamp(nice, -20, 19);
  Result<int64_t> result = 0;
  for (Task* t : TRY(priority_targets(task, which, who))) {
    if (!owns(task, *t) && !task.cred().has(Cap::kSysNice)) {
      result = Err(Errno::kPERM);
    } else if (nice < t->sched.nice && !may_lower_nice(task, *t, nice)) {
      result = Err(Errno::kACCES);
    } else {
      t->sched.nice = nice;
      reschedule(*t);
    }
  }
  return result;
}

Result<int64_t> sys_getcpu(Task& task, UserOut<uint32_t> cpu, UserOut<uint32_t> node) {
  if (cpu) TRY(cpu.put(task.park(), task.mm(), static_cast<uint32_t>(task.sched.cpu)));
  if (node) TRY(node.put(task.park(), task.mm(), 0));
  return 0;
}

namespace {

constexpr int kMbGlobal = 1, kMbGlobalExpedited = 2, kMbRegisterGlobal = 4, kMbPrivate = 8,
              kMbRegisterPrivate = 16, kMbPrivateSyncCore = 32, kMbRegisterSyncCore = 64;

// Every thread that runs guest code now has come into the kernel once since: a full barrier on its
// host CPU. `mm` null: all threads of the instance.
Result<> barrier(Task& task, const AddressSpace* mm) {
  Kernel& k = task.kernel;
  std::vector<std::pair<Ref<Task>, uint64_t>> running;
  k.pids.each_task([&](Task& t) {
    if (t.in_user && (mm == nullptr || t.mm_.get() == mm)) running.emplace_back(&t, t.user_entries);
  });
  for (auto& [t, entries] : running) t->notify();
  auto left = [&] {
    return std::all_of(running.begin(), running.end(), [](const auto& r) {
      return !r.first->in_user || r.first->user_entries != r.second;
    });
  };
  ++k.left_user_watchers;
  Result<> r = k.left_user.wait(task.park(), left, WaitMode::kKillable, kNever, "membarrier");
  --k.left_user_watchers;
  return r;
}

}  // namespace

Result<int64_t> sys_membarrier(Task& task, int cmd, uint32_t flags, int) {
  if (flags != 0) return Err(Errno::kINVAL);
  int& registered = task.mm().membarrier_registered;
  switch (cmd) {
    case 0:
      return kMbGlobal | kMbGlobalExpedited | kMbRegisterGlobal | kMbPrivate | kMbRegisterPrivate |
             kMbPrivateSyncCore | kMbRegisterSyncCore;
    case kMbGlobal:
    case kMbGlobalExpedited:
      TRY(barrier(task, nullptr));
      return 0;
    case kMbRegisterGlobal:
    case kMbRegisterPrivate:
    case kMbRegisterSyncCore:
      registered |= cmd;
      return 0;
    case kMbPrivate:
    case kMbPrivateSyncCore:
      if ((registered & (cmd << 1)) == 0) return Err(Errno::kPERM);
      TRY(barrier(task, &task.mm()));
      return 0;
    default:
      return Err(Errno::kINVAL);
  }
}

}  // namespace uk
