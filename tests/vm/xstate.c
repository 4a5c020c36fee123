/* SPDX-License-Identifier: MIT */
/*
 * xstate.c - User-Mode Linux on processors with more registers than it knows
 *
 * Debian 12's UML keeps 2696 bytes of a process's floating point registers, as
 * much as there was before AMX (arch/x86/um/asm/ptrace.h). To set them the
 * host's kernel wants all of them (xstateregs_set() in arch/x86/kernel/fpu), and
 * UML dies of the EFAULT. Preloaded, this adds what UML does not know, as it is.
 */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

#define XSTATE_MAX	16384

typedef long (*ptrace_fn)(int request, pid_t pid, void *addr, void *data);

static ptrace_fn next_ptrace(void)
{
	static ptrace_fn next;

	if (!next)
		next = (ptrace_fn)dlsym(RTLD_NEXT, "ptrace");
	return next;
}

static long set_all(pid_t pid, void *type, const struct iovec *some)
{
	static char v[XSTATE_MAX];	/* kernel stacks are no larger */
	struct iovec all = { v, sizeof(v) };

	if (next_ptrace()(PTRACE_GETREGSET, pid, type, &all) < 0)
		return -1;
	if (some->iov_len >= all.iov_len) {
		errno = EFAULT;
		return -1;
	}
	memcpy(v, some->iov_base, some->iov_len);
	return next_ptrace()(PTRACE_SETREGSET, pid, type, &all);
}

/* As in <sys/ptrace.h>, whose own declaration has a body in some libraries. */
long ptrace(enum __ptrace_request request, ...)
{
	va_list ap;
	void *addr, *data;
	pid_t pid;
	long r;

	va_start(ap, request);
	pid = va_arg(ap, pid_t);
	addr = va_arg(ap, void *);
	data = va_arg(ap, void *);
	va_end(ap);
	r = next_ptrace()((int)request, pid, addr, data);
	if (r < 0 && errno == EFAULT && request == PTRACE_SETREGSET &&
	    addr == (void *)NT_X86_XSTATE)
		return set_all(pid, addr, data);
	return r;
}
