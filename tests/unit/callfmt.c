/* SPDX-License-Identifier: MIT */
/*
 * callfmt.c - lines of --trace, golden and hostile
 *
 * The target's memory is mem[], at address BASE; what lies outside of it is
 * not mapped. Expected lines follow strace 6.1, less its alignment of results.
 */
#include "guest/callfmt.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tap.h"

#define BASE	0x7f0000000f00ULL	/* a page ends 0x100 bytes after it */
#define GONE	0x1000ULL
#define CWD	((uint64_t)(int64_t)AT_FDCWD)
#define SECONDS	0.000041

static char mem[0x3000];
static size_t mem_used;

static ssize_t read_fake(void *ctx, uint64_t addr, void *buf, size_t len)
{
	size_t off = addr - BASE;

	(void)ctx;
	if (addr < BASE || off >= sizeof(mem))
		return -EFAULT;
	if (len > sizeof(mem) - off)
		len = sizeof(mem) - off;
	memcpy(buf, mem + off, len);
	return (ssize_t)len;
}

/* Claims more than it was asked for. */
static ssize_t read_liar(void *ctx, uint64_t addr, void *buf, size_t len)
{
	(void)ctx;
	(void)addr;
	memset(buf, 'x', len);
	return SSIZE_MAX;
}

static const char *fd_path(void *ctx, int fd)
{
	(void)ctx;
	if (fd == 3)
		return "/mnt/host/x";
	return fd == 4 ? "/a<b>\n\"" : NULL;
}

static struct callfmt fmt = {
	.read = read_fake, .fd_path = fd_path, .str_max = 32,
};

/* Puts bytes into the target's memory and says where. */
static uint64_t store(const void *bytes, size_t len)
{
	uint64_t at = BASE + mem_used;

	if (len > sizeof(mem) - mem_used)
		abort();
	memcpy(mem + mem_used, bytes, len);
	mem_used += len;
	return at;
}

static uint64_t text(const char *s)
{
	return store(s, strlen(s) + 1);
}

/* Every size of buffer: cut there, terminated, and not a byte beyond. */
static bool fits_every_size(long nr, const uint64_t *args, int64_t result,
			    const char *full)
{
	size_t len = strlen(full);

	for (size_t size = 0; size <= len + 1; size++) {
		char *out = malloc(size ? size : 1);	/* ASan guards it */
		size_t want = size ? size - 1 : 0;
		bool good;
		size_t n;

		if (!out)
			abort();
		out[0] = '#';
		n = callfmt_call(&fmt, (uint64_t)nr, args, result, SECONDS,
				 out, size);
		good = n == want && !strncmp(out, full, n) &&
		       (size ? !out[n] : out[0] == '#');
		free(out);
		if (!good) {
			printf("# size %zu\n", size);
			return false;
		}
	}
	return true;
}

#define ARGS(...) ((const uint64_t[6]) { __VA_ARGS__ })

static void line(long nr, const uint64_t *args, int64_t result,
		 const char *expected, const char *what)
{
	char out[8192], want[8192];
	size_t n;

	snprintf(want, sizeof(want), "%s <0.000041>", expected);
	n = callfmt_call(&fmt, (uint64_t)nr, args, result, SECONDS, out,
			 sizeof(out));
	if (strcmp(out, want) || n != strlen(out)) {
		printf("# got  %s\n# want %s\n", out, want);
		ok(false, what);
	} else {
		ok(fits_every_size(nr, args, result, want), what);
	}
	mem_used = 0;
	memset(mem, 0, sizeof(mem));
}

static void check_open(void)
{
	line(SYS_openat, ARGS(CWD, text("/mnt/host/x"), O_RDONLY | O_CLOEXEC),
	     3, "openat(AT_FDCWD, \"/mnt/host/x\", O_RDONLY|O_CLOEXEC) = 3",
	     "openat without O_CREAT has no mode");
	line(SYS_openat, ARGS(CWD, text("/mnt/host/y"), O_RDONLY), -ENOENT,
	     "openat(AT_FDCWD, \"/mnt/host/y\", O_RDONLY) = "
	     "-1 ENOENT (No such file or directory)",
	     "an error has its name and its words");
	line(SYS_openat, ARGS(3, text("y"), O_WRONLY | O_CREAT | O_EXCL, 0644),
	     -EEXIST, "openat(3</mnt/host/x>, \"y\", O_WRONLY|O_CREAT|O_EXCL, "
	     "0644) = -1 EEXIST (File exists)", "O_CREAT has an octal mode");
	line(SYS_open, ARGS(text("/tmp"), O_RDWR | O_TMPFILE, 0600), 4,
	     "open(\"/tmp\", O_RDWR|O_TMPFILE, 0600) = 4",
	     "O_TMPFILE is one flag and has a mode");
	line(SYS_open, ARGS(text("/tmp"), O_DIRECTORY | O_SYNC | 0x40000003),
	     4, "open(\"/tmp\", O_ACCMODE|O_SYNC|O_DIRECTORY|0x40000000) = 4",
	     "O_DIRECTORY is not O_TMPFILE, unknown bits are a number");
	line(SYS_open, ARGS(text("x"), O_DSYNC | 0100000 | O_PATH), 4,
	     "open(\"x\", O_RDONLY|O_DSYNC|O_LARGEFILE|O_PATH) = 4",
	     "O_DSYNC alone is not O_SYNC");
	line(SYS_open, ARGS(0, 0), -EFAULT,
	     "open(NULL, O_RDONLY) = -1 EFAULT (Bad address)", "a null path");
	line(SYS_open, ARGS(GONE, 0), -EFAULT,
	     "open(0x1000, O_RDONLY) = -1 EFAULT (Bad address)",
	     "a path that cannot be read is an address");
}

static void check_paths(void)
{
	const char *odd = "/\1\0012\377\"\\\n\t\v\f\r\033";
	uint64_t a = text("a"), b = text("b");

	line(SYS_renameat2, ARGS(CWD, a, CWD, b, 1), 0,
	     "renameat2(AT_FDCWD, \"a\", AT_FDCWD, \"b\", 0x1) = 0",
	     "two directories and two paths");
	line(SYS_chdir, ARGS(text(odd)), 0,
	     "chdir(\"/\\1\\0012\\377\\\"\\\\\\n\\t\\v\\f\\r\\33\") = 0",
	     "text is escaped");
	line(SYS_newfstatat, ARGS(3, text(""), 0x7000, AT_EMPTY_PATH |
				  AT_SYMLINK_NOFOLLOW), 0,
	     "newfstatat(3</mnt/host/x>, \"\", 0x7000, "
	     "AT_SYMLINK_NOFOLLOW|AT_EMPTY_PATH) = 0", "AT_ flags");
	line(SYS_unlinkat, ARGS(CWD, text("d"), AT_REMOVEDIR), 0,
	     "unlinkat(AT_FDCWD, \"d\", AT_REMOVEDIR) = 0",
	     "AT_REMOVEDIR of unlinkat ...");
	line(SYS_faccessat2, ARGS(CWD, text("d"), R_OK | X_OK, AT_EACCESS |
				  AT_SYMLINK_NOFOLLOW), 0,
	     "faccessat2(AT_FDCWD, \"d\", R_OK|X_OK, "
	     "AT_EACCESS|AT_SYMLINK_NOFOLLOW) = 0", "... is AT_EACCESS here");
	line(SYS_access, ARGS(text("d"), F_OK), 0,
	     "access(\"d\", F_OK) = 0", "F_OK is no bits");
	line(SYS_chmod, ARGS(text("d"), 0), 0, "chmod(\"d\", 000) = 0",
	     "an empty mode");
	line(SYS_symlink, ARGS(text("0123456789012345678901234567890123456789"),
			       text("l")), 0,
	     "symlink(\"0123456789012345678901234567890123456789\", \"l\") = 0",
	     "link targets are shown whole");
	line(SYS_getxattr,
	     ARGS(text("f"), text("user.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
		  0, 0), 5, "getxattr(\"f\", "
	     "\"user.aaaaaaaaaaaaaaaaaaaaaaaaaaa\"..., NULL, 0) = 5",
	     "other text is cut at str_max");
	line(SYS_getcwd, ARGS(text("/root"), 4096), 6,
	     "getcwd(\"/root\", 4096) = 6", "getcwd ends at its NUL");
	line(SYS_readlink, ARGS(text("l"), store("there", 5), 4), 4,
	     "readlink(\"l\", \"ther\", 4) = 4", "readlink has no NUL");
}

static void check_data(void)
{
	uint64_t at = store("needle\n", 7);

	line(SYS_read, ARGS(3, at, 4096), 7,
	     "read(3</mnt/host/x>, \"needle\\n\", 4096) = 7",
	     "read shows what it got");
	line(SYS_read, ARGS(3, BASE, 4096), 0,
	     "read(3</mnt/host/x>, \"\", 4096) = 0", "read at end of file");
	line(SYS_read, ARGS(5, BASE, 4096), -EINTR, "read(5, 0x7f0000000f00, "
	     "4096) = -1 EINTR (Interrupted system call)",
	     "a read that failed shows no data");
	line(SYS_read, ARGS(5, BASE, 3), INT64_MAX,
	     "read(5, \"\\0\\0\\0\", 3) = 9223372036854775807",
	     "a result larger than the buffer is not believed");
	line(SYS_read, ARGS(5, BASE + sizeof(mem) - 4, 8), 8,
	     "read(5, 0x7f0000003efc, 8) = 8",
	     "data that is not all there is an address");
	line(SYS_write, ARGS(1, store("aa\0001234", 7), 7), 7,
	     "write(1, \"aa\\0001234\", 7) = 7",
	     "an escape before a digit has three digits");
	line(SYS_write, ARGS(1, store("0123456789012345678901234567890123", 34),
			     34), -EPIPE,
	     "write(1, \"01234567890123456789012345678901\"..., 34) = "
	     "-1 EPIPE (Broken pipe)", "long data is cut");
	line(SYS_write, ARGS(1, BASE, UINT64_MAX), -EFAULT,
	     "write(1, \"\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0"
	     "\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\"..., "
	     "18446744073709551615) = -1 EFAULT (Bad address)",
	     "a size of everything");
	line(SYS_write, ARGS(4, 0, 5), -EFAULT, "write(4</a\\74b\\76\\n\">, "
	     "NULL, 5) = -1 EFAULT (Bad address)",
	     "a path behind a descriptor cannot end it");
	line(SYS_getdents64, ARGS(3, BASE, 32768), 48,
	     "getdents64(3</mnt/host/x>, 0x7f0000000f00, 32768) = 48",
	     "directory records are not text");
}

static uint64_t vector(uint64_t a, uint64_t b, int n)
{
	struct iovec iov[8];

	for (int i = 0; i < n; i++) {
		iov[i].iov_base = (void *)(uintptr_t)(i % 2 ? b : a);
		iov[i].iov_len = 3;
	}
	return store(iov, (size_t)n * sizeof(iov[0]));
}

static void check_vectors(void)
{
	uint64_t a = text("abc"), b = text("xyz");

	line(SYS_writev, ARGS(1, vector(a, b, 2), 2), 6,
	     "writev(1, [{iov_base=\"abc\", iov_len=3}, "
	     "{iov_base=\"xyz\", iov_len=3}], 2) = 6", "a vector to write");
	a = text("abc");
	line(SYS_writev, ARGS(1, vector(a, a, 6), 6), 18,
	     "writev(1, [{iov_base=\"abc\", iov_len=3}, "
	     "{iov_base=\"abc\", iov_len=3}, {iov_base=\"abc\", iov_len=3}, "
	     "{iov_base=\"abc\", iov_len=3}, ...], 6) = 18",
	     "four entries are enough");
	a = text("abc");
	b = text("xyz");
	line(SYS_preadv, ARGS(1, vector(a, b, 3), 3, 10, 0), 4,
	     "preadv(1, [{iov_base=\"abc\", iov_len=3}, "
	     "{iov_base=\"x\", iov_len=3}, {iov_base=\"\", iov_len=3}], "
	     "3, 10, 0) = 4", "a vector that was read shows the result only");
	line(SYS_readv, ARGS(1, vector(GONE, GONE, 1), 1), -EFAULT,
	     "readv(1, [{iov_base=0x1000, iov_len=3}], 1) = "
	     "-1 EFAULT (Bad address)", "a vector whose read failed");
	line(SYS_writev, ARGS(1, BASE, 0), 0, "writev(1, [], 0) = 0",
	     "an empty vector");
	line(SYS_writev, ARGS(1, GONE, UINT64_MAX), -EFAULT, "writev(1, 0x1000,"
	     " 18446744073709551615) = -1 EFAULT (Bad address)",
	     "a vector that cannot be read");
	line(SYS_writev, ARGS(1, BASE + sizeof(mem) - 16, 2), -EFAULT,
	     "writev(1, [{iov_base=NULL, iov_len=0}, "
	     "... /* 0x7f0000003f00 */], 2) = -1 EFAULT (Bad address)",
	     "a vector whose end cannot be read");
}

static void check_words(void)
{
	line(SYS_lseek, ARGS(3, (uint64_t)-1, SEEK_HOLE), -EINVAL,
	     "lseek(3</mnt/host/x>, -1, SEEK_HOLE) = "
	     "-1 EINVAL (Invalid argument)", "offsets have a sign");
	line(SYS_flock, ARGS(5, LOCK_SH | LOCK_NB), 0,
	     "flock(5, LOCK_SH|LOCK_NB) = 0", "flock operations");
	line(SYS_mmap, ARGS(0, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE |
			    MAP_FIXED | MAP_ANONYMOUS, (uint64_t)-1, 4096),
	     0x7f0000000000, "mmap(NULL, 8192, PROT_READ|PROT_EXEC, "
	     "MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0x1000) = "
	     "0x7f0000000000", "mmap, and a result that is an address");
	line(SYS_mmap, ARGS(0, 1, PROT_NONE, MAP_SHARED | MAP_HUGETLB |
			    21 << 26, 3, 0), -ENOMEM,
	     "mmap(NULL, 1, PROT_NONE, MAP_SHARED|MAP_HUGETLB|"
	     "21<<MAP_HUGE_SHIFT, 3</mnt/host/x>, 0) = "
	     "-1 ENOMEM (Cannot allocate memory)", "sizes of huge pages");
	line(SYS_fcntl, ARGS(5, F_GETFL, 99), O_RDWR | 0100000,
	     "fcntl(5, F_GETFL) = 0x8002 (flags O_RDWR|O_LARGEFILE)",
	     "F_GETFL's result is flags");
	line(SYS_fcntl, ARGS(5, F_GETFD), 1,
	     "fcntl(5, F_GETFD) = 0x1 (flags FD_CLOEXEC)", "so is F_GETFD's");
	line(SYS_fcntl, ARGS(5, F_SETFL, O_NONBLOCK), 0,
	     "fcntl(5, F_SETFL, O_RDONLY|O_NONBLOCK) = 0", "F_SETFL");
	line(SYS_fcntl, ARGS(5, F_SETFD, FD_CLOEXEC), 0,
	     "fcntl(5, F_SETFD, FD_CLOEXEC) = 0", "F_SETFD");
	line(SYS_fcntl, ARGS(5, F_DUPFD_CLOEXEC, 10), 10,
	     "fcntl(5, F_DUPFD_CLOEXEC, 10) = 10", "F_DUPFD_CLOEXEC");
	line(SYS_fcntl, ARGS(5, 1234, 5), -EINVAL, "fcntl(5, 0x4d2, 0x5) = "
	     "-1 EINVAL (Invalid argument)", "a command without a name");
	line(SYS_ioctl, ARGS(5, TCGETS, 0x7000), -ENOTTY,
	     "ioctl(5, TCGETS, 0x7000) = "
	     "-1 ENOTTY (Inappropriate ioctl for device)", "TCGETS");
	line(SYS_ioctl, ARGS(5, FICLONE, 3), 0, "ioctl(5, FICLONE, 0x3) = 0",
	     "FICLONE");
	line(SYS_ioctl, ARGS(5, KVM_CREATE_VM, 0), 6,
	     "ioctl(5, KVM_CREATE_VM, 0) = 6", "requests of KVM");
	line(SYS_ioctl, ARGS(5, 0xdead, 0), -ENOTTY, "ioctl(5, 0xdead, 0) = "
	     "-1 ENOTTY (Inappropriate ioctl for device)",
	     "a request without a name");
	line(SYS_umask, ARGS(022), 022, "umask(022) = 022", "umask is octal");
	line(SYS_chown, ARGS(text("f"), (uint32_t)-1, 5), 0,
	     "chown(\"f\", -1, 5) = 0", "an owner that stays");
	line(SYS_getpid, ARGS(1, 2, 3), 77, "getpid() = 77", "no arguments");
}

static void check_hostile(void)
{
	char out[64];

	line(510, ARGS(1, 2, 3, 4, 5, UINT64_MAX), -ENOSYS,
	     "syscall_0x1fe(0x1, 0x2, 0x3, 0x4, 0x5, 0xffffffffffffffff) = "
	     "-1 ENOSYS (Function not implemented)", "a call without a name");
	line(-1, ARGS(0), 0, "syscall_0xffffffffffffffff(0, 0, 0, 0, 0, 0) = 0",
	     "a number that is no index");
	line(SYS_close, ARGS(0x1ffffffffULL), -4000,
	     "close(-1) = -1 ERRNO_4000 (Unknown error 4000)",
	     "an error without a name, a descriptor with more than 32 bits");
	line(SYS_close, ARGS(7), -512, "close(7) = ? ERESTARTSYS "
	     "(To be restarted if SA_RESTART is set)", "a restart");
	line(SYS_close, ARGS(7), INT64_MIN, "close(7) = -9223372036854775808",
	     "a negative result that is no error");

	memset(mem, 'a', sizeof(mem));
	line(SYS_chdir, ARGS(BASE + sizeof(mem) - 9), -EFAULT,
	     "chdir(0x7f0000003ef7) = -1 EFAULT (Bad address)",
	     "a path that never ends before memory does");
	memset(mem, 'a', sizeof(mem));
	callfmt_call(&fmt, SYS_chdir, ARGS(BASE), 0, SECONDS, out, sizeof(out));
	ok(strlen(out) == sizeof(out) - 1, "a path that never ends");
	line(SYS_write, ARGS(1, UINT64_MAX - 3, 8), -EFAULT,
	     "write(1, 0xfffffffffffffffc, 8) = -1 EFAULT (Bad address)",
	     "data that wraps");

	fmt.read = read_liar;
	line(SYS_write, ARGS(1, BASE, 4), 4, "write(1, \"xxxx\", 4) = 4",
	     "a reader that claims too much");
	fmt.read = read_fake;

	fmt.str_max = 0;
	line(SYS_write, ARGS(1, store("abc", 3), 3), 3,
	     "write(1, \"\"..., 3) = 3", "no bytes of strings");
	fmt.str_max = SIZE_MAX;
	line(SYS_write, ARGS(1, store("abc", 3), 3), 3,
	     "write(1, \"abc\", 3) = 3", "any number of bytes of strings");
	line(SYS_setxattr, ARGS(text("f"), text("user.x"), store("\0", 1), 1),
	     0, "setxattr(\"f\", \"user.x\", \"\\0\", 1, 0) = 0",
	     "text with any number of bytes");
	fmt.str_max = 32;
	fmt.fd_path = NULL;
	line(SYS_close, ARGS(3), 0, "close(3) = 0", "nobody knows paths");
	fmt.fd_path = fd_path;

	callfmt_call(&fmt, SYS_getpid, ARGS(0), 1, -5.0, out, sizeof(out));
	ok(!strcmp(out, "getpid() = 1 <0.000000>"), "a clock gone backwards");
	callfmt_call(&fmt, SYS_getpid, ARGS(0), 1, (double)NAN, out,
		     sizeof(out));
	ok(!strcmp(out, "getpid() = 1 <0.000000>"), "a time that is none");
	ok(callfmt_call(&fmt, SYS_getpid, ARGS(0), 1, 0, NULL, 0) == 0,
	   "no buffer at all");
}

/* Any words for any call, with everything mapped or nothing. */
static void check_random(void)
{
	uint64_t state = 88172645463325252ULL;
	bool good = true;

	for (size_t i = 0; i < sizeof(mem); i++)
		mem[i] = (char)(i * 7919 >> 3);
	for (int round = 0; round < 200000; round++) {
		uint64_t args[6], nr = (uint64_t)round % 480;
		size_t size = (size_t)round % 300;
		char out[300], guard = (char)round;
		size_t n;

		for (int i = 0; i < 6; i++) {
			state ^= state << 13;
			state ^= state >> 7;
			state ^= state << 17;
			args[i] = state >> (state & 63);
			if (state & 64)
				args[i] = BASE + args[i] % sizeof(mem);
		}
		out[size] = guard;
		n = callfmt_call(&fmt, nr, args, (int64_t)args[5] >> 1, 1.0,
				 out, size);
		good &= out[size] == guard && n <= size;
		good &= !size || (n < size && strlen(out) == n);
	}
	ok(good, "any words for any call stay within the buffer");
}

int main(void)
{
	check_open();
	check_paths();
	check_data();
	check_vectors();
	check_words();
	check_hostile();
	check_random();
	return tap_end();
}
