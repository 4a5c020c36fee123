#!/usr/bin/env bats
# fds.bats - the descriptor rules of POSIX hold for forwarded files

# bats file_tags=vm
# bats sets output.
# shellcheck disable=SC2154
load helpers

@test "a forwarded open returns the lowest free number" {
	victim fds lowest
	victim fds lowest_zero
}

@test "a failed open uses up no number" {
	victim fds failed_open
}

@test "dup shares the offset, and its copy outlives the original" {
	victim fds dup_shares
}

@test "dup2 makes standard input, output and error of forwarded files" {
	victim fds dup2_std
}

@test "dup2 replaces host by local, local by host and host by host" {
	victim fds dup2_replaces
}

@test "dup2 and dup3 refuse what they have to" {
	victim fds dup2_edges
}

@test "dup3 sets close-on-exec on the new number alone" {
	victim fds dup3_cloexec
}

@test "F_DUPFD and F_DUPFD_CLOEXEC begin at their minimum" {
	victim fds dupfd
}

@test "close-on-exec closes, and its absence keeps, over exec" {
	victim fds cloexec
}

@test "a number that exec closed is free for the new program" {
	victim fds cloexec_frees
}

@test "close_range closes, marks and unshares" {
	victim fds close_ranges
}

@test "the offset is shared over fork, and closing is not" {
	victim fds offset_fork
}

@test "F_GETFL and F_SETFL tell and change the status flags" {
	victim fds getfl
}

@test "a closed number gives EBADF everywhere" {
	victim fds ebadf
}

@test "600 forwarded files are open at once" {
	victim fds many
}

@test "numbers around 512 can be had like any other" {
	victim fds high_numbers
}

@test "RLIMIT_NOFILE limits forwarded files with EMFILE" {
	victim fds limit
}

@test "the file actions of posix_spawn take forwarded files" {
	victim fds spawn_actions
}

@test "poll and select wait for forwarded files" {
	victim fds poll_host
}

@test "poll waits for forwarded and local files at once" {
	victim fds poll_mixed
}

@test "epoll waits for forwarded files" {
	victim fds epoll_host
}

@test "one epoll waits for forwarded files and local ones" {
	victim fds epoll_mixed
}

@test "a signal ends the wait of an epoll for both sides" {
	victim fds epoll_signalled
}

@test "an eventfd is the process's own" {
	victim fds eventfds
}

# bats test_tags=not-vm
@test "an eventfd is the host's, where a rule says so" {
	run ds --trace=- --forward eventfd -- "$VICTIMS/fds" "$GUEST" eventfds
	[ "$status" -eq 0 ]
	[[ $output == *"eventfd2(2, 0x80001) = "* ]]
}

# Emulated it takes long, and is no other in User-Mode Linux.
# bats test_tags=not-qemu
@test "all of it holds with everything forwarded" {
	victim_all fds
}

# bats test_tags=user
@test "all of it holds for an ordinary user" {
	as_user
	victim fds
}

# bats test_tags=not-vm
@test "every case of the victim has a test" {
	assert_cases_tested fds
}
