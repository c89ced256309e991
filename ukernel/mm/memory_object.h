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

// Told when pages of an object go away (truncate, hole punch): implemented by VMAs. Must not
// suspend.
class MappingObserver : public ListNode<MappingObserver> {
 public:
  // Pages [first, first+count) of the object are no longer valid: drop every mapping of them.
  virtual void invalidate(uint64_t first, uint64_t count) = 0;

 protected:
  ~MappingObserver() = default;
};

class MemoryObject : public RefCounted {
 public:
  // The frame that holds page `index`, filled. Errors: kFAULT beyond the end of the object (becomes
  // SIGBUS), kIO, kNOMEM, kNOSPC. `for_write`: the page will be written through a shared mapping
  // (marks it dirty, allocates holes).
  virtual Result<PageRef> get_page(Park& park, uint64_t index, bool for_write) = 0;

  // If the pages can be mapped read-only straight from a host file (no copy, no frame): the
  // descriptor (valid while the object lives) and the offset of page `index`. Then get_page serves
  // only private copies and writes.
  struct HostRange {
    int fd;
    uint64_t offset;
  };
  virtual std::optional<HostRange> host_range(uint64_t index) { return (void)index, std::nullopt; }
  // Reads bytes for the kernel's own use (user pointers into host-mapped pages). Short at the end
  // of the object.
  virtual Result<size_t> read(Park& park, uint64_t offset, std::span<std::byte> out) = 0;

  // Size in bytes; pages wholly beyond it fault with SIGBUS.
  virtual uint64_t size() = 0;
  // MAP_SHARED writes may happen (false: the mapping keeps write permission off, as for sealed or
  // read-only files).
  virtual bool writable() const { return true; }

  // For /proc/PID/maps: path as the mapper saw it is kept by the VMA; device and inode come from
  // here.
  virtual uint64_t dev() const { return 0; }
  virtual uint64_t ino() const { return 0; }

  List<MappingObserver, MappingObserver>& observers() { return observers_; }
  void invalidate(uint64_t first, uint64_t count);

 private:
  List<MappingObserver, MappingObserver> observers_;
};

}  // namespace uk
