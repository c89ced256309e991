#include "ukernel/vfs/namespace.h"

#include "ukernel/vfs/cred.h"

namespace uk {
namespace {

std::optional<uint32_t> to_kernel(const std::vector<IdExtent>& map, uint32_t id) {
  for (const IdExtent& e : map)
    if (id >= e.inside && id - e.inside < e.count) return e.kernel + (id - e.inside);
  return std::nullopt;
}

uint32_t to_inside(const std::vector<IdExtent>& map, uint32_t kernel) {
  for (const IdExtent& e : map)
    if (kernel >= e.kernel && kernel - e.kernel < e.count) return e.inside + (kernel - e.kernel);
  return kNoId;
}

}  // namespace

Namespace::Namespace(NsKind k) : kind(k) {}
Namespace::~Namespace() {
  if (counted) --counted->of[static_cast<size_t>(kind)];
}

UserNamespace::UserNamespace() : Namespace(NsKind::kUser) {}
UserNamespace::~UserNamespace() = default;

std::optional<uint32_t> kernel_uid(const UserNamespace* ns, uint32_t uid) {
  if (ns != nullptr) return to_kernel(ns->uids, uid);
  return uid == kNoId ? std::nullopt : std::optional(uid);
}
std::optional<uint32_t> kernel_gid(const UserNamespace* ns, uint32_t gid) {
  if (ns != nullptr) return to_kernel(ns->gids, gid);
  return gid == kNoId ? std::nullopt : std::optional(gid);
}
uint32_t uid_inside(const UserNamespace* ns, uint32_t kernel) {
  return ns == nullptr ? kernel : to_inside(ns->uids, kernel);
}
uint32_t gid_inside(const UserNamespace* ns, uint32_t kernel) {
  return ns == nullptr ? kernel : to_inside(ns->gids, kernel);
}

// capabilities(7), user_namespaces(7): in one's own namespace what is set counts; in the children
// that this user made, and their descendants, everything is allowed.
bool Cred::has_in(const UserNamespace* ns, Cap c) const {
  for (;;) {
    if (ns == user_ns.get()) return raised(c);
    if (ns == nullptr || ns->level <= level_of(user_ns.get())) return false;
    if (ns->parent == user_ns && ns->owner_uid == euid) return true;
    ns = ns->parent.get();
  }
}

bool Cred::has_over(uint32_t uid, uint32_t gid, Cap c) const {
  if (!raised(c)) return false;
  return user_ns == nullptr ||
         (uid_inside(user_ns.get(), uid) != kNoId && gid_inside(user_ns.get(), gid) != kNoId);
}

}  // namespace uk
