#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# devices.bats - device nodes of the host, opened by their names in the guest

# What is in single quotes is for the target's shell; bats sets output.
# shellcheck disable=SC2016,SC2154

# bats file_tags=vm
load helpers

# kvm CASE - a guest of /dev/kvm, under a name that only a rule gives it
kvm() {
	[ -e /dev/kvm ] || skip "this machine has no /dev/kvm"
	[ -w /dev/kvm ] || skip "this user may not open /dev/kvm"
	VICTIM_KVM=/dev/ds-kvm ds -f dev:/dev/ds-kvm=/dev/kvm -- \
		"$VICTIMS/kvm" "$GUEST" "$@"
}

# bats test_tags=not-vm
@test "/dev/kvm: 2 + 2 is 4" {
	kvm adds
}

# bats test_tags=not-vm
@test "/dev/kvm: a guest of several pages and many exits" {
	VICTIM_SLOW=${VICTIM_SLOW:-20} kvm counts
}

# bats test_tags=not-vm
@test "/dev/kvm: a signal ends a guest that runs for ever" {
	kvm interrupted
}

# bats test_tags=not-vm
@test "/dev/kvm: a guest that runs holds up its own thread only" {
	kvm beside
}

# bats test_tags=not-vm
@test "descriptors that an ioctl makes have numbers of their own, again and again" {
	kvm made_again
}

# bats test_tags=not-vm
@test "descriptors that an ioctl makes while other threads open files" {
	kvm beside_opens
}

# bats test_tags=not-vm
@test "descriptors that an ioctl has made are a child's, too" {
	kvm forked
}

# bats test_tags=not-vm
@test "/dev/kvm says of bad arguments what it says natively" {
	"$VICTIMS/kvm" "$NATIVEDIR" refusals
	kvm refusals
}

# bats test_tags=not-vm
@test "no number for what an ioctl makes: EMFILE, and nothing is left open" {
	[ -w /dev/kvm ] || skip "there is no /dev/kvm for this user"
	run ds -f dev:/dev/ds-kvm=/dev/kvm -- prlimit --nofile=100 \
		env VICTIM_KVM=/dev/ds-kvm "$VICTIMS/kvm" "$GUEST" made_again
	[ "$status" -eq 1 ]
	[[ $output == *"KVM_CREATE_VM"*"Too many open files"* ]]
	[[ $output == *"made by the host, is lost"*RLIMIT_NOFILE* ]]
}

# bats test_tags=not-vm
@test "every case of the victim has a test" {
	assert_cases_tested kvm
}

# bats test_tags=not-vm
@test "a request of ioctl that the policy does not name gives EPERM, and is logged" {
	[ -w /dev/kvm ] || skip "there is no /dev/kvm for this user"
	run shadowed -f "dev:/dev/ds-kvm=/dev/kvm:ioctl=0xae00-0xae04" -- \
		env VICTIM_KVM=/dev/ds-kvm "$VICTIMS/kvm" "$LOCALDIR" adds
	[ "$status" -eq 1 ]
	[[ $output == *"ioctl request 0x4020ae46 is not allowed"* ]]
	[[ $output == *"KVM_SET_USER_MEMORY_REGION"*"Operation not permitted"* ]]
	run shadowed -f "dev:/dev/ds-kvm=/dev/kvm:ioctl=0-0xffffffff" -- \
		env VICTIM_KVM=/dev/ds-kvm "$VICTIMS/kvm" "$LOCALDIR" adds
	[ "$status" -eq 0 ]
}

# bats test_tags=not-vm
@test "a device that is read-only is not opened to be written" {
	run shadowed -f dev:/dev/ds-zero=/dev/zero:ro -- sh -c \
		'head -c 10 /dev/ds-zero | wc -c; echo x >/dev/ds-zero'
	[ "$status" -ne 0 ]
	[ "${lines[0]}" = 10 ]
	[[ $output == *"Permission denied"* ]]
}

# bats test_tags=not-vm
@test "/dev/userfaultfd is refused, and it is said why" {
	[ -e /dev/userfaultfd ] || skip "this machine has no /dev/userfaultfd"
	run shadowed -f dev:/dev/userfaultfd -- true
	complains "/dev/userfaultfd.*the shadow's"
}

# a_loop - LOOP is a loop device that nobody uses, of a disk of 64 MiB on the host
a_loop() {
	[ "$(id -u)" -eq 0 ] || skip "only root has loop devices"
	[ -e /dev/loop-control ] || skip "this machine has no loop devices"
	truncate -s 64M "$HOSTDIR/disk"
	LOOP=$(losetup -f)
	RULES=(-f dev:/dev/loop-control -f "dev:$LOOP")
}

# with_loop ARG... - a command that has it
with_loop() {
	ds "${RULES[@]}" -- "$@"
}

# bats test_tags=not-vm
@test "a loop device: losetup, mkfs, e2fsck and direct I/O" {
	a_loop
	yes block | head -c 4194304 >"$TESTDIR/blocks"
	with_loop losetup "$LOOP" "$GUEST/disk"
	[[ $(losetup "$LOOP") == *"disk"* ]]
	with_loop sh -c '
		set -e
		blockdev --getsize64 "$0" | grep -qx 67108864
		mkfs.ext4 -q "$0"
		e2fsck -fn "$0"
		yes block | dd of="$0" bs=1M count=4 seek=40 iflag=fullblock \
			oflag=direct 2>&1
		dd if="$0" bs=1M count=4 skip=40 iflag=direct 2>/dev/null |
			cmp - "$1"
		' "$LOOP" "$TESTDIR/blocks" >"$TESTDIR/out" 2>&1 || {
		cat "$TESTDIR/out"
		losetup -d "$LOOP"
		return 1
	}
	with_loop losetup -d "$LOOP"
	dd if="$HOSTDIR/disk" bs=1M count=4 skip=40 2>/dev/null |
		cmp - "$TESTDIR/blocks"
}

# bats test_tags=not-vm
@test "the registers of the host's processor, by /dev/cpu/0/cpuid" {
	[ -r /dev/cpu/0/cpuid ] || skip "there is no /dev/cpu/0/cpuid"
	dd if=/dev/cpu/0/cpuid bs=16 count=1 2>/dev/null >"$TESTDIR/want"
	ds -f dev:/dev/ds-cpuid=/dev/cpu/0/cpuid -- \
		dd if=/dev/ds-cpuid bs=16 count=1 2>/dev/null |
		cmp - "$TESTDIR/want"
}
