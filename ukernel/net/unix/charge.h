// How much of a sender's buffer (SO_SNDBUF) a message takes while it waits: what Linux counts for
// it, bookkeeping included, so that programs find a buffer full, or poll it writable, after as many
// bytes as there (struct sk_buff's truesize; alloc_skb_with_frags and the senders in
// net/unix/af_unix.c). Pure arithmetic; bytes everywhere.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>

#include "ukernel/mm/phys.h"

namespace uk::unix_charge {

constexpr size_t kDescriptor = 256;               // struct sk_buff
constexpr size_t kShared = 320;                   // struct skb_shared_info, behind the bytes
constexpr size_t kSmallHead = 512;                // the least that is allocated for the bytes
constexpr size_t kMaxHead = kPageSize - kShared;  // SKB_MAX_HEAD(0)
constexpr size_t kMaxPacketHead = 4 * kPageSize - kShared;  // SKB_MAX_ALLOC
constexpr size_t kMaxFragments = 17 * kPageSize;
// A stream is cut into pieces: this much and no more than half of the buffer, so that there are
// two.
constexpr size_t kMaxPiece = kMaxHead + 32 * 1024;

// `head` bytes in one allocation, and whole pages for `rest`.
constexpr size_t of(size_t head, size_t rest) {
  const size_t allocated = std::max(std::bit_ceil((head + 63) / 64 * 64 + kShared), kSmallHead);
  return kDescriptor + allocated + (rest + kPageSize - 1) / kPageSize * kPageSize;
}

// A piece of a stream: pages for all that exceeds a page, or for all if that fills them.
constexpr size_t of_piece(size_t size) {
  const size_t over = size > kMaxHead ? size - kMaxHead : 0;
  const size_t pages = std::min(size, (over + kPageSize - 1) / kPageSize * kPageSize);
  return of(size - pages, pages);
}

constexpr size_t of_packet(size_t size) {
  const size_t over = size > kMaxPacketHead ? std::min(size - kMaxPacketHead, kMaxFragments) : 0;
  const size_t pages = (over + kPageSize - 1) / kPageSize * kPageSize;
  return of(size - pages, pages);
}

constexpr size_t piece_size(size_t left, size_t limit) {
  return std::min({left, limit / 2 - 64, kMaxPiece});
}

}  // namespace uk::unix_charge
