/* SPDX-License-Identifier: MIT */
/* calls.c - the table of system calls against the kernel's header and itself */
#include "wire/calls.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "tap.h"

#define LETTERS	"fdpPTbBVnomtwFcakiulx*rM"

/* Holds for every line of the table, and every line that breaks it is told. */
static void every(bool (*holds)(const struct call *call), const char *rule)
{
	bool good = true;

	for (uint64_t nr = 0; nr < CALL_NR_MAX; nr++) {
		const struct call *call = calls_get(nr);

		if (!call || holds(call))
			continue;
		printf("# %s \"%s\" %#x\n", call->name, call->args,
		       call->flags);
		good = false;
	}
	okf(good, "%s", rule);
}

static bool letters_legal(const struct call *call)
{
	return strlen(call->args) <= 6 &&
	       strspn(call->args, LETTERS) == strlen(call->args);
}

static bool path_follows_d(const struct call *call)
{
	for (const char *a = call->args; *a; a++) {
		if (*a == 'd' && a[1] != 'p' && a[1] != 'P')
			return false;
	}
	return true;
}

static bool size_follows_buffer(const struct call *call)
{
	for (const char *a = call->args; *a; a++) {
		if (strchr("bB", *a) && a[1] != 'n')
			return false;
		if (*a == 'V' && a[1] != 'u')
			return false;
	}
	return true;
}

static bool implies(const struct call *call, uint32_t has, uint32_t needs)
{
	return !(call->flags & has) || (call->flags & needs) == needs;
}

static bool newfd_is_forwarded(const struct call *call)
{
	return implies(call, CALL_NEWFD, CALL_FORWARD | CALL_TRACED);
}

static bool any_flag_is_traced(const struct call *call)
{
	return implies(call, ~(uint32_t)CALL_TRACED, CALL_TRACED);
}

static bool net_is_forwarded(const struct call *call)
{
	return implies(call, CALL_NET, CALL_FORWARD);
}

static bool memory_is_not_forwarded(const struct call *call)
{
	return !(call->flags & CALL_MEMORY) || !(call->flags & CALL_FORWARD);
}

static bool fds_and_paths_are_traced(const struct call *call)
{
	return !strpbrk(call->args, "fdpP") || call->flags & CALL_TRACED;
}

static FILE *open_header(void)
{
	static const char *const paths[] = {
		"/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
		"/usr/include/asm/unistd_64.h",
	};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		FILE *f = fopen(paths[i], "re");

		if (f)
			return f;
	}
	return NULL;
}

/* What the header may lack, as our table is newer than it can be. */
static bool is_newer(uint64_t nr, uint64_t highest)
{
	return nr > highest || nr == 335 || nr == 336;
}

static bool table_has(const char *name, uint64_t nr, uint64_t ours)
{
	const struct call *call = calls_get(nr);

	/* Nor need the table have what a later header has. */
	if (nr > ours || (call && !strcmp(call->name, name)))
		return true;
	printf("# %s is %llu, the table has %s\n", name,
	       (unsigned long long)nr, call ? call->name : "nothing");
	return false;
}

static void check_header(void)
{
	static bool known[CALL_NR_MAX];
	uint64_t ours = 0, highest = 0;
	bool same = true, none_else = true;
	FILE *f = open_header();
	char line[256], name[128];
	unsigned long long nr;

	if (!f) {
		okf(true, "numbers are the header's # SKIP no asm/unistd_64.h");
		okf(true, "no others # SKIP no asm/unistd_64.h");
		return;
	}
	for (uint64_t i = 0; i < CALL_NR_MAX; i++) {
		if (calls_get(i))
			ours = i;
	}
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "#define __NR_%127s %llu", name, &nr) != 2)
			continue;
		same &= table_has(name, nr, ours);
		if (nr < CALL_NR_MAX)
			known[nr] = true;
		highest = nr > highest ? nr : highest;
	}
	fclose(f);
	okf(same && highest, "every call of the kernel's header has its number");
	for (uint64_t i = 0; i < CALL_NR_MAX; i++) {
		if (calls_get(i) && !known[i] && !is_newer(i, highest)) {
			printf("# %s is not in the header\n",
			       calls_get(i)->name);
			none_else = false;
		}
	}
	okf(none_else, "the table has no calls that the header does not know");
}

static void check_lookup(void)
{
	bool good = true;

	for (uint64_t nr = 0; nr < CALL_NR_MAX; nr++) {
		const struct call *call = calls_get(nr);

		if (call && calls_find(call->name) != (int)nr)
			good = false;
	}
	okf(good, "calls_find() finds every name at its only number");
	okf(calls_find("no_such_call") == -ENOENT && calls_find("") == -ENOENT,
	    "calls_find() does not find what is not there");
	/* 0x40000000 is the x32 bit: those are other calls. */
	okf(!calls_get(400) && !calls_get(CALL_NR_MAX) &&
	    !calls_get(UINT64_MAX) && !calls_get(0x40000000 | SYS_read),
	    "calls_get() refuses gaps, what is out of range, and x32 numbers");
}

/* What the rest of the program relies on, said once more in other words. */
static const struct {
	long nr;
	const char *args;
	uint32_t flags;
} spots[] = {
	{ SYS_read, "fbn", CALL_TRACED | CALL_FORWARD },
	{ SYS_openat, "dpom", CALL_TRACED | CALL_FORWARD | CALL_NEWFD },
	{ SYS_lstat, "P*", CALL_TRACED | CALL_FORWARD },
	{ SYS_symlinkat, "TdP", CALL_TRACED | CALL_FORWARD | CALL_NAMES },
	{ SYS_getpid, "", 0 },
	{ SYS_futex, "*iu**u", 0 },
	{ SYS_rt_sigaction, "i**n", 0 },
	{ SYS_clock_nanosleep, "ix**", 0 },
	{ SYS_exit_group, "i", 0 },
	{ SYS_getrandom, "bnx", 0 },
	{ SYS_mmap, "*nrMfx", CALL_TRACED | CALL_MEMORY | CALL_SPECIAL },
	{ SYS_shmat, "i*x", CALL_TRACED | CALL_MEMORY },
	{ SYS_execveat, "dp**t", CALL_TRACED | CALL_MEMORY | CALL_SPECIAL },
	{ SYS_dup, "f", CALL_TRACED | CALL_FORWARD | CALL_NEWFD |
			CALL_SPECIAL | CALL_OWN_FD },
	{ SYS_fcntl, "fF*", CALL_TRACED | CALL_FORWARD | CALL_SPECIAL |
			    CALL_OWN_FD },
	{ SYS_accept4, "f**x", CALL_TRACED | CALL_FORWARD | CALL_NEWFD |
			       CALL_NET },
	{ SYS_sendto, "fBnxBn", CALL_TRACED | CALL_FORWARD | CALL_NET },
	{ SYS_pipe2, "*x", CALL_TRACED | CALL_FORWARD },
	{ SYS_epoll_ctl, "fif*", CALL_TRACED | CALL_FORWARD | CALL_SPECIAL },
	{ SYS_io_uring_enter, "fuux*n", CALL_TRACED },
	{ SYS_open_by_handle_at, "f*o", CALL_TRACED },
	{ SYS_mount, "ppTx*", CALL_TRACED | CALL_NAMES },
	{ 452, "dpmt", CALL_TRACED | CALL_FORWARD },	/* fchmodat2 */
	{ 462, "*nx", CALL_TRACED | CALL_MEMORY },	/* mseal */
};

static void check_spots(void)
{
	bool good = true;

	for (size_t i = 0; i < sizeof(spots) / sizeof(spots[0]); i++) {
		const struct call *call = calls_get((uint64_t)spots[i].nr);

		if (call && !strcmp(call->args, spots[i].args) &&
		    call->flags == spots[i].flags)
			continue;
		printf("# call %ld\n", spots[i].nr);
		good = false;
	}
	okf(good, "well-known calls have the arguments and flags they need");
}

int main(void)
{
	check_header();
	every(letters_legal, "arguments are at most six known letters");
	every(path_follows_d, "a path follows its directory descriptor");
	every(size_follows_buffer, "a size follows each buffer and vector");
	every(newfd_is_forwarded, "what returns a descriptor is forwarded");
	every(any_flag_is_traced, "what has any flag is traced");
	every(net_is_forwarded, "socket calls are forwarded");
	every(memory_is_not_forwarded,
	      "a shadow never changes its address space for its target");
	every(fds_and_paths_are_traced,
	      "what has descriptors or paths as arguments is traced");
	check_lookup();
	check_spots();
	return tap_end();
}
