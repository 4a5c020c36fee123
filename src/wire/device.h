/* SPDX-License-Identifier: MIT */
/* device.h - where a guest finds the memory that it shares with its host */
#ifndef WIRE_DEVICE_H
#define WIRE_DEVICE_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#define DEVICE_PCI	"/sys/bus/pci/devices"
#define DEVICE_MMAPPER	"/dev/mmapper"

enum device_kind {
	DEVICE_NONE,
	DEVICE_PLAIN,		/* ivshmem-plain: path is its directory */
	DEVICE_DOORBELL,	/* ivshmem-doorbell: the same */
	DEVICE_FILE,		/* path is the file, as /dev/mmapper of UML */
};

struct device {
	enum device_kind kind;
	char path[PATH_MAX];
};

/*
 * device_find() - an ivshmem device below pci, or else mmapper
 *
 * Not one that was plugged in to show a device's memory: what that begins with is
 * no daemon's word.
 *
 * pci, mmapper: DEVICE_PCI and DEVICE_MMAPPER (others: for tests). want: the
 * kind of PCI device; DEVICE_NONE: any, one with a doorbell before a plain one.
 */
void device_find(const char *pci, const char *mmapper, enum device_kind want,
		 struct device *out);

/*
 * device_plugged() - the memory of one that was plugged in for a mapping
 *
 * pci: as above. address: bus << 8 | slot << 3 | function. 0: path is a file to
 * map its memory from, of `bytes` at least. -EAGAIN: the kernel has not found it
 * yet. -ENODEV: it is something else. -ENOMEM: the kernel has no room for it.
 * Others: it cannot be enabled.
 */
int device_plugged(const char *pci, uint32_t address, uint64_t bytes,
		   char path[PATH_MAX]);

/*
 * device_map() - all of the shared memory in a file, or in a device
 *
 * *shm and *size: the caller's to munmap(). 0; -EAGAIN: it is too small to
 * hold what a daemon puts there (a character device: no daemon has been
 * there); -errno of open(2) and mmap(2).
 */
int device_map(const char *path, void **shm, size_t *size);

/*
 * device_map_bell() - the doorbell register of the device in a directory
 *
 * *page: the mapping that *bell is in, PAGE_BYTES, the caller's. 0 or -errno.
 */
int device_map_bell(const char *dir, void **page, volatile uint32_t **bell);

#endif
