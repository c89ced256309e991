#include "ukernel/mm/patched_code.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "hostio/sys/file.h"
#include "ukernel/mm/cpuid_sites.h"

namespace uk {
namespace {

constexpr uint64_t kThunksLength = PatchedCode::kThunkPages * kPageSize;
// Of all copies: they are not the guest's memory.
constexpr uint64_t kMaxCopiedPages = 8192;

// Pages of a memfd that nobody writes any more.
Result<PageRef> read_page(Park& park, MemoryObject& object, PhysMemory& mem, uint64_t index,
                          bool for_write) {
  if (for_write) return Err(Errno::kACCES);
  if (index >= page_ceil(object.size()) / kPageSize) return Err(Errno::kFAULT);
  PageRef page = PageRef::adopt(mem, TRY(mem.alloc()));
  TRY(object.read(park, index * kPageSize, std::span(page.data(), kPageSize)));
  return page;
}

// The thunks, behind the code in its memfd.
class Thunks final : public MemoryObject {
 public:
  Thunks(PhysMemory& mem, sys::Fd fd, uint64_t offset)
      : mem_(mem), fd_(std::move(fd)), offset_(offset) {}
  Result<PageRef> get_page(Park& park, uint64_t index, bool for_write) override {
    return read_page(park, *this, mem_, index, for_write);
  }
  std::optional<HostRange> host_range(uint64_t index) override {
    return HostRange{fd_.get(), offset_ + index * kPageSize};
  }
  Result<size_t> read(Park&, uint64_t offset, std::span<std::byte> out) override {
    if (offset >= kThunksLength) return size_t{0};
    out = out.first(std::min<uint64_t>(out.size(), kThunksLength - offset));
    return sys::pread(fd_.get(), out, offset_ + offset);
  }
  uint64_t size() override { return kThunksLength; }
  bool writable() const override { return false; }

 private:
  PhysMemory& mem_;
  sys::Fd fd_;
  uint64_t offset_;
};

}  // namespace

PatchedCode::PatchedCode(Ref<MemoryObject> file, uint64_t first, uint64_t pages, PhysMemory& mem)
    : file_(std::move(file)), first_(first), pages_(pages), mem_(mem) {
  mem_.code_pages += pages_;
}

PatchedCode::~PatchedCode() {
  mem_.code_pages -= pages_;
  if (book_ == nullptr) return;
  book_->copy_ = nullptr;
  book_->copies_ = 0;
}

Result<Ref<PatchedCode>> PatchedCode::make(Park& park, Ref<MemoryObject> file, uint64_t first,
                                           uint64_t pages, std::span<const FileSite> sites,
                                           uint64_t gate, PhysMemory& mem) {
  Ref<PatchedCode> code(new PatchedCode(std::move(file), first, pages, mem));
  const uint64_t from = first * kPageSize, to = from + pages * kPageSize;
  for (const FileSite& s : sites) {
    const bool fits = s.at >= from && s.call + FileSite::kJumpBytes <= to;
    if (fits && code->sites_.size() < kMaxSites) code->sites_.push_back(s);
  }
  TRY(code->write(park, gate));
  return code;
}

std::array<uint8_t, FileSite::kJumpBytes> PatchedCode::jump(size_t site) const {
  const uint64_t thunk = thunks_at(0) + (site + 1) * kThunkBytes;
  return jump_to(sites_[site].at, thunk);
}

std::optional<size_t> PatchedCode::site_of(uint64_t offset) const {
  const uint64_t n = offset / kThunkBytes;
  if (n == 0 || n > sites_.size()) return std::nullopt;
  return n - 1;
}

// `text`: the code as the file has it.
void PatchedCode::add_cpuid_sites(std::span<const std::byte> text) {
  const std::span code(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  const size_t calls = sites_.size();
  for (const CpuidSite& c : find_cpuid_sites(code, kMaxSites - calls)) {
    FileSite s{.at = first_ * kPageSize + c.at, .is_cpuid = true};
    s.call = s.at + CpuidSite::kMovBytes;
    std::ranges::copy(code.subspan(c.at, CpuidSite::kBytes), s.moved.begin());
    const bool overlaps = std::ranges::any_of(std::span(sites_).first(calls), [&](auto& other) {
      return s.at < other.call + kCallBytes && other.at < s.at + CpuidSite::kBytes;
    });
    // A page's change must not be half of one (AddressSpace::replace_code).
    if (!overlaps && (s.at & kPageMask) + FileSite::kJumpBytes <= kPageSize) sites_.push_back(s);
  }
}

CallThunk PatchedCode::thunk(size_t site, uint64_t at) const {
  const FileSite& s = sites_[site];
  const uint64_t return_to = s.call + kCallBytes;
  if (!s.is_cpuid)
    return make_thunk(std::span(s.moved).first(s.length()), at, return_to, thunks_at(0));
  uint32_t leaf;
  std::memcpy(&leaf, &s.moved[1], sizeof leaf);
  return make_cpuid_thunk(leaf, at, return_to);
}

uint64_t FileSite::visible(uint64_t in_thunk) const {
  if (is_cpuid) return in_thunk < kCpuidThunkDone ? at : call + kCallBytes;
  return in_thunk == 0 ? at : call;
}

Result<> PatchedCode::write(Park& park, uint64_t gate) {
  sys::Fd fd = TRY(sys::memfd_create("uk-code", MFD_CLOEXEC));
  const uint64_t from = first_ * kPageSize;
  std::vector<std::byte> bytes(pages_ * kPageSize + kThunksLength);
  const auto text = std::span(bytes).first(pages_ * kPageSize);
  const uint64_t size = file_->size();
  if (size <= from) return Err(Errno::kFAULT);
  const uint64_t n = std::min<uint64_t>(text.size(), size - from);
  if (TRY(file_->read(park, from, text.first(n))) != n) return Err(Errno::kAGAIN);

  add_cpuid_sites(text);
  const auto thunks = std::span(bytes).subspan(text.size());
  std::memcpy(thunks.data(), &gate, sizeof gate);
  for (size_t i = 0; i < sites_.size(); ++i) {
    const FileSite& s = sites_[i];
    const std::span moved = std::span(s.moved).first(s.length());
    if (!std::ranges::equal(std::as_bytes(moved), text.subspan(s.at - from, moved.size()))) {
      return Err(Errno::kAGAIN);  // the file has changed
    }
    const uint64_t at = thunks_at(0) + (i + 1) * kThunkBytes;
    const CallThunk code = thunk(i, at);
    std::ranges::copy(std::as_bytes(std::span(code)), thunks.begin() + (i + 1) * kThunkBytes);
    const auto j = jump(i);
    std::ranges::copy(std::as_bytes(std::span(j)), text.begin() + (s.at - from));
  }
  TRY(sys::write_all(fd.get(), bytes));
  // What a stub maps of it can never become writable.
  fd_ = TRY(sys::reopen(fd.get(), O_RDONLY));
  thunks_ = make_ref<Thunks>(mem_, TRY(sys::dup(fd_.get())), text.size());
  return {};
}

Result<PageRef> PatchedCode::get_page(Park& park, uint64_t index, bool for_write) {
  return read_page(park, *this, mem_, index, for_write);
}

std::optional<MemoryObject::HostRange> PatchedCode::host_range(uint64_t index) {
  if (!covers(index, 1)) return std::nullopt;
  return HostRange{fd_.get(), (index - first_) * kPageSize};
}

Result<size_t> PatchedCode::read(Park&, uint64_t offset, std::span<std::byte> out) {
  const uint64_t from = first_ * kPageSize, to = from + pages_ * kPageSize;
  if (offset < from || offset >= to) return size_t{0};
  out = out.first(std::min<uint64_t>(out.size(), to - offset));
  return sys::pread(fd_.get(), out, offset - from);
}

bool CodeBook::note(uint64_t call) {
  if (sites_.contains(call)) {
    ++debt_;
    return false;
  }
  if (notes_.size() >= kMaxNotes && !notes_.contains(call)) return false;
  return ++notes_[call] == kLearn;
}

void CodeBook::learn(const FileSite& s, std::optional<uint64_t> stamp) {
  expect(stamp);
  const bool whole = s.length() >= FileSite::kJumpBytes && s.length() <= s.moved.size() &&
                     (s.at & kPageMask) + FileSite::kJumpBytes <= kPageSize;
  if (!whole || sites_.size() >= PatchedCode::kMaxSites) return;
  const auto next = sites_.lower_bound(s.at - 1);  // a call has two bytes
  if (next != sites_.end() && next->second.at < s.call + kCallBytes) return;
  sites_.emplace(s.call, s);
}

Ref<PatchedCode> CodeBook::current(Park& park, MemoryObject& file, uint64_t first, uint64_t pages,
                                   uint64_t gate, PhysMemory& mem) {
  const std::optional<uint64_t> stamp = file.stamp();
  if (!stamp) return nullptr;
  expect(stamp);
  const bool worth = debt_ >= kWorth << copies_ && copies_ < kMaxCopies && pages <= kMaxPages &&
                     mem.code_pages + pages <= kMaxCopiedPages;
  Ref<PatchedCode> copy(copy_);
  if (worth && !making_) {
    making_ = true;
    std::vector<FileSite> sites;
    for (const auto& [call, s] : sites_) sites.push_back(s);
    Ref<MemoryObject> hold(&file);
    auto made = PatchedCode::make(park, hold, first, pages, sites, gate, mem);
    making_ = false;
    if (made && stamp_ == stamp && file.stamp() == stamp) {
      know(made->get());
      copy = *made;
    } else if (!made && made.error() == Errno::kAGAIN) {
      forget();
      copy = nullptr;
    }
  }
  if (!copy || !copy->covers(first, pages)) return nullptr;
  CodeShelf::keep(mem, *copy);
  return copy;
}

// What is known is of other contents if the stamp is another one.
void CodeBook::expect(std::optional<uint64_t> stamp) {
  if (stamp_ && stamp_ != stamp) forget();
  stamp_ = stamp;
}

void CodeBook::know(PatchedCode* copy) {
  if (copy_ != nullptr) copy_->book_ = nullptr;
  copy_ = copy;
  copy->book_ = this;
  debt_ = 0;
  ++copies_;
}

void CodeBook::forget() {
  if (copy_ != nullptr) copy_->book_ = nullptr;
  copy_ = nullptr;
  copies_ = debt_ = 0;
  notes_.clear();
  sites_.clear();
}

void CodeShelf::keep(PhysMemory& mem, PatchedCode& copy) {
  if (!mem.code_shelf) mem.code_shelf = make_ref<CodeShelf>();
  auto& copies = static_cast<CodeShelf&>(*mem.code_shelf).copies_;
  const auto at = std::ranges::find(copies, &copy, &Ref<PatchedCode>::get);
  if (at != copies.end()) {
    std::rotate(at, at + 1, copies.end());
    return;
  }
  copies.push_back(Ref<PatchedCode>(&copy));
  if (copies.size() > kMost) copies.erase(copies.begin());
}

CodeBook* CodeBooks::of(MemoryObject& file, uint32_t owner) {
  if (!file.code_books) file.code_books = make_ref<CodeBooks>();
  auto& books = static_cast<CodeBooks&>(*file.code_books).by_owner_;
  if (books.size() >= kMaxOwners && !books.contains(owner)) return nullptr;
  return &books[owner];
}

}  // namespace uk
