#include "ukernel/fs/procfs/proc_node.h"

#include <dirent.h>

#include <charconv>

#include "ukernel/fs/procfs/procfs.h"
#include "ukernel/fs/procfs/text_file.h"
#include "ukernel/task/current.h"
#include "ukernel/task/time_ns.h"

namespace uk::procfs {
namespace {

constexpr uint64_t kProcMagic = 0x9fa0;

constexpr uint8_t dirent_type(uint32_t mode) { return static_cast<uint8_t>((mode & S_IFMT) >> 12); }

// The mount tables: POLLERR and POLLPRI once after each change (proc(5)).
class MountsFile final : public TextFile {
 public:
  MountsFile(Path path, int flags, Ref<Node> node, Ref<const Cred> opener,
             Ref<MountNamespace> mounts)
      : TextFile(std::move(path), flags, std::move(node), std::move(opener)),
        mounts_(std::move(mounts)),
        seen_(mounts_->changes) {}
  uint32_t ready() override {
    const bool changed = std::exchange(seen_, mounts_->changes) != mounts_->changes;
    return POLLIN | POLLRDNORM | (changed ? POLLERR | POLLPRI : 0);
  }
  WaitQueue* poll_queue() override { return &mounts_->changed; }

 private:
  Ref<MountNamespace> mounts_;
  uint64_t seen_;
};

class NodeDirFile final : public SnapshotDirFile {
 public:
  NodeDirFile(Path path, int flags, Ref<Node> node)
      : SnapshotDirFile(std::move(path), flags), node_(std::move(node)) {}

 protected:
  Result<std::vector<Entry>> load(Park& park) override { return node_->list(park); }

 private:
  Ref<Node> node_;
};

}  // namespace

bool may_inspect(const Cred& cred, const Task& task, Kernel& kernel) {
  const Task* self = current_task(kernel.reactor);
  if (self != nullptr && self->group == task.group) return true;
  const Cred& target = task.cred();
  if (cred.has_in(target.user_ns.get(), Cap::kSysPtrace)) return true;
  if (cred.user_ns != target.user_ns) return false;
  if (task.mm_ref() && !task.mm().dumpable) return false;
  return cred.fsuid == target.uid && cred.fsuid == target.euid && cred.fsuid == target.suid &&
         cred.fsgid == target.gid && cred.fsgid == target.egid && cred.fsgid == target.sgid &&
         (target.cap_permitted & ~cred.cap_permitted) == 0;
}

int64_t Ctx::ahead() const {
  const Task* reader = current_task(kernel.reactor);
  return reader != nullptr ? boottime_offset(*reader) : 0;
}

Result<int64_t> parse_number(std::string_view text, int64_t low, int64_t high) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ' || text.back() == '\0' ||
                           text.back() == '\t')) {
    text.remove_suffix(1);
  }
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  const bool hex = text.starts_with("0x");
  if (hex) text.remove_prefix(2);
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, hex ? 16 : 10);
  if (error != std::errc{} || end != text.data() + text.size()) return Err(Errno::kINVAL);
  if (value < low || value > high) return Err(Errno::kINVAL);
  return value;
}

Result<FsStat> Super::statfs(Park&) {
  FsStat s;
  s.type = kProcMagic;
  return s;
}

Node::Node(Ref<SuperBlock> sb, const Entry* entry, uint32_t mode, uint64_t ino, Ref<Task> task)
    : Inode(std::move(sb)), entry_(entry), mode_(mode), ino_(ino), task_(std::move(task)) {}

bool Node::alive() const {
  return task_ == nullptr || kernel().pids.task(task_->tid) == task_.get();
}

Result<FileAttr> Node::getattr(Park&) {
  FileAttr a;
  a.ino = ino_;
  a.dev = sb().dev;
  a.mode = mode_;
  a.nlink = type() == S_IFDIR ? 2 : 1;
  a.block_size = 1024;
  // A task that may not be looked into belongs to root, but for its directory's own attributes.
  if (task_ != nullptr) {
    const bool open_to_all = type() == S_IFDIR && (mode_ & 0777) == 0555;
    if (open_to_all || (task_->mm_ref() && task_->mm().dumpable)) {
      a.uid = task_->cred().euid;
      a.gid = task_->cred().egid;
    }
  }
  a.atime = a.mtime = a.ctime = kernel().vfs.now();
  return a;
}

Result<> Node::setattr(Park&, const AttrChange& c) {
  // open(2) with O_TRUNC and shells' `>` must work; owners and modes are not ours to change.
  if (c.mode || c.uid || c.gid) return Err(Errno::kPERM);
  return {};
}

Result<> Node::check_access(const Cred& cred, uint32_t) {
  if (entry_ != nullptr && entry_->inspect && task_ != nullptr &&
      !may_inspect(cred, *task_, kernel())) {
    return Err(Errno::kACCES);
  }
  return {};
}

bool Node::same_as(const Inode& other) const {
  if (&other.sb() != &sb()) return false;
  const auto& o = static_cast<const Node&>(other);
  return o.ino_ == ino_ && o.entry_ == entry_ && o.mode_ == mode_ && o.task_ == task_ && alive();
}

uint64_t Node::child_ino(std::string_view name) const {
  uint64_t h = 0xcbf29ce484222325ull ^ ino_;
  for (char c : name) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3ull;
  return (h ^ (h >> 32)) & 0xffffffff;
}

Ref<Node> Node::make_child(const Entry& e) const {
  if (e.make != nullptr) return e.make(*this, e, child_ino(e.name));
  return make_ref<Node>(sb_ref(), &e, e.mode, child_ino(e.name), task_);
}

std::span<const Entry> Node::children() const {
  if (entry_ == nullptr) return {};
  return entry_->more != nullptr ? entry_->more() : entry_->children;
}

Result<Ref<Inode>> Node::lookup(Park&, std::string_view name) {
  if (type() != S_IFDIR) return Err(Errno::kNOTDIR);
  if (!alive()) return Err(Errno::kNOENT);
  for (const Entry& e : children()) {
    if (name == e.name && shows(e)) return Ref<Inode>(make_child(e));
  }
  return Err(Errno::kNOENT);
}

Result<std::vector<Node::Name>> Node::list(Park&) {
  if (!alive()) return Err(Errno::kNOENT);
  std::vector<Name> names;
  for (const Entry& e : children()) {
    if (shows(e)) names.push_back({e.name, child_ino(e.name), dirent_type(e.mode)});
  }
  return names;
}

Result<std::string> Node::make_text(Park& park, const Cred& opener) {
  if (entry_ == nullptr || entry_->show == nullptr) return Err(Errno::kINVAL);
  if (!alive()) return Err(Errno::kSRCH);
  Ctx c{park, kernel(), super(), task_.get(), opener};
  return entry_->show(c);
}

Result<> Node::store_text(Park& park, const Cred& opener, std::string_view text) {
  if (entry_ == nullptr || entry_->store == nullptr) return Err(Errno::kIO);
  if (!alive()) return Err(Errno::kSRCH);
  Ctx c{park, kernel(), super(), task_.get(), opener};
  return entry_->store(c, text);
}

Result<std::string> Node::readlink(Park& park) {
  if (type() != S_IFLNK) return Err(Errno::kINVAL);
  const Task* self = current_task(kernel().reactor);
  if (self == nullptr) return Err(Errno::kACCES);
  return make_text(park, self->cred());
}

Result<Ref<File>> Node::open(Park&, const Path& path, int flags, const Cred& cred) {
  if (!alive()) return Err(Errno::kSRCH);
  Ref<Node> self(this);
  if (type() == S_IFDIR) return Ref<File>(make_ref<NodeDirFile>(path, flags, self));
  if (type() != S_IFREG) return Err(Errno::kLOOP);
  Ref<const Cred> opener = cred.copy();
  if (entry_ != nullptr && entry_->mounts && task_->mounts_)
    return Ref<File>(make_ref<MountsFile>(path, flags, self, opener, task_->mounts_));
  return Ref<File>(make_ref<TextFile>(path, flags, self, opener));
}

}  // namespace uk::procfs

namespace uk {

namespace {

// Is all of a proc to be seen in the task's mount namespace? Who is root of a user namespace alone
// gets no more by mounting another one (mount_namespaces(7), "Restrictions").
bool sees_a_whole_proc(const Task& task) {
  for (const auto& [id, m] : task.mounts().mounts) {
    bool whole = m->sb->fs_type() == "proc" && m->root->parent() == nullptr && !m->read_only();
    for (const Mount& child : m->children) whole = whole && !child.locked;
    if (whole) return true;
  }
  return false;
}

// A proc belongs to whom the pid namespace belongs that it shows.
Result<Ref<SuperBlock>> mount_proc(Kernel& kernel, const procfs::Super::BootId& boot_id) {
  const Task* task = current_task(kernel.reactor);
  Ref<PidNamespace> pids = task != nullptr ? pid_ns_of(*task) : nullptr;
  const Ref<UserNamespace> owner = pids ? pids->owner : nullptr;
  if (task != nullptr && task->cred().user_ns != nullptr &&
      (!task->cred().has_in(owner.get(), Cap::kSysAdmin) || !sees_a_whole_proc(*task))) {
    return Err(Errno::kPERM);
  }
  Ref<SuperBlock> sb = make_ref<procfs::Super>(kernel, boot_id, std::move(pids));
  sb->user_ns = owner;
  return sb;
}

}  // namespace

void register_procfs(Kernel& kernel) {
  Kernel* k = &kernel;
  procfs::Super::BootId boot_id;
  kernel.random(boot_id);
  kernel.vfs.register_fs({"proc", false,
                          [k, boot_id](Park&, Vfs&, const std::string&, const std::string&,
                                       Ref<Inode>* root) -> Result<Ref<SuperBlock>> {
                            Ref<SuperBlock> sb = TRY(mount_proc(*k, boot_id));
                            *root = procfs::make_root(sb);
                            return sb;
                          },
                          /*user_mounts=*/true});
}

}  // namespace uk
