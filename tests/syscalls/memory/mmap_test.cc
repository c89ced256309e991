// mmap and munmap: placement, sharing, file mappings, the signals of bad accesses.
#include <sys/resource.h>

#include "tests/syscalls/memory/fault.h"
#include "tests/syscalls/testing.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

namespace uk::test {
namespace {

void* Map(void* at, size_t len, int prot, int flags, int fd = -1, off_t off = 0) {
  return reinterpret_cast<void*>(
      syscall(SYS_mmap, at, len, prot, flags, static_cast<long>(fd), off));
}

constexpr int kAnon = MAP_PRIVATE | MAP_ANONYMOUS;

TEST(mmap, AnonymousMemoryIsZeroAndPageAligned) {
  auto* p = static_cast<char*>(Map(nullptr, 3 * kPage + 1, PROT_READ | PROT_WRITE, kAnon));
  ASSERT_NE(p, MAP_FAILED);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(p) % kPage, 0u);
  for (size_t i = 0; i < 4 * kPage; i += 512) EXPECT_EQ(p[i], 0);
  p[4 * kPage - 1] = 1;  // the length is rounded up
  EXPECT_OK(munmap(p, 3 * kPage + 1));
  EXPECT_EQ(TryRead(p).signal, SIGSEGV);
  EXPECT_EQ(TryRead(p + 3 * kPage).signal, SIGSEGV);
}

TEST(mmap, Errors) {
  EXPECT_ERRNO(EINVAL, Map(nullptr, 0, PROT_READ, kAnon));
  EXPECT_ERRNO(EINVAL, Map(nullptr, kPage, PROT_READ, MAP_ANONYMOUS)) << "neither kind";
  EXPECT_ERRNO(EINVAL,
               Map(reinterpret_cast<void*>(kPage + 1), kPage, PROT_READ, kAnon | MAP_FIXED));
  EXPECT_ERRNO(EBADF, Map(nullptr, kPage, PROT_READ, MAP_PRIVATE, kBadFd));
  EXPECT_ERRNO(ENOMEM, Map(nullptr, 1ul << 47, PROT_READ, kAnon));
  EXPECT_ERRNO(ENOMEM, Map(nullptr, ~0ul, PROT_READ, kAnon));
  EXPECT_ERRNO(ENOMEM,
               Map(reinterpret_cast<void*>(1ul << 47), kPage, PROT_READ, kAnon | MAP_FIXED));
  Scratch dir;
  Fd fd = dir.Open("f", std::string(kPage, 'x'));
  EXPECT_ERRNO(EINVAL, Map(nullptr, kPage, PROT_READ, MAP_PRIVATE, fd, 100));
  Fd ro(open((dir / "f").c_str(), O_RDONLY));
  EXPECT_ERRNO(EACCES, Map(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, ro));
  Fd wo(open((dir / "f").c_str(), O_WRONLY));
  EXPECT_ERRNO(EACCES, Map(nullptr, kPage, PROT_READ, MAP_PRIVATE, wo));
  EXPECT_ERRNO(ENODEV, Map(nullptr, kPage, PROT_READ, MAP_PRIVATE, dir.Dir()));
  Pipe p;
  EXPECT_ERRNO(ENODEV, Map(nullptr, kPage, PROT_READ, MAP_PRIVATE, p.r));
}

TEST(mmap, FixedReplacesWhatIsThere) {
  Mapping m(4 * kPage);
  memset(m.at(), 'a', 4 * kPage);
  EXPECT_EQ(Map(m.at(kPage), kPage, PROT_READ | PROT_WRITE, kAnon | MAP_FIXED), m.at(kPage));
  EXPECT_EQ(m.at(kPage - 1)[0], 'a');
  EXPECT_EQ(m.at(kPage)[0], 0);
  EXPECT_EQ(m.at(2 * kPage)[0], 'a');
}

TEST(mmap, FixedNoreplaceRefusesOverlap) {
  Mapping m(4 * kPage);
  int flags = kAnon | MAP_FIXED_NOREPLACE;
  EXPECT_ERRNO(EEXIST, Map(m.at(kPage), kPage, PROT_READ, flags));
  ASSERT_OK(munmap(m.at(kPage), kPage));
  EXPECT_EQ(Map(m.at(kPage), kPage, PROT_READ, flags), m.at(kPage));
  EXPECT_ERRNO(EEXIST, Map(m.at(), 2 * kPage, PROT_READ, flags));
}

TEST(mmap, HintIsTakenWhenFree) {
  Mapping m(16 * kPage);
  ASSERT_OK(munmap(m.at(4 * kPage), 4 * kPage));
  void* p = Map(m.at(4 * kPage), kPage, PROT_READ, kAnon);
  EXPECT_EQ(p, m.at(4 * kPage));
  void* q = Map(m.at(), kPage, PROT_READ, kAnon);
  EXPECT_NE(q, m.at()) << "an occupied hint is only a hint";
  munmap(q, kPage);
}

TEST(mmap, ProtectionsAreEnforced) {
  Mapping none(kPage, PROT_NONE), ro(kPage, PROT_READ), rw(kPage, PROT_READ | PROT_WRITE);
  Fault f = TryRead(none.at(10));
  EXPECT_EQ(f.signal, SIGSEGV);
  EXPECT_EQ(f.code, SEGV_ACCERR);
  EXPECT_EQ(f.address, none.at(10));
  EXPECT_EQ(TryRead(ro.at()).signal, 0);
  f = TryWrite(ro.at(7));
  EXPECT_EQ(f.signal, SIGSEGV);
  EXPECT_EQ(f.code, SEGV_ACCERR);
  EXPECT_EQ(f.address, ro.at(7));
  EXPECT_EQ(TryWrite(rw.at()).signal, 0);
  *rw.as<unsigned char>() = 0xc3;  // ret
  f = TryCall(rw.at());
  EXPECT_EQ(f.signal, SIGSEGV) << "not executable";
  EXPECT_EQ(f.address, rw.at());
}

TEST(mmap, UnmappedIsMaperr) {
  void* p = Map(nullptr, kPage, PROT_READ, kAnon);
  ASSERT_OK(munmap(p, kPage));
  Fault f = TryRead(p);
  EXPECT_EQ(f.signal, SIGSEGV);
  EXPECT_EQ(f.code, SEGV_MAPERR);
  EXPECT_EQ(f.address, p);
  f = TryRead(nullptr);
  EXPECT_EQ(f.code, SEGV_MAPERR);
  EXPECT_EQ(f.address, nullptr);
  f = TryRead(reinterpret_cast<void*>(0xffffffff80000000ul));
  EXPECT_EQ(f.signal, SIGSEGV) << "a kernel address";
  f = TryRead(reinterpret_cast<void*>(0x1234567812345678ul));
  EXPECT_EQ(f.signal, SIGSEGV) << "a non-canonical address";
  EXPECT_EQ(f.code, SI_KERNEL);
  EXPECT_EQ(f.address, nullptr);
}

TEST(mmap, SharedAnonymousIsSharedAcrossFork) {
  Mapping m(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  IN_CHILD([&] { *m.as<int>() = 42; });
  EXPECT_EQ(*m.as<int>(), 42);
}

TEST(mmap, PrivateIsCopiedOnFork) {
  Mapping m(4 * kPage);
  *m.as<int>() = 1;
  Gate wrote, check;
  pid_t child = Spawn([&] {
    CHILD_CHECK(*m.as<int>() == 1);
    *m.as<int>() = 2;
    wrote.Open();
    CHILD_CHECK(check.Wait());
    return *m.as<int>() == 2 && *m.as<int>(kPage) == 0 ? 0 : 1;
  });
  ASSERT_TRUE(wrote.Wait());
  EXPECT_EQ(*m.as<int>(), 1);
  *m.as<int>() = 3;
  *m.as<int>(kPage) = 3;
  check.Open();
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(mmap, PrivateFileMappingDoesNotWriteBack) {
  Scratch dir;
  Fd fd = dir.Open("f", std::string(kPage, 'x'));
  auto* p = static_cast<char*>(Map(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd));
  ASSERT_NE(p, MAP_FAILED);
  p[0] = 'Y';
  EXPECT_EQ(ReadFile(dir / "f")[0], 'x');
  ASSERT_EQ(pwrite(fd, "Z", 1, 1), 1);
  EXPECT_EQ(p[0], 'Y');
  munmap(p, kPage);
}

TEST(mmap, SharedFileMappingIsCoherentWithReadAndWrite) {
  Scratch dir;
  Fd fd = dir.Open("f", std::string(2 * kPage, 'x'));
  auto* p = static_cast<char*>(Map(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd));
  ASSERT_NE(p, MAP_FAILED);
  p[5] = 'm';
  char c;
  EXPECT_EQ(pread(fd, &c, 1, 5), 1);
  EXPECT_EQ(c, 'm');
  EXPECT_EQ(pwrite(fd, "w", 1, kPage), 1);
  EXPECT_EQ(p[kPage], 'w');
  auto* q = static_cast<char*>(Map(nullptr, kPage, PROT_READ, MAP_SHARED, fd, kPage));
  ASSERT_NE(q, MAP_FAILED);
  p[kPage + 1] = 'q';
  EXPECT_EQ(q[1], 'q');
  munmap(p, 2 * kPage);
  munmap(q, kPage);
  EXPECT_EQ(ReadFile(dir / "f")[5], 'm') << "outlives the mapping";
}

TEST(mmap, MappingOutlivesDescriptorAndName) {
  Scratch dir;
  Fd fd = dir.Open("f", "still here");
  auto* p = static_cast<char*>(Map(nullptr, kPage, PROT_READ, MAP_PRIVATE, fd));
  fd.reset();
  ASSERT_OK(unlink((dir / "f").c_str()));
  EXPECT_STREQ(p, "still here");
  munmap(p, kPage);
}

TEST(mmap, BeyondEndOfFileIsSigbus) {
  Scratch dir;
  Fd fd = dir.Open("f", "short");
  auto* p = static_cast<char*>(Map(nullptr, 3 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd));
  ASSERT_NE(p, MAP_FAILED);
  EXPECT_EQ(p[5], 0) << "the rest of the last page is zero";
  Fault f = TryRead(p + kPage + 3);
  EXPECT_EQ(f.signal, SIGBUS);
  EXPECT_EQ(f.code, BUS_ADRERR);
  EXPECT_EQ(f.address, p + kPage + 3);
  ASSERT_OK(ftruncate(fd, 2 * kPage));
  EXPECT_EQ(TryRead(p + kPage).signal, 0) << "the file has grown";
  EXPECT_EQ(TryRead(p + 2 * kPage).signal, SIGBUS);
  munmap(p, 3 * kPage);
}

TEST(mmap, SystemCallsFaultWhereTheProgramWould) {
  Scratch dir;
  Fd fd = dir.Open("f", "short");
  auto* p = static_cast<char*>(Map(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd));
  Pipe pipe;
  EXPECT_ERRNO(EFAULT, write(pipe.w, p + kPage, 1)) << "past the end of the file";
  EXPECT_EQ(write(pipe.w, p, 5), 5);
  Mapping ro(kPage, PROT_READ);
  EXPECT_ERRNO(EFAULT, read(pipe.r, ro.at(), 5)) << "read-only memory";
  munmap(p, 2 * kPage);
}

TEST(mmap, PopulateAndNoreserveAndStack) {
  for (int extra : {MAP_POPULATE, MAP_NORESERVE, MAP_STACK, MAP_NORESERVE | MAP_POPULATE}) {
    auto* p = static_cast<char*>(Map(nullptr, 8 * kPage, PROT_READ | PROT_WRITE, kAnon | extra));
    ASSERT_NE(p, MAP_FAILED);
    for (size_t i = 0; i < 8; i++) EXPECT_EQ(p[i * kPage], 0);
    p[0] = 1;
    EXPECT_OK(munmap(p, 8 * kPage));
  }
  // A large reservation costs nothing until touched.
  size_t huge = 1ul << 38;
  auto* p = static_cast<char*>(Map(nullptr, huge, PROT_READ | PROT_WRITE, kAnon | MAP_NORESERVE));
  ASSERT_NE(p, MAP_FAILED);
  p[0] = p[huge / 2] = p[huge - 1] = 1;
  EXPECT_OK(munmap(p, huge));
}

TEST(mmap, Below4G) {
  auto* p = Map(nullptr, kPage, PROT_READ, kAnon | MAP_32BIT);
  ASSERT_NE(p, MAP_FAILED);
  EXPECT_LT(reinterpret_cast<uintptr_t>(p), 1ul << 31);
  munmap(p, kPage);
}

TEST(mmap, AddressSpaceLimit) {
  IN_CHILD([&] {
    rlimit lim = {1ul << 30, 1ul << 30};
    CHILD_CHECK(setrlimit(RLIMIT_AS, &lim) == 0);
    CHILD_CHECK(Map(nullptr, 2ul << 30, PROT_READ, kAnon) == MAP_FAILED && errno == ENOMEM);
    CHILD_CHECK(Map(nullptr, kPage, PROT_READ, kAnon) != MAP_FAILED);
  });
}

TEST(mmap, GrowsdownMappingGrows) {
  // Reserve a window, then put a growing page at its top.
  Mapping window(512 * kPage, PROT_NONE);
  ASSERT_OK(munmap(window.at(), 512 * kPage));
  auto* p = static_cast<char*>(Map(window.at(500 * kPage), kPage, PROT_READ | PROT_WRITE,
                                   kAnon | MAP_FIXED | MAP_GROWSDOWN));
  ASSERT_EQ(p, window.at(500 * kPage));
  EXPECT_EQ(TryWrite(p - 1).signal, 0);
  EXPECT_EQ(TryWrite(p - 3 * kPage).signal, 0);
}

TEST(mmap, ManySmallMappingsMerge) {
  constexpr int kCount = 2000;
  Mapping window(kCount * kPage, PROT_NONE);
  for (int i = 0; i < kCount; i++) {
    ASSERT_EQ(Map(window.at(i * kPage), kPage, PROT_READ | PROT_WRITE, kAnon | MAP_FIXED),
              window.at(i * kPage));
  }
  for (int i = 0; i < kCount; i++) window.at(i * kPage)[0] = static_cast<char>(i);
  int lines = 0;
  uintptr_t lo = reinterpret_cast<uintptr_t>(window.at()), hi = lo + kCount * kPage;
  for (const std::string& line : Lines(ReadFile("/proc/self/maps"))) {
    uintptr_t start = strtoul(line.c_str(), nullptr, 16);
    lines += start >= lo && start < hi;
  }
  EXPECT_LE(lines, 1) << "neighbours with equal rights are one area";
}

TEST(munmap, SplitsAndIgnoresHoles) {
  Mapping m(5 * kPage);
  memset(m.at(), 'a', 5 * kPage);
  EXPECT_OK(syscall(SYS_munmap, m.at(2 * kPage), kPage));
  EXPECT_EQ(TryRead(m.at(2 * kPage)).signal, SIGSEGV);
  EXPECT_EQ(m.at(kPage)[0], 'a');
  EXPECT_EQ(m.at(3 * kPage)[0], 'a');
  EXPECT_OK(syscall(SYS_munmap, m.at(kPage), 3 * kPage)) << "a hole inside is fine";
  EXPECT_OK(syscall(SYS_munmap, m.at(kPage), kPage)) << "nothing there is fine";
  EXPECT_ERRNO(EINVAL, syscall(SYS_munmap, m.at(1), kPage));
  EXPECT_ERRNO(EINVAL, syscall(SYS_munmap, m.at(), 0l));
  EXPECT_ERRNO(EINVAL, syscall(SYS_munmap, 1ul << 47, kPage));
}

TEST(munmap, RemappingGivesZerosAgain) {
  for (int i = 0; i < 100; i++) {
    auto* p = static_cast<char*>(Map(nullptr, 16 * kPage, PROT_READ | PROT_WRITE, kAnon));
    ASSERT_NE(p, MAP_FAILED);
    for (size_t at = 0; at < 16 * kPage; at += kPage) ASSERT_EQ(p[at], 0);
    memset(p, 0xff, 16 * kPage);
    ASSERT_OK(munmap(p, 16 * kPage));
  }
}

}  // namespace
}  // namespace uk::test
