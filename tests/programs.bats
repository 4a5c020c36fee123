#!/usr/bin/env bats
# programs.bats - real programs leave byte for byte what they leave natively
#
# Every script runs natively in one directory and in a forwarded one; both
# begin empty, and the scripts name files relative to where they start.

# The scripts are for the target's shell.
# shellcheck disable=SC2016

# Whole programs take minutes each in an emulated machine; User-Mode Linux has
# them.
# bats file_tags=vm,not-qemu
load helpers

need() {
	command -v "$1" >/dev/null || skip "$1 is not installed"
}

# shape DIR - names, kinds, modes, sizes and links below it
shape() {
	(cd "$1" && find . -printf '%P %y %m %l %n ' \
		\( -type f -printf '%s\n' -o -printf '\n' \) | sort)
}

# twice SCRIPT [IGNORED] - runs it both ways and compares output and trees;
# files called IGNORED may differ
twice() {
	local env=(HOME=/nonexistent LC_ALL=C TZ=UTC
		GIT_CONFIG_NOSYSTEM=1
		GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org
		GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.org
		GIT_AUTHOR_DATE="2001-02-03T04:05:06Z"
		GIT_COMMITTER_DATE="2001-02-03T04:05:07Z")

	env -C "$NATIVEDIR" "${env[@]}" bash -euc "$1" \
		>"$TESTDIR/native.out" 3>&-
	ds -- env -C "$GUEST" "${env[@]}" bash -euc "$1" >"$TESTDIR/shadowed.out"
	diff -u "$TESTDIR/native.out" "$TESTDIR/shadowed.out"
	diff -r ${2:+"--exclude=$2"} "$NATIVEDIR" "$HOSTDIR"
	shape "$NATIVEDIR" >"$TESTDIR/native.shape"
	shape "$HOSTDIR" >"$TESTDIR/shadowed.shape"
	diff -u "$TESTDIR/native.shape" "$TESTDIR/shadowed.shape"
}

SOURCES='
	mkdir -p src/lib src/empty; umask 022
	for i in $(seq 1 30); do seq $i $((i * 50)) >src/lib/$i.txt; done
	printf "int f(void);\nint main(void) { return f(); }\n" >src/main.c
	printf "int f(void) { return 0; }\n" >src/f.c
	ln -s lib/1.txt src/soft; ln src/lib/2.txt src/hard
	touch -d "2002-02-02 02:02:02 UTC" src/lib/* src/*.c src/empty src/lib
	touch -h -d "2002-02-02 02:02:02 UTC" src/soft
	chmod 640 src/lib/3.txt; chmod 755 src/lib/4.txt
'

@test "sqlite3 builds a database, with its journal" {
	need sqlite3
	twice 'sqlite3 db "create table t (a integer primary key, b text);
		begin; with recursive n(i) as (values(1) union all
		select i + 1 from n where i < 5000) insert into t
		select i, hex(i * i) from n; commit;
		create index i on t (b); delete from t where a % 3 = 0; vacuum;
		select count(*), sum(length(b)) from t; pragma integrity_check"
		sqlite3 db "update t set b = upper(b) where a < 100" ".dump" |
		sha256sum'
}

# Its index is a shared mapping of a file of the host.
# bats test_tags=not-vm
@test "sqlite3 with a write-ahead log and shared memory" {
	need sqlite3
	twice 'sqlite3 db "pragma journal_mode = wal; create table t (a);
		insert into t values (1), (2)"
		sqlite3 db "insert into t select a + 10 from t; select * from t"
		sqlite3 db "pragma wal_checkpoint(truncate);
		pragma journal_mode = delete; select sum(a) from t"'
}

@test "two sqlite3 processes lock each other out" {
	need sqlite3
	twice 'sqlite3 db "create table t (a)"
		for i in 1 2 3 4; do
			(for j in 1 2 3 4 5; do sqlite3 -cmd ".timeout 60000" db \
			"begin immediate; insert into t values ($i); commit"
			done) & done; wait
		sqlite3 db "select a, count(*) from t group by a"' db
}

@test "git: init, add, commit, branch, merge, gc, clone, fsck" {
	need git
	twice "$SOURCES"'
		cd src; git init -q -b main; git config pack.threads 1
		git config gc.auto 0; git add .; git commit -qm first
		git rev-parse HEAD; git checkout -qb side; echo more >>f.c
		git commit -qam second; git checkout -q main; echo x >new
		git add new; git commit -qm third; git merge -q -m merged side
		git log --format="%H %s"; git status --short; git gc -q
		git fsck --full; git count-objects -v; git grep -c 100
		cd ..; git clone -q src copy; git -C copy rev-parse HEAD
		rm -r copy' index
}

@test "tar creates and extracts" {
	need tar
	twice "$SOURCES"'
		tar --sort=name --owner=0 --group=0 --numeric-owner \
			--mtime="2002-02-02 UTC" -cf all.tar src
		tar -czf - --sort=name --mtime="2002-02-02 UTC" src |
			gzip -dc | tar -tf - | sort
		mkdir out; tar -xpf all.tar -C out; diff -r src out/src
		stat -c "%n %a %s %Y %h" out/src/lib/*'
}

@test "rsync copies, and then has nothing left to copy" {
	need rsync
	twice "$SOURCES"'
		rsync -aH src/ copy/; rsync -aHi src/ copy/
		echo changed >>src/f.c; rm src/lib/5.txt
		touch -d "2003-03-03 UTC" src/f.c
		rsync -aHi --delete --checksum src/ copy/; diff -r src copy
		stat -c "%n %a %s %Y %h" copy/lib/* copy/empty copy/f.c'
}

@test "cp -a and mv keep everything" {
	twice "$SOURCES"'
		cp -a src copy; diff -r src copy
		stat -c "%n %a %s %Y %h" copy/lib/*; mv copy moved
		cp --sparse=always src/lib/30.txt sparse
		truncate -s 5M holes; cp holes holes2; ls moved | wc -l; cmp holes \
		holes2; install -m 700 src/f.c installed'
}

@test "find by name, size, mode, time, and with actions" {
	twice "$SOURCES"'
		find src -name "1*.txt" | sort; find src -size +2k | sort
		find src -perm 755 -o -type l | sort; find src -empty
		find src ! -newermt 2002-03-01 -type f | wc -l
		find src -type f -links 2 | sort
		find src -name "2?.txt" -delete -print | sort
		find src -type f -exec sha256sum {} + | sort
		find src -depth -type d | sort; du -a --apparent-size src/lib | wc -l'
}

@test "gcc and make build a small project" {
	need gcc
	need make
	twice "$SOURCES"'
		cd src
		printf "CFLAGS = -O2 -Wall\nprog: main.o f.o\n\t\$(CC) -o \$@ \$^\n" \
			>Makefile
		printf "lib.a: f.o\n\t\$(AR) rDc \$@ \$^\n" >>Makefile
		make -s -j2 prog lib.a; ./prog; make prog; nm lib.a; strip prog
		printf "int f(void) { return 3; }\n" >f.c
		touch -d "2040-01-01 UTC" f.c
		make -s prog 2>/dev/null; ./prog || echo $?' '*.d'
}

@test "python3 runs and writes in a forwarded directory" {
	twice '
		cat >mod.py <<-END
			import json, os, tempfile, shutil, zipfile
			def work():
			    os.makedirs("out/deep")
			    for i in range(50):
			        with open(f"out/deep/{i}.json", "w") as f:
			            json.dump({"i": i, "squares": [i * i] * i}, f)
			    total = 0
			    for e in sorted(os.scandir("out/deep"), key=lambda e: e.name):
			        with open(e.path) as f:
			            total += sum(json.load(f)["squares"])
			    with tempfile.NamedTemporaryFile(dir=".") as t:
			        t.write(b"x" * 100000)
			        t.flush()
			        assert os.path.getsize(t.name) == 100000
			    shutil.copytree("out", "copy")
			    shutil.rmtree("copy/deep")
			    with zipfile.ZipFile("all.zip", "w") as z:
			        info = zipfile.ZipInfo("one", (2002, 2, 2, 2, 2, 2))
			        z.writestr(info, "data" * 1000)
			    os.rename("out/deep/1.json", "renamed")
			    return total
		END
		touch -d "2002-02-02 UTC" mod.py
		/usr/bin/python3 -c "
import sys
sys.path.insert(0, \".\")
import mod
print(mod.work())"
		/usr/bin/python3 -m compileall -q .; ls __pycache__'
}

@test "python3 multiprocessing and threads share forwarded files" {
	twice '
		/usr/bin/python3 - <<-END
			import concurrent.futures as f, os
			def put(i):
			    with open("log", "a") as log:
			        log.write(f"{i}\n")
			    return i
			for pool in (f.ProcessPoolExecutor, f.ThreadPoolExecutor):
			    with pool(4) as p:
			        print(sum(p.map(put, range(100))))
			with open("log") as log:
			    lines = sorted(map(int, log))
			print(len(lines), lines[::20])
			os.remove("log")
		END'
}

@test "sed, awk, sort, diff, patch, split, gzip, xz" {
	twice "$SOURCES"'
		sed -i "s/1/one/g" src/lib/7.txt; sort -o src/lib/8.txt -r src/lib/8.txt
		awk "{ s += \$1 } END { print s }" src/lib/*.txt | head -n 1
		cp src/lib/9.txt b; echo z >>b
		diff -u --label a --label b src/lib/9.txt b >p || true
		patch -s src/lib/9.txt p; cmp src/lib/9.txt b
		split -l 100 src/lib/30.txt part.; cat part.* | cmp - src/lib/30.txt
		gzip -9nk src/lib/29.txt; xz -k src/lib/28.txt; xz -t src/lib/28.txt.xz
		sort -S 1M -T . src/lib/*.txt | uniq -c | tail -n 2'
}

@test "an editor's way to save: write, fsync, rename over" {
	twice '
		/usr/bin/python3 - <<-END
			import os
			for i in range(20):
			    fd = os.open("new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
			    os.write(fd, b"version %d\n" % i)
			    os.fsync(fd)
			    os.close(fd)
			    os.replace("new", "doc")
			    d = os.open(".", os.O_RDONLY)
			    os.fsync(d)
			    os.close(d)
		END
		cat doc'
}

@test "busybox (static) does the same with its own calls" {
	need busybox
	twice "$SOURCES"'
		busybox cp -a src copy; busybox find copy -type f | sort
		busybox tar -cf - copy | busybox tar -tf - | sort
		busybox grep -rl 1000 copy | sort; busybox rm -r copy/empty
		busybox sed -i s/2/two/ copy/lib/3.txt; busybox md5sum copy/lib/*'
}

@test "everything forwarded: sqlite3, git, tar and gcc once more" {
	need git
	need sqlite3
	(cd "$HOSTDIR" && ds_all -- env HOME="$LOCALDIR" bash -euc "$SOURCES"'
		sqlite3 db "create table t (a); insert into t values (42);
			select a from t"
		git init -q g; cd g; echo x >x; git add x
		git -c user.name=a -c user.email=b@c commit -qm first
		git fsck; cd ..; tar -cf all.tar src; tar -tf all.tar | wc -l
		gcc -o prog src/main.c src/f.c; ./prog; echo $?') >"$TESTDIR/out"
	[ "$(cat "$TESTDIR/out")" = $'42\n37\n0' ]
}

# bats test_tags=user
@test "an ordinary user's git and sqlite3" {
	need git
	need sqlite3
	as_user
	ds -- env HOME="$LOCALDIR" GIT_CONFIG_NOSYSTEM=1 bash -euc '
		cd "$1"; sqlite3 db "create table t (a); insert into t values (42)"
		git init -q g; cd g; echo x >x; git add x
		git -c user.name=a -c user.email=b@c commit -qm first
		git gc -q; git fsck' - "$GUEST"
	[ "$("${DS_AS[@]}" sqlite3 "$HOSTDIR/db" "select a from t")" = 42 ]
	"${DS_AS[@]}" git -C "$HOSTDIR/g" fsck
}
