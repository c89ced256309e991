#include "syscalls/fs_xattr.h"

#include <fcntl.h>

#include "syscalls/extensible.h"
#include "syscalls/fs_common.h"

namespace uk {
namespace {

constexpr size_t kMaxValue = 65536;  // XATTR_SIZE_MAX

Result<std::string> fetch_name(Task& task, UserStr user) {
  auto name = user.get(task.park(), task.mm(), kNameMax);
  if (!name) return Err(name.error() == Errno::kNAMETOOLONG ? Errno::kRANGE : name.error());
  if (name->empty()) return Err(Errno::kRANGE);
  return name;
}

Result<Path> path_of(Task& task, UserStr path, bool follow) {
  return walk_at(task, Fd{AT_FDCWD}, path, 0, follow);
}

Result<int64_t> set(Task& task, Result<Path> path, UserStr user_name, UserIn<char> value,
                    size_t size, int flags) {
  if ((flags & ~3) != 0) return Err(Errno::kINVAL);
  std::string name = TRY(fetch_name(task, user_name));
  if (size > kMaxValue) return Err(Errno::k2BIG);
  std::vector<char> bytes = TRY(value.get_array(task.park(), task.mm(), size));
  Path p = TRY(std::move(path));
  return zero(task.kernel.vfs.setxattr(task.park(), task.fs_context(), p, name,
                                       std::string_view(bytes.data(), bytes.size()), flags));
}

Result<int64_t> put(Task& task, UserOut<char> to, size_t size, std::string_view bytes) {
  if (size == 0) return static_cast<int64_t>(bytes.size());
  if (bytes.size() > size) return Err(Errno::kRANGE);
  TRY(to.put_array(task.park(), task.mm(), std::span<const char>(bytes.data(), bytes.size())));
  return static_cast<int64_t>(bytes.size());
}

Result<int64_t> get(Task& task, Result<Path> path, UserStr user_name, UserOut<char> to,
                    size_t size) {
  std::string name = TRY(fetch_name(task, user_name));
  Path p = TRY(std::move(path));
  return put(task, to, size,
             TRY(task.kernel.vfs.getxattr(task.park(), task.fs_context(), p, name)));
}

Result<int64_t> list(Task& task, Result<Path> path, UserOut<char> to, size_t size) {
  Path p = TRY(std::move(path));
  auto names = task.kernel.vfs.listxattr(task.park(), task.fs_context(), p);
  if (!names && names.error() == Errno::kOPNOTSUPP) return 0;
  std::string all;
  for (const std::string& n : TRY(std::move(names))) {
    all += n;
    all += '\0';
  }
  return put(task, to, size, all);
}

Result<int64_t> remove(Task& task, Result<Path> path, UserStr user_name) {
  std::string name = TRY(fetch_name(task, user_name));
  Path p = TRY(std::move(path));
  return zero(task.kernel.vfs.removexattr(task.park(), task.fs_context(), p, name));
}

// Runs `f` with the path of a descriptor, which stays open meanwhile; or with why there is none, as
// Linux looks at the attribute's name first.
template <class F>
Result<int64_t> with_fd(Task& task, Fd fd, F&& f) {
  Result<Ref<File>> file = task.fds().get_io(fd);
  if (!file) return f(Result<Path>(Err(file.error())));
  if ((*file)->inode() == nullptr) return f(Result<Path>(Err(Errno::kOPNOTSUPP)));
  return f(Result<Path>((*file)->path()));
}

// The file that an at form names.
Result<Path> path_at(Task& task, Fd dirfd, UserStr path, Hex at_flags) {
  return walk_at_or_fd(task, dirfd, path, static_cast<int>(at_flags.value));
}

bool are_known(Hex at_flags) {
  return (at_flags.value & ~uint64_t{AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH}) == 0;
}

}  // namespace

Result<int64_t> sys_setxattr(Task& task, UserStr path, UserStr name, UserIn<char> value,
                             size_t size, int flags) {
  return set(task, path_of(task, path, true), name, value, size, flags);
}
Result<int64_t> sys_lsetxattr(Task& task, UserStr path, UserStr name, UserIn<char> value,
                              size_t size, int flags) {
  return set(task, path_of(task, path, false), name, value, size, flags);
}
Result<int64_t> sys_fsetxattr(Task& task, Fd fd, UserStr name, UserIn<char> value, size_t size,
                              int flags) {
  return with_fd(task, fd,
                 [&](const Result<Path>& p) { return set(task, p, name, value, size, flags); });
}

Result<int64_t> sys_getxattr(Task& task, UserStr path, UserStr name, UserOut<char> value,
                             size_t size) {
  return get(task, path_of(task, path, true), name, value, size);
}
Result<int64_t> sys_lgetxattr(Task& task, UserStr path, UserStr name, UserOut<char> value,
                              size_t size) {
  return get(task, path_of(task, path, false), name, value, size);
}
Result<int64_t> sys_fgetxattr(Task& task, Fd fd, UserStr name, UserOut<char> value, size_t size) {
  return with_fd(task, fd, [&](const Result<Path>& p) { return get(task, p, name, value, size); });
}

Result<int64_t> sys_listxattr(Task& task, UserStr path, UserOut<char> to, size_t size) {
  return list(task, path_of(task, path, true), to, size);
}
Result<int64_t> sys_llistxattr(Task& task, UserStr path, UserOut<char> to, size_t size) {
  return list(task, path_of(task, path, false), to, size);
}
Result<int64_t> sys_flistxattr(Task& task, Fd fd, UserOut<char> to, size_t size) {
  return with_fd(task, fd, [&](const Result<Path>& p) { return list(task, p, to, size); });
}

Result<int64_t> sys_removexattr(Task& task, UserStr path, UserStr name) {
  return remove(task, path_of(task, path, true), name);
}
Result<int64_t> sys_lremovexattr(Task& task, UserStr path, UserStr name) {
  return remove(task, path_of(task, path, false), name);
}
Result<int64_t> sys_fremovexattr(Task& task, Fd fd, UserStr name) {
  return with_fd(task, fd, [&](const Result<Path>& p) { return remove(task, p, name); });
}

Result<int64_t> sys_setxattrat(Task& task, Fd dirfd, UserStr path, Hex at_flags, UserStr name,
                               UserIn<UserXattrArgs> user, size_t size) {
  if (!are_known(at_flags)) return Err(Errno::kINVAL);
  auto args = TRY(fetch_extensible<UserXattrArgs>(task, user, size, sizeof(UserXattrArgs)));
  return set(task, path_at(task, dirfd, path, at_flags), name, {{args.value}}, args.size,
             static_cast<int>(args.flags));
}

Result<int64_t> sys_getxattrat(Task& task, Fd dirfd, UserStr path, Hex at_flags, UserStr name,
                               UserIn<UserXattrArgs> user, size_t size) {
  if (!are_known(at_flags)) return Err(Errno::kINVAL);
  auto args = TRY(fetch_extensible<UserXattrArgs>(task, user, size, sizeof(UserXattrArgs)));
  if (args.flags != 0) return Err(Errno::kINVAL);
  return get(task, path_at(task, dirfd, path, at_flags), name, {{args.value}}, args.size);
}

Result<int64_t> sys_listxattrat(Task& task, Fd dirfd, UserStr path, Hex at_flags, UserOut<char> to,
                                size_t size) {
  if (!are_known(at_flags)) return Err(Errno::kINVAL);
  return list(task, path_at(task, dirfd, path, at_flags), to, size);
}

Result<int64_t> sys_removexattrat(Task& task, Fd dirfd, UserStr path, Hex at_flags, UserStr name) {
  if (!are_known(at_flags)) return Err(Errno::kINVAL);
  return remove(task, path_at(task, dirfd, path, at_flags), name);
}

}  // namespace uk
