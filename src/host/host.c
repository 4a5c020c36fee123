/* SPDX-License-Identifier: MIT */
/* host.c - `darkshadow host`: the daemon's command line */
#include "host/host.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/exit.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/num.h"
#include "host/serve.h"
#include "vm/vm.h"
#include "wire/rules.h"
#include "wire/transport.h"

struct host_options {
	const char *transport;
	const char *vm;			/* NULL: loopback */
	bool wait;
	uint64_t window;		/* bytes */
	const struct window_ops *way;
	struct rules policy;
};

static const struct argp_option options[] = {
	{ "transport", 't', "NAME[:ARGS]", 0,
	  "Where runs reach this daemon: loopback:SOCKET, shm:FILE,"
	  " hypercall:SOCKET", 0 },
	{ "policy", 'p', "FILE", 0,
	  "Allow what the rules in FILE say, see darkshadow-policy(5)", 0 },
	{ "allow", 'a', "RULE", 0,
	  "Allow what RULE says, as a line of a policy file would (repeatable)",
	  0 },
	{ "vm", 'm', "VM", 0,
	  "Serve the runs inside VM: its NAME, uml:NAME, pid:N or qmp:PATH",
	  0 },
	{ "wait", 'w', NULL, 0,
	  "Let the VM start later, and wait for the next one when it has"
	  " ended", 0 },
	{ "window", 'W', "SIZE|qmp", 0,
	  "Have room for so much memory of devices, with K, M or G, where the"
	  " memory that the VM shares with us is made here (hypercall, or a"
	  " new file of shm); as much as is left of 4M by default. qmp: need"
	  " none, and have QEMU plug in a PCI device for each mapping", 0 },
	{ "quiet", 'q', NULL, 0, "Say nothing but errors", 0 },
	{ "verbose", 'v', NULL, 0, "Say more; twice: everything", 0 },
	{ 0 },
};

static int verbosity;

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct host_options *o = state->input;
	char err[RULES_ERR_MAX];

	switch (key) {
	case 't':
		o->transport = arg;
		return 0;
	case 'p':
		if (rules_load(&o->policy, arg, err) < 0) {
			log_err("%s", err);
			exit(EXIT_OWN_FAILURE);
		}
		return 0;
	case 'a':
		if (rules_add(&o->policy, arg, err) < 0) {
			log_err("%s", err);
			exit(EXIT_OWN_FAILURE);
		}
		return 0;
	case 'm':
		o->vm = arg;
		return 0;
	case 'w':
		o->wait = true;
		return 0;
	case 'W':
		if (strcmp(arg, "qmp") == 0) {
			o->way = &window_plug;
		} else if (!num_parse_size(arg, &o->window)) {
			log_err("--window %s: expected a number of bytes, with"
				" K, M or G (as in 64M), or qmp", arg);
			exit(EXIT_OWN_FAILURE);
		}
		return 0;
	case 'q':
		log_set_level(LOG_ERROR);
		return 0;
	case 'v':
		log_set_level(++verbosity > 1 ? LOG_DEBUG : LOG_INFO);
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected argument '%s'", arg);
		return EINVAL;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
	.options = options,
	.parser = parse_opt,
	.doc = "Carry out the system calls of programs that `darkshadow run`"
	       " launched, as far as the policy allows.\v"
	       "Without a policy nothing is allowed. Runs until SIGTERM or"
	       " SIGINT.\n\nExample:\n"
	       "  darkshadow host -t loopback:/run/user/1000/ds.sock"
	       " -a path:/mnt/host=/srv/data:ro",
};

static int find_vm(struct serve *conf)
{
	char err[VM_ERR_MAX];
	int rc = conf->vm_spec ? serve_find_vm(conf, err) : 0;

	if (!rc)
		return 0;
	if (conf->wait) {
		log_warn("--vm %s: %s; waiting for it", conf->vm_spec, err);
		return 0;
	}
	log_err("--vm %s: %s", conf->vm_spec, err);
	return rc;
}

static const char *remedy(int err)
{
	switch (err) {
	case -EADDRINUSE:
		return ": a daemon serves there already";
	case -EEXIST:
		return ": the file holds something else: remove it, or name"
		       " another one";
	case -ENOSPC:
		return ": the file is too small: give it 1 MiB or more";
	}
	return "";
}

static int host_listen(const struct host_options *o, struct serve *conf,
		       const struct transport_ops *ops, const char *args)
{
	const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };
	struct listener l;
	bool told = false;
	int err;

	for (;;) {
		err = listener_open(&l, ops, args,
				    conf->vm ? conf->vm->ram.fd : -1,
				    o->window);
		if (err != -EINPROGRESS)
			break;
		if (!told)
			log_warn("waiting for the shadows of an earlier daemon"
				 " to end ...");
		told = true;
		nanosleep(&pause, NULL);
	}
	if (err) {
		log_err("--transport %s: %s%s", o->transport, strerror(-err),
			remedy(err));
		return err;
	}
	if (o->policy.n == 0)
		log_warn("no policy given: every rule will be refused (add"
			 " --policy FILE or --allow RULE)");
	log_info("serving at %s", args);
	conf->listener = &l;
	err = serve_run(conf, NULL);
	conf->listener = NULL;
	listener_fini(&l);
	if (err)
		log_err("host: %s", strerror(-err));
	return err;
}

static int host_serve(const struct host_options *o, struct serve *conf)
{
	const struct transport_ops *ops;
	const char *args = NULL;

	if (!o->transport) {
		log_err("host: say where runs reach this daemon:"
			" --transport NAME:ARGS with NAME one of: %s",
			transport_names());
		return EXIT_OWN_FAILURE;
	}
	ops = transport_find(o->transport, &args);
	if (!ops || !args || !*args) {
		log_err("--transport %s: expected NAME:ARGS with NAME one of:"
			" %s (as in loopback:/run/ds.sock)", o->transport,
			transport_names());
		return EXIT_OWN_FAILURE;
	}
	return host_listen(o, conf, ops, args) ? EXIT_OWN_FAILURE : 0;
}

int host_serve_one(const struct rules *policy, int sock)
{
	struct serve conf = { .policy = policy, .place.fd = -1 };
	struct transport t;
	int err;

	/* Nobody's terminal signals are for the shadows. */
	setsid();
	transport_adopt(&t, sock);
	err = serve_run(&conf, &t);
	if (err)
		log_err("host: %s", strerror(-err));
	return err;
}

int host_main(int argc, char **argv)
{
	struct host_options o = { .way = &window_overlay };
	struct serve conf = { .policy = &o.policy, .place.fd = -1 };
	int status = EXIT_OWN_FAILURE;

	argp_err_exit_status = EXIT_OWN_FAILURE;
	argp_parse(&argp, argc, argv, 0, NULL, &o);
	conf.vm_spec = o.vm;
	conf.wait = o.wait;
	if (windows_new(o.way, &conf.windows) < 0)
		log_err("host: out of memory");
	else if (find_vm(&conf) == 0)
		status = host_serve(&o, &conf);
	windows_free(conf.windows);
	vm_free(conf.vm);
	rules_fini(&o.policy);
	return status;
}
