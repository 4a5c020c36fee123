/* SPDX-License-Identifier: MIT */
/*
 * fusecalls.c - file systems that a target serves by the host's /dev/fuse
 *
 * Theory of operation. The mount(2) of such a file system names a descriptor.
 * Where that is the host's, the file system is the host's too: the daemon
 * mounts it (host/fuse.h), on a directory that the shadow has opened.
 *
 * What such a file system answers may need the target that serves it, and that
 * one needs us. So what is in one is never waited for here: it is not executed,
 * not mapped, not copied from or to a file of the guest's by one call, and not
 * waited for by epoll(7).
 */
#include "guest/tracer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/log.h"
#include "base/num.h"
#include "guest/path.h"
#include "wire/calls.h"

#define OPTIONS_MAX	4096	/* a page, as mount(2) says */

/* What MS_ flags say that is not said by FUSE itself, or is always so. */
#define FLAGS_TAKEN	(MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | \
			 MS_NOATIME | MS_NODIRATIME | MS_RELATIME | \
			 MS_STRICTATIME | MS_SILENT)

bool fuse_has(const struct tracer *tr, const char *abs)
{
	for (size_t i = 0; i < tr->nfuse; i++)
		if (rules_below(tr->fuse[i], abs))
			return true;
	return false;
}

bool fuse_file(const struct tracer *tr, const struct task *t, int fd)
{
	const struct hostfd *h = tr->nfuse ? files_get(t->proc->files, fd) :
					     NULL;

	return h && fuse_has(tr, h->path);
}

void fuse_fini(struct tracer *tr)
{
	while (tr->nfuse)
		free(tr->fuse[--tr->nfuse]);
}

/* A string argument; NULL is "". 0 or -errno. */
static int read_text(struct task *t, uint64_t at, char *buf, size_t size)
{
	char text[PATH_MAX];
	int err = at ? path_read(t, at, text) : 0;

	if (err)
		return err;
	if (!at)
		*text = '\0';
	return snprintf(buf, size, "%s", text) < (int)size ? 0 : -ENAMETOOLONG;
}

/* --- options --------------------------------------------------------------- */

static bool number(const char *text, int base, uint32_t *out)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, base);
	*out = (uint32_t)n;
	return !errno && end != text && !*end && n <= UINT32_MAX;
}

static bool starts(const char *text, const char *key, const char **value)
{
	const size_t len = strlen(key);

	*value = text + len;
	return strncmp(text, key, len) == 0;
}

static bool parse_option(const char *text, struct msg_mount *m)
{
	const char *value;
	uint32_t ignored;

	if (starts(text, "fd=", &value))
		return number(value, 10, &m->fuse);
	if (starts(text, "rootmode=", &value))
		return number(value, 8, &m->rootmode);
	if (starts(text, "max_read=", &value))
		return number(value, 10, &m->max_read);
	/* Whose it is on the host is the daemon's to say. */
	if (starts(text, "user_id=", &value) ||
	    starts(text, "group_id=", &value))
		return number(value, 10, &ignored);
	if (strcmp(text, "default_permissions") == 0)
		m->options |= FUSE_DEFAULT_PERMISSIONS;
	else if (strcmp(text, "allow_other") == 0)
		m->options |= FUSE_ALLOW_OTHER;
	else
		return false;
	return true;
}

/* 0 or -EINVAL; m->fuse is UINT32_MAX where there is none. */
static int parse_options(struct task *t, char *text, struct msg_mount *m)
{
	char *save = NULL;

	m->fuse = UINT32_MAX;
	m->rootmode = S_IFDIR;
	for (char *at = strtok_r(text, ",", &save); at;
	     at = strtok_r(NULL, ",", &save)) {
		if (parse_option(at, m))
			continue;
		log_info("process %d: option %s of a mount is not known",
			 t->tid, at);
		return -EINVAL;
	}
	return 0;
}

/* --- calls ------------------------------------------------------------------ */

/* What a path argument leads to, as a descriptor of the shadow's; or -errno. */
static int open_place(struct tracer *tr, struct task *t,
		      const struct place *place, bool follow)
{
	return shadow_open(tr, t, AT_FDCWD, place->text, O_PATH | O_CLOEXEC |
			   (follow ? 0 : O_NOFOLLOW));
}

static int find_place(struct tracer *tr, struct task *t, uint64_t at,
		      bool follow, struct place *out)
{
	char text[PATH_MAX];
	int err = path_read(t, at, text);

	if (!err)
		err = path_resolve(tr, t, AT_FDCWD, text, follow, out);
	/* In a working directory whose name is not known. */
	return err || *out->abs ? err : -ENOENT;
}

static int request(struct tracer *tr, struct task *t, uint32_t type,
		   const struct place *place, bool follow, struct msg_mount *m)
{
	struct msg msg = { .type = type };
	int dir = open_place(tr, t, place, follow), err;

	if (dir < 0)
		return dir;
	m->shadow = t->proc->shadow;
	m->dir = (uint32_t)dir;
	msg.mount = *m;
	err = client_request(&tr->client, &msg, -1, NULL);
	shadow_close_made(tr, t, dir);
	return err;
}

static int mount_fuse(struct tracer *tr, struct task *t, struct msg_mount *m)
{
	struct place place = { .kind = PLACE_LOCAL };
	char *name;
	int err = read_text(t, t->args[0], m->source, sizeof(m->source));

	if (!err)
		err = find_place(tr, t, t->args[1], true, &place);
	if (err)
		return err;
	if (place.kind != PLACE_HOST)
		return -EXDEV;	/* the guest's kernel does not know the device */
	if (t->args[3] & ~(uint64_t)(FLAGS_TAKEN | MS_MGC_MSK))
		return -EINVAL;
	if (tr->nfuse == FUSE_MOUNTS_MAX)
		return -ENOSPC;
	name = strdup(place.abs);
	if (!name)
		return -ENOMEM;
	m->flags = (uint32_t)t->args[3] & MS_RDONLY;
	err = request(tr, t, MSG_MOUNT, &place, true, m);
	if (err)
		free(name);
	else
		tr->fuse[tr->nfuse++] = name;
	return err;
}

void call_mount(struct tracer *tr, struct task *t)
{
	struct msg_mount m = { .shadow = 0 };
	char type[80] = "", options[OPTIONS_MAX] = "";
	int err;

	if (!rules_has(&tr->rules, RULE_FUSE) ||
	    read_text(t, t->args[2], type, sizeof(type)) < 0 ||
	    (strcmp(type, "fuse") != 0 && strncmp(type, "fuse.", 5) != 0) ||
	    read_text(t, t->args[4], options, sizeof(options)) < 0) {
		call_general(tr, t);
		return;
	}
	err = parse_options(t, options, &m);
	if (!is_host_fd(t, (int)m.fuse)) {
		call_general(tr, t);
		return;
	}
	if (type[4] && snprintf(m.subtype, sizeof(m.subtype), "%s", type + 5) >=
	    (int)sizeof(m.subtype))
		err = -EINVAL;
	if (!err)
		err = mount_fuse(tr, t, &m);
	task_return(tr, t, err);
}

void call_umount(struct tracer *tr, struct task *t)
{
	const bool follow = !(t->args[1] & 8);	/* UMOUNT_NOFOLLOW */
	struct msg_mount m = { .shadow = 0 };
	struct place place = { .kind = PLACE_LOCAL };
	int err;

	if (!tr->nfuse || find_place(tr, t, t->args[0], follow, &place) < 0 ||
	    place.kind != PLACE_HOST) {
		call_general(tr, t);
		return;
	}
	err = request(tr, t, MSG_UMOUNT, &place, follow, &m);
	for (size_t i = 0; i < tr->nfuse && !err; i++) {
		if (strcmp(tr->fuse[i], place.abs) != 0)
			continue;
		free(tr->fuse[i]);
		tr->fuse[i] = tr->fuse[--tr->nfuse];
		break;
	}
	task_return(tr, t, err);
}
