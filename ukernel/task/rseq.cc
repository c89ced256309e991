#include "ukernel/task/rseq.h"

#include <signal.h>

#include "ukernel/kernel.h"

namespace uk {
namespace {

constexpr uint32_t kAreaBytes = 32;
constexpr int kFlagUnregister = 1;

// struct rseq of linux/rseq.h; aligned to 32 bytes.
struct Area {
  uint32_t cpu_id_start, cpu_id;
  uint64_t critical_section;
  uint32_t flags, node_id, mm_cid, pad;
};
static_assert(sizeof(Area) == kAreaBytes);
constexpr uint64_t kSectionOffset = 8, kNodeOffset = 20;

struct Section {
  uint32_t version, flags;
  uint64_t start, length, abort;
};
static_assert(sizeof(Section) == 32);

template <class T>
Result<T> read(Task& task, uint64_t addr) {
  return UserIn<T>{{addr}}.get(task.park(), task.mm());
}
template <class T>
Result<> write(Task& task, uint64_t addr, T value) {
  return UserOut<T>{{addr}}.put(task.park(), task.mm(), value);
}

Result<> tell_cpu(Task& task, uint32_t cpu) {
  struct Ids {
    uint32_t start, id;
  };
  struct Where {
    uint32_t node, mm_cid;
  };
  TRY(write(task, task.rseq_addr, Ids{cpu == ~0u ? 0 : cpu, cpu}));
  return write(task, task.rseq_addr + kNodeOffset, Where{0, cpu == ~0u ? 0 : cpu});
}

// Moves regs to the abort handler of the section it is in. True if it moved.
Result<bool> leave_section(Task& task, arch::UserRegs& regs) {
  uint64_t at = TRY(read<uint64_t>(task, task.rseq_addr + kSectionOffset));
  if (at == 0) return false;
  uint64_t limit = task.mm().user_limit();
  if (at >= limit) return Err(Errno::kINVAL);
  Section s = TRY(read<Section>(task, at));
  if (s.start >= limit || s.length >= limit || s.start + s.length >= limit || s.abort >= limit ||
      s.abort - s.start < s.length || s.version > 0 || s.abort < 4)
    return Err(Errno::kINVAL);
  if (TRY(read<uint32_t>(task, s.abort - 4)) != task.rseq_sig) return Err(Errno::kINVAL);
  // Left behind or interrupted: either way it is over.
  TRY(write<uint64_t>(task, task.rseq_addr + kSectionOffset, 0));
  if (regs.rip - s.start >= s.length) return false;
  regs.rip = s.abort;
  return true;
}

void bad_area(Task& task) { force_signal(task, siginfo_kernel(SIGSEGV)); }

}  // namespace

Result<> register_rseq(Task& task, uint64_t addr, uint32_t len, int flags, uint32_t sig) {
  if ((flags & kFlagUnregister) != 0) {
    if ((flags & ~kFlagUnregister) != 0 || task.rseq_addr != addr || addr == 0)
      return Err(Errno::kINVAL);
    if (len != task.rseq_len) return Err(Errno::kINVAL);
    if (sig != task.rseq_sig) return Err(Errno::kPERM);
    TRY(tell_cpu(task, ~0u));
    task.rseq_addr = 0;
    task.rseq_len = task.rseq_sig = 0;
    return {};
  }
  if (flags != 0) return Err(Errno::kINVAL);
  if (task.rseq_addr != 0) {
    if (task.rseq_addr != addr || len != task.rseq_len) return Err(Errno::kINVAL);
    return Err(sig != task.rseq_sig ? Errno::kPERM : Errno::kBUSY);
  }
  if (len != kAreaBytes || addr % kAreaBytes != 0) return Err(Errno::kINVAL);
  if (addr >= task.mm().user_limit() - kAreaBytes) return Err(Errno::kFAULT);
  TRY(write<uint64_t>(task, addr + kSectionOffset, 0));
  task.rseq_addr = addr;
  task.rseq_len = len;
  task.rseq_sig = sig;
  task.rseq_cpu = -1;
  return {};
}

void update_rseq(Task& task) {
  bool moved = task.rseq_cpu != task.sched.cpu;
  if (!moved && !task.rseq_disturbed) return;
  task.rseq_disturbed = false;
  task.rseq_cpu = task.sched.cpu;
  if (moved && !tell_cpu(task, static_cast<uint32_t>(task.sched.cpu))) return bad_area(task);
  Result<uint64_t> section = read<uint64_t>(task, task.rseq_addr + kSectionOffset);
  if (!section) return bad_area(task);
  if (*section == 0) return;
  Result<arch::UserRegs> regs = task.context->get_regs(task.park());
  if (!regs) return;  // the run that follows tells
  Result<bool> left = leave_section(task, *regs);
  if (!left) return bad_area(task);
  if (*left) (void)task.context->set_regs(task.park(), *regs);
}

void abort_rseq(Task& task, arch::UserRegs& regs) {
  if (task.rseq_addr == 0) return;
  if (!leave_section(task, regs)) bad_area(task);
}

}  // namespace uk
