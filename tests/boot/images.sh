#!/bin/bash
# Copy-on-write disks, disks in memory, loop devices, `ukernel image`, and images that fail under the
# guest.
# usage: images.sh UKERNEL PLATFORM
. "$(dirname "$0")/testing.sh"
dir=$TEST_TMPDIR/images
base=$dir/base.img cow=$dir/try.cow
mkdir -p "$dir"

image() { "$uk" image "$@" 2>&1; }

# A raw image, with a file system.
same "create" "" "$(image create "$base" --size=32M)"
same "its size" 33554432 "$(stat -c %s "$base")"
same "create again" "ukernel: $base: there is such a file; give another name" "$(image create "$base" --size=1M)"
mke2fs -q -t ext4 "$base"
sum=$(sha256sum <"$base")
head -c 300000 /dev/urandom >"$dir/data"
fill="debugfs -w -R 'write $dir/data name' /dev/vdb 2>/dev/null >/dev/null
  e2fsck -fn /dev/vdb >/dev/null 2>&1; echo \$?"

for format in ukcow uml; do
  rm -f "$cow"
  # Our format is made by the run itself.
  [ $format = uml ] && same "create uml" "" "$(image create "$cow" --backing="$base" --format=uml)"
  same "write to it ($format)" 0 "$(run_disk vdb="$base",cow="$cow" "$fill")"
  check "the backing file is as it was ($format)" test "$sum" = "$(sha256sum <"$base")"
  same "it is there at the next boot ($format)" same "$(run_disk vdb="$base",cow="$cow",ro \
    "debugfs -R 'cat name' /dev/vdb 2>/dev/null | cmp - $dir/data && echo same")"
  check "info ($format)" grep -q "backing file: $base (32.0 MiB, as it was)" <(image info "$cow")
  same "check ($format)" "$cow: good" "$(image check "$cow")"
done
same "a raw image's info" "format: raw" "$(image info "$base" | head -n 1)"

# In use: one sentence that names the file.
mkfifo "$dir/hold"
timeout 60 "$uk" run --platform="$platform" --disk=vdb="$base",cow="$cow" -- /bin/sh -c 'echo up; read x' \
  <"$dir/hold" >"$dir/out" 2>&1 &
exec 3>"$dir/hold"
until grep -q up "$dir/out"; do kill -0 $! || break; done
same "a copy-on-write file in use" "ukernel: disk vda=$base: $cow: in use by another process; end that first" \
  "$(timeout 60 "$uk" run --platform="$platform" --disk=vda="$base",cow="$cow" -- /bin/true 2>&1)"
same "its backing file in use" "ukernel: disk vda=$base: in use by another process; end that, or give both ,ro" \
  "$(timeout 60 "$uk" run --platform="$platform" --disk=vda="$base" -- /bin/true 2>&1)"
same "commit while in use" "ukernel: $cow: in use by another process; end that first" "$(image commit "$cow")"
echo x >&3
exec 3>&-
wait

# Rebase: the same contents over another image.
head -c 33554432 /dev/zero >"$dir/zeroes.img"
same "rebase" "$cow" "$(image rebase "$cow" --backing="$dir/zeroes.img" | cut -d: -f1)"
same "contents after it" same "$(run_disk vdb="$dir/zeroes.img",cow="$cow",ro \
  "debugfs -R 'cat name' /dev/vdb 2>/dev/null | cmp - $dir/data && echo same")"

# A backing file that has changed.
rm "$cow"
run_disk vdb="$base",cow="$cow" "$fill" >/dev/null
touch -d '1 hour ago' "$base"
got=$(run_disk vdb="$base",cow="$cow" true)
check "a changed backing file: $got" test "${got#*"$base: the backing file has changed since"}" != "$got"
check "check says so" grep -q '^wrong: .*has changed since' <(image check "$cow")
same "rebase --as-is" "$cow: 0 bytes copied from the old backing file" \
  "$(image rebase "$cow" --backing="$base" --as-is)"

# Commit: the image has it, and the file is empty.
check "commit" grep -q committed <(image commit "$cow")
check "the image has it" cmp "$dir/data" <(debugfs -R 'cat name' "$base" 2>/dev/null)
e2fsck -fn "$base" >/dev/null 2>&1
same "e2fsck of the image" 0 $?
check "nothing is left" grep -q 'written: 0 bytes' <(image info "$cow")

# What is wrong is said in one line, with what to do.
same "no command" 125 "$(image nonsense >/dev/null; echo $?)"
check "help" grep -q 'usage: ukernel image create' <(image commit --help)
same "not one" "ukernel: $base: not a copy-on-write file; make one with ukernel image create" "$(image commit "$base")"
truncate -s 1M "$cow"
check "cut short" grep -q "^ukernel: $cow: cut short (1048576 of" <(image check "$cow")

# What was never flushed by the guest is there all the same when it ended in peace.
rm "$cow"
for format in ukcow uml; do
  rm -f "$cow"
  image create "$cow" --backing="$base" --format=$format
  run_disk vdb="$base",cow="$cow" "dd if=$dir/data of=/dev/vdb bs=4k seek=1000 status=none"
  same "written and not flushed ($format)" same "$(run_disk vdb="$base",cow="$cow",ro \
    "dd if=/dev/vdb bs=4k skip=1000 count=300000 iflag=count_bytes status=none | cmp - $dir/data && echo same")"
done

# The kernel is killed in the middle of writing: all that fsync(2) has confirmed is there.
for format in ukcow uml; do
  rm -f "$cow"
  image create "$cow" --backing="$base" --format=$format
  : >"$dir/out"
  "$uk" run --platform="$platform" --root=dir:/ --disk=vdb="$base",cow="$cow" -- /bin/sh -c 'i=0; while :; do
    i=$((i+1)); printf "%08d" $i | dd of=/dev/vdb bs=512 seek=$i conv=notrunc,fsync status=none; echo $i; done' \
    </dev/null >"$dir/out" 2>&1 &
  pid=$!
  until [ "$(wc -l <"$dir/out")" -ge $((50 + RANDOM % 50)) ]; do kill -0 $pid || break; done
  kill -9 $pid
  wait $pid 2>/dev/null
  # The last line may have been cut.
  confirmed=$(($(wc -l <"$dir/out") - 1))
  check "many confirmed ($format): $confirmed" test $confirmed -ge 40
  same "confirmed and there ($format)" "$(seq -f %08.0f 1 $confirmed)" "$(run_disk vdb="$base",cow="$cow",ro \
    "for i in \$(seq $confirmed); do dd if=/dev/vdb bs=512 skip=\$i count=1 status=none | head -c 8; echo; done")"
  same "check after it ($format)" "$cow: good" "$(image check "$cow")"
done

# A disk in memory.
same "a disk in memory" "67108864 same" "$(run_disk vdb=ram:64M "blockdev --getsize64 /dev/vdb | tr '\n' ' '
  dd if=$dir/data of=/dev/vdb bs=4k status=none && cmp -n 300000 /dev/vdb $dir/data && echo same")"

# Loop devices, by this machine's losetup.
same "losetup" $'/dev/loop0\n/tmp/disk 4096 8388608\n0\n0' "$(run_disk vdb=ram:1M "truncate -s 9M /tmp/disk
  losetup -f --show -o 4096 --sizelimit 8388608 /tmp/disk && losetup -n -O BACK-FILE,OFFSET,SIZELIMIT | tr -s ' '
  mkfs.ext4 -q /dev/loop0 && e2fsck -fn /dev/loop0 >/dev/null 2>&1; echo \$?
  losetup -d /dev/loop0; losetup -a | wc -l")"

# A file system in a file, which goes with its mount; and one that is still there at the end.
same "mount -o loop" $'/dev/loop0 1 /tmp/disk\nhi\n0\nhi\nexit 0' "$(run_disk vdb=ram:1M "truncate -s 16M /tmp/disk
  mkfs.ext4 -q /tmp/disk && mount -o loop /tmp/disk /mnt && echo hi >/mnt/x
  losetup -n -O NAME,AUTOCLEAR,BACK-FILE | tr -s ' '; cat /mnt/x; umount /mnt; losetup -a | wc -l
  mount -o loop /tmp/disk /mnt && cat /mnt/x"; echo "exit $?")"

# The file behind a disk is cut while the guest runs: EIO for the guest, and the log names the file.
truncate -s 4M "$dir/cut.img"
: >"$dir/out"
timeout 60 "$uk" run --platform="$platform" --root=dir:/ --disk=vdb="$dir/cut.img" -- /bin/sh -c \
  'exec 5</dev/vdb; echo up; read x; dd of=/dev/null bs=4k skip=512 count=1 <&5 2>&1 | head -n 1
  dmesg | grep vdb' \
  <"$dir/hold" >"$dir/out" 2>&1 &
exec 3>"$dir/hold"
until grep -q up "$dir/out"; do kill -0 $! || break; done
truncate -s 1M "$dir/cut.img"
echo x >&3
exec 3>&-
wait
check "EIO beyond the end: $(cat "$dir/out")" grep -q "Input/output error" "$dir/out"
check "the log names the file: $(cat "$dir/out")" \
  grep -q "sector 4096 op READ: .*in host file $dir/cut.img" "$dir/out"

finish
