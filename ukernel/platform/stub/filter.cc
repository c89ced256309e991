#include "ukernel/platform/stub/filter.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <cstddef>

#include "ukernel/platform/stub/layout.h"

namespace uk::stub {
namespace {

sock_filter load(size_t offset) {
  return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset));
}
sock_filter ret(uint32_t action) { return BPF_STMT(BPF_RET | BPF_K, action); }
// Goes on when the test holds, else falls on the next instruction.
sock_filter skip_if(uint16_t test, uint32_t k) { return BPF_JUMP(static_cast<uint16_t>(BPF_JMP | test | BPF_K), k, 1, 0); }

constexpr size_t kIpLow = offsetof(seccomp_data, instruction_pointer);
constexpr size_t kIpHigh = kIpLow + 4;

// exit: guest threads are retired one by one; the others are what a batch holds or a new stub needs.
constexpr uint32_t kAllowed[] = {
    SYS_mmap,  SYS_munmap,  SYS_mprotect,   SYS_madvise, SYS_clone,
    SYS_prctl, SYS_getppid, SYS_exit_group, SYS_exit,    SYS_arch_prctl, SYS_futex,
};

}  // namespace

std::vector<sock_filter> stub_filter(uint64_t code, uint32_t otherwise) {
  std::vector<sock_filter> f = {
      load(offsetof(seccomp_data, arch)), skip_if(BPF_JEQ, AUDIT_ARCH_X86_64), ret(otherwise),
      load(kIpHigh), skip_if(BPF_JEQ, static_cast<uint32_t>(code >> 32)), ret(otherwise),
      // The page does not cross a 4 GiB boundary, so its low halves share all but the page offset.
      load(kIpLow), BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~static_cast<uint32_t>(kPage - 1)),
      skip_if(BPF_JEQ, static_cast<uint32_t>(code)), ret(otherwise),
      load(offsetof(seccomp_data, nr)),
  };
  for (uint32_t nr : kAllowed) {
    f.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1));
    f.push_back(ret(SECCOMP_RET_ALLOW));
  }
  f.push_back(ret(otherwise));
  return f;
}

}  // namespace uk::stub
