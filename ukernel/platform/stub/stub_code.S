// The code that runs in a stub besides the guest: position-independent, one page, no stack, no data but the command page
// that follows it. The guest can read and even jump into all of it; nothing here trusts a register it did not load from
// the command page, and system calls are granted by filters, never by being here.
#include <asm/unistd.h>

#include "ukernel/platform/stub/abi.h"

#define PROT_READ 1
#define MAP_SHARED_FIXED 0x11
#define PR_SET_PDEATHSIG 1
#define SIGKILL 9
#define ARCH_SET_GS 0x1001
#define ARCH_SET_FS 0x1002
#define FUTEX_WAKE 1
#define MAX_ERRNO_RAX $-4095

    .section .rodata.uk_stub, "a", @progbits
    .balign 64
    .globl uk_stub_begin
uk_stub_begin:
    .set commands, uk_stub_begin + UK_STUB_PAGE

// Entered once by the zygote, from C: rdi = base of the area, rsi = bytes to keep there, rdx = top of the address space,
// rcx = a futex to wake. Removes everything else.
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

// A stub cloned from the zygote begins here with r8 = descriptor and r9 = offset of its own command page.
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

// Executes the batch in the command page. Leaves rax = the last result, r13 = commands not executed (the first of these
// failed with rax). A cloned child goes to the command's eighth word with the parent's registers, but rax.
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
