// The directories of procfs whose entries are not fixed: /proc itself (numbers of tasks), a task's
// descriptors (fd, fdinfo), its threads (task), and the table of a task's own files.
#include <dirent.h>

#include <charconv>
#include <optional>

#include "absl/strings/str_format.h"
#include "ukernel/fs/procfs/pid_files.h"
#include "ukernel/fs/procfs/proc_node.h"
#include "ukernel/task/current.h"
#include "ukernel/task/nsfs.h"
#include "ukernel/task/pidfd.h"
#include "ukernel/vfs/anon_inode.h"

namespace uk::procfs {
namespace {

// A decimal number without leading zeros, as names of tasks and descriptors are.
std::optional<int> parse_name(std::string_view name) {
  if (name.empty() || (name.size() > 1 && name[0] == '0')) return std::nullopt;
  int n = 0;
  auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), n);
  if (error != std::errc{} || end != name.data() + name.size() || n < 0) return std::nullopt;
  return n;
}

// ---- magic links: /proc/PID/exe, cwd, root, fd/N

using Target = Result<Path> (*)(Task& task, int fd);

class MagicLink final : public Node {
 public:
  MagicLink(const Node& dir, const Entry* entry, uint64_t ino, Target target, int fd = -1,
            uint32_t perm = 0777)
      : Node(dir.sb_ref(), entry, S_IFLNK | perm, ino, dir.task_ref()), target_(target), fd_(fd) {}

  bool is_magic_link() const override { return true; }
  bool same_as(const Inode& other) const override {
    return Node::same_as(other) && (fd_ < 0 || target().has_value());
  }
  Result<Path> magic_target(Park&, const Cred& cred) override {
    if (!may_inspect(cred, *task(), kernel())) return Err(Errno::kACCES);
    return target();
  }
  Result<std::string> readlink(Park&) override {
    Task* self = current_task(kernel().reactor);
    if (self == nullptr || !may_inspect(self->cred(), *task(), kernel())) return Err(Errno::kACCES);
    return kernel().vfs.path_name(TRY(target()), self->fs().root);
  }

 private:
  Result<Path> target() const {
    if (!alive()) return Err(Errno::kNOENT);
    return target_(*task(), fd_);
  }
  Target target_;
  int fd_;
};

Result<Path> exe_path(Task& t, int) {
  if (!t.exe) return Err(Errno::kNOENT);
  return t.exe;
}
Result<Path> cwd_path(Task& t, int) {
  if (!t.fs_) return Err(Errno::kNOENT);
  return t.fs().cwd;
}
Result<Path> root_path(Task& t, int) {
  if (!t.fs_) return Err(Errno::kNOENT);
  return t.fs().root;
}
Result<Path> fd_path(Task& t, int fd) {
  if (!t.fds_) return Err(Errno::kNOENT);
  auto file = t.fds().get(fd);
  if (!file) return Err(Errno::kNOENT);
  return (*file)->path();
}

// ---- namespaces (namespaces(7))

struct NsLink {
  const char* name;
  NsKind kind;
  bool for_children = false;
};
constexpr NsLink kNamespaces[] = {
    {"cgroup", NsKind::kCgroup}, {"ipc", NsKind::kIpc},
    {"mnt", NsKind::kMnt},       {"net", NsKind::kNet},
    {"pid", NsKind::kPid},       {"pid_for_children", NsKind::kPid, true},
    {"time", NsKind::kTime},     {"time_for_children", NsKind::kTime, true},
    {"user", NsKind::kUser},     {"uts", NsKind::kUts},
};

Result<Path> namespace_path(Task& t, int index) {
  const NsLink& link = kNamespaces[index];
  Ref<Namespace> ns = namespace_of(t, link.kind, link.for_children);
  if (!ns) return Err(Errno::kNOENT);
  return t.kernel.nsfs->path_of(std::move(ns));
}

class NsDir final : public Node {
 public:
  NsDir(const Node& dir, const Entry* entry, uint64_t ino)
      : Node(dir.sb_ref(), entry, entry->mode, ino, dir.task_ref()) {}

  Result<Ref<Inode>> lookup(Park&, std::string_view name) override {
    for (size_t i = 0; i < std::size(kNamespaces) && alive(); ++i) {
      if (name == kNamespaces[i].name) {
        return Ref<Inode>(make_ref<MagicLink>(*this, nullptr, child_ino(name), namespace_path,
                                              static_cast<int>(i)));
      }
    }
    return Err(Errno::kNOENT);
  }
  Result<std::vector<Name>> list(Park&) override {
    std::vector<Name> names;
    for (const NsLink& l : kNamespaces) names.push_back({l.name, child_ino(l.name), DT_LNK});
    return names;
  }
};

template <Target kTarget>
Ref<Node> make_link(const Node& dir, const Entry& entry, uint64_t ino) {
  return make_ref<MagicLink>(dir, &entry, ino, kTarget);
}

// ---- fd and fdinfo

class FdDir : public Node {
 public:
  FdDir(const Node& dir, const Entry* entry, uint64_t ino)
      : Node(dir.sb_ref(), entry, entry->mode, ino, dir.task_ref()) {}

  // Also when changed ids have made the directory root's.
  bool allows_anyway() const override {
    const Task* self = current_task(kernel().reactor);
    return self != nullptr && self->group == task()->group;
  }
  Result<Ref<Inode>> lookup(Park&, std::string_view name) override {
    auto fd = parse_name(name);
    if (!fd || !alive() || !task()->fds_) return Err(Errno::kNOENT);
    auto file = task()->fds().get(*fd);
    if (!file) return Err(Errno::kNOENT);
    return Ref<Inode>(make_fd(*fd, **file));
  }
  Result<std::vector<Name>> list(Park&) override {
    if (!alive()) return Err(Errno::kNOENT);
    std::vector<Name> names;
    if (!task()->fds_) return names;
    task()->fds().each([&](int fd, File&) {
      std::string name = std::to_string(fd);
      uint64_t ino = child_ino(name);
      names.push_back({std::move(name), ino, kind()});
    });
    return names;
  }

 protected:
  virtual Ref<Node> make_fd(int fd, File& file) const {
    uint32_t perm = (file.can_read() ? 0500 : 0) | (file.can_write() ? 0300 : 0);
    return make_ref<MagicLink>(*this, nullptr, child_ino(std::to_string(fd)), fd_path, fd, perm);
  }
  virtual uint8_t kind() const { return DT_LNK; }
};

class FdInfo final : public Node {
 public:
  FdInfo(const Node& dir, uint64_t ino, const Entry* entry, int fd)
      : Node(dir.sb_ref(), entry, S_IFREG | 0444, ino, dir.task_ref()), fd_(fd) {}

  Result<std::string> make_text(Park& park, const Cred&) override {
    if (!alive() || !task()->fds_) return Err(Errno::kSRCH);
    auto found = task()->fds().get(fd_);
    if (!found) return Err(Errno::kNOENT);
    Ref<File> file = *found;
    const int cloexec = task()->fds().cloexec(fd_).value_or(false) ? O_CLOEXEC : 0;
    const uint64_t mount = file->path().mount ? file->path().mount->id : 0;
    uint64_t inode = 0;
    if (auto attr = file->getattr(park)) inode = attr->ino;
    const Result<Ref<ThreadGroup>> process = pidfd_group(*file);
    return absl::StrFormat("pos:\t%d\nflags:\t0%o\nmnt_id:\t%d\nino:\t%d\n", file->pos,
                           shown_flags(*file) | cloexec, mount, inode) +
           (process ? pidfd_info(**process, super().pid_ns.get()) : file->fdinfo());
  }

 private:
  int fd_;
};

class FdInfoDir final : public FdDir {
 public:
  using FdDir::FdDir;

 protected:
  Ref<Node> make_fd(int fd, File&) const override {
    return make_ref<FdInfo>(*this, child_ino(std::to_string(fd)), entry(), fd);
  }
  uint8_t kind() const override { return DT_REG; }
};

// ---- a task's directory, its threads, and the root

class PidDir final : public Node, public ProcessInode {
 public:
  PidDir(Ref<SuperBlock> sb, const Entry* entry, uint64_t ino, Ref<Task> task, bool thread)
      : Node(std::move(sb), entry, S_IFDIR | 0555, ino, std::move(task)), thread_(thread) {}
  Ref<ThreadGroup> process() const override { return this->task()->group; }

 protected:
  bool shows(const Entry& e) const override { return !(thread_ && e.group_only); }

 private:
  bool thread_;  // /proc/PID/task/TID
};

class ThreadsDir final : public Node {
 public:
  ThreadsDir(const Node& dir, const Entry* entry, uint64_t ino)
      : Node(dir.sb_ref(), entry, S_IFDIR | 0555, ino, dir.task_ref()) {}

  Result<Ref<Inode>> lookup(Park&, std::string_view name) override;
  Result<std::vector<Name>> list(Park&) override {
    if (!alive()) return Err(Errno::kNOENT);
    std::vector<Name> names;
    for (Task* t : task()->group->threads) {
      std::string name = std::to_string(shown_pid(super().pid_ns.get(), t->tid));
      uint64_t ino = child_ino(name);
      names.push_back({std::move(name), ino, DT_DIR});
    }
    return names;
  }
};

class RootDir final : public Node {
 public:
  explicit RootDir(Ref<SuperBlock> sb);
  Result<Ref<Inode>> lookup(Park& park, std::string_view name) override;
  Result<std::vector<Name>> list(Park& park) override;

 private:
  // Another process with the same number is another directory.
  uint64_t pid_ino(const Task& t) const {
    return child_ino(std::to_string(t.tid) + "." + std::to_string(t.start_ns));
  }
};

template <class Dir>
Ref<Node> make_dir(const Node& dir, const Entry& entry, uint64_t ino) {
  return make_ref<Dir>(dir, &entry, ino);
}
using Maker = Ref<Node> (*)(const Node&, const Entry&, uint64_t);
constexpr Entry special(const char* name, uint32_t mode, Maker make, bool inspect = false,
                        bool group_only = false) {
  return {.name = name, .mode = mode, .inspect = inspect, .group_only = group_only, .make = make};
}

constexpr Entry kPid[] = {
    {.name = "autogroup",
     .mode = S_IFREG | 0644,
     .show = show_autogroup,
     .store = store_autogroup,
     .group_only = true},
    inspect_text("auxv", show_auxv),
    text("cgroup", show_cgroup),
    text("children", show_children),
    text("cmdline", show_cmdline),
    text("comm", show_comm, 0644, store_comm),
    text("coredump_filter", show_coredump_filter),
    special("cwd", S_IFLNK | 0777, make_link<cwd_path>),
    inspect_text("environ", show_environ),
    special("exe", S_IFLNK | 0777, make_link<exe_path>),
    special("fd", S_IFDIR | 0500, make_dir<FdDir>, true),
    special("fdinfo", S_IFDIR | 0555, make_dir<FdInfoDir>, true),
    text("gid_map", show_gid_map, 0644, store_gid_map),
    inspect_text("io", show_io),
    text("limits", show_limits),
    text("loginuid", show_loginuid),
    {.name = "maps", .mode = S_IFREG | 0444, .show = show_maps, .inspect = true, .make = make_maps},
    special("mem", S_IFREG | 0600, make_mem, true),
    {.name = "mountinfo", .mode = S_IFREG | 0444, .show = show_mountinfo, .mounts = true},
    {.name = "mounts", .mode = S_IFREG | 0444, .show = show_mounts, .mounts = true},
    {.name = "net", .mode = S_IFDIR | 0555, .more = net_entries},
    special("ns", S_IFDIR | 0511, make_dir<NsDir>, true),
    text("oom_adj", show_oom_adj, 0644, store_oom_adj),
    text("oom_score", show_oom_score),
    text("oom_score_adj", show_oom_score_adj, 0644, store_oom_score_adj),
    special("pagemap", S_IFREG | 0400, make_pagemap, true),
    inspect_text("personality", show_personality),
    special("root", S_IFLNK | 0777, make_link<root_path>),
    text("schedstat", show_schedstat),
    text("sessionid", show_sessionid),
    text("setgroups", show_setgroups, 0644, store_setgroups),
    inspect_text("smaps", show_smaps, 0444),
    inspect_text("smaps_rollup", show_smaps_rollup, 0444),
    text("stat", show_stat),
    text("statm", show_statm),
    text("status", show_status),
    inspect_text("syscall", show_syscall),
    special("task", S_IFDIR | 0555, make_dir<ThreadsDir>, false, true),
    {.name = "timens_offsets",
     .mode = S_IFREG | 0644,
     .show = show_timens_offsets,
     .store = store_timens_offsets,
     .group_only = true},
    text("timerslack_ns", show_timerslack, 0444),
    text("uid_map", show_uid_map, 0644, store_uid_map),
    text("wchan", show_wchan),
};
constexpr Entry kPidDir = {.name = "", .mode = S_IFDIR | 0555, .children = kPid};

Ref<Inode> make_pid_dir(const Node& dir, uint64_t ino, Ref<Task> task, bool thread) {
  return make_ref<PidDir>(dir.sb_ref(), &kPidDir, ino, std::move(task), thread);
}

Result<Ref<Inode>> ThreadsDir::lookup(Park&, std::string_view name) {
  auto tid = parse_name(name);
  if (!tid || !alive()) return Err(Errno::kNOENT);
  Task* t = kernel().pids.task(kernel_pid(super().pid_ns.get(), *tid));
  if (t == nullptr || t->group != task()->group) return Err(Errno::kNOENT);
  return make_pid_dir(*this, child_ino(name), Ref<Task>(t), true);
}

constexpr Entry kRootDir = {.name = "", .mode = S_IFDIR | 0555};

RootDir::RootDir(Ref<SuperBlock> sb) : Node(std::move(sb), &kRootDir, S_IFDIR | 0555, 1, nullptr) {}

Result<Ref<Inode>> RootDir::lookup(Park&, std::string_view name) {
  if (auto tid = parse_name(name)) {
    Task* t = kernel().pids.task(kernel_pid(super().pid_ns.get(), *tid));
    if (t == nullptr) return Err(Errno::kNOENT);
    return make_pid_dir(*this, pid_ino(*t), Ref<Task>(t), false);
  }
  for (const Entry& e : root_entries()) {
    if (name == e.name) return Ref<Inode>(make_child(e));
  }
  return Err(Errno::kNOENT);
}

Result<std::vector<Node::Name>> RootDir::list(Park&) {
  std::vector<Name> names;
  for (const Entry& e : root_entries()) {
    names.push_back({e.name, child_ino(e.name), static_cast<uint8_t>((e.mode & S_IFMT) >> 12)});
  }
  const PidNamespace* pids = super().pid_ns.get();
  each_group_in(kernel(), pids, [&](ThreadGroup& g) {
    if (g.leader == nullptr) return;
    names.push_back({std::to_string(shown_pid(pids, g.tgid)), pid_ino(*g.leader), DT_DIR});
  });
  return names;
}

}  // namespace

Ref<Node> make_root(Ref<SuperBlock> sb) { return make_ref<RootDir>(std::move(sb)); }

}  // namespace uk::procfs
