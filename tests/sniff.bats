#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# sniff.bats - a policy is written of what a command uses

# What is in single quotes is for the command's shell; bats sets output.
# shellcheck disable=SC2016,SC2154

load helpers

# sniff COMMAND... - POLICY is what is written; the command's status
sniff() {
	local status=0

	# A shell looks at the directory that it is in.
	(cd / && exec timeout --foreground -k 10 "$DS_TEST_TIMEOUT" \
		"$DARKSHADOW" sniff -o "$TESTDIR/policy" -- "$@" 3>&-) ||
		status=$?
	POLICY=$(grep -v '^#' "$TESTDIR/policy") || true
	return "$status"
}

@test "files are read-only, unless they were written" {
	echo one >"$LOCALDIR/read"
	echo two >"$LOCALDIR/written"
	sniff sh -c 'read -r x <"$1/read" && echo "$x" >>"$1/written"' \
		- "$LOCALDIR"
	[ "$POLICY" = "path:$LOCALDIR/read:ro
path:$LOCALDIR/written:rw" ]
}

@test "what is made belongs to its directory" {
	sniff sh -c 'echo x >"$1/new"' - "$LOCALDIR"
	[ "$POLICY" = "path:$LOCALDIR:rw" ]
}

@test "what is not there is no rule" {
	sniff sh -c '[ ! -e "$1/none" ]' - "$LOCALDIR"
	[ -z "$POLICY" ]
}

@test "several names of a directory are one rule" {
	mkdir "$LOCALDIR/d"
	touch "$LOCALDIR/d/a" "$LOCALDIR/d/b" "$LOCALDIR/d/c" "$LOCALDIR/other"
	sniff sh -c 'cat "$1/d/a" "$1/d/b" "$1/d/c" "$1/other"' - \
		"$LOCALDIR"
	[ "$POLICY" = "path:$LOCALDIR/d:ro
path:$LOCALDIR/other:ro" ]
}

@test "a name is what its symbolic links lead to" {
	echo x >"$LOCALDIR/real"
	ln -s real "$LOCALDIR/link"
	sniff sh -c 'read -r x <"$1/link"' - "$LOCALDIR"
	[ "$POLICY" = "path:$LOCALDIR/real:ro" ]
}

@test "more requests than a list may have are no list, and the policy is one" {
	[ -w /dev/kvm ] || skip "this user may not open /dev/kvm"
	run -0 sniff /usr/bin/python3 -c '
import fcntl, os
fd = os.open("/dev/kvm", os.O_RDONLY)
for n in range(70):
    try:
        fcntl.ioctl(fd, 0x7000 + 2 * n)
    except OSError:
        pass'
	grep -qx dev:/dev/kvm:ro "$TESTDIR/policy"
	grep -q "^# more requests than a list may have" "$TESTDIR/policy"
	"$DARKSHADOW" run --policy "$TESTDIR/policy" -- true
}

@test "a socket of the network is net" {
	sniff /usr/bin/python3 -c 'import socket; socket.socket()'
	grep -qx net <<<"$POLICY"
	sniff /usr/bin/python3 -c \
		'import socket; socket.socket(socket.AF_UNIX)'
	run ! grep -qx net <<<"$POLICY"
}

@test "a device comes with the requests made of it, and of what it made" {
	[ -w /dev/kvm ] || skip "there is no /dev/kvm for this user"
	sniff "$VICTIMS/kvm" "$LOCALDIR" adds
	grep -q '^dev:/dev/kvm:rw:ioctl=.*0xae80.*0x4020ae46' <<<"$POLICY"
	# Which is enough for it, and nothing else is needed.
	run "$DARKSHADOW" run --policy "$TESTDIR/policy" -- \
		"$VICTIMS/kvm" "$LOCALDIR" adds
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	run "$DARKSHADOW" run --policy "$TESTDIR/policy" -- \
		"$VICTIMS/kvm" "$LOCALDIR" beside
	[ "$status" -eq 1 ]
	[[ $output == *"is not allowed by the policy"* ]]
}

@test "what every Linux has is left out, or asked for" {
	sniff cat /etc/passwd
	run ! grep -q /etc <<<"$POLICY"
	run -0 --separate-stderr "$DARKSHADOW" sniff --system -- \
		cat /etc/passwd
	grep -qx "path:/etc/passwd:ro" <<<"$stderr"
}

@test "the exit status is the command's" {
	sniff sh -c 'exit 7' || [ $? -eq 7 ]
	run -127 "$DARKSHADOW" sniff -- "$TESTDIR/none"
}

@test "a policy that cannot be written is named" {
	run -125 "$DARKSHADOW" sniff -o "$TESTDIR/none/policy" -- true
	[[ $output == *"$TESTDIR/none/policy: "* ]]
}
