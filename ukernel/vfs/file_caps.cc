#include "ukernel/vfs/file_caps.h"

#include <linux/capability.h>

#include <cstring>

namespace uk {

Result<FileCaps> FileCaps::parse(std::string_view bytes) {
  struct {
    uint32_t magic, permitted_low, inheritable_low, permitted_high, inheritable_high, root;
  } raw{};
  constexpr size_t kVersion2Bytes = 20, kVersion3Bytes = 24;
  if (bytes.size() != kVersion2Bytes && bytes.size() != kVersion3Bytes) return Err(Errno::kINVAL);
  std::memcpy(&raw, bytes.data(), bytes.size());
  const uint32_t version = raw.magic & VFS_CAP_REVISION_MASK;
  const uint32_t wanted = bytes.size() == kVersion2Bytes ? VFS_CAP_REVISION_2 : VFS_CAP_REVISION_3;
  if (version != wanted) return Err(Errno::kINVAL);
  FileCaps caps;
  caps.permitted = (uint64_t{raw.permitted_high} << 32 | raw.permitted_low) & kAllCaps;
  caps.inheritable = (uint64_t{raw.inheritable_high} << 32 | raw.inheritable_low) & kAllCaps;
  caps.effective = (raw.magic & VFS_CAP_FLAGS_EFFECTIVE) != 0;
  caps.root = raw.root;
  return caps;
}

}  // namespace uk
