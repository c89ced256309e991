// Open files: opening, reading, writing, sizes, descriptors, locks.
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/oracle/run.h"
#include "tests/oracle/words.h"

namespace oracle {
namespace {

const Words kOpen{{{"O_RDONLY", O_RDONLY, 20}, {"O_WRONLY", O_WRONLY, 15}, {"O_RDWR", O_RDWR, 60}},
                  {{"O_TMPFILE", O_TMPFILE, 2},
                   {"O_CREAT", O_CREAT, 55},
                   {"O_EXCL", O_EXCL, 8},
                   {"O_TRUNC", O_TRUNC, 12},
                   {"O_APPEND", O_APPEND, 10},
                   {"O_NONBLOCK", O_NONBLOCK, 97},
                   {"O_CLOEXEC", O_CLOEXEC, 15},
                   {"O_DIRECTORY", O_DIRECTORY, 5},
                   {"O_NOFOLLOW", O_NOFOLLOW, 8},
                   {"O_PATH", O_PATH, 6},
                   {"O_NOATIME", O_NOATIME, 4},
                   {"O_SYNC", O_SYNC, 3},
                   {"O_DSYNC", O_DSYNC, 3},
                   {"O_DIRECT", O_DIRECT, 2},
                   {"O_NOCTTY", O_NOCTTY, 3},
                   {"O_ASYNC", O_ASYNC, 1}}};
const Words kOpenDir{
    {{"O_DIRECTORY", O_DIRECTORY, 80}, {"O_PATH|O_DIRECTORY", O_PATH | O_DIRECTORY, 20}},
    {{"O_CLOEXEC", O_CLOEXEC, 10}, {"O_NOFOLLOW", O_NOFOLLOW, 10}}};
const Words kMemfd{
    {{"MFD_ALLOW_SEALING", MFD_ALLOW_SEALING, 80}, {"0", 0, 20}},
    {{"MFD_CLOEXEC", MFD_CLOEXEC, 30}, {"MFD_NOEXEC_SEAL", 8, 5}, {"MFD_EXEC", 0x10, 5}}};
const Words kSeals{{},
                   {{"F_SEAL_SEAL", F_SEAL_SEAL, 10},
                    {"F_SEAL_SHRINK", F_SEAL_SHRINK, 30},
                    {"F_SEAL_GROW", F_SEAL_GROW, 30},
                    {"F_SEAL_WRITE", F_SEAL_WRITE, 20},
                    {"F_SEAL_FUTURE_WRITE", 0x10, 15},
                    {"F_SEAL_EXEC", 0x20, 5}}};
const Words kWhence{{ORACLE_WORD(SEEK_SET),
                     ORACLE_WORD(SEEK_CUR),
                     ORACLE_WORD(SEEK_END),
                     ORACLE_WORD(SEEK_DATA),
                     ORACLE_WORD(SEEK_HOLE),
                     {"9", 9, 1}},
                    {}};
const Words kSeeks =
    numbers({0, 0, 1, 10, 4096, 5000, 65536, -1, -10, -4096, 1048576, 0x7fffffffffffffff});
const Words kLengths = numbers(
    {0, 1, 10, 100, 4095, 4096, 4097, 10000, 65536, 1048576, 1048577, -1, 0x7fffffffffffffff});
const Words kFallocate{
    {{"0", 0, 40},
     {"FALLOC_FL_KEEP_SIZE", FALLOC_FL_KEEP_SIZE, 20},
     {"FALLOC_FL_PUNCH_HOLE", FALLOC_FL_PUNCH_HOLE, 3},
     {"FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 30},
     {"FALLOC_FL_ZERO_RANGE", FALLOC_FL_ZERO_RANGE, 3},
     {"FALLOC_FL_COLLAPSE_RANGE", FALLOC_FL_COLLAPSE_RANGE, 2},
     {"FALLOC_FL_INSERT_RANGE", FALLOC_FL_INSERT_RANGE, 2}},
    {}};
const Words kFallocLengths = numbers({0, 1, 100, 4096, 4097, 8192, 65536, 1048576, -1});
const Words kRwf{{{"0", 0, 60},
                  {"RWF_APPEND", RWF_APPEND, 20},
                  {"RWF_DSYNC", RWF_DSYNC, 5},
                  {"RWF_HIPRI", RWF_HIPRI, 5},
                  {"0x4000", 0x4000, 3}},
                 {}};
const Words kPipeFlags{{{"O_NONBLOCK", O_NONBLOCK, 97}, {"0", 0, 3}},
                       {{"O_CLOEXEC", O_CLOEXEC, 20}, {"O_DIRECT", O_DIRECT, 10}}};
const Words kDupTo = numbers({3, 4, 5, 6, 8, 10, 20, 39, 40, 41, 64, -1});
const Words kCloexec{{{"0", 0, 50}, {"O_CLOEXEC", O_CLOEXEC, 50}, {"O_NONBLOCK", O_NONBLOCK, 2}},
                     {}};
const Words kStatusFlags{{{"O_NONBLOCK", O_NONBLOCK, 95}, {"0", 0, 5}},
                         {{"O_APPEND", O_APPEND, 30},
                          {"O_RDWR", O_RDWR, 5},
                          {"O_NOATIME", O_NOATIME, 5},
                          {"O_CREAT", O_CREAT, 5},
                          {"O_ASYNC", O_ASYNC, 3},
                          {"O_DIRECT", O_DIRECT, 3},
                          {"O_SYNC", O_SYNC, 5}}};
const Words kDupCommand{{ORACLE_WORD(F_DUPFD), ORACLE_WORD(F_DUPFD_CLOEXEC)}, {}};
const Words kPipeSizes = numbers({0, 1, 4096, 5000, 65536, 131072, 1048576, -1});
const Words kLockCommand{{ORACLE_WORD(F_SETLK), ORACLE_WORD(F_GETLK), ORACLE_WORD(F_OFD_SETLK),
                          ORACLE_WORD(F_OFD_GETLK)},
                         {}};
const Words kLockType{
    {ORACLE_WORD(F_RDLCK), ORACLE_WORD(F_WRLCK), ORACLE_WORD(F_UNLCK), {"7", 7, 1}}, {}};
const Words kLockAt = numbers({0, 0, 5, 10, 20, 100, -5, -1});
const Words kLockLength = numbers({0, 1, 5, 10, 100, -1, -5, 0x7fffffffffffffff});
const Words kLockWhence{{{"SEEK_SET", SEEK_SET, 80},
                         {"SEEK_CUR", SEEK_CUR, 10},
                         {"SEEK_END", SEEK_END, 10},
                         {"5", 5, 1}},
                        {}};
const Words kFlock{{{"LOCK_SH", LOCK_SH}, {"LOCK_EX", LOCK_EX}, {"LOCK_UN", LOCK_UN}, {"0", 0, 1}},
                   {{"LOCK_NB", LOCK_NB, 97}}};
const Words kCloseRange{
    {{"0", 0, 80}, {"CLOSE_RANGE_CLOEXEC", 4, 15}, {"CLOSE_RANGE_UNSHARE", 2, 15}, {"1", 1, 1}},
    {}};
const Words kRangeFds = numbers({3, 4, 5, 6, 7, 8, 10, 12, 20, 40, -1});
const Words kAdvice = numbers({0, 1, 2, 3, 4, 5, 6});
const Words kSyncRange = numbers({0, 1, 2, 4, 7, 8});
const Words kLease{{ORACLE_WORD(F_RDLCK), ORACLE_WORD(F_WRLCK), ORACLE_WORD(F_UNLCK)}, {}};
const Words kRequest{{ORACLE_WORD(FIONREAD),
                      ORACLE_WORD(FIONBIO),
                      ORACLE_WORD(FIOCLEX),
                      ORACLE_WORD(FIONCLEX),
                      ORACLE_WORD(TIOCGWINSZ),
                      ORACLE_WORD(FS_IOC_GETFLAGS),
                      ORACLE_WORD(FIGETBSZ),
                      {"0x1234", 0x1234, 2}},
                     {}};

// The middle of one buffer in three pieces, the second empty.
int pieces(char* base, long n, iovec* v) {
  v[0] = {base, static_cast<size_t>(n / 3)};
  v[1] = {base, 0};
  v[2] = {base + n / 3, static_cast<size_t>(n - n / 3)};
  return 3;
}

void read_result(Run& r, long n, int buffer) {
  r.ret(n);
  r.bytes(r.buf(buffer), n);
}

void lock(Run& r) {
  struct flock l {};
  l.l_type = static_cast<short>(r.n(2));
  l.l_whence = static_cast<short>(r.n(3));
  l.l_start = r.n(4);
  l.l_len = r.n(5);
  long result = r.sys_(SYS_fcntl, r.fd(0), r.n(1), &l);
  r.ret(result);
  if (result == 0 && (r.n(1) == F_GETLK || r.n(1) == F_OFD_GETLK)) {
    int p = r.process_of(l.l_pid);
    r.log(" {%d %d %ld %ld %s%d}", l.l_type, l.l_whence, l.l_start, l.l_len, p >= 0 ? "p" : "",
          p >= 0 ? p : l.l_pid);
  }
}

}  // namespace

void add_file_calls(std::vector<Desc>* out) {
  const uint32_t all = kFiles | kPipes | kSockets;
  out->insert(
      out->end(),
      {
          {"openat",
           kFiles | kTree | kXattrs | kFds,
           40,
           {at(), path(), words(kOpen), mode(kModes)},
           [](Run& r) { r.ret_fd(r.sys_(SYS_openat, r.fd(0), r.path(1), r.n(2), r.n(3))); },
           kFile,
           1},
          {"opendir",
           kTree | kFds,
           15,
           {at(), path(), words(kOpenDir)},
           [](Run& r) { r.ret_fd(r.sys_(SYS_openat, r.fd(0), r.path(1), r.n(2), 0)); },
           kDir,
           1},
          {"memfd_create",
           kFiles | kMemory,
           8,
           {words(kMemfd)},
           [](Run& r) { r.ret_fd(r.sys_(SYS_memfd_create, "name", r.n(0))); },
           kFile,
           1},
          {"pipe2",
           kPipes | kEvents | kFds,
           25,
           {words(kPipeFlags)},
           [](Run& r) {
             int fds[2] = {-7, -7};
             long n = r.sys_(SYS_pipe2, fds, r.n(0));
             if (n < 0) return r.ret(n);
             r.ret_fd(fds[0], 0);
             r.ret_fd(fds[1], 1);
           },
           kPipe,
           2},
          {"close",
           all | kTree | kEvents | kFds,
           10,
           {fd()},
           [](Run& r) { r.ret(r.sys_(SYS_close, r.fd(0))); }},
          {"read",
           all | kEvents,
           25,
           {fd(kData), buffer(), number(kSizes)},
           [](Run& r) { read_result(r, r.sys_(SYS_read, r.fd(0), r.buf(1), r.n(2)), 1); }},
          {"write",
           all | kEvents,
           35,
           {fd(kData), buffer(), number(kSizes)},
           [](Run& r) { r.ret(r.sys_(SYS_write, r.fd(0), r.data(1), r.n(2))); }},
          {"pread64",
           kFiles,
           10,
           {fd(kFile), buffer(), number(kSizes), number(kOffsets)},
           [](Run& r) {
             read_result(r, r.sys_(SYS_pread64, r.fd(0), r.buf(1), r.n(2), r.n(3)), 1);
           }},
          {"pwrite64",
           kFiles,
           12,
           {fd(kFile), buffer(), number(kSizes), number(kOffsets)},
           [](Run& r) { r.ret(r.sys_(SYS_pwrite64, r.fd(0), r.data(1), r.n(2), r.n(3))); }},
          {"readv",
           all,
           6,
           {fd(kData), buffer(), number(kSizes)},
           [](Run& r) {
             iovec v[3];
             int n = pieces(r.buf(1), r.n(2), v);
             read_result(r, r.sys_(SYS_readv, r.fd(0), v, n), 1);
           }},
          {"writev",
           all,
           6,
           {fd(kData), buffer(), number(kSizes)},
           [](Run& r) {
             iovec v[3];
             int n = pieces(const_cast<char*>(r.data(1)), r.n(2), v);
             r.ret(r.sys_(SYS_writev, r.fd(0), v, n));
           }},
          {"preadv2",
           kFiles,
           5,
           {fd(kFile), buffer(), number(kSizes), number(kOffsets), words(kRwf)},
           [](Run& r) {
             iovec v[3];
             int n = pieces(r.buf(1), r.n(2), v);
             read_result(r, r.sys_(SYS_preadv2, r.fd(0), v, n, r.n(3), 0, r.n(4)), 1);
           }},
          {"pwritev2",
           kFiles,
           5,
           {fd(kFile), buffer(), number(kSizes), number(kOffsets), words(kRwf)},
           [](Run& r) {
             iovec v[3];
             int n = pieces(const_cast<char*>(r.data(1)), r.n(2), v);
             r.ret(r.sys_(SYS_pwritev2, r.fd(0), v, n, r.n(3), 0, r.n(4)));
           }},
          {"lseek",
           kFiles,
           15,
           {fd(kFile), number(kSeeks), words(kWhence)},
           [](Run& r) { r.ret(r.sys_(SYS_lseek, r.fd(0), r.n(1), r.n(2))); }},
          {"ftruncate",
           kFiles | kMemory,
           12,
           {fd(kFile), number(kLengths)},
           [](Run& r) { r.ret(r.sys_(SYS_ftruncate, r.fd(0), r.n(1))); }},
          {"truncate",
           kFiles | kTree,
           5,
           {path(), number(kLengths)},
           [](Run& r) { r.ret(r.sys_(SYS_truncate, r.path(0), r.n(1))); }},
          {"fallocate",
           kFiles | kMemory,
           12,
           {fd(kFile), words(kFallocate), number(kOffsets), number(kFallocLengths)},
           [](Run& r) {
             if (r.is_pidfd(0)) return r.skip("pidfd");
             r.ret(r.sys_(SYS_fallocate, r.fd(0), r.n(1), r.n(2), r.n(3)));
           }},
          {"fsync", kFiles, 2, {fd()}, [](Run& r) { r.ret(r.sys_(SYS_fsync, r.fd(0))); }},
          {"fdatasync", kFiles, 2, {fd()}, [](Run& r) { r.ret(r.sys_(SYS_fdatasync, r.fd(0))); }},
          {"syncfs", kFiles, 1, {fd()}, [](Run& r) { r.ret(r.sys_(SYS_syncfs, r.fd(0))); }},
          {"sync_file_range",
           kFiles,
           2,
           {fd(), number(kOffsets), number(kFallocLengths), number(kSyncRange)},
           [](Run& r) {
             if (r.is_pidfd(0)) return r.skip("pidfd");
             r.ret(r.sys_(SYS_sync_file_range, r.fd(0), r.n(1), r.n(2), r.n(3)));
           }},
          {"readahead",
           kFiles,
           2,
           {fd(), number(kOffsets), number(kFallocLengths)},
           [](Run& r) { r.ret(r.sys_(SYS_readahead, r.fd(0), r.n(1), r.n(2))); }},
          {"fadvise64",
           kFiles,
           2,
           {fd(), number(kOffsets), number(kFallocLengths), number(kAdvice)},
           [](Run& r) { r.ret(r.sys_(SYS_fadvise64, r.fd(0), r.n(1), r.n(2), r.n(3))); }},
          {"fstat",
           kFiles | kTree | kEvents | kPipes | kSockets,
           10,
           {fd()},
           [](Run& r) {
             struct stat st;
             long n = r.sys_(SYS_fstat, r.fd(0), &st);
             r.ret(n);
             // Pipes, sockets and the like live on filesystems of their own; their device numbers
             // are nobody's business.
             if (n == 0) r.stat(st);
           }},
          {"dup",
           kFds | all,
           6,
           {fd()},
           [](Run& r) { r.ret_fd(r.sys_(SYS_dup, r.fd(0))); },
           kData,
           1},
          {"dup2",
           kFds | all,
           5,
           {fd(), number(kDupTo)},
           [](Run& r) { r.ret_fd(r.sys_(SYS_dup2, r.fd(0), r.n(1))); },
           kData,
           1},
          {"dup3",
           kFds,
           5,
           {fd(), number(kDupTo), words(kCloexec)},
           [](Run& r) { r.ret_fd(r.sys_(SYS_dup3, r.fd(0), r.n(1), r.n(2))); },
           kData,
           1},
          {"dup_from",
           kFds,
           6,
           {fd(), words(kDupCommand), number(kDupTo)},
           [](Run& r) { r.ret_fd(r.sys_(SYS_fcntl, r.fd(0), r.n(1), r.n(2))); },
           kData,
           1},
          {"getfd", kFds, 4, {fd()}, [](Run& r) { r.ret(r.sys_(SYS_fcntl, r.fd(0), F_GETFD)); }},
          {"setfd",
           kFds,
           4,
           {fd(), number(kZeroOne)},
           [](Run& r) { r.ret(r.sys_(SYS_fcntl, r.fd(0), F_SETFD, r.n(1))); }},
          {"getfl",
           kFds | kFiles | kPipes,
           4,
           {fd()},
           [](Run& r) { r.ret(r.sys_(SYS_fcntl, r.fd(0), F_GETFL)); }},
          {"setfl",
           kFds | kFiles | kPipes,
           6,
           {fd(), words(kStatusFlags)},
           [](Run& r) { r.ret(r.sys_(SYS_fcntl, r.fd(0), F_SETFL, r.n(1))); }},
          {"getpipe_sz",
           kPipes,
           3,
           {fd(kPipe)},
           [](Run& r) { r.ret(r.sys_(SYS_fcntl, r.fd(0), F_GETPIPE_SZ)); }},
          {"setpipe_sz",
           kPipes,
           5,
           {fd(kPipe), number(kPipeSizes)},
           [](Run& r) { r.ret(r.sys_(SYS_fcntl, r.fd(0), F_SETPIPE_SZ, r.n(1))); }},
          {"add_seals",
           kFiles | kMemory,
           4,
           {fd(kFile), words(kSeals)},
           [](Run& r) { r.ret(r.sys_(SYS_fcntl, r.fd(0), F_ADD_SEALS, r.n(1))); }},
          {"get_seals",
           kFiles,
           2,
           {fd(kFile)},
           [](Run& r) { r.ret(r.sys_(SYS_fcntl, r.fd(0), F_GET_SEALS)); }},
          {"setlease",
           kFds,
           2,
           {fd(kFile), words(kLease)},
           [](Run& r) {
             if (r.is_pidfd(0)) return r.skip("pidfd");
             r.ret(r.sys_(SYS_fcntl, r.fd(0), F_SETLEASE, r.n(1)));
           }},
          {"lock",
           kFiles | kProcs,
           12,
           {fd(kFile), words(kLockCommand), words(kLockType), words(kLockWhence), number(kLockAt),
            number(kLockLength)},
           lock},
          {"flock",
           kFiles | kProcs,
           8,
           {fd(), words(kFlock)},
           [](Run& r) {
             // Anonymous files share inodes, and so locks, by rules of their own.
             struct stat st;
             if (::fstat(r.fd(0), &st) == 0 && (st.st_mode & S_IFMT) == 0)
               return r.skip("anonymous");
             r.ret(r.sys_(SYS_flock, r.fd(0), r.n(1)));
           }},
          {"close_range",
           kFds,
           4,
           {number(kRangeFds), number(kRangeFds), words(kCloseRange)},
           [](Run& r) {
             r.ret(r.sys_(SYS_close_range, static_cast<unsigned>(r.n(0)),
                          static_cast<unsigned>(r.n(1)), r.n(2)));
           }},
          {"ioctl",
           kFds | kPipes | kSockets,
           6,
           {fd(), words(kRequest), number(kZeroOne)},
           [](Run& r) {
             long value = r.n(2);
             long n = r.sys_(SYS_ioctl, r.fd(0), r.n(1), &value);
             r.ret(n);
             if (n >= 0 && r.n(1) != static_cast<int64_t>(FS_IOC_GETFLAGS)) r.log(" %ld", value);
           }},
      });
}

}  // namespace oracle
