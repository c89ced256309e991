// POSIX access control lists (acl(5)): more entries than owner, group and others. They are kept as
// extended attributes in the form of setxattr(2) ("system.posix_acl_access" and "_default").
//
// Ownership: values. The text form is guest input: parse() checks all of it. Nothing here suspends.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace uk {

struct Cred;
struct FileAttr;

constexpr std::string_view kAclAccess = "system.posix_acl_access";
constexpr std::string_view kAclDefault = "system.posix_acl_default";
// FileAttr::attributes of a file that has one of these; not shown to guests.
constexpr uint64_t kAttrHasAcl = 1ull << 63;

class PosixAcl {
 public:
  enum Tag : uint16_t {
    kUserObj = 1,
    kUser = 2,
    kGroupObj = 4,
    kGroup = 8,
    kMask = 16,
    kOther = 32,
  };
  struct Entry {
    uint16_t tag, perm;
    uint32_t id;
  };

  // Nothing: an empty list, which stands for none. kINVAL; kOPNOTSUPP (another version).
  static Result<std::optional<PosixAcl>> parse(std::string_view bytes);
  std::string bytes() const;
  // kINVAL unless entries are in order, allowed, and have the mask they need.
  Result<> check() const;
  // `may`: kMayRead, ... of somebody who does not own the file.
  bool allows(const Cred& cred, const FileAttr& attr, uint32_t may) const;
  // Permission bits that say the same; sets `exact` if they say all.
  uint32_t mode(bool* exact) const;
  // For a new file made with `mode`: takes rights away here and there. kIO: it is not whole.
  Result<> mask_for_new(uint32_t* mode, bool* exact);
  // chmod(2).
  Result<> change_mode(uint32_t mode);

 private:
  Entry* find(uint16_t tag);
  std::vector<Entry> entries_;
};

}  // namespace uk
