// What can stand behind a mapping: a file's page cache, shared memory, or a host file mapped from
// the host's own page cache. mm maps MemoryObjects; vfs and fs implement them (an inode's page
// cache is one).
//
// Ownership: reference counted; VMAs and inodes hold Refs. get_page and read may suspend.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/list.h"
#include "base/ref.h"
#include "base/result.h"
#include "ukernel/mm/phys.h"
#include "ukernel/sched/fiber.h"

namespace uk {

// The party that maps an object: an address space. Lets the object wait until a change of its pages
// is in force.
class MappingSpace : public RefCounted {
 public:
  virtual void flush_mappings(Park& park) = 0;
};

// Told when pages of an object change under their mappings: implemented by VMAs. Must not suspend.
class MappingObserver : public ListNode<MappingObserver> {
 public:
  // Pages [first, first+count) of the object are no longer valid: drop every mapping of them. With
  // `private_copies` (truncation) also the private copies made of them; a punched hole leaves
  // those.
  virtual void invalidate(uint64_t first, uint64_t count, bool private_copies) = 0;
  // Shared mappings of these pages become read-only, so that the next write is noticed (get_page
  // for_write): writeback.
  virtual void write_protect(uint64_t first, uint64_t count) = 0;
  virtual Ref<MappingSpace> space() = 0;

 protected:
  ~MappingObserver() = default;
};

class PatchedCode;

class MemoryObject : public RefCounted {
 public:
  // The frame that holds page `index`, filled. Errors: kFAULT beyond the end of the object (becomes
  // SIGBUS), kIO, kNOMEM, kNOSPC. `for_write`: the page will be written through a shared mapping
  // (marks it dirty, allocates holes).
  virtual Result<PageRef> get_page(Park& park, uint64_t index, bool for_write) = 0;
  // The frame of page `index` if it is at hand, filled and inside the object; else kNoPfn. Takes no
  // reference.
  virtual Pfn cached_page(uint64_t index) { return (void)index, kNoPfn; }

  // If the pages can be mapped read-only straight from a host file (no copy, no frame): the
  // descriptor (valid while the object lives) and the offset of page `index`; all pages of one
  // object follow each other in the host file. Then get_page is not called by mm: private copies
  // are made with read().
  struct HostRange {
    int fd;
    uint64_t offset;
  };
  virtual std::optional<HostRange> host_range(uint64_t index) { return (void)index, std::nullopt; }
  // Reads bytes for the kernel's own use (user pointers into host-mapped pages). Short at the end
  // of the object.
  virtual Result<size_t> read(Park& park, uint64_t offset, std::span<std::byte> out) = 0;

  // A number that is another one when the contents may have changed; nullopt: they may at any time.
  virtual std::optional<uint64_t> stamp() { return std::nullopt; }
  // If it is one (mm/patched_code.h).
  virtual PatchedCode* patched_code() { return nullptr; }

  // Size in bytes; pages wholly beyond it fault with SIGBUS.
  virtual uint64_t size() = 0;
  // MAP_SHARED writes may happen (false: the mapping keeps write permission off, as for sealed or
  // read-only files).
  virtual bool writable() const { return true; }
  // Whether the first write to a page through a mapping must come to get_page (storage behind it);
  // if not, shared mappings are made writable at once.
  virtual bool tracks_writes() const { return true; }
  // Memory for its own sake (shared anonymous memory): a fault may allocate neighbours too.
  virtual bool allocate_around() const { return false; }
  // /dev/zero: a private mapping is anonymous memory.
  virtual bool zeros() const { return false; }
  // Counted as RssShmem (else RssFile).
  virtual bool shmem() const { return false; }
  // msync(2) with MS_SYNC: dirty pages [first, first+count) reach storage.
  virtual Result<> sync(Park& park, uint64_t first, uint64_t count) {
    return (void)park, (void)first, (void)count, Result<>();
  }
  // madvise(2) MADV_REMOVE: free the pages as a hole. kOPNOTSUPP where the object cannot.
  virtual Result<> punch(Park& park, uint64_t first, uint64_t count) {
    return (void)park, (void)first, (void)count, Err(Errno::kOPNOTSUPP);
  }

  // For /proc/PID/maps: path as the mapper saw it is kept by the VMA; device and inode come from
  // here.
  virtual uint64_t dev() const { return 0; }
  virtual uint64_t ino() const { return 0; }

  // A mapping of it was made (also by fork or by splitting one), one has gone. Must not suspend.
  virtual void mapped() {}
  virtual void unmapped() {}
  // A System V segment: shmdt(2) takes away what is left of one attachment at once.
  virtual bool is_segment() const { return false; }

  List<MappingObserver, MappingObserver>& observers() { return observers_; }
  // To all observers. Other threads may use the old pages until flush_mappings() returns; frames
  // stay theirs until then.
  void invalidate(uint64_t first, uint64_t count, bool private_copies = true);
  void write_protect(uint64_t first, uint64_t count);
  // Makes queued changes real in every address space that maps the object.
  void flush_mappings(Park& park);
  // Of CodeBooks: what is known of its call sites (mm/patched_code.h).
  Ref<RefCounted> code_books;
  // How many VMAs map it shared with the right to write (F_SEAL_WRITE needs none); kept by mm.
  uint32_t shared_writable_mappings = 0;

 private:
  List<MappingObserver, MappingObserver> observers_;
};

}  // namespace uk
