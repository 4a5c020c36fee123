/* SPDX-License-Identifier: MIT */
/*
 * threadexec.c - a thread, not the leader, executes `threadexec CMD ARG...`
 */
#include "victim.h"

#include <pthread.h>

static void *execute(void *arg)
{
	char **argv = arg;

	execvp(argv[0], argv);
	check(false, "exec of %s: %s", argv[0], strerror(errno));
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	victim_doing = "threadexec";
	check(argc > 1, "usage: %s CMD ARG...", argv[0]);
	same(pthread_create(&thread, NULL, execute, argv + 1), 0);
	pause();
	return 1;
}
