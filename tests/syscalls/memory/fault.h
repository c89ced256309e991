// Runs an access and reports the signal it raised with its siginfo, by jumping out of the handler.
#pragma once

#include <setjmp.h>
#include <signal.h>

#include "tests/syscalls/testing.h"

namespace uk::test {

struct Fault {
  int signal = 0;  // 0: the access succeeded
  int code = 0;
  void* address = nullptr;
};

namespace fault_detail {
inline sigjmp_buf env;
inline Fault last;
inline void Handler(int sig, siginfo_t* info, void*) {
  last = {sig, info->si_code, info->si_addr};
  siglongjmp(env, 1);
}
}  // namespace fault_detail

// What happens when `body` runs: nothing, SIGSEGV, SIGBUS, SIGFPE, SIGILL or SIGTRAP.
template <typename F>
Fault Try(F body) {
  ScopedHandler segv(SIGSEGV, fault_detail::Handler), bus(SIGBUS, fault_detail::Handler);
  ScopedHandler fpe(SIGFPE, fault_detail::Handler), ill(SIGILL, fault_detail::Handler);
  ScopedHandler trap(SIGTRAP, fault_detail::Handler);
  fault_detail::last = {};
  if (sigsetjmp(fault_detail::env, 1) == 0) body();
  return fault_detail::last;
}

inline Fault TryRead(const void* p) {
  return Try([p] { (void)*static_cast<const volatile char*>(p); });
}
inline Fault TryWrite(void* p) {
  return Try([p] { *static_cast<volatile char*>(p) = 1; });
}
// Calls the function at `p`, which should be a `ret`.
inline Fault TryCall(void* p) {
  return Try([p] { reinterpret_cast<void (*)()>(p)(); });
}

}  // namespace uk::test
