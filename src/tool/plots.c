/* SPDX-License-Identifier: MIT */
/*
 * plots.c - the plots of a study
 *
 * They are those of the original one: how many mmap()s a page table takes, how
 * far page tables can be compressed, and whether that depends on their size.
 * The script stays beside them, for whoever wants them to look different. It
 * is run from the descriptor by which it was written, so that nobody who can
 * write into the directory makes gnuplot run anything else.
 */
#include "tool/plots.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/exit.h"
#include "base/fd.h"
#include "base/num.h"

const struct plot plots[PLOTS] = {
	{ "extents", "mmap()s per page table",
	  "The share of page tables that take at most so many mmap()s. Dotted:"
	  " 1000, 10000, and 65530, which is all that a process may have." },
	{ "ratio", "Compression ratio",
	  "The share of page tables, bars, whose pages are so many times their"
	  " mmap()s; the line adds them up." },
	{ "size-ratio", "Size against compression ratio",
	  "How many page tables have so many pages and such a ratio. The slope"
	  " above, where there is one, is that of one mmap() for everything." },
};

/* A curve has no more points than one can see. */
#define CURVE_STEP	0.001

static void write_curve(FILE *f, const char *name, const struct histogram *h)
{
	double value, share, told = -1, octave = -1;
	uint64_t count, seen = 0;
	size_t pos = 0;

	fprintf(f, "$%s << END\n", name);
	while (histogram_next(h, &pos, &value, &count)) {
		seen += count;
		share = (double)seen / (double)h->n;
		if (share - told < CURVE_STEP && seen < h->n &&
		    log2(value) - octave < 1)
			continue;
		fprintf(f, "%.6g %.6f\n", fmax(value, 1), share);
		told = share;
		octave = log2(fmax(value, 1));
	}
	fputs("END\n", f);
}

static double step_end(size_t step)
{
	return exp2((double)step / DENSITY_PER_OCTAVE);
}

/* from, to, share */
static void write_bars(FILE *f, const struct figures *fig)
{
	fputs("$bars << END\n", f);
	for (size_t y = 0; y < DENSITY_SIZE; y++) {
		uint64_t n = 0;

		for (size_t x = 0; x < DENSITY_SIZE; x++)
			n += *figures_density(fig, x, y);
		if (n)
			fprintf(f, "%.6g %.6g %.6f\n", step_end(y),
				step_end(y + 1),
				(double)n / (double)fig->ratio.n);
	}
	fputs("END\n", f);
}

/* from, to; from, to; how many */
static void write_cells(FILE *f, const struct figures *fig)
{
	fputs("$cells << END\n", f);
	for (size_t x = 0; x < DENSITY_SIZE; x++)
		for (size_t y = 0; y < DENSITY_SIZE; y++)
			if (*figures_density(fig, x, y))
				fprintf(f, "%.6g %.6g %.6g %.6g %" PRIu64 "\n",
					step_end(x), step_end(x + 1),
					step_end(y), step_end(y + 1),
					*figures_density(fig, x, y));
	fputs("END\n", f);
}

static double fullest_cell(const struct figures *fig)
{
	uint64_t most = 0;

	for (size_t i = 0; i < DENSITY_SIZE * DENSITY_SIZE; i++)
		most = max_u64(most, fig->density[i]);
	return (double)most;
}

/* Axes end where nothing is any more, and have some length in any case. */
static void write_ends(FILE *f, const struct figures *fig)
{
	fprintf(f, "extents_end = %.0f\npages_end = %.0f\nratio_end = %.3f\n"
		"cell_end = %.0f\n", fmax(100000, fig->extents.max * 1.5),
		fmax(10, fig->pages.max * 1.5), fmax(2, fig->ratio.max * 1.5),
		fmax(2, fullest_cell(fig)));
}

static const char common[] =
	"set encoding utf8\n"
	"set grid back lc rgb '#e0e0e0' lt 1\n"
	"set border 3 lc rgb '#606060'\n"
	"set tics nomirror\n"
	"set logscale x\n"
	"set format x '10^{%T}'\n"
	"set style fill solid noborder\n"
	"unset key\n";

static const char *const commands[PLOTS] = {
	"set xlabel 'mmap()s per page table (extents)'\n"
	"set ylabel 'share of page tables'\n"
	"set xrange [1:extents_end]\n"
	"set yrange [0:1]\n"
	"do for [x in '1000 10000 65530'] {\n"
	"	set arrow from x + 0, 0 to x + 0, 1 nohead dt 3"
	" lc rgb '#b03030'\n"
	"}\n"
	"plot $extents using 1:2 with steps lw 2 lc rgb '#1f5fa8'\n"
	"unset arrow\n",

	"set xlabel 'pages per mmap()'\n"
	"set ylabel 'share of page tables'\n"
	"set y2label 'share up to here'\n"
	"set xrange [1:ratio_end]\n"
	"set yrange [0:*]\n"
	"set y2range [0:1]\n"
	"set y2tics\n"
	"set border 11\n"
	"plot $bars using (sqrt($1*$2)):3:1:2:(0):3 with boxxyerror"
	" lc rgb '#9dbfe0', $ratio using 1:2 axes x1y2 with steps lw 2"
	" lc rgb '#1f5fa8'\n"
	"unset y2label\n"
	"unset y2tics\n"
	"set border 3\n",

	"set xlabel 'pages present'\n"
	"set ylabel 'pages per mmap()'\n"
	"set cblabel 'page tables'\n"
	"set xrange [1:pages_end]\n"
	"set logscale y\n"
	"set yrange [1:ratio_end]\n"
	"set logscale cb\n"
	"set cbrange [1:cell_end]\n"
	"set palette defined (0 '#c3d9ee', 1 '#08306b')\n"
	"plot $cells using (sqrt($1*$2)):(sqrt($3*$4)):1:2:3:4:5"
	" with boxxyerror fc palette\n"
	"unset logscale y\n",
};

static void write_plots(FILE *f, const char *suffix)
{
	for (size_t i = 0; i < PLOTS; i++)
		fprintf(f, "set output '%s.%s'\nset title '%s' noenhanced\n%s",
			plots[i].name, suffix, plots[i].title, commands[i]);
}

static void write_script(FILE *f, const struct figures *fig)
{
	fprintf(f, "# %s: what draws the plots: gnuplot %s\n", PLOTS_SCRIPT,
		PLOTS_SCRIPT);
	write_ends(f, fig);
	write_curve(f, "extents", &fig->extents);
	write_curve(f, "ratio", &fig->ratio);
	write_bars(f, fig);
	write_cells(f, fig);
	fputs(common, f);
	fputs("set terminal svg size 800,480 dynamic font 'sans-serif,13'"
	      " background '#ffffff'\n", f);
	write_plots(f, "svg");
	fputs("set terminal pngcairo size 1200,720 font 'sans,16'\n", f);
	write_plots(f, "png");
	/* Only now the last of the files is whole. */
	fputs("set output\n", f);
}

/* --- gnuplot ------------------------------------------------------------- */

static int exit_as(int error)
{
	return error == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_EXEC;
}

/* Without the user's own settings, which may say anything. */
static int run_gnuplot(int script, int dirfd)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		if (fchdir(dirfd) != 0 || dup2(script, STDIN_FILENO) < 0)
			_exit(exit_as(errno));
		execlp("gnuplot", "gnuplot", "-d", "-", (char *)NULL);
		_exit(exit_as(errno));
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NOT_FOUND)
		return -ENOENT;
	return status ? -ECHILD : 0;
}

static void remove_old(int dirfd)
{
	static const char *const suffixes[] = { "svg", "png" };
	char name[64];

	for (size_t i = 0; i < PLOTS; i++)
		for (size_t k = 0; k < ARRAY_SIZE(suffixes); k++) {
			snprintf(name, sizeof(name), "%s.%s", plots[i].name,
				 suffixes[k]);
			unlinkat(dirfd, name, 0);
		}
}

int plots_draw(const struct figures *f, int dirfd)
{
	FILE *script = fd_stream(fd_create_at(dirfd, PLOTS_SCRIPT), "w");
	int rc;

	if (!script)
		return -errno;
	write_script(script, f);
	rc = fflush(script) != 0 || ferror(script) ? -EIO : 0;
	if (rc == 0 && lseek(fileno(script), 0, SEEK_SET) != 0)
		rc = -errno;
	if (rc == 0) {
		remove_old(dirfd);
		rc = run_gnuplot(fileno(script), dirfd);
	}
	fclose(script);
	return rc;
}
