#!/bin/bash
# Disks that come, go and move while a guest runs (ukernel ctl), and what is left of instances that end.
# usage: hotplug.sh UKERNEL PLATFORM
. "$(dirname "$0")/testing.sh"
uk=$(realpath "$uk") dir=$TEST_TMPDIR
name=lab.$$ address=ukernel/$(id -u)/lab.$$
pids=()
trap 'kill -9 "${pids[@]}" 2>/dev/null' EXIT

ctl() { # ctl COMMAND...: what it prints, and its status
  timeout 100 "$uk" ctl "$name" "$@" 2>&1
}

# A guest's shell that reads commands; say COMMAND returns what it prints.
boot() { # boot NAME RUN-OPTION...
  rm -f "$dir/in" "$dir/out"
  mkfifo "$dir/in" "$dir/out"
  timeout 280 "$uk" run --platform="$platform" --root=dir:/ --mem=512M --cwd=/tmp --name="$1" "${@:2}" -- \
    /bin/sh -c 'while read -r line; do eval "$line"; echo .end.; done' <"$dir/in" >"$dir/out" 2>&1 &
  pids+=($!)
  exec 3>"$dir/in" 4<"$dir/out"
}
say() { # say LINE
  local line
  echo "$1" >&3
  while read -r -t 100 line <&4 && [ "$line" != .end. ]; do echo "$line"; done
}

truncate -s 64M "$dir/a.img"
truncate -s 32M "$dir/b.img"
boot "$name" --disk=vdb="$dir/b.img"
same "it is up" up "$(say 'echo up')"
same "ps" "$name" "$(timeout 20 "$uk" ps | awk -v n="$name" '$1 == n && /eval/ { print $1 }')"
same "one name, one instance" \
  "ukernel: name $name: an instance that runs has it; give another --name, or see ukernel ps" \
  "$(timeout 20 "$uk" run --name="$name" -- /bin/true 2>&1)"

# A disk comes: a relative path is the caller's. Whoever listens is told.
cat >"$dir/listen.py" <<'.'
import socket
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)
s.bind((0, 1))
open('/tmp/listening', 'w')
print(' '.join(s.recv(4096).decode().split('\0')[:9]), flush=True)
.
say "python3 $dir/listen.py >/tmp/event & while [ ! -e /tmp/listening ]; do sleep 0.1; done" >/dev/null
same "plugged" "" "$(cd "$dir" && ctl config vdc=a.img)"
at=/devices/virtual/block/vdc
same "uevent" "add@$at ACTION=add DEVPATH=$at SUBSYSTEM=block MAJOR=254 MINOR=16 DEVNAME=vdc DEVTYPE=disk SEQNUM=1" \
  "$(say 'wait; cat /tmp/event')"
same "it is there" \
  "$(printf '65536 vdc\n254 16\n67108864')" \
  "$(say "awk '\$4 == \"vdc\" { print \$3, \$4 }' /proc/partitions"
    say "stat -c '%Hr %Lr' /dev/vdc"; say 'blockdev --getsize64 /dev/vdc')"
same "in sysfs" vdc "$(say 'ls /sys/block | grep vdc')"
same "listed" "$(printf 'vdb=%s  32.0 MiB\nvdc=%s  64.0 MiB' "$dir/b.img" "$dir/a.img")" "$(ctl config)"
same "a name that is taken" "ukernel: disk vdc=$dir/b.img: there is a disk of that name already; give another NAME" \
  "$(ctl config vdc="$dir/b.img")"
same "a file that is used" "ukernel: disk vdd=$dir/a.img: in use by another process; end that, or give both ,ro" \
  "$(ctl config vdd="$dir/a.img")"
same "a file that is not there" \
  "ukernel: disk vdd=$dir/none: No such file or directory; give a file you can read and write, or add ,ro" \
  "$(ctl config vdd="$dir/none")"
same "no such disk" "ukernel: remove vdx: no such disk; config lists those that are there" "$(ctl remove vdx)"
same "no such instance" "ukernel: none: no instance of that name runs; see ukernel ps" "$("$uk" ctl none config 2>&1)"
same "partitions" \
  "$(printf 'vdc1\nvdc2')" \
  "$(say "printf 'label: dos\n,8M\n,8M\n' | sfdisk -q /dev/vdc >/dev/null 2>&1; ls /dev | grep 'vdc[0-9]'")"

# Used: refused, and by whom. Then moved while a loop writes and syncs.
same "mounted" "" \
  "$(say 'wipefs -qa /dev/vdc >/dev/null 2>&1; blockdev --rereadpt /dev/vdc'
    say 'mkfs.ext4 -q -F /dev/vdc 2>&1; mkdir -p /tmp/m; mount /dev/vdc /tmp/m')"
same "refused while mounted" \
  "ukernel: remove vdc: vdc is mounted on /tmp/m; end that, or give --force" \
  "$(ctl remove vdc)"
say 'exec 9</dev/vdb' >/dev/null
same "refused while open" "ukernel: remove vdb: vdb is open in process 1 (sh); end that, or give --force" \
  "$(ctl remove vdb)"
say 'exec 9<&-' >/dev/null
same "behind a loop device" "ukernel: remove vdb: vdb is what stands behind loop0; end that, or give --force" \
  "$(say 'losetup /dev/loop0 /dev/vdb 2>/dev/null || losetup -f /dev/vdb' >/dev/null; ctl remove vdb)"
say 'losetup -d /dev/loop0' >/dev/null

writer='i=0; while [ ! -e /tmp/stop ]; do i=$((i + 1)); f=f$((i % 40)); head -c 300000 /dev/urandom >$f'
writer="$writer; sync -d \$f; sha256sum \$f >>/tmp/sums; done"
say "(cd /tmp/m; $writer) 2>/tmp/errors &" >/dev/null
say 'while [ ! -s /tmp/sums ]; do sleep 0.1; done' >/dev/null
before=$(say 'cat /tmp/sums' | wc -l)
same "moved" "" "$(for i in 1 2 3 4; do ctl mirror vdc="$dir/$i.img"; done)"
same "moved once more" "" "$(ctl mirror vdc="$dir/new.img")"
check "written beside it" test "$(say 'cat /tmp/sums' | wc -l)" -gt "$before"
check "the new file" grep -q "^vdc=$dir/new.img  64.0 MiB$" <<<"$(ctl config)"
check "the old file is let go" flock -n "$dir/a.img" true
same "a mirror onto itself" \
  "ukernel: mirror vdc: $dir/new.img: in use; give another file" \
  "$(ctl mirror vdc="$dir/new.img")"
truncate -s 1M "$dir/small.img"
same "another size" \
  "ukernel: mirror vdc: $dir/small.img: has 1048576 bytes and the disk 67108864; give one of that size, or a new one" \
  "$(ctl mirror vdc="$dir/small.img")"
same "a file that fails" \
  "ukernel: mirror vdc: /dev/full: neither a file nor a block device; give one of these" \
  "$(ctl mirror vdc=/dev/full)"
same "nothing to cancel" "ukernel: mirror vdc: it has no mirror; there is nothing to do" "$(ctl mirror vdc --cancel)"
# Cancelled: what was made goes. A client that is killed is not missed.
truncate -s 20G "$dir/big.img"
same "a large disk" "" "$(ctl config vde="$dir/big.img")"
ctl mirror vde="$dir/big2.img" >"$dir/cancelled" &
until ctl config | grep -q '^vde.*  mirror: '; do kill -0 $! 2>/dev/null || break; done
same "refused while mirrored" \
  "ukernel: remove vde: vde is being mirrored (mirror --cancel ends that); end that, or give --force" \
  "$(ctl remove vde)"
same "cancel" "" "$(ctl mirror vde --cancel)"
wait $!
same "cancelled" "ukernel: mirror vde: the mirror was cancelled; the disk stays where it was" "$(cat "$dir/cancelled")"
check "nothing is left" test ! -e "$dir/big2.img"
timeout -s KILL 0.3 "$uk" ctl "$name" mirror vde="$dir/big2.img" 2>/dev/null
check "its client is gone" grep -q '^vde.*  mirror: ' <<<"$(ctl config)"
same "removed by force meanwhile" "" "$(ctl remove --force vde)"
say 'touch /tmp/stop; wait' >/dev/null
same "no errors in the guest" "" "$(say 'cat /tmp/errors')"
# The last checksum of each file, after the cache was left behind.
got=$(say "umount /tmp/m && mount /dev/vdc /tmp/m && cd /tmp/m && tac /tmp/sums | sort -u -k2,2 -s >/tmp/last"
  say "sha256sum -c --quiet /tmp/last && echo whole; cd /tmp")
same "contents" whole "$got"
same "removed" "" "$(say 'umount /tmp/m' >/dev/null; ctl remove vdc)"
same "it is gone" "" "$(say 'ls /dev /sys/block | grep vdc; grep vdc /proc/partitions')"
check "the host's e2fsck" e2fsck -fn "$dir/new.img" >/dev/null 2>&1

# By force: I/O errors for who uses it, the file is free, the guest goes on.
same "again" "" "$(ctl config vdc="$dir/new.img")"
say 'mount /dev/vdc /tmp/m; exec 9>/tmp/m/open' >/dev/null
same "by force" "" "$(ctl remove --force vdc)"
same "free at once" "" "$(ctl config vdd="$dir/new.img,ro")"
check "errors" grep -q 'rror\|ead-only' <<<"$(say 'echo x >&9; sync -f /tmp/m/open 2>&1; echo x >/tmp/m/another 2>&1')"
same "it goes on" "$(printf 'gone\nfine')" "$(say 'exec 9>&-; umount /tmp/m && echo gone; echo fine')"

# Clients that hang or send nonsense harm nobody.
for _ in 1 2 3; do
  python3 -c "import socket,sys,time
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(b'\\0' + sys.argv[1].encode())
time.sleep(30)" "$address" 3>&- 4<&- &
  pids+=($!)
done
nonsense=$(python3 -c "import os,socket,sys
for text in (b'\\0', b'%', os.urandom(5000), b'a' * 20000, b'config ' * 100, b'remove', b'what ' + b'x' * 900):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(b'\\0' + sys.argv[1].encode())
    s.send(text)
    print(s.recv(3000).split()[0].decode())" "$address" | sort | uniq -c | tr -s ' ')
same "nonsense is refused" " 7 error" "$nonsense"
same "others are served" "$(printf 'vdb=%s  32.0 MiB\nvdd=%s,ro  64.0 MiB' "$dir/b.img" "$dir/new.img")" "$(ctl config)"

# What ends or is killed leaves nothing behind, and its name is free.
exec 3>&- 4<&-
wait "${pids[0]}"
boot killed
say 'echo up' >/dev/null
check "listed" grep -q '^killed ' <<<"$(timeout 30 "$uk" ps)"
same "a name is one instance's" "name killed: an instance that runs has it; give another --name, or see ukernel ps" \
  "$("$uk" run --name=killed -- true 2>&1 | sed 's/^ukernel: //')"
pkill -9 -P "${pids[-1]}"
wait "${pids[-1]}" 2>/dev/null
exec 3>&- 4<&-
same "its name is free" 0 "$("$uk" run --name=killed -- true >/dev/null 2>&1; echo $?)"
same "nobody is listed" "" "$(timeout 30 "$uk" ps | grep -e '^killed ' -e "^$name ")"

# Whoever has the name of an instance of ours is not believed to be one.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
  setpriv --reuid=65534 --clear-groups python3 -c "import socket,sys,time
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(b'\\0ukernel/0/imposter')
s.listen()
print('bound', flush=True)
time.sleep(60)" 3>&- 4<&- >"$dir/bound" &
  pids+=($!)
  for _ in $(seq 100); do [ -s "$dir/bound" ] || sleep 0.1; done
  check "an imposter" grep -q "imposter: another user's" <<<"$("$uk" ctl imposter config 2>&1)"
fi

finish
