#include "ukernel/dev/block/mirror.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "ukernel/dev/block/queue.h"
#include "ukernel/dev/block/ranges.h"
#include "ukernel/dev/block/registry.h"
#include "ukernel/sched/reactor.h"

namespace uk {
namespace {

constexpr uint64_t kChunk = RequestQueue::kMaxRequestBytes;

struct FreeAligned {
  void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{4096}); }
};
// Memory that the host's O_DIRECT takes.
using Aligned = std::unique_ptr<std::byte[], FreeAligned>;

Errno errno_of(const Result<>& r) { return r ? Errno::kOk : r.error(); }

bool all_zero(std::span<const std::byte> bytes) {
  return bytes.empty() || (bytes[0] == std::byte{0} &&
                           std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

}  // namespace

class Mirror::MirrorDisk final : public BlockBackend {
 public:
  MirrorDisk(Reactor& reactor, std::unique_ptr<BlockBackend> to, bool fresh)
      : reactor_(reactor), to_(std::move(to)), fresh_(fresh) {}

  // Begins: with storage of so many bytes.
  void begin(std::unique_ptr<BlockBackend> from, uint64_t bytes) {
    from_ = std::move(from);
    bytes_ = bytes;
    from_queue_ = std::make_unique<RequestQueue>(*from_, reactor_.clock(), 0, nobody_pays_);
    to_queue_ = std::make_unique<RequestQueue>(*to_, reactor_.clock(), 0, nobody_pays_);
    const size_t chunks = (bytes + kChunk - 1) / kChunk;
    to_do_.assign(chunks, true);
    untouched_.assign(chunks, fresh_);
    left_ = chunks;
  }
  Result<uint64_t> target_size() { return to_->size(); }
  std::unique_ptr<BlockBackend> take(bool the_new_one) {
    return std::move(the_new_one ? to_ : from_);
  }

  // Changes are made on a fiber each, as they wait for two storages.
  void start(Park& park, BlockRequest& request) override {
    if (request.op == BlockOp::kRead) return from_->start(park, request);
    reactor_.spawn("mirror", [this, &request](Park& own) {
      const Errno e = request.op == BlockOp::kFlush ? flush_both(own) : change(own, request);
      request.end(e);  // we may be gone
    });
  }
  void host_done(BlockRequest& request, int32_t res) override { from_->host_done(request, res); }
  Result<uint64_t> size() override { return bytes_; }
  bool can_discard() const override { return from_->can_discard(); }
  std::string where() const override { return from_->where(); }
  Result<int64_t> ioctl(Park& park, BlockFile& by, IoctlUser& user, uint32_t cmd,
                        uint64_t arg) override {
    return from_->ioctl(park, by, user, cmd, arg);
  }
  std::vector<std::pair<std::string, std::string>> attributes() const override {
    return from_->attributes();
  }
  void abandon() override { from_->abandon(); }

  // Copies a chunk that is marked. The error is the old storage's; see error() for the new one's.
  Result<> copy_next(Park& park, std::span<std::byte> buffer) {
    while (!to_do_[next_]) next_ = (next_ + 1) % to_do_.size();
    const size_t chunk = next_;
    const uint64_t at = chunk * kChunk;
    std::span<std::byte> bytes = buffer.first(std::min(kChunk, bytes_ - at));
    HeldRange held(park, ranges_, at, bytes.size());
    if (!to_do_[chunk]) return {};
    TRY(from_queue_->run(park, one(read_bio(at, bytes)), {}));
    mark(at, bytes.size(), false);
    if (all_zero(bytes)) {
      if (untouched_[chunk]) return {};
      Bio zeroes;
      zeroes.op = BlockOp::kWriteZeroes;
      zeroes.offset = at;
      zeroes.length = bytes.size();
      Errno e = errno_of(to_queue_->run(park, one(zeroes), {}));
      if (e != Errno::kOPNOTSUPP) return fail(e), Result<>();
    }
    untouched_[chunk] = false;
    fail(errno_of(to_queue_->run(park, one(write_bio(at, bytes)), {})));
    return {};
  }
  void flush_new(Park& park) {
    Bio flush;
    flush.op = BlockOp::kFlush;
    fail(errno_of(to_queue_->run(park, one(flush), {})));
  }
  size_t left() const { return left_; }
  Errno error() const { return error_; }  // of the new storage

 private:
  std::span<Bio> one(const Bio& bio) { return {&(one_ = bio), 1}; }  // the copier's alone

  void fail(Errno e) {
    if (e != Errno::kOk && error_ == Errno::kOk) error_ = e;
  }
  static uint64_t last_chunk(uint64_t offset, uint64_t length) {
    return (offset + std::max<uint64_t>(length, 1) - 1) / kChunk;
  }
  void mark(uint64_t offset, uint64_t length, bool to_do) {
    for (uint64_t i = offset / kChunk; i <= last_chunk(offset, length); ++i) {
      if (to_do_[i] == to_do) continue;
      to_do_[i] = to_do;
      left_ += to_do ? 1 : size_t(-1);
    }
  }
  bool all_marked(uint64_t offset, uint64_t length) const {
    for (uint64_t i = offset / kChunk; i <= last_chunk(offset, length); ++i) {
      if (!to_do_[i]) return false;
    }
    return true;
  }

  static Errno pass_on(Park& park, RequestQueue& to, BlockOp op, const BlockRequest& request) {
    std::vector<Bio> bios;
    Bio bio;
    bio.op = op;
    bio.fua = request.fua;
    bio.offset = request.offset;
    if (op == BlockOp::kWrite) {
      for (const struct iovec& v : request.segments) {
        bio.bytes = {static_cast<std::byte*>(v.iov_base), v.iov_len};
        bio.length = v.iov_len;
        bios.push_back(bio);
        bio.offset += v.iov_len;
      }
    } else {
      bio.length = request.length;
      bios.push_back(bio);
    }
    return errno_of(to.run(park, bios, {}));
  }

  // What a discarded range reads as is the storage's choice; here both sides must make the same
  // one, so the old one zeroes, and of the new one discarding is known to.
  Errno change(Park& park, const BlockRequest& request) {
    const bool discard = request.op == BlockOp::kDiscard;
    HeldRange held(park, ranges_, request.offset, request.length);
    const Errno e =
        pass_on(park, *from_queue_, discard ? BlockOp::kWriteZeroes : request.op, request);
    if (e != Errno::kOk) return mark(request.offset, request.length, true), e;
    if (error_ != Errno::kOk || all_marked(request.offset, request.length)) return Errno::kOk;
    for (uint64_t i = request.offset / kChunk; i <= last_chunk(request.offset, request.length); ++i)
      untouched_[i] = false;
    const Errno other = pass_on(park, *to_queue_, request.op, request);
    if (other == Errno::kOPNOTSUPP) {
      mark(request.offset, request.length, true);
    } else {
      fail(other);
    }
    return Errno::kOk;
  }

  Errno flush_both(Park& park) {
    Bio flush;
    flush.op = BlockOp::kFlush;
    const Errno e = errno_of(from_queue_->run(park, {&flush, 1}, {}));
    if (e != Errno::kOk || error_ != Errno::kOk) return e;
    fail(errno_of(to_queue_->run(park, {&flush, 1}, {})));
    return Errno::kOk;
  }

  Reactor& reactor_;
  const BlockPayment nobody_pays_;  // the disk's queue has asked
  std::unique_ptr<BlockBackend> from_, to_;
  const bool fresh_;
  uint64_t bytes_ = 0;
  std::unique_ptr<RequestQueue> from_queue_, to_queue_;
  Ranges ranges_;
  std::vector<bool> to_do_;      // by chunk: is to be copied
  std::vector<bool> untouched_;  // by chunk: zeroes on the new storage
  size_t left_ = 0;              // of to_do_
  size_t next_ = 0;
  Bio one_;
  Errno error_ = Errno::kOk;
};

Mirror::Mirror(Reactor& reactor, Ref<Disk> disk, std::unique_ptr<BlockBackend> to, bool fresh)
    : reactor_(reactor),
      disk_(std::move(disk)),
      made_(std::make_unique<MirrorDisk>(reactor, std::move(to), fresh)) {}

Mirror::~Mirror() { CHECK(mirror_ == nullptr); }

uint64_t Mirror::done_bytes() const {
  const uint64_t left = mirror_ == nullptr ? 0 : mirror_->left() * kChunk;
  return bytes_ - std::min(bytes_, left);
}

Result<> Mirror::copy(Park& park, bool& frozen) {
  Aligned memory(static_cast<std::byte*>(::operator new[](kChunk, std::align_val_t{4096})));
  const std::span buffer(memory.get(), kChunk);
  auto round = [&]() -> Result<> {
    while (mirror_->left() != 0 && mirror_->error() == Errno::kOk) {
      if (cancelled_) return Err(Errno::kCANCELED);
      if (Result<> r = mirror_->copy_next(park, buffer); !r) return source_failed_ = true, r;
    }
    return {};
  };
  TRY(round());
  // Most of what is to be flushed is, before anybody has to wait for it.
  mirror_->flush_new(park);
  disk_->queue().freeze(park);
  frozen = true;
  TRY(round());
  if (mirror_->error() == Errno::kOk) mirror_->flush_new(park);
  return {};
}

Result<> Mirror::run(Park& park) {
  CHECK(made_ != nullptr);
  if (disk_->mirror != nullptr) return Err(Errno::kBUSY);
  disk_->mirror = this;
  Result<> r = copy_and_exchange(park);
  disk_->mirror = nullptr;
  disk_->mirror_ended.wake_all();
  return r;
}

Result<> Mirror::copy_and_exchange(Park& park) {
  RequestQueue& queue = disk_->queue();
  queue.freeze(park);
  auto prepare = [&]() -> Result<> {
    if (disk_->removed()) return Err(Errno::kNODEV);
    bytes_ = disk_->whole().size();
    if (bytes_ > kMaxBytes) return Err(Errno::kFBIG);
    const uint64_t there = TRY(made_->target_size());
    return bytes_ != 0 && there == bytes_ ? Result<>() : Err(Errno::kINVAL);
  };
  if (Result<> r = prepare(); !r) return queue.thaw(), r;
  mirror_ = made_.get();
  mirror_->begin(disk_->exchange_backend(std::move(made_)), bytes_);
  queue.thaw();

  bool frozen = false;
  Result<> r = copy(park, frozen);
  if (!frozen) queue.freeze(park);
  if (r && mirror_->error() != Errno::kOk) r = Err(mirror_->error());
  if (r && disk_->removed()) r = Err(Errno::kNODEV);
  auto kept = mirror_->take(/*the_new_one=*/r.has_value());
  mirror_ = nullptr;
  auto given_up = disk_->exchange_backend(std::move(kept));
  queue.thaw();
  return r;
}

}  // namespace uk
