/* SPDX-License-Identifier: MIT */
/*
 * fuse.h - file systems that a target serves by /dev/fuse
 *
 * Theory of operation. A shadow has no privilege, and mount(2) needs some. So
 * it is the daemon that mounts, by a child that enters the namespaces of the
 * session's shadows for that: there alone it is to be seen, and there it is
 * gone with the last of them. What it is mounted on is a descriptor that the
 * shadow has opened, so the daemon follows no path of the guest's, and a mount
 * is taken away only if it is one of those that were made here: those of the
 * sandbox stay.
 *
 * Without set-user-ID bits, device nodes and programs to execute (the tracer
 * would wait for the file system, which may wait for the tracer), and for the
 * user of the shadows: FUSE's own rule (allow_other) is about others.
 */
#ifndef HOST_FUSE_H
#define HOST_FUSE_H

#include <stdbool.h>
#include <stddef.h>

#include "host/shadow.h"
#include "wire/msg.h"

/* The mounts of one session; all 0 to begin with. */
struct fuse_mounts {
	int ids[FUSE_MOUNTS_MAX];	/* as in /proc/PID/mountinfo */
	size_t n;
};

/*
 * fuse_mount(), fuse_umount() - 0 or -errno, as mount(2) and umount2(2)
 *
 * -EPERM: the shadows have no mount namespace of their own. -EINVAL: the
 * descriptor is none of /dev/fuse; nothing of ours is mounted there. -ENOSPC:
 * there are too many. A mount that is in use goes when it no longer is
 * (MNT_DETACH).
 */
int fuse_mount(struct fuse_mounts *mounts, struct shadow *s,
	       const struct msg_mount *m);
int fuse_umount(struct fuse_mounts *mounts, struct shadow *s,
		const struct msg_mount *m);

/* fuse_holds() - is the shadow's descriptor of a file in one of the mounts? */
bool fuse_holds(const struct fuse_mounts *mounts, const struct shadow *s,
		uint32_t fd);

#endif
