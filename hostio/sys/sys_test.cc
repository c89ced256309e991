#include <gtest/gtest.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>

#include <string>

#include "hostio/sys/event.h"
#include "hostio/sys/fd.h"
#include "hostio/sys/file.h"
#include "hostio/sys/mem.h"
#include "hostio/sys/process.h"
#include "hostio/sys/socket.h"
#include "hostio/sys/tty.h"

namespace uk::sys {
namespace {

bool is_open(int fd) { return fcntl(fd, F_GETFD).has_value(); }
std::span<const std::byte> bytes(const char* s) { return std::as_bytes(std::span(s, strlen(s))); }

// Sets up a directory of its own for each test and removes it.
class SysFile : public testing::Test {
 protected:
  void SetUp() override {
    const char* base = getenv("TEST_TMPDIR");
    path_ = std::string(base != nullptr ? base : "/tmp") + "/sys_test.XXXXXX";
    ASSERT_NE(mkdtemp(path_.data()), nullptr);
    dir_ = open(path_.c_str(), O_RDONLY | O_DIRECTORY).value();
  }
  void TearDown() override {
    for (const char* name : {"a", "b", "c"}) (void)unlinkat(dir_.get(), name, 0);
    EXPECT_TRUE(unlinkat(AT_FDCWD, path_.c_str(), AT_REMOVEDIR));
  }
  std::string path_;
  Fd dir_;
};

TEST(Fd, ClosesOnceAndMoves) {
  Fd a = memfd_create("t").value();
  int n = a.get();
  Fd b = std::move(a);
  EXPECT_FALSE(a);
  EXPECT_TRUE(is_open(n));
  b = Fd();
  EXPECT_FALSE(is_open(n));
  EXPECT_EQ(b.close().error(), Errno::kBADF);
}

TEST_F(SysFile, ErrorsAreErrnos) {
  EXPECT_EQ(openat(dir_.get(), "missing", O_RDONLY).error(), Errno::kNOENT);
  EXPECT_EQ(mkdirat(dir_.get(), ".", 0700).error(), Errno::kEXIST);
  EXPECT_EQ(read(-1, {}).error(), Errno::kBADF);
  EXPECT_EQ(fadvise(-1, 0, 0, POSIX_FADV_NORMAL).error(), Errno::kBADF);
}

TEST_F(SysFile, ReadsWhatItWrote) {
  Fd f = openat(dir_.get(), "a", O_RDWR | O_CREAT, 0600).value();
  EXPECT_EQ(pwrite(f.get(), bytes("hello"), 3).value(), 5u);
  EXPECT_EQ(fstat(f.get())->st_size, 8);
  char buf[16] = {};
  EXPECT_EQ(pread(f.get(), std::as_writable_bytes(std::span(buf)), 3).value(), 5u);
  EXPECT_STREQ(buf, "hello");
  ASSERT_TRUE(ftruncate(f.get(), 4096));
  EXPECT_EQ(statx(dir_.get(), "a", 0, STATX_SIZE)->stx_size, 4096u);
  EXPECT_EQ(read_file((path_ + "/a").c_str())->size(), 4096u);
  EXPECT_EQ(read_file((path_ + "/a").c_str(), 100).error(), Errno::kFBIG);
}

TEST_F(SysFile, Openat2StaysBeneath) {
  struct open_how how = {};
  how.flags = O_RDONLY;
  how.resolve = RESOLVE_BENEATH;
  EXPECT_EQ(openat2(dir_.get(), "..", how).error(), Errno::kXDEV);
  EXPECT_TRUE(openat2(dir_.get(), ".", how));
}

TEST_F(SysFile, DirectoryEntriesAndLinks) {
  std::string target(1000, 'x');
  ASSERT_TRUE(symlinkat(target.c_str(), dir_.get(), "b"));
  EXPECT_EQ(readlinkat(dir_.get(), "b").value(), target);
  ASSERT_TRUE(renameat2(dir_.get(), "b", dir_.get(), "c", RENAME_NOREPLACE));
  std::byte buf[4096];
  size_t n = getdents64(dir_.get(), buf).value();
  std::string raw(reinterpret_cast<char*>(buf), n);
  EXPECT_NE(raw.find(std::string("c\0", 2)), std::string::npos);
  EXPECT_EQ(getdents64(dir_.get(), buf).value(), 0u);
}

TEST(Mapping, SharedMappingsShareAndUnmap) {
  Fd f = memfd_create("t").value();
  ASSERT_TRUE(ftruncate(f.get(), 2 * kPageSize));
  Mapping a = Mapping::shared(f.get(), 0, 2 * kPageSize).value();
  {
    Mapping b = Mapping::shared(f.get(), kPageSize, kPageSize).value();
    b.data()[5] = std::byte{42};
    void* gone = b.data();
    b.reset();
    unsigned char vec;
    EXPECT_EQ(mincore(gone, kPageSize, &vec).error(), Errno::kNOMEM);
  }
  EXPECT_EQ(a.data()[kPageSize + 5], std::byte{42});
  EXPECT_EQ(Mapping::anonymous(0).error(), Errno::kINVAL);
}

TEST(Event, EventfdCountsAndFutexCompares) {
  Fd e = eventfd(0, O_NONBLOCK).value();
  EXPECT_EQ(eventfd_take(e.get()).error(), Errno::kAGAIN);
  ASSERT_TRUE(eventfd_signal(e.get()));
  ASSERT_TRUE(eventfd_signal(e.get()));
  struct pollfd p = {e.get(), POLLIN, 0};
  EXPECT_EQ(ppoll({&p, 1}, -1, nullptr).value(), 1);
  EXPECT_EQ(eventfd_take(e.get()).value(), 2u);
  EXPECT_EQ(ppoll({&p, 1}, 1000, nullptr).value(), 0);
  uint32_t word = 1;
  EXPECT_EQ(futex_wait(&word, 0, -1, false).error(), Errno::kAGAIN);
  EXPECT_EQ(futex_wait(&word, 1, 1000, false).error(), Errno::kTIMEDOUT);
  EXPECT_EQ(futex_wake(&word, 1, false).value(), 0);
}

TEST(Process, ChildIsSignalledThroughPidfd) {
  pid_t pid = fork().value();
  if (pid == 0) {
    struct pollfd none = {-1, 0, 0};
    (void)ppoll({&none, 1}, -1, nullptr);
    exit_now(1);
  }
  Fd pidfd = pidfd_open(pid).value();
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, WNOHANG).value(), 0);
  ASSERT_TRUE(pidfd_send_signal(pidfd.get(), SIGKILL));
  EXPECT_EQ(waitpid(pid, &status, 0).value(), pid);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  EXPECT_EQ(waitpid(pid, &status, 0).error(), Errno::kCHILD);
}

TEST(Process, BlockedSignalIsTaken) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigset_t old = sigprocmask(SIG_BLOCK, set).value();
  siginfo_t info;
  EXPECT_EQ(sigtake(set, &info).value(), 0);
  ASSERT_TRUE(tgkill(getpid(), gettid(), SIGUSR1));
  EXPECT_EQ(sigtake(set, &info).value(), SIGUSR1);
  EXPECT_TRUE(sigprocmask(SIG_SETMASK, old));
  EXPECT_GE(usable_cpus(), 1);
}

TEST(Socket, DescriptorsTravel) {
  SocketPair pair = socketpair(AF_UNIX, SOCK_SEQPACKET).value();
  PipePair pipe = pipe2().value();
  ASSERT_EQ(send_fd(pair.a.get(), bytes("x"), pipe.write_end.get()).value(), 1u);
  std::byte buf[4];
  ReceivedFd got = recv_fd(pair.b.get(), buf).value();
  ASSERT_TRUE(got.fd);
  ASSERT_TRUE(write_all(got.fd.get(), "hi"));
  EXPECT_EQ(read(pipe.read_end.get(), buf).value(), 2u);
  EXPECT_EQ(buf[0], std::byte{'h'});
}

TEST(Tty, APipeIsNone) {
  PipePair pipe = pipe2().value();
  EXPECT_FALSE(isatty(pipe.read_end.get()));
  EXPECT_EQ(tcgetattr(pipe.read_end.get()).error(), Errno::kNOTTY);
  EXPECT_EQ(get_winsize(pipe.read_end.get()).error(), Errno::kNOTTY);
}

}  // namespace
}  // namespace uk::sys
