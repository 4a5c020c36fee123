/* SPDX-License-Identifier: MIT */
/* shm.h - sessions through a shared file: ivshmem-plain, /dev/mmapper, any file */
#ifndef WIRE_SHM_H
#define WIRE_SHM_H

#include "wire/transport.h"

/*
 * connect: ARGS is the file, a device's directory below DEVICE_PCI, or NULL:
 * what device_find() finds. listen: ARGS is the file; it is made with
 * SHM_DEFAULT bytes and mode 0600 where it does not exist, and stays.
 */
extern const struct transport_ops shm_ops;

#endif
