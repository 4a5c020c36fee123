/* SPDX-License-Identifier: MIT */
/* exit.h - exit statuses of our own, as env(1) and timeout(1) have them */
#ifndef BASE_EXIT_H
#define BASE_EXIT_H

#define EXIT_OWN_FAILURE	125
#define EXIT_CANNOT_EXEC	126
#define EXIT_NOT_FOUND		127

#endif
