#include "ukernel/platform/stub/zygote.h"

#include <asm/hwcap2.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "base/check.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"
#include "ukernel/arch/x86_64/regs.h"
#include "ukernel/platform/stub/filter.h"

namespace uk::stub {
namespace {

constexpr uint64_t kSaRestorer = 0x04000000;
constexpr uint64_t kUsualTop = 0x7ffffffff000;

// True if the host would map a page at `addr`.
bool mappable(uint64_t addr) {
  auto r = sys::mmap(reinterpret_cast<void*>(addr), kPage, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (!r) return r.error() == Errno::kEXIST;
  (void)sys::munmap(*r, kPage);
  // A kernel too old for the flag maps elsewhere.
  return *r == reinterpret_cast<void*>(addr);
}

bool is_free(uint64_t addr, uint64_t len) {
  auto r = sys::mmap(reinterpret_cast<void*>(addr), len, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (r) (void)sys::munmap(*r, len);
  return r && *r == reinterpret_cast<void*>(addr);
}

// A system call without errno and without the C library's state, for the child.
long raw(long nr, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

// What the child needs, prepared before the fork: it allocates nothing.
struct ChildPlan {
  uint64_t area, top;
  int code_fd, pages_fd;
  uint64_t page_offset, published_offset;
  int go_fd;  // reads one byte when the kernel has attached
  Zygote::Report* report;
  long kernel_pid;
  sock_fprog filter;
  unsigned filter_flags;
  uint64_t boot;
  uint64_t handler;
  uint64_t handled;  // a bit for each signal
};

[[noreturn]] void child_fail(const ChildPlan& p, long error) {
  p.report->error = static_cast<int32_t>(-error);
  raw(SYS_exit_group, 127);
  __builtin_unreachable();
}

// struct sigaction of the system call.
struct KernelSigaction {
  uint64_t handler, flags, restorer, mask;
};

void child_set_signals(const ChildPlan& p) {
  for (long sig = 1; sig <= 64; ++sig) {
    KernelSigaction act = {};  // SIG_DFL
    if (((p.handled >> (sig - 1)) & 1) != 0) {
      // One at a time, on the thread's own stack, and an interrupted call is repeated.
      act = {p.handler, SA_SIGINFO | SA_ONSTACK | SA_RESTART | kSaRestorer, p.handler, ~0ull};
    } else if (p.handled != 0) {
      act.handler = reinterpret_cast<uint64_t>(SIG_IGN);
    }
    raw(SYS_rt_sigaction, sig, reinterpret_cast<long>(&act), 0, 8);
  }
  uint64_t mask = p.handled != 0 ? ~0ull : 0;
  raw(SYS_rt_sigprocmask, SIG_SETMASK, reinterpret_cast<long>(&mask), 0, 8);
}

void child_forget_libc() {
  // The C library registered its thread's rseq area; the host would write to it after we unmapped
  // it. The length must be the one used at registration: 32 up to glibc 2.40, larger where the host
  // has more features.
  const uint64_t tp = reinterpret_cast<uint64_t>(__builtin_thread_pointer());
  for (long len : {32L, 64L, 96L, 128L})
    if (raw(SYS_rseq, static_cast<long>(tp) + __rseq_offset, len, RSEQ_FLAG_UNREGISTER, RSEQ_SIG) ==
        0)
      break;
  raw(SYS_set_robust_list, 0, 24);
  raw(SYS_set_tid_address, 0);
  struct {
    void* sp;
    int flags;
    size_t size;
  } no_stack = {nullptr, SS_DISABLE, 0};
  raw(SYS_sigaltstack, reinterpret_cast<long>(&no_stack), 0);
}

[[noreturn]] void child_main(const ChildPlan& p) {
  raw(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
  if (raw(SYS_getppid) != p.kernel_pid) raw(SYS_exit_group, 127);
  char go;
  if (raw(SYS_read, p.go_fd, reinterpret_cast<long>(&go), 1) != 1) raw(SYS_exit_group, 127);
  child_set_signals(p);
  child_forget_libc();
  raw(SYS_prctl, PR_SET_NAME, reinterpret_cast<long>("uk-stub"));
  long r = raw(SYS_mmap, static_cast<long>(p.area + kCodeOffset), kCodeBytes, PROT_READ | PROT_EXEC,
               MAP_SHARED | MAP_FIXED, p.code_fd, 0);
  if (r < 0) child_fail(p, r);
  r = raw(SYS_mmap, static_cast<long>(p.area + kCommandOffset), kPage, PROT_READ,
          MAP_SHARED | MAP_FIXED, p.pages_fd, static_cast<long>(p.page_offset));
  if (r < 0) child_fail(p, r);
  r = raw(SYS_mmap, static_cast<long>(p.area + kPublishedOffset), kPage, PROT_READ,
          MAP_SHARED | MAP_FIXED, p.pages_fd, static_cast<long>(p.published_offset));
  if (r < 0) child_fail(p, r);
  r = raw(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1);
  if (r < 0) child_fail(p, r);
  // From here on the filter lets only stub code call the host.
  r = raw(SYS_seccomp, SECCOMP_SET_MODE_FILTER, p.filter_flags, reinterpret_cast<long>(&p.filter));
  if (r < 0) {
    p.report->error = static_cast<int32_t>(-r);
    __builtin_trap();
  }
  p.report->listener = static_cast<int32_t>(r);
  std::atomic_ref(p.report->ready).store(1, std::memory_order_release);
  asm volatile("jmp *%0"
               :
               : "r"(p.boot), "D"(p.area), "S"(kKeptBytes), "d"(p.top), "c"(&p.report->ready)
               : "memory");
  __builtin_unreachable();
}

Result<sys::Fd> make_code_file(uint64_t area, bool errands) {
  sys::Fd fd = TRY(sys::memfd_create("uk-stub-code", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  TRY(sys::ftruncate(fd.get(), kCodeBytes));
  std::span<const char> code(uk_stub_begin, static_cast<size_t>(uk_stub_end - uk_stub_begin));
  TRY(sys::pwrite(fd.get(), std::as_bytes(code), 0));
  const uint32_t can[] = {has_fsgsbase(), gate_saves()};
  static_assert(UK_CONST_SAVES == UK_CONST_FSGSBASE + sizeof(uint32_t));
  TRY(sys::pwrite(fd.get(), std::as_bytes(std::span(can)), kConstantsOffset + UK_CONST_FSGSBASE));
  const uint64_t features[] = {arch::xfeatures()};
  TRY(sys::pwrite(fd.get(), std::as_bytes(std::span(features)),
                  kConstantsOffset + UK_CONST_FEATURES));
  std::vector<sock_filter> filter = guest_thread_filter(area, errands);
  const uint64_t at = kConstantsOffset + UK_CONST_FILTER;
  const sock_fprog prog = {
      .len = static_cast<unsigned short>(filter.size()),
      .filter = reinterpret_cast<sock_filter*>(area + at + sizeof(sock_fprog))};
  TRY(sys::pwrite(fd.get(), std::as_bytes(std::span(&prog, 1)), at));
  TRY(sys::pwrite(fd.get(), std::as_bytes(std::span(filter)), at + sizeof prog));
  TRY(sys::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
  // Linux before 6.7 maps what is sealed only where the descriptor cannot write either.
  sys::Fd read_only = TRY(sys::reopen(fd.get(), O_RDONLY));
  return read_only;
}

}  // namespace

bool gate_saves() { return arch::has_xsaveopt() && arch::xsave_bytes() <= UK_SLOT_FP_BYTES; }

bool has_fsgsbase() { return (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE) != 0; }

Result<uint64_t> probe_address_top() {
  if (mappable(kUsualTop - kPage)) return kUsualTop;
  uint64_t low = 1ull << 32, high = kUsualTop;  // mappable, not mappable
  if (!mappable(low)) return Err(Errno::kNOMEM);
  while (high - low > kPage) {
    uint64_t mid = (low + (high - low) / 2) & ~(kPage - 1);
    (mappable(mid) ? low : high) = mid;
  }
  return high;
}

Result<CommandPages> CommandPages::create() {
  CommandPages p;
  p.fd_ = TRY(sys::memfd_create("uk-stub-commands", MFD_CLOEXEC));
  TRY(sys::ftruncate(p.fd_.get(), kMaxSlots * kPage));
  p.map_ = TRY(sys::Mapping::shared(p.fd_.get(), 0, kMaxSlots * kPage, PROT_READ | PROT_WRITE,
                                    MAP_NORESERVE));
  return p;
}

Result<uint32_t> CommandPages::take() {
  if (!free_.empty()) {
    uint32_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  if (next_ == kMaxSlots) return Err(Errno::kAGAIN);
  return next_++;
}

void CommandPages::give_back(uint32_t slot) { free_.push_back(slot); }

Result<std::unique_ptr<Zygote>> Zygote::start(const Options& options) {
  auto z = std::make_unique<Zygote>();
  const uint64_t top = TRY(probe_address_top());
  // The kernel's own stack may (rarely) lie in the way; the child must not unmap the stack it runs
  // on.
  z->area = (top - kAreaBytes) & ~(kAreaAlign - 1);
  while (!is_free(z->area, kAreaBytes)) {
    if (z->area < top / 2) return Err(Errno::kNOMEM);
    z->area -= kAreaBytes;
  }
  z->pages = TRY(CommandPages::create());
  z->slot = Slot(z->pages, TRY(z->pages.take()));
  z->published_page = Slot(z->pages, TRY(z->pages.take()));
  z->slot.page().kernel_pid = static_cast<uint64_t>(sys::getpid());
  z->slot.page().entry = z->address(options.entry);

  sys::Fd code = TRY(make_code_file(z->area, options.errands));
  auto [go_read, go_write] = TRY(sys::pipe2(O_CLOEXEC));
  z->report_page = sys::Mapping(
      TRY(sys::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)),
      kPage);
  std::vector<sock_filter> filter =
      stub_filter(z->area + kCodeOffset, options.report, options.otherwise);
  ChildPlan plan = {
      .area = z->area,
      .top = top,
      .code_fd = code.get(),
      .pages_fd = z->pages.fd(),
      .page_offset = z->slot.offset(),
      .published_offset = z->published_page.offset(),
      .go_fd = go_read.get(),
      .report = &z->report(),
      .kernel_pid = sys::getpid(),
      .filter = {.len = static_cast<unsigned short>(filter.size()), .filter = filter.data()},
      .filter_flags = options.filter_flags,
      .boot = z->address(uk_stub_boot),
      .handler = z->address(options.handler),
      .handled = 0,
  };
  for (int sig : options.handled) plan.handled |= 1ull << (sig - 1);
  long pid = raw(SYS_clone, CLONE_FILES | SIGCHLD);
  if (pid == 0) child_main(plan);
  if (pid < 0) return Err(static_cast<Errno>(-pid));
  z->pid = static_cast<int>(pid);
  auto fail = [&](Errno e) {
    (void)sys::kill(z->pid, SIGKILL);
    int status;
    (void)sys::waitpid(z->pid, &status, __WALL);
    return Err(e);
  };
  if (auto r = options.attach(z->pid); !r) return fail(r.error());
  std::byte go{1};
  if (auto r = sys::write(go_write.get(), {&go, 1}); !r) return fail(r.error());
  z->starting.push_back(std::move(code));
  z->starting.push_back(std::move(go_read));
  z->starting.push_back(std::move(go_write));
  return z;
}

Result<Slot> Zygote::prepare_stub(uint64_t extra_clone_flags, Command* clone) {
  Slot s(pages, TRY(pages.take()));
  CommandPage& page = s.page();
  page.count = 0;
  page.kernel_pid = slot.page().kernel_pid;
  page.entry = slot.page().entry;
  *clone = {.nr = SYS_clone,
            .args = {CLONE_PARENT | CLONE_FILES | CLONE_FS | extra_clone_flags, 0, 0, 0,
                     static_cast<uint64_t>(pages.fd()), s.offset()},
            .child = address(uk_stub_new)};
  return s;
}

}  // namespace uk::stub
