#include "ukernel/vfs/acl.h"

#include <algorithm>
#include <cstring>

#include "ukernel/vfs/cred.h"
#include "ukernel/vfs/vfs_impl.h"

namespace uk {
namespace {

constexpr uint32_t kVersion = 2;
constexpr uint32_t kRwx = kMayRead | kMayWrite | kMayExec;

bool has_id(uint16_t tag) { return tag == PosixAcl::kUser || tag == PosixAcl::kGroup; }

}  // namespace

Result<std::optional<PosixAcl>> PosixAcl::parse(std::string_view bytes) {
  uint32_t version = 0;
  if (bytes.size() < sizeof version) return Err(Errno::kINVAL);
  std::memcpy(&version, bytes.data(), sizeof version);
  if (version != kVersion) return Err(Errno::kOPNOTSUPP);
  bytes.remove_prefix(sizeof version);
  static_assert(sizeof(Entry) == 8);
  if (bytes.size() % sizeof(Entry) != 0) return Err(Errno::kINVAL);
  if (bytes.empty()) return std::optional<PosixAcl>();
  PosixAcl acl;
  acl.entries_.resize(bytes.size() / sizeof(Entry));
  std::memcpy(acl.entries_.data(), bytes.data(), bytes.size());
  for (Entry& e : acl.entries_) {
    switch (e.tag) {
      case kUserObj:
      case kGroupObj:
      case kMask:
      case kOther:
        e.id = kNoId;
        break;
      case kUser:
      case kGroup:
        if (e.id == kNoId) return Err(Errno::kINVAL);
        break;
      default:
        return Err(Errno::kINVAL);
    }
  }
  return std::optional<PosixAcl>(std::move(acl));
}

std::string PosixAcl::bytes() const {
  std::string out(reinterpret_cast<const char*>(&kVersion), sizeof kVersion);
  out.append(reinterpret_cast<const char*>(entries_.data()), entries_.size() * sizeof(Entry));
  return out;
}

Result<> PosixAcl::check() const {
  uint16_t last = 0;
  bool named = false;
  int mask = 0;
  for (const Entry& e : entries_) {
    // Owner, users, group, groups, mask, others: the tags' own order; named ones may repeat.
    const bool in_order = e.tag > last || (e.tag == last && has_id(e.tag));
    if ((e.perm & ~kRwx) != 0 || !in_order) return Err(Errno::kINVAL);
    if (last == 0 && e.tag != kUserObj) return Err(Errno::kINVAL);
    if (e.tag > kGroupObj && last < kGroupObj) return Err(Errno::kINVAL);
    named = named || has_id(e.tag);
    mask += e.tag == kMask;
    last = e.tag;
  }
  if (last != kOther || (named && mask == 0)) return Err(Errno::kINVAL);
  return {};
}

bool PosixAcl::allows(const Cred& cred, const FileAttr& attr, uint32_t may) const {
  may &= kRwx;
  uint32_t mask = kRwx;
  for (const Entry& e : entries_)
    if (e.tag == kMask) mask = e.perm;
  bool in_a_group = false;
  for (const Entry& e : entries_) {
    const bool grants = (may & ~e.perm) == 0;
    switch (e.tag) {
      case kUserObj:
        if (attr.uid == cred.fsuid) return grants;
        break;
      case kUser:
        if (e.id == cred.fsuid) return (may & ~(e.perm & mask)) == 0;
        break;
      case kGroupObj:
      case kGroup:
        if (!cred.in_group(e.tag == kGroupObj ? attr.gid : e.id)) break;
        in_a_group = true;
        if (grants) return (may & ~mask) == 0;
        break;
      case kOther:
        return !in_a_group && grants;
      default:
        break;
    }
  }
  return false;
}

uint32_t PosixAcl::mode(bool* exact) const {
  uint32_t mode = 0;
  *exact = true;
  for (const Entry& e : entries_) {
    if (e.tag == kUserObj) mode |= uint32_t{e.perm} << 6;
    if (e.tag == kGroupObj) mode |= uint32_t{e.perm} << 3;
    if (e.tag == kOther) mode |= e.perm;
    if (e.tag == kMask) mode = (mode & ~070u) | uint32_t{e.perm} << 3;
    if (has_id(e.tag) || e.tag == kMask) *exact = false;
  }
  return mode;
}

PosixAcl::Entry* PosixAcl::find(uint16_t tag) {
  auto at =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.tag == tag; });
  return at == entries_.end() ? nullptr : &*at;
}

Result<> PosixAcl::mask_for_new(uint32_t* mode, bool* exact) {
  Entry *user = find(kUserObj), *group = find(kMask), *other = find(kOther);
  if (group == nullptr) group = find(kGroupObj);
  if (user == nullptr || group == nullptr || other == nullptr) return Err(Errno::kIO);
  user->perm &= *mode >> 6 & 7;
  group->perm &= *mode >> 3 & 7;
  other->perm &= *mode & 7;
  *mode =
      (*mode & ~0777u) | static_cast<uint32_t>(user->perm << 6 | group->perm << 3 | other->perm);
  (void)this->mode(exact);
  return {};
}

Result<> PosixAcl::change_mode(uint32_t mode) {
  Entry *user = find(kUserObj), *group = find(kMask), *other = find(kOther);
  if (group == nullptr) group = find(kGroupObj);
  if (user == nullptr || group == nullptr || other == nullptr) return Err(Errno::kIO);
  user->perm = mode >> 6 & 7;
  group->perm = mode >> 3 & 7;
  other->perm = mode & 7;
  return {};
}

Result<NewAcls> acls_for_new(Park& park, Inode& dir, const FileAttr& dir_attr, uint32_t umask,
                             uint32_t* mode) {
  NewAcls acls;
  if (is_type(*mode, S_IFLNK)) return acls;
  std::optional<PosixAcl> acl;
  if ((dir_attr.attributes & kAttrHasAcl) != 0) acl = acl_of(park, dir, kAclDefault);
  if (!acl) {
    *mode &= ~umask;
    return acls;
  }
  if (is_type(*mode, S_IFDIR)) acls.default_ = acl->bytes();
  bool exact = false;
  TRY(acl->mask_for_new(mode, &exact));
  if (!exact) acls.access = acl->bytes();
  return acls;
}

Result<> set_new_acls(Park& park, Inode& made, const NewAcls& acls) {
  if (!acls.access.empty()) TRY(made.setxattr(park, kAclAccess, acls.access, 0));
  if (!acls.default_.empty()) TRY(made.setxattr(park, kAclDefault, acls.default_, 0));
  return {};
}

}  // namespace uk
