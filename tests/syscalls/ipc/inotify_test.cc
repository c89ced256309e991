// inotify: the events of the common operations.
#include <poll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

struct Seen {
  int wd;
  uint32_t mask;
  std::string name;
  bool operator==(const Seen&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Seen& s) {
  return out << "{" << s.wd << ", " << std::hex << s.mask << std::dec << ", " << s.name << "}";
}

// All events that are queued now (the descriptor is non-blocking).
std::vector<Seen> Drain(int fd) {
  alignas(inotify_event) char buffer[8192];
  std::vector<Seen> out;
  ssize_t n;
  while ((n = read(fd, buffer, sizeof buffer)) > 0) {
    for (ssize_t at = 0; at < n;) {
      auto* e = reinterpret_cast<inotify_event*>(buffer + at);
      out.push_back({e->wd, e->mask, e->len ? e->name : ""});
      at += static_cast<ssize_t>(sizeof *e + e->len);
    }
  }
  return out;
}

TEST(inotify_init1, FlagsAndErrors) {
  COVERS(inotify_init);
  Fd fd(syscall(SYS_inotify_init1, IN_NONBLOCK | IN_CLOEXEC));
  ASSERT_OK(fd.get());
  EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  char c[64];
  EXPECT_ERRNO(EAGAIN, read(fd, c, sizeof c));
  EXPECT_ERRNO(EINVAL, syscall(SYS_inotify_init1, 0x1));
  Fd old(syscall(SYS_inotify_init));
  ASSERT_OK(old.get());
  EXPECT_EQ(fcntl(old, F_GETFL) & O_NONBLOCK, 0);
}

TEST(inotify_add_watch, DirectoryEvents) {
  Scratch dir;
  Fd fd(inotify_init1(IN_NONBLOCK));
  int wd = static_cast<int>(syscall(SYS_inotify_add_watch, fd.get(), dir.c_str(),
                                    IN_CREATE | IN_DELETE | IN_MODIFY | IN_MOVE | IN_CLOSE_WRITE));
  ASSERT_OK(wd);
  ASSERT_TRUE(WriteFile(dir / "f", "x"));
  EXPECT_EQ(Drain(fd), (std::vector<Seen>{
                           {wd, IN_CREATE, "f"}, {wd, IN_MODIFY, "f"}, {wd, IN_CLOSE_WRITE, "f"}}));
  ASSERT_OK(mkdir((dir / "d").c_str(), 0755));
  EXPECT_EQ(Drain(fd), (std::vector<Seen>{{wd, IN_CREATE | IN_ISDIR, "d"}}));
  ASSERT_OK(rename((dir / "f").c_str(), (dir / "g").c_str()));
  EXPECT_EQ(Drain(fd), (std::vector<Seen>{{wd, IN_MOVED_FROM, "f"}, {wd, IN_MOVED_TO, "g"}}));
  ASSERT_OK(unlink((dir / "g").c_str()));
  EXPECT_EQ(Drain(fd), (std::vector<Seen>{{wd, IN_DELETE, "g"}}));
}

TEST(inotify_add_watch, FileEventsAndSelfDelete) {
  Scratch dir;
  std::string f = dir.File("f", "abc");
  Fd fd(inotify_init1(IN_NONBLOCK));
  int wd = inotify_add_watch(fd, f.c_str(), IN_ACCESS | IN_OPEN | IN_ATTRIB | IN_DELETE_SELF);
  ASSERT_OK(wd);
  EXPECT_EQ(ReadFile(f), "abc");
  EXPECT_EQ(Drain(fd), (std::vector<Seen>{{wd, IN_OPEN, ""}, {wd, IN_ACCESS, ""}}));
  ASSERT_OK(chmod(f.c_str(), 0600));
  EXPECT_EQ(Drain(fd), (std::vector<Seen>{{wd, IN_ATTRIB, ""}}));
  ASSERT_OK(unlink(f.c_str()));
  EXPECT_EQ(Drain(fd), (std::vector<Seen>{
                           {wd, IN_ATTRIB, ""}, {wd, IN_DELETE_SELF, ""}, {wd, IN_IGNORED, ""}}));
}

TEST(inotify_rm_watch, StopsAndSaysSo) {
  Scratch dir;
  Fd fd(inotify_init1(IN_NONBLOCK));
  int wd = inotify_add_watch(fd, dir.c_str(), IN_CREATE);
  EXPECT_EQ(inotify_add_watch(fd, dir.c_str(), IN_DELETE), wd) << "one watch an inode";
  EXPECT_OK(syscall(SYS_inotify_rm_watch, fd.get(), wd));
  EXPECT_EQ(Drain(fd), (std::vector<Seen>{{wd, IN_IGNORED, ""}}));
  dir.File("f");
  EXPECT_EQ(Drain(fd), std::vector<Seen>{});
  EXPECT_ERRNO(EINVAL, syscall(SYS_inotify_rm_watch, fd.get(), wd));
  EXPECT_ERRNO(EBADF, syscall(SYS_inotify_rm_watch, kBadFd, 1));
  Pipe p;
  EXPECT_ERRNO(EINVAL, syscall(SYS_inotify_rm_watch, p.r.get(), 1));
}

TEST(inotify_add_watch, Errors) {
  Scratch dir;
  std::string f = dir.File("f");
  Fd fd(inotify_init1(IN_NONBLOCK));
  EXPECT_ERRNO(EINVAL, syscall(SYS_inotify_add_watch, fd.get(), dir.c_str(), 0));
  EXPECT_ERRNO(ENOENT, syscall(SYS_inotify_add_watch, fd.get(), (dir / "no").c_str(), IN_CREATE));
  EXPECT_ERRNO(ENOTDIR,
               syscall(SYS_inotify_add_watch, fd.get(), f.c_str(), IN_CREATE | IN_ONLYDIR));
  EXPECT_ERRNO(EBADF, syscall(SYS_inotify_add_watch, kBadFd, dir.c_str(), IN_CREATE));
  EXPECT_ERRNO(EFAULT, syscall(SYS_inotify_add_watch, fd.get(), BadPointer(), IN_CREATE));
}

TEST(inotify_add_watch, PollAndFionreadAndOneshot) {
  Scratch dir;
  Fd fd(inotify_init1(IN_NONBLOCK));
  int wd = inotify_add_watch(fd, dir.c_str(), IN_CREATE | IN_ONESHOT);
  pollfd p = {fd, POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 0), 0);
  dir.File("a");
  dir.File("b");
  EXPECT_EQ(poll(&p, 1, 0), 1);
  int bytes = 0;
  EXPECT_OK(ioctl(fd, FIONREAD, &bytes));
  EXPECT_EQ(bytes, 48) << "two headers and one padded name";
  EXPECT_EQ(Drain(fd), (std::vector<Seen>{{wd, IN_CREATE, "a"}, {wd, IN_IGNORED, ""}}));
}

}  // namespace
}  // namespace uk::test
