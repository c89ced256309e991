// The inside of the vfs core, shared by its own .cc files only (walk, open, create, remove, rename,
// attr, mount). Reactor-owned.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "ukernel/vfs/dentry_cache.h"
#include "ukernel/vfs/fanotify.h"
#include "ukernel/vfs/file_locks.h"
#include "ukernel/vfs/handles.h"
#include "ukernel/vfs/vfs.h"

namespace uk {

struct MountKey {
  const Mount* parent;
  const Dentry* at;
  bool operator==(const MountKey&) const = default;
};
struct MountKeyHash {
  size_t operator()(const MountKey& k) const {
    return std::hash<const void*>()(k.parent) * 31 + std::hash<const void*>()(k.at);
  }
};

struct DeviceRange {
  bool block;
  uint32_t major, minor, count;
  std::string name;
  DeviceOpener opener;
};

struct Vfs::Impl {
  std::vector<FsType> types;
  std::vector<DeviceRange> devices;
  FifoOpener fifo;
  DentryCache names;
  HandleTable handles;
  std::unordered_map<MountKey, Mount*, MountKeyHash> mounted;
  LockGraph lock_graph;
  std::shared_ptr<Fanotify> fanotify = std::make_shared<Fanotify>();
  Ref<Inode> memory_root;  // of the hidden tmpfs behind memory_file()
  Mutex rename_lock;       // of renames between two directories
  uint64_t next_mount_id = 1, next_mount_ns = 1;
  std::shared_ptr<MountCounters> counters = std::make_shared<MountCounters>();
  uint32_t next_anon_minor = 1;
  uint32_t next_cookie = 1;

  // A child of `dir`, maybe negative. With `locked` the caller holds dir's dir_lock.
  Result<Ref<Dentry>> lookup(Park& park, Dentry& dir, std::string_view name, bool locked);
  // A negative dentry becomes the name of `inode`.
  void fill(Dentry& d, Ref<Inode> inode) {
    d.set_inode(std::move(inode));
    names.touch(d);
  }
  // The name is gone.
  void drop(Dentry& d) {
    d.detach();
    names.forget(d);
    handles.forget(d);
  }
  // ---- mounts
  void hang(Mount& m, Ref<Mount> parent, Ref<Dentry> mountpoint);  // enters it at its place
  void unhang(Mount& m);                                           // takes it out
  Mount* mounted_at(const Mount& parent, const Dentry& at) const {
    auto it = mounted.find({&parent, &at});
    return it == mounted.end() ? nullptr : it->second;
  }
  // A mount owned by `ns` that hangs nowhere yet. kNOSPC: too many.
  Result<Ref<Mount>> new_mount(Vfs& vfs, MountNamespace& ns, Ref<SuperBlock> sb, Ref<Dentry> root,
                               std::string source, uint32_t flags);
  Ref<MountNamespace> anonymous(Vfs& vfs, const MountNamespace* like);
  // Puts the tree that `from` owns at `at` (nothing is mounted over it), with copies wherever that
  // place is seen by propagation. `from` is empty afterwards; on error nothing has changed.
  Result<> graft(Vfs& vfs, MountNamespace& from, const Path& at);
  // The mount leaves its namespace and its groups; nobody finds it any more.
  void dissolve(Mount& m);

  // ---- propagation (propagation.cc)
  enum class CloneAs : uint8_t { kPeer, kSlave, kPrivate, kSharedToSlave };
  struct CloneTree {
    CloneAs as = CloneAs::kPeer;
    bool make_shared = false;      // the copies are shared: with the originals, or anew
    bool copy_unbindable = false;  // else such mounts are left out
    bool lock = false;             // for a less privileged namespace
  };
  Result<Ref<MountNamespace>> copy_tree(Vfs& vfs, Mount& top, const Ref<Dentry>& root,
                                        const CloneTree& how, const MountNamespace* like,
                                        bool recursive);
  void leave_groups(Mount& m);
  Ref<PeerGroup> new_group();
  void share(Mount& m);
  void make(Mount& m, Propagation kind);
  // A copy of a tree and the place where it goes.
  struct Placed {
    Ref<MountNamespace> tree;
    Ref<Mount> parent;
  };
  // Copies of `top` for all that see what is mounted at `at`.
  Result<std::vector<Placed>> spread(Vfs& vfs, Mount& top, const Path& at);
  // Every other mount that sees what is mounted on `m`.
  static std::vector<Ref<Mount>> receivers(Mount& m);
  // What goes with the mounts of `going` elsewhere (mount_namespaces(7), propagation of unmounts).
  std::vector<Mount*> spread_umount(const std::vector<Mount*>& going) const;
  bool spread_busy(const Mount& m) const;
};

// One path walk. Borrowed views; used for the length of one call.
class Walker {
 public:
  Walker(Vfs& vfs, Vfs::Impl& impl, Park& park, const FsContext& ctx, uint32_t flags)
      : vfs_(vfs), impl_(impl), park_(park), ctx_(ctx), flags_(flags) {}

  Result<> start(WalkFrom from, std::string_view path);
  // Up to the directory of the last component, following links before it; tests that it is a
  // directory which may be searched. at() is the directory then.
  Result<> to_parent();
  // Walks the last component found by to_parent(). True if it was a link that was followed: then
  // the walk has new components, and to_parent() comes next.
  Result<bool> take_last(bool follow);
  // Follows the link `link`, found as the last component by the caller.
  Result<> follow_link(const Path& link);
  // The whole walk.
  Result<Path> walk();
  Result<> check_end();  // ENOTDIR rules and scoped walks; after the last component

  using Last = Vfs::Parent::Last;
  Path& at() { return cur_; }
  Last last() const { return last_; }
  std::string_view name() const { return name_; }
  bool trailing_slash() const { return trailing_; }
  uint32_t flags() const { return flags_; }
  void set(Path p) { cur_ = std::move(p); }

 private:
  Result<bool> step(std::string_view name, bool follow);
  Result<> dot_dot();
  Result<> may_follow(const Path& link);
  Result<> enter_mounts(Path& p);
  bool scoped() const { return (flags_ & (kWalkBeneath | kWalkInRoot)) != 0; }

  Vfs& vfs_;
  Vfs::Impl& impl_;
  Park& park_;
  const FsContext& ctx_;
  uint32_t flags_;
  Path cur_, root_;
  std::string buffer_;     // what rest_ points into once a link was followed
  std::string_view rest_;  // components to come
  std::string name_;       // of the last component
  Last last_ = Last::kRoot;
  bool trailing_ = false;
  int links_ = 0;
};

// permission.cc
// Changing a directory: not read-only, may be searched and written. kNOENT if it was removed.
Result<> may_create(Park& park, Vfs& vfs, const Path& dir, const Cred& cred);
// Removing `victim` from `dir`: also the sticky bit, and its type against `want_dir`.
Result<> may_delete(Park& park, Vfs& vfs, const Path& dir, const Dentry& victim, const Cred& cred,
                    bool want_dir);
bool is_unchangeable(const Inode& inode);  // immutable or append-only
bool owner_or_capable(const FileAttr& attr, const Cred& cred);
// The list of this name (kAclAccess, kAclDefault) that `inode` has.
std::optional<class PosixAcl> acl_of(Park& park, Inode& inode, std::string_view name);
// acl.cc: lists of a new file in `dir`, from the default list there.
struct NewAcls {
  std::string access, default_;  // empty: none
};
// Takes the umask from `mode`, or what the default list takes.
Result<NewAcls> acls_for_new(Park& park, Inode& dir, const FileAttr& dir_attr, uint32_t umask,
                             uint32_t* mode);
Result<> set_new_acls(Park& park, Inode& made, const NewAcls& acls);
Result<> want_write(const Path& path);  // kROFS

}  // namespace uk
