#!/usr/bin/env python3
"""tools/results counts what ran, and takes nothing that did not run for a success."""

import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import tempfile
import unittest

_HERE = os.path.dirname(os.path.abspath(__file__))
_LOADER = importlib.machinery.SourceFileLoader("results", os.path.join(_HERE, "results"))
results = importlib.util.module_from_spec(importlib.util.spec_from_loader("results", _LOADER))
_LOADER.exec_module(results)


def configured(label):
    return {"id": {"targetConfigured": {"label": label}}, "configured": {"testSize": "SMALL"}}


def summary(label, status):
    return {"id": {"testSummary": {"label": label}}, "testSummary": {"overallStatus": status}}


FINISHED = {"id": {"buildFinished": {}}}


class ResultsTest(unittest.TestCase):
    def outcome(self, steps, *lanes):
        """Returns (exit status, last line) for steps and lanes of events (None: no such file)."""
        with tempfile.TemporaryDirectory() as root:
            arguments = [os.path.join(root, "steps")]
            with open(arguments[0], "w", encoding="utf-8") as file:
                file.write(steps)
            for number, events in enumerate(lanes):
                arguments.append(os.path.join(root, f"lane{number}.events.json"))
                if events is not None:
                    with open(arguments[-1], "w", encoding="utf-8") as file:
                        file.writelines(json.dumps(event) + "\n" for event in events)
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                status = results.main(arguments)
            return status, out.getvalue().splitlines()[-1]

    def test_all_pass(self):
        lane = [configured("//a"), configured("//b"), summary("//a", "PASSED"), summary("//b", "PASSED"), FINISHED]
        self.assertEqual(self.outcome("pass tidy\n", lane, lane), (0, "5 passed, 0 failed"))

    def test_failures(self):
        lane = [configured("//a"), configured("//b"), configured("//c"), summary("//a", "PASSED"),
                summary("//b", "FAILED"), FINISHED]
        # //c has no result: it did not build.
        self.assertEqual(self.outcome("fail tidy\n", lane), (1, "1 passed, 3 failed"))

    def test_flaky_is_no_pass(self):
        lane = [configured("//a"), summary("//a", "FLAKY"), FINISHED]
        self.assertEqual(self.outcome("", lane), (1, "0 passed, 1 failed"))

    def test_nothing_ran(self):
        self.assertEqual(self.outcome("pass tidy\n", [FINISHED]), (1, "1 passed, 1 failed"))
        self.assertEqual(self.outcome("pass tidy\n", None), (1, "1 passed, 1 failed"))
        self.assertEqual(self.outcome(""), (1, "0 passed, 0 failed"))

    def test_build_cut_short(self):
        lane = [configured("//a"), summary("//a", "PASSED")]
        self.assertEqual(self.outcome("", lane), (1, "1 passed, 1 failed"))

    def test_bad_pattern(self):
        lane = [{"id": {"pattern": {"pattern": ["//gone"]}}, "aborted": {"reason": "LOADING_FAILURE"}}, FINISHED]
        self.assertEqual(self.outcome("", lane), (1, "0 passed, 1 failed"))


if __name__ == "__main__":
    unittest.main()
