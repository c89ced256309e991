#include "syscalls/async/aio_context.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/mman.h>

#include <algorithm>

#include "syscalls/fs_io.h"
#include "ukernel/fs/anonfs/eventfd.h"
#include "ukernel/kernel.h"

namespace uk {
namespace {

// struct aio_ring of Linux, which libaio reads.
constexpr uint64_t kIdAt = 0, kSlotsAt = 4, kHeadAt = 8, kTailAt = 12, kMagicAt = 16,
                   kCompatAt = 20, kIncompatAt = 24, kHeaderLengthAt = 28, kHeaderBytes = 32;
constexpr uint32_t kMagic = 0xa10a10a1, kCompat = 1, kIncompat = 0;
constexpr uint32_t kMaxEvents = 0x10000000 / sizeof(AioEvent);
constexpr uint64_t kRequestBytes = 1024;  // about: a request and its worker
constexpr uint64_t kEndWaitNs = kNsPerSec;

std::vector<UserIovec> one_piece(uint64_t at, uint64_t bytes) {
  constexpr uint64_t kMaxRw = 0x7ffff000;
  return {UserIovec{at, std::min(bytes, kMaxRw)}};
}

}  // namespace

// ---- requests

AioRequest::AioRequest(Ref<AioContext> context, Ref<Task> worker, uint64_t user, uint64_t data)
    : context_(std::move(context)), worker_(std::move(worker)), user_(user), data_(data) {}

AioRequest::~AioRequest() {
  Waiter::unlink();
  context_->kernel_.workers->uncharge(kRequestBytes);
}

Result<Ref<AioRequest>> AioRequest::create(Task& task, Ref<AioContext> context, uint64_t user,
                                           const AioControl& c) {
  if (c.reserved != 0 || static_cast<int64_t>(c.bytes) < 0) return Err(Errno::kINVAL);
  if (!context->has_room() || !task.kernel.workers->charge(kRequestBytes))
    return Err(Errno::kAGAIN);
  Ref<AioRequest> r(new AioRequest(
      std::move(context), task.kernel.workers->make(task, /*uses_files=*/false), user, c.data));
  TRY(r->prepare(task, c));
  return r;
}

Result<> AioRequest::prepare(Task& task, const AioControl& c) {
  file_ = TRY(task.fds().get_io(c.fd));
  if ((c.flags & IOCB_FLAG_RESFD) != 0) {
    Ref<File> file = TRY(task.fds().get_io(c.resfd));
    eventfd_ = Ref<EventFd>(dynamic_cast<EventFd*>(file.get()));
    if (!eventfd_) return Err(Errno::kINVAL);
  }
  // The key that io_cancel(2) will look at.
  const uint32_t key = 0;
  TRY(UserOut<uint32_t>{{user_ + offsetof(AioControl, key)}}.put(task.park(), task.mm(), key));
  switch (c.opcode) {
    case IOCB_CMD_PREAD:
    case IOCB_CMD_PWRITE:
    case IOCB_CMD_PREADV:
    case IOCB_CMD_PWRITEV:
      return prepare_rw(task, c);
    case IOCB_CMD_FSYNC:
    case IOCB_CMD_FDSYNC:
      if (c.buf != 0 || c.offset != 0 || c.bytes != 0 || c.rw_flags != 0) return Err(Errno::kINVAL);
      kind_ = Kind::kSync;
      data_only_ = c.opcode == IOCB_CMD_FDSYNC;
      return {};
    case IOCB_CMD_POLL:
      return prepare_poll(c);
    default:  // IOCB_CMD_NOOP too, as in Linux
      return Err(Errno::kINVAL);
  }
}

Result<> AioRequest::prepare_rw(Task& task, const AioControl& c) {
  constexpr uint32_t kNowait = 0x8;  // RWF_NOWAIT
  kind_ = Kind::kRw;
  rw_.write = c.opcode == IOCB_CMD_PWRITE || c.opcode == IOCB_CMD_PWRITEV;
  rw_.flags = static_cast<int>(c.rw_flags);
  TRY(check_rw_flags(rw_.flags));
  no_wait = (c.rw_flags & kNowait) != 0;
  if (rw_.write ? !file_->can_write() : !file_->can_read()) return Err(Errno::kBADF);
  Inode* inode = file_->inode();
  if (inode != nullptr && is_type(inode->type(), S_IFDIR)) return Err(Errno::kINVAL);
  if (c.opcode == IOCB_CMD_PREADV || c.opcode == IOCB_CMD_PWRITEV) {
    rw_.iov = TRY(fetch_iovec(task.park(), task.mm(), {c.buf}, c.bytes));
  } else {
    TRY(check_range(task, c.buf, c.bytes));
    rw_.iov = one_piece(c.buf, c.bytes);
  }
  if (file_->seekable()) {
    if (c.offset < 0) return Err(Errno::kINVAL);
    rw_.offset = static_cast<uint64_t>(c.offset);
  }
  return {};
}

Result<> AioRequest::prepare_poll(const AioControl& c) {
  if (c.buf > UINT16_MAX || c.offset != 0 || c.bytes != 0 || c.rw_flags != 0)
    return Err(Errno::kINVAL);
  kind_ = Kind::kPoll;
  poll_events_ = static_cast<uint32_t>(c.buf) | POLLERR | POLLHUP;
  if (file_->poll_queue() == nullptr && (file_->ready() & poll_events_) == 0)
    return Err(Errno::kINVAL);
  return {};
}

void AioRequest::submit() {
  context_->began(*this);
  WaitQueue* queue = kind_ == Kind::kPoll ? file_->poll_queue() : nullptr;
  if (queue == nullptr) return start();
  if (const uint32_t now = file_->ready() & poll_events_; now != 0)
    return context_->complete(*this, now);
  queue->add(*this);
}

void AioRequest::start() { context_->kernel_.workers->start(worker_, Ref<AioRequest>(this)); }

// On a fiber of its own: the file may go with the request, and that not inside its queue.
void AioRequest::on_wake(uint32_t events) {
  if ((events & poll_events_) == 0) return;
  Waiter::unlink();
  start();
}

bool AioRequest::cancel_poll() {
  if (!Waiter::linked()) return false;
  Waiter::unlink();
  Ref<AioRequest> keep(this);
  context_->complete(*this, 0);
  return true;
}

Result<int64_t> AioRequest::run(Task& worker) {
  switch (kind_) {
    case Kind::kRw:
      return static_cast<int64_t>(TRY(async_rw(worker, *file_, rw_)));
    case Kind::kSync:
      TRY(file_->fsync(worker.park(), data_only_));
      return 0;
    case Kind::kPoll:
      return static_cast<int64_t>(file_->ready() & poll_events_);
  }
  UNREACHABLE();
}

void AioRequest::finished(Result<int64_t> result) {
  if (kind_ == Kind::kPoll && result && *result == 0 && !context_->dead()) {
    if (WaitQueue* queue = file_->poll_queue(); queue != nullptr) return queue->add(*this);
  }
  int64_t res = 0;
  if (result) {
    res = *result;
  } else if (is_restart(result.error())) {
    res = no_wait ? -static_cast<int64_t>(Errno::kAGAIN) : -static_cast<int64_t>(Errno::kINTR);
  } else {
    res = -static_cast<int64_t>(result.error());
  }
  context_->complete(*this, res);
}

// ---- contexts

Result<Ref<AioContext>> AioContext::create(Task& task, uint32_t count) {
  Kernel& k = task.kernel;
  // Room for what several processors may have under way, as Linux reckons.
  const uint64_t wanted = 2 * std::max<uint64_t>(count, 4 * static_cast<uint64_t>(k.options.cpus));
  if (wanted > kMaxEvents) return Err(Errno::kINVAL);
  auto& s = k.settings;
  if (count > s.aio_max_nr || s.aio_nr > s.aio_max_nr - count) return Err(Errno::kAGAIN);
  Ref<AioContext> c(new AioContext(k, count));
  s.aio_nr += count;
  c->ring_ = TRY(SharedFrames::create(*k.mem, kHeaderBytes + (wanted + 2) * sizeof(AioEvent)));
  c->slots_ = static_cast<uint32_t>((c->ring_->size() - kHeaderBytes) / sizeof(AioEvent));
  c->ring_->store<uint32_t>(kIdAt, 0);
  c->ring_->store(kSlotsAt, c->slots_);
  c->ring_->store(kMagicAt, kMagic);
  c->ring_->store(kCompatAt, kCompat);
  c->ring_->store(kIncompatAt, kIncompat);
  c->ring_->store(kHeaderLengthAt, static_cast<uint32_t>(kHeaderBytes));
  MmapRequest map;
  map.len = c->ring_->size();
  map.prot = static_cast<Prot>(PROT_READ | PROT_WRITE);
  map.shared = true;
  map.object = c->ring_;
  map.name = "/[aio] (deleted)";
  c->id_ = TRY(task.mm().mmap(task.park(), map, task.mm_limits()));
  return c;
}

AioContext::~AioContext() { kernel_.settings.aio_nr -= charged_; }

// The guest writes the head when it takes events without a call.
uint32_t AioContext::unread() const {
  const uint32_t head = ring_->acquire(kHeadAt) % slots_;
  return (tail_ + slots_ - head) % slots_;
}

std::vector<AioEvent> AioContext::take(size_t max) {
  uint32_t head = ring_->acquire(kHeadAt) % slots_;
  std::vector<AioEvent> events;
  while (head != tail_ && events.size() < max) {
    events.push_back(ring_->load<AioEvent>(kHeaderBytes + uint64_t{head} * sizeof(AioEvent)));
    head = (head + 1) % slots_;
  }
  ring_->release(kHeadAt, head);
  return events;
}

void AioContext::began(AioRequest& r) {
  live_.push_back(*Ref<AioRequest>(&r).release());
  ++live_count_;
}

void AioContext::complete(AioRequest& r, int64_t res) {
  Ref<AioRequest> keep(&r);
  static_cast<ListNode<AioLive>&>(r).unlink();
  r.unref();
  --live_count_;
  ring_->store(kHeaderBytes + uint64_t{tail_} * sizeof(AioEvent),
               AioEvent{r.data_, r.user_, res, 0});
  tail_ = (tail_ + 1) % slots_;
  ring_->release(kTailAt, tail_);
  if (r.eventfd_) r.eventfd_->signal(1);
  queue_.wake_all();
}

AioRequest* AioContext::find(uint64_t user) {
  for (AioRequest& r : live_)
    if (r.user() == user) return &r;
  return nullptr;
}

void AioContext::kill() {
  dead_ = true;
  std::vector<Ref<AioRequest>> all;
  for (AioRequest& r : live_) all.emplace_back(&r);
  for (const Ref<AioRequest>& r : all)
    if (!r->cancel_poll()) kernel_.workers->cancel(*r);
  queue_.wake_all();
}

// ---- address spaces

AioSpace& AioSpace::of(Task& task) {
  Ref<SpaceAsync>& slot = task.mm().async;
  if (!slot) slot = make_ref<AioSpace>();
  return static_cast<AioSpace&>(*slot);
}

Ref<AioContext> AioSpace::find(Task& task, uint64_t id) {
  if (!task.mm().async) return nullptr;
  auto& all = of(task).contexts;
  auto it = all.find(id);
  return it == all.end() ? nullptr : it->second;
}

void AioSpace::end(Park& park) {
  auto all = std::move(contexts);
  const Deadline until{park.reactor().now_ns() + kEndWaitNs};
  for (auto& [id, context] : all) context->kill();
  for (auto& [id, context] : all) {
    AioContext& c = *context;
    (void)c.queue().wait(
        park, [&] { return c.idle(); }, WaitMode::kUninterruptible, until, "exit_aio");
  }
}

}  // namespace uk
