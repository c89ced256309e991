// Defaults of inodes, and the end of their vfs state.
#include "ukernel/vfs/inode.h"

#include "ukernel/vfs/file.h"
#include "ukernel/vfs/file_locks.h"
#include "ukernel/vfs/inotify.h"
#include "ukernel/vfs/path.h"

namespace uk {

Inode::Inode(Ref<SuperBlock> sb) : sb_(std::move(sb)) {}
Inode::~Inode() = default;

Result<Path> Inode::magic_target(Park& park, const Cred& cred) {
  return (void)park, (void)cred, Err(Errno::kINVAL);
}

Result<Ref<File>> Inode::open(Park& park, const Path& path, int flags, const Cred& cred) {
  return (void)park, (void)path, (void)flags, (void)cred, Err(Errno::kNOSYS);
}

}  // namespace uk
