// The nodes of sysfs: directories, links and texts that are made when they are read; and what puts
// them into a tree by path.
//
// Ownership: the superblock's root holds the tree. Part of it is made again when the set of block
// devices changes (refresh), which a walk or listing notices. Nothing suspends but copies to
// guests.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "ukernel/vfs/vfs.h"

namespace uk::sysfs {

class Node;

class Super final : public SuperBlock {
 public:
  std::string_view fs_type() const override { return "sysfs"; }
  Result<FsStat> statfs(Park&) override;
  // Devices come and go.
  bool volatile_names() const override { return true; }
  uint64_t next_ino = 1;
  FileTime made;
  std::function<void(Super&)> refresh;  // brings the tree up to date
  Node* root = nullptr;                 // not owned: it holds us; null when it has gone
};

using Text = std::function<std::string()>;

class Node final : public Inode {
 public:
  Node(Ref<Super> sb, std::string name, uint32_t mode, Text text);
  ~Node() override;
  uint32_t type() const override { return attr.mode & S_IFMT; }
  Result<FileAttr> getattr(Park&) override;
  Result<Ref<Inode>> lookup(Park&, std::string_view wanted) override;
  Result<Ref<File>> open(Park&, const Path& path, int flags, const Cred&) override;
  Result<std::string> readlink(Park&) override;
  void refresh() const;

  const std::string name;
  const Text text;  // a file's contents, a link's target
  FileAttr attr;
  std::vector<Ref<Node>> children;
};

class Builder {
 public:
  explicit Builder(Ref<Super> sb);  // of the superblock's tree, which is begun if there is none
  Node& dir(std::string_view path);
  void text(std::string_view path, std::string value);  // a newline is added
  void text(std::string_view path, Text make);
  void link(std::string_view path, std::string target);
  Ref<Node> root;

 private:
  Node& child(Node& of, std::string_view name, uint32_t mode, Text text);
  void add(std::string_view path, uint32_t mode, Text text);
  Ref<Super> sb_;
};

}  // namespace uk::sysfs
