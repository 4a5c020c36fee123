#!/usr/bin/env bats
# kills.bats - shadows, daemons and runs that are killed at random moments
#
# DS_KILL_SEED, when set, is the seed of what is random.

# What is in single quotes is for the target's shell; bats sets status.
# shellcheck disable=SC2016,SC2154

load helpers

# sow - the seed of this test, shown when it fails
sow() {
	seed=${DS_KILL_SEED:-$((SRANDOM % 32768))}
	echo "DS_KILL_SEED=$seed"
	RANDOM=$seed
}

# traced_by PID - processes whose tracer it is; the first is the nursery's
traced_by() {
	local file stat

	# shellcheck disable=SC2013	# a name a word
	for file in $(grep -ls "^TracerPid:[^0-9]*$1\$" /proc/[0-9]*/status); do
		file=${file#/proc/}
		# Behind the name, the twentieth word is when it began.
		read -r stat 2>/dev/null <"/proc/${file%/status}/stat" &&
			awk -v pid="${file%/status}" \
				'{ sub(/.*[)] /, ""); print $20, pid }' <<<"$stat"
	done | sort -n | cut -d' ' -f2
}

# nap MS - a random time up to so long
nap() {
	sleep "$(printf '0.%03d' $((RANDOM % $1)))"
}

# family - mortal in the background, its daemon's pid in HOST
family() {
	ds_background -- "$VICTIMS/mortal" "$GUEST" 8 "$seed" \
		"$LOCALDIR/stop" >"$TESTDIR/out" 2>"$TESTDIR/err"
	eventually has_shadows
}

# has_shadows - the daemon of RUN, which is HOST then
has_shadows() {
	HOST=$(daemon_pids "$RUN") && [ -n "$HOST" ] &&
		[ -n "$(traced_by "$HOST")" ]
}

@test "200 shadows killed at random moments: the others go on" {
	local killed=0 i shadows victim

	sow
	family
	for ((i = 0; i < 3000 && killed < 200; i++)); do
		nap 40
		mapfile -t shadows < <(traced_by "$HOST")
		if [ "${#shadows[@]}" -lt 2 ]; then
			continue
		fi
		victim=${shadows[1 + RANDOM % (${#shadows[@]} - 1)]}
		if kill -KILL "$victim" 2>/dev/null; then
			killed=$((killed + 1))
		fi
	done
	: >"$LOCALDIR/stop"
	ended
	echo "status $status, $killed killed"
	cat "$TESTDIR/out"
	tail -n 5 "$TESTDIR/err"
	[ "$status" -eq 0 ]
	[ "$killed" -eq 200 ]
	grep -q born "$TESTDIR/out"
	assert_nothing_left
}

@test "all shadows at once killed at random moments: the session ends" {
	local i

	sow
	for ((i = 0; i < 10; i++)); do
		family
		nap 500
		# shellcheck disable=SC2046	# a word a process
		kill -KILL $(traced_by "$HOST") 2>/dev/null || true
		ended
		echo "status $status: $(tail -n 2 "$TESTDIR/err")"
		[ "$status" -eq 3 ] || [ "$status" -eq 125 ]
		grep -q "shadow of process\|host side" "$TESTDIR/err"
		assert_nothing_left
	done
}

# has_spare - the daemon of RUN, HOST, has made the first shadow ahead: SPARE
has_spare() {
	local shadows

	HOST=$(daemon_pids "$RUN") && [ -n "$HOST" ] || return
	mapfile -t shadows < <(traced_by "$HOST")
	SPARE=${shadows[1]:-}
	[ -n "$SPARE" ]
}

@test "the shadow that was made ahead is killed: there is another" {
	mkfifo "$LOCALDIR/go"
	echo hello >"$HOSTDIR/x"
	ds_background -- sh -c 'read -r _ <"$1"; cat "$2/x"' - \
		"$LOCALDIR/go" "$GUEST" >"$TESTDIR/out" 2>"$TESTDIR/err"
	eventually has_spare
	kill -KILL "$SPARE"
	eventually gone "$SPARE"
	echo go >"$LOCALDIR/go"
	ended
	cat "$TESTDIR/err"
	[ "$status" -eq 0 ]
	[ "$(cat "$TESTDIR/out")" = hello ]
	[ ! -s "$TESTDIR/err" ]
	assert_nothing_left
}
