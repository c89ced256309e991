// ext4: extended attributes (xattr(7)): behind the inode, and in a block of their own. All of an
// inode's are read, changed in memory, and laid out anew. ACLs have a form of their own on disk.
#include <sys/xattr.h>

#include <algorithm>
#include <cstring>

#include "ukernel/fs/ext4/ext4_inode.h"
#include "ukernel/vfs/acl.h"

namespace uk::ext4 {
namespace {

constexpr uint32_t kMagic = 0xEA020000;
constexpr uint32_t kEntryHead = sizeof(ext2_ext_attr_entry), kHeader = sizeof(ext2_ext_attr_header);
constexpr uint8_t kAclAccessIndex = 2, kAclDefaultIndex = 3;

struct Prefix {
  uint8_t index;
  std::string_view text;
};
constexpr Prefix kPrefixes[] = {{1, "user."},
                                {kAclAccessIndex, kAclAccess},
                                {kAclDefaultIndex, kAclDefault},
                                {4, "trusted."},
                                {6, "security."},
                                {7, "system."}};

struct Attribute {
  uint8_t index;
  std::string name;  // without the prefix
  std::string value;
  bool in_block = false;
  bool elsewhere = false;  // in an inode of its own: not supported
  size_t entry_space() const { return (kEntryHead + name.size() + 3) & ~size_t{3}; }
  size_t space() const { return entry_space() + ((value.size() + 3) & ~size_t{3}); }
  bool is(uint8_t i, std::string_view n) const { return index == i && name == n; }
};

// The prefix's number and the rest; nothing: no such name space.
std::optional<std::pair<uint8_t, std::string_view>> split(std::string_view name) {
  for (const Prefix& p : kPrefixes) {
    const bool whole = p.index == kAclAccessIndex || p.index == kAclDefaultIndex;
    if (whole ? name == p.text : name.starts_with(p.text) && name.size() > p.text.size())
      return std::pair(p.index, name.substr(p.text.size()));
  }
  return std::nullopt;
}

std::string full_name(const Attribute& a) {
  for (const Prefix& p : kPrefixes) {
    if (p.index == a.index) return std::string(p.text) + a.name;
  }
  return "";
}

// ---- ACLs: on disk an entry has an id only if it is about a named user or group.

bool has_id(uint16_t tag) { return tag == PosixAcl::kUser || tag == PosixAcl::kGroup; }

Result<std::string> acl_to_disk(std::string_view text) {
  if (text.size() < 4 || (text.size() - 4) % 8 != 0) return Err(Errno::kINVAL);
  const uint32_t version = 1;
  std::string out(reinterpret_cast<const char*>(&version), 4);
  for (size_t at = 4; at < text.size(); at += 8) {
    uint16_t tag = 0;
    std::memcpy(&tag, text.data() + at, sizeof tag);
    out += text.substr(at, has_id(tag) ? 8 : 4);
  }
  return out;
}

Result<std::string> acl_from_disk(std::string_view disk) {
  uint32_t version = 0;
  if (disk.size() < 4) return Err(Errno::kUCLEAN);
  std::memcpy(&version, disk.data(), sizeof version);
  if (version != 1) return Err(Errno::kUCLEAN);
  version = 2;
  std::string out(reinterpret_cast<const char*>(&version), 4);
  for (size_t at = 4; at < disk.size();) {
    uint16_t tag = 0;
    if (disk.size() - at < 4) return Err(Errno::kUCLEAN);
    std::memcpy(&tag, disk.data() + at, sizeof tag);
    const size_t n = has_id(tag) ? 8 : 4;
    if (disk.size() - at < n) return Err(Errno::kUCLEAN);
    out += disk.substr(at, n);
    if (n == 4) out += "\xff\xff\xff\xff";
    at += n;
  }
  return out;
}

// ---- the two places

// Entries from `first` on; values are counted from `values`.
Result<> parse(std::span<const std::byte> area, size_t first, size_t values, bool in_block,
               std::vector<Attribute>* out) {
  for (size_t at = first;;) {
    uint32_t end = 0;
    if (area.size() - at < sizeof end) return Err(Errno::kUCLEAN);
    std::memcpy(&end, area.data() + at, sizeof end);
    if (end == 0) return {};
    ext2_ext_attr_entry e;
    if (area.size() - at < sizeof e) return Err(Errno::kUCLEAN);
    std::memcpy(&e, area.data() + at, sizeof e);
    Attribute a;
    a.index = e.e_name_index;
    a.in_block = in_block;
    if (area.size() - at - sizeof e < e.e_name_len) return Err(Errno::kUCLEAN);
    a.name.assign(reinterpret_cast<const char*>(area.data() + at + sizeof e), e.e_name_len);
    if (e.e_value_inum != 0) {
      a.elsewhere = true;
    } else if (e.e_value_size != 0) {
      const size_t offset = values + e.e_value_offs;
      if (offset > area.size() || e.e_value_size > area.size() - offset) return Err(Errno::kUCLEAN);
      a.value.assign(reinterpret_cast<const char*>(area.data() + offset), e.e_value_size);
    }
    at += a.entry_space();
    if (at > area.size()) return Err(Errno::kUCLEAN);
    out->push_back(std::move(a));
  }
}

// The inverse. The area is zeroed; there is room.
void lay_out(std::span<std::byte> area, size_t first, size_t values, bool hash,
             const std::vector<const Attribute*>& list) {
  size_t at = first, end = area.size();
  for (const Attribute* a : list) {
    ext2_ext_attr_entry e = {};
    e.e_name_len = static_cast<uint8_t>(a->name.size());
    e.e_name_index = a->index;
    e.e_value_size = static_cast<uint32_t>(a->value.size());
    end -= (a->value.size() + 3) & ~size_t{3};
    if (!a->value.empty()) {
      e.e_value_offs = static_cast<uint16_t>(end - values);
      std::memcpy(area.data() + end, a->value.data(), a->value.size());
    }
    std::memcpy(area.data() + at, &e, sizeof e);
    std::memcpy(area.data() + at + sizeof e, a->name.data(), a->name.size());
    if (hash) {
      auto* entry = reinterpret_cast<ext2_ext_attr_entry*>(area.data() + at);
      entry->e_hash = ext2fs_ext_attr_hash_entry(entry, area.data() + end);
    }
    at += a->entry_space();
  }
}

// Bytes behind the inode for attributes, their magic number included.
std::span<std::byte> inode_area(const Ext4Inode& inode) {
  if (inode.volume().inode_size() <= EXT2_GOOD_OLD_INODE_SIZE) return {};
  const size_t from = size_t{EXT2_GOOD_OLD_INODE_SIZE} + inode.raw().i_extra_isize;
  if (inode.raw().i_extra_isize == 0 || from + 2 * sizeof(uint32_t) > inode.volume().inode_size())
    return {};
  return inode.raw_bytes().subspan(from);
}

Result<> read_inode_area(const Ext4Inode& inode, std::vector<Attribute>* out) {
  const std::span<const std::byte> area = inode_area(inode);
  uint32_t magic = 0;
  if (area.size() >= sizeof magic) std::memcpy(&magic, area.data(), sizeof magic);
  if (magic != kMagic) return {};
  return parse(area, sizeof magic, sizeof magic, false, out);
}

uint64_t block_of(const ext2_inode_large& raw) {
  return raw.i_file_acl | uint64_t{raw.osd2.linux2.l_i_file_acl_high} << 32;
}

Result<Ref<MetaBlock>> read_block(Park& park, const Ext4Inode& inode) {
  Volume& v = inode.volume();
  Ref<MetaBlock> b = TRY(v.get(park, block_of(inode.raw()), MetaKind::kXattr, v.fs()->csum_seed));
  const auto* h = b->at<ext2_ext_attr_header>(0);
  if (h->h_magic != kMagic || h->h_blocks != 1 || h->h_refcount == 0) return Err(Errno::kUCLEAN);
  return b;
}

Result<std::vector<Attribute>> read_all(Park& park, const Ext4Inode& inode) {
  std::vector<Attribute> all;
  TRY(read_inode_area(inode, &all));
  if (block_of(inode.raw()) != 0) {
    Ref<MetaBlock> b = TRY(read_block(park, inode));
    TRY(parse(b->bytes(), kHeader, 0, true, &all));
  }
  return all;
}

}  // namespace

void Ext4Inode::note_acls() {
  std::vector<Attribute> all;
  has_acl = block_of(raw()) != 0;  // it is not read for this alone
  if (!read_inode_area(*this, &all)) return;
  for (const Attribute& a : all)
    has_acl |= a.index == kAclAccessIndex || a.index == kAclDefaultIndex;
}

Result<> Ext4Inode::drop_xattr_block(Park& park) {
  const uint64_t number = block_of(raw());
  if (number == 0) return {};
  Ref<MetaBlock> b = TRY(read_block(park, *this));
  auto* h = b->at<ext2_ext_attr_header>(0);
  if (h->h_refcount == 1) {
    TRY(volume().allocator().free(park, {number, 1}, /*keep=*/true));
    hold({number, 1});
    return {};
  }
  --h->h_refcount;
  volume().cache().dirty(*b, MetaKind::kXattr, volume().fs()->csum_seed);
  raw().i_file_acl = 0;
  raw().osd2.linux2.l_i_file_acl_high = 0;
  add_blocks(-1);
  return {};
}

// Writes the attributes back: as many as fit behind the inode, the others into the block.
static Result<> write_all_attributes(Park& park, Ext4Inode& inode, std::vector<Attribute>& all,
                                     const std::function<Result<uint64_t>()>& new_block) {
  Volume& v = inode.volume();
  std::stable_sort(all.begin(), all.end(),
                   [](const Attribute& a, const Attribute& b) { return a.in_block < b.in_block; });
  const std::span<std::byte> area = inode_area(inode);
  size_t room = area.size() < 8 ? 0 : area.size() - 8;  // magic, and the end of the list
  size_t block_room = v.block_size() - kHeader - 4;
  std::vector<const Attribute*> in_inode, in_block;
  for (const Attribute& a : all) {
    if (a.elsewhere) return Err(Errno::kOPNOTSUPP);
    size_t& left = a.space() <= room ? room : block_room;
    if (a.space() > left) return Err(Errno::kNOSPC);
    left -= a.space();
    (&left == &room ? in_inode : in_block).push_back(&a);
  }
  std::sort(in_block.begin(), in_block.end(), [](const Attribute* a, const Attribute* b) {
    if (a->index != b->index) return a->index < b->index;
    if (a->name.size() != b->name.size()) return a->name.size() < b->name.size();
    return a->name < b->name;
  });
  const uint64_t old = block_of(inode.raw());
  bool shared = false;
  if (old != 0) {
    Ref<MetaBlock> b = TRY(read_block(park, inode));
    shared = b->at<ext2_ext_attr_header>(0)->h_refcount > 1;
  }
  uint64_t number = in_block.empty() || shared ? 0 : old;
  if (!in_block.empty() && number == 0) number = TRY(new_block());
  if (old != 0 && number != old) {
    if (shared) {
      Ref<MetaBlock> b = TRY(read_block(park, inode));
      --b->at<ext2_ext_attr_header>(0)->h_refcount;
      v.cache().dirty(*b, MetaKind::kXattr, v.fs()->csum_seed);
      inode.add_blocks(-1);
    } else {
      TRY(inode.drop_blocks(park, {old, 1}));
    }
  }
  inode.raw().i_file_acl = static_cast<uint32_t>(number);
  inode.raw().osd2.linux2.l_i_file_acl_high = static_cast<uint16_t>(number >> 32);
  if (number != 0) {
    Ref<MetaBlock> b = v.cache().fresh(number);
    auto* h = b->at<ext2_ext_attr_header>(0);
    h->h_magic = kMagic;
    h->h_refcount = 1;
    h->h_blocks = 1;
    lay_out(b->bytes(), kHeader, 0, true, in_block);
    size_t end = kHeader;
    for (const Attribute* a : in_block) end += a->entry_space();
    ext2fs_ext_attr_block_rehash(h,
                                 reinterpret_cast<ext2_ext_attr_entry*>(b->bytes().data() + end));
    v.cache().dirty(*b, MetaKind::kXattr, v.fs()->csum_seed);
  }
  if (!area.empty()) {
    std::memset(area.data(), 0, area.size());
    if (!in_inode.empty()) {
      std::memcpy(area.data(), &kMagic, sizeof kMagic);
      lay_out(area, sizeof kMagic, sizeof kMagic, false, in_inode);
    }
  }
  inode.has_acl = false;
  for (const Attribute& a : all)
    inode.has_acl |= a.index == kAclAccessIndex || a.index == kAclDefaultIndex;
  inode.touch(false, true);
  return {};
}

Result<std::string> Ext4Inode::getxattr(Park& park, std::string_view name) {
  const auto key = split(name);
  if (!key) return Err(Errno::kOPNOTSUPP);
  return super().look(park, [&]() -> Result<std::string> {
    for (Attribute& a : TRY(read_all(park, *this))) {
      if (!a.is(key->first, key->second)) continue;
      if (a.elsewhere) return Err(Errno::kOPNOTSUPP);
      if (a.index == kAclAccessIndex || a.index == kAclDefaultIndex) return acl_from_disk(a.value);
      return std::move(a.value);
    }
    return Err(Errno::kNODATA);
  });
}

Result<std::vector<std::string>> Ext4Inode::listxattr(Park& park) {
  return super().look(park, [&]() -> Result<std::vector<std::string>> {
    std::vector<std::string> names;
    for (const Attribute& a : TRY(read_all(park, *this))) {
      if (std::string n = full_name(a); !n.empty()) names.push_back(std::move(n));
    }
    return names;
  });
}

Result<> Ext4Inode::setxattr(Park& park, std::string_view name, std::string_view value, int flags) {
  const auto key = split(name);
  if (!key) return Err(Errno::kOPNOTSUPP);
  const bool acl = key->first == kAclAccessIndex || key->first == kAclDefaultIndex;
  const std::string stored = acl ? TRY(acl_to_disk(value)) : std::string(value);
  return super().change(park, [&]() -> Result<> {
    std::vector<Attribute> all = TRY(read_all(park, *this));
    auto it = std::find_if(all.begin(), all.end(),
                           [&](const Attribute& a) { return a.is(key->first, key->second); });
    if (it != all.end() && (flags & XATTR_CREATE) != 0) return Err(Errno::kEXIST);
    if (it == all.end() && (flags & XATTR_REPLACE) != 0) return Err(Errno::kNODATA);
    if (it == all.end())
      it = all.insert(all.end(), Attribute{key->first, std::string(key->second), "", false, false});
    it->value = stored;
    it->elsewhere = false;
    return write_all_attributes(park, *this, all, [&] { return new_node(park, 0); });
  });
}

Result<> Ext4Inode::removexattr(Park& park, std::string_view name) {
  const auto key = split(name);
  if (!key) return Err(Errno::kOPNOTSUPP);
  // Asked for at every change of a file's owner: not a change where there is nothing to take.
  const Result<std::string> there = getxattr(park, name);
  if (!there) return Err(there.error());
  return super().change(park, [&]() -> Result<> {
    std::vector<Attribute> all = TRY(read_all(park, *this));
    std::erase_if(all, [&](const Attribute& a) { return a.is(key->first, key->second); });
    return write_all_attributes(park, *this, all, [&] { return new_node(park, 0); });
  });
}

}  // namespace uk::ext4
