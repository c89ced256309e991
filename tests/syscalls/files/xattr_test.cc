// Extended attributes: in the user namespace, all calls.
#include <sys/xattr.h>

#include <set>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

std::set<std::string> Names(const char* list, long n) {
  std::set<std::string> out;
  for (long at = 0; at < n; at += strlen(list + at) + 1) out.insert(list + at);
  return out;
}

TEST(setxattr, CreateReplaceAndGet) {
  COVERS(getxattr, listxattr, removexattr);
  Scratch dir;
  std::string path = dir.File("f");
  const char* f = path.c_str();
  char value[64] = {};
  EXPECT_ERRNO(ENODATA, syscall(SYS_getxattr, f, "user.a", value, sizeof value));
  EXPECT_OK(syscall(SYS_setxattr, f, "user.a", "one", 3l, 0));
  EXPECT_EQ(syscall(SYS_getxattr, f, "user.a", value, sizeof value), 3);
  EXPECT_STREQ(value, "one");
  EXPECT_EQ(syscall(SYS_getxattr, f, "user.a", nullptr, 0), 3) << "size query";
  EXPECT_ERRNO(ERANGE, syscall(SYS_getxattr, f, "user.a", value, 2));
  EXPECT_ERRNO(EEXIST, syscall(SYS_setxattr, f, "user.a", "x", 1l, XATTR_CREATE));
  EXPECT_ERRNO(ENODATA, syscall(SYS_setxattr, f, "user.b", "x", 1l, XATTR_REPLACE));
  EXPECT_OK(syscall(SYS_setxattr, f, "user.a", "two2", 4l, XATTR_REPLACE));
  EXPECT_OK(syscall(SYS_setxattr, f, "user.empty", nullptr, 0l, XATTR_CREATE));
  EXPECT_EQ(syscall(SYS_getxattr, f, "user.empty", value, sizeof value), 0);
  char list[256];
  long n = syscall(SYS_listxattr, f, list, sizeof list);
  std::set<std::string> names = Names(list, n);
  EXPECT_TRUE(names.count("user.a"));
  EXPECT_TRUE(names.count("user.empty"));
  EXPECT_EQ(syscall(SYS_listxattr, f, nullptr, 0), n);
  EXPECT_ERRNO(ERANGE, syscall(SYS_listxattr, f, list, 3));
  EXPECT_OK(syscall(SYS_removexattr, f, "user.a"));
  EXPECT_ERRNO(ENODATA, syscall(SYS_removexattr, f, "user.a"));
}

TEST(fsetxattr, ThroughADescriptor) {
  COVERS(fgetxattr, flistxattr, fremovexattr);
  Scratch dir;
  Fd fd = dir.Open("f");
  char value[16] = {};
  EXPECT_OK(syscall(SYS_fsetxattr, fd.get(), "user.k", "v", 1l, 0));
  EXPECT_EQ(syscall(SYS_fgetxattr, fd.get(), "user.k", value, sizeof value), 1);
  char list[256];
  long n = syscall(SYS_flistxattr, fd.get(), list, sizeof list);
  EXPECT_TRUE(Names(list, n).count("user.k"));
  EXPECT_OK(syscall(SYS_fremovexattr, fd.get(), "user.k"));
  EXPECT_ERRNO(ENODATA, syscall(SYS_fgetxattr, fd.get(), "user.k", value, sizeof value));
  EXPECT_ERRNO(EBADF, syscall(SYS_fsetxattr, kBadFd, "user.k", "v", 1l, 0));
  EXPECT_ERRNO(EBADF, syscall(SYS_fgetxattr, kBadFd, "user.k", value, 1));
  EXPECT_ERRNO(EBADF, syscall(SYS_flistxattr, kBadFd, list, sizeof list));
  EXPECT_ERRNO(EBADF, syscall(SYS_fremovexattr, kBadFd, "user.k"));
}

TEST(lsetxattr, SymlinksHaveNoUserAttributes) {
  COVERS(lgetxattr, llistxattr, lremovexattr);
  Scratch dir;
  std::string f = dir.File("f"), l = dir / "l";
  ASSERT_OK(symlink("f", l.c_str()));
  char value[16], list[256];
  EXPECT_ERRNO(EPERM, syscall(SYS_lsetxattr, l.c_str(), "user.k", "v", 1l, 0));
  EXPECT_OK(syscall(SYS_lsetxattr, f.c_str(), "user.k", "v", 1l, 0));
  EXPECT_EQ(syscall(SYS_lgetxattr, f.c_str(), "user.k", value, sizeof value), 1);
  EXPECT_EQ(syscall(SYS_getxattr, l.c_str(), "user.k", value, sizeof value), 1) << "follows";
  EXPECT_EQ(Names(list, syscall(SYS_llistxattr, l.c_str(), list, sizeof list)).count("user.k"), 0u);
  EXPECT_OK(syscall(SYS_lremovexattr, f.c_str(), "user.k"));
}

// Their numbers and the structure are newer than Debian 12's headers.
constexpr long kSetxattrat = 463, kGetxattrat = 464, kListxattrat = 465, kRemovexattrat = 466;
struct XattrArgs {
  uint64_t value;
  uint32_t size, flags;
};

TEST(setxattrat, NamesAFileAsOpenatDoes) {
  COVERS(getxattrat, listxattrat, removexattrat);
  Scratch dir;
  std::string f = dir.File("f", "x");
  ASSERT_OK(symlink("f", (dir / "l").c_str()));
  Fd at(open(dir.c_str(), O_DIRECTORY | O_PATH)), file(open(f.c_str(), O_RDONLY));
  char value[16] = {}, names[64];
  XattrArgs one = {reinterpret_cast<uint64_t>("one"), 3, 0};
  XattrArgs into = {reinterpret_cast<uint64_t>(value), sizeof value, 0};
  EXPECT_OK(syscall(kSetxattrat, at.get(), "f", 0, "user.a", &one, sizeof one));
  EXPECT_EQ(syscall(kGetxattrat, at.get(), "l", 0, "user.a", &into, sizeof into), 3);
  EXPECT_STREQ(value, "one");
  EXPECT_ERRNO(ENODATA, syscall(kGetxattrat, at.get(), "l", AT_SYMLINK_NOFOLLOW, "user.a", &into,
                                sizeof into));
  // "" and no path at all: the descriptor itself.
  EXPECT_EQ(syscall(kGetxattrat, file.get(), "", AT_EMPTY_PATH, "user.a", &into, sizeof into), 3);
  EXPECT_EQ(syscall(kGetxattrat, file.get(), nullptr, AT_EMPTY_PATH, "user.a", &into, sizeof into),
            3);
  EXPECT_ERRNO(ENOENT, syscall(kGetxattrat, file.get(), "", 0, "user.a", &into, sizeof into));
  EXPECT_ERRNO(ENOTDIR,
               syscall(kGetxattrat, file.get(), "f", AT_EMPTY_PATH, "user.a", &into, sizeof into));
  EXPECT_ERRNO(EBADF,
               syscall(kGetxattrat, at.get(), "", AT_EMPTY_PATH, "user.a", &into, sizeof into))
      << "O_PATH";
  long n = syscall(kListxattrat, at.get(), "f", 0, names, sizeof names);
  EXPECT_EQ(Names(names, n).count("user.a"), 1u);
  EXPECT_EQ(syscall(kListxattrat, file.get(), "", AT_EMPTY_PATH, names, 0), n);
  EXPECT_ERRNO(EBADF, syscall(kListxattrat, at.get(), "", AT_EMPTY_PATH, names, sizeof names));
  EXPECT_ERRNO(EBADF, syscall(kRemovexattrat, at.get(), "", AT_EMPTY_PATH, "user.a"));
  EXPECT_OK(syscall(kRemovexattrat, at.get(), "l", 0, "user.a"));
  EXPECT_ERRNO(ENODATA, syscall(kRemovexattrat, at.get(), "f", 0, "user.a"));
}

TEST(setxattrat, Errors) {
  COVERS(getxattrat, listxattrat, removexattrat);
  Scratch dir;
  std::string file = dir.File("f", "x");
  const char* f = file.c_str();
  char value[16];
  struct {
    XattrArgs args;
    uint64_t more;
  } long_args = {{reinterpret_cast<uint64_t>(value), 3, 0}, 0};
  XattrArgs& args = long_args.args;
  auto set = [&](int at_flags, size_t size) {
    return syscall(kSetxattrat, AT_FDCWD, f, at_flags, "user.a", &long_args, size);
  };
  auto get = [&](size_t size) {
    return syscall(kGetxattrat, AT_FDCWD, f, 0, "user.a", &long_args, size);
  };
  EXPECT_ERRNO(EINVAL, set(AT_REMOVEDIR, sizeof args));
  EXPECT_ERRNO(EINVAL, set(0, sizeof args - 1));
  EXPECT_ERRNO(EINVAL, set(0, 0));
  EXPECT_ERRNO(E2BIG, set(0, kPage + 1));
  EXPECT_ERRNO(EFAULT, syscall(kSetxattrat, AT_FDCWD, f, 0, "user.a", BadPointer(), sizeof args));
  EXPECT_OK(set(0, sizeof long_args)) << "a longer structure, as long as its end is zero";
  args.flags = XATTR_CREATE;
  EXPECT_ERRNO(EEXIST, set(0, sizeof args));
  EXPECT_ERRNO(EINVAL, get(sizeof args)) << "reading takes no flags";
  args.flags = 99;
  EXPECT_ERRNO(EINVAL, set(0, sizeof args));
  args.flags = 0;
  args.size = 65537;
  EXPECT_ERRNO(E2BIG, set(0, sizeof args));
  args.size = 2;
  EXPECT_ERRNO(ERANGE, get(sizeof args));
  args.size = sizeof value;
  long_args.more = 1;
  EXPECT_ERRNO(E2BIG, set(0, sizeof long_args));
  EXPECT_ERRNO(E2BIG, get(sizeof long_args));
  EXPECT_EQ(get(sizeof args), 3);
  EXPECT_ERRNO(EBADF, syscall(kGetxattrat, kBadFd, "f", 0, "user.a", &args, sizeof args));
  EXPECT_ERRNO(EFAULT, syscall(kGetxattrat, kBadFd, nullptr, 0, "user.a", &args, sizeof args));
  EXPECT_ERRNO(EINVAL, syscall(kListxattrat, AT_FDCWD, f, AT_REMOVEDIR, value, sizeof value));
  EXPECT_ERRNO(ERANGE, syscall(kListxattrat, AT_FDCWD, f, 0, value, 3));
  EXPECT_ERRNO(EINVAL, syscall(kRemovexattrat, AT_FDCWD, f, AT_REMOVEDIR, "user.a"));
  EXPECT_ERRNO(EFAULT, syscall(kRemovexattrat, AT_FDCWD, f, 0, BadPointer()));
}

TEST(setxattr, Errors) {
  Scratch dir;
  std::string path = dir.File("f");
  const char* f = path.c_str();
  EXPECT_ERRNO(EOPNOTSUPP, syscall(SYS_setxattr, f, "nosuch.ns", "v", 1l, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_setxattr, f, "user.k", "v", 1l, 99));
  EXPECT_ERRNO(ERANGE, syscall(SYS_setxattr, f, std::string(256, 'n').c_str(), "v", 1l, 0));
  EXPECT_ERRNO(ERANGE, syscall(SYS_setxattr, f, "", "v", 1l, 0));
  EXPECT_ERRNO(E2BIG, syscall(SYS_setxattr, f, "user.k", "v", 65537l, 0));
  EXPECT_ERRNO(EFAULT, syscall(SYS_setxattr, f, "user.k", BadPointer(), 1l, 0));
  EXPECT_ERRNO(EFAULT, syscall(SYS_setxattr, f, BadPointer(), "v", 1l, 0));
  EXPECT_ERRNO(ENOENT, syscall(SYS_setxattr, (dir / "no").c_str(), "user.k", "v", 1l, 0));
  if (!IsRoot()) {
    EXPECT_ERRNO(EPERM, syscall(SYS_setxattr, f, "trusted.k", "v", 1l, 0));
    EXPECT_ERRNO(EACCES, syscall(SYS_setxattr, "/etc/passwd", "user.k", "v", 1l, 0));
  } else {
    EXPECT_OK(syscall(SYS_setxattr, f, "trusted.k", "v", 1l, 0));
  }
}

}  // namespace
}  // namespace uk::test
