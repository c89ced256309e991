#include "syscalls/fs_dir.h"

#include <cstring>
#include <vector>

#include "syscalls/fs_common.h"

namespace uk {
namespace {

// Collects entries in one of the two record formats of getdents(2).
Result<int64_t> do_getdents(Task& task, Fd fd, uint64_t addr, uint32_t count, bool wide) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  if (file->inode() == nullptr || !is_type(file->inode()->type(), S_IFDIR))
    return Err(Errno::kNOTDIR);
  constexpr uint32_t kMaxBuffer = 1 << 20;
  count = std::min(count, kMaxBuffer);
  std::vector<std::byte> out;
  bool too_small = false;
  MutexLock lock(task.park(), file->pos_lock);
  auto visit = [&](const DirEntry& e) {
    // linux_dirent64: ino, off, reclen, type, name\0. linux_dirent: ino, off, reclen, name\0, type
    // in the last byte.
    const size_t head = wide ? 19 : 18;
    const size_t len = (head + e.name.size() + 1 + (wide ? 0 : 1) + 7) & ~size_t{7};
    if (out.size() + len > count) {
      too_small = out.empty();
      return false;
    }
    const size_t at = out.size();
    out.resize(at + len);
    auto reclen = static_cast<uint16_t>(len);
    std::memcpy(&out[at], &e.ino, 8);
    std::memcpy(&out[at + 8], &e.next_pos, 8);
    std::memcpy(&out[at + 16], &reclen, 2);
    if (wide) out[at + 18] = static_cast<std::byte>(e.type);
    std::memcpy(&out[at + head], e.name.data(), e.name.size());
    if (!wide) out[at + len - 1] = static_cast<std::byte>(e.type);
    return true;
  };
  TRY(file->readdir(task.park(), visit));
  if (too_small) return Err(Errno::kINVAL);
  TRY((UserOut<std::byte>{{addr}}.put_array(task.park(), task.mm(), out)));
  return static_cast<int64_t>(out.size());
}

}  // namespace

Result<int64_t> sys_getdents(Task& task, Fd fd, UserOut<std::byte> buf, uint32_t count) {
  return do_getdents(task, fd, buf.addr, count, false);
}
Result<int64_t> sys_getdents64(Task& task, Fd fd, UserOut<std::byte> buf, uint32_t count) {
  return do_getdents(task, fd, buf.addr, count, true);
}

}  // namespace uk
