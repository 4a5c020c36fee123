/* SPDX-License-Identifier: MIT */
/* cpus.h - sets of processors (sched_setaffinity(2)) */
#ifndef BASE_CPUS_H
#define BASE_CPUS_H

#include <sched.h>

/* cpus_one() - a set of one; cpu: less than CPU_SETSIZE */
static inline cpu_set_t cpus_one(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return set;
}

/* cpus_without() - what is left of a set: the set itself, if nothing is */
static inline cpu_set_t cpus_without(cpu_set_t set, const cpu_set_t *those)
{
	cpu_set_t both, rest;

	CPU_AND(&both, &set, those);
	CPU_XOR(&rest, &set, &both);
	return CPU_COUNT(&rest) ? rest : set;
}

#endif
