// read(2), write(2) and their vector and positioned forms, lseek(2), sendfile(2),
// copy_file_range(2), fallocate(2).
#pragma once

#include <optional>

#include "syscalls/decode.h"

namespace uk {

// What read(2) and write(2) do with a file: whether it may be, at `offset` or at the position,
// which moves then; what it counts and whom it tells (inotify, SIGPIPE, RLIMIT_FSIZE). kSPIPE: an
// offset in a stream. The caller holds the file.
Result<size_t> read_file(Task& task, File& file, IoSink& to, std::optional<uint64_t> offset);
Result<size_t> write_file(Task& task, File& file, IoSource& from, std::optional<uint64_t> offset);
Result<> fallocate_file(Task& task, File& file, int mode, int64_t offset, int64_t len);
// Of calls that say where: files without a position refuse (kSPIPE), and pidfds, which have one and
// nothing to read (kINVAL).
Result<> takes_offset(const File& file);
// Directories have positions too, but no bytes: the caller says how that is refused.
bool is_directory(const File& file);
// kFAULT: a buffer that leaves the user range, before anything moves (access_ok in Linux).
Result<> check_range(Task& task, uint64_t addr, size_t count);

Result<int64_t> sys_read(Task& task, Fd fd, UserOut<std::byte> buf, size_t count);
Result<int64_t> sys_write(Task& task, Fd fd, UserIn<std::byte> buf, size_t count);
Result<int64_t> sys_pread64(Task& task, Fd fd, UserOut<std::byte> buf, size_t count,
                            int64_t offset);
Result<int64_t> sys_pwrite64(Task& task, Fd fd, UserIn<std::byte> buf, size_t count,
                             int64_t offset);
Result<int64_t> sys_readv(Task& task, Fd fd, UserAddr iov, uint64_t count);
Result<int64_t> sys_writev(Task& task, Fd fd, UserAddr iov, uint64_t count);
Result<int64_t> sys_preadv(Task& task, Fd fd, UserAddr iov, uint64_t count, int64_t offset,
                           int64_t high);
Result<int64_t> sys_pwritev(Task& task, Fd fd, UserAddr iov, uint64_t count, int64_t offset,
                            int64_t high);
Result<int64_t> sys_preadv2(Task& task, Fd fd, UserAddr iov, uint64_t count, int64_t offset,
                            int64_t high, int flags);
Result<int64_t> sys_pwritev2(Task& task, Fd fd, UserAddr iov, uint64_t count, int64_t offset,
                             int64_t high, int flags);
Result<int64_t> sys_lseek(Task& task, Fd fd, int64_t offset, uint32_t whence);
Result<int64_t> sys_sendfile(Task& task, Fd out, Fd in, UserInOut<int64_t> offset, size_t count);
Result<int64_t> sys_copy_file_range(Task& task, Fd in, UserInOut<int64_t> in_off, Fd out,
                                    UserInOut<int64_t> out_off, size_t count, uint32_t flags);
Result<int64_t> sys_fallocate(Task& task, Fd fd, int mode, int64_t offset, int64_t len);

}  // namespace uk
