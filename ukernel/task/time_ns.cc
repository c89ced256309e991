#include "ukernel/task/time_ns.h"

#include <charconv>

#include "absl/strings/str_format.h"
#include "ukernel/kernel.h"
#include "ukernel/vdso/vdso.h"

namespace uk {
namespace {

constexpr int64_t kMaxSec = INT64_MAX / static_cast<int64_t>(kNsPerSec);  // KTIME_SEC_MAX of Linux
constexpr auto kSecond = static_cast<int64_t>(kNsPerSec);

// The next word of a line.
std::string_view take_word(std::string_view& line) {
  const size_t begin = line.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return line = {};
  const size_t end = std::min(line.find_first_of(" \t", begin), line.size());
  const std::string_view word = line.substr(begin, end - begin);
  line.remove_prefix(end);
  return word;
}

Result<int64_t> number_of(std::string_view word) {
  int64_t n = 0;
  auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), n);
  if (word.empty() || error != std::errc{} || end != word.data() + word.size())
    return Err(Errno::kINVAL);
  return n;
}

struct Offset {
  bool boottime;
  int64_t sec, nsec;
};

// "monotonic SECONDS NANOSECONDS", or with the clock's number.
Result<Offset> parse_line(std::string_view line) {
  const std::string_view clock = take_word(line);
  const bool boottime = clock == "boottime" || clock == "7";
  if (!boottime && clock != "monotonic" && clock != "1") return Err(Errno::kINVAL);
  const int64_t sec = TRY(number_of(take_word(line)));
  const int64_t nsec = TRY(number_of(take_word(line)));
  if (!take_word(line).empty() || nsec < 0 || nsec >= kSecond) return Err(Errno::kINVAL);
  return Offset{boottime, sec, nsec};
}

// With it the clock is neither negative nor near its end.
bool in_range(const Offset& o, uint64_t now) {
  if (o.sec > kMaxSec || o.sec < -kMaxSec) return false;
  const int64_t shown_sec = o.sec + (static_cast<int64_t>(now) + o.nsec) / kSecond;
  return shown_sec >= 0 && shown_sec <= kMaxSec / 2;
}

void show_line(std::string& out, const char* clock, int64_t ns) {
  int64_t sec = ns / kSecond, rest = ns % kSecond;
  if (rest < 0) --sec, rest += kSecond;
  absl::StrAppendFormat(&out, "%-10s %10d %9d\n", clock, sec, rest);
}

TimeNamespace* of_children(const Task& task) {
  return task.more_ns ? task.more_ns->time_for_children.get() : nullptr;
}

}  // namespace

uint64_t time_inside(uint64_t kernel_ns, int64_t offset) {
  const int64_t t = static_cast<int64_t>(kernel_ns) + offset;
  return t < 0 ? 0 : static_cast<uint64_t>(t);
}

uint64_t time_outside(uint64_t shown_ns, int64_t offset) {
  if (offset == 0) return shown_ns;
  int64_t t = 0;
  if (__builtin_sub_overflow(static_cast<int64_t>(std::min(shown_ns, uint64_t{INT64_MAX})), offset,
                             &t)) {
    return INT64_MAX;
  }
  return t < 0 ? 0 : static_cast<uint64_t>(t);
}

Result<> enter_clock(Park& park, Kernel& kernel, AddressSpace& mm, const MmLimits& limits,
                     TimeNamespace* ns) {
  if (ns != nullptr) ns->frozen = true;
  if (!kernel.vdso) return {};
  return kernel.vdso->answer_by(park, mm, limits,
                                ns != nullptr ? Vdso::Page::kCalls : Vdso::Page::kClock);
}

void enter_time_for_children(Task& task) {
  if (!task.more_ns || task.more_ns->time == task.more_ns->time_for_children) return;
  Ref<NsSet> own = copy_ns_set(task);
  own->time = own->time_for_children;
  if (own->time) own->time->frozen = true;
  task.more_ns = std::move(own);
}

std::string show_time_offsets(const Task& task) {
  const TimeNamespace* ns = of_children(task);
  std::string out;
  show_line(out, "monotonic", ns == nullptr ? 0 : ns->monotonic_ns);
  show_line(out, "boottime", ns == nullptr ? 0 : ns->boottime_ns);
  return out;
}

Result<> store_time_offsets(const Task& task, const Cred& writer, std::string_view text) {
  constexpr size_t kClocks = 2;
  std::array<Offset, kClocks> offsets{};
  size_t n = 0;
  if (text.size() >= kPageSize) return Err(Errno::kINVAL);
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (n == kClocks) return Err(Errno::kINVAL);
    offsets[n++] = TRY(parse_line(text.substr(0, end)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  TimeNamespace* ns = of_children(task);
  if (!writer.has_in(ns == nullptr ? nullptr : ns->owner.get(), Cap::kSysTime))
    return Err(Errno::kPERM);
  const uint64_t now = task.kernel.clock.monotonic_ns();
  const auto given = std::span(offsets).first(n);
  for (const Offset& o : given)
    if (!in_range(o, now)) return Err(Errno::kRANGE);
  if (ns == nullptr || ns->frozen) return Err(Errno::kACCES);
  for (const Offset& o : given)
    (o.boottime ? ns->boottime_ns : ns->monotonic_ns) = o.sec * kSecond + o.nsec;
  return {};
}

}  // namespace uk
