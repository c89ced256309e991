// File handles (name_to_handle_at(2)): a short value for an inode, from which an open file can be
// made later. Handles are (filesystem, inode number); a table remembers where those given out last
// are.
//
// Ownership: the Vfs owns the table; an entry holds its dentry, and goes when the name is removed,
// when the filesystem is mounted nowhere, or when newer ones push it out: a handle is stale then.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <utility>

#include "base/result.h"
#include "ukernel/vfs/path.h"

namespace uk {

class Vfs;

class HandleTable {
 public:
  static constexpr size_t kMax = 4096;
  using Key = std::pair<const SuperBlock*, uint64_t>;

  void remember(Key key, Ref<Dentry> dentry);
  Ref<Dentry> find(Key key) const;
  void forget(const Dentry& d);
  void forget_all(const SuperBlock& sb);

 private:
  struct Entry {
    Ref<Dentry> dentry;
    std::list<Key>::iterator age;
  };
  void drop(std::map<Key, Entry>::iterator at);
  std::map<Key, Entry> entries_;
  std::map<const Dentry*, Key> by_dentry_;
  std::list<Key> ages_;  // the oldest first
};

// The handle's inode number for what is at `path`; kOPNOTSUPP where names cannot be found again.
Result<uint64_t> file_handle(Vfs& vfs, Park& park, const Path& path);
// The path of a handle's file in the filesystem that `mount` shows: kSTALE.
Result<Path> path_of_handle(Vfs& vfs, const Ref<Mount>& mount, uint64_t handle);

}  // namespace uk
