#include "ukernel/platform/stub/commands.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>

namespace uk::stub {
namespace {

uint64_t host_prot(Prot p) {
  return (any(p & Prot::kRead) ? PROT_READ : 0u) | (any(p & Prot::kWrite) ? PROT_WRITE : 0u) |
         (any(p & Prot::kExec) ? PROT_EXEC : 0u);
}

// All commands have the range in args 0 and 1.
bool follows(const Command& a, const Command& b) {
  return a.nr == b.nr && a.args[0] + a.args[1] == b.args[0];
}

}  // namespace

void CommandQueue::map(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset,
                       bool populate) {
  Command c = {
      .nr = SYS_mmap,
      .args = {addr, len, host_prot(prot), MAP_SHARED | MAP_FIXED | (populate ? MAP_POPULATE : 0u),
               static_cast<uint64_t>(fd), offset}};
  if (!queue_.empty()) {
    Command& last = queue_.back();
    if (follows(last, c) && last.args[2] == c.args[2] && last.args[3] == c.args[3] &&
        last.args[4] == c.args[4] && last.args[5] + last.args[1] == c.args[5]) {
      last.args[1] += len;
      return;
    }
  }
  queue_.push_back(c);
}

void CommandQueue::unmap(uint64_t addr, uint64_t len) {
  Command c = {.nr = SYS_munmap, .args = {addr, len}};
  if (!queue_.empty() && follows(queue_.back(), c)) {
    queue_.back().args[1] += len;
    return;
  }
  queue_.push_back(c);
}

void CommandQueue::protect(uint64_t addr, uint64_t len, Prot prot) {
  Command c = {.nr = SYS_mprotect, .args = {addr, len, host_prot(prot)}};
  if (!queue_.empty() && follows(queue_.back(), c) && queue_.back().args[2] == c.args[2]) {
    queue_.back().args[1] += len;
    return;
  }
  queue_.push_back(c);
}

size_t CommandQueue::fill(CommandPage& page) {
  const size_t n = std::min(queue_.size(), kMaxCommands);
  std::copy_n(queue_.begin(), n, page.commands);
  queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(n));
  page.count = static_cast<uint32_t>(n);
  return n;
}

}  // namespace uk::stub
