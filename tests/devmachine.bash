# shellcheck shell=bash
# devmachine.bash - a machine of QEMU's for a file of tests, and a loop device of
# the host's that its targets map
#
# A file loads helpers first, calls dev_dir and dev_machine in its setup_file and
# sets in its setup, behind dev_setup: DAEMON_BY, what starts the daemon;
# DAEMON_ARGS, more of its options; SLOW, as VICTIM_SLOW.

# What tests set and read is theirs; a test is a process of its own.
# shellcheck disable=SC2030,SC2031,SC2034

# dev_dir - DS_VM_DIR, for the machine that dev_machine starts
dev_dir() {
	BUILD=$(cd "${BUILD:-$BATS_TEST_DIRNAME/../build}" && pwd)
	VM=$BATS_TEST_DIRNAME/vm
	DS_VM_DIR=$(mktemp -d /tmp/ds-device.XXXXXX)
	chmod 755 "$DS_VM_DIR"
	export BUILD VM DS_VM_DIR
}

# dev_machine [ARG]... - more arguments for QEMU
dev_machine() {
	"$VM/kernels.sh"
	"$VM/vm.sh" start qemu --name "device-$$" --mem 512M -- "$@" 3>&-
}

teardown_file() {
	"$VM/vm.sh" stop
	rm -rf "$DS_VM_DIR"
}

dev_setup() {
	common_setup
	[ "$(id -u)" -eq 0 ] || skip "only root has loop devices"
	[ -e /dev/loop-control ] || skip "this machine has no loop devices"
	truncate -s 8M "$TESTDIR/disk"
	LOOP=$(losetup -f --show "$TESTDIR/disk")
	VMM=$(cat "$DS_VM_DIR/vmm.pid")
	ERR=$TESTDIR/err
	DAEMON_BY=() DAEMON_ARGS=()
}

teardown() {
	kill_daemon TERM
	[ -z "${LOOP:-}" ] || losetup -d "$LOOP"
	common_teardown
}

# kill_daemon SIGNAL
kill_daemon() {
	[ -z "${DAEMON:-}" ] || kill -s "$1" "$DAEMON" 2>/dev/null || true
	[ -z "${DAEMON:-}" ] || wait "$DAEMON" 2>/dev/null || true
	DAEMON=
}

# a_daemon [ARG]... - for the machine, until teardown
a_daemon() {
	DS_TEST_MARK=$DS_MARK "${DAEMON_BY[@]}" "$DARKSHADOW" host \
		--vm "pid:$VMM" --transport "shm:$DS_VM_DIR/shm" \
		"${DAEMON_ARGS[@]}" --allow "path:$GUEST=$HOSTDIR" \
		--allow "dev:/dev/ds-block=$LOOP" "$@" \
		>>"$TESTDIR/daemon.log" 2>&1 3>&- &
	DAEMON=$!
}

guest() {
	timeout --foreground -k 10 "$DS_TEST_TIMEOUT" "$VM/guest" "$@" 3>&-
}

# in_guest CMD... - `darkshadow run` there, with all that the daemon allows
in_guest() {
	VICTIM_SHADOWED=1 VICTIM_BLOCK=${BLOCK:-/dev/ds-block} VICTIM_SLOW=$SLOW \
		guest "$DS_STATIC" run --transport shm -- "$@"
}

# device_mapped - there is memory of a device in QEMU just now
device_mapped() {
	# Shared, and neither its RAM nor what it shares with the daemon. (The
	# name of a device is gone with the mount namespace of its shadow.)
	awk '$2 ~ /s$/ && $6 !~ /memfd|shm$/ { found = 1 }
		END { exit !found }' "/proc/$VMM/maps"
}

none_mapped() {
	! device_mapped
}
