// Makes an ext4 image of a directory or a tar archive: what `ukernel image create --from=` does.
//
// Ownership: nothing is kept. Blocks the thread. The source is untrusted (source.h). On failure
// `why` says "WHAT: WHY; WHAT TO DO", and there is no new file (output_file.h).
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "mkimage/source.h"

namespace uk::mkimage {

struct ImageOrder {
  std::string file;
  std::string from;    // a directory, an archive, or "-" for one on standard input
  uint64_t bytes = 0;  // 0: what there is, a quarter more, and 128 MiB
  std::optional<std::pair<uint32_t, uint32_t>> owner;  // of all files
  bool replace = false;                                // a file that is there
};

struct ImageMade {
  uint64_t bytes = 0, free = 0;  // of the image
  uint64_t files = 0;
  std::vector<std::string> notes;  // what is not in it, a sentence each
};

// `unpacking` is called while a compressed archive is unpacked, `writing` then.
Result<ImageMade> make_image(const ImageOrder& order, const Progress& unpacking,
                             const Progress& writing, std::string& why);

}  // namespace uk::mkimage
