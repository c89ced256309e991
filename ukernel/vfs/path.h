// Dentries, mounts and paths: the tree of names. A Dentry is a name in a directory (its inode null
// when known not to exist); a Mount is a filesystem attached on a dentry; a Path is the pair.
//
// Ownership: children hold their parent; a parent's map does not own its children (a dentry leaves
// the map when its last Ref goes; the DentryCache keeps the recently used ones). MountNamespace
// owns Mounts. Reactor-owned; nothing here suspends.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/list.h"
#include "base/ref.h"
#include "base/result.h"
#include "ukernel/vfs/inode.h"

namespace uk {

struct DentryLru;  // tag of DentryCache's lists

class Dentry final : public RefCounted, public ListNode<DentryLru> {
 public:
  Dentry(Ref<Dentry> parent, std::string name, Ref<Inode> inode);
  ~Dentry() override;

  const std::string& name() const { return name_; }
  Dentry* parent() const { return parent_.get(); }  // null for a root
  Inode* inode() const { return inode_.get(); }     // null: negative
  Ref<Inode> inode_ref() const { return inode_; }
  bool unlinked() const { return unlinked_; }
  // A cached child (maybe negative), or null.
  Ref<Dentry> child(std::string_view name) const;

  // For the vfs core only.
  void set_inode(Ref<Inode> inode) { inode_ = std::move(inode); }
  void detach();  // unlink or rmdir: the name is gone, open files keep the inode
  void mark_unlinked() { unlinked_ = true; }  // a file that never had a name (O_TMPFILE, memfd)
  // rename(2): what has the new name before is detached by the caller.
  void move_to(Ref<Dentry> parent, std::string name);
  bool in_negative_lru = false;  // the DentryCache's
  int mount_count = 0;           // mounts on this dentry in any namespace; the Vfs knows which

 private:
  Ref<Dentry> parent_;
  std::string name_;
  Ref<Inode> inode_;
  bool unlinked_ = false;
  void leave_parent();
  struct Children;
  std::unique_ptr<Children> children_;
};

// A path without a mount belongs to an object that has no place in the tree (pipes, sockets, memfd,
// anonymous inodes): its name is the dentry's.
struct Path {
  Ref<Mount> mount;
  Ref<Dentry> dentry;

  Inode* inode() const { return dentry ? dentry->inode() : nullptr; }
  explicit operator bool() const { return static_cast<bool>(dentry); }
  bool operator==(const Path&) const = default;
  Path(Ref<Mount> m, Ref<Dentry> d);
  Path();
  Path(const Path&);
  Path(Path&&) noexcept;
  Path& operator=(const Path&);
  Path& operator=(Path&&) noexcept;
  ~Path();
};

}  // namespace uk
