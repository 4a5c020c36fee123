/* SPDX-License-Identifier: MIT */
/*
 * sampler.c - the page tables of all processes, at one time
 *
 * Theory of operation. Threads share a page table, so processes are gone
 * through, not threads. One that was cloned with CLONE_VM, or by vfork(2) and
 * has not called exec yet, shares that of its parent, which kcmp(2) tells for
 * little; it gets no row. (Whether some other process has the same memory is
 * not looked for: it takes a parent that has ended. A process whose first
 * thread has ended while others go on shows no memory.)
 *
 * A sample is of no value for being taken fast, and on a machine with work to
 * do there is somebody to disturb. So after each process we sleep thrice the
 * time that it took the processor, until the sample would become late.
 *
 * Processes end while they are looked at: whatever fails means that there is
 * no row. Only those that we may not look into are counted.
 */
#include "tool/sampler.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/num.h"
#include "process/pagemap.h"
#include "process/proc.h"

#define IDLE_FACTOR	3

struct sample {
	const struct sampler *s;
	struct pagemap *pm;	/* owned */
	int64_t time;
	uint64_t tables, refused;
	int64_t late_ns;	/* CLOCK_MONOTONIC: hurry from here on */
	int64_t used_ns;	/* CPU time that has been slept for */
};

static void pace(struct sample *sample)
{
	int64_t used = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	int64_t idle = (used - sample->used_ns) * IDLE_FACTOR;

	sample->used_ns = used;
	if (clock_ns(CLOCK_MONOTONIC) + idle < sample->late_ns)
		clock_sleep(CLOCK_MONOTONIC, idle);
}

static bool shares_memory(pid_t a, pid_t b)
{
	return b > 0 && syscall(SYS_kcmp, a, b, KCMP_VM, 0, 0) == 0;
}

/* 0; or -errno, and there is no row */
static int look(struct pagemap *pm, pid_t pid, struct study_row *row)
{
	struct pagemap_totals t;
	char path[64];
	int dir cleanup_fd = -1, rc;

	snprintf(path, sizeof(path), "/proc/%d", pid);
	dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	rc = pagemap_total(pm, dir, &t);
	if (rc || t.regions == 0)
		return rc ? rc : -ESRCH;
	/* What has no frame is no memory: that of a device. */
	row->pages = t.pages.present - t.pages.hidden;
	row->extents = t.pages.extents;
	row->huge_pages = min_u64(t.pages.huge, row->pages);
	row->vsz_kib = t.vsz >> 10;
	row->rss_kib = t.rss >> 10;
	return 0;
}

static int sample_one(pid_t pid, void *arg)
{
	struct sample *sample = arg;
	struct study_row row = { .time = sample->time, .pid = pid };
	struct proc_stat stat;
	int err, rc = 0;

	if (proc_stat_read(pid, &stat) != 0 || stat.kernel ||
	    shares_memory(pid, stat.ppid))
		return 0;
	err = look(sample->pm, pid, &row);
	if (err == 0) {
		rc = study_writer_put(sample->s->file, &row, stat.comm);
		sample->tables++;
	}
	sample->refused += err == -EACCES || err == -EPERM;
	progress_tables(sample->s->progress, sample->tables);
	pace(sample);
	return rc;
}

int sampler_take(const struct sampler *s, uint64_t *refused)
{
	struct sample sample = {
		.s = s, .time = time(NULL),
		.late_ns = clock_ns(CLOCK_MONOTONIC) +
			   (int64_t)s->spread_s * NS_PER_S,
		.used_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID),
	};
	int rc = pagemap_new(&sample.pm);

	if (rc == 0)
		rc = proc_each(sample_one, &sample);
	pagemap_free(sample.pm);
	*refused = sample.refused;
	return rc ? rc : study_writer_sync(s->file);
}
