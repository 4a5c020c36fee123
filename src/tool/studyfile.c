/* SPDX-License-Identifier: MIT */
/*
 * studyfile.c - the rows of a study, written and read
 *
 * Theory of operation. A row is one write(2) at the end of the file, so
 * whoever is killed loses no row that he has written, and tears one at most.
 * To go on, the file is read as for a report, which counts the samples, and
 * cut where its last row ends. A lock keeps two from writing at once.
 *
 * Names of processes tell much about who runs what, and are what somebody
 * chose. So they are hashed unless asked for, by a key that stays in the
 * directory beside the file and need not be given away with it; and what could
 * end a field, drive a terminal or be a formula to a spreadsheet is escaped.
 */
#include "tool/studyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/num.h"

#define FILE_NAME	"tables.csv"
#define KEY_NAME	"key"
#define LINE_MAX_BYTES	512
#define NUMBER_MAX	(1ULL << 53)	/* a double has it, and so has JSON */
#define TIME_MAX	253402300799ULL	/* the end of the year 9999 */

#define MAGIC		"# darkshadow study "
#define VERSION		"1"
#define HEAD		MAGIC VERSION ": a row is a page table, at a time in" \
			" seconds since 1970; pages are of 4 KiB; extents are" \
			" the mmap()s that they take; ratio is pages/extents;" \
			" vsz and rss are in KiB; huge_pages are those of the" \
			" pages that are part of huge ones\n"
#define COLUMNS(comm)	"time_s,pid," comm ",pages,extents,ratio,vsz_kib," \
			"rss_kib,huge_pages\n"
#define HEAD_NAMES	HEAD COLUMNS("comm")
#define HEAD_HASHES	HEAD COLUMNS("comm_hash")

static int complain(char *err, int rc, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int complain(char *err, int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, STUDY_ERR_MAX, fmt, ap);
	va_end(ap);
	return rc;
}

/* --- reading ------------------------------------------------------------- */

static bool number(const char *text, uint64_t max, uint64_t *out)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return !errno && !*end && *out <= max;
}

static bool comm_ok(const char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			return false;
	return true;
}

/* The ratio is what the numbers beside it say; its field is for others. */
static bool ratio_ok(const char *text)
{
	return *text && !text[strspn(text, "0123456789.")];
}

static bool parse_row(char *line, struct study_row *row)
{
	char *field[9], *rest = line;
	uint64_t time, pid;
	size_t n = 0;

	while (rest && n < ARRAY_SIZE(field))
		field[n++] = strsep(&rest, ",");
	if (n < ARRAY_SIZE(field) || rest || !comm_ok(field[2]) ||
	    strlen(field[2]) >= sizeof(row->comm))
		return false;
	if (!number(field[0], TIME_MAX, &time) ||
	    !number(field[1], INT_MAX, &pid) ||
	    !number(field[3], NUMBER_MAX, &row->pages) ||
	    !number(field[4], NUMBER_MAX, &row->extents) ||
	    !ratio_ok(field[5]) ||
	    !number(field[6], NUMBER_MAX, &row->vsz_kib) ||
	    !number(field[7], NUMBER_MAX, &row->rss_kib) ||
	    !number(field[8], NUMBER_MAX, &row->huge_pages))
		return false;
	row->time = (int64_t)time;
	row->pid = (pid_t)pid;
	strcpy(row->comm, field[2]);
	return row->extents <= row->pages && row->huge_pages <= row->pages &&
	       (row->extents == 0) == (row->pages == 0);
}

/* A line with its end; false at the end of the file, or if there is none. */
static bool whole_line(struct study_reader *r, char line[LINE_MAX_BYTES],
		       bool *ended)
{
	size_t len;

	*ended = !fgets(line, LINE_MAX_BYTES, r->f);
	if (*ended)
		return false;
	len = strlen(line);
	if (len == 0 || line[len - 1] != '\n') {
		/* A torn one is not too long, and nothing comes behind it. */
		r->torn = len < LINE_MAX_BYTES - 1 && getc(r->f) == EOF;
		*ended = r->torn;
		return false;
	}
	r->line++;
	r->end += (off_t)len;
	return true;
}

static int read_head(struct study_reader *r, char err[STUDY_ERR_MAX])
{
	char line[LINE_MAX_BYTES];
	bool ended;

	if (!whole_line(r, line, &ended) ||
	    strncmp(line, MAGIC, strlen(MAGIC)) != 0)
		return complain(err, -EPROTO, "%s does not begin as a study"
				" does: name the directory that `darkshadow"
				" study --out` made", r->path);
	if (strcmp(line, HEAD) != 0)
		return complain(err, -EPROTO, "%s was written by another"
				" version of darkshadow (%.20s): use that one",
				r->path, line + 2);
	if (!whole_line(r, line, &ended))
		return complain(err, -EPROTO, "%s has no columns: it was torn"
				" at once; remove it", r->path);
	r->names = strcmp(line, COLUMNS("comm")) == 0;
	if (!r->names && strcmp(line, COLUMNS("comm_hash")) != 0)
		return complain(err, -EPROTO, "%s:2: other columns than this"
				" version of darkshadow writes: put them back",
				r->path);
	return 0;
}

/* No pipe or device, which might never end, or never begin. */
static FILE *open_regular(const char *path)
{
	int fd cleanup_fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0)
		return NULL;
	if (S_ISREG(st.st_mode))
		return fd_stream(steal_fd(&fd), "r");
	errno = EINVAL;
	return NULL;
}

int study_reader_open(struct study_reader *r, const char *dir,
		      char err[STUDY_ERR_MAX])
{
	int rc;

	*r = (struct study_reader){ .limit = INT64_MAX };
	if ((size_t)snprintf(r->path, sizeof(r->path), "%s/" FILE_NAME, dir) >=
	    sizeof(r->path))
		return complain(err, -ENAMETOOLONG, "the name of the directory"
				" is too long");
	r->f = open_regular(r->path);
	if (!r->f)
		return complain(err, -errno, "cannot read a study from %s: %s;"
				" `darkshadow study --out` makes one",
				r->path, strerror(errno));
	rc = read_head(r, err);
	if (rc)
		study_reader_fini(r);
	return rc;
}

void study_reader_fini(struct study_reader *r)
{
	if (r->f)
		fclose(r->f);
	r->f = NULL;
}

int study_reader_next(struct study_reader *r, struct study_row *row,
		      char err[STUDY_ERR_MAX])
{
	char line[LINE_MAX_BYTES];
	bool ended;

	if (r->end >= r->limit)
		return 0;
	if (whole_line(r, line, &ended)) {
		line[strlen(line) - 1] = '\0';
		if (parse_row(line, row))
			return 1;
		r->line--;
	} else if (ended) {
		return 0;
	}
	return complain(err, -EPROTO, "%s:%" PRIu64 ": this is no row of a"
			" study: remove the line", r->path, r->line + 1);
}

void study_reader_again(struct study_reader *r)
{
	char line[LINE_MAX_BYTES];
	bool ended;

	r->limit = r->end;
	r->end = 0;
	r->line = 0;
	r->torn = false;
	rewind(r->f);
	for (int i = 0; i < 2; i++)
		(void)whole_line(r, line, &ended);
}

/* --- beginning, and going on --------------------------------------------- */

static int make_key(struct study_writer *w, int dir)
{
	int fd cleanup_fd = openat(dir, KEY_NAME, O_WRONLY | O_CREAT | O_TRUNC |
				   O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	if (getrandom(&w->key, sizeof(w->key), 0) != sizeof(w->key))
		return -EIO;
	return fd_pwrite_all(fd, &w->key, sizeof(w->key), 0);
}

static int read_key(struct study_writer *w, int dir)
{
	int fd cleanup_fd = openat(dir, KEY_NAME, O_RDONLY | O_NOFOLLOW |
				   O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, &w->key, sizeof(w->key));
	return n == sizeof(w->key) ? 0 : n < 0 ? -errno : -EPROTO;
}

static int begin(struct study_writer *w, int dirfd, const char *dir,
		 char err[STUDY_ERR_MAX])
{
	const char *head = w->names ? HEAD_NAMES : HEAD_HASHES;
	int rc = w->names ? 0 : make_key(w, dirfd);

	if (rc == 0)
		rc = fd_pwrite_all(w->fd, head, strlen(head), 0);
	return rc ? complain(err, rc, "cannot begin a study in %s: %s; give"
			     " another --out", dir, strerror(-rc)) : 0;
}

static int go_on(struct study_writer *w, int dirfd, const char *dir,
		 off_t size, char err[STUDY_ERR_MAX])
{
	struct study_reader r;
	struct study_row row = { 0 };
	int rc = study_reader_open(&r, dir, err);

	if (rc)
		return rc;
	while ((rc = study_reader_next(&r, &row, err)) > 0) {
		w->samples += w->samples == 0 || row.time != w->last;
		w->last = row.time;
	}
	study_reader_fini(&r);
	if (rc)
		return rc;
	if (r.names != w->names)
		return complain(err, -EEXIST, r.names ?
				"the study in %s has names of processes: go on"
				" with --names, or give another --out" :
				"the study in %s has hashes of names: go on"
				" without --names, or give another --out", dir);
	rc = w->names ? 0 : read_key(w, dirfd);
	if (rc)
		return complain(err, rc, "cannot read %s/" KEY_NAME ", which"
				" has made the hashes of the study there (%s):"
				" put it back, or give another --out", dir,
				strerror(-rc));
	w->cut = (uint64_t)(size - r.end);
	if (w->cut && ftruncate(w->fd, r.end) != 0)
		return complain(err, -errno, "cannot cut off the torn row of"
				" %s: %s", r.path, strerror(errno));
	return 0;
}

/* Whoever was killed as he began has left a part of the head, or nothing. */
static bool has_begun(int fd, off_t size)
{
	static const char *const heads[] = { HEAD_NAMES, HEAD_HASHES };
	char buf[LINE_MAX_BYTES];

	for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
		if ((size_t)size < strlen(heads[i]) &&
		    pread(fd, buf, (size_t)size, 0) == size &&
		    memcmp(buf, heads[i], (size_t)size) == 0)
			return false;
	return true;
}

int study_writer_open(struct study_writer *w, const char *dir, bool names,
		      char err[STUDY_ERR_MAX])
{
	int dirfd cleanup_fd = -1, fd cleanup_fd = -1;
	struct stat st;
	int rc;

	*w = (struct study_writer){ .fd = -1, .names = names };
	if (mkdir(dir, 0777) != 0 && errno != EEXIST)
		return complain(err, -errno, "cannot make the directory %s: %s;"
				" give another --out", dir, strerror(errno));
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = dirfd < 0 ? -1 : openat(dirfd, FILE_NAME, O_RDWR | O_CREAT |
				     O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0)
		return complain(err, -errno, "%s is being written by another"
				" `darkshadow study`: end that one, or give"
				" another --out", dir);
	if (fd < 0 || fstat(fd, &st) != 0)
		return complain(err, -errno, "cannot write %s/" FILE_NAME
				": %s; give another --out", dir,
				strerror(errno));
	if (!S_ISREG(st.st_mode))
		return complain(err, -EINVAL, "%s/" FILE_NAME " is no file:"
				" give another --out", dir);
	w->fd = steal_fd(&fd);
	if (has_begun(w->fd, st.st_size))
		rc = go_on(w, dirfd, dir, st.st_size, err);
	else
		rc = ftruncate(w->fd, 0) == 0 ? begin(w, dirfd, dir, err) :
			complain(err, -errno, "cannot write %s/" FILE_NAME
				 ": %s", dir, strerror(errno));
	if (rc)
		study_writer_fini(w);
	return rc;
}

void study_writer_fini(struct study_writer *w)
{
	close_fd(&w->fd);
	explicit_bzero(&w->key, sizeof(w->key));
}

/* --- writing ------------------------------------------------------------- */

static bool stays(const char *text, const char *at)
{
	unsigned char c = (unsigned char)*at;

	return c >= ' ' && c <= '~' && !strchr(",\"\\", c) &&
	       !(at == text && strchr("=+-@", c));
}

static void escape(const char *text, char out[STUDY_COMM_MAX])
{
	size_t n = 0;

	for (const char *at = text; *at && n + 5 <= STUDY_COMM_MAX; at++) {
		if (stays(text, at))
			out[n++] = *at;
		else
			n += (size_t)sprintf(out + n, "\\x%02x",
					     (unsigned char)*at);
	}
	out[n] = '\0';
}

static int write_line(int fd, const char *line, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, line, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		line += n;
		len -= (size_t)n;
	}
	return 0;
}

int study_writer_put(struct study_writer *w, struct study_row *row,
		     const char *comm)
{
	double ratio = row->extents ? (double)row->pages /
				      (double)row->extents : 0;
	char line[LINE_MAX_BYTES];
	int len;

	if (w->names)
		escape(comm, row->comm);
	else
		snprintf(row->comm, sizeof(row->comm), "%016" PRIx64,
			 siphash(&w->key, comm, strlen(comm)));
	len = snprintf(line, sizeof(line), "%" PRId64 ",%d,%s,%" PRIu64 ",%"
		       PRIu64 ",%.3f,%" PRIu64 ",%" PRIu64 ",%" PRIu64 "\n",
		       row->time, row->pid, row->comm, row->pages,
		       row->extents, ratio, row->vsz_kib, row->rss_kib,
		       row->huge_pages);
	return write_line(w->fd, line, (size_t)len);
}

int study_writer_sync(struct study_writer *w)
{
	return fdatasync(w->fd) == 0 || errno == EINVAL ? 0 : -errno;
}
