// Capabilities that a program's file gives it (capabilities(7)): setcap, without its library.
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/xattr.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr char kName[] = "security.capability";
constexpr uint64_t kNetRaw = 1 << CAP_NET_RAW, kChown = 1 << CAP_CHOWN;

std::string Caps(uint64_t permitted, uint64_t inheritable, bool effective) {
  vfs_cap_data d = {};
  d.magic_etc = VFS_CAP_REVISION_2 | (effective ? VFS_CAP_FLAGS_EFFECTIVE : 0);
  d.data[0] = {static_cast<uint32_t>(permitted), static_cast<uint32_t>(inheritable)};
  d.data[1] = {static_cast<uint32_t>(permitted >> 32), static_cast<uint32_t>(inheritable >> 32)};
  return std::string(reinterpret_cast<const char*>(&d), XATTR_CAPS_SZ_2);
}

int Set(const std::string& path, const std::string& caps) {
  return setxattr(path.c_str(), kName, caps.data(), caps.size(), 0);
}

// A copy of cat(1), which shows its own status.
struct Program {
  Scratch scratch;
  std::string path;
  Program() {
    chmod(scratch.c_str(), 0755);
    path = scratch.File("cat", ReadFile("/bin/cat"), 0755);
  }
  // A line of the status of one that `uid` runs; the errno's name if it did not start.
  std::string Field(uid_t uid, const std::string& key, bool no_new_privs = false) const {
    Pipe out;
    pid_t child = Spawn([&] {
      if (uid != 0 && (setgid(uid) != 0 || setuid(uid) != 0)) _exit(90);
      if (no_new_privs) prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
      dup2(out.w, 1);
      execl(path.c_str(), "cat", "/proc/self/status", nullptr);
      dprintf(1, "%s:\t%s\n", key.c_str(), strerrorname_np(errno));
      return 1;
    });
    out.w.reset();
    const std::string text = ReadFd_(out.r);
    WaitFor(child);
    for (const std::string& line : Lines(text))
      if (line.rfind(key + ":\t", 0) == 0) return line.substr(key.size() + 2);
    return {};
  }
  static std::string ReadFd_(int fd) {
    std::string all;
    char buffer[4096];
    ssize_t n;
    while ((n = read(fd, buffer, sizeof buffer)) > 0) all.append(buffer, static_cast<size_t>(n));
    return all;
  }
  uint64_t Mask(uid_t uid, const std::string& key, bool no_new_privs = false) const {
    return strtoull(Field(uid, key, no_new_privs).c_str(), nullptr, 16);
  }
};

TEST(setxattr, FileCapabilities) {
  COVERS(getxattr);
  Scratch s;
  std::string f = s.File("f");
  char buffer[64];
  EXPECT_ERRNO(ENODATA, getxattr(f.c_str(), kName, buffer, sizeof buffer));
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, Set(f, Caps(kNetRaw, 0, true)));
    return;
  }
  EXPECT_ERRNO(EINVAL, Set(f, "x"));
  EXPECT_ERRNO(EINVAL, Set(f, std::string(20, '\0')));
  ASSERT_OK(Set(f, Caps(kNetRaw, 0, true)));
  EXPECT_EQ(getxattr(f.c_str(), kName, buffer, sizeof buffer), XATTR_CAPS_SZ_2);
  // They do not outlive a change of owner.
  ASSERT_OK(chown(f.c_str(), 1, 1));
  EXPECT_ERRNO(ENODATA, getxattr(f.c_str(), kName, buffer, sizeof buffer));
}

TEST(execve, FileCapabilities) {
  if (!IsRoot()) GTEST_SKIP() << "only root may give them";
  Program p;
  EXPECT_EQ(p.Mask(1000, "CapEff"), 0u);
  ASSERT_OK(Set(p.path, Caps(kNetRaw, 0, true)));
  EXPECT_EQ(p.Mask(1000, "CapEff"), kNetRaw);
  EXPECT_EQ(p.Mask(1000, "CapPrm"), kNetRaw);
  EXPECT_EQ(p.Mask(1000, "CapEff", true), 0u) << "no_new_privs";
  ASSERT_OK(Set(p.path, Caps(kNetRaw | kChown, 0, false)));
  EXPECT_EQ(p.Mask(1000, "CapPrm"), kNetRaw | kChown);
  EXPECT_EQ(p.Mask(1000, "CapEff"), 0u);
  // Root has all of them anyway.
  EXPECT_NE(p.Mask(0, "CapEff") & ~(kNetRaw | kChown), 0u);
  // A capability outside the bounding set cannot be had, and a program that needs it does not run.
  IN_CHILD([&] {
    CHILD_CHECK(prctl(PR_CAPBSET_DROP, CAP_NET_RAW, 0, 0, 0) == 0);
    CHILD_CHECK(p.Mask(1000, "CapPrm") == kChown);
    CHILD_CHECK(Set(p.path, Caps(kNetRaw | kChown, 0, true)) == 0);
    CHILD_CHECK(p.Field(1000, "CapPrm") == "EPERM");
  });
}

}  // namespace
}  // namespace uk::test
