// The kernel's end of a guest thread's slot (direct): a report and its answer through memory that
// the kernel and the stub share, while both spin. The protocol is the turn word's (stub/abi.h);
// each side changes it by compare-and-swap, so that a report is either taken or taken back.
//
// Ownership: a view on the base of the thread's signal stack, which outlives it. Nothing suspends.
// Untrusted: all of it; the guest can write any word at any moment. What take() copies is what the
// guest wants us to believe, as its registers are, and no proof that the thread stands still.
#pragma once

#include <linux/seccomp.h>

#include <atomic>
#include <cstdint>

#include "ukernel/platform/stub/layout.h"

namespace uk::seccomp {

class Slot {
 public:
  Slot() = default;  // none
  explicit Slot(std::byte* base) : words_(reinterpret_cast<stub::SlotWords*>(base)) {}
  explicit operator bool() const { return words_ != nullptr; }

  // True: a report was there, and the stub waits for the answer. Its arguments are put where those
  // of a report by call would be.
  bool take(seccomp_data* call) {
    if (turn().load(std::memory_order_relaxed) != UK_TURN_REPORTED) return false;
    if (!change(UK_TURN_REPORTED, UK_TURN_TAKEN)) return false;
    const volatile stub::SlotWords& w = *words_;
    *call = {};
    call->nr = UK_NR_REPORT;
    call->args[0] = w.signo;
    call->args[2] = w.uc;
    call->args[4] = w.fs_base;
    call->args[5] = w.gs_base;
    return true;
  }

  // What became of an answer or of the word to park.
  enum class Gave {
    kDone,    // the stub will see it
    kParked,  // it waits in UK_NR_PARK, or will, and must be answered there
    kForged,  // the word holds what no stub writes
  };
  Gave answer(uint32_t value) {
    return change(UK_TURN_TAKEN, UK_TURN_ANSWERED | value) ? Gave::kDone : otherwise();
  }
  Gave park() { return change(UK_TURN_TAKEN, UK_TURN_PARK) ? Gave::kDone : otherwise(); }

 private:
  std::atomic_ref<uint32_t> turn() const { return std::atomic_ref(words_->turn); }
  bool change(uint32_t from, uint32_t to) {
    return turn().compare_exchange_strong(from, to, std::memory_order_seq_cst);
  }
  Gave otherwise() const {
    const uint32_t now = turn().load(std::memory_order_relaxed);
    return now == UK_TURN_PARKED || now == UK_TURN_PARK ? Gave::kParked : Gave::kForged;
  }

  stub::SlotWords* words_ = nullptr;
};

}  // namespace uk::seccomp
