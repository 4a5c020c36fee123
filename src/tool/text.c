/* SPDX-License-Identifier: MIT */
/* text.c - names that somebody chose, for terminals and for JSON */
#include "tool/text.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

void text_plain(const char *text, char *buf, size_t size)
{
	size_t n = 0;

	for (; *text && n + 1 < size; text++)
		buf[n++] = *text >= ' ' && *text != 0x7f ? *text : '?';
	buf[n] = '\0';
}

json_t *text_json(const char *text)
{
	char buf[PATH_MAX];
	json_t *s;

	if (!*text)
		return json_null();
	s = json_string(text);
	if (s)
		return s;
	text_plain(text, buf, sizeof(buf));
	for (char *c = buf; *c; c++)
		if (*c & 0x80)
			*c = '?';
	return json_string(buf);
}

const char *text_size(uint64_t bytes, char buf[TEXT_SIZE_MAX])
{
	static const char units[] = "KMGTPE";
	double n = (double)bytes;
	int unit = -1;

	if (bytes < 1024) {
		snprintf(buf, TEXT_SIZE_MAX, "%u", (unsigned int)bytes);
		return buf;
	}
	/* What would be written as 1024 is one of the next. */
	do {
		n /= 1024;
		unit++;
	} while (n >= 1023.5);
	snprintf(buf, TEXT_SIZE_MAX, n < 9.95 ? "%.1f%c" : "%.0f%c", n,
		 units[unit]);
	return buf;
}
