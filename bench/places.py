"""Where guest_bench can run: natively, in guests of ukernel, and in the peers that are installed.

A Place makes command lines; `run` gives a program's output. What a place starts ends with the call."""

import os
import re
import shlex
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "tests", "guest"))
import launch  # noqa: E402

PEERS = ("linux.uml", "runsc")


class Place:
    """Natively."""

    name = "native"

    def __init__(self, launcher):
        self.launcher = launcher
        self.temporary = launcher.user_directory("tmp." + self.name)

    def command(self, arguments, builtin=False):
        """The command line that runs a program here; `builtin`: in the smallest root there is."""
        return arguments

    def environment(self):
        return dict(self.launcher.environment(), TMPDIR=self.temporary)

    def start(self, arguments, builtin=False, **kwargs):
        return self.launcher.start(self.command(arguments, builtin), env=self.environment(), cwd="/", **kwargs)

    def run(self, arguments, timeout):
        """(status, stdout, stderr) as text; the status is None when time ran out."""
        status, out, err, _ = self.launcher.run(self.command(arguments), timeout, env=self.environment(), cwd="/")
        return status, out.decode(errors="replace"), err.decode(errors="replace")


class Guest(Place):
    """In a ukernel of one platform. The root is the host's; what is written stays in guest memory."""

    def __init__(self, launcher, platform):
        self.name = platform
        super().__init__(launcher)
        self.temporary = "/tmp"

    def command(self, arguments, builtin=False):
        return self.launcher.guest(arguments, root="builtin" if builtin else "dir:/", platform=self.name)


class Runsc(Place):
    """In gVisor on its default platform."""

    name = "runsc"

    def __init__(self, launcher):
        super().__init__(launcher)
        self.state = launcher.user_directory("runsc.state")
        self.temporary = "/tmp"

    def command(self, arguments, builtin=False):
        rootless = [] if os.geteuid() == 0 and not self.launcher.drop else ["--rootless"]
        return [shutil.which(self.name), *rootless, "--network=none", "--ignore-cgroups", "--root=" + self.state, "do",
                *arguments]


class Uml(Place):
    """In User-Mode Linux, booted for each program, with the host's root read-only and its temporary files in memory."""

    name = "linux.uml"
    BOOT = """#!/bin/sh
export PATH=%(path)s TMPDIR=/mnt
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /mnt
%(command)s
echo "status $?"
exec busybox poweroff -f
"""

    def command(self, arguments, builtin=False):
        boot = os.path.join(self.temporary, "boot")
        with open(boot, "w") as f:
            f.write(self.BOOT % {"path": launch.PATH, "command": shlex.join(arguments)})
        os.chmod(boot, 0o755)
        return [shutil.which(self.name), "mem=2G", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "seccomp=auto",
                "con=null", "con0=null,fd:1", "uml_dir=" + self.temporary, "init=" + boot]

    def environment(self):
        # Without TMPDIR it keeps its memory in /dev/shm.
        return dict(self.launcher.environment(), HOME=self.temporary)

    def run(self, arguments, timeout):
        status, out, err = super().run(arguments, timeout)
        said = re.search(r"^status (\d+)\r?$", out, re.M)
        return (int(said[1]) if said else status or 1), out, err


def all_places(launcher, platforms, peers):
    """The native place first. Peers that are not installed are left out."""
    places = [Place(launcher)] + [Guest(launcher, p) for p in platforms]
    kinds = {"linux.uml": Uml, "runsc": Runsc}
    return places + [kinds[p](launcher) for p in peers if shutil.which(p)]


def end(process):
    """Ends a process that was started here with its group."""
    launch.kill_group(process)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()


PIPE = subprocess.PIPE
