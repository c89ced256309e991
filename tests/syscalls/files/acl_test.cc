// POSIX access control lists (acl(5)), set as setfacl does it: by extended attributes.
#include <grp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr char kAccess[] = "system.posix_acl_access", kDefault[] = "system.posix_acl_default";
constexpr uint16_t kUserObj = 1, kUser = 2, kGroupObj = 4, kGroup = 8, kMask = 16, kOther = 32;
constexpr uint32_t kNone = ~0u;

struct Entry {
  uint16_t tag, perm;
  uint32_t id = kNone;
};

std::string Acl(std::vector<Entry> entries) {
  const uint32_t version = 2;
  std::string out(reinterpret_cast<const char*>(&version), sizeof version);
  out.append(reinterpret_cast<const char*>(entries.data()), entries.size() * sizeof(Entry));
  return out;
}

int Set(const std::string& path, const char* name, const std::string& acl) {
  return setxattr(path.c_str(), name, acl.data(), acl.size(), 0);
}

std::string Get(const std::string& path, const char* name) {
  char buffer[4096];
  ssize_t n = getxattr(path.c_str(), name, buffer, sizeof buffer);
  return n < 0 ? strerrorname_np(errno) : std::string(buffer, static_cast<size_t>(n));
}

std::string Names(const std::string& path) {
  char buffer[4096];
  ssize_t n = listxattr(path.c_str(), buffer, sizeof buffer);
  return n < 0 ? strerrorname_np(errno) : std::string(buffer, static_cast<size_t>(n));
}

TEST(setxattr, AclAndMode) {
  COVERS(getxattr, removexattr, listxattr);
  Scratch s;
  std::string f = s.File("f");
  EXPECT_EQ(Get(f, kAccess), "ENODATA");
  const std::string acl =
      Acl({{kUserObj, 6}, {kUser, 7, 4711}, {kGroupObj, 4}, {kMask, 5}, {kOther, 0}});
  ASSERT_OK(Set(f, kAccess, acl));
  EXPECT_EQ(Get(f, kAccess), acl);
  EXPECT_EQ(ModeOf(f) & 07777, 0650u) << "the mask is shown as the group's rights";
  EXPECT_NE(Names(f).find(kAccess), std::string::npos);
  // chmod changes the mask.
  ASSERT_OK(chmod(f.c_str(), 0604));
  EXPECT_EQ(Get(f, kAccess),
            Acl({{kUserObj, 6}, {kUser, 7, 4711}, {kGroupObj, 4}, {kMask, 0}, {kOther, 4}}));
  // What the mode can say is no list.
  ASSERT_OK(Set(f, kAccess, Acl({{kUserObj, 6}, {kGroupObj, 2}, {kOther, 1}})));
  EXPECT_EQ(Get(f, kAccess), "ENODATA");
  EXPECT_EQ(ModeOf(f) & 07777, 0621u);
  ASSERT_OK(Set(f, kAccess, acl));
  ASSERT_OK(removexattr(f.c_str(), kAccess));
  EXPECT_EQ(Get(f, kAccess), "ENODATA");
  ASSERT_OK(removexattr(f.c_str(), kAccess));
  EXPECT_EQ(Names(f).find(kAccess), std::string::npos);
}

TEST(setxattr, AclErrors) {
  Scratch s;
  std::string f = s.File("f");
  EXPECT_ERRNO(EINVAL, Set(f, kAccess, "x"));
  EXPECT_OK(Set(f, kAccess, "")) << "nothing at all takes a list away";
  EXPECT_ERRNO(EOPNOTSUPP, Set(f, kAccess, std::string("\1\0\0\0", 4) + std::string(8, '\0')));
  const std::string good = Acl({{kUserObj, 6}, {kGroupObj, 4}, {kOther, 0}});
  EXPECT_ERRNO(EINVAL, Set(f, kAccess, good + "x"));
  for (const auto& bad : {
           Acl({{kUserObj, 6}, {kGroupObj, 4}}),
           Acl({{kUserObj, 6}, {kOther, 4}}),
           Acl({{kGroupObj, 6}, {kOther, 4}}),
           Acl({{kUserObj, 8}, {kGroupObj, 4}, {kOther, 0}}),
           Acl({{kGroupObj, 4}, {kUserObj, 6}, {kOther, 0}}),
           Acl({{kUserObj, 6}, {kUserObj, 6}, {kGroupObj, 4}, {kOther, 0}}),
           Acl({{kUserObj, 6}, {kUser, 6, 1}, {kGroupObj, 4}, {kOther, 0}}),
           Acl({{kUserObj, 6}, {kUser, 6, kNone}, {kGroupObj, 4}, {kMask, 4}, {kOther, 0}}),
           Acl({{kUserObj, 6}, {3, 6}, {kGroupObj, 4}, {kMask, 4}, {kOther, 0}}),
       }) {
    EXPECT_ERRNO(EINVAL, Set(f, kAccess, bad));
  }
  EXPECT_ERRNO(EACCES, Set(f, kDefault, good));
  EXPECT_OK(Set(f, kDefault, Acl({})));
  EXPECT_ERRNO(ERANGE, [&] {
    char one;
    setxattr(s.c_str(), kDefault, good.data(), good.size(), 0);
    return getxattr(s.c_str(), kDefault, &one, 1);
  }());
  ASSERT_OK(symlink("f", (s / "l").c_str()));
  EXPECT_ERRNO(EOPNOTSUPP, lsetxattr((s / "l").c_str(), kAccess, good.data(), good.size(), 0));
  if (IsRoot()) {
    IN_CHILD([&] {
      CHILD_CHECK(chmod(s.c_str(), 0755) == 0 && setuid(4711) == 0);
      CHILD_CHECK(Set(f, kAccess, good) == -1 && errno == EPERM);
    });
  }
}

TEST(access, ByAcl) {
  COVERS(setxattr, open);
  if (!IsRoot()) GTEST_SKIP() << "needs other users";
  Scratch s;
  ASSERT_OK(chmod(s.c_str(), 0711));
  std::string f = s.File("f", "text");
  ASSERT_OK(Set(f, kAccess,
                Acl({{kUserObj, 0},
                     {kUser, 6, 1001},
                     {kUser, 7, 1002},
                     {kUser, 0, 1003},
                     {kGroupObj, 0},
                     {kGroup, 4, 2001},
                     {kGroup, 2, 2002},
                     {kMask, 6},
                     {kOther, 4}})));
  auto may = [&](uid_t uid, std::vector<gid_t> groups, int mode) {
    return RunChild([&] {
             CHILD_CHECK(setgroups(groups.size(), groups.data()) == 0 &&
                         setresgid(3000, 3000, 3000) == 0);
             CHILD_CHECK(setresuid(uid, uid, uid) == 0);
             return access(f.c_str(), mode) == 0 ? 0 : 1;
           }) == 0;
  };
  EXPECT_TRUE(may(1001, {}, R_OK | W_OK));
  EXPECT_FALSE(may(1001, {}, X_OK));
  EXPECT_TRUE(may(1002, {}, R_OK | W_OK));
  EXPECT_FALSE(may(1002, {}, X_OK)) << "the mask takes it";
  EXPECT_FALSE(may(1003, {}, R_OK)) << "others may";
  EXPECT_FALSE(may(1003, {2001}, R_OK)) << "the user's entry comes first";
  EXPECT_TRUE(may(1004, {}, R_OK));
  EXPECT_FALSE(may(1004, {}, W_OK));
  EXPECT_TRUE(may(1004, {2001}, R_OK));
  EXPECT_TRUE(may(1004, {2002}, W_OK));
  EXPECT_FALSE(may(1004, {2002}, R_OK)) << "a group matched, so others do not count";
  EXPECT_FALSE(may(1004, {2001, 2002}, R_OK | W_OK)) << "no single entry has both";
  // No rights for the group in the mode: the list is not asked.
  ASSERT_OK(chmod(f.c_str(), 0604));
  EXPECT_FALSE(may(1001, {}, W_OK));
}

TEST(setxattr, DefaultAclIsInherited) {
  COVERS(mkdir, open, mknod);
  Scratch s;
  const std::string d = s / "d",
                    acl = Acl(
                        {{kUserObj, 7}, {kUser, 7, 4711}, {kGroupObj, 5}, {kMask, 7}, {kOther, 1}});
  ASSERT_OK(mkdir(d.c_str(), 0755));
  ASSERT_OK(Set(d, kDefault, acl));
  EXPECT_EQ(ModeOf(d) & 07777, 0755u);
  const mode_t old = umask(077);
  ASSERT_OK(mkdir((d + "/sub").c_str(), 0777));
  Fd made(open((d + "/file").c_str(), O_CREAT | O_RDWR, 0640));
  ASSERT_OK(symlink("x", (d + "/link").c_str()));
  ASSERT_OK(mknod((d + "/fifo").c_str(), S_IFIFO | 0666, 0));
  Fd unnamed(open(d.c_str(), O_TMPFILE | O_RDWR, 0640));
  sockaddr_un a = {AF_UNIX, {}};
  strcpy(a.sun_path, (d + "/sock").c_str());
  Fd sock(socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_OK(bind(sock, reinterpret_cast<sockaddr*>(&a), sizeof a));
  umask(old);
  EXPECT_EQ(Get(d + "/sub", kDefault), acl);
  EXPECT_EQ(Get(d + "/sub", kAccess), acl);
  EXPECT_EQ(ModeOf(d + "/sub") & 07777, 0771u) << "the umask does not count";
  EXPECT_EQ(Get(d + "/file", kDefault), "ENODATA");
  EXPECT_EQ(Get(d + "/file", kAccess),
            Acl({{kUserObj, 6}, {kUser, 7, 4711}, {kGroupObj, 5}, {kMask, 4}, {kOther, 0}}));
  EXPECT_EQ(ModeOf(d + "/file") & 07777, 0640u);
  EXPECT_EQ(ModeOf(d + "/fifo") & 07777, 0660u);
  EXPECT_EQ(ModeOf(d + "/sock") & 07777, 0700u) << "bind(2) takes the umask away first";
  struct stat st;
  ASSERT_OK(fstat(unnamed, &st));
  EXPECT_EQ(st.st_mode & 07777, 0640u);
  char buffer[256];
  EXPECT_GT(fgetxattr(unnamed, kAccess, buffer, sizeof buffer), 0);
  // A list that is as good as a mode leaves no list, but replaces the umask.
  ASSERT_OK(Set(d, kDefault, Acl({{kUserObj, 7}, {kGroupObj, 6}, {kOther, 4}})));
  Fd plain(open((d + "/plain").c_str(), O_CREAT | O_RDWR, 0666));
  EXPECT_EQ(Get(d + "/plain", kAccess), "ENODATA");
  EXPECT_EQ(ModeOf(d + "/plain") & 07777, 0664u);
  ASSERT_OK(removexattr(d.c_str(), kDefault));
  EXPECT_EQ(Get(d, kDefault), "ENODATA");
}

}  // namespace
}  // namespace uk::test
