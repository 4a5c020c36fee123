#!/usr/bin/env bats
# threads.bats - threads of one process forward at once

# bats file_tags=vm
load helpers

@test "64 threads write and read checksummed blocks" {
	victim threads sixty_four
}

@test "64 threads open, close and unlink files of their own" {
	victim threads own_files
}

@test "hundreds of short threads" {
	victim threads churn
}

@test "threads that are blocked hold up nobody" {
	victim threads blocked
}

@test "a process exits while its threads are blocked" {
	victim threads exit_with_blocked
}

@test "threads share one descriptor table" {
	victim threads one_table
}

@test "threads map and unmap while others forward" {
	victim threads map_churn
}

# 39 bits of address space do not reach there.
# bats test_tags=not-uml
@test "the capsule moves while threads are busy in it" {
	victim threads capsule_moves
}

@test "threads fork while others forward" {
	victim threads fork_from_threads
}

@test "the leader exits before its threads" {
	victim threads leader_exits
}

@test "a thread executes another program" {
	victim threads exec_from_thread
}

@test "a blocked thread is cancelled" {
	victim threads cancel
}

@test "threads share one working directory" {
	victim threads one_working_dir
}

@test "all of it holds with everything forwarded" {
	victim_all threads
}

# bats test_tags=not-vm
@test "every case of the victim has a test" {
	assert_cases_tested threads
}
