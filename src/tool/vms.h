/* SPDX-License-Identifier: MIT */
/* vms.h - `darkshadow vms` */
#ifndef TOOL_VMS_H
#define TOOL_VMS_H

int vms_main(int argc, char **argv);	/* exit status */

#endif
