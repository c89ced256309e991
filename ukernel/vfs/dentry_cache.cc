// The dentry cache. A dentry on a list carries one reference of the cache; which list it is on is
// told by `in_negative_lru`, since its inode may have been set meanwhile.
#include "ukernel/vfs/dentry_cache.h"

#include <vector>

namespace uk {

void DentryCache::touch(Dentry& d) {
  if (d.linked()) {
    d.unlink();
    (d.in_negative_lru ? negative_count_ : positive_count_)--;
  } else {
    d.ref();
  }
  d.in_negative_lru = d.inode() == nullptr;
  if (d.in_negative_lru) {
    negative_.push_back(d);
    ++negative_count_;
  } else {
    positive_.push_back(d);
    ++positive_count_;
  }
  trim();
}

void DentryCache::forget(Dentry& d) {
  if (!d.linked()) return;
  d.unlink();
  (d.in_negative_lru ? negative_count_ : positive_count_)--;
  d.unref();
}

void DentryCache::trim() {
  while (positive_count_ > kMaxPositive) forget(positive_.front());
  while (negative_count_ > kMaxNegative) forget(negative_.front());
}

void DentryCache::forget_all(const SuperBlock& sb) {
  std::vector<Dentry*> found;
  auto collect = [&](List<Dentry, DentryLru>& list) {
    for (Dentry& d : list) {
      const Inode* inode = d.inode() != nullptr    ? d.inode()
                           : d.parent() != nullptr ? d.parent()->inode()
                                                   : nullptr;
      if (inode != nullptr && &inode->sb() == &sb) found.push_back(&d);
    }
  };
  collect(positive_);
  collect(negative_);
  for (Dentry* d : found) forget(*d);
}

void DentryCache::clear() {
  while (!positive_.empty()) forget(positive_.front());
  while (!negative_.empty()) forget(negative_.front());
}

}  // namespace uk
