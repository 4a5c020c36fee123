/* SPDX-License-Identifier: MIT */
/* exec.h - becoming a command that the user named */
#ifndef BASE_EXEC_H
#define BASE_EXEC_H

/*
 * exec_command() - execvp(3) with our own words for what failed
 *
 * Where it cannot be executed the process ends with EXIT_NOT_FOUND or
 * EXIT_CANNOT_EXEC, and a message.
 */
_Noreturn void exec_command(char **argv);

#endif
