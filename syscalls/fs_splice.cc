// splice(2) and its kin. Bytes are copied: a pipe holds no pages of others.
#include "syscalls/fs_splice.h"

#include <fcntl.h>
#include <sys/inotify.h>

#include <algorithm>
#include <optional>

#include "syscalls/fs_common.h"
#include "syscalls/fs_io.h"
#include "ukernel/fs/pipefs/pipe.h"
#include "ukernel/vfs/anon_inode.h"

namespace uk {
namespace {

constexpr uint64_t kKnownFlags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT;

// Until there is something to take; false: there never will be.
Result<bool> wait_data(Park& park, Pipe& pipe, bool nonblock) {
  if (pipe.bytes() > 0) return true;
  if (pipe.writers == 0) return false;
  if (nonblock) return Err(Errno::kAGAIN);
  TRY(pipe.queue().wait(
      park, [&] { return pipe.bytes() > 0 || pipe.writers == 0; }, WaitMode::kInterruptible, kNever,
      "splice"));
  return pipe.bytes() > 0;
}

// Until something can be put in: how much.
Result<size_t> wait_room(Park& park, Pipe& pipe, bool nonblock) {
  if (pipe.readers != 0 && pipe.full()) {
    if (nonblock) return Err(Errno::kAGAIN);
    TRY(pipe.queue().wait(
        park, [&] { return pipe.readers == 0 || !pipe.full(); }, WaitMode::kInterruptible, kNever,
        "splice"));
  }
  if (pipe.readers == 0) return Err(Errno::kPIPE);
  return pipe.free_pieces() * kPageSize;
}

Result<int64_t> as_count(Result<size_t> n) {
  if (!n) return Err(n.error());
  return static_cast<int64_t>(*n);
}

// Moves, or with `keep` copies, between two pipes.
Result<size_t> pipe_to_pipe(Park& park, Pipe& in, Pipe& out, size_t count, bool nonblock,
                            bool keep) {
  for (;;) {
    const bool more = TRY(wait_data(park, in, nonblock));
    TRY(wait_room(park, out, nonblock));  // somebody must read, even if nothing comes
    if (!more) return size_t{0};
    if (in.bytes() == 0) continue;  // somebody else was faster
    return out.take_from(in, count, keep);
  }
}

struct Offsets {
  std::optional<uint64_t> in, out;
};

Result<std::optional<uint64_t>> fetch_offset(Task& task, UserInOut<int64_t> user, File& file,
                                             bool is_pipe) {
  if (!user) return std::optional<uint64_t>();
  if (is_pipe) return Err(Errno::kSPIPE);
  if (!file.seekable()) return Err(Errno::kINVAL);
  int64_t at = TRY(user.get(task.park(), task.mm()));
  if (at < 0) return Err(Errno::kINVAL);
  return std::optional<uint64_t>(static_cast<uint64_t>(at));
}

Result<size_t> pipe_to_file(Task& task, Pipe& in, File& out, std::optional<uint64_t>& offset,
                            size_t count, bool nonblock) {
  Park& park = task.park();
  if ((out.flags & O_APPEND) != 0) return Err(Errno::kINVAL);
  if (!TRY(wait_data(park, in, nonblock))) return size_t{0};
  constexpr size_t kChunk = 64 * 1024;
  std::vector<std::byte> data = in.peek(std::min(count, kChunk));
  BufferSource from(data);
  size_t n = 0;
  if (!out.seekable()) {
    uint64_t unused = 0;
    n = TRY(out.write(park, from, unused));
  } else if (offset) {
    n = TRY(out.write(park, from, *offset));
  } else {
    MutexLock lock(park, out.pos_lock);
    n = TRY(out.write(park, from, out.pos));
  }
  in.consume(n);
  if (n > 0 && !out.quiet) task.kernel.vfs.notify(out.path(), IN_MODIFY);
  return n;
}

Result<size_t> file_to_pipe(Task& task, File& in, std::optional<uint64_t>& offset, Pipe& out,
                            size_t count, bool nonblock) {
  Park& park = task.park();
  size_t room = TRY(wait_room(park, out, nonblock));  // before all else, even if nothing is to move
  if (count == 0) return size_t{0};
  if (pipe_of(in) != nullptr || is_anonymous(in) || is_directory(in)) return Err(Errno::kINVAL);
  std::vector<std::byte> data(std::min(count, room));
  BufferSink to(data);
  if (!in.seekable()) {
    size_t got = TRY(in.read(park, to, 0));
    std::span<const std::byte> piece(data.data(), got);
    // What was taken off a stream must go in.
    for (size_t put = 0; put < got;) {
      put += out.put_pages(piece.subspan(put), 0);
      if (put < got) TRY(wait_room(park, out, false));
    }
    return got;
  }
  std::optional<MutexLock> lock;
  if (!offset) lock.emplace(park, in.pos_lock);
  uint64_t& at = offset ? *offset : in.pos;
  size_t got = TRY(in.read(park, to, at));
  if (got == 0) return size_t{0};
  std::span<const std::byte> piece(data.data(), got);
  size_t n = 0;
  // The room may have gone while the file was read.
  while ((n = out.put_pages(piece, at % kPageSize)) == 0) TRY(wait_room(park, out, nonblock));
  at += n;
  if (!in.quiet) task.kernel.vfs.notify(in.path(), IN_ACCESS);
  return n;
}

// vmsplice(2) into a pipe: waits for room, then gives what fits, as the caller may be the one that
// reads.
Result<size_t> give_pages(Task& task, Pipe& pipe, const std::vector<UserIovec>& pieces,
                          bool nonblock) {
  size_t done = 0;
  std::vector<std::byte> page;
  for (const UserIovec& piece : pieces) {
    for (uint64_t at = piece.base, left = piece.len; left > 0;) {
      if (pipe.full() && done > 0) return done;
      TRY(wait_room(task.park(), pipe, nonblock));
      page.resize(std::min<uint64_t>(left, kPageSize - at % kPageSize));
      UserSource from(task.mm(), at, page.size());
      Result<size_t> n = from.get(task.park(), page);
      if (!n) return done > 0 ? Result<size_t>(done) : n;
      const size_t put = pipe.put_pages(std::span(page).first(*n), at % kPageSize);
      done += put;
      if (put < page.size()) return done;
      at += put;
      left -= put;
    }
  }
  return done;
}

}  // namespace

Result<int64_t> sys_splice(Task& task, Fd in_fd, UserInOut<int64_t> in_user, Fd out_fd,
                           UserInOut<int64_t> out_user, size_t count, Hex flags) {
  if (count == 0) return 0;
  if ((flags & ~kKnownFlags) != 0) return Err(Errno::kINVAL);
  Ref<File> in = TRY(task.fds().get_io(in_fd));
  Ref<File> out = TRY(task.fds().get_io(out_fd));
  Pipe* from = pipe_of(*in);
  Pipe* to = pipe_of(*out);
  // Linux looks at the offsets before it asks what the descriptors may do.
  if ((in_user && from != nullptr) || (out_user && to != nullptr)) return Err(Errno::kSPIPE);
  if (!in->can_read() || !out->can_write()) return Err(Errno::kBADF);
  auto in_off = TRY(fetch_offset(task, in_user, *in, from != nullptr));
  auto out_off = TRY(fetch_offset(task, out_user, *out, to != nullptr));
  if (from == nullptr && to == nullptr) return Err(Errno::kINVAL);
  Result<size_t> n = splice_files(task, *in, in_off, *out, out_off, count, flags);
  if (n && in_off) {
    TRY(in_user.put(task.park(), task.mm(), static_cast<int64_t>(*in_off)));
  }
  if (n && out_off) {
    TRY(out_user.put(task.park(), task.mm(), static_cast<int64_t>(*out_off)));
  }
  return as_count(n);
}

Result<size_t> splice_files(Task& task, File& in, std::optional<uint64_t>& in_off, File& out,
                            std::optional<uint64_t>& out_off, size_t count, uint64_t flags) {
  if (count == 0) return size_t{0};
  if ((flags & ~kKnownFlags) != 0) return Err(Errno::kINVAL);
  if (!in.can_read() || !out.can_write()) return Err(Errno::kBADF);
  Pipe* from = pipe_of(in);
  Pipe* to = pipe_of(out);
  if (from == nullptr && to == nullptr) return Err(Errno::kINVAL);
  if ((in_off && from != nullptr) || (out_off && to != nullptr)) return Err(Errno::kSPIPE);
  count = std::min(count, kMaxRw);
  const bool nonblock = (flags & SPLICE_F_NONBLOCK) != 0 || (from != nullptr && in.nonblock()) ||
                        (to != nullptr && out.nonblock());
  if (is_anonymous(out)) return Err(Errno::kINVAL);  // it has no pages, nor anything like them
  Result<size_t> n = 0;
  if (from != nullptr && to != nullptr) {
    if (from == to) return Err(Errno::kINVAL);
    n = pipe_to_pipe(task.park(), *from, *to, count, nonblock, false);
  } else if (from != nullptr) {
    n = pipe_to_file(task, *from, out, out_off, count, nonblock);
  } else {
    n = file_to_pipe(task, in, in_off, *to, count, nonblock);
  }
  return raise_sigpipe(task, n);
}

Result<size_t> splice_into_pipe(Task& task, File& in, std::optional<uint64_t>& offset, File& out,
                                size_t count) {
  return raise_sigpipe(task, file_to_pipe(task, in, offset, *pipe_of(out), count, out.nonblock()));
}

Result<int64_t> sys_tee(Task& task, Fd in_fd, Fd out_fd, size_t count, Hex flags) {
  if ((flags & ~kKnownFlags) != 0) return Err(Errno::kINVAL);
  if (count == 0) return 0;
  Ref<File> in = TRY(task.fds().get_io(in_fd));
  Ref<File> out = TRY(task.fds().get_io(out_fd));
  return as_count(tee_files(task, *in, *out, count, flags));
}

Result<size_t> tee_files(Task& task, File& in, File& out, size_t count, uint64_t flags) {
  if ((flags & ~kKnownFlags) != 0) return Err(Errno::kINVAL);
  if (count == 0) return size_t{0};
  if (!in.can_read() || !out.can_write()) return Err(Errno::kBADF);
  Pipe* from = pipe_of(in);
  Pipe* to = pipe_of(out);
  if (from == nullptr || to == nullptr || from == to) return Err(Errno::kINVAL);
  const bool nonblock = (flags & SPLICE_F_NONBLOCK) != 0 || in.nonblock() || out.nonblock();
  return raise_sigpipe(
      task, pipe_to_pipe(task.park(), *from, *to, std::min(count, kMaxRw), nonblock, true));
}

Result<int64_t> sys_vmsplice(Task& task, Fd fd, UserAddr iov, uint64_t count, Hex flags) {
  if ((flags & ~kKnownFlags) != 0) return Err(Errno::kINVAL);
  Ref<File> file = TRY(task.fds().get_io(fd));
  if (!file->can_read() && !file->can_write()) return Err(Errno::kBADF);
  auto pieces = TRY(fetch_iovec(task.park(), task.mm(), iov, count));
  if (std::all_of(pieces.begin(), pieces.end(), [](const UserIovec& v) { return v.len == 0; })) {
    return 0;  // whatever the file is
  }
  Pipe* pipe = pipe_of(*file);
  if (pipe == nullptr) return Err(Errno::kBADF);
  const bool nonblock = (flags & SPLICE_F_NONBLOCK) != 0;  // the pipe's own flag is not asked
  if (file->can_write())
    return as_count(raise_sigpipe(task, give_pages(task, *pipe, pieces, nonblock)));
  UserSink to(task.mm(), std::move(pieces));
  return as_count(pipe->read(task.park(), to, nonblock, false));
}

}  // namespace uk
