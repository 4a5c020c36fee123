/* SPDX-License-Identifier: MIT */
/* maps.h - `darkshadow maps` */
#ifndef TOOL_MAPS_H
#define TOOL_MAPS_H

int maps_main(int argc, char **argv);	/* exit status */

#endif
