#include "syscalls/userfaultfd.h"

#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <vector>

#include "syscalls/fs_common.h"
#include "ukernel/kernel.h"
#include "ukernel/mm/userfault.h"
#include "ukernel/vfs/anon_inode.h"

namespace uk {
namespace {

constexpr int kUserModeOnly = 1;                // UFFD_USER_MODE_ONLY
constexpr uint64_t kExactAddress = 1ull << 11;  // UFFD_FEATURE_EXACT_ADDRESS
// Newer than Debian 12's headers.
constexpr uint64_t kPoison = 1ull << 14, kMove = 1ull << 16;  // UFFD_FEATURE_POISON, _MOVE
constexpr uint64_t kMoveNumber = 5, kPoisonNumber = 8;
struct UffdioMove {
  uint64_t dst, src, len, mode;
  int64_t move;
};
struct UffdioPoison {
  uffdio_range range;
  uint64_t mode;
  int64_t updated;
};
constexpr uint32_t kMoveIoctl = _IOWR(UFFDIO, kMoveNumber, UffdioMove);
constexpr uint32_t kPoisonIoctl = _IOWR(UFFDIO, kPoisonNumber, UffdioPoison);
constexpr uint64_t kDontWake = 1, kAllowHoles = 2;  // UFFDIO_MOVE_MODE_*

constexpr uint64_t kFeatures = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_SIGBUS |
                               UFFD_FEATURE_THREAD_ID | kExactAddress | kPoison | kMove;
constexpr uint64_t kIoctls =
    1ull << _UFFDIO_REGISTER | 1ull << _UFFDIO_UNREGISTER | 1ull << _UFFDIO_API;
constexpr uint64_t kRangeIoctls = 1ull << _UFFDIO_WAKE | 1ull << _UFFDIO_COPY |
                                  1ull << _UFFDIO_ZEROPAGE | 1ull << kMoveNumber |
                                  1ull << kPoisonNumber;
constexpr uint64_t kMinAddr = 0x10000;

class UserFaultFile final : public File {
 public:
  UserFaultFile(Ref<UserFault> fault, int flags)
      : File(make_anon_path("userfaultfd"), O_RDWR | flags), fault_(std::move(fault)) {}

  Result<size_t> read(Park& park, IoSink& to, uint64_t) override {
    if (!ready_) return Err(Errno::kINVAL);
    size_t done = 0;
    while (to.remaining() >= sizeof(uffd_msg)) {
      std::optional<UserFault::Fault> f = fault_->take();
      if (!f) {
        if (done != 0) break;
        if (nonblock()) return Err(Errno::kAGAIN);
        TRY(fault_->arrived.wait(
            park, [&] { return fault_->pending(); }, WaitMode::kInterruptible, kNever,
            "userfaultfd_read"));
        continue;
      }
      uffd_msg msg{};
      msg.event = UFFD_EVENT_PAGEFAULT;
      msg.arg.pagefault.flags = f->write ? UFFD_PAGEFAULT_FLAG_WRITE : 0;
      msg.arg.pagefault.address = (features_ & kExactAddress) != 0 ? f->addr : page_floor(f->addr);
      if ((features_ & UFFD_FEATURE_THREAD_ID) != 0)
        msg.arg.pagefault.feat.ptid = static_cast<uint32_t>(f->thread);
      Result<size_t> put = to.put(park, std::as_bytes(std::span(&msg, 1)));
      if (!put) return done != 0 ? Result<size_t>(done) : put;
      done += *put;
    }
    return done != 0 ? Result<size_t>(done) : Err(Errno::kINVAL);
  }

  // As on Linux, polling makes sense with O_NONBLOCK only.
  uint32_t ready() override {
    if (!ready_ || !nonblock()) return POLLERR;
    return fault_->pending() ? POLLIN : 0;
  }
  WaitQueue* poll_queue() override { return &fault_->arrived; }
  void release(Park&) override { fault_->close(); }

  Result<int64_t> ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) override {
    if (cmd != UFFDIO_API && !ready_) return Err(Errno::kINVAL);
    switch (cmd) {
      case UFFDIO_API:
        return start(park, user, arg);
      case UFFDIO_REGISTER:
        return enroll(park, user, arg);
      case UFFDIO_UNREGISTER:
      case UFFDIO_WAKE: {
        const auto range = TRY(get<uffdio_range>(park, user, arg));
        const uint64_t end = TRY(check(range));
        if (cmd == UFFDIO_WAKE) {
          fault_->wake(range.start, end);
        } else {
          TRY(space());
          TRY(fault_->unregister(range.start, end));
        }
        return 0;
      }
      case UFFDIO_COPY:
        return copy(park, user, arg);
      case UFFDIO_ZEROPAGE:
        return zero_pages(park, user, arg);
      case kMoveIoctl:
        return move(park, user, arg);
      case kPoisonIoctl:
        return poison(park, user, arg);
      default:
        return Err(Errno::kINVAL);
    }
  }

 private:
  template <class T>
  static Result<T> get(Park& park, IoctlUser& user, uint64_t arg) {
    T value;
    TRY(user.copy_in(park, std::as_writable_bytes(std::span(&value, 1)), arg));
    return value;
  }
  template <class T>
  static Result<> put(Park& park, IoctlUser& user, uint64_t arg, const T& value) {
    return user.copy_out(park, arg, std::as_bytes(std::span(&value, 1)));
  }
  // The memory it belongs to; kSRCH: that has gone.
  Result<Ref<AddressSpace>> space() const {
    if (fault_->space() == nullptr) return Err(Errno::kSRCH);
    return Ref<AddressSpace>(fault_->space());
  }
  // The end of a range of whole pages.
  static Result<uint64_t> check(const uffdio_range& r) {
    const uint64_t end = r.start + r.len;
    if (((r.start | r.len) & kPageMask) != 0 || r.len == 0 || r.start < kMinAddr || end < r.start)
      return Err(Errno::kINVAL);
    return end;
  }

  Result<int64_t> start(Park& park, IoctlUser& user, uint64_t arg) {
    auto api = TRY(get<uffdio_api>(park, user, arg));
    if (api.api != UFFD_API || (api.features & ~kFeatures) != 0 || ready_) {
      TRY(put(park, user, arg, uffdio_api{}));
      return Err(Errno::kINVAL);
    }
    const uint64_t wanted = api.features;
    api.features = kFeatures;
    api.ioctls = kIoctls;
    TRY(put(park, user, arg, api));
    features_ = wanted;
    fault_->sigbus = (wanted & UFFD_FEATURE_SIGBUS) != 0;
    ready_ = true;
    return 0;
  }

  Result<int64_t> enroll(Park& park, IoctlUser& user, uint64_t arg) {
    auto request = TRY(get<uffdio_register>(park, user, arg));
    // DEVIATION: missing pages only; see docs/CAVEATS.md.
    if (request.mode != UFFDIO_REGISTER_MODE_MISSING) return Err(Errno::kINVAL);
    const uint64_t end = TRY(check(request.range));
    Ref<AddressSpace> mm = TRY(space());
    if (end > mm->user_limit()) return Err(Errno::kINVAL);
    TRY(fault_->enroll(park, request.range.start, end));
    request.ioctls = kRangeIoctls;
    TRY(put(park, user, arg, request));
    return 0;
  }

  // `step` for page after page. What is done is told also when one fails.
  template <class F>
  Result<int64_t> each_page(Park& park, uint64_t start, uint64_t len, bool wake, F&& step) {
    int64_t done = 0;
    while (done < static_cast<int64_t>(len)) {
      const Result<> r = fault_->space() == nullptr ? Result<>(Err(Errno::kSRCH))
                                                    : step(static_cast<uint64_t>(done));
      if (!r) {
        if (done == 0) return Err(r.error());
        break;
      }
      done += kPageSize;
      if (park.interrupted(WaitMode::kKillable)) break;
    }
    if (wake) fault_->wake(start, start + static_cast<uint64_t>(done));
    return done;
  }

  // Brings pages; `contents` makes each.
  template <class F>
  Result<int64_t> provide(Park& park, uint64_t start, uint64_t len, bool wake, F&& contents) {
    std::vector<std::byte> page(kPageSize);
    return each_page(park, start, len, wake, [&](uint64_t done) -> Result<> {
      TRY(fault_->expects(start + done));
      TRY(contents(page, done));
      if (fault_->space() == nullptr) return Err(Errno::kSRCH);
      return fault_->provide(park, start + done, page);
    });
  }

  Result<int64_t> move(Park& park, IoctlUser& user, uint64_t arg) {
    const auto m = TRY(get<UffdioMove>(park, user, arg));
    TRY(check({m.dst, m.len}));
    TRY(check({m.src, m.len}));
    if ((m.mode & ~(kDontWake | kAllowHoles)) != 0) return Err(Errno::kINVAL);
    Result<int64_t> r =
        each_page(park, m.dst, m.len, (m.mode & kDontWake) == 0, [&](uint64_t done) -> Result<> {
          TRY(fault_->check_move(m.dst + done, m.src + done, m.len - done));
          Result<> moved = fault_->move(park, m.dst + done, m.src + done);
          const bool hole = !moved && moved.error() == Errno::kNOENT;
          return hole && (m.mode & kAllowHoles) != 0 ? Result<>() : moved;
        });
    return answer(park, user, arg + offsetof(UffdioMove, move), r, m.len);
  }

  Result<int64_t> poison(Park& park, IoctlUser& user, uint64_t arg) {
    const auto p = TRY(get<UffdioPoison>(park, user, arg));
    TRY(check(p.range));
    if ((p.mode & ~kDontWake) != 0) return Err(Errno::kINVAL);
    Result<int64_t> r =
        each_page(park, p.range.start, p.range.len, (p.mode & kDontWake) == 0,
                  [&](uint64_t done) { return fault_->poison(p.range.start + done); });
    return answer(park, user, arg + offsetof(UffdioPoison, updated), r, p.range.len);
  }

  Result<int64_t> copy(Park& park, IoctlUser& user, uint64_t arg) {
    const auto c = TRY(get<uffdio_copy>(park, user, arg));
    TRY(check({c.dst, c.len}));
    if (c.src + c.len < c.src || (c.mode & ~UFFDIO_COPY_MODE_DONTWAKE) != 0)
      return Err(Errno::kINVAL);
    Result<int64_t> r = provide(park, c.dst, c.len, (c.mode & UFFDIO_COPY_MODE_DONTWAKE) == 0,
                                [&](std::vector<std::byte>& page, uint64_t at) {
                                  return user.copy_in(park, page, c.src + at);
                                });
    return answer(park, user, arg + offsetof(uffdio_copy, copy), r, c.len);
  }

  Result<int64_t> zero_pages(Park& park, IoctlUser& user, uint64_t arg) {
    const auto z = TRY(get<uffdio_zeropage>(park, user, arg));
    TRY(check(z.range));
    if ((z.mode & ~UFFDIO_ZEROPAGE_MODE_DONTWAKE) != 0) return Err(Errno::kINVAL);
    Result<int64_t> r =
        provide(park, z.range.start, z.range.len, (z.mode & UFFDIO_ZEROPAGE_MODE_DONTWAKE) == 0,
                [](std::vector<std::byte>&, uint64_t) { return Result<>(); });
    return answer(park, user, arg + offsetof(uffdio_zeropage, zeropage), r, z.range.len);
  }

  // How far it came, or why not at all, goes into the request; less than all is kAGAIN.
  static Result<int64_t> answer(Park& park, IoctlUser& user, uint64_t at, Result<int64_t> r,
                                uint64_t len) {
    const int64_t value = r ? *r : -static_cast<int64_t>(r.error());
    TRY(put(park, user, at, value));
    if (!r) return Err(r.error());
    return *r == static_cast<int64_t>(len) ? Result<int64_t>(0) : Err(Errno::kAGAIN);
  }

  const Ref<UserFault> fault_;
  bool ready_ = false;  // UFFDIO_API has been called
  uint64_t features_ = 0;
};

Result<int64_t> make(Task& task, int flags) {
  if ((flags & ~(O_CLOEXEC | O_NONBLOCK | kUserModeOnly)) != 0) return Err(Errno::kINVAL);
  Ref<UserFault> fault = UserFault::create(task.mm(), (flags & kUserModeOnly) != 0);
  return install_fd(task, make_ref<UserFaultFile>(std::move(fault), flags & O_NONBLOCK),
                    (flags & O_CLOEXEC) != 0);
}

class Device final : public File {
 public:
  using File::File;
  Result<int64_t> ioctl(Park&, IoctlUser& user, uint32_t cmd, uint64_t arg) override {
    constexpr uint32_t kNew = _IO(UFFDIO, 0x00);  // USERFAULTFD_IOC_NEW
    if (cmd != kNew || user.task() == nullptr) return Err(Errno::kINVAL);
    return make(*user.task(), static_cast<int>(arg));
  }
};

}  // namespace

// As with vm.unprivileged_userfaultfd = 0. The device's permissions say who else may.
Result<int64_t> sys_userfaultfd(Task& task, int flags) {
  if ((flags & kUserModeOnly) == 0 && !task.cred().has(Cap::kSysPtrace)) return Err(Errno::kPERM);
  return make(task, flags);
}

void register_userfaultfd(Kernel& kernel) {
  constexpr uint32_t kMisc = 10, kMinor = 126;
  kernel.vfs.register_device(
      false, kMisc, kMinor, 1, "userfaultfd",
      {[](Park&, const Path& path, int flags, const Cred&, uint64_t) -> Result<Ref<File>> {
        return Ref<File>(make_ref<Device>(path, flags));
      }});
}

}  // namespace uk
