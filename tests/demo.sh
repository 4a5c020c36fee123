#!/bin/bash
# SPDX-License-Identifier: MIT
# demo.sh - the main job on real files, in loopback, with an explanation
#
# Environment: BUILD, the build folder; DS_GUEST, a name that does not exist.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${BUILD:-$here/../build}" && pwd)
darkshadow=$build/darkshadow
guest=${DS_GUEST:-/mnt/ds-demo}
work=$(mktemp -d "${TMPDIR:-/tmp}/ds-demo.XXXXXX")
host=$work/srv-data

cleanup() {
	rm -rf "$work"
}
trap cleanup EXIT

step=0

# say TEXT... - what happens next, and why
say() {
	step=$((step + 1))
	printf '\n%d. %s\n' "$step" "$*" | fold -s -w 78
	echo
}

# show CMD... - prints the command as one would type it, then runs it
show() {
	local word text=

	for word in "$@"; do
		if [ "$word" = "$darkshadow" ]; then
			word=darkshadow
		elif [[ $word == *[!a-zA-Z0-9_/.:=,+-]* ]]; then
			word="'$word'"
		fi
		text+=" $word"
	done
	printf '   $%s\n' "$text"
	"$@" 2>&1 | sed 's/^/     /'
}

# some FILE - its first lines, cut to the width of a terminal
some() {
	local lines

	lines=$(wc -l <"$1")
	head -n "${2:-8}" "$1" | cut -c 1-100 | sed 's/^/     /'
	if [ "$lines" -gt "${2:-8}" ]; then
		printf '     ... %s lines in all\n' "$lines"
	fi
}

make_files() {
	mkdir -p "$host/notes"
	for i in $(seq 1 20); do
		seq "$i" $((i + 30)) | sed 's/^/line /'
		if [ $((i % 4)) -eq 0 ]; then
			echo "a needle of page $i"
		fi
	done | split -l 40 - "$host/notes/page."
	seq 1 1000 | awk '{ print $1 "," $1 % 7 "," $1 * $1 }' >"$host/table.csv"
}

main() {
	local run=("$darkshadow" run --forward "path:$guest=$host")

	if [ ! -x "$darkshadow" ]; then
		echo "demo: there is no $darkshadow: run make" >&2
		exit 125
	fi
	make_files

	say "Real files lie in $host." \
		"The programs below know them as $guest, a name that does" \
		"not exist on their side; it will not be created either."
	show ls "$host"
	show ls "$guest" || true

	say "grep and sort run here, unmodified. Every system call that names" \
		"$guest is carried out by their shadows, host processes that" \
		"see the same memory at the same addresses."
	show "${run[@]}" -- sh -c "grep -rh needle $guest | sort"

	say "The same with --trace: one line for each call that was forwarded," \
		"and none for what the program did on its own side."
	"${run[@]}" "--trace=$work/trace" -- \
		sh -c "grep -rh needle $guest | sort" >/dev/null
	some "$work/trace" 10

	say "Python computes here and writes there: the file appears in the" \
		"host's directory."
	show "${run[@]}" -- /usr/bin/python3 -c "
import csv
rows = list(csv.reader(open('$guest/table.csv')))
with open('$guest/sum.txt', 'w') as f:
    f.write(f'{len(rows)} rows, sum {sum(int(r[2]) for r in rows)}\n')"
	show cat "$host/sum.txt"

	if command -v sqlite3 >/dev/null; then
		say "A database, with its locks, its journal and its fsyncs."
		show "${run[@]}" -- sqlite3 "$guest/demo.db" \
			'create table t (a, b, c);' '.mode csv' \
			".import $guest/table.csv t" \
			'select b, count(*), sum(c) from t group by b limit 3'
		show sqlite3 "$host/demo.db" 'pragma integrity_check'
	fi

	say "A read-only rule is kept by the host's kernel, not by us."
	show "$darkshadow" run --forward "path:$guest=$host:ro" -- \
		sh -c "echo mine > $guest/table.csv" || true

	say "The statistics of reading 1 GiB of zeros. Look at the control" \
		"stream: the data went from the file to the program's memory" \
		"directly, through no socket and no pipe."
	truncate -s 1G "$host/sparse"
	show "${run[@]}" --stats -- \
		dd "if=$guest/sparse" of=/dev/null bs=16M status=none

	say "And nothing is left: no process, and no $guest."
	show ls "$guest" || true
}

main "$@"
