# SPDX-License-Identifier: MIT
"""expected.py - lists of differences that are expected, each with its reason

A line reads

    TEST: NATIVE VERDICT -> SHADOWED VERDICT  # the reason
"""

import re
import sys


def read_expected(path, test, example):
    """{(what groups test has, native, shadowed): reason}

    test is a regular expression, example what to write instead of what it
    does not match; a line without a reason is refused.
    """
    line_of = re.compile(test + r": (.*\S) -> (.*\S)\s*$")
    expected = {}
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            rule, hash_sign, reason = line.partition("#")
            if not rule.strip():
                continue
            match = line_of.match(rule)
            if not match or not hash_sign or not reason.strip():
                sys.exit(f"{path}:{number}: expected '{example}: NATIVE -> "
                         "SHADOWED  # reason'")
            expected[match.groups()] = reason.strip()
    return expected


def show(difference, note=None):
    """a line of the list, and in its comment what is to be said of it"""
    *test, native, shadowed = difference
    print(": ".join(test) + f": {native} -> {shadowed}",
          f"  # {note}" if note else "", sep="")
