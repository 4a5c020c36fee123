#!/bin/bash
# SPDX-License-Identifier: MIT
# programs.sh - how long whole programs take, natively and otherwise
#
# Called by bench.sh, prints lines "SIDE NAME NANOSECONDS", every one a run of
# the program from fork to exit: PROGRAM_PASSES (5) runs a side, in turns.
# The sides, where installed: darkshadow with and without patched calls;
# strace that prints nothing, stopping at every call, and at those that take a
# file name by its seccomp filter; PRoot with the same directory bound.
# Environment: BENCH, the measuring program; DARKSHADOW.
set -euo pipefail

guest=${DS_GUEST:-/mnt/ds-host}
passes=${PROGRAM_PASSES:-5}
python=${PYTHON:-/usr/bin/python3}
work=$(mktemp -d "${TMPDIR:-/tmp}/ds-programs.XXXXXX")
host=$work/host
trap 'rm -rf "$work"' EXIT

export LC_ALL=C HOME=/nonexistent PYTHONDONTWRITEBYTECODE=1
export GIT_CONFIG_NOSYSTEM=1 GIT_OPTIONAL_LOCKS=0
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org
export GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.org

have() {
	command -v "$1" >/dev/null
}

# find_sides - sides holds those that work here
find_sides() {
	local side

	sides=(native darkshadow)
	if "$DARKSHADOW" run --help | grep -q -e --no-patch; then
		sides+=(no_patch)
	fi
	binds=()
	for side in strace strace_bpf proot; do
		wrap "$side"
		if "${wrap[@]}" true >/dev/null 2>&1; then
			sides+=("$side")
		else
			echo "programs.sh: without $side: cannot run it" >&2
		fi
	done
}

# wrap SIDE - wrap: what comes before the command; dir: where its files are.
# binds: "GUEST=HOST"...
wrap() {
	local bind forward=() bound=()

	for bind in "${binds[@]}"; do
		forward+=(--forward "path:$bind")
		bound+=(-b "${bind#*=}:${bind%%=*}")
	done
	dir=$host
	case $1 in
	native) wrap=() ;;
	darkshadow) wrap=("$DARKSHADOW" run "${forward[@]}" --) dir=$guest ;;
	no_patch) wrap=("$DARKSHADOW" run --no-patch "${forward[@]}" --)
		dir=$guest ;;
	strace) wrap=(strace -f -qq -o /dev/null -e trace=none -e signal=none) ;;
	strace_bpf) wrap=(strace -f -qq -o /dev/null --seccomp-bpf
		-e trace=%file -e signal=none) ;;
	proot) wrap=(proot "${bound[@]}") dir=$guest ;;
	esac
}

# figure NAME - command_NAME sets command, for the files in dir; the first run
# warms up. Nobody is always behind the same one, or behind writes of others.
figure() {
	local name=$1 pass i side

	wrap native
	"command_$name"
	"${command[@]}" >/dev/null </dev/null
	for ((pass = 0; pass < passes; pass++)); do
		for ((i = 0; i < ${#sides[@]}; i++)); do
			side=${sides[(i + pass) % ${#sides[@]}]}
			wrap "$side"
			"command_$name"
			sync -f "$work"
			"$BENCH" --wall "$name" "${wrap[@]}" "${command[@]}" |
				sed "s/^/$side /"
		done
	done
}

make_tree() {
	local i

	mkdir "$host/tree"
	for ((i = 0; i < 200; i++)); do
		mkdir "$host/tree/$i"
		(cd "$host/tree/$i" && touch f{1..99} && seq 500 >f100)
	done
}

command_find() {
	command=(find "$dir/tree" -size +1k)
}

# make_repository NAME FILES - in directories of a hundred; older than the index,
# or git would read them all
make_repository() {
	local repo=$host/$1 files=$2 i

	mkdir "$repo"
	for ((i = 0; i < files; i++)); do
		((i % 100)) || mkdir "$repo/$((i / 100))"
		echo "file $i" >"$repo/$((i / 100))/f$i"
	done
	find "$repo" -exec touch -d "2002-02-02 UTC" {} +
	git -C "$repo" init -q
	git -C "$repo" add .
	git -C "$repo" -c gc.auto=0 commit -qm first
}

command_git_status() {
	command=(git -C "$dir/repo" status --porcelain)
}

command_git_large() {
	command=(git -C "$dir/large" status --porcelain)
}

# inserts TRANSACTIONS INSERTS - SQL, so many of them in each
inserts() {
	local i k

	echo "create table t (a integer primary key, b text);"
	for ((i = 0; i < $1; i++)); do
		echo "begin;"
		for ((k = 0; k < $2; k++)); do
			echo "insert into t (b) values ('row $k of $i');"
		done
		echo "commit;"
	done
}

make_sql() {
	inserts 100 100 >"$work/many.sql"
	inserts 200 1 >"$work/each.sql"
	{
		echo "pragma synchronous = off;"
		inserts 1000 1
	} >"$work/nosync.sql"
}

# sql NAME - begins with no database
sql() {
	rm -f "$host/db" "$host/db-journal"
	command=(sqlite3 -batch "$dir/db" ".read $work/$1.sql")
}

command_sqlite_10k() {
	sql many
}

command_sqlite_each() {
	sql each
}

command_sqlite_nosync() {
	sql nosync
}

# Of libc6-dev and linux-libc-dev.
headers="
aio argp argz arpa/inet arpa/nameser arpa/telnet arpa/tftp assert byteswap
complex cpio ctype dirent dlfcn elf endian envz err errno error execinfo
fcntl features fenv fmtmsg fnmatch ftw gconv getopt glob gnu-versions grp
iconv ifaddrs inttypes langinfo libgen libintl limits link linux/audit
linux/bpf linux/fs linux/fuse linux/futex linux/if_packet linux/input
linux/io_uring linux/kvm linux/loop linux/netlink linux/perf_event
linux/rtnetlink linux/seccomp linux/tcp linux/types linux/userfaultfd
linux/vfio linux/vhost locale malloc math mcheck mntent monetary mqueue
net/ethernet net/if net/if_arp net/route netdb netinet/icmp6 netinet/in
netinet/ip netinet/ip6 netinet/udp nl_types nss obstack poll printf pthread
pty pwd regex resolv sched search semaphore setjmp shadow signal spawn
stdint stdio stdlib string strings sys/acct sys/epoll sys/eventfd
sys/fanotify sys/file sys/inotify sys/ioctl sys/ipc sys/mman sys/mount
sys/msg sys/personality sys/poll sys/prctl sys/ptrace sys/quota sys/random
sys/resource sys/select sys/sem sys/sendfile sys/shm sys/signalfd
sys/socket sys/stat sys/statfs sys/statvfs sys/sysinfo sys/time sys/timerfd
sys/times sys/uio sys/un sys/user sys/utsname sys/vfs sys/wait sys/xattr
syslog tar termios tgmath thread_db threads time uchar ucontext unistd
utime utmp utmpx wchar wctype wordexp
"

make_source() {
	local name

	for name in $headers; do
		echo "#include <$name.h>"
	done >"$work/many.c"
	echo "int main(void) { return 0; }" >>"$work/many.c"
	binds=()
	for name in /usr/include "$(gcc -print-file-name=include)"; do
		binds+=("$name=$name")
	done
}

command_gcc() {
	command=(gcc -D_GNU_SOURCE -w -c -o "$work/many.o" "$work/many.c")
}

command_python() {
	command=("$python" -c "import json, argparse, email")
}

main() {
	mkdir "$host"
	binds=()
	find_sides
	binds=("$guest=$host")
	make_tree
	figure find
	if have git; then
		make_repository repo 3000
		figure git_status
		make_repository large 20000
		figure git_large
	fi
	if have sqlite3; then
		make_sql
		figure sqlite_10k
		figure sqlite_each
		figure sqlite_nosync
	fi
	if have "$python"; then
		figure python
	fi
	if have gcc; then
		make_source
		figure gcc
	fi
}

main
