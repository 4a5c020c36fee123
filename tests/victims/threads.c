/* SPDX-License-Identifier: MIT */
/*
 * threads.c - many threads of one process forward at once
 *
 * `threads --become` is what the thread of the exec case turns into.
 */
#include "victim.h"
#include "../../capsule/abi.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

enum { THREADS = 64, ROUNDS = 40, BLOCK = 4096 };

static int shared_fd, pattern_fd;
static atomic_bool stop;

static void start(pthread_t *thread, void *(*fn)(void *), void *arg)
{
	int err = pthread_create(thread, NULL, fn, arg);

	check(err == 0, "pthread_create: %s", strerror(err));
}

static void join(pthread_t thread)
{
	same(pthread_join(thread, NULL), 0);
}

static uint64_t checksum(const uint64_t *words, size_t n)
{
	uint64_t sum = 0xcbf29ce484222325u;

	for (size_t i = 0; i < n; i++)
		sum = (sum ^ words[i]) * 0x100000001b3u;
	return sum;
}

/* A block of the thread's own in a common file: numbers and their sum. */
static void *write_and_read(void *arg)
{
	uintptr_t me = (uintptr_t)arg;
	uint64_t block[BLOCK / 8], back[BLOCK / 8];
	off_t at = (off_t)(me * BLOCK);

	for (uint64_t round = 0; round < ROUNDS; round++) {
		for (size_t i = 0; i < BLOCK / 8 - 1; i++)
			block[i] = me << 48 ^ round << 24 ^ i * 0x9e3779b9;
		block[BLOCK / 8 - 1] = checksum(block, BLOCK / 8 - 1);
		same(pwrite(shared_fd, block, BLOCK, at), BLOCK);
		memset(back, 0xee, sizeof(back));
		same(pread(shared_fd, back, BLOCK, at), BLOCK);
		check(memcmp(block, back, BLOCK) == 0,
		      "thread %d, round %d: another block came back",
		      (int)me, (int)round);
	}
	return NULL;
}

static void sixty_four(void)
{
	pthread_t threads[THREADS];
	uint64_t block[BLOCK / 8];

	shared_fd = (int)sys(open(in("x"), O_RDWR | O_CREAT, 0600));
	for (uintptr_t i = 0; i < THREADS; i++)
		start(&threads[i], write_and_read, (void *)i);
	for (int i = 0; i < THREADS; i++)
		join(threads[i]);
	for (int i = 0; i < THREADS; i++) {
		same(pread(shared_fd, block, BLOCK, (off_t)i * BLOCK), BLOCK);
		check(block[BLOCK / 8 - 1] == checksum(block, BLOCK / 8 - 1),
		      "the block of thread %d is damaged", i);
	}
	sys(close(shared_fd));
}

static void *own_file(void *arg)
{
	const char *base = arg;
	char name[64], text[64];

	for (int i = 0; i < fewer(15); i++) {
		snprintf(name, sizeof(name), "%d.%s", (int)gettid(), base);
		snprintf(text, sizeof(text), "%d in thread %d", i,
			 (int)gettid());
		put(in(name), text);
		holds(in(name), text);
		sys(unlink(in(name)));
	}
	return NULL;
}

/* Opens, closes and names, all at once in one descriptor table. */
static void own_files(void)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		start(&threads[i], own_file, (void *)(uintptr_t)"file");
	for (int i = 0; i < THREADS; i++)
		join(threads[i]);
	/* Every number is free again. */
	same(open(in("."), O_RDONLY), 3);
	sys(close(3));
}

static void *one_read(void *arg)
{
	unsigned char buf[512];

	pattern_read(pattern_fd, buf, sizeof(buf), (uintptr_t)arg, "thread");
	return NULL;
}

static void churn(void)
{
	pthread_t threads[8];

	pattern_file(in("pattern"), 65536);
	pattern_fd = (int)sys(open(in("pattern"), O_RDONLY));
	for (int round = 0; round < fewer(60); round++) {
		for (uintptr_t i = 0; i < 8; i++)
			start(&threads[i], one_read,
			      (void *)((uintptr_t)round * 8 + i));
		for (int i = 0; i < 8; i++)
			join(threads[i]);
	}
	sys(close(pattern_fd));
}

static void *blocked_reader(void *arg)
{
	char byte;

	same(read(*(int *)arg, &byte, 1), 1);
	same(byte, 'x');
	return NULL;
}

/* Threads that are blocked hold up nobody. */
static void blocked(void)
{
	pthread_t blockers[8], worker;
	int fd;

	sys(mkfifo(in("fifo"), 0600));
	fd = (int)sys(open(in("fifo"), O_RDWR));
	pattern_file(in("pattern"), 65536);
	pattern_fd = (int)sys(open(in("pattern"), O_RDONLY));
	for (int i = 0; i < 8; i++)
		start(&blockers[i], blocked_reader, &fd);
	for (uintptr_t i = 0; i < 20; i++) {
		start(&worker, one_read, (void *)i);
		join(worker);
		one_read((void *)i);
	}
	same(write(fd, "xxxxxxxx", 8), 8);
	for (int i = 0; i < 8; i++)
		join(blockers[i]);
	sys(close(pattern_fd));
	sys(close(fd));
}

static void *forever(void *arg)
{
	char byte;

	for (;;)
		sys(read(*(int *)arg, &byte, 1));
	return NULL;
}

static void exit_with_blocked(void)
{
	pthread_t threads[8];
	int fd, status;
	pid_t pid;

	sys(mkfifo(in("fifo"), 0600));
	fd = (int)sys(open(in("fifo"), O_RDWR));
	pid = (pid_t)sys(fork());
	if (pid == 0) {
		for (int i = 0; i < 8; i++)
			start(&threads[i], forever, &fd);
		same(write(fd, "xxxx", 4), 4);
		exit(7);
	}
	same(waitpid(pid, &status, 0), pid);
	same(status, 7 << 8);
	sys(close(fd));
}

static int handed;
static pthread_barrier_t barrier;

static void *opener(void *arg)
{
	handed = (int)sys(open(arg, O_RDWR | O_CREAT, 0600));
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	refused(write(handed, "x", 1), EBADF);
	return NULL;
}

/* One descriptor table: opened here, used and closed there. */
static void one_table(void)
{
	char name[PATH_MAX];
	pthread_t thread;

	pthread_barrier_init(&barrier, NULL, 2);
	strcpy(name, in("x"));
	start(&thread, opener, name);
	pthread_barrier_wait(&barrier);
	same(write(handed, "handed", 6), 6);
	sys(close(handed));
	pthread_barrier_wait(&barrier);
	join(thread);
	holds(name, "handed");
}

static void *mapper(void *arg)
{
	unsigned char *p;

	for (int i = 0; i < 60; i++) {
		size_t n = (size_t)(i % 7 + 1) * 4096;

		p = map(n, PROT_READ | PROT_WRITE, MAP_PRIVATE);
		pattern_read(pattern_fd, p, n, (uint64_t)i, "fresh mapping");
		p = mremap(p, n, 2 * n, MREMAP_MAYMOVE);
		check(p != MAP_FAILED, "mremap: %s", strerror(errno));
		pattern_check(p, n, (uint64_t)i, "after mremap");
		pattern_read(pattern_fd, p + n, n, 3, "second half");
		sys(munmap(p, 2 * n));
	}
	return arg;
}

/* The address space changes under everybody's forwarded calls. */
static void map_churn(void)
{
	pthread_t threads[8];

	pattern_file(in("pattern"), 65536);
	pattern_fd = (int)sys(open(in("pattern"), O_RDONLY));
	for (int i = 0; i < 8; i++)
		start(&threads[i], mapper, NULL);
	for (int i = 0; i < 8; i++)
		join(threads[i]);
	sys(close(pattern_fd));
}

static void *read_until_stop(void *arg)
{
	while (!atomic_load(&stop))
		one_read(arg);
	return NULL;
}

/* The capsule has to move while executors are busy in it. */
static void capsule_moves(void)
{
	size_t len = CAPSULE_SIZE + (1 << 20);
	pthread_t threads[8], blocker;
	unsigned char *p;
	int fd;

	sys(mkfifo(in("fifo"), 0600));
	fd = (int)sys(open(in("fifo"), O_RDWR));
	pattern_file(in("pattern"), 65536);
	pattern_fd = (int)sys(open(in("pattern"), O_RDONLY));
	atomic_store(&stop, false);
	for (uintptr_t i = 0; i < 8; i++)
		start(&threads[i], read_until_stop, (void *)i);
	start(&blocker, blocked_reader, &fd);
	for (int i = 0; i < 5; i++) {
		p = mmap((void *)CAPSULE_BASE, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		check(p == (void *)CAPSULE_BASE, "mmap: %s", strerror(errno));
		pattern_read(pattern_fd, p, 65536, 0, "the capsule's range");
		if (i % 2)
			sys(munmap(p, len));
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 8; i++)
		join(threads[i]);
	same(write(fd, "x", 1), 1);
	join(blocker);
	munmap((void *)CAPSULE_BASE, len);
	sys(close(pattern_fd));
	sys(close(fd));
}

static void *forker(void *arg)
{
	pid_t pid;

	for (int i = 0; i < 5; i++) {
		spawned(pid)
			one_read(arg);
		reap(pid);
	}
	return NULL;
}

/* fork() from one thread while the others forward. */
static void fork_from_threads(void)
{
	pthread_t threads[8], busy[4];

	pattern_file(in("pattern"), 65536);
	pattern_fd = (int)sys(open(in("pattern"), O_RDONLY));
	atomic_store(&stop, false);
	for (uintptr_t i = 0; i < 4; i++)
		start(&busy[i], read_until_stop, (void *)i);
	for (uintptr_t i = 0; i < 8; i++)
		start(&threads[i], forker, (void *)i);
	for (int i = 0; i < 8; i++)
		join(threads[i]);
	atomic_store(&stop, true);
	for (int i = 0; i < 4; i++)
		join(busy[i]);
	sys(close(pattern_fd));
}

static void *outlives_leader(void *arg)
{
	pthread_t *leader = arg;

	join(*leader);
	for (uintptr_t i = 0; i < 10; i++)
		one_read((void *)i);
	exit(9);
}

static void leader_exits(void)
{
	static pthread_t leader;
	pthread_t thread;
	int status;
	pid_t pid;

	pattern_file(in("pattern"), 65536);
	pattern_fd = (int)sys(open(in("pattern"), O_RDONLY));
	pid = (pid_t)sys(fork());
	if (pid == 0) {
		leader = pthread_self();
		start(&thread, outlives_leader, &leader);
		pthread_exit(NULL);
	}
	same(waitpid(pid, &status, 0), pid);
	same(status, 9 << 8);
	sys(close(pattern_fd));
}

static void *execer(void *arg)
{
	execl(victim_self, victim_self, "--become", arg, NULL);
	check(false, "exec: %s", strerror(errno));
	return NULL;
}

/* exec from a thread: it takes over the process, descriptors and all. */
static void exec_from_thread(void)
{
	pthread_t threads[4], thread;
	char name[PATH_MAX];
	int fd;
	pid_t pid;

	strcpy(name, in("x"));
	put(name, "after exec");
	sys(mkfifo(in("fifo"), 0600));
	spawned(pid) {
		fd = (int)sys(open(in("fifo"), O_RDWR | O_CLOEXEC));
		for (int i = 0; i < 4; i++)
			start(&threads[i], forever, &fd);
		start(&thread, execer, name);
		pause();
	}
	reap(pid);
	holds(name, "became");
}

static int become(const char *name)
{
	victim_doing = "after exec from a thread";
	same(getpid(), gettid());
	holds(name, "after exec");
	put(name, "became");
	return 0;
}

static void *cancelled(void *arg)
{
	char byte;

	read(*(int *)arg, &byte, 1);
	return NULL;
}

static void cancel(void)
{
	pthread_t thread;
	void *result;
	int fd;

	sys(mkfifo(in("fifo"), 0600));
	fd = (int)sys(open(in("fifo"), O_RDWR));
	for (int i = 0; i < 5; i++) {
		start(&thread, cancelled, &fd);
		same(pthread_cancel(thread), 0);
		same(pthread_join(thread, &result), 0);
		check(result == PTHREAD_CANCELED, "the thread was not cancelled");
	}
	/* A read that was given up takes nothing from the next one. */
	same(write(fd, "x", 1), 1);
	fd_holds(fd, "x");
	sys(close(fd));
}

static void *changes_dir(void *arg)
{
	sys(chdir(arg));
	return NULL;
}

static void one_working_dir(void)
{
	char name[PATH_MAX];
	pthread_t thread;

	strcpy(name, in("d"));
	sys(mkdir(name, 0700));
	put(in("d/x"), "x in d");
	start(&thread, changes_dir, name);
	join(thread);
	holds("x", "x in d");
	sys(chdir("/"));
}

int main(int argc, char **argv)
{
	static const struct victim_case cases[] = {
		CASE(sixty_four), CASE(own_files), CASE(churn), CASE(blocked),
		CASE(exit_with_blocked), CASE(one_table), CASE(map_churn),
		CASE(capsule_moves), CASE(fork_from_threads),
		CASE(leader_exits), CASE(exec_from_thread), CASE(cancel),
		CASE(one_working_dir),
	};

	if (argc == 3 && strcmp(argv[1], "--become") == 0)
		return become(argv[2]);
	return VICTIM_MAIN(argc, argv, cases);
}
