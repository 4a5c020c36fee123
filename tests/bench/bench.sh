#!/bin/bash
# SPDX-License-Identifier: MIT
# bench.sh - what darkshadow costs, as ratios to the same thing done natively
#
#	bench.sh [--json]
#
# Both sides are measured in the same run, in turns, PASSES times (3); a
# figure is the median over the passes. Environment: BUILD, the build folder,
# with darkshadow in it and bench/bench or bench; CC where neither is there.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${BUILD:-$here/../../build}" && pwd)
guest=${DS_GUEST:-/mnt/ds-host}
passes=${PASSES:-3}
work=
json=

die() {
	echo "bench: $1" >&2
	exit 125
}

cleanup() {
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
	"${CC:-cc}" -std=gnu11 -O2 -o "$bench" "$here/bench.c"
}

one_pass() {
	"$bench" "$work/host" >>"$work/native"
	"$bench" --startup "$bench" --stamp >>"$work/native"
	"${run[@]}" "$bench" "$guest" >>"$work/shadowed"
	"$bench" --startup "${run[@]}" "$bench" --stamp >>"$work/shadowed"
}

# report - "NAME NANOSECONDS" lines of both sides to a table or to JSON
report() {
	awk -v json="$json" '
	BEGIN {
		say["pread_1"] = "forwarded pread of 1 byte"
		say["pread_1m"] = "forwarded pread of 1 MiB"
		say["map_pread"] = "mmap, forwarded pread, munmap"
		say["getpid"] = "unforwarded getpid"
		say["read_local"] = "unforwarded read of 1 byte"
		say["mmap_munmap"] = "mmap, touch and munmap of 1 MiB"
		say["fork_exec"] = "fork, exec and wait of /bin/true"
		say["startup"] = "start-up to main"
	}
	{
		side = FILENAME ~ /native$/ ? "n" : "s"
		if (!($1 in seen)) { seen[$1]; order[++names] = $1 }
		v[side, $1, ++count[side, $1]] = $2 + 0
	}
	function median(side, name,    n, i, j, t, a) {
		n = count[side, name]
		for (i = 1; i <= n; i++)
			a[i] = v[side, name, i]
		for (i = 2; i <= n; i++)
			for (j = i; j > 1 && a[j] < a[j - 1]; j--) {
				t = a[j]; a[j] = a[j - 1]; a[j - 1] = t
			}
		return a[int((n + 1) / 2)]
	}
	END {
		if (json)
			print "{"
		else
			printf "%-34s %12s %14s %8s\n", "", "native",
				"darkshadow", "ratio"
		for (i = 1; i <= names; i++) {
			name = order[i]
			n = median("n", name)
			s = median("s", name)
			if (json)
				printf "  \"%s\": {\"native_ns\": %.1f, " \
					"\"darkshadow_ns\": %.1f, " \
					"\"ratio\": %.3f}%s\n", name, n, s,
					s / n, i < names ? "," : ""
			else
				printf "%-34s %9.2f us %11.2f us %8.2f\n",
					say[name], n / 1000, s / 1000, s / n
		}
		if (json)
			print "}"
	}' "$work/native" "$work/shadowed"
}

main() {
	local pass

	case ${1:-} in
	--json) json=1 ;;
	"") ;;
	*) die "usage: bench.sh [--json]" ;;
	esac
	[ -x "$build/darkshadow" ] || die "there is no $build/darkshadow: run make"
	work=$(mktemp -d "${TMPDIR:-/tmp}/ds-bench.XXXXXX")
	trap cleanup EXIT
	mkdir "$work/host"
	find_bench
	run=("$build/darkshadow" run --forward "path:$guest=$work/host" --)
	for ((pass = 0; pass < passes; pass++)); do
		one_pass
	done
	report
}

main "$@"
