"""How the shipped binary is linked.

    load("//tools:linkopts.bzl", "STATIC_LINKOPTS")

    cc_binary(name = "ukernel", linkopts = STATIC_LINKOPTS, ...)

Fully static: no loader, no relocation, no library to find, which halves the start of a process.
A sanitized binary cannot be static, so there it stays dynamic."""

STATIC_LINKOPTS = select({
    "//tools:sanitize": [],
    "//conditions:default": ["-static"],
})
