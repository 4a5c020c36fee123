/* SPDX-License-Identifier: MIT */
/*
 * shm.c - rings, channels and daemons in shared memory, and their enemies
 *
 * Daemons are processes of their own: one that echoes every message, and the
 * real one (serve_run). Guests are this process or children of it. What takes
 * the guest's time to be given up (30 s) is begun first and looked at last.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/num.h"
#include "host/serve.h"
#include "wire/channel.h"
#include "wire/device.h"
#include "wire/ring.h"
#include "wire/rules.h"
#include "wire/shm.h"
#include "daemon.h"
#include "tap.h"

#define MS		1000000ULL
#define PINGS		100000
#define FUZZ_MS		3000
#define GIVEN_UP_MS	32000	/* channel.c: 30 s, and some */

static char dir[64];

static const char *file(const char *name)
{
	static char path[32][128];
	static int turn;

	turn = (turn + 1) % 32;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

static void *map_file(const char *name, size_t *size)
{
	int fd cleanup_fd = open(name, O_RDWR | O_CLOEXEC);
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0)
		return NULL;
	*size = (size_t)st.st_size;
	p = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return p == MAP_FAILED ? NULL : p;
}

static void make_file(const char *name, off_t size)
{
	int fd cleanup_fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC,
				 0600);

	if (fd < 0 || ftruncate(fd, size) < 0)
		abort();
}

/* --- daemons -------------------------------------------------------------- */

static int signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Every message comes back, until the guest has gone. */
static _Noreturn void echo(struct transport *t)
{
	struct msg m;
	int fd;

	while (transport_recv(t, &m, &fd) == 0)
		if (transport_send(t, &m, -1) < 0)
			_exit(1);
	transport_fini(t);
	_exit(0);
}

static _Noreturn void echo_daemon(struct listener *l)
{
	int sigfd = signals();

	for (;;) {
		struct signalfd_siginfo si;
		struct transport t;
		int found = listener_wait(l, sigfd);
		pid_t pid;

		while (read(sigfd, &si, sizeof(si)) > 0)
			;
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			listener_ended(l, pid);
		if (!(found & WAIT_READY) || listener_accept(l, &t) < 0)
			continue;
		pid = fork();
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			listener_leave(l);
			echo(&t);
		}
		listener_handed(l, &t, pid);
	}
}

static pid_t shm_daemon(const char *path, void (*run)(struct listener *))
{
	char spec[160];

	snprintf(spec, sizeof(spec), "shm:%s", path);
	return daemon_at(spec, run);
}

static bool alive(pid_t pid)
{
	return pid > 0 && waitpid(pid, NULL, WNOHANG) == 0;
}

/* --- guests --------------------------------------------------------------- */

static int reach(struct transport *t, const char *path)
{
	return transport_connect(t, &shm_ops, path);
}

/* As run does it: -EAGAIN and -EBUSY are worth another try. */
static int reach_in(struct transport *t, const char *path, uint64_t within_ms)
{
	uint64_t until = now_ms() + within_ms;
	int err;

	do {
		err = reach(t, path);
		if (!transport_retry(err))
			break;
		nap(20);
	} while (now_ms() < until);
	return err;
}

static bool ping(struct transport *t, uint32_t n)
{
	struct msg m = { .type = MSG_POLICY }, back;
	int fd;

	m.policy.n = n;
	return transport_send(t, &m, -1) == 0 &&
	       transport_recv(t, &back, &fd) == 0 &&
	       back.type == MSG_POLICY && back.policy.n == n && fd == -1;
}

static bool serves(const char *path)
{
	struct transport t;
	bool good = reach_in(&t, path, 5000) == 0 && ping(&t, 7);

	transport_fini(&t);
	return good;
}

/* How it ends, within a time: -ETIMEDOUT: it does not. */
static int how_it_ends(struct transport *t, uint64_t within_ms)
{
	uint64_t until = now_ms() + within_ms;
	struct msg m;
	int fd, err = 0;

	while (!err && now_ms() < until) {
		if (transport_pending(t))
			err = transport_recv(t, &m, &fd);
		else
			nap(5);
	}
	return err ? err : -ETIMEDOUT;
}

/* --- rings ---------------------------------------------------------------- */

static void fill(struct msg *m, uint32_t type, uint32_t seed)
{
	memset(m, 0, sizeof(*m));
	m->type = type;
	m->len = (uint32_t)msg_size(type);
	for (size_t i = MSG_HEAD; i < m->len; i++)
		((uint8_t *)m)[i] = (uint8_t)(seed * 31 + i * 7);
}

static struct ring *new_ring(struct ring_end *in, struct ring_end *out)
{
	struct ring *r = aligned_alloc(64, sizeof(*r));

	memset(r, 0, sizeof(*r));
	ring_init(r);
	ring_open(in, r);
	ring_open(out, r);
	return r;
}

static void test_ring(void)
{
	struct ring_end in, out;
	struct ring *r = new_ring(&in, &out);
	bool same = true, bounded = true;
	uint32_t taken = 0, put = 0;
	struct msg m, got;

	ok(!ring_waits(&in) && ring_take(&in, &got) == -EAGAIN,
	   "an empty ring has no message");
	/* Filled to a changing level, so that every cell sees every type. */
	for (uint32_t round = 0; round < 4000 && same; round++) {
		for (uint32_t n = round % RING_CELLS; n < RING_CELLS; n++) {
			fill(&m, put % (MSG_TYPES - 1) + 1, put);
			if (put - taken == RING_CELLS)
				break;
			same = same && ring_put(&out, &m) == 0;
			put++;
		}
		while (taken != put && (taken + round) % 5 != 4) {
			fill(&m, taken % (MSG_TYPES - 1) + 1, taken);
			memset(&got, 0xee, sizeof(got));
			same = same && ring_take(&in, &got) == (ssize_t)m.len &&
			       memcmp(&m, &got, m.len) == 0;
			taken++;
		}
		if (taken != put) {
			fill(&m, taken % (MSG_TYPES - 1) + 1, taken);
			same = same && ring_take(&in, &got) == (ssize_t)m.len &&
			       memcmp(&m, &got, m.len) == 0;
			taken++;
		}
	}
	ok(same && put > 10000 && r->head < 0x10000,
	   "messages of all sizes pass while the counters wrap");
	while (ring_take(&in, &got) > 0)
		;
	fill(&m, MSG_REPLY_TEXT, 1);
	for (uint32_t i = 0; i < RING_CELLS; i++)
		bounded = bounded && ring_put(&out, &m) == 0;
	ok(bounded && ring_put(&out, &m) == -EAGAIN, "a full ring is full");
	free(r);
}

static bool head_is_refused(uint32_t jump)
{
	struct ring_end in, out;
	struct ring *r = new_ring(&in, &out);
	struct msg m;
	bool good;

	/* Every cell has a message that could be taken. */
	fill(&m, MSG_START, 1);
	for (uint32_t i = 0; i < RING_CELLS; i++)
		memcpy(r->cells[i], &m, m.len);
	r->head = RING_START + jump;
	good = ring_waits(&in) && ring_take(&in, &m) == -EPROTO &&
	       r->tail == RING_START;
	free(r);
	return good;
}

static bool tail_is_refused(uint32_t jump)
{
	struct ring_end in, out;
	struct ring *r = new_ring(&in, &out);
	struct msg m;
	bool good;

	fill(&m, MSG_START, 1);
	r->tail = RING_START - jump;
	good = ring_put(&out, &m) == -EPROTO && r->head == RING_START;
	free(r);
	return good;
}

static bool length_is_refused(uint32_t len)
{
	struct {
		uint8_t before[64];
		struct msg m;
		uint8_t after[64];
	} got;
	struct ring_end in, out;
	struct ring *r = new_ring(&in, &out);
	struct msg m;
	bool good;

	memset(&got, 0x5a, sizeof(got));
	fill(&m, MSG_REPLY_TEXT, 1);
	good = ring_put(&out, &m) == 0;
	memcpy(&r->cells[RING_START % RING_CELLS][4], &len, 4);
	good = good && ring_take(&in, &got.m) == -EPROTO;
	for (size_t i = 0; i < sizeof(got); i++)
		good = good && ((uint8_t *)&got)[i] == 0x5a;
	free(r);
	return good;
}

static void test_lies(void)
{
	static const uint32_t jumps[] = { RING_CELLS + 1, 0x7fffffff,
					  0x80000000, 0xfffffff0, UINT32_MAX };
	static const uint32_t lens[] = { 0, 1, 7, sizeof(struct msg) + 1,
					 RING_CELL_BYTES, 0x80000000,
					 UINT32_MAX };
	bool heads = true, tails = true, lengths = true;

	for (size_t i = 0; i < ARRAY_SIZE(jumps); i++) {
		heads = heads && head_is_refused(jumps[i]);
		tails = tails && tail_is_refused(jumps[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++)
		lengths = lengths && length_is_refused(lens[i]);
	ok(heads, "a producer's counter that jumps ends the session");
	ok(tails, "a consumer's counter that jumps ends the session");
	ok(lengths, "a length that lies is refused, and nothing is copied");
}

struct scribbler {
	struct ring *ring;
	bool stop;
};

/* Lengths that are allowed and not, types, and the rest. */
static void *scribble(void *arg)
{
	struct scribbler *s = arg;
	unsigned int seed = 1;

	while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
		for (uint32_t i = 0; i < RING_CELLS; i++) {
			volatile uint32_t *w = (void *)s->ring->cells[i];

			w[0] = (uint32_t)rand_r(&seed) % MSG_TYPES;
			w[1] = (uint32_t)rand_r(&seed) % 3 ?
			       (uint32_t)msg_size(w[0]) :
			       (uint32_t)rand_r(&seed) << 1;
			w[2 + rand_r(&seed) % 700] = (uint32_t)seed;
		}
	}
	return NULL;
}

static void test_scribbler(void)
{
	struct {
		uint8_t before[64];
		struct msg m;
		uint8_t after[64];
	} got;
	struct ring_end in, out;
	struct scribbler s = { .ring = new_ring(&in, &out) };
	const uint64_t until = now_ms() + 1000;
	unsigned int taken = 0, refused = 0;
	bool unharmed = true;
	pthread_t thread;

	memset(&got, 0x5a, sizeof(got));
	pthread_create(&thread, NULL, scribble, &s);
	for (uint32_t i = 0; unharmed && (i % 1024 || now_ms() < until); i++) {
		ssize_t n;

		__atomic_store_n(&s.ring->head, in.at + 1, __ATOMIC_RELEASE);
		n = ring_take(&in, &got.m);
		if (n == -EPROTO)
			refused++;
		else
			taken++;
		unharmed = n == -EPROTO || (n >= (ssize_t)MSG_HEAD &&
					    n <= (ssize_t)sizeof(got.m));
		for (size_t j = 0; j < sizeof(got.before); j++)
			unharmed = unharmed && got.before[j] == 0x5a &&
				   got.after[j] == 0x5a;
	}
	s.stop = true;
	pthread_join(thread, NULL);
	ok(unharmed && taken > 100 && refused > 100,
	   "a message that changes while it is read stays in its bounds");
	free(s.ring);
}

/* --- sessions ------------------------------------------------------------- */

static void test_echo(const char *path)
{
	pid_t daemon = shm_daemon(path, echo_daemon);
	struct transport t;
	bool same = true, order = true;
	struct msg m, got;
	int fd, err = reach_in(&t, path, 2000);

	ok(daemon > 0 && err == 0 && !t.carries_fds, "a guest is served");
	for (uint32_t i = 0; !err && i < 500 && same; i++) {
		fill(&m, i % (MSG_TYPES - 1) + 1, i);
		same = transport_send(&t, &m, -1) == 0 &&
		       transport_recv(&t, &got, &fd) == 0 && fd == -1 &&
		       memcmp(&m, &got, m.len) == 0;
	}
	ok(same, "messages of all sizes come back");
	for (uint32_t i = 0; !err && i < PINGS && order; i++)
		order = ping(&t, i);
	ok(order, "a hundred thousand messages go there and back in order");
	fill(&m, MSG_HELLO, 1);
	ok(!err && transport_send(&t, &m, 0) == -EOPNOTSUPP && ping(&t, 1),
	   "a descriptor is refused, and the session goes on");
	ok(shm_daemon(path, echo_daemon) == -EADDRINUSE && ping(&t, 2),
	   "a second daemon at the same file is refused");
	transport_fini(&t);
	end(daemon, SIGKILL);
}

/* A cell that is written and not published is no message. */
static void test_half(const char *path)
{
	pid_t daemon = shm_daemon(path, echo_daemon);
	struct transport t;
	size_t size;
	struct msg m;
	void *shm;
	bool good = reach_in(&t, path, 2000) == 0;

	shm = map_file(path, &size);
	fill(&m, MSG_RULE, 3);
	memcpy(shm_channel(shm, 0)->to_host.cells[RING_START % RING_CELLS], &m,
	       100);
	nap(200);
	ok(good && !transport_pending(&t) && ping(&t, 5),
	   "a peer that stops in the middle of a message has sent none");
	/* A type and a length that do not agree: the session ends. */
	fill(&m, MSG_START, 3);
	m.len += 8;
	good = shm_ops.send(&t, &m, -1) == (int)m.len;
	ok(good && how_it_ends(&t, 5000) == -EPIPE,
	   "a message that is not as its type says ends its session");
	transport_fini(&t);
	ok(serves(path), "and no other");
	munmap(shm, size);
	end(daemon, SIGKILL);
}

static void test_places(const char *path)
{
	const off_t one = SHM_HEADER_BYTES + sizeof(struct channel);
	struct transport t, more;
	pid_t daemon;
	bool good;

	make_file(path, one - 1);
	ok(reach(&t, path) == -EAGAIN &&
	   shm_daemon(path, echo_daemon) == -ENOSPC,
	   "a file that is too small has no daemon");
	make_file(path, one);
	ok(reach(&t, path) == -EAGAIN, "neither has one that is empty");
	daemon = shm_daemon(path, echo_daemon);
	good = reach_in(&t, path, 2000) == 0;
	ok(good && reach(&more, path) == -EBUSY && ping(&t, 1),
	   "when all channels are taken, that is said");
	transport_fini(&t);
	ok(serves(path) && serves(path), "a channel that is left is free");
	end(daemon, SIGTERM);
	make_file(path, one);
	truncate(path, 0);
	daemon = shm_daemon(path, echo_daemon);
	ok(serves(path), "an empty file is given a size");
	end(daemon, SIGKILL);
	daemon = open(path, O_WRONLY | O_CLOEXEC);
	good = write(daemon, "my thesis", 9) == 9;
	close(daemon);
	daemon = shm_daemon(path, echo_daemon);
	if (daemon != -EEXIST)
		printf("# %d %s\n", daemon, strerror(-daemon));
	ok(good && daemon == -EEXIST, "a file that holds something else is left alone");
}

/* The first child of a daemon, or -1. */
static pid_t session_of(pid_t daemon)
{
	char name[64];
	pid_t session;
	FILE *f;

	snprintf(name, sizeof(name), "/proc/%d/task/%d/children", daemon,
		 daemon);
	f = fopen(name, "re");
	if (!f || fscanf(f, "%d", &session) != 1)
		session = -1;
	if (f)
		fclose(f);
	return session;
}

static void test_ends(const char *path)
{
	pid_t daemon = shm_daemon(path, real_daemon), session;
	struct transport t, later;
	uint64_t began;
	int err;
	bool good = reach_in(&t, path, 2000) == 0 && ask(&t);

	ok(good, "the real daemon answers");
	session = session_of(daemon);
	if (session > 0)
		kill(session, SIGKILL);
	ok(session > 0 && how_it_ends(&t, 2000) == -EPIPE,
	   "a session that was killed is gone for its guest");
	transport_fini(&t);
	good = reach_in(&t, path, 2000) == 0 && ask(&t);
	end(daemon, SIGKILL);
	ok(good && how_it_ends(&t, 1000) == -EPIPE && transport_settled(&t),
	   "a daemon that was killed alone: its session says so");
	transport_fini(&t);
	daemon = shm_daemon(path, real_daemon);
	good = reach_in(&t, path, 2000) == 0 && ask(&t);
	session = session_of(daemon);
	kill(daemon, SIGSTOP);
	kill(session, SIGKILL);
	began = now_ms();
	end(daemon, SIGKILL);
	err = how_it_ends(&t, 10000);
	ok(!transport_settled(&t),
	   "a guest does not take silence for the end of the shadows");
	ok(good && err == -EPIPE && now_ms() - began > 1000,
	   "a daemon that was killed is gone for its guest, after its silence");
	began = now_ms();
	ok(reach(&later, path) == -EAGAIN && now_ms() - began < 2500,
	   "a guest that comes after it is told to come again");
	transport_fini(&t);

	daemon = shm_daemon(path, real_daemon);
	good = reach_in(&t, path, 2000) == 0 && ask(&t);
	end(daemon, SIGKILL);
	daemon = shm_daemon(path, real_daemon);
	began = now_ms();
	err = how_it_ends(&t, 10000);
	ok(good && err == -EPIPE && now_ms() - began < 1000,
	   "with a new daemon that is so at once");
	good = reach_in(&later, path, 2000) == 0 && ask(&later);
	transport_fini(&t);
	ok(good && ask(&later), "what is left of an old session is no harm");
	ok(end(daemon, SIGTERM) == 0 && how_it_ends(&later, 500) == -EPIPE,
	   "a daemon that ends says so");
	transport_fini(&later);
}

/* Nine requests, and room for eight replies. */
static void test_deaf_guest(const char *path)
{
	pid_t daemon = shm_daemon(path, echo_daemon);
	struct transport t;
	struct msg m = { .type = MSG_START };
	uint64_t began = now_ms();
	bool good = reach_in(&t, path, 2000) == 0;
	size_t size;
	void *shm = map_file(path, &size);
	const struct channel *ch = shm_channel(shm, 0);
	uint64_t nonce = ch->claim;

	for (uint32_t i = 0; good && i < RING_CELLS + 1; i++)
		good = transport_send(&t, &m, -1) == 0;
	while (__atomic_load_n(&ch->served, __ATOMIC_ACQUIRE) == nonce &&
	       now_ms() - began < 15000)
		nap(20);
	ok(good && now_ms() - began > 2000 && now_ms() - began < 15000,
	   "a guest that does not read does not hold its session for ever");
	for (uint32_t i = 0; good && i < RING_CELLS; i++) {
		int fd;

		good = transport_recv(&t, &m, &fd) == 0;
	}
	ok(good && how_it_ends(&t, 1000) == -EPIPE,
	   "what was sent before the end is there to be read");
	transport_fini(&t);
	munmap(shm, size);
	end(daemon, SIGKILL);
}

/* A child that reaches the daemon and stays until it is killed. */
static pid_t guest_at(const char *path)
{
	int fds[2];
	char c;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		abort();
	pid = fork();
	if (pid == 0) {
		struct transport t;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (reach_in(&t, path, 2000) < 0)
			_exit(1);
		if (write(fds[1], "x", 1) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	close(fds[1]);
	if (read(fds[0], &c, 1) != 1) {
		end(pid, SIGKILL);
		pid = -1;
	}
	close(fds[0]);
	return pid;
}

static void test_stopped_guest(const char *path)
{
	pid_t daemon = shm_daemon(path, echo_daemon);
	pid_t guest = guest_at(path);
	size_t size;
	void *shm = map_file(path, &size);
	const struct channel *ch = shm_channel(shm, 0);
	uint32_t before, stopped;

	kill(guest, SIGSTOP);
	nap(300);
	before = __atomic_load_n(&ch->beat, __ATOMIC_ACQUIRE);
	nap(1500);
	stopped = __atomic_load_n(&ch->beat, __ATOMIC_ACQUIRE);
	end(guest, SIGKILL);
	nap(300);
	before = stopped - before;
	stopped = __atomic_load_n(&ch->beat, __ATOMIC_ACQUIRE);
	nap(1500);
	ok(guest > 0 && before > 0 &&
	   __atomic_load_n(&ch->beat, __ATOMIC_ACQUIRE) == stopped,
	   "the heart of a guest beats while it is stopped, not when killed");
	munmap(shm, size);
	end(daemon, SIGKILL);
}

/* Something that an earlier daemon's shadows have open: here, it is us. */
static void test_left_behind(const char *path)
{
	int earlier = open(file("ram"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	pid_t daemon;

	ram_fd = earlier;
	daemon = shm_daemon(path, echo_daemon);
	ok(daemon > 0 && serves(path), "a daemon that has the guest's memory");
	end(daemon, SIGKILL);
	ram_fd = open(file("ram"), O_RDWR | O_CLOEXEC);
	ok(shm_daemon(path, echo_daemon) == -EINPROGRESS,
	   "a daemon does not begin before what the last one left has gone");
	close(earlier);
	daemon = shm_daemon(path, echo_daemon);
	ok(daemon > 0 && serves(path), "and then it does");
	end(daemon, SIGKILL);
	close_fd(&ram_fd);
}

/* A claim that comes with another boot id, by hand. */
static void test_reboot(const char *path)
{
	pid_t daemon = shm_daemon(path, echo_daemon);
	struct transport t, same;
	size_t size;
	void *shm;
	struct channel *ch;
	bool good = reach_in(&t, path, 2000) == 0 &&
		    reach_in(&same, path, 2000) == 0 && ping(&t, 1) &&
		    ping(&same, 1);

	ok(good, "sessions of one boot live beside each other");
	shm = map_file(path, &size);
	ch = shm_channel(shm, 5);
	ch->boot[0] = 4711;
	__atomic_store_n(&ch->claim, 99, __ATOMIC_RELEASE);
	__atomic_store_n(&ch->ready, 99, __ATOMIC_RELEASE);
	ok(how_it_ends(&t, 3000) == -EPIPE &&
	   how_it_ends(&same, 3000) == -EPIPE,
	   "a guest that has booted anew ends the sessions of the boot before");
	ok(__atomic_load_n(&ch->served, __ATOMIC_ACQUIRE) == 99,
	   "and is served");
	nap(100);
	ok(__atomic_load_n(&shm_channel(shm, 0)->claim, __ATOMIC_ACQUIRE) == 0,
	   "their channels are free at once");
	transport_fini(&t);
	transport_fini(&same);
	munmap(shm, size);
	end(daemon, SIGKILL);
}

/* A nonce that is not the only one must not mix up two channels. */
static void test_twins(const char *path)
{
	pid_t daemon = shm_daemon(path, echo_daemon);
	struct channel *ch[2];
	size_t size;
	void *shm;
	int served = 0;

	shm = map_file(path, &size);
	for (uint32_t i = 0; i < 2; i++) {
		ch[i] = shm_channel(shm, i + 2);
		__atomic_store_n(&ch[i]->claim, 77, __ATOMIC_RELEASE);
	}
	for (uint32_t i = 0; i < 2; i++)
		__atomic_store_n(&ch[i]->ready, 77, __ATOMIC_RELEASE);
	for (int i = 0; i < 100 && served < 2; i++) {
		nap(20);
		served = (ch[0]->served == 77) + (ch[1]->served == 77);
	}
	__atomic_store_n(&ch[0]->claim, 0, __ATOMIC_RELEASE);
	for (int i = 0; i < 100 && ch[0]->served; i++)
		nap(20);
	ok(served == 2 && ch[0]->served == 0 && ch[1]->served == 77 &&
	   serves(path), "two claims of one number are two sessions");
	munmap(shm, size);
	end(daemon, SIGKILL);
}

static void test_seal(void)
{
	int fd cleanup_fd = memfd_create("test", MFD_ALLOW_SEALING);
	char path[64];
	pid_t daemon;
	bool good;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), fd);
	good = ftruncate(fd, 1 << 20) == 0;
	daemon = shm_daemon(path, echo_daemon);
	ok(good && serves(path) && ftruncate(fd, 4096) < 0 && errno == EPERM,
	   "a memfd is sealed against shrinking");
	end(daemon, SIGKILL);
}

/* --- devices -------------------------------------------------------------- */

static void put(const char *in, const char *name, const char *text)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", in, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		abort();
	close(fd);
}

static void put_device(const char *pci, const char *at, const char *vendor,
		       const char *device, bool bell)
{
	char in[192];

	snprintf(in, sizeof(in), "%s/%s", pci, at);
	mkdir(in, 0700);
	put(in, "vendor", vendor);
	put(in, "device", device);
	put(in, "resource2", "memory");
	if (bell)
		put(in, "resource1", "msix");
}

/* As the daemon plugs them in: several functions, it says. */
static void say_multifunction(const char *pci, const char *at)
{
	static const uint8_t config[16] = { [14] = 0x80 };
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s/config", pci, at);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, config, sizeof(config)) < 0)
		abort();
	close(fd);
}

static void test_plugged(void)
{
	const char *pci = file("plugged"), *none = file("no-such");
	char path[PATH_MAX];
	struct device dev;
	bool good;

	mkdir(pci, 0700);
	put_device(pci, "0000:02:03.0", "0x1af4\n", "0x1110\n", false);
	ok(device_plugged(pci, 0x218, 1, path) == -ENODEV,
	   "the memory that is shared is not what was plugged in");
	say_multifunction(pci, "0000:02:03.0");
	device_find(pci, none, DEVICE_NONE, &dev);
	ok(dev.kind == DEVICE_NONE,
	   "what was plugged in is not the memory that is shared");
	ok(device_plugged(pci, 0x218, 1, path) == 0 &&
	   strstr(path, "0000:02:03.0/resource2"), "it is at its address");
	ok(device_plugged(pci, 0x218, 1 << 20, path) == -ENODEV,
	   "and as large as is asked for");
	ok(device_plugged(pci, 0x220, 1, path) == -EAGAIN,
	   "what is not there may yet come");
	put_device(pci, "0000:02:03.5", "0x1af4\n", "0x1000\n", false);
	device_find(pci, none, DEVICE_NONE, &dev);
	good = device_plugged(pci, 0x218, 1, path) == -ENODEV;
	ok(good && dev.kind == DEVICE_PLAIN,
	   "one that has other functions was not plugged in by us");
	put_device(pci, "0000:01:00.0", "0x1af4\n", "0x1110\n", false);
	snprintf(path, sizeof(path), "%s/0000:01:00.0/resource2", pci);
	unlink(path);
	put(pci, "0000:01:00.0/resource", "0x1 0x2 0x3\n0x0 0x0 0x0\n"
					  "0x0 0x0 0x0\n");
	good = device_plugged(pci, 0x100, 1, path) == -EAGAIN;
	put(pci, "0000:01:00.0/resource0", "registers");
	ok(good && device_plugged(pci, 0x100, 1, path) == -ENOMEM,
	   "what the kernel has no room for is told from what it has not found");
}

static void test_device(void)
{
	const char *pci = file("pci"), *none = file("no-such");
	struct device dev;
	bool good;

	device_find(none, none, DEVICE_NONE, &dev);
	good = dev.kind == DEVICE_NONE;
	put(dir, "mmapper", "x");
	device_find(none, file("mmapper"), DEVICE_NONE, &dev);
	ok(good && dev.kind == DEVICE_FILE &&
	   strcmp(dev.path, file("mmapper")) == 0, "mmapper is found");
	mkdir(pci, 0700);
	put_device(pci, "0000:00:01.0", "0x8086\n", "0x1110\n", false);
	put_device(pci, "0000:00:02.0", "0x1af4\n", "0x1000\n", true);
	device_find(pci, none, DEVICE_NONE, &dev);
	good = dev.kind == DEVICE_NONE;
	put_device(pci, "0000:00:03.0", "0x1af4\n", "0x1110\n", false);
	device_find(pci, file("mmapper"), DEVICE_NONE, &dev);
	ok(good && dev.kind == DEVICE_PLAIN && strstr(dev.path, "00:03.0"),
	   "ivshmem-plain is found among others");
	put_device(pci, "0000:00:04.0", "0x1af4\n", "0x1110\n", true);
	put_device(pci, "0000:00:05.0", "0x1af4\n", "0x1110\n", false);
	device_find(pci, none, DEVICE_NONE, &dev);
	ok(dev.kind == DEVICE_DOORBELL && strstr(dev.path, "00:04.0"),
	   "ivshmem-doorbell comes before it");
	device_find(pci, none, DEVICE_PLAIN, &dev);
	ok(dev.kind == DEVICE_PLAIN && !strstr(dev.path, "00:04.0"),
	   "unless it is the plain one that is wanted");
}

/* --- what takes long ------------------------------------------------------ */

struct long_test {
	const char *path;
	pid_t daemon;
	uint64_t since_ms;
	bool good;
};

/* A guest that is killed leaves its channel, the only one there is. */
static void killed_begin(struct long_test *l)
{
	pid_t guest;

	l->path = strdup(file("killed"));
	make_file(l->path, SHM_HEADER_BYTES + sizeof(struct channel));
	l->daemon = shm_daemon(l->path, echo_daemon);
	guest = guest_at(l->path);
	l->good = l->daemon > 0 && guest > 0;
	end(guest, SIGKILL);
	l->since_ms = now_ms();
}

/* Random bytes everywhere, while runs come and go at the real daemon. */
static void fuzz_begin(struct long_test *l)
{
	unsigned int seed = 7;
	uint64_t until = now_ms() + FUZZ_MS;
	const pid_t parent = getpid();
	size_t size;
	uint8_t *shm;
	pid_t guests[4];

	l->path = strdup(file("fuzz"));
	l->daemon = shm_daemon(l->path, real_daemon);
	shm = map_file(l->path, &size);
	for (int i = 0; i < 4; i++) {
		guests[i] = fork();
		if (guests[i])
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (getppid() == parent) {
			struct transport t;

			if (reach(&t, l->path) == 0) {
				ask(&t);
				ask(&t);
			}
			transport_fini(&t);
		}
		_exit(0);
	}
	while (now_ms() < until) {
		/* The control words more often than their share of bytes. */
		for (int i = 0; i < 200; i++) {
			struct channel *ch = shm_channel(shm,
				(uint32_t)rand_r(&seed) % CHANNELS_MAX);
			uint8_t *at = i % 4 == 0 ? shm :
				      i % 4 == 1 ? (uint8_t *)ch :
				      i % 4 == 2 ? (uint8_t *)&ch->to_host :
				      shm + (size_t)rand_r(&seed) %
				      (size - 128);

			at[rand_r(&seed) % 128] = (uint8_t)rand_r(&seed);
		}
		/* Claims that look right, too. */
		for (uint32_t i = 0; i < 4; i++) {
			struct channel *ch = shm_channel(shm,
				(uint32_t)rand_r(&seed) % CHANNELS_MAX);

			ch->claim = ch->ready = (uint64_t)rand_r(&seed);
		}
		usleep(200);
	}
	for (int i = 0; i < 4; i++)
		end(guests[i], SIGKILL);
	munmap(shm, size);
	l->good = alive(l->daemon);
	l->since_ms = now_ms();
}

/* Nothing but garbage, of a guest that then leaves it there. */
static void garbage_begin(struct long_test *l)
{
	unsigned int seed = 3;
	struct transport t;
	size_t size;
	uint8_t *shm;

	l->path = strdup(file("garbage"));
	l->daemon = shm_daemon(l->path, real_daemon);
	shm = map_file(l->path, &size);
	for (size_t i = SHM_HEADER_BYTES; i < size; i++)
		shm[i] = (uint8_t)rand_r(&seed);
	nap(100);
	l->good = alive(l->daemon) && reach(&t, l->path) == -EBUSY;
	munmap(shm, size);
	l->since_ms = now_ms();
}

static bool long_end(struct long_test *l, bool (*look)(struct transport *))
{
	struct transport t;
	bool good;
	int err;

	while (now_ms() - l->since_ms < GIVEN_UP_MS)
		nap(50);
	err = reach_in(&t, l->path, 8000);
	good = l->good && alive(l->daemon) && err == 0 && look(&t);
	if (!good)
		printf("# begun well: %d, daemon alive: %d, connect: %s\n",
		       l->good, alive(l->daemon), strerror(-err));
	transport_fini(&t);
	end(l->daemon, SIGKILL);
	free((char *)(uintptr_t)l->path);
	return good;
}

static bool ping_once(struct transport *t)
{
	return ping(t, 1);
}

static void remove_all(const char *top)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", top);
	if (system(command) != 0)
		printf("# %s stays\n", top);
}

int main(void)
{
	struct long_test killed, fuzz, garbage;

	snprintf(dir, sizeof(dir), "%s/ds-shm.XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(dir))
		return 1;
	killed_begin(&killed);
	garbage_begin(&garbage);
	fuzz_begin(&fuzz);
	ok(fuzz.good, "random bytes do not end the daemon");
	test_ring();
	test_lies();
	test_scribbler();
	test_echo(file("echo"));
	test_half(file("half"));
	test_places(file("places"));
	test_ends(file("ends"));
	test_deaf_guest(file("deaf"));
	test_stopped_guest(file("stopped"));
	test_left_behind(file("left"));
	test_reboot(file("reboot"));
	test_twins(file("twins"));
	test_seal();
	test_device();
	test_plugged();
	ok(long_end(&killed, ping_once), "a killed guest's channel comes free");
	ok(long_end(&garbage, ask), "so do channels full of garbage");
	ok(long_end(&fuzz, ask), "after the random bytes all is well again");
	remove_all(dir);
	return tap_end();
}
