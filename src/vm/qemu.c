/* SPDX-License-Identifier: MIT */
/* qemu.c - QEMU's processes, their RAM file and their memory layout */
#include "vm/qemu.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/num.h"
#include "process/maps.h"
#include "vm/backing.h"
#include "vm/plug.h"
#include "vm/qmp.h"

#define MIB		(UINT64_C(1) << 20)
#define GIB		(UINT64_C(1) << 30)
#define LEGACY_HOLE	0xa0000ULL
#define LEGACY_END	0x100000ULL
#define FLAT_MAX	4096	/* ranges of RAM; real machines have ten */

/*
 * From here on RAM above 4 GiB may begin at 1 TiB (AMD's hole for
 * HyperTransport, QEMU 7.1 and later); by command line we go not near it.
 */
#define LARGE_RAM	(512 * GIB)

/* ---- the command line ---- */

/* A value of JSON as QEMU's other syntax would have it. */
static bool json_option(const char *opts, const char *key, char *buf,
			size_t size)
{
	json_t *all = json_loads(opts, 0, NULL);
	const json_t *value = json_object_get(all, key);
	int n = -1;

	if (json_is_string(value))
		n = snprintf(buf, size, "%s", json_string_value(value));
	else if (json_is_integer(value))
		n = snprintf(buf, size, "%" JSON_INTEGER_FORMAT,
			     json_integer_value(value));
	else if (json_is_boolean(value))
		n = snprintf(buf, size, "%s",
			     json_is_true(value) ? "on" : "off");
	json_decref(all);
	return n >= 0 && (size_t)n < size;
}

/* One "key=value" up to a single comma; what follows it, or NULL at the end. */
static const char *take_word(const char *at, char *word, size_t size,
			     bool *fits)
{
	size_t n = 0;

	*fits = true;
	for (;; at++) {
		if (*at == ',' && at[1] == ',')
			at++;
		else if (*at == ',' || *at == '\0')
			break;
		if (n + 1 < size)
			word[n++] = *at;
		else
			*fits = false;
	}
	word[n] = '\0';
	return *at ? at + 1 : NULL;
}

bool qemu_option(const char *opts, const char *implied, const char *key,
		 char *buf, size_t size)
{
	char word[PATH_MAX + 64];
	bool found = false, fits;

	if (*opts == '{')
		return json_option(opts, key, buf, size);
	for (bool first = true; opts; first = false) {
		const char *name = word, *value;
		char *eq;

		opts = take_word(opts, word, sizeof(word), &fits);
		eq = strchr(word, '=');
		if (eq) {
			*eq = '\0';
			value = eq + 1;
		} else if (first && implied) {
			name = implied;
			value = word;
		} else {
			value = "on";
		}
		if (strcmp(name, key) != 0)
			continue;
		/* The last one counts. */
		found = fits && snprintf(buf, size, "%s", value) < (int)size;
	}
	return found;
}

/* The argument of the next option of that name (or its other name). */
static const char *next_option(const struct proc_args *args, size_t *i,
			       const char *name, const char *other)
{
	const char *opt, *value;

	while ((opt = args->v[*i]) && (value = args->v[*i + 1])) {
		++*i;
		if (*opt++ != '-')
			continue;
		opt += *opt == '-';
		if (strcmp(opt, name) == 0 ||
		    (other && strcmp(opt, other) == 0)) {
			++*i;
			return value;
		}
	}
	return NULL;
}

/* "1G" and the like; without a letter it counts in units. */
static bool parse_size(const char *text, uint64_t unit, uint64_t *out)
{
	static const char letters[] = "BKMGTPE";
	const char *at;
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno || end == text || *text == '-')
		return false;
	if (*end) {
		at = strchr(letters, *end >= 'a' ? *end - 'a' + 'A' : *end);
		if (!at || end[1])
			return false;
		unit = 1ULL << 10 * (at - letters);
	}
	return !__builtin_mul_overflow(n, unit, out);
}

struct conf {
	char name[VM_NAME_MAX];
	char machine[VM_NAME_MAX];
	char backend[VM_NAME_MAX];	/* id; "": QEMU's own, private */
	char type[VM_NAME_MAX];		/* of the backend */
	char path[PATH_MAX];		/* mem-path of the backend, or "" */
	uint64_t memory;		/* bytes; 0: not understood */
	unsigned int nodes;		/* NUMA nodes with a backend each */
	const char *unclear;		/* what makes the layout uncertain */
};

static void conf_machine(const struct proc_args *args, struct conf *c)
{
	const char *opts;
	char buf[VM_NAME_MAX];
	size_t i = 1;

	while ((opts = next_option(args, &i, "machine", "M"))) {
		if (qemu_option(opts, "type", "type", buf, sizeof(buf)))
			snprintf(c->machine, sizeof(c->machine), "%s", buf);
		if (qemu_option(opts, "type", "memory-backend", buf,
				sizeof(buf)))
			snprintf(c->backend, sizeof(c->backend), "%s", buf);
		if (qemu_option(opts, "type", "max-ram-below-4g", buf,
				sizeof(buf)))
			c->unclear = "max-ram-below-4g";
	}
}

static void conf_numa(const struct proc_args *args, struct conf *c)
{
	const char *opts;
	char id[VM_NAME_MAX];
	size_t i = 1;

	while ((opts = next_option(args, &i, "numa", NULL)))
		if (qemu_option(opts, "type", "memdev", id, sizeof(id))) {
			c->nodes++;
			snprintf(c->backend, sizeof(c->backend), "%s", id);
		}
}

/* The object that is the RAM; its size in bytes, 0: not said. */
static uint64_t conf_backend(const struct proc_args *args, struct conf *c)
{
	const char *opts;
	char buf[VM_NAME_MAX];
	uint64_t size = 0;
	size_t i = 1;

	while ((opts = next_option(args, &i, "object", NULL))) {
		if (!qemu_option(opts, "qom-type", "id", buf, sizeof(buf)) ||
		    strcmp(buf, c->backend) != 0)
			continue;
		qemu_option(opts, "qom-type", "qom-type", c->type,
			    sizeof(c->type));
		qemu_option(opts, "qom-type", "mem-path", c->path,
			    sizeof(c->path));
		if (qemu_option(opts, "qom-type", "size", buf, sizeof(buf)) &&
		    !parse_size(buf, 1, &size))
			size = 0;
	}
	return size;
}

static void conf_memory(const struct proc_args *args, struct conf *c,
			uint64_t backend_size)
{
	const char *opts;
	char buf[64];
	uint64_t maxmem = 0;
	size_t i = 1;

	c->memory = backend_size ? backend_size : 128 * MIB;
	while ((opts = next_option(args, &i, "m", NULL))) {
		if (qemu_option(opts, "size", "size", buf, sizeof(buf)) &&
		    !parse_size(buf, MIB, &c->memory))
			c->memory = 0;
		if (qemu_option(opts, "size", "maxmem", buf, sizeof(buf)) &&
		    !parse_size(buf, MIB, &maxmem))
			maxmem = LARGE_RAM;
	}
	if (c->memory >= LARGE_RAM || maxmem >= LARGE_RAM)
		c->unclear = "its size";
}

static void conf_read(const struct proc_args *args, struct conf *c)
{
	const char *opts;
	size_t i = 1;

	*c = (struct conf){ .memory = 0 };
	while ((opts = next_option(args, &i, "name", NULL)))
		qemu_option(opts, "guest", "guest", c->name, sizeof(c->name));
	conf_machine(args, c);
	conf_numa(args, c);
	conf_memory(args, c, *c->backend ? conf_backend(args, c) : 0);
	i = 1;
	if (next_option(args, &i, "readconfig", NULL))
		c->unclear = "-readconfig";
	/* Firmware that keeps a part of RAM to itself (SMM): where, only the
	 * monitor knows. */
	for (i = 1; i < args->n; i++)
		if (strstr(args->v[i], "cfi.pflash01") &&
		    strstr(args->v[i], "secure"))
			c->unclear = "secure boot's SMM memory";
}

void qemu_see(const struct proc_args *args, struct vm_seen *seen)
{
	struct conf c;

	conf_read(args, &c);
	snprintf(seen->name, sizeof(seen->name), "%s", c.name);
	snprintf(seen->machine, sizeof(seen->machine), "%s", c.machine);
	seen->memory = c.memory;
}

bool qemu_is(pid_t pid, const struct proc_args *args)
{
	static const char prefix[] = "qemu-system-";
	char exe[PATH_MAX];
	const char *name = exe, *slash;

	/* Of other users' processes we see no more than the first word. */
	if (proc_link(pid, "exe", exe) < 0)
		name = args->n ? args->v[0] : "";
	slash = strrchr(name, '/');
	name = slash ? slash + 1 : name;
	return strncmp(name, prefix, strlen(prefix)) == 0 ||
	       strcmp(name, "qemu-kvm") == 0;
}

/* ---- monitors ---- */

/* The name that the listening socket behind a descriptor was bound to. */
static char *socket_path(pid_t pid, const char *fd)
{
	char what[64], link[PATH_MAX], file[64], *text cleanup_free = NULL;
	char *line, *save = NULL;
	unsigned long want, ino;

	snprintf(what, sizeof(what), "fd/%.16s", fd);
	snprintf(file, sizeof(file), "/proc/%d/net/unix", pid);
	if (proc_link(pid, what, link) < 0 ||
	    sscanf(link, "socket:[%lu]", &want) != 1 ||
	    fd_read_all(file, 64 * MIB, &text) < 0)
		return NULL;
	for (line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		int at = 0;

		if (sscanf(line, "%*s %*s %*s %*s %*s %*s %lu %n", &ino,
			   &at) == 1 && at && ino == want && line[at] == '/')
			return strdup(line + at);
	}
	return NULL;
}

/* As seen from here: it may be relative, or in the VMM's own mount namespace. */
static char *path_of(pid_t pid, const char *path)
{
	struct stat st;
	char *out = NULL;

	if (*path == '/' && stat(path, &st) == 0)
		return strdup(path);
	if (asprintf(&out, "/proc/%d/%s%s%s", pid,
		     *path == '/' ? "root" : "cwd", *path == '/' ? "" : "/",
		     path) < 0)
		return NULL;
	if (*path == '/' && stat(out, &st) < 0) {
		/* Its own name says more in a message. */
		free(out);
		return strdup(path);
	}
	return out;
}

/* The socket of -chardev socket,id=ID */
static char *chardev_path(pid_t pid, const struct proc_args *args,
			  const char *id)
{
	const char *opts;
	char buf[PATH_MAX];
	size_t i = 1;

	while ((opts = next_option(args, &i, "chardev", NULL))) {
		if (!qemu_option(opts, "backend", "id", buf, sizeof(buf)) ||
		    strcmp(buf, id) != 0)
			continue;
		if (qemu_option(opts, "backend", "path", buf, sizeof(buf)))
			return path_of(pid, buf);
		if (qemu_option(opts, "backend", "fd", buf, sizeof(buf)))
			return socket_path(pid, buf);
	}
	return NULL;
}

char *qemu_qmp_path(pid_t pid, const struct proc_args *args)
{
	const char *opts;
	char *path = NULL, buf[PATH_MAX], mode[16];
	size_t i = 1;

	while (!path && (opts = next_option(args, &i, "qmp", "qmp-pretty")))
		if (strncmp(opts, "unix:", 5) == 0 &&
		    qemu_option(opts + 5, "path", "path", buf, sizeof(buf)))
			path = path_of(pid, buf);
	i = 1;
	while (!path && (opts = next_option(args, &i, "mon", NULL)))
		if (qemu_option(opts, "chardev", "mode", mode, sizeof(mode)) &&
		    strcmp(mode, "control") == 0 &&
		    qemu_option(opts, "chardev", "chardev", buf, sizeof(buf)))
			path = chardev_path(pid, args, buf);
	return path;
}

/* ---- the layout, as QEMU prints it ---- */

/*
 * "  0000000000100000-000000007fffffff (prio 0, ram): NAME @0000000000100000",
 * the last word only where it is not 0.
 */
static bool parse_flat(const char *line, size_t len, struct qemu_flat *out)
{
	char copy[512], type[16], *name, *at;
	uint64_t start, end;
	int n = 0;

	if (len >= sizeof(copy))
		return false;
	memcpy(copy, line, len);
	copy[len] = '\0';
	copy[strcspn(copy, "\r")] = '\0';
	if (sscanf(copy, " %" SCNx64 "-%" SCNx64 " (prio %*d, %15[^)]): %n",
		   &start, &end, type, &n) < 3 || !n)
		return false;
	if (strcmp(type, "ram") != 0 || end < start ||
	    end - start == UINT64_MAX)
		return false;
	name = copy + n;
	at = strrchr(name, '@');
	if (at && at > name && at[-1] == ' ' && at[1] &&
	    strspn(at + 1, "0123456789abcdefx") == strlen(at + 1))
		at[-1] = '\0';
	if (strlen(name) >= sizeof(out->name))
		return false;
	*out = (struct qemu_flat){ .gpa = start, .len = end - start + 1 };
	snprintf(out->name, sizeof(out->name), "%s", name);
	return true;
}

/* The ranges of the flat view that the address space "memory" has. */
static const char *find_memory(const char *text)
{
	const char *as = strstr(text, " AS \"memory\", root: system");

	return as && (as == text || as[-1] == '\n') ? as : NULL;
}

int qemu_flat_parse(const char *text, struct qemu_flat **out, size_t *out_n)
{
	const char *line = find_memory(text);
	struct qemu_flat *v;
	size_t n = 0;

	if (!line)
		return -EPROTO;
	v = calloc(FLAT_MAX, sizeof(*v));
	if (!v)
		return -ENOMEM;
	while (*line && strncmp(line, "FlatView", 8) != 0 && n < FLAT_MAX) {
		size_t len = strcspn(line, "\n");

		n += parse_flat(line, len, &v[n]);
		line += len + (line[len] == '\n');
	}
	*out = v;
	*out_n = n;
	return 0;
}

/* ---- ranges ---- */

/* A range without what is between 640K and 1M in it. */
static int add_but_hole(struct ram *ram, uint64_t gpa, uint64_t len,
			uint64_t off)
{
	const uint64_t end = gpa + len;
	int rc = 0;

	if (gpa < LEGACY_HOLE)
		rc = ram_add(ram, gpa, min_u64(end, LEGACY_HOLE) - gpa, off);
	if (!rc && end > LEGACY_END) {
		const uint64_t start = max_u64(gpa, LEGACY_END);

		rc = ram_add(ram, start, end - start, off + (start - gpa));
	}
	return rc;
}

/*
 * RAM of limit bytes or more is split: low bytes from address 0, the rest
 * from 4 GiB. gigabyte_align, which changes pc before 2.0, is why older
 * versions are not known; microvm has had this since QEMU 5.1.
 */
static const struct board {
	const char *name;
	const char *versions;
	uint64_t limit, low;
} boards[] = {
	{ "pc", "pc-i440fx-", 0xe0000000, 0xc0000000 },
	{ "q35", "pc-q35-", 0xb0000000, 0x80000000 },
	{ "microvm", NULL, 0xc0000000, 0xc0000000 },
};

static bool is_version(const char *text)
{
	char *end;
	unsigned long major = strtoul(text, &end, 10);

	return end != text && *text >= '0' && *text <= '9' && major >= 2 &&
	       *end == '.' && end[1] &&
	       strspn(end, "0123456789.") == strlen(end);
}

static const struct board *find_board(const char *machine)
{
	for (size_t i = 0; i < ARRAY_SIZE(boards); i++) {
		const struct board *b = &boards[i];

		if (strcmp(b->name, machine) == 0 ||
		    (b->versions && strncmp(b->versions, machine,
					    strlen(b->versions)) == 0 &&
		     is_version(machine + strlen(b->versions))))
			return b;
	}
	return NULL;
}

int qemu_layout(struct ram *ram, const char *machine, uint64_t size,
		uint64_t off)
{
	const struct board *b = find_board(machine);
	uint64_t low;
	int rc;

	if (!b)
		return -ENOTSUP;
	low = size >= b->limit ? b->low : size;
	rc = add_but_hole(ram, 0, low, off);
	if (!rc && size > low)
		rc = add_but_hole(ram, 4 * GIB, size - low, off + low);
	return rc;
}

/* ---- opening ---- */

static int refuse_private(uint64_t memory, char *err)
{
	char size[32] = "SIZE";

	if (memory)
		snprintf(size, sizeof(size), "%" PRIu64 "M", memory / MIB);
	return vm_fail(err, -ENOTSUP, "its RAM is private: start it with"
		       " -object memory-backend-memfd,id=ram,size=%s,share=on"
		       " -machine memory-backend=ram", size);
}

static int refuse_several(char *err)
{
	return vm_fail(err, -ENOTSUP, "its RAM is in several memory backends,"
		       " and only one is supported: give it one backend of the"
		       " whole size, by -machine memory-backend=ID");
}

static int read_maps(pid_t pid, struct maps *maps, char *err)
{
	int rc = maps_read(pid, maps);

	/* The file opens for all; reading it may be what is refused. */
	if (rc == -EACCES || rc == -EPERM)
		return backing_denied(pid, "the memory map", rc, err);
	if (rc)
		return vm_fail(err, rc, "cannot read the memory map of process"
			       " %d: %s", pid, strerror(-rc));
	return 0;
}

static const struct map_line *line_at(const struct maps *maps, uint64_t hva)
{
	for (size_t i = 0; i < maps->n; i++)
		if (hva >= maps->v[i].start && hva < maps->v[i].end)
			return &maps->v[i];
	return NULL;
}

static bool is_shared(const struct map_line *l)
{
	return l->shared && l->ino && (l->prot & PROT_READ) &&
	       (l->prot & PROT_WRITE);
}

static bool same_file(const struct map_line *a, const struct map_line *b)
{
	return a->ino == b->ino && a->dev == b->dev;
}

/* Is [hva, hva + len) one piece of the file, from line on? */
static bool in_one_piece(const struct maps *maps, const struct map_line *line,
			 uint64_t hva, uint64_t len)
{
	const struct map_line *last = maps->v + maps->n - 1;

	while (hva + len > line->end) {
		const struct map_line *next = line + 1;

		if (line == last || next->start != line->end ||
		    !is_shared(next) || !same_file(line, next) ||
		    next->off != line->off + (line->end - line->start))
			return false;
		line = next;
	}
	return true;
}

/* How much of the file is mapped, wherever. */
static uint64_t mapped_of(const struct maps *maps, const struct map_line *line)
{
	uint64_t low = UINT64_MAX, high = 0;

	for (size_t i = 0; i < maps->n; i++) {
		const struct map_line *l = &maps->v[i];

		if (!is_shared(l) || !same_file(l, line))
			continue;
		low = min_u64(low, l->off);
		high = max_u64(high, l->off + (l->end - l->start));
	}
	return high > low ? high - low : 0;
}

/* By QMP: what is asked, and what is known so far. */
struct inquiry {
	struct vm *vm;
	struct qmp qmp;
	struct maps maps;
	struct qemu_flat *v;
	size_t n;
	const struct map_line *main;	/* has GPA 0 */
	uint64_t base, plugged;		/* bytes, as QEMU counts them */
};

static int ask_size(struct inquiry *q, char *err)
{
	json_t *ret = NULL;
	int rc = qmp_command(&q->qmp, "query-memory-size-summary", NULL, &ret,
			     err);

	if (rc)
		return rc;
	q->base = (uint64_t)json_integer_value(
				json_object_get(ret, "base-memory"));
	q->plugged = (uint64_t)json_integer_value(
				json_object_get(ret, "plugged-memory"));
	json_decref(ret);
	return 0;
}

static int ask_flat(struct inquiry *q, char *err)
{
	char *text cleanup_free = NULL;
	int rc = qmp_monitor(&q->qmp, "info mtree -f", &text, err);

	if (rc)
		return rc;
	rc = qemu_flat_parse(text, &q->v, &q->n);
	if (rc)
		return vm_fail(err, rc, "its monitor printed no memory layout"
			       " that darkshadow understands (info mtree -f)");
	return 0;
}

static int ask_hva(struct inquiry *q, uint64_t gpa, uint64_t *hva, char *err)
{
	char *text cleanup_free = NULL, line[64];
	const char *at;
	int rc;

	snprintf(line, sizeof(line), "gpa2hva %#" PRIx64, gpa);
	rc = qmp_monitor(&q->qmp, line, &text, err);
	if (rc)
		return rc;
	at = strstr(text, ") is 0x");
	if (!at || sscanf(at, ") is %" SCNx64, hva) != 1)
		return vm_fail(err, -EPROTO, "its monitor does not say where"
			       " it has address %#" PRIx64 " (gpa2hva)", gpa);
	return 0;
}

/* One range of the main region, as far as it is of the main file. */
static int add_flat(struct inquiry *q, const struct qemu_flat *f, char *err)
{
	const uint64_t gpa = page_up(f->gpa),
		       len = page_down(f->gpa + f->len) - gpa;
	const struct map_line *line;
	struct ram *ram = &q->vm->ram;
	uint64_t hva, size;
	int rc, fd;

	if (gpa < f->gpa || len == 0 || len > f->len)
		return 0;
	rc = ask_hva(q, gpa, &hva, err);
	if (rc)
		return rc;
	line = line_at(&q->maps, hva);
	if (!line || !is_shared(line))
		return gpa ? 0 : refuse_private(q->base, err);
	if (gpa == 0) {
		rc = backing_open(q->vm->seen.pid, line, &fd, &size, err);
		if (rc)
			return rc;
		ram_init(ram, fd, size);
		q->main = line;
	}
	if (!q->main || !same_file(line, q->main))
		return 0;
	rc = in_one_piece(&q->maps, line, hva, len) ?
		add_but_hole(ram, gpa, len, line->off + (hva - line->start)) :
		-EINVAL;
	if (rc)
		return vm_fail(err, -ENOTSUP, "its RAM at %#" PRIx64 " is not"
			       " in the file %s as a whole: give it one memory"
			       " backend, not -mem-path", gpa, line->name);
	return 0;
}

static int ask_layout(struct inquiry *q, char *err)
{
	const char *main;
	size_t i;
	int rc;

	rc = ask_size(q, err);
	if (!rc)
		rc = ask_flat(q, err);
	if (!rc)
		rc = read_maps(q->vm->seen.pid, &q->maps, err);
	if (rc)
		return rc;
	if (q->n == 0 || q->v[0].gpa != 0)
		return vm_fail(err, -ENOTSUP, "it has no RAM at address 0:"
			       " only x86 machines are supported");
	main = q->v[0].name;
	for (i = 0; i < q->n && !rc; i++)
		if (strcmp(q->v[i].name, main) == 0)
			rc = add_flat(q, &q->v[i], err);
	if (rc)
		return rc;
	if (mapped_of(&q->maps, q->main) < q->base)
		return refuse_several(err);
	if (q->plugged)
		snprintf(q->vm->note, VM_ERR_MAX, "%" PRIu64 " MiB of plugged"
			 " memory are out of reach: give the VM all its memory"
			 " at the start", q->plugged / MIB);
	q->vm->seen.memory = q->base;
	return 0;
}

static int layout_by_qmp(struct vm *vm, const char *path, char *err)
{
	struct inquiry q = { .vm = vm };
	int rc = qmp_open(&q.qmp, path, err);

	if (rc)
		return rc;
	rc = plug_any(&q.qmp) ?
	     vm_fail(err, -EBUSY, "it has memory of devices plugged in, and is"
		     " not asked as long as it has") : ask_layout(&q, err);
	if (rc)
		ram_fini(&vm->ram);
	vm->layout = "QMP";
	free(q.v);
	maps_fini(&q.maps);
	qmp_close(&q.qmp);
	return rc;
}

/* Is it the backend that the command line names? */
static bool is_backend(const struct conf *c, const struct map_line *l)
{
	static const char memfd[] = "/memfd:memory-backend-memfd";

	if (strcmp(c->type, "memory-backend-memfd") == 0)
		return strncmp(l->name, memfd, strlen(memfd)) == 0;
	/* Of a directory, files in it; of a file, the file. */
	if (*c->path)
		return strncmp(l->name, c->path, strlen(c->path)) == 0;
	return true;
}

/* The one shared mapping that has the size of RAM. */
static int find_ram(struct vm *vm, const struct conf *c,
		    const struct maps *maps, const struct map_line **out,
		    char *err)
{
	*out = NULL;
	for (size_t i = 0; i < maps->n; i++) {
		const struct map_line *l = &maps->v[i];

		if (!is_shared(l) || l->end - l->start != c->memory ||
		    !is_backend(c, l))
			continue;
		if (*out && !same_file(*out, l))
			return vm_fail(err, -ENOTSUP, "process %d has several"
				       " shared mappings of the size of its"
				       " RAM: start it with -qmp unix:PATH,"
				       "server=on,wait=off so that it can be"
				       " asked", vm->seen.pid);
		*out = l;
	}
	return *out ? 0 : refuse_private(c->memory, err);
}

static int check_conf(const struct conf *c, char *err)
{
	static const char remedy[] = "start it with -qmp unix:PATH,server=on,"
		"wait=off so that it can be asked";

	if (c->nodes > 1)
		return refuse_several(err);
	if (!find_board(c->machine))
		return vm_fail(err, -ENOTSUP, "the memory layout of machine"
			       " type %s is not known: %s", c->machine,
			       remedy);
	if (c->unclear || !c->memory)
		return vm_fail(err, -ENOTSUP, "the memory layout is not clear"
			       " from the command line (%s): %s", c->unclear ?
			       c->unclear : "-m", remedy);
	return 0;
}

static int layout_by_args(struct vm *vm, const struct proc_args *args,
			  char *err)
{
	const struct map_line *line;
	struct maps maps = { 0 };
	struct conf c;
	uint64_t size;
	int rc, fd;

	conf_read(args, &c);
	if (!*c.machine)	/* QEMU's own default, on x86 */
		snprintf(c.machine, sizeof(c.machine), "pc");
	rc = read_maps(vm->seen.pid, &maps, err);
	if (!rc)
		rc = check_conf(&c, err);
	if (!rc)
		rc = find_ram(vm, &c, &maps, &line, err);
	if (!rc)
		rc = backing_open(vm->seen.pid, line, &fd, &size, err);
	if (!rc) {
		ram_init(&vm->ram, fd, size);
		rc = qemu_layout(&vm->ram, c.machine, c.memory, line->off);
		if (rc)
			vm_say(err, "its RAM file %s is smaller than its RAM",
			       line->name);
	}
	maps_fini(&maps);
	if (rc)
		ram_fini(&vm->ram);
	vm->layout = "command line";
	return rc;
}

/* Only then is there another way to learn the layout. */
static bool unanswered(int rc)
{
	return rc != -ENOTSUP && rc != -ENOMEM;
}

int qemu_open(struct vm *vm, const struct proc_args *args, const char *path,
	      char err[VM_ERR_MAX])
{
	char why[VM_ERR_MAX] = "";
	int rc;

	vm->qmp = path ? strdup(path) : qemu_qmp_path(vm->seen.pid, args);
	if (vm->qmp) {
		rc = layout_by_qmp(vm, vm->qmp, err);
		if (!rc || !unanswered(rc) || (path && rc != -EBUSY))
			return rc;
		snprintf(why, sizeof(why), "%s", err);
	}
	rc = layout_by_args(vm, args, err);
	if (!vm->qmp)
		return rc;
	if (!rc)
		snprintf(vm->note, VM_ERR_MAX, "its monitor was of no use, so"
			 " the memory layout is that of its machine type:"
			 " %.900s", why);
	else if (rc == -ENOTSUP)
		snprintf(err + strlen(err), VM_ERR_MAX - strlen(err),
			 " (its monitor was of no use: %.500s)", why);
	return rc;
}
