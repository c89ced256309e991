#include "syscalls/fs_mount_new.h"

#include <fcntl.h>
#include <sys/mount.h>

#include <bit>

#include "syscalls/extensible.h"
#include "syscalls/fs_common.h"
#include "syscalls/fs_mount.h"
#include "syscalls/mount_attr.h"
#include "ukernel/vfs/move_mount.h"

namespace uk {
namespace {

constexpr uint32_t kOpenTreeClone = 1;
constexpr uint32_t kRecursive = 0x8000;  // AT_RECURSIVE

// move_mount(2).
enum MoveFlags : uint32_t {
  kFromSymlinks = 1,
  kFromEmptyPath = 4,
  kToSymlinks = 0x10,
  kToEmptyPath = 0x40,
  kSetGroup = 0x100,
  kBeneath = 0x200,
  kMoveKnown = 0x377,
};

// mount_setattr(2).
struct SetAttr {
  uint64_t set, clear, propagation, userns_fd;
};

class TreeFile final : public File {
 public:
  TreeFile(Path path, Ref<MountNamespace> tree)
      : File(std::move(path), O_PATH), tree_(std::move(tree)) {}
  Result<size_t> read(Park&, IoSink&, uint64_t) override { return Err(Errno::kBADF); }
  Result<size_t> write(Park&, IoSource&, uint64_t&) override { return Err(Errno::kBADF); }
  Result<int64_t> ioctl(Park&, IoctlUser&, uint32_t, uint64_t) override {
    return Err(Errno::kBADF);
  }
  Ref<MemoryObject> memory_object() override { return nullptr; }

 private:
  Ref<MountNamespace> tree_;  // null: an ordinary O_PATH descriptor
};

int at_flags(bool follow, bool empty) {
  return (follow ? 0 : AT_SYMLINK_NOFOLLOW) | (empty ? AT_EMPTY_PATH : 0);
}

Result<std::optional<Propagation>> propagation_of(uint64_t kind) {
  switch (kind) {
    case 0:
      return std::optional<Propagation>();
    case MS_SHARED:
      return std::optional(Propagation::kShared);
    case MS_PRIVATE:
      return std::optional(Propagation::kPrivate);
    case MS_SLAVE:
      return std::optional(Propagation::kSlave);
    case MS_UNBINDABLE:
      return std::optional(Propagation::kUnbindable);
    default:
      return Err(Errno::kINVAL);
  }
}

Result<MountChange> change_of(const SetAttr& a) {
  MountChange change;
  change.propagation = TRY(propagation_of(a.propagation));
  // DEVIATION: mounts cannot map ids (MOUNT_ATTR_IDMAP); see docs/CAVEATS.md.
  if (((a.set | a.clear) & ~kAttrAll) != 0) return Err(Errno::kINVAL);
  change.set = plain_mount_flags(a.set);
  change.clear = plain_mount_flags(a.clear);
  // Access times are a choice, which has to be cleared as a whole to be changed.
  if ((a.clear & kAttrAtime) != 0) {
    if ((a.clear & kAttrAtime) != kAttrAtime) return Err(Errno::kINVAL);
    change.set |= TRY(atime_mount_flags(a.set));
    change.clear |= kMntNoatime | kMntRelatime;
  } else if ((a.set & kAttrAtime) != 0) {
    return Err(Errno::kINVAL);
  }
  return change;
}

}  // namespace

Result<int64_t> install_tree(Task& task, Ref<MountNamespace> tree, bool cloexec) {
  Path path(tree->root, tree->root->root);
  return install_fd(task, make_ref<TreeFile>(std::move(path), std::move(tree)), cloexec);
}

Result<int64_t> sys_open_tree(Task& task, Fd dirfd, UserStr path, Hex raw) {
  const auto flags = static_cast<uint32_t>(raw.value);
  constexpr uint32_t kKnown = kOpenTreeClone | O_CLOEXEC | AT_EMPTY_PATH | AT_NO_AUTOMOUNT |
                              kRecursive | AT_SYMLINK_NOFOLLOW;
  const bool clone = (flags & kOpenTreeClone) != 0, recursive = (flags & kRecursive) != 0;
  const bool cloexec = (flags & O_CLOEXEC) != 0;
  if ((flags & ~kKnown) != 0 || (recursive && !clone)) return Err(Errno::kINVAL);
  if (clone && !may_mount(task)) return Err(Errno::kPERM);
  Path from = TRY(
      walk_at(task, dirfd, path, static_cast<int>(flags & (AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))));
  Vfs& vfs = task.kernel.vfs;
  if (!clone) return install_fd(task, make_ref<TreeFile>(std::move(from), nullptr), cloexec);
  return install_tree(task, TRY(vfs.detached_copy(task.fs_context(), from, recursive)), cloexec);
}

Result<int64_t> sys_move_mount(Task& task, Fd from_dirfd, UserStr from, Fd to_dirfd, UserStr to,
                               Hex raw) {
  const auto flags = static_cast<uint32_t>(raw.value);
  if (!may_mount(task)) return Err(Errno::kPERM);
  if ((flags & ~uint32_t{kMoveKnown}) != 0) return Err(Errno::kINVAL);
  if ((flags & kSetGroup) != 0 && (flags & kBeneath) != 0) return Err(Errno::kINVAL);
  // DEVIATION: groups alone are not set; see docs/CAVEATS.md.
  if ((flags & kSetGroup) != 0) return Err(Errno::kOPNOTSUPP);
  Path target = TRY(walk_at(task, to_dirfd, to,
                            at_flags((flags & kToSymlinks) != 0, (flags & kToEmptyPath) != 0)));
  Path source = TRY(walk_at(task, from_dirfd, from,
                            at_flags((flags & kFromSymlinks) != 0, (flags & kFromEmptyPath) != 0)));
  return zero(move_mount(task.kernel.vfs, task.fs_context(), source, target,
                         (flags & kBeneath) != 0 ? MoveTo::kBeneath : MoveTo::kOnTop));
}

Result<int64_t> sys_mount_setattr(Task& task, Fd dirfd, UserStr path, Hex raw, UserAddr user,
                                  size_t size) {
  const auto flags = static_cast<uint32_t>(raw.value);
  constexpr uint32_t kKnown = AT_EMPTY_PATH | kRecursive | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
  if ((flags & ~kKnown) != 0) return Err(Errno::kINVAL);
  if (size > kPageSize) return Err(Errno::k2BIG);
  if (size < sizeof(SetAttr)) return Err(Errno::kINVAL);
  if (!may_mount(task)) return Err(Errno::kPERM);
  const SetAttr attr = TRY(fetch_extensible<SetAttr>(task, user, size, sizeof(SetAttr)));
  if (attr.set == 0 && attr.clear == 0 && attr.propagation == 0) return 0;
  MountChange change = TRY(change_of(attr));
  change.recursive = (flags & kRecursive) != 0;
  Path at = TRY(
      walk_at(task, dirfd, path, static_cast<int>(flags & (AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))));
  return zero(task.kernel.vfs.change_mounts(task.fs_context(), at, change));
}

}  // namespace uk
