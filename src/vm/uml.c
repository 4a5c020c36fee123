/* SPDX-License-Identifier: MIT */
/* uml.c - User-Mode Linux: its kernel process and its RAM */
#include "vm/uml.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "process/maps.h"
#include "vm/backing.h"

#define IMAGE_MAX	(1ULL << 32)	/* its image is at 0x60000000 */
#define LINE_MAX_LEN	512

/* What is mapped as RAM: offsets [low, high) of the file at line. */
struct physmem {
	const struct map_line *line;
	uint64_t low, high;
};

static bool has_end(const char *text, const char *end)
{
	const size_t n = strlen(text), m = strlen(end);

	return n >= m && strcmp(text + n - m, end) == 0;
}

static bool is_physmem(const struct map_line *l, uint64_t image)
{
	return l->shared && l->ino && (l->prot & PROT_WRITE) &&
	       l->start - l->off == image && has_end(l->name, " (deleted)");
}

static bool find_physmem(const struct maps *maps, struct physmem *out)
{
	const uint64_t image = maps->n ? maps->v[0].start : 0;

	*out = (struct physmem){ 0 };
	if (!image || image >= IMAGE_MAX || !maps->v[0].ino)
		return false;
	for (size_t i = 1; i < maps->n; i++) {
		const struct map_line *l = &maps->v[i];

		if (!is_physmem(l, image) ||
		    (out->line && (out->line->ino != l->ino ||
				   out->line->dev != l->dev)))
			continue;
		if (!out->line) {
			out->line = l;
			out->low = l->off;
		}
		out->high = l->off + (l->end - l->start);
	}
	return out->line;
}

/* Nearly all programs are mapped higher up: one line is enough to see. */
static bool may_be_uml(pid_t pid)
{
	char path[64], line[LINE_MAX_LEN];
	bool may;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "re");
	may = f && fgets(line, sizeof(line), f) &&
	      strtoull(line, NULL, 16) < IMAGE_MAX;
	if (f)
		fclose(f);
	return may;
}

static bool same_args(const struct proc_args *a, const struct proc_args *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->v[i], b->v[i]) != 0)
			return false;
	return true;
}

/* One of its processes, or a helper of the kernel. */
static bool is_part(pid_t pid, const struct proc_args *args)
{
	struct proc_args parent;
	struct proc_status st;
	bool part;

	if (proc_status_read(pid, &st) || st.ppid == 0 ||
	    proc_args_read(st.ppid, &parent))
		return false;
	part = same_args(args, &parent);
	proc_args_fini(&parent);
	return part;
}

static const char *arg_value(const struct proc_args *args, const char *key)
{
	for (size_t i = 1; i < args->n; i++)
		if (strncmp(args->v[i], key, strlen(key)) == 0)
			return args->v[i] + strlen(key);
	return NULL;
}

/* $HOME as the process was given it. */
static void home_of(pid_t pid, char *buf, size_t size)
{
	char path[64], *text cleanup_free = NULL;
	ssize_t len, at;

	*buf = '\0';
	snprintf(path, sizeof(path), "/proc/%d/environ", pid);
	len = fd_read_all(path, 4 << 20, &text);
	for (at = 0; at < len; at += (ssize_t)strlen(text + at) + 1)
		if (strncmp(text + at, "HOME=", 5) == 0)
			snprintf(buf, size, "%s", text + at + 5);
}

/* uml_dir, in which a folder for each umid has a file "pid". */
static void dir_of(pid_t pid, const struct proc_args *args, char dir[PATH_MAX])
{
	const char *given = arg_value(args, "uml_dir=");
	char home[1024];

	home_of(pid, home, sizeof(home));
	if (!given)
		snprintf(dir, PATH_MAX, "%s/.uml", home);
	else if (strncmp(given, "~/", 2) == 0)
		snprintf(dir, PATH_MAX, "%s/%.2000s", home, given + 2);
	else if (*given == '/')
		snprintf(dir, PATH_MAX, "%s", given);
	else
		snprintf(dir, PATH_MAX, "/proc/%d/cwd/%.2000s", pid, given);
}

/* The process that has a umid; 0: it is not written there. */
static pid_t owner_of(const char *dir, const char *umid)
{
	char *path cleanup_free = NULL, *text cleanup_free = NULL;

	if (asprintf(&path, "%s/%s/pid", dir, umid) < 0 ||
	    fd_read_all(path, 64, &text) < 0)
		return 0;
	return atoi(text);
}

/*
 * The umid, which it made up where none was given. false: the one that was
 * given is another process's, so this is what was left of a dead kernel.
 */
static bool find_umid(pid_t pid, const struct proc_args *args, char *buf,
		      size_t size)
{
	const char *umid = arg_value(args, "umid=");
	char dir[PATH_MAX];
	struct dirent *e;
	DIR *d;

	dir_of(pid, args, dir);
	if (umid) {
		const pid_t owner = owner_of(dir, umid);

		snprintf(buf, size, "%s", umid);
		return owner == 0 || owner == pid;
	}
	d = opendir(dir);
	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.' && owner_of(dir, e->d_name) == pid)
			snprintf(buf, size, "%.100s", e->d_name);
	if (d)
		closedir(d);
	return true;
}

/* Another user's: all there is to see is the command line. */
static bool looks_like_uml(const struct proc_args *args)
{
	const char *slash = strrchr(args->v[0], '/');
	const char *name = slash ? slash + 1 : args->v[0];

	return (strstr(name, "linux") || strstr(name, "uml")) &&
	       (arg_value(args, "umid=") || arg_value(args, "mem="));
}

bool uml_see(pid_t pid, const struct proc_args *args, struct vm_seen *seen)
{
	struct maps maps = { 0 };
	struct physmem mem = { 0 };
	char exe[PATH_MAX];
	bool is;

	if (args->n == 0)
		return false;
	if (proc_link(pid, "exe", exe) == -EACCES) {
		is = looks_like_uml(args);
	} else {
		is = may_be_uml(pid) && maps_read(pid, &maps) == 0 &&
		     find_physmem(&maps, &mem);
		seen->memory = mem.high - mem.low;
		maps_fini(&maps);
	}
	return is && !is_part(pid, args) &&
	       find_umid(pid, args, seen->name, sizeof(seen->name));
}

int uml_open(struct vm *vm, char err[VM_ERR_MAX])
{
	const pid_t pid = vm->seen.pid;
	struct maps maps = { 0 };
	struct physmem mem;
	uint64_t size;
	int rc, fd;

	rc = maps_read(pid, &maps);
	if (rc == -EACCES || rc == -EPERM)
		return backing_denied(pid, "the memory map", rc, err);
	if (rc)
		return vm_fail(err, rc, "cannot read the memory map of process"
			       " %d: %s", pid, strerror(-rc));
	if (!find_physmem(&maps, &mem))
		rc = vm_fail(err, -ESRCH, "process %d has no RAM of User-Mode"
			     " Linux mapped (any more)", pid);
	if (!rc)
		rc = backing_open(pid, mem.line, &fd, &size, err);
	if (!rc) {
		ram_init(&vm->ram, fd, size);
		rc = ram_add(&vm->ram, mem.low, mem.high - mem.low, mem.low);
		if (rc)
			vm_say(err, "the RAM file %s of process %d is smaller"
			       " than its RAM", mem.line->name, pid);
		vm->seen.memory = mem.high - mem.low;
		vm->layout = "UML";
	}
	maps_fini(&maps);
	if (rc)
		ram_fini(&vm->ram);
	return rc;
}

int uml_renew(struct vm *vm, char err[VM_ERR_MAX])
{
	struct maps maps = { 0 };
	struct vm now = *vm;
	struct physmem mem;
	struct stat st;
	int rc = maps_read(vm->seen.pid, &maps);

	/* In the middle of it, it has none: it is not it that asks for us. */
	if (rc || !find_physmem(&maps, &mem) || fstat(vm->ram.fd, &st) < 0 ||
	    mem.line->ino == st.st_ino) {
		maps_fini(&maps);
		return rc;
	}
	maps_fini(&maps);
	ram_init(&now.ram, -1, 0);
	rc = uml_open(&now, err);
	if (rc)
		return rc;
	ram_fini(&vm->ram);
	*vm = now;
	return 1;
}
