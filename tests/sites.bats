#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Golden pairs: sites/NAME.S has a system call at its label "site", and
# sites/NAME.out says how guest/sites.c must judge it, and what it would move.

setup() {
	tests=$BATS_TEST_DIRNAME
	build=${BUILD:-$tests/../build}
	judge=$build/unit/sites
	[ -x "$judge" ] || skip "$judge has not been built"
	for tool in "${CC:-cc}" nm objcopy; do
		command -v "${tool%% *}" >/dev/null ||
			skip "$tool is not installed"
	done
}

judge_golden() {
	local object=$BATS_TEST_TMPDIR/$1.o text=$BATS_TEST_TMPDIR/$1.bin
	local offset

	${CC:-cc} -c -o "$object" "$tests/sites/$1.S"
	objcopy -O binary --only-section=.text "$object" "$text"
	offset=$(nm "$object" | awk '$3 == "site" { print "0x" $1 }')
	[ -n "$offset" ]
	"$judge" --judge "$text" "$offset" >"$BATS_TEST_TMPDIR/$1.out"
	diff -u "$tests/sites/$1.out" "$BATS_TEST_TMPDIR/$1.out"
}

@test "glibc's mov \$imm, %eax makes room" {
	judge_golden glibc-mov-imm
}

@test "glibc's xor %eax, %eax makes room with its predecessor" {
	judge_golden glibc-xor
}

@test "glibc's xor behind a branch leaves room after the site" {
	judge_golden glibc-xor-after
}

@test "glibc's cancellation points make room" {
	judge_golden glibc-cancel
}

@test "glibc's syscall(2) makes room" {
	judge_golden glibc-syscall
}

@test "musl's cancellation points make room" {
	judge_golden musl-syscall
}

@test "musl's numbers in registers make room" {
	judge_golden musl-mov-reg
}

@test "Go's raw system call makes room" {
	judge_golden go-syscall6
}

@test "Go's runtime makes room" {
	judge_golden go-futex
}

@test "the tail of a longer mov is not taken for mov \$imm, %eax" {
	judge_golden mov-tail
}

@test "five bytes before leave the system call as it is" {
	judge_golden full-before
}

@test "three bytes before take the system call along behind a branch" {
	judge_golden partial-before
}

@test "a branch to the first byte of the window does no harm" {
	judge_golden branch-to-start
}

@test "a branch to a system call that is left as it is does no harm" {
	judge_golden branch-to-syscall
}

@test "a branch to a system call that is replaced is refused" {
	judge_golden branch-to-replaced
}

@test "int \$0x80 is refused" {
	judge_golden int80
}

@test "branches into the window are refused" {
	judge_golden branch-target
}

@test "endbr64 is not moved" {
	judge_golden endbr
}

@test "neighbours that count 32 bits from their end can be rewritten" {
	judge_golden rip-relative
}

@test "a number behind such a displacement is not taken for it" {
	judge_golden rip-relative-imm
}

@test "an address that is loaded before the site can be rewritten" {
	judge_golden rip-relative-lea
}

@test "an address that is loaded after the site can be rewritten" {
	judge_golden rip-relative-after
}

@test "a number behind a displacement after the site is no part of it" {
	judge_golden rip-relative-after-imm
}

@test "neighbours that count from their end with a 32-bit address are refused" {
	judge_golden eip-relative
}

@test "neighbours that note their own address are refused" {
	judge_golden x87
}

@test "neighbours that branch are refused" {
	judge_golden branch
}

@test "neighbours that capstone does not know are refused" {
	judge_golden undecoded
}

@test "every golden pair is complete and has a test" {
	for source in "$tests"/sites/*.S; do
		name=$(basename "$source" .S)
		[ -f "$tests/sites/$name.out" ]
		grep -qx "	judge_golden $name" "$BATS_TEST_FILENAME"
	done
}
