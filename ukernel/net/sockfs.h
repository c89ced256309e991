// The inodes that sockets show to fstat(2) and /proc/PID/fd: "socket:[NUMBER]", in a superblock
// that is mounted nowhere. Does not suspend; the path holds the inode.
#pragma once

#include "ukernel/vfs/path.h"
#include "ukernel/vfs/types.h"

namespace uk {

// A path for a new socket's file, owned by `cred`. `protocol`: what the attribute
// system.sockprotoname says; a constant.
Path make_socket_path(Ref<SuperBlock> sockfs, uint64_t ino, const Cred& cred, FileTime now,
                      const char* protocol);

}  // namespace uk
