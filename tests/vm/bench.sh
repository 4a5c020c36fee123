#!/bin/bash
# SPDX-License-Identifier: MIT
# bench.sh - what darkshadow costs in virtual machines, beside loopback
#
#	bench.sh [uml] [qemu]
#
# Times are those of the guest, of the same program as in tests/bench: natively
# in the guest on a file system of its own, and forwarded. Environment: BUILD.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
BUILD=$(cd "${BUILD:-$here/../../build}" && pwd)
export BUILD
bench=$BUILD/bench/bench
guest=${DS_GUEST:-/mnt/ds-host}
work=$(mktemp -d "${TMPDIR:-/tmp}/ds-bench.XXXXXX")
daemon=
loop=
export DS_VM_DIR=$work/vm

cleanup() {
	if [ -n "$daemon" ]; then
		kill "$daemon" 2>/dev/null || true
	fi
	"$here/vm.sh" kill 2>/dev/null || true
	if [ -n "$loop" ]; then
		losetup -d "$loop"
	fi
	rm -rf "$work"
}

# in_guest CMD... - in the machine that runs
in_guest() {
	timeout -k 5 600 "$here/guest" "$@" </dev/null
}

# row VM SIDE - names and nanoseconds to lines "VM SIDE NAME MICROSECONDS"
row() {
	awk -v vm="$1" -v side="$2" '{ printf "%-9s %-10s %-14s %12.2f us\n",
		vm, side, $1, $2 / 1000 }'
}

# shadowed VM PAGES [OPTION]... - time and extents to shadow touched memory
shadowed() {
	local vm=$1 pages=$2 mib

	shift 2
	for mib in 64 1024; do
		in_guest "$BUILD/static/darkshadow" run --transport shm --stats "$@" \
			--forward "path:$guest=$work/host" -- \
			"$bench" --memory "$guest" "$mib" \
			>"$work/out" 2>"$work/err"
		awk -v vm="$vm" -v pages="$pages" '
			/^memory_/ { name = $1; ns = $2 }
			/map updates/ { extents = $(NF - 4) }
			END { printf "%-9s %-10s %-14s %12.2f us %s extents\n",
				vm, pages, name, ns / 1000, extents }' \
			"$work/out" "$work/err"
	done
}

# memory VM - with huge pages as `run` asks for them, and with none
memory() {
	local thp=/sys/kernel/mm/transparent_hugepage/enabled

	if in_guest test -e "$thp"; then
		in_guest sh -c "echo madvise >$thp"
		shadowed "$1" "huge pages"
		shadowed "$1" "huge, xdp" --pins=xdp
		in_guest sh -c "echo never >$thp"
	fi
	shadowed "$1" "small pages" --huge=0
}

# of_device VM - of the host's loop device, and of one of the guest's own
of_device() {
	local own

	if [ "$1" != qemu ]; then
		echo "bench.sh: $1: memory of devices cannot be mapped there" >&2
		return
	fi
	# shellcheck disable=SC2016	# $0 is that shell's
	own=$(in_guest sh -c 'busybox insmod "$0" &&
		truncate -s 1M /run/ds-local/disk &&
		losetup -f --show /run/ds-local/disk' \
		"$BUILD"/vm/cloud/lib/modules/*/kernel/drivers/block/loop.ko)
	in_guest "$bench" --device "$own" | row "$1" native
	in_guest "$BUILD/static/darkshadow" run --transport shm \
		--forward "dev:$loop" -- "$bench" --device "$loop" |
		row "$1" forwarded
}

one_machine() {
	local vm=$1 name=bench-$1

	"$here/vm.sh" start "$vm" --name "$name" --mem 2G
	"$BUILD/darkshadow" host --vm "$name" --transport "shm:$work/vm/shm" \
		--allow "path:$guest=$work/host" \
		${loop:+--allow "dev:$loop"} &
	daemon=$!
	in_guest "$bench" /run/ds-local | row "$vm" native
	in_guest "$BUILD/static/darkshadow" run --transport shm \
		--forward "path:$guest=$work/host" -- "$bench" "$guest" |
		row "$vm" forwarded
	if [ -n "$loop" ]; then
		of_device "$vm"
	fi
	memory "$vm"
	kill "$daemon"
	wait "$daemon" || true
	daemon=
	"$here/vm.sh" stop
}

main() {
	if ! [ -x "$bench" ]; then
		echo "bench.sh: build first: make bench-vm" >&2
		exit 125
	fi
	trap cleanup EXIT
	mkdir "$work/host"
	"$bench" "$work/host" | row host native
	"$BUILD/darkshadow" run --forward "path:$guest=$work/host" \
		-- "$bench" "$guest" | row loopback forwarded
	truncate -s 1M "$work/disk"
	if loop=$(losetup -f --show "$work/disk"); then
		"$bench" --device "$loop" | row host native
		"$BUILD/darkshadow" run --forward "dev:$loop" \
			-- "$bench" --device "$loop" | row loopback forwarded
	else
		echo "bench.sh: without figures of a mapped device: no loop" \
			"device, which takes root" >&2
	fi
	[ $# -gt 0 ] || set -- uml qemu
	for vm in "$@"; do
		one_machine "$vm"
	done
}

main "$@"
