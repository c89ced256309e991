#include "ukernel/fs/cgroupfs/cgroup_inode.h"

#include <poll.h>
#include <sys/inotify.h>

#include <array>
#include <charconv>

#include "ukernel/fs/cgroupfs/cgroupfs.h"
#include "ukernel/task/current.h"
#include "ukernel/vfs/inotify.h"

namespace uk::cgroupfs {
namespace {

constexpr uint64_t kCgroup2Magic = 0x63677270;
constexpr size_t kMaxStore = 4096;

using Tables = std::array<std::span<const Entry>, 5>;
Tables tables() {
  return {core_entries(), cpu_entries(), io_entries(), memory_entries(), pids_entries()};
}

bool has(const Cgroup& group, const Entry& e) {
  if (group.is_root()) return e.in_root;
  return e.controller == 0 || (group.enabled() & e.controller) != 0;
}

// An open file: made when it is read from its start, so that a reader sees one moment.
class TextFile final : public File {
 public:
  TextFile(Path path, int flags, Ref<Node> node, Ref<const Cred> opener)
      : File(std::move(path), flags), node_(std::move(node)), opener_(std::move(opener)) {
    if (changes() != nullptr) seen_ = changes()(group()).version;
  }

  bool seekable() const override { return true; }
  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override {
    if (!made_ || offset == 0) {
      if (changes() != nullptr) seen_ = changes()(group()).version;
      Ctx c = TRY(context(park));
      text_ = TRY(node_->entry->show(c));
      made_ = true;
    }
    if (offset >= text_.size()) return 0;
    std::string piece = text_.substr(offset, to.remaining());  // put() may suspend
    return to.put(park, std::as_bytes(std::span(piece)));
  }
  Result<size_t> write(Park& park, IoSource& from, uint64_t& offset) override {
    if (from.remaining() > kMaxStore) return Err(Errno::k2BIG);
    std::string text(from.remaining(), '\0');
    const size_t got = TRY(from.get(park, std::as_writable_bytes(std::span(text))));
    Ctx c = TRY(context(park));
    if (node_->entry->store == nullptr) return Err(Errno::kINVAL);
    const std::string_view all = std::string_view(text).substr(0, got);
    const size_t first = all.find_first_not_of(" \t\n");
    const size_t last = all.find_last_not_of(std::string_view(" \t\n\0", 4));
    TRY(node_->entry->store(
        c, first == all.npos || last == all.npos ? "" : all.substr(first, last - first + 1)));
    offset += got;
    return got;
  }
  Result<> truncate(Park&, uint64_t) override { return {}; }
  Result<uint64_t> seek(Park&, int64_t offset, int whence) override {
    int64_t to = 0;
    if ((whence != SEEK_SET && whence != SEEK_CUR) ||
        __builtin_add_overflow(whence == SEEK_CUR ? static_cast<int64_t>(pos) : 0, offset, &to) ||
        to < 0) {
      return Err(Errno::kINVAL);
    }
    return pos = static_cast<uint64_t>(to);
  }
  uint32_t ready() override {
    const uint32_t always = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
    const bool changed =
        group().dead || (changes() != nullptr && changes()(group()).version != seen_);
    return changed ? always | POLLERR | POLLPRI : always;
  }
  WaitQueue* poll_queue() override {
    return changes() != nullptr ? changes()(group()).queue : &group().events.queue;
  }

 private:
  Cgroup& group() const { return *node_->group; }
  Changes (*changes() const)(Cgroup&) { return node_->entry->changes; }
  Result<Ctx> context(Park& park) const {
    if (group().dead || !has(group(), *node_->entry)) return Err(Errno::kNODEV);
    return Ctx{park, node_->super().kernel, group(), *opener_};
  }
  Ref<Node> node_;
  Ref<const Cred> opener_;
  std::string text_;
  bool made_ = false;
  uint64_t seen_ = 0;
};

class GroupDir final : public SnapshotDirFile {
 public:
  GroupDir(Path path, int flags, Ref<Node> node)
      : SnapshotDirFile(std::move(path), flags), node_(std::move(node)) {}

 protected:
  Result<std::vector<Entry>> load(Park& park) override {
    std::vector<Entry> out;
    Cgroup& group = *node_->group;
    if (group.dead) return out;
    auto add = [&](std::string_view name, Ref<Inode> inode) -> Result<> {
      out.push_back({std::string(name), TRY(inode->getattr(park)).ino, dirent_type(inode->type())});
      return {};
    };
    std::vector<std::string> names;
    each_entry(group, [&](const cgroupfs::Entry& e) { names.emplace_back(e.name); });
    for (const std::string& name : names) TRY(add(name, file_node(group, name)));
    for (const auto& [name, child] : group.children) TRY(add(name, dir_node(*child)));
    return out;
  }

 private:
  Ref<Node> node_;
};

FileAttr new_attr(const Cgroup& group, uint32_t mode, uint64_t offset) {
  FileAttr a;
  a.ino = group.id + offset;
  a.mode = mode;
  a.nlink = is_type(mode, S_IFDIR) ? 2 : 1;
  a.atime = a.mtime = a.ctime = a.btime = group.tree.kernel.vfs.now();
  return a;
}

}  // namespace

Result<FsStat> Super::statfs(Park&) {
  FsStat s;
  s.type = kCgroup2Magic;
  return s;
}

void each_entry(const Cgroup& group, const std::function<void(const Entry&)>& f) {
  for (std::span<const Entry> table : tables())
    for (const Entry& e : table)
      if (has(group, e)) f(e);
}

Ref<Inode> dir_node(Cgroup& group) {
  Ref<Inode>& inode = group.inodes[""];
  if (!inode) {
    inode = make_ref<Node>(group.tree.super, Ref<Cgroup>(&group), nullptr,
                           new_attr(group, S_IFDIR | 0555, 0));
  }
  return inode;
}

Ref<Inode> file_node(Cgroup& group, std::string_view name) {
  uint64_t offset = 0;
  for (std::span<const Entry> table : tables()) {
    for (const Entry& e : table) {
      ++offset;
      if (name != e.name || !has(group, e)) continue;
      Ref<Inode>& inode = group.inodes[e.name];
      if (!inode) {
        FileAttr a = new_attr(group, S_IFREG | e.perm, offset);
        // Files belong to who made the group.
        a.uid = group.owner_uid;
        a.gid = group.owner_gid;
        inode = make_ref<Node>(group.tree.super, Ref<Cgroup>(&group), &e, a);
      }
      return inode;
    }
  }
  return nullptr;
}

Result<FileAttr> Node::getattr(Park&) {
  FileAttr a = attr_;
  a.dev = sb().dev;
  if (entry == nullptr) a.nlink += static_cast<uint32_t>(group->children.size());
  return a;
}

Result<> Node::setattr(Park&, const AttrChange& c) {
  if (c.mode) attr_.mode = type() | (*c.mode & 07777);
  if (c.uid) attr_.uid = *c.uid;
  if (c.gid) attr_.gid = *c.gid;
  if (c.atime) attr_.atime = *c.atime;
  if (c.mtime) attr_.mtime = *c.mtime;
  if (c.ctime) attr_.ctime = *c.ctime;
  return {};
}

Result<Ref<Inode>> Node::lookup(Park&, std::string_view name) {
  if (entry != nullptr) return Err(Errno::kNOTDIR);
  if (group->dead) return Err(Errno::kNOENT);
  if (auto child = group->children.find(name); child != group->children.end())
    return dir_node(*child->second);
  Ref<Inode> file = file_node(*group, name);
  return file ? Result<Ref<Inode>>(file) : Err(Errno::kNOENT);
}

Result<Ref<Inode>> Node::create(Park&, std::string_view name, const MakeNode& node) {
  if (!is_type(node.mode, S_IFDIR))
    return Err(is_type(node.mode, S_IFREG) ? Errno::kACCES : Errno::kPERM);
  // It would break the lines of /proc/PID/cgroup.
  if (name.find('\n') != name.npos) return Err(Errno::kINVAL);
  Ref<Cgroup> made = TRY(group->tree.make(*group, std::string(name)));
  made->owner_uid = node.uid;
  made->owner_gid = node.gid;
  FileAttr a = new_attr(*made, node.mode, 0);
  a.uid = node.uid;
  a.gid = node.gid;
  return made->inodes[""] = make_ref<Node>(Ref<SuperBlock>(&sb()), made, nullptr, a);
}

Result<> Node::rmdir(Park&, std::string_view, Inode& victim) {
  auto& node = static_cast<Node&>(victim);
  if (node.entry != nullptr) return Err(Errno::kNOTDIR);
  return group->tree.remove(*node.group);
}

Result<Ref<File>> Node::open(Park&, const Path& path, int flags, const Cred& cred) {
  if (group->dead) return Err(Errno::kNODEV);
  Ref<Node> self(this);
  if (entry == nullptr) return Ref<File>(make_ref<GroupDir>(path, flags, self));
  return Ref<File>(make_ref<TextFile>(path, flags, self, cred.copy()));
}

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    if (!word.empty()) out.push_back(word);
    text.remove_prefix(std::min(text.size(), word.size() + 1));
  }
  return out;
}

Result<int64_t> number(std::string_view text, int64_t low, int64_t high, Errno beyond) {
  if (text.starts_with('+')) text.remove_prefix(1);
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) return Err(Errno::kRANGE);
  if (error != std::errc{} || end != text.data() + text.size()) return Err(Errno::kINVAL);
  if (value < low || value > high) return Err(beyond);
  return value;
}

Result<uint64_t> number_or_max(std::string_view text, uint64_t high) {
  if (text == "max") return Cgroup::kMax;
  return static_cast<uint64_t>(TRY(
      number(text, 0, static_cast<int64_t>(std::min<uint64_t>(high, INT64_MAX)), Errno::kINVAL)));
}

std::string text_of(uint64_t number_or_max) {
  return number_or_max == Cgroup::kMax ? "max\n" : std::to_string(number_or_max) + "\n";
}

namespace {

class Files final : public CgroupFiles {
 public:
  explicit Files(Kernel& kernel) : kernel_(kernel) {}
  Ref<Cgroup> of_directory(const File& file) override {
    const auto* node = dynamic_cast<const Node*>(file.inode());
    return node != nullptr && node->entry == nullptr ? node->group : nullptr;
  }
  Result<> may_attach(Park& park, Cgroup& group, const Cred& cred) override {
    Ref<Inode> procs = file_node(group, "cgroup.procs");
    return kernel_.vfs.check_permission(park, *procs, cred, kMayWrite);
  }
  void changed(Cgroup& group, std::string_view file) override {
    auto tell = [&](std::string_view inode, std::string_view name) {
      auto at = group.inodes.find(inode);
      if (at == group.inodes.end() || at->second->watches == nullptr) return;
      Ref<Inode> keep = at->second;
      keep->watches->event(IN_MODIFY, 0, name);
    };
    tell("", file);
    tell(file, {});
  }

 private:
  Kernel& kernel_;
};

}  // namespace
}  // namespace uk::cgroupfs

namespace uk {

void register_cgroupfs(Kernel& kernel) {
  Kernel* k = &kernel;
  k->cgroups->files = std::make_shared<cgroupfs::Files>(kernel);
  kernel.vfs.register_fs({"cgroup2", false,
                          [k](Park&, Vfs&, const std::string&, const std::string& options,
                              Ref<Inode>* root) -> Result<Ref<SuperBlock>> {
                            // DEVIATION: none of cgroup2's options; see docs/CAVEATS.md.
                            if (!options.empty()) return Err(Errno::kINVAL);
                            if (!k->cgroups->super)
                              k->cgroups->super = make_ref<cgroupfs::Super>(*k);
                            const Task* mounter = current_task(k->reactor);
                            Ref<Cgroup> top =
                                mounter != nullptr ? cgroup_root_of(*mounter) : k->cgroups->root;
                            if (top->dead) return Err(Errno::kNODEV);
                            *root = cgroupfs::dir_node(*top);
                            return k->cgroups->super;
                          }});
}

}  // namespace uk
