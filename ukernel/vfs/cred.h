// Credentials, as permission checks need them (credentials(7), capabilities(7)). Immutable once
// shared: a change makes a copy. vfs is handed credentials; it knows no tasks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/ref.h"
#include "ukernel/vfs/namespace.h"

namespace uk {

enum class Cap : uint8_t {  // capabilities(7) numbers
  kChown = 0,
  kDacOverride = 1,
  kDacReadSearch = 2,
  kFowner = 3,
  kFsetid = 4,
  kKill = 5,
  kSetgid = 6,
  kSetuid = 7,
  kSetpcap = 8,
  kLinuxImmutable = 9,
  kNetBindService = 10,
  kNetBroadcast = 11,
  kNetAdmin = 12,
  kNetRaw = 13,
  kIpcLock = 14,
  kIpcOwner = 15,
  kSysModule = 16,
  kSysRawio = 17,
  kSysChroot = 18,
  kSysPtrace = 19,
  kSysPacct = 20,
  kSysAdmin = 21,
  kSysBoot = 22,
  kSysNice = 23,
  kSysResource = 24,
  kSysTime = 25,
  kSysTtyConfig = 26,
  kMknod = 27,
  kLease = 28,
  kAuditWrite = 29,
  kAuditControl = 30,
  kSetfcap = 31,
  kMacOverride = 32,
  kMacAdmin = 33,
  kSyslog = 34,
  kWakeAlarm = 35,
  kBlockSuspend = 36,
  kAuditRead = 37,
  kPerfmon = 38,
  kBpf = 39,
  kCheckpointRestore = 40,
};
constexpr int kLastCap = 40;
constexpr uint64_t kAllCaps = (1ull << (kLastCap + 1)) - 1;

struct Cred final : RefCounted {
  uint32_t uid = 0, euid = 0, suid = 0, fsuid = 0;
  uint32_t gid = 0, egid = 0, sgid = 0, fsgid = 0;
  std::vector<uint32_t> groups;
  uint64_t cap_permitted = kAllCaps, cap_effective = kAllCaps, cap_inheritable = 0,
           cap_bounding = kAllCaps, cap_ambient = 0;
  uint32_t securebits = 0;
  bool no_new_privs = false;
  // Null, or what landlock_restrict_self(2) took away (vfs/landlock.h: a LandlockDomain).
  Ref<const RefCounted> landlock;
  // keyrings(7): null, or this task's thread, process and session keyring (task/keys.h: Keyring).
  Ref<RefCounted> thread_keys, process_keys, session_keys;

  Ref<UserNamespace> user_ns;  // whose capabilities these are; null: the initial one

  bool raised(Cap c) const { return (cap_effective >> static_cast<int>(c)) & 1; }
  // Over the whole instance.
  bool has(Cap c) const { return user_ns == nullptr && raised(c); }
  // Over what belongs to `ns`.
  bool has_in(const UserNamespace* ns, Cap c) const;
  // Over an inode with these owners (kernel ids), which must have mappings in our namespace.
  bool has_over(uint32_t uid, uint32_t gid, Cap c) const;
  bool in_group(uint32_t g) const {
    return g == fsgid || std::find(groups.begin(), groups.end(), g) != groups.end();
  }
  Ref<Cred> copy() const {
    auto c = make_ref<Cred>();
    c->uid = uid, c->euid = euid, c->suid = suid, c->fsuid = fsuid;
    c->gid = gid, c->egid = egid, c->sgid = sgid, c->fsgid = fsgid;
    c->groups = groups;
    c->cap_permitted = cap_permitted, c->cap_effective = cap_effective,
    c->cap_inheritable = cap_inheritable;
    c->cap_bounding = cap_bounding, c->cap_ambient = cap_ambient;
    c->securebits = securebits, c->no_new_privs = no_new_privs;
    c->landlock = landlock;
    c->thread_keys = thread_keys, c->process_keys = process_keys, c->session_keys = session_keys;
    c->user_ns = user_ns;
    return c;
  }
};

}  // namespace uk
