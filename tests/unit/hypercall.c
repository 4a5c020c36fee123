/* SPDX-License-Identifier: MIT */
/*
 * hypercall.c - the ivshmem server against a QEMU that is played here
 *
 * The VM is this process: it has the descriptors that the server sends. Its
 * device is a directory with resource0 and resource2, and a thread that turns
 * what is stored to the doorbell register into a signal of an eventfd.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/num.h"
#include "host/serve.h"
#include "wire/channel.h"
#include "wire/hypercall.h"
#include "wire/rules.h"
#include "daemon.h"
#include "tap.h"

#define PEERS		4096

static char dir[64];

static pid_t bell_daemon(const char *args)
{
	char spec[160];

	snprintf(spec, sizeof(spec), "hypercall:%s", args);
	return daemon_at(spec, real_daemon);
}

/* --- the VM ---------------------------------------------------------------- */

struct machine {
	int conn;
	int mem_fd;
	int64_t said[64];	/* without descriptor: their values */
	size_t nsaid;
	size_t nown;		/* eventfds of its own */
	int peer[PEERS];	/* by id: eventfd or -1 */
	size_t npeers;
	int64_t first;		/* the lowest new id */
};

static void vm_init(struct machine *vm)
{
	memset(vm, 0, sizeof(*vm));
	vm->conn = vm->mem_fd = -1;
	memset(vm->peer, 0xff, sizeof(vm->peer));
}

static void vm_fini(struct machine *vm)
{
	close_fd(&vm->conn);
	close_fd(&vm->mem_fd);
	for (size_t i = 0; i < PEERS; i++)
		close_fd(&vm->peer[i]);
}

static int vm_connect(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		close_fd(&fd);
	return fd;
}

static bool readable(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) > 0;
}

/*
 * All that is said, until there is a silence that is longer while something
 * is missing; false: the end of it.
 */
static bool vm_hear(struct machine *vm)
{
	int patience = 5000;

	vm->nsaid = vm->npeers = 0;
	vm->first = INT64_MAX;
	while (readable(vm->conn, patience)) {
		int fds[FD_PASS_MAX], fd;
		size_t nfds;
		int64_t value;
		ssize_t n = fd_recv(vm->conn, &value, sizeof(value), fds,
				    &nfds, MSG_WAITALL);

		if (n != (ssize_t)sizeof(value))
			return false;
		fd = nfds ? fds[0] : -1;
		if (fd < 0 && vm->nsaid < ARRAY_SIZE(vm->said)) {
			vm->said[vm->nsaid++] = value;
		} else if (value == -1) {
			close_fd(&vm->mem_fd);
			vm->mem_fd = fd;
		} else if (value == 0) {
			vm->nown++;
			close(fd);
		} else if (value < PEERS && vm->peer[value] < 0) {
			vm->peer[value] = fd;
			vm->npeers++;
			if (value < vm->first)
				vm->first = value;
		} else {
			return false;
		}
		if (vm->npeers == BELLS)
			patience = 300;
	}
	return true;
}

/* --- its device ------------------------------------------------------------ */

struct device_thread {
	struct machine *vm;
	volatile uint32_t *bell;
	bool deaf;
	bool stop;
	unsigned int rung, astray;
	pthread_t thread;
};

static void *device(void *arg)
{
	struct device_thread *d = arg;

	while (!__atomic_load_n(&d->stop, __ATOMIC_ACQUIRE)) {
		uint32_t value = __atomic_exchange_n((uint32_t *)d->bell, 0,
						     __ATOMIC_ACQ_REL);
		uint64_t one = 1;

		if (value && !d->deaf) {
			uint32_t id = value >> 16;

			if (id < PEERS && d->vm->peer[id] >= 0 &&
			    (value & 0xffff) == 0 &&
			    write(d->vm->peer[id], &one, sizeof(one)) > 0)
				d->rung++;
			else
				d->astray++;
		}
		usleep(100);
	}
	return NULL;
}

static void device_start(struct device_thread *d, struct machine *vm)
{
	char path[128], target[64];
	int fd;

	memset(d, 0, sizeof(*d));
	d->vm = vm;
	snprintf(path, sizeof(path), "%s/resource2", dir);
	snprintf(target, sizeof(target), "/proc/%d/fd/%d", getpid(),
		 vm->mem_fd);
	unlink(path);
	if (symlink(target, path) < 0)
		abort();
	/* A BAR that does not begin with its page. */
	snprintf(path, sizeof(path), "%s/resource", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (write(fd, "0x00000000febd1100 0x00000000febd11ff 0x0\n", 42) < 0)
		abort();
	close(fd);
	snprintf(path, sizeof(path), "%s/resource0", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (ftruncate(fd, 4096) < 0)
		abort();
	d->bell = (volatile uint32_t *)((char *)mmap(NULL, 4096, PROT_READ |
		  PROT_WRITE, MAP_SHARED, fd, 0) + 0x100 + 12);
	close(fd);
	pthread_create(&d->thread, NULL, device, d);
}

static void device_stop(struct device_thread *d)
{
	__atomic_store_n(&d->stop, true, __ATOMIC_RELEASE);
	pthread_join(d->thread, NULL);
	munmap((char *)(uintptr_t)d->bell - 0x100 - 12, 4096);
}

/* --- its guest ------------------------------------------------------------- */

static int reach(struct transport *t)
{
	uint64_t until = now_ms() + 5000;
	int err;

	do {
		err = transport_connect(t, &hypercall_ops, dir);
		if (transport_retry(err))
			nap(20);
	} while (transport_retry(err) && now_ms() < until);
	return err;
}

/* Milliseconds that an answer takes when the session has long been idle. */
static uint64_t idle_latency(struct transport *t)
{
	uint64_t took[7];

	for (size_t i = 0; i < ARRAY_SIZE(took); i++) {
		size_t at = i;

		/* Not a multiple of what it sleeps without a bell. */
		nap(400 + (unsigned int)i * 13);
		took[i] = now_ms();
		if (!ask(t))
			return UINT64_MAX;
		took[i] = now_ms() - took[i];
		for (; at > 0 && took[at - 1] > took[at]; at--) {
			uint64_t swap = took[at];

			took[at] = took[at - 1];
			took[at - 1] = swap;
		}
	}
	return took[ARRAY_SIZE(took) / 2];
}

static void test_server(const char *path)
{
	pid_t daemon = bell_daemon(path), other;
	struct device_thread d;
	struct transport t, u;
	struct machine vm, second;
	struct stat st;
	uint64_t fast, slow;
	ino_t inode;
	int64_t ids;
	bool good;

	vm_init(&vm);
	vm.conn = vm_connect(path);
	ok(daemon > 0 && vm_hear(&vm) && vm.nsaid == 2 && vm.said[0] == 0 &&
	   vm.said[1] == 0, "a VM is told the version and its id");
	ok(vm.mem_fd >= 0 && fstat(vm.mem_fd, &st) == 0 &&
	   st.st_size == SHM_DEFAULT && ftruncate(vm.mem_fd, 4096) < 0,
	   "it gets the memory, which cannot shrink");
	ok(vm.npeers == BELLS && vm.nown == 1,
	   "and eventfds, one of its own and those of its peers");
	inode = st.st_ino;
	ids = vm.first;

	device_start(&d, &vm);
	good = reach(&t) == 0 && ask(&t);
	ok(good, "a guest is served");
	ok(good && reach(&u) == 0 && ask(&u) && ask(&t),
	   "another one beside it");
	fast = idle_latency(&t);
	ok(fast < 30 && d.rung > 6 && d.astray == 0,
	   "the doorbell wakes the one that it is rung for");
	d.deaf = true;
	slow = idle_latency(&t);
	d.deaf = false;
	ok(slow < 500, "without one it only takes longer");
	printf("# answer of an idle session: %lu ms, without bell %lu ms\n",
	       fast, slow);

	vm_init(&second);
	second.conn = vm_connect(path);
	ok(!vm_hear(&second) && ask(&t), "a second VM is turned away");
	vm_fini(&second);
	other = bell_daemon(path);
	ok(other == -EADDRINUSE && ask(&t), "a second daemon, too");

	/* QEMU loses its connection, and comes back. */
	close_fd(&vm.conn);
	nap(200);
	vm.conn = vm_connect(path);
	ok(vm_hear(&vm) && vm.nsaid == 0 && vm.npeers == BELLS &&
	   vm.first >= ids + BELLS && ask(&t),
	   "a VM that comes back is told new ids only, and its runs go on");
	ids = vm.first;

	/* The daemon dies, and comes back. */
	end(daemon, SIGKILL);
	close_fd(&vm.conn);
	daemon = bell_daemon(path);
	vm.conn = vm_connect(path);
	ok(daemon > 0 && vm_hear(&vm) && vm.nsaid == 0 &&
	   vm.npeers == BELLS && vm.first >= ids + BELLS,
	   "a daemon that comes back takes no number twice");
	ok(!ask(&t) && !ask(&u), "the runs of the old one are over");
	transport_fini(&t);
	transport_fini(&u);
	good = reach(&t) == 0 && ask(&t);
	ok(good && idle_latency(&t) < 30 && d.astray == 0 &&
	   fstat(vm.mem_fd, &st) == 0 && st.st_ino == inode,
	   "it serves in the memory that the VM has");
	device_stop(&d);

	/* The VM dies, and another one comes. */
	vm_fini(&vm);
	vm_init(&vm);
	nap(100);
	vm.conn = vm_connect(path);
	ok(vm_hear(&vm) && vm.nsaid == 2 && vm.mem_fd >= 0 && !ask(&t),
	   "a new VM ends the runs of the one before");
	transport_fini(&t);
	device_start(&d, &vm);
	ok(reach(&t) == 0 && ask(&t), "and is served");
	ok(end(daemon, SIGTERM) == 0 && !ask(&t) && access(path, F_OK) < 0,
	   "a daemon that ends says so, and removes its socket");
	transport_fini(&t);
	device_stop(&d);
	vm_fini(&vm);
}

static int listen_at(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	unlink(path);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(fd, 4) < 0)
		abort();
	return fd;
}

static int vm_accept(int fd)
{
	return readable(fd, 3000) ? accept4(fd, NULL, NULL, SOCK_CLOEXEC) : -1;
}

/* QEMU listens: the daemon comes, whoever was first. */
static void test_visitor(const char *path)
{
	struct device_thread d;
	struct transport t;
	char args[160];
	pid_t daemon;
	struct machine vm;
	int fd;

	vm_init(&vm);
	snprintf(args, sizeof(args), "connect=%s", path);
	daemon = bell_daemon(args);
	nap(300);
	fd = listen_at(path);
	vm.conn = vm_accept(fd);
	ok(daemon > 0 && vm.conn >= 0 && vm_hear(&vm) && vm.nsaid == 2 &&
	   vm.npeers == BELLS, "a daemon visits a VM that listens");
	device_start(&d, &vm);
	ok(reach(&t) == 0 && ask(&t), "its guest is served");
	ok(bell_daemon(args) == -EADDRINUSE && ask(&t),
	   "a second daemon finds the memory in use");
	close(vm_accept(fd));
	end(daemon, SIGKILL);
	close_fd(&vm.conn);
	daemon = bell_daemon(args);
	vm.conn = vm_accept(fd);
	ok(daemon > 0 && vm_hear(&vm) && vm.nsaid == 0 &&
	   vm.npeers == BELLS && !ask(&t), "a new daemon visits it, too");
	transport_fini(&t);
	ok(reach(&t) == 0 && ask(&t), "and serves its guest");
	transport_fini(&t);
	close_fd(&vm.conn);
	close(fd);
	nap(300);
	fd = listen_at(path);
	vm.conn = vm_accept(fd);
	ok(vm.conn >= 0 && vm_hear(&vm) && vm.npeers == BELLS,
	   "a VM that was away is visited again");
	end(daemon, SIGTERM);
	ok(access(path, F_OK) == 0, "its socket is not the daemon's to remove");
	close(fd);
	device_stop(&d);
	vm_fini(&vm);
}

/* A VM that says nonsense, or reads nothing, or goes in the middle. */
static void test_bad_vm(const char *path)
{
	pid_t daemon = bell_daemon(path);
	char junk[4096];
	struct machine vm;
	uint64_t began = now_ms();
	bool good;

	memset(junk, 0xff, sizeof(junk));
	for (int i = 0; i < 50; i++) {
		int fd = vm_connect(path);

		if (i % 2 && send(fd, junk, sizeof(junk), MSG_DONTWAIT |
				  MSG_NOSIGNAL) < 0 && errno == EBADF)
			break;
		if (i % 3 == 0)
			nap(5);
		close_fd(&fd);
	}
	nap(100);
	vm_init(&vm);
	vm.conn = vm_connect(path);
	good = vm_hear(&vm);
	printf("# heard %d: %zu peers in %lu ms\n", good, vm.npeers,
	       now_ms() - began);
	ok(good && vm.npeers == BELLS && now_ms() - began < 15000,
	   "VMs that come, shout and go leave the daemon in order");
	vm_fini(&vm);
	ok(end(daemon, SIGTERM) == 0, "which then ends as it should");
}

int main(void)
{
	char path[128], command[160];

	signal(SIGPIPE, SIG_IGN);
	snprintf(dir, sizeof(dir), "%s/ds-bell.XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/socket", dir);
	test_server(path);
	test_visitor(path);
	test_bad_vm(path);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	if (system(command) != 0)
		printf("# %s stays\n", dir);
	return tap_end();
}
