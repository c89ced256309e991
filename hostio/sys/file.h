// Host calls on files and directories (section 2 of the manual, same names and meanings). See fd.h
// for the rules. What these return from the host's disk (names, sizes, link targets) is untrusted.
#pragma once

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hostio/sys/fd.h"

namespace uk::sys {

using ByteSpan = std::span<std::byte>;
using ConstByteSpan = std::span<const std::byte>;
using IoVecs = std::span<const struct iovec>;

// O_CLOEXEC is always added by the calls that make descriptors.
Result<Fd> open(const char* path, int flags, mode_t mode = 0);
Result<Fd> openat(int dirfd, const char* path, int flags, mode_t mode = 0);
Result<Fd> openat2(int dirfd, const char* path, struct open_how how);
// Reopens a descriptor (O_PATH or not) with other flags, through /proc/self/fd.
Result<Fd> reopen(int fd, int flags);
Result<Fd> dup(int fd);
Result<Fd> memfd_create(const char* name, unsigned flags = 0);
struct PipePair {
  Fd read_end, write_end;
};
Result<PipePair> pipe2(int flags = 0);

Result<size_t> read(int fd, ByteSpan buf);
Result<size_t> write(int fd, ConstByteSpan buf);
Result<size_t> pread(int fd, ByteSpan buf, uint64_t offset);
Result<size_t> pwrite(int fd, ConstByteSpan buf, uint64_t offset);
Result<size_t> readv(int fd, IoVecs iov);
Result<size_t> writev(int fd, IoVecs iov);
// offset -1: the file position. flags: RWF_*.
Result<size_t> preadv2(int fd, IoVecs iov, int64_t offset, int flags);
Result<size_t> pwritev2(int fd, IoVecs iov, int64_t offset, int flags);
// Writes all of buf, retrying after EINTR and short writes.
Result<> write_all(int fd, ConstByteSpan buf);
Result<> write_all(int fd, std::string_view text);
// Reads to the end of the file, at most max_bytes (EFBIG beyond). For small host files (/proc,
// configuration).
Result<std::string> read_file(const char* path, size_t max_bytes = 1 << 20);
Result<size_t> copy_file_range(int in, int64_t* in_off, int out, int64_t* out_off, size_t n);
Result<size_t> sendfile(int out, int in, int64_t* offset, size_t n);

Result<struct stat> fstat(int fd);
Result<struct stat> fstatat(int dirfd, const char* path, int flags);
Result<struct ::statx> statx(int dirfd, const char* path, int flags, unsigned mask);
Result<struct ::statfs> fstatfs(int fd);
Result<uint64_t> lseek(int fd, int64_t offset, int whence);
Result<> ftruncate(int fd, uint64_t size);
Result<> fallocate(int fd, int mode, uint64_t offset, uint64_t len);
Result<> fsync(int fd);
Result<> fdatasync(int fd);
Result<> syncfs(int fd);
Result<> fadvise(int fd, uint64_t offset, uint64_t len, int advice);
Result<> flock(int fd, int operation);
// Command and argument as fcntl(2); returns its value.
Result<int> fcntl(int fd, int cmd, long arg = 0);
Result<int> fcntl_ptr(int fd, int cmd, void* arg);
Result<> set_nonblocking(int fd, bool on);
// Untyped: the caller vouches that `arg` fits `request`.
Result<int> ioctl(int fd, unsigned long request, void* arg);
Result<int> ioctl_value(int fd, unsigned long request, unsigned long arg);

// Raw struct linux_dirent64 records; 0 at the end.
Result<size_t> getdents64(int fd, ByteSpan buf);
Result<std::string> readlinkat(int dirfd, const char* path);
Result<> faccessat(int dirfd, const char* path, int mode, int flags = 0);
Result<> mkdirat(int dirfd, const char* path, mode_t mode);
Result<> mknodat(int dirfd, const char* path, mode_t mode, dev_t dev);
Result<> unlinkat(int dirfd, const char* path, int flags);
Result<> renameat2(int olddir, const char* old, int newdir, const char* name, unsigned flags);
Result<> linkat(int olddir, const char* old, int newdir, const char* name, int flags);
Result<> symlinkat(const char* target, int dirfd, const char* path);
Result<> fchmod(int fd, mode_t mode);
Result<> fchmodat(int dirfd, const char* path, mode_t mode);
Result<> fchown(int fd, uid_t uid, gid_t gid);
Result<> fchownat(int dirfd, const char* path, uid_t uid, gid_t gid, int flags);
Result<> utimensat(int dirfd, const char* path, const struct timespec times[2], int flags);
Result<> futimens(int fd, const struct timespec times[2]);
// Extended attributes of an open descriptor. A zero-length buffer asks for the size.
Result<size_t> fgetxattr(int fd, const char* name, ByteSpan value);
Result<size_t> flistxattr(int fd, std::span<char> list);
Result<> fsetxattr(int fd, const char* name, ConstByteSpan value, int flags);
Result<> fremovexattr(int fd, const char* name);
// The same by path, not following a final link.
Result<size_t> lgetxattr(const char* path, const char* name, ByteSpan value);
Result<size_t> llistxattr(const char* path, std::span<char> list);

}  // namespace uk::sys
