/* SPDX-License-Identifier: MIT */
/*
 * channel.c - sessions in a piece of memory that guest and host share
 *
 * Theory of operation. The memory holds a header, which is the daemon's, and
 * channels: places for one session each, with a ring for either direction.
 *
 *	guest: claim 0 -> nonce (compare and swap), boot id, ready = nonce
 *	daemon: rings emptied, served = nonce; a process for the session
 *	... messages ...
 *	guest: claim nonce -> 0, or its keeper does when it dies
 *	session: shadows ended; served = 0
 *	daemon, when process and shadows of the session have ended: served = 0
 *
 * Who owns a channel is the claim's to say on the guest side, and the table's,
 * which is no part of the shared memory, on the host side. A session ends when
 * its claim is not the word that it was; a channel can be had again when its
 * process has ended *and* its claim has changed. So neither side can find the
 * other's leftovers in a ring: rings are emptied between the two.
 *
 * served = 0 says more than that a session is over: no shadow of it is left,
 * and so nobody on the host touches frames of the guest any more. Until then
 * the guest's kernel must not use them for anything else, whoever dies in what
 * order. What keeps it from that are descriptors of run (guest/pins.h). So
 * every session has a *keeper* in the guest: a child of run that shares its
 * table of descriptors (CLONE_FILES), those made later included, and nothing
 * else; the table lives as long as either of them. When run ends, however it
 * does, the keeper gives back the channel, waits for served = 0, or for a new
 * daemon, and only then ends. A daemon that is killed alone leaves sessions
 * that notice it and clear served themselves. When both are killed the guest
 * hears nothing, and cannot tell that from a host side that is stopped with
 * shadows at work: the keeper waits for the next daemon, which begins when the
 * shadows of the one before have ended.
 *
 * Signs of life. The daemon advances the header's beat; it is the parent of
 * the processes of sessions, does nothing that could hang, and says by
 * served = 0 that one of them has ended: a session that waits for a slow
 * file server is not taken for dead. A daemon that died takes its sessions
 * with it (PR_SET_PDEATHSIG) and falls silent, and a new one has another
 * number in the header. The guest advances the beat of its channel, by its
 * keeper: run itself may be stopped (^Z) for as long as its user likes. Both
 * kinds of silence are measured as what the listener has seen of it: time in
 * which the listener was not running itself does not count, for the machine
 * may have been paused. A claim that comes with another boot id says that all
 * sessions of the boot before are over.
 *
 * The guest is hostile: of what it can write, the host uses rings (ring.c),
 * compares nonces, and looks whether beats change. What it writes into the
 * header and into the host's words is written over again, and never read by
 * the host. It can turn its own sessions into nonsense and its own channels
 * away, and no more.
 *
 * The memory must not shrink: whoever made it sees to that (shm.c).
 */
#include "wire/channel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/num.h"

#define LOOK_MS		250	/* a longer silence of our own counts so much */
#define HOST_SILENT_MS	3000	/* then the daemon is taken for dead */
#define HOST_ABSENT_MS	1000	/* the same, for one never met */
#define GUEST_SILENT_MS	30000
#define SERVED_MS	20000	/* a living daemon serves a claim in this time */
#define FULL_MS		5000	/* a guest may leave its ring full so long */
#define BEAT_MS		50
#define GUEST_BEAT_MS	500
#define KEEPER_LOOK_MS	200

_Static_assert(sizeof(struct shm_header) <= SHM_HEADER_BYTES, "header fits");
_Static_assert(sizeof(struct channel) % 64 == 0, "channels are cache lines");

/* How long has a counter stood still, as far as we were there to see? */
struct judge {
	uint64_t looked_ms;
	uint64_t silent_ms;
	uint32_t last;
};

/* One end of a session. */
struct end {
	struct shm_header *head;
	struct channel *ch;
	uint64_t nonce;
	struct ring_end in, out;
	struct judge judge;
	const uint32_t *evicted;	/* host: no guest can write it */

	/* the guest's */
	void *shm;			/* owned mapping; NULL: host */
	size_t size;
	uint64_t daemon;
	volatile uint32_t *bell;
	void *regs;			/* owned mapping of a page */
	uint32_t bell_value;
	int run_fd, keeper_fd;		/* owned: pidfds */
};

/* What the keeper inherits, and is to close when run has ended. */
struct kept_file {
	int fd;
	dev_t dev;
	ino_t ino;
};

#define KEEPER_FILES 64

struct keeper {
	int run;		/* a pidfd */
	struct kept_file files[KEEPER_FILES];
	size_t n;
};

/* --- shared words --------------------------------------------------------- */

static uint32_t get32(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static uint64_t get64(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void set32(uint32_t *p, uint32_t value)
{
	__atomic_store_n(p, value, __ATOMIC_RELEASE);
}

static void set64(uint64_t *p, uint64_t value)
{
	__atomic_store_n(p, value, __ATOMIC_RELEASE);
}

static bool swap64(uint64_t *p, uint64_t from, uint64_t to)
{
	return __atomic_compare_exchange_n(p, &from, to, false,
					   __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static void judge_init(struct judge *j, uint32_t beat)
{
	*j = (struct judge){ .looked_ms = now_ms(), .last = beat };
}

static bool judge_silent(struct judge *j, uint32_t beat, uint64_t limit_ms)
{
	uint64_t now = now_ms();

	j->silent_ms += min_u64(now - j->looked_ms, LOOK_MS);
	j->looked_ms = now;
	if (beat != j->last)
		j->silent_ms = 0;
	j->last = beat;
	return j->silent_ms >= limit_ms;
}

static int new_nonce(uint64_t *nonce)
{
	*nonce = 0;
	while (*nonce == 0)
		if (getrandom(nonce, sizeof(*nonce), 0) !=
		    (ssize_t)sizeof(*nonce))
			return -EIO;
	return 0;
}

uint32_t shm_channels(uint64_t bytes)
{
	if (bytes < SHM_HEADER_BYTES)
		return 0;
	return (uint32_t)min_u64((bytes - SHM_HEADER_BYTES) /
				 sizeof(struct channel), CHANNELS_MAX);
}

static uint64_t used_by(uint32_t channels)
{
	return SHM_HEADER_BYTES + channels * sizeof(struct channel);
}

uint64_t shm_bytes(uint64_t window)
{
	uint64_t bytes = SHM_DEFAULT;

	while (bytes && bytes - page_up(used_by(CHANNELS_MAX)) < window)
		bytes <<= 1;
	return bytes;
}

/* --- both ends ------------------------------------------------------------ */

static bool is_host(const struct end *e)
{
	return e->shm == NULL;
}

/* Is this another daemon, or another session in our place? */
static bool replaced(const struct end *e)
{
	uint64_t served = get64(&e->ch->served);

	return get64(&e->head->daemon) != e->daemon ||
	       (served != 0 && served != e->nonce);
}

static bool peer_gone(struct end *e)
{
	if (is_host(e))
		return get32(e->evicted) || get64(&e->ch->claim) != e->nonce ||
		       judge_silent(&e->judge, get32(&e->ch->beat),
				    GUEST_SILENT_MS);
	return get64(&e->head->daemon) != e->daemon ||
	       get64(&e->ch->served) != e->nonce ||
	       judge_silent(&e->judge, get32(&e->head->beat), HOST_SILENT_MS);
}

static void ring_bell(const struct end *e)
{
	if (!e->bell)
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	*e->bell = e->bell_value;
}

bool channel_pending(struct transport *t)
{
	struct end *e = t->priv;

	return ring_waits(&e->in) || peer_gone(e);
}

void channel_beat(struct transport *t)
{
	struct end *e = t->priv;

	if (!is_host(e) && get64(&e->ch->claim) == e->nonce)
		__atomic_fetch_add(&e->ch->beat, 1, __ATOMIC_RELAXED);
}

ssize_t channel_send(struct transport *t, const struct msg *msg, int fd)
{
	const uint64_t until = now_ms() + FULL_MS;
	struct end *e = t->priv;

	if (fd >= 0)
		return -EOPNOTSUPP;
	for (;;) {
		int err;

		if (peer_gone(e))
			return -EPIPE;
		err = ring_put(&e->out, msg);
		if (!err)
			break;
		if (err != -EAGAIN)
			return err;
		/* The guest waits for as long as its daemon lives. */
		if (is_host(e) && now_ms() >= until)
			return -EPIPE;
		(void)wait_fds(-1, -1, backoff_step(&t->backoff));
	}
	backoff_active(&t->backoff);
	channel_beat(t);
	ring_bell(e);
	return (ssize_t)msg->len;
}

ssize_t channel_recv(struct transport *t, struct msg *msg, int *fd)
{
	struct end *e = t->priv;

	*fd = -1;
	for (;;) {
		/* This first: what was sent before the end is yet taken. */
		bool gone = peer_gone(e);
		ssize_t n = ring_take(&e->in, msg);
		int err;

		if (is_host(e) ? get32(e->evicted) : replaced(e))
			return 0;
		if (n != -EAGAIN)
			return n;
		if (gone)
			return 0;
		channel_beat(t);
		err = transport_wait(t, -1);
		if (err < 0)
			return err;
	}
}

/* --- the keeper ----------------------------------------------------------- */

/* As long as the host side may touch frames of our targets. */
static bool let_go(const struct end *e)
{
	return get64(&e->head->daemon) != e->daemon ||
	       get64(&e->ch->served) != e->nonce;
}

bool channel_settled(struct transport *t)
{
	return let_go(t->priv);
}

/* The channel is given back: our side of the session is over. */
static void leave(struct end *e)
{
	swap64(&e->ch->ready, e->nonce, 0);
	swap64(&e->ch->claim, e->nonce, 0);
	ring_bell(e);
}

static void note_files(struct keeper *k)
{
	const struct dirent *entry;
	DIR *d = opendir("/proc/self/fd");
	struct stat st;

	while (d && (entry = readdir(d)) && k->n < KEEPER_FILES) {
		int fd = atoi(entry->d_name);

		if (entry->d_name[0] == '.' || fd == dirfd(d) ||
		    fstat(fd, &st) < 0)
			continue;
		k->files[k->n++] = (struct kept_file){ fd, st.st_dev,
						       st.st_ino };
	}
	if (d)
		closedir(d);
}

/* Others wait for the end of what was run's alone to keep open. */
static void close_files(const struct keeper *k)
{
	for (size_t i = 0; i < k->n; i++) {
		const struct kept_file *f = &k->files[i];
		struct stat st;

		if (fstat(f->fd, &st) == 0 && st.st_dev == f->dev &&
		    st.st_ino == f->ino)
			close(f->fd);
	}
}

static _Noreturn void keep(struct end *e, const struct keeper *k)
{
	struct pollfd p = { .fd = k->run, .events = POLLIN };
	sigset_t all;

	prctl(PR_SET_NAME, "darkshadow-keep");
	/* Neither the terminal's signals nor anybody's are for us. */
	setsid();
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	while (poll(&p, 1, GUEST_BEAT_MS) <= 0)
		if (get64(&e->ch->claim) == e->nonce)
			__atomic_fetch_add(&e->ch->beat, 1, __ATOMIC_RELAXED);
	close_files(k);
	leave(e);
	for (int ms = 1; !let_go(e); ms = ms < KEEPER_LOOK_MS ? 2 * ms : ms)
		(void)poll(NULL, 0, ms);
	_exit(0);
}

static int start_keeper(struct end *e)
{
	struct keeper k = { .n = 0 };
	pid_t pid;

	k.run = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (k.run < 0)
		return -errno;
	note_files(&k);
	e->run_fd = k.run;
	pid = (pid_t)syscall(SYS_clone, CLONE_FILES | CLONE_PIDFD | SIGCHLD,
			     NULL, &e->keeper_fd, NULL, NULL);
	if (pid == 0)
		keep(e, &k);
	if (pid < 0) {
		close_fd(&e->run_fd);
		return -errno;
	}
	return 0;
}

static void end_keeper(struct end *e)
{
	/* By descriptor: who waits for any child may have taken its end. */
	if (e->keeper_fd >= 0) {
		syscall(SYS_pidfd_send_signal, e->keeper_fd, SIGKILL, NULL, 0);
		waitid(P_PIDFD, (id_t)e->keeper_fd, NULL, WEXITED);
	}
	close_fd(&e->keeper_fd);
	close_fd(&e->run_fd);
}

static void end_free(struct end *e)
{
	if (e->regs)
		munmap(e->regs, PAGE_BYTES);
	if (e->shm)
		munmap(e->shm, e->size);
	free(e);
}

void channel_close(struct transport *t)
{
	struct end *e = t->priv;

	close_fd(&t->fd);
	if (is_host(e)) {
		/* All has been let go. Our parent says so, too, when we have
		 * ended; but it may not be there any more. */
		swap64(&e->ch->served, e->nonce, 0);
		free(e);
		return;
	}
	leave(e);
	if (!t->keep || channel_settled(t))
		end_keeper(e);
	end_free(e);
}

/* --- the guest's end ------------------------------------------------------ */

/* Any two words that are others after a reboot. */
static void boot_id(uint64_t boot[2])
{
	char *text cleanup_free = NULL;
	int digits = 0;

	boot[0] = boot[1] = 0;
	if (fd_read_all("/proc/sys/kernel/random/boot_id", 256, &text) < 0)
		return;
	for (const char *p = text; *p && digits < 32; p++) {
		unsigned int digit;

		if (sscanf((char[]){ *p, '\0' }, "%1x", &digit) != 1)
			continue;
		boot[digits / 16] = boot[digits / 16] << 4 | digit;
		digits++;
	}
}

/* The header is the host's, which we have to trust, but it may not be there. */
static int check_header(struct end *e, uint32_t *channels)
{
	if (get64(&e->head->magic) != SHM_MAGIC)
		return -EAGAIN;
	if (get32(&e->head->version) != SHM_VERSION)
		return -EPROTO;
	e->daemon = get64(&e->head->daemon);
	if (!e->daemon)
		return -EAGAIN;
	*channels = get32(&e->head->channels);
	if (*channels > shm_channels(e->size))
		return -EPROTO;
	judge_init(&e->judge, get32(&e->head->beat));
	return 0;
}

static int claim_channel(struct end *e, uint32_t channels, uint32_t *index)
{
	for (uint32_t i = 0; i < channels; i++) {
		struct channel *ch = shm_channel(e->shm, i);

		if (get64(&ch->claim) != 0 || !swap64(&ch->claim, 0, e->nonce))
			continue;
		e->ch = ch;
		*index = i;
		boot_id(ch->boot);
		set64(&ch->ready, e->nonce);
		return 0;
	}
	return -EBUSY;
}

/* Until the daemon says that our claim is served. */
static int await_service(struct end *e, struct backoff *b)
{
	const uint64_t until = now_ms() + SERVED_MS;

	for (;;) {
		if (get64(&e->ch->served) == e->nonce)
			return 0;
		if (get64(&e->ch->refused) == e->nonce)
			return -EBUSY;
		/* A daemon that starts resets what is there. */
		if (get64(&e->head->daemon) != e->daemon ||
		    get64(&e->ch->claim) != e->nonce || now_ms() >= until ||
		    judge_silent(&e->judge, get32(&e->head->beat),
				 HOST_ABSENT_MS))
			return -EAGAIN;
		__atomic_fetch_add(&e->ch->beat, 1, __ATOMIC_RELAXED);
		(void)wait_fds(-1, -1, backoff_step(b));
	}
}

static int bell_of(const struct end *e, uint32_t which, uint32_t *value)
{
	uint32_t peer = get32(&e->head->doorbell);

	if (!peer || peer + which > UINT16_MAX)
		return -EAGAIN;
	*value = (peer + which) << 16;
	return 0;
}

static int get_served(struct end *e, struct backoff *b)
{
	uint32_t channels, index = 0, value = 0;
	int err = check_header(e, &channels);

	if (!err && e->bell)
		err = bell_of(e, 0, &value);
	if (!err)
		err = new_nonce(&e->nonce);
	if (!err)
		err = claim_channel(e, channels, &index);
	if (err)
		return err;
	if (e->bell) {
		e->bell_value = value;
		ring_bell(e);
		(void)bell_of(e, 1 + index % (BELLS - 1), &e->bell_value);
	}
	err = await_service(e, b);
	if (!err)
		err = start_keeper(e);
	if (err)
		leave(e);
	return err;
}

int channel_connect(struct transport *t, const struct transport_ops *ops,
		    void *shm, size_t size, void *regs,
		    volatile uint32_t *bell)
{
	struct end *e = calloc(1, sizeof(*e));
	int err;

	if (!e)
		return -ENOMEM;
	*e = (struct end){ .head = shm, .shm = shm, .size = size,
			   .bell = bell, .run_fd = -1,
			   .keeper_fd = -1 };
	backoff_init(&t->backoff, 2 * NS_PER_MS, 2 * NS_PER_MS);
	err = size < SHM_HEADER_BYTES ? -EAGAIN : get_served(e, &t->backoff);
	if (err) {
		free(e);
		return err;
	}
	e->regs = regs;
	ring_open(&e->in, &e->ch->to_guest);
	ring_open(&e->out, &e->ch->to_host);
	t->ops = ops;
	t->priv = e;
	t->fd = -1;
	t->carries_fds = false;
	return 0;
}

/* --- the host's table ----------------------------------------------------- */

enum place_state {
	PLACE_IDLE,
	PLACE_CLAIMED,		/* and not ready yet */
	PLACE_SERVED,
	PLACE_LEAVING,		/* its process has ended, its shadows not */
	PLACE_ENDED,		/* on our side: the claim has to go */
};

struct place {
	enum place_state state;
	uint64_t nonce;		/* the claim, where there is one */
	uint64_t boot[2];
	pid_t pid;		/* of the session; 0: not known yet, -1: none */
	struct judge judge;
};

struct table {
	void *shm;		/* owned mapping, or NULL */
	size_t size;
	uint32_t channels;
	uint64_t daemon;
	uint32_t beat;
	uint64_t beat_ms;
	uint32_t doorbell;
	const int *bells;
	int ram_fd;		/* borrowed, or -1 */
	uint32_t *evicted;	/* shared with our children, CHANNELS_MAX */
	struct place places[CHANNELS_MAX];
};

/* All of it again and again: the guest may have written there. */
static void publish(struct table *tb)
{
	struct shm_header *h = tb->shm;

	set32(&h->version, SHM_VERSION);
	set32(&h->channels, tb->channels);
	set64(&h->used, used_by(tb->channels));
	set32(&h->doorbell, tb->doorbell);
	set32(&h->beat, ++tb->beat);
	set64(&h->magic, SHM_MAGIC);
	set64(&h->daemon, tb->daemon);
	tb->beat_ms = now_ms();
}

/*
 * Shadows map the guest's memory through an open file of their daemon's. A
 * lock that belongs to that open file (F_OFD_SETLK) lasts until the last of
 * them is no more, mappings included, whoever was killed in what order. Which
 * byte of it is locked says which daemon's they are.
 */
static struct flock mark_of(uint64_t daemon, short type)
{
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET,
			       .l_start = (off_t)(daemon >> 2), .l_len = 1 };
}

static int set_mark(const struct table *tb)
{
	struct flock mark = mark_of(tb->daemon, F_RDLCK);

	return tb->ram_fd >= 0 && fcntl(tb->ram_fd, F_OFD_SETLK, &mark) < 0 ?
	       -errno : 0;
}

static bool is_marked(const struct table *tb, uint64_t daemon)
{
	struct flock mark = mark_of(daemon, F_WRLCK);

	return tb->ram_fd >= 0 && daemon != tb->daemon &&
	       fcntl(tb->ram_fd, F_OFD_GETLK, &mark) == 0 &&
	       mark.l_type != F_UNLCK;
}

int table_new(struct table **out, const int *bells, int ram_fd)
{
	struct table *tb = calloc(1, sizeof(*tb));
	int err;

	if (!tb)
		return -ENOMEM;
	err = new_nonce(&tb->daemon);
	tb->ram_fd = ram_fd;
	if (!err)
		err = set_mark(tb);
	tb->bells = bells;
	tb->evicted = mmap(NULL, CHANNELS_MAX * sizeof(*tb->evicted),
			   PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			   -1, 0);
	if (tb->evicted == MAP_FAILED)
		err = -ENOMEM;
	if (err) {
		free(tb);
		return err;
	}
	*out = tb;
	return 0;
}

void table_evict(struct table *tb)
{
	for (uint32_t i = 0; i < CHANNELS_MAX; i++)
		set32(&tb->evicted[i], 1);
}

static bool table_busy(const struct table *tb)
{
	for (uint32_t i = 0; i < tb->channels; i++)
		if (tb->places[i].state == PLACE_SERVED ||
		    tb->places[i].state == PLACE_LEAVING)
			return true;
	return false;
}

int table_attach(struct table *tb, void *shm, size_t size)
{
	uint32_t channels = shm_channels(size);
	struct shm_header *h = shm;

	if (channels == 0 || channels < tb->channels)
		return -ENOSPC;
	/* The guest may have written there: then it waits, or loses. */
	if (is_marked(tb, get64(&h->daemon)))
		return -EINPROGRESS;
	table_evict(tb);
	if (tb->shm) {
		if (!table_busy(tb))
			set64(&((struct shm_header *)tb->shm)->daemon, 0);
		munmap(tb->shm, tb->size);
	}
	/* Whoever served here before: its guests see that it is over. */
	set64(&h->daemon, 0);
	for (uint32_t i = 0; i < channels; i++) {
		struct channel *ch = shm_channel(shm, i);

		set64(&ch->served, 0);
		set64(&ch->refused, 0);
		set64(&ch->ready, 0);
		set64(&ch->claim, 0);
	}
	tb->shm = shm;
	tb->size = size;
	tb->channels = channels;
	publish(tb);
	return 0;
}

void table_room(const struct table *tb, uint64_t *start, uint64_t *end)
{
	*start = page_up(used_by(tb->channels));
	*end = page_down(tb->size);
}

void table_doorbell(struct table *tb, uint32_t peer)
{
	tb->doorbell = peer;
	publish(tb);
}

/* The claim is dead, and nobody serves it: the channel can be had again. */
static void take_away(struct channel *ch, struct place *p)
{
	swap64(&ch->claim, p->nonce, 0);
	p->state = PLACE_IDLE;
}

static void place_end(struct table *tb, uint32_t i)
{
	struct channel *ch = shm_channel(tb->shm, i);
	struct place *p = &tb->places[i];

	p->state = PLACE_ENDED;
	p->pid = -1;
	set64(&ch->served, 0);
	/* Nobody is left in a machine that is gone to take it back. */
	if (get32(&tb->evicted[i]))
		take_away(ch, p);
}

/*
 * Its process has ended: of itself, when all its shadows had; or it was
 * killed, and they with it, which takes them a moment. They are of its process
 * group, and our children now.
 */
static void place_leave(struct table *tb, uint32_t i)
{
	struct place *p = &tb->places[i];
	pid_t got;

	p->state = PLACE_LEAVING;
	do
		got = waitpid(-p->pid, NULL, WNOHANG | __WALL);
	while (got > 0);
	if (got < 0)
		place_end(tb, i);
}

static bool place_look(struct table *tb, uint32_t i)
{
	struct channel *ch = shm_channel(tb->shm, i);
	struct place *p = &tb->places[i];
	uint64_t claim = get64(&ch->claim);

	switch (p->state) {
	case PLACE_LEAVING:
		place_leave(tb, i);
		return false;
	case PLACE_SERVED:
		/* Judged all the time: its end is not the first we hear. */
		(void)judge_silent(&p->judge, get32(&ch->beat),
				   GUEST_SILENT_MS);
		return false;
	case PLACE_ENDED:
	case PLACE_CLAIMED:
		if (claim != p->nonce)
			p->state = PLACE_IDLE;
		else if (p->state == PLACE_CLAIMED &&
			 get64(&ch->ready) == claim)
			return true;
		else if (judge_silent(&p->judge, get32(&ch->beat),
				      GUEST_SILENT_MS))
			take_away(ch, p);
		if (p->state != PLACE_IDLE)
			return false;
		claim = get64(&ch->claim);
		break;
	case PLACE_IDLE:
		break;
	}
	if (claim == 0)
		return false;
	p->state = PLACE_CLAIMED;
	p->nonce = claim;
	judge_init(&p->judge, get32(&ch->beat));
	return get64(&ch->ready) == claim;
}

bool table_look(struct table *tb)
{
	bool any = false;

	if (!tb->shm)
		return false;
	if (now_ms() - tb->beat_ms >= BEAT_MS)
		publish(tb);
	for (uint32_t i = 0; i < tb->channels; i++)
		any = place_look(tb, i) || any;
	return any;
}

/* A guest that has booted anew has no use for its old sessions. */
static void evict_boots_before(struct table *tb, const uint64_t boot[2])
{
	for (uint32_t i = 0; i < CHANNELS_MAX; i++)
		if (tb->places[i].state == PLACE_SERVED &&
		    memcmp(tb->places[i].boot, boot, sizeof(uint64_t[2])) != 0)
			set32(&tb->evicted[i], 1);
}

static int open_bell(const struct table *tb, uint32_t i, int *out)
{
	int fd cleanup_fd = epoll_create1(EPOLL_CLOEXEC);
	/* By edge: others wait for the same one, and nobody has to read it. */
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };

	if (fd < 0 || epoll_ctl(fd, EPOLL_CTL_ADD,
				tb->bells[1 + i % (BELLS - 1)], &ev) < 0)
		return -errno;
	*out = steal_fd(&fd);
	return 0;
}

static int accept_place(struct table *tb, uint32_t i, struct transport *t)
{
	const uint64_t longest = tb->bells ? 100 * NS_PER_MS : 0;
	struct channel *ch = shm_channel(tb->shm, i);
	struct place *p = &tb->places[i];
	struct end *e = calloc(1, sizeof(*e));
	int err = e ? 0 : -ENOMEM;

	if (!err && tb->bells)
		err = open_bell(tb, i, &t->fd);
	if (err) {
		free(e);
		set64(&ch->refused, p->nonce);
		p->state = PLACE_ENDED;
		return err;
	}
	p->boot[0] = get64(&ch->boot[0]);
	p->boot[1] = get64(&ch->boot[1]);
	evict_boots_before(tb, p->boot);
	set32(&tb->evicted[i], 0);
	p->state = PLACE_SERVED;
	p->pid = 0;
	*e = (struct end){ .head = tb->shm, .ch = ch, .nonce = p->nonce,
			   .evicted = &tb->evicted[i], .run_fd = -1,
			   .keeper_fd = -1 };
	judge_init(&e->judge, get32(&ch->beat));
	ring_init(&ch->to_host);
	ring_init(&ch->to_guest);
	ring_open(&e->in, &ch->to_host);
	ring_open(&e->out, &ch->to_guest);
	backoff_init(&t->backoff, longest ? longest : 2 * NS_PER_MS,
		     longest ? longest : 10 * NS_PER_MS);
	t->priv = e;
	return 0;
}

int table_accept(struct table *tb, const struct transport_ops *ops,
		 struct transport *t)
{
	for (uint32_t i = 0; tb->shm && i < tb->channels; i++) {
		struct channel *ch = shm_channel(tb->shm, i);

		if (tb->places[i].state != PLACE_CLAIMED ||
		    get64(&ch->ready) != tb->places[i].nonce)
			continue;
		t->ops = ops;
		return accept_place(tb, i, t);
	}
	return -EAGAIN;
}

void table_handed(struct table *tb, struct transport *t, pid_t pid)
{
	struct end *e = t->priv;

	for (uint32_t i = 0; i < tb->channels; i++) {
		struct channel *ch = shm_channel(tb->shm, i);
		struct place *p = &tb->places[i];

		if (ch != e->ch)
			continue;
		if (pid > 0) {
			p->pid = pid;
			set64(&ch->served, p->nonce);
		} else {
			set64(&ch->refused, p->nonce);
			place_end(tb, i);
		}
	}
	close_fd(&t->fd);
	free(e);
}

void table_ended(struct table *tb, pid_t pid)
{
	for (uint32_t i = 0; i < tb->channels; i++)
		if (tb->places[i].state == PLACE_SERVED &&
		    tb->places[i].pid == pid)
			place_leave(tb, i);
}

void table_ram(struct table *tb, int ram_fd)
{
	tb->ram_fd = ram_fd;
	(void)set_mark(tb);
}

void table_leave(struct table *tb)
{
	/* The mappings stay: the session's end is in them. */
	free(tb);
}

void table_free(struct table *tb)
{
	table_evict(tb);
	if (tb->shm) {
		/* A session that is still there is to speak for itself. */
		if (!table_busy(tb))
			set64(&((struct shm_header *)tb->shm)->daemon, 0);
		munmap(tb->shm, tb->size);
	}
	munmap(tb->evicted, CHANNELS_MAX * sizeof(*tb->evicted));
	free(tb);
}
