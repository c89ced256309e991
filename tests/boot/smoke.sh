#!/bin/bash
# Boots the embedded guest and looks at what a user sees: output, exit status, signals, errors, and
# that nothing is left.
# usage: smoke.sh UKERNEL PLATFORM
. "$(dirname "$0")/testing.sh"

# expect STATUS OUTPUT ARG...: runs `ukernel run --platform=... ARG...`
expect() {
  local status=$1 output=$2
  shift 2
  local got rc
  got=$(timeout 60 "$uk" run --platform="$platform" "$@" 2>&1 </dev/null)
  rc=$?
  if [ "$rc" = "$status" ] && [[ $got == $output ]]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAILED: %s\n  status %s, expected %s\n  output: %s\n' "$*" "$rc" "$status" "$got"
  fi
}

expect 7 ok -- /bin/sh -c 'echo ok; exit 7'
expect 0 '1' -- /bin/busybox printf 1
expect 143 '' -- /bin/sh -c 'kill -TERM $$'
expect 139 '' -- /bin/sh -c 'kill -SEGV $$'
expect 0 '5050' -- /bin/sh -c 'n=0; for i in $(seq 100); do n=$((n + i)); done; echo $n'
expect 0 'abc' -- /bin/sh -c 'echo abc | cat | cat'
expect 0 'one' -- /bin/sh -c 'echo one >/tmp/f; cat /tmp/f; rm /tmp/f; test ! -e /tmp/f'
expect 0 '20' -- /bin/sh -c 'for i in $(seq 20); do sleep 0.1 & done; wait; echo 20'
expect 127 'ukernel: nosuch: *; *' -- nosuch
expect 126 'ukernel: /etc/passwd: *; *' -- /etc/passwd
expect 126 'ukernel: /etc: *; *' -- /etc
expect 125 'ukernel: --mem=1K: *; *' --mem=1K
expect 125 'ukernel: --cpus=0: *; *' --cpus=0
expect 125 'ukernel: --bogus: *; *' --bogus
expect 125 'ukernel: root /no/such/dir: *; *' --root=dir:/no/such/dir

# As a shell that reads its commands from a pipe.
got=$(printf 'echo piped\nexit 3\n' | timeout 60 "$uk" run --platform="$platform" 2>&1)
rc=$?
same "commands on stdin" "3 piped" "$rc $got"

# kill -9: no stub is left.
marker="uk-smoke-$$"
timeout 60 "$uk" run --platform="$platform" --hostname="$marker" -- \
  /bin/sh -c 'echo up; while :; do :; done' >"$TEST_TMPDIR/out" 2>&1 &
until grep -q up "$TEST_TMPDIR/out"; do kill -0 $! || break; done
pkill -KILL -f -- "--hostname=$marker"
wait
left=1
for _ in $(seq 100000); do
  pgrep -f -- "--hostname=$marker" >/dev/null || { left=0; break; }
done
same "processes left after kill -9" 0 "$left"

finish
