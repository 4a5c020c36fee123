#!/usr/bin/env bats
# vm-sizes.bats - machines whose memory lies on both sides of the hole below
# 4 GiB, and such that have none there

# What is in single quotes is for the guest's shell.
# shellcheck disable=SC2016

load helpers

VM=$BATS_TEST_DIRNAME/vm

setup() {
	common_setup
	export DS_VM_DIR=$TESTDIR/vm
	DAEMON_PID=
}

teardown() {
	kill "$DAEMON_PID" 2>/dev/null || true
	"$VM/vm.sh" kill
	common_teardown
}

guest() {
	timeout --foreground -k 10 "$DS_TEST_TIMEOUT" "$VM/guest" "$@" 3>&-
}

# machine TYPE SIZE - boots, and a daemon serves it
machine() {
	local name=size-$DS_MARK

	"$VM/vm.sh" start qemu --name "$name" --machine "$1" --mem "$2" 3>&-
	"$DARKSHADOW" host --vm "$name" --transport "shm:$DS_VM_DIR/shm" \
		--allow "path:$GUEST=$HOSTDIR" >"$TESTDIR/log" 2>&1 3>&- &
	DAEMON_PID=$!
}

# holds - memory of all kinds is what it should be there
holds() {
	guest env VICTIM_SHADOWED=1 VICTIM_LOCAL=/run/ds-local \
		"$DS_STATIC" run --transport shm --verify --stats \
		--forward "path:$GUEST=$HOSTDIR" -- "$VICTIMS/memory" \
		"$GUEST" anonymous everywhere mapped_files fork_private \
		2>&1 | tee "$TESTDIR/stats"
	[ "${PIPESTATUS[0]}" -eq 0 ]
	grep -q 'verify: [0-9]* pages compared, 0 stale' "$TESTDIR/stats"
}

# above - pages that programs get have frames above 4 GiB
above() {
	run -0 guest sh -c 'echo | "$1" page x' sh "$BUILD/vm/probe"
	echo "frame $output"
	[ "$output" -ge $((1 << 20)) ]
}

@test "q35 with 512 MiB, all below the hole" {
	machine q35 512M
	holds
}

@test "q35 with 3 GiB, 1 GiB of it above 4 GiB" {
	machine q35 3G
	above
	holds
}

@test "pc with 512 MiB, all below the hole" {
	machine pc 512M
	holds
}

@test "pc with 4 GiB, 1 GiB of it above 4 GiB" {
	machine pc 4G
	above
	holds
}
