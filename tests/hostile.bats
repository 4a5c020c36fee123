#!/usr/bin/env bats
# hostile.bats - a target that tries to get at what is not its own

# What is in single quotes is for the target's shell.
# shellcheck disable=SC2016,SC2154

# bats file_tags=vm
load helpers

@test "pointers to where gate, slots and capsule live give EFAULT" {
	victim hostile foreign_pointers
}

@test "pointers to nowhere and into the kernel give EFAULT" {
	victim hostile wild_pointers
	victim hostile wild_sources
}

@test "paths at bad addresses give EFAULT" {
	victim hostile wild_paths
}

@test "the capsule and the daemon's page cannot be read as data" {
	victim hostile capsule_source
}

@test "lengths that wrap and counts that are huge are refused" {
	victim hostile lengths
}

@test "paths through .. and symbolic links do not lead out" {
	victim hostile ways_out
	[ ! -e "$TESTDIR/moved" ]
	[ "$(cat "$TESTDIR/secret")" = "the secret of the host" ]
}

@test "links into /proc, /dev and /sys lead nowhere" {
	victim hostile proc_tricks
}

@test "the target's list of open descriptors is its own" {
	victim hostile no_extra_fds
}

@test "descriptors that only the shadow has are EBADF" {
	victim hostile shadow_fds
	victim hostile nested_fds
	victim hostile poll_closed
}

@test "ioctls of terminals and devices on a host file give ENOTTY" {
	victim hostile ioctls
}

@test "io_uring does not reach host files" {
	victim hostile io_rings
}

@test "files are not opened by handle" {
	victim hostile file_handles
}

@test "unmapping, protecting and replacing gate and slots harms nobody" {
	victim hostile gate_and_slots
}

@test "garbage in the slots harms nobody" {
	victim hostile slot_contents
}

@test "strange ways into the kernel and the gate harm nobody" {
	victim hostile strange_entries
}

@test "paths that change while they are looked at harm nobody" {
	victim hostile races
}

@test "calls that no shadow may carry out are refused" {
	victim hostile forbidden_calls
}

@test "shadow stacks cannot be switched on" {
	victim hostile shadow_stack
}

# bats test_tags=user
@test "the same for an ordinary user" {
	as_user
	victim hostile
}

@test "names outside every rule are not the host's" {
	echo inside >"$HOSTDIR/x"
	run ds -- sh -c 'cat "$1/../secret" "$1/../../tmp/secret"' - "$GUEST"
	[ "$status" -ne 0 ]
	[[ $output != *"the secret"* ]]
	ln -s "$TESTDIR/secret" "$HOSTDIR/absolute"
	ln -s ../secret "$HOSTDIR/relative"
	run ds -- cat "$GUEST/relative"
	[ "$status" -ne 0 ]
	run ds -- cat "$GUEST/absolute"
	[ "$status" -ne 0 ]
}

# with_shadow - a target that is blocked in a forwarded read; SHADOW is its
# shadow
with_shadow() {
	mkfifo "$HOSTDIR/fifo"
	exec 8<>"$HOSTDIR/fifo"
	ds_background -- cat "$GUEST/fifo" >"$TESTDIR/out" 8>&-
	echo begun >&8
	eventually grep -q begun "$TESTDIR/out"
	SHADOW=$(shadow_pids | head -n 1)
	[ -n "$SHADOW" ]
}

status_of() {
	sed -n "s/^$1:[[:space:]]*//p" "/proc/$SHADOW/status"
}

@test "a shadow has no capabilities and can gain none" {
	with_shadow
	[ "$(status_of CapEff)" = 0000000000000000 ]
	[ "$(status_of CapPrm)" = 0000000000000000 ]
	[ "$(status_of CapInh)" = 0000000000000000 ]
	[ "$(status_of CapAmb)" = 0000000000000000 ]
	[ "$(status_of NoNewPrivs)" = 1 ]
	exec 8>&-
}

@test "every thread of a shadow has its filters" {
	with_shadow
	local task
	for task in /proc/"$SHADOW"/task/*; do
		grep -q '^Seccomp:[[:space:]]*2$' "$task/status"
		grep -q '^NoNewPrivs:[[:space:]]*1$' "$task/status"
	done
	exec 8>&-
}

@test "a shadow lives in namespaces of its own" {
	with_shadow
	for ns in mnt net; do
		[ "$(readlink "/proc/$SHADOW/ns/$ns")" != \
			"$(readlink "/proc/self/ns/$ns")" ]
	done
	exec 8>&-
}

@test "the root of a shadow holds what the rules name, nothing else" {
	with_shadow
	[ "$(find "/proc/$SHADOW/root/" -xdev -type f 2>/dev/null |
		wc -l)" -eq 0 ]
	for name in proc/self etc/passwd dev/null tmp sys/kernel; do
		[ ! -e "/proc/$SHADOW/root/$name" ]
	done
	[ -p "/proc/$SHADOW/root$GUEST/fifo" ]
	exec 8>&-
}

@test "a shadow has no private writable memory and one code mapping" {
	with_shadow
	cat "/proc/$SHADOW/maps"
	run ! grep -q '^[^ ]* .w.p ' "/proc/$SHADOW/maps"
	[ "$(grep -v vsyscall "/proc/$SHADOW/maps" |
		grep -c '^[^ ]* ..x')" -eq 1 ]
	run ! grep -qE '\[(stack|heap|vdso)\]' "/proc/$SHADOW/maps"
	exec 8>&-
}

@test "executors of a shadow do not have the memory file" {
	with_shadow
	local task
	for task in /proc/"$SHADOW"/task/*; do
		# The mapper has it, in a table of its own; who waits in a
		# forwarded read must not.
		if readlink "$task"/fd/* | grep -q "$HOSTDIR/fifo"; then
			run ! grep -qE "memfd|/dev/shm/" \
				<<<"$(readlink "$task"/fd/*)"
		fi
	done
	exec 8>&-
}

@test "a shadow's descriptors are those its target opened" {
	with_shadow
	local fd
	# Fillers are all one file; only the FIFO is a forwarded one.
	for fd in /proc/"$SHADOW"/fd/*; do
		case "$(readlink "$fd")" in
		/etc/* | /root/* | socket:*) readlink "$fd" && return 1 ;;
		esac
	done
	exec 8>&-
}

# bats test_tags=not-vm
@test "every case of the victim has a test" {
	assert_cases_tested hostile
}
