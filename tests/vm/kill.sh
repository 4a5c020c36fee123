#!/bin/bash
# SPDX-License-Identifier: MIT
# kill.sh - kill what takes part in `darkshadow run` in a virtual machine, at
# random moments, in random order; then nothing may be left, and all works again
#
#	kill.sh uml|qemu ROUNDS [SEED]
#
# DS_VM_DIR is the machine's folder, made and removed. One line a round; the
# first that fails ends it. Every wait has an end.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
BUILD=$(cd "${BUILD:-$here/../../build}" && pwd)
export BUILD
kind=${1:?uml or qemu} rounds=${2:?rounds} seed=${3:-$((SRANDOM % 32768))}
: "${DS_VM_DIR:=$(mktemp -d /tmp/ds-kill.XXXXXX)}"
export DS_VM_DIR
work=$DS_VM_DIR/work
guest_dir=/mnt/ds-host
# What an emulated machine does takes it longer.
slow=1
[ "$kind" = uml ] || slow=5
daemon=
ram=
run=
RANDOM=$seed

say() {
	printf '%s\n' "$*"
}

fail() {
	say "not ok - round $round, seed $seed: $*"
	say "done in this round: ${deeds[*]-}"
	tail -n 5 "$work"/{run.err,run.out,host.log}
	say "in the guest:"
	guest ps -eo pid,ppid,stat,comm,args 2>/dev/null |
		grep -E 'darkshadow|mortal|exe' || true
	exit 1
}

finish() {
	[ -z "$daemon" ] || kill -KILL "$daemon" 2>/dev/null
	timeout -k 5 30 "$here/vm.sh" kill
	rm -rf "$DS_VM_DIR"
}

guest() {
	timeout -k 5 60 "$BUILD/vm/guest" "$@" </dev/null
}

# eventually SECONDS CMD... - polls until it succeeds
eventually() {
	local end=$((SECONDS + $1 * slow))

	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.05
	done
}

# nap MS - a random time up to so long
nap() {
	sleep "$(printf '0.%03d' $((RANDOM % $1)))"
}

alive() {
	grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$1/status"
}

ended() {
	! alive "$1"
}

# --- what takes part ---------------------------------------------------------

vmm() {
	cat "$DS_VM_DIR/vmm.pid" 2>/dev/null
}

vm_lives() {
	local pid

	pid=$(vmm) && [ -S "$DS_VM_DIR/socket" ] && alive "$pid"
}

start_vm() {
	local fd

	if vm_lives; then
		return
	fi
	timeout -k 5 30 "$here/vm.sh" kill
	timeout -k 5 200 "$here/vm.sh" start "$kind" --name "$name" \
		>"$work/vm.log" 2>&1 || fail "the machine does not start"
	for fd in "/proc/$(vmm)/fd"/*; do
		case $(readlink "$fd") in
		/memfd:memory-backend-memfd* | "/dev/shm/"*" (deleted)")
			ram=$(stat -L -c %i "$fd")
			;;
		esac
	done
}

serving() {
	grep -qsa dkshadow "$DS_VM_DIR/shm" && alive "$daemon"
}

start_daemon() {
	if [ -n "$daemon" ] && alive "$daemon"; then
		return
	fi
	"$BUILD/darkshadow" host --vm "pid:$(vmm)" \
		--transport "shm:$DS_VM_DIR/shm" \
		--allow "path:$guest_dir=$work/files" \
		>>"$work/host.log" 2>&1 </dev/null &
	daemon=$!
	disown
	eventually 10 serving || fail "the daemon does not start"
}

sessions() {
	[ -z "$daemon" ] || pgrep -P "$daemon"
}

# shadows - all that are traced by sessions, the nursery's first included
shadows() {
	local session

	for session in $(sessions); do
		grep -ls "^TracerPid:[^0-9]*$session\$" /proc/[0-9]*/status |
			tr -dc '0-9\n'
	done
}

# touching - processes but the machine's that have the guest's memory mapped
touching() {
	local file pid exe

	# shellcheck disable=SC2013	# a name a word
	for file in $(grep -lsE " $ram +/(memfd|dev/shm)" /proc/[0-9]*/maps); do
		pid=${file#/proc/}
		pid=${pid%/maps}
		exe=$(readlink "/proc/$pid/exe") || continue
		case $exe in
		*linux.uml* | */qemu-system-* | */virtiofsd*) ;;
		*) echo "$pid" ;;
		esac
	done
}

one_of() {
	local all=("$@")

	[ $# -eq 0 ] || echo "${all[RANDOM % $#]}"
}

# --- deeds -------------------------------------------------------------------

# deed NAME - noted, unless there was nothing to do it to
deed() {
	if do_deed "$1" 2>/dev/null; then
		deeds+=("$1")
	fi
}

do_deed() {
	local pid

	case $1 in
	run-KILL) guest pkill -KILL -x darkshadow ;;
	run-TERM) guest pkill -TERM -x darkshadow ;;
	run-INT)  # as ^C does: all of the process group
		guest sh -c "kill -INT -\$(pgrep -o -x darkshadow)" ;;
	target-KILL)
		guest sh -c "kill -KILL \$(pgrep mortal | sort -R | head -n 1)"
		;;
	keeper-KILL) guest pkill -KILL -x darkshadow-keep ;;
	shadow-KILL | shadow-TERM)
		# shellcheck disable=SC2046	# a pid a word
		pid=$(one_of $(shadows))
		[ -n "$pid" ] && kill "-${1#*-}" "$pid" ;;
	session-KILL | session-TERM)
		# shellcheck disable=SC2046
		pid=$(one_of $(sessions))
		[ -n "$pid" ] && kill "-${1#*-}" "$pid" ;;
	daemon-KILL | daemon-TERM) kill "-${1#*-}" "$daemon" ;;
	all-KILL)
		# shellcheck disable=SC2046
		kill -KILL "$daemon" $(sessions) ;;
	vm-KILL) kill -KILL "$(vmm)" ;;
	esac
}

# Those in front are more often.
harm=(run-KILL run-TERM run-INT target-KILL shadow-KILL shadow-TERM
	session-KILL session-TERM daemon-KILL daemon-TERM all-KILL
	keeper-KILL run-KILL daemon-KILL)

some_deeds() {
	local i

	deeds=()
	for ((i = RANDOM % 3; i >= 0; i--)); do
		if [ $((RANDOM % 12)) -eq 0 ]; then
			deed vm-KILL
		else
			deed "$(one_of "${harm[@]}")"
		fi
		if [ $((RANDOM % 2)) -eq 0 ]; then
			nap 150
		fi
	done
}

# did PATTERN
did() {
	local what

	for what in "${deeds[@]}"; do
		# shellcheck disable=SC2053	# a pattern it is
		[[ $what != $1 ]] || return 0
	done
	return 1
}

# --- what has to hold --------------------------------------------------------

guest_clean() {
	! vm_lives || [ -z "$(guest pgrep 'mortal|^exe$'; guest pgrep shadow)" ]
}

host_clean() {
	[ -z "$(touching)" ] && [ -z "$(sessions)" ]
}

channels_free() {
	[ "$("$BUILD/vm/probe" channels "$DS_VM_DIR/shm")" -eq 0 ]
}

start_run() {
	rm -f "$work/stop"
	guest "$BUILD/static/darkshadow" run --transport shm --timeout 3 \
		--forward "path:$guest_dir=$work/files" -- \
		"$BUILD/victims/mortal" "$guest_dir" 4 "$RANDOM" "$work/stop" \
		>"$work/run.out" 2>"$work/run.err" &
	run=$!
}

# With run and its keeper both killed, nobody in the guest says that the session
# is over, or takes its channel back: the host takes 30 s of silence for it
# (GUEST_SILENT_MS).
host_patience() {
	if did keeper-KILL && did 'run-*'; then
		echo 45
	else
		echo 10
	fi
}

# A run that nobody killed, and whose host side has gone, ends and says why.
abandoned() {
	! did 'run-*' && ! did 'vm-*' && ! did 'target-*' &&
		{ did 'daemon-*' || did 'session-*' || did all-KILL; }
}

said_why() {
	grep -q 'host side' "$work/run.err"
}

check_round() {
	local status=0

	abandoned || : >"$work/stop"
	eventually 30 ended "$run" || fail "run does not end"
	wait "$run" || status=$?
	[ "$status" -ne 9 ] || fail "a target read what nobody wrote"
	vm_lives || eventually 10 ended "$daemon" ||
		fail "the daemon outlives its machine"
	! abandoned || said_why || fail "run does not say why it fails ($status)"
	eventually "$(host_patience)" host_clean ||
		fail "left on the host: $(touching) $(sessions)"
	start_vm
	start_daemon
	eventually 10 guest_clean || fail "left in the guest"
	eventually "$(host_patience)" channels_free ||
		fail "channels are taken"
	[ "$(guest "$BUILD/static/darkshadow" run --transport shm --timeout 20 \
		--forward "path:$guest_dir=$work/files" -- \
		cat "$guest_dir/a" 2>"$work/run.err")" = hello ] ||
		fail "the next run does not work"
	say "ok $round - ${deeds[*]} (run ended with $status)"
}

round=0
deeds=()
name=kill-$$
mkdir -p "$work/files"
echo hello >"$work/files/a"
trap finish EXIT
say "# seed $seed, $kind"
start_vm
start_daemon
for ((round = 1; round <= rounds; round++)); do
	start_run
	# From before it has connected to well within its work.
	nap $((600 * slow > 999 ? 999 : 600 * slow))
	some_deeds
	nap 300
	check_round
	find "$work/files" -type f ! -name a -delete
	find "$work/files" -type p -delete
done
