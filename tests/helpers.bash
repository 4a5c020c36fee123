# shellcheck shell=bash
# helpers.bash - what the tests share: trees, ways to run, leak checks
#
# The same test files run on any transport: DS_RUN, when set, is the command
# (words split at blanks) that takes the place of "$BUILD/darkshadow run", and
# DS_OPTIONS, words as well, is put behind that.
#
# In a virtual machine (tests/vm/with.sh, DS_VM=KIND) runs the whole of a file
# that has the tag "vm", but for tests with a tag that tells where they cannot
# hold, and a comment that tells why: "not-vm", "not-uml", "not-qemu". "user",
# which is for tests with as_user, is such a tag, too: in a machine only root
# can run. "not-base": the test is of the fast tier. "no-vm-all": the test holds, but not with everything forwarded.
# The trees are at the same places there, and visible to both sides.

# "output", "status" and "stderr" are set by bats's own run.
# shellcheck disable=SC2154

bats_require_minimum_version 1.5.0

# A command may take this long (seconds), on any machine: no timing is tested.
: "${DS_TEST_TIMEOUT:=300}"

# common_setup - per test: TESTDIR with HOSTDIR, which is forwarded as GUEST,
# LOCALDIR, which is not, and NATIVEDIR for the same thing done natively
common_setup() {
	BUILD=$(cd "${BUILD:-$BATS_TEST_DIRNAME/../build}" && pwd)
	DARKSHADOW=$BUILD/darkshadow
	# As users take it into a guest; and no sanitizer works everywhere.
	DS_STATIC=$BUILD/static/darkshadow
	VICTIMS=$BUILD/victims
	GUEST=${DS_GUEST:-/mnt/ds-host}
	TESTDIR=$(mktemp -d "${TMPDIR:-/tmp}/ds-test.XXXXXX")
	HOSTDIR=$TESTDIR/host
	LOCALDIR=$TESTDIR/local
	NATIVEDIR=$TESTDIR/native
	SOCKET=$TESTDIR/socket
	DS_MARK=$(basename "$TESTDIR")
	DS_AS=()
	DS_MORE=()
	DAEMON=
	RUN=
	export BUILD DARKSHADOW DS_STATIC VICTIMS GUEST HOSTDIR LOCALDIR NATIVEDIR
	# A file system of the guest alone; LOCALDIR is the host's, too.
	VICTIM_LOCAL=$LOCALDIR
	if [ -n "${DS_VM:-}" ]; then
		VICTIM_LOCAL=/run/ds-local
	fi
	mkdir "$HOSTDIR" "$LOCALDIR" "$NATIVEDIR"
	chmod 755 "$TESTDIR"
	echo "the secret of the host" >"$TESTDIR/secret"
	if [ -e "$GUEST" ]; then
		echo "$GUEST exists: set DS_GUEST to a name that does not" >&2
		return 1
	fi
}

common_teardown() {
	local status=0 pid

	for pid in $RUN $DAEMON; do
		kill "$pid" 2>/dev/null || true
		if ! eventually gone "$pid"; then
			kill -KILL "$pid"
			status=1
		fi
		wait "$pid" 2>/dev/null || true
	done
	assert_nothing_left || status=1
	rm -rf "$TESTDIR"
	return "$status"
}

setup() {
	common_setup
}

teardown() {
	common_teardown
}

# eventually CMD... - poll until it succeeds; fails after ten seconds
eventually() {
	local i

	for ((i = 0; i < 500; i++)); do
		if "$@"; then
			return 0
		fi
		sleep 0.02
	done
	echo "never became true: $*" >&2
	return 1
}

# gone PID - it has ended, whether or not anybody has asked for its status
gone() {
	! grep -qs '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status"
}

# ended - waits for RUN, not for ever; sets status as run does
ended() {
	local i

	status=0
	for ((i = 0; i < DS_TEST_TIMEOUT * 50; i++)); do
		if gone "$RUN"; then
			wait "$RUN" || status=$?
			RUN=
			return 0
		fi
		sleep 0.02
	done
	echo "darkshadow ($RUN) does not end" >&2
	kill -KILL "$RUN"
	return 1
}

# as_user - what follows runs as an ordinary user, who owns the trees
as_user() {
	if [ "$(id -u)" -ne 0 ]; then
		return 0
	fi
	DS_AS=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	chown -R 65534:65534 "$TESTDIR"
}

# shadowed ARG... - `darkshadow run ARG...`, on whatever transport is tested
#
# Descriptor 3 is bats's own: whoever kept it open would hang the tests.
shadowed() {
	local run=("$DARKSHADOW" run)

	if [ -n "${DS_RUN:-}" ]; then
		read -ra run <<<"$DS_RUN"
	fi
	# shellcheck disable=SC2206	# words
	run+=(${DS_OPTIONS:-})
	: >"$TESTDIR/has-run"
	DS_TEST_MARK=$DS_MARK timeout --foreground -k 10 "$DS_TEST_TIMEOUT" \
		"${DS_AS[@]}" "${run[@]}" "$@" 3>&-
}

# ds [OPTION]... -- CMD... - with HOSTDIR forwarded as GUEST; DS_MORE has
# further options
ds() {
	shadowed --forward "path:$GUEST=$HOSTDIR" "${DS_MORE[@]}" "$@"
}

# ds_background [OPTION]... -- CMD... - ds in the background; RUN is the pid of
# darkshadow itself
ds_background() {
	local run=("$DARKSHADOW" run)

	if [ -n "${DS_RUN:-}" ]; then
		read -ra run <<<"$DS_RUN"
	fi
	# shellcheck disable=SC2206	# words
	run+=(${DS_OPTIONS:-})
	: >"$TESTDIR/has-run"
	DS_TEST_MARK=$DS_MARK "${DS_AS[@]}" "${run[@]}" \
		--forward "path:$GUEST=$HOSTDIR" "$@" <&0 3>&- &
	RUN=$!
}

# ds_all [OPTION]... -- CMD... - with everything forwarded
ds_all() {
	shadowed --forward all "${DS_MORE[@]}" "$@"
}

# victim NAME [CASE]... - a victim in the forwarded tree
#
# 77 says that the machine lacks what the case needs: then it has to say so
# natively too.
victim() {
	local name=$1 status=0

	shift
	if [ -n "${DS_VM:-}" ] && [ $# -gt 0 ]; then
		victim_at_once "$name" "$@" || status=$?
	else
		VICTIM_SHADOWED=1 VICTIM_LOCAL=$VICTIM_LOCAL \
			VICTIM_SECRET=$TESTDIR/secret \
			ds -- "$VICTIMS/$name" "$GUEST" "$@" || status=$?
	fi
	victim_verdict "$status" "$name" "$@"
}

# victim_all NAME [CASE]... - a victim with everything forwarded
victim_all() {
	local name=$1 status=0 limit=$DS_TEST_TIMEOUT

	shift
	if [ $# -eq 0 ] && [ -n "${DS_VM:-}" ]; then
		limit=600
		# shellcheck disable=SC2046	# a word a case
		set -- $(cases_here "$name" no-vm-all)
	fi
	# With everything forwarded, only what is the host's can be local.
	VICTIM_LOCAL=$LOCALDIR DS_TEST_TIMEOUT=$limit ds_all -- "$VICTIMS/$name" "$HOSTDIR" "$@" ||
		status=$?
	victim_verdict "$status" "$name" "$@"
}

# victim_at_once NAME CASE - for machines that are slow to start programs: the
# first case of a file runs all that the file has, the others look it up
victim_at_once() {
	local name=$1 dir=$BATS_FILE_TMPDIR/$1 limit=$DS_TEST_TIMEOUT

	if ! [ -e "$dir/log" ]; then
		mkdir -p "$dir/host"
		chmod 755 "$dir"
		cp "$TESTDIR/secret" "$dir/secret"
		# shellcheck disable=SC2046	# a word a case
		VICTIM_SHADOWED=1 VICTIM_LOCAL=$VICTIM_LOCAL \
			VICTIM_SECRET=$dir/secret \
			VICTIM_TIMEOUT=$limit DS_TEST_TIMEOUT=600 \
			shadowed --forward "path:$GUEST=$dir/host" \
			"${DS_MORE[@]}" -- \
			"$VICTIMS/$name" "$GUEST" --each $(cases_here "$name") \
			>"$dir/log" 2>&1 || echo "status $?" >>"$dir/log"
	fi
	# No case has got out of its tree.
	[ "$(cd "$dir" && echo *)" = "host log secret" ] || return 1
	cmp "$dir/secret" "$TESTDIR/secret" || return 1
	awk -v wanted="$2" '
		/^== / && $2 == wanted { printf "%s", said; status = $3
			found = 1; exit }
		/^== / { said = ""; next }
		{ said = said $0 "\n" }
		END { if (!found) { printf "%s", said; status = 1
			print wanted ": the run of all cases did not get to it" }
			exit status }' "$dir/log" >&2
}

# cases_here NAME [TAG] - the victim's cases, but for those of tests that a tag
# leaves out in the machine that is tested, and of those that have the TAG
cases_here() {
	local out

	out=$(awk -v vm="not-(vm|${DS_VM:-none})${2:+|$2}" -v name="$1" '
		/^# bats test_tags=/ { tags = $0; next }
		/^@test / { left_out = tags ~ vm; tags = "" }
		left_out && $1 == "victim" && $2 == name { print $3 }' \
		"$BATS_TEST_FILENAME")
	"$VICTIMS/$1" --list | grep -vxF "$out"
}

victim_verdict() {
	local status=$1 name=$2 native=0

	shift 2
	if [ "$status" -eq 77 ]; then
		VICTIM_LOCAL=$LOCALDIR "${DS_AS[@]}" "$VICTIMS/$name" \
			"$NATIVEDIR" "$@" 2>"$TESTDIR/reason" || native=$?
		if [ "$native" -eq 77 ]; then
			skip "$(cat "$TESTDIR/reason")"
		fi
		echo "$name $*: skipped when shadowed, $native natively" >&2
	fi
	if [ "$status" -ne 0 ]; then
		echo "$name $*: status $status" >&2
	fi
	return "$status"
}

# assert_cases_tested NAME [FILE]... - every case of the victim occurs in the test
# file, or in others beside it
assert_cases_tested() {
	local name victim=$1 missing=0 files=("$BATS_TEST_FILENAME")

	shift
	for name; do
		files+=("$BATS_TEST_DIRNAME/$name")
	done
	for name in $("$VICTIMS/$victim" --list); do
		if ! grep -qw "$name" "${files[@]}"; then
			echo "no test runs the case $name of $victim" >&2
			missing=1
		fi
	done
	return "$missing"
}

# IN_TUNS CMD... - in a network of its own that routes between ds0 and ds1
# shellcheck disable=SC2016,SC2034	# for sh; used by tests
IN_TUNS=(unshare -n sh -c '
	set -e
	for i in 0 1; do
		ip tuntap add ds$i mode tun user root
		ip addr add 10.9.$i.1/24 dev ds$i
		ip link set ds$i up
	done
	echo 1 >/proc/sys/net/ipv4/ip_forward
	exec "$@"' tuns)

# daemon ARG... - `darkshadow host` started by hand on SOCKET, until teardown
daemon() {
	DS_TEST_MARK=$DS_MARK "${DS_AS[@]}" "$DARKSHADOW" host \
		--transport "loopback:$SOCKET" "$@" \
		>"$TESTDIR/daemon.log" 2>&1 3>&- &
	DAEMON=$!
	eventually test -S "$SOCKET"
}

# daemon_pids - daemons of this test: its mark, our binary, not `run`
daemon_pids() {
	local pid

	for pid in $(marked_pids); do
		if [ "$(readlink "/proc/$pid/exe")" = "$DARKSHADOW" ] &&
			[ "$pid" != "${1:-}" ]; then
			echo "$pid"
		fi
	done
}

# marked_pids - living processes that this test started, however indirectly
marked_pids() {
	local file

	for file in $(env -u DS_TEST_MARK grep -lsaF \
		"DS_TEST_MARK=$DS_MARK" /proc/[0-9]*/environ); do
		file=${file#/proc/}
		echo "${file%/environ}"
	done
}

# tracer_of PID - who traces it; 0: nobody
tracer_of() {
	sed -n 's/^TracerPid:[^0-9]*//p' "/proc/$1/status" 2>/dev/null
}

# mapped PATTERN - pids that have a mapping like it
mapped() {
	local file

	# shellcheck disable=SC2013 # one name a word, no spaces in them
	for file in $(grep -lsE "$1" /proc/[0-9]*/maps); do
		file=${file#/proc/}
		echo "${file%/maps}"
	done
}

# tracers_of_shadows - processes of this test's daemons; in a machine there is
# one daemon for all tests, and a child of it is a session
tracers_of_shadows() {
	if [ -n "${DS_VM:-}" ]; then
		pgrep -P "$DS_VM_DAEMON" || true
	else
		marked_pids
	fi
}

# shadow_pids - living shadows whose daemon belongs to this test: the code of
# the capsule is at its place in them (capsule/abi.h)
shadow_pids() {
	local marked pid

	marked=" $(tracers_of_shadows | tr '\n' ' ')"
	for pid in $(mapped '^4d60[0-9a-f]{8}-[0-9a-f]+ r-x'); do
		case "$marked" in
		*" $(tracer_of "$pid") "*) echo "$pid" ;;
		esac
	done
}

# strays - pids of what should be gone: everything that carries this test's
# mark, and shadows and targets (known by the ranges of capsule/abi.h; what
# the kernel shows of a target's environment is empty) that nobody traces, or
# that a process of this test does
strays() {
	local marked pid tracer

	marked=" $(marked_pids | tr '\n' ' ')"
	for pid in $marked; do
		echo "$pid"
	done
	for pid in $(mapped '^4d[56]0[0-9a-f]{8}-'); do
		tracer=$(tracer_of "$pid") || continue
		case "$marked" in
		*" $pid "*) ;;
		*" $tracer "*) echo "$pid" ;;
		*) if [ "$tracer" = 0 ]; then echo "$pid"; fi ;;
		esac
	done
}

# assert_nothing_left - no darkshadow, no shadow, no target; polls for 2 s
assert_nothing_left() {
	local i pid left

	if [ -n "${DS_VM:-}" ]; then
		if [ -e "$TESTDIR/has-run" ]; then
			assert_machine_clean
		fi
		return
	fi
	for ((i = 0; i < 40; i++)); do
		left=$(strays)
		if [ -z "$left" ]; then
			return 0
		fi
		sleep 0.05
	done
	echo "left behind:" >&2
	for pid in $left; do
		printf '%s %s %s\n' "$pid" "$(readlink "/proc/$pid/exe")" \
			"$(tr '\0' ' ' <"/proc/$pid/cmdline")" >&2
		# Left alone it would disturb the tests that follow.
		kill -KILL "$pid" 2>/dev/null || true
	done
	return 1
}

# assert_machine_clean - in the guest nothing of this test is left, and the
# machine's daemon has no session, so no shadow
assert_machine_clean() {
	local status=0

	timeout --foreground -k 10 60 "$BUILD/vm/guest" -e "$BUILD/vm/tidy" \
		"$DS_MARK" "$VICTIM_LOCAL" 3>&- >&2 || status=1
	if ! eventually no_sessions; then
		ps --ppid "$DS_VM_DAEMON" -o pid,stat,args >&2
		status=1
	fi
	return "$status"
}

no_sessions() {
	! pgrep -P "$DS_VM_DAEMON" >/dev/null
}

# complains PATTERN - of the last `run`: our own failure, one line, and clear
# (argp adds a line of its own to what is wrong with an option, or two)
complains() {
	echo "status $status: $output"
	[ "$status" -eq 125 ]
	[ "$(grep -Evc '^(Try .*--help.*|information\.)$' <<<"$output")" -eq 1 ]
	[[ $output =~ $1 ]]
}
