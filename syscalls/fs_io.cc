// Reading and writing: descriptors to files, user memory to IoSink and IoSource, positions, limits.
#include "syscalls/fs_io.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstring>
#include <optional>

#include "syscalls/fs_common.h"
#include "syscalls/fs_splice.h"
#include "syscalls/fs_sync.h"
#include "ukernel/fs/anonfs/epoll.h"
#include "ukernel/fs/pipefs/pipe.h"
#include "ukernel/mm/limited_source.h"
#include "ukernel/net/socket.h"
#include "ukernel/task/pidfd.h"
#include "ukernel/vfs/anon_inode.h"

namespace uk {
namespace {

constexpr int64_t kMaxOffset = INT64_MAX;
constexpr uint64_t kMaxFileSize = INT64_MAX;  // MAX_LFS_FILESIZE

bool is_regular(File& file) {
  return file.inode() != nullptr && is_type(file.inode()->type(), S_IFREG);
}

// RLIMIT_FSIZE: how much may be written at `at`; kFBIG (with SIGXFSZ) when nothing.
Result<size_t> size_limit(Task& task, File& file, uint64_t at, size_t count) {
  uint64_t limit = task.rlimit(RLIMIT_FSIZE).cur;
  if (limit == UINT64_MAX || !is_regular(file)) return count;
  if (at >= limit) {
    (void)send_signal(task, siginfo_from(task, task, SIGXFSZ, SI_USER));
    return Err(Errno::kFBIG);
  }
  return std::min<uint64_t>(count, limit - at);
}

Result<size_t> write_at(Task& task, File& file, IoSource& from, uint64_t& offset) {
  if (from.remaining() == 0 && is_regular(file)) return 0;
  uint64_t start = offset;
  if ((file.flags & O_APPEND) != 0 && is_regular(file)) start = TRY(file.getattr(task.park())).size;
  LimitedSource limited(from, TRY(size_limit(task, file, start, from.remaining())));
  return file.write(task.park(), limited, offset);
}

}  // namespace

Result<size_t> read_file(Task& task, File& file, IoSink& to, std::optional<uint64_t> offset) {
  if (!file.can_read()) return Err(Errno::kBADF);
  if (is_directory(file)) return Err(Errno::kISDIR);
  Park& park = task.park();
  Result<size_t> n = 0;
  if (!file.seekable()) {
    if (offset) return Err(Errno::kSPIPE);
    // read(2) of nothing, unlike recv(2), does not look whether anything is there.
    if (to.remaining() == 0 && dynamic_cast<Socket*>(&file) != nullptr) return 0;
    n = file.read(park, to, 0);
  } else if (offset) {
    n = file.read(park, to, *offset);
  } else {
    MutexLock lock(park, file.pos_lock);
    n = file.read(park, to, file.pos);
    if (n) file.pos += *n;
  }
  ++task.usage.syscr;
  if (n && *n > 0) {
    task.usage.rchar += *n;
    if (!file.quiet) task.kernel.vfs.notify(file.path(), IN_ACCESS);
  }
  return n;
}

Result<size_t> write_file(Task& task, File& file, IoSource& from, std::optional<uint64_t> offset) {
  if (!file.can_write()) return Err(Errno::kBADF);
  Park& park = task.park();
  const size_t wanted = from.remaining();
  Result<size_t> n = 0;
  if (!file.seekable()) {
    if (offset) return Err(Errno::kSPIPE);
    uint64_t unused = 0;
    n = file.write(park, from, unused);
  } else if (offset) {
    uint64_t at = *offset;
    n = write_at(task, file, from, at);
  } else {
    MutexLock lock(park, file.pos_lock);
    uint64_t at = file.pos;
    n = write_at(task, file, from, at);
    if (n) file.pos = at;
  }
  ++task.usage.syscw;
  if (n && *n > 0) {
    task.usage.wchar += *n;
    if (!file.quiet) task.kernel.vfs.notify(file.path(), IN_MODIFY);
  }
  // A pipe whose last reader went in the middle of a write signals too, though bytes were taken.
  Pipe* pipe = n && *n < wanted ? pipe_of(file) : nullptr;
  if (pipe != nullptr && pipe->readers == 0) (void)raise_sigpipe<int>(task, Err(Errno::kPIPE));
  if (n || n.error() != Errno::kPIPE) return n;
  // Only a stream is a broken pipe: a datagram that nobody takes is an error like others.
  auto* socket = dynamic_cast<Socket*>(&file);
  return socket != nullptr && socket->type() != SOCK_STREAM ? n : raise_sigpipe(task, n);
}

// A whole buffer that leaves the user range is EFAULT before anything moves (access_ok).
Result<> check_range(Task& task, uint64_t addr, size_t count) {
  if (count > task.mm().user_limit() || addr > task.mm().user_limit() - count)
    return Err(Errno::kFAULT);
  return {};
}

bool is_directory(const File& file) {
  return file.inode() != nullptr && is_type(file.inode()->type(), S_IFDIR);
}

Result<> takes_offset(const File& file) {
  if (file.seekable()) return {};
  return Err(pidfd_group(file) ? Errno::kINVAL : Errno::kSPIPE);
}

namespace {

// A transfer must end where there still are offsets (rw_verify_area).
Result<> check_end(const File& file, std::optional<uint64_t> offset, size_t count) {
  if (!file.seekable()) return {};
  const uint64_t at = offset.value_or(file.pos);
  if (count > static_cast<uint64_t>(kMaxOffset) - std::min<uint64_t>(at, kMaxOffset)) {
    return Err(Errno::kINVAL);
  }
  return {};
}

Result<int64_t> as_count(Result<size_t> n) {
  if (!n) return Err(n.error());
  return static_cast<int64_t>(*n);
}

Result<std::optional<uint64_t>> checked_offset(int64_t offset) {
  if (offset < 0) return Err(Errno::kINVAL);
  return static_cast<uint64_t>(offset);
}

Result<int64_t> do_read(Task& task, Fd fd, uint64_t addr, size_t count,
                        std::optional<uint64_t> offset) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  if (offset) TRY(takes_offset(*file));
  if (!file->can_read()) return Err(Errno::kBADF);
  TRY(check_range(task, addr, count));
  TRY(check_end(*file, offset, count));
  UserSink sink(task.mm(), addr, std::min(count, kMaxRw));
  // Room for nothing is too little for what has a size.
  if (sink.remaining() == 0 && !is_anonymous(*file) && !is_directory(*file)) return 0;
  return as_count(read_file(task, *file, sink, offset));
}

Result<int64_t> do_write(Task& task, Fd fd, uint64_t addr, size_t count,
                         std::optional<uint64_t> offset) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  if (offset) TRY(takes_offset(*file));
  if (!file->can_write()) return Err(Errno::kBADF);
  TRY(check_range(task, addr, count));
  TRY(check_end(*file, offset, count));
  UserSource source(task.mm(), addr, std::min(count, kMaxRw));
  return as_count(write_file(task, *file, source, offset));
}

Result<int64_t> do_readv(Task& task, Fd fd, UserAddr iov, uint64_t count,
                         std::optional<uint64_t> offset) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  if (offset) TRY(takes_offset(*file));
  if (!file->can_read()) return Err(Errno::kBADF);
  UserSink sink(task.mm(), TRY(fetch_iovec(task.park(), task.mm(), iov, count)));
  TRY(check_end(*file, offset, sink.remaining()));
  if (sink.remaining() == 0) {
    const bool reads = !pidfd_group(*file) && dynamic_cast<Epoll*>(file.get()) == nullptr;
    return reads ? Result<int64_t>(0) : Err(Errno::kINVAL);
  }
  return as_count(read_file(task, *file, sink, offset));
}

// Each piece is a write(2) of its own, until one is refused; but none of nothing, unless at first
// (do_loop_readv_writev in Linux).
Result<int64_t> write_pieces(Task& task, File& file, const std::vector<UserIovec>& pieces) {
  int64_t done = 0;
  for (const UserIovec& piece : pieces) {
    if (piece.len == 0 && done > 0) continue;
    UserSource source(task.mm(), piece.base, piece.len);
    Result<size_t> n = write_file(task, file, source, {});
    if (!n) return done > 0 ? Result<int64_t>(done) : Err(n.error());
    done += static_cast<int64_t>(*n);
  }
  return done;
}

Result<int64_t> do_writev(Task& task, Fd fd, UserAddr iov, uint64_t count,
                          std::optional<uint64_t> offset) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  if (offset) TRY(takes_offset(*file));
  if (!file->can_write()) return Err(Errno::kBADF);
  std::vector<UserIovec> pieces = TRY(fetch_iovec(task.park(), task.mm(), iov, count));
  const bool by_pieces = file->writes_by_pieces();
  UserSource source(task.mm(), pieces);
  if (source.remaining() == 0) {
    return !is_anonymous(*file) || by_pieces ? Result<int64_t>(0) : Err(Errno::kINVAL);
  }
  if (by_pieces) return write_pieces(task, *file, pieces);
  TRY(check_end(*file, offset, source.remaining()));
  return as_count(write_file(task, *file, source, offset));
}

// Copies between files through a buffer; what sendfile(2) and copy_file_range(2) do.
Result<int64_t> copy_between(Task& task, File& in, std::optional<uint64_t>& in_off, File& out,
                             std::optional<uint64_t>& out_off, size_t count) {
  constexpr size_t kChunk = 64 * 1024;
  std::vector<std::byte> buf(std::min(count, kChunk));
  size_t done = 0;
  while (done < count) {
    BufferSink sink{std::span(buf).first(std::min(buf.size(), count - done))};
    Result<size_t> got = read_file(task, in, sink, in_off);
    if (!got || *got == 0) {
      if (!got && done == 0) return Err(got.error());
      break;
    }
    BufferSource source{std::span(buf).first(*got)};
    Result<size_t> put = write_file(task, out, source, out_off);
    const size_t moved = put ? *put : 0;
    // What was read but not written goes back.
    if (in_off) {
      *in_off += moved;
    } else if (in.seekable()) {
      in.pos -= *got - moved;
    }
    if (out_off) *out_off += moved;
    done += moved;
    if (moved < *got) {
      if (done == 0) return Err(put ? Errno::kIO : put.error());
      break;
    }
    if (task.park().interrupted(WaitMode::kInterruptible)) break;
  }
  return static_cast<int64_t>(done);
}

Result<std::optional<uint64_t>> fetch_offset(Task& task, UserInOut<int64_t> user) {
  if (!user) return std::optional<uint64_t>();
  return checked_offset(TRY(user.get(task.park(), task.mm())));
}

Result<> store_offset(Task& task, UserInOut<int64_t> user, std::optional<uint64_t> offset) {
  if (!user) return {};
  return user.put(task.park(), task.mm(), static_cast<int64_t>(*offset));
}

}  // namespace

Result<int64_t> sys_read(Task& task, Fd fd, UserOut<std::byte> buf, size_t count) {
  return do_read(task, fd, buf.addr, count, {});
}
Result<int64_t> sys_write(Task& task, Fd fd, UserIn<std::byte> buf, size_t count) {
  return do_write(task, fd, buf.addr, count, {});
}

Result<int64_t> sys_pread64(Task& task, Fd fd, UserOut<std::byte> buf, size_t count,
                            int64_t offset) {
  auto at = TRY(checked_offset(offset));
  return do_read(task, fd, buf.addr, count, at);
}

Result<int64_t> sys_pwrite64(Task& task, Fd fd, UserIn<std::byte> buf, size_t count,
                             int64_t offset) {
  auto at = TRY(checked_offset(offset));
  return do_write(task, fd, buf.addr, count, at);
}

Result<int64_t> sys_readv(Task& task, Fd fd, UserAddr iov, uint64_t count) {
  return do_readv(task, fd, iov, count, {});
}
Result<int64_t> sys_writev(Task& task, Fd fd, UserAddr iov, uint64_t count) {
  return do_writev(task, fd, iov, count, {});
}

Result<int64_t> sys_preadv(Task& task, Fd fd, UserAddr iov, uint64_t count, int64_t offset,
                           int64_t) {
  auto at = TRY(checked_offset(offset));
  return do_readv(task, fd, iov, count, at);
}

Result<int64_t> sys_pwritev(Task& task, Fd fd, UserAddr iov, uint64_t count, int64_t offset,
                            int64_t) {
  auto at = TRY(checked_offset(offset));
  return do_writev(task, fd, iov, count, at);
}

Result<int64_t> sys_lseek(Task& task, Fd fd, int64_t offset, uint32_t whence) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  if (whence > SEEK_HOLE) return Err(Errno::kINVAL);
  MutexLock lock(task.park(), file->pos_lock);
  return static_cast<int64_t>(TRY(file->seek(task.park(), offset, static_cast<int>(whence))));
}

// Has the file a position, be it one that never moves (noop_llseek() of Linux)?
static bool has_position(const File& file) {
  return file.seekable() || (is_anonymous(file) && !pidfd_group(file));
}

Result<int64_t> sys_sendfile(Task& task, Fd out_fd, Fd in_fd, UserInOut<int64_t> user,
                             size_t count) {
  Ref<File> in = TRY(task.fds().get_io(in_fd));
  if (!in->can_read()) return Err(Errno::kBADF);
  if (user && !in->seekable() && !pidfd_group(*in)) return Err(Errno::kSPIPE);
  auto offset = TRY(fetch_offset(task, user));
  TRY(check_end(*in, offset, count));
  Ref<File> out = TRY(task.fds().get_io(out_fd));
  if (!out->can_write()) return Err(Errno::kBADF);
  if (pipe_of(*out) != nullptr) {
    // As splice(2) does it, from whatever can be spliced from: what fits, and no more.
    Result<size_t> moved = splice_into_pipe(task, *in, offset, *out, std::min(count, kMaxRw));
    if (moved) TRY(store_offset(task, user, offset));
    return as_count(moved);
  }
  TRY(check_end(*out, {}, count));
  if ((out->flags & O_APPEND) != 0 || !has_position(*in)) return Err(Errno::kINVAL);
  if (count == 0) return 0;
  if (!in->seekable() || is_directory(*in)) return Err(Errno::kINVAL);
  std::optional<uint64_t> none;
  Result<int64_t> n = copy_between(task, *in, offset, *out, none, std::min(count, kMaxRw));
  if (n) TRY(store_offset(task, user, offset));
  return n;
}

Result<int64_t> sys_copy_file_range(Task& task, Fd in_fd, UserInOut<int64_t> in_user, Fd out_fd,
                                    UserInOut<int64_t> out_user, size_t count, uint32_t flags) {
  Ref<File> in = TRY(task.fds().get_io(in_fd));
  Ref<File> out = TRY(task.fds().get_io(out_fd));
  // In Linux's order; a position may be any number at first.
  auto position = [&](UserInOut<int64_t> user, File& file) -> Result<uint64_t> {
    if (!user) return file.pos;
    return static_cast<uint64_t>(TRY(user.get(task.park(), task.mm())));
  };
  const uint64_t from = TRY(position(in_user, *in)), to = TRY(position(out_user, *out));
  if (flags != 0) return Err(Errno::kINVAL);
  for (File* f : {in.get(), out.get()}) {
    if (is_directory(*f)) return Err(Errno::kISDIR);
    if (!is_regular(*f)) return Err(Errno::kINVAL);
  }
  if (!in->can_read() || !out->can_write() || (out->flags & O_APPEND) != 0)
    return Err(Errno::kBADF);
  if (&in->inode()->sb() != &out->inode()->sb()) return Err(Errno::kXDEV);
  if (from + count < from || to + count < to) return Err(Errno::kOVERFLOW);
  // No further than the end; the limit of sizes counts even where nothing is left to copy, then
  // what overlaps.
  const uint64_t size = TRY(in->getattr(task.park())).size;
  count = static_cast<size_t>(std::min<uint64_t>(count, from < size ? size - from : 0));
  if (to <= static_cast<uint64_t>(kMaxOffset)) {
    count = TRY(size_limit(task, *out, to, count));
    if (to >= kMaxFileSize) return Err(Errno::kFBIG);
  }
  if (in->inode() == out->inode() && from < to + count && to < from + count)
    return Err(Errno::kINVAL);
  if (std::max(from, to) > static_cast<uint64_t>(kMaxOffset) - count) return Err(Errno::kINVAL);
  std::optional<uint64_t> in_off, out_off;
  if (in_user) in_off = from;
  if (out_user) out_off = to;
  Result<int64_t> n = copy_between(task, *in, in_off, *out, out_off, std::min(count, kMaxRw));
  if (n) {
    TRY(store_offset(task, in_user, in_off));
    TRY(store_offset(task, out_user, out_off));
  }
  return n;
}

Result<int64_t> sys_fallocate(Task& task, Fd fd, int mode, int64_t offset, int64_t len) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  return zero(fallocate_file(task, *file, mode, offset, len));
}

Result<> fallocate_file(Task& task, File& file, int mode, int64_t offset, int64_t len) {
  if (offset < 0 || len <= 0) return Err(Errno::kINVAL);
  // A hole is punched without changing the size, or not at all.
  if ((mode & FALLOC_FL_PUNCH_HOLE) != 0 && (mode & FALLOC_FL_KEEP_SIZE) == 0) {
    return Err(Errno::kOPNOTSUPP);
  }
  if (!file.can_write()) return Err(Errno::kBADF);
  if (!file.seekable() && file.inode() != nullptr && is_type(file.inode()->type(), S_IFIFO))
    return Err(Errno::kSPIPE);
  int64_t end = 0;
  if (__builtin_add_overflow(offset, len, &end)) return Err(Errno::kFBIG);
  // Room beyond the end counts as well, whether it makes the file longer or not.
  if ((mode & ~FALLOC_FL_KEEP_SIZE) == 0 && is_regular(file) &&
      static_cast<uint64_t>(end) > TRY(file.getattr(task.park())).size) {
    TRY(size_limit(task, file, static_cast<uint64_t>(end) - 1, 1));
  }
  return file.fallocate(task.park(), mode, static_cast<uint64_t>(offset),
                        static_cast<uint64_t>(len));
}

}  // namespace uk
