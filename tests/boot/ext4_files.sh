#!/bin/bash
# The tests of system calls on files, in a directory on ext4; e2fsck finds nothing to complain about afterwards.
# usage: ext4_files.sh UKERNEL PLATFORM TESTS
uk=$1 platform=$2 tests=$(realpath "$3") img=$TEST_TMPDIR/files.img out=$TEST_TMPDIR/out
PATH=$PATH:/usr/sbin:/sbin
truncate -s 256M "$img"
mke2fs -q -F -t ext4 -b 4096 "$img"
timeout 250 "$uk" run --platform="$platform" --root=dir:/ --mem=1G --cwd=/tmp --disk=vda="$img" -- \
  /bin/sh -c "mount -t ext4 /dev/vda /mnt && mkdir /mnt/tmp && chmod 1777 /mnt/tmp && cd /mnt &&
    TMPDIR=/mnt/tmp exec $tests" </dev/null >"$out" 2>&1
status=$?
grep -E '^\[  (PASSED|FAILED)|^\[=.* ran' "$out" || tail -n 20 "$out"
grep -q '^\[=.*tests.* ran' "$out" || status=1
e2fsck -fn "$img" || status=1
exit $status
