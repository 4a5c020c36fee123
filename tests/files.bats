#!/usr/bin/env bats
# files.bats - every call that takes a path or a file's descriptor

# bats file_tags=vm
load helpers

@test "read and write, at the end, beyond it and on a directory" {
	victim files read_write
}

@test "8 MiB in one call" {
	victim files big
}

@test "pread and pwrite leave the offset alone" {
	victim files positioned
}

@test "readv, writev, preadv, pwritev, preadv2 and pwritev2" {
	victim files vectors
	victim files vectors_max
}

@test "lseek from the start, the offset and the end" {
	victim files seek
}

@test "lseek finds data and holes" {
	victim files seek_data
}

@test "open's flags mean what they say" {
	victim files open_flags
}

@test "bad paths fail as they do natively" {
	victim files path_errors
}

@test "stat, lstat, fstat, fstatat and statx agree" {
	victim files stats
}

@test "access, faccessat and faccessat2" {
	victim files accesses
}

@test "getdents64 lists 300 names once each, seeks and rewinds" {
	victim files listing
}

@test "link, symlink and readlink with their relatives" {
	victim files links
}

@test "rename, renameat and renameat2 with NOREPLACE and EXCHANGE" {
	victim files renames
}

@test "mkdir, rmdir, unlink and unlinkat" {
	victim files directories
}

@test "an unlinked file lives until it is closed" {
	victim files unlinked
}

@test "mknod makes FIFOs and plain files" {
	victim files nodes
}

@test "two processes meet at a forwarded FIFO" {
	victim files fifo
}

@test "chmod, fchmod and fchmodat" {
	victim files modes
}

@test "umask is followed" {
	victim files masks
}

@test "chown, fchown, lchown and fchownat" {
	victim files owners
}

@test "utime, utimes, lutimes, futimens and utimensat" {
	victim files times
}

@test "extended attributes of files, links and descriptors" {
	victim files xattrs
}

@test "truncate and ftruncate" {
	victim files sizes
}

@test "fallocate reserves and punches holes" {
	victim files allocate
}

@test "fsync, fdatasync, sync_file_range, fadvise and readahead" {
	victim files syncs
}

@test "flock conflicts, waits and is inherited" {
	victim files flocks
}

@test "fcntl locks conflict between processes and wait" {
	victim files record_locks
}

@test "fcntl locks go with any close and with the process" {
	victim files record_locks_close
}

@test "fcntl locks are gone before anybody knows that the process is" {
	victim files record_locks_end
}

@test "F_GETLK names the process that holds the lock" {
	victim files lock_owner
}

@test "open file description locks" {
	victim files ofd_locks
}

@test "sendfile between host and host, host and local, local and host" {
	victim files sendfiles
	victim files sendfile_big
}

@test "copy_file_range between host and host, host and local" {
	victim files copy_ranges
}

@test "splice between files and pipes of either side" {
	victim files splices
}

@test "tee between pipes of either side" {
	victim files tees
}

@test "inotify reports what happens in a forwarded directory" {
	victim files notifications
}

@test "a private mapping of a forwarded file" {
	victim files map_private
	victim files map_beside_large
}

# A machine has no window yet through which to map a file of the host.
# bats test_tags=not-vm
@test "a shared mapping of a forwarded file and read see each other" {
	victim files map_shared
}

@test "mmap of forwarded files fails as it does natively" {
	victim files map_errors
}

@test "chdir, fchdir, getcwd and relative paths" {
	victim files working_dir
}

@test "a working directory that is removed" {
	victim files removed_cwd
}

@test "openat and its descriptor of a directory, host's and local" {
	victim files dirfds
}

@test "openat2 and its ways to resolve" {
	victim files resolve
}

@test "statfs and fstatfs" {
	victim files statfss
	[ "$(ds -- stat -f -c '%t %S' "$GUEST")" = \
		"$(stat -f -c '%t %S' "$HOSTDIR")" ]
}

@test "ioctls of plain files" {
	victim files ioctls
}

@test "the calls that only old programs make" {
	victim files old_calls
}

@test "stdio streams of 10000 lines" {
	victim files streams
}

@test "what was written is there on the host, with owner and mode" {
	ds -- sh -c "umask 027; echo here >$GUEST/x; mkdir $GUEST/d"
	[ "$(cat "$HOSTDIR/x")" = here ]
	[ "$(stat -c '%a %u' "$HOSTDIR/x")" = "640 $(id -u)" ]
	[ "$(stat -c %a "$HOSTDIR/d")" = 750 ]
}

@test "what the host writes meanwhile is seen" {
	mkfifo "$HOSTDIR/fifo"
	ds_background -- sh -c "read -r go <$GUEST/fifo; cat $GUEST/x \
		>$LOCALDIR/out"
	echo later >"$HOSTDIR/x"
	echo go >"$HOSTDIR/fifo"
	ended
	[ "$status" -eq 0 ]
	[ "$(cat "$LOCALDIR/out")" = later ]
}

@test "mv and cp go between forwarded and local directories" {
	head -c 300000 /dev/urandom >"$LOCALDIR/x"
	cp "$LOCALDIR/x" "$TESTDIR/x"
	ds -- mv "$LOCALDIR/x" "$GUEST/y"
	[ ! -e "$LOCALDIR/x" ]
	cmp "$HOSTDIR/y" "$TESTDIR/x"
	ds -- cp "$GUEST/y" "$LOCALDIR/z"
	ds -- mv "$GUEST/y" "$LOCALDIR/x"
	[ ! -e "$HOSTDIR/y" ]
	cmp "$LOCALDIR/x" "$TESTDIR/x"
	cmp "$LOCALDIR/z" "$TESTDIR/x"
}

@test "two forwarded trees, and one within the other" {
	mkdir -p "$TESTDIR/other" "$HOSTDIR/in"
	echo one >"$HOSTDIR/x"
	echo two >"$TESTDIR/other/x"
	run ds -f "path:$GUEST/in=$TESTDIR/other" \
		-f "path:$GUEST-2=$TESTDIR/other:ro" -- \
		cat "$GUEST/x" "$GUEST/in/x" "$GUEST-2/x"
	[ "$status" -eq 0 ]
	[ "$output" = $'one\ntwo\ntwo' ]
}

@test "a single forwarded file" {
	echo single >"$HOSTDIR/x"
	run shadowed -f "path:$GUEST=$HOSTDIR/x" -- cat "$GUEST"
	[ "$output" = single ]
	shadowed -f "path:$GUEST=$HOSTDIR/x" -- sh -c "echo more >>$GUEST"
	[ "$(cat "$HOSTDIR/x")" = $'single\nmore' ]
}

@test "the same name on both sides" {
	echo same >"$HOSTDIR/x"
	run shadowed -f "path:$HOSTDIR" -- cat "$HOSTDIR/x"
	[ "$output" = same ]
	run shadowed -f "path:$HOSTDIR:ro" -- sh -c "echo no >$HOSTDIR/x"
	[ "$status" -ne 0 ]
	[ "$(cat "$HOSTDIR/x")" = same ]
}

@test "a name that only begins like a forwarded one is local" {
	run ds -- cat "${GUEST}extra/x"
	[ "$status" -eq 1 ]
	[[ $output == *"No such file"* ]]
}

@test "names with spaces, newlines and bytes that are no text" {
	local name=$'a b\nc\xff'
	ds -- tee "$GUEST/$name" <<<odd
	[ "$(cat "$HOSTDIR/$name")" = odd ]
	[ "$(ds -- cat "$GUEST/$name")" = odd ]
}

@test "calls whose number has bits above the lower 32" {
	victim files upper_halves
}

@test "calls without a path: EFAULT, or what mount makes of it" {
	victim files null_paths
}

# UML's kernel sets registers by ptrace itself, and ends where it cannot.
# bats test_tags=not-uml
@test "segment registers that a tracer cannot set" {
	victim files segments
}

@test "all of it holds with everything forwarded" {
	victim_all files
}

# bats test_tags=user
@test "all of it holds for an ordinary user" {
	as_user
	victim files
}

# bats test_tags=not-vm
@test "every case of the victim has a test" {
	assert_cases_tested files
}
