/* SPDX-License-Identifier: MIT */
/*
 * bar.h - memory of a PCI device of the guest, as targets map it
 *
 * It is mapped by a file of sysfs (resource2). Of what is there the host says what
 * it is: the memory that it shares with the guest, or a device of its own.
 */
#ifndef GUEST_BAR_H
#define GUEST_BAR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "process/maps.h"

struct bar {
	int fd, read_fd;	/* owned; read_fd: it cannot be written by */
	dev_t dev;
	ino_t ino;
	uint64_t first;		/* what /proc/PID/maps calls its offset 0 */
	bool open;
};

/* bar_open() - unless it is open; path may be NULL (-ENODEV); 0 or -errno */
int bar_open(struct bar *bar, const char *path);
void bar_close(struct bar *bar);

/* bar_is() - does a line of a process's map belong to it? */
bool bar_is(const struct bar *bar, const struct map_line *line);

#endif
