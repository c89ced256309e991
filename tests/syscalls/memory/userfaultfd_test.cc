// userfaultfd: a thread tells, and helps, another that meets missing pages.
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <atomic>
#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr int kUserModeOnly = 1;

class Faults {
 public:
  explicit Faults(uint64_t features = 0)
      : fd_(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | kUserModeOnly)) {
    uffdio_api api = {.api = UFFD_API, .features = features, .ioctls = 0};
    EXPECT_OK(ioctl(fd_.get(), UFFDIO_API, &api));
    features_ = api.features;
  }
  int fd() const { return fd_.get(); }
  uint64_t features() const { return features_; }
  int Register(char* p, size_t pages) const {
    uffdio_register r = {.range = {reinterpret_cast<uint64_t>(p), pages * kPage},
                         .mode = UFFDIO_REGISTER_MODE_MISSING,
                         .ioctls = 0};
    int result = ioctl(fd_.get(), UFFDIO_REGISTER, &r);
    constexpr uint64_t kNeeded =
        1ull << _UFFDIO_WAKE | 1ull << _UFFDIO_COPY | 1ull << _UFFDIO_ZEROPAGE;
    EXPECT_EQ(r.ioctls & kNeeded, result == 0 ? kNeeded : 0);
    return result;
  }
  uffd_msg Next() const {
    pollfd p = {fd_.get(), POLLIN, 0};
    EXPECT_EQ(poll(&p, 1, -1), 1);
    uffd_msg msg = {};
    EXPECT_EQ(read(fd_.get(), &msg, sizeof msg), static_cast<ssize_t>(sizeof msg));
    return msg;
  }
  int Copy(char* to, const void* from, size_t pages = 1) const {
    uffdio_copy c = {.dst = reinterpret_cast<uint64_t>(to),
                     .src = reinterpret_cast<uint64_t>(from),
                     .len = pages * kPage,
                     .mode = 0,
                     .copy = 0};
    return ioctl(fd_.get(), UFFDIO_COPY, &c);
  }
  int Zero(char* to) const {
    uffdio_zeropage z = {
        .range = {reinterpret_cast<uint64_t>(to), kPage}, .mode = 0, .zeropage = 0};
    return ioctl(fd_.get(), UFFDIO_ZEROPAGE, &z);
  }

 private:
  Fd fd_;
  uint64_t features_ = 0;
};

char* Map(size_t pages, int flags = MAP_PRIVATE) {
  return static_cast<char*>(
      mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0));
}

TEST(userfaultfd, MissingPagesAreBrought) {
  for (int flags : {MAP_PRIVATE, MAP_SHARED}) {
    char* p = Map(4, flags);
    Faults faults;
    ASSERT_NE(faults.fd(), -1);
    ASSERT_OK(faults.Register(p, 4));
    std::vector<char> page(kPage, 'x');
    std::atomic<int> seen{0};
    std::thread user([&] {
      EXPECT_EQ(p[5], 'x');
      seen = 1;
      p[kPage + 1] = 'w';
      EXPECT_EQ(p[kPage], 0);
      seen = 2;
    });
    uffd_msg m = faults.Next();
    EXPECT_EQ(m.event, UFFD_EVENT_PAGEFAULT);
    EXPECT_EQ(m.arg.pagefault.address, reinterpret_cast<uint64_t>(p));
    EXPECT_EQ(m.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE, 0u);
    EXPECT_EQ(seen, 0);
    EXPECT_OK(faults.Copy(p, page.data()));
    m = faults.Next();
    EXPECT_EQ(seen, 1);
    EXPECT_EQ(m.arg.pagefault.address, reinterpret_cast<uint64_t>(p) + kPage);
    EXPECT_OK(faults.Zero(p + kPage));
    user.join();
    EXPECT_EQ(seen, 2);
    EXPECT_ERRNO(EEXIST, faults.Copy(p, page.data()));
    EXPECT_OK(faults.Copy(p + 2 * kPage, page.data())) << "before anybody asks";
    EXPECT_EQ(p[2 * kPage + 9], 'x');
    // Thrown away, a page is missing again.
    if (flags == MAP_PRIVATE) {
      ASSERT_OK(madvise(p, kPage, MADV_DONTNEED));
      std::thread again([&] { EXPECT_EQ(p[0], 'x'); });
      faults.Next();
      EXPECT_OK(faults.Copy(p, page.data()));
      again.join();
    }
    munmap(p, 4 * kPage);
  }
}

TEST(userfaultfd, WritesToo) {
  char* p = Map(2);
  Faults faults;
  ASSERT_OK(faults.Register(p, 2));
  std::thread user([&] { p[kPage + 7] = 1; });
  uffd_msg m = faults.Next();
  // That it is a write is not known on every platform of ukernel (docs/CAVEATS.md).
  EXPECT_EQ(m.arg.pagefault.address, reinterpret_cast<uint64_t>(p) + kPage);
  EXPECT_OK(faults.Zero(p + kPage));
  user.join();
  EXPECT_EQ(p[kPage + 7], 1);
  munmap(p, 2 * kPage);
}

TEST(userfaultfd, UnregisterAndCloseLetGo) {
  for (bool closing : {false, true}) {
    char* p = Map(1);
    auto faults = std::make_unique<Faults>();
    ASSERT_OK(faults->Register(p, 1));
    std::thread user([&] { EXPECT_EQ(p[0], 0); });
    faults->Next();
    if (closing) {
      faults.reset();
    } else {
      uffdio_range range = {reinterpret_cast<uint64_t>(p), kPage};
      EXPECT_OK(ioctl(faults->fd(), UFFDIO_UNREGISTER, &range));
    }
    user.join();
    munmap(p, kPage);
  }
}

TEST(userfaultfd, WakeLetsThemLookAgain) {
  char* p = Map(1);
  Faults faults;
  ASSERT_OK(faults.Register(p, 1));
  std::thread user([&] { EXPECT_EQ(p[0], 0); });
  for (int i = 0; i < 2; i++) {  // the page is still missing: it asks again
    faults.Next();
    uffdio_range range = {reinterpret_cast<uint64_t>(p), kPage};
    if (i == 0) {
      EXPECT_OK(ioctl(faults.fd(), UFFDIO_WAKE, &range));
    }
  }
  EXPECT_OK(faults.Zero(p));
  user.join();
  munmap(p, kPage);
}

TEST(userfaultfd, KernelAccessesFailInUserMode) {
  char* p = Map(1);
  Faults faults;
  ASSERT_OK(faults.Register(p, 1));
  int fds[2];
  ASSERT_OK(pipe(fds));
  EXPECT_ERRNO(EFAULT, write(fds[1], p, 1));
  close(fds[0]);
  close(fds[1]);
  munmap(p, kPage);
}

TEST(userfaultfd, ForkedChildrenAreNotConcerned) {
  char* p = Map(1);
  Faults faults;
  ASSERT_OK(faults.Register(p, 1));
  IN_CHILD([&] { CHILD_CHECK(p[0] == 0); });
  munmap(p, kPage);
}

TEST(userfaultfd, Errors) {
  EXPECT_ERRNO(EINVAL, syscall(SYS_userfaultfd, 0x40000000 | kUserModeOnly));
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, syscall(SYS_userfaultfd, O_CLOEXEC));
  }
  Fd fd(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | kUserModeOnly));
  ASSERT_NE(fd.get(), -1);
  uffd_msg m;
  EXPECT_ERRNO(EINVAL, read(fd.get(), &m, sizeof m)) << "before UFFDIO_API";
  pollfd poller = {fd.get(), POLLIN, 0};
  EXPECT_EQ(poll(&poller, 1, 0), 1);
  EXPECT_EQ(poller.revents, POLLERR);
  uffdio_range range = {0x100000, kPage};
  EXPECT_ERRNO(EINVAL, ioctl(fd.get(), UFFDIO_WAKE, &range));
  uffdio_api api = {.api = 1, .features = 0, .ioctls = 0};
  EXPECT_ERRNO(EINVAL, ioctl(fd.get(), UFFDIO_API, &api));
  EXPECT_EQ(api.features, 0u);
  api = {.api = UFFD_API, .features = 1ull << 60, .ioctls = 0};
  EXPECT_ERRNO(EINVAL, ioctl(fd.get(), UFFDIO_API, &api));
  api = {.api = UFFD_API, .features = 0, .ioctls = 0};
  EXPECT_OK(ioctl(fd.get(), UFFDIO_API, &api));
  EXPECT_NE(api.ioctls & 1ull << _UFFDIO_REGISTER, 0u);
  EXPECT_ERRNO(EAGAIN, read(fd.get(), &m, sizeof m));
  EXPECT_ERRNO(EINVAL, read(fd.get(), &m, sizeof m - 1));
  char* p = Map(2);
  uffdio_register r = {.range = {reinterpret_cast<uint64_t>(p), kPage}, .mode = 0, .ioctls = 0};
  EXPECT_ERRNO(EINVAL, ioctl(fd.get(), UFFDIO_REGISTER, &r));
  r.mode = UFFDIO_REGISTER_MODE_MISSING;
  r.range.start++;
  EXPECT_ERRNO(EINVAL, ioctl(fd.get(), UFFDIO_REGISTER, &r));
  r.range.start--;
  ASSERT_OK(ioctl(fd.get(), UFFDIO_REGISTER, &r));
  Faults other;
  EXPECT_ERRNO(EBUSY, other.Register(p, 1));
  EXPECT_ERRNO(ENOENT, other.Copy(p + kPage, &m)) << "not registered";
  Fd file(open("/proc/self/exe", O_RDONLY));
  void* text = mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, file.get(), 0);
  EXPECT_ERRNO(EINVAL, other.Register(static_cast<char*>(text), 1));
  munmap(text, kPage);
  munmap(p, 2 * kPage);
}

}  // namespace
}  // namespace uk::test
