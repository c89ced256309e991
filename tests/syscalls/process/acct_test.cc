// acct(2): who may turn accounting on, what it takes for a file, and what a record says.
#include <linux/acct.h>
#include <sys/syscall.h>

#include <cmath>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

long Acct(const char* path) { return syscall(SYS_acct, path); }

// The record of `pid` in the file; null if there is none.
const acct_v3* RecordOf(const std::string& records, pid_t pid) {
  for (size_t at = 0; at + sizeof(acct_v3) <= records.size(); at += sizeof(acct_v3)) {
    const auto* r = reinterpret_cast<const acct_v3*>(records.data() + at);
    if (r->ac_pid == static_cast<uint32_t>(pid)) return r;
  }
  return nullptr;
}

TEST(acct, Errors) {
  Scratch dir;
  const std::string file = dir.File("records");
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, Acct(file.c_str()));
    EXPECT_ERRNO(EPERM, Acct(nullptr));
    return;
  }
  EXPECT_ERRNO(ENOENT, Acct((dir / "none").c_str()));
  EXPECT_ERRNO(EISDIR, Acct(dir.c_str()));
  EXPECT_ERRNO(EACCES, Acct("/dev/null"));
  EXPECT_ERRNO(ENOTDIR, Acct((file + "/x").c_str()));
  EXPECT_ERRNO(EFAULT, Acct(Bad<char>()));
  EXPECT_ERRNO(EINVAL, Acct("/proc/self/comm")) << "a file that is made up";
  EXPECT_OK(Acct(nullptr)) << "off already";
}

TEST(acct, EveryProcessLeavesARecord) {
  if (!IsRoot()) GTEST_SKIP() << "needs CAP_SYS_PACCT";
  Scratch dir;
  const std::string file = dir.File("records");
  ASSERT_OK(Acct(file.c_str()));
  const time_t before = time(nullptr);
  const pid_t plain = Spawn([] { return 3; });
  EXPECT_EQ(WaitFor(plain), Exited(3));
  const pid_t killed = Spawn([] { raise(SIGKILL); });
  EXPECT_EQ(WaitFor(killed), Killed(SIGKILL));
  const pid_t program = Spawn([] { execl("/bin/true", "true", nullptr); });
  EXPECT_EQ(WaitFor(program), Exited(0));
  EXPECT_OK(Acct(nullptr));
  const pid_t unseen = Spawn([] {});
  EXPECT_EQ(WaitFor(unseen), Exited(0));

  const std::string records = ReadFile(file);
  EXPECT_EQ(records.size() % sizeof(acct_v3), 0u);
  EXPECT_EQ(RecordOf(records, unseen), nullptr);
  const acct_v3* r = RecordOf(records, plain);
  ASSERT_NE(r, nullptr);
  EXPECT_EQ(r->ac_version & 0xf, 3);
  EXPECT_EQ(r->ac_exitcode, 3u << 8);
  EXPECT_EQ(r->ac_flag & (AFORK | AXSIG | ACORE), AFORK);
  EXPECT_EQ(r->ac_uid, getuid());
  EXPECT_EQ(r->ac_gid, getgid());
  EXPECT_EQ(r->ac_ppid, static_cast<uint32_t>(getpid()));
  EXPECT_NEAR(r->ac_btime, before, 5);
  EXPECT_GE(r->ac_etime, 0);
  EXPECT_LT(r->ac_etime, 100 * AHZ);
  EXPECT_NE(r->ac_mem, 0);
  r = RecordOf(records, killed);
  ASSERT_NE(r, nullptr);
  EXPECT_EQ(r->ac_exitcode, static_cast<uint32_t>(SIGKILL));
  EXPECT_EQ(r->ac_flag & (AFORK | AXSIG), AFORK | AXSIG);
  r = RecordOf(records, program);
  ASSERT_NE(r, nullptr);
  EXPECT_STREQ(r->ac_comm, "true");
  EXPECT_EQ(r->ac_flag & AFORK, 0);
}

}  // namespace
}  // namespace uk::test
