/* SPDX-License-Identifier: MIT */
/*
 * plug.c - a device's memory as a PCI device that QEMU plugs in
 *
 * Theory of operation. QEMU is told by its monitor to make a memory backend of
 * the device node, and to plug in an ivshmem-plain that has it: for each mapping
 * a PCI device of its own, whose memory is the node's from its beginning on, in a
 * size that is a power of two, as PCI wants it. (QEMU 7.2 knows no offset.) Nothing
 * is done to QEMU's process, but QEMU opens the node itself: again, so what an
 * open file is alone (a virtual CPU, a buffer of a GPU) cannot be had.
 *
 * The node is named by our descriptor of it, /proc/PID/fd/N, not by its path:
 * that is what the target has opened under the policy, whatever stands under
 * that path by now, and in the shadow's mount namespace alone. So QEMU has to be
 * in our namespace of processes, and may open what is ours.
 *
 * Taking away is the guest's to allow: QEMU asks it to let go of the PCI device,
 * and only when it has the backend can be deleted. It is asked, waited for, and
 * what it holds on to stays in the table: at the session's end, or when the next
 * daemon comes, it is asked again.
 *
 * Backends and PCI devices of ours have names that begin like no others: the
 * daemon that made them is in it, and a number that was drawn, for no name is
 * ever to be used twice: QEMU (7.2) aborts when a backend has the name of one
 * that it has not quite forgotten. What is named so, and is neither in the table
 * nor of another daemon that lives, a daemon has left that was killed.
 *
 * Everybody who plugs something in says that it has several functions, where
 * there is only one: so guests can tell it from the device that they share with
 * the daemon (wire/device.c).
 */
#include "vm/plug.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/num.h"
#include "process/proc.h"
#include "vm/ways.h"

#define PREFIX		"darkshadow-"
#define ID_MAX		64
#define BUSES_MAX	64
#define BUS_MAX		64
#define PLUGGED		"/machine/peripheral"	/* where QEMU has them */
#define UNPLUG_MS	10000	/* a guest has so long to let go */
#define LOOK_MS		10

/* --- names ------------------------------------------------------------------ */

static void name_of(const struct windows *w, const struct window *v,
		    char id[ID_MAX])
{
	snprintf(id, ID_MAX, PREFIX "%d-%" PRIx64 "-%" PRIu64, w->daemon,
		 w->nonce, v->at);
}

static bool is_in_table(const struct windows *w, const char *id)
{
	char its[ID_MAX];

	for (size_t i = 0; i < WINDOWS_MAX; i++) {
		if (!w->v[i].owner)
			continue;
		name_of(w, &w->v[i], its);
		if (strcmp(its, id) == 0)
			return true;
	}
	return false;
}

/* Is that process one of our program? */
static bool is_daemon(pid_t pid)
{
	char its[PATH_MAX], own[PATH_MAX];

	return pid > 0 && proc_link(pid, "exe", its) > 0 &&
	       proc_link(getpid(), "exe", own) > 0 && strcmp(its, own) == 0;
}

static bool is_daemons(const char *id)
{
	return id && strncmp(id, PREFIX, strlen(PREFIX)) == 0;
}

static bool is_left(const struct windows *w, const char *id)
{
	pid_t pid;

	if (!is_daemons(id) || is_in_table(w, id))
		return false;
	pid = (pid_t)strtol(id + strlen(PREFIX), NULL, 10);
	return pid == w->daemon || !is_daemon(pid);
}

/* --- what QEMU has ---------------------------------------------------------- */

static json_t *list(struct qmp *q, const char *path, char *err)
{
	json_t *found = NULL;

	return qmp_command(q, "qom-list", json_pack("{s:s}", "path", path),
			   &found, err) == 0 ? found : NULL;
}

static bool is_listed(const json_t *found, const char *id)
{
	const json_t *e;
	size_t i;

	json_array_foreach(found, i, e) {
		const char *its = json_string_value(json_object_get(e, "name"));

		if (its && strcmp(its, id) == 0)
			return true;
	}
	return false;
}

bool plug_any(struct qmp *q)
{
	char err[VM_ERR_MAX];
	json_t *devices = list(q, PLUGGED, err);
	const json_t *e;
	bool any = false;
	size_t i;

	json_array_foreach(devices, i, e) {
		any = any || is_daemons(json_string_value(
					json_object_get(e, "name")));
	}
	json_decref(devices);
	return any;
}

/* Do as its command, and nothing else, says; 0 or -errno. */
static int command(struct qmp *q, const char *name, json_t *args, char *err)
{
	json_t *ret = NULL;
	int rc = qmp_command(q, name, args, &ret, err);

	if (!rc)
		json_decref(ret);
	return rc;
}

/* --- taking away ------------------------------------------------------------ */

/* One that is in the list, and has not let go yet; NULL: all have. */
static const char *holds(const json_t *ids, const json_t *devices)
{
	const json_t *e;
	size_t i;

	json_array_foreach(ids, i, e) {
		if (is_listed(devices, json_string_value(e)))
			return json_string_value(e);
	}
	return NULL;
}

/* The guest lets go of all of them, or has had its time. */
static int await_unplugged(struct qmp *q, const json_t *ids, char *err)
{
	const uint64_t until = now_ms() + UNPLUG_MS;

	for (;;) {
		json_t *devices = list(q, PLUGGED, err);
		const bool held = devices && holds(ids, devices);

		if (!devices)
			return -EIO;
		json_decref(devices);
		if (!held)
			return 0;
		if (now_ms() > until)
			return vm_fail(err, -EBUSY, "the guest does not let go"
				       " of a PCI device within %d s",
				       UNPLUG_MS / 1000);
		(void)poll(NULL, 0, LOOK_MS);
	}
}

/*
 * Names of what is to go: devices first, for what they have cannot go before.
 * Each of them is asked, and that it has been asked already is no error. 0:
 * nothing is left of any.
 */
static int take_away(struct qmp *q, const json_t *ids, char *err)
{
	char refused[VM_ERR_MAX];
	const json_t *e;
	json_t *objects;
	bool left = false;
	size_t i;
	int rc;

	json_array_foreach(ids, i, e)
		(void)command(q, "device_del", json_pack("{s:s}", "id",
			      json_string_value(e)), refused);
	rc = await_unplugged(q, ids, err);
	json_array_foreach(ids, i, e)
		(void)command(q, "object-del", json_pack("{s:s}", "id",
			      json_string_value(e)), refused);
	objects = list(q, "/objects", refused);
	json_array_foreach(ids, i, e)
		left = left || !objects ||
		       is_listed(objects, json_string_value(e));
	json_decref(objects);
	return rc || !left ? rc : vm_fail(err, -EBUSY, "%s", refused);
}

/* The same by a connection of its own. */
static int take_away_from(const struct vm *vm, const json_t *ids, char *err)
{
	struct qmp q;
	int rc = vm->qmp ? qmp_open(&q, vm->qmp, err) : -ENOENT;

	if (rc)
		return rc;
	rc = take_away(&q, ids, err);
	qmp_close(&q);
	return rc;
}

static void plug_close(struct windows *w, const struct vm *vm,
		       const struct window_place *place,
		       struct window *const *v, size_t n)
{
	json_t *ids = json_array();
	char err[VM_ERR_MAX] = "", id[ID_MAX];
	int rc = 0;

	(void)place;
	for (size_t i = 0; i < n && !rc; i++) {
		name_of(w, v[i], id);
		rc = json_array_append_new(ids, json_string(id)) ? -ENOMEM : 0;
	}
	if (!rc)
		rc = take_away_from(vm, ids, err);
	json_decref(ids);
	/* Whose process has ended, nobody else will try. */
	for (size_t i = 0; i < n; i++)
		if (!rc || v[i]->owner != getpid())
			v[i]->owner = 0;
	w->unsure = w->unsure || rc;
	if (rc && !vm_ended(vm))
		log_warn("a device's memory could not be taken from the VM, and"
			 " will be when the next run comes: %s", err);
}

/* --- what is left ----------------------------------------------------------- */

/* Nothing says that there is something but asking, which takes too long. */
static bool plug_stray(const struct windows *w, const struct vm *vm,
		       const struct window_place *place)
{
	(void)place;
	return w->unsure && vm->qmp;
}

static void add_left(const struct windows *w, const json_t *found, json_t *ids)
{
	const json_t *e;
	size_t i;

	json_array_foreach(found, i, e) {
		const char *id = json_string_value(json_object_get(e, "name"));

		if (is_left(w, id))
			json_array_append_new(ids, json_string(id));
	}
}

static int recover(const struct windows *w, struct qmp *q, char *err)
{
	json_t *devices = list(q, PLUGGED, err);
	json_t *objects = devices ? list(q, "/objects", err) : NULL;
	json_t *ids = json_array();
	int rc = objects && ids ? 0 : -EIO;

	if (!rc) {
		add_left(w, devices, ids);
		add_left(w, objects, ids);
		if (json_array_size(ids) > 0)
			rc = take_away(q, ids, err);
	}
	json_decref(devices);
	json_decref(objects);
	json_decref(ids);
	return rc;
}

static void plug_recover(struct windows *w, const struct vm *vm,
			 const struct window_place *place)
{
	char err[VM_ERR_MAX] = "";
	struct qmp q;
	int rc = qmp_open(&q, vm->qmp, err);

	(void)place;
	if (!rc) {
		rc = recover(w, &q, err);
		qmp_close(&q);
	}
	w->unsure = rc != 0;
	if (rc && !vm_ended(vm))
		log_warn("whether an earlier daemon has left memory of devices"
			 " in the VM is looked at when the next run comes: %s",
			 err);
}

/* --- buses ------------------------------------------------------------------ */

struct buses {
	char v[BUSES_MAX][BUS_MAX];
	size_t n;
};

static void add_bus(struct buses *b, const char *id)
{
	if (b->n < BUSES_MAX && *id && strlen(id) < BUS_MAX)
		strcpy(b->v[b->n++], id);
}

/*
 * Bridges without a device that were given a name, which is their bus's, too. (A
 * root port has one slot. QEMU 7.2 takes more devices there, which no guest sees.)
 */
static void add_bridges(struct buses *b, const json_t *devices)
{
	const json_t *d;
	size_t i;

	json_array_foreach(devices, i, d) {
		const json_t *bridge = json_object_get(d, "pci_bridge");
		const json_t *below = json_object_get(bridge, "devices");
		const char *id = json_string_value(json_object_get(d,
							"qdev_id"));

		if (bridge && id && json_array_size(below) == 0)
			add_bus(b, id);
		add_bridges(b, below);
	}
}

/*
 * Where it may fit: root ports that have nothing, and the bus of the machine type
 * pc. Which takes it is for QEMU to say.
 */
static void find_buses(const json_t *pci, struct buses *b)
{
	const json_t *bus;
	size_t i;

	*b = (struct buses){ .n = 0 };
	json_array_foreach(pci, i, bus) {
		add_bridges(b, json_object_get(bus, "devices"));
	}
	add_bus(b, "pci.0");
}

static const json_t *find_pci(const json_t *devices, const char *id)
{
	const json_t *d;
	size_t i;

	json_array_foreach(devices, i, d) {
		const json_t *bridge = json_object_get(d, "pci_bridge");
		const char *its = json_string_value(json_object_get(d,
							"qdev_id"));
		const json_t *found;

		if (its && strcmp(its, id) == 0)
			return d;
		found = find_pci(json_object_get(bridge, "devices"), id);
		if (found)
			return found;
	}
	return NULL;
}

static json_int_t number(const json_t *d, const char *key)
{
	const json_t *n = json_object_get(d, key);

	return json_is_integer(n) ? json_integer_value(n) : -1;
}

/* Where the guest has it: bus, slot, function. */
static int address_of(const json_t *pci, const char *id, uint16_t *out)
{
	const json_t *bus, *d = NULL;
	json_int_t b, s, f;
	size_t i;

	json_array_foreach(pci, i, bus) {
		d = find_pci(json_object_get(bus, "devices"), id);
		if (d)
			break;
	}
	b = number(d, "bus");
	s = number(d, "slot");
	f = number(d, "function");
	if (b < 0 || b > 0xff || s < 0 || s > 0x1f || f < 0 || f > 7)
		return -EPROTO;
	*out = (uint16_t)(b << 8 | s << 3 | f);
	return 0;
}

static json_t *query_pci(struct qmp *q, char *err)
{
	json_t *pci = NULL;

	return qmp_command(q, "query-pci", NULL, &pci, err) == 0 ? pci : NULL;
}

/* --- plugging in ------------------------------------------------------------ */

static int add_backend(struct qmp *q, const char *id,
		       const struct window_map *map, uint64_t size,
		       bool written, char *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), map->fd);
	return command(q, "object-add",
		       json_pack("{s:s,s:s,s:s,s:b,s:b,s:I}",
				 "qom-type", "memory-backend-file", "id", id,
				 "mem-path", path, "share", 1, "readonly",
				 !written, "size", (json_int_t)size), err);
}

static int add_device(struct qmp *q, const char *id, const json_t *pci,
		      char *err)
{
	char last[VM_ERR_MAX] = "";
	struct buses b;
	int rc = -ENODEV;

	find_buses(pci, &b);
	for (size_t i = 0; i < b.n && rc; i++) {
		rc = command(q, "device_add",
			     json_pack("{s:s,s:s,s:s,s:s,s:b}",
				       "driver", "ivshmem-plain", "id", id,
				       "memdev", id, "bus", b.v[i],
				       "multifunction", 1), last);
		if (rc && rc != -EREMOTEIO)
			return vm_fail(err, -ENODEV, "%s", last);
	}
	return rc ? vm_fail(err, -ENOMEM, "the VM has no place left to plug"
			    " a device in: start it with more root ports (-device"
			    " pcie-root-port,id=NAME,chassis=N), one for each"
			    " mapping, or with -machine pc; %s", last) : 0;
}

/* -errno: some of it may be there. */
static int plug_in(struct qmp *q, const char *id, const struct window_map *map,
		   uint64_t size, struct window_at *out, char *err)
{
	json_t *pci;
	int rc = add_backend(q, id, map, size, out->written, err);

	if (rc)
		return -ENODEV;
	pci = query_pci(q, err);
	rc = pci ? add_device(q, id, pci, err) : -ENODEV;
	json_decref(pci);
	if (rc)
		return rc;
	pci = query_pci(q, err);
	rc = pci ? address_of(pci, id, &out->device) : -ENODEV;
	json_decref(pci);
	if (rc == -EPROTO)
		return vm_fail(err, -ENODEV, "QEMU does not say where the guest"
			       " has a device that was plugged in");
	return rc;
}

/* What a power of two there is that has it all; 0: none. */
static uint64_t size_for(const struct window_map *map)
{
	const uint64_t end = map->off + map->len;	/* it is in an int64_t */
	uint64_t size = PAGE_BYTES;

	while (size < end && size <= INT64_MAX / 2)
		size *= 2;
	return size < end ? 0 : size;
}

static int plug_check(const struct vm *vm, const struct window_place *place,
		      const struct window_map *map, struct window_at *out,
		      char *err)
{
	char its[PATH_MAX] = "", own[PATH_MAX] = "";
	const uint64_t size = size_for(map);
	struct stat st;
	int rc;

	(void)place;
	if (!vm->qmp)
		return vm_fail(err, -ENODEV, "QEMU has no monitor that could be"
			       " asked to plug a device in: start it with -qmp"
			       " unix:PATH,server=on,wait=off");
	if (fstat(map->fd, &st) < 0 || !size)
		return -ENODEV;
	if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))
		return vm_fail(err, -ENODEV, "this is no device node, which"
			       " QEMU could open again: without --window qmp"
			       " it can be mapped");
	if (proc_link(vm->seen.pid, "ns/pid", its) < 0 ||
	    proc_link(getpid(), "ns/pid", own) < 0 || strcmp(its, own) != 0)
		return vm_fail(err, -ENODEV, "the VMM (process %d) does not see"
			       " our processes: run darkshadow host in its"
			       " container, as its user or as root",
			       vm->seen.pid);
	rc = window_probe(map->fd, 0, size, &out->written, err);
	if (rc == -ENXIO)
		return vm_fail(err, rc, "a device of less than %" PRIu64 " KiB"
			       " cannot be plugged in to show what it has up to"
			       " %#" PRIx64 ", for sizes are powers of two"
			       " there: without --window qmp it can be mapped",
			       size >> 10, map->off + map->len);
	return rc;
}

static int plug_open(struct windows *w, const struct vm *vm,
		     const struct window_place *place,
		     const struct window_map *map, struct window_at *out,
		     char *err)
{
	struct window *v = windows_enter(w, map->id, ++w->next, map->len);
	char id[ID_MAX];
	struct qmp q;
	int rc;

	if (!v)
		return -ENOMEM;
	rc = qmp_open(&q, vm->qmp, err);
	if (rc) {
		v->owner = 0;
		return -ENODEV;
	}
	name_of(w, v, id);
	rc = plug_in(&q, id, map, size_for(map), out, err);
	qmp_close(&q);
	if (rc)
		plug_close(w, vm, place, &v, 1);
	out->plugged = true;
	out->at = map->off;
	return rc;
}

const struct window_ops window_plug = {
	.check = plug_check,
	.open = plug_open,
	.close = plug_close,
	.stray = plug_stray,
	.recover = plug_recover,
};
