// AF_NETLINK, NETLINK_GENERIC: the controller and task statistics; and groups of tasks' own.
#include <linux/acct.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/taskstats.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>

#include <map>
#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

using Attributes = std::map<int, std::string>;

Attributes Parse(std::string_view bytes) {
  Attributes out;
  while (bytes.size() >= NLA_HDRLEN) {
    nlattr a;
    memcpy(&a, bytes.data(), sizeof a);
    if (a.nla_len < sizeof a || a.nla_len > bytes.size()) break;
    out[a.nla_type & NLA_TYPE_MASK] = bytes.substr(sizeof a, a.nla_len - sizeof a);
    bytes.remove_prefix(std::min<size_t>(NLA_ALIGN(a.nla_len), bytes.size()));
  }
  return out;
}

std::string Attribute(uint16_t type, std::string_view value) {
  const nlattr a = {static_cast<uint16_t>(sizeof a + value.size()), type};
  std::string out(reinterpret_cast<const char*>(&a), sizeof a);
  out += value;
  out.resize(NLA_ALIGN(out.size()));
  return out;
}
template <class T>
std::string_view Raw(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
template <class T>
T As(std::string_view bytes) {
  T out = {};
  memcpy(&out, bytes.data(), std::min(sizeof out, bytes.size()));
  return out;
}

struct Answer {
  nlmsghdr header = {};
  genlmsghdr generic = {};
  Attributes attributes;
  int error = 0;  // of NLMSG_ERROR
};

class Generic {
 public:
  Generic() : fd_(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC)) {
    sockaddr_nl n = {};
    n.nl_family = AF_NETLINK;
    EXPECT_OK(bind(fd_, reinterpret_cast<sockaddr*>(&n), sizeof n));
  }
  int fd() const { return fd_; }
  std::vector<Answer> Ask(uint16_t family, uint8_t command, const std::string& attributes,
                          uint16_t flags = 0) {
    std::string m(NLMSG_HDRLEN + GENL_HDRLEN, '\0');
    const nlmsghdr h = {static_cast<uint32_t>(m.size() + attributes.size()), family,
                        static_cast<uint16_t>(NLM_F_REQUEST | flags), 7, 0};
    const genlmsghdr g = {command, 1, 0};
    memcpy(m.data(), &h, sizeof h);
    memcpy(m.data() + NLMSG_HDRLEN, &g, sizeof g);
    m += attributes;
    EXPECT_EQ(send(fd_, m.data(), m.size(), 0), static_cast<ssize_t>(m.size()));
    return Receive(MSG_DONTWAIT);
  }
  // The messages of a datagram.
  std::vector<Answer> Receive(int flags = 0) {
    alignas(nlmsghdr) char buffer[32768];
    const ssize_t n = recv(fd_, buffer, sizeof buffer, flags);
    std::vector<Answer> out;
    if (n < 0) return out;
    auto left = static_cast<unsigned>(n);
    for (auto* h = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(h, left);
         h = NLMSG_NEXT(h, left)) {
      Answer a;
      a.header = *h;
      const std::string_view body(static_cast<char*>(NLMSG_DATA(h)), NLMSG_PAYLOAD(h, 0));
      if (h->nlmsg_type == NLMSG_ERROR) {
        a.error = As<int>(body);
      } else if (h->nlmsg_type >= NLMSG_MIN_TYPE) {
        a.generic = As<genlmsghdr>(body);
        a.attributes = Parse(body.substr(GENL_HDRLEN));
      }
      out.push_back(std::move(a));
    }
    return out;
  }
  int ErrorOf(uint16_t family, uint8_t command, const std::string& attributes, uint16_t flags = 0) {
    const auto answers = Ask(family, command, attributes, flags);
    if (answers.size() != 1 || answers[0].header.nlmsg_type != NLMSG_ERROR) return 1;
    return -answers[0].error;
  }
  uint16_t Family(const char* name) {
    const auto answers =
        Ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY,
            Attribute(CTRL_ATTR_FAMILY_NAME, std::string_view(name, strlen(name) + 1)));
    if (answers.empty()) return 0;
    return As<uint16_t>(answers[0].attributes.at(CTRL_ATTR_FAMILY_ID));
  }

 private:
  Fd fd_;
};

TEST(netlink_generic, Controller) {
  COVERS(sendto, recvfrom);
  Generic g;
  const auto answers = g.Ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY,
                             Attribute(CTRL_ATTR_FAMILY_NAME, std::string_view("nlctrl\0", 7)));
  ASSERT_EQ(answers.size(), 1u);
  const Answer& a = answers[0];
  EXPECT_EQ(a.header.nlmsg_type, GENL_ID_CTRL);
  EXPECT_EQ(a.header.nlmsg_seq, 7u);
  EXPECT_EQ(a.header.nlmsg_flags, 0);
  EXPECT_EQ(a.generic.cmd, CTRL_CMD_NEWFAMILY);
  EXPECT_EQ(a.generic.version, 2);
  EXPECT_EQ(a.attributes.at(CTRL_ATTR_FAMILY_NAME), std::string("nlctrl\0", 7));
  EXPECT_EQ(As<uint16_t>(a.attributes.at(CTRL_ATTR_FAMILY_ID)), GENL_ID_CTRL);
  EXPECT_EQ(As<uint32_t>(a.attributes.at(CTRL_ATTR_VERSION)), 2u);
  EXPECT_EQ(As<uint32_t>(a.attributes.at(CTRL_ATTR_HDRSIZE)), 0u);
  const Attributes first = Parse(Parse(a.attributes.at(CTRL_ATTR_OPS)).at(1));
  EXPECT_EQ(As<uint32_t>(first.at(CTRL_ATTR_OP_ID)), static_cast<uint32_t>(CTRL_CMD_GETFAMILY));
  EXPECT_EQ(As<uint32_t>(first.at(CTRL_ATTR_OP_FLAGS)), 0xeu);
  const Attributes group = Parse(Parse(a.attributes.at(CTRL_ATTR_MCAST_GROUPS)).at(1));
  EXPECT_EQ(As<uint32_t>(group.at(CTRL_ATTR_MCAST_GRP_ID)), 16u);
  EXPECT_STREQ(group.at(CTRL_ATTR_MCAST_GRP_NAME).c_str(), "notify");
}

TEST(netlink_generic, Dump) {
  Generic g;
  std::vector<Answer> all = g.Ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, "", NLM_F_DUMP);
  while (!all.empty() && all.back().header.nlmsg_type != NLMSG_DONE)
    for (Answer& a : g.Receive()) all.push_back(std::move(a));
  ASSERT_FALSE(all.empty());
  all.pop_back();
  bool stats = false;
  for (const Answer& a : all) {
    EXPECT_NE(a.header.nlmsg_flags & NLM_F_MULTI, 0);
    stats = stats || a.attributes.at(CTRL_ATTR_FAMILY_NAME).c_str() == std::string("TASKSTATS");
  }
  EXPECT_TRUE(stats);
}

TEST(netlink_generic, Errors) {
  Generic g;
  constexpr uint16_t kNobody = 999;
  auto name = [](std::string_view n) { return Attribute(CTRL_ATTR_FAMILY_NAME, n); };
  EXPECT_EQ(g.ErrorOf(kNobody, CTRL_CMD_GETFAMILY, ""), ENOENT);
  EXPECT_EQ(g.ErrorOf(GENL_ID_CTRL, 99, ""), EOPNOTSUPP);
  EXPECT_EQ(g.ErrorOf(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, ""), EINVAL);
  EXPECT_EQ(g.ErrorOf(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, name(std::string_view("nobody\0", 7))),
            ENOENT);
  EXPECT_EQ(g.ErrorOf(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, name("nlctrl")), EINVAL);  // no NUL
  EXPECT_EQ(
      g.ErrorOf(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, Attribute(CTRL_ATTR_FAMILY_ID, Raw(kNobody))),
      ENOENT);
  // Bytes behind the last attribute, and attributes that are not known, do no harm.
  EXPECT_EQ(g.Ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY,
                  Attribute(99, "abcd") + name(std::string_view("nlctrl\0", 7)) + "xy")
                .size(),
            1u);
  // With NLM_F_ACK success is told after the answer.
  EXPECT_EQ(
      g.Ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, name(std::string_view("nlctrl\0", 7)), NLM_F_ACK)
          .size(),
      1u);
  const auto ack = g.Receive(MSG_DONTWAIT);
  ASSERT_EQ(ack.size(), 1u);
  EXPECT_EQ(ack[0].header.nlmsg_type, NLMSG_ERROR);
  EXPECT_EQ(ack[0].error, 0);
  EXPECT_EQ(ack[0].header.nlmsg_flags, NLM_F_CAPPED);
}

// An error brings the request back, or its header, as the socket wishes.
TEST(netlink_generic, CappedAcks) {
  COVERS(setsockopt);
  Generic g;
  auto answer = g.Ask(GENL_ID_CTRL, 99, Attribute(99, "abcd"));
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_EQ(answer[0].header.nlmsg_len, NLMSG_LENGTH(sizeof(nlmsgerr)) + GENL_HDRLEN + 8);
  EXPECT_EQ(answer[0].header.nlmsg_flags, 0);
  const int on = 1;
  ASSERT_OK(setsockopt(g.fd(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on));
  answer = g.Ask(GENL_ID_CTRL, 99, Attribute(99, "abcd"));
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_EQ(answer[0].header.nlmsg_len, NLMSG_LENGTH(sizeof(nlmsgerr)));
  EXPECT_EQ(answer[0].header.nlmsg_flags, NLM_F_CAPPED);
}

TEST(taskstats, Permission) {
  Generic g;
  const uint16_t family = g.Family("TASKSTATS");
  ASSERT_NE(family, 0);
  const uint32_t self = getpid();
  const int error =
      g.ErrorOf(family, TASKSTATS_CMD_GET, Attribute(TASKSTATS_CMD_ATTR_PID, Raw(self)));
  EXPECT_EQ(error, IsRoot() ? 1 : EPERM);
}

TEST(taskstats, Errors) {
  if (!IsRoot()) GTEST_SKIP() << "needs CAP_NET_ADMIN";
  Generic g;
  const uint16_t family = g.Family("TASKSTATS");
  auto error = [&](const std::string& attributes, uint16_t flags = 0) {
    return g.ErrorOf(family, TASKSTATS_CMD_GET, attributes, flags);
  };
  constexpr uint32_t kNobody = 99999999;
  EXPECT_EQ(error(""), EINVAL);
  EXPECT_EQ(error("", NLM_F_DUMP), EOPNOTSUPP);
  EXPECT_EQ(error(Attribute(TASKSTATS_CMD_ATTR_PID, Raw(kNobody))), ESRCH);
  EXPECT_EQ(error(Attribute(TASKSTATS_CMD_ATTR_TGID, Raw(kNobody))), ESRCH);
  EXPECT_EQ(error(Attribute(TASKSTATS_CMD_ATTR_PID, "ab")), ERANGE);
  EXPECT_EQ(error(Attribute(TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, "zz")), EINVAL);
  EXPECT_EQ(error(Attribute(TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, "")), ERANGE);
  EXPECT_EQ(error(Attribute(TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, "0-999999")), ERANGE);
  // Room for a NUL is needed: without one the last character makes it.
  EXPECT_EQ(error(Attribute(TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, "0-0")), EINVAL);
  EXPECT_EQ(error(Attribute(TASKSTATS_CMD_ATTR_DEREGISTER_CPUMASK, "0,00"), NLM_F_ACK), 0);
  EXPECT_EQ(g.ErrorOf(family, TASKSTATS_CMD_NEW, ""), EOPNOTSUPP);
}

taskstats StatsIn(const std::string& aggregate) {
  return As<taskstats>(Parse(aggregate).at(TASKSTATS_TYPE_STATS));
}

TEST(taskstats, OfAProcess) {
  if (!IsRoot()) GTEST_SKIP() << "needs CAP_NET_ADMIN";
  Generic g;
  const uint16_t family = g.Family("TASKSTATS");
  const uint32_t self = getpid();
  rusage used;
  do {  // something to count
    getrusage(RUSAGE_SELF, &used);
  } while (used.ru_utime.tv_sec == 0 && used.ru_utime.tv_usec < 20000);
  auto answers = g.Ask(family, TASKSTATS_CMD_GET, Attribute(TASKSTATS_CMD_ATTR_PID, Raw(self)));
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].header.nlmsg_type, family);
  EXPECT_EQ(answers[0].generic.cmd, TASKSTATS_CMD_NEW);
  const std::string one = answers[0].attributes.at(TASKSTATS_TYPE_AGGR_PID);
  EXPECT_EQ(As<uint32_t>(Parse(one).at(TASKSTATS_TYPE_PID)), self);
  const taskstats s = StatsIn(one);
  EXPECT_GE(s.version, 13);
  EXPECT_EQ(s.ac_pid, self);
  EXPECT_EQ(s.ac_tgid, self);
  EXPECT_EQ(s.ac_ppid, static_cast<uint32_t>(getppid()));
  EXPECT_EQ(s.ac_uid, getuid());
  EXPECT_EQ(s.ac_gid, getgid());
  EXPECT_EQ(s.ac_exitcode, 0u);
  EXPECT_GE(s.ac_utime + s.ac_stime, 20000u);
  EXPECT_GT(s.ac_etime, 0u);
  EXPECT_GT(s.ac_minflt, 0u);
  EXPECT_GT(s.hiwater_rss, 0u);
  EXPECT_GE(s.hiwater_vm, s.hiwater_rss);
  EXPECT_LE(s.ac_btime64, static_cast<uint64_t>(time(nullptr)));
  EXPECT_GT(s.ac_btime64 + 600, static_cast<uint64_t>(time(nullptr)));
  answers = g.Ask(family, TASKSTATS_CMD_GET, Attribute(TASKSTATS_CMD_ATTR_TGID, Raw(self)));
  ASSERT_EQ(answers.size(), 1u);
  const std::string all = answers[0].attributes.at(TASKSTATS_TYPE_AGGR_TGID);
  EXPECT_EQ(As<uint32_t>(Parse(all).at(TASKSTATS_TYPE_TGID)), self);
  EXPECT_GE(StatsIn(all).ac_utime + StatsIn(all).ac_stime, 20000u);
}

TEST(taskstats, OfThoseThatEnd) {
  if (!IsRoot()) GTEST_SKIP() << "needs CAP_NET_ADMIN";
  Generic g;
  const int size = 8 << 20;
  setsockopt(g.fd(), SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  const uint16_t family = g.Family("TASKSTATS");
  const std::string cpus = "0-" + std::to_string(get_nprocs_conf() - 1) + '\0';
  EXPECT_EQ(g.ErrorOf(family, TASKSTATS_CMD_GET,
                      Attribute(TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, cpus), NLM_F_ACK),
            0);
  const pid_t simple = Spawn([] { return 3; });
  ASSERT_EQ(WaitFor(simple), Exited(3));
  const pid_t threaded = Spawn([] {
    std::thread([] {}).join();
    return 4;
  });
  ASSERT_EQ(WaitFor(threaded), Exited(4));
  bool saw_simple = false, saw_group = false;
  while (!saw_group) {
    pollfd p = {g.fd(), POLLIN, 0};
    ASSERT_EQ(poll(&p, 1, 20000), 1);
    for (const Answer& a : g.Receive(MSG_DONTWAIT)) {
      const taskstats s = StatsIn(a.attributes.at(TASKSTATS_TYPE_AGGR_PID));
      if (s.ac_pid == static_cast<uint32_t>(simple)) {
        saw_simple = true;
        EXPECT_EQ(s.ac_exitcode, 3u << 8);
        EXPECT_NE(s.ac_flag & AFORK, 0);
        EXPECT_EQ(a.attributes.count(TASKSTATS_TYPE_AGGR_TGID), 0u);
      }
      if (s.ac_pid == static_cast<uint32_t>(threaded)) {
        ASSERT_EQ(a.attributes.count(TASKSTATS_TYPE_AGGR_TGID), 1u);
        saw_group = true;
        EXPECT_EQ(As<int>(Parse(a.attributes.at(TASKSTATS_TYPE_AGGR_TGID)).at(TASKSTATS_TYPE_TGID)),
                  threaded);
      }
    }
  }
  EXPECT_TRUE(saw_simple);
  // Linux knows who has registered by the port, which the next test's socket may get.
  g.Ask(family, TASKSTATS_CMD_GET, Attribute(TASKSTATS_CMD_ATTR_DEREGISTER_CPUMASK, cpus));
}

// Tasks may speak to groups too.
TEST(netlink, Groups) {
  COVERS(sendto, recvfrom);
  auto make = [](uint32_t groups) {
    Fd s(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
    sockaddr_nl n = {};
    n.nl_family = AF_NETLINK;
    n.nl_groups = groups;
    EXPECT_OK(bind(s, reinterpret_cast<sockaddr*>(&n), sizeof n));
    return s;
  };
  constexpr uint32_t kGroup = 1u << 27;  // nobody's
  Fd in = make(kGroup), out = make(0), speaker = make(kGroup);
  // A member without a name is not reached: it has the port that is spoken to.
  Fd nameless(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
  const int group = 28;
  ASSERT_OK(setsockopt(nameless, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group));
  sockaddr_nl to = {};
  to.nl_family = AF_NETLINK;
  to.nl_groups = kGroup;
  char message[64] = "hello";
  const ssize_t sent =
      sendto(speaker, message, sizeof message, 0, reinterpret_cast<sockaddr*>(&to), sizeof to);
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, sent);
    return;
  }
  ASSERT_EQ(sent, static_cast<ssize_t>(sizeof message));
  sockaddr_nl from = {}, name = {};
  socklen_t len = sizeof from;
  char got[64] = {};
  ASSERT_EQ(recvfrom(in, got, sizeof got, 0, reinterpret_cast<sockaddr*>(&from), &len),
            static_cast<ssize_t>(sizeof got));
  EXPECT_STREQ(got, "hello");
  EXPECT_ERRNO(EAGAIN, recv(nameless, got, sizeof got, 0));
  EXPECT_EQ(from.nl_groups, kGroup);
  len = sizeof name;
  ASSERT_OK(getsockname(speaker, reinterpret_cast<sockaddr*>(&name), &len));
  EXPECT_EQ(from.nl_pid, name.nl_pid);
  EXPECT_ERRNO(EAGAIN, recv(out, got, sizeof got, 0));
  EXPECT_ERRNO(EAGAIN, recv(speaker, got, sizeof got, 0));
}

}  // namespace
}  // namespace uk::test
