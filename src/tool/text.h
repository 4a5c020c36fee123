/* SPDX-License-Identifier: MIT */
/* text.h - names that somebody chose, for terminals and for JSON */
#ifndef TOOL_TEXT_H
#define TOOL_TEXT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* text_plain() - nothing in it drives a terminal; cut where it does not fit */
void text_plain(const char *text, char *buf, size_t size);

/* text_json() - a string, though it may be no UTF-8; "" is null */
json_t *text_json(const char *text);

/* text_size() - bytes as a person reads them: 512, 4.0K, 13T */
#define TEXT_SIZE_MAX 8
const char *text_size(uint64_t bytes, char buf[TEXT_SIZE_MAX]);

#endif
