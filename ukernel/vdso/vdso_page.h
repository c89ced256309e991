// The page that the kernel publishes for the vDSO: how to make time of the time stamp counter.
// Written by the kernel, mapped read-only into every guest program; the code that reads it
// (vdso_guest.c, compiled for the guest as C) is in the next pages. Guarded by `seq`: odd while it
// changes, and different after. Owned by Vdso (vdso.h).
#ifndef UKERNEL_VDSO_VDSO_PAGE_H_
#define UKERNEL_VDSO_VDSO_PAGE_H_

#include <stdint.h>

struct VdsoPage {
  uint32_t seq;
  uint32_t usable;  // 0: make the system call
  uint64_t tsc;     // ns = (rdtsc - tsc) * mult >> shift, from the bases below
  uint64_t mult;
  uint32_t shift;
  uint32_t cpus;
  uint64_t monotonic_ns;
  uint64_t realtime_ns;
};

#endif  // UKERNEL_VDSO_VDSO_PAGE_H_
