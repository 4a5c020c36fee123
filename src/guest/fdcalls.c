/* SPDX-License-Identifier: MIT */
/*
 * fdcalls.c - calls that make, copy and close descriptors, and directories
 *
 * A host descriptor is two things of one number: the placeholder in the
 * target, whose number and close-on-exec flag are the truth, and the host's
 * file in the shadow.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/num.h"
#include "guest/path.h"
#include "guest/tracer.h"

void call_dup(struct tracer *tr, struct task *t)
{
	const int fd = (int)t->args[0];
	const struct hostfd *h = files_get(t->proc->files, fd);

	if (is_hidden_fd(tr, fd))
		task_return(tr, t, -EBADF);
	else if (!h)
		task_allow(tr, t);
	else
		forward_newfd(tr, t, SYS_dup, t->args, false, 0, h->path,
			      h->flags);
}

void call_dup2(struct tracer *tr, struct task *t)
{
	const int from = (int)t->args[0], to = (int)t->args[1];
	struct files *files = t->proc->files;
	const struct hostfd *h = files_get(files, from);
	uint64_t args[6] = { t->args[0], t->args[1] };
	int64_t r;

	if (is_hidden_fd(tr, from) || is_hidden_fd(tr, to)) {
		task_return(tr, t, -EBADF);
		return;
	}
	if (from == to || (!h && !is_host_fd(t, to))) {
		task_allow(tr, t);
		return;
	}
	/* The placeholder's number goes where the target wants it ... */
	r = task_native_same(tr, t);
	if (r < 0) {
		task_return(tr, t, r);
		return;
	}
	/* ... and the file, or nothing, follows. */
	if (!h) {
		files_clear(files, to);
		shadow_close_fd(tr, t->proc, to);
	} else {
		char *path cleanup_free = strdup(h->path);
		int flags = h->flags, err = shadow_ready(tr, t);

		r = err ? err : shadow_sync(tr, t, SLOT_CALL, SYS_dup3, args,
					    -1);
		if (r >= 0 && (!path || files_set(files, to, path, flags) < 0))
			r = -ENOMEM;
		if (r < 0) {
			files_clear(files, to);
			task_native(tr, t, SYS_close, (uint64_t)to, 0, 0, 0, 0,
				    0);
		}
	}
	task_return(tr, t, r);
}

/* The owner of a lock is a shadow: the target knows it by another number. */
static void got_lock(struct tracer *tr, struct task *t, int64_t result)
{
	struct flock fl;
	size_t pos = 0;
	struct task *o;

	if (result == 0 &&
	    task_read(t, t->args[2], &fl, sizeof(fl)) == sizeof(fl) &&
	    fl.l_type != F_UNLCK && fl.l_pid > 0) {
		while ((o = idmap_next(&tr->tasks, &pos)))
			if (o->proc->shadow && o->proc->shadow_pid == fl.l_pid)
				break;
		if (o) {
			fl.l_pid = o->proc->pid;
			task_write(t, t->args[2], &fl, sizeof(fl));
		}
	}
	task_return(tr, t, result);
}

void call_fcntl(struct tracer *tr, struct task *t)
{
	const int fd = (int)t->args[0], cmd = (int)t->args[1];
	const struct hostfd *h = files_get(t->proc->files, fd);

	if (is_hidden_fd(tr, fd)) {
		task_return(tr, t, -EBADF);
		return;
	}
	if (!h) {
		task_allow(tr, t);
		return;
	}
	switch (cmd) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		forward_newfd(tr, t, SYS_dup, t->args, cmd == F_DUPFD_CLOEXEC,
			      (int)t->args[2], h->path, h->flags);
		return;
	case F_GETFD:
	case F_SETFD:
		task_allow(tr, t);
		return;
	case F_GETLK:
		task_forward(tr, t, SLOT_CALL, t->nr, t->args, -1, got_lock);
		return;
	case F_SETOWN:
	case F_GETOWN:
	case F_SETSIG:
	case F_GETSIG:
	case F_SETOWN_EX:
	case F_GETOWN_EX:
		task_return(tr, t, owner_fcntl(tr, t, files_at(t->proc->files,
							       fd)));
		return;
	}
	task_forward(tr, t, SLOT_CALL, t->nr, t->args, -1, NULL);
}

void call_closed(struct tracer *tr, struct task *t, int64_t result)
{
	const int fd = (int)t->args[0];

	/* Cancelled before it began, it will be made again. */
	if (!is_restart_code(result)) {
		files_clear(t->proc->files, fd);
		task_native(tr, t, SYS_close, (uint64_t)fd, 0, 0, 0, 0, 0);
		if (fd >= SHADOW_FD_BASE)
			stub_set_makes(tr, t->proc);
	}
	task_return(tr, t, result);
}

void call_close(struct tracer *tr, struct task *t)
{
	const int fd = (int)t->args[0];

	if (is_hidden_fd(tr, fd))
		task_return(tr, t, -EBADF);
	else if (!is_host_fd(t, fd))
		task_allow(tr, t);
	else if (fd < SHADOW_FD_BASE)
		task_forward(tr, t, SLOT_CLOSE, SYS_close, t->args, fd,
			     call_closed);
	else	/* its number is the next to be made */
		task_forward(tr, t, SLOT_CALL, SYS_close, t->args, -1,
			     call_closed);
}

/* --- descriptors that other calls make ---------------------------------------- */

#define MADE_WINDOW	64	/* numbers that are looked at together */
#define LOOK_SECONDS	10	/* a thread on its way is not run for long */
#define LOOK_PAUSE_NS	20000
#define LOOK_PAUSE_MAX_NS 2000000

/*
 * Of a descriptor on its way to another number, too (SLOT_OPEN, SLOT_CLOSE), there
 * is one in the shadow that the target does not have. So a look at what there is
 * counts if nobody was on the way meanwhile: every request of that kind has been
 * answered before, or its executor sleeps, afterwards, in the call that is yet to
 * open, or until it is woken for it. Nobody begins one in between: the stub leaves
 * it to us, and we are here.
 */
typedef bool (*slot_fn)(struct tracer *tr, struct task *t, struct slot *s,
			int index, void *ctx);

static bool is_mover(const struct slot *s)
{
	return s->op != SLOT_CALL && s->op != SLOT_MAKES;
}

/* true: of one of them fn says so, of requests that are on the way or were. */
static bool any_mover(struct tracer *tr, const struct files *files, slot_fn fn,
		      void *ctx)
{
	size_t pos = 0;
	struct task *t;

	while ((t = idmap_next(&tr->tasks, &pos))) {
		if (t->proc->files != files)
			continue;
		if (t->slot && is_mover(t->slot) &&
		    fn(tr, t, t->slot, t->slot_index, ctx))
			return true;
		for (int i = 0; t->tid == t->proc->pid && i < t->proc->nlanes;
		     i++)
			if (is_mover(t->proc->lanes[i]) &&
			    fn(tr, t, t->proc->lanes[i], LANE_FIRST + i, ctx))
				return true;
	}
	return false;
}

/* The sum of what only ever increases: unchanged, nothing has begun or ended. */
static bool add_progress(struct tracer *tr, struct task *t, struct slot *s,
			 int index, void *ctx)
{
	(void)tr;
	(void)t;
	(void)index;
	*(uint64_t *)ctx += (uint64_t)(s->req_seq & ~1u) +
			    (__atomic_load_n(&s->resp_seq, __ATOMIC_ACQUIRE) &
			     ~1u);
	return false;
}

static bool is_moving(struct tracer *tr, struct task *t, struct slot *s,
		      int index, void *ctx)
{
	struct msg m = { .type = MSG_ASLEEP };

	(void)ctx;
	if (slot_answered(s, s->req_seq & ~1u))
		return false;
	m.thread.shadow = t->proc->shadow;
	m.thread.thread = (uint32_t)index;
	/* In close(2) itself there is one; before it has begun there is not. */
	m.thread.nr = s->op == SLOT_OPEN ? s->nr : SYS_futex;
	return client_request(&tr->client, &m, -1, NULL) == -EBUSY;
}

/*
 * Which of the numbers from fd on are open in the shadow, fillers aside: poll(2)
 * says POLLNVAL of what is free, and of an O_PATH descriptor. 0 or -errno.
 */
static int look_at_fds(struct tracer *tr, struct task *t, int fd, uint64_t *open)
{
	struct pollfd *v = (void *)((char *)t->slot + SLOT_SCRATCH);
	const uint64_t args[6] = { task_scratch(t), MADE_WINDOW };
	int64_t r;

	for (int i = 0; i < MADE_WINDOW; i++)
		v[i] = (struct pollfd){ .fd = fd + i };
	r = shadow_sync(tr, t, SLOT_CALL, SYS_poll, args, -1);
	*open = 0;
	for (int i = 0; r >= 0 && i < MADE_WINDOW; i++)
		if (!(v[i].revents & POLLNVAL))
			*open |= 1ULL << i;
	return r < 0 ? (int)r : 0;
}

/* The same, of none that is on the way. */
static int look_at_rest(struct tracer *tr, struct task *t, int fd,
			uint64_t *open)
{
	const double limit = now_seconds() + LOOK_SECONDS;
	struct timespec pause = { .tv_nsec = LOOK_PAUSE_NS };
	const struct files *files = t->proc->files;

	while (now_seconds() < limit) {
		uint64_t before = 0, after = 0;
		bool moving;
		int err;

		any_mover(tr, files, add_progress, &before);
		err = look_at_fds(tr, t, fd, open);
		if (err)
			return err;
		moving = any_mover(tr, files, is_moving, NULL);
		/* Last: one that has arrived since the look was not there. */
		any_mover(tr, files, add_progress, &after);
		if (before == after && !moving)
			return 0;
		nanosleep(&pause, NULL);
		pause.tv_nsec = (long)min_u64(2 * (uint64_t)pause.tv_nsec,
					      LOOK_PAUSE_MAX_NS);
	}
	return -EBUSY;
}

static int64_t ask_fd(struct tracer *tr, struct task *t, int fd, uint64_t cmd)
{
	const uint64_t args[6] = { (uint64_t)fd, cmd };

	return shadow_sync(tr, t, SLOT_CALL, SYS_fcntl, args, -1);
}

/* 0, or why the target cannot have it. */
static int adopt(struct tracer *tr, struct task *t, int fd)
{
	const struct hostfd *maker = files_get(t->proc->files,
					       (int)t->args[0]);
	const int64_t flags = ask_fd(tr, t, fd, F_GETFL);
	const bool cloexec = ask_fd(tr, t, fd, F_GETFD) & FD_CLOEXEC;
	int64_t r;

	if (fd_is_open(t, fd))
		return -EMFILE;
	r = task_native(tr, t, SYS_dup3, hidden_fd(tr, HIDDEN_PLACEHOLDER),
			(uint64_t)fd, cloexec ? O_CLOEXEC : 0, 0, 0, 0);
	if (r < 0)
		return r == -EBADF ? -EMFILE : (int)r;
	return files_set(t->proc->files, fd, maker ? maker->path : "",
			 flags < 0 ? 0 : (int)flags);
}

static int adopt_or_close(struct tracer *tr, struct task *t, int fd)
{
	int err = adopt(tr, t, fd);

	if (!err)
		return 0;
	log_warn("process %d: descriptor %d, made by the host, is lost: %s",
		 t->proc->pid, fd, err == -EMFILE ?
		 "the number is taken, or beyond RLIMIT_NOFILE" :
		 strerror(-err));
	shadow_close_made(tr, t, fd);
	return err;
}

int64_t adopt_descriptors(struct tracer *tr, struct task *t, int64_t result)
{
	const struct files *files = t->proc->files;
	uint64_t open = 1;
	int err = shadow_ready(tr, t);

	stub_set_ready(stub_ctl_of(t->proc), false);
	for (int base = SHADOW_FD_BASE; !err && open; base += MADE_WINDOW) {
		err = look_at_rest(tr, t, base, &open);
		for (int i = 0; !err && i < MADE_WINDOW; i++) {
			int lost = 0;

			if (open >> i & 1 && !files_get(files, base + i))
				lost = adopt_or_close(tr, t, base + i);
			if (lost && result == base + i)
				result = lost;
		}
	}
	if (err)
		log_warn("process %d: descriptors that the host has made could"
			 " not be looked for: %s", t->proc->pid,
			 strerror(-err));
	if (err && result >= SHADOW_FD_BASE)
		result = -EMFILE;
	stub_set_makes(tr, t->proc);
	return result;
}

/* Around the descriptors that the target is not to know of. */
void call_close_range(struct tracer *tr, struct task *t)
{
	unsigned int first = (unsigned int)t->args[0];
	const unsigned int last = (unsigned int)t->args[1];
	const unsigned int flags = (unsigned int)t->args[2];
	const unsigned int low = (unsigned int)tr->hidden;
	const unsigned int high = low + HIDDEN_FDS;
	struct files *files = t->proc->files;
	int64_t r = 0;

	if (first > last) {
		task_return(tr, t, -EINVAL);
		return;
	}
	if (first < low)
		r = task_native(tr, t, SYS_close_range, first,
				min_u64(last, low - 1), flags, 0, 0, 0);
	if (r >= 0 && last >= high)
		r = task_native(tr, t, SYS_close_range, max_u64(first, high),
				last, flags, 0, 0, 0);
	if (r >= 0 && !(flags & CLOSE_RANGE_CLOEXEC)) {
		for (; first <= last && first < files->n; first++) {
			if (!files_get(files, (int)first))
				continue;
			files_clear(files, (int)first);
			shadow_close_fd(tr, t->proc, (int)first);
		}
	}
	task_return(tr, t, r);
}

/* --- the list of one's own descriptors -------------------------------------- */

static bool lists_descriptors(const struct task *t, int fd)
{
	char path[64], name[64];
	unsigned int pid;
	ssize_t n;
	int end = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", t->tid, fd);
	n = readlink(path, name, sizeof(name) - 1);
	if (n < 0)
		return false;
	name[n] = '\0';
	if (sscanf(name, "/proc/%u/task/%*u/fd%n", &pid, &end) < 1 || !end)
		sscanf(name, "/proc/%u/fd%n", &pid, &end);
	return end && (!name[end] || strcmp(name + end, "info") == 0);
}

/* Entries for hidden descriptors are taken out of what the kernel wrote. */
static int64_t hide_entries(const struct tracer *tr, char *buf, int64_t len,
			    bool is64)
{
	const size_t name_at = is64 ? 19 : 18;	/* getdents(2) */
	int64_t kept = 0;

	for (int64_t at = 0; at + 18 < len;) {
		uint16_t size;
		char *end;
		long fd;

		memcpy(&size, buf + at + 16, sizeof(size));
		if (size < name_at || at + size > len)
			break;
		fd = strtol(buf + at + name_at, &end, 10);
		if (*end || end == buf + at + name_at || fd > INT_MAX ||
		    !is_hidden_fd(tr, (int)fd)) {
			memmove(buf + kept, buf + at, size);
			kept += size;
		}
		at += size;
	}
	return kept;
}

void call_getdents(struct tracer *tr, struct task *t)
{
	char *buf cleanup_free = NULL;
	int64_t n, kept;

	if (is_hidden_fd(tr, (int)t->args[0]) ||
	    is_host_fd(t, (int)t->args[0]) ||
	    !lists_descriptors(t, (int)t->args[0])) {
		call_general(tr, t);
		return;
	}
	do {
		n = kept = task_native_same(tr, t);
		if (n <= 0)
			break;
		free(buf);
		buf = malloc((size_t)n);
		if (!buf || task_read(t, t->args[1], buf, (size_t)n) != n)
			break;
		kept = hide_entries(tr, buf, n, t->nr == SYS_getdents64);
		task_write(t, t->args[1], buf, (size_t)kept);
		/* Nothing left of it is not the end of the directory. */
	} while (kept == 0);
	task_return(tr, t, kept);
}

/* --- directories --------------------------------------------------------- */

/* Where the shadow is now, by its own account. */
static void learn_cwd(struct tracer *tr, struct task *t)
{
	struct fs *fs = t->proc->fs;
	uint64_t args[6] = { task_scratch(t), SLOT_SCRATCH_SIZE };
	int64_t n = shadow_sync(tr, t, SLOT_CALL, SYS_getcwd, args, -1);

	free(fs->cwd);
	fs->cwd = NULL;
	if (n > 0 && n <= SLOT_SCRATCH_SIZE)
		fs->cwd = strndup((char *)t->slot + SLOT_SCRATCH, (size_t)n);
}

static void changed_dir(struct tracer *tr, struct task *t, int64_t result)
{
	if (result == 0) {
		t->proc->fs->host = true;
		learn_cwd(tr, t);
		stub_set_cwd(tr, t->proc);
		/* Both sides have the directory: /proc/PID/cwd is true too. */
		if (tr->all && t->proc->fs->cwd) {
			strcpy((char *)t->slot + SLOT_SCRATCH,
			       t->proc->fs->cwd);
			task_native(tr, t, SYS_chdir, task_scratch(t), 0, 0, 0,
				    0, 0);
		}
	}
	task_return(tr, t, result);
}

/* Nobody is in that directory any more: it may be removed, or unmounted. */
static void leave_host_dir(struct tracer *tr, struct task *t)
{
	uint64_t args[6] = { 0 };

	if (!t->proc->shadow || shadow_ready(tr, t) < 0)
		return;
	args[0] = task_scratch(t);
	strcpy((char *)t->slot + SLOT_SCRATCH, "/");
	shadow_sync(tr, t, SLOT_CALL, SYS_chdir, args, -1);
}

static void local_chdir(struct tracer *tr, struct task *t, uint64_t arg)
{
	int64_t r = task_native(tr, t, t->nr, arg, 0, 0, 0, 0, 0);

	if (r == 0) {
		if (t->proc->fs->host)
			leave_host_dir(tr, t);
		t->proc->fs->host = false;
		free(t->proc->fs->cwd);
		t->proc->fs->cwd = NULL;
		stub_set_cwd(tr, t->proc);
		stub_forget_names(tr);
	}
	task_return(tr, t, r);
}

void call_chdir(struct tracer *tr, struct task *t)
{
	uint64_t args[6] = { t->args[0] };
	char text[PATH_MAX];
	struct place place;
	int err;

	if (t->nr == SYS_fchdir) {
		if (is_hidden_fd(tr, (int)args[0]))
			task_return(tr, t, -EBADF);
		else if (is_host_fd(t, (int)args[0]))
			task_forward(tr, t, SLOT_CALL, t->nr, args, -1,
				     changed_dir);
		else
			local_chdir(tr, t, args[0]);
		return;
	}
	err = path_read(t, args[0], text);
	if (!err)
		err = path_resolve(tr, t, AT_FDCWD, text, true, &place);
	if (!err && place.rewritten) {
		err = task_slot(t);
		if (!err) {
			strcpy((char *)t->slot + SLOT_SCRATCH, place.text);
			args[0] = task_scratch(t);
		}
	}
	if (err)
		task_return(tr, t, err);
	else if (place.kind == PLACE_LOCAL)
		local_chdir(tr, t, args[0]);
	else if (place.kind == PLACE_HOST)
		task_forward(tr, t, SLOT_CALL, t->nr, args, -1, changed_dir);
	else
		task_return(tr, t, -ENOTDIR);
}

void call_getcwd(struct tracer *tr, struct task *t)
{
	if (t->proc->fs->host)
		task_forward(tr, t, SLOT_CALL, t->nr, t->args, -1, NULL);
	else
		task_allow(tr, t);
}

void call_umask(struct tracer *tr, struct task *t)
{
	int64_t old = task_native_same(tr, t);

	t->proc->fs->umask = (mode_t)t->args[0] & 0777;
	if (t->proc->shadow && shadow_ready(tr, t) == 0)
		shadow_sync(tr, t, SLOT_CALL, SYS_umask, t->args, -1);
	task_return(tr, t, old);
}

/* --- limits ---------------------------------------------------------------- */

/* The host's kernel must stop the target's writes where its own would. */
void call_rlimit(struct tracer *tr, struct task *t)
{
	struct proc *p = t->proc;
	struct rlimit lim;
	int64_t r;

	if ((int)t->args[t->nr == SYS_setrlimit ? 0 : 1] != RLIMIT_FSIZE) {
		task_allow(tr, t);
		return;
	}
	r = task_native_same(tr, t);
	if (r == 0 && prlimit(p->pid, RLIMIT_FSIZE, NULL, &lim) == 0 &&
	    lim.rlim_cur != p->fsize) {
		p->fsize = lim.rlim_cur;
		shadow_tell_fsize(tr, p);
	}
	task_return(tr, t, r);
}
