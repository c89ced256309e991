// brk, madvise, mincore, msync, mlock and its relatives.
#include <sys/resource.h>

#include "tests/syscalls/memory/fault.h"
#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(brk, GrowsZeroedAndShrinks) {
  IN_CHILD([&] {
    // In a child: the allocator of this process uses the break too.
    auto now = static_cast<unsigned long>(syscall(SYS_brk, 0l));
    auto base = (now + kPage - 1) & ~(kPage - 1);
    CHILD_CHECK(static_cast<unsigned long>(syscall(SYS_brk, base + 4 * kPage)) == base + 4 * kPage);
    auto* p = reinterpret_cast<char*>(base);
    for (size_t i = 0; i < 4 * kPage; i += 256) CHILD_CHECK(p[i] == 0);
    p[3 * kPage] = 'x';
    CHILD_CHECK(static_cast<unsigned long>(syscall(SYS_brk, base + kPage)) == base + kPage);
    CHILD_CHECK(TryRead(p + 3 * kPage).signal == SIGSEGV);
    CHILD_CHECK(static_cast<unsigned long>(syscall(SYS_brk, base + 4 * kPage)) == base + 4 * kPage);
    CHILD_CHECK(p[3 * kPage] == 0);
  });
}

TEST(brk, FailureReturnsTheCurrentBreak) {
  IN_CHILD([&] {
    auto now = syscall(SYS_brk, 0l);
    CHILD_CHECK(syscall(SYS_brk, 1l) == now);
    CHILD_CHECK(syscall(SYS_brk, 1l << 47) == now);
    rlimit lim = {1 << 20, 1 << 20};
    CHILD_CHECK(setrlimit(RLIMIT_DATA, &lim) == 0);
    CHILD_CHECK(syscall(SYS_brk, now + (64l << 20)) == now);
  });
}

TEST(madvise, DontneedDropsAnonymousMemory) {
  Mapping m(4 * kPage);
  memset(m.at(), 'a', 4 * kPage);
  EXPECT_OK(syscall(SYS_madvise, m.at(kPage), 2 * kPage, MADV_DONTNEED));
  EXPECT_EQ(m.at(kPage - 1)[0], 'a');
  EXPECT_EQ(m.at(kPage)[0], 0);
  EXPECT_EQ(m.at(3 * kPage - 1)[0], 0);
  EXPECT_EQ(m.at(3 * kPage)[0], 'a');
}

TEST(madvise, DontneedOfAPrivateFileMappingRereadsTheFile) {
  Scratch dir;
  Fd fd = dir.Open("f", std::string(kPage, 'f'));
  auto* p = static_cast<char*>(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
  p[0] = 'X';
  EXPECT_OK(madvise(p, kPage, MADV_DONTNEED));
  EXPECT_EQ(p[0], 'f');
  munmap(p, kPage);
}

TEST(madvise, RemovePunchesSharedMemory) {
  Mapping m(2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  memset(m.at(), 'a', 2 * kPage);
  EXPECT_OK(madvise(m.at(), kPage, MADV_DONTNEED));
  EXPECT_EQ(m.at()[0], 'a') << "a shared object keeps its contents";
  EXPECT_OK(madvise(m.at(), kPage, MADV_REMOVE));
  EXPECT_EQ(m.at()[0], 0);
  EXPECT_EQ(m.at(kPage)[0], 'a');
}

TEST(madvise, DontforkAndWipeonfork) {
  Mapping m(3 * kPage);
  memset(m.at(), 'a', 3 * kPage);
  EXPECT_OK(madvise(m.at(kPage), kPage, MADV_DONTFORK));
  EXPECT_OK(madvise(m.at(2 * kPage), kPage, MADV_WIPEONFORK));
  IN_CHILD([&] {
    CHILD_CHECK(m.at()[0] == 'a');
    CHILD_CHECK(TryRead(m.at(kPage)).signal == SIGSEGV);
    CHILD_CHECK(m.at(2 * kPage)[0] == 0);
  });
  EXPECT_EQ(m.at(2 * kPage)[0], 'a');
  EXPECT_OK(madvise(m.at(kPage), kPage, MADV_DOFORK));
  EXPECT_OK(madvise(m.at(2 * kPage), kPage, MADV_KEEPONFORK));
  IN_CHILD([&] { CHILD_CHECK(m.at(kPage)[0] == 'a' && m.at(2 * kPage)[0] == 'a'); });
}

TEST(madvise, HintsAndErrors) {
  Mapping m(3 * kPage);
  memset(m.at(), 'a', 3 * kPage);
  for (int advice :
       {MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_COLD, MADV_PAGEOUT,
        MADV_DONTDUMP, MADV_DODUMP, MADV_POPULATE_READ, MADV_POPULATE_WRITE}) {
    EXPECT_OK(syscall(SYS_madvise, m.at(), 3 * kPage, advice)) << advice;
  }
  EXPECT_EQ(m.at()[0], 'a');
  EXPECT_ERRNO(EINVAL, syscall(SYS_madvise, m.at(), kPage, 9999));
  EXPECT_ERRNO(EINVAL, syscall(SYS_madvise, m.at(1), kPage, MADV_NORMAL));
  EXPECT_OK(syscall(SYS_madvise, m.at(), 0l, MADV_NORMAL));
  ASSERT_OK(munmap(m.at(kPage), kPage));
  EXPECT_ERRNO(ENOMEM, syscall(SYS_madvise, m.at(), 3 * kPage, MADV_DONTNEED));
  EXPECT_EQ(m.at(2 * kPage)[0], 0) << "applied around the hole all the same";
}

TEST(madvise, FreeKeepsOrZeroesNeverInvents) {
  Mapping m(kPage);
  memset(m.at(), 'a', kPage);
  EXPECT_OK(madvise(m.at(), kPage, MADV_FREE));
  char c = m.at(100)[0];
  EXPECT_TRUE(c == 'a' || c == 0);
  m.at(100)[0] = 'n';
  EXPECT_EQ(m.at(100)[0], 'n');
  Mapping shared(kPage, PROT_READ, MAP_SHARED | MAP_ANONYMOUS);
  EXPECT_ERRNO(EINVAL, madvise(shared.at(), kPage, MADV_FREE));
}

TEST(mincore, TellsTouchedPages) {
  Mapping m(4 * kPage);
  m.at(kPage)[0] = 1;
  unsigned char vec[4] = {9, 9, 9, 9};
  EXPECT_OK(syscall(SYS_mincore, m.at(), 4 * kPage, vec));
  EXPECT_EQ(vec[1] & 1, 1);
  EXPECT_ERRNO(EINVAL, syscall(SYS_mincore, m.at(1), kPage, vec));
  EXPECT_ERRNO(EFAULT, syscall(SYS_mincore, m.at(), kPage, BadPointer()));
  ASSERT_OK(munmap(m.at(2 * kPage), kPage));
  EXPECT_ERRNO(ENOMEM, syscall(SYS_mincore, m.at(), 4 * kPage, vec));
  EXPECT_OK(syscall(SYS_mincore, m.at(), 0l, vec));
}

TEST(msync, FlagsAndHoles) {
  Scratch dir;
  Fd fd = dir.Open("f", std::string(3 * kPage, 'f'));
  auto* p = static_cast<char*>(mmap(nullptr, 3 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  p[0] = 'S';
  EXPECT_OK(syscall(SYS_msync, p, 3 * kPage, MS_SYNC));
  EXPECT_EQ(ReadFile(dir / "f")[0], 'S');
  EXPECT_OK(syscall(SYS_msync, p, kPage, MS_ASYNC));
  EXPECT_OK(syscall(SYS_msync, p, kPage, MS_INVALIDATE));
  EXPECT_OK(syscall(SYS_msync, p, 0l, MS_SYNC));
  EXPECT_ERRNO(EINVAL, syscall(SYS_msync, p, kPage, MS_SYNC | MS_ASYNC));
  EXPECT_ERRNO(EINVAL, syscall(SYS_msync, p, kPage, 0x100));
  EXPECT_ERRNO(EINVAL, syscall(SYS_msync, p + 1, kPage, MS_SYNC));
  ASSERT_OK(munmap(p + kPage, kPage));
  EXPECT_ERRNO(ENOMEM, syscall(SYS_msync, p, 3 * kPage, MS_SYNC));
  munmap(p, 3 * kPage);
}

TEST(mlock, CountsAndUnlocks) {
  COVERS(munlock, mlock2);
  Mapping m(4 * kPage);
  EXPECT_OK(syscall(SYS_mlock, m.at(), 2 * kPage));
  EXPECT_EQ(atol(ProcField("/proc/self/status", "VmLck").c_str()), 8);
  EXPECT_OK(syscall(SYS_mlock, m.at(), 2 * kPage)) << "locks do not nest";
  EXPECT_OK(syscall(SYS_munlock, m.at(), 2 * kPage));
  EXPECT_EQ(atol(ProcField("/proc/self/status", "VmLck").c_str()), 0);
  EXPECT_OK(syscall(SYS_mlock2, m.at(), kPage, 1 /* MLOCK_ONFAULT */));
  EXPECT_ERRNO(EINVAL, syscall(SYS_mlock2, m.at(), kPage, 8));
  EXPECT_OK(syscall(SYS_munlock, m.at(), kPage));
  ASSERT_OK(munmap(m.at(kPage), kPage));
  EXPECT_ERRNO(ENOMEM, syscall(SYS_mlock, m.at(), 4 * kPage));
  EXPECT_ERRNO(ENOMEM, syscall(SYS_munlock, m.at(), 4 * kPage));
  syscall(SYS_munlock, m.at(), kPage);
}

TEST(mlock, LimitForOrdinaryUsers) {
  EXPECT_EQ(RunChild([] {
              rlimit lim = {kPage, kPage};
              CHILD_CHECK(setrlimit(RLIMIT_MEMLOCK, &lim) == 0);
              if (IsRoot()) CHILD_CHECK(setresuid(12345, 12345, 12345) == 0);
              Mapping m(2 * kPage);
              CHILD_CHECK(mlock(m.at(), kPage) == 0);
              CHILD_CHECK(mlock(m.at(), 2 * kPage) == -1 && errno == ENOMEM);
              return 0;
            }),
            Exited(0));
}

TEST(mlockall, FlagsAndUnlock) {
  COVERS(munlockall);
  EXPECT_ERRNO(EINVAL, syscall(SYS_mlockall, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_mlockall, 64));
  EXPECT_ERRNO(EINVAL, syscall(SYS_mlockall, 4)) << "ONFAULT alone";
  IN_CHILD([&] {
    rlimit lim;
    CHILD_CHECK(getrlimit(RLIMIT_MEMLOCK, &lim) == 0);
    if (IsRoot() || lim.rlim_cur > (64ul << 20)) {
      CHILD_CHECK(syscall(SYS_mlockall, MCL_CURRENT) == 0);
      CHILD_CHECK(atol(ProcField("/proc/self/status", "VmLck").c_str()) > 0);
    }
    CHILD_CHECK(syscall(SYS_munlockall) == 0);
    CHILD_CHECK(atol(ProcField("/proc/self/status", "VmLck").c_str()) == 0);
  });
}

}  // namespace
}  // namespace uk::test
