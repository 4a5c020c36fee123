/* SPDX-License-Identifier: MIT */
/* backing.c - the file behind a VM's RAM */
#include "vm/backing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "process/proc.h"

int backing_denied(pid_t pid, const char *what, int rc, char err[VM_ERR_MAX])
{
	struct proc_status st;

	if (proc_status_read(pid, &st))
		return vm_fail(err, -ESRCH, "process %d has ended", pid);
	if (st.uid == 0 && geteuid() != 0)
		return vm_fail(err, rc, "%s of process %d cannot be reached:"
			       " it belongs to root: run darkshadow as root",
			       what, pid);
	/* A name would need the C library's plug-ins, which static builds
	 * cannot have. */
	if (st.uid != geteuid())
		return vm_fail(err, rc, "%s of process %d cannot be reached:"
			       " it belongs to uid %u: run darkshadow as that"
			       " user or as root", what, pid, st.uid);
	return vm_fail(err, rc, "%s of process %d cannot be reached although"
		       " it is yours: it may be undumpable, or ptrace may be"
		       " restricted (kernel.yama.ptrace_scope, an AppArmor or"
		       " SELinux profile): run darkshadow as root", what, pid);
}

struct search {
	const struct map_line *line;
	int fd;
};

/*
 * The device number of a file is not the same in maps and in stat(2) on every
 * file system (btrfs), its name is.
 */
static int is_backing(pid_t pid, int fd, void *arg)
{
	struct search *s = arg;
	char what[32], path[64], name[PATH_MAX];
	struct stat st;

	snprintf(what, sizeof(what), "fd/%d", fd);
	snprintf(path, sizeof(path), "/proc/%d/%s", pid, what);
	if (stat(path, &st) < 0 || st.st_ino != s->line->ino)
		return 0;
	if (st.st_dev != s->line->dev &&
	    (proc_link(pid, what, name) < 0 || strcmp(name, s->line->name)))
		return 0;
	s->fd = fd;
	return 1;
}

static int open_line(pid_t pid, const struct map_line *line)
{
	struct search s = { .line = line, .fd = -1 };
	char path[96];
	int rc, fd;

	rc = proc_each_fd(pid, is_backing, &s);
	if (rc < 0)
		return rc;
	if (s.fd >= 0)
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, s.fd);
	else
		snprintf(path, sizeof(path), "/proc/%d/map_files/%lx-%lx", pid,
			 line->start, line->end);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	rc = -errno;
	if (s.fd >= 0)
		fd = proc_copy_fd(pid, s.fd);
	return fd < 0 ? rc : fd;
}

/* What has been opened is what is mapped, and fit to be mapped by us. */
static int check_file(pid_t pid, const struct map_line *line, int fd,
		      uint64_t *size, char *err)
{
	struct statfs fs;
	struct stat st;
	int rc;

	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0) {
		rc = -errno;
		return vm_fail(err, rc, "cannot examine %s of process %d: %s",
			       line->name, pid, strerror(-rc));
	}
	if (st.st_ino != line->ino || !S_ISREG(st.st_mode))
		return vm_fail(err, -ESRCH, "the RAM of process %d has changed"
			       " meanwhile: try again", pid);
	if (fs.f_type == HUGETLBFS_MAGIC)
		return vm_fail(err, -ENOTSUP, "its RAM is in huge pages"
			       " (hugetlb) of %ld KiB, of which pages of 4 KiB"
			       " cannot be mapped: leave out hugetlb=on, or"
			       " give mem-path in a tmpfs such as /dev/shm;"
			       " transparent huge pages are no obstacle",
			       (long)fs.f_bsize / 1024);
	if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDWR)
		return vm_fail(err, -ENOTSUP, "the VMM has its RAM file %s"
			       " open for reading only: it cannot be shared",
			       line->name);
	*size = (uint64_t)st.st_size;
	return 0;
}

int backing_open(pid_t pid, const struct map_line *line, int *out,
		 uint64_t *size, char err[VM_ERR_MAX])
{
	int fd cleanup_fd = -1;
	int rc;

	if (!line->shared || !line->ino ||
	    (line->prot & (PROT_READ | PROT_WRITE)) !=
	    (PROT_READ | PROT_WRITE))
		return vm_fail(err, -ENOTSUP, "its RAM is private");
	fd = open_line(pid, line);
	if (fd == -EACCES || fd == -EPERM)
		return backing_denied(pid, "the RAM file", fd, err);
	if (fd < 0)
		return vm_fail(err, fd == -ENOENT ? -ESRCH : fd,
			       "cannot open the RAM file %s of process %d: %s",
			       line->name, pid, strerror(-fd));
	rc = check_file(pid, line, fd, size, err);
	if (!rc)
		*out = steal_fd(&fd);
	return rc;
}
