#!/bin/bash
# SPDX-License-Identifier: MIT
# check.sh - run the tests: check.sh [PATTERN]; PATTERN is a test's name
# without folder and suffix (launch, calls), "*" is all
#
# Output of bats and of the unit tests (TAP) goes through. The last line is
# "N passed, N failed", with ", N skipped" if there were any; the exit status
# is 0 only if nothing failed.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-$PWD/build}
# A test that hangs is to fail in a time that leaves the others theirs.
DS_TEST_TIMEOUT=${DS_TEST_TIMEOUT:-60}
export BUILD DS_TEST_TIMEOUT
# The tests are not part of the make that may have started them.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
pattern=${1:-*}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
broken=0

shopt -s nullglob
# shellcheck disable=SC2231	# the pattern is meant as one
for source in tests/unit/$pattern.c; do
	[ -e "$source" ] || continue
	unit=$BUILD/unit/$(basename "$source" .c)
	echo "# unit: $(basename "$unit")"
	"$unit" 2>&1 | tee -a "$log"
	status=${PIPESTATUS[0]}
	if [ "$status" -ne 0 ]; then
		echo "not ok - $(basename "$unit") exited with $status" |
			tee -a "$log"
	fi
done
# shellcheck disable=SC2206
files=(tests/$pattern.bats)
if [ -e "${files[0]-}" ]; then
	bats --tap --print-output-on-failure --timing "${files[@]}" 2>&1 |
		tee -a "$log"
	# Failing tests are counted below; this is about bats itself.
	[ "${PIPESTATUS[0]}" -le 1 ] || broken=1
fi

failed=$(grep -c '^not ok' "$log")
skipped=$(grep -Ec '^ok .*# skip' "$log")
passed=$(($(grep -c '^ok' "$log") - skipped))
if [ $((passed + failed)) -eq 0 ]; then
	echo "no test is named '$pattern'"
	failed=1
fi
if [ "$broken" -ne 0 ]; then
	echo "bats did not run to its end"
	failed=$((failed + 1))
fi
if [ "$skipped" -gt 0 ]; then
	echo "$passed passed, $failed failed, $skipped skipped"
else
	echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ]
