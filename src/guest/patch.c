/* SPDX-License-Identifier: MIT */
/* patch.c - sites that lead to the fast tier */
#include "guest/patch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/array.h"
#include "base/fd.h"
#include "base/log.h"
#include "guest/source.h"
#include "guest/stub.h"
#include "guest/tracer.h"

extern const uint8_t blob_gate[];
extern const uint64_t blob_gate_size;

#define SYSCALL_LEN	2
#define JUMP_LEN	5	/* e9 rel32 */
#define JUMP_FAR	6	/* ff 25 rel32: through memory */
#define LOAD_RCX	7	/* 48 8b 0d rel32 */
#define REACH		0x7fff0000ULL	/* of a displacement, with some to spare */
#define AREA		(1ULL << 26)	/* where a page is looked for at a time */
#define AROUND		96	/* bytes on either side of a site */

/* The program's address of an offset from its `syscall`. */
static uint64_t address(const struct patch *p, int off)
{
	return p->site + (uint64_t)(int64_t)off;
}

static uint64_t window_start(const struct patch *p)
{
	return address(p, p->found.window_start);
}

static uint32_t hash_key(uint64_t v)
{
	return (uint32_t)((v * 0x9e3779b97f4a7c15ULL) >> 32) | 1;
}

/* --- pages and text ------------------------------------------------------- */

int patches_text(struct memory *memory, struct patches *out)
{
	struct text *text = calloc(1, sizeof(*text));
	int err;

	if (!text)
		return -ENOMEM;
	err = arena_alloc(&memory->arena, TEXT_SIZE, &text->off);
	if (!err)
		err = fd_pwrite_all(memory->arena.fd, blob_gate,
				    blob_gate_size, text->off);
	if (err) {
		free(text);
		return err;
	}
	text->refs = 1;
	out->text = text;
	return 0;
}

int patches_fork(const struct patches *from, struct patches *out)
{
	out->v = calloc(from->n + 1, sizeof(*out->v));
	out->pages = calloc(from->npages + 1, sizeof(*out->pages));
	if (!out->v || !out->pages)
		return -ENOMEM;
	if (from->n)
		memcpy(out->v, from->v, from->n * sizeof(*out->v));
	out->n = from->n;
	out->cap = from->n + 1;
	for (size_t i = 0; i < from->npages; i++) {
		out->pages[i] = from->pages[i];
		out->pages[i]->refs++;
	}
	out->npages = from->npages;
	out->maps_stale = true;
	out->text = from->text;
	out->text->refs++;
	return 0;
}

void patches_fini(struct memory *memory, struct patches *patches)
{
	struct text *text = patches->text;

	for (size_t i = 0; i < patches->npages; i++) {
		struct tramp_page *page = patches->pages[i];

		if (--page->refs)
			continue;
		arena_discard(&memory->arena, page->off, PAGE_BYTES);
		free(page);
	}
	if (text && --text->refs == 0) {
		arena_discard(&memory->arena, text->off, TEXT_SIZE);
		free(text);
	}
	maps_fini(&patches->maps);
	free(patches->pages);
	free(patches->v);
	*patches = (struct patches){ 0 };
}

bool patch_owns(const struct mm *mm, struct range at)
{
	for (size_t i = 0; i < mm->patches.npages; i++) {
		const uint64_t gva = mm->patches.pages[i]->gva;

		if (at.start < gva + PAGE_BYTES && gva < at.end)
			return true;
	}
	return false;
}

/* --- where a trampoline may be ---------------------------------------------- */

/*
 * Opcodes that 64-bit mode does not have, and hlt, which is not for programs:
 * whatever follows them, they trap. (0xd5 and 0x62 are prefixes by now; cli, sti
 * and port instructions may be allowed by iopl(2).)
 */
static bool traps(uint8_t byte)
{
	switch (byte) {
	case 0x06: case 0x07: case 0x0e: case 0x16: case 0x17: case 0x1e:
	case 0x1f: case 0x27: case 0x2f: case 0x37: case 0x3f: case 0x82:
	case 0x9a: case 0xce: case 0xd6: case 0xea: case 0xf4:
		return true;
	}
	return false;
}

/* Which bytes of the jump's displacement have to trap: bit i, byte i. */
static unsigned int inner_bytes(const struct site *s)
{
	unsigned int mask = 0;

	for (int off = s->window_start + 1;
	     off < s->window_start + JUMP_LEN; off++) {
		bool begins = off == 0 || off == SYSCALL_LEN;

		for (int i = 0; i < s->ninsns; i++)
			begins |= s->insns[i].off == off;
		if (begins)
			mask |= 1u << (off - s->window_start - 1);
	}
	return mask;
}

/*
 * The lowest address from gva on that a jump can lead to so that the bytes of its
 * displacement trap that have to. They are counted up like the digits of a number:
 * where one does not trap, what is below it begins anew.
 */
static uint64_t next_trapping(const struct patch *p, unsigned int inner,
			      uint64_t gva)
{
	const uint64_t from = window_start(p) + JUMP_LEN;
	uint64_t d = gva - from;

	for (int i = 3; i >= 0; i--) {
		const uint64_t one = 1ULL << 8 * i;

		if (!(inner >> i & 1) || traps((uint8_t)(d >> 8 * i)))
			continue;
		d = (d & ~(one - 1)) + one;
		i = 4;		/* it may have carried */
	}
	return from + d;
}

/* Can the jump of a patch lead there, and the moved instructions reach back? */
static bool fits(const struct patch *p, uint64_t gva)
{
	const int64_t d = (int64_t)(gva - (window_start(p) + JUMP_LEN));

	if (d > (int64_t)REACH || d < -(int64_t)REACH)
		return false;
	for (int i = 0; i < p->found.ninsns; i++) {
		const struct site_insn *insn = &p->found.insns[i];
		uint64_t from = address(p, insn->off);
		int32_t old;
		int64_t disp;

		if (!insn->disp)
			continue;
		memcpy(&old, p->old + (insn->off - p->found.window_start) +
		       insn->disp, sizeof(old));
		disp = old + (int64_t)(from - (gva + p->moved[i]));
		if (disp != (int32_t)disp)
			return false;
	}
	return true;
}

/* The first unit of a page that a trampoline at an offset takes, and the end. */
static size_t unit_of(size_t off)
{
	return off / TRAMP_UNIT;
}

static size_t unit_end(size_t off, size_t size)
{
	return (off + size + TRAMP_UNIT - 1) / TRAMP_UNIT;
}

static bool is_free(const struct tramp_page *page, size_t off, size_t size)
{
	for (size_t i = unit_of(off); i < unit_end(off, size); i++)
		if (page->used[i])
			return false;
	return true;
}

/* A place in a page at gva, which may not be there yet; 0: there is none. */
static uint64_t place_in(const struct tramp_page *page, uint64_t gva,
			 const struct patch *p, unsigned int inner)
{
	/* Aligned, unless the lowest byte of the displacement matters. */
	const uint64_t align = inner & 1 ? 1 : TRAMP_UNIT;
	uint64_t at = gva, next;

	while (at + p->size <= gva + PAGE_BYTES) {
		next = next_trapping(p, inner, at);
		next = (next + align - 1) & ~(align - 1);
		if (next == at && (!page || is_free(page, at - gva, p->size)) &&
		    fits(p, at))
			return at;
		at = next > at ? next : at + align;
	}
	return 0;
}

static bool is_unmapped(const struct maps *maps, uint64_t gva)
{
	size_t lo = 0, hi = maps->n;

	/* With some room, for what grows. */
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (maps->v[mid].end + PAGE_BYTES <= gva)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo == maps->n || maps->v[lo].start >= gva + 2 * PAGE_BYTES;
}

static struct tramp_page *page_new(struct tracer *tr, struct task *t,
				   uint64_t gva)
{
	struct patches *patches = &t->proc->mm->patches;
	struct tramp_page **v, *page = calloc(1, sizeof(*page));
	int64_t r;

	if (!page)
		return NULL;
	v = realloc(patches->pages, (patches->npages + 1) * sizeof(struct tramp_page *));
	if (v)
		patches->pages = v;
	if (!v || arena_alloc(&tr->memory.arena, PAGE_BYTES, &page->off) < 0)
		goto fail;
	r = task_native(tr, t, SYS_mmap, gva, PAGE_BYTES, PROT_READ | PROT_EXEC,
			MAP_SHARED | MAP_FIXED_NOREPLACE,
			hidden_fd(tr, HIDDEN_ARENA), page->off);
	if (r != (int64_t)gva)
		goto fail;
	page->refs = 1;
	page->gva = gva;
	v[patches->npages++] = page;
	return page;
fail:
	free(page);
	return NULL;
}

/*
 * A new page for a trampoline. Not next to what is mapped: the heap grows
 * upwards and mappings are added downwards. Going away from the site in steps,
 * as far as a jump reaches.
 */
static struct tramp_page *page_near(struct tracer *tr, struct task *t,
				    const struct patch *p, unsigned int inner)
{
	static const int64_t distance[] = {
		-(1LL << 30), -(1LL << 28), -(1LL << 24), -(1LL << 21),
		1LL << 30, 1LL << 28, 1LL << 24, -REACH / 2, REACH / 2,
	};
	const struct maps *maps = &t->proc->mm->patches.maps;

	for (size_t i = 0; i < ARRAY_SIZE(distance); i++) {
		const uint64_t from = page_down(p->site + (uint64_t)distance[i]);
		uint64_t gva, at;

		/* Bits 16 to 23 of the displacement have all values in here; the
		 * lowest eight have them in each page. */
		for (gva = from; gva - from < AREA; gva = at) {
			struct tramp_page *page;

			at = page_down(next_trapping(p, inner & 0xe, gva));
			if (at > gva)
				continue;
			at += PAGE_BYTES;
			if (gva < 1 << 16 || gva >= USER_END ||
			    !place_in(NULL, gva, p, inner) ||
			    !is_unmapped(maps, gva))
				continue;
			page = page_new(tr, t, gva);
			if (page)
				return page;
		}
	}
	return NULL;
}

static struct tramp_page *place(struct tracer *tr, struct task *t,
				struct patch *p)
{
	const unsigned int inner = inner_bytes(&p->found);
	struct patches *patches = &t->proc->mm->patches;
	struct tramp_page *page = NULL;
	size_t off;

	p->tramp = 0;
	for (size_t i = patches->npages; i-- && !p->tramp;) {
		page = patches->pages[i];
		p->tramp = place_in(page, page->gva, p, inner);
	}
	if (!p->tramp) {
		page = page_near(tr, t, p, inner);
		if (!page)
			return NULL;
		p->tramp = place_in(page, page->gva, p, inner);
	}
	off = p->tramp - page->gva;
	memset(page->used + unit_of(off), 1,
	       unit_end(off, p->size) - unit_of(off));
	return page;
}

/* --- the code ---------------------------------------------------------------- */

static uint8_t *put(uint8_t *at, const void *bytes, size_t n)
{
	memcpy(at, bytes, n);
	return at + n;
}

static uint8_t *put_rel(uint8_t *at, const void *opcode, size_t n,
			int64_t distance)
{
	const int32_t rel = (int32_t)(distance - (int64_t)n - 4);

	return put(put(at, opcode, n), &rel, sizeof(rel));
}

/* Where the parts of the trampoline are. */
static void measure(struct patch *p)
{
	const struct site *s = &p->found;
	size_t at = 0;

	for (int i = 0; i < s->ninsns && s->insns[i].off < 0; i++) {
		p->moved[i] = (uint8_t)at;
		at += s->insns[i].len;
	}
	p->enter = (uint8_t)at;
	p->trap = (uint8_t)(at + JUMP_FAR);
	at = p->trap + SYSCALL_LEN + LOAD_RCX;
	p->after = (uint8_t)at;
	for (int i = 0; i < s->ninsns; i++) {
		if (s->insns[i].off < 0)
			continue;
		p->moved[i] = (uint8_t)at;
		at += s->insns[i].len;
	}
	p->back = (uint8_t)at;
	p->size = (uint8_t)(((at + JUMP_LEN + 7) & ~7u) + 16);
}

/* The program's address behind what has been moved. */
static uint64_t window_behind(const struct patch *p)
{
	const int end = p->found.window_end > SYSCALL_LEN ?
			p->found.window_end : SYSCALL_LEN;

	return address(p, end);
}

static void write_moved(const struct patch *p, uint8_t *tramp)
{
	for (int i = 0; i < p->found.ninsns; i++) {
		const struct site_insn *insn = &p->found.insns[i];
		uint8_t *to = tramp + p->moved[i];
		int32_t disp;

		memcpy(to, p->old + (insn->off - p->found.window_start),
		       insn->len);
		if (!insn->disp)
			continue;
		memcpy(&disp, to + insn->disp, sizeof(disp));
		disp += (int32_t)(address(p, insn->off) -
				  (p->tramp + p->moved[i]));
		memcpy(to + insn->disp, &disp, sizeof(disp));
	}
}

static int write_tramp(struct tracer *tr, const struct patch *p,
		       const struct tramp_page *page)
{
	const struct gate_header h = gate_header();
	const uint8_t quads = (uint8_t)(p->size - 16);
	const uint64_t ends[2] = { p->code + h.site_entry,
				   p->site + SYSCALL_LEN };
	uint8_t code[256] = { 0 }, *at = code + p->enter;

	write_moved(p, code);
	at = put_rel(at, "\xff\x25", 2, quads - p->enter);
	at = put(at, "\x0f\x05", SYSCALL_LEN);
	put_rel(at, "\x48\x8b\x0d", 3, quads + 8 - (p->trap + SYSCALL_LEN));
	put_rel(code + p->back, "\xe9", 1,
		(int64_t)(window_behind(p) - (p->tramp + p->back)));
	memcpy(code + quads, ends, sizeof(ends));
	return fd_pwrite_all(tr->memory.arena.fd, code, p->size,
			     page->off + (p->tramp - page->gva));
}

static int write_code(struct tracer *tr, const struct mm *mm,
		      const struct patch *p)
{
	const struct gate_header h = gate_header();
	const uint64_t ctl = memory_slots(mm->memory);
	const struct site_code own = {
		.after = p->tramp + p->after,
		.trap = p->tramp + p->trap,
		.rip = p->site + SYSCALL_LEN,
		.class = ctl + offsetof(struct stub_ctl, class),
		.fds = ctl + offsetof(struct stub_ctl, fds),
		.stub = mm->memory->base + h.stub,
	};
	uint8_t code[SITE_CODE_SIZE];

	memcpy(code, blob_gate + h.site_code, sizeof(code));
	memcpy(code, &own, sizeof(own));
	return fd_pwrite_all(tr->memory.arena.fd, code, sizeof(code),
			     mm->patches.text->off +
			     (p->code - mm->memory->base));
}

/* Bytes of a stopped thread's text, which it cannot write itself. */
static int poke(const struct task *t, uint64_t addr, const uint8_t *bytes,
		size_t n)
{
	while (n > 0) {
		const uint64_t word_at = addr & ~7ULL;
		const size_t skip = addr - word_at;
		const size_t part = min_u64(8 - skip, n);
		long word;

		errno = 0;
		word = ptrace(PTRACE_PEEKTEXT, t->tid, (void *)word_at, NULL);
		if (errno)
			return -errno;
		memcpy((char *)&word + skip, bytes, part);
		if (ptrace(PTRACE_POKETEXT, t->tid, (void *)word_at, word) < 0)
			return -errno;
		addr += part;
		bytes += part;
		n -= part;
	}
	return 0;
}

/* --- is it code that may be patched? ------------------------------------------ */

static const struct map_line *find_line(const struct maps *maps, uint64_t addr)
{
	for (size_t i = 0; i < maps->n; i++)
		if (addr - maps->v[i].start <
		    maps->v[i].end - maps->v[i].start)
			return &maps->v[i];
	return NULL;
}

static bool may_patch(const struct map_line *line, uint64_t addr)
{
	return line && line->ino && !line->shared &&
	       (line->prot & (PROT_EXEC | PROT_WRITE)) == PROT_EXEC &&
	       addr >= line->start + AROUND && addr + AROUND <= line->end;
}

/* The line that an address is in, read again if it is not known. */
static const struct map_line *line_of(struct task *t, uint64_t addr)
{
	struct patches *patches = &t->proc->mm->patches;
	const struct map_line *line;

	line = patches->maps_stale ? NULL : find_line(&patches->maps, addr);
	if (line)
		return line;
	maps_fini(&patches->maps);
	patches->maps = (struct maps){ 0 };
	if (maps_read(t->tid, &patches->maps) < 0)
		return NULL;
	patches->maps_stale = false;
	return find_line(&patches->maps, addr);
}

/*
 * What has been found out about sites in files, for the processes to come. The
 * key is a hash: what is found must be the very site.
 */
struct site_note {
	dev_t dev;
	ino_t ino;
	uint64_t off;
	uint8_t code[2 * WINDOW_MAX];	/* around it */
	struct site site;
};

static const struct site *judge(struct tracer *tr, const struct map_line *line,
				uint64_t addr, const uint8_t code[2 * AROUND])
{
	const uint64_t off = line->off + (addr - line->start);
	const uint32_t key = hash_key(off ^ line->ino << 40);
	struct site_note *note = idmap_get(&tr->sites, key);

	if (note && note->dev == line->dev && note->ino == line->ino &&
	    note->off == off && memcmp(note->code, code + AROUND - WINDOW_MAX,
				       sizeof(note->code)) == 0)
		return &note->site;
	if (!note) {
		note = calloc(1, sizeof(*note));
		if (!note || idmap_put(&tr->sites, key, note) < 0) {
			free(note);
			return NULL;
		}
	}
	note->dev = line->dev;
	note->ino = line->ino;
	note->off = off;
	memcpy(note->code, code + AROUND - WINDOW_MAX, sizeof(note->code));
	sites_check(tr->site_decoder, code, 2 * AROUND, AROUND,
		    addr - AROUND, &note->site);
	tr->stats.sites[note->site.verdict]++;
	tr->stats.idioms[note->site.idiom]++;
	return &note->site;
}

/* --- patching ------------------------------------------------------------------ */

static struct patch *patch_new(struct patches *patches)
{
	struct patch *v = array_room(patches->v, &patches->cap,
				     patches->n + 1, sizeof(*v));

	if (!v)
		return NULL;
	patches->v = v;
	return &patches->v[patches->n];
}

/* Does a thread stand where bytes are about to change under it? */
static bool is_inside(pid_t tid, const struct patch *p)
{
	struct user_regs_struct regs;

	return remote_get_regs(tid, &regs) == 0 &&
	       regs.rip > window_start(p) &&
	       regs.rip < address(p, p->found.window_end);
}

static int write_jump(struct tracer *tr, struct task *t, const struct patch *p)
{
	const uint64_t start = window_start(p);
	uint8_t jump[JUMP_LEN];
	struct task *o;
	size_t pos = 0;
	int err;

	put_rel(jump, "\xe9", 1, (int64_t)(p->tramp - start));
	err = tracer_stop_others(tr, t);
	while (!err && (o = idmap_next(&tr->tasks, &pos)))
		if (o != t && o->proc->mm == t->proc->mm &&
		    is_inside(o->tid, p))
			err = -EAGAIN;
	if (!err)
		err = poke(t, start, jump, sizeof(jump));
	tracer_resume_others(tr, t);
	return err;
}

static int patch_at(struct tracer *tr, struct task *t, uint64_t site,
		    const struct site *found, const uint8_t code[2 * AROUND])
{
	struct mm *mm = t->proc->mm;
	struct patch *p = patch_new(&mm->patches);
	struct tramp_page *page;
	int err;

	if (!p || mm->patches.text->ncodes == SITE_CODES)
		return -ENOMEM;
	*p = (struct patch){ .site = site, .found = *found };
	memcpy(p->old, code + AROUND + found->window_start,
	       (size_t)(found->window_end - found->window_start));
	measure(p);
	p->code = mm->memory->base + GATE_SIZE +
		  mm->patches.text->ncodes * SITE_CODE_SIZE;
	page = place(tr, t, p);
	if (!page)
		return -ENOSPC;
	mm->patches.text->ncodes++;
	err = write_tramp(tr, p, page);
	if (!err)
		err = write_code(tr, mm, p);
	if (!err)
		err = write_jump(tr, t, p);
	if (err)
		return err;
	mm->patches.n++;
	tr->stats.patches++;
	tr->source->text_changed(mm, (struct range){ page_down(site - WINDOW_MAX),
				 page_up(site + WINDOW_MAX) });
	if (is_inside(t->tid, p))
		t->regs.rip = p->tramp + p->trap + SYSCALL_LEN;
	return 0;
}

/*
 * Most sites of a program's start are passed once: a stop takes less than to
 * decode what surrounds the site. mm->sites says how it stands with one.
 */
enum site_state {
	SITE_NEW,	/* not in the map */
	SITE_PASSED,	/* once */
	SITE_SETTLED,	/* it has been decided what becomes of it */
};

static enum site_state site_state(const struct mm *mm, uint32_t key)
{
	return (enum site_state)(uintptr_t)idmap_get(&mm->sites, key);
}

static void site_set(struct mm *mm, uint32_t key, enum site_state state)
{
	/* Failing, it is looked at again. */
	(void)idmap_put(&mm->sites, key, (void *)(uintptr_t)state);
}

bool patch_site(struct tracer *tr, struct task *t)
{
	const uint64_t site = t->regs.rip - SYSCALL_LEN;
	struct mm *mm = t->proc->mm;
	const size_t npages = mm->patches.npages;
	const uint32_t key = hash_key(site);
	const struct map_line *line;
	const struct site *found;
	uint8_t code[2 * AROUND];
	int err;

	if (!tr->site_decoder || !mm->program || !mm->patches.text ||
	    patch_of_tramp(mm, t->regs.rip))
		return false;
	switch (site_state(mm, key)) {
	case SITE_NEW:
		tr->stats.passed++;
		site_set(mm, key, SITE_PASSED);
		return false;
	case SITE_PASSED:
		break;
	case SITE_SETTLED:
		return false;
	}
	line = line_of(t, site);
	if (!may_patch(line, site) ||
	    task_read(t, site - AROUND, code, sizeof(code)) != sizeof(code))
		found = NULL;
	else
		found = judge(tr, line, site, code);
	err = -EINVAL;
	if (found && found->verdict <= SITE_PATCHABLE_AFTER && tr->patching) {
		if (mm->refs > 1)	/* in a vfork, say */
			return false;
		err = patch_at(tr, t, site, found, code);
	}
	if (mm->patches.npages > npages) {
		task_again(t, err ? site : mm->patches.v[mm->patches.n - 1].
			   tramp + mm->patches.v[mm->patches.n - 1].trap);
		return true;
	}
	if (err == -EAGAIN || err == -ESRCH)
		return false;		/* another time */
	if (err)
		log_debug("process %d: the site at %#lx is not patched: %s",
			  t->tid, site, found ?
			  sites_verdict_name(found->verdict) : "not its file's");
	site_set(mm, key, SITE_SETTLED);
	return false;
}

/* Is code of what was last read there? */
static bool has_code(const struct maps *maps, struct range at)
{
	for (size_t i = 0; i < maps->n; i++)
		if (maps->v[i].prot & PROT_EXEC &&
		    maps->v[i].start < at.end && at.start < maps->v[i].end)
			return true;
	return false;
}

void patch_undo(struct tracer *tr, struct task *t, struct range at,
		bool remains)
{
	struct mm *mm = t->proc->mm;
	struct patches *patches = &mm->patches;
	bool stopped = false;

	if (!patches->maps_stale && !has_code(&patches->maps, at))
		return;
	patches->maps_stale = true;
	idmap_fini(&mm->sites);
	for (size_t i = 0; i < patches->n; i++) {
		struct patch *p = &patches->v[i];
		const uint64_t start = window_start(p);

		if (p->undone || start + JUMP_LEN <= at.start ||
		    start >= at.end)
			continue;
		p->undone = true;
		if (!remains)
			continue;
		if (!stopped)
			(void)tracer_stop_others(tr, t);
		stopped = true;
		(void)poke(t, start, p->old, JUMP_LEN);
	}
	if (stopped)
		tracer_resume_others(tr, t);
}

/* --- from one address to the other ------------------------------------------- */

const struct patch *patch_of_code(const struct mm *mm, uint64_t gva)
{
	for (size_t i = 0; i < mm->patches.n; i++)
		if (gva - mm->patches.v[i].code < SITE_CODE_SIZE)
			return &mm->patches.v[i];
	return NULL;
}

const struct patch *patch_of_tramp(const struct mm *mm, uint64_t gva)
{
	for (size_t i = 0; i < mm->patches.n; i++)
		if (gva - mm->patches.v[i].tramp < mm->patches.v[i].size)
			return &mm->patches.v[i];
	return NULL;
}

uint64_t patch_back(const struct patch *p, uint64_t gva)
{
	const uint64_t at = gva - p->tramp;

	for (int i = 0; i < p->found.ninsns; i++)
		if (at == p->moved[i])
			return address(p, p->found.insns[i].off);
	if (at <= p->trap)
		return p->site;
	return at < p->back ? p->site + SYSCALL_LEN : window_behind(p);
}

uint64_t patch_forward(const struct mm *mm, uint64_t rip)
{
	for (size_t i = 0; i < mm->patches.n; i++) {
		const struct patch *p = &mm->patches.v[i];
		const int64_t off = (int64_t)(rip - p->site);

		if (p->undone || off <= p->found.window_start ||
		    off >= p->found.window_start + JUMP_LEN)
			continue;
		for (int k = 0; k < p->found.ninsns; k++)
			if (p->found.insns[k].off == off)
				return p->tramp + p->moved[k];
		if (off == 0)
			return p->tramp + p->enter;
		if (off == SYSCALL_LEN)
			return p->tramp + p->after;
	}
	return 0;
}
