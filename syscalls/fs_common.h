// What the file system calls share: paths from the guest, directory descriptors, installing
// descriptors.
#pragma once

#include <sys/resource.h>

#include <string>

#include "syscalls/decode.h"
#include "ukernel/kernel.h"
#include "ukernel/task/identity.h"
#include "ukernel/task/worker.h"

namespace uk {

// A path argument: kFAULT, kNAMETOOLONG; kNOENT for "" unless empty_ok.
inline Result<std::string> fetch_path(Task& task, UserStr path, bool empty_ok = false) {
  const std::string* copied = task.worker ? task.kernel.workers->path(task, path.addr) : nullptr;
  std::string text =
      copied != nullptr ? *copied : TRY(path.get(task.park(), task.mm(), kPathMax - 1));
  if (text.empty() && !empty_ok) return Err(Errno::kNOENT);
  return text;
}

// Where a relative path starts: holds the descriptor's file for the length of the call. A
// descriptor is only looked at when the path is relative (openat(2)).
class DirFd {
 public:
  static Result<DirFd> get(Task& task, Fd fd, const std::string& path, bool in_root = false) {
    DirFd d;
    if (fd == AT_FDCWD || (path.starts_with('/') && !in_root)) return d;
    d.file_ = TRY(task.fds().get(fd));
    return d;
  }
  WalkFrom from() const { return file_ ? WalkFrom{&file_->path()} : WalkFrom{}; }

 private:
  Ref<File> file_;
};

// The path that (dirfd, path, AT_* flags) names; AT_EMPTY_PATH and AT_SYMLINK_NOFOLLOW are
// honoured.
Result<Path> walk_at(Task& task, Fd dirfd, UserStr path, int at_flags, bool follow);
inline Result<Path> walk_at(Task& task, Fd dirfd, UserStr path, int at_flags) {
  return walk_at(task, dirfd, path, at_flags, (at_flags & AT_SYMLINK_NOFOLLOW) == 0);
}

// The same for the calls that take AT_EMPTY_PATH with "" or no path at all as the descriptor itself
// (setxattrat(2)): kBADF for one opened with O_PATH.
Result<Path> walk_at_or_fd(Task& task, Fd dirfd, UserStr path, int at_flags);

inline Result<int64_t> install_fd(Task& task, Ref<File> file, bool cloexec, int min = 0) {
  return TRY(task.fds().add(std::move(file), cloexec, task.rlimit(RLIMIT_NOFILE).cur, min));
}

// SIGPIPE for a write that ended with kPIPE (write(2)).
template <class T>
Result<T> raise_sigpipe(Task& task, Result<T> r) {
  if (!r && r.error() == Errno::kPIPE)
    (void)send_signal(task, siginfo_from(task, task, SIGPIPE, SI_USER));
  return r;
}

// Result<> to a call that returns 0.
inline Result<int64_t> zero(Result<> r) {
  if (!r) return Err(r.error());
  return 0;
}

constexpr size_t kMaxRw = 0x7ffff000;  // MAX_RW_COUNT

}  // namespace uk
