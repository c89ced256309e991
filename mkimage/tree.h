// The tree that an image is to hold, in memory: what every file is, and where its contents lie.
// Sources (source.h) fill it, the writer (ext4_writer.h) reads it.
//
// Ownership: the tree owns its nodes; a NodeId is good for as long as the tree. Nothing suspends.
// Names, targets and numbers come from archives and directories and are untrusted: the tree takes
// no name that is not one, goes through no symbolic link, and has no loops. On failure `why` says
// what is wrong with which member, without what to do.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace uk::mkimage {

struct Time {
  int64_t seconds = 0;
  uint32_t nanoseconds = 0;
};

// A piece of a file that is no hole: `length` bytes at `at`, which lie at `from` in what
// Source::contents() gives. In order, without overlaps, and none of them empty.
struct Segment {
  uint64_t at = 0, length = 0, from = 0;
};

struct Attributes {
  uint32_t mode = 0;  // type and permissions, as in stat(2)
  uint32_t uid = 0, gid = 0;
  Time atime, mtime, ctime;
  uint32_t major = 0, minor = 0;  // of a device
  uint64_t size = 0;              // of a regular file
  std::string target;             // of a symbolic link
  std::vector<Segment> segments;
  std::map<std::string, std::string> xattrs;  // by full name, values as getxattr(2) gives them

  bool is_directory() const { return S_ISDIR(mode); }
  bool is_regular() const { return S_ISREG(mode); }
  bool is_symlink() const { return S_ISLNK(mode); }
};

using NodeId = uint32_t;

struct Node : Attributes {
  uint32_t names = 0;  // in how many directories it is
  NodeId parent = 0;   // where its first name is
  std::string name;    // that name
  std::map<std::string, NodeId, std::less<>> children;
};

class Tree {
 public:
  static constexpr NodeId kRoot = 0;
  static constexpr size_t kMaxName = 255;     // NAME_MAX
  static constexpr size_t kMaxTarget = 4095;  // PATH_MAX without the final zero

  Tree();

  const Node& node(NodeId id) const { return nodes_[id]; }
  Node& node(NodeId id) { return nodes_[id]; }
  // Of all NodeIds; some may have no name any more.
  size_t size() const { return nodes_.size(); }
  // All that have a name and the root, parents before children.
  std::vector<NodeId> reachable() const;
  // For sentences: "usr/bin/x", without what a terminal would take for a command.
  std::string path(NodeId id) const;

  // A new name in a directory that has no such name.
  Result<NodeId> add(NodeId directory, std::string_view name, Attributes attributes,
                     std::string& why);
  Result<> link(NodeId directory, std::string_view name, NodeId node, std::string& why);

  // As tar(1) extracts: by path, missing directories are made, and what comes later replaces what
  // was there. `path` may begin with '/' or "./"; ".." is an error.
  Result<> put(std::string_view path, Attributes attributes, std::string& why);
  // A hard link to what is already there.
  Result<> put_link(std::string_view path, std::string_view target, std::string& why);

 private:
  struct Place {
    NodeId directory;
    std::string_view name;  // empty: the root itself
  };
  // The directory that a path's last component is in. `like`: what directories that are missing
  // get owners and times of; null: they are an error.
  Result<Place> place_of(std::string_view path, const Attributes* like, std::string& why);
  Result<> make_way(const Place& place, std::string& why);

  std::deque<Node> nodes_;
};

// A name as it can be shown: in one line, control characters escaped, not endlessly long.
std::string shown(std::string_view name);

}  // namespace uk::mkimage
