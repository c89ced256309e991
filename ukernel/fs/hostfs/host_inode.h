// The inodes and the superblock of hostfs. Private to the package.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "hostio/sys/file.h"
#include "ukernel/fs/hostfs/host_handle.h"
#include "ukernel/fs/hostfs/hostfs.h"
#include "ukernel/mm/memory_object.h"

namespace uk {

struct HostKey {
  uint64_t dev, ino;
  bool operator==(const HostKey&) const = default;
};
struct HostKeyHash {
  size_t operator()(const HostKey& k) const { return k.ino * 0x9e3779b97f4a7c15ull ^ k.dev; }
};

class HostSuper final : public SuperBlock {
 public:
  HostSuper(Vfs& v, sys::Fd root, const HostFsOptions& o, size_t max_fds);
  std::string_view fs_type() const override { return "hostfs"; }
  Result<FsStat> statfs(Park& park) override;
  Result<> sync(Park& park) override;
  bool volatile_names() const override { return !opts.stable; }
  bool never_writable() const override { return !opts.writable; }

  // st_dev as the guest sees it: the tree's own device is the superblock's, others get numbers in
  // order of sight.
  uint64_t guest_dev(uint64_t host_dev);

  // A buffer for copying file contents, reused.
  static constexpr size_t kBufferBytes = 128 * 1024;
  std::unique_ptr<std::byte[]> take_buffer();
  void give_buffer(std::unique_ptr<std::byte[]> b) { spare_buffer_ = std::move(b); }

  Vfs& vfs;
  const HostFsOptions opts;
  sys::Fd root_fd;
  bool privileged;  // may give files to other users
  HostFdCache fds;
  std::unordered_map<HostKey, HostInode*, HostKeyHash> inodes;

 private:
  std::map<uint64_t, uint64_t> devs_;
  std::unique_ptr<std::byte[]> spare_buffer_;
};

class HostInode final : public Inode {
 public:
  HostInode(Ref<HostSuper> sb, Ref<HostInode> parent, std::string name, const struct ::statx& st);
  ~HostInode() override;

  uint32_t type() const override { return attr_.mode & S_IFMT; }
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
  Result<std::string> readlink(Park& park) override;
  Result<Ref<File>> open(Park& park, const Path& path, int flags, const Cred& cred) override;
  Ref<MemoryObject> memory_object() override;
  Result<std::string> getxattr(Park& park, std::string_view name) override;
  Result<> setxattr(Park& park, std::string_view name, std::string_view value, int flags) override;
  Result<> removexattr(Park& park, std::string_view name) override;
  Result<std::vector<std::string>> listxattr(Park& park) override;

  enum class Kind : uint8_t { kPath, kRead, kWrite };
  // A descriptor: kPath of a directory, kRead or kWrite of a regular file (kRead of a directory,
  // too). Errors of the host.
  Result<Ref<HostHandle>> handle(Kind kind);
  HostSuper& super() const { return static_cast<HostSuper&>(sb()); }
  const FileAttr& cached_attr() const { return attr_; }
  // Asks the host again (always, or when what is known is old).
  Result<> refresh(bool always);
  void wrote();  // size and times changed through us

 private:
  friend class HostObject;
  Result<Ref<HostHandle>> open_handle(Kind kind);
  Result<Ref<HostHandle>> parent_handle();
  void look_again();  // before an open, when what is known of a stable tree is old
  void drop_mappings(uint64_t old_size);  // after the file became smaller
  void take(const struct ::statx& st);
  void seen_as(Ref<HostInode> parent, std::string name);
  Result<> check(int fd);  // what was opened is what we know; else it becomes that
  Ref<HostInode> known(const struct ::statx& st);
  Result<Ref<HostInode>> find(std::string_view name);
  Result<> settle_new(const char* name, const MakeNode& node);

  HostKey key_{};
  Ref<HostInode> parent_;  // where it was last seen; null for the root
  std::string name_;
  FileAttr attr_;
  uint64_t asked_ns_ = 0;
  std::string target_;     // of a link of a stable tree, once read
  bool nameless_ = false;  // its name was removed; lives in pinned_ only
  Ref<HostHandle> slots_[3];
  Ref<HostHandle> pinned_;
  class HostObject* object_ = nullptr;
  Mutex write_lock_;
  friend class HostFile;
};

}  // namespace uk
