#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "syscalls/extensible.h"
#include "syscalls/fs_common.h"
#include "syscalls/fs_names.h"
#include "syscalls/fs_stat.h"
#include "syscalls/poll.h"
#include "syscalls/uring/ops.h"

namespace uk::uring {

Result<int64_t> place_file(Task& worker, Request& r, Ref<File> file, bool cloexec) {
  const auto place = static_cast<uint32_t>(r.sqe().file_index);
  if (place == 0) return install_fd(worker, std::move(file), cloexec);
  Ring& ring = r.ring();
  if (place == ~0u) return int64_t{TRY(ring.resources.install(ring, std::move(file), place))};
  TRY(ring.resources.install(ring, std::move(file), place - 1));
  return 0;
}

namespace {

Fd fd_of(const Sqe& s) { return Fd{s.fd}; }

Result<> no_fixed(const Request& r) {
  if (r.flag(IOSQE_FIXED_FILE)) return Err(Errno::kBADF);
  return {};
}

// ---- opening

Result<> prepare_openat(Task& task, Request& r) {
  TRY(unused({r.sqe().buf_index}));
  TRY(no_fixed(r));
  if (r.sqe().file_index != 0 && (r.sqe().open_flags & O_CLOEXEC) != 0) return Err(Errno::kINVAL);
  return r.copy_path(task, r.sqe().addr);
}

Result<> prepare_openat2(Task& task, Request& r) {
  const Sqe& s = r.sqe();
  TRY(unused({s.buf_index}));
  TRY(no_fixed(r));
  r.prepared.how = TRY(fetch_extensible<UserOpenHow>(task, UserIn<UserOpenHow>{{s.off}}, s.len,
                                                     sizeof(UserOpenHow)));
  if (s.file_index != 0 && (r.prepared.how.flags & O_CLOEXEC) != 0) return Err(Errno::kINVAL);
  return r.copy_path(task, s.addr);
}

// The file of a fresh descriptor goes to the registered files, if that is asked for.
Result<int64_t> redirect(Task& worker, Request& r, Result<int64_t> fd) {
  if (!fd || r.sqe().file_index == 0) return fd;
  return place_file(worker, r, TRY(worker.fds().remove(static_cast<int>(*fd))), false);
}

Result<int64_t> run_openat(Task& worker, Request& r) {
  const Sqe& s = r.sqe();
  return redirect(worker, r,
                  sys_openat(worker, fd_of(s), r.path_arg(0),
                             OpenFlags{static_cast<int>(s.open_flags)}, Mode{s.len}));
}
Result<int64_t> run_openat2(Task& worker, Request& r) {
  return redirect(worker, r, open_how(worker, fd_of(r.sqe()), r.path_arg(0), r.prepared.how));
}

// ---- closing, installing

Result<> prepare_close(Task&, Request& r) {
  const Sqe& s = r.sqe();
  TRY(unused({s.off, s.addr, s.len, static_cast<uint32_t>(s.rw_flags), s.buf_index}));
  TRY(no_fixed(r));
  if (s.file_index != 0 && s.fd != 0) return Err(Errno::kINVAL);
  return {};
}
Result<int64_t> run_close(Task& worker, Request& r) {
  const Sqe& s = r.sqe();
  if (s.file_index != 0) return zero(r.ring().resources.remove_file(s.file_index - 1));
  Ref<File> file = TRY(worker.fds().get(s.fd));
  if (dynamic_cast<RingFile*>(file.get()) != nullptr) return Err(Errno::kBADF);
  file.reset();
  return sys_close(worker, fd_of(s));
}

Result<> prepare_install(Task&, Request& r) {
  constexpr uint32_t kNoCloexec = 1;
  const Sqe& s = r.sqe();
  TRY(unused({s.off, s.addr, s.len, s.buf_index, static_cast<uint32_t>(s.splice_fd_in)}));
  if (!r.flag(IOSQE_FIXED_FILE)) return Err(Errno::kBADF);
  if ((static_cast<uint32_t>(s.rw_flags) & ~kNoCloexec) != 0) return Err(Errno::kINVAL);
  return {};
}
Result<int64_t> run_install(Task& worker, Request& r) {
  return install_fd(worker, r.file, r.sqe().rw_flags == 0);
}

// ---- names

Result<> prepare_statx(Task& task, Request& r) {
  TRY(unused({r.sqe().buf_index, static_cast<uint32_t>(r.sqe().splice_fd_in)}));
  TRY(no_fixed(r));
  return r.copy_path(task, r.sqe().addr);
}
Result<int64_t> run_statx(Task& worker, Request& r) {
  const Sqe& s = r.sqe();
  return sys_statx(worker, fd_of(s), r.path_arg(0), static_cast<int>(s.statx_flags), s.len,
                   {{s.off}});
}

// Two names: sqe.fd with sqe.addr, sqe.len with sqe.addr2.
Result<> prepare_two(Task& task, Request& r) {
  TRY(unused({r.sqe().buf_index, static_cast<uint32_t>(r.sqe().splice_fd_in)}));
  TRY(no_fixed(r));
  TRY(r.copy_path(task, r.sqe().addr));
  return r.copy_path(task, r.sqe().off);
}
Fd second_fd(const Sqe& s) { return Fd{static_cast<int>(s.len)}; }

Result<int64_t> run_renameat(Task& worker, Request& r) {
  const Sqe& s = r.sqe();
  return sys_renameat2(worker, fd_of(s), r.path_arg(0), second_fd(s), r.path_arg(1),
                       s.rename_flags);
}
Result<int64_t> run_linkat(Task& worker, Request& r) {
  const Sqe& s = r.sqe();
  return sys_linkat(worker, fd_of(s), r.path_arg(0), second_fd(s), r.path_arg(1),
                    static_cast<int>(s.hardlink_flags));
}
Result<> prepare_symlinkat(Task& task, Request& r) {
  const Sqe& s = r.sqe();
  TRY(unused({s.len, static_cast<uint32_t>(s.rw_flags)}));
  return prepare_two(task, r);
}
Result<int64_t> run_symlinkat(Task& worker, Request& r) {
  return sys_symlinkat(worker, r.path_arg(0), fd_of(r.sqe()), r.path_arg(1));
}

Result<> prepare_unlinkat(Task& task, Request& r) {
  const Sqe& s = r.sqe();
  TRY(unused({s.off, s.len, s.buf_index, static_cast<uint32_t>(s.splice_fd_in)}));
  TRY(no_fixed(r));
  if ((s.unlink_flags & ~static_cast<uint32_t>(AT_REMOVEDIR)) != 0) return Err(Errno::kINVAL);
  return r.copy_path(task, s.addr);
}
Result<int64_t> run_unlinkat(Task& worker, Request& r) {
  const Sqe& s = r.sqe();
  return sys_unlinkat(worker, fd_of(s), r.path_arg(0), static_cast<int>(s.unlink_flags));
}

Result<> prepare_mkdirat(Task& task, Request& r) {
  const Sqe& s = r.sqe();
  TRY(unused({s.off, static_cast<uint32_t>(s.rw_flags), s.buf_index,
              static_cast<uint32_t>(s.splice_fd_in)}));
  TRY(no_fixed(r));
  return r.copy_path(task, s.addr);
}
Result<int64_t> run_mkdirat(Task& worker, Request& r) {
  const Sqe& s = r.sqe();
  return sys_mkdirat(worker, fd_of(s), r.path_arg(0), Mode{s.len});
}

// ---- epoll

Result<> prepare_epoll(Task& task, Request& r) {
  const Sqe& s = r.sqe();
  TRY(unused({s.buf_index, static_cast<uint32_t>(s.splice_fd_in)}));
  if (s.len != EPOLL_CTL_DEL)
    r.prepared.event = TRY(UserIn<EpollEvent>{{s.addr}}.get(task.park(), task.mm()));
  return {};
}
Result<int64_t> run_epoll(Task& worker, Request& r) {
  const Sqe& s = r.sqe();
  return epoll_control(worker, fd_of(s), static_cast<int>(s.len), Fd{static_cast<int>(s.off)},
                       r.prepared.event);
}

}  // namespace

constexpr Op kOpenat{.prepare = prepare_openat, .run = run_openat};
constexpr Op kOpenat2{.prepare = prepare_openat2, .run = run_openat2};
constexpr Op kClose{.prepare = prepare_close, .run = run_close};
constexpr Op kStatx{.prepare = prepare_statx, .run = run_statx};
constexpr Op kRenameat{.prepare = prepare_two, .run = run_renameat};
constexpr Op kUnlinkat{.prepare = prepare_unlinkat, .run = run_unlinkat};
constexpr Op kMkdirat{.prepare = prepare_mkdirat, .run = run_mkdirat};
constexpr Op kSymlinkat{.prepare = prepare_symlinkat, .run = run_symlinkat};
constexpr Op kLinkat{.prepare = prepare_two, .run = run_linkat};
constexpr Op kEpollCtl{.prepare = prepare_epoll, .run = run_epoll};
constexpr Op kInstallFd{.prepare = prepare_install, .run = run_install, .file = true};

}  // namespace uk::uring
