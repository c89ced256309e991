#include "ukernel/platform/seccomp/guest_thread.h"

#include <signal.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "ukernel/platform/seccomp/seccomp_platform.h"
#include "ukernel/platform/stub/host_trace.h"
#include "ukernel/platform/stub/safe_regs.h"

namespace uk::seccomp {
namespace {

constexpr uint64_t kTrapFlag = 0x100;
constexpr uint64_t kReturnAddressBytes = 8;  // of the frame, below the ucontext
constexpr size_t kInfoOffset = 304;          // of the siginfo, from the ucontext
constexpr size_t kFpSwReserved = 464, kFpSwReservedEnd = 512;
constexpr int kAutoDisarm =
    static_cast<int>(1u << 31);  // SS_AUTODISARM: frames always begin at the stack's end

arch::SigStack signal_stack(uint64_t address) {
  return {.sp = address, .flags = kAutoDisarm, .size = stub::kStackBytes};
}

}  // namespace

Slot GuestThread::slot_of(SeccompPlatform& platform, const stub::Stack& stack) {
  return platform.options().slots ? Slot(stack.bytes().data()) : Slot();
}

uint64_t GuestThread::prepare(const stub::Stack& stack, uint64_t stack_address) {
  const arch::SigFrameLayout l = arch::layout_sigframe(stack_address + stub::kStackBytes, true);
  const std::byte info[arch::kSiginfoBytes] = {};
  arch::SigFrameContent c = {
      .regs = {}, .fp = {}, .siginfo = info, .altstack = signal_stack(stack_address)};
  std::vector<std::byte> image(l.bytes());
  arch::build_sigframe(image, l, c);
  std::memcpy(stack.bytes().data() + (l.frame - stack_address), image.data(), image.size());
  return l.uc;
}

bool GuestThread::on_stack(uint64_t address, uint64_t len) const {
  return address >= stack_address_ && len <= stub::kStackBytes &&
         address - stack_address_ <= stub::kStackBytes - len;
}

bool GuestThread::frame_ok() const {
  const uint64_t uc = thread_.call().args[2];
  if (uc % 8 != 0 || !on_stack(uc - kReturnAddressBytes, arch::kSigFrameBytes)) return false;
  return signo() == 0 || !thread_.platform().in_stub_area(regs().rip);
}

uint64_t GuestThread::word(size_t offset) const {
  uint64_t v;
  std::memcpy(&v, at(thread_.call().args[2]) + offset, sizeof v);
  return v;
}

uint64_t GuestThread::host_gs(uint64_t guest_gs) const {
  return guest_gs == 0 && thread_.platform().options().slots ? stack_address_ : guest_gs;
}

arch::UserRegs GuestThread::regs() const {
  arch::UserRegs r = frame_regs();
  if (r.gs_base == stack_address_) r.gs_base = 0;
  if (thread_.platform().in_gate(r.rip)) leave_gate(r);
  return r;
}

bool GuestThread::answered(const Slot::Interrupted& i) const {
  return ((i.turn & UK_TURN_ANSWERED) != 0 || i.turn == UK_TURN_PARK) && !thread_.gated();
}

void GuestThread::leave_gate(arch::UserRegs& r) const {
  const SeccompPlatform::Gate& gate = thread_.platform().gate_places();
  if (r.rip == gate.known) {
    r.rip = r.rcx;
    return;
  }
  const Slot::Interrupted i = slot().interrupted(thread_.by_slot());
  if (r.rip < gate.posted) {
    if (r.rip >= gate.saving && r.rip < gate.saved) {
      r.rax = i.nr;
      r.rdx = i.args[2];
    }
    r.rip = r.rcx - UK_SYSCALL_BYTES;
    return;
  }
  const bool done = answered(i);
  if (done && returns_) {
    const uint64_t fs = r.fs_base, gs = r.gs_base;
    r = returns_->regs;
    r.fs_base = fs;
    r.gs_base = gs;
    return;
  }
  r.rip = done ? i.ret : i.ret - UK_SYSCALL_BYTES;
  r.rax = done ? i.result : i.nr;
  r.rcx = i.ret;
  // Asleep it uses these too.
  r.rdi = i.args[0];
  r.rsi = i.args[1];
  r.rdx = i.args[2];
  r.r10 = i.args[3];
  if (done) {  // ... and for errands
    r.r8 = i.args[4];
    r.r9 = i.args[5];
  }
}

bool GuestThread::fp_unloaded() const {
  const uint64_t rip = frame_regs().rip;
  const SeccompPlatform::Gate& gate = thread_.platform().gate_places();
  return returns_ && returns_->fp && rip >= gate.posted && rip < gate.loaded &&
         answered(slot().interrupted(thread_.by_slot()));
}

arch::UserRegs GuestThread::call_regs() const {
  arch::UserRegs r = stub::safe_regs(slot().call_regs());
  if (!thread_.platform().fsgsbase()) r.fs_base = fs_base_;
  return r;
}

arch::FpState GuestThread::call_fp() const {
  return arch::read_fp_state({slot().fp_area(), arch::xsave_bytes()});
}

bool GuestThread::set_return(const arch::UserRegs& regs, const arch::FpState* fp) {
  // Bases and segments are loaded by the handler. Steps must not begin in the gate.
  const arch::UserRegs usual, now = call_regs();
  if (regs.fs_base != now.fs_base || regs.gs_base != 0 || regs.cs != usual.cs ||
      regs.ss != usual.ss || (regs.eflags & kTrapFlag) != 0) {
    return false;
  }
  if (fp != nullptr) {
    arch::FpState safe = *fp;
    arch::sanitize_fp_state(safe);
    arch::write_fp_state({slot().fp_area(), arch::xsave_bytes()}, safe);
  }
  slot().set_return(regs);
  thread_.set_load(UK_LOAD_REGS | (fp != nullptr ? UK_LOAD_FP : 0));
  returns_ = {.regs = regs, .fp = fp != nullptr};
  return true;
}

arch::UserRegs GuestThread::frame_regs() const {
  std::byte frame[arch::kSigFrameBytes];
  std::memcpy(frame, at(thread_.call().args[2] - kReturnAddressBytes), sizeof frame);
  arch::UserRegs now;
  // DEVIATION: without FSGSBASE a guest that loads a selector changes its base unseen; no 64-bit
  // program does.
  const bool told = thread_.platform().fsgsbase() && signo() != 0;
  now.fs_base = told ? thread_.call().args[4] : fs_base_;
  now.gs_base = told ? thread_.call().args[5] : host_gs(gs_base_);
  return arch::parse_sigframe(frame, now).regs;
}

siginfo_t GuestThread::siginfo() const {
  siginfo_t info;
  static_assert(sizeof info == arch::kSiginfoBytes);
  std::memcpy(&info, at(thread_.call().args[2]) + kInfoOffset, sizeof info);
  info.si_signo = signo();
  return info;
}

std::byte* GuestThread::fp_area() const {
  const uint64_t fp = word(kFpState);
  if (fp % 64 != 0 || !on_stack(fp, arch::xsave_bytes() + 4)) return nullptr;
  return at(fp);
}

arch::FpState GuestThread::fp() const {
  const std::byte* area = fp_area();
  if (area == nullptr) return arch::initial_fp_state();
  return arch::read_fp_state({area, arch::xsave_bytes()});
}

void GuestThread::set_fp(const arch::FpState& fp) {
  std::byte* area = fp_area();
  if (area == nullptr) return;  // it forged the frame: what it gets is its own affair
  arch::FpState safe = fp.empty() ? arch::initial_fp_state() : fp;
  arch::sanitize_fp_state(safe);
  // The words in between tell the host the area's size and features.
  std::memcpy(area, safe.data(), kFpSwReserved);
  std::memcpy(area + kFpSwReservedEnd, safe.data() + kFpSwReservedEnd,
              safe.size() - kFpSwReservedEnd);
}

uint64_t GuestThread::set_regs(const arch::UserRegs& regs, bool clear) {
  const arch::UserRegs now = frame_regs();
  const uint64_t gs = host_gs(regs.gs_base);
  uint64_t answer = clear ? UK_ANSWER_CLEAR_SEGMENTS : 0;
  if (clear || regs.fs_base != now.fs_base) answer |= UK_ANSWER_SET_FS;
  if (clear || gs != now.gs_base) answer |= UK_ANSWER_SET_GS;
  fs_base_ = regs.fs_base;
  gs_base_ = regs.gs_base;
  // The whole frame is written anew, but for the pointer to the fp area: nothing the guest left
  // there counts.
  const uint64_t uc = thread_.call().args[2];
  const uint64_t frame = uc - kReturnAddressBytes;
  const uint64_t fp = fp_area() != nullptr ? word(kFpState) : 0;
  const std::byte info[arch::kSiginfoBytes] = {};
  arch::SigFrameContent c = {
      .regs = regs, .fp = {}, .siginfo = info, .altstack = signal_stack(stack_address_)};
  std::byte image[arch::kSigFrameBytes];
  arch::build_sigframe_head(image, c, fp);
  std::memcpy(image + kReturnAddressBytes + UK_UC_FS_BASE, &regs.fs_base, sizeof regs.fs_base);
  std::memcpy(image + kReturnAddressBytes + UK_UC_GS_BASE, &gs, sizeof gs);
  std::memcpy(at(frame), image, sizeof image);
  return answer;
}

Result<> GuestThread::set_breakpoints(const arch::Breakpoints& wanted) {
  if (wanted == breakpoints_) return {};
  const Result<stub::HostTrace> trace = stub::HostTrace::begin(thread_.tid());
  if (!trace) return Err(trace.error() == Errno::kSRCH ? Errno::kSRCH : Errno::kNOSPC);
  return stub::load_breakpoints(thread_.tid(), breakpoints_, wanted);
}

Result<uint64_t> GuestThread::debug_status() {
  const stub::HostTrace trace = TRY(stub::HostTrace::begin(thread_.tid()));
  return stub::debug_status(thread_.tid());
}

void GuestThread::set_ids(const CallerIds& ids) {
  if (!slot()) return;
  uint64_t known[UK_KNOWN_WORDS] = {};
  if (ids.known) {
    known[UK_KNOWN_PID] = UK_KNOWN | ids.pid;
    known[UK_KNOWN_TID] = UK_KNOWN | ids.tid;
    known[UK_KNOWN_UID] = UK_KNOWN | ids.uid;
    known[UK_KNOWN_GID] = UK_KNOWN | ids.gid;
    known[UK_KNOWN_EUID] = UK_KNOWN | ids.euid;
    known[UK_KNOWN_EGID] = UK_KNOWN | ids.egid;
  }
  slot().set_known(known);
}

bool GuestThread::scrub() {
  const uint64_t uc = thread_.call().args[2];
  const std::byte* area = fp_area();
  if (area == nullptr) return false;
  arch::SigFrameLayout l = {.frame = uc - kReturnAddressBytes, .uc = uc, .info = uc + kInfoOffset};
  l.fp = stack_address_ + static_cast<uint64_t>(area - stack_.bytes().data());
  l.end = l.fp + arch::xsave_bytes() + 4;
  if (l.fp < l.frame + arch::kSigFrameBytes) return false;
  // Written over, not given back to the host: pages that go and come again cost many times that.
  std::ranges::fill(stack_.bytes(), std::byte{0});
  if (slot()) slot().set_address(stack_address_);
  const std::byte info[arch::kSiginfoBytes] = {};
  arch::SigFrameContent c = {
      .regs = {}, .fp = {}, .siginfo = info, .altstack = signal_stack(stack_address_)};
  std::vector<std::byte> image(l.bytes());
  arch::build_sigframe(image, l, c);
  std::memcpy(at(l.frame), image.data(), image.size());
  return true;
}

}  // namespace uk::seccomp
