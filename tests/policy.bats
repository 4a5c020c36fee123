#!/usr/bin/env bats
# policy.bats - what is asked for, what is allowed, and what is said if not

# What is in single quotes is for the target's shell; bats sets output.
# shellcheck disable=SC2016,SC2154

load helpers

policy() {
	cat >"$TESTDIR/policy"
}

@test "a daemon without a policy allows nothing" {
	daemon
	echo one >"$HOSTDIR/x"
	run ds --transport "loopback:$SOCKET" -- cat "$GUEST/x"
	complains "path:$GUEST"
}

@test "without a rule nothing is forwarded" {
	echo one >"$HOSTDIR/x"
	run shadowed -- cat "$GUEST/x"
	[ "$status" -eq 1 ]
	[[ $output == *"No such file"* ]]
}

@test "a rule within the policy is allowed" {
	policy <<-END
		# what this host gives away

		path:$GUEST=$HOSTDIR   # all of it
	END
	echo one >"$HOSTDIR/x"
	mkdir "$HOSTDIR/sub"
	echo two >"$HOSTDIR/sub/x"
	run ds --policy "$TESTDIR/policy" -- cat "$GUEST/x"
	[ "$output" = one ]
	run shadowed --policy "$TESTDIR/policy" \
		--forward "path:$GUEST/sub=$HOSTDIR/sub:ro" -- \
		cat "$GUEST/sub/x"
	[ "$output" = two ]
}

@test "a rule outside the policy is refused" {
	policy <<<"path:$GUEST/sub=$HOSTDIR/sub"
	mkdir "$HOSTDIR/sub"
	run ds --policy "$TESTDIR/policy" -- true
	complains "path:$GUEST"
	policy <<<"path:$GUEST=$LOCALDIR"
	run ds --policy "$TESTDIR/policy" -- true
	complains "path:$GUEST"
	policy </dev/null
	run ds --policy "$TESTDIR/policy" -- true
	complains "path:$GUEST"
	run ds_all --policy "$TESTDIR/policy" -- true
	complains all
}

@test "a rule that asks for writing is refused where the policy says ro" {
	policy <<<"path:$GUEST=$HOSTDIR:ro"
	run ds --policy "$TESTDIR/policy" -- true
	complains "path:$GUEST"
	echo one >"$HOSTDIR/x"
	run shadowed --policy "$TESTDIR/policy" \
		--forward "path:$GUEST=$HOSTDIR:ro" -- cat "$GUEST/x"
	[ "$output" = one ]
}

@test "a read-only tree refuses every change with EROFS" {
	echo one >"$HOSTDIR/x"
	mkdir "$HOSTDIR/d"
	chmod 777 "$HOSTDIR" "$HOSTDIR/d"
	chmod 666 "$HOSTDIR/x"
	run shadowed --forward "path:$GUEST=$HOSTDIR:ro" -- /usr/bin/python3 \
		-c '
import errno, os, sys
os.chdir(sys.argv[1])
assert open("x").read() == "one\n"
assert sorted(os.listdir(".")) == ["d", "x"]
for change in (
        lambda: open("x", "a"), lambda: open("new", "w"),
        lambda: os.mkdir("new"), lambda: os.rmdir("d"),
        lambda: os.unlink("x"), lambda: os.rename("x", "y"),
        lambda: os.symlink("x", "y"), lambda: os.link("x", "y"),
        lambda: os.chmod("x", 0), lambda: os.truncate("x", 0),
        lambda: os.utime("x"), lambda: os.mkfifo("y"),
        lambda: os.chown("x", os.getuid(), -1),
        lambda: os.setxattr("x", "user.a", b"b"),
        lambda: os.access("x", os.W_OK) or os.truncate("x", 0)):
    try:
        change()
    except OSError as e:
        assert e.errno == errno.EROFS, e
    else:
        sys.exit("a change was made")
print("unchanged")' "$GUEST"
	[ "$output" = unchanged ]
	[ "$(cat "$HOSTDIR/x")" = one ]
	[ ! -e "$HOSTDIR/new" ]
}

@test "a read-only tree within a writable one, and the other way round" {
	mkdir "$HOSTDIR/sub"
	echo one >"$HOSTDIR/sub/x"
	run ds --forward "path:$GUEST/sub=$HOSTDIR/sub:ro" -- sh -c \
		'echo two >"$1/y" && echo two >"$1/sub/x"' - "$GUEST"
	[ "$status" -ne 0 ]
	[ "$(cat "$HOSTDIR/y")" = two ]
	[ "$(cat "$HOSTDIR/sub/x")" = one ]
	run shadowed --forward "path:$GUEST=$HOSTDIR:ro" \
		--forward "path:$GUEST/sub=$HOSTDIR/sub" -- sh -c \
		'echo three >"$1/sub/x" && echo three >"$1/y"' - "$GUEST"
	[ "$status" -ne 0 ]
	[ "$(cat "$HOSTDIR/y")" = two ]
	[ "$(cat "$HOSTDIR/sub/x")" = three ]
}

@test "an unknown rule is refused, with the forms there are" {
	run shadowed --forward "frobnicate:/x" -- true
	complains frobnicate
	run shadowed --forward "" -- true
	complains .
	run shadowed --forward "path:" -- true
	complains 'path:'
	run shadowed --forward "path:$GUEST=$HOSTDIR:rx" -- true
	complains rx
	run shadowed --forward "net:8080" -- true
	complains net
}

@test "names that are not absolute and plain are refused" {
	run shadowed --forward "path:relative=$HOSTDIR" -- true
	complains relative
	run shadowed --forward "path:$GUEST=host" -- true
	complains host
	run shadowed --forward "path:$GUEST/../x=$HOSTDIR" -- true
	complains '\.\.'
	run shadowed --forward "path:$GUEST=$HOSTDIR/../host" -- true
	complains '\.\.'
}

@test "two rules for one name are refused" {
	run ds --forward "path:$GUEST=$LOCALDIR" -- true
	complains "$GUEST"
}

@test "a source directory that is missing is named" {
	run shadowed --forward "path:$GUEST=$TESTDIR/none" -- true
	complains "$TESTDIR/none"
	run shadowed --forward "dev:/dev/none" -- true
	complains /dev/none
}

@test "a syntax error in a policy is shown with file and line" {
	policy <<-END
		# fine

		path:$GUEST=$HOSTDIR
		pathology:/x
	END
	run ds --policy "$TESTDIR/policy" -- true
	complains "$TESTDIR/policy:4: "
	run "$DARKSHADOW" host --transport "loopback:$SOCKET" \
		--policy "$TESTDIR/policy"
	complains "$TESTDIR/policy:4: "
}

@test "a policy that cannot be read is named" {
	run ds --policy "$TESTDIR/none" -- true
	complains "$TESTDIR/none: "
	run ds --policy "$TESTDIR" -- true
	complains "$TESTDIR: "
}

@test "a device is forwarded by its rule, under any name" {
	run shadowed --forward dev:/dev/ds-zero=/dev/zero -- sh -c \
		'head -c 1000 /dev/ds-zero | tr "\0" z | wc -c'
	[ "$output" = 1000 ]
	run shadowed --forward dev:/dev/null -- sh -c \
		'echo gone >/dev/null && cat /dev/null'
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	run shadowed --forward dev:/dev/ds-zero=/dev/zero -- cat /dev/ds-full
	[ "$status" -eq 1 ]
}

@test "a plain file is no device" {
	echo one >"$HOSTDIR/x"
	run shadowed --forward "dev:/dev/ds-x=$HOSTDIR/x" -- true
	complains "$HOSTDIR/x"
}

@test "a device node within a forwarded tree is not opened" {
	[ "$(id -u)" -eq 0 ] || skip "only root makes device nodes"
	mknod -m 666 "$HOSTDIR/zero" c 1 5
	head -c 1 "$HOSTDIR/zero" >"$TESTDIR/byte" ||
		skip "device nodes do not work in $TESTDIR itself"
	run ds -- head -c 1 "$GUEST/zero"
	[ "$status" -eq 1 ]
	[[ $output == *"Permission denied"* ]]
}

# On this machine the host's network is the target's: what counts is that
# the exchange works through the shadow.
@test "net forwards sockets" {
	/usr/bin/python3 -c '
import socket, sys
s = socket.create_server(("127.0.0.1", 0))
open(sys.argv[1], "w").write(str(s.getsockname()[1]))
c, _ = s.accept()
c.sendall(c.recv(100).upper())' "$TESTDIR/port" 3>&- &
	local server=$!
	eventually test -s "$TESTDIR/port"
	run shadowed --forward net -- /usr/bin/python3 -c '
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(b"through the shadow")
print(s.recv(100).decode())' "$(cat "$TESTDIR/port")"
	kill "$server" 2>/dev/null || true
	[ "$status" -eq 0 ]
	[ "$output" = "THROUGH THE SHADOW" ]
}

@test "everything above all is an ordinary user's right" {
	as_user
	echo one >"$HOSTDIR/x"
	run ds -- sh -c 'cat "$1/x"; echo two >"$1/y"; id -u' - "$GUEST"
	[ "$status" -eq 0 ]
	[ "${lines[0]}" = one ]
	[ "${lines[1]}" = "$("${DS_AS[@]}" id -u)" ]
	[ "$(cat "$HOSTDIR/y")" = two ]
	[ "$(stat -c %u "$HOSTDIR/y")" = "$("${DS_AS[@]}" id -u)" ]
}

@test "an ordinary user's rule gives no right the user lacks" {
	[ "$(id -u)" -eq 0 ] || skip "needs a file that the user cannot read"
	echo private >"$HOSTDIR/x"
	as_user
	chown 0:0 "$HOSTDIR/x"
	chmod 600 "$HOSTDIR/x"
	run ds -- cat "$GUEST/x"
	[ "$status" -eq 1 ]
	[[ $output == *"Permission denied"* ]]
	run ds_all -- cat "$HOSTDIR/x"
	[ "$status" -eq 1 ]
	[[ $output == *"Permission denied"* ]]
}

@test "an ordinary user's refusals are as clear" {
	as_user
	run shadowed --forward "frobnicate:/x" -- true
	complains frobnicate
	run shadowed --forward "path:$GUEST=$TESTDIR/none" -- true
	complains "$TESTDIR/none"
	policy </dev/null
	run ds --policy "$TESTDIR/policy" -- true
	complains "path:$GUEST"
	# A directory of PATH that the user may not search would give 126.
	PATH=/usr/bin:/bin run -127 ds -- no-such-command-at-all
}

@test "a device is forwarded for an ordinary user" {
	as_user
	run shadowed --forward dev:/dev/ds-zero=/dev/zero -- sh -c \
		'head -c 1000 /dev/ds-zero | tr "\0" z | wc -c'
	[ "$output" = 1000 ]
}

@test "user namespaces that are refused are named, with the remedy" {
	local trial=(unshare -Ur sh -c
		'echo 0 >/proc/sys/user/max_user_namespaces
		exec setpriv --bounding-set=-all --inh-caps=-all "$@"' -)

	"${trial[@]}" true 2>/dev/null || skip "no user namespaces here at all"
	run "${trial[@]}" "$DARKSHADOW" run \
		--forward "path:$GUEST=$HOSTDIR" -- true
	complains 'user.*namespace'
}

@test "ptrace that is refused is named" {
	command -v strace >/dev/null || skip "strace is not installed"
	# The leak checker of a sanitized build cannot work under ptrace either.
	ASAN_OPTIONS=detect_leaks=0 run --separate-stderr \
		strace -f -qq -o "$TESTDIR/strace" "$DARKSHADOW" \
		run --forward "path:$GUEST=$HOSTDIR" -- true
	[ "$status" -eq 125 ]
	[[ $stderr == *ptrace* ]]
}

@test "without --forward, what the policy file allows is forwarded" {
	echo one >"$HOSTDIR/x"
	echo "path:$GUEST=$HOSTDIR:ro" >"$TESTDIR/policy"
	run shadowed --policy "$TESTDIR/policy" -- cat "$GUEST/x"
	[ "$status" -eq 0 ]
	[ "$output" = one ]
}

# A guest that asks for less than the policy allows must not get more by it.

@test "a name below a rule does not lead out of it by a symbolic link" {
	mkdir "$HOSTDIR/tree" "$TESTDIR/outside"
	echo secret >"$TESTDIR/outside/s"
	ln -s "$TESTDIR/outside" "$HOSTDIR/tree/link"
	daemon --allow "path:$GUEST=$HOSTDIR/tree"
	run shadowed --transport "loopback:$SOCKET" \
		--forward "path:$GUEST/link=$HOSTDIR/tree/link" -- \
		cat "$GUEST/link/s"
	[ "$status" -eq 125 ]
	[[ $output != *secret* ]]
}

@test "a narrower rule holds for runs that ask for the wider one alone" {
	mkdir -p "$HOSTDIR/tree/sub"
	echo kept >"$HOSTDIR/tree/sub/f"
	daemon --allow "path:$GUEST=$HOSTDIR/tree" \
		--allow "path:$GUEST/sub=$HOSTDIR/tree/sub:ro"
	run shadowed --transport "loopback:$SOCKET" \
		--forward "path:$GUEST=$HOSTDIR/tree" -- \
		sh -c 'echo hacked >"$1/sub/f"; echo x >"$1/f"' - "$GUEST"
	[[ $output == *"Read-only file system"* ]]
	[ "$(cat "$HOSTDIR/tree/sub/f")" = kept ]
	[ "$(cat "$HOSTDIR/tree/f")" = x ]
}
