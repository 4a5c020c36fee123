/* SPDX-License-Identifier: MIT */
/*
 * log.h - messages for the person at the terminal, on standard error
 *
 * One message a line, "darkshadow: ...". Leaves of the program are silent and
 * return -errno; a message is logged once, where the user's wish is known.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);
void log_set_name(const char *name);	/* borrowed; "darkshadow" at first */
void log_msg(enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#define log_err(...)	log_msg(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)	log_msg(LOG_WARN, __VA_ARGS__)
#define log_info(...)	log_msg(LOG_INFO, __VA_ARGS__)
#define log_debug(...)	log_msg(LOG_DEBUG, __VA_ARGS__)

#endif
