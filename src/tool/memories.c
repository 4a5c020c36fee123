/* SPDX-License-Identifier: MIT */
/* memories.c - probes: memory files, the address space, frames and pins */
#include "tool/probes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/num.h"
#include "capsule/abi.h"

#define ARENA_BYTES	(1LL << 62)	/* guest/arena.c */
#define RING_SLOTS	16384		/* guest/pins.h */
#define PART_BYTES	(4 << 20)	/* of a file, guest/pins.c */
#define PFN_BITS	((1ULL << 55) - 1)
#define MAPS_WANTED	65530		/* the kernel's default */
#define PIN_BYTES	(8ULL << 20)	/* programs have more */

#define SYSCTL_IO_URING	"kernel.io_uring_disabled"
#define SYSCTL_MAPS	"vm.max_map_count"
#define SYSCTL_NOEXEC	"vm.memfd_noexec"
#define THP		"/sys/kernel/mm/transparent_hugepage/enabled"

#define CAP_BIT(cap)	(1ULL << (cap))
#define CAP_ADD		"start the container with --cap-add=SYS_ADMIN," \
			"SYS_PTRACE,IPC_LOCK,SYS_RESOURCE"
#define SETCAP		"setcap cap_sys_admin,cap_checkpoint_restore," \
			"cap_sys_ptrace,cap_ipc_lock,cap_sys_resource+ep"

/* --- memory files --------------------------------------------------------- */

static bool remedy_noexec(struct finding *f, long least)
{
	if (probe_sysctl(SYSCTL_NOEXEC) < least)
		return false;
	finding_remedy(f, "sysctl -w " SYSCTL_NOEXEC "=0%s", probe_as_root());
	return true;
}

void probe_arena(struct finding *f)
{
	int fd cleanup_fd = memfd_create("darkshadow-doctor",
					 MFD_CLOEXEC | MFD_ALLOW_SEALING);

	signal(SIGXFSZ, SIG_IGN);
	if (fd < 0) {
		finding_refused(f, "memfd_create", errno);
		remedy_noexec(f, 2);
	} else if (ftruncate(fd, ARENA_BYTES) < 0) {
		finding_refused(f, "a memory file cannot be as large as it has"
				" to be", errno);
		if (errno == EFBIG)
			finding_remedy(f, "prlimit --pid $$ --fsize="
				       "unlimited%s", probe_as_root());
	} else if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) {
		finding_refused(f, "a memory file cannot be sealed", errno);
	} else {
		finding_say(f, PASS, "memory files of any size, sealed");
	}
}

/* The gate is mapped from one, the capsule is executed from one. */
void probe_exec(struct finding *f)
{
	int fd cleanup_fd = memfd_create("darkshadow-doctor", MFD_CLOEXEC);
	struct stat st;
	void *p;

	if (fd < 0 || ftruncate(fd, PAGE_BYTES) < 0 || fstat(fd, &st) < 0) {
		finding_refused(f, "memfd_create", errno);
		remedy_noexec(f, 2);
		return;
	}
	p = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		finding_refused(f, "a memory file cannot be mapped to be"
				" executed", errno);
	else if (!(st.st_mode & 0111))
		finding_refused(f, "a memory file cannot be executed", EACCES);
	else
		finding_say(f, PASS, "memory files can be executed");
	if (f->verdict == FAIL)
		remedy_noexec(f, 1);
}

/* --- the address space ---------------------------------------------------- */

static bool is_free(uint64_t at)
{
	void *p = mmap((void *)at, PAGE_BYTES, PROT_NONE, MAP_PRIVATE |
		       MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	return p == (void *)at;
}

void probe_gate(struct finding *f)
{
	if (is_free(GATE_BASE) || is_free(GATE_BASE_39)) {
		finding_say(f, PASS, "there is room for the gate in a"
			    " program");
	} else {
		finding_refused(f, "there is no room for the gate in a"
				" program", errno);
		finding_remedy(f, "a kernel with 39 bits of address space for"
			       " processes or more");
	}
}

void probe_capsule(struct finding *f)
{
	if (is_free(CAPSULE_BASE)) {
		finding_say(f, PASS, "there is room for a shadow");
	} else {
		finding_say(f, FAIL, "processes have less than 47 bits of"
			    " address space here (as in User-Mode Linux):"
			    " shadows cannot live here");
		finding_remedy(f, "run `darkshadow host` on the host of this"
			       " machine");
	}
}

void probe_map_count(struct finding *f)
{
	const long n = probe_sysctl(SYSCTL_MAPS);

	if (n < 0) {
		finding_say(f, SKIP, SYSCTL_MAPS " cannot be read");
	} else if (n >= MAPS_WANTED) {
		finding_say(f, PASS, "a shadow may have %ld mappings", n);
	} else {
		finding_say(f, WARN, "a shadow may have %ld mappings only, and"
			    " calls of large programs fail for want of more",
			    n);
		finding_remedy(f, "sysctl -w " SYSCTL_MAPS "=%d%s",
			       MAPS_WANTED, probe_as_root());
	}
}

/* --- page frames ---------------------------------------------------------- */

/* Root that lacks something has been deprived of it. */
static void remedy_caps(struct finding *f)
{
	if (geteuid() == 0)
		finding_remedy(f, CAP_ADD);
	else
		finding_remedy(f, "run darkshadow as root, or " SETCAP
			       " darkshadow (as root)");
}

void probe_caps_vm(struct finding *f)
{
	static const struct { int cap; const char *name; } wanted[] = {
		{ CAP_SYS_ADMIN, "CAP_SYS_ADMIN" },
		{ CAP_SYS_PTRACE, "CAP_SYS_PTRACE" },
		{ CAP_IPC_LOCK, "CAP_IPC_LOCK" },
		{ CAP_SYS_RESOURCE, "CAP_SYS_RESOURCE" },
	};
	const uint64_t caps = probe_caps();
	char missing[128] = "";
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		if (!(caps & CAP_BIT(wanted[i].cap)))
			n += (size_t)snprintf(missing + n, sizeof(missing) - n,
					      " %s", wanted[i].name);
	if (!n) {
		finding_say(f, PASS, "this user has them");
		return;
	}
	/* What the others are for is tried by other probes. */
	finding_say(f, caps & CAP_BIT(CAP_SYS_ADMIN) ? WARN : FAIL,
		    "this user lacks%s", missing);
	remedy_caps(f);
}

/* What /proc says of the frame of a page of ours: 0 or -errno. */
static int frame_of(const void *page, uint64_t *entry)
{
	int fd cleanup_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = pread(fd, entry, sizeof(*entry),
		  (off_t)((uint64_t)page / PAGE_BYTES * sizeof(*entry)));
	if (n == sizeof(*entry))
		return 0;
	return n < 0 ? -errno : -EIO;
}

void probe_pagemap(struct finding *f)
{
	uint64_t entry = 0;
	int err = frame_of(&entry, &entry);

	if (err == -ENOENT) {
		finding_say(f, FAIL, "there is no /proc/PID/pagemap");
		finding_remedy(f, "a kernel with CONFIG_PROC_PAGE_MONITOR, and"
			       " /proc mounted");
	} else if (err) {
		finding_refused(f, "/proc/PID/pagemap", -err);
	} else if (!(entry & PFN_BITS)) {
		finding_say(f, FAIL, "/proc/PID/pagemap does not tell frame"
			    " numbers: that needs CAP_SYS_ADMIN");
		remedy_caps(f);
		/* In a user namespace there are capabilities, and no power. */
		if (probe_caps() & CAP_BIT(CAP_SYS_ADMIN))
			finding_remedy(f, "run darkshadow outside of the user"
				       " namespace (rootless container) that"
				       " this is");
	} else {
		finding_say(f, PASS, "page frame numbers are visible");
	}
}

void probe_populate(struct finding *f)
{
	void *p = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p != MAP_FAILED &&
	    madvise(p, PAGE_BYTES, MADV_POPULATE_READ) == 0 &&
	    madvise(p, PAGE_BYTES, MADV_POPULATE_WRITE) == 0)
		finding_say(f, PASS, "memory can be made present");
	else
		finding_refused(f, "MADV_POPULATE_WRITE", errno);
}

/* --- pins ----------------------------------------------------------------- */

/* Buffers of io_uring, as run has them: 0 or -errno. */
static int try_ring(void *memory)
{
	static struct iovec empty[RING_SLOTS];	/* never written */
	struct iovec some = { memory, PIN_BYTES };
	struct io_uring_rsrc_update2 update = {
		.data = (uint64_t)(uintptr_t)&some, .nr = 1 };
	struct io_uring_params params = { 0 };
	int ring cleanup_fd = (int)syscall(SYS_io_uring_setup, 1, &params);

	if (ring < 0)
		return -errno;
	if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS,
		    empty, RING_SLOTS) < 0 ||
	    syscall(SYS_io_uring_register, ring,
		    IORING_REGISTER_BUFFERS_UPDATE, &update,
		    sizeof(update)) < 0)
		return -errno;
	return 0;
}

/* A socket and a network namespace without devices for it, as run has them. */
static int try_xdp(void)
{
	int fd cleanup_fd = -1;

	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	return fd < 0 ? -errno : 0;
}

static void explain_ring(struct finding *f, int err)
{
	const bool told = finding_refused(f, "memory cannot be pinned by"
					  " io_uring", err);
	struct rlimit lim = { .rlim_cur = RLIM_INFINITY };

	getrlimit(RLIMIT_MEMLOCK, &lim);
	if (probe_sysctl(SYSCTL_IO_URING) > 0)
		finding_remedy(f, "sysctl -w " SYSCTL_IO_URING "=0%s",
			       probe_as_root());
	else if (err == ENOMEM && lim.rlim_cur < 2 * PIN_BYTES)
		finding_remedy(f, "prlimit --pid $$ --memlock=unlimited%s",
			       probe_as_root());
	else if (!told)
		finding_remedy(f, "a kernel of Linux 5.14 or later with"
			       " CONFIG_IO_URING");
}

void probe_pins(struct finding *f)
{
	void *p = mmap(NULL, PIN_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int err = p == MAP_FAILED ? -errno : try_ring(p);

	if (!err) {
		finding_say(f, PASS, "memory can be pinned by io_uring");
		return;
	}
	explain_ring(f, -err);
	/* After the cause has been found: there is another way. */
	if (try_xdp() == 0)
		finding_say(f, WARN, "memory is pinned by AF_XDP sockets, as"
			    " io_uring is not to be had: %s", strerror(-err));
}

void probe_pipe(struct finding *f)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) == 0 &&
	    fcntl(ends[1], F_SETPIPE_SZ, PART_BYTES) >= PART_BYTES) {
		finding_say(f, PASS, "pages of files can be held by pipes");
		return;
	}
	finding_refused(f, "a pipe cannot hold the pages of a file", errno);
	finding_remedy(f, "sysctl -w fs.pipe-max-size=%d (as root of the"
		       " machine)", PART_BYTES);
}

void probe_huge(struct finding *f)
{
	char *text cleanup_free = NULL;

	if (fd_read_all(THP, 256, &text) < 0) {
		finding_say(f, WARN, "this kernel has no transparent huge"
			    " pages: shadows need more mappings");
		finding_remedy(f, "a kernel with CONFIG_TRANSPARENT_HUGEPAGE");
	} else if (strstr(text, "[never]")) {
		finding_say(f, WARN, "huge pages are off: shadows need more"
			    " mappings");
		finding_remedy(f, "echo madvise >" THP "%s", probe_as_root());
	} else {
		finding_say(f, PASS, "huge pages are given to who asks");
	}
}
