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
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/fd.h"
#include "guest/tracer.h"

#define QUICK_S		400e-6	/* from stop to stop */
#define QUICK_STOPS	4	/* so many in a row: keep it here */
#define TICK_STOPS	20	/* fewer between two ticks: let it go */

static void place_executor(struct tracer *tr, struct task *t)
{
	struct msg m = { .type = MSG_PLACE };

	/* The host of a VM has cores of its own. */
	if (!t->executor || tr->client.dead || tracer_in_vm(tr))
		return;
	m.place.shadow = t->proc->shadow;
	m.place.thread = (uint32_t)t->slot_index;
	m.place.cpu = t->placed ? (uint32_t)tr->cpu + 1 : 0;
	client_notify(&tr->client, &m);
}

static void keep_off(struct tracer *tr, const struct proc *p, int lane,
		     unsigned int cpu)
{
	struct msg m = { .type = MSG_PLACE };

	if (tr->client.dead || p->shadow_gone || tracer_in_vm(tr))
		return;
	m.place.shadow = p->shadow;
	m.place.thread = (uint32_t)lane;
	m.place.cpu = cpu + 1;
	m.place.avoid = 1;
	client_notify(&tr->client, &m);
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

void placement_new_lane(struct tracer *tr, struct task *t, int lane)
{
	int cpu;

	if (tracer_in_vm(tr))
		return;
	cpu = last_cpu(t->tid);
	if (cpu >= 0)
		keep_off(tr, t->proc, lane, (unsigned int)cpu);
	tracer_hurry(tr);
}

static void look_at_lanes(struct tracer *tr, const struct proc *p)
{
	for (int i = 0; i < p->nlanes; i++) {
		struct slot *lane = p->lanes[i];
		const uint32_t cpu = lane->cpu;

		if (!cpu)
			continue;
		lane->cpu = 0;
		keep_off(tr, p, LANE_FIRST + i, cpu - 1);
	}
}

static void place_here(struct tracer *tr, struct task *t)
{
	cpu_set_t here;

	if (tr->nplaced == 0) {
		tr->cpu = sched_getcpu();
		if (tr->cpu < 0 || sched_getaffinity(0, sizeof(tr->cpus),
						     &tr->cpus) < 0)
			return;
	}
	CPU_ZERO(&here);
	CPU_SET(tr->cpu, &here);
	if (CPU_COUNT(&tr->cpus) < 2 ||
	    sched_getaffinity(t->tid, sizeof(t->cpus), &t->cpus) < 0 ||
	    !CPU_ISSET(tr->cpu, &t->cpus) ||
	    sched_setaffinity(t->tid, sizeof(here), &here) < 0)
		return;
	if (tr->nplaced++ == 0)
		sched_setaffinity(0, sizeof(here), &here);
	t->placed = true;
	place_executor(tr, t);
}

static void forget(struct tracer *tr, struct task *t)
{
	t->placed = false;
	t->quick = 0;
	if (--tr->nplaced == 0)
		sched_setaffinity(0, sizeof(tr->cpus), &tr->cpus);
}

void placement_release(struct tracer *tr, struct task *t)
{
	if (!t->placed)
		return;
	sched_setaffinity(t->tid, sizeof(t->cpus), &t->cpus);
	forget(tr, t);
	place_executor(tr, t);
	/* It may go to where the lanes' executors are. */
	if (t->proc->nlanes)
		tracer_hurry(tr);
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

void placement_inherit(struct tracer *tr, const struct task *from,
		       struct task *to)
{
	if (!from->placed)
		return;
	to->placed = true;
	to->cpus = from->cpus;
	tr->nplaced++;
	if (to->proc == from->proc)
		placement_release(tr, to);
}

void placement_new_executor(struct tracer *tr, struct task *t)
{
	if (t->placed)
		place_executor(tr, t);
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
			placement_release(tr, t);
		t->stops = 0;
	}
}

void placement_look(struct tracer *tr)
{
	size_t pos = 0;
	struct task *t;

	while ((t = idmap_next(&tr->tasks, &pos)))
		look_at_lanes(tr, t->proc);
}

/* The question is asked of the set that the program knows of. */
void call_affinity(struct tracer *tr, struct task *t)
{
	const pid_t tid = (pid_t)t->args[0];
	struct task *about = tid ? idmap_get(&tr->tasks, (uint32_t)tid) : t;

	if (about)
		placement_release(tr, about);
	task_allow(tr, t);
}
