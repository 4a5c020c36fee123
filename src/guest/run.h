/* SPDX-License-Identifier: MIT */
/* run.h - `darkshadow run` */
#ifndef GUEST_RUN_H
#define GUEST_RUN_H

int run_main(int argc, char **argv);	/* exit status */

#endif
