// ustat(2) and sysfs(2), which statfs(2) and /proc/filesystems have replaced.
#include "syscalls/fs_common.h"
#include "syscalls/fs_stat.h"
#include "ukernel/kernel.h"

namespace uk {
namespace {

struct UserUstat {  // struct ustat
  int32_t free_blocks;
  uint32_t padding = 0;
  uint64_t free_inodes;
  char name[6], pack[6];
  uint32_t end = 0;
};
static_assert(sizeof(UserUstat) == 32);

// A device number as user space spells it in 32 bits.
bool names(uint32_t dev, uint64_t device) {
  const uint32_t major = dev >> 8 & 0xfff, minor = (dev & 0xff) | (dev >> 12 & 0xfff00);
  return dev_major(device) == major && dev_minor(device) == minor;
}

}  // namespace

Result<int64_t> sys_ustat(Task& task, uint32_t dev, UserAddr out) {
  Ref<SuperBlock> found;
  for (const auto& [id, m] : task.mounts().mounts) {
    if (names(dev, m->sb->dev)) found = m->sb;
  }
  if (!found) return Err(Errno::kINVAL);
  const FsStat s = TRY(found->statfs(task.park()));
  UserUstat u{};
  u.free_blocks = static_cast<int32_t>(s.blocks_free);
  u.free_inodes = s.files_free;
  return zero(UserOut<UserUstat>{{out.addr}}.put(task.park(), task.mm(), u));
}

Result<int64_t> sys_sysfs(Task& task, int option, uint64_t arg1, UserAddr arg2) {
  constexpr int kIndex = 1, kName = 2, kCount = 3;
  constexpr size_t kMaxName = 4096;
  const auto& types = task.kernel.vfs.fs_types();
  switch (option) {
    case kIndex: {
      Result<std::string> name = task.mm().copy_in_string(task.park(), arg1, kMaxName);
      if (!name) return Err(name.error() == Errno::kNAMETOOLONG ? Errno::kINVAL : name.error());
      for (size_t i = 0; i < types.size(); ++i) {
        if (types[i].name == *name) return static_cast<int64_t>(i);
      }
      return Err(Errno::kINVAL);
    }
    case kName: {
      if (arg1 >= types.size()) return Err(Errno::kINVAL);
      const std::string name = types[arg1].name;
      auto bytes = std::as_bytes(std::span(name.c_str(), name.size() + 1));
      if (TRY(task.mm().copy_out(task.park(), arg2.addr, bytes)) != bytes.size())
        return Err(Errno::kFAULT);
      return 0;
    }
    case kCount:
      return static_cast<int64_t>(types.size());
    default:
      return Err(Errno::kINVAL);
  }
}

}  // namespace uk
