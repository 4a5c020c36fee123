#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# What --help, the manual pages and the completions say of options agrees.
#
# Each side is brought to lines of "OPTION" or "-X --OPTION", sorted. What argp
# gives to every command (--help, --usage, --version) is not compared.

setup() {
	top=$BATS_TEST_DIRNAME/..
	darkshadow=${BUILD:-$top/build}/darkshadow
	export LC_ALL=C
}

# The tools that these tests cannot do without.
need() {
	command -v "$1" >/dev/null || {
		echo "$1 is missing: install it with apt-get install $1" >&2
		return 1
	}
}

without_common() {
	grep -vxE -e '(-. )?--(help|usage|version)' | sort -u
}

# "-f --forward" pairs as separate lines, for sides that do not tell pairs
split_pairs() {
	tr ' ' '\n' | sort -u
}

from_help() {
	"$darkshadow" "$1" --help |
		sed -nE 's/^ {2,6}((-[[:alnum:]?]), )?(--[a-z][a-z-]*).*/\2 \3/p' |
		sed 's/^ //' | without_common
}

# .It Fl f Ar rule , Fl -forward Ns = Ns Ar rule
from_man() {
	sed -nE -e 's/^\.It (Fl ([[:alnum:]]) .*, )?Fl -([a-z-]+).*/-\2 --\3/p' \
		"$top/man/darkshadow-$1.1" | sed 's/^- //' | without_common
}

from_bash() {
	bash --norc -c '
		source "$1/completions/darkshadow.bash"
		COMP_LINE="darkshadow $2 -" COMP_WORDS=(darkshadow "$2" -)
		COMP_CWORD=2
		_darkshadow
		printf "%s\n" "${COMPREPLY[@]%=}"' bash "$top" "$1" |
		without_common
}

# _arguments is made to print what it is given.
from_zsh() {
	need zsh || return
	zsh -f -c '
		_arguments() { print -rl -- "$@" }
		source "$1/completions/_darkshadow"
		_darkshadow_$2' zsh "$top" "$1" |
		sed -nE 's/^(\([^)]*\)|\*)?(--?[a-zA-Z][a-z-]*)[+=]*\[.*/\2/p' |
		without_common
}

from_fish() {
	need fish || return
	# shellcheck disable=SC2016 # fish expands it
	HOME=$BATS_TEST_TMPDIR fish --no-config -c '
		source $argv[1]/completions/darkshadow.fish
		complete -C "darkshadow $argv[2] -"' "$top" "$1" |
		cut -f 1 | without_common
}

# same WHAT A B: A and B are the same lines, and there are some
same() {
	[ -n "$2" ] || {
		echo "$1: no options found in the output of --help"
		return 1
	}
	diff -u --label 'darkshadow --help' --label "$1" \
		<(echo "$2") <(echo "$3")
}

same_in_shells() {
	local help

	help=$(from_help "$1" | split_pairs)
	same darkshadow.bash "$help" "$(from_bash "$1")"
	same _darkshadow "$help" "$(from_zsh "$1")"
	same darkshadow.fish "$help" "$(from_fish "$1")"
}

@test "the manual page of run has the options that run --help has" {
	same darkshadow-run.1 "$(from_help run)" "$(from_man run)"
}

@test "the manual page of host has the options that host --help has" {
	same darkshadow-host.1 "$(from_help host)" "$(from_man host)"
}

@test "the manual page of vms has the options that vms --help has" {
	same darkshadow-vms.1 "$(from_help vms)" "$(from_man vms)"
}

@test "the manual page of sniff has the options that sniff --help has" {
	same darkshadow-sniff.1 "$(from_help sniff)" "$(from_man sniff)"
}

@test "the manual page of maps has the options that maps --help has" {
	same darkshadow-maps.1 "$(from_help maps)" "$(from_man maps)"
}

@test "the completions have the options that maps --help has" {
	same_in_shells maps
}

@test "the manual page of doctor has the options that doctor --help has" {
	same darkshadow-doctor.1 "$(from_help doctor)" "$(from_man doctor)"
}

@test "the manual page of doctor has the checks that doctor makes" {
	diff -u <("$darkshadow" doctor run host loopback shm hypercall |
		sed -nE 's/^(pass|warn|fail|skip) +([a-z-]+) .*/\2/p' | sort) \
		<(sed -n '/^\.Ss Checks/,/^\.Sh/s/^\.It //p' \
		"$top/man/darkshadow-doctor.1" | sort)
}

@test "the completions have the options that doctor --help has" {
	same_in_shells doctor
}

@test "the manual page of study has the options that study --help has" {
	same darkshadow-study.1 "$(from_help study)" "$(from_man study)"
}

@test "the completions have the options that study --help has" {
	same_in_shells study
}

@test "the completions have the options that sniff --help has" {
	same_in_shells sniff
}

@test "the completions have the options that vms --help has" {
	same_in_shells vms
}

@test "the completions have the options that run --help has" {
	same_in_shells run
}

@test "the completions have the options that host --help has" {
	same_in_shells host
}

@test "darkshadow --help names every command" {
	local command

	for command in run host sniff vms maps study doctor help; do
		"$darkshadow" --help | grep -qw -e "$command" || {
			echo "$command is not in darkshadow --help"
			return 1
		}
	done
}

@test "the completions of all shells offer every command" {
	local want

	want=$(printf '%s\n' doctor help host maps run sniff study vms)
	same bash "$want" "$(bash --norc -c '
		source "$1/completions/darkshadow.bash"
		COMP_LINE="darkshadow " COMP_WORDS=(darkshadow "") COMP_CWORD=1
		_darkshadow
		printf "%s\n" "${COMPREPLY[@]}"' bash "$top" | grep -v '^-' |
		sort)"
	need zsh
	same zsh "$want" "$(zsh -f -c '
		_arguments() { print -rl -- "$@" }
		source "$1/completions/_darkshadow"
		_darkshadow_top' zsh "$top" |
		grep -oE '(run|host|sniff|vms|maps|study|doctor|help)\\:' | tr -d '\\:' | sort)"
	need fish
	# shellcheck disable=SC2016 # fish expands it
	same fish "$want" "$(HOME=$BATS_TEST_TMPDIR fish --no-config -c '
		source $argv[1]/completions/darkshadow.fish
		complete -C "darkshadow "' "$top" | cut -f 1 | sort)"
}

@test "the bash completion puts a rule together that readline has split" {
	run bash --norc -c '
		cd "$2"
		mkdir -p here/there
		source "$1/completions/darkshadow.bash"
		COMP_LINE="darkshadow run --forward=path:/mnt=here/th"
		COMP_WORDS=(darkshadow run --forward = path : /mnt = here/th)
		COMP_CWORD=8
		_darkshadow
		printf "%s\n" "${COMPREPLY[@]}"' bash "$top" "$BATS_TEST_TMPDIR"
	[ "$status" -eq 0 ]
	[ "$output" = here/there ]
}

@test "the completions have no syntax errors" {
	bash -n "$top/completions/darkshadow.bash"
	need zsh
	zsh -n "$top/completions/_darkshadow"
	need fish
	HOME=$BATS_TEST_TMPDIR fish --no-execute \
		"$top/completions/darkshadow.fish"
}

@test "the manual pages pass mandoc's lint" {
	need mandoc
	mandoc -Tlint -Wwarning "$top"/man/*.[1-8]
}

@test "every command has a manual page with the sections of the house" {
	local page section

	for page in darkshadow.1 darkshadow-run.1 darkshadow-host.1 \
		    darkshadow-sniff.1 darkshadow-vms.1 \
		    darkshadow-maps.1 darkshadow-study.1 darkshadow-doctor.1 \
		    darkshadow-policy.5; do
		for section in SYNOPSIS DESCRIPTION FILES EXAMPLES \
			       DIAGNOSTICS 'SECURITY CONSIDERATIONS'; do
			grep -qx -e ".Sh $section" "$top/man/$page" || {
				echo "$page has no section $section"
				return 1
			}
		done
	done
}
