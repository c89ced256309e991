// An instance in invented time on the fake platform, for tests of tasks: programs are lists of C++
// steps, one "instruction" each, and a call of the test's own making is a function.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/check.h"
#include "ukernel/fs/tmpfs/tmpfs.h"
#include "ukernel/kernel.h"
#include "ukernel/platform/fake/fake_platform.h"
#include "ukernel/sched/test_kit.h"
#include "ukernel/task/exit.h"
#include "ukernel/task/signal_delivery.h"
#include "ukernel/task/wait.h"
#include "ukernel/vfs/anon_inode.h"

namespace uk {

constexpr uint64_t kTextBase = 0x400000, kEntry = 0x401000;

// A file in memory, read-only.
class BytesFile final : public File {
 public:
  explicit BytesFile(std::string bytes)
      : File(make_anon_path("bytes"), 0), bytes(std::move(bytes)) {}
  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override {
    if (offset >= bytes.size()) return 0;
    return to.put(park, std::as_bytes(std::span(bytes)).subspan(offset));
  }
  std::string bytes;
};

// A minimal ELF: one read-execute segment of two pages at kTextBase, one writable page behind it.
std::string tiny_elf(uint64_t entry = kEntry);

class SimKernel : public SyscallDispatcher {
 public:
  using Call = std::function<Result<int64_t>(Task&, const uint64_t (&)[6])>;
  using Step = fake::Instruction;

  explicit SimKernel(uint64_t mem_pages = 4096);
  ~SimKernel() override;

  Result<int64_t> dispatch(Task& task, uint64_t nr, const uint64_t (&args)[6]) override {
    auto at = calls.find(nr);
    return at == calls.end() ? Result<int64_t>(Err(Errno::kNOSYS)) : at->second(task, args);
  }
  // Puts steps at `address`, two bytes apart; each falls through to the next unless it jumps.
  void code(uint64_t address, std::vector<Step> steps);
  // A step that makes a call with fixed arguments.
  static Step call(uint64_t nr, std::vector<uint64_t> args = {}) {
    return [nr, args](fake::Cpu& cpu) { return cpu.syscall(nr, args); };
  }
  // Jumps when the last result is `value`.
  static Step jump_if(int64_t value, uint64_t to);
  static Step jump(uint64_t to) {
    return [to](fake::Cpu& cpu) -> std::optional<Trap> {
      cpu.jump(to);
      return std::nullopt;
    };
  }
  static Step ret();  // pops rip: the end of a signal handler
  static Step spin();

  // Starts pid 1 from a tiny ELF and runs until it ends (or nothing can happen); its wait status.
  int run();

  SimReactor sim;
  Log log;
  fake::FakePlatform* platform = nullptr;
  std::unique_ptr<Kernel> kernel;
  std::map<uint64_t, Call> calls;
  std::vector<int64_t> notes;  // by kNote
  Result<> started = Err(Errno::kAGAIN);
  std::string init_path = "/init";
  void make_file(Park& park, const std::string& path, const std::string& content, uint32_t mode);
  std::function<void(Park&)> prepare;

  // Calls every test has; numbers of our own.
  enum : uint64_t {
    kExit = 1,    // exit_group(status)
    kFork,        // fork()
    kWait,        // wait4(pid, options): the status word, or -errno
    kKill,        // kill(pid, signal)
    kPause,       // pause()
    kAction,      // sigaction(signal, handler, flags)
    kNote,        // appends the argument to notes
    kReturn,      // rt_sigreturn()
    kSleep,       // sleeps ns, restartable
    kThread,      // a thread at the given rip
    kExitThread,  // exit(status)
    kExec,        // execve("/init2")
    kMask,        // blocks the given set
  };
  static constexpr uint64_t kRestorer = 0x401f00;

 private:
  void standard_calls();
  int status_ = -1;
};

}  // namespace uk
