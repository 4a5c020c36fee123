#!/bin/bash
# SPDX-License-Identifier: MIT
# bench.sh - what darkshadow costs, as ratios to the same thing done natively
#
#	bench.sh [--json] [calls] [device] [pagemap] [rest] [programs]
#
# Without words: all of it. All sides are measured in the same run, in turns:
# calls, device, pagemap and rest PASSES times (3), whole programs PROGRAM_PASSES times
# (5); a figure is the median over the passes. Environment: BUILD, the build
# folder, with darkshadow in it and bench/bench or bench; CC where neither is
# there.
#
# What is measured becomes lines "SIDE NAME NANOSECONDS" in $work/figures. The
# sides: native, darkshadow, no_patch (where `run` has that option), and for
# programs also strace, strace_bpf and proot (programs.sh).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${BUILD:-$here/../../build}" && pwd)
guest=${DS_GUEST:-/mnt/ds-host}
passes=${PASSES:-3}
rest_s=2
work=
loop=
json=
parts=

die() {
	echo "bench: $1" >&2
	exit 125
}

cleanup() {
	if [ -n "$loop" ]; then
		losetup -d "$loop"
	fi
	if [ -n "$work" ]; then
		rm -rf "$work"
	fi
}

# find_bench - the measuring program: bench holds its path
find_bench() {
	for bench in "$build/bench/bench" "$build/bench"; do
		if [ -f "$bench" ] && [ -x "$bench" ]; then
			return
		fi
	done
	bench=$work/bench
	"${CC:-cc}" -std=gnu11 -O2 -pthread -o "$bench" "$here/bench.c"
}

# find_sides - sides: native and the ways to run shadowed
find_sides() {
	sides=(native darkshadow)
	if "$build/darkshadow" run --help | grep -q -e --no-patch; then
		sides+=(no_patch)
	fi
}

# wrap SIDE [RULE] - run: what comes before the command; dir: where its files
# are, unless it has only what RULE says
wrap() {
	run=("$build/darkshadow" run
		--forward "${2:-path:$guest=$work/host}")
	dir=$guest
	case $1 in
	native) run=() dir=$work/host ;;
	darkshadow) run+=(--) ;;
	no_patch) run+=(--no-patch --) ;;
	esac
}

# note SIDE - lines "NAME NANOSECONDS" to figures of the side
note() {
	sed "s/^/$1 /" >>"$work/figures"
}

wants() {
	[ -z "$parts" ] || [[ " $parts " == *" $1 "* ]]
}

measure_calls() {
	local pass side

	for ((pass = 0; pass < passes; pass++)); do
		for side in "${sides[@]}"; do
			wrap "$side"
			"${run[@]}" "$bench" "$dir" | note "$side"
			"$bench" --startup "${run[@]}" "$bench" --stamp |
				note "$side"
		done
		"$bench" --pingpong | note native
	done
}

# measure_device - memory of a device, mapped
measure_device() {
	local pass side

	truncate -s 1M "$work/disk"
	loop=$(losetup -f --show "$work/disk") || {
		echo "bench: without figures of a mapped device: no loop" \
			"device, which takes root" >&2
		return 0
	}
	for ((pass = 0; pass < passes; pass++)); do
		for side in "${sides[@]}"; do
			wrap "$side" "dev:$loop"
			"${run[@]}" "$bench" --device "$loop" | note "$side"
		done
	done
}

# pagemap_mib - half of what is free, up to a million pages
pagemap_mib() {
	awk '/^MemAvailable:/ { mib = int($2 / 2048) }
		END { print mib < 4096 ? mib : 4096 }' /proc/meminfo
}

# measure_pagemap - page tables, read and made extents of; native is reading.
# It is the processor's time, that of a process's start included
measure_pagemap() {
	local pass mib

	if [ "$(id -u)" -ne 0 ]; then
		echo "bench: without figures of page tables: to see page" \
			"frames takes root" >&2
		return 0
	fi
	mib=$(pagemap_mib)
	for ((pass = 0; pass < passes; pass++)); do
		"$bench" --pagemap "$mib" | note native
		"$bench" --pagemap "$mib" "$build/darkshadow" maps -s PID |
			note darkshadow
	done
}

# tree PID - it, its descendants, and whom these trace: the shadows
tree() {
	cat /proc/[0-9]*/status 2>/dev/null | awk -v root="$1" '
		/^Pid:/ { pid = $2 }
		/^PPid:/ { parent[pid] = $2 }
		/^TracerPid:/ { tracer[pid] = $2 }
		END {
			of[root]
			do {
				more = 0
				for (pid in parent)
					if (!(pid in of) && (parent[pid] in of ||
					    tracer[pid] in of)) {
						of[pid]
						more = 1
					}
			} while (more)
			for (pid in of)
				print pid
		}'
}

# cpu_ns PID - what all threads of its tree have used
cpu_ns() {
	local pid

	for pid in $(tree "$1"); do
		cat /proc/"$pid"/task/*/schedstat 2>/dev/null || true
	done | awk '{ sum += $1 } END { printf "%.0f\n", sum }'
}

# rest SIDE - what is used while a program that has forwarded does nothing
rest() {
	local pid from to

	wrap "$1"
	: >"$work/rest"
	"${run[@]}" "$bench" --rest "$dir" $((rest_s + 1)) >"$work/rest" &
	pid=$!
	until grep -q "at rest" "$work/rest"; do
		kill -0 "$pid" || die "$1: the program at rest is gone"
		sleep 0.01
	done
	from=$(cpu_ns "$pid")
	sleep "$rest_s"
	to=$(cpu_ns "$pid")
	wait "$pid"
	echo "idle_cpu $((to - from))" | note "$1"
}

measure_rest() {
	local pass side

	for ((pass = 0; pass < passes; pass++)); do
		for side in "${sides[@]}"; do
			rest "$side"
		done
	done
}

measure_programs() {
	BENCH=$bench DARKSHADOW=$build/darkshadow "$here/programs.sh" \
		>>"$work/figures"
}

# report - figures to tables or to JSON
report() {
	awk -v json="$json" -v rest_s="$rest_s" -f "$here/report.awk" \
		"$work/figures"
}

main() {
	local word

	for word; do
		case $word in
		--json) json=1 ;;
		calls | device | pagemap | rest | programs) parts="$parts $word" ;;
		*) die "usage: bench.sh [--json] [calls] [device] [pagemap] \
[rest] [programs]" ;;
		esac
	done
	[ -x "$build/darkshadow" ] || die "there is no $build/darkshadow: run make"
	work=$(mktemp -d "${TMPDIR:-/tmp}/ds-bench.XXXXXX")
	trap cleanup EXIT
	mkdir "$work/host"
	: >"$work/figures"
	find_bench
	find_sides
	if wants calls; then
		measure_calls
	fi
	if wants device; then
		measure_device
	fi
	if wants pagemap; then
		measure_pagemap
	fi
	if wants rest; then
		measure_rest
	fi
	if wants programs; then
		measure_programs
	fi
	report
}

main "$@"
