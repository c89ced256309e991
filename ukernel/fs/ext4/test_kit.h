// For tests: images of mke2fs(8) in memory as disks, mounted below a tmpfs, looked at by e2fsck(8).
#pragma once

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "ukernel/dev/block/disk_cache.h"
#include "ukernel/fs/ext4/ext4.h"
#include "ukernel/vfs/testing/test_kit.h"

namespace uk {

// A disk in memory. Every few requests it lets other fibers run first.
class MemoryDisk final : public BlockBackend {
 public:
  explicit MemoryDisk(std::string& image) : image_(&image) {}
  void exchange(std::string& image) {
    image_ = &image;
    reads_left = writes_left = UINT64_MAX;
  }
  void start(Park& park, BlockRequest& request) override {
    if (++requests % 3 == 0) park.yield();
    request.end(transfer(request));
  }
  Result<uint64_t> size() override { return image_->size(); }
  bool can_discard() const override { return true; }

  uint64_t requests = 0;
  std::function<void(const std::string& image)> on_flush;
  // Requests that still go well; then they fail.
  uint64_t reads_left = UINT64_MAX, writes_left = UINT64_MAX;

 private:
  Errno transfer(BlockRequest& request) {
    if (request.op == BlockOp::kFlush) {
      if (on_flush) on_flush(*image_);
      return Errno::kOk;
    }
    uint64_t& left = request.op == BlockOp::kRead ? reads_left : writes_left;
    if (left == 0) return Errno::kIO;
    if (left != UINT64_MAX) --left;
    uint64_t at = request.offset;
    if (at + request.length > image_->size()) return Errno::kIO;
    if (request.op == BlockOp::kDiscard || request.op == BlockOp::kWriteZeroes) {
      std::memset(image_->data() + at, 0, request.length);
      return Errno::kOk;
    }
    for (const struct iovec& v : request.segments) {
      if (request.op == BlockOp::kRead) {
        std::memcpy(v.iov_base, image_->data() + at, v.iov_len);
      } else {
        std::memcpy(image_->data() + at, v.iov_base, v.iov_len);
      }
      at += v.iov_len;
    }
    return Errno::kOk;
  }
  std::string* image_;
};

inline std::string shell(const std::string& command, int* status) {
  FILE* p = popen(("PATH=$PATH:/usr/sbin:/sbin; { " + command + "\n} 2>&1").c_str(), "r");
  std::string out;
  char buf[4096];
  for (size_t n; (n = fread(buf, 1, sizeof buf, p)) > 0;) out.append(buf, n);
  *status = pclose(p);
  return out;
}

class Ext4Test : public VfsTest {
 protected:
  Ext4Test() : disks(vfs, sim.reactor) { register_ext4(vfs, disks); }

  static std::string temp(const std::string& name) {
    const char* dir = std::getenv("TEST_TMPDIR");
    return std::string(dir != nullptr ? dir : "/tmp") + "/" + name;
  }
  // An image; `options` are mke2fs's.
  static std::string make_image(const std::string& size, const std::string& options = "") {
    const std::string file = temp("ext4.img");
    int status = 0;
    const std::string out = shell("rm -f " + file + " && truncate -s " + size + " " + file +
                                      " && mke2fs -q -F -t ext4 " + options + " " + file,
                                  &status);
    EXPECT_EQ(status, 0) << out;
    std::ifstream in(file, std::ios::binary);
    std::stringstream bytes;
    bytes << in.rdbuf();
    return bytes.str();
  }
  // What e2fsck says; empty: nothing to complain about.
  static std::string complaints(const std::string& image) {
    const std::string file = temp("check.img");
    std::ofstream(file, std::ios::binary) << image;
    int status = 0;
    const std::string out = shell("e2fsck -fn " + file, &status);
    return status == 0 ? "" : out;
  }

  // Runs `body` with the image mounted on /mnt, which is unmounted afterwards.
  void with_mounted(std::string& image, std::function<void(Park&)> body, uint32_t flags = 0,
                    const std::string& options = "") {
    run([&](Park& p) {
      disk = add_disk(p, image);
      if (!walk("/mnt")) EXPECT_OK(mkdir("/mnt"));
      const Result<> mounted = mount(p, flags, options);
      EXPECT_OK(mounted);
      if (!mounted) return;
      body(p);
      unmount(p);
    });
  }
  // Unmounts, and lets the fibers of the filesystem end.
  void unmount(Park& p) {
    EXPECT_OK(vfs.umount(p, ctx(), *walk("/mnt"), 0));
    for (int i = 0; i < 10; ++i) p.yield();
  }
  // The one disk there is: images are exchanged while nobody has it.
  MemoryDisk* add_disk(Park& p, std::string& image) {
    if (disk != nullptr) {
      EXPECT_EQ(device->opens, 0);
      disk->exchange(image);
      device->disk().revalidate(p);
      return disk;
    }
    name = "vda";
    auto backend = std::make_unique<MemoryDisk>(image);
    MemoryDisk* raw = backend.get();
    auto added = disks.add(p, name, std::move(backend), false);
    EXPECT_OK(added);
    device = Ref<BlockDevice>(&(*added)->whole());
    EXPECT_OK(vfs.mknod(p, ctx(), {}, "/" + name, S_IFBLK | 0600, device->rdev()));
    disk = raw;
    return raw;
  }
  Result<> mount(Park& p, uint32_t flags = 0, const std::string& options = "") {
    TRY(vfs.mount(p, ctx(), *walk("/mnt"), "ext4", "/" + name, options, flags | kMntRelatime));
    return {};
  }
  Result<size_t> put(File& f, std::string_view text, uint64_t at) {
    BufferSource from(std::as_bytes(std::span(text.data(), text.size())));
    return f.write(*park, from, at);
  }

  BlockDevices disks;
  MemoryDisk* disk = nullptr;
  Ref<BlockDevice> device;
  std::string name;
};

}  // namespace uk
