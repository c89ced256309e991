// A platform with no guest: "instructions" are C++ functions at guest addresses, so that the run
// loop, signals, exec and mm can be tested with neither a host process nor host timing. A test adds
// instructions with FakePlatform::at(); a context runs the one at its rip, which moves rip, touches
// memory through the space's mappings, and may trap. Registers, single-stepping, kicks and faults
// behave as on the real platforms (the same conformance rules).
//
// Ownership: as platform.h. run() suspends only for an instruction that waits for a kick.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "ukernel/platform/platform.h"

namespace uk::fake {

class FakePlatform;
class FakeSpace;
class FakeContext;

// What an instruction may do. Loads and stores return the fault to return, if any.
class Cpu {
 public:
  arch::UserRegs& regs;

  // Ends the instruction as `syscall` does: rip moves on by two bytes. Arguments in Linux's order.
  Trap syscall(uint64_t nr, std::vector<uint64_t> args = {});
  // Lets the thread sit in user mode until it is kicked.
  void spin() { spinning_ = true; }
  void jump(uint64_t rip) { regs.rip = rip; }
  std::optional<Trap> load(uint64_t addr, uint64_t* value);
  std::optional<Trap> store(uint64_t addr, uint64_t value);
  Trap exception(int signo, int code, uint64_t addr, int trapno);

 private:
  friend class FakeContext;
  Cpu(arch::UserRegs& r, FakeSpace& s) : regs(r), space_(s) {}
  FakeSpace& space_;
  bool spinning_ = false;
};

// Runs at its address; nothing: no trap, go on at rip.
using Instruction = std::function<std::optional<Trap>(Cpu&)>;

class FakeSpace final : public GuestSpace {
 public:
  explicit FakeSpace(FakePlatform& platform) : platform_(platform) {}
  ~FakeSpace() override;

  void map(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset, bool populate) override;
  void unmap(uint64_t addr, uint64_t len, By by = By::kKernel) override;
  void protect(uint64_t addr, uint64_t len, Prot prot, By by = By::kKernel) override;
  Result<> flush(Park& park) override;
  bool dirty() const override { return !queue_.empty(); }
  Result<std::unique_ptr<GuestContext>> new_context(Park& park, const arch::UserRegs& regs,
                                                    const arch::FpState& fp) override;
  void unmap_all() override;
  int host_pid() const override { return 0; }

  // For tests.
  std::optional<Prot> prot_of(uint64_t addr) const;
  size_t mapped_pages() const { return pages_.size(); }
  void die();  // as a stub killed from outside: contexts return kGone
  void fail_next_flush(Errno e) { flush_error_ = e; }

 private:
  friend class Cpu;
  friend class FakeContext;
  struct Page {
    Prot prot;
    int fd;
    uint64_t offset;
  };
  std::optional<Trap> access(uint64_t addr, Access a, uint64_t* value);

  FakePlatform& platform_;
  std::map<uint64_t, Page> pages_;
  std::vector<std::function<void()>> queue_;
  std::vector<FakeContext*> contexts_;
  bool gone_ = false;
  Errno flush_error_ = Errno::kOk;
};

class FakePlatform final : public Platform {
 public:
  std::string_view name() const override { return "fake"; }
  uint64_t user_limit() const override { return 0x7ffffffff000; }
  Result<std::unique_ptr<GuestSpace>> new_space(Park& park, const SpaceLine& line) override;

  void at(uint64_t rip, Instruction i) { code_[rip] = std::move(i); }
  uint64_t instructions_run() const { return run_; }

 private:
  friend class FakeContext;
  std::map<uint64_t, Instruction> code_;
  uint64_t run_ = 0;
};

}  // namespace uk::fake
