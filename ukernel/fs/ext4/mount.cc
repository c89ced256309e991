// ext4: mounting.
#include <algorithm>
#include <charconv>

#include "ukernel/fs/ext4/ext4_inode.h"

namespace uk {

using ext4::Ext4Inode;
using ext4::Ext4Super;
using ext4::Volume;

Result<Ext4Options> parse_ext4_options(const std::string& text, Ext4Options o) {
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    if (item == "ro") {
      o.read_only = true;
    } else if (item == "noload" || item == "norecovery") {
      o.no_load = true;
    } else if (item.starts_with("commit=")) {
      const std::string_view number = item.substr(7);
      const char* end = number.data() + number.size();
      auto [at, error] = std::from_chars(number.data(), end, o.commit_s);
      constexpr uint32_t kMost = 24 * 3600;
      if (error != std::errc() || at != end || o.commit_s > kMost) return Err(Errno::kINVAL);
      if (o.commit_s == 0) o.commit_s = Ext4Options::kCommitSeconds;
    } else if (item != "" && item != "rw" && item != "errors=remount-ro" && item != "acl" &&
               item != "user_xattr" && item != "data=ordered" && item != "delalloc" &&
               item != "barrier" && item != "barrier=1" && item != "block_validity") {
      return Err(Errno::kINVAL);
    }
  }
  return o;
}

Result<Ref<SuperBlock>> mount_ext4(Park& park, BlockDevices& devices, Ref<BlockDevice> device,
                                   const Ext4Options& options, Ref<Inode>* root) {
  if (device->filesystem != nullptr) {
    if (device->filesystem->fs_type() != "ext4") return Err(Errno::kBUSY);
    Ref<Ext4Super> sb(static_cast<Ext4Super*>(device->filesystem));
    if (sb->read_only != options.read_only) return Err(Errno::kBUSY);
    *root = TRY(sb->inode(park, EXT2_ROOT_INO));
    return Ref<SuperBlock>(sb);
  }
  if (!options.read_only && device->read_only()) return Err(Errno::kACCES);
  if (options.no_load && !options.read_only) return Err(Errno::kINVAL);
  std::unique_ptr<Volume> volume = TRY(Volume::open(park, std::move(device), devices.vfs.log(),
                                                    {options.read_only, options.no_load}));
  auto sb = make_ref<Ext4Super>(devices.vfs, devices, std::move(volume));
  sb->read_only = options.read_only;
  sb->settings = options;
  Ref<Ext4Inode> top = TRY(sb->inode(park, EXT2_ROOT_INO));
  if (top->type() != S_IFDIR) return Err(Errno::kUCLEAN);
  if (!sb->read_only) TRY(sb->clean_orphans(park));
  *root = std::move(top);
  return Ref<SuperBlock>(sb);
}

void register_ext4(Vfs& vfs, BlockDevices& devices) {
  FsType type;
  type.name = "ext4";
  type.needs_device = true;
  type.mount_device = [&devices](Park& park, uint64_t rdev, bool read_only, const std::string& text,
                                 Ref<Inode>* root) -> Result<Ref<SuperBlock>> {
    Ext4Options options = TRY(parse_ext4_options(text));
    options.read_only |= read_only;
    Ref<BlockDevice> device = devices.find(rdev);
    if (device == nullptr) return Err(Errno::kNXIO);
    return mount_ext4(park, devices, std::move(device), options, root);
  };
  vfs.register_fs(std::move(type));
}

}  // namespace uk
