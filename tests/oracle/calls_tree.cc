// Names: directories, links, renames, and where a process stands among them.
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "tests/oracle/run.h"
#include "tests/oracle/words.h"

namespace oracle {
namespace {

const Words kUnlink{{{"0", 0, 70}, {"AT_REMOVEDIR", AT_REMOVEDIR, 28}, {"0x1", 1, 2}}, {}};
const Words kLink{{{"0", 0, 70},
                   {"AT_SYMLINK_FOLLOW", AT_SYMLINK_FOLLOW, 20},
                   {"AT_EMPTY_PATH", AT_EMPTY_PATH, 10}},
                  {}};
const Words kRename{
    {{"0", 0, 60}, {"RENAME_NOREPLACE", 1, 20}, {"RENAME_EXCHANGE", 2, 20}, {"3", 3, 2}}, {}};
const Words kStatFlags{
    {{"0", 0, 60}, {"AT_SYMLINK_NOFOLLOW", AT_SYMLINK_NOFOLLOW, 40}},
    {{"AT_EMPTY_PATH", AT_EMPTY_PATH, 20}, {"AT_NO_AUTOMOUNT", AT_NO_AUTOMOUNT, 5}, {"0x1", 1, 1}}};
// Times that are not asked for are given or not as the filesystem likes.
const Words kMask{{{"STATX_BASIC_STATS", STATX_BASIC_STATS, 60}},
                  {{"STATX_BTIME", STATX_BTIME, 20}}};
const Words kNode{{{"S_IFIFO", S_IFIFO, 40},
                   {"S_IFREG", S_IFREG, 25},
                   {"S_IFSOCK", S_IFSOCK, 15},
                   {"0", 0, 10},
                   {"S_IFDIR", S_IFDIR, 3},
                   {"S_IFLNK", S_IFLNK, 3},
                   {"0170000", 0170000, 2}},
                  {{"0600", 0600, 60}, {"0044", 0044, 40}}};
const Words kMasks = numbers({0, 022, 077, 0777, 027, 0111});
const Words kSmall = numbers({0, 1, 2, 5, 100, 4096, -1});
const Words kResolve{{{"0", 0, 30},
                      {"RESOLVE_BENEATH", RESOLVE_BENEATH, 20},
                      {"RESOLVE_IN_ROOT", RESOLVE_IN_ROOT, 15},
                      {"RESOLVE_NO_SYMLINKS", RESOLVE_NO_SYMLINKS, 20},
                      {"RESOLVE_NO_XDEV", RESOLVE_NO_XDEV, 10},
                      {"RESOLVE_NO_MAGICLINKS", RESOLVE_NO_MAGICLINKS, 5},
                      {"0x1000", 0x1000, 1}},
                     {}};
const Words kOpen2{{{"O_RDONLY", O_RDONLY, 40}, {"O_RDWR", O_RDWR, 40}, {"O_PATH", O_PATH, 20}},
                   {{"O_CREAT", O_CREAT, 30},
                    {"O_DIRECTORY", O_DIRECTORY, 15},
                    {"O_NONBLOCK", O_NONBLOCK, 98},
                    {"O_NOFOLLOW", O_NOFOLLOW, 10},
                    {"0x80000000", 0x80000000, 1}}};

// Lists a directory from where it stands, sorted: the order is the filesystem's own.
void list(Run& r) {
  alignas(8) static char buffer[32768];
  long n = r.sys_(SYS_getdents64, r.fd(0), buffer, sizeof buffer);
  r.ret(n < 0 ? n : n > 0);
  std::vector<std::string> lines;
  for (long at = 0; at < n;) {
    auto* e = reinterpret_cast<struct dirent64*>(buffer + at);
    at += e->d_reclen;
    lines.push_back(std::string(e->d_name) + "/" + std::to_string(e->d_type));
  }
  std::sort(lines.begin(), lines.end());
  for (const auto& l : lines) r.log(" %s", l.c_str());
}

void cwd(Run& r) {
  char path[4096];
  long size = std::min<long>(static_cast<unsigned long>(r.n(0)), sizeof path);
  bool whole = size == sizeof path;
  long n = r.sys_(SYS_getcwd, path, whole ? sizeof path : static_cast<size_t>(size));
  if (n < 0) return r.ret(n);
  // Without a root of its own the sequence stands at the end of a path that is not its business.
  const char* inside = strstr(path, "/1/2/3/4/5/6");
  r.log(" -> %s", inside != nullptr ? inside + 12 : path);
}

}  // namespace

void add_tree_calls(std::vector<Desc>* out) {
  out->insert(
      out->end(),
      {
          {"mkdirat",
           kTree | kFds | kXattrs,
           22,
           {at(), path(), mode(kModes)},
           [](Run& r) { r.ret(r.sys_(SYS_mkdirat, r.fd(0), r.path(1), r.n(2))); }},
          {"unlinkat",
           kTree | kFiles,
           12,
           {at(), path(), words(kUnlink)},
           [](Run& r) { r.ret(r.sys_(SYS_unlinkat, r.fd(0), r.path(1), r.n(2))); }},
          {"rmdir", kTree, 6, {path()}, [](Run& r) { r.ret(r.sys_(SYS_rmdir, r.path(0))); }},
          {"linkat",
           kTree,
           12,
           {at(), path(), at(), path(), words(kLink)},
           [](Run& r) {
             r.ret(r.sys_(SYS_linkat, r.fd(0), r.path(1), r.fd(2), r.path(3), r.n(4)));
           }},
          {"symlinkat",
           kTree,
           12,
           {path(), at(), path()},
           [](Run& r) {
             if (r.dots(0)) return r.skip("such links could lead far out of the scratch directory");
             r.ret(r.sys_(SYS_symlinkat, r.path(0), r.fd(1), r.path(2)));
           }},
          {"readlinkat",
           kTree,
           6,
           {at(), path(), number(kSizes)},
           [](Run& r) {
             long n =
                 r.sys_(SYS_readlinkat, r.fd(0), r.path(1), r.buf(3), static_cast<int>(r.n(2)));
             r.ret(n);
             r.bytes(r.buf(3), n);
           }},
          {"renameat2",
           kTree,
           25,
           {at(), path(), at(), path(), words(kRename)},
           [](Run& r) {
             r.ret(r.sys_(SYS_renameat2, r.fd(0), r.path(1), r.fd(2), r.path(3), r.n(4)));
           }},
          {"newfstatat",
           kTree | kXattrs,
           15,
           {at(), path(), words(kStatFlags)},
           [](Run& r) {
             struct stat st;
             long n = r.sys_(SYS_newfstatat, r.fd(0), r.path(1), &st, r.n(2));
             r.ret(n);
             if (n == 0) r.stat(st);
           }},
          {"statx",
           kTree,
           8,
           {at(), path(), words(kStatFlags), words(kMask)},
           [](Run& r) {
             struct statx st {};
             long n = r.sys_(SYS_statx, r.fd(0), r.path(1), r.n(2), r.n(3), &st);
             r.ret(n);
             if (n == 0) r.statx(st);
           }},
          {"mknodat",
           kTree,
           8,
           {at(), path(), words(kNode)},
           [](Run& r) { r.ret(r.sys_(SYS_mknodat, r.fd(0), r.path(1), r.n(2), 0)); }},
          {"getdents64", kTree, 8, {fd(kDir)}, list},
          {"rewind",
           kTree,
           3,
           {fd(kDir)},
           [](Run& r) { r.ret(r.sys_(SYS_lseek, r.fd(0), 0, SEEK_SET)); }},
          {"chdir",
           kTree,
           5,
           {path()},
           [](Run& r) {
             if (r.dots(0)) return r.skip("a step up is a step out");
             r.ret(r.sys_(SYS_chdir, r.path(0)));
           }},
          {"fchdir",
           kTree | kFds,
           4,
           {fd(kDir)},
           [](Run& r) { r.ret(r.sys_(SYS_fchdir, r.fd(0))); }},
          {"getcwd", kTree, 4, {number(kSmall)}, cwd},
          {"umask",
           kTree | kFiles,
           3,
           {number(kMasks)},
           [](Run& r) { r.ret(r.sys_(SYS_umask, r.n(0))); }},
          {"statfs",
           kTree,
           2,
           {path()},
           [](Run& r) {
             struct statfs s {};
             long n = r.sys_(SYS_statfs, r.path(0), &s);
             r.ret(n);
             if (n == 0)
               r.log(" type %lx bsize %ld namelen %ld frsize %ld", s.f_type, s.f_bsize, s.f_namelen,
                     s.f_frsize);
           }},
          {"openat2",
           kTree,
           12,
           {at(), path(), words(kOpen2), words(kResolve)},
           [](Run& r) {
             open_how how{};
             how.flags = static_cast<uint64_t>(r.n(2));
             how.mode = (how.flags & O_CREAT) != 0 ? 0640 : 0;
             how.resolve = static_cast<uint64_t>(r.n(3));
             r.ret_fd(r.sys_(SYS_openat2, r.fd(0), r.path(1), &how, sizeof how));
           },
           kFile,
           1},
      });
}

}  // namespace oracle
