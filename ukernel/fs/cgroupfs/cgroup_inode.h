// The inodes of cgroup2: directories that are groups, and text files from tables. An inode lives as
// long as its group, which holds it (Cgroup::inodes), so that owners and watches stay.
#pragma once

#include <functional>
#include <span>
#include <string>

#include "ukernel/kernel.h"
#include "ukernel/task/cgroup.h"
#include "ukernel/vfs/dir_file.h"

namespace uk::cgroupfs {

// What a show or store function gets. `group` is alive when it is called.
struct Ctx {
  Park& park;
  Kernel& kernel;
  Cgroup& group;
  const Cred& opener;
};

// Where a file's own changes are told: see Cgroup::Told.
struct Changes {
  uint64_t version;
  WaitQueue* queue;
};

struct Entry {
  const char* name;
  uint32_t perm;
  Result<std::string> (*show)(Ctx&);
  Result<> (*store)(Ctx&, std::string_view text) = nullptr;  // without blanks around it
  Changes (*changes)(Cgroup&) = nullptr;
  bool in_root = false;
  uint8_t controller = 0;  // there only if it is on; 0: always
};

// The tables, in the order in which a directory lists them.
std::span<const Entry> core_entries();    // core_files.cc
std::span<const Entry> cpu_entries();     // cpu_files.cc
std::span<const Entry> io_entries();      // io_files.cc
std::span<const Entry> memory_entries();  // memory_files.cc
std::span<const Entry> pids_entries();    // pids_files.cc

class Super final : public SuperBlock {
 public:
  explicit Super(Kernel& k) : kernel(k) {}
  std::string_view fs_type() const override { return "cgroup2"; }
  Result<FsStat> statfs(Park&) override;
  // Groups and their files come and go with what is written to others.
  bool volatile_names() const override { return true; }
  bool keeps_names() const override { return false; }
  Kernel& kernel;
};

class Node final : public Inode {
 public:
  // `entry` null: the group's directory.
  Node(Ref<SuperBlock> sb, Ref<Cgroup> group, const Entry* entry, FileAttr attr)
      : Inode(std::move(sb)), group(std::move(group)), entry(entry), attr_(attr) {}

  uint32_t type() const override { return attr_.mode & S_IFMT; }
  Result<FileAttr> getattr(Park&) override;
  Result<> setattr(Park&, const AttrChange& change) override;
  Result<Ref<Inode>> lookup(Park&, std::string_view name) override;
  Result<Ref<Inode>> create(Park&, std::string_view name, const MakeNode& node) override;
  Result<> rmdir(Park&, std::string_view name, Inode& victim) override;
  Result<Ref<File>> open(Park&, const Path& path, int flags, const Cred& cred) override;

  Super& super() const { return static_cast<Super&>(sb()); }
  const Ref<Cgroup> group;
  const Entry* const entry;

 private:
  FileAttr attr_;
};

// The inode of the group's directory, or of one of its files; null if it has no such file now.
Ref<Inode> dir_node(Cgroup& group);
Ref<Inode> file_node(Cgroup& group, std::string_view name);
void each_entry(const Cgroup& group, const std::function<void(const Entry&)>& f);

// ---- for store functions
// What is between blanks; views of `text`.
std::vector<std::string_view> words_of(std::string_view text);
// A decimal number; kINVAL if it is none, `beyond` outside of [low, high].
Result<int64_t> number(std::string_view text, int64_t low, int64_t high, Errno beyond);
// The same with "max" for Cgroup::kMax; kINVAL for negative ones.
Result<uint64_t> number_or_max(std::string_view text, uint64_t high);  // kINVAL
std::string text_of(uint64_t number_or_max);                           // with a newline

}  // namespace uk::cgroupfs
