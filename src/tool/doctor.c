/* SPDX-License-Identifier: MIT */
/*
 * doctor.c - `darkshadow doctor`: what is missing here, and what to type
 *
 * Theory of operation. A use is a side at a transport: there are six, a bit
 * each. Every check says in the one table which uses need it, and the words of
 * the user say which uses are asked about. What is asked works if none of its
 * checks fails.
 *
 * A laptop is no VM and has none, and nothing is wrong with that. So without
 * the name of a transport a machine is asked about what it can be: some checks
 * decide about that, they come first, and fail for nobody. What is left is
 * loopback; a VM that has our device is there for its guest side instead.
 */
#include "tool/doctor.h"

#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/log.h"
#include "base/num.h"
#include "tool/probes.h"

#define EXIT_NOT_READY	1
#define PROBE_MS	1000
#define ALL_MS		2800

/* Sides and transports are sets; a use is one of each. */
enum { RUN = 1, HOST = 2, BOTH = RUN | HOST };
enum { LOOPBACK = 1, SHM = 2, HYPERCALL = 4, VM = SHM | HYPERCALL,
       ANY = LOOPBACK | VM };
#define TRANSPORTS	3

static const char *const side_names[] = { "run", "host" };
static const char *const transport_names[] = { "loopback", "shm",
					       "hypercall" };

static unsigned int uses_of(unsigned int sides, unsigned int transports)
{
	return (sides & RUN ? transports : 0) |
	       (sides & HOST ? transports << TRANSPORTS : 0);
}

static const struct check {
	const char *name;
	unsigned int sides, transports;
	const char *needs;		/* "needed by ..." */
	probe_fn *probe;
	bool decides;			/* whether there is such a use here */
} checks[] = {
	{ "proc", BOTH, ANY, "everything", probe_proc, false },
	{ "ptrace", BOTH, ANY, "run to trace commands, and host to trace"
	  " shadows", probe_ptrace, false },
	{ "seccomp", BOTH, ANY, "run to stop at calls, and host to confine"
	  " shadows", probe_seccomp, false },
	{ "pidfd", BOTH, ANY, "both sides to copy descriptors", probe_pidfd,
	  false },
	{ "process-vm", RUN, ANY, "run to read what calls point to",
	  probe_process_vm, false },
	{ "memfd", RUN, ANY, "run for the memory of gates, slots and loopback",
	  probe_arena, false },
	{ "exec-memory", BOTH, ANY, "run to map the gate, and host to execute"
	  " the capsule", probe_exec, false },
	{ "gate", RUN, ANY, "run to put its code into commands", probe_gate,
	  false },
	{ "sockets", BOTH, ANY, "run and host to hand descriptors over",
	  probe_sockets, false },
	{ "descriptors", HOST, ANY, "host for the descriptors of shadows",
	  probe_descriptors, false },
	{ "close-range", HOST, ANY, "host for the descriptors of shadows",
	  probe_close_range, false },
	{ "syscall-info", HOST, ANY, "host to see which call a shadow is in",
	  probe_syscall_info, false },
	{ "capsule", HOST, ANY, "host to place the capsule in shadows",
	  probe_capsule, false },
	{ "mappings", HOST, ANY, "host for shadows of large programs",
	  probe_map_count, false },
	{ "listener", HOST, ANY, "host to hear of what shadows may not do",
	  probe_notify, false },
	{ "namespaces", HOST, ANY, "host for the sandbox of shadows",
	  probe_namespaces, false },
	{ "root", HOST, ANY, "host for the sandbox of shadows", probe_root,
	  false },
	{ "landlock", HOST, ANY, "host for read-only devices", probe_landlock,
	  false },
	{ "cpus", HOST, ANY, "shadows to be quick", probe_cpus, false },
	{ "loopback", HOST, LOOPBACK, "loopback as a whole",
	  probe_whole, false },
	{ "device", RUN, SHM, "run to reach the host", probe_device, true },
	{ "doorbell", RUN, HYPERCALL, "run to reach the host", probe_doorbell,
	  true },
	{ "capabilities", RUN, VM, "run to know and to hold its frames",
	  probe_caps_vm, false },
	{ "pagemap", RUN, VM, "run to know the frames of memory",
	  probe_pagemap, false },
	{ "populate", RUN, VM, "run to make memory present", probe_populate,
	  false },
	{ "pins", RUN, VM, "run to keep memory where it is", probe_pins,
	  false },
	{ "pipes", RUN, VM, "run to keep pages of files where they are",
	  probe_pipe, false },
	{ "huge-pages", RUN, VM, "run to have few extents", probe_huge,
	  false },
	{ "vms", HOST, VM, "host to share a VM's memory", probe_vms, true },
	{ "vm-shm", HOST, SHM, "host to reach a VM", probe_vm_shm, true },
	{ "vm-doorbell", HOST, HYPERCALL, "host to reach a VM",
	  probe_vm_doorbell, true },
	{ "window", HOST, VM, "host to put memory of devices into a VM",
	  probe_window, false },
	{ "kvm", HOST, VM, "VMs to be quick", probe_kvm, false },
};

#define NCHECKS ARRAY_SIZE(checks)

/* What is said of in the end: some uses of one transport. */
static const struct role {
	const char *name;
	const char *by;			/* a transport, or NULL: no choice */
	unsigned int group;		/* one of a group will do */
	unsigned int sides, transports;
} roles[] = {
	{ "loopback", NULL, 0, BOTH, LOOPBACK },
	{ "guest side in a VM", "shm", 1, RUN, SHM },
	{ "guest side in a VM", "hypercall", 1, RUN, HYPERCALL },
	{ "host side of VMs", "shm", 2, HOST, SHM },
	{ "host side of VMs", "hypercall", 2, HOST, HYPERCALL },
};

#define NROLES	ARRAY_SIZE(roles)
#define GROUPS	3

struct doctor {
	unsigned int sides, transports;	/* by the user; 0: not named */
	bool json;
	unsigned int candidates;	/* uses that may be meant */
	unsigned int asked;		/* uses that are */
	struct finding found[NCHECKS];
	bool looked[NCHECKS];		/* else: not of interest */
	uint64_t until_ms;
};

/* --- the command line ----------------------------------------------------- */

static const struct argp_option options[] = {
	{ "json", 'j', NULL, 0, "Print JSON", 0 },
	{ 0 },
};

static bool add_word(const char *word, const char *const *names, size_t n,
		     unsigned int *set)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(word, names[i]) == 0) {
			*set |= 1U << i;
			return true;
		}
	return false;
}

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct doctor *d = state->input;

	switch (key) {
	case 'j':
		d->json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (!add_word(arg, side_names, ARRAY_SIZE(side_names),
			      &d->sides) &&
		    !add_word(arg, transport_names,
			      ARRAY_SIZE(transport_names), &d->transports))
			argp_error(state, "'%s': expected run, host, loopback,"
				   " shm or hypercall", arg);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
	.options = options,
	.parser = parse_opt,
	.args_doc = "[run|host|loopback|shm|hypercall]...",
	.doc = "Try out what darkshadow needs of this machine, and say what to"
	       " type where something is missing.\v"
	       "Words select sides (run, host) and transports (loopback, shm,"
	       " hypercall). Without them it is what this machine can be.\n\n"
	       "The exit status is 0 if what was asked about works, 1 if it"
	       " does not.\n\n"
	       "Example:\n  darkshadow doctor run shm",
};

/* --- finding out ---------------------------------------------------------- */

static unsigned int check_uses(const struct check *c)
{
	return uses_of(c->sides, c->transports);
}

static unsigned int role_uses(const struct role *r)
{
	return uses_of(r->sides, r->transports);
}

static void look(struct doctor *d, size_t i)
{
	const uint64_t now = now_ms();
	const uint64_t left = d->until_ms > now ? d->until_ms - now : 1;

	probe_run(checks[i].probe, (unsigned int)min_u64(left, PROBE_MS),
		  &d->found[i]);
	d->looked[i] = true;
}

/* The uses that this machine has, if the user did not say which are meant. */
static unsigned int uses_here(const struct doctor *d)
{
	const unsigned int guest = uses_of(RUN, VM);
	unsigned int here = d->candidates;

	for (size_t i = 0; i < NCHECKS; i++)
		if (d->looked[i] && d->found[i].verdict == FAIL)
			here &= ~check_uses(&checks[i]);
	return here & guest ? here & ~uses_of(BOTH, LOOPBACK) : here;
}

static void look_at_all(struct doctor *d)
{
	d->candidates = uses_of(d->sides ? d->sides : BOTH,
				d->transports ? d->transports : ANY);
	d->until_ms = now_ms() + ALL_MS;
	for (size_t i = 0; i < NCHECKS; i++)
		if (checks[i].decides && check_uses(&checks[i]) & d->candidates)
			look(d, i);
	d->asked = d->transports ? d->candidates : uses_here(d);
	for (size_t i = 0; i < NCHECKS; i++)
		if (!checks[i].decides && check_uses(&checks[i]) & d->asked)
			look(d, i);
}

/* --- verdicts ------------------------------------------------------------- */

/* The first check of some uses that fails, or NCHECKS. */
static size_t first_failure(const struct doctor *d, unsigned int uses)
{
	size_t i;

	for (i = 0; i < NCHECKS; i++)
		if (d->looked[i] && check_uses(&checks[i]) & uses &&
		    d->found[i].verdict == FAIL)
			break;
	return i;
}

static bool is_asked(const struct doctor *d, const struct role *r)
{
	return role_uses(r) & d->asked;
}

static size_t role_failure(const struct doctor *d, const struct role *r)
{
	return first_failure(d, role_uses(r) & d->candidates);
}

static bool is_ready(const struct doctor *d, const struct role *r)
{
	return is_asked(d, r) && role_failure(d, r) == NCHECKS;
}

/*
 * Of a transport that was named, one side has to work, of a side in a VM one
 * transport: nothing is both, and few have two.
 */
static bool all_works(const struct doctor *d)
{
	unsigned int asked = 0, works = 0;

	for (size_t i = 0; i < NROLES; i++) {
		const struct role *r = &roles[i];
		const unsigned int what = d->transports ? r->transports :
							  1U << r->group;

		if (is_asked(d, r))
			asked |= what;
		if (is_ready(d, r))
			works |= what;
	}
	return works == asked && asked;
}

/* A check of what nobody asked about is none that fails. */
static enum verdict verdict_of(const struct doctor *d, size_t i)
{
	if (!(check_uses(&checks[i]) & d->asked))
		return SKIP;
	return d->found[i].verdict;
}

static const char *verdict_name(enum verdict v)
{
	static const char *const names[] = { "pass", "warn", "fail", "skip" };

	return names[v];
}

/* What was asked about, in a word. */
static const char *asked_name(const struct doctor *d)
{
	return d->asked & uses_of(BOTH, LOOPBACK) ? "loopback" :
	       "the guest side";
}

/* --- for people ----------------------------------------------------------- */

static bool has_colours(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && !(no && *no) && term &&
	       strcmp(term, "dumb") != 0;
}

static void print_verdict(enum verdict v, bool colours)
{
	static const char *const codes[] = { "32", "33", "31", "2" };

	if (colours)
		printf("\033[%sm%s\033[m", codes[v], verdict_name(v));
	else
		printf("%s", verdict_name(v));
}

static void print_check(const struct doctor *d, size_t i, bool colours)
{
	const enum verdict v = verdict_of(d, i);
	const struct finding *f = &d->found[i];

	print_verdict(v, colours);
	printf("  %-13s", checks[i].name);
	if (!d->looked[i])
		printf("not needed for %s, but by %s\n", asked_name(d),
		       checks[i].needs);
	else if (v == SKIP && f->verdict == FAIL)
		printf("%s: not needed for %s\n", f->text, asked_name(d));
	else if (v == FAIL)
		printf("%s (needed by %s)\n", f->text, checks[i].needs);
	else
		printf("%s\n", f->text);
	if (*f->remedy && v != SKIP)
		printf("      %-13s%s\n", "remedy:", f->remedy);
}

/* The next role of which all is the same, for another transport, or NULL. */
static const struct role *twin(const struct doctor *d, size_t i)
{
	const struct role *a = &roles[i], *b = i + 1 < NROLES ? a + 1 : NULL;

	size_t x = role_failure(d, a), y;

	if (!b || a->group != b->group || is_asked(d, a) != is_asked(d, b))
		return NULL;
	if (!(role_uses(a) & d->candidates) || !(role_uses(b) & d->candidates))
		return NULL;
	y = role_failure(d, b);
	if (x != y && (x == NCHECKS || y == NCHECKS ||
		       strcmp(d->found[x].text, d->found[y].text) != 0))
		return NULL;
	return b;
}

static bool is_said(const struct doctor *d, const struct role *r, bool ready)
{
	if (!(role_uses(r) & d->candidates))
		return false;
	return ready ? is_ready(d, r) : role_failure(d, r) < NCHECKS;
}

/* That it is no VM says it all; that something is refused does not. */
static void print_why(const struct doctor *d, size_t i)
{
	printf(" (%s%s%s)", checks[i].decides ? "" : checks[i].name,
	       checks[i].decides ? "" : ": ", d->found[i].text);
}

static void print_roles(const struct doctor *d, bool ready)
{
	const char *before = ready ? "ready: " : "not ready: ";

	for (size_t i = 0; i < NROLES; i++) {
		const struct role *r = &roles[i], *same = twin(d, i);

		if (!is_said(d, r, ready))
			continue;
		printf("%s%s", before, r->name);
		if (same)
			i++;
		else if (r->by)
			printf(" by %s", r->by);
		if (same && ready)
			printf(" by %s and %s", r->by, same->by);
		if (!ready)
			print_why(d, role_failure(d, r));
		before = ", ";
	}
	if (*before == ',')
		putchar('\n');
}

static void print_table(const struct doctor *d)
{
	const bool colours = has_colours();

	for (size_t i = 0; i < NCHECKS; i++)
		if (check_uses(&checks[i]) & d->candidates)
			print_check(d, i, colours);
	putchar('\n');
	print_roles(d, true);
	print_roles(d, false);
}

/* --- for programs --------------------------------------------------------- */

static json_t *json_set(unsigned int set, const char *const *names, size_t n)
{
	json_t *all = json_array();

	for (size_t i = 0; i < n; i++)
		if (set & 1U << i)
			json_array_append_new(all, json_string(names[i]));
	return all;
}

static json_t *json_text(const char *text)
{
	return *text ? json_string(text) : json_null();
}

static json_t *json_check(const struct doctor *d, size_t i)
{
	const struct check *c = &checks[i];

	return json_pack("{s:s, s:s, s:o, s:o, s:s, s:o, s:o}",
			 "name", c->name,
			 "verdict", verdict_name(verdict_of(d, i)),
			 "sides", json_set(c->sides, side_names,
					   ARRAY_SIZE(side_names)),
			 "transports", json_set(c->transports, transport_names,
						ARRAY_SIZE(transport_names)),
			 "needed_by", c->needs,
			 "found", json_text(d->found[i].text),
			 "remedy", json_text(d->found[i].remedy));
}

static json_t *json_role(const struct doctor *d, const struct role *r)
{
	const size_t i = role_failure(d, r);

	return json_pack("{s:s, s:s, s:b, s:b, s:o, s:o}", "role", r->name,
			 "transport", r->by ? r->by : r->name,
			 "asked", is_asked(d, r), "ready", is_ready(d, r),
			 "check", i < NCHECKS ? json_string(checks[i].name) :
						json_null(),
			 "why", i < NCHECKS ? json_string(d->found[i].text) :
					      json_null());
}

static void print_json(const struct doctor *d)
{
	json_t *all = json_array(), *uses = json_array(), *o;

	for (size_t i = 0; i < NROLES; i++)
		if (role_uses(&roles[i]) & d->candidates)
			json_array_append_new(uses, json_role(d, &roles[i]));
	for (size_t i = 0; i < NCHECKS; i++)
		if (check_uses(&checks[i]) & d->candidates)
			json_array_append_new(all, json_check(d, i));
	o = json_pack("{s:b, s:o, s:o}", "works", all_works(d), "roles", uses,
		      "checks", all);
	json_dumpf(o, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(o);
}

int doctor_main(int argc, char **argv)
{
	struct doctor *d = calloc(1, sizeof(*d));
	int status;

	if (!d) {
		log_err("doctor: out of memory");
		return EXIT_OWN_FAILURE;
	}
	argp_err_exit_status = EXIT_OWN_FAILURE;
	argp_parse(&argp, argc, argv, 0, NULL, d);
	look_at_all(d);
	if (d->json)
		print_json(d);
	else
		print_table(d);
	status = all_works(d) ? 0 : EXIT_NOT_READY;
	free(d);
	if (fflush(stdout) || ferror(stdout)) {
		log_err("cannot write: %s", strerror(errno));
		return EXIT_OWN_FAILURE;
	}
	return status;
}
