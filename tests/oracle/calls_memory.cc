// Memory: mappings at fixed places of an arena of their own, and loads and stores as a program
// makes them.
#include <fcntl.h>
#include <linux/mman.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>

#include "tests/oracle/run.h"
#include "tests/oracle/words.h"

namespace oracle {
namespace {

const Words kProt{{{"PROT_NONE", PROT_NONE, 10},
                   {"PROT_READ", PROT_READ, 20},
                   {"PROT_READ|PROT_WRITE", PROT_READ | PROT_WRITE, 60},
                   {"0x10", 0x10, 1}},
                  {}};
const Words kProtect{kProt.choice, {{"PROT_GROWSDOWN", PROT_GROWSDOWN, 1}}};
const Words kAnonymous{{{"MAP_PRIVATE", MAP_PRIVATE, 60},
                        {"MAP_SHARED", MAP_SHARED, 38},
                        {"0", 0, 1},
                        {"MAP_SHARED_VALIDATE", MAP_SHARED_VALIDATE, 3}},
                       {{"MAP_NORESERVE", MAP_NORESERVE, 10},
                        {"MAP_POPULATE", MAP_POPULATE, 15},
                        {"MAP_LOCKED", MAP_LOCKED, 2}}};
const Words kFileMap{{{"MAP_PRIVATE", MAP_PRIVATE, 45},
                      {"MAP_SHARED", MAP_SHARED, 50},
                      {"MAP_SHARED_VALIDATE", MAP_SHARED_VALIDATE, 5}},
                     {{"MAP_POPULATE", MAP_POPULATE, 10}}};
const Words kPlacing{
    {{"MAP_FIXED", MAP_FIXED, 80}, {"MAP_FIXED_NOREPLACE", MAP_FIXED_NOREPLACE, 20}}, {}};
const Words kFileAt = numbers({0, 0, 0, 4096, 8192, 65536, 100, -4096});
const Words kRemap{
    {{"0", 0, 40},
     {"MREMAP_MAYMOVE|MREMAP_FIXED", MREMAP_MAYMOVE | MREMAP_FIXED, 45},
     {"MREMAP_MAYMOVE|MREMAP_FIXED|MREMAP_DONTUNMAP", MREMAP_MAYMOVE | MREMAP_FIXED | 4, 12},
     {"MREMAP_FIXED", MREMAP_FIXED, 2}},
    {}};
const Words kAdvices{{ORACLE_WORD(MADV_NORMAL),
                      ORACLE_WORD(MADV_RANDOM),
                      ORACLE_WORD(MADV_SEQUENTIAL),
                      ORACLE_WORD(MADV_WILLNEED),
                      {"MADV_DONTNEED", MADV_DONTNEED, 60},
                      {"MADV_REMOVE", MADV_REMOVE, 20},
                      {"MADV_DONTFORK", MADV_DONTFORK, 10},
                      {"MADV_DOFORK", MADV_DOFORK, 5},
                      {"MADV_DONTDUMP", MADV_DONTDUMP, 5},
                      {"MADV_DODUMP", MADV_DODUMP, 5},
                      {"MADV_WIPEONFORK", MADV_WIPEONFORK, 10},
                      {"MADV_KEEPONFORK", MADV_KEEPONFORK, 5},
                      {"MADV_POPULATE_READ", 22, 8},
                      {"MADV_POPULATE_WRITE", 23, 8},
                      {"99", 99, 2}},
                     {}};
const Words kSync{{{"MS_SYNC", MS_SYNC, 30},
                   {"MS_ASYNC", MS_ASYNC, 30},
                   {"MS_INVALIDATE", MS_INVALIDATE, 20},
                   {"5", 5, 5},
                   {"0", 0, 10},
                   {"8", 8, 3}},
                  {}};
const Words kBytes = numbers({0, 1, 65, 255});
const Words kCounts = numbers({1, 8, 100, 4096, 10000});

void faulted(Run& r, bool fault, const siginfo_t& info) {
  if (!fault) return;
  r.log(" -> signal %d code %d at @%+ld", info.si_signo, info.si_code,
        static_cast<long>(reinterpret_cast<uint64_t>(info.si_addr) - kArena));
}

// An address that a call returned, which is one that it was given or an errno.
void where(Run& r, long n) {
  if (n >= static_cast<long>(kArena)) {
    r.log(" -> @%ld", (n - static_cast<long>(kArena)) / static_cast<long>(kPage));
  } else {
    r.ret(n);
  }
}

void fill(Run& r) {
  siginfo_t info;
  for (int64_t i = 0; i < r.n(2); ++i) {
    uint64_t at = static_cast<uint64_t>(r.n(0) + i);
    if (i != 0 && at % kPage != 0) {
      *reinterpret_cast<volatile char*>(at) = static_cast<char>(r.n(1));
    } else if (store(at, static_cast<unsigned char>(r.n(1)), &info)) {
      return faulted(r, true, info);
    }
  }
  r.log(" -> done");
}

}  // namespace

void add_memory_calls(std::vector<Desc>* out) {
  out->insert(
      out->end(),
      {
          {"mmap",
           kMemory,
           35,
           {addr(), len(), words(kProt), words(kAnonymous), words(kPlacing)},
           [](Run& r) {
             where(r, r.sys_(SYS_mmap, r.n(0), r.n(1), r.n(2), r.n(3) | r.n(4) | MAP_ANONYMOUS, -1,
                             0));
           }},
          {"mmap_file",
           kMemory,
           30,
           {addr(), len(), words(kProt), words(kFileMap), fd(kFile), number(kFileAt)},
           [](Run& r) {
             where(r,
                   r.sys_(SYS_mmap, r.n(0), r.n(1), r.n(2), r.n(3) | MAP_FIXED, r.fd(4), r.n(5)));
           }},
          {"make_file",
           kMemory,
           15,
           {path(), number(kSizes)},
           [](Run& r) {
             // A file with something in it, which is what mappings want.
             long f = r.sys_(SYS_openat, AT_FDCWD, r.path(0), O_RDWR | O_CREAT | O_NONBLOCK, 0644);
             r.ret_fd(f);
             if (f >= 0) r.ret(r.sys_(SYS_pwrite64, f, r.data(2), r.n(1), 0));
           },
           kFile,
           1},
          {"munmap",
           kMemory,
           12,
           {addr(), len()},
           [](Run& r) { r.ret(r.sys_(SYS_munmap, r.n(0), r.n(1) & 0xffffffff)); }},
          {"mprotect",
           kMemory,
           18,
           {addr(), len(), words(kProtect)},
           [](Run& r) { r.ret(r.sys_(SYS_mprotect, r.n(0), r.n(1), r.n(2))); }},
          {"mremap",
           kMemory,
           15,
           {addr(), len(), len(), words(kRemap), addr()},
           [](Run& r) { where(r, r.sys_(SYS_mremap, r.n(0), r.n(1), r.n(2), r.n(3), r.n(4))); }},
          {"madvise",
           kMemory,
           18,
           {addr(), len(), words(kAdvices)},
           [](Run& r) { r.ret(r.sys_(SYS_madvise, r.n(0), r.n(1), r.n(2))); }},
          {"msync",
           kMemory,
           5,
           {addr(), len(), words(kSync)},
           [](Run& r) { r.ret(r.sys_(SYS_msync, r.n(0), r.n(1), r.n(2))); }},
          {"mlock",
           kMemory,
           3,
           {addr(), len()},
           [](Run& r) { r.ret(r.sys_(SYS_mlock, r.n(0), r.n(1))); }},
          {"munlock",
           kMemory,
           2,
           {addr(), len()},
           [](Run& r) { r.ret(r.sys_(SYS_munlock, r.n(0), r.n(1))); }},
          {"mincore",
           kMemory,
           4,
           {addr(), len()},
           [](Run& r) {
             // What is resident is the kernel's business; whether there are mappings is not.
             static unsigned char vector[1 << 16];
             r.ret(r.sys_(SYS_mincore, r.n(0), r.n(1),
                          r.n(1) > 0 && r.n(1) < 1 << 20 ? vector : nullptr));
           }},
          {"load",
           kMemory,
           12,
           {addr()},
           [](Run& r) {
             unsigned char value = 0;
             siginfo_t info;
             bool fault = load(static_cast<uint64_t>(r.n(0)), &value, &info);
             if (!fault) r.log(" -> %d", value);
             faulted(r, fault, info);
           }},
          {"store",
           kMemory,
           20,
           {addr(), number(kBytes)},
           [](Run& r) {
             siginfo_t info;
             bool fault =
                 store(static_cast<uint64_t>(r.n(0)), static_cast<unsigned char>(r.n(1)), &info);
             if (!fault) r.log(" -> done");
             faulted(r, fault, info);
           }},
          {"fill", kMemory, 15, {addr(), number(kBytes), number(kCounts)}, fill},
          {"process_vm_readv",
           kMemory | kProcs,
           4,
           {process(), addr(), number(kCounts)},
           [](Run& r) {
             static char into[16384];
             iovec here{into, static_cast<size_t>(r.n(2))},
                 there{r.addr(1), static_cast<size_t>(r.n(2))};
             long n = r.sys_(SYS_process_vm_readv, r.pid(0), &here, 1, &there, 1, 0);
             r.ret(n);
             r.bytes(into, n);
           }},
          {"process_vm_writev",
           kMemory | kProcs,
           3,
           {process(), addr(), number(kCounts)},
           [](Run& r) {
             iovec here{const_cast<char*>(r.data(3)), static_cast<size_t>(r.n(2))},
                 there{r.addr(1), static_cast<size_t>(r.n(2))};
             r.ret(r.sys_(SYS_process_vm_writev, r.pid(0), &here, 1, &there, 1, 0));
           }},
      });
}

}  // namespace oracle
