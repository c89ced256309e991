// What a sequence of the oracle is made of: calls, their arguments, and how both are written as
// text.
//
// A sequence is a list of calls, each made by one of up to four processes; 0 is the first, `fork`
// makes the others. A call is a line of text
//
//     0 a=openat cwd d/a O_RDWR|O_CREAT 0644
//
// (process, the slot that takes a descriptor, name, arguments), which parse() reads back.
// Descriptors are named by the slots `a`..`p`, memory by its place in the arena (`@3+5`: page 3,
// byte 5), so that a line keeps its sense when others are left out. All arguments are kept as one
// number; its kind says what it means. Data is the sequence's own; nothing here suspends, and
// nothing is untrusted but the file that is given to parse().
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace oracle {

constexpr int kSlots = 16;
constexpr int kProcesses = 4;
constexpr int kMaxArgs = 6;
constexpr uint64_t kArena = 0x10000000000;  // where the memory calls work
constexpr uint64_t kPage = 4096;
constexpr int kArenaPages = 48;
constexpr int64_t kBad = INT64_MIN;  // a pointer that points nowhere, in any argument
constexpr int64_t kCwd = -100;       // AT_FDCWD among slots

enum class Kind : uint8_t {
  kInt,     // one of the words' values, in decimal; any number when read back
  kOctal,   // a mode
  kWords,   // symbols joined by |
  kFd,      // a slot
  kPath,    // a name inside the scratch directory
  kAddr,    // a place in the arena
  kLen,     // a length for the arena
  kBuffer,  // where a call reads or writes data: 0 is a buffer of our own, else a place in the
            // arena
  kProc,    // a process by its number; -1 is nobody's pid, 0..3 the sequence's
};

struct Word {
  const char* name;
  uint64_t value;
  int weight = 10;  // of a choice: its share; of a bit: per cent
};

// The values an argument may take: one of `choice`, and any of `bits`.
struct Words {
  std::vector<Word> choice, bits;
};

struct ArgSpec {
  Kind kind;
  const Words* words = nullptr;  // for kInt, kOctal and kWords
  uint32_t fds = 0;              // for kFd: the preferred sorts (FdSort bits); 0 is any
};

// What a slot most likely holds, to choose arguments that do something.
enum FdSort : uint32_t {
  kFile = 1,
  kDir = 2,
  kPipe = 4,
  kSocket = 8,
  kEvent = 16,
  kTimer = 32,
  kEpoll = 64,
  kSignalFd = 128,
  kPidFd = 256,
  kWatch = 512,
  kData = kFile | kPipe | kSocket,
  kCwdToo = 1u << 31,  // AT_FDCWD most of the time
};

// What a sequence is about. Each is about a few at most, so that calls meet.
enum Domain : uint32_t {
  kFiles = 1,
  kTree = 2,
  kPipes = 4,
  kSockets = 8,
  kEvents = 16,
  kMemory = 32,
  kSignals = 64,
  kProcs = 128,
  kXattrs = 256,
  kFds = 512,
  kDomains = 10,
};

class Run;

struct Desc {
  const char* name;
  uint32_t domains;
  int weight;
  std::vector<ArgSpec> args;
  void (*run)(Run&);
  uint32_t makes = 0;    // sort of the descriptor(s) that the call returns
  int results = 0;       // how many
  bool settles = false;  // what other processes do about it must be over before the next call
};

struct Call {
  const Desc* desc = nullptr;
  int process = 0;
  int result[2] = {-1, -1};
  int64_t arg[kMaxArgs] = {};
};

const std::vector<Desc>& table();  // every call there is
const std::vector<std::string>& paths();

std::string format(const Call& call);
std::optional<Call> parse(std::string_view line, std::string* why);

}  // namespace oracle
