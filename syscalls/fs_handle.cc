#include "syscalls/fs_handle.h"

#include <fcntl.h>

#include "syscalls/fs_common.h"
#include "ukernel/vfs/handles.h"

namespace uk {
namespace {

struct HandleHead {  // struct file_handle, before its bytes
  uint32_t bytes;
  int32_t type;
};
struct HandleBody {  // ours: as tmpfs of Linux has it
  uint32_t generation, low, high;
};
constexpr int32_t kType = 1;
constexpr uint32_t kMaxBytes = 128;
constexpr uint32_t kMntIdUnique = 1, kConnectable = 2, kFid = 0x200;

template <class T>
Result<T> fetch(Task& task, uint64_t at) {
  return UserIn<T>{{at}}.get(task.park(), task.mm());
}
template <class T>
Result<> put(Task& task, uint64_t at, const T& value) {
  const size_t n = TRY(task.mm().copy_out(task.park(), at, std::as_bytes(std::span(&value, 1))));
  return n == sizeof value ? Result<>() : Err(Errno::kFAULT);
}

}  // namespace

Result<int64_t> sys_name_to_handle_at(Task& task, Fd dirfd, UserStr user, UserAddr handle,
                                      UserAddr mount_id, Hex raw) {
  const auto flags = static_cast<uint32_t>(raw.value);
  constexpr uint32_t kKnown =
      AT_SYMLINK_FOLLOW | AT_EMPTY_PATH | kFid | kMntIdUnique | kConnectable;
  if ((flags & ~kKnown) != 0) return Err(Errno::kINVAL);
  if ((flags & kFid) != 0 && (flags & kConnectable) != 0) return Err(Errno::kINVAL);
  Path path = TRY(walk_at(task, dirfd, user, static_cast<int>(flags & AT_EMPTY_PATH),
                          (flags & AT_SYMLINK_FOLLOW) != 0));
  HandleHead head = TRY(fetch<HandleHead>(task, handle.addr));
  if (head.bytes > kMaxBytes) return Err(Errno::kINVAL);
  // DEVIATION: a handle never leads to its directory (AT_HANDLE_CONNECTABLE).
  if ((flags & kConnectable) != 0) return Err(Errno::kOPNOTSUPP);
  // One that only tells files apart (AT_HANDLE_FID) needs no way back.
  const bool only_id = (flags & kFid) != 0 && path.mount != nullptr;
  const uint64_t ino = only_id ? TRY(path.dentry->inode_ref()->getattr(task.park())).ino
                               : TRY(file_handle(task.kernel.vfs, task.park(), path));
  const bool fits = head.bytes >= sizeof(HandleBody);
  if (fits) {
    const HandleBody body{0, static_cast<uint32_t>(ino), static_cast<uint32_t>(ino >> 32)};
    TRY(put(task, handle.addr + sizeof head, body));
  }
  head = {sizeof(HandleBody), fits ? kType : 255};
  if ((flags & kMntIdUnique) != 0) {
    TRY(put(task, mount_id.addr, path.mount->unique_id()));
  } else {
    TRY(put(task, mount_id.addr, static_cast<int32_t>(path.mount->id)));
  }
  TRY(put(task, handle.addr, head));
  return fits ? Result<int64_t>(0) : Err(Errno::kOVERFLOW);
}

Result<int64_t> sys_open_by_handle_at(Task& task, Fd mount_fd, UserAddr handle, OpenFlags flags) {
  if (!task.cred().has(Cap::kDacReadSearch)) return Err(Errno::kPERM);
  const HandleHead head = TRY(fetch<HandleHead>(task, handle.addr));
  if (head.bytes > kMaxBytes || head.bytes == 0) return Err(Errno::kINVAL);
  Ref<Mount> mount = task.fs().cwd.mount;
  if (mount_fd != AT_FDCWD) mount = TRY(task.fds().get(mount_fd))->path().mount;
  if (head.type < 0 || head.bytes < sizeof(HandleBody) || head.type != kType)
    return Err(Errno::kSTALE);
  const auto body = TRY(fetch<HandleBody>(task, handle.addr + sizeof head));
  const uint64_t ino = (uint64_t{body.high} << 32) | body.low;
  if (body.generation != 0) return Err(Errno::kSTALE);
  Path path = TRY(path_of_handle(task.kernel.vfs, mount, ino));
  // As by its name: what open(2) would refuse is refused.
  OpenRequest request;
  request.flags = flags & ~(O_CREAT | O_EXCL | O_CLOEXEC);
  request.walk = kWalkEmptyOk;
  FsContext ctx = task.fs_context();
  Ref<File> file = TRY(task.kernel.vfs.open(task.park(), ctx, WalkFrom{&path}, "", request));
  return install_fd(task, std::move(file), (flags & O_CLOEXEC) != 0);
}

}  // namespace uk
