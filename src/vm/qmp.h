/* SPDX-License-Identifier: MIT */
/*
 * qmp.h - asking QEMU by its machine protocol (QMP)
 *
 * Facts from QEMU's docs/interop/qmp-spec: a greeting, then one JSON object a
 * line; commands are refused until qmp_capabilities; events come in between;
 * a monitor serves one client at a time, others wait without a greeting.
 *
 * No exchange takes longer than QMP_TIMEOUT_MS, whatever the other end does,
 * and no answer is taken that is longer than QMP_LINE_MAX.
 */
#ifndef VM_QMP_H
#define VM_QMP_H

#include <jansson.h>
#include <stddef.h>
#include <sys/types.h>

#include "vm/vm.h"

#define QMP_TIMEOUT_MS	3000
#define QMP_LINE_MAX	(16u << 20)

struct qmp {
	int fd;			/* owned */
	char *buf;		/* owned: what was read and not yet used */
	size_t len, cap;
};

/*
 * qmp_open() - connect to the socket at path and get commands accepted
 *
 * 0, and q is to be closed; or -errno, and err says why and what to do.
 * -ETIMEDOUT: no answer in time. -EPIPE: the other end has gone.
 */
int qmp_open(struct qmp *q, const char *path, char err[VM_ERR_MAX]);
void qmp_close(struct qmp *q);

/* qmp_peer() - the process that made the socket, or -errno */
pid_t qmp_peer(const struct qmp *q);

/*
 * qmp_command() - carry out a command
 *
 * args: an object, taken over, or NULL. 0 and *ret, to be json_decref()ed, is
 * what it returned; or -errno as above, -EREMOTEIO where QEMU refuses, and err
 * has its words.
 */
int qmp_command(struct qmp *q, const char *name, json_t *args, json_t **ret,
		char err[VM_ERR_MAX]);

/*
 * qmp_monitor() - the same for a line of the human monitor
 *
 * *text, to be freed, is what it printed. The human monitor has no errors:
 * what is not understood is text, too.
 */
int qmp_monitor(struct qmp *q, const char *line, char **text,
		char err[VM_ERR_MAX]);

#endif
