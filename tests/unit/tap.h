/* SPDX-License-Identifier: MIT */
/* tap.h - a unit test's results, as the Test Anything Protocol has them */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static int done, failed;

/* ok() - one test's verdict, which it returns; okf(): its name is a format */
__attribute__((unused, format(printf, 2, 3)))
static bool okf(bool good, const char *fmt, ...)
{
	va_list ap;

	printf("%sok %d - ", good ? "" : "not ", ++done);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	/* Before a fork that would say it again, or an end by a signal. */
	fflush(stdout);
	failed += !good;
	return good;
}

__attribute__((unused)) static bool ok(bool good, const char *what)
{
	return okf(good, "%s", what);
}

/* What main() returns. */
static int tap_end(void)
{
	printf("1..%d\n", done);
	return failed != 0;
}

#endif
