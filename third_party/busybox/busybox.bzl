"""A repository with one file: the statically linked busybox of Debian's busybox-static."""

def _busybox_repository(ctx):
    ctx.symlink("/bin/busybox", "busybox")
    ctx.file("BUILD", "exports_files([\"busybox\"])\n")

# `local`: looked at again by each Bazel server, and the link's target is an input like any other,
# so an upgraded busybox gives a new root.
busybox_repository = repository_rule(
    implementation = _busybox_repository,
    local = True,
)
