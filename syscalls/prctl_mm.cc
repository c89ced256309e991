// PR_SET_MM of prctl(2): where a process says its arguments, environment, code and data lie, which
// /proc/PID/cmdline, environ, auxv and stat show.
#include <linux/prctl.h>

#include <algorithm>

#include "syscalls/prctl.h"
#include "ukernel/kernel.h"
#include "ukernel/mm/marks.h"

namespace uk {
namespace {

constexpr uint64_t kMinAddr = 0x10000;
constexpr size_t kMaxAuxWords = 48;  // what Linux keeps: AT_VECTOR_SIZE

Result<> set_auxv(Task& task, uint64_t addr, uint64_t len) {
  if (addr == 0 || len > kMaxAuxWords * sizeof(uint64_t)) return Err(Errno::kINVAL);
  std::vector<uint64_t> words(kMaxAuxWords);
  auto bytes = std::as_writable_bytes(std::span(words)).first(len);
  if (len != 0 && TRY(task.mm().copy_in(task.park(), bytes, addr)) != len)
    return Err(Errno::kFAULT);
  words[kMaxAuxWords - 2] = words[kMaxAuxWords - 1] = 0;  // it ends, whatever was given
  task.mm().image.auxv = std::move(words);
  return {};
}

// The field an option is about; null: there is none such here.
uint64_t AddressSpace::Image::*field_of(uint64_t option) {
  switch (option) {
    case PR_SET_MM_START_CODE:
      return &AddressSpace::Image::start_code;
    case PR_SET_MM_END_CODE:
      return &AddressSpace::Image::end_code;
    case PR_SET_MM_START_DATA:
      return &AddressSpace::Image::start_data;
    case PR_SET_MM_END_DATA:
      return &AddressSpace::Image::end_data;
    case PR_SET_MM_START_STACK:
      return &AddressSpace::Image::start_stack;
    case PR_SET_MM_ARG_START:
      return &AddressSpace::Image::arg_start;
    case PR_SET_MM_ARG_END:
      return &AddressSpace::Image::arg_end;
    case PR_SET_MM_ENV_START:
      return &AddressSpace::Image::env_start;
    case PR_SET_MM_ENV_END:
      return &AddressSpace::Image::env_end;
    default:
      return nullptr;
  }
}

}  // namespace

Result<int64_t> set_mm(Task& task, uint64_t option, uint64_t addr, uint64_t len, uint64_t rest) {
  if (rest != 0 || (len != 0 && option != PR_SET_MM_AUXV)) return Err(Errno::kINVAL);
  // DEVIATION: neither PR_SET_MM_MAP nor the break and the executable can be set.
  if (option == PR_SET_MM_MAP || option == PR_SET_MM_MAP_SIZE) return Err(Errno::kINVAL);
  if (!task.cred().has(Cap::kSysResource)) return Err(Errno::kPERM);
  if (option == PR_SET_MM_AUXV) {
    TRY(set_auxv(task, addr, len));
    return 0;
  }
  if (addr >= task.mm().user_limit() || addr < kMinAddr) return Err(Errno::kINVAL);
  const auto field = field_of(option);
  if (field == nullptr) return Err(Errno::kINVAL);
  AddressSpace::Image next = task.mm().image;
  next.*field = addr;
  if (next.start_code >= next.end_code || next.start_data > next.end_data ||
      next.arg_start > next.arg_end || next.env_start > next.env_end)
    return Err(Errno::kINVAL);
  const bool needs_memory = option == PR_SET_MM_START_STACK || option == PR_SET_MM_ARG_START ||
                            option == PR_SET_MM_ARG_END || option == PR_SET_MM_ENV_START ||
                            option == PR_SET_MM_ENV_END;
  if (needs_memory && !mapped_at_or_above(task.mm(), addr)) return Err(Errno::kFAULT);
  task.mm().image.*field = addr;
  return 0;
}

}  // namespace uk
