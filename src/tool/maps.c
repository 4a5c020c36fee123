/* SPDX-License-Identifier: MIT */
/*
 * maps.c - `darkshadow maps`: an address space as a shadow would have it
 *
 * What is counted is what `run` would map, by the same code
 * (process/extents.h), from the page table as it is: nothing is made present,
 * and nothing is changed, unless it is a command of our own that is at its end
 * anyway.
 */
#include "tool/maps.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/exit.h"
#include "base/fd.h"
#include "base/log.h"
#include "process/pagemap.h"
#include "tool/collapse.h"
#include "tool/follow.h"
#include "tool/mapsview.h"

enum { OPT_COLLAPSE = 256, OPT_PROC };

struct maps_options {
	bool json, summary, collapse;
	const char *output;	/* or NULL */
	const char *proc;	/* a directory like /proc */
	pid_t pid;		/* or 0, and: */
	char **command;
};

static const struct argp_option options[] = {
	{ "collapse", OPT_COLLAPSE, NULL, 0,
	  "Of a COMMAND, at its end: make huge pages of its memory, and count"
	  " again", 0 },
	{ "json", 'j', NULL, 0, "Print JSON", 0 },
	{ "output", 'o', "FILE", 0,
	  "Write to FILE (default: standard output, with a COMMAND standard"
	  " error)", 0 },
	{ "proc", OPT_PROC, "DIR", 0,
	  "Read DIR/PID instead of /proc/PID: data that was recorded there",
	  0 },
	{ "summary", 's', NULL, 0, "Print the totals only", 0 },
	{ 0 },
};

static pid_t parse_pid(const char *text)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	return errno || *end || end == text || n <= 0 || n > INT_MAX ? 0 :
								       (pid_t)n;
}

/* What stands behind "--" is a command, though it may be a number. */
static error_t parse_arg(struct maps_options *o, char *arg,
			 struct argp_state *state)
{
	if (state->quoted && state->next > state->quoted) {
		if (o->pid)
			argp_error(state, "a PID and a COMMAND: give one of"
				   " them");
		o->command = state->argv + state->next - 1;
		state->next = state->argc;
		return 0;
	}
	if (o->pid)
		argp_error(state, "unexpected argument '%s'", arg);
	o->pid = parse_pid(arg);
	if (!o->pid)
		argp_error(state, "'%s' is no process id; for a command put --"
			   " before it", arg);
	return 0;
}

static void check(const struct maps_options *o, struct argp_state *state)
{
	if (!o->pid && !o->command)
		argp_error(state, "no PID and no -- COMMAND given");
	else if (o->collapse && !o->command)
		argp_error(state, "--collapse changes a process's memory: it"
			   " is for a COMMAND that maps launches");
	else if (o->command && strcmp(o->proc, "/proc") != 0)
		argp_error(state, "--proc is for a PID that was recorded");
}

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct maps_options *o = state->input;

	switch (key) {
	case 'j':
		o->json = true;
		return 0;
	case 's':
		o->summary = true;
		return 0;
	case 'o':
		o->output = arg;
		return 0;
	case OPT_COLLAPSE:
		o->collapse = true;
		return 0;
	case OPT_PROC:
		o->proc = arg;
		return 0;
	case ARGP_KEY_ARG:
		return parse_arg(o, arg, state);
	case ARGP_KEY_END:
		check(o, state);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
	.options = options,
	.parser = parse_opt,
	.args_doc = "PID\n-- COMMAND [ARG...]",
	.doc = "Show the address space of a process as extents, which are what"
	       " a shadow maps: what is mapped and present, in how many pieces,"
	       " and how many mmap()s a shadow needs. A COMMAND is launched, and"
	       " looked at when it ends, and whenever SIGUSR1 is sent to"
	       " darkshadow.\v"
	       "Page frames, and so extents, are shown to root (CAP_SYS_ADMIN)"
	       " only.\n\nThe exit status is that of the COMMAND; 0 for a PID;"
	       " 125 if darkshadow failed.\n\n"
	       "Examples:\n  darkshadow maps 1234\n"
	       "  darkshadow maps --summary --collapse -- gcc -c file.c",
};

/* --- one report ---------------------------------------------------------- */

struct reporter {
	const struct maps_options *o;
	struct pagemap *pm;	/* owned */
	struct view view;
	int err;		/* of a report that could not be made */
};

/* Its name, or "" */
static void read_name(int dir, char name[64])
{
	int fd cleanup_fd = openat(dir, "comm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, name, 63);

	name[n > 0 ? n : 0] = '\0';
	name[strcspn(name, "\n")] = '\0';
}

static int add_extent(void *ctx, const struct page_extent *e)
{
	estimate_add(ctx, e);
	return 0;
}

static int add_region(struct reporter *r, const struct map_line *line,
		      struct view_totals *t)
{
	struct page_counts counts;
	struct estimate m;
	int err;

	estimate_begin(&m, line);
	err = pagemap_walk(r->pm, line, add_extent, &m, &counts);
	if (err)
		return err;
	view_region(&r->view, line, &counts, pagemap_knows_zero(r->pm),
		    pagemap_knows_huge(r->pm, &counts));
	page_counts_add(&t->pages, &counts);
	t->regions++;
	t->estimate += m.extents;
	return 0;
}

static int add_regions(struct reporter *r, int dir, struct view_totals *t)
{
	struct maps_reader lines;
	struct map_line line;
	int got, err = maps_open(&lines, dir);

	if (err)
		return err;
	while (!err && (got = maps_next(&lines, &line)) > 0)
		err = add_region(r, &line, t);
	maps_close(&lines);
	t->knows_zero = pagemap_knows_zero(r->pm);
	t->knows_huge = pagemap_knows_huge(r->pm, &t->pages);
	return err ? err : got;
}

/* The message says itself what could not be done; the report stands. */
static void collapse_and_count(struct reporter *r, int dir,
			       struct view_totals *t)
{
	struct pagemap_totals after = { .vsz = 0 };
	int err = collapse(r->pm, t->pid, dir, &t->blocks);

	if (!err)
		err = pagemap_total(r->pm, dir, &after);
	if (!err) {
		t->collapsed = true;
		t->after = after.pages;
	} else if (err == -EPERM) {
		log_err("--collapse: this user may not advise the kernel about"
			" memory of others: run as root, or `setcap"
			" cap_sys_nice,cap_sys_admin,cap_sys_ptrace+ep` this"
			" program");
	} else if (err == -EINVAL) {
		log_err("--collapse: this kernel makes no huge pages on demand:"
			" Linux 6.1 or later is needed (MADV_COLLAPSE)");
	} else if (err == -ENODATA) {
		log_err("--collapse: page frames are hidden from this user");
	} else if (err == -ESRCH) {
		log_err("--collapse: the first thread of process %d has ended"
			" before the others, and its memory is out of reach",
			t->pid);
	} else {
		log_err("--collapse: process %d: %s", t->pid, strerror(-err));
	}
}

static int show(struct reporter *r, pid_t pid, int dir, const char *when,
		bool at_end)
{
	char name[64];
	struct view_totals t = { .pid = pid, .name = name, .when = when };
	int err = pagemap_sizes(dir, &t.vsz, &t.rss);

	if (!err)
		err = t.vsz ? pagemap_open(r->pm, dir) : -ENXIO;
	if (err)
		return err;
	read_name(dir, name);
	view_begin(&r->view, pid, name, when);
	err = add_regions(r, dir, &t);
	if (err) {
		view_drop(&r->view);
		return err;
	}
	if (at_end && r->o->collapse)
		collapse_and_count(r, dir, &t);
	view_end(&r->view, &t);
	if (t.pages.hidden)
		log_warn("page frames are hidden from this user, so extents are"
			 " not known: run as root, or `setcap cap_sys_admin,"
			 "cap_sys_ptrace+ep` this program");
	return 0;
}

static void explain(const struct maps_options *o, pid_t pid, int err)
{
	switch (err) {
	case -ENOENT:
	case -ESRCH:
	case -EIO:
		log_err("%s/%d: there is no such process%s", o->proc, pid,
			err == -ENOENT ? "" : " any more");
		break;
	case -ENXIO:
		log_err("process %d has no memory: it is a kernel thread, or"
			" has ended and is waited for", pid);
		break;
	case -EACCES:
	case -EPERM:
		log_err("process %d may not be looked into: it is another"
			" user's, or has privileges that this program lacks;"
			" run as root (CAP_SYS_PTRACE)", pid);
		break;
	default:
		log_err("process %d cannot be looked at: %s", pid,
			strerror(-err));
	}
}

/* tid: as follow_fn has it. */
static int report(struct reporter *r, pid_t pid, pid_t tid, const char *when,
		  bool at_end)
{
	char path[PATH_MAX];
	int dir cleanup_fd = -1;
	int err;

	snprintf(path, sizeof(path), "%s/%d", r->o->proc, tid);
	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	err = dir < 0 ? -errno : show(r, pid, dir, when, at_end);
	if (err)
		explain(r->o, pid, err);
	return err;
}

/* --- both ways ----------------------------------------------------------- */

static void at_event(void *ctx, pid_t pid, pid_t tid, enum follow_when when)
{
	struct reporter *r = ctx;
	const bool ending = when == FOLLOW_ENDING;
	int err = report(r, pid, tid, ending ? "at its end" : "running",
			 ending);

	if (err)
		r->err = err;
}

static int follow_command(struct reporter *r)
{
	const char *what;
	int status = follow(r->o->command, at_event, r, &what);

	if (status < 0) {
		log_err("%s: %s", what, strerror(-status));
		return EXIT_OWN_FAILURE;
	}
	return r->err && !status ? EXIT_OWN_FAILURE : status;
}

static FILE *open_output(const struct maps_options *o)
{
	FILE *f;

	if (!o->output)
		return o->command ? stderr : stdout;
	f = fopen(o->output, "we");
	if (!f)
		log_err("%s: cannot be written: %s", o->output,
			strerror(errno));
	return f;
}

static int look(const struct maps_options *o, FILE *out)
{
	struct reporter r = { .o = o };
	int status;

	if (pagemap_new(&r.pm) < 0) {
		log_err("no memory");
		return EXIT_OWN_FAILURE;
	}
	view_init(&r.view, out, o->json, o->summary);
	if (o->command)
		status = follow_command(&r);
	else
		status = report(&r, o->pid, o->pid, "", false) ?
			 EXIT_OWN_FAILURE : 0;
	pagemap_free(r.pm);
	return status;
}

int maps_main(int argc, char **argv)
{
	struct maps_options o = { .proc = "/proc" };
	int status;
	FILE *out;

	argp_err_exit_status = EXIT_OWN_FAILURE;
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &o);
	out = open_output(&o);
	if (!out)
		return EXIT_OWN_FAILURE;
	status = look(&o, out);
	if (fflush(out) || ferror(out) || (o.output && fclose(out))) {
		log_err("%s: cannot be written: %s", o.output ? o.output :
			"the report", strerror(errno));
		return EXIT_OWN_FAILURE;
	}
	return status;
}
