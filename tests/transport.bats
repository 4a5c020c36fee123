#!/usr/bin/env bats
# transport.bats - run and host, together, apart, and killed

# What is in single quotes is for the target's shell.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

load helpers

# at ARG... - ds through the daemon that was started by hand
at() {
	ds --transport "loopback:$SOCKET" "$@"
}

# blocked_cat OPTION... - in the background, a cat that reads a forwarded FIFO
# (descriptor 8 here) and is known to have got there
blocked_cat() {
	mkfifo "$HOSTDIR/fifo"
	exec 8<>"$HOSTDIR/fifo"
	ds_background "$@" -- sh -c 'echo $$ >"$2/pid"; cat "$1/fifo"
		echo "cat $?"' - "$GUEST" "$LOCALDIR" \
		>"$TESTDIR/out" 2>"$TESTDIR/err" 8>&-
	echo begun >&8
	eventually grep -q begun "$TESTDIR/out"
}

@test "auto and loopback need no daemon to be started" {
	echo one >"$HOSTDIR/x"
	for transport in auto loopback; do
		run ds --transport "$transport" -- cat "$GUEST/x"
		[ "$status" -eq 0 ]
		[ "$output" = one ]
	done
}

@test "a daemon started by hand serves a run" {
	echo one >"$HOSTDIR/x"
	daemon --allow "path:$GUEST=$HOSTDIR"
	run at -- cat "$GUEST/x"
	[ "$status" -eq 0 ]
	[ "$output" = one ]
	run at -- "$VICTIMS/fds" "$GUEST" lowest cloexec offset_fork
	[ "$status" -eq 0 ]
}

@test "a daemon takes its policy from a file and from options" {
	echo "path:$GUEST=$HOSTDIR:ro" >"$TESTDIR/policy"
	echo one >"$HOSTDIR/x"
	daemon --policy "$TESTDIR/policy" --allow "path:$GUEST-2=$LOCALDIR"
	run shadowed --transport "loopback:$SOCKET" \
		--forward "path:$GUEST=$HOSTDIR:ro" \
		--forward "path:$GUEST-2=$LOCALDIR" -- cp "$GUEST/x" "$GUEST-2/y"
	[ "$status" -eq 0 ]
	[ "$(cat "$LOCALDIR/y")" = one ]
	run at -- true
	complains "path:$GUEST"
}

@test "a run without rules gets all that the daemon's policy allows" {
	echo one >"$HOSTDIR/x"
	daemon --allow "path:$GUEST=$HOSTDIR:ro" \
		--allow "path:$GUEST-2=$LOCALDIR"
	run shadowed --transport "loopback:$SOCKET" -- cp "$GUEST/x" "$GUEST-2/y"
	[ "$status" -eq 0 ]
	[ "$(cat "$LOCALDIR/y")" = one ]
	run shadowed --transport "loopback:$SOCKET" -- touch "$GUEST/x"
	[ "$status" -eq 1 ]
	[[ $output == *"Read-only file system"* ]]
}

@test "runs follow one another at one daemon" {
	daemon --allow "path:$GUEST=$HOSTDIR"
	for n in 1 2 3 4 5; do
		run at -- sh -c "echo $n >>$GUEST/x; exit $n"
		[ "$status" -eq "$n" ]
	done
	[ "$(cat "$HOSTDIR/x")" = $'1\n2\n3\n4\n5' ]
}

@test "two runs are served by one daemon at the same time" {
	daemon --allow "path:$GUEST=$HOSTDIR"
	mkfifo "$HOSTDIR/there" "$HOSTDIR/back"
	ds_background --transport "loopback:$SOCKET" -- \
		sh -c 'echo ping >"$1/there"; cat "$1/back"' - "$GUEST" \
		>"$TESTDIR/out"
	run at -- sh -c 'cat "$1/there"; echo pong >"$1/back"' - "$GUEST"
	[ "$output" = ping ]
	ended
	[ "$status" -eq 0 ]
	[ "$(cat "$TESTDIR/out")" = pong ]
}

@test "a run that ends disturbs no other at the same daemon" {
	daemon --allow "path:$GUEST=$HOSTDIR"
	blocked_cat --transport "loopback:$SOCKET"
	run at -- sh -c 'echo from another >"$1/fifo"' - "$GUEST"
	[ "$status" -eq 0 ]
	eventually grep -q "from another" "$TESTDIR/out"
	kill -KILL "$RUN"
	wait "$RUN" || true
	RUN=
	run at -- sh -c 'echo still >"$1/x"' - "$GUEST"
	[ "$status" -eq 0 ]
	[ "$(cat "$HOSTDIR/x")" = still ]
	exec 8>&-
}

@test "one run may not see what another was allowed" {
	mkdir "$HOSTDIR/a" "$HOSTDIR/b"
	echo a >"$HOSTDIR/a/x"
	echo b >"$HOSTDIR/b/x"
	daemon --allow "path:$GUEST/a=$HOSTDIR/a" \
		--allow "path:$GUEST/b=$HOSTDIR/b"
	ln -s ../b/x "$HOSTDIR/a/link"
	run shadowed --transport "loopback:$SOCKET" \
		--forward "path:$GUEST/a=$HOSTDIR/a" -- cat "$GUEST/a/x"
	[ "$output" = a ]
	run shadowed --transport "loopback:$SOCKET" \
		--forward "path:$GUEST/a=$HOSTDIR/a" -- cat "$GUEST/b/x"
	[ "$status" -eq 1 ]
}

@test "a daemon that is not there is named" {
	run at --timeout=1 -- true
	[ "$status" -eq 125 ]
	[[ ${lines[-1]} == *"$SOCKET"* ]]
	: >"$SOCKET"
	run at --timeout=1 -- true
	[ "$status" -eq 125 ]
	[[ ${lines[-1]} == *"$SOCKET"* ]]
	rm "$SOCKET"
}

@test "a transport that does not exist is named" {
	run ds --transport carrier-pigeon -- true
	complains carrier-pigeon
}

@test "a socket that cannot be made is named" {
	run "$DARKSHADOW" host --transport "loopback:$TESTDIR/none/socket"
	complains "$TESTDIR/none/socket"
	: >"$SOCKET"
	run "$DARKSHADOW" host --transport "loopback:$SOCKET"
	complains "$SOCKET"
	[ -f "$SOCKET" ]
	rm "$SOCKET"
}

@test "a second daemon leaves the first one's socket alone" {
	daemon --allow "path:$GUEST=$HOSTDIR"
	run timeout 10 "$DARKSHADOW" host --transport "loopback:$SOCKET"
	complains "$SOCKET"
	run at -- sh -c 'echo one >"$1/x"' - "$GUEST"
	[ "$status" -eq 0 ]
}

@test "a socket that a dead daemon left is taken over" {
	daemon --allow "path:$GUEST=$HOSTDIR"
	kill -KILL "$DAEMON"
	wait "$DAEMON" || true
	DAEMON=
	daemon --allow "path:$GUEST=$HOSTDIR"
	eventually at -- true
}

@test "a daemon ends at SIGTERM and removes its socket" {
	daemon --allow "path:$GUEST=$HOSTDIR"
	kill -TERM "$DAEMON"
	wait "$DAEMON" || true
	DAEMON=
	[ ! -e "$SOCKET" ]
}

@test "nonsense on its socket does not harm a daemon" {
	daemon --allow "path:$GUEST=$HOSTDIR"
	/usr/bin/python3 - "$SOCKET" <<-'END'
		import os, random, socket, sys
		random.seed(1)
		for n in (0, 1, 3, 4, 8, 16, 64, 256, 4096, 65000):
		    for fill in (b"\0", b"\xff", None):
		        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
		        s.connect(sys.argv[1])
		        data = fill * n if fill else random.randbytes(n)
		        try:
		            s.send(data)
		            s.send(data[:5])
		            socket.send_fds(s, [b"x"], [0, 1])
		        except OSError:
		            pass
		        s.close()
	END
	run at -- sh -c 'echo one >"$1/x"' - "$GUEST"
	[ "$status" -eq 0 ]
	[ "$(cat "$HOSTDIR/x")" = one ]
}

@test "a daemon killed in mid-call: EIO, and run says why" {
	daemon --allow "path:$GUEST=$HOSTDIR"
	blocked_cat --transport "loopback:$SOCKET"
	kill -KILL "$DAEMON"
	ended
	DAEMON=
	echo "status $status"
	cat "$TESTDIR/out" "$TESTDIR/err"
	[ "$status" -eq 0 ]
	grep -q "cat 1" "$TESTDIR/out"
	grep -q "Input/output error" "$TESTDIR/err"
	grep -q "^darkshadow.*host" "$TESTDIR/err"
	exec 8>&-
}

@test "an auto-started daemon killed in mid-call: the same" {
	blocked_cat
	for pid in $(daemon_pids "$RUN"); do
		kill -KILL "$pid"
	done
	ended
	echo "status $status"
	cat "$TESTDIR/out" "$TESTDIR/err"
	[ "$status" -eq 0 ]
	grep -q "cat 1" "$TESTDIR/out"
	grep -q "Input/output error" "$TESTDIR/err"
	exec 8>&-
}

@test "after the daemon's death forwarded calls fail, local ones work" {
	daemon --allow "path:$GUEST=$HOSTDIR"
	echo one >"$HOSTDIR/x"
	mkfifo "$LOCALDIR/go"
	exec 8<>"$LOCALDIR/go"
	ds_background --transport "loopback:$SOCKET" -- sh -c 'exec 5<"$1/x"
		echo up >"$2/up"; read -r go; read -r l <&5 || echo failed
		cat "$1/x" || echo failed; echo done >"$2/done"' - \
		"$GUEST" "$LOCALDIR" <"$LOCALDIR/go" \
		>"$TESTDIR/out" 2>"$TESTDIR/err" 8>&-
	eventually test -s "$LOCALDIR/up"
	kill -KILL "$DAEMON"
	wait "$DAEMON" || true
	DAEMON=
	# What it leaves behind dies with it, but not in the same moment.
	eventually grep -q "is gone" "$TESTDIR/err"
	echo go >&8
	ended
	[ "$status" -eq 0 ]
	[ "$(grep -c failed "$TESTDIR/out")" -eq 2 ]
	[ "$(cat "$LOCALDIR/done")" = "done" ]
	exec 8>&-
}

@test "run killed with SIGKILL: daemon, shadows and targets are gone" {
	blocked_cat
	local target
	target=$(cat "$LOCALDIR/pid")
	[ -n "$(daemon_pids "$RUN")" ]
	kill -KILL "$RUN"
	wait "$RUN" || true
	RUN=
	assert_nothing_left
	exec 8>&-
	# A zombie is gone: whoever is process 1 may be slow to take it.
	eventually sh -c '! grep -q "^State:[[:space:]]*[^Z]" "/proc/$1/status"' \
		- "$target" 2>/dev/null
}

forwarding() {
	grep -qs child "$HOSTDIR"/bomb.*/lines ||
		grep -qsa . "$HOSTDIR"/sixty_four.*/x
}

@test "run killed with SIGKILL while many processes and threads forward" {
	ds_background -- "$VICTIMS/threads" "$GUEST" sixty_four
	eventually forwarding
	kill -KILL "$RUN"
	wait "$RUN" || true
	rm -r "$HOSTDIR"/sixty_four.*
	ds_background -- "$VICTIMS/forkbomb" "$GUEST" bomb
	eventually forwarding
	kill -KILL "$RUN"
	wait "$RUN" || true
	RUN=
	assert_nothing_left
}

@test "a shadow killed with SIGKILL: its target sees EIO, others go on" {
	blocked_cat
	for pid in $(shadow_pids); do
		kill -KILL "$pid" || true
	done
	ended
	echo "status $status"
	cat "$TESTDIR/out" "$TESTDIR/err"
	grep -q "Input/output error" "$TESTDIR/err"
	exec 8>&-
}

@test "--timeout is given a number of seconds" {
	run ds --timeout=10 -- true
	[ "$status" -eq 0 ]
	run ds --timeout=soon -- true
	complains soon
}

@test "an ordinary user runs a daemon by hand" {
	as_user
	echo one >"$HOSTDIR/x"
	daemon --allow "path:$GUEST=$HOSTDIR"
	run at -- cat "$GUEST/x"
	[ "$output" = one ]
}

# shm_daemon - a daemon for a file of shared memory, until teardown
shm_daemon() {
	DS_TEST_MARK=$DS_MARK "${DS_AS[@]}" "$DARKSHADOW" host \
		--transport "shm:$TESTDIR/shm" --allow net \
		>"$TESTDIR/daemon.log" 2>&1 3>&- &
	DAEMON=$!
	eventually grep -qsa dkshadow "$TESTDIR/shm"
}

@test "a daemon makes the memory that it shares, and leaves it there" {
	shm_daemon
	[ "$(stat -c '%s %a' "$TESTDIR/shm")" = "4194304 600" ]
	kill -TERM "$DAEMON"
	wait "$DAEMON"
	DAEMON=
	[ -f "$TESTDIR/shm" ]
	shm_daemon
}

@test "a second daemon at the same memory is refused" {
	shm_daemon
	run timeout 10 "$DARKSHADOW" host --transport "shm:$TESTDIR/shm"
	complains "already"
	gone "$DAEMON" && return 1
	true
}

@test "a guest's kernel that is too old is named" {
	[ "$(id -u)" -eq 0 ] || skip "needs to see page frame numbers"
	shm_daemon
	# A sanitizer that looks for leaks cannot be traced.
	run env ASAN_OPTIONS=detect_leaks=0 \
		strace -qq -o /dev/null -e inject=madvise:error=EINVAL \
		"$DARKSHADOW" run --transport "shm:$TESTDIR/shm" -- true
	complains "too old"
}

@test "memory that cannot be used is named" {
	echo "my thesis" >"$TESTDIR/shm"
	truncate -s 1M "$TESTDIR/shm"
	run timeout 10 "$DARKSHADOW" host --transport "shm:$TESTDIR/shm"
	complains "something else"
	[ "$(head -n 1 "$TESTDIR/shm" | tr -d '\0')" = "my thesis" ]
	: >"$TESTDIR/small"
	truncate -s 64 "$TESTDIR/small"
	run timeout 10 "$DARKSHADOW" host --transport "shm:$TESTDIR/small"
	complains "too small"
	run timeout 10 "$DARKSHADOW" host --transport "shm:$TESTDIR/none/shm"
	complains "$TESTDIR/none/shm"
}

@test "memory without a daemon is waited for, and named" {
	truncate -s 1M "$TESTDIR/shm"
	run ds --transport "shm:$TESTDIR/shm" --timeout=1 -- true
	echo "$output"
	[ "$status" -eq 125 ]
	[[ ${lines[0]} == *waiting*"$TESTDIR/shm"* ]]
	[[ ${lines[-1]} == *"no daemon"* ]]
}

@test "a machine without the device for a transport is told so" {
	if [ -e /dev/mmapper ] ||
		grep -qs 0x1110 /sys/bus/pci/devices/*/device; then
		skip "this machine has such a device"
	fi
	run ds --transport shm -- true
	complains "no such device"
	run ds --transport hypercall -- true
	complains "no such device"
}

@test "a daemon for a VM that listens needs no VM to be there" {
	DS_TEST_MARK=$DS_MARK "$DARKSHADOW" host --allow net \
		--transport "hypercall:connect=$TESTDIR/vm" \
		>"$TESTDIR/daemon.log" 2>&1 3>&- &
	DAEMON=$!
	sleep 0.3
	if gone "$DAEMON"; then
		cat "$TESTDIR/daemon.log"
		return 1
	fi
}
