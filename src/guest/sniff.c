/* SPDX-License-Identifier: MIT */
/*
 * sniff.c - what a program uses, as a policy
 *
 * Theory of operation. The command runs as under `run` that forwards nothing and
 * patches nothing: every call of interest stops, and before it is made here its
 * arguments are looked at. Names are written down as they lead, symbolic links
 * included, if there is something; device nodes with the requests of ioctl that are
 * made of them. What the program makes of a device (KVM_CREATE_VM) has no name:
 * requests of such a descriptor are put down to every device, which to the kernel's
 * filter is the same (host/sandbox.c).
 *
 * The policy is to be read: what is read-only says so, a directory of which several
 * names were used stands for them, and what every Linux has is left out.
 */
#include "guest/sniff.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/exit.h"
#include "base/log.h"
#include "base/num.h"
#include "guest/path.h"
#include "wire/calls.h"

/* So many names of a directory are one rule for it. */
#define TOGETHER	3

struct requests {
	uint32_t *v;		/* owned, in the order of their first use */
	size_t n;
};

struct use {
	char *name;		/* owned: absolute and normal */
	bool device;
	bool writes;
	struct requests requests;
};

struct sniffer {
	void *uses;		/* tsearch(3)'s, by name; owned */
	struct requests unnamed;	/* of what was made of devices */
	bool net;
	bool system;		/* list what every Linux has, too */
	const char *out;
};

/* --- what was used ------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
	const struct use *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static struct use *use_of(struct sniffer *s, const char *name)
{
	struct use *u = calloc(1, sizeof(*u)), **found;

	if (u)
		u->name = strdup(name);
	found = u && u->name ? tsearch(u, &s->uses, by_name) : NULL;
	if (!found || *found != u) {
		if (u)
			free(u->name);
		free(u);
	}
	return found ? *found : NULL;
}

static void add_request(struct requests *r, uint32_t request)
{
	uint32_t *v;

	for (size_t i = 0; i < r->n; i++)
		if (r->v[i] == request)
			return;
	v = realloc(r->v, (r->n + 1) * sizeof(*v));
	if (!v)
		return;
	r->v = v;
	r->v[r->n++] = request;
}

static bool is_node(mode_t mode)
{
	return S_ISCHR(mode) || S_ISBLK(mode);
}

/* --- calls --------------------------------------------------------------- */

/* By what the table has no letter for: does it only look? */
static bool only_looks(uint64_t nr)
{
	switch (nr) {
	case SYS_stat:
	case SYS_lstat:
	case SYS_newfstatat:
	case SYS_statx:
	case SYS_statfs:
	case SYS_access:
	case SYS_faccessat:
	case SYS_faccessat2:
	case SYS_readlink:
	case SYS_readlinkat:
	case SYS_chdir:
	case SYS_execve:
	case SYS_execveat:
	case SYS_getxattr:
	case SYS_lgetxattr:
	case SYS_listxattr:
	case SYS_llistxattr:
	case SYS_inotify_add_watch:
	case SYS_uselib:
		return true;
	}
	return false;
}

static bool writes(const struct task *t, const struct call *c)
{
	const char *o = strchr(c->args, 'o');
	uint64_t flags;

	if (!o)
		return !only_looks(t->nr);
	flags = t->args[o - c->args];
	return (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
}

/* What is not there, but will be, is its directory's. */
static void sniff_name(struct sniffer *s, char *name, bool written)
{
	struct stat st;
	struct use *u;
	char *slash;

	if (stat(name, &st) < 0) {
		slash = strrchr(name, '/');
		if (!written || !slash || slash == name)
			return;
		*slash = '\0';
		if (stat(name, &st) < 0)
			return;
	}
	u = use_of(s, name);
	if (!u)
		return;
	u->device = is_node(st.st_mode);
	u->writes |= written;
}

static void sniff_path(struct sniffer *s, struct tracer *tr, struct task *t,
		       const struct call *c, int i)
{
	const int dirfd = i > 0 && c->args[i - 1] == 'd' ?
			  (int)t->args[i - 1] : AT_FDCWD;
	char text[PATH_MAX];
	struct place place;

	if (!t->args[i] || path_read(t, t->args[i], text) < 0 || !*text ||
	    path_resolve(tr, t, dirfd, text, c->args[i] == 'p', &place) < 0 ||
	    !*place.abs)
		return;
	sniff_name(s, place.abs, writes(t, c));
}

static void sniff_ioctl(struct sniffer *s, const struct task *t)
{
	const uint32_t request = (uint32_t)t->args[1];
	char path[64], name[PATH_MAX];
	struct use *u;
	struct stat st;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", t->tid,
		 (int)t->args[0]);
	n = readlink(path, name, sizeof(name) - 1);
	if (n < 0)
		return;
	name[n] = '\0';
	if (strncmp(name, "anon_inode:", 11) == 0) {
		add_request(&s->unnamed, request);
	} else if (stat(path, &st) == 0 && is_node(st.st_mode)) {
		u = use_of(s, name);
		if (!u)
			return;
		u->device = true;
		add_request(&u->requests, request);
	}
}

void sniff_call(struct sniffer *s, struct tracer *tr, struct task *t,
		const struct call *c)
{
	for (int i = 0; c->args[i]; i++)
		if (c->args[i] == 'p' || c->args[i] == 'P')
			sniff_path(s, tr, t, c, i);
	if (t->nr == SYS_ioctl)
		sniff_ioctl(s, t);
	if (t->nr == SYS_socket && (t->args[0] == AF_INET ||
				    t->args[0] == AF_INET6))
		s->net = true;
}

/* --- the policy ---------------------------------------------------------- */

static bool any_below(const char *name, const char *const *dirs)
{
	for (; *dirs; dirs++)
		if (rules_below(*dirs, name))
			return true;
	return false;
}

/* What is of the process itself, and what is no device of anybody's. */
static bool is_own(const char *name)
{
	static const char *const own[] = {
		"/proc", "/sys", "/dev/tty", "/dev/pts", "/dev/ptmx", "/dev/fd",
		"/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/null",
		"/dev/zero", "/dev/full", "/dev/random", "/dev/urandom",
		"/dev/shm", NULL };

	return any_below(name, own);
}

static bool is_system(const char *name)
{
	static const char *const dirs[] = {
		"/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin",
		"/etc", "/run", "/boot", NULL };

	return any_below(name, dirs) || !strchr(name + 1, '/');
}

struct policy {
	const struct sniffer *s;
	struct use **v;		/* owned array of borrowed ones */
	size_t n, left_out;
};

static void collect(const void *node, VISIT visit, void *ctx)
{
	struct use *u = *(struct use *const *)node;
	struct policy *p = ctx;
	struct use **v;

	if (visit != postorder && visit != leaf)
		return;
	if (is_own(u->name))
		return;
	if (!u->device && !p->s->system && is_system(u->name)) {
		p->left_out++;
		return;
	}
	v = realloc(p->v, (p->n + 1) * sizeof(struct use *));
	if (!v)
		return;
	p->v = v;
	p->v[p->n++] = u;
}

static size_t dir_len(const char *name)
{
	return (size_t)(strrchr(name, '/') - name);
}

/* A directory that is not as good as the root, for which there is no rule. */
static bool may_stand(const char *name, size_t len)
{
	return len > 0 && memchr(name + 1, '/', len - 1);
}

/*
 * From v[i] on: how many there are of one directory, and is any written? They
 * stand in a row, but for what is deeper.
 */
static size_t siblings(const struct policy *p, size_t i, bool *written)
{
	const size_t len = dir_len(p->v[i]->name);
	size_t n = 0;

	*written = false;
	for (size_t k = i; k < p->n; k++) {
		const struct use *u = p->v[k];

		if (strncmp(u->name, p->v[i]->name, len + 1) != 0)
			break;
		if (u->device)
			continue;
		n++;
		*written |= u->writes;
	}
	return n;
}

static void drop(struct policy *p, size_t i)
{
	p->n--;
	memmove(p->v + i, p->v + i + 1, (p->n - i) * sizeof(*p->v));
}

/* What the rule for a directory says of all below it needs none of its own. */
static void drop_covered(struct policy *p)
{
	for (size_t i = 0; i < p->n; i++)
		for (size_t k = p->n; k-- > i + 1;)
			if (!p->v[i]->device && !p->v[k]->device &&
			    rules_below(p->v[i]->name, p->v[k]->name) &&
			    (p->v[i]->writes || !p->v[k]->writes))
				drop(p, k);
}

/* Deepest first: names become their directory, as long as there are enough. */
static void gather(struct policy *p)
{
	drop_covered(p);
	for (size_t i = p->n; i-- > 0;) {
		struct use *u = p->v[i];
		const size_t len = dir_len(u->name);
		bool written;

		if (u->device || !may_stand(u->name, len) ||
		    siblings(p, i, &written) < TOGETHER)
			continue;
		u->name[len] = '\0';
		u->writes = written;
		drop_covered(p);
		i = p->n;
	}
}

static int by_number(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * The requests that were seen, as ranges; those of descriptors without a name of
 * their own, too. false: there are more than a rule can have.
 */
static bool find_ranges(const struct use *u, const struct requests *more,
			struct request_range *ranges, size_t *n)
{
	struct requests all = { 0 };

	for (size_t i = 0; i < u->requests.n; i++)
		add_request(&all, u->requests.v[i]);
	for (size_t i = 0; i < more->n; i++)
		add_request(&all, more->v[i]);
	if (all.n)
		qsort(all.v, all.n, sizeof(*all.v), by_number);
	*n = 0;
	for (size_t i = 0; i < all.n; i++) {
		if (*n && all.v[i] == ranges[*n - 1].last + 1) {
			ranges[*n - 1].last = all.v[i];
		} else if (*n < RULE_REQUESTS_MAX) {
			ranges[(*n)++] = (struct request_range){ all.v[i],
								 all.v[i] };
		} else {
			free(all.v);
			return false;
		}
	}
	free(all.v);
	return true;
}

static void write_rule(const struct use *u, const struct requests *more,
		       FILE *f)
{
	struct request_range ranges[RULE_REQUESTS_MAX];
	struct rule rule = { .kind = u->device ? RULE_DEV : RULE_PATH,
			     .ro = !u->writes, .requests = ranges,
			     .guest = u->name, .host = u->name };
	char text[MSG_RULE_MAX];

	rule.limited = u->device && find_ranges(u, more, ranges,
						&rule.nrequests);
	if (!rule.limited)
		rule.nrequests = 0;
	if (u->device && !rule.limited)
		fprintf(f, "# more requests than a list may have (%d ranges):"
			" all are allowed\n", RULE_REQUESTS_MAX);
	if (rules_format(&rule, text, sizeof(text)) < (int)sizeof(text))
		fprintf(f, "%s\n", text);
	else
		fprintf(f, "# a name that is too long for a rule: %s\n",
			u->name);
}

/* On one line, whatever is in it. */
static void write_words(char **words, FILE *f)
{
	for (; *words; words++) {
		fputc(' ', f);
		for (const char *c = *words; *c; c++)
			fputc((unsigned char)*c < ' ' ? ' ' : *c, f);
	}
}

static void write_policy(const struct policy *p, char **command, FILE *f)
{
	fprintf(f, "# What this command used, by darkshadow sniff:\n#");
	write_words(command, f);
	fprintf(f, "\n");
	for (size_t i = 0; i < p->n; i++)
		write_rule(p->v[i], &p->s->unnamed, f);
	if (p->s->net)
		fprintf(f, "net\n");
	if (p->left_out)
		fprintf(f, "# %zu names below /usr, /etc and the like are left"
			" out (--system)\n", p->left_out);
}

static int finish(struct sniffer *s, char **command)
{
	struct policy p = { .s = s };
	FILE *f = s->out ? fopen(s->out, "we") : stderr;
	int err = 0;

	if (!f) {
		log_err("%s: %s", s->out, strerror(errno));
		return -errno;
	}
	twalk_r(s->uses, collect, &p);
	gather(&p);
	write_policy(&p, command, f);
	if (s->out && fclose(f) != 0) {
		err = -errno;
		log_err("%s: %s", s->out, strerror(-err));
	}
	free(p.v);
	return err;
}

static void free_use(void *node)
{
	struct use *u = node;

	free(u->name);
	free(u->requests.v);
	free(u);
}

/* --- the command line ---------------------------------------------------- */

enum { OPT_SYSTEM = 256 };

static const struct argp_option options[] = {
	{ "output", 'o', "FILE", 0,
	  "Write the policy to FILE (default: standard error)", 0 },
	{ "system", OPT_SYSTEM, NULL, 0,
	  "List what every Linux has as well: files below /usr, /etc ...", 0 },
	{ 0 },
};

struct sniff_options {
	struct sniffer s;
	char **command;
};

static error_t parse_opt(int key, char *arg, struct argp_state *state)
{
	struct sniff_options *o = state->input;

	switch (key) {
	case 'o':
		o->s.out = arg;
		return 0;
	case OPT_SYSTEM:
		o->s.system = true;
		return 0;
	}
	return run_parse_command(key, state, &o->command);
}

static const struct argp argp = {
	.options = options,
	.parser = parse_opt,
	.args_doc = "[--] COMMAND [ARG...]",
	.doc = "Run COMMAND here, on a machine that has all it needs, and write a"
	       " policy that allows what it used.\v"
	       "Example:\n  darkshadow sniff -o kvm.policy -- kvm-program\n"
	       "  darkshadow host --vm NAME --transport shm:/dev/shm/ds"
	       " --policy kvm.policy",
};

int sniff_main(int argc, char **argv, sibling_fn sibling)
{
	struct sniff_options o = { .command = NULL };
	int status;

	argp_err_exit_status = EXIT_OWN_FAILURE;
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &o);
	status = run_sniffed(o.command, &o.s, sibling);
	if (status != EXIT_OWN_FAILURE && finish(&o.s, o.command) < 0)
		status = EXIT_OWN_FAILURE;
	tdestroy(o.s.uses, free_use);
	free(o.s.unnamed.v);
	return status;
}
