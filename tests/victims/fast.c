/* SPDX-License-Identifier: MIT */
/*
 * fast.c - what a fast tier of patched system call sites must not break
 *
 * Each case first makes a call so often that whoever patches sites has patched
 * its own, and then does what such patches do not survive by themselves.
 */
#include <ctype.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ucontext.h>

#include "victim.h"

#define WARM 64
#define SIZE 65536
#define STACK (256 << 10)

static int data = -1;		/* a pattern file of SIZE bytes */

static void preads(int fd, int n)
{
	unsigned char c;

	for (int i = 0; i < n; i++) {
		same(pread(fd, &c, 1, i % SIZE), 1);
		same(c, pattern((uint64_t)(i % SIZE)));
	}
}

/* The site of pread is hot, for a forwarded descriptor and a local one. */
static void warm(void)
{
	int zero = (int)sys(open("/dev/zero", O_RDONLY));
	char c;

	pattern_file(in("data"), SIZE);
	data = (int)sys(open(in("data"), O_RDONLY));
	preads(data, WARM);
	for (int i = 0; i < WARM; i++)
		same(pread(zero, &c, 1, 0), 1);
	sys(close(zero));
}

static void hot(void)
{
	void *volatile nowhere[] = { NULL, (void *)8 };

	warm();
	preads(data, fewer(2000));
	/* What cannot be carried out is the kernel's to say. */
	refused(pread(data, nowhere[0], 1, 0), EFAULT);
	refused(pread(data, nowhere[1], 1, 0), EFAULT);
	same(pread(data, nowhere[0], 0, 0), 0);
	refused(pread(data, &data, 1, -1), EINVAL);
	refused(pread(-1, &data, 1, 0), EBADF);
	refused(pread(1023, &data, 1, 0), EBADF);
	refused(pread(1 << 20, &data, 1, 0), EBADF);
	sys(close(data));
	refused(pread(data, &data, 1, 0), EBADF);
}

/* Of a number's 64 bits and a descriptor's the kernel looks at 32. */
static void high_bits(void)
{
	unsigned char c;
	long r;

	warm();
	for (int i = 0; i < WARM; i++) {
		__asm__ volatile("mov $0x7700000011, %%rax\n\tsyscall"
				 : "=a"(r)
				 : "D"(0x5500000000L | data), "S"(&c), "d"(1),
				   "m"(c)
				 : "rcx", "r11", "r10", "memory");
		/* r10, the offset, is whatever it is: any answer but a crash. */
		check(r <= 1, "pread gave %ld", r);
	}
}

/* --- a branch into the middle ------------------------------------------------ */

long jump_in(long where, long fd, void *buf, long len);
__asm__(
"	.text\n"
"	.globl jump_in\n"
"	.type jump_in, @function\n"
"jump_in:\n"
"	mov %rsi, %r8\n"		/* fd */
"	mov %rdx, %rsi\n"
"	lea 1f(%rip), %rax\n"
"	lea 2f(%rip), %r9\n"
"	test %rdi, %rdi\n"
"	cmovnz %r9, %rax\n"
"	mov %r8, %rdi\n"
"	mov %rcx, %rdx\n"
"	jmp *%rax\n"
"	.fill 64, 1, 0x90\n"
"1:	mov %rcx, %rdx\n"		/* 3 bytes */
"2:	xor %eax, %eax\n"		/* 2 bytes; its number */
"	syscall\n"
"	ret\n"
"	.fill 64, 1, 0x90\n");

/* Nobody who patches the site sees the branch. */
static void branched_into(void)
{
	char buf[64];

	pattern_file(in("data"), SIZE);
	data = (int)sys(open(in("data"), O_RDONLY));
	for (int i = 0; i < 3 * WARM; i++) {
		sys(lseek(data, i, SEEK_SET));
		same(jump_in(i >= WARM && i % 2, data, buf, 7), 7);
		pattern_check(buf, 7, (uint64_t)i, "read");
	}
}

/* --- processes that have memory or descriptors in common ----------------------- */

static int shared_fd[2];

static int child_reads(void *arg)
{
	unsigned char c;
	int *fds = arg;

	/* What number data was is something else here. */
	if (dup2(fds[1], data) != data)
		return 2;
	for (int i = 0; i < WARM; i++)
		if (pread(data, &c, 1, i) != 1 || c != 'x')
			return 3;
	return 0;
}

static void vforked(void)
{
	char stack[STACK] __attribute__((aligned(16)));
	int fds[2] = { -1, -1 };
	char text[WARM];
	pid_t pid;

	warm();
	memset(text, 'x', sizeof(text));
	fds[0] = (int)sys(open(in("x"), O_RDWR | O_CREAT, 0600));
	same(write(fds[0], text, sizeof(text)), sizeof(text));
	fds[1] = (int)sys(open(local("x"), O_RDWR | O_CREAT, 0600));
	same(write(fds[1], text, sizeof(text)), sizeof(text));
	sys(unlink(local("x")));
	for (int i = 0; i < 4; i++) {
		int use[2] = { -1, fds[i % 2] };

		pid = (pid_t)sys(clone(child_reads, stack + STACK,
				       CLONE_VM | CLONE_VFORK | SIGCHLD, use));
		reap(pid);
		preads(data, WARM);
	}
}

static int child_closes(void *arg)
{
	(void)arg;
	return close(data) || pread(data, &shared_fd, 1, 0) != -1 ||
	       errno != EBADF;
}

static void shared_table(void)
{
	static char stack[STACK] __attribute__((aligned(16)));

	warm();
	reap((pid_t)sys(clone(child_closes, stack + STACK,
			      CLONE_FILES | SIGCHLD, NULL)));
	refused(pread(data, &shared_fd, 1, 0), EBADF);
	data = (int)sys(open(in("data"), O_RDONLY));
	preads(data, WARM);
}

/* Two processes run at once in one memory, each with a file of its own. */
static int child_beside(void *arg)
{
	unsigned char c;

	(void)arg;
	sys(lseek(data, 0, SEEK_SET));
	for (int i = 0; i < 500; i++)
		if (pread(data, &c, 1, i) != 1 || c != pattern((uint64_t)i))
			return 1;
	return 0;
}

static void shared_memory(void)
{
	static char stack[STACK] __attribute__((aligned(16)));
	pid_t pid;

	warm();
	pid = (pid_t)sys(clone(child_beside, stack + STACK, CLONE_VM | SIGCHLD,
			       NULL));
	preads(data, 500);
	reap(pid);
	preads(data, 500);
}

static void forked(void)
{
	pid_t pid[4];

	warm();
	for (int i = 0; i < 4; i++) {
		pid[i] = (pid_t)sys(fork());
		if (pid[i] == 0) {
			preads(data, 500);
			sys(close(data));
			refused(pread(data, pid, 1, 0), EBADF);
			_exit(0);
		}
	}
	preads(data, 1000);
	for (int i = 0; i < 4; i++)
		reap(pid[i]);
	preads(data, 100);
}

static void spawned_true(void)
{
	char *argv[] = { (char *)"true", NULL };
	pid_t pid;

	warm();
	for (int i = 0; i < 3; i++) {
		same(posix_spawn(&pid, "/bin/true", NULL, NULL, argv, argv + 1),
		     0);
		reap(pid);
		preads(data, WARM);
	}
}

/* --- threads ----------------------------------------------------------------- */

static void *reader(void *arg)
{
	(void)arg;
	preads(data, 1000);
	return NULL;
}

static void threads(void)
{
	pthread_t thread[24];

	warm();
	for (size_t i = 0; i < 24; i++)
		same(pthread_create(&thread[i], NULL, reader, NULL), 0);
	for (size_t i = 0; i < 24; i++)
		pthread_join(thread[i], NULL);
}

static void *blocked(void *arg)
{
	char c;

	same(read(*(int *)arg, &c, 1), 1);
	return NULL;
}

/* As many as are blocked, one more goes on. */
static void blocked_beside(void)
{
	pthread_t thread[24];
	int fifo;

	warm();
	sys(mkfifo(in("fifo"), 0600));
	fifo = (int)sys(open(in("fifo"), O_RDWR));
	for (int i = 0; i < WARM; i++) {
		char c;

		same(write(fifo, "w", 1), 1);
		same(read(fifo, &c, 1), 1);
	}
	for (size_t i = 0; i < 24; i++) {
		same(pthread_create(&thread[i], NULL, blocked, &fifo), 0);
		preads(data, WARM);
	}
	for (size_t i = 0; i < 24; i++)
		same(write(fifo, "w", 1), 1);
	for (size_t i = 0; i < 24; i++)
		pthread_join(thread[i], NULL);
}

/* --- what the program does to itself ------------------------------------------ */

static int filter_pread(int action)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pread64, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, (unsigned int)action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { 4, filter };

	sys(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

/* Its own filter judges its calls, those of hot sites, too. */
static void own_filter(void)
{
	int zero = (int)sys(open("/dev/zero", O_RDONLY));
	pid_t pid;
	char c;

	warm();
	sys(filter_pread(SECCOMP_RET_ERRNO | ENOTTY));
	refused(pread(data, &c, 1, 0), ENOTTY);
	refused(pread(zero, &c, 1, 0), ENOTTY);
	same(read(data, &c, 1), 1);
	spawned(pid) {
		refused(pread(data, &c, 1, 0), ENOTTY);
		refused(pread(zero, &c, 1, 0), ENOTTY);
	}
	reap(pid);
}

/* Code on a page of its own. */
__asm__(
"	.section .victim_text, \"ax\", @progbits\n"
"	.balign 4096\n"
"	.globl page_pread\n"
"	.type page_pread, @function\n"
"page_pread:\n"
"	.fill 128, 1, 0x90\n"
"	mov %rcx, %r10\n"
"	mov $17, %eax\n"
"	.globl page_pread_site\n"
"page_pread_site:\n"
"	syscall\n"
"	ret\n"
"	.fill 256, 1, 0x90\n"
"	.balign 4096\n"
"	.previous\n");
long page_pread(int fd, void *buf, size_t len, off_t off);
extern unsigned char page_pread_site[];

static void page_preads(void)
{
	unsigned char c;

	for (int i = 0; i < WARM; i++) {
		same(page_pread(data, &c, 1, i), 1);
		same(c, pattern((uint64_t)i));
	}
}

static void rewrite(void)
{
	static const unsigned char site[] = { 0xb8, 17, 0, 0, 0, 0x0f, 5, 0xc3 };
	unsigned char *page = (unsigned char *)
			      ((uintptr_t)page_pread_site & ~4095UL);

	sys(mprotect(page, 4096, PROT_READ | PROT_WRITE));
	check(memcmp(page + 131, site, sizeof(site)) == 0,
	      "the program's code is not what it was");
	/* A write of one byte, and it is getpid. */
	page_pread_site[-4] = SYS_getpid;
	sys(mprotect(page, 4096, PROT_READ | PROT_EXEC));
	for (int i = 0; i < WARM; i++)
		same(page_pread(data, NULL, 1, 0), getpid());
	sys(mprotect(page, 4096, PROT_READ | PROT_WRITE));
	page_pread_site[-4] = SYS_pread64;
	sys(mprotect(page, 4096, PROT_READ | PROT_EXEC));
	page_preads();
}

/* What is made writable is as it was written; then it is somebody else's. */
static void rewritten(void)
{
	pid_t pid;

	warm();
	page_preads();
	/* That this is called is not news to the child. */
	sys(mprotect(map(4096, PROT_READ, MAP_PRIVATE), 4096, PROT_NONE));
	spawned(pid)
		rewrite();
	reap(pid);
	page_preads();
	rewrite();
}

/* The page goes, and something else comes to be there. */
static void replaced(void)
{
	unsigned char *page = (unsigned char *)
			      ((uintptr_t)page_pread_site & ~4095UL);
	static unsigned char copy[4096];
	void *p;

	warm();
	memcpy(copy, page, sizeof(copy));
	page_preads();
	p = mmap(page, 4096, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	check(p == page, "mmap: %s", strerror(errno));
	memcpy(page, copy, sizeof(copy));
	sys(mprotect(page, 4096, PROT_READ | PROT_EXEC));
	page_preads();
	p = mremap(page, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED,
		   (char *)sys(mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE |
				    MAP_ANONYMOUS, -1, 0)));
	check(p != MAP_FAILED, "mremap: %s", strerror(errno));
	check(memcmp(p, copy, sizeof(copy)) == 0, "what was moved has changed");
}

/* --- memory that comes and goes ------------------------------------------------ */

static unsigned char *fresh(size_t len)
{
	unsigned char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(p != MAP_FAILED, "mmap: %s", strerror(errno));
	for (size_t i = 0; i < len; i += 4096)
		check(p[i] == 0 && p[i + 4095] == 0, "%zu bytes are not empty",
		      len);
	return p;
}

static void write_all(unsigned char *p, size_t len, int value)
{
	for (size_t i = 0; i < len; i += 4096)
		p[i] = p[i + 4095] = (unsigned char)value;
}

static void warm_mmap(void)
{
	warm();
	for (int i = 0; i < WARM; i++) {
		unsigned char *p = fresh(8192);

		write_all(p, 8192, i | 1);
		sys(munmap(p, 8192));
	}
}

/* Many at once, of all sizes, in any order. */
static void mapped(void)
{
	struct { unsigned char *p; size_t len; } all[64] = { 0 };

	warm_mmap();
	for (int i = 0; i < fewer(4000); i++) {
		const int k = i * 37 % 64;

		if (all[k].p) {
			same(all[k].p[all[k].len - 1], k | 1);
			sys(munmap(all[k].p, all[k].len));
		}
		all[k].len = 4096 * (size_t)(1 + i * 13 % 40);
		all[k].p = fresh(all[k].len);
		write_all(all[k].p, all[k].len, k | 1);
		/* Every so often something that is not the stub's to do. */
		if (i % 100 == 99)
			same(access(in("data"), F_OK), 0);
	}
	refused(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
		MAP_FAILED ? -1 : 0, EINVAL);
	refused(munmap((void *)1, 4096), EINVAL);
	refused(munmap(all[0].p, 0), EINVAL);
}

static void in_parts(void)
{
	unsigned char *p, *q;

	warm_mmap();
	for (int i = 0; i < WARM; i++) {
		p = fresh(16384);
		write_all(p, 16384, 7);
		sys(munmap(p + 4096, 4096));
		refused(access((char *)p + 4096, F_OK), EFAULT);
		same(p[4095] + p[8192], 14);
		sys(mprotect(p, 4096, PROT_READ));
		refused(pread(data, p, 1, 0), EFAULT);
		q = mremap(p + 8192, 8192, 64 << 10, MREMAP_MAYMOVE);
		check(q != MAP_FAILED, "mremap: %s", strerror(errno));
		same(q[0] + q[4095] + q[8192], 14);
		sys(madvise(q, 4096, MADV_DONTNEED));
		same(q[0] + q[4096], 7);
		sys(munmap(q, 64 << 10));
		sys(munmap(p, 4096));
	}
}

/* Before anybody else has heard of it; what comes next is empty, and nobody else's. */
static void in_parts_at_once(void)
{
	struct { unsigned char *p, *end; } all[8] = { 0 };
	unsigned int random = 1;

	warm_mmap();
	for (int i = 0; i < 5000; i++) {
		const int k = (int)(random >> 16) % 8, value = k + 1;
		unsigned char *p = all[k].p, *end = all[k].end;

		random = random * 1103515245 + 12345;
		if (p) {
			same(p[0] + end[-1], 2 * value);
			sys(munmap(p, (size_t)(end - p)));
		}
		p = fresh(16384);
		end = p + 16384;
		write_all(p, 16384, value);
		sys(mprotect(p, 4096, PROT_NONE));
		sys(mprotect(p, 16384, PROT_READ | PROT_WRITE));
		if (i % 64 == 0)
			same(pread(data, p, 16384, 0), 16384);
		write_all(p, 16384, value);
		if (random >> 20 & 1)
			sys(munmap(end -= 4096, 4096));
		if (random >> 21 & 1) {
			sys(munmap(p, 4096));
			p += 4096;
		}
		all[k].p = p;
		all[k].end = end;
	}
}

/* What has just been mapped is there for the host, too. */
static void read_into(void)
{
	warm_mmap();
	for (int i = 0; i < 500; i++) {
		const size_t len = i % 2 ? SIZE : 4096;
		unsigned char *p = fresh(len);

		same(pread(data, p, len, 0), (long)len);
		for (size_t k = 0; k < len; k += 511)
			same(p[k], pattern(k));
		sys(munmap(p, len));
		if (i % 7 == 0)
			refused(pread(data, p, 1, 0), EFAULT);
	}
}

/* --- hot calls whose memory changes ------------------------------------------- */

#define PART 100

static void reads_to(unsigned char *p)
{
	for (int i = 0; i < 3; i++) {
		p[0] = p[PART - 1] = 0;
		same(pread(data, p, PART, i), PART);
		pattern_check(p, PART, (uint64_t)i, "read");
	}
}

static void reads_not_to(unsigned char *p)
{
	for (int i = 0; i < 3; i++)
		refused(pread(data, p, PART, i), EFAULT);
}

/* What the host reads is where the program finds it, or nowhere. */
static void changed(void)
{
	unsigned char *p, *q;
	pid_t pid;

	warm();
	for (int i = 0; i < fewer(WARM); i++) {
		p = fresh(16384);
		reads_to(p + 4096 - PART / 2);
		sys(mprotect(p, 4096, PROT_READ));
		reads_not_to(p);
		reads_to(p + 4096);
		sys(mprotect(p, 4096, PROT_READ | PROT_WRITE));
		reads_to(p);
		sys(madvise(p, 8192, MADV_DONTNEED));
		same(p[0] + p[4096], 0);
		reads_to(p);
		q = mmap(p, 4096, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		same(q == p ? p[0] : -1, 0);
		reads_to(p);
		q = mremap(p, 16384, 16384, MREMAP_MAYMOVE | MREMAP_FIXED,
			   fresh(16384));
		check(q != MAP_FAILED, "mremap: %s", strerror(errno));
		pattern_check(q, PART, 2, "moved");
		reads_to(q);
		reads_not_to(p);
		spawned(pid) {
			pattern_check(q, PART, 2, "copied");
			reads_to(q + 8192);
			memset(q, 1, 16384);
		}
		reap(pid);
		pattern_check(q, PART, 2, "the child's");
		same(q[8192], 0);
		reads_to(q);
		sys(munmap(q, 16384));
		reads_not_to(q);
	}
}

static atomic_bool enough;

static void *reads_beside(void *arg)
{
	while (!atomic_load(&enough)) {
		reads_to(arg);
		reads_to((unsigned char *)arg + 4096 - PART);
	}
	return NULL;
}

/* Pages 0 and 3 are read into all the time, by calls that never fail. */
static void changed_beside(void)
{
	unsigned char *p = fresh(16384), *mid = p + 4096;
	pthread_t thread[2];

	warm();
	for (int i = 0; i < 2; i++)
		same(pthread_create(&thread[i], NULL, reads_beside,
				    p + i * 12288), 0);
	for (int i = 0; i < fewer(200); i++) {
		reads_to(mid + i);
		switch (i % 4) {
		case 0:
			sys(munmap(mid, 8192));
			reads_not_to(mid);
			check(mmap(mid, 8192, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
				   0) == mid, "mmap: %s", strerror(errno));
			break;
		case 1:
			sys(mprotect(mid, 8192, PROT_READ));
			reads_not_to(mid);
			sys(mprotect(mid, 8192, PROT_READ | PROT_WRITE));
			break;
		case 2:
			sys(madvise(mid, 8192, MADV_DONTNEED));
			same(mid[i], 0);
			break;
		case 3:
			nap_ms(1);
		}
	}
	atomic_store(&enough, true);
	for (int i = 0; i < 2; i++)
		same(pthread_join(thread[i], NULL), 0);
}

/* Who finds others at it makes his call later, but the one that it is. */
static void copied_beside(void)
{
	static unsigned char to[4][4096];
	pthread_t thread[4];
	int fd;

	warm();
	for (int i = 0; i < 4; i++)
		same(pthread_create(&thread[i], NULL, reads_beside, to[i]), 0);
	for (int i = 0; i < fewer(2000); i++) {
		fd = (int)sys(fcntl(data, F_DUPFD_CLOEXEC, 100));
		check(fd >= 100, "from 100 on %d was free", fd);
		same(fcntl(fd, F_GETFD), FD_CLOEXEC);
		sys(close(fd));
		refused(fcntl(data, F_DUPFD, -1), EINVAL);
		fd = (int)sys(open(in("data"), O_RDONLY | O_CLOEXEC));
		same(fcntl(fd, F_GETFD), FD_CLOEXEC);
		preads(fd, 1);
		sys(close(fd));
		refused(fcntl(fd, F_GETFD), EBADF);
	}
	atomic_store(&enough, true);
	for (int i = 0; i < 4; i++)
		same(pthread_join(thread[i], NULL), 0);
}

#define FAR (64UL << 20)

static void *reads_far_apart(void *arg)
{
	uint64_t at = (uintptr_t)arg;

	for (int i = 0; i < fewer(2000); i++) {
		at = at * 6364136223846793005 + 1442695040888963407;
		reads_to((unsigned char *)arg +
			 (at >> 33) % (FAR / 4 - PART));
	}
	return NULL;
}

/* More than is kept present, or mapped, at once. */
static void far_apart(void)
{
	unsigned char *p;
	pthread_t thread[4];

	warm();
	p = mmap(NULL, FAR, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(p != MAP_FAILED, "mmap: %s", strerror(errno));
	/* A quarter each: they have no byte in common. */
	for (int i = 0; i < 4; i++)
		same(pthread_create(&thread[i], NULL, reads_far_apart,
				    p + (size_t)i * FAR / 4), 0);
	for (int i = 0; i < 4; i++)
		same(pthread_join(thread[i], NULL), 0);
}

/* Who has not been asked for a while sleeps, and is woken. */
static void napping(void)
{
	warm();
	for (int i = 0; i < WARM; i++) {
		nap_ms(i % 8);
		preads(data, 3);
	}
}

#define MAPPERS 3

static _Atomic(unsigned char *) shown[MAPPERS];

static void *maps_and_unmaps(void *arg)
{
	const uintptr_t k = (uintptr_t)arg;
	const size_t len = 4096u << k;

	while (!atomic_load(&enough)) {
		unsigned char *p = fresh(len);

		write_all(p, len, 1);
		atomic_store(&shown[k], p);
		for (int i = 0; i < 200; i++)
			same(p[i * 64 % len / 4096 * 4096], 1);
		atomic_store(&shown[k], NULL);
		sys(munmap(p, len));
	}
	return NULL;
}

/* What threads had in hand when their process was forked. */
static void write_what_is_shown(void)
{
	for (int k = 0; k < MAPPERS; k++) {
		unsigned char *p = atomic_load(&shown[k]);

		if (!p)
			continue;
		same(p[0], 1);
		write_all(p, 4096u << k, 9);
	}
}

/* A child has what was mapped, and it is its own. */
static void mapped_forked(void)
{
	pthread_t thread[MAPPERS];

	warm_mmap();
	for (uintptr_t i = 0; i < MAPPERS; i++)
		same(pthread_create(&thread[i], NULL, maps_and_unmaps,
				    (void *)i), 0);
	for (int i = 0; i < fewer(100); i++) {
		unsigned char *p = fresh(8192);
		pid_t pid;

		write_all(p, 8192, 5);
		spawned(pid) {
			same(p[0] + p[8191], 10);
			write_all(p, 8192, 6);
			write_what_is_shown();
			sys(munmap(p, 8192));
			p = fresh(8192);
			same(pread(data, p, 1, 0), 1);
		}
		reap(pid);
		same(p[0] + p[8191], 10);
		sys(munmap(p, 8192));
	}
	atomic_store(&enough, true);
	for (int i = 0; i < MAPPERS; i++)
		same(pthread_join(thread[i], NULL), 0);
}

/* --- parts of mappings, at random ---------------------------------------------- */

#define MAPS 8
#define PAGES 8
#define UNMAPPED (-1)

/* What is known of memory by what has been done to it. */
struct model {
	unsigned char *at[MAPS];	/* NULL: nothing is mapped */
	int prot[MAPS][PAGES];
	unsigned char value[MAPS][PAGES];
	uint64_t random;
	int fd;				/* of the host's, to be written to */
	bool alone;			/* nobody else maps anything */
};

static int any(struct model *m, int n)
{
	m->random = m->random * 6364136223846793005 + 1442695040888963407;
	return (int)((m->random >> 33) % (uint64_t)n);
}

static int any_prot(struct model *m)
{
	static const int prots[] = { PROT_NONE, PROT_READ,
				     PROT_READ | PROT_WRITE };

	return prots[any(m, 3)];
}

static bool is_mapped(const struct model *m, const unsigned char *p)
{
	for (int k = 0; k < MAPS; k++)
		if (m->at[k] && p >= m->at[k] && p < m->at[k] + PAGES * 4096 &&
		    m->prot[k][(p - m->at[k]) / 4096] != UNMAPPED)
			return true;
	return false;
}

/* What the host reads from the page, and how it reads into it. */
static void check_page(struct model *m, int k, int i)
{
	unsigned char *p = m->at[k] + i * 4096, copy[4096];
	const int prot = m->prot[k][i];
	const unsigned char value = m->value[k][i];

	/* Another may have been mapped there. */
	if (prot == UNMAPPED && (!m->alone || is_mapped(m, p)))
		return;
	if (prot > 0 && prot & PROT_READ) {
		same(p[0], value);
		same(p[4095], value);
		same(pwrite(m->fd, p, 4096, 0), 4096);
		same(pread(m->fd, copy, 4096, 0), 4096);
		same(copy[0], value);
		same(copy[4095], value);
	} else {
		refused(pwrite(m->fd, p, 4096, 0), EFAULT);
	}
	if (prot > 0 && prot & PROT_WRITE) {
		same(pread(data, p + 1, PART, 0), PART);
		pattern_check(p + 1, PART, 0, "read");
		m->value[k][i] = (unsigned char)(1 + any(m, 255));
		write_all(p, 4096, m->value[k][i]);
	} else {
		refused(pread(data, p + 1, PART, 0), EFAULT);
	}
}

static void map_all(struct model *m, int k)
{
	const int prot = any(m, 2) ? PROT_NONE : PROT_READ | PROT_WRITE;
	unsigned char *p = mmap(NULL, PAGES * 4096, prot,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(p != MAP_FAILED, "mmap: %s", strerror(errno));
	m->at[k] = p;
	for (int i = 0; i < PAGES; i++) {
		m->prot[k][i] = prot;
		m->value[k][i] = 0;
	}
}

/* Something is done to pages i to end, which are mapped. */
static void change(struct model *m, int k, int i, int end)
{
	unsigned char *p = m->at[k] + i * 4096;
	const size_t len = (size_t)(end - i) * 4096 - (size_t)any(m, 4096);
	const int what = any(m, 6), prot = any_prot(m);

	if (what == 0)
		sys(munmap(p, len));
	else if (what == 1)
		sys(madvise(p, len, MADV_DONTNEED));
	else
		sys(mprotect(p, len, prot));
	for (; i < end; i++) {
		if (what == 0)
			m->prot[k][i] = UNMAPPED;
		else if (what == 1)
			m->value[k][i] = 0;
		else
			m->prot[k][i] = prot;
	}
}

static bool is_gone(const struct model *m, int k)
{
	for (int i = 0; i < PAGES; i++)
		if (m->prot[k][i] != UNMAPPED)
			return false;
	return true;
}

static void check_all(struct model *m)
{
	for (int k = 0; k < MAPS; k++)
		for (int i = 0; m->at[k] && i < PAGES; i++)
			check_page(m, k, i);
}

static void do_anything(struct model *m)
{
	const int k = any(m, MAPS), i = any(m, PAGES);
	int end = i;

	if (!m->at[k]) {
		map_all(m, k);
		return;
	}
	if (any(m, 3) == 0) {
		check_page(m, k, i);
		return;
	}
	while (end < PAGES && m->prot[k][end] != UNMAPPED && any(m, 4))
		end++;
	if (end > i)
		change(m, k, i, end);
	if (is_gone(m, k))
		m->at[k] = NULL;
}

static void model_begin(struct model *m, int number)
{
	char name[32];

	snprintf(name, sizeof(name), "model%d", number);
	*m = (struct model){ .random = (uint64_t)number + 1 };
	m->fd = (int)sys(open(in(name), O_RDWR | O_CREAT, 0600));
}

static void parts(void)
{
	struct model m;
	pid_t pid;

	warm_mmap();
	model_begin(&m, 0);
	m.alone = true;
	for (int i = 0; i < fewer(10000); i++) {
		do_anything(&m);
		if (i % 1000)
			continue;
		spawned(pid)
			for (int n = 0; n < 100; n++)
				do_anything(&m);
		reap(pid);
		check_all(&m);
	}
}

static void *any_parts(void *arg)
{
	struct model *m = arg;

	for (int i = 0; i < fewer(3000); i++)
		do_anything(m);
	check_all(m);
	return NULL;
}

static void parts_beside(void)
{
	static struct model models[6];
	pthread_t thread[6];

	warm_mmap();
	for (int i = 0; i < 6; i++)
		model_begin(&models[i], i);
	for (int i = 0; i < 6; i++)
		same(pthread_create(&thread[i], NULL, any_parts, &models[i]),
		     0);
	for (int i = 0; i < 6; i++)
		same(pthread_join(thread[i], NULL), 0);
}

/* --- signals in hot sites ----------------------------------------------------- */

static volatile sig_atomic_t caught, strange;

static void on_tick(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	char *rip = (char *)uc->uc_mcontext.gregs[REG_RIP];

	(void)sig;
	(void)info;
	caught++;
	/* In code that has a file: the program, a library, the vdso. */
	if ((uintptr_t)rip >> 40 == 0x4d)
		strange++;
}

/*
 * next_tick() - one signal after the other, @i says how soon: however slow a
 * machine is, it gets on
 */
static void next_tick(int i)
{
	static sig_atomic_t seen = -1;
	const struct itimerval timer = { .it_value.tv_usec = 1 + i % 200 };

	if (seen == caught)
		return;
	seen = caught;
	sys(setitimer(ITIMER_REAL, &timer, NULL));
}

static void await_ticks(void)
{
	const struct sigaction sa = { .sa_sigaction = on_tick,
				      .sa_flags = SA_SIGINFO | SA_RESTART };

	sys(sigaction(SIGALRM, &sa, NULL));
}

static void end_of_ticks(void)
{
	struct itimerval timer;

	do
		sys(getitimer(ITIMER_REAL, &timer));
	while (timer.it_value.tv_sec || timer.it_value.tv_usec);
	check(caught > 0, "no signal came");
	check(!strange, "%d signals of %d found the program in code that it"
	      " does not have", (int)strange, (int)caught);
}

static void ticks(void)
{
	int zero = (int)sys(open("/dev/zero", O_RDONLY));
	char c;

	warm();
	await_ticks();
	for (int i = 0; i < fewer(20000); i++) {
		next_tick(i);
		preads(data, 1);
		same(pread(zero, &c, 1, 0), 1);
		same(c, 0);
	}
	end_of_ticks();
}

/* What was forwarded before by the same lane is nobody's result now. */
static void mapped_signalled(void)
{
	warm_mmap();
	await_ticks();
	same(lseek(data, 3, SEEK_SET), 3);
	for (int i = 0; i < fewer(20000); i++) {
		unsigned char *p = fresh(4096);

		next_tick(i);
		check((uintptr_t)p % 4096 == 0, "mmap gave %p", (void *)p);
		p[0] = 1;
		sys(munmap(p, 4096));
		if (i % 64 == 0)
			same(lseek(data, 3, SEEK_SET), 3);
	}
	end_of_ticks();
}

/* --- memory that its first process has left ------------------------------------- */

static int fifo = -1, told = -1;
static atomic_int asleep;

static void *await_byte_in(void *arg)
{
	same(read(fifo, arg, 1), 1);
	return NULL;
}

static void *await_byte(void *arg)
{
	char c;

	(void)arg;
	asleep++;
	same(read(fifo, &c, 1), 1);
	return NULL;
}

/* Who shares the memory, and is alone when the other has gone. */
static int heir(void *arg)
{
	pthread_t blocks, reads;

	(void)arg;
	while (getppid() == (pid_t)(uintptr_t)arg)
		usleep(1000);
	preads(data, WARM);
	asleep = 0;
	same(pthread_create(&blocks, NULL, await_byte, NULL), 0);
	while (!asleep)
		usleep(1000);
	usleep(20000);		/* until it is in the call */
	same(pthread_create(&reads, NULL, reader, NULL), 0);
	same(pthread_join(reads, NULL), 0);
	same(write(fifo, "x", 1), 1);
	same(pthread_join(blocks, NULL), 0);
	same(write(told, "x", 1), 1);
	_exit(0);
}

/* Threads that block, so that there are several ways to forward. */
static void leave_memory(void)
{
	static char stack[STACK] __attribute__((aligned(16)));
	pthread_t thread[4];

	warm();
	for (int round = 0; round < 20; round++) {
		asleep = 0;
		for (int i = 0; i < 4; i++)
			same(pthread_create(&thread[i], NULL, await_byte,
					    NULL), 0);
		while (asleep < 4)
			usleep(1000);
		preads(data, WARM);
		same(write(fifo, "xxxx", 4), 4);
		for (int i = 0; i < 4; i++)
			same(pthread_join(thread[i], NULL), 0);
	}
	sys(clone(heir, stack + STACK, CLONE_VM | SIGCHLD,
		  (void *)(uintptr_t)getpid()));
}

/* What a call is about to write stays, whatever becomes of what is beside it. */
static void kept_beside(void)
{
	pthread_t thread;
	pid_t pid;

	warm();
	sys(mkfifo(in("fifo"), 0600));
	fifo = (int)sys(open(in("fifo"), O_RDWR));
	for (int i = 0; i < 3; i++) {
		unsigned char *p = fresh(12288);

		same(pread(data, p, 1, 0), 1);
		/* Who else makes calls here settles what is to be seen. */
		spawned(pid) {
			nap_ms(400);
			same(write(fifo, "x", 1), 1);
		}
		same(pthread_create(&thread, NULL, await_byte_in, p), 0);
		nap_ms(200);
		sys(mprotect(p + 4096, 4096, PROT_READ));
		sys(munmap(p + 8192, 4096));
		same(pthread_join(thread, NULL), 0);
		same(p[0], 'x');
		reap(pid);
		sys(munmap(p, 8192));
	}
}

/* --- threads that take turns ---------------------------------------------------- */

/* The processors that a thread may be on, as the kernel has them: the first 64. */
static unsigned long long allowed(pid_t tid)
{
	char path[64], text[8192], *line;
	unsigned long long set = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	fd = (int)sys(open(path, O_RDONLY));
	n = sys(read(fd, text, sizeof(text) - 1));
	sys(close(fd));
	text[n] = '\0';
	line = strstr(text, "Cpus_allowed:");
	check(line, "%s has no Cpus_allowed", path);
	for (line += strlen("Cpus_allowed:"); *line != '\n'; line++)
		if (isxdigit((unsigned char)*line))
			set = set << 4 | (unsigned int)(*line <= '9' ?
				*line - '0' : (*line | 32) - 'a' + 10);
	return set;
}

/* They may be elsewhere for a while. */
static void allowed_soon(pid_t tid, unsigned long long want)
{
	int ms = 0;

	while (allowed(tid) != want && ms < 10000) {
		nap_ms(200);
		ms += 200;
	}
	check(ms < 10000, "%d may be on the processors %llx instead of %llx", tid,
	      allowed(tid), want);
}

/* What the program is told: no more than 64 of them, either. */
static unsigned long long told_set(void)
{
	unsigned long long set = 0;
	cpu_set_t cpus;

	sys(sched_getaffinity(0, sizeof(cpus), &cpus));
	memcpy(&set, &cpus, sizeof(set));
	return set;
}

static _Atomic bool turned;
static unsigned long long own_set;

static void *take_turns(void *arg)
{
	(void)arg;
	while (!turned)
		preads(data, 100);
	same(told_set(), own_set);
	return NULL;
}

static void turns(void)
{
	const pid_t self = getpid();
	pthread_t v[4];
	pid_t pid;
	int go[2];
	char c;

	warm();
	own_set = told_set();
	sys(pipe(go));
	for (size_t i = 0; i < 4; i++)
		same(pthread_create(&v[i], NULL, take_turns, NULL), 0);
	nap_ms(100);
	spawned(pid) {
		same(read(go[0], &c, 1), 1);
		allowed_soon(self, own_set);
	}
	allowed_soon(pid, own_set);
	turned = true;
	for (size_t i = 0; i < 4; i++)
		same(pthread_join(v[i], NULL), 0);
	same(write(go[1], "x", 1), 1);
	reap(pid);
}

/* --- threads from hot sites --------------------------------------------------- */

static void *add_one(void *arg)
{
	unsigned char c;

	same(pread(data, &c, 1, 0), 1);
	return (void *)((intptr_t)arg + 1);
}

static void cloned(void)
{
	const size_t size = CLONE_ARGS_SIZE_VER0;
	char *page = map(8192, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS);
	uint64_t *args = (uint64_t *)page;

	warm();
	for (int i = 0; i < fewer(200); i++) {
		pthread_t thread;
		void *got;

		same(pthread_create(&thread, NULL, add_one,
				    (void *)(intptr_t)i), 0);
		same(pthread_join(thread, &got), 0);
		same((intptr_t)got, i + 1);
	}
	/* As many as make the site hot, and then more, of each kind. */
	sys(munmap(page + 4096, 4096));
	for (int i = 0; i < 10; i++) {
		memset(args, 0, size);
		args[0] = CLONE_THREAD;		/* without what it needs */
		refused(syscall(SYS_clone3, args, size), EINVAL);
		refused(syscall(SYS_clone3, NULL, size), EFAULT);
		refused(syscall(SYS_clone3, (void *)8, size), EFAULT);
		refused(syscall(SYS_clone3, page + 4096 - 8, size), EFAULT);
		refused(syscall(SYS_clone3, page + 4096 - 4, size), EFAULT);
		refused(syscall(SYS_clone3, args, size - 1), EINVAL);
	}
	for (int i = 0; i < 10; i++) {
		pid_t pid;

		memset(args, 0, size);
		args[4] = SIGCHLD;
		pid = (pid_t)sys(syscall(SYS_clone3, args, size));
		if (pid == 0) {
			preads(data, 10);
			_exit(0);
		}
		reap(pid);
	}
	sys(munmap(page, 4096));
	refused(syscall(SYS_clone3, args, size), EFAULT);
}

static void inherited(void)
{
	int pipe_fds[2];
	pid_t pid;
	char c;

	sys(mkfifo(in("fifo"), 0600));
	fifo = (int)sys(open(in("fifo"), O_RDWR));
	sys(pipe(pipe_fds));
	told = pipe_fds[1];
	spawned(pid)
		leave_memory();
	reap(pid);
	sys(close(told));
	same(read(pipe_fds[0], &c, 1), 1);
}

int main(int argc, char **argv)
{
	static const struct victim_case cases[] = {
		CASE(hot), CASE(high_bits), CASE(branched_into), CASE(vforked),
		CASE(shared_table), CASE(shared_memory), CASE(forked),
		CASE(spawned_true), CASE(threads), CASE(blocked_beside),
		CASE(own_filter), CASE(rewritten), CASE(replaced), CASE(ticks),
		CASE(mapped), CASE(in_parts), CASE(in_parts_at_once), CASE(read_into),
		CASE(changed), CASE(changed_beside), CASE(copied_beside),
		CASE(kept_beside), CASE(far_apart),
		CASE(napping), CASE(mapped_forked), CASE(mapped_signalled),
		CASE(inherited), CASE(parts), CASE(parts_beside), CASE(turns),
		CASE(cloned),
	};

	return VICTIM_MAIN(argc, argv, cases);
}
