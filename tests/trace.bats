#!/usr/bin/env bats
# trace.bats - --trace writes one line a forwarded call, as strace would

# What is in single quotes is for the target's shell.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

# A trace is made by `run`, on its own side: User-Mode Linux will do, and an
# emulated machine takes minutes to start all these programs.
# bats file_tags=vm,not-qemu
load helpers

traced() {
	TRACE=$TESTDIR/trace
	ds "--trace=$TRACE" -- "$@"
}

# has PATTERN - a line of the trace matches it as a whole, but for a process
# id before it and the duration behind it
has() {
	if ! grep -qE "(^|[] ])$1 <[0-9]+\\.[0-9]{6}>\$" "$TRACE"; then
		echo "no line like: $1" >&2
		cat "$TRACE" >&2
		return 1
	fi
}

@test "open, read and close of a forwarded file" {
	echo needle >"$HOSTDIR/x"
	# To a pipe: between files, cat has copy_file_range do it.
	traced cat "$GUEST/x" | grep needle
	TRACE=$TESTDIR/trace
	has "openat\\(AT_FDCWD, \"$GUEST/x\", O_RDONLY\\) = 3"
	has "read\\(3<$GUEST/x>, \"needle\\\\n\", [0-9]+\\) = 7"
	has "read\\(3<$GUEST/x>, \"\", [0-9]+\\) = 0"
	has "close\\(3<$GUEST/x>\\) = 0"
}

@test "an error is shown by name and text" {
	run traced cat "$GUEST/none"
	TRACE=$TESTDIR/trace
	[ "$status" -eq 1 ]
	has "openat\\(AT_FDCWD, \"$GUEST/none\", O_RDONLY\\) = -1 ENOENT \\(No such file or directory\\)"
}

@test "flags, modes and written text" {
	traced sh -c 'umask 022; echo "a	b" >"$1/x"; mkdir -m 700 "$1/d"' \
		- "$GUEST"
	has "openat\\(AT_FDCWD, \"$GUEST/x\", O_WRONLY\\|O_CREAT\\|O_TRUNC, 0666\\) = [0-9]+"
	has "write\\(1<$GUEST/x>, \"a\\\\tb\\\\n\", 4\\) = 4"
	has "mkdir\\(\"$GUEST/d\", 0700\\) = 0"
}

@test "local calls are not shown" {
	traced sh -c 'cat /etc/hostname >/dev/null; cat "$1/none"; true' - \
		"$GUEST" 2>/dev/null
	run ! grep -q -e /etc/hostname -e '/dev/null"' -e ld.so.cache "$TRACE"
	[ "$(grep -c openat "$TRACE")" -eq 1 ]
}

@test "every line is a call with its result and duration" {
	echo needle >"$HOSTDIR/x"
	traced sh -c 'ls -l "$1"; grep -r needle "$1"; cp "$1/x" "$1/y"
		mv "$1/y" "$1/z"; rm "$1/z"; stat "$1/x"; cd "$1"; cat x' \
		- "$GUEST" >/dev/null
	[ -s "$TRACE" ]
	run grep -vE '[a-z_0-9]+\(.*\) += .* <[0-9]+\.[0-9]{6}>$' "$TRACE"
	echo "$output"
	[ -z "$output" ]
}

@test "long text is cut as strace cuts it" {
	printf '%0100d' 7 >"$HOSTDIR/x"
	traced cat "$GUEST/x" >/dev/null
	has "read\\(3<$GUEST/x>, \"0{32}\"\\.\\.\\., [0-9]+\\) = 100"
}

@test "calls of all processes are in one file, each line whole" {
	traced sh -c 'for i in 1 2 3 4 5 6 7 8; do
		(for j in 1 2 3 4 5; do cat "$1/none"; done) & done; wait' \
		- "$GUEST" 2>/dev/null
	[ "$(grep -c "openat(.*none.*ENOENT" "$TRACE")" -eq 40 ]
}

@test "a trace that exists is replaced" {
	echo old >"$TESTDIR/trace"
	echo new >"$HOSTDIR/x"
	traced cat "$GUEST/x"
	run ! grep -q old "$TRACE"
}

@test "a trace that cannot be written is named" {
	run ds "--trace=$TESTDIR/none/trace" -- true
	complains "$TESTDIR/none/trace"
}

@test "the trace does not get into the command's descriptors" {
	[ "$(traced find /proc/self/fd -mindepth 1 | sort)" = \
		"$(ds -- find /proc/self/fd -mindepth 1 | sort)" ]
}

@test "a command's output is the same with and without a trace" {
	seq 1 1000 >"$HOSTDIR/x"
	[ "$(traced sha256sum "$GUEST/x")" = "$(ds -- sha256sum "$GUEST/x")" ]
}
