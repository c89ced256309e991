#include "ukernel/platform/stub/placement.h"

#include "hostio/sys/process.h"

namespace uk::stub {
namespace {

constexpr uint64_t kPinnedNs = 100'000'000;    // then the host may choose anew
constexpr uint32_t kLooseResumes = 32;         // for so long
constexpr uint32_t kResumesBetweenLooks = 64;  // at the clock
constexpr int kAloneBeforePacking = 8;

cpu_set_t only(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return set;
}

}  // namespace

Placement::Placement(Clock& clock) : clock_(clock) {
  auto set = sys::sched_getaffinity(0);
  if (!set || CPU_COUNT(&*set) < 2) return;
  allowed_ = *set;
  active_ = true;
}

Placement::~Placement() {
  if (active_ && cpu_ != kAnywhere) (void)sys::sched_setaffinity(0, allowed_);
}

void Placement::place_reactor() {
  ++resumes_;
  if (cpu_ == kAnywhere) {
    if (resumes_ < kLooseResumes) return;
    const int here = sched_getcpu();
    if (here < 0 || !CPU_ISSET(here, &allowed_) || !sys::sched_setaffinity(0, only(here))) {
      active_ = false;
      return;
    }
    cpu_ = here;
    resumes_ = 0;
    loose_at_ns_ = clock_.monotonic_ns() + kPinnedNs;
  } else if (resumes_ % kResumesBetweenLooks == 0 && clock_.monotonic_ns() >= loose_at_ns_) {
    (void)sys::sched_setaffinity(0, allowed_);
    cpu_ = kAnywhere;
    resumes_ = 0;
  }
}

void Placement::put(int tid, Seat& seat, int cpu) {
  if (seat.cpu == cpu) return;
  cpu_set_t set = cpu >= 0 ? only(cpu) : allowed_;
  if (cpu <= kApart) CPU_CLR(static_cast<size_t>(kApart - cpu), &set);
  (void)sys::sched_setaffinity(tid, set);  // ESRCH: it died; it will be noticed
  seat.cpu = cpu;
}

void Placement::before_resume(int tid, Seat& seat, int others, bool apart) {
  if (!active_) return;
  place_reactor();
  if (apart) {
    if (cpu_ != kAnywhere) put(tid, seat, kApart - cpu_);
  } else if (others > 0) {
    seat.alone = 0;
    put(tid, seat, kAnywhere);
  } else if (cpu_ != kAnywhere && (seat.cpu != kAnywhere || ++seat.alone >= kAloneBeforePacking)) {
    put(tid, seat, cpu_);
  }
}

}  // namespace uk::stub
