#!/usr/bin/env bats
# races.bats - what a review found: dying threads, own filters, borders

# bats file_tags=vm
load helpers

@test "a thread may end the process while others change its memory" {
	victim races thread_exits
}

@test "a thread may execute a program while the leader changes its memory" {
	victim races thread_execs
}

@test "fork leaves the parent the owner of its recursive mutexes" {
	victim races forked_mutex
}

# UML's kernel shows filters no instruction pointer by which to let the gate in.
# bats test_tags=not-uml
@test "a program with a seccomp filter of its own goes on forwarding" {
	victim races own_filter
}

@test "a seccomp filter of the program's own goes on killing" {
	victim races own_filter_kills
}

@test "a seccomp filter that asks for a tracer finds none" {
	victim races own_filter_traces
}

@test "20000 reads under a hail of signals leave the signal mask alone" {
	victim races mask_kept
}

@test "a shrinking mremap over two regions unmaps the tail" {
	victim races shrunk
}

@test "epoll_pwait is interrupted by what its mask unblocks" {
	victim races epoll_mask
}

@test "select does not count a hang-up as an exception" {
	victim races select_hangup
}

@test "select refuses a closed descriptor beside one of the host" {
	victim races select_closed
}

@test "splice into a full FIFO loses nothing" {
	victim races splice_full
}

@test "unlinking the link of a descriptor leaves the file" {
	victim races unlink_proc
}

@test "a process that is not dumpable goes on opening files" {
	victim races undumpable
}

@test "who is killed while it forks leaves nobody that waits for ever" {
	victim races killed_forking
}

@test "who is killed while it maps a file leaves nothing of it to others" {
	victim races killed_mapping
}

@test "two dots behind a link lead to the parent of what it names" {
	victim races dotdot_link
}

@test "a wait for both sides sleeps" {
	victim races wait_asleep
}

@test "a wait for both sides misses neither" {
	victim races wait_turns
}

@test "150 threads that wait for both sides wake up" {
	victim races wait_many
}

@test "epoll_wait does not see that the tracer stops its thread" {
	victim races wait_stopped
}

@test "a child of one of several threads has the descriptors of one moment" {
	victim races fork_descriptors
}

# Emulated it takes long, and is no other in User-Mode Linux.
# bats test_tags=not-qemu
@test "all of it holds with everything forwarded" {
	victim_all races
}

# bats test_tags=user
@test "all of it holds for an ordinary user" {
	as_user
	victim races
}

# bats test_tags=not-vm
@test "every case of the victim has a test" {
	assert_cases_tested races
}
