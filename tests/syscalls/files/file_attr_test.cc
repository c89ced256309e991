// Flags of files on a tmpfs: file_getattr, file_setattr and the ioctls that say the same.
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

// Newer than Debian 12's headers.
constexpr long kFileGetattr = 468, kFileSetattr = 469;
struct FileAttr {
  uint64_t xflags;
  uint32_t extsize, nextents, projid, cowextsize;
};

long Get(int dirfd, const char* path, FileAttr* to, size_t size = sizeof(FileAttr), int flags = 0) {
  return syscall(kFileGetattr, dirfd, path, to, size, flags);
}
long Set(const char* path, FileAttr attr, size_t size = sizeof(FileAttr), int flags = 0) {
  return syscall(kFileSetattr, AT_FDCWD, path, &attr, size, flags);
}

// A directory of its own in /dev/shm: other filesystems know other flags.
class OnTmpfs {
 public:
  OnTmpfs() {
    if (mkdtemp(path_.data()) == nullptr) abort();
  }
  ~OnTmpfs() {
    unlink((*this / "l").c_str());
    unlink((*this / "f").c_str());
    rmdir(path_.c_str());
  }
  OnTmpfs(const OnTmpfs&) = delete;
  OnTmpfs& operator=(const OnTmpfs&) = delete;
  const char* c_str() const { return path_.c_str(); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  std::string File() const {
    close(open((*this / "f").c_str(), O_CREAT | O_WRONLY, 0644));
    return *this / "f";
  }

 private:
  std::string path_ = "/dev/shm/ukt.XXXXXX";
};

TEST(file_setattr, SetsWhatTheIoctlsShow) {
  COVERS(file_getattr, ioctl);
  OnTmpfs dir;
  std::string f = dir.File();
  Fd fd(open(f.c_str(), O_RDWR));
  FileAttr attr;
  memset(&attr, 0xff, sizeof attr);
  ASSERT_OK(Get(AT_FDCWD, f.c_str(), &attr));
  EXPECT_EQ(attr.xflags, 0u);
  EXPECT_EQ(attr.extsize | attr.nextents | attr.projid | attr.cowextsize, 0u);
  ASSERT_OK(Set(f.c_str(), {FS_XFLAG_NODUMP | FS_XFLAG_NOATIME, 0, 0, 0, 0}));
  ASSERT_OK(Get(fd.get(), "", &attr, sizeof attr, AT_EMPTY_PATH));
  EXPECT_EQ(attr.xflags, static_cast<uint64_t>(FS_XFLAG_NODUMP | FS_XFLAG_NOATIME));
  ASSERT_OK(Get(fd.get(), nullptr, &attr, sizeof attr, AT_EMPTY_PATH));
  int flags = 0;
  ASSERT_OK(ioctl(fd.get(), FS_IOC_GETFLAGS, &flags));
  EXPECT_EQ(flags, FS_NODUMP_FL | FS_NOATIME_FL);
  struct fsxattr x;
  memset(&x, 0xff, sizeof x);
  ASSERT_OK(ioctl(fd.get(), FS_IOC_FSGETXATTR, &x));
  EXPECT_EQ(x.fsx_xflags, static_cast<uint32_t>(FS_XFLAG_NODUMP | FS_XFLAG_NOATIME));
  EXPECT_EQ(x.fsx_extsize, 0u);
  x.fsx_xflags = FS_XFLAG_NODUMP;
  ASSERT_OK(ioctl(fd.get(), FS_IOC_FSSETXATTR, &x));
  flags = FS_NOATIME_FL;
  ASSERT_OK(Get(AT_FDCWD, f.c_str(), &attr));
  EXPECT_EQ(attr.xflags, static_cast<uint64_t>(FS_XFLAG_NODUMP));
  ASSERT_OK(ioctl(fd.get(), FS_IOC_SETFLAGS, &flags));
  ASSERT_OK(Get(AT_FDCWD, f.c_str(), &attr));
  EXPECT_EQ(attr.xflags, static_cast<uint64_t>(FS_XFLAG_NOATIME));
}

TEST(file_setattr, ImmutableAndAppendNeedTheCapability) {
  OnTmpfs dir;
  std::string f = dir.File();
  FileAttr immutable = {FS_XFLAG_IMMUTABLE, 0, 0, 0, 0}, append = {FS_XFLAG_APPEND, 0, 0, 0, 0};
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, Set(f.c_str(), immutable));
    EXPECT_ERRNO(EPERM, Set(f.c_str(), append));
    return;
  }
  ASSERT_OK(Set(f.c_str(), immutable));
  EXPECT_ERRNO(EPERM, open(f.c_str(), O_WRONLY));
  ASSERT_OK(Set(f.c_str(), append));
  EXPECT_ERRNO(EPERM, open(f.c_str(), O_WRONLY));
  EXPECT_OK(close(open(f.c_str(), O_WRONLY | O_APPEND)));
  ASSERT_OK(Set(f.c_str(), {}));
}

TEST(file_setattr, RefusesWhatTheFilesystemCannotKeep) {
  OnTmpfs dir;
  std::string f = dir.File();
  const char* p = f.c_str();
  auto xflags = [](uint64_t bits) { return FileAttr{bits, 0, 0, 0, 0}; };
  EXPECT_ERRNO(EOPNOTSUPP, Set(p, xflags(FS_XFLAG_REALTIME)));
  EXPECT_ERRNO(EOPNOTSUPP, Set(p, xflags(FS_XFLAG_SYNC)));
  EXPECT_ERRNO(EOPNOTSUPP, Set(p, xflags(FS_XFLAG_DAX)));
  EXPECT_ERRNO(EOPNOTSUPP, Set(p, {0, 4096, 0, 0, 0}));
  EXPECT_ERRNO(EOPNOTSUPP, Set(p, {0, 0, 0, 5, 0}));
  EXPECT_ERRNO(EOPNOTSUPP, Set(p, {0, 0, 0, 0, 5}));
  EXPECT_ERRNO(EINVAL, Set(p, xflags(0x4)));
  EXPECT_ERRNO(EINVAL, Set(p, xflags(0x20000)));
  EXPECT_ERRNO(EINVAL, Set(p, xflags(1ull << 40)));
  EXPECT_ERRNO(EINVAL, Set(p, xflags(FS_XFLAG_EXTSZINHERIT))) << "of directories";
  EXPECT_ERRNO(EINVAL, Set(dir.c_str(), xflags(FS_XFLAG_EXTSIZE))) << "of files";
  // What is only reported, and hints without a size, are dropped.
  EXPECT_OK(Set(p, xflags(FS_XFLAG_HASATTR)));
  EXPECT_OK(Set(p, xflags(FS_XFLAG_EXTSIZE)));
  EXPECT_OK(Set(p, {0, 0, 7, 0, 0}));
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, Set("/dev/shm", {}));
    EXPECT_ERRNO(EPERM, Set("/dev/shm", xflags(FS_XFLAG_SYNC)));
  }
}

TEST(file_getattr, Errors) {
  COVERS(file_setattr);
  OnTmpfs dir;
  std::string f = dir.File(), l = dir / "l";
  ASSERT_OK(symlink("f", l.c_str()));
  Fd path(open(f.c_str(), O_PATH));
  int ends[2];
  ASSERT_OK(pipe(ends));
  Fd a(ends[0]), b(ends[1]);
  char room[40];
  memset(room, 0xff, sizeof room);
  auto* attr = reinterpret_cast<FileAttr*>(room);
  EXPECT_OK(Get(AT_FDCWD, f.c_str(), attr, sizeof room));
  EXPECT_EQ(room[39], 0) << "a longer structure ends in zeros";
  EXPECT_ERRNO(EINVAL, Get(AT_FDCWD, f.c_str(), attr, sizeof(FileAttr) - 1));
  EXPECT_ERRNO(E2BIG, Get(AT_FDCWD, f.c_str(), attr, kPage + 1));
  EXPECT_ERRNO(EINVAL, Get(AT_FDCWD, f.c_str(), attr, sizeof(FileAttr), AT_REMOVEDIR));
  EXPECT_ERRNO(EFAULT, Get(AT_FDCWD, f.c_str(), static_cast<FileAttr*>(BadPointer())));
  EXPECT_ERRNO(ENOENT, Get(AT_FDCWD, (dir / "no").c_str(), attr));
  EXPECT_ERRNO(EBADF, Get(path.get(), "", attr, sizeof(FileAttr), AT_EMPTY_PATH));
  EXPECT_ERRNO(EOPNOTSUPP, Get(a.get(), "", attr, sizeof(FileAttr), AT_EMPTY_PATH));
  EXPECT_ERRNO(EOPNOTSUPP, Get(AT_FDCWD, l.c_str(), attr, sizeof(FileAttr), AT_SYMLINK_NOFOLLOW));
  EXPECT_ERRNO(EOPNOTSUPP, Get(AT_FDCWD, "/dev/null", attr));
  EXPECT_ERRNO(EOPNOTSUPP, Get(AT_FDCWD, "/proc/self/status", attr));
  memset(room, 0, sizeof room);
  room[30] = 1;
  EXPECT_ERRNO(E2BIG, syscall(kFileSetattr, AT_FDCWD, f.c_str(), attr, sizeof room, 0));
  EXPECT_ERRNO(EINVAL, Set(f.c_str(), {}, sizeof(FileAttr) - 1));
  EXPECT_ERRNO(EINVAL, Set(f.c_str(), {}, sizeof(FileAttr), AT_REMOVEDIR));
  EXPECT_ERRNO(EFAULT, syscall(kFileSetattr, AT_FDCWD, f.c_str(), BadPointer(), sizeof *attr, 0));
  EXPECT_ERRNO(EOPNOTSUPP, Set("/dev/null", {}));
}

}  // namespace
}  // namespace uk::test
