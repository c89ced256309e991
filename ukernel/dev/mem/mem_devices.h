// The memory devices, major 1: null, zero, full, random, urandom (null(4), full(4), random(4)).
// Reads and writes may suspend on guest memory only.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "ukernel/vfs/vfs.h"

namespace uk {

using RandomSource = std::function<void(std::span<std::byte>)>;
void register_mem_devices(Vfs& vfs, RandomSource random);

}  // namespace uk
