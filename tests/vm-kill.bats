#!/usr/bin/env bats
# vm-kill.bats - life and death of what takes part in a run in a machine
#
# The long version is `make kill-vm`.

# What is in single quotes is for the guest's shell; bats sets output; every
# test has a process of its own.
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2154

load helpers

setup_file() {
	BUILD=$(cd "${BUILD:-$BATS_TEST_DIRNAME/../build}" && pwd)
	VM=$BATS_TEST_DIRNAME/vm
	DS_VM_DIR=$(mktemp -d /tmp/ds-vm-kill.XXXXXX)
	chmod 755 "$DS_VM_DIR"
	export BUILD VM DS_VM_DIR
	"$VM/kernels.sh"
	"$VM/vm.sh" start uml --name "life-$$" 3>&-
}

teardown_file() {
	"$VM/vm.sh" stop
	rm -rf "$DS_VM_DIR"
}

setup() {
	common_setup
	echo hello >"$HOSTDIR/a"
}

guest() {
	timeout --foreground -k 10 "$DS_TEST_TIMEOUT" "$VM/guest" "$@" 3>&-
}

# vm_daemon - for the machine, until teardown
vm_daemon() {
	DS_TEST_MARK=$DS_MARK "$DARKSHADOW" host \
		--vm "pid:$(cat "$DS_VM_DIR/vmm.pid")" \
		--transport "shm:$DS_VM_DIR/shm" \
		--allow "path:$GUEST=$HOSTDIR" 2>>"$TESTDIR/daemon.log" 3>&- &
	DAEMON=$!
}

# in_guest [OPTION]... -- CMD... - `darkshadow run` there
in_guest() {
	guest "$DS_STATIC" run --transport shm \
		--forward "path:$GUEST=$HOSTDIR" "$@"
}

# in_guest_background - the same, known to have begun; its client is RUN
in_guest_background() {
	mkfifo "$HOSTDIR/fifo"
	exec 8<>"$HOSTDIR/fifo"
	in_guest -- sh -c 'cat "$1/fifo"; echo "cat $?"; echo end >"$2"' \
		- "$GUEST" "$LOCALDIR/end" \
		>"$TESTDIR/out" 2>"$TESTDIR/err" 8>&- &
	RUN=$!
	echo begun >&8
	eventually grep -q begun "$TESTDIR/out"
}

session() {
	pgrep -P "$DAEMON"
}

no_session() {
	! session
}

# in_guest_lives NAME - is there a process of that name?
in_guest_lives() {
	guest pgrep -x "$1" >/dev/null
}

in_guest_gone() {
	! in_guest_lives "$1"
}

@test "killed in any order at random moments: nothing is left, all works" {
	DS_VM_DIR=$DS_VM_DIR/random run timeout -k 20 280 \
		"$VM/kill.sh" uml 12 ${DS_KILL_SEED:+"$DS_KILL_SEED"}
	echo "$output"
	[ "$status" -eq 0 ]
	[ "$(grep -c '^ok' <<<"$output")" -eq 12 ]
}

@test "a daemon that is not there is waited for, and named" {
	run in_guest --timeout 1 -- true
	echo "$output"
	[ "$status" -eq 125 ]
	[[ ${lines[0]} == *"waiting for the host side"* ]]
	[[ ${lines[-1]} == *"no daemon serves there"* ]]
}

@test "without a daemon the guest is its own host, and UML says it cannot be" {
	run -125 guest "$DS_STATIC" run -f path:/mnt/x=/tmp -- true
	[[ $output == *"no daemon serves at /dev/mmapper"*"47 bits"* ]]
	run -125 guest "$DS_STATIC" run -t loopback -f path:/mnt/x=/tmp -- true
	[ "${#lines[@]}" -eq 1 ]
	[[ $output == *"47 bits"* ]]
}

@test "a run that comes before its daemon works when that is there" {
	in_guest --timeout 30 -- cat "$GUEST/a" >"$TESTDIR/out" \
		2>"$TESTDIR/err" &
	RUN=$!
	eventually grep -q "waiting for the host side" "$TESTDIR/err"
	vm_daemon
	ended
	[ "$status" -eq 0 ]
	[ "$(cat "$TESTDIR/out")" = hello ]
	# And one that was there, and is there again.
	kill -KILL "$DAEMON"
	in_guest --timeout 30 -- cat "$GUEST/a" >"$TESTDIR/out" \
		2>"$TESTDIR/err" &
	RUN=$!
	vm_daemon
	ended
	[ "$status" -eq 0 ]
	[ "$(cat "$TESTDIR/out")" = hello ]
}

@test "a daemon that is killed: run says so, and its command goes on" {
	vm_daemon
	in_guest_background
	kill -KILL "$DAEMON"
	wait "$DAEMON" || true
	DAEMON=
	ended
	[ "$status" -eq 0 ]
	grep -q "cat 1" "$TESTDIR/out"
	[ "$(cat "$LOCALDIR/end")" = end ]
	grep -q "the host side (darkshadow host) is gone" "$TESTDIR/err"
	eventually in_guest_gone darkshadow-keep
	exec 8>&-
}

@test "frames of a run that was killed are kept until its shadows have gone" {
	local pid

	vm_daemon
	in_guest_background
	pid=$(session)
	kill -STOP "$pid"
	guest pkill -KILL -x darkshadow
	eventually in_guest_gone darkshadow
	ended
	# Its output has an end, though descriptors of it are kept: the rings.
	sleep 0.5
	in_guest_lives darkshadow-keep
	[ "$(guest sh -c 'ls -l /proc/$(pgrep -x darkshadow-keep)/fd' |
		grep -c io_uring)" -eq 4 ]
	kill -CONT "$pid"
	eventually in_guest_gone darkshadow-keep
	eventually no_session
	run -0 in_guest -- cat "$GUEST/a"
	[ "$output" = hello ]
	exec 8>&-
}

@test "a host side that falls silent is not taken for one that has gone" {
	local pid

	vm_daemon
	in_guest_background
	pid=$(session)
	kill -STOP "$DAEMON"
	kill -KILL "$pid" "$DAEMON"
	wait "$DAEMON" || true
	DAEMON=
	ended
	grep -q "the host side (darkshadow host) is gone" "$TESTDIR/err"
	in_guest_lives darkshadow-keep
	in_guest_gone darkshadow
	vm_daemon
	eventually in_guest_gone darkshadow-keep
	run -0 in_guest -- cat "$GUEST/a"
	[ "$output" = hello ]
	exec 8>&-
}

@test "a session that was killed is over when its shadows are" {
	vm_daemon
	in_guest_background
	kill -KILL "$(session)"
	ended
	grep -q "the host side (darkshadow host) is gone" "$TESTDIR/err"
	eventually in_guest_gone darkshadow-keep
	run -0 in_guest -- cat "$GUEST/a"
	[ "$output" = hello ]
	exec 8>&-
}

@test "a machine that has rebooted: its old session ends, new runs work" {
	local before boot

	vm_daemon
	# Whoever is in the machine when it reboots hears no more of it.
	DS_TEST_TIMEOUT=6 in_guest_background
	before=$(session)
	boot=$(guest cat /proc/sys/kernel/random/boot_id)
	timeout -k 1 3 "$VM/guest" /bin/busybox reboot -f </dev/null 3>&- || true
	eventually booted_since "$boot"
	run -0 in_guest --timeout 20 -- cat "$GUEST/a"
	[ "$output" = hello ]
	eventually gone "$before"
	eventually no_session
	run ! gone "$DAEMON"
	ended
	exec 8>&-
}

booted_since() {
	local now

	now=$(timeout -k 1 3 "$VM/guest" cat /proc/sys/kernel/random/boot_id \
		</dev/null 3>&-) && [ "$now" != "$1" ]
}
