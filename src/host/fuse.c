/* SPDX-License-Identifier: MIT */
/* fuse.c - file systems that a target serves by /dev/fuse */
#include "host/fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "process/proc.h"

#define FUSE_MAJOR	10
#define FUSE_MINOR	229
#define MS_RDONLY_	1
#define MNT_DETACH_	2

/* What the child that enters the namespaces has, and says. */
struct job {
	struct shadow *shadow;
	const struct msg_mount *m;
	int fuse, dir;		/* ours, of the shadow's */
	int mount;		/* what has been mounted: its id */
	uid_t uid;		/* of the shadow, as seen by us */
	gid_t gid;
};

/* --- in the child ---------------------------------------------------------- */

static bool same_namespace(pid_t pid, const char *what)
{
	char theirs[64], ours[64];
	struct stat a, b;

	snprintf(theirs, sizeof(theirs), "/proc/%d/ns/%s", pid, what);
	snprintf(ours, sizeof(ours), "/proc/self/ns/%s", what);
	return stat(theirs, &a) == 0 && stat(ours, &b) == 0 &&
	       a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static int enter(struct job *j)
{
	const pid_t pid = j->shadow->leader;
	const bool user = !same_namespace(pid, "user");

	if (same_namespace(pid, "mnt"))
		return -EPERM;
	if (syscall(SYS_setns, j->shadow->pidfd,
		    CLONE_NEWNS | (user ? CLONE_NEWUSER : 0)) < 0)
		return -errno;
	/* In a user namespace the numbers are as these see them. */
	if (user) {
		j->uid = getuid();
		j->gid = getgid();
	}
	return 0;
}

static int set_string(int fs, const char *key, const char *value)
{
	return syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0) <
	       0 ? -errno : 0;
}

static int set_number(int fs, const char *key, unsigned int value)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", value);
	return set_string(fs, key, text);
}

static int set_mode(int fs, const char *key, unsigned int value)
{
	char text[16];

	snprintf(text, sizeof(text), "%o", value);
	return set_string(fs, key, text);
}

static int set_flag(int fs, const char *key)
{
	return syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, key, NULL, 0) < 0 ?
	       -errno : 0;
}

static int configure(int fs, const struct job *j)
{
	const struct msg_mount *m = j->m;
	int err = set_number(fs, "fd", (unsigned int)j->fuse);

	if (!err)
		err = set_mode(fs, "rootmode", m->rootmode);
	if (!err)
		err = set_number(fs, "user_id", j->uid);
	if (!err)
		err = set_number(fs, "group_id", j->gid);
	if (!err && m->max_read)
		err = set_number(fs, "max_read", m->max_read);
	if (!err && *m->source)
		err = set_string(fs, "source", m->source);
	if (!err && *m->subtype)
		err = set_string(fs, "subtype", m->subtype);
	if (!err && m->options & FUSE_DEFAULT_PERMISSIONS)
		err = set_flag(fs, "default_permissions");
	if (!err && m->options & FUSE_ALLOW_OTHER)
		err = set_flag(fs, "allow_other");
	if (!err && m->flags & MS_RDONLY_)
		err = set_flag(fs, "ro");
	return err;
}

/* The mount that a descriptor is in; its file system is not asked. */
static int mount_of(int fd)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID,
		  &st) < 0 || !(st.stx_mask & STATX_MNT_ID))
		return 0;
	return (int)st.stx_mnt_id;
}

static int attach(struct job *j)
{
	const unsigned int attr = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
				  MOUNT_ATTR_NOEXEC |
				  (j->m->flags & MS_RDONLY_ ?
				   MOUNT_ATTR_RDONLY : 0);
	int fs cleanup_fd = (int)syscall(SYS_fsopen, "fuse", FSOPEN_CLOEXEC);
	int mnt cleanup_fd = -1;
	int err = fs < 0 ? -errno : configure(fs, j);

	if (err)
		return err;
	if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	mnt = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attr);
	if (mnt < 0)
		return -errno;
	j->mount = mount_of(mnt);
	return syscall(SYS_move_mount, mnt, "", j->dir, "",
		       MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0 ?
	       -errno : 0;
}

/* By descriptor: a name may lead elsewhere by now. */
static int detach(struct job *j)
{
	char name[16];

	snprintf(name, sizeof(name), "%d", j->dir);
	return syscall(SYS_umount2, name, MNT_DETACH_) < 0 ? -errno : 0;
}

static int in_child(struct job *j, int (*fn)(struct job *j))
{
	int status = 0;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		/* There is no /proc where it goes. */
		int fds = open("/proc/self/fd", O_PATH | O_DIRECTORY);
		int err = enter(j);

		if (!err && fchdir(fds) < 0)
			err = -errno;
		_exit(err ? -err : -fn(j));
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

/* --- here ------------------------------------------------------------------ */

static void job_free(struct job *j)
{
	close_fd(&j->fuse);
	close_fd(&j->dir);
	munmap(j, sizeof(*j));
}

/* The child writes there, too. NULL: *err says why. */
static struct job *job_new(struct shadow *s, const struct msg_mount *m,
			   int *err)
{
	struct job *j = mmap(NULL, sizeof(*j), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct proc_status st = { .uid = 0 };

	*err = -ENOMEM;
	if (j == MAP_FAILED)
		return NULL;
	*j = (struct job){ .shadow = s, .m = m, .fuse = -1 };
	*err = proc_status_read(s->leader, &st);
	j->uid = st.uid;
	j->gid = st.gid;
	j->dir = shadow_getfd(s, (int)m->dir);
	if (!*err && j->dir < 0)
		*err = j->dir;
	if (!*err)
		return j;
	job_free(j);
	return NULL;
}

static bool is_fuse(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) &&
	       st.st_rdev == makedev(FUSE_MAJOR, FUSE_MINOR);
}

int fuse_mount(struct fuse_mounts *mounts, struct shadow *s,
	       const struct msg_mount *m)
{
	struct job *j;
	int err;

	if (mounts->n == FUSE_MOUNTS_MAX)
		return -ENOSPC;
	j = job_new(s, m, &err);
	if (!j)
		return err;
	j->fuse = shadow_getfd(s, (int)m->fuse);
	if (j->fuse < 0)
		err = j->fuse;
	else
		err = is_fuse(j->fuse) ? in_child(j, attach) : -EINVAL;
	if (!err)
		mounts->ids[mounts->n++] = j->mount;
	job_free(j);
	return err;
}

int fuse_umount(struct fuse_mounts *mounts, struct shadow *s,
		const struct msg_mount *m)
{
	int err, id;
	struct job *j = job_new(s, m, &err);
	size_t i;

	if (!j)
		return err;
	id = mount_of(j->dir);
	for (i = 0; i < mounts->n && mounts->ids[i] != id; i++)
		;
	err = i < mounts->n ? in_child(j, detach) : -EINVAL;
	if (!err)
		mounts->ids[i] = mounts->ids[--mounts->n];
	job_free(j);
	return err;
}

/*
 * Without a copy of the descriptor, whose end the file system would be told of.
 */
bool fuse_holds(const struct fuse_mounts *mounts, const struct shadow *s,
		uint32_t fd)
{
	char path[64], *text cleanup_free = NULL;
	const char *at;

	if (!mounts->n)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%u", s->leader, fd);
	if (fd_read_all(path, 4096, &text) < 0)
		return false;
	at = strstr(text, "mnt_id:");
	for (size_t i = 0; at && i < mounts->n; i++)
		if (mounts->ids[i] == atoi(at + strlen("mnt_id:")))
			return true;
	return false;
}
