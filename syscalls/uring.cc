#include "syscalls/uring.h"

#include "syscalls/fs_common.h"
#include "syscalls/uring/register.h"
#include "syscalls/uring/ring.h"
#include "syscalls/wait_mask.h"
#include "ukernel/abi/time.h"

namespace uk {
namespace {

using uring::Ring;
using uring::RingFile;
using uring::TaskRings;

constexpr uint64_t kMaxTimeoutNs = 1ull << 62;

// A ring by its descriptor, or by its place among those the task has registered.
Result<Ref<File>> ring_file(Task& task, int fd, bool registered) {
  Ref<File> file;
  if (registered) {
    auto& places = TaskRings::of(task).registered;
    if (fd < 0 || static_cast<size_t>(fd) >= places.size()) return Err(Errno::kINVAL);
    file = places[static_cast<size_t>(fd)];
    if (!file) return Err(Errno::kBADF);
  } else {
    file = TRY(task.fds().get_io(fd));
  }
  if (dynamic_cast<RingFile*>(file.get()) == nullptr) return Err(Errno::kOPNOTSUPP);
  return file;
}
Ring& ring_of(File& file) { return static_cast<RingFile&>(file).ring(); }

struct WaitArg {
  uint64_t mask = 0, mask_size = 0;
  Deadline deadline = kNever;
};

Result<WaitArg> fetch_wait(Task& task, uint64_t flags, UserAddr arg, size_t size) {
  WaitArg w;
  if ((flags & IORING_ENTER_EXT_ARG) == 0) {
    w.mask = arg.addr;
    w.mask_size = size;
    return w;
  }
  if (size != sizeof(io_uring_getevents_arg)) return Err(Errno::kINVAL);
  const auto ext = TRY((UserIn<io_uring_getevents_arg>{arg}.get(task.park(), task.mm())));
  if (ext.pad != 0) return Err(Errno::kINVAL);  // min_wait_usec: IORING_FEAT_MIN_TIMEOUT
  w.mask = ext.sigmask;
  w.mask_size = ext.sigmask_sz;
  if (ext.ts == 0) return w;
  const auto t = TRY((UserIn<UserTimespec>{{ext.ts}}.get(task.park(), task.mm())));
  if (t.sec < 0 || t.nsec < 0) {
    w.deadline = {0};
    return w;
  }
  const uint64_t sec = std::min<uint64_t>(static_cast<uint64_t>(t.sec), kMaxTimeoutNs / kNsPerSec);
  const uint64_t ns = std::min(sec * kNsPerSec + static_cast<uint64_t>(t.nsec), kMaxTimeoutNs);
  const bool absolute = (flags & uring::kEnterAbsTimer) != 0;
  w.deadline = {absolute ? ns : task.kernel.clock.monotonic_ns() + ns};
  return w;
}

// Until so many completions are there. kTIME, kINTR.
Result<> wait_completions(Task& task, Ring& ring, uint32_t wanted, const WaitArg& arg) {
  wanted = std::min(wanted, ring.cq_entries());
  ring.flush_overflow();
  if (ring.unread() >= wanted) return {};
  const bool masked = TRY(set_wait_mask(task, UserIn<uint64_t>{{arg.mask}}, arg.mask_size));
  const uint64_t timeouts = ring.timeouts;
  Result<> r = ring.queue().wait(
      task.park(),
      [&] {
        ring.flush_overflow();
        return ring.unread() >= wanted || ring.timeouts != timeouts || ring.closed();
      },
      WaitMode::kInterruptible, arg.deadline, "io_cqring_wait");
  const bool interrupted = !r && is_restart(r.error());
  end_wait_mask(task, masked, interrupted);
  if (ring.unread() != 0) return {};  // fewer than wanted, but something
  if (interrupted) return Err(Errno::kINTR);
  if (!r && r.error() == Errno::kTIMEDOUT) return Err(Errno::kTIME);
  return r;
}

}  // namespace

Result<int64_t> sys_io_uring_setup(Task& task, uint32_t entries, UserInOut<io_uring_params> user) {
  const int disabled = task.kernel.settings.io_uring_disabled;
  if (disabled == 2 || (disabled == 1 && !task.cred().has(Cap::kSysAdmin)))
    return Err(Errno::kPERM);
  io_uring_params p = TRY(user.get(task.park(), task.mm()));
  p.sq_entries = entries;
  if ((p.flags & IORING_SETUP_ATTACH_WQ) != 0) {  // nothing is shared: all rings have one pool
    Result<Ref<File>> other = ring_file(task, static_cast<int>(p.wq_fd), false);
    if (!other) return Err(other.error() == Errno::kBADF ? Errno::kNXIO : Errno::kINVAL);
  }
  Ref<Ring> ring = TRY(Ring::create(task.kernel, p));
  if ((p.flags & IORING_SETUP_SINGLE_ISSUER) != 0 && !ring->disabled) ring->issuer = &task;
  Ref<File> file = make_ref<RingFile>(std::move(ring));
  TRY(user.put(task.park(), task.mm(), p));
  return install_fd(task, std::move(file), /*cloexec=*/true);
}

Result<int64_t> sys_io_uring_enter(Task& task, Fd fd, uint32_t to_submit, uint32_t min_complete,
                                   Hex flags, UserAddr arg, size_t arg_size) {
  constexpr uint64_t kKnown = IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP |
                              IORING_ENTER_SQ_WAIT | IORING_ENTER_EXT_ARG |
                              IORING_ENTER_REGISTERED_RING | uring::kEnterAbsTimer;
  if ((flags & ~kKnown) != 0) return Err(Errno::kINVAL);
  Ref<File> file = TRY(ring_file(task, fd, (flags & IORING_ENTER_REGISTERED_RING) != 0));
  Ring& ring = ring_of(*file);
  if (ring.disabled) return Err(Errno::kBADFD);
  int64_t submitted = 0;
  if (to_submit != 0) {
    if (ring.issuer != nullptr && ring.issuer != &task) return Err(Errno::kEXIST);
    submitted = TRY(ring.submit(task, to_submit));
    if (submitted != to_submit) return submitted;
  }
  if ((flags & IORING_ENTER_GETEVENTS) == 0) return submitted;
  auto wait = [&]() -> Result<> {
    if ((ring.flags() & IORING_SETUP_DEFER_TASKRUN) != 0 && ring.issuer != &task)
      return Err(Errno::kEXIST);
    const WaitArg w = TRY(fetch_wait(task, flags, arg, arg_size));
    return wait_completions(task, ring, min_complete, w);
  };
  Result<> r = wait();
  if (!r && submitted == 0) return Err(r.error());
  return submitted;
}

Result<int64_t> sys_io_uring_register(Task& task, Fd fd, uint32_t op, UserAddr arg,
                                      uint32_t count) {
  constexpr uint32_t kRegistered = 1u << 31;
  const bool registered = (op & kRegistered) != 0;
  op &= ~kRegistered;
  if (op >= uring::kRegisterOps) return Err(Errno::kINVAL);
  Ref<File> file = TRY(ring_file(task, fd, registered));
  Ring& ring = ring_of(*file);
  if (ring.issuer != nullptr && ring.issuer != &task) return Err(Errno::kEXIST);
  MutexLock lock(task.park(), ring.lock());
  return uring::do_register(task, ring, op, arg.addr, count);
}

}  // namespace uk
