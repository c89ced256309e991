#include "boot/control/place.h"

#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_format.h"
#include "boot/control/protocol.h"
#include "hostio/sys/event.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"
#include "hostio/sys/socket.h"

namespace uk::boot {
namespace {

constexpr std::string_view kSuffix = ".sock";
constexpr int kBacklog = 16;
constexpr int kTries = 200;
constexpr size_t kMostSwept = 8;
constexpr timespec kPause = {0, 10'000'000};

std::vector<std::string> candidates() {
  std::vector<std::string> paths;
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && runtime[0] == '/' && sys::faccessat(AT_FDCWD, runtime, 3))
    paths.push_back(std::string(runtime) + "/ukernel");
  paths.push_back(absl::StrFormat("/tmp/ukernel-%u", sys::geteuid()));
  return paths;
}

std::string made_up_name() {
  std::array<unsigned char, 4> random = {};
  (void)sys::getrandom(std::as_writable_bytes(std::span(random)));
  return absl::StrFormat("uk-%02x%02x%02x%02x", random[0], random[1], random[2], random[3]);
}

std::string file_of(const std::string& name) { return name + std::string(kSuffix); }

// By way of the directory's descriptor: however long its path is, and whatever becomes of that.
struct sockaddr_un address_of(int dir, const std::string& name) {
  struct sockaddr_un at = {};
  at.sun_family = AF_UNIX;
  const std::string path = absl::StrFormat("/proc/self/fd/%d/%s", dir, file_of(name));
  static_assert(sizeof(at.sun_path) > 20 + 11 + 64 + kSuffix.size());
  path.copy(at.sun_path, sizeof(at.sun_path) - 1);
  return at;
}

}  // namespace

Result<sys::Fd> Place::open_checked(const std::string& path, bool make, std::string& why) {
  if (make) (void)sys::mkdirat(AT_FDCWD, path.c_str(), 0700);  // opening it tells
  auto dir = sys::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!dir) {
    if (make || dir.error() != Errno::kNOENT)
      why = absl::StrFormat("%s: %s; remove it, or set XDG_RUNTIME_DIR to a directory of yours",
                            path, errno_text(dir.error()));
    return dir;
  }
  const struct stat st = TRY(sys::fstat(dir->get()));
  // Root may reach others' instances, but makes none among theirs.
  const bool owned = st.st_uid == sys::geteuid() || (!make && sys::geteuid() == 0);
  if (!owned || (st.st_mode & 077) != 0) {
    why = path +
          ": others own it or can enter it; remove it, or set XDG_RUNTIME_DIR to a directory "
          "of yours";
    return Err(Errno::kPERM);
  }
  return dir;
}

std::optional<Place> Place::open(bool make, std::string& why) {
  for (const std::string& path : candidates()) {
    why.clear();
    auto dir = open_checked(path, make, why);
    if (dir) return Place(std::move(*dir), path);
    if (dir.error() == Errno::kPERM) return std::nullopt;
  }
  return std::nullopt;
}

bool Place::lock() {
  for (int i = 0; i < kTries; ++i) {
    if (sys::flock(dir_.get(), LOCK_EX | LOCK_NB)) return true;
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &kPause, nullptr);
  }
  return false;
}

void Place::unlock() { (void)sys::flock(dir_.get(), LOCK_UN); }

Result<sys::Fd> Place::try_connect(const std::string& name, int flags) {
  sys::Fd fd = TRY(sys::socket(AF_UNIX, SOCK_SEQPACKET | flags));
  constexpr struct timeval kLong = {5, 0};
  TRY(sys::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &kLong, sizeof(kLong)));
  const struct sockaddr_un at = address_of(dir_.get(), name);
  TRY(sys::connect(fd.get(), reinterpret_cast<const struct sockaddr*>(&at), sizeof(at)));
  return fd;
}

// With the lock held, so that it is not another instance's that has just come. Waits for nobody.
void Place::remove_if_stale(const std::string& name) {
  auto fd = try_connect(name, SOCK_NONBLOCK);
  if (!fd && fd.error() == Errno::kCONNREFUSED)
    (void)sys::unlinkat(dir_.get(), file_of(name).c_str(), 0);
}

// Others that were killed, a few at a time: whoever lives is woken by it.
void Place::sweep(const std::string& own) {
  size_t looked_at = 0;
  for (const std::string& name : names()) {
    if (name == own) continue;
    if (looked_at++ == kMostSwept) break;
    remove_if_stale(name);
  }
}

Result<sys::Fd> Place::listen(std::string& name, std::string& why) {
  const bool given = !name.empty();
  for (int tries = 0; tries < kTries; ++tries) {
    if (!lock()) break;
    const struct stat st = TRY(sys::fstat(dir_.get()));
    if (st.st_nlink == 0) {  // the last instance has left and taken it along
      dir_ = TRY(open_checked(path_, /*make=*/true, why));
      continue;
    }
    if (!given) name = made_up_name();
    sys::Fd fd = TRY(sys::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK));
    const struct sockaddr_un at = address_of(dir_.get(), name);
    auto bind = [&] {
      return sys::bind(fd.get(), reinterpret_cast<const struct sockaddr*>(&at), sizeof(at));
    };
    Result<> bound = bind();
    if (!bound && bound.error() == Errno::kADDRINUSE) {
      remove_if_stale(name);
      bound = bind();
    }
    if (bound) bound = sys::listen(fd.get(), kBacklog);
    if (bound) sweep(name);
    unlock();
    if (bound) return fd;
    if (bound.error() != Errno::kADDRINUSE) {
      why = absl::StrFormat("%s/%s: %s; set XDG_RUNTIME_DIR to a directory of yours", path_,
                            file_of(name), errno_text(bound.error()));
      return Err(bound.error());
    }
    // One that was killed a moment ago may still be listening.
    if (given && tries >= 20) break;
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &kPause, nullptr);
  }
  why = "name " + name + ": an instance that runs has it; give another --name, or see ukernel ps";
  return Err(Errno::kADDRINUSE);
}

Result<sys::Fd> Place::connect(const std::string& name, std::string& why) {
  auto fd = try_connect(name);
  if (fd) {
    const struct ucred who = TRY(sys::peer_credentials(fd->get()));
    if (who.uid == sys::geteuid() || who.uid == 0 || sys::geteuid() == 0) return fd;
    why = name + ": another user's; name an instance of yours (ukernel ps)";
    return Err(Errno::kPERM);
  }
  if (fd.error() == Errno::kCONNREFUSED && lock()) {
    remove_if_stale(name);
    (void)sys::unlinkat(AT_FDCWD, path_.c_str(), AT_REMOVEDIR);  // if it is empty
    unlock();
  }
  const bool none = fd.error() == Errno::kCONNREFUSED || fd.error() == Errno::kNOENT;
  why = none ? name + ": no instance of that name runs; see ukernel ps"
             : absl::StrFormat("%s: %s; see ukernel ps", name, errno_text(fd.error()));
  return Err(none ? Errno::kNOENT : fd.error());
}

std::vector<std::string> Place::names() {
  std::vector<std::string> found;
  std::error_code ignored;
  const std::filesystem::path dir = absl::StrFormat("/proc/self/fd/%d/", dir_.get());
  for (const auto& entry : std::filesystem::directory_iterator(dir, ignored)) {
    const std::string file = entry.path().filename();
    if (!file.ends_with(kSuffix)) continue;
    std::string name = file.substr(0, file.size() - kSuffix.size());
    if (valid_instance_name(name)) found.push_back(std::move(name));
  }
  std::ranges::sort(found);
  return found;
}

void Place::leave(const std::string& name) {
  const bool locked = lock();
  (void)sys::unlinkat(dir_.get(), file_of(name).c_str(), 0);
  if (locked) (void)sys::unlinkat(AT_FDCWD, path_.c_str(), AT_REMOVEDIR);  // if it is empty
  if (locked) unlock();
}

}  // namespace uk::boot
