/* SPDX-License-Identifier: MIT */
/* doctor.h - `darkshadow doctor` */
#ifndef TOOL_DOCTOR_H
#define TOOL_DOCTOR_H

int doctor_main(int argc, char **argv);	/* exit status */

#endif
