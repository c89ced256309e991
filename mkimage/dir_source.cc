#include "mkimage/dir_source.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstring>

#include "hostio/sys/file.h"
#include "mkimage/text.h"

namespace uk::mkimage {
namespace {

constexpr int kDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

Time time_of(const struct timespec& t) { return {t.tv_sec, static_cast<uint32_t>(t.tv_nsec)}; }

Attributes attributes_of(const struct stat& st) {
  Attributes a;
  a.mode = st.st_mode;
  a.uid = st.st_uid;
  a.gid = st.st_gid;
  a.atime = time_of(st.st_atim);
  a.mtime = time_of(st.st_mtim);
  a.ctime = time_of(st.st_ctim);
  if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
    a.major = major(st.st_rdev);
    a.minor = minor(st.st_rdev);
  }
  if (!S_ISREG(st.st_mode)) return a;
  a.size = static_cast<uint64_t>(st.st_size);
  if (a.size > 0) a.segments = {{0, a.size, 0}};
  return a;
}

// Extended attributes of `path`, itself where it is a link. Those that cannot be read are not
// there.
std::map<std::string, std::string> xattrs_of(const std::string& path) {
  std::map<std::string, std::string> all;
  const Result<size_t> room = sys::llistxattr(path.c_str(), {});
  if (!room || *room == 0) return all;
  std::string names(*room, 0);
  const Result<size_t> length = sys::llistxattr(path.c_str(), names);
  names.resize(length ? *length : 0);
  for (size_t at = 0; at < names.size(); at += std::strlen(&names[at]) + 1) {
    std::string value(64 << 10, 0);  // XATTR_SIZE_MAX
    const Result<size_t> n =
        sys::lgetxattr(path.c_str(), &names[at], std::as_writable_bytes(std::span(value)));
    if (!n) continue;
    value.resize(*n);
    all.emplace(&names[at], value);
  }
  return all;
}

// The pieces of a file with holes.
Result<std::vector<Segment>> data_of(int fd, uint64_t size) {
  std::vector<Segment> pieces;
  for (uint64_t at = 0; at < size;) {
    const Result<uint64_t> from = sys::lseek(fd, static_cast<int64_t>(at), SEEK_DATA);
    if (!from && from.error() == Errno::kNXIO) break;
    if (!from) return Err(from.error());
    at = std::min(size, TRY(sys::lseek(fd, static_cast<int64_t>(*from), SEEK_HOLE)));
    if (*from < at) pieces.push_back({*from, at - *from, *from});
  }
  return pieces;
}

}  // namespace

std::unexpected<Errno> DirSource::fail(Errno error, std::string& why, const Tree& tree,
                                       NodeId directory, const std::string& name) const {
  why = cat(named(tree, directory), name.empty() ? "" : "/", shown(name), ": ", errno_text(error),
            "; run as a user who can read all of it, or give a tar archive of it");
  return Err(error);
}

std::string DirSource::named(const Tree& tree, NodeId id) const {
  return id == Tree::kRoot ? name_ : cat(name_, "/", tree.path(id));
}

Result<sys::Fd> DirSource::open_directory(const Tree& tree, NodeId id) const {
  std::vector<NodeId> way;
  for (; id != Tree::kRoot; id = tree.node(id).parent) way.push_back(id);
  sys::Fd at = TRY(sys::openat(root_.get(), ".", kDirectory));
  while (!way.empty()) {
    at = TRY(sys::openat(at.get(), tree.node(way.back()).name.c_str(), kDirectory));
    way.pop_back();
  }
  return at;
}

Result<> DirSource::scan(Tree& tree, std::vector<std::string>& notes, std::string& why) {
  const Result<struct stat> st = sys::fstat(root_.get());
  if (!st) return fail(st.error(), why, tree, Tree::kRoot);
  device_ = st->st_dev;
  static_cast<Attributes&>(tree.node(Tree::kRoot)) = attributes_of(*st);
  tree.node(Tree::kRoot).xattrs = xattrs_of(cat("/proc/self/fd/", root_.get(), "/."));
  identities_ = {{st->st_dev, st->st_ino}};
  std::vector<NodeId> to_do = {Tree::kRoot};
  while (!to_do.empty()) {
    const NodeId id = to_do.back();
    to_do.pop_back();
    TRY(scan_directory(tree, id, to_do, why));
  }
  if (mounts_left_out_ > 0)
    notes.push_back(cat(name_, ": ", mounts_left_out_,
                        " directories on which something else is mounted are empty in the image"));
  return {};
}

Result<> DirSource::scan_directory(Tree& tree, NodeId id, std::vector<NodeId>& found,
                                   std::string& why) {
  const Result<sys::Fd> fd = open_directory(tree, id);
  if (!fd) return fail(fd.error(), why, tree, id);
  alignas(struct dirent64) std::array<std::byte, 64 << 10> buffer;
  for (;;) {
    const Result<size_t> n = sys::getdents64(fd->get(), buffer);
    if (!n) return fail(n.error(), why, tree, id);
    if (*n == 0) return {};
    for (size_t at = 0; at < *n;) {
      const auto* entry = reinterpret_cast<const struct dirent64*>(&buffer[at]);
      at += entry->d_reclen;
      const std::string name = entry->d_name;
      if (name != "." && name != "..") TRY(add_entry(tree, id, fd->get(), name, found, why));
    }
  }
}

Result<> DirSource::add_entry(Tree& tree, NodeId directory, int fd, const std::string& name,
                              std::vector<NodeId>& found, std::string& why) {
  const auto failed = [&](Errno error) { return fail(error, why, tree, directory, name); };
  const Result<struct stat> st =
      sys::fstatat(fd, name.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT);
  if (!st && st.error() == Errno::kNOENT) return {};  // gone meanwhile
  if (!st) return failed(st.error());
  // A directory that changes may show a name twice.
  if (tree.node(directory).children.contains(name)) return {};
  const Identity identity = {st->st_dev, st->st_ino};
  const bool several = st->st_nlink > 1 && !S_ISDIR(st->st_mode);
  if (several) {
    const auto other = several_names_.find(identity);
    if (other != several_names_.end()) return tree.link(directory, name, other->second, why);
  }
  Attributes a = attributes_of(*st);
  if (a.is_symlink()) {
    Result<std::string> target = sys::readlinkat(fd, name.c_str());
    if (!target) return failed(target.error());
    a.target = std::move(*target);
  }
  a.xattrs = xattrs_of(cat("/proc/self/fd/", fd, "/", name));
  if (static_cast<uint64_t>(st->st_blocks) * 512 < a.size) {
    const Result<sys::Fd> file =
        sys::openat(fd, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (!file) return failed(file.error());
    Result<std::vector<Segment>> pieces = data_of(file->get(), a.size);
    if (!pieces) return failed(pieces.error());
    a.segments = std::move(*pieces);
  }
  const Result<NodeId> id = tree.add(directory, name, std::move(a), why);
  if (!id) {
    why = cat(named(tree, directory), "/", why, "; leave it out");
    return Err(id.error());
  }
  identities_.push_back(identity);
  if (several) several_names_[identity] = *id;
  if (S_ISDIR(st->st_mode)) {
    if (st->st_dev == device_) {
      found.push_back(*id);
    } else {
      ++mounts_left_out_;
    }
  }
  return {};
}

Result<int> DirSource::contents(const Tree& tree, NodeId id, std::string& why) {
  const Node& node = tree.node(id);
  const auto failed = [&](Errno error) { return fail(error, why, tree, id); };
  if (parent_of_last_ != node.parent) {
    Result<sys::Fd> parent = open_directory(tree, node.parent);
    if (!parent) return failed(parent.error());
    last_parent_ = std::move(*parent);
    parent_of_last_ = node.parent;
  }
  Result<sys::Fd> file = sys::openat(last_parent_.get(), node.name.c_str(),
                                     O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (!file) return failed(file.error());
  last_ = std::move(*file);
  const Result<struct stat> st = sys::fstat(last_.get());
  if (!st) return failed(st.error());
  if (Identity{st->st_dev, st->st_ino} != identities_[id] ||
      static_cast<uint64_t>(st->st_size) != node.size) {
    why = cat(named(tree, id),
              ": it has changed while it was read; try again when nobody writes there");
    return Err(Errno::kBUSY);
  }
  (void)sys::fadvise(last_.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  return last_.get();
}

}  // namespace uk::mkimage
