/* SPDX-License-Identifier: MIT */
/*
 * vms.c - `darkshadow vms`: which VMs run here, and can they be shadowed?
 *
 * The answer is had by doing what `darkshadow host --vm` does first: opening
 * the VM. So it cannot differ, and the reason is the same sentence.
 */
#include "tool/vms.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/exit.h"
#include "base/log.h"
#include "tool/text.h"
#include "vm/vm.h"

#define EXIT_NONE		1

static const struct argp_option options[] = {
	{ "json", 'j', NULL, 0, "Print JSON, with the memory layout", 0 },
	{ 0 },
};

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	bool *json = state->input;

	switch (key) {
	case 'j':
		*json = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "unexpected argument '%s'", arg);
		return EINVAL;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp argp = {
	.options = options,
	.parser = parse_opt,
	.doc = "List the virtual machines that run on this host, and whether"
	       " processes in them can be shadowed: if not, why, and what to"
	       " change.\v"
	       "The exit status is 0 if at least one can, 1 if none can.\n\n"
	       "Example:\n  darkshadow vms",
};

/* A VM, and what came of opening it. */
struct verdict {
	struct vm_seen seen;
	struct vm *vm;			/* owned; NULL: it cannot be shadowed */
	char why[VM_ERR_MAX];		/* if not */
};

static int by_name(const void *a, const void *b)
{
	const struct verdict *x = a, *y = b;
	int order = strcmp(x->seen.name, y->seen.name);

	return order ? order : x->seen.pid - y->seen.pid;
}

static int judge_all(struct verdict **out, size_t *n)
{
	struct vm_seen *seen = NULL;
	struct verdict *v;
	int rc = vm_list(&seen, n);

	if (rc)
		return rc;
	v = calloc(*n + 1, sizeof(*v));
	for (size_t i = 0; v && i < *n; i++) {
		v[i].seen = seen[i];
		if (vm_open_pid(seen[i].pid, &v[i].vm, v[i].why) == 0)
			v[i].seen = v[i].vm->seen;
		else
			v[i].vm = NULL;
	}
	free(seen);
	if (!v)
		return -ENOMEM;
	qsort(v, *n, sizeof(*v), by_name);
	*out = v;
	return 0;
}

static void print_row(const struct verdict *v)
{
	char name[VM_NAME_MAX], machine[VM_NAME_MAX], memory[32] = "-";
	char text[VM_ERR_MAX];

	text_plain(*v->seen.name ? v->seen.name : "-", name, sizeof(name));
	text_plain(*v->seen.machine ? v->seen.machine : "-", machine,
		   sizeof(machine));
	if (v->seen.memory)
		snprintf(memory, sizeof(memory), "%" PRIu64 "M",
			 v->seen.memory >> 20);
	text_plain(v->vm ? v->vm->note : v->why, text, sizeof(text));
	printf("%-16s %7d  %-4s %8s  %-14s %s%s%s\n", name, v->seen.pid,
	       vm_kind_name(v->seen.kind), memory, machine,
	       v->vm ? "yes" : "no", *text ? ": " : "", text);
}

static void print_table(const struct verdict *v, size_t n)
{
	if (n == 0) {
		log_warn("no VM runs here that this user can see: QEMU and"
			 " User-Mode Linux are looked for");
		return;
	}
	printf("%-16s %7s  %-4s %8s  %-14s %s\n", "NAME", "PID", "VMM",
	       "MEMORY", "MACHINE", "SHADOW");
	for (size_t i = 0; i < n; i++)
		print_row(&v[i]);
}

static json_t *json_ranges(const struct ram *ram)
{
	json_t *all = json_array();

	for (size_t i = 0; i < ram->n; i++)
		json_array_append_new(all, json_pack("{s:I, s:I, s:I}",
			"gpa", (json_int_t)ram->v[i].gpa,
			"len", (json_int_t)ram->v[i].len,
			"off", (json_int_t)ram->v[i].off));
	return all;
}

static json_t *json_verdict(const struct verdict *v)
{
	json_t *o = json_pack("{s:o, s:i, s:s, s:o, s:b}",
			      "name", text_json(v->seen.name),
			      "pid", (int)v->seen.pid,
			      "vmm", vm_kind_name(v->seen.kind),
			      "machine", text_json(v->seen.machine),
			      "shadow", v->vm != NULL);

	json_object_set_new(o, "memory", v->seen.memory ?
			    json_integer((json_int_t)v->seen.memory) :
			    json_null());
	if (!v->vm) {
		json_object_set_new(o, "why", text_json(v->why));
		return o;
	}
	json_object_set_new(o, "note", text_json(v->vm->note));
	json_object_set_new(o, "layout", json_string(v->vm->layout));
	json_object_set_new(o, "ranges", json_ranges(&v->vm->ram));
	return o;
}

static void print_json(const struct verdict *v, size_t n)
{
	json_t *all = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(all, json_verdict(&v[i]));
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

int vms_main(int argc, char **argv)
{
	struct verdict *v = NULL;
	bool json = false;
	size_t n = 0, can = 0;
	int rc;

	argp_err_exit_status = EXIT_OWN_FAILURE;
	argp_parse(&argp, argc, argv, 0, NULL, &json);
	rc = judge_all(&v, &n);
	if (rc) {
		log_err("cannot list processes: %s", strerror(-rc));
		return EXIT_OWN_FAILURE;
	}
	if (json)
		print_json(v, n);
	else
		print_table(v, n);
	for (size_t i = 0; i < n; i++) {
		can += v[i].vm != NULL;
		vm_free(v[i].vm);
	}
	free(v);
	if (fflush(stdout) || ferror(stdout)) {
		log_err("cannot write: %s", strerror(errno));
		return EXIT_OWN_FAILURE;
	}
	return can ? 0 : EXIT_NONE;
}
