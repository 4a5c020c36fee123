/* SPDX-License-Identifier: MIT */
/* seccomp.c - what the seccomp filters of another process say of calls */
#include "process/seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>

#include "base/bpf.h"
#include "base/num.h"

/* More than fit: MAX_INSNS_PER_PATH in kernel/seccomp.c, with 4 for each. */
#define FILTERS_MAX	8192

static struct bpf_data data_of(const struct seccomp_call *c)
{
	struct seccomp_data sd = {
		.nr = c->nr, .arch = AUDIT_ARCH_X86_64,
		.instruction_pointer = c->at,
	};
	const size_t first = offsetof(struct seccomp_data, args) / 4;
	struct bpf_data d = { .unknown = 0 };

	_Static_assert(sizeof(sd) == sizeof(d.w), "words");
	for (size_t i = 0; i < ARRAY_SIZE(sd.args); i++) {
		sd.args[i] = c->args[i];
		if (c->unknown >> i & 1)
			d.unknown |= (uint16_t)(3u << (first + 2 * i));
	}
	memcpy(d.w, &sd, sizeof(sd));
	return d;
}

/* ACTION_ONLY() of the kernel's: the least is the most restrictive. */
static int32_t rank(uint32_t action)
{
	return (int32_t)(action & SECCOMP_RET_ACTION_FULL);
}

static int ask_one(struct seccomp_call *c, const struct sock_filter *v,
		   size_t n)
{
	const struct bpf_data d = data_of(c);
	uint32_t action = SECCOMP_RET_KILL_PROCESS;
	int rc = bpf_run(v, n, &d, &action);

	if (rc == -ENODATA) {
		c->undecided = true;
		return 0;
	}
	if (!rc && rank(action) < rank(c->action))
		c->action = action;
	return rc;
}

static int explain(int err)
{
	switch (err) {
	case EIO:		/* no such request */
	case EINVAL:		/* not in filter mode */
	case EMEDIUMTYPE:	/* no classic BPF */
		return -ENOTSUP;
	}
	return -err;
}

int seccomp_ask(pid_t tid, struct seccomp_call *calls, size_t n)
{
	struct sock_filter v[BPF_MAXINSNS];

	for (size_t i = 0; i < n; i++) {
		calls[i].action = SECCOMP_RET_ALLOW;
		calls[i].undecided = false;
	}
	for (uintptr_t i = 0; i < FILTERS_MAX; i++) {
		long len = ptrace((enum __ptrace_request)
				  PTRACE_SECCOMP_GET_FILTER, tid, (void *)i, v);
		int rc = 0;

		if (len < 0)
			return errno == ENOENT ? 0 : explain(errno);
		for (size_t j = 0; j < n && !rc; j++)
			rc = ask_one(&calls[j], v, (size_t)len);
		if (rc)
			return -ENOTSUP;
	}
	return -ENOTSUP;
}

bool seccomp_allows(const struct seccomp_call *call)
{
	const uint32_t action = call->action & SECCOMP_RET_ACTION_FULL;

	return !call->undecided && (action == SECCOMP_RET_ALLOW ||
				    action == SECCOMP_RET_LOG);
}

const char *seccomp_action(uint32_t action, char buf[SECCOMP_NAME_MAX])
{
	const int data = (int)(action & SECCOMP_RET_DATA);
	const char *name = strerrorname_np(data);

	switch (action & SECCOMP_RET_ACTION_FULL) {
	case SECCOMP_RET_KILL_THREAD: return "KILL_THREAD";
	case SECCOMP_RET_TRAP: return "TRAP";
	case SECCOMP_RET_USER_NOTIF: return "USER_NOTIF";
	case SECCOMP_RET_TRACE: return "TRACE";
	case SECCOMP_RET_LOG: return "LOG";
	case SECCOMP_RET_ALLOW: return "ALLOW";
	case SECCOMP_RET_ERRNO:
		snprintf(buf, SECCOMP_NAME_MAX, "ERRNO (%s)", name ?: "0");
		return buf;
	}
	/* An action that the kernel does not know is that, too. */
	return "KILL_PROCESS";
}
