// Unpacks a "newc" cpio archive (Linux's buffer-format.rst) into a directory, normally the root of
// a fresh tmpfs. Contents of files may stay where they are: in the archive's memory, and where they
// start at a page boundary of a host file that holds the archive, to be mapped from there.
//
// The archive must outlive the filesystem. It is validated and bounded like any input, although the
// builtin one is trusted. Functions with Park& may suspend.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/result.h"
#include "hostio/sys/fd.h"
#include "ukernel/vfs/vfs.h"

namespace uk {

// Where the archive lies in a host file; the descriptor is shared by the files mapped from it.
struct ArchiveFile {
  std::shared_ptr<sys::Fd> fd;
  uint64_t offset;  // of the archive's first byte
};

// kINVAL: not a newc archive, truncated, or a name leads outside. Errors of the filesystem.
Result<> unpack_initramfs(Park& park, Vfs& vfs, Ref<Inode> root, std::span<const std::byte> archive,
                          std::optional<ArchiveFile> file = std::nullopt);

}  // namespace uk
