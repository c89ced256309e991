// int smoke_add(int, int): shows that assembly files build as part of a cc_library.
    .text
    .globl smoke_add
    .type smoke_add, @function
smoke_add:
    leal (%rdi,%rsi), %eax
    ret
    .size smoke_add, . - smoke_add
    .section .note.GNU-stack, "", @progbits
