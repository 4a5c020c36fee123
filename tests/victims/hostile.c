/* SPDX-License-Identifier: MIT */
/*
 * hostile.c - a target that tries to get at what is not its own
 *
 * Whatever a case does, the calls that follow must work as ever: that is what
 * still_works() asks. What may kill its own process is done in a child
 * (contained()) that may die of it.
 */
#include "victim.h"
#include "../../capsule/abi.h"

#include <dirent.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/un.h>

#define ADDR(x) ((void *)(uintptr_t)(x))

static int source(void)
{
	pattern_file(in("pattern"), 65536);
	return (int)sys(open(in("pattern"), O_RDWR));
}

static void still_works(int fd)
{
	unsigned char buf[5000];
	struct stat st;

	pattern_read(fd, buf, sizeof(buf), 11, "afterwards");
	sys(stat(in("pattern"), &st));
	put(in("after"), "after");
	holds(in("after"), "after");
}

/* Runs fn in a child that may crash or hang; this process must not care. */
static void contained(void (*fn)(int), int fd)
{
	pid_t pid = (pid_t)sys(fork());
	int status;

	if (pid == 0) {
		/* What it says about itself is not the verdict. */
		sys(dup2((int)sys(open("/dev/null", O_RDWR)), 2));
		fn(fd);
		_exit(0);
	}
	for (int i = 0; i < 500; i++) {
		pid_t got = waitpid(pid, &status, WNOHANG);

		check(got >= 0, "waitpid: %s", strerror(errno));
		if (got == pid) {
			still_works(fd);
			return;
		}
		nap_ms(10);
	}
	sys(kill(pid, SIGKILL));
	same(waitpid(pid, &status, 0), pid);
	still_works(fd);
}

/* Addresses that the target does not have, but its shadow may. */
static const uint64_t foreign[] = {
	CAPSULE_BASE, CAPSULE_BASE + 0x800, CAPSULE_BASE + CAPSULE_TEXT,
	CAPSULE_BASE + CAPSULE_TEXT + CAPSULE_CTL - 8,
	CAPSULE_BASE + CAPSULE_SIZE, GATE_BASE, GATE_BASE + 0x800,
	GATE_BASE + GATE_SIZE, SLOT_BASE + SLOT_AREA,
};

/* Addresses that nobody has. */
static const uint64_t nowhere[] = {
	0, 1, 8, 4095, 0x7ffffffff000, 0x800000000000, 0x8000000000000000,
	0xffff800000000000, 0xffff888000000000, 0xffffffff81000000,
	0xffffffffff600000, 0xfffffffffffff000, 0xffffffffffffffff,
};

static void into(int fd, int dir, uint64_t addr)
{
	struct iovec iov = { ADDR(addr), 64 };

	refused(read(fd, ADDR(addr), 64), EFAULT);
	refused(pread(fd, ADDR(addr), 64, 0), EFAULT);
	refused(readv(fd, &iov, 1), EFAULT);
	refused(syscall(SYS_stat, in("pattern"), addr), EFAULT);
	refused(syscall(SYS_fstat, fd, addr), EFAULT);
	refused(syscall(SYS_newfstatat, dir, "pattern", addr, 0), EFAULT);
	refused(syscall(SYS_statx, dir, "pattern", 0, 0xfff, addr), EFAULT);
	refused(syscall(SYS_fstatfs, fd, addr), EFAULT);
	refused(syscall(SYS_getdents64, dir, addr, 4096), EFAULT);
	refused(syscall(SYS_readlinkat, dir, "link", addr, 64), EFAULT);
	refused(ioctl(fd, FIONREAD, addr), EFAULT);
	same(lseek(dir, 0, SEEK_SET), 0);
}

static void pointers_into(const uint64_t *addrs, size_t n)
{
	int fd = source(), dir = (int)sys(open(victim_base, O_RDONLY));

	sys(symlink("pattern", in("link")));
	for (size_t i = 0; i < n; i++)
		into(fd, dir, addrs[i]);
	still_works(fd);
	sys(close(dir));
	sys(close(fd));
}

static void foreign_pointers(void)
{
	pointers_into(foreign, sizeof(foreign) / sizeof(foreign[0]));
}

static void wild_pointers(void)
{
	pointers_into(nowhere, sizeof(nowhere) / sizeof(nowhere[0]));
}

static void wild_paths(void)
{
	int fd = source();

	for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++) {
		uint64_t at = nowhere[i];

		refused(syscall(SYS_open, at, O_RDONLY), EFAULT);
		refused(syscall(SYS_stat, at, &(struct stat){ 0 }), EFAULT);
		refused(syscall(SYS_rename, in("pattern"), at), EFAULT);
		refused(syscall(SYS_rename, at, in("pattern")), EFAULT);
		refused(syscall(SYS_symlink, at, in("l")), EFAULT);
		refused(syscall(SYS_chdir, at), EFAULT);
		refused(syscall(SYS_fcntl, fd, F_GETLK, at), EFAULT);
		refused(syscall(SYS_unlinkat, AT_FDCWD, at, 0), EFAULT);
		refused(syscall(SYS_setxattr, in("pattern"), at, "", 0, 0),
			EFAULT);
	}
	refused(syscall(SYS_open, CAPSULE_BASE, O_RDONLY), EFAULT);
	refused(syscall(SYS_chdir, CAPSULE_BASE + CAPSULE_TEXT), EFAULT);
	still_works(fd);
	sys(close(fd));
}

static void wild_sources(void)
{
	int fd = source();

	for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++) {
		struct iovec iov = { ADDR(nowhere[i]), 64 };

		/* The page of vsyscalls can be read on some kernels. */
		if (nowhere[i] == 0xffffffffff600000)
			continue;
		refused(write(fd, ADDR(nowhere[i]), 64), EFAULT);
		refused(pwrite(fd, ADDR(nowhere[i]), 64, 0), EFAULT);
		refused(writev(fd, &iov, 1), EFAULT);
		refused(syscall(SYS_writev, fd, nowhere[i], 2), EFAULT);
	}
	still_works(fd);
	sys(close(fd));
}

/* The capsule and the daemon's page are not the target's to read either. */
static void capsule_source(void)
{
	int fd = source(), out;

	out = (int)sys(open(in("out"), O_RDWR | O_CREAT, 0600));
	refused(write(out, ADDR(CAPSULE_BASE), 64), EFAULT);
	refused(write(out, ADDR(CAPSULE_BASE + CAPSULE_TEXT), 64), EFAULT);
	same(lseek(out, 0, SEEK_END), 0);
	still_works(fd);
	sys(close(out));
	sys(close(fd));
}

static void lengths(void)
{
	static const uint64_t sizes[] = {
		UINT64_MAX, UINT64_MAX - 4095, 1ull << 63, (1ull << 63) - 1,
		1ull << 48, 1ull << 47,
	};
	char buf[64];
	int fd = source();
	struct iovec iov[4];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		long n = syscall(SYS_pread64, fd, buf, sizes[i], 0);

		check(n == -1 && (errno == EFAULT || errno == EINVAL),
		      "pread of %#llx bytes gave %ld: %s",
		      (unsigned long long)sizes[i], n, strerror(errno));
		n = syscall(SYS_write, fd, buf, sizes[i]);
		check(n == -1 && (errno == EFAULT || errno == EINVAL),
		      "write of %#llx bytes gave %ld: %s",
		      (unsigned long long)sizes[i], n, strerror(errno));
	}
	for (int i = 0; i < 4; i++) {
		iov[i].iov_base = buf;
		iov[i].iov_len = (size_t)SSIZE_MAX / 2 + 1;
	}
	check(readv(fd, iov, 4) == -1 && (errno == EINVAL || errno == EFAULT),
	      "a sum of lengths that wraps: %s", strerror(errno));
	iov[0].iov_len = SIZE_MAX;
	check(writev(fd, iov, 1) == -1 && (errno == EINVAL || errno == EFAULT),
	      "a negative length: %s", strerror(errno));
	refused(syscall(SYS_readv, fd, iov, 1025), EINVAL);
	refused(syscall(SYS_readv, fd, iov, INT_MAX), EINVAL);
	refused(syscall(SYS_readv, fd, iov, -1), EINVAL);
	refused(syscall(SYS_writev, fd, iov, 1ull << 31), EINVAL);
	refused(syscall(SYS_preadv, fd, iov, 1 << 20, 0, 0), EINVAL);
	refused(lseek(fd, LLONG_MIN, SEEK_CUR), EINVAL);
	refused(lseek(fd, LLONG_MIN, SEEK_END), EINVAL);
	refused(pread(fd, buf, 1, LLONG_MIN), EINVAL);
	refused(ftruncate(fd, LLONG_MIN), EINVAL);
	still_works(fd);
	sys(close(fd));
}

/*
 * VICTIM_SECRET names a file called secret beside the forwarded tree, by the
 * host's name. It holds "the secret of the host" and is not forwarded.
 */
static void must_not_open(const char *path)
{
	const char *text = "the secret of the host";
	char buf[64] = "";
	int fd;

	if (!victim_shadowed())
		return;
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return;
	check(read(fd, buf, sizeof(buf) - 1) < 0 || !strstr(buf, text),
	      "%s led out of the forwarded tree", path);
	sys(close(fd));
}

static void ways_out(void)
{
	const char *secret = getenv("VICTIM_SECRET");
	char path[PATH_MAX * 2];
	int fd = source(), dir = (int)sys(open(victim_base, O_RDONLY));

	if (!secret)
		secret = "/etc/hostname";
	must_not_open(in("../../secret"));
	must_not_open(in("../../../secret"));
	must_not_open(in("../../../../../../../../etc/hostname"));
	sys(symlink("../../secret", in("relative")));
	must_not_open(in("relative"));
	sys(symlink(secret, in("absolute")));
	must_not_open(in("absolute"));
	sys(symlink("/", in("root")));
	snprintf(path, sizeof(path), "%s%s", in("root"), secret);
	must_not_open(path);
	sys(symlink("..", in("up")));
	must_not_open(in("up/up/../../secret"));
	snprintf(path, sizeof(path), "%s%s", in("proc"), secret);
	sys(symlink("/proc/self/root", in("proc")));
	must_not_open(path);
	snprintf(path, sizeof(path), "%s%s", in("proc1"), secret);
	sys(symlink("/proc/1/root", in("proc1")));
	must_not_open(path);
	if (victim_shadowed()) {
		char buf[64] = "";
		int out = openat(dir, "../../secret", O_RDONLY);

		check(out < 0 || read(out, buf, 63) < 0 ||
		      !strstr(buf, "the secret"), "openat led out");
		out = openat(dir, "absolute", O_RDONLY);
		check(out < 0 || read(out, buf, 63) < 0 ||
		      !strstr(buf, "the secret"), "openat led out");
		check(linkat(AT_FDCWD, secret, dir, "stolen", 0) == -1,
		      "linkat reached out");
		check(rename(in("absolute"), in("../../moved")) == -1,
		      "rename reached out");
	}
	still_works(fd);
	sys(close(dir));
	sys(close(fd));
}

/* The shadow's own view of /proc, /dev and / is not the target's. */
static void proc_tricks(void)
{
	static const char *const targets[] = {
		"/proc/self/mem", "/proc/self/maps", "/proc/self/fd/0",
		"/proc/self/fd/511", "/proc/self/fd/512", "/proc/self/exe",
		"/proc/self/root/etc/shadow", "/proc/self/cwd",
		"/proc/thread-self/mem", "/dev/mem", "/dev/kmsg",
		"/sys/kernel/uevent_helper", "/etc/shadow",
	};
	char name[32], path[64], buf[PATH_MAX];
	int fd = source(), again;

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		snprintf(name, sizeof(name), "trick%zu", i);
		sys(symlink(targets[i], in(name)));
		if (!victim_shadowed())
			continue;
		again = open(in(name), O_RDWR);
		check(again < 0, "a link to %s was opened", targets[i]);
		again = open(in(name), O_RDONLY);
		check(again < 0, "a link to %s was opened", targets[i]);
	}
	/* A descriptor by its name in /proc is the file, or refused. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY);
	if (again >= 0) {
		unsigned char bytes[100];

		pattern_read(again, bytes, sizeof(bytes), 3, path);
		sys(close(again));
	}
	same(readlink("/proc/self/fd/511", buf, sizeof(buf)), -1);
	same(readlink("/proc/self/fd/512", buf, sizeof(buf)), -1);
	refused(open("/proc/self/fd/511", O_RDONLY), ENOENT);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	again = (int)sys(open(path, O_RDONLY));
	check(read(again, buf, sizeof(buf)) > 0, "%s is empty", path);
	sys(close(again));
	still_works(fd);
	sys(close(fd));
}

/* What /proc says is open is what the target opened, and no more. */
static void no_extra_fds(void)
{
	int fd = source(), dir = -1;
	struct dirent *e;
	DIR *d = opendir("/proc/self/fd");

	check(d != NULL, "opendir: %s", strerror(errno));
	dir = dirfd(d);
	while ((e = readdir(d))) {
		int n = atoi(e->d_name);

		check(e->d_name[0] == '.' || n <= 2 || n == fd || n == dir,
		      "descriptor %d is open in the target", n);
	}
	closedir(d);
	sys(close(fd));
}

/* Every number that the target did not open is EBADF, for every use. */
static void not_open(int host, int n)
{
	char byte = 0;
	struct stat st;
	off_t off = 0;

	refused(write(n, "x", 1), EBADF);
	refused(read(n, &byte, 1), EBADF);
	refused(fstat(n, &st), EBADF);
	refused(fcntl(n, F_GETFD), EBADF);
	refused(dup2(n, host), EBADF);
	refused(close(n), EBADF);
	if (n < 505 || n > 530)
		return;
	refused(pread(n, &byte, 1, 0), EBADF);
	refused(lseek(n, 0, SEEK_CUR), EBADF);
	refused(ftruncate(n, 0), EBADF);
	refused(fsync(n), EBADF);
	refused(fchdir(n), EBADF);
	refused(fchmod(n, 0777), EBADF);
	refused(dup(n), EBADF);
	refused(fcntl(n, F_DUPFD, 3), EBADF);
	refused(fcntl(n, F_SETFD, FD_CLOEXEC), EBADF);
	refused(fcntl(n, F_GETFL), EBADF);
	refused(ioctl(n, FIONREAD, &byte), EBADF);
	refused(openat(n, "x", O_RDONLY), EBADF);
	refused(mmap(NULL, 1, PROT_READ, MAP_SHARED, n, 0), EBADF);
	refused(fstatat(n, "", &st, AT_EMPTY_PATH), EBADF);
	refused(sendfile(host, n, &off, 1), EBADF);
	refused(sendfile(n, host, &off, 1), EBADF);
	refused(copy_file_range(n, NULL, host, NULL, 1, 0), EBADF);
	refused(copy_file_range(host, NULL, n, NULL, 1, 0), EBADF);
	refused(splice(n, NULL, host, NULL, 1, 0), EBADF);
	refused(recv(n, &byte, 1, 0), EBADF);
	refused(syscall(SYS_execveat, n, "", (char *[]){ NULL },
			(char *[]){ NULL }, AT_EMPTY_PATH), EBADF);
}

static void shadow_fds(void)
{
	int host = source();

	for (int n = host + 1; n <= 1100; n++)
		not_open(host, n);
	not_open(host, SHADOW_FD_FILLER);
	not_open(host, SHADOW_FD_BASE);
	refused(close(-1), EBADF);
	refused(close(INT_MAX), EBADF);
	refused(write(1 << 20, "x", 1), EBADF);
	still_works(host);
	sys(close(host));
}

/* Nor are they there inside structures. */
static void nested_fds(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int host = source(), pair[2], ep;
	char control[CMSG_SPACE(sizeof(int))] = "";
	struct iovec iov = { (void *)(uintptr_t)"x", 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	sys(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	ep = (int)sys(epoll_create1(0));
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	for (int n = 505; n < 530; n++) {
		memcpy(CMSG_DATA(c), &n, sizeof(n));
		refused(sendmsg(pair[0], &msg, 0), EBADF);
		refused(epoll_ctl(ep, EPOLL_CTL_ADD, n, &ev), EBADF);
	}
	still_works(host);
	sys(close(ep));
	sys(close(pair[0]));
	sys(close(pair[1]));
	sys(close(host));
}

static void poll_closed(void)
{
	int host = source();
	struct pollfd p[2] = { { .fd = host, .events = POLLIN } };

	for (int n = 505; n < 530; n++) {
		p[1].fd = n;
		p[1].events = POLLIN;
		same(poll(p, 2, -1), 2);
		same(p[0].revents, POLLIN);
		same(p[1].revents, POLLNVAL);
	}
	sys(close(host));
}

static void ioctls(void)
{
	static const unsigned long requests[] = {
		0x5412 /* TIOCSTI */, 0x540e /* TIOCSCTTY */,
		0x541c /* TIOCLINUX */, 0x5401 /* TCGETS */,
		0xdeadbeef, 0xae00 /* KVM_GET_API_VERSION */,
		0x400454ca /* TUNSETIFF */, 0x4c00 /* LOOP_SET_FD */,
	};
	char buf[256] = "x";
	int fd = source();

	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
		refused(ioctl(fd, requests[i], buf), ENOTTY);
	still_works(fd);
	sys(close(fd));
}

/* A minimal ring with one read of a descriptor; its result, or -errno. */
static long ring_read(int fd, void *buf, unsigned len)
{
	struct io_uring_params p = { 0 };
	struct io_uring_sqe *sqes;
	char *sq, *cq;
	unsigned *array;
	int ring = (int)syscall(SYS_io_uring_setup, 4, &p);

	if (ring < 0)
		return -errno;
	sq = mmap(NULL, p.sq_off.array + p.sq_entries * 4,
		  PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		  IORING_OFF_SQ_RING);
	cq = mmap(NULL, p.cq_off.cqes +
		  p.cq_entries * sizeof(struct io_uring_cqe),
		  PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		  IORING_OFF_CQ_RING);
	sqes = mmap(NULL, p.sq_entries * sizeof(*sqes),
		    PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || sqes == MAP_FAILED)
		return -ENOMEM;
	memset(&sqes[0], 0, sizeof(sqes[0]));
	sqes[0].opcode = IORING_OP_READ;
	sqes[0].fd = fd;
	sqes[0].addr = (uintptr_t)buf;
	sqes[0].len = len;
	array = (unsigned *)(sq + p.sq_off.array);
	array[0] = 0;
	__atomic_store_n((unsigned *)(sq + p.sq_off.tail), 1,
			 __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS,
		    NULL, 0) < 0)
		return -errno;
	return ((struct io_uring_cqe *)(cq + p.cq_off.cqes))->res;
}

static void io_rings(void)
{
	char buf[64];
	int fd = source();
	long n = ring_read(fd, buf, 64);

	if (victim_shadowed())
		check(n < 0, "io_uring read %ld bytes of a host file", n);
	for (int i = 505; i < 520; i++) {
		n = ring_read(i, buf, 64);
		check(n < 0, "io_uring read %ld bytes of descriptor %d", n, i);
	}
	still_works(fd);
	sys(close(fd));
}

static void file_handles(void)
{
	struct {
		struct file_handle h;
		unsigned char bytes[MAX_HANDLE_SZ];
	} handle = { .h.handle_bytes = MAX_HANDLE_SZ };
	int fd = source(), mount_id;
	int dir = (int)sys(open(victim_base, O_RDONLY | O_DIRECTORY));

	if (name_to_handle_at(dir, "pattern", &handle.h, &mount_id, 0) < 0) {
		handle.h.handle_bytes = 8;
		handle.h.handle_type = 1;
	}
	if (victim_shadowed())
		check(open_by_handle_at(dir, &handle.h, O_RDONLY) == -1,
		      "a file was opened by its handle");
	still_works(fd);
	sys(close(dir));
	sys(close(fd));
}

static void unmap_gate(int fd)
{
	char byte;

	munmap(ADDR(GATE_BASE), GATE_SIZE);
	pread(fd, &byte, 1, 0);
}

static void unmap_slots(int fd)
{
	char byte;

	munmap(ADDR(SLOT_BASE), SLOT_AREA);
	pread(fd, &byte, 1, 0);
}

static void protect_gate(int fd)
{
	char byte;

	mprotect(ADDR(GATE_BASE), GATE_SIZE, PROT_NONE);
	pread(fd, &byte, 1, 0);
}

static void write_gate(int fd)
{
	char byte;

	if (mprotect(ADDR(GATE_BASE), GATE_SIZE, PROT_READ | PROT_WRITE) == 0)
		memset(ADDR(GATE_BASE), 0xcc, GATE_SIZE);
	pread(fd, &byte, 1, 0);
}

static void protect_slots(int fd)
{
	char byte;

	mprotect(ADDR(SLOT_BASE), SLOT_AREA, PROT_NONE);
	mprotect(ADDR(SLOT_BASE), SLOT_STRIDE, PROT_READ);
	pread(fd, &byte, 1, 0);
}

static void map_over_gate(int fd)
{
	char byte;

	mmap(ADDR(GATE_BASE), GATE_SIZE, PROT_READ | PROT_WRITE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	pread(fd, &byte, 1, 0);
}

static void map_over_slots(int fd)
{
	char byte;

	mmap(ADDR(SLOT_BASE), 4 * SLOT_STRIDE, PROT_READ | PROT_WRITE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	pread(fd, &byte, 1, 0);
}

static void move_slots(int fd)
{
	char byte;
	void *p = mmap(NULL, SLOT_STRIDE, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	mremap(ADDR(SLOT_BASE), SLOT_STRIDE, SLOT_STRIDE,
	       MREMAP_MAYMOVE | MREMAP_FIXED, p);
	pread(fd, &byte, 1, 0);
	mremap(p, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, GATE_BASE);
	pread(fd, &byte, 1, 0);
}

static void drop_slots(int fd)
{
	char byte;

	madvise(ADDR(SLOT_BASE), 16 * SLOT_STRIDE, MADV_DONTNEED);
	madvise(ADDR(SLOT_BASE), 16 * SLOT_STRIDE, MADV_REMOVE);
	pread(fd, &byte, 1, 0);
}

static void unmap_everything_ours(int fd)
{
	char byte;

	munmap(ADDR(GATE_BASE), CAPSULE_BASE + (1ull << 30) - GATE_BASE);
	pread(fd, &byte, 1, 0);
	open(in("pattern"), O_RDONLY);
}

static void read_into_slots(int fd)
{
	for (int i = 0; i < 4; i++)
		pread(fd, ADDR(SLOT_BASE + i * SLOT_STRIDE), SLOT_STRIDE, 0);
	for (int i = 0; i < 200; i += 4)
		pread(fd, ADDR(SLOT_BASE + i), 4, i);
}

static void *scribble(void *arg)
{
	uint32_t *words = ADDR(SLOT_BASE);

	for (unsigned i = 1; i; i++) {
		words[i % 64] = i * 2654435761u;
		words[SLOT_SCRATCH / 4 + i % 1024] = i;
	}
	return arg;
}

/* A thread that writes into the slots while others forward. */
static void scribble_slots(int fd)
{
	unsigned char buf[512];
	pthread_t thread;

	alarm(2);
	pthread_create(&thread, NULL, scribble, NULL);
	for (int i = 0; i < 500; i++) {
		pread(fd, buf, sizeof(buf), i);
		close(open(in("pattern"), O_RDONLY));
	}
}

/* The requests that only the gate has a use for. */
static void magic_calls(int fd)
{
	char byte;

	for (int i = 0; i < 3; i++) {
		syscall(MAGIC_STOP, i, 0, 0);
		syscall(MAGIC_NOTIFY, i, 0, 0);
	}
	pread(fd, &byte, 1, 0);
}

static void jump_into_gate(int fd)
{
	(void)fd;
	((void (*)(void))(uintptr_t)GATE_BASE)();
}

static void jump_into_the_middle(int fd)
{
	pid_t pid;
	int status;

	for (uintptr_t off = 1; off < 200; off += 3) {
		pid = fork();
		if (pid == 0) {
			alarm(1);
			((void (*)(long))(GATE_BASE + off))(fd);
			_exit(0);
		}
		waitpid(pid, &status, 0);
	}
}

/* What is in the middle of the gate must die with the process, not hang. */
static void no_stack(int fd)
{
	__asm__ volatile(
		"xor %%esp, %%esp\n"
		"mov $0, %%eax\n"
		"mov %0, %%edi\n"
		"mov $0x1000, %%esi\n"
		"mov $16, %%edx\n"
		"syscall\n"
		"mov $60, %%eax\n"
		"xor %%edi, %%edi\n"
		"syscall\n"
		: : "r"(fd) : "rax", "rdi", "rsi", "rdx", "rcx", "r11",
		"memory");
}

/* The old gates into the kernel carry other numbers: never misread them. */
static void other_gates(int fd)
{
	long r;
	char byte = 0;

	/* int 0x80: 20 is getpid there and writev here. */
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(20L), "b"(0L), "c"(0L),
			 "d"(0L) : "memory", "r8", "r9", "r10", "r11");
	if (r > 0 && r != getpid())
		_exit(1);
	/* x32: bit 30 of the number. */
	syscall(0x40000000 | SYS_read, fd, &byte, 1);
	syscall(-1L, fd, &byte, 1);
	syscall(1L << 32 | SYS_read, fd, &byte, 1);
	syscall(511, fd, &byte, 1);
	syscall(9999, fd, &byte, 1);
}

static void gate_and_slots(void)
{
	static void (*const tricks[])(int) = {
		unmap_gate, unmap_slots, protect_gate, write_gate,
		protect_slots, map_over_gate, map_over_slots, move_slots,
		drop_slots, unmap_everything_ours,
	};
	int fd = source();

	for (size_t i = 0; i < sizeof(tricks) / sizeof(tricks[0]); i++)
		contained(tricks[i], fd);
	sys(close(fd));
}

static void slot_contents(void)
{
	int fd = source();

	contained(read_into_slots, fd);
	contained(scribble_slots, fd);
	sys(close(fd));
}

static void strange_entries(void)
{
	int fd = source();

	contained(magic_calls, fd);
	contained(jump_into_gate, fd);
	contained(jump_into_the_middle, fd);
	contained(no_stack, fd);
	contained(other_gates, fd);
	sys(close(fd));
}

static void *flip(void *arg)
{
	volatile char *path = arg;

	for (;;) {
		path[0] = 'X';
		path[0] = '/';
	}
	return NULL;
}

/* The path changes between the tracer's look at it and its use. */
static void race_paths(int fd)
{
	static char path[PATH_MAX];
	pthread_t thread;

	(void)fd;
	alarm(3);
	snprintf(path, sizeof(path), "%s", in("pattern"));
	pthread_create(&thread, NULL, flip, path);
	for (int i = 0; i < 500; i++)
		close(open(path, O_RDONLY));
}

static void races(void)
{
	int fd = source();

	contained(race_paths, fd);
	sys(close(fd));
}

/* Calls that no shadow may carry out for anybody. */
static void forbidden_calls(void)
{
	int fd = source();

	if (victim_shadowed()) {
		check(syscall(SYS_mount, in("pattern"), in("pattern"), NULL,
			      4096 /* MS_BIND */, NULL) == -1,
		      "a mount was made");
		check(syscall(SYS_pivot_root, victim_base, victim_base) == -1,
		      "pivot_root worked");
		check(syscall(SYS_swapon, in("pattern"), 0) == -1,
		      "swapon worked");
		check(syscall(SYS_acct, in("pattern")) == -1, "acct worked");
		check(syscall(SYS_quotactl, 0, in("pattern"), 0, NULL) == -1,
		      "quotactl worked");
	}
	still_works(fd);
	sys(close(fd));
}

/* The kernel's own answer may be anything; ours is one, from patched sites, too. */
static void shadow_stack(void)
{
	const long enable = 0x5001, feature = 1;	/* asm/prctl.h */

	for (int i = 0; victim_shadowed() && i < 5; i++)
		refused(syscall(SYS_arch_prctl, enable, feature), ENOSYS);
}

int main(int argc, char **argv)
{
	static const struct victim_case cases[] = {
		CASE(foreign_pointers), CASE(wild_pointers), CASE(wild_paths),
		CASE(wild_sources), CASE(capsule_source), CASE(lengths),
		CASE(ways_out), CASE(proc_tricks), CASE(no_extra_fds),
		CASE(shadow_fds), CASE(nested_fds), CASE(poll_closed),
		CASE(ioctls),
		CASE(io_rings), CASE(file_handles), CASE(gate_and_slots),
		CASE(slot_contents), CASE(strange_entries), CASE(races),
		CASE(forbidden_calls), CASE(shadow_stack),
	};

	return VICTIM_MAIN(argc, argv, cases);
}
