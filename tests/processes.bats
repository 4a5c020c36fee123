#!/usr/bin/env bats
# processes.bats - whole trees of processes

# What is in single quotes is for the target's shell.
# shellcheck disable=SC2016

# bats file_tags=vm
load helpers

@test "500 short children touch a forwarded file, none is lost" {
	victim forkbomb bomb
}

@test "a tree of 63 processes shares one open file" {
	victim forkbomb tree
}

@test "orphans go on forwarding" {
	victim forkbomb orphans
}

# Emulated it takes long, and is no other in User-Mode Linux.
# bats test_tags=not-qemu
@test "the same with everything forwarded" {
	victim_all forkbomb
}

# bats test_tags=user
@test "the same for an ordinary user" {
	as_user
	victim forkbomb
}

@test "a pipeline of forwarded readers and writers" {
	seq 1 5000 >"$HOSTDIR/numbers"
	run ds -- sh -c 'cat "$1/numbers" | sort -r | sort -n | tee "$1/copy" |
		tail -n 1' - "$GUEST"
	[ "$output" = 5000 ]
	cmp "$HOSTDIR/numbers" "$HOSTDIR/copy"
}

# In an emulated machine that is minutes of starting programs.
# bats test_tags=not-qemu
@test "xargs runs processes side by side" {
	local last=40 n

	[ -z "${DS_VM:-}" ] || last=10
	for n in $(seq 1 "$last"); do
		echo "$n" >"$HOSTDIR/$n"
	done
	ds -- sh -c 'seq 1 $2 | xargs -P 8 -I N sh -c "cat $1/N >$1/N.out"' \
		- "$GUEST" "$last"
	for n in $(seq 1 "$last"); do
		[ "$(cat "$HOSTDIR/$n.out")" = "$n" ]
	done
}

@test "a daemon that detaches itself goes on forwarding" {
	mkfifo "$HOSTDIR/fifo"
	ds_background -- sh -c 'setsid sh -c "cat $1/fifo >$1/out" &
		exit 0' - "$GUEST"
	echo detached >"$HOSTDIR/fifo"
	ended
	[ "$status" -eq 0 ]
	[ "$(cat "$HOSTDIR/out")" = detached ]
}

@test "exit statuses of children reach their parent" {
	run ds -- sh -c '(cat "$1/none" 2>/dev/null); a=$?
		sh -c "kill -9 \$\$"; echo "$a $?"' - "$GUEST"
	[[ $output == *"1 137" ]]
}

@test "process ids and parents are as a program expects" {
	run ds -- sh -c 'sh -c "test \$PPID = $$" && echo yes'
	[ "$output" = yes ]
}

@test "nothing is left in temporary directories" {
	mkdir "$LOCALDIR/tmp" "$LOCALDIR/run"
	local before
	before=$(find /dev/shm -maxdepth 1 | wc -l)
	for n in 1 2 3; do
		TMPDIR=$LOCALDIR/tmp XDG_RUNTIME_DIR=$LOCALDIR/run ds -- \
			sh -c 'cat "$1/none" 2>/dev/null; echo x >"$1/x"' \
			- "$GUEST"
	done
	[ -z "$(find "$LOCALDIR/tmp" "$LOCALDIR/run" -mindepth 1)" ]
	[ "$(find /dev/shm -maxdepth 1 | wc -l)" -le "$before" ]
}

# bats test_tags=not-vm
@test "every case of the victim has a test" {
	assert_cases_tested forkbomb
}
