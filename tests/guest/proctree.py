"""Looks at running processes through /proc, for the runners that watch a kernel from outside. Standard library only."""

import os
import select
import time


def stat_fields(pid):
    """Fields of /proc/PID/stat after the name, from the state on; None when it has gone."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()
    except OSError:
        return None


def processes():
    """{pid: (ppid, session, start time)} of everything that runs, zombies left out."""
    out = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat_fields(int(name))
            if fields and fields[0] not in "ZX":
                out[int(name)] = (int(fields[1]), int(fields[3]), int(fields[19]))
    return out


def descendants(root):
    """{pid: start time} of a process and all below it."""
    table = processes()
    found = {root: table[root][2]} if root in table else {}
    grew = True
    while grew:
        grew = False
        for pid, (ppid, _, start) in table.items():
            if ppid in found and pid not in found:
                found[pid] = start
                grew = True
    return found


def tree_ns(root):
    """Processor time in nanoseconds of the living threads of a process tree. A difference of two is what they used,
    if none ended in between."""
    total = 0
    for pid in descendants(root):
        try:
            for thread in os.listdir("/proc/%d/task" % pid):
                with open("/proc/%d/task/%s/schedstat" % (pid, thread)) as f:
                    total += int(f.read().split()[0])
        except OSError:
            continue
    return total


def wait_for_output(process, text, timeout):
    """Reads stdout until `text` has come; what has been read, or None after `timeout`."""
    end, data = time.monotonic() + timeout, b""
    while text not in data:
        left = end - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            return None
        chunk = os.read(process.stdout.fileno(), 65536)
        if not chunk:
            return None
        data += chunk
    return data
