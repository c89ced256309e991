"""Tests that run natively first and then in a guest.

    guest_visible_test(name = "files", srcs = glob(["files/*.cc"]))

makes
    native_files          the program itself, on the host's Linux, as whoever runs the tests
    user_files            the same as an ordinary user
    guest_ptrace_files    in a guest, on each platform, as root or whoever runs the tests,
    guest_notify_files    and as an ordinary user (likewise direct):
    guest_ptrace_user_files, guest_notify_user_files

`guest_script_test` makes the same tests, one or two a platform, of a script that takes --platform, --ukernel and
--user."""

load("//tools:linkopts.bzl", "STATIC_LINKOPTS")

PLATFORMS = ["ptrace", "notify", "direct"]

def guest_visible_test(name, srcs, guest_tags = [], **kwargs):
    native.cc_test(
        name = "native_" + name,
        size = "medium",
        srcs = srcs,
        # Bad pointers and sizes are passed on purpose; glibc's checks would stop them before the kernel sees them.
        copts = ["-O1", "-U_FORTIFY_SOURCE"],
        linkopts = STATIC_LINKOPTS,
        tags = ["noasan"],
        deps = [
            "//tests/syscalls:testing",
            "//third_party:gtest_main",
        ],
        **kwargs
    )
    run(
        name = "user_" + name,
        binary = "native_" + name,
        args = ["--platform=native", "--user"],
        data = [],
        tags = [],
    )
    for platform in PLATFORMS:
        for user in ["", "user_"]:
            run(
                name = "guest_%s_%s%s" % (platform, user, name),
                binary = "native_" + name,
                args = [
                    "--platform=" + platform,
                    "--ukernel=$(rootpath //boot:ukernel)",
                    "--no-native",
                ] + (["--user"] if user else []),
                data = ["//boot:ukernel"],
                tags = guest_tags,
            )

def run(name, binary, args, data, tags):
    native.sh_test(
        name = name,
        size = "medium",
        srcs = ["//tests/guest:run_guest_tests"],
        args = args + ["$(rootpath :%s)" % binary],
        data = [
            ":" + binary,
            "//tests/guest:runner",
        ] + data,
        tags = tags + ["noasan"],
    )

def guest_script_test(name, script, args = [], data = [], tags = [], size = "medium", users = ["", "user"]):
    for platform in PLATFORMS:
        for user in users:
            native.sh_test(
                name = "_".join([p for p in [name, platform, user] if p]),
                size = size,
                srcs = [script],
                args = args + [
                    "--platform=" + platform,
                    "--ukernel=$(rootpath //boot:ukernel)",
                ] + (["--user"] if user else []),
                data = data + [
                    "//boot:ukernel",
                    "//tests/guest:runner",
                ],
                tags = tags + ["noasan"],
            )
