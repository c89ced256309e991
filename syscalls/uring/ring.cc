#include "syscalls/uring/ring.h"

#include <fcntl.h>
#include <poll.h>

#include <bit>

#include "absl/strings/str_format.h"
#include "syscalls/uring/request.h"
#include "ukernel/fs/anonfs/eventfd.h"
#include "ukernel/kernel.h"
#include "ukernel/vfs/anon_inode.h"

namespace uk::uring {
namespace {

constexpr uint64_t kEndWaitNs = kNsPerSec;

constexpr uint32_t kSetupFlags =
    IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_ATTACH_WQ | IORING_SETUP_R_DISABLED |
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | kSetupNoSqArray;

constexpr uint32_t kFeatures =
    IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE |
    IORING_FEAT_RW_CUR_POS | IORING_FEAT_CUR_PERSONALITY | IORING_FEAT_FAST_POLL |
    IORING_FEAT_POLL_32BITS | IORING_FEAT_EXT_ARG | IORING_FEAT_NATIVE_WORKERS |
    IORING_FEAT_RSRC_TAGS | IORING_FEAT_CQE_SKIP | IORING_FEAT_LINKED_FILE;

Result<uint32_t> entries(uint32_t wanted, uint32_t max, bool clamp) {
  if (wanted == 0) return Err(Errno::kINVAL);
  if (wanted > max) {
    if (!clamp) return Err(Errno::kINVAL);
    wanted = max;
  }
  return std::bit_ceil(wanted);
}

// What a mapping shows at an offset (IORING_OFF_*), if anything.
struct Place {
  Ref<SharedFrames> frames;
  uint64_t base = 0;  // where it begins
};
Place place_of(Ring& ring, uint64_t offset) {
  if (offset >= kOffPbufRing) {
    const uint64_t group = (offset - kOffPbufRing) >> kOffPbufShift;
    auto& groups = ring.resources.groups;
    auto it = group <= UINT16_MAX ? groups.find(static_cast<uint16_t>(group)) : groups.end();
    if (it == groups.end()) return {};
    return {it->second->frames(), kOffPbufRing + (group << kOffPbufShift)};
  }
  if (offset >= IORING_OFF_SQES) return {ring.sqes(), IORING_OFF_SQES};
  if (offset >= IORING_OFF_CQ_RING) return {ring.rings(), IORING_OFF_CQ_RING};
  return {ring.rings(), IORING_OFF_SQ_RING};
}

// One of the shared areas as something to map, by the descriptor's offsets.
class RingObject final : public MemoryObject {
 public:
  RingObject(Ref<Handle> handle, Place place)
      : place_(std::move(place)), handle_(std::move(handle)) {}
  Result<PageRef> get_page(Park& park, uint64_t index, bool for_write) override {
    if (index < first()) return Err(Errno::kFAULT);
    return place_.frames->get_page(park, index - first(), for_write);
  }
  Pfn cached_page(uint64_t index) override {
    return index < first() ? kNoPfn : place_.frames->cached_page(index - first());
  }
  Result<size_t> read(Park& park, uint64_t offset, std::span<std::byte> out) override {
    if (offset < place_.base) return size_t{0};
    return place_.frames->read(park, offset - place_.base, out);
  }
  uint64_t size() override { return place_.base + place_.frames->size(); }
  bool tracks_writes() const override { return false; }
  bool shmem() const override { return true; }
  void mapped() override { ++mappings_; }
  void unmapped() override {
    if (--mappings_ == 0) handle_.reset();
  }

 private:
  uint64_t first() const { return place_.base / kPageSize; }
  const Place place_;
  Ref<Handle> handle_;  // while there is a mapping; the address space may keep the object longer
  uint64_t mappings_ = 0;
};

}  // namespace

// ---- making and ending

Result<Ref<Ring>> Ring::create(Kernel& kernel, io_uring_params& p) {
  if ((p.flags & ~kSetupFlags) != 0) return Err(Errno::kINVAL);
  for (uint32_t r : p.resv)
    if (r != 0) return Err(Errno::kINVAL);
  const bool defer = (p.flags & IORING_SETUP_DEFER_TASKRUN) != 0;
  if (defer && (p.flags & IORING_SETUP_SINGLE_ISSUER) == 0) return Err(Errno::kINVAL);
  if ((p.flags & IORING_SETUP_TASKRUN_FLAG) != 0 && !defer &&
      (p.flags & IORING_SETUP_COOP_TASKRUN) == 0)
    return Err(Errno::kINVAL);
  const bool clamp = (p.flags & IORING_SETUP_CLAMP) != 0;
  Ref<Ring> ring(new Ring(kernel, p.flags));
  ring->sq_entries_ = p.sq_entries = TRY(entries(p.sq_entries, kMaxEntries, clamp));
  if ((p.flags & IORING_SETUP_CQSIZE) != 0) {
    p.cq_entries = TRY(entries(p.cq_entries, kMaxCqEntries, clamp));
    if (p.cq_entries < p.sq_entries) return Err(Errno::kINVAL);
  } else {
    p.cq_entries = 2 * p.sq_entries;
  }
  ring->cq_entries_ = p.cq_entries;
  uint64_t bytes = kCqesAt + uint64_t{p.cq_entries} * sizeof(Cqe);
  if ((p.flags & kSetupNoSqArray) == 0) {
    ring->array_at_ = static_cast<uint32_t>(bytes);
    bytes += uint64_t{p.sq_entries} * sizeof(uint32_t);
  }
  ring->rings_ = TRY(SharedFrames::create(*kernel.mem, bytes));
  ring->sqes_ = TRY(SharedFrames::create(*kernel.mem, uint64_t{p.sq_entries} * sizeof(Sqe)));
  SharedFrames& m = *ring->rings_;
  m.store(kSqMaskAt, p.sq_entries - 1);
  m.store(kCqMaskAt, p.cq_entries - 1);
  m.store(kSqEntriesAt, p.sq_entries);
  m.store(kCqEntriesAt, p.cq_entries);
  ring->disabled = (p.flags & IORING_SETUP_R_DISABLED) != 0;
  p.features = kFeatures;
  p.sq_off = {.head = kSqHeadAt,
              .tail = kSqTailAt,
              .ring_mask = kSqMaskAt,
              .ring_entries = kSqEntriesAt,
              .flags = kSqFlagsAt,
              .dropped = kSqDroppedAt,
              .array = ring->array_at_,
              .resv1 = 0,
              .resv2 = 0};
  p.cq_off = {.head = kCqHeadAt,
              .tail = kCqTailAt,
              .ring_mask = kCqMaskAt,
              .ring_entries = kCqEntriesAt,
              .overflow = kCqOverflowAt,
              .cqes = kCqesAt,
              .flags = kCqFlagsAt,
              .resv1 = 0,
              .resv2 = 0};
  return ring;
}

Ring::Ring(Kernel& kernel, uint32_t flags) : kernel_(kernel), flags_(flags) {}

Ring::~Ring() {
  closed_ = true;
  kernel_.workers->uncharge(overflow_.size() * kOverflowBytes);
}

void Ring::close() {
  Ref<Ring> keep(this);
  closed_ = true;
  std::vector<Ref<Request>> all;
  for (Request& r : live_) all.emplace_back(&r);
  for (const Ref<Request>& r : all) (void)r->cancel();
  deferred_.clear();
  resources = Resources();
  queue_.wake_all();
}

// ---- completions

void Ring::store_cqe(const Cqe& c) {
  rings_->store(kCqesAt + uint64_t{cq_tail_ & (cq_entries_ - 1)} * sizeof(Cqe), c);
  rings_->release(kCqTailAt, ++cq_tail_);
}

void Ring::post(uint64_t user_data, int32_t res, uint32_t flags) {
  if (closed_) return;
  Cqe c{};
  c.user_data = user_data;
  c.res = res;
  c.flags = flags;
  ++posted_;
  if (overflow_.empty() && unread() < cq_entries_) {
    store_cqe(c);
  } else if (kernel_.workers->charge(kOverflowBytes)) {
    overflow_.push_back(c);
    rings_->set_bits(kSqFlagsAt, IORING_SQ_CQ_OVERFLOW);
  } else {
    rings_->release(kCqOverflowAt, rings_->acquire(kCqOverflowAt) + 1);
  }
  if (eventfd && !(eventfd_async && inline_) &&
      (rings_->acquire(kCqFlagsAt) & IORING_CQ_EVENTFD_DISABLED) == 0)
    eventfd->signal(1);
  queue_.wake_all(POLLIN | POLLRDNORM);
}

void Ring::flush_overflow() {
  while (!overflow_.empty() && unread() < cq_entries_) {
    store_cqe(overflow_.front());
    overflow_.pop_front();
    kernel_.workers->uncharge(kOverflowBytes);
  }
  if (overflow_.empty()) rings_->clear_bits(kSqFlagsAt, IORING_SQ_CQ_OVERFLOW);
}

// ---- requests

void Ring::add(Request& r) {
  live_.push_back(*Ref<Request>(&r).release());
  r.owner_ = &TaskRings::of(r.task());
  r.owner_->requests.push_back(r);
}

void Ring::remove(Request& r) {
  if (!static_cast<ListNode<ByRing>&>(r).linked()) return;
  static_cast<ListNode<ByRing>&>(r).unlink();
  static_cast<ListNode<ByTask>&>(r).unlink();
  if (std::exchange(r.counted_, false)) --issued_;
  if (TaskRings* owner = std::exchange(r.owner_, nullptr); owner != nullptr)
    if (owner->requests.empty()) owner->idle.wake_all();
  r.unref();
}

bool Ring::may_start(const Request& r) const { return !r.drain || issued_ == 0; }

void Ring::queue(Ref<Request> r) {
  bool drains = false;
  for (Request* p = r.get(); p != nullptr; p = p->next.get()) drains |= p->flag(IOSQE_IO_DRAIN);
  r->drain = drains || drain_next_;
  drain_next_ = drains;  // what comes after it waits for it
  deferred_.push_back(std::move(r));
  inline_ = true;
  run_ready(nullptr);
  inline_ = false;
}

void Ring::run_ready(Ref<Request> r) {
  if (r) ready_.push_back(std::move(r));
  if (running_) return;
  Ref<Ring> keep(this);
  running_ = true;
  for (;;) {
    run_counted();
    if (!ready_.empty()) {
      Ref<Request> first = std::move(ready_.front());
      ready_.pop_front();
      if (!first->done()) first->issue();
    } else if (!deferred_.empty() && may_start(*deferred_.front())) {
      Ref<Request> first = std::move(deferred_.front());
      deferred_.pop_front();
      for (Request* p = first.get(); p != nullptr; p = p->next.get()) {
        if (!p->done() && !std::exchange(p->counted_, true)) ++issued_;
      }
      ready_.push_back(std::move(first));
    } else {
      break;
    }
  }
  running_ = false;
}

// Timeouts that waited for a number of completions.
void Ring::run_counted() {
  while (!counted.empty() && counted.begin()->first <= posted_) {
    Ref<Request> r(counted.begin()->second);
    counted.erase(counted.begin());
    r->complete(0);
  }
}

// ---- the file

RingFile::RingFile(Ref<Ring> ring)
    : File(make_anon_path("io_uring"), O_RDWR), handle_(make_ref<Handle>(std::move(ring))) {}

uint32_t RingFile::ready() {
  Ring& r = ring();
  uint32_t bits = 0;
  if (!r.sq_full()) bits |= POLLOUT | POLLWRNORM;
  if (r.unread() != 0 || r.overflown()) bits |= POLLIN | POLLRDNORM;
  return bits;
}

// Of what the mapping that was checked last shows: groups of buffers overlap in their offsets.
Ref<MemoryObject> RingFile::memory_object() {
  const Place p = place_of(ring(), mapping_at_);
  if (!p.frames) return nullptr;
  return make_ref<RingObject>(handle_, p);
}

// What a longer mapping shows behind the rings is SIGBUS.
Result<> RingFile::check_mapping(uint64_t offset, uint64_t, bool) {
  const Place p = place_of(ring(), offset);
  if (!p.frames || offset != p.base) return Err(Errno::kINVAL);
  mapping_at_ = offset;
  return {};
}

std::string RingFile::fdinfo() const {
  const Ring& r = *handle_->ring;
  const SharedFrames& m = *r.rings();
  return absl::StrFormat("SqHead:\t%u\nSqTail:\t%u\nCqHead:\t%u\nCqTail:\t%u\n",
                         m.acquire(kSqHeadAt), m.acquire(kSqTailAt), m.acquire(kCqHeadAt),
                         m.acquire(kCqTailAt));
}

// ---- tasks

TaskRings& TaskRings::of(Task& task) {
  if (!task.async) task.async = std::make_unique<TaskRings>();
  return static_cast<TaskRings&>(*task.async);
}

void TaskRings::end(Park& park) {
  for (Ref<File>& f : registered) f.reset();
  std::vector<Ref<Request>> all;
  for (Request& r : requests) all.emplace_back(&r);
  for (const Ref<Request>& r : all) (void)r->cancel();
  // What cannot be interrupted is host I/O, which ends.
  const Deadline until{park.reactor().now_ns() + kEndWaitNs};
  while (!requests.empty() && park.reactor().now_ns() < until.at_ns) {
    (void)idle.wait(
        park, [&] { return requests.empty(); }, WaitMode::kUninterruptible, until, "io_uring");
  }
  for (const Ref<Request>& r : all) {
    r->task_ = nullptr;
    r->owner_ = nullptr;
  }
}

}  // namespace uk::uring
