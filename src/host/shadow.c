/* SPDX-License-Identifier: MIT */
/* shadow.c - shadows: building, feeding and ending them */
#include "host/shadow.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpus.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/num.h"
#include "base/spin.h"
#include "capsule/abi.h"
#include "process/proc.h"
#include "process/remote.h"

extern const uint8_t blob_capsule[];
extern const uint64_t blob_capsule_size;

/* The ctl page: calls to inject, then a seccomp program. */
#define CTL_CALLS	0
#define CTL_CALLS_MAX	(CTL_FILTER / BATCH_ENTRY)
#define CTL_FILTER	8192
#define CTL_FILTER_MAX	((CAPSULE_CTL - CTL_FILTER - \
			  sizeof(struct sock_fprog)) / \
			 sizeof(struct sock_filter))

/* Descriptors of a mapper: nobody else has them. */
#define MAPPER_CTL	0
#define MAPPER_RAM	1
#define MAPPER_FILES	16

/* The child inherits the ctl memfd here until it is mapped. */
#define BIRTH_CTL	(SHADOW_FD_FILLER - 1)

/*
 * An executor looks so long for its next request before it sleeps: longer than
 * it takes to wake the target.
 */
#define EXECUTOR_SPIN_US 200
#define LOOK_NS		(100 * 1000)	/* for the end of a shadow */

#define TRACE_OPTIONS	(PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | \
			 PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | \
			 PTRACE_O_TRACEEXEC | PTRACE_O_TRACESECCOMP)

#define THREAD_FLAGS	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | \
			 CLONE_THREAD | CLONE_SYSVSEM)

static struct capsule_header capsule_header(void)
{
	struct capsule_header h;

	/* The text follows the page of ELF headers (capsule.ld). */
	memcpy(&h, blob_capsule + CAPSULE_TEXT, sizeof(h));
	return h;
}

static struct remote shadow_remote(const struct shadow *s, pid_t tid)
{
	return (struct remote){ .tid = tid,
				.insn = s->base + capsule_header().syscall };
}

static uint64_t ctl_gva(const struct shadow *s)
{
	return s->base + CAPSULE_TEXT;
}

/*
 * Leader and mapper run when the daemon waits for them, and at no other time:
 * on its core, which it does not leave meanwhile. To wake somebody on another
 * one takes several times as long as most of what they are asked to do.
 */
static const struct nursery *meet(struct shadow *s)
{
	const struct nursery *n = s->nursery;
	const int cpu = sched_getcpu();
	cpu_set_t here;

	if (CPU_COUNT(&n->cpus) < 2 || cpu < 0 || cpu >= CPU_SETSIZE)
		return NULL;
	here = cpus_one(cpu);
	sched_setaffinity(0, sizeof(here), &here);
	if (s->cpu == cpu)
		return n;
	if (s->leader > 0)
		sched_setaffinity(s->leader, sizeof(here), &here);
	if (s->mapper > 0)
		sched_setaffinity(s->mapper, sizeof(here), &here);
	s->cpu = cpu;
	return n;
}

static void part(const struct nursery **n)
{
	if (*n)
		sched_setaffinity(0, sizeof((*n)->cpus), &(*n)->cpus);
}

/* const struct nursery *met cleanup_part = meet(s); */
#define cleanup_part __attribute__((cleanup(part), unused))

/* One call by a stopped thread of the shadow: its value, or -errno. */
static int64_t call1(struct shadow *s, pid_t tid, uint64_t nr,
		     const uint64_t args[6])
{
	struct remote r = shadow_remote(s, tid);
	int64_t result;
	int err = remote_call(&r, nr, args, &result);

	return err ? err : result;
}

#define CALL(s, tid, nr, ...) \
	call1(s, tid, nr, (uint64_t[6]){ __VA_ARGS__ })

/* clone(2) by a stopped thread; the child's first stop is awaited. */
static int clone_thread(struct shadow *s, pid_t tid, uint64_t flags,
			pid_t *child, pid_t *inner)
{
	struct remote r = shadow_remote(s, tid);
	int64_t result;
	int status, err;

	err = remote_call(&r, SYS_clone, (uint64_t[6]){ flags }, &result);
	if (err)
		return err;
	if (result < 0)
		return (int)result;
	err = remote_wait(r.child, &status);
	if (err)
		return err;
	if (!WIFSTOPPED(status))
		return -ESRCH;
	*child = r.child;
	if (inner)
		*inner = (pid_t)result;
	return 0;
}

static struct user_regs_struct batch_regs(struct shadow *s, pid_t tid,
					  size_t n)
{
	struct user_regs_struct regs = { 0 };

	remote_get_regs(tid, &regs);
	regs.rip = s->base + capsule_header().batch;
	regs.r12 = ctl_gva(s) + CTL_CALLS;
	regs.r13 = n;
	return regs;
}

/* Calls by a stopped thread: how many were done before the first error. */
static ssize_t run_batch(struct shadow *s, pid_t tid,
			 const struct batch_call *calls, size_t n,
			 int64_t *last)
{
	struct remote r = shadow_remote(s, tid);
	struct user_regs_struct regs;
	int err;

	memcpy(s->ctl + CTL_CALLS, calls, n * sizeof(*calls));
	regs = batch_regs(s, tid, n);
	err = remote_run(&r, &regs);
	if (err)
		return err;
	*last = (int64_t)regs.r14;
	return (ssize_t)(n - regs.r13);
}

static int run_all(struct shadow *s, pid_t tid,
		   const struct batch_call *calls, size_t n)
{
	int64_t last = 0;
	ssize_t done = run_batch(s, tid, calls, n, &last);

	if (done < 0)
		return (int)done;
	return (size_t)done == n ? 0 : (int)last;
}

/* --- the ctl page ------------------------------------------------------- */

static int ctl_init(struct shadow *s)
{
	int fd cleanup_fd = memfd_create("darkshadow-ctl", MFD_CLOEXEC);
	void *p;

	if (fd < 0 || ftruncate(fd, CAPSULE_CTL) < 0)
		return -errno;
	p = mmap(NULL, CAPSULE_CTL, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	s->ctl = p;
	s->ctl_fd = steal_fd(&fd);
	return 0;
}

/* Lays a program out for seccomp(2); returns its address in the shadow. */
static uint64_t ctl_filter(struct shadow *s, const struct sock_fprog *prog)
{
	uint64_t at = ctl_gva(s) + CTL_FILTER;
	struct sock_fprog there = *prog;
	size_t size = prog->len * sizeof(*prog->filter);

	there.filter = (void *)(uintptr_t)(at + sizeof(there));
	memcpy(s->ctl + CTL_FILTER, &there, sizeof(there));
	memcpy(s->ctl + CTL_FILTER + sizeof(there), prog->filter, size);
	return at;
}

static void shadow_fini(struct shadow *s)
{
	if (s->ctl)
		munmap(s->ctl, CAPSULE_CTL);
	close_fd(&s->ctl_fd);
	close_fd(&s->pidfd);
	free(s->files);
	s->ctl = NULL;
	s->files = NULL;
}

static int pidfd_of(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : fd;
}

/* --- the nursery -------------------------------------------------------- */

/* The child says what failed through a pipe, or nothing. */
struct birth {
	const struct rules *policy;
	unsigned int uid, gid;
	int capsule_fd;
	int ctl_fd;
	int go[2];		/* parent: "you are traced" */
	int report[2];		/* child: SANDBOX_ERR_MAX bytes, or nothing */
};

static int fill_descriptors(int capsule_fd, int ctl_fd, int report_fd,
			    int out[3])
{
	int filler;

	/* Out of the way of what is filled. */
	out[0] = fcntl(capsule_fd, F_DUPFD_CLOEXEC, SHADOW_FD_BASE);
	out[1] = fcntl(ctl_fd, F_DUPFD_CLOEXEC, SHADOW_FD_BASE);
	out[2] = fcntl(report_fd, F_DUPFD_CLOEXEC, SHADOW_FD_BASE);
	filler = open("/", O_PATH);
	if (out[0] < 0 || out[1] < 0 || out[2] < 0 || filler < 0)
		return -errno;
	if (filler != SHADOW_FD_FILLER &&
	    dup2(filler, SHADOW_FD_FILLER) < 0)
		return -errno;
	for (int fd = 0; fd < SHADOW_FD_BASE; fd++)
		if (fd != SHADOW_FD_FILLER && dup2(SHADOW_FD_FILLER, fd) < 0)
			return -errno;
	if (dup2(out[1], BIRTH_CTL) < 0)
		return -errno;
	/* Whatever else was open in the daemon. */
	for (int fd = SHADOW_FD_BASE; fd < SHADOW_FD_BASE + 64; fd++)
		if (fd != out[0] && fd != out[2])
			close(fd);
	/* Fails where descriptors are few: then there is less to wait for. */
	(void)dup2(SHADOW_FD_FILLER, SHADOW_FD_ROOM);
	return 0;
}

static _Noreturn void birth_child(struct birth *b)
{
	static char empty[] = "";
	char *argv[] = { empty, NULL };
	char err[SANDBOX_ERR_MAX] = "";
	sigset_t none;
	int fds[3], rc;
	char c;

	signal(SIGCHLD, SIG_IGN);	/* ended shadows need no reaper */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);	/* the daemon blocks some */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(b->go[1]);
	if (read(b->go[0], &c, 1) != 1)
		_exit(1);
	rc = sandbox_enter(b->policy, b->uid, b->gid, err);
	if (rc == 0) {
		rc = fill_descriptors(b->capsule_fd, b->ctl_fd, b->report[1],
				      fds);
		if (rc == 0) {
			b->report[1] = fds[2];
			syscall(SYS_execveat, fds[0], "", argv, argv + 1,
				AT_EMPTY_PATH);
			rc = -errno;
		}
		snprintf(err, sizeof(err), "starting the capsule: %s",
			 strerror(-rc));
	}
	if (write(b->report[1], err, sizeof(err)) < 0)
		_exit(2);
	_exit(1);
}

static int capsule_memfd(void)
{
	int fd cleanup_fd = memfd_create("darkshadow-capsule", MFD_CLOEXEC);
	int err;

	if (fd < 0)
		return -errno;
	err = fd_pwrite_all(fd, blob_capsule, blob_capsule_size, 0);
	return err ? err : steal_fd(&fd);
}

/* From the exec stop of the capsule to a stopped, empty, filtered leader. */
static int settle(struct nursery *n, const struct sock_fprog *filter)
{
	struct shadow *s = &n->first;
	const struct nursery *met cleanup_part = meet(s);
	const uint64_t end = s->base + CAPSULE_SIZE;
	int64_t r;

	r = CALL(s, s->leader, SYS_munmap, 0, s->base);
	if (r == 0)
		r = CALL(s, s->leader, SYS_munmap, s->base + CAPSULE_TEXT,
			 USER_END - s->base - CAPSULE_TEXT);
	if (r < 0)
		return (int)r;
	r = CALL(s, s->leader, SYS_mmap, ctl_gva(s), end - ctl_gva(s),
		 PROT_READ, MAP_SHARED | MAP_FIXED, BIRTH_CTL, 0);
	if (r < 0)
		return (int)r;
	r = CALL(s, s->leader, SYS_dup3, SHADOW_FD_FILLER, BIRTH_CTL, 0);
	if (r < 0)
		return (int)r;
	r = CALL(s, s->leader, SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		 SECCOMP_FILTER_FLAG_NEW_LISTENER, ctl_filter(s, filter));
	if (r < 0)
		return (int)r;
	n->listener = (int)syscall(SYS_pidfd_getfd, s->pidfd, (int)r, 0);
	if (n->listener < 0)
		return -errno;
	return (int)CALL(s, s->leader, SYS_close, (uint64_t)r);
}

static int birth(struct nursery *n, struct birth *b, unsigned long flags,
		 char err[SANDBOX_ERR_MAX])
{
	struct shadow *s = &n->first;
	const struct nursery *met cleanup_part = meet(s);
	int status, rc;
	pid_t pid;

	pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
	if (pid < 0) {
		rc = -errno;
		snprintf(err, SANDBOX_ERR_MAX,
			 "the shadow's namespaces: %s%s", strerror(-rc),
			 rc == -EPERM || rc == -ENOSPC || rc == -EUSERS ?
			 ": user namespaces are refused here; see sysctl"
			 " user.max_user_namespaces,"
			 " kernel.unprivileged_userns_clone and"
			 " kernel.apparmor_restrict_unprivileged_userns"
			 " (`darkshadow doctor host` says which), or run the"
			 " host side as root" : "");
		return rc;
	}
	if (pid == 0)
		birth_child(b);
	s->leader = pid;
	close_fd(&b->report[1]);
	if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)TRACE_OPTIONS) < 0) {
		rc = -errno;
		snprintf(err, SANDBOX_ERR_MAX,
			 "tracing the shadow: %s: is ptrace forbidden here"
			 " (kernel.yama.ptrace_scope=3, a container's seccomp"
			 " profile)? See `darkshadow doctor host`",
			 strerror(-rc));
		return rc;
	}
	if (write(b->go[1], "", 1) != 1)
		return -errno;
	for (;;) {
		rc = remote_wait(pid, &status);
		if (rc)
			return rc;
		if (!WIFSTOPPED(status)) {
			s->leader = 0;
			if (read(b->report[0], err, SANDBOX_ERR_MAX) <= 0)
				snprintf(err, SANDBOX_ERR_MAX,
					 "the first shadow ended early"
					 " (wait status %#x)", status);
			err[SANDBOX_ERR_MAX - 1] = '\0';
			return -ECHILD;
		}
		if (status >> 16 == PTRACE_EVENT_EXEC)
			return 0;
		if (ptrace(PTRACE_CONT, pid, NULL,
			   status >> 16 ? 0UL :
			   (unsigned long)WSTOPSIG(status)) < 0)
			return -errno;
	}
}

/* Could the capsule be mapped where it has to be? 0 or -ENOMEM. */
static int check_room(void)
{
	void *p = mmap((void *)CAPSULE_BASE, PAGE_BYTES, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		       0);

	if (p == MAP_FAILED)
		return errno == ENOMEM ? -ENOMEM : 0;
	munmap(p, PAGE_BYTES);
	return 0;
}

int nursery_new(const struct rules *policy, const struct ram *ram,
		struct nursery **out, char err[SANDBOX_ERR_MAX])
{
	struct nursery *n = calloc(1, sizeof(*n));
	struct sock_fprog filter = { 0 };
	struct birth b = { .policy = policy, .uid = getuid(), .gid = getgid(),
			   .capsule_fd = -1, .ctl_fd = -1, .go = { -1, -1 },
			   .report = { -1, -1 } };
	struct shadow *s;
	int rc;

	if (!n)
		return -ENOMEM;
	s = &n->first;
	n->ram = ram;
	n->spin = spin_looks(EXECUTOR_SPIN_US, false);
	n->listener = s->pidfd = s->ctl_fd = s->cpu = -1;
	if (sched_getaffinity(0, sizeof(n->cpus), &n->cpus) < 0)
		CPU_ZERO(&n->cpus);
	s->nursery = n;
	s->base = CAPSULE_BASE;
	snprintf(err, SANDBOX_ERR_MAX, "this kernel gives processes less than"
		 " 47 bits of address space (as User-Mode Linux does): shadows"
		 " cannot live here");
	rc = check_room();
	if (!rc)
		snprintf(err, SANDBOX_ERR_MAX, "building the first shadow");
	if (!rc)
		rc = ctl_init(s);
	if (!rc)
		rc = sandbox_filter_shadow(policy, &filter);
	if (!rc)
		rc = sandbox_filter_executor(policy, &n->executor_filter);
	if (!rc && (filter.len > CTL_FILTER_MAX ||
		    n->executor_filter.len > CTL_FILTER_MAX))
		rc = -E2BIG;
	if (!rc) {
		b.capsule_fd = capsule_memfd();
		b.ctl_fd = s->ctl_fd;
		rc = b.capsule_fd < 0 ? b.capsule_fd : 0;
	}
	if (!rc && (pipe2(b.go, O_CLOEXEC) < 0 ||
		    pipe2(b.report, O_CLOEXEC) < 0))
		rc = -errno;
	if (!rc)
		rc = birth(n, &b, sandbox_clone_flags(policy), err);
	if (!rc) {
		s->pidfd = pidfd_of(s->leader);
		rc = s->pidfd < 0 ? s->pidfd : settle(n, &filter);
		if (rc)
			snprintf(err, SANDBOX_ERR_MAX,
				 "setting up the first shadow: %s",
				 strerror(-rc));
	}
	free(filter.filter);
	close_fd(&b.capsule_fd);
	for (int i = 0; i < 2; i++) {
		close_fd(&b.go[i]);
		close_fd(&b.report[i]);
	}
	if (rc) {
		nursery_free(n);
		return rc;
	}
	*out = n;
	return 0;
}

static bool kill_shadow(struct shadow *s);

void nursery_kill(struct nursery *n)
{
	const struct shadow *s;
	size_t pos = 0;

	while ((s = idmap_next(&n->shadows, &pos)))
		kill(s->leader, SIGKILL);
	if (n->first.leader > 0)
		kill(n->first.leader, SIGKILL);
}

static bool holds(pid_t pid, const char *name)
{
	char path[64], link[PATH_MAX];
	const size_t len = strlen(name);

	for (int fd = 0; fd < SHADOW_FD_ROOM; fd++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
		n = readlink(path, link, sizeof(link));
		if (n == (ssize_t)len && memcmp(link, name, len) == 0)
			return true;
	}
	return false;
}

void nursery_kill_holders(struct nursery *n, const char *name)
{
	struct shadow *s;
	size_t pos = 0;

	while ((s = idmap_next(&n->shadows, &pos)))
		if (s->leader > 0 && holds(s->leader, name))
			kill(s->leader, SIGKILL);
}

bool nursery_await(struct nursery *n, unsigned int limit_ms)
{
	const uint64_t until = now_ms() + limit_ms;

	for (;;) {
		int status;
		pid_t tid = waitpid(-1, &status, __WALL | WNOHANG);
		struct shadow *s;

		if (tid < 0)
			return true;
		if (tid > 0 && WIFSTOPPED(status)) {
			syscall(SYS_tgkill, tid, tid, SIGKILL);
			ptrace(PTRACE_CONT, tid, NULL, NULL);
			continue;
		}
		if (tid > 0) {
			if (tid == n->first.leader)
				n->first.leader = 0;
			s = idmap_take(&n->shadows, (uint32_t)tid);
			if (s) {
				s->leader = 0;
				(void)shadow_free(s);
			}
			continue;
		}
		if (now_ms() > until)
			return false;
		clock_sleep(CLOCK_MONOTONIC, LOOK_NS);
	}
}

void nursery_free(struct nursery *n)
{
	struct shadow *s;

	for (;;) {
		size_t pos = 0;

		s = idmap_next(&n->shadows, &pos);
		if (!s)
			break;
		(void)shadow_free(s);
	}
	kill_shadow(&n->first);
	shadow_fini(&n->first);
	close_fd(&n->listener);
	for (size_t i = 0; i < n->nfiles; i++)
		close_fd(&n->files[i]);
	free(n->files);
	free(n->executor_filter.filter);
	idmap_fini(&n->executors);
	idmap_fini(&n->shadows);
	free(n);
}

bool nursery_dead(const struct nursery *n)
{
	return n->first.leader == 0;
}

#define FILES_MAX 65536

int nursery_file(struct nursery *n, uint32_t id, int fd)
{
	if (id >= FILES_MAX)
		return -EINVAL;
	if (id >= n->nfiles) {
		size_t more = (id + 64) & ~63u;
		int *v = realloc(n->files, more * sizeof(*v));

		if (!v)
			return -ENOMEM;
		for (size_t i = n->nfiles; i < more; i++)
			v[i] = -1;
		n->files = v;
		n->nfiles = more;
	}
	close_fd(&n->files[id]);
	n->files[id] = fd;
	return 0;
}

/* A device may be nobody else's as long as it is open. */
static void take_file(struct shadow *s, uint32_t id)
{
	const struct batch_call call = { SYS_close, { MAPPER_FILES + id } };
	const struct nursery *met cleanup_part = meet(s);

	(void)run_all(s, s->mapper, &call, 1);
}

/* The number may come to mean another file: mappers must ask again. */
void nursery_file_drop(struct nursery *n, uint32_t id)
{
	struct shadow *s;
	struct stat st;
	size_t pos = 0;
	bool device;

	if (id >= n->nfiles)
		return;
	device = fstat(n->files[id], &st) == 0 && !S_ISREG(st.st_mode);
	close_fd(&n->files[id]);
	while ((s = idmap_next(&n->shadows, &pos))) {
		const uint8_t bit = (uint8_t)(1u << (id % 8));

		if (id >= s->nfiles || !(s->files[id / 8] & bit))
			continue;
		s->files[id / 8] &= (uint8_t)~bit;
		if (device)
			take_file(s, id);
	}
}

int nursery_file_fd(const struct nursery *n, uint32_t id)
{
	return id < n->nfiles ? n->files[id] : -1;
}

/* --- descriptors for a mapper ------------------------------------------- */

struct given {
	int fd;			/* ours */
	int as;			/* its number there */
};

#define NOTIFY_LOOK_MS 50

/* A call before MAGIC_NOTIFY has failed: then the batch is over. */
static bool has_stopped(pid_t mapper)
{
	struct proc_status status;

	return proc_status_read(mapper, &status) == 0 && status.state == 't';
}

/* A mapper's MAGIC_NOTIFY; -ESRCH: it has ended; -ECANCELED: it will not come. */
static int await_notify(struct nursery *n, pid_t mapper,
			struct seccomp_notif *req)
{
	struct pollfd p = { .fd = n->listener, .events = POLLIN };

	for (;;) {
		int ready = poll(&p, 1, NOTIFY_LOOK_MS);

		if (ready == 1) {
			if (ioctl(n->listener, SECCOMP_IOCTL_NOTIF_RECV,
				  req) == 0)
				return 0;
			/* Killed meanwhile, and nothing else is there. */
			if (errno != EINTR)
				return -ESRCH;
		} else if (remote_gone(mapper)) {
			return -ESRCH;
		} else if (has_stopped(mapper)) {
			return -ECANCELED;
		}
	}
}

/* What a tick interrupts is done again: it may be done twice. */
static int notify_ioctl(const struct nursery *n, unsigned long request,
			void *arg)
{
	int r;

	do
		r = ioctl(n->listener, request, arg);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/*
 * Serve one MAGIC_NOTIFY: while the mapper waits in that call, descriptors
 * are put into its table (seccomp_unotify(2), SECCOMP_IOCTL_NOTIF_ADDFD).
 */
static int serve_notify(struct nursery *n, pid_t mapper, const struct given *v,
			size_t nv)
{
	struct seccomp_notif req = { 0 };
	struct seccomp_notif_resp resp = { 0 };
	int err = await_notify(n, mapper, &req);

	if (err)
		return err;
	resp.id = req.id;
	for (size_t i = 0; i < nv && !resp.error; i++) {
		struct seccomp_notif_addfd add = {
			.id = req.id,
			.flags = SECCOMP_ADDFD_FLAG_SETFD,
			.srcfd = (uint32_t)v[i].fd,
			.newfd = (uint32_t)v[i].as,
		};

		resp.error = notify_ioctl(n, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
	}
	err = notify_ioctl(n, SECCOMP_IOCTL_NOTIF_SEND, &resp);
	return err ? err : resp.error;
}

/* A batch with one MAGIC_NOTIFY in it, from the table of either shadow. */
static int run_with_notify(struct shadow *s, struct shadow *table,
			   const struct batch_call *calls, size_t n,
			   const struct given *v, size_t nv)
{
	struct remote r = shadow_remote(s, s->mapper);
	struct user_regs_struct regs;
	int err, given;

	memcpy(table->ctl + CTL_CALLS, calls, n * sizeof(*calls));
	regs = batch_regs(s, s->mapper, n);
	regs.orig_rax = ~0ULL;
	err = remote_set_regs(s->mapper, &regs);
	if (!err && ptrace(PTRACE_CONT, s->mapper, NULL, NULL) < 0)
		err = -errno;
	if (err)
		return err;
	given = serve_notify(s->nursery, s->mapper, v, nv);
	err = remote_wait(s->mapper, &r.status);
	if (err)
		return err;
	if (!WIFSTOPPED(r.status))
		return -ESRCH;
	if (r.status >> 16 != PTRACE_EVENT_SECCOMP)
		return -EFAULT;
	err = remote_get_regs(s->mapper, &regs);
	if (err)
		return err;
	return regs.r13 ? (int)(int64_t)regs.r14 : given;
}

static bool has_file(const struct shadow *s, uint32_t id)
{
	return id < s->nfiles && s->files[id / 8] & (1u << (id % 8));
}

static int make_room(struct shadow *s, uint32_t id)
{
	size_t more = (id + 512) & ~511u;
	uint8_t *v;

	if (id < s->nfiles)
		return 0;
	v = realloc(s->files, more / 8);
	if (!v)
		return -ENOMEM;
	memset(v + s->nfiles / 8, 0, (more - s->nfiles) / 8);
	s->files = v;
	s->nfiles = more;
	return 0;
}

/* Files that the mapper does not have. */
struct gifts {
	struct given v[MSG_EXTENTS_MAX];
	size_t n;
};

static int add_gift(struct shadow *s, struct gifts *g, uint32_t id)
{
	const struct nursery *n = s->nursery;
	int err;

	if (id >= n->nfiles || n->files[id] < 0)
		return -EINVAL;
	if (has_file(s, id))
		return 0;
	for (size_t i = 0; i < g->n; i++)
		if (g->v[i].as == MAPPER_FILES + (int)id)
			return 0;
	err = make_room(s, id);
	if (!err)
		g->v[g->n++] = (struct given){ n->files[id],
					       MAPPER_FILES + (int)id };
	return err;
}

static int give(struct shadow *s, const struct gifts *g)
{
	struct batch_call ask = { .nr = MAGIC_NOTIFY };
	int err = g->n ? run_with_notify(s, s, &ask, 1, g->v, g->n) : 0;

	for (size_t i = 0; i < g->n && !err; i++) {
		const uint32_t id = (uint32_t)(g->v[i].as - MAPPER_FILES);

		s->files[id / 8] |= (uint8_t)(1u << (id % 8));
	}
	return err;
}

static int give_file(struct shadow *s, uint32_t id)
{
	struct gifts g = { .n = 0 };
	int err = add_gift(s, &g, id);

	return err ? err : give(s, &g);
}

/* All at once: what cannot be given so is found out one by one. */
static void give_files(struct shadow *s, const struct extent *v, size_t n)
{
	struct gifts g = { .n = 0 };

	for (size_t i = 0; i < n && i < MSG_EXTENTS_MAX; i++)
		if (v[i].kind == EXTENT_FILE)
			(void)add_gift(s, &g, v[i].file);
	(void)give(s, &g);
}

/* --- shadows ------------------------------------------------------------ */

/*
 * A mapper for a shadow that still has its parent's ctl page mapped. The table of
 * descriptors that it gets is a new one, of which nothing has to be closed: a
 * copy's end is something that a file system may be told, and answer when it
 * likes.
 */
static int make_mapper(struct shadow *s, struct shadow *parent)
{
	const struct batch_call calls[] = {
		{ SYS_close_range, { 0, ~0U, CLOSE_RANGE_UNSHARE } },
		{ MAGIC_NOTIFY, { 0 } },
		{ SYS_mmap, { ctl_gva(s), CAPSULE_CTL, PROT_READ,
			      MAP_SHARED | MAP_FIXED, MAPPER_CTL, 0 } },
	};
	const struct given fds[] = {
		{ s->ctl_fd, MAPPER_CTL },
		{ s->nursery->ram->fd, MAPPER_RAM },
	};
	uint64_t all = ~0ULL;
	int err;

	err = clone_thread(s, s->leader, THREAD_FLAGS, &s->mapper, NULL);
	if (err)
		return err;
	/* Signals that a target's call raises are its executors' to take. */
	if (ptrace(PTRACE_SETSIGMASK, s->mapper, (void *)sizeof(all),
		   &all) < 0)
		return -ESRCH;	/* it was killed */
	return run_with_notify(s, parent, calls, ARRAY_SIZE(calls), fds,
			       ARRAY_SIZE(fds));
}

/* A child of parent's, which has a name in the nursery, and none yet outside. */
static int make_shadow(struct shadow *parent, uint32_t clone_flags,
		       struct shadow **out)
{
	struct nursery *n = parent->nursery;
	const struct nursery *met cleanup_part = NULL;
	struct shadow *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	met = meet(parent);
	s->cpu = parent->cpu;
	s->nursery = n;
	s->base = parent->base;
	s->pidfd = s->ctl_fd = -1;
	err = ctl_init(s);
	if (!err)
		err = clone_thread(parent, parent->leader,
				   clone_flags | SIGCHLD, &s->leader,
				   &s->inner_pid);
	if (!err)
		err = make_mapper(s, parent);
	if (!err) {
		s->pidfd = pidfd_of(s->leader);
		err = s->pidfd < 0 ? s->pidfd : 0;
	}
	if (!err)
		err = idmap_put(&n->shadows, (uint32_t)s->leader, s);
	if (err) {
		if (!kill_shadow(s))
			err = -EINPROGRESS;
		shadow_fini(s);
		free(s);
		return err;
	}
	*out = s;
	return 0;
}

static int set_umask(struct shadow *s, uint32_t umask)
{
	const struct batch_call mask = { SYS_umask, { umask } };
	const struct nursery *met cleanup_part = meet(s);

	return run_all(s, s->leader, &mask, 1);
}

/* Of those that have no parent; what is left of one that fails is freed. */
static int make_first(struct nursery *n, uint32_t umask, uint32_t clone_flags,
		      struct shadow **out)
{
	int err = make_shadow(&n->first, clone_flags, out);

	if (err)
		return err;
	err = set_umask(*out, umask);
	if (err)
		(void)shadow_free(*out);
	return err;
}

/* It may have been killed meanwhile, as any other. */
static bool take_spare(struct nursery *n, uint32_t umask, struct shadow **out)
{
	struct shadow *s = n->spare;

	n->spare = NULL;
	if (s && set_umask(s, umask) < 0) {
		(void)shadow_free(s);
		s = NULL;
	}
	*out = s;
	return s;
}

int shadow_new(struct nursery *n, struct shadow *parent, uint32_t id,
	       uint32_t umask, uint32_t clone_flags, struct shadow **out)
{
	struct shadow *s;
	int err = 0;

	if (clone_flags & ~(uint32_t)(CLONE_FILES | CLONE_FS))
		return -EINVAL;
	if (parent)
		err = make_shadow(parent, clone_flags, &s);
	else if (clone_flags || !take_spare(n, umask, &s))
		err = make_first(n, umask, clone_flags, &s);
	if (err)
		return err;
	s->id = id;
	*out = s;
	return 0;
}

static void executor_free(struct executor *e)
{
	struct executor **p = &e->shadow->executors;

	if (e->slot)
		munmap(e->slot, PAGE_BYTES);
	while (*p && *p != e)
		p = &(*p)->next;
	if (*p)
		*p = e->next;
	if (e->tid)
		idmap_take(&e->shadow->nursery->executors, (uint32_t)e->tid);
	free(e);
}

#define END_WAIT_MS 2000

/*
 * Take the end of a killed thread. One that hangs in the kernel (a dead file
 * server) is not waited for longer than until; the loop takes it later.
 */
static bool await_end(pid_t tid, int *left_us)
{
	struct timespec pause = { .tv_nsec = 20000 };
	int status;

	while (*left_us > 0) {
		pid_t got = waitpid(tid, &status, __WALL | WNOHANG);

		if (got < 0 || (got > 0 && !WIFSTOPPED(status)))
			return true;
		if (got > 0) {
			ptrace(PTRACE_CONT, tid, NULL, NULL);
			continue;
		}
		nanosleep(&pause, NULL);
		*left_us -= 100;	/* the timer's slack included */
	}
	return false;
}

/*
 * Whoever is told of it next may rely on its locks and files being free, and
 * on no page of the guest being touched any more; false: not yet.
 */
static bool kill_shadow(struct shadow *s)
{
	int left_us = END_WAIT_MS * 1000;

	if (s->leader <= 0)
		return true;
	kill(s->leader, SIGKILL);
	for (struct executor *e = s->executors; e; e = e->next)
		await_end(e->tid, &left_us);
	if (s->mapper > 0)
		await_end(s->mapper, &left_us);
	/* The last thread: then its memory has gone, too. */
	return await_end(s->leader, &left_us);
}

int shadow_free(struct shadow *s)
{
	const bool ended = kill_shadow(s);

	while (s->executors)
		executor_free(s->executors);
	idmap_take(&s->nursery->shadows, (uint32_t)s->leader);
	shadow_fini(s);
	free(s);
	return ended ? 0 : -EINPROGRESS;
}

/* --- executors ---------------------------------------------------------- */

static void executor_stopped(struct executor *e, int status);

static bool is_parked(const struct executor *e)
{
	return e->thread == EXECUTOR_PARKED;
}

/*
 * Stop an executor where it is: 0, or -ESRCH. Stops that were on their way
 * before are dealt with as the loop does.
 */
static int hold_executor(struct executor *e)
{
	int status;

	ptrace(PTRACE_INTERRUPT, e->tid, NULL, NULL);
	for (;;) {
		if (remote_wait(e->tid, &status) < 0 || !WIFSTOPPED(status))
			return -ESRCH;
		if (status >> 16 == PTRACE_EVENT_STOP)
			return 0;
		executor_stopped(e, status);
	}
}

/* A stopped executor ends as soon as it is let go. */
static void send_to_exit(struct executor *e)
{
	struct user_regs_struct regs;

	if (remote_get_regs(e->tid, &regs) == 0) {
		regs.rip = e->shadow->base + capsule_header().exit;
		regs.orig_rax = ~0ULL;
		remote_set_regs(e->tid, &regs);
	}
	ptrace(PTRACE_CONT, e->tid, NULL, NULL);
}

/*
 * Executors look at their slots whenever they like: they must be gone, or on
 * their way out, before the memory is.
 */
int shadow_reset(struct shadow *s)
{
	const struct nursery *met cleanup_part = meet(s);
	const uint64_t end = s->base + CAPSULE_SIZE;
	const struct batch_call calls[] = {
		{ SYS_munmap, { 0, s->base } },
		{ SYS_munmap, { end, USER_END - end } },
	};

	while (s->executors) {
		struct executor *e = s->executors;

		if (is_parked(e) || hold_executor(e) == 0)
			send_to_exit(e);
		executor_free(e);
	}
	return run_all(s, s->mapper, calls, ARRAY_SIZE(calls));
}

static struct executor *find_executor(struct shadow *s, uint32_t thread)
{
	struct executor *e = s->executors;

	/* One that is ending may have a successor of its number. */
	while (e && (e->thread != thread || e->ending || e->closer))
		e = e->next;
	return e;
}

/*
 * The first page of a slot, which has the word that the executor sleeps on:
 * the guest cannot wake it, we can. Whatever page the guest names, all that
 * comes of it is a wake-up.
 */
static int map_slot(const struct ram *ram, uint64_t gpa, uint32_t **out)
{
	uint64_t off;
	void *p;
	int err = ram_find(ram, gpa, PAGE_BYTES, &off);

	if (err || gpa % PAGE_BYTES)
		return -EINVAL;
	p = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_SHARED, ram->fd, (off_t)off);
	if (p == MAP_FAILED)
		return -errno;
	*out = p;
	return 0;
}

/*
 * It begins on our core, and we make room: the guest is busy on another. Left to
 * the scheduler it may come to wait behind the guest, which waits for it.
 */
void shadow_ring(struct shadow *s, uint32_t thread)
{
	const cpu_set_t *all = &s->nursery->cpus;
	struct executor *e = find_executor(s, thread);
	const int cpu = sched_getcpu();
	const bool moves = cpu >= 0 && cpu < CPU_SETSIZE && CPU_COUNT(all) > 1;
	cpu_set_t here;

	if (!e || !e->slot)
		return;
	if (moves) {
		here = cpus_one(cpu);
		sched_setaffinity(e->tid, sizeof(here), &here);
	}
	syscall(SYS_futex, e->slot + SLOT_REQ_SEQ / sizeof(*e->slot),
		FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
	if (moves)
		sched_setaffinity(e->tid, sizeof(*all), all);
	sched_yield();
}

/* NULL: *err says why. */
static struct executor *executor_alloc(struct shadow *s, int *err)
{
	struct executor *e = NULL;

	*err = -EAGAIN;
	if (s->nursery->executors.n < EXECUTORS_MAX) {
		e = calloc(1, sizeof(*e));
		*err = e ? 0 : -ENOMEM;
	}
	if (e)
		e->shadow = s;
	return e;
}

/* Its stops are dealt with from now on. 0 or -errno. */
static int executor_add(struct executor *e)
{
	struct shadow *s = e->shadow;
	int err = idmap_put(&s->nursery->executors, (uint32_t)e->tid, e);

	if (err)
		return err;
	e->next = s->executors;
	s->executors = e;
	return 0;
}

/* A thread of the shadow's, stopped, with the filter of executors. */
static int make_executor(struct shadow *s, struct executor **out)
{
	const struct nursery *met cleanup_part = meet(s);
	struct batch_call filter = { SYS_seccomp,
				     { SECCOMP_SET_MODE_FILTER, 0 } };
	struct executor *e;
	int err;

	e = executor_alloc(s, &err);
	if (!e)
		return err;
	err = clone_thread(s, s->leader, THREAD_FLAGS, &e->tid, NULL);
	if (err) {
		executor_free(e);
		return err;
	}
	filter.args[2] = ctl_filter(s, &s->nursery->executor_filter);
	err = run_all(s, e->tid, &filter, 1);
	if (!err)
		err = executor_add(e);
	if (err) {
		/* Unfiltered, it must not run: the shadow ends with it. */
		kill(s->leader, SIGKILL);
		executor_free(e);
		return err;
	}
	e->thread = EXECUTOR_PARKED;
	*out = e;
	return 0;
}

int shadow_thread_new(struct shadow *s, uint32_t thread, uint64_t slot,
		      uint64_t slot_gpa, uint32_t seq)
{
	const cpu_set_t *cpus = &s->nursery->cpus;
	struct user_regs_struct regs;
	uint32_t *page = NULL;
	struct executor *e;
	int err = 0;

	if (thread >= SLOT_MAX)
		return -EINVAL;
	if (find_executor(s, thread))
		return -EEXIST;
	if (slot_gpa)
		err = map_slot(s->nursery->ram, slot_gpa, &page);
	if (err)
		return err;
	e = find_executor(s, EXECUTOR_PARKED);
	if (!e)
		err = make_executor(s, &e);
	if (err) {
		if (page)
			munmap(page, PAGE_BYTES);
		return err;
	}
	e->slot = page;
	err = remote_get_regs(e->tid, &regs);
	if (!err) {
		regs.rip = s->base + capsule_header().executor;
		regs.orig_rax = ~0ULL;
		regs.r12 = slot;
		regs.r13 = seq & ~1u;
		regs.r15 = 0;
		/* Who waits by a slot of his own has stopped for it, and is on
		 * the same core as his executor often (guest/placement.c). */
		regs.rsp = slot_gpa || thread < SLOT_FIRST ?
			   (s->nursery->spin & ~1ULL) | (slot_gpa != 0) : 0;
		regs.rbx = 0;
		err = remote_set_regs(e->tid, &regs);
	}
	if (err) {		/* it has been killed, and so the shadow */
		executor_free(e);
		return err;
	}
	e->thread = thread;
	if (CPU_COUNT(cpus))
		sched_setaffinity(e->tid, sizeof(*cpus), cpus);
	return ptrace(PTRACE_CONT, e->tid, NULL, NULL) < 0 ? -errno : 0;
}

void nursery_stock(struct nursery *n)
{
	struct executor *e;
	struct shadow *s;

	if (n->spare || make_shadow(&n->first, 0, &s) < 0)
		return;
	if (make_executor(s, &e) < 0)
		(void)shadow_free(s);
	else
		n->spare = s;
}

void shadow_thread_end(struct shadow *s, uint32_t thread)
{
	struct executor *e = find_executor(s, thread);

	if (!e)
		return;
	e->ending = true;
	ptrace(PTRACE_INTERRUPT, e->tid, NULL, NULL);
}

void shadow_cancel(struct shadow *s, uint32_t thread, uint32_t seq)
{
	struct executor *e = find_executor(s, thread);

	if (!e)
		return;
	e->cancel = true;
	e->cancel_seq = seq;
	ptrace(PTRACE_INTERRUPT, e->tid, NULL, NULL);
}

int shadow_asleep(struct shadow *s, uint32_t thread, uint32_t nr)
{
	const struct executor *e = find_executor(s, thread);
	char *text cleanup_free = NULL;
	char path[64];
	unsigned int in;

	if (!e)
		return -ESRCH;
	/* "running", or the call that it sleeps in (proc_pid_syscall(5)). */
	snprintf(path, sizeof(path), "/proc/%d/syscall", e->tid);
	if (fd_read_all(path, 4096, &text) < 0)
		return -ESRCH;
	return sscanf(text, "%u", &in) == 1 &&
	       (in == nr || in == SYS_futex) ? 0 : -EBUSY;
}

/* Between taking the request and making its call, in user mode? */
static bool before_call(const struct executor *e,
			const struct user_regs_struct *regs)
{
	const struct capsule_header h = capsule_header();
	const uint64_t at = regs->rip - e->shadow->base;

	return at >= h.taken && at < h.called;
}

void shadow_place(struct shadow *s, uint32_t thread, uint32_t cpu, bool avoid)
{
	struct executor *e = find_executor(s, thread);
	cpu_set_t set = s->nursery->cpus;

	if (!e || cpu > CPU_SETSIZE)
		return;
	if (cpu && avoid) {
		if (CPU_COUNT(&set) > 1)
			CPU_CLR(cpu - 1, &set);
	} else if (cpu) {
		if (!CPU_ISSET(cpu - 1, &set))
			return;
		set = cpus_one((int)cpu - 1);
	}
	sched_setaffinity(e->tid, sizeof(set), &set);
}

static bool interrupted(int64_t rax)
{
	return rax == -ERESTARTSYS || rax == -ERESTARTNOINTR ||
	       rax == -ERESTARTNOHAND || rax == -ERESTART_RESTARTBLOCK;
}

/*
 * An executor that is to cut a request short has stopped. A call that is
 * under way has been interrupted by that: its register holds the kernel's own
 * ERESTART code, which the target's kernel will act upon, or its result. A
 * call that has not begun is followed up to its entry and interrupted there,
 * so that it does what it does natively with a signal pending: a call that
 * need not block is carried out, any other is cut short without effect.
 * Returns how to resume.
 */
static unsigned int cancel_here(struct executor *e, int status,
				struct user_regs_struct *regs)
{
	const bool at_call = regs->rip - e->shadow->base ==
			     capsule_header().called;
	const int32_t ahead = (int32_t)(e->cancel_seq - (uint32_t)regs->r13);
	const bool taken = ahead == 0;
	struct __ptrace_syscall_info info = { 0 };

	if (taken && at_call && e->chasing &&
	    WSTOPSIG(status) == (SIGTRAP | 0x80) &&
	    ptrace(PTRACE_GET_SYSCALL_INFO, e->tid, (void *)sizeof(info),
		   &info) > 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY) {
		e->chasing = false;
		ptrace(PTRACE_INTERRUPT, e->tid, NULL, NULL);
		return PTRACE_CONT;
	}
	if (taken && at_call && status >> 16 == PTRACE_EVENT_STOP &&
	    interrupted((int64_t)regs->rax)) {
		/* Made again by the target, not by us. */
		regs->orig_rax = ~0ULL;
		remote_set_regs(e->tid, regs);
	}
	if (ahead > 0 || (taken && before_call(e, regs))) {
		e->chasing = true;
		return PTRACE_SYSCALL;
	}
	e->cancel = e->chasing = false;
	return PTRACE_CONT;
}

#define REFUSALS_SHOWN	20

/* The filter has found an ioctl that policy does not name. */
static void refuse_call(struct executor *e, struct user_regs_struct *regs)
{
	struct nursery *n = e->shadow->nursery;

	if (n->refusals < REFUSALS_SHOWN)
		log_warn("shadow %u: ioctl request %#x is not allowed by the"
			 " policy: EPERM (to allow it, add it to the rule's"
			 " :ioctl=)%s", e->shadow->id,
			 (uint32_t)regs->rsi,
			 n->refusals + 1 == REFUSALS_SHOWN ?
			 "; more of them are not shown" : "");
	n->refusals++;
	regs->orig_rax = ~0ULL;
	regs->rax = (uint64_t)-EPERM;
	remote_set_regs(e->tid, regs);
}

/*
 * What owners of descriptors get: with a signal of its own (F_SETSIG) comes
 * the number that the descriptor had when O_ASYNC was set. When the queue is
 * full, SIGIO alone comes.
 */
#define ASYNC_SIGNAL	64

static bool note_async(struct executor *e, int sig)
{
	struct nursery *n = e->shadow->nursery;
	struct async a = { e->shadow->id, UINT32_MAX, 0 };
	siginfo_t si;

	if (sig != ASYNC_SIGNAL && sig != SIGIO)
		return false;
	if (sig == ASYNC_SIGNAL &&
	    ptrace(PTRACE_GETSIGINFO, e->tid, NULL, &si) == 0) {
		a.fd = (uint32_t)si.si_fd;
		a.band = si.si_band;
	}
	/* As it is with signals: there are not more than there is room for. */
	if (n->nasyncs < ASYNC_MAX)
		n->asyncs[n->nasyncs++] = a;
	return true;
}

static void executor_stopped(struct executor *e, int status)
{
	struct user_regs_struct regs;
	unsigned int how = PTRACE_CONT;
	unsigned long sig = 0;

	if (!WIFSTOPPED(status)) {
		executor_free(e);
		return;
	}
	if (e->closer) {
		/* It stops at the end of its batch. */
		if (status >> 16 == PTRACE_EVENT_SECCOMP)
			send_to_exit(e);
		else
			ptrace(PTRACE_CONT, e->tid, NULL, NULL);
		return;
	}
	if (e->ending && status >> 16 == PTRACE_EVENT_STOP) {
		send_to_exit(e);
		return;
	}
	if (remote_get_regs(e->tid, &regs) == 0) {
		const int s = WSTOPSIG(status);

		if (status >> 16 == PTRACE_EVENT_STOP ||
		    s == (SIGTRAP | 0x80)) {
			if (e->cancel)
				how = cancel_here(e, status, &regs);
		} else if (status >> 16 == PTRACE_EVENT_SECCOMP) {
			refuse_call(e, &regs);
		} else if (status >> 16 == 0) {
			if (note_async(e, s))
				;
			else if (s == SIGSEGV || s == SIGBUS || s == SIGILL)
				sig = (unsigned long)s;	/* its slot is gone */
			else if (regs.rip == e->shadow->base +
				 capsule_header().called) {
				/* Caused by the target's call: the target's. */
				regs.r15 = (uint64_t)s;
				remote_set_regs(e->tid, &regs);
			}
			if (e->chasing)
				how = PTRACE_SYSCALL;
		}
	}
	ptrace((enum __ptrace_request)how, e->tid, NULL, sig);
}

/*
 * A stop of a thread that is nobody's: a process whose birth was not awaited,
 * for its parent was killed at it, or an executor on its way out.
 */
static void stray_stopped(struct nursery *n, pid_t tid)
{
	struct shadow *s;
	size_t pos = 0;

	if (tid == n->first.leader || idmap_get(&n->shadows, (uint32_t)tid))
		return;
	while ((s = idmap_next(&n->shadows, &pos)))
		if (s->mapper == tid)
			return;
	/* Only the first thread of a process has its number. */
	syscall(SYS_tgkill, tid, tid, SIGKILL);
	ptrace(PTRACE_CONT, tid, NULL, NULL);
}

struct shadow *nursery_stopped(struct nursery *n, pid_t tid, int status)
{
	struct executor *e = idmap_get(&n->executors, (uint32_t)tid);
	struct shadow *s = idmap_get(&n->shadows, (uint32_t)tid);

	if (e) {
		executor_stopped(e, status);
		return NULL;
	}
	if (s && !WIFSTOPPED(status)) {
		idmap_take(&n->shadows, (uint32_t)tid);
		s->leader = 0;
		if (s != n->spare)
			return s;
		n->spare = NULL;
		(void)shadow_free(s);
		return NULL;
	}
	if (WIFSTOPPED(status))
		stray_stopped(n, tid);
	else if (tid == n->first.leader)
		n->first.leader = 0;
	return NULL;
}

/* --- memory ------------------------------------------------------------- */

/*
 * The target maps something where the capsule is: move. Text and ctl page go
 * by mremap, which takes a running thread's code from under it, so every
 * thread is stopped and given its new instruction pointer. An interrupted
 * call restarts by itself: the kernel steps back from wherever rip is.
 */
static int capsule_move(struct shadow *s)
{
	const uint64_t old = s->base;
	struct executor *e, *next;
	int64_t to, r;

	to = CALL(s, s->mapper, SYS_mmap, 0, CAPSULE_SIZE, PROT_NONE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, ~0ULL, 0);
	if (to < 0)
		return (int)to;
	for (e = s->executors; e; e = next) {
		next = e->next;
		if (!is_parked(e) && hold_executor(e) < 0)
			executor_free(e);
	}
	r = CALL(s, s->mapper, SYS_mremap, ctl_gva(s), CAPSULE_CTL,
		 CAPSULE_CTL, MREMAP_MAYMOVE | MREMAP_FIXED,
		 (uint64_t)to + CAPSULE_TEXT);
	if (r >= 0)
		r = CALL(s, s->mapper, SYS_mremap, s->base, CAPSULE_TEXT,
			 CAPSULE_TEXT, MREMAP_MAYMOVE | MREMAP_FIXED,
			 (uint64_t)to);
	if (r >= 0)
		s->base = (uint64_t)to;
	/* Leader and mapper get rip with every call that is injected, who is
	 * parked when it begins. */
	for (e = s->executors; e; e = e->next) {
		struct user_regs_struct regs;

		if (is_parked(e))
			continue;
		if (remote_get_regs(e->tid, &regs) == 0) {
			if (regs.rip - old < CAPSULE_TEXT)
				regs.rip += s->base - old;
			remote_set_regs(e->tid, &regs);
		}
		ptrace(PTRACE_CONT, e->tid, NULL, NULL);
		if (e->ending || e->cancel)
			ptrace(PTRACE_INTERRUPT, e->tid, NULL, NULL);
	}
	log_debug("shadow %u: capsule moved from %#lx to %#lx", s->id, old,
		  s->base);
	return r < 0 ? (int)r : 0;
}

/*
 * An extent of the guest's as it can be mapped: checked, and with an offset in
 * the RAM file in place of a guest physical address.
 */
static bool extent_resolve(const struct nursery *n, const struct extent *e,
			   struct extent *out)
{
	*out = *e;
	if ((e->gva | e->len | e->off) & (PAGE_BYTES - 1) || e->len == 0 ||
	    e->gva < PAGE_BYTES || !range_inside(e->gva, e->len, USER_END))
		return false;
	switch ((enum extent_kind)e->kind) {
	case EXTENT_NONE:
		return true;
	case EXTENT_RAM:
		return ram_find(n->ram, e->off, e->len, &out->off) == 0;
	case EXTENT_FILE:
		return range_inside(e->off, e->len, INT64_MAX);
	}
	return false;
}

static struct batch_call extent_call(const struct extent *e)
{
	uint64_t prot = (e->flags & EXTENT_READ ? PROT_READ : 0) |
			(e->flags & EXTENT_WRITE ? PROT_WRITE : 0);
	uint64_t fd = MAPPER_RAM, flags = MAP_SHARED;

	if (e->kind == EXTENT_NONE)
		return (struct batch_call){ SYS_munmap, { e->gva, e->len } };
	if (e->kind == EXTENT_FILE) {
		fd = MAPPER_FILES + e->file;
		if (!(e->flags & EXTENT_SHARED)) {
			flags = MAP_PRIVATE;
			prot &= ~(uint64_t)PROT_WRITE;
		}
	}
	return (struct batch_call){ SYS_mmap,
		{ e->gva, e->len, prot, flags | MAP_FIXED | MAP_NORESERVE, fd,
		  e->off } };
}

static bool meets_capsule(const struct shadow *s, const struct extent *e)
{
	return e->gva < s->base + CAPSULE_SIZE && s->base < e->gva + e->len;
}

/* The part of an extent in [start, end), or nothing. */
static bool extent_part(const struct extent *e, uint64_t start, uint64_t end,
			struct extent *out)
{
	start = start > e->gva ? start : e->gva;
	end = end < e->gva + e->len ? end : e->gva + e->len;
	if (start >= end)
		return false;
	*out = *e;
	out->gva = start;
	out->len = end - start;
	out->off += start - e->gva;
	return true;
}

struct map_batch {
	struct batch_call v[CTL_CALLS_MAX];
	size_t n;
};

static int flush_map(struct shadow *s, struct map_batch *b)
{
	size_t done = 0, n = b->n;

	b->n = 0;
	while (done < n) {
		int64_t last = 0;
		ssize_t m = run_batch(s, s->mapper, b->v + done, n - done,
				      &last);

		if (m < 0)
			return (int)m;
		done += (size_t)m;
		if (done == n)
			break;
		if (last == -ENOMEM)
			return -ENOMEM;
		/* What was asked for cannot be mapped: nothing is there. */
		CALL(s, s->mapper, SYS_munmap, b->v[done].args[0],
		     b->v[done].args[1]);
		done++;
	}
	return 0;
}

/* An extent that does not meet the capsule, which this makes sure of. */
static int put_extent(struct shadow *s, struct map_batch *b,
		      const struct extent *e)
{
	struct extent put = *e;

	if (meets_capsule(s, e))
		return -EIO;
	if (put.kind == EXTENT_FILE && give_file(s, put.file) < 0)
		put.kind = EXTENT_NONE;
	b->v[b->n++] = extent_call(&put);
	return b->n == CTL_CALLS_MAX ? flush_map(s, b) : 0;
}

/*
 * An extent where the capsule is. What lies beside the capsule is mapped
 * first, so that the kernel finds another place for the capsule, outside the
 * extent; then the rest. Unmapping spares it: there is nothing of the
 * target's there.
 */
static int put_around(struct shadow *s, struct map_batch *b,
		      const struct extent *e)
{
	const uint64_t start = s->base, end = s->base + CAPSULE_SIZE;
	struct extent part;
	int err = 0;

	if (extent_part(e, 0, start, &part))
		err = put_extent(s, b, &part);
	if (!err && extent_part(e, end, USER_END, &part))
		err = put_extent(s, b, &part);
	if (!err)
		err = flush_map(s, b);
	if (err || e->kind == EXTENT_NONE)
		return err;
	err = capsule_move(s);
	if (!err && extent_part(e, start, end, &part))
		err = put_extent(s, b, &part);
	return err;
}

int shadow_map(struct shadow *s, const struct extent *v, size_t n)
{
	const struct nursery *met cleanup_part = meet(s);
	struct map_batch b = { .n = 0 };
	int err = 0, flushed;

	give_files(s, v, n);
	for (size_t i = 0; i < n && !err; i++) {
		struct extent e;

		if (!extent_resolve(s->nursery, &v[i], &e))
			err = -EINVAL;
		else if (meets_capsule(s, &e))
			err = put_around(s, &b, &e);
		else
			err = put_extent(s, &b, &e);
	}
	/* What came before one that is refused holds. */
	flushed = flush_map(s, &b);
	return err ? err : flushed;
}

/* The soft limit alone: lowering the hard one could not be taken back. */
int shadow_limit(struct shadow *s, uint64_t bytes)
{
	struct rlimit lim;

	if (prlimit(s->leader, RLIMIT_FSIZE, NULL, &lim) < 0)
		return -errno;
	lim.rlim_cur = bytes < lim.rlim_max ? bytes : lim.rlim_max;
	return prlimit(s->leader, RLIMIT_FSIZE, &lim, NULL) < 0 ? -errno : 0;
}

static struct batch_call close_call(uint32_t fd)
{
	return fd < SHADOW_FD_BASE ?
	       (struct batch_call){ SYS_dup3, { SHADOW_FD_FILLER, fd } } :
	       (struct batch_call){ SYS_close, { fd } };
}

int shadow_close(struct shadow *s, uint32_t fd)
{
	const struct batch_call call = close_call(fd);
	const struct nursery *met cleanup_part = meet(s);

	if (fd == SHADOW_FD_FILLER)
		return -EBADF;
	return run_all(s, s->leader, &call, 1);
}

/* Up to where it has read what it is to do. */
static int start_closer(struct shadow *s, struct executor *e,
			const struct batch_call *call)
{
	struct user_regs_struct regs;
	uint64_t all = ~0ULL;
	int err, status;

	memcpy(s->ctl + CTL_CALLS, call, sizeof(*call));
	regs = batch_regs(s, e->tid, 1);
	regs.orig_rax = ~0ULL;
	err = remote_set_regs(e->tid, &regs);
	if (err)
		return err;
	ptrace(PTRACE_SETSIGMASK, e->tid, (void *)sizeof(all), &all);
	do {
		if (ptrace(PTRACE_SYSCALL, e->tid, NULL, NULL) < 0 ||
		    remote_wait(e->tid, &status) < 0 || !WIFSTOPPED(status))
			return -ESRCH;
	} while (WSTOPSIG(status) != (SIGTRAP | 0x80));
	return ptrace(PTRACE_CONT, e->tid, NULL, NULL) < 0 ? -ESRCH : 0;
}

int shadow_close_aside(struct shadow *s, uint32_t fd)
{
	const struct batch_call call = close_call(fd);
	const struct nursery *met cleanup_part = NULL;
	struct executor *e;
	int err;

	if (fd == SHADOW_FD_FILLER)
		return -EBADF;
	e = executor_alloc(s, &err);
	if (!e)
		return err;
	e->closer = true;
	met = meet(s);
	err = clone_thread(s, s->leader, THREAD_FLAGS, &e->tid, NULL);
	if (!err)
		err = executor_add(e);
	if (!err)
		err = start_closer(s, e, &call);
	if (err) {
		if (e->tid)
			kill(s->leader, SIGKILL);	/* whatever it does */
		executor_free(e);
	}
	return err;
}

int shadow_own(struct shadow *s, int fd, bool on)
{
	int copy cleanup_fd = shadow_getfd(s, fd);

	if (copy < 0)
		return copy;
	if (fcntl(copy, F_SETSIG, on ? ASYNC_SIGNAL : 0) < 0 ||
	    fcntl(copy, F_SETOWN, on ? s->leader : 0) < 0)
		return -errno;
	return 0;
}

int shadow_getfd(struct shadow *s, int fd)
{
	int copy = (int)syscall(SYS_pidfd_getfd, s->pidfd, fd, 0);

	return copy < 0 ? -errno : copy;
}
