// timespec, timeval, itimerspec as guests give them (x86-64: all members 64 bits), and checked
// conversions to nanoseconds. Values are guest input. Nothing is owned, nothing suspends.
#pragma once

#include <cstdint>
#include <optional>

namespace uk {

struct UserTimespec {
  int64_t sec;
  int64_t nsec;
};
struct UserTimeval {
  int64_t sec;
  int64_t usec;
};
struct UserItimerspec {
  UserTimespec interval, value;
};
struct UserItimerval {
  UserTimeval interval, value;
};
// adjtimex(2)'s struct timex; times in microseconds unless said otherwise.
struct UserTimex {
  uint32_t modes, pad0;
  int64_t offset, freq, maxerror, esterror;
  int32_t status, pad1;
  int64_t constant, precision, tolerance;
  UserTimeval time;
  int64_t tick;
  int64_t ppsfreq, jitter;
  int32_t shift, pad2;
  int64_t stabil, jitcnt, calcnt, errcnt, stbcnt;
  int32_t tai;
  int32_t pad3[11];
};
static_assert(sizeof(UserTimex) == 208);
static_assert(sizeof(UserTimespec) == 16 && sizeof(UserItimerspec) == 32);

// Times beyond this are cut to it, as KTIME_MAX in Linux: no clock gets there.
constexpr uint64_t kMaxTimeNs = INT64_MAX;

constexpr uint64_t saturating_ns(uint64_t sec, uint64_t ns) {
  constexpr uint64_t kSec = 1'000'000'000;
  return sec > kMaxTimeNs / kSec - 1 ? kMaxTimeNs : sec * kSec + ns;
}
// nullopt: negative, or a fraction of a second or more (EINVAL).
constexpr std::optional<uint64_t> to_ns(const UserTimespec& t) {
  if (t.sec < 0 || t.nsec < 0 || t.nsec >= 1'000'000'000) return std::nullopt;
  return saturating_ns(static_cast<uint64_t>(t.sec), static_cast<uint64_t>(t.nsec));
}
constexpr std::optional<uint64_t> to_ns(const UserTimeval& t) {
  if (t.sec < 0 || t.usec < 0 || t.usec >= 1'000'000) return std::nullopt;
  return saturating_ns(static_cast<uint64_t>(t.sec), static_cast<uint64_t>(t.usec) * 1000);
}
constexpr UserTimespec to_timespec(uint64_t ns) {
  return {static_cast<int64_t>(ns / 1'000'000'000), static_cast<int64_t>(ns % 1'000'000'000)};
}
constexpr UserTimeval to_timeval(uint64_t ns) {
  return {static_cast<int64_t>(ns / 1'000'000'000),
          static_cast<int64_t>(ns % 1'000'000'000 / 1000)};
}

}  // namespace uk
