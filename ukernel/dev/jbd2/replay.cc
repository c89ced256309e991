#include "ukernel/dev/jbd2/replay.h"

#include <algorithm>
#include <unordered_map>

namespace uk::jbd2 {
namespace {

// A block of data in the log.
struct Entry {
  uint64_t block = 0;
  uint32_t sequence = 0;
  uint32_t at = 0;  // in the log
  uint32_t flags = 0, checksum = 0;
};

struct Position {
  uint32_t sequence = 0;
  uint32_t at = 0;
};

class Replay {
 public:
  Replay(Park& park, BlockDevice& device, const LogPlace& place, const Super& super)
      : park_(park),
        device_(device),
        place_(place),
        super_(super),
        reader_(device, place, super.max_len) {}

  Result<Replayed> run() {
    done_.next_sequence = super_.sequence + 1;
    if (super_.start == 0) return done_;
    TRY(scan());
    TRY(apply_revokes());
    TRY(check_data());
    TRY(write());
    return done_;
  }

 private:
  uint32_t after(uint32_t at, uint32_t n) const {
    return super_.first + (at - super_.first + n) % super_.usable();
  }

  // Walks from transaction to transaction to the first that is not complete.
  Result<> scan() {
    uint32_t at = super_.start, sequence = super_.sequence;
    std::vector<Entry> pending;
    std::vector<Position> pending_revokes;
    for (uint64_t walked = 0; walked < super_.usable();) {
      std::span<const std::byte> block = TRY(reader_.get(park_, at));
      const Header header = read_header(block);
      if (header.magic != kMagic || header.sequence != sequence) break;
      uint32_t advance = 1;
      if (header.type == kDescriptor) {
        Result<std::vector<Tag>> tags = read_descriptor(super_, block);
        if (!tags) break;
        for (const Tag& tag : *tags) {
          pending.push_back({tag.block, sequence, after(at, advance++), tag.flags, tag.checksum});
        }
      } else if (header.type == kRevoke) {
        if (!read_revoke(super_, block)) break;
        pending_revokes.push_back({sequence, at});
      } else if (header.type == kCommit) {
        if (!commit_is_good(super_, block)) break;
        entries_.insert(entries_.end(), pending.begin(), pending.end());
        revokes_.insert(revokes_.end(), pending_revokes.begin(), pending_revokes.end());
        pending.clear();
        pending_revokes.clear();
        ++done_.transactions;
        ++sequence;
      } else {
        break;
      }
      at = after(at, advance);
      walked += advance;
    }
    // One more: the transaction that is not complete has left blocks of its number.
    done_.next_sequence = sequence + 1;
    return {};
  }

  // Leaves the last block of data for each place, unless that transaction or a later one revokes
  // the place.
  Result<> apply_revokes() {
    std::unordered_map<uint64_t, size_t> last;  // place -> its last entry
    const uint64_t limit = device_.size() / place_.block_size();
    for (size_t i = 0; i < entries_.size(); ++i) {
      if (entries_[i].block >= limit || place_.contains(entries_[i].block))
        return Err(Errno::kUCLEAN);
      last[entries_[i].block] = i;
    }
    for (const Position& p : revokes_) {
      std::span<const std::byte> block = TRY(reader_.get(park_, p.at));
      Result<std::vector<uint64_t>> blocks = read_revoke(super_, block);
      if (!blocks) return Err(Errno::kUCLEAN);  // it was good a moment ago
      for (uint64_t b : *blocks) {
        auto found = last.find(b);
        if (found == last.end() || later(entries_[found->second].sequence, p.sequence)) continue;
        last.erase(found);
        ++done_.revoked;
      }
    }
    std::vector<Entry> live;
    for (size_t i = 0; i < entries_.size(); ++i) {
      auto found = last.find(entries_[i].block);
      if (found != last.end() && found->second == i) live.push_back(entries_[i]);
    }
    entries_ = std::move(live);
    return {};
  }

  // The commit block came after the data was on stable storage: what is not as it was written has
  // been damaged since.
  Result<> check_data() {
    if (!super_.checksums) return {};
    for (const Entry& e : entries_) {
      std::span<const std::byte> data = TRY(reader_.get(park_, e.at));
      if (data_checksum(super_.seed(), e.sequence, data) != e.checksum) return Err(Errno::kUCLEAN);
    }
    return {};
  }

  Result<> write() {
    constexpr size_t kBatch = 256;
    const size_t size = place_.block_size();
    std::vector<std::byte> bytes(std::min(kBatch, entries_.size()) * size);
    for (size_t done = 0; done < entries_.size();) {
      const size_t n = std::min(kBatch, entries_.size() - done);
      std::vector<Bio> bios;
      for (size_t i = 0; i < n; ++i) {
        const Entry& e = entries_[done + i];
        std::span<std::byte> to = std::span(bytes).subspan(i * size, size);
        std::ranges::copy(TRY(reader_.get(park_, e.at)), to.begin());
        if ((e.flags & kTagEscaped) != 0) put_be<uint32_t>(to, 0, kMagic);
        bios.push_back(write_bio(e.block * size, to));
      }
      TRY(device_.submit(park_, bios));
      done += n;
      done_.blocks += n;
    }
    return {};
  }

  Park& park_;
  BlockDevice& device_;
  const LogPlace& place_;
  const Super& super_;
  LogReader reader_;
  Replayed done_;
  std::vector<Entry> entries_;
  std::vector<Position> revokes_;
};

}  // namespace

Result<Replayed> replay_log(Park& park, BlockDevice& device, const LogPlace& place,
                            const Super& super) {
  return Replay(park, device, place, super).run();
}

}  // namespace uk::jbd2
