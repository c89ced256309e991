#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <vector>

#include "syscalls/uring/ops.h"
#include "ukernel/kernel.h"

namespace uk::uring {
namespace {

constexpr uint64_t kMaxTimeNs = 1ull << 62;

Result<> no_index(const Sqe& s) {
  return unused({s.buf_index, static_cast<uint32_t>(s.splice_fd_in)});
}

// A live request that waits (polls or times out), by its user_data.
Request* find(Ring& ring, uint64_t user_data, uint8_t opcode) {
  for (Request& r : ring.live())
    if (r.sqe().user_data == user_data && r.sqe().opcode == opcode && r.issued() && !r.done())
      return &r;
  return nullptr;
}

// ---- polls

constexpr uint32_t kPollKnown = POLLIN | POLLPRI | POLLOUT | POLLERR | POLLHUP | POLLNVAL |
                                POLLRDNORM | POLLRDBAND | POLLWRNORM | POLLWRBAND | POLLMSG |
                                POLLRDHUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE;

uint32_t poll_mask(const Sqe& s) {
  return (s.poll32_events & kPollKnown & 0xffff) | POLLERR | POLLHUP;
}

Result<> prepare_poll_add(Task&, Request& r) {
  const Sqe& s = r.sqe();
  TRY(no_index(s));
  TRY(unused({s.off, s.addr}));
  if ((s.len & ~IORING_POLL_ADD_MULTI) != 0) return Err(Errno::kINVAL);
  r.multishot = (s.len & IORING_POLL_ADD_MULTI) != 0;
  if (r.multishot && r.flag(IOSQE_CQE_SKIP_SUCCESS)) return Err(Errno::kINVAL);
  r.poll_mask = poll_mask(s);
  return {};
}
void do_poll_add(Request& r) { r.wait_ready(); }
Result<int64_t> run_poll_add(Task&, Request& r) {
  return static_cast<int64_t>(r.file->ready() & r.poll_mask);
}

Result<> prepare_poll_remove(Task&, Request& r) {
  constexpr uint32_t kUpdates = IORING_POLL_UPDATE_EVENTS | IORING_POLL_UPDATE_USER_DATA;
  const Sqe& s = r.sqe();
  TRY(no_index(s));
  if ((s.len & ~(kUpdates | IORING_POLL_ADD_MULTI)) != 0) return Err(Errno::kINVAL);
  if ((s.len & kUpdates) == 0 && (s.len != 0 || s.off != 0 || s.poll32_events != 0))
    return Err(Errno::kINVAL);
  if ((s.len & IORING_POLL_UPDATE_USER_DATA) == 0 && s.off != 0) return Err(Errno::kINVAL);
  return {};
}
void do_poll_remove(Request& r) {
  const Sqe& s = r.sqe();
  Request* target = find(r.ring(), s.addr, IORING_OP_POLL_ADD);
  if (target == nullptr) return r.fail(Errno::kNOENT);
  if (target->active()) return r.fail(Errno::kALREADY);
  Ref<Request> keep(target);
  if (s.len == 0) {
    (void)target->cancel();
    return r.complete(0);
  }
  const bool events = (s.len & IORING_POLL_UPDATE_EVENTS) != 0;
  if (events) target->multishot = (s.len & IORING_POLL_ADD_MULTI) != 0;
  r.complete(0);
  target->set_poll(events ? poll_mask(s) : target->poll_mask,
                   (s.len & IORING_POLL_UPDATE_USER_DATA) != 0 ? s.off : target->sqe().user_data);
}

// ---- timeouts

Result<uint64_t> fetch_time(Task& task, uint64_t addr) {
  const UserTimespec t = TRY(UserIn<UserTimespec>{{addr}}.get(task.park(), task.mm()));
  if (t.sec < 0 || t.nsec < 0) return Err(Errno::kINVAL);
  const uint64_t sec = std::min<uint64_t>(static_cast<uint64_t>(t.sec), kMaxTimeNs / kNsPerSec);
  return std::min(sec * kNsPerSec + static_cast<uint64_t>(t.nsec), kMaxTimeNs);
}

// Absolute times become those of the monotonic clock.
uint64_t monotonic(Kernel& k, uint64_t at_ns, uint32_t flags) {
  if ((flags & IORING_TIMEOUT_ABS) == 0 || (flags & IORING_TIMEOUT_REALTIME) == 0) return at_ns;
  const uint64_t real = k.clock.realtime_ns(), mono = k.clock.monotonic_ns();
  return at_ns > real ? mono + (at_ns - real) : mono;
}

Result<> check_clock(uint32_t flags) {
  if ((flags & IORING_TIMEOUT_CLOCK_MASK) == IORING_TIMEOUT_CLOCK_MASK) return Err(Errno::kINVAL);
  return {};
}

Result<> prepare_any_timeout(Task& task, Request& r, uint32_t known) {
  const Sqe& s = r.sqe();
  TRY(no_index(s));
  if (s.len != 1 || (s.timeout_flags & ~known) != 0) return Err(Errno::kINVAL);
  TRY(check_clock(s.timeout_flags));
  const uint64_t time = TRY(fetch_time(task, s.addr));
  r.prepared.timeout_flags = s.timeout_flags;
  r.prepared.time_ns = monotonic(task.kernel, time, s.timeout_flags);
  return {};
}

Result<> prepare_timeout(Task& task, Request& r) {
  const Sqe& s = r.sqe();
  TRY(prepare_any_timeout(task, r,
                          IORING_TIMEOUT_ABS | IORING_TIMEOUT_CLOCK_MASK |
                              IORING_TIMEOUT_ETIME_SUCCESS | kTimeoutMultishot));
  r.multishot = (s.timeout_flags & kTimeoutMultishot) != 0;
  if (r.multishot && (s.timeout_flags & IORING_TIMEOUT_ABS) != 0) return Err(Errno::kINVAL);
  if (r.multishot) r.prepared.count = static_cast<uint32_t>(s.off);
  // A timeout that repeats all the time would be all that is done.
  if (r.multishot) r.prepared.time_ns = std::max<uint64_t>(r.prepared.time_ns, 1000);
  return {};
}

Deadline deadline_of(const Request& r) {
  const bool absolute = (r.prepared.timeout_flags & IORING_TIMEOUT_ABS) != 0;
  const uint64_t now = absolute ? 0 : r.ring().kernel().clock.monotonic_ns();
  return {now + r.prepared.time_ns};
}

void do_timeout(Request& r) {
  const auto count = static_cast<uint32_t>(r.sqe().off);
  if (count != 0 && !r.multishot) {
    r.prepared.target = r.ring().completions() + count;
    r.ring().counted.insert({r.prepared.target, &r});
  }
  r.wait_until(deadline_of(r));
}
Result<int64_t> run_timeout(Task&, Request&) { return Err(Errno::kTIME); }

Result<> prepare_link_timeout(Task& task, Request& r) {
  TRY(unused({r.sqe().off}));
  return prepare_any_timeout(
      task, r, IORING_TIMEOUT_ABS | IORING_TIMEOUT_CLOCK_MASK | IORING_TIMEOUT_ETIME_SUCCESS);
}
// It was not behind anything that began: what it should watch over is done.
void do_link_timeout(Request& r) { r.fail(Errno::kCANCELED); }
Result<int64_t> run_link_timeout(Task&, Request& r) {
  Ref<Request> target(r.guarded);
  if (!target) return Err(Errno::kCANCELED);
  TRY(target->cancel());
  return Err(Errno::kTIME);
}

Result<> prepare_timeout_remove(Task& task, Request& r) {
  const Sqe& s = r.sqe();
  TRY(no_index(s));
  TRY(unused({s.len}));
  if ((s.timeout_flags & IORING_TIMEOUT_UPDATE_MASK) == 0) {
    if (s.timeout_flags != 0) return Err(Errno::kINVAL);
    return {};
  }
  if ((s.timeout_flags &
       ~(IORING_TIMEOUT_UPDATE_MASK | IORING_TIMEOUT_ABS | IORING_TIMEOUT_CLOCK_MASK)) != 0)
    return Err(Errno::kINVAL);
  if ((s.timeout_flags & IORING_TIMEOUT_UPDATE_MASK) == IORING_TIMEOUT_UPDATE_MASK)
    return Err(Errno::kINVAL);
  TRY(check_clock(s.timeout_flags));
  r.prepared.time_ns = monotonic(task.kernel, TRY(fetch_time(task, s.off)), s.timeout_flags);
  r.prepared.timeout_flags = s.timeout_flags & IORING_TIMEOUT_ABS;
  return {};
}
void do_timeout_remove(Request& r) {
  const Sqe& s = r.sqe();
  const bool link = (s.timeout_flags & IORING_LINK_TIMEOUT_UPDATE) != 0;
  Request* target = find(r.ring(), s.addr, link ? IORING_OP_LINK_TIMEOUT : IORING_OP_TIMEOUT);
  if (target == nullptr) return r.fail(Errno::kNOENT);
  if (!target->waits_for_time()) return r.fail(Errno::kALREADY);
  if ((s.timeout_flags & IORING_TIMEOUT_UPDATE_MASK) != 0) {
    target->wait_until(deadline_of(r));
  } else {
    (void)target->cancel();
  }
  r.complete(0);
}

// ---- cancelling

Result<> prepare_cancel(Task&, Request& r) {
  constexpr uint32_t kKnown = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_FD |
                              IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_FD_FIXED |
                              kCancelUserData | kCancelOp;
  const Sqe& s = r.sqe();
  TRY(unused({s.off, static_cast<uint32_t>(s.splice_fd_in)}));
  if (r.flag(IOSQE_BUFFER_SELECT) || (s.cancel_flags & ~kKnown) != 0) return Err(Errno::kINVAL);
  if ((s.cancel_flags & IORING_ASYNC_CANCEL_ANY) != 0 &&
      (s.cancel_flags & (IORING_ASYNC_CANCEL_FD | kCancelOp)) != 0)
    return Err(Errno::kINVAL);
  return {};
}
void do_cancel(Request& r) {
  const Sqe& s = r.sqe();
  CancelKey key;
  key.flags = s.cancel_flags;
  key.user_data = s.addr;
  key.self = &r;
  key.opcode = static_cast<uint8_t>(s.len);
  if ((key.flags & IORING_ASYNC_CANCEL_FD) != 0) {
    const bool fixed = r.flag(IOSQE_FIXED_FILE) || (key.flags & IORING_ASYNC_CANCEL_FD_FIXED) != 0;
    if (fixed) {
      if (Ref<Resource> f = r.ring().resources.file(static_cast<uint32_t>(s.fd)))
        key.file = f->file;
    } else if (auto f = r.task().fds().get(s.fd)) {
      key.file = *f;
    }
    if (!key.file) return r.fail(Errno::kBADF);
  }
  const Result<int64_t> n = cancel_matching(r.ring(), key);
  n ? r.complete(*n) : r.fail(n.error());
}

// ---- buffers

Result<> prepare_buffers(Request& r) {
  const Sqe& s = r.sqe();
  TRY(unused({static_cast<uint32_t>(s.rw_flags), static_cast<uint32_t>(s.splice_fd_in)}));
  if (s.fd <= 0 || s.fd > static_cast<int>(BufferGroup::kMaxBuffers)) return Err(Errno::k2BIG);
  return {};
}
Result<> prepare_provide(Task& task, Request& r) {
  const Sqe& s = r.sqe();
  TRY(prepare_buffers(r));
  if (s.off > UINT16_MAX) return Err(Errno::k2BIG);
  if (s.len == 0) return Err(Errno::kINVAL);
  if (s.off + static_cast<uint32_t>(s.fd) > UINT16_MAX + 1u) return Err(Errno::kINVAL);
  const uint64_t bytes = uint64_t{s.len} * static_cast<uint32_t>(s.fd);
  if (bytes > task.mm().user_limit() || s.addr > task.mm().user_limit() - bytes)
    return Err(Errno::kFAULT);
  return {};
}
void do_provide(Request& r) {
  const Sqe& s = r.sqe();
  Ref<BufferGroup>& group = r.ring().resources.groups[s.buf_group];
  if (!group) group = make_ref<BufferGroup>();
  if (group->is_ring()) return r.fail(Errno::kINVAL);
  if (group->list.size() + static_cast<uint32_t>(s.fd) > BufferGroup::kMaxBuffers)
    return r.fail(Errno::kNOMEM);
  for (uint32_t i = 0; i < static_cast<uint32_t>(s.fd); ++i) {
    group->list.push_back(
        {s.addr + uint64_t{i} * s.len, s.len, static_cast<uint16_t>(s.off + i), s.buf_group});
  }
  r.complete(0);
}
Result<> prepare_remove_buffers(Task&, Request& r) {
  TRY(unused({r.sqe().addr, r.sqe().len, r.sqe().off}));
  return prepare_buffers(r);
}
void do_remove_buffers(Request& r) {
  const Sqe& s = r.sqe();
  auto it = r.ring().resources.groups.find(s.buf_group);
  if (it == r.ring().resources.groups.end()) return r.fail(Errno::kNOENT);
  if (it->second->is_ring()) return r.fail(Errno::kINVAL);
  auto& list = it->second->list;
  const size_t n = std::min(list.size(), static_cast<size_t>(s.fd));
  list.erase(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(n));
  r.complete(static_cast<int64_t>(n));
}

// ---- messages between rings

Result<> prepare_message(Task&, Request& r) {
  const Sqe& s = r.sqe();
  TRY(unused({s.buf_index, s.personality}));
  constexpr uint32_t kFlagsPass = 2;
  if (s.addr != IORING_MSG_DATA) return Err(Errno::kINVAL);  // DEVIATION: no MSG_SEND_FD
  if ((static_cast<uint32_t>(s.rw_flags) & ~kFlagsPass) != 0) return Err(Errno::kINVAL);
  if (s.rw_flags == 0 && s.splice_fd_in != 0) return Err(Errno::kINVAL);
  return {};
}
void do_message(Request& r) {
  const Sqe& s = r.sqe();
  auto* target = dynamic_cast<RingFile*>(r.file.get());
  if (target == nullptr) return r.fail(Errno::kBADFD);
  if (target->ring().disabled) return r.fail(Errno::kBADFD);
  target->ring().post(s.off, static_cast<int32_t>(s.len), static_cast<uint32_t>(s.file_index));
  r.complete(0);
}

// ---- registered files

Result<> prepare_files_update(Task& task, Request& r) {
  const Sqe& s = r.sqe();
  TRY(unused({static_cast<uint32_t>(s.rw_flags), static_cast<uint32_t>(s.splice_fd_in)}));
  if (s.len == 0 || r.flag(IOSQE_FIXED_FILE) || r.flag(IOSQE_BUFFER_SELECT))
    return Err(Errno::kINVAL);
  if (s.len > Resources::kMaxFiles) return Err(Errno::kINVAL);
  return (void)task, Result<>();
}
Result<int64_t> run_files_update(Task& worker, Request& r) {
  const Sqe& s = r.sqe();
  Resources& res = r.ring().resources;
  if (!res.files) return Err(Errno::kNXIO);
  const auto fds = TRY((UserIn<int32_t>{{s.addr}}.get_array(worker.park(), worker.mm(), s.len)));
  if (static_cast<uint32_t>(s.off) == IORING_FILE_INDEX_ALLOC) {
    std::vector<int32_t> places;
    Result<> ok;
    for (int32_t fd : fds) {
      auto file = worker.fds().get(fd);
      auto at = file ? res.install(r.ring(), *file, ~0u) : Result<uint32_t>(Err(file.error()));
      if (!at) {
        if (places.empty()) return Err(at.error());
        break;
      }
      places.push_back(static_cast<int32_t>(*at));
    }
    TRY(UserOut<int32_t>{{s.addr}}.put_array(worker.park(), worker.mm(), places));
    return static_cast<int64_t>(places.size());
  }
  return r.ring().update_files(worker, static_cast<uint32_t>(s.off), fds, {});
}

}  // namespace

Result<int64_t> cancel_matching(Ring& ring, const CancelKey& key) {
  const bool any = (key.flags & IORING_ASYNC_CANCEL_ANY) != 0;
  const bool many = any || (key.flags & IORING_ASYNC_CANCEL_ALL) != 0;
  const bool by_file = (key.flags & IORING_ASYNC_CANCEL_FD) != 0;
  const bool by_op = (key.flags & kCancelOp) != 0;
  const bool by_data = (key.flags & kCancelUserData) != 0 || (!any && !by_file && !by_op);
  std::vector<Ref<Request>> found;
  for (Request& r : ring.live()) {
    if (&r == key.self || r.done() || !r.issued()) continue;
    if (r.sqe().opcode == IORING_OP_LINK_TIMEOUT) continue;
    if (by_file && r.file != key.file) continue;
    if (by_op && r.sqe().opcode != key.opcode) continue;
    if (by_data && r.sqe().user_data != key.user_data) continue;
    found.emplace_back(&r);
    if (!many) break;
  }
  if (!many) {
    if (found.empty()) return Err(Errno::kNOENT);
    TRY(found[0]->cancel());
    return 0;
  }
  int64_t n = 0;
  for (const Ref<Request>& r : found) {
    if (r->done()) continue;
    (void)r->cancel();
    ++n;
  }
  return n;
}

constexpr Op kPollAdd{
    .prepare = prepare_poll_add, .run = run_poll_add, .now = do_poll_add, .file = true};
constexpr Op kPollRemove{.prepare = prepare_poll_remove, .now = do_poll_remove};
constexpr Op kTimeout{.prepare = prepare_timeout, .run = run_timeout, .now = do_timeout};
constexpr Op kTimeoutRemove{.prepare = prepare_timeout_remove, .now = do_timeout_remove};
constexpr Op kLinkTimeout{
    .prepare = prepare_link_timeout, .run = run_link_timeout, .now = do_link_timeout};
constexpr Op kAsyncCancel{.prepare = prepare_cancel, .now = do_cancel};
constexpr Op kProvideBuffers{.prepare = prepare_provide, .now = do_provide};
constexpr Op kRemoveBuffers{.prepare = prepare_remove_buffers, .now = do_remove_buffers};
constexpr Op kFilesUpdate{.prepare = prepare_files_update, .run = run_files_update};
constexpr Op kMsgRing{.prepare = prepare_message, .now = do_message, .file = true};

}  // namespace uk::uring
