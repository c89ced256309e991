// syslog, /dev/kmsg and /proc/kmsg: who may read the kernel's log, and how it is told.
#include <linux/capability.h>
#include <poll.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

enum { kRead = 2, kReadAll = 3, kConsoleLevel = 8, kSizeUnread = 9, kSizeBuffer = 10 };

// Linux lets few lines through, or none (kernel.printk_devkmsg).
bool KmsgTakesLines() {
  char text[16] = {};
  Fd setting(open("/proc/sys/kernel/printk_devkmsg", O_RDONLY));
  return setting.get() == -1 || read(setting.get(), text, sizeof text - 1) <= 0 ||
         strncmp(text, "on", 2) == 0;
}

TEST(syslog, ReadsWhatKmsgWrote) {
  Fd out(open("/dev/kmsg", O_WRONLY));
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, syscall(SYS_syslog, 99, nullptr, 0)) << "before anything else";
    EXPECT_ERRNO(EACCES, open("/dev/kmsg", O_WRONLY));
    return;
  }
  if (out.get() == -1) GTEST_SKIP() << "no /dev/kmsg here";
  char text[80];
  int n = snprintf(text, sizeof text, "<13>ukernel syslog test %d", getpid());
  ASSERT_EQ(write(out.get(), text, static_cast<size_t>(n)), n);
  std::vector<char> all(1 << 20);
  long got = syscall(SYS_syslog, kReadAll, all.data(), all.size());
  ASSERT_GT(got, 0);
  std::string log(all.data(), static_cast<size_t>(got));
  if (size_t at = log.find(text + 4); KmsgTakesLines()) {
    ASSERT_NE(at, std::string::npos);
    size_t line = log.rfind('\n', at) + 1;
    EXPECT_EQ(log.substr(line, 5), "<13>[") << "priority, then time";
    EXPECT_EQ(log[at - 2], ']');
  }
  // A short buffer gets whole records, the newest.
  got = syscall(SYS_syslog, kReadAll, all.data(), 2048);
  ASSERT_GT(got, 0);
  EXPECT_EQ(all[0], '<');
  EXPECT_EQ(all[static_cast<size_t>(got) - 1], '\n');
  EXPECT_EQ(syscall(SYS_syslog, kReadAll, all.data(), 0), 0);
  EXPECT_ERRNO(EINVAL, syscall(SYS_syslog, kReadAll, nullptr, 10));
  EXPECT_ERRNO(EINVAL, syscall(SYS_syslog, kConsoleLevel, nullptr, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_syslog, kConsoleLevel, nullptr, 9));
  EXPECT_GE(syscall(SYS_syslog, kSizeUnread, nullptr, 0), 0);
  EXPECT_GT(syscall(SYS_syslog, kSizeBuffer, nullptr, 0), 0);
}

TEST(dev_kmsg, RecordsOneARead) {
  if (!IsRoot()) GTEST_SKIP() << "for CAP_SYSLOG";
  Fd file(open("/dev/kmsg", O_RDWR | O_NONBLOCK));
  if (file.get() == -1) GTEST_SKIP() << "no /dev/kmsg here";
  EXPECT_ERRNO(ESPIPE, lseek(file.get(), 5, SEEK_SET));
  EXPECT_ERRNO(EINVAL, lseek(file.get(), 0, SEEK_CUR));
  ASSERT_OK(lseek(file.get(), 0, SEEK_END));
  char text[80];
  int n = snprintf(text, sizeof text, "ukernel kmsg test %d \x01", getpid());
  ASSERT_EQ(write(file.get(), text, static_cast<size_t>(n)), n);
  std::string want(text, static_cast<size_t>(n) - 1);
  if (char small[4]; KmsgTakesLines()) {
    EXPECT_ERRNO(EINVAL, read(file.get(), small, sizeof small)) << "no room for a record";
  }
  while (KmsgTakesLines()) {  // others may write meanwhile
    char record[8192];
    ssize_t got = read(file.get(), record, sizeof record);
    ASSERT_GT(got, 0);
    std::string line(record, static_cast<size_t>(got));
    if (line.find(want) == std::string::npos) continue;
    unsigned priority;
    unsigned long long seq, us;
    ASSERT_EQ(sscanf(record, "%u,%llu,%llu,", &priority, &seq, &us), 3);
    EXPECT_EQ(priority, 12u) << "user, warning";
    EXPECT_NE(line.find(want + "\\x01\n"), std::string::npos) << line;
    break;
  }
  // At the end there is nothing to read; it can be written to.
  ASSERT_OK(lseek(file.get(), 0, SEEK_SET));
  pollfd p = {file.get(), POLLIN | POLLOUT, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_NE(p.revents & POLLIN, 0);
  std::string line(2000, 'x');
  EXPECT_ERRNO(EINVAL, write(file.get(), line.data(), line.size()));
}

TEST(proc_kmsg, ReadsAsSyslog) {
  COVERS(syslog, read, poll);
  if (!IsRoot()) {
    EXPECT_ERRNO(EACCES, open("/proc/kmsg", O_RDONLY));
    return;
  }
  struct stat st;
  ASSERT_OK(stat("/proc/kmsg", &st));
  EXPECT_EQ(st.st_mode, S_IFREG | 0400u);
  Fd file(open("/proc/kmsg", O_RDWR | O_NONBLOCK));
  ASSERT_OK(file.get());
  char c = 'x';
  EXPECT_ERRNO(EIO, write(file, &c, 1));
  Fd out(open("/dev/kmsg", O_WRONLY));
  if (out.get() == -1 || !KmsgTakesLines()) GTEST_SKIP() << "nothing can be written to the log";
  // Without the newline more may follow, and Linux keeps the record back.
  const std::string line = "ukernel kmsg test " + std::to_string(getpid()) + "\n";
  ASSERT_EQ(write(out, line.data(), line.size()), static_cast<ssize_t>(line.size()));
  pollfd p = {file, POLLIN | POLLOUT, 0};
  ASSERT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(p.revents, POLLIN);
  std::vector<char> buffer(1 << 16);
  std::string all;
  for (ssize_t n; (n = read(file, buffer.data(), buffer.size())) > 0;)
    all.append(buffer.data(), static_cast<size_t>(n));
  EXPECT_EQ(errno, EAGAIN);
  const size_t at = all.find(line);
  ASSERT_NE(at, std::string::npos);
  EXPECT_EQ(all[all.rfind('\n', at) + 1], '<') << "priority first";
}

// Who opened it may go on reading without the capability.
TEST(proc_kmsg, NeedsTheCapabilityToOpen) {
  if (!IsRoot()) GTEST_SKIP() << "gives up what root has";
  IN_CHILD([] {
    Fd before(open("/proc/kmsg", O_RDONLY | O_NONBLOCK));
    CHILD_CHECK(before.get() != -1);
    __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct caps[2] = {};
    CHILD_CHECK(syscall(SYS_capget, &head, caps) == 0);
    caps[1].effective &= ~(1u << (CAP_SYSLOG - 32));
    CHILD_CHECK(syscall(SYS_capset, &head, caps) == 0);
    CHILD_CHECK(open("/proc/kmsg", O_RDONLY) == -1 && errno == EPERM);
    char c;
    CHILD_CHECK(read(before, &c, 0) == 0 || errno == EAGAIN);
  });
}

}  // namespace
}  // namespace uk::test
