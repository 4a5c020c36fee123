#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# vms.bats - real VMMs, their RAM and its layout as darkshadow finds them
#
# Every QEMU here is stopped before its first instruction (-S) and its memory
# is sparse, so it needs no kernel, no KVM and little memory. Other VMs may run
# on the machine: names are of this test, and only they are looked at.

# Bats sets status and output; each test is a subshell; commas are QEMU's.
# shellcheck disable=SC2030,SC2031,SC2054,SC2154

load helpers

setup() {
	common_setup
	VMS=()
}

teardown() {
	local pid status=0

	for pid in "${VMS[@]}"; do
		kill -KILL "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	# Helpers and processes of a User-Mode Linux that was killed live on.
	for pid in $(marked_pids); do
		case $(readlink "/proc/$pid/exe") in
		*/linux.uml) kill -KILL "$pid" || true ;;
		esac
	done
	common_teardown || status=1
	return "$status"
}

# name WORD - a name that is of this test alone
name() {
	echo "$DS_MARK-$1"
}

# boot WORD ARG... - a QEMU of that name; PID is its process. It is up when it
# has its RAM, and listens where it is told to.
boot() {
	local word=$1

	shift
	command -v qemu-system-x86_64 >/dev/null || {
		echo "install qemu-system-x86" >&2
		return 1
	}
	(cd "$TESTDIR" && exec env DS_TEST_MARK="$DS_MARK" \
		"${DS_AS[@]}" qemu-system-x86_64 -S -display none \
		-name "$(name "$word"),debug-threads=on" -nodefaults \
		-pidfile "$TESTDIR/$word.pid" \
		"$@" >"$TESTDIR/$word.log" 2>&1 3>&-) &
	PID=$!
	VMS+=("$PID")
	eventually up "$word"
}

# Its processors' threads come after its RAM and its sockets.
up() {
	[ -s "$TESTDIR/$1.pid" ] && grep -qs '^CPU ' "/proc/$PID"/task/*/comm
}

# shared WORD MACHINE SIZE ARG... - one that can be shadowed
shared() {
	local word=$1 machine=$2 size=$3

	shift 3
	boot "$word" -machine "$machine,memory-backend=ram" -m "$size" \
		-object "memory-backend-memfd,id=ram,size=$size,share=on" "$@"
}

qmp() {
	echo "unix:$TESTDIR/$1,server=on,wait=off"
}

# told PID [PYTHON] - of what `vms --json` says of a process, v: what is asked
told() {
	"${DS_AS[@]}" "$DARKSHADOW" vms --json 3>&- | /usr/bin/python3 -c '
import json, sys
v = [v for v in json.load(sys.stdin) if v["pid"] == int(sys.argv[1])]
assert len(v) == 1, v
print(eval(sys.argv[2], {"v": v[0]}))' "$1" "${2:-v}"
}

ranges() {
	told "$1" '"\n".join("%x %x %x" % (r["gpa"], r["len"], r["off"])
		for r in v["ranges"])'
}

# monitor SOCKET COMMAND... - lines of the human monitor, by a client of our own
monitor() {
	/usr/bin/python3 - "$@" <<-'END'
		import json, socket, sys
		s = socket.socket(socket.AF_UNIX)
		s.connect(sys.argv[1])
		f = s.makefile("rw")
		f.readline()
		def ask(execute, **arguments):
		    f.write(json.dumps({"execute": execute,
		                        "arguments": arguments}) + "\n")
		    f.flush()
		    while True:
		        answer = json.loads(f.readline())
		        if "return" in answer:
		            return answer["return"]
		        assert "error" not in answer, answer
		ask("qmp_capabilities")
		for line in sys.argv[2:]:
		    print(ask("human-monitor-command",
		              **{"command-line": line}), end="")
	END
}

# host ARG... - a daemon that is expected to refuse
host() {
	timeout --foreground -k 10 "$DS_TEST_TIMEOUT" "${DS_AS[@]}" \
		"$DARKSHADOW" host --transport "loopback:$SOCKET" "$@" 3>&-
}

# uml_binary - sets UML to a kernel, downloaded once if the build has none
uml_binary() {
	local dir=$BUILD/vm/uml deb

	UML=$dir/usr/bin/linux.uml
	[ -x "$UML" ] && return 0
	mkdir -p "$dir"
	deb=$(mktemp -d)
	if ! (cd "$deb" && apt-get download user-mode-linux) >&2; then
		rm -r "$deb"
		echo "cannot download user-mode-linux" >&2
		return 1
	fi
	dpkg-deb -x "$deb"/*.deb "$dir"
	rm -r "$deb"
}

# uml WORD ARG... - a User-Mode Linux with that umid whose init sleeps; PID
uml() {
	local word=$1

	shift
	uml_binary
	(cd "$TESTDIR" && exec env DS_TEST_MARK="$DS_MARK" HOME="$TESTDIR" \
		LD_PRELOAD="$BUILD/vm/xstate.so" \
		"$UML" mem=64M rootfstype=hostfs root=/dev/root ro \
		init=/bin/sleep con=null con0=null,fd:1 "$@" 300 \
		>"$TESTDIR/$word.log" 2>&1 </dev/null 3>&-) &
	PID=$!
	VMS+=("$PID")
	eventually grep -qs '/bin/sleep as init' "$TESTDIR/$word.log"
}

# same_both_ways MACHINE SIZE - by QMP and by command line; PID is left running
same_both_ways() {
	local by_qmp

	shared "q$1$2" "$1" "$2" -qmp "$(qmp "$1$2")"
	[ "$(told "$PID" 'v["layout"]')" = QMP ]
	by_qmp=$(ranges "$PID")
	shared "c$1$2" "$1" "$2"
	[ "$(told "$PID" 'v["layout"]')" = "command line" ]
	diff -u <(echo "$by_qmp") <(ranges "$PID")
}

@test "QMP and command line agree on q35, on both sides of its split" {
	same_both_ways q35 512M
	[ "$(ranges "$PID")" = $'0 a0000 0\n100000 1ff00000 100000' ]
	same_both_ways q35 2815M
	same_both_ways q35 2816M
	same_both_ways q35 3G
	[ "$(ranges "$PID" | tail -1)" = "100000000 40000000 80000000" ]
	same_both_ways q35 4G
	same_both_ways pc-q35-2.10 3G
}

@test "QMP and command line agree on pc, on both sides of its split" {
	same_both_ways pc 512M
	[ "$(ranges "$PID")" = $'0 a0000 0\n100000 1ff00000 100000' ]
	same_both_ways pc 3G
	same_both_ways pc 3583M
	same_both_ways pc 3584M
	same_both_ways pc 4G
	[ "$(ranges "$PID" | tail -1)" = "100000000 40000000 c0000000" ]
	same_both_ways pc-i440fx-2.0 4G
}

@test "QMP and command line agree on microvm, on both sides of its split" {
	same_both_ways microvm 512M
	[ "$(ranges "$PID")" = $'0 a0000 0\n100000 1ff00000 100000' ]
	same_both_ways microvm 3G
	same_both_ways microvm 3073M
	same_both_ways microvm 4G
	[ "$(ranges "$PID" | tail -1)" = "100000000 40000000 c0000000" ]
}

@test "what is written at a range's place in the file is what the guest has" {
	local gpa len off at

	shared alpha q35 3G -qmp "$(qmp mon)"
	while read -r gpa len off; do
		for at in 0 $((0x$len - 4096)); do
			printf 'GPA%013x' $((0x$gpa + at)) | dd status=none \
				of="/proc/$PID/fd/$(ram_fd "$PID")" bs=1 \
				seek=$((0x$off + at)) conv=notrunc
			monitor "$TESTDIR/mon" "pmemsave $((0x$gpa + at)) 16 \
				\"$TESTDIR/seen\""
			[ "$(cat "$TESTDIR/seen")" = \
				"$(printf 'GPA%013x' $((0x$gpa + at)))" ]
		done
	done < <(ranges "$PID")
}

# ram_fd PID - the number of the descriptor of the RAM file
ram_fd() {
	local fd

	for fd in /proc/"$1"/fd/*; do
		case $(readlink "$fd") in
		/memfd:memory-backend-memfd*) basename "$fd" ;;
		esac
	done
}

@test "device memory that is a shared file too is no RAM" {
	truncate -s 4M "$TESTDIR/ds"
	shared alpha q35 512M -vga std -qmp "$(qmp mon)" -object \
		"memory-backend-file,id=ds,mem-path=$TESTDIR/ds,size=4M,share=on" \
		-device ivshmem-plain,memdev=ds
	[ "$(ranges "$PID")" = $'0 a0000 0\n100000 1ff00000 100000' ]
}

@test "after the firmware has run the layout is the same" {
	local before

	shared alpha q35 512M -vga std -qmp "$(qmp mon)"
	before=$(ranges "$PID")
	monitor "$TESTDIR/mon" cont
	eventually firmware_ran
	monitor "$TESTDIR/mon" stop
	[ "$(ranges "$PID")" = "$before" ]
}

# Where the BIOS was ROM it has made RAM.
firmware_ran() {
	monitor "$TESTDIR/mon" 'info mtree -f' | grep -q 'f0000-.* rom): ram'
}

@test "a RAM file with a name, and in a directory" {
	boot named -machine q35,memory-backend=ram -m 256M -object \
		"memory-backend-file,id=ram,mem-path=$TESTDIR/ram,size=256M,share=on"
	[ "$(told "$PID" 'v["layout"]')" = "command line" ]
	boot inside -machine q35,memory-backend=ram -m 256M -object \
		"memory-backend-file,id=ram,mem-path=$TESTDIR,size=256M,share=on"
	[ "$(told "$PID" 'v["shadow"]')" = True ]
	boot json -machine q35,memory-backend=ram -m size=262144k -object \
		'{"qom-type":"memory-backend-memfd","id":"ram","size":268435456,"share":true}'
	[ "$(told "$PID" 'v["memory"], v["shadow"]')" = "(268435456, True)" ]
}

@test "a second shared file of RAM's size is told apart" {
	truncate -s 256M "$TESTDIR/ds"
	shared alpha q35 256M -object \
		"memory-backend-file,id=ds,mem-path=$TESTDIR/ds,size=256M,share=on" \
		-device ivshmem-plain,memdev=ds
	[ "$(told "$PID" 'v["layout"]')" = "command line" ]
	shared beta q35 256M -object \
		memory-backend-memfd,id=ds,size=256M,share=on \
		-device ivshmem-plain,memdev=ds
	run host --vm "pid:$PID"
	complains 'several shared mappings.*-qmp'
	shared gamma q35 256M -qmp "$(qmp mon)" -object \
		memory-backend-memfd,id=ds,size=256M,share=on \
		-device ivshmem-plain,memdev=ds
	[ "$(told "$PID" 'v["layout"]')" = QMP ]
}

@test "a VM is found by name, pid and QMP socket" {
	local spec

	shared alpha pc 256M -chardev \
		"socket,id=c,path=$TESTDIR/mon,server=on,wait=off" \
		-mon chardev=c,mode=control
	for spec in "$(name alpha)" "pid:$PID" "qmp:$TESTDIR/mon"; do
		daemon --vm "$spec" -v --allow net
		grep -q "process $PID, 256 MiB" "$TESTDIR/daemon.log"
		kill "$DAEMON"
		wait "$DAEMON"
	done
	DAEMON=
}

@test "a QMP socket with a relative name is found" {
	shared alpha isapc 256M -qmp unix:mon,server=on,wait=off
	[ "$(told "$PID" 'v["layout"]')" = QMP ]
}

@test "a QMP socket that QEMU was handed as a descriptor is found" {
	command -v qemu-system-x86_64
	(cd "$TESTDIR" && exec /usr/bin/python3 -c '
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind("/" + sys.argv[1].strip("/") + "/handed")
s.listen()
os.set_inheritable(s.fileno(), True)
os.execvp("qemu-system-x86_64", ["qemu-system-x86_64", "-S", "-display",
    "none", "-nodefaults", "-machine", "isapc,memory-backend=ram", "-m",
    "64M", "-object", "memory-backend-memfd,id=ram,size=64M,share=on",
    "-chardev", "socket,id=c,fd=%d,server=on,wait=off" % s.fileno(),
    "-mon", "chardev=c,mode=control"])' "$TESTDIR" 3>&-) &
	PID=$!
	VMS+=("$PID")
	eventually answers
}

answers() {
	[ "$(told "$PID" 'v["shadow"] and v["layout"]' 2>&1)" = QMP ]
}

@test "vms lists what runs, and exits with 0 only if one can be shadowed" {
	shared alpha q35 256M
	run --separate-stderr "$DARKSHADOW" vms
	[ "$status" -eq 0 ]
	grep -E "^$(name alpha) +$PID +qemu +256M +q35 +yes$" <<<"$output"
	boot beta -m 256M
	run --separate-stderr "$DARKSHADOW" vms
	grep -E "^$(name beta) +$PID +qemu +256M +- +no: .*private" \
		<<<"$output"
	# In a PID namespace of its own there is none.
	[ "$(id -u)" -eq 0 ] || return 0
	run unshare -fp --mount-proc "$DARKSHADOW" vms
	[ "$status" -eq 1 ]
	[[ $output == *"no VM runs here"* ]]
	run unshare -fp --mount-proc "$DARKSHADOW" vms --json
	[ "$status" -eq 1 ]
	[ "$output" = "[]" ]
	run unshare -fp --mount-proc "$DARKSHADOW" host --vm alpha \
		--transport "loopback:$SOCKET"
	complains 'no VM runs here.*-name alpha'
}

@test "a hostile name does no harm" {
	shared alpha q35 64M -name $'guest=x\e[31m\nyes\xff"\\,debug-threads=on'
	run "$DARKSHADOW" vms
	[ "$status" -eq 0 ]
	grep -F 'x?[31m?yes' <<<"$output"
	[[ $output != *$'\e'* ]]
	[ "$(told "$PID" 'v["shadow"]')" = True ]
}

@test "the daemon ends when the VM does" {
	shared alpha q35 256M
	daemon --vm "$(name alpha)" --allow net
	kill -KILL "$PID"
	eventually gone "$DAEMON"
	wait "$DAEMON"
	DAEMON=
	[ ! -e "$SOCKET" ]
}

@test "a run that brings its own memory is refused by a VM's daemon" {
	shared alpha q35 256M
	daemon --vm "$(name alpha)" --allow "path:$GUEST=$HOSTDIR"
	run ds --transport "loopback:$SOCKET" -- true
	complains "serves the VM $(name alpha).*inside the VM"
}

@test "a VM that is not there: those that are get named" {
	boot alpha -m 64M
	run host --vm "$(name beta)"
	complains "no VM of this name.*$(name alpha) \(pid $PID\)"
	run host --vm pid:0
	complains 'expected pid:N'
	run host --vm pid:x
	complains 'expected pid:N'
	run host --vm pid:999999999
	complains 'no process 999999999'
	run host --vm "pid:$$"
	complains "process $$ is no QEMU"
	run host --vm "uml:$(name alpha)"
	complains 'no VM of this name'
	run host --vm ''
	complains 'expected NAME'
	run host --vm "qmp:$TESTDIR/none"
	complains "no QMP socket $TESTDIR/none.*-qmp"
}

@test "two VMs of one name: their numbers are shown" {
	local first

	boot alpha -m 64M
	first=$PID
	rm "$TESTDIR/alpha.pid"
	boot alpha -m 64M
	run host --vm "$(name alpha)"
	complains '2 VMs have this name'
	[[ $output == *pid:$first* ]]
	[[ $output == *pid:$PID* ]]
}

@test "private RAM: the options that are shown do help" {
	local options

	boot alpha -machine q35 -m 96M
	run host --vm "$(name alpha)"
	complains 'RAM is private'
	options=$(grep -o -e '-object.*' <<<"$output")
	boot beta -machine q35 -m 96M -qmp "$(qmp mon)"
	run host --vm "$(name beta)"
	complains 'RAM is private'
	[ "$(grep -o -e '-object.*' <<<"$output")" = "$options" ]
	# shellcheck disable=SC2086 # they are words
	boot gamma -machine q35 -m 96M $options
	[ "$(told "$PID" 'v["shadow"]')" = True ]
	boot delta -machine q35,memory-backend=ram -m 96M -object \
		"memory-backend-file,id=ram,mem-path=$TESTDIR/ram,size=96M"
	run host --vm "$(name delta)"
	complains 'RAM is private'
}

@test "RAM in huge pages is refused" {
	# Nothing is reserved, so the machine need not have any.
	local huge=(-machine q35,memory-backend=ram -m 64M -object
		memory-backend-memfd,id=ram,size=64M,share=on,hugetlb=on,hugetlbsize=2M,reserve=off)

	boot alpha "${huge[@]}"
	run host --vm "$(name alpha)"
	complains 'huge pages.*2048 KiB.*hugetlb=on'
	boot beta "${huge[@]}" -qmp "$(qmp mon)"
	run host --vm "$(name beta)"
	complains 'huge pages.*2048 KiB.*hugetlb=on'
}

@test "RAM in several backends is refused" {
	local numa=(-machine q35 -m 128M -smp 2
		-object memory-backend-memfd,id=a,size=64M,share=on
		-object memory-backend-memfd,id=b,size=64M,share=on
		-numa node,memdev=a -numa node,memdev=b)

	boot alpha "${numa[@]}"
	run host --vm "$(name alpha)"
	complains 'several memory backends'
	boot beta "${numa[@]}" -qmp "$(qmp mon)"
	run host --vm "$(name beta)"
	complains 'several memory backends'
}

@test "one NUMA node is no obstacle" {
	boot alpha -machine q35 -m 64M -numa node,memdev=a \
		-object memory-backend-memfd,id=a,size=64M,share=on
	[ "$(told "$PID" 'v["shadow"]')" = True ]
}

@test "what could change the layout is refused without QMP, and works with" {
	local by

	by="memory-backend=ram -m 64M -object
		memory-backend-memfd,id=ram,size=64M,share=on"
	# shellcheck disable=SC2086 # they are words
	boot alpha -machine isapc,$by
	run host --vm "$(name alpha)"
	complains 'machine type isapc is not known.*-qmp'
	# shellcheck disable=SC2086
	boot beta -machine pc-i440fx-1.7,$by
	run host --vm "$(name beta)"
	complains 'machine type pc-i440fx-1.7 is not known.*-qmp'
	# shellcheck disable=SC2086
	boot gamma -machine pc,max-ram-below-4g=1G,$by
	run host --vm "$(name gamma)"
	complains 'not clear.*max-ram-below-4g.*-qmp'
	: >"$TESTDIR/config"
	# shellcheck disable=SC2086
	boot delta -readconfig "$TESTDIR/config" -machine pc,$by
	run host --vm "$(name delta)"
	complains 'not clear.*-readconfig.*-qmp'
	shared eps pc,max-ram-below-4g=1G 2G -qmp "$(qmp mon)"
	[ "$(ranges "$PID" | tail -1)" = "100000000 40000000 40000000" ]
	shared zeta pc-i440fx-1.7 4G -qmp "$(qmp mon2)"
	[ "$(ranges "$PID" | tail -1)" = "100000000 20000000 e0000000" ]
}

@test "memory that is plugged in later is left out, and it is said" {
	boot alpha -machine q35,memory-backend=ram \
		-m 64M,slots=1,maxmem=1G -qmp "$(qmp mon)" \
		-object memory-backend-memfd,id=ram,size=64M,share=on \
		-object memory-backend-memfd,id=more,size=128M,share=on \
		-device pc-dimm,memdev=more
	[ "$(ranges "$PID")" = $'0 a0000 0\n100000 3f00000 100000' ]
	[[ $(told "$PID" 'v["note"]') == *"128 MiB of plugged memory"* ]]
}

@test "a monitor that does not answer is not waited for long" {
	shared alpha q35 64M -qmp "$(qmp mon)"
	kill -STOP "$PID"
	run host --vm "qmp:$TESTDIR/mon"
	complains 'no answer within.*another client'
	[[ $(told "$PID" 'v["layout"], v["note"]') == *"command line"*"no use"* ]]
	kill -CONT "$PID"
	shared beta isapc 64M -qmp "$(qmp mon2)"
	kill -STOP "$PID"
	run host --vm "$(name beta)"
	complains 'isapc is not known.*no answer within'
	kill -CONT "$PID"
}

@test "a monitor that is busy with another client is not waited for long" {
	shared alpha q35 64M -qmp "$(qmp mon)"
	/usr/bin/python3 -c '
import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.recv(1000)
open(sys.argv[2], "w").close()
time.sleep(60)' "$TESTDIR/mon" "$TESTDIR/busy" 3>&- &
	VMS+=("$!")
	eventually test -e "$TESTDIR/busy"
	run host --vm "qmp:$TESTDIR/mon"
	complains 'no answer within.*another client'
	[ "$(told "$PID" 'v["layout"]')" = "command line" ]
}

@test "a VMM that ends while it is asked" {
	shared alpha isapc 64M -qmp "$(qmp mon)"
	kill -STOP "$PID"
	DS_TEST_MARK=$DS_MARK "$DARKSHADOW" host --vm "qmp:$TESTDIR/mon" \
		--transport "loopback:$SOCKET" >"$TESTDIR/refusal" 2>&1 3>&- &
	RUN=$!
	eventually watches "$RUN"
	kill -KILL "$PID"
	ended
	output=$(cat "$TESTDIR/refusal")
	complains 'has ended meanwhile'
}

# It has found the process, and waits for the monitor.
watches() {
	[[ $(readlink "/proc/$1"/fd/*) == *pidfd* ]]
}

@test "another user's VM: the refusal names the user" {
	[ "$(id -u)" -eq 0 ] || skip "needs two users"
	shared alpha q35 64M -qmp "$(qmp mon)"
	shared beta q35 64M
	as_user
	run host --vm "$(name alpha)"
	complains 'belongs to root: run darkshadow as root'
	run host --vm "$(name beta)"
	complains 'belongs to root: run darkshadow as root'
	chown root "$TESTDIR/mon"
	run host --vm "qmp:$TESTDIR/mon"
	complains "no permission to use the QMP socket.*root"
	[ "$(told "$PID" 'v["shadow"]')" = False ]
}

@test "an ordinary user's own VM needs no privilege" {
	as_user
	shared alpha q35 64M -qmp "$(qmp mon)"
	[ "$(told "$PID" 'v["layout"]')" = QMP ]
	shared beta q35 64M
	[ "$(told "$PID" 'v["layout"]')" = "command line" ]
}

@test "a process of one's own that cannot be looked into is explained" {
	[ "$(id -u)" -eq 0 ] || skip "needs to be root first"
	# Not dumpable, as what has given up privileges is: -runas does that.
	shared alpha q35 64M -runas 65534:65534
	eventually grep -q '^Uid:[[:space:]]65534' "/proc/$PID/status"
	as_user
	run host --vm "$(name alpha)"
	complains 'although it is yours.*root'
}

@test "User-Mode Linux is found by umid, with or without uml_dir" {
	uml alpha "umid=$(name alpha)" "uml_dir=$TESTDIR/uml"
	[ "$(told "$PID" 'v["vmm"], v["shadow"], v["layout"]')" = \
		"('uml', True, 'UML')" ]
	daemon --vm "$(name alpha)" -v --allow net
	grep -q "process $PID," "$TESTDIR/daemon.log"
	kill "$DAEMON"
	wait "$DAEMON"
	daemon --vm "uml:$(name alpha)" -v --allow net
	kill -KILL "$PID"
	eventually gone "$DAEMON"
	wait "$DAEMON"
	DAEMON=
}

@test "User-Mode Linux without a umid has the one it made up" {
	uml alpha
	[ "$(cat "$TESTDIR/.uml/$(told "$PID" 'v["name"]')/pid")" = "$PID" ]
}

@test "of User-Mode Linux's processes only the kernel's is a VM" {
	local pid

	uml alpha "umid=$(name alpha)"
	[ "$("$DARKSHADOW" vms | grep -c "^$(name alpha) ")" -eq 1 ]
	# Those of processes that have ended meanwhile are not there at all.
	for pid in $(children "$PID"); do
		run host --vm "pid:$pid"
		complains "process $pid( is no QEMU and no kernel|\$)"
	done
	[ -n "$pid" ]
}

children() {
	ps -o pid= --ppid "$1"
}

@test "what a killed User-Mode Linux leaves behind is no VM" {
	uml alpha "umid=$(name alpha)"
	kill -KILL "$PID"
	wait "$PID" || true
	[ -n "$(marked_pids)" ]
	[ "$("$DARKSHADOW" vms | grep -c "^$(name alpha) ")" -eq 0 ]
}

@test "User-Mode Linux's addresses are offsets, and within its file" {
	local gpa len off

	uml alpha "umid=$(name alpha)"
	read -r gpa len off < <(ranges "$PID")
	[ "$gpa" = "$off" ]
	[ $((0x$len)) -gt $((32 << 20)) ]
	[ $((0x$off + 0x$len)) -le "$(stat -Lc %s "/proc/$PID/fd/3")" ]
}
