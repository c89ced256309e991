// Attributes of files: modes, owners, times, access checks, extended attributes.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "tests/oracle/run.h"
#include "tests/oracle/words.h"

namespace oracle {
namespace {

const Words kFollow{{{"0", 0, 60},
                     {"AT_SYMLINK_NOFOLLOW", AT_SYMLINK_NOFOLLOW, 30},
                     {"AT_EMPTY_PATH", AT_EMPTY_PATH, 15},
                     {"0x1", 1, 2}},
                    {}};
const Words kAccess{
    {{"F_OK", 0, 30}, {"R_OK", 4, 25}, {"W_OK", 2, 25}, {"X_OK", 1, 25}, {"7", 7, 10}, {"8", 8, 2}},
    {}};
const Words kAccessFlags{{{"0", 0, 50},
                          {"AT_EACCESS", AT_EACCESS, 20},
                          {"AT_SYMLINK_NOFOLLOW", AT_SYMLINK_NOFOLLOW, 20},
                          {"AT_EMPTY_PATH", AT_EMPTY_PATH, 10},
                          {"0x1", 1, 2}},
                         {}};
// Seconds of a time, and as nanoseconds UTIME_NOW, UTIME_OMIT and a wrong one.
const Words kSeconds = numbers({0, 1, 1000, 999999999});
const Words kNanoseconds = numbers({0, 1, 999999999, UTIME_NOW, UTIME_OMIT, 1000000000});
// Names as indices, as there is no kind of its own for them.
constexpr const char* kNames[] = {"user.a",
                                  "user.b",
                                  "user.long",
                                  "trusted.a",
                                  "security.a",
                                  "system.a",
                                  "user.",
                                  "user",
                                  "other.a",
                                  "",
                                  "system.posix_acl_access",
                                  "user.a"};
const Words kName{{{"user.a", 0, 40},
                   {"user.b", 1, 20},
                   {"user.long", 2, 10},
                   {"trusted.a", 3, 10},
                   {"security.a", 4, 6},
                   {"system.a", 5, 2},
                   {"user.", 6, 2},
                   {"user", 7, 2},
                   {"other.a", 8, 2},
                   {"empty", 9, 2}},
                  {}};
const Words kXattrSizes = numbers({0, 1, 5, 20, 20, 100, 1000, 5000, 65536, 65537});
const Words kRoom = numbers({0, 0, 1, 5, 20, 100, 1000, 65536, 131072});
const Words kSet{{{"0", 0, 50},
                  {"XATTR_CREATE", XATTR_CREATE, 25},
                  {"XATTR_REPLACE", XATTR_REPLACE, 25},
                  {"3", 3, 1},
                  {"4", 4, 1}},
                 {}};

const char* name(Run& r, int i) { return kNames[static_cast<size_t>(r.n(i)) % std::size(kNames)]; }

void listed(Run& r, long n, const char* list, bool counted) {
  r.ret(n);
  if (n <= 0 || counted) return;
  // The order is the filesystem's own.
  std::vector<std::string> found;
  for (long at = 0; at < n; at += static_cast<long>(strlen(list + at)) + 1)
    found.push_back(list + at);
  std::sort(found.begin(), found.end());
  for (const auto& f : found) r.log(" %s", f.c_str());
}

}  // namespace

void Run::statx(const struct statx& st) {
  log(" {#%ld mask %x mode %o nlink %u uid %u gid %u size %lu blocks %lu blksize %u attributes "
      "%lx/%lx",
      ino(st.stx_ino, 0), st.stx_mask & STATX_BASIC_STATS, st.stx_mode, st.stx_nlink, st.stx_uid,
      st.stx_gid, static_cast<unsigned long>(st.stx_size),
      shared_->faulty_writes ? 0ul : static_cast<unsigned long>(st.stx_blocks), st.stx_blksize,
      static_cast<unsigned long>(st.stx_attributes), static_cast<unsigned long>(0));
  time(st.stx_atime.tv_sec, st.stx_atime.tv_nsec);
  time(st.stx_mtime.tv_sec, st.stx_mtime.tv_nsec);
  log("}");
}

void add_attribute_calls(std::vector<Desc>* out) {
  out->insert(
      out->end(),
      {
          {"fchmodat",
           kTree | kXattrs,
           8,
           {at(), path(), mode(kModes)},
           [](Run& r) { r.ret(r.sys_(SYS_fchmodat, r.fd(0), r.path(1), r.n(2))); }},
          {"fchmodat2",
           kTree,
           3,
           {at(), path(), mode(kModes), words(kFollow)},
           [](Run& r) { r.ret(r.sys_(452, r.fd(0), r.path(1), r.n(2), r.n(3))); }},
          {"fchmod",
           kTree | kFiles,
           4,
           {fd(kFile | kDir), mode(kModes)},
           [](Run& r) { r.ret(r.sys_(SYS_fchmod, r.fd(0), r.n(1))); }},
          {"fchownat",
           kTree | kXattrs,
           6,
           {at(), path(), number(kIds), number(kIds), words(kFollow)},
           [](Run& r) { r.ret(r.sys_(SYS_fchownat, r.fd(0), r.path(1), r.n(2), r.n(3), r.n(4))); }},
          {"fchown",
           kTree | kFiles,
           3,
           {fd(kFile | kDir), number(kIds), number(kIds)},
           [](Run& r) { r.ret(r.sys_(SYS_fchown, r.fd(0), r.n(1), r.n(2))); }},
          {"utimensat",
           kTree | kFiles,
           12,
           {at(), path(), number(kSeconds), number(kNanoseconds), number(kNanoseconds),
            words(kFollow)},
           [](Run& r) {
             timespec t[2] = {{r.n(2), r.n(3)}, {r.n(2) + 1, r.n(4)}};
             r.ret(r.sys_(SYS_utimensat, r.fd(0), r.path(1), t, r.n(5)));
           }},
          {"futimens",
           kFiles,
           8,
           {fd(kFile), number(kSeconds), number(kNanoseconds), number(kNanoseconds)},
           [](Run& r) {
             timespec t[2] = {{r.n(1), r.n(2)}, {r.n(1) + 1, r.n(3)}};
             r.ret(r.sys_(SYS_utimensat, r.fd(0), 0, t, 0));
           }},
          {"faccessat2",
           kTree,
           6,
           {at(), path(), words(kAccess), words(kAccessFlags)},
           [](Run& r) { r.ret(r.sys_(SYS_faccessat2, r.fd(0), r.path(1), r.n(2), r.n(3))); }},
          {"setxattr",
           kXattrs,
           25,
           {path(), words(kName), number(kXattrSizes), words(kSet)},
           [](Run& r) {
             r.ret(r.sys_(SYS_setxattr, r.path(0), name(r, 1), r.data(4), r.n(2), r.n(3)));
           }},
          {"lsetxattr",
           kXattrs,
           5,
           {path(), words(kName), number(kXattrSizes), words(kSet)},
           [](Run& r) {
             r.ret(r.sys_(SYS_lsetxattr, r.path(0), name(r, 1), r.data(4), r.n(2), r.n(3)));
           }},
          {"fsetxattr",
           kXattrs,
           10,
           {fd(kFile | kDir), words(kName), number(kXattrSizes), words(kSet)},
           [](Run& r) {
             if (r.is_pidfd(0)) return r.skip("pidfd");
             r.ret(r.sys_(SYS_fsetxattr, r.fd(0), name(r, 1), r.data(4), r.n(2), r.n(3)));
           }},
          {"getxattr",
           kXattrs,
           12,
           {path(), words(kName), number(kRoom)},
           [](Run& r) {
             long n = r.sys_(SYS_getxattr, r.path(0), name(r, 1), r.buf(4), r.n(2));
             r.ret(n);
             if (r.n(2) > 0) r.bytes(r.buf(4), n);
           }},
          {"lgetxattr",
           kXattrs,
           4,
           {path(), words(kName), number(kRoom)},
           [](Run& r) { r.ret(r.sys_(SYS_lgetxattr, r.path(0), name(r, 1), r.buf(4), r.n(2))); }},
          {"fgetxattr",
           kXattrs,
           6,
           {fd(kFile | kDir), words(kName), number(kRoom)},
           [](Run& r) {
             if (r.is_pidfd(0)) return r.skip("pidfd");
             r.ret(r.sys_(SYS_fgetxattr, r.fd(0), name(r, 1), r.buf(4), r.n(2)));
           }},
          {"listxattr",
           kXattrs,
           10,
           {path(), number(kRoom)},
           [](Run& r) {
             listed(r, r.sys_(SYS_listxattr, r.path(0), r.buf(4), r.n(1)), r.buf(4), r.n(1) == 0);
           }},
          {"flistxattr",
           kXattrs,
           5,
           {fd(kFile | kDir), number(kRoom)},
           [](Run& r) {
             listed(r, r.sys_(SYS_flistxattr, r.fd(0), r.buf(4), r.n(1)), r.buf(4), r.n(1) == 0);
           }},
          {"removexattr",
           kXattrs,
           8,
           {path(), words(kName)},
           [](Run& r) { r.ret(r.sys_(SYS_removexattr, r.path(0), name(r, 1))); }},
          {"fremovexattr",
           kXattrs,
           4,
           {fd(kFile | kDir), words(kName)},
           [](Run& r) {
             if (r.is_pidfd(0)) return r.skip("pidfd");
             r.ret(r.sys_(SYS_fremovexattr, r.fd(0), name(r, 1)));
           }},
      });
}

}  // namespace oracle
