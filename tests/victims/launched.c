/* SPDX-License-Identifier: MIT */
/*
 * launched.c - a program in every shape a linker makes
 *
 * `launched FILE TEXT`: FILE must hold TEXT, in a thread, in a child and
 * after exec too. Built by launch.bats as dynamic, static, static-pie and
 * non-PIE.
 */
#include "victim.h"

#include <pthread.h>

static void *in_thread(void *arg)
{
	char **argv = arg;

	holds(argv[1], argv[2]);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	pid_t pid;

	victim_doing = "launched";
	check(argc >= 3, "usage: %s FILE TEXT", argv[0]);
	holds(argv[1], argv[2]);
	if (argc > 3)
		return 0;
	same(pthread_create(&thread, NULL, in_thread, argv), 0);
	same(pthread_join(thread, NULL), 0);
	spawned(pid) {
		holds(argv[1], argv[2]);
		execl(argv[0], argv[0], argv[1], argv[2], "again", NULL);
		check(false, "exec of %s: %s", argv[0], strerror(errno));
	}
	reap(pid);
	return 0;
}
