#!/bin/bash
# ext4 when the kernel is killed: at any moment the image is as a commit left it, once its journal is
# replayed, by e2fsck or by the next mount; and all that fsync(2) has confirmed is there.
# usage: ext4_crash.sh UKERNEL PLATFORM
. "$(dirname "$0")/testing.sh"
dir=$TEST_TMPDIR/ext4_crash
img=$dir/disk.img
mkdir -p "$dir"

# Files that are made, synced, told of, and partly removed and made again in other places; so blocks of
# directories become blocks of files.
work='mount -t ext4 /dev/vdb /mnt && cd /mnt && i=$1; while :; do
  i=$((i+1)); d=d$((i%5)); mkdir -p $d/e; seq $((i*10)) >$d/e/f$i && sync $d/e/f$i && echo $i
  [ $((i%7)) = 0 ] && { rm -rf d$((i%5))/old; mv d$((i%5))/e d$((i%5))/old; }
done'
# Each confirmed file is where the work has left it, or where the last unconfirmed step has moved it.
verify='mount -t ext4 /dev/vdb /mnt && cd /mnt && for i in $(seq $1 $2); do
  f=$(find . -name f$i); [ -n "$f" ] && seq $((i*10)) | cmp - $f && echo $i; done | wc -l; cd /; umount /mnt'

for size in 4096 1024; do
  rm -f "$img"
  mke2fs -q -q -F -t ext4 -b $size "$img" 64M
  first=0
  for round in 1 2 3 4; do
    : >"$dir/out"
    "$uk" run --platform="$platform" --root=dir:/ --disk=vdb="$img" -- /bin/sh -c "$work" work $first \
      </dev/null >"$dir/out" 2>&1 &
    pid=$!
    until [ "$(wc -l <"$dir/out")" -ge $((4 + RANDOM % 30)) ]; do kill -0 $pid || break; done
    kill -9 $pid
    wait $pid 2>/dev/null
    last=$(($(sed -n '$!p' "$dir/out" | tail -n 1)))
    check "some confirmed ($size, $round): $(tail -n 3 "$dir/out")" test $last -ge $((first + 3))
    cp "$img" "$dir/copy.img"
    e2fsck -E journal_only -y "$dir/copy.img" >"$dir/log" 2>&1
    e2fsck -fn "$dir/copy.img" >>"$dir/log" 2>&1
    same "replayed by e2fsck ($size, $round): $(cat "$dir/log")" 0 $?
    # What is older may have gone with a directory that was removed.
    from=$((last - 20 > first ? last - 20 : first + 1))
    got=$(timeout 60 "$uk" run --platform="$platform" --root=dir:/ --disk=vdb="$img" -- /bin/sh -c "$verify" v \
      $from $last </dev/null 2>&1)
    same "confirmed and there ($size, $round)" $((last - from + 1)) "$got"
    e2fsck -fn "$img" >"$dir/log" 2>&1
    same "replayed by the mount ($size, $round): $(cat "$dir/log")" 0 $?
    first=$last
  done
done

finish
