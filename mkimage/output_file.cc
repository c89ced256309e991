#include "mkimage/output_file.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <cstring>

#include "hostio/sys/file.h"
#include "mkimage/text.h"

namespace uk::mkimage {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};
constexpr mode_t kMode = 0666;  // less the umask

// What a signal's handler removes.
char part_to_remove[4096];

void remove_part(int signal) {
  unlink(part_to_remove);
  ::signal(signal, SIG_DFL);
  raise(signal);
}

void watch_signals(const std::string& part) {
  if (part.size() >= sizeof part_to_remove) return;
  std::memcpy(part_to_remove, part.c_str(), part.size() + 1);
  for (const int s : kSignals) {
    if (::signal(s, remove_part) == SIG_IGN) ::signal(s, SIG_IGN);
  }
}

void forget_signals() {
  for (const int s : kSignals) ::signal(s, SIG_DFL);
}

bool not_supported(Errno e) {
  return e == Errno::kOPNOTSUPP || e == Errno::kISDIR || e == Errno::kINVAL;
}

Result<> link_to(int fd, const std::string& path) {
  return sys::linkat(AT_FDCWD, cat("/proc/self/fd/", fd).c_str(), AT_FDCWD, path.c_str(),
                     AT_SYMLINK_FOLLOW);
}

}  // namespace

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<sys::Fd> nameless_file(const std::string& directory) {
  Result<sys::Fd> fd = sys::open(directory.c_str(), O_TMPFILE | O_RDWR | O_EXCL, 0600);
  if (fd || !not_supported(fd.error())) return fd;
  const std::string name = cat(directory, "/.ukernel.", getpid(), ".part");
  fd = sys::open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  if (fd) (void)sys::unlinkat(AT_FDCWD, name.c_str(), 0);
  return fd;
}

Result<> OutputFile::create() {
  Result<sys::Fd> fd = sys::open(directory_of(path_).c_str(), O_TMPFILE | O_RDWR, kMode);
  if (!fd && not_supported(fd.error())) {
    const std::string part = cat(path_, ".", getpid(), ".part");
    fd = sys::open(part.c_str(), O_RDWR | O_CREAT | O_EXCL, kMode);
    if (fd) watch_signals(part_ = part);
  }
  fd_ = TRY(std::move(fd));
  return {};
}

OutputFile::~OutputFile() {
  if (part_.empty()) return;
  (void)sys::unlinkat(AT_FDCWD, part_.c_str(), 0);
  forget_signals();
}

Result<> OutputFile::publish(bool replace) {
  if (part_.empty()) {
    const Result<> linked = link_to(fd_.get(), path_);
    if (linked || !replace || linked.error() != Errno::kEXIST) return linked;
    // rename(2) replaces, but takes a name: for this moment the file has another one.
    const std::string part = cat(path_, ".", getpid(), ".part");
    TRY(link_to(fd_.get(), part));
    watch_signals(part_ = part);
  }
  TRY(sys::renameat2(AT_FDCWD, part_.c_str(), AT_FDCWD, path_.c_str(),
                     replace ? 0 : RENAME_NOREPLACE));
  part_.clear();
  forget_signals();
  return {};
}

}  // namespace uk::mkimage
