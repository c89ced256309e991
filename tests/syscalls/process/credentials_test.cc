// User and group ids, supplementary groups, capabilities.
#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>

#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

struct Ids {
  uid_t r, e, s;
  bool operator==(const Ids&) const = default;
};
Ids Uids() {
  Ids i;
  syscall(SYS_getresuid, &i.r, &i.e, &i.s);
  return i;
}
Ids Gids() {
  Ids i;
  syscall(SYS_getresgid, &i.r, &i.e, &i.s);
  return i;
}

TEST(getresuid, AgreesWithTheOthers) {
  COVERS(getuid, geteuid, getgid, getegid, getresgid);
  Ids u = Uids(), g = Gids();
  EXPECT_EQ(syscall(SYS_getuid), u.r);
  EXPECT_EQ(syscall(SYS_geteuid), u.e);
  EXPECT_EQ(syscall(SYS_getgid), g.r);
  EXPECT_EQ(syscall(SYS_getegid), g.e);
  EXPECT_ERRNO(EFAULT, syscall(SYS_getresuid, BadPointer(), &u.e, &u.s));
  EXPECT_ERRNO(EFAULT, syscall(SYS_getresgid, &u.r, BadPointer(), &u.s));
  std::string uid = ProcField("/proc/self/status", "Uid");
  EXPECT_EQ(atol(uid.c_str()), static_cast<long>(u.r));
}

TEST(setresuid, RootMayOthersShuffle) {
  if (!IsRoot()) {
    uid_t me = getuid();
    EXPECT_ERRNO(EPERM, syscall(SYS_setresuid, 0, -1, -1));
    EXPECT_ERRNO(EPERM, syscall(SYS_setresuid, -1, 0, -1));
    EXPECT_OK(syscall(SYS_setresuid, me, me, me));
    EXPECT_OK(syscall(SYS_setresuid, -1, -1, -1));
    return;
  }
  IN_CHILD([&] {
    CHILD_CHECK(syscall(SYS_setresuid, 1, 2, 3) == 0);
    CHILD_CHECK((Uids() == Ids{1, 2, 3}));
    CHILD_CHECK(syscall(SYS_setresuid, 3, 1, -1) == 0);
    CHILD_CHECK((Uids() == Ids{3, 1, 3}));
    CHILD_CHECK(syscall(SYS_setresuid, -1, 2, -1) == -1 && errno == EPERM);
    CHILD_CHECK(syscall(SYS_setresuid, 0, -1, -1) == -1 && errno == EPERM);
  });
}

TEST(setuid, DropsForGood) {
  COVERS(setgid);
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, syscall(SYS_setuid, 0));
    EXPECT_ERRNO(EPERM, syscall(SYS_setgid, 0));
    EXPECT_OK(syscall(SYS_setuid, getuid()));
    EXPECT_OK(syscall(SYS_setgid, getgid()));
    return;
  }
  IN_CHILD([&] {
    CHILD_CHECK(syscall(SYS_setgid, 500) == 0);
    CHILD_CHECK((Gids() == Ids{500, 500, 500}));
    CHILD_CHECK(syscall(SYS_setuid, 501) == 0);
    CHILD_CHECK((Uids() == Ids{501, 501, 501}));
    CHILD_CHECK(syscall(SYS_setuid, 0) == -1 && errno == EPERM);
    CHILD_CHECK(syscall(SYS_setgid, 0) == -1 && errno == EPERM);
  });
  EXPECT_ERRNO(EINVAL, syscall(SYS_setuid, -1));
}

TEST(setreuid, SavedIdFollows) {
  COVERS(setregid, setresgid);
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, syscall(SYS_setreuid, 0, -1));
    EXPECT_ERRNO(EPERM, syscall(SYS_setregid, -1, 0));
    EXPECT_ERRNO(EPERM, syscall(SYS_setresgid, 0, 0, 0));
    EXPECT_OK(syscall(SYS_setreuid, -1, -1));
    return;
  }
  IN_CHILD([&] {
    CHILD_CHECK(syscall(SYS_setregid, 10, 20) == 0);
    CHILD_CHECK((Gids() == Ids{10, 20, 20}));
    CHILD_CHECK(syscall(SYS_setresgid, 1, 2, 3) == 0);
    CHILD_CHECK((Gids() == Ids{1, 2, 3}));
    CHILD_CHECK(syscall(SYS_setreuid, 10, 20) == 0);
    CHILD_CHECK((Uids() == Ids{10, 20, 20}));
    CHILD_CHECK(syscall(SYS_setreuid, 20, 10) == 0);
    CHILD_CHECK((Uids() == Ids{20, 10, 10}));
  });
}

TEST(setuid, EffectiveRootCanComeBackThroughSaved) {
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, seteuid(0));
    return;
  }
  IN_CHILD([&] {
    CHILD_CHECK(seteuid(1000) == 0);
    CHILD_CHECK(access("/root", W_OK) == 0);  // the real id counts there
    CHILD_CHECK(open("/etc/shadow", O_RDWR) == -1 && errno == EACCES);
    CHILD_CHECK(seteuid(0) == 0);
    CHILD_CHECK((Uids() == Ids{0, 0, 0}));
  });
}

TEST(setfsuid, ReturnsThePrevious) {
  COVERS(setfsgid);
  EXPECT_EQ(syscall(SYS_setfsuid, -1), geteuid());
  EXPECT_EQ(syscall(SYS_setfsgid, -1), getegid());
  if (!IsRoot()) {
    EXPECT_EQ(syscall(SYS_setfsuid, 0), geteuid());
    EXPECT_EQ(syscall(SYS_setfsuid, -1), geteuid()) << "refused without an error";
    return;
  }
  Scratch dir;
  ASSERT_OK(chmod(dir.c_str(), 0755));
  dir.File("f", "", 0600);
  IN_CHILD([&] {
    CHILD_CHECK(syscall(SYS_setfsuid, 1000) == 0);
    CHILD_CHECK(syscall(SYS_setfsuid, -1) == 1000);
    CHILD_CHECK(open((dir / "f").c_str(), O_RDONLY) == -1 && errno == EACCES);
  });
}

TEST(setgroups, ListAndLimits) {
  COVERS(getgroups);
  long n = syscall(SYS_getgroups, 0, nullptr);
  ASSERT_GE(n, 0);
  gid_t many[65537] = {};
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, syscall(SYS_setgroups, 0, nullptr));
  } else {
    IN_CHILD([&] {
      gid_t set[3] = {30, 10, 20};
      CHILD_CHECK(syscall(SYS_setgroups, 3, set) == 0);
      gid_t got[4];
      CHILD_CHECK(syscall(SYS_getgroups, 4, got) == 3);
      CHILD_CHECK(got[0] == 10 && got[1] == 20 && got[2] == 30);
      CHILD_CHECK(syscall(SYS_getgroups, 2, got) == -1 && errno == EINVAL);
      CHILD_CHECK(syscall(SYS_getgroups, 3, BadPointer()) == -1 && errno == EFAULT);
      CHILD_CHECK(syscall(SYS_setgroups, 65537, many) == -1 && errno == EINVAL);
      CHILD_CHECK(syscall(SYS_setgroups, 3, BadPointer()) == -1 && errno == EFAULT);
    });
  }
  EXPECT_ERRNO(EINVAL, syscall(SYS_getgroups, -1, nullptr));
}

TEST(setresuid, ThreadsAreSeparateInTheKernel) {
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, syscall(SYS_setresuid, 1, 1, 1));
    return;
  }
  std::thread([] {
    EXPECT_OK(syscall(SYS_setresuid, 77, 77, 77));
    EXPECT_EQ(syscall(SYS_getuid), 77);
  }).join();
  EXPECT_EQ(syscall(SYS_getuid), 0);
}

// ---- capabilities ------------------------------------------------------------------------------

struct Caps {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  uint64_t effective() const { return data[0].effective | uint64_t{data[1].effective} << 32; }
  uint64_t permitted() const { return data[0].permitted | uint64_t{data[1].permitted} << 32; }
};

TEST(capget, VersionsAndSelf) {
  Caps c;
  EXPECT_OK(syscall(SYS_capget, &c.header, c.data));
  if (IsRoot()) {
    EXPECT_TRUE(c.effective() & (1 << CAP_CHOWN));
    EXPECT_EQ(c.effective(), c.permitted());
  } else {
    EXPECT_EQ(c.effective(), 0u);
  }
  c.header.version = 0x12345678;
  EXPECT_ERRNO(EINVAL, syscall(SYS_capget, &c.header, c.data));
  EXPECT_EQ(c.header.version, static_cast<uint32_t>(_LINUX_CAPABILITY_VERSION_3));
  c.header.version = 0x12345678;
  EXPECT_OK(syscall(SYS_capget, &c.header, nullptr)) << "the way to ask for the version";
  c.header.pid = 0x3fffffff;
  EXPECT_ERRNO(ESRCH, syscall(SYS_capget, &c.header, c.data));
  EXPECT_ERRNO(EFAULT, syscall(SYS_capget, BadPointer(), c.data));
  c.header.pid = 0;
  EXPECT_ERRNO(EFAULT, syscall(SYS_capget, &c.header, BadPointer()));
}

TEST(capset, OnlyDownwards) {
  Caps c;
  ASSERT_OK(syscall(SYS_capget, &c.header, c.data));
  EXPECT_OK(syscall(SYS_capset, &c.header, c.data)) << "what one has";
  IN_CHILD([&] {
    Caps d = c;
    d.data[0].effective &= ~(1u << CAP_CHOWN);
    CHILD_CHECK(syscall(SYS_capset, &d.header, d.data) == 0);
    Scratch dir;
    dir.File("f");
    if (IsRoot()) {
      CHILD_CHECK(chown((dir / "f").c_str(), 5, 5) == -1 && errno == EPERM);
      d.data[0].effective |= 1u << CAP_CHOWN;
      CHILD_CHECK(syscall(SYS_capset, &d.header, d.data) == 0);
      CHILD_CHECK(chown((dir / "f").c_str(), 5, 5) == 0);
    }
    d.data[0].permitted &= ~(1u << CAP_CHOWN);
    d.data[0].effective &= ~(1u << CAP_CHOWN);
    CHILD_CHECK(syscall(SYS_capset, &d.header, d.data) == 0);
    d.data[0].permitted |= 1u << CAP_CHOWN;
    CHILD_CHECK(syscall(SYS_capset, &d.header, d.data) == -1 && errno == EPERM);
  });
}

TEST(capset, LeavingRootDropsThemUnlessKept) {
  if (!IsRoot()) {
    EXPECT_EQ(strtoull(ProcField("/proc/self/status", "CapEff").c_str(), nullptr, 16), 0u);
    return;
  }
  IN_CHILD([&] {
    CHILD_CHECK(setresuid(1000, 1000, 1000) == 0);
    Caps c;
    CHILD_CHECK(syscall(SYS_capget, &c.header, c.data) == 0);
    CHILD_CHECK(c.effective() == 0 && c.permitted() == 0);
  });
  IN_CHILD([&] {
    CHILD_CHECK(prctl(PR_SET_KEEPCAPS, 1) == 0);
    CHILD_CHECK(prctl(PR_GET_KEEPCAPS) == 1);
    CHILD_CHECK(setresuid(1000, 1000, 1000) == 0);
    Caps c;
    CHILD_CHECK(syscall(SYS_capget, &c.header, c.data) == 0);
    CHILD_CHECK(c.effective() == 0 && c.permitted() != 0);
    c.data[0].effective = 1u << CAP_CHOWN;
    CHILD_CHECK(syscall(SYS_capset, &c.header, c.data) == 0);
  });
  IN_CHILD([&] {
    // The effective id alone: permitted stays, effective follows back and forth.
    CHILD_CHECK(seteuid(1000) == 0);
    Caps c;
    CHILD_CHECK(syscall(SYS_capget, &c.header, c.data) == 0);
    CHILD_CHECK(c.effective() == 0 && c.permitted() != 0);
    CHILD_CHECK(seteuid(0) == 0);
    CHILD_CHECK(syscall(SYS_capget, &c.header, c.data) == 0);
    CHILD_CHECK(c.effective() == c.permitted());
  });
}

}  // namespace
}  // namespace uk::test
