// AF_NETLINK, NETLINK_CONNECTOR: events of processes.
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <functional>
#include <optional>
#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr uint32_t kNonzeroExit = 0x20000000;  // PROC_EVENT_NONZERO_EXIT

// cn_msg without its flexible array.
struct Header {
  cb_id id;
  uint32_t seq, ack;
  uint16_t len, flags;
};
static_assert(sizeof(Header) == sizeof(cn_msg));

// Other processes of the machine make events too: what is not looked for is passed over.
class Events {
 public:
  explicit Events(int groups = CN_IDX_PROC)
      : fd_(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_CONNECTOR)) {
    const int size = 8 << 20;
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    sockaddr_nl n = {};
    n.nl_family = AF_NETLINK;
    n.nl_groups = groups;
    bound_ = bind(fd_, reinterpret_cast<sockaddr*>(&n), sizeof n) == 0;
  }
  bool bound() const { return bound_; }
  int fd() const { return fd_; }

  template <class T>
  ssize_t Ask(const T& input, uint32_t seq = 7, uint32_t ack = 0) {
    struct {
      nlmsghdr h;
      Header m;
      char data[sizeof input];
    } __attribute__((packed)) message = {};
    message.h = {sizeof message, NLMSG_DONE, 0, 0, 0};
    message.m.id = {CN_IDX_PROC, CN_VAL_PROC};
    message.m.seq = seq;
    message.m.ack = ack;
    message.m.len = sizeof input;
    memcpy(message.data, &input, sizeof input);
    return send(fd_, &message, sizeof message, 0);
  }
  ssize_t AskFor(uint32_t operation, uint32_t events) {
    return Ask(std::array<uint32_t, 2>{operation, events});
  }

  // The next event that is wanted; none within so many milliseconds.
  std::optional<proc_event> Next(const std::function<bool(const proc_event&)>& wanted,
                                 int timeout_ms = 20000) {
    for (;;) {
      pollfd p = {fd_, POLLIN, 0};
      if (poll(&p, 1, timeout_ms) != 1) return std::nullopt;
      struct {
        nlmsghdr h;
        Header m;
        proc_event e;
      } __attribute__((packed)) got = {};
      sockaddr_nl from = {};
      socklen_t len = sizeof from;
      const ssize_t n =
          recvfrom(fd_, &got, sizeof got, 0, reinterpret_cast<sockaddr*>(&from), &len);
      if (n < 0 && errno == ENOBUFS) continue;
      if (n < 0) return std::nullopt;
      EXPECT_EQ(n, static_cast<ssize_t>(sizeof got));
      EXPECT_EQ(got.h.nlmsg_len, sizeof got);
      EXPECT_EQ(got.h.nlmsg_type, NLMSG_DONE);
      EXPECT_EQ(got.h.nlmsg_seq, got.m.seq);
      EXPECT_EQ(got.m.id.idx, static_cast<uint32_t>(CN_IDX_PROC));
      EXPECT_EQ(got.m.id.val, static_cast<uint32_t>(CN_VAL_PROC));
      EXPECT_EQ(got.m.len, sizeof got.e);
      EXPECT_EQ(from.nl_pid, 0u);
      EXPECT_EQ(from.nl_groups, static_cast<uint32_t>(CN_IDX_PROC));
      last_ack = got.m.ack;
      proc_event e;
      memcpy(&e, &got.e, sizeof e);
      if (wanted(e)) return e;
    }
  }
  std::optional<proc_event> Of(uint32_t what, pid_t pid, int timeout_ms = 20000) {
    return Next(
        [&](const proc_event& e) {
          // The number of whom it is about is the first field, except of a fork.
          const pid_t whom = what == proc_event::PROC_EVENT_FORK ? e.event_data.fork.child_pid
                                                                 : e.event_data.exec.process_pid;
          return e.what == what && whom == pid;
        },
        timeout_ms);
  }
  bool Listen(uint32_t events = ~0u) {
    if (AskFor(PROC_CN_MCAST_LISTEN, events) < 0) return false;
    return events != ~0u || Next([](auto& e) { return e.what == proc_event::PROC_EVENT_NONE; });
  }
  uint32_t last_ack = 0;

 private:
  Fd fd_;
  bool bound_ = false;
};

TEST(netlink_connector, Groups) {
  COVERS(socket, bind, setsockopt);
  EXPECT_TRUE(Events().bound());  // anybody may hear of processes
  EXPECT_TRUE(Events(0).bound());
  Events second(2);
  EXPECT_EQ(second.bound(), IsRoot()) << strerrorname_np(errno);
  Events later(0);
  int group = 1;
  EXPECT_OK(setsockopt(later.fd(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group));
  group = 2;
  if (IsRoot()) {
    EXPECT_OK(setsockopt(later.fd(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group));
  } else {
    EXPECT_ERRNO(EPERM,
                 setsockopt(later.fd(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group));
  }
}

TEST(netlink_connector, AcksCarryTheNumber) {
  COVERS(sendto, recvfrom);
  Events events;
  ASSERT_OK(events.Ask(uint32_t{PROC_CN_MCAST_LISTEN}, 9, 41));
  auto none = [](auto& e) { return e.what == proc_event::PROC_EVENT_NONE; };
  auto e = events.Next(none);
  ASSERT_TRUE(e);
  EXPECT_EQ(e->event_data.ack.err, 0u);
  EXPECT_EQ(events.last_ack, 42u);
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const uint64_t ns = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
  EXPECT_LE(e->timestamp_ns, ns);
  EXPECT_GT(e->timestamp_ns + 60'000'000'000, ns);
  ASSERT_OK(events.Ask(uint32_t{99}));
  EXPECT_TRUE(events.Next([](auto& answer) {
    return answer.what == proc_event::PROC_EVENT_NONE && answer.event_data.ack.err == EINVAL;
  }));
}

TEST(netlink_connector, LifeOfAProcess) {
  COVERS(fork, execve, exit_group, setsid, prctl);
  Events events;
  ASSERT_TRUE(events.Listen());
  const pid_t pid = Spawn([] {
    CHILD_CHECK(setsid() != -1);
    CHILD_CHECK(prctl(PR_SET_NAME, "ukt-renamed") == 0);
    execl("/bin/sh", "sh", "-c", "exit 3", nullptr);
    CHILD_CHECK(false);
  });
  ASSERT_EQ(WaitFor(pid), Exited(3));
  auto fork = events.Of(proc_event::PROC_EVENT_FORK, pid);
  ASSERT_TRUE(fork);
  EXPECT_EQ(fork->event_data.fork.child_tgid, pid);
  EXPECT_EQ(fork->event_data.fork.parent_pid, getpid());
  EXPECT_EQ(fork->event_data.fork.parent_tgid, getpid());
  ASSERT_TRUE(events.Of(proc_event::PROC_EVENT_SID, pid));
  auto comm = events.Of(proc_event::PROC_EVENT_COMM, pid);
  ASSERT_TRUE(comm);
  EXPECT_STREQ(comm->event_data.comm.comm, "ukt-renamed");
  auto exec = events.Of(proc_event::PROC_EVENT_EXEC, pid);
  ASSERT_TRUE(exec);
  EXPECT_EQ(exec->event_data.exec.process_tgid, pid);
  auto end = events.Of(proc_event::PROC_EVENT_EXIT, pid);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->event_data.exit.exit_code, 3u << 8);
  EXPECT_EQ(end->event_data.exit.exit_signal, static_cast<uint32_t>(SIGCHLD));
  EXPECT_EQ(end->event_data.exit.parent_pid, getpid());
  EXPECT_EQ(end->event_data.exit.parent_tgid, getpid());
}

TEST(netlink_connector, Threads) {
  COVERS(clone, exit);
  Events events;
  ASSERT_TRUE(events.Listen());
  pid_t tid = 0;
  std::thread([&] { tid = gettid(); }).join();
  auto fork = events.Of(proc_event::PROC_EVENT_FORK, tid);
  ASSERT_TRUE(fork);
  EXPECT_EQ(fork->event_data.fork.child_tgid, getpid());
  EXPECT_EQ(fork->event_data.fork.parent_tgid, getppid());
  auto end = events.Of(proc_event::PROC_EVENT_EXIT, tid);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->event_data.exit.process_tgid, getpid());
  EXPECT_EQ(end->event_data.exit.exit_signal, ~0u);
}

TEST(netlink_connector, Ids) {
  COVERS(setresuid, setresgid);
  if (!IsRoot()) GTEST_SKIP() << "needs other ids";
  Events events;
  ASSERT_TRUE(events.Listen());
  const pid_t pid = Spawn([] {
    CHILD_CHECK(setresgid(1234, 1235, 1236) == 0);
    CHILD_CHECK(setresuid(2234, 2235, 2236) == 0);
  });
  ASSERT_EQ(WaitFor(pid), 0);
  auto gid = events.Of(proc_event::PROC_EVENT_GID, pid);
  ASSERT_TRUE(gid);
  EXPECT_EQ(gid->event_data.id.r.rgid, 1234u);
  EXPECT_EQ(gid->event_data.id.e.egid, 1235u);
  auto uid = events.Of(proc_event::PROC_EVENT_UID, pid);
  ASSERT_TRUE(uid);
  EXPECT_EQ(uid->event_data.id.r.ruid, 2234u);
  EXPECT_EQ(uid->event_data.id.e.euid, 2235u);
}

TEST(netlink_connector, TracingAndDumps) {
  COVERS(ptrace, kill);
  Events events;
  ASSERT_TRUE(events.Listen());
  Gate go;
  const pid_t pid = Spawn([&] { go.Wait(); });
  ASSERT_OK(ptrace(PTRACE_SEIZE, pid, 0, 0));
  auto attached = events.Of(proc_event::PROC_EVENT_PTRACE, pid);
  ASSERT_TRUE(attached);
  EXPECT_EQ(attached->event_data.ptrace.tracer_pid, getpid());
  EXPECT_EQ(attached->event_data.ptrace.tracer_tgid, getpid());
  ASSERT_OK(ptrace(PTRACE_INTERRUPT, pid, 0, 0));
  int status;
  ASSERT_EQ(waitpid(pid, &status, __WALL), pid);
  ASSERT_OK(ptrace(PTRACE_DETACH, pid, 0, 0));
  auto detached = events.Of(proc_event::PROC_EVENT_PTRACE, pid);
  ASSERT_TRUE(detached);
  EXPECT_EQ(detached->event_data.ptrace.tracer_pid, 0);
  ASSERT_OK(kill(pid, SIGQUIT));
  ASSERT_EQ(WaitFor(pid), Killed(SIGQUIT));
  auto dump = events.Of(proc_event::PROC_EVENT_COREDUMP, pid);
  ASSERT_TRUE(dump);
  EXPECT_EQ(dump->event_data.coredump.parent_pid, getpid());
  auto end = events.Of(proc_event::PROC_EVENT_EXIT, pid);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->event_data.exit.exit_code & 0x7f, static_cast<uint32_t>(SIGQUIT));
}

// Who wants only some events hears of those; of ends, maybe only of bad ones.
TEST(netlink_connector, Filters) {
  Events ends, bad_ends, deaf, all;
  ASSERT_TRUE(all.Listen());
  ASSERT_TRUE(ends.Listen(proc_event::PROC_EVENT_EXIT));
  ASSERT_TRUE(bad_ends.Listen(kNonzeroExit));
  ASSERT_TRUE(deaf.Listen());
  ASSERT_OK(deaf.Ask(uint32_t{PROC_CN_MCAST_IGNORE}));
  const pid_t good = Spawn([] {});
  ASSERT_EQ(WaitFor(good), 0);
  const pid_t bad = Spawn([] { return 5; });
  ASSERT_EQ(WaitFor(bad), Exited(5));
  auto ours = [&](const proc_event& e) {
    const pid_t whom = e.event_data.exec.process_pid;
    return e.what == proc_event::PROC_EVENT_FORK
               ? e.event_data.fork.child_pid == good || e.event_data.fork.child_pid == bad
               : whom == good || whom == bad;
  };
  auto first = ends.Next(ours);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->what, proc_event::PROC_EVENT_EXIT);
  EXPECT_EQ(first->event_data.exit.process_pid, good);
  first = bad_ends.Next(ours);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->what, proc_event::PROC_EVENT_EXIT);
  EXPECT_EQ(first->event_data.exit.process_pid, bad);
  ASSERT_TRUE(all.Of(proc_event::PROC_EVENT_EXIT, bad));  // by now it has been told to all
  EXPECT_FALSE(deaf.Next(ours, 0));
}

TEST(netlink_connector, WrittenInPieces) {
  COVERS(writev, write);
  Events events;
  uint32_t operation = PROC_CN_MCAST_LISTEN;
  Header m = {{CN_IDX_PROC, CN_VAL_PROC}, 0, 70, sizeof operation, 0};
  nlmsghdr h = {sizeof h + sizeof m + sizeof operation, NLMSG_DONE, 0, 0, 0};
  const iovec parts[] = {{&h, sizeof h}, {&m, sizeof m}, {&operation, sizeof operation}};
  ASSERT_EQ(writev(events.fd(), parts, 3), static_cast<ssize_t>(h.nlmsg_len));
  ASSERT_TRUE(events.Next([](auto& e) { return e.what == proc_event::PROC_EVENT_NONE; }));
  EXPECT_EQ(events.last_ack, 71u);
  EXPECT_EQ(write(events.fd(), &h, sizeof h), static_cast<ssize_t>(sizeof h));
}

TEST(netlink_connector, MalformedIsPassedOver) {
  Events events;
  ASSERT_TRUE(events.Listen());
  const std::array<char, 3> odd = {};
  EXPECT_EQ(events.Ask(odd), static_cast<ssize_t>(NLMSG_HDRLEN + sizeof(cn_msg) + odd.size()));
  EXPECT_EQ(send(events.fd(), "abc", 3, 0), 3);
  nlmsghdr h = {0xffffffff, NLMSG_DONE, 0, 0, 0};
  EXPECT_EQ(send(events.fd(), &h, sizeof h, 0), static_cast<ssize_t>(sizeof h));
  const pid_t pid = Spawn([] {});
  ASSERT_EQ(WaitFor(pid), 0);
  bool acked = false;
  EXPECT_TRUE(events.Next([&](const proc_event& e) {
    acked = acked || (e.what == proc_event::PROC_EVENT_NONE && e.event_data.ack.err != 0);
    return e.what == proc_event::PROC_EVENT_EXIT && e.event_data.exit.process_pid == pid;
  }));
  EXPECT_FALSE(acked);
}

}  // namespace
}  // namespace uk::test
