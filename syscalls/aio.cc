#include "syscalls/aio.h"

#include "syscalls/fs_common.h"
#include "syscalls/wait_mask.h"

namespace uk {
namespace {

constexpr uint64_t kMaxTimeoutNs = 1ull << 62;

Result<Deadline> fetch_deadline(Task& task, UserIn<UserTimespec> timeout) {
  if (!timeout) return kNever;
  const UserTimespec t = TRY(timeout.get(task.park(), task.mm()));
  if (t.sec < 0 || t.nsec < 0) return Deadline{0};
  const uint64_t sec = std::min<uint64_t>(static_cast<uint64_t>(t.sec), kMaxTimeoutNs / kNsPerSec);
  return Deadline{task.kernel.clock.monotonic_ns() +
                  std::min(sec * kNsPerSec + static_cast<uint64_t>(t.nsec), kMaxTimeoutNs)};
}

// Events as far as they go to the guest: those are taken out of the ring.
Result<int64_t> read_events(Task& task, AioContext& context, int64_t min, int64_t count,
                            UserOut<AioEvent> out, Deadline deadline) {
  Park& park = task.park();
  int64_t done = 0;
  for (;;) {
    const auto events =
        context.take(static_cast<size_t>(std::min<int64_t>(count - done, context.capacity())));
    UserOut<AioEvent> at{{out.addr + static_cast<uint64_t>(done) * sizeof(AioEvent)}};
    if (auto put = at.put_array(park, task.mm(), events); !put)
      return done != 0 ? Result<int64_t>(done) : Err(put.error());
    done += static_cast<int64_t>(events.size());
    if (done >= min || done == count) return done;
    const auto wanted = static_cast<uint64_t>(std::min<int64_t>(min - done, context.capacity()));
    Result<> r = context.queue().wait(
        park, [&] { return context.unread() >= wanted || context.dead(); },
        WaitMode::kInterruptible, deadline, "read_events");
    if (context.dead()) return done != 0 ? Result<int64_t>(done) : Err(Errno::kINVAL);
    if (r) continue;
    // The end of time, or a signal: what has come meanwhile is still taken.
    min = 0;
    if (is_restart(r.error()) && done == 0 && context.unread() == 0) return Err(Errno::kINTR);
  }
}

Result<int64_t> get_events(Task& task, uint64_t id, int64_t min, int64_t count,
                           UserOut<AioEvent> events, Deadline deadline) {
  Ref<AioContext> context = AioSpace::find(task, id);
  if (!context || min < 0 || min > count) return Err(Errno::kINVAL);
  return read_events(task, *context, min, count, events, deadline);
}

Result<> submit_one(Task& task, Ref<AioContext> context, uint64_t user) {
  const AioControl c = TRY(UserIn<AioControl>{{user}}.get(task.park(), task.mm()));
  Ref<AioRequest> request = TRY(AioRequest::create(task, context, user, c));
  // Copying from the guest may have taken time.
  if (context->dead()) return Err(Errno::kINVAL);
  if (!context->has_room()) return Err(Errno::kAGAIN);
  request->submit();
  return {};
}

}  // namespace

Result<int64_t> sys_io_setup(Task& task, uint32_t count, UserInOut<uint64_t> id) {
  if (TRY(id.get(task.park(), task.mm())) != 0 || count == 0) return Err(Errno::kINVAL);
  Ref<AioContext> context = TRY(AioContext::create(task, count));
  if (auto put = id.put(task.park(), task.mm(), context->id()); !put) {
    (void)task.mm().munmap(task.park(), context->id(), context->map_bytes());
    return Err(put.error());
  }
  AioSpace::of(task).contexts[context->id()] = context;
  return 0;
}

Result<int64_t> sys_io_destroy(Task& task, Hex id) {
  Ref<AioContext> context = AioSpace::find(task, id);
  if (!context) return Err(Errno::kINVAL);
  AioSpace::of(task).contexts.erase(id);
  context->kill();
  TRY(task.mm().munmap(task.park(), context->id(), context->map_bytes()));
  // Every wait of what is under way has been cut short; only host I/O is left.
  (void)context->queue().wait(
      task.park(), [&] { return context->idle(); }, WaitMode::kKillable, kNever, "io_destroy");
  return 0;
}

Result<int64_t> sys_io_submit(Task& task, Hex id, int64_t count, UserIn<uint64_t> iocbs) {
  if (count < 0) return Err(Errno::kINVAL);
  Ref<AioContext> context = AioSpace::find(task, id);
  if (!context) return Err(Errno::kINVAL);
  count = std::min<int64_t>(count, context->capacity());
  int64_t done = 0;
  for (; done < count; ++done) {
    auto step = [&]() -> Result<> {
      const uint64_t user = TRY(iocbs.get(task.park(), task.mm(), static_cast<size_t>(done)));
      return submit_one(task, context, user);
    };
    if (auto r = step(); !r) {
      if (done == 0) return Err(r.error());
      break;
    }
  }
  task.park().yield();  // what can be done at once has been when the call returns
  return done;
}

Result<int64_t> sys_io_getevents(Task& task, Hex id, int64_t min, int64_t count,
                                 UserOut<AioEvent> events, UserIn<UserTimespec> timeout) {
  const Deadline deadline = TRY(fetch_deadline(task, timeout));
  return get_events(task, id, min, count, events, deadline);
}

Result<int64_t> sys_io_pgetevents(Task& task, Hex id, int64_t min, int64_t count,
                                  UserOut<AioEvent> events, UserIn<UserTimespec> timeout,
                                  UserIn<AioSigset> mask) {
  const Deadline deadline = TRY(fetch_deadline(task, timeout));
  AioSigset set{};
  if (mask) set = TRY(mask.get(task.park(), task.mm()));
  const bool masked = TRY(set_wait_mask(task, UserIn<uint64_t>{{set.mask}}, set.size));
  Result<int64_t> r = get_events(task, id, min, count, events, deadline);
  const bool interrupted = !r && r.error() == Errno::kINTR;
  end_wait_mask(task, masked, interrupted);
  if (interrupted) return Err(Errno::kRestartNoHand);
  return r;
}

Result<int64_t> sys_io_cancel(Task& task, Hex id, UserIn<AioControl> iocb, UserAddr) {
  UserIn<uint32_t> key{{iocb.addr + offsetof(AioControl, key)}};
  if (TRY(key.get(task.park(), task.mm())) != 0) return Err(Errno::kINVAL);
  Ref<AioContext> context = AioSpace::find(task, id);
  if (!context) return Err(Errno::kINVAL);
  // As in Linux, only what waits for a file to be ready can be cancelled; its event follows.
  AioRequest* r = context->find(iocb.addr);
  if (r == nullptr || !r->cancel_poll()) return Err(Errno::kINVAL);
  return Err(Errno::kINPROGRESS);
}

}  // namespace uk
