// The kernel's end of a guest thread's slot (direct): a report of the signal handler, or a call
// through the gate, and its answer, by memory that the kernel and the stub share, while both spin.
// The protocol is the turn word's (stub/abi.h); each side changes it by compare-and-swap, so that
// a report is either taken or taken back, and an answer is seen or overtaken. A call needs no mark
// that it was taken: nobody takes it back, and most are answered at once. A stub whose answer takes
// long sleeps on that word, as a futex. A handler that interrupts the gate posts its report over
// the call.
//
// Ownership: a view on the base of the thread's signal stack, which outlives it. Nothing suspends.
// Untrusted: all of it; the guest can write any word at any moment. What take() copies is what the
// guest wants us to believe, as its registers are, and no proof that the thread stands still.
#pragma once

#include <linux/audit.h>
#include <linux/seccomp.h>

#include <atomic>
#include <cstdint>
#include <span>

#include "hostio/sys/event.h"
#include "ukernel/arch/x86_64/regs.h"
#include "ukernel/platform/stub/layout.h"

namespace uk::seccomp {

class Slot {
 public:
  Slot() = default;  // none
  explicit Slot(std::byte* base) : words_(reinterpret_cast<stub::SlotWords*>(base)) {}
  explicit operator bool() const { return words_ != nullptr; }

  // What a signal in the gate interrupted; `by_slot`: its report came through the slot. Behind
  // uk_stub_gate_posted only.
  struct Interrupted {
    uint32_t turn;
    uint64_t nr, args[6], ret, result;
  };
  Interrupted interrupted(bool by_slot) const {
    const volatile stub::SlotWords& w = *words_;
    const uint32_t at = by_slot ? static_cast<uint32_t>(w.was) : turn().load();
    Interrupted i = {.turn = at, .nr = w.nr, .args = {}, .ret = w.ret, .result = w.result};
    for (int k = 0; k < 6; ++k) i.args[k] = w.args[k];
    return i;
  }

  enum class Found { kNothing, kReport, kCall, kCallAll };  // kCallAll: with all registers
  // If something was there, the stub waits for the answer. A report's arguments are put where those
  // of a report by system call would be; a call looks like the notification of that call.
  // A call that was taken still looks like a new one: `reports_only` from then on, until the thread
  // has been answered.
  Found take(seccomp_data* call, bool reports_only = false) {
    const uint32_t now = turn().load(std::memory_order_acquire);
    volatile stub::SlotWords& w = *words_;
    if (now == UK_TURN_CALL || now == UK_TURN_CALL_ALL) {
      if (reports_only) return Found::kNothing;
      call->nr = static_cast<int>(w.nr);
      call->arch = AUDIT_ARCH_X86_64;
      for (int i = 0; i < 6; ++i) call->args[i] = w.args[i];
      call->instruction_pointer = w.result;
      return now == UK_TURN_CALL ? Found::kCall : Found::kCallAll;
    }
    if (now != UK_TURN_REPORTED || !change(now, UK_TURN_TAKEN)) return Found::kNothing;
    *call = {};
    call->nr = UK_NR_REPORT;
    call->args[0] = w.signo;
    call->args[2] = w.uc;
    call->args[4] = w.fs_base;
    call->args[5] = w.gs_base;
    return Found::kReport;
  }

  // What became of an answer or of the word to sleep or to park.
  enum class Gave {
    kDone,       // the stub will see it
    kParked,     // it was told to wait in UK_NR_PARK, and must be answered there
    kOvertaken,  // a signal interrupted the gate: its report is in the slot instead of the call
    kForged,     // the word holds what no stub writes
  };
  Gave answer(uint32_t value) { return give(UK_TURN_ANSWERED | value); }
  // `load`: UK_LOAD_*, what else it returns with.
  Gave answer_call(uint64_t result, uint32_t load) {
    volatile stub::SlotWords& w = *words_;
    w.result = result;
    return answer(load);
  }
  // Before the guest runs: where its stub has the slot.
  void set_address(uint64_t address) { words_->self = address; }
  // Of a taken call with all registers: those of a thread in that call, as it says. The FS base is
  // there only if programs can read theirs.
  arch::UserRegs call_regs() const {
    const volatile stub::SlotWords& w = *words_;
    arch::UserRegs r;
    r.rbx = w.saved[0];
    r.rbp = w.saved[1];
    r.rsp = w.saved[2];
    r.r12 = w.saved[3];
    r.r13 = w.saved[4];
    r.r14 = w.saved[5];
    r.r15 = w.saved[6];
    r.fs_base = w.saved[7];
    r.rdi = w.args[0];
    r.rsi = w.args[1];
    r.rdx = w.args[2];
    r.r10 = w.args[3];
    r.r8 = w.args[4];
    r.r9 = w.args[5];
    r.rip = r.rcx = w.ret;
    r.r11 = r.eflags;
    return r;
  }
  // What a call that is answered with UK_LOAD_REGS returns with.
  void set_return(const arch::UserRegs& r) {
    volatile stub::SlotWords& w = *words_;
    const uint64_t to[UK_TO_WORDS] = {r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi,
                                      r.rbp, r.rsp, r.r8,  r.r9,  r.r10, r.r11,
                                      r.r12, r.r13, r.r14, r.r15, r.rip, r.eflags};
    for (int i = 0; i < UK_TO_WORDS; ++i) w.to[i] = to[i];
  }
  std::byte* fp_area() const { return reinterpret_cast<std::byte*>(words_) + UK_SLOT_FP; }
  // The results that the gate returns by itself, in the order of UK_KNOWN_*; may be called while it
  // does. They are the guest's as soon as they are there: nobody reads them back.
  void set_known(const uint64_t (&results)[UK_KNOWN_WORDS]) {
    for (int i = 0; i < UK_KNOWN_WORDS; ++i) {
      std::atomic_ref(words_->known[i]).store(results[i], std::memory_order_relaxed);
    }
  }
  // What the stub is to do before it goes on, when the answer says so (UK_ANSWER_ERRANDS).
  void set_errands(std::span<const stub::Errand> errands) {
    volatile stub::Errand* to = this->errands();
    for (const stub::Errand& e : errands) {
      to->addr = e.addr;
      to->len = e.len;
      to->nr = e.nr;
      to->prot = e.prot;
      ++to;
    }
    to->nr = 0;
  }
  // So it says.
  bool errands_made() const { return errands()->nr == 0; }
  // The stub stands still in a report by system call, and is about to be told that its answer will
  // be here (UK_ANSWER_IN_SLOT).
  void expect_answer() { turn().store(UK_TURN_TAKEN, std::memory_order_seq_cst); }
  // The stub stands still in a report by system call: what it interrupted shall not be found.
  void clear() { turn().store(0, std::memory_order_seq_cst); }
  Gave park() { return give(UK_TURN_PARK); }
  // A call shall be made by its instruction: a signal with all registers.
  Gave send_back() { return give(UK_TURN_BACK); }
  // A call was taken, and is not answered at once: the stub shall not take that for nobody looking.
  // No matter if it has changed meanwhile.
  void mark_taken() {
    const uint32_t now = turn().load(std::memory_order_relaxed);
    if (now == UK_TURN_CALL || now == UK_TURN_CALL_ALL) (void)change(now, UK_TURN_TAKEN);
  }
  // The answer will take a while.
  Gave sleep() {
    return turn().load(std::memory_order_relaxed) == UK_TURN_SLEEP ? Gave::kDone
                                                                   : give(UK_TURN_SLEEP);
  }

 private:
  volatile stub::Errand* errands() const {
    return reinterpret_cast<stub::Errand*>(reinterpret_cast<std::byte*>(words_) + UK_SLOT_ERRANDS);
  }
  std::atomic_ref<uint32_t> turn() const { return std::atomic_ref(words_->turn); }
  bool change(uint32_t from, uint32_t to) {
    return turn().compare_exchange_strong(from, to, std::memory_order_seq_cst);
  }
  static bool waits(uint32_t turn) {
    return turn == UK_TURN_TAKEN || turn == UK_TURN_CALL || turn == UK_TURN_CALL_ALL ||
           turn == UK_TURN_SLEEP;
  }
  // To the stub that waits for an answer.
  Gave give(uint32_t word) {
    uint32_t now = turn().load(std::memory_order_relaxed);
    for (int tries = 0; waits(now) && tries < kTries; ++tries) {
      if (!turn().compare_exchange_strong(now, word, std::memory_order_seq_cst)) continue;
      // It may not have fallen asleep yet.
      if (now == UK_TURN_SLEEP) (void)sys::futex_wake(&words_->turn, 1, true);
      return Gave::kDone;
    }
    if (now == UK_TURN_REPORTED) return Gave::kOvertaken;
    return now == UK_TURN_PARK ? Gave::kParked : Gave::kForged;
  }

  static constexpr int kTries = 8;  // a stub changes the word once or twice while it waits

  stub::SlotWords* words_ = nullptr;
};

}  // namespace uk::seccomp
