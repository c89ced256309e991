// ELF files as execve(2) sees them (elf(5), System V gABI chapter 5): reading and checking headers,
// and mapping the loadable segments. Everything in a file is untrusted: each number is bounded
// before it is used, and a lying header is an error, never a surprise. Reading and mapping suspend.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/mm/address_space.h"
#include "ukernel/vfs/file.h"

namespace uk {

struct ElfSegment {
  uint64_t vaddr, offset, file_size, mem_size, align;
  Prot prot;
};

struct ElfFile {
  bool fixed = false;  // ET_EXEC: only at its own addresses
  uint64_t entry = 0;
  uint64_t phdr_vaddr = 0;  // of the program headers in memory; 0: in no segment
  uint16_t phnum = 0;
  std::string interp;  // PT_INTERP, empty without
  bool exec_stack = false;
  bool has_stack_header = false;
  std::vector<ElfSegment> segments;  // PT_LOAD, in file order
  uint64_t low() const;              // page-aligned bounds of all segments
  uint64_t high() const;
  uint64_t max_align() const;
};

// Errors: kNOEXEC (not an ELF we run), kINVAL (contradicts itself), kIO.
Result<ElfFile> read_elf(Park& park, File& file);

// Where a mapped file lies.
struct ElfPlace {
  uint64_t bias = 0;
  uint64_t start = 0, end = 0;  // all of it
  uint64_t start_code = 0, end_code = 0, start_data = 0, end_data = 0;
};
// Maps all segments at `bias` (0 for ET_EXEC) from the file's memory object.
Result<ElfPlace> map_elf(Park& park, AddressSpace& mm, const MmLimits& limits, const ElfFile& elf,
                         Ref<MemoryObject> object, const std::string& name, uint64_t bias);

// Reads exactly to.size() bytes at `offset`; fewer is kIO.
Result<> read_exact(Park& park, File& file, uint64_t offset, std::span<std::byte> to);

}  // namespace uk
