#include "ukernel/platform/seccomp/listener.h"

#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "base/check.h"
#include "hostio/sys/event.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"

namespace uk::seccomp {
namespace {

// Newer than Debian 12's headers (Linux 6.6): the waker expects to sleep, so the woken runs in its
// place.
constexpr unsigned long kSetFlags = _IOW('!', 4, uint64_t);
constexpr uint64_t kSyncWakeUp = 1;

// The host gives up waiting for its lock on the list of notifications when the caller has anything
// else to do in the kernel, be it only to post a completion. Having returned, it has done that.
Result<> uninterrupted(auto call) {
  for (;;) {
    auto r = call();
    if (r) return {};
    if (r.error() != Errno::kINTR) return Err(r.error());
  }
}

}  // namespace

Listener::Listener(hostio::Ring& ring, int fd, const int& active, Handler handler)
    : ring_(ring),
      fd_(fd),
      active_(active),
      handler_(std::move(handler)),
      exact_(std::string_view(ring.name()) == "io_uring") {}

Listener::~Listener() { ring_.detach(*this); }

Result<> Listener::start() {
  seccomp_notif_sizes sizes = {};
  TRY(sys::seccomp(SECCOMP_GET_NOTIF_SIZES, 0, &sizes));
  notif_.resize(std::max<size_t>(sizes.seccomp_notif, sizeof(seccomp_notif)));
  response_.resize(std::max<size_t>(sizes.seccomp_notif_resp, sizeof(seccomp_notif_resp)));
  steers_ = set_wake(Wake::kHere);
  ring_.poll(*this, fd_, POLLIN, true);
  return {};
}

void Listener::complete(int32_t res, bool more) {
  // POLLHUP: the zygote and all stubs are gone.
  if (!more && res != -ECANCELED && (res < 0 || (res & POLLHUP) == 0))
    ring_.poll(*this, fd_, POLLIN, true);
  // POLLERR: io_uring could not look, see uninterrupted(); there may be something.
  if (res <= 0 || (res & (POLLIN | POLLERR)) == 0) return;
  if ((res & POLLIN) != 0) ++announced_;
  receive_all();
}

// The host counts notifications, and a receive takes one from the count, blocking at zero. It wakes
// a poller once for each, and io_uring's completions may merge wakes but not invent any: so as long
// as we have received less often than we were told, the count is not zero. Beyond that, ask first.
void Listener::receive_all() {
  bool any = false;
  while (exact_ && received_ < announced_) {
    receive_one();
    any = true;
  }
  if (!any || active_ > 0) sweep();
}

void Listener::sweep() {
  while (readable()) receive_one();
  // Merged wakes leave us ahead for good, with a question to ask at each completion. But the host
  // wakes before a notification can be received: when it has no completion left for us, the next
  // one announces something new.
  if (exact_ && ring_.caught_up()) announced_ = received_;
}

bool Listener::readable() const {
  struct pollfd p = {.fd = fd_, .events = POLLIN, .revents = 0};
  do {
    auto n = sys::ppoll({&p, 1}, 0, nullptr);
    if (!n || *n != 1) return false;
  } while ((p.revents & POLLERR) != 0);  // could not look, see uninterrupted()
  return (p.revents & POLLIN) != 0;
}

bool Listener::receive_one() {
  std::ranges::fill(notif_, std::byte{0});
  ++received_;
  // ENOENT: interrupted before we came. EINTR cannot be: nothing is waited for.
  if (!sys::ioctl(fd_, SECCOMP_IOCTL_NOTIF_RECV, notif_.data())) return false;
  seccomp_notif n;
  std::memcpy(&n, notif_.data(), sizeof n);
  handler_(n);
  return true;
}

bool Listener::valid(uint64_t id) const {
  return uninterrupted([&] { return sys::ioctl(fd_, SECCOMP_IOCTL_NOTIF_ID_VALID, &id); })
      .has_value();
}

bool Listener::set_wake(Wake wake) {
  const uint64_t flags = wake == Wake::kHere ? kSyncWakeUp : 0;
  return uninterrupted([&] { return sys::ioctl_value(fd_, kSetFlags, flags); }).has_value();
}

Result<> Listener::answer(uint64_t id, uint64_t value, Wake wake) {
  seccomp_notif_resp r = {};
  r.id = id;
  r.val = static_cast<int64_t>(value);
  std::memcpy(response_.data(), &r, sizeof r);
  const bool elsewhere = wake == Wake::kElsewhere && steers_;
  if (elsewhere) (void)set_wake(Wake::kElsewhere);
  auto sent =
      uninterrupted([&] { return sys::ioctl(fd_, SECCOMP_IOCTL_NOTIF_SEND, response_.data()); });
  if (elsewhere) (void)set_wake(Wake::kHere);
  TRY(sent);
  return {};
}

}  // namespace uk::seccomp
