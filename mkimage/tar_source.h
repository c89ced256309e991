// A tar archive in a file as the source of an image: as root would extract it, owners and devices
// included, into nothing. Names that lead through symbolic links of the archive are errors.
//
// Ownership and errors: as source.h says.
#pragma once

#include "hostio/sys/fd.h"
#include "mkimage/source.h"

namespace uk::mkimage {

class TarSource final : public Source {
 public:
  // `archive`: a regular file of so many bytes, not compressed. `name`: for sentences.
  TarSource(sys::Fd archive, uint64_t bytes, std::string name)
      : archive_(std::move(archive)), bytes_(bytes), name_(std::move(name)) {}

  Result<> scan(Tree& tree, std::vector<std::string>& notes, std::string& why) override;
  Result<int> contents(const Tree&, NodeId, std::string&) override { return archive_.get(); }
  std::string named(const Tree& tree, NodeId id) const override;

 private:
  const sys::Fd archive_;
  const uint64_t bytes_;
  const std::string name_;
};

}  // namespace uk::mkimage
