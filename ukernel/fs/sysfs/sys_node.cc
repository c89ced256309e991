#include "ukernel/fs/sysfs/sys_node.h"

#include <dirent.h>

#include <algorithm>

namespace uk::sysfs {
namespace {

constexpr uint64_t kSysfsMagic = 0x62656572;

// Made when it is read from its begin, so that a reader sees one moment.
class TextFile final : public File {
 public:
  TextFile(Path path, int flags, Ref<Node> node)
      : File(std::move(path), flags), node_(std::move(node)) {}
  bool seekable() const override { return true; }
  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override {
    if (offset == 0 || text_.empty()) text_ = node_->text();
    if (offset >= text_.size()) return 0;
    // put() may suspend, and another reader begin again.
    const std::string piece = text_.substr(offset, to.remaining());
    return to.put(park, std::as_bytes(std::span(piece)));
  }
  Result<size_t> write(Park&, IoSource&, uint64_t&) override { return Err(Errno::kIO); }

 private:
  Ref<Node> node_;
  std::string text_;
};

class DirFile final : public File {
 public:
  DirFile(Path path, int flags, Ref<Node> node)
      : File(std::move(path), flags), node_(std::move(node)) {}
  bool seekable() const override { return true; }
  Result<size_t> read(Park&, IoSink&, uint64_t) override { return Err(Errno::kISDIR); }
  Result<> readdir(Park&, const DirVisitor& visit) override {
    node_->refresh();
    for (; pos < node_->children.size() + 2; ++pos) {
      if (pos < 2) {
        if (!visit({node_->attr.ino, pos + 1, DT_DIR, pos == 0 ? "." : ".."})) break;
        continue;
      }
      const Node& c = *node_->children[pos - 2];
      const auto type = static_cast<uint8_t>(IFTODT(c.type()));
      if (!visit({c.attr.ino, pos + 1, type, c.name})) break;
    }
    return {};
  }

 private:
  Ref<Node> node_;
};

}  // namespace

Result<FsStat> Super::statfs(Park&) {
  FsStat s;
  s.type = kSysfsMagic;
  return s;
}

Node::Node(Ref<Super> sb, std::string name, uint32_t mode, Text text)
    : Inode(sb), name(std::move(name)), text(std::move(text)) {
  attr.ino = sb->next_ino++;
  attr.mode = mode;
  attr.nlink = is_type(mode, S_IFDIR) ? 2 : 1;
  attr.size = is_type(mode, S_IFREG) ? kPageSize : 0;
  attr.atime = attr.mtime = attr.ctime = sb->made;
}

Node::~Node() {
  auto& super = static_cast<Super&>(sb());
  if (super.root == this) super.root = nullptr;
}

Result<FileAttr> Node::getattr(Park&) {
  attr.dev = sb().dev;
  return attr;
}

void Node::refresh() const {
  auto& super = static_cast<Super&>(sb());
  if (super.refresh) super.refresh(super);
}

Result<Ref<Inode>> Node::lookup(Park&, std::string_view wanted) {
  refresh();
  for (const Ref<Node>& c : children) {
    if (c->name == wanted) return Ref<Inode>(c);
  }
  return Err(Errno::kNOENT);
}

Result<Ref<File>> Node::open(Park&, const Path& path, int flags, const Cred&) {
  if (type() == S_IFDIR) return Ref<File>(make_ref<DirFile>(path, flags, Ref<Node>(this)));
  return Ref<File>(make_ref<TextFile>(path, flags, Ref<Node>(this)));
}

Result<std::string> Node::readlink(Park&) {
  return type() == S_IFLNK ? Result<std::string>(text()) : Err(Errno::kINVAL);
}

Builder::Builder(Ref<Super> sb) : root(sb->root), sb_(std::move(sb)) {
  if (root != nullptr) return;
  root = make_ref<Node>(sb_, "", S_IFDIR | 0555, nullptr);
  sb_->root = root.get();
}

Node& Builder::dir(std::string_view path) {
  Node* at = root.get();
  while (!path.empty()) {
    std::string_view name = path.substr(0, path.find('/'));
    path.remove_prefix(std::min(path.size(), name.size() + 1));
    at = &child(*at, name, S_IFDIR | 0755, nullptr);
  }
  return *at;
}

void Builder::text(std::string_view path, std::string value) {
  text(path, [value = std::move(value) + "\n"] { return value; });
}
void Builder::text(std::string_view path, Text make) { add(path, S_IFREG | 0444, std::move(make)); }
void Builder::link(std::string_view path, std::string target) {
  add(path, S_IFLNK | 0777, [target = std::move(target)] { return target; });
}

void Builder::add(std::string_view path, uint32_t mode, Text text) {
  const size_t slash = path.rfind('/');
  child(dir(path.substr(0, slash)), path.substr(slash + 1), mode, std::move(text));
}

Node& Builder::child(Node& of, std::string_view name, uint32_t mode, Text text) {
  for (const Ref<Node>& c : of.children) {
    if (c->name == name) return *c;
  }
  of.children.push_back(make_ref<Node>(sb_, std::string(name), mode, std::move(text)));
  if (is_type(mode, S_IFDIR)) ++of.attr.nlink;
  return *of.children.back();
}

}  // namespace uk::sysfs
