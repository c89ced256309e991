#include <fcntl.h>

#include <algorithm>

#include "syscalls/fs_common.h"
#include "syscalls/fs_io.h"
#include "syscalls/fs_splice.h"
#include "syscalls/fs_sync.h"
#include "syscalls/mm.h"
#include "syscalls/uring/ops.h"

namespace uk::uring {
namespace {

constexpr int kRwfNowait = 0x8;

Result<int64_t> count_of(Result<size_t> n) {
  if (!n) return Err(n.error());
  return static_cast<int64_t>(*n);
}

int64_t total(const std::vector<UserIovec>& iov) {
  uint64_t n = 0;
  for (const UserIovec& v : iov) n += v.len;
  return static_cast<int64_t>(std::min<uint64_t>(n, kMaxRw));
}

// ---- reading and writing

Result<> prepare_any(Request& r, bool write) {
  const Sqe& s = r.sqe();
  AsyncRw& rw = r.prepared.rw;
  rw.write = write;
  rw.flags = s.rw_flags;
  if (s.ioprio != 0 && (s.ioprio >> 13) > 3) return Err(Errno::kINVAL);
  // Before the flags may be judged Linux looks at the file: what is unknown is EOPNOTSUPP.
  TRY(check_rw_flags(rw.flags));
  r.nowait = (rw.flags & kRwfNowait) != 0;
  if (s.off != ~0ull) {
    if (static_cast<int64_t>(s.off) < 0) return Err(Errno::kINVAL);
    rw.offset = s.off;
  }
  return {};
}

template <bool kWrites>
Result<> prepare_plain(Task&, Request& r) {
  TRY(prepare_any(r, kWrites));
  const Sqe& s = r.sqe();
  r.prepared.rw.iov = {UserIovec{s.addr, std::min<uint64_t>(s.len, kMaxRw)}};
  r.wanted = r.flag(IOSQE_BUFFER_SELECT) ? 0 : total(r.prepared.rw.iov);
  return {};
}

template <bool kWrites>
Result<> prepare_vector(Task& task, Request& r) {
  TRY(prepare_any(r, kWrites));
  const Sqe& s = r.sqe();
  if (r.flag(IOSQE_BUFFER_SELECT) && s.len != 1) return Err(Errno::kINVAL);
  auto& iov = r.prepared.rw.iov;
  iov = TRY(fetch_iovec(task.park(), task.mm(), {s.addr}, s.len));
  TRY(r.charge(iov.size() * sizeof(UserIovec)));
  r.wanted = total(iov);
  return {};
}

template <bool kWrites>
Result<> prepare_fixed(Task& task, Request& r) {
  if (r.flag(IOSQE_BUFFER_SELECT)) return Err(Errno::kINVAL);
  return prepare_plain<kWrites>(task, r);
}

// A part of a registered buffer.
Result<> check_fixed(Request& r) {
  const Sqe& s = r.sqe();
  Ref<Resource> b = r.ring().resources.buffer(s.buf_index);
  if (!b || b->len == 0) return Err(Errno::kFAULT);
  const uint64_t end = s.addr + s.len;
  if (end < s.addr || s.addr < b->addr || end > b->addr + b->len) return Err(Errno::kFAULT);
  r.resource = std::move(b);
  return {};
}

Result<int64_t> run_rw(Task& worker, Request& r) {
  AsyncRw rw = r.prepared.rw;
  File& f = *r.file;
  if (rw.write ? !f.can_write() : !f.can_read()) return Err(Errno::kBADF);
  if (r.flag(IOSQE_BUFFER_SELECT)) {
    const ChosenBuffer b = TRY(r.choose_buffer(worker, rw.iov[0].len));
    rw.iov = {UserIovec{b.addr, b.len}};
  }
  for (const UserIovec& v : rw.iov) TRY(check_range(worker, v.base, v.len));
  return count_of(async_rw(worker, f, rw));
}

Result<int64_t> run_fixed(Task& worker, Request& r) {
  TRY(check_fixed(r));
  return run_rw(worker, r);
}

Result<> prepare_multishot(Task& task, Request& r) {
  if (!r.flag(IOSQE_BUFFER_SELECT)) return Err(Errno::kINVAL);
  if (r.sqe().addr != 0 || r.sqe().len != 0) return Err(Errno::kINVAL);
  r.multishot = true;
  return prepare_plain<false>(task, r);
}

Result<int64_t> run_multishot(Task& worker, Request& r) {
  if (r.file->poll_queue() == nullptr) return Err(Errno::kBADFD);
  return run_rw(worker, r);
}

constexpr uint32_t kNopInject = 1;  // IORING_NOP_INJECT_RESULT

Result<> prepare_nop(Task&, Request& r) {
  if ((static_cast<uint32_t>(r.sqe().rw_flags) & ~kNopInject) != 0) return Err(Errno::kINVAL);
  return {};
}
void do_nop(Request& r) {
  r.complete(r.sqe().rw_flags != 0 ? static_cast<int32_t>(r.sqe().len) : 0);
}

// ---- other things done to an open file

Result<> prepare_fsync(Task&, Request& r) {
  const Sqe& s = r.sqe();
  TRY(unused({s.addr, s.buf_index, static_cast<uint32_t>(s.splice_fd_in)}));
  if ((s.fsync_flags & ~IORING_FSYNC_DATASYNC) != 0) return Err(Errno::kINVAL);
  if (static_cast<int64_t>(s.off) < 0) return Err(Errno::kINVAL);
  return {};
}
Result<int64_t> run_fsync(Task& worker, Request& r) {
  const bool data_only = (r.sqe().fsync_flags & IORING_FSYNC_DATASYNC) != 0;
  return zero(r.file->fsync(worker.park(), data_only));
}

Result<> prepare_sync_range(Task&, Request& r) {
  const Sqe& s = r.sqe();
  return unused({s.addr, s.buf_index, static_cast<uint32_t>(s.splice_fd_in)});
}
Result<int64_t> run_sync_range(Task& worker, Request& r) {
  const Sqe& s = r.sqe();
  return zero(sync_range(worker, *r.file, static_cast<int64_t>(s.off), s.len, s.sync_range_flags));
}

Result<> prepare_fallocate(Task&, Request& r) {
  const Sqe& s = r.sqe();
  return unused(
      {s.buf_index, static_cast<uint32_t>(s.rw_flags), static_cast<uint32_t>(s.splice_fd_in)});
}
Result<int64_t> run_fallocate(Task& worker, Request& r) {
  const Sqe& s = r.sqe();
  return zero(fallocate_file(worker, *r.file, static_cast<int>(s.len), static_cast<int64_t>(s.off),
                             static_cast<int64_t>(s.addr)));
}

Result<> prepare_advice(Task&, Request& r) {
  const Sqe& s = r.sqe();
  return unused({s.buf_index, static_cast<uint32_t>(s.splice_fd_in)});
}
Result<int64_t> run_fadvise(Task&, Request& r) {
  const Sqe& s = r.sqe();
  const uint64_t len = s.addr != 0 ? s.addr : s.len;
  return zero(advise_file(*r.file, static_cast<int64_t>(len), static_cast<int>(s.fadvise_advice)));
}
Result<int64_t> run_madvise(Task& worker, Request& r) {
  const Sqe& s = r.sqe();
  const uint64_t len = s.off != 0 ? s.off : s.len;
  return sys_madvise(worker, UserAddr{s.addr}, len, static_cast<int>(s.fadvise_advice));
}

Result<> prepare_truncate(Task&, Request& r) {
  const Sqe& s = r.sqe();
  return unused({static_cast<uint32_t>(s.rw_flags), s.addr, s.len, s.buf_index,
                 static_cast<uint32_t>(s.splice_fd_in), s.addr3});
}
Result<int64_t> run_truncate(Task& worker, Request& r) {
  const auto size = static_cast<int64_t>(r.sqe().off);
  if (size < 0) return Err(Errno::kINVAL);
  File& f = *r.file;
  if (!f.can_write() || f.inode() == nullptr || !is_type(f.inode()->type(), S_IFREG))
    return Err(Errno::kINVAL);
  if (static_cast<uint64_t>(size) > worker.rlimit(RLIMIT_FSIZE).cur) return Err(Errno::kFBIG);
  return zero(f.truncate(worker.park(), static_cast<uint64_t>(size)));
}

// ---- splicing

constexpr uint32_t kFdInFixed = 1u << 31;

Result<> prepare_splice(Task&, Request& r) {
  r.wanted = r.sqe().len;
  return {};
}
Result<> prepare_tee(Task& task, Request& r) {
  TRY(unused({r.sqe().splice_off_in, r.sqe().off}));
  return prepare_splice(task, r);
}

Result<Ref<File>> splice_input(Task& worker, Request& r) {
  const Sqe& s = r.sqe();
  if ((s.splice_flags & kFdInFixed) == 0) return worker.fds().get_io(s.splice_fd_in);
  Ref<Resource> found = r.ring().resources.file(static_cast<uint32_t>(s.splice_fd_in));
  if (!found) return Err(Errno::kBADF);
  return found->file;
}

std::optional<uint64_t> offset_of(uint64_t raw) {
  if (raw == ~0ull) return std::nullopt;
  return raw;
}

Result<int64_t> run_splice(Task& worker, Request& r) {
  const Sqe& s = r.sqe();
  Ref<File> in = TRY(splice_input(worker, r));
  Ref<File> out = r.file;
  auto in_off = offset_of(s.splice_off_in), out_off = offset_of(s.off);
  if ((in_off && static_cast<int64_t>(*in_off) < 0) ||
      (out_off && static_cast<int64_t>(*out_off) < 0))
    return Err(Errno::kINVAL);
  return count_of(
      splice_files(worker, *in, in_off, *out, out_off, s.len, s.splice_flags & ~kFdInFixed));
}
Result<int64_t> run_tee(Task& worker, Request& r) {
  const Sqe& s = r.sqe();
  Ref<File> in = TRY(splice_input(worker, r));
  Ref<File> out = r.file;
  return count_of(tee_files(worker, *in, *out, s.len, s.splice_flags & ~kFdInFixed));
}

// Moves bytes between a file and memory; `select`: may choose a buffer.
constexpr Op transfer(decltype(Op::prepare) prepare, decltype(Op::run) run, uint32_t poll,
                      bool select) {
  return {.prepare = prepare,
          .run = run,
          .poll = poll,
          .file = true,
          .short_fails = true,
          .select = select,
          .ioprio = true};
}

}  // namespace

constexpr Op kNop{.prepare = prepare_nop, .now = do_nop};
constexpr Op kRead = transfer(prepare_plain<false>, run_rw, POLLIN, true);
constexpr Op kReadv = transfer(prepare_vector<false>, run_rw, POLLIN, true);
constexpr Op kReadFixed = transfer(prepare_fixed<false>, run_fixed, POLLIN, false);
constexpr Op kWrite = transfer(prepare_plain<true>, run_rw, POLLOUT, false);
constexpr Op kWritev = transfer(prepare_vector<true>, run_rw, POLLOUT, false);
constexpr Op kWriteFixed = transfer(prepare_fixed<true>, run_fixed, POLLOUT, false);
constexpr Op kReadMultishot{.prepare = prepare_multishot,
                            .run = run_multishot,
                            .poll = POLLIN,
                            .file = true,
                            .select = true,
                            .ioprio = true};
constexpr Op kFsync{.prepare = prepare_fsync, .run = run_fsync, .file = true};
constexpr Op kSyncFileRange{.prepare = prepare_sync_range, .run = run_sync_range, .file = true};
constexpr Op kFallocate{.prepare = prepare_fallocate, .run = run_fallocate, .file = true};
constexpr Op kFadvise{.prepare = prepare_advice, .run = run_fadvise, .file = true};
constexpr Op kMadvise{.prepare = prepare_advice, .run = run_madvise};
constexpr Op kTruncate{.prepare = prepare_truncate, .run = run_truncate, .file = true};
constexpr Op kSplice{
    .prepare = prepare_splice, .run = run_splice, .file = true, .short_fails = true};
constexpr Op kTee{.prepare = prepare_tee, .run = run_tee, .file = true, .short_fails = true};

}  // namespace uk::uring
