// loop(4): block devices on files, by /dev/loop-control and the ioctls of losetup(8).
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>

#include <fstream>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr size_t kBytes = 1 << 20;

std::string Name(int number) { return "/dev/loop" + std::to_string(number); }

// A file, and a loop device that is free when the test begins.
class loop : public testing::Test {
 protected:
  void SetUp() override {
    control = Fd(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    if (control.get() < 0 && (errno == ENOENT || errno == EACCES || errno == EPERM))
      GTEST_SKIP() << "no loop devices here";
    ASSERT_OK(control.get());
    path = scratch.path() + "/backing";
    std::string content(kBytes, '.');
    for (size_t i = 0; i < kBytes; i += 512) content.replace(i, 8, std::to_string(i + 10000000));
    std::ofstream(path) << content;
    file = Fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_OK(file.get());
    number = ioctl(control.get(), LOOP_CTL_GET_FREE);
    ASSERT_OK(number);
    device = Fd(open(Name(number).c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_OK(device.get());
  }
  void TearDown() override {
    if (device.get() >= 0) ioctl(device.get(), LOOP_CLR_FD);
  }
  int Configure(const struct loop_info64& info, int fd) {
    struct loop_config config = {};
    config.fd = static_cast<uint32_t>(fd);
    config.info = info;
    return ioctl(device.get(), LOOP_CONFIGURE, &config);
  }
  std::string At(int fd, off_t offset) {
    char text[8];
    return pread(fd, text, sizeof text, offset) == 8 ? std::string(text, 8) : "?";
  }
  std::string Attribute(const std::string& name) {
    std::ifstream in("/sys/block/loop" + std::to_string(number) + "/" + name);
    std::string line;
    std::getline(in, line);
    return line;
  }

  Scratch scratch;
  std::string path;
  Fd control{-1}, file{-1}, device{-1};
  int number = -1;
};

TEST_F(loop, AFileBecomesADevice) {
  COVERS(ioctl);
  struct loop_info64 info = {};
  info.lo_offset = 4096;
  info.lo_sizelimit = 512 << 10;
  strcpy(reinterpret_cast<char*>(info.lo_file_name), "a name");
  ASSERT_OK(Configure(info, file.get()));
  uint64_t size = 0;
  EXPECT_OK(ioctl(device.get(), BLKGETSIZE64, &size));
  EXPECT_EQ(512u << 10, size);
  EXPECT_EQ("10004096", At(device.get(), 0));
  EXPECT_EQ("10008192", At(device.get(), 4096));
  EXPECT_EQ(8, pwrite(device.get(), "written!", 8, 8192));
  EXPECT_OK(fsync(device.get()));
  EXPECT_EQ("written!", At(file.get(), 12288));
  EXPECT_EQ("10012800", At(file.get(), 12800));

  struct loop_info64 got = {};
  ASSERT_OK(ioctl(device.get(), LOOP_GET_STATUS64, &got));
  struct stat st = {};
  ASSERT_OK(fstat(file.get(), &st));
  EXPECT_EQ(st.st_ino, got.lo_inode);
  EXPECT_EQ(4096u, got.lo_offset);
  EXPECT_EQ(512u << 10, got.lo_sizelimit);
  EXPECT_EQ(static_cast<uint32_t>(number), got.lo_number);
  EXPECT_EQ(0u, got.lo_flags);
  EXPECT_STREQ("a name", reinterpret_cast<char*>(got.lo_file_name));
  EXPECT_EQ(path, Attribute("loop/backing_file"));
  EXPECT_EQ("4096", Attribute("loop/offset"));
  EXPECT_EQ("524288", Attribute("loop/sizelimit"));
  EXPECT_EQ("1024", Attribute("size"));
}

TEST_F(loop, SetFdAndStatus) {
  ASSERT_OK(ioctl(device.get(), LOOP_SET_FD, file.get()));
  uint64_t size = 0;
  EXPECT_OK(ioctl(device.get(), BLKGETSIZE64, &size));
  EXPECT_EQ(kBytes, size);
  EXPECT_EQ("10000000", At(device.get(), 0));
  struct loop_info64 info = {};
  ASSERT_OK(ioctl(device.get(), LOOP_GET_STATUS64, &info));
  info.lo_offset = 512;
  EXPECT_OK(ioctl(device.get(), LOOP_SET_STATUS64, &info));
  EXPECT_EQ("10000512", At(device.get(), 0));
  EXPECT_OK(ioctl(device.get(), BLKGETSIZE64, &size));
  EXPECT_EQ(kBytes - 512, size);
  // The file grows: the device does when it is told.
  EXPECT_OK(ftruncate(file.get(), 2 * kBytes));
  EXPECT_OK(ioctl(device.get(), LOOP_SET_CAPACITY, 0));
  EXPECT_OK(ioctl(device.get(), BLKGETSIZE64, &size));
  EXPECT_EQ(2 * kBytes - 512, size);
}

TEST_F(loop, WhatCannotBe) {
  struct loop_info64 info = {};
  EXPECT_ERRNO(ENXIO, ioctl(device.get(), LOOP_GET_STATUS64, &info));
  EXPECT_ERRNO(ENXIO, ioctl(device.get(), LOOP_CLR_FD));
  EXPECT_ERRNO(ENXIO, ioctl(device.get(), LOOP_SET_STATUS64, &info));
  EXPECT_ERRNO(EBADF, ioctl(device.get(), LOOP_SET_FD, kBadFd));
  Fd dir(open(scratch.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_ERRNO(EINVAL, ioctl(device.get(), LOOP_SET_FD, dir.get()));
  EXPECT_ERRNO(EBADF, ioctl(device.get(), LOOP_SET_FD, device.get()));
  struct loop_config config = {};
  config.fd = static_cast<uint32_t>(file.get());
  config.block_size = 100;
  EXPECT_ERRNO(EINVAL, ioctl(device.get(), LOOP_CONFIGURE, &config));
  info.lo_flags = 0x80000;
  EXPECT_ERRNO(EINVAL, Configure(info, file.get()));
  EXPECT_ERRNO(EFAULT, ioctl(device.get(), LOOP_CONFIGURE, BadPointer()));
  ASSERT_OK(ioctl(device.get(), LOOP_SET_FD, file.get()));
  EXPECT_ERRNO(EBUSY, ioctl(device.get(), LOOP_SET_FD, file.get()));
  EXPECT_ERRNO(EINVAL, ioctl(device.get(), LOOP_SET_BLOCK_SIZE, 100));
  EXPECT_ERRNO(EFAULT, ioctl(device.get(), LOOP_GET_STATUS64, BadPointer()));
  EXPECT_ERRNO(EEXIST, ioctl(control.get(), LOOP_CTL_ADD, number));
  EXPECT_ERRNO(EBUSY, ioctl(control.get(), LOOP_CTL_REMOVE, number));
  EXPECT_ERRNO(ENODEV, ioctl(control.get(), LOOP_CTL_REMOVE, 1000));
}

TEST_F(loop, ReadOnlyFiles) {
  Fd reader(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_OK(ioctl(device.get(), LOOP_SET_FD, reader.get()));
  int read_only = 0;
  EXPECT_OK(ioctl(device.get(), BLKROGET, &read_only));
  EXPECT_EQ(1, read_only);
  struct loop_info64 info = {};
  EXPECT_OK(ioctl(device.get(), LOOP_GET_STATUS64, &info));
  EXPECT_EQ(LO_FLAGS_READ_ONLY, info.lo_flags & LO_FLAGS_READ_ONLY);
  EXPECT_EQ("10000512", At(device.get(), 512));
  EXPECT_OK(ioctl(device.get(), LOOP_CLR_FD));
  device = Fd(-1);
  device = Fd(open(Name(number).c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_OK(ioctl(device.get(), LOOP_SET_FD, file.get()));
  EXPECT_OK(ioctl(device.get(), BLKROGET, &read_only));
  EXPECT_EQ(0, read_only);
}

TEST_F(loop, TheLastCloseClears) {
  struct loop_info64 info = {};
  info.lo_flags = LO_FLAGS_AUTOCLEAR;
  ASSERT_OK(Configure(info, file.get()));
  EXPECT_EQ(8, pwrite(device.get(), "written!", 8, 0));
  device = Fd(-1);
  device = Fd(open(Name(number).c_str(), O_RDWR | O_CLOEXEC));
  EXPECT_ERRNO(ENXIO, ioctl(device.get(), LOOP_GET_STATUS64, &info));
  EXPECT_EQ("written!", At(file.get(), 0));
  // Or the last of several, after it was cleared.
  ASSERT_OK(ioctl(device.get(), LOOP_SET_FD, file.get()));
  Fd another(open(Name(number).c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_OK(ioctl(device.get(), LOOP_CLR_FD));
  EXPECT_OK(ioctl(another.get(), LOOP_GET_STATUS64, &info));
  EXPECT_EQ(LO_FLAGS_AUTOCLEAR, info.lo_flags & LO_FLAGS_AUTOCLEAR);
  another = Fd(-1);
  device = Fd(-1);
  device = Fd(open(Name(number).c_str(), O_RDWR | O_CLOEXEC));
  EXPECT_ERRNO(ENXIO, ioctl(device.get(), LOOP_GET_STATUS64, &info));
}

TEST_F(loop, HolesForWhatIsDiscarded) {
  ASSERT_OK(ioctl(device.get(), LOOP_SET_FD, file.get()));
  const uint64_t range[2] = {8192, 4096};
  EXPECT_OK(ioctl(device.get(), BLKZEROOUT, range));
  EXPECT_EQ(std::string(8, '\0'), At(device.get(), 8192));
  EXPECT_EQ("10007680", At(device.get(), 7680));
  EXPECT_EQ("10012288", At(device.get(), 12288));
  EXPECT_OK(fsync(device.get()));
  EXPECT_EQ(std::string(8, '\0'), At(file.get(), 8192));
}

}  // namespace
}  // namespace uk::test
