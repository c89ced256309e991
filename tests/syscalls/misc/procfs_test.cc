// /proc as glibc, bash, ps and python read it; /proc/self/fd; /dev.
#include <dirent.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <set>
#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

std::set<std::string> Names(const std::string& path) {
  std::set<std::string> out;
  if (DIR* d = opendir(path.c_str())) {
    while (dirent* e = readdir(d)) out.insert(e->d_name);
    closedir(d);
  }
  return out;
}

std::string Link(const std::string& path) {
  char text[4096] = {};
  return readlink(path.c_str(), text, sizeof text - 1) < 0 ? strerrorname_np(errno) : text;
}

TEST(procfs, SelfIsTheReader) {
  EXPECT_EQ(Link("/proc/self"), std::to_string(getpid()));
  IN_CHILD([&] { CHILD_CHECK(Link("/proc/self") == std::to_string(getpid())); });
  std::thread([] {
    EXPECT_EQ(Link("/proc/thread-self"),
              std::to_string(getpid()) + "/task/" + std::to_string(gettid()));
  }).join();
  EXPECT_TRUE(Names("/proc").count(std::to_string(getpid())));
  EXPECT_FALSE(Exists("/proc/999999999"));
}

TEST(procfs, StatusFields) {
  const char* path = "/proc/self/status";
  EXPECT_EQ(ProcField(path, "Pid"), std::to_string(getpid()));
  EXPECT_EQ(ProcField(path, "PPid"), std::to_string(getppid()));
  EXPECT_EQ(ProcField(path, "Tgid"), std::to_string(getpid()));
  EXPECT_EQ(ProcField(path, "State"), "R (running)");
  EXPECT_EQ(ProcField(path, "Threads"), "1");
  EXPECT_GT(atol(ProcField(path, "VmRSS").c_str()), 100);
  EXPECT_GT(atol(ProcField(path, "VmSize").c_str()), atol(ProcField(path, "VmRSS").c_str()));
  ScopedBlock block({SIGUSR1});
  EXPECT_EQ(strtoull(ProcField(path, "SigBlk").c_str(), nullptr, 16), 1ull << (SIGUSR1 - 1));
  std::string uid = ProcField(path, "Uid");
  std::string one = std::to_string(getuid());
  EXPECT_EQ(uid, one + "\t" + one + "\t" + one + "\t" + one);
}

TEST(procfs, StatLine) {
  std::string text = ReadFile("/proc/self/stat");
  size_t open_paren = text.find('('), close_paren = text.rfind(')');
  ASSERT_NE(close_paren, std::string::npos);
  EXPECT_EQ(atol(text.c_str()), getpid());
  std::string comm = ReadFile("/proc/self/comm");
  EXPECT_EQ(text.substr(open_paren + 1, close_paren - open_paren - 1) + "\n", comm);
  std::vector<std::string> fields;
  size_t at = close_paren + 2;
  while (at < text.size()) {
    size_t end = text.find_first_of(" \n", at);
    fields.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  ASSERT_EQ(fields.size(), 50u) << "52 fields in all";
  EXPECT_EQ(fields[0], "R");
  EXPECT_EQ(atol(fields[1].c_str()), getppid());
  EXPECT_EQ(atol(fields[2].c_str()), getpgrp());
  EXPECT_EQ(atol(fields[3].c_str()), getsid(0));
  EXPECT_EQ(fields[17], "1") << "threads";
  EXPECT_GT(atol(fields[20].c_str()), 0) << "virtual size";
}

TEST(procfs, CmdlineEnvironCwdExeRoot) {
  Scratch dir;
  std::string cmdline = ReadFile("/proc/self/cmdline");
  EXPECT_EQ(cmdline.back(), '\0');
  EXPECT_NE(Link("/proc/self/exe").find('/'), std::string::npos);
  struct stat a, b;
  ASSERT_OK(stat("/proc/self/root", &a));
  ASSERT_OK(stat("/", &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
  IN_CHILD([&] {
    CHILD_CHECK(chdir(dir.c_str()) == 0);
    CHILD_CHECK(Link("/proc/self/cwd") == dir.path());
  });
  Pipe p;
  pid_t child = Spawn([&] {
    dup2(p.w, 1);
    const char* argv[] = {"cat", "/proc/self/environ", nullptr};
    const char* envp[] = {"ONE=1", "TWO=2", nullptr};
    execve("/bin/cat", const_cast<char**>(argv), const_cast<char**>(envp));
    return 99;
  });
  p.w.reset();
  EXPECT_EQ(ReadFd(p.r), std::string("ONE=1\0TWO=2\0", 12));
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(procfs, FdDirectory) {
  Scratch dir;
  Fd fd = dir.Open("f", "abc");
  std::string number = std::to_string(fd.get());
  EXPECT_TRUE(Names("/proc/self/fd").count(number));
  EXPECT_EQ(Link("/proc/self/fd/" + number), dir / "f");
  ASSERT_OK(unlink((dir / "f").c_str()));
  EXPECT_EQ(Link("/proc/self/fd/" + number), (dir / "f") + " (deleted)");
  Fd again(open(("/proc/self/fd/" + number).c_str(), O_RDONLY));
  EXPECT_EQ(ReadFd(again), "abc") << "a deleted file can be reopened through it";
  ASSERT_OK(lseek(fd, 2, SEEK_SET));
  std::string info = "/proc/self/fdinfo/" + number;
  EXPECT_EQ(ProcField(info, "pos"), "2");
  EXPECT_EQ(strtol(ProcField(info, "flags").c_str(), nullptr, 8), O_RDWR | O_CLOEXEC | 0100000);
  EXPECT_EQ(Link("/dev/fd"), "/proc/self/fd");
  EXPECT_EQ(Link("/dev/stdin"), "/proc/self/fd/0");
}

TEST(procfs, TaskDirectory) {
  Gate go;
  Gate ready;
  std::thread t([&] {
    ready.Open();
    go.Wait();
  });
  ASSERT_TRUE(ready.Wait());
  std::set<std::string> names = Names("/proc/self/task");
  EXPECT_EQ(names.size(), 4u) << "two threads and the dots";
  EXPECT_EQ(ProcField("/proc/self/status", "Threads"), "2");
  go.Open();
  t.join();
}

TEST(procfs, SystemFiles) {
  EXPECT_GT(atol(ProcField("/proc/meminfo", "MemTotal").c_str()), 1000);
  EXPECT_GE(atol(ProcField("/proc/meminfo", "MemAvailable").c_str()), 0);
  EXPECT_EQ(ReadFile("/proc/version").find("Linux version "), 0u);
  EXPECT_EQ(ReadFile("/proc/stat").find("cpu "), 0u);
  EXPECT_NE(ReadFile("/proc/stat").find("\nbtime "), std::string::npos);
  double up = 0, idle = 0;
  EXPECT_EQ(sscanf(ReadFile("/proc/uptime").c_str(), "%lf %lf", &up, &idle), 2);
  double load[3];
  EXPECT_EQ(sscanf(ReadFile("/proc/loadavg").c_str(), "%lf %lf %lf", load, load + 1, load + 2), 3);
  EXPECT_NE(ReadFile("/proc/cpuinfo").find("processor\t: 0\n"), std::string::npos);
  EXPECT_NE(ReadFile("/proc/filesystems").find("nodev\tproc\n"), std::string::npos);
  EXPECT_NE(ReadFile("/proc/mounts").find(" /proc proc "), std::string::npos);
  EXPECT_NE(ReadFile("/proc/self/mountinfo").find(" /proc "), std::string::npos);
  EXPECT_FALSE(ReadFile("/proc/cmdline").empty());
}

TEST(procfs, Sysctls) {
  EXPECT_GT(atol(ReadFile("/proc/sys/kernel/pid_max").c_str()), 100);
  EXPECT_EQ(ReadFile("/proc/sys/kernel/ostype"), "Linux\n");
  EXPECT_GT(atol(ReadFile("/proc/sys/kernel/ngroups_max").c_str()), 0);
  EXPECT_GT(atol(ReadFile("/proc/sys/vm/max_map_count").c_str()), 1000);
  EXPECT_EQ(ReadFile("/proc/sys/kernel/random/boot_id").size(), 37u);
  EXPECT_NE(ReadFile("/proc/sys/kernel/random/uuid"), ReadFile("/proc/sys/kernel/random/uuid"));
  EXPECT_GE(atol(ReadFile("/proc/sys/fs/pipe-max-size").c_str()), 65536);
}

TEST(procfs, LimitsFile) {
  EXPECT_NE(ReadFile("/proc/self/limits").find("Max open files"), std::string::npos);
}

TEST(procfs, OthersProcesses) {
  Gate go;
  pid_t child = Spawn([&] {
    go.Wait();
    return 0;
  });
  std::string base = "/proc/" + std::to_string(child);
  EXPECT_EQ(ProcField(base + "/status", "PPid"), std::to_string(getpid()));
  EXPECT_TRUE(WaitForState(child, 'S'));
  EXPECT_FALSE(Names(base + "/fd").empty());
  go.Open();
  EXPECT_TRUE(WaitForState(child, 'Z'));
  EXPECT_EQ(ReadFile(base + "/cmdline"), "") << "a zombie has no memory";
  EXPECT_EQ(WaitFor(child), Exited(0));
  EXPECT_FALSE(Exists(base));
  // An open file of a process that has gone.
  Gate go2;
  child = Spawn([&] {
    go2.Wait();
    return 0;
  });
  Fd fd(open(("/proc/" + std::to_string(child) + "/stat").c_str(), O_RDONLY));
  go2.Open();
  EXPECT_EQ(WaitFor(child), Exited(0));
  char c;
  EXPECT_ERRNO(ESRCH, read(fd, &c, 1));
}

TEST(procfs, NothingCanBeMadeThere) {
  EXPECT_ERRNO(ENOENT, open("/proc/self/nosuch", O_RDONLY));
  EXPECT_ERRNO(ENOENT, open("/proc/nosuch", O_CREAT | O_RDWR, 0600));
  EXPECT_ERRNO(ENOENT, mkdir("/proc/newdir", 0755));
}

TEST(procfs, CommCanBeWritten) {
  IN_CHILD([&] {
    CHILD_CHECK(WriteFile("/proc/self/comm", "renamed"));
    CHILD_CHECK(ReadFile("/proc/self/comm") == "renamed\n");
  });
}

TEST(procfs, PartialAndOffsetReads) {
  std::string whole = ReadFile("/proc/self/limits");
  Fd fd(open("/proc/self/limits", O_RDONLY));
  std::string bytes;
  char c;
  while (read(fd, &c, 1) == 1) bytes += c;
  EXPECT_EQ(bytes, whole);
  char text[11] = {};
  EXPECT_EQ(pread(fd, text, 10, 5), 10);
  EXPECT_EQ(std::string(text), whole.substr(5, 10));
}

TEST(devfs, CommonNodes) {
  struct Node {
    const char* path;
    unsigned major, minor;
  };
  for (Node n : {Node{"/dev/null", 1, 3}, Node{"/dev/zero", 1, 5}, Node{"/dev/full", 1, 7},
                 Node{"/dev/random", 1, 8}, Node{"/dev/urandom", 1, 9}, Node{"/dev/tty", 5, 0}}) {
    struct stat st;
    ASSERT_OK(stat(n.path, &st)) << n.path;
    EXPECT_TRUE(S_ISCHR(st.st_mode)) << n.path;
    EXPECT_EQ(st.st_rdev, makedev(n.major, n.minor)) << n.path;
    EXPECT_EQ(st.st_mode & 0666, 0666u) << n.path;
  }
}

TEST(devfs, ZeroReadsAndMaps) {
  Fd fd(open("/dev/zero", O_RDWR));
  char text[100];
  memset(text, 'x', sizeof text);
  EXPECT_EQ(read(fd, text, sizeof text), 100);
  EXPECT_EQ(std::string(text, 100), std::string(100, 0));
  EXPECT_EQ(write(fd, text, 5), 5);
  auto* p = static_cast<char*>(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
  ASSERT_NE(p, MAP_FAILED);
  EXPECT_EQ(p[0], 0);
  p[0] = 1;
  munmap(p, kPage);
}

TEST(proc_self_mem, ReadsAndWritesWhateverTheProtection) {
  Mapping pages(2 * kPage);
  strcpy(pages.at(), "before");
  ASSERT_OK(mprotect(pages.at(), kPage, PROT_READ));
  Fd mem(open("/proc/self/mem", O_RDWR));
  ASSERT_OK(mem);
  auto at = static_cast<off_t>(reinterpret_cast<uintptr_t>(pages.at()));
  char text[8] = {};
  EXPECT_EQ(pread(mem, text, 6, at), 6);
  EXPECT_STREQ(text, "before");
  EXPECT_EQ(pwrite(mem, "after", 6, at), 6);
  EXPECT_STREQ(pages.at(), "after");
  EXPECT_ERRNO(EIO, pread(mem, text, 1, 4096));
}

TEST(proc_self_pagemap, ShowsWhichPagesAreThere) {
  Mapping pages(64 * kPage);
  *pages.at(63 * kPage) = 1;
  Fd map(open("/proc/self/pagemap", O_RDONLY));
  ASSERT_OK(map);
  uint64_t entry = 0;
  auto index = static_cast<off_t>(reinterpret_cast<uintptr_t>(pages.at(63 * kPage)) / kPage * 8);
  ASSERT_EQ(pread(map, &entry, 8, index), 8);
  EXPECT_NE(entry >> 63, 0u);
  EXPECT_ERRNO(EINVAL, pread(map, &entry, 7, index));
}

}  // namespace
}  // namespace uk::test
