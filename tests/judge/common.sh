# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034,SC2154 # variables of who reads this
# common.sh - what judge.sh and selftests.sh share
#
# The log of a judge that cannot judge says so and ends with status 125. $work is
# a folder that goes with the script, $keep one for the logs that stays, or
# empty, "${as[@]}" a command that makes an ordinary user of root.

work=
keep=
as=()

die() {
	echo "$(basename "$0" .sh): $*" >&2
	exit 125
}

usage() {
	sed -n 's/^#	//p' "$0" >&2
	exit 125
}

as_nobody() {
	if [ "$(id -u)" -eq 0 ]; then
		as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	fi
}

cleanup() {
	if [ -n "$work" ]; then
		rm -rf "$work"
	fi
}

# make_work - $work with a folder for logs in it
make_work() {
	[ -x "$build/darkshadow" ] || die "there is no $build/darkshadow: run make"
	work=$(mktemp -d "${TMPDIR:-/tmp}/ds-$(basename "$0" .sh).XXXXXX")
	trap cleanup EXIT
	mkdir "$work/logs"
	chmod 755 "$work"
	if [ -n "$keep" ]; then
		mkdir -p "$keep"
	fi
}

keep_logs() {
	if [ -n "$keep" ]; then
		cp "$work"/logs/* "$keep"
	fi
}
