// uname, sysinfo, getrandom, hostname, syslog, rseq, kcmp, unimplemented numbers.
#include <linux/kcmp.h>
#include <linux/random.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <set>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(uname, DescribesLinux) {
  utsname u = {};
  EXPECT_OK(syscall(SYS_uname, &u));
  EXPECT_STREQ(u.sysname, "Linux");
  EXPECT_STREQ(u.machine, "x86_64");
  int major = 0, minor = 0;
  EXPECT_EQ(sscanf(u.release, "%d.%d", &major, &minor), 2);
  EXPECT_GE(major, 3) << "programs refuse older kernels";
  EXPECT_STRNE(u.nodename, "");
  EXPECT_EQ(ReadFile("/proc/sys/kernel/osrelease"), std::string(u.release) + "\n");
  EXPECT_ERRNO(EFAULT, syscall(SYS_uname, BadPointer()));
}

// Numbers are chosen so that nobody else on the machine is disturbed.
TEST(setrlimit, NrOpenBoundsTablesThatAreCopied) {
  const char* const kFile = "/proc/sys/fs/nr_open";
  const std::string old = ReadFile(kFile);
  Fd setting(open(kFile, O_WRONLY));
  if (!IsRoot()) {
    EXPECT_FALSE(setting >= 0);
    return;
  }
  ASSERT_OK(setting);
  EXPECT_ERRNO(EINVAL, write(setting, "63", 2));
  IN_CHILD([&] {
    rlimit many = {20000, 20000};
    CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &many) == 0);
    CHILD_CHECK(dup2(0, 10000) == 10000);
    CHILD_CHECK(write(setting, "8192", 4) == 4);
    const pid_t pid = fork();
    const int error = errno;
    if (pid == 0) _exit(0);
    const int limit = setrlimit(RLIMIT_NOFILE, &many);
    const int limit_error = errno;
    CHILD_CHECK(write(setting, old.c_str(), old.size()) == static_cast<ssize_t>(old.size()));
    CHILD_CHECK(pid == -1 && error == EMFILE);
    CHILD_CHECK(limit == -1 && limit_error == EPERM);
    const pid_t again = fork();
    if (again == 0) _exit(0);
    CHILD_CHECK(WaitFor(again) == Exited(0));
  });
}

TEST(sethostname, IsPrivileged) {
  COVERS(setdomainname);
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, syscall(SYS_sethostname, "x", 1l));
    EXPECT_ERRNO(EPERM, syscall(SYS_setdomainname, "x", 1l));
    return;
  }
  EXPECT_ERRNO(EINVAL, syscall(SYS_sethostname, "x", 65l));
  EXPECT_ERRNO(EINVAL, syscall(SYS_sethostname, "x", -1));
  EXPECT_ERRNO(EFAULT, syscall(SYS_sethostname, BadPointer(), 5l));
  IN_CHILD([&] {
    CHILD_CHECK(unshare(CLONE_NEWUTS) == 0);
    CHILD_CHECK(syscall(SYS_sethostname, "other.name", 10l) == 0);
    CHILD_CHECK(syscall(SYS_setdomainname, "domain", 6l) == 0);
    utsname u;
    CHILD_CHECK(uname(&u) == 0);
    CHILD_CHECK(std::string(u.nodename) == "other.name");
    CHILD_CHECK(std::string(u.domainname) == "domain");
  });
}

TEST(sysinfo, MemoryAndTime) {
  struct sysinfo info = {};
  EXPECT_OK(syscall(SYS_sysinfo, &info));
  EXPECT_GT(info.totalram, 0u);
  EXPECT_GE(info.totalram, info.freeram);
  EXPECT_GE(info.mem_unit, 1u);
  EXPECT_GT(info.procs, 0);
  EXPECT_GE(info.uptime, 0);
  EXPECT_ERRNO(EFAULT, syscall(SYS_sysinfo, BadPointer()));
}

TEST(random, IoctlsTellAndTake) {
  COVERS(ioctl);
  Fd fd(open("/dev/urandom", O_RDONLY));
  int bits = -1;
  ASSERT_OK(ioctl(fd.get(), RNDGETENTCNT, &bits));
  EXPECT_GE(bits, 0);
  EXPECT_ERRNO(EFAULT, ioctl(fd.get(), RNDGETENTCNT, BadPointer()));
  struct {
    int bits, size, data[4];
  } pool = {8, 16, {1, 2, 3, 4}};
  int negative = -5;
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, ioctl(fd.get(), RNDADDTOENTCNT, &bits));
    EXPECT_ERRNO(EPERM, ioctl(fd.get(), RNDADDENTROPY, &pool));
    EXPECT_ERRNO(EPERM, ioctl(fd.get(), RNDZAPENTCNT, 0));
    return;
  }
  EXPECT_OK(ioctl(fd.get(), RNDADDTOENTCNT, &bits));
  EXPECT_ERRNO(EINVAL, ioctl(fd.get(), RNDADDTOENTCNT, &negative));
  EXPECT_OK(ioctl(fd.get(), RNDADDENTROPY, &pool));
  EXPECT_ERRNO(EFAULT, ioctl(fd.get(), RNDADDENTROPY, BadPointer()));
  pool.bits = -1;
  EXPECT_ERRNO(EINVAL, ioctl(fd.get(), RNDADDENTROPY, &pool));
}

TEST(getrandom, FillsAndDiffers) {
  std::set<uint64_t> seen;
  for (int i = 0; i < 100; i++) {
    uint64_t v = 0;
    ASSERT_EQ(syscall(SYS_getrandom, &v, 8l, i % 2 ? GRND_NONBLOCK : 0), 8);
    seen.insert(v);
  }
  EXPECT_EQ(seen.size(), 100u);
  std::string big(100000, 0);
  EXPECT_EQ(syscall(SYS_getrandom, big.data(), big.size(), 0), 100000);
  EXPECT_NE(big.substr(90000), std::string(10000, 0));
  EXPECT_EQ(syscall(SYS_getrandom, big.data(), 0l, 0), 0);
  EXPECT_ERRNO(EFAULT, syscall(SYS_getrandom, BadPointer(), 8l, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_getrandom, big.data(), 8l, 0x100));
  EXPECT_ERRNO(EINVAL, syscall(SYS_getrandom, big.data(), 8l, GRND_RANDOM | 4));
}

TEST(getrandom, DevicesToo) {
  for (const char* path : {"/dev/urandom", "/dev/random"}) {
    Fd fd(open(path, O_RDONLY));
    uint64_t a = 0, b = 0;
    ASSERT_EQ(read(fd, &a, 8), 8);
    ASSERT_EQ(read(fd, &b, 8), 8);
    EXPECT_NE(a, b);
  }
}

TEST(syslog, IsRestricted) {
  if (!IsRoot()) {
    char c;
    EXPECT_ERRNO(EPERM, syscall(SYS_syslog, 5 /* clear */, &c, 1));
  } else {
    EXPECT_ERRNO(EINVAL, syscall(SYS_syslog, 3, nullptr, -1));
    EXPECT_ERRNO(EINVAL, syscall(SYS_syslog, 99, nullptr, 0));
    EXPECT_GT(syscall(SYS_syslog, 10 /* size of the buffer */, nullptr, 0), 0);
  }
}

TEST(rseq, RegisteredByTheLibraryAndErrors) {
  ASSERT_GT(__rseq_size, 0u) << "glibc registers an area for each thread";
  auto* area =
      reinterpret_cast<rseq*>(reinterpret_cast<char*>(__builtin_thread_pointer()) + __rseq_offset);
  unsigned cpu = ~0u;
  do {
    getcpu(&cpu, nullptr);
  } while (area->cpu_id != cpu);
  EXPECT_EQ(area->cpu_id_start, area->cpu_id);
  alignas(32) static char other[64];
  EXPECT_ERRNO(EINVAL, syscall(SYS_rseq, other, 32, 0, 0x53053053)) << "another is registered";
  EXPECT_ERRNO(EBUSY, syscall(SYS_rseq, area, 32, 0, 0x53053053));
  EXPECT_ERRNO(EPERM, syscall(SYS_rseq, area, 32, 0, 0x12345678)) << "another signature";
  EXPECT_ERRNO(EINVAL, syscall(SYS_rseq, area, 32, 8, 0x53053053));
}

TEST(rseq, AbortsACriticalSectionInterruptedByASignal) {
  // A critical section that spins until it is aborted: the signal's delivery must move the
  // instruction pointer to the abort handler.
  ASSERT_GT(__rseq_size, 0u);
  auto* area =
      reinterpret_cast<rseq*>(reinterpret_cast<char*>(__builtin_thread_pointer()) + __rseq_offset);
  pid_t self = getpid();
  pid_t child = Spawn([self] {
    timespec ts = {0, 10000000};
    nanosleep(&ts, nullptr);
    return kill(self, SIGUSR1);
  });
  ScopedHandler h(SIGUSR1, [](int) {});
  long aborted = 0;
  __asm__ volatile(
      ".pushsection __rseq_cs, \"aw\"\n .balign 32\n"
      "1: .long 0, 0\n .quad 2f, 3f - 2f, 4f\n .popsection\n"
      "lea 1b(%%rip), %%rax\n mov %%rax, %[cs]\n"
      "2: jmp 2b\n"
      "3: jmp 5f\n"
      ".byte 0x0f, 0xb9, 0x3d\n .long 0x53053053\n"
      "4: mov $1, %[aborted]\n"
      "5:\n"
      : [aborted] "+r"(aborted), [cs] "=m"(area->rseq_cs)
      :
      : "rax", "memory");
  EXPECT_EQ(aborted, 1);
  EXPECT_EQ(area->rseq_cs, 0u) << "cleared by the kernel";
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(kcmp, SameAndDifferentObjects) {
  Fd a(open("/dev/null", O_RDONLY)), b(dup(a)), c(open("/dev/null", O_RDONLY));
  pid_t me = getpid();
  EXPECT_EQ(syscall(SYS_kcmp, me, me, KCMP_FILE, a.get(), b.get()), 0);
  const long there = syscall(SYS_kcmp, me, me, KCMP_FILE, a.get(), c.get());
  const long back = syscall(SYS_kcmp, me, me, KCMP_FILE, c.get(), a.get());
  EXPECT_TRUE((there == 1 && back == 2) || (there == 2 && back == 1)) << there << " " << back;
  EXPECT_EQ(syscall(SYS_kcmp, me, me, KCMP_VM, 0, 0), 0);
  EXPECT_ERRNO(EBADF, syscall(SYS_kcmp, me, me, KCMP_FILE, a.get(), kBadFd));
  EXPECT_ERRNO(EINVAL, syscall(SYS_kcmp, me, me, 99, 0, 0));
  EXPECT_ERRNO(ESRCH, syscall(SYS_kcmp, 0x3fffffff, me, KCMP_VM, 0, 0));
  EXPECT_ERRNO(ESRCH, syscall(SYS_kcmp, 0, me, KCMP_VM, 0, 0));
  for (int type : {KCMP_FILES, KCMP_FS, KCMP_SIGHAND, KCMP_IO, KCMP_SYSVSEM}) {
    EXPECT_EQ(syscall(SYS_kcmp, me, me, type, 0, 0), 0) << type;
  }
  const int inherited = a.get();
  pid_t child = Spawn([me, inherited] {
    const pid_t self = getpid();
    if (syscall(SYS_kcmp, me, self, KCMP_FILE, inherited, inherited) != 0) return 1;
    for (int type : {KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND}) {
      if (syscall(SYS_kcmp, me, self, type, 0, 0) <= 0) return 2 + type;
    }
    return 0;
  });
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(unknown_numbers, AreEnosys) {
  for (long number : {400l, 410l, 423l, 1000l, 100000l, -5l, 0x40000000l + 1000, INT64_MAX}) {
    EXPECT_ERRNO(ENOSYS, syscall(number, 1, 2, 3, 4, 5, 6)) << number;
  }
  // Old calls that Linux keeps the numbers of and never implements.
  for (long number : {SYS_tuxcall, SYS_security, SYS_getpmsg, SYS_putpmsg, SYS_afs_syscall,
                      SYS_vserver, SYS_epoll_ctl_old, SYS_epoll_wait_old}) {
    EXPECT_ERRNO(ENOSYS, syscall(number, 0, 0, 0, 0, 0, 0)) << number;
  }
}

TEST(registers, SurviveASystemCall) {
  uint64_t rbx = 1, rdx = 2, rsi = 3, rdi = 4, r8 = 5, r9 = 6, r10 = 7, r11 = 8, rcx = 9, rax;
  uint64_t flags;
  __asm__ volatile(
      "mov $5, %%r8\n mov $6, %%r9\n mov $7, %%r10\n"
      "stc\n mov $39, %%eax\n syscall\n 1: mov %%r11, %[flags]\n"
      "lea 1b(%%rip), %%r11\n sub %%rcx, %%r11\n"
      "mov %%r8, %[r8]\n mov %%r9, %[r9]\n mov %%r10, %[r10]\n mov %%r11, %[r11]\n"
      : "=a"(rax), "+b"(rbx), "+d"(rdx), "+S"(rsi), "+D"(rdi), [r8] "=m"(r8), [r9] "=m"(r9),
        [r10] "=m"(r10), [r11] "=m"(r11), [flags] "=m"(flags), "=c"(rcx)
      :
      : "r8", "r9", "r10", "r11", "memory", "cc");
  EXPECT_EQ(rax, static_cast<uint64_t>(getpid()));
  EXPECT_EQ(rbx, 1u);
  EXPECT_EQ(rdx, 2u);
  EXPECT_EQ(rsi, 3u);
  EXPECT_EQ(rdi, 4u);
  EXPECT_EQ(r8, 5u);
  EXPECT_EQ(r9, 6u);
  EXPECT_EQ(r10, 7u);
  EXPECT_EQ(r11, 0u) << "rcx holds the return address";
  EXPECT_TRUE(flags & 1) << "r11 holds the flags";
}

TEST(registers, VectorStateSurvivesASystemCall) {
  double in[2] = {1.25, 2.5}, out[2] = {};
  long r = SYS_sched_yield;
  __asm__ volatile("movupd %[in], %%xmm12\n syscall\n movupd %%xmm12, %[out]\n"
                   : "+a"(r), [out] "=m"(out)
                   : [in] "m"(in)
                   : "rcx", "r11", "memory", "xmm12");
  EXPECT_EQ(memcmp(in, out, sizeof in), 0);
}

}  // namespace
}  // namespace uk::test
