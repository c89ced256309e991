#include "ukernel/vdso/vdso.h"

#include <cpuid.h>
#include <x86intrin.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "ukernel/mm/memory_object.h"
#include "ukernel/vdso/vdso_page.h"

extern "C" const std::byte uk_vdso_image[], uk_vdso_image_end[];

namespace uk {
namespace {

constexpr uint64_t kPublishEveryNs = 1'000'000;
constexpr uint64_t kFirstWindowNs = 2'000'000;  // before, the rate is not known well enough
constexpr uint64_t kWindowNs = 30 * kNsPerSec;
constexpr uint32_t kShift = 32;
constexpr uint64_t kSlewShift = 12;  // 244 ppm slower while the guest is ahead
// A reading may take so many times the quickest one so far; one more try is then made.
constexpr uint64_t kReadSlack = 4;
constexpr int kReadTries = 3;
// The clocks differ by another amount only when somebody sets the wall clock; less is the reading's
// own uncertainty, and must not make time go back.
constexpr uint64_t kSameOffsetNs = 2000;

bool invariant_tsc() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(0x80000007, &a, &b, &c, &d) != 0 && (d & (1u << 8)) != 0;
}

constexpr const char* kDataName = "[vvar]";

uint64_t image_bytes() { return static_cast<uint64_t>(uk_vdso_image_end - uk_vdso_image); }

uint64_t scale(uint64_t ticks, uint64_t mult) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(ticks) * mult >> kShift);
}

}  // namespace

// The data page, then the image.
class Vdso::Frames final : public MemoryObject {
 public:
  explicit Frames(std::vector<PageRef> pages) : pages_(std::move(pages)) {}
  Result<PageRef> get_page(Park&, uint64_t index, bool for_write) override {
    if (index >= pages_.size() || for_write) return Err(Errno::kFAULT);
    return pages_[index];
  }
  Pfn cached_page(uint64_t index) override {
    return index < pages_.size() ? pages_[index].pfn() : kNoPfn;
  }
  Result<size_t> read(Park&, uint64_t offset, std::span<std::byte> out) override {
    size_t done = 0;
    while (done < out.size() && offset + done < size()) {
      uint64_t at = offset + done;
      size_t n = std::min<size_t>(out.size() - done, kPageSize - (at & kPageMask));
      std::memcpy(out.data() + done, pages_[at / kPageSize].data() + (at & kPageMask), n);
      done += n;
    }
    return done;
  }
  uint64_t size() override { return pages_.size() * kPageSize; }
  bool writable() const override { return false; }
  std::byte* data() const { return pages_[0].data(); }

 private:
  std::vector<PageRef> pages_;
};

std::unique_ptr<Vdso> Vdso::create(PhysMemory& mem, Clock& clock, int cpus) {
  std::vector<PageRef> pages;
  for (uint64_t at = 0; at < kPageSize + image_bytes(); at += kPageSize) {
    Result<Pfn> pfn = mem.alloc();
    if (!pfn) return nullptr;
    pages.push_back(PageRef::adopt(mem, *pfn));
    if (at == 0) continue;
    uint64_t done = at - kPageSize;
    std::memcpy(pages.back().data(), uk_vdso_image + done,
                std::min<uint64_t>(kPageSize, image_bytes() - done));
  }
  Result<Pfn> pfn = mem.alloc();
  if (!pfn) return nullptr;
  std::vector<PageRef> calls_page;
  calls_page.push_back(PageRef::adopt(mem, *pfn));
  auto vdso = std::unique_ptr<Vdso>(
      new Vdso(clock, make_ref<Frames>(std::move(pages)), make_ref<Frames>(std::move(calls_page))));
  vdso->page_->cpus = static_cast<uint32_t>(cpus);
  reinterpret_cast<VdsoPage*>(vdso->calls_page_->data())->cpus = static_cast<uint32_t>(cpus);
  return vdso;
}

Vdso::Vdso(Clock& clock, Ref<Frames> frames, Ref<Frames> calls_page)
    : clock_(clock),
      frames_(std::move(frames)),
      calls_page_(std::move(calls_page)),
      page_(reinterpret_cast<VdsoPage*>(frames_->data())),
      constant_tsc_(invariant_tsc()) {
  page_->shift = kShift;
}

Vdso::~Vdso() = default;

Result<> Vdso::map_page(Park& park, AddressSpace& mm, const MmLimits& limits, uint64_t at,
                        Page page) {
  MmapRequest r;
  r.addr = at;
  r.len = kPageSize;
  r.prot = Prot::kRead;
  r.fixed = r.soon = true;
  r.shared = true;
  r.may_write = false;
  r.object = page == Page::kClock ? frames_ : calls_page_;
  r.name = kDataName;
  TRY(mm.mmap(park, r, limits));
  return {};
}

Result<uint64_t> Vdso::map(Park& park, AddressSpace& mm, const MmLimits& limits, Page page) {
  uint64_t image_len = page_ceil(image_bytes());
  std::optional<uint64_t> gap = mm.find_gap(kPageSize + image_len);
  if (!gap) return Err(Errno::kNOMEM);
  TRY(map_page(park, mm, limits, *gap, page));
  MmapRequest r;
  r.addr = *gap + kPageSize;
  r.len = image_len;
  r.prot = Prot::kRead | Prot::kExec;
  r.fixed = r.soon = true;
  r.offset = kPageSize;
  r.object = frames_;
  r.name = "[vdso]";
  return mm.mmap(park, r, limits);
}

Result<> Vdso::answer_by(Park& park, AddressSpace& mm, const MmLimits& limits, Page page) {
  std::vector<uint64_t> places;  // it may have been moved, never copied
  mm.each_vma([&](const VmaInfo& v) {
    if (v.name == kDataName) places.push_back(v.start);
  });
  for (uint64_t at : places) TRY(map_page(park, mm, limits, at, page));
  return {};
}

void Vdso::publish(uint64_t now_ns) {
  if (!constant_tsc_ || now_ns - last_ns_ < kPublishEveryNs) return;
  last_ns_ = now_ns;
  std::optional<Reading> r = read();
  if (!r) return;
  if (first_ns_ == 0) {
    first_ns_ = r->monotonic_ns;
    first_tsc_ = r->tsc;
  } else if (r->monotonic_ns - first_ns_ >= kFirstWindowNs) {
    write(*r);
  }
}

std::optional<Vdso::Reading> Vdso::read() {
  for (int i = 0; i < kReadTries; ++i) {
    Reading r;
    r.tsc = __rdtsc();
    r.monotonic_ns = clock_.monotonic_ns();
    r.realtime_ns = clock_.realtime_ns();
    const uint64_t took = __rdtsc() - r.tsc;
    quickest_read_ = std::min(quickest_read_, took);
    if (took <= quickest_read_ * kReadSlack) return r;
  }
  return std::nullopt;
}

std::optional<Vdso::Times> Vdso::now() const {
  if (page_->usable == 0) return std::nullopt;
  _mm_lfence();
  const uint64_t tsc = __rdtsc();
  const uint64_t since = tsc > page_->tsc ? scale(tsc - page_->tsc, page_->mult) : 0;
  return Times{page_->monotonic_ns + since, page_->realtime_ns + since};
}

void Vdso::write(const Reading& r) {
  const uint64_t tsc = r.tsc, now_ns = r.monotonic_ns;
  uint64_t ticks = tsc - first_tsc_;
  if (tsc <= first_tsc_ || ticks == 0) {  // the counter was reset (host suspend, migration)
    constant_tsc_ = false;
    page_->usable = 0;
    return;
  }
  auto mult =
      static_cast<uint64_t>((static_cast<unsigned __int128>(now_ns - first_ns_) << kShift) / ticks);
  uint64_t mono = now_ns;
  if (page_->usable != 0 && tsc > page_->tsc) {
    // The guest's clock does not go back: when it is ahead it runs slower until it is not.
    uint64_t shown = page_->monotonic_ns + scale(tsc - page_->tsc, page_->mult);
    if (shown > mono) {
      mono = shown;
      mult -= mult >> kSlewShift;
    }
  }
  const uint64_t offset = r.realtime_ns - r.monotonic_ns;
  if (offset - wall_offset_ns_ + kSameOffsetNs > 2 * kSameOffsetNs) wall_offset_ns_ = offset;
  auto* seq = reinterpret_cast<std::atomic<uint32_t>*>(&page_->seq);
  seq->fetch_add(1);
  page_->tsc = tsc;
  page_->mult = mult;
  page_->monotonic_ns = mono;
  page_->realtime_ns = mono + wall_offset_ns_;
  page_->usable = 1;
  seq->fetch_add(1);
  // The rate is that of the last half to whole window.
  if (now_ns - first_ns_ < kWindowNs) return;
  if (middle_ns_ > first_ns_) first_ns_ = middle_ns_, first_tsc_ = middle_tsc_;
  middle_ns_ = now_ns, middle_tsc_ = tsc;
}

}  // namespace uk
