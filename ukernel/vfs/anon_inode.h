// Inodes for files that have no name in any filesystem: eventfd, epoll, timerfd, signalfd, pidfd.
// Linux shows them as anon_inode:[NAME] in /proc/PID/fd, all with one inode.
#pragma once

#include <string_view>

#include "ukernel/vfs/path.h"

namespace uk {

class File;

// A path whose name is "anon_inode:[kind]" ("anon_inode:[eventpoll]").
Path make_anon_path(std::string_view kind);

// Is it a file of no kind: eventfd(2), epoll(7) and their like?
bool is_anonymous(const File& file);

// The flags of an open file as fcntl(2) F_GETFL and /proc/PID/fdinfo show them: with O_LARGEFILE,
// which open(2) and memfd_create(2) add on 64-bit machines (libc there defines it as 0), unless it
// has no name, as pipes and sockets.
int shown_flags(const File& file);

}  // namespace uk
