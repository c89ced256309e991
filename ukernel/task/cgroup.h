// Control groups, version 2 (cgroups(7)): the one tree of groups of processes, what moves processes
// between them, freezing and killing, and the limits of the controllers cpu, io, memory and pids.
// The files are fs/cgroupfs.
//
// A process without a group of its own is in the root, and nothing is counted for it: who makes no
// groups pays for none. All threads of a process are in one group (no threaded mode).
//
// Ownership: the Kernel owns the Cgroups, its root the tree; processes and open files hold Refs, so
// that a removed group lives on, dead, until the last of them goes. Reactor-owned; only what takes
// a Park suspends. Names and numbers come from the guest; the number of groups and their depth are
// bounded (kMaxGroups, kMaxDepth).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/sched/sched_group.h"
#include "ukernel/sched/wait_queue.h"
#include "ukernel/vfs/inode.h"
#include "ukernel/vfs/namespace.h"

namespace uk {

class Cgroups;
class IoGroup;
class Kernel;
class MemoryGroup;
class MemoryGroups;
class Task;
class ThreadGroup;

enum Controller : uint8_t {
  kCpuController = 1,
  kMemoryController = 2,
  kPidsController = 4,
  kIoController = 8
};
constexpr uint8_t kControllers =
    kCpuController | kMemoryController | kPidsController | kIoController;
// Those that may share out between a group's own processes and its children.
constexpr uint8_t kThreadedControllers = kCpuController | kPidsController;

class Cgroup final : public RefCounted {
 public:
  static constexpr uint64_t kMax = UINT64_MAX;  // "max"

  Cgroup(Cgroups& tree, Ref<Cgroup> parent, std::string name, uint64_t id);
  ~Cgroup() override;

  Cgroups& tree;
  const Ref<Cgroup> parent;  // null: the root
  const std::string name;
  const uint64_t id;                      // also the inode's number
  const int depth;                        // the root has 0
  bool dead = false;                      // removed
  uint32_t owner_uid = 0, owner_gid = 0;  // of who made it: its files are theirs
  std::map<std::string, Ref<Cgroup>, std::less<>> children;
  int descendants = 0;
  uint64_t max_descendants = kMax, max_depth = kMax;
  bool is_root() const { return parent == nullptr; }
  bool is_within(const Cgroup& top) const;

  // ---- controllers
  uint8_t enabled() const { return is_root() ? kControllers : parent->subtree_control; }
  uint8_t subtree_control = 0;
  // cgroup.type (without threaded mode): "domain", "domain threaded" or "domain invalid".
  const char* type() const;
  bool valid_domain() const;

  // ---- processes: of threads that have not ended. Not kept for the root.
  int own_threads = 0;  // in this group itself
  int threads = 0;      // and in the groups below
  bool populated() const { return threads != 0; }
  int arriving = 0;  // threads that are being made for it (CLONE_INTO_CGROUP)

  // ---- freezer
  bool freeze = false;    // cgroup.freeze
  bool freezing = false;  // by that, or a parent's
  int still = 0;          // of `threads`, those that stand still (Task::frozen)
  bool frozen() const { return freezing && still == threads; }

  // What poll(2) of an events file hears of: a change counts `version` up and wakes.
  struct Told {
    uint64_t version = 0;
    WaitQueue queue;
    void change();
  };
  Told events;  // cgroup.events

  // ---- pids: numbers of this group and those below, ended but not yet waited for included
  struct Pids {
    uint64_t current = 0, peak = 0, max = kMax;
    uint64_t refused = 0;        // forks, by this group's limit (pids.events.local)
    uint64_t refused_below = 0;  // and by those below (pids.events)
    Told events;
  } pids;

  // ---- cpu
  uint64_t cpu_weight = 100;            // 1..10000
  uint64_t user_ns = 0, system_ns = 0;  // of this group and those below
  // Null unless the controller is on here; sched_group() is the nearest one's upwards.
  std::unique_ptr<SchedGroup> cpu;
  SchedGroup* sched_group() const;

  // ---- memory; null unless the controller is on here (task/memory_group.h)
  std::unique_ptr<MemoryGroup> memory;
  Told memory_events;

  // ---- io; null until something is set or counted (task/io_group.h)
  std::shared_ptr<IoGroup> io;

  // Inodes of its files and directory by name ("" is the directory); cgroupfs's.
  std::map<std::string, Ref<Inode>, std::less<>> inodes;

 private:
  friend class Cgroups;
  bool shown_populated_ = false, shown_frozen_ = false;
};

class CgroupNamespace final : public Namespace {
 public:
  explicit CgroupNamespace(Ref<Cgroup> r) : Namespace(NsKind::kCgroup), root(std::move(r)) {}
  const Ref<Cgroup> root;
};

// What the tree needs of its files; implemented by cgroupfs.
class CgroupFiles {
 public:
  virtual ~CgroupFiles() = default;
  // The group whose directory the file is; null for others.
  virtual Ref<Cgroup> of_directory(const File& file) = 0;
  // May these credentials write to cgroup.procs of `group`? kACCES.
  virtual Result<> may_attach(Park& park, Cgroup& group, const Cred& cred) = 0;
  // Contents of a file of `group` have changed by themselves.
  virtual void changed(Cgroup& group, std::string_view file) = 0;
};

class Cgroups {
 public:
  static constexpr int kMaxGroups = 4096;
  static constexpr int kMaxDepth = 64;
  static constexpr uint64_t kInodesPerGroup = 64;  // numbers for the files of each

  explicit Cgroups(Kernel& kernel);
  ~Cgroups();

  Kernel& kernel;
  Ref<Cgroup> root;
  std::shared_ptr<CgroupFiles> files;    // set by whoever registers the filesystem
  Ref<SuperBlock> super;                 // of all its mounts; made with the first
  int groups = 1;                        // that are not dead
  WaitQueue thawed;                      // threads that stand still wait here
  std::unique_ptr<MemoryGroups> memory;  // never null

  Cgroup& of(const ThreadGroup& process) const;
  // mkdir: kAGAIN (cgroup.max.*), kNOMEM (kMaxGroups), kNOSPC (kMaxDepth).
  Result<Ref<Cgroup>> make(Cgroup& parent, std::string name);
  // rmdir: kBUSY while it has processes or children.
  Result<> remove(Cgroup& group);
  // cgroup.subtree_control. kNOENT (not there to be given), kBUSY.
  Result<> control(Cgroup& group, uint8_t enable, uint8_t disable);

  // Moves a whole process; permission has been checked. kBUSY, kNODEV (removed), kOPNOTSUPP
  // (invalid domain), kSRCH (it has ended).
  Result<> attach(ThreadGroup& process, Ref<Cgroup> to);
  // Where a process may go besides: what attach() checks of `to`.
  static Result<> check_target(const Cgroup& to);

  void set_freeze(Cgroup& group, bool freeze);
  void kill(Cgroup& group);  // all processes in it and below
  // In the order of their numbers.
  void each_process(const Cgroup& group, const std::function<void(ThreadGroup&)>& f) const;

  // The group at its memory limit that keeps the current task from getting more; null: none does.
  Cgroup* at_memory_limit() const;
  // memory.max: makes room by killing, if reclaim has not. kINTR: a signal came first.
  Result<> set_memory_max(Park& park, Cgroup& group, uint64_t pages);
  // A process in `group` is killed because `limited` (null: the instance) is at its limit: counts,
  // and kills what memory.oom.group binds to it.
  void oom_killed(Cgroup& group, Cgroup* limited);

  // ---- called as tasks come and go; nothing for those in the root
  void thread_ended(Task& task);  // its exit has begun: it does not count as there any more
  void number_released(ThreadGroup& process);  // a task of it leaves the PidTable
  void stands_still(Task& task, bool still);
  void charge_cpu(ThreadGroup& process, uint64_t user_ns, uint64_t system_ns);

 private:
  friend class ForkCharge;
  void events_changed(Cgroup& group);
  void spread_freeze(Cgroup& group);
  Result<> apply_control(Cgroup& group);
  void add_threads(Cgroup& group, int threads, int still);
  void add_numbers(Cgroup& group, int n);
  uint64_t next_id_ = 2;
};

// A number for a new task, counted from before it is made in the group it is to be in. Making a
// task suspends, and its parent may be moved meanwhile.
class ForkCharge {
 public:
  // `group` null: the root. `follows`: the task is to be where its parent's process will be, not in
  // `group` whatever happens. kAGAIN: a limit of cgroup pids.
  static Result<ForkCharge> take(Kernel& kernel, Ref<Cgroup> group, bool follows);
  ForkCharge(ForkCharge&& o) noexcept
      : kernel_(o.kernel_), group_(std::move(o.group_)), follows_(o.follows_) {}
  ~ForkCharge();
  // The task is made.
  void keep(Task& task, const ThreadGroup& parent);

 private:
  ForkCharge(Kernel& kernel, Ref<Cgroup> group, bool follows);
  void drop();
  Kernel& kernel_;
  Ref<Cgroup> group_;
  const bool follows_;
};

// Its cgroup asks the task to stand still.
bool must_freeze(const Task& task);
// Stands still until that is over, or something else is to be done. Suspends.
void freeze_here(Task& task);
// While it lives the task counts as standing still: it is stopped, or waits for a vfork child.
class StandsStill {
 public:
  explicit StandsStill(Task& task);
  ~StandsStill();
  StandsStill(const StandsStill&) = delete;
  StandsStill& operator=(const StandsStill&) = delete;

 private:
  Task& task_;
  const bool outermost_;
};

// The path of `group` as seen from `root`, which need not be above it (cgroup_namespaces(7)).
std::string cgroup_path(const Cgroup& group, const Cgroup& root);
// The root of the task's cgroup namespace.
Ref<Cgroup> cgroup_root_of(const Task& task);

}  // namespace uk
