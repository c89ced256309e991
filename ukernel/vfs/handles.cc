#include "ukernel/vfs/handles.h"

#include <vector>

#include "ukernel/vfs/vfs_impl.h"

namespace uk {

void HandleTable::drop(std::map<Key, Entry>::iterator at) {
  Ref<Dentry> keep = std::move(at->second.dentry);  // its end may look at the table
  by_dentry_.erase(keep.get());
  ages_.erase(at->second.age);
  entries_.erase(at);
}

void HandleTable::remember(Key key, Ref<Dentry> dentry) {
  if (auto at = entries_.find(key); at != entries_.end()) drop(at);
  if (auto at = by_dentry_.find(dentry.get()); at != by_dentry_.end())
    drop(entries_.find(at->second));
  while (entries_.size() >= kMax) drop(entries_.find(ages_.front()));
  ages_.push_back(key);
  by_dentry_.emplace(dentry.get(), key);
  entries_.emplace(key, Entry{std::move(dentry), std::prev(ages_.end())});
}

Ref<Dentry> HandleTable::find(Key key) const {
  auto at = entries_.find(key);
  return at == entries_.end() ? Ref<Dentry>() : at->second.dentry;
}

void HandleTable::forget(const Dentry& d) {
  auto at = by_dentry_.find(&d);
  if (at != by_dentry_.end()) drop(entries_.find(at->second));
}

void HandleTable::forget_all(const SuperBlock& sb) {
  std::vector<Key> gone;
  for (auto at = entries_.lower_bound({&sb, 0}); at != entries_.end() && at->first.first == &sb;
       ++at)
    gone.push_back(at->first);
  for (const Key& key : gone) {
    if (auto at = entries_.find(key); at != entries_.end()) drop(at);
  }
}

Result<uint64_t> file_handle(Vfs& vfs, Park& park, const Path& path) {
  Inode* inode = path.inode();
  if (inode == nullptr) return Err(Errno::kNOENT);
  if (path.mount == nullptr || !inode->sb().keeps_names()) return Err(Errno::kOPNOTSUPP);
  Ref<Dentry> dentry = path.dentry;
  Ref<Inode> keep(inode);
  const uint64_t ino = TRY(inode->getattr(park)).ino;
  // One whose name has gone gets a number too, that is stale at once.
  if (!dentry->unlinked() && inode->sb().mounts > 0)
    vfs.impl().handles.remember({&inode->sb(), ino}, std::move(dentry));
  return ino;
}

Result<Path> path_of_handle(Vfs& vfs, const Ref<Mount>& mount, uint64_t handle) {
  if (mount == nullptr) return Err(Errno::kBADF);
  if (!mount->sb->keeps_names()) return Err(Errno::kSTALE);
  Ref<Dentry> d = vfs.impl().handles.find({mount->sb.get(), handle});
  if (!d || d->unlinked() || d->inode() == nullptr) return Err(Errno::kSTALE);
  return Path(mount, std::move(d));
}

}  // namespace uk
