// Storage in files of the guest: the bytes, files that shrink, fill up or fail, and letting go.
#include "ukernel/dev/loop/loop.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "ukernel/dev/loop/file_backend.h"
#include "ukernel/vfs/testing/test_kit.h"

namespace uk {
namespace {

// A file that does as it is told.
class FailingFile final : public File {
 public:
  explicit FailingFile(Path path) : File(std::move(path), O_RDWR) {}
  Result<size_t> read(Park&, IoSink&, uint64_t) override { return Err(error); }
  Result<size_t> write(Park&, IoSource&, uint64_t&) override { return Err(error); }
  Result<> fsync(Park&, bool) override { return Err(error); }
  Result<uint64_t> seek(Park&, int64_t, int) override { return 1 << 20; }
  void release(Park&) override { ++released; }
  Errno error = Errno::kIO;
  int released = 0;
};

class FileBackendTest : public VfsTest {
 protected:
  void run_disks(const std::function<void(Park&)>& body) {
    run([&](Park& p) {
      devices = std::make_unique<BlockDevices>(vfs, sim.reactor);
      body(p);
      devices.reset();
    });
  }
  Result<> write(Park& p, BlockDevice& d, uint64_t at, uint8_t value, size_t n = 4096) {
    const std::vector<std::byte> bytes(n, static_cast<std::byte>(value));
    return d.submit(p, write_bio(at, bytes));
  }
  Result<std::vector<std::byte>> read(Park& p, BlockDevice& d, uint64_t at, size_t n = 4096) {
    std::vector<std::byte> bytes(n, std::byte{0xee});
    TRY(d.submit(p, read_bio(at, bytes)));
    return bytes;
  }
  static std::vector<std::byte> filled(uint8_t value, size_t n = 4096) {
    return std::vector<std::byte>(n, static_cast<std::byte>(value));
  }
  std::unique_ptr<BlockDevices> devices;
};

TEST_F(FileBackendTest, ADiskInMemory) {
  run_disks([&](Park& p) {
    auto disk = *devices->add(p, "ram", *make_ram_disk(p, *devices, 1 << 20), false);
    BlockDevice& d = disk->whole();
    EXPECT_EQ(1u << 20, d.size());
    EXPECT_TRUE(filled(0) == *read(p, d, 0));
    EXPECT_OK(write(p, d, 4096, 5));
    EXPECT_OK(write(p, d, 4096 + 512, 6, 512));
    EXPECT_OK(d.flush(p));
    auto got = *read(p, d, 4096);
    EXPECT_EQ(std::byte{5}, got[511]);
    EXPECT_EQ(std::byte{6}, got[512]);
    EXPECT_EQ(std::byte{6}, got[1023]);
    EXPECT_EQ(std::byte{5}, got[1024]);
    for (BlockOp op : {BlockOp::kWriteZeroes, BlockOp::kDiscard}) {
      EXPECT_OK(write(p, d, 8192, 7));
      Bio bio;
      bio.op = op;
      bio.offset = 8192;
      bio.length = 4096;
      EXPECT_OK(d.submit(p, bio));
      EXPECT_TRUE(filled(0) == *read(p, d, 8192));
    }
    EXPECT_ERR(kIO, read(p, d, 1 << 20));
  });
}

TEST_F(FileBackendTest, ErrorsOfTheFileAreTheRequests) {
  run_disks([&](Park& p) {
    auto file = make_ref<FailingFile>(ctx().root);
    auto backend = std::make_unique<FileBackend>(sim.reactor);
    backend->bind(file, 4096, 0);
    EXPECT_OK(backend->measure(p));
    FileBackend& b = *backend;
    auto disk = *devices->add(p, "bad", std::move(backend), false);
    BlockDevice& d = disk->whole();
    EXPECT_EQ((1u << 20) - 4096, d.size());
    EXPECT_ERR(kIO, read(p, d, 0));
    file->error = Errno::kNOSPC;
    EXPECT_ERR(kNOSPC, write(p, d, 0, 1));
    EXPECT_ERR(kNOSPC, d.flush(p));
    b.unbind(p);
    EXPECT_EQ(0, file->released);  // the test has it too
    EXPECT_EQ(nullptr, b.file());
    EXPECT_ERR(kIO, read(p, d, 0));
  });
}

TEST_F(FileBackendTest, AFileThatShrinksReadsAsZeroes) {
  run_disks([&](Park& p) {
    Ref<File> file = *vfs.memory_file(p, *root_cred, "/x", 0600);
    EXPECT_OK(file->truncate(p, 16384));
    auto backend = std::make_unique<FileBackend>(sim.reactor);
    backend->bind(file, 0, 8192 + 100);
    EXPECT_OK(backend->measure(p));
    auto disk = *devices->add(p, "x", std::move(backend), false);
    EXPECT_EQ(8192u, disk->whole().size());  // whole sectors
    EXPECT_OK(write(p, disk->whole(), 4096, 9));
    EXPECT_OK(file->truncate(p, 4096 + 512));
    auto got = *read(p, disk->whole(), 4096);
    EXPECT_EQ(std::byte{9}, got[511]);
    EXPECT_EQ(std::byte{0}, got[512]);
    EXPECT_EQ(std::byte{0}, got[4095]);
  });
}

TEST_F(FileBackendTest, LoopDevicesComeAndGo) {
  run_disks([&](Park& p) {
    std::vector<std::string> seen;
    devices->on_change = [&](Park&, BlockDevice& d, bool there) {
      seen.push_back((there ? "+" : "-") + d.name());
    };
    LoopDevices loops(*devices, [](IoctlUser&, int) { return Err(Errno::kBADF); });
    EXPECT_EQ(0, *loops.get_free(p));
    EXPECT_EQ(0, *loops.get_free(p));
    EXPECT_EQ(7, *loops.add(p, 7));
    EXPECT_ERR(kEXIST, loops.add(p, 7));
    EXPECT_EQ(1, *loops.add(p, -1));
    EXPECT_ERR(kNOSPC, loops.add(p, static_cast<int>(LoopDevices::kMax)));
    EXPECT_EQ(7, *loops.remove(p, 7));
    EXPECT_ERR(kNODEV, loops.remove(p, 7));
    EXPECT_ERR(kINVAL, loops.remove(p, -1));
    EXPECT_EQ((std::vector<std::string>{"+loop0", "+loop7", "+loop1", "-loop7"}), seen);
    EXPECT_NE(nullptr, devices->find(make_dev(LoopDevices::kMajor, 1)));
    EXPECT_EQ(nullptr, devices->find(make_dev(LoopDevices::kMajor, 7)));
  });
}

}  // namespace
}  // namespace uk
