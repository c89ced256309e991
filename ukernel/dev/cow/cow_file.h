// A copy-on-write file of the host, opened, and what can be done to its header and map by calls
// that block: for the disk (cow_disk.h) when it opens, and for the command line (image_ops.h).
//
// Ownership: a CowFile owns its descriptor and with it the lock on the file. Nothing suspends; the
// calls block the thread. Contents are untrusted (format.h). Functions that can fail for a reason
// that a user can mend say it in `why`: "FILE: WHY; WHAT TO DO".
#pragma once

#include <memory>
#include <string>

#include "hostio/sys/fd.h"
#include "ukernel/dev/cow/format.h"

namespace uk::cow {

struct CowFile {
  CowFile(std::string path, sys::Fd fd, Header header)
      : path(std::move(path)), fd(std::move(fd)), header(std::move(header)), map(this->header) {}
  const std::string path;
  const sys::Fd fd;
  Header header;
  Map map;
  bool torn = false;  // a copy of a block of the map is damaged, the other is good
};

// Opens a file with `flags` (O_RDONLY or O_RDWR, and more) and locks it: exclusively to write,
// shared to read.
Result<sys::Fd> open_image(const std::string& path, int flags, std::string& why);

// Opens and checks header and map. With O_RDONLY in `flags` for reading alone.
Result<std::unique_ptr<CowFile>> open_cow(const std::string& path, int flags, std::string& why);
// Opens the backing file `path` and checks that it is what the header means; `changed_too`: or
// else takes it as it is.
Result<sys::Fd> open_backing(const Header& header, const std::string& path, int flags,
                             bool changed_too, std::string& why);

struct BackingState {
  uint64_t bytes = 0;
  int64_t mtime_ns = 0;
};
Result<BackingState> backing_state(int fd);

// Makes a new, empty copy-on-write file for the backing file. `disk_bytes` 0: as large as that is.
// There must be nothing of that name.
Result<> create_cow(const std::string& path, Kind kind, const std::string& backing,
                    uint64_t disk_bytes, std::string& why);

// All of it or an error.
Result<> write_at(int fd, std::span<const std::byte> bytes, uint64_t offset);
// Zeroes follow the end of the file.
Result<> read_at(int fd, std::span<std::byte> bytes, uint64_t offset);

// To stable storage: what was written of the data, then the map; the header.
Result<> save_map(CowFile& file);
Result<> save_header(CowFile& file);

}  // namespace uk::cow
