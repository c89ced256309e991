// File capabilities (capabilities(7), "File capabilities"): the extended attribute
// security.capability, which execve(2) honours. Values; the bytes are guest input.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "ukernel/vfs/cred.h"

namespace uk {

constexpr std::string_view kFileCaps = "security.capability";

struct FileCaps {
  uint64_t permitted = 0, inheritable = 0;
  bool effective = false;
  uint32_t root = 0;  // the user who is root where they count (version 3)

  // struct vfs_cap_data, versions 2 and 3. kINVAL.
  static Result<FileCaps> parse(std::string_view bytes);
  // There is one user namespace: those of another do not count.
  bool ours() const { return root == 0; }
  // What somebody with `cred` gets of them.
  uint64_t granted(const Cred& cred) const {
    return (permitted & cred.cap_bounding) | (inheritable & cred.cap_inheritable);
  }
};

}  // namespace uk
