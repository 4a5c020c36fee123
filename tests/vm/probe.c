/* SPDX-License-Identifier: MIT */
/*
 * probe.c - what the kernel below us can do: run in a guest by vm.bats
 *
 *	probe page TEXT		puts TEXT into a page of its own, prints its
 *				frame number and waits for the end of input
 *	probe pagemap FILE	prints what pagemap shows of pages of each kind
 *	probe peek FILE OFF	prints the string at OFF of a shared mapping
 *	probe poke FILE OFF TEXT
 *	probe uring FILE	prints what of io_uring works; FILE is mapped
 *	probe splice FILE	vmsplice of a read-only page of FILE
 *	probe shared FILE	writes to FILE through a shared mapping
 *	probe pressure PERCENT SECONDS
 *				takes so much of the memory that is available,
 *				and holds it for a while
 *	probe channels FILE	counts the channels in it that are claimed
 *
 * One finding a line, "name: value"; an errno is given by its name.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/io_uring.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "wire/channel.h"

#define PAGE 4096ul
#define SHM_SIZE (4ul << 20)

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void say(const char *name, long result)
{
	printf("%s: %s\n", name, result < 0 ? strerrorname_np(errno) : "ok");
}

static int must_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		fail(path);
	return fd;
}

static char *must_map(size_t len, int prot, int flags, int fd)
{
	char *p = mmap(NULL, len, prot, flags, fd, 0);

	if (p == MAP_FAILED)
		fail("mmap");
	return p;
}

static char *anonymous(size_t len)
{
	return must_map(len, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static uint64_t pagemap(const void *at)
{
	int fd = must_open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;

	if (pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)at / PAGE *
						     sizeof(entry))) !=
	    sizeof(entry))
		fail("pagemap");
	close(fd);
	return entry;
}

static uint64_t frame(uint64_t entry)
{
	return entry & ((UINT64_C(1) << 55) - 1);
}

static int do_page(char **argv)
{
	char *p = anonymous(PAGE);
	char c;

	snprintf(p, PAGE, "%s", argv[0]);
	mlock(p, PAGE);
	printf("%" PRIu64 "\n", frame(pagemap(p)));
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	return 0;
}

static void show_entry(const char *name, const volatile char *p, bool write)
{
	uint64_t e;

	if (write)
		*(volatile char *)p = 1;
	else
		(void)*p;
	e = pagemap((const char *)p);
	printf("%s: present %d swapped %d file %d exclusive %d frame %s\n",
	       name, (int)(e >> 63), (int)(e >> 62 & 1), (int)(e >> 61 & 1),
	       (int)(e >> 56 & 1), frame(e) ? "yes" : "no");
}

static int do_pagemap(char **argv)
{
	int fd = must_open(argv[0], O_RDONLY);
	char *p;

	show_entry("anonymous", anonymous(PAGE), true);
	show_entry("zero page", anonymous(PAGE), false);
	show_entry("shared anonymous",
		   must_map(PAGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1), true);
	p = must_map(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	show_entry("private file, read", p, false);
	show_entry("private file, written", p, true);
	show_entry("own text", (const char *)(uintptr_t)do_pagemap, false);
	return 0;
}

static int do_peek(char **argv)
{
	int fd = must_open(argv[0], O_RDWR);
	char *p = must_map(SHM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);

	printf("%.64s\n", p + strtoul(argv[1], NULL, 0) % (SHM_SIZE - 64));
	return 0;
}

static int do_poke(char **argv)
{
	int fd = must_open(argv[0], O_RDWR);
	char *p = must_map(SHM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);

	strcpy(p + strtoul(argv[1], NULL, 0) % (SHM_SIZE - 64), argv[2]);
	return 0;
}

static void try_buffer(int ring, const char *name, char *p, size_t len)
{
	struct iovec iov = { p, len };

	say(name, syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS,
			  &iov, 1));
	syscall(SYS_io_uring_register, ring, IORING_UNREGISTER_BUFFERS, NULL,
		0);
}

static int do_uring(char **argv)
{
	struct io_uring_params params = { 0 };
	int ring = (int)syscall(SYS_io_uring_setup, 4, &params);
	int fd = must_open(argv[0], O_RDWR);
	char *p;

	say("io_uring_setup", ring);
	if (ring < 0)
		return 1;
	try_buffer(ring, "anonymous buffer", anonymous(1 << 20), 1 << 20);
	try_buffer(ring, "shared anonymous buffer",
		   must_map(PAGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1), PAGE);
	p = must_map(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	try_buffer(ring, "private file buffer, unwritten", p, PAGE);
	*p = 1;
	try_buffer(ring, "private file buffer, written", p, PAGE);
	try_buffer(ring, "read-only private file buffer",
		   must_map(PAGE, PROT_READ, MAP_PRIVATE, fd), PAGE);
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		say("shared file mapping", -1);
	else
		try_buffer(ring, "shared file buffer", p, PAGE);
	return 0;
}

static int do_splice(char **argv)
{
	int fd = must_open(argv[0], O_RDONLY), ends[2];
	struct iovec iov = { .iov_len = PAGE };
	char got[64] = "";
	ssize_t n;

	if (pipe(ends))
		fail("pipe");
	iov.iov_base = must_map(PAGE, PROT_READ, MAP_PRIVATE, fd);
	n = vmsplice(ends[1], &iov, 1, SPLICE_F_GIFT);
	say("vmsplice", n);
	if (n < 0)
		return 1;
	if (read(ends[0], got, sizeof(got)) != sizeof(got))
		fail("read");
	say("the same bytes", memcmp(got, iov.iov_base, sizeof(got)) ? -1 : 0);
	return 0;
}

static int do_channels(char **argv)
{
	char *p = must_map(SHM_SIZE, PROT_READ, MAP_SHARED,
			   must_open(argv[0], O_RDONLY));
	const volatile struct shm_header *head = (void *)p;
	unsigned int claimed = 0;

	for (uint32_t i = 0; i < head->channels && i < CHANNELS_MAX; i++)
		claimed += ((volatile struct channel *)shm_channel(p, i))
			   ->claim != 0;
	printf("%u\n", claimed);
	return 0;
}

static int do_shared(char **argv)
{
	int fd = must_open(argv[0], O_RDWR);
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	say("shared mapping", p == MAP_FAILED ? -1 : 0);
	if (p == MAP_FAILED)
		return 1;
	memcpy(p, "written through a mapping", 25);
	say("msync", msync(p, PAGE, MS_SYNC));
	return 0;
}

static unsigned long available_kib(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	unsigned long kib = 0;
	char line[128];

	while (f && !kib && fgets(line, sizeof(line), f))
		sscanf(line, "MemAvailable: %lu", &kib);
	if (f)
		fclose(f);
	return kib;
}

static int do_pressure(char **argv)
{
	size_t len = available_kib() / 100 * strtoul(argv[0], NULL, 0) * 1024;
	int oom = must_open("/proc/self/oom_score_adj", O_WRONLY);
	char *p = must_map(len, PROT_READ | PROT_WRITE, MAP_PRIVATE |
			   MAP_ANONYMOUS | MAP_NORESERVE, -1);

	/* Of all that is there it is the one to be killed. */
	if (write(oom, "1000", 4) != 4)
		fail("oom_score_adj");
	for (size_t at = 0; at + PAGE <= len; at += PAGE)
		for (size_t i = 0; i < PAGE; i += 32)
			*(uint64_t *)(p + at + i) = (at + i) *
						    0x9e3779b97f4a7c15ull;
	sleep((unsigned int)strtoul(argv[1], NULL, 0));
	return 0;
}

static const struct {
	const char *name;
	int nargs;
	int (*run)(char **argv);
} probes[] = {
	{ "page", 1, do_page },		{ "pagemap", 1, do_pagemap },
	{ "peek", 2, do_peek },		{ "poke", 3, do_poke },
	{ "uring", 1, do_uring },	{ "splice", 1, do_splice },
	{ "shared", 1, do_shared },	{ "pressure", 2, do_pressure },
	{ "channels", 1, do_channels },
};

int main(int argc, char **argv)
{
	size_t i;

	for (i = 0; i < sizeof(probes) / sizeof(*probes); i++)
		if (argc > 1 && !strcmp(argv[1], probes[i].name) &&
		    argc == probes[i].nargs + 2)
			return probes[i].run(argv + 2);
	fprintf(stderr, "usage: probe NAME ARG...; see probe.c\n");
	return 2;
}
