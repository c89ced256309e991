// Dentries and paths.
#include "ukernel/vfs/path.h"

#include <unordered_map>

#include "ukernel/vfs/vfs.h"

namespace uk {

// Keys are views of the children's own names.
struct Dentry::Children {
  std::unordered_map<std::string_view, Dentry*> map;
};

Dentry::Dentry(Ref<Dentry> parent, std::string name, Ref<Inode> inode)
    : parent_(std::move(parent)), name_(std::move(name)), inode_(std::move(inode)) {
  if (parent_ == nullptr) return;
  if (parent_->children_ == nullptr) parent_->children_ = std::make_unique<Children>();
  bool fresh = parent_->children_->map.emplace(name_, this).second;
  CHECK(fresh);
}

Dentry::~Dentry() {
  leave_parent();
  // A chain of parents that only their children held would otherwise be a recursion as deep as the
  // guest likes.
  Ref<Dentry> up = std::move(parent_);
  while (up != nullptr && up->ref_count() == 1) {
    up->leave_parent();
    Ref<Dentry> next = std::move(up->parent_);
    up = std::move(next);
  }
}

void Dentry::leave_parent() {
  if (parent_ == nullptr || unlinked_ || parent_->children_ == nullptr) return;
  auto& map = parent_->children_->map;
  auto it = map.find(name_);
  if (it != map.end() && it->second == this) map.erase(it);
}

Ref<Dentry> Dentry::child(std::string_view name) const {
  if (children_ == nullptr) return nullptr;
  auto it = children_->map.find(name);
  return it == children_->map.end() ? Ref<Dentry>() : Ref<Dentry>(it->second);
}

void Dentry::detach() {
  leave_parent();
  unlinked_ = true;
}

void Dentry::move_to(Ref<Dentry> parent, std::string name) {
  CHECK(parent != nullptr && parent.get() != this);
  leave_parent();
  Ref<Dentry> old = std::exchange(parent_, std::move(parent));
  name_ = std::move(name);
  unlinked_ = false;
  if (parent_->children_ == nullptr) parent_->children_ = std::make_unique<Children>();
  bool fresh = parent_->children_->map.emplace(name_, this).second;
  CHECK(fresh);
}

Path::Path(Ref<Mount> m, Ref<Dentry> d) : mount(std::move(m)), dentry(std::move(d)) {}
Path::Path() = default;
Path::Path(const Path&) = default;
Path::Path(Path&&) noexcept = default;
Path& Path::operator=(const Path&) = default;
Path& Path::operator=(Path&&) noexcept = default;
Path::~Path() = default;

}  // namespace uk
