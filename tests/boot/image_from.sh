#!/bin/bash
# `ukernel image create --from=`: images of directories and archives, compared by a guest with what
# they were made of, and what goes wrong.
# usage: image_from.sh UKERNEL PLATFORM
. "$(dirname "$0")/testing.sh"
dir=$TEST_TMPDIR/image_from
tree=$dir/tree img=$dir/img.ext4 list=$dir/list.sh
mkdir -p "$tree"/{dir,deep/a/b,many,empty}

create() { "$uk" image create "$@" 2>&1; }
clean() { # clean NAME: e2fsck finds nothing in the image
  local said
  said=$(e2fsck -fn "$img" 2>&1) || { check "e2fsck $1: $said" false; return; }
  check "e2fsck $1" true
}

# A tree with all kinds of files; what takes privilege is there if the host gives it.
(
  cd "$tree" || exit
  echo hello >dir/file
  ln dir/file hard
  ln dir/file deep/a/b/hard
  ln -s dir/file link
  ln -s "$(printf 't%.0s' {1..300})" long-link
  ln long-link hard-long-link
  head -c 3000000 /dev/urandom >contents
  cp contents 'name with a
newline'
  mkfifo fifo
  mknod null c 1 3 2>/dev/null
  mknod disk b 300 70000 2>/dev/null
  python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
  truncate -s 5G sparse
  printf middle | dd of=sparse bs=1 seek=1000001 conv=notrunc status=none
  printf end | dd of=sparse bs=1 seek=5000000000 conv=notrunc status=none
  head -c 100000 /dev/zero >zeroes
  python3 -c '[open("holes", "ab").truncate(i << 16) or open("holes", "ab").write(b"x" * 5000) for i in range(1500)]'
  cp /bin/true setuid
  chmod 6755 setuid
  chmod 1777 empty
  chown 70000:80000 contents 2>/dev/null
  chown -h 12:34 link 2>/dev/null
  python3 - <<'END'
import os, struct
def attribute(file, name, value):
    try:
        os.setxattr(file, name, value)
    except OSError:
        pass
attribute("dir/file", "user.note", b"some\0value\n")
attribute("dir/file", "user.long", b"x" * 1500)
attribute("setuid", "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
entries = [(1, 6, 2**32 - 1), (2, 5, 1234), (4, 4, 2**32 - 1), (16, 7, 2**32 - 1), (32, 4, 2**32 - 1)]
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)
attribute("contents", "system.posix_acl_access", acl)
attribute("dir", "system.posix_acl_default", acl)
END
  for i in $(seq 2000); do echo "$i" >"many/a-name-that-is-long-enough-for-some-blocks-$i"; done
  name=$(printf 'n%.0s' {1..250})
  mkdir -p "long/$name/$name" && echo deep >"long/$name/$name/$name"
  touch -d '2001-02-03 04:05:06.123456789' dir/file
  touch -h -d '1950-01-01' link
  touch -d '2300-01-01' zeroes
  touch -d '2020-02-02 02:02:02' . dir deep deep/a deep/a/b many
)

# What a listing shows: everything about each file but its access and change time.
cat >"$list" <<'END'
import hashlib, os, stat, sys
os.chdir(sys.argv[1])
links = {}
def show(path):
    s = os.lstat(path)
    words = [path, oct(s.st_mode), s.st_uid, s.st_gid, s.st_nlink, s.st_mtime_ns]
    if not stat.S_ISDIR(s.st_mode):
        words.append(links.setdefault(s.st_ino, path))  # the first of the names of one file
    if stat.S_ISLNK(s.st_mode):
        words.append(os.readlink(path))
    if stat.S_ISCHR(s.st_mode) or stat.S_ISBLK(s.st_mode):
        words.append((os.major(s.st_rdev), os.minor(s.st_rdev)))
    if stat.S_ISREG(s.st_mode):
        words.append(s.st_size)
        parts, at = hashlib.md5(), 0
        with open(path, "rb") as file:
            for where in (0, 5000000000 - 4096) if path == "./sparse" else (0,):
                file.seek(where)
                parts.update(file.read(4 << 20))
        words += [parts.hexdigest(), "sparse" if s.st_blocks * 512 < s.st_size // 8 else ""]
    words += [(n, hashlib.md5(os.getxattr(path, n, follow_symlinks=False)).hexdigest())
              for n in sorted(os.listxattr(path, follow_symlinks=False))]
    print(*map(ascii, words))
show(".")
for where, folders, files in os.walk("."):
    if where == ".":
        folders[:] = [f for f in folders if f != "lost+found"]
    folders.sort()
    for name in sorted(folders + files):
        show(os.path.join(where, name))
END
python3 "$list" "$tree" >"$dir/natively"
lines=$(wc -l <"$dir/natively")
check "the tree is large: $lines" test "$lines" -ge 2020

# A guest's listing of the image, by this machine's Python. The root's links are one more: lost+found.
in_guest() { # in_guest FILE-TO-WRITE
  timeout 120 "$uk" run --platform="$platform" --root=dir:/ --mem=512M --disk=vda="$img",ro -- /bin/sh -c \
    "mount -t ext4 -o ro /dev/vda /mnt && python3 $list /mnt" </dev/null >"$1" 2>&1
}
root_links() { awk 'NR == 1 { $5 += by } { print }' by="$1" "$2"; }
compare() { # compare NAME [SED-SCRIPT for both]: the image against the tree
  clean "$1"
  in_guest "$dir/guest"
  check "contents $1: $(diff <(root_links 1 "$dir/natively" | sed -E "${2:-}") \
    <(root_links 0 "$dir/guest" | sed -E "${2:-}") | head -n 6)" \
    cmp -s <(root_links 1 "$dir/natively" | sed -E "${2:-}") <(root_links 0 "$dir/guest" | sed -E "${2:-}")
}

check "create from a directory: $(create "$img" --from="$tree")" test -f "$img"
# Blocks of zeroes become holes.
zeroes='s/^(.\.\/zeroes.*) (.sparse.|..)$/\1/'
compare "of a directory" "$zeroes"
check "holes take no room on the host" test "$(du -k "$img" | cut -f 1)" -lt 60000
features() {
  dumpe2fs -h "$1" 2>/dev/null |
    grep -E '^(Filesystem features|Default mount|Block size|Inode size|Inode count|Journal features)'
}
truncate -s "$(stat -c %s "$img")" "$dir/empty.ext4"
mke2fs -q -t ext4 -b 4096 "$dir/empty.ext4"
same "features as of mke2fs" "$(features "$dir/empty.ext4")" "$(features "$img")"
rm "$dir/empty.ext4"

# tar leaves out sockets. GNU's own format has whole seconds, and no extended attributes.
no_socket="/^.\.\/socket/d; $zeroes"
tar -C "$tree" -S --xattrs --xattrs-include='*' -cf "$dir/pax.tar" . 2>/dev/null
check "create from pax" grep -q 'files' <(create "$img" --from="$dir/pax.tar" --force --size=300M)
compare "of a pax archive" "$no_socket"
same "the size that was asked for" 314572800 "$(stat -c %s "$img")"
tar -C "$tree" -S --format=gnu -cf "$dir/gnu.tar" . 2>/dev/null
check "create from GNU" grep -q 'files' <(create "$img" --from="$dir/gnu.tar" --force)
compare "of a GNU archive" "$no_socket"'; s/ \(.(user|security|system)\..*//; s/[0-9]{9}( |$)/000000000\1/'
tar -C "$tree" --format=ustar -cf "$dir/ustar.tar" deep dir hard
check "create from a pipe" grep -q ' 6 files' <(create "$img" --from=- --force < <(cat "$dir/ustar.tar"))
clean "of a pipe"

# An image as a guest's root, and one owner for all.
mkdir -p "$dir/root/bin"
cp /bin/busybox "$dir/root/bin/"
create "$img" --from="$dir/root" --owner=5:6 --force >"$dir/out"
same "a root" "5:6 drwx------ lost+found" "$(timeout 60 "$uk" run --platform="$platform" --root=image:"$img":ro -- \
  /bin/busybox sh -c 'busybox stat -c %u:%g /bin/busybox; cd /; busybox ls -ld lost+found' 2>&1 |
  awk '{ print $1, $NF }' | tr '\n' ' ' | sed 's/5:6 5:6/5:6/; s/ $//')"

# Compressed: as good as the programs that the host has.
for program in gzip xz zstd bzip2; do
  command -v $program >/dev/null || continue
  $program -c <"$dir/ustar.tar" >"$dir/packed"
  check "packed by $program" grep -q ' 6 files' <(create "$img" --from="$dir/packed" --force)
  head -c -20 "$dir/packed" >"$dir/cut"
  same "cut, $program" \
    "ukernel: $dir/cut: $program cannot unpack it; it is damaged or cut short: get or make it anew" \
    "$(create "$dir/new" --from="$dir/cut")"
done
gzip -c <"$dir/ustar.tar" >"$dir/packed"
same "no gzip" "ukernel: $dir/packed: to unpack it takes gzip, which cannot be run: No such file or directory; install \
gzip, or give the archive unpacked" \
  "$(PATH=/nowhere create "$dir/new" --from="$dir/packed")"

# Errors are one sentence, and leave nothing behind.
rm -f "$img"
check "too small says how much it takes" grep -qE \
  "^ukernel: $img: what is in $tree needs an image of [0-9]+M; give --size=[0-9]+M or more, or leave it out$" \
  <(create "$img" --from="$tree" --size=8M)
least=$(create "$img" --from="$tree" --size=8M | sed -E 's/.*--size=([0-9]+)M.*/\1/')
check "one less is too small: $least" grep -q needs <(create "$img" --from="$tree" --size=$((least - 1))M)
check "as much as it said is enough: $least" grep -q files <(create "$img" --from="$tree" --size="${least}M")
clean "of the least size"
same "it is there" "ukernel: $img: there is such a file; give another name, or --force to replace it" \
  "$(create "$img" --from="$tree")"
rm -f "$img"
size=$(stat -c %s "$dir/ustar.tar")
for cut in 1 512 700 4000 $((size - 10240)); do
  head -c "$cut" "$dir/ustar.tar" >"$dir/cut"
  check "cut at $cut" grep -qE "^ukernel: $dir/cut: .*cut short.*; get or make the archive anew$" \
    <(create "$img" --from="$dir/cut")
done
printf 'no archive at all, %0600d' 1 >"$dir/cut"
same "no archive" "ukernel: $dir/cut: it is no tar archive (at byte 0); get or make the archive anew" \
  "$(create "$img" --from="$dir/cut")"
check "nothing there" grep -q 'No such file or directory; give --from=' <(create "$img" --from="$dir/nothing")
check "debootstrap" grep -q 'run for example mmdebstrap' <(create "$img" --from=debootstrap:bookworm)
same "a directory there" \
  "ukernel: $tree: is no regular file, and --force replaces only those; give another name" \
  "$(create "$tree" --from="$dir/root" --force)"
check "owner" grep -q 'owner=root: not two numbers' <(create "$img" --from="$tree" --owner=root)
check "a place that is not there" grep -q 'give a place you can write to' <(create "$dir/no/img" --from="$tree")

# Killed on the way: it waits for an archive that never comes.
mkfifo "$dir/hold"
for signal in INT TERM KILL; do
  create "$img" --from=- <"$dir/hold" >/dev/null &
  exec 3>"$dir/hold"
  head -c 2000 "$dir/ustar.tar" >&3
  sleep 0.2
  kill -$signal $! 2>/dev/null
  exec 3>&-
  wait $! 2>/dev/null
done
rm -f "$dir/hold"
same "nothing is left" "" "$(find "$dir" -maxdepth 1 -name 'img*' -o -name 'new*' -o -name '*part')"

finish
