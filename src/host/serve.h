/* SPDX-License-Identifier: MIT */
/* serve.h - the daemon's loop: sessions, their requests, their shadows */
#ifndef HOST_SERVE_H
#define HOST_SERVE_H

#include <stdbool.h>

#include "vm/vm.h"
#include "vm/window.h"
#include "wire/rules.h"
#include "wire/transport.h"

struct serve {
	const struct rules *policy;	/* borrowed */
	const char *vm_spec;		/* borrowed; as vm_open() takes it, or
					 * NULL: loopback, where guests bring
					 * their RAM along */
	struct vm *vm;			/* owned; NULL: not found yet */
	bool wait;			/* for the VM, and for the next one */
	struct listener *listener;	/* borrowed; NULL: there is none */
	struct windows *windows;	/* owned; NULL: not for a VM */
	struct window_place place;	/* of a session's; fd: owned there */
};

/*
 * serve_find_vm() - conf->vm, by conf->vm_spec; 0 or -errno, and err says why
 */
int serve_find_vm(struct serve *conf, char err[VM_ERR_MAX]);

/*
 * serve_run() - until SIGTERM or SIGINT, or until the one session ends, or the
 * VM, unless the next one is waited for
 *
 * first: a session that is open already, taken over, or NULL: then sessions
 * are accepted at the listener, each in a process of its own. 0 or -errno.
 */
int serve_run(struct serve *conf, struct transport *first);

#endif
