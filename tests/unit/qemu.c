/* SPDX-License-Identifier: MIT */
/* qemu.c - what QEMU prints and how it is called, as we understand it */
#include "vm/qemu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "tap.h"

#define GIB (1ULL << 30)

/* QEMU 7.2, q35 of 3 GiB with VGA and ivshmem-plain, after the firmware. */
static const char q35[] =
	"FlatView #0\r\n"
	" AS \"I/O\", root: io\r\n"
	" Root memory region: io\r\n"
	"  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan\r\n"
	"\r\n"
	"FlatView #1\r\n"
	" AS \"memory\", root: system\r\n"
	" AS \"cpu-memory-0\", root: system\r\n"
	" AS \"e1000e\", root: bus master container\r\n"
	" Root memory region: system\r\n"
	"  0000000000000000-000000000009ffff (prio 0, ram): ram\r\n"
	"  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem\r\n"
	"  00000000000c0000-00000000000cafff (prio 0, rom): ram"
	" @00000000000c0000\r\n"
	"  00000000000e8000-00000000000effff (prio 0, ram): ram"
	" @00000000000e8000\r\n"
	"  0000000000100000-000000007fffffff (prio 0, ram): ram"
	" @0000000000100000\r\n"
	"  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram\r\n"
	"  00000000fe000000-00000000fe3fffff (prio 1, ram): ds\r\n"
	"  00000000febd0000-00000000febd004f (prio 0, i/o): msix-table\r\n"
	"  00000000febd4400-00000000febd441f (prio 0, i/o): vga ioports"
	" remapped\r\n"
	"  0000000100000000-000000013fffffff (prio 0, ram): ram"
	" @0000000080000000\r\n"
	"\r\n"
	"FlatView #2\r\n"
	" AS \"cpu-smm-0\", root: memory\r\n"
	" Root memory region: memory\r\n"
	"  0000000140000000-000000014fffffff (prio 0, ram): smm\r\n";

static void test_flat(void)
{
	struct qemu_flat *v = NULL;
	size_t n = 0;

	ok(qemu_flat_parse(q35, &v, &n) == 0 && n == 6,
	   "writable RAM of the address space memory, and no other");
	ok(n == 6 && v[0].gpa == 0 && v[0].len == 0xa0000 &&
	   !strcmp(v[0].name, "ram"), "the first range");
	ok(n == 6 && v[2].gpa == 0x100000 && v[2].len == 0x7ff00000 &&
	   !strcmp(v[2].name, "ram"), "an offset is not part of the name");
	ok(n == 6 && !strcmp(v[4].name, "ds") && v[5].gpa == 4 * GIB &&
	   v[5].len == GIB, "the last range");
	free(v);
}

static bool parses_to(const char *lines, size_t want, const char *name)
{
	char text[2048];
	struct qemu_flat *v = NULL;
	size_t n = 0;
	bool good;

	snprintf(text, sizeof(text), "FlatView #0\n AS \"memory\", root:"
		 " system\n Root memory region: system\n%s", lines);
	good = qemu_flat_parse(text, &v, &n) == 0 && n == want &&
	       (!want || !strcmp(v[0].name, name));
	free(v);
	return good;
}

static void test_odd_flat(void)
{
	static const char *const nothing[] = {
		"", "\n", "  ", "  0", "  zz-yy (prio 0, ram): x\n",
		"  0-fff\n", "  0-fff (prio 0, ram)\n",
		"  1000-0 (prio 0, ram): backwards\n",
		"  0-ffffffffffffffff (prio 0, ram): everything\n",
		"  0-fff (prio 0, nv-ram): nvdimm\n",
		"  0-fff (prio 0, ramd): bar\n",
		"  0-fff (prio 0, romd): flash\n",
		"  0-fff (prio 0, i/o): ram\n",
		"  0-fff (prio 0, aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa): x\n",
	};
	char longest[1024] = "  0-fff (prio 0, ram): ";
	struct qemu_flat *v = NULL;
	size_t n = 0;
	bool good = true;

	for (size_t i = 0; i < ARRAY_SIZE(nothing); i++)
		good = parses_to(nothing[i], 0, "") && good;
	ok(good, "what is no writable RAM, or no line at all, is left out");
	ok(parses_to("  0-fff (prio 0, ram): a b @c @0000000000001000 \n", 1,
		     "a b @c @0000000000001000 ") &&
	   parses_to("  0-fff (prio 0, ram): a b @c @0000000000001000\n", 1,
		     "a b @c"), "a name may have blanks and more");
	ok(parses_to("  0x0-0xfff (prio 0, ram): ram @0x1000\n", 1, "ram") &&
	   parses_to("  0-fff (prio -1, ram): ram", 1, "ram"),
	   "numbers may be written in other ways");
	memset(longest + strlen(longest), 'x', 900);
	ok(parses_to(longest, 0, ""), "a name that is too long is left out");
	ok(qemu_flat_parse("", &v, &n) == -EPROTO &&
	   qemu_flat_parse("unknown command: 'info mtree'\n", &v, &n) ==
	   -EPROTO && qemu_flat_parse("x AS \"memory\", root: system", &v,
				      &n) == -EPROTO,
	   "a text without the address space is no layout");
}

static bool option_is(const char *opts, const char *implied, const char *key,
		      const char *want)
{
	char buf[16];

	if (!qemu_option(opts, implied, key, buf, sizeof(buf)))
		return !want;
	return want && !strcmp(buf, want);
}

static void test_options(void)
{
	ok(option_is("alpha", "guest", "guest", "alpha") &&
	   option_is("guest=alpha,debug-threads=on", "guest", "guest",
		     "alpha") &&
	   option_is("debug-threads=on,guest=alpha", "guest", "guest",
		     "alpha"), "-name in its three forms");
	ok(option_is("a,,b", "guest", "guest", "a,b") &&
	   option_is("guest=a,,,x=y", "guest", "guest", "a,") &&
	   option_is("guest=a,,,x=y", "guest", "x", "y"),
	   "two commas are one");
	ok(option_is("q35,share", "type", "share", "on") &&
	   option_is("x=y", NULL, "type", NULL) &&
	   option_is("q35", NULL, "q35", "on") &&
	   option_is("", "type", "type", "") &&
	   option_is("m=1,m=2", NULL, "m", "2"),
	   "flags, nothing, and the last one");
	ok(option_is("guest=0123456789abcdef", NULL, "guest", NULL) &&
	   option_is("guest=0123456789abcde", NULL, "guest",
		     "0123456789abcde"), "what is too long is not there");
	ok(option_is("{\"id\":\"ram\",\"size\":4096,\"share\":true}", NULL,
		     "id", "ram") &&
	   option_is("{\"id\":\"ram\",\"size\":4096,\"share\":true}", NULL,
		     "size", "4096") &&
	   option_is("{\"id\":\"ram\",\"share\":true}", NULL, "share",
		     "on") &&
	   option_is("{\"id\":[1],\"share\":true}", NULL, "id", NULL) &&
	   option_is("{\"id\":", NULL, "id", NULL), "JSON");
}

static bool laid_out(const char *machine, uint64_t size, uint64_t off,
		     uint64_t low)
{
	const uint64_t high = size - low;
	struct ram ram;
	uint64_t at;
	bool good;

	ram_init(&ram, -1, size + off);
	good = qemu_layout(&ram, machine, size, off) == 0 &&
	       ram.n == (high ? 3 : 2) && ram.v[0].gpa == 0 &&
	       ram.v[0].len == 0xa0000 && ram.v[0].off == off &&
	       ram.v[1].gpa == 0x100000 && ram.v[1].len == low - 0x100000 &&
	       ram.v[1].off == off + 0x100000;
	if (high)
		good = good && ram_find(&ram, 4 * GIB, high, &at) == 0 &&
		       at == off + low &&
		       ram_find(&ram, 4 * GIB, high + 1, &at) == -EFAULT;
	good = good && ram_find(&ram, low, 1, &at) == -EFAULT;
	ram_fini(&ram);
	return good;
}

static bool unknown(const char *machine)
{
	struct ram ram;
	bool good;

	ram_init(&ram, -1, GIB);
	good = qemu_layout(&ram, machine, GIB, 0) == -ENOTSUP && ram.n == 0;
	ram_fini(&ram);
	return good;
}

/* Sizes where QEMU 7.2 changes its mind, as its own `info mtree -f` has it. */
static void test_layout(void)
{
	const uint64_t mib = GIB / 1024;

	ok(laid_out("q35", 512 * mib, 0, 512 * mib) &&
	   laid_out("q35", 2815 * mib, 0, 2815 * mib) &&
	   laid_out("q35", 2816 * mib, 0, 2 * GIB) &&
	   laid_out("q35", 16 * GIB, 0, 2 * GIB), "q35");
	ok(laid_out("pc", 512 * mib, 0, 512 * mib) &&
	   laid_out("pc", 3583 * mib, 0, 3583 * mib) &&
	   laid_out("pc", 3584 * mib, 0, 3 * GIB) &&
	   laid_out("pc", 16 * GIB, 0, 3 * GIB), "pc");
	ok(laid_out("microvm", 512 * mib, 0, 512 * mib) &&
	   laid_out("microvm", 3072 * mib, 0, 3 * GIB) &&
	   laid_out("microvm", 3073 * mib, 0, 3 * GIB), "microvm");
	ok(laid_out("pc-q35-7.2", 4 * GIB, 0, 2 * GIB) &&
	   laid_out("pc-q35-4.0.1", 4 * GIB, 0, 2 * GIB) &&
	   laid_out("pc-i440fx-10.1", 4 * GIB, 0, 3 * GIB), "versions");
	ok(laid_out("q35", 4 * GIB, GIB, 2 * GIB), "RAM later in the file");
	ok(unknown("") && unknown("isapc") && unknown("virt") &&
	   unknown("pc-i440fx-1.7") && unknown("pc-q35-") &&
	   unknown("pc-q35-rhel9.2.0") && unknown("pc-q35-7") &&
	   unknown("pc-q35-7.") && unknown("pc-q35-7.2-custom") &&
	   unknown("pc-q35- 7.2") && unknown("pc-q35--7.2") &&
	   unknown("microvm-2.0") && unknown("Q35"),
	   "every other type is unknown");
}

int main(void)
{
	test_flat();
	test_odd_flat();
	test_options();
	test_layout();
	return tap_end();
}
