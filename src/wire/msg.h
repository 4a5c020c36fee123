/* SPDX-License-Identifier: MIT */
/*
 * msg.h - the control stream between tracer and daemon
 *
 * Fixed-size little-endian structs (DESIGN 8). The guest side asks, the host
 * side answers every request but MSG_RING with one MSG_REPLY or MSG_REPLY_TEXT,
 * in order; MSG_GONE and MSG_SIGNAL come unasked. Every message has one size, given by its
 * type: anything else ends the session. Descriptors travel beside a message
 * where the transport can carry them (loopback): which message carries how many
 * is said with it.
 */
#ifndef WIRE_MSG_H
#define WIRE_MSG_H

#include <stddef.h>
#include <stdint.h>

#define MSG_MAGIC	0x776f6473u	/* "sdow" */
#define MSG_VERSION	3u
#define MSG_RULE_MAX	3072
#define MSG_TEXT_MAX	MSG_RULE_MAX
#define MSG_EXTENTS_MAX	64
#define MSG_PLUGGED	0x10000u	/* | bus << 8 | slot << 3 | function */

enum msg_type {
	MSG_HELLO = 1,		/* + descriptor of guest RAM (arena) */
	MSG_POLICY,		/* rule number n of the policy, in the reply */
	MSG_RULE,		/* one rule that will be asked for */
	MSG_START,		/* all rules said: build what is needed */
	MSG_SHADOW_NEW,
	MSG_SHADOW_RESET,	/* exec: forget memory and threads */
	MSG_SHADOW_DROP,
	MSG_THREAD_NEW,
	MSG_THREAD_DROP,
	MSG_FILE,		/* + descriptor of a file to map from */
	MSG_FILE_DROP,
	MSG_WINDOW,		/* in a VM: a device's memory as a file to map
				 * from, and in the memory that is shared */
	MSG_MAP,
	MSG_FSIZE,		/* RLIMIT_FSIZE of the target */
	MSG_CANCEL,
	MSG_RING,		/* a thread's slot has a request; no reply */
	MSG_PLACE,		/* keep a thread on or off a core (loopback); no
				 * reply */
	MSG_ASLEEP,		/* is a thread blocked in this call, or has it yet
				 * to be woken for it? EBUSY: no */
	MSG_GETFD,		/* the reply carries the descriptor */
	MSG_CLOSE,		/* by exec, dup2: nobody hears of its result */
	MSG_MOUNT,		/* a file system that the target serves */
	MSG_UMOUNT,
	MSG_OWNER,		/* what becomes of a descriptor is signalled */
	MSG_REPLY,
	MSG_REPLY_TEXT,		/* the same, and something to show */
	MSG_GONE,		/* a shadow died of itself */
	MSG_SIGNAL,		/* what MSG_OWNER asked for; unasked, too */
	MSG_TYPES
};

enum extent_kind {
	EXTENT_NONE,		/* nothing is there any more */
	EXTENT_RAM,		/* off is a guest physical address */
	EXTENT_FILE,		/* off is an offset in file */
};

#define EXTENT_READ	1
#define EXTENT_WRITE	2
#define EXTENT_SHARED	4	/* EXTENT_FILE: MAP_SHARED */

struct extent {
	uint64_t gva;
	uint64_t len;
	uint64_t off;
	uint32_t file;
	uint16_t kind;
	uint16_t flags;
};

/* A file system of FUSE's (mount(2), and the kernel's fuse.rst). */
struct msg_mount {
	uint32_t shadow;
	uint32_t fuse;		/* descriptor of /dev/fuse; MOUNT alone, too: */
	uint32_t dir;		/* descriptor of where it is */
	uint32_t flags;		/* MS_ */
	uint32_t rootmode;	/* of its root directory */
	uint32_t max_read;	/* bytes; 0: not said */
	uint32_t options;	/* FUSE_ */
	uint32_t pad;
	char source[128], subtype[64];	/* as mount(8) shows them */
};

#define FUSE_DEFAULT_PERMISSIONS 1
#define FUSE_ALLOW_OTHER	2
#define FUSE_MOUNTS_MAX		64	/* of one session */

struct msg_signal {
	uint32_t shadow;
	uint32_t fd;		/* UINT32_MAX: not known */
	int64_t band;		/* POLLIN ... */
};

struct msg {
	uint32_t type;
	uint32_t len;		/* of the whole message */
	union {
		struct {
			uint32_t magic;
			uint32_t version;
			uint64_t ram_size;	/* bytes */
		} hello;
		struct {
			uint32_t n;
			uint32_t pad;
		} policy;
		struct {
			char text[MSG_RULE_MAX];
		} rule;
		struct {
			uint32_t cpu;		/* and one, that it goes on at;
						 * 0: of another machine */
			uint32_t pad;
		} start;
		struct {
			uint32_t id;		/* chosen by the guest, not 0 */
			uint32_t parent;	/* 0: no descriptor inherited */
			uint32_t umask;
			uint32_t clone_flags;	/* CLONE_FILES, CLONE_FS or 0 */
		} shadow;
		struct {
			uint32_t shadow;
			uint32_t thread;	/* unique within the shadow */
			uint64_t slot;		/* GVA */
			uint64_t slot_gpa;	/* in a VM, for MSG_RING */
			uint32_t seq;		/* last request published */
			uint32_t nr;		/* ASLEEP */
		} thread;
		struct {
			uint32_t shadow;
			uint32_t thread;
			uint32_t cpu;		/* and one; 0: on any */
			uint32_t avoid;		/* 1: on any but this one */
		} place;
		struct {
			uint32_t file;
			uint32_t pad;
		} file;
		struct {
			uint32_t shadow;
			uint32_t fd;		/* or, if it is UINT32_MAX, */
			uint32_t of;		/* what is a file already */
			uint32_t file;		/* chosen by the guest, free */
			uint64_t off;		/* bytes in the device, ... */
			uint64_t len;		/* ... whole pages */
		} window;
		struct {
			uint32_t shadow;
			uint32_t n;
			struct extent v[MSG_EXTENTS_MAX];
		} map;
		struct {
			uint32_t shadow;
			uint32_t fd;
		} fd;			/* GETFD, CLOSE */
		struct {
			uint32_t shadow;
			uint32_t fd;
			uint32_t on;		/* 0: not any more */
			uint32_t pad;
		} owner;
		struct msg_signal signal;
		struct msg_mount mount;
		struct {
			uint32_t shadow;
			uint32_t pad;
			uint64_t bytes;		/* RLIM_INFINITY: none */
		} fsize;
		struct {
			int32_t error;		/* 0 or -errno */
			uint32_t value;		/* SHADOW_NEW: the pid, as
						 * shadows see it; WINDOW: its
						 * first page */
			uint32_t flags;		/* WINDOW: EXTENT_READ, ... */
			uint32_t device;	/* WINDOW: MSG_PLUGGED and the
						 * address of what has those
						 * pages, or 0: the memory that
						 * is shared has */
		} reply;
		struct {
			int32_t error;
			uint32_t value;
			uint32_t flags;
			uint32_t device;
			char text[MSG_TEXT_MAX];
		} reply_text;
		struct {
			uint32_t shadow;
			int32_t status;		/* as wait(2) gives it */
		} gone;
	};
};

#define MSG_HEAD offsetof(struct msg, hello)

/* msg_size() - what a message of the type measures on the wire, 0: no type */
size_t msg_size(uint32_t type);

#endif
