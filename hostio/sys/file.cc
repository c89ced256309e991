#include "hostio/sys/file.h"

#include <linux/fs.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "hostio/sys/ret.h"

namespace uk::sys {

using internal::ret;
using internal::ret_code;
using internal::ret_fd;
using internal::ret_void;

Result<Fd> open(const char* path, int flags, mode_t mode) {
  return ret_fd(::open(path, flags | O_CLOEXEC, mode));
}

Result<Fd> openat(int dirfd, const char* path, int flags, mode_t mode) {
  return ret_fd(::openat(dirfd, path, flags | O_CLOEXEC, mode));
}

Result<Fd> openat2(int dirfd, const char* path, struct open_how how) {
  how.flags |= O_CLOEXEC;
  return ret_fd(::syscall(SYS_openat2, dirfd, path, &how, sizeof(how)));
}

Result<Fd> reopen(int fd, int flags) {
  char path[40];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  return open(path, flags);
}

Result<Fd> dup(int fd) { return ret_fd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

Result<Fd> memfd_create(const char* name, unsigned flags) {
  return ret_fd(::memfd_create(name, flags | MFD_CLOEXEC));
}

Result<PipePair> pipe2(int flags) {
  int fds[2];
  TRY(ret_void(::pipe2(fds, flags | O_CLOEXEC)));
  return PipePair{Fd(fds[0]), Fd(fds[1])};
}

Result<size_t> read(int fd, ByteSpan buf) {
  return ret<size_t>(::read(fd, buf.data(), buf.size()));
}

Result<size_t> write(int fd, ConstByteSpan buf) {
  return ret<size_t>(::write(fd, buf.data(), buf.size()));
}

Result<size_t> pread(int fd, ByteSpan buf, uint64_t offset) {
  return ret<size_t>(::pread(fd, buf.data(), buf.size(), static_cast<off_t>(offset)));
}

Result<size_t> pwrite(int fd, ConstByteSpan buf, uint64_t offset) {
  return ret<size_t>(::pwrite(fd, buf.data(), buf.size(), static_cast<off_t>(offset)));
}

Result<size_t> readv(int fd, IoVecs iov) {
  return ret<size_t>(::readv(fd, iov.data(), static_cast<int>(iov.size())));
}

Result<size_t> writev(int fd, IoVecs iov) {
  return ret<size_t>(::writev(fd, iov.data(), static_cast<int>(iov.size())));
}

Result<size_t> preadv2(int fd, IoVecs iov, int64_t offset, int flags) {
  return ret<size_t>(::preadv2(fd, iov.data(), static_cast<int>(iov.size()), offset, flags));
}

Result<size_t> pwritev2(int fd, IoVecs iov, int64_t offset, int flags) {
  return ret<size_t>(::pwritev2(fd, iov.data(), static_cast<int>(iov.size()), offset, flags));
}

Result<> write_all(int fd, ConstByteSpan buf) {
  while (!buf.empty()) {
    Result<size_t> n = write(fd, buf);
    if (!n && n.error() == Errno::kINTR) continue;
    buf = buf.subspan(TRY(std::move(n)));
  }
  return {};
}

Result<> write_all(int fd, std::string_view text) {
  return write_all(fd, std::as_bytes(std::span(text.data(), text.size())));
}

Result<std::string> read_file(const char* path, size_t max_bytes) {
  Fd fd = TRY(open(path, O_RDONLY));
  std::string all;
  for (;;) {
    size_t have = all.size();
    if (have > max_bytes) return Err(Errno::kFBIG);
    all.resize(have + 4096);
    Result<size_t> n = read(fd.get(), std::as_writable_bytes(std::span(all).subspan(have)));
    if (!n && n.error() != Errno::kINTR) return Err(n.error());
    all.resize(have + n.value_or(0));
    if (n && *n == 0) return all;
  }
}

Result<size_t> copy_file_range(int in, int64_t* in_off, int out, int64_t* out_off, size_t n) {
  return ret<size_t>(::copy_file_range(in, in_off, out, out_off, n, 0));
}

Result<size_t> sendfile(int out, int in, int64_t* offset, size_t n) {
  return ret<size_t>(::sendfile(out, in, offset, n));
}

Result<struct stat> fstat(int fd) {
  struct stat st;
  TRY(ret_void(::fstat(fd, &st)));
  return st;
}

Result<struct stat> fstatat(int dirfd, const char* path, int flags) {
  struct stat st;
  TRY(ret_void(::fstatat(dirfd, path, &st, flags)));
  return st;
}

Result<struct ::statx> statx(int dirfd, const char* path, int flags, unsigned mask) {
  struct ::statx st;
  TRY(ret_void(::statx(dirfd, path, flags, mask, &st)));
  return st;
}

Result<struct ::statfs> fstatfs(int fd) {
  struct ::statfs st;
  TRY(ret_void(::fstatfs(fd, &st)));
  return st;
}

Result<uint64_t> lseek(int fd, int64_t offset, int whence) {
  return ret<uint64_t>(::lseek(fd, offset, whence));
}

Result<> ftruncate(int fd, uint64_t size) {
  return ret_void(::ftruncate(fd, static_cast<off_t>(size)));
}

Result<> fallocate(int fd, int mode, uint64_t offset, uint64_t len) {
  return ret_void(::fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(len)));
}

Result<> fsync(int fd) { return ret_void(::fsync(fd)); }
Result<> fdatasync(int fd) { return ret_void(::fdatasync(fd)); }
Result<> syncfs(int fd) { return ret_void(::syncfs(fd)); }

Result<> fadvise(int fd, uint64_t offset, uint64_t len, int advice) {
  return ret_code(::posix_fadvise(fd, static_cast<off_t>(offset), static_cast<off_t>(len), advice));
}

Result<> flock(int fd, int operation) { return ret_void(::flock(fd, operation)); }

Result<int> fcntl(int fd, int cmd, long arg) { return ret<int>(::fcntl(fd, cmd, arg)); }
Result<int> fcntl_ptr(int fd, int cmd, void* arg) { return ret<int>(::fcntl(fd, cmd, arg)); }

Result<> set_nonblocking(int fd, bool on) {
  int flags = TRY(fcntl(fd, F_GETFL));
  TRY(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
  return {};
}

Result<int> ioctl(int fd, unsigned long request, void* arg) {
  return ret<int>(::ioctl(fd, request, arg));
}

Result<int> ioctl_value(int fd, unsigned long request, unsigned long arg) {
  return ret<int>(::ioctl(fd, request, arg));
}

Result<size_t> getdents64(int fd, ByteSpan buf) {
  return ret<size_t>(::syscall(SYS_getdents64, fd, buf.data(), buf.size()));
}

Result<std::string> readlinkat(int dirfd, const char* path) {
  for (size_t size = 256;; size *= 4) {
    std::string target(size, '\0');
    size_t n = TRY(ret<size_t>(::readlinkat(dirfd, path, target.data(), size)));
    if (n == size && size < (1 << 16)) continue;  // maybe cut off
    target.resize(n);
    return target;
  }
}

Result<> faccessat(int dirfd, const char* path, int mode, int flags) {
  return ret_void(::faccessat(dirfd, path, mode, flags));
}
Result<> mkdirat(int dirfd, const char* path, mode_t mode) {
  return ret_void(::mkdirat(dirfd, path, mode));
}
Result<> mknodat(int dirfd, const char* path, mode_t mode, dev_t dev) {
  return ret_void(::mknodat(dirfd, path, mode, dev));
}
Result<> unlinkat(int dirfd, const char* path, int flags) {
  return ret_void(::unlinkat(dirfd, path, flags));
}
Result<> renameat2(int olddir, const char* old, int newdir, const char* name, unsigned flags) {
  return ret_void(::renameat2(olddir, old, newdir, name, flags));
}
Result<> linkat(int olddir, const char* old, int newdir, const char* name, int flags) {
  return ret_void(::linkat(olddir, old, newdir, name, flags));
}
Result<> symlinkat(const char* target, int dirfd, const char* path) {
  return ret_void(::symlinkat(target, dirfd, path));
}
Result<> fchmod(int fd, mode_t mode) { return ret_void(::fchmod(fd, mode)); }
Result<> fchmodat(int dirfd, const char* path, mode_t mode) {
  return ret_void(::fchmodat(dirfd, path, mode, 0));
}
Result<> fchown(int fd, uid_t uid, gid_t gid) { return ret_void(::fchown(fd, uid, gid)); }
Result<> fchownat(int dirfd, const char* path, uid_t uid, gid_t gid, int flags) {
  return ret_void(::fchownat(dirfd, path, uid, gid, flags));
}
Result<> utimensat(int dirfd, const char* path, const struct timespec times[2], int flags) {
  return ret_void(::utimensat(dirfd, path, times, flags));
}
Result<> futimens(int fd, const struct timespec times[2]) {
  return ret_void(::futimens(fd, times));
}

Result<size_t> fgetxattr(int fd, const char* name, ByteSpan value) {
  return ret<size_t>(::fgetxattr(fd, name, value.data(), value.size()));
}
Result<size_t> flistxattr(int fd, std::span<char> list) {
  return ret<size_t>(::flistxattr(fd, list.data(), list.size()));
}
Result<> fsetxattr(int fd, const char* name, ConstByteSpan value, int flags) {
  return ret_void(::fsetxattr(fd, name, value.data(), value.size(), flags));
}
Result<> fremovexattr(int fd, const char* name) { return ret_void(::fremovexattr(fd, name)); }
Result<size_t> lgetxattr(const char* path, const char* name, ByteSpan value) {
  return ret<size_t>(::lgetxattr(path, name, value.data(), value.size()));
}
Result<size_t> llistxattr(const char* path, std::span<char> list) {
  return ret<size_t>(::llistxattr(path, list.data(), list.size()));
}

}  // namespace uk::sys
