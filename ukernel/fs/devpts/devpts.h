// devpts: the directory of pseudo terminals, /dev/pts (pts(4)). One instance: all mounts show the
// same terminals. Lookups only; nothing here suspends. Mount options: gid=, mode=, ptmxmode=.
#pragma once

#include "ukernel/dev/tty/pty.h"
#include "ukernel/vfs/vfs.h"

namespace uk {

// `for_all`: whoever mounts may say what new terminals are like in all mounts (not root of a user
// namespace).
void register_devpts(Vfs& vfs, Ref<PtyTable> table, std::function<bool()> for_all);

}  // namespace uk
