/* SPDX-License-Identifier: MIT */
/* pointers.c - the memory that a call points to */
#include "guest/pointers.h"

#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "base/num.h"
#include "capsule/abi.h"
#include "guest/tracer.h"
#include "wire/calls.h"

/* Later than Debian 12's headers. */
#define NR_SETXATTRAT 463
#define NR_GETXATTRAT 464

/* What a call moves at most (MAX_RW_COUNT, include/linux/fs.h). */
#define LEN_MAX 0x7ffff000u

static void visit_range(const struct visit *v, uint64_t addr, uint64_t len,
			bool written)
{
	struct range at;

	if (addr >= USER_END || len == 0)
		return;
	len = min_u64(min_u64(len, LEN_MAX), USER_END - addr);
	at = (struct range){ max_u64(page_down(addr), PAGE_BYTES),
			     page_up(addr + len) };
	/* Nothing is ever mapped in the first page. */
	if (at.start < at.end)
		v->fn(v->ctx, at, written);
}

/* Of a string, with its end. */
static uint64_t text_len(struct task *t, uint64_t addr)
{
	char text[PATH_MAX];
	ssize_t n = task_read(t, addr, text, sizeof(text));

	return n < 0 ? 0 : min_u64(strnlen(text, (size_t)n) + 1, PATH_MAX);
}

/* An array of struct iovec, and what its entries point to. */
static void visit_iovec(const struct visit *visit, struct task *t,
			uint64_t addr, uint64_t n)
{
	struct iovec v[32];

	if (n > 1024)		/* UIO_MAXIOV: the call will fail */
		return;
	visit_range(visit, addr, n * sizeof(*v), false);
	for (uint64_t i = 0; i < n; i += ARRAY_SIZE(v)) {
		uint64_t part = min_u64(n - i, ARRAY_SIZE(v));
		ssize_t got = task_read(t, addr + i * sizeof(*v), v,
					part * sizeof(*v));

		for (size_t j = 0; got > 0 && j < (size_t)got / sizeof(*v);
		     j++)
			visit_range(visit, (uint64_t)v[j].iov_base,
				    v[j].iov_len, true);
	}
}

static void visit_msghdr(const struct visit *v, struct task *t, uint64_t addr)
{
	struct msghdr m;

	visit_range(v, addr, sizeof(m), true);
	if (task_read(t, addr, &m, sizeof(m)) != sizeof(m))
		return;
	visit_range(v, (uint64_t)m.msg_name, m.msg_namelen, true);
	visit_range(v, (uint64_t)m.msg_control, m.msg_controllen, true);
	visit_iovec(v, t, (uint64_t)m.msg_iov, m.msg_iovlen);
}

static void visit_mmsghdr(const struct visit *v, struct task *t, uint64_t addr,
			  uint64_t n)
{
	const size_t size = sizeof(struct mmsghdr);

	n = min_u64(n, 1024);	/* UIO_MAXIOV: no more are looked at */
	visit_range(v, addr, n * size, true);
	for (uint64_t i = 0; i < n; i++)
		visit_msghdr(v, t, addr + i * size);
}

/* struct xattr_args of linux/xattr.h (Linux 6.13) */
static void visit_xattr_args(const struct visit *v, struct task *t,
			     uint64_t addr)
{
	struct { uint64_t value; uint32_t size, flags; } a;

	visit_range(v, addr, sizeof(a), false);
	if (task_read(t, addr, &a, sizeof(a)) == sizeof(a))
		visit_range(v, a.value, a.size, true);
}

/* CALL_NESTED; false: what the table says has to be looked at, too. */
static bool visit_nested(const struct visit *v, struct task *t,
			 const struct forward_call *call)
{
	const uint64_t *a = call->args;
	uint32_t len;

	switch (call->nr) {
	case SYS_sendmsg:
	case SYS_recvmsg:
		visit_msghdr(v, t, a[1]);
		return true;
	case SYS_sendmmsg:
	case SYS_recvmmsg:
		visit_mmsghdr(v, t, a[1], (uint32_t)a[2]);
		visit_range(v, a[4], call->nr == SYS_recvmmsg && a[4] ?
			    sizeof(struct timespec) : 0, true);
		return true;
	case SYS_getsockopt:
		visit_range(v, a[4], sizeof(len), true);
		if (task_read(t, a[4], &len, sizeof(len)) == sizeof(len))
			visit_range(v, a[3], len, true);
		return true;
	case SYS_poll:
		visit_range(v, a[0], min_u64(a[1], 1 << 20) *
			    sizeof(struct pollfd), true);
		return true;
	case SYS_epoll_wait:
		visit_range(v, a[1], min_u64(a[2], 1 << 20) *
			    sizeof(struct epoll_event), true);
		return true;
	case SYS_ioctl:		/* a number, or what the request says */
		visit_range(v, a[2], a[2] < PAGE_BYTES ? 0 :
			    _IOC_SIZE((uint32_t)a[1]) ? : STUB_STRUCT, true);
		return true;
	case NR_SETXATTRAT:
	case NR_GETXATTRAT:
		visit_xattr_args(v, t, a[4]);
		return false;
	}
	return false;
}

void visit_pointers(const struct visit *v, struct task *t,
		    const struct forward_call *call)
{
	const struct call *c = calls_get(call->nr);

	if (visit_nested(v, t, call))
		return;
	for (int i = 0; c && c->args[i]; i++) {
		const uint64_t a = call->args[i];

		switch (c->args[i]) {
		case 'p':
		case 'P':
		case 'T':
			visit_range(v, a, text_len(t, a), false);
			break;
		case '*':
			visit_range(v, a, a ? STUB_STRUCT : 0, true);
			break;
		case 'b':
		case 'B':
			visit_range(v, a, c->args[i + 1] ? call->args[i + 1] :
							   1,
				    c->args[i] == 'b');
			break;
		case 'V':
			visit_iovec(v, t, a, call->args[i + 1]);
			break;
		}
	}
}
