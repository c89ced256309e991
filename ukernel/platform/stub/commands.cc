#include "ukernel/platform/stub/commands.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/check.h"

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

Command mmap_command(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset,
                     bool populate) {
  return {
      .nr = SYS_mmap,
      .args = {addr, len, host_prot(prot), MAP_SHARED | MAP_FIXED | (populate ? MAP_POPULATE : 0u),
               static_cast<uint64_t>(fd), offset}};
}

// The part of an mmap command that lies in [start, end).
Command part_of(const Command& c, uint64_t start, uint64_t end) {
  Command part = c;
  part.args[0] = start;
  part.args[1] = end - start;
  part.args[5] += start - c.args[0];
  return part;
}

}  // namespace

bool CommandQueue::all_late(uint64_t start, uint64_t end) const {
  auto it = late_.upper_bound(start);
  return it != late_.begin() && std::prev(it)->second >= end;
}

bool CommandQueue::no_longer_late(uint64_t start, uint64_t end) {
  bool any = false;
  auto it = late_.upper_bound(start);
  if (it != late_.begin() && std::prev(it)->second > start) --it;
  while (it != late_.end() && it->first < end) {
    const auto [from, to] = *it;
    any = true;
    it = late_.erase(it);
    if (from < start) late_.emplace(from, start);
    if (to > end) late_.emplace(end, to);
  }
  return any;
}

void CommandQueue::cut(uint64_t start, uint64_t end) {
  for (size_t i = 0; i < queue_.size(); ++i) {
    const Command c = queue_[i].c;
    if (queue_[i].state != State::kPlain) continue;
    const uint64_t from = c.args[0], to = from + c.args[1];
    if (to <= start || from >= end) continue;
    CHECK(c.nr == SYS_mmap);
    const auto at = queue_.begin() + static_cast<std::ptrdiff_t>(i);
    if (from < start && to > end) {
      at->c = part_of(c, end, to);
      queue_.insert(at, {part_of(c, from, start)});
      return;  // nothing else is there: commands for a late range do not overlap
    }
    if (from < start) {
      at->c = part_of(c, from, start);
    } else if (to > end) {
      at->c = part_of(c, end, to);
    } else {
      queue_.erase(at);
      --i;
    }
  }
}

void CommandQueue::push_map(const Command& c) {
  if (!queue_.empty()) {
    Command& last = queue_.back().c;
    if (follows(last, c) && last.args[2] == c.args[2] && last.args[3] == c.args[3] &&
        last.args[4] == c.args[4] && last.args[5] + last.args[1] == c.args[5]) {
      last.args[1] += c.args[1];
      return;
    }
  }
  queue_.push_back({c});
}

void CommandQueue::push_change(const Command& c, bool errand) {
  const State state = errand && !urgent_ ? State::kErrand : State::kPlain;
  if (!queue_.empty()) {
    Queued& last = queue_.back();
    if (last.state == state && follows(last.c, c) && last.c.args[2] == c.args[2]) {
      last.c.args[1] += c.args[1];
      return;
    }
  }
  queue_.push_back({c, state});
  if (state == State::kErrand) {
    ++errands_;
  } else {
    urgent_ = true;
  }
}

void CommandQueue::map(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset,
                       bool populate) {
  if (all_late(addr, addr + len)) {
    cut(addr, addr + len);
  } else {
    (void)no_longer_late(addr, addr + len);
    urgent_ = true;
  }
  push_map(mmap_command(addr, len, prot, fd, offset, populate));
}

void CommandQueue::map_late(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset,
                            bool populate) {
  if (!all_late(addr, addr + len)) {
    // Behind an urgent command for this place there is no being late.
    if (urgent_ || queue_.size() >= kMaxWaiting) return map(addr, len, prot, fd, offset, populate);
    (void)no_longer_late(addr, addr + len);
    late_.emplace(addr, addr + len);
  }
  cut(addr, addr + len);
  push_map(mmap_command(addr, len, prot, fd, offset, populate));
}

void CommandQueue::unmap(uint64_t addr, uint64_t len, bool errand) {
  if (all_late(addr, addr + len)) return cut(addr, addr + len);
  const bool partly = no_longer_late(addr, addr + len);
  push_change({.nr = SYS_munmap, .args = {addr, len}}, errand && !partly);
}

void CommandQueue::protect(uint64_t addr, uint64_t len, Prot prot, bool errand) {
  const bool partly = no_longer_late(addr, addr + len);
  push_change({.nr = SYS_mprotect, .args = {addr, len, host_prot(prot)}},
              errand && !partly && !any(prot & Prot::kWrite));
}

std::vector<Errand> CommandQueue::take_errands(size_t most) {
  std::vector<Errand> all;
  if (urgent_ || errands_ == 0 || errands_ > most) return all;
  for (Queued& q : queue_) {
    if (q.state != State::kErrand) continue;
    q.state = State::kUnderWay;
    all.push_back({.addr = q.c.args[0],
                   .len = q.c.args[1],
                   .nr = static_cast<uint32_t>(q.c.nr),
                   .prot = static_cast<uint32_t>(q.c.args[2])});
  }
  unconfirmed_ += std::exchange(errands_, 0);
  return all;
}

void CommandQueue::errands_over(bool made) {
  for (auto it = queue_.begin(); it != queue_.end();) {
    if (it->state != State::kUnderWay) {
      ++it;
    } else if (!made) {
      it->state = State::kErrand;
      ++errands_;
      --unconfirmed_;
      ++it;
    } else if (it->c.nr == SYS_munmap) {
      it->state = State::kUnconfirmed;
      ++it;
    } else {  // nobody else depends on it
      --unconfirmed_;
      it = queue_.erase(it);
    }
  }
}

void CommandQueue::clear() {
  queue_.clear();
  late_.clear();
  urgent_ = false;
  errands_ = unconfirmed_ = 0;
}

void CommandQueue::replace(const std::vector<Command>& commands) {
  clear();
  for (const Command& c : commands) queue_.push_back({c});
  urgent_ = !queue_.empty();
}

size_t CommandQueue::fill(CommandPage& page) {
  const size_t n = std::min(queue_.size(), kMaxCommands);
  for (size_t i = 0; i < n; ++i) page.commands[i] = queue_[i].c;
  queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(n));
  page.count = static_cast<uint32_t>(n);
  // What is on its way may be in force any moment; the rest follows it.
  late_.clear();
  for (Queued& q : queue_) q.state = State::kPlain;
  urgent_ = !queue_.empty();
  errands_ = unconfirmed_ = 0;
  return n;
}

}  // namespace uk::stub
