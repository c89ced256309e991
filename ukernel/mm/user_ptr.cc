#include "ukernel/mm/user_ptr.h"

#include <algorithm>

namespace uk {

namespace {
constexpr uint64_t kMaxIovecs = 1024;
constexpr uint64_t kMaxTransfer = 0x7ffff000;  // MAX_RW_COUNT

size_t total_of(const std::vector<UserIovec>& iov) {
  size_t n = 0;
  for (const UserIovec& v : iov) n += v.len;
  return n;
}
}  // namespace

UserPieces::UserPieces(std::vector<UserIovec> iov)
    : iov_(std::move(iov)), remaining_(total_of(iov_)) {}

template <class Copy>
Result<size_t> UserPieces::transfer(size_t size, Copy copy) {
  size_t done = 0;
  while (done < size && piece_ < iov_.size()) {
    const UserIovec& v = iov_[piece_];
    const size_t n = std::min<uint64_t>(size - done, v.len - piece_done_);
    if (n == 0) {
      ++piece_;
      piece_done_ = 0;
      continue;
    }
    Result<size_t> got = copy(v.base + piece_done_, done, n);
    if (!got) return done != 0 ? Result<size_t>(done) : got;
    done += *got;
    piece_done_ += *got;
    remaining_ -= *got;
    if (*got < n) break;
  }
  return done;
}

Result<size_t> UserSink::put(Park& park, std::span<const std::byte> from) {
  return transfer(from.size(), [&](uint64_t addr, size_t done, size_t n) {
    return mm_.copy_out(park, addr, from.subspan(done, n));
  });
}

Result<size_t> UserSource::get(Park& park, std::span<std::byte> to) {
  return transfer(to.size(), [&](uint64_t addr, size_t done, size_t n) {
    return mm_.copy_in(park, to.subspan(done, n), addr);
  });
}

Result<std::vector<UserIovec>> fetch_iovec(Park& park, AddressSpace& mm, UserAddr iov,
                                           uint64_t count) {
  if (count > kMaxIovecs) return Err(Errno::kINVAL);
  std::vector<UserIovec> out = TRY(UserIn<UserIovec>{iov}.get_array(park, mm, count));
  uint64_t total = 0;
  for (UserIovec& v : out) {
    if (static_cast<int64_t>(v.len) < 0) return Err(Errno::kINVAL);
    if (v.len > mm.user_limit() || v.base > mm.user_limit() - v.len) return Err(Errno::kFAULT);
    v.len = std::min(v.len, kMaxTransfer - total);
    total += v.len;
  }
  return out;
}

}  // namespace uk
