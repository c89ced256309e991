// execve and execveat: what the new program receives, what it keeps, and what cannot be executed.
// The programs executed are /bin/sh and this test's own binary.
#include <elf.h>
#include <limits.h>
#include <linux/auxvec.h>
#include <sys/auxv.h>
#include <sys/resource.h>

#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

// Runs sh -c SCRIPT with this environment; its standard output and wait status.
struct Outcome {
  std::string out;
  int status;
};
Outcome Sh(const std::string& script, std::vector<std::string> env = {}) {
  Pipe p;
  pid_t child = Spawn([&] {
    dup2(p.w, 1);
    std::vector<char*> envp;
    for (auto& e : env) envp.push_back(e.data());
    envp.push_back(nullptr);
    const char* argv[] = {"sh", "-c", script.c_str(), nullptr};
    syscall(SYS_execve, "/bin/sh", argv, envp.data());
    return 99;
  });
  p.w.reset();
  std::string out = ReadFd(p.r);
  return {out, WaitFor(child)};
}

int ExecErrno(const std::string& path, size_t argument_bytes = 0) {
  Pipe p;
  pid_t child = Spawn([&] {
    std::string big(argument_bytes, 'x');
    const char* argv[] = {path.c_str(), argument_bytes ? big.c_str() : nullptr, nullptr};
    const char* envp[] = {nullptr};
    syscall(SYS_execve, path.c_str(), argv, envp);
    int error = errno;
    (void)!write(p.w, &error, sizeof error);
    return 98;
  });
  p.w.reset();
  int error = 0;
  (void)!read(p.r, &error, sizeof error);
  WaitFor(child);
  return error;
}

TEST(execve, ArgumentsAndEnvironmentArrive) {
  Outcome o = Sh("echo \"$A-$B-$#-$0\"; exit 5", {"A=1", "B=two words"});
  EXPECT_EQ(o.out, "1-two words-0-sh\n");
  EXPECT_EQ(o.status, Exited(5));
}

TEST(execve, KeepsPidDirectoryAndUmask) {
  Scratch dir;
  Pipe p(0);
  pid_t child = Spawn([&] {
    CHILD_CHECK(chdir(dir.c_str()) == 0);
    dup2(p.w, 1);
    umask(031);
    execl("/bin/sh", "sh", "-c", "echo $$; pwd; umask", nullptr);
    return 99;
  });
  p.w.reset();
  std::vector<std::string> lines = Lines(ReadFd(p.r));
  EXPECT_EQ(WaitFor(child), Exited(0));
  EXPECT_EQ(lines, (std::vector<std::string>{std::to_string(child), dir.path(), "0031"}));
}

TEST(execve, KeepsTheMaskAndWhatIsIgnored) {
  ScopedBlock block({SIGUSR2});
  ScopedHandler ignored(SIGUSR1, SIG_IGN);
  ScopedHandler caught(SIGHUP, [](int) {});
  Scratch dir;
  // Not through a shell: some shells clear the mask.
  pid_t child = Spawn([&] {
    dup2(open((dir / "out").c_str(), O_CREAT | O_WRONLY, 0600), 1);
    execl("/bin/cat", "cat", "/proc/self/status", nullptr);
    return 99;
  });
  EXPECT_EQ(WaitFor(child), Exited(0));
  auto bits = [&](const char* key) {
    return strtoull(ProcField(dir / "out", key).c_str(), nullptr, 16);
  };
  EXPECT_TRUE(bits("SigBlk") & 1ull << (SIGUSR2 - 1)) << "the mask stays";
  EXPECT_TRUE(bits("SigIgn") & 1ull << (SIGUSR1 - 1)) << "ignored stays ignored";
  EXPECT_FALSE(bits("SigCgt") & 1ull << (SIGHUP - 1)) << "caught becomes default";
}

TEST(execve, ClosesCloexecOnly) {
  Pipe keep(0), drop(O_CLOEXEC);
  Outcome o = Sh("for n in " + std::to_string(keep.r.get()) + " " + std::to_string(drop.r.get()) +
                 "; do if [ -e /proc/self/fd/$n ]; then echo yes; else echo no; fi; done");
  EXPECT_EQ(o.out, "yes\nno\n");
}

TEST(execve, Scripts) {
  Scratch dir;
  dir.File("s", "#!/bin/sh\necho \"$0 $1\"\n", 0755);
  dir.File("arg", "#! /bin/sh -e  \nfalse\necho not reached\n", 0755);
  dir.File("outer", "#!" + (dir / "s") + " hi\n", 0755);
  EXPECT_EQ(Sh((dir / "s") + " one").out, (dir / "s") + " one\n");
  EXPECT_EQ(Sh(dir / "arg").status, Exited(1)) << "one optional argument is passed";
  EXPECT_EQ(Sh(dir / "outer").out, (dir / "s") + " hi\n") << "a script as the interpreter";
}

TEST(execve, Errors) {
  Scratch dir;
  dir.File("plain", "echo x\n", 0755);
  dir.File("noexec", "#!/bin/sh\n", 0644);
  dir.File("empty", "", 0755);
  dir.File("bad", "#!/no/such/interpreter\n", 0755);
  dir.File("loop", "#!" + (dir / "loop") + "\n", 0755);
  dir.File("elf", std::string("\177ELF\2\1\1", 7) + std::string(200, '\0'), 0755);
  EXPECT_EQ(ExecErrno(dir / "none"), ENOENT);
  EXPECT_EQ(ExecErrno(dir / "plain"), ENOEXEC);
  EXPECT_EQ(ExecErrno(dir / "noexec"), EACCES);
  EXPECT_EQ(ExecErrno(dir / "empty"), ENOEXEC);
  EXPECT_EQ(ExecErrno(dir / "bad"), ENOENT);
  EXPECT_EQ(ExecErrno(dir / "loop"), ELOOP);
  EXPECT_EQ(ExecErrno(dir / "elf"), ENOEXEC);
  EXPECT_EQ(ExecErrno(dir.path()), EACCES) << "a directory";
  EXPECT_EQ(ExecErrno(dir / "plain/x"), ENOTDIR);
  EXPECT_EQ(ExecErrno("/dev/null"), EACCES);
  EXPECT_EQ(ExecErrno("/bin/sh", 131072), E2BIG) << "one string of 32 pages";
  EXPECT_EQ(ExecErrno("/no/such/dir/x"), ENOENT);
  char* none[] = {nullptr};
  EXPECT_ERRNO(EFAULT, syscall(SYS_execve, BadPointer(), none, none));
  EXPECT_ERRNO(EFAULT, syscall(SYS_execve, "/bin/sh", BadPointer(), none));
  char* wild[] = {Bad<char>(), nullptr};
  EXPECT_ERRNO(EFAULT, syscall(SYS_execve, "/bin/sh", wild, none));
}

TEST(execve, TextIsBusyWhileWrittenTo) {
  Scratch dir;
  std::string self = ReadFile("/bin/true");
  dir.File("t", self, 0755);
  {
    Fd writer(open((dir / "t").c_str(), O_WRONLY | O_CLOEXEC));
    EXPECT_EQ(ExecErrno(dir / "t"), ETXTBSY);
  }
  EXPECT_EQ(Sh(dir / "t").status, Exited(0));
}

TEST(execve, TotalArgumentSizeIsLimitedByTheStack) {
  IN_CHILD([&] {
    rlimit lim = {1 << 20, 1 << 20};
    CHILD_CHECK(setrlimit(RLIMIT_STACK, &lim) == 0);
    std::string arg(100000, 'a');
    const char* argv[] = {"true", arg.c_str(), arg.c_str(), arg.c_str(), arg.c_str(), nullptr};
    const char* envp[] = {nullptr};
    CHILD_CHECK(syscall(SYS_execve, "/bin/true", argv, envp) == -1 && errno == E2BIG);
    argv[3] = nullptr;  // 200 kB is below a quarter of the limit
    syscall(SYS_execve, "/bin/true", argv, envp);
    return 98;
  });
}

TEST(execve, LongArgumentListArrivesIntact) {
  std::string script = "echo $#; eval last=\\${$#}; echo $last";
  Pipe p;
  pid_t child = Spawn([&] {
    dup2(p.w, 1);
    std::vector<std::string> args = {"sh", "-c", script, "zero"};
    for (int i = 1; i <= 5000; i++) args.push_back("argument" + std::to_string(i));
    std::vector<char*> argv;
    for (auto& a : args) argv.push_back(a.data());
    argv.push_back(nullptr);
    char* envp[] = {nullptr};
    syscall(SYS_execve, "/bin/sh", argv.data(), envp);
    return 99;
  });
  p.w.reset();
  EXPECT_EQ(ReadFd(p.r), "5000\nargument5000\n");
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(execve, FromAThreadReplacesTheWholeProcess) {
  Pipe p;
  pid_t child = Spawn([&] {
    dup2(p.w, 1);
    std::thread([] {
      while (true) pause();
    }).detach();
    std::thread([] {
      execl("/bin/sh", "sh", "-c", "echo $$ $(ls /proc/$$/task | wc -l)", nullptr);
    }).join();
    return 99;
  });
  p.w.reset();
  EXPECT_EQ(ReadFd(p.r), std::to_string(child) + " 1\n");
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(execve, SetsCommAndCmdline) {
  Outcome o = Sh("cat /proc/$$/comm; tr '\\0' ' ' </proc/$$/cmdline | cut -c1-8");
  EXPECT_EQ(o.out, "sh\nsh -c ca\n");
}

TEST(execve, SetuidProgramsChangeTheEffectiveUser) {
  if (!IsRoot()) {
    // The bit works for the owner's own id too: nothing to gain, nothing to lose.
    Scratch dir;
    dir.File("id", ReadFile("/usr/bin/id"), 0755);
    ASSERT_OK(chmod((dir / "id").c_str(), 04755));
    EXPECT_EQ(Sh((dir / "id") + " -u").out, std::to_string(geteuid()) + "\n");
    return;
  }
  Scratch dir;
  ASSERT_OK(chmod(dir.c_str(), 0755));
  dir.File("id", ReadFile("/usr/bin/id"), 0755);
  ASSERT_OK(chown((dir / "id").c_str(), 4321, 0));
  ASSERT_OK(chmod((dir / "id").c_str(), 04755));
  Pipe p;
  pid_t child = Spawn([&] {
    dup2(p.w, 1);
    CHILD_CHECK(setresuid(12345, 12345, 12345) == 0);
    execl((dir / "id").c_str(), "id", "-u", nullptr);
    return 99;
  });
  p.w.reset();
  EXPECT_EQ(ReadFd(p.r), "4321\n");
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(execveat, ByDescriptor) {
  Scratch dir;
  dir.File("s", "#!/bin/sh\necho script\n", 0755);
  auto run = [&](int fd, const char* path, int flags) {
    Pipe p;
    pid_t child = Spawn([&] {
      dup2(p.w, 1);
      const char* argv[] = {"name", "-c", "echo via fd", nullptr};
      const char* envp[] = {nullptr};
      syscall(SYS_execveat, fd, path, argv, envp, flags);
      dprintf(1, "%s", strerrorname_np(errno));
      return 98;
    });
    p.w.reset();
    std::string out = ReadFd(p.r);
    WaitFor(child);
    return out;
  };
  Fd sh(open("/bin/sh", O_PATH | O_CLOEXEC));
  EXPECT_EQ(run(sh, "", AT_EMPTY_PATH), "via fd\n");
  EXPECT_EQ(run(sh, "", 0), "ENOENT");
  Fd kept(open(dir.c_str(), O_RDONLY | O_DIRECTORY));
  EXPECT_EQ(run(kept, "s", 0), "script\n") << "relative to a directory";
  EXPECT_EQ(run(dir.Dir(), "s", 0), "ENOENT") << "closed before the interpreter opens it";
  Fd script(open((dir / "s").c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(run(script, "", AT_EMPTY_PATH), "ENOENT") << "the interpreter could not open it";
  ASSERT_OK(symlink("/bin/sh", (dir / "l").c_str()));
  EXPECT_EQ(run(dir.Dir(), "l", AT_SYMLINK_NOFOLLOW), "ELOOP");
  EXPECT_EQ(run(sh, "x", 0x40000000), "EINVAL");
  EXPECT_EQ(run(kBadFd, "x", 0), "EBADF");
}

TEST(execve, AuxiliaryVector) {
  EXPECT_EQ(getauxval(AT_PAGESZ), kPage);
  EXPECT_EQ(getauxval(AT_UID), getuid());
  EXPECT_EQ(getauxval(AT_EUID), geteuid());
  EXPECT_EQ(getauxval(AT_GID), getgid());
  EXPECT_EQ(getauxval(AT_CLKTCK), 100u);
  EXPECT_EQ(getauxval(AT_SECURE), 0u);
  EXPECT_EQ(getauxval(AT_PHENT), sizeof(Elf64_Phdr));
  auto* phdr = reinterpret_cast<const Elf64_Phdr*>(getauxval(AT_PHDR));
  ASSERT_NE(phdr, nullptr);
  bool load = false;
  for (size_t i = 0; i < getauxval(AT_PHNUM); i++) load |= phdr[i].p_type == PT_LOAD;
  EXPECT_TRUE(load);
  auto* random = reinterpret_cast<const uint64_t*>(getauxval(AT_RANDOM));
  ASSERT_NE(random, nullptr);
  EXPECT_NE(random[0] | random[1], 0u);
  EXPECT_STREQ(reinterpret_cast<const char*>(getauxval(AT_PLATFORM)), "x86_64");
  EXPECT_NE(getauxval(AT_EXECFN), 0u);
  auto* vdso = reinterpret_cast<const Elf64_Ehdr*>(getauxval(AT_SYSINFO_EHDR));
  ASSERT_NE(vdso, nullptr);
  EXPECT_EQ(memcmp(vdso->e_ident, ELFMAG, SELFMAG), 0);
}

}  // namespace
}  // namespace uk::test
