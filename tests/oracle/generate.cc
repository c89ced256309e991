#include "tests/oracle/generate.h"

#include <array>

namespace oracle {
namespace {

// splitmix64 (Steele, Lea, Flood 2014): every seed is a good one.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  int below(int n) { return static_cast<int>(next() % static_cast<uint64_t>(n)); }
  bool percent(int p) { return below(100) < p; }

 private:
  uint64_t state_;
};

class Generator {
 public:
  Generator(uint64_t seed, int length, uint32_t only) : random_(seed), length_(length) {
    for (int n = 1 + random_.below(3); n > 0; --n) domains_ |= 1u << random_.below(kDomains);
    if (only != 0) {
      domains_ &= only;
      if (domains_ == 0) domains_ = only;
    }
    for (const Desc& d : table()) {
      if ((d.domains & domains_) != 0) total_ += d.weight;
    }
    // A few paths each, so that calls meet; the long and broken ones are rare.
    for (auto& p : favourites_)
      p = random_.below(random_.percent(80) ? 12 : static_cast<int>(paths().size()));
  }

  std::vector<Call> make() {
    std::vector<Call> out;
    int length = length_ / 2 + random_.below(length_ + 1);
    while (static_cast<int>(out.size()) < length) {
      Call call = one();
      if (call.desc == nullptr) continue;
      if (std::string_view(call.desc->name) == "fork" && processes_ < kProcesses) {
        slots_[static_cast<size_t>(processes_)] = slots_[static_cast<size_t>(call.process)];
        ++processes_;
      }
      out.push_back(call);
    }
    return out;
  }

 private:
  using Slots = std::array<uint32_t, kSlots>;  // the sort each slot should hold; 0 is none

  const Desc& pick() {
    int at = random_.below(total_);
    for (const Desc& d : table()) {
      if ((d.domains & domains_) == 0) continue;
      at -= d.weight;
      if (at < 0) return d;
    }
    return table().front();
  }

  Call one() {
    Call call;
    const Desc& d = pick();
    if (processes_ > 1 && random_.percent(40)) current_ = random_.below(processes_);
    call.process = current_;
    Slots& slots = slots_[static_cast<size_t>(current_)];
    for (size_t i = 0; i < d.args.size(); ++i) {
      const ArgSpec& spec = d.args[i];
      if (spec.kind == Kind::kFd && (spec.fds & kCwdToo) == 0 && !has(slots, spec.fds) &&
          random_.percent(95)) {
        return call;  // it would only be EBADF
      }
      call.arg[i] = argument(spec, slots);
    }
    for (int i = 0; i < d.results; ++i) {
      call.result[i] = next_slot_;
      next_slot_ = (next_slot_ + 1) % kSlots;
      slots[static_cast<size_t>(call.result[i])] = d.makes;
    }
    call.desc = &d;
    return call;
  }

  static bool has(const Slots& slots, uint32_t sorts) {
    for (uint32_t s : slots) {
      if (s != 0 && (sorts == 0 || (s & sorts) != 0)) return true;
    }
    return false;
  }

  int64_t descriptor(const ArgSpec& spec, const Slots& slots) {
    if ((spec.fds & kCwdToo) != 0 && random_.percent(75)) return kCwd;
    uint32_t wanted = spec.fds & ~kCwdToo;
    if (random_.percent(4)) return -1;
    if (random_.percent(8)) wanted = 0;
    std::array<int, kSlots> fits{};
    int n = 0;
    for (int i = 0; i < kSlots; ++i) {
      uint32_t s = slots[static_cast<size_t>(i)];
      if (s != 0 && (wanted == 0 || (s & wanted) != 0)) fits[static_cast<size_t>(n++)] = i;
    }
    if (n == 0) return (spec.fds & kCwdToo) != 0 ? kCwd : -1;
    return fits[static_cast<size_t>(random_.below(n))];
  }

  int64_t from_words(const Words& w) {
    uint64_t value = 0;
    if (!w.choice.empty()) {
      int total = 0;
      for (const Word& c : w.choice) total += c.weight;
      int at = random_.below(total);
      for (const Word& c : w.choice) {
        at -= c.weight;
        if (at < 0) {
          value = c.value;
          break;
        }
      }
    }
    for (const Word& b : w.bits) {
      if (random_.percent(b.weight)) value |= b.value;
    }
    return static_cast<int64_t>(value);
  }

  int64_t place() {
    int page = random_.percent(70) ? random_.below(8) : random_.below(24);
    int64_t at = static_cast<int64_t>(kArena) + page * static_cast<int64_t>(kPage);
    return at;
  }

  int64_t argument(const ArgSpec& spec, const Slots& slots) {
    switch (spec.kind) {
      case Kind::kInt:
      case Kind::kOctal:
      case Kind::kWords:
        return from_words(*spec.words);
      case Kind::kFd:
        return descriptor(spec, slots);
      case Kind::kPath:
        if (random_.below(200) == 0) return kBad;
        if (random_.percent(75))
          return favourites_[static_cast<size_t>(random_.below(favourites_.size()))];
        return random_.below(static_cast<int>(kGenerated));
      case Kind::kAddr: {
        int64_t at = place();
        if (random_.percent(10)) at += 1 + random_.below(kPage - 1);
        return at;
      }
      case Kind::kLen: {
        static constexpr int64_t kOdd[] = {0, 1, 4095, 4097, 10000, -1, -4096};
        if (random_.percent(12)) return kOdd[random_.below(7)];
        return static_cast<int64_t>(kPage) * (1 + random_.below(random_.percent(80) ? 4 : 12));
      }
      case Kind::kBuffer:
        if (random_.below(100) == 0) return kBad;
        if ((domains_ & kMemory) != 0 && random_.percent(50)) {
          return place() + (random_.percent(30) ? random_.below(kPage) : 0);
        }
        return 0;
      case Kind::kProc:
        return random_.percent(3) ? -1 : random_.below(processes_);
    }
    return 0;
  }

  static constexpr size_t kGenerated =
      32;  // of paths(): what parse() adds is nobody's business here
  Random random_;
  int length_;
  uint32_t domains_ = 0;
  int total_ = 0;
  std::array<int, 6> favourites_{};
  std::array<Slots, kProcesses> slots_{};
  int processes_ = 1;
  int current_ = 0;
  int next_slot_ = 0;
};

}  // namespace

std::vector<Call> generate(uint64_t seed, uint64_t number, int length, uint32_t only) {
  return Generator(seed * 0x9e3779b97f4a7c15ull + number * 0xd1342543de82ef95ull + 1, length, only)
      .make();
}

}  // namespace oracle
