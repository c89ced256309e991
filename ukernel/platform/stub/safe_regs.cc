#include "ukernel/platform/stub/safe_regs.h"

namespace uk::stub {
namespace {

constexpr uint64_t kUserCs = 0x33, kUser32Cs = 0x23, kUserDs = 0x2b;
constexpr uint64_t kMaxBase = 0x7ffffffff000;

uint64_t data_segment(uint64_t s) { return s == kUserDs || s == kUser32Cs || s == kUserCs ? s : 0; }
uint64_t base(uint64_t b) { return b < kMaxBase ? b : 0; }

}  // namespace

arch::UserRegs safe_regs(const arch::UserRegs& regs) {
  arch::UserRegs r = regs;
  r.cs = r.cs == kUser32Cs ? kUser32Cs : kUserCs;
  r.ss = kUserDs;
  r.ds = data_segment(r.ds);
  r.es = data_segment(r.es);
  r.fs = data_segment(r.fs);
  r.gs = data_segment(r.gs);
  r.fs_base = base(r.fs_base);
  r.gs_base = base(r.gs_base);
  r.eflags = arch::sanitize_eflags(r.eflags);
  return r;
}

}  // namespace uk::stub
