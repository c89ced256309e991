#include "mkimage/tree.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "base/check.h"
#include "mkimage/text.h"

namespace uk::mkimage {
namespace {

constexpr uint32_t kDirectoryMode = S_IFDIR | 0755;

std::unexpected<Errno> fail(Errno error, std::string& why, std::string_view path,
                            std::string_view what) {
  why = cat(shown(path), ": ", what);
  return Err(error);
}

// The next component of a path, taken off its front; empty at the end.
std::string_view next_component(std::string_view& path) {
  std::string_view component;
  do {
    const size_t slash = std::min(path.find('/'), path.size());
    component = path.substr(0, slash);
    path.remove_prefix(std::min(slash + 1, path.size()));
  } while (!path.empty() && (component.empty() || component == "."));
  return component == "." ? std::string_view() : component;
}

}  // namespace

std::string shown(std::string_view name) {
  constexpr size_t kMost = 160;
  const bool cut = name.size() > kMost;
  return cat(absl::Utf8SafeCEscape(std::string(name.substr(0, kMost))), cut ? "..." : "");
}

Tree::Tree() {
  nodes_.emplace_back();
  nodes_[kRoot].mode = kDirectoryMode;
}

std::vector<NodeId> Tree::reachable() const {
  std::vector<bool> met(nodes_.size());
  std::vector<NodeId> order = {kRoot};
  for (size_t i = 0; i < order.size(); ++i) {
    for (const auto& [name, id] : nodes_[order[i]].children) {
      if (!met[id]) order.push_back(id);
      met[id] = true;
    }
  }
  return order;
}

std::string Tree::path(NodeId id) const {
  std::vector<std::string_view> names;
  for (; id != kRoot; id = nodes_[id].parent) names.push_back(nodes_[id].name);
  std::string path;
  for (size_t i = names.size(); i-- > 0;) path += cat(names[i], i > 0 ? "/" : "");
  return path.empty() ? "/" : shown(path);
}

Result<NodeId> Tree::add(NodeId directory, std::string_view name, Attributes attributes,
                         std::string& why) {
  const auto id = static_cast<NodeId>(nodes_.size());
  if (attributes.is_symlink() &&
      (attributes.target.empty() || attributes.target.size() > kMaxTarget ||
       attributes.target.find('\0') != std::string::npos))
    return fail(Errno::kINVAL, why, name, "a symbolic link to what cannot be a path");
  nodes_.emplace_back();
  static_cast<Attributes&>(nodes_.back()) = std::move(attributes);
  if (Result<> r = link(directory, name, id, why); !r) {
    nodes_.pop_back();
    return Err(r.error());
  }
  return id;
}

Result<> Tree::link(NodeId directory, std::string_view name, NodeId id, std::string& why) {
  if (name.size() > kMaxName)
    return fail(Errno::kNAMETOOLONG, why, name, "a name has at most 255 bytes");
  if (name.find('\0') != std::string_view::npos)
    return fail(Errno::kINVAL, why, name, "a zero byte in a name");
  if (nodes_[id].names == 0) {
    nodes_[id].parent = directory;
    nodes_[id].name = name;
  }
  ++nodes_[id].names;
  CHECK(nodes_[directory].children.emplace(name, id).second);
  return {};
}

Result<Tree::Place> Tree::place_of(std::string_view path, const Attributes* like,
                                   std::string& why) {
  std::string_view rest = path;
  NodeId at = kRoot;
  for (std::string_view name = next_component(rest);;) {
    if (name == "..") return fail(Errno::kINVAL, why, path, "'..' in a name");
    const std::string_view next = next_component(rest);
    if (next.empty()) return Place{at, name};
    const auto found = nodes_[at].children.find(name);
    if (found != nodes_[at].children.end()) {
      at = found->second;
    } else if (like == nullptr) {
      return fail(Errno::kNOENT, why, path, "is not in the archive before the link to it");
    } else {
      Attributes missing;
      missing.mode = kDirectoryMode;
      missing.atime = missing.mtime = missing.ctime = like->mtime;
      at = TRY(add(at, name, std::move(missing), why));
    }
    if (!nodes_[at].is_directory())
      return fail(Errno::kNOTDIR, why, path,
                  cat("its name leads through ", this->path(at), ", which is ",
                      nodes_[at].is_symlink() ? "a symbolic link" : "no directory"));
    name = next;
  }
}

// Takes away what has the name.
Result<> Tree::make_way(const Place& place, std::string& why) {
  auto& children = nodes_[place.directory].children;
  const auto found = children.find(place.name);
  if (found == children.end()) return {};
  Node& old = nodes_[found->second];
  if (!old.children.empty())
    return fail(Errno::kNOTEMPTY, why, path(found->second),
                "is a directory with files in it, and something else later");
  --old.names;  // path() goes on to say its first name
  children.erase(found);
  return {};
}

Result<> Tree::put(std::string_view path, Attributes attributes, std::string& why) {
  const Place place = TRY(place_of(path, &attributes, why));
  if (place.name.empty()) {
    if (!attributes.is_directory())
      return fail(Errno::kINVAL, why, path, "the root is no directory");
    static_cast<Attributes&>(nodes_[kRoot]) = std::move(attributes);
    return {};
  }
  const auto found = nodes_[place.directory].children.find(place.name);
  if (attributes.is_directory() && found != nodes_[place.directory].children.end() &&
      nodes_[found->second].is_directory()) {
    static_cast<Attributes&>(nodes_[found->second]) = std::move(attributes);
    return {};
  }
  TRY(make_way(place, why));
  TRY(add(place.directory, place.name, std::move(attributes), why));
  return {};
}

Result<> Tree::put_link(std::string_view path, std::string_view target, std::string& why) {
  const Place to = TRY(place_of(target, nullptr, why));
  const auto found = nodes_[to.directory].children.find(to.name);
  if (found == nodes_[to.directory].children.end())
    return fail(Errno::kNOENT, why, target, "is not in the archive before the link to it");
  const NodeId id = found->second;
  if (nodes_[id].is_directory())
    return fail(Errno::kPERM, why, target, "a hard link to a directory");
  const Place place = TRY(place_of(path, &nodes_[id], why));
  if (place.name.empty()) return fail(Errno::kINVAL, why, path, "the root is no directory");
  const auto old = nodes_[place.directory].children.find(place.name);
  if (old != nodes_[place.directory].children.end() && old->second == id) return {};
  TRY(make_way(place, why));
  return link(place.directory, place.name, id, why);
}

}  // namespace uk::mkimage
