#include "ukernel/dev/block/queue.h"

#include <algorithm>
#include <list>
#include <string>

#include "absl/strings/str_format.h"

namespace uk {

BlockStats::Which BlockStats::which(BlockOp op) {
  switch (op) {
    case BlockOp::kRead:
      return kReads;
    case BlockOp::kFlush:
      return kFlushes;
    case BlockOp::kDiscard:
      return kDiscards;
    case BlockOp::kWrite:
    case BlockOp::kWriteZeroes:
      break;
  }
  return kWrites;
}

void BlockStats::begin(const BlockRequest& request, uint64_t now_ns) {
  if (request.op == BlockOp::kRead) ++reads_in_flight;
  if (in_flight++ == 0) busy_since = now_ns;
}

void BlockStats::finish(const BlockRequest& request, uint64_t started_ns, uint64_t now_ns) {
  Kind& kind = kinds[which(request.op)];
  ++kind.ios;
  kind.merges += request.bios.size() - 1;
  kind.bytes += request.length;
  kind.wait_ns += now_ns - started_ns;
  if (request.op == BlockOp::kRead) --reads_in_flight;
  if (--in_flight == 0) busy_ns += now_ns - busy_since;
}

std::string BlockStats::text(uint64_t now_ns) const {
  constexpr uint64_t kNsPerMs = 1'000'000;
  auto four = [](const Kind& k) {
    return absl::StrFormat("%d %d %d %d", k.ios, k.merges, k.bytes / kSectorSize,
                           k.wait_ns / kNsPerMs);
  };
  const Kind& flushes = kinds[kFlushes];
  const uint64_t busy = busy_ns + (in_flight != 0 ? now_ns - busy_since : 0);
  uint64_t waited = 0;
  for (const Kind& k : kinds) waited += k.wait_ns;
  return absl::StrFormat("%s %s %d %d %d %s %d %d", four(kinds[kReads]), four(kinds[kWrites]),
                         in_flight, busy / kNsPerMs, waited / kNsPerMs, four(kinds[kDiscards]),
                         flushes.ios, flushes.wait_ns / kNsPerMs);
}

void BlockRequest::end(Errno error) {
  for (Bio* bio : bios) bio->error = error;
  queue_->ended();
  if (--*left_ == 0) waiter_->wake();
}

void BlockRequest::complete(int32_t res, bool) { backend_->host_done(*this, res); }

void RequestQueue::ended() {
  if (--in_flight_ == 0) drained_.wake_all();
  slots_.wake_one();
}

void RequestQueue::freeze(Park& park) {
  ++frozen_;
  (void)drained_.wait(
      park, [&] { return in_flight_ == 0; }, WaitMode::kUninterruptible, kNever, "blk_freeze");
}

void RequestQueue::thaw() {
  CHECK(frozen_ > 0);
  if (--frozen_ == 0) slots_.wake_all();
}

void RequestQueue::set_backend(BlockBackend& backend) {
  CHECK(frozen_ > 0 && in_flight_ == 0);
  backend_ = &backend;
}

namespace {

bool moves_bytes(BlockOp op) { return op == BlockOp::kRead || op == BlockOp::kWrite; }

bool can_merge(const BlockRequest& request, const Bio& bio) {
  return moves_bytes(bio.op) && request.op == bio.op && request.fua == bio.fua &&
         request.offset + request.length == bio.offset &&
         request.length + bio.length <= RequestQueue::kMaxRequestBytes &&
         request.segments.size() < RequestQueue::kMaxSegments;
}

void append(BlockRequest& request, Bio& bio) {
  request.length += bio.length;
  request.bios.push_back(&bio);
  if (!bio.bytes.empty()) request.segments.push_back({bio.bytes.data(), bio.bytes.size()});
}

}  // namespace

Result<> RequestQueue::run(Park& park, std::span<Bio> bios, std::span<BlockStats* const> stats,
                           RefCounted* payer) {
  std::vector<Bio*> sorted;
  for (Bio& bio : bios) sorted.push_back(&bio);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Bio* a, const Bio* b) { return a->offset < b->offset; });
  std::list<BlockRequest> requests;  // they must stay where they are
  for (Bio* bio : sorted) {
    if (requests.empty() || !can_merge(requests.back(), *bio)) {
      BlockRequest& fresh = requests.emplace_back();
      fresh.op = bio->op;
      fresh.fua = bio->fua;
      fresh.offset = bio->offset;
    }
    append(requests.back(), *bio);
  }
  size_t left = 1;  // ours, until all are started
  const uint64_t started = clock_.monotonic_ns();
  for (BlockRequest& request : requests) {
    request.queue_ = this;
    request.waiter_ = &park.fiber();
    request.left_ = &left;
    Result<> allowed;
    if (payment_.charge && !payment_.off)
      allowed = payment_.charge(park, dev_, request.op, request.length, payer);
    (void)slots_.wait(
        park, [&] { return frozen_ == 0 && in_flight_ < kDepth; }, WaitMode::kUninterruptible,
        kNever, "blk_queue",
        /*exclusive=*/true);
    request.backend_ = backend_;
    ++in_flight_;
    ++left;
    for (BlockStats* s : stats) s->begin(request, clock_.monotonic_ns());
    if (allowed) {
      backend_->start(park, request);
    } else {
      request.end(allowed.error());
    }
  }
  --left;
  park.fiber().set_wait_reason("blk_io");
  while (left != 0) park.suspend();
  park.fiber().set_wait_reason(nullptr);
  const uint64_t now = clock_.monotonic_ns();
  for (BlockRequest& request : requests) {
    for (BlockStats* s : stats) s->finish(request, started, now);
  }
  for (const Bio& bio : bios) {
    if (bio.error != Errno::kOk) return Err(bio.error);
  }
  return {};
}

}  // namespace uk
