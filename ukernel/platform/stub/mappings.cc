#include "ukernel/platform/stub/mappings.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>

#include "base/check.h"

namespace uk::stub {

void Mappings::split_at(uint64_t address) {
  const auto at =
      std::ranges::partition_point(pieces_, [&](const Piece& p) { return p.end <= address; });
  if (at == pieces_.end() || at->start >= address) return;
  Piece rest = *at;
  rest.offset += address - rest.start;
  rest.start = at->end = address;
  pieces_.insert(at + 1, rest);
}

size_t Mappings::split(uint64_t start, uint64_t end) {
  split_at(start);
  split_at(end);
  const auto first =
      std::ranges::partition_point(pieces_, [&](const Piece& p) { return p.end <= start; });
  return static_cast<size_t>(first - pieces_.begin());
}

size_t Mappings::cut(uint64_t start, uint64_t end) {
  const size_t first = split(start, end);
  size_t last = first;
  while (last < pieces_.size() && pieces_[last].start < end) ++last;
  const auto begin = pieces_.begin();
  pieces_.erase(begin + static_cast<std::ptrdiff_t>(first),
                begin + static_cast<std::ptrdiff_t>(last));
  return first;
}

void Mappings::apply(const Command& c) {
  if (lost_) return;
  const uint64_t start = c.args[0], end = start + c.args[1];
  switch (c.nr) {
    case SYS_munmap:
      (void)cut(start, end);
      break;
    case SYS_mprotect:
      for (size_t i = split(start, end); i < pieces_.size() && pieces_[i].start < end; ++i)
        pieces_[i].prot = c.args[2];
      break;
    case SYS_mmap: {
      const Piece piece{.start = start,
                        .end = end,
                        .prot = c.args[2],
                        .flags = c.args[3],
                        .fd = c.args[4],
                        .offset = c.args[5]};
      const size_t at = cut(start, end);
      if (at > 0 && pieces_[at - 1].end == start && pieces_[at - 1].same(piece)) {
        pieces_[at - 1].end = end;
      } else {
        pieces_.insert(pieces_.begin() + static_cast<std::ptrdiff_t>(at), piece);
      }
      break;
    }
    default:
      CHECK(false);
  }
  if (pieces_.size() > kMost) lost_ = true;
}

void Mappings::forget(uint64_t start, uint64_t end) {
  if (end - start > kMostForgotten) lost_ = true;
  if (lost_) return;
  const size_t at = cut(start, end);
  pieces_.insert(pieces_.begin() + static_cast<std::ptrdiff_t>(at),
                 {.start = start, .end = end, .known = false});
}

std::vector<Command> Mappings::change_into(const Mappings& wanted) const {
  CHECK(!lost_ && !wanted.lost_);
  std::vector<Command> todo;
  // Between two pieces that are wanted nothing is: one unmapping takes all that is there.
  auto have = pieces_.begin();
  auto clear = [&](uint64_t start, uint64_t end) {
    while (have != pieces_.end() && have->end <= start) ++have;
    auto last = have;
    while (last != pieces_.end() && last->start < end) ++last;
    if (last == have) return;
    const uint64_t from = std::max(start, have->start), to = std::min(end, std::prev(last)->end);
    todo.push_back({.nr = SYS_munmap, .args = {from, to - from}});
  };
  uint64_t end = 0;
  for (const Piece& want : wanted.pieces_) {
    if (want.start > end) clear(end, want.start);
    end = want.end;
  }
  clear(end, UINT64_MAX);
  // Of what is wanted, what is not there already.
  have = pieces_.begin();
  for (const Piece& want : wanted.pieces_) {
    while (have != pieces_.end() && have->end <= want.start) ++have;
    uint64_t at = want.start;
    auto map_until = [&](uint64_t end) {
      if (at >= end) return;
      todo.push_back({.nr = SYS_mmap,
                      .args = {at, end - at, want.prot, want.flags, want.fd,
                               want.offset + (at - want.start)}});
    };
    for (auto piece = have; piece != pieces_.end() && piece->start < want.end; ++piece) {
      if (!piece->same(want)) continue;
      map_until(piece->start);
      at = std::min(want.end, piece->end);
    }
    map_until(want.end);
  }
  return todo;
}

std::vector<Command> Mappings::clear_in_steps() const {
  CHECK(!lost_);
  // What was not populated is there in part.
  auto share = [](const Piece& p) -> uint64_t { return (p.flags & MAP_POPULATE) != 0 ? 1 : 8; };
  uint64_t total = 0;
  for (const Piece& p : pieces_) total += (p.end - p.start) / share(p);
  const uint64_t step = std::max(kStepBytes, (total / kMostSteps / kPage + 1) * kPage);
  std::vector<Command> todo;
  uint64_t left = 0;  // of the last step
  for (const Piece& p : pieces_) {
    for (uint64_t at = p.start; at < p.end;) {
      if (left == 0) {
        todo.push_back({.nr = SYS_munmap, .args = {at, 0}});
        left = step;
      }
      const uint64_t n = std::min(p.end - at, left * share(p));
      at += n;
      left -= n / share(p);
      todo.back().args[1] = at - todo.back().args[0];
    }
  }
  return todo;
}

}  // namespace uk::stub
