#!/usr/bin/env bats
# exec.bats - programs that are forwarded files themselves

# What is in single quotes is for the target's shell.
# shellcheck disable=SC2016

# bats file_tags=vm
load helpers

# compile NAME OPTION... <SOURCE - into the host tree
compile() {
	local name=$1

	shift
	"${CC:-cc}" -O1 "$@" -x c -o "$HOSTDIR/$name" -
}

program() {
	compile "$@" <<-'END'
		#include <stdio.h>
		int main(int argc, char **argv)
		{
			return printf("%d %s\n", argc, argv[argc - 1]) < 0;
		}
	END
}

@test "a forwarded dynamic program is the command" {
	program hello
	run ds -- "$GUEST/hello" arg
	[ "$status" -eq 0 ]
	[ "$output" = "2 arg" ]
}

@test "a forwarded static program is the command" {
	program hello -static
	run ds -- "$GUEST/hello" arg
	[ "$output" = "2 arg" ]
}

@test "a forwarded program is executed by a shell, and by others" {
	program hello
	run ds -- sh -c '"$1/hello" a; "$1/hello" b' - "$GUEST"
	[ "$output" = $'2 a\n2 b' ]
	run ds -- env -C "$GUEST" ./hello c
	[ "$output" = "2 c" ]
	run ds -- find "$GUEST" -name hello -exec {} found ';'
	[ "$output" = "2 found" ]
}

@test "a forwarded program in PATH is found" {
	program ds-hello
	run ds -- sh -c 'PATH=$1:$PATH; ds-hello x' - "$GUEST"
	[ "$output" = "2 x" ]
	PATH=$GUEST:$PATH run ds -- sh -c 'ds-hello y'
	[ "$output" = "2 y" ]
}

@test "a forwarded script runs under a local interpreter" {
	printf '#!/bin/sh -e\necho "$0 $1"; cat "${0%%/*}/x"\n' \
		>"$HOSTDIR/script"
	chmod +x "$HOSTDIR/script"
	echo data >"$HOSTDIR/x"
	run ds -- "$GUEST/script" arg
	[ "$status" -eq 0 ]
	[ "$output" = "$GUEST/script arg"$'\ndata' ]
}

@test "a local script runs under a forwarded interpreter" {
	program interp
	printf '#!%s/interp one\n' "$GUEST" >"$LOCALDIR/script"
	chmod +x "$LOCALDIR/script"
	run ds -- "$LOCALDIR/script" last
	[ "$output" = "4 last" ]
}

@test "a forwarded script runs under a forwarded interpreter" {
	program interp -static
	printf '#!%s/interp\n' "$GUEST" >"$HOSTDIR/script"
	chmod +x "$HOSTDIR/script"
	run ds -- "$GUEST/script" last
	[ "$output" = "3 last" ]
}

@test "a forwarded script is executed through a symbolic link" {
	printf '#!/bin/sh\necho "linked $1"\n' >"$HOSTDIR/script"
	chmod +x "$HOSTDIR/script"
	ln -s script "$HOSTDIR/link"
	run ds -- "$GUEST/link" arg
	[ "$output" = "linked arg" ]
}

@test "fexecve executes an open host file" {
	program hello
	run ds -- /usr/bin/python3 -c '
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.execve(fd, ["hello", "by descriptor"], {})' "$GUEST/hello"
	[ "$output" = "2 by descriptor" ]
}

@test "execveat takes a host directory and a relative name" {
	program hello
	run ds -- /usr/bin/python3 -c '
import ctypes, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
argv = (ctypes.c_char_p * 3)(b"hello", b"at", None)
envp = (ctypes.c_char_p * 1)(None)
ctypes.CDLL(None).syscall(322, fd, b"hello", argv, envp, 0)' "$GUEST"
	[ "$output" = "2 at" ]
}

@test "shared libraries are loaded from a forwarded directory" {
	mkdir "$HOSTDIR/lib"
	compile lib/libdsanswer.so -shared -fPIC <<-'END'
		int answer(void) { return 42; }
	END
	compile user -L"$HOSTDIR/lib" -Wl,--no-as-needed -ldsanswer <<-'END'
		int answer(void);
		int main(void) { return answer(); }
	END
	LD_LIBRARY_PATH=$GUEST/lib run ds -- "$GUEST/user"
	[ "$status" -eq 42 ]
	run ds -- /usr/bin/python3 -c '
import ctypes, sys
print(ctypes.CDLL(sys.argv[1] + "/lib/libdsanswer.so").answer())' "$GUEST"
	[ "$output" = 42 ]
}

@test "a program that is replaced while it runs is not disturbed" {
	compile waits <<-'END'
		#include <stdio.h>
		int main(void)
		{
			puts("up");
			fflush(stdout);
			return getchar() == 'x' ? 6 : 1;
		}
	END
	program other
	mkfifo "$LOCALDIR/go"
	exec 8<>"$LOCALDIR/go"
	ds_background -- "$GUEST/waits" <"$LOCALDIR/go" >"$LOCALDIR/up" 8>&-
	eventually test -s "$LOCALDIR/up"
	mv "$HOSTDIR/other" "$HOSTDIR/waits"
	echo x >&8
	ended
	exec 8>&-
	[ "$status" -eq 6 ]
}

@test "what is not executable gives EACCES, as natively" {
	echo data >"$HOSTDIR/plain"
	run -126 ds -- sh -c '"$1/plain"' - "$GUEST"
	run -126 ds -- "$GUEST/plain"
	run -127 ds -- "$GUEST/none"
	run -126 ds -- "$GUEST"
}

@test "an executable file that is no program gives ENOEXEC" {
	printf 'garbage\001\002' >"$HOSTDIR/garbage"
	chmod +x "$HOSTDIR/garbage"
	run ds -- /usr/bin/python3 -c '
import os, sys, errno
try:
    os.execv(sys.argv[1], ["x"])
except OSError as e:
    print(errno.errorcode[e.errno])' "$GUEST/garbage"
	[ "$output" = ENOEXEC ]
}

@test "a script whose interpreter does not exist gives 127" {
	printf '#!/no/such/interpreter\n' >"$HOSTDIR/script"
	chmod +x "$HOSTDIR/script"
	run -127 ds -- "$GUEST/script"
}

# bats test_tags=user
@test "forwarded programs run for an ordinary user" {
	program hello
	printf '#!/bin/sh\necho "script $1"\n' >"$HOSTDIR/script"
	chmod +x "$HOSTDIR/script"
	as_user
	run ds -- "$GUEST/hello" user
	[ "$output" = "2 user" ]
	run ds -- "$GUEST/script" user
	[ "$output" = "script user" ]
}
