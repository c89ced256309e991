#include "ukernel/fs/ext4/directory.h"

#include <algorithm>
#include <cstring>

namespace uk::ext4 {
namespace {

constexpr uint32_t kHead = 8;  // of an entry, before its name

uint32_t space_of(size_t name) { return static_cast<uint32_t>((kHead + name + 3) & ~size_t{3}); }

uint32_t name_len(const ext2_dir_entry& e) { return e.name_len & 0xff; }

}  // namespace

void Directory::take_turns(Park& park, uint32_t block) {
  constexpr uint32_t kBlocksInATurn = 128;
  if (block % kBlocksInATurn == kBlocksInATurn - 1) park.yield();
}

uint32_t Directory::blocks() const {
  return static_cast<uint32_t>(EXT2_I_SIZE(&raw_) / volume_.block_size());
}

uint32_t Directory::limit() const {
  return volume_.block_size() -
         (volume_.has_checksums() ? uint32_t{sizeof(ext2_dir_entry_tail)} : 0);
}

Result<Ref<MetaBlock>> Directory::block(Park& park, uint32_t number, MetaKind kind) {
  constexpr uint32_t kAhead = 16;
  const Extent e = TRY(tree_.find(park, number, kAhead + 1));
  if (number >= blocks() || e.block == 0 || e.unwritten) return Err(Errno::kUCLEAN);
  return volume_.get(park, e.block, kind, seed_, e.count - 1);
}

void Directory::dirty(MetaBlock& block, MetaKind kind) {
  volume_.cache().dirty(block, kind, seed_);
}

// A list with nothing in it.
Result<Ref<MetaBlock>> Directory::new_leaf(Park& park, uint32_t number) {
  const Extent e = TRY(tree_.find(park, number, 1));
  if (e.block == 0) return Err(Errno::kUCLEAN);
  Ref<MetaBlock> b = volume_.cache().fresh(e.block);
  b->at<ext2_dir_entry>(0)->rec_len = static_cast<uint16_t>(limit());
  if (volume_.has_checksums()) {
    auto* tail = b->at<ext2_dir_entry_tail>(limit());
    tail->det_rec_len = sizeof *tail;
    tail->det_reserved_name_len = EXT2_DIR_NAME_LEN_CSUM;
  }
  dirty(*b, MetaKind::kDirLeaf);
  return b;
}

Result<> Directory::scan(
    MetaBlock& block, absl::FunctionRef<bool(const Entry&, uint32_t, uint32_t, uint32_t)> f) const {
  const uint32_t end = limit();
  for (uint32_t at = 0, before = 0; at < end;) {
    if (end - at < kHead) return Err(Errno::kUCLEAN);
    ext2_dir_entry head;
    std::memcpy(&head, block.bytes().data() + at, kHead);
    const uint32_t len = head.rec_len;
    if (len < kHead + 4 || len % 4 != 0 || len > end - at || kHead + name_len(head) > len ||
        head.inode > volume_.super().s_inodes_count)
      return Err(Errno::kUCLEAN);
    const Entry entry{
        head.inode,
        static_cast<uint8_t>(head.name_len >> 8),
        {reinterpret_cast<const char*>(block.bytes().data() + at + kHead), name_len(head)}};
    if (!f(entry, at, before, len)) return {};
    before = at;
    at += len;
  }
  return {};
}

Result<bool> Directory::find_in(MetaBlock& block, std::string_view name, Place* place) const {
  bool found = false;
  TRY(scan(block, [&](const Entry& e, uint32_t at, uint32_t before, uint32_t) {
    if (e.ino == 0 || e.name != name) return true;
    *place = {Ref<MetaBlock>(&block), at, before};
    return !(found = true);
  }));
  return found;
}

Result<Directory::Place> Directory::locate(Park& park, std::string_view name) {
  if (indexed()) {
    Result<Place> place = locate_by_hash(park, name);
    if (place || place.error() != Errno::kOPNOTSUPP) return place;
  }
  Place place;
  for (uint32_t i = 0; i < blocks(); ++i) {
    take_turns(park, i);
    Ref<MetaBlock> b = TRY(block(park, i, MetaKind::kDirLeaf));
    if (TRY(find_in(*b, name, &place))) return place;
  }
  return Err(Errno::kNOENT);
}

Result<uint32_t> Directory::find(Park& park, std::string_view name) {
  Place place = TRY(locate(park, name));
  return place.block->at<uint32_t>(place.offset)[0];
}

Result<> Directory::remove(Park& park, std::string_view name) {
  Place place = TRY(locate(park, name));
  MetaBlock& b = *place.block;
  ext2_dir_entry gone;
  std::memcpy(&gone, b.bytes().data() + place.offset, kHead);
  const uint32_t zero = 0;
  if (place.offset == 0) {
    std::memcpy(b.bytes().data(), &zero, sizeof zero);
  } else {
    const auto len = static_cast<uint16_t>(place.offset - place.before + gone.rec_len);
    std::memcpy(b.bytes().data() + place.before + sizeof zero, &len, sizeof len);
  }
  dirty(b, MetaKind::kDirLeaf);
  return {};
}

Result<> Directory::replace(Park& park, std::string_view name, uint32_t ino, uint8_t type) {
  Place place = TRY(locate(park, name));
  std::byte* at = place.block->bytes().data() + place.offset;
  std::memcpy(at, &ino, sizeof ino);
  at[7] = static_cast<std::byte>(type);
  dirty(*place.block, MetaKind::kDirLeaf);
  return {};
}

// Puts an entry into the first gap that takes it.
Result<bool> Directory::add_to(MetaBlock& block, std::string_view name, uint32_t ino,
                               uint8_t type) {
  const uint32_t need = space_of(name.size());
  bool found = false;
  uint32_t where = 0, room = 0, shorten = 0, used = 0;
  TRY(scan(block, [&](const Entry& e, uint32_t at, uint32_t, uint32_t len) {
    const uint32_t taken = e.ino == 0 ? 0 : space_of(e.name.size());
    if (len - taken < need) return true;
    where = at + taken;
    room = len - taken;
    shorten = at;
    used = taken;
    return !(found = true);
  }));
  if (!found) return false;
  std::byte* base = block.bytes().data();
  if (used != 0) {
    const auto len = static_cast<uint16_t>(used);
    std::memcpy(base + shorten + 4, &len, sizeof len);
  }
  ext2_dir_entry head = {};
  head.inode = ino;
  head.rec_len = static_cast<uint16_t>(room);
  head.name_len = static_cast<uint16_t>(name.size() | uint32_t{type} << 8);
  std::memcpy(base + where, &head, kHead);
  std::memcpy(base + where + kHead, name.data(), name.size());
  dirty(block, MetaKind::kDirLeaf);
  return true;
}

Result<> Directory::add(Park& park, std::string_view name, uint32_t ino, uint8_t type) {
  if (!ext2fs_has_feature_filetype(&volume_.super())) type = 0;
  if (indexed()) return add_by_hash(park, name, ino, type);
  const uint32_t count = blocks();
  for (uint32_t i = 0; i < count; ++i) {
    take_turns(park, i);
    Ref<MetaBlock> b = TRY(block(park, i, MetaKind::kDirLeaf));
    if (TRY(add_to(*b, name, ino, type))) return {};
  }
  if (count == 1 && ext2fs_has_feature_dir_index(&volume_.super())) {
    TRY(make_indexed(park));
    return add_by_hash(park, name, ino, type);
  }
  const uint32_t number = TRY(owner_.append_block(park));
  Ref<MetaBlock> b = TRY(new_leaf(park, number));
  return TRY(add_to(*b, name, ino, type)) ? Result<>() : Err(Errno::kUCLEAN);
}

Result<> Directory::make(Park& park, uint32_t self, uint32_t parent) {
  Ref<MetaBlock> b = TRY(new_leaf(park, 0));
  const uint8_t type = ext2fs_has_feature_filetype(&volume_.super()) ? EXT2_FT_DIR : 0;
  TRY(add_to(*b, ".", self, type));
  TRY(add_to(*b, "..", parent, type));
  return {};
}

Result<> Directory::set_parent(Park& park, uint32_t parent) {
  const MetaKind kind = indexed() ? MetaKind::kDirIndex : MetaKind::kDirLeaf;
  Ref<MetaBlock> b = TRY(block(park, 0, kind));
  std::byte* dots = b->bytes().data() + 12;  // the second entry, behind "."
  if (b->at<ext2_dir_entry>(0)->rec_len != 12 || std::memcmp(dots + kHead, "..", 2) != 0 ||
      static_cast<uint8_t>(dots[6]) != 2)
    return Err(Errno::kUCLEAN);
  std::memcpy(dots, &parent, sizeof parent);
  dirty(*b, kind);
  return {};
}

Result<bool> Directory::empty(Park& park) {
  bool empty = true;
  TRY(list(park, [&](const Entry&) { return empty = false; }));
  return empty;
}

Result<> Directory::list(Park& park, const std::function<bool(const Entry&)>& f) {
  bool more = true;
  for (uint32_t i = indexed() ? 1 : 0; more && i < blocks(); ++i) {
    take_turns(park, i);
    if (park.interrupted(WaitMode::kKillable)) return Err(Errno::kINTR);
    if (indexed()) {
      // Is it a node of the tree of hashes? Those look like a list with one unused entry.
      const Extent e = TRY(tree_.find(park, i, 17));
      if (e.block == 0 || e.unwritten) return Err(Errno::kUCLEAN);
      Ref<MetaBlock> raw = TRY(volume_.cache().get(park, e.block, e.count - 1));
      const auto* head = raw->at<ext2_dir_entry>(0);
      if (head->inode == 0 && head->rec_len == volume_.block_size() && head->name_len == 0 &&
          volume_.has_checksums())
        continue;
    }
    Ref<MetaBlock> b = TRY(block(park, i, MetaKind::kDirLeaf));
    TRY(scan(*b, [&](const Entry& e, uint32_t, uint32_t, uint32_t) {
      if (e.ino == 0 || e.name == "." || e.name == "..") return true;
      return more = f(e);
    }));
  }
  return {};
}

}  // namespace uk::ext4
