#include "ukernel/platform/fake/fake_platform.h"

#include <signal.h>

#include <algorithm>
#include <span>

#include "base/check.h"
#include "hostio/sys/file.h"
#include "ukernel/platform/stub/safe_regs.h"

namespace uk::fake {
namespace {

constexpr uint64_t kPage = 4096;
constexpr int kStepsBetweenYields = 64;

}  // namespace

class FakeContext final : public GuestContext {
 public:
  FakeContext(FakeSpace& space, const arch::UserRegs& regs, const arch::FpState& fp)
      : space_(space), regs_(stub::safe_regs(regs)) {
    (void)store_fp(fp);
    space_.contexts_.push_back(this);
  }
  ~FakeContext() override { std::erase(space_.contexts_, this); }

  Trap run(Park& park) override;
  void kick() override {
    kicked_ = true;
    if (waiter_ != nullptr) waiter_->wake();
  }
  void set_syscall_result(uint64_t rax) override {
    regs_.rax = rax;
    regs_.orig_rax = ~0ull;
  }
  Result<arch::UserRegs> get_regs(Park&) override {
    if (space_.gone_) return Err(Errno::kSRCH);
    return regs_;
  }
  Result<> set_regs(Park&, const arch::UserRegs& regs) override {
    if (space_.gone_) return Err(Errno::kSRCH);
    regs_ = stub::safe_regs(regs);
    return {};
  }
  Result<arch::FpState> get_fp(Park&) override {
    if (space_.gone_) return Err(Errno::kSRCH);
    return fp_;
  }
  Result<> set_fp(Park&, const arch::FpState& fp) override { return store_fp(fp); }
  void set_single_step(bool on) override { single_step_ = on; }
  int host_tid() const override { return 0; }

 private:
  friend class FakeSpace;

  Result<> store_fp(const arch::FpState& fp) {
    fp_ = fp.empty() ? arch::initial_fp_state() : fp;
    arch::sanitize_fp_state(fp_);
    return {};
  }
  std::optional<Trap> step(Cpu& cpu);
  Trap simple(Trap::Kind kind) {
    Trap t;
    t.kind = kind;
    kicked_ = false;
    return t;
  }
  Trap stepped(int code) {
    in_syscall_ = false;
    Cpu cpu(regs_, space_);
    return cpu.exception(SIGTRAP, code, regs_.rip, 1);
  }

  FakeSpace& space_;
  arch::UserRegs regs_;
  arch::FpState fp_;
  bool kicked_ = false;
  bool single_step_ = false;
  bool in_syscall_ = false;
  Fiber* waiter_ = nullptr;
};

Trap FakeContext::run(Park& park) {
  if (!space_.flush(park) || space_.gone_) return simple(Trap::Kind::kGone);
  if (!kicked_ && in_syscall_ && single_step_) return stepped(TRAP_BRKPT);
  in_syscall_ = false;
  regs_.orig_rax = ~0ull;
  resumed();
  for (int steps = 0;;) {
    if (space_.gone_) return simple(Trap::Kind::kGone);
    if (kicked_) return simple(Trap::Kind::kKicked);
    Cpu cpu(regs_, space_);
    if (auto trap = step(cpu)) {
      in_syscall_ = trap->kind == Trap::Kind::kSyscall;
      kicked_ = false;
      return *trap;
    }
    if (single_step_) return stepped(TRAP_TRACE);
    if (cpu.spinning_) {
      waiter_ = &park.fiber();
      while (!kicked_ && !space_.gone_) park.suspend();
      waiter_ = nullptr;
    } else if (++steps % kStepsBetweenYields == 0) {
      park.yield();
    }
  }
}

std::optional<Trap> FakeContext::step(Cpu& cpu) {
  if (auto fault = space_.access(regs_.rip, Access::kExec, nullptr)) return fault;
  auto it = space_.platform_.code_.find(regs_.rip);
  if (it == space_.platform_.code_.end()) return cpu.exception(SIGILL, ILL_ILLOPN, regs_.rip, 6);
  ++space_.platform_.run_;
  return it->second(cpu);
}

Trap Cpu::syscall(uint64_t nr, std::vector<uint64_t> args) {
  args.resize(6);
  Trap t;
  t.kind = Trap::Kind::kSyscall;
  t.nr = nr;
  std::copy_n(args.begin(), 6, t.args);
  regs.rip += 2;
  t.ip = regs.rip;
  regs.orig_rax = nr;
  regs.rax = static_cast<uint64_t>(-38);
  regs.rdi = args[0], regs.rsi = args[1], regs.rdx = args[2];
  regs.r10 = args[3], regs.r8 = args[4], regs.r9 = args[5];
  regs.rcx = regs.rip;
  regs.r11 = regs.eflags;
  return t;
}

Trap Cpu::exception(int signo, int code, uint64_t addr, int trapno) {
  Trap t;
  t.kind = Trap::Kind::kException;
  t.signo = signo;
  t.code = code;
  t.addr = addr;
  t.trapno = trapno;
  t.ip = regs.rip;
  return t;
}

std::optional<Trap> Cpu::load(uint64_t addr, uint64_t* value) {
  return space_.access(addr, Access::kRead, value);
}
std::optional<Trap> Cpu::store(uint64_t addr, uint64_t value) {
  return space_.access(addr, Access::kWrite, &value);
}

FakeSpace::~FakeSpace() { CHECK(contexts_.empty()); }

void FakeSpace::map(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset, bool) {
  CHECK((addr | len | offset) % kPage == 0 && len != 0 && addr + len <= platform_.user_limit());
  queue_.push_back([=, this] {
    for (uint64_t i = 0; i < len; i += kPage) pages_[addr + i] = {prot, fd, offset + i};
  });
}

void FakeSpace::unmap(uint64_t addr, uint64_t len, By) {
  CHECK((addr | len) % kPage == 0 && len != 0 && addr + len <= platform_.user_limit());
  queue_.push_back(
      [=, this] { pages_.erase(pages_.lower_bound(addr), pages_.lower_bound(addr + len)); });
}

void FakeSpace::protect(uint64_t addr, uint64_t len, Prot prot, By) {
  CHECK((addr | len) % kPage == 0 && len != 0 && addr + len <= platform_.user_limit());
  queue_.push_back([=, this] {
    for (auto it = pages_.lower_bound(addr); it != pages_.end() && it->first < addr + len; ++it)
      it->second.prot = prot;
  });
}

void FakeSpace::unmap_all() {
  queue_.clear();
  queue_.push_back([this] { pages_.clear(); });
}

Result<> FakeSpace::flush(Park&) {
  if (gone_) return Err(Errno::kSRCH);
  for (auto& change : queue_) change();
  queue_.clear();
  if (flush_error_ == Errno::kOk) return {};
  gone_ = true;  // as a refused change ends a real stub
  return Err(std::exchange(flush_error_, Errno::kOk));
}

Result<std::unique_ptr<GuestContext>> FakeSpace::new_context(Park&, const arch::UserRegs& regs,
                                                             const arch::FpState& fp) {
  if (gone_) return Err(Errno::kSRCH);
  return std::make_unique<FakeContext>(*this, regs, fp);
}

std::optional<Prot> FakeSpace::prot_of(uint64_t addr) const {
  auto it = pages_.find(addr & ~(kPage - 1));
  if (it == pages_.end()) return std::nullopt;
  return it->second.prot;
}

void FakeSpace::die() {
  gone_ = true;
  for (FakeContext* c : contexts_)
    if (c->waiter_ != nullptr) c->waiter_->wake();
}

// Eight bytes at `addr` (which may not cross a page); for kExec only the permission counts.
std::optional<Trap> FakeSpace::access(uint64_t addr, Access a, uint64_t* value) {
  auto it = pages_.find(addr & ~(kPage - 1));
  const Prot need = a == Access::kRead    ? Prot::kRead
                    : a == Access::kWrite ? Prot::kWrite
                                          : Prot::kExec;
  const bool present = it != pages_.end();
  if (!present || !any(it->second.prot & need)) {
    Trap t;
    t.kind = Trap::Kind::kPageFault;
    t.addr = addr;
    t.access = a;
    t.signo = SIGSEGV;
    t.code = present ? SEGV_ACCERR : SEGV_MAPERR;
    t.trapno = 14;
    t.error_code = 4u | (present ? 1u : 0u) | (a == Access::kWrite ? 2u : 0u) |
                   (a == Access::kExec ? 16u : 0u);
    return t;
  }
  if (value == nullptr) return std::nullopt;
  CHECK(addr % kPage <= kPage - sizeof *value);
  auto bytes = std::as_writable_bytes(std::span(value, 1));
  const uint64_t offset = it->second.offset + addr % kPage;
  const size_t n = a == Access::kWrite ? CHECK_OK(sys::pwrite(it->second.fd, bytes, offset))
                                       : CHECK_OK(sys::pread(it->second.fd, bytes, offset));
  CHECK(n == bytes.size());
  return std::nullopt;
}

Result<std::unique_ptr<GuestSpace>> FakePlatform::new_space(Park&, const SpaceLine&) {
  return std::make_unique<FakeSpace>(*this);
}

}  // namespace uk::fake
