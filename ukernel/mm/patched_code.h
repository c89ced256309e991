// The code of a file with its call sites patched once, for every process that maps it
// (mm/call_sites.h patches those of one process, when they are hot there). A program that starts
// makes most of its calls once, from the same few sites of the same libraries as the one before it.
// So sites are remembered with their file, and when they have been costly often enough, the next
// process that maps the code gets a copy in a memfd, in which they jump to thunks. The thunks lie
// right below the place of the file's first byte. The host has the copy once.
//
// A copy never changes: more sites make a new one, for who maps the code from then on. Copies are
// used as long as the file has the stamp that it had.
//
// Ownership: the file's object keeps the books, one for each owner: what one process shows as a
// site others will execute, so they must be such as could change each other's code anyhow. VMAs
// and the shelf hold the copy, and the copy the file; the book knows it while it lives. current()
// suspends. Untrusted: the bytes of the file.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "hostio/sys/fd.h"
#include "ukernel/mm/call_sites.h"
#include "ukernel/mm/memory_object.h"

namespace uk {

// A call site in a file, whose instruction before the `syscall` can move; or a `cpuid` that is
// answered (cpuid_sites.h).
struct FileSite {
  static constexpr size_t kJumpBytes = 5;

  uint64_t at = 0;    // offset of that instruction
  uint64_t call = 0;  // ... and of the `syscall` or `cpuid`
  std::array<uint8_t, 8> moved = {};
  bool is_cpuid = false;

  size_t length() const { return call - at; }
  // Where a thread is, to its program, that stands at this byte of the site's thunk.
  uint64_t visible(uint64_t in_thunk) const;
};

class CodeBook;

class PatchedCode final : public MemoryObject {
 public:
  static constexpr uint64_t kThunkPages = 2;
  static constexpr uint64_t kThunkBytes = 32;  // of one; the first has the gate's address
  static constexpr size_t kMaxSites = kThunkPages * kPageSize / kThunkBytes - 1;

  // Of pages [first, first+pages) of `file`, all of its bytes there read from it.
  static Result<Ref<PatchedCode>> make(Park& park, Ref<MemoryObject> file, uint64_t first,
                                       uint64_t pages, std::span<const FileSite> sites,
                                       uint64_t gate, PhysMemory& mem);
  ~PatchedCode() override;

  const Ref<MemoryObject>& file() const { return file_; }
  const Ref<MemoryObject>& thunks() const { return thunks_; }
  std::span<const FileSite> sites() const { return sites_; }
  bool covers(uint64_t first, uint64_t pages) const {
    return first >= first_ && first + pages <= first_ + pages_;
  }
  // Where the thunks are for a file whose first byte is, or would be, at `base`.
  static uint64_t thunks_at(uint64_t base) { return base - kThunkPages * kPageSize; }
  std::array<uint8_t, FileSite::kJumpBytes> jump(size_t site) const;
  // Which site's thunk has the byte `offset` of the thunks.
  std::optional<size_t> site_of(uint64_t offset) const;

  // MemoryObject
  Result<PageRef> get_page(Park& park, uint64_t index, bool for_write) override;
  std::optional<HostRange> host_range(uint64_t index) override;
  Result<size_t> read(Park& park, uint64_t offset, std::span<std::byte> out) override;
  uint64_t size() override { return file_->size(); }
  bool writable() const override { return false; }
  uint64_t dev() const override { return file_->dev(); }
  uint64_t ino() const override { return file_->ino(); }
  PatchedCode* patched_code() override { return this; }

 private:
  friend class CodeBook;
  PatchedCode(Ref<MemoryObject> file, uint64_t first, uint64_t pages, PhysMemory& mem);
  Result<> write(Park& park, uint64_t gate);
  void add_cpuid_sites(std::span<const std::byte> text);
  CallThunk thunk(size_t site, uint64_t at) const;

  const Ref<MemoryObject> file_;
  Ref<MemoryObject> thunks_;
  const uint64_t first_, pages_;
  PhysMemory& mem_;
  std::vector<FileSite> sites_;
  sys::Fd fd_;
  CodeBook* book_ = nullptr;  // which knows it
};

// What is known of the call sites of one file's code.
class CodeBook {
 public:
  CodeBook() = default;
  CodeBook(const CodeBook&) = delete;
  CodeBook& operator=(const CodeBook&) = delete;
  // A costly call came from the `syscall` at this offset. True, once for each site: whoever knows
  // the registers there should learn().
  bool note(uint64_t call);
  // `site` is in the file that has this stamp. Ignored if it cannot be patched in a copy.
  void learn(const FileSite& site, std::optional<uint64_t> stamp);
  // The copy to map for pages [first, first+pages) of `file`; null: the file itself.
  Ref<PatchedCode> current(Park& park, MemoryObject& file, uint64_t first, uint64_t pages,
                           uint64_t gate, PhysMemory& mem);

 private:
  friend class PatchedCode;
  static constexpr uint32_t kLearn = 2;      // costly calls of a site before it is looked at
  static constexpr uint32_t kWorth = 16;     // ... of known sites before there is a copy; the
  static constexpr uint32_t kMaxCopies = 6;  // next is worth twice as many
  static constexpr size_t kMaxNotes = 2048;
  static constexpr uint64_t kMaxPages = 1024;

  absl::flat_hash_map<uint64_t, uint32_t> notes_;  // by offset of the `syscall`
  std::map<uint64_t, FileSite> sites_;             // by it, too; they do not overlap
  uint32_t debt_ = 0;  // costly calls of known sites since the last copy
  uint32_t copies_ = 0;
  bool making_ = false;
  std::optional<uint64_t> stamp_;
  PatchedCode* copy_ = nullptr;

  void expect(std::optional<uint64_t> stamp);
  void know(PatchedCode* copy);
  void forget();
};

// Holds the copies used last when no process does: the next one starts soon. The descriptors of
// their files stay open as long.
class CodeShelf final : public RefCounted {
 public:
  static void keep(PhysMemory& mem, PatchedCode& copy);

 private:
  static constexpr size_t kMost = 16;
  std::vector<Ref<PatchedCode>> copies_;  // the last used at the end
};

// All books of a file.
class CodeBooks final : public RefCounted {
 public:
  // Null: there are too many owners.
  static CodeBook* of(MemoryObject& file, uint32_t owner);

 private:
  static constexpr size_t kMaxOwners = 8;
  std::map<uint32_t, CodeBook> by_owner_;
};

}  // namespace uk
