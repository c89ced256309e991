"""A C project to build: what a developer's day is made of. Standard library only."""

import os

SOURCE = """#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "all.h"
struct node%(n)d { struct node%(n)d *next; char name[32]; long weight; };
%(functions)s
int part%(n)d(int x) { return %(sum)s; }
"""
FUNCTION = """
static int work%(n)d_%(i)d(int x) {
    struct node%(n)d *list = NULL;
    for (int k = 0; k < (x & 15); k++) {
        struct node%(n)d *fresh = malloc(sizeof *fresh);
        if (!fresh) { perror("malloc"); exit(1); }
        snprintf(fresh->name, sizeof fresh->name, "%%d-%%d", k, x);
        fresh->weight = strtol(fresh->name, NULL, 10) + %(i)d;
        fresh->next = list;
        list = fresh;
    }
    long sum = 0;
    while (list) { struct node%(n)d *next = list->next; sum += list->weight; free(list); list = next; }
    return (int)sum;
}
"""
FUNCTIONS = 3  # of a file
MAKEFILE = """CFLAGS = -O0
program: $(patsubst %.c,%.o,$(wildcard *.c))
\t$(CC) -o $@ $^
%.o: %.c all.h
\t$(CC) $(CFLAGS) -c -o $@ $<
"""
# Says `go` when the sources are where it may write, and `built` when the program has run.
BUILD = """#!/bin/sh
to=${TMPDIR:-/tmp}/project.$$
cp -r %(directory)s "$to" && cd "$to" && echo go && make -s -j2 && ./program && echo built
cd / && rm -rf "$to"
"""


def create(directory, files):
    """Makes a project of so many source files; the path of the script that builds a copy of it."""
    os.makedirs(directory)

    def write(name, text):
        with open(os.path.join(directory, name), "w") as f:
            f.write(text)

    for n in range(files):
        write("part%d.c" % n, SOURCE % {
            "n": n, "functions": "".join(FUNCTION % {"n": n, "i": i} for i in range(FUNCTIONS)),
            "sum": " + ".join("work%d_%d(x)" % (n, i) for i in range(FUNCTIONS))})
    write("all.h", "".join("int part%d(int x);\n" % n for n in range(files)))
    write("main.c", '#include "all.h"\nint main(void) { return (%s) == -1; }\n' % " + ".join(
        "part%d(%d)" % (n, n) for n in range(files)))
    write("Makefile", MAKEFILE)
    script = directory + ".sh"
    with open(script, "w") as f:
        f.write(BUILD % {"directory": directory})
    return script
