#include "boot/control/place.h"

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <sstream>

#include "absl/strings/str_format.h"
#include "boot/control/protocol.h"
#include "hostio/sys/event.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"
#include "hostio/sys/socket.h"

namespace uk::boot {
namespace {

constexpr int kBacklog = 16;
constexpr int kTries = 20;
constexpr timespec kPause = {0, 10'000'000};

// What this user's instances are called by, before their names.
std::string prefix() { return absl::StrFormat("ukernel/%u/", sys::geteuid()); }

std::string made_up_name() {
  std::array<unsigned char, 4> random = {};
  (void)sys::getrandom(std::as_writable_bytes(std::span(random)));
  return absl::StrFormat("uk-%02x%02x%02x%02x", random[0], random[1], random[2], random[3]);
}

struct Address {
  explicit Address(const std::string& name) {
    const std::string path = prefix() + name;
    static_assert(sizeof at.sun_path > 8 + 11 + 64);
    at.sun_family = AF_UNIX;
    path.copy(at.sun_path + 1, sizeof at.sun_path - 1);
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + path.size());
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&at); }
  sockaddr_un at = {};
  socklen_t length;
};

}  // namespace

Result<sys::Fd> listen_as(std::string& name, std::string& why) {
  const bool given = !name.empty();
  for (int tries = 0;; ++tries) {
    if (!given) name = made_up_name();
    sys::Fd fd = TRY(sys::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK));
    const Address at(name);
    Result<> bound = sys::bind(fd.get(), at.get(), at.length);
    if (bound) bound = sys::listen(fd.get(), kBacklog);
    if (bound) return fd;
    // One that was killed a moment ago may still be listening.
    if (bound.error() == Errno::kADDRINUSE && tries < kTries) {
      (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &kPause, nullptr);
      continue;
    }
    why =
        bound.error() == Errno::kADDRINUSE
            ? "name " + name +
                  ": an instance that runs has it; give another --name, or see ukernel ps"
            : absl::StrFormat("name %s: %s; give another --name", name, errno_text(bound.error()));
    return Err(bound.error());
  }
}

Result<sys::Fd> connect_to(const std::string& name, std::string& why) {
  sys::Fd fd = TRY(sys::socket(AF_UNIX, SOCK_SEQPACKET));
  constexpr struct timeval kLong = {5, 0};
  TRY(sys::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &kLong, sizeof(kLong)));
  const Address at(name);
  if (Result<> r = sys::connect(fd.get(), at.get(), at.length); !r) {
    const bool none = r.error() == Errno::kCONNREFUSED;
    why = none ? name + ": no instance of that name runs; see ukernel ps"
               : absl::StrFormat("%s: %s; see ukernel ps", name, errno_text(r.error()));
    return Err(none ? Errno::kNOENT : r.error());
  }
  const struct ucred who = TRY(sys::peer_credentials(fd.get()));
  if (who.uid == sys::geteuid()) return fd;
  why = name + ": another user's; name an instance of yours (ukernel ps)";
  return Err(Errno::kPERM);
}

// proc_net_unix(5): the path is the last word, '@' for the zero byte of an abstract one.
std::vector<std::string> instance_names() {
  constexpr unsigned kListens = 0x10000;  // __SO_ACCEPTCON
  std::vector<std::string> found;
  const auto table = sys::read_file("/proc/net/unix");
  if (!table) return found;
  const std::string mine = "@" + prefix();
  std::istringstream lines(*table);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string number, references, protocol, flags, type, state, inode, path;
    words >> number >> references >> protocol >> flags >> type >> state >> inode >> path;
    if (!path.starts_with(mine) || (std::strtoul(flags.c_str(), nullptr, 16) & kListens) == 0)
      continue;
    std::string name = path.substr(mine.size());
    if (valid_instance_name(name)) found.push_back(std::move(name));
  }
  std::ranges::sort(found);
  return found;
}

}  // namespace uk::boot
