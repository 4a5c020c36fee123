#!/bin/bash
# SPDX-License-Identifier: MIT
# judge.sh - Python's own regression tests, natively and with everything
# forwarded: every test must give the same verdict
#
#	judge.sh [--subset] [--root] [--keep DIR] [MODULE]...
#
# Both sides run one after the other, as the same user, in the same (emptied)
# directory. The user is an ordinary one, also when root calls: --root is for
# the other case. --subset is what `make check` has the time for. --keep says
# where the logs stay. Environment: BUILD, the build folder.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${BUILD:-$here/../../build}" && pwd)
python=/usr/bin/python3
# Seconds for one module, and for one test of it.
module_limit=3600
test_limit=900

# Modules for which sockets are forwarded. (In test_os asyncio waits for sockets
# and local descriptors by one epoll descriptor.)
net=(test_socket test_select test_poll test_epoll test_selectors
	test_socketserver)
all=(test_os test_io test_posix test_fileio test_shutil test_fcntl
	test_subprocess test_threading test_signal test_glob test_sqlite3
	"${net[@]}")
subset=(test_glob test_fileio test_shutil test_os)
# Of test_os in the subset: what is about files.
subset_os=(FileTests StatAttributeTests UtimeTests WalkTests FwalkTests
	MakedirTests RemoveDirsTests BytesWalkTests LinkTests TestScandir
	TestSendfile ExtendedAttributeTests NonLocalSymlinkTests FDInheritanceTests
	TestInvalidFD PosixUidGidTests ChownFileTests FSEncodingTests
	PathTConverterTests CPUCountTests OSErrorTests)

# shellcheck source=tests/judge/common.sh
. "$here/common.sh"

modules=()
match=()

parse() {
	local root=

	while [ $# -gt 0 ]; do
		case $1 in
		--subset)
			modules=("${subset[@]}")
			match=("${subset_os[@]}")
			;;
		--root) root=1 ;;
		--keep)
			[ $# -gt 1 ] || usage
			keep=$2
			shift
			;;
		-*) usage ;;
		*) modules+=("$1") ;;
		esac
		shift
	done
	if [ ${#modules[@]} -eq 0 ]; then
		modules=("${all[@]}")
	fi
	if [ -z "$root" ]; then
		as_nobody
	fi
}

prepare() {
	"$python" -c 'import test.libregrtest' 2>/dev/null ||
		die "Python's tests are missing: apt install libpython3-testsuite"
	make_work
}

has_module() {
	"$python" -c 'import importlib.util as u, sys
sys.exit(u.find_spec("test." + sys.argv[1]) is None)' "$1"
}

# judged SIDE MODULE [COMMAND...] - one module, run behind COMMAND; its log
judged() {
	local side=$1 module=$2 status=0 class dir=$work/tmp
	local args=(-m test -v --tempdir "$dir" --timeout "$test_limit")

	shift 2
	if [ "$module" = test_os ]; then
		for class in "${match[@]}"; do
			args+=(--match "$class")
		done
	fi
	rm -rf "$dir"
	install -d -m 755 ${as:+-o 65534 -g 65534} "$dir"
	(cd "$dir" && env -i PATH=/usr/bin:/bin HOME="$dir" TMPDIR="$dir" \
		LC_ALL=C.UTF-8 PYTHONUNBUFFERED=1 \
		timeout -k 10 "$module_limit" "${as[@]}" "$@" \
		"$python" "${args[@]}" "$module" \
		>"$work/logs/$module.$side" \
		2>"$work/logs/$module.$side.err" </dev/null) || status=$?
	printf '%s %s: status %s, %s s\n' "$module" "$side" "$status" \
		"$((SECONDS - begun))"
	if [ "$status" -ge 124 ]; then
		tail -n 5 "$work/logs/$module.$side.err" >&2
	fi
}

main() {
	local logs=() forward module verdict=0 begun

	parse "$@"
	prepare
	for module in "${modules[@]}"; do
		if ! has_module "$module"; then
			echo "$module: not part of this Python's test package"
			continue
		fi
		begun=$SECONDS
		judged native "$module"
		begun=$SECONDS
		forward=(--forward all)
		if [[ " ${net[*]} " == *" $module "* ]]; then
			forward+=(--forward net)
		fi
		judged shadowed "$module" "$build/darkshadow" run \
			"${forward[@]}" --
		logs+=("$work/logs/$module.native" "$work/logs/$module.shadowed")
	done
	[ ${#logs[@]} -gt 0 ] || die "no module to run"
	"$python" "$here/compare.py" --expected "$here/expected.txt" \
		"${logs[@]}" || verdict=$?
	keep_logs
	return "$verdict"
}

main "$@"
