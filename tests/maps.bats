#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# maps.bats - `darkshadow maps`: recorded page tables, and those of processes
# of which it is known what they have
#
# recorded.py makes of text what /proc has; expected.txt and expected.json are
# what is to be shown of that.

# Bats sets status and output; each test is a subshell.
# shellcheck disable=SC2030,SC2031,SC2154

load helpers

setup() {
	common_setup
	RECORDED=$BATS_TEST_DIRNAME/maps
	MAPPED=
}

teardown() {
	if [ -n "$MAPPED" ]; then
		kill -KILL "$MAPPED" 2>/dev/null || true
	fi
	common_teardown
}

maps() {
	"${DS_AS[@]}" "$DARKSHADOW" maps "$@" 3>&-
}

# replay NAME [AWK] - recorded data as process 7 of $TESTDIR/proc; AWK changes
# lines of its pages
replay() {
	cp -r "$RECORDED/$1" "$TESTDIR/$1"
	awk "${2:-1}" "$RECORDED/$1/pages" >"$TESTDIR/$1/pages"
	"$RECORDED/recorded.py" replay "$TESTDIR/$1" "$TESTDIR/proc/7"
}

# mapped - the victim of that name, until the test ends; its regions are
# in $TESTDIR/mapped
mapped() {
	mkfifo "$TESTDIR/end"
	"${DS_AS[@]}" "$VICTIMS/mapped" <"$TESTDIR/end" \
		>"$TESTDIR/mapped" 3>&- &
	MAPPED=$!
	exec 4>"$TESTDIR/end"
	eventually grep -q ready "$TESTDIR/mapped"
}

# region NAME KEY - of the victim's region, from the JSON in $TESTDIR/json
region() {
	python3 - "$TESTDIR" "$1" "$2" <<-'END'
		import json, sys
		top, name, key = sys.argv[1:]
		names = dict(line.split() for line in open(top + "/mapped")
		             if " " in line)
		shown = json.load(open(top + "/json"))
		at = next(r for r in shown["regions"] if r["start"] == names[name])
		print(json.dumps(at[key]))
	END
}

# value EXPRESSION - of what $TESTDIR/json has, as "all"
value() {
	python3 -c 'import json, sys
all = json.load(open(sys.argv[1] + "/json"))
print(json.dumps(eval("(" + sys.argv[2] + ")")))' "$TESTDIR" "$1"
}

root_only() {
	[ "$(id -u)" -eq 0 ] || skip "page frames are shown to root only"
}

@test "a recorded shell is shown as it was" {
	replay shell
	maps --proc "$TESTDIR/proc" 7 | diff -u "$RECORDED/shell/expected.txt" -
}

@test "a page table with all there can be in it is shown as it should be" {
	replay made
	maps --proc "$TESTDIR/proc" 7 | diff -u "$RECORDED/made/expected.txt" -
}

@test "JSON has the same, and what the table has no room for" {
	replay made
	maps --json --proc "$TESTDIR/proc" 7 |
		diff -u "$RECORDED/made/expected.json" -
}

@test "--summary leaves the regions out" {
	replay made
	maps -s --proc "$TESTDIR/proc" 7 | diff -u <(
		sed -n -e '1,2p' -e '/^total/,$p' "$RECORDED/made/expected.txt"
	) -
	maps -js --proc "$TESTDIR/proc" 7 >"$TESTDIR/json"
	[ "$(value '"regions" in all')" = false ]
	[ "$(value 'all["totals"]["extents"]')" = 27 ]
}

@test "where frames are hidden the rest is shown, and what to do is said" {
	# shellcheck disable=SC2016	# awk's
	replay made '!/^#/ && $4 ~ /p/ { $3 = 0 } 1'
	run --separate-stderr maps --proc "$TESTDIR/proc" 7
	[ "$status" -eq 0 ]
	[[ $stderr == *"page frames are hidden"*"run as root"*setcap* ]]
	[ "${#stderr_lines[@]}" -eq 1 ]
	[[ $output == *"How many mmap()s a shadow needs is not known"* ]]
	[[ $output =~ total\ +17M\ +7.2M\ +\?\ +\?\ +\?\ +\?\ +168K ]]
	maps -j --proc "$TESTDIR/proc" 7 >"$TESTDIR/json" 2>/dev/null
	[ "$(value 'all["totals"]["extents"]')" = null ]
	[ "$(value 'all["totals"]["present"]')" = 1848 ]
}

@test "more mmap()s than a host allows are pointed out" {
	# shellcheck disable=SC2016	# awk's
	replay made '/^10200000/ { exit } 1'
	sed -i 's/^10200000-10a00000/10200000-30000000/; /^10a\|^200/d' \
		"$TESTDIR/made/maps"
	awk 'BEGIN { for (i = 0; i < 70000; i++)
		printf "%x 1 %x px\n", 270532608 + i * 4096, 900000 - i }' \
		>>"$TESTDIR/made/pages"
	"$RECORDED/recorded.py" replay "$TESTDIR/made" "$TESTDIR/proc/7"
	run maps -s --proc "$TESTDIR/proc" 7
	[ "$status" -eq 0 ]
	[[ $output == *"more than vm.max_map_count is on most hosts"* ]]
}

@test "recorded data that is cut off is said to be so" {
	replay made
	truncate -s 100 "$TESTDIR/proc/7/pagemap"
	run --separate-stderr maps --proc "$TESTDIR/proc" 7
	[ "$status" -eq 125 ]
	[[ $stderr == *"proc/7: "* ]]
	rm "$TESTDIR/proc/7/pagemap"
	run --separate-stderr maps --proc "$TESTDIR/proc" 7
	[ "$status" -eq 125 ]
	printf 'x\n' >"$TESTDIR/proc/7/maps"
	: >"$TESTDIR/proc/7/pagemap"
	run maps --proc "$TESTDIR/proc" 7
	[ "$status" -eq 125 ]
}

@test "what a process has present is found, and in how many extents" {
	root_only
	mapped
	maps -j "$MAPPED" >"$TESTDIR/json"
	[ "$(region scattered present)" = 1024 ]
	[ "$(region scattered extents)" = 1024 ]
	[ "$(region scattered largest)" = 1 ]
	[ "$(region protected extents)" -ge 1 ]
	[ "$(region protected prot)" = '"rw-p"' ]
	[ "$(region file file)" = 8 ]
	[ "$(region file prot)" = '"rw-s"' ]
	[ "$(region sparse present)" = 8 ]
	[ "$(value 'all["pid"]')" = "$MAPPED" ]
	[ "$(value 'all["name"]')" = '"mapped"' ]
	[ "$(value 'all["totals"]["extents"] == sum(r["extents"]
		for r in all["regions"])')" = true ]
	[ "$(value 'all["totals"]["present"] * 4096 <=
		all["totals"]["rss"] + (1 << 20)')" = true ]
}

@test "what a fork has left to be copied is not the process's own" {
	root_only
	mapped
	maps -j "$MAPPED" >"$TESTDIR/json"
	[ "$(region forked own)" = 4 ]
	[ "$(region forked shared)" = 12 ]
	[ "$(region forked extents)" -ge 2 ]
}

@test "memory that was only read is the page of zeros" {
	mapped
	maps -j "$MAPPED" >"$TESTDIR/json" 2>"$TESTDIR/err"
	if [ "$(region zero zero)" = null ]; then
		skip "to an ordinary user this is told since Linux 6.7"
	fi
	[ "$(region zero zero)" = 16 ]
	[ "$(region zero own)" = 0 ]
}

# bats test_tags=user
@test "an ordinary user sees what is present, and what is missing" {
	as_user
	mapped
	run --separate-stderr maps "$MAPPED"
	[ "$status" -eq 0 ]
	[[ $stderr == *"page frames are hidden"* ]]
	maps -j "$MAPPED" >"$TESTDIR/json" 2>/dev/null
	[ "$(region scattered present)" = 1024 ]
	[ "$(region scattered extents)" = null ]
	[ "$(region file file)" = 8 ]
	[ "$(region sparse present)" = 8 ]
	[ "$(region forked shared)" = 12 ]
}

# bats test_tags=user
@test "an ordinary user cannot look into the processes of others" {
	root_only
	mapped
	as_user
	run maps "$MAPPED"
	complains "process $MAPPED may not be looked into.*run as root"
}

@test "a process that is not there is said to be so" {
	run maps 999999999
	complains '/proc/999999999: there is no such process'
}

@test "one that has ended has no memory, and neither has the kernel's" {
	local pid

	root_only
	python3 -c 'import os, time
pid = os.fork() or os._exit(0)
print(pid, flush=True)
time.sleep(60)' >"$TESTDIR/pid" 3>&- &
	MAPPED=$!
	eventually test -s "$TESTDIR/pid"
	pid=$(cat "$TESTDIR/pid")
	eventually gone "$pid"
	run maps "$pid"
	complains "process $pid has no memory"
	run maps 2
	complains "process 2 has no memory|2: there is no such process"
}

@test "a command is shown when it ends, and its status is passed on" {
	run --separate-stderr maps -- sh -c 'echo said; exit 3'
	[ "$status" -eq 3 ]
	[ "$output" = said ]
	[[ $stderr =~ ^Process\ [0-9]+\ \(sh\),\ at\ its\ end ]]
	[[ $stderr == *"[stack]"* ]]
}

@test "one that is killed, and one whose last thread is not the first, too" {
	local way want

	for way in 3 "3 thread" "3 alone" "9 signal" "11 signal"; do
		want=${way%% *}
		[[ $way != *signal ]] || want=$((128 + want))
		: >"$TESTDIR/json"
		status=0
		# shellcheck disable=SC2086	# words
		maps -j -o "$TESTDIR/json" -- "$VICTIMS/mapped" $way \
			</dev/null >"$TESTDIR/mapped" 2>/dev/null || status=$?
		echo "$way: status $status"
		[ "$status" -eq "$want" ]
		[ "$(region scattered present)" = 1024 ]
		[ "$(value 'all["when"]')" = '"at its end"' ]
	done
}

@test "one whose first thread ends as another ends them all, every time" {
	local i

	for ((i = 0; i < 40; i++)); do
		: >"$TESTDIR/json"
		status=0
		maps -j -o "$TESTDIR/json" -- "$VICTIMS/mapped" 3 alone \
			</dev/null >"$TESTDIR/mapped" 2>/dev/null || status=$?
		[ "$status" -eq 3 ]
		[ "$(region scattered present)" = 1024 ]
	done
}

@test "a program that another thread executes is what is shown in the end" {
	run --separate-stderr maps -s -- "$VICTIMS/threadexec" \
		/bin/sh -c 'exit 5'
	[[ $stderr == *"(sh), at its end"* ]]
	[ "$(grep -c 'at its end' <<<"$stderr")" -eq 1 ]
}

@test "SIGUSR1 shows it while it runs" {
	mkfifo "$TESTDIR/end"
	"$DARKSHADOW" maps -s -o "$TESTDIR/shown" -- "$VICTIMS/mapped" \
		<"$TESTDIR/end" >"$TESTDIR/mapped" 2>/dev/null 3>&- &
	RUN=$!
	exec 4>"$TESTDIR/end"
	eventually grep -q ready "$TESTDIR/mapped"
	kill -USR1 "$RUN"
	eventually grep -q 'running' "$TESTDIR/shown"
	run ! grep -q 'at its end' "$TESTDIR/shown"
	exec 4>&-
	ended
	[ "$status" -eq 0 ]
	grep -q 'at its end' "$TESTDIR/shown"
}

@test "a command that is stopped stays so, and goes on when it is told to" {
	"$DARKSHADOW" maps -s -- sh -c 'kill -STOP $$; exit 4' \
		>"$TESTDIR/out" 2>&1 3>&- &
	RUN=$!
	eventually stopped_child "$RUN"
	kill -CONT "$(pgrep -P "$RUN")"
	ended
	[ "$status" -eq 4 ]
}

stopped_child() {
	local pid

	pid=$(pgrep -P "$1") && grep -q '^State:.[tT]' "/proc/$pid/status"
}

@test "when maps is killed the command goes on" {
	mkfifo "$TESTDIR/end"
	"$DARKSHADOW" maps -- sh -c "read x; echo done >$TESTDIR/done" \
		<"$TESTDIR/end" >/dev/null 2>&1 3>&- &
	RUN=$!
	exec 4>"$TESTDIR/end"
	eventually pgrep -P "$RUN"
	# It is the command by then.
	eventually grep -q sh "/proc/$(pgrep -P "$RUN")/comm"
	kill -KILL "$RUN"
	ended
	echo >&4
	eventually test -e "$TESTDIR/done"
}

@test "--collapse makes huge pages of a command's memory, and counts again" {
	root_only
	maps -j --collapse -o "$TESTDIR/json" -- "$VICTIMS/mapped" 0 huge \
		</dev/null >"$TESTDIR/mapped" 2>"$TESTDIR/err"
	if grep -q MADV_COLLAPSE "$TESTDIR/err"; then
		skip "the kernel is older than Linux 6.1"
	fi
	[ "$(value 'all["collapsed"]["blocks"] > 0')" = true ]
	# khugepaged may have done some of it before, or all.
	[ "$(value 'all["collapsed"]["extents"] <= all["collapsed"]["blocks"] +
		all["totals"]["extents_if_huge"]')" = true ]
	[ "$(value 'all["collapsed"]["huge"] // 512 >=
		all["collapsed"]["blocks"]')" = true ]
	[ "$(value 'all["totals"]["extents_if_huge"] <=
		all["totals"]["extents"]')" = true ]
}

# bats test_tags=user
@test "an ordinary user is told what --collapse needs" {
	as_user
	run maps --collapse -s -- true
	[ "$status" -eq 0 ]
	[[ $output == *"--collapse: "*"run as root"* ]]
}

@test "--collapse is refused for a process that was not launched for it" {
	run maps --collapse $$
	complains 'changes a process'
}

@test "a command that is not there is 127, one that cannot be executed 126" {
	run -127 maps -- "$TESTDIR/nothing"
	[[ $output == *"command not found"* ]]
	run -126 maps -- "$TESTDIR"
	[ "${#lines[@]}" -eq 1 ]
}

@test "what is wrong with the arguments is said" {
	run maps
	complains 'no PID and no -- COMMAND'
	run maps 1 2
	complains "unexpected argument '2'"
	run maps ls
	complains "'ls' is no process id; for a command put --"
	run maps 0
	complains "'0' is no process id"
	run maps 1 -- ls
	complains 'give one of them'
	run maps --proc "$TESTDIR" -- ls
	complains '--proc is for a PID'
	run maps -o "$TESTDIR/no/where" $$
	complains 'cannot be written: No such file'
}

@test "a report that cannot be written is our own failure" {
	# shellcheck disable=SC2016	# bash's
	run --separate-stderr bash -c '"$1" maps $$ >/dev/full' bash "$DARKSHADOW"
	[ "$status" -eq 125 ]
	[[ $stderr == *"cannot be written: No space left"* ]]
}

# on_terminal ENV... - the recorded table as a terminal is shown it
on_terminal() {
	env "$@" python3 -c '
import os, pty, sys
pty.spawn(sys.argv[1:])' "$DARKSHADOW" maps --proc "$TESTDIR/proc" 7 </dev/null
}

@test "there are colours on a terminal, unless NO_COLOR or a dumb one" {
	replay made
	on_terminal -u NO_COLOR TERM=xterm >"$TESTDIR/out"
	grep -q $'\033\[1mADDRESS' "$TESTDIR/out"
	grep -q $'\033\[2m000010000000' "$TESTDIR/out"
	on_terminal TERM=xterm NO_COLOR=1 >"$TESTDIR/out"
	run ! grep -q $'\033' "$TESTDIR/out"
	on_terminal -u NO_COLOR TERM=dumb >"$TESTDIR/out"
	run ! grep -q $'\033' "$TESTDIR/out"
}
