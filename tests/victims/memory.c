/* SPDX-License-Identifier: MIT */
/*
 * memory.c - every kind of memory as the buffer of a forwarded call
 *
 * A pattern file is read into it, and it is compared; what a process may not
 * write must refuse, what a fork separates must stay apart.
 */
#include "victim.h"
#include "../../capsule/abi.h"

#include <pthread.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/uio.h>

#define RW (PROT_READ | PROT_WRITE)
#define MIB (1ul << 20)

static size_t page;

/* A pattern file of the size and some more, open for reading and writing. */
static int source(size_t size)
{
	page = (size_t)sysconf(_SC_PAGESIZE);
	pattern_file(in("pattern"), size + 65536);
	return (int)sys(open(in("pattern"), O_RDWR));
}

static void zeroed(const void *mem, size_t len, const char *where)
{
	const unsigned char *p = mem;

	for (size_t i = 0; i < len; i++)
		check(p[i] == 0, "%s: byte %zu is %#x instead of zero", where,
		      i, p[i]);
}

static void anonymous(void)
{
	static const size_t sizes[] = { 1, 4096, 12288, MIB, 64 * MIB };
	int fd = source(MIB);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t n = sizes[i];
		unsigned char *p = map(n, RW, MAP_PRIVATE);
		size_t part = n < MIB ? n : MIB;

		pattern_read(fd, p, part, 0, "start of an anonymous mapping");
		zeroed(p + part, n - part > 4096 ? 4096 : n - part, "rest");
		pattern_read(fd, p + n - part, part, 0, "end of the mapping");
		sys(munmap(p, n));
		refused(pread(fd, p, 1, 0), EFAULT);
		refused(pwrite(fd, p, 1, 0), EFAULT);
	}
	sys(close(fd));
}

static void holes(void)
{
	int fd = source(MIB);
	unsigned char *p = map(8 * page, RW, MAP_PRIVATE);
	ssize_t n;

	sys(munmap(p + 3 * page, 2 * page));
	pattern_read(fd, p, 3 * page, 0, "before the hole");
	pattern_read(fd, p + 5 * page, 3 * page, 7, "after the hole");
	refused(pread(fd, p + 3 * page, 1, 0), EFAULT);
	n = pread(fd, p + 2 * page, 4 * page, 100);
	check((n > 0 && (size_t)n <= page) || (n == -1 && errno == EFAULT),
	      "a read over a hole gave %zd", n);
	pattern_check(p + 5 * page, 3 * page, 7, "after the hole");
	/* The hole filled again, by a mapping of its own. */
	check(mmap(p + 3 * page, 2 * page, RW, MAP_PRIVATE | MAP_ANONYMOUS |
		   MAP_FIXED, -1, 0) == p + 3 * page, "mmap: %s",
	      strerror(errno));
	zeroed(p + 3 * page, 2 * page, "a fresh mapping");
	pattern_read(fd, p, 8 * page, 11, "over three mappings");
	sys(munmap(p, 8 * page));
	sys(close(fd));
}

/* A mapping replaced in place must not leave its old pages reachable. */
static void replaced(void)
{
	int fd = source(MIB);
	unsigned char *p = map(4 * page, RW, MAP_PRIVATE);

	for (int i = 0; i < 20; i++) {
		pattern_read(fd, p, 4 * page, (uint64_t)i, "old mapping");
		check(mmap(p, 4 * page, RW, MAP_PRIVATE | MAP_ANONYMOUS |
			   MAP_FIXED, -1, 0) == p, "mmap: %s",
		      strerror(errno));
		zeroed(p, 4 * page, "new mapping");
		pattern_read(fd, p + page, page, 77, "new mapping");
		zeroed(p, page, "page before");
	}
	sys(munmap(p, 4 * page));
	sys(close(fd));
}

static void remapped(void)
{
	int fd = source(4 * MIB);
	unsigned char *p = map(MIB, RW, MAP_PRIVATE), *q, *spot;

	pattern_read(fd, p, MIB, 0, "before mremap");
	q = mremap(p, MIB, 4 * MIB, MREMAP_MAYMOVE);
	check(q != MAP_FAILED, "mremap: %s", strerror(errno));
	pattern_check(q, MIB, 0, "grown, old part");
	zeroed(q + MIB, 3 * MIB, "grown, new part");
	pattern_read(fd, q, 4 * MIB, 5, "grown");
	check(mremap(q, 4 * MIB, 2 * page, 0) == q, "shrink: %s",
	      strerror(errno));
	pattern_check(q, 2 * page, 5, "shrunk");
	refused(pread(fd, q + 2 * page, 1, 0), EFAULT);
	spot = map(2 * page, PROT_NONE, MAP_PRIVATE);
	p = mremap(q, 2 * page, 2 * page, MREMAP_MAYMOVE | MREMAP_FIXED, spot);
	check(p == spot, "move: %s", strerror(errno));
	pattern_check(p, 2 * page, 5, "moved");
	refused(pread(fd, q, 1, 0), EFAULT);
	pattern_read(fd, p, 2 * page, 9, "moved");
	/* A move of the middle of a mapping. */
	q = map(6 * page, RW, MAP_PRIVATE);
	pattern_read(fd, q, 6 * page, 0, "six pages");
	check(mremap(q + 2 * page, page, page, MREMAP_MAYMOVE | MREMAP_FIXED,
		     p) == p, "move of the middle: %s", strerror(errno));
	pattern_check(p, page, 2 * page, "moved middle");
	pattern_check(p + page, page, 9 + page, "beside the moved middle");
	refused(pread(fd, q + 2 * page, 1, 0), EFAULT);
	pattern_check(q + 3 * page, 3 * page, 3 * page, "what stayed");
	refused(mremap(q, 7 * page, 8 * page, 0), EFAULT);
	sys(munmap(q, 6 * page));
	sys(munmap(p, 2 * page));
	sys(close(fd));
}

static void program_break(void)
{
	int fd = source(MIB);
	char *old = (char *)sys(syscall(SYS_brk, 0));
	char *top = old + 2 * MIB;

	same(syscall(SYS_brk, top), (long)top);
	zeroed(old, 2 * MIB, "fresh heap");
	pattern_read(fd, old + 100, MIB, 3, "heap");
	same(syscall(SYS_brk, old + MIB), (long)(old + MIB));
	pattern_check(old + 100, MIB - 100, 3, "heap that stayed");
	refused(pread(fd, old + MIB + page, 1, 0), EFAULT);
	same(syscall(SYS_brk, top), (long)top);
	zeroed(old + MIB + page, MIB - page, "heap that came back");
	same(syscall(SYS_brk, 1), (long)top);
	same(syscall(SYS_brk, old), (long)old);
	sys(close(fd));
}

static void protected(void)
{
	int fd = source(MIB);
	unsigned char *p = map(4 * page, RW, MAP_PRIVATE);

	pattern_read(fd, p, 4 * page, 0, "writable");
	sys(mprotect(p + page, page, PROT_READ));
	sys(mprotect(p + 2 * page, page, PROT_NONE));
	refused(pread(fd, p + page, 10, 0), EFAULT);
	refused(pread(fd, p + 2 * page, 10, 0), EFAULT);
	same(pwrite(fd, p + page, 10, (off_t)page), 10);
	refused(pwrite(fd, p + 2 * page, 10, 0), EFAULT);
	pattern_check(p + page, page, page, "read-only");
	pattern_read(fd, p, page, 50, "page before");
	pattern_read(fd, p + 3 * page, page, 50, "page behind");
	sys(mprotect(p, 4 * page, RW));
	pattern_check(p + 2 * page, page, 2 * page, "hidden for a while");
	pattern_read(fd, p, 4 * page, 60, "writable again");
	sys(munmap(p, 4 * page));
	sys(close(fd));
}

/* What is not ours to write refuses, wherever it lives. */
static void read_only(void)
{
	static const char constant[64] = "constant";
	int fd = source(MIB);
	unsigned char *p = map(page, PROT_READ, MAP_PRIVATE);

	refused(pread(fd, (char *)(uintptr_t)constant, 8, 0), EFAULT);
	refused(pread(fd, (char *)(uintptr_t)"literal", 7, 0), EFAULT);
	refused(pread(fd, (char *)(uintptr_t)read_only, 8, 0), EFAULT);
	refused(pread(fd, p, 1, 0), EFAULT);
	same(pwrite(fd, p, 10, 0), 10);
	same(pwrite(fd, constant, 8, 10), 8);
	same(pwrite(fd, (char *)(uintptr_t)read_only, 8, 18), 8);
	sys(munmap(p, page));
	sys(close(fd));
}

static void dontneed(void)
{
	int fd = source(MIB), out;
	unsigned char *p = map(MIB, RW, MAP_PRIVATE);
	unsigned char *s = map(4 * page, RW, MAP_SHARED);
	unsigned char buf[4096];

	pattern_read(fd, p, MIB, 0, "before");
	sys(madvise(p + 16 * page, 64 * page, MADV_DONTNEED));
	zeroed(p + 16 * page, 64 * page, "after MADV_DONTNEED");
	pattern_check(p, 16 * page, 0, "before the range");
	pattern_check(p + 80 * page, 16 * page, 80 * page, "behind the range");
	pattern_read(fd, p + 20 * page, page, 3, "in the range");
	sys(madvise(p, MIB, MADV_DONTNEED));
	/* Zeros for the shadow too, without a touch on our side. */
	out = (int)sys(open(in("zeros"), O_RDWR | O_CREAT, 0600));
	same(write(out, p + 20 * page, sizeof(buf)), sizeof(buf));
	memset(buf, 1, sizeof(buf));
	same(pread(out, buf, sizeof(buf), 0), sizeof(buf));
	zeroed(buf, sizeof(buf), "written after MADV_DONTNEED");
	sys(close(out));
	/* Shared memory keeps what it holds. */
	pattern_read(fd, s, 4 * page, 0, "shared");
	sys(madvise(s, 4 * page, MADV_DONTNEED));
	pattern_check(s, 4 * page, 0, "shared, after MADV_DONTNEED");
	sys(munmap(s, 4 * page));
	sys(munmap(p, MIB));
	sys(close(fd));
}

static void advice(void)
{
	int fd = source(MIB);
	unsigned char *p = map(8 * MIB, RW, MAP_PRIVATE);

	madvise(p, 8 * MIB, MADV_HUGEPAGE);
	pattern_read(fd, p + 4 * MIB - 1000, MIB, 0, "huge pages");
	sys(madvise(p, 8 * MIB, MADV_WILLNEED));
	sys(madvise(p, 8 * MIB, MADV_DONTFORK));
	sys(madvise(p, 8 * MIB, MADV_DOFORK));
	sys(madvise(p, 8 * MIB, MADV_SEQUENTIAL));
	pattern_check(p + 4 * MIB - 1000, MIB, 0, "after advice");
	refused(madvise(p + 1, page, MADV_DONTNEED), EINVAL);
	refused(madvise(p, page, 9999), EINVAL);
	sys(munmap(p, 8 * MIB));
	refused(madvise(p, page, MADV_DONTNEED), ENOMEM);
	sys(close(fd));
}

static unsigned char in_bss[3 * 65536];
static unsigned char in_data[65536] = { 1, 2, 3 };
static __thread unsigned char in_tls[1000];

static void *on_thread_stack(void *arg)
{
	unsigned char buf[60000];
	int fd = *(int *)arg;

	victim_doing = "thread";
	pattern_read(fd, buf, sizeof(buf), 1, "thread stack");
	pattern_read(fd, in_tls, sizeof(in_tls), 2, "thread-local");
	return NULL;
}

static void everywhere(void)
{
	int fd = source(MIB), out;
	unsigned char stack[100000], *heap = malloc(100);
	unsigned char *large = malloc(MIB);
	struct iovec iov[] = { { stack, 1000 }, { in_bss + 5, 1000 },
			       { in_data + 9, 1000 }, { heap, 100 },
			       { large, 5000 }, { in_tls, 500 } };
	pthread_t thread;
	uint64_t at = 0;

	pattern_read(fd, stack, sizeof(stack), 1, "stack");
	pattern_read(fd, in_bss, sizeof(in_bss), 2, "bss");
	pattern_read(fd, in_data, sizeof(in_data), 3, "data");
	pattern_read(fd, heap, 100, 4, "heap");
	pattern_read(fd, large, MIB / 2, 5, "large allocation");
	pattern_read(fd, in_tls, sizeof(in_tls), 6, "thread-local");
	same(pthread_create(&thread, NULL, on_thread_stack, &fd), 0);
	same(pthread_join(thread, NULL), 0);
	same(preadv(fd, iov, 6, 0), 8600);
	for (int i = 0; i < 6; i++) {
		pattern_check(iov[i].iov_base, iov[i].iov_len, at, "preadv");
		at += iov[i].iov_len;
	}
	out = (int)sys(open(in("out"), O_RDWR | O_CREAT, 0600));
	same(write(out, "a string literal", 16), 16);
	same(write(out, victim_self, 1), 1);
	same(write(out, stack, 3), 3);
	same(write(out, in_data + 20000, 3), 3);
	same(lseek(out, 0, SEEK_SET), 0);
	fd_holds(out, "a string literal");
	sys(close(out));
	free(heap);
	free(large);
	sys(close(fd));
}

static void mapped_files(void)
{
	const char *name = local("mapped");
	int fd = source(MIB), lfd, mfd;
	unsigned char *priv, *shared, *a, *b, byte;
	struct stat st;

	pattern_file(name, 8 * page);
	lfd = (int)sys(open(name, O_RDWR));
	unlink(name);
	priv = mmap(NULL, 8 * page, RW, MAP_PRIVATE, lfd, 0);
	shared = mmap(NULL, 8 * page, RW, MAP_SHARED, lfd, 0);
	check(priv != MAP_FAILED && shared != MAP_FAILED, "mmap: %s",
	      strerror(errno));
	pattern_read(fd, priv + page, page, 13, "private file mapping");
	pattern_check(priv, page, 0, "page before");
	pattern_check(shared, 8 * page, 0, "the file itself");
	pattern_read(fd, shared + 2 * page, page, 17, "shared file mapping");
	same(pread(lfd, &byte, 1, (off_t)(2 * page)), 1);
	same(byte, pattern(17));
	/* A private page not written yet may still show the file's. */
	pattern_read(fd, priv + 2 * page, page, 19, "private, second time");
	pattern_check(shared + 2 * page, page, 17, "shared, unchanged");
	sys(munmap(priv, 8 * page));
	sys(munmap(shared, 8 * page));
	sys(close(lfd));
	mfd = (int)sys(memfd_create("victim", MFD_CLOEXEC));
	sys(ftruncate(mfd, (off_t)(4 * page)));
	a = mmap(NULL, 4 * page, RW, MAP_SHARED, mfd, 0);
	b = mmap(NULL, 4 * page, PROT_READ, MAP_SHARED, mfd, 0);
	check(a != MAP_FAILED && b != MAP_FAILED, "mmap: %s", strerror(errno));
	pattern_read(fd, a, 4 * page, 23, "memfd");
	pattern_check(b, 4 * page, 23, "memfd, seen by the other mapping");
	refused(pread(fd, b, 1, 0), EFAULT);
	sys(fstat(mfd, &st));
	same(st.st_size, 4 * page);
	sys(munmap(a, 4 * page));
	sys(munmap(b, 4 * page));
	sys(close(mfd));
	sys(close(fd));
}

static void sysv_shared(void)
{
	int fd = source(MIB), id = (int)sys(shmget(IPC_PRIVATE, 65536, 0600));
	unsigned char *a = shmat(id, NULL, 0), *b = shmat(id, NULL, SHM_RDONLY);
	pid_t pid;

	sys(shmctl(id, IPC_RMID, NULL));
	check(a != (void *)-1 && b != (void *)-1, "shmat: %s",
	      strerror(errno));
	/* An ordinary user's tracer cannot get at the segment: a limit that
	 * darkshadow-run(1) names, and EFAULT is how it shows. */
	if (geteuid() != 0 && pread(fd, a, 1, 0) < 0) {
		check(errno == EFAULT, "pread into System V memory: %s",
		      strerror(errno));
		sys(shmdt(a));
		sys(shmdt(b));
		sys(close(fd));
		return;
	}
	pattern_read(fd, a, 65536, 0, "System V memory");
	pattern_check(b, 65536, 0, "System V memory, second mapping");
	refused(pread(fd, b, 1, 0), EFAULT);
	spawned(pid)
		pattern_read(fd, a, 65536, 100, "System V memory, child");
	reap(pid);
	pattern_check(a, 65536, 100, "System V memory, from the child");
	sys(shmdt(a));
	refused(pread(fd, a, 1, 0), EFAULT);
	sys(shmdt(b));
	sys(close(fd));
}

static unsigned char forked_data[8192] = { 1 };

static void fork_private(void)
{
	int fd = source(4 * MIB), ready[2], go[2];
	unsigned char *p = map(MIB, RW, MAP_PRIVATE);
	unsigned char *heap = malloc(200000), stack[8192];
	char byte;
	pid_t pid;

	pattern_read(fd, p, MIB, 0, "parent, before");
	pattern_read(fd, heap, 200000, 1, "parent, before");
	pattern_read(fd, stack, sizeof(stack), 2, "parent, before");
	pattern_read(fd, forked_data, sizeof(forked_data), 3, "before");
	sys(pipe(ready));
	sys(pipe(go));
	spawned(pid) {
		pattern_check(p, MIB, 0, "inherited");
		pattern_check(heap, 200000, 1, "inherited");
		pattern_check(stack, sizeof(stack), 2, "inherited");
		pattern_read(fd, p, MIB, 1000, "child");
		pattern_read(fd, heap, 200000, 1001, "child");
		pattern_read(fd, stack, sizeof(stack), 1002, "child");
		pattern_read(fd, forked_data, 8192, 1003, "child");
		same(write(ready[1], "x", 1), 1);
		same(read(go[0], &byte, 1), 1);
		pattern_check(p, MIB, 1000, "child, after the parent");
		pattern_check(heap, 200000, 1001, "child, after the parent");
		pattern_check(stack, 8192, 1002, "child, after the parent");
		pattern_check(forked_data, 8192, 1003, "child");
	}
	same(read(ready[0], &byte, 1), 1);
	pattern_check(p, MIB, 0, "parent, after the child");
	pattern_check(heap, 200000, 1, "parent, after the child");
	pattern_check(stack, sizeof(stack), 2, "parent, after the child");
	pattern_check(forked_data, 8192, 3, "parent, after the child");
	pattern_read(fd, p, MIB, 2000, "parent");
	pattern_read(fd, heap, 200000, 2001, "parent");
	pattern_read(fd, stack, sizeof(stack), 2002, "parent");
	pattern_read(fd, forked_data, 8192, 2003, "parent");
	same(write(go[1], "x", 1), 1);
	reap(pid);
	pattern_check(p, MIB, 2000, "parent, at the end");
	sys(munmap(p, MIB));
	free(heap);
	for (int i = 0; i < 2; i++) {
		sys(close(ready[i]));
		sys(close(go[i]));
	}
	sys(close(fd));
}

static void fork_deep(void)
{
	int fd = source(MIB), depth;
	unsigned char *p = map(16 * page, RW, MAP_PRIVATE);
	pid_t pid = 0;

	pattern_read(fd, p, 16 * page, 0, "first");
	for (depth = 1; depth <= 6; depth++) {
		pid = (pid_t)sys(fork());
		if (pid)
			break;
		pattern_check(p, 16 * page, (uint64_t)depth - 1, "inherited");
		pattern_read(fd, p, 16 * page, (uint64_t)depth, "generation");
	}
	if (pid)
		reap(pid);
	pattern_check(p, 16 * page, (uint64_t)(pid ? depth - 1 : 6),
		      "after the children");
	if (depth > 1)
		_exit(0);
	sys(munmap(p, 16 * page));
	sys(close(fd));
}

static void fork_big(void)
{
	int fd = source(MIB);
	unsigned char *p = map(64 * MIB, RW, MAP_PRIVATE);
	pid_t pid;

	for (int i = 0; i < 64; i++)
		pattern_read(fd, p + (size_t)i * MIB, MIB - 64, (uint64_t)i,
			     "parent");
	spawned(pid)
		for (int i = 0; i < 64; i += 9) {
			pattern_check(p + (size_t)i * MIB, MIB - 64,
				      (uint64_t)i, "child");
			pattern_read(fd, p + (size_t)i * MIB, 5000, 3,
				     "child");
		}
	reap(pid);
	for (int i = 0; i < 64; i++)
		pattern_check(p + (size_t)i * MIB, MIB - 64, (uint64_t)i,
			      "parent, after the child");
	sys(munmap(p, 64 * MIB));
	sys(close(fd));
}

static void fork_shared(void)
{
	int fd = source(MIB), out;
	unsigned char *s = map(8 * page, RW, MAP_SHARED);
	pid_t pid;

	spawned(pid) {
		pattern_read(fd, s, 4 * page, 5, "child");
		s[5 * page] = 'c';
	}
	reap(pid);
	pattern_check(s, 4 * page, 5, "shared with the child");
	same(s[5 * page], 'c');
	s[6 * page] = 'p';
	spawned(pid) {
		out = (int)sys(open(in("out"), O_WRONLY | O_CREAT, 0600));
		same(write(out, s + 6 * page, 1), 1);
		sys(munmap(s, 8 * page));
	}
	reap(pid);
	holds(in("out"), "p");
	pattern_check(s, 4 * page, 5, "shared, after the child's munmap");
	sys(munmap(s, 8 * page));
	sys(close(fd));
}

static volatile int vfork_seen;

static void vforked(void)
{
	int fd = source(MIB), status;
	unsigned char buf[4096];
	pid_t pid = vfork();

	if (pid == 0) {
		vfork_seen = 1;
		_exit(pread(fd, buf, sizeof(buf), 9) == sizeof(buf) ? 0 : 1);
	}
	check(pid > 0, "vfork: %s", strerror(errno));
	same(waitpid(pid, &status, 0), pid);
	same(status, 0);
	same(vfork_seen, 1);
	pattern_check(buf, sizeof(buf), 9, "read by a vfork child");
	for (volatile int i = 0; i < 20; i++) {
		pid = vfork();
		if (pid == 0) {
			execl("/bin/true", "true", NULL);
			_exit(1);
		}
		same(waitpid(pid, &status, 0), pid);
		same(status, 0);
		pattern_read(fd, buf, sizeof(buf), (uint64_t)i, "after vfork");
	}
	sys(close(fd));
}

__attribute__((noinline))
static void deeper(int fd, int frames, uint64_t off)
{
	unsigned char frame[4096];

	if (frames == 0) {
		pattern_read(fd, frame, sizeof(frame), off, "deep frame");
		return;
	}
	frame[0] = (unsigned char)frames;
	frame[4095] = (unsigned char)~frames;
	__asm__ volatile("" : : "r"(frame) : "memory");
	deeper(fd, frames - 1, off);
	check(frame[0] == (unsigned char)frames &&
	      frame[4095] == (unsigned char)~frames, "frame %d is damaged",
	      frames);
	pattern_read(fd, frame, frames % 64 ? 16 : 4096, off, "frame");
}

static void deep_stack(void)
{
	int fd = source(MIB);
	pid_t pid;

	deeper(fd, 1000, 1);
	spawned(pid)
		deeper(fd, 1100, 2);
	reap(pid);
	deeper(fd, 1024, 3);
	sys(close(fd));
}

static void *unmap_page(void *at)
{
	sys(munmap(at, page));
	return NULL;
}

/* By a thread that has never made a forwarded call. */
static void unmapped_beside(void)
{
	int fd = source(MIB);
	unsigned char *p = mmap(NULL, 16 * page, RW,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t thread;

	check(p != MAP_FAILED, "mmap: %s", strerror(errno));
	pattern_read(fd, p, 16 * page, 0, "before");
	same(pthread_create(&thread, NULL, unmap_page, p + 8 * page), 0);
	same(pthread_join(thread, NULL), 0);
	pattern_read(fd, p, 8 * page, 1, "below");
	pattern_read(fd, p + 9 * page, 7 * page, 2, "above");
	refused(pread(fd, p + 8 * page, 1, 0), EFAULT);
	sys(munmap(p, 16 * page));
	sys(close(fd));
}

/* The target wants the addresses where the capsule lives in its shadow. */
static void capsule_range(void)
{
	char *want = (char *)CAPSULE_BASE - 16 * 4096;
	size_t len = 16 * 4096 + CAPSULE_SIZE + MIB;
	int fd = source(2 * MIB);
	unsigned char *p;
	pid_t pid;

	for (int i = 0; i < 3; i++) {
		p = mmap(want, len, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			 -1, 0);
		check((char *)p == want, "mmap over the capsule's range: %s",
		      strerror(errno));
		zeroed(p, len, "fresh");
		pattern_read(fd, p, len, (uint64_t)i, "the capsule's range");
		spawned(pid) {
			pattern_check(p, len, (uint64_t)i, "inherited");
			pattern_read(fd, p, len, 50, "child");
		}
		reap(pid);
		pattern_check(p, len, (uint64_t)i, "after the child");
		same(pwrite(fd, p + 16 * 4096, 4096, i + 16 * 4096), 4096);
		if (i != 1)
			sys(munmap(p, len));
	}
	p = map(page, RW, MAP_PRIVATE);
	pattern_read(fd, p, page, 0, "elsewhere, afterwards");
	sys(munmap(p, page));
	sys(close(fd));
}

/* As Go, Java and the sanitizers do: much reserved, little used. */
static void reservations(void)
{
	size_t huge = 64ul << 30;
	int fd = source(MIB);
	unsigned char *p = map(huge, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE);
	unsigned char *q = map(huge, RW, MAP_PRIVATE | MAP_NORESERVE);
	size_t mid = huge / 2;

	sys(mprotect(p + mid, MIB, RW));
	pattern_read(fd, p + mid, MIB, 0, "made usable");
	refused(pread(fd, p + mid + MIB, 1, 0), EFAULT);
	refused(pread(fd, p, 1, 0), EFAULT);
	sys(mprotect(p + mid + MIB, MIB, RW));
	pattern_read(fd, p + mid + MIB / 2, MIB, 7, "two pieces");
	for (size_t off = 0; off < huge; off += huge / 8)
		pattern_read(fd, q + off, 3 * page, off >> 30, "sparse use");
	sys(munmap(p + mid, MIB));
	refused(pread(fd, p + mid, 1, 0), EFAULT);
	pattern_check(p + mid + MIB, MIB / 2, 7 + MIB / 2, "what stayed");
	sys(munmap(p, huge));
	sys(munmap(q, huge));
	sys(close(fd));
}

static void many_mappings(void)
{
	enum { N = 2000 };
	const int n = fewer(N);
	int fd = source(MIB);
	static unsigned char *maps[N];
	unsigned char *p = map(2 * N * page, PROT_NONE, MAP_PRIVATE);

	for (int i = 0; i < n; i++) {
		maps[i] = p + (size_t)(2 * i) * page;
		sys(mprotect(maps[i], page, RW));
	}
	for (int i = 0; i < n; i += 3)
		pattern_read(fd, maps[i], page, (uint64_t)i, "one of many");
	for (int i = 0; i < n; i += 2)
		sys(munmap(maps[i], page));
	for (int i = 3; i < n; i += 6)
		pattern_check(maps[i], page, (uint64_t)i, "one that stayed");
	refused(pread(fd, maps[6], 1, 0), EFAULT);
	sys(munmap(p, 2 * N * page));
	sys(close(fd));
}

/* mov $42, %eax; ret: made by a forwarded read, then executed. */
static void generated_code(void)
{
	static const char code[] = "\xb8\x2a\0\0\0\xc3";
	int fd = (int)sys(open(in("code"), O_RDWR | O_CREAT, 0600));
	unsigned char *p;

	same(write(fd, code, 6), 6);
	p = map(4096, RW, MAP_PRIVATE);
	same(pread(fd, p, 6, 0), 6);
	sys(mprotect(p, 4096, PROT_READ | PROT_EXEC));
	same(((int (*)(void))(uintptr_t)p)(), 42);
	refused(pread(fd, p, 6, 0), EFAULT);
	sys(munmap(p, 4096));
	p = map(4096, RW | PROT_EXEC, MAP_PRIVATE);
	same(pread(fd, p, 6, 0), 6);
	p[1] = 43;
	same(((int (*)(void))(uintptr_t)p)(), 43);
	sys(munmap(p, 4096));
	sys(close(fd));
}

static void refusals(void)
{
	unsigned char *p = map(4 * 4096, RW, MAP_PRIVATE);
	struct rlimit old, lim;

	refused(mmap(NULL, 0, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
	refused(mmap(NULL, 4096, RW, MAP_ANONYMOUS, -1, 0), EINVAL);
	refused(mmap(p + 1, 4096, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		     -1, 0), EINVAL);
	refused(mmap(p, 4096, RW, MAP_PRIVATE | MAP_ANONYMOUS |
		     MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
	refused(mmap(NULL, SIZE_MAX - 8191, RW, MAP_PRIVATE | MAP_ANONYMOUS,
		     -1, 0), ENOMEM);
	refused(munmap(p + 1, 4096), EINVAL);
	refused(munmap(p, 0), EINVAL);
	refused(mprotect(p + 1, 4096, RW), EINVAL);
	refused(mremap(p + 1, 4096, 8192, MREMAP_MAYMOVE), EINVAL);
	refused(mremap(p, 4096, 0, MREMAP_MAYMOVE), EINVAL);
	sys(munmap(p, 4 * 4096));
	refused(mprotect(p, 4096, RW), ENOMEM);
	refused(mremap(p, 4096, 8192, MREMAP_MAYMOVE), EFAULT);
	sys(getrlimit(RLIMIT_AS, &old));
	lim = old;
	lim.rlim_cur = 512 * MIB;
	sys(setrlimit(RLIMIT_AS, &lim));
	refused(mmap(NULL, 1024 * MIB, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
		ENOMEM);
	sys(setrlimit(RLIMIT_AS, &old));
}

/* What is mapped shrinks and grows again: the host sees the new pages. */
static void truncated(void)
{
	int fd = source(MIB), mfd, out;
	unsigned char *p, buf[4096];

	mfd = (int)sys(memfd_create("victim", MFD_CLOEXEC));
	out = (int)sys(open(in("out"), O_RDWR | O_CREAT, 0600));
	sys(ftruncate(mfd, (off_t)(8 * page)));
	p = mmap(NULL, 8 * page, RW, MAP_SHARED, mfd, 0);
	check(p != MAP_FAILED, "mmap: %s", strerror(errno));
	pattern_read(fd, p, 8 * page, 0, "shared");
	sys(ftruncate(mfd, (off_t)(2 * page)));
	pattern_read(fd, p, 2 * page, 3, "what is left");
	refused(pread(fd, p + 2 * page, page, 0), EFAULT);
	sys(ftruncate(mfd, (off_t)(8 * page)));
	same(write(out, p + 3 * page, sizeof(buf)), sizeof(buf));
	same(pread(out, buf, sizeof(buf), 0), sizeof(buf));
	zeroed(buf, sizeof(buf), "grown again, as the host sees it");
	pattern_read(fd, p, 8 * page, 5, "grown again");
	same(pread(mfd, buf, 1, (off_t)(7 * page)), 1);
	same(buf[0], pattern(5 + 7 * page));
	sys(fallocate(mfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      (off_t)page, (off_t)page));
	pattern_read(fd, p, page, 7, "before the hole");
	same(pwrite(out, p + page, sizeof(buf), 0), sizeof(buf));
	same(pread(out, buf, sizeof(buf), 0), sizeof(buf));
	zeroed(buf, sizeof(buf), "a hole, as the host sees it");
	sys(munmap(p, 8 * page));
	sys(close(out));
	sys(close(mfd));
	sys(close(fd));
}

/* A private mapping of a file that nobody could look at until now. */
static void opened_up(void)
{
	const char *name = local("opened");
	int fd = source(MIB), lfd;
	unsigned char *p, byte;

	pattern_file(name, 8 * page);
	lfd = (int)sys(open(name, O_RDWR));
	unlink(name);
	p = mmap(NULL, 8 * page, PROT_NONE, MAP_PRIVATE, lfd, 0);
	check(p != MAP_FAILED, "mmap: %s", strerror(errno));
	refused(pread(fd, p, 1, 0), EFAULT);
	sys(mprotect(p, 4 * page, PROT_READ));
	same(pwrite(fd, p, 16, (off_t)MIB), 16);
	sys(mprotect(p, 8 * page, RW));
	pattern_check(p, 8 * page, 0, "made writable");
	pattern_read(fd, p + page, page, 11, "made writable");
	pattern_check(p, page, 0, "beside it");
	same(pread(lfd, &byte, 1, (off_t)page), 1);
	same(byte, pattern(page));
	sys(munmap(p, 8 * page));
	sys(close(lfd));
	sys(close(fd));
}

static void dev_zero(void)
{
	int fd = source(MIB), zero = (int)sys(open("/dev/zero", O_RDWR));
	unsigned char *p = mmap(NULL, 4 * page, RW, MAP_PRIVATE, zero, 0);
	unsigned char *q = mmap(NULL, 4 * page, PROT_NONE, MAP_PRIVATE, zero,
				0);

	check(p != MAP_FAILED && q != MAP_FAILED, "mmap: %s", strerror(errno));
	sys(close(zero));
	zeroed(p, 4 * page, "/dev/zero");
	pattern_read(fd, p, 4 * page, 3, "/dev/zero");
	sys(mprotect(q, 4 * page, RW));
	pattern_read(fd, q, 4 * page, 5, "/dev/zero, opened up");
	sys(munmap(p, 4 * page));
	sys(munmap(q, 4 * page));
	sys(close(fd));
}

/* Pages that were given back, and written to by the host alone since: they
 * stay, though they are not looked at while others need memory. */
static void given_back(void)
{
	enum { N = 8 };
	int fd = source(N * MIB);
	unsigned char *p = map(N * MIB, RW, MAP_PRIVATE), *q;

	memset(p, 1, N * MIB);
	sys(madvise(p, N * MIB, MADV_FREE));
	pattern_read(fd, p, N * MIB, 3, "given back");
	q = mremap(p, N * MIB, N * MIB, MREMAP_MAYMOVE | MREMAP_FIXED,
		   map(N * MIB, PROT_NONE, MAP_PRIVATE));
	check(q != MAP_FAILED, "mremap: %s", strerror(errno));
	madvise(q, N * MIB, MADV_PAGEOUT);
	pattern_check(q, N * MIB, 3, "what was read after it");
	sys(munmap(q, N * MIB));
	sys(close(fd));
}

/* Like huge reservations, but what is pointed to is the buffers' list only. */
static void lists_far_away(void)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	size_t huge = 1ul << 40;
	int fd = source(MIB);
	unsigned char *p = mmap(NULL, huge, RW, flags, -1, 0);
	struct iovec *iov;

	if (p == MAP_FAILED) {	/* User-Mode Linux has not that many addresses */
		huge = 1ul << 36;
		p = map(huge, RW, flags);
	}
	iov = (void *)(p + huge / 2 + 4000);
	for (size_t i = 0; i < 200; i++)
		iov[i] = (struct iovec){ p + i * (huge >> 9), 3000 };
	same(preadv(fd, iov, 200, 0), 600000);
	for (size_t i = 0; i < 200; i++)
		pattern_check(iov[i].iov_base, 3000, i * 3000, "far away");
	sys(munmap(p, huge));
	sys(close(fd));
}

/* Pages here and there of 512 MiB, and what was there before is still so. */
static void scattered(void)
{
	enum { PAGES = 1 << 17, READS = 600 };
	static uint32_t where[READS];
	int fd = source(MIB);
	unsigned char *p = map(PAGES * 4096ul, RW, MAP_PRIVATE |
			       MAP_NORESERVE);

	for (uint32_t i = 0; i < READS; i++) {
		/* Every page of them once: the factor is odd. */
		where[i] = i * 40503u % PAGES;
		pattern_read(fd, p + where[i] * 4096ul, 4096, i, "scattered");
		if (i % 8 == 0)
			pattern_read(fd, p + where[i / 2] * 4096ul, 4096,
				     i / 2, "once more");
	}
	for (uint32_t i = 0; i < READS; i++)
		pattern_check(p + where[i] * 4096ul, 4096, i, "afterwards");
	for (uint32_t i = 0; i < READS; i += 7) {
		unsigned char buf[4096];

		same(pwrite(fd, p + where[i] * 4096ul, 4096, (off_t)MIB), 4096);
		same(pread(fd, buf, sizeof(buf), (off_t)MIB), sizeof(buf));
		pattern_check(buf, sizeof(buf), i, "as the host sees it");
	}
	sys(munmap(p, PAGES * 4096ul));
	sys(close(fd));
}

static void locked(void)
{
	int fd = source(MIB);
	unsigned char *p = map(4 * page, RW, MAP_PRIVATE), vec[4];

	sys(mlock(p, 4 * page));
	pattern_read(fd, p, 4 * page, 0, "locked");
	sys(mincore(p, 4 * page, vec));
	same(vec[0] & 1, 1);
	sys(munlock(p, 4 * page));
	sys(munmap(p, 4 * page));
	refused(mincore(p, 4 * page, vec), ENOMEM);
	sys(close(fd));
}

int main(int argc, char **argv)
{
	static const struct victim_case cases[] = {
		CASE(anonymous), CASE(holes), CASE(replaced), CASE(remapped),
		CASE(program_break), CASE(protected), CASE(read_only),
		CASE(dontneed), CASE(advice), CASE(everywhere),
		CASE(mapped_files), CASE(sysv_shared), CASE(fork_private),
		CASE(fork_deep), CASE(fork_big), CASE(fork_shared),
		CASE(vforked), CASE(deep_stack), CASE(unmapped_beside),
		CASE(capsule_range),
		CASE(reservations), CASE(many_mappings), CASE(generated_code),
		CASE(refusals), CASE(locked), CASE(truncated),
		CASE(opened_up), CASE(dev_zero), CASE(given_back),
		CASE(lists_far_away), CASE(scattered),
	};

	return VICTIM_MAIN(argc, argv, cases);
}
