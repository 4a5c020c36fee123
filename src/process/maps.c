/* SPDX-License-Identifier: MIT */
/* maps.c - the lines of /proc/PID/maps */
#include "process/maps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fd.h"

#define MAPS_MAX (64 << 20)

static int parse(char *text, struct map_line *out)
{
	unsigned long start, end, off, ino;
	unsigned int maj, min;
	char perm[5];
	int name = 0;

	if (sscanf(text, "%lx-%lx %4s %lx %x:%x %lu %n", &start, &end, perm,
		   &off, &maj, &min, &ino, &name) < 7)
		return -EPROTO;
	*out = (struct map_line){
		.start = start, .end = end, .off = off,
		.prot = (perm[0] == 'r' ? PROT_READ : 0) |
			(perm[1] == 'w' ? PROT_WRITE : 0) |
			(perm[2] == 'x' ? PROT_EXEC : 0),
		.shared = perm[3] == 's',
		.dev = makedev(maj, min), .ino = ino,
		.name = name ? text + name : "",
	};
	return 0;
}

int maps_read(pid_t pid, struct maps *out)
{
	char path[64], *line, *save = NULL;
	ssize_t len;
	size_t cap = 0;

	*out = (struct maps){ 0 };
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	len = fd_read_all(path, MAPS_MAX, &out->text);
	if (len < 0)
		return (int)len;
	for (ssize_t i = 0; i < len; i++)
		cap += out->text[i] == '\n';
	out->v = calloc(cap + 1, sizeof(*out->v));
	if (!out->v) {
		maps_fini(out);
		return -ENOMEM;
	}
	for (line = strtok_r(out->text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		int err = parse(line, &out->v[out->n]);

		if (err) {
			maps_fini(out);
			return err;
		}
		out->n++;
	}
	return 0;
}

void maps_fini(struct maps *maps)
{
	free(maps->v);
	free(maps->text);
	*maps = (struct maps){ 0 };
}

const struct map_line *maps_at(const struct maps *maps, uint64_t addr)
{
	for (size_t i = 0; i < maps->n; i++)
		if (maps->v[i].start <= addr && addr < maps->v[i].end)
			return &maps->v[i];
	return NULL;
}

int maps_open(struct maps_reader *r, int dir)
{
	r->at = r->len = 0;
	r->fd = openat(dir, "maps", O_RDONLY | O_CLOEXEC);
	return r->fd < 0 ? -errno : 0;
}

void maps_close(struct maps_reader *r)
{
	close_fd(&r->fd);
}

/* More of the file, behind what is left of the buffer: bytes or -errno. */
static ssize_t fill(struct maps_reader *r)
{
	ssize_t n;

	memmove(r->buf, r->buf + r->at, r->len);
	r->at = 0;
	if (r->len == sizeof(r->buf))
		return -EPROTO;
	do {
		n = read(r->fd, r->buf + r->len, sizeof(r->buf) - r->len);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	r->len += (size_t)n;
	return n;
}

static int next(struct maps_reader *r, struct map_line *out)
{
	char *line, *end;

	while (!(end = memchr(r->buf + r->at, '\n', r->len))) {
		ssize_t n = fill(r);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return r->len ? -EPROTO : 0;
	}
	line = r->buf + r->at;
	*end = '\0';
	r->len -= (size_t)(end + 1 - line);
	r->at += (size_t)(end + 1 - line);
	return parse(line, out) ? -EPROTO : 1;
}

int maps_next(struct maps_reader *r, struct map_line *out)
{
	int got;

	do {
		got = next(r, out);
	} while (got > 0 && out->start >> 63);
	return got;
}
