/* SPDX-License-Identifier: MIT */
/* report.c - `darkshadow study report`: what a study has found */
#include "tool/report.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/exit.h"
#include "base/fd.h"
#include "base/log.h"
#include "tool/figures.h"
#include "tool/plots.h"
#include "tool/summary.h"
#include "tool/webpage.h"

static int print(const struct figures *f, bool json)
{
	int rc = 0;

	if (json)
		rc = summary_json(f, stdout);
	else
		summary_print(f, stdout);
	if (fflush(stdout) || ferror(stdout))
		rc = -EIO;
	if (rc)
		log_err("cannot write the summary: %s", strerror(-rc));
	return rc;
}

/* Without plots there is still a page; where nothing can be written, it says
 * so. */
static bool draw(const struct figures *f, int dirfd, const char *dir)
{
	int rc = plots_draw(f, dirfd);

	if (rc == -ENOENT)
		log_warn("no plots: there is no gnuplot; install it (Debian"
			 " package gnuplot-nox) and ask for the report again");
	else if (rc == -ECHILD)
		log_warn("no plots: gnuplot failed; try: cd %s && gnuplot "
			 PLOTS_SCRIPT, dir);
	return rc == 0;
}

static int show(const struct figures *f, const char *dir)
{
	int dirfd cleanup_fd = -1, rc;
	bool drawn;

	if (mkdir(dir, 0777) != 0 && errno != EEXIST) {
		log_err("cannot make the directory %s: %s", dir,
			strerror(errno));
		return -errno;
	}
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	drawn = dirfd >= 0 && draw(f, dirfd, dir);
	rc = dirfd < 0 ? -errno : webpage_write(f, dirfd, drawn);
	if (rc)
		log_err("cannot write %s/" WEBPAGE_NAME ": %s; give a directory"
			" where you may write as --out", dir, strerror(-rc));
	return rc;
}

static int report_figures(const struct report_options *o,
			  const struct figures *f)
{
	const char *dir = o->out ? o->out : o->dir;

	if (f->torn)
		log_warn("the last row is torn, or is being written: it is"
			 " left out");
	if (f->ratio.n == 0) {
		log_err("the study in %s has no page table with a page: let"
			" `darkshadow study --once --out %s` take a sample",
			o->dir, o->dir);
		return EXIT_OWN_FAILURE;
	}
	if (print(f, o->json))
		return EXIT_OWN_FAILURE;
	if (o->json && !o->out)
		return 0;
	if (show(f, dir))
		return EXIT_OWN_FAILURE;
	if (!o->json)
		printf("\nplots and page: %s/" WEBPAGE_NAME "\n", dir);
	return 0;
}

int report(const struct report_options *o)
{
	char err[STUDY_ERR_MAX];
	struct figures f;
	int status;

	if (figures_read(&f, o->dir, err) != 0) {
		log_err("%s", err);
		return EXIT_OWN_FAILURE;
	}
	status = report_figures(o, &f);
	figures_fini(&f);
	return status;
}
