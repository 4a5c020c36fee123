#!/usr/bin/env bats
# memory.bats - every kind of memory is a buffer of forwarded calls

# bats file_tags=vm
load helpers

@test "anonymous mappings of all sizes, and EFAULT after munmap" {
	victim memory anonymous
}

@test "holes in the middle of a mapping" {
	victim memory holes
}

@test "a mapping replaced in place, twenty times" {
	victim memory replaced
}

@test "mremap grows, shrinks and moves" {
	victim memory remapped
}

@test "the heap grows, shrinks and comes back as zeros" {
	victim memory program_break
}

@test "mprotect decides what a forwarded read may write" {
	victim memory protected
	victim memory read_only
}

@test "MADV_DONTNEED gives zeros to private memory only" {
	victim memory dontneed
}

@test "other advice changes nothing" {
	victim memory advice
}

@test "stack, bss, data, heap, thread stack, TLS and literals" {
	victim memory everywhere
}

# With everything forwarded the local file is one of the host.
# bats test_tags=no-vm-all
@test "mappings of local files and memfds, private and shared" {
	victim memory mapped_files
}

@test "System V shared memory" {
	victim memory sysv_shared
}

@test "parent and child have their own private memory after fork" {
	victim memory fork_private
	victim memory fork_deep
	victim memory fork_big
}

@test "parent and child share MAP_SHARED memory" {
	victim memory fork_shared
}

@test "a vfork child writes its parent's memory" {
	victim memory vforked
}

@test "a forwarded read into a frame 4 MiB down the stack" {
	victim memory deep_stack
}

@test "memory in the middle of a buffer is unmapped by another thread" {
	victim memory unmapped_beside
}

# 39 bits of address space do not reach there.
# bats test_tags=not-uml
@test "the target may map the addresses where the capsule lives" {
	victim memory capsule_range
}

@test "large reservations of which little is used" {
	victim memory reservations
}

@test "thousands of small mappings" {
	victim memory many_mappings
}

@test "code that was read from a forwarded file is executed" {
	victim memory generated_code
}

@test "bad calls fail as they do natively" {
	victim memory refusals
}

@test "locked memory" {
	victim memory locked
}

@test "a mapped file that shrinks, grows and gets holes" {
	victim memory truncated
}

@test "a private file mapping that was closed until now" {
	victim memory opened_up
}

# With everything forwarded it is the host's, of which there is no mapping.
# bats test_tags=no-vm-all
@test "private mappings of /dev/zero" {
	victim memory dev_zero
}

@test "what is read into memory that was given back stays" {
	victim memory given_back
}

@test "lists of buffers all over a reservation of 1 TiB" {
	victim memory lists_far_away
}

@test "pages here and there of 512 MiB" {
	victim memory scattered
}

@test "all of it holds with everything forwarded" {
	victim_all memory
}

# bats test_tags=user
@test "all of it holds for an ordinary user" {
	as_user
	victim memory
}

# bats test_tags=not-vm
@test "every case of the victim has a test" {
	assert_cases_tested memory
}
