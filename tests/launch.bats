#!/usr/bin/env bats
# launch.bats - the command runs as if it had been started without darkshadow

# What is in single quotes is for the target's shell; bats sets stderr.
# shellcheck disable=SC2016,SC2154

load helpers

build_launched() {
	"${CC:-cc}" -std=gnu11 -O2 "$@" -pthread -o "$LOCALDIR/launched" \
		"$BATS_TEST_DIRNAME/victims/launched.c"
	echo -n "one text" >"$HOSTDIR/text"
}

# shadowed_by BY... -- COMMAND... - darkshadow itself is run by something
shadowed_by() {
	local by=()

	while [ "$1" != -- ]; do
		by+=("$1")
		shift
	done
	timeout --foreground -k 10 "$DS_TEST_TIMEOUT" "${by[@]}" -- \
		"$DARKSHADOW" run --forward "path:$GUEST=$HOSTDIR" "$@" 3>&-
}

# on_terminal SCRIPT WAIT KEYS - runs a shell script under darkshadow on a
# terminal of its own, types KEYS once WAIT was printed, prints what was
# shown and exits as darkshadow did
on_terminal() {
	DS_TEST_MARK=$DS_MARK timeout -k 10 "$DS_TEST_TIMEOUT" \
		/usr/bin/python3 - "$DARKSHADOW" "path:$GUEST=$HOSTDIR" "$@" <<-'END'
		import os, pty, sys
		ds, rule, script, wait, keys = sys.argv[1:6]
		pid, fd = pty.fork()
		if pid == 0:
		    os.execv(ds, [ds, "run", "-f", rule, "--", "sh", "-c", script])
		shown = b""
		typed = False
		while True:
		    try:
		        got = os.read(fd, 4096)
		    except OSError:
		        break
		    if not got:
		        break
		    shown += got
		    if not typed and wait.encode() in shown:
		        os.write(fd, keys.encode().decode("unicode_escape").encode())
		        typed = True
		sys.stdout.write(shown.decode().replace("\r\n", "\n"))
		sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
	END
}

@test "exit status of the command is passed through" {
	for n in 0 1 2 42 124 125 126 127 128 200 255; do
		run "-$n" ds -- sh -c "exit $n"
	done
}

@test "the command may follow the options without two dashes" {
	run ds echo -n x -s
	[ "$status" -eq 0 ]
	[ "$output" = "x -s" ]
}

@test "a command that dies of a signal gives 128 and its number" {
	for sig in HUP:129 INT:130 QUIT:131 KILL:137 SEGV:139 PIPE:141 \
		TERM:143; do
		run ds -- sh -c "kill -${sig%:*} \$\$"
		[ "$status" -eq "${sig#*:}" ]
	done
}

continue_until_gone() {
	kill -CONT "$(cat "$LOCALDIR/pid")" 2>/dev/null || true
	gone "$RUN"
}

@test "a command that stops itself is continued from outside" {
	ds_background -- sh -c 'echo $$ >"$1"; kill -STOP $$; exit 3' - \
		"$LOCALDIR/pid"
	eventually test -s "$LOCALDIR/pid"
	eventually continue_until_gone
	ended
	[ "$status" -eq 3 ]
}

@test "a command that does not exist gives 127 and says its name" {
	run -127 ds -- no-such-command-at-all
	[[ $output == *no-such-command-at-all* ]]
	run -127 ds -- /no/such/path
	[[ $output == */no/such/path* ]]
}

@test "a command that cannot be executed gives 126 and says its name" {
	echo data >"$LOCALDIR/plain"
	run ds -- "$LOCALDIR/plain"
	[ "$status" -eq 126 ]
	[[ $output == *"$LOCALDIR/plain"* ]]
	run ds -- "$LOCALDIR"
	[ "$status" -eq 126 ]
}

@test "our own failures give 125" {
	run "$DARKSHADOW" run --no-such-option -- true
	[ "$status" -eq 125 ]
	run "$DARKSHADOW" run
	[ "$status" -eq 125 ]
	run "$DARKSHADOW" run -f "path:$GUEST=$HOSTDIR" -t nonsense -- true
	[ "$status" -eq 125 ]
}

@test "standard input, output and error are the command's own" {
	run --separate-stderr ds -- sh -c 'cat; echo err >&2' <<<"some input"
	[ "$status" -eq 0 ]
	[ "$output" = "some input" ]
	[ "$stderr" = "err" ]
}

# Without run: its pipe would take the number that is free.
@test "a closed standard input or output stays closed" {
	ds -- sh -c 'test ! -e /proc/self/fd/0' <&-
	ds -- sh -c 'test ! -e /proc/self/fd/1' >&-
	ds -- sh -c 'test ! -e /proc/self/fd/2' 2>&-
}

@test "other open descriptors are inherited, and none is added" {
	exec 7<"$TESTDIR/secret"
	run ds -- sh -c 'cat <&7'
	[ "$output" = "the secret of the host" ]
	exec 7<&-
	native=$(bash -c 'ls /proc/self/fd' 3>&- | tr '\n' ' ')
	run ds -- bash -c 'ls /proc/self/fd | tr "\n" " "'
	[ "$output" = "$native" ]
}

@test "arguments and environment arrive unchanged" {
	run ds -- printf '<%s>' "" "a b" $'new\nline' '*' "--" "-f" "ü"
	[ "$output" = $'<><a b><new\nline><*><--><-f><ü>' ]
	export DS_ODD=$'x y\nz=1'
	native=$(env -u DS_TEST_MARK env | grep -v '^_=' | sort)
	ds -- env | grep -v -e '^_=' -e '^DS_TEST_MARK=' | sort >"$TESTDIR/env"
	[ "$(cat "$TESTDIR/env")" = "$native" ]
}

@test "working directory, umask and limits arrive unchanged" {
	cd "$LOCALDIR"
	run ds -- pwd
	[ "$output" = "$LOCALDIR" ]
	run ds -- sh -c 'umask 027; umask'
	[ "$output" = 0027 ]
	(umask 070 && ds -- sh -c umask) | grep -x 0070
	[ "$(ds -- sh -c 'ulimit -n; ulimit -Hn; ulimit -s')" = \
		"$(sh -c 'ulimit -n; ulimit -Hn; ulimit -s')" ]
	[ "$(ds -- grep -E '^Sig(Ign|Blk|Cgt)' /proc/self/status)" = \
		"$(grep -E '^Sig(Ign|Blk|Cgt)' /proc/self/status)" ]
}

@test "ignored signals stay ignored" {
	run --separate-stderr bash -c 'trap "" USR1; "$@"' - \
		"$DARKSHADOW" run -- \
		sh -c 'kill -USR1 $$; echo alive'
	[ "$output" = alive ]
}

@test "a dynamic position-independent program runs" {
	build_launched -pie -fPIE
	ds -- "$LOCALDIR/launched" "$GUEST/text" "one text"
}

@test "a dynamic program at fixed addresses runs" {
	build_launched -no-pie -fno-pie
	ds -- "$LOCALDIR/launched" "$GUEST/text" "one text"
}

@test "a static program runs" {
	build_launched -static
	ds -- "$LOCALDIR/launched" "$GUEST/text" "one text"
}

@test "a static position-independent program runs" {
	build_launched -static-pie -fPIE
	ds -- "$LOCALDIR/launched" "$GUEST/text" "one text"
}

@test "a program begins with registers of zero" {
	"${CC:-cc}" -nostdlib -static -x assembler -o "$LOCALDIR/first" - <<-'END'
		.globl _start
		_start:
			or %rax, %rbx
			or %rcx, %rbx
			or %rdx, %rbx
			or %rsi, %rbx
			or %rdi, %rbx
			or %rbp, %rbx
			or %r8, %rbx
			or %r9, %rbx
			or %r10, %rbx
			or %r11, %rbx
			or %r12, %rbx
			or %r13, %rbx
			or %r14, %rbx
			or %r15, %rbx
			xor %edi, %edi
			test %rbx, %rbx
			setne %dil
			mov $60, %eax
			syscall
	END
	"$LOCALDIR/first"
	ds -- "$LOCALDIR/first"
	ds -- sh -c 'exec "$1"' - "$LOCALDIR/first"
}

@test "a program with an executable stack runs" {
	build_launched -z execstack
	ds -- "$LOCALDIR/launched" "$GUEST/text" "one text"
}

@test "a program of another C library (busybox, static) runs" {
	busybox=$(command -v busybox)
	echo one >"$HOSTDIR/x"
	run ds -- "$busybox" sh -c "cat $GUEST/x; ls $GUEST"
	[ "$output" = $'one\nx' ]
}

@test "a script with an interpreter line runs" {
	printf '#!/bin/sh\nread -r line <%s/x\necho "$1:$line"\n' "$GUEST" \
		>"$LOCALDIR/script"
	chmod +x "$LOCALDIR/script"
	echo one >"$HOSTDIR/x"
	run ds -- "$LOCALDIR/script" arg
	[ "$output" = "arg:one" ]
}

@test "a script in PATH runs" {
	printf '#!/usr/bin/env bash\ncat %s/x\n' "$GUEST" >"$LOCALDIR/reader"
	chmod +x "$LOCALDIR/reader"
	echo one >"$HOSTDIR/x"
	PATH=$LOCALDIR:$PATH run ds -- reader
	[ "$output" = one ]
}

@test "a thread that is not the leader executes another program" {
	echo one >"$HOSTDIR/x"
	run ds -- "$VICTIMS/threadexec" cat "$GUEST/x"
	[ "$status" -eq 0 ]
	[ "$output" = one ]
	run ds -- "$VICTIMS/threadexec" sh -c 'exit 9'
	[ "$status" -eq 9 ]
}

@test "without any rule a command runs as it is" {
	run --separate-stderr shadowed -- echo nothing forwarded
	[ "$status" -eq 0 ]
	[ "$output" = "nothing forwarded" ]
	run shadowed -- cat "$GUEST/x"
	[ "$status" -eq 1 ]
}

@test "the forwarded name does not exist on the target's side" {
	echo one >"$HOSTDIR/x"
	[ ! -e "$GUEST" ]
	[ "$(ds -- cat "$GUEST/x")" = one ]
	[ ! -e "$GUEST" ]
}

@test "the terminal is the command's" {
	run on_terminal "test -t 0 && test -t 1 && test -t 2 && tty" "" ""
	[ "$status" -eq 0 ]
	[[ $output == /dev/pts/* ]]
	run script -qec "\"$DARKSHADOW\" run -f path:$GUEST=$HOSTDIR -- \
		sh -c 'test -t 0 && test -t 1 && stty size >/dev/null'" \
		/dev/null </dev/null
	[ "$status" -eq 0 ]
}

@test "control-C on the terminal interrupts the command" {
	run on_terminal 'echo ready; exec cat' ready '\x03'
	[ "$status" -eq 130 ]
}

@test "control-C on the terminal interrupts a forwarded read" {
	mkfifo "$HOSTDIR/fifo"
	exec 8<>"$HOSTDIR/fifo"
	run on_terminal "echo ready; exec cat $GUEST/fifo" ready '\x03'
	[ "$status" -eq 130 ]
	exec 8>&-
}

@test "end of file on the terminal reaches the command" {
	run on_terminal 'echo ready; cat; echo end' ready 'typed\n\x04'
	[ "$status" -eq 0 ]
	[[ $output == *typed*end* ]]
}

@test "job control works: a shell stops, lists and continues a job" {
	cat >"$LOCALDIR/jobs.sh" <<-'END'
		set -m
		cat "$1/fifo" >"$2/out" &
		kill -STOP %1
		until jobs | grep -qi stopped; do :; done
		echo stopped
		kill -CONT %1
		echo through >"$1/fifo"
		wait %1
		cat "$2/out"
	END
	mkfifo "$HOSTDIR/fifo"
	run on_terminal "bash $LOCALDIR/jobs.sh $GUEST $LOCALDIR" "" ""
	[ "$status" -eq 0 ]
	[[ $output == *stopped*through* ]]
}

@test "what is refused here is named before the command runs" {
	run -125 shadowed_by "$VICTIMS/denied" process_vm -- true
	[[ $output == *"process_vm_readv(2) is refused here"*doctor* ]]
	run -125 shadowed_by sh -c 'ulimit -f 100; shift; exec "$@"' - -- true
	[[ $output == *"File too large"*"ulimit -f unlimited"* ]]
}

@test "a shadow that cannot be made is an error of the call, and hangs nobody" {
	run -2 shadowed_by "$VICTIMS/denied" close_range -- ls "$GUEST"
	[[ $output == *"shadow could not be prepared: Operation not permitted"* ]]
	[[ $output == *"Input/output error"* ]]
}

@test "a SIGTERM for darkshadow itself ends the command" {
	ds_background -- sh -c 'echo up >"$1"; exec sleep 1000' - \
		"$LOCALDIR/up"
	eventually test -s "$LOCALDIR/up"
	kill -TERM "$RUN"
	ended
	[ "$status" -eq 143 ]
}

@test "a background process outlives the command and goes on forwarding" {
	mkfifo "$HOSTDIR/fifo"
	exec 8<>"$HOSTDIR/fifo"
	ds_background -- sh -c 'echo $$ >"$2/pid"
		(read -r x <"$1/fifo"; echo "$x" >"$1/out") & exit 5' - \
		"$GUEST" "$LOCALDIR" 8>&-
	eventually test -s "$LOCALDIR/pid"
	eventually gone "$(cat "$LOCALDIR/pid")"
	echo through >&8
	ended
	[ "$status" -eq 5 ]
	[ "$(cat "$HOSTDIR/out")" = through ]
	exec 8>&-
}
