// Code that comes patched with its mapping (mm/patched_code.h): when a space maps it, and the
// thunks that belong to it.

#include <algorithm>
#include <array>
#include <vector>

#include "ukernel/mm/patched_code.h"
#include "ukernel/mm/space.h"

namespace uk {
namespace {

bool is_file_code(const Vma& v) {
  return v.host && !v.shared && v.has(Prot::kExec) && !v.has(Prot::kWrite);
}

MemoryObject& file_of(MemoryObject& o) {
  const PatchedCode* code = o.patched_code();
  return code != nullptr ? *code->file() : o;
}

}  // namespace

bool AddressSpace::note_file_call(uint64_t ip) {
  const uint64_t call = ip - kCallBytes;
  const Vma* v = impl_->vmas.find(call);
  if (!code_owner || v == nullptr || !is_file_code(*v)) return false;
  CodeBook* book = CodeBooks::of(file_of(*v->object), *code_owner);
  return book != nullptr && book->note(v->offset + (call - v->start));
}

void AddressSpace::learn_file_call(Park& park, const arch::UserRegs& at_call) {
  const uint64_t call = at_call.rip - kCallBytes;
  const Vma* v = impl_->vmas.find(call);
  if (!code_owner || v == nullptr || !is_file_code(*v)) return;
  const Ref<MemoryObject> file(&file_of(*v->object));
  const uint64_t offset = v->offset + (call - v->start);
  if (offset < kBytesBeforeCall) return;
  std::array<uint8_t, kBytesBeforeCall + kCallBytes> bytes;
  auto n = file->read(park, offset - kBytesBeforeCall, std::as_writable_bytes(std::span(bytes)));
  if (!n || *n < bytes.size() || bytes[kBytesBeforeCall] != 0x0f ||
      bytes[kBytesBeforeCall + 1] != 0x05) {
    return;
  }
  const auto before = std::span<const uint8_t>(bytes).first(kBytesBeforeCall);
  const size_t length = movable_length(park, *this, before, at_call);
  if (length == 0) return;
  FileSite site{.at = offset - length, .call = offset};
  std::ranges::copy(before.last(length), site.moved.begin());
  CodeBook* book = CodeBooks::of(*file, *code_owner);
  if (book != nullptr) book->learn(site, file->stamp());
}

Ref<PatchedCode> AddressSpace::Impl::patched_code(Park& park, const MmapRequest& r) {
  const bool code = r.object && !r.shared && any(r.prot & Prot::kExec) &&
                    !any(r.prot & Prot::kWrite) && r.object->code_books &&
                    r.object->host_range(r.offset / kPageSize).has_value();
  if (!code || !space.code_owner || space.call_sites.off() || platform.gate() == 0) return nullptr;
  CodeBook* book = CodeBooks::of(*r.object, *space.code_owner);
  if (book == nullptr) return nullptr;
  return book->current(park, *r.object, r.offset / kPageSize, page_ceil(r.len) / kPageSize,
                       platform.gate(), mem);
}

bool AddressSpace::adopt_patched_code(Park& park, uint64_t ip) {
  Impl& im = *impl_;
  const uint64_t call = ip - kCallBytes;
  auto find = [&]() -> Vma* {
    Vma* v = im.vmas.find(call);
    const bool plain = v != nullptr && is_file_code(*v) && v->object->patched_code() == nullptr;
    return plain ? v : nullptr;
  };
  Vma* v = find();
  if (v == nullptr) return false;
  MmapRequest same;
  same.len = v->len();
  same.prot = v->prot;
  same.object = v->object;
  same.offset = v->offset;
  const uint64_t id = v->id;
  Ref<PatchedCode> code = im.patched_code(park, same);
  v = find();
  if (!code || v == nullptr || v->id != id || !im.room_for_thunks(v->start, v->offset))
    return false;
  const uint64_t offset = v->offset + (call - v->start);
  const bool has =
      std::ranges::any_of(code->sites(), [&](const FileSite& site) { return site.call == offset; });
  if (!has) return false;
  const uint64_t base = v->start - v->offset;
  im.map_thunks(code, base, /*late=*/false);
  // The thunks must be there before anybody is sent to one.
  const bool there = flush(park).has_value();
  v = find();
  if (!there || v == nullptr || v->id != id) {
    im.drop_thunks(*code, base);
    return false;
  }
  im.reveal(v->start, v->end);
  im.keep_until_flush(v->object);
  v->set_object(code);
  im.map_host(*v, v->start, v->end);
  im.vmas.merge(*v);
  return true;
}

bool AddressSpace::Impl::room_for_thunks(uint64_t addr, uint64_t offset) const {
  constexpr uint64_t kLength = PatchedCode::kThunkPages * kPageSize;
  if (addr < offset || addr - offset < kMinAddr + kLength) return false;
  const uint64_t base = addr - offset, at = PatchedCode::thunks_at(base);
  // Nor where a stack may grow to.
  const Vma* above = vmas.at_or_above(at);
  return vmas.free(at, base) &&
         (above == nullptr || !above->grows_down || above->start - at >= stack_limit);
}

void AddressSpace::Impl::map_thunks(Ref<PatchedCode> code, uint64_t base, bool late) {
  auto v = std::make_unique<Vma>(*this);
  v->start = PatchedCode::thunks_at(base);
  v->end = base;
  v->prot = Prot::kRead | Prot::kExec;
  v->name = "[ukernel-calls]";
  v->set_object(code->thunks());
  v->host = true;
  v->sealed = any_sealed = true;
  Vma& added = add(std::move(v));
  map_host(added, added.start, added.end, late);
  space.call_sites.add_shared(base, std::move(code));
}

void AddressSpace::Impl::drop_thunks(PatchedCode& code, uint64_t base) {
  const uint64_t end = base + page_ceil(code.size());
  for (const Vma* v = vmas.at_or_above(base); v != nullptr && v->start < end; v = vmas.next(*v)) {
    if (v->object.get() == &code && v->start - v->offset == base) return;  // in use
  }
  space.call_sites.remove_shared(base);
  Vma* v = vmas.find(PatchedCode::thunks_at(base));
  if (v == nullptr || v->object != code.thunks()) return;
  v->sealed = false;
  remove_range(v->start, v->end);
}

void AddressSpace::leave_patched_code(Park& park) {
  struct Change {
    uint64_t at;
    std::array<uint8_t, FileSite::kJumpBytes> from, to;
  };
  std::vector<Change> copied;  // in private copies of the patched pages
  std::vector<uint64_t> places;
  Impl& im = *impl_;
  for (auto& [start, v] : im.vmas.map()) {
    PatchedCode* code = v->object ? v->object->patched_code() : nullptr;
    if (code == nullptr) continue;
    for (size_t i = 0; i < code->sites().size(); ++i) {
      const FileSite& s = code->sites()[i];
      if (s.at < v->offset || s.at - v->offset >= v->len()) continue;
      const uint64_t at = v->start + (s.at - v->offset);
      if (!im.pt.get(at / kPageSize)) continue;
      Change c{.at = at, .from = code->jump(i), .to = {}};
      std::copy_n(s.moved.begin(), c.to.size(), c.to.begin());
      copied.push_back(c);
    }
    im.keep_until_flush(v->object);
    places.push_back(v->start);
  }
  for (const uint64_t start : places) {
    Vma& v = *im.vmas.find(start);
    im.reveal(v.start, v.end);
    v.set_object(v.object->patched_code()->file());
    im.map_host(v, v.start, v.end);
    im.vmas.merge(v);
  }
  for (const Change& c : copied) {
    (void)replace_code(park, c.at, std::as_bytes(std::span(c.from)),
                       std::as_bytes(std::span(c.to)));
  }
}

}  // namespace uk
