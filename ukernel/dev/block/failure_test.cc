// Storage that fails: who reads, writes or syncs is told, the kernel log names the device and what
// it is kept in, and what could not be written stays to be tried again.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "ukernel/dev/block/block_file.h"
#include "ukernel/dev/block/registry.h"
#include "ukernel/vfs/testing/test_kit.h"

namespace uk {
namespace {

struct Storage {
  std::vector<std::byte> bytes = std::vector<std::byte>(1 << 20);
  Errno reads = Errno::kOk, writes = Errno::kOk, flushes = Errno::kOk;
};

class FailingDisk final : public BlockBackend {
 public:
  explicit FailingDisk(Storage& s) : s_(s) {}
  void start(Park&, BlockRequest& request) override { request.end(serve(request)); }
  Result<uint64_t> size() override { return s_.bytes.size(); }
  std::string where() const override { return "/images/failing.img"; }

 private:
  Errno serve(const BlockRequest& r) {
    if (r.op == BlockOp::kFlush) return s_.flushes;
    const Errno e = r.op == BlockOp::kRead ? s_.reads : s_.writes;
    if (e != Errno::kOk) return e;
    uint64_t at = r.offset;
    for (const struct iovec& v : r.segments) {
      if (r.op == BlockOp::kRead) {
        std::memcpy(v.iov_base, &s_.bytes[at], v.iov_len);
      } else {
        std::memcpy(&s_.bytes[at], v.iov_base, v.iov_len);
      }
      at += v.iov_len;
    }
    return Errno::kOk;
  }
  Storage& s_;
};

class FailureTest : public VfsTest {
 protected:
  void run_with_disk(const std::function<void(BlockFile&)>& body) {
    run([&](Park& p) {
      BlockDevices devices(vfs, sim.reactor);
      Ref<Disk> disk =
          *devices.add(p, "vdb", std::make_unique<FailingDisk>(storage), /*read_only=*/false);
      Ref<File> file = *open_block_device(p, devices, ctx().root, O_RDWR, disk->whole().rdev());
      body(static_cast<BlockFile&>(*file));
      storage.reads = storage.writes = storage.flushes = Errno::kOk;
      file->release(p);
      file = nullptr;
      p.yield();  // the fiber that writes back has nothing left to do, and ends
    });
  }
  Result<size_t> read(File& f, uint64_t at) {
    std::byte buf[512];
    BufferSink to(buf);
    return f.read(*park, to, at);
  }
  Result<size_t> write(File& f, uint64_t at, uint8_t value) {
    std::vector<std::byte> buf(4096, static_cast<std::byte>(value));
    BufferSource from(buf);
    return f.write(*park, from, at);
  }
  int logged(std::string_view text) const {
    return static_cast<int>(std::ranges::count_if(
        log.lines(), [&](const Log::Line& l) { return l.text.find(text) != std::string::npos; }));
  }
  Storage storage;
};

TEST_F(FailureTest, ReadsAreToldAndNamed) {
  run_with_disk([&](BlockFile& f) {
    storage.reads = Errno::kIO;
    EXPECT_ERR(kIO, read(f, 8192));
    EXPECT_EQ(1, logged("I/O error, dev vdb, sector 16 op READ: Input/output error in host file "
                        "/images/failing.img"));
    storage.reads = Errno::kOk;
    EXPECT_EQ(512u, *read(f, 8192));
  });
}

TEST_F(FailureTest, AFullHostIsToldBySyncAndKept) {
  run_with_disk([&](BlockFile& f) {
    EXPECT_EQ(4096u, *write(f, 4096, 7));
    storage.writes = Errno::kNOSPC;
    EXPECT_ERR(kNOSPC, f.fsync(*park, false));
    EXPECT_EQ(1, logged("op WRITE: No space left on device in host file /images/failing.img"));
    EXPECT_EQ(std::byte{0}, storage.bytes[4096]);
    storage.writes = Errno::kOk;  // somebody made room
    EXPECT_OK(f.fsync(*park, false));
    EXPECT_EQ(std::byte{7}, storage.bytes[4096]);
  });
}

TEST_F(FailureTest, AFlushThatFails) {
  run_with_disk([&](BlockFile& f) {
    EXPECT_EQ(4096u, *write(f, 0, 7));
    storage.flushes = Errno::kIO;
    EXPECT_ERR(kIO, f.fsync(*park, false));
    EXPECT_EQ(1, logged("op FLUSH: Input/output error"));
  });
}

TEST_F(FailureTest, TheLogIsNotFlooded) {
  run_with_disk([&](BlockFile& f) {
    storage.reads = Errno::kIO;
    for (uint64_t i = 0; i < 100; ++i) EXPECT_ERR(kIO, read(f, i * 4096));
    EXPECT_EQ(10, logged("I/O error"));
    sim.clock.now() += 6'000'000'000;
    EXPECT_ERR(kIO, read(f, 0));
    EXPECT_EQ(11, logged("I/O error"));
  });
}

}  // namespace
}  // namespace uk
