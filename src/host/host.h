/* SPDX-License-Identifier: MIT */
/* host.h - `darkshadow host` */
#ifndef HOST_HOST_H
#define HOST_HOST_H

#include "wire/rules.h"

int host_main(int argc, char **argv);	/* exit status */

/*
 * host_serve_one() - the session at the other end of a socket, until it ends
 *
 * sock is taken over; 0 or -errno, and it is said.
 */
int host_serve_one(const struct rules *policy, int sock);

#endif
