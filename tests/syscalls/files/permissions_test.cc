// chmod, chown, access, umask, utime and their families: who may do what, and what is cleared.
#include <grp.h>
#include <sys/time.h>
#include <utime.h>

#include <functional>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

// Whoever has no CAP_FSETID changes what runs with others' ids.
TEST(write, TakesPrivilegesOfTheFileAway) {
  COVERS(ftruncate, truncate, open);
  Scratch dir;
  Fd fd = dir.Open("f", "text");
  const bool root = IsRoot();
  if (root) {
    ASSERT_OK(fchown(fd, 65534, 65534));
  }
  IN_CHILD([&] {
    if (root)
      CHILD_CHECK(setgroups(0, nullptr) == 0 && setresgid(65534, 65534, 65534) == 0 &&
                  setresuid(65534, 65534, 65534) == 0);
    const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
    const std::function<bool()> changes[] = {
        [&] { return pwrite(fd, "x", 1, 0) == 1; },
        [&] { return ftruncate(fd, 3) == 0; },
        [&] { return truncate(path.c_str(), 2) == 0; },
        [&] { return Fd(open(path.c_str(), O_WRONLY | O_TRUNC)) >= 0; },
    };
    for (const auto& change : changes) {
      struct stat st;
      CHILD_CHECK(fchmod(fd, 06750) == 0 && change() && fstat(fd, &st) == 0);
      CHILD_CHECK((st.st_mode & 07777) == 0750);
      // Without execution for the group the bit means locking.
      CHILD_CHECK(fchmod(fd, 06640) == 0 && change() && fstat(fd, &st) == 0);
      CHILD_CHECK((st.st_mode & 07777) == 02640);
    }
  });
}

TEST(chmod, SetsThePermissionBits) {
  COVERS(fchmod, fchmodat);
  Scratch dir;
  std::string f = dir.File("f");
  EXPECT_OK(syscall(SYS_chmod, f.c_str(), 0765));
  EXPECT_EQ(ModeOf(f), 0765u);
  Fd fd(open(f.c_str(), O_RDONLY));
  EXPECT_OK(syscall(SYS_fchmod, fd.get(), 04711));
  EXPECT_EQ(ModeOf(f), 04711u);
  EXPECT_OK(syscall(SYS_fchmodat, dir.Dir().get(), "f", 0600));
  EXPECT_EQ(ModeOf(f), 0600u);
  ASSERT_OK(symlink("f", (dir / "l").c_str()));
  EXPECT_OK(syscall(SYS_chmod, (dir / "l").c_str(), 0640)) << "follows the link";
  EXPECT_EQ(ModeOf(f), 0640u);
  EXPECT_OK(syscall(SYS_chmod, f.c_str(), 0100644)) << "type bits are ignored";
  EXPECT_EQ(ModeOf(f), 0644u);
}

TEST(chmod, Errors) {
  Scratch dir;
  EXPECT_ERRNO(ENOENT, syscall(SYS_chmod, (dir / "no").c_str(), 0644));
  EXPECT_ERRNO(EFAULT, syscall(SYS_chmod, BadPointer(), 0644));
  EXPECT_ERRNO(EBADF, syscall(SYS_fchmod, kBadFd, 0644));
  EXPECT_ERRNO(EBADF, syscall(SYS_fchmodat, kBadFd, "f", 0644));
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, syscall(SYS_chmod, "/tmp", 0777));
  }
}

TEST(fchmodat2, NoFollowRefusesLinks) {
  Scratch dir;
  std::string f = dir.File("f");
  ASSERT_OK(symlink("f", (dir / "l").c_str()));
  constexpr int kFchmodat2 = 452;
  EXPECT_OK(syscall(kFchmodat2, AT_FDCWD, f.c_str(), 0604, AT_SYMLINK_NOFOLLOW));
  EXPECT_EQ(ModeOf(f), 0604u);
  EXPECT_ERRNO(EOPNOTSUPP,
               syscall(kFchmodat2, AT_FDCWD, (dir / "l").c_str(), 0600, AT_SYMLINK_NOFOLLOW));
  EXPECT_ERRNO(EINVAL, syscall(kFchmodat2, AT_FDCWD, f.c_str(), 0600, 0x40000000));
  Fd fd(open(f.c_str(), O_PATH));
  EXPECT_OK(syscall(kFchmodat2, fd.get(), "", 0600, AT_EMPTY_PATH));
}

TEST(chown, OwnerMayKeepOnlyRootMayGive) {
  COVERS(fchown, lchown, fchownat);
  Scratch dir;
  std::string f = dir.File("f");
  Fd fd(open(f.c_str(), O_RDONLY));
  ASSERT_OK(symlink("f", (dir / "l").c_str()));
  EXPECT_OK(syscall(SYS_chown, f.c_str(), -1, -1));
  EXPECT_OK(syscall(SYS_chown, f.c_str(), geteuid(), getegid()));
  struct stat st;
  if (IsRoot()) {
    EXPECT_OK(syscall(SYS_chown, f.c_str(), 1234, -1));
    ASSERT_OK(stat(f.c_str(), &st));
    EXPECT_EQ(st.st_uid, 1234u);
    EXPECT_EQ(st.st_gid, 0u);
    EXPECT_OK(syscall(SYS_fchown, fd.get(), -1, 4321));
    ASSERT_OK(stat(f.c_str(), &st));
    EXPECT_EQ(st.st_gid, 4321u);
    EXPECT_OK(syscall(SYS_lchown, (dir / "l").c_str(), 7, 8));
    ASSERT_OK(lstat((dir / "l").c_str(), &st));
    EXPECT_EQ(st.st_uid, 7u);
    ASSERT_OK(stat(f.c_str(), &st));
    EXPECT_EQ(st.st_uid, 1234u);
    EXPECT_OK(syscall(SYS_fchownat, dir.Dir().get(), "l", 9, 9, AT_SYMLINK_NOFOLLOW));
    ASSERT_OK(lstat((dir / "l").c_str(), &st));
    EXPECT_EQ(st.st_uid, 9u);
    EXPECT_OK(syscall(SYS_fchownat, fd.get(), "", 10, 10, AT_EMPTY_PATH));
  } else {
    EXPECT_ERRNO(EPERM, syscall(SYS_chown, f.c_str(), 0, -1));
    EXPECT_ERRNO(EPERM, syscall(SYS_fchown, fd.get(), -1, 1));
    EXPECT_ERRNO(EPERM, syscall(SYS_lchown, (dir / "l").c_str(), 0, 0));
    EXPECT_ERRNO(EPERM, syscall(SYS_fchownat, dir.Dir().get(), "f", 0, 0, 0));
  }
  EXPECT_ERRNO(ENOENT, syscall(SYS_chown, (dir / "no").c_str(), 0, 0));
  EXPECT_ERRNO(ENOENT, syscall(SYS_lchown, (dir / "no").c_str(), 0, 0));
  EXPECT_ERRNO(EBADF, syscall(SYS_fchown, kBadFd, 0, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_fchownat, AT_FDCWD, f.c_str(), 0, 0, 0x40000000));
  EXPECT_ERRNO(EFAULT, syscall(SYS_chown, BadPointer(), 0, 0));
}

TEST(chown, ClearsSetuidBits) {
  Scratch dir;
  std::string f = dir.File("f");
  ASSERT_OK(chmod(f.c_str(), 06755));
  ASSERT_OK(chown(f.c_str(), geteuid(), getegid()));
  EXPECT_EQ(ModeOf(f), 0755u) << "for root too";
}

TEST(write, ClearsSetuidForOrdinaryUsers) {
  Scratch dir;
  std::string f = dir.File("f", "x", 0666);
  ASSERT_OK(chmod(dir.c_str(), 0755));
  ASSERT_OK(chmod(f.c_str(), 04777));
  IN_CHILD([&] {
    if (IsRoot()) {
      CHILD_CHECK(setresgid(12345, 12345, 12345) == 0);
      CHILD_CHECK(setresuid(12345, 12345, 12345) == 0);
    }
    Fd fd(open(f.c_str(), O_WRONLY));
    CHILD_CHECK(write(fd, "y", 1) == 1);
  });
  EXPECT_EQ(ModeOf(f), 0777u);
}

TEST(access, ChecksRealIds) {
  COVERS(faccessat, faccessat2);
  Scratch dir;
  std::string f = dir.File("f", "", 0600);
  EXPECT_OK(syscall(SYS_access, f.c_str(), F_OK));
  EXPECT_OK(syscall(SYS_access, f.c_str(), R_OK | W_OK));
  EXPECT_ERRNO(EACCES, syscall(SYS_access, f.c_str(), X_OK)) << "no x bit at all: root neither";
  ASSERT_OK(chmod(f.c_str(), 0));
  if (IsRoot()) {
    EXPECT_OK(syscall(SYS_access, f.c_str(), R_OK | W_OK));
  } else {
    EXPECT_ERRNO(EACCES, syscall(SYS_access, f.c_str(), R_OK));
  }
  EXPECT_ERRNO(EINVAL, syscall(SYS_access, f.c_str(), 8));
  EXPECT_ERRNO(ENOENT, syscall(SYS_access, (dir / "no").c_str(), F_OK));
  EXPECT_ERRNO(EFAULT, syscall(SYS_access, BadPointer(), F_OK));
  EXPECT_OK(syscall(SYS_faccessat, dir.Dir().get(), "f", F_OK));
  EXPECT_ERRNO(EBADF, syscall(SYS_faccessat, kBadFd, "f", F_OK));
  ASSERT_OK(symlink("nowhere", (dir / "l").c_str()));
  std::string l = dir / "l";
  EXPECT_ERRNO(ENOENT, syscall(SYS_faccessat2, AT_FDCWD, l.c_str(), F_OK, 0));
  EXPECT_OK(syscall(SYS_faccessat2, AT_FDCWD, l.c_str(), F_OK, AT_SYMLINK_NOFOLLOW));
  EXPECT_ERRNO(EINVAL, syscall(SYS_faccessat2, AT_FDCWD, l.c_str(), F_OK, 0x40000000));
}

TEST(access, EffectiveIdsOnRequest) {
  Scratch dir;
  ASSERT_OK(chmod(dir.c_str(), 0755));
  std::string f = dir.File("f", "", 0600);
  if (IsRoot()) {
    IN_CHILD([&] {
      CHILD_CHECK(setresuid(12345, 0, 0) == 0);
      CHILD_CHECK(syscall(SYS_access, f.c_str(), R_OK) == -1 && errno == EACCES);
      CHILD_CHECK(syscall(SYS_faccessat2, AT_FDCWD, f.c_str(), R_OK, AT_EACCESS) == 0);
    });
  } else {
    EXPECT_OK(syscall(SYS_faccessat2, AT_FDCWD, f.c_str(), R_OK, AT_EACCESS));
    EXPECT_ERRNO(EACCES, syscall(SYS_faccessat2, AT_FDCWD, "/etc/passwd", W_OK, AT_EACCESS));
  }
}

TEST(access, GroupBitsApplyThroughSupplementaryGroups) {
  if (!IsRoot()) {
    EXPECT_ERRNO(EACCES, access("/etc/passwd", W_OK));
    return;
  }
  Scratch dir;
  ASSERT_OK(chmod(dir.c_str(), 0755));
  std::string f = dir.File("f");
  ASSERT_OK(chown(f.c_str(), 1, 777));
  ASSERT_OK(chmod(f.c_str(), 0040));
  IN_CHILD([&] {
    gid_t groups[] = {777};
    CHILD_CHECK(setgroups(1, groups) == 0);
    CHILD_CHECK(setresgid(12345, 12345, 12345) == 0);
    CHILD_CHECK(setresuid(12345, 12345, 12345) == 0);
    CHILD_CHECK(access(f.c_str(), R_OK) == 0);
    CHILD_CHECK(access(f.c_str(), W_OK) == -1 && errno == EACCES);
  });
  // The owner's class decides alone, even where the group's would grant.
  IN_CHILD([&] {
    CHILD_CHECK(setgroups(0, nullptr) == 0);
    CHILD_CHECK(setresgid(777, 777, 777) == 0);
    CHILD_CHECK(setresuid(1, 1, 1) == 0);
    CHILD_CHECK(access(f.c_str(), R_OK) == -1 && errno == EACCES);
  });
}

TEST(umask, ReturnsTheOldAndKeepsPermissionBitsOnly) {
  IN_CHILD([&] {
    umask(022);
    CHILD_CHECK(syscall(SYS_umask, 07077) == 022);
    CHILD_CHECK(syscall(SYS_umask, 022) == 077);
  });
}

TEST(utimensat, NowOmitAndExactTimes) {
  Scratch dir;
  std::string f = dir.File("f");
  timespec ts[2] = {{111, 222}, {333, 444}};
  EXPECT_OK(syscall(SYS_utimensat, AT_FDCWD, f.c_str(), ts, 0));
  struct stat st;
  ASSERT_OK(stat(f.c_str(), &st));
  EXPECT_EQ(st.st_atim.tv_sec, 111);
  EXPECT_EQ(st.st_atim.tv_nsec, 222);
  EXPECT_EQ(st.st_mtim.tv_nsec, 444);
  timespec omit[2] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
  EXPECT_OK(syscall(SYS_utimensat, AT_FDCWD, f.c_str(), omit, 0));
  ASSERT_OK(stat(f.c_str(), &st));
  EXPECT_EQ(st.st_atim.tv_sec, 111);
  EXPECT_GT(st.st_mtim.tv_sec, 1000000);
  Fd fd(open(f.c_str(), O_RDONLY));
  EXPECT_OK(syscall(SYS_utimensat, fd.get(), nullptr, ts, 0)) << "no path: the descriptor";
  ASSERT_OK(symlink("f", (dir / "l").c_str()));
  timespec other[2] = {{5, 0}, {6, 0}};
  EXPECT_OK(syscall(SYS_utimensat, AT_FDCWD, (dir / "l").c_str(), other, AT_SYMLINK_NOFOLLOW));
  ASSERT_OK(stat(f.c_str(), &st));
  EXPECT_EQ(st.st_mtim.tv_sec, 333);
  timespec wrong[2] = {{0, 1000000000}, {0, 0}};
  EXPECT_ERRNO(EINVAL, syscall(SYS_utimensat, AT_FDCWD, f.c_str(), wrong, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_utimensat, AT_FDCWD, f.c_str(), ts, 0x40000000));
  EXPECT_ERRNO(EFAULT, syscall(SYS_utimensat, AT_FDCWD, f.c_str(), BadPointer(), 0));
  EXPECT_ERRNO(ENOENT, syscall(SYS_utimensat, AT_FDCWD, (dir / "no").c_str(), ts, 0));
}

TEST(utime, OldInterfaces) {
  COVERS(utimes, futimesat);
  Scratch dir;
  std::string f = dir.File("f");
  utimbuf u = {100, 200};
  EXPECT_OK(syscall(SYS_utime, f.c_str(), &u));
  struct stat st;
  ASSERT_OK(stat(f.c_str(), &st));
  EXPECT_EQ(st.st_atime, 100);
  EXPECT_EQ(st.st_mtime, 200);
  timeval tv[2] = {{300, 5}, {400, 6}};
  EXPECT_OK(syscall(SYS_utimes, f.c_str(), tv));
  ASSERT_OK(stat(f.c_str(), &st));
  EXPECT_EQ(st.st_mtim.tv_sec, 400);
  EXPECT_EQ(st.st_mtim.tv_nsec, 6000);
  tv[0].tv_sec = 500;
  EXPECT_OK(syscall(SYS_futimesat, dir.Dir().get(), "f", tv));
  ASSERT_OK(stat(f.c_str(), &st));
  EXPECT_EQ(st.st_atime, 500);
  EXPECT_OK(syscall(SYS_utime, f.c_str(), nullptr));
  ASSERT_OK(stat(f.c_str(), &st));
  EXPECT_GT(st.st_atime, 1000000);
  tv[0].tv_usec = 1000000;
  EXPECT_ERRNO(EINVAL, syscall(SYS_utimes, f.c_str(), tv));
  EXPECT_ERRNO(ENOENT, syscall(SYS_utime, (dir / "no").c_str(), &u));
  EXPECT_ERRNO(EFAULT, syscall(SYS_utime, f.c_str(), BadPointer()));
  EXPECT_ERRNO(EBADF, syscall(SYS_futimesat, kBadFd, "f", nullptr));
}

TEST(utimensat, OthersFiles) {
  timespec ts[2] = {{111, 222}, {333, 444}};
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, utimensat(AT_FDCWD, "/etc/passwd", ts, 0));
    EXPECT_ERRNO(EACCES, utimensat(AT_FDCWD, "/etc/passwd", nullptr, 0));
    return;
  }
  Scratch dir;
  ASSERT_OK(chmod(dir.c_str(), 0755));
  std::string f = dir.File("f", "", 0666);
  IN_CHILD([&] {
    CHILD_CHECK(setresuid(12345, 12345, 12345) == 0);
    CHILD_CHECK(utimensat(AT_FDCWD, f.c_str(), ts, 0) == -1 && errno == EPERM);
    CHILD_CHECK(utimensat(AT_FDCWD, f.c_str(), nullptr, 0) == 0);
  });
}

}  // namespace
}  // namespace uk::test
