#!/usr/bin/env bats
# vm-torture.bats - what shadows map stays true, whatever target and guest do

load helpers

VM=$BATS_TEST_DIRNAME/vm

torture() {
	timeout --foreground -k 10 "$((DS_TEST_TIMEOUT + 240))" \
		"$VM/torture.sh" "$@" 3>&-
}

@test "memory that changes at random, natively and in loopback" {
	"$VICTIMS/torture" "$NATIVEDIR" 2 1
	VICTIM_LOCAL=$LOCALDIR ds -- "$VICTIMS/torture" "$GUEST" 5 2
	VICTIM_LOCAL=$LOCALDIR ds_all -- "$VICTIMS/torture" "$HOSTDIR" 3 3
}

@test "in QEMU, beside compaction, KSM, khugepaged, swap and pressure" {
	torture qemu 20
}

@test "in User-Mode Linux, beside compaction and pressure" {
	torture uml 10
}

@test "without pins it finds what is stale" {
	local seed

	for seed in 1 2 3; do
		run torture qemu 12 "$seed" --debug-no-pins
		echo "$output"
		if [[ $output == *"is stale: in frame"* ]]; then
			return 0
		fi
	done
	return 1
}
