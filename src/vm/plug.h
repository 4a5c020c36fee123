/* SPDX-License-Identifier: MIT */
/* plug.h - devices' memory that daemons have plugged into QEMU */
#ifndef VM_PLUG_H
#define VM_PLUG_H

#include <stdbool.h>

#include "vm/qmp.h"

/*
 * plug_any() - is there any, of whatever daemon?
 *
 * Then QEMU must not be asked for `info mtree -f`: of what there is at the time
 * 7.2 keeps a reference, so its memory stays mapped in QEMU when it has gone from
 * the VM.
 */
bool plug_any(struct qmp *q);

#endif
