// How guest code runs and traps. A Platform makes GuestSpaces (one host process, a "stub", each: an
// address space without any host system call of its own) and GuestContexts in them (one host thread
// each). Implementations are siblings: ptrace/, notify/, direct/, fake/; one conformance suite
// (platform/conformance) runs over all.
//
// Ownership: mm's AddressSpace owns its GuestSpace; a task owns its GuestContext, which must die
// before its space. The kernel owns the Platform, which outlives all. Everything runs on the
// reactor thread; run() and flush() may suspend. Untrusted: the guest controls every register and
// may write any stub memory that is writable in the guest: whatever is read from a stub is
// validated here; callers get clean values of hostile content.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "base/flags.h"
#include "base/ref.h"
#include "base/result.h"
#include "ukernel/arch/x86_64/debug_regs.h"
#include "ukernel/arch/x86_64/regs.h"
#include "ukernel/sched/fiber.h"

namespace uk {

enum class Prot : uint8_t { kNone = 0, kRead = 1, kWrite = 2, kExec = 4 };
UK_BITMASK(Prot);

enum class Access : uint8_t {
  kUnknown =
      0,  // the platform cannot tell (ptrace gives no error code); mm finds out from its own tables
  kRead = 1,
  kWrite = 2,
  kExec = 4,
};

struct Trap {
  enum class Kind : uint8_t {
    kSyscall,    // nr, args, ip are set; the guest waits for set_syscall_result() or set_regs()
    kPageFault,  // addr, access: for mm; the guest retries the instruction when run again
    kException,  // signo, code, addr, trapno: becomes a signal (SIGILL, SIGFPE, SIGTRAP, SIGSEGV by
                 // #GP, SIGBUS by #AC)
    kKicked,     // kick() brought it back; nothing happened
    kGone,       // the host thread or stub died (it may not, by itself): the task must be killed
  };
  Kind kind = Kind::kKicked;
  // kSyscall. `compat`: it came through int 0x80 or another 32-bit entry (we answer as a kernel
  // without IA32 emulation).
  uint64_t nr = 0;
  uint64_t args[6] = {};
  uint64_t ip = 0;  // after the syscall instruction
  bool compat = false;
  bool patchable = false;  // the call came by a costly way; its site could use Platform::gate()
  // kPageFault, kException
  uint64_t addr = 0;
  Access access = Access::kUnknown;
  int signo = 0;
  int code = 0;    // si_code
  int trapno = 0;  // x86 vector, as in the signal frame (14 for page faults)
  uint64_t error_code = 0;
  uint64_t debug_status = 0;  // of a debug exception: what DR6 says of it; 0: unknown
};

// What getpid(2) and its like return.
struct CallerIds {
  bool known = false;  // false: the kernel wants to see those calls
  uint32_t pid = 0, tid = 0, uid = 0, gid = 0, euid = 0, egid = 0;
  bool operator==(const CallerIds&) const = default;
};

class GuestContext {
 public:
  virtual ~GuestContext() = default;

  // Flushes the space's queued changes, resumes the guest with the state set before, and suspends
  // until it traps. Always returns after a kick().
  virtual Trap run(Park& park) = 0;
  // Called in run() when the guest has been let go, perhaps more than once: what is done then costs
  // it nothing. Must not suspend.
  std::function<void()> on_resumed;
  // It will run soon, for the first time: waking what runs it may begin. Does not suspend.
  virtual void call_up() {}
  // Brings the guest back soon: a run() in progress (or else the next one) returns kKicked, unless
  // another trap is first. Does not suspend; callable any time.
  virtual void kick() = 0;

  // After a kSyscall trap: the cheap way to answer. The call returns `rax` and the guest goes on
  // behind it.
  virtual void set_syscall_result(uint64_t rax) = 0;

  // The full register state as of the last trap; after kSyscall as Linux shows it: rax = -ENOSYS,
  // orig_rax = nr, rip behind the instruction. May cost round trips with the stub on some platforms
  // (hence Park). After any other trap orig_rax = -1. Error: kSRCH when the host thread is gone.
  virtual Result<arch::UserRegs> get_regs(Park& park) = 0;
  // Replaces it (eflags, segments and bases are made safe here). Overrides set_syscall_result().
  virtual Result<> set_regs(Park& park, const arch::UserRegs& regs) = 0;
  virtual Result<arch::FpState> get_fp(Park& park) = 0;
  virtual Result<> set_fp(Park& park,
                          const arch::FpState& fp) = 0;  // an empty state resets to the initial one
  // Single-step: the next run() returns a SIGTRAP exception after one instruction. Sticky until set
  // false.
  virtual void set_single_step(bool on) = 0;
  // What the processor is to stop the guest at from now on, as a SIGTRAP exception (TRAP_HWBKPT)
  // that names them in debug_status; all below user_limit(). Between two runs only. A new context
  // has none. Errors: kNOSPC: the host has or allows none, and the guest has none; kSRCH.
  virtual Result<> set_breakpoints(Park& park, const arch::Breakpoints& wanted) {
    (void)park;
    return wanted.any() ? Err(Errno::kNOSPC) : Result<>();
  }
  // From now on the stub may answer getpid, gettid, getuid, getgid, geteuid and getegid by itself
  // where they come through the gate, or may not any more. Callable any time, also while the guest
  // runs; a new context has no known ids. The guest may change what it is told. Platforms that
  // answer nothing need nothing here.
  virtual void set_ids(const CallerIds& ids) { (void)ids; }
  // The guest will not run again, most likely: its CPU shall be free for others.
  virtual void leave_cpu() {}
  // The host thread id, for diagnostics only; 0 if there is none.
  virtual int host_tid() const = 0;

 protected:
  void resumed() const {
    if (on_resumed) on_resumed();
  }
};

// Spaces that are most likely alike: of the children that one program forks. And the guests in them
// trust each other: a stub that goes from one to the next may be short of rights that the
// first one gave up by itself (or, a page that can be read, have the right to execute more).
struct SpaceLine {
  // Those with the same two objects are of one line; null: of none.
  Ref<RefCounted> image, trust;
  explicit operator bool() const { return image && trust; }
  bool operator==(const SpaceLine& o) const {
    return image.get() == o.image.get() && trust.get() == o.trust.get();
  }
};

// The host side of one guest address space. Changes are queued and reach the stub in one batch: at
// flush(), or before any context of the space runs again. A range that was never mapped faults.
class GuestSpace {
 public:
  virtual ~GuestSpace() = default;

  // Maps [addr, addr+len) to `fd` at `offset`, shared, replacing what is there. Page-aligned,
  // inside the user range (CHECKed: these are our own decisions). `fd` must stay open until the
  // next flush. populate: fill host page tables now.
  virtual void map(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset,
                   bool populate) = 0;
  // The same where nothing is mapped, or will be once the guest has unmapped it, in no haste: until
  // some other change or a flush() takes it along, the guest may run without it, and faults at
  // addresses that late() knows of.
  virtual void map_late(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset,
                        bool populate) {
    map(addr, len, prot, fd, offset, populate);
  }
  virtual bool late(uint64_t addr) const { return (void)addr, false; }
  // kGuest: by a call of the guest's, which has one thread, in private mappings. It may be trusted
  // with the change: if the change is not made, that harms itself alone; but see unconfirmed().
  enum class By : uint8_t { kKernel, kGuest };
  virtual void unmap(uint64_t addr, uint64_t len, By by = By::kKernel) = 0;
  virtual void protect(uint64_t addr, uint64_t len, Prot prot, By by = By::kKernel) = 0;
  // All queued changes are in force when it returns, for every thread of the space. Before a page
  // that was mapped may be given to somebody else, its unmap must be flushed. Error: kSRCH when the
  // stub is gone; kNOMEM when the host refuses.
  virtual Result<> flush(Park& park) = 0;
  // Changes are queued or not yet in force (a flush is on its way), and no context of the space may
  // run. False: everything asked for so far is in force but for late mappings.
  virtual bool dirty() const = 0;
  // That pages were unmapped is the guest's word alone, until a flush(): others must not get them.
  virtual bool unconfirmed() const { return false; }
  // Creates a thread with the given state, not yet running.
  virtual Result<std::unique_ptr<GuestContext>> new_context(Park& park, const arch::UserRegs& regs,
                                                            const arch::FpState& fp) = 0;
  // Everything mapped so far is unmapped (exec, recycling); contexts keep existing.
  virtual void unmap_all() = 0;
  // When the space goes, what is mapped may stay where it is for the next space of its line. `pins`
  // keeps the descriptors of these mappings open until then.
  virtual void leave_mappings(Ref<RefCounted> pins) { (void)pins; }
  virtual int host_pid() const = 0;
};

class Platform {
 public:
  virtual ~Platform() = default;
  virtual std::string_view name() const = 0;  // "ptrace", "notify", ...
  // Guest addresses are below this; page-aligned. What lies above belongs to the stub and the host.
  virtual uint64_t user_limit() const = 0;
  virtual Result<std::unique_ptr<GuestSpace>> new_space(Park& park, const SpaceLine& line) = 0;
  // The kernel ends: from now on nothing that leave_mappings() gave is held, as its owners go
  // first.
  virtual void let_go() {}
  // Code in every space by which a patched call site makes its system call cheaply: jumped to with
  // the number in rax and the address behind the site's call instruction in rcx, it returns there,
  // or to the instruction itself. Works only while the guest's own GS base is 0. 0: there is none.
  virtual uint64_t gate() const { return 0; }
};

}  // namespace uk
