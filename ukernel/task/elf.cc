#include "ukernel/task/elf.h"

#include <elf.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace uk {
namespace {

constexpr size_t kMaxPhdrs = 65536 / sizeof(Elf64_Phdr);
constexpr size_t kMaxInterp = 4096;
constexpr uint64_t kMaxAddress = 1ull << 47;

Prot prot_of(uint32_t flags) {
  Prot p = Prot::kNone;
  if ((flags & PF_R) != 0) p |= Prot::kRead;
  if ((flags & PF_W) != 0) p |= Prot::kWrite;
  if ((flags & PF_X) != 0) p |= Prot::kExec;
  return p;
}

Result<> check_header(const Elf64_Ehdr& h) {
  if (std::memcmp(h.e_ident, ELFMAG, SELFMAG) != 0) return Err(Errno::kNOEXEC);
  if (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_ident[EI_DATA] != ELFDATA2LSB)
    return Err(Errno::kNOEXEC);
  if (h.e_type != ET_EXEC && h.e_type != ET_DYN) return Err(Errno::kNOEXEC);
  if (h.e_machine != EM_X86_64) return Err(Errno::kNOEXEC);
  if (h.e_phentsize != sizeof(Elf64_Phdr) || h.e_phnum == 0 || h.e_phnum > kMaxPhdrs)
    return Err(Errno::kNOEXEC);
  return {};
}

Result<ElfSegment> check_segment(const Elf64_Phdr& p) {
  if (p.p_filesz > p.p_memsz) return Err(Errno::kINVAL);
  if (p.p_memsz > kMaxAddress || p.p_vaddr > kMaxAddress || p.p_offset > INT64_MAX - kMaxAddress)
    return Err(Errno::kINVAL);
  if ((p.p_vaddr & kPageMask) != (p.p_offset & kPageMask)) return Err(Errno::kINVAL);
  uint64_t align = p.p_align;
  if (!std::has_single_bit(align) || align < kPageSize || align > (1ull << 30)) align = kPageSize;
  return ElfSegment{.vaddr = p.p_vaddr,
                    .offset = p.p_offset,
                    .file_size = p.p_filesz,
                    .mem_size = p.p_memsz,
                    .align = align,
                    .prot = prot_of(p.p_flags)};
}

Result<std::string> read_interp(Park& park, File& file, const Elf64_Phdr& p) {
  if (p.p_filesz < 2 || p.p_filesz > kMaxInterp || p.p_offset > INT64_MAX)
    return Err(Errno::kNOEXEC);
  std::string name(p.p_filesz, '\0');
  TRY(read_exact(park, file, p.p_offset, std::as_writable_bytes(std::span(name))));
  if (name.back() != '\0') return Err(Errno::kNOEXEC);
  name.resize(std::strlen(name.c_str()));
  return name;
}

}  // namespace

uint64_t ElfFile::low() const {
  uint64_t v = UINT64_MAX;
  for (const ElfSegment& s : segments) v = std::min(v, page_floor(s.vaddr));
  return v;
}
uint64_t ElfFile::high() const {
  uint64_t v = 0;
  for (const ElfSegment& s : segments) v = std::max(v, page_ceil(s.vaddr + s.mem_size));
  return v;
}
uint64_t ElfFile::max_align() const {
  uint64_t v = kPageSize;
  for (const ElfSegment& s : segments) v = std::max(v, s.align);
  return v;
}

Result<> read_exact(Park& park, File& file, uint64_t offset, std::span<std::byte> to) {
  size_t done = 0;
  while (done < to.size()) {
    BufferSink sink(to.subspan(done));
    size_t n = TRY(file.read(park, sink, offset + done));
    if (n == 0) return Err(Errno::kIO);
    done += n;
  }
  return {};
}

Result<ElfFile> read_elf(Park& park, File& file) {
  Elf64_Ehdr h;
  if (!read_exact(park, file, 0, std::as_writable_bytes(std::span(&h, 1))))
    return Err(Errno::kNOEXEC);
  TRY(check_header(h));
  if (h.e_phoff > INT64_MAX - 65536) return Err(Errno::kNOEXEC);
  std::vector<Elf64_Phdr> phdrs(h.e_phnum);
  if (!read_exact(park, file, h.e_phoff, std::as_writable_bytes(std::span(phdrs))))
    return Err(Errno::kNOEXEC);

  ElfFile elf;
  elf.fixed = h.e_type == ET_EXEC;
  elf.entry = h.e_entry;
  elf.phnum = h.e_phnum;
  for (const Elf64_Phdr& p : phdrs) {
    if (p.p_type == PT_LOAD && p.p_memsz != 0) {
      ElfSegment s = TRY(check_segment(p));
      if (s.offset <= h.e_phoff && h.e_phoff < s.offset + s.file_size)
        elf.phdr_vaddr = s.vaddr + (h.e_phoff - s.offset);
      elf.segments.push_back(s);
    } else if (p.p_type == PT_INTERP && elf.interp.empty()) {
      elf.interp = TRY(read_interp(park, file, p));
    } else if (p.p_type == PT_GNU_STACK) {
      elf.has_stack_header = true;
      elf.exec_stack = (p.p_flags & PF_X) != 0;
    }
  }
  if (elf.segments.empty()) return Err(Errno::kNOEXEC);
  return elf;
}

namespace {

// The part behind the file's bytes: the rest of the last page is zeroed, whole pages are anonymous.
Result<> map_bss(Park& park, AddressSpace& mm, const MmLimits& limits, const ElfSegment& s,
                 uint64_t bias) {
  uint64_t file_end = bias + s.vaddr + s.file_size;
  uint64_t mem_end = bias + s.vaddr + s.mem_size;
  uint64_t page_end = s.file_size != 0 ? page_ceil(file_end) : page_floor(file_end);
  // To the end of the page, not of the bss: ld.so's first allocations rely on what follows it.
  if (any(s.prot & Prot::kWrite) && s.mem_size > s.file_size && file_end < page_end) {
    uint64_t n = page_end - file_end;
    if (TRY(mm.zero_out(park, file_end, n)) != n) return Err(Errno::kFAULT);
  }
  if (mem_end <= page_end) return {};
  MmapRequest r;
  r.addr = page_end;
  r.len = page_ceil(mem_end) - page_end;
  r.prot = s.prot;
  r.fixed = r.soon = true;
  TRY(mm.mmap(park, r, limits));
  return {};
}

Result<> map_segment(Park& park, AddressSpace& mm, const MmLimits& limits, const ElfSegment& s,
                     const Ref<MemoryObject>& object, const std::string& name, uint64_t bias) {
  uint64_t start = page_floor(bias + s.vaddr);
  uint64_t end = page_ceil(bias + s.vaddr + s.mem_size);
  if (end <= start || end > mm.user_limit()) return Err(Errno::kNOMEM);
  if (s.file_size != 0) {
    MmapRequest r;
    r.addr = start;
    r.len = page_ceil(bias + s.vaddr + s.file_size) - start;
    r.prot = s.prot;
    r.fixed = true;
    r.object = object;
    r.offset = page_floor(s.offset);
    r.name = name;
    TRY(mm.mmap(park, r, limits));
  }
  if (s.mem_size > s.file_size) return map_bss(park, mm, limits, s, bias);
  return {};
}

}  // namespace

Result<ElfPlace> map_elf(Park& park, AddressSpace& mm, const MmLimits& limits, const ElfFile& elf,
                         Ref<MemoryObject> object, const std::string& name, uint64_t bias) {
  ElfPlace place;
  place.bias = bias;
  place.start = bias + elf.low();
  place.end = bias + elf.high();
  place.start_code = UINT64_MAX;
  for (const ElfSegment& s : elf.segments) {
    TRY(map_segment(park, mm, limits, s, object, name, bias));
    uint64_t at = bias + s.vaddr;
    if (any(s.prot & Prot::kExec)) {
      place.start_code = std::min(place.start_code, at);
      place.end_code = std::max(place.end_code, at + s.file_size);
    } else if (any(s.prot & Prot::kWrite)) {
      place.start_data = place.start_data == 0 ? at : std::min(place.start_data, at);
      place.end_data = std::max(place.end_data, at + s.file_size);
    }
  }
  if (place.start_code == UINT64_MAX) place.start_code = place.start;
  if (place.start_data == 0) place.start_data = place.start_code;
  return place;
}

}  // namespace uk
