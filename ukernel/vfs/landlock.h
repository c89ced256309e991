// Landlock (landlock(7)): rights to files below certain directories, which a process gives up for
// itself and its children. A ruleset is being built; a domain is a stack of rulesets that is in
// force, part of credentials (Cred::landlock).
//
// Ownership: a domain shares the layers below it; rules hold the names they are about, so that
// these keep their inodes. Bounded: kMaxLayers, kMaxRules. Nothing here suspends.
#pragma once

#include <cstdint>
#include <vector>

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/vfs/path.h"

namespace uk {

struct Cred;

namespace landlock {  // LANDLOCK_ACCESS_FS_*
constexpr uint64_t kExecute = 1 << 0, kWriteFile = 1 << 1, kReadFile = 1 << 2, kReadDir = 1 << 3,
                   kRemoveDir = 1 << 4, kRemoveFile = 1 << 5, kMakeChar = 1 << 6, kMakeDir = 1 << 7,
                   kMakeReg = 1 << 8, kMakeSock = 1 << 9, kMakeFifo = 1 << 10, kMakeBlock = 1 << 11,
                   kMakeSym = 1 << 12, kRefer = 1 << 13, kTruncate = 1 << 14, kIoctlDev = 1 << 15;
constexpr uint64_t kAllFs = (1 << 16) - 1;
constexpr uint64_t kForFiles = kExecute | kWriteFile | kReadFile | kTruncate | kIoctlDev;
constexpr uint64_t kAllNet = 3;
constexpr uint64_t kScopeAbstractUnix = 1, kScopeSignal = 2;
constexpr uint64_t kAllScopes = kScopeAbstractUnix | kScopeSignal;
// The right to make a node of this type (S_IF*).
uint64_t right_to_make(uint32_t mode);
}  // namespace landlock

struct LandlockRules {
  static constexpr size_t kMaxRules = 4096;
  uint64_t fs = 0, net = 0, scoped = 0;  // what it handles
  struct Rule {
    Ref<Dentry> place;
    uint64_t allowed;
  };
  std::vector<Rule> rules;
  // More rights at and below `place`. kNOMEM.
  Result<> add(Ref<Dentry> place, uint64_t allowed);
  // What it grants right there.
  uint64_t granted_at(const Dentry& d) const;
};

class LandlockDomain final : public RefCounted {
 public:
  static constexpr int kMaxLayers = 16;
  LandlockDomain(Ref<const LandlockDomain> below, LandlockRules rules)
      : rules(std::move(rules)), below(std::move(below)) {}
  const LandlockRules rules;
  const Ref<const LandlockDomain> below;
  int layers() const { return below ? below->layers() + 1 : 1; }
};

// Null: not restricted.
const LandlockDomain* landlock_domain(const Cred& cred);
// kACCES unless all of `access` is granted at `path` or above. A path without a mount is free.
Result<> landlock_check(const Cred& cred, const Path& path, uint64_t access);
// Of these rights, those that are granted.
uint64_t landlock_granted(const Cred& cred, const Path& path, uint64_t access);
// link(2), rename(2): `moved` gets a name in `to`, `replaced` (may be null) goes, or gets the old
// name (`exchange`). kACCES; kXDEV when only the change of directory is what is refused.
Result<> landlock_check_move(const Cred& cred, const Path& from, const Dentry& moved,
                             const Path& to, const Dentry* replaced, bool removes, bool exchange);
// May somebody with `cred` look at or control somebody with `other` (ptrace(2))?
bool landlock_may_trace(const Cred& cred, const Cred& other);
// A scope (kScope*) lets `cred` reach `other`.
bool landlock_in_scope(const Cred& cred, const Cred& other, uint64_t scope);
// Some layer handles files: the tree of mounts may not be changed.
bool landlock_forbids_mounts(const Cred& cred);

}  // namespace uk
