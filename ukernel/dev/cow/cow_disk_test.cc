// Copy-on-write disks on files of the host: random requests against a model, reopened with and
// without a flush; and what `ukernel image` does to them.
#include "ukernel/dev/cow/cow_disk.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <fstream>
#include <map>
#include <random>

#include "hostio/sys/file.h"
#include "ukernel/dev/block/testing/power_cut_disk.h"
#include "ukernel/dev/cow/image_ops.h"
#include "ukernel/sched/host_clock.h"
#include "ukernel/vfs/testing/test_kit.h"

namespace uk {
namespace {

constexpr uint64_t kDisk = 1 << 20;

class CowDiskTest : public ::testing::Test {
 protected:
  CowDiskTest() : mem(CHECK_OK(PhysMemory::create(16 << 20))), vfs(*mem, clock, log) {
    const char* tmp = getenv("TEST_TMPDIR");
    dir = std::string(tmp != nullptr ? tmp : "/tmp") + "/cow_disk_test.XXXXXX";
    EXPECT_NE(nullptr, mkdtemp(dir.data()));
    base = dir + "/base.img";
    file = dir + "/disk.cow";
  }
  ~CowDiskTest() override {
    if (disk != nullptr) disk->remove();
    std::string command = "rm -r " + dir;
    EXPECT_EQ(0, system(command.c_str()));
  }

  void run(const std::function<void(Park&)>& body) {
    bool ended = false;
    reactor.spawn("test", [&](Park& p) {
      if (devices == nullptr) devices = std::make_unique<BlockDevices>(vfs, reactor);
      body(p);
      ended = true;
      reactor.stop();
    });
    reactor.run();
    EXPECT_TRUE(ended);
  }

  // A backing file whose sectors say their number and `generation`.
  void make_base(uint64_t bytes, uint8_t generation = 0) {
    std::ofstream out(base, std::ios::binary);
    for (uint64_t s = 0; s * 512 < bytes; ++s) {
      const auto sector = contents(s, generation);
      out.write(reinterpret_cast<const char*>(sector.data()),
                static_cast<std::streamsize>(std::min<uint64_t>(512, bytes - s * 512)));
    }
  }
  static std::vector<std::byte> contents(uint64_t sector, uint32_t version) {
    std::vector<std::byte> bytes(512);
    for (size_t i = 0; i < 512; i += 8) {
      const uint64_t word = version == kZeroes ? 0 : (sector << 32 | version << 1 | 1);
      std::memcpy(&bytes[i], &word, 8);
    }
    return bytes;
  }
  static constexpr uint32_t kZeroes = UINT32_MAX;

  Result<> open(const HostDiskOptions& options = {}) {
    if (disk != nullptr) disk->remove();
    disk = nullptr;
    auto backend = TRY(open_cow_disk(reactor, base, file, options, why));
    disk = make_test_disk(*devices, std::move(backend), options.read_only);
    return {};
  }
  Result<std::vector<std::byte>> read(Park& p, uint64_t offset, size_t n) {
    std::vector<std::byte> bytes(n);
    TRY(disk->whole().submit(p, read_bio(offset, bytes)));
    return bytes;
  }
  std::string host_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  HostClock clock;
  Log log;
  std::unique_ptr<hostio::Ring> ring = hostio::make_ring();
  Reactor reactor{*ring, clock};
  std::unique_ptr<PhysMemory> mem;
  Vfs vfs;
  std::unique_ptr<BlockDevices> devices;
  Ref<Disk> disk;
  std::string dir, base, file, why;
};

// What each sector may hold: the last is what it should, the others what it was since the flush.
using Model = std::map<uint64_t, std::vector<uint32_t>>;

struct Random : CowDiskTest, ::testing::WithParamInterface<cow::Kind> {
  uint32_t flushed(uint64_t s) { return model.contains(s) ? model[s].front() : backing(s); }
  static uint32_t backing(uint64_t s) { return s < kBase / 512 ? 0 : kZeroes; }
  static constexpr uint64_t kBase = kDisk - 64 * 1024;

  void set(uint64_t s, uint32_t version) {
    if (!model.contains(s)) model[s] = {backing(s)};
    model[s].push_back(version);
  }
  // Every sector has the last of its versions, or, after a kill, any, which is then the only one.
  void settle(const std::vector<std::byte>& bytes, bool only_last, uint32_t seed) {
    for (uint64_t s = 0; s < bytes.size() / 512; ++s) {
      std::vector<uint32_t> may = model.contains(s) ? model[s] : std::vector<uint32_t>{backing(s)};
      if (only_last) may = {may.back()};
      bool found = false;
      for (uint32_t v : may) {
        if (std::memcmp(&bytes[s * 512], contents(s, v).data(), 512) != 0) continue;
        found = true;
        if (!only_last) model[s] = {v};
        break;
      }
      ASSERT_TRUE(found) << "sector " << s << ", seed " << seed;
    }
  }
  void one(Park& p, uint32_t seed) {
    std::mt19937 random(seed);
    model.clear();
    (void)sys::unlinkat(AT_FDCWD, file.c_str(), 0);
    const bool uml = GetParam() == cow::Kind::kUml;
    ASSERT_TRUE(cow::create_cow(file, GetParam(), base, uml ? 0 : kDisk, why).has_value()) << why;
    const uint64_t size = uml ? kBase : kDisk;
    const HostDiskOptions options{.read_only = false, .sync = random() % 8 == 0, .direct = false};
    ASSERT_TRUE(open(options).has_value()) << why;
    uint32_t version = 1;
    for (int step = 0; step < 60; ++step) {
      const uint64_t from = random() % (size / 512), most = random() % 3 == 0 ? 300 : 12;
      const uint64_t n = std::min<uint64_t>(1 + random() % most, size / 512 - from);
      switch (random() % 10) {
        default: {
          std::vector<std::byte> bytes;
          ++version;
          for (uint64_t s = from; s < from + n; ++s) {
            const auto sector = contents(s, version);
            bytes.insert(bytes.end(), sector.begin(), sector.end());
            set(s, version);
          }
          const bool fua = random() % 8 == 0;
          EXPECT_OK(disk->whole().submit(p, write_bio(from * 512, bytes, fua)));
          if (fua || options.sync) {
            for (uint64_t s = from; s < from + n; ++s) model[s] = {version};
          }
          break;
        }
        case 5: {
          Bio bio;
          bio.op = BlockOp::kWriteZeroes;
          bio.offset = from * 512;
          bio.length = n * 512;
          EXPECT_OK(disk->whole().submit(p, bio));
          for (uint64_t s = from; s < from + n; ++s) set(s, kZeroes);
          break;
        }
        case 6:
          EXPECT_OK(disk->whole().flush(p));
          for (auto& [s, versions] : model) versions = {versions.back()};
          break;
        case 7:
          settle(*read(p, 0, size), true, seed);
          break;
        case 8:  // the process is killed: what it had not flushed may be there or not
          ASSERT_TRUE(open(options).has_value()) << why;
          settle(*read(p, 0, size), false, seed);
          break;
        case 9: {
          Bio bio;
          bio.op = BlockOp::kDiscard;
          bio.offset = from * 512;
          bio.length = n * 512;
          EXPECT_OK(disk->whole().submit(p, bio));
          const auto now = *read(p, from * 512, n * 512);
          for (uint64_t s = from; s < from + n; ++s) {
            const auto* at = &now[(s - from) * 512];
            if (std::memcmp(at, contents(s, kZeroes).data(), 512) == 0) set(s, kZeroes);
          }
          break;
        }
      }
      if (HasFatalFailure()) return;
    }
    EXPECT_OK(disk->whole().flush(p));
    for (auto& [s, versions] : model) versions = {versions.back()};
    ASSERT_TRUE(open(options).has_value()) << why;
    settle(*read(p, 0, size), true, seed);
    if (HasFatalFailure()) return;
    disk->remove();
    disk = nullptr;
    auto report = cow::image_check(
        file, [](uint64_t, uint64_t) {}, why);
    ASSERT_TRUE(report.has_value()) << why;
    EXPECT_TRUE(report->problems.empty()) << report->problems[0];
  }
  Model model;
};
INSTANTIATE_TEST_SUITE_P(Formats, Random, ::testing::Values(cow::Kind::kOwn, cow::Kind::kUml));

TEST_P(Random, AgainstAModel) {
  make_base(kBase);
  const std::string before = host_file(base);
  run([&](Park& p) {
    for (uint32_t seed = 0; seed < 30 && !HasFatalFailure(); ++seed) one(p, seed);
  });
  EXPECT_TRUE(before == host_file(base));
}

// Many at once to the same clusters: each sector is one of those written to it.
TEST_F(CowDiskTest, FirstWritesAtOnce) {
  make_base(kDisk);
  run([&](Park& p) {
    ASSERT_TRUE(open().has_value()) << why;
    int left = 64;
    WaitQueue ended;
    for (uint64_t s = 0; s < 64; ++s) {
      reactor.spawn("writer", [&, s](Park& q) {
        const auto bytes = contents(s, 7);
        EXPECT_OK(disk->whole().submit(q, write_bio(s * 512, bytes)));
        --left;
        ended.wake_all();
      });
    }
    EXPECT_OK(ended.wait(p, [&] { return left == 0; }));
    const auto all = *read(p, 0, 64 * 512);
    for (uint64_t s = 0; s < 64; ++s)
      EXPECT_EQ(0, std::memcmp(&all[s * 512], contents(s, 7).data(), 512)) << s;
  });
}

TEST_F(CowDiskTest, ABackingFileThatChangedOrIsInUse) {
  make_base(kDisk);
  run([&](Park&) {
    ASSERT_TRUE(open().has_value()) << why;
    // Both are locked while the disk is there.
    std::string about;
    EXPECT_EQ(Errno::kAGAIN, cow::open_image(file, O_RDONLY, about).error());
    EXPECT_EQ(file + ": in use by another process; end that first", about);
    EXPECT_EQ(Errno::kAGAIN, cow::open_image(base, O_RDWR, about).error());
    EXPECT_TRUE(cow::open_image(base, O_RDONLY, about).has_value());
    disk->remove();
    disk = nullptr;

    const struct timespec times[2] = {{1, 0}, {1, 0}};
    EXPECT_TRUE(sys::utimensat(AT_FDCWD, base.c_str(), times, 0).has_value());
    EXPECT_EQ(Errno::kSTALE, open().error());
    EXPECT_TRUE(why.starts_with(base + ": the backing file has changed")) << why;
    EXPECT_TRUE(cow::image_rebase(
                    file, base, true, [](auto, auto) {}, why)
                    .has_value())
        << why;
    EXPECT_TRUE(open().has_value()) << why;
    disk->remove();
    disk = nullptr;
    EXPECT_EQ(0, ::truncate(base.c_str(), kDisk - 512));
    EXPECT_EQ(Errno::kSTALE, open().error());
    EXPECT_NE(std::string::npos, why.find("it had 1048576 bytes and has 1048064 bytes")) << why;
    EXPECT_EQ(0, ::truncate(file.c_str(), 1 << 20));
    EXPECT_EQ(Errno::kUCLEAN, open().error());
    EXPECT_NE(std::string::npos, why.find("cut short")) << why;
  });
}

TEST_F(CowDiskTest, CommitWritesTheBackingFile) {
  for (cow::Kind kind : {cow::Kind::kOwn, cow::Kind::kUml}) {
    make_base(kDisk);
    (void)sys::unlinkat(AT_FDCWD, file.c_str(), 0);
    ASSERT_TRUE(cow::create_cow(file, kind, base, 0, why).has_value()) << why;
    run([&](Park& p) {
      ASSERT_TRUE(open().has_value()) << why;
      const auto bytes = contents(100, 5);
      EXPECT_OK(disk->whole().submit(p, write_bio(100 * 512, bytes)));
      EXPECT_OK(disk->whole().flush(p));
      disk->remove();
      disk = nullptr;
    });
    uint64_t last = 0;
    auto done = cow::image_commit(
        file, false, [&](uint64_t n, uint64_t total) { EXPECT_LE(last = n, total); }, why);
    ASSERT_TRUE(done.has_value()) << why;
    EXPECT_EQ(kind == cow::Kind::kOwn ? 4096u : 512u, *done);
    EXPECT_EQ(last, *done);
    const std::string now = host_file(base);
    for (uint64_t s = 96; s < 104; ++s)
      EXPECT_EQ(0, std::memcmp(&now[s * 512], contents(s, s == 100 ? 5 : 0).data(), 512)) << s;
    auto info = cow::image_info(file, why);
    ASSERT_TRUE(info.has_value()) << why;
    EXPECT_EQ(0u, info->present);
    EXPECT_EQ(cow::BackingIs::kAsItWas, info->backing);
  }
}

// A commit that was interrupted is said, and goes on when it is given again.
TEST_F(CowDiskTest, AnInterruptedCommit) {
  make_base(kDisk);
  run([&](Park& p) {
    ASSERT_TRUE(open().has_value()) << why;
    const auto bytes = contents(100, 5);
    EXPECT_OK(disk->whole().submit(p, write_bio(100 * 512, bytes)));
    EXPECT_OK(disk->whole().flush(p));
    disk->remove();
    disk = nullptr;
    {
      auto half = cow::open_cow(file, O_RDWR, why);
      ASSERT_TRUE(half.has_value()) << why;
      (*half)->header.committing = true;
      EXPECT_TRUE(cow::save_header(**half).has_value());
      const struct timespec times[2] = {{1, 0}, {1, 0}};
      EXPECT_TRUE(sys::utimensat(AT_FDCWD, base.c_str(), times, 0).has_value());
    }
    EXPECT_EQ(Errno::kBUSY, open().error());
    EXPECT_NE(std::string::npos, why.find("ukernel image commit")) << why;
    EXPECT_TRUE(cow::image_commit(
                    file, false, [](auto, auto) {}, why)
                    .has_value())
        << why;
    EXPECT_TRUE(open().has_value()) << why;
    EXPECT_TRUE(bytes == *read(p, 100 * 512, 512));
  });
}

TEST_F(CowDiskTest, RebaseKeepsTheContents) {
  make_base(kDisk);
  run([&](Park& p) {
    ASSERT_TRUE(open().has_value()) << why;
    const auto bytes = contents(100, 5);
    EXPECT_OK(disk->whole().submit(p, write_bio(100 * 512, bytes)));
    EXPECT_OK(disk->whole().flush(p));
    const auto before = *read(p, 0, kDisk);
    disk->remove();
    disk = nullptr;
    // Another image, which differs in two places and is shorter.
    std::string other = host_file(base);
    other[50 * 4096] ^= 1;
    other[60 * 4096 + 5] ^= 1;
    other.resize(kDisk - 8192);
    const std::string path = dir + "/other.img";
    std::ofstream(path, std::ios::binary) << other;
    auto copied = cow::image_rebase(
        file, path, false, [](auto, auto) {}, why);
    ASSERT_TRUE(copied.has_value()) << why;
    EXPECT_EQ(4u * 4096, *copied);
    EXPECT_EQ(Errno::kSTALE, open().error());
    base = path;
    ASSERT_TRUE(open().has_value()) << why;
    EXPECT_TRUE(before == *read(p, 0, kDisk));
  });
}

}  // namespace
}  // namespace uk
