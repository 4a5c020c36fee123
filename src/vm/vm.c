/* SPDX-License-Identifier: MIT */
/* vm.c - virtual machines on this host: finding and opening them */
#include "vm/vm.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "process/proc.h"
#include "vm/qemu.h"
#include "vm/qmp.h"
#include "vm/uml.h"

void vm_say(char err[VM_ERR_MAX], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, VM_ERR_MAX, fmt, ap);
	va_end(ap);
}

const char *vm_kind_name(enum vm_kind kind)
{
	return kind == VM_QEMU ? "qemu" : "uml";
}

/* ---- seeing ---- */

static bool see(pid_t pid, const struct proc_args *args, struct vm_seen *seen)
{
	struct proc_status st = { .uid = (uid_t)-1 };

	*seen = (struct vm_seen){ .pid = pid };
	if (qemu_is(pid, args)) {
		seen->kind = VM_QEMU;
		qemu_see(args, seen);
	} else if (uml_see(pid, args, seen)) {
		seen->kind = VM_UML;
	} else {
		return false;
	}
	if (proc_status_read(pid, &st) == 0)
		seen->uid = st.uid;
	return true;
}

struct list {
	struct vm_seen *v;
	size_t n;
};

static int add_seen(pid_t pid, void *arg)
{
	struct list *list = arg;
	struct proc_args args;
	struct vm_seen seen, *v;
	bool is;

	if (proc_args_read(pid, &args))
		return 0;	/* it has gone */
	is = args.n > 0 && see(pid, &args, &seen);
	proc_args_fini(&args);
	if (!is)
		return 0;
	v = realloc(list->v, (list->n + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	list->v = v;
	v[list->n++] = seen;
	return 0;
}

int vm_list(struct vm_seen **v, size_t *n)
{
	struct list list = { 0 };
	int rc = proc_each(add_seen, &list);

	if (rc) {
		free(list.v);
		return rc;
	}
	*v = list.v;
	*n = list.n;
	return 0;
}

/* ---- opening ---- */

static bool ends_within(const struct vm *vm, int ms)
{
	struct pollfd p = { .fd = vm->pidfd, .events = POLLIN };

	return poll(&p, 1, ms) > 0;
}

bool vm_ended(const struct vm *vm)
{
	return ends_within(vm, 0);
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	ram_fini(&vm->ram);
	close_fd(&vm->pidfd);
	free(vm->qmp);
	free(vm);
}

#define END_MS	500	/* from the close of a process's files to its end */

/* The VMM may have ended while we looked, and that explains all the rest. */
static int settle(const struct vm *vm, int rc, char *err)
{
	const pid_t pid = vm->seen.pid;

	if (ends_within(vm, rc == -EPIPE ? END_MS : 0))
		return vm_fail(err, -ESRCH, "the VMM (process %d) has ended"
			       " meanwhile: start it again", pid);
	return rc;
}

static int open_pid(pid_t pid, const char *qmp, struct vm **out,
		    char err[VM_ERR_MAX])
{
	struct vm *vm = calloc(1, sizeof(*vm));
	struct proc_args args;
	int rc;

	if (!vm)
		return vm_fail(err, -ENOMEM, "out of memory");
	ram_init(&vm->ram, -1, 0);
	vm->pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	if (vm->pidfd < 0 || proc_args_read(pid, &args)) {
		vm_free(vm);
		return vm_fail(err, -ESRCH, "there is no process %d", pid);
	}
	if (!see(pid, &args, &vm->seen))
		rc = vm_fail(err, -ESRCH, "process %d is no QEMU and no kernel"
			     " of User-Mode Linux: see darkshadow vms", pid);
	else if (vm->seen.kind == VM_QEMU)
		rc = qemu_open(vm, &args, qmp, err);
	else
		rc = uml_open(vm, err);
	proc_args_fini(&args);
	rc = settle(vm, rc, err);
	if (rc)
		vm_free(vm);
	else
		*out = vm;
	return rc;
}

int vm_open_pid(pid_t pid, struct vm **out, char err[VM_ERR_MAX])
{
	return open_pid(pid, NULL, out, err);
}

int vm_renew(struct vm *vm, char err[VM_ERR_MAX])
{
	*err = '\0';
	return vm->seen.kind == VM_UML ? uml_renew(vm, err) : 0;
}

/* ---- by what the user calls it ---- */

static bool is_named(const struct vm_seen *seen, const char *name, bool uml)
{
	return (!uml || seen->kind == VM_UML) && *seen->name &&
	       strcmp(seen->name, name) == 0;
}

/* "alpha (pid 1), beta (pid 2)", as many as there is room for */
static void name_all(const struct vm_seen *v, size_t n, char *buf,
		     size_t size)
{
	size_t len = 0;

	*buf = '\0';
	for (size_t i = 0; i < n && len + VM_NAME_MAX + 32 < size; i++)
		len += (size_t)snprintf(buf + len, size - len, "%s%s (pid %d)",
					i ? ", " : "", *v[i].name ?
					v[i].name : "one without a name",
					v[i].pid);
}

static int refuse_name(const struct vm_seen *v, size_t n, const char *name,
		       char *err)
{
	char all[VM_ERR_MAX - 300];

	name_all(v, n, all, sizeof(all));
	if (n == 0)
		return vm_fail(err, -ESRCH, "no VM runs here: start it with"
			       " -name %.100s (QEMU) or umid=%.100s (User-Mode"
			       " Linux)", name, name);
	return vm_fail(err, -ESRCH, "no VM of this name runs here; there are:"
		       " %s", all);
}

static int open_name(const char *name, bool uml, struct vm **out, char *err)
{
	struct vm_seen *v = NULL;
	size_t n = 0, found = 0, i, at = 0;
	int rc = vm_list(&v, &n);

	if (rc)
		return vm_fail(err, rc, "cannot list processes: %s",
			       strerror(-rc));
	for (i = 0; i < n; i++)
		if (is_named(&v[i], name, uml)) {
			found++;
			at = i;
		}
	if (found == 1) {
		rc = vm_open_pid(v[at].pid, out, err);
	} else if (found == 0) {
		rc = refuse_name(v, n, name, err);
	} else {
		size_t len = (size_t)snprintf(err, VM_ERR_MAX, "%zu VMs have"
					      " this name: say which one:",
					      found);

		for (i = 0; i < n && len + 32 < VM_ERR_MAX; i++)
			if (is_named(&v[i], name, uml))
				len += (size_t)snprintf(err + len,
							VM_ERR_MAX - len,
							" pid:%d", v[i].pid);
		rc = -ENOTUNIQ;
	}
	free(v);
	return rc;
}

/* Whose monitor is it? By the command lines. */
struct owner {
	struct stat st;
	pid_t pid;
};

static int is_owner(pid_t pid, void *arg)
{
	struct owner *o = arg;
	struct proc_args args;
	char *path cleanup_free = NULL;
	struct stat st;

	if (proc_args_read(pid, &args))
		return 0;
	if (args.n > 0 && qemu_is(pid, &args))
		path = qemu_qmp_path(pid, &args);
	proc_args_fini(&args);
	if (!path || stat(path, &st) < 0 || st.st_ino != o->st.st_ino ||
	    st.st_dev != o->st.st_dev)
		return 0;
	o->pid = pid;
	return 1;
}

static int open_qmp(const char *path, struct vm **out, char *err)
{
	struct owner o = { .pid = 0 };
	struct qmp q;
	int rc;

	if (stat(path, &o.st) == 0)
		proc_each(is_owner, &o);
	if (o.pid)
		return open_pid(o.pid, path, out, err);
	/* Not on a command line: then by who made the socket. */
	rc = qmp_open(&q, path, err);
	if (rc)
		return rc;
	o.pid = qmp_peer(&q);
	qmp_close(&q);
	if (o.pid < 0)
		return vm_fail(err, -ESRCH, "%s: cannot tell which process"
			       " this monitor belongs to: say pid:N", path);
	return open_pid(o.pid, path, out, err);
}

int vm_open(const char *spec, struct vm **out, char err[VM_ERR_MAX])
{
	char *end;
	long pid;

	*err = '\0';
	if (strncmp(spec, "qmp:", 4) == 0)
		return open_qmp(spec + 4, out, err);
	if (strncmp(spec, "uml:", 4) == 0)
		return open_name(spec + 4, true, out, err);
	if (strncmp(spec, "pid:", 4) != 0)
		return *spec ? open_name(spec, false, out, err) :
			vm_fail(err, -EINVAL, "expected NAME, uml:NAME, pid:N"
				" or qmp:PATH");
	pid = strtol(spec + 4, &end, 10);
	if (end == spec + 4 || *end || pid <= 0 || pid > INT_MAX)
		return vm_fail(err, -EINVAL, "expected pid:N with the number"
			       " of a process");
	return vm_open_pid((pid_t)pid, out, err);
}
