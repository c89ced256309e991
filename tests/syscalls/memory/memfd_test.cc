// memfd_create and seals; process_vm_readv; membarrier.
#include <sys/uio.h>

#include "tests/syscalls/memory/fault.h"
#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(memfd_create, BehavesLikeAFile) {
  Fd fd(syscall(SYS_memfd_create, "name", MFD_CLOEXEC));
  ASSERT_OK(fd.get());
  EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(write(fd, "hello", 5), 5);
  char text[8] = {};
  EXPECT_EQ(pread(fd, text, 8, 0), 5);
  EXPECT_STREQ(text, "hello");
  char target[64] = {};
  std::string self = "/proc/self/fd/" + std::to_string(fd.get());
  ASSERT_OK(readlink(self.c_str(), target, sizeof target - 1));
  EXPECT_STREQ(target, "/memfd:name (deleted)");
  struct stat st;
  ASSERT_OK(fstat(fd, &st));
  EXPECT_EQ(st.st_nlink, 0u);
  Fd again(open(self.c_str(), O_RDONLY));
  EXPECT_EQ(ReadFd(again), "hello");
}

TEST(memfd_create, Errors) {
  EXPECT_ERRNO(EFAULT, syscall(SYS_memfd_create, BadPointer(), 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_memfd_create, "x", 0x8000));
  EXPECT_ERRNO(EINVAL, syscall(SYS_memfd_create, std::string(250, 'n').c_str(), 0));
  EXPECT_OK(Fd(syscall(SYS_memfd_create, std::string(249, 'n').c_str(), 0)).get());
}

TEST(memfd_create, SharedBetweenMappingsAndProcesses) {
  Fd fd(memfd_create("m", 0));
  ASSERT_OK(ftruncate(fd, 4 * kPage));
  auto* a = static_cast<char*>(mmap(nullptr, 4 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  auto* b = static_cast<char*>(mmap(nullptr, kPage, PROT_READ, MAP_SHARED, fd, 2 * kPage));
  auto* c = static_cast<char*>(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
  IN_CHILD([&] { a[2 * kPage] = 'c'; });
  EXPECT_EQ(b[0], 'c');
  c[0] = 'p';
  EXPECT_EQ(a[0], 0);
  munmap(a, 4 * kPage);
  munmap(b, kPage);
  munmap(c, kPage);
}

TEST(fcntl, Seals) {
  Fd fd(memfd_create("s", MFD_ALLOW_SEALING));
  ASSERT_OK(ftruncate(fd, 2 * kPage));
  EXPECT_EQ(fcntl(fd, F_GET_SEALS), 0);
  EXPECT_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
  EXPECT_ERRNO(EPERM, ftruncate(fd, kPage));
  EXPECT_ERRNO(EPERM, ftruncate(fd, 3 * kPage));
  EXPECT_ERRNO(EPERM, pwrite(fd, "x", 1, 2 * kPage));
  EXPECT_EQ(pwrite(fd, "x", 1, 0), 1);
  void* p = mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  EXPECT_ERRNO(EBUSY, fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)) << "a writable mapping exists";
  munmap(p, kPage);
  EXPECT_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
  EXPECT_ERRNO(EPERM, pwrite(fd, "x", 1, 0));
  EXPECT_ERRNO(EPERM, mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  EXPECT_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
  EXPECT_ERRNO(EPERM, fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
  EXPECT_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
  Fd plain(memfd_create("p", 0));
  EXPECT_EQ(fcntl(plain, F_GET_SEALS), F_SEAL_SEAL);
  EXPECT_ERRNO(EPERM, fcntl(plain, F_ADD_SEALS, F_SEAL_GROW));
  Pipe pipe;
  EXPECT_ERRNO(EINVAL, fcntl(pipe.r, F_GET_SEALS));
}

TEST(process_vm_readv, BetweenParentAndChild) {
  COVERS(process_vm_writev);
  Mapping m(2 * kPage);
  strcpy(m.at(), "parent");
  Gate ready, finish;
  pid_t child = Spawn([&] {
    strcpy(m.at(), "child");
    ready.Open();
    CHILD_CHECK(finish.Wait());
    return strcmp(m.at(kPage), "poked") == 0 ? 0 : 1;
  });
  ASSERT_TRUE(ready.Wait());
  char text[16] = {};
  iovec local = {text, 6}, remote = {m.at(), 6};
  EXPECT_EQ(syscall(SYS_process_vm_readv, child, &local, 1l, &remote, 1l, 0l), 6);
  EXPECT_STREQ(text, "child");
  EXPECT_STREQ(m.at(), "parent");
  char poke[] = "poked";
  iovec from = {poke, 6}, to = {m.at(kPage), 6};
  EXPECT_EQ(syscall(SYS_process_vm_writev, child, &from, 1l, &to, 1l, 0l), 6);
  iovec bad = {BadPointer(), 6};
  EXPECT_ERRNO(EFAULT, syscall(SYS_process_vm_readv, child, &local, 1l, &bad, 1l, 0l));
  EXPECT_ERRNO(EINVAL, syscall(SYS_process_vm_readv, child, &local, 1l, &remote, 1l, 1l));
  EXPECT_ERRNO(ESRCH, syscall(SYS_process_vm_readv, 0x3fffffff, &local, 1l, &remote, 1l, 0l));
  if (InitIsForeign()) {
    EXPECT_ERRNO(EPERM, syscall(SYS_process_vm_readv, 1, &local, 1l, &remote, 1l, 0l));
  }
  finish.Open();
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(membarrier, QueryRegisterAndUse) {
  long commands = syscall(SYS_membarrier, 0, 0, 0);
  ASSERT_OK(commands);
  EXPECT_TRUE(commands & (1 << 3)) << "PRIVATE_EXPEDITED";
  IN_CHILD([&] {
    CHILD_CHECK(syscall(SYS_membarrier, 1 << 3, 0, 0) == -1 && errno == EPERM);
    CHILD_CHECK(syscall(SYS_membarrier, 1 << 4, 0, 0) == 0);
    CHILD_CHECK(syscall(SYS_membarrier, 1 << 3, 0, 0) == 0);
  });
  EXPECT_ERRNO(EINVAL, syscall(SYS_membarrier, 0, 1 << 20, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_membarrier, 1 << 29, 0, 0));
}

TEST(remap_file_pages, EmulatedNonlinearMapping) {
  Fd fd(memfd_create("r", 0));
  ASSERT_OK(ftruncate(fd, 2 * kPage));
  ASSERT_EQ(pwrite(fd, "zero", 4, 0), 4);
  ASSERT_EQ(pwrite(fd, "one", 3, kPage), 3);
  auto* p = static_cast<char*>(mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  EXPECT_OK(syscall(SYS_remap_file_pages, p, kPage, 0l, 1l, 0l));
  EXPECT_STREQ(p, "one");
  EXPECT_ERRNO(EINVAL, syscall(SYS_remap_file_pages, p, kPage, PROT_READ, 1l, 0l));
  munmap(p, 2 * kPage);
}

TEST(proc_self_maps, ShowsWhatIsMapped) {
  Scratch dir;
  Fd fd = dir.Open("file with space", std::string(2 * kPage, 'x'));
  auto* p = static_cast<char*>(mmap(nullptr, kPage, PROT_READ, MAP_SHARED, fd, kPage));
  char want[200];
  snprintf(want, sizeof want, "%lx-%lx r--s 00001000 ", reinterpret_cast<long>(p),
           reinterpret_cast<long>(p) + kPage);
  bool found = false, stack = false, vdso = false;
  for (const std::string& line : Lines(ReadFile("/proc/self/maps"))) {
    if (line.find(want) == 0 || line.find(std::string(want)) != std::string::npos) {
      found = line.size() > 73 && line.substr(73) == dir / "file with space";
    }
    stack |= line.find("[stack]") != std::string::npos;
    vdso |= line.find("[vdso]") != std::string::npos;
  }
  EXPECT_TRUE(found) << ReadFile("/proc/self/maps");
  EXPECT_TRUE(stack);
  EXPECT_TRUE(vdso);
  munmap(p, kPage);
}

TEST(proc_self_statm, FollowsMapping) {
  auto size = [] { return atol(ReadFile("/proc/self/statm").c_str()); };
  long before = size();
  ASSERT_GT(before, 0);
  Mapping m(1000 * kPage);
  EXPECT_GE(size(), before + 1000);
  std::string smaps = ReadFile("/proc/self/smaps");
  EXPECT_NE(smaps.find("Rss:"), std::string::npos);
  EXPECT_NE(smaps.find("VmFlags:"), std::string::npos);
}

}  // namespace
}  // namespace uk::test
