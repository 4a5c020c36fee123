#!/usr/bin/env bats
# vm-run.bats - what is different when program and shadow share no kernel

# What is in single quotes is for the guest's shell; bats sets stderr; a test is
# a process of its own.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

load helpers

# What both daemons allow: a directory, and devices where the host has them.
policy() {
	echo "path:/mnt/vm-host=$VMS/host"
	[ ! -r /dev/cpu/0/cpuid ] || echo dev:/dev/ds-cpuid=/dev/cpu/0/cpuid
	[ ! -w /dev/kvm ] || echo dev:/dev/ds-kvm=/dev/kvm
	echo dev:/dev/ds-zero=/dev/zero
	echo eventfd
}

# One machine of each kind for all tests: UML at shm, QEMU at hypercall.
setup_file() {
	BUILD=$(cd "${BUILD:-$BATS_TEST_DIRNAME/../build}" && pwd)
	VM=$BATS_TEST_DIRNAME/vm
	VMS=$(mktemp -d /tmp/ds-vmrun.XXXXXX)
	chmod 755 "$VMS"
	export BUILD VM VMS
	mkdir "$VMS/host" "$VMS/qemu"
	"$VM/kernels.sh"
	policy >"$VMS/policy"
	DS_VM_DIR=$VMS/uml "$VM/vm.sh" start uml --name run-uml 3>&- &
	# It waits for its daemon, which waits for it.
	"$BUILD/darkshadow" host --wait --vm run-qemu \
		--transport "hypercall:connect=$VMS/bell" \
		--policy "$VMS/policy" \
		>"$VMS/qemu.log" 2>&1 3>&- &
	echo $! >"$VMS/qemu.daemon"
	DS_VM_DIR=$VMS/qemu "$VM/vm.sh" start qemu --name run-qemu --no-shm \
		--mem 512M -- -device ivshmem-doorbell,vectors=1,chardev=ds \
		-chardev "socket,id=ds,path=$VMS/bell,server=on,wait=on" 3>&-
	wait %1
	"$BUILD/darkshadow" host --vm run-uml --transport "shm:$VMS/uml/shm" \
		--policy "$VMS/policy" \
		>"$VMS/uml.log" 2>&1 3>&- &
	echo $! >"$VMS/uml.daemon"
	DS_VM_DIR=$VMS/uml "$VM/guest" "$BUILD/static/darkshadow" run -q \
		--transport shm -- true 3>&-
}

teardown_file() {
	local kind

	for kind in uml qemu; do
		kill "$(cat "$VMS/$kind.daemon")" || true
		DS_VM_DIR=$VMS/$kind "$VM/vm.sh" stop
	done
	rm -rf "$VMS"
}

setup() {
	common_setup
	rm -rf "$VMS/host"
	mkdir "$VMS/host"
	HOST=$VMS/host
}

teardown() {
	no_slow_disk
	common_teardown
}

# guest CMD... - in the machine that "each" is at
guest() {
	timeout --foreground -k 10 "$DS_TEST_TIMEOUT" "$VM/guest" "$@" 3>&-
}

# ds_run [OPTION]... -- CMD... - there, with what the daemon allows
ds_run() {
	guest "$DS_STATIC" run "$@"
}

# each FUNCTION - for both machines; the first that fails is named
each() {
	local kind

	for kind in uml qemu; do
		export DS_VM_DIR=$VMS/$kind
		rm -rf "${HOST:?}"/*
		echo "in $kind:"
		"$1" "$kind"
	done
}

@test "the transport is found, and without a rule the policy is used" {
	found() {
		echo "of the host" >"$HOST/x"
		run -0 ds_run -- cat /mnt/vm-host/x
		[ "$output" = "of the host" ]
	}
	each found
}

@test "doctor finds the guest side ready, and the host side of both machines" {
	ready() {
		local by=shm

		[ "$1" = uml ] || by='shm and hypercall'
		run -0 guest "$DS_STATIC" doctor
		echo "$output"
		grep -qx "ready: guest side in a VM by $by" <<<"$output"
		grep -qE '^pass  pins +.* by io_uring' <<<"$output"
		run -0 guest "$DS_STATIC" doctor run shm
		if [ "$1" = qemu ]; then
			run -0 guest "$DS_STATIC" doctor run hypercall
		else
			run -1 guest "$DS_STATIC" doctor loopback
			grep -q '^fail  capsule .*47 bits' <<<"$output"
		fi
	}
	each ready
	run -0 "$DARKSHADOW" doctor
	grep -v '^skip' <<<"$output"
	[[ $output = *"host side of VMs by shm and hypercall"* ]]
	[[ $output = *" has iomem=mmapper"* ]]
	[[ $output = *" has ivshmem-doorbell"* ]]
	run -0 "$DARKSHADOW" doctor host shm hypercall
}

@test "what the daemon does not allow is refused" {
	refusal() {
		run -125 ds_run -f path:/mnt/vm-host=/etc -- true
		[[ $output = *"policy does not allow"* ]]
		run -125 ds_run -f all -- true
		[[ $output = *"policy does not allow"* ]]
	}
	each refusal
}

@test "a program of the host is executed, a script too" {
	programs() {
		cp /bin/echo "$HOST/echo"
		printf '#!/bin/sh\necho "script of $1"\n' >"$HOST/script"
		chmod 755 "$HOST/script"
		run -0 ds_run -- /mnt/vm-host/echo copied
		[ "$output" = copied ]
		run -0 ds_run -- sh -c 'exec /mnt/vm-host/script me'
		[ "$output" = "script of me" ]
	}
	each programs
}

@test "pages that are shadowed are the page table's own, all along" {
	verified() {
		head -c 3000000 /dev/urandom >"$HOST/data"
		run -0 --separate-stderr ds_run --verify --stats -- sh -c \
			'cp /mnt/vm-host/data /mnt/vm-host/copy
			cat /mnt/vm-host/data | md5sum; exec md5sum \
			/mnt/vm-host/copy'
		[ "${lines[0]%% *}" = "${lines[1]%% *}" ]
		cmp "$HOST/data" "$HOST/copy"
		[[ $stderr = *" pages compared, 0 stale"* ]]
		[[ $stderr != *" 0 pages compared"* ]]
	}
	each verified
}

@test "large memory is shadowed as calls need it, or at once" {
	large() {
		head -c 40000000 /dev/zero >"$HOST/zeros"
		for how in --eager=0 --eager=64K --eager=1G --huge=0 \
			--huge=16M; do
			run -0 ds_run "$how" -- dd if=/mnt/vm-host/zeros \
				of=/mnt/vm-host/copy bs=20000000 status=none
			[ -z "$output" ]
			cmp "$HOST/zeros" "$HOST/copy"
		done
		run -125 ds_run --eager=much -- true
		[[ $output = *"expected a size"* ]]
	}
	each large
}

@test "several runs are served at once" {
	several() {
		local i pids=()

		for i in 1 2 3 4; do
			ds_run -- sh -c 'for i in 1 2 3; do
				echo "$0 $i" >>/mnt/vm-host/$0; done' "$i" &
			pids+=($!)
		done
		for i in "${pids[@]}"; do
			wait "$i"
		done
		for i in 1 2 3 4; do
			[ "$(cat "$HOST/$i")" = "$i 1
$i 2
$i 3" ]
		done
	}
	each several
}

@test "memory that a file of the guest is mapped to is written through" {
	shared() {
		echo "0123456789abcdef" >"$HOST/from"
		run -0 ds_run -- "$PYTHON3" -c 'import mmap, os
f = os.open("/run/ds-local/mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(f, 8192)
m = mmap.mmap(f, 8192)
h = os.open("/mnt/vm-host/from", os.O_RDONLY)
os.preadv(h, [memoryview(m)[4090:4106]], 0)
m.close()
print(os.pread(f, 16, 4090).decode())'
		[ "$output" = "0123456789abcdef" ]
	}
	PYTHON3=/usr/bin/python3
	each shared
}

@test "a run without the capabilities for page frames says what it needs" {
	bare() {
		run -125 guest setpriv --bounding-set -sys_admin \
			--inh-caps -sys_admin -- "$DS_STATIC" run -- true
		[[ $output = *"shows no page frames"*setcap* ]]
	}
	each bare
}

@test "a run that names a device that is not there says so" {
	DS_VM_DIR=$VMS/uml run -125 ds_run -t hypercall -- true
	[ "${#lines[@]}" -eq 1 ]
	[[ $output = *"no such device"* ]]
}

@test "a device of the host is read, and is not mapped" {
	device() {
		run -0 ds_run -- sh -c 'head -c 100000 /dev/ds-zero | md5sum'
		[ "${output%% *}" = "$(head -c 100000 /dev/zero | md5sum |
			cut -d " " -f 1)" ]
		[ -r /dev/cpu/0/cpuid ] || return 0
		dd if=/dev/cpu/0/cpuid bs=16 count=1 2>/dev/null | od -An -tx4 \
			>"$TESTDIR/want"
		ds_run -- sh -c \
			'dd if=/dev/ds-cpuid bs=16 count=1 2>/dev/null | od -An -tx4' |
			diff -u "$TESTDIR/want" -
	}
	each device
}

@test "descriptors that an ioctl makes have their numbers in a guest, too" {
	[ -w /dev/kvm ] || skip "this machine has no /dev/kvm"
	made() {
		run -0 guest env VICTIM_KVM=/dev/ds-kvm VICTIM_SHADOWED=1 \
			VICTIM_SLOW=20 "$DS_STATIC" run -- \
			"$VICTIMS/kvm" /mnt/vm-host made_again beside_opens \
			refusals
	}
	each made
}

@test "memory of a device is mapped in QEMU; in User-Mode Linux it is said that it cannot be" {
	[ -w /dev/kvm ] || skip "this machine has no /dev/kvm"
	maps() {
		run guest env VICTIM_KVM=/dev/ds-kvm "$DS_STATIC" run -- \
			"$VICTIMS/kvm" /mnt/vm-host adds
		echo "$output"
		if [ "$1" = qemu ]; then
			[ "$status" -eq 0 ]
			return
		fi
		[ "$status" -eq 1 ]
		[[ $output == *"mmap of the processor: No such device"* ]]
		[[ $output == *"in User-Mode Linux a device's memory cannot be mapped"* ]]
	}
	each maps
}

@test "an eventfd is the host's, where a rule says so" {
	events() {
		run -0 guest "$DS_STATIC" run --trace=- -- "$VICTIMS/fds" \
			/mnt/vm-host eventfds
		[[ $output == *"eventfd2(2, 0x80001) = "* ]]
	}
	each events
}

@test "one static binary is all that a guest needs" {
	static() {
		echo static >"$HOST/x"
		run -0 guest "$BUILD/static/darkshadow" run -- \
			busybox cat /mnt/vm-host/x
		[ "$output" = static ]
	}
	each static
}

@test "two daemons serve two machines, each its own" {
	DS_VM_DIR=$VMS/uml run -0 ds_run -- sh -c \
		'uname -n >/mnt/vm-host/uml'
	DS_VM_DIR=$VMS/qemu run -0 ds_run -- sh -c \
		'uname -n >/mnt/vm-host/qemu'
	[ "$(cat "$HOST/uml" "$HOST/qemu")" = "run-uml
run-qemu" ]
	run -0 "$DARKSHADOW" vms
	[[ $output = *run-qemu*yes* ]]
	[[ $output = *run-uml*yes* ]]
}

@test "over its budget a shadow forgets what was not needed for longest" {
	budget() {
		guest env VICTIM_SHADOWED=1 "$DS_STATIC" run --stats \
			--verify --max-regions 500 -- "$VICTIMS/memory" \
			/mnt/vm-host scattered 2>&1 | tee "$TESTDIR/stats"
		[ "${PIPESTATUS[0]}" -eq 0 ]
		grep -q 'budget: [0-9]* regions dropped' "$TESTDIR/stats"
		grep -q 'pages compared, 0 stale' "$TESTDIR/stats"
	}
	# An emulated machine takes a minute for it.
	export DS_VM_DIR=$VMS/uml
	budget
}

@test "what a hot call needs is not forgotten" {
	export DS_VM_DIR=$VMS/uml
	guest env VICTIM_SHADOWED=1 VICTIM_SLOW=5 "$DS_STATIC" run --stats \
		--huge=0 --max-regions 500 -- "$VICTIMS/fast" /mnt/vm-host \
		far_apart 2>&1 | tee "$TESTDIR/stats"
	[ "${PIPESTATUS[0]}" -eq 0 ]
	grep -q 'budget: [0-9]* regions dropped' "$TESTDIR/stats"
	grep -q 'fast: .* [0-9][0-9]* calls forwarded' "$TESTDIR/stats"
}

@test "files that shrink, memory of odd kinds and in far places" {
	odd() {
		run -0 guest env VICTIM_SHADOWED=1 \
			VICTIM_LOCAL=/run/ds-local "$DS_STATIC" run --stats \
			--verify -- "$VICTIMS/memory" /mnt/vm-host truncated \
			opened_up dev_zero given_back lists_far_away \
			reservations sysv_shared deep_stack
		[[ $output == *"pages compared, 0 stale"* ]]
	}
	each odd
}

@test "memory is pinned by AF_XDP sockets, too, whatever the target's limits" {
	export DS_VM_DIR=$VMS/uml
	run -125 ds_run --pins=xdp -- true
	[[ $output = *"pinning memory by AF_XDP"* ]]
	run -125 ds_run --pins=glue -- true
	[[ $output = *"expected io_uring or xdp"* ]]
	export DS_VM_DIR=$VMS/qemu
	run -0 guest strace -qq -o /dev/null \
		-e inject=io_uring_setup:error=EPERM "$DS_STATIC" run -v -- true
	[[ $output = *"pinned by AF_XDP"* ]]
	run -0 guest env VICTIM_SHADOWED=1 VICTIM_LOCAL=/run/ds-local \
		"$DS_STATIC" run --pins=xdp --stats --verify -- \
		"$VICTIMS/memory" /mnt/vm-host given_back opened_up \
		reservations deep_stack
	[[ $output == *"pages compared, 0 stale"* ]]
	[[ $output != *" 0 pages compared"* ]]
	head -c 1M /dev/urandom >"$HOST/file"
	ds_run --pins=xdp -- sh -c 'exec </mnt/vm-host/file 3</dev/null
		ulimit -l 0; ulimit -n 4; exec busybox dd bs=1M' \
		>"$TESTDIR/out" 2>"$TESTDIR/err"
	cmp "$HOST/file" "$TESTDIR/out"
}

# A disk, mounted at $1, that stands still while $2, where it is, is frozen.
slow_disk() {
	truncate -s 24M "$VMS/below.img"
	mkfs.ext2 -q "$VMS/below.img"
	mkdir -p "$2" "$1"
	mount -o loop "$VMS/below.img" "$2"
	head -c 16M /dev/zero >"$2/disk.img"
	mkfs.ext2 -q "$2/disk.img"
	mount -o loop "$2/disk.img" "$1"
}

no_slow_disk() {
	fsfreeze -u "$VMS/below" 2>/dev/null || true
	umount "$HOST/disk" 2>/dev/null || true
	umount "$VMS/below" 2>/dev/null || true
}

@test "memory given back while direct I/O uses it is not used for anything else" {
	[ -e /dev/loop-control ] || skip "no loop devices here"
	# How memory is given back is the same in both machines.
	direct() {
		local how run ways=(munmap "remap /mnt/vm-host/other")

		[ "$1" = qemu ] || ways=(munmap dontneed remap replace
			"munmap /mnt/vm-host/other")
		for how in "${ways[@]}"; do
			slow_disk "$HOST/disk" "$VMS/below"
			head -c 64K /dev/zero >"$HOST/disk/file"
			sync -f "$HOST/disk/file"
			fsfreeze -f "$VMS/below"
			# shellcheck disable=SC2086	# two words, perhaps
			ds_run -- "$VICTIMS/direct" /mnt/vm-host/disk/file \
				/mnt/vm-host/sign $how &
			run=$!
			# It may have had to try twice.
			eventually test -d "$HOST/sign" ||
				eventually test -d "$HOST/sign"
			fsfreeze -u "$VMS/below"
			wait "$run"
			echo "$how: $(od -An -c "$HOST/disk/file" | head -1)"
			head -c 64K /dev/zero | tr '\0' a |
				cmp - "$HOST/disk/file"
			rmdir "$HOST/sign"
			no_slow_disk
		done
	}
	each direct
}

@test "maps shows what is present there, though the kernel is older" {
	shown() {
		run -3 guest sh -c '"$0" maps -j -- "$1" 3 2>&1 >/dev/null' \
			"$DS_STATIC" "$VICTIMS/mapped"
		python3 -c 'import json, sys
shown = json.loads(sys.argv[1])
sizes = {r["size"]: r for r in shown["regions"]
         if r["prot"] == "rw-p" and not r["backing"]}
scattered, zero, sparse = (sizes[n] for n in (8 << 20, 64 * 4096, 64 << 30))
assert scattered["present"] == scattered["extents"] == 1024, scattered
assert zero["present"] == zero["zero"] == 16 and zero["own"] == 0, zero
assert sparse["present"] == 8, sparse
assert shown["totals"]["huge"] is not None' "$output"
	}
	each shown
}
