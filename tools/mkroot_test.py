#!/usr/bin/env python3
"""tools/mkroot makes an archive that reads back as the tree it promises, the same each time."""

import importlib.machinery
import importlib.util
import os
import stat
import tempfile
import unittest

_HERE = os.path.dirname(os.path.abspath(__file__))
_LOADER = importlib.machinery.SourceFileLoader("mkroot", os.path.join(_HERE, "mkroot"))
mkroot = importlib.util.module_from_spec(importlib.util.spec_from_loader("mkroot", _LOADER))
_LOADER.exec_module(mkroot)


def read(archive):
    """Returns [(name, mode, (uid, gid), contents, offset of the contents)], checking the format's rules."""
    entries, at = [], 0
    while True:
        while archive[at:at + 4] == b"\0\0\0\0":  # padding
            at += 4
        assert archive[at:at + 6] == b"070701", at
        fields = [int(archive[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
        name_size, size = fields[11], fields[6]
        raw = archive[at + 110:at + 110 + name_size]
        assert raw.endswith(b"\0")
        name = raw.split(b"\0")[0].decode()
        start = (at + 110 + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            assert (start + size + 3) // 4 * 4 == len(archive)
            return entries
        entries.append((name, fields[1], (fields[2], fields[3]), archive[start:start + size], start))
        at = (start + size + 3) // 4 * 4


class MkrootTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.archive = mkroot.make_archive("/bin/busybox")
        cls.entries = read(cls.archive)
        cls.by_name = {entry[0]: entry for entry in cls.entries}

    def test_same_bytes_each_time(self):
        self.assertEqual(self.archive, mkroot.make_archive("/bin/busybox"))

    def test_parents_come_first_and_names_once(self):
        seen = set()
        for name, _, _, _, _ in self.entries:
            self.assertNotIn(name, seen)
            parent = os.path.dirname(name)
            self.assertTrue(not parent or parent in seen, name)
            seen.add(name)

    def test_busybox_is_whole_and_page_aligned(self):
        _, mode, owner, contents, offset = self.by_name["bin/busybox"]
        with open("/bin/busybox", "rb") as file:
            self.assertEqual(contents, file.read())
        self.assertEqual(offset % 4096, 0)
        end = offset + len(contents)
        self.assertEqual(self.archive[end:(end + 4095) // 4096 * 4096].strip(b"\0"), b"")
        self.assertEqual((mode, owner), (stat.S_IFREG | 0o755, (0, 0)))

    def test_applets_lead_to_busybox(self):
        for name in ("bin/sh", "bin/ls", "usr/bin/env", "sbin/init"):
            target = os.path.normpath(os.path.join(os.path.dirname(name), self.by_name[name][3].decode()))
            self.assertEqual(target, "bin/busybox", name)
            self.assertTrue(stat.S_ISLNK(self.by_name[name][1]))
        links = [name for name, mode, _, _, _ in self.entries if stat.S_ISLNK(mode)]
        self.assertGreater(len(links), 200)

    def test_directories_and_files(self):
        self.assertEqual(self.by_name["tmp"][1], stat.S_IFDIR | 0o1777)
        self.assertEqual(self.by_name["root"][1], stat.S_IFDIR | 0o700)
        self.assertEqual(self.by_name["home/user"][2], (1000, 1000))
        self.assertIn(b"root:x:0:0:", self.by_name["etc/passwd"][3])
        for name in ("dev", "proc", "sys", "etc/group", "etc/hosts", "etc/profile"):
            self.assertIn(name, self.by_name)

    def test_refuses_what_is_no_program(self):
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"#!/bin/sh\n")
            file.flush()
            with self.assertRaisesRegex(ValueError, "not an ELF"):
                mkroot.make_archive(file.name)


if __name__ == "__main__":
    unittest.main()
