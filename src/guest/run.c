/* SPDX-License-Identifier: MIT */
/* run.c - `darkshadow run`: command line, the sibling host, exit status */
#include "guest/run.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/spin.h"
#include "guest/launch.h"
#include "guest/source.h"
#include "guest/tracer.h"
#include "wire/device.h"
#include "wire/rules.h"
#include "wire/transport.h"

/*
 * A target's thread looks so long for the answer before it sleeps. Longer than
 * it takes to wake an executor, or both would be asleep whenever one is.
 */
#define SPIN_US 200

struct run_options {
	struct rules forward;
	struct rules policy;
	bool have_policy;
	const char *transport;
	const char *trace;
	bool stats;
	double timeout_s;
	uint64_t eager;		/* bytes */
	uint64_t huge;		/* bytes; 0: never */
	bool verify;
	bool no_pins;
	bool no_patch;
	enum pin_kind pins;
	uint64_t max_regions;
	int verbosity;
	sibling_fn sibling;
	char **command;
};

enum { OPT_TRACE = 256, OPT_TIMEOUT, OPT_EAGER, OPT_HUGE,
       OPT_VERIFY, OPT_PINS,
       OPT_NO_PINS, OPT_MAX_REGIONS, OPT_NO_PATCH };

static const struct argp_option options[] = {
	{ "forward", 'f', "RULE", 0,
	  "Forward what RULE names (repeatable); without it: all that the"
	  " policy allows", 0 },
	{ "policy", 'p', "FILE", 0,
	  "Policy of the sibling host, see darkshadow-policy(5); without it:"
	  " exactly the --forward rules", 0 },
	{ "transport", 't', "NAME[:ARGS]", 0,
	  "How to reach the host side: auto (default), loopback (a sibling on"
	  " this machine), loopback:SOCKET (a daemon started by hand);"
	  " in a virtual machine shm[:FILE], hypercall[:DEVICE]", 0 },
	{ "eager", OPT_EAGER, "SIZE", 0,
	  "In a VM: mappings up to SIZE (4M) are made present and shadowed at"
	  " once, larger ones as calls need them; with suffix K, M or G", 0 },
	{ "max-regions", OPT_MAX_REGIONS, "N", 0,
	  "In a VM: a shadow maps no more than N (60000) regions of memory; of"
	  " large mappings, what was not needed for longest is dropped", 0 },
	{ "huge", OPT_HUGE, "SIZE", 0,
	  "In a VM: ask for huge pages where SIZE (2M) or more is made present"
	  " at once; 0: never", 0 },
	{ "verify", OPT_VERIFY, NULL, 0,
	  "In a VM: compare what shadows map with the page table at every"
	  " call, and count what is stale (with --stats: shown)", 0 },
	{ "pins", OPT_PINS, "KIND", 0,
	  "In a VM: keep memory where it is by io_uring or by xdp (AF_XDP"
	  " sockets); default: what the guest's kernel allows", 0 },
	{ "debug-no-pins", OPT_NO_PINS, NULL, OPTION_HIDDEN,
	  "In a VM: do not keep memory where it is. Corrupts the memory of the"
	  " VM; for tests of --verify", 0 },
	{ "no-patch", OPT_NO_PATCH, NULL, 0,
	  "Leave the command's code as it is: every call of interest stops it",
	  0 },
	{ "stats", 's', NULL, 0, "Print counters at exit", 0 },
	{ "trace", OPT_TRACE, "FILE", 0,
	  "Write one line a forwarded call; - is standard error", 0 },
	{ "timeout", OPT_TIMEOUT, "SECONDS", 0,
	  "How long to wait for the daemon (default 5)", 0 },
	{ "quiet", 'q', NULL, 0, "Say nothing but errors", 0 },
	{ "verbose", 'v', NULL, 0, "Say more; twice: everything", 0 },
	{ 0 },
};

static void add_rule(struct rules *rules, const char *text)
{
	char err[RULES_ERR_MAX];

	if (rules_add(rules, text, err) < 0) {
		log_err("%s", err);
		exit(EXIT_OWN_FAILURE);
	}
}

int run_parse_command(int key, struct argp_state *state, char ***command)
{
	switch (key) {
	case ARGP_KEY_ARG:
		*command = state->argv + state->next - 1;
		state->next = state->argc;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "no COMMAND given");
		return EINVAL;
	}
	return ARGP_ERR_UNKNOWN;
}

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct run_options *o = state->input;
	char err[RULES_ERR_MAX], *end;

	switch (key) {
	case 'f':
		add_rule(&o->forward, arg);
		return 0;
	case 'p':
		if (rules_load(&o->policy, arg, err) < 0) {
			log_err("%s", err);
			exit(EXIT_OWN_FAILURE);
		}
		o->have_policy = true;
		return 0;
	case 't':
		o->transport = arg;
		return 0;
	case 's':
		o->stats = true;
		return 0;
	case OPT_TRACE:
		o->trace = arg;
		return 0;
	case OPT_TIMEOUT:
		o->timeout_s = strtod(arg, &end);
		if (end == arg || *end || o->timeout_s < 0)
			argp_error(state, "--timeout %s: expected seconds",
				   arg);
		return 0;
	case OPT_EAGER:
		if (!num_parse_size(arg, &o->eager))
			argp_error(state, "--eager %s: expected a size, as in"
				   " 64K, 4M or 1G", arg);
		return 0;
	case OPT_VERIFY:
		o->verify = true;
		return 0;
	case OPT_MAX_REGIONS:
		if (!num_parse_size(arg, &o->max_regions) ||
		    !o->max_regions)
			argp_error(state, "--max-regions %s: expected a number",
				   arg);
		return 0;
	case OPT_PINS:
		if (strcmp(arg, "io_uring") == 0)
			o->pins = PIN_IO_URING;
		else if (strcmp(arg, "xdp") == 0)
			o->pins = PIN_XDP;
		else
			argp_error(state, "--pins %s: expected io_uring or xdp",
				   arg);
		return 0;
	case OPT_NO_PINS:
		o->no_pins = true;
		return 0;
	case OPT_NO_PATCH:
		o->no_patch = true;
		return 0;
	case OPT_HUGE:
		if (!num_parse_size(arg, &o->huge))
			argp_error(state, "--huge %s: expected a size, as in"
				   " 2M, or 0", arg);
		return 0;
	case 'q':
		log_set_level(LOG_ERROR);
		return 0;
	case 'v':
		log_set_level(++o->verbosity > 1 ? LOG_DEBUG : LOG_INFO);
		return 0;
	}
	return run_parse_command(key, state, &o->command);
}

static const struct argp argp = {
	.options = options,
	.parser = parse_opt,
	.args_doc = "[--] COMMAND [ARG...]",
	.doc = "Launch COMMAND; what the rules name is carried out by its"
	       " shadow on the host.\v"
	       "Rules: path:GUEST=HOST[:ro|:rw], path:GUEST, dev:GUEST[=HOST],"
	       " net, eventfd, fuse, all.\n\nExample:\n"
	       "  darkshadow run -f path:/mnt/host=/srv/data:ro --"
	       " grep -r needle /mnt/host\n\n"
	       "The exit status is COMMAND's; 128+n when signal n ended it, 125"
	       " when darkshadow failed, 126 and 127 when COMMAND could not be"
	       " executed or found.",
};

/* --- reaching the host side ---------------------------------------------- */

static _Noreturn void be_sibling(const struct run_options *o, int sock)
{
	const struct rules *policy = o->have_policy ? &o->policy : &o->forward;

	/* It outlives nothing of ours, and reads none of it. */
	close(STDIN_FILENO);
	open("/dev/null", O_RDONLY);
	dup2(STDERR_FILENO, STDOUT_FILENO);
	prctl(PR_SET_NAME, "darkshadow-host");
	_exit(o->sibling(policy, sock) ? EXIT_OWN_FAILURE : 0);
}

static int start_sibling(const struct run_options *o, struct client *c,
			 pid_t *pid)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	*pid = fork();
	if (*pid < 0)
		return -errno;
	if (*pid == 0) {
		close(pair[0]);
		be_sibling(o, pair[1]);
	}
	close(pair[1]);
	transport_adopt(&c->t, pair[0]);
	return 0;
}

static const char *remedy(int err)
{
	switch (err) {
	case -EACCES:
	case -EPERM:
		return ": it belongs to another user";
	case -EBUSY:
		return ": the daemon serves as many runs as it can";
	case -ENODEV:
		return ": this machine has no such device; see `man"
		       " darkshadow-run` for what the VM needs";
	case -EPROTO:
		return ": the daemon is of another version: use the same"
		       " darkshadow on both sides";
	case -EAGAIN:
		return ": no daemon serves there: start `darkshadow host` on"
		       " the host";
	}
	return ": start it with `darkshadow host --transport NAME:ARGS"
	       " --policy FILE`";
}

static int connect_daemon(const struct run_options *o, struct client *c)
{
	const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };
	const double until = now_seconds() + o->timeout_s;
	const struct transport_ops *ops;
	const char *args;
	bool told = false;
	int err;

	ops = transport_find(o->transport, &args);
	if (!ops) {
		log_err("--transport %s: no such transport; expected auto or"
			" NAME[:ARGS] with NAME one of: %s", o->transport,
			transport_names());
		return -EINVAL;
	}
	for (;;) {
		err = transport_connect(&c->t, ops, args);
		if (!transport_retry(err) || now_seconds() >= until)
			break;
		if (!told)
			log_warn("waiting for the host side at %s ...",
				 args ? args : o->transport);
		told = true;
		nanosleep(&pause, NULL);
	}
	if (err)
		log_err("the host side at %s: %s%s", o->transport,
			err == -EAGAIN ? "not there" : strerror(-err),
			remedy(err));
	return err;
}

/*
 * auto: a daemon that serves by a device of this machine, if there is one.
 * One that may be about to start is not waited for: nobody said that it will.
 */
static int find_daemon(struct client *c)
{
	const struct transport_ops *ops;
	struct device dev;
	const char *args;
	int err;

	device_find(DEVICE_PCI, DEVICE_MMAPPER, DEVICE_NONE, &dev);
	if (dev.kind == DEVICE_NONE)
		return -ENODEV;
	ops = transport_find(dev.kind == DEVICE_DOORBELL ? "hypercall" : "shm",
			     &args);
	err = transport_connect(&c->t, ops, dev.path);
	if (err)
		log_warn("no daemon serves at %s: the sibling host is this"
			 " machine itself (to wait for a daemon: --transport"
			 " %s)", dev.path, ops->name);
	else
		log_info("%s at %s: a daemon is there", ops->name, dev.path);
	return err;
}

static int start_own(const struct run_options *o, struct client *c,
		     pid_t *sibling)
{
	int err = start_sibling(o, c, sibling);

	if (err)
		log_err("starting the sibling host: %s", strerror(-err));
	return err;
}

static int refused(const struct client *c, int err)
{
	log_err("the host side refused: %s", c->text[0] ? c->text :
		strerror(-err));
	return err;
}

static int reach_host(const struct run_options *o, struct tracer *tr,
		      pid_t *sibling)
{
	int err;

	/* A policy is for a sibling, and so asks for one. */
	if (strcmp(o->transport, "loopback") == 0 ||
	    (strcmp(o->transport, "auto") == 0 &&
	     (o->have_policy || find_daemon(&tr->client) < 0))) {
		err = start_own(o, &tr->client, sibling);
	} else if (strcmp(o->transport, "auto") == 0) {
		err = 0;
	} else if (o->have_policy) {
		log_err("--policy is for the sibling that run starts; give it"
			" to `darkshadow host` instead");
		return -EINVAL;
	} else {
		err = connect_daemon(o, &tr->client);
	}
	if (err)
		return err;
	if (!tr->client.t.carries_fds) {
		const char *what;

		err = launch_vm_memory(tr, o->pins, &what);
		if (err) {
			log_err("%s: %s", what, strerror(-err));
			return err;
		}
		err = client_hello(&tr->client, -1, 0, &tr->rules);
	} else {
		err = client_hello(&tr->client, tr->memory.arena.fd,
				   tr->memory.arena.size, &tr->rules);
	}
	if (!err)
		err = client_start(&tr->client);
	return err ? refused(&tr->client, err) : 0;
}

/* --- the end ------------------------------------------------------------- */

static void print_stats(const struct tracer *tr, double seconds)
{
	const struct stats *s = &tr->stats;
	uint64_t sites = 0;
	FILE *f = stderr;

	for (int i = 0; i < SITE_VERDICTS; i++)
		sites += s->sites[i];
	fprintf(f, "darkshadow: run time: %.3f s, %.3f s of it in forwarded"
		" calls\n", seconds, s->forwarded_time);
	fprintf(f, "darkshadow: calls: %lu forwarded, %lu looked at and local,"
		" %lu injected, %lu cancelled\n", s->forwarded, s->local,
		s->native, s->cancelled);
	fprintf(f, "darkshadow: fast: %lu sites passed, %lu sites patched, %lu"
		" calls forwarded, %lu of them interrupted\n", s->passed,
		s->patches, s->fast, s->adopted);
	fprintf(f, "darkshadow: targets: %lu processes, %lu threads; %lu"
		" shadows, %lu executors\n", s->processes, s->threads,
		s->shadows, s->executors);
	fprintf(f, "darkshadow: memory: %lu map updates, %lu extents, %lu"
		" bytes mapped\n", s->map_requests, s->extents,
		s->bytes_mapped);
	if (s->evicted)
		fprintf(f, "darkshadow: budget: %lu regions dropped\n",
			s->evicted);
	if (tr->verify)
		fprintf(f, "darkshadow: verify: %lu pages compared, %lu"
			" stale\n", s->verified, s->stale);
	fprintf(f, "darkshadow: control stream: %lu bytes sent, %lu bytes"
		" received\n", tr->client.t.bytes_sent,
		tr->client.t.bytes_received);
	fprintf(f, "darkshadow: sites: %lu decoded", sites);
	for (int i = 0; i < SITE_VERDICTS; i++)
		if (s->sites[i])
			fprintf(f, ", %lu %s", s->sites[i],
				sites_verdict_name((enum site_verdict)i));
	fprintf(f, "\ndarkshadow: idioms:");
	for (int i = 0; i < SITE_IDIOMS; i++)
		fprintf(f, "%s %lu %s", i ? "," : "", s->idioms[i],
			sites_idiom_name((enum site_idiom)i));
	fprintf(f, "\n");
}

static int exit_status(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) :
				     WEXITSTATUS(status);
}

static int open_trace(struct tracer *tr, const char *name)
{
	if (!name)
		return 0;
	tr->trace = strcmp(name, "-") == 0 ? stderr : fopen(name, "we");
	if (tr->trace)
		return 0;
	log_err("--trace %s: %s", name, strerror(errno));
	return -errno;
}

static int copy_rules(struct rules *to, const struct rules *from)
{
	char text[MSG_RULE_MAX], err[RULES_ERR_MAX];

	for (size_t i = 0; i < from->n; i++) {
		rules_format(&from->v[i], text, sizeof(text));
		if (rules_add(to, text, err) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* As many descriptors as we may have: every mapped file is one. */
static void raise_limits(void)
{
	struct rlimit lim;

	getrlimit(RLIMIT_NOFILE, &lim);
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
}

static void finish(struct run_options *o, struct tracer *tr, pid_t sibling)
{
	size_t pos = 0;
	void *note;

	client_settle(&tr->client);
	/* What holds the frames of our targets outlives us, if it has to. */
	tr->client.t.keep = tr->client.unsure || tr->tasks.n > 0;
	watch_free(tr->watch);
	if (tr->trace && tr->trace != stderr)
		fclose(tr->trace);
	if (tr->client.t.keep && tracer_in_vm(tr)) {
		transport_fini(&tr->client.t);
		return;
	}
	transport_fini(&tr->client.t);
	if (sibling > 0)
		waitpid(sibling, NULL, 0);
	fuse_fini(tr);
	sites_free(tr->site_decoder);
	launch_fini(tr);
	close_fd(&tr->sock);
	close_fd(&tr->sock_there);
	idmap_fini(&tr->tasks);
	idmap_fini(&tr->early);
	while ((note = idmap_next(&tr->sites, &pos)))
		free(note);
	idmap_fini(&tr->sites);
	free(tr->stops);
	free(tr->told_mapping);
	rules_fini(&tr->rules);
	rules_fini(&o->forward);
	rules_fini(&o->policy);
}

/* What has to be there before a command can be: 0 or -errno, and it is said. */
static int prepare(const struct run_options *o, struct tracer *tr,
		   pid_t *sibling)
{
	int err = copy_rules(&tr->rules, o->forward.n ? &o->forward :
							&o->policy);

	if (!err)
		err = open_trace(tr, o->trace);
	if (err)
		return err;
	/* Orphans stay our descendants: we may go on looking into them. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	err = launch_memory(tr);
	if (err)
		log_err("guest memory (memfd): %s%s", strerror(-err),
			err == -EFBIG ? ": its file is sparse, but larger than"
			" `ulimit -f` allows: `ulimit -f unlimited`" : "");
	else
		err = reach_host(o, tr, sibling);
	if (err)
		return err;
	tr->all = rules_has(&tr->rules, RULE_ALL);
	if (tr->rules.n == 0 && !tr->sniffer)
		log_warn("no --forward rule and no policy: nothing will be"
			 " forwarded");
	if (sites_new(&tr->site_decoder) < 0)
		tr->site_decoder = NULL;
	return 0;
}

static int run_command(const struct run_options *o, struct tracer *tr)
{
	const double began = now_seconds();
	const char *what;
	int err;

	cpu_set_t cpus;

	tr->ncpus = sched_getaffinity(0, sizeof(cpus), &cpus) < 0 ? 1 :
		    CPU_COUNT(&cpus);
	/* Before the command begins: then it shares a core with us. */
	tr->spin = spin_looks(SPIN_US, tracer_in_vm(tr));
	err = launch(tr, o->command, &what);
	if (err) {
		log_err("%s: %s", what, strerror(-err));
		return EXIT_OWN_FAILURE;
	}
	raise_limits();
	err = tracer_run(tr);
	if (err)
		log_err("tracing: %s", strerror(-err));
	if (tr->client.refused)
		err = refused(&tr->client, tr->client.refused);
	else if (o->stats)
		print_stats(tr, now_seconds() - began);
	return err ? EXIT_OWN_FAILURE : exit_status(tr->main_status);
}

static int run_with(struct run_options *o, struct sniffer *sniffer)
{
	struct tracer tr = { .source = &arena_source, .sniffer = sniffer,
			     .hidden = -HIDDEN_FDS, .sock = -1, .sock_there = -1,
			     .memory.arena.fd = -1 };
	int status = EXIT_OWN_FAILURE;
	pid_t sibling = 0;

	tr.want_stats = o->stats;
	tr.eager = o->eager;
	tr.huge = o->huge;
	tr.verify = o->verify;
	tr.no_pins = o->no_pins;
	tr.patching = !o->no_patch;
	tr.generation = 1;
	stub_rules_init(&tr.stub_rules);
	tr.max_regions = o->max_regions;
	if (prepare(o, &tr, &sibling) == 0)
		status = run_command(o, &tr);
	finish(o, &tr, sibling);
	return status;
}

int run_main(int argc, char **argv, sibling_fn sibling_main)
{
	struct run_options o = { .transport = "auto", .timeout_s = 5,
				 .eager = 4 << 20, .huge = 2 << 20,
				 .max_regions = 60000,
				 .sibling = sibling_main };

	argp_err_exit_status = EXIT_OWN_FAILURE;
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &o);
	return run_with(&o, NULL);
}

int run_sniffed(char **command, struct sniffer *s, sibling_fn sibling_main)
{
	struct run_options o = { .transport = "loopback", .command = command,
				 .no_patch = true, .sibling = sibling_main };

	return run_with(&o, s);
}
