#!/bin/bash
# ext4 on disks in host files: what the guest writes is there at the next mount and for the host's
# debugfs, e2fsck finds nothing to complain about, and images boot.
# usage: ext4.sh UKERNEL PLATFORM
. "$(dirname "$0")/testing.sh"
img=$TEST_TMPDIR/ext4.img

clean() { # clean NAME: e2fsck has no complaints
  local out
  out=$(e2fsck -fn "$img" 2>&1)
  check "$1: e2fsck: $out" test $? = 0
}

run() { # run SCRIPT: in a guest with this machine's programs, the image on /mnt
  timeout 120 "$uk" run --platform="$platform" --root=dir:/ --mem=512M --cwd=/tmp --disk=vda="$img" -- \
    /bin/sh -c "mount -t ext4 /dev/vda /mnt && { $1
    }" </dev/null 2>&1
}

new_image() { # new_image SIZE [OPTION...]
  rm -f "$img"
  truncate -s "$1" "$img"
  mke2fs -q -F -t ext4 "${@:2}" "$img"
}

head -c 3000000 /dev/urandom >"$TEST_TMPDIR/data"
data=$TEST_TMPDIR/data

# With mke2fs's own features, and with small blocks.
for options in "64M" "32M -b 1024"; do
  # shellcheck disable=SC2086
  new_image $options
  got=$(run "cp $data /mnt/data && mkdir /mnt/d && ln /mnt/data /mnt/d/hard && ln -s ../data /mnt/d/soft &&
    tar -C /usr/include -cf - linux | tar -C /mnt/d -xf - && umount /mnt && mount -t ext4 /dev/vda /mnt &&
    cmp /mnt/d/soft $data && diff -r /usr/include/linux /mnt/d/linux && stat -c %h /mnt/data && umount /mnt")
  same "written and read ($options)" 2 "$got"
  clean "written ($options)"
  check "the file in the image" cmp "$data" <(debugfs -R 'cat data' "$img" 2>/dev/null)
  got=$(run "rm -r /mnt/d && ls -A /mnt | tr '\n' ' ' && truncate -s 100 /mnt/data && stat -c %s /mnt/data")
  same "removed, not unmounted ($options)" "data lost+found 100" "$got"
  clean "removed ($options)"
done

# What is open when the instance ends, and has no name any more, is gone.
new_image 32M
got=$(run 'exec 3>/mnt/f; dd if=/dev/zero bs=64k count=16 status=none >&3; rm /mnt/f; sync; exec sleep 0')
same "an orphan" "" "$got"
clean "an orphan"

# A mount that is read-only writes nothing.
before=$(cksum <"$img")
got=$(timeout 120 "$uk" run --platform="$platform" --root=dir:/ --disk=vda="$img",ro -- /bin/sh -c \
  'mount -t ext4 -o ro /dev/vda /mnt && ls -A /mnt; touch /mnt/x 2>/dev/null || echo refused
  grep vda /proc/mounts' 2>&1)
same "read-only" $'lost+found\nrefused\n/dev/vda /mnt ext4 ro,relatime,errors=remount-ro 0 0' "$got"
same "read-only: nothing is written" "$before" "$(cksum <"$img")"

# Remount, a second mount of the same filesystem, a device in use.
got=$(run 'mount -o remount,ro /mnt; touch /mnt/x 2>/dev/null || echo refused; mount -o remount,rw /mnt
  touch /mnt/x && mkdir -p /tmp/two && mount -t ext4 /dev/vda /tmp/two && ls /tmp/two/x
  touch /tmp/two/y && ls /mnt/y; umount /tmp/two
  mke2fs -q -F /dev/vda >/dev/null 2>&1 || echo in use; df -t ext4 --output=fstype /mnt | tail -1')
same "remount, two mounts" $'refused\n/tmp/two/x\n/mnt/y\nin use\next4' "$got"
clean "remount"

# Programs run from it; mappings are written back.
got=$(run 'cp /bin/cat /mnt/cat && echo works | /mnt/cat && truncate -s 8192 /mnt/m &&
  dd if=/dev/zero of=/mnt/m bs=4k count=2 conv=notrunc status=none && ls -s /mnt/m')
same "programs on it" $'works\n8 /mnt/m' "$got"
clean "programs on it"

# An image as the root, with the same programs on it.
new_image 64M
root=$TEST_TMPDIR/root
rm -rf "$root"
mkdir -p "$root"/{bin,dev,proc,tmp,sys,root}
cp "$(command -v busybox)" "$root/bin/busybox"
for name in sh ls cat echo mkdir touch rm sync; do ln -s busybox "$root/bin/$name"; done
rm -f "$img"
truncate -s 64M "$img"
mke2fs -q -F -t ext4 -d "$root" "$img"
boot() { # boot SPEC SCRIPT
  timeout 120 "$uk" run --platform="$platform" --root="$1" --mem=256M --cwd=/ -- /bin/sh -c "$2" </dev/null 2>&1
}
got=$(boot "image:$img" 'echo kept >/root/f; cat /root/f; grep " / " /proc/mounts')
same "an image as the root" $'kept\n/dev/vda / ext4 rw,relatime,errors=remount-ro 0 0' "$got"
clean "an image as the root"
same "a root that stays" kept "$(boot "image:$img" 'cat /root/f')"
before=$(cksum <"$img")
same "a root that is read-only" gone "$(boot "image:$img:ro" 'rm /root/f; cat /root/f 2>/dev/null || echo gone')"
same "a root that is read-only: nothing is written" "$before" "$(cksum <"$img")"
got=$(timeout 60 "$uk" run --platform="$platform" --root=image:"$data" -- /bin/true 2>&1)
why="Invalid argument; give an ext4 image that is whole (e2fsck); --dmesg says more"
same "no image" "ukernel: root image:$data: $why" "$got"

finish
