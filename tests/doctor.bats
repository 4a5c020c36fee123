#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# doctor.bats - what is missing is found, told, and can be done something about
#
# What is missing is taken away here: by a seccomp filter (victims/denied.c), a
# limit, a namespace, or a file that lies over one of /proc or /sys.

# Each test is a subshell; what is in single quotes is for other shells.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

load helpers

# bats file_tags=vm

# doctor WORD... - sets output and status, as run does
doctor() {
	run timeout --foreground -k 10 "$DS_TEST_TIMEOUT" \
		env DS_TEST_MARK="$DS_MARK" "${DS_AS[@]}" "${WITHOUT[@]}" \
		"$DARKSHADOW" doctor "$@" 3>&-
	echo "$output"
}

# without WHAT... - what follows is denied that
without() {
	WITHOUT=("$VICTIMS/denied" "$@" --)
}

# with_file TEXT PATH... - what follows finds TEXT in these files
with_file() {
	echo "$1" >"$TESTDIR/file"
	shift
	WITHOUT=(unshare -m sh -c '
		file=$1
		shift
		while [ "$1" != -- ]; do
			mount --bind "$file" "$1"
			shift
		done
		shift
		exec "$@"' sh "$TESTDIR/file" "$@" --)
}

# found VERDICT CHECK [PATTERN] - of what doctor has said
found() {
	grep -qE "^$1  $2 +.*${3:-}" <<<"$output"
}

found_no() {
	if found "$@"; then
		return 1
	fi
}

# remedy CHECK PATTERN - the line below says what to type
remedy() {
	grep -A 1 -E "^(warn|fail)  $1 " <<<"$output" |
		grep -qE "^ +remedy: +.*$2"
}

# as_json EXPRESSION - of what doctor -j has said, v
as_json() {
	/usr/bin/python3 -c '
import json, sys
v = json.load(sys.stdin)
c = {c["name"]: c for c in v["checks"]}
assert eval("(" + sys.argv[1] + ")"), v' "$1" <<<"$output"
}

# bats test_tags=not-vm,not-base
@test "this machine is ready for loopback, for root and for an ordinary user" {
	doctor loopback
	[ "$status" -eq 0 ]
	grep -qx 'ready: loopback' <<<"$output"
	found_no '(fail|skip)' '[a-z-]+'
	as_user
	doctor loopback
	[ "$status" -eq 0 ]
	grep -qx 'ready: loopback' <<<"$output"
	found_no '(fail|skip)' '[a-z-]+'
}

# Machines of other tests may run here, and be seen.
# bats test_tags=not-vm,not-base
@test "without words loopback comes first, and nobody is missing a VM" {
	as_user
	doctor
	[ "$status" -eq 0 ]
	grep -qE '^ready: loopback' <<<"$output"
	grep -qE '^not ready: guest side in a VM \(this' <<<"$output"
	found skip pagemap "not needed for loopback, but by run"
	found_no fail '[a-z-]+'
}

# bats test_tags=not-vm,not-base
@test "where everything is asked about, what is missing fails" {
	doctor run shm
	[ "$status" -eq 1 ]
	found fail device "needed by run"
	remedy device "-device ivshmem-plain"
	doctor run hypercall
	[ "$status" -eq 1 ]
	remedy doorbell "-device ivshmem-doorbell"
	found_no '[a-z]+' device
}

# bats test_tags=not-base
@test "the guest side is ready in a virtual machine, and nowhere else" {
	local doctor=("$DARKSHADOW" doctor)

	if [ -n "${DS_VM:-}" ]; then
		read -ra doctor <<<"${DS_RUN%% run *} doctor"
	fi
	run timeout --foreground -k 10 "$DS_TEST_TIMEOUT" "${doctor[@]}" \
		run shm 3>&-
	echo "$output"
	if [ -z "${DS_VM:-}" ]; then
		[ "$status" -eq 1 ]
		return 0
	fi
	[ "$status" -eq 0 ]
	grep -qx 'ready: guest side in a VM by shm' <<<"$output"
	found pass pins "by io_uring"
	found pass pagemap
	found pass device "where a daemon is"
}

# bats test_tags=not-vm,not-base
@test "what a seccomp filter denies is found, and so is the filter" {
	local what

	for what in ptrace seccomp pidfd process_vm:process-vm memfd \
		    mounts:root socketpair:sockets; do
		without "${what%:*}"
		doctor loopback
		[ "$status" -eq 1 ]
		found fail "${what#*:}" "in a seccomp filter"
		remedy "${what#*:}" "seccomp=unconfined"
		grep -q "^not ready: loopback (${what#*:}: " <<<"$output"
		# It is what keeps commands from running.
		found '(fail|warn)' loopback
	done
	without fork
	doctor loopback
	[ "$status" -eq 1 ]
	found fail proc "no process can be started"
}

# bats test_tags=not-vm,not-base
@test "a seccomp filter that kills is found" {
	without kill ptrace
	doctor loopback
	[ "$status" -eq 1 ]
	found fail ptrace "killed what tried it"
	remedy ptrace "seccomp=unconfined"
	found pass memfd
}

# bats test_tags=not-vm,not-base,user
@test "an ordinary user without user namespaces is told of them" {
	as_user
	without userns
	doctor host loopback
	[ "$status" -eq 1 ]
	found fail namespaces "user namespaces are refused"
	found skip root "cannot be tried without namespaces"
	grep -q '^not ready: loopback (namespaces: ' <<<"$output"
}

# bats test_tags=not-vm,not-base
@test "a number of namespaces that is 0 is named" {
	WITHOUT=(unshare -Ur sh -c '
		echo 0 >/proc/sys/user/max_net_namespaces; exec "$@"' sh)
	doctor loopback
	[ "$status" -eq 1 ]
	remedy namespaces "sysctl -w user.max_net_namespaces="
}

# bats test_tags=not-vm,not-base
@test "root in a user namespace of its own is enough for loopback" {
	WITHOUT=(unshare -Ur)
	doctor loopback
	[ "$status" -eq 0 ]
}

# A directory of settings as other distributions have them.
# bats test_tags=not-vm,not-base
@test "the settings of distributions are named where something is refused" {
	local settings='
		mount -t tmpfs none /proc/sys/kernel
		mkdir /proc/sys/kernel/yama
		echo 2 >/proc/sys/kernel/yama/ptrace_scope
		echo 0 >/proc/sys/kernel/unprivileged_userns_clone
		exec "$@"'

	WITHOUT=(unshare -m sh -c "$settings" sh "$VICTIMS/denied" ptrace --)
	doctor run loopback
	[ "$status" -eq 1 ]
	remedy ptrace "sysctl -w kernel.yama.ptrace_scope=1"
	doctor host shm
	found '(warn|fail)' window "kernel.yama.ptrace_scope"
	WITHOUT=(unshare -m sh -c "$settings" sh
		setpriv --reuid=65534 --regid=65534 --clear-groups
		"$VICTIMS/denied" userns --)
	doctor host loopback
	[ "$status" -eq 1 ]
	remedy namespaces "sysctl -w kernel.unprivileged_userns_clone=1"
	WITHOUT[4]=${settings/unprivileged_userns_clone/apparmor_restrict_unprivileged_userns}
	WITHOUT[4]=${WITHOUT[4]/echo 0/echo 1}
	doctor host loopback
	remedy namespaces \
		"sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
}

# bats test_tags=not-vm,not-base
@test "limits that are too low are found, with what raises them" {
	WITHOUT=(prlimit --nofile=300:300)
	doctor loopback
	[ "$status" -eq 1 ]
	found fail descriptors "300 descriptors only"
	remedy descriptors "prlimit --pid [$][$] --nofile="
	found '(fail|warn)' loopback
	WITHOUT=(prlimit --nofile=700:700)
	doctor loopback
	[ "$status" -eq 0 ]
	found warn descriptors "700 descriptors only"
	WITHOUT=(prlimit --fsize=1000000)
	doctor loopback
	[ "$status" -eq 1 ]
	remedy memfd "prlimit --pid [$][$] --fsize=unlimited"
	# In a pipe, output is no file that could be too large.
	WITHOUT=(prlimit --memlock=65536 setpriv --bounding-set=-ipc_lock
		--inh-caps=-ipc_lock)
	doctor run shm
	remedy pins "prlimit --pid [$][$] --memlock=unlimited"
}

# bats test_tags=not-vm,not-base
@test "settings of memory are found, and warned of where they only cost" {
	with_file 1000 /proc/sys/vm/max_map_count
	doctor loopback
	[ "$status" -eq 0 ]
	found warn mappings "1000 mappings only"
	remedy mappings "sysctl -w vm.max_map_count=65530"
	with_file 'always madvise [never]' \
		/sys/kernel/mm/transparent_hugepage/enabled
	doctor run shm
	remedy huge-pages "echo madvise >/sys"
	WITHOUT=(unshare -pf --mount-proc sh -c '
		echo 1 >/proc/sys/vm/memfd_noexec; exec "$@"' sh)
	doctor loopback
	[ "$status" -eq 1 ]
	remedy exec-memory "sysctl -w vm.memfd_noexec=0"
	found '(fail|warn)' loopback
}

# bats test_tags=not-vm,not-base
@test "without io_uring memory is pinned otherwise, or not at all" {
	with_file 2 /proc/sys/kernel/io_uring_disabled
	WITHOUT+=("$VICTIMS/denied" io_uring --)
	doctor run shm
	found warn pins "AF_XDP"
	remedy pins "sysctl -w kernel.io_uring_disabled=0"
	as_user
	without io_uring
	doctor run shm
	found fail pins "io_uring: Operation not permitted"
}

# bats test_tags=not-vm,not-base,user
@test "an ordinary user of a guest is told of the capabilities" {
	as_user
	doctor run shm
	[ "$status" -eq 1 ]
	found fail pagemap "CAP_SYS_ADMIN"
	remedy pagemap "setcap cap_sys_admin"
	found fail capabilities "CAP_SYS_ADMIN CAP_SYS_PTRACE"
}

# bats test_tags=not-vm,not-base
@test "no /proc, a chroot and a single processor are found" {
	WITHOUT=(unshare -m sh -c 'mount -t tmpfs none /proc; exec "$@"' sh)
	doctor loopback
	[ "$status" -eq 1 ]
	remedy proc "mount -t proc proc /proc"
	mkdir -p "$TESTDIR"/root/{dev,proc}
	cp "$DS_STATIC" "$TESTDIR/root/darkshadow"
	WITHOUT=(unshare -m sh -c '
		for dir in dev proc; do
			mount --rbind "/$dir" "$0/$dir"
		done
		shift
		exec chroot "$0" /darkshadow "$@"' "$TESTDIR/root")
	doctor loopback
	[ "$status" -eq 1 ]
	remedy namespaces "outside of .*chroot"
	WITHOUT=(taskset -c 0)
	doctor loopback
	[ "$status" -eq 0 ]
	found warn cpus "one processor"
}

# bats test_tags=not-vm,not-base
@test "Landlock is missed only where devices are read-only" {
	without landlock
	doctor host loopback
	[ "$status" -eq 0 ]
	found warn landlock "device read-only"
	doctor run loopback
	found_no '[a-z]+' landlock
}

# bats test_tags=not-vm,not-base
@test "what hangs is given up, and all of it takes no more than three seconds" {
	local fifo=$TESTDIR/fifo began

	mkfifo "$fifo"
	WITHOUT=(unshare -m sh -c '
		fifo=$1
		shift
		for file in /proc/sys/vm/max_map_count \
			/proc/sys/kernel/io_uring_disabled \
			/sys/kernel/mm/transparent_hugepage/enabled; do
			mount --bind "$fifo" "$file"
		done
		exec "$@"' sh "$fifo" "$VICTIMS/denied" io_uring --)
	began=$(date +%s%N)
	doctor run host loopback shm
	# A second for a busy machine to start and end it all.
	[ $(($(date +%s%N) - began)) -lt 4000000000 ]
	found warn mappings "not known: no answer within 1000 ms"
	found warn pins "not known"
	found warn huge-pages "not known"
}

# bats test_tags=not-vm,not-base
@test "nothing is left behind or changed" {
	local before

	state() {
		cat /proc/self/mountinfo /proc/sys/user/max_user_namespaces \
			/proc/sys/vm/max_map_count
		find /dev/shm /run/user "$TESTDIR" -maxdepth 1 2>/dev/null |
			grep "$DS_MARK" || true
	}
	before=$(state)
	doctor
	[ -z "$(marked_pids)" ]
	diff -u <(echo "$before") <(state)
}

# bats test_tags=not-vm,not-base
@test "JSON says the same" {
	doctor -j loopback
	[ "$status" -eq 0 ]
	as_json 'v["works"] is True and
		v["roles"] == [{"role": "loopback", "transport": "loopback",
			"asked": True, "ready": True, "check": None,
			"why": None}] and
		c["ptrace"]["sides"] == ["run", "host"] and
		c["ptrace"]["verdict"] == "pass" and
		c["ptrace"]["remedy"] is None'
	without ptrace
	doctor --json
	[ "$status" -eq 1 ]
	as_json 'v["works"] is False and
		v["roles"][0]["ready"] is False and
		v["roles"][0]["check"] == "ptrace" and
		c["ptrace"]["verdict"] == "fail" and
		c["pagemap"]["verdict"] == "skip" and
		c["pagemap"]["found"] is None and
		"unconfined" in c["ptrace"]["remedy"]'
}

# bats test_tags=not-vm,not-base
@test "what fails or warns has a remedy, of one line" {
	local what all=(run host loopback shm hypercall)

	all_remedies() {
		as_json 'all(c["remedy"] and c["remedy"].isprintable() and
			c["found"].isprintable() for c in v["checks"]
			if c["verdict"] in ("warn", "fail"))'
		as_json 'all(c["remedy"] is None for c in v["checks"]
			if c["verdict"] == "pass")'
	}
	for what in ptrace seccomp io_uring pidfd process_vm memfd mounts \
		    madvise socketpair landlock fork userns; do
		without "$what"
		doctor -j "${all[@]}"
		all_remedies
	done
	as_user
	WITHOUT=()
	doctor -j "${all[@]}"
	all_remedies
}

# bats test_tags=not-vm,not-base
@test "wrong words and options are our own failure, and so is a full disk" {
	doctor nonsense
	[ "$status" -eq 125 ]
	grep -q "'nonsense': expected run, host, loopback" <<<"$output"
	doctor --nonsense
	[ "$status" -eq 125 ]
	run bash -c '"$1" doctor loopback >/dev/full' bash "$DARKSHADOW"
	complains "cannot write"
}

# bats test_tags=not-vm,not-base
@test "there are colours on a terminal, and only there" {
	doctor loopback
	[[ $output != *$'\033'* ]]
	run env TERM=xterm script -qec "$DARKSHADOW doctor loopback" /dev/null
	[[ $output = *$'\033[32mpass'* ]]
	run env TERM=xterm NO_COLOR=1 script -qec \
		"$DARKSHADOW doctor loopback" /dev/null
	[[ $output != *$'\033'* ]]
}
