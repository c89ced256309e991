// What the tests of namespaces share: becoming somebody who may make them, and children inside.
#pragma once

#include <linux/sched.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <functional>

#include "tests/syscalls/testing.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

namespace uk::test {

inline bool Put(const std::string& path, const std::string& text) {
  Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return fd >= 0 && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

// For a child: from now on it may make namespaces; an ordinary user as root of a user namespace.
// False: the system forbids that.
inline bool BecomeMighty() {
  if (IsRoot()) return true;
  const std::string uid = std::to_string(geteuid());
  const std::string gid = std::to_string(getegid());
  if (unshare(CLONE_NEWUSER) != 0) return false;
  return Put("/proc/self/setgroups", "deny") && Put("/proc/self/uid_map", "0 " + uid + " 1") &&
         Put("/proc/self/gid_map", "0 " + gid + " 1");
}
#define NEEDS_NAMESPACES()                                                          \
  if (::uk::test::RunChild([] { return ::uk::test::BecomeMighty() ? 0 : 1; }) != 0) \
  GTEST_SKIP() << "no user namespaces here"

inline pid_t Clone3(uint64_t flags, const std::vector<pid_t>& tids = {}, int* pidfd = nullptr) {
  struct clone_args a = {};
  a.flags = flags | (pidfd != nullptr ? CLONE_PIDFD : 0);
  a.exit_signal = SIGCHLD;
  a.pidfd = reinterpret_cast<uintptr_t>(pidfd);
  a.set_tid = tids.empty() ? 0 : reinterpret_cast<uintptr_t>(tids.data());
  a.set_tid_size = tids.size();
  return static_cast<pid_t>(syscall(SYS_clone3, &a, sizeof a));
}

// Makes a child with these flags that runs `body`; its pid.
template <typename F>
pid_t SpawnIn(uint64_t flags, F body, const std::vector<pid_t>& tids = {}, int* pidfd = nullptr) {
  fflush(nullptr);
  const pid_t pid = Clone3(flags, tids, pidfd);
  if (pid != 0) return pid;
  body();
  _exit(0);
}

// Runs `body` as process 1 of a new pid namespace; the wait status.
template <typename F>
int RunAsInit(F body) {
  return RunChild([&] {
    CHILD_CHECK(BecomeMighty());
    const pid_t init = SpawnIn(CLONE_NEWPID, body);
    CHILD_CHECK(init > 0);
    const int status = WaitFor(init);
    if (WIFSIGNALED(status)) raise(WTERMSIG(status));
    _exit(WEXITSTATUS(status));
  });
}
#define AS_INIT(...) \
  EXPECT_PRED_FORMAT1(::uk::test::ChildPassed, ::uk::test::RunAsInit(__VA_ARGS__))

inline ino_t NsInode(const std::string& kind, const std::string& who = "self") {
  struct stat st = {};
  return stat(("/proc/" + who + "/ns/" + kind).c_str(), &st) == 0 ? st.st_ino : 0;
}
inline Fd OpenNs(const std::string& kind, const std::string& who = "self") {
  return Fd(open(("/proc/" + who + "/ns/" + kind).c_str(), O_RDONLY | O_CLOEXEC));
}

// For a child: takes a message of one byte; who sent it (SO_PASSCRED).
inline struct ucred ReceiveCreds(int fd) {
  char text[8];
  char control[CMSG_SPACE(sizeof(struct ucred))];
  struct iovec iov = {text, sizeof text};
  struct msghdr h = {};
  h.msg_iov = &iov;
  h.msg_iovlen = 1;
  h.msg_control = control;
  h.msg_controllen = sizeof control;
  CHILD_CHECK(recvmsg(fd, &h, 0) == 1);
  struct cmsghdr* c = CMSG_FIRSTHDR(&h);
  CHILD_CHECK(c != nullptr && c->cmsg_type == SCM_CREDENTIALS);
  struct ucred who;
  memcpy(&who, CMSG_DATA(c), sizeof who);
  return who;
}

}  // namespace uk::test
