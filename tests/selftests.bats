#!/usr/bin/env bats
# selftests.bats - the kernel's selftests give the verdicts that they give
# natively
#
# A subset; `make selftests` runs the whole list.

load helpers

@test "clone3, sigaltstack, close_range, exec and x86" {
	command -v apt-get >/dev/null ||
		skip "there is no apt-get to get the kernel's source by"
	DS_TEST_MARK=$DS_MARK "$BATS_TEST_DIRNAME/judge/selftests.sh" \
		--subset 3>&-
}

# log SIDE LINE... - a log of a/b
log() {
	local side=$1

	shift
	printf '%s\n' "$@" >"$TESTDIR/a_b.$side"
}

# logs LINE... - both native logs
logs() {
	log native "$@"
	log again "$@"
}

cases() {
	run /usr/bin/python3 "$BATS_TEST_DIRNAME/judge/cases.py" "$@" \
		"$TESTDIR" a/b
}

@test "logs that are alike are accepted, whatever their noise" {
	logs '1..3' '# RUN-like line' 'ok 1 pid: 17 has 0.123456 s' \
		'ok 2 # SKIP not here' 'not ok 3 broken' 'exit 1'
	log shadowed 'ok 1 pid: 18 has 0.654321 s' 'ok 2 # SKIP not here' \
		'not ok 3 broken' 'darkshadow: something' 'exit 1'
	cases
	[ "$status" -eq 0 ]
	[[ ${lines[-1]} =~ ^all\ +4\ +0\ +0\ +0$ ]]
}

@test "a case of the harness that differs, ends without verdict or is absent" {
	local all=('#  RUN           x.one ...' 'ok 1 x.one'
		'#  RUN           x.two ...' 'ok 2 # SKIP no reason'
		'#  RUN           x.three ...' 'ok 3 x.three' 'exit 0')

	logs "${all[@]}"
	log shadowed "${all[0]}" 'not ok 1 x.one' "${all[2]}" 'exit 139'
	cases
	[ "$status" -eq 1 ]
	[ "${lines[0]}" = "a/b: x.one: ok -> not ok" ]
	[ "${lines[1]}" = "a/b: x.two: skip -> none" ]
	[ "${lines[2]}" = "a/b: x.three: ok -> absent" ]
	[ "${lines[3]}" = "a/b: exit: exit 0 -> signal 11" ]
}

@test "a section has the worst verdict of its marks" {
	logs $'[RUN]\tset a flag' $'[OK]\tit is set' $'[OK]\tit stays' \
		$'[RUN]\tgo on' $'[OK]\twent' 'Check of it... [OK]' 'exit 0'
	log shadowed $'[RUN]\tset a flag' $'[OK]\tit is set' \
		$'[FAIL]\tit does not stay' $'[RUN]\tgo on' $'[OK]\twent' \
		'Check of it... [FAIL]' 'exit 1'
	cases
	[ "$status" -eq 1 ]
	[ "${lines[0]}" = "a/b: set a flag: ok -> not ok" ]
	[ "${lines[1]}" = "a/b: Check of it: ok -> not ok" ]
	[ "${lines[2]}" = "a/b: exit: exit 0 -> exit 1" ]
}

@test "a case that is unsteady natively is left out, and said" {
	log native 'ok 1 it' 'exit 0'
	log again 'not ok 1 it' 'exit 0'
	log shadowed 'not ok 1 it' 'exit 0'
	cases
	[ "$status" -eq 0 ]
	[ "${lines[0]}" = "a/b: it: left out: ok, then not ok, both native" ]
}

@test "a difference that is listed with its reason is accepted" {
	logs 'ok 1 it' 'ok 2 other' 'exit 0'
	log shadowed 'not ok 1 it' 'ok 2 other' 'exit 0'
	printf '%s\n' 'a/b: it: ok -> not ok  # it has to be so' \
		'a/b: other: ok -> not ok  # it was so once' \
		>"$TESTDIR/expected"
	cases --expected "$TESTDIR/expected"
	[ "$status" -eq 0 ]
	[[ $output == *"expected: it has to be so"* ]]
	[[ $output == *"a/b: other: ok -> not ok  # listed, but not found"* ]]
	echo 'a/b: it: ok -> not ok' >"$TESTDIR/expected"
	cases --expected "$TESTDIR/expected"
	[ "$status" -eq 1 ]
	[[ $output == *":1: expected"* ]]
}
