// The dentry cache: keeps recently used names alive, so that walks find them without asking the
// filesystem. Bounded, with a smaller bound for negative ones (a guest can look up any number of
// names that do not exist). Owned by the Vfs; nothing here suspends.
#pragma once

#include <cstddef>

#include "base/list.h"
#include "ukernel/vfs/path.h"

namespace uk {

class DentryCache {
 public:
  static constexpr size_t kMaxPositive = 16384;
  static constexpr size_t kMaxNegative = 4096;

  DentryCache() = default;
  ~DentryCache() { clear(); }

  // Keeps `d`, as the most recently used one. A negative dentry that became positive moves over.
  void touch(Dentry& d);
  // No longer keeps `d`.
  void forget(Dentry& d);
  // Forgets all of one superblock.
  void forget_all(const SuperBlock& sb);
  void clear();
  size_t size() const { return positive_count_ + negative_count_; }

 private:
  void trim();
  List<Dentry, DentryLru> positive_, negative_;
  size_t positive_count_ = 0, negative_count_ = 0;
};

}  // namespace uk
