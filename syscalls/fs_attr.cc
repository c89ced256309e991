#include "syscalls/fs_attr.h"

#include <fcntl.h>
#include <linux/fs.h>

#include <array>
#include <utility>

#include "syscalls/extensible.h"
#include "syscalls/fs_common.h"

namespace uk {
namespace {

// All that <linux/fs.h> names: FS_XFLAGS_MASK.
constexpr uint64_t kMayBeGiven = 0x8001fffb;
// Linux takes what it only reports, and drops it.
constexpr uint32_t kReadOnly = FS_XFLAG_PREALLOC | FS_XFLAG_HASATTR;

// The same flags in both vocabularies; those of FS_IOC_SETFLAGS are the inode's own.
constexpr std::array<std::pair<uint32_t, uint32_t>, 4> kFlags = {{
    {FS_XFLAG_IMMUTABLE, kInodeImmutable},
    {FS_XFLAG_APPEND, kInodeAppend},
    {FS_XFLAG_NODUMP, kInodeNodump},
    {FS_XFLAG_NOATIME, kInodeNoatime},
}};

bool has_flags(const Inode& inode) {
  return inode.has_inode_flags() &&
         (is_type(inode.type(), S_IFREG) || is_type(inode.type(), S_IFDIR));
}

uint32_t xflags_of(const Inode& inode) {
  uint32_t xflags = 0;
  for (auto [xflag, flag] : kFlags) xflags |= (inode.inode_flags() & flag) != 0 ? xflag : 0;
  return xflags;
}

Result<> may_set(Task& task, const Path& path, uint32_t wanted) {
  Ref<Inode> inode(path.inode());
  if (path.mount && path.mount->read_only()) return Err(Errno::kROFS);
  if (TRY(inode->getattr(task.park())).uid != task.cred().fsuid && !task.cred().has(Cap::kFowner)) {
    return Err(Errno::kPERM);
  }
  uint32_t changed = wanted ^ inode->inode_flags();
  if ((changed & (kInodeImmutable | kInodeAppend)) != 0 && !task.cred().has(Cap::kLinuxImmutable)) {
    return Err(Errno::kPERM);
  }
  return {};
}

Result<> set_flags(Task& task, const Path& path, uint32_t wanted) {
  TRY(may_set(task, path, wanted));
  return Ref<Inode>(path.inode())->set_inode_flags(task.park(), wanted);
}

// Whatever the four flags cannot say (extents, projects, DAX, ...) is kOPNOTSUPP.
Result<> set_attr(Task& task, const Path& path, const UserFileAttr& attr) {
  uint32_t xflags = static_cast<uint32_t>(attr.xflags) & ~kReadOnly;
  uint32_t wanted = 0;
  for (auto [xflag, flag] : kFlags) wanted |= (xflags & xflag) != 0 ? flag : 0;
  TRY(may_set(task, path, wanted));
  const bool directory = is_type(path.inode()->type(), S_IFDIR);
  if ((xflags & FS_XFLAG_EXTSIZE) != 0 && directory) return Err(Errno::kINVAL);
  if ((xflags & FS_XFLAG_EXTSZINHERIT) != 0 && !directory) return Err(Errno::kINVAL);
  // A hint of no size is none.
  if (attr.extsize == 0) xflags &= ~(FS_XFLAG_EXTSIZE | FS_XFLAG_EXTSZINHERIT);
  if (attr.cowextsize == 0) xflags &= ~FS_XFLAG_COWEXTSIZE;
  for (auto [xflag, flag] : kFlags) xflags &= ~xflag;
  if (xflags != 0 || attr.extsize != 0 || attr.projid != 0 || attr.cowextsize != 0) {
    return Err(Errno::kOPNOTSUPP);
  }
  return set_flags(task, path, wanted);
}

Result<> check(Hex at_flags, size_t size) {
  if ((at_flags.value & ~uint64_t{AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH}) != 0) {
    return Err(Errno::kINVAL);
  }
  if (size > kPageSize) return Err(Errno::k2BIG);
  if (size < sizeof(UserFileAttr)) return Err(Errno::kINVAL);
  return {};
}

}  // namespace

Result<int64_t> sys_file_getattr(Task& task, Fd dirfd, UserStr user, UserOut<UserFileAttr> attr,
                                 size_t size, Hex at_flags) {
  TRY(check(at_flags, size));
  Path path = TRY(walk_at_or_fd(task, dirfd, user, static_cast<int>(at_flags.value)));
  if (!has_flags(*path.inode())) return Err(Errno::kOPNOTSUPP);
  return zero(put_extensible(task, attr, size, UserFileAttr{xflags_of(*path.inode()), 0, 0, 0, 0}));
}

Result<int64_t> sys_file_setattr(Task& task, Fd dirfd, UserStr user, UserIn<UserFileAttr> from,
                                 size_t size, Hex at_flags) {
  TRY(check(at_flags, size));
  auto attr = TRY(fetch_extensible<UserFileAttr>(task, from, size, sizeof(UserFileAttr)));
  if ((attr.xflags & ~kMayBeGiven) != 0) return Err(Errno::kINVAL);
  Path path = TRY(walk_at_or_fd(task, dirfd, user, static_cast<int>(at_flags.value)));
  if (!has_flags(*path.inode())) return Err(Errno::kOPNOTSUPP);
  return zero(set_attr(task, path, attr));
}

Result<int64_t> file_attr_ioctl(Task& task, File& file, uint32_t cmd, UserAddr arg) {
  if (file.inode() == nullptr || !has_flags(*file.inode())) return Err(Errno::kNOTTY);
  Park& park = task.park();
  switch (cmd) {
    case FS_IOC_GETFLAGS:
      return zero(UserOut<uint32_t>{arg}.put(park, task.mm(), file.inode()->inode_flags()));
    case FS_IOC_SETFLAGS:
      return zero(set_flags(task, file.path(), TRY(UserIn<uint32_t>{arg}.get(park, task.mm()))));
    case FS_IOC_FSGETXATTR: {
      struct fsxattr x {};
      x.fsx_xflags = xflags_of(*file.inode());
      return zero(UserOut<struct fsxattr>{arg}.put(park, task.mm(), x));
    }
    default: {  // FS_IOC_FSSETXATTR
      struct fsxattr x = TRY(UserIn<struct fsxattr>{arg}.get(park, task.mm()));
      return zero(
          set_attr(task, file.path(),
                   {x.fsx_xflags, x.fsx_extsize, x.fsx_nextents, x.fsx_projid, x.fsx_cowextsize}));
    }
  }
}

}  // namespace uk
