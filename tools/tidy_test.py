#!/usr/bin/env python3
"""tools/tidy finds each breach it promises to find, and nothing in a clean tree."""

import importlib.machinery
import importlib.util
import os
import tempfile
import unittest

_HERE = os.path.dirname(os.path.abspath(__file__))
_LOADER = importlib.machinery.SourceFileLoader("tidy", os.path.join(_HERE, "tidy"))
tidy = importlib.util.module_from_spec(importlib.util.spec_from_loader("tidy", _LOADER))
_LOADER.exec_module(tidy)

HEADER = "// What a test header is for, who owns it, and that nothing in it suspends.\n#pragma once\n"


class TidyTest(unittest.TestCase):
    def complaints(self, files):
        with tempfile.TemporaryDirectory() as root:
            with open(os.path.join(root, ".clang-format"), "w", encoding="utf-8") as file:
                file.write("BasedOnStyle: Google\nColumnLimit: 100\n")
            for path, text in files.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            return tidy.run(root)

    def assert_one(self, files, words):
        found = self.complaints(files)
        self.assertEqual(len(found), 1, found)
        self.assertIn(words, found[0])

    def test_clean_tree(self):
        self.assertEqual(self.complaints({
            "base/a.h": HEADER,
            "base/a.cc": '#include "base/a.h"\n',
            "ukernel/mm/b.cc": '#include "base/a.h"\n#include "ukernel/platform/platform.h"\n',
            "ukernel/mm/b_test.cc": '#include "ukernel/platform/ptrace/ptrace.h"\n',
            "boot/main.cc": '#include "ukernel/platform/ptrace/ptrace.h"\n',
        }), [])

    def test_empty_tree_is_no_success(self):
        self.assert_one({"docs/a.md": "text\n"}, "nothing was checked")

    def test_edges(self):
        for path, target in [
            ("base/a.cc", "hostio/ring.h"),
            ("hostio/a.cc", "ukernel/sched/fiber.h"),
            ("ukernel/sched/a.cc", "ukernel/mm/vma.h"),
            ("ukernel/vfs/a.cc", "ukernel/task/task.h"),
            ("ukernel/vfs/a.cc", "ukernel/mm/address_space.h"),
            ("ukernel/fs/tmpfs/a.cc", "ukernel/task/task.h"),
            ("ukernel/mm/a.cc", "ukernel/platform/ptrace/ptrace.h"),
            ("ukernel/kernel.cc", "ukernel/platform/ptrace/ptrace.h"),
            ("ukernel/platform/notify/a.cc", "ukernel/platform/ptrace/ptrace.h"),
            ("syscalls/a.cc", "hostio/ring.h"),
            ("syscalls/a.cc", "ukernel/platform/ptrace/ptrace.h"),
            ("nested/a.cc", "boot/main.h"),
            ("ukernel/mm/a_test.cc", "boot/main.h"),
        ]:
            with self.subTest(path=path, target=target):
                self.assert_one({path: f'#include "{target}"\n'}, f"{path}:1: ")

    def test_allowed_edges(self):
        for path, target in [
            ("ukernel/vfs/a.cc", "ukernel/mm/phys.h"),
            ("ukernel/fs/tmpfs/a.cc", "ukernel/fs/tmpfs/b.h"),
            ("ukernel/fs/devfs/a.cc", "ukernel/dev/tty.h"),
            ("ukernel/task/a.cc", "ukernel/vfs/file.h"),
            ("ukernel/platform/ptrace/a.cc", "ukernel/platform/ptrace/b.h"),
            ("ukernel/platform/ptrace/a.cc", "hostio/sys/ptrace.h"),
            ("ukernel/kernel.cc", "ukernel/task/task.h"),
            ("syscalls/a.cc", "ukernel/kernel.h"),
        ]:
            with self.subTest(path=path, target=target):
                self.assertEqual(self.complaints({path: f'#include "{target}"\n'}), [])

    def test_filesystems_are_siblings(self):
        self.assert_one({"ukernel/fs/tmpfs/a.cc": '#include "ukernel/fs/procfs/b.h"\n'}, "never include each other")

    def test_length(self):
        self.assert_one({"base/a.cc": "int a();\n" * 601}, "601 lines")
        self.assertEqual(self.complaints({"base/a.cc": "int a();\n" * 600}), [])

    def test_header_comment(self):
        self.assert_one({"base/a.h": "#pragma once\n"}, "opens with a comment")
        self.assert_one({"base/a.h": HEADER.splitlines()[0] + "\n"}, "no #pragma once")

    def test_places(self):
        slash = "/"
        self.assert_one({"base/a.cc": f"// see {slash}work/main/x\n"}, "absolute path")
        self.assert_one({"base/a.cc": "int a();\n", "docs/a.md": f"https:{slash}/packages.invalid/x\n"},
                        "packages.invalid")
        self.assertEqual(self.complaints({"base/a.cc": f"// https:{slash}/man7.org/x, $X{slash}work/y\n"}), [])

    def test_text(self):
        self.assert_one({"base/a.cc": "int a();\n", "tools/a.py": "x = 1 \n"}, "trailing blanks")
        self.assert_one({"base/a.cc": "int a();\n", "tools/a.py": "x = 1"}, "no newline")

    def test_walk(self):
        readme = "# x\n\n## Half an hour\n\n1. `base/a.cc`\n\n## Other\n\n`base/gone.h`\n"
        good = "// What it is for.\n"
        self.assertEqual(self.complaints({"README.md": readme, "base/a.cc": good}), [])
        self.assert_one({"README.md": readme, "base/b.cc": good}, "base/a.cc does not exist")
        self.assert_one({"README.md": readme, "base/a.cc": good + "int a();\n" * 419}, "420 lines")
        self.assert_one({"README.md": readme, "base/a.cc": "int a();\n"}, "opens with its purpose")
        self.assert_one({"README.md": "# x\n", "base/a.cc": good}, "no stops")

    def test_format(self):
        self.assert_one({"base/a.cc": "int   a( ) ;\n"}, "not formatted")


if __name__ == "__main__":
    unittest.main()
