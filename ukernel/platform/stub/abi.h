// Numbers shared by the stub's assembly and the kernel: the layout of the stub area and of a
// command page. Preprocessor only, because an assembler reads it; C++ uses stub/layout.h.
#pragma once

#define UK_STUB_PAGE 4096

// Pages of the area: code, constants (written once, sealed), commands, what the kernel publishes.
#define UK_STUB_CONSTANTS 4096
#define UK_STUB_COMMANDS 8192
#define UK_STUB_PUBLISHED 12288
#define UK_STUB_STACK 16384  // of a guest thread's signal stack; each is aligned to its size

// Header of a command page, then commands.
#define UK_CMD_COUNT 0       // u32: commands in this batch
#define UK_CMD_KERNEL_PID 8  // u64: a stub whose parent is another has lost its kernel
#define UK_CMD_ENTRY 16      // u64: address of the loop a new stub enters
#define UK_CMD_SEQ 24        // u64: of the batch; comes back with its result (notify)
#define UK_CMD_FIRST 64
#define UK_CMD_BYTES \
  64  // of one command: number, six arguments, address where a cloned child goes on
#define UK_CMD_CHILD 56

// Constants page; the last is a struct sock_fprog with the guest threads' filter, then the filter.
#define UK_CONST_FSGSBASE 0  // u32: not zero if programs may use RDFSBASE and friends
#define UK_CONST_SAVES 4     // u32: not zero if the gate can save and load all registers
#define UK_CONST_FEATURES 8  // u64: of these it saves and loads the extended state
#define UK_CONST_FILTER 16

// System call numbers that mean a report to the kernel when made from stub code (notify, direct).
// No host has such calls.
#define UK_NR_BATCH_DONE 0x7ffe0001
#define UK_NR_REPORT 0x7ffe0002
#define UK_NR_PARK 0x7ffe0003  // waits for the answer to what is in the slot (direct)

// The published page: read-only in every stub, one for all.
#define UK_PUB_PATIENCE 0  // u32: turns to wait for the kernel by spinning; 0: it does not look

// The slot at the lowest address of a guest thread's signal stack (direct): a report without a
// system call. The guest can write it.
// A call through the gate and its answer are one cache line, as each that moves between CPUs is a
// large part of what a call costs.
#define UK_SLOT_TURN 0     // u32: one of UK_TURN_*, or UK_TURN_ANSWERED | answer
#define UK_SLOT_NR 4       // u32: of a call through the gate...
#define UK_SLOT_ARGS 8     // u64[6]
#define UK_SLOT_RESULT 56  // u64: ... the same as UK_SLOT_RET, and then by the kernel its result
#define UK_SLOT_RET 64     // u64: where it returns to: behind the call instruction of its site
#define UK_SLOT_SIGNO 72   // u64: the handler's arguments...
#define UK_SLOT_UC 80      // u64
#define UK_SLOT_FS 88      // u64: ... and the bases
#define UK_SLOT_GS 96      // u64
#define UK_SLOT_WAS 104    // u64: the turn that the handler's report found: what it interrupted
#define UK_SLOT_SELF 112   // u64 by the kernel: the address of the slot in its stub
#define UK_SLOT_KNOWN 128  // u64[8]: results of calls that the gate returns by itself, 0: of none
// UK_TURN_CALL_ALL: u64[8], rbx rbp rsp r12 r13 r14 r15, and with UK_CONST_FSGSBASE fs_base.
#define UK_SLOT_SAVED 192
// u64[18] by the kernel, at UK_TO_*: what a call that is answered with UK_LOAD_* returns with.
#define UK_SLOT_TO 256
#define UK_SLOT_BYTES 512
// By the kernel: changes of its space that the thread makes before it goes on, as an answer with
// UK_ANSWER_ERRANDS says. Each: address, length, call number (0: the end), protection. The stub
// clears the first number when all are made.
#define UK_SLOT_ERRANDS 1024
#define UK_ERRAND_NR 16    // u32
#define UK_ERRAND_PROT 20  // u32
#define UK_ERRAND_BYTES 24
#define UK_MAX_ERRANDS 16
#define UK_SLOT_FP 4096  // of UK_TURN_CALL_ALL (but rt_sigreturn), and to load: as XSAVE has it...
#define UK_SLOT_FP_BYTES 4096  // ... or, where that is larger, not used
#define UK_TURN_REPORTED 1     // by the stub: a report is there
#define UK_TURN_TAKEN 2        // by the kernel: it will be answered (a call: after a while)
#define UK_TURN_SLEEP 3  // by either: the stub waits no longer by spinning but asleep on this word
#define UK_TURN_PARK 4   // by the kernel: go and wait there
#define UK_TURN_CALL 5   // by the stub: a call through the gate is there
#define UK_TURN_BACK 6   // by the kernel: make the call by its instruction, for the registers
#define UK_TURN_CALL_ALL 7  // by the stub: the same as UK_TURN_CALL, with all registers
#define UK_TURN_ANSWERED 0x80000000
#define UK_SYSCALL_BYTES 2  // of the call instruction

// Known results, each with UK_KNOWN above its 32 bits; word 0 is of the calls that are not among
// them.
#define UK_KNOWN_NONE 0
#define UK_KNOWN_PID 1
#define UK_KNOWN_TID 2
#define UK_KNOWN_UID 3
#define UK_KNOWN_GID 4
#define UK_KNOWN_EUID 5
#define UK_KNOWN_EGID 6
// Of calls that may change registers, or that mostly end when a signal comes: the gate saves them;
// no result.
#define UK_KNOWN_ALL 7
#define UK_KNOWN_WORDS 8
#define UK_KNOWN 0x100000000

// What a call through the gate returns with, words of UK_SLOT_TO.
#define UK_TO_RAX 0
#define UK_TO_RBX 8
#define UK_TO_RCX 16
#define UK_TO_RDX 24
#define UK_TO_RSI 32
#define UK_TO_RDI 40
#define UK_TO_RBP 48
#define UK_TO_RSP 56
#define UK_TO_R8 64
#define UK_TO_R9 72
#define UK_TO_R10 80
#define UK_TO_R11 88
#define UK_TO_R12 96
#define UK_TO_R13 104
#define UK_TO_R14 112
#define UK_TO_R15 120
#define UK_TO_RIP 128
#define UK_TO_FLAGS 136
#define UK_TO_WORDS 18
#define UK_LOAD_REGS 1  // the answer to a call: it returns with the registers there...
#define UK_LOAD_FP 2    // ... and the state at UK_SLOT_FP

// The kernel's answer to a report: what is to be done before the return.
#define UK_ANSWER_CLEAR_SEGMENTS 1
#define UK_ANSWER_SET_FS 2
#define UK_ANSWER_SET_GS 4
#define UK_ANSWER_ERRANDS 8  // also of a call: with UK_LOAD_*
// The answer comes in the slot, where the turn is UK_TURN_TAKEN (direct). No other bit comes with
// it, but from bit UK_ANSWER_PATIENCE on: how many turns to wait for it by spinning.
#define UK_ANSWER_IN_SLOT 16
#define UK_ANSWER_PATIENCE 8

// Offsets in a ucontext: two words the host leaves alone, which carry the bases to load on return.
#define UK_UC_FS_BASE 232
#define UK_UC_GS_BASE 240
