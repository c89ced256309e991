// Inodes for files that have no name in any filesystem: eventfd, epoll, timerfd, signalfd, pidfd.
// Linux shows them as anon_inode:[NAME] in /proc/PID/fd, all with one inode.
#pragma once

#include <string_view>

#include "ukernel/vfs/path.h"

namespace uk {

// A path whose name is "anon_inode:[kind]" ("anon_inode:[eventpoll]").
Path make_anon_path(std::string_view kind);

}  // namespace uk
