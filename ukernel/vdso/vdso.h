// The vDSO of an instance (vdso(7)): an ELF image with the time functions, made at build time, in
// frames of guest memory, and the page of clock parameters it reads. The kernel publishes new
// parameters on its way to user mode, so that an idle instance does nothing and the guest's clock
// stays within nanoseconds of the kernel's.
//
// Ownership: the Kernel owns it; address spaces map its frames read-only. map() may suspend.
#pragma once

#include <memory>
#include <optional>

#include "base/result.h"
#include "ukernel/mm/address_space.h"
#include "ukernel/sched/clock.h"

struct VdsoPage;

namespace uk {

class Vdso {
 public:
  // Null when memory is out. The clock is read by rdtsc only where the CPU says that its counter
  // runs at one rate always; else the image makes system calls.
  static std::unique_ptr<Vdso> create(PhysMemory& mem, Clock& clock, int cpus);
  ~Vdso();

  // The data page of a space: the one of the clock, or one that always sends programs to the system
  // call, as those must be whose clocks are ahead (time_namespaces(7)).
  enum class Page : uint8_t { kClock, kCalls };
  // Maps data page and image; returns where the image begins (AT_SYSINFO_EHDR).
  Result<uint64_t> map(Park& park, AddressSpace& mm, const MmLimits& limits, Page page);
  // Changes the data page of a space that has the vDSO, wherever that has been moved to.
  Result<> answer_by(Park& park, AddressSpace& mm, const MmLimits& limits, Page page);
  // Keeps the page near the clock; `now_ns` is the monotonic time just read. Cheap when called
  // often.
  void publish(uint64_t now_ns);
  const VdsoPage& page() const { return *page_; }

  struct Times {
    uint64_t monotonic_ns, realtime_ns;
  };
  // What a program reads from the page now; system calls must say the same. Unset when the page
  // sends programs to the system call.
  std::optional<Times> now() const;

 private:
  class Frames;
  Vdso(Clock& clock, Ref<Frames> frames, Ref<Frames> calls_page);
  Result<> map_page(Park& park, AddressSpace& mm, const MmLimits& limits, uint64_t at, Page page);
  // The counter and both clocks at one moment. Unset when the host did something else in between.
  struct Reading {
    uint64_t tsc, monotonic_ns, realtime_ns;
  };
  std::optional<Reading> read();
  void write(const Reading& r);

  Clock& clock_;
  Ref<Frames> frames_, calls_page_;
  VdsoPage* page_;
  bool constant_tsc_;
  uint64_t last_ns_ = 0;
  uint64_t quickest_read_ = UINT64_MAX;      // in ticks
  uint64_t wall_offset_ns_ = 0;              // CLOCK_REALTIME - CLOCK_MONOTONIC
  uint64_t first_tsc_ = 0, first_ns_ = 0;    // start of the calibration
  uint64_t middle_tsc_ = 0, middle_ns_ = 0;  // where the next one starts
};

}  // namespace uk
