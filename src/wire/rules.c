/* SPDX-License-Identifier: MIT */
/*
 * rules.c - what the guest asks for and what the host allows
 *
 * The text may come from the other side of the wire, so nothing of it is
 * echoed unseen: an error shows its beginning, control characters replaced.
 *
 * A colon is legal in a name (PCI addresses have two), hence only the end of
 * a rule is looked at for ":ro" and ":rw". What looks like one of them
 * misspelt, or like another tool's GUEST:HOST, is refused rather than taken
 * as a strange name. A name that really ends in ":word" can be given by
 * saying :rw after it; rules_format() always does. The same goes for ":ioctl=",
 * which has to be the last of a rule.
 */
#include "wire/rules.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/num.h"

#define FILE_MAX	(1024 * 1024)
#define SHOWN		120	/* of a text in an error, so that two fit */

#define FORM_PATH	"path:GUEST=HOST[:ro|:rw]"
#define FORM_DEV	"dev:GUEST[=HOST][:ro|:rw][:ioctl=LIST]"
#define FORM_ANY	FORM_PATH ", path:GUEST[:ro|:rw], " FORM_DEV \
			", net, eventfd, fuse, all"

struct form {
	const char *word;
	const char *form;	/* as an error shows it */
	enum rule_kind kind;
	bool names;		/* takes GUEST and HOST */
};

static const struct form forms[] = {
	{ "path", FORM_PATH, RULE_PATH, true },
	{ "dev", FORM_DEV, RULE_DEV, true },
	{ "net", "net", RULE_NET, false },
	{ "eventfd", "eventfd", RULE_EVENTFD, false },
	{ "fuse", "fuse", RULE_FUSE, false },
	{ "all", "all", RULE_ALL, false },
};

/* What is being parsed, and where to complain. */
struct parse {
	const char *text;
	const struct form *form;
	char *err;
};

static void rule_fini(struct rule *rule)
{
	free(rule->guest);
	free(rule->host);
	free(rule->base);
	free(rule->requests);
	memset(rule, 0, sizeof(*rule));
}

static void shrink(struct rules *rules, size_t n)
{
	while (rules->n > n)
		rule_fini(&rules->v[--rules->n]);
}

void rules_fini(struct rules *rules)
{
	shrink(rules, 0);
	free(rules->v);
	rules->v = NULL;
}

/* complain() - "RULE: WHY (expected FORM)"; returns -EINVAL */
static int __attribute__((format(printf, 2, 3)))
complain(const struct parse *p, const char *fmt, ...)
{
	char shown[SHOWN + 4], why[SHOWN + 128];
	va_list ap;
	size_t i;

	snprintf(shown, sizeof(shown), "%.*s%s", SHOWN, p->text,
		 strlen(p->text) > SHOWN ? "..." : "");
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	snprintf(p->err, RULES_ERR_MAX, "%s: %s (expected %s)", shown, why,
		 p->form ? p->form->form : FORM_ANY);
	for (i = 0; p->err[i]; i++)
		if (iscntrl((unsigned char)p->err[i]))
			p->err[i] = '?';
	return -EINVAL;
}

static int no_memory(char *err)
{
	snprintf(err, RULES_ERR_MAX, "out of memory");
	return -ENOMEM;
}

/* Does the component of len bytes consist of n dots and nothing else? */
static bool is_dots(const char *c, size_t len, size_t n)
{
	return len == n && strspn(c, ".") >= n;
}

/*
 * parse_name() - a copy of text[0, len) in normal form
 *
 * Dots are refused, not resolved: with symbolic links about, "a/.." need not
 * be where it stands.
 */
static int parse_name(const struct parse *p, const char *whose,
		      const char *text, size_t len, char **out)
{
	char *name cleanup_free = NULL;
	size_t i, end, n = 0;

	if (len == 0)
		return complain(p, "the %s name is empty", whose);
	if (text[0] != '/')
		return complain(p, "the %s name must be absolute", whose);
	if (len >= PATH_MAX)
		return complain(p, "the %s name is longer than %d bytes",
				whose, PATH_MAX - 1);
	for (i = 0; i < len; i++)
		if (iscntrl((unsigned char)text[i]))
			return complain(p, "the %s name has a control "
					"character in it", whose);
	name = malloc(len + 1);
	if (!name)
		return no_memory(p->err);
	for (i = 0; i < len; i = end) {
		while (i < len && text[i] == '/')
			i++;
		for (end = i; end < len && text[end] != '/'; end++)
			;
		if (is_dots(text + i, end - i, 1) ||
		    is_dots(text + i, end - i, 2))
			return complain(p, "the %s name must not have \".\" "
					"or \"..\" in it", whose);
		if (end == i)
			break;
		name[n++] = '/';
		memcpy(name + n, text + i, end - i);
		n += end - i;
	}
	if (n == 0)
		name[n++] = '/';
	name[n] = '\0';
	*out = name;
	name = NULL;
	return 0;
}

/*
 * parse_access() - cut :ro or :rw off the end of text[0, *len)
 *
 * A last ":word" of letters alone is taken for a misspelling.
 */
static int parse_access(const struct parse *p, const char *text, size_t *len,
			bool *ro)
{
	const char *colon = memrchr(text, ':', *len);
	const char *word, *c;
	size_t n;

	*ro = false;
	if (!colon)
		return 0;
	word = colon + 1;
	n = (size_t)(text + *len - word);
	if (n == 2 && (!memcmp(word, "ro", n) || !memcmp(word, "rw", n))) {
		*ro = word[1] == 'o';
		*len -= n + 1;
		return 0;
	}
	for (c = word; c < word + n && isalpha((unsigned char)*c); c++)
		;
	if (p->form->kind == RULE_PATH && c == word + n)
		return complain(p, "\":%.*s\" at the end is neither :ro nor "
				":rw", (int)(n < SHOWN ? n : SHOWN), word);
	return 0;
}

/* NUMBER[-NUMBER] at text, of which *end is behind */
static int parse_range(const struct parse *p, const char *text,
		       struct request_range *out, const char **end)
{
	unsigned long long v[2];
	char *at = (char *)text;

	for (int i = 0; i < 2; i++) {
		if (!isdigit((unsigned char)*at))
			return complain(p, "a request of ioctl is a number, as"
					" in 0xae80, not \"%.*s\"", SHOWN,
					*at ? at : "");
		errno = 0;
		v[i] = strtoull(at, &at, 0);
		if (errno || v[i] > UINT32_MAX)
			return complain(p, "requests of ioctl have 32 bits");
		if (i == 0 && *at != '-')
			v[++i] = v[0];
		else if (i == 0)
			at++;
	}
	if (v[0] > v[1])
		return complain(p, "the range %#llx-%#llx is empty", v[0],
				v[1]);
	*out = (struct request_range){ (uint32_t)v[0], (uint32_t)v[1] };
	*end = at;
	return 0;
}

static int parse_list(const struct parse *p, const char *text,
		      struct rule *rule)
{
	rule->limited = true;
	if (strcmp(text, "none") == 0)
		return 0;
	rule->requests = calloc(RULE_REQUESTS_MAX, sizeof(*rule->requests));
	if (!rule->requests)
		return no_memory(p->err);
	for (;; text++) {
		int rc;

		if (rule->nrequests == RULE_REQUESTS_MAX)
			return complain(p, "more than %d ranges of requests",
					RULE_REQUESTS_MAX);
		rc = parse_range(p, text, &rule->requests[rule->nrequests++],
				 &text);
		if (rc || !*text)
			return rc;
		if (*text != ',')
			return complain(p, "\"%.*s\" follows a request of"
					" ioctl", SHOWN, text);
	}
}

/* parse_requests() - cut :ioctl=LIST off the end of text[0, *len) */
static int parse_requests(const struct parse *p, const char *text, size_t *len,
			  struct rule *rule)
{
	static const char word[] = ":ioctl=";
	const char *colon = memrchr(text, ':', *len);

	if (rule->kind != RULE_DEV || !colon ||
	    strncmp(colon, word, strlen(word)))
		return 0;
	*len = (size_t)(colon - text);
	return parse_list(p, colon + strlen(word), rule);
}

/* parse_names() - GUEST[=HOST], and what is allowed with it */
static int parse_names(const struct parse *p, const char *text,
		       struct rule *rule)
{
	size_t len = strlen(text);
	const char *eq;
	int rc;

	rc = parse_requests(p, text, &len, rule);
	if (!rc)
		rc = parse_access(p, text, &len, &rule->ro);
	if (rc)
		return rc;
	eq = memchr(text, '=', len);
	rc = parse_name(p, "guest", text, eq ? (size_t)(eq - text) : len,
			&rule->guest);
	if (rc)
		return rc;
	if (strstr(rule->guest, ":/"))
		return complain(p, "the host name is set apart by \"=\", "
				"not by \":\"");
	if (rule->kind == RULE_DEV && !strcmp(rule->guest, "/"))
		return complain(p, "a device cannot be the root directory");
	if (eq)
		return parse_name(p, "host", eq + 1,
				  len - (size_t)(eq + 1 - text), &rule->host);
	rule->host = strdup(rule->guest);
	return rule->host ? 0 : no_memory(p->err);
}

static int parse_rule(struct parse *p, struct rule *rule)
{
	size_t i, n = strcspn(p->text, ":");
	const char *rest = p->text + n;

	if (p->text[0] == '\0')
		return complain(p, "the rule is empty");
	for (i = 0; i < ARRAY_SIZE(forms); i++)
		if (strlen(forms[i].word) == n &&
		    !memcmp(forms[i].word, p->text, n))
			p->form = &forms[i];
	if (!p->form)
		return complain(p, "there is no rule \"%.*s\"",
				(int)(n < SHOWN ? n : SHOWN), p->text);
	rule->kind = p->form->kind;
	if (p->form->names && *rest == '\0')
		return complain(p, "\":\" and a guest name are missing");
	if (p->form->names)
		return parse_names(p, rest + 1, rule);
	if (*rest)
		return complain(p, "\"%s\" stands alone", p->form->word);
	return 0;
}

static int append(const struct parse *p, struct rules *rules,
		  struct rule *rule)
{
	struct rule *v;
	size_t i;

	for (i = 0; rule->guest && i < rules->n; i++)
		if (rules->v[i].guest &&
		    !strcmp(rules->v[i].guest, rule->guest))
			return complain(p, "another rule has the guest name "
					"%.*s already", SHOWN, rule->guest);
	v = reallocarray(rules->v, rules->n + 1, sizeof(*v));
	if (!v)
		return no_memory(p->err);
	rules->v = v;
	rules->v[rules->n++] = *rule;
	return 0;
}

int rules_add(struct rules *rules, const char *text, char err[RULES_ERR_MAX])
{
	struct parse p = { .text = text, .err = err };
	struct rule rule = { 0 };
	int rc;

	err[0] = '\0';
	rc = parse_rule(&p, &rule);
	if (!rc)
		rc = append(&p, rules, &rule);
	if (rc)
		rule_fini(&rule);
	return rc;
}

/* trim() - one line without its comment and the space around it */
static char *trim(char *line)
{
	char *end;

	line[strcspn(line, "#")] = '\0';
	while (isspace((unsigned char)*line))
		line++;
	end = line + strlen(line);
	while (end > line && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return line;
}

static int load_lines(struct rules *rules, const char *file, char *text,
		      char err[RULES_ERR_MAX])
{
	char place[SHOWN + 16];
	unsigned int number = 0;
	char *line;
	size_t n;
	int rc;

	while ((line = strsep(&text, "\n"))) {
		number++;
		line = trim(line);
		if (*line == '\0')
			continue;
		rc = rules_add(rules, line, err);
		if (rc == 0)
			continue;
		snprintf(place, sizeof(place), "%.*s:%u: ", SHOWN, file,
			 number);
		n = strlen(place);
		memmove(err + n, err, RULES_ERR_MAX - n);
		memcpy(err, place, n);
		err[RULES_ERR_MAX - 1] = '\0';
		return rc;
	}
	return 0;
}

int rules_load(struct rules *rules, const char *file, char err[RULES_ERR_MAX])
{
	char *text cleanup_free = NULL;
	size_t before = rules->n;
	ssize_t len;
	int rc;

	err[0] = '\0';
	len = fd_read_all(file, FILE_MAX, &text);
	if (len == -EFBIG) {
		snprintf(err, RULES_ERR_MAX, "%.*s: more than %d bytes are no "
			 "policy", SHOWN, file, FILE_MAX);
		return -EFBIG;
	}
	if (len < 0) {
		snprintf(err, RULES_ERR_MAX, "%.*s: %s", SHOWN, file,
			 strerror((int)-len));
		return (int)len;
	}
	if (memchr(text, '\0', (size_t)len)) {
		snprintf(err, RULES_ERR_MAX, "%.*s: not a text file: it has "
			 "zero bytes in it", SHOWN, file);
		return -EINVAL;
	}
	rc = load_lines(rules, file, text, err);
	if (rc)		/* all of a policy or nothing of it */
		shrink(rules, before);
	return rc;
}

static int format_dev(const struct rule *rule, bool same, char *buf,
		      size_t size)
{
	char list[RULE_REQUESTS_MAX * 24] = "";
	size_t n = 0;

	for (size_t i = 0; i < rule->nrequests; i++) {
		const struct request_range *r = &rule->requests[i];

		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%#x",
				      i ? "," : "", r->first);
		if (r->last != r->first)
			n += (size_t)snprintf(list + n, sizeof(list) - n,
					      "-%#x", r->last);
	}
	return snprintf(buf, size, "dev:%s%s%s:%s%s%s", rule->guest,
			same ? "" : "=", same ? "" : rule->host,
			rule->ro ? "ro" : "rw",
			rule->limited ? ":ioctl=" : "",
			!rule->limited || n ? list : "none");
}

int rules_format(const struct rule *rule, char *buf, size_t size)
{
	bool same = rule->guest && !strcmp(rule->guest, rule->host);

	switch (rule->kind) {
	case RULE_PATH:
		return snprintf(buf, size, "path:%s%s%s:%s", rule->guest,
				same ? "" : "=", same ? "" : rule->host,
				rule->ro ? "ro" : "rw");
	case RULE_DEV:
		return format_dev(rule, same, buf, size);
	case RULE_NET:
		return snprintf(buf, size, "net");
	case RULE_EVENTFD:
		return snprintf(buf, size, "eventfd");
	case RULE_FUSE:
		return snprintf(buf, size, "fuse");
	case RULE_ALL:
		return snprintf(buf, size, "all");
	}
	return snprintf(buf, size, "?");
}

const char *rules_below(const char *dir, const char *name)
{
	size_t n = strcmp(dir, "/") ? strlen(dir) : 0;

	if (strncmp(dir, name, n) || (name[n] != '/' && name[n] != '\0'))
		return NULL;
	return strcmp(name + n, "/") ? name + n : "";
}

/* same_place() - does the guest name asked for lead where the policy says? */
static bool same_place(const struct rule *allowed, const struct rule *asked)
{
	const char *guest_rest = rules_below(allowed->guest, asked->guest);
	const char *host_rest = rules_below(allowed->host, asked->host);

	return guest_rest && host_rest && !strcmp(guest_rest, host_rest);
}

static const struct rule *find_kind(const struct rules *rules,
				    enum rule_kind kind)
{
	size_t i;

	for (i = 0; i < rules->n; i++)
		if (rules->v[i].kind == kind)
			return &rules->v[i];
	return NULL;
}

static bool has_requests(const struct rule *r, struct request_range asked)
{
	for (size_t i = 0; i < r->nrequests; i++)
		if (r->requests[i].first <= asked.first &&
		    asked.last <= r->requests[i].last)
			return true;
	return false;
}

static bool covers_requests(const struct rule *allowed,
			    const struct rule *asked)
{
	for (size_t i = 0; allowed->limited && i < asked->nrequests; i++)
		if (!has_requests(allowed, asked->requests[i]))
			return false;
	return true;
}

int rule_limit(struct rule *rule, const struct rule *by)
{
	if (rule->limited || !by->limited)
		return 0;
	rule->limited = true;
	if (!by->nrequests)
		return 0;
	rule->requests = calloc(by->nrequests, sizeof(*rule->requests));
	if (!rule->requests)
		return -ENOMEM;
	memcpy(rule->requests, by->requests,
	       by->nrequests * sizeof(*rule->requests));
	rule->nrequests = by->nrequests;
	return 0;
}

/*
 * The longest match alone decides, as in the shadow's mount namespace: under
 * a nested rule the outer one has no say.
 */
static const struct rule *cover_name(const struct rules *policy,
				     const struct rule *asked)
{
	const struct rule *r = rules_match(policy, asked->guest);

	if (!r || r->kind != asked->kind || !same_place(r, asked))
		return NULL;
	if (r->kind == RULE_DEV && (strcmp(r->guest, asked->guest) ||
				    !covers_requests(r, asked)))
		return NULL;
	return r->ro && !asked->ro ? NULL : r;
}

const struct rule *rules_cover(const struct rules *policy,
			       const struct rule *asked)
{
	const struct rule *r;

	if (asked->kind == RULE_PATH || asked->kind == RULE_DEV)
		r = cover_name(policy, asked);
	else
		r = find_kind(policy, asked->kind);
	return r ? r : find_kind(policy, RULE_ALL);
}

const struct rule *rules_match(const struct rules *rules, const char *path)
{
	const struct rule *best = NULL;
	size_t i;

	for (i = 0; path[0] == '/' && i < rules->n; i++) {
		const struct rule *r = &rules->v[i];

		if (!r->guest || !rules_below(r->guest, path))
			continue;
		if (!best || strlen(r->guest) > strlen(best->guest))
			best = r;
	}
	return best;
}

bool rules_has(const struct rules *rules, enum rule_kind kind)
{
	return find_kind(rules, kind) != NULL;
}
