#include "ukernel/vfs/landlock.h"

#include <sys/stat.h>

#include <algorithm>

#include "ukernel/vfs/cred.h"
#include "ukernel/vfs/vfs.h"

namespace uk {
namespace {

using namespace landlock;

// The name above, over the borders of mounts; false at the root.
bool go_up(const Mount*& mount, const Dentry*& d) {
  while (d == mount->root.get()) {
    if (!mount->parent) return false;
    d = mount->mountpoint.get();
    mount = mount->parent.get();
  }
  d = d->parent();
  return d != nullptr;
}

// What one layer grants at `path` and above.
uint64_t granted_by(const LandlockRules& rules, const Path& path) {
  const Mount* mount = path.mount.get();
  const Dentry* d = path.dentry.get();
  uint64_t granted = 0;
  do {
    granted |= rules.granted_at(*d);
  } while (go_up(mount, d));
  return granted;
}

// Rights that a layer denies unless a rule grants them: changing the directory always.
uint64_t handled(const LandlockRules& rules) { return rules.fs != 0 ? rules.fs | kRefer : 0; }

bool is_dir(const Dentry& d) { return d.inode() != nullptr && d.inode()->type() == S_IFDIR; }

// Does a name that moves gain a right by it?
bool gains(const LandlockRules& rules, const Path& from, const Path& to, const Dentry& moved) {
  const uint64_t own = rules.granted_at(moved);
  const uint64_t before = own | granted_by(rules, from), after = own | granted_by(rules, to);
  const uint64_t relevant = is_dir(moved) ? rules.fs : rules.fs & kForFiles;
  return (after & ~before & relevant) != 0;
}

const LandlockDomain* domain_above(const LandlockDomain* d, uint64_t scope) {
  while (d != nullptr && (d->rules.scoped & scope) == 0) d = d->below.get();
  return d;
}

// `inner` is `outer` or nested in it.
bool is_within(const LandlockDomain* inner, const LandlockDomain* outer) {
  while (inner != nullptr && inner != outer) inner = inner->below.get();
  return inner == outer;
}

}  // namespace

uint64_t landlock::right_to_make(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFLNK:
      return kMakeSym;
    case S_IFDIR:
      return kMakeDir;
    case S_IFCHR:
      return kMakeChar;
    case S_IFBLK:
      return kMakeBlock;
    case S_IFIFO:
      return kMakeFifo;
    case S_IFSOCK:
      return kMakeSock;
    default:
      return kMakeReg;
  }
}

Result<> LandlockRules::add(Ref<Dentry> place, uint64_t allowed) {
  for (Rule& r : rules) {
    if (r.place != place) continue;
    r.allowed |= allowed;
    return {};
  }
  if (rules.size() >= kMaxRules) return Err(Errno::kNOMEM);
  rules.push_back({std::move(place), allowed});
  return {};
}

// A rule is about an object, not about one of its names.
uint64_t LandlockRules::granted_at(const Dentry& d) const {
  uint64_t granted = 0;
  for (const Rule& r : rules) {
    if (r.place->inode() != nullptr && d.inode() != nullptr &&
        (r.place->inode() == d.inode() ||
         (&r.place->inode()->sb() == &d.inode()->sb() && r.place->inode()->same_as(*d.inode()))))
      granted |= r.allowed;
  }
  return granted;
}

const LandlockDomain* landlock_domain(const Cred& cred) {
  return static_cast<const LandlockDomain*>(cred.landlock.get());
}

uint64_t landlock_granted(const Cred& cred, const Path& path, uint64_t access) {
  if (!path.mount || !path.dentry) return access;
  for (const LandlockDomain* d = landlock_domain(cred); d != nullptr; d = d->below.get()) {
    const uint64_t asked = access & handled(d->rules);
    if (asked != 0) access &= ~asked | granted_by(d->rules, path);
  }
  return access;
}

Result<> landlock_check(const Cred& cred, const Path& path, uint64_t access) {
  if (!cred.landlock) return {};
  if (landlock_granted(cred, path, access) != access) return Err(Errno::kACCES);
  return {};
}

Result<> landlock_check_move(const Cred& cred, const Path& from, const Dentry& moved,
                             const Path& to, const Dentry* replaced, bool removes, bool exchange) {
  if (!cred.landlock) return {};
  auto remove = [](const Dentry& d) { return is_dir(d) ? kRemoveDir : kRemoveFile; };
  auto make = [](const Dentry& d) { return right_to_make(d.inode()->type()); };
  uint64_t at_from = removes ? remove(moved) : 0, at_to = make(moved);
  if (replaced != nullptr) at_to |= remove(*replaced);
  if (exchange) at_from |= make(*replaced);
  TRY(landlock_check(cred, from, at_from));
  TRY(landlock_check(cred, to, at_to));
  if (from.dentry == to.dentry) return {};
  if (!landlock_check(cred, from, kRefer) || !landlock_check(cred, to, kRefer))
    return Err(Errno::kXDEV);
  for (const LandlockDomain* d = landlock_domain(cred); d != nullptr; d = d->below.get()) {
    if (gains(d->rules, from, to, moved) || (exchange && gains(d->rules, to, from, *replaced)))
      return Err(Errno::kXDEV);
  }
  return {};
}

bool landlock_may_trace(const Cred& cred, const Cred& other) {
  const LandlockDomain* mine = landlock_domain(cred);
  return mine == nullptr || is_within(landlock_domain(other), mine);
}

bool landlock_in_scope(const Cred& cred, const Cred& other, uint64_t scope) {
  const LandlockDomain* mine = domain_above(landlock_domain(cred), scope);
  return mine == nullptr || is_within(landlock_domain(other), mine);
}

bool landlock_forbids_mounts(const Cred& cred) {
  for (const LandlockDomain* d = landlock_domain(cred); d != nullptr; d = d->below.get())
    if (d->rules.fs != 0) return true;
  return false;
}

}  // namespace uk
