#!/bin/bash
# SPDX-License-Identifier: MIT
# lint.sh - every checker there is; a missing one is a finding, too
set -u
cd "$(dirname "$0")/.." || exit 1
findings=0

say() {
	printf '  %-11s%s\n' "$1" "$2"
}

need() {
	command -v "$1" >/dev/null && return 0
	say "$1" "missing: install it (Debian package ${2:-$1})"
	findings=1
	return 1
}

check() {
	local name=$1
	shift
	say "$name" "..."
	"$@" || { say "$name" "FOUND SOMETHING"; findings=1; }
}

# shellcheck disable=SC2317	# called by name, through check()
# base <- process <- vm; base <- wire; all these <- guest, host, tool <-
# darkshadow.c. The host serves VMs and the tools list them, so what finds VMs
# is below both; the guest side knows of none.
arrows() {
	local bad=0 room forbidden
	while read -r room forbidden; do
		if grep -nE "#include \"($forbidden)/" src/"$room"/*.[ch]; then
			echo "src/$room must not know $forbidden"
			bad=1
		fi
	done <<-'END'
		base process|wire|vm|guest|host|tool
		process wire|vm|guest|host|tool
		wire process|vm|guest|host|tool
		vm wire|guest|host|tool
		guest vm|host|tool
		host guest|tool
		tool guest|host
	END
	if grep -ln 'capstone/' src/*/*.[ch] | grep -v '^src/guest/sites\.c$'; then
		echo "only src/guest/sites.c may use capstone"
		bad=1
	fi
	return "$bad"
}

# shellcheck disable=SC2317
heads() {
	local bad=0 file
	while read -r file; do
		head -n 3 "$file" | grep -q 'SPDX-License-Identifier: MIT' || {
			echo "$file: no SPDX line"
			bad=1
		}
	done < <(git ls-files '*.c' '*.h' '*.S' '*.ld' '*.sh')
	return "$bad"
}

mapfile -t sources < <(git ls-files 'darkshadow.c' 'src/*.c')
mapfile -t shells < <(git ls-files '*.sh' '.ci/run' tests/vm/guest)
mapfile -t bats < <(git ls-files '*.bats' '*.bash' | grep -v completions/)
mapfile -t pages < <(git ls-files 'man/*')

check arrows arrows
check heads heads
# ctuuninitvar: cppcheck takes a buffer that is handed over to be filled for
# one that is read.
if need cppcheck; then
	check cppcheck cppcheck --quiet --error-exitcode=1 --std=c11 \
		--enable=warning,performance,portability --inline-suppr \
		--suppress=missingIncludeSystem --suppress=ctuuninitvar -I. -Isrc -D__x86_64__ \
		"${sources[@]}"
fi
if need clang-tidy; then
	# shellcheck disable=SC2086	# flags are words
	check clang-tidy clang-tidy --quiet "${sources[@]}" -- $CFLAGS_LINT \
		2> >(grep -v 'warnings generated\|Suppressed\|Use -header-filter' >&2)
fi
if need shellcheck; then
	check shellcheck shellcheck -x "${shells[@]}"
	check shellcheck shellcheck -s bats "${bats[@]}"
	check shellcheck shellcheck -s bash completions/darkshadow.bash
	check shellcheck shellcheck -s sh tests/vm/init
fi
if need mandoc; then
	check mandoc mandoc -Tlint -Wwarning "${pages[@]}"
fi
[ "$findings" -eq 0 ] && say lint clean
exit "$findings"
