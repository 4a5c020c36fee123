#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# names.bats - where names lead is noticed when it changes

# What is in single quotes is for the target's shell.
# shellcheck disable=SC2016

# bats file_tags=vm
load helpers

@test "a directory's name becomes that of a link to the other side" {
	victim names directory_moved
}

@test "a file's name becomes that of a link to the other side" {
	victim names file_linked
}

@test "another process makes the link" {
	victim names moved_by_child
}

@test "the same relative name in another working directory" {
	victim names other_directory
}

@test "the same number is another directory's descriptor" {
	victim names by_descriptor
}

@test "paths that are not there, or not to their end, give EFAULT" {
	victim names bad_pointers
}

# LOCALDIR is the guest's own in loopback alone.
# bats test_tags=not-vm
@test "a link that somebody else makes is seen a moment later" {
	mkdir "$LOCALDIR/d"
	: >"$LOCALDIR/d/x"
	echo full >"$HOSTDIR/x"
	ds_background -- bash -c 'while [ ! -s "$1/d/x" ]; do
		[ -e "$1/ready" ] || : >"$1/ready"; done' - "$LOCALDIR"
	eventually [ -e "$LOCALDIR/ready" ]
	mv "$LOCALDIR/d" "$LOCALDIR/e"
	ln -s "$GUEST" "$LOCALDIR/d"
	ended
	[ "$status" -eq 0 ]
}

# Locally there is nothing by the name of the rule.
@test "two dots lead out of a forwarded directory to what its name is in" {
	mkdir -p "$HOSTDIR/a/b"
	# shellcheck disable=SC2016	# for the target's shell
	ds -- sh -c 'set -e
		same() {
			[ "$(stat -c %d:%i "$1")" = "$(stat -c %d:%i "$2")" ]
		}
		in=$(dirname "$1")
		same "$1/.." "$in"
		same "$1/a/b/../../.." "$in"
		same "$1/../$(basename "$1")/a" "$1/a"
		cd "$1/a"
		same ../.. "$in"
		cd -P ../..
		[ "$(pwd -P)" = "$in" ]
		! ls "$1/../none" 2>/dev/null' - "$GUEST"
}
