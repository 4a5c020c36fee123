#!/bin/bash
# SPDX-License-Identifier: MIT
# selftests.sh - the kernel's own selftests, natively and through darkshadow:
# every case must give the same verdict
#
#	selftests.sh [--subset] [--user] [--build] [--keep DIR] [SUITE[/PROGRAM]]...
#
# The source is Debian's linux-source-6.1, fetched and unpacked (not installed)
# into $BUILD/selftests, and built there; what is there already stays. Each
# program runs twice natively and once through `darkshadow run`, in a copy of its
# suite's folder. --user runs them as an ordinary user. --subset is what `make
# check` has the time for. --build runs nothing. --keep says where the logs stay.
# Environment: BUILD, the build folder; DS_OPTIONS, more options for `run`.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${BUILD:-$here/../../build}" && pwd)
package=linux-source-6.1
kept=$build/selftests
source=$kept/source/tools/testing/selftests
guest=${DS_GUEST:-/mnt/ds-host}
# Seconds for one program; and for one case of the kselftest harness, instead of
# its own 30, and if it traces: what hangs then shall not take so long.
limit=120
case_limit=5
tracing_limit=1
# These, when they cannot trace, wait for a child for ever.
declare -A limits=([x86/amx_64]=10 [x86/syscall_numbering_64]=40)
# Seconds for what a program leaves behind, which `run` waits for.
leftover_limit=1

# A program a line, with its arguments: what an interposer of system calls can
# break. Not here is what needs a 32-bit compiler, a module or hugetlb pages,
# changes the machine (clock, cgroups, networks, processors), takes minutes, or
# has a verdict that hangs on how fast the machine is.
list() {
	cat <<'END'
breakpoints/breakpoint_test
capabilities/test_execve
clone3/clone3
clone3/clone3_cap_checkpoint_restore
clone3/clone3_clear_sighand
clone3/clone3_set_tid
core/close_range_test
exec/execveat
exec/load_address.0x1000
exec/load_address.0x200000
exec/load_address.0x1000000
exec/load_address.static.0x1000
exec/load_address.static.0x200000
exec/load_address.static.0x1000000
exec/non-regular
exec/null-argv
exec/recursion-depth
filesystems/devpts_pts
futex/functional/futex_requeue
futex/functional/futex_requeue_pi
futex/functional/futex_requeue_pi -b -l
futex/functional/futex_requeue_pi -b -o -t 500000
futex/functional/futex_requeue_pi -l -t 5000
futex/functional/futex_requeue_pi_mismatched_ops
futex/functional/futex_requeue_pi_signal_restart
futex/functional/futex_wait
futex/functional/futex_wait_private_mapped_file
futex/functional/futex_wait_timeout
futex/functional/futex_wait_uninitialized_heap
futex/functional/futex_wait_wouldblock
futex/functional/futex_waitv
ipc/msgque
kcmp/kcmp_test
landlock/base_test
landlock/fs_test
landlock/ptrace_test
membarrier/membarrier_test_multi_thread
membarrier/membarrier_test_single_thread
memfd/memfd_test
mincore/mincore_selftest
mqueue/mq_open_tests
nsfs/owner
nsfs/pidns
openat2/openat2_test
openat2/resolve_test
pid_namespace/regression_enomem
pidfd/pidfd_fdinfo_test
pidfd/pidfd_getfd_test
pidfd/pidfd_open_test
pidfd/pidfd_poll_test
pidfd/pidfd_setns_test
pidfd/pidfd_test
pidfd/pidfd_wait
proc/fd-001-lookup
proc/fd-002-posix-eq
proc/fd-003-kthread
proc/proc-fsconfig-hidepid
proc/proc-loadavg-001
proc/proc-multiple-procfs
proc/proc-pid-vm
proc/proc-self-map-files-001
proc/proc-self-map-files-002
proc/proc-self-syscall
proc/proc-self-wchan
proc/proc-subset-pid
proc/proc-tid0
proc/proc-uptime-001
proc/proc-uptime-002
proc/self
proc/setns-dcache
proc/setns-sysvipc
proc/thread-self
ptrace/get_syscall_info
ptrace/peeksiginfo
ptrace/vmaccess
rlimits/rlimits-per-userns
rseq/basic_percpu_ops_test
rseq/basic_test
rseq/param_test -T s -r 1000 -t 12
rseq/param_test -T l -r 1000 -t 12
rseq/param_test -T b -r 1000 -t 12
rseq/param_test -T b -M -r 1000 -t 12
rseq/param_test -T m -r 1000 -t 12
rseq/param_test -T m -M -r 1000 -t 12
rseq/param_test -T i -r 1000 -t 12
rseq/param_test -T r -r 1000 -t 12
rseq/param_test -T s -r 100 -t 12 -m 20 -k
rseq/param_test_compare_twice -T s -r 1000 -t 12
rseq/param_test_compare_twice -T i -r 1000 -t 12
seccomp/seccomp_bpf
sigaltstack/sas
size/get_size
splice/default_file_splice_read
syscall_user_dispatch/sud_test
timens/clock_nanosleep
timens/exec
timens/futex
timens/procfs
timens/timens
timens/timer
timens/timerfd
timers/inconsistency-check -t 1
timers/nanosleep
timers/threadtest -t 3
tmpfs/bug-link-o-tmpfile
vDSO/vdso_standalone_test_x86
vDSO/vdso_test_abi
vDSO/vdso_test_clock_getres
vDSO/vdso_test_correctness
vDSO/vdso_test_getcpu
vDSO/vdso_test_gettimeofday
vm/madv_populate
vm/map_fixed_noreplace
vm/map_populate
vm/memfd_secret
vm/mlock-random-test
vm/mlock2-tests
vm/mremap_dontunmap
vm/mremap_test
vm/mrelease_test
vm/on-fault-limit
vm/protection_keys_64
vm/soft-dirty
x86/amx_64
x86/check_initial_reg_state_64
x86/corrupt_xstate_header_64
x86/fsgsbase_64
x86/fsgsbase_restore_64
x86/ioperm_64
x86/iopl_64
x86/ldt_gdt_64
x86/mov_ss_trap_64
x86/ptrace_syscall_64
x86/sigaltstack_64
x86/sigreturn_64
x86/sigtrap_loop_64
x86/single_step_syscall_64
x86/syscall_arg_fault_64
x86/syscall_nt_64
x86/syscall_numbering_64
x86/sysret_rip_64
x86/sysret_ss_attrs_64
x86/test_mremap_vdso_64
x86/test_vsyscall_64
END
}

# What the subset has of it, less what takes long.
subset=(clone3 sigaltstack x86 core exec rseq/basic_test)
long=(x86/syscall_numbering_64 x86/amx_64)

# shellcheck source=tests/judge/common.sh
. "$here/common.sh"

only=
user=
wanted=()
leave_out=()
programs=()
options=()

parse() {
	while [ $# -gt 0 ]; do
		case $1 in
		--subset)
			wanted=("${subset[@]}")
			leave_out=("${long[@]}")
			;;
		--user) user=1 ;;
		--build) only=build ;;
		--keep)
			[ $# -gt 1 ] || usage
			keep=$2
			shift
			;;
		-*) usage ;;
		*) wanted+=("$1") ;;
		esac
		shift
	done
	if [ -n "$user" ]; then
		as_nobody
	fi
	read -ra options <<<"${DS_OPTIONS:-}"
}

# is_among PROGRAM NAME... - is it one of these, or of a suite of these?
is_among() {
	local program=$1 name

	shift
	for name in "$@"; do
		case $program in
		"$name" | "$name"[/\ ]*) return 0 ;;
		esac
	done
	return 1
}

choose() {
	local program

	while read -r program; do
		if is_among "$program" "${leave_out[@]}"; then
			continue
		fi
		if [ ${#wanted[@]} -eq 0 ] ||
			is_among "$program" "${wanted[@]}"; then
			programs+=("$program")
		fi
	done < <(list)
	[ ${#programs[@]} -gt 0 ] || die "no program is called ${wanted[*]}"
}

# fetch - the part of the kernel's source that the tests are made of
fetch() {
	local new=$kept/source.new

	[ ! -d "$kept/source" ] || return 0
	command -v dpkg-deb >/dev/null ||
		die "the tests come in a Debian package: dpkg-deb is needed"
	command -v xz >/dev/null || die "xz is missing: run tests/deps.sh check"
	rm -rf "$new"
	mkdir -p "$new/deb"
	if ! apt-cache show "$package" >/dev/null 2>&1; then
		apt-get update -qq || die "cannot get the lists of packages"
	fi
	(cd "$new/deb" && apt-get download -qq "$package" 2>../apt.log) || {
		cat "$new/apt.log" >&2
		die "cannot fetch the package $package: is it known to apt" \
			"(apt-get update), does the network work?"
	}
	dpkg-deb -x "$new"/deb/*.deb "$new/deb"
	tar -xJf "$new/deb/usr/src/$package.tar.xz" -C "$new" \
		--strip-components=1 --no-same-owner \
		"$package/tools/testing/selftests" "$package/tools/include" \
		"$package/scripts/subarch.include" "$package/mm/gup_test.h" \
		"$package/arch/x86/include/asm/desc_defs.h"
	rm -rf "$new/deb" "$new/apt.log"
	sed -i '/^#define TEST_TIMEOUT_DEFAULT /{s/^/#ifndef TEST_TIMEOUT_DEFAULT\n/;s/$/\n#endif/}' \
		"$new/tools/testing/selftests/kselftest_harness.h"
	sed -i "s/^TEST_F(\(TRACE_.*\))$/TEST_F_TIMEOUT(\1, $tracing_limit)/
		s/^TEST_F_SIGNAL(\(TRACE_.*\))$/__TEST_F_IMPL(\1, $tracing_limit)/" \
		"$new/tools/testing/selftests/seccomp/seccomp_bpf.c"
	mv "$new" "$kept/source"
}

# targets SUITE - what of it is to be built
targets() {
	local program rest

	list | while read -r program rest; do
		[ "${program%/*}" != "$1" ] || echo "$kept/out/$program"
	done | sort -u
	# What programs are run with.
	case $1 in
	exec) printf "$kept/out/exec/%s\n" execveat.symlink \
		execveat.denatured script subdir ;;
	landlock) echo "$kept/out/landlock/true" ;;
	esac
}

# compile - the selftests, with the makefiles that they come with
#
# AddressSanitizer, which those of openat2 have, cannot do its last step in a
# process that is traced, and finds no options where /proc/self/environ is empty.
# CAN_BUILD_I386 is what decides about programs that are of interest in their
# 64-bit form alone, too; no 32-bit one is built.
compile() {
	local of suite flags

	unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
	of=$(cat "$here/selftests.sh" "$kept/source/tools/testing/selftests/lib.mk" \
		<(cc --version) | sha256sum)
	if [ "$(cat "$kept/out/built.of" 2>/dev/null)" = "$of" ]; then
		return 0
	fi
	echo "building the selftests"
	for suite in $(list | sed 's|/[^/]*$||' | sort -u); do
		mkdir -p "$kept/out/$suite"
		flags=(USERCFLAGS="-DTEST_TIMEOUT_DEFAULT=$case_limit")
		if [ "$suite" = openat2 ]; then
			flags=(CFLAGS="-O2 -g")
		fi
		# shellcheck disable=SC2046	# a word a target
		make -C "$source/$suite" OUTPUT="$kept/out/$suite" \
			CAN_BUILD_I386=1 ARCH=x86 "${flags[@]}" \
			$(targets "$suite") \
			>"$kept/out/$suite.log" 2>&1 || {
			cat "$kept/out/$suite.log" >&2
			die "the selftests of $suite could not be built"
		}
	done
	echo "$of" >"$kept/out/built.of"
}

prepare() {
	mkdir -p "$kept"
	# Two runs may come here at once.
	exec 9>"$kept/lock"
	flock 9
	fetch
	compile
	exec 9>&-
	[ "$only" != build ] || exit 0
	[ ! -e "$guest" ] || die "$guest exists: set DS_GUEST to a name that does not"
	make_work
	mkdir "$work/host"
}

# ended PID FILE - waits for a process, not for long once there is the file
ended() {
	local left=$((leftover_limit * 20))

	while [ ! -s "$2" ] && kill -0 "$1" 2>/dev/null; do
		sleep 0.05
	done
	while kill -0 "$1" 2>/dev/null && [ $((left--)) -gt 0 ]; do
		sleep 0.05
	done
	kill "$1" 2>/dev/null || true
	wait "$1" 2>/dev/null
}

# judged SIDE PROGRAM [COMMAND...] - one program, run behind COMMAND; its log
#
# Some ask for mounts and namespaces of their own, and all of them are kept from
# those of the machine where that is possible.
judged() {
	local side=$1 program=$2 suite=${2%%[ ]*} status=0 words log begun=$SECONDS
	local dir=$work/dir apart=() told

	shift 2
	suite=${suite%/*}
	read -ra words <<<"${program#"$suite"/}"
	told=$dir/ds-status
	log=$work/logs/$(tr '/ ' __ <<<"$program").$side
	rm -rf "$dir"
	cp -a "$kept/out/$suite" "$dir"
	if [ ${#as[@]} -gt 0 ]; then
		chown -R 65534:65534 "$dir"
	fi
	if unshare --mount --ipc true 2>/dev/null; then
		apart=(unshare --mount --ipc)
	fi
	# shellcheck disable=SC2016	# for the shell inside
	(cd "$dir" && exec env -i PATH=/usr/bin:/bin HOME="$dir" TMPDIR=/tmp \
		LC_ALL=C.UTF-8 ${DS_TEST_MARK:+DS_TEST_MARK="$DS_TEST_MARK"} \
		"${apart[@]}" timeout -k 1 "${limits[$program]:-$limit}" \
		"${as[@]}" "$@" sh -c '"$@"; echo $? >ds-status' - \
		"./${words[0]}" "${words[@]:1}" >"$log" 2>&1 </dev/null) &
	ended $! "$told" || status=$?
	if [ -s "$told" ]; then
		read -r status <"$told"
	fi
	printf '\nexit %s\n' "$status" >>"$log"
	printf '%s %s: status %s, %s s\n' "$program" "$side" "$status" \
		"$((SECONDS - begun))"
}

main() {
	local program verdict=0 expected

	parse "$@"
	choose
	prepare
	for program in "${programs[@]}"; do
		judged native "$program"
		judged again "$program"
		judged shadowed "$program" "$build/darkshadow" run \
			--forward "path:$guest=$work/host" "${options[@]}" --
	done
	expected=(--expected "$here/selftests-expected.txt")
	if [ "$(id -u)" -ne 0 ] || [ -n "$user" ]; then
		expected+=(--expected "$here/selftests-expected-user.txt")
	fi
	/usr/bin/python3 "$here/cases.py" "${expected[@]}" "$work/logs" \
		"${programs[@]}" || verdict=$?
	keep_logs
	return "$verdict"
}

main "$@"
