#!/usr/bin/env bats
# shell.bats - what people type: redirections, pipes, jobs, on host files
#
# Every script runs under dash and bash, natively in one directory and
# forwarded in another: output, status and the files left must be the same.

# The scripts are for the target's shell.
# shellcheck disable=SC2016

# bats file_tags=vm
load helpers

# prepare DIR - the same small tree for both sides
prepare() {
	rm -rf "$1"
	mkdir -p "$1/dir/sub"
	printf 'one\ntwo\nthree\n' >"$1/x"
	seq 1 1000 >"$1/numbers"
	echo in dir >"$1/dir/file"
	echo in sub >"$1/dir/sub/file"
	ln -s dir/file "$1/link"
	printf '#!/bin/sh\necho "script $1"\n' >"$1/script"
	chmod +x "$1/script"
}

# alike SCRIPT - $1 in it is the directory
alike() {
	local shells=(dash bash) shell native shadowed

	# Where starting a program takes long, one has to do.
	if [ -n "${DS_VM:-}" ]; then
		shells=(dash)
	fi
	for shell in "${shells[@]}"; do
		prepare "$NATIVEDIR"
		prepare "$HOSTDIR"
		native=0
		shadowed=0
		(cd / && exec "$shell" -c "$1" "$shell" "$NATIVEDIR") \
			>"$TESTDIR/native.out" 2>&1 3>&- </dev/null ||
			native=$?
		(cd / && ds -- "$shell" -c "$1" "$shell" "$GUEST") \
			>"$TESTDIR/shadowed.out" 2>&1 </dev/null ||
			shadowed=$?
		sed -i "s,$NATIVEDIR,$GUEST,g" "$TESTDIR/native.out"
		diff -u "$TESTDIR/native.out" "$TESTDIR/shadowed.out"
		diff -r "$NATIVEDIR" "$HOSTDIR"
		if [ "$native" -ne "$shadowed" ]; then
			echo "$shell: status $shadowed, natively $native" >&2
			return 1
		fi
	done
}

@test "input and output are redirected" {
	alike 'cat <"$1/x" >"$1/y"; cat "$1/y"'
	alike 'sort -r <"$1/numbers" >"$1/sorted"; head -n 1 "$1/sorted"'
}

@test "output is appended, error goes with output" {
	alike 'echo a >>"$1/x"; echo b >>"$1/x"; { echo out; echo err >&2; } \
		>>"$1/x" 2>&1; cat "$1/x"'
	alike 'cd "$1"; cat none >out 2>err; echo $?; cat err'
}

@test "exec opens, uses and closes descriptors" {
	alike 'exec 3<"$1/x"; read -r a <&3; read -r b <&3; exec 3<&-
		echo "$a $b"; cat <&3'
	alike 'exec 4>"$1/y"; echo one >&4; echo two >&4; exec 4>&-; cat "$1/y"'
	alike 'exec 3<>"$1/x"; read -r l <&3; echo "$l" >&3; cat "$1/x"'
	alike 'exec 5>&1 >"$1/y"; echo hidden; exec 1>&5 5>&-; echo shown
		cat "$1/y"'
	alike 'exec <"$1/x"; read -r a; echo "$a"; cat'
	alike 'exec 8<"$1/x" 9<"$1/numbers"; cat <&9 | tail -n 1; cat <&8'
}

@test "what a child reads from an inherited descriptor is gone" {
	alike 'exec 3<"$1/numbers"; head -c 9 <&3; echo; (read -r l <&3
		echo "$l"); read -r l <&3; echo "$l"'
}

@test "while read goes through a forwarded file" {
	alike 'while read -r l; do echo "<$l>"; done <"$1/x"'
	alike 'n=0; while read -r l; do n=$((n + l)); done <"$1/numbers"
		echo "$n"'
	alike 'while read -r l <&3; do cat "$1/dir/file"; done 3<"$1/x"'
}

@test "pipes have forwarded files at either end" {
	alike 'cat "$1/numbers" | grep 7 | wc -l >"$1/y"; cat "$1/y"'
	alike 'cat "$1/numbers" | tee "$1/a" "$1/b" | tail -n 1; cmp "$1/a" \
		"$1/b"'
	alike 'yes | head -n 20000 >"$1/y"; wc -l <"$1/y"'
}

@test "here-documents and command substitution" {
	alike 'cat >"$1/y" <<-END
		a $(cat "$1/dir/file")
		b
	END
	cat "$1/y"'
	alike 'v=$(cat "$1/x"); echo "$v"; echo "$(head -n 1 <"$1/x")"'
}

@test "/dev/stdin, /dev/stdout and /dev/fd name forwarded files" {
	alike 'cat /dev/stdin <"$1/x"'
	alike 'cat <"$1/x" >/dev/stdout'
	alike 'echo through >/dev/stdout >"$1/y"; cat "$1/y"'
	alike 'exec 3<"$1/x"; cat /dev/fd/3'
	alike 'cat "$1/x" | cat /dev/stdin "$1/dir/file"'
	alike 'cat /dev/stdin >"$1/y" <<END
text
END
	cat "$1/y"'
}

@test "cd and pwd, into, within and out of a forwarded directory" {
	alike 'cd "$1" && pwd && cat x && cd dir/sub && pwd && cat file &&
		cd .. && pwd && cat ../x && cd / && pwd && ls "$1"'
	alike 'cd "$1/dir"; cd -P ../dir/sub; pwd -P; /bin/pwd; cd "$OLDPWD"
		pwd'
	alike 'cd "$1/none"; echo $?; cd "$1/x"; echo $?; pwd'
	alike 'cd "$1"; (cd dir; cat file); cat x; mkdir new; cd new; echo a >b
		cd ..; cat new/b'
}

@test "programs start in a forwarded working directory" {
	alike 'cd "$1" && sh -c "cat x; cd dir; cat file" && ./script arg &&
		find . | sort && env -C dir cat file'
}

@test "globs match forwarded names" {
	alike 'cd "$1"; echo *; echo */*; echo [x-z]; echo none*'
	alike 'echo "$1"/*; for f in "$1"/d*/*; do echo "$f"; done'
	alike 'for i in 1 2 3; do echo $i >"$1/f$i"; done; cat "$1"/f[1-3]'
}

@test "tests of forwarded files" {
	alike 'cd "$1"; for f in x dir link none script; do for t in e f d L r w \
		x s; do test -$t $f && echo "$t $f"; done; done; true'
	alike 'touch -d 2001-01-01 "$1/old"; test "$1/x" -nt "$1/old" && echo newer
		test "$1/link" -ef "$1/dir/file" && echo same'
}

@test "background jobs and wait" {
	alike 'for i in 1 2 3 4; do (cat "$1/numbers" >"$1/copy$i") & done; wait
		cat "$1"/copy? | wc -l'
	alike 'sh -c "cat $1/x; exit 7" & wait $!; echo $?'
	alike 'mkfifo "$1/p"; (cat "$1/x" >"$1/p") & cat "$1/p"; wait; rm "$1/p"'
}

@test "a job that waits for a forwarded FIFO is killed" {
	alike 'mkfifo "$1/p"; cat "$1/p" & kill $!; wait $!; echo $?; rm "$1/p"'
}

@test "traps run, also while a forwarded read is under way" {
	# More than one signal: between its last look for traps and its read the
	# shell would sleep over one, as it would natively.
	alike 'trap "trap : TERM; echo trapped; exit 3" TERM; mkfifo "$1/p"
		exec 3<>"$1/p"; rm "$1/p"
		(while kill $$; do sleep 0.05; done) 2>/dev/null & read -r l <&3
		echo not reached'
	alike 'trap "cat $1/x" EXIT; echo end'
}

@test "scripts are sourced and executed from forwarded files" {
	alike '. "$1/dir/../script"; "$1/script" a; sh "$1/script" b
		echo "echo more" >>"$1/script"; "$1/script" c'
}

@test "utilities in place: sed -i, sort -o, cp, mv, ln, rm, touch, dd" {
	alike 'cd "$1"; sed -i s/two/TWO/ x; sort -o numbers numbers; cp x y
		mv y z; ln z hard; ln -s z soft; ls; cat soft hard; rm -r dir link
		dd if=numbers of=part bs=10 skip=3 count=5 2>/dev/null
		dd if=x of=part bs=1 seek=4 conv=notrunc 2>/dev/null; cat part
		touch -d 2020-02-02 x; stat -c "%s %A %h" x z'
}

@test "set -C, noclobber, and descriptors on missing files" {
	alike 'set -C; echo a >"$1/x"; echo $?; cat "$1/x"'
	alike 'cat <"$1/none/none"; echo $?; echo a >"$1/none/none"; echo $?'
}

@test "subshells nested deep keep their descriptors" {
	alike 'exec 6<"$1/x"; ( ( ( ( read -r a <&6; echo "$a" ) ) ) )
		read -r b <&6; echo "$b"'
}
