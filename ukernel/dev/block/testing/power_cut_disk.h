// A disk in memory whose power can fail: what was written since the last flush is then there in
// part, sector by sector, as chance will have it. And a disk of its own for tests that need no
// registry.
//
// Ownership: a test owns the storage, which outlives the backend on it.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "ukernel/dev/block/registry.h"

namespace uk {

struct PowerCutStorage {
  explicit PowerCutStorage(std::vector<std::byte> image) : seen(image), stable(std::move(image)) {}
  struct Piece {
    uint64_t offset = 0;
    std::vector<std::byte> bytes;
  };

  std::vector<std::byte> seen;    // what reads see
  std::vector<std::byte> stable;  // what was there at the last flush
  std::vector<Piece> unflushed;   // sectors, in the order of writing
  // Requests that change or flush until the power fails; after that everything is kIO. -1: never.
  int64_t until_cut = -1;
  uint64_t reads = 0, writes = 0, flushes = 0;
  bool off = false;

  // What a cut now leaves on the disk.
  std::vector<std::byte> after_cut(std::mt19937& random) const {
    std::vector<std::byte> image = stable;
    const uint32_t mode = random() % 4;
    const size_t prefix = unflushed.empty() ? 0 : random() % (unflushed.size() + 1);
    for (size_t i = 0; i < unflushed.size(); ++i) {
      bool kept = false;
      switch (mode) {
        case 0:
          kept = i < prefix;
          break;
        case 1:
          kept = random() % 2 == 0;
          break;
        case 2:
          kept = random() % 16 != 0;
          break;
        default:
          kept = random() % 16 == 0;
      }
      const Piece& p = unflushed[i];
      if (kept) std::memcpy(&image[p.offset], p.bytes.data(), p.bytes.size());
    }
    return image;
  }
};

class PowerCutDisk final : public BlockBackend {
 public:
  PowerCutDisk(PowerCutStorage& storage, bool yields) : s_(storage), yields_(yields) {}

  void start(Park& park, BlockRequest& request) override {
    if (yields_) park.yield();
    request.end(serve(request));
  }
  Result<uint64_t> size() override { return s_.seen.size(); }
  bool can_discard() const override { return false; }

 private:
  Errno serve(const BlockRequest& request) {
    if (request.op == BlockOp::kRead) {
      ++s_.reads;
      if (s_.off) return Errno::kIO;
      each(request, [&](uint64_t at, std::span<std::byte> bytes) {
        std::memcpy(bytes.data(), &s_.seen[at], bytes.size());
      });
      return Errno::kOk;
    }
    if (s_.off) return Errno::kIO;
    const bool last = s_.until_cut == 0;
    if (s_.until_cut > 0) --s_.until_cut;
    if (request.op == BlockOp::kFlush) {
      if (last) return power_fails();
      ++s_.flushes;
      for (const PowerCutStorage::Piece& p : s_.unflushed)
        std::memcpy(&s_.stable[p.offset], p.bytes.data(), p.bytes.size());
      s_.unflushed.clear();
      return Errno::kOk;
    }
    EXPECT_EQ(BlockOp::kWrite, request.op);
    ++s_.writes;
    each(request, [&](uint64_t at, std::span<std::byte> bytes) { put(at, bytes); });
    if (last) return power_fails();
    if (request.fua) each(request, [&](uint64_t at, auto bytes) { make_stable(at, bytes.size()); });
    return Errno::kOk;
  }

  Errno power_fails() {
    s_.off = true;
    return Errno::kIO;
  }

  template <class F>
  void each(const BlockRequest& request, F f) {
    uint64_t at = request.offset;
    for (const struct iovec& v : request.segments) {
      std::span bytes(static_cast<std::byte*>(v.iov_base), v.iov_len);
      CHECK(at + bytes.size() <= s_.seen.size());
      f(at, bytes);
      at += bytes.size();
    }
  }

  void put(uint64_t at, std::span<const std::byte> bytes) {
    std::memcpy(&s_.seen[at], bytes.data(), bytes.size());
    for (size_t i = 0; i < bytes.size(); i += kSectorSize) {
      auto sector = bytes.subspan(i, kSectorSize);
      s_.unflushed.push_back({at + i, {sector.begin(), sector.end()}});
    }
  }

  void make_stable(uint64_t at, size_t n) {
    std::memcpy(&s_.stable[at], &s_.seen[at], n);
    std::erase_if(s_.unflushed, [&](const PowerCutStorage::Piece& p) {
      return p.offset >= at && p.offset - at < n;
    });
  }

  PowerCutStorage& s_;
  const bool yields_;
};

// A disk that no registry knows.
inline Ref<Disk> make_test_disk(BlockDevices& owner, std::unique_ptr<BlockBackend> backend,
                                bool read_only = false) {
  Disk::Options options;
  options.name = "test";
  options.major = BlockDevices::kHostDiskMajor;
  options.read_only = read_only;
  options.partitions = false;
  return make_ref<Disk>(owner, std::move(backend), std::move(options));
}
inline Ref<Disk> make_test_disk(BlockDevices& owner, PowerCutStorage& storage,
                                bool yields = false) {
  return make_test_disk(owner, std::make_unique<PowerCutDisk>(storage, yields));
}

}  // namespace uk
