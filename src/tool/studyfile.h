/* SPDX-License-Identifier: MIT */
/*
 * studyfile.h - DIR/tables.csv: the rows of a study, one a page table
 *
 * Two lines head it. The first is a comment that says the version and what the
 * columns mean, the second names the columns, with their units. Then:
 *
 *   time_s,pid,comm_hash,pages,extents,ratio,vsz_kib,rss_kib,huge_pages
 *
 * A row is written whole, and is a row once its line has ended. What follows
 * the last end of a line was torn when its writer was killed.
 *
 * Who wrote a file is not known when it is read: every field is checked.
 */
#ifndef TOOL_STUDYFILE_H
#define TOOL_STUDYFILE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/siphash.h"

#define STUDY_COMM_MAX	64	/* 15 bytes, four for each, and the end */
#define STUDY_ERR_MAX	(PATH_MAX + 256)

struct study_row {
	int64_t time;		/* seconds since 1970 */
	pid_t pid;
	char comm[STUDY_COMM_MAX];	/* as it stands in the file: ASCII */
	uint64_t pages;		/* of 4 KiB, present */
	uint64_t extents;	/* of them; 0 if and only if pages is */
	uint64_t vsz_kib, rss_kib;
	uint64_t huge_pages;	/* those of pages that are in huge ones */
};

/* A file that is written. */
struct study_writer {
	int fd;			/* owned, locked */
	bool names;		/* comm is the name, and not a hash of it */
	struct siphash_key key;	/* of the hash */
	uint64_t samples;	/* that are in it already */
	int64_t last;		/* when the last of them began; 0: none */
	uint64_t cut;		/* bytes of a torn row, cut off */
};

/*
 * study_writer_open() - begin a study in a directory, or go on with one
 *
 * The directory is made if there is none. 0, or -errno and one sentence in
 * err: what was wanted, why not, and what to do.
 */
int study_writer_open(struct study_writer *w, const char *dir, bool names,
		      char err[STUDY_ERR_MAX]);
void study_writer_fini(struct study_writer *w);

/*
 * study_writer_put() - a row, with row->comm made of a process's name
 *
 * 0 or -errno; the row is in the file when this returns.
 */
int study_writer_put(struct study_writer *w, struct study_row *row,
		     const char *comm);

/* study_writer_sync() - a sample is complete: it is on disk (or -errno) */
int study_writer_sync(struct study_writer *w);

/* A file that is read. */
struct study_reader {
	FILE *f;		/* owned */
	bool names;
	uint64_t line;		/* of the row that was read last */
	off_t end;		/* where the last whole row ends */
	off_t limit;		/* what is there is taken to end here */
	bool torn;		/* it ended without an end of a line */
	char path[PATH_MAX];
};

/* study_reader_open() - 0, or -errno and a sentence in err */
int study_reader_open(struct study_reader *r, const char *dir,
		      char err[STUDY_ERR_MAX]);
void study_reader_fini(struct study_reader *r);

/*
 * study_reader_next() - 1: *row is the next one; 0: there is none; -EPROTO: the
 * line is none, and err says which line of which file, and what to do
 */
int study_reader_next(struct study_reader *r, struct study_row *row,
		      char err[STUDY_ERR_MAX]);

/*
 * study_reader_again() - from the first row on, up to where the last ended:
 * what was written since is not read
 */
void study_reader_again(struct study_reader *r);

#endif
