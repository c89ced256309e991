// The superblock and the inodes of ext4. Private to the package.
//
// An inode's raw form is in memory, changed there, and stored into its table by the next commit;
// until then the superblock holds a Ref. A file whose last name has gone is free on the device with
// the commit that takes the name; what it needs while it is open is held in memory (allocator.h),
// so there is never an orphan on the device.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "ukernel/fs/ext4/directory.h"
#include "ukernel/fs/ext4/ext4.h"
#include "ukernel/fs/ext4/volume.h"
#include "ukernel/mm/page_cache.h"

namespace uk::ext4 {

class Ext4Inode;
class Ext4Regular;

class Ext4Super final : public SuperBlock {
 public:
  Ext4Super(Vfs& vfs, BlockDevices& devices, std::unique_ptr<Volume> volume);
  ~Ext4Super() override;

  std::string_view fs_type() const override { return "ext4"; }
  Result<FsStat> statfs(Park& park) override;
  Result<> sync(Park& park) override;
  std::string options() const override;
  bool never_writable() const override { return !volume->why_read_only().empty(); }
  Result<> reconfigure(const std::string& options) override;
  Result<> remount(Park& park, bool read_only) override;
  Ext4Options settings;

  Vfs& vfs;
  BlockDevices& devices;
  const std::unique_ptr<Volume> volume;

  // The inode of a number; kUCLEAN.
  Result<Ref<Ext4Inode>> inode(Park& park, uint32_t ino);
  Result<Ref<Ext4Inode>> inode_locked(Park& park, uint32_t ino);
  absl::flat_hash_map<uint32_t, Ext4Inode*> inodes;  // in memory
  Result<> clean_orphans(Park& park);

  // Runs f under the volume's lock. A broken image, or a change that could not be made whole,
  // makes the filesystem read-only.
  template <class F>
  auto look(Park& park, F&& f) -> decltype(f()) {
    Volume::Lock lock(park, *volume);
    auto r = f();
    if (!r && r.error() == Errno::kUCLEAN) broken(r.error());
    return r;
  }
  template <class F>
  auto change(Park& park, F&& f) -> decltype(f()) {
    TRY(make_room(park));
    Volume::Lock lock(park, *volume);
    if (volume->failed()) return Err(Errno::kROFS);
    write_later();
    changed_ = true;
    auto r = f();
    if (!r && (r.error() == Errno::kUCLEAN || r.error() == Errno::kIO)) broken(r.error());
    return r;
  }
  // The same for what is in progress already: no commit is made first.
  template <class F>
  auto change_now(Park& park, F&& f) -> decltype(f()) {
    Volume::Lock lock(park, *volume);
    if (volume->failed()) return Err(Errno::kROFS);
    write_later();
    changed_ = true;
    const bool before = std::exchange(writing_back, true);
    auto r = f();
    writing_back = before;
    if (!r && (r.error() == Errno::kUCLEAN || r.error() == Errno::kIO)) broken(r.error());
    return r;
  }
  void broken(Errno why);

  // ---- space promised to pages that have no blocks yet
  // kNOSPC. Of the caller that is given by the vfs.
  Result<> promise(uint32_t blocks);
  void unpromise(uint32_t blocks);
  // Before a writer promises himself `blocks`: what a commit would free is had.
  Result<> make_room(Park& park, uint64_t blocks = 0);
  // Blocks that a caller may still use.
  uint64_t available(bool privileged) const;
  bool privileged() const;
  // May a change take blocks for metadata? kNOSPC; a write-back always may.
  Result<> may_take_metadata() const;
  bool writing_back = false;

  // ---- commits
  void inode_changed(Ext4Inode& inode);
  void pages_changed(Ext4Regular& file);
  // Commits the metadata that has changed so far.
  Result<> commit(Park& park);
  // The same; where there is nothing to commit what was written is on stable storage at least.
  Result<> commit_or_flush(Park& park);
  // Writes the data of all files, then commits.
  Result<> write_all(Park& park);
  bool dirty() const { return changed_ || !dirty_files_.empty(); }
  // Makes a writer wait that has dirtied more than its share of memory.
  Result<> balance(Park& park, Ext4Regular& file);

 private:
  Result<> write_files(Park& park);
  void write_later();
  Result<> commit_now(Park& park);
  Result<> settle(Park& park);
  uint64_t pool() const;

  std::vector<Ref<Ext4Inode>> dirty_inodes_;
  std::vector<Ref<Ext4Regular>> dirty_files_;
  uint64_t promised_ = 0;
  bool changed_ = false;  // since the last commit
  Mutex commit_mutex_;
  uint64_t generation_ = 1;  // of the commit that is being filled
  uint64_t committed_ = 0;
  bool write_planned_ = false;
  uint32_t dirtied_ = 0;
  bool over_limit() const;
  WaitQueue write_now_;
};

class Ext4Inode : public Inode, protected BlockOwner, protected DirectoryOwner {
 public:
  Ext4Inode(Ref<Ext4Super> sb, uint32_t ino, std::unique_ptr<std::byte[]> raw);
  ~Ext4Inode() override;

  uint32_t type() const final { return raw().i_mode & S_IFMT; }
  Result<FileAttr> getattr(Park& park) override;
  Result<> setattr(Park& park, const AttrChange& change) override;
  Result<std::string> getxattr(Park& park, std::string_view name) final;
  Result<> setxattr(Park& park, std::string_view name, std::string_view value, int flags) final;
  Result<> removexattr(Park& park, std::string_view name) final;
  Result<std::vector<std::string>> listxattr(Park& park) final;
  uint32_t inode_flags() const final { return raw().i_flags & kFlagsShown; }
  bool has_inode_flags() const final { return true; }
  Result<> set_inode_flags(Park& park, uint32_t flags) final;

  static constexpr uint32_t kFlagsShown = EXT2_FL_USER_VISIBLE;

  Ext4Super& super() const { return static_cast<Ext4Super&>(sb()); }
  Volume& volume() const { return *super().volume; }
  ext2_inode_large& raw() const { return *reinterpret_cast<ext2_inode_large*>(raw_.get()); }
  std::span<std::byte> raw_bytes() const { return {raw_.get(), volume().inode_size()}; }
  ExtentTree& tree() { return tree_; }
  const uint32_t ino;

  // ---- under the volume's lock
  void changed();
  void set_owner(uint32_t uid, uint32_t gid);
  FileAttr attr() const;
  void touch(bool mtime, bool ctime);
  void set_atime(FileTime t);
  void set_born(FileTime t);  // all its times
  void set_size(uint64_t size);
  // Has it blocks of its own, or is a link's text where their places would be?
  bool has_blocks() const;
  void set_time(uint32_t ext2_inode_large::*base, size_t extra, FileTime t);
  FileTime time(uint32_t base, size_t extra) const;
  uint32_t nlink() const { return raw().i_links_count; }
  void add_links(int n);
  // One name less; with the last one the file is free on the device.
  Result<> drop_link(Park& park, bool all = false);
  // A name for a file that had none.
  Result<> revive(Park& park);
  Result<> become_orphan(Park& park);
  bool orphan() const { return orphan_; }
  Result<> free_range(Park& park, uint32_t first, uint32_t end);
  // New blocks that are part of the file at once: of directories and links.
  Result<uint64_t> append_metadata_block(Park& park, uint32_t number);
  void add_blocks(int64_t n);
  uint64_t blocks512() const;
  Result<> drop_blocks(Park& park, BlockRange range) override;
  // Held blocks become the file's (use), or go back.
  Result<> own(Park& park, BlockRange range);
  uint64_t goal() const;  // where its first block would be best
  Result<> drop_xattr_block(Park& park);

  bool in_dirty_list = false;  // the superblock's
  bool has_acl = false;

 protected:
  Result<uint64_t> new_node(Park& park, uint64_t goal) override;
  Result<uint32_t> append_block(Park& park) override;
  bool has_extra(size_t end) const;
  void note_acls();

 private:
  friend class Ext4Super;
  friend class Xattrs;
  std::unique_ptr<std::byte[]> raw_;
  ExtentTree tree_;
  bool orphan_ = false;
  // Of an orphan: its blocks, by their start.
  absl::btree_map<uint64_t, uint32_t> held_;
  void hold(BlockRange range);
  void unhold(BlockRange range);
};

// The pages of a file. Kept by the inode; keeps the inode while it is mapped.
class Ext4Pages final : private PageCacheObject::Backing, public PageCacheObject {
 public:
  Ext4Pages(PhysMemory& mem, Ext4Regular& file, uint64_t size);
  ~Ext4Pages() override;
  Result<> sync(Park& park, uint64_t first, uint64_t count) override;
  Result<> punch(Park& park, uint64_t first, uint64_t count) override;
  Result<> write_out(Park& park, uint64_t first = 0, uint64_t count = UINT64_MAX) {
    return PageCacheObject::sync(park, first, count);
  }
  void mapped() override;
  void unmapped() override;

 private:
  Result<> fill(Park& park, uint64_t index, std::span<std::byte> page) override;
  Result<> will_dirty(Park& park, uint64_t index) override;
  Result<> write_back(Park& park, uint64_t index, std::span<const std::byte> page) override;
  void write_back_batch(Park& park, std::span<DirtyPage> pages) override;
  friend class Ext4Regular;
  Ext4Regular* file_;  // null: it has gone, and somebody still looks at a page
  Ref<Ext4Inode> while_mapped_;
  uint32_t mappings_ = 0;
};

class Ext4Regular final : public Ext4Inode {
 public:
  Ext4Regular(Ref<Ext4Super> sb, uint32_t ino, std::unique_ptr<std::byte[]> raw);
  ~Ext4Regular() override;

  Result<FileAttr> getattr(Park& park) override;
  Result<> setattr(Park& park, const AttrChange& change) override;
  Result<Ref<File>> open(Park& park, const Path& path, int flags, const Cred& cred) override;
  Ref<MemoryObject> memory_object() override { return pages_ref(); }

  Ref<Ext4Pages> pages_ref();
  Ext4Pages& pages() { return *pages_ref(); }
  uint64_t size() const;
  uint64_t max_size() const;
  // Writes dirty pages, which gives them blocks.
  Result<> write_out(Park& park, uint64_t first = 0, uint64_t count = UINT64_MAX);
  // Data and the metadata that leads to it are on stable storage afterwards.
  Result<> sync_data(Park& park, uint64_t first = 0, uint64_t count = UINT64_MAX);
  uint64_t dirty_pages() const { return pages_ == nullptr ? 0 : pages_->dirty_pages(); }
  Result<> resize(Park& park, uint64_t size);
  // Before the size grows to `to`: what lies behind the end in its block becomes zeros.
  Result<> clear_tail(Park& park, uint64_t to);
  Result<> allocate(Park& park, uint64_t offset, uint64_t len, bool keep_size);
  Result<> punch_hole(Park& park, uint64_t offset, uint64_t len);
  Result<> zero_range(Park& park, uint64_t offset, uint64_t len, bool keep_size);
  // SEEK_DATA, SEEK_HOLE.
  Result<uint64_t> seek_data(Park& park, uint64_t offset, bool data);
  // The caller changes the contents: times, and privileges that go.
  Result<> modified(Park& park);
  void read_ahead_done() { ahead_.reset(); }
  Mutex write_lock;  // writes and changes of the size, one at a time
  bool in_dirty_files = false;

 private:
  friend class Ext4Pages;
  // Pages that were read before they were asked for.
  struct Ahead {
    std::unique_ptr<std::byte[]> bytes;
    uint64_t first = 0, count = 0;
    uint64_t version = 0;
  };
  Result<> fill(Park& park, uint64_t index, std::span<std::byte> page);
  Result<> read_blocks(Park& park, uint64_t offset, std::span<std::byte> to);
  Result<> will_dirty(Park& park, uint64_t index);
  void write_back(Park& park, std::span<PageCacheObject::Backing::DirtyPage> pages);
  Result<> write_run(Park& park, std::span<PageCacheObject::Backing::DirtyPage> pages);
  void unpromise(uint64_t first, uint64_t end);
  Result<> clear_tail_at(Park& park, uint64_t end);
  Result<> zero_in_page(Park& park, uint64_t from, uint64_t to);
  uint32_t blocks_per_page() const;

  Ref<Ext4Pages> pages_;
  Mutex map_lock_;                               // what changes which blocks are the file's
  uint64_t map_changes_ = 0;                     // counts what took blocks away
  Errno write_error_ = Errno::kOk;               // since somebody was told
  uint64_t contents_version_ = 0;                // and what changed contents on the device
  absl::btree_map<uint64_t, uint8_t> promised_;  // pages without blocks: how many they need
  uint64_t promised_blocks_ = 0;
  std::unique_ptr<Ahead> ahead_;
  uint64_t next_read_ = 0;  // the page that a sequential reader would want
  uint64_t window_ = 0;
};

class Ext4Dir final : public Ext4Inode {
 public:
  using Ext4Inode::Ext4Inode;
  Result<Ref<Inode>> lookup(Park& park, std::string_view name) override;
  Result<Ref<Inode>> create(Park& park, std::string_view name, const MakeNode& node) override;
  Result<> link(Park& park, std::string_view name, Inode& target) override;
  Result<> unlink(Park& park, std::string_view name, Inode& victim) override;
  Result<> rmdir(Park& park, std::string_view name, Inode& victim) override;
  Result<> rename(Park& park, std::string_view old_name, Inode& moved, Inode& new_dir,
                  std::string_view new_name, Inode* replaced, uint32_t flags) override;
  Result<Ref<Inode>> tmpfile(Park& park, const MakeNode& node) override;
  Result<Ref<File>> open(Park& park, const Path& path, int flags, const Cred& cred) override;
  Directory entries() { return {volume(), tree(), raw(), ino, *this}; }

 private:
  Result<Ref<Ext4Inode>> make(Park& park, const MakeNode& node);
  Result<> undo_make(Park& park, Ext4Inode& inode);
  Result<> rename_locked(Park& park, std::string_view old_name, Ext4Inode& moved, Ext4Dir& to,
                         std::string_view new_name, Ext4Inode* replaced, uint32_t flags);
  Result<> exchange(Park& park, std::string_view old_name, Ext4Inode& moved, Ext4Dir& to,
                    std::string_view new_name, Ext4Inode& other);
};

// Links, devices, fifos, sockets.
class Ext4Other final : public Ext4Inode {
 public:
  using Ext4Inode::Ext4Inode;
  Result<FileAttr> getattr(Park& park) override;
  Result<std::string> readlink(Park& park) override;
};

uint8_t entry_type(uint32_t mode);  // EXT2_FT_*
// An inode object for a raw inode that nobody has yet.
Ref<Ext4Inode> new_ext4_inode(Ref<Ext4Super> sb, uint32_t ino, std::unique_ptr<std::byte[]> raw);

}  // namespace uk::ext4
