// A directory of the host as the source of an image. Directories on which something else is
// mounted are taken as empty ones.
//
// Ownership and errors: as source.h says. The directory may change while it is read: no symbolic
// link is followed, and a file that is not what it was when it was scanned is an error.
#pragma once

#include <utility>

#include "hostio/sys/fd.h"
#include "mkimage/source.h"

namespace uk::mkimage {

class DirSource final : public Source {
 public:
  // `root`: opened, a directory. `name`: for sentences.
  DirSource(sys::Fd root, std::string name) : root_(std::move(root)), name_(std::move(name)) {}

  Result<> scan(Tree& tree, std::vector<std::string>& notes, std::string& why) override;
  Result<int> contents(const Tree& tree, NodeId id, std::string& why) override;
  std::string named(const Tree& tree, NodeId id) const override;

 private:
  using Identity = std::pair<uint64_t, uint64_t>;  // device and inode
  std::unexpected<Errno> fail(Errno error, std::string& why, const Tree& tree, NodeId directory,
                              const std::string& name = "") const;
  // A descriptor of a directory of the tree, for reading.
  Result<sys::Fd> open_directory(const Tree& tree, NodeId id) const;
  Result<> scan_directory(Tree& tree, NodeId id, std::vector<NodeId>& found, std::string& why);
  Result<> add_entry(Tree& tree, NodeId directory, int fd, const std::string& name,
                     std::vector<NodeId>& found, std::string& why);

  const sys::Fd root_;
  const std::string name_;
  uint64_t device_ = 0;
  uint64_t mounts_left_out_ = 0;
  std::map<Identity, NodeId> several_names_;
  std::vector<Identity> identities_;  // by NodeId
  NodeId parent_of_last_ = UINT32_MAX;
  sys::Fd last_parent_, last_;
};

}  // namespace uk::mkimage
