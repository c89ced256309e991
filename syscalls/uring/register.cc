// io_uring_register(2).
#include "syscalls/uring/register.h"

#include <sys/resource.h>

#include "syscalls/fs_common.h"
#include "syscalls/uring/ops.h"
#include "ukernel/fs/anonfs/eventfd.h"

namespace uk::uring {
namespace {

template <class T>
Result<T> fetch(Task& task, uint64_t addr, uint64_t index = 0) {
  return UserIn<T>{{addr}}.get(task.park(), task.mm(), index);
}

// A file to register; null for -1.
Result<Ref<File>> file_of(Task& task, int32_t fd) {
  if (fd == -1) return Ref<File>();
  Ref<File> file = TRY(task.fds().get_io(fd));
  if (dynamic_cast<RingFile*>(file.get()) != nullptr) return Err(Errno::kBADF);  // no cycles
  return file;
}

Ref<Resource> resource_of(Ring& ring, Ref<File> file, uint64_t tag) {
  if (!file) return nullptr;
  auto r = make_ref<Resource>(ring, tag);
  r->file = std::move(file);
  return r;
}

void forget(const std::vector<Ref<Resource>>& all) {
  for (const Ref<Resource>& r : all)
    if (r) r->forget_tag();
}

// ---- files

Result<> set_files(Task& task, Ring& ring, uint32_t count, uint64_t fds, uint64_t tags) {
  Resources& res = ring.resources;
  if (res.files) return Err(Errno::kBUSY);
  if (count == 0) return Err(Errno::kINVAL);
  if (count > Resources::kMaxFiles || count > task.rlimit(RLIMIT_NOFILE).cur)
    return Err(Errno::kMFILE);
  std::vector<Ref<Resource>> all(count);
  auto fill = [&]() -> Result<> {
    for (uint32_t i = 0; i < count && fds != 0; ++i) {
      const auto fd = TRY(fetch<int32_t>(task, fds, i));
      const uint64_t tag = tags != 0 ? TRY(fetch<uint64_t>(task, tags, i)) : 0;
      if (fd == -1 && tag != 0) return Err(Errno::kINVAL);
      all[i] = resource_of(ring, TRY(file_of(task, fd)), tag);
    }
    return {};
  };
  if (Result<> ok = fill(); !ok) {
    forget(all);
    return ok;
  }
  res.files = std::move(all);
  res.alloc_from = 0;
  res.alloc_to = count;
  return {};
}

// ---- buffers

// What a buffer must be: memory that may be written, of a sensible size.
Result<Ref<Resource>> make_buffer(Task& task, Ring& ring, const UserIovec& v, uint64_t tag) {
  constexpr uint64_t kMaxBytes = 1ull << 30;
  if (v.base == 0) {
    if (v.len != 0) return Err(Errno::kFAULT);
    if (tag != 0) return Err(Errno::kINVAL);
    return Ref<Resource>();
  }
  if (v.len == 0 || v.len > kMaxBytes) return Err(Errno::kFAULT);
  const uint64_t end = v.base + v.len;
  if (end < v.base || end > task.mm().user_limit()) return Err(Errno::kFAULT);
  for (uint64_t at : {v.base & ~uint64_t{3}, (end - 1) & ~uint64_t{3}})
    TRY(task.mm().atomic_word(task.park(), at, true));
  auto r = make_ref<Resource>(ring, tag);
  r->addr = v.base;
  r->len = v.len;
  return r;
}

Result<> set_buffers(Task& task, Ring& ring, uint32_t count, uint64_t iovs, uint64_t tags) {
  Resources& res = ring.resources;
  if (res.buffers) return Err(Errno::kBUSY);
  if (count == 0 || count > Resources::kMaxBuffers) return Err(Errno::kINVAL);
  std::vector<Ref<Resource>> all(count);
  auto fill = [&]() -> Result<> {
    for (uint32_t i = 0; i < count && iovs != 0; ++i) {
      const auto v = TRY(fetch<UserIovec>(task, iovs, i));
      const uint64_t tag = tags != 0 ? TRY(fetch<uint64_t>(task, tags, i)) : 0;
      all[i] = TRY(make_buffer(task, ring, v, tag));
    }
    return {};
  };
  if (Result<> ok = fill(); !ok) {
    forget(all);
    return ok;
  }
  res.buffers = std::move(all);
  return {};
}

Result<int64_t> update_buffers(Task& task, Ring& ring, const io_uring_rsrc_update2& u) {
  Resources& res = ring.resources;
  if (!res.buffers) return Err(Errno::kNXIO);
  const uint64_t size = res.buffers->size();
  if (uint64_t{u.offset} + u.nr > size) return Err(Errno::kINVAL);
  int64_t done = 0;
  for (uint32_t i = 0; i < u.nr; ++i) {
    auto step = [&]() -> Result<> {
      const auto v = TRY(fetch<UserIovec>(task, u.data, i));
      const uint64_t tag = u.tags != 0 ? TRY(fetch<uint64_t>(task, u.tags, i)) : 0;
      Ref<Resource> b = TRY(make_buffer(task, ring, v, tag));
      if (!res.buffers || u.offset + i >= res.buffers->size()) return Err(Errno::kNXIO);
      (*res.buffers)[u.offset + i] = std::move(b);
      return {};
    };
    if (auto r = step(); !r) return done != 0 ? Result<int64_t>(done) : Err(r.error());
    ++done;
  }
  return done;
}

Result<int64_t> register_any(Task& task, Ring& ring, uint64_t arg, uint32_t size, bool files) {
  constexpr uint32_t kSparse = 1;
  if (size != sizeof(io_uring_rsrc_register)) return Err(Errno::kINVAL);
  const auto r = TRY(fetch<io_uring_rsrc_register>(task, arg));
  if (r.nr == 0 || r.resv2 != 0 || (r.flags & ~kSparse) != 0) return Err(Errno::kINVAL);
  if ((r.flags & kSparse) != 0 && r.data != 0) return Err(Errno::kINVAL);
  if ((r.flags & kSparse) == 0 && r.data == 0) return Err(Errno::kFAULT);
  return zero(files ? set_files(task, ring, r.nr, r.data, r.tags)
                    : set_buffers(task, ring, r.nr, r.data, r.tags));
}

Result<int64_t> update_any(Task& task, Ring& ring, uint64_t arg, uint32_t size, bool files) {
  if (size != sizeof(io_uring_rsrc_update2)) return Err(Errno::kINVAL);
  const auto u = TRY(fetch<io_uring_rsrc_update2>(task, arg));
  if (u.nr == 0 || u.resv != 0 || u.resv2 != 0) return Err(Errno::kINVAL);
  if (!files) return update_buffers(task, ring, u);
  if (u.nr > Resources::kMaxFiles) return Err(Errno::kINVAL);
  const auto fds = TRY((UserIn<int32_t>{{u.data}}.get_array(task.park(), task.mm(), u.nr)));
  std::vector<uint64_t> tags;
  if (u.tags != 0) tags = TRY((UserIn<uint64_t>{{u.tags}}.get_array(task.park(), task.mm(), u.nr)));
  return ring.update_files(task, u.offset, fds, tags);
}

Result<int64_t> update_old(Task& task, Ring& ring, uint64_t arg, uint32_t count) {
  if (count == 0 || count > Resources::kMaxFiles) return Err(Errno::kINVAL);
  const auto u = TRY(fetch<io_uring_rsrc_update>(task, arg));
  if (u.resv != 0) return Err(Errno::kINVAL);
  if (!ring.resources.files) return Err(Errno::kNXIO);
  const auto fds = TRY((UserIn<int32_t>{{u.data}}.get_array(task.park(), task.mm(), count)));
  return ring.update_files(task, u.offset, fds, {});
}

Result<int64_t> set_alloc_range(Task& task, Ring& ring, uint64_t arg) {
  const auto range = TRY(fetch<io_uring_file_index_range>(task, arg));
  Resources& res = ring.resources;
  uint32_t end = 0;
  if (range.resv != 0) return Err(Errno::kINVAL);
  if (__builtin_add_overflow(range.off, range.len, &end)) return Err(Errno::kOVERFLOW);
  if (!res.files || end > res.files->size()) return Err(Errno::kINVAL);
  res.alloc_from = range.off;
  res.alloc_to = end;
  return 0;
}

// ---- the rest

Result<int64_t> set_eventfd(Task& task, Ring& ring, uint64_t arg, uint32_t count, bool async) {
  if (count != 1) return Err(Errno::kINVAL);
  if (ring.eventfd) return Err(Errno::kBUSY);
  const auto fd = TRY(fetch<int32_t>(task, arg));
  Ref<File> file = TRY(task.fds().get_io(fd));
  auto* event = dynamic_cast<EventFd*>(file.get());
  if (event == nullptr) return Err(Errno::kINVAL);
  ring.eventfd = Ref<EventFd>(event);
  ring.eventfd_async = async;
  return 0;
}

Result<int64_t> probe(Task& task, uint64_t arg, uint32_t count) {
  constexpr uint32_t kMaxOps = 256;
  if (arg == 0 || count > kMaxOps) return Err(Errno::kINVAL);
  const uint32_t n = std::min<uint32_t>(count, kOps);
  const size_t bytes = sizeof(io_uring_probe) + count * sizeof(io_uring_probe_op);
  const auto given = TRY((UserIn<uint8_t>{{arg}}.get_array(task.park(), task.mm(), bytes)));
  for (uint8_t b : given)
    if (b != 0) return Err(Errno::kINVAL);
  std::vector<uint8_t> out(sizeof(io_uring_probe) + n * sizeof(io_uring_probe_op));
  out[offsetof(io_uring_probe, last_op)] = kOps - 1;
  out[offsetof(io_uring_probe, ops_len)] = static_cast<uint8_t>(n);
  for (uint32_t i = 0; i < n; ++i) {
    io_uring_probe_op op{};
    op.op = static_cast<uint8_t>(i);
    if (op_of(op.op) != nullptr) op.flags = IO_URING_OP_SUPPORTED;
    std::memcpy(out.data() + sizeof(io_uring_probe) + i * sizeof op, &op, sizeof op);
  }
  return zero(UserOut<uint8_t>{{arg}}.put_array(task.park(), task.mm(), out));
}

Result<int64_t> add_personality(Task& task, Ring& ring) {
  constexpr size_t kMax = 1024;
  Resources& res = ring.resources;
  if (res.personalities.size() >= kMax) return Err(Errno::kNOSPC);
  while (res.next_personality == 0 || res.personalities.contains(res.next_personality))
    ++res.next_personality;
  const uint16_t id = res.next_personality++;
  res.personalities[id] = task.cred_;
  return id;
}

Result<int64_t> set_restrictions(Task& task, Ring& ring, uint64_t arg, uint32_t count) {
  constexpr uint32_t kMax = 64 + 256 + 2;
  if (!ring.disabled) return Err(Errno::kBADFD);
  if (ring.restrictions.registered) return Err(Errno::kBUSY);
  if (arg == 0 || count > kMax) return Err(Errno::kINVAL);
  Ring::Restrictions r;
  for (uint32_t i = 0; i < count; ++i) {
    const auto one = TRY(fetch<io_uring_restriction>(task, arg, i));
    switch (one.opcode) {
      case IORING_RESTRICTION_REGISTER_OP:
        if (one.register_op >= kRegisterOps) return Err(Errno::kINVAL);
        r.register_ops.set(one.register_op);
        break;
      case IORING_RESTRICTION_SQE_OP:
        if (one.sqe_op >= kOps) return Err(Errno::kINVAL);
        r.sqe_ops.set(one.sqe_op);
        break;
      case IORING_RESTRICTION_SQE_FLAGS_ALLOWED:
        r.flags_allowed = one.sqe_flags;
        break;
      case IORING_RESTRICTION_SQE_FLAGS_REQUIRED:
        r.flags_required = one.sqe_flags;
        break;
      default:
        return Err(Errno::kINVAL);
    }
  }
  r.registered = true;
  ring.restrictions = r;
  return 0;
}

Result<int64_t> enable(Task& task, Ring& ring) {
  if (!ring.disabled) return Err(Errno::kBADFD);
  if ((ring.flags() & IORING_SETUP_SINGLE_ISSUER) != 0) ring.issuer = &task;
  ring.restricted = ring.restrictions.registered;
  ring.disabled = false;
  return 0;
}

Result<int64_t> sync_cancel(Task& task, Ring& ring, uint64_t arg) {
  const auto c = TRY(fetch<io_uring_sync_cancel_reg>(task, arg));
  constexpr uint32_t kKnown = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_FD |
                              IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_FD_FIXED;
  if ((c.flags & ~kKnown) != 0) return Err(Errno::kINVAL);
  CancelKey key;
  key.flags = c.flags;
  key.user_data = c.addr;
  if ((c.flags & IORING_ASYNC_CANCEL_FD) != 0) {
    if ((c.flags & IORING_ASYNC_CANCEL_FD_FIXED) != 0) {
      if (Ref<Resource> f = ring.resources.file(static_cast<uint32_t>(c.fd))) key.file = f->file;
    } else if (auto f = task.fds().get(c.fd)) {
      key.file = *f;
    }
    if (!key.file) return Err(Errno::kBADF);
  }
  return cancel_matching(ring, key);
}

Result<int64_t> set_buffer_ring(Task& task, Ring& ring, uint64_t arg) {
  constexpr uint16_t kMmap = 1;
  constexpr uint32_t kMaxRing = 32768;
  const auto b = TRY(fetch<io_uring_buf_reg>(task, arg));
  const uint16_t flags = b.pad;  // `flags` of later headers
  for (uint64_t r : b.resv)
    if (r != 0) return Err(Errno::kINVAL);
  if ((flags & ~kMmap) != 0) return Err(Errno::kINVAL);
  if ((flags & kMmap) == 0) {
    if (b.ring_addr == 0) return Err(Errno::kFAULT);
    if ((b.ring_addr & kPageMask) != 0) return Err(Errno::kINVAL);
  } else if (b.ring_addr != 0) {
    return Err(Errno::kINVAL);
  }
  if (b.ring_entries == 0 || (b.ring_entries & (b.ring_entries - 1)) != 0)
    return Err(Errno::kINVAL);
  if (b.ring_entries > kMaxRing) return Err(Errno::kINVAL);
  Ref<SharedFrames> frames;
  const uint64_t bytes = uint64_t{b.ring_entries} * sizeof(io_uring_buf);
  if ((flags & kMmap) != 0) {
    frames = TRY(SharedFrames::create(*task.kernel.mem, bytes));
  } else {
    TRY(task.mm().atomic_word(task.park(), b.ring_addr, true));
  }
  auto& group = ring.resources.groups[b.bgid];
  if (group && (group->is_ring() || !group->list.empty())) return Err(Errno::kEXIST);
  group = make_ref<BufferGroup>();
  group->use_ring(b.ring_addr, b.ring_entries, std::move(frames));
  return 0;
}

Result<int64_t> unset_buffer_ring(Task& task, Ring& ring, uint64_t arg) {
  const auto b = TRY(fetch<io_uring_buf_reg>(task, arg));
  for (uint64_t r : b.resv)
    if (r != 0) return Err(Errno::kINVAL);
  auto it = ring.resources.groups.find(b.bgid);
  if (it == ring.resources.groups.end()) return Err(Errno::kNOENT);
  if (!it->second->is_ring()) return Err(Errno::kINVAL);
  ring.resources.groups.erase(it);
  return 0;
}

Result<int64_t> set_ring_fds(Task& task, uint64_t arg, uint32_t count, bool add) {
  if (count == 0 || count > TaskRings::kRegistered) return Err(Errno::kINVAL);
  int64_t done = 0;
  for (uint32_t i = 0; i < count; ++i) {
    auto step = [&]() -> Result<> {
      auto u = TRY(fetch<io_uring_rsrc_update>(task, arg, i));
      if (u.resv != 0) return Err(Errno::kINVAL);
      auto& places = TaskRings::of(task).registered;
      if (!add) {
        if (u.data != 0 || u.offset >= places.size()) return Err(Errno::kINVAL);
        places[u.offset].reset();
        return {};
      }
      Ref<File> file = TRY(task.fds().get_io(static_cast<int>(u.data)));
      if (dynamic_cast<RingFile*>(file.get()) == nullptr) return Err(Errno::kOPNOTSUPP);
      uint32_t at = u.offset;
      if (at == ~0u) {
        for (at = 0; at < places.size() && places[at]; ++at) {
        }
        if (at == places.size()) return Err(Errno::kBUSY);
      } else if (at >= places.size()) {
        return Err(Errno::kINVAL);
      } else if (places[at]) {
        return Err(Errno::kBUSY);
      }
      u.offset = at;
      TRY(UserOut<io_uring_rsrc_update>{{arg}}.put(task.park(), task.mm(), u, i));
      TaskRings::of(task).registered[at] = std::move(file);
      return {};
    };
    if (auto r = step(); !r) return done != 0 ? Result<int64_t>(done) : Err(r.error());
    ++done;
  }
  return done;
}

Result<> no_argument(uint64_t arg, uint32_t count) {
  if (arg != 0 || count != 0) return Err(Errno::kINVAL);
  return {};
}
Result<> one_argument(uint64_t arg, uint32_t count) {
  if (arg == 0 || count != 1) return Err(Errno::kINVAL);
  return {};
}

}  // namespace

Result<int64_t> Ring::update_files(Task& task, uint32_t offset, const std::vector<int32_t>& fds,
                                   const std::vector<uint64_t>& tags) {
  if (!resources.files) return Err(Errno::kNXIO);
  auto& all = *resources.files;
  if (uint64_t{offset} + fds.size() > all.size()) return Err(Errno::kINVAL);
  int64_t done = 0;
  for (size_t i = 0; i < fds.size(); ++i, ++done) {
    const uint64_t tag = tags.empty() ? 0 : tags[i];
    Result<Ref<File>> file = Ref<File>();
    if ((fds[i] == -1 || fds[i] == kSkipFile) && tag != 0) {
      file = Err(Errno::kINVAL);
    } else if (fds[i] == kSkipFile) {
      continue;
    } else {
      file = file_of(task, fds[i]);
    }
    if (!file) return done != 0 ? Result<int64_t>(done) : Err(file.error());
    all[offset + i] = resource_of(*this, std::move(*file), tag);
  }
  return done;
}

Result<int64_t> do_register(Task& task, Ring& ring, uint32_t op, uint64_t arg, uint32_t count) {
  if (ring.restricted && !ring.restrictions.register_ops.test(op)) return Err(Errno::kACCES);
  Resources& res = ring.resources;
  switch (op) {
    case IORING_REGISTER_BUFFERS:
      if (arg == 0) return Err(Errno::kFAULT);
      return zero(set_buffers(task, ring, count, arg, 0));
    case IORING_UNREGISTER_BUFFERS:
      TRY(no_argument(arg, count));
      if (!res.buffers) return Err(Errno::kNXIO);
      res.buffers.reset();
      return 0;
    case IORING_REGISTER_FILES:
      if (arg == 0) return Err(Errno::kFAULT);
      return zero(set_files(task, ring, count, arg, 0));
    case IORING_UNREGISTER_FILES:
      TRY(no_argument(arg, count));
      if (!res.files) return Err(Errno::kNXIO);
      res.files.reset();
      return 0;
    case IORING_REGISTER_EVENTFD:
    case IORING_REGISTER_EVENTFD_ASYNC:
      return set_eventfd(task, ring, arg, count, op == IORING_REGISTER_EVENTFD_ASYNC);
    case IORING_UNREGISTER_EVENTFD:
      TRY(no_argument(arg, count));
      if (!ring.eventfd) return Err(Errno::kNXIO);
      ring.eventfd.reset();
      return 0;
    case IORING_REGISTER_FILES_UPDATE:
      return update_old(task, ring, arg, count);
    case IORING_REGISTER_PROBE:
      return probe(task, arg, count);
    case IORING_REGISTER_PERSONALITY:
      TRY(no_argument(arg, count));
      return add_personality(task, ring);
    case IORING_UNREGISTER_PERSONALITY:
      if (arg != 0 || res.personalities.erase(static_cast<uint16_t>(count)) == 0)
        return Err(Errno::kINVAL);
      return 0;
    case IORING_REGISTER_RESTRICTIONS:
      return set_restrictions(task, ring, arg, count);
    case IORING_REGISTER_ENABLE_RINGS:
      TRY(no_argument(arg, count));
      return enable(task, ring);
    case IORING_REGISTER_FILES2:
    case IORING_REGISTER_BUFFERS2:
      return register_any(task, ring, arg, count, op == IORING_REGISTER_FILES2);
    case IORING_REGISTER_FILES_UPDATE2:
    case IORING_REGISTER_BUFFERS_UPDATE:
      return update_any(task, ring, arg, count, op == IORING_REGISTER_FILES_UPDATE2);
    case IORING_REGISTER_RING_FDS:
    case IORING_UNREGISTER_RING_FDS:
      return set_ring_fds(task, arg, count, op == IORING_REGISTER_RING_FDS);
    case IORING_REGISTER_PBUF_RING:
      TRY(one_argument(arg, count));
      return set_buffer_ring(task, ring, arg);
    case IORING_UNREGISTER_PBUF_RING:
      TRY(one_argument(arg, count));
      return unset_buffer_ring(task, ring, arg);
    case IORING_REGISTER_SYNC_CANCEL:
      TRY(one_argument(arg, count));
      return sync_cancel(task, ring, arg);
    case IORING_REGISTER_FILE_ALLOC_RANGE:
      if (arg == 0 || count != 0) return Err(Errno::kINVAL);
      return set_alloc_range(task, ring, arg);
    default:
      return Err(Errno::kINVAL);
  }
}

}  // namespace uk::uring
