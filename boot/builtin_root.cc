#include "boot/builtin_root.h"

// From the assembly file that tools/mkroot makes.
extern "C" const std::byte uk_builtin_root_begin[];
extern "C" const std::byte uk_builtin_root_end[];

namespace uk {

std::span<const std::byte> builtin_root_cpio() {
  return {uk_builtin_root_begin, uk_builtin_root_end};
}

}  // namespace uk
