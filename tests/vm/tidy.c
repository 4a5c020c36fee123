/* SPDX-License-Identifier: MIT */
/*
 * tidy.c - in a guest after a test: nothing of it may still run
 *
 *	tidy MARK [FOLDER]
 *
 * Processes with DS_TEST_MARK=MARK in their environment get two seconds to
 * end; those that do not are named and killed, and the exit status is 1. Then
 * FOLDER is emptied. (Static, because a dynamic program takes an emulated
 * machine ten times as long to start.)
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TRIES 40
#define PAUSE_NS (50 * 1000 * 1000)

/* read_proc() - as much of /proc/PID/FILE as there is room for */
static size_t read_proc(const char *pid, const char *file, char *buf,
			size_t size)
{
	char path[64];
	size_t len = 0;
	ssize_t n = 1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%.16s/%.16s", pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && n > 0 && len < size) {
		n = read(fd, buf + len, size - len);
		len += n > 0 ? (size_t)n : 0;
	}
	if (fd >= 0)
		close(fd);
	return len;
}

static void end(const char *pid)
{
	char name[64] = "";

	read_proc(pid, "comm", name, sizeof(name) - 1);
	printf("left behind in the guest: %s %s", pid, name);
	kill((pid_t)atol(pid), SIGKILL);
}

/* marked() - how many there are; the last look names and kills them */
static int marked(const char *mark, bool last)
{
	static char buf[1 << 17];
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	int count = 0;

	while (dir && (entry = readdir(dir))) {
		size_t len;

		if (entry->d_name[0] < '0' || entry->d_name[0] > '9' ||
		    atol(entry->d_name) == getpid())
			continue;
		len = read_proc(entry->d_name, "environ", buf, sizeof(buf));
		if (!memmem(buf, len, mark, strlen(mark)))
			continue;
		count++;
		if (last)
			end(entry->d_name);
	}
	if (dir)
		closedir(dir);
	return count;
}

static int drop(const char *path, const struct stat *st, int type,
		struct FTW *at)
{
	(void)st;
	(void)type;
	if (at->level > 0 && remove(path))
		printf("cannot remove %s: %s\n", path, strerror(errno));
	return 0;
}

int main(int argc, char **argv)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };
	char mark[256];
	int i, left = 1;

	if (argc < 2) {
		fprintf(stderr, "usage: tidy MARK [FOLDER]\n");
		return 2;
	}
	snprintf(mark, sizeof(mark), "DS_TEST_MARK=%s", argv[1]);
	for (i = 1; i <= TRIES && left; i++) {
		left = marked(mark, i == TRIES);
		if (left)
			nanosleep(&pause, NULL);
	}
	if (argc > 2)
		nftw(argv[2], drop, 16, FTW_DEPTH | FTW_PHYS);
	return left != 0;
}
