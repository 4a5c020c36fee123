/* SPDX-License-Identifier: MIT */
/*
 * callfmt.h - a forwarded call as one line in strace's notation
 */
#ifndef GUEST_CALLFMT_H
#define GUEST_CALLFMT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Reads target memory: bytes read (short at an unmapped page), or -errno. */
typedef ssize_t (*callfmt_read_fn)(void *ctx, uint64_t addr, void *buf,
				   size_t len);

struct callfmt {
	callfmt_read_fn read;
	void *ctx;
	/* The path behind a descriptor for "3</mnt/host/x>", or NULL. */
	const char *(*fd_path)(void *ctx, int fd);
	size_t str_max;			/* bytes of strings shown, strace: 32 */
};

/*
 * callfmt_call() - a finished call:
 *
 *	openat(AT_FDCWD, "/mnt/host/x", O_RDONLY|O_CLOEXEC) = 3 <0.000041>
 *	read(3</mnt/host/x>, "needle\n", 4096) = 7 <0.000039>
 *	openat(AT_FDCWD, "/mnt/host/y", O_RDONLY) = -1 ENOENT (No such file or directory) <0.000040>
 *
 * result is the kernel's: a value, or -errno. No newline. Always
 * NUL-terminated, cut where out is too small. Returns the length written.
 */
size_t callfmt_call(const struct callfmt *fmt, uint64_t nr,
		    const uint64_t args[6], int64_t result, double seconds,
		    char *out, size_t size);

#endif
