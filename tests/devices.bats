#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# devices.bats - device nodes of the host, opened by their names in the guest

# What is in single quotes is for the target's shell; bats sets output, and ds of
# helpers uses DS_MORE.
# shellcheck disable=SC2016,SC2034,SC2154

# bats file_tags=vm
load helpers

# kvm CASE - a guest of /dev/kvm, under a name that only a rule gives it
kvm() {
	[ -e /dev/kvm ] || skip "this machine has no /dev/kvm"
	[ -w /dev/kvm ] || skip "this user may not open /dev/kvm"
	VICTIM_KVM=/dev/ds-kvm ds -f dev:/dev/ds-kvm=/dev/kvm -- \
		"$VICTIMS/kvm" "$GUEST" "$@"
}

# bats test_tags=not-uml
@test "/dev/kvm: 2 + 2 is 4" {
	kvm adds
}

# bats test_tags=not-uml
@test "/dev/kvm: a guest of several pages and many exits" {
	local slow=20

	[ -z "${DS_VM:-}" ] || slow=200
	VICTIM_SLOW=$slow kvm counts
}

# bats test_tags=not-uml
@test "/dev/kvm: a signal ends a guest that runs for ever" {
	kvm interrupted
}

# bats test_tags=not-uml
@test "/dev/kvm: a guest that runs holds up its own thread only" {
	kvm beside
}

# bats test_tags=not-uml
@test "descriptors that an ioctl makes have numbers of their own, again and again" {
	kvm made_again
}

# bats test_tags=not-uml
@test "descriptors that an ioctl makes while other threads open files" {
	kvm beside_opens
}

# bats test_tags=not-uml
@test "descriptors that an ioctl has made are a child's, too" {
	kvm forked
}

@test "/dev/kvm writes where nobody has touched memory" {
	kvm far_memory
}

# bats test_tags=not-uml
@test "/dev/kvm says of bad arguments what it says natively" {
	"$VICTIMS/kvm" "$NATIVEDIR" refusals
	kvm refusals
}

# bats test_tags=not-uml
@test "/dev/kvm: a guest rings an eventfd, where these are the host's" {
	DS_MORE=(-f eventfd)
	kvm rings
}

# bats test_tags=not-uml
@test "an eventfd of the target's own: a device of the host does not know it, says --trace" {
	[ -w /dev/kvm ] || skip "there is no /dev/kvm for this user"
	run ds --trace=- -f dev:/dev/ds-kvm=/dev/kvm -- \
		env VICTIM_KVM=/dev/ds-kvm "$VICTIMS/kvm" "$GUEST" rings
	[ "$status" -eq 1 ]
	[[ $output == *"EBADF (Bad file descriptor)"*"descriptor that is the target's own"* ]]
}

# bats test_tags=not-uml
@test "no number for what an ioctl makes: EMFILE, and nothing is left open" {
	[ -w /dev/kvm ] || skip "there is no /dev/kvm for this user"
	run ds -f dev:/dev/ds-kvm=/dev/kvm -- prlimit --nofile=100 \
		env VICTIM_KVM=/dev/ds-kvm "$VICTIMS/kvm" "$GUEST" made_again
	[ "$status" -eq 1 ]
	[[ $output == *"KVM_CREATE_VM"*"Too many open files"* ]]
	[[ $output == *"made by the host, is lost"*RLIMIT_NOFILE* ]]
}

# bats test_tags=not-vm
@test "every case of the victims has a test" {
	assert_cases_tested kvm
	assert_cases_tested devmap vm-window.bats vm-plug.bats
	assert_cases_tested tun
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
	# Others look for one at the same time: until this test has ended.
	exec {LOOP_LOCK}</dev/loop-control
	flock "$LOOP_LOCK"
	LOOP=$(losetup -f)
	RULES=(-f dev:/dev/loop-control -f "dev:$LOOP")
}

# with_loop ARG... - a command that has it
with_loop() {
	ds "${RULES[@]}" -- "$@"
}

# bats test_tags=not-uml
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

# bats test_tags=not-uml
@test "the registers of the host's processor, by /dev/cpu/0/cpuid" {
	[ -r /dev/cpu/0/cpuid ] || skip "there is no /dev/cpu/0/cpuid"
	dd if=/dev/cpu/0/cpuid bs=16 count=1 2>/dev/null >"$TESTDIR/want"
	ds -f dev:/dev/ds-cpuid=/dev/cpu/0/cpuid -- \
		dd if=/dev/ds-cpuid bs=16 count=1 2>/dev/null |
		cmp - "$TESTDIR/want"
}

# bats test_tags=not-uml
@test "/dev/urandom: so many bytes, and other ones each time" {
	ds -f dev:/dev/ds-random=/dev/urandom -- sh -c '
		head -c 100000 /dev/ds-random | gzip | wc -c
		head -c 16 /dev/ds-random | od -An -tx1
		head -c 16 /dev/ds-random | od -An -tx1' >"$TESTDIR/out"
	[ "$(head -1 "$TESTDIR/out")" -ge 100000 ]
	[ "$(sort -u "$TESTDIR/out" | wc -l)" -eq 3 ]
}

# bats test_tags=not-vm
@test "two tun devices: packets go in at one and come out at the other" {
	[ "$(id -u)" -eq 0 ] || skip "only root has networks of its own"
	[ -e /dev/net/tun ] || skip "there is no /dev/net/tun"
	"${IN_TUNS[@]}" "$VICTIMS/tun" "$LOCALDIR" routes
	VICTIM_TUN=/dev/ds-tun "${IN_TUNS[@]}" "$DARKSHADOW" run -f net \
		-f dev:/dev/ds-tun=/dev/net/tun -- "$VICTIMS/tun" "$LOCALDIR" routes
}

# fuse_example NAME - an example of libfuse, built
fuse_example() {
	local examples=/usr/share/doc/libfuse3-dev/examples flags

	[ -r /dev/fuse ] || skip "this user may not open /dev/fuse"
	[ -e "$examples/$1.c" ] ||
		skip "the examples of libfuse are not there (libfuse3-dev)"
	read -ra flags < <(pkg-config --cflags --libs fuse3)
	gcc -o "$TESTDIR/$1" "$examples/$1.c" "${flags[@]}"
	mkdir "$HOSTDIR/mnt"
}

@test "a file system of libfuse's, served by a target and mounted on the host" {
	fuse_example hello
	cat >"$TESTDIR/serve" <<-'END'
		"$1" -f "$2" &
		until [ -e "$2/hello" ]; do sleep 0.1; done
		cat "$2/hello"
		ls "$2"
		cp "$2/hello" "$3"
		"$2/hello" 2>/dev/null || echo "not executed: $?"
		umount -i "$2"
		wait "$!"
		echo "ended: $?"
		ls "$2"
	END
	run ds -f dev:/dev/fuse -f fuse -- sh "$TESTDIR/serve" \
		"$TESTDIR/hello" "$GUEST/mnt" "$LOCALDIR/copy"
	echo "$output"
	[ "$status" -eq 0 ]
	[[ $output == *"Hello World!"*hello*"not executed: 126"*"ended: 0" ]]
	[ "$(ls "$HOSTDIR/mnt")" = "" ]
	[ "$(grep -c "$HOSTDIR/mnt" /proc/mounts)" -eq 0 ]
}

@test "a file system of libfuse's is written to, and goes when its server is killed" {
	fuse_example passthrough_ll
	mkdir "$TESTDIR/source"
	cat >"$TESTDIR/serve" <<-'END'
		"$1" -f -o "source=$3" "$2" &
		server=$!
		until grep -q here "$2/mark" 2>/dev/null; do
			echo here >"$3/mark"
			sleep 0.1
		done
		cd "$2"
		echo hello >a && mkdir d && cp a d/b && mv d/b d/c && ls d
		dd if=/dev/zero of=big bs=64k count=16 2>/dev/null
		cd /
		kill -9 "$server"
		wait "$server"
		cat "$2/a"
	END
	run ds -f dev:/dev/fuse -f fuse -- sh "$TESTDIR/serve" \
		"$TESTDIR/passthrough_ll" "$GUEST/mnt" "$LOCALDIR"
	echo "$output"
	[ "$status" -eq 1 ]
	[[ $output == *"Transport endpoint is not connected"* ]]
}

@test "without the rule fuse nothing is mounted on the host" {
	fuse_example hello
	run ds -f dev:/dev/fuse -- "$TESTDIR/hello" -f "$GUEST/mnt"
	[ "$status" -ne 0 ]
	[ "$(ls "$HOSTDIR/mnt")" = "" ]
}

# on_loop CMD... - with a loop device as /dev/ds-block, which is let go of after
on_loop() {
	local result=0

	losetup "$LOOP" "$HOSTDIR/disk"
	VICTIM_BLOCK=/dev/ds-block "$@" || result=$?
	losetup -d "$LOOP"
	return "$result"
}

# bats test_tags=not-uml
@test "a mapped block device: one page for stores and calls, moved, protected, inherited" {
	a_loop
	all() {
		for case in shares lives inherited calls read_only again \
			alone zeros; do
			VICTIM_ZERO=/dev/ds-zero \
				ds -f "dev:/dev/ds-block=$LOOP" \
				-f dev:/dev/ds-zero=/dev/zero -- \
				"$VICTIMS/devmap" "$GUEST" "$case"
		done
	}
	on_loop all
}

# bats test_tags=not-uml
@test "a mapped device is live: what the host stores is seen, and what is stored the host sees" {
	a_loop
	counts() {
		local target result=0

		ds -f "dev:/dev/ds-block=$LOOP" -- "$VICTIMS/devmap" \
			"$GUEST" live &
		target=$!
		python3 -c '
import mmap, os, signal, struct, sys
signal.alarm(60)
m = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 4096)
for i in range(1, 1001):
    m[0:4] = struct.pack("I", i)
    while struct.unpack("I", m[4:8])[0] != i:
        pass
' "$LOOP" || result=$?
		wait "$target" && return "$result"
	}
	on_loop counts
}

# bats test_tags=not-uml
@test "eight threads open, poll, map, ask and close several devices at once" {
	a_loop
	mixes() {
		VICTIM_NODES="/dev/ds-zero /dev/ds-random /dev/loop-control" \
			ds "${RULES[@]}" -f "dev:/dev/ds-block=$LOOP" \
			-f dev:/dev/ds-zero=/dev/zero \
			-f dev:/dev/ds-random=/dev/urandom -- \
			"$VICTIMS/devmap" "$GUEST" stress
	}
	on_loop mixes
}

@test "fio verifies what it writes at random to a block device, and so does the host" {
	command -v fio >/dev/null || skip "fio is not installed"
	a_loop
	local size=4m jobs

	[ -z "${DS_VM:-}" ] || size=512k
	# A process by way of the cache, and a thread that goes past it. A
	# shadow has no right to empty the cache (invalidate), and /sys tells
	# of the guest's disks (disk_util).
	jobs=(--size="$size" --ioengine=psync --bs=4k --rw=randwrite
		--verify=crc32c --verify_state_save=0 --invalidate=0
		--disk_util=0 --name=cached
		--name=direct --offset=8m --direct=1 --thread)
	verifies() {
		ds -f "dev:/dev/ds-block=$LOOP" -- \
			fio --filename=/dev/ds-block "${jobs[@]}" &&
			fio --filename="$LOOP" --verify_only "${jobs[@]}"
	}
	on_loop verifies
}
