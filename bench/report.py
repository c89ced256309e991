"""What bench/compare found: the table on the terminal, docs/BENCHMARKS.md and docs/benchmarks.svg."""

import collections
import html
import math
import os
import re
import statistics
import time

Row = collections.namedtuple("Row", "name unit what")
# Whom the bars are for.
PROMISED = ("direct", "auto")


def machine():
    """The machine in neutral words."""
    cores = len(os.sched_getaffinity(0))
    version = re.match(r"[\d.]*\d", os.uname().release)
    return "%d core%s, Linux %s, %s" % (cores, "" if cores == 1 else "s", version[0] if version else "",
                                       time.strftime("%Y-%m-%d"))


def number(value):
    """Three digits."""
    if value == 0:
        return "0"
    return "%.*f" % (max(0, 2 - math.floor(math.log10(abs(value)))), value)


def spread(values):
    """The median absolute deviation in percent of the median."""
    middle = statistics.median(values)
    return 100 * statistics.median(abs(v - middle) for v in values) / middle if middle else 0


class Results:
    """Values by row and place, a list with one a turn."""

    def __init__(self, rows, names, bars, value_bars, where):
        self.rows, self.names, self.bars, self.value_bars, self.where = rows, names, bars, value_bars, where
        self.values = {}  # (row name, place) -> {turn: value}
        self.failures = []
        self.verdicts = collections.Counter()

    def add(self, place, turn, values):
        for name, value in values.items():
            self.values.setdefault((name, place), {})[turn] = value

    def fail(self, row, place, why):
        self.failures.append("%s, %s: %s" % (row.name, place, why))

    def value(self, row, place):
        values = self.values.get((row.name, place))
        return statistics.median(values.values()) if values else None

    def ratios(self, row, place):
        """Of the place's time to the native time of the same turn."""
        ours, native = self.values.get((row.name, place), {}), self.values.get((row.name, "native"), {})
        both = [(ours[t], native[t]) for t in ours if native.get(t) and ours[t]]
        if row.name in self.value_bars and row.name != "start":
            return []
        return [n / o if row.unit == "GB/s" else o / n for o, n in both]

    def verdict(self, row, place):
        """(words, bar) or None."""
        if place not in PROMISED:
            return None
        if row.name in self.value_bars:
            measured, bar = self.value(row, place), self.value_bars[row.name]
        else:
            ratios, bar = self.ratios(row, place), self.bars.get(row.name)
            measured = statistics.median(ratios) if ratios else None
        if measured is None or bar is None:
            return None
        return ("ok" if measured <= bar else "MISSED"), bar

    # ---- terminal ----

    def header(self):
        text = "%-9s%13s     " % ("row", "native")
        for name in self.names[1:]:
            text += "%12s  %8s %5s  %-13s" % (name, "ratio", "+-", "bar" if name in PROMISED else "")
        return text.rstrip()

    def lines(self, row):
        """The lines of a row, and of those measured together with it."""
        for one in self.rows:
            if one is row or (row.name == "idle" and one.name == "idle-cpu"):
                yield self.line(one)

    def quantity(self, row, place):
        value = self.value(row, place)
        if value is not None:
            return "%s %s" % (number(value), row.unit)
        return "failed" if any(f.startswith("%s, %s:" % (row.name, place)) for f in self.failures) else "-"

    def line(self, row):
        native = list(self.values.get((row.name, "native"), {}).values())
        text = "%-9s%13s " % (row.name, self.quantity(row, "native"))
        text += "%3.0f%%" % spread(native) if len(native) > 1 else "    "
        for name in self.names[1:]:
            ratios, verdict = self.ratios(row, name), self.verdict(row, name)
            text += "%12s  " % self.quantity(row, name)
            text += "%8s " % number(statistics.median(ratios)) if ratios else " " * 9
            text += "%4.0f%%  " % spread(ratios) if len(ratios) > 1 else " " * 7
            if verdict:
                self.verdicts[verdict[0]] += 1
            text += "%-13s" % ("%s (%.3g)" % verdict if verdict else "")
        return text.rstrip()

    def summary(self):
        failures = ", %d failures" % len(self.failures) if self.failures else ""
        return "%d bars held, %d missed%s; ratios are of time, native = 1, lower is better" % (
            self.verdicts["ok"], self.verdicts["MISSED"], failures)

    def as_json(self):
        rows = {}
        for row in self.rows:
            at = {}
            for name in self.names:
                if (row.name, name) in self.values:
                    ratios = self.ratios(row, name)
                    every = list(self.values[row.name, name].values())
                    at[name] = {"value": self.value(row, name), "all": every,
                                "ratio": statistics.median(ratios) if ratios else None}
            if at:
                rows[row.name] = {"unit": row.unit, "places": at}
        return {"machine": self.where, "rows": rows}

    # ---- documents ----

    def write(self, directory):
        with open(os.path.join(directory, "BENCHMARKS.md"), "w") as f:
            f.write(self.markdown())
        with open(os.path.join(directory, "benchmarks.svg"), "w") as f:
            f.write(self.svg())

    def markdown(self):
        out = ["# Benchmarks", "", "Written by `tools/dev bench --write`; %s." % self.where, "",
               "Each row is one program, measured natively and in guests in turns. Values are medians over the turns.",
               "The ratio is the median over the turns of a guest's time to the native time just before (of",
               "throughput, the inverse), with the median absolute deviation: 1 is as fast as native, and lower is",
               "better. The bar is what we promise for direct. Guests have the host's root; what they write stays in",
               "their memory, while the native program writes to the host's temporary directory.", "",
               "![ratios](benchmarks.svg)", ""]
        heads = ["what", "native"]
        for name in self.names[1:]:
            heads += [name, "ratio"] + (["bar"] if name in PROMISED else [])
        out += ["| %s |" % " | ".join(heads), "|---" + "|---:" * (len(heads) - 1) + "|"]
        for row in self.rows:
            native = self.value(row, "native")
            cells = [row.what, "" if native is None else self.quantity(row, "native")]
            for name in self.names[1:]:
                value, ratios, verdict = self.value(row, name), self.ratios(row, name), self.verdict(row, name)
                cells.append("" if value is None else self.quantity(row, name))
                cells.append(number(statistics.median(ratios)) if ratios else "")
                if len(ratios) > 1:
                    cells[-1] += " ± %.0f%%" % spread(ratios)
                if name in PROMISED:
                    unit = " " + row.unit if row.name in self.value_bars else ""
                    cells.append("%.3g%s: %s" % (verdict[1], unit, verdict[0]) if verdict else "")
            out.append("| %s |" % " | ".join(cells))
        return "\n".join(out) + "\n"

    def svg(self):
        """Bars on a logarithmic scale that grow from 1: to the left faster than native, to the right slower."""
        names = self.names[1:]
        shown = [(row, {n: statistics.median(self.ratios(row, n)) for n in names if self.ratios(row, n)})
                 for row in self.rows]
        shown = [(row, ratios) for row, ratios in shown if ratios]
        every = [r for _, ratios in shown for r in ratios.values()]
        low = min(-1, math.floor(math.log10(min(every, default=1))))
        high = max(1, math.ceil(math.log10(max(every, default=1))))
        left, width, bar, top = 330, 520, 9, 46
        height = top + len(shown) * (bar * len(names) + 7) + 12

        def x(ratio):
            return left + width * (math.log10(ratio) - low) / (high - low)

        colours = ("#3b82c4", "#d97a2b", "#8a63c9", "#3f9b5f", "#b8577d")
        out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" '
               'aria-label="time in guests, native = 1">' % (left + width + 50, height, left + width + 50, height),
               "<style>text{font:11px sans-serif;fill:#333}.grid{stroke:#888;stroke-opacity:.35}.one{stroke:#888;"
               "stroke-width:1.5}.promise{stroke:#333;stroke-width:2}@media(prefers-color-scheme:dark){text{fill:#ddd}"
               ".promise{stroke:#ddd}}</style>"]
        at = left
        for colour, name in zip(colours, names):
            out.append('<rect x="%d" y="8" width="10" height="10" fill="%s"/><text x="%d" y="17">%s</text>' % (
                at, colour, at + 14, html.escape(name)))
            at += 90
        out.append('<text x="4" y="17">time, native = 1; the mark is the bar of direct</text>')
        for power in range(low, high + 1):
            tick = 10.0 ** power
            out.append('<line class="%s" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>' % (
                "one" if power == 0 else "grid", x(tick), top - 6, x(tick), height - 6))
            out.append('<text x="%.1f" y="%d" text-anchor="middle">%g</text>' % (x(tick), top - 10, tick))
        y = top
        for row, ratios in shown:
            out.append('<text x="%d" y="%.1f" text-anchor="end">%s</text>' % (
                left - 8, y + bar * len(names) / 2 + 4, html.escape(row.what)))
            for i, name in enumerate(names):
                if name in ratios:
                    a, b = sorted((x(1), x(ratios[name])))
                    title = html.escape("%s, %s: %s" % (row.what, name, number(ratios[name])))
                    out.append('<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"><title>%s</title></rect>' % (
                        a, y + i * bar, max(b - a, 1), bar - 1, colours[i % len(colours)], title))
                if name in PROMISED and row.name in self.bars:
                    mark = x(min(max(self.bars[row.name], 10.0 ** low), 10.0 ** high))
                    out.append('<line class="promise" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>' % (
                        mark, y + i * bar - 2, mark, y + (i + 1) * bar + 1))
            y += bar * len(names) + 7
        return "\n".join(out) + "\n</svg>\n"
