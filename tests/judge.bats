#!/usr/bin/env bats
# judge.bats - Python's own tests give the verdicts that they give natively
#
# A subset; `make judge` runs the whole list.

load helpers

@test "test_glob, test_fileio, test_shutil and the files of test_os" {
	[ -x /usr/bin/python3 ] || skip "there is no /usr/bin/python3"
	/usr/bin/python3 -c 'import test.libregrtest' 2>/dev/null ||
		skip "libpython3-testsuite is not installed"
	DS_TEST_MARK=$DS_MARK "$BATS_TEST_DIRNAME/judge/judge.sh" --subset 3>&-
}

# log VERDICT... - a log of `-m test -v` with tests a, b, ... of these verdicts
log() {
	local verdict name=a

	for verdict in "$@"; do
		printf 'test_%s (test.test_x.T.test_%s) ... %s\n' \
			"$name" "$name" "$verdict"
		name=$(tr a-y b-z <<<"$name")
	done
	printf '%s\n' "$(printf '%070d' 0 | tr 0 -)" "Ran $# tests in 0.1s"
}

compare() {
	/usr/bin/python3 "$BATS_TEST_DIRNAME/judge/compare.py" "$@"
}

@test "logs that are alike are accepted" {
	log ok FAIL "skipped 'no /tmp'" >"$TESTDIR/one"
	run compare "$TESTDIR/one" "$TESTDIR/one"
	[ "$status" -eq 0 ]
	[[ $output == "3 tests, 2 of them not skipped"* ]]
}

@test "a verdict that differs is shown and refused" {
	log ok ok >"$TESTDIR/one"
	log ok FAIL >"$TESTDIR/other"
	run compare "$TESTDIR/one" "$TESTDIR/other"
	[ "$status" -eq 1 ]
	[ "${lines[0]}" = "test.test_x.T.test_b: ok -> FAIL" ]
}

@test "a test without a verdict, or missing, is a difference" {
	log ok ok ok >"$TESTDIR/one"
	printf 'test_a (test.test_x.T.test_a) ... ok\n%s\n' \
		'test_b (test.test_x.T.test_b) ... Fatal error' \
		>"$TESTDIR/other"
	run compare "$TESTDIR/one" "$TESTDIR/other"
	[ "$status" -eq 1 ]
	[ "${lines[0]}" = "test.test_x.T.test_b: ok -> none" ]
	[ "${lines[1]}" = "test.test_x.T.test_c: ok -> absent" ]
}

@test "a verdict is found behind other output and doc strings" {
	printf '%s\n' 'test_a (test.test_x.T.test_a)' 'What it is about. ... ok' \
		'test_b (test.test_x.T.test_b) ... noise' 'more noise' 'ok' \
		'test_c (test.test_x.T.test_c) ... ' \
		'  test_c (test.test_x.T.test_c) (i=1) ... FAIL' \
		>"$TESTDIR/other"
	log ok ok FAIL >"$TESTDIR/one"
	run compare "$TESTDIR/one" "$TESTDIR/other"
	[ "$status" -eq 0 ]
}

@test "a difference that is listed with its reason is accepted" {
	log ok ok >"$TESTDIR/one"
	log ok FAIL >"$TESTDIR/other"
	echo 'test.test_x.T.test_b: ok -> FAIL  # it has to be so' \
		>"$TESTDIR/expected"
	run compare --expected "$TESTDIR/expected" "$TESTDIR/one" \
		"$TESTDIR/other"
	[ "$status" -eq 0 ]
	[[ $output == *"it has to be so"* ]]
	echo 'test.test_x.T.test_b: ok -> FAIL' >"$TESTDIR/expected"
	run compare --expected "$TESTDIR/expected" "$TESTDIR/one" \
		"$TESTDIR/other"
	[ "$status" -eq 1 ]
	[[ $output == *":1: expected"* ]]
}
