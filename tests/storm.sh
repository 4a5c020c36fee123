#!/bin/bash
# SPDX-License-Identifier: MIT
# storm.sh - the long run of tests/victims/storm.c: storm.sh [OPTION]...
#
# OPTIONs are of `darkshadow run`. CALLS (1000000) are made natively, by 16
# threads and by 1, 2 and 4; then the same forwarded, and a tenth of it with
# everything forwarded. SEED is of the first run, each run has the next one; a
# failure tells which it was. BUILD is the build folder.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${BUILD:-$here/../build}" && pwd)
guest=${DS_GUEST:-/mnt/ds-host}
calls=${CALLS:-1000000}
seed=${SEED:-$RANDOM}
work=$(mktemp -d "${TMPDIR:-/tmp}/ds-storm.XXXXXX")
trap 'rm -rf "$work"' EXIT

# storm WHAT DIR CALLS THREADS [COMMAND]...
storm() {
	local what=$1 dir=$2 calls=$3 threads=$4

	shift 4
	echo "$what:"
	"$@" "$build/victims/storm" "$dir" --strict --calls "$calls" \
		--threads "$threads" --seed "$seed"
	seed=$((seed + 1))
}

for threads in 16 1 2 4; do
	storm natively "$work" "$calls" "$threads"
	storm forwarded "$guest" "$calls" "$threads" "$build/darkshadow" run \
		"$@" --forward "path:$guest=$work" --
done
storm "everything forwarded" "$work" $((calls / 10)) 16 \
	"$build/darkshadow" run "$@" --forward all --
