#!/usr/bin/env bats
# storm.bats - random calls of many threads under a hail of signals: what a
# kernel leaves alone stays as it was, and every result is the kernel's
#
# The machine decides how calls and signals meet, so a seed that failed need
# not fail again. `make storm` is the long run.

load helpers

# storm DIR|OPTION... - through darkshadow, with calls patched and not
storm() {
	ds -- "$VICTIMS/storm" "$@"
	if "$DARKSHADOW" run --help | grep -q -e --no-patch; then
		ds --no-patch -- "$VICTIMS/storm" "$@"
	fi
	assert_empty "$HOSTDIR"
}

assert_empty() {
	[ -z "$(ls -A "$1")" ]
}

@test "what the storm expects is what the kernel does" {
	local threads seed=0

	for threads in 1 2 3 5 8 16; do
		seed=$((seed + 1))
		"$VICTIMS/storm" "$NATIVEDIR" --strict --seed "$seed" \
			--threads "$threads" --calls 100000
	done
	"$VICTIMS/storm" "$NATIVEDIR" --strict --hz 10000
	assert_empty "$NATIVEDIR"
}

@test "50000 calls of 16 threads, on files and not" {
	storm "$GUEST" --seed 1
	storm "$GUEST" --seed 2
}

@test "rcx and r11 are what the system call instruction leaves" {
	storm "$GUEST" --strict --calls 20000
}

@test "one thread, and a signal every 100 microseconds" {
	storm "$GUEST" --threads 1 --hz 10000 --calls 20000
}

@test "64 threads" {
	storm "$GUEST" --threads 64 --calls 20000
}

@test "without signals" {
	storm "$GUEST" --hz 0
}

@test "with nothing that is forwarded" {
	local TMPDIR=$LOCALDIR
	export TMPDIR
	storm --local
	assert_empty "$LOCALDIR"
}

@test "with everything forwarded" {
	ds_all -- "$VICTIMS/storm" "$HOSTDIR"
	assert_empty "$HOSTDIR"
}

# bats test_tags=user
@test "for an ordinary user" {
	as_user
	storm "$GUEST" --calls 20000
}
