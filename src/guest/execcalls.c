/* SPDX-License-Identifier: MIT */
/*
 * execcalls.c - exec, of local files and of the host's
 *
 * A program file of the host is opened by the shadow, its descriptor comes
 * back to the target, and the target's kernel execs that. A script is taken
 * apart here: its interpreter must open it by the name that the program used,
 * not by a descriptor number.
 *
 * Under "all" both sides have the same files, and programs are exec'd by
 * name.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/num.h"
#include "guest/path.h"
#include "guest/tracer.h"

#define SCRIPT_HEAD	256	/* BINPRM_BUF_SIZE, include/linux/binfmts.h */
#define SCRIPT_DEPTH	5	/* exec_binprm() in fs/exec.c */
#define ARGS_MAX	(1 << 20)

struct exec_args {
	uint64_t argv, envp;	/* GVAs */
	int dirfd;
	int flags;		/* AT_ flags */
	char path[PATH_MAX];
	uint64_t room;		/* a mapping made for new arguments, or 0 */
	uint64_t room_len;
};

static void drop_room(struct tracer *tr, struct task *t, struct exec_args *e)
{
	if (e->room)
		task_native(tr, t, SYS_munmap, e->room, e->room_len, 0, 0, 0,
			    0);
	e->room = 0;
}

/*
 * The call is made in place of the one that the thread stopped at; when it
 * fails, its exit stop gives the program its registers back.
 */
static void do_exec(struct task *t, uint64_t nr, const uint64_t args[6])
{
	struct user_regs_struct regs = t->regs;

	if (t->remote.fate)
		return;
	regs.orig_rax = nr;
	remote_set_call(&regs, nr, args);
	t->in_exec = true;
	remote_set_regs(t->tid, &regs);
	remote_end(&t->remote);
	ptrace(PTRACE_SYSCALL, t->tid, NULL, NULL);
}

void exec_failed(struct tracer *tr, struct task *t)
{
	struct user_regs_struct regs;

	t->in_exec = false;
	if (remote_get_regs(t->tid, &regs) < 0)
		return;
	if (t->u.fd >= 0)
		task_native(tr, t, SYS_close, (uint64_t)t->u.fd, 0, 0, 0, 0,
			    0);
	if (t->u.a)
		task_native(tr, t, SYS_munmap, t->u.a, t->u.b, 0, 0, 0, 0);
	task_return(tr, t, (int64_t)regs.rax);
}

void exec_name(struct tracer *tr, struct task *t)
{
	const char *base;

	/* The slot went with the old address space. */
	if (!t->u.path || task_slot(t) < 0)
		return;
	/* A program exec'd by descriptor is named after its number. */
	base = strrchr(t->u.path, '/');
	base = base ? base + 1 : t->u.path;
	snprintf((char *)t->slot + SLOT_SCRATCH, 16, "%s", base);
	task_native(tr, t, SYS_prctl, PR_SET_NAME, task_scratch(t),
		    0, 0, 0, 0);
}

/* Our own descriptor of a host file: for reading if allowed, else O_PATH. */
static int open_on_host(struct tracer *tr, struct task *t, int dirfd,
			const char *path, bool nofollow)
{
	const int flags = O_CLOEXEC | (nofollow ? O_NOFOLLOW : 0);
	int there, got;

	there = shadow_open(tr, t, dirfd, path, O_RDONLY | O_NONBLOCK | flags);
	if (there == -EACCES)
		there = shadow_open(tr, t, dirfd, path, O_PATH | flags);
	if (there < 0)
		return there;
	got = fd_fetch_host(tr, t, there);
	shadow_close_made(tr, t, there);
	return got;
}

/* Entries of an argument list before its NULL, or -errno. */
static ssize_t count_args(struct task *t, uint64_t argv)
{
	uint64_t ptr;
	ssize_t n = 0;

	if (!argv)
		return 0;
	for (;; n++) {
		if (task_read(t, argv + (uint64_t)n * 8, &ptr, 8) != 8)
			return -EFAULT;
		if (!ptr)
			return n;
		if (n > ARGS_MAX)
			return -E2BIG;
	}
}

/*
 * argv of a script's interpreter: interpreter, its argument, the script, the
 * program's own arguments from the second on. Stands in a mapping made for
 * it, which exec does away with.
 */
static int script_args(struct tracer *tr, struct task *t, struct exec_args *e,
		       const char *interp, const char *arg, const char *script)
{
	const char *words[] = { interp, arg, script };
	uint64_t *v cleanup_free = NULL, text, room;
	ssize_t n = count_args(t, e->argv);
	size_t at = 0, len = 0, bytes;
	int64_t r;

	if (n < 0)
		return (int)n;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		len += words[i] ? strlen(words[i]) + 1 : 0;
	bytes = ((size_t)n + 4) * 8;
	v = calloc(1, bytes + len);
	if (!v)
		return -ENOMEM;
	r = task_native(tr, t, SYS_mmap, 0, page_up(bytes + len),
			PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			~0ULL, 0);
	if (r < 0 && r > -4096)
		return (int)r;
	room = (uint64_t)r;
	text = room + bytes;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (!words[i])
			continue;
		v[at++] = text;
		strcpy((char *)v + (text - room), words[i]);
		text += strlen(words[i]) + 1;
	}
	if (n > 1 && task_read(t, e->argv + 8, v + at,
			       ((size_t)n - 1) * 8) != (n - 1) * 8)
		r = -EFAULT;
	else if (task_write(t, room, v, bytes + len) !=
		 (ssize_t)(bytes + len))
		r = -EFAULT;
	drop_room(tr, t, e);
	e->room = room;
	e->room_len = page_up(bytes + len);
	e->argv = room;
	return r < 0 && r > -4096 ? (int)r : 0;
}

/* "#!interpreter [argument]": 1, 0 if it is none, or -ENOEXEC. */
static int parse_script(int fd, char head[SCRIPT_HEAD + 1], char **interp,
			char **arg)
{
	ssize_t n = pread(fd, head, SCRIPT_HEAD, 0);
	char *end, *p;

	if (n < 2 || head[0] != '#' || head[1] != '!')
		return 0;
	head[n] = '\0';
	end = strchr(head, '\n');
	if (end)
		*end = '\0';
	end = head + strlen(head);
	while (end > head + 2 && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = '\0';
	p = head + 2 + strspn(head + 2, " \t");
	if (!*p)
		return -ENOEXEC;
	*interp = p;
	p += strcspn(p, " \t");
	*arg = NULL;
	if (*p) {
		*p++ = '\0';
		*arg = p + strspn(p, " \t");
	}
	return 1;
}

/* The file is local, by the name in e, or by another that is put there. */
static void exec_local(struct tracer *tr, struct task *t, struct exec_args *e,
		       const char *rewritten)
{
	int err = task_slot(t);

	if (err) {
		drop_room(tr, t, e);
		task_return(tr, t, err);
		return;
	}
	t->u.fd = -1;
	t->u.a = e->room;
	t->u.b = e->room_len;
	strcpy((char *)t->slot + SLOT_SCRATCH, rewritten);
	do_exec(t, SYS_execveat, (uint64_t[6]){
		(uint64_t)(int64_t)e->dirfd, task_scratch(t), e->argv, e->envp,
		(uint64_t)e->flags });
}

static void exec_file(struct tracer *tr, struct task *t, struct exec_args *e,
		      int fd, const char *name)
{
	int there = fd_install(tr, t, fd);

	if (there < 0) {
		drop_room(tr, t, e);
		task_return(tr, t, there);
		return;
	}
	t->u.fd = there;
	t->u.a = e->room;
	t->u.b = e->room_len;
	task_set_path(t, name);
	*((char *)t->slot + SLOT_SCRATCH) = '\0';
	do_exec(t, SYS_execveat, (uint64_t[6]){ (uint64_t)there,
		task_scratch(t), e->argv, e->envp, AT_EMPTY_PATH });
}

static bool leads_to_host(struct tracer *tr, struct task *t, const char *path)
{
	struct place place;

	return path_resolve(tr, t, AT_FDCWD, path, true, &place) == 0 &&
	       place.kind == PLACE_HOST;
}

/* The interpreter is what is exec'd next: 1, or -errno. */
static int through_interpreter(struct tracer *tr, struct task *t,
			       struct exec_args *e, const char *interp,
			       const char *arg, const char *script)
{
	int r = script_args(tr, t, e, interp, arg, script);

	if (r)
		return r;
	snprintf(e->path, sizeof(e->path), "%s", interp);
	e->dirfd = AT_FDCWD;
	e->flags = 0;
	return 1;
}

/* One step of the way to a binary: 1 to go on (an interpreter), 0 when the
 * call has been dealt with, or -errno. */
static int exec_step(struct tracer *tr, struct task *t, struct exec_args *e,
		     bool first)
{
	char head[SCRIPT_HEAD + 1], *interp, *arg;
	int fd cleanup_fd = -1;
	struct place place;
	const char *script;
	int r;

	r = path_resolve(tr, t, e->dirfd, e->path,
			 !(e->flags & AT_SYMLINK_NOFOLLOW), &place);
	if (r)
		return r;
	if (place.kind == PLACE_LOCAL && !tr->all) {
		/* A script of ours may name an interpreter of the host's. */
		fd = open(place.abs, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd >= 0 && access(place.abs, X_OK) == 0 &&
		    parse_script(fd, head, &interp, &arg) > 0 &&
		    leads_to_host(tr, t, interp))
			return through_interpreter(tr, t, e, interp, arg,
						   place.rewritten ?
						   place.abs : e->path);
	}
	if (place.kind == PLACE_LOCAL ||
	    (tr->all && place.kind == PLACE_HOST)) {
		bool by_name = place.rewritten || !first ||
			       (tr->all && e->path[0] != '/');

		if (!by_name)
			task_allow(tr, t);
		else
			exec_local(tr, t, e, place.rewritten || tr->all ?
				   place.abs : e->path);
		return 0;
	}
	/* As from a mount that has no programs to execute. */
	if (place.kind == PLACE_HOST && fuse_has(tr, place.abs))
		return -EACCES;
	if (place.kind == PLACE_HOST)
		fd = open_on_host(tr, t, e->dirfd, place.rewritten ?
				  place.text : e->path,
				  e->flags & AT_SYMLINK_NOFOLLOW);
	else
		fd = fd_fetch(tr, t, place.fd);
	if (fd < 0)
		return fd;
	/* By an empty path, the descriptor has a name of its own. */
	script = e->path[0] ? e->path : place.fd >= 0 ?
		 files_get(t->proc->files, place.fd)->path : place.abs;
	if (e->path[0] && e->path[0] != '/' && e->dirfd != AT_FDCWD)
		script = place.abs;
	r = parse_script(fd, head, &interp, &arg);
	if (r < 0)
		return r;
	if (r == 0) {
		exec_file(tr, t, e, fd, script);
		return 0;
	}
	return through_interpreter(tr, t, e, interp, arg, script);
}

void call_exec(struct tracer *tr, struct task *t)
{
	const bool at = t->nr == SYS_execveat;
	struct exec_args e = {
		.dirfd = at ? (int)t->args[0] : AT_FDCWD,
		.argv = t->args[at ? 2 : 1],
		.envp = t->args[at ? 3 : 2],
		.flags = at ? (int)t->args[4] : 0,
	};
	int r = path_read(t, t->args[at ? 1 : 0], e.path);

	if (r) {
		task_allow(tr, t);	/* as the kernel says */
		return;
	}
	for (int i = 0; i < SCRIPT_DEPTH; i++) {
		r = exec_step(tr, t, &e, i == 0);
		if (r <= 0)
			break;
	}
	if (r == 0)
		return;
	drop_room(tr, t, &e);
	task_return(tr, t, r > 0 ? -ELOOP : r);
}
