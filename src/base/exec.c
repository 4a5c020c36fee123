/* SPDX-License-Identifier: MIT */
/* exec.c - becoming a command that the user named */
#include "base/exec.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/exit.h"
#include "base/log.h"

_Noreturn void exec_command(char **argv)
{
	int err;

	execvp(argv[0], argv);
	err = errno;
	if (err == ENOENT || err == ENOTDIR) {
		log_err("%s: command not found%s", argv[0],
			strchr(argv[0], '/') ? "" : " in PATH");
		_exit(EXIT_NOT_FOUND);
	}
	log_err("%s: cannot be executed: %s", argv[0], strerror(err));
	_exit(EXIT_CANNOT_EXEC);
}
