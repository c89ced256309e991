#include "ukernel/dev/cow/image_ops.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_format.h"
#include "hostio/sys/file.h"

namespace uk::cow {
namespace {

constexpr uint64_t kChunk = 1 << 20;

std::unexpected<Errno> fail(Errno error, std::string& why, const std::string& path,
                            const char* what_to_do) {
  why = absl::StrFormat("%s: %s; %s", path, errno_text(error), what_to_do);
  return Err(error);
}

// Calls f(offset, bytes) for every piece of the disk, at most kChunk, that is here or (not) so.
Result<> each_piece(const CowFile& file, bool here,
                    const std::function<Result<>(uint64_t, uint64_t)>& f) {
  const uint64_t cluster = file.header.cluster, clusters = file.header.clusters();
  for (uint64_t c = 0; c < clusters;) {
    const uint64_t run = file.map.run(c, clusters - c);
    if (file.map.present(c) == here) {
      const uint64_t end = std::min((c + run) * cluster, file.header.disk_bytes);
      for (uint64_t at = c * cluster; at < end; at += kChunk)
        TRY(f(at, std::min(kChunk, end - at)));
    }
    c += run;
  }
  return {};
}

Result<> take_backing(CowFile& file, int fd) {
  const BackingState now = TRY(backing_state(fd));
  file.header.backing_bytes = now.bytes;
  file.header.backing_mtime_ns = now.mtime_ns;
  return {};
}

}  // namespace

Result<Info> image_info(const std::string& path, std::string& why) {
  std::unique_ptr<CowFile> file = TRY(open_cow(path, O_RDONLY, why));
  Info info;
  info.header = file->header;
  info.present = file->map.count();
  info.torn = file->torn;
  if (Result<struct stat> st = sys::fstat(file->fd.get()); st)
    info.allocated = static_cast<uint64_t>(st->st_blocks) * 512;
  Result<sys::Fd> backing = sys::open(file->header.backing.c_str(), O_RDONLY | O_NONBLOCK);
  Result<BackingState> state = backing ? backing_state(backing->get()) : Err(backing.error());
  if (!state) {
    info.backing = BackingIs::kMissing;
  } else if (!same_backing(info.header, state->bytes, state->mtime_ns)) {
    info.backing = BackingIs::kChanged;
  }
  return info;
}

Result<CheckReport> image_check(const std::string& path, const Progress& progress,
                                std::string& why) {
  std::unique_ptr<CowFile> file = TRY(open_cow(path, O_RDONLY, why));
  CheckReport report;
  report.present = file->map.count();
  if (file->torn)
    report.notes.push_back(
        "one of two copies of a block of the map was being written when the power went; the other "
        "is good");
  if (file->header.committing)
    report.problems.push_back("a commit was interrupted; finish it with ukernel image commit");
  std::string about_backing;
  if (Result<sys::Fd> backing = open_backing(file->header, file->header.backing, O_RDONLY,
                                             file->header.committing, about_backing);
      !backing)
    report.problems.push_back(about_backing);
  std::vector<std::byte> buf(kChunk);
  uint64_t done = 0, bad = 0;
  const uint64_t total = report.present * file->header.cluster;
  TRY(each_piece(*file, true, [&](uint64_t at, uint64_t n) -> Result<> {
    if (Result<> r =
            read_at(file->fd.get(), std::span(buf).first(n), file->header.data_offset + at);
        !r && bad++ == 0)
      report.problems.push_back(absl::StrFormat(
          "the host cannot read it at byte %u of the disk: %s", at, errno_text(r.error())));
    progress(done = std::min(done + n, total), total);
    return {};
  }));
  return report;
}

Result<uint64_t> image_commit(const std::string& path, bool changed_too, const Progress& progress,
                              std::string& why) {
  std::unique_ptr<CowFile> file = TRY(open_cow(path, O_RDWR, why));
  Header& header = file->header;
  sys::Fd backing =
      TRY(open_backing(header, header.backing, O_RDWR, changed_too || header.committing, why));
  // From here on the backing file is not what the header says; who opens the file is told.
  header.committing = true;
  if (Result<> r = save_header(*file); !r) return fail(r.error(), why, path, "nothing was changed");
  std::vector<std::byte> buf(kChunk);
  uint64_t done = 0;
  const uint64_t total = file->map.count() * header.cluster;
  const Result<BackingState> before = backing_state(backing.get());
  Result<> r = before ? Result<>() : Err(before.error());
  if (r && before->bytes < header.disk_bytes) r = sys::ftruncate(backing.get(), header.disk_bytes);
  if (r) {
    r = each_piece(*file, true, [&](uint64_t at, uint64_t n) -> Result<> {
      auto bytes = std::span(buf).first(n);
      TRY(read_at(file->fd.get(), bytes, header.data_offset + at));
      TRY(write_at(backing.get(), bytes, at));
      progress(done = std::min(done + n, total), total);
      return {};
    });
  }
  if (r) r = sys::fdatasync(backing.get());
  if (!r)
    return fail(r.error(), why, header.backing,
                "free what is needed, and give the command again: it goes on");
  // The map before the header: a file that is still committing may be committed again.
  file->map.clear();
  r = save_map(*file);
  if (r) r = take_backing(*file, backing.get());
  header.committing = false;
  if (r) r = save_header(*file);
  if (!r) return fail(r.error(), why, path, "give the command again");
  // Only room is lost if the host cannot do this.
  (void)sys::fallocate(file->fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       header.data_offset, header.disk_bytes);
  return done;
}

Result<uint64_t> image_rebase(const std::string& path, const std::string& backing, bool as_is,
                              const Progress& progress, std::string& why) {
  std::unique_ptr<CowFile> file = TRY(open_cow(path, O_RDWR, why));
  Header& header = file->header;
  if (header.committing) {
    why = path + ": a commit was interrupted; finish it with ukernel image commit";
    return Err(Errno::kBUSY);
  }
  char* real = realpath(backing.c_str(), nullptr);
  if (real == nullptr) return fail(Errno::kNOENT, why, backing, "give a backing file that exists");
  const std::string full = real;
  free(real);
  if (full.size() > kMaxBackingName)
    return fail(Errno::kNAMETOOLONG, why, backing, "give a shorter path");
  sys::Fd fresh = TRY(open_image(full, O_RDONLY, why));
  const Result<BackingState> state = backing_state(fresh.get());
  if (!state) return fail(state.error(), why, full, "the host cannot tell its size");
  if (header.kind == Kind::kUml && state->bytes != header.disk_bytes) {
    why = full + ": has not the size of the disk, as UML's format wants; give one that has";
    return Err(Errno::kINVAL);
  }
  uint64_t done = 0, copied = 0;
  if (!as_is) {
    sys::Fd old = TRY(open_backing(header, header.backing, O_RDONLY, /*changed_too=*/false, why));
    const uint64_t total =
        header.disk_bytes - std::min(header.disk_bytes, file->map.count() * header.cluster);
    std::vector<std::byte> was(kChunk), is(kChunk);
    const uint64_t cluster = header.cluster;
    std::vector<uint64_t> differ;
    Result<> r = each_piece(*file, false, [&](uint64_t at, uint64_t n) -> Result<> {
      TRY(read_at(old.get(), std::span(was).first(n), at));
      TRY(read_at(fresh.get(), std::span(is).first(n), at));
      for (uint64_t i = 0; i < n; i += cluster) {
        const uint64_t m = std::min(cluster, n - i);
        if (std::memcmp(&was[i], &is[i], m) == 0) continue;
        TRY(write_at(file->fd.get(), std::span(was).subspan(i, m), header.data_offset + at + i));
        differ.push_back((at + i) / cluster);
        copied += m;
      }
      progress(done = std::min(done + n, total), total);
      return {};
    });
    for (uint64_t c : differ) file->map.set(c, 1);
    if (r) r = save_map(*file);
    if (!r) return fail(r.error(), why, path, "the old backing file is still in force");
  }
  header.backing = full;
  Result<> r = take_backing(*file, fresh.get());
  if (r) r = save_header(*file);
  if (!r) return fail(r.error(), why, path, "give the command again");
  return copied;
}

Result<> create_raw(const std::string& path, uint64_t bytes, std::string& why) {
  Result<sys::Fd> fd = sys::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL, 0644);
  if (!fd && fd.error() == Errno::kEXIST) {
    why = path + ": there is such a file; give another name";
    return Err(Errno::kEXIST);
  }
  if (!fd) return fail(fd.error(), why, path, "give a place you can write to");
  if (Result<> r = sys::ftruncate(fd->get(), bytes); !r) {
    (void)sys::unlinkat(AT_FDCWD, path.c_str(), 0);
    return fail(r.error(), why, path, "give a place with room for it, or a smaller size");
  }
  return {};
}

}  // namespace uk::cow
