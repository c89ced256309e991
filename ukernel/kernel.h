// The instance: owns everything of one guest kernel. No globals, so instances nest. Built by boot/,
// which hands in the pieces that touch the host (ring, clock, platform, console).
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "ukernel/load_average.h"
#include "ukernel/mm/phys.h"
#include "ukernel/platform/platform.h"
#include "ukernel/sched/reactor.h"
#include "ukernel/sched/vcpu.h"
#include "ukernel/task/pid_table.h"
#include "ukernel/task/task.h"
#include "ukernel/vfs/vfs.h"

namespace uk {

class Accounting;
class FutexTable;
class IpcNamespace;
class NsFs;
class KernelLog;
class PiFutexes;
class Random;
class UnixSockets;
class Vdso;
class Workers;

// How the kernel answers system calls: implemented by syscalls/, handed in by boot/ (task code may
// not include upwards).
class SyscallDispatcher {
 public:
  virtual ~SyscallDispatcher() = default;
  // Runs on the task's fiber. The value is what goes to rax (or an Errno, maybe a restart one).
  virtual Result<int64_t> dispatch(Task& task, uint64_t nr, const uint64_t (&args)[6]) = 0;
};

struct KernelOptions {
  uint64_t mem_bytes = 0;
  int cpus = 1;
  std::string hostname = "ukernel";
  bool patch_calls = true;  // hot call sites, where the platform has a gate
  bool tell_ids = true;     // stubs may answer getpid(2) and its like; nobody sees those calls
  // Makes random numbers repeatable (tests, replay); unset: they come from the host.
  std::optional<uint64_t> seed;
};

class Kernel {
 public:
  Kernel(Reactor& reactor, Clock& clock, Log& log, std::unique_ptr<PhysMemory> mem,
         std::unique_ptr<Platform> platform, const KernelOptions& options);
  ~Kernel();

  Reactor& reactor;
  Clock& clock;
  Log& log;
  const KernelOptions options;
  std::unique_ptr<PhysMemory> mem;
  std::unique_ptr<Platform> platform;
  VcpuSet vcpus;
  Vfs vfs;
  PidTable pids;
  std::unique_ptr<FutexTable> futexes;
  std::unique_ptr<Workers> workers;  // never null
  std::unique_ptr<PiFutexes> pi_futexes;
  const std::shared_ptr<KernelLog> guest_log;  // `log` as guests read it
  std::shared_ptr<UnixSockets> unix_sockets;   // made by whoever registers the sockets
  // AF_NETLINK's; made with the first of its sockets.
  std::shared_ptr<class NetlinkSockets> netlink_sockets;
  // keyrings(7); made with the first key.
  std::shared_ptr<class KeyTable> keys;
  std::unique_ptr<class Cgroups> cgroups;     // never null
  std::shared_ptr<class BlockDevices> disks;  // dev/block/registry.h; made by boot
  uint64_t autogroups = 0;                    // sessions so far (/proc/PID/autogroup)
  std::unique_ptr<Vdso> vdso;
  Ref<SuperBlock> pipefs;  // unnamed pipes live here
  SyscallDispatcher* syscalls = nullptr;

  // Settings of /proc/sys that can be written and have no other home.
  struct Settings {
    uint64_t pipe_max_size = 1 << 20;
    std::string core_pattern = "core";  // core(5); a file, never a pipe
    bool core_uses_pid = false;
    uint64_t aio_max_nr = 65536, aio_nr = 0;  // events of all aio contexts, allowed and now
    int io_uring_disabled = 0;                // 1: for the unprivileged, 2: for all
    bool autogroup = false;                   // sessions are scheduling groups
    std::optional<int> saved_console_level;   // while syslog(2) has turned the console off
  } settings;

  Ref<UtsInfo> uts;
  Ref<MountNamespace> mounts;
  Ref<IpcNamespace> ipc;
  std::shared_ptr<Accounting> accounting;  // acct(2) and who watches processes, task/acct.h
  Ref<NsFs> nsfs;                          // files of namespaces, and their numbers
  uint64_t boot_ns = 0;                    // monotonic time at boot
  uint64_t forks = 0;                      // /proc/stat
  uint64_t context_switches = 0;
  // Threads that leave user mode wake this while somebody watches (membarrier(2)).
  WaitQueue left_user;
  int left_user_watchers = 0;
  uint64_t switch_ns = UINT64_MAX;  // the shortest stay of a thread in user mode
  LoadAverage load;
  // Runnable threads on average over 1, 5 and 15 minutes (proc_loadavg(5)).
  std::array<double, 3> load_average();
  // Called before a guest thread goes to user mode, with the monotonic time.
  void before_user_mode(uint64_t now);
  // The clocks as guests see them, by call or by the vDSO: nanoseconds off `clock` at most.
  uint64_t guest_monotonic_ns();
  uint64_t guest_realtime_ns();
  // Random bytes for getrandom, AT_RANDOM, ASLR.
  void random(std::span<std::byte> out);
  std::array<uint64_t, 2> order_cookies = {};  // hide the addresses that kcmp(2) compares
  uint64_t uptime_ns() { return clock.monotonic_ns() - boot_ns; }
  Task* init() const;  // pid 1; its end ends the instance

  // Starts pid 1 with `argv` from `path`; run by boot on a fiber. The exit status arrives in
  // on_exit.
  struct InitRequest {
    std::string path;
    std::vector<std::string> argv, envp;
    std::string cwd = "/";
    Ref<Cred> cred;
    Ref<File> stdio[3];
    Ref<File> console;  // controlling terminal of the first session when it is a tty
  };
  Result<Ref<Task>> start_init(Park& park, InitRequest request);
  std::function<void(int wait_status)> on_exit;  // pid 1 ended

  // Memory is gone: picks a guest task by badness, in `within` if that is not null, and kills it.
  // True if memory is to be expected.
  bool oom_kill(std::string_view why, class Cgroup* within = nullptr);
  // Tasks, fibers and the last lines of the log as text, for bugs and SIGQUIT-like requests.
  std::string dump() const;

 private:
  Ref<Task> make_init(const InitRequest& request);
  Result<> exec_init(Task& task, const InitRequest& request);
  std::unique_ptr<Random> random_;
  Timer trim_;  // gives surplus memory back to the host
};

}  // namespace uk
