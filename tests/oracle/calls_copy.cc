// Calls that move data between descriptors.
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/oracle/run.h"
#include "tests/oracle/words.h"

namespace oracle {
namespace {

// -2 stands for no pointer to an offset.
const Words kAt = numbers({-2, -2, -2, 0, 1, 100, 4096, 70000, 1048576, -1});
const Words kSplice{{{"SPLICE_F_NONBLOCK", SPLICE_F_NONBLOCK, 95}, {"0", 0, 3}},
                    {{"SPLICE_F_MOVE", SPLICE_F_MOVE, 10},
                     {"SPLICE_F_MORE", SPLICE_F_MORE, 10},
                     {"0x10", 0x10, 1}}};
const Words kNone{{{"0", 0, 97}, {"1", 1, 3}}, {}};

struct Offset {
  explicit Offset(int64_t v) : value(v), given(v != -2) {}
  int64_t* pointer() { return given ? &value : nullptr; }
  void log(Run& r) const {
    if (given) r.log(" at %ld", value);
  }
  int64_t value;
  bool given;
};

}  // namespace

void add_copy_calls(std::vector<Desc>* out) {
  out->insert(
      out->end(),
      {
          {"copy_file_range",
           kFiles,
           12,
           {fd(kFile), number(kAt), fd(kFile), number(kAt), number(kSizes), words(kNone)},
           [](Run& r) {
             if (r.is_pidfd(0) || r.is_pidfd(2)) return r.skip("pidfd");
             Offset in(r.n(1)), to(r.n(3));
             r.ret(r.sys_(SYS_copy_file_range, r.fd(0), in.pointer(), r.fd(2), to.pointer(), r.n(4),
                          r.n(5)));
             in.log(r);
             to.log(r);
           }},
          {"sendfile",
           kFiles | kPipes | kSockets,
           12,
           {fd(kData), fd(kFile), number(kAt), number(kSizes)},
           [](Run& r) {
             Offset from(r.n(2));
             // How far a copy of a file to its own end goes is how often Linux looks at its
             // size.
             struct stat in, to;
             if (::fstat(r.fd(1), &in) == 0 && ::fstat(r.fd(0), &to) == 0 &&
                 in.st_ino == to.st_ino && in.st_dev == to.st_dev) {
               return r.skip("one file");
             }
             r.ret(r.sys_(SYS_sendfile, r.fd(0), r.fd(1), from.pointer(), r.n(3)));
             from.log(r);
           }},
          {"splice",
           kFiles | kPipes | kSockets,
           15,
           {fd(kPipe | kFile), number(kAt), fd(kPipe | kFile), number(kAt), number(kSizes),
            words(kSplice)},
           [](Run& r) {
             Offset in(r.n(1)), to(r.n(3));
             r.ret(
                 r.sys_(SYS_splice, r.fd(0), in.pointer(), r.fd(2), to.pointer(), r.n(4), r.n(5)));
             in.log(r);
             to.log(r);
           }},
          {"tee",
           kPipes,
           8,
           {fd(kPipe), fd(kPipe), number(kSizes), words(kSplice)},
           [](Run& r) { r.ret(r.sys_(SYS_tee, r.fd(0), r.fd(1), r.n(2), r.n(3))); }},
          {"vmsplice",
           kPipes,
           6,
           {fd(kPipe), buffer(), number(kSizes), words(kSplice)},
           [](Run& r) {
             // Bytes of our own buffers, which never change; or one to read to.
             long flags = r.sys_(SYS_fcntl, r.fd(0), F_GETFL);
             bool reads = flags >= 0 && (flags & O_ACCMODE) == O_RDONLY;
             // A pipe here holds copies, where Linux's shows what becomes of the pages.
             if (!reads && r.n(1) != 0) return r.skip("pages that may change");
             iovec v{reads ? r.buf(1) : const_cast<char*>(r.data(1)), static_cast<size_t>(r.n(2))};
             r.ret(r.sys_(SYS_vmsplice, r.fd(0), &v, 1, r.n(3)));
           }},
      });
}

}  // namespace oracle
