// What `ukernel image` does to copy-on-write files: look, check, commit into the backing file,
// change to another one. Everything that changes a file does it in steps of which each leaves it
// usable: an operation that was interrupted can be given again.
//
// Ownership: nothing is kept. Blocks the thread. Files are untrusted. On failure `why` says
// "FILE: WHY; WHAT TO DO". The files are locked while they are worked on.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ukernel/dev/cow/cow_file.h"

namespace uk::cow {

// Called now and then with the bytes that are done, and all there are to do.
using Progress = std::function<void(uint64_t done, uint64_t total)>;

enum class BackingIs : uint8_t { kAsItWas, kChanged, kMissing };
struct Info {
  Header header;
  uint64_t present = 0;    // clusters in the file
  uint64_t allocated = 0;  // bytes that the host keeps for it
  bool torn = false;
  BackingIs backing = BackingIs::kAsItWas;
};
Result<Info> image_info(const std::string& path, std::string& why);

struct CheckReport {
  uint64_t present = 0;
  std::vector<std::string> notes;     // nothing is lost by these
  std::vector<std::string> problems;  // these are wrong
};
// Reads all that is here, so that the host's errors show. A file that cannot be opened is an error;
// what else is wrong is in the report.
Result<CheckReport> image_check(const std::string& path, const Progress& progress,
                                std::string& why);

// Writes what is here into the backing file, and empties this one. `changed_too`: even if the
// backing file is not as it was. Returns the bytes written.
Result<uint64_t> image_commit(const std::string& path, bool changed_too, const Progress& progress,
                              std::string& why);

// Makes `backing` the backing file. The disk's contents stay as they are: where the new file has
// something else, this one gets a copy first. `as_is`: without looking; only the name, size and
// time are taken (the file was moved, or touched). Returns the bytes copied.
Result<uint64_t> image_rebase(const std::string& path, const std::string& backing, bool as_is,
                              const Progress& progress, std::string& why);

// A raw image: a file of so many bytes, all of it a hole.
Result<> create_raw(const std::string& path, uint64_t bytes, std::string& why);

}  // namespace uk::cow
