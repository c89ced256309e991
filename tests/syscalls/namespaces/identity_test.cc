// Who others are, as a user namespace has it: credentials of sockets, senders of signals, owners of
// System V objects.
#include <sys/shm.h>
#include <sys/socket.h>

#include "tests/syscalls/namespaces/namespaces.h"

namespace uk::test {
namespace {

// Becomes user 5 and group 6 of a new user namespace.
bool BecomeFive() {
  const std::string uid = std::to_string(geteuid());
  const std::string gid = std::to_string(getegid());
  return unshare(CLONE_NEWUSER) == 0 && Put("/proc/self/setgroups", "deny") &&
         Put("/proc/self/uid_map", "5 " + uid + " 1") &&
         Put("/proc/self/gid_map", "6 " + gid + " 1");
}
#define NEEDS_USER_NAMESPACES()                           \
  if (RunChild([] { return BecomeFive() ? 0 : 1; }) != 0) \
  GTEST_SKIP() << "no user namespaces "                   \
                  "here"

ssize_t SendAs(int fd, struct ucred who) {
  char control[CMSG_SPACE(sizeof who)] = {};
  char text = 'x';
  struct iovec iov = {&text, 1};
  struct msghdr h = {};
  h.msg_iov = &iov;
  h.msg_iovlen = 1;
  h.msg_control = control;
  h.msg_controllen = sizeof control;
  struct cmsghdr* c = CMSG_FIRSTHDR(&h);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_CREDENTIALS;
  c->cmsg_len = CMSG_LEN(sizeof who);
  memcpy(CMSG_DATA(c), &who, sizeof who);
  return sendmsg(fd, &h, 0);
}

TEST(user_namespaces, CredentialsOfSocketsAreTranslated) {
  COVERS(getsockopt, sendmsg, recvmsg);
  NEEDS_USER_NAMESPACES();
  IN_CHILD([] {
    const uid_t uid = geteuid();
    const gid_t gid = getegid();
    int ends[2];
    CHILD_CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    const int on = 1;
    for (int fd : ends) CHILD_CHECK(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    const pid_t child = Spawn([&] {
      CHILD_CHECK(BecomeFive());
      struct ucred peer;
      socklen_t n = sizeof peer;
      CHILD_CHECK(getsockopt(ends[1], SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0);
      CHILD_CHECK(peer.uid == 5 && peer.gid == 6 && peer.pid == getppid());
      CHILD_CHECK(SendAs(ends[1], {getpid(), 5, 6}) == 1);
      CHILD_CHECK(SendAs(ends[1], {getpid(), 7, 6}) == -1 && errno == EINVAL);
      CHILD_CHECK(SendAs(ends[1], {getppid(), 5, 6}) == -1 && errno == EPERM);
      const struct ucred from = ReceiveCreds(ends[1]);
      CHILD_CHECK(from.uid == 5 && from.gid == 6 && from.pid == getppid());
    });
    const struct ucred from = ReceiveCreds(ends[0]);
    CHILD_CHECK(from.pid == child && from.uid == uid && from.gid == gid);
    CHILD_CHECK(send(ends[0], "x", 1, 0) == 1 && WaitFor(child) == 0);
    if (!IsRoot()) return;
    CHILD_CHECK(SendAs(ends[0], {1 << 21, 0, 0}) == -1 && errno == ESRCH);  // nobody
  });
}

TEST(user_namespaces, SendersOfSignalsAreTranslated) {
  COVERS(kill, rt_sigqueueinfo, waitid);
  NEEDS_USER_NAMESPACES();
  IN_CHILD([] {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    CHILD_CHECK(sigprocmask(SIG_BLOCK, &set, nullptr) == 0);
    const uid_t uid = getuid();
    const pid_t child = Spawn([&] {
      CHILD_CHECK(BecomeFive());
      CHILD_CHECK(kill(getppid(), SIGUSR1) == 0);
      siginfo_t info = {};
      CHILD_CHECK(sigwaitinfo(&set, &info) == SIGUSR1);
      CHILD_CHECK(info.si_uid == 5 && info.si_pid == getppid());
      CHILD_CHECK(raise(SIGUSR1) == 0 && sigwaitinfo(&set, &info) == SIGUSR1 && info.si_uid == 5);
      const pid_t grandchild = Spawn([] {});
      CHILD_CHECK(sigwaitinfo(&set, &info) == SIGCHLD && info.si_uid == 5);
      CHILD_CHECK(waitid(P_PID, static_cast<id_t>(grandchild), &info, WEXITED) == 0);
      CHILD_CHECK(info.si_uid == 5);
    });
    siginfo_t info = {};
    CHILD_CHECK(sigwaitinfo(&set, &info) == SIGUSR1 && info.si_pid == child && info.si_uid == uid);
    CHILD_CHECK(kill(child, SIGUSR1) == 0);
    CHILD_CHECK(sigwaitinfo(&set, &info) == SIGCHLD && info.si_uid == uid);
    CHILD_CHECK(WaitFor(child) == 0);
  });
}

TEST(user_namespaces, OwnersOfSystemVObjectsAreTranslated) {
  COVERS(shmctl);
  NEEDS_USER_NAMESPACES();
  IN_CHILD([] {
    const int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
    CHILD_CHECK(id >= 0);
    const int status = RunChild([&] {
      CHILD_CHECK(BecomeFive());
      struct shmid_ds d = {};
      CHILD_CHECK(shmctl(id, IPC_STAT, &d) == 0);
      CHILD_CHECK(d.shm_perm.uid == 5 && d.shm_perm.cuid == 5 && d.shm_perm.gid == 6);
      d.shm_perm.uid = 9;
      CHILD_CHECK(shmctl(id, IPC_SET, &d) == -1 && errno == EINVAL);
      d.shm_perm.uid = 5;
      d.shm_perm.mode = 0640;
      CHILD_CHECK(shmctl(id, IPC_SET, &d) == 0);
    });
    struct shmid_ds d = {};
    CHILD_CHECK(shmctl(id, IPC_STAT, &d) == 0 && d.shm_perm.uid == geteuid());
    CHILD_CHECK(shmctl(id, IPC_RMID, nullptr) == 0);
    CHILD_CHECK(status == 0);
  });
}

}  // namespace
}  // namespace uk::test
