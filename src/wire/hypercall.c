/* SPDX-License-Identifier: MIT */
/*
 * hypercall.c - shm with a doorbell: QEMU's ivshmem-doorbell, and its server
 *
 * Theory of operation. channel.c does the work; this is the doorbell. QEMU
 *
 *	-chardev socket,path=PATH,id=ds,server=on,wait=on
 *	-device ivshmem-doorbell,vectors=1,chardev=ds
 *
 * is a client of the ivshmem protocol (QEMU's docs/specs/ivshmem-spec.txt),
 * whoever of us two listens: we send int64 little-endian numbers, some with a
 * descriptor: version 0; the VM's id, 0; -1 with the memory; then the id of
 * each peer with its eventfd; then the VM's own id with an eventfd, for
 * interrupts, of which we make no use. The peers are all us: BELLS of them, so
 * that a session is seldom woken for another one. The guest stores peer << 16
 * to the register, QEMU (or KVM for it) signals the eventfd.
 *
 * Who listens decides about the order of starting. When QEMU does, and waits,
 * we connect whenever it is there, and again when either was started anew.
 * When we do, we have to be there first, and QEMU does not come back to a
 * daemon that was started anew: reconnect= is of no use, for QEMU (7.2) then
 * waits for our first words in a loop that keeps it from connecting.
 *
 * Nobody reads these eventfds: who waits has an epoll of its own on one, by
 * edge. So a bell may be heard by the daemon and by any number of sessions.
 *
 * QEMU never reads more than it likes, so what we have to say is kept as the
 * number of the next message and sent as the socket takes it. One VM at a
 * time: a second one is turned away.
 *
 * What QEMU was given once it keeps: it takes no second memory, and the
 * eventfds of a peer cannot be replaced (and QEMU 7.2 uses freed memory when a
 * peer that was said to have gone comes back under its number). So a daemon
 * that is started anew takes over the memory that it finds in QEMU, through
 * /proc/PID/fd, and offers its bells under numbers that were not used before;
 * where it starts to count is in the header. A lock on the memory tells
 * whether another daemon lives that serves there: it is of an open file that
 * neither QEMU nor a mapping has, for they would hold it, too.
 *
 * The memory is a memfd that is sealed against shrinking.
 */
#include "wire/hypercall.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/num.h"
#include "wire/channel.h"
#include "wire/device.h"
#include "wire/loopback.h"

#define BEAT_MAX_NS	(50 * NS_PER_MS)	/* the daemon wakes for its beat */
#define VISIT_NS	(200 * NS_PER_MS)
#define CONNECT		"connect="	/* QEMU listens */
#define MEMFD_NAME	"darkshadow-doorbell"
#define VM_ID		0
#define PEER_FIRST	1u
#define PEER_LAST	60000u		/* QEMU's are 16 bits */

/* --- the guest ------------------------------------------------------------ */

static int find_device(const char *args, char dir[PATH_MAX])
{
	struct device dev;

	if (args) {
		if (strlen(args) >= PATH_MAX)
			return -ENAMETOOLONG;
		memcpy(dir, args, strlen(args) + 1);
		return 0;
	}
	device_find(DEVICE_PCI, "", DEVICE_DOORBELL, &dev);
	if (dev.kind == DEVICE_NONE)
		return -ENODEV;
	memcpy(dir, dev.path, PATH_MAX);
	return 0;
}

static int hypercall_connect(struct transport *t, const char *args)
{
	char dir[PATH_MAX], path[PATH_MAX + 16];
	volatile uint32_t *bell;
	void *shm, *page;
	size_t size;
	int err = find_device(args, dir);

	if (err)
		return err;
	snprintf(path, sizeof(path), "%s/resource2", dir);
	err = device_map(path, &shm, &size);
	if (err)
		return err;
	err = device_map_bell(dir, &page, &bell);
	if (!err) {
		err = channel_connect(t, &hypercall_ops, shm, size, page, bell);
		if (err)
			munmap(page, PAGE_BYTES);
	}
	if (err)
		munmap(shm, size);
	else
		t->memory = strdup(path);
	return err;
}

/* --- the memory ----------------------------------------------------------- */

struct server {
	struct table *table;
	char *path;		/* of the socket */
	int epoll_fd;		/* of listen_fd, conn and bells[0] */
	int listen_fd;		/* -1: QEMU listens */
	uint64_t tried_ns;	/* to connect to it */
	bool warned;
	int mem_fd;		/* locked */
	int vm_mem_fd;		/* the same memory, for the VM */
	int bells[BELLS];
	int irq;		/* an eventfd for the VM itself */
	uint32_t peer;		/* of bells[0] */

	int conn;		/* the VM that is connected, or -1 */
	bool knows;		/* it has our memory from before */
	unsigned int next;	/* message to send */
};

static int make_memory(uint64_t window, int *out)
{
	const uint64_t bytes = shm_bytes(window);
	int fd cleanup_fd = memfd_create(MEMFD_NAME,
					 MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (!bytes || bytes > INT64_MAX)
		return -EFBIG;
	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return -errno;
	*out = steal_fd(&fd);
	return 0;
}

/*
 * Serve in this memory from now on; the descriptor is taken over.
 * -EADDRINUSE: another daemon does.
 */
static int use_memory(struct server *s, int fd)
{
	struct stat st;
	int again;
	void *shm;
	int err;

	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	/* Neither the VM nor the mappings of dying sessions hold the lock. */
	again = fd_reopen(fd, O_RDWR);
	if (again < 0)
		return again;
	shm = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE,
		   MAP_SHARED, again, 0);
	err = shm == MAP_FAILED ? -errno :
	      table_attach(s->table, shm, (size_t)st.st_size);
	if (err) {
		if (shm != MAP_FAILED)
			munmap(shm, (size_t)st.st_size);
		close(again);
		return err;
	}
	close_fd(&s->mem_fd);
	close_fd(&s->vm_mem_fd);
	s->mem_fd = fd;
	s->vm_mem_fd = again;
	return 0;
}

static bool is_memory(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	return seals >= 0 && (seals & F_SEAL_SHRINK) && fstat(fd, &st) == 0 &&
	       (uint64_t)st.st_size >= SHM_DEFAULT;
}

/* What an earlier daemon gave to this process: a descriptor, or -1. */
static int memory_of(pid_t pid)
{
	char dir[64], path[80 + NAME_MAX], link[64];
	const struct dirent *entry;
	int found = -1;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", pid);
	d = opendir(dir);
	while (d && found < 0 && (entry = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), entry->d_name, link,
				       sizeof(link) - 1);

		if (n < 0)
			continue;
		link[n] = '\0';
		if (strcmp(link, "/memfd:" MEMFD_NAME " (deleted)") != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		found = open(path, O_RDWR | O_CLOEXEC);
		if (found >= 0 && !is_memory(found))
			close_fd(&found);
	}
	if (d)
		closedir(d);
	return found;
}

static bool same_file(int a, int b)
{
	struct stat sa, sb;

	return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 &&
	       sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

/* --- the VM --------------------------------------------------------------- */

/*
 * Message n of what a VM is told; false: that was all. To one that has been
 * told the rest before, only our peers are news.
 */
static bool message(const struct server *s, unsigned int n, int64_t *value,
		    int *fd)
{
	*fd = -1;
	if (s->knows)
		n += 3;
	switch (n) {
	case 0:			/* the version of the protocol */
		*value = 0;
		return true;
	case 1:
		*value = VM_ID;
		return true;
	case 2:
		*value = -1;
		*fd = s->vm_mem_fd;
		return true;
	}
	n -= 3;
	if (n < BELLS) {
		*value = s->peer + n;
		*fd = s->bells[n];
	} else {
		*value = VM_ID;
		*fd = s->irq;
	}
	return n < BELLS || (n == BELLS && !s->knows);
}

static void drop_vm(struct server *s)
{
	/* By name: a child that was just forked may keep it open. */
	if (s->conn >= 0)
		epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, s->conn, NULL);
	close_fd(&s->conn);
}

/* As much as the socket takes. */
static void talk(struct server *s)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP,
				  .data.fd = s->conn };
	int64_t value;
	int fd;

	while (message(s, s->next, &value, &fd)) {
		ssize_t n = fd_send(s->conn, &value, sizeof(value), &fd,
				    fd >= 0 ? 1 : 0);

		if (n == -EAGAIN) {
			ev.events |= EPOLLOUT;
			break;
		}
		/* Half a number, or nobody there: it will come back. */
		if (n != (ssize_t)sizeof(value)) {
			drop_vm(s);
			return;
		}
		s->next++;
	}
	if (epoll_ctl(s->epoll_fd, EPOLL_CTL_MOD, s->conn, &ev) < 0)
		drop_vm(s);
}

static bool vm_is_there(const struct server *s)
{
	char c;

	return s->conn >= 0 &&
	       recv(s->conn, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
	       errno == EAGAIN;
}

/*
 * A VM that has our memory goes on; with that of an earlier daemon, we go on
 * with that; one that has none is newly started.
 */
static int settle_memory(struct server *s, int conn)
{
	struct ucred peer = { .pid = 0 };
	socklen_t len = sizeof(peer);
	int fd cleanup_fd = -1;
	uint32_t before = 0;
	int err;

	if (getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	    peer.pid > 0)
		fd = memory_of(peer.pid);
	s->knows = fd >= 0;
	if (fd < 0) {
		table_evict(s->table);
	} else if (!same_file(fd, s->mem_fd)) {
		/* The guest may have written there: any number will do. */
		if (pread(fd, &before, sizeof(before),
			  offsetof(struct shm_header, doorbell)) !=
		    (ssize_t)sizeof(before))
			before = 0;
		err = use_memory(s, fd);
		if (err)
			return err;
		steal_fd(&fd);
		s->peer = before;
	}
	s->peer += BELLS;
	if (s->peer < PEER_FIRST || s->peer > PEER_LAST)
		s->peer = PEER_FIRST;
	table_doorbell(s->table, s->peer);
	return 0;
}

/* A VM is connected; the descriptor is taken over. */
static int greet(struct server *s, int conn)
{
	int fd cleanup_fd = conn;
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };
	int err;

	drop_vm(s);
	err = settle_memory(s, fd);
	if (!err && epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		err = -errno;
	if (err)
		return err;
	s->conn = steal_fd(&fd);
	s->next = 0;
	s->warned = false;
	talk(s);
	return 0;
}

/* Once for each time that it begins. */
static void warn(struct server *s, const char *what)
{
	if (!s->warned)
		log_warn("the VM at %s is not served: %s", s->path, what);
	s->warned = true;
}

static void welcome(struct server *s)
{
	int fd = accept4(s->listen_fd, NULL, NULL,
			 SOCK_CLOEXEC | SOCK_NONBLOCK);
	int err;

	if (fd < 0)
		return;
	if (vm_is_there(s)) {
		log_warn("a second VM at %s is turned away: start a daemon"
			 " for each", s->path);
		close(fd);
		return;
	}
	err = greet(s, fd);
	if (err)
		warn(s, strerror(-err));
}

/* 0; -EAGAIN: no VM is there now; -errno */
static int visit(struct server *s)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd cleanup_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC |
				   SOCK_NONBLOCK, 0);

	s->tried_ns = now_ns();
	if (strlen(s->path) >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, s->path, strlen(s->path));
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return errno == ENOENT || errno == ECONNREFUSED ? -EAGAIN :
								  -errno;
	return greet(s, steal_fd(&fd));
}

static void visit_again(struct server *s)
{
	int err;

	if (s->listen_fd >= 0 || s->conn >= 0 ||
	    now_ns() - s->tried_ns < VISIT_NS)
		return;
	err = visit(s);
	if (err && err != -EAGAIN)
		warn(s, err == -EADDRINUSE ? "another daemon does" :
			err == -EINPROGRESS ? "shadows of an earlier daemon"
					      " have yet to end" :
					      strerror(-err));
}

/* It has nothing to tell us: it goes, or there is room to talk again. */
static void hear(struct server *s, uint32_t events)
{
	char buf[64];
	ssize_t n = -1;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP))
		n = recv(s->conn, buf, sizeof(buf), MSG_DONTWAIT);
	if (n == 0 || (n < 0 && (events & (EPOLLHUP | EPOLLERR))))
		drop_vm(s);
	else if (events & EPOLLOUT)
		talk(s);
}

/* --- the listener --------------------------------------------------------- */

static void server_free(struct server *s)
{
	close_fd(&s->epoll_fd);
	close_fd(&s->listen_fd);
	close_fd(&s->conn);
	close_fd(&s->mem_fd);
	close_fd(&s->vm_mem_fd);
	close_fd(&s->irq);
	for (size_t i = 0; i < BELLS; i++)
		close_fd(&s->bells[i]);
	free(s->path);
	free(s);
}

static struct server *server_alloc(const char *path)
{
	struct server *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->epoll_fd = s->listen_fd = s->irq = s->conn = -1;
	s->mem_fd = s->vm_mem_fd = -1;
	memset(s->bells, 0xff, sizeof(s->bells));
	s->path = strdup(path);
	if (!s->path) {
		server_free(s);
		return NULL;
	}
	return s;
}

static int make_bells(struct server *s)
{
	for (size_t i = 0; i < BELLS; i++) {
		s->bells[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (s->bells[i] < 0)
			return -errno;
	}
	s->irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return s->irq < 0 ? -errno : 0;
}

static int watch(struct server *s)
{
	struct epoll_event claims = { .events = EPOLLIN | EPOLLET,
				      .data.fd = s->bells[0] };
	struct epoll_event vms = { .events = EPOLLIN,
				   .data.fd = s->listen_fd };

	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll_fd < 0 ||
	    epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->bells[0], &claims) < 0)
		return -errno;
	if (s->listen_fd >= 0 &&
	    epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->listen_fd, &vms) < 0)
		return -errno;
	return 0;
}

static int server_start(struct server *s, bool visits,
			const struct listener *l)
{
	int mem cleanup_fd = -1;
	int err = make_bells(s);

	if (!err)
		err = table_new(&s->table, s->bells, l->ram_fd);
	if (err)
		return err;
	err = make_memory(l->window, &mem);
	if (!err) {
		err = use_memory(s, mem);
		if (!err)
			steal_fd(&mem);
	}
	if (!err && !visits)
		err = loopback_bind(s->path, SOCK_STREAM, &s->listen_fd);
	if (!err)
		err = watch(s);
	if (!err && visits) {
		err = visit(s);
		if (err == -EAGAIN || err == -EINPROGRESS)
			err = 0;
	}
	if (err)
		table_free(s->table);
	return err;
}

static int hypercall_listen(struct listener *l, const char *args)
{
	bool visits = args && strncmp(args, CONNECT, strlen(CONNECT)) == 0;
	struct server *s;
	int err;

	if (!args)
		return -EINVAL;
	s = server_alloc(visits ? args + strlen(CONNECT) : args);
	if (!s)
		return -ENOMEM;
	err = server_start(s, visits, l);
	if (err) {
		server_free(s);
		return err;
	}
	backoff_init(&l->backoff, BEAT_MAX_NS, BEAT_MAX_NS);
	l->fd = s->epoll_fd;
	l->priv = s;
	return 0;
}

static bool hypercall_claimed(struct listener *l)
{
	struct server *s = l->priv;
	struct epoll_event ev[4];
	int n = epoll_wait(l->fd, ev, ARRAY_SIZE(ev), 0);

	for (int i = 0; i < n; i++) {
		/* In this order: what has gone may come back. */
		if (ev[i].data.fd == s->conn)
			hear(s, ev[i].events);
		else if (ev[i].data.fd == s->listen_fd)
			welcome(s);
	}
	visit_again(s);
	return table_look(s->table);
}

static int hypercall_accept(struct listener *l, struct transport *t)
{
	return table_accept(((struct server *)l->priv)->table, &hypercall_ops,
			    t);
}

static void hypercall_handed(struct listener *l, struct transport *t, pid_t pid)
{
	table_handed(((struct server *)l->priv)->table, t, pid);
}

static void hypercall_ended(struct listener *l, pid_t pid)
{
	table_ended(((struct server *)l->priv)->table, pid);
}

static void hypercall_ram(struct listener *l)
{
	table_ram(((struct server *)l->priv)->table, l->ram_fd);
}

static int hypercall_room(struct listener *l, uint64_t *start, uint64_t *end)
{
	const struct server *s = l->priv;

	table_room(s->table, start, end);
	return s->vm_mem_fd;	/* not the one with the lock on it */
}

static void hypercall_leave(struct listener *l)
{
	struct server *s = l->priv;

	table_leave(s->table);
	server_free(s);
}

static void hypercall_unlisten(struct listener *l)
{
	struct server *s = l->priv;

	if (s->listen_fd >= 0)
		unlink(s->path);
	table_free(s->table);
	server_free(s);
}

const struct transport_ops hypercall_ops = {
	.name = "hypercall",
	.connect = hypercall_connect,
	.listen = hypercall_listen,
	.accept = hypercall_accept,
	.handed = hypercall_handed,
	.leave = hypercall_leave,
	.ended = hypercall_ended,
	.ram = hypercall_ram,
	.room = hypercall_room,
	.unlisten = hypercall_unlisten,
	.send = channel_send,
	.recv = channel_recv,
	.close = channel_close,
	.pending = channel_pending,
	.claimed = hypercall_claimed,
	.beat = channel_beat,
	.settled = channel_settled,
};
