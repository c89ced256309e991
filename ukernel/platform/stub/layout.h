// Where things lie in a stub, and the form of a command page. The stub area is the top of the
// host's user address space:
//   base + 0      code page and constants page (read, execute; a sealed memfd)
//   base + 8192   command page (read-only there, written by the kernel)
//   base + 64 KiB signal stacks of guest threads (notify only; the guest can write them)
// The guest's addresses end at base. Constants and plain structs; nothing suspends.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ukernel/platform/stub/abi.h"

namespace uk::stub {

constexpr uint64_t kPage = UK_STUB_PAGE;
constexpr uint64_t kAreaBytes = 64ull << 20;
constexpr uint64_t kCodeOffset = 0;
constexpr uint64_t kConstantsOffset = UK_STUB_CONSTANTS;
constexpr uint64_t kCodeBytes = 2 * kPage;
constexpr uint64_t kCommandOffset = UK_STUB_COMMANDS;
constexpr uint64_t kKeptBytes = 3 * kPage;  // of the area, in a new stub
constexpr uint64_t kStacksOffset = 64 << 10;
constexpr uint64_t kStackBytes = 16 << 10;
constexpr uint32_t kMaxThreads =
    (kAreaBytes - kStacksOffset) / kStackBytes;  // of a stub, on notify

// Stubs kept for new spaces, and how many threads one of these may have.
constexpr size_t kMaxRecycledStubs = 8;
constexpr size_t kMaxRecycledThreads = 8;

struct Command {
  uint64_t nr = 0;
  uint64_t args[6] = {};
  uint64_t child = 0;  // clone only: where the child goes on
};
static_assert(sizeof(Command) == UK_CMD_BYTES);
static_assert(offsetof(Command, child) == UK_CMD_CHILD);

constexpr size_t kMaxCommands = (UK_STUB_PAGE - UK_CMD_FIRST) / UK_CMD_BYTES;

struct CommandPage {
  uint32_t count;
  uint32_t pad;
  uint64_t kernel_pid;
  uint64_t entry;
  uint64_t seq;
  uint64_t reserved[4];
  Command commands[kMaxCommands];
};
static_assert(sizeof(CommandPage) == kPage);
static_assert(offsetof(CommandPage, kernel_pid) == UK_CMD_KERNEL_PID);
static_assert(offsetof(CommandPage, entry) == UK_CMD_ENTRY);
static_assert(offsetof(CommandPage, seq) == UK_CMD_SEQ);
static_assert(offsetof(CommandPage, commands) == UK_CMD_FIRST);

extern "C" const char uk_stub_begin[], uk_stub_end[], uk_stub_boot[], uk_stub_new[];
extern "C" const char uk_stub_mm_ptrace[], uk_stub_thread_ptrace[];
extern "C" const char uk_stub_mm_notify[], uk_stub_thread_notify[], uk_stub_handler[];
// Behind the handler's system call instructions.
extern "C" const char uk_stub_report_ip[], uk_stub_set_fs_ip[], uk_stub_set_gs_ip[],
    uk_stub_sigreturn_ip[];

// The stub address of a symbol of stub_code.S.
inline uint64_t stub_address(uint64_t area_base, const char* symbol) {
  return area_base + kCodeOffset + static_cast<uint64_t>(symbol - uk_stub_begin);
}

}  // namespace uk::stub
