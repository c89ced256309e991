// mprotect and protection keys; code that changes under the processor.
#include "tests/syscalls/memory/fault.h"
#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(mprotect, ChangesRightsOfPartOfAMapping) {
  Mapping m(3 * kPage);
  memset(m.at(), 'a', 3 * kPage);
  EXPECT_OK(syscall(SYS_mprotect, m.at(kPage), kPage, PROT_READ));
  EXPECT_EQ(TryWrite(m.at()).signal, 0);
  Fault f = TryWrite(m.at(kPage + 9));
  EXPECT_EQ(f.signal, SIGSEGV);
  EXPECT_EQ(f.code, SEGV_ACCERR);
  EXPECT_EQ(f.address, m.at(kPage + 9));
  EXPECT_EQ(TryWrite(m.at(2 * kPage)).signal, 0);
  EXPECT_OK(syscall(SYS_mprotect, m.at(kPage), kPage, PROT_NONE));
  EXPECT_EQ(TryRead(m.at(kPage)).signal, SIGSEGV);
  EXPECT_OK(syscall(SYS_mprotect, m.at(kPage), kPage, PROT_READ | PROT_WRITE));
  EXPECT_EQ(m.at(kPage)[0], 'a') << "contents stay";
}

TEST(mprotect, Errors) {
  Mapping m(3 * kPage);
  EXPECT_ERRNO(EINVAL, syscall(SYS_mprotect, m.at(1), kPage, PROT_READ));
  EXPECT_ERRNO(EINVAL, syscall(SYS_mprotect, m.at(), kPage, 0x10000000));
  EXPECT_OK(syscall(SYS_mprotect, m.at(), 0l, PROT_NONE));
  ASSERT_OK(munmap(m.at(kPage), kPage));
  EXPECT_ERRNO(ENOMEM, syscall(SYS_mprotect, m.at(), 3 * kPage, PROT_READ));
  EXPECT_ERRNO(ENOMEM, syscall(SYS_mprotect, m.at(kPage), kPage, PROT_READ));
  EXPECT_ERRNO(EINVAL, syscall(SYS_mprotect, m.at(), kPage, PROT_GROWSDOWN | PROT_GROWSUP));
  Scratch dir;
  dir.File("f", "x");
  Fd ro(open((dir / "f").c_str(), O_RDONLY));
  void* p = mmap(nullptr, kPage, PROT_READ, MAP_SHARED, ro, 0);
  EXPECT_ERRNO(EACCES, syscall(SYS_mprotect, p, kPage, PROT_READ | PROT_WRITE));
  munmap(p, kPage);
}

TEST(mprotect, MakesCodeExecutable) {
  Mapping m(kPage);
  // mov $42, %eax; ret
  const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};
  memcpy(m.at(), code, sizeof code);
  ASSERT_OK(syscall(SYS_mprotect, m.at(), kPage, PROT_READ | PROT_EXEC));
  auto f = reinterpret_cast<int (*)()>(m.at());
  EXPECT_EQ(f(), 42);
  EXPECT_EQ(TryWrite(m.at()).signal, SIGSEGV);
  ASSERT_OK(mprotect(m.at(), kPage, PROT_READ | PROT_WRITE | PROT_EXEC));
  m.at()[1] = 43;
  EXPECT_EQ(f(), 43) << "self-modifying code takes effect";
}

TEST(mprotect, HandlerMakesThePageWritableAndTheStoreIsRetried) {
  static char* page;
  Mapping m(kPage, PROT_READ);
  page = m.at();
  ScopedHandler h(SIGSEGV,
                  [](int, siginfo_t*, void*) { mprotect(page, kPage, PROT_READ | PROT_WRITE); });
  *m.as<volatile int>(100) = 77;  // what garbage collectors do
  EXPECT_EQ(*m.as<int>(100), 77);
}

TEST(mprotect, WriteOnlyAndExecOnlyAreAtLeastThat) {
  Mapping m(kPage);
  ASSERT_OK(mprotect(m.at(), kPage, PROT_WRITE));
  EXPECT_EQ(TryWrite(m.at()).signal, 0);
}

TEST(mprotect, ReadOnlyPrivatePageStaysCopiedAfterFork) {
  Mapping m(kPage);
  *m.as<int>() = 5;
  IN_CHILD([&] {
    CHILD_CHECK(mprotect(m.at(), kPage, PROT_READ) == 0);
    CHILD_CHECK(mprotect(m.at(), kPage, PROT_READ | PROT_WRITE) == 0);
    *m.as<int>() = 6;
  });
  EXPECT_EQ(*m.as<int>(), 5) << "regaining write access must not break the copy";
}

TEST(pkey_alloc, FollowsTheProcessor) {
  COVERS(pkey_free, pkey_mprotect);
  // -1 as the key is plain mprotect, with or without hardware keys.
  Mapping m(kPage);
  EXPECT_OK(syscall(SYS_pkey_mprotect, m.at(), kPage, PROT_READ, -1));
  EXPECT_EQ(TryWrite(m.at()).signal, SIGSEGV);
  EXPECT_ERRNO(EINVAL, syscall(SYS_pkey_alloc, 1, 0)) << "no flags exist";
  EXPECT_ERRNO(EINVAL, syscall(SYS_pkey_free, 1000));
  EXPECT_ERRNO(EINVAL, syscall(SYS_pkey_mprotect, m.at(), kPage, PROT_READ, 1000));
}

TEST(faults, DivisionAndIllegalInstruction) {
  Fault f = Try([] {
    volatile int zero = 0, hundred = 100;
    volatile int result = hundred / zero;
    (void)result;
  });
  EXPECT_EQ(f.signal, SIGFPE);
  EXPECT_EQ(f.code, FPE_INTDIV);
  f = Try([] { __asm__ volatile("ud2"); });
  EXPECT_EQ(f.signal, SIGILL);
  EXPECT_EQ(f.code, ILL_ILLOPN);
  f = Try([] { __asm__ volatile("int3"); });
  EXPECT_EQ(f.signal, SIGTRAP);
  f = Try([] { __asm__ volatile("hlt"); });
  EXPECT_EQ(f.signal, SIGSEGV);
  EXPECT_EQ(f.code, SI_KERNEL);
}

TEST(faults, StackOverflowIsSigsegvOnTheAlternateStack) {
  EXPECT_EQ(RunChild([] {
              static char stack[65536];
              stack_t ss = {};
              ss.ss_sp = stack;
              ss.ss_size = sizeof stack;
              CHILD_CHECK(sigaltstack(&ss, nullptr) == 0);
              ScopedHandler h(
                  SIGSEGV, [](int, siginfo_t*, void*) { _exit(55); }, SA_ONSTACK);
              struct Deep {
                static int Go(int n) {
                  volatile char frame[4096];
                  frame[0] = static_cast<char>(n);
                  return n < 0 ? 0 : Go(n + 1) + frame[0];
                }
              };
              return Deep::Go(0) & 1;
            }),
            Exited(55));
}

TEST(faults, StackGrowsOnDemand) {
  struct Deep {
    static int Go(int n) {
      volatile char frame[4096];
      memset(const_cast<char*>(frame), n, sizeof frame);
      return n == 0 ? 0 : Go(n - 1) + (frame[100] == static_cast<char>(n) ? 1 : 0);
    }
  };
  EXPECT_EQ(Deep::Go(1000), 1000) << "four megabytes of stack";
}

}  // namespace
}  // namespace uk::test
