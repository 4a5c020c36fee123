/* SPDX-License-Identifier: MIT */
/* maps.h - the lines of /proc/PID/maps (proc_pid_maps(5)) */
#ifndef PROCESS_MAPS_H
#define PROCESS_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct map_line {
	uint64_t start, end;
	int prot;		/* PROT_* */
	bool shared;
	uint64_t off;
	dev_t dev;
	ino_t ino;		/* 0: anonymous or special */
	const char *name;	/* "" if none; lives as long as the maps */
};

struct maps {
	struct map_line *v;
	size_t n;
	char *text;
};

/* maps_read() - 0 or -errno; a line that cannot be parsed is -EPROTO */
int maps_read(pid_t pid, struct maps *out);
void maps_fini(struct maps *maps);

/* maps_at() - the line that addr is in, as long as the maps live; or NULL */
const struct map_line *maps_at(const struct maps *maps, uint64_t addr);

/* The same, line by line, in memory that does not grow with the process. */
struct maps_reader {
	int fd;			/* owned */
	size_t at, len;		/* what of buf has yet to be read */
	char buf[32 << 10];	/* longer than any line */
};

/*
 * maps_open(), maps_next() - of the process whose /proc/PID is open as dir
 *
 * maps_next(): 1 and a line, whose name lives until the next call; 0 at the
 * end; or -errno. Without [vsyscall], which is the kernel's. The process may
 * change its mappings meanwhile: lines are in ascending order all the same.
 */
int maps_open(struct maps_reader *r, int dir);
int maps_next(struct maps_reader *r, struct map_line *out);
void maps_close(struct maps_reader *r);

#endif
