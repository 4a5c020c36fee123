#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""cases.py - logs of the kernel's selftests, case by case

    cases.py [--expected FILE]... DIR SUITE/PROGRAM...

A program has three logs, DIR/SUITE/PROGRAM.native, .again (both without
darkshadow) and .shadowed; blanks and slashes in the name of a file are "_". The
last line of a log is "exit STATUS". Prints every case whose verdict differs,
and a table of suites; exit status 1 if a difference is not listed in FILE,
whose lines read

    SUITE/PROGRAM: CASE: NATIVE VERDICT -> SHADOWED VERDICT  # the reason

where * in CASE stands for anything. A case with two native verdicts says
nothing, and is left out.

What is a case: a test of the kselftest harness or of TAP (ok, not ok, skip;
"none" if it began and did not end); a section that begins with [RUN] with the
worst of its [OK], [FAIL] and [SKIP]; a line that ends with one of these; a
line "NAME(): PASS"; and of every program how it ended. A case that is in one
log only is "absent" from the other.
"""

import argparse
import collections
import pathlib
import re
import sys

from expected import read_expected, show

RUN = re.compile(r"^#  RUN +(?P<name>\S+) \.\.\.$")
TAP = re.compile(r"^(?P<verdict>ok|not ok) \d+ *(?:# (?P<directive>SKIP|XFAIL)\b)?"
                 r"(?P<name>.*)$")
SECTION = re.compile(r"^\s*\[RUN\](?P<indent>\s*)(?P<name>.*)$")
MARK = re.compile(r"^(?:\S+: )?\s*\[(?P<verdict>OK|FAIL|SKIP|PASS)\]")
LINE = re.compile(r"^(?P<name>.*[^\s.])[ .]*\[(?P<verdict>OK|FAIL|SKIP|PASS)\]"
                  r"(?: \(.*)?$")
CALL = re.compile(r"^(?P<name>\w+\(\)): (?P<verdict>PASS|FAIL|SKIP)$")
EXIT = re.compile(r"^exit (?P<status>\d+)$")
WORDS = {"OK": "ok", "PASS": "ok", "FAIL": "not ok", "SKIP": "skip",
         "XFAIL": "xfail"}
WORST = ["none", "skip", "ok", "not ok"]
# What differs from run to run and says nothing.
NOISE = [(re.compile(r"/\S*/ds-selftests\.\w+"), "/DIR"),
         (re.compile(r"\b(pid|tid|tgid|pgid)( ?[:=]? ?)\d+"), r"\1\2N"),
         (re.compile(r"\[\d+\]|\(\d+(,\d+)+\)"), "N"),
         (re.compile(r"\b\d+\.\d{3,}"), "N.N"),
         (re.compile(r"\b0x7f[0-9a-f]{10}\b"), "ADDRESS"),
         (re.compile(r"#"), "")]
ENDS = {0: "exit 0", 4: "skip", 124: "timeout", 137: "timeout"}


class Cases:
    """The verdicts of one log, in its order; two of a name are numbered."""

    def __init__(self):
        self.found = {}
        self.section = None
        self.chapter = ""

    def add(self, name, verdict):
        for pattern, instead in NOISE:
            name = pattern.sub(instead, name)
        name = " ".join(name.split()) or "(no name)"
        key, n = name, 1
        while key in self.found:
            n += 1
            key = f"{name} ({n})"
        self.found[key] = verdict
        return key

    def begin(self, indent, name):
        """a [RUN]; one that is indented is part of the last that is not"""
        if len(indent) < 4:
            self.chapter = name.rstrip(". ")
        else:
            name = f"{self.chapter}: {name}"
        self.section = self.add(name, "none")

    def mark(self, verdict):
        """a [VERDICT] at the beginning of a line"""
        if self.section is None:
            self.section = self.add("(before the first section)", "none")
        if WORST.index(verdict) > WORST.index(self.found[self.section]):
            self.found[self.section] = verdict


def verdicts(lines):
    """{case: verdict} of a log."""
    cases = Cases()
    running = None
    for line in lines:
        line = line.rstrip("\n")
        if m := RUN.match(line):
            running = cases.add(m["name"], "none")
        elif m := TAP.match(line):
            verdict = WORDS.get(m["directive"], m["verdict"])
            if running:
                cases.found[running] = verdict
                running = None
            else:
                cases.add(m["name"], verdict)
        elif m := SECTION.match(line):
            cases.begin(m["indent"], m["name"])
        elif m := MARK.match(line):
            cases.mark(WORDS[m["verdict"]])
        elif m := LINE.match(line) or CALL.match(line):
            cases.add(m["name"], WORDS[m["verdict"]])
        elif m := EXIT.match(line):
            status = int(m["status"])
            cases.found["exit"] = ENDS.get(status) or (
                f"signal {status - 128}" if status > 128 else
                f"exit {status}")
    return cases.found


def read_log(directory, program, side):
    path = directory / (re.sub("[/ ]", "_", program) + "." + side)
    with open(path, encoding="utf-8", errors="replace") as f:
        return verdicts(f)


def covers(rule, difference):
    """Is the difference one that the rule expects?"""
    if "*" not in rule[1]:
        return rule == difference
    case = ".*".join(re.escape(part) for part in rule[1].split("*"))
    return (rule[0], *rule[2:]) == (difference[0], *difference[2:]) and \
        re.fullmatch(case, difference[1]) is not None


class Table:
    """What is counted of each suite."""

    columns = ("alike", "expected", "differ", "unsteady")

    def __init__(self):
        self.rows = collections.defaultdict(collections.Counter)

    def count(self, program, column):
        self.rows[program.rpartition("/")[0]][column] += 1

    def total(self, column):
        return sum(row[column] for row in self.rows.values())

    def show(self):
        form = "{:<24}" + "{:>10}" * len(self.columns)
        print(form.format("suite", *self.columns))
        for suite, row in sorted(self.rows.items()):
            print(form.format(suite, *(row[c] for c in self.columns)))
        print(form.format("all", *(self.total(c) for c in self.columns)))


def is_stale(rule, native, shadowed):
    """It speaks of what is so natively, and is not so shadowed any more."""
    return any(covers(rule, (rule[0], case, native.get(case, "absent"),
                             rule[3]))
               for case in [*native, *shadowed, rule[1]])


def compare(directory, program, expected, table):
    """One program: what is unsteady or differs, and what is listed and does
    not occur, though the native verdict is as listed."""
    native, again, shadowed = (read_log(directory, program, side)
                               for side in ("native", "again", "shadowed"))
    met = set()
    for case in dict.fromkeys([*native, *again, *shadowed]):
        pair = native.get(case, "absent"), again.get(case, "absent")
        mine = shadowed.get(case, "absent")
        difference = program, case, pair[0], mine
        rules = [r for r in expected if covers(r, difference)]
        if pair[0] != pair[1]:
            print(f"{program}: {case}: left out: {pair[0]}, then {pair[1]}, "
                  "both native")
            table.count(program, "unsteady")
            met.update(r for r in expected
                       if covers(r, (program, case, *r[2:])))
        elif mine == pair[0]:
            table.count(program, "alike")
        elif rules:
            show(difference, f"expected: {expected[rules[0]]}")
            table.count(program, "expected")
            met.update(rules)
        else:
            show(difference)
            table.count(program, "differ")
    for rule in expected:
        if rule[0] == program and rule not in met and \
                is_stale(rule, native, shadowed):
            show(rule, "listed, but not found")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--expected", metavar="FILE", action="append",
                        default=[])
    parser.add_argument("dir", metavar="DIR", type=pathlib.Path)
    parser.add_argument("programs", nargs="+", metavar="SUITE/PROGRAM")
    args = parser.parse_args()
    expected = {}
    for path in args.expected:
        expected.update(read_expected(path, r"([^:]*/[^:]*?): (.*)",
                                      "SUITE/PROGRAM: CASE"))
    table = Table()
    for program in args.programs:
        compare(args.dir, program, expected, table)
    table.show()
    return 1 if table.total("differ") else 0


if __name__ == "__main__":
    sys.exit(main())
