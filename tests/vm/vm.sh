#!/bin/bash
# SPDX-License-Identifier: MIT
# vm.sh - start and end a virtual machine whose root directory is the host's
#
#	vm.sh start uml|qemu [OPTION]... [-- VMM-ARGUMENT...]
#	vm.sh stop	halt it; kill it if it does not
#	vm.sh kill	kill it at once
#	vm.sh wait	until it has ended
#
#	--name NAME	as the VMM calls it; else the last part of DS_VM_DIR
#	--mem SIZE	256M; not more is taken of the host than the guest touches
#	--cpus N	2; UML has one always
#	--machine TYPE	q35; pc
#	--cpu MODEL	max with KVM; emulated, a plain one takes half the time
#	--accel ACCEL	auto: kvm if that boots here, else tcg
#	--shm FILE	the file of 4 MiB behind the guest's ivshmem or mmapper
#			device; else DS_VM_DIR/shm
#	--no-shm	no such device
#	--append ARG	one more argument for the guest's kernel
#
# DS_VM_DIR is the machine's folder, made if need be: "socket" (there once the
# machine runs; see guest.c), console.log, mux.log, virtiofsd.log, mux.pid,
# vmm.pid, shm, qmp (QEMU), uml/NAME/mconsole (UML). Programs run in it through
# tests/vm/guest.
#
# All of the host's files are at their places in the guest, and writable: what
# the guest's root deletes is deleted. /dev, /proc, /sys and /run are its own,
# and /run/ds-local is a file system of its own (tmpfs).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
BUILD=$(cd "${BUILD:-$here/../../build}" && pwd)
tools=$BUILD/vm
# Seconds that booting may take; an emulated machine on a busy one is slow.
: "${DS_VM_BOOT_TIMEOUT:=120}"

fail() {
	echo "vm.sh: $*" >&2
	exit 1
}

usage() {
	echo "usage: vm.sh start uml|qemu [OPTION]... | stop | kill | wait" >&2
	exit 2
}

# mux_pid - of this folder's machine; fails if it does not run
mux_pid() {
	local pid

	pid=$(cat "$dir/mux.pid" 2>/dev/null) &&
		[ "$(readlink "/proc/$pid/exe")" = "$tools/mux" ] &&
		echo "$pid"
}

# left_over - processes of a machine whose mux was killed: those of its session
# and of that which UML makes for itself. (Of a leader that nobody has waited
# for yet, /proc shows no program.)
left_over() {
	local sid

	# shellcheck disable=SC2013	# a word a line
	for sid in $(cat "$dir/mux.pid" "$dir/vmm.pid" 2>/dev/null); do
		if [ -z "$(readlink "/proc/$sid/exe")" ]; then
			ps -s "$sid" -o pid= || true
		fi
	done
}

# ends_within SECONDS - the machine does
ends_within() {
	local i

	for ((i = 0; i < $1 * 50; i++)); do
		mux_pid >/dev/null || return 0
		sleep 0.02
	done
	return 1
}

end_machine() {
	local pid seconds=$1 signal=$2

	if pid=$(mux_pid); then
		kill "-$signal" "$pid" 2>/dev/null || true
		if ! ends_within "$seconds"; then
			kill -KILL "$pid" 2>/dev/null || true
			ends_within 5 || fail "process $pid does not end"
		fi
	fi
	for pid in $(left_over); do
		kill -KILL "$pid" 2>/dev/null || true
	done
	rm -rf "$dir/socket" "$dir/qmp" "$dir/fs" "$dir/uml" "$dir/mux.pid" \
		"$dir/vmm.pid"
}

# launch SECONDS CMD... - CMD under the mux; 1: it ended or said nothing
launch() {
	local i seconds=$1

	shift
	rm -f "$dir/socket" "$dir/console.log"
	setsid "$tools/mux" "$dir" "$@" </dev/null >"$dir/mux.log" 2>&1 &
	mux=$!
	disown
	echo "$mux" >"$dir/mux.pid"
	for ((i = 0; i < seconds * 50; i++)); do
		if [ -S "$dir/socket" ]; then
			return 0
		fi
		kill -0 "$mux" 2>/dev/null || break
		sleep 0.02
	done
	return 1
}

boot_failed() {
	{
		echo "vm.sh: the guest did not come up; the last lines of" \
			"$dir/{console,mux}.log:"
		tail -n 20 "$dir/console.log" "$dir/mux.log"
	} >&2 || true
	end_machine 1 INT
	exit 1
}

start_uml() {
	local device=()

	if [ -n "$shm" ]; then
		device=("iomem=mmapper,$shm")
	fi
	# UML keeps its memory in a file, which has to lie on a tmpfs. Its own
	# umask would come on top of the guest's wherever hostfs makes a file.
	(umask 077 && mkdir -p "$dir/uml")
	# shellcheck disable=SC2016	# $0 and $@ are that shell's
	TMPDIR=/dev/shm launch "$DS_VM_BOOT_TIMEOUT" \
		sh -c 'exec >"$0" 2>&1; umask 0; exec "$@"' "$dir/console.log" \
		env "LD_PRELOAD=$tools/xstate.so" \
		"$tools/uml/usr/bin/linux.uml" "mem=$mem" "umid=$name" \
		"uml_dir=$dir/uml" "initrd=$tools/initramfs.cpio" \
		con=null con0=null,fd:1 ssl=null ssl0=fd:3 \
		"${device[@]}" "${vmm_args[@]}" "${kernel_args[@]}" ||
		boot_failed
}

# qemu_with ACCEL SECONDS
qemu_with() {
	local device=() model=$cpu

	if [ -z "$model" ]; then
		model=max
		if [[ $1 == tcg* ]]; then
			model=qemu64,+fsgsbase,+rdrand
		fi
	fi
	# shellcheck disable=SC2054	# the commas are QEMU's
	if [ -n "$shm" ]; then
		device=(-device ivshmem-plain,memdev=ds -object)
		device+=("memory-backend-file,id=ds,mem-path=$shm,size=4M,share=on")
	fi
	# shellcheck disable=SC2016	# $0 and $@ are that shell's
	launch "$2" sh -c '
		dir=$0
		"$1" -f --socket-path="$dir/fs" -o source=/ -o sandbox=chroot \
			-o cache=auto -o timeout=0 -o xattr \
			-o announce_submounts -o allow_direct_io \
			>"$dir/virtiofsd.log" 2>&1 3>&- &
		while ! [ -S "$dir/fs" ]; do
			kill -0 $! || { cat "$dir/virtiofsd.log"; exit 1; }
			sleep 0.02
		done
		shift
		exec "$@"' "$dir" "$virtiofsd" \
		qemu-system-x86_64 -name "$name" -nodefaults -no-user-config \
		-display none -no-reboot -machine "$machine,memory-backend=ram" \
		-accel "$1" -cpu "$model" -smp "$cpus" -m "$mem" \
		-object "memory-backend-memfd,id=ram,size=$mem,share=on" \
		-kernel "$kernel" -initrd "$tools/initramfs.cpio" \
		-append "console=ttyS0 quiet panic=-1 ${kernel_args[*]}" \
		-serial "file:$dir/console.log" \
		-qmp "unix:$dir/qmp,server=on,wait=off" \
		-device virtio-serial-pci \
		-chardev socket,id=agent,fd=3 \
		-device virtserialport,chardev=agent,name=ds.agent \
		-chardev "socket,id=fs,path=$dir/fs" \
		-device vhost-user-fs-pci,chardev=fs,tag=host \
		"${device[@]}" "${vmm_args[@]}"
}

# qemu_emulated - an emulated guest may lose its timer while it boots, and its
# kernel then says that RCU stalls. There is nothing of ours in it yet: it is
# started anew, once.
qemu_emulated() {
	qemu_with tcg,thread=multi "$DS_VM_BOOT_TIMEOUT" && return 0
	grep -qs 'rcu.*detected stalls' "$dir/console.log" || return 1
	echo "vm.sh: $name has lost its timer at boot: once more" >&2
	end_machine 1 INT
	qemu_with tcg,thread=multi "$DS_VM_BOOT_TIMEOUT"
}

# qemu_at_best - with KVM if it boots. That /dev/kvm answers does not say that
# it does: the first machine tries, and what it found is kept, unless it is
# not KVM's fault
qemu_at_best() {
	local tried

	tried=$(cat "$tools/kvm" 2>/dev/null) || tried=
	if [ -w /dev/kvm ] && [ "$tried" != fails ]; then
		if qemu_with kvm 8; then
			echo boots >"$tools/kvm"
			return 0
		fi
		end_machine 1 INT
		tried=now
	fi
	qemu_emulated || return 1
	if [ "$tried" = now ]; then
		echo fails >"$tools/kvm"
	fi
}

start_qemu() {
	local images=("$tools"/cloud/boot/vmlinuz-*)

	kernel=${images[0]}
	virtiofsd=$(command -v virtiofsd /usr/lib/qemu/virtiofsd \
		/usr/libexec/virtiofsd | head -n 1)
	if [ -z "$virtiofsd" ] || ! command -v qemu-system-x86_64 >/dev/null
	then
		fail "QEMU or its virtiofsd is missing: run tests/deps.sh check"
	fi
	case $accel in
	auto) qemu_at_best ;;
	tcg) qemu_emulated ;;
	*) qemu_with "$accel" "$DS_VM_BOOT_TIMEOUT" ;;
	esac || boot_failed
}

start() {
	local kind=${1:-} name mem=256M cpus=2 machine=q35 accel=auto cpu=
	local shm=$dir/shm vmm_args=() kernel_args=() append=()

	[ "$kind" = uml ] || [ "$kind" = qemu ] || usage
	shift
	name=$(basename "$dir")
	while [ $# -gt 0 ]; do
		case $1 in
		--name) name=$2; shift ;;
		--mem) mem=$2; shift ;;
		--cpus) cpus=$2; shift ;;
		--machine) machine=$2; shift ;;
		--cpu) cpu=$2; shift ;;
		--accel) accel=$2; shift ;;
		--shm) shm=$2; shift ;;
		--no-shm) shm= ;;
		--append) append+=("$2"); shift ;;
		--) shift; vmm_args=("$@"); break ;;
		*) usage ;;
		esac
		shift
	done
	if mux_pid >/dev/null; then
		fail "a machine runs in $dir already: stop it first"
	fi
	if ! [ -x "$tools/mux" ] || ! [ -x "$tools/agent" ]; then
		fail "the programs of the bench are not built: make tests-built"
	fi
	BUILD=$BUILD "$here/kernels.sh"
	if [ -n "$shm" ]; then
		rm -f "$shm"
		(umask 077 && truncate -s 4M "$shm")
	fi
	kernel_args=("ds.kind=$kind" "ds.name=$name" "ds.agent=$tools/agent"
		"${append[@]}")
	"start_$kind"
}

if [ -z "${DS_VM_DIR:-}" ]; then
	fail "DS_VM_DIR is not set: set it to the machine's folder"
fi
mkdir -p "$DS_VM_DIR"
dir=$(cd "$DS_VM_DIR" && pwd)
command=${1:-}
shift || usage
case $command in
start) start "$@" ;;
stop) end_machine 10 TERM ;;
kill) end_machine 5 INT ;;
wait) ends_within "${1:-$DS_VM_BOOT_TIMEOUT}" || fail "it still runs" ;;
*) usage ;;
esac
