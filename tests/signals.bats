#!/usr/bin/env bats
# signals.bats - signals that meet a forwarded call in flight

# bats file_tags=vm
load helpers

@test "a signal without SA_RESTART interrupts a blocked read" {
	victim signals eintr
}

@test "a signal interrupts an open that waits for the other end" {
	victim signals eintr_open
}

@test "with SA_RESTART the read goes on" {
	victim signals restart
}

@test "a handler forwards calls of its own, also on its own stack" {
	victim signals nested
}

@test "a call changes no register but those the kernel changes" {
	victim signals registers
}

@test "a handler sees the registers of the call it interrupted" {
	victim signals context
}

@test "SIGPIPE of the host kills, is handled, or becomes EPIPE" {
	victim signals sigpipe
}

@test "SIGXFSZ of the host kills, or becomes EFBIG" {
	victim signals sigxfsz
}

@test "SIGKILL, SIGTERM and SIGINT kill a blocked process" {
	victim signals killed
}

@test "SIGSTOP and SIGCONT in a blocked read" {
	victim signals stopped
}

@test "2000 reads under a ticking timer show no EINTR" {
	victim signals timer_loop
}

@test "a FIFO under a ticking timer loses and doubles nothing" {
	victim signals timer_fifo
}

@test "a blocked signal stays pending and interrupts nothing" {
	victim signals blocked_signal
}

@test "a jump out of a handler abandons the call" {
	victim signals jumped
}

@test "a signal for one thread leaves the others alone" {
	victim signals directed
}

@test "a signal interrupts the wait for a lock" {
	victim signals lock_wait
}

@test "a signal interrupts poll" {
	victim signals poll_eintr
}

@test "a signal that is ignored ends no call" {
	victim signals ignored
}

@test "a descriptor has an owner, who gets SIGIO" {
	victim async plain
}

@test "the signal of a descriptor tells its number and what has happened" {
	victim async with_number
}

@test "the owner of a descriptor is one thread" {
	victim async of_threads
}

@test "the signal of a descriptor is waited for" {
	victim async awaited
}

@test "the signal of a descriptor ends a call that waits on the host" {
	victim async interrupts
}

@test "the owner of a descriptor is a process group" {
	victim async of_a_group
}

@test "nobody but the target itself is signalled by the host for a descriptor" {
	victim async others
}

# Emulated it takes long, and is no other in User-Mode Linux.
# bats test_tags=not-qemu
@test "all of it holds with everything forwarded" {
	victim_all signals
}

# bats test_tags=user
@test "all of it holds for an ordinary user" {
	as_user
	victim signals
}

# bats test_tags=not-vm
@test "every case of the victim has a test" {
	assert_cases_tested signals
	assert_cases_tested async
}
