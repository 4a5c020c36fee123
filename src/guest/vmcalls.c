/* SPDX-License-Identifier: MIT */
/*
 * vmcalls.c - the address space of a target as its page table has it (DESIGN
 * 4 and 5)
 *
 * Theory of operation. In a VM targets keep their memory, and shadows map the
 * frames that it is in. A *region* here is a range of frames in a row that a
 * shadow may map; whatever is one is pinned (pins.h), and stays so until every
 * shadow has been told that it is gone. So a frame that a shadow maps is never
 * anybody else's, whatever the target does and however it ends.
 *
 * What has changed is not looked at before it matters: changes are noted
 * (mm->fresh), and settled when a call is about to be forwarded, from
 * /proc/PID/maps and pagemap. Settling makes memory present and pins it, up to
 * a size (tracer.eager) at once, beyond that what calls point to.
 *
 * Four kinds of mapping:
 * - private anonymous memory is pinned as the target's own;
 * - private mappings of files that may be written are made anonymous when they
 *   are made, or made writable, as older kernels pin no other private memory;
 * - files, shared memory, and private mappings that may not be written: their
 *   pages are the file's, and pinned with it. A file may come to have others,
 *   unseen by us: they are compared before they are used (settle_doubts());
 * - memory of a device of the host: it is in the window (vm/window.h), which the
 *   target maps in its place, and the shadow maps the device. Regions of it are
 *   there from mmap(2) on, for as long as it is mapped: the last of them that
 *   goes gives back that part of the window.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_xdp.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/array.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/num.h"
#include "guest/pointers.h"
#include "guest/source.h"
#include "process/maps.h"
#include "process/pagemap.h"
#include "wire/calls.h"
#include "wire/device.h"

/* Up to which a private mapping is made present before an ioctl; at a time, up to
 * this part of the machine's memory. */
#define WHOLE_MAX	(64ULL << 20)
#define WHOLE_PART	4
/* What is made present around a pointer into a mapping that is too large. */
#define CHUNK		(64ULL << 10)
#define HUGE_PAGE	(2ULL << 20)

/* Pages of files that turn out not to be what they were, a pointer. */
#define DOUBTS_MAX	64

/* Frames of one process are read in pieces of this many pages. */
#define READ_PAGES	4096

static void note(struct mm *mm, uint64_t start, uint64_t end)
{
	stub_forget_range(mm->ctl, start, end);
	mm_view_add(&mm->fresh, start, end);
	mm->whole = false;
}

/* --- regions that go ----------------------------------------------------- */

/* Regions that are there are about to go: calls may be under way to them. */
static void hold_regions(struct tracer *tr, const struct mm *mm,
			 struct range at)
{
	const struct region *r = mm_find(mm, at.start);

	if (r && r->start < at.end)
		forward_hold(tr, mm, at);
}

static int remove_regions(struct tracer *tr, struct mm *mm, struct range at)
{
	hold_regions(tr, mm, at);
	return mm_remove(mm, at.start, at.end);
}

/* --- pinning private memory ---------------------------------------------- */

static int64_t register_buffer(struct tracer *tr, struct task *t,
			       const struct pin *pin)
{
	struct {
		struct io_uring_rsrc_update2 update;
		struct iovec iov;
	} *m = (void *)((char *)t->slot + SLOT_ASIDE);
	const uint64_t at = task_slot_gva(t) + SLOT_ASIDE;
	int64_t r;

	memset(m, 0, sizeof(*m));
	m->iov.iov_base = (void *)pin->start;
	m->iov.iov_len = pin->end - pin->start;
	m->update.offset = pin->slot % PIN_RING_SLOTS;
	m->update.data = at + offsetof(typeof(*m), iov);
	m->update.nr = 1;
	r = task_native(tr, t, SYS_io_uring_register,
			hidden_fd(tr, HIDDEN_RING) + pin->slot / PIN_RING_SLOTS,
			IORING_REGISTER_BUFFERS_UPDATE, at, sizeof(m->update),
			0, 0);
	return r == 1 ? 0 : r < 0 ? r : -EIO;
}

/* The socket as descriptor `there` of the target. */
static int64_t register_umem(struct tracer *tr, struct task *t,
			     const struct pin *pin, int there)
{
	struct xdp_umem_reg *m = (void *)((char *)t->slot + SLOT_ASIDE);

	*m = (struct xdp_umem_reg){ .addr = pin->start,
				    .len = pin->end - pin->start,
				    .chunk_size = PAGE_BYTES };
	return task_native(tr, t, SYS_setsockopt, (uint64_t)there, SOL_XDP,
			   XDP_UMEM_REG, task_slot_gva(t) + SLOT_ASIDE,
			   sizeof(*m), 0);
}

/*
 * What the target may lock and open is its own affair: its limits are lifted,
 * as far as we may, for as long as it takes. A thread that forks meanwhile
 * gives its child a copy of the socket, close-on-exec, of which nothing but its
 * number tells.
 */
static int64_t register_socket(struct tracer *tr, struct task *t,
			       const struct pin *pin)
{
	struct rlimit locked, files, more = { RLIM_INFINITY, RLIM_INFINITY };
	int fd = pinner_socket(tr->memory.pinner, pin->slot), there;
	int64_t r;

	if (fd < 0)
		return fd;
	if (prlimit(t->tid, RLIMIT_MEMLOCK, NULL, &locked) < 0 ||
	    prlimit(t->tid, RLIMIT_NOFILE, NULL, &files) < 0)
		return -errno;
	prlimit(t->tid, RLIMIT_MEMLOCK, &more, NULL);
	more.rlim_cur = files.rlim_cur + HIDDEN_FDS + 1;
	more.rlim_max = max_u64(files.rlim_max, more.rlim_cur);
	prlimit(t->tid, RLIMIT_NOFILE, &more, NULL);
	there = fd_install(tr, t, fd);
	r = there < 0 ? there : register_umem(tr, t, pin, there);
	if (there >= 0)
		task_native(tr, t, SYS_close, (uint64_t)there, 0, 0, 0, 0, 0);
	prlimit(t->tid, RLIMIT_NOFILE, &files, NULL);
	prlimit(t->tid, RLIMIT_MEMLOCK, &locked, NULL);
	return r;
}

/*
 * Pins [start, end) of the target by one slot.
 *
 * Populated for writing once it is pinned, it is dirty: what the host writes is
 * kept when the pin is gone, even in pages that the target had given back
 * (MADV_FREE), which a pin alone leaves writable and clean.
 */
static int pin_once(struct tracer *tr, struct task *t, uint64_t start,
		    uint64_t end)
{
	struct pin pin = { .start = start, .end = end,
			   .wanted = t->proc->mm->calls };
	int64_t r = 0;
	/* The calls that pin have their arguments there. */
	int err = task_slot(t);

	if (!err)
		err = pinner_take(tr->memory.pinner, &pin.slot);
	if (err)
		return err;
	if (!tr->no_pins)
		r = tr->memory.pinner->kind == PIN_XDP ?
		    register_socket(tr, t, &pin) : register_buffer(tr, t, &pin);
	if (r == 0)
		r = task_native(tr, t, SYS_madvise, start, end - start,
				MADV_POPULATE_WRITE, 0, 0, 0);
	if (r == 0)
		r = mm_pin_add(t->proc->mm, &pin);
	if (r < 0)
		pinner_drop(tr->memory.pinner, pin.slot, 0);
	return (int)r;
}

/*
 * As one buffer or, where a page in it cannot be had (a guard, poison), in
 * pieces without it.
 */
static int pin_pieces(struct tracer *tr, struct task *t, uint64_t start,
		      uint64_t end)
{
	const uint64_t mid = start + page_down((end - start) / 2);
	int err = pin_once(tr, t, start, end), upper;

	if ((err != -EFAULT && err != -EHWPOISON) || end - start <= PAGE_BYTES)
		return err;
	err = pin_pieces(tr, t, start, mid);
	upper = pin_pieces(tr, t, mid, end);
	/* One piece is better than none. */
	return err && upper ? err : 0;
}

/*
 * Frames in a row are made, not only found: what is large is to be in huge
 * pages, before it is touched if that can be.
 */
static void ask_huge(struct tracer *tr, struct task *t, uint64_t start,
		     uint64_t len)
{
	if (tr->huge && len >= max_u64(tr->huge, HUGE_PAGE))
		task_native(tr, t, SYS_madvise, start, len, MADV_HUGEPAGE, 0,
			    0, 0);
}

/* Frames only stay a target's own if they may be written when pinned. */
static int pin_range(struct tracer *tr, struct task *t, uint64_t start,
		     uint64_t end, int prot)
{
	const uint64_t len = end - start;
	int err = 0;

	if (!(prot & PROT_WRITE)) {
		int64_t r = task_native(tr, t, SYS_mprotect, start, len,
					(uint64_t)prot | PROT_WRITE, 0, 0, 0);

		if (r < 0)
			return (int)r;
	}
	ask_huge(tr, t, start, len);
	for (uint64_t pos = start; pos < end && !err; pos += PIN_MAX)
		err = pin_pieces(tr, t, pos, min_u64(pos + PIN_MAX, end));
	if (!(prot & PROT_WRITE))
		task_native(tr, t, SYS_mprotect, start, len, (uint64_t)prot, 0,
			    0, 0);
	return err;
}

/* What of [start, end) is not pinned yet. */
static int pin_missing(struct tracer *tr, struct task *t, uint64_t start,
		       uint64_t end, int prot)
{
	struct mm *mm = t->proc->mm;
	int err = 0;

	while (start < end && !err) {
		size_t i = mm_pin_find(mm, start);
		uint64_t stop = end;

		if (i < mm->npins && mm->pins[i].start <= start) {
			start = mm->pins[i].end;
			continue;
		}
		if (i < mm->npins)
			stop = min_u64(stop, mm->pins[i].start);
		err = pin_range(tr, t, start, stop, prot);
		start = stop;
	}
	return err;
}

/*
 * No shadow has the range any more. What uses it nevertheless is known now, for
 * nothing more begins to.
 */
static void take_away(struct tracer *tr, struct mm *mm, struct range at)
{
	const struct region *r = mm_find(mm, at.start);

	/* The stub may have been told of what is no region any more. */
	stub_forget_range(mm->ctl, at.start, at.end);
	if (r && r->start < at.end) {
		mm_remove(mm, at.start, at.end);
		shadow_tell_all(tr, mm);
	}
	forward_hold(tr, mm, at);
}

/* What cannot be pinned anew, for it must not be written just now, stays pinned by
 * what it was: calls may be under way there. */
static int keep_rest(struct tracer *tr, struct task *t, struct pin pin,
		     uint64_t start, uint64_t end)
{
	if (start >= end || pin_once(tr, t, start, end) == 0)
		return 0;
	pin.start = start;
	pin.end = end;
	pin.shared = true;
	return mm_pin_add(t->proc->mm, &pin);
}

/*
 * The frames of [start, end) may go. What a pin holds beside it is pinned
 * again before the pin is let go, so that it never lacks one.
 */
static void unpin(struct tracer *tr, struct task *t, uint64_t start,
		  uint64_t end)
{
	struct mm *mm = t->proc->mm;

	for (;;) {
		size_t i = mm_pin_find(mm, start);
		struct pin pin;

		if (i == mm->npins || mm->pins[i].start >= end)
			return;
		pin = mm->pins[i];
		if (keep_rest(tr, t, pin, pin.start, start) < 0 ||
		    keep_rest(tr, t, pin, end, pin.end) < 0) {
			/* Not to be had any more: gone for the shadow, too. */
			take_away(tr, mm, (struct range){ pin.start, pin.end });
			note(mm, pin.start, pin.end);
		}
		/* The new ones have sorted themselves around it. */
		for (i = 0; i < mm->npins; i++)
			if (mm->pins[i].slot == pin.slot &&
			    mm->pins[i].start == pin.start &&
			    mm->pins[i].end == pin.end)
				break;
		if (i == mm->npins)
			continue;
		mm->pins[i].shared = true;
		mm_pin_drop(mm, i);
	}
}

/* A range that is no longer what shadows were told of. */
static void forget(struct tracer *tr, struct task *t, uint64_t start,
		   uint64_t end)
{
	take_away(tr, t->proc->mm, (struct range){ start, end });
	unpin(tr, t, start, end);
}

/* --- settling ------------------------------------------------------------ */

/* One range of the address space, and the regions that are found in it. */
struct survey {
	struct tracer *tr;
	struct task *t;
	struct maps maps;
	int pagemap;
	uint64_t *frames;	/* READ_PAGES */
	struct region *v;
	size_t n, cap;
};

static struct region *new_region(struct survey *s)
{
	struct region *v = array_room(s->v, &s->cap, s->n + 1, sizeof(*v));

	if (!v)
		return NULL;
	s->v = v;
	return &s->v[s->n++];
}

/* What is found in one mapping, or one part of a file, becomes regions. */
struct found {
	struct survey *s;
	struct mapfile *file;		/* or NULL */
	struct file_frames *frames;
};

static int add_region(void *ctx, const struct page_extent *e)
{
	const struct found *in = ctx;
	struct region *r = new_region(in->s);

	if (!r)
		return -ENOMEM;
	*r = (struct region){ .start = e->gva,
			      .end = e->gva + e->npages * PAGE_BYTES,
			      .off = e->pfn * PAGE_BYTES, .prot = e->prot,
			      .file = in->file, .frames = in->frames,
			      .kind = REGION_FRAMES };
	if (in->file) {
		in->file->refs++;
		in->frames->refs++;
	}
	return 0;
}

/* Pinned private memory: frames from the target's own page table. */
static int survey_private(struct survey *s, const struct map_line *line,
			  uint64_t start, uint64_t end)
{
	int err = pin_missing(s->tr, s->t, start, end, line->prot);
	struct found in = { .s = s };
	struct extents x;

	/* No memory, or memory that cannot be pinned: calls get EFAULT. */
	if (err) {
		log_debug("process %d: %#lx-%#lx cannot be pinned: %s",
			  s->t->tid, start, end, strerror(-err));
		return err == -ESRCH ? err : 0;
	}
	/* What others have, too, is not to be written. */
	extents_begin(&x, line->prot, false, add_region, &in);
	while (start < end && !err) {
		uint64_t n = min_u64(READ_PAGES, (end - start) / PAGE_BYTES);

		err = pagemap_read(s->pagemap, start, n, s->frames);
		if (!err)
			err = extents_add(&x, start, s->frames, n, 0);
		start += n * PAGE_BYTES;
	}
	return err ? err : extents_end(&x);
}

static int add_frames(struct found *in, uint64_t start, const uint64_t *pfn,
		      uint64_t n, int prot)
{
	struct extents x;
	int err = 0;

	extents_begin(&x, prot, true, add_region, in);
	for (uint64_t i = 0; i < n && !err; i++)
		if (pfn[i])
			err = extents_page(&x, start + i * PAGE_BYTES, pfn[i],
					   prot);
	return err ? err : extents_end(&x);
}

/* A file's pages, pinned with the file. */
static int survey_file(struct survey *s, const struct map_line *line,
		       uint64_t start, uint64_t end)
{
	struct mapfile *file;
	struct stat st;
	int prot = line->prot;
	int fd = mem_open_line(s->t, line), err;

	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);	/* a device's memory is no RAM */
		return 0;
	}
	err = memory_file(&s->tr->memory, fd, &file);
	if (err)
		return err;
	if (!line->shared)
		prot &= ~PROT_WRITE;
	if (prot & PROT_WRITE && file != s->tr->memory.arena_file)
		s->t->proc->mm->writes_files = true;
	while (start < end && !err) {
		uint64_t page = (line->off + (start - line->start)) /
				PAGE_BYTES;
		struct file_frames *f;
		uint64_t n;

		if (file_frames_get(&file->frames, file->fd, page,
				    (end - start) / PAGE_BYTES, &f) < 0)
			break;
		n = min_u64(f->first + f->n - page, (end - start) / PAGE_BYTES);
		err = add_frames(&(struct found){ s, file, f }, start,
				 f->pfn + (page - f->first), n, prot);
		start += n * PAGE_BYTES;
	}
	memory_file_unref(&s->tr->memory, file);
	return err;
}

/*
 * Which device's memory is at an address in that line, and what of it? NULL: none
 * that we know of.
 */
static struct mapfile *device_at(const struct memory *m,
				 const struct map_line *line, uint64_t at,
				 uint64_t *off)
{
	for (struct mapfile *f = m->files; f; f = f->next) {
		uint64_t from;

		if (!f->bar || !bar_is(f->bar, line))
			continue;
		from = line->off - f->bar->first + (at - line->start) -
		       f->window;
		if (from >= f->len)
			continue;
		*off = f->off + from;
		return f;
	}
	return NULL;
}

/* Is there memory of devices in that line, known of or not? */
static bool is_window(const struct memory *m, const struct map_line *line)
{
	const struct mapfile *f = m->files;

	while (f && !(f->bar && bar_is(f->bar, line)))
		f = f->next;
	return f || bar_is(&m->shared, line);
}

/* Has there been memory of devices that processes may have? */
static bool has_windows(const struct memory *m)
{
	const struct mapfile *f = m->files;

	while (f && !f->bar)
		f = f->next;
	return f || m->shared.open;
}

static struct region device_region(struct mapfile *f, struct range at,
				   uint64_t off, int prot)
{
	return (struct region){ .start = at.start, .end = at.end, .off = off,
				.prot = prot, .kind = REGION_FILE, .file = f,
				.file_shared = true };
}

/* A device's memory: one mapping is of one part of the window. */
static int survey_device(struct survey *s, const struct map_line *line,
			 uint64_t start, uint64_t end)
{
	uint64_t off;
	struct mapfile *f = device_at(&s->tr->memory, line, start, &off);
	struct region *r = f ? new_region(s) : NULL;

	if (!r)
		return f ? -ENOMEM : 0;
	*r = device_region(f, (struct range){ start, end }, off, line->prot);
	f->refs++;
	return 0;
}

static bool is_special(const struct survey *s, const struct map_line *line)
{
	return line->start == s->tr->memory.base ||
	       (line->name[0] == '[' && strcmp(line->name, "[heap]") != 0 &&
		strcmp(line->name, "[stack]") != 0 &&
		strncmp(line->name, "[anon", 5) != 0);
}

static bool is_small(const struct survey *s, const struct map_line *line)
{
	return line->end - line->start <= s->tr->eager &&
	       line->start != memory_slots(&s->tr->memory);
}

/*
 * How much of a mapping is made present when a call wants [start, end) of it:
 * all, if it is small, else not much more than that.
 */
static void widen(const struct survey *s, const struct map_line *line,
		  uint64_t *start, uint64_t *end)
{
	const uint64_t unit = *end - *start >= HUGE_PAGE ? HUGE_PAGE : CHUNK;

	if (is_small(s, line)) {
		*start = line->start;
		*end = line->end;
	} else if (line->start != memory_slots(&s->tr->memory)) {
		*start = max_u64(*start & ~(unit - 1), line->start);
		*end = min_u64((*end + unit - 1) & ~(unit - 1), line->end);
	}
}

/* Private huge pages of MAP_HUGETLB: they have an inode and no file. */
static bool is_hugetlb(const struct map_line *line)
{
	return strncmp(line->name, "/anon_hugepage", 14) == 0;
}

static int survey_line(struct survey *s, const struct map_line *line,
		       uint64_t start, uint64_t end)
{
	if (is_window(&s->tr->memory, line))
		return survey_device(s, line, start, end);
	if (is_special(s, line) ||
	    !(line->prot & (PROT_READ | PROT_WRITE | PROT_EXEC)))
		return 0;
	if (!line->shared && is_hugetlb(line))
		return survey_private(s, line, line->start, line->end);
	/* System V memory has its id for an inode: 0, perhaps. */
	if (line->shared || (line->ino && !(line->prot & PROT_WRITE)))
		return survey_file(s, line, start, end);
	if (line->ino)
		return 0;	/* has been made anonymous */
	return survey_private(s, line, start, end);
}

static void drop_survey(struct survey *s)
{
	for (size_t i = 0; i < s->n; i++) {
		if (!s->v[i].file)
			continue;
		if (s->v[i].frames)
			file_frames_unref(s->tr->memory.pinner,
					  s->v[i].frames);
		memory_file_unref(&s->tr->memory, s->v[i].file);
	}
	s->n = 0;
}

/* Are the regions in [start, end) what was just found there? */
static bool is_known(const struct survey *s, uint64_t start, uint64_t end)
{
	const struct mm *mm = s->t->proc->mm;

	for (size_t i = 0; i < s->n; i++) {
		const struct region *found = &s->v[i];
		const struct region *r = mm_find(mm, start);

		/* Both begin there, or the known one began before. */
		if (!r || max_u64(r->start, start) != found->start ||
		    min_u64(r->end, end) != found->end ||
		    r->off + (found->start - r->start) != found->off ||
		    r->prot != found->prot || r->file != found->file ||
		    r->frames != found->frames)
			return false;
		start = found->end;
	}
	return !mm_find(mm, start) || mm_find(mm, start)->start >= end;
}

/* One mapping, or part of it: what is found there becomes the regions. */
static int settle_line(struct survey *s, const struct map_line *line,
		       uint64_t start, uint64_t end)
{
	int err = survey_line(s, line, start, end);

	if (!err && !is_known(s, start, end)) {
		hold_regions(s->tr, s->t->proc->mm, (struct range){ start,
			     end });
		err = mm_replace(s->t->proc->mm, start, end, s->v, s->n);
		if (!err)
			s->n = 0;	/* their references went along */
	}
	drop_survey(s);
	return err;
}

/* Of a large mapping: what there are regions of is looked at again. */
static int settle_known(struct survey *s, const struct map_line *line,
			uint64_t start, uint64_t end)
{
	const struct mm *mm = s->t->proc->mm;
	int err = 0;

	while (start < end && !err) {
		const struct region *r = mm_find(mm, start);
		uint64_t stop;

		if (!r || r->start >= end)
			break;
		start = max_u64(start, r->start);
		for (stop = start; r && r->start <= stop && stop < end;
		     r = mm_find(mm, stop))
			stop = r->end;
		stop = min_u64(stop, end);
		err = settle_line(s, line, start, stop);
		start = stop;
	}
	return err;
}

/* Makes regions of [start, end) true; wanted: and present. */
static int settle_range(struct survey *s, uint64_t start, uint64_t end,
			bool wanted)
{
	struct mm *mm = s->t->proc->mm;
	uint64_t pos = start;
	int err = 0;

	for (size_t i = 0; i < s->maps.n && !err; i++) {
		const struct map_line *line = &s->maps.v[i];
		uint64_t from = max_u64(line->start, start);
		uint64_t to = min_u64(line->end, end);

		if (from >= to)
			continue;
		if (wanted)
			widen(s, line, &from, &to);
		/* Nothing is mapped in between. */
		if (from > pos)
			err = remove_regions(s->tr, mm, (struct range){ pos,
					     from });
		pos = to;
		if (!err && (wanted || is_small(s, line)))
			err = settle_line(s, line, from, to);
		else if (!err)
			err = settle_known(s, line, from, to);
	}
	if (err || pos >= end)
		return err;
	return remove_regions(s->tr, mm, (struct range){ pos, end });
}

static int survey_begin(struct survey *s, struct tracer *tr, struct task *t)
{
	char path[64];
	int err;

	*s = (struct survey){ .tr = tr, .t = t, .pagemap = -1 };
	snprintf(path, sizeof(path), "/proc/%d/pagemap", t->tid);
	s->pagemap = open(path, O_RDONLY | O_CLOEXEC);
	s->frames = malloc(READ_PAGES * sizeof(*s->frames));
	if (s->pagemap < 0)
		err = -errno;
	else if (!s->frames)
		err = -ENOMEM;
	else
		err = maps_read(t->tid, &s->maps);
	return err;
}

static void survey_end(struct survey *s)
{
	close_fd(&s->pagemap);
	maps_fini(&s->maps);
	free(s->frames);
	free(s->v);
}

static bool covered(const struct mm *mm, uint64_t start, uint64_t end)
{
	while (start < end) {
		const struct region *r = mm_find(mm, start);

		if (!r || r->start > start)
			return false;
		start = r->end;
	}
	return true;
}

/* --- verify --------------------------------------------------------------- */

struct check {
	struct tracer *tr;
	struct task *t;
	int pagemap;
};

/* Is what shadows were told still what the page table says? */
static void check_range(void *ctx, struct range at, bool written)
{
	const struct check *c = ctx;
	struct stats *stats = &c->tr->stats;

	(void)written;
	for (uint64_t pos = at.start; pos < at.end; pos += PAGE_BYTES) {
		const struct region *r = mm_find(c->t->proc->mm, pos);
		uint64_t e;

		if (!r || r->start > pos || r->kind != REGION_FRAMES ||
		    pagemap_read(c->pagemap, pos, 1, &e) < 0 ||
		    !(e & PAGEMAP_PRESENT))
			continue;	/* missing is not stale */
		stats->verified++;
		if ((e & PAGEMAP_PFN) * PAGE_BYTES ==
		    r->off + (pos - r->start))
			continue;
		stats->stale++;
		log_err("process %d: page %#lx is stale: in frame %#llx,"
			" shadowed in %#llx", c->t->tid, pos, e & PAGEMAP_PFN,
			(r->off + (pos - r->start)) / PAGE_BYTES);
	}
}

static void verify_call(struct tracer *tr, struct task *t,
			const struct forward_call *call)
{
	struct check c = { tr, t, -1 };
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/pagemap", t->tid);
	c.pagemap = open(path, O_RDONLY | O_CLOEXEC);
	if (c.pagemap >= 0)
		visit_pointers(&(struct visit){ check_range, &c }, t, call);
	close_fd(&c.pagemap);
}

/* --- what the host wrote ---------------------------------------------------- */

/*
 * The guest's kernel has not seen the host write to a page of a file, and would
 * forget it. A write of ours that changes nothing makes it dirty.
 */
static void make_dirty(const struct region *r, struct range at)
{
	const struct file_frames *f = r->frames;
	const uint64_t gpa = r->off + (at.start - r->start);

	for (uint64_t i = 0; i < f->n; i++) {
		char *p;

		if (f->pfn[i] * PAGE_BYTES - gpa >= at.end - at.start)
			continue;
		p = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
			 r->file->fd, (off_t)((f->first + i) * PAGE_BYTES));
		if (p == MAP_FAILED)
			continue;
		/* Populated first: a truncated file is no signal. */
		if (madvise(p, PAGE_BYTES, MADV_POPULATE_WRITE) == 0)
			__atomic_fetch_or(p, 0, __ATOMIC_RELAXED);
		munmap(p, PAGE_BYTES);
	}
}

static void dirty_range(void *ctx, struct range at, bool written)
{
	const struct mm *mm = ctx;

	while (written && at.start < at.end) {
		const struct region *r = mm_find(mm, at.start);
		struct range part = at;

		if (!r || r->start >= at.end)
			return;
		part.start = max_u64(at.start, r->start);
		part.end = min_u64(at.end, r->end);
		if (r->frames && r->prot & PROT_WRITE &&
		    r->file != mm->memory->arena_file)
			make_dirty(r, part);
		at.start = r->end;
	}
}

static void pagemap_answered(struct tracer *tr, struct task *t,
			     const struct forward_call *call)
{
	(void)tr;
	visit_pointers(&(struct visit){ dirty_range, t->proc->mm }, t, call);
}

/* --- private mappings of files -------------------------------------------- */

/*
 * A private mapping of a file that is about to become writable: the same bytes
 * in anonymous memory, put in its place. It could not be written until now, so
 * nothing is lost in between.
 */
static int make_anonymous(struct tracer *tr, struct task *t,
			  const struct map_line *line, struct range part)
{
	const uint64_t len = part.end - part.start;
	char buf[1 << 16];
	int64_t at;

	at = task_native(tr, t, SYS_mmap, 0, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, ~0ULL, 0);
	if (mem_errno(at))
		return mem_errno(at);
	/* What is closed cannot be read from outside either. */
	if (!(line->prot & PROT_READ))
		task_native(tr, t, SYS_mprotect, part.start, len, PROT_READ, 0,
			    0, 0);
	for (uint64_t done = 0; done < len;) {
		ssize_t n = task_read(t, part.start + done, buf,
				      min_u64(len - done, sizeof(buf)));

		/* Behind the end of the file there is nothing. */
		if (n < (ssize_t)PAGE_BYTES) {
			done += PAGE_BYTES;
			continue;
		}
		n = (ssize_t)page_down((uint64_t)n);
		if (task_write(t, (uint64_t)at + done, buf, (size_t)n) != n)
			return -EFAULT;
		done += (uint64_t)n;
	}
	if (line->prot != (PROT_READ | PROT_WRITE))
		task_native(tr, t, SYS_mprotect, (uint64_t)at, len,
			    (uint64_t)line->prot, 0, 0, 0);
	at = task_native(tr, t, SYS_mremap, (uint64_t)at, len, len,
			 MREMAP_MAYMOVE | MREMAP_FIXED, part.start, 0);
	forget(tr, t, part.start, part.end);
	note(t->proc->mm, part.start, part.end);
	return mem_errno(at);
}

/* All such mappings in a range. writable: only those that are it already. */
static int make_all_anonymous(struct tracer *tr, struct task *t,
			      struct range at, bool writable)
{
	struct maps maps = { 0 };
	int err = maps_read(t->tid, &maps);

	for (size_t i = 0; i < maps.n && !err; i++) {
		const struct map_line *line = &maps.v[i];
		struct range part = { max_u64(line->start, at.start),
				      min_u64(line->end, at.end) };

		if (part.start >= part.end || line->shared || !line->ino ||
		    is_hugetlb(line) ||
		    mem_is_ours(&tr->memory, line->start, line->end) ||
		    (writable && !(line->prot & PROT_WRITE)))
			continue;
		err = make_anonymous(tr, t, line, part);
	}
	maps_fini(&maps);
	return err;
}

/* --- settling for a call ---------------------------------------------------- */

struct settling {
	struct survey s;
	bool begun;
	int err;
};

static int settle_begin(struct settling *st)
{
	struct tracer *tr = st->s.tr;
	struct task *t = st->s.t;

	if (st->begun)
		return 0;
	st->begun = true;
	return survey_begin(&st->s, tr, t);
}

static void settle_end(struct settling *st)
{
	struct tracer *tr = st->s.tr;
	struct task *t = st->s.t;

	if (st->begun)
		survey_end(&st->s);
	*st = (struct settling){ .s = { .tr = tr, .t = t, .pagemap = -1 } };
}

static int settle_fresh(struct settling *st)
{
	struct mm_view *fresh = &st->s.t->proc->mm->fresh;
	int err = fresh->ndirty ? settle_begin(st) : 0;

	while (!err && fresh->ndirty) {
		const struct range d = fresh->dirty[--fresh->ndirty];

		err = settle_range(&st->s, d.start, d.end, false);
	}
	return err;
}

static int settle_wanted(struct settling *st, struct range at)
{
	int err = settle_begin(st);

	return err ? err : settle_range(&st->s, at.start, at.end, true);
}

/* What is the matter with a page of a file's mapping. */
enum doubt { SOUND, ABSENT, OTHER_FRAME, OWN_COPY };

static enum doubt doubt_of(const struct region *r, uint64_t pos, uint64_t e)
{
	if (!(e & PAGEMAP_PRESENT))
		return ABSENT;
	if (!(e & PAGEMAP_FILE))
		return OWN_COPY;
	return (e & PAGEMAP_PFN) * PAGE_BYTES == r->off + (pos - r->start) ?
	       SOUND : OTHER_FRAME;
}

/* The first page of [at) in doubt; pages behind it that are so, too. */
static enum doubt find_doubt(struct settling *st, struct range at,
			     struct range *out)
{
	const struct mm *mm = st->s.t->proc->mm;
	enum doubt found = SOUND;
	uint64_t e;

	for (uint64_t pos = at.start; pos < at.end; pos += PAGE_BYTES) {
		const struct region *r = mm_find(mm, pos);
		enum doubt d;

		if (!r || r->start >= at.end)
			break;
		pos = max_u64(pos, r->start);
		if (!r->frames || r->file == mm->memory->arena_file) {
			if (found != SOUND)
				break;
			pos = r->end - PAGE_BYTES;
			continue;
		}
		if (settle_begin(st) < 0 ||
		    pagemap_read(st->s.pagemap, pos, 1, &e) < 0)
			break;
		d = doubt_of(r, pos, e);
		if (found == SOUND && d != SOUND)
			*out = (struct range){ pos, pos };
		else if (found != d)
			break;
		found = d;
		if (d != SOUND)
			out->end = pos + PAGE_BYTES;
	}
	return found;
}

/* Frames that a file has no more are not known any more. */
static void drop_frames(struct mm *mm, struct range at)
{
	const struct region *r;

	while ((r = mm_find(mm, at.start)) && r->start < at.end) {
		const uint64_t first = r->frames ? r->frames->first : 0;

		if (r->frames)
			file_frames_drop(mm->memory->pinner, &r->file->frames,
					 first, r->frames->n);
		at.start = r->end;
	}
}

/* False, and part is its first page: that one cannot be had. */
static bool populate_some(struct settling *st, struct range *part)
{
	uint64_t e = 0;
	int64_t r = task_native(st->s.tr, st->s.t, SYS_madvise, part->start,
				part->end - part->start, MADV_POPULATE_READ, 0,
				0, 0);

	if (r == 0 || pagemap_read(st->s.pagemap, part->start, 1, &e) < 0 ||
	    e & PAGEMAP_PRESENT)
		return true;
	part->end = part->start + PAGE_BYTES;
	return false;
}

/*
 * A file's page is the same frame for everyone who maps it until it is
 * truncated, punched out or invalidated (by a network file system's server,
 * say): of that we hear nothing. So before a call uses pages of files their
 * frames are compared with the target's page table. A page that the target
 * has not touched yet is made present there first; one that it has a copy of
 * (ptrace(2), /proc/PID/mem) becomes its own memory.
 */
static int settle_doubts(struct settling *st, struct range at)
{
	struct tracer *tr = st->s.tr;
	struct task *t = st->s.t;
	struct range part;
	enum doubt doubt;
	int err = 0;

	for (int tries = 0; tries < DOUBTS_MAX && !err; tries++) {
		doubt = find_doubt(st, at, &part);
		switch (doubt) {
		case SOUND:
			return 0;
		case ABSENT:
			if (populate_some(st, &part))
				continue;
			break;
		case OWN_COPY:
			err = make_all_anonymous(tr, t, part, false);
			break;
		case OTHER_FRAME:
			break;
		}
		drop_frames(t->proc->mm, part);
		if (!err)
			err = remove_regions(tr, t->proc->mm, part);
		settle_end(st);
		if (!err && doubt != ABSENT)
			err = settle_wanted(st, part);
	}
	/* It goes on changing: better nothing there than what is not true. */
	if (!err && find_doubt(st, at, &part) != SOUND)
		err = remove_regions(tr, t->proc->mm, (struct range){
				     part.start, at.end });
	return err;
}

/* --- the budget ------------------------------------------------------------ */

/*
 * The host's kernel maps no more than vm.max_map_count regions for a shadow.
 * Of large mappings, which are shadowed as calls need them, what has not been
 * needed for longest is forgotten when there are too many, pin by pin.
 */
static size_t regions_in(const struct mm *mm, uint64_t start, uint64_t end)
{
	const struct region *r = mm_find(mm, start);
	size_t n = 0;

	for (; r && r < mm->v + mm->n && r->start < end; r++)
		n++;
	return n;
}

static int by_age(const void *a, const void *b)
{
	const struct pin *x = a, *y = b;

	return x->wanted < y->wanted ? -1 : x->wanted > y->wanted;
}

/* Pins of large mappings that this call does not need; sorted by age. */
static size_t find_cold(const struct settling *st, struct pin *out)
{
	const struct mm *mm = st->s.t->proc->mm;
	const struct maps *maps = &st->s.maps;
	size_t n = 0;

	for (size_t i = 0, l = 0; i < mm->npins; i++) {
		const struct pin *pin = &mm->pins[i];

		while (l < maps->n && maps->v[l].end <= pin->start)
			l++;
		if (l < maps->n && pin->wanted < mm->calls &&
		    !is_small(&st->s, &maps->v[l]))
			out[n++] = *pin;
	}
	qsort(out, n, sizeof(*out), by_age);
	return n;
}

static int keep_budget(struct settling *st)
{
	struct tracer *tr = st->s.tr;
	struct mm *mm = st->s.t->proc->mm;
	struct pin *cold cleanup_free = NULL;
	size_t n, i, cut = 0, gone = 0;
	int err;

	if (mm->n <= tr->max_regions || !mm->npins)
		return 0;
	err = settle_begin(st);
	if (err)
		return err;
	cold = calloc(mm->npins, sizeof(*cold));
	if (!cold)
		return -ENOMEM;
	n = find_cold(st, cold);
	if (n == 0)
		return 0;
	/* Who forwards by the stub from here on comes to us, and what the others
	 * use can be seen. */
	stub_forget_range(mm->ctl, 0, USER_END);
	/* A quarter more than has to go, or every call would do this. */
	for (i = 0; i < n && !err && mm->n > tr->max_regions / 4 * 3; i++) {
		const struct range at = { cold[i].start, cold[i].end };

		if (forward_uses(tr, mm, at))
			continue;
		cold[cut++] = cold[i];
		mm->whole = false;
		gone += regions_in(mm, at.start, at.end);
		err = remove_regions(tr, mm, at);
	}
	shadow_tell_all(tr, mm);
	while (cut-- > 0)
		unpin(tr, st->s.t, cold[cut].start, cold[cut].end);
	tr->stats.evicted += gone;
	log_debug("process %d: %zu regions forgotten, %zu left", st->s.t->tid,
		  gone, mm->n);
	return err;
}

static void stamp_pins(struct mm *mm, struct range at)
{
	for (size_t i = mm_pin_find(mm, at.start);
	     i < mm->npins && mm->pins[i].start < at.end; i++)
		mm->pins[i].wanted = mm->calls;
}

static void want(void *ctx, struct range at, bool written)
{
	struct settling *st = ctx;

	(void)written;
	if (!st->err && !covered(st->s.t->proc->mm, at.start, at.end))
		st->err = settle_wanted(st, at);
	if (!st->err)
		st->err = settle_doubts(st, at);
	stamp_pins(st->s.t->proc->mm, at);
}

/* Those of terminals point to nothing that points on, and everybody makes them. */
static bool may_point_far(const struct forward_call *call)
{
	return call->nr == SYS_ioctl && call->args[2] >= PAGE_BYTES &&
	       _IOC_TYPE((uint32_t)call->args[1]) != 'T';
}

/*
 * What an ioctl points to, its request alone knows, and nobody asks it: any
 * memory may be meant, even such that nobody has touched. So all of it is made
 * present, but for mappings that are larger than a program fills, and as long
 * as that is not too much of the machine's.
 */
static void want_whole(struct settling *st)
{
	struct mm *mm = st->s.t->proc->mm;
	struct sysinfo info = { 0 };
	uint64_t room;

	if (mm->whole || st->err)
		return;
	sysinfo(&info);
	room = info.totalram * info.mem_unit / WHOLE_PART;
	st->err = settle_begin(st);
	for (size_t i = 0; i < st->s.maps.n && !st->err; i++) {
		const struct map_line *line = &st->s.maps.v[i];

		if (line->ino || line->shared || !(line->prot & PROT_WRITE) ||
		    line->end - line->start > min_u64(WHOLE_MAX, room))
			continue;
		stamp_pins(mm, (struct range){ line->start, line->end });
		if (covered(mm, line->start, line->end))
			continue;
		room -= line->end - line->start;
		st->err = settle_range(&st->s, line->start, line->end, true);
	}
	mm->whole = !st->err;
}

static int pagemap_settle(struct tracer *tr, struct task *t,
			  const struct forward_call *call)
{
	struct settling st = { .s = { .tr = tr, .t = t, .pagemap = -1 } };
	const struct range slot = { task_slot_gva(t),
				    task_slot_gva(t) + SLOT_STRIDE };
	const uint64_t first = memory_slot(&tr->memory, LANE_FIRST);
	const uint64_t nlanes = (uint64_t)t->proc->nserved;
	const struct range lanes = { first, first + nlanes * SLOT_STRIDE };

	t->proc->mm->calls++;
	st.err = settle_fresh(&st);
	want(&st, slot, true);
	if (nlanes)
		want(&st, lanes, true);
	if (call)
		visit_pointers(&(struct visit){ want, &st }, t, call);
	if (call && may_point_far(call))
		want_whole(&st);
	if (!st.err)
		st.err = keep_budget(&st);
	settle_end(&st);
	if (!st.err && call && tr->verify)
		verify_call(tr, t, call);
	return st.err;
}

/* --- calls --------------------------------------------------------------- */

/* A private, writable mapping of a local file: its contents, made anonymous. */
static int64_t map_file_copy(struct tracer *tr, struct task *t)
{
	const uint64_t prot = t->args[2];
	const uint64_t kept = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT |
			      MAP_LOCKED | MAP_NORESERVE;
	uint64_t len = t->args[1], off = t->args[5];
	int64_t at = task_native(tr, t, SYS_mmap, t->args[0], len,
				 prot | PROT_WRITE, MAP_PRIVATE |
				 MAP_ANONYMOUS | (t->args[3] & kept), ~0ULL,
				 0);

	for (uint64_t pos = (uint64_t)at; !mem_errno(at) && len > 0;) {
		int64_t n = task_native(tr, t, SYS_pread64, t->args[4], pos,
					len, off, 0, 0);

		if (n <= 0)
			break;	/* behind the end of the file */
		pos += (uint64_t)n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return at;
}

/* /dev/zero: how anonymous memory was had of old. */
static int64_t map_zeros(struct tracer *tr, struct task *t)
{
	return task_native(tr, t, SYS_mmap, t->args[0], t->args[1], t->args[2],
			   t->args[3] | MAP_ANONYMOUS, ~0ULL, 0);
}

/* --- memory of devices ----------------------------------------------------- */

#define PLUG_MS		15000	/* a guest has so long to find a device */
#define PLUG_LOOK_MS	5

static bool maps_window(pid_t pid, const struct mapfile *f)
{
	const uint64_t first = f->bar->first + f->window;
	struct maps maps = { 0 };
	bool found = false;

	if (maps_read(pid, &maps) < 0)
		return false;	/* it has gone */
	for (size_t i = 0; i < maps.n && !found; i++) {
		const struct map_line *line = &maps.v[i];

		found = bar_is(f->bar, line) && line->off < first + f->len &&
			first < line->off + (line->end - line->start);
	}
	maps_fini(&maps);
	return found;
}

bool vm_still_mapped(struct tracer *tr, const struct mapfile *f)
{
	bool found = false;
	size_t pos = 0;
	const struct task *t;

	while ((t = idmap_next(&tr->tasks, &pos))) {
		const pid_t pid = t->proc->pid;
		const struct task *first = idmap_get(&tr->tasks,
						     (uint32_t)pid);

		/* One living thread of each process. */
		if ((t != first && first && !first->exiting) ||
		    !maps_window(t->tid, f))
			continue;
		log_err("process %d is killed: it has kept memory of a device"
			" that it was to give back", pid);
		kill(pid, SIGKILL);
		found = true;
	}
	return found;
}

/* What a device's memory is known by; its last reference gives it back. */
struct device_map {
	struct mapfile *file;
	bool written;		/* it may be */
};

/* Programs that go on without try it again and again: what was said is not said
 * again until something else was. */
static void tell_refusal(struct tracer *tr, const struct task *t, int err)
{
	char *text;

	if (!*tr->client.text ||
	    (tr->told_mapping && !strcmp(tr->told_mapping, tr->client.text)))
		return;
	text = strdup(tr->client.text);
	if (!text)
		return;
	free(tr->told_mapping);
	tr->told_mapping = text;
	log_warn("process %d: a shared mapping of what is the host's fails with"
		 " %s: %s", t->tid, strerrorname_np(-err), text);
}

/*
 * The PCI device that has it, which the guest's kernel is about to find where it
 * was plugged in.
 */
static int open_plugged(struct mapfile *f, uint32_t address, uint64_t end)
{
	const struct timespec pause = { .tv_nsec = PLUG_LOOK_MS * 1000000L };
	char path[PATH_MAX];
	int err = -EAGAIN;

	for (int ms = 0; err == -EAGAIN && ms < PLUG_MS; ms += PLUG_LOOK_MS) {
		err = device_plugged(DEVICE_PCI, address, end, path);
		if (err == -EAGAIN)
			nanosleep(&pause, NULL);
	}
	if (err == -EAGAIN)
		log_warn("the guest's kernel does not find a PCI device that has"
			 " been plugged in: is it built with"
			 " CONFIG_HOTPLUG_PCI_ACPI or CONFIG_HOTPLUG_PCI_PCIE?");
	if (err == -ENOMEM)
		log_warn("the guest has no room for a PCI device of %" PRIu64
			 " KiB: give its root port more (pref64-reserve=)",
			 end >> 10);
	if (!err)
		err = bar_open(&f->own, path);
	if (!err)
		f->bar = &f->own;
	return err == -EAGAIN ? -ENODEV : err;
}

/* Where the daemon says that it is; 0 or -errno. */
static int open_bar(struct tracer *tr, struct mapfile *f)
{
	const uint32_t device = tr->client.device;
	int err;

	f->window = tr->client.value * PAGE_BYTES;
	if (device & MSG_PLUGGED)
		return open_plugged(f, device & ~MSG_PLUGGED, f->window +
				    f->len);
	err = bar_open(&tr->memory.shared, tr->client.t.memory);
	if (!err)
		f->bar = &tr->memory.shared;
	return err;
}

static int request_device(struct tracer *tr, struct task *t, struct msg *m,
			  struct device_map *out)
{
	struct mapfile *f;
	int err = memory_device(&tr->memory, -1, &f);

	if (err)
		return err;
	m->type = MSG_WINDOW;
	m->window.shadow = t->proc->shadow;
	m->window.file = f->id;
	err = client_request(&tr->client, m, -1, NULL);
	if (err) {
		tell_refusal(tr, t, err);
		memory_file_unref(&tr->memory, f);
		return err;
	}
	f->told = true;
	f->off = m->window.off;
	f->len = m->window.len;
	*out = (struct device_map){ f, tr->client.flags & EXTENT_WRITE };
	err = open_bar(tr, f);
	if (err)
		memory_file_unref(&tr->memory, f);
	return err;
}

/* Somebody else has the same descriptors, in memory of his own. */
static bool files_are_shared(struct tracer *tr, const struct task *t)
{
	size_t pos = 0;
	const struct task *o;

	while ((o = idmap_next(&tr->tasks, &pos)))
		if (o->proc->files == t->proc->files &&
		    o->proc->mm != t->proc->mm)
			return true;
	return false;
}

static int64_t map_by_fd(struct tracer *tr, struct task *t,
			 const struct device_map *d, uint64_t addr,
			 uint64_t prot, uint64_t flags)
{
	const struct bar *bar = d->file->bar;
	int64_t there = fd_install(tr, t, d->written ? bar->fd : bar->read_fd);
	int64_t r;

	if (there < 0)
		return there;
	r = task_native(tr, t, SYS_mmap, addr, d->file->len, prot, flags,
			(uint64_t)there, d->file->window);
	task_native(tr, t, SYS_close, (uint64_t)there, 0, 0, 0, 0, 0);
	return r;
}

/* It is there now, with a reference of its own; its address or -ENOMEM. */
static int64_t add_device(struct tracer *tr, struct task *t,
			  const struct region *r)
{
	forget(tr, t, r->start, r->end);
	if (mm_insert(t->proc->mm, r) == 0)
		return (int64_t)r->start;
	/* What nobody knows of is not to be there. */
	task_native(tr, t, SYS_munmap, r->start, r->end - r->start, 0, 0, 0,
		    0);
	memory_file_unref(&tr->memory, r->file);
	return -ENOMEM;
}

/*
 * It is mapped by a descriptor that is the target's for as long as that takes,
 * and by which all of the shared memory could be mapped: the channels of all
 * runs. So none of its threads runs meanwhile, and no other process of its user
 * may look into it (pidfd_getfd(2)). One that is blocked where it cannot be
 * stopped stops before it comes back.
 *
 * What cannot be written on the host is mapped by one that mprotect(2) cannot
 * make it writable with.
 */
static int64_t map_device(struct tracer *tr, struct task *t,
			  const struct device_map *d, uint64_t addr,
			  uint64_t prot, uint64_t flags)
{
	int64_t dumpable, r;

	if (files_are_shared(tr, t))
		return -EBUSY;
	(void)tracer_stop_others(tr, t);
	dumpable = task_native(tr, t, SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0,
			       0);
	task_native(tr, t, SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0, 0);
	r = map_by_fd(tr, t, d, addr, prot, flags);
	if (dumpable == 1)
		task_native(tr, t, SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0, 0);
	tracer_resume_others(tr, t);
	return r;
}

/* All of it is mapped at r, or was not: the reference is the region's. */
static int64_t mapped_device(struct tracer *tr, struct task *t,
			     struct mapfile *f, int64_t r, int prot)
{
	const struct range at = { (uint64_t)r, (uint64_t)r + f->len };
	const struct region region = device_region(f, at, f->off, prot);

	if (!mem_errno(r))
		return add_device(tr, t, &region);
	memory_file_unref(&tr->memory, f);
	return r;
}

/* /dev/zero: memory of the mapping's own, which its children share. */
static bool is_host_zero(struct tracer *tr, struct task *t)
{
	const uint64_t args[6] = { t->args[4], task_scratch(t) };
	struct stat st;

	if (shadow_sync(tr, t, SLOT_CALL, SYS_fstat, args, -1) != 0)
		return false;
	memcpy(&st, (char *)t->slot + SLOT_SCRATCH, sizeof(st));
	return S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 5);
}

static int64_t map_host_device(struct tracer *tr, struct task *t)
{
	const uint64_t flags = t->args[3];
	struct device_map d;
	struct msg m = { .window = { .fd = (uint32_t)t->args[4],
				     .off = t->args[5],
				     .len = page_up(t->args[1]) } };
	int err;

	if (t->args[5] % PAGE_BYTES)
		return -EINVAL;
	/* MAP_SYNC and its like, which natively are the device's to refuse. */
	if ((flags & MAP_TYPE) == MAP_SHARED_VALIDATE && flags & MAP_SYNC)
		return -EOPNOTSUPP;
	err = request_device(tr, t, &m, &d);
	if (err)
		return err;
	return mapped_device(tr, t, d.file,
			     map_device(tr, t, &d, t->args[0], t->args[2],
					flags), (int)t->args[2] & 7);
}

/* The device whose memory begins a range, and how it is mapped; or NULL. */
static const struct region *find_device(const struct mm *mm, struct range at)
{
	const struct region *r = mm_find(mm, at.start);

	return r && r->start <= at.start && r->kind == REGION_FILE ? r : NULL;
}

/* Is all of it one part of one device's memory, at this offset of it? */
static bool is_device(const struct mm *mm, struct range at,
		      const struct mapfile *f, uint64_t off)
{
	const uint64_t start = at.start;

	while (at.start < at.end) {
		const struct region *r = find_device(mm, at);

		if (!r || r->file != f || r->off + (at.start - r->start) !=
					  off + (at.start - start))
			return false;
		at.start = r->end;
	}
	return true;
}

/* As kernels before Linux 6.17 have it: mremap(2) is of one mapping. */
static bool is_one_device(const struct mm *mm, struct range at)
{
	const struct region *r = find_device(mm, at);

	return r && is_device(mm, at, r->file, r->off + (at.start - r->start));
}

/* What a mapping may be used for just now: PROT_ bits. */
static int prot_at(const struct task *t, uint64_t addr)
{
	const struct map_line *line;
	struct maps maps = { 0 };
	int prot;

	(void)maps_read(t->tid, &maps);
	line = maps_at(&maps, addr);
	prot = line ? line->prot : PROT_NONE;
	maps_fini(&maps);
	return prot;
}

/* A larger part of the same device, where mremap(2) would have it. */
static int64_t map_larger(struct tracer *tr, struct task *t, struct range old,
			  const struct device_map *d, uint64_t prot)
{
	const uint64_t flags = t->args[3], more = d->file->len -
						  (old.end - old.start);
	int64_t r = -ENOMEM;

	if (flags & MREMAP_FIXED)
		return map_device(tr, t, d, t->args[4], prot,
				  MAP_SHARED | MAP_FIXED);
	if (old.end + more <= USER_END)
		r = task_native(tr, t, SYS_mmap, old.end, more, PROT_NONE,
				MAP_PRIVATE | MAP_ANONYMOUS |
				MAP_FIXED_NOREPLACE, ~0ULL, 0);
	if (!mem_errno(r)) {
		r = map_device(tr, t, d, old.start, prot,
			       MAP_SHARED | MAP_FIXED);
		if (mem_errno(r))
			task_native(tr, t, SYS_munmap, old.end, more, 0, 0, 0,
				    0);
		return r;
	}
	if (!(flags & MREMAP_MAYMOVE))
		return -ENOMEM;
	return map_device(tr, t, d, 0, prot, MAP_SHARED);
}

/*
 * The guest's kernel lets no mapping of device memory grow, and has none of
 * what would be more of it.
 */
static int64_t grow_device(struct tracer *tr, struct task *t, struct range old,
			   uint64_t new_len)
{
	const struct region *region = find_device(t->proc->mm, old);
	const int prot = prot_at(t, old.start);
	struct msg m = { .window = { .fd = UINT32_MAX,
				     .of = region->file->id,
				     .off = region->off + (old.start -
							   region->start),
				     .len = new_len } };
	const uint64_t flags = t->args[3], to = t->args[4];
	struct device_map d;
	int64_t r = 0;

	if (flags & MREMAP_FIXED && (!(flags & MREMAP_MAYMOVE) ||
				     (to < old.end && old.start < to + new_len)))
		return -EINVAL;
	r = request_device(tr, t, &m, &d);
	if (r)
		return r;
	r = map_larger(tr, t, old, &d, (uint64_t)prot);
	if (!mem_errno(r) && (uint64_t)r != old.start) {
		task_native(tr, t, SYS_munmap, old.start, old.end - old.start,
			    0, 0, 0, 0);
		forget(tr, t, old.start, old.end);
	}
	return mapped_device(tr, t, d.file, r, prot);
}

/* It may move, and shrink: the region goes along. */
static int64_t move_device(struct tracer *tr, struct task *t, struct range old,
			   uint64_t new_len)
{
	struct region r = *find_device(t->proc->mm, old);
	int64_t at = task_native_same(tr, t);

	if (mem_errno(at))
		return at;
	r.off += old.start - r.start;
	r.start = (uint64_t)at;
	r.end = r.start + new_len;
	r.file->refs++;
	forget(tr, t, old.start, old.end);
	return add_device(tr, t, &r);
}

/* Of [start, end) what is no device's: others keep theirs. */
static void forget_memory(struct tracer *tr, struct task *t, uint64_t start,
			  uint64_t end)
{
	while (start < end) {
		const struct region *r = mm_find_device(t->proc->mm,
							(struct range){ start,
							end });
		const uint64_t stop = r ? max_u64(r->start, start) : end;
		const uint64_t next = r ? r->end : end;

		if (stop > start)
			forget(tr, t, start, stop);
		start = next;
	}
}

/* device: its regions are what they have to be already. */
static int64_t map_host_file(struct tracer *tr, struct task *t, bool shared,
			     bool *device)
{
	const int access = files_get(t->proc->files, (int)t->args[4])->flags &
			   O_ACCMODE;
	int64_t there, r;
	int copy;

	if (access == O_WRONLY ||
	    (shared && t->args[2] & PROT_WRITE && access != O_RDWR))
		return -EACCES;
	if (fuse_file(tr, t, (int)t->args[4]))
		return -ENODEV;
	r = shadow_ready(tr, t);
	if (r)
		return r;
	if (shared) {
		*device = !is_host_zero(tr, t);
		return *device ? map_host_device(tr, t) : map_zeros(tr, t);
	}
	copy = fd_fetch(tr, t, (int)t->args[4]);
	if (copy == -ENODEV && is_host_zero(tr, t))
		return map_zeros(tr, t);
	if (copy < 0)
		return copy == -EIO ? -EIO : -ENODEV;
	there = fd_install(tr, t, copy);
	close(copy);
	if (there < 0)
		return there;
	t->args[4] = (uint64_t)there;
	if (t->args[2] & PROT_WRITE)
		r = map_file_copy(tr, t);
	else
		r = task_native_same(tr, t);
	task_native(tr, t, SYS_close, (uint64_t)there, 0, 0, 0, 0, 0);
	return r;
}

enum mapped { MAPPED_FILE, MAPPED_ZEROS, MAPPED_OTHER };

/* What a descriptor is, as far as a private mapping of it goes. */
static enum mapped what_is(struct tracer *tr, struct task *t, int fd)
{
	int copy cleanup_fd = fd_fetch(tr, t, fd);
	struct stat st;

	if (copy < 0 || fstat(copy, &st) < 0)
		return MAPPED_OTHER;
	if (S_ISREG(st.st_mode))
		return MAPPED_FILE;
	return S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 5) ?
	       MAPPED_ZEROS : MAPPED_OTHER;
}

/* A private mapping of a local file, such that it can be pinned. */
static int64_t map_private_file(struct tracer *tr, struct task *t)
{
	const enum mapped what = what_is(tr, t, (int)t->args[4]);

	if (what == MAPPED_FILE && t->args[2] & PROT_WRITE &&
	    t->args[5] % PAGE_BYTES == 0)
		return map_file_copy(tr, t);
	if (what == MAPPED_ZEROS)
		return map_zeros(tr, t);
	return task_native_same(tr, t);
}

static void pagemap_mmap(struct tracer *tr, struct task *t)
{
	const uint64_t flags = t->args[3], type = flags & MAP_TYPE;
	const bool shared = type == MAP_SHARED || type == MAP_SHARED_VALIDATE;
	const int fd = (int)t->args[4];
	struct range at;
	bool device = false;
	int64_t r;

	if (!mem_range(t->args[0], t->args[1], &at)) {
		/* Of a placeholder the kernel would say EBADF. */
		if (!(flags & MAP_ANONYMOUS) && is_host_fd(t, fd))
			task_return(tr, t, t->args[1] ? -ENOMEM : -EINVAL);
		else
			task_allow(tr, t);
		return;
	}
	r = mem_map_refusal(tr, t, at);
	if (r) {
		task_return(tr, t, r);
		return;
	}
	if (!(flags & MAP_ANONYMOUS) && is_host_fd(t, fd))
		r = map_host_file(tr, t, shared, &device);
	else if (!(flags & MAP_ANONYMOUS) && !shared)
		r = map_private_file(tr, t);
	else
		r = task_native_same(tr, t);
	if (!mem_errno(r) && !device) {
		const uint64_t end = (uint64_t)r + page_up(t->args[1]);

		forget(tr, t, (uint64_t)r, end);
		note(t->proc->mm, (uint64_t)r, end);
		if (flags & MAP_ANONYMOUS && !shared)
			ask_huge(tr, t, (uint64_t)r, end - (uint64_t)r);
	} else if (flags & MAP_FIXED) {
		/* What was there may have been unmapped nevertheless. */
		note(t->proc->mm, at.start, at.end);
	}
	task_return(tr, t, r);
}

static int pagemap_unmapped(struct tracer *tr, struct task *t,
			    struct range at)
{
	forget(tr, t, at.start, at.end);
	return 0;
}

static int64_t pagemap_mprotect(struct tracer *tr, struct task *t,
				struct range at)
{
	int64_t r = 0;

	if (t->args[2] & PROT_WRITE)
		r = make_all_anonymous(tr, t, at, false);
	if (r == 0)
		r = task_native_same(tr, t);
	/* PROT_GROWSDOWN reaches to the start of the mapping. */
	if (t->args[2] & PROT_GROWSDOWN)
		at.start = PAGE_BYTES;
	note(t->proc->mm, at.start, at.end);
	return r;
}

static int64_t pagemap_brk(struct tracer *tr, struct task *t)
{
	struct mm *mm = t->proc->mm;
	const uint64_t old = page_up(mm->brk);
	int64_t r = task_native_same(tr, t);
	const uint64_t now = page_up((uint64_t)r);

	if (now < old)
		forget(tr, t, now, old);
	else if (now > old)
		note(mm, old, now);
	mm->brk = (uint64_t)r;
	return r;
}

#define MADV_DONTNEED_LOCKED_ 24
#define MADV_GUARD_INSTALL_ 102	/* Linux 6.13 */

/* Frames are given back, or others come in their place. */
static bool gives_back(int advice)
{
	return advice == MADV_DONTNEED || advice == MADV_FREE ||
	       advice == MADV_DONTNEED_LOCKED_ || advice == MADV_REMOVE ||
	       advice == MADV_GUARD_INSTALL_;
}

static void pagemap_madvise(struct tracer *tr, struct task *t)
{
	const int advice = (int)t->args[2];
	struct range at;

	if (!mem_range_arg(tr, t, -EINVAL, &at))
		return;
	/* Frames that are given back: none are present until a call points
	 * there again. */
	if (gives_back(advice))
		forget_memory(tr, t, at.start, at.end);
	task_return(tr, t, task_native_same(tr, t));
}

static int64_t pagemap_mremap(struct tracer *tr, struct task *t,
			      struct range old, uint64_t new_len)
{
	bool device;
	int64_t r;

	/* Of nothing, too: what is there is to be there once more. */
	device = mm_find_device(t->proc->mm, (struct range){ old.start,
				max_u64(old.end, old.start + 1) });
	if (device && !is_one_device(t->proc->mm, old))
		return -EFAULT;
	if (device)
		return old.start < old.end && new_len > old.end - old.start ?
		       grow_device(tr, t, old, new_len) :
		       move_device(tr, t, old, new_len);
	/* Frames keep their pins until they are not told of any more. */
	if (old.start < old.end)
		forget(tr, t, old.start, old.end);
	r = task_native_same(tr, t);
	note(t->proc->mm, old.start, old.end);
	if (!mem_errno(r)) {
		forget(tr, t, (uint64_t)r, (uint64_t)r + new_len);
		note(t->proc->mm, (uint64_t)r, (uint64_t)r + new_len);
	}
	return r;
}

/* Where segments begin and end only the kernel knows. */
static int64_t pagemap_shmat(struct tracer *tr, struct task *t)
{
	int64_t r = task_native_same(tr, t);

	if (!mem_errno(r))
		note(t->proc->mm, PAGE_BYTES, USER_END);
	return r;
}

static int64_t pagemap_shmdt(struct tracer *tr, struct task *t)
{
	struct maps maps = { 0 };
	const uint64_t at = t->args[0];
	int64_t r;

	if (maps_read(t->tid, &maps) < 0)
		return -ENOMEM;
	r = task_native_same(tr, t);
	for (size_t i = 0; i < maps.n && r == 0; i++)
		if (maps.v[i].start == at)
			forget(tr, t, at, maps.v[i].end);
	maps_fini(&maps);
	return r;
}

static void pagemap_other(struct tracer *tr, struct task *t)
{
	switch (t->nr) {
	case SYS_process_madvise:
		/* As all kernels before Linux 6.13 answer to that advice. */
		if (gives_back((int)t->args[3]))
			task_return(tr, t, -EINVAL);
		else
			call_general(tr, t);
		break;
	case SYS_userfaultfd:
		/* Pinning would wait for whoever fills the page, and that one
		 * for us. */
		log_info("process %d: userfaultfd is not there", t->tid);
		task_return(tr, t, -ENOSYS);
		break;
	default:
		call_general(tr, t);
	}
}

static int64_t pagemap_map_private(struct tracer *tr, struct task *t,
				   uint64_t len)
{
	int64_t at = task_native(tr, t, SYS_mmap, 0, len,
				 PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, ~0ULL, 0);

	if (!mem_errno(at))
		note(t->proc->mm, (uint64_t)at, (uint64_t)at + page_up(len));
	return at;
}

/* --- exec and fork ------------------------------------------------------- */

static int pagemap_setup(struct tracer *tr, struct task *t)
{
	struct mm *mm = t->proc->mm;
	int err = make_all_anonymous(tr, t, (struct range){ PAGE_BYTES,
				     USER_END }, true);

	mm->brk = mm->brk_start = (uint64_t)task_native(tr, t, SYS_brk, 0, 0,
							0, 0, 0, 0);
	note(mm, PAGE_BYTES, USER_END);
	return err;
}

/* What a mapping of the window was copied from, if the parent still has it. */
static bool copied_from(const struct tracer *tr, const struct mm *mm,
			const struct map_line *line, struct region *out)
{
	const struct range range = { line->start, line->end };
	uint64_t off;
	struct mapfile *f = device_at(&tr->memory, line, line->start, &off);

	if (!f || !is_device(mm, range, f, off))
		return false;
	*out = device_region(f, range, off, line->prot);
	return true;
}

/*
 * Memory of devices that the child has from the start. What the parent has
 * unmapped since, in another thread, may be another's by now: it is unmapped
 * here too, before the child runs.
 */
static int inherit_devices(struct tracer *tr, struct task *parent,
			   struct task *child)
{
	struct maps maps = { 0 };
	int err = maps_read(child->tid, &maps);

	for (size_t i = 0; i < maps.n && !err; i++) {
		const struct map_line *line = &maps.v[i];
		struct region r;

		if (!is_window(&tr->memory, line))
			continue;
		if (!copied_from(tr, parent->proc->mm, line, &r)) {
			task_native(tr, child, SYS_munmap, line->start,
				    line->end - line->start, 0, 0, 0, 0);
			continue;
		}
		err = mm_insert(child->proc->mm, &r);
		if (!err)
			r.file->refs++;
	}
	maps_fini(&maps);
	return err;
}

/*
 * The kernel has copied what was pinned, and shares the rest until either side
 * writes: frames that were told of stay the parent's.
 */
static int pagemap_fork(struct tracer *tr, struct task *parent,
			struct task *child)
{
	int err = has_windows(&tr->memory) ?
		  inherit_devices(tr, parent, child) : 0;

	note(child->proc->mm, PAGE_BYTES, USER_END);
	return err ? err : mem_fork_slots(tr, parent, child, NULL, 0);
}

static void pagemap_text_changed(struct mm *mm, struct range at)
{
	note(mm, at.start, at.end);
}

const struct source pagemap_source = {
	.mmap = pagemap_mmap,
	.madvise = pagemap_madvise,
	.other = pagemap_other,
	.mprotect = pagemap_mprotect,
	.brk = pagemap_brk,
	.mremap = pagemap_mremap,
	.shmat = pagemap_shmat,
	.shmdt = pagemap_shmdt,
	.unmapped = pagemap_unmapped,
	.text_changed = pagemap_text_changed,
	.setup = pagemap_setup,
	.fork = pagemap_fork,
	.map_private = pagemap_map_private,
	.settle = pagemap_settle,
	.answered = pagemap_answered,
};
