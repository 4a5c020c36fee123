/* SPDX-License-Identifier: MIT */
/*
 * names.c - names whose way changes after it has been used often
 *
 * Whoever remembers where a directory's names lead must notice when that is
 * somewhere else: by a link that a process makes, a rename, another working
 * directory. The forwarded tree and the local one have files of one name and of
 * different sizes.
 */
#include "victim.h"

#define WARM 64

static char there[PATH_MAX], here[PATH_MAX];	/* directories of the case */

static const char *at(const char *dir, const char *name)
{
	static char bufs[4][PATH_MAX];
	static unsigned int next;
	char *buf = bufs[next++ % 4];

	snprintf(buf, PATH_MAX, "%.2000s/%.2000s", dir, name);
	return buf;
}

static void trees(void)
{
	snprintf(there, sizeof(there), "%s", in("tree"));
	snprintf(here, sizeof(here), "%s", local("tree"));
	sys(mkdir(there, 0755));
	sys(mkdir(here, 0755));
	sys(mkdir(at(here, "d"), 0755));
	put(at(there, "x"), "the host's");
	put(at(here, "x"), "own");
	put(at(here, "d/x"), "own");
}

static off_t size_of(const char *path)
{
	struct stat st;

	sys(stat(path, &st));
	return st.st_size;
}

static void hot(const char *path, off_t size)
{
	for (int i = 0; i < WARM; i++) {
		same(size_of(path), size);
		sys(access(path, R_OK));
	}
}

/* A directory's name comes to be that of a link to the other side. */
static void directory_moved(void)
{
	trees();
	for (int i = 0; i < fewer(8); i++) {
		hot(at(here, "d/x"), 3);
		sys(rename(at(here, "d"), at(here, "e")));
		refused(access(at(here, "d/x"), F_OK), ENOENT);
		sys(symlink(there, at(here, "d")));
		same(size_of(at(here, "d/x")), 10);
		hot(at(here, "d/x"), 10);
		sys(unlink(at(here, "d")));
		refused(access(at(here, "d/x"), F_OK), ENOENT);
		sys(rename(at(here, "e"), at(here, "d")));
		same(size_of(at(here, "d/x")), 3);
	}
}

static void file_linked(void)
{
	struct stat st;

	trees();
	for (int i = 0; i < fewer(8); i++) {
		hot(at(here, "x"), 3);
		sys(rename(at(here, "x"), at(here, "y")));
		sys(symlink(at(there, "x"), at(here, "x")));
		same(size_of(at(here, "x")), 10);
		hot(at(here, "x"), 10);
		sys(lstat(at(here, "x"), &st));
		check(S_ISLNK(st.st_mode), "lstat follows");
		sys(unlink(at(here, "x")));
		sys(link(at(here, "y"), at(here, "x")));
		sys(unlink(at(here, "y")));
		same(size_of(at(here, "x")), 3);
	}
}

/* It is another process that does it. */
static void moved_by_child(void)
{
	pid_t pid;

	trees();
	for (int i = 0; i < 4; i++) {
		hot(at(here, "d/x"), 3);
		spawned(pid) {
			sys(rename(at(here, "d"), at(here, "e")));
			sys(symlink(there, at(here, "d")));
		}
		reap(pid);
		same(size_of(at(here, "d/x")), 10);
		spawned(pid) {
			sys(unlink(at(here, "d")));
			sys(rename(at(here, "e"), at(here, "d")));
		}
		reap(pid);
		same(size_of(at(here, "d/x")), 3);
	}
}

static void other_directory(void)
{
	trees();
	sys(mkdir(at(there, "d"), 0755));
	put(at(there, "d/x"), "the host's");
	for (int i = 0; i < 8; i++) {
		sys(chdir(here));
		hot("x", 3);
		hot("d/x", 3);
		hot("d/../x", 3);
		sys(chdir(there));
		same(size_of("x"), 10);
		same(size_of("d/x"), 10);
		hot("x", 10);
		hot("d/x", 10);
		hot("d/../x", 10);
		refused(access("../../../../../nowhere", F_OK), ENOENT);
	}
}

/* By the descriptor of a directory, whose number becomes another's. */
static void by_descriptor(void)
{
	int fd = -1, want;
	struct stat st;

	trees();
	for (int i = 0; i < 8; i++) {
		want = (int)sys(open(i % 2 ? here : there,
				     O_RDONLY | O_DIRECTORY));
		check(fd < 0 || fd == want, "it is %d instead of %d", want, fd);
		fd = want;
		for (int k = 0; k < WARM; k++) {
			sys(fstatat(fd, "x", &st, 0));
			same(st.st_size, i % 2 ? 3 : 10);
			sys(fstatat(fd, "", &st, AT_EMPTY_PATH));
			check(S_ISDIR(st.st_mode), "not a directory");
			refused(fstatat(fd, "", &st, 0), ENOENT);
			refused(fstatat(fd, "x/", &st, 0), ENOTDIR);
			refused(fstatat(fd, "no", &st, 0), ENOENT);
		}
		sys(close(fd));
		refused(fstatat(fd, "x", &st, 0), EBADF);
	}
}

/* Paths that are not there, or not to their end. */
static void bad_pointers(void)
{
	char *page = map(2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	const char *volatile nowhere = (const char *)8;
	char *path;
	struct stat st;

	trees();
	hot(at(here, "x"), 3);
	refused(stat(nowhere, &st), EFAULT);
	refused(access(nowhere, F_OK), EFAULT);
	path = page + 4096 - strlen(at(here, "x")) - 1;
	strcpy(path, at(here, "x"));
	hot(path, 3);
	memmove(path + 1, path, strlen(path));	/* its end is behind the page */
	path++;
	page[4096] = '\0';
	hot(path, 3);
	sys(munmap(page + 4096, 4096));
	refused(stat(path, &st), EFAULT);
	sys(mprotect(page, 4096, PROT_NONE));
	refused(stat(path, &st), EFAULT);
	sys(munmap(page, 4096));
	refused(stat(path, &st), EFAULT);
	hot(at(here, "x"), 3);
}

int main(int argc, char **argv)
{
	static const struct victim_case cases[] = {
		CASE(directory_moved), CASE(file_linked), CASE(moved_by_child),
		CASE(other_directory), CASE(by_descriptor), CASE(bad_pointers),
	};

	return VICTIM_MAIN(argc, argv, cases);
}
