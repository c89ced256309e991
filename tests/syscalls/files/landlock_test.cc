// landlock(7): giving up rights to files, as programs that confine themselves do it.
#include <linux/landlock.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr uint64_t kRefer = 1 << 13, kTruncate = 1 << 14;
constexpr uint64_t kReadFile = LANDLOCK_ACCESS_FS_READ_FILE, kReadDir = LANDLOCK_ACCESS_FS_READ_DIR,
                   kWriteFile = LANDLOCK_ACCESS_FS_WRITE_FILE;
constexpr uint64_t kAbi1 = (1 << 13) - 1;

struct Attr {  // newer than the headers
  uint64_t fs, net, scoped;
};

long Create(const Attr& a) { return syscall(SYS_landlock_create_ruleset, &a, sizeof a, 0); }

int AddRule(int ruleset, const std::string& path, uint64_t allowed) {
  Fd place(open(path.c_str(), O_PATH | O_CLOEXEC));
  landlock_path_beneath_attr a = {};
  a.allowed_access = allowed;
  a.parent_fd = place;
  return static_cast<int>(
      syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
}

int Restrict(int ruleset) {
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return static_cast<int>(syscall(SYS_landlock_restrict_self, ruleset, 0));
}

// Only `allowed` below `path`, of `handled`.
void Confine(uint64_t handled, const std::string& path, uint64_t allowed) {
  Fd r(Create({handled, 0, 0}));
  CHILD_CHECK(r >= 0);
  if (allowed != 0) CHILD_CHECK(AddRule(r, path, allowed) == 0);
  CHILD_CHECK(Restrict(r) == 0);
}

template <class F>
bool Fails(int error, F call) {
  errno = 0;
  return call() == -1 && errno == error;
}

TEST(landlock_create_ruleset, VersionAndErrors) {
  EXPECT_GE(syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION), 3);
  Attr a = {kReadFile, 0, 0};
  EXPECT_ERRNO(EINVAL,
               syscall(SYS_landlock_create_ruleset, &a, 0, LANDLOCK_CREATE_RULESET_VERSION));
  EXPECT_ERRNO(EINVAL, syscall(SYS_landlock_create_ruleset, nullptr, 8, 1));
  EXPECT_ERRNO(EINVAL, syscall(SYS_landlock_create_ruleset, &a, sizeof a, 1 << 20));
  EXPECT_ERRNO(EFAULT, syscall(SYS_landlock_create_ruleset, nullptr, 8, 0));
  EXPECT_ERRNO(EFAULT, syscall(SYS_landlock_create_ruleset, BadPointer(), 8, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_landlock_create_ruleset, &a, 7, 0));
  EXPECT_ERRNO(E2BIG, syscall(SYS_landlock_create_ruleset, &a, kPage + 1, 0));
  char large[64] = {};
  memcpy(large, &a, sizeof a);
  large[63] = 1;
  EXPECT_ERRNO(E2BIG, syscall(SYS_landlock_create_ruleset, large, sizeof large, 0));
  EXPECT_ERRNO(EINVAL, Create({1ull << 40, 0, 0}));
  EXPECT_ERRNO(EINVAL, Create({kReadFile, 1ull << 40, 0}));
  EXPECT_ERRNO(EINVAL, Create({kReadFile, 0, 1ull << 40}));
  EXPECT_ERRNO(ENOMSG, Create({0, 0, 0}));
  Fd r(Create(a));
  ASSERT_OK(r.get());
  EXPECT_EQ(fcntl(r, F_GETFD), FD_CLOEXEC);
}

TEST(landlock_add_rule, Errors) {
  Scratch s;
  std::string file = s.File("f");
  Fd r(Create({kReadFile | LANDLOCK_ACCESS_FS_MAKE_DIR, 0, 0}));
  ASSERT_OK(r.get());
  Fd dir = s.Dir();
  landlock_path_beneath_attr a = {};
  a.allowed_access = kReadFile;
  a.parent_fd = dir;
  auto add = [&](int fd, int type, const void* attr, int flags) {
    return syscall(SYS_landlock_add_rule, fd, type, attr, flags);
  };
  EXPECT_OK(add(r, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
  EXPECT_ERRNO(EINVAL, add(r, LANDLOCK_RULE_PATH_BENEATH, &a, 1));
  EXPECT_ERRNO(EINVAL, add(r, 77, &a, 0));
  EXPECT_ERRNO(EFAULT, add(r, LANDLOCK_RULE_PATH_BENEATH, BadPointer(), 0));
  EXPECT_ERRNO(EBADF, add(kBadFd, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
  EXPECT_ERRNO(EBADFD, add(dir, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
  a.allowed_access = 0;
  EXPECT_ERRNO(ENOMSG, add(r, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
  a.allowed_access = kWriteFile;
  EXPECT_ERRNO(EINVAL, add(r, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
  a.allowed_access = kReadFile;
  a.parent_fd = kBadFd;
  EXPECT_ERRNO(EBADF, add(r, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
  a.parent_fd = r;
  EXPECT_ERRNO(EBADFD, add(r, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
  Fd plain(open(file.c_str(), O_RDONLY));
  a.parent_fd = plain;
  EXPECT_OK(add(r, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
  a.allowed_access = LANDLOCK_ACCESS_FS_MAKE_DIR;
  EXPECT_ERRNO(EINVAL, add(r, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
}

TEST(landlock_restrict_self, Errors) {
  Fd r(Create({kReadFile, 0, 0}));
  IN_CHILD([&] {
    if (!IsRoot()) {
      CHILD_CHECK(Fails(EPERM, [&] { return syscall(SYS_landlock_restrict_self, r.get(), 0); }));
    }
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    CHILD_CHECK(
        Fails(EINVAL, [&] { return syscall(SYS_landlock_restrict_self, r.get(), 1 << 20); }));
    CHILD_CHECK(Fails(EBADF, [&] { return syscall(SYS_landlock_restrict_self, kBadFd, 0); }));
    CHILD_CHECK(Fails(EBADFD, [&] { return syscall(SYS_landlock_restrict_self, 1, 0); }) ||
                errno == EBADFD);
    for (int i = 0; i < 16; ++i) CHILD_CHECK(Restrict(r) == 0);
    CHILD_CHECK(Fails(E2BIG, [&] { return Restrict(r); }));
  });
}

TEST(landlock_restrict_self, ReadingAndWriting) {
  Scratch s;
  mkdir((s / "in").c_str(), 0755);
  mkdir((s / "in/deep").c_str(), 0755);
  std::string in = s.File("in/f", "hello"), deep = s.File("in/deep/f", "x"), out = s.File("out");
  Fd before(open(out.c_str(), O_RDWR));
  IN_CHILD([&] {
    Confine(kReadFile | kReadDir | kWriteFile, s / "in", kReadFile | kReadDir);
    CHILD_CHECK(Fd(open(in.c_str(), O_RDONLY)) >= 0);
    CHILD_CHECK(Fd(open(deep.c_str(), O_RDONLY)) >= 0);
    CHILD_CHECK(Fd(open((s / "in").c_str(), O_RDONLY | O_DIRECTORY)) >= 0);
    CHILD_CHECK(Fails(EACCES, [&] { return open(in.c_str(), O_WRONLY); }));
    CHILD_CHECK(Fails(EACCES, [&] { return open(in.c_str(), O_RDWR); }));
    CHILD_CHECK(Fails(EACCES, [&] { return open(out.c_str(), O_RDONLY); }));
    CHILD_CHECK(Fails(EACCES, [&] { return open(s.c_str(), O_RDONLY | O_DIRECTORY); }));
    // What is not handled is free, and what is open stays usable.
    CHILD_CHECK(Fd(open(out.c_str(), O_PATH)) >= 0);
    CHILD_CHECK(write(before, "y", 1) == 1);
    CHILD_CHECK(mkdir((s / "made").c_str(), 0755) == 0);
    struct stat st;
    CHILD_CHECK(stat(out.c_str(), &st) == 0);
    // Pipes have no place.
    Pipe p;
    CHILD_CHECK(write(p.w, "x", 1) == 1);
    // Children are confined too, and can only lose more.
    CHILD_CHECK(RunChild([&] {
                  CHILD_CHECK(Fails(EACCES, [&] { return open(out.c_str(), O_RDONLY); }));
                  Confine(kReadFile, s.path(), kReadFile);
                  CHILD_CHECK(Fails(EACCES, [&] { return open(out.c_str(), O_RDONLY); }));
                  CHILD_CHECK(Fd(open(in.c_str(), O_RDONLY)) >= 0);
                  Confine(kReadFile, s / "in/deep", kReadFile);
                  CHILD_CHECK(Fails(EACCES, [&] { return open(in.c_str(), O_RDONLY); }));
                  CHILD_CHECK(Fd(open(deep.c_str(), O_RDONLY)) >= 0);
                }) == 0);
  });
}

TEST(landlock_restrict_self, MakingAndRemoving) {
  Scratch s;
  mkdir((s / "in").c_str(), 0755);
  mkdir((s / "d").c_str(), 0755);
  std::string file = s.File("f"), inside = s.File("in/f");
  IN_CHILD([&] {
    Confine(
        kAbi1 & ~(kReadFile | kReadDir | kWriteFile | LANDLOCK_ACCESS_FS_EXECUTE), s / "in",
        LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_SYM);
    CHILD_CHECK(Fails(EACCES, [&] { return mkdir((s / "x").c_str(), 0755); }));
    CHILD_CHECK(Fails(EACCES, [&] { return mkdir((s / "in/x").c_str(), 0755); }));
    CHILD_CHECK(Fails(EEXIST, [&] { return mkdir((s / "d").c_str(), 0755); }));
    CHILD_CHECK(Fails(EACCES, [&] { return rmdir((s / "d").c_str()); }));
    CHILD_CHECK(Fails(EACCES, [&] { return unlink(file.c_str()); }));
    CHILD_CHECK(Fails(EACCES, [&] { return symlink("a", (s / "l").c_str()); }));
    CHILD_CHECK(symlink("a", (s / "in/l").c_str()) == 0);
    CHILD_CHECK(Fails(EACCES, [&] { return mkfifo((s / "in/p").c_str(), 0600); }));
    CHILD_CHECK(Fails(EACCES, [&] { return creat((s / "n").c_str(), 0600); }));
    CHILD_CHECK(Fd(creat((s / "in/n").c_str(), 0600)) >= 0);
    CHILD_CHECK(Fd(open(file.c_str(), O_RDWR | O_CREAT, 0600)) >= 0);
    // Within one directory names may change; to another one only with REFER.
    CHILD_CHECK(rename((s / "in/n").c_str(), (s / "in/m").c_str()) == 0);
    CHILD_CHECK(link((s / "in/m").c_str(), (s / "in/k").c_str()) == 0);
    CHILD_CHECK(Fails(EACCES, [&] { return rename((s / "in/m").c_str(), (s / "m").c_str()); }));
    CHILD_CHECK(Fails(EACCES, [&] { return rename(file.c_str(), (s / "in/g").c_str()); }));
    CHILD_CHECK(Fails(EXDEV, [&] { return link(file.c_str(), (s / "in/g").c_str()); }));
    CHILD_CHECK(unlink((s / "in/k").c_str()) == 0);
    sockaddr_un a = {AF_UNIX, {}};
    strcpy(a.sun_path, (s / "in/s").c_str());
    Fd sock(socket(AF_UNIX, SOCK_STREAM, 0));
    CHILD_CHECK(
        Fails(EACCES, [&] { return bind(sock, reinterpret_cast<sockaddr*>(&a), sizeof a); }));
  });
}

TEST(landlock_restrict_self, Refer) {
  Scratch s;
  for (const char* d : {"a", "a/one", "a/two", "b"}) mkdir((s / d).c_str(), 0755);
  s.File("a/one/f"), s.File("b/g");
  IN_CHILD([&] {
    Fd r(Create({kRefer | kReadFile | kWriteFile, 0, 0}));
    CHILD_CHECK(AddRule(r, s / "a", kRefer | kReadFile) == 0);
    CHILD_CHECK(AddRule(r, s / "b", kRefer | kReadFile | kWriteFile) == 0);
    CHILD_CHECK(Restrict(r) == 0);
    CHILD_CHECK(rename((s / "a/one/f").c_str(), (s / "a/two/f").c_str()) == 0);
    // It could be written there: more than before.
    CHILD_CHECK(Fails(EXDEV, [&] { return rename((s / "a/two/f").c_str(), (s / "b/f").c_str()); }));
    CHILD_CHECK(rename((s / "b/g").c_str(), (s / "a/g").c_str()) == 0);
    CHILD_CHECK(link((s / "a/g").c_str(), (s / "a/one/g").c_str()) == 0);
    CHILD_CHECK(Fails(EXDEV, [&] { return link((s / "a/g").c_str(), (s / "b/g").c_str()); }));
  });
}

TEST(landlock_restrict_self, Truncating) {
  Scratch s;
  mkdir((s / "in").c_str(), 0755);
  std::string in = s.File("in/f", "hello"), out = s.File("out", "hello");
  Fd before(open(out.c_str(), O_RDWR));
  IN_CHILD([&] {
    Confine(kTruncate, s / "in", kTruncate);
    CHILD_CHECK(truncate(in.c_str(), 1) == 0);
    CHILD_CHECK(Fails(EACCES, [&] { return truncate(out.c_str(), 1); }));
    CHILD_CHECK(Fails(EACCES, [&] { return open(out.c_str(), O_WRONLY | O_TRUNC); }));
    Fd now(open(out.c_str(), O_RDWR));
    CHILD_CHECK(now >= 0 && Fails(EACCES, [&] { return ftruncate(now, 0); }));
    CHILD_CHECK(ftruncate(before, 2) == 0);
  });
}

TEST(landlock_restrict_self, Executing) {
  IN_CHILD([&] {
    Confine(LANDLOCK_ACCESS_FS_EXECUTE, "", 0);
    CHILD_CHECK(Fails(EACCES, [] { return execl("/bin/true", "true", nullptr); }));
  });
}

TEST(landlock_restrict_self, OtherProcesses) {
  COVERS(kill);
  int version = static_cast<int>(
      syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION));
  if (version < 6) GTEST_SKIP() << "no scopes";
  Fd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un a = {AF_UNIX, {}};
  ASSERT_OK(bind(listener, reinterpret_cast<sockaddr*>(&a), sizeof(sa_family_t)));
  ASSERT_OK(listen(listener, 5));
  socklen_t len = sizeof a;
  ASSERT_OK(getsockname(listener, reinterpret_cast<sockaddr*>(&a), &len));
  IN_CHILD([&] {
    Fd r(Create({0, 0, 3}));
    CHILD_CHECK(r >= 0 && Restrict(r) == 0);
    CHILD_CHECK(Fails(EPERM, [] { return kill(getppid(), 0); }));
    CHILD_CHECK(kill(getpid(), 0) == 0);
    pid_t child = Spawn([] { pause(); });
    CHILD_CHECK(kill(child, SIGKILL) == 0 && WaitFor(child) == Killed(SIGKILL));
    Fd c(socket(AF_UNIX, SOCK_STREAM, 0));
    CHILD_CHECK(Fails(EPERM, [&] { return connect(c, reinterpret_cast<sockaddr*>(&a), len); }));
  });
}

TEST(landlock_restrict_self, MountsStayAsTheyAre) {
  if (!IsRoot()) GTEST_SKIP() << "only root may mount";
  IN_CHILD([&] {
    Confine(kReadFile, "", 0);
    CHILD_CHECK(Fails(EPERM, [] { return mount("none", "/tmp", "tmpfs", 0, ""); }));
  });
}

}  // namespace
}  // namespace uk::test
