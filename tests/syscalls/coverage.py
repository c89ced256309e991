#!/usr/bin/env python3
"""Which guest-visible test covers which system call: `coverage.py` checks tests/syscalls/COVERAGE,
`--update` writes it.

A test covers the call its suite is named after (TEST(openat2, ...)) and those its body names with COVERS(a, b).
COVERAGE has a line a call: `NAME BINARY/FILE SUITE.TEST...`. The script fails when COVERAGE is out of date, when
COVERS names something that is no call of x86-64, and when fewer than MINIMUM calls are covered.
`--verify BINARY...` runs native test binaries under strace and fails when a covered call was never made."""

import os
import re
import subprocess
import sys

MINIMUM = 150
HERE = os.path.dirname(os.path.realpath(__file__))
NUMBERS = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"
TEST = re.compile(r"^TEST\((\w+),\s*(\w+)\)", re.M)
COVERS = re.compile(r"\bCOVERS\(([^)]*)\)")
# Newer than the headers of Debian 12.
NEWER = {"cachestat": 451, "fchmodat2": 452, "futex_wake": 454, "futex_wait": 455, "futex_requeue": 456,
         "lsm_get_self_attr": 459, "lsm_set_self_attr": 460, "lsm_list_modules": 461, "mseal": 462,
         "setxattrat": 463, "getxattrat": 464, "listxattrat": 465, "removexattrat": 466, "file_getattr": 468,
         "file_setattr": 469}


def system_calls():
    with open(NUMBERS) as f:
        calls = {m[1]: int(m[2]) for m in re.finditer(r"^#define __NR_(\w+) (\d+)", f.read(), re.M)}
    return {**NEWER, **calls}


def collect(calls):
    """{call: [(group/file, suite.test)]} and a list of mistakes."""
    found, mistakes = {}, []
    for folder, _, files in sorted(os.walk(HERE)):
        for name in sorted(f for f in files if f.endswith("_test.cc")):
            path = os.path.relpath(os.path.join(folder, name), HERE)
            with open(os.path.join(folder, name)) as f:
                text = f.read()
            starts = list(TEST.finditer(text))
            for i, start in enumerate(starts):
                body = text[start.end():starts[i + 1].start() if i + 1 < len(starts) else len(text)]
                covered = [start[1]] if start[1] in calls else []
                for group in COVERS.finditer(body):
                    for call in re.split(r"[,\s]+", group[1].strip()):
                        if call not in calls:
                            mistakes.append("%s: COVERS(%s): no such system call" % (path, call))
                        covered.append(call)
                for call in covered:
                    found.setdefault(call, []).append((path, "%s.%s" % (start[1], start[2])))
    return found, mistakes


def render(found, calls):
    lines = ["# Made by coverage.py --update: system call, file of tests/syscalls, tests that cover it."]
    for call in sorted(found, key=lambda c: calls[c]):
        by_file = {}
        for path, test in found[call]:
            by_file.setdefault(path, []).append(test)
        lines.append(call + "".join(" %s %s" % (p, " ".join(t)) for p, t in by_file.items()))
    return "\n".join(lines) + "\n"


def verify(found, binaries):
    """Calls that are covered by name but that no binary makes."""
    made = set()
    for binary in binaries:
        log = subprocess.run(["strace", "-f", "-qq", "-c", "-o", "/dev/stdout", binary, "--gtest_brief=1"],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True)
        made.update(line.split()[-1] for line in log.stdout.splitlines() if re.match(r"\s*[\d.]+\s", line))
    # strace's own names for three of them; rt_sigreturn never returns, so it may go uncounted.
    made |= {"rt_sigreturn", "exit", "exit_group"}
    return sorted(c for c in found if c not in made)


def main():
    calls = system_calls()
    found, mistakes = collect(calls)
    path = os.path.join(HERE, "COVERAGE")
    text = render(found, calls)
    if sys.argv[1:2] == ["--update"]:
        with open(path, "w") as f:
            f.write(text)
    elif sys.argv[1:2] == ["--verify"]:
        mistakes += ["%s: covered by name, but never called" % c for c in verify(found, sys.argv[2:])]
    elif not os.path.exists(path) or open(path).read() != text:
        mistakes.append("COVERAGE is out of date: run tests/syscalls/coverage.py --update")
    if len(found) < MINIMUM:
        mistakes.append("only %d calls are covered; %d are the aim" % (len(found), MINIMUM))
    for mistake in mistakes:
        print(mistake)
    print("%d system calls covered" % len(found))
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
