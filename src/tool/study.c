/* SPDX-License-Identifier: MIT */
/*
 * study.c - `darkshadow study`: page tables of all processes, over days
 *
 * A study may be killed at any time and is gone on with where it was: the
 * samples that are in the file count, and the next one is due an interval
 * after the last of them. A sample that is late is taken at once, and those
 * that would have been due meanwhile are not taken.
 */
#include "tool/study.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/log.h"
#include "base/num.h"
#include "process/pagemap.h"
#include "tool/progress.h"
#include "tool/report.h"
#include "tool/sampler.h"
#include "tool/studyfile.h"

#define INTERVAL_MAX	(366 * 24 * 60 * 60)

struct options {
	uint64_t interval_s;
	uint64_t count;		/* of samples, in all; 0: no end */
	bool once;
	bool names;
	bool sampling;		/* an option was given that is of no use to a
				 * report */
	bool reporting;
	struct report_options report;	/* its out is ours, too */
};

enum { OPT_ONCE = 256, OPT_NAMES };

static const struct argp_option options[] = {
	{ "out", 'o', "DIR", 0, "Where the study is, or goes; of a report:"
	  " where plots and page go, if not to where the study is", 0 },
	{ "interval", 'i', "TIME", 0, "Take a sample every TIME (default:"
	  " 15m), in s, m, h or d", 0 },
	{ "count", 'c', "N", 0, "End when the study has N samples", 0 },
	{ "once", OPT_ONCE, NULL, 0, "Take one more sample, at once", 0 },
	{ "names", OPT_NAMES, NULL, 0, "Write names of processes, and not"
	  " hashes of them", 0 },
	{ "json", 'j', NULL, 0, "Print the report as JSON; plots and page only"
	  " if there is an --out", 0 },
	{ 0 },
};

static bool parse_count(const char *text, uint64_t *out)
{
	return !text[strspn(text, "0123456789")] &&
	       num_parse_size(text, out) && *out > 0;
}

static void parse_word(struct options *o, char *arg, struct argp_state *state)
{
	if (state->arg_num == 0 && strcmp(arg, "report") == 0)
		o->reporting = true;
	else if (state->arg_num == 1 && o->reporting)
		o->report.dir = arg;
	else
		argp_error(state, "unexpected argument '%s' (expected nothing,"
			   " or: report DIR)", arg);
}

static void check(const struct options *o, struct argp_state *state)
{
	if (o->reporting && !o->report.dir)
		argp_error(state, "no directory (expected: report DIR)");
	if (o->reporting && o->sampling)
		argp_error(state, "--interval, --count, --once and --names are"
			   " for taking samples, not for a report");
	if (!o->reporting && o->report.json)
		argp_error(state, "--json is for a report (expected: report"
			   " DIR --json)");
	if (!o->reporting && !o->report.out)
		argp_error(state, "no directory for the study: give --out DIR");
	if (o->once && o->count)
		argp_error(state, "--once and --count are one too many");
}

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'o':
		o->report.out = arg;
		return 0;
	case 'i':
		if (!num_parse_duration(arg, &o->interval_s) ||
		    o->interval_s < 1 || o->interval_s > INTERVAL_MAX)
			argp_error(state, "%s: no interval (expected 1s to"
				   " 366d: 90s, 15m, 1h)", arg);
		o->sampling = true;
		return 0;
	case 'c':
		if (!parse_count(arg, &o->count))
			argp_error(state, "%s: no number of samples (expected"
				   " 1 or more)", arg);
		o->sampling = true;
		return 0;
	case OPT_ONCE:
		o->once = o->sampling = true;
		return 0;
	case OPT_NAMES:
		o->names = o->sampling = true;
		return 0;
	case 'j':
		o->report.json = true;
		return 0;
	case ARGP_KEY_ARG:
		parse_word(o, arg, state);
		return 0;
	case ARGP_KEY_END:
		check(o, state);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
	.options = options,
	.parser = parse_opt,
	.args_doc = "\nreport DIR",
	.doc = "Sample the page tables of all processes, as root, into the"
	       " directory --out; or report what a study has found: figures,"
	       " plots and a page that shows them.\v"
	       "A study that was ended goes on with the same command.\n\n"
	       "Examples:\n"
	       "  darkshadow study --out /var/tmp/study --count 96\n"
	       "  darkshadow study report /var/tmp/study",
};

/* --- schedule ------------------------------------------------------------ */

/* Of a clock that goes on while the machine is suspended. */
static int64_t boot_ns(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

static void wait_until(int64_t due_ns, const struct progress *p)
{
	int64_t left;

	while ((left = due_ns - boot_ns()) > 0) {
		progress_wait(p, (left + NS_PER_S - 1) / NS_PER_S);
		clock_sleep(CLOCK_BOOTTIME, p->shown && left > NS_PER_S ?
			    NS_PER_S : left);
	}
}

/* How long after the last sample of an earlier run the next one is due. */
static int64_t first_due(const struct options *o, const struct study_writer *w)
{
	int64_t since = (int64_t)time(NULL) - w->last;

	if (o->once || w->last == 0 || since < 0 ||
	    since >= (int64_t)o->interval_s)
		return boot_ns();
	return boot_ns() + ((int64_t)o->interval_s - since) * NS_PER_S;
}

static int64_t next_due(const struct options *o, int64_t due_ns)
{
	int64_t interval_ns = (int64_t)o->interval_s * NS_PER_S;
	int64_t late = boot_ns() - due_ns;

	return due_ns + interval_ns *
	       (late < interval_ns ? 1 : late / interval_ns + 1);
}

static void tell_refused(const struct progress *p, uint64_t refused)
{
	progress_end(p);
	log_warn("processes that are not ours to look into, and have no row: %"
		 PRIu64 " (CAP_SYS_PTRACE is missing, or something protects"
		 " them)", refused);
}

static int take_all(const struct options *o, struct study_writer *w)
{
	struct progress progress = { .shown = isatty(STDERR_FILENO),
				     .samples = o->once ? w->samples + 1 :
					     o->count };
	struct sampler sampler = {
		.file = w, .spread_s = o->once ? 0 : o->interval_s / 2,
		.progress = &progress,
	};
	uint64_t refused, told = 0;
	int64_t due = first_due(o, w);
	int rc = 0;

	for (progress.sample = w->samples + 1;
	     !progress.samples || progress.sample <= progress.samples;
	     progress.sample++) {
		wait_until(due, &progress);
		rc = sampler_take(&sampler, &refused);
		if (rc)
			break;
		if (refused > told)
			tell_refused(&progress, refused);
		told = max_u64(told, refused);
		due = next_due(o, due);
	}
	progress_end(&progress);
	return rc;
}

static void tell_blind(int rc)
{
	if (rc == -EPERM)
		log_err("page tables cannot be read: the kernel tells page"
			" frames to root alone; run it as root, or with"
			" CAP_SYS_ADMIN and CAP_SYS_PTRACE");
	else
		log_err("page tables cannot be read: /proc/self/pagemap: %s;"
			" the kernel needs CONFIG_PROC_PAGE_MONITOR, and /proc"
			" has to be mounted", strerror(-rc));
}

static int study(const struct options *o)
{
	struct study_writer w;
	char err[STUDY_ERR_MAX];
	int rc = pagemap_visible();

	if (rc) {
		tell_blind(rc);
		return EXIT_OWN_FAILURE;
	}
	if (study_writer_open(&w, o->report.out, o->names, err) != 0) {
		log_err("%s", err);
		return EXIT_OWN_FAILURE;
	}
	if (w.cut)
		log_warn("the last row in %s was torn: %" PRIu64 " bytes of it"
			 " are cut off", o->report.out, w.cut);
	rc = take_all(o, &w);
	if (rc)
		log_err("cannot go on with the study in %s: %s; make room, and"
			" give the same command again", o->report.out,
			strerror(-rc));
	study_writer_fini(&w);
	return rc ? EXIT_OWN_FAILURE : 0;
}

int study_main(int argc, char **argv)
{
	struct options o = { .interval_s = 15 * 60 };

	argp_err_exit_status = EXIT_OWN_FAILURE;
	argp_parse(&argp, argc, argv, 0, NULL, &o);
	return o.reporting ? report(&o.report) : study(&o);
}
