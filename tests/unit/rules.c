/* SPDX-License-Identifier: MIT */
/* rules.c - does wire/rules.c read, refuse and compare rules rightly? */
#include "wire/rules.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "tap.h"

/* ---- one rule ---- */

static const struct {
	const char *text;
	enum rule_kind kind;
	bool ro;
	const char *guest, *host;
	const char *formatted;
} good_rules[] = {
	{ "path:/a=/b", RULE_PATH, false, "/a", "/b", "path:/a=/b:rw" },
	{ "path:/a=/b:ro", RULE_PATH, true, "/a", "/b", "path:/a=/b:ro" },
	{ "path:/a=/b:rw", RULE_PATH, false, "/a", "/b", "path:/a=/b:rw" },
	{ "path:/a", RULE_PATH, false, "/a", "/a", "path:/a:rw" },
	{ "path:/a:ro", RULE_PATH, true, "/a", "/a", "path:/a:ro" },
	{ "path:/=/srv", RULE_PATH, false, "/", "/srv", "path:/=/srv:rw" },
	{ "path:/", RULE_PATH, false, "/", "/", "path:/:rw" },
	{ "path:/:ro", RULE_PATH, true, "/", "/", "path:/:ro" },
	{ "path:///a//b/=/c///", RULE_PATH, false, "/a/b", "/c",
	  "path:/a/b=/c:rw" },
	{ "path:/a/...=/.b", RULE_PATH, false, "/a/...", "/.b",
	  "path:/a/...=/.b:rw" },
	{ "path:/a b=/c d", RULE_PATH, false, "/a b", "/c d",
	  "path:/a b=/c d:rw" },
	{ "path:/a=/b=c", RULE_PATH, false, "/a", "/b=c", "path:/a=/b=c:rw" },
	{ "path:/sys/bus/pci/devices/0000:00:01.0:ro", RULE_PATH, true,
	  "/sys/bus/pci/devices/0000:00:01.0",
	  "/sys/bus/pci/devices/0000:00:01.0",
	  "path:/sys/bus/pci/devices/0000:00:01.0:ro" },
	{ "path:/p/0000:00:01.0", RULE_PATH, false, "/p/0000:00:01.0",
	  "/p/0000:00:01.0", "path:/p/0000:00:01.0:rw" },
	{ "path:/x=/y:ro:rw", RULE_PATH, false, "/x", "/y:ro",
	  "path:/x=/y:ro:rw" },
	{ "path:/x=/y:word:rw", RULE_PATH, false, "/x", "/y:word",
	  "path:/x=/y:word:rw" },
	{ "dev:/dev/kvm", RULE_DEV, false, "/dev/kvm", "/dev/kvm",
	  "dev:/dev/kvm:rw" },
	{ "dev:/dev/a=/dev/b", RULE_DEV, false, "/dev/a", "/dev/b",
	  "dev:/dev/a=/dev/b:rw" },
	{ "dev:/dev/a:ro", RULE_DEV, true, "/dev/a", "/dev/a",
	  "dev:/dev/a:ro" },
	{ "dev:/dev/a:ioctl=0x5401", RULE_DEV, false, "/dev/a", "/dev/a",
	  "dev:/dev/a:rw:ioctl=0x5401" },
	{ "dev:/dev/a=/dev/b:ro:ioctl=1,0x10-0x1f,4294967295", RULE_DEV, true,
	  "/dev/a", "/dev/b",
	  "dev:/dev/a=/dev/b:ro:ioctl=0x1,0x10-0x1f,0xffffffff" },
	{ "dev:/dev/a:ioctl=none", RULE_DEV, false, "/dev/a", "/dev/a",
	  "dev:/dev/a:rw:ioctl=none" },
	{ "net", RULE_NET, false, NULL, NULL, "net" },
	{ "eventfd", RULE_EVENTFD, false, NULL, NULL, "eventfd" },
	{ "fuse", RULE_FUSE, false, NULL, NULL, "fuse" },
	{ "all", RULE_ALL, false, NULL, NULL, "all" },
};

static bool same(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static void test_good(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(good_rules); i++) {
		struct rules rules = { 0 }, again = { 0 };
		char err[RULES_ERR_MAX], buf[256];
		struct rule *r;
		bool good;

		if (!okf(rules_add(&rules, good_rules[i].text, err) == 0 &&
			rules.n == 1, "%s is taken", good_rules[i].text)) {
			printf("# %s\n", err);
			continue;
		}
		r = &rules.v[0];
		okf(r->kind == good_rules[i].kind &&
		    r->ro == good_rules[i].ro &&
		    same(r->guest, good_rules[i].guest) &&
		    same(r->host, good_rules[i].host),
		    "%s means what it says", good_rules[i].text);
		good = rules_format(r, buf, sizeof(buf)) ==
		       (int)strlen(good_rules[i].formatted) &&
		       !strcmp(buf, good_rules[i].formatted);
		good = good && !rules_add(&again, buf, err) &&
		       again.v[0].kind == r->kind && again.v[0].ro == r->ro &&
		       same(again.v[0].guest, r->guest) &&
		       same(again.v[0].host, r->host);
		okf(good, "%s is formatted as %s and read back",
		    good_rules[i].text, good_rules[i].formatted);
		rules_fini(&rules);
		rules_fini(&again);
	}
}

#define FORM_PATH "(expected path:GUEST=HOST[:ro|:rw])"
#define FORM_DEV "(expected dev:GUEST[=HOST][:ro|:rw][:ioctl=LIST])"

static const struct {
	const char *text, *err;
} bad_rules[] = {
	{ "path:/mnt/host=srv", "path:/mnt/host=srv: the host name must be "
	  "absolute " FORM_PATH },
	{ "path:mnt=/srv", "path:mnt=/srv: the guest name must be absolute "
	  FORM_PATH },
	{ "path", "path: \":\" and a guest name are missing " FORM_PATH },
	{ "path:", "path:: the guest name is empty " FORM_PATH },
	{ "path:=/b", "path:=/b: the guest name is empty " FORM_PATH },
	{ "path:/a=", "path:/a=: the host name is empty " FORM_PATH },
	{ "path:/a=:ro", "path:/a=:ro: the host name is empty " FORM_PATH },
	{ "path:/a/../b", "path:/a/../b: the guest name must not have \".\" "
	  "or \"..\" in it " FORM_PATH },
	{ "path:/a=/b/..", "path:/a=/b/..: the host name must not have \".\" "
	  "or \"..\" in it " FORM_PATH },
	{ "path:/./a", "path:/./a: the guest name must not have \".\" or "
	  "\"..\" in it " FORM_PATH },
	{ "path:/a=/b:rx", "path:/a=/b:rx: \":rx\" at the end is neither :ro "
	  "nor :rw " FORM_PATH },
	{ "path:/a=/b:", "path:/a=/b:: \":\" at the end is neither :ro nor "
	  ":rw " FORM_PATH },
	{ "path:/a=/b:RO", "path:/a=/b:RO: \":RO\" at the end is neither :ro "
	  "nor :rw " FORM_PATH },
	{ "path:/a:/b", "path:/a:/b: the host name is set apart by \"=\", not "
	  "by \":\" " FORM_PATH },
	{ "path:/a:/b:ro", "path:/a:/b:ro: the host name is set apart by "
	  "\"=\", not by \":\" " FORM_PATH },
	{ "path:/a\n=/b", "path:/a?=/b: the guest name has a control "
	  "character in it " FORM_PATH },
	{ "path:/a=/\x1b[2J", "path:/a=/?[2J: the host name has a control "
	  "character in it " FORM_PATH },
	{ "dev", "dev: \":\" and a guest name are missing " FORM_DEV },
	{ "dev:kvm", "dev:kvm: the guest name must be absolute " FORM_DEV },
	{ "dev:/=/dev/kvm", "dev:/=/dev/kvm: a device cannot be the root "
	  "directory " FORM_DEV },
	{ "dev:/dev/a:ioctl=", "dev:/dev/a:ioctl=: a request of ioctl is a "
	  "number, as in 0xae80, not \"\" " FORM_DEV },
	{ "dev:/dev/a:ioctl=KVM_RUN", "dev:/dev/a:ioctl=KVM_RUN: a request of "
	  "ioctl is a number, as in 0xae80, not \"KVM_RUN\" " FORM_DEV },
	{ "dev:/dev/a:ioctl=1,", "dev:/dev/a:ioctl=1,: a request of ioctl is a "
	  "number, as in 0xae80, not \"\" " FORM_DEV },
	{ "dev:/dev/a:ioctl=1-", "dev:/dev/a:ioctl=1-: a request of ioctl is a "
	  "number, as in 0xae80, not \"\" " FORM_DEV },
	{ "dev:/dev/a:ioctl=-1", "dev:/dev/a:ioctl=-1: a request of ioctl is a "
	  "number, as in 0xae80, not \"-1\" " FORM_DEV },
	{ "dev:/dev/a:ioctl=1;2", "dev:/dev/a:ioctl=1;2: \";2\" follows a "
	  "request of ioctl " FORM_DEV },
	{ "dev:/dev/a:ioctl=2-1", "dev:/dev/a:ioctl=2-1: the range 0x2-0x1 is "
	  "empty " FORM_DEV },
	{ "dev:/dev/a:ioctl=0x100000000", "dev:/dev/a:ioctl=0x100000000: "
	  "requests of ioctl have 32 bits " FORM_DEV },
	{ "path:/a:ioctl=1", "path:/a:ioctl=1: the host name must be absolute "
	  FORM_PATH },
	{ "net:eth0", "net:eth0: \"net\" stands alone (expected net)" },
	{ "all:", "all:: \"all\" stands alone (expected all)" },
	{ "", ": the rule is empty (expected path:GUEST=HOST[:ro|:rw], "
	  "path:GUEST[:ro|:rw], dev:GUEST[=HOST][:ro|:rw]"
	  "[:ioctl=LIST], net, eventfd, fuse, all)" },
	{ "file:/a", "file:/a: there is no rule \"file\" (expected "
	  "path:GUEST=HOST[:ro|:rw], path:GUEST[:ro|:rw], "
	  "dev:GUEST[=HOST][:ro|:rw][:ioctl=LIST], net, eventfd, fuse, all)" },
	{ "pat:/a", "pat:/a: there is no rule \"pat\" (expected "
	  "path:GUEST=HOST[:ro|:rw], path:GUEST[:ro|:rw], "
	  "dev:GUEST[=HOST][:ro|:rw][:ioctl=LIST], net, eventfd, fuse, all)" },
	{ " net", " net: there is no rule \" net\" (expected "
	  "path:GUEST=HOST[:ro|:rw], path:GUEST[:ro|:rw], "
	  "dev:GUEST[=HOST][:ro|:rw][:ioctl=LIST], net, eventfd, fuse, all)" },
	{ "PATH:/a", "PATH:/a: there is no rule \"PATH\" (expected "
	  "path:GUEST=HOST[:ro|:rw], path:GUEST[:ro|:rw], "
	  "dev:GUEST[=HOST][:ro|:rw][:ioctl=LIST], net, eventfd, fuse, all)" },
};

static void test_bad(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad_rules); i++) {
		struct rules rules = { 0 };
		char err[RULES_ERR_MAX] = "";
		int rc = rules_add(&rules, bad_rules[i].text, err);

		if (!okf(rc == -EINVAL && rules.n == 0 &&
			!strcmp(err, bad_rules[i].err),
			"refused with a reason: bad rule %zu", i))
			printf("# %d %s\n", rc, err);
		rules_fini(&rules);
	}
}

static void test_hostile(void)
{
	static const char *const starts[] = {
		"", "path:", "path:/", "path:/a=/", "path:/a:", "dev:/", "net:",
		"path:/a=/b:", "path://", "all:/",
	};
	static const char fill[] = "a/.:= \n\xff";
	struct rules rules = { 0 };
	char err[RULES_ERR_MAX], *text;
	bool good = true;
	size_t i, j, n;

	for (i = 0; i < ARRAY_SIZE(starts); i++) {
		for (j = 0; fill[j]; j++) {
			n = strlen(starts[i]);
			text = malloc(n + 100000);
			if (!text)
				exit(1);
			memcpy(text, starts[i], n);
			memset(text + n, fill[j], 99999);
			text[n + 99999] = '\0';
			memset(err, 'x', sizeof(err));
			if (rules_add(&rules, text, err) == 0)
				good = good && fill[j] == '/';
			good = good && memchr(err, '\0', sizeof(err));
			for (n = 0; good && err[n]; n++)
				good = !iscntrl((unsigned char)err[n]);
			free(text);
		}
	}
	okf(good, "endless rules are refused with a short, printable reason");
	rules_fini(&rules);

	text = malloc(PATH_MAX + 16);
	if (!text)
		exit(1);
	strcpy(text, "path:");
	memset(text + 5, 'a', PATH_MAX);
	text[5] = '/';
	text[5 + PATH_MAX] = '\0';
	okf(rules_add(&rules, text, err) == -EINVAL &&
	    strstr(err, "longer than 4095 bytes"), "a name of PATH_MAX bytes "
	    "is refused");
	text[5 + PATH_MAX - 1] = '\0';
	okf(rules_add(&rules, text, err) == 0, "a name one byte shorter is "
	    "taken");
	free(text);
	rules_fini(&rules);
}

static void test_double(void)
{
	struct rules rules = { 0 };
	char err[RULES_ERR_MAX];

	okf(!rules_add(&rules, "path:/a=/b", err) &&
	    rules_add(&rules, "path:/a/=/c", err) == -EINVAL && rules.n == 1 &&
	    !strcmp(err, "path:/a/=/c: another rule has the guest name /a "
		   "already " FORM_PATH), "two rules for one guest name: "
	    "refused");
	okf(rules_add(&rules, "dev:/a=/dev/null", err) == -EINVAL &&
	    rules.n == 1, "also if one is a device");
	okf(!rules_add(&rules, "path:/c=/b", err) && rules.n == 2,
	    "two rules for one host name: taken");
	okf(rules_has(&rules, RULE_PATH) && !rules_has(&rules, RULE_NET),
	    "rules_has tells what is there");
	rules_fini(&rules);
	okf(rules.n == 0 && rules.v == NULL, "rules_fini leaves nothing");
}

/* ---- files ---- */

static char file[] = "/tmp/ds-rules-XXXXXX";

static int load(struct rules *rules, const char *text, size_t len, char *err)
{
	FILE *f = fopen(file, "w");

	if (!f || fwrite(text, 1, len, f) != len || fclose(f)) {
		perror(file);
		exit(1);
	}
	return rules_load(rules, file, err);
}

static const struct {
	const char *what, *text;
	size_t n;		/* rules, where err is NULL */
	const char *err;	/* without the file name */
} files[] = {
	{ "an empty file is a policy of nothing", "", 0, NULL },
	{ "comments, blank lines and spaces around are ignored",
	  "# head\n\n   \t\n net \npath:/a=/b:ro# tail\r\n#all\n", 2, NULL },
	{ "the last line needs no newline", "net\nall", 2, NULL },
	{ "an error names file and line", "net\n\npath:a\n", 0,
	  ":3: path:a: the guest name must be absolute " FORM_PATH },
	{ "a double names the second line", "path:/a\n# x\npath:/a:ro\n", 0,
	  ":3: path:/a:ro: another rule has the guest name /a already "
	  FORM_PATH },
	{ "a comment inside a name makes the name end",
	  "path:/a=#/b\n", 0, ":1: path:/a=: the host name is empty "
	  FORM_PATH },
};

static void test_files(void)
{
	struct rules rules = { 0 };
	char err[RULES_ERR_MAX], *big;
	int rc, fd = mkstemp(file);
	size_t i;

	if (fd < 0)
		exit(1);
	close(fd);
	for (i = 0; i < ARRAY_SIZE(files); i++) {
		rc = load(&rules, files[i].text, strlen(files[i].text), err);
		if (!okf(files[i].err ? rc == -EINVAL && rules.n == 0 &&
			!strncmp(err, file, strlen(file)) &&
			!strcmp(err + strlen(file), files[i].err) :
			rc == 0 && rules.n == files[i].n,
			"%s", files[i].what))
			printf("# %d %s\n", rc, err);
		rules_fini(&rules);
	}

	rules_add(&rules, "net", err);
	rc = load(&rules, "path:/a\nbad\n", 12, err);
	okf(rc == -EINVAL && rules.n == 1 && rules.v[0].kind == RULE_NET,
	    "a file with an error adds none of its rules");
	rules_fini(&rules);

	rc = load(&rules, "net\0all\n", 8, err);
	okf(rc == -EINVAL && strstr(err, "not a text file"),
	    "zero bytes are refused");
	big = malloc(2 << 20);
	if (!big)
		exit(1);
	memset(big, '#', 2 << 20);
	rc = load(&rules, big, 2 << 20, err);
	okf(rc == -EFBIG && strstr(err, "are no policy"),
	    "a file of 2 MiB is refused");
	memset(big, 'x', 500000);
	rc = load(&rules, big, 500000, err);
	okf(rc == -EINVAL && !strncmp(err + strlen(file), ":1: xxx", 7) &&
	    strstr(err, "there is no rule"), "an endless line is refused");
	free(big);
	unlink(file);
	rc = rules_load(&rules, file, err);
	okf(rc == -ENOENT && strstr(err, ": No such file or directory"),
	    "a missing file is named");
	rc = rules_load(&rules, "/", err);
	okf(rc == -EISDIR && !strcmp(err, "/: Is a directory"),
	    "a directory is no policy");
	rules_fini(&rules);
}

/* ---- policy against request ---- */

static void add_all(struct rules *rules, const char *list)
{
	char *copy = strdup(list), *p = copy, *one, err[RULES_ERR_MAX];

	while ((one = strsep(&p, " ")))
		if (*one && rules_add(rules, one, err)) {
			printf("Bail out! %s\n", err);
			exit(1);
		}
	free(copy);
}

static const struct {
	const char *policy, *asked, *by;
} covers[] = {
	{ "", "path:/a", NULL },
	{ "path:/a=/b", "path:/a=/b", "path:/a=/b:rw" },
	{ "path:/a=/b", "path:/a=/b:ro", "path:/a=/b:rw" },
	{ "path:/a=/b:ro", "path:/a=/b:rw", NULL },
	{ "path:/a=/b:ro", "path:/a=/b:ro", "path:/a=/b:ro" },
	{ "path:/a=/b", "path:/a/x=/b/x", "path:/a=/b:rw" },
	{ "path:/a=/b", "path:/a/x=/b/y", NULL },
	{ "path:/a=/b", "path:/a/x=/b", NULL },
	{ "path:/a=/b", "path:/a=/b/x", NULL },
	{ "path:/a=/b", "path:/a=/c", NULL },
	{ "path:/a=/b", "path:/ax=/bx", NULL },
	{ "path:/a=/b", "path:/=/", NULL },
	{ "path:/a/x=/b/x", "path:/a=/b", NULL },
	{ "path:/=/", "path:/a", "path:/:rw" },
	{ "path:/=/", "path:/", "path:/:rw" },
	{ "path:/=/srv", "path:/a=/srv/a", "path:/=/srv:rw" },
	{ "path:/=/srv", "path:/a=/a", NULL },
	{ "path:/a=/", "path:/a/b=/b", "path:/a=/:rw" },
	{ "path:/a=/", "path:/a=/", "path:/a=/:rw" },
	/* The inner rule is what the name leads to. */
	{ "path:/a=/x path:/a/b=/y:ro", "path:/a/b=/x/b", NULL },
	{ "path:/a=/x path:/a/b=/y:ro", "path:/a/b=/y:ro",
	  "path:/a/b=/y:ro" },
	{ "path:/a=/x path:/a/b=/y:ro", "path:/a/b/c=/y/c:rw", NULL },
	{ "path:/a=/x path:/a/b=/y:ro", "path:/a/c=/x/c", "path:/a=/x:rw" },
	{ "dev:/dev/kvm", "dev:/dev/kvm", "dev:/dev/kvm:rw" },
	{ "dev:/dev/kvm:ro", "dev:/dev/kvm", NULL },
	{ "dev:/dev/kvm", "dev:/dev/kvm:ro", "dev:/dev/kvm:rw" },
	{ "dev:/dev/a:ioctl=1-5", "dev:/dev/a", "dev:/dev/a:rw:ioctl=0x1-0x5" },
	{ "dev:/dev/a:ioctl=1-5", "dev:/dev/a:ioctl=2-5,1",
	  "dev:/dev/a:rw:ioctl=0x1-0x5" },
	{ "dev:/dev/a:ioctl=1-5", "dev:/dev/a:ioctl=5-6", NULL },
	{ "dev:/dev/a:ioctl=none", "dev:/dev/a:ioctl=1", NULL },
	{ "dev:/dev/a", "dev:/dev/a:ioctl=1", "dev:/dev/a:rw" },
	{ "dev:/dev/kvm", "path:/dev/kvm", NULL },
	{ "dev:/dev/kvm", "dev:/dev/kvm=/dev/null", NULL },
	{ "dev:/dev/kvm", "dev:/dev/kvm/x", NULL },
	{ "path:/dev", "dev:/dev/kvm", NULL },
	{ "net", "net", "net" },
	{ "net", "eventfd", NULL },
	{ "eventfd", "eventfd", "eventfd" },
	{ "all", "eventfd", "all" },
	{ "eventfd", "fuse", NULL },
	{ "fuse", "fuse", "fuse" },
	{ "path:/", "net", NULL },
	{ "net", "all", NULL },
	{ "path:/ net", "all", NULL },
	{ "all", "all", "all" },
	{ "all", "net", "all" },
	{ "all", "path:/a=/b", "all" },
	{ "all", "dev:/dev/kvm", "all" },
	{ "all path:/a=/b:ro", "path:/a=/b", "all" },
	{ "all path:/a=/b", "path:/a=/b", "path:/a=/b:rw" },
};

static void test_cover(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(covers); i++) {
		struct rules policy = { 0 }, asked = { 0 };
		const struct rule *r;
		char by[64] = "nothing";

		add_all(&policy, covers[i].policy);
		add_all(&asked, covers[i].asked);
		r = rules_cover(&policy, &asked.v[0]);
		if (r)
			rules_format(r, by, sizeof(by));
		if (!okf(!strcmp(by, covers[i].by ? covers[i].by : "nothing"),
			"policy \"%s\": %s is covered by %s",
			covers[i].policy, covers[i].asked,
			covers[i].by ? covers[i].by : "nothing"))
			printf("# by %s\n", by);
		rules_fini(&policy);
		rules_fini(&asked);
	}
}

static const struct {
	const char *path, *guest;
} matches[] = {
	{ "/a", "/a" }, { "/a/", "/a" }, { "/a/x", "/a" }, { "/ax", NULL },
	{ "/a/b", "/a/b" }, { "/a/b/c", "/a/b" }, { "/a/bc", "/a" },
	{ "/dev/kvm", "/dev/kvm" }, { "/dev", NULL }, { "/", NULL },
	{ "", NULL }, { "a", NULL },
};

static void test_match(void)
{
	struct rules rules = { 0 };
	const struct rule *r;
	size_t i;

	add_all(&rules, "all path:/a/b=/x path:/a=/y dev:/dev/kvm net");
	for (i = 0; i < ARRAY_SIZE(matches); i++) {
		r = rules_match(&rules, matches[i].path);
		okf(same(r ? r->guest : NULL, matches[i].guest),
		    "\"%s\" belongs to %s", matches[i].path,
		    matches[i].guest ? matches[i].guest : "no rule");
	}
	add_all(&rules, "path:/=/z");
	r = rules_match(&rules, "/");
	okf(r && !strcmp(r->guest, "/"), "\"/\" belongs to a rule for /");
	r = rules_match(&rules, "/dev");
	okf(r && !strcmp(r->guest, "/"), "so does what nothing else has");
	r = rules_match(&rules, "/a/q");
	okf(r && !strcmp(r->guest, "/a"), "and the longest still wins");
	okf(!rules_match(&rules, "") && !rules_match(&rules, "a"),
	    "relative names belong to nothing");
	rules_fini(&rules);
}

int main(void)
{
	test_good();
	test_bad();
	test_hostile();
	test_double();
	test_files();
	test_cover();
	test_match();
	return tap_end();
}
