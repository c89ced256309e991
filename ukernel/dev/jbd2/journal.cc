#include "ukernel/dev/jbd2/journal.h"

#include <algorithm>

#include "base/check.h"
#include "ukernel/dev/block/registry.h"

namespace uk::jbd2 {
namespace {

constexpr size_t kMaxBioBytes = RequestQueue::kMaxRequestBytes;

// Sorted, and without overlaps.
std::vector<FreedBlocks> merged(std::vector<FreedBlocks> ranges) {
  std::ranges::sort(ranges, {}, &FreedBlocks::first);
  std::vector<FreedBlocks> result;
  for (FreedBlocks r : ranges) {
    r.count = std::min(r.count, UINT64_MAX - r.first);
    if (!result.empty() && r.first - result.back().first <= result.back().count) {
      FreedBlocks& last = result.back();
      last.count = std::max(last.count, r.first + r.count - last.first);
    } else {
      result.push_back(r);
    }
  }
  return result;
}

uint32_t pieces(size_t n, size_t each) { return static_cast<uint32_t>((n + each - 1) / each); }

}  // namespace

// Waits until all who came before are done. Taken before the first suspension, it is the order of
// the calls.
class Journal::Turn {
 public:
  explicit Turn(Journal& journal) : journal_(journal), mine_(journal.next_turn_++) {}
  ~Turn() {
    ++journal_.turn_;
    journal_.turns_.wake_all();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  void wait(Park& park) {
    (void)journal_.turns_.wait(
        park, [&] { return journal_.turn_ == mine_; }, WaitMode::kUninterruptible, kNever,
        "jbd2_commit");
  }

 private:
  Journal& journal_;
  const uint64_t mine_;
};

struct Journal::Transaction {
  std::vector<uint64_t> places;   // block numbers
  std::vector<std::byte> copies;  // of their contents, as many
  std::vector<FreedBlocks> freed;
  std::vector<uint64_t> revoked;
};

Result<std::unique_ptr<Journal>> Journal::open(Park& park, Ref<BlockDevice> device,
                                               LogPlace place) {
  TRY(place.check(*device));
  std::vector<std::byte> block(place.block_size());
  TRY(device->submit(park, read_bio(place.run_at(0).offset, block)));
  Super super = TRY(Super::parse(block, place.block_size(), place.blocks()));
  return std::unique_ptr<Journal>(
      new Journal(std::move(device), std::move(place), std::move(super)));
}

int Journal::error_of_linux() const {
  const auto error = static_cast<int32_t>(super_.error);
  return error < 0 ? -error : error;
}

Result<Replayed> Journal::replay(Park& park) {
  CHECK(!started_);
  if (needs_replay() && device_->read_only()) return Err(Errno::kROFS);
  Replayed done = TRY(replay_log(park, *device_, place_, super_));
  if (needs_replay()) {
    TRY(device_->flush(park));
    super_.start = 0;
    super_.sequence = done.next_sequence;
    TRY(device_->submit(park, super_bio(/*fua=*/true)));
  }
  return done;
}

Result<> Journal::discard(Park& park) {
  CHECK(!started_);
  if (!needs_replay()) return {};
  if (device_->read_only()) return Err(Errno::kROFS);
  super_.start = 0;
  super_.sequence += super_.usable() + 1;  // none of the log's transactions has come so far
  return device_->submit(park, super_bio(/*fua=*/true));
}

Result<> Journal::start(Park& park) {
  CHECK(!started_ && !needs_replay());
  super_.use_features(device_->size() / place_.block_size() > UINT32_MAX);
  super_.sequence += 1;  // of the last there may be blocks in the log
  TRY(device_->submit(park, super_bio(/*fua=*/true)));
  sequence_ = super_.sequence;
  head_ = super_.first;
  started_ = true;
  return {};
}

size_t Journal::max_blocks() const {
  // A commit block, and a block that stays free; a descriptor for each group of blocks.
  const size_t room = super_.usable() - 2, group = tags_per_block(place_.block_size());
  return room - pieces(room, group + 1);
}

Bio Journal::super_bio(bool fua) {
  return write_bio(place_.run_at(0).offset, super_.encode(), fua);
}

void Journal::append(std::vector<Bio>& bios, uint32_t at, std::span<const std::byte> bytes) const {
  const size_t size = place_.block_size();
  while (!bytes.empty()) {
    const LogPlace::Run run = place_.run_at(at);
    const size_t blocks = std::min<size_t>(
        {run.count, super_.max_len - at, kMaxBioBytes / size, bytes.size() / size});
    bios.push_back(write_bio(run.offset, bytes.first(blocks * size)));
    bytes = bytes.subspan(blocks * size);
    at = after(at, static_cast<uint32_t>(blocks));
  }
}

Result<> Journal::check(std::span<const CommitBlock> blocks) const {
  const uint32_t size = place_.block_size();
  std::unordered_set<uint64_t> seen;
  for (const CommitBlock& b : blocks) {
    if (!seen.insert(b.offset).second) return Err(Errno::kINVAL);
    if (b.bytes.size() != size || b.offset % size != 0) return Err(Errno::kINVAL);
    if (b.offset > device_->size() || size > device_->size() - b.offset) return Err(Errno::kINVAL);
    if (place_.contains(b.offset / size)) return Err(Errno::kINVAL);
  }
  return {};
}

Result<> Journal::commit(Park& park, std::span<const CommitBlock> blocks,
                         std::span<const FreedBlocks> freed) {
  CHECK(started_);
  TRY(check(blocks));
  Transaction t;
  t.copies.reserve(blocks.size() * place_.block_size());
  for (const CommitBlock& b : blocks) {
    t.places.push_back(b.offset / place_.block_size());
    t.copies.insert(t.copies.end(), b.bytes.begin(), b.bytes.end());
  }
  t.freed.assign(freed.begin(), freed.end());
  Turn turn(*this);
  turn.wait(park);
  if (aborted_) return Err(Errno::kROFS);
  Result<> r = commit_in_turn(park, t);
  if (!r && r.error() != Errno::kNOSPC) aborted_ = true;
  return r;
}

// Of the blocks that are freed, those that are in the log, where a replay would find them, and do
// not have new contents in the same transaction.
std::vector<uint64_t> Journal::to_revoke(const Transaction& t) const {
  const std::vector<FreedBlocks> freed = merged(t.freed);
  const std::unordered_set<uint64_t> written(t.places.begin(), t.places.end());
  std::vector<uint64_t> result;
  if (freed.empty()) return result;
  for (uint64_t b : logged_) {
    auto after = std::ranges::upper_bound(freed, b, {}, &FreedBlocks::first);
    if (after == freed.begin() || written.contains(b)) continue;
    const FreedBlocks& range = *std::prev(after);
    if (b - range.first < range.count) result.push_back(b);
  }
  std::ranges::sort(result);
  return result;
}

Result<> Journal::commit_in_turn(Park& park, Transaction& t) {
  t.revoked = to_revoke(t);
  if (t.places.empty() && t.revoked.empty()) return device_->flush(park);

  const size_t size = place_.block_size();
  auto revoke_blocks = [&] { return pieces(t.revoked.size(), revokes_per_block(super_, size)); };
  auto needed = [&] {
    return uint64_t{revoke_blocks()} + pieces(t.places.size(), tags_per_block(size)) +
           t.places.size() + 1;
  };
  if (needed() > super_.usable() - 1 - used_) {
    if (needed() - revoke_blocks() > super_.usable() - 1) return Err(Errno::kNOSPC);
    TRY(checkpoint_in_turn(park));
    t.revoked.clear();  // nothing is in the log any more
    if (t.places.empty()) return {};
  }
  TRY(log(park, t, static_cast<uint32_t>(needed())));

  std::vector<Bio> home;
  for (size_t i = 0; i < t.places.size(); ++i) {
    home.push_back(write_bio(t.places[i] * size, std::span(t.copies).subspan(i * size, size)));
  }
  return home.empty() ? Result<>() : device_->submit(park, home);
}

// The log's part: when it returns, the transaction is committed.
Result<> Journal::log(Park& park, Transaction& t, uint32_t blocks) {
  const size_t size = place_.block_size();
  std::vector<Bio> bios;
  std::deque<std::vector<std::byte>> own;  // blocks made here, until they are written
  auto fresh = [&]() -> std::span<std::byte> { return own.emplace_back(size); };
  uint32_t at = head_;
  if (used_ == 0) {
    super_.start = head_;
    super_.sequence = sequence_;
    bios.push_back(super_bio(/*fua=*/false));
  }
  for (std::span<const uint64_t> rest = t.revoked; !rest.empty();) {
    const size_t n = std::min(rest.size(), revokes_per_block(super_, size));
    std::span<std::byte> block = fresh();
    write_revoke(super_, sequence_, rest.first(n), block);
    append(bios, at, block);
    at = after(at, 1);
    rest = rest.subspan(n);
  }
  std::vector<size_t> escaped;
  for (size_t done = 0; done < t.places.size();) {
    const size_t n = std::min(t.places.size() - done, tags_per_block(size));
    std::vector<Tag> tags;
    for (size_t i = done; i < done + n; ++i) {
      std::span<std::byte> data = std::span(t.copies).subspan(i * size, size);
      const bool escape = get_be<uint32_t>(data, 0) == kMagic;
      if (escape) {
        put_be<uint32_t>(data, 0, 0);
        escaped.push_back(i);
      }
      tags.push_back(
          {t.places[i], escape ? kTagEscaped : 0, data_checksum(super_.seed(), sequence_, data)});
    }
    std::span<std::byte> block = fresh();
    write_descriptor(super_, sequence_, tags, block);
    append(bios, at, block);
    append(bios, after(at, 1), std::span(t.copies).subspan(done * size, n * size));
    at = after(at, static_cast<uint32_t>(n) + 1);
    done += n;
  }
  TRY(device_->submit(park, bios));
  TRY(device_->flush(park));

  std::span<std::byte> commit = fresh();
  write_commit(super_, sequence_, device_->disk().owner().vfs.clock().realtime_ns(), commit);
  TRY(device_->submit(park, write_bio(place_.run_at(at).offset, commit, /*fua=*/true)));

  for (size_t i : escaped) put_be<uint32_t>(std::span(t.copies).subspan(i * size, size), 0, kMagic);
  CHECK(after(head_, blocks) == after(at, 1));
  head_ = after(at, 1);
  used_ += blocks;
  ++sequence_;
  for (uint64_t b : t.revoked) logged_.erase(b);
  logged_.insert(t.places.begin(), t.places.end());
  ++stats_.commits;
  stats_.blocks += t.places.size();
  stats_.revokes += t.revoked.size();
  return {};
}

Result<> Journal::checkpoint(Park& park) {
  CHECK(started_);
  Turn turn(*this);
  turn.wait(park);
  if (aborted_) return Err(Errno::kROFS);
  Result<> r = checkpoint_in_turn(park);
  if (!r) aborted_ = true;
  return r;
}

// The order matters: places first, then the superblock that says so, and only then may the log be
// written over, or an old transaction would be replayed and its successors not.
Result<> Journal::checkpoint_in_turn(Park& park) {
  TRY(device_->flush(park));
  if (used_ == 0) return {};
  super_.start = 0;
  super_.sequence = sequence_;
  TRY(device_->submit(park, super_bio(/*fua=*/true)));
  used_ = 0;
  logged_.clear();
  ++stats_.checkpoints;
  return {};
}

}  // namespace uk::jbd2
