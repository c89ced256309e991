#!/bin/bash
# Disks in host files (--disk): what the guest writes is in the file, Debian's tools for disks work on
# them, partitions appear, an image in use is refused, and control groups limit.
# usage: disks.sh UKERNEL PLATFORM
. "$(dirname "$0")/testing.sh"
img=$TEST_TMPDIR/disk.img

truncate -s 64M "$img"
head -c 1500000 /dev/urandom >"$TEST_TMPDIR/data"
data=$TEST_TMPDIR/data

# What is written is there, in the guest and in the file.
got=$(run_disk vdb="$img" "dd if=$data of=/dev/vdb bs=64k seek=1 conv=fsync status=none &&
  dd if=/dev/vdb bs=64k skip=1 count=1500000 iflag=count_bytes status=none | cmp - $data && echo same")
same "dd to and from a disk" same "$got"
check "bytes in the file" cmp -n 1500000 -i 65536:0 "$img" "$data"
# Also without fsync(2), and when the first process ends at once.
got=$(run_disk vdb="$img" "exec dd if=$data of=/dev/vdb bs=4k status=none")
check "bytes in the file at the end" cmp -n 1500000 "$img" "$data"
got=$(run_disk vdb="$img" "exec dd if=$data of=/dev/vdb bs=4k oflag=direct count=100 seek=512 status=none")
check "O_DIRECT" cmp -n 409600 -i 2097152:0 "$img" "$data"

# A file system of mke2fs is whole, for the guest's and the host's e2fsck; debugfs fills it.
got=$(run_disk vdb="$img" "mkfs.ext4 -q /dev/vdb && debugfs -w -R 'write $data name' /dev/vdb 2>/dev/null >/dev/null
  e2fsck -fn /dev/vdb >/dev/null 2>&1; echo \$?; blkid -p -o value -s TYPE /dev/vdb")
same "mkfs.ext4, e2fsck, blkid" $'0\next4' "$got"
check "the host's e2fsck" e2fsck -fn "$img" >/dev/null 2>&1
check "the file in the image" cmp "$data" <(debugfs -R 'cat name' "$img" 2>/dev/null)

partitioned=$'65536 vdb\n8192 vdb1\n16384 vdb2\nvdb 64M disk\nvdb1 8M part\nvdb2 16M part\n18432\n2\n0'
# Partitions, made by sfdisk and read again.
for label in dos gpt; do
  got=$(run_disk vdb="$img" "printf 'label: $label\n,8M\n,16M\n' | sfdisk -q /dev/vdb >/dev/null 2>&1
    awk '\$4 ~ /^vdb/ { print \$3, \$4 }' /proc/partitions; lsblk -rno NAME,SIZE,TYPE /dev/vdb
    cat /sys/class/block/vdb2/start; fdisk -l /dev/vdb | grep -c '^/dev/vdb[12]'
    mkfs.ext4 -q /dev/vdb2 && e2fsck -fn /dev/vdb2 >/dev/null 2>&1; echo \$?")
  same "partitions ($label)" "$partitioned" "$got"
done
# They are there at the next boot; /dev has their nodes.
got=$(run_disk vdb="$img,ro" "ls /dev/vdb*; blockdev --getsize64 /dev/vdb2; blockdev --getro /dev/vdb
  dd if=$data of=/dev/vdb bs=4k count=1 2>/dev/null || echo refused")
same "partitions later, read-only" $'/dev/vdb\n/dev/vdb1\n/dev/vdb2\n16777216\n1\nrefused' "$got"

# discard makes a hole; zeroes are zeroes.
got=$(run_disk vdb="$img" "blkdiscard -f /dev/vdb 2>/dev/null && cmp -n 67108864 /dev/vdb /dev/zero &&
  blkdiscard -zf -o 4096 -l 8192 /dev/vdb 2>/dev/null && echo zeroes")
same "discard" zeroes "$got"
check "a hole in the file" test "$(stat -c %b "$img")" -lt 1000

# A host filesystem that cannot zero ranges has holes for them.
shm=$(mktemp /dev/shm/disks.XXXXXX)
trap 'rm -f "$shm"' EXIT
head -c 1048576 /dev/urandom >"$shm"
got=$(run_disk vdb="$shm" "blkdiscard -z /dev/vdb && cmp -n 1048576 /dev/vdb /dev/zero && echo zeroes")
same "zeroes on tmpfs" zeroes "$got"

# An image in use: one sentence, until its user ends; two readers may share it.
mkfifo "$TEST_TMPDIR/hold"
timeout 60 "$uk" run --platform="$platform" --disk=vdb="$img" -- /bin/sh -c 'echo up; read x' \
  <"$TEST_TMPDIR/hold" >"$TEST_TMPDIR/out" 2>&1 &
exec 3>"$TEST_TMPDIR/hold"
until grep -q up "$TEST_TMPDIR/out"; do kill -0 $! || break; done
got=$(timeout 60 "$uk" run --platform="$platform" --disk=vda="$img" -- /bin/true 2>&1)
same "an image in use" "ukernel: disk vda=$img: in use by another process; end that, or give both ,ro" "$got"
echo x >&3
exec 3>&-
wait
got=$(timeout 60 "$uk" run --platform="$platform" --disk=vda="$img" --disk=vdb="$img",ro -- /bin/true 2>&1)
same "one image twice" "ukernel: disk vdb=$img: in use by another process; end that, or give both ,ro" "$got"
got=$(timeout 60 "$uk" run --platform="$platform" --disk=vda="$img",ro --disk=vdb="$img",ro -- /bin/true 2>&1)
same "two readers" "" "$got"

# io.max: 4 MiB at 2 MiB a second take two seconds, less the first request; io.stat counts them.
got=$(run_disk vdb="$img" "cd /sys/fs/cgroup && echo +io >cgroup.subtree_control && mkdir g &&
  dev=\$(cat /sys/block/vdb/dev) && echo \"\$dev rbps=2097152\" >g/io.max && cat g/io.max | cut -d' ' -f2- &&
  echo \$\$ >g/cgroup.procs &&
  s=\$(date +%s%N) &&
  dd if=/dev/vdb of=/dev/null bs=128k count=32 iflag=direct status=none &&
  t=\$(( (\$(date +%s%N) - s) / 1000000 )) && { [ \$t -ge 1800 ] && echo slow || echo \$t; } &&
  cut -d' ' -f2,4 g/io.stat")
same "io.max" $'rbps=2097152 wbps=max riops=max wiops=max\nslow\nrbytes=4194304 rios=32' "$got"

finish
