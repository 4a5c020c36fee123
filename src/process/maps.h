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

#endif
