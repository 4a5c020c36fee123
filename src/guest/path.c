/* SPDX-License-Identifier: MIT */
/* path.c - does a path lead into what is forwarded? */
#include "guest/path.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"

#define LINKS_MAX 40	/* as the kernel: path_resolution(7) */

/* With "all", what belongs to the process itself stays where it is. */
static const char *const own_names[] = {
	"/proc", "/dev/tty", "/dev/pts", "/dev/ptmx", "/dev/fd", "/dev/stdin",
	"/dev/stdout", "/dev/stderr",
};

static bool under(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 &&
	       (path[len] == '\0' || path[len] == '/');
}

bool path_is_mixed(const struct tracer *tr, const char *abs)
{
	const char *dir = strcmp(abs, "/") ? abs : "";

	/* Names of descriptors, and of terminals. */
	if (under("/proc", dir) || under("/dev", dir) || under(abs, "/proc") ||
	    under(abs, "/dev"))
		return true;
	for (size_t i = 0; i < tr->rules.n; i++) {
		const char *guest = tr->rules.v[i].guest;

		if (guest && under(guest, dir) && !under(abs, guest))
			return true;
	}
	return false;
}

int path_read(struct task *t, uint64_t addr, char out[PATH_MAX])
{
	size_t at = 0;

	while (at < PATH_MAX) {
		size_t part = PAGE_BYTES - (addr + at) % PAGE_BYTES;
		ssize_t n;

		part = min_u64(part, PATH_MAX - at);
		n = task_read(t, addr + at, out + at, part);
		if (n <= 0)
			return -EFAULT;
		if (memchr(out + at, '\0', (size_t)n))
			return 0;
		at += (size_t)n;
	}
	return -ENAMETOOLONG;
}

/* A descriptor named by one of the process's own names for it, or -1. */
static int own_fd(const struct task *t, const char *path)
{
	static const struct { const char *name; int fd; } std[] = {
		{ "/dev/stdin", 0 }, { "/dev/stdout", 1 },
		{ "/dev/stderr", 2 },
	};
	char mine[64];
	const char *dirs[] = { "/dev/fd/", "/proc/self/fd/",
			       "/proc/thread-self/fd/", mine };

	for (size_t i = 0; i < ARRAY_SIZE(std); i++)
		if (strcmp(path, std[i].name) == 0)
			return std[i].fd;
	snprintf(mine, sizeof(mine), "/proc/%d/fd/", t->proc->pid);
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		size_t len = strlen(dirs[i]);
		char *end;
		long fd;

		if (strncmp(path, dirs[i], len) != 0 ||
		    !isdigit((unsigned char)path[len]))
			continue;
		fd = strtol(path + len, &end, 10);
		return *end || fd > INT_MAX ? -1 : (int)fd;
	}
	return -1;
}

struct walk {
	struct tracer *tr;
	char abs[PATH_MAX];	/* so far; "" is the root */
	size_t len;
	size_t border;		/* length of the rule's name in abs, or 0 */
	bool root_rule;		/* a rule for "/" */
	bool missing;		/* not there locally: no links to look for */
	bool crossed;		/* a link or a ".." changed the way */
	bool left;		/* it led out of a rule, whose name may not be
				 * there locally */
	int links;
	char sent[PATH_MAX];	/* inside: abs at the border, then verbatim */
	char rest[2 * PATH_MAX];
};

static bool inside(const struct walk *w)
{
	return w->border > 0 || w->root_rule;
}

static void note_border(struct walk *w)
{
	const struct rule *r;

	r = rules_match(&w->tr->rules, w->len ? w->abs : "/");
	w->root_rule = r && strcmp(r->guest, "/") == 0;
	w->border = r && !w->root_rule ? strlen(r->guest) : 0;
}

/* One more component beyond the border, whatever it is. */
static int send(struct walk *w, const char *name, size_t n)
{
	size_t len = strlen(w->sent);

	if (!w->sent[0]) {
		strcpy(w->sent, w->abs);	/* the border itself */
		return 0;
	}
	if (len + n + 2 > PATH_MAX)
		return -ENAMETOOLONG;
	w->sent[len] = '/';
	memcpy(w->sent + len + 1, name, n);
	w->sent[len + 1 + n] = '\0';
	return 0;
}

static void go_up(struct walk *w)
{
	/* The shadow has no such names: it must not be asked to go there. */
	if (!inside(w) && !w->tr->all)
		w->crossed = true;
	while (w->len > 0 && w->abs[--w->len] != '/')
		;
	w->abs[w->len] = '\0';
	if (w->border > w->len) {
		/* Out of the rule by the letter: the way goes on here. */
		w->crossed = w->left = true;
		w->missing = false;
		note_border(w);
	}
}

static int go_down(struct walk *w, const char *name, size_t n)
{
	if (w->len + n + 2 > PATH_MAX)
		return -ENAMETOOLONG;
	w->abs[w->len++] = '/';
	memcpy(w->abs + w->len, name, n);
	w->len += n;
	w->abs[w->len] = '\0';
	if (!inside(w))
		note_border(w);
	return 0;
}

/* If abs is a local symbolic link, put its target in front of the rest. */
static int follow_link(struct walk *w, const char *rest)
{
	char text[PATH_MAX], joined[2 * PATH_MAX];
	ssize_t n = readlink(w->abs, text, sizeof(text) - 1);

	if (n < 0) {
		if (errno != EINVAL)
			w->missing = true;
		return 0;
	}
	if (++w->links > LINKS_MAX)
		return -ELOOP;
	text[n] = '\0';
	if (snprintf(joined, sizeof(joined), "%s/%s", text, rest) >=
	    (int)sizeof(joined))
		return -ENAMETOOLONG;
	strcpy(w->rest, joined);
	go_up(w);
	if (text[0] == '/') {
		w->len = 0;
		w->abs[0] = '\0';
		note_border(w);
	}
	w->sent[0] = '\0';
	w->crossed = true;
	return 1;
}

static int walk(struct walk *w, bool follow)
{
	char *p = w->rest;

	note_border(w);
	if (inside(w))
		strcpy(w->sent, w->len ? w->abs : "/");
	for (;;) {
		size_t n;
		int err;

		p += strspn(p, "/");
		n = strcspn(p, "/");
		if (n == 0)
			return 0;
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			bool was = inside(w);

			go_up(w);
			if (!inside(w))
				w->sent[0] = '\0';
			else if (was && send(w, p, n) < 0)
				return -ENAMETOOLONG;
		} else if (n != 1 || p[0] != '.') {
			bool last = p[n + strspn(p + n, "/")] == '\0';

			err = go_down(w, p, n);
			if (!err && inside(w))
				err = send(w, p, n);
			if (err)
				return err;
			/* The process's own view of itself is not ours. */
			if (!inside(w) && !w->missing && !w->tr->all &&
			    (follow || !last || p[n] == '/') &&
			    !under(w->abs, "/proc")) {
				char *rest = p + n + strspn(p + n, "/");

				err = follow_link(w, rest);
				if (err < 0)
					return err;
				if (err) {
					p = w->rest;
					continue;
				}
			}
		}
		p += n;
	}
}

/* The local working directory, or that of a local descriptor. */
static int local_base(struct task *t, int dirfd, char out[PATH_MAX])
{
	char link[64];
	ssize_t n;

	if (dirfd == AT_FDCWD) {
		struct fs *fs = t->proc->fs;

		if (fs->cwd) {
			snprintf(out, PATH_MAX, "%s", fs->cwd);
			return 0;
		}
		snprintf(link, sizeof(link), "/proc/%d/cwd", t->tid);
	} else {
		snprintf(link, sizeof(link), "/proc/%d/fd/%d", t->tid, dirfd);
	}
	n = readlink(link, out, PATH_MAX - 1);
	if (n < 0 || out[0] != '/')
		return -EBADF;
	out[n] = '\0';
	if (dirfd == AT_FDCWD)
		t->proc->fs->cwd = strdup(out);
	return 0;
}

static bool path_is_host(const struct tracer *tr, const struct walk *w)
{
	if (inside(w))
		return true;
	if (!tr->all)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(own_names); i++)
		if (under(w->abs, own_names[i]))
			return false;
	return true;
}

int path_resolve(struct tracer *tr, struct task *t, int dirfd,
		 const char *text, bool follow, struct place *out)
{
	const struct hostfd *dir = NULL;
	struct walk w = { .tr = tr };
	char base[PATH_MAX] = "";
	bool base_host = false, slash;
	size_t len = strlen(text);
	int err;

	out->kind = PLACE_LOCAL;
	out->rewritten = false;
	out->fd = -1;
	out->abs[0] = '\0';
	if (text[0] != '/') {
		if (dirfd == AT_FDCWD)
			base_host = t->proc->fs->host;
		else
			dir = files_get(t->proc->files, dirfd);
		if (dir)
			base_host = true;
	}
	if (len == 0) {
		/* The descriptor itself, or ENOENT: as its owner says. */
		if (base_host) {
			out->kind = dir ? PLACE_FD_ITSELF : PLACE_HOST;
			out->fd = dirfd;
		}
		return 0;
	}
	if (text[0] != '/') {
		if (dir)
			snprintf(base, sizeof(base), "%s", dir->path);
		else if (base_host && t->proc->fs->cwd)
			snprintf(base, sizeof(base), "%s", t->proc->fs->cwd);
		else if (local_base(t, dirfd, base) < 0)
			return 0;	/* the kernel will say EBADF */
	}
	if (base[0]) {
		/* Where it starts is a real place, whatever its name was. */
		w.len = strlen(base);
		if (w.len >= PATH_MAX)
			return -ENAMETOOLONG;
		strcpy(w.abs, base);
		if (w.len == 1)
			w.len = 0;
		w.abs[w.len] = '\0';
	}
	strcpy(w.rest, text);
	err = walk(&w, follow);
	if (err)
		return err;
	slash = text[len - 1] == '/' && w.len > 0 && w.len + 1 < PATH_MAX;
	snprintf(out->abs, PATH_MAX, "%s%s", w.len ? w.abs : "/",
		 slash ? "/" : "");
	strcpy(out->text, out->abs);
	if (path_is_host(tr, &w)) {
		if (w.sent[0])
			snprintf(out->text, PATH_MAX, "%s%s", w.sent,
				 slash ? "/" : "");
		out->kind = PLACE_HOST;
		out->rewritten = (text[0] != '/' && !base_host) || w.crossed;
		return 0;
	}
	out->fd = own_fd(t, w.abs);
	if (out->fd >= 0 && is_host_fd(t, out->fd)) {
		out->kind = PLACE_OWN_FD;
		return 0;
	}
	out->rewritten = base_host || w.left;
	return 0;
}
