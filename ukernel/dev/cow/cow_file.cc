#include "ukernel/dev/cow/cow_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_format.h"
#include "hostio/sys/file.h"
#include "ukernel/dev/block/host_disk.h"

namespace uk::cow {
namespace {

// Sets `why` and returns the error.
std::unexpected<Errno> fail(Errno error, std::string& why, std::string sentence) {
  why = std::move(sentence);
  return Err(error);
}
std::unexpected<Errno> fail(Errno error, std::string& why, const std::string& path,
                            const char* what_to_do) {
  return fail(error, why, absl::StrFormat("%s: %s; %s", path, errno_text(error), what_to_do));
}

std::string size_text(uint64_t bytes) { return absl::StrFormat("%u bytes", bytes); }

Result<std::string> absolute(const std::string& path, std::string& why) {
  char* real = realpath(path.c_str(), nullptr);
  if (real == nullptr) return fail(Errno::kNOENT, why, path, "give a backing file that exists");
  std::string result = real;
  free(real);
  return result;
}

}  // namespace

Result<> write_at(int fd, std::span<const std::byte> bytes, uint64_t offset) {
  while (!bytes.empty()) {
    Result<size_t> n = sys::pwrite(fd, bytes, offset);
    if (!n && n.error() == Errno::kINTR) continue;
    if (!n) return Err(n.error());
    if (*n == 0) return Err(Errno::kIO);
    bytes = bytes.subspan(*n);
    offset += *n;
  }
  return {};
}

Result<> read_at(int fd, std::span<std::byte> bytes, uint64_t offset) {
  while (!bytes.empty()) {
    Result<size_t> n = sys::pread(fd, bytes, offset);
    if (!n && n.error() == Errno::kINTR) continue;
    if (!n) return Err(n.error());
    if (*n == 0) {
      std::ranges::fill(bytes, std::byte{0});
      return {};
    }
    bytes = bytes.subspan(*n);
    offset += *n;
  }
  return {};
}

Result<sys::Fd> open_image(const std::string& path, int flags, std::string& why) {
  const bool write = (flags & O_ACCMODE) != O_RDONLY;
  Result<sys::Fd> fd = sys::open(path.c_str(), flags | O_NONBLOCK);
  if (!fd)
    return fail(fd.error(), why, path,
                write ? "give a file you can read and write" : "give a file you can read");
  if (Result<> locked = lock_host_image(fd->get(), write); !locked) {
    if (locked.error() == Errno::kAGAIN)
      return fail(Errno::kAGAIN, why, path + ": in use by another process; end that first");
    return fail(locked.error(), why, path, "give a regular file or a block device");
  }
  return std::move(*fd);
}

Result<std::unique_ptr<CowFile>> open_cow(const std::string& path, int flags, std::string& why) {
  sys::Fd fd = TRY(open_image(path, flags, why));
  std::vector<std::byte> front(kHeaderBytes);
  if (Result<> r = read_at(fd.get(), front, 0); !r)
    return fail(r.error(), why, path, "the host cannot read it");
  Result<Header> header = parse_header(front);
  if (!header) {
    switch (header.error()) {
      case Errno::kINVAL:
        return fail(Errno::kINVAL, why,
                    path + ": not a copy-on-write file; make one with ukernel image create");
      case Errno::kOPNOTSUPP:
        return fail(Errno::kOPNOTSUPP, why,
                    path + ": a version of the format that is not known here; use a newer ukernel");
      case Errno::kFBIG:
        return fail(Errno::kFBIG, why, path + ": for a disk that is too large; see docs/COW.md");
      default:
        return fail(header.error(), why,
                    path + ": its header is damaged; restore the file from a copy");
    }
  }
  auto file = std::make_unique<CowFile>(path, std::move(fd), std::move(*header));
  const Result<uint64_t> end = sys::lseek(file->fd.get(), 0, SEEK_END);
  if (!end || *end < file->header.file_bytes())
    return fail(Errno::kUCLEAN, why,
                absl::StrFormat("%s: cut short (%u of %u bytes); restore the file from a copy",
                                path, end.value_or(0), file->header.file_bytes()));
  std::vector<std::byte> bytes;
  for (uint32_t block = 0; block < file->map.blocks(); ++block) {
    bytes.resize(file->map.place_bytes(block));
    Result<> r = read_at(file->fd.get(), bytes, file->map.place(block));
    if (r) r = file->map.load(block, bytes, &file->torn);
    if (!r)
      return fail(
          r.error(), why,
          absl::StrFormat("%s: block %u of its map is damaged; restore the file from a copy", path,
                          block));
  }
  return file;
}

Result<BackingState> backing_state(int fd) {
  const struct stat st = TRY(sys::fstat(fd));
  return BackingState{TRY(sys::lseek(fd, 0, SEEK_END)),
                      st.st_mtim.tv_sec * 1'000'000'000 + st.st_mtim.tv_nsec};
}

Result<sys::Fd> open_backing(const Header& header, const std::string& path, int flags,
                             bool changed_too, std::string& why) {
  sys::Fd fd = TRY(open_image(path, flags, why));
  Result<BackingState> now = backing_state(fd.get());
  if (!now) return fail(now.error(), why, path, "the host cannot tell its size");
  if (!changed_too && !same_backing(header, now->bytes, now->mtime_ns)) {
    const std::string how =
        now->bytes != header.backing_bytes
            ? absl::StrFormat("it had %s and has %s", size_text(header.backing_bytes),
                              size_text(now->bytes))
            : "it was modified later";
    return fail(Errno::kSTALE, why,
                path + ": the backing file has changed since the copy-on-write file was made (" +
                    how +
                    "); restore it, or if its contents are the same, ukernel image rebase --as-is");
  }
  return fd;
}

Result<> create_cow(const std::string& path, Kind kind, const std::string& backing,
                    uint64_t disk_bytes, std::string& why) {
  const std::string full = TRY(absolute(backing, why));
  sys::Fd base = TRY(open_image(full, O_RDONLY, why));
  Result<BackingState> state = backing_state(base.get());
  if (!state) return fail(state.error(), why, full, "the host cannot tell its size");
  std::vector<std::byte> front(kHeaderBytes);
  TRY(read_at(base.get(), front, 0));
  if (Result<Header> h = parse_header(front); h || h.error() != Errno::kINVAL)
    return fail(Errno::kINVAL, why,
                full + ": is a copy-on-write file itself; commit it, or give its backing file");
  if (kind == Kind::kUml && disk_bytes != 0 && disk_bytes != state->bytes)
    return fail(Errno::kINVAL, why,
                path + ": UML's format has disks of their backing file's size; leave the size out");
  if (disk_bytes == 0) disk_bytes = state->bytes / 512 * 512;
  if (kind == Kind::kUml && disk_bytes != state->bytes)
    return fail(Errno::kINVAL, why, full + ": not whole sectors of 512 bytes; use our format");
  Result<Header> header = lay_out(kind, disk_bytes, full, state->bytes, state->mtime_ns);
  if (!header) {
    if (header.error() == Errno::kINVAL)
      return fail(Errno::kINVAL, why,
                  path +
                      ": the disk would have no whole sectors; give a size that is a multiple "
                      "of 512");
    return fail(header.error(), why, path, "give a smaller disk or a shorter path");
  }
  Result<sys::Fd> fd = sys::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL, 0644);
  if (!fd) {
    if (fd.error() == Errno::kEXIST)
      return fail(Errno::kEXIST, why, path + ": there is such a file; give another name");
    return fail(fd.error(), why, path, "give a place you can write to");
  }
  auto file = std::make_unique<CowFile>(path, std::move(*fd), std::move(*header));
  Result<> r = sys::ftruncate(file->fd.get(), file->header.file_bytes());
  if (r) r = save_header(*file);
  if (!r) {
    (void)sys::unlinkat(AT_FDCWD, path.c_str(), 0);
    return fail(r.error(), why, path, "give a place with room for it");
  }
  return {};
}

Result<> save_map(CowFile& file) {
  const std::vector<Write> writes = file.map.take_dirty();
  Result<> r = sys::fdatasync(file.fd.get());
  for (size_t i = 0; r && i < writes.size(); ++i)
    r = write_at(file.fd.get(), writes[i].bytes, writes[i].offset);
  if (r && !writes.empty()) r = sys::fdatasync(file.fd.get());
  file.map.written(writes, r.has_value());
  return r;
}

Result<> save_header(CowFile& file) {
  const Write write = encode_header(file.header);
  TRY(write_at(file.fd.get(), write.bytes, write.offset));
  return sys::fdatasync(file.fd.get());
}

}  // namespace uk::cow
