#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# vm-plug.bats - memory of the host's devices as PCI devices that QEMU plugs in
# (--window qmp), and what becomes of them when either side is killed

# What is in single quotes is for the guest's shell; bats sets output; a test is a
# process of its own.
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2154

load helpers
load devmachine

# Four slots: so many mappings at a time.
PORTS=()
for i in 1 2 3 4; do
	PORTS+=(-device "pcie-root-port,id=port$i,chassis=$i,slot=$i,pref64-reserve=16M")
done

setup_file() {
	dev_dir
	# A monitor serves one at a time: the second one is the tests' own.
	dev_machine "${PORTS[@]}" -qmp "unix:$DS_VM_DIR/qmp2,server=on,wait=off"
}

setup() {
	dev_setup
	DAEMON_ARGS=(--window qmp)
	SLOW=100
}

# a_live - a target runs the victim's `live`, and has mapped the device
a_live() {
	dd if=/dev/zero of="$LOOP" bs=4096 count=1 conv=notrunc status=none
	in_guest "$VICTIMS/devmap" "$GUEST" live >"$ERR" 2>&1 &
	LIVE=$!
	eventually seen
}

# seen - what the host writes there comes back
seen() {
	printf '\1' | dd of="$LOOP" bs=1 conv=notrunc status=none
	[ "$(dd if="$LOOP" bs=1 skip=4 count=1 status=none | od -An -tx1)" = " 01" ]
}

# no_devices - nor has the guest any such PCI device
no_devices() {
	[ "$(guest sh -c 'grep -l 0x1110 /sys/bus/pci/devices/*/device | wc -l')" -eq 1 ]
}

@test "what is written by a mapping is read by a call, and the other way round" {
	a_daemon
	in_guest "$VICTIMS/devmap" "$GUEST" shares
	eventually none_mapped
	no_devices
}

@test "over other memory, in parts, moved, protected, inherited, and read only" {
	a_daemon
	in_guest "$VICTIMS/devmap" "$GUEST" lives
	in_guest "$VICTIMS/devmap" "$GUEST" inherited
	in_guest "$VICTIMS/devmap" "$GUEST" calls
	in_guest "$VICTIMS/devmap" "$GUEST" read_only
	in_guest "$VICTIMS/devmap" "$GUEST" again
	eventually none_mapped
}

@test "what has been mapped is given back by exec and exit, and by its end" {
	a_daemon
	in_guest "$VICTIMS/devmap" "$GUEST" once
	eventually none_mapped
	[ "$(head -c 5 "$LOOP")" = hello ]
	a_live
	guest pkill -KILL -x devmap
	wait "$LIVE" || true
	eventually none_mapped
	no_devices
}

@test "who lists the machines meanwhile does not keep it in QEMU's memory" {
	a_daemon
	a_live
	run -0 "$DARKSHADOW" vms 3>&-
	guest pkill -KILL -x devmap
	wait "$LIVE" || true
	eventually none_mapped
}

@test "a word that the host counts up is seen live, and what the guest writes is, too" {
	a_daemon
	in_guest "$VICTIMS/devmap" "$GUEST" live &
	python3 - "$LOOP" <<-'END'
		import mmap, struct, sys, time
		with open(sys.argv[1], "r+b") as f:
		    page = mmap.mmap(f.fileno(), 4096)
		seen = 0
		for turn in range(1, 1001):
		    page[0:4] = struct.pack("<I", turn)
		    until = time.monotonic() + 60
		    while seen < turn and turn % 100 == 0:
		        seen = struct.unpack("<I", page[4:8])[0]
		        assert time.monotonic() < until, "not seen: %d" % turn
	END
	wait "$!"
}

@test "as many as there are slots; then ENOMEM, and what to add" {
	a_daemon
	VICTIM_BLOCK_MAPS=4 in_guest "$VICTIMS/devmap" "$GUEST" several
	VICTIM_BLOCK_MAPS=5 run in_guest "$VICTIMS/devmap" "$GUEST" several
	[ "$status" -eq 1 ]
	[[ $output == *"Cannot allocate memory"* ]]
	[[ $output == *"no place left to plug a device in"*"pcie-root-port"* ]]
	eventually none_mapped
}

@test "more than the device has, or than a power of two of it: ENXIO" {
	a_daemon
	VICTIM_PAGES=2 VICTIM_FIRST=2047 run in_guest "$VICTIMS/devmap" \
		"$GUEST" once
	[ "$status" -eq 1 ]
	[[ $output == *"No such device or address"* ]]
	[[ $output == *"a device of less than 16384 KiB"*"powers of two"* ]]
	# Of these 8 MiB it can be all.
	VICTIM_PAGES=1 VICTIM_FIRST=2047 in_guest "$VICTIMS/devmap" "$GUEST" once
}

@test "more than the guest has room for at its root port: ENOMEM, and what to enlarge" {
	local DS_VM_DIR=$TESTDIR/small

	"$VM/vm.sh" start qemu --name "small-$$" --mem 256M -- \
		-device pcie-root-port,id=narrow 3>&-
	VMM=$(cat "$DS_VM_DIR/vmm.pid")
	a_daemon
	VICTIM_PAGES=1 VICTIM_FIRST=2047 run in_guest "$VICTIMS/devmap" "$GUEST" once
	eventually none_mapped
	kill_daemon TERM
	"$VM/vm.sh" stop
	[ "$status" -eq 1 ]
	[[ $output == *"Cannot allocate memory"* ]]
	[[ $output == *"no room for a PCI device of 8192 KiB"*pref64-reserve* ]]
}

@test "what is no device node is refused, and told what can" {
	a_daemon
	echo file >"$HOSTDIR/file"
	BLOCK=$GUEST/file run in_guest "$VICTIMS/devmap" "$GUEST" once
	[ "$status" -eq 1 ]
	[[ $output == *"a file of the host cannot be mapped shared"* ]]
}

@test "a virtual CPU is an open file alone: ENODEV, and why" {
	[ -r /dev/kvm ] || skip "this machine has no /dev/kvm"
	a_daemon --allow dev:/dev/ds-kvm=/dev/kvm
	run guest env VICTIM_KVM=/dev/ds-kvm "$DS_STATIC" run --transport shm -- \
		"$VICTIMS/kvm" "$LOCALDIR" adds
	[ "$status" -eq 1 ]
	[[ $output == *"no device node, which QEMU could open again"* ]]
}

@test "a machine without a place for it: ENOMEM, and what to add" {
	local DS_VM_DIR=$TESTDIR/full

	"$VM/vm.sh" start qemu --name "full-$$" --mem 256M 3>&-
	VMM=$(cat "$DS_VM_DIR/vmm.pid")
	a_daemon
	run in_guest "$VICTIMS/devmap" "$GUEST" shares
	kill_daemon TERM
	"$VM/vm.sh" stop
	[ "$status" -eq 1 ]
	[[ $output == *"no place left to plug a device in"*"pcie-root-port"* ]]
}

@test "machine type pc has places of its own" {
	local DS_VM_DIR=$TESTDIR/pc

	"$VM/vm.sh" start qemu --name "pc-$$" --mem 256M --machine pc 3>&-
	VMM=$(cat "$DS_VM_DIR/vmm.pid")
	a_daemon
	in_guest "$VICTIMS/devmap" "$GUEST" lives
	eventually none_mapped
	kill_daemon TERM
	"$VM/vm.sh" stop
}

@test "QEMU in its own seccomp sandbox plugs in as others do" {
	local DS_VM_DIR=$TESTDIR/sandboxed

	"$VM/vm.sh" start qemu --name "sandboxed-$$" --mem 256M -- \
		"${PORTS[@]}" -sandbox \
		on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny 3>&-
	VMM=$(cat "$DS_VM_DIR/vmm.pid")
	a_daemon
	in_guest "$VICTIMS/devmap" "$GUEST" shares
	kill_daemon TERM
	"$VM/vm.sh" stop
}

@test "while another has its monitor, QEMU cannot be asked: ENODEV, and why" {
	a_daemon
	in_guest "$VICTIMS/devmap" "$GUEST" shares
	python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
print(s.recv(9), flush=True)
time.sleep(600)' "$DS_VM_DIR/qmp" >"$TESTDIR/greeted" 3>&- &
	holder=$!
	eventually test -s "$TESTDIR/greeted"
	run in_guest "$VICTIMS/devmap" "$GUEST" shares
	kill "$holder"
	[ "$status" -eq 1 ]
	[[ $output == *"is another client connected"* ]]
}

@test "the process of a session is killed: what it had is given back, and what mapped it is killed" {
	a_daemon
	a_live
	pkill -KILL -P "$DAEMON" -x darkshadow
	wait "$LIVE" || status=$?
	[ "${status:-0}" -eq 137 ]
	eventually none_mapped
	in_guest "$VICTIMS/devmap" "$GUEST" shares
	no_devices
}

@test "the daemon is killed at any moment: the machine goes on, and the next one gives back what is left" {
	local round

	# Something is left for certain where it stays mapped.
	a_daemon
	a_live
	kill_daemons
	wait "$LIVE" || true
	device_mapped
	a_daemon
	eventually none_mapped
	kill_daemon TERM
	for ((round = 0; round < ${ROUNDS:-5}; round++)); do
		rm -rf "${HOSTDIR:?}"/*
		a_daemon
		in_guest "$VICTIMS/devmap" "$GUEST" for_ever >"$ERR" 2>&1 &
		eventually begun
		sleep "0.$((RANDOM % 900 + 100))"
		kill_daemons
		wait "$!" || true
		[ -d "/proc/$VMM" ]
		run -0 guest echo alive
		[ "$output" = alive ]
	done
	a_daemon
	in_guest "$VICTIMS/devmap" "$GUEST" shares
	eventually none_mapped
	no_devices
	nothing_named
}

begun() {
	compgen -G "$HOSTDIR/*/begun" >/dev/null
}

# nothing_named - QEMU has no object or device of a daemon's
nothing_named() {
	python3 - "$DS_VM_DIR/qmp2" <<-'END'
		import json, socket, sys
		s = socket.socket(socket.AF_UNIX)
		s.connect(sys.argv[1])
		f = s.makefile("rw")
		f.readline()
		for command, args in (
		    ("qmp_capabilities", {}),
		    ("qom-list", {"path": "/objects"}),
		    ("qom-list", {"path": "/machine/peripheral"}),
		):
		    f.write(json.dumps({"execute": command, "arguments": args}))
		    f.flush()
		    answer = json.loads(f.readline())
		    while "event" in answer:
		        answer = json.loads(f.readline())
		    assert "darkshadow-" not in json.dumps(answer), answer
	END
}

# kill_daemons - the daemon and its sessions, at once: none sees another's end
kill_daemons() {
	local pids

	mapfile -t pids < <(daemon_pids)
	kill -STOP "${pids[@]}" 2>/dev/null || true
	kill -KILL "${pids[@]}" 2>/dev/null || true
	kill_daemon KILL
}
