/* SPDX-License-Identifier: MIT */
/*
 * placement.c - a target that stops often shares a core with its tracer
 *
 * Theory of operation. A stop is two switches between target and tracer. On
 * one core they cost a few microseconds; across cores each is a wake-up of an
 * idle core, tens of microseconds, and that is what the scheduler chooses,
 * since the other core is idle. So a thread that stops in quick succession is
 * kept on the tracer's core, its executor too, and given its own set of cores
 * back as soon as it does not: at the next tick of the loop (50 ms) without
 * many stops. What it asks about its cores is answered with its own set. A
 * program that begins stops at every call that it makes for the first time, and
 * is kept there from the start; a thread that begins has work to do elsewhere.
 *
 * A lane's executor is to be on another core than the thread that waits for it:
 * together they would take turns at one, which costs ten times as much, and the
 * scheduler leaves them there, where neither is ever seen to wait for the other.
 * So it is kept off the core of whoever slept (SLOT_CPU), which is seen soon for
 * a while after it has begun, or the thread has been let go.
 *
 * Threads that take turns at the lanes, a *crowd*, are each now and then where an
 * executor is, and every time that it has to leave its core to one of them all
 * others wait. So while lanes are busy each of their executors has a core, and the
 * threads have the others. The first look after a thread has begun says whether
 * they are; where they were not, no thread's beginning makes a crowd any more.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/cpus.h"
#include "base/fd.h"
#include "guest/tracer.h"

#define QUICK_S		400e-6	/* from stop to stop */
#define QUICK_STOPS	4	/* so many in a row: keep it here */
#define TICK_STOPS	20	/* fewer between two ticks: let it go */

#define BUSY_S		50e-6	/* from one call by a lane to the next: less is busy */
#define LOOK_S		2e-3	/* for so long, at least */

/* --- executors ----------------------------------------------------------------- */

static void place(struct tracer *tr, const struct proc *p, int thread, int cpu,
		  bool avoid)
{
	struct msg m = { .type = MSG_PLACE };

	/* The host of a VM has cores of its own. */
	if (!p->shadow || p->shadow_gone || tr->client.dead || tracer_in_vm(tr))
		return;
	m.place.shadow = p->shadow;
	m.place.thread = (uint32_t)thread;
	m.place.cpu = (uint32_t)(cpu + 1);
	m.place.avoid = avoid;
	client_notify(&tr->client, &m);
}

static void place_executor(struct tracer *tr, struct task *t)
{
	if (t->executor)
		place(tr, t->proc, t->slot_index, t->placed ? tr->cpu : -1,
		      false);
}

/* Where a stopped thread was when it ran (proc_pid_stat(5)), or -1. */
static int last_cpu(pid_t tid)
{
	char path[64], *text cleanup_free = NULL;
	const char *p;
	int field = 2, cpu = -1;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	if (fd_read_all(path, 4096, &text) < 0)
		return -1;
	/* A name may hold anything, but no line has more of what ends it. */
	p = strrchr(text, ')');
	while (p && field++ < 39)
		p = strchr(p + 1, ' ');
	return p && sscanf(p, "%d", &cpu) == 1 ? cpu : -1;
}

/* The core of a lane's executor in a crowd: one from the end, but not ours; or -1. */
static int lane_core(const struct tracer *tr, int lane)
{
	int n = lane % stub_busy_lanes(tr);

	for (int cpu = CPU_SETSIZE - 1; cpu >= 0; cpu--)
		if (CPU_ISSET(cpu, &tr->cpus) && cpu != tr->cpu && n-- == 0)
			return cpu;
	return -1;
}

/* In a crowd each has a core, in none it is kept off the core of who slept. */
static void place_lanes(struct tracer *tr, struct proc *p)
{
	CPU_ZERO(&p->lane_cpus);
	for (int i = 0; i < p->nmanned; i++) {
		const int cpu = p->crowd ? lane_core(tr, i) : -1;

		place(tr, p, LANE_FIRST + i, cpu, false);
		if (cpu >= 0)
			CPU_SET(cpu, &p->lane_cpus);
	}
}

static void look_at_lanes(struct tracer *tr, const struct proc *p)
{
	for (int i = 0; i < p->nlanes; i++) {
		struct slot *lane = p->lanes[i];
		const uint32_t cpu = lane->cpu;

		if (!cpu)
			continue;
		lane->cpu = 0;
		if (!p->crowd)
			place(tr, p, LANE_FIRST + i, (int)cpu - 1, true);
	}
}

/* --- threads, and ourselves ---------------------------------------------------- */

static bool is_elsewhere(const struct task *t)
{
	return t->placed || t->aside;
}

static bool tracer_is_elsewhere(const struct tracer *tr)
{
	return tr->nplaced || tr->ncrowds;
}

static void settle_tracer(struct tracer *tr)
{
	const cpu_set_t set = tr->nplaced ? cpus_one(tr->cpu) :
			      tr->ncrowds ? cpus_without(tr->cpus, &tr->lane_cpus) :
			      tr->cpus;

	sched_setaffinity(0, sizeof(set), &set);
}

static void settle(const struct tracer *tr, const struct task *t)
{
	const cpu_set_t set = t->placed ? cpus_one(tr->cpu) :
			      t->aside ? cpus_without(t->cpus,
						      &t->proc->lane_cpus) :
			      t->cpus;

	sched_setaffinity(t->tid, sizeof(set), &set);
}

/* Its own set, as long as it still has it. */
static bool ask_set(struct task *t)
{
	return is_elsewhere(t) ||
	       sched_getaffinity(t->tid, sizeof(t->cpus), &t->cpus) == 0;
}

/* Our core, which lanes' executors are off, and ours to choose from. */
static bool ask_own(struct tracer *tr)
{
	if (!tracer_is_elsewhere(tr)) {
		if (sched_getaffinity(0, sizeof(tr->cpus), &tr->cpus) < 0)
			return false;
		tr->cpu = sched_getcpu();
	}
	return tr->cpu >= 0 && CPU_COUNT(&tr->cpus) > 1;
}

static void place_here(struct tracer *tr, struct task *t)
{
	if (!ask_own(tr) || !ask_set(t) || !CPU_ISSET(tr->cpu, &t->cpus))
		return;
	t->placed = true;
	if (tr->nplaced++ == 0)
		settle_tracer(tr);
	settle(tr, t);
	place_executor(tr, t);
}

static void forget(struct tracer *tr, struct task *t)
{
	t->placed = false;
	t->quick = 0;
	if (--tr->nplaced == 0)
		settle_tracer(tr);
}

/* It goes to where the others are, or where it likes. */
static void let_go(struct tracer *tr, struct task *t)
{
	if (!t->placed)
		return;
	forget(tr, t);
	settle(tr, t);
	place_executor(tr, t);
	/* It may go to where the lanes' executors are. */
	if (t->proc->nmanned)
		tracer_hurry(tr);
}

static void let_return(struct tracer *tr, struct task *t)
{
	if (!t->aside)
		return;
	t->aside = false;
	settle(tr, t);
}

void placement_release(struct tracer *tr, struct task *t)
{
	let_go(tr, t);
	let_return(tr, t);
}

void placement_end(struct tracer *tr, struct task *t)
{
	if (t->placed)
		forget(tr, t);
}

void placement_begin(struct tracer *tr, struct task *t)
{
	if (!t->placed)
		place_here(tr, t);
}

/* --- crowds -------------------------------------------------------------------- */

static void keep_aside(struct tracer *tr, struct task *t)
{
	if (!ask_set(t))
		return;
	t->aside = true;
	if (!t->placed)
		settle(tr, t);
}

/* All as the process is, a crowd or not. */
static void settle_threads(struct tracer *tr, const struct proc *p)
{
	size_t pos = 0;
	struct task *t;

	while ((t = idmap_next(&tr->tasks, &pos))) {
		if (t->proc != p)
			continue;
		if (p->crowd)
			keep_aside(tr, t);
		else
			let_return(tr, t);
	}
}

static void settle_crowd(struct tracer *tr, struct proc *p)
{
	place_lanes(tr, p);
	CPU_OR(&tr->lane_cpus, &tr->lane_cpus, &p->lane_cpus);
	settle_tracer(tr);
	settle_threads(tr, p);
}

/* Calls by lanes since it was asked last; *since: for so long. */
static uint32_t new_calls(struct proc *p, double *since)
{
	const double now = now_seconds();
	uint32_t calls = 0, was = p->lane_calls;

	for (int i = 0; i < p->nmanned; i++)
		calls += p->lanes[i]->req_seq / 2;
	*since = now - p->looked;
	p->lane_calls = calls;
	p->looked = now;
	return calls - was;
}

static void begin_crowd(struct tracer *tr, struct proc *p)
{
	double since;

	if (p->crowd || !p->nmanned || tracer_in_vm(tr) || !ask_own(tr))
		return;
	(void)new_calls(p, &since);
	if (tr->ncrowds++ == 0)
		CPU_ZERO(&tr->lane_cpus);
	p->crowd = true;
	settle_crowd(tr, p);
	tracer_hurry(tr);
}

void placement_end_crowd(struct tracer *tr, struct proc *p)
{
	if (!p->crowd)
		return;
	p->crowd = false;
	tr->ncrowds--;
	settle_crowd(tr, p);
}

static void look_at(struct tracer *tr, struct proc *p)
{
	uint32_t calls;
	double since;

	look_at_lanes(tr, p);
	if (!p->nmanned || now_seconds() - p->looked < LOOK_S)
		return;
	calls = new_calls(p, &since);
	if (p->nalive > 1 && calls * BUSY_S > since) {
		p->idle_crowd = false;
		begin_crowd(tr, p);
	} else if (p->crowd) {
		placement_end_crowd(tr, p);
	}
}

void placement_look(struct tracer *tr)
{
	size_t pos = 0;
	struct task *t;

	while ((t = idmap_next(&tr->tasks, &pos)))
		look_at(tr, t->proc);
}

/* --- what happens to threads and lanes ------------------------------------------ */

/* A thread has work to do elsewhere than here; a process begins as a program does. */
void placement_inherit(struct tracer *tr, const struct task *from,
		       struct task *to)
{
	/* What it was born with is what its parent had then, wherever that is
	 * now. */
	if (is_elsewhere(from))
		to->cpus = from->cpus;
	else if (sched_getaffinity(from->tid, sizeof(to->cpus), &to->cpus) < 0)
		return;
	to->placed = from->placed && to->proc != from->proc;
	if (to->placed)
		tr->nplaced++;
	to->aside = to->proc->crowd;
	settle(tr, to);
	/* It may go to where the lanes' executors are. */
	if (to->proc->nmanned)
		tracer_hurry(tr);
	if (to->proc != from->proc || to->proc->crowd || to->proc->idle_crowd)
		return;
	begin_crowd(tr, to->proc);
	to->proc->idle_crowd = to->proc->crowd;
}

void placement_new_executor(struct tracer *tr, struct task *t)
{
	if (t->placed)
		place_executor(tr, t);
}

void placement_new_lane(struct tracer *tr, struct task *t, int lane)
{
	const int cpu = tracer_in_vm(tr) || t->proc->crowd ? -1 :
			last_cpu(t->tid);

	if (t->proc->crowd)
		settle_crowd(tr, t->proc);
	else if (cpu >= 0)
		place(tr, t->proc, lane, cpu, true);
	tracer_hurry(tr);
}

void placement_stop(struct tracer *tr, struct task *t)
{
	const double now = now_seconds();

	t->quick = now - t->last_stop < QUICK_S ? t->quick + 1 : 0;
	t->last_stop = now;
	t->stops++;
	if (!t->placed && t->quick >= QUICK_STOPS)
		place_here(tr, t);
}

void placement_tick(struct tracer *tr)
{
	size_t pos = 0;
	struct task *t;

	while ((t = idmap_next(&tr->tasks, &pos))) {
		if (t->placed && t->stops < TICK_STOPS)
			let_go(tr, t);
		t->stops = 0;
	}
}

/* The question is asked of the set that the program knows of. */
void call_affinity(struct tracer *tr, struct task *t)
{
	const pid_t tid = (pid_t)t->args[0];
	struct task *about = tid ? idmap_get(&tr->tasks, (uint32_t)tid) : t;

	int64_t r;

	if (about)
		placement_release(tr, about);
	r = task_native_same(tr, t);
	if (about && about->proc->crowd)
		keep_aside(tr, about);
	task_return(tr, t, r);
}
