// Mirrors: after random writes, zeroings and discards beside the copy both sides are the same, byte
// by byte; what was flushed is stable on the new one; and no failure of it reaches the disk.
#include "ukernel/dev/block/mirror.h"

#include <gtest/gtest.h>

#include <random>

#include "ukernel/dev/block/registry.h"
#include "ukernel/dev/block/testing/power_cut_disk.h"
#include "ukernel/vfs/testing/test_kit.h"

namespace uk {
namespace {

constexpr uint64_t kBytes = 6ull << 20 | 512 * 7;  // the last chunk is a part of one

struct Storage {
  std::vector<std::byte> bytes, stable;
  int64_t reads_left = -1, changes_left = -1, flushes_left = -1;  // until they fail; -1: never
  Errno error = Errno::kIO;
  bool failing_once = false;  // only one fails
  bool can_zero = true;
  bool alive = false;  // it has its backend
  uint64_t written = 0;
  explicit Storage(std::byte value = {}, uint64_t n = kBytes) : bytes(n, value), stable(bytes) {}

  bool fails(int64_t& left) {
    if (left < 0) return false;
    if (left > 0) return --left, false;
    if (failing_once) left = -1;
    return true;
  }
};

// Suspends within each request now and then, so that others come between.
class TestDisk final : public BlockBackend {
 public:
  TestDisk(Reactor& reactor, Storage& s, uint64_t seed) : reactor_(reactor), s_(s), random_(seed) {
    s_.alive = true;
  }
  ~TestDisk() override { s_.alive = false; }
  void start(Park&, BlockRequest& request) override {
    reactor_.spawn("storage", [this, &request, turns = random_() % 4](Park& park) {
      for (uint64_t i = 0; i < turns; ++i) park.yield();
      request.end(serve(park, request));
    });
  }
  Result<uint64_t> size() override { return s_.bytes.size(); }
  bool can_discard() const override { return true; }

 private:
  Errno serve(Park& park, const BlockRequest& r) {
    if (r.op == BlockOp::kFlush) {
      if (s_.fails(s_.flushes_left)) return s_.error;
      s_.stable = s_.bytes;
      return Errno::kOk;
    }
    if (r.op == BlockOp::kRead ? s_.fails(s_.reads_left) : s_.fails(s_.changes_left))
      return s_.error;
    if (r.op == BlockOp::kDiscard || r.op == BlockOp::kWriteZeroes) {
      if (!s_.can_zero) return Errno::kOPNOTSUPP;
      std::fill_n(&s_.bytes[r.offset], r.length, std::byte{0});
      return Errno::kOk;
    }
    uint64_t at = r.offset;
    for (const struct iovec& v : r.segments) {
      if (r.op == BlockOp::kRead) {
        std::memcpy(v.iov_base, &s_.bytes[at], v.iov_len);
      } else {
        std::memcpy(&s_.bytes[at], v.iov_base, v.iov_len);
        s_.written += v.iov_len;
      }
      if (random_() % 4 == 0) park.yield();  // half of it is there
      at += v.iov_len;
    }
    if (r.op == BlockOp::kWrite && r.fua)
      std::memcpy(&s_.stable[r.offset], &s_.bytes[r.offset], r.length);
    return Errno::kOk;
  }
  Reactor& reactor_;
  Storage& s_;
  std::mt19937_64 random_;
};

class MirrorTest : public VfsTest {
 protected:
  void with_disk(const std::function<void()>& body) {
    run([&](Park& p) {
      BlockDevices devices(vfs, sim.reactor);
      disk = make_test_disk(devices, backend(from));
      model = from.bytes;
      body();
      if (!disk->removed()) {
        Ref<BlockDevice> whole(&disk->whole());
        disk->remove();
        disk->let_go(p);
      }
      disk = nullptr;
      p.yield();
    });
  }
  std::unique_ptr<BlockBackend> backend(Storage& s) {
    return std::make_unique<TestDisk>(sim.reactor, s, ++seed);
  }
  Result<> mirror(bool fresh = false) {
    Mirror m(sim.reactor, disk, backend(to), fresh);
    return m.run(*park);
  }

  // A fiber that changes the disk at random, without meeting the others of its like, until told to
  // stop; `model` is what the disk should have.
  void guest(uint64_t lane, uint64_t lanes) {
    ++guests;
    spawn([this, lane, lanes](Park& p) {
      std::mt19937_64 random(seed * 100 + lane);
      Ref<BlockDevice> device(&disk->whole());
      const uint64_t sectors = kBytes / 512 / lanes, base = lane * sectors;
      while (!stop) {
        const uint64_t n = 1 + random() % std::min<uint64_t>(sectors, 300);
        const uint64_t at = (base + random() % (sectors - n + 1)) * 512;
        std::vector<std::byte> data(n * 512, static_cast<std::byte>(random()));
        Bio bio = write_bio(at, data, random() % 8 == 0);
        switch (random() % 8) {
          case 0:
            bio.op = random() % 2 == 0 ? BlockOp::kDiscard : BlockOp::kWriteZeroes;
            bio.bytes = {};
            data.assign(data.size(), std::byte{0});
            break;
          case 1:
            EXPECT_OK(device->flush(p));
            break;
          case 2: {
            std::vector<std::byte> seen(n * 512);
            EXPECT_OK(device->submit(p, read_bio(at, seen)));
            EXPECT_EQ(0, std::memcmp(seen.data(), &model[at], seen.size()));
            break;
          }
        }
        Result<> r = device->submit(p, bio);
        if (!r && refused_writes > 0) {
          --refused_writes;
          r = device->submit(p, bio);  // as a page that stays dirty
        }
        EXPECT_OK(r);
        std::memcpy(&model[at], data.data(), data.size());
        ++changes;
      }
      --guests;
    });
  }
  void end_guests() {
    stop = true;
    while (guests != 0) park->yield();
  }

  Storage from{std::byte{0x5a}}, to{std::byte{0x11}};
  std::vector<std::byte> model;
  Ref<Disk> disk;
  uint64_t seed = 1, changes = 0;
  int guests = 0, refused_writes = 0;
  bool stop = false;
};

class MirrorSeeds : public MirrorTest, public ::testing::WithParamInterface<uint64_t> {};

TEST_P(MirrorSeeds, WritesBesideTheCopy) {
  seed = GetParam() * 1000;
  to.can_zero = GetParam() % 3 != 0;
  const bool fresh = GetParam() % 2 == 0;
  if (fresh) to = Storage();
  with_disk([&] {
    for (uint64_t i = 0; i < 5; ++i) guest(i, 5);
    EXPECT_OK(mirror(fresh));
    to.can_zero = true;  // what the guest sees is the new side from here on
    EXPECT_FALSE(from.alive);
    EXPECT_TRUE(to.alive);
    const uint64_t before = changes;
    for (int i = 0; i < 50; ++i) park->yield();
    end_guests();
    EXPECT_GT(changes, before);
    EXPECT_TRUE(to.bytes == model);
    EXPECT_FALSE(from.bytes == model);  // it was let go
  });
}
INSTANTIATE_TEST_SUITE_P(Seeds, MirrorSeeds, ::testing::Range<uint64_t>(1, 21));

TEST_P(MirrorSeeds, ANewSideThatFailsIsNobodysConcern) {
  seed = GetParam() * 1000;
  (GetParam() % 3 == 0 ? to.flushes_left : to.changes_left) = static_cast<int64_t>(seed / 1000 % 7);
  if (GetParam() % 3 == 0) to.flushes_left = 0;
  to.error = GetParam() % 2 == 0 ? Errno::kNOSPC : Errno::kIO;
  with_disk([&] {
    for (uint64_t i = 0; i < 5; ++i) guest(i, 5);
    Result<> r = mirror();
    ASSERT_FALSE(r);
    EXPECT_EQ(to.error, r.error());
    EXPECT_TRUE(from.alive);
    EXPECT_FALSE(to.alive);
    for (int i = 0; i < 50; ++i) park->yield();
    end_guests();
    EXPECT_TRUE(from.bytes == model);
  });
}

TEST_F(MirrorTest, NothingChangesAndAllIsStable) {
  with_disk([&] {
    EXPECT_OK(mirror());
    EXPECT_TRUE(to.bytes == from.bytes);
    EXPECT_TRUE(to.stable == from.bytes);
    std::vector<std::byte> data(512);
    EXPECT_OK(disk->whole().submit(*park, read_bio(kBytes - 512, data)));
    EXPECT_EQ(std::byte{0x5a}, data[0]);
  });
}

TEST_F(MirrorTest, ZeroesAreNotWrittenToAFreshFile) {
  from = Storage();
  from.bytes[4 << 20] = std::byte{1};
  to = Storage();
  with_disk([&] {
    EXPECT_OK(mirror(/*fresh=*/true));
    EXPECT_TRUE(to.bytes == from.bytes);
    EXPECT_EQ(1u << 20, to.written);
  });
}

// A write that failed on the old side is on neither in full, until it is made again.
TEST_F(MirrorTest, AWriteThatFailsOnTheOldSideIsCopiedAgain) {
  from.failing_once = true;
  from.changes_left = 30;
  refused_writes = 1;
  with_disk([&] {
    for (uint64_t i = 0; i < 5; ++i) guest(i, 5);
    EXPECT_OK(mirror());
    end_guests();
    EXPECT_TRUE(to.bytes == model);
  });
}

TEST_F(MirrorTest, AnOldSideThatCannotBeRead) {
  from.reads_left = 3;
  with_disk([&] {
    Mirror m(sim.reactor, disk, backend(to), false);
    EXPECT_ERR(kIO, m.run(*park));
    EXPECT_TRUE(m.source_failed());
    EXPECT_TRUE(from.alive);
    EXPECT_FALSE(to.alive);
  });
}

TEST_F(MirrorTest, Cancelled) {
  with_disk([&] {
    for (uint64_t i = 0; i < 3; ++i) guest(i, 3);
    Mirror m(sim.reactor, disk, backend(to), false);
    spawn([&](Park& p) {
      while (m.done_bytes() < (2 << 20)) p.yield();
      EXPECT_EQ(&m, disk->mirror);
      m.cancel();
    });
    EXPECT_ERR(kCANCELED, m.run(*park));
    EXPECT_TRUE(from.alive);
    end_guests();
    EXPECT_TRUE(from.bytes == model);
  });
}

TEST_F(MirrorTest, AnotherSizeOrASecondMirror) {
  with_disk([&] {
    Storage small({}, kBytes - 512);
    Mirror m(sim.reactor, disk, backend(small), false);
    EXPECT_ERR(kINVAL, m.run(*park));
    bool second = false;
    spawn([&](Park& p) {
      Storage third;
      Mirror other(sim.reactor, disk, backend(third), false);
      EXPECT_ERR(kBUSY, other.run(p));
      second = true;
    });
    EXPECT_OK(mirror());
    EXPECT_TRUE(second);
  });
}

// Removed by force: the mirror ends, both sides are let go, and whoever goes on gets kIO.
TEST_F(MirrorTest, TheDiskIsRemoved) {
  with_disk([&] {
    Ref<BlockDevice> whole(&disk->whole());
    bool removed = false;
    spawn([&](Park& p) {
      while (from.bytes[0] != to.bytes[0]) p.yield();
      disk->remove();
      disk->let_go(p);
      EXPECT_FALSE(from.alive || to.alive);
      removed = true;
    });
    Result<> r = mirror();
    EXPECT_FALSE(r);
    while (!removed) park->yield();
    std::vector<std::byte> data(512);
    EXPECT_ERR(kIO, whole->submit(*park, read_bio(0, data)));
    EXPECT_ERR(kIO, whole->flush(*park));
  });
}

}  // namespace
}  // namespace uk
