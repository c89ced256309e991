// /proc/PID/maps with its query ioctl, /proc/PID/mem and /proc/PID/pagemap (proc(5)).
#include <algorithm>
#include <cstring>

#include "ukernel/fs/procfs/pid_files.h"
#include "ukernel/fs/procfs/text_file.h"
#include "ukernel/mm/address_space.h"

namespace uk::procfs {
namespace {

// ---- maps

constexpr uint32_t kQuery = 0xc0686611;  // PROCMAP_QUERY
constexpr uint64_t kReadable = 1, kWritable = 2, kExecutable = 4, kShared = 8, kOrNext = 0x10,
                   kFileBacked = 0x20;

struct MapQuery {  // struct procmap_query
  uint64_t size, flags, addr;
  uint64_t start, end, vma_flags, page_size, offset, inode;
  uint32_t dev_major, dev_minor, name_size, build_id_size;
  uint64_t name_addr, build_id_addr;
};
static_assert(sizeof(MapQuery) == 104);

uint64_t flags_of(const VmaInfo& v) {
  return (any(v.prot & Prot::kRead) ? kReadable : 0) |
         (any(v.prot & Prot::kWrite) ? kWritable : 0) |
         (any(v.prot & Prot::kExec) ? kExecutable : 0) | (v.shared ? kShared : 0);
}

class MapsFile final : public TextFile {
 public:
  MapsFile(Path path, int flags, Ref<Node> node, Ref<const Cred> opener, Ref<Task> task)
      : TextFile(std::move(path), flags, std::move(node), std::move(opener)),
        task_(std::move(task)) {}

  Result<int64_t> ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) override {
    if (cmd != kQuery) return Err(Errno::kNOTTY);
    MapQuery q = {};
    auto bytes = std::as_writable_bytes(std::span(&q, 1));
    TRY(user.copy_in(park, bytes.first(sizeof q.size), arg));
    if (q.size < offsetof(MapQuery, start)) return Err(Errno::kINVAL);
    if (q.size > kPageSize) return Err(Errno::k2BIG);
    const size_t size = std::min<uint64_t>(q.size, sizeof q);
    TRY(user.copy_in(park, bytes.first(size), arg));
    constexpr uint64_t kKnown =
        kReadable | kWritable | kExecutable | kShared | kOrNext | kFileBacked;
    if ((q.flags & ~kKnown) != 0 || (q.name_size != 0) != (q.name_addr != 0) ||
        (q.build_id_size != 0) != (q.build_id_addr != 0))
      return Err(Errno::kINVAL);
    Ref<AddressSpace> mm = task_->mm_ref();
    if (!mm) return Err(Errno::kSRCH);
    const VmaInfo v = TRY(find(*mm, q));
    if (q.name_size != 0) TRY(put_name(park, user, q, v.name));
    q.start = v.start;
    q.end = v.end;
    q.vma_flags = flags_of(v);
    q.page_size = kPageSize;
    q.offset = v.offset;
    q.inode = v.ino;
    q.dev_major = dev_major(v.dev);
    q.dev_minor = dev_minor(v.dev);
    q.build_id_size = 0;  // build ids are not looked for
    TRY(user.copy_out(park, arg, bytes.first(size)));
    return 0;
  }

 private:
  static Result<VmaInfo> find(const AddressSpace& mm, const MapQuery& q) {
    std::optional<VmaInfo> found;
    const uint64_t wanted = q.flags & (kReadable | kWritable | kExecutable | kShared);
    mm.each_vma([&](const VmaInfo& v) {
      if (found || v.end <= q.addr) return;
      if (v.start > q.addr && (q.flags & kOrNext) == 0) return;
      const bool fits =
          (flags_of(v) & wanted) == wanted && ((q.flags & kFileBacked) == 0 || v.ino != 0);
      if (fits) found = v;
    });
    if (!found) return Err(Errno::kNOENT);
    return *found;
  }
  static Result<> put_name(Park& park, IoctlUser& user, MapQuery& q, const std::string& name) {
    if (name.empty()) {
      q.name_size = 0;
      return {};
    }
    if (name.size() + 1 > q.name_size) return Err(Errno::kNAMETOOLONG);
    q.name_size = static_cast<uint32_t>(name.size() + 1);
    return user.copy_out(park, q.name_addr,
                         std::as_bytes(std::span(name.c_str(), name.size() + 1)));
  }
  Ref<Task> task_;
};

// ---- mem, pagemap

class SeekableFile : public File {
 public:
  SeekableFile(Path path, int flags, Ref<AddressSpace> mm)
      : File(std::move(path), flags), mm_(std::move(mm)) {}
  bool seekable() const override { return true; }
  Result<uint64_t> seek(Park&, int64_t offset, int whence) override {
    if (whence == SEEK_CUR) offset += static_cast<int64_t>(pos);
    if (whence != SEEK_SET && whence != SEEK_CUR) return Err(Errno::kINVAL);
    return pos = static_cast<uint64_t>(offset);  // addresses may look negative
  }

 protected:
  const Ref<AddressSpace> mm_;  // of the program that ran when it was opened
};

class MemFile final : public SeekableFile {
 public:
  using SeekableFile::SeekableFile;
  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override {
    return move(to.remaining(), [&](std::span<std::byte> piece, size_t done) -> Result<size_t> {
      const size_t n = TRY(mm_->force_copy_in(park, piece, offset + done));
      return to.put(park, piece.first(n));
    });
  }
  Result<size_t> write(Park& park, IoSource& from, uint64_t& offset) override {
    const size_t done =
        TRY(move(from.remaining(), [&](std::span<std::byte> piece, size_t at) -> Result<size_t> {
          const size_t n = TRY(from.get(park, piece));
          return mm_->force_copy_out(park, offset + at, piece.first(n));
        }));
    offset += done;
    return done;
  }

 private:
  template <class F>
  static Result<size_t> move(size_t bytes, F&& f) {
    std::vector<std::byte> buffer(std::min<size_t>(bytes, 64 << 10));
    size_t done = 0;
    while (done < bytes) {
      auto piece = std::span(buffer).first(std::min(buffer.size(), bytes - done));
      Result<size_t> n = f(piece, done);
      if (!n) return done != 0 ? Result<size_t>(done) : Err(Errno::kIO);
      done += *n;
      if (*n < piece.size()) break;
    }
    return done;
  }
};

// Eight bytes a page. Frame numbers mean nothing to anybody here and are not shown.
class PagemapFile final : public SeekableFile {
 public:
  using SeekableFile::SeekableFile;
  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override {
    constexpr uint64_t kPresent = 1ull << 63, kOfFile = 1ull << 61;
    constexpr size_t kEntry = sizeof(uint64_t), kMost = 4096;
    if (offset % kEntry != 0 || to.remaining() % kEntry != 0) return Err(Errno::kINVAL);
    const uint64_t first = offset / kEntry, last = mm_->user_limit() / kPageSize;
    size_t done = 0;
    while (to.remaining() != 0 && first + done < last) {
      const uint64_t page = first + done;
      const uint64_t count = std::min<uint64_t>({to.remaining() / kEntry, kMost, last - page});
      std::vector<uint64_t> entries(count);
      struct Piece {
        uint64_t from, to;
        bool file;
      };
      std::vector<Piece> pieces;
      mm_->each_vma([&](const VmaInfo& v) {
        const uint64_t a = std::max(v.start / kPageSize, page);
        const uint64_t b = std::min(v.end / kPageSize, page + count);
        if (a < b) pieces.push_back({a, b, v.ino != 0 || v.shared});
      });
      for (const Piece& p : pieces) {
        auto resident = mm_->mincore(park, p.from * kPageSize, (p.to - p.from) * kPageSize);
        if (!resident) continue;  // unmapped meanwhile
        for (uint64_t i = 0; i < resident->size(); ++i)
          if (((*resident)[i] & 1) != 0)
            entries[p.from - page + i] = kPresent | (p.file ? kOfFile : 0);
      }
      const size_t put = TRY(to.put(park, std::as_bytes(std::span(entries))));
      done += put / kEntry;
      if (put < count * kEntry) break;
      park.yield();
    }
    return done * kEntry;
  }
};

template <class F>
class MemoryNode final : public Node {
 public:
  MemoryNode(const Node& dir, const Entry& entry, uint64_t ino)
      : Node(dir.sb_ref(), &entry, entry.mode, ino, dir.task_ref()) {}
  Result<Ref<File>> open(Park&, const Path& path, int flags, const Cred& cred) override {
    if (!alive()) return Err(Errno::kSRCH);
    if constexpr (std::is_same_v<F, MapsFile>) {
      Ref<Node> self(this);
      return Ref<File>(
          make_ref<MapsFile>(path, flags, self, Ref<const Cred>(cred.copy()), task_ref()));
    } else {
      Ref<AddressSpace> mm = task()->mm_ref();
      if (!mm) return Err(Errno::kSRCH);
      return Ref<File>(make_ref<F>(path, flags, std::move(mm)));
    }
  }
};

}  // namespace

Ref<Node> make_maps(const Node& dir, const Entry& entry, uint64_t ino) {
  return make_ref<MemoryNode<MapsFile>>(dir, entry, ino);
}
Ref<Node> make_mem(const Node& dir, const Entry& entry, uint64_t ino) {
  return make_ref<MemoryNode<MemFile>>(dir, entry, ino);
}
Ref<Node> make_pagemap(const Node& dir, const Entry& entry, uint64_t ino) {
  return make_ref<MemoryNode<PagemapFile>>(dir, entry, ino);
}

}  // namespace uk::procfs
