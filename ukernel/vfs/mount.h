// Mounts: where filesystems are attached, how changes spread between them (shared subtrees,
// mount_namespaces(7)), and the namespaces that own them.
//
// Ownership: a MountNamespace owns its mounts; a mount holds the one it is mounted on. A tree that
// is being made, or that open_tree(2) or fsmount(2) gave a descriptor for, is owned by an anonymous
// namespace. Peer groups are held by their mounts. Reactor-owned; nothing here suspends.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/list.h"
#include "base/ref.h"
#include "ukernel/sched/wait_queue.h"
#include "ukernel/vfs/inode.h"
#include "ukernel/vfs/namespace.h"
#include "ukernel/vfs/path.h"

namespace uk {

class Mount;
class MountNamespace;
class Vfs;

// MS_* bits kept by a mount.
enum MountFlags : uint32_t {
  kMntRdonly = 1,
  kMntNosuid = 2,
  kMntNodev = 4,
  kMntNoexec = 8,
  kMntNosymfollow = 256,
  kMntNoatime = 1024,
  kMntNodiratime = 2048,
  kMntRelatime = 1 << 21
};
constexpr uint32_t kMntKept = kMntRdonly | kMntNosuid | kMntNodev | kMntNoexec | kMntNosymfollow |
                              kMntNoatime | kMntNodiratime | kMntRelatime;
constexpr uint32_t kMntAtime = kMntNoatime | kMntNodiratime | kMntRelatime;

enum class Propagation : uint8_t { kPrivate, kShared, kSlave, kUnbindable };

struct ChildTag;
struct PeerTag;
struct SlaveTag;

// Of an instance; its mounts and groups share it, as they may outlive the Vfs.
struct MountCounters {
  size_t mounts = 0;
  std::set<int> peer_ids;  // in use
};

// Mounts that see each other's changes, and those that follow them.
class PeerGroup final : public RefCounted {
 public:
  PeerGroup(std::shared_ptr<MountCounters> counters, int id)
      : id(id), counters_(std::move(counters)) {}
  ~PeerGroup() override;
  const int id;  // as in /proc/PID/mountinfo
  List<Mount, PeerTag> members;
  List<Mount, SlaveTag> slaves;

 private:
  std::shared_ptr<MountCounters> counters_;
};

class Mount final : public RefCounted,
                    public ListNode<ChildTag>,
                    public ListNode<PeerTag>,
                    public ListNode<SlaveTag> {
 public:
  static constexpr uint64_t kUniqueBase = 1ull << 31;

  explicit Mount(std::shared_ptr<MountCounters> counters);
  ~Mount() override;
  Ref<SuperBlock> sb;
  Ref<Dentry> root;   // of this mount (a subtree for bind mounts)
  Ref<Mount> parent;  // null for the namespace's root
  Ref<Dentry> mountpoint;
  List<Mount, ChildTag> children;  // what is mounted on it
  uint32_t flags = 0;
  uint32_t locked_flags = 0;  // may not be taken away: a more privileged namespace set them
  bool locked = false;        // nor may the mount: it hides what is below
  bool unbindable = false;
  bool internal = false;  // of the kernel's own (nsfs): in no namespace, yet it can be bound
  uint64_t id = 0;
  uint64_t unique_id() const { return kUniqueBase + id; }
  std::string source;     // first field of /proc/mounts
  bool expiring = false;  // umount2(2) MNT_EXPIRE was asked once
  MountNamespace* ns = nullptr;
  Ref<PeerGroup> shared;  // null: not shared
  Ref<PeerGroup> master;  // null: no slave
  bool read_only() const { return (flags & kMntRdonly) != 0 || sb->read_only; }

 private:
  std::shared_ptr<MountCounters> counters_;
};

class MountNamespace final : public Namespace {
 public:
  MountNamespace() : Namespace(NsKind::kMnt) {}
  ~MountNamespace() override;
  Ref<Mount> root;
  std::map<uint64_t, Ref<Mount>> mounts;  // by id, which is in mount order
  Vfs* vfs = nullptr;                     // set with the first mount; outlives the namespace
  bool anonymous = false;
  uint64_t id = 0;  // of statmount(2), listmount(2)
  // /proc/mounts is pollable.
  void notify_changed() {
    ++changes;
    changed.wake_all();
  }
  uint64_t changes = 0;
  WaitQueue changed;
};

// `m` is `top` or mounted somewhere below it.
bool mounted_below(const Mount* m, const Mount& top);
// `top` and all that is mounted below it, parents first. Borrowed.
std::vector<Mount*> mount_tree(Mount& top);
// Is `d` in the subtree of `top`?
bool dentry_below(const Dentry* d, const Dentry* top);

// "rw,nosuid,relatime": what mount(8) shows of a mount, and of its filesystem.
std::string mount_options(const Mount& m);
std::string super_options(const SuperBlock& sb);

// mount_setattr(2).
struct MountChange {
  uint32_t set = 0, clear = 0;  // MountFlags
  std::optional<Propagation> propagation;
  bool recursive = false;
};

}  // namespace uk
