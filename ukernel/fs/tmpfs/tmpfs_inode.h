// The inodes of tmpfs. Private to the package.
#pragma once

#include <map>
#include <string>
#include <unordered_map>

#include "ukernel/fs/tmpfs/tmpfs.h"
#include "ukernel/mm/page_cache.h"

namespace uk {

class TmpfsSuper final : public SuperBlock {
 public:
  TmpfsSuper(Vfs& v, const TmpfsOptions& o)
      : vfs(v), limits(o), budget(make_ref<PageBudget>(o.max_pages)) {}
  std::string_view fs_type() const override { return "tmpfs"; }
  Result<FsStat> statfs(Park& park) override;
  std::string options() const override;
  Result<> reconfigure(const std::string& options) override;

  Vfs& vfs;
  TmpfsOptions limits;
  Ref<PageBudget> budget;
  // Inodes that can still be made. Extended attributes take from the same store, an inode a KiB (as
  // Linux counts: BOGO_INODE_SIZE); where inodes have no limit, attributes have one.
  uint64_t free_inodes() const;
  bool take_xattr_space(size_t bytes);

  uint64_t inodes = 0;
  uint64_t xattr_bytes = 0;
  uint64_t next_ino = 1;
};

class TmpfsInode : public Inode {
 public:
  TmpfsInode(Ref<TmpfsSuper> sb, const MakeNode& node);
  ~TmpfsInode() override;

  uint32_t type() const final { return attr_.mode & S_IFMT; }
  Result<FileAttr> getattr(Park& park) override;
  Result<> setattr(Park& park, const AttrChange& change) override;
  Result<std::string> getxattr(Park& park, std::string_view name) final;
  Result<> setxattr(Park& park, std::string_view name, std::string_view value, int flags) final;
  Result<> removexattr(Park& park, std::string_view name) final;
  Result<std::vector<std::string>> listxattr(Park& park) final;
  bool same_as(const Inode& other) const override { return this == &other; }

  uint32_t inode_flags() const final { return flags_; }
  bool has_inode_flags() const final { return true; }
  Result<> set_inode_flags(Park& park, uint32_t flags) final;

  TmpfsSuper& super() const { return static_cast<TmpfsSuper&>(sb()); }
  FileAttr& attr() { return attr_; }
  void touch_ctime() { attr_.ctime = super().vfs.now(); }
  // The caller changes what is in it: times, and privileges that it takes away (file_modified() in
  // Linux).
  void modified();

 protected:
  void xattr_changed(std::string_view name);
  FileAttr attr_;
  uint32_t flags_ = 0;
  std::map<std::string, std::string, std::less<>> xattrs_;
  size_t xattr_bytes_ = 0;
  bool has_acl_ = false;  // among them
};

class TmpfsRegular final : public TmpfsInode {
 public:
  TmpfsRegular(Ref<TmpfsSuper> sb, const MakeNode& node);

  Result<FileAttr> getattr(Park& park) override;
  Result<> setattr(Park& park, const AttrChange& change) override;
  Result<Ref<File>> open(Park& park, const Path& path, int flags, const Cred& cred) override;
  Ref<MemoryObject> memory_object() override;
  Result<> set_contents(Ref<MemoryObject> contents) override;
  Result<uint32_t> seals() override { return seals_; }
  Result<> add_seals(uint32_t seals) override;
  void allow_sealing() override { seals_ = 0; }

  // Copies borrowed contents into pages of its own; before the first change.
  Result<> own_contents(Park& park);
  uint64_t size() { return borrowed_ != nullptr ? borrowed_->size() : pages_->size(); }
  MemoryObject* borrowed() { return borrowed_.get(); }
  PageCacheObject& pages() { return *pages_; }
  Mutex write_lock;  // writes and size changes, one at a time

 private:
  Ref<PageCacheObject> pages_;
  Ref<MemoryObject> borrowed_;  // set_contents(): read from here until the first change
  uint32_t seals_ = 1;          // F_SEAL_SEAL; memfd_create(2) clears it with MFD_ALLOW_SEALING
  friend class TmpfsFile;
};

class TmpfsDir final : public TmpfsInode {
 public:
  TmpfsDir(Ref<TmpfsSuper> sb, const MakeNode& node);
  ~TmpfsDir() override;

  Result<Ref<Inode>> lookup(Park& park, std::string_view name) override;
  Result<Ref<Inode>> create(Park& park, std::string_view name, const MakeNode& node) override;
  Result<> link(Park& park, std::string_view name, Inode& target) override;
  Result<> unlink(Park& park, std::string_view name, Inode& victim) override;
  Result<> rmdir(Park& park, std::string_view name, Inode& victim) override;
  Result<> rename(Park& park, std::string_view old_name, Inode& moved, Inode& new_dir,
                  std::string_view new_name, Inode* replaced, uint32_t flags) override;
  Result<Ref<Inode>> tmpfile(Park& park, const MakeNode& node) override;
  Result<Ref<File>> open(Park& park, const Path& path, int flags, const Cred& cred) override;
  bool empty() const { return by_pos_.empty(); }

 private:
  friend class TmpfsDirFile;
  struct Entry {
    std::string name;
    Ref<TmpfsInode> inode;
  };
  void put(std::string_view name, Ref<TmpfsInode> inode);
  Ref<TmpfsInode> take(std::string_view name);
  void changed();

  std::map<uint64_t, Entry> by_pos_;  // in the order of creation: readdir positions stay
  std::unordered_map<std::string_view, uint64_t> by_name_;  // views of by_pos_'s names
  uint64_t next_pos_ = 2;
};

// Symbolic links, devices, fifos, sockets.
class TmpfsOther final : public TmpfsInode {
 public:
  TmpfsOther(Ref<TmpfsSuper> sb, const MakeNode& node);
  Result<std::string> readlink(Park& park) override;

 private:
  std::string target_;
};

// Makes the right one. kNOSPC when nr_inodes is reached.
Result<Ref<TmpfsInode>> make_tmpfs_inode(Ref<TmpfsSuper> sb, const MakeNode& node);

}  // namespace uk
