// An open directory: "." and ".." at positions 0 and 1, the filesystem's own entries from position
// 2 on. Base class for the directories of filesystems. list() may suspend.
#pragma once

#include <string>
#include <vector>

#include "ukernel/vfs/file.h"

namespace uk {

class DirFile : public File {
 public:
  static constexpr uint64_t kFirstPos = 2;

  using File::File;
  Result<size_t> read(Park&, IoSink&, uint64_t) override { return Err(Errno::kISDIR); }
  bool seekable() const override { return true; }
  // SEEK_SET and SEEK_CUR; a position is what readdir gave.
  Result<uint64_t> seek(Park& park, int64_t offset, int whence) override;
  Result<> readdir(Park& park, const DirVisitor& visit) final;
  Result<> fsync(Park&, bool) override { return {}; }
  Ref<MemoryObject> memory_object() override { return nullptr; }

 protected:
  // Entries from `pos` (>= kFirstPos) on; each one taken by `visit` moves pos to its next_pos.
  virtual Result<> list(Park& park, const DirVisitor& visit) = 0;
};

// A directory that is read whole when it is entered; what changes later shows when it is rewound.
class SnapshotDirFile : public DirFile {
 public:
  struct Entry {
    std::string name;
    uint64_t ino;
    uint8_t type;  // DT_*
  };
  static constexpr size_t kMaxEntries =
      4'000'000;  // what load() of untrusted directories may return

  using DirFile::DirFile;
  Result<uint64_t> seek(Park& park, int64_t offset, int whence) final;

 protected:
  Result<> list(Park& park, const DirVisitor& visit) final;
  // All entries but "." and "..". May suspend.
  virtual Result<std::vector<Entry>> load(Park& park) = 0;

 private:
  std::vector<Entry> entries_;
  bool loaded_ = false;
};

// DT_* for a mode.
constexpr uint8_t dirent_type(uint32_t mode) { return static_cast<uint8_t>((mode & S_IFMT) >> 12); }

}  // namespace uk
