// The inodes of overlay. Private to the package.
#pragma once

#include <string>
#include <unordered_map>

#include "ukernel/fs/overlay/overlay.h"

namespace uk {

class OverlayInode;

constexpr std::string_view kOverlayXattrs = "trusted.overlay.";
constexpr std::string_view kOpaqueXattr = "trusted.overlay.opaque";
// The number shown before the file was copied up, in decimal: it stays.
constexpr std::string_view kOriginXattr = "trusted.overlay.origin";

class OverlaySuper final : public SuperBlock {
 public:
  OverlaySuper(Vfs& v, Ref<SuperBlock> upper_sb, Ref<SuperBlock> lower_sb);
  std::string_view fs_type() const override { return "overlay"; }
  Result<FsStat> statfs(Park& park) override {
    FsStat s = TRY(upper->statfs(park));
    s.type = 0x794c7630;  // OVERLAYFS_SUPER_MAGIC
    return s;
  }
  Result<> sync(Park& park) override { return upper->sync(park); }
  bool volatile_names() const override { return lower->volatile_names(); }

  // The inode made of these two, or a new one below `parent`.
  Result<Ref<OverlayInode>> join(Park& park, Ref<Inode> upper_inode, Ref<Inode> lower_inode,
                                 Ref<OverlayInode> parent, std::string_view name);
  uint64_t upper_ino(uint64_t ino) const { return kUpperBit + ino; }
  uint64_t lower_ino(const FileAttr& attr) const;

  Vfs& vfs;
  Ref<SuperBlock> upper, lower;
  std::unordered_map<const Inode*, OverlayInode*> by_upper, by_lower;

 private:
  // Below 2^53, so that programs that keep numbers in doubles see them right.
  static constexpr uint64_t kUpperBit = 1ull << 51;
};

class OverlayInode final : public Inode {
 public:
  OverlayInode(Ref<OverlaySuper> sb, Ref<Inode> upper, Ref<Inode> lower, Ref<OverlayInode> parent,
               std::string name, uint64_t ino);
  ~OverlayInode() override;

  uint32_t type() const override { return real().type(); }
  Result<FileAttr> getattr(Park& park) override;
  Result<> setattr(Park& park, const AttrChange& change) override;
  Result<Ref<Inode>> lookup(Park& park, std::string_view name) override;
  Result<Ref<Inode>> create(Park& park, std::string_view name, const MakeNode& node) override;
  Result<> link(Park& park, std::string_view name, Inode& target) override;
  Result<> unlink(Park& park, std::string_view name, Inode& victim) override;
  Result<> rmdir(Park& park, std::string_view name, Inode& victim) override;
  Result<> rename(Park& park, std::string_view old_name, Inode& moved, Inode& new_dir,
                  std::string_view new_name, Inode* replaced, uint32_t flags) override;
  Result<Ref<Inode>> tmpfile(Park& park, const MakeNode& node) override;
  Result<std::string> readlink(Park& park) override { return Ref<Inode>(&real())->readlink(park); }
  Result<Ref<File>> open(Park& park, const Path& path, int flags, const Cred& cred) override;
  Ref<MemoryObject> memory_object() override { return real().memory_object(); }
  Result<std::string> getxattr(Park& park, std::string_view name) override;
  Result<> setxattr(Park& park, std::string_view name, std::string_view value, int flags) override;
  Result<> removexattr(Park& park, std::string_view name) override;
  Result<std::vector<std::string>> listxattr(Park& park) override;

  uint32_t inode_flags() const override { return real().inode_flags(); }
  bool has_inode_flags() const override { return true; }
  Result<> set_inode_flags(Park& park, uint32_t flags) override {
    TRY(copy_up(park));
    return upper_->set_inode_flags(park, flags);
  }

  // Makes the file exist in the upper tree, with at most `data_limit` bytes of its contents.
  Result<> copy_up(Park& park, uint64_t data_limit = UINT64_MAX);
  Inode* upper() const { return upper_.get(); }
  Inode* lower() const { return lower_.get(); }
  Inode& real() const { return upper_ != nullptr ? *upper_ : *lower_; }
  uint64_t ino() const { return ino_; }
  OverlaySuper& super() const { return static_cast<OverlaySuper&>(sb()); }

 private:
  Result<> copy_up_one(Park& park, uint64_t data_limit);
  Result<Ref<Inode>> copy_regular(Park& park, const FileAttr& attr, uint64_t data_limit);
  Result<> copy_attributes(Park& park, Inode& to, const FileAttr& attr);
  Result<> check_empty(Park& park);
  Result<> clear_whiteouts(Park& park);
  bool lower_has(Park& park, std::string_view name);
  bool lower_has_dir(Park& park, std::string_view name);
  Result<> whiteout(Park& park, std::string_view name);
  // Takes a whiteout at `name` away; true if there was one.
  Result<bool> unwhiteout(Park& park, std::string_view name);
  bool pure_upper_dir() const { return upper_ != nullptr && lower_ == nullptr; }

  Ref<Inode> upper_, lower_;
  Ref<OverlayInode> parent_;  // where it is in the tree; null for the root
  std::string name_;
  const uint64_t ino_;
  bool unlinked_ = false;
  uint32_t lower_links_lost_ = 0;
  Mutex copy_lock_;
};

// A whiteout hides a lower name.
bool is_whiteout(Park& park, Inode& inode);
// A path for a real inode, whose files must find it and not the overlay's.
Path real_path(const Path& shown, Inode& inode);
Ref<File> open_overlay_dir(const Path& path, int flags);

}  // namespace uk
