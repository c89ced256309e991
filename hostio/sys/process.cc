#include "hostio/sys/process.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hostio/sys/ret.h"

namespace uk::sys {

using internal::ret;
using internal::ret_code;
using internal::ret_fd;
using internal::ret_void;

pid_t getpid() { return ::getpid(); }
pid_t gettid() { return static_cast<pid_t>(::syscall(SYS_gettid)); }
uid_t getuid() { return ::getuid(); }
uid_t geteuid() { return ::geteuid(); }
gid_t getgid() { return ::getgid(); }
gid_t getegid() { return ::getegid(); }
Result<pid_t> fork() { return ret<pid_t>(::fork()); }
void exit_now(int status) { ::_exit(status); }

Result<> kill(pid_t pid, int sig) { return ret_void(::kill(pid, sig)); }
Result<> tgkill(pid_t tgid, pid_t tid, int sig) {
  return ret_void(::syscall(SYS_tgkill, tgid, tid, sig));
}
Result<Fd> pidfd_open(pid_t pid, unsigned flags) {
  return ret_fd(::syscall(SYS_pidfd_open, pid, flags));
}
Result<> pidfd_send_signal(int pidfd, int sig) {
  return ret_void(::syscall(SYS_pidfd_send_signal, pidfd, sig, nullptr, 0));
}
Result<Fd> pidfd_getfd(int pidfd, int target_fd) {
  return ret_fd(::syscall(SYS_pidfd_getfd, pidfd, target_fd, 0));
}

Result<pid_t> waitpid(pid_t pid, int* status, int options) {
  return ret<pid_t>(::waitpid(pid, status, options));
}
Result<> waitid(idtype_t type, id_t id, siginfo_t* info, int options) {
  return ret_void(::waitid(type, id, info, options));
}

Result<long> ptrace(long request, pid_t pid, uintptr_t addr, uintptr_t data) {
  return ret<long>(::syscall(SYS_ptrace, request, pid, addr, data));
}

Result<size_t> process_vm_readv(pid_t pid, std::span<const struct iovec> local,
                                std::span<const struct iovec> remote) {
  return ret<size_t>(
      ::process_vm_readv(pid, local.data(), local.size(), remote.data(), remote.size(), 0));
}
Result<size_t> process_vm_writev(pid_t pid, std::span<const struct iovec> local,
                                 std::span<const struct iovec> remote) {
  return ret<size_t>(
      ::process_vm_writev(pid, local.data(), local.size(), remote.data(), remote.size(), 0));
}

Result<int> prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
  return ret<int>(::prctl(option, a, b, c, d));
}
Result<int> seccomp(unsigned operation, unsigned flags, void* arg) {
  return ret<int>(::syscall(SYS_seccomp, operation, flags, arg));
}
Result<struct rlimit> getrlimit(int resource) {
  struct rlimit r;
  TRY(ret_void(::getrlimit(static_cast<__rlimit_resource>(resource), &r)));
  return r;
}
Result<> setrlimit(int resource, const struct rlimit& limit) {
  return ret_void(::setrlimit(static_cast<__rlimit_resource>(resource), &limit));
}
Result<struct rusage> getrusage(int who) {
  struct rusage r;
  TRY(ret_void(::getrusage(static_cast<__rusage_who>(who), &r)));
  return r;
}

int usable_cpus() {
  Result<cpu_set_t> set = sched_getaffinity(0);
  int n = set ? CPU_COUNT(&*set) : static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  return n > 0 ? n : 1;
}
Result<> sched_setaffinity(pid_t tid, const cpu_set_t& set) {
  return ret_void(::sched_setaffinity(tid, sizeof(set), &set));
}
Result<> sched_setscheduler(pid_t tid, int policy) {
  const sched_param none = {};
  return ret_void(::sched_setscheduler(tid, policy, &none));
}

Result<cpu_set_t> sched_getaffinity(pid_t tid) {
  cpu_set_t set;
  CPU_ZERO(&set);
  TRY(ret_void(::sched_getaffinity(tid, sizeof(set), &set)));
  return set;
}

Result<sigset_t> sigprocmask(int how, const sigset_t& set) {
  sigset_t old;
  TRY(ret_code(::pthread_sigmask(how, &set, &old)));
  return old;
}
Result<struct sigaction> sigaction(int sig, const struct sigaction& action) {
  struct sigaction old;
  TRY(ret_void(::sigaction(sig, &action, &old)));
  return old;
}
Result<Fd> signalfd(int fd, const sigset_t& set, int flags) {
  return ret_fd(::signalfd(fd, &set, flags | SFD_CLOEXEC));
}
Result<int> sigtake(const sigset_t& set, siginfo_t* info) {
  struct timespec zero = {0, 0};
  Result<int> r = ret<int>(::sigtimedwait(&set, info, &zero));
  if (!r && r.error() == Errno::kAGAIN) return 0;
  return r;
}

}  // namespace uk::sys
