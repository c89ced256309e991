// Tasks and thread groups: what fork, clone and exec make and exit ends. A Task is one guest thread
// with its kernel fiber; a ThreadGroup is a process. The fiber runs run_loop(): enter user mode,
// take the trap, dispatch, deliver signals, again.
//
// Ownership: the PidTable (Kernel) holds a Ref to each task until it is reaped. A task's own fiber
// owns its registers and saved mask ("task-fiber-owned"); everything else is reactor-owned and may
// change across any suspension.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/list.h"
#include "base/ref.h"
#include "base/result.h"
#include "ukernel/arch/x86_64/regs.h"
#include "ukernel/mm/address_space.h"
#include "ukernel/mm/user_ptr.h"
#include "ukernel/platform/platform.h"
#include "ukernel/sched/fiber.h"
#include "ukernel/sched/vcpu.h"
#include "ukernel/sched/wait_queue.h"
#include "ukernel/task/fd_table.h"
#include "ukernel/task/signal.h"
#include "ukernel/vfs/cred.h"
#include "ukernel/vfs/vfs.h"

namespace uk {

struct Autogroup;
class Cgroup;
class IpcNamespace;
class NsSet;
class MemPolicy;
class Kernel;
class SeccompFilter;
class SemUndo;
class Task;
struct TraceState;
class ThreadGroup;
class Tty;

// Root, working directory, umask; shared with CLONE_FS.
class FsInfo final : public RefCounted {
 public:
  Path root, cwd;
  uint32_t umask = 022;
  Ref<FsInfo> copy() const;
};

// UTS names; one per uts namespace.
class UtsInfo final : public Namespace {
 public:
  UtsInfo() : Namespace(NsKind::kUts) {}
  std::string nodename = "ukernel", domainname = "(none)";
};

// A file that is being executed: nobody may write it (ETXTBSY). Shared by those who run it.
class ExeFile final : public RefCounted {
 public:
  explicit ExeFile(Ref<Inode> inode) : inode_(std::move(inode)) { ++inode_->deny_write; }
  ~ExeFile() override { --inode_->deny_write; }

 private:
  Ref<Inode> inode_;
};

struct RLimit {
  uint64_t cur = UINT64_MAX, max = UINT64_MAX;
};
constexpr int kRLimits = 16;

struct Usage {  // getrusage(2)
  uint64_t utime_ns = 0, stime_ns = 0, min_faults = 0, maj_faults = 0, voluntary = 0,
           involuntary = 0, max_rss_pages = 0;
  uint64_t read_bytes = 0, write_bytes = 0, rchar = 0, wchar = 0, syscr = 0, syscw = 0;
  void add(const Usage& o);
};

class Session;

class ProcessGroup final : public RefCounted {
 public:
  int pgid = 0;
  Ref<Session> session;
  std::vector<ThreadGroup*> members;  // zombies too, until they are waited for
  ~ProcessGroup() override;
};

class Session final : public RefCounted {
 public:
  int sid = 0;
  Tty* tty = nullptr;  // controlling terminal; cleared by the tty when it goes
  // Set by the tty while it is the controlling one: the session's leader ended, so the terminal is
  // given up (its foreground group gets SIGHUP and SIGCONT). Does not suspend.
  std::function<void(Session&)> leader_gone;
  std::shared_ptr<Autogroup> autogroup;  // task/autogroup.h; null: the first session
};

enum class TaskState : uint8_t { kRunning, kStopped, kTraced, kZombie, kDead };

// A process.
class ThreadGroup final : public RefCounted {
 public:
  explicit ThreadGroup(Kernel& k);
  Kernel& kernel;
  int tgid = 0;
  Task* leader = nullptr;
  std::vector<Task*> threads;  // live and zombie-leader tasks of the group
  ThreadGroup* parent = nullptr;
  std::vector<ThreadGroup*> children;
  Ref<ProcessGroup> group;
  Ref<SigHandlers> handlers;
  SigQueue pending;
  std::array<RLimit, kRLimits> rlimits;
  Usage dead_threads;    // of exited threads
  Usage dead_children;   // of waited-for children
  int exit_signal = 0;   // sent to the parent at the end; -1 none
  int exit_code = 0;     // wait(2) status of the group once dying
  bool exiting = false;  // exit_group or a fatal signal
  bool zombie = false;
  // The thread that runs execve and waits for the others to end; it becomes the leader.
  Task* exec_task = nullptr;
  WaitQueue thread_ended;
  bool did_exec = false;  // setpgid after exec is EACCES
  // Signals without a handler do nothing, as for the init of a pid namespace; SIGKILL and SIGSTOP
  // only from outside it. Not so for our first process: it is the command that was asked for, and
  // ends like any other.
  bool unkillable = false;
  int live = 0;          // threads that have not begun their exit
  int unfinished = 0;    // threads that have not come to the end of it
  bool adopted = false;  // by pid 1, which controls no jobs of others
  bool child_subreaper = false, has_subreaper = false;
  int stop_signal = 0;  // job control: stopped by this signal, 0 not stopped
  int stopped_threads = 0;
  bool stop_complete = false;  // all threads have stopped: wait(2) may report it
  bool stop_reported = false, continue_pending = false;
  WaitQueue stop_queue;  // stopped threads wait here
  int oom_score_adj = 0;
  WaitQueue child_events;  // wait(2) of its threads
  WaitQueue exit_queue;    // pidfd poll
  // ITIMER_REAL/VIRTUAL/PROF and POSIX timers (task/timers.h).
  struct Timers;
  std::unique_ptr<Timers> timers;  // never null
  Ref<Cgroup> cgroup;              // cgroups(7), task/cgroup.h; null: the root
  int numbered = 0;                // its tasks in the PidTable: what cgroup pids counts
  int workers = 0;                 // fibers that run calls for its tasks (task/worker.h)
  uint64_t start_ns = 0;           // since boot
  // The whole of it: live threads and ended ones.
  Usage usage() const;
  // Time in user mode and in the kernel up to now, a running slice included.
  uint64_t cpu_ns(bool user_only = false) const;
  bool ignores(int signo) const;
  ~ThreadGroup() override;
};

// What the kernel still does for a task: ended when the task leaves its address space (exit, exec).
class TaskAsync {
 public:
  virtual ~TaskAsync() = default;
  // Cancels all of it, on the task's fiber; may suspend, for a bounded time.
  virtual void end(Park& park) = 0;
};

class Task final : public RefCounted, public Interruptor {
 public:
  // A worker (task/worker.h) is no thread of the group: it has no number, no user mode, no signals.
  Task(Kernel& kernel, Ref<ThreadGroup> group, int tid, bool worker = false);
  ~Task() override;

  Kernel& kernel;
  const Ref<ThreadGroup> group;
  int tid;  // a kernel number, as tgid, pgid and sid: what programs see is in pid_ns.h
  int tgid() const { return group->tgid; }
  std::string comm;  // up to 15 bytes
  std::string exe_name;
  void set_comm(std::string_view name);
  TaskState state = TaskState::kRunning;
  bool is_leader() const { return group->leader == this; }
  const bool worker;
  bool no_wait = false;  // of a worker: what would wait interruptibly ends with kRestartSys
  std::unique_ptr<TaskAsync> async;  // io_uring(7); null until it is used

  // The fiber's token; valid on the task's own fiber only.
  Park& park() const { return *park_; }
  AddressSpace& mm() const { return *mm_; }
  Ref<AddressSpace> mm_ref() const { return mm_; }
  FdTable& fds() const { return *fds_; }
  FsInfo& fs() const { return *fs_; }
  const Cred& cred() const { return *cred_; }
  UtsInfo& uts() const { return *uts_; }
  MountNamespace& mounts() const { return *mounts_; }
  IpcNamespace& ipc() const { return *ipc_; }
  void set_cred(Ref<Cred> c);
  // For vfs calls: borrowed views of this task's fields.
  FsContext fs_context() const;
  RLimit& rlimit(int resource) { return group->rlimits[resource]; }
  MmLimits mm_limits() const;

  Ref<AddressSpace> mm_;
  Ref<AddressSpace> left_mm;  // of the program before execve(2), until the new one runs
  Ref<FdTable> fds_;
  Ref<FsInfo> fs_;
  Ref<Cred> cred_;
  Ref<UtsInfo> uts_;
  Ref<MountNamespace> mounts_;
  Ref<IpcNamespace> ipc_;
  Ref<NsSet> more_ns;     // pid and time namespaces (namespaces.h); null: the initial ones
  Ref<SemUndo> sem_undo;  // of semop(2); null until the first SEM_UNDO
  Path exe;
  Ref<ExeFile> exe_file;

  // ---- signals
  SigQueue pending;
  SigSet blocked;
  std::optional<SigSet>
      saved_blocked;  // by sigsuspend, ppoll, ...: restored after delivery or at return
  struct AltStack {
    uint64_t sp = 0, size = 0;
    int flags = 2;  // SS_DISABLE
  } altstack;
  WaitQueue signal_queue;  // sigtimedwait, signalfd
  SigSet waited_for;       // by sigtimedwait: queued even when ignored
  // Signals that could be taken now (pending and not blocked), here and in the group.
  SigSet deliverable() const;
  // Of the last fault, for the signal frame.
  uint64_t fault_trapno = 0, fault_error = 0, fault_addr = 0;
  // True if a signal should end a wait of the given mode.
  bool should_interrupt(WaitMode mode) const override;
  bool fatal_signal_pending() const;

  // ---- user-mode state (task-fiber-owned)
  std::unique_ptr<GuestContext> context;
  SchedEntity sched;
  bool in_user = false;        // inside context->run()
  uint64_t user_enter_ns = 0;  // when it went there
  // The time in the kernel runs from here, less what its fiber waits beyond so much.
  uint64_t trapped_ns = 0, waited_ns = 0;
  bool resumed = false;       // it has really gone to user mode
  uint64_t user_entries = 0;  // how often
  // Makes the task look at its signals and at what it was asked to do, wherever it is.
  void notify();
  // It has to run exit: the group ends, or another thread's execve removes this one.
  bool must_exit() const { return group->exiting || exit_requested; }
  bool exit_requested = false;  // with exit_code
  bool exiting = false;         // its exit has begun
  bool frozen = false;          // stands still as its cgroup asks, or is stopped otherwise
  uint64_t robust_list = 0, robust_list_len = 0;
  uint64_t clear_child_tid = 0, set_child_tid = 0;
  uint64_t rseq_addr = 0;
  uint32_t rseq_len = 0, rseq_sig = 0;
  int rseq_cpu = -1;            // what the area says
  bool rseq_disturbed = false;  // left user mode other than by a system call
  // restart_syscall(2): what a kRestartBlock continues with.
  std::function<Result<int64_t>(Task&)> restart_block;
  // The call in progress, for /proc/PID/syscall, --strace and dumps; nr -1 in user mode.
  int64_t syscall_nr = -1;
  std::array<uint64_t, 6> syscall_args{};
  bool regs_replaced =
      false;  // the handler (execve, rt_sigreturn) set all registers itself: rax is not touched
  // vfork: who waits for this task to exec or exit.
  Task* vfork_parent = nullptr;
  WaitQueue vfork_done;

  // ---- the rest
  Usage usage;
  uint64_t start_ns = 0;
  int exit_code = 0;  // wait status
  int parent_death_signal = 0;
  uint32_t personality = 0;
  Ref<const MemPolicy> mem_policy;  // set_mempolicy(2); null: default
  int io_priority = 0;              // ioprio_set(2); class none: it follows nice
  bool keep_caps = false;           // PR_SET_KEEPCAPS
  bool reset_on_fork = false;       // SCHED_RESET_ON_FORK
  uint64_t timer_slack_ns = 50000, default_timer_slack_ns = 50000;
  uint64_t tls = 0;
  Fiber* fiber = nullptr;
  // ---- ptrace(2) and seccomp(2)
  Task* tracer = nullptr;
  std::unique_ptr<TraceState> trace;  // while there is a tracer
  std::vector<Task*> tracees;         // whom this task traces
  // Traced threads that ended and are not children: wait(2) tells of them once, by the numbers
  // that this task knew them by.
  struct TraceeEnd {
    int tid, pgid, status;
    uint32_t uid;
  };
  std::vector<TraceeEnd> ended_tracees;
  int seccomp_mode = 0;        // SECCOMP_MODE_*
  Ref<SeccompFilter> seccomp;  // the newest filter, which holds the older ones
  // User and kernel time up to now.
  uint64_t cpu_ns(bool user_only = false) const;
  Usage usage_now() const;

 private:
  friend void start_task(Task& task, std::function<void(Task&)> first);
  friend class Workers;
  Park* park_ = nullptr;
};

// ---- life (fork.cc, exec.cc, exit.cc, wait.cc)
struct CloneArgs {  // clone3(2)
  uint64_t flags = 0, pidfd = 0, child_tid = 0, parent_tid = 0, exit_signal = 0, stack = 0,
           stack_size = 0, tls = 0, cgroup = 0;
  std::vector<int> set_tid{};  // the wanted numbers, of the innermost namespace first
};
// Returns the child's tid as the parent knows it. The child is running when it returns; with
// CLONE_VFORK it has exec'ed or exited.
Result<int> do_clone(Task& parent, const CloneArgs& args);
struct ExecRequest {  // execveat(2)
  WalkFrom from;
  int from_fd = -1;  // the descriptor `from` came from
  bool fd_cloexec = false;
  std::string path;
  std::vector<std::string> argv, envp;
  int flags = 0;  // AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW
};
// Replaces the image. On success the task's registers are those of the new program (regs_replaced).
Result<> do_execve(Task& task, const ExecRequest& request);
// Starts to end the thread (group): marks it; the run loop does the rest when it sees it. `status`
// as wait(2).
void begin_exit_group(ThreadGroup& group, int status);
// exit(2): this thread only.
void begin_exit_thread(Task& task, int status);
// Gives a new task its fiber, which runs run_loop(). `first`, if set, runs before it, on the fiber.
void start_task(Task& task, std::function<void(Task&)> first = {});
// Process groups and sessions (setpgid(2), setsid(2)): moves `group`, making what is not there.
void join_pgrp(ThreadGroup& group, Ref<ProcessGroup> to);
Ref<ProcessGroup> new_pgrp(ThreadGroup& group, Ref<Session> session);
// ---- signals (signal_send.cc, signal_delivery.cc)
// Queues a signal to a thread or a process, as the kernel (no permission check); wakes who must see
// it.
Result<> send_signal(Task& to, const SigInfo& info);
Result<> send_signal_group(ThreadGroup& to, const SigInfo& info);
int send_signal_pgrp(ProcessGroup& to, const SigInfo& info);  // how many got it
// Changes the mask of a task; group signals that it will not take now go to another thread.
void set_blocked(Task& task, SigSet blocked);
void retarget_pending(Task& leaving);
// A signal that a program sends, which may: to the thread or its whole process. Who comes from
// outside the receiver's pid namespace has no number there; init takes no SIGKILL from inside.
Result<> signal_from(const Task& from, Task& to, SigInfo info, bool whole_group);
bool may_signal(const Task& from, const Task& to, int signo);
// A fault of the guest: forced (blocked or ignored becomes default).
void force_signal(Task& to, const SigInfo& info);
// The life of a task in user mode, up to and with its exit.
void run_loop(Task& task, Park& park);

}  // namespace uk
