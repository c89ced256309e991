#include "ukernel/fs/devpts/devpts.h"

#include <dirent.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <vector>

#include "ukernel/vfs/dir_file.h"

namespace uk {
namespace {

constexpr uint64_t kDevptsMagic = 0x1cd1;
constexpr uint64_t kPtmxIno = 2;

struct Options {
  uint32_t mode = 0600, ptmx_mode = 0;
  uint32_t gid = 0;
  bool set_gid = false;
};

class PtsSuper final : public SuperBlock {
 public:
  PtsSuper(Ref<PtyTable> t, Options o, std::string text)
      : table(std::move(t)), opts(o), text_(std::move(text)) {}
  std::string_view fs_type() const override { return "devpts"; }
  Result<FsStat> statfs(Park&) override {
    FsStat s;
    s.type = kDevptsMagic;
    return s;
  }
  std::string options() const override { return text_; }
  bool volatile_names() const override { return true; }
  const Ref<PtyTable> table;
  const Options opts;

 private:
  std::string text_;
};

void apply(FileAttr& attr, const AttrChange& c) {
  if (c.mode) attr.mode = (attr.mode & S_IFMT) | *c.mode;
  if (c.uid) attr.uid = *c.uid;
  if (c.gid) attr.gid = *c.gid;
  if (c.atime) attr.atime = *c.atime;
  if (c.mtime) attr.mtime = *c.mtime;
  if (c.ctime) attr.ctime = *c.ctime;
}

class PtsInode final : public Inode {
 public:
  PtsInode(Ref<SuperBlock> sb, Ref<Pty> pty) : Inode(std::move(sb)), pty_(std::move(pty)) {}
  uint32_t type() const override { return S_IFCHR; }
  Result<FileAttr> getattr(Park&) override {
    FileAttr a = pty_->attr;
    a.dev = sb().dev;
    return a;
  }
  Result<> setattr(Park&, const AttrChange& c) override {
    apply(pty_->attr, c);
    return {};
  }
  bool same_as(const Inode& other) const override {
    auto* o = dynamic_cast<const PtsInode*>(&other);
    return o != nullptr && o->pty_ == pty_ && !pty_->master_gone();
  }

 private:
  Ref<Pty> pty_;
};

class PtmxInode final : public Inode {
 public:
  explicit PtmxInode(Ref<SuperBlock> s) : Inode(std::move(s)) {}
  uint32_t type() const override { return S_IFCHR; }
  Result<FileAttr> getattr(Park&) override {
    FileAttr a;
    a.ino = kPtmxIno;
    a.dev = sb().dev;
    a.rdev = make_dev(5, 2);
    a.mode = S_IFCHR | static_cast<PtsSuper&>(sb()).opts.ptmx_mode;
    return a;
  }
  bool same_as(const Inode& other) const override {
    return &other.sb() == &sb() && dynamic_cast<const PtmxInode*>(&other) != nullptr;
  }
};

class RootFile final : public DirFile {
 public:
  RootFile(Path path, int flags, Ref<PtyTable> table)
      : DirFile(std::move(path), flags), table_(std::move(table)) {}

 protected:
  // "ptmx" comes first; then a position is the number + kNumbers.
  Result<> list(Park&, const DirVisitor& visit) override {
    if (pos == kFirstPos) {
      if (!visit({kPtmxIno, kNumbers, DT_CHR, "ptmx"})) return {};
      pos = kNumbers;
    }
    const auto& all = table_->all();
    const auto first = std::min<uint64_t>(pos - kNumbers, INT_MAX);
    for (auto it = all.lower_bound(static_cast<int>(first)); it != all.end(); ++it) {
      if (it->second->master_gone()) continue;
      const uint64_t next = static_cast<uint64_t>(it->first) + kNumbers + 1;
      std::string name = std::to_string(it->first);
      if (!visit({it->second->attr.ino, next, DT_CHR, name})) return {};
      pos = next;
    }
    return {};
  }

 private:
  static constexpr uint64_t kNumbers = kFirstPos + 1;

  Ref<PtyTable> table_;
};

class RootInode final : public Inode {
 public:
  RootInode(Ref<SuperBlock> s, FileTime now) : Inode(std::move(s)) {
    attr_.ino = 1;
    attr_.mode = S_IFDIR | 0755;
    attr_.nlink = 2;
    attr_.atime = attr_.mtime = attr_.ctime = now;
  }
  uint32_t type() const override { return S_IFDIR; }
  Result<FileAttr> getattr(Park&) override {
    attr_.dev = sb().dev;
    return attr_;
  }
  Result<> setattr(Park&, const AttrChange& c) override {
    apply(attr_, c);
    return {};
  }
  Result<Ref<Inode>> lookup(Park&, std::string_view name) override {
    Ref<SuperBlock> super(&sb());
    if (name == "ptmx") return Ref<Inode>(make_ref<PtmxInode>(super));
    int index = -1;
    auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
    const bool canonical = name.size() == 1 || (!name.empty() && name[0] != '0');
    if (error != std::errc{} || end != name.data() + name.size() || index < 0 || !canonical)
      return Err(Errno::kNOENT);
    Ref<Pty> pty = table().find(index);
    if (!pty) return Err(Errno::kNOENT);
    return Ref<Inode>(make_ref<PtsInode>(super, pty));
  }
  Result<Ref<File>> open(Park&, const Path& path, int flags, const Cred&) override {
    return Ref<File>(make_ref<RootFile>(path, flags, Ref<PtyTable>(&table())));
  }
  bool same_as(const Inode& other) const override { return this == &other; }

 private:
  PtyTable& table() { return *static_cast<PtsSuper&>(sb()).table; }
  FileAttr attr_;
};

Result<Options> parse(std::string_view text) {
  Options o;
  while (!text.empty()) {
    std::string_view one = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), one.size() + 1));
    const size_t eq = one.find('=');
    const std::string_view key = one.substr(0, eq);
    const std::string_view value = eq == one.npos ? "" : one.substr(eq + 1);
    if (key == "newinstance" || key == "max" || one.empty()) continue;
    uint32_t number = 0;
    const int base = key.ends_with("mode") ? 8 : 10;
    auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number, base);
    if (error != std::errc{} || end != value.data() + value.size()) return Err(Errno::kINVAL);
    if (key == "mode") {
      o.mode = number & 07777;
    } else if (key == "ptmxmode") {
      o.ptmx_mode = number & 07777;
    } else if (key == "gid") {
      o.gid = number;
      o.set_gid = true;
    } else if (key != "uid") {
      return Err(Errno::kINVAL);
    }
  }
  return o;
}

}  // namespace

void register_devpts(Vfs& vfs, Ref<PtyTable> table, std::function<bool()> for_all) {
  vfs.register_fs({"devpts", false,
                   [table, for_all](Park&, Vfs& v, const std::string&, const std::string& text,
                                    Ref<Inode>* root) -> Result<Ref<SuperBlock>> {
                     Options o = TRY(parse(text));
                     if (for_all()) {
                       table->new_mode = o.mode;
                       if (o.set_gid) table->new_gid = o.gid;
                     }
                     Ref<SuperBlock> sb = make_ref<PtsSuper>(table, o, text);
                     *root = make_ref<RootInode>(sb, v.now());
                     return sb;
                   },
                   /*user_mounts=*/true});
}

}  // namespace uk
