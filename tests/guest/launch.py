"""How the test runners of this tree start programs natively and in a guest.

Used by run_guest_tests, tests/corpus, tests/badinput, tests/stress and bench. Standard library only. A runner adds the
options of `add_options`, then asks `Launcher` for command lines; everything started here is in a process group of its
own and dies with it."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ORDINARY_USER = 65534


def add_options(parser, platforms=("native", "ptrace", "notify", "direct", "auto")):
    parser.add_argument("--platform", choices=platforms, default="auto", help="default %(default)s")
    parser.add_argument("--ukernel", metavar="FILE", help="the kernel's binary (default: $UKERNEL, else ./uk)")
    parser.add_argument("--user", action="store_true",
                        help="as an ordinary user: when run by root, everything is started as uid %d" % ORDINARY_USER)


def find_ukernel(given):
    """The path of the kernel's binary, or exits."""
    for path in (given, os.environ.get("UKERNEL"), os.path.join(REPOSITORY, "uk")):
        if path:
            if os.access(path, os.X_OK):
                return os.path.realpath(path)
            if path in (given, os.environ.get("UKERNEL")):
                sys.exit("%s: no such executable" % path)
    sys.exit("no kernel binary: build //boot:ukernel and name it with --ukernel=FILE")


class Launcher:
    """Knows the platform, the user and the binary; a context manager that owns a public scratch directory."""

    def __init__(self, options):
        self.platform = options.platform
        self.drop = options.user and os.geteuid() == 0
        self.scratch = tempfile.mkdtemp(prefix="uk-run.")
        os.chmod(self.scratch, 0o755)
        self.ukernel = None
        if self.platform != "native":
            self.ukernel = self.public_copy(find_ukernel(options.ukernel))

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        shutil.rmtree(self.scratch, ignore_errors=True)

    def move_scratch(self, parent):
        """Has the scratch directory, with the kernel's binary in it, in another place."""
        old, self.scratch = self.scratch, tempfile.mkdtemp(prefix="uk-run.", dir=parent)
        os.chmod(self.scratch, 0o755)
        if self.ukernel:
            self.ukernel = self.public_copy(self.ukernel)
        shutil.rmtree(old, ignore_errors=True)

    def public_copy(self, path):
        """A copy of an executable that every user can reach; build directories often are private."""
        to = os.path.join(self.scratch, os.path.basename(path))
        shutil.copyfile(path, to)
        os.chmod(to, 0o755)
        return to

    def user_directory(self, name):
        """A fresh directory that belongs to the user things run as."""
        path = os.path.join(self.scratch, name)
        os.mkdir(path)
        if self.drop:
            os.chown(path, ORDINARY_USER, ORDINARY_USER)
        return path

    def ids(self):
        return (ORDINARY_USER, ORDINARY_USER) if self.drop else (os.geteuid(), os.getegid())

    def guest(self, command, *options, root="dir:/", platform=None):
        """The command line that runs `command` in a guest as the same user as natively; the root is the host's own
        unless said otherwise, with changes kept in memory."""
        return [self.ukernel, "run", "--platform=" + (platform or self.platform), "--root=" + root,
                "--user=%d:%d" % self.ids(), *options, "--", *command]

    def environment(self, home="/"):
        user = pwd.getpwuid(ORDINARY_USER if self.drop else os.geteuid()).pw_name
        return {"PATH": PATH, "HOME": home, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC", "TERM": "dumb",
                "USER": user, "LOGNAME": user, "SHELL": "/bin/sh"}

    def start(self, command, **kwargs):
        """Popen in a new session, as the chosen user. stdin is empty unless given."""
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        if self.drop:
            kwargs.update(user=ORDINARY_USER, group=ORDINARY_USER, extra_groups=[])
        return subprocess.Popen(command, start_new_session=True, **kwargs)

    def run(self, command, timeout, **kwargs):
        """(status, stdout, stderr, seconds); the status is None when it had to be killed after `timeout` seconds."""
        started = time.monotonic()
        process = self.start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
        try:
            out, err = process.communicate(timeout=timeout)
            status = process.returncode
        except subprocess.TimeoutExpired:
            kill_group(process)
            out, err = process.communicate()
            status = None
        finally:
            # Nothing of it may go on: its own group is ended whatever happened, an interruption of ours too.
            kill_group(process)
            process.wait()
        return status, out, err, time.monotonic() - started


def kill_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
