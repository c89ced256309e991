// Where things lie in a stub, and the form of a command page. The stub area is the top of the
// host's user address space:
//   base + 0      code page and constants page (read, execute; a sealed memfd)
//   base + 8192   command page (read-only there, written by the kernel)
//   base + 12288  published page, the same for all stubs (read-only there, written by the kernel)
//   base + 64 KiB signal stacks of guest threads (not ptrace; the guest can write them)
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
constexpr uint64_t kPublishedOffset = UK_STUB_PUBLISHED;
constexpr uint64_t kKeptBytes = 4 * kPage;  // of the area, in a new stub
constexpr uint64_t kStacksOffset = 64 << 10;
constexpr uint64_t kStackBytes = UK_STUB_STACK;
constexpr uint64_t kAreaAlign = 64 << 10;  // so that a stack's base is found by masking
constexpr uint32_t kMaxThreads = (kAreaBytes - kStacksOffset) / kStackBytes;  // of a stub

// Stubs kept for new spaces, and how many threads one of these may have.
constexpr size_t kMaxRecycledStubs = 8;
constexpr size_t kMaxRecycledThreads = 8;
constexpr size_t kStubsInTurn = 3;  // so many are worth having: one of them will be clean

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

// The published page.
struct Published {
  uint32_t patience;
};
static_assert(offsetof(Published, patience) == UK_PUB_PATIENCE);

// The slot of a guest thread.
struct SlotWords {
  uint32_t turn, nr;
  uint64_t args[6], result;
  uint64_t ret;
  uint64_t signo, uc, fs_base, gs_base;
  uint64_t was;
  uint64_t self, reserved1;
  uint64_t known[UK_KNOWN_WORDS];
  uint64_t saved[8];
  uint64_t to[UK_TO_WORDS];
  uint64_t reserved2[14];
};
static_assert(sizeof(SlotWords) == UK_SLOT_BYTES && offsetof(SlotWords, turn) == UK_SLOT_TURN);
static_assert(offsetof(SlotWords, saved) == UK_SLOT_SAVED && offsetof(SlotWords, to) == UK_SLOT_TO);

struct Errand {
  uint64_t addr, len;
  uint32_t nr, prot;
};
static_assert(sizeof(Errand) == UK_ERRAND_BYTES && offsetof(Errand, nr) == UK_ERRAND_NR &&
              offsetof(Errand, prot) == UK_ERRAND_PROT);
static_assert(UK_SLOT_ERRANDS >= UK_SLOT_BYTES &&
              UK_SLOT_ERRANDS + (UK_MAX_ERRANDS + 1) * UK_ERRAND_BYTES <= UK_SLOT_FP);
static_assert(UK_SLOT_FP + UK_SLOT_FP_BYTES <= UK_STUB_STACK / 2);  // the host's frames lie above
static_assert(offsetof(SlotWords, signo) == UK_SLOT_SIGNO && offsetof(SlotWords, uc) == UK_SLOT_UC);
static_assert(offsetof(SlotWords, fs_base) == UK_SLOT_FS &&
              offsetof(SlotWords, gs_base) == UK_SLOT_GS);
static_assert(offsetof(SlotWords, was) == UK_SLOT_WAS && offsetof(SlotWords, nr) == UK_SLOT_NR);
static_assert(offsetof(SlotWords, args) == UK_SLOT_ARGS && offsetof(SlotWords, ret) == UK_SLOT_RET);
static_assert(offsetof(SlotWords, result) == UK_SLOT_RESULT &&
              offsetof(SlotWords, self) == UK_SLOT_SELF &&
              offsetof(SlotWords, known) == UK_SLOT_KNOWN);

extern "C" const char uk_stub_begin[], uk_stub_end[], uk_stub_boot[], uk_stub_new[];
extern "C" const char uk_stub_mm_ptrace[], uk_stub_thread_ptrace[];
extern "C" const char uk_stub_mm_notify[], uk_stub_thread_notify[], uk_stub_handler[];
extern "C" const char uk_stub_handler_direct[];
// The gate: its first instruction, where patched call sites jump to, the one that returns a known
// result, where it uses rax and rdx to save (the slot has them), from where on the slot tells how
// far a call is, from where on the extended state that was to be loaded is, and its end.
extern "C" const char uk_stub_gate_begin[], uk_stub_gate[], uk_stub_gate_known[],
    uk_stub_gate_saving[], uk_stub_gate_saved[], uk_stub_gate_posted[], uk_stub_gate_loaded[],
    uk_stub_gate_end[];
// Behind the handler's system call instructions.
extern "C" const char uk_stub_report_ip[], uk_stub_set_fs_ip[], uk_stub_set_gs_ip[],
    uk_stub_sigreturn_ip[], uk_stub_park_ip[], uk_stub_gate_park_ip[], uk_stub_sleep_ip[],
    uk_stub_gate_sleep_ip[], uk_stub_report_errand_ip[], uk_stub_gate_errand_ip[];

// The stub address of a symbol of stub_code.S.
inline uint64_t stub_address(uint64_t area_base, const char* symbol) {
  return area_base + kCodeOffset + static_cast<uint64_t>(symbol - uk_stub_begin);
}

}  // namespace uk::stub
