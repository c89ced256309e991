#include "ukernel/mm/io.h"

namespace uk {

namespace {
constexpr size_t kZeros = 4096;
constexpr std::byte zeros[kZeros] = {};
}  // namespace

Result<size_t> IoSink::put_zeros(Park& park, size_t n) {
  n = std::min(n, remaining());
  size_t done = 0;
  while (done < n) {
    size_t want = std::min(n - done, kZeros);
    Result<size_t> got = put(park, {zeros, want});
    if (!got) return done != 0 ? Result<size_t>(done) : got;
    done += *got;
    if (*got < want) break;
  }
  return done;
}

}  // namespace uk
