#!/bin/bash
# docs/COMPAT.md is what the binary prints of its own system call table.
# usage: compat.sh UKERNEL COMPAT.md
diff <("$1" syscalls --markdown) "$2" || {
  echo "docs/COMPAT.md is out of date: ./uk syscalls --markdown >docs/COMPAT.md"
  exit 1
}
