#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""compare.py - two logs of `python3 -m test -v`, verdict by verdict

    compare.py [--expected FILE] NATIVE SHADOWED...

Logs come in pairs. Prints every test whose verdict differs, and a summary;
exit status 1 if a difference is not listed in FILE, whose lines read

    TEST: NATIVE VERDICT -> SHADOWED VERDICT  # the reason

A log is text that tests and their children have written into as well, so a
verdict is looked for from a test's first line up to the next test's. A test
that got no verdict (a crash, a hang) has the verdict "none"; one that is in
one log only is "absent" from the other.
"""

import argparse
import re
import sys

from expected import read_expected, show

START = re.compile(r"^(?P<name>\w+) \((?P<where>[\w.]+)\)"
                   r"(?: \.\.\. (?P<rest>.*))?$")
VERDICT = re.compile(r"(?:^|\.\.\. |\W)"
                     r"(?P<verdict>ok|FAIL|ERROR|expected failure|"
                     r"unexpected success|skipped (?P<why>['\"].*['\"]))$")
END = re.compile(r"^(?:-{70}|={70}|Ran \d+ tests? in .*)$")
# What differs from run to run and says nothing.
NOISE = [(re.compile(r"0x[0-9a-f]+"), "0x"),
         (re.compile(r"test_python_\w+"), "test_python"),
         (re.compile(r"@test_\d+_tmp"), "@test_tmp")]
WORST = ["none", "ok", "expected failure", "unexpected success", "FAIL",
         "ERROR"]


def severity(verdict):
    return WORST.index(verdict) if verdict in WORST else 1


def plain(text):
    for pattern, instead in NOISE:
        text = pattern.sub(instead, text)
    return text


def verdicts(lines):
    """{test: verdict} of a log."""
    found = {}
    test = None
    for line in lines:
        line = line.rstrip("\n")
        if END.match(line):
            test = None
            continue
        start = START.match(line)
        if start:
            where = start["where"]
            test = where if where.endswith("." + start["name"]) else \
                where + "." + start["name"]
            found.setdefault(test, "none")
        if test is None:
            continue
        end = VERDICT.search(line)
        if end:
            verdict = plain(end["verdict"])
            if severity(verdict) >= severity(found[test]):
                found[test] = verdict
    return found


def read_log(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return verdicts(f)


def differences(native, shadowed):
    for test in sorted(native.keys() | shadowed.keys()):
        pair = native.get(test, "absent"), shadowed.get(test, "absent")
        if pair[0] != pair[1]:
            yield (test, *pair)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--expected", metavar="FILE")
    parser.add_argument("logs", nargs="+", metavar="LOG")
    args = parser.parse_args()
    if len(args.logs) % 2:
        parser.error("logs come in pairs: native, shadowed")
    expected = read_expected(args.expected, r"(\S+)", "TEST") \
        if args.expected else {}
    native, shadowed = {}, {}
    for one, other in zip(args.logs[::2], args.logs[1::2]):
        native.update(read_log(one))
        shadowed.update(read_log(other))
    if not native:
        sys.exit("the native logs hold no test at all")

    found = list(differences(native, shadowed))
    for difference in found:
        show(difference, f"expected: {expected[difference]}"
             if difference in expected else None)
    modules = {".".join(test.split(".")[:2]) for test in native}
    for rule in expected.keys() - set(found):
        if ".".join(rule[0].split(".")[:2]) in modules:
            show(rule, "listed, but not found")

    surprises = [d for d in found if d not in expected]
    ran = sum(1 for v in native.values() if not v.startswith("skipped"))
    print(f"{len(native)} tests, {ran} of them not skipped natively: "
          f"{len(native.keys() | shadowed.keys()) - len(found)} alike, "
          f"{len(found) - len(surprises)} expected differences, "
          f"{len(surprises)} differences")
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
