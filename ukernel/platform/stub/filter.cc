#include "ukernel/platform/stub/filter.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
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

// What a guest thread may do to its space by itself, as an errand or not: munmap, and mprotect
// without the right to write, below the stub area. It loses rights to its own memory.
std::vector<sock_filter> errand_test(uint64_t area, uint32_t refuse) {
  constexpr size_t kArgs = offsetof(seccomp_data, args);
  constexpr uint32_t kShift = 16;  // addresses in units of 64 KiB fit into a word
  const uint32_t end = static_cast<uint32_t>(area >> kShift);
  std::vector<sock_filter> f;
  auto refuse_if = [&](int test, uint32_t k) {
    f.push_back(BPF_JUMP(static_cast<uint16_t>(BPF_JMP | test | BPF_K), k, 0, 1));
    f.push_back(ret(refuse));
  };
  auto load_units = [&](size_t at) {
    f.push_back(load(at + 4));
    refuse_if(BPF_JGE, 1u << kShift);
    f.push_back(BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, kShift));
    f.push_back(BPF_STMT(BPF_MISC | BPF_TAX, 0));
    f.push_back(load(at));
    f.push_back(BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, kShift));
    f.push_back(BPF_STMT(BPF_ALU | BPF_OR | BPF_X, 0));
    refuse_if(BPF_JGE, end);  // so that sums do not overflow
  };
  f.push_back(load(offsetof(seccomp_data, nr)));
  f.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_munmap, 5, 0));
  f.push_back(skip_if(BPF_JEQ, SYS_mprotect));
  f.push_back(ret(refuse));
  f.push_back(load(kArgs + 2 * sizeof(uint64_t)));
  refuse_if(BPF_JSET, ~static_cast<uint32_t>(PROT_READ | PROT_EXEC));
  load_units(kArgs);
  f.push_back(BPF_STMT(BPF_ST, 0));
  load_units(kArgs + sizeof(uint64_t));
  f.push_back(BPF_STMT(BPF_MISC | BPF_TAX, 0));
  f.push_back(BPF_STMT(BPF_LD | BPF_MEM, 0));
  f.push_back(BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0));
  refuse_if(BPF_JGE, end - 1);  // what the two lost to rounding is less than two units
  f.push_back(ret(SECCOMP_RET_ALLOW));
  return f;
}

}  // namespace

bool may_be_errand(uint64_t area, uint64_t addr, uint64_t len) {
  return (addr >> 16) + (len >> 16) < (area >> 16) - 1;
}

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

std::vector<sock_filter> guest_thread_filter(uint64_t area, bool errands) {
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
  const std::vector<sock_filter> errand = errand_test(area, refuse);
  for (const char* ip : {uk_stub_report_errand_ip, uk_stub_gate_errand_ip}) {
    if (!errands) break;
    f.push_back(load(kIpLow));
    f.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(stub_address(area, ip)),
                         0, static_cast<uint8_t>(errand.size())));
    f.insert(f.end(), errand.begin(), errand.end());
  }
  f.push_back(ret(refuse));
  return f;
}

}  // namespace uk::stub
