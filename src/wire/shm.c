/* SPDX-License-Identifier: MIT */
/*
 * shm.c - sessions through a shared file: ivshmem-plain, /dev/mmapper, any file
 *
 * Theory of operation. channel.c does the work; this is the file. The daemon
 * holds a lock on it for as long as it lives: so there is one daemon to a
 * file. The lock (flock) is of an open file that no child keeps, and that is
 * not mapped: a mapping would hold it, too, in children that are yet to die.
 * The file is the VM's memory device: it stays when the daemon goes, and the
 * VM with it.
 *
 * A file that shrinks kills whoever touches what is no longer there (SIGBUS).
 * A memfd is sealed against that. A file of a file system can be cut by those
 * who may write it, and that is the user of daemon and VM: the guest has the
 * memory and not the file. Give it to nobody else.
 */
#include "wire/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "wire/channel.h"
#include "wire/device.h"

/* --- the guest ------------------------------------------------------------ */

static int find_memory(const char *args, char path[PATH_MAX])
{
	struct device dev;
	struct stat st;
	int n;

	dev.kind = DEVICE_FILE;
	if (!args) {
		/* A doorbell's memory does, too: it need not be rung. */
		device_find(DEVICE_PCI, DEVICE_MMAPPER, DEVICE_PLAIN, &dev);
		if (dev.kind == DEVICE_NONE)
			device_find(DEVICE_PCI, "", DEVICE_NONE, &dev);
		args = dev.path;
	} else if (stat(args, &st) == 0 && S_ISDIR(st.st_mode)) {
		dev.kind = DEVICE_PLAIN;
	}
	if (dev.kind == DEVICE_NONE)
		return -ENODEV;
	n = snprintf(path, PATH_MAX, "%s%s", args,
		     dev.kind == DEVICE_FILE ? "" : "/resource2");
	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int shm_connect(struct transport *t, const char *args)
{
	char path[PATH_MAX];
	void *shm;
	size_t size;
	int err = find_memory(args, path);

	if (!err)
		err = device_map(path, &shm, &size);
	if (err)
		return err;
	err = channel_connect(t, &shm_ops, shm, size, NULL, NULL);
	if (err)
		munmap(shm, size);
	else
		t->memory = strdup(path);
	return err;
}

/* --- the host ------------------------------------------------------------- */

struct shm_listener {
	struct table *table;
	int fd;			/* owned */
	int lock_fd;		/* owned */
};

/* -EADDRINUSE: another daemon has it. */
static int lock_file(int fd, int *out)
{
	int lock cleanup_fd = fd_reopen(fd, O_RDWR);

	if (lock < 0)
		return lock;
	if (flock(lock, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
	*out = steal_fd(&lock);
	return 0;
}

/* New: ours to make. Old: a VM may have it, or it is somebody's by mistake. */
static int check_file(int fd, uint64_t window, int *lock, size_t *size)
{
	uint64_t magic = 0;
	struct stat st;
	int err;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	err = lock_file(fd, lock);
	if (err)
		return err;
	if (st.st_size == 0) {
		st.st_size = (off_t)shm_bytes(window);
		if (st.st_size <= 0)
			return -EFBIG;
		if (ftruncate(fd, st.st_size) < 0)
			return -errno;
	}
	if (pread(fd, &magic, sizeof(magic), 0) < 0)
		return -errno;
	if (magic != 0 && magic != SHM_MAGIC)
		return -EEXIST;
	/* Where it can be: not for files of a file system. */
	(void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
	*size = (size_t)st.st_size;
	return 0;
}

static int attach(struct table *tb, int fd, size_t size)
{
	void *shm = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int err;

	if (shm == MAP_FAILED)
		return -errno;
	err = table_attach(tb, shm, size);
	if (err)
		munmap(shm, size);
	return err;
}

static int shm_listen(struct listener *l, const char *args)
{
	int fd cleanup_fd = args ? open(args, O_RDWR | O_CREAT | O_CLOEXEC |
					O_NONBLOCK | O_NOCTTY, 0600) : -1;
	int lock cleanup_fd = -1;
	struct shm_listener *own;
	size_t size = 0;
	int err;

	if (fd < 0)
		return args ? -errno : -EINVAL;
	err = check_file(fd, l->window, &lock, &size);
	if (err)
		return err;
	own = calloc(1, sizeof(*own));
	if (!own)
		return -ENOMEM;
	err = table_new(&own->table, NULL, l->ram_fd);
	if (!err) {
		err = attach(own->table, fd, size);
		if (err)
			table_free(own->table);
	}
	if (err) {
		free(own);
		return err;
	}
	own->lock_fd = steal_fd(&lock);
	own->fd = steal_fd(&fd);
	backoff_init(&l->backoff, 2 * NS_PER_MS, 10 * NS_PER_MS);
	l->priv = own;
	return 0;
}

static bool shm_claimed(struct listener *l)
{
	return table_look(((struct shm_listener *)l->priv)->table);
}

static int shm_accept(struct listener *l, struct transport *t)
{
	return table_accept(((struct shm_listener *)l->priv)->table, &shm_ops,
			    t);
}

static void shm_handed(struct listener *l, struct transport *t, pid_t pid)
{
	table_handed(((struct shm_listener *)l->priv)->table, t, pid);
}

static void shm_ended(struct listener *l, pid_t pid)
{
	table_ended(((struct shm_listener *)l->priv)->table, pid);
}

static void shm_ram(struct listener *l)
{
	table_ram(((struct shm_listener *)l->priv)->table, l->ram_fd);
}

static int shm_room(struct listener *l, uint64_t *start, uint64_t *end)
{
	struct shm_listener *own = l->priv;

	table_room(own->table, start, end);
	return own->fd;
}

static void shm_leave(struct listener *l)
{
	struct shm_listener *own = l->priv;

	table_leave(own->table);
	close_fd(&own->fd);
	close_fd(&own->lock_fd);
	free(own);
}

static void shm_unlisten(struct listener *l)
{
	struct shm_listener *own = l->priv;

	table_free(own->table);
	close_fd(&own->fd);
	close_fd(&own->lock_fd);
	free(own);
}

const struct transport_ops shm_ops = {
	.name = "shm",
	.connect = shm_connect,
	.listen = shm_listen,
	.accept = shm_accept,
	.handed = shm_handed,
	.leave = shm_leave,
	.ended = shm_ended,
	.ram = shm_ram,
	.room = shm_room,
	.unlisten = shm_unlisten,
	.send = channel_send,
	.recv = channel_recv,
	.close = channel_close,
	.pending = channel_pending,
	.claimed = shm_claimed,
	.beat = channel_beat,
	.settled = channel_settled,
};
