// Guest programs of the conformance suite: see guest_code.h.
    .section .rodata.guest, "a", @progbits
.macro BLOB name
    .balign 64
    .globl guest_\name, guest_\name\()_end
guest_\name:
.endm
.macro END name
guest_\name\()_end:
    .byte 0xcc
.endm

// For ever: syscall(rbx) with six known arguments; rbx counts calls. The result is added to r12.
BLOB syscalls
    xor %ebx, %ebx
1:  mov %rbx, %rax
    mov $11, %edi
    mov $22, %esi
    mov $33, %edx
    mov $44, %r10d
    mov $55, %r8d
    mov $66, %r9d
    syscall
    add %rax, %r12
    inc %rbx
    jmp 1b
END syscalls

// The same through the gate at r15, with the number rbx % 256 (two above are the host's own). Dies if
// an argument's register does not come back as it went.
BLOB gated
    xor %ebx, %ebx
1:  movzbl %bl, %eax
    mov $11, %edi
    mov $22, %esi
    mov $33, %edx
    mov $44, %r10d
    mov $55, %r8d
    mov $66, %r9d
    lea 2f(%rip), %rcx
    jmp *%r15
    syscall
2:  cmp $11, %rdi
    jne 3f
    cmp $22, %rsi
    jne 3f
    cmp $33, %rdx
    jne 3f
    cmp $44, %r10
    jne 3f
    cmp $55, %r8
    jne 3f
    cmp $66, %r9
    jne 3f
    add %rax, %r12
    inc %rbx
    jmp 1b
3:  ud2
END gated

// Calls once, adds one to every register but rsp, calls again.
BLOB registers
1:  syscall
    inc %rax
    inc %rbx
    inc %rdx
    inc %rsi
    inc %rdi
    inc %rbp
    inc %r8
    inc %r9
    inc %r10
    inc %r12
    inc %r13
    inc %r14
    inc %r15
    jmp 1b
END registers

BLOB spin
1:  inc %rbx
    jmp 1b
END spin

// Loads, then stores, then calls, at rdi.
BLOB touch
    mov (%rdi), %rax
    incq (%rdi)
    syscall
    jmp guest_touch
END touch

// Stores to rdi for ever.
BLOB store_loop
1:  incq (%rdi)
    jmp 1b
END store_loop

// A fault of each kind, at known distances: 16 bytes each.
BLOB faults
    ud2
    .balign 16
    xor %edx, %edx
    xor %ecx, %ecx
    mov $1, %eax
    div %ecx
    .balign 16
    int3
    .balign 16
    hlt
    .balign 16
    mov $0x8000000000000000, %rax
    mov (%rax), %rax
    .balign 16
    .byte 0xf1                          // icebp
    .balign 16
    jmp *%rdi
    .balign 16
END faults

// Fills the vector registers (xmm, ymm's upper half if rsi, zmm if rdx) from rdi's low byte on,
// calls, stores them at r8 (64 bytes apart), calls again, and so on.
BLOB fpu
    vpxor %xmm0, %xmm0, %xmm0
    movq %rdi, %xmm1
    vpbroadcastb %xmm1, %ymm0
    vpaddb %ymm0, %ymm0, %ymm1
    vpaddb %ymm1, %ymm0, %ymm2
    vpaddb %ymm2, %ymm0, %ymm15
1:  syscall
    vmovdqu %ymm0, (%r8)
    vmovdqu %ymm1, 64(%r8)
    vmovdqu %ymm2, 128(%r8)
    vmovdqu %ymm15, 192(%r8)
    stmxcsr 256(%r8)
    fnstcw 260(%r8)
    jmp 1b
END fpu

// Denies itself all access to memory by protection keys (WRPKRU), then stores to rdi, then calls.
BLOB lock_out
    mov $-1, %eax
    xor %ecx, %ecx
    xor %edx, %edx
    wrpkru
    incq (%rdi)
    syscall
    jmp guest_lock_out
END lock_out

// Stores to *rdi for ever: esi, or with edx a new number each time.
BLOB scribble
1:  mov %esi, (%rdi)
    add %edx, %esi
    pause
    jmp 1b
END scribble

// Ends by telling how far it came, for ever.
BLOB steps
    inc %rbx
    inc %rbx
    inc %rbx
    syscall
    inc %rbx
    inc %rbx
1:  mov %rbx, (%rdi)
    jmp 1b
END steps

// Adds one to *rdi atomically, rsi times, then calls.
BLOB increment
1:  lock incq (%rdi)
    dec %rsi
    jnz 1b
    syscall
    jmp 1b
END increment

// Other ways in, 32 bytes each: int 0x80, sysenter, vsyscall time, 32-bit code doing syscall,
// 32-bit int 0x80.
BLOB entries
    mov $20, %eax
    int $0x80
    ud2
    .balign 32
    mov $20, %eax
    sysenter
    ud2
    .balign 32
    mov $0xffffffffff600400, %rax
    xor %edi, %edi
    call *%rax
    mov $0x777, %eax
    syscall
    .balign 32
    ljmp *(%rdi)
    .balign 32
    mov $20, %eax                       // the same bytes in 32-bit mode
    syscall
    ud2
    .balign 32
    mov $20, %eax
    int $0x80
    ud2
END entries
    .section .note.GNU-stack, "", @progbits
