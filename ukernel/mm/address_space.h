// A guest address space: its VMAs, its software page table, and the host stub that mirrors it.
// System calls of the mmap family, page faults, and every access of the kernel to guest memory go
// through here.
//
// Ownership: shared by the tasks of a CLONE_VM group (Ref). Owns its GuestSpace. All addresses and
// lengths given by callers are guest input and are validated here. Functions with Park& may suspend
// (file pages, stub flush); the VMA set may have changed after they return.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/mm/call_sites.h"
#include "ukernel/mm/io.h"
#include "ukernel/mm/memory_object.h"
#include "ukernel/mm/phys.h"
#include "ukernel/platform/platform.h"
#include "ukernel/sched/wait_queue.h"

namespace uk {

// Limits of the caller that apply to a change (getrlimit(2)); UINT64_MAX is no limit.
struct MmLimits {
  uint64_t as = UINT64_MAX;       // RLIMIT_AS
  uint64_t data = UINT64_MAX;     // RLIMIT_DATA
  uint64_t stack = 8 << 20;       // RLIMIT_STACK
  uint64_t memlock = UINT64_MAX;  // RLIMIT_MEMLOCK (UINT64_MAX with CAP_IPC_LOCK)
};

struct MmapRequest {
  uint64_t addr = 0;  // hint, or the place with fixed
  uint64_t len = 0;
  Prot prot = Prot::kNone;
  bool shared = false;
  bool fixed = false;
  bool fixed_noreplace = false;
  bool grows_down = false;
  bool populate = false;
  bool soon = false;   // its beginning will be used at once: brought in while memory is plenty
  bool later = false;  // more mappings follow before it is used: the stub need not hurry
  bool noreserve = false;
  bool locked = false;
  bool below_4g = false;     // MAP_32BIT
  Ref<MemoryObject> object;  // null: anonymous (shared anonymous makes an object of its own)
  uint64_t offset = 0;       // bytes into the object, page-aligned
  bool may_write = true;     // VM_MAYWRITE: false for a shared mapping of a file opened read-only
  bool may_exec = true;      // false on noexec mounts
  std::string name;          // path for /proc/PID/maps, or "[stack]", "[heap]", "[vdso]"
};

// One VMA as seen from outside (/proc/PID/maps, smaps).
struct VmaInfo {
  uint64_t start, end;
  Prot prot;
  bool shared, grows_down, locked, may_read, may_write, may_exec;
  uint64_t offset, dev, ino;
  std::string name;
  uint64_t rss_pages, private_dirty_pages, shared_pages, swap_pages;
};

struct MmStats {
  uint64_t total_pages, rss_pages, rss_file_pages, rss_shmem_pages, data_pages, stack_pages,
      exec_pages, locked_pages, peak_rss_pages, peak_pages;
};

// Why an access failed: what the signal of a fault says.
struct FaultError {
  int signo;  // SIGSEGV or SIGBUS; 0: the task was OOM-killed or is dying: just go back to the run
              // loop
  int code;   // SEGV_MAPERR, SEGV_ACCERR, BUS_ADRERR
};

// What the kernel still does for an address space (io_setup(2)): ended by the last task that leaves
// it, on that task's fiber. May suspend, for a bounded time.
class SpaceAsync : public RefCounted {
 public:
  virtual void end(Park& park) = 0;
};

class AddressSpace : public MappingSpace {
 public:
  static constexpr uint64_t kMaxMapCount = 48000;  // vm.max_map_count: VMAs of one space

  // A fresh, empty space with a stub of its own. Errors: kNOMEM, kAGAIN (host refuses processes).
  static Result<Ref<AddressSpace>> create(Park& park, PhysMemory& mem, Platform& platform,
                                          const SpaceLine& line = {});

  // ---- mmap family: mmap(2), munmap(2), mprotect(2), mremap(2), madvise(2), msync(2), mincore(2),
  // mlock(2), brk(2).
  Result<uint64_t> mmap(Park& park, const MmapRequest& request, const MmLimits& limits);
  Result<> munmap(Park& park, uint64_t addr, uint64_t len);
  // shmdt(2): what is left of the attachment of a segment that was made at addr. kINVAL: nothing.
  Result<> detach_segment(Park& park, uint64_t addr);
  Result<> mprotect(Park& park, uint64_t addr, uint64_t len, Prot prot, bool grows_down = false);
  Result<uint64_t> mremap(Park& park, uint64_t old_addr, uint64_t old_len, uint64_t new_len,
                          int flags, uint64_t new_addr, const MmLimits& limits);
  // remap_file_pages(2), as Linux emulates it: [addr, addr+len) of a shared mapping shows the
  // object from `page` on.
  Result<> remap_file_pages(Park& park, uint64_t addr, uint64_t len, uint64_t page,
                            const MmLimits& limits);
  Result<> madvise(Park& park, uint64_t addr, uint64_t len, int advice);
  Result<> msync(Park& park, uint64_t addr, uint64_t len, int flags);
  Result<std::vector<uint8_t>> mincore(Park& park, uint64_t addr, uint64_t len);
  Result<> mlock(Park& park, uint64_t addr, uint64_t len, bool lock, const MmLimits& limits,
                 bool on_fault = false);
  // flags 0 is munlockall(2).
  Result<> mlockall(Park& park, int flags, const MmLimits& limits);
  // Returns the new break, or the old one when the request cannot be met (never an error: brk(2)'s
  // raw form).
  uint64_t brk(Park& park, uint64_t addr, const MmLimits& limits);
  void set_brk_start(uint64_t addr);
  uint64_t brk_start() const;
  // RLIMIT_STACK for the growth of the stack in faults (exec, setrlimit); other calls bring their
  // limits.
  void set_stack_limit(uint64_t bytes);

  // ---- faults. Called by the run loop with a kPageFault trap. kOk: run the guest again. `thread`
  // tells the threads of the space apart (their tid): two may have faulted on one page at once.
  std::expected<void, FaultError> fault(Park& park, uint64_t addr, Access access, uint64_t thread);

  // ---- the kernel's access to guest memory; partial progress is the return value, kFAULT if
  // nothing could be moved.
  Result<size_t> copy_in(Park& park, std::span<std::byte> to, uint64_t from);
  Result<size_t> copy_out(Park& park, uint64_t to, std::span<const std::byte> from);
  Result<size_t> zero_out(Park& park, uint64_t to, size_t n);
  // A NUL-terminated string of at most max bytes without the NUL. kFAULT, kNAMETOOLONG.
  Result<std::string> copy_in_string(Park& park, uint64_t from, size_t max);
  // As ptrace(2) and exec do it: ignoring the protection (in shared mappings it must be writable;
  // private ones are copied).
  Result<size_t> force_copy_in(Park& park, std::span<std::byte> to, uint64_t from);
  Result<size_t> force_copy_out(Park& park, uint64_t to, std::span<const std::byte> from);
  // Atomic operations of futex(2) on a 4-byte-aligned word that the guest may change at the same
  // time: the host address of the word (valid until the next suspension), after faulting the page
  // in for write. kFAULT.
  Result<uint32_t*> atomic_word(Park& park, uint64_t addr, bool for_write);
  // Changes code in one page of a private mapping that the guest may execute and not write, if it
  // is `from`, to as many other bytes. Threads of the space that run there see the old bytes or the
  // new ones, never some of both. kACCES, kFAULT, kNOMEM; kAGAIN: something else is there.
  Result<> replace_code(Park& park, uint64_t addr, std::span<const std::byte> from,
                        std::span<const std::byte> bytes);
  // A fresh executable page, the highest possible that begins in [first, last], for
  // force_copy_out(); to the guest's calls it is a hole. kNOMEM.
  Result<uint64_t> map_code(Park& park, uint64_t first, uint64_t last, std::string name);

  // ---- code that comes patched with its mapping (mm/patched_code.h)
  // Whose books it takes copies from and adds sites to, which must be processes that may change
  // each other's code; nullopt: nobody's.
  std::optional<uint32_t> code_owner;
  // A costly call came; `ip` is behind its instruction. True: learn_file_call() is worthwhile.
  bool note_file_call(uint64_t ip);
  void learn_file_call(Park& park, const arch::UserRegs& at_call);
  // Code mapped before there was a copy of it becomes the copy, which has the site of the call
  // whose instruction ends at `ip` patched. False: there is none such.
  bool adopt_patched_code(Park& park, uint64_t ip);
  // All such code is as its file has it, from now on.
  void leave_patched_code(Park& park);

  // Identity of a shared futex (inode or anonymous object, offset), or this space and address for a
  // private mapping.
  struct FutexKey {
    Ref<RefCounted> object;  // holds it, so that its address means one thing while anybody waits
    uint64_t offset = 0;
    bool operator==(const FutexKey& o) const { return object == o.object && offset == o.offset; }
    template <class H>
    friend H AbslHashValue(H h, const FutexKey& k) {
      return H::combine(std::move(h), k.object.get(), k.offset);
    }
  };
  Result<FutexKey> futex_key(Park& park, uint64_t addr, bool process_private);

  // ---- life
  // A copy-on-write copy for fork(2); the parent's writable private pages become write-protected.
  // `trust`: the same object in every child whose program is the parent's with the parent's rights
  // (SpaceLine in platform.h); null: none.
  Result<Ref<AddressSpace>> fork(Park& park, const MmLimits& limits,
                                 Ref<RefCounted> trust = nullptr);
  // A child of fork() ends: the next one may have its stub as it is. Only if it has run nothing but
  // the parent's program, and still is trust() alone.
  void leave_stub();
  const RefCounted* trust() const;
  // Drops every mapping (last task gone, or exec before the new image is mapped).
  void clear(Park& park);
  // Makes queued changes of the stub real (before handing freed pages on). The run loop needs not
  // call it.
  Result<> flush(Park& park);
  void flush_mappings(Park& park) override { (void)flush(park); }

  GuestSpace& guest() { return *guest_; }
  PhysMemory& mem() { return mem_; }
  uint64_t user_limit() const { return user_limit_; }

  // ---- facts for procfs and exec
  void each_vma(const std::function<void(const VmaInfo&)>& f) const;
  bool any_mapped(uint64_t start, uint64_t len) const;  // anything of the range
  MmStats stats() const;
  // Free gap of len bytes, searched top down from the mmap base as Linux does; nullopt if there is
  // none.
  std::optional<uint64_t> find_gap(uint64_t len) const;
  void set_mmap_base(uint64_t base);
  // Places of the image for /proc/PID/cmdline, environ, auxv, stat (prctl PR_SET_MM may change
  // them).
  struct Image {
    uint64_t start_code = 0, end_code = 0, start_data = 0, end_data = 0, start_stack = 0;
    uint64_t arg_start = 0, arg_end = 0, env_start = 0, env_end = 0;
    std::vector<uint64_t> auxv;
    uint64_t vdso = 0;
  };
  Image image;
  bool dumpable = true;
  int membarrier_registered = 0;  // commands of membarrier(2)
  CallSites call_sites;
  Ref<SpaceAsync> async;  // null until it is used; not copied by fork(2)

  // The workings, for the files of ukernel/mm alone (space.h).
  struct Impl;
  Impl& inside() { return *impl_; }

  ~AddressSpace() override;

 private:
  friend class AddressSpaceTestPeer;
  AddressSpace(PhysMemory& mem, std::unique_ptr<GuestSpace> guest, uint64_t user_limit);
  PhysMemory& mem_;
  std::unique_ptr<GuestSpace> guest_;
  uint64_t user_limit_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace uk
