#!/usr/bin/env bats
# stats.bats - --stats shows at exit what was done and what it took

# What is in single quotes is for the target's shell.
# shellcheck disable=SC2016,SC2154

# bats file_tags=vm
load helpers

# control_bytes - bytes sent and received over the control stream, together
control_bytes() {
	sed -nE 's/.*control stream: ([0-9]+) bytes sent, ([0-9]+) bytes received.*/\1 \2/p' \
		"$TESTDIR/stats" | {
		read -r sent received
		echo $((sent + received))
	}
}

@test "a forwarded read of 1 GiB moves nothing through the control stream" {
	truncate -s 1G "$HOSTDIR/sparse"
	ds --stats -- "$VICTIMS/bigread" "$GUEST/sparse" 1024 \
		2>"$TESTDIR/stats"
	cat "$TESTDIR/stats"
	[ -n "$(control_bytes)" ]
	[ "$(control_bytes)" -gt 0 ]
	[ "$(control_bytes)" -lt 1048576 ]
}

@test "a forwarded write of 64 MiB neither" {
	ds --stats -- dd if=/dev/zero "of=$GUEST/x" bs=16M count=4 \
		status=none 2>"$TESTDIR/stats"
	[ "$(stat -c %s "$HOSTDIR/x")" -eq 67108864 ]
	[ "$(control_bytes)" -lt 1048576 ]
}

@test "calls, extents, map updates, executors and sites are counted" {
	seq 1 100 >"$HOSTDIR/x"
	ds --stats -- sort "$GUEST/x" >/dev/null 2>"$TESTDIR/stats"
	cat "$TESTDIR/stats"
	for word in forwarded local extents mapped 'map updates' executors \
		sites; do
		grep -qi "$word" "$TESTDIR/stats"
	done
}

@test "statistics go to standard error and leave the rest alone" {
	echo one >"$HOSTDIR/x"
	run --separate-stderr ds --stats -- sh -c 'cat "$1/x"; exit 4' - \
		"$GUEST"
	[ "$status" -eq 4 ]
	[ "$output" = one ]
	[[ $stderr == *"control stream:"* ]]
}

@test "without --stats there are none" {
	echo one >"$HOSTDIR/x"
	run --separate-stderr ds -- cat "$GUEST/x"
	[ "$status" -eq 0 ]
	[ -z "$stderr" ]
}

@test "statistics are shown when the command is killed" {
	run --separate-stderr ds -s -- sh -c 'kill -KILL $$'
	[ "$status" -eq 137 ]
	[[ $stderr == *"control stream:"* ]]
}
