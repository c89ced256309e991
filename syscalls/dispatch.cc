// Dispatch of system calls by number, tracing, and the tables made from the rows.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/check.h"
#include "syscalls/table.h"

namespace uk {

SyscallTable::SyscallTable() {
  size_t top = 0;
  for (const Row& row : syscall_rows()) top = std::max<size_t>(top, row.nr);
  by_number_.resize(top + 1);
  named_missing_.resize(top + 1);
  for (const Row& row : syscall_rows()) {
    CHECK(by_number_[row.nr] == nullptr);
    by_number_[row.nr] = &row;
  }
}

Result<int64_t> SyscallTable::dispatch(Task& task, uint64_t nr, const uint64_t (&args)[6]) {
  const Row* row = nr < by_number_.size() ? by_number_[nr] : nullptr;
  if (row == nullptr) return Err(Errno::kNOSYS);
  if (trace_) [[unlikely]]
    return traced(task, *row, args);
  if (row->run != nullptr) return row->run(task, args);
  if (!named_missing_[nr]) {
    named_missing_[nr] = true;
    task.kernel.log.warn(absl::StrFormat("%s[%d]: system call %s (%d) is not implemented: ENOSYS",
                                         task.comm, task.tid, row->name, row->nr));
  }
  return Err(Errno::kNOSYS);
}

namespace {

// The call as text up to its result, then the result.
std::string describe(Task& task, const Row& row, const RawArgs& args) {
  std::string line = absl::StrCat("[", task.tid, "] ", row.name, "(");
  if (row.format != nullptr) {
    row.format(task, args, false, line);
  } else {
    absl::StrAppendFormat(&line, "%#x, %#x, %#x, %#x, %#x, %#x", args[0], args[1], args[2], args[3],
                          args[4], args[5]);
  }
  line += ")";
  return line;
}

constexpr bool never_returns(int nr) { return nr == 60 || nr == 231; }  // exit, exit_group

}  // namespace

Result<int64_t> SyscallTable::traced(Task& task, const Row& row, const RawArgs& args) {
  std::string line =
      describe(task, row, args);  // before the call: it may change what the arguments point to
  if (never_returns(row.nr)) trace_(task, line + " = ?");
  Result<int64_t> r =
      row.run != nullptr ? row.run(task, args) : Result<int64_t>(Err(Errno::kNOSYS));
  if (never_returns(row.nr)) return r;
  if (!r) {
    absl::StrAppendFormat(&line, " = -1 %s", errno_name(r.error()));
    if (!is_restart(r.error())) absl::StrAppendFormat(&line, " (%s)", errno_text(r.error()));
  } else if (static_cast<uint64_t>(*r) > 0x10000000) {
    absl::StrAppendFormat(&line, " = %#x", *r);
  } else {
    absl::StrAppend(&line, " = ", *r);
  }
  trace_(task, std::move(line));
  return r;
}

namespace {

constexpr const char* kSupportNames[] = {"none", "partial", "full"};

struct Counts {
  int of[3] = {};
};

Counts count_rows() {
  Counts c;
  for (const Row& row : syscall_rows()) ++c.of[static_cast<int>(row.support)];
  return c;
}

}  // namespace

std::string compat_markdown() {
  Counts c = count_rows();
  std::string out = absl::StrFormat(
      "# System calls\n\nGenerated from syscalls/table.cc by `ukernel syscalls --markdown`; do not "
      "edit.\n\n"
      "%d full, %d partial, %d not implemented (they answer ENOSYS and are named in dmesg "
      "once).\n\n"
      "| number | call | support | test, or what is refused |\n| --- | --- | --- | --- |\n",
      c.of[2], c.of[1], c.of[0]);
  for (const Row& row : syscall_rows()) {
    absl::StrAppendFormat(&out, "| %d | %s | %s | %s |\n", row.nr, row.name,
                          kSupportNames[static_cast<int>(row.support)], row.note);
  }
  return out;
}

std::string compat_text() {
  Counts c = count_rows();
  std::string out;
  for (const Row& row : syscall_rows()) {
    absl::StrAppendFormat(&out, "%3d %-24s %-8s %s\n", row.nr, row.name,
                          kSupportNames[static_cast<int>(row.support)], row.note);
  }
  absl::StrAppendFormat(&out, "%d full, %d partial, %d none\n", c.of[2], c.of[1], c.of[0]);
  return out;
}

}  // namespace uk
