/* SPDX-License-Identifier: MIT */
/*
 * files.c - every family of calls that takes a path or a file's descriptor
 */
#include "victim.h"

#include <dirent.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <utime.h>

static int fresh(const char *name)
{
	return (int)sys(open(in(name), O_RDWR | O_CREAT | O_TRUNC, 0644));
}

static int with(const char *name, const char *text)
{
	put(in(name), text);
	return (int)sys(open(in(name), O_RDWR));
}

static off_t size_of(const char *name)
{
	struct stat st;

	sys(stat(in(name), &st));
	return st.st_size;
}

static void read_write(void)
{
	int fd = fresh("x");
	char buf[64] = "";

	same(write(fd, "hello, world\n", 13), 13);
	same(write(fd, "", 0), 0);
	same(read(fd, buf, sizeof(buf)), 0);
	same(lseek(fd, 0, SEEK_SET), 0);
	same(read(fd, buf, 5), 5);
	same(read(fd, buf + 5, sizeof(buf) - 5), 8);
	check(memcmp(buf, "hello, world\n", 13) == 0, "read '%s'", buf);
	same(read(fd, buf, 0), 0);
	same(lseek(fd, 100, SEEK_SET), 100);
	same(read(fd, buf, 1), 0);
	same(write(fd, "x", 1), 1);
	same(size_of("x"), 101);
	same(pread(fd, buf, 64, 37), 64);
	for (int i = 0; i < 63; i++)
		same(buf[i], 0);
	sys(close(fd));
	fd = (int)sys(open(in("."), O_RDONLY));
	refused(read(fd, buf, 1), EISDIR);
	refused(open(in("."), O_RDWR), EISDIR);
	sys(close(fd));
}

static void big(void)
{
	enum { SIZE = 8 << 20 };
	unsigned char *mem = map(SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	int fd = fresh("x");

	for (size_t i = 0; i < SIZE; i++)
		mem[i] = pattern(i);
	same(write(fd, mem, SIZE), SIZE);
	memset(mem, 0, SIZE);
	same(lseek(fd, 0, SEEK_SET), 0);
	same(read(fd, mem, SIZE), SIZE);
	pattern_check(mem, SIZE, 0, "8 MiB in one read");
	sys(munmap(mem, SIZE));
	sys(close(fd));
}

static void positioned(void)
{
	int fd = with("x", "0123456789");
	char buf[8];

	same(pread(fd, buf, 3, 4), 3);
	check(memcmp(buf, "456", 3) == 0, "pread gave '%.3s'", buf);
	same(pwrite(fd, "ab", 2, 8), 2);
	same(lseek(fd, 0, SEEK_CUR), 0);
	same(pread(fd, buf, 8, 10), 0);
	refused(pread(fd, buf, 1, -1), EINVAL);
	refused(pwrite(fd, buf, 1, -1), EINVAL);
	holds(in("x"), "01234567ab");
	same(pwrite(fd, "Z", 1, 5000000000), 1);
	same(size_of("x"), 5000000001);
	sys(close(fd));
	sys(mkfifo(in("fifo"), 0600));
	fd = (int)sys(open(in("fifo"), O_RDWR));
	refused(pread(fd, buf, 1, 0), ESPIPE);
	refused(lseek(fd, 0, SEEK_SET), ESPIPE);
	sys(close(fd));
}

static void vectors(void)
{
	char a[3], b[5], stack[2];
	struct iovec w[] = { { (void *)"one", 3 }, { (void *)"", 0 },
			     { (void *)"three", 5 }, { (void *)"ab", 2 } };
	struct iovec r[] = { { a, 3 }, { NULL, 0 }, { b, 5 }, { stack, 2 } };
	int fd = fresh("x");

	same(writev(fd, w, 4), 10);
	same(lseek(fd, 0, SEEK_SET), 0);
	same(readv(fd, r, 4), 10);
	check(!memcmp(a, "one", 3) && !memcmp(b, "three", 5) &&
	      !memcmp(stack, "ab", 2), "readv filled the wrong buffers");
	same(pwritev(fd, w, 4, 10), 10);
	same(preadv(fd, r, 4, 7), 10);
	check(!memcmp(a, "eab", 3) && !memcmp(b, "onet", 4),
	      "preadv read from the wrong place");
	same(lseek(fd, 0, SEEK_CUR), 10);
	same(pwritev2(fd, w, 1, -1, 0), 3);
	same(preadv2(fd, r, 1, -1, 0), 3);
	check(!memcmp(a, "thr", 3), "preadv2 gave '%.3s'", a);
	same(pwritev2(fd, w, 1, 0, RWF_APPEND), 3);
	same(size_of("x"), 23);
	same(pwritev2(fd, w, 1, 0, RWF_SYNC), 3);
	refused(preadv2(fd, r, 1, 0, 0x40000000), EOPNOTSUPP);
	same(readv(fd, r, 0), 0);
	refused(syscall(SYS_readv, fd, r, -1), EINVAL);
	refused(syscall(SYS_readv, fd, r, 1025), EINVAL);
	sys(close(fd));
}

static void vectors_max(void)
{
	static struct iovec iov[1024];
	static char bytes[1024];
	int fd = fresh("x");

	for (int i = 0; i < 1024; i++) {
		bytes[i] = (char)pattern((uint64_t)i);
		iov[i].iov_base = &bytes[i];
		iov[i].iov_len = 1;
	}
	same(writev(fd, iov, 1024), 1024);
	memset(bytes, 0, sizeof(bytes));
	same(preadv(fd, iov, 1024, 0), 1024);
	pattern_check(bytes, 1024, 0, "1024 buffers of one byte");
	sys(close(fd));
}

static void seek(void)
{
	int fd = with("x", "0123456789");

	same(lseek(fd, 3, SEEK_SET), 3);
	same(lseek(fd, 3, SEEK_CUR), 6);
	same(lseek(fd, -1, SEEK_END), 9);
	fd_holds(fd, "9");
	refused(lseek(fd, -1, SEEK_SET), EINVAL);
	refused(lseek(fd, 0, 99), EINVAL);
	same(lseek(fd, 1LL << 40, SEEK_SET), 1LL << 40);
	sys(close(fd));
}

static void seek_data(void)
{
	int fd = fresh("x");
	off_t data;

	sys(ftruncate(fd, 8 << 20));
	same(pwrite(fd, "data", 4, 4 << 20), 4);
	sys(fsync(fd));
	data = lseek(fd, 0, SEEK_DATA);
	if (data == 0)
		victim_skip("this file system knows no holes");
	same(data, 4 << 20);
	same(lseek(fd, 0, SEEK_HOLE), 0);
	check(lseek(fd, data, SEEK_HOLE) > data, "no hole after the data");
	refused(lseek(fd, 8 << 20, SEEK_DATA), ENXIO);
	sys(close(fd));
}

static void open_flags(void)
{
	int fd = with("x", "old");
	char buf[8];

	refused(open(in("x"), O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
	refused(open(in("x"), O_DIRECTORY | O_RDONLY), ENOTDIR);
	refused(open(in("none"), O_RDONLY), ENOENT);
	refused(open(in("x/y"), O_RDONLY), ENOTDIR);
	sys(close(fd));
	fd = (int)sys(open(in("x"), O_WRONLY | O_APPEND));
	same(write(fd, "+new", 4), 4);
	same(lseek(fd, 0, SEEK_SET), 0);
	same(write(fd, "!", 1), 1);
	sys(close(fd));
	holds(in("x"), "old+new!");
	sys(close((int)sys(open(in("x"), O_WRONLY | O_TRUNC))));
	holds(in("x"), "");
	sys(symlink("x", in("link")));
	refused(open(in("link"), O_RDONLY | O_NOFOLLOW), ELOOP);
	sys(close((int)sys(open(in("link"), O_RDONLY))));
	fd = open(in("."), O_TMPFILE | O_RDWR, 0600);
	if (fd >= 0) {
		struct stat st;

		same(write(fd, "tmp", 3), 3);
		same(pread(fd, buf, 8, 0), 3);
		sys(fstat(fd, &st));
		same(st.st_nlink, 0);
		sys(close(fd));
	} else {
		same(errno, EOPNOTSUPP);
	}
	fd = (int)sys(creat(in("created"), 0640));
	refused(read(fd, buf, 1), EBADF);
	sys(close(fd));
}

static void path_errors(void)
{
	static char name[5000];
	long page = sysconf(_SC_PAGESIZE);
	char *mem = map((size_t)page * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	const char *path = in("x");
	size_t len = strlen(path) + 1;

	put(in("x"), "x");
	memset(name, 'n', 300);
	refused(open(in(name), O_RDONLY), ENAMETOOLONG);
	snprintf(name, sizeof(name), "%s", victim_base);
	for (size_t n = strlen(name); n + 2 < sizeof(name); n += 2)
		memcpy(name + n, "/.", 2);
	refused(open(name, O_RDONLY), ENAMETOOLONG);
	refused(open("", O_RDONLY), ENOENT);
	refused(syscall(SYS_open, NULL, O_RDONLY), EFAULT);
	refused(stat(in("x/"), &(struct stat){ 0 }), ENOTDIR);
	sys(symlink("loop", in("loop")));
	refused(open(in("loop"), O_RDONLY), ELOOP);
	holds(in(".//./x"), "x");
	/* A path that ends with the last byte before an unmapped page. */
	sys(munmap(mem + page, (size_t)page));
	memcpy(mem + page - len, path, len);
	holds(mem + page - len, "x");
	mem[page - 1] = '/';
	refused(open(mem + page - len, O_RDONLY), EFAULT);
	sys(munmap(mem, (size_t)page));
}

static void same_stat(const struct stat *a, const struct stat *b)
{
	same(a->st_dev, b->st_dev);
	same(a->st_ino, b->st_ino);
	same(a->st_mode, b->st_mode);
	same(a->st_nlink, b->st_nlink);
	same(a->st_size, b->st_size);
	same(a->st_mtim.tv_nsec, b->st_mtim.tv_nsec);
}

static void stats(void)
{
	struct stat st, st2;
	struct statx sx;
	int fd = with("x", "12345"), dir;

	sys(symlink("x", in("link")));
	sys(stat(in("x"), &st));
	same(st.st_size, 5);
	same(st.st_mode, S_IFREG | 0644);
	same(st.st_uid, geteuid());
	sys(fstat(fd, &st2));
	same_stat(&st, &st2);
	sys(stat(in("link"), &st2));
	same_stat(&st, &st2);
	sys(lstat(in("link"), &st2));
	check(S_ISLNK(st2.st_mode), "lstat followed the link");
	same(st2.st_size, 1);
	dir = (int)sys(open(victim_base, O_RDONLY | O_DIRECTORY));
	sys(fstatat(dir, "x", &st2, 0));
	same_stat(&st, &st2);
	sys(fstatat(dir, "link", &st2, AT_SYMLINK_NOFOLLOW));
	check(S_ISLNK(st2.st_mode), "fstatat followed the link");
	sys(fstatat(fd, "", &st2, AT_EMPTY_PATH));
	same_stat(&st, &st2);
	refused(fstatat(dir, "", &st2, 0), ENOENT);
	refused(fstatat(dir, "none", &st2, 0), ENOENT);
	refused(fstatat(fd, "x", &st2, 0), ENOTDIR);
	sys(statx(dir, "x", 0, STATX_ALL, &sx));
	same(sx.stx_size, 5);
	same(sx.stx_ino, st.st_ino);
	same(makedev(sx.stx_dev_major, sx.stx_dev_minor), st.st_dev);
	sys(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &sx));
	same(sx.stx_ino, st.st_ino);
	sys(statx(AT_FDCWD, in("link"), AT_SYMLINK_NOFOLLOW, STATX_TYPE, &sx));
	check(S_ISLNK(sx.stx_mode), "statx followed the link");
	refused(statx(AT_FDCWD, in("none"), 0, STATX_TYPE, &sx), ENOENT);
	sys(close(dir));
	sys(close(fd));
}

static void accesses(void)
{
	int dir = (int)sys(open(victim_base, O_PATH | O_DIRECTORY));

	put(in("x"), "x");
	sys(access(in("x"), F_OK));
	sys(access(in("x"), R_OK | W_OK));
	refused(access(in("x"), X_OK), EACCES);
	refused(access(in("none"), F_OK), ENOENT);
	refused(access(in("x"), 99), EINVAL);
	sys(faccessat(dir, "x", R_OK, 0));
	sys(faccessat(dir, "x", R_OK, AT_EACCESS));
	refused(faccessat(dir, "x", X_OK, AT_EACCESS), EACCES);
	sys(symlink("none", in("dangling")));
	sys(faccessat(dir, "dangling", F_OK, AT_SYMLINK_NOFOLLOW));
	refused(faccessat(dir, "dangling", F_OK, 0), ENOENT);
	sys(syscall(SYS_faccessat, dir, "x", R_OK));
	sys(chmod(in("x"), 0700));
	sys(access(in("x"), X_OK));
	sys(close(dir));
}

static void listing(void)
{
	enum { N = 300 };
	static bool seen[N];
	char name[16], small[16];
	int found = 0, dots = 0, fd;
	struct dirent *e;
	long where = 0;
	DIR *d;

	sys(mkdir(in("d"), 0755));
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "d/%d", i);
		put(in(name), "");
	}
	d = opendir(in("d"));
	check(d != NULL, "opendir: %s", strerror(errno));
	while ((errno = 0, e = readdir(d))) {
		if (e->d_name[0] == '.') {
			same(e->d_type, DT_DIR);
			dots++;
			continue;
		}
		check(e->d_type == DT_REG || e->d_type == DT_UNKNOWN,
		      "%s has type %d", e->d_name, e->d_type);
		check(!seen[atoi(e->d_name)], "%s came twice", e->d_name);
		seen[atoi(e->d_name)] = true;
		if (++found == 100)
			where = telldir(d);
	}
	same(errno, 0);
	same(found, N);
	same(dots, 2);
	seekdir(d, where);
	for (found = 0; (e = readdir(d)); found++)
		;
	check(found >= N - 100 && found <= N - 98,
	      "%d entries follow the 100th", found);
	rewinddir(d);
	for (found = 0; (e = readdir(d)); found++)
		;
	same(found, N + 2);
	closedir(d);
	fd = (int)sys(open(in("d"), O_RDONLY));
	refused(syscall(SYS_getdents64, fd, small, sizeof(small)), EINVAL);
	sys(close(fd));
	fd = (int)sys(open(in("d/0"), O_RDONLY));
	refused(syscall(SYS_getdents64, fd, name, sizeof(name)), ENOTDIR);
	sys(close(fd));
}

static void links(void)
{
	char buf[64];
	struct stat a, b;
	int dir = (int)sys(open(victim_base, O_RDONLY)), fd;

	put(in("x"), "linked");
	sys(symlink("x", in("soft")));
	sys(symlinkat("some/where/else", dir, "dangling"));
	refused(symlink("x", in("soft")), EEXIST);
	same(readlink(in("soft"), buf, sizeof(buf)), 1);
	same(buf[0], 'x');
	same(readlinkat(dir, "dangling", buf, sizeof(buf)), 15);
	same(readlinkat(dir, "dangling", buf, 4), 4);
	check(memcmp(buf, "some", 4) == 0, "readlinkat gave '%.4s'", buf);
	refused(readlink(in("x"), buf, sizeof(buf)), EINVAL);
	refused(readlink(in("none"), buf, sizeof(buf)), ENOENT);
	refused(readlink(in("soft"), buf, 0), EINVAL);
	fd = (int)sys(open(in("soft"), O_PATH | O_NOFOLLOW));
	same(readlinkat(fd, "", buf, sizeof(buf)), 1);
	sys(close(fd));
	sys(link(in("x"), in("hard")));
	sys(linkat(dir, "soft", dir, "hardsoft", 0));
	sys(linkat(dir, "soft", dir, "hardfile", AT_SYMLINK_FOLLOW));
	sys(stat(in("x"), &a));
	sys(stat(in("hard"), &b));
	same(a.st_nlink, 3);
	same(a.st_ino, b.st_ino);
	sys(lstat(in("hardsoft"), &b));
	check(S_ISLNK(b.st_mode), "linkat followed the link");
	refused(link(in("x"), in("hard")), EEXIST);
	sys(unlink(in("x")));
	holds(in("hard"), "linked");
	refused(open(in("soft"), O_RDONLY), ENOENT);
	sys(close(dir));
}

static void renames(void)
{
	int dir = (int)sys(open(victim_base, O_RDONLY | O_DIRECTORY));

	put(in("a"), "a");
	put(in("b"), "b");
	sys(rename(in("a"), in("c")));
	refused(open(in("a"), O_RDONLY), ENOENT);
	holds(in("c"), "a");
	sys(rename(in("c"), in("b")));
	holds(in("b"), "a");
	put(in("c"), "c");
	sys(renameat(dir, "c", AT_FDCWD, in("d")));
	refused(renameat2(dir, "b", dir, "d", RENAME_NOREPLACE), EEXIST);
	sys(renameat2(dir, "b", dir, "e", RENAME_NOREPLACE));
	sys(renameat2(dir, "d", dir, "e", RENAME_EXCHANGE));
	holds(in("d"), "a");
	holds(in("e"), "c");
	refused(renameat2(dir, "d", dir, "e",
			  RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
	sys(mkdir(in("sub"), 0755));
	refused(rename(in("d"), in("sub")), EISDIR);
	refused(rename(in("sub"), in("d")), ENOTDIR);
	refused(rename(in("sub"), in("sub/deeper")), EINVAL);
	sys(rename(in("d"), in("sub/d")));
	holds(in("sub/d"), "a");
	refused(rename(in("none"), in("x")), ENOENT);
	sys(close(dir));
}

static void directories(void)
{
	int dir = (int)sys(open(victim_base, O_RDONLY | O_DIRECTORY));

	sys(mkdir(in("d"), 0755));
	refused(mkdir(in("d"), 0755), EEXIST);
	refused(mkdir(in("none/d"), 0755), ENOENT);
	sys(mkdirat(dir, "d/e", 0700));
	put(in("d/e/x"), "x");
	refused(rmdir(in("d")), ENOTEMPTY);
	refused(rmdir(in("d/e/x")), ENOTDIR);
	refused(unlinkat(dir, "d/e/x", AT_REMOVEDIR), ENOTDIR);
	check(unlink(in("d")) == -1 && (errno == EISDIR || errno == EPERM),
	      "unlink of a directory: %s", strerror(errno));
	sys(unlinkat(dir, "d/e/x", 0));
	sys(unlinkat(dir, "d/e", AT_REMOVEDIR));
	sys(rmdir(in("d")));
	refused(rmdir(in("d")), ENOENT);
	refused(unlink(in("none")), ENOENT);
	sys(close(dir));
}

static void unlinked(void)
{
	int fd = with("x", "still here");
	struct stat st;

	sys(unlink(in("x")));
	fd_holds(fd, "still here");
	sys(fstat(fd, &st));
	same(st.st_nlink, 0);
	same(write(fd, "!", 1), 1);
	sys(close(fd));
}

static void nodes(void)
{
	int dir = (int)sys(open(victim_base, O_RDONLY | O_DIRECTORY));
	struct stat st;

	sys(mknod(in("fifo"), S_IFIFO | 0640, 0));
	sys(stat(in("fifo"), &st));
	same(st.st_mode, S_IFIFO | 0640);
	sys(mkfifoat(dir, "fifo2", 0600));
	sys(mknodat(dir, "plain", S_IFREG | 0600, 0));
	sys(stat(in("plain"), &st));
	same(st.st_mode, S_IFREG | 0600);
	refused(mknod(in("plain"), S_IFREG | 0600, 0), EEXIST);
	refused(open(in("fifo"), O_WRONLY | O_NONBLOCK), ENXIO);
	sys(close(dir));
}

static void fifo(void)
{
	int bytes, fd;
	pid_t pid;

	sys(mkfifo(in("fifo"), 0600));
	spawned(pid) {
		fd = (int)sys(open(in("fifo"), O_WRONLY));
		same(write(fd, "over the fifo", 13), 13);
	}
	fd = (int)sys(open(in("fifo"), O_RDONLY));
	fd_holds(fd, "over ");
	reap(pid);
	sys(ioctl(fd, FIONREAD, &bytes));
	same(bytes, 8);
	fd_holds(fd, "the fifo");
	same(read(fd, &bytes, 1), 0);
	sys(close(fd));
}

static void modes(void)
{
	int fd = with("x", "x"), dir;
	struct stat st;

	dir = (int)sys(open(victim_base, O_RDONLY | O_DIRECTORY));
	sys(chmod(in("x"), 0600));
	sys(stat(in("x"), &st));
	same(st.st_mode & 07777, 0600);
	sys(fchmod(fd, 0751));
	sys(fstat(fd, &st));
	same(st.st_mode & 07777, 0751);
	sys(fchmodat(dir, "x", 0444, 0));
	sys(fstat(fd, &st));
	same(st.st_mode & 07777, 0444);
	refused(chmod(in("none"), 0600), ENOENT);
	sys(close(dir));
	sys(close(fd));
}

static void masks(void)
{
	struct stat st;

	umask(077);
	sys(close(creat(in("a"), 0666)));
	sys(mkdir(in("d"), 0777));
	umask(0);
	sys(close(creat(in("b"), 0666)));
	sys(mkfifo(in("f"), 0666));
	same(umask(022), 0);
	sys(stat(in("a"), &st));
	same(st.st_mode & 07777, 0600);
	sys(stat(in("d"), &st));
	same(st.st_mode & 07777, 0700);
	sys(stat(in("b"), &st));
	same(st.st_mode & 07777, 0666);
	sys(stat(in("f"), &st));
	same(st.st_mode & 07777, 0666);
}

static void owners(void)
{
	int fd = with("x", "x");
	uid_t uid = geteuid();
	gid_t gid = getegid();
	struct stat st;

	sys(symlink("none", in("dangling")));
	sys(chown(in("x"), uid, gid));
	sys(chown(in("x"), (uid_t)-1, (gid_t)-1));
	sys(fchown(fd, uid, (gid_t)-1));
	sys(lchown(in("dangling"), uid, gid));
	refused(chown(in("dangling"), uid, gid), ENOENT);
	sys(fchownat(AT_FDCWD, in("dangling"), uid, gid, AT_SYMLINK_NOFOLLOW));
	sys(fchownat(fd, "", uid, gid, AT_EMPTY_PATH));
	sys(fstat(fd, &st));
	same(st.st_uid, uid);
	same(st.st_gid, gid);
	/* A user namespace does not know the number: EINVAL. */
	if (uid != 0)
		check(chown(in("x"), 0, (gid_t)-1) == -1 &&
		      (errno == EPERM || errno == EINVAL),
		      "a file given to root: %s", strerror(errno));
	sys(close(fd));
}

static void times(void)
{
	struct timespec ts[2] = { { 1000, 111 }, { 2000, 222 } };
	struct timeval tv[2] = { { 3000, 3 }, { 4000, 4 } };
	struct utimbuf ut = { 5000, 6000 };
	int fd = with("x", "x");
	struct stat st;

	sys(symlink("x", in("link")));
	sys(utimensat(AT_FDCWD, in("x"), ts, 0));
	sys(stat(in("x"), &st));
	same(st.st_atim.tv_sec, 1000);
	same(st.st_atim.tv_nsec, 111);
	same(st.st_mtim.tv_sec, 2000);
	same(st.st_mtim.tv_nsec, 222);
	ts[0].tv_nsec = UTIME_OMIT;
	ts[1].tv_sec = 2001;
	sys(futimens(fd, ts));
	sys(fstat(fd, &st));
	same(st.st_atim.tv_sec, 1000);
	same(st.st_mtim.tv_sec, 2001);
	sys(utimes(in("link"), tv));
	sys(stat(in("x"), &st));
	same(st.st_mtim.tv_sec, 4000);
	same(st.st_mtim.tv_nsec, 4000);
	sys(lutimes(in("link"), tv));
	sys(lstat(in("link"), &st));
	same(st.st_mtim.tv_sec, 4000);
	sys(utime(in("x"), &ut));
	sys(stat(in("x"), &st));
	same(st.st_mtim.tv_sec, 6000);
	sys(utimensat(AT_FDCWD, in("x"), NULL, 0));
	sys(stat(in("x"), &st));
	check(llabs((long long)st.st_mtim.tv_sec - time(NULL)) < 3600,
	      "the time was not set to now");
	refused(utimensat(AT_FDCWD, in("none"), ts, 0), ENOENT);
	sys(close(fd));
}

static void xattrs(void)
{
	int fd = with("x", "x");
	char buf[64];
	ssize_t n;

	if (setxattr(in("x"), "user.a", "one", 3, 0) < 0) {
		same(errno, EOPNOTSUPP);
		victim_skip("no extended attributes on this file system");
	}
	refused(setxattr(in("x"), "user.a", "1", 1, XATTR_CREATE), EEXIST);
	refused(setxattr(in("x"), "user.b", "1", 1, XATTR_REPLACE), ENODATA);
	sys(fsetxattr(fd, "user.b", "three", 5, XATTR_CREATE));
	same(getxattr(in("x"), "user.b", buf, sizeof(buf)), 5);
	check(memcmp(buf, "three", 5) == 0, "getxattr gave '%.5s'", buf);
	same(fgetxattr(fd, "user.a", buf, sizeof(buf)), 3);
	same(lgetxattr(in("x"), "user.a", NULL, 0), 3);
	refused(getxattr(in("x"), "user.b", buf, 2), ERANGE);
	refused(getxattr(in("x"), "user.none", buf, 64), ENODATA);
	n = sys(listxattr(in("x"), buf, sizeof(buf)));
	check(memmem(buf, (size_t)n, "user.a", 7) &&
	      memmem(buf, (size_t)n, "user.b", 7),
	      "listxattr lacks an attribute");
	same(flistxattr(fd, buf, sizeof(buf)), n);
	same(llistxattr(in("x"), buf, sizeof(buf)), n);
	sys(symlink("x", in("link")));
	check(lsetxattr(in("link"), "user.a", "x", 1, 0) == -1,
	      "a symbolic link took a user attribute");
	sys(removexattr(in("x"), "user.a"));
	refused(fremovexattr(fd, "user.a"), ENODATA);
	sys(lremovexattr(in("x"), "user.b"));
	sys(close(fd));
}

static void sizes(void)
{
	int fd = with("x", "0123456789");
	int rd = (int)sys(open(in("x"), O_RDONLY));

	sys(truncate(in("x"), 4));
	holds(in("x"), "0123");
	sys(ftruncate(fd, 2));
	holds(in("x"), "01");
	sys(ftruncate(fd, 100));
	same(size_of("x"), 100);
	refused(ftruncate(rd, 0), EINVAL);
	refused(truncate(in("x"), -1), EINVAL);
	refused(truncate(in("none"), 0), ENOENT);
	refused(truncate(victim_base, 0), EISDIR);
	sys(close(rd));
	sys(close(fd));
}

static void allocate(void)
{
	int fd = with("x", "0123456789");
	struct stat st;
	char buf[10];

	if (fallocate(fd, 0, 0, 1 << 20) < 0) {
		same(errno, EOPNOTSUPP);
		victim_skip("no fallocate on this file system");
	}
	same(size_of("x"), 1 << 20);
	sys(fallocate(fd, FALLOC_FL_KEEP_SIZE, 1 << 20, 1 << 20));
	same(size_of("x"), 1 << 20);
	sys(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 5));
	same(pread(fd, buf, 10, 0), 10);
	check(memcmp(buf, "\0\0\0\0\00056789", 10) == 0,
	      "the punched hole is not where it should be");
	sys(fstat(fd, &st));
	check(st.st_blocks >= 2048, "only %lld blocks",
	      (long long)st.st_blocks);
	same(posix_fallocate(fd, 0, 3 << 20), 0);
	same(size_of("x"), 3 << 20);
	refused(fallocate(fd, 0, 0, 0), EINVAL);
	sys(close(fd));
}

static void syncs(void)
{
	int fd = with("x", "sync"), dir;

	dir = (int)sys(open(victim_base, O_RDONLY));
	sys(fsync(fd));
	sys(fdatasync(fd));
	sys(fsync(dir));
	sys(sync_file_range(fd, 0, 4, SYNC_FILE_RANGE_WRITE));
	same(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL), 0);
	sys(readahead(fd, 0, 4));
	sys(close(dir));
	sys(close(fd));
}

static void flocks(void)
{
	int fd = with("x", "x"), other, go[2];
	char byte;
	pid_t pid;

	other = (int)sys(open(in("x"), O_RDONLY));
	sys(flock(fd, LOCK_EX));
	refused(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	refused(flock(other, LOCK_SH | LOCK_NB), EWOULDBLOCK);
	sys(flock(fd, LOCK_SH));
	sys(flock(other, LOCK_SH | LOCK_NB));
	sys(flock(other, LOCK_UN));
	sys(flock(fd, LOCK_EX));
	sys(pipe(go));
	spawned(pid) {
		/* The parent's open file, and so the parent's lock. */
		sys(flock(fd, LOCK_EX | LOCK_NB));
		other = (int)sys(open(in("x"), O_RDONLY));
		refused(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
		same(write(go[1], "x", 1), 1);
		sys(flock(other, LOCK_EX));
	}
	same(read(go[0], &byte, 1), 1);
	sys(flock(fd, LOCK_UN));
	reap(pid);
	/* The child is gone, and its lock with it. */
	sys(flock(fd, LOCK_EX | LOCK_NB));
	sys(close(fd));
	sys(flock(other, LOCK_EX | LOCK_NB));
	sys(close(other));
	sys(close(go[0]));
	sys(close(go[1]));
}

static struct flock range(short type, off_t start, off_t len)
{
	struct flock fl = { .l_type = type, .l_whence = SEEK_SET,
			    .l_start = start, .l_len = len };

	return fl;
}

static void record_locks(void)
{
	int fd = with("x", "0123456789"), go[2];
	struct flock fl = range(F_WRLCK, 2, 4);
	char byte;
	pid_t pid;

	sys(fcntl(fd, F_SETLK, &fl));
	fl = range(F_WRLCK, 0, 0);
	sys(fcntl(fd, F_GETLK, &fl));
	same(fl.l_type, F_UNLCK);
	sys(pipe(go));
	spawned(pid) {
		fl = range(F_RDLCK, 0, 0);
		sys(fcntl(fd, F_GETLK, &fl));
		same(fl.l_type, F_WRLCK);
		same(fl.l_start, 2);
		same(fl.l_len, 4);
		fl = range(F_WRLCK, 4, 1);
		check(fcntl(fd, F_SETLK, &fl) == -1 &&
		      (errno == EAGAIN || errno == EACCES),
		      "a locked range was locked by another process");
		fl = range(F_WRLCK, 6, 2);
		sys(fcntl(fd, F_SETLK, &fl));
		same(write(go[1], "x", 1), 1);
		fl = range(F_WRLCK, 2, 4);
		sys(fcntl(fd, F_SETLKW, &fl));
	}
	same(read(go[0], &byte, 1), 1);
	fl = range(F_UNLCK, 2, 4);
	sys(fcntl(fd, F_SETLK, &fl));
	reap(pid);
	fl = range(F_WRLCK, 0, 0);
	sys(fcntl(fd, F_SETLK, &fl));
	refused(fcntl(fd, F_SETLK, (struct flock *)8), EFAULT);
	fl.l_type = 99;
	refused(fcntl(fd, F_SETLK, &fl), EINVAL);
	sys(close(go[0]));
	sys(close(go[1]));
	sys(close(fd));
}

/* Any close of the file drops the process's locks: POSIX's famous rule. */
static void record_locks_close(void)
{
	int fd = with("x", "x");
	struct flock fl = range(F_WRLCK, 0, 0);
	pid_t pid;

	sys(fcntl(fd, F_SETLK, &fl));
	sys(close((int)sys(open(in("x"), O_RDONLY))));
	spawned(pid) {
		fl = range(F_WRLCK, 0, 0);
		sys(fcntl(fd, F_SETLK, &fl));
	}
	reap(pid);
	sys(close(fd));
}

/* Nobody who has waited for a process finds it holding anything. */
static void record_locks_end(void)
{
	int fd = with("x", "x");
	struct flock fl;
	pid_t pid;

	for (int i = 0; i < fewer(100); i++) {
		spawned(pid) {
			fl = range(F_WRLCK, 0, 0);
			sys(fcntl(fd, F_SETLK, &fl));
			if (i % 3 == 0)
				raise(SIGKILL);
		}
		if (i % 3)
			reap(pid);
		else
			sys(waitpid(pid, NULL, 0));
		fl = range(F_WRLCK, 0, 0);
		sys(fcntl(fd, F_SETLK, &fl));
		fl = range(F_UNLCK, 0, 0);
		sys(fcntl(fd, F_SETLK, &fl));
	}
	sys(close(fd));
}

static void lock_owner(void)
{
	int fd = with("x", "x");
	struct flock fl = range(F_WRLCK, 0, 0);
	pid_t pid;

	sys(fcntl(fd, F_SETLK, &fl));
	spawned(pid) {
		fl = range(F_WRLCK, 0, 0);
		sys(fcntl(fd, F_GETLK, &fl));
		same(fl.l_pid, getppid());
	}
	reap(pid);
	sys(close(fd));
}

static void ofd_locks(void)
{
	int fd = with("x", "x"), other = (int)sys(open(in("x"), O_RDWR));
	struct flock fl = range(F_WRLCK, 0, 0);

	sys(fcntl(fd, F_OFD_SETLK, &fl));
	fl = range(F_WRLCK, 0, 0);
	refused(fcntl(other, F_OFD_SETLK, &fl), EAGAIN);
	sys(fcntl(other, F_OFD_GETLK, &fl));
	same(fl.l_type, F_WRLCK);
	sys(close(fd));
	fl = range(F_WRLCK, 0, 0);
	sys(fcntl(other, F_OFD_SETLK, &fl));
	sys(close(other));
}

/* An open file: "h" on the host's side, "l" on this one. */
static int side(char which, const char *name, const char *text)
{
	const char *path = which == 'h' ? in(name) : local(name);
	int fd;

	if (text)
		put(path, text);
	fd = (int)sys(open(path, O_RDWR | O_CREAT, 0600));
	if (which == 'l')
		sys(unlink(path));
	return fd;
}

static void fd_equals(int fd, const char *text)
{
	char buf[64];
	ssize_t n = sys(pread(fd, buf, sizeof(buf), 0));

	check((size_t)n == strlen(text) && memcmp(buf, text, (size_t)n) == 0,
	      "the file holds '%.*s' instead of '%s'", (int)n, buf, text);
}

static const char *const sides[] = { "hh", "hl", "lh", "ll" };

static void sendfiles(void)
{
	for (size_t i = 0; i < 4; i++) {
		int from = side(sides[i][0], "from", "0123456789");
		int to = side(sides[i][1], "to", NULL);
		off_t off = 4;

		same(sendfile(to, from, NULL, 3), 3);
		same(lseek(from, 0, SEEK_CUR), 3);
		same(sendfile(to, from, &off, 100), 6);
		same(off, 10);
		same(lseek(from, 0, SEEK_CUR), 3);
		fd_equals(to, "012456789");
		same(sendfile(to, from, &off, 100), 0);
		sys(close(from));
		sys(close(to));
		unlink(in("to"));
	}
}

static void sendfile_big(void)
{
	enum { SIZE = 3 << 20 };
	int from, to;
	ssize_t n;
	unsigned char *mem = map(SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE);

	pattern_file(in("from"), SIZE);
	from = (int)sys(open(in("from"), O_RDONLY));
	to = side('l', "to", NULL);
	for (size_t done = 0; done < SIZE; done += (size_t)n) {
		n = sys(sendfile(to, from, NULL, SIZE - done));
		check(n > 0, "sendfile stopped after %zu bytes", done);
	}
	pattern_read(to, mem, SIZE, 0, "3 MiB by sendfile");
	sys(munmap(mem, SIZE));
	sys(close(from));
	sys(close(to));
}

static void copy_ranges(void)
{
	for (size_t i = 0; i < 4; i++) {
		int from = side(sides[i][0], "from", "0123456789");
		int to = side(sides[i][1], "to", NULL);
		off_t in_off = 2, out_off = 1;

		same(copy_file_range(from, &in_off, to, &out_off, 3, 0), 3);
		same(in_off, 5);
		same(out_off, 4);
		same(copy_file_range(from, NULL, to, NULL, 1, 0), 1);
		same(lseek(from, 0, SEEK_CUR), 1);
		fd_equals(to, "0234");
		same(copy_file_range(from, &in_off, to, &out_off, 99, 0), 5);
		same(copy_file_range(from, &in_off, to, &out_off, 99, 0), 0);
		fd_equals(to, "023456789");
		refused(copy_file_range(from, &in_off, to, &out_off, 1, 77),
			EINVAL);
		sys(close(from));
		sys(close(to));
		unlink(in("to"));
	}
}

/* A pipe: the ends of a FIFO on the host's side, a pipe(2) on this one. */
static void pipe_side(char which, const char *name, int ends[2])
{
	if (which == 'l') {
		sys(pipe(ends));
		return;
	}
	unlink(in(name));
	sys(mkfifo(in(name), 0600));
	ends[0] = (int)sys(open(in(name), O_RDONLY | O_NONBLOCK));
	ends[1] = (int)sys(open(in(name), O_WRONLY));
	sys(fcntl(ends[0], F_SETFL, 0));
}

static void splices(void)
{
	for (size_t i = 0; i < 4; i++) {
		int from = side(sides[i][0], "from", "0123456789");
		int to = side(sides[i][0], "to", NULL);
		int ends[2];
		off_t off = 3;

		pipe_side(sides[i][1], "pipe", ends);
		same(splice(from, &off, ends[1], NULL, 4, 0), 4);
		same(off, 7);
		same(splice(from, NULL, ends[1], NULL, 2, 0), 2);
		same(lseek(from, 0, SEEK_CUR), 2);
		same(splice(ends[0], NULL, to, NULL, 5, 0), 5);
		fd_holds(ends[0], "1");
		fd_equals(to, "34560");
		refused(splice(from, NULL, to, NULL, 1, 0), EINVAL);
		sys(close(ends[0]));
		sys(close(ends[1]));
		sys(close(from));
		sys(close(to));
		unlink(in("to"));
	}
}

static void tees(void)
{
	for (size_t i = 0; i < 4; i++) {
		int a[2], b[2];

		pipe_side(sides[i][0], "a", a);
		pipe_side(sides[i][1], "b", b);
		same(write(a[1], "tee", 3), 3);
		same(tee(a[0], b[1], 10, 0), 3);
		fd_holds(a[0], "tee");
		fd_holds(b[0], "tee");
		for (int end = 0; end < 2; end++) {
			sys(close(a[end]));
			sys(close(b[end]));
		}
	}
}

static unsigned events(int fd, const char *name)
{
	char buf[4096] __attribute__((aligned(8)));
	unsigned mask = 0;
	ssize_t n = sys(read(fd, buf, sizeof(buf)));

	for (char *p = buf; p < buf + n;) {
		struct inotify_event *e = (struct inotify_event *)p;

		if (strcmp(e->name, name) == 0)
			mask |= e->mask;
		p += sizeof(*e) + e->len;
	}
	return mask;
}

static void notifications(void)
{
	int fd = (int)sys(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)), wd;
	struct pollfd p = { .fd = fd, .events = POLLIN };

	wd = (int)sys(inotify_add_watch(fd, victim_base, IN_CREATE | IN_MODIFY |
					IN_DELETE));
	refused(read(fd, &wd, sizeof(wd)), EAGAIN);
	put(in("x"), "x");
	same(poll(&p, 1, -1), 1);
	same(events(fd, "x"), IN_CREATE | IN_MODIFY);
	sys(unlink(in("x")));
	same(poll(&p, 1, -1), 1);
	same(events(fd, "x"), IN_DELETE);
	sys(inotify_rm_watch(fd, wd));
	refused(inotify_add_watch(fd, in("none"), IN_MODIFY), ENOENT);
	sys(close(fd));
}

static void map_private(void)
{
	long page = sysconf(_SC_PAGESIZE);
	unsigned char byte, *p;
	int fd;

	pattern_file(in("x"), (size_t)page * 4);
	fd = (int)sys(open(in("x"), O_RDONLY));
	p = mmap(NULL, (size_t)page * 3, PROT_READ | PROT_WRITE, MAP_PRIVATE,
		 fd, page);
	check(p != MAP_FAILED, "mmap: %s", strerror(errno));
	pattern_check(p, (size_t)page * 3, (uint64_t)page, "MAP_PRIVATE");
	p[10] = (unsigned char)~p[10];
	same(pread(fd, &byte, 1, page + 10), 1);
	same(byte, pattern((uint64_t)page + 10));
	/* A forwarded read into it leaves the file alone. */
	same(pread(fd, p + page, 100, 0), 100);
	pattern_check(p + page, 100, 0, "read into a private mapping");
	same(pread(fd, &byte, 1, 2 * page), 1);
	same(byte, pattern((uint64_t)page * 2));
	sys(close(fd));
	pattern_check(p + 2 * page, (size_t)page, (uint64_t)page * 3,
		      "a mapping whose descriptor is closed");
	sys(munmap(p, (size_t)page * 3));
}

/* Memory that is next to a large mapping becomes part of it. */
static void map_beside_large(void)
{
	const size_t large = 64 << 20, len = 100000;
	char *beside = map(large, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	int fd;

	pattern_file(in("x"), len);
	fd = (int)sys(open(in("x"), O_RDONLY));
	for (int i = 0; i < 3; i++) {
		unsigned char *p = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd,
					0);

		check(p != MAP_FAILED, "mmap: %s", strerror(errno));
		pattern_check(p, len, 0, "beside a large mapping");
		sys(munmap(p, len));
		beside[0] = 1;
	}
	sys(munmap(beside, large));
	sys(close(fd));
}

static void map_shared(void)
{
	long page = sysconf(_SC_PAGESIZE);
	char buf[8] = "";
	int fd = fresh("x"), other;
	char *p;
	pid_t pid;

	sys(ftruncate(fd, page * 2));
	p = mmap(NULL, (size_t)page * 2, PROT_READ | PROT_WRITE, MAP_SHARED,
		 fd, 0);
	check(p != MAP_FAILED, "mmap: %s", strerror(errno));
	strcpy(p + page, "mapped");
	same(pread(fd, buf, 7, page), 7);
	check(strcmp(buf, "mapped") == 0, "read saw '%s'", buf);
	same(pwrite(fd, "written", 7, 5), 7);
	check(memcmp(p + 5, "written", 7) == 0, "the mapping saw no write");
	spawned(pid)
		p[100] = 'c';
	reap(pid);
	same(p[100], 'c');
	sys(msync(p, (size_t)page, MS_SYNC));
	/* Forwarded calls to and from the mapping itself. */
	other = with("y", "into the mapping");
	same(read(other, p + 200, 8), 8);
	same(pread(fd, buf, 8, 200), 8);
	check(memcmp(buf, "into the", 8) == 0, "the file holds '%.8s'", buf);
	same(pwrite(other, p + page, 6, 0), 6);
	sys(close(fd));
	sys(close(other));
	holds(in("y"), "mappedhe mapping");
	p[0] = 'Z';
	sys(munmap(p, (size_t)page * 2));
	fd = (int)sys(open(in("x"), O_RDONLY));
	fd_holds(fd, "Z");
	sys(close(fd));
}

static void map_errors(void)
{
	int rd, dir = (int)sys(open(victim_base, O_RDONLY));
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	put(in("x"), "x");
	rd = (int)sys(open(in("x"), O_RDONLY));
	refused(mmap(NULL, page, PROT_WRITE, MAP_SHARED, rd, 0), EACCES);
	refused(mmap(NULL, page, PROT_READ, MAP_PRIVATE, rd, 1), EINVAL);
	refused(mmap(NULL, 0, PROT_READ, MAP_PRIVATE, rd, 0), EINVAL);
	refused(mmap(NULL, page, PROT_READ, MAP_PRIVATE, dir, 0), ENODEV);
	sys(close(rd));
	refused(mmap(NULL, page, PROT_READ, MAP_PRIVATE, rd, 0), EBADF);
	sys(close(dir));
}

static void working_dir(void)
{
	char home[PATH_MAX], buf[PATH_MAX], want[PATH_MAX];
	int fd;
	pid_t pid;

	check(getcwd(home, sizeof(home)), "getcwd: %s", strerror(errno));
	sys(mkdir(in("d"), 0755));
	sys(mkdir(in("d/e"), 0755));
	put(in("d/x"), "in d");
	sys(chdir(in("d")));
	check(getcwd(buf, sizeof(buf)), "getcwd: %s", strerror(errno));
	check(realpath(".", want), "realpath: %s", strerror(errno));
	check(strcmp(buf, want) == 0, "getcwd says %s, realpath %s", buf,
	      want);
	check(strcmp(buf + strlen(buf) - 2, "/d") == 0, "getcwd says %s", buf);
	refused(syscall(SYS_getcwd, buf, 3), ERANGE);
	holds("x", "in d");
	put("e/y", "in e");
	holds(in("d/e/y"), "in e");
	sys(chdir("e"));
	holds("../x", "in d");
	holds("y", "in e");
	sys(chdir(".."));
	sys(rename("x", "z"));
	holds("./z", "in d");
	fd = (int)sys(open("e", O_RDONLY | O_DIRECTORY));
	spawned(pid) {
		holds("z", "in d");
		sys(fchdir(fd));
		holds("y", "in e");
	}
	reap(pid);
	holds("z", "in d");
	spawned(pid) {
		execl("/bin/sh", "sh", "-c",
		      "read -r l < z || test \"$l\" = 'in d' && cd e && "
		      "read -r l < y || test \"$l\" = 'in e'", NULL);
		check(false, "exec: %s", strerror(errno));
	}
	reap(pid);
	sys(close(fd));
	refused(chdir("z"), ENOTDIR);
	refused(chdir("none"), ENOENT);
	sys(chdir("/"));
	refused(open("z", O_RDONLY), ENOENT);
	check(getcwd(buf, sizeof(buf)) && strcmp(buf, "/") == 0,
	      "getcwd after chdir to / says %s", buf);
	sys(chdir(home));
}

static void removed_cwd(void)
{
	char buf[PATH_MAX];
	pid_t pid;

	sys(mkdir(in("d"), 0755));
	spawned(pid) {
		sys(chdir(in("d")));
		sys(rmdir("../d"));
		refused(syscall(SYS_getcwd, buf, sizeof(buf)), ENOENT);
		refused(open("x", O_WRONLY | O_CREAT, 0600), ENOENT);
		sys(chdir(".."));
	}
	reap(pid);
}

static void dirfds(void)
{
	int dir, sub, here, fd;

	sys(mkdir(in("d"), 0755));
	sys(mkdir(in("d/e"), 0755));
	put(in("d/x"), "x in d");
	dir = (int)sys(open(in("d"), O_RDONLY | O_DIRECTORY));
	sub = (int)sys(openat(dir, "e", O_PATH | O_DIRECTORY));
	fd = (int)sys(openat(sub, "../x", O_RDONLY));
	fd_holds(fd, "x in d");
	sys(close(fd));
	/* An absolute path has no use for the descriptor. */
	fd = (int)sys(openat(sub, in("d/x"), O_RDONLY));
	sys(close(fd));
	here = (int)sys(open("/", O_RDONLY | O_DIRECTORY));
	fd = (int)sys(openat(here, in("d/x"), O_RDONLY));
	fd_holds(fd, "x in d");
	refused(openat(fd, "x", O_RDONLY), ENOTDIR);
	sys(close(fd));
	/* And an absolute local path none for a host descriptor. */
	fd = (int)sys(openat(dir, "/dev/null", O_RDONLY));
	same(read(fd, &(char){ 0 }, 1), 0);
	sys(close(fd));
	refused(openat(here, "d/x", O_RDONLY), ENOENT);
	refused(openat(99, "x", O_RDONLY), EBADF);
	/* The directory's descriptor follows the directory, not its name. */
	sys(rename(in("d"), in("renamed")));
	fd = (int)sys(openat(dir, "x", O_RDONLY));
	fd_holds(fd, "x in d");
	sys(close(fd));
	sys(close(here));
	sys(close(sub));
	sys(close(dir));
}

static long openat2(int dir, const char *path, uint64_t flags,
		    uint64_t resolve)
{
	struct open_how how = { .flags = flags, .resolve = resolve };

	return syscall(SYS_openat2, dir, path, &how, sizeof(how));
}

static void resolve(void)
{
	int dir, fd;

	sys(mkdir(in("d"), 0755));
	put(in("d/x"), "x");
	put(in("out"), "out");
	sys(symlink("x", in("d/link")));
	sys(symlink("../out", in("d/up")));
	sys(symlink("/x", in("d/abs")));
	dir = (int)sys(open(in("d"), O_RDONLY | O_DIRECTORY));
	fd = (int)sys(openat2(dir, "x", O_RDONLY | O_CLOEXEC, 0));
	same(fd, dir + 1);
	same(fcntl(fd, F_GETFD), FD_CLOEXEC);
	fd_holds(fd, "x");
	sys(close(fd));
	refused(openat2(dir, "../out", O_RDONLY, RESOLVE_BENEATH), EXDEV);
	refused(openat2(dir, "up", O_RDONLY, RESOLVE_BENEATH), EXDEV);
	refused(openat2(dir, "link", O_RDONLY, RESOLVE_NO_SYMLINKS), ELOOP);
	fd = (int)sys(openat2(dir, "abs", O_RDONLY, RESOLVE_IN_ROOT));
	fd_holds(fd, "x");
	sys(close(fd));
	refused(openat2(dir, "x", O_RDONLY, 1ull << 40), EINVAL);
	refused(syscall(SYS_openat2, dir, "x", &fd, 4), EINVAL);
	sys(close(dir));
}

static void statfss(void)
{
	int fd = with("x", "x");
	struct statfs a, b;
	struct statvfs v;

	sys(statfs(in("x"), &a));
	sys(fstatfs(fd, &b));
	same(a.f_type, b.f_type);
	same(a.f_bsize, b.f_bsize);
	same(a.f_blocks, b.f_blocks);
	check(a.f_blocks > 0 || a.f_type == 0x01021994,
	      "a file system without blocks");
	sys(statvfs(in("x"), &v));
	same(v.f_namemax, a.f_namelen);
	refused(statfs(in("none"), &a), ENOENT);
	sys(close(fd));
}

static void ioctls(void)
{
	int fd = with("x", "12345"), n = -1;
	char termios[256];

	sys(ioctl(fd, FIONREAD, &n));
	same(n, 5);
	refused(ioctl(fd, 0x5401 /* TCGETS */, termios), ENOTTY);
	same(isatty(fd), 0);
	n = 1;
	sys(ioctl(fd, FIONBIO, &n));
	same(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	sys(close(fd));
}

/* The calls that glibc no longer makes, as old static programs do. */
/* Of a call's number the kernel takes 32 bits, whatever is above them. */
static void upper_halves(void)
{
	static const unsigned long above[] = { 1UL << 32, ~0UL << 32,
					       1UL << 63 };

	put(in("f"), "text");
	for (size_t i = 0; i < sizeof(above) / sizeof(above[0]); i++) {
		int fd = (int)sys(syscall(above[i] | SYS_open, in("f"),
					  O_RDONLY));
		char buf[4];

		same(syscall(above[i] | SYS_read, fd, buf, sizeof(buf)), 4);
		sys(syscall(above[i] | SYS_close, fd));
	}
}

static void holds_in_both(const char *path, const char *text)
{
	pid_t pid;

	holds(path, text);
	spawned(pid)
		holds(path, text);
	reap(pid);
}

/* Segments are the program's, even such as nobody else may give it. */
static void segments(void)
{
	put(in("f"), "text");
	for (unsigned int null = 0; null < 4; null++) {
		__asm__ volatile("mov %0, %%gs; mov %0, %%es" : : "r"(null));
		holds_in_both(in("f"), "text");
	}
	if (getauxval(AT_HWCAP2) & 2) {		/* FSGSBASE */
		uint64_t base = ~0ULL;

		__asm__ volatile("wrgsbase %0" : : "r"(base));
		holds_in_both(in("f"), "text");
		__asm__ volatile("rdgsbase %0" : "=r"(base));
		same(base, ~0ULL);
	}
}

/* No path at all: mount(2) has a use for that. */
static void null_paths(void)
{
	refused(syscall(SYS_mount, NULL, "/proc/nowhere", NULL, MS_PRIVATE,
			NULL), ENOENT);
	put(in("f"), "text");
	refused(syscall(SYS_rename, in("f"), NULL), EFAULT);
	refused(syscall(SYS_rename, NULL, in("f")), EFAULT);
	refused(syscall(SYS_rename, NULL, NULL), EFAULT);
	refused(syscall(SYS_stat, NULL, NULL), EFAULT);
	holds(in("f"), "text");
}

static void old_calls(void)
{
	struct stat st;
	char buf[512];
	long fd = sys(syscall(SYS_creat, in("x"), 0644));
	struct timeval tv[2] = { { 10, 0 }, { 20, 0 } };

	sys(close((int)fd));
	fd = sys(syscall(SYS_open, in("x"), O_RDWR));
	same(write((int)fd, "old", 3), 3);
	sys(syscall(SYS_stat, in("x"), &st));
	same(st.st_size, 3);
	sys(syscall(SYS_symlink, "x", in("l")));
	sys(syscall(SYS_lstat, in("l"), &st));
	check(S_ISLNK(st.st_mode), "lstat followed the link");
	same(syscall(SYS_readlink, in("l"), buf, sizeof(buf)), 1);
	sys(syscall(SYS_access, in("x"), R_OK));
	sys(syscall(SYS_rename, in("x"), in("y")));
	sys(syscall(SYS_link, in("y"), in("z")));
	sys(syscall(SYS_unlink, in("y")));
	sys(syscall(SYS_mkdir, in("d"), 0755));
	sys(syscall(SYS_chmod, in("z"), 0600));
	sys(syscall(SYS_chown, in("z"), -1, -1));
	sys(syscall(SYS_lchown, in("l"), -1, -1));
	sys(syscall(SYS_utimes, in("z"), tv));
	sys(syscall(SYS_futimesat, AT_FDCWD, in("z"), tv));
	sys(syscall(SYS_utime, in("z"), NULL));
	sys(syscall(SYS_mknod, in("f"), S_IFIFO | 0600, 0));
	refused(syscall(SYS_sendfile, 99, fd, NULL, 1), EBADF);
	same(lseek((int)fd, 0, SEEK_SET), 0);
	fd_holds((int)fd, "old");
	same(syscall(SYS_dup2, fd, fd + 3), fd + 3);
	sys(syscall(SYS_truncate, in("z"), 1));
	sys(close((int)fd));
	sys(close((int)fd + 3));
	fd = sys(open(victim_base, O_RDONLY));
	check(syscall(SYS_getdents, fd, buf, sizeof(buf)) > 0,
	      "getdents: %s", strerror(errno));
	sys(close((int)fd));
	sys(syscall(SYS_rmdir, in("d")));
	sys(syscall(SYS_unlinkat, AT_FDCWD, in("z"), 0));
}

/* What stdio makes of it all. */
static void streams(void)
{
	FILE *f = fopen(in("x"), "w+");
	char line[64];

	check(f != NULL, "fopen: %s", strerror(errno));
	for (int i = 0; i < 10000; i++)
		fprintf(f, "line %d\n", i);
	rewind(f);
	for (int i = 0; i < 10000; i++) {
		char want[64];

		snprintf(want, sizeof(want), "line %d\n", i);
		check(fgets(line, sizeof(line), f) && !strcmp(line, want),
		      "line %d came back as '%s'", i, line);
	}
	same(fclose(f), 0);
}

int main(int argc, char **argv)
{
	static const struct victim_case cases[] = {
		CASE(read_write), CASE(big), CASE(positioned), CASE(vectors),
		CASE(vectors_max), CASE(seek), CASE(seek_data),
		CASE(open_flags), CASE(path_errors), CASE(stats),
		CASE(accesses), CASE(listing), CASE(links), CASE(renames),
		CASE(directories), CASE(unlinked), CASE(nodes), CASE(fifo),
		CASE(modes), CASE(masks), CASE(owners), CASE(times),
		CASE(xattrs), CASE(sizes), CASE(allocate), CASE(syncs),
		CASE(flocks), CASE(record_locks), CASE(record_locks_close),
		CASE(record_locks_end),
		CASE(lock_owner), CASE(ofd_locks), CASE(sendfiles),
		CASE(sendfile_big), CASE(copy_ranges), CASE(splices),
		CASE(tees), CASE(notifications), CASE(map_private),
		CASE(map_beside_large),
		CASE(map_shared), CASE(map_errors), CASE(working_dir),
		CASE(removed_cwd), CASE(dirfds), CASE(resolve), CASE(statfss),
		CASE(ioctls), CASE(old_calls), CASE(streams),
		CASE(upper_halves), CASE(null_paths), CASE(segments),
	};

	return VICTIM_MAIN(argc, argv, cases);
}
