/* SPDX-License-Identifier: MIT */
/*
 * device.c - where a guest finds the memory that it shares with its host
 *
 * Theory of operation. QEMU's ivshmem is PCI device 1af4:1110: BAR0 has the
 * registers, BAR1 is there for the kind with a doorbell only (its MSI-X
 * table), BAR2 is the memory. sysfs has a file for each; to map it needs no
 * driver, but the privilege to open it (root, or an owner that udev gave it).
 *
 * resource2 rather than resource2_wc: the caching that the guest asks for is
 * ignored by KVM on Intel, but counts on AMD, and write-combined stores reach
 * memory in any order, which counters after cells must not.
 *
 * Memory of the host's devices may be ivshmem devices, too, plugged in by the
 * daemon (vm/plug.c): they say that they have several functions, and have one.
 *
 * /dev/mmapper of User-Mode Linux (iomem=mmapper,FILE) does not tell its size
 * and refuses a map that is larger: the daemon's header in its first page
 * tells how much there is to map.
 */
#include "wire/device.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/num.h"
#include "wire/channel.h"

#define IVSHMEM_VENDOR	0x1af4u
#define IVSHMEM_DEVICE	0x1110u
#define DOORBELL_OFFSET	12
#define HEADER_TYPE	0x0e	/* in the configuration space */
#define MULTIFUNCTION	0x80

static int join(char out[PATH_MAX], const char *dir, const char *name)
{
	int n = snprintf(out, PATH_MAX, "%s/%s", dir, name);

	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

/* A number in a file of a device, 0 if there is none. */
static unsigned long number(const char *dir, const char *name)
{
	char *text cleanup_free = NULL;
	char path[PATH_MAX];

	if (join(path, dir, name) < 0 || fd_read_all(path, 64, &text) < 0)
		return 0;
	return strtoul(text, NULL, 0);
}

/* Is it a function of a device that has several of them? */
static bool says_multifunction(const char *dir)
{
	char path[PATH_MAX];
	uint8_t type = 0;
	int fd cleanup_fd = join(path, dir, "config") ? -1 :
			    open(path, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && pread(fd, &type, 1, HEADER_TYPE) == 1 &&
	       type & MULTIFUNCTION;
}

static bool has_siblings(const char *dir)
{
	const size_t last = strlen(dir) - 1;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s", dir);
	for (const char *fn = "01234567"; *fn; fn++) {
		path[last] = *fn;
		if (*fn != dir[last] && access(path, F_OK) == 0)
			return true;
	}
	return false;
}

static bool is_ivshmem(const char *dir)
{
	char path[PATH_MAX];
	struct stat st;

	return number(dir, "vendor") == IVSHMEM_VENDOR &&
	       number(dir, "device") == IVSHMEM_DEVICE &&
	       join(path, dir, "resource2") == 0 && stat(path, &st) == 0;
}

static bool is_plugged(const char *dir)
{
	return says_multifunction(dir) && !has_siblings(dir);
}

static enum device_kind kind_of(const char *dir)
{
	char path[PATH_MAX];
	struct stat st;

	if (!is_ivshmem(dir) || is_plugged(dir))
		return DEVICE_NONE;
	if (join(path, dir, "resource1") == 0 && stat(path, &st) == 0 &&
	    st.st_size > 0)
		return DEVICE_DOORBELL;
	return DEVICE_PLAIN;
}

void device_find(const char *pci, const char *mmapper, enum device_kind want,
		 struct device *out)
{
	DIR *d = opendir(pci);
	const struct dirent *entry;

	out->kind = DEVICE_NONE;
	while (d && (entry = readdir(d))) {
		char path[PATH_MAX];
		enum device_kind kind;

		if (entry->d_name[0] == '.' ||
		    join(path, pci, entry->d_name) < 0)
			continue;
		kind = kind_of(path);
		if (kind <= out->kind || (want && kind != want))
			continue;
		out->kind = kind;
		memcpy(out->path, path, sizeof(path));
	}
	if (d)
		closedir(d);
	if (out->kind == DEVICE_NONE && access(mmapper, F_OK) == 0) {
		out->kind = DEVICE_FILE;
		snprintf(out->path, sizeof(out->path), "%s", mmapper);
	}
}

/* What a daemon wrote into the first page, or 0. */
static uint64_t size_in_header(int fd)
{
	const volatile struct shm_header *h;
	uint64_t used = 0;

	h = mmap(NULL, SHM_HEADER_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	if (h == MAP_FAILED)
		return 0;
	if (h->magic == SHM_MAGIC)
		used = h->used;
	munmap((void *)(uintptr_t)h, SHM_HEADER_BYTES);
	return used <= SIZE_MAX / 2 ? used : 0;
}

/* A device that nobody has enabled does not answer. 0 or -errno. */
static int enable(const char *resource)
{
	const char *slash = strrchr(resource, '/');
	char dir[PATH_MAX], path[PATH_MAX];
	int fd cleanup_fd = -1;

	if (!slash || snprintf(dir, sizeof(dir), "%.*s",
			       (int)(slash - resource), resource) >= PATH_MAX ||
	    join(path, dir, "enable") < 0 || access(path, F_OK) < 0 ||
	    number(dir, "enable") != 0)
		return 0;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, "1", 1) == 1 ? 0 : -errno;
}

/*
 * Files of what a device has are made when the kernel has given it addresses; what
 * it has no room for has none.
 */
static bool has_no_room(const char *dir)
{
	char *text cleanup_free = NULL;
	char path[PATH_MAX];
	const char *line;

	if (join(path, dir, "resource0") < 0 || access(path, F_OK) < 0 ||
	    join(path, dir, "resource") < 0 ||
	    fd_read_all(path, PAGE_BYTES, &text) < 0)
		return false;
	line = strchr(text, '\n');
	line = line ? strchr(line + 1, '\n') : NULL;
	return line && strtoull(line + 1, NULL, 0) == 0;
}

int device_plugged(const char *pci, uint32_t address, uint64_t bytes,
		   char path[PATH_MAX])
{
	char name[32], dir[PATH_MAX];
	struct stat st;

	snprintf(name, sizeof(name), "0000:%02x:%02x.%x", address >> 8 & 0xff,
		 address >> 3 & 0x1f, address & 7);
	if (join(dir, pci, name) < 0 || join(path, dir, "resource2") < 0)
		return -ENAMETOOLONG;
	if (stat(path, &st) < 0)
		return has_no_room(dir) ? -ENOMEM : -EAGAIN;
	if (!is_ivshmem(dir) || !is_plugged(dir) ||
	    (uint64_t)st.st_size < bytes)
		return -ENODEV;
	return enable(path);
}

int device_map(const char *path, void **shm, size_t *size)
{
	int fd cleanup_fd = open(path, O_RDWR | O_CLOEXEC);
	struct stat st;
	uint64_t bytes;
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
		return -EINVAL;
	/* Where it fails, what is read there will say so. */
	if (S_ISREG(st.st_mode))
		(void)enable(path);
	bytes = S_ISCHR(st.st_mode) ? page_up(size_in_header(fd)) :
				      (uint64_t)st.st_size;
	if (bytes < SHM_HEADER_BYTES)
		return -EAGAIN;
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	*shm = p;
	*size = bytes;
	return 0;
}

/* Where in its page BAR0 begins: the first number in "resource". */
static size_t bar_in_page(const char *dir)
{
	return number(dir, "resource") % PAGE_BYTES;
}

int device_map_bell(const char *dir, void **page, volatile uint32_t **bell)
{
	char path[PATH_MAX];
	int fd cleanup_fd = -1;
	size_t at = bar_in_page(dir) + DOORBELL_OFFSET;
	int err = join(path, dir, "resource0");

	if (err)
		return err;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (at + sizeof(**bell) > PAGE_BYTES)
		return -EINVAL;
	*page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		     0);
	if (*page == MAP_FAILED)
		return -errno;
	*bell = (volatile uint32_t *)(void *)((char *)*page + at);
	return 0;
}
