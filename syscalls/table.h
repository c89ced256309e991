// The system call table and its dispatcher. A row names a call, says how far it is supported and
// where that is tested (or what is refused), and carries a typed handler. Dispatch, --strace,
// `ukernel syscalls` and docs/COMPAT.md all come from it. Handlers run on the calling task's fiber
// and may suspend. Arguments are guest input.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "ukernel/kernel.h"

namespace uk {

enum class Support : uint8_t { kNone, kPartial, kFull };

using RawArgs = uint64_t[6];

struct Row {
  uint16_t nr;
  const char* name;
  Support support;
  Result<int64_t> (*run)(Task& task, const RawArgs& args);
  // Appends the arguments as text, for --strace. `after`: the call has returned (out parameters are
  // readable).
  void (*format)(Task& task, const RawArgs& args, bool after, std::string& out);
  const char* note;  // full: the test in tests/syscalls; partial: what is refused
};

std::span<const Row> syscall_rows();

class SyscallTable final : public SyscallDispatcher {
 public:
  SyscallTable();
  Result<int64_t> dispatch(Task& task, uint64_t nr, const uint64_t (&args)[6]) override;

  // Called with one line per finished call when set (--strace). The line has no newline.
  using Trace = std::function<void(Task& task, std::string line)>;
  void set_trace(Trace trace) { trace_ = std::move(trace); }

 private:
  Result<int64_t> traced(Task& task, const Row& row, const RawArgs& args);
  std::vector<const Row*> by_number_;
  std::vector<bool> named_missing_;  // unimplemented calls already named in dmesg
  Trace trace_;
};

// docs/COMPAT.md and `ukernel syscalls`.
std::string compat_markdown();
std::string compat_text();

}  // namespace uk
