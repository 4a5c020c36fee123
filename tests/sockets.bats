#!/usr/bin/env bats
# sockets.bats - sockets of the host's network

# bats file_tags=vm
# ds of helpers uses DS_MORE; what is in single quotes is for another shell.
# shellcheck disable=SC2016,SC2034
load helpers

setup() {
	common_setup
	DS_MORE=(--forward net)
}

@test "connections: names, data both ways, half closed, closed" {
	victim sockets stream
}

@test "8 MiB pass through a connection unharmed" {
	victim sockets bulk
}

@test "datagrams: addresses, peeking, cut ones, nobody there" {
	victim sockets datagrams
}

@test "sendmsg and recvmsg of parts in memory that was never touched" {
	victim sockets messages
}

@test "many messages by one call" {
	victim sockets many_messages
}

@test "options are set and told, of every size" {
	victim sockets options
}

@test "addresses that cannot be give the errors they give natively" {
	victim sockets addresses
}

@test "IPv6" {
	victim sockets version6
}

@test "what would block says so, or waits when it should" {
	victim sockets nonblocking
}

@test "poll, select and epoll wait for sockets beside descriptors of the target" {
	victim sockets waiting
}

@test "a connection that is gone is SIGPIPE and EPIPE" {
	victim sockets broken
}

@test "signals interrupt recv and accept, or restart them" {
	victim sockets interrupted
}

@test "shutdown wakes those who wait" {
	victim sockets shut_down
}

@test "a connection is handed to a child and to a program" {
	victim sockets forked
}

@test "bad pointers give EFAULT, wherever they are" {
	victim sockets bad_pointers
}

@test "sendfile to a socket, from forwarded and from local files" {
	victim sockets files_sent
}

@test "sockets of other families stay local" {
	victim sockets local_families
}

@test "urgent data and its mark" {
	victim sockets urgent
}

@test "sixteen threads talk at once" {
	victim sockets threads
}

@test "copies of a socket are the same one" {
	victim sockets copies
}

# Emulated it takes long, and is no other in User-Mode Linux.
# bats test_tags=not-qemu
@test "all of it holds with everything forwarded" {
	victim_all sockets
}

# bats test_tags=user
@test "all of it holds for an ordinary user" {
	as_user
	victim sockets
}

# A server and a client that nobody has written for this.
# bats test_tags=not-vm
@test "a web server inside is reached from outside" {
	echo "of the web" >"$HOSTDIR/page"
	ds_background --forward net -- sh -c 'cd "$1" &&
		exec /usr/bin/python3 -u -m http.server -b 127.0.0.1 0' - \
		"$GUEST" >"$TESTDIR/log" 2>&1
	eventually grep -q 'port [0-9]' "$TESTDIR/log"
	run /usr/bin/python3 -c '
import re, sys, urllib.request
port = re.search(r"port (\d+)", open(sys.argv[1]).read()).group(1)
at = "http://127.0.0.1:%s/page" % port
print(urllib.request.urlopen(at).read().decode(), end="")' "$TESTDIR/log"
	kill -TERM "$RUN"
	ended
	[ "$output" = "of the web" ]
}

# bats test_tags=not-vm
@test "every case of the victim has a test" {
	assert_cases_tested sockets
}
