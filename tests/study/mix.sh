#!/bin/bash
# SPDX-License-Identifier: MIT
# mix.sh - the page tables of a machine that does many things at once
#
#	mix.sh [SECONDS [INTERVAL [THP]...]]
#
# PostgreSQL under pgbench, nginx under ab, redis under redis-benchmark, a
# compiler, Pythons that build and drop structures, and a QEMU in which there
# are Pythons and a redis, too. They run for so many SECONDS (1800) with each
# setting of transparent huge pages, begun anew each time, and all page tables
# are sampled every INTERVAL (60) seconds. After each, with the rest ended, those
# of the guest are sampled in it, six times in half a minute, with its programs
# begun in three ways: as they are, by `darkshadow run`, and by `darkshadow run
# --huge=0`, which does not ask for huge pages.
#
# Memory is in more pieces the longer a machine runs, so what comes later looks
# worse. A setting may be given more than once, and its samples are put
# together: by default they go there and back (always madvise never never
# madvise always).
#
# NO_GUEST=1 leaves QEMU out.
#
# Goes to $OUT (build/study): a directory for each setting, and guest-SETTING,
# guest-SETTING-run and guest-SETTING-no-huge, with report.html and summary.txt,
# and programs.txt with a line a program.
#
# Needs root, and installs what is missing. All of it runs in namespaces of its
# own: nothing else of the machine is sampled, no port is taken, and when this
# ends all ends. The setting of huge pages is the machine's, and is put back.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
BUILD=$(cd "${BUILD:-$top/build}" && pwd)
OUT=${OUT:-$BUILD/study}
seconds=${1:-1800}
interval=${2:-60}
shift $(($# < 2 ? $# : 2))
settings=("$@")
[ $# -gt 0 ] || settings=(always madvise never never madvise always)
thp=/sys/kernel/mm/transparent_hugepage/enabled
export BUILD OUT

packages="postgresql postgresql-contrib nginx-light redis-server redis-tools \
apache2-utils gcc make python3 gnuplot-nox qemu-system-x86 qemu-system-common \
busybox-static cpio iproute2 util-linux"

fail() {
	echo "mix.sh: $*" >&2
	exit 1
}

# Services that come with packages are not to start: they would stay.
install_missing() {
	local package policy=/usr/sbin/policy-rc.d missing=()

	for package in $packages; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" \
			2>/dev/null)" = installed ] || missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	echo "installing: ${missing[*]}"
	if ! [ -e "$policy" ]; then
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
		# shellcheck disable=SC2064	# now
		trap "rm -f '$policy'" EXIT
	fi
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
		--no-install-recommends "${missing[@]}" >/dev/null
	[ -z "$(trap -p EXIT)" ] || rm -f "$policy"
	trap - EXIT
}

# --- the mix -----------------------------------------------------------------

# begin NAME COMMAND... - in the background, for as long as the setting lasts
begin() {
	local name=$1

	shift
	setsid "$@" >"$work/$name.log" 2>&1 </dev/null &
	running+=("$!")
}

database() {
	local bin socket=$work/pg

	bin=$(echo /usr/lib/postgresql/*/bin)
	bin=${bin##* }
	install -d -o postgres "$socket"
	runuser -u postgres -- "$bin/initdb" -D "$socket/data" >/dev/null
	begin postgres runuser -u postgres -- "$bin/postgres" \
		-D "$socket/data" -k "$socket" -c listen_addresses= \
		-c shared_buffers=256MB -c fsync=off
	eventually test -S "$socket/.s.PGSQL.5432"
	eventually runuser -u postgres -- "$bin/pgbench" -h "$socket" -q -i \
		-s 20 postgres >/dev/null 2>&1
	begin pgbench runuser -u postgres -- "$bin/pgbench" -h "$socket" \
		-c 8 -T 1000000 postgres
}

web() {
	install -d "$work/www"
	head -c 200000 /dev/urandom >"$work/www/big"
	cp "$top/README.md" "$work/www/small"
	cat >"$work/nginx.conf" <<-END
		daemon off;
		worker_processes 4;
		pid $work/nginx.pid;
		error_log $work/nginx.err;
		events { worker_connections 512; }
		http {
			access_log off;
			server { listen 127.0.0.1:8080; root $work/www; }
		}
	END
	begin nginx nginx -c "$work/nginx.conf"
	begin ab bash -c 'while :; do
		ab -q -k -c 16 -n 20000 http://127.0.0.1:8080/small
		ab -q -c 4 -n 2000 http://127.0.0.1:8080/big
		sleep 1
	done'
}

# It forks to save, and shares its pages with the child.
keys() {
	begin redis redis-server --port 0 --unixsocket "$work/redis" \
		--dir "$work" --save "20 1000" --maxmemory 300mb \
		--maxmemory-policy allkeys-lru
	eventually test -S "$work/redis"
	# shellcheck disable=SC2016	# for that shell
	begin redis-benchmark bash -c 'while :; do
		redis-benchmark -q -s "$1" -c 20 -n 100000 -r 500000 -d 400 \
			-t set,get,lpush,hset
		sleep 1
	done' bash "$work/redis"
}

compiler() {
	# shellcheck disable=SC2016	# for that shell
	begin make bash -c 'while :; do
		rm -rf "$1/cc"
		make -C "$2" BUILD="$1/cc" -j2 "$1/cc/darkshadow"
	done' bash "$work" "$top"
}

pythons() {
	local n

	for n in 1000 20000 200000 1000000; do
		begin "python-$n" /usr/bin/python3 "$here/grow.py" "$n"
	done
}

# Not awaited: emulated, and beside all that, it takes its time. Not of those
# that end first.
guest() {
	env DS_VM_DIR="$work/vm" DS_VM_BOOT_TIMEOUT=600 \
		"$top/tests/vm/vm.sh" start qemu --mem 1G --accel tcg \
		--append "transparent_hugepage=$1" \
		>"$work/guest.log" 2>&1 </dev/null &
}

eventually() {
	local i

	for ((i = 0; i < 600; i++)); do
		"$@" && return
		sleep 0.2
	done
	fail "never became true: $*"
}

# --- one setting -------------------------------------------------------------

start_mix() {
	running=()
	database
	web
	keys
	compiler
	pythons
	[ -n "${NO_GUEST:-}" ] || guest "$1"
}

end_mix() {
	local pid

	for pid in "${running[@]}"; do
		kill -KILL -- "-$pid" 2>/dev/null || true
	done
	# Some start sessions of their own.
	for pid in $(ps -e -o pid= -o comm= |
		awk '$2 ~ /^(postgres|redis|nginx)/ { print $1 }'); do
		kill -KILL "$pid" 2>/dev/null || true
	done
	wait "${running[@]}" 2>/dev/null || true
	running=()
}

in_guest() {
	env DS_VM_DIR="$work/vm" "$BUILD/vm/guest" -e "$@" </dev/null
}

# begin_in_guest NAME COMMAND... - as begin, in the guest
begin_in_guest() {
	begin "guest-$1" env DS_VM_DIR="$work/vm" "$BUILD/vm/guest" -e "${@:2}"
}

# sample_guest_by DIR [WORD]... - its programs, begun by WORDs, for half a minute
sample_guest_by() {
	local n out=$OUT/$1

	shift
	running=()
	for n in 1000 20000 100000; do
		begin_in_guest "python-$n" "$@" /usr/bin/python3 \
			"$here/grow.py" "$n"
	done
	begin_in_guest redis "$@" /usr/bin/redis-server --port 0 --save '' \
		--unixsocket /run/redis --maxmemory 200mb \
		--maxmemory-policy allkeys-lru
	eventually in_guest test -S /run/redis
	begin_in_guest redis-benchmark "$@" /usr/bin/redis-benchmark -q \
		-s /run/redis -c 4 -n 100000000 -r 200000 -d 1000 -P 16 -t set
	sleep 30
	in_guest "$BUILD/static/darkshadow" study --out "$out" --names \
		--interval 5s --count $(($(samples "$out") + 6))
	report "$out"
	# What runs in the guest ends with whoever has begun it here.
	end_mix
	eventually none_in_guest
	in_guest rm -f /run/redis
}

none_in_guest() {
	! in_guest pgrep -f 'grow[.]py|redis-' >/dev/null
}

sample_guest() {
	local run=("$BUILD/static/darkshadow" run --transport shm)
	local daemon

	echo "== in the guest"
	eventually test -S "$work/vm/socket"
	sample_guest_by "guest-$1"
	"$BUILD/darkshadow" host --vm "pid:$(cat "$work/vm/vmm.pid")" \
		--transport "shm:$work/vm/shm" --allow all \
		>"$work/daemon.log" 2>&1 &
	daemon=$!
	echo "== in the guest, by run"
	sample_guest_by "guest-$1-run" "${run[@]}" --
	echo "== in the guest, by run --huge=0"
	sample_guest_by "guest-$1-no-huge" "${run[@]}" --huge=0 --
	kill "$daemon" || fail "the daemon has ended: $(cat "$work/daemon.log")"
	wait "$daemon" || true
	DS_VM_DIR=$work/vm "$top/tests/vm/vm.sh" kill || true
}

# samples DIR - how many it has
samples() {
	if [ -e "$1/tables.csv" ]; then
		tail -n +3 "$1/tables.csv" | cut -d, -f1 | uniq | wc -l
	else
		echo 0
	fi
}

report() {
	"$BUILD/darkshadow" study report "$1" | tee "$1/summary.txt"
	by_program "$1/tables.csv" | tee "$1/programs.txt"
}

# by_program FILE - of each: tables, and medians, and the most extents
by_program() {
	printf '\n%-16s %7s %9s %9s %9s %7s\n' NAME TABLES PAGES EXTENTS \
		MOST RATIO
	tail -n +3 "$1" | sort -t, -k3,3 -k5,5n | awk -F, '
		function tell(	middle) {
			middle = int((n + 1) / 2)
			printf "%-16s %7d %9d %9d %9d %7.2f\n", name, n,
				pages[middle], extents[middle], extents[n],
				extents[middle] ? \
				pages[middle] / extents[middle] : 0
		}
		$3 != name { if (n) tell(); n = 0; name = $3 }
		{ n++; pages[n] = $4; extents[n] = $5 }
		END { if (n) tell() }'
}

sample() {
	local out=$OUT/$1

	echo "== transparent huge pages: $1"
	echo "$1" >"$thp"
	start_mix "$1"
	sleep 20
	"$BUILD/darkshadow" study --out "$out" --names \
		--interval "${interval}s" \
		--count $(($(samples "$out") + seconds / interval))
	report "$out"
	end_mix
	[ -n "${NO_GUEST:-}" ] || sample_guest "$1"
	rm -rf "${work:?}"/*
}

inside() {
	local setting

	ip link set lo up
	work=$(mktemp -d /var/tmp/ds-mix.XXXXXX)
	chmod 755 "$work"
	# shellcheck disable=SC2064	# now
	trap "rm -rf '$work'" EXIT
	for setting in "${settings[@]}"; do
		sample "$setting"
	done
}

outside() {
	local before setting

	[ "$(id -u)" -eq 0 ] || fail "run it as root: page tables are root's"
	install_missing
	make -C "$top" BUILD="$BUILD" all static >/dev/null
	make -C "$top" BUILD="$BUILD" "$BUILD/vm/mux" "$BUILD/vm/guest" \
		"$BUILD/vm/agent" >/dev/null
	[ -n "${NO_GUEST:-}" ] || "$top/tests/vm/kernels.sh"
	mkdir -p "$OUT"
	for setting in "${settings[@]}"; do
		rm -rf "${OUT:?}/$setting" "$OUT/guest-$setting"{,-run,-no-huge}
	done
	before=$(sed 's/.*\[\(.*\)\].*/\1/' "$thp")
	# shellcheck disable=SC2064	# now
	trap "echo '$before' >'$thp'" EXIT
	DS_MIX_INSIDE=1 nice unshare --pid --fork --kill-child --mount-proc \
		--net "$0" "$seconds" "$interval" "${settings[@]}"
}

if [ -n "${DS_MIX_INSIDE:-}" ]; then
	inside
else
	outside
fi
