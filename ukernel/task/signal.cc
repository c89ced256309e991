#include "ukernel/task/signal.h"

#include <signal.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"

namespace uk {
namespace {

// Offsets in siginfo_t (sigaction(2)); the union starts at 16.
constexpr size_t kUnion = 16;

void set_bytes(SigInfo& info, size_t offset, const void* from, size_t n) {
  CHECK(offset >= kUnion && offset + n <= sizeof(SigInfo));
  std::memcpy(info.fields.data() + (offset - kUnion), from, n);
}

}  // namespace

uint32_t siginfo_u32(const SigInfo& info, size_t offset) {
  CHECK(offset >= kUnion && offset + 4 <= sizeof(SigInfo));
  uint32_t v;
  std::memcpy(&v, info.fields.data() + (offset - kUnion), sizeof v);
  return v;
}

void siginfo_set_u32(SigInfo& info, size_t offset, uint32_t value) {
  set_bytes(info, offset, &value, sizeof value);
}

void siginfo_set_u64(SigInfo& info, size_t offset, uint64_t value) {
  set_bytes(info, offset, &value, sizeof value);
}

SigInfo siginfo_user(int signo, int code, int pid, uint32_t uid) {
  SigInfo info;
  info.signo = signo;
  info.code = code;
  siginfo_set_u32(info, 16, static_cast<uint32_t>(pid));
  siginfo_set_u32(info, 20, uid);
  return info;
}

SigInfo siginfo_sigqueue(int signo, int code, int pid, uint32_t uid, uint64_t value) {
  SigInfo info = siginfo_user(signo, code, pid, uid);
  siginfo_set_u64(info, 24, value);
  return info;
}

SigInfo siginfo_fault(int signo, int code, uint64_t addr) {
  SigInfo info;
  info.signo = signo;
  info.code = code;
  siginfo_set_u64(info, 16, addr);
  return info;
}

SigInfo siginfo_child(int code, int pid, uint32_t uid, int status, uint64_t utime, uint64_t stime) {
  SigInfo info = siginfo_user(SIGCHLD, code, pid, uid);
  siginfo_set_u32(info, 24, static_cast<uint32_t>(status));
  siginfo_set_u64(info, 32, utime);
  siginfo_set_u64(info, 40, stime);
  return info;
}

SigInfo siginfo_timer(int signo, int timer_id, int overrun, uint64_t value) {
  SigInfo info;
  info.signo = signo;
  info.code = SI_TIMER;
  siginfo_set_u32(info, 16, static_cast<uint32_t>(timer_id));
  siginfo_set_u32(info, 20, static_cast<uint32_t>(overrun));
  siginfo_set_u64(info, 24, value);
  return info;
}

SigInfo siginfo_kernel(int signo) {
  SigInfo info;
  info.signo = signo;
  info.code = SI_KERNEL;
  return info;
}

Ref<SigHandlers> SigHandlers::copy() const {
  auto h = make_ref<SigHandlers>();
  h->actions = actions;
  return h;
}

void SigHandlers::reset_for_exec() {
  for (SigAction& a : actions) {
    bool ignored = a.handler == kSigIgn;
    a = SigAction{};
    if (ignored) a.handler = kSigIgn;
  }
}

bool SigQueue::add(const SigInfo& info, uint64_t limit) {
  if (info.signo < kFirstRealTime) {
    if (pending_.has(info.signo)) return true;
  } else if (queue_.size() >= limit) {
    return false;
  }
  pending_.add(info.signo);
  queue_.push_back(info);
  return true;
}

std::optional<SigInfo> SigQueue::take(SigSet wanted) {
  SigSet ready = pending_ & wanted;
  if (ready.empty()) return std::nullopt;
  SigSet first = ready & kSynchronous;
  int signo = std::countr_zero((first.empty() ? ready : first).bits()) + 1;
  auto at = std::find_if(queue_.begin(), queue_.end(),
                         [&](const SigInfo& i) { return i.signo == signo; });
  CHECK(at != queue_.end());
  SigInfo info = *at;
  at = queue_.erase(at);
  bool more = std::any_of(at, queue_.end(), [&](const SigInfo& i) { return i.signo == signo; });
  if (!more) pending_.remove(signo);
  return info;
}

void SigQueue::remove(SigSet which) {
  if ((pending_ & which).empty()) return;
  std::erase_if(queue_, [&](const SigInfo& i) { return which.has(i.signo); });
  pending_ = pending_ & ~which;
}

void SigQueue::remove_timer(int signo, int timer_id) {
  if (!has_timer(signo, timer_id)) return;
  std::erase_if(queue_, [&](const SigInfo& i) {
    return i.signo == signo && i.code == SI_TIMER &&
           siginfo_u32(i, 16) == static_cast<uint32_t>(timer_id);
  });
  if (std::none_of(queue_.begin(), queue_.end(),
                   [&](const SigInfo& i) { return i.signo == signo; }))
    pending_.remove(signo);
}

bool SigQueue::has_timer(int signo, int timer_id) const {
  if (!pending_.has(signo)) return false;
  return std::any_of(queue_.begin(), queue_.end(), [&](const SigInfo& i) {
    return i.signo == signo && i.code == SI_TIMER &&
           siginfo_u32(i, 16) == static_cast<uint32_t>(timer_id);
  });
}

}  // namespace uk
