// The building blocks of procfs: tables of entries, and the inodes made from them. An entry is a
// text file (show, store), a symbolic link, or a directory of entries; special directories
// (numbers, descriptors, threads) are classes of their own (pid_dir.cc). Inodes are made by
// lookups, on every walk.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ukernel/kernel.h"
#include "ukernel/task/pid_ns.h"
#include "ukernel/vfs/dir_file.h"

namespace uk::procfs {

class Node;
class Super;

// What a show or store function gets. `task`: of the directory, null outside of /proc/PID.
struct Ctx {
  Park& park;
  Kernel& kernel;
  Super& super;
  Task* task;
  const Cred& opener;
  // A kernel number as this mount shows it; 0: not at all.
  int shown(int pid) const;
  // What the reader's CLOCK_BOOTTIME is ahead of the kernel's.
  int64_t ahead() const;
};

struct Entry {
  const char* name;
  uint32_t mode;  // type and permission
  Result<std::string> (*show)(Ctx&) = nullptr;
  Result<> (*store)(Ctx&, std::string_view text) = nullptr;
  std::span<const Entry> children = {};
  bool inspect = false;     // only for who may trace the task (ptrace(2), access mode checking)
  bool mounts = false;      // pollable for changes of the task's mounts
  bool group_only = false;  // not in /proc/PID/task/TID
  // A special inode.
  Ref<Node> (*make)(const Node& dir, const Entry& entry, uint64_t ino) = nullptr;
  std::span<const Entry> (*more)() = nullptr;  // children from another table
};

constexpr Entry text(const char* name, Result<std::string> (*show)(Ctx&), uint32_t perm = 0444,
                     Result<> (*store)(Ctx&, std::string_view) = nullptr) {
  return {name, S_IFREG | perm, show, store};
}
constexpr Entry inspect_text(const char* name, Result<std::string> (*show)(Ctx&),
                             uint32_t perm = 0400) {
  return {.name = name, .mode = S_IFREG | perm, .show = show, .inspect = true};
}
constexpr Entry link(const char* name, Result<std::string> (*show)(Ctx&)) {
  return {name, S_IFLNK | 0777, show};
}
constexpr Entry dir(const char* name, std::span<const Entry> children) {
  return {.name = name, .mode = S_IFDIR | 0555, .children = children};
}

// May a task with these credentials look into `task` (its memory map, descriptors, ...)?
bool may_inspect(const Cred& cred, const Task& task, Kernel& kernel);

class Super final : public SuperBlock {
 public:
  using BootId = std::array<std::byte, 16>;
  Super(Kernel& k, const BootId& id, Ref<PidNamespace> pids)
      : kernel(k), boot_id(id), pid_ns(std::move(pids)) {}
  std::string_view fs_type() const override { return "proc"; }
  Result<FsStat> statfs(Park&) override;
  bool volatile_names() const override { return true; }
  bool keeps_names() const override { return false; }
  Kernel& kernel;
  const BootId boot_id;
  const Ref<PidNamespace> pid_ns;  // whose tasks it shows: of who mounted it; null: the initial one
};

// An inode; plain ones come from an Entry.
class Node : public Inode {
 public:
  Node(Ref<SuperBlock> sb, const Entry* entry, uint32_t mode, uint64_t ino, Ref<Task> task);

  uint32_t type() const override { return mode_ & S_IFMT; }
  Result<FileAttr> getattr(Park& park) override;
  Result<> setattr(Park&, const AttrChange&) override;
  Result<> check_access(const Cred& cred, uint32_t may) override;
  bool same_as(const Inode& other) const override;
  Result<Ref<Inode>> lookup(Park& park, std::string_view name) override;
  bool takes_names() const override { return false; }
  Result<std::string> readlink(Park& park) override;
  Result<Ref<File>> open(Park& park, const Path& path, int flags, const Cred& cred) override;

  using Name = SnapshotDirFile::Entry;
  // A directory's names, without "." and "..".
  virtual Result<std::vector<Name>> list(Park& park);

  Super& super() const { return static_cast<Super&>(sb()); }
  Kernel& kernel() const { return super().kernel; }
  Ref<SuperBlock> sb_ref() const { return Ref<SuperBlock>(&sb()); }
  Task* task() const { return task_.get(); }
  Ref<Task> task_ref() const { return task_; }
  const Entry* entry() const { return entry_; }
  uint64_t ino() const { return ino_; }
  uint32_t mode() const { return mode_; }
  // False once the task has been reaped.
  bool alive() const;
  // Contents of a text file, or a link's target.
  virtual Result<std::string> make_text(Park& park, const Cred& opener);
  Result<> store_text(Park& park, const Cred& opener, std::string_view text);

 protected:
  Ref<Node> make_child(const Entry& entry) const;
  std::span<const Entry> children() const;
  uint64_t child_ino(std::string_view name) const;
  virtual bool shows(const Entry& entry) const { return (void)entry, true; }

 private:
  const Entry* entry_;
  uint32_t mode_;
  uint64_t ino_;
  Ref<Task> task_;
};

inline int Ctx::shown(int pid) const { return shown_pid(super.pid_ns.get(), pid); }

// ---- the tables
std::span<const Entry> root_entries();          // root_files.cc
std::span<const Entry> sys_entries();           // sys_files.cc
std::span<const Entry> net_entries();           // root_files.cc
std::span<const Entry> sysvipc_entries();       // ipc_files.cc
std::span<const Entry> ipc_limit_entries();     // ipc_files.cc, in /proc/sys/kernel
std::span<const Entry> mqueue_limit_entries();  // ipc_files.cc, in /proc/sys/fs/mqueue
Ref<Node> make_root(Ref<SuperBlock> sb);

// ---- show functions in files of their own
Result<std::string> show_cpuinfo(Ctx& c);
Ref<Node> make_kmsg(const Node& dir, const Entry& entry, uint64_t ino);
// Parses what was written: a decimal (or 0x) number within [low, high], blanks around it. kINVAL.
Result<int64_t> parse_number(std::string_view text, int64_t low, int64_t high);

}  // namespace uk::procfs
