/* SPDX-License-Identifier: MIT */
/*
 * launch.c - from a command line to the first traced target
 *
 * The child makes itself a target before it execs: gate and slots are mapped,
 * so even the first exec may be that of a forwarded file. A few descriptors
 * stay open in every target, at numbers that programs do not reach: from the
 * soft limit on where the hard one allows it, below it otherwise. The tracer
 * answers EBADF for them.
 */
#include "guest/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/exec.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/num.h"
#include "guest/filter.h"
#include "guest/path.h"
#include "guest/source.h"
#include "process/pagemap.h"

static void file_gone(void *ctx, struct mapfile *file)
{
	struct tracer *tr = ctx;
	struct msg m = { .type = MSG_FILE_DROP };

	if (!file->told || (file->bar && vm_still_mapped(tr, file)))
		return;
	/* It is about to be unplugged. */
	bar_close(&file->own);
	m.file.file = file->id;
	client_drop(&tr->client, &m);
}

/* Where gate and slots fit, by trying. */
static uint64_t choose_base(void)
{
	void *p = mmap((void *)GATE_BASE, PAGE_BYTES, PROT_NONE, MAP_PRIVATE |
		       MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == MAP_FAILED)
		return GATE_BASE_39;
	munmap(p, PAGE_BYTES);
	return GATE_BASE;
}

int launch_memory(struct tracer *tr)
{
	struct memory *m = &tr->memory;
	int err = arena_init(&m->arena);

	tr->passing = malloc(PASSING);
	if (!err && !tr->passing)
		err = -ENOMEM;
	if (err)
		return err;
	m->base = choose_base();
	m->file_gone = file_gone;
	m->ctx = tr;
	return 0;
}

int launch_vm_memory(struct tracer *tr, enum pin_kind pins, const char **what)
{
	struct memory *m = &tr->memory;
	int fd, err = pins_possible();

	*what = "the guest's kernel is too old: Linux 5.14 or later is needed"
		" (MADV_POPULATE_WRITE)";
	if (err)
		return err;
	err = pagemap_visible();
	*what = "/proc/PID/pagemap shows no page frames: run as root, or `setcap"
		" cap_sys_admin,cap_checkpoint_restore,cap_ipc_lock,"
		"cap_sys_resource,cap_sys_ptrace+ep` this program";
	if (err)
		return err;
	*what = "pinning memory: io_uring is refused here (see sysctl"
		" kernel.io_uring_disabled, a container's seccomp profile,"
		" CONFIG_IO_URING), and so are AF_XDP sockets (CAP_NET_RAW,"
		" CONFIG_XDP_SOCKETS); see `darkshadow doctor run shm`";
	if (pins == PIN_IO_URING)
		*what = "pinning memory by io_uring";
	if (pins == PIN_XDP)
		*what = "pinning memory by AF_XDP sockets";
	m->pinner = calloc(1, sizeof(*m->pinner));
	if (!m->pinner)
		return -ENOMEM;
	err = pinner_init(m->pinner, pins, &tr->client.unsure);
	if (err) {
		free(m->pinner);
		m->pinner = NULL;
		return err;
	}
	log_info("memory is pinned by %s", m->pinner->kind == PIN_XDP ?
		 "AF_XDP sockets" : "io_uring");
	*what = "guest memory (memfd)";
	fd = fcntl(m->arena.fd, F_DUPFD_CLOEXEC, 0);
	err = fd < 0 ? -errno : memory_file(m, fd, &m->arena_file);
	tr->source = &pagemap_source;
	return err;
}

void launch_fini(struct tracer *tr)
{
	struct memory *m = &tr->memory;

	if (m->arena_file)
		memory_file_unref(m, m->arena_file);
	if (m->pinner)
		pinner_fini(m->pinner);
	free(m->pinner);
	free(tr->passing);
	arena_fini(&m->arena);
}

struct child {
	struct tracer *tr;
	char **argv;
	uint64_t text_off, slots_off;
	int sock;
	int placeholder;
	int go;
	struct rlimit nofile, raised;
};

static int map_fixed(uint64_t at, uint64_t len, int prot, int fd, uint64_t off)
{
	void *p = mmap((void *)at, len, prot, MAP_SHARED | MAP_NORESERVE |
		       MAP_FIXED_NOREPLACE, fd, (off_t)off);

	return p == MAP_FAILED ? -errno : 0;
}

static bool has_rings(const struct tracer *tr)
{
	return tracer_in_vm(tr) && tr->memory.pinner->kind == PIN_IO_URING;
}

static int hide_fds(const struct child *c)
{
	const int fds[HIDDEN_FDS] = {
		[HIDDEN_ARENA] = c->tr->memory.arena.fd,
		[HIDDEN_SOCK] = c->sock,
		[HIDDEN_PLACEHOLDER] = c->placeholder,
	};

	if (setrlimit(RLIMIT_NOFILE, &c->raised) < 0)
		return -errno;
	for (int i = 0; i < HIDDEN_RING; i++)
		if (dup2(fds[i], c->tr->hidden + i) < 0)
			return -errno;
	for (int i = 0; has_rings(c->tr) && i < PIN_RINGS; i++)
		if (dup2(c->tr->memory.pinner->rings[i],
			 c->tr->hidden + HIDDEN_RING + i) < 0)
			return -errno;
	return setrlimit(RLIMIT_NOFILE, &c->nofile) < 0 ? -errno : 0;
}

static _Noreturn void child_main(const struct child *c)
{
	struct tracer *tr = c->tr;
	int err;
	char go;

	err = map_fixed(tr->memory.base, TEXT_SIZE, PROT_READ | PROT_EXEC,
			tr->memory.arena.fd, c->text_off);
	if (!err)
		err = map_fixed(memory_slots(&tr->memory), SLOT_AREA,
				PROT_READ | PROT_WRITE,
				tr->memory.arena.fd, c->slots_off);
	if (!err)
		err = hide_fds(c);
	if (err) {
		log_err("preparing the command: %s", strerror(-err));
		_exit(EXIT_OWN_FAILURE);
	}
	if (read(c->go, &go, 1) != 1)
		_exit(EXIT_OWN_FAILURE);
	err = filter_install(tr->memory.base);
	if (err) {
		log_err("installing the seccomp filter: %s (is seccomp"
			" forbidden here? See `darkshadow doctor run`)",
			strerror(-err));
		_exit(EXIT_OWN_FAILURE);
	}
	exec_command(c->argv);
}

/* Is what calls point to ours to read? The child has our memory until it goes. */
static int try_reading(pid_t pid)
{
	char here, there = 0;
	const struct iovec to = { &here, 1 }, from = { &there, 1 };

	return process_vm_readv(pid, &to, 1, &from, 1, 0) < 0 ? -errno : 0;
}

/* Killed, it may stop once more on its way out (PTRACE_EVENT_EXIT). */
static void end_child(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	while (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status))
		ptrace(PTRACE_CONT, pid, NULL, NULL);
}

/* Numbers for the hidden descriptors, and the limits to get them. */
static void choose_fds(struct child *c)
{
	rlim_t base;

	getrlimit(RLIMIT_NOFILE, &c->nofile);
	c->raised = c->nofile;
	base = c->nofile.rlim_cur;
	if (base > 1 << 20)
		base = 1 << 20;
	if (c->nofile.rlim_max >= base + HIDDEN_FDS)
		c->raised.rlim_cur = base + HIDDEN_FDS;
	else
		base -= HIDDEN_FDS;
	c->tr->hidden = (int)base;
}

/* Is the directory we are in one that is forwarded? */
static void first_cwd(struct tracer *tr, struct proc *p)
{
	struct task *t = idmap_get(&tr->tasks, (uint32_t)p->pid);
	char cwd[PATH_MAX];
	struct place place;
	mode_t mask = umask(0);

	umask(mask);
	p->fs->umask = mask;
	if (!getcwd(cwd, sizeof(cwd)) ||
	    path_resolve(tr, t, AT_FDCWD, cwd, true, &place) < 0 ||
	    place.kind != PLACE_HOST)
		return;
	p->fs->host = true;
	p->fs->cwd = strdup(cwd);
}

int launch(struct tracer *tr, char **argv, const char **what)
{
	const unsigned long options = PTRACE_O_EXITKILL |
		PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE |
		PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
		PTRACE_O_TRACEEXEC | PTRACE_O_TRACESECCOMP |
		PTRACE_O_TRACEEXIT;
	int pair[2] = { -1, -1 }, go[2] = { -1, -1 };
	struct child c = { .tr = tr, .argv = argv };
	struct mm *mm = NULL;
	struct task *t;
	pid_t pid = -1;
	int err;

	*what = "preparing the command";
	c.placeholder = open("/", O_PATH | O_CLOEXEC);
	if (c.placeholder < 0 || pipe2(go, O_CLOEXEC) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		err = -errno;
		goto out;
	}
	c.sock = pair[1];
	c.go = go[0];
	choose_fds(&c);
	err = mm_new(&tr->memory, &mm);
	if (!err)
		err = mem_slots(tr, mm);
	if (!err)
		err = patches_text(&tr->memory, &mm->patches);
	if (err)
		goto out;
	c.text_off = mm->patches.text->off;
	c.slots_off = mm->slots_off;
	pid = fork();
	if (pid < 0) {
		err = -errno;
		goto out;
	}
	if (pid == 0) {
		close(go[1]);
		child_main(&c);
	}
	*what = "tracing the command: ptrace is refused here; see sysctl"
		" kernel.yama.ptrace_scope, a container's seccomp profile, or"
		" another tracer, and `darkshadow doctor run`";
	if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)options) < 0) {
		err = -errno;
		end_child(pid);
		goto out;
	}
	*what = "reading the command's memory: process_vm_readv(2) is refused"
		" here; see a container's seccomp profile, and `darkshadow"
		" doctor run`";
	err = try_reading(pid);
	if (!err)
		err = tracer_adopt(tr, pid, mm);
	if (err) {
		end_child(pid);
		goto out;
	}
	mm = NULL;
	t = idmap_get(&tr->tasks, (uint32_t)pid);
	first_cwd(tr, t->proc);
	placement_begin(tr, t);
	tr->sock = steal_fd(&pair[0]);
	tr->sock_there = steal_fd(&pair[1]);
	if (write(go[1], "", 1) != 1)
		err = -errno;
out:
	mm_unref(mm);
	close_fd(&c.placeholder);
	for (int i = 0; i < 2; i++) {
		close_fd(&pair[i]);
		close_fd(&go[i]);
	}
	return err;
}
