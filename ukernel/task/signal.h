// Signals: sets, siginfo, actions, queues (signal(7), sigaction(2)). The rules of delivery are in
// signal_delivery.cc.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <optional>
#include <vector>

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/sched/wait_queue.h"

namespace uk {

constexpr int kSignals = 64;

class SigSet {
 public:
  constexpr SigSet() = default;
  constexpr explicit SigSet(uint64_t bits) : bits_(bits) {}
  constexpr bool has(int signo) const { return (bits_ >> (signo - 1)) & 1; }
  constexpr void add(int signo) { bits_ |= 1ull << (signo - 1); }
  constexpr void remove(int signo) { bits_ &= ~(1ull << (signo - 1)); }
  constexpr uint64_t bits() const { return bits_; }
  constexpr bool empty() const { return bits_ == 0; }
  friend constexpr SigSet operator|(SigSet a, SigSet b) { return SigSet(a.bits_ | b.bits_); }
  friend constexpr SigSet operator&(SigSet a, SigSet b) { return SigSet(a.bits_ & b.bits_); }
  constexpr SigSet operator~() const { return SigSet(~bits_); }
  constexpr bool operator==(const SigSet&) const = default;

 private:
  uint64_t bits_ = 0;
};

// Guest ABI: siginfo_t, 128 bytes. The union is kept as bytes with typed accessors in
// abi/siginfo.h.
struct SigInfo {
  int32_t signo = 0;
  int32_t err = 0;
  int32_t code = 0;
  int32_t pad = 0;
  std::array<uint8_t, 112> fields{};
};
static_assert(sizeof(SigInfo) == 128);

SigInfo siginfo_user(int signo, int code, int pid, uint32_t uid);  // kill, tkill, sigqueue
SigInfo siginfo_fault(int signo, int code,
                      uint64_t addr);  // SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP
SigInfo siginfo_child(int code, int pid, uint32_t uid, int status, uint64_t utime,
                      uint64_t stime);  // SIGCHLD
SigInfo siginfo_sigqueue(int signo, int code, int pid, uint32_t uid, uint64_t value);
SigInfo siginfo_timer(int signo, int timer_id, int overrun, uint64_t value);
// Fields of a SigInfo by their offset in siginfo_t.
constexpr size_t kSigInfoPid = 16, kSigInfoUid = 20;  // of those that have them
uint32_t siginfo_u32(const SigInfo& info, size_t offset);
void siginfo_set_u32(SigInfo& info, size_t offset, uint32_t value);
void siginfo_set_u64(SigInfo& info, size_t offset, uint64_t value);
SigInfo siginfo_kernel(int signo);  // SI_KERNEL

constexpr SigSet sig_bits(std::initializer_list<int> signals) {
  SigSet s;
  for (int n : signals) s.add(n);
  return s;
}
// SIGKILL and SIGSTOP cannot be blocked, caught or ignored; faults come first.
constexpr SigSet kUnblockable = sig_bits({9, 19});
constexpr SigSet kSynchronous = sig_bits({4, 5, 7, 8, 11, 31});
constexpr SigSet kStopSignals = sig_bits({19, 20, 21, 22});
// What SIG_DFL means (signal(7)); the rest terminate.
constexpr SigSet kDefaultIgnored = sig_bits({17, 18, 23, 28});
constexpr SigSet kDefaultCore = sig_bits({3, 4, 5, 6, 7, 8, 11, 24, 25, 31});
constexpr int kFirstRealTime = 32;
constexpr uint64_t kSigDfl = 0, kSigIgn = 1;

struct SigAction {       // guest ABI of rt_sigaction
  uint64_t handler = 0;  // SIG_DFL 0, SIG_IGN 1
  uint64_t flags = 0;
  uint64_t restorer = 0;
  uint64_t mask = 0;
};

// Actions of a thread group; shared with CLONE_SIGHAND.
class SigHandlers final : public RefCounted {
 public:
  std::array<SigAction, kSignals + 1> actions;
  Ref<SigHandlers> copy() const;
  void reset_for_exec();  // handlers to default, ignored ones stay
};

// Pending signals of a task or a thread group. Standard signals are kept once, real-time ones queue
// up to a limit.
class SigQueue {
 public:
  // False when the real-time queue is full (kAGAIN for sigqueue). A standard signal that is pending
  // already is dropped.
  bool add(const SigInfo& info, uint64_t limit);
  SigSet pending() const { return pending_; }
  std::vector<SigInfo> all() const {
    return {queue_.begin(), queue_.end()};
  }  // in order of arrival
  // Takes the next one that is in `wanted`: synchronous faults first, then the lowest number.
  std::optional<SigInfo> take(SigSet wanted);
  void remove(SigSet which);
  // A timer's signal that is queued still (it keeps one entry; an overrun counts).
  bool has_timer(int signo, int timer_id) const;
  void remove_timer(int signo, int timer_id);
  void clear() { remove(SigSet(~0ull)); }

 private:
  SigSet pending_;
  std::deque<SigInfo> queue_;
};

}  // namespace uk
