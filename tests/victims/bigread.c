/* SPDX-License-Identifier: MIT */
/*
 * bigread.c - `bigread FILE MIB` reads so much into 64 MiB of memory
 */
#include "victim.h"

int main(int argc, char **argv)
{
	size_t chunk = 64 << 20, want, done = 0;
	char *mem;
	int fd;

	victim_doing = "bigread";
	check(argc == 3, "usage: %s FILE MIB", argv[0]);
	want = (size_t)strtoul(argv[2], NULL, 10) << 20;
	mem = map(chunk, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	fd = (int)sys(open(argv[1], O_RDONLY));
	while (done < want) {
		ssize_t n;

		mem[0] = mem[chunk - 1] = 'x';
		n = sys(read(fd, mem, chunk));
		check(n > 0, "the file ends after %zu bytes", done);
		check(mem[0] == 0 && mem[n - 1] == 0,
		      "the memory does not hold what was read");
		done += (size_t)n;
	}
	same(done, want);
	return 0;
}
