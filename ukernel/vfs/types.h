// Plain values of the file layer: file types, attributes, times, open flags, poll bits. Numbers are
// Linux's (stat(2), open(2), poll(2)) where a guest can see them.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>

namespace uk {

struct FileTime {
  int64_t sec = 0;
  uint32_t nsec = 0;
  bool operator==(const FileTime&) const = default;
};
constexpr FileTime file_time(uint64_t ns) {
  return {static_cast<int64_t>(ns / 1'000'000'000), static_cast<uint32_t>(ns % 1'000'000'000)};
}

// What stat(2) and statx(2) tell. `mode` holds the type bits (S_IFMT) too. Devices in Linux's
// makedev encoding.
struct FileAttr {
  uint64_t ino = 0;
  uint64_t dev = 0;
  uint64_t rdev = 0;
  uint32_t mode = 0;
  uint32_t nlink = 1;
  uint32_t uid = 0, gid = 0;
  uint64_t size = 0;
  uint64_t blocks = 0;  // of 512 bytes
  uint32_t block_size = 4096;
  FileTime atime, mtime, ctime, btime;
  uint64_t mount_id = 0;    // filled by the caller that knows the mount
  uint64_t attributes = 0;  // STATX_ATTR_*
};
constexpr bool is_type(uint32_t mode, uint32_t type) { return (mode & S_IFMT) == type; }

// A change asked of an inode; unset members stay. The caller has checked permission and set times
// as Linux does.
struct AttrChange {
  std::optional<uint32_t> mode;  // permission bits only
  std::optional<uint32_t> uid, gid;
  std::optional<uint64_t> size;
  std::optional<FileTime> atime, mtime, ctime;
  // ftruncate(2): a modification even if the size stays. Privileges of the file go as with a write;
  // else `mode` says what is left of them.
  bool by_descriptor = false;
};

struct FsStat {  // statfs(2)
  uint64_t type = 0, block_size = 4096, blocks = 0, blocks_free = 0, blocks_avail = 0, files = 0,
           files_free = 0;
  uint64_t fsid = 0, name_max = 255, flags = 0;
};

// Inode flags the vfs heeds (ioctl_iflags(2)).
constexpr uint32_t kInodeImmutable = 0x10, kInodeAppend = 0x20, kInodeNodump = 0x40,
                   kInodeNoatime = 0x80;

// access(2) bits.
enum : uint32_t { kMayExec = 1, kMayWrite = 2, kMayRead = 4 };

constexpr size_t kNameMax = 255;
constexpr size_t kPathMax = 4096;
constexpr int kMaxSymlinks = 40;

// makedev(3) in the encoding of stat(2).
constexpr uint64_t make_dev(uint32_t major, uint32_t minor) {
  return (uint64_t{major & 0xfffff000u} << 32) | (uint64_t{minor & 0xffffff00u} << 12) |
         (uint64_t{major & 0xfffu} << 8) | (minor & 0xffu);
}
constexpr uint32_t dev_major(uint64_t d) {
  return static_cast<uint32_t>(((d >> 32) & 0xfffff000u) | ((d >> 8) & 0xfffu));
}
constexpr uint32_t dev_minor(uint64_t d) {
  return static_cast<uint32_t>(((d >> 12) & 0xffffff00u) | (d & 0xffu));
}

}  // namespace uk
