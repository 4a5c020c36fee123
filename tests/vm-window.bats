#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# vm-window.bats - memory of the host's devices in the memory of a machine, and
# what becomes of it when either side is killed

# What is in single quotes is for the guest's shell; bats sets output; a test is a
# process of its own.
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2154

load helpers
load devmachine

setup_file() {
	dev_dir
	dev_machine
}

setup() {
	dev_setup
	SLOW=10
}

@test "what has been mapped is given back: by munmap, exec and exit, and by its end" {
	a_daemon
	in_guest "$VICTIMS/devmap" "$GUEST" again
	none_mapped
	in_guest "$VICTIMS/devmap" "$GUEST" once
	eventually none_mapped
	[ "$(head -c 5 "$LOOP")" = hello ]
	in_guest "$VICTIMS/devmap" "$GUEST" for_ever >"$ERR" 2>&1 &
	eventually device_mapped
	guest pkill -KILL -x devmap
	wait "$!" || true
	eventually none_mapped
	in_guest "$VICTIMS/devmap" "$GUEST" shares
}

@test "a window that is too small: ENOMEM, and what to enlarge" {
	a_daemon
	VICTIM_PAGES=1024 run in_guest "$VICTIMS/devmap" "$GUEST" once
	[ "$status" -eq 1 ]
	[[ $output == *"Cannot allocate memory"* ]]
	[[ $output == *"a shared mapping of what is the host's fails with ENOMEM: no 4096 KiB are left"*"enlarge the memory of the ivshmem device"* ]]
}

@test "more than the device has: ENXIO, and the machine goes on" {
	a_daemon
	VICTIM_PAGES=2 VICTIM_FIRST=2047 run in_guest "$VICTIMS/devmap" \
		"$GUEST" once
	[ "$status" -eq 1 ]
	[[ $output == *"not all of the 8 KiB at offset 0x7ff000 of a device are there"* ]]
	in_guest "$VICTIMS/devmap" "$GUEST" shares
}

@test "a file of the host cannot be mapped shared: ENODEV, and why" {
	a_daemon
	echo file >"$HOSTDIR/file"
	BLOCK=$GUEST/file run in_guest "$VICTIMS/devmap" "$GUEST" once
	[ "$status" -eq 1 ]
	[[ $output == *"No such device"* ]]
	[[ $output == *"a file of the host cannot be mapped shared"* ]]
}

@test "no other thread, and no child, gets at more of it than was mapped" {
	a_daemon
	in_guest "$VICTIMS/devmap" "$GUEST" descriptor
	in_guest "$VICTIMS/devmap" "$GUEST" forks
}

@test "memory behind what the machine has mapped of a file is the machine's own" {
	local DS_VM_DIR=$TESTDIR/larger

	mkdir "$DS_VM_DIR"
	truncate -s 64M "$DS_VM_DIR/shm"
	"$VM/vm.sh" start qemu --name "larger-$$" --mem 256M --no-shm -- \
		-object memory-backend-file,id=ds,share=on,size=4M,mem-path="$DS_VM_DIR/shm" \
		-device ivshmem-plain,memdev=ds 3>&-
	VMM=$(cat "$DS_VM_DIR/vmm.pid")
	a_daemon
	in_guest "$VICTIMS/devmap" "$GUEST" again
	# All that there is of it, and not more.
	VICTIM_PAGES=256 run in_guest "$VICTIMS/devmap" "$GUEST" once
	[ "$status" -eq 1 ]
	[[ $output == *"no 1024 KiB are left"* ]]
	run -0 guest echo alive
	kill_daemon TERM
	"$VM/vm.sh" stop
}

@test "the process of a session is killed: what it had is given back, and what mapped it is killed" {
	a_daemon
	in_guest "$VICTIMS/devmap" "$GUEST" live >"$ERR" 2>&1 &
	eventually device_mapped
	pkill -KILL -P "$DAEMON" -x darkshadow
	wait "$!" || status=$?
	[ "${status:-0}" -eq 137 ]
	grep -q "has mapped memory of devices.*is killed" "$ERR"
	eventually none_mapped
	in_guest "$VICTIMS/devmap" "$GUEST" shares
}

@test "the daemon is killed at any moment: the machine goes on, and the next one gives back what is left" {
	local round

	# Something is left for certain where it stays mapped.
	a_daemon
	in_guest "$VICTIMS/devmap" "$GUEST" live >"$ERR" 2>&1 &
	eventually device_mapped
	kill_daemons
	wait "$!" || true
	device_mapped
	a_daemon
	eventually none_mapped
	kill_daemon TERM
	for ((round = 0; round < ${ROUNDS:-8}; round++)); do
		rm -rf "${HOSTDIR:?}"/*
		a_daemon
		in_guest "$VICTIMS/devmap" "$GUEST" for_ever >"$ERR" 2>&1 &
		eventually begun
		sleep "0.$((RANDOM % 300 + 100))"
		kill_daemons
		wait "$!" || true
		[ -d "/proc/$VMM" ]
		run -0 guest echo alive
		[ "$output" = alive ]
	done
	a_daemon
	in_guest "$VICTIMS/devmap" "$GUEST" shares
	none_mapped
}

begun() {
	compgen -G "$HOSTDIR/*/begun" >/dev/null
}

# kill_daemons - the daemon and its sessions, at once: none sees another's end
kill_daemons() {
	local pids

	mapfile -t pids < <(daemon_pids)
	kill -STOP "${pids[@]}" 2>/dev/null || true
	kill -KILL "${pids[@]}" 2>/dev/null || true
	kill_daemon KILL
}

@test "two tun devices of the host: packets of the guest go in at one and come out at the other" {
	[ -e /dev/net/tun ] || skip "there is no /dev/net/tun"
	DS_TEST_MARK=$DS_MARK "${IN_TUNS[@]}" "$DARKSHADOW" host \
		--vm "pid:$VMM" \
		--transport "shm:$DS_VM_DIR/shm" --allow net \
		--allow dev:/dev/ds-tun=/dev/net/tun \
		>>"$TESTDIR/daemon.log" 2>&1 3>&- &
	DAEMON=$!
	guest env VICTIM_TUN=/dev/ds-tun "$DS_STATIC" run --transport shm -- \
		"$VICTIMS/tun" "$LOCALDIR"
}

# sandboxed SANDBOX - `devmap shares` in a machine with that sandbox of QEMU's
sandboxed() {
	local DS_VM_DIR=$TESTDIR/sandboxed

	"$VM/vm.sh" start qemu --name "sandboxed-$$" --mem 256M -- \
		-sandbox "$1" 3>&-
	VMM=$(cat "$DS_VM_DIR/vmm.pid")
	grep -q '^Seccomp:.*2' "/proc/$VMM/status"
	a_daemon
	run in_guest "$VICTIMS/devmap" "$GUEST" shares
	kill_daemon TERM
	"$VM/vm.sh" stop
}

@test "a VMM with its own seccomp sandbox maps for us what that sandbox lets it" {
	# As libvirt starts it.
	sandboxed on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny
	[ "$status" -eq 0 ]
}

# UNDER_FILTER CMD... - with a seccomp filter of its own, which allows all
UNDER_FILTER=(python3 -c '
import ctypes, os, struct, sys
allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000))
prog = struct.pack("HxxxxxxQ", 1, ctypes.addressof(allow))
prctl = ctypes.CDLL(None, use_errno=True).prctl
if prctl(38, 1, 0, 0, 0) or prctl(22, 2, prog):
	sys.exit("no filter: " + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])')

@test "where the sandbox cannot be read it makes no calls for us: ENODEV, and who could" {
	DAEMON_BY=("${UNDER_FILTER[@]}")
	sandboxed on
	[ "$status" -eq 1 ]
	[[ $output == *"mmap: No such device"* ]]
	[[ $output == *"has a seccomp sandbox"*"-sandbox off"*"as root"* ]]
}
