#!/bin/bash
# SPDX-License-Identifier: MIT
# check.sh - run the tests: check.sh [PATTERN [WHERE...]]; PATTERN is a test's
# name without folder and suffix (launch, calls), "*" is all
#
# WHERE is loopback (and the unit tests), base (loopback with --no-patch), uml or
# qemu; without it: all four, qemu beside base and uml. In base and in a virtual
# machine run those tests whose file has the tag "vm", but for tests that cannot
# (tests/helpers.bash); their names begin with the machine's.
#
# Output of bats and of the unit tests (TAP) goes through; what failed is told
# again at the end, in short. The last line is "N passed, N failed", with
# ", N skipped" if there were any; the exit status is 0 only if nothing failed.
set -u
cd "$(dirname "$0")/.." || exit 1
BUILD=${BUILD:-$PWD/build}
# A test that hangs is to fail in a time that leaves the others theirs.
DS_TEST_TIMEOUT=${DS_TEST_TIMEOUT:-60}
export BUILD DS_TEST_TIMEOUT
# The tests are not part of the make that may have started them.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
pattern=${1:-*}
[ $# -eq 0 ] || shift
places=("$@")
[ $# -gt 0 ] || places=(loopback base uml qemu)
for place in "${places[@]}"; do
	case $place in
	loopback | base | uml | qemu) ;;
	*) echo "'$place' is not loopback, base, uml or qemu" >&2; exit 2 ;;
	esac
done
log=$(mktemp)
into=$log		# what goes through goes there as well
aside=$(mktemp)		# what the pass says that runs beside others
beside=			# its process group
broken=0

# shellcheck disable=SC2317	# called by the trap
finish() {
	[ -z "$beside" ] || kill -- "-$beside" 2>/dev/null
	rm -f "$log" "$aside"
}
trap finish EXIT
trap 'exit 130' INT TERM

shopt -s nullglob

units() {
	local source unit status

	# shellcheck disable=SC2231	# the pattern is meant as one
	for source in tests/unit/$pattern.c; do
		# A pattern without * stays as it is, file or not.
		[ -e "$source" ] || continue
		unit=$BUILD/unit/$(basename "$source" .c)
		echo "# unit: $(basename "$unit")"
		"$unit" 2>&1 | tee -a "$into"
		status=${PIPESTATUS[0]}
		if [ "$status" -ne 0 ]; then
			echo "not ok - $(basename "$unit") exited with $status" |
				tee -a "$into"
		fi
	done
}

# behaviour COMMAND... - bats, or what leads to it
behaviour() {
	# A machine that is asked to end still has something to say.
	"$@" 2>&1 | (trap '' INT TERM; exec tee -a "$into")
	# Failing tests are counted below; this is about bats itself.
	[ "${PIPESTATUS[0]}" -le 1 ] || broken=1
}

# Signals that whoever started this ignores (nohup, a shell's background job)
# are not ignored by what is tested.
bats=(env --default-signal=HUP --default-signal=INT --default-signal=QUIT
	bats --tap --print-output-on-failure --timing)
# shellcheck disable=SC2206
files=(tests/$pattern.bats)
[ -e "${files[0]-}" ] || files=()

loopback() {
	units
	if [ ${#files[@]} -gt 0 ]; then
		behaviour "${bats[@]}" "${files[@]}"
	fi
}

# fitting - fit has the files that can run elsewhere
fitting() {
	fit=()
	[ ${#files[@]} -gt 0 ] &&
		mapfile -t fit < <(grep -lE '^# bats file_tags=vm(,|$)' "${files[@]}")
	[ ${#fit[@]} -gt 0 ]
}

base() {
	fitting || return 0
	echo "# without the fast tier"
	BATS_TEST_NAME_PREFIX="base: " DS_OPTIONS=--no-patch behaviour \
		"${bats[@]}" --filter-tags "vm,!not-base" "${fit[@]}"
}

# machine KIND - what of the files can run there
machine() {
	fitting || return 0
	echo "# in a virtual machine: $1"
	BATS_TEST_NAME_PREFIX="$1: " behaviour tests/vm/with.sh "$1" \
		"${bats[@]}" --filter-tags "vm,!user,!not-vm,!not-$1" "${fit[@]}"
}

wanted() {
	[[ " ${places[*]} " = *" $1 "* ]]
}

! wanted loopback || loopback
# An emulated machine is slow, and leaves a core to others: it runs beside them.
if wanted qemu; then
	set -m
	(into=/dev/null; machine qemu; exit "$broken") >"$aside" 2>&1 </dev/null &
	beside=$!
	set +m
fi
! wanted base || base
! wanted uml || machine uml
if wanted qemu; then
	tail -n +1 -s 0.1 --pid="$beside" -f "$aside"
	wait "$beside" || broken=1
	beside=
	cat "$aside" >>"$log"
fi

failed=$(grep -c '^not ok' "$log")
skipped=$(grep -Ec '^ok .*# skip' "$log")
passed=$(($(grep -c '^ok' "$log") - skipped))
if [ $((passed + failed)) -eq 0 ]; then
	echo "no test is named '$pattern'"
	failed=1
fi
if [ "$broken" -ne 0 ]; then
	echo "bats did not run to its end"
	failed=$((failed + 1))
fi
# Output is long, and of that of a test most is often of no interest.
awk -v most=20 '
	function tell(	i) {
		if (name == "") return
		print "# failed: " name
		for (i = 1; i <= n; i++)
			if (i <= 2 || i > n - most) print "#   " said[i]
			else if (i == 3) print "#   ..."
		name = ""
	}
	/^not ok/ { tell(); sub(/^not ok /, ""); name = $0; n = 0; next }
	/^# / { sub(/^# /, ""); said[++n] = $0; next }
	{ tell() }
	END { tell() }' "$log"
if [ "$skipped" -gt 0 ]; then
	echo "$passed passed, $failed failed, $skipped skipped"
else
	echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ]
