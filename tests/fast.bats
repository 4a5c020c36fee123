#!/usr/bin/env bats
# fast.bats - sites that have been patched do what unpatched ones do

# bats file_tags=vm
load helpers

@test "a hot call answers as the kernel does, its errors too" {
	victim fast hot
}

@test "of numbers and descriptors 32 bits count" {
	victim fast high_bits
}

@test "a branch into the middle of a patch is sent on" {
	victim fast branched_into
}

@test "vfork's child calls by its own descriptors" {
	victim fast vforked
}

@test "processes that share descriptors see each other close them" {
	victim fast shared_table
}

@test "processes that share memory call at once" {
	victim fast shared_memory
}

@test "forked processes call at once, each by itself" {
	victim fast forked
}

@test "posix_spawn between calls" {
	victim fast spawned_true
}

@test "memory that its first process has left is its heir's, who calls at once" {
	victim fast inherited
}

@test "24 threads call at once" {
	victim fast threads
}

@test "threads that take turns are told of the processors that they have, and get them back" {
	victim fast turns
}

@test "threads from a hot site, and clones that are none, or wrong" {
	victim fast cloned
}

@test "24 blocked threads hold up nobody" {
	victim fast blocked_beside
}

@test "a program's own seccomp filter judges its hot calls" {
	victim fast own_filter
}

@test "code that is made writable is as it was written" {
	victim fast rewritten
}

@test "code that is mapped over or moved is as it was written" {
	victim fast replaced
}

@test "a signal never finds the program in code that it does not have" {
	victim fast ticks
}

# fast_count WHAT - from the statistics of the last run
fast_count() {
	sed -nE "s/.*fast: .*[ ,]([0-9]+) $1.*/\1/p; s/.*fast: ([0-9]+) $1.*/\1/p" \
		"$TESTDIR/stats" | head -n 1
}

# stopped - how many calls the tracer has seen, by the statistics
stopped() {
	echo $(($(sed -nE \
		's/.*calls: ([0-9]+) forwarded, ([0-9]+) looked.*/\1 + \2/p' \
		"$TESTDIR/stats")))
}

# bats test_tags=not-base
@test "hot calls are forwarded without the tracer" {
	ds --stats -- "$VICTIMS/fast" "$GUEST" hot 2>"$TESTDIR/stats"
	cat "$TESTDIR/stats"
	[ "$(fast_count 'calls forwarded')" -gt $((1900 / ${VICTIM_SLOW:-1})) ]
	[ "$(fast_count 'sites patched')" -gt 5 ]
}

# bats test_tags=not-vm,not-base
@test "a program that forwards nothing hardly stops" {
	# shellcheck disable=SC2016	# for the target's shell
	ds --stats -- bash -c 'for ((i = 0; i < 500; i++)); do
		[ -d /usr ] && [ ! -e /usr/none ] || exit 1; done' \
		2>"$TESTDIR/stats"
	cat "$TESTDIR/stats"
	grep -q 'calls: 0 forwarded' "$TESTDIR/stats"
	[ "$(stopped)" -lt 300 ]
}

# bats test_tags=not-vm,not-base
@test "a rule's own directory is known by name, and so is what is beside it" {
	# shellcheck disable=SC2016	# for the target's shell
	ds --stats -- bash -c 'for ((i = 0; i < 500; i++)); do
		[ -d "$1" ] && [ ! -e "$1-beside" ] || exit 1; done' - "$GUEST" \
		2>"$TESTDIR/stats"
	cat "$TESTDIR/stats"
	[ "$(fast_count 'calls forwarded')" -ge 490 ]
	[ "$(stopped)" -lt 300 ]
}

# bats test_tags=not-vm,not-base
@test "below a rule's directory names are known, however many directories they are in" {
	local deep long

	deep=$(printf 'd/%.0s' {1..30})
	long=$(printf 'x%.0s' {1..200})
	mkdir -p "$HOSTDIR/$deep" "$HOSTDIR/$long"
	for i in {1..600}; do
		mkdir "$HOSTDIR/$i"
		: >"$HOSTDIR/$i/file"
	done
	: >"$HOSTDIR/${deep}file"
	: >"$HOSTDIR/$long/file"
	# shellcheck disable=SC2016	# for the target's shell
	ds --stats -- bash -c 'for r in 1 2 3; do
		for i in {1..600} "$2" "$3"; do
			[ -f "$1/$i/file" ] && [ ! -e "$1/$i/none" ] || exit 1
		done
		[ -d "$1/1/../../../tmp" ] && [ ! -e "$1/../host/1" ] &&
			[ -f "$1/1/../2/file" ] || exit 2
		done' - "$GUEST" "$deep" "$long" 2>"$TESTDIR/stats"
	cat "$TESTDIR/stats"
	[ "$(fast_count 'calls forwarded')" -ge 3550 ]
	[ "$(stopped)" -lt 400 ]
}

@test "--no-patch leaves the program's code alone" {
	ds --no-patch --stats -- "$VICTIMS/fast" "$GUEST" hot 2>"$TESTDIR/stats"
	[ "$(fast_count 'calls forwarded')" -eq 0 ]
	[ "$(fast_count 'sites patched')" -eq 0 ]
}

# bats test_tags=not-vm
@test "--trace shows hot calls, each of them" {
	ds --trace "$TESTDIR/trace" -- "$VICTIMS/fast" "$GUEST" hot
	[ "$(grep -c 'pread64(' "$TESTDIR/trace")" -gt 2000 ]
}

# bats test_tags=not-vm
@test "an executor that nobody calls takes no processor time" {
	# shellcheck disable=SC2016	# for the target's shell
	ds_background -- sh -c 'exec 3<"$1/x"; i=0
		while [ $i -lt 200 ]; do read -r line <&3 || :; i=$((i + 1)); done
		: >"$1/idle"; exec sleep 30' - "$GUEST"
	echo line >"$HOSTDIR/x"
	eventually [ -e "$HOSTDIR/idle" ]
	sleep 1
	before=$(busy_ticks)
	sleep 2
	after=$(busy_ticks)
	echo "busy: $before, then $after ticks"
	[ $((after - before)) -le 3 ]
}

# busy_ticks - clock ticks of all processes of the test's run
busy_ticks() {
	local pid total=0 fields

	for pid in $(grep -lsz "^DS_TEST_MARK=$DS_MARK\$" /proc/[0-9]*/environ |
			cut -d/ -f3) $(pgrep -P "$(pgrep -P "$RUN" | paste -sd,)"); do
		read -ra fields < <(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null)
		total=$((total + ${fields[11]:-0} + ${fields[12]:-0}))
	done
	echo "$total"
}

@test "memory that comes and goes is empty, and nobody else's" {
	victim fast mapped
}

@test "memory that was just mapped is unmapped, moved, protected in parts" {
	victim fast in_parts
}

@test "the same at once, again and again" {
	victim fast in_parts_at_once
}

@test "the host reads into memory that was just mapped" {
	victim fast read_into
}

@test "the host reads into memory where it is now, whatever has become of it" {
	victim fast changed
}

@test "the host reads beside memory that changes" {
	victim fast changed_beside
}

@test "descriptors are opened, copied and closed beside hot calls" {
	victim fast copied_beside
}

@test "what a call is to fill stays, whatever becomes of what is beside it" {
	victim fast kept_beside
}

@test "the host reads all over a large mapping" {
	victim fast far_apart
}

@test "an executor that sleeps is woken" {
	victim fast napping
}

@test "a fork copies what other threads are just mapping" {
	victim fast mapped_forked
}

@test "a signal while memory is mapped changes nothing of that" {
	victim fast mapped_signalled
}

@test "whatever is done to parts of mappings, the host finds what the program does" {
	victim fast parts
}

@test "the same by threads, each with mappings of its own" {
	victim fast parts_beside
}
