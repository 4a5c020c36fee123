/* SPDX-License-Identifier: MIT */
/* host.h - `darkshadow host` */
#ifndef HOST_HOST_H
#define HOST_HOST_H

int host_main(int argc, char **argv);	/* exit status */

#endif
