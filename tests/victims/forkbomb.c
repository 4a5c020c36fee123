/* SPDX-License-Identifier: MIT */
/*
 * forkbomb.c - hundreds of short processes, each with a forwarded file
 *
 * `forkbomb --append FILE LINE` is what spawned and executed children are.
 */
#include "victim.h"

#include <spawn.h>

enum { CHILDREN = 500, AT_ONCE = 20 };

extern char **environ;

static int append(const char *path, const char *line)
{
	size_t len = strlen(line);
	int fd = (int)sys(open(path, O_WRONLY | O_APPEND));

	same(write(fd, line, len), len);
	sys(close(fd));
	return 0;
}

/* Every fourth is spawned, every fourth executed after vfork. */
static pid_t launch(int i, const char *path)
{
	static char line[32];
	char *argv[] = { (char *)(uintptr_t)victim_self,
			 (char *)(uintptr_t)"--append",
			 (char *)(uintptr_t)path, line, NULL };
	pid_t pid;
	int err;

	snprintf(line, sizeof(line), "child %d\n", i);
	switch (i % 4) {
	case 0:
		err = posix_spawn(&pid, victim_self, NULL, NULL, argv,
				  environ);
		check(err == 0, "posix_spawn: %s", strerror(err));
		return pid;
	case 1:
		pid = vfork();
		if (pid == 0) {
			execv(victim_self, argv);
			_exit(99);
		}
		return (pid_t)sys(pid);
	default:
		spawned(pid)
			append(path, line);
		return pid;
	}
}

static void every_line_once(const char *path, int n)
{
	static bool seen[CHILDREN];
	FILE *f = fopen(path, "r");
	int i, found = 0;
	char line[64];

	check(f != NULL, "fopen: %s", strerror(errno));
	memset(seen, 0, sizeof(seen));
	while (fgets(line, sizeof(line), f)) {
		check(sscanf(line, "child %d", &i) == 1 && i >= 0 && i < n,
		      "a damaged line: %s", line);
		check(!seen[i], "the line of child %d came twice", i);
		seen[i] = true;
		found++;
	}
	same(found, n);
	fclose(f);
}

static void bomb(void)
{
	const int n = fewer(CHILDREN);
	pid_t pids[AT_ONCE];

	put(in("lines"), "");
	for (int i = 0; i < n; i++) {
		if (i >= AT_ONCE)
			reap(pids[i % AT_ONCE]);
		pids[i % AT_ONCE] = launch(i, in("lines"));
	}
	for (int i = 0; i < AT_ONCE; i++)
		reap(pids[i]);
	refused(waitpid(-1, NULL, 0), ECHILD);
	every_line_once(in("lines"), n);
}

/* A tree: every process has two children, five generations of them. */
static void grow(int depth, int fd)
{
	pid_t left, right;

	same(write(fd, "x", 1), 1);
	if (depth == 0)
		return;
	spawned(left)
		grow(depth - 1, fd);
	spawned(right)
		grow(depth - 1, fd);
	reap(left);
	reap(right);
}

static void tree(void)
{
	struct stat st;
	int fd = (int)sys(open(in("x"), O_WRONLY | O_CREAT | O_APPEND, 0600));

	grow(5, fd);
	sys(fstat(fd, &st));
	same(st.st_size, 63);
	sys(close(fd));
}

/* Children whose parents are gone before they forward. */
static void orphans(void)
{
	char byte;
	int fd;
	pid_t pid;

	sys(mkfifo(in("fifo"), 0600));
	fd = (int)sys(open(in("fifo"), O_RDWR));
	for (int i = 0; i < 10; i++) {
		spawned(pid) {
			pid_t inner, parent = getpid();

			spawned(inner) {
				while (getppid() == parent)
					nap_ms(1);
				same(write(fd, "o", 1), 1);
			}
		}
		reap(pid);
	}
	for (int i = 0; i < 10; i++)
		same(read(fd, &byte, 1), 1);
	sys(close(fd));
}

int main(int argc, char **argv)
{
	static const struct victim_case cases[] = {
		CASE(bomb), CASE(tree), CASE(orphans),
	};

	if (argc == 4 && strcmp(argv[1], "--append") == 0)
		return append(argv[2], argv[3]);
	return VICTIM_MAIN(argc, argv, cases);
}
