// MOUNT_ATTR_* of the new mount calls (mount_setattr(2)), and their translation; shared by fsmount,
// mount_setattr and statmount.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "ukernel/vfs/mount.h"

namespace uk {

enum MountAttr : uint64_t {
  kAttrRdonly = 1,
  kAttrNosuid = 2,
  kAttrNodev = 4,
  kAttrNoexec = 8,
  kAttrAtime = 0x70,  // a choice of the next three; relatime is 0
  kAttrNoatime = 0x10,
  kAttrStrictatime = 0x20,
  kAttrNodiratime = 0x80,
  kAttrNosymfollow = 0x200000,
};
constexpr uint64_t kAttrAll = kAttrRdonly | kAttrNosuid | kAttrNodev | kAttrNoexec | kAttrAtime |
                              kAttrNodiratime | kAttrNosymfollow;

// The flags that are named alike (the low four, nodiratime, nosymfollow), without access times.
constexpr uint32_t plain_mount_flags(uint64_t attr) {
  return static_cast<uint32_t>(attr & 15) | ((attr & kAttrNodiratime) != 0 ? kMntNodiratime : 0u) |
         ((attr & kAttrNosymfollow) != 0 ? kMntNosymfollow : 0u);
}
// The choice of access times; kINVAL for what is none.
inline Result<uint32_t> atime_mount_flags(uint64_t attr) {
  switch (attr & kAttrAtime) {
    case 0:
      return uint32_t{kMntRelatime};
    case kAttrNoatime:
      return uint32_t{kMntNoatime};
    case kAttrStrictatime:
      return uint32_t{0};
    default:
      return Err(Errno::kINVAL);
  }
}
// And back.
constexpr uint64_t mount_attr(uint32_t flags) {
  uint64_t attr = flags & 15;
  if ((flags & kMntNoatime) != 0) {
    attr |= kAttrNoatime;
  } else if ((flags & kMntRelatime) == 0) {
    attr |= kAttrStrictatime;
  }
  if ((flags & kMntNodiratime) != 0) attr |= kAttrNodiratime;
  if ((flags & kMntNosymfollow) != 0) attr |= kAttrNosymfollow;
  return attr;
}

}  // namespace uk
