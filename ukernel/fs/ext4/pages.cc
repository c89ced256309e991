// ext4: the contents of files between the page cache and the device. Blocks are read and written
// straight from pages; a page without blocks is promised some when it becomes dirty, and gets them
// when it is written back, many at once. New blocks become the file's after their data is on the
// device: no commit can make a file show what somebody else left there.
#include <algorithm>
#include <cstring>

#include "ukernel/fs/ext4/ext4_inode.h"

namespace uk::ext4 {
namespace {

constexpr uint64_t kMinWindow = 4, kMaxWindow = 256;  // pages read at once

}  // namespace

// ---- the object

static PageCacheObject::Options options_of(Ext4Regular& file, PageCacheObject::Backing* backing,
                                           uint64_t size) {
  PageCacheObject::Options o;
  o.backing = backing;
  o.shmem = false;
  o.size = size;
  o.dev = file.sb().dev;
  o.ino = file.ino;
  return o;
}

Ext4Pages::Ext4Pages(PhysMemory& mem, Ext4Regular& file, uint64_t size)
    : PageCacheObject(mem, options_of(file, this, size)), file_(&file) {}

Ext4Pages::~Ext4Pages() = default;

void Ext4Pages::mapped() {
  if (mappings_++ == 0) while_mapped_ = Ref<Ext4Inode>(file_);
}

void Ext4Pages::unmapped() {
  if (--mappings_ != 0) return;
  Ref<Ext4Pages> self(this);  // the inode may take us with it
  while_mapped_.reset();
}

Result<> Ext4Pages::sync(Park& park, uint64_t first, uint64_t count) {
  Ref<Ext4Pages> self(this);
  return file_ == nullptr ? Result<>() : file_->sync_data(park, first, count);
}

Result<> Ext4Pages::punch(Park& park, uint64_t first, uint64_t count) {
  Ref<Ext4Inode> keep(file_);
  if (keep == nullptr) return Err(Errno::kIO);
  MutexLock lock(park, file_->write_lock);
  return file_->punch_hole(park, first * kPageSize, count * kPageSize);
}

Result<> Ext4Pages::fill(Park& park, uint64_t index, std::span<std::byte> page) {
  return file_ == nullptr ? Err(Errno::kIO) : file_->fill(park, index, page);
}

Result<> Ext4Pages::will_dirty(Park& park, uint64_t index) {
  return file_ == nullptr ? Err(Errno::kIO) : file_->will_dirty(park, index);
}

Result<> Ext4Pages::write_back(Park& park, uint64_t index, std::span<const std::byte> page) {
  DirtyPage one{index, page};
  write_back_batch(park, {&one, 1});
  return one.error == Errno::kOk ? Result<>() : Err(one.error);
}

void Ext4Pages::write_back_batch(Park& park, std::span<DirtyPage> pages) {
  if (file_ != nullptr) return file_->write_back(park, pages);
  for (DirtyPage& p : pages) p.error = Errno::kIO;
}

// ---- reading

uint32_t Ext4Regular::blocks_per_page() const {
  return static_cast<uint32_t>(kPageSize / volume().block_size());
}

// What the device has of the file's bytes from `offset` on, which begins a page; `to` is zeroed.
Result<> Ext4Regular::read_blocks(Park& park, uint64_t offset, std::span<std::byte> to) {
  const uint32_t block = volume().block_size();
  std::vector<Bio> bios;
  TRY(super().look(park, [&]() -> Result<> {
    auto at = static_cast<uint32_t>(offset / block);
    auto left = static_cast<uint32_t>(to.size() / block);
    uint64_t done = 0;
    while (left != 0) {
      const Extent e = TRY(tree().find(park, at, left));
      const uint64_t bytes = uint64_t{e.count} * block;
      if (e.block != 0 && !e.unwritten)
        bios.push_back(read_bio(e.block * block, to.subspan(done, bytes)));
      done += bytes;
      at += e.count;
      left -= e.count;
    }
    return {};
  }));
  return bios.empty() ? Result<>() : volume().device().submit(park, bios);
}

Result<> Ext4Regular::fill(Park& park, uint64_t index, std::span<std::byte> page) {
  Ref<Ext4Inode> keep(this);
  const bool in_order = index == std::exchange(next_read_, index + 1);
  auto fresh = [&] {
    return ahead_ != nullptr && ahead_->version == contents_version_ && index >= ahead_->first &&
           index - ahead_->first < ahead_->count;
  };
  auto copy = [&](const Ahead& a) {
    std::memcpy(page.data(), &a.bytes[(index - a.first) * kPageSize], kPageSize);
  };
  const uint64_t end = size();
  auto cut_tail = [&] {  // behind the end there are zeros
    if (index * kPageSize >= end) {
      std::memset(page.data(), 0, kPageSize);
    } else if (const uint64_t in = end - index * kPageSize; in < kPageSize) {
      std::memset(page.data() + in, 0, kPageSize - in);
    }
  };
  if (fresh()) {
    copy(*ahead_);
    if (index + 1 == ahead_->first + ahead_->count && ahead_->count < kMaxWindow &&
        (index + 1) * kPageSize >= end)
      ahead_.reset();  // all is read
    cut_tail();
    return {};
  }
  if (index * kPageSize >= end) return {};
  window_ = in_order ? std::min<uint64_t>(std::max<uint64_t>(window_ * 2, kMinWindow), kMaxWindow)
                     : kMinWindow;
  const uint64_t pages = std::min<uint64_t>(window_, (end - 1) / kPageSize + 1 - index);
  if (pages > 1) {
    auto a = std::make_unique<Ahead>();
    a->first = index;
    a->count = pages;
    a->version = contents_version_;
    a->bytes = std::make_unique<std::byte[]>(pages * kPageSize);
    if (read_blocks(park, index * kPageSize, {a->bytes.get(), pages * kPageSize}) &&
        a->version == contents_version_) {
      copy(*a);
      cut_tail();
      ahead_ = std::move(a);
      return {};
    }
    // An error further on is not this page's.
  }
  for (;;) {
    const uint64_t changes = map_changes_;
    TRY(read_blocks(park, index * kPageSize, page));
    if (changes == map_changes_) break;
    std::memset(page.data(), 0, kPageSize);  // its blocks were taken away meanwhile
  }
  cut_tail();
  return {};
}

// ---- making dirty

Result<> Ext4Regular::will_dirty(Park& park, uint64_t index) {
  Ref<Ext4Inode> keep(this);
  if (super().read_only) return Err(Errno::kROFS);
  super().pages_changed(*this);
  if (promised_.contains(index)) return {};
  uint32_t need = 0;
  TRY(super().look(park, [&]() -> Result<> {
    const uint64_t first = index * blocks_per_page();
    uint32_t left = blocks_per_page();
    if (first + left > uint64_t{ExtentTree::kMaxBlock} + 1) return Err(Errno::kFBIG);
    for (auto at = static_cast<uint32_t>(first); left != 0;) {
      const Extent e = TRY(tree().find(park, at, left));
      if (e.block == 0) need += e.count;
      at += e.count;
      left -= e.count;
    }
    return {};
  }));
  if (need == 0 || promised_.contains(index)) return {};
  TRY(super().promise(need));
  promised_.emplace(index, static_cast<uint8_t>(need));
  promised_blocks_ += need;
  return {};
}

void Ext4Regular::unpromise(uint64_t first, uint64_t end) {
  auto from = promised_.lower_bound(first);
  auto it = from;
  uint32_t blocks = 0;
  for (; it != promised_.end() && it->first < end; ++it) blocks += it->second;
  promised_.erase(from, it);
  promised_blocks_ -= blocks;
  super().unpromise(blocks);
}

// ---- writing back

void Ext4Regular::write_back(Park& park, std::span<PageCacheObject::Backing::DirtyPage> pages) {
  Ref<Ext4Inode> keep(this);
  MutexLock lock(park, map_lock_);
  while (!pages.empty()) {
    size_t n = 1;
    while (n < pages.size() && pages[n].index == pages[n - 1].index + 1) ++n;
    if (Result<> r = write_run(park, pages.first(n)); !r) {
      // What the device does not take is lost, and told to who syncs; else it would be tried for
      // ever.
      const bool lost = r.error() == Errno::kIO || super().volume->failed();
      if (lost) unpromise(pages.front().index, pages[n - 1].index + 1);
      if (lost) write_error_ = Errno::kIO;
      for (auto& p : pages.first(n)) p.error = lost ? Errno::kOk : r.error();
    }
    pages = pages.subspan(n);
  }
}

// Pages that follow each other.
Result<> Ext4Regular::write_run(Park& park, std::span<PageCacheObject::Backing::DirtyPage> pages) {
  const uint32_t block = volume().block_size(), per_page = blocks_per_page();
  const uint64_t first_page = pages.front().index, end_page = pages.back().index + 1;
  const uint64_t first = first_page * per_page;
  const uint64_t end = std::min(end_page * per_page, (size() + block - 1) / block);
  if (first >= end) return {};  // cut off meanwhile
  struct Piece {
    Extent extent;
    bool fresh;
  };
  std::vector<Piece> pieces;
  auto give_back = [&] {
    for (const Piece& p : pieces) {
      if (p.fresh) volume().allocator().release({p.extent.block, p.extent.count});
    }
  };
  Result<> r = super().look(park, [&]() -> Result<> {
    uint64_t near = 0;
    if (first > 0) {
      const Extent before = TRY(tree().find(park, static_cast<uint32_t>(first - 1), 1));
      if (before.block != 0) near = before.block + 1;
    }
    for (auto at = static_cast<uint32_t>(first); at < end;) {
      Extent e = TRY(tree().find(park, at, static_cast<uint32_t>(end - at)));
      const bool fresh = e.block == 0;
      if (fresh) {
        const BlockRange got =
            TRY(volume().allocator().take(park, near != 0 ? near : goal(), e.count));
        e.block = got.start;
        e.count = got.count;
      }
      pieces.push_back({e, fresh});
      near = e.block + e.count;
      at += e.count;
    }
    return {};
  });
  if (!r) {
    give_back();
    return r;
  }
  std::vector<Bio> bios;
  for (const Piece& p : pieces) {
    for (uint64_t done = 0; done < p.extent.count;) {
      const uint64_t at = p.extent.first + done;
      const auto& page = pages[at / per_page - first_page];
      const uint64_t in_page = at % per_page;
      const uint64_t n = std::min<uint64_t>(p.extent.count - done, per_page - in_page);
      bios.push_back(write_bio((p.extent.block + done) * block,
                               page.bytes.subspan(in_page * block, n * block)));
      done += n;
    }
  }
  r = volume().device().submit(park, bios);
  ++contents_version_;
  if (!r) {
    give_back();
    return r;
  }
  r = super().change_now(park, [&]() -> Result<> {
    for (Piece& p : pieces) {
      if (p.fresh) {
        TRY(tree().insert(park, p.extent));
        TRY(own(park, {p.extent.block, p.extent.count}));
        add_blocks(p.extent.count);
        p.fresh = false;
        changed();
      } else if (p.extent.unwritten) {
        TRY(tree().set_written(park, p.extent.first, p.extent.end()));
        changed();
      }
    }
    if (const uint64_t reached = std::min(size(), end * block); reached > EXT2_I_SIZE(&raw()))
      set_size(reached);
    return {};
  });
  give_back();
  if (r) unpromise(first_page, end_page);
  return r;
}

// ---- size and holes

Result<> Ext4Regular::clear_tail(Park& park, uint64_t to) {
  const uint64_t old = size();
  if (old % volume().block_size() == 0 || to <= page_ceil(old)) return {};
  const Extent e = TRY(super().look(park, [&] {
    return tree().find(park, static_cast<uint32_t>(old / volume().block_size()), 1);
  }));
  if (e.block == 0 || e.unwritten) return {};
  TRY(pages().get_page(park, old / kPageSize, /*for_write=*/true));
  return {};
}

Result<> Ext4Regular::resize(Park& park, uint64_t wanted) {
  const uint64_t old = size();
  if (wanted == old) return {};
  if (wanted > max_size()) return Err(Errno::kFBIG);
  if (wanted > old) {
    TRY(clear_tail(park, wanted));
    return super().change(park, [&]() -> Result<> {
      super().pages_changed(*this);
      pages().resize(park, wanted);  // waits for nobody when it grows
      set_size(wanted);
      return {};
    });
  }
  const uint32_t block = volume().block_size();
  // What the last page keeps is written back with zeros behind it.
  if (wanted % kPageSize != 0) TRY(clear_tail_at(park, wanted));
  MutexLock lock(park, map_lock_);
  pages().resize(park, wanted);
  ++map_changes_;
  ++contents_version_;
  unpromise(page_ceil(wanted) / kPageSize, UINT64_MAX);
  super().pages_changed(*this);
  return super().change(park, [&]() -> Result<> {
    set_size(wanted);
    return free_range(park, static_cast<uint32_t>((wanted + block - 1) / block),
                      ExtentTree::kMaxBlock);
  });
}

// The page in which the file will end is had, if there is anything on the device behind that.
Result<> Ext4Regular::clear_tail_at(Park& park, uint64_t end) {
  const uint32_t block = volume().block_size();
  if (end % block == 0) return {};
  const Extent e = TRY(
      super().look(park, [&] { return tree().find(park, static_cast<uint32_t>(end / block), 1); }));
  if (e.block == 0 || e.unwritten) return {};
  TRY(pages().get_page(park, end / kPageSize, /*for_write=*/true));
  return {};
}

// Zeros in [from, to), which lie in one page.
Result<> Ext4Regular::zero_in_page(Park& park, uint64_t from, uint64_t to) {
  if (from >= to) return {};
  const std::vector<std::byte> zeros(to - from);
  BufferSource source(zeros);
  const size_t n = TRY(pages().write(park, from, source));
  return n == zeros.size() ? Result<>() : Err(Errno::kIO);
}

Result<> Ext4Regular::punch_hole(Park& park, uint64_t offset, uint64_t len) {
  const uint64_t end = std::min(offset + len, page_ceil(size()));
  if (offset >= size() || end <= offset) return {};
  const uint64_t first = page_ceil(offset) / kPageSize, last = end / kPageSize;
  const uint64_t size_now = size();
  if (first > last) return zero_in_page(park, offset, std::min(end, size_now));
  TRY(zero_in_page(park, offset, std::min(first * kPageSize, size_now)));
  if (last * kPageSize < size_now)
    TRY(zero_in_page(park, last * kPageSize, std::min(end, size_now)));
  if (first == last) return {};
  MutexLock lock(park, map_lock_);
  pages().discard(park, first, last);
  unpromise(first, last);
  const uint32_t per_page = blocks_per_page();
  Result<> r = super().change(park, [&] {
    return free_range(park, static_cast<uint32_t>(first * per_page),
                      static_cast<uint32_t>(last * per_page));
  });
  // What was read from the blocks while they were the file's goes, too.
  ++map_changes_;
  ++contents_version_;
  pages().discard(park, first, last);
  unpromise(first, last);
  return r;
}

Result<> Ext4Regular::allocate(Park& park, uint64_t offset, uint64_t len, bool keep_size) {
  const uint32_t block = volume().block_size();
  auto at = static_cast<uint32_t>(offset / block);
  const auto end = static_cast<uint32_t>((offset + len + block - 1) / block);
  if (!keep_size && offset + len > size()) TRY(clear_tail(park, offset + len));
  {
    MutexLock lock(park, map_lock_);
    while (at < end) {
      TRY(super().make_room(park, end - at));
      TRY(super().change(park, [&]() -> Result<> {
        const Extent e = TRY(tree().find(park, at, std::min(end - at, ExtentTree::kMaxUnwritten)));
        at += e.count;
        if (e.block != 0) return {};
        at = e.first;
        if (super().available(super().privileged()) < e.count) return Err(Errno::kNOSPC);
        uint64_t near = goal();
        if (at > 0) {
          const Extent before = TRY(tree().find(park, at - 1, 1));
          if (before.block != 0) near = before.block + 1;
        }
        const BlockRange got = TRY(volume().allocator().take(park, near, e.count));
        if (Result<> r = tree().insert(park, {at, got.count, got.start, true}); !r) {
          volume().allocator().release(got);
          return r;
        }
        TRY(own(park, got));
        add_blocks(got.count);
        changed();
        at += got.count;
        return {};
      }));
      if (park.interrupted(WaitMode::kKillable)) return Err(Errno::kINTR);
    }
  }
  if (keep_size || offset + len <= size()) return {};
  return super().change(park, [&]() -> Result<> {
    super().pages_changed(*this);
    pages().resize(park, offset + len);
    set_size(offset + len);
    return {};
  });
}

Result<> Ext4Regular::zero_range(Park& park, uint64_t offset, uint64_t len, bool keep_size) {
  TRY(punch_hole(park, offset, len));
  return allocate(park, offset, len, keep_size);
}

Result<uint64_t> Ext4Regular::seek_data(Park& park, uint64_t offset, bool data) {
  (void)write_out(park);  // so that the blocks tell
  const uint64_t end = size();
  if (offset >= end) return Err(Errno::kNXIO);
  const uint32_t block = volume().block_size();
  return super().look(park, [&]() -> Result<uint64_t> {
    for (uint64_t at = offset / block; at * block < end;) {
      const Extent e = TRY(tree().find(
          park, static_cast<uint32_t>(at),
          static_cast<uint32_t>(std::min<uint64_t>((end - 1) / block + 1 - at, UINT32_MAX))));
      const bool is_data = e.block != 0 && !e.unwritten;
      if (is_data == data) return std::max(offset, at * block);
      at += e.count;
    }
    return data ? Result<uint64_t>(Err(Errno::kNXIO)) : end;
  });
}

}  // namespace uk::ext4
