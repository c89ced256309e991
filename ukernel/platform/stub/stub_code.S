// The code that runs in a stub besides the guest: position-independent, one page, no stack, no data
// but the command page that follows it. The guest can read and even jump into all of it; nothing
// here trusts a register it did not load from the command page, and system calls are granted by
// filters, never by being here.
#include <asm/unistd.h>

#include "ukernel/platform/stub/abi.h"

#define PROT_READ 1
#define MAP_SHARED_FIXED 0x11
#define PR_SET_PDEATHSIG 1
#define SIGKILL 9
#define ARCH_SET_GS 0x1001
#define ARCH_SET_FS 0x1002
#define FUTEX_WAKE 1
#define SECCOMP_SET_MODE_FILTER 1
#define MAX_ERRNO_RAX $-4095

    .section .rodata.uk_stub, "a", @progbits
    .balign 64
    .globl uk_stub_begin
uk_stub_begin:
    .set commands, uk_stub_begin + UK_STUB_COMMANDS
    .set constants, uk_stub_begin + UK_STUB_CONSTANTS
    .set published, uk_stub_begin + UK_STUB_PUBLISHED

// Entered once by the zygote, from C: rdi = base of the area, rsi = bytes to keep there, rdx = top
// of the address space, rcx = a futex to wake. Removes everything else.
    .globl uk_stub_boot
uk_stub_boot:
    mov %rdi, %r12
    lea (%rdi,%rsi), %r13
    mov %rdx, %r14
    sub %r13, %r14
    mov %rcx, %rdi
    mov $FUTEX_WAKE, %esi
    mov $1, %edx
    mov $__NR_futex, %eax
    syscall
    mov $ARCH_SET_FS, %edi
    xor %esi, %esi
    mov $__NR_arch_prctl, %eax
    syscall
    mov $ARCH_SET_GS, %edi
    xor %esi, %esi
    mov $__NR_arch_prctl, %eax
    syscall
    xor %edi, %edi
    mov %r12, %rsi
    mov $__NR_munmap, %eax
    syscall
    test %rax, %rax
    jnz die
    test %r14, %r14
    jz 1f
    mov %r13, %rdi
    mov %r14, %rsi
    mov $__NR_munmap, %eax
    syscall
    test %rax, %rax
    jnz die
1:  // Nothing of the kernel may stay in a register: guests' threads begin with a copy of this state.
    mov $-1, %eax
    mov %eax, %edx
    xrstor64 initial_xstate(%rip)
    xor %ebp, %ebp
    xor %esp, %esp
    xor %ecx, %ecx
    xor %r8d, %r8d
    xor %r9d, %r9d
    xor %r10d, %r10d
    xor %r11d, %r11d
    xor %r12d, %r12d
    xor %r13d, %r13d
    xor %r14d, %r14d
    xor %r15d, %r15d
    jmp *commands + UK_CMD_ENTRY(%rip)

// A stub cloned from the zygote begins here with r8 = descriptor and r9 = offset of its own command
// page.
    .globl uk_stub_new
uk_stub_new:
    lea commands(%rip), %rdi
    mov $UK_STUB_PAGE, %esi
    mov $PROT_READ, %edx
    mov $MAP_SHARED_FIXED, %r10d
    mov $__NR_mmap, %eax
    syscall
    cmp MAX_ERRNO_RAX, %rax
    jae die
    mov $PR_SET_PDEATHSIG, %edi
    mov $SIGKILL, %esi
    mov $__NR_prctl, %eax
    syscall
    test %rax, %rax
    jnz die
    mov $__NR_getppid, %eax
    syscall
    cmp commands + UK_CMD_KERNEL_PID(%rip), %rax
    jne die
    xor %eax, %eax
    xor %r13d, %r13d
    jmp *commands + UK_CMD_ENTRY(%rip)

die:
    mov $127, %edi
    mov $__NR_exit_group, %eax
    syscall
    ud2

// Executes the batch in the command page. Leaves rax = the last result, r13 = commands not executed
// (the first of these failed with rax). A cloned child goes to the command's eighth word with the
// parent's registers, but rax.
.macro EXECUTE_BATCH done
    mov commands + UK_CMD_COUNT(%rip), %r13d
    lea commands + UK_CMD_FIRST(%rip), %rbx
1:  test %r13, %r13
    jz \done
    mov 0(%rbx), %rax
    mov 8(%rbx), %rdi
    mov 16(%rbx), %rsi
    mov 24(%rbx), %rdx
    mov 32(%rbx), %r10
    mov 40(%rbx), %r8
    mov 48(%rbx), %r9
    mov UK_CMD_CHILD(%rbx), %r12
    cmp $__NR_clone, %eax
    je 3f
    syscall
2:  cmp MAX_ERRNO_RAX, %rax
    jae \done
    add $UK_CMD_BYTES, %rbx
    dec %r13
    jmp 1b
3:  syscall
    test %rax, %rax
    jnz 2b
    jmp *%r12
.endm

// The mm thread under ptrace: a stop (int3) ends a batch, PTRACE_CONT starts the next.
    .globl uk_stub_mm_ptrace
uk_stub_mm_ptrace:
    int3
    EXECUTE_BATCH uk_stub_mm_ptrace

// Where a guest thread is cloned to under ptrace. The tracer sets its registers before it runs.
    .globl uk_stub_thread_ptrace
uk_stub_thread_ptrace:
    ud2

// The mm thread under seccomp notification: a call that only the kernel answers ends a batch, the
// answer starts the next. All signals are blocked. After a stop by the host's user the call is
// repeated as it was.
    .globl uk_stub_mm_notify
uk_stub_mm_notify:
    mov %rax, %rdi
    mov %r13, %rsi
    mov %r14, %rdx
    mov $UK_NR_BATCH_DONE, %eax
    syscall
    mov commands + UK_CMD_SEQ(%rip), %r14
    EXECUTE_BATCH uk_stub_mm_notify

// A guest thread's beginning under notification: r9 = the ucontext that the kernel prepared on its
// signal stack. Signals are still blocked; the filter makes every other call of the stub's code
// fail for this thread from here on.
    .globl uk_stub_thread_notify
uk_stub_thread_notify:
    mov $SECCOMP_SET_MODE_FILTER, %edi
    xor %esi, %esi
    lea constants + UK_CONST_FILTER(%rip), %rdx
    mov $__NR_seccomp, %eax
    syscall
    test %rax, %rax
    jnz die
    mov %r9, %rdx
    xor %edi, %edi
    xor %esi, %esi
    xor %r8d, %r8d
    xor %r9d, %r9d
    jmp report

// Makes the changes listed in the slot at r8, and says so there. `ip`: behind the system call. Uses
// rax, rcx, rdx, rsi, rdi, r9, r11.
.macro RUN_ERRANDS ip
    lea UK_SLOT_ERRANDS(%r8), %r9
1:  mov UK_ERRAND_NR(%r9), %eax
    test %eax, %eax
    jz 2f
    mov (%r9), %rdi
    mov 8(%r9), %rsi
    mov UK_ERRAND_PROT(%r9), %edx
    syscall
    .globl \ip
\ip:
    add $UK_ERRAND_BYTES, %r9
    jmp 1b
2:  movl $0, UK_SLOT_ERRANDS + UK_ERRAND_NR(%r8)
.endm

// The handler of all signals: rdi = number, rsi = siginfo, rdx = ucontext, all on the thread's
// signal stack, which the kernel shares (and the guest can write). Tells the kernel, which edits
// the ucontext and answers; then returns into it. The stack pointer comes from rdx, which the
// kernel has seen, not from rsp, which a guest that jumped here chose. Bases: where programs may
// use RDFSBASE the guest can change them itself, so they are told; else the kernel knows them.
    .globl uk_stub_handler
uk_stub_handler:
    xor %r8d, %r8d
    xor %r9d, %r9d
    cmpb $0, constants + UK_CONST_FSGSBASE(%rip)
    je report
    rdfsbase %r8
    rdgsbase %r9
report:
    mov $UK_NR_REPORT, %eax
    syscall
    .globl uk_stub_report_ip
uk_stub_report_ip:
    mov %eax, %ebx
    test %ebx, %ebx
    jz back
    test $UK_ANSWER_IN_SLOT, %ebx
    jnz await_answer
    test $UK_ANSWER_ERRANDS, %ebx
    jz 3f
    mov %rdx, %r12
    mov %rdx, %r8
    and $-UK_STUB_STACK, %r8
    RUN_ERRANDS uk_stub_report_errand_ip
    mov %r12, %rdx
3:
    test $UK_ANSWER_CLEAR_SEGMENTS, %ebx
    jz 1f
    xor %ecx, %ecx
    mov %ecx, %ds
    mov %ecx, %es
    mov %ecx, %fs
    mov %ecx, %gs
1:  mov UK_UC_FS_BASE(%rdx), %rsi
    mov UK_UC_GS_BASE(%rdx), %r12
    cmpb $0, constants + UK_CONST_FSGSBASE(%rip)
    je 4f
    test $UK_ANSWER_SET_FS, %ebx
    jz 2f
    wrfsbase %rsi
2:  test $UK_ANSWER_SET_GS, %ebx
    jz back
    wrgsbase %r12
    jmp back
4:  test $UK_ANSWER_SET_FS, %ebx
    jz 5f
    mov $ARCH_SET_FS, %edi
    mov $__NR_arch_prctl, %eax
    syscall
    .globl uk_stub_set_fs_ip
uk_stub_set_fs_ip:
5:  test $UK_ANSWER_SET_GS, %ebx
    jz back
    mov $ARCH_SET_GS, %edi
    mov %r12, %rsi
    mov $__NR_arch_prctl, %eax
    syscall
    .globl uk_stub_set_gs_ip
uk_stub_set_gs_ip:
back:
    mov %rdx, %rsp
    mov $__NR_rt_sigreturn, %eax
    syscall
    .globl uk_stub_sigreturn_ip
uk_stub_sigreturn_ip:
    ud2

// The handler of all signals on direct. While the kernel is awake (published patience), the report
// goes through the slot at the base of this stack and the answer is awaited by spinning, and when
// that takes too long, asleep on the turn word; else through a call, as above. The turn word is
// changed by locked instructions on both sides.
    .globl uk_stub_handler_direct
uk_stub_handler_direct:
    xor %r8d, %r8d
    xor %r9d, %r9d
    cmpb $0, constants + UK_CONST_FSGSBASE(%rip)
    je 1f
    rdfsbase %r8
    rdgsbase %r9
1:  mov published + UK_PUB_PATIENCE(%rip), %ecx
    test %ecx, %ecx
    jz report
    mov %rdx, %r10
    and $-UK_STUB_STACK, %r10
    mov %rdi, UK_SLOT_SIGNO(%r10)
    mov %rdx, UK_SLOT_UC(%r10)
    mov %r8, UK_SLOT_FS(%r10)
    mov %r9, UK_SLOT_GS(%r10)
    mov UK_SLOT_TURN(%r10), %eax
6:  mov %rax, UK_SLOT_WAS(%r10)
    mov $UK_TURN_REPORTED, %r11d
    lock cmpxchg %r11d, UK_SLOT_TURN(%r10)
    jne 6b                              // the kernel answered the call that we interrupted
    jmp 2f
await_answer:
    mov %rdx, %r10
    and $-UK_STUB_STACK, %r10
    mov %ebx, %ecx
    shr $UK_ANSWER_PATIENCE, %ecx
2:  mov UK_SLOT_TURN(%r10), %eax
    test %eax, %eax
    js answered
    cmp $UK_TURN_TAKEN, %eax
    je 3f
    cmp $UK_TURN_REPORTED, %eax
    jne 5f                              // told to sleep or to park
    cmpl $0, published + UK_PUB_PATIENCE(%rip)
    je 4f
3:  pause
    dec %ecx
    jg 2b
    cmp $UK_TURN_TAKEN, %eax
    jne 4f
    mov $UK_TURN_SLEEP, %r11d
    lock cmpxchg %r11d, UK_SLOT_TURN(%r10)
    jne 2b
    jmp 7f
4:  mov $UK_TURN_REPORTED, %eax         // nobody looks: take it back
    mov UK_SLOT_WAS(%r10), %r11
    lock cmpxchg %r11d, UK_SLOT_TURN(%r10)
    je report
    jmp 2b
5:  cmp $UK_TURN_SLEEP, %eax
    jne park
7:  mov %rdx, %r12
    lea UK_SLOT_TURN(%r10), %rdi
    xor %esi, %esi                      // FUTEX_WAIT, between processes
    mov $UK_TURN_SLEEP, %edx
    mov %r10, %rbx
    xor %r10d, %r10d
    mov $__NR_futex, %eax
    syscall
    .globl uk_stub_sleep_ip
uk_stub_sleep_ip:
    mov %rbx, %r10
    mov %r12, %rdx
    mov UK_SLOT_SIGNO(%r10), %rdi
    mov published + UK_PUB_PATIENCE(%rip), %ecx
    jmp 2b
park:
    mov $UK_NR_PARK, %eax
    syscall
    .globl uk_stub_park_ip
uk_stub_park_ip:
answered:
    and $~UK_TURN_ANSWERED, %eax
    jmp uk_stub_report_ip

// The gate: how a patched call site (direct) makes its call without entering the host. rax = number,
// rcx = where to return to, behind the site's call instruction; rcx, r11 and the flags are free to
// change. The slot is at the GS base, which the kernel sets for this. What the kernel has put among
// the known results there returns at once. Calls that may change registers come with all of them.
// When the kernel sleeps or is busy with others, a call wakes it. The kernel may have all registers
// loaded on return. A signal may interrupt the gate anywhere: up to uk_stub_gate_posted all but r11
// are as they came (at uk_stub_gate_known rax is the result; between uk_stub_gate_saving and
// uk_stub_gate_saved the slot has rax and rdx), behind it the slot has those that the gate uses,
// and its turn says whether the result is there (guest_thread.cc).
.macro PUT_CALL
    mov %eax, %gs:UK_SLOT_NR
    mov %rcx, %gs:UK_SLOT_RESULT
    mov %rcx, %gs:UK_SLOT_RET
    mov %rdi, %gs:UK_SLOT_ARGS
    mov %rsi, %gs:UK_SLOT_ARGS + 8
    mov %rdx, %gs:UK_SLOT_ARGS + 16
    mov %r10, %gs:UK_SLOT_ARGS + 24
    mov %r8, %gs:UK_SLOT_ARGS + 32
    mov %r9, %gs:UK_SLOT_ARGS + 40
.endm

    .globl uk_stub_gate_begin
uk_stub_gate_begin:
    .globl uk_stub_gate
uk_stub_gate:
    cmp $KNOWN_CALLS, %rax
    jae 9f
    lea known_calls(%rip), %r11
    movzbl (%r11,%rax), %r11d
    cmp $UK_KNOWN_ALL, %r11d
    je save
    mov %gs:UK_SLOT_KNOWN(,%r11,8), %r11
    test %r11, %r11
    jz 9f
    mov %r11d, %eax
    .globl uk_stub_gate_known
uk_stub_gate_known:
    jmp *%rcx
save:
    cmpb $0, constants + UK_CONST_SAVES(%rip)
    je 9f
    PUT_CALL
    mov %rbx, %gs:UK_SLOT_SAVED
    mov %rbp, %gs:UK_SLOT_SAVED + 8
    mov %rsp, %gs:UK_SLOT_SAVED + 16
    mov %r12, %gs:UK_SLOT_SAVED + 24
    mov %r13, %gs:UK_SLOT_SAVED + 32
    mov %r14, %gs:UK_SLOT_SAVED + 40
    mov %r15, %gs:UK_SLOT_SAVED + 48
    cmpb $0, constants + UK_CONST_FSGSBASE(%rip)
    je 1f
    rdfsbase %r11
    mov %r11, %gs:UK_SLOT_SAVED + 56
1:
    .globl uk_stub_gate_saving
uk_stub_gate_saving:
    cmp $__NR_rt_sigreturn, %eax
    je 2f                               // which drops this state
    mov constants + UK_CONST_FEATURES(%rip), %eax
    mov constants + UK_CONST_FEATURES + 4(%rip), %edx
    xsaveopt64 %gs:UK_SLOT_FP
    stmxcsr %gs:UK_SLOT_FP + 24
    mov %gs:UK_SLOT_NR, %eax
    mov %gs:UK_SLOT_ARGS + 16, %rdx
2:
    .globl uk_stub_gate_saved
uk_stub_gate_saved:
    mov $UK_TURN_CALL_ALL, %r11d
    jmp 10f
9:  PUT_CALL
    mov $UK_TURN_CALL, %r11d
10: xchg %r11d, %gs:UK_SLOT_TURN
    .globl uk_stub_gate_posted
uk_stub_gate_posted:
    mov published + UK_PUB_PATIENCE(%rip), %ecx
1:  mov %gs:UK_SLOT_TURN, %eax
    test %eax, %eax
    js 8f
    cmp $UK_TURN_TAKEN, %eax
    je 2f
    cmp $UK_TURN_CALL, %eax
    je 5f
    cmp $UK_TURN_CALL_ALL, %eax
    jne 3f                              // told to sleep, or to go back
5:  cmpl $0, published + UK_PUB_PATIENCE(%rip)
    je 7f                               // nobody looks
2:  pause
    dec %ecx
    jg 1b
    cmp $UK_TURN_TAKEN, %eax
    jne 7f
    mov $UK_TURN_SLEEP, %r11d
    lock cmpxchg %r11d, %gs:UK_SLOT_TURN
    jne 1b
    jmp 4f
3:  cmp $UK_TURN_BACK, %eax
    je 9f
    cmp $UK_TURN_SLEEP, %eax
    jne 7f
4:  mov %gs:UK_SLOT_SELF, %rdi
    xor %esi, %esi                      // FUTEX_WAIT, between processes
    mov $UK_TURN_SLEEP, %edx
    xor %r10d, %r10d
    mov $__NR_futex, %eax
    syscall
    .globl uk_stub_gate_sleep_ip
uk_stub_gate_sleep_ip:
    mov %gs:UK_SLOT_ARGS, %rdi
    mov %gs:UK_SLOT_ARGS + 8, %rsi
    mov %gs:UK_SLOT_ARGS + 16, %rdx
    mov %gs:UK_SLOT_ARGS + 24, %r10
    jmp uk_stub_gate_posted
7:  mov $UK_NR_PARK, %eax
    syscall
    .globl uk_stub_gate_park_ip
uk_stub_gate_park_ip:
    mov %gs:UK_SLOT_TURN, %ecx
    cmp $UK_TURN_BACK, %ecx
    je 9f                               // told while on the way here, ...
    test %ecx, %ecx
    cmovs %ecx, %eax                    // ... or answered
8:  test $UK_ANSWER_ERRANDS, %eax
    jnz errands
    test $UK_LOAD_REGS, %eax
    jnz load
    mov %gs:UK_SLOT_RESULT, %rax
    jmp *%gs:UK_SLOT_RET
errands:
    mov %eax, %r10d
    mov %gs:UK_SLOT_SELF, %r8
    RUN_ERRANDS uk_stub_gate_errand_ip
    mov %r10d, %eax
    and $~UK_ANSWER_ERRANDS, %eax
    mov %gs:UK_SLOT_ARGS, %rdi
    mov %gs:UK_SLOT_ARGS + 8, %rsi
    mov %gs:UK_SLOT_ARGS + 16, %rdx
    mov %gs:UK_SLOT_ARGS + 24, %r10
    mov %gs:UK_SLOT_ARGS + 32, %r8
    mov %gs:UK_SLOT_ARGS + 40, %r9
    jmp 8b
load:
    test $UK_LOAD_FP, %eax
    jz uk_stub_gate_loaded
    mov constants + UK_CONST_FEATURES(%rip), %eax
    mov constants + UK_CONST_FEATURES + 4(%rip), %edx
    xrstor64 %gs:UK_SLOT_FP
    .globl uk_stub_gate_loaded
uk_stub_gate_loaded:
    mov %gs:UK_SLOT_SELF, %rsp
    add $UK_SLOT_TO + UK_TO_FLAGS, %rsp
    popfq
    mov %gs:UK_SLOT_TO + UK_TO_RAX, %rax
    mov %gs:UK_SLOT_TO + UK_TO_RBX, %rbx
    mov %gs:UK_SLOT_TO + UK_TO_RCX, %rcx
    mov %gs:UK_SLOT_TO + UK_TO_RDX, %rdx
    mov %gs:UK_SLOT_TO + UK_TO_RSI, %rsi
    mov %gs:UK_SLOT_TO + UK_TO_RDI, %rdi
    mov %gs:UK_SLOT_TO + UK_TO_RBP, %rbp
    mov %gs:UK_SLOT_TO + UK_TO_RSP, %rsp
    mov %gs:UK_SLOT_TO + UK_TO_R8, %r8
    mov %gs:UK_SLOT_TO + UK_TO_R9, %r9
    mov %gs:UK_SLOT_TO + UK_TO_R10, %r10
    mov %gs:UK_SLOT_TO + UK_TO_R11, %r11
    mov %gs:UK_SLOT_TO + UK_TO_R12, %r12
    mov %gs:UK_SLOT_TO + UK_TO_R13, %r13
    mov %gs:UK_SLOT_TO + UK_TO_R14, %r14
    mov %gs:UK_SLOT_TO + UK_TO_R15, %r15
    jmp *%gs:UK_SLOT_TO + UK_TO_RIP
9:  mov %gs:UK_SLOT_NR, %eax
    mov %gs:UK_SLOT_RET, %rcx
    sub $UK_SYSCALL_BYTES, %rcx
    jmp *%rcx
    .globl uk_stub_gate_end
uk_stub_gate_end:

// By number of a call: which of the known results is its own.
known_calls:
    .org known_calls + __NR_rt_sigreturn, UK_KNOWN_NONE
    .byte UK_KNOWN_ALL
    .org known_calls + __NR_pause, UK_KNOWN_NONE
    .byte UK_KNOWN_ALL
    .org known_calls + __NR_getpid, UK_KNOWN_NONE
    .byte UK_KNOWN_PID
    .org known_calls + __NR_clone, UK_KNOWN_NONE
    .byte UK_KNOWN_ALL, UK_KNOWN_ALL, UK_KNOWN_ALL, UK_KNOWN_ALL    // ... fork, vfork, execve
    .org known_calls + __NR_wait4, UK_KNOWN_NONE
    .byte UK_KNOWN_ALL, UK_KNOWN_ALL    // ... kill
    .org known_calls + __NR_getuid, UK_KNOWN_NONE
    .byte UK_KNOWN_UID
    .org known_calls + __NR_getgid, UK_KNOWN_NONE
    .byte UK_KNOWN_GID
    .org known_calls + __NR_geteuid, UK_KNOWN_NONE
    .byte UK_KNOWN_EUID
    .byte UK_KNOWN_EGID                 // __NR_getegid
    .org known_calls + __NR_rt_sigsuspend, UK_KNOWN_NONE
    .byte UK_KNOWN_ALL
    .org known_calls + __NR_gettid, UK_KNOWN_NONE
    .byte UK_KNOWN_TID
    .org known_calls + __NR_tkill, UK_KNOWN_NONE
    .byte UK_KNOWN_ALL
    .org known_calls + __NR_tgkill, UK_KNOWN_NONE
    .byte UK_KNOWN_ALL
    .org known_calls + __NR_waitid, UK_KNOWN_NONE
    .byte UK_KNOWN_ALL
    .set KNOWN_CALLS, __NR_waitid + 1

    .balign 64
initial_xstate:
    .short 0x37f                  // FCW
    .zero 22
    .long 0x1f80                  // MXCSR
    .zero 484
    .zero 64                      // header: no component saved, so all are initialised

    // The assembler refuses to move backwards: the code must fit its page.
    .org uk_stub_begin + UK_STUB_PAGE, 0xcc
    .globl uk_stub_end
uk_stub_end:
    .section .note.GNU-stack, "", @progbits
