// The root tree linked into the kernel (`--root=builtin`): busybox and the few files it needs, as
// one "newc" cpio archive made at build time by tools/mkroot. Read-only, lives as long as the
// process, no ownership to keep, nothing suspends. Being part of our own binary it is trusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace uk {

// The whole archive, starting at a page boundary in memory and in the kernel's own binary. A
// directory precedes what is in it, the trailer is the last entry, and the contents of bin/busybox
// start at a multiple of 4096 bytes; for that, its name is followed by several NULs that namesize
// counts.
std::span<const std::byte> builtin_root_cpio();
// Where the archive's first byte lies in the file of our own program; nullopt if that cannot be
// told (the caller then reads it from memory).
std::optional<uint64_t> builtin_root_file_offset();

}  // namespace uk
