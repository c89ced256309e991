#include "ukernel/fs/sysfs/sysfs.h"

#include <cpuid.h>
#include <dirent.h>

#include <array>
#include <cstdio>
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

std::string hex_mask(int first, int count) {
  std::string out;
  for (int word = (first + count - 1) / 32; word >= 0; --word) {
    uint32_t bits = 0;
    for (int i = std::max(first, word * 32); i < std::min(first + count, word * 32 + 32); ++i)
      bits |= 1u << (i % 32);
    char text[16];
    std::snprintf(text, sizeof text, out.empty() ? "%x" : "%08x", bits);
    out += (out.empty() ? "" : ",") + std::string(text);
  }
  return out;
}

// The caches of this machine's processors, as they describe them (CPUID leaf 4; AMD: 0x8000001d, of
// the same shape).
std::vector<std::array<uint32_t, 3>> caches() {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  __cpuid(0, a, b, c, d);
  constexpr uint32_t kHygon = 0x6f677948;  // "Hygo"
  const bool amd = b == signature_AMD_ebx || b == kHygon;
  const uint32_t leaf = amd ? 0x8000001d : 4;
  std::vector<std::array<uint32_t, 3>> out;
  for (uint32_t i = 0; i < 8 && __get_cpuid_count(leaf, i, &a, &b, &c, &d) != 0; ++i) {
    if ((a & 31) == 0) break;
    out.push_back({a, b, c});
  }
  return out;
}

void add_caches(Builder& builder, const std::string& base, int cpu, int cpus,
                const std::vector<std::array<uint32_t, 3>>& caches) {
  static constexpr const char* kTypes[] = {"", "Data", "Instruction", "Unified"};
  for (size_t i = 0; i < caches.size(); ++i) {
    const auto& [a, b, c] = caches[i];
    const uint32_t type = a & 31, level = a >> 5 & 7;
    const uint64_t line = (b & 0xfff) + 1, partitions = (b >> 12 & 0x3ff) + 1, ways = (b >> 22) + 1,
                   sets = uint64_t{c} + 1;
    // The last level is shared by all, the others by none: a guest's processors are cores.
    const int first = level > 2 ? 0 : cpu, count = level > 2 ? cpus : 1;
    const std::string at = base + "index" + std::to_string(i) + "/";
    builder.text(at + "level", std::to_string(level));
    builder.text(at + "type", kTypes[std::min(type, 3u)]);
    builder.text(at + "coherency_line_size", std::to_string(line));
    builder.text(at + "physical_line_partition", std::to_string(partitions));
    builder.text(at + "ways_of_associativity", std::to_string(ways));
    builder.text(at + "number_of_sets", std::to_string(sets));
    builder.text(at + "size", std::to_string(line * partitions * ways * sets / 1024) + "K");
    builder.text(at + "id", std::to_string(first));
    builder.text(at + "shared_cpu_map", hex_mask(first, count));
    builder.text(at + "shared_cpu_list",
                 count == 1 ? std::to_string(first) : "0-" + std::to_string(count - 1));
  }
}

void add_cpus(Builder& b, int cpus) {
  const auto cpu_caches = caches();
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
    add_caches(b, cpu + "cache/", i, cpus, cpu_caches);
  }
  const std::string node = "devices/system/node/";
  for (const char* name : {"online", "possible", "has_cpu", "has_memory"}) b.text(node + name, "0");
  b.text(node + "node0/cpulist", all);
  b.text(node + "node0/cpumap", hex_mask(0, cpus));
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
