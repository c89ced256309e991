# What the scripts beside this one share; each sources it with its own arguments, UKERNEL PLATFORM ...,
# checks, and ends with `finish`.
# shellcheck shell=bash disable=SC2034
uk=$1 platform=$2 failed=0 passed=0
PATH=$PATH:/usr/sbin:/sbin

check() { # check NAME CONDITION...: the rest is a command that must succeed
  local name=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAILED: %s\n' "$name"
  fi
}

same() { # same NAME EXPECTED GOT
  check "$1: expected <$2>, got <$3>" test "$2" = "$3"
}

run_disk() { # run_disk DISK-OPTION SCRIPT: in a guest with this machine's programs
  timeout 120 "$uk" run --platform="$platform" --root=dir:/ --mem=512M --cwd=/tmp --disk="$1" -- \
    /bin/sh -c "$2" </dev/null 2>&1
}

finish() { # the totals, and the exit status; nothing checked is a failure, too
  echo "$(basename "$0"): $passed passed, $failed failed"
  exit $((failed > 0 || passed == 0))
}
