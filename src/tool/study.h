/* SPDX-License-Identifier: MIT */
/* study.h - `darkshadow study` */
#ifndef TOOL_STUDY_H
#define TOOL_STUDY_H

int study_main(int argc, char **argv);	/* exit status */

#endif
