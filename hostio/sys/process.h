// Host calls on processes, threads and signals of the host: the kernel's own and its stubs'. See
// fd.h for the rules.
#pragma once

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "hostio/sys/fd.h"

namespace uk::sys {

pid_t getpid();
pid_t gettid();
uid_t getuid();
uid_t geteuid();
gid_t getgid();
gid_t getegid();
// 0 in the child.
Result<pid_t> fork();
[[noreturn]] void exit_now(int status);  // _exit(2): no atexit handlers

Result<> kill(pid_t pid, int sig);
Result<> tgkill(pid_t tgid, pid_t tid, int sig);
Result<Fd> pidfd_open(pid_t pid, unsigned flags = 0);
Result<> pidfd_send_signal(int pidfd, int sig);
Result<Fd> pidfd_getfd(int pidfd, int target_fd);

// waitpid(2): the pid, 0 with WNOHANG when there is nothing. `status` as the host gives it.
Result<pid_t> waitpid(pid_t pid, int* status, int options);
Result<> waitid(idtype_t type, id_t id, siginfo_t* info, int options);

// ptrace(2) as the system call: PEEK requests store through `data`.
Result<long> ptrace(long request, pid_t pid, uintptr_t addr, uintptr_t data);
Result<size_t> process_vm_readv(pid_t pid, std::span<const struct iovec> local,
                                std::span<const struct iovec> remote);
Result<size_t> process_vm_writev(pid_t pid, std::span<const struct iovec> local,
                                 std::span<const struct iovec> remote);

Result<int> prctl(int option, unsigned long a = 0, unsigned long b = 0, unsigned long c = 0,
                  unsigned long d = 0);
// seccomp(2): the return value (a listener descriptor with SECCOMP_FILTER_FLAG_NEW_LISTENER).
Result<int> seccomp(unsigned operation, unsigned flags, void* arg);
Result<struct rlimit> getrlimit(int resource);
Result<> setrlimit(int resource, const struct rlimit& limit);
Result<struct rusage> getrusage(int who);
// How many host CPUs this process may use; at least 1.
int usable_cpus();
Result<> sched_setaffinity(pid_t tid, const cpu_set_t& set);
Result<cpu_set_t> sched_getaffinity(pid_t tid);
// For policies without a priority (SCHED_OTHER, SCHED_BATCH, SCHED_IDLE).
Result<> sched_setscheduler(pid_t tid, int policy);

// The calling thread's signal mask: how = SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK; returns the old one.
Result<sigset_t> sigprocmask(int how, const sigset_t& set);
Result<struct sigaction> sigaction(int sig, const struct sigaction& action);
Result<Fd> signalfd(int fd, const sigset_t& set, int flags = 0);
// Takes a pending signal without waiting: its number, or 0.
Result<int> sigtake(const sigset_t& set, siginfo_t* info);

}  // namespace uk::sys
