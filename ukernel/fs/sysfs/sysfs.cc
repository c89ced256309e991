#include "ukernel/fs/sysfs/sysfs.h"

#include <dirent.h>

#include <vector>

namespace uk {
namespace {

constexpr uint64_t kSysfsMagic = 0x62656572;

class SysSuper final : public SuperBlock {
 public:
  std::string_view fs_type() const override { return "sysfs"; }
  Result<FsStat> statfs(Park&) override {
    FsStat s;
    s.type = kSysfsMagic;
    return s;
  }
  uint64_t next_ino = 1;
};

class SysNode;

class SysText final : public File {
 public:
  SysText(Path path, int flags, Ref<SysNode> node);
  bool seekable() const override { return true; }
  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override;
  Result<size_t> write(Park&, IoSource&, uint64_t&) override { return Err(Errno::kIO); }

 private:
  Ref<SysNode> node_;
};

class SysDir final : public File {
 public:
  SysDir(Path path, int flags, Ref<SysNode> node);
  bool seekable() const override { return true; }
  Result<size_t> read(Park&, IoSink&, uint64_t) override { return Err(Errno::kISDIR); }
  Result<> readdir(Park& park, const DirVisitor& visit) override;

 private:
  Ref<SysNode> node_;
};

class SysNode final : public Inode {
 public:
  SysNode(Ref<SysSuper> sb, std::string name, uint32_t mode, std::string text, FileTime now)
      : Inode(sb), name(std::move(name)), text(std::move(text)) {
    attr.ino = sb->next_ino++;
    attr.mode = mode;
    attr.nlink = is_type(mode, S_IFDIR) ? 2 : 1;
    attr.size = is_type(mode, S_IFREG) ? kPageSize : 0;
    attr.atime = attr.mtime = attr.ctime = now;
  }
  uint32_t type() const override { return attr.mode & S_IFMT; }
  Result<FileAttr> getattr(Park&) override {
    attr.dev = sb().dev;
    return attr;
  }
  Result<Ref<Inode>> lookup(Park&, std::string_view wanted) override {
    for (const Ref<SysNode>& c : children) {
      if (c->name == wanted) return Ref<Inode>(c);
    }
    return Err(Errno::kNOENT);
  }
  Result<Ref<File>> open(Park&, const Path& path, int flags, const Cred&) override {
    if (type() == S_IFDIR) return Ref<File>(make_ref<SysDir>(path, flags, Ref<SysNode>(this)));
    return Ref<File>(make_ref<SysText>(path, flags, Ref<SysNode>(this)));
  }

  const std::string name;
  const std::string text;
  FileAttr attr;
  std::vector<Ref<SysNode>> children;
};

SysText::SysText(Path path, int flags, Ref<SysNode> node)
    : File(std::move(path), flags), node_(std::move(node)) {}

Result<size_t> SysText::read(Park& park, IoSink& to, uint64_t offset) {
  const std::string& text = node_->text;
  if (offset >= text.size()) return 0;
  auto rest = std::as_bytes(std::span(text)).subspan(offset);
  return to.put(park, rest.first(std::min(rest.size(), to.remaining())));
}

SysDir::SysDir(Path path, int flags, Ref<SysNode> node)
    : File(std::move(path), flags), node_(std::move(node)) {}

Result<> SysDir::readdir(Park&, const DirVisitor& visit) {
  for (; pos < node_->children.size() + 2; ++pos) {
    if (pos < 2) {
      if (!visit({node_->attr.ino, pos + 1, DT_DIR, pos == 0 ? "." : ".."})) break;
      continue;
    }
    const SysNode& c = *node_->children[pos - 2];
    const uint8_t type = c.type() == S_IFDIR ? DT_DIR : DT_REG;
    if (!visit({c.attr.ino, pos + 1, type, c.name})) break;
  }
  return {};
}

// Puts files into a tree by their path.
class Builder {
 public:
  Builder(Ref<SysSuper> sb, FileTime now) : sb_(std::move(sb)), now_(now) {
    root = make_ref<SysNode>(sb_, "", S_IFDIR | 0555, "", now_);
  }
  SysNode& dir(std::string_view path) {
    SysNode* at = root.get();
    while (!path.empty()) {
      std::string_view name = path.substr(0, path.find('/'));
      path.remove_prefix(std::min(path.size(), name.size() + 1));
      at = &child(*at, name, S_IFDIR | 0755, "");
    }
    return *at;
  }
  void text(std::string_view path, std::string value) {
    const size_t slash = path.rfind('/');
    child(dir(path.substr(0, slash)), path.substr(slash + 1), S_IFREG | 0444, value + "\n");
  }
  Ref<SysNode> root;

 private:
  SysNode& child(SysNode& of, std::string_view name, uint32_t mode, std::string value) {
    for (const Ref<SysNode>& c : of.children) {
      if (c->name == name) return *c;
    }
    of.children.push_back(make_ref<SysNode>(sb_, std::string(name), mode, std::move(value), now_));
    if (is_type(mode, S_IFDIR)) ++of.attr.nlink;
    return *of.children.back();
  }
  Ref<SysSuper> sb_;
  FileTime now_;
};

void add_cpus(Builder& b, int cpus) {
  const std::string all = cpus == 1 ? "0" : "0-" + std::to_string(cpus - 1);
  const std::string base = "devices/system/cpu/";
  for (const char* name : {"online", "possible", "present"}) b.text(base + name, all);
  b.text(base + "offline", "");
  b.text(base + "isolated", "");
  b.text(base + "kernel_max", std::to_string(cpus - 1));
  b.text(base + "smt/active", "0");
  for (int i = 0; i < cpus; ++i) {
    const std::string n = std::to_string(i), cpu = base + "cpu" + n + "/";
    b.text(cpu + "online", "1");
    const std::string topology = cpu + "topology/";
    b.text(topology + "core_id", n);
    b.text(topology + "physical_package_id", "0");
    b.text(topology + "core_cpus_list", n);
    b.text(topology + "thread_siblings_list", n);
    b.text(topology + "core_siblings_list", all);
    b.text(topology + "package_cpus_list", all);
  }
  const std::string node = "devices/system/node/";
  for (const char* name : {"online", "possible", "has_cpu", "has_memory"}) b.text(node + name, "0");
  b.text(node + "node0/cpulist", all);
}

}  // namespace

void register_sysfs(Vfs& vfs, int cpus) {
  vfs.register_fs({"sysfs", false,
                   [cpus](Park&, Vfs& v, const std::string&, const std::string&,
                          Ref<Inode>* root) -> Result<Ref<SuperBlock>> {
                     auto sb = make_ref<SysSuper>();
                     Builder b(sb, v.now());
                     add_cpus(b, cpus);
                     b.text("kernel/mm/transparent_hugepage/enabled", "always madvise [never]");
                     b.text("kernel/mm/transparent_hugepage/defrag",
                            "always defer madvise [never]");
                     b.text("kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152");
                     for (const char* dir :
                          {"block", "bus", "class/block", "class/net", "class/tty", "dev/block",
                           "dev/char", "devices/virtual", "firmware", "fs/cgroup", "kernel/debug",
                           "kernel/mm/hugepages", "module", "power"}) {
                       b.dir(dir);
                     }
                     *root = b.root;
                     return Ref<SuperBlock>(sb);
                   }});
}

}  // namespace uk
