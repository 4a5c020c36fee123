/* SPDX-License-Identifier: MIT */
/* hypercall.h - shm with a doorbell: QEMU's ivshmem-doorbell, and its server */
#ifndef WIRE_HYPERCALL_H
#define WIRE_HYPERCALL_H

#include "wire/transport.h"

/*
 * connect: ARGS is the directory of the device below DEVICE_PCI, or NULL: the
 * one that is there. listen: ARGS is the socket that QEMU connects to, or
 * "connect=" and the one that QEMU listens at.
 */
extern const struct transport_ops hypercall_ops;

#endif
