// Namespaces (namespaces(7)): what all kinds have in common, and user namespaces with their
// mappings of ids, which credentials carry (user_namespaces(7)).
//
// Ownership: reference counted; tasks, credentials, mounts and the descriptors of /proc/PID/ns hold
// Refs. Everywhere a null UserNamespace is the initial one, whose ids are the kernel's own ("kernel
// ids"): inodes and credentials hold kernel ids, system calls translate. Reactor-owned; nothing
// here suspends.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/ref.h"

namespace uk {

class UserNamespace;

enum class NsKind : uint8_t { kCgroup, kIpc, kMnt, kNet, kPid, kTime, kUser, kUts };
constexpr size_t kNsKinds = 8;

// How many namespaces of each kind there are; shared by an instance's namespaces.
struct NsCounts {
  std::array<int, kNsKinds> of{};
  uint64_t next_number = 0xf0000000;
};

class Namespace : public RefCounted {
 public:
  explicit Namespace(NsKind k);
  ~Namespace() override;
  const NsKind kind;
  uint64_t number = 0;                // inode in nsfs; given by admit_namespace() (task/nsfs.h)
  Ref<UserNamespace> owner;           // null: the initial one
  std::shared_ptr<NsCounts> counted;  // its count goes down at its end
};

// A part of an id mapping: [inside, inside + count) are the kernel's [kernel, kernel + count).
struct IdExtent {
  uint32_t inside, kernel, count;
};

constexpr uint32_t kOverflowId = 65534;  // what ids without a mapping look like
constexpr uint32_t kNoId = UINT32_MAX;

class UserNamespace final : public Namespace {
 public:
  static constexpr int kMaxLevel = 32;
  static constexpr size_t kMaxExtents = 340;
  UserNamespace();
  ~UserNamespace() override;

  Ref<UserNamespace> parent;              // null: the initial one
  int level = 1;                          // the initial one has 0
  uint32_t owner_uid = 0, owner_gid = 0;  // kernel ids of who made it
  bool parent_could_setfcap = false;
  bool setgroups_allowed = true;
  std::vector<IdExtent> uids, gids;  // empty: not yet written
};

inline int level_of(const UserNamespace* ns) { return ns == nullptr ? 0 : ns->level; }
// An id of the namespace as the kernel's; nothing if it has no mapping.
std::optional<uint32_t> kernel_uid(const UserNamespace* ns, uint32_t uid);
std::optional<uint32_t> kernel_gid(const UserNamespace* ns, uint32_t gid);
// A kernel id as the namespace shows it; kNoId if it has no mapping.
uint32_t uid_inside(const UserNamespace* ns, uint32_t kernel);
uint32_t gid_inside(const UserNamespace* ns, uint32_t kernel);
// The same for showing: kOverflowId if it has no mapping.
inline uint32_t shown_uid(const UserNamespace* ns, uint32_t kernel) {
  if (ns == nullptr) return kernel;
  const uint32_t id = uid_inside(ns, kernel);
  return id == kNoId ? kOverflowId : id;
}
inline uint32_t shown_gid(const UserNamespace* ns, uint32_t kernel) {
  if (ns == nullptr) return kernel;
  const uint32_t id = gid_inside(ns, kernel);
  return id == kNoId ? kOverflowId : id;
}

}  // namespace uk
