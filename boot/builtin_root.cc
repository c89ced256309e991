#include "boot/builtin_root.h"

#include <link.h>

// From the assembly file that tools/mkroot makes.
extern "C" const std::byte uk_builtin_root_begin[];
extern "C" const std::byte uk_builtin_root_end[];

namespace uk {

std::span<const std::byte> builtin_root_cpio() {
  return {uk_builtin_root_begin, uk_builtin_root_end};
}

std::optional<uint64_t> builtin_root_file_offset() {
  std::optional<uint64_t> found;
  auto look = [](dl_phdr_info* info, size_t, void* out) {
    auto at = reinterpret_cast<uintptr_t>(uk_builtin_root_begin);
    auto end = reinterpret_cast<uintptr_t>(uk_builtin_root_end);
    for (int i = 0; i < info->dlpi_phnum; ++i) {
      const auto& p = info->dlpi_phdr[i];
      uintptr_t start = info->dlpi_addr + p.p_vaddr;
      if (p.p_type != PT_LOAD || at < start || end > start + p.p_filesz) continue;
      *static_cast<std::optional<uint64_t>*>(out) = p.p_offset + (at - start);
      return 1;
    }
    return 0;
  };
  dl_iterate_phdr(look, &found);
  return found;
}

}  // namespace uk
