#include "ukernel/platform/stub/filter.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>

#include "ukernel/platform/stub/layout.h"

namespace uk::stub {
namespace {

sock_filter load(size_t offset) {
  return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset));
}
sock_filter ret(uint32_t action) { return BPF_STMT(BPF_RET | BPF_K, action); }
// Goes on when the test holds, else falls on the next instruction.
sock_filter skip_if(uint16_t test, uint32_t k) {
  return BPF_JUMP(static_cast<uint16_t>(BPF_JMP | test | BPF_K), k, 1, 0);
}

constexpr size_t kIpLow = offsetof(seccomp_data, instruction_pointer);
constexpr size_t kIpHigh = kIpLow + 4;

// What a batch holds, what a new stub or thread needs, and the handler's return (notify).
constexpr uint32_t kAllowed[] = {
    SYS_mmap,  SYS_munmap,     SYS_mprotect,   SYS_clone,   SYS_prctl,        SYS_getppid,
    SYS_futex, SYS_arch_prctl, SYS_exit_group, SYS_seccomp, SYS_rt_sigreturn,
};

}  // namespace

std::vector<sock_filter> stub_filter(uint64_t code, uint32_t report, uint32_t otherwise) {
  std::vector<sock_filter> f = {
      load(offsetof(seccomp_data, arch)),
      skip_if(BPF_JEQ, AUDIT_ARCH_X86_64),
      ret(otherwise),
      load(kIpHigh),
      skip_if(BPF_JEQ, static_cast<uint32_t>(code >> 32)),
      ret(otherwise),
      // The page does not cross a 4 GiB boundary, so its low halves share all but the page offset.
      load(kIpLow),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~static_cast<uint32_t>(kPage - 1)),
      skip_if(BPF_JEQ, static_cast<uint32_t>(code)),
      ret(otherwise),
      load(offsetof(seccomp_data, nr)),
  };
  for (uint32_t nr : kAllowed) {
    f.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1));
    f.push_back(ret(SECCOMP_RET_ALLOW));
  }
  for (uint32_t nr : {UK_NR_REPORT, UK_NR_PARK, UK_NR_BATCH_DONE}) {
    f.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1));
    f.push_back(ret(report));
  }
  f.push_back(ret(otherwise));
  return f;
}

std::vector<sock_filter> guest_thread_filter(uint64_t area) {
  constexpr uint32_t kArchSetGs = 0x1001, kArchSetFs = 0x1002, kFutexWait = 0;
  const uint64_t code = area + kCodeOffset;
  const uint32_t refuse = SECCOMP_RET_ERRNO | ENOSYS;
  std::vector<sock_filter> f = {
      load(offsetof(seccomp_data, arch)),
      skip_if(BPF_JEQ, AUDIT_ARCH_X86_64),
      ret(SECCOMP_RET_ALLOW),
      load(kIpHigh),
      skip_if(BPF_JEQ, static_cast<uint32_t>(code >> 32)),
      ret(SECCOMP_RET_ALLOW),
      load(kIpLow),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~static_cast<uint32_t>(kPage - 1)),
      skip_if(BPF_JEQ, static_cast<uint32_t>(code)),
      ret(SECCOMP_RET_ALLOW),
  };
  const struct {
    const char* ip;
    uint32_t nr;
    int arg = -1;  // which must be `value`
    uint32_t value = 0;
  } calls[] = {{uk_stub_report_ip, UK_NR_REPORT},
               {uk_stub_park_ip, UK_NR_PARK},
               {uk_stub_gate_park_ip, UK_NR_PARK},
               {uk_stub_sleep_ip, SYS_futex, 1, kFutexWait},
               {uk_stub_gate_sleep_ip, SYS_futex, 1, kFutexWait},
               {uk_stub_sigreturn_ip, SYS_rt_sigreturn},
               {uk_stub_set_fs_ip, SYS_arch_prctl, 0, kArchSetFs},
               {uk_stub_set_gs_ip, SYS_arch_prctl, 0, kArchSetGs}};
  for (const auto& c : calls) {
    std::vector<sock_filter> test = {load(offsetof(seccomp_data, nr)), skip_if(BPF_JEQ, c.nr),
                                     ret(refuse)};
    if (c.arg >= 0) {
      const size_t at =
          offsetof(seccomp_data, args) + sizeof(uint64_t) * static_cast<size_t>(c.arg);
      test.insert(test.end(), {load(at), skip_if(BPF_JEQ, c.value), ret(refuse)});
    }
    test.push_back(ret(SECCOMP_RET_ALLOW));
    f.push_back(load(kIpLow));
    f.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(stub_address(area, c.ip)),
                         0, static_cast<uint8_t>(test.size())));
    f.insert(f.end(), test.begin(), test.end());
  }
  f.push_back(ret(refuse));
  return f;
}

}  // namespace uk::stub
