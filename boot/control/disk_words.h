// The commands on disks, as words: what a user writes behind `ukernel ctl NAME`, and what goes to
// the instance, where they are parsed again. Parsing only. Input is untrusted; every error is
// "WHAT: WHY; WHAT TO DO".
#pragma once

#include <string>

#include "boot/control/protocol.h"
#include "boot/options.h"

namespace uk::boot {

struct DiskCommand {
  enum class Kind : uint8_t { kList, kAdd, kRemove, kMirror, kCancelMirror } kind = Kind::kList;
  DiskSpec disk;       // the name at least; kAdd: all; kMirror: file, sync, direct
  bool force = false;  // kRemove
};

struct DiskCommandResult {
  DiskCommand command;
  std::string error;  // "": `command` is good
};

// config | config NAME=FILE[,...] | remove [--force] NAME | mirror NAME=FILE[,sync][,direct] |
// mirror NAME --cancel
DiskCommandResult parse_disk_command(const Words& words);
bool is_disk_command(const std::string& word);

// The same for another process: relative paths are `directory`'s.
Words words_of(const DiskCommand& command, const std::string& directory);

}  // namespace uk::boot
