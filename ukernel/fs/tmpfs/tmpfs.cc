// tmpfs: the superblock, mount options, directories.
#include "ukernel/fs/tmpfs/tmpfs.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/vfs.h>

#include <charconv>

#include "absl/strings/str_format.h"
#include "ukernel/fs/tmpfs/tmpfs_inode.h"
#include "ukernel/vfs/dir_file.h"

namespace uk {
namespace {

constexpr uint64_t kTmpfsMagic = 0x01021994;
constexpr unsigned kRenameExchange = 2, kRenameWhiteout = 4;

// "64M", "50%" (of total), "0x10".
Result<uint64_t> parse_size(std::string_view text, uint64_t total_bytes) {
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return Err(Errno::kINVAL);
  std::string_view suffix = text.substr(static_cast<size_t>(end - text.data()));
  if (suffix.empty()) return value;
  if (suffix == "%")
    return static_cast<uint64_t>(static_cast<double>(total_bytes) / 100 *
                                 static_cast<double>(value));
  int shift = 0;
  switch (suffix.size() == 1 ? suffix[0] | 0x20 : 0) {
    case 'k':
      shift = 10;
      break;
    case 'm':
      shift = 20;
      break;
    case 'g':
      shift = 30;
      break;
    case 't':
      shift = 40;
      break;
    default:
      return Err(Errno::kINVAL);
  }
  if (value > (UINT64_MAX >> shift)) return Err(Errno::kINVAL);
  return value << shift;
}

Result<uint32_t> parse_number(std::string_view text, int base) {
  uint32_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return Err(Errno::kINVAL);
  return value;
}

Result<> parse_option(std::string_view key, std::string_view value, uint64_t total_pages,
                      TmpfsOptions& o) {
  if (key == "size") {
    uint64_t bytes = TRY(parse_size(value, total_pages * kPageSize));
    o.max_pages = bytes == 0 ? UINT64_MAX : (bytes - 1) / kPageSize + 1;
  } else if (key == "nr_blocks") {
    uint64_t n = TRY(parse_size(value, 0));
    o.max_pages = n == 0 ? UINT64_MAX : n;
  } else if (key == "nr_inodes") {
    uint64_t n = TRY(parse_size(value, 0));
    o.max_inodes = n == 0 ? UINT64_MAX : n;
  } else if (key == "mode") {
    o.mode = TRY(parse_number(value, 8)) & 07777;
  } else if (key == "uid") {
    o.uid = TRY(parse_number(value, 10));
  } else if (key == "gid") {
    o.gid = TRY(parse_number(value, 10));
  } else if (key != "inode64" && key != "inode32" && key != "huge" && key != "mpol") {
    return Err(Errno::kINVAL);
  }
  return {};
}

Result<> parse_into(const std::string& text, uint64_t total_pages, TmpfsOptions& o) {
  std::string_view rest = text;
  while (!rest.empty()) {
    std::string_view item = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), item.size() + 1));
    if (item.empty()) continue;
    size_t eq = item.find('=');
    std::string_view value =
        eq == std::string_view::npos ? std::string_view() : item.substr(eq + 1);
    TRY(parse_option(item.substr(0, eq), value, total_pages, o));
  }
  return {};
}

}  // namespace

Result<TmpfsOptions> parse_tmpfs_options(const std::string& text, uint64_t total_pages) {
  TmpfsOptions o;
  o.max_pages = total_pages / 2;
  o.max_inodes = total_pages / 2;
  TRY(parse_into(text, total_pages, o));
  return o;
}

Ref<SuperBlock> make_tmpfs(Vfs& vfs, const TmpfsOptions& options, Ref<Inode>* root) {
  auto sb = make_ref<TmpfsSuper>(vfs, options);
  sb->dev = vfs.new_anon_dev();
  MakeNode node;
  node.mode = S_IFDIR | options.mode;
  node.uid = options.uid;
  node.gid = options.gid;
  *root = make_ref<TmpfsDir>(sb, node);
  return sb;
}

void register_tmpfs(Vfs& vfs) {
  for (const char* name : {"tmpfs", "ramfs"}) {
    bool unlimited = std::string_view(name) == "ramfs";
    vfs.register_fs({name, false,
                     [unlimited](Park&, Vfs& v, const std::string&, const std::string& options,
                                 Ref<Inode>* root) -> Result<Ref<SuperBlock>> {
                       TmpfsOptions o = TRY(parse_tmpfs_options(options, v.mem().total_pages()));
                       if (unlimited) {
                         o.max_pages = o.max_inodes = UINT64_MAX;
                         o.mode = 0755;
                       }
                       return make_tmpfs(v, o, root);
                     },
                     true});
  }
}

uint64_t TmpfsSuper::free_inodes() const {
  const uint64_t used = inodes + (xattr_bytes + 1023) / 1024;
  return limits.max_inodes - std::min(limits.max_inodes, used);
}

bool TmpfsSuper::take_xattr_space(size_t bytes) {
  constexpr uint64_t kMostOfUnlimited = 16 << 20;
  const uint64_t room =
      limits.max_inodes == UINT64_MAX ? kMostOfUnlimited - xattr_bytes : free_inodes() * 1024;
  if (bytes > room) return false;
  xattr_bytes += bytes;
  return true;
}

Result<FsStat> TmpfsSuper::statfs(Park&) {
  FsStat st;
  st.type = kTmpfsMagic;
  if (limits.max_pages != UINT64_MAX) {
    st.blocks = limits.max_pages;
    st.blocks_free = st.blocks_avail =
        limits.max_pages - std::min(limits.max_pages, budget->used());
  }
  if (limits.max_inodes != UINT64_MAX) {
    st.files = limits.max_inodes;
    st.files_free = free_inodes();
  }
  st.fsid = dev;
  return st;
}

// Limits may change, but not below what is used (tmpfs(5)).
Result<> TmpfsSuper::reconfigure(const std::string& text) {
  TmpfsOptions o = limits;
  TRY(parse_into(text, vfs.mem().total_pages(), o));
  if (o.max_pages < budget->used() || o.max_inodes < inodes) return Err(Errno::kINVAL);
  limits.max_pages = o.max_pages;
  limits.max_inodes = o.max_inodes;
  budget->set_limit(o.max_pages);
  return {};
}

std::string TmpfsSuper::options() const {
  std::string out;
  if (limits.max_pages != UINT64_MAX)
    absl::StrAppendFormat(&out, ",size=%dk", limits.max_pages * 4);
  if (limits.max_inodes != UINT64_MAX)
    absl::StrAppendFormat(&out, ",nr_inodes=%d", limits.max_inodes);
  if (limits.mode != 01777) absl::StrAppendFormat(&out, ",mode=%o", limits.mode);
  if (limits.uid != 0) absl::StrAppendFormat(&out, ",uid=%d", limits.uid);
  if (limits.gid != 0) absl::StrAppendFormat(&out, ",gid=%d", limits.gid);
  return out.empty() ? out : out.substr(1);
}

// ---- directories

class TmpfsDirFile final : public DirFile {
 public:
  // Who has come to the end stays there, whatever is made afterwards (DIR_OFFSET_EOD in Linux). No
  // entry is at this position.
  static constexpr uint64_t kEnd = INT32_MAX;

  using DirFile::DirFile;

 protected:
  Result<> list(Park&, const DirVisitor& visit) override {
    auto& dir = static_cast<TmpfsDir&>(*inode());
    if (dir.super().vfs.wants_atime(path(), flags, dir.attr())) {
      dir.attr().atime = dir.super().vfs.now();
    }
    if (pos == kEnd) return {};
    for (auto it = dir.by_pos_.lower_bound(pos), end = dir.by_pos_.end(); it != end;) {
      const FileAttr& attr = it->second.inode->attr();
      DirEntry e{attr.ino, 0, dirent_type(attr.mode), it->second.name};
      e.next_pos = ++it != end ? it->first : kEnd;
      if (!visit(e)) return {};
      pos = e.next_pos;
    }
    pos = kEnd;
    return {};
  }
};

// What Linux's tmpfs says an entry takes; "." and ".." are two.
static constexpr uint64_t kEntryBytes = 20;

TmpfsDir::TmpfsDir(Ref<TmpfsSuper> sb, const MakeNode& node) : TmpfsInode(std::move(sb), node) {
  attr_.nlink = 2;
  attr_.size = 2 * kEntryBytes;
}

TmpfsDir::~TmpfsDir() {
  // Not by recursion: a tree may be as deep as the guest likes.
  std::vector<Ref<TmpfsInode>> doomed;
  auto take_all = [&](TmpfsDir& dir) {
    dir.by_name_.clear();
    for (auto& [pos, entry] : dir.by_pos_) doomed.push_back(std::move(entry.inode));
    dir.by_pos_.clear();
  };
  take_all(*this);
  while (!doomed.empty()) {
    Ref<TmpfsInode> inode = std::move(doomed.back());
    doomed.pop_back();
    if (inode->ref_count() == 1 && inode->type() == S_IFDIR) {
      take_all(static_cast<TmpfsDir&>(*inode));
    }
  }
}

void TmpfsDir::put(std::string_view name, Ref<TmpfsInode> inode) {
  if (next_pos_ == TmpfsDirFile::kEnd) ++next_pos_;
  uint64_t pos = next_pos_++;
  auto it = by_pos_.emplace(pos, Entry{std::string(name), std::move(inode)}).first;
  by_name_.emplace(it->second.name, pos);
}

Ref<TmpfsInode> TmpfsDir::take(std::string_view name) {
  auto it = by_name_.find(name);
  if (it == by_name_.end()) return nullptr;
  auto entry = by_pos_.find(it->second);
  by_name_.erase(it);
  Ref<TmpfsInode> inode = std::move(entry->second.inode);
  by_pos_.erase(entry);
  return inode;
}

void TmpfsDir::changed() {
  attr_.size = (2 + by_pos_.size()) * kEntryBytes;
  attr_.mtime = attr_.ctime = super().vfs.now();
}

Result<Ref<Inode>> TmpfsDir::lookup(Park&, std::string_view name) {
  auto it = by_name_.find(name);
  if (it == by_name_.end()) return Err(Errno::kNOENT);
  return Ref<Inode>(by_pos_.find(it->second)->second.inode);
}

Result<Ref<Inode>> TmpfsDir::create(Park&, std::string_view name, const MakeNode& node) {
  if (by_name_.contains(name)) return Err(Errno::kEXIST);
  Ref<TmpfsInode> inode = TRY(make_tmpfs_inode(Ref<TmpfsSuper>(&super()), node));
  put(name, inode);
  if (inode->type() == S_IFDIR) ++attr_.nlink;
  changed();
  return Ref<Inode>(std::move(inode));
}

Result<> TmpfsDir::link(Park&, std::string_view name, Inode& target) {
  if (by_name_.contains(name)) return Err(Errno::kEXIST);
  auto& inode = static_cast<TmpfsInode&>(target);
  put(name, Ref<TmpfsInode>(&inode));
  ++inode.attr().nlink;
  inode.touch_ctime();
  changed();
  return {};
}

Result<> TmpfsDir::unlink(Park&, std::string_view name, Inode& victim) {
  auto& inode = static_cast<TmpfsInode&>(victim);
  if (take(name) == nullptr) return Err(Errno::kNOENT);
  --inode.attr().nlink;
  inode.touch_ctime();
  changed();
  return {};
}

Result<> TmpfsDir::rmdir(Park&, std::string_view name, Inode& victim) {
  auto& dir = static_cast<TmpfsDir&>(victim);
  if (!dir.empty()) return Err(Errno::kNOTEMPTY);
  if (take(name) == nullptr) return Err(Errno::kNOENT);
  dir.attr().nlink = 0;
  dir.touch_ctime();
  --attr_.nlink;
  changed();
  return {};
}

Result<> TmpfsDir::rename(Park&, std::string_view old_name, Inode& moved, Inode& new_dir,
                          std::string_view new_name, Inode* replaced, uint32_t flags) {
  auto& to = static_cast<TmpfsDir&>(new_dir);
  auto& inode = static_cast<TmpfsInode&>(moved);
  bool is_dir = inode.type() == S_IFDIR;
  std::string old_key(old_name), new_key(new_name);
  if ((flags & kRenameExchange) != 0) {
    auto& other = static_cast<TmpfsInode&>(*replaced);
    Ref<TmpfsInode> a = take(old_key), b = to.take(new_key);
    put(old_key, std::move(b));
    to.put(new_key, std::move(a));
    if (&to != this && is_dir != (other.type() == S_IFDIR)) {
      attr_.nlink += is_dir ? -1 : 1;
      to.attr_.nlink += is_dir ? 1 : -1;
    }
    other.touch_ctime();
  } else {
    Ref<TmpfsInode> whiteout;
    if ((flags & kRenameWhiteout) != 0) {
      MakeNode node;
      node.mode = S_IFCHR;
      whiteout = TRY(make_tmpfs_inode(Ref<TmpfsSuper>(&super()), node));
    }
    if (replaced != nullptr) {
      auto& victim = static_cast<TmpfsInode&>(*replaced);
      if (victim.type() == S_IFDIR) {
        if (!static_cast<TmpfsDir&>(victim).empty()) return Err(Errno::kNOTEMPTY);
        victim.attr().nlink = 0;
        --to.attr_.nlink;
      } else {
        --victim.attr().nlink;
      }
      victim.touch_ctime();
      to.take(new_key);
    }
    to.put(new_key, take(old_key));
    if (whiteout != nullptr) put(old_key, std::move(whiteout));
    if (is_dir) {
      --attr_.nlink;
      ++to.attr_.nlink;
    }
  }
  inode.touch_ctime();
  changed();
  to.changed();
  return {};
}

Result<Ref<Inode>> TmpfsDir::tmpfile(Park&, const MakeNode& node) {
  Ref<TmpfsInode> inode = TRY(make_tmpfs_inode(Ref<TmpfsSuper>(&super()), node));
  inode->attr().nlink = 0;
  return Ref<Inode>(std::move(inode));
}

Result<Ref<File>> TmpfsDir::open(Park&, const Path& path, int flags, const Cred&) {
  return Ref<File>(make_ref<TmpfsDirFile>(path, flags));
}

}  // namespace uk
