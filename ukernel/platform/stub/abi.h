// Numbers shared by the stub's assembly and the kernel: the layout of the stub area and of a command page. Preprocessor
// only, because an assembler reads it; C++ uses stub/layout.h.
#pragma once

#define UK_STUB_PAGE 4096

// Header of a command page, then commands.
#define UK_CMD_COUNT 0        // u32: commands in this batch
#define UK_CMD_KERNEL_PID 8   // u64: a stub whose parent is another has lost its kernel
#define UK_CMD_ENTRY 16       // u64: address of the loop a new stub enters
#define UK_CMD_FIRST 64
#define UK_CMD_BYTES 64       // of one command: number, six arguments, address where a cloned child goes on
#define UK_CMD_CHILD 56
