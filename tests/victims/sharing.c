/* SPDX-License-Identifier: MIT */
/*
 * sharing.c - a process with a thread, and a child that has its memory
 *
 * Says the child's pid when all are there, and waits for a signal.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#define STACK_BYTES	65536

static int child(void *arg)
{
	(void)arg;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pause();
	return 0;
}

static void *thread(void *arg)
{
	pause();
	return arg;
}

int main(void)
{
	char *stack = malloc(STACK_BYTES);
	pthread_t t;
	int pid;

	if (!stack || pthread_create(&t, NULL, thread, NULL) != 0)
		return 1;
	pid = clone(child, stack + STACK_BYTES, CLONE_VM | SIGCHLD, NULL);
	if (pid < 0)
		return 1;
	printf("%d\n", pid);
	fflush(stdout);
	pause();
	return 0;
}
