/* SPDX-License-Identifier: MIT */
/*
 * sandbox.c - what confines a shadow, by the host kernel
 *
 * Theory of operation. Whoever is confined here is taken to be hostile from
 * the first forwarded call on, so everything is in place before the capsule
 * runs, and nothing is checked by us that the kernel can refuse.
 *
 * The root. Every source is opened and cloned into a detached mount while
 * the host's names are still there (open_tree(2)), its flags are set on the
 * whole detached subtree (mount_setattr(2)), and only then is it attached
 * below the new root (move_mount(2)). So there is no moment at which a
 * read-only tree can be reached writable, a source may lie anywhere, and
 * flags that a user namespace holds locked stay as they are since flags are
 * only added. Trees are cloned with their submounts: in a user namespace the
 * kernel refuses to bare what a submount covers. That takes Linux 5.12; there
 * is no second way for older kernels because nobody would ever test it.
 *
 * Names inside a tree that the guest may write belong to the guest, which
 * left them there in an earlier run. Where such a name is looked up for it, a
 * mount point or a source below the source of another rule, no symbolic link
 * is followed. Mount points inside a tree are not created either: setting up
 * a sandbox must not write to the host's files.
 *
 * Capabilities. no_new_privs keeps exec from giving more than there is, and
 * for uid 0 the bounding set is what exec would give: both are trimmed.
 *
 * Filters. They are written out by hand: libseccomp cannot say "ioctl with
 * these requests, and another errno for the rest", as one of its rules tests
 * an argument once. The kernel takes an ioctl's request, a fcntl's command
 * and a socket's family as 32 bits, so the low word alone is compared; the
 * high one is the caller's to play with. Calls that are allowed whatever
 * their arguments come to a constant ALLOW, which the kernel caches by
 * number. Jumps are relative, so the programs can be put anywhere.
 */
#include "host/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/landlock.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bpf.h"
#include "base/fd.h"
#include "base/num.h"
#include "capsule/abi.h"
#include "wire/calls.h"

#define RULE_TEXT	160	/* of a rule in an error */
#define CAP_BIT(cap)	(1ULL << (cap))

#ifndef MNT_DETACH	/* <sys/mount.h> and <linux/mount.h> are at odds */
#define MNT_DETACH	2
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif

#define USERNS_REMEDY \
	"user namespaces may be switched off for ordinary users: see " \
	"sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone " \
	"and kernel.apparmor_restrict_unprivileged_userns (`darkshadow " \
	"doctor host` says which), or start the daemon as root"

/* fail() - write the sentence, hand on the -errno */
static int __attribute__((format(printf, 3, 4)))
fail(char *err, int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, SANDBOX_ERR_MAX, fmt, ap);
	va_end(ap);
	return rc;
}

/* fail_rule() - the same for what is wrong with one rule */
static int __attribute__((format(printf, 4, 5)))
fail_rule(char *err, int rc, const struct rule *rule, const char *fmt, ...)
{
	char text[RULE_TEXT];
	va_list ap;
	size_t n;

	rules_format(rule, text, sizeof(text));
	n = (size_t)snprintf(err, SANDBOX_ERR_MAX, "%s: ", text);
	va_start(ap, fmt);
	vsnprintf(err + n, SANDBOX_ERR_MAX - n, fmt, ap);
	va_end(ap);
	return rc;
}

/* The kernel's interface as 0, a descriptor or -errno. */
static int sys_rc(long rc)
{
	return rc < 0 ? -errno : (int)rc;
}

static int sys_open_tree(int dir, const char *path, unsigned int flags)
{
	return sys_rc(syscall(SYS_open_tree, dir, path, flags));
}

static int sys_move_mount(int tree, int to, const char *path,
			  unsigned int flags)
{
	return sys_rc(syscall(SYS_move_mount, tree, "", to, path,
			      MOVE_MOUNT_F_EMPTY_PATH | flags));
}

static int sys_mount_setattr(int fd, unsigned int flags, uint64_t set)
{
	struct mount_attr attr = { .attr_set = set };

	return sys_rc(syscall(SYS_mount_setattr, fd, "",
			      AT_EMPTY_PATH | flags, &attr, sizeof(attr)));
}

static int sys_openat2(int dir, const char *path, uint64_t flags,
		       uint64_t resolve)
{
	struct open_how how = { .flags = flags | O_CLOEXEC,
				.resolve = resolve };

	return sys_rc(syscall(SYS_openat2, dir, path, &how, sizeof(how)));
}

/* caps_read() - effective and permitted capabilities as 64-bit words */
static int caps_read(uint64_t *effective, uint64_t *permitted)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data) < 0)
		return -errno;
	*effective = data[0].effective | (uint64_t)data[1].effective << 32;
	*permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
	return 0;
}

static int caps_write(uint64_t caps)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {
		{ .effective = (uint32_t)caps, .permitted = (uint32_t)caps },
		{ .effective = (uint32_t)(caps >> 32),
		  .permitted = (uint32_t)(caps >> 32) } };

	return sys_rc(syscall(SYS_capset, &head, data));
}

unsigned long sandbox_clone_flags(const struct rules *policy)
{
	unsigned long flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC |
			      CLONE_NEWUTS;
	uint64_t effective = 0, permitted;

	if (rules_has(policy, RULE_ALL))
		return 0;
	if (!rules_has(policy, RULE_NET))
		flags |= CLONE_NEWNET;
	if (caps_read(&effective, &permitted) ||
	    !(effective & CAP_BIT(CAP_SYS_ADMIN)))
		flags |= CLONE_NEWUSER;
	return flags;
}

/* ---- user namespace ---- */

static int write_proc(const char *path, const char *text, char *err)
{
	int fd cleanup_fd = open(path, O_WRONLY | O_CLOEXEC);
	int rc = fd < 0 ? -errno : 0;

	if (!rc && write(fd, text, strlen(text)) < 0)
		rc = -errno;
	if (rc)
		return fail(err, rc, "cannot write %s: %s: %s", path,
			    strerror(-rc), USERNS_REMEDY);
	return 0;
}

/*
 * map_ids() - the user keeps its own numbers in its user namespace
 *
 * A map that is still empty is what tells a user namespace of our own: the
 * capabilities do not, one has them all in there.
 */
static int map_ids(unsigned int uid, unsigned int gid, char *err)
{
	char *map cleanup_free = NULL;
	char line[64];
	ssize_t len;
	int rc;

	len = fd_read_all("/proc/self/uid_map", 4096, &map);
	if (len < 0)
		return fail(err, (int)len, "cannot read /proc/self/uid_map: "
			    "%s: mount /proc first", strerror((int)-len));
	if (len > 0)
		return 0;
	/* Without "deny" the kernel gives an ordinary user no gid map. */
	rc = write_proc("/proc/self/setgroups", "deny", err);
	if (rc)
		return rc;
	snprintf(line, sizeof(line), "%u %u 1\n", uid, uid);
	rc = write_proc("/proc/self/uid_map", line, err);
	if (rc)
		return rc;
	snprintf(line, sizeof(line), "%u %u 1\n", gid, gid);
	return write_proc("/proc/self/gid_map", line, err);
}

/* ---- the root ---- */

/* A rule with names, and its source as a detached mount. */
struct tree {
	const struct rule *rule;	/* borrowed */
	int fd;
	bool dir;
};

struct root {
	const struct rules *policy;	/* borrowed */
	struct tree *trees;		/* shortest guest name first */
	size_t n;
	int fd;				/* the new root directory */
	bool ours;			/* a tmpfs, not the source of a rule */
};

static void root_fini(struct root *root)
{
	size_t i;

	for (i = 0; i < root->n; i++)
		close_fd(&root->trees[i].fd);
	free(root->trees);
	close_fd(&root->fd);
}

static int by_length(const void *a, const void *b)
{
	const struct tree *x = a, *y = b;
	size_t nx = strlen(x->rule->guest), ny = strlen(y->rule->guest);

	return nx < ny ? -1 : nx > ny;
}

static int root_init(struct root *root, const struct rules *policy)
{
	size_t i;

	*root = (struct root){ .policy = policy, .fd = -1 };
	root->trees = calloc(policy->n + 1, sizeof(*root->trees));
	if (!root->trees)
		return -ENOMEM;
	for (i = 0; i < policy->n; i++)
		if (policy->v[i].guest)
			root->trees[root->n++] = (struct tree){
				.rule = &policy->v[i], .fd = -1 };
	qsort(root->trees, root->n, sizeof(*root->trees), by_length);
	return 0;
}

/* The path from dir down to name, without a slash before it; or NULL. */
static const char *inside(const char *dir, const char *name)
{
	size_t n = strcmp(dir, "/") ? strlen(dir) : 0;

	if (strncmp(dir, name, n) || name[n] != '/' || name[n + 1] == '\0')
		return NULL;
	return name + n + 1;
}

/*
 * open_source() - the source of a rule, O_PATH
 *
 * The outermost writable tree that holds the name decides from where on the
 * guest could have changed it.
 */
static int open_source(const struct root *root, const struct rule *rule)
{
	const char *rest = NULL, *base = NULL;
	int dir cleanup_fd = -1;
	size_t i;

	/* Below what the policy names, guests may have had their way, in this
	 * session or an earlier one. */
	if (rule->base && strcmp(rule->base, rule->host) != 0) {
		rest = inside(rule->base, rule->host);
		base = rule->base;
	}
	for (i = 0; i < root->n; i++) {
		const struct rule *r = root->trees[i].rule;
		const char *down = inside(r->host, rule->host);

		if (r->kind != RULE_PATH || r->ro || !down)
			continue;
		if (!rest || strlen(down) > strlen(rest)) {
			rest = down;
			base = r->host;
		}
	}
	if (!rest)
		return sys_rc(open(rule->host, O_PATH | O_CLOEXEC));
	dir = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	return sys_openat2(dir, rest, O_PATH,
			   RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

static int explain_source(const struct rule *rule, int rc, char *err)
{
	switch (rc) {
	case -ENOENT:
		return fail_rule(err, rc, rule, "%s does not exist on the "
				 "host: create it or correct the rule",
				 rule->host);
	case -EACCES:
		return fail_rule(err, rc, rule, "%s cannot be reached by uid "
				 "%u: let this user search the directories "
				 "above it", rule->host, geteuid());
	case -ELOOP:
		return fail_rule(err, rc, rule, "%s leads over a symbolic "
				 "link inside a tree that another rule lets "
				 "the guest write: name the real place",
				 rule->host);
	case -ENOSYS:
		return fail_rule(err, rc, rule, "cannot mount %s: this needs "
				 "Linux 5.12 or later, and no seccomp filter "
				 "around the daemon that hides its calls",
				 rule->host);
	default:
		return fail_rule(err, rc, rule, "cannot mount %s: %s",
				 rule->host, strerror(-rc));
	}
}

/* What it makes is about the memory of whoever asks, which is the shadow. */
static bool is_userfaultfd(const struct stat *st)
{
	struct stat node;

	return S_ISCHR(st->st_mode) && stat("/dev/userfaultfd", &node) == 0 &&
	       S_ISCHR(node.st_mode) && node.st_rdev == st->st_rdev;
}

static int check_source(const struct tree *tree, const struct stat *st,
			char *err)
{
	const struct rule *rule = tree->rule;
	const mode_t mode = st->st_mode;

	if (rule->kind == RULE_DEV && is_userfaultfd(st))
		return fail_rule(err, -EPERM, rule, "%s is not forwarded: the "
				 "page faults that it handles would be the "
				 "shadow's, not the program's", rule->host);
	if (rule->kind == RULE_DEV && !S_ISCHR(mode) && !S_ISBLK(mode))
		return fail_rule(err, -ENODEV, rule, "%s is not a device node "
				 "on the host: use path: for other files",
				 rule->host);
	if (!tree->dir && !strcmp(rule->guest, "/"))
		return fail_rule(err, -ENOTDIR, rule, "%s is not a directory, "
				 "as the root has to be", rule->host);
	return 0;
}

/* tree_open() - clone the source of a rule, with its flags */
static int tree_open(const struct root *root, struct tree *tree, char *err)
{
	const struct rule *rule = tree->rule;
	/* Not noexec: access(2) with X_OK is asked about these files. */
	uint64_t attr = MOUNT_ATTR_NOSUID;
	int fd cleanup_fd = open_source(root, rule);
	struct stat st;
	int rc;

	if (fd < 0)
		return explain_source(rule, fd, err);
	if (fstat(fd, &st) < 0)
		return explain_source(rule, -errno, err);
	tree->dir = S_ISDIR(st.st_mode);
	rc = check_source(tree, &st, err);
	if (rc)
		return rc;
	if (rule->kind == RULE_PATH)
		attr |= MOUNT_ATTR_NODEV;
	if (rule->ro)
		attr |= MOUNT_ATTR_RDONLY;
	tree->fd = sys_open_tree(fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
				 AT_EMPTY_PATH | AT_RECURSIVE);
	if (tree->fd < 0)
		return explain_source(rule, tree->fd, err);
	rc = sys_mount_setattr(tree->fd, AT_RECURSIVE, attr);
	return rc ? explain_source(rule, rc, err) : 0;
}

/* tmpfs_open() - a detached tmpfs, just large enough for mount points */
static int tmpfs_open(void)
{
	int fs cleanup_fd = -1;

	fs = sys_rc(syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC));
	if (fs < 0)
		return fs;
	if (syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "size", "64k", 0) ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", "755", 0) ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		return -errno;
	return sys_rc(syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC,
			      MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
			      MOUNT_ATTR_NOEXEC));
}

/*
 * mount_root() - over the old root, where pivot_root(2) finds it
 *
 * Paths still begin at the old root then: the process holds that directory,
 * not whatever is mounted on it.
 */
static int mount_root(struct root *root, char *err)
{
	struct tree *first = root->n ? &root->trees[0] : NULL;
	int rc;

	root->ours = !first || strcmp(first->rule->guest, "/");
	root->fd = root->ours ? tmpfs_open() : steal_fd(&first->fd);
	rc = root->fd;
	if (rc >= 0)
		rc = sys_move_mount(root->fd, AT_FDCWD, "/", 0);
	if (rc == -ENOSYS)
		return fail(err, rc, "cannot mount a root for the shadow: "
			    "this needs Linux 5.12 or later");
	if (rc < 0)
		return fail(err, rc, "cannot mount a root for the shadow: %s",
			    strerror(-rc));
	return 0;
}

/* outer_rule() - the rule whose tree holds the mount point, or NULL */
static const struct rule *outer_rule(const struct root *root,
				     const struct tree *tree)
{
	size_t i;

	for (i = root->n; i-- > 0;)
		if (inside(root->trees[i].rule->guest, tree->rule->guest))
			return root->trees[i].rule;
	return NULL;
}

/* make_place() - a mount point in our own tmpfs, where no names are foreign */
static int make_place(const struct root *root, const struct tree *tree)
{
	char *path cleanup_free = strdup(tree->rule->guest + 1);
	int fd cleanup_fd = -1;
	char *slash;

	if (!path)
		return -ENOMEM;
	for (slash = path; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		if (mkdirat(root->fd, path, 0755) < 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	if (tree->dir)
		return mkdirat(root->fd, path, 0755) < 0 && errno != EEXIST ?
		       -errno : 0;
	fd = openat(root->fd, path, O_CREAT | O_RDONLY | O_CLOEXEC, 0444);
	return fd < 0 ? -errno : 0;
}

static int attach(const struct root *root, const struct tree *tree, char *err)
{
	const struct rule *outer = outer_rule(root, tree);
	const char *name = tree->rule->guest;
	int place cleanup_fd = -1;
	int rc = 0;

	if (!outer)
		rc = make_place(root, tree);
	if (!rc)
		place = rc = sys_openat2(root->fd, name + 1, O_PATH,
					 RESOLVE_BENEATH |
					 RESOLVE_NO_SYMLINKS);
	if (rc >= 0)
		rc = sys_move_mount(tree->fd, place, "",
				    MOVE_MOUNT_T_EMPTY_PATH);
	if (rc >= 0)
		return 0;
	if (!outer)
		return fail_rule(err, rc, tree->rule, "cannot mount on %s: %s",
				 name, strerror(-rc));
	if (rc == -ELOOP)
		return fail_rule(err, rc, tree->rule, "%s leads over a "
				 "symbolic link in %s: a mount point must not",
				 name, outer->host);
	return fail_rule(err, rc, tree->rule, "cannot mount on %s inside %s: "
			 "%s: create a %s for it there", name, outer->host,
			 strerror(-rc), tree->dir ? "directory" : "file");
}

static int attach_all(const struct root *root, char *err)
{
	/* The daemon's umask would show in the directories on the way. */
	mode_t mask = umask(022);
	int rc = 0;
	size_t i;

	for (i = root->ours ? 0 : 1; i < root->n && !rc; i++)
		rc = attach(root, &root->trees[i], err);
	umask(mask);
	return rc;
}

/* switch_root() - the old root is gone for good after this */
static int switch_root(const struct root *root, char *err)
{
	int old cleanup_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (old < 0 || fchdir(root->fd) < 0)
		return fail(err, -errno, "cannot enter the new root: %s",
			    strerror(errno));
	/* The old root then lies on the new one, and is taken off there. */
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return fail(err, -errno, "pivot_root: %s: the daemon's own "
			    "root must be a mount point, neither a chroot nor "
			    "an initramfs", strerror(errno));
	if (fchdir(old) < 0 ||
	    syscall(SYS_umount2, ".", MNT_DETACH) < 0 || chdir("/") < 0)
		return fail(err, -errno, "cannot detach the old root: %s",
			    strerror(errno));
	return 0;
}

static int fill_root(struct root *root, char *err)
{
	size_t i;
	int rc;

	for (i = 0; i < root->n; i++) {
		rc = tree_open(root, &root->trees[i], err);
		if (rc)
			return rc;
	}
	rc = mount_root(root, err);
	if (!rc)
		rc = attach_all(root, err);
	if (!rc)
		rc = switch_root(root, err);
	if (rc || !root->ours)
		return rc;
	rc = sys_mount_setattr(root->fd, 0, MOUNT_ATTR_RDONLY);
	if (rc)
		return fail(err, rc, "cannot make the root read-only: %s",
			    strerror(-rc));
	return 0;
}

static int build_root(const struct rules *policy, char *err)
{
	struct root root;
	int rc;

	/*
	 * Private, not slave: a mount that the host makes later would come in
	 * with its own flags, writable under a read-only rule.
	 */
	if (syscall(SYS_mount, NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return fail(err, -errno, "cannot take over the mount "
			    "namespace: %s: %s", strerror(errno),
			    errno == EINVAL ? "/ is no mount of its own, as in"
			    " a chroot: `mount --bind DIR DIR` before chroot"
			    " DIR makes it one" : USERNS_REMEDY);
	rc = root_init(&root, policy);
	if (rc)
		return fail(err, rc, "out of memory");
	rc = fill_root(&root, err);
	root_fini(&root);
	return rc;
}

/* ---- authority ---- */

/* With "all", root keeps its say over files and none over the machine. */
#define FILE_CAPS	(CAP_BIT(CAP_CHOWN) | CAP_BIT(CAP_DAC_OVERRIDE) | \
			 CAP_BIT(CAP_DAC_READ_SEARCH) | CAP_BIT(CAP_FOWNER) | \
			 CAP_BIT(CAP_FSETID) | CAP_BIT(CAP_MKNOD) | \
			 CAP_BIT(CAP_LINUX_IMMUTABLE) | CAP_BIT(CAP_LEASE) | \
			 CAP_BIT(CAP_SETFCAP))

static int drop_caps(uint64_t keep, char *err)
{
	uint64_t effective = 0, permitted = 0;
	int cap, rc;

	for (cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
		if (cap < 64 && (keep >> cap & 1))
			continue;
		/*
		 * An ordinary user may not trim the set (EPERM), and has no
		 * need to: no_new_privs keeps exec from handing it out.
		 */
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0 && errno != EPERM)
			return fail(err, -errno, "cannot drop capability %d: "
				    "%s", cap, strerror(errno));
	}
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return fail(err, -errno, "cannot drop ambient capabilities: "
			    "%s", strerror(errno));
	rc = caps_read(&effective, &permitted);
	if (!rc)
		rc = caps_write(permitted & keep);
	if (rc)
		return fail(err, rc, "cannot drop capabilities: %s",
			    strerror(-rc));
	return 0;
}

static int set_limits(char *err)
{
	struct rlimit core = { 0, 0 }, files;

	if (setrlimit(RLIMIT_CORE, &core) < 0)
		return fail(err, -errno, "cannot switch core files off: %s",
			    strerror(errno));
	/* Descriptor numbers follow the target's: leave them room. */
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return fail(err, -errno, "cannot read RLIMIT_NOFILE: %s",
			    strerror(errno));
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		return fail(err, -errno, "cannot raise RLIMIT_NOFILE: %s",
			    strerror(errno));
	return 0;
}

/* ---- Landlock ---- */

/*
 * EXECUTE is left out: the filters refuse exec, and the capsule itself has
 * yet to be executed.
 */
#define LL_READ		(LANDLOCK_ACCESS_FS_READ_FILE | \
			 LANDLOCK_ACCESS_FS_READ_DIR)
#define LL_WRITE	(LANDLOCK_ACCESS_FS_WRITE_FILE | \
			 LANDLOCK_ACCESS_FS_REMOVE_DIR | \
			 LANDLOCK_ACCESS_FS_REMOVE_FILE | \
			 LANDLOCK_ACCESS_FS_MAKE_CHAR | \
			 LANDLOCK_ACCESS_FS_MAKE_DIR | \
			 LANDLOCK_ACCESS_FS_MAKE_REG | \
			 LANDLOCK_ACCESS_FS_MAKE_SOCK | \
			 LANDLOCK_ACCESS_FS_MAKE_FIFO | \
			 LANDLOCK_ACCESS_FS_MAKE_BLOCK | \
			 LANDLOCK_ACCESS_FS_MAKE_SYM | \
			 LANDLOCK_ACCESS_FS_REFER | \
			 LANDLOCK_ACCESS_FS_TRUNCATE)
#define LL_FILE		(LANDLOCK_ACCESS_FS_READ_FILE | \
			 LANDLOCK_ACCESS_FS_WRITE_FILE | \
			 LANDLOCK_ACCESS_FS_TRUNCATE)

static int landlock_allow(int ruleset, const char *path, uint64_t access)
{
	struct landlock_path_beneath_attr beneath = { .parent_fd = -1 };
	int fd cleanup_fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	beneath.parent_fd = fd;
	beneath.allowed_access = S_ISDIR(st.st_mode) ? access :
				 access & LL_FILE;
	return sys_rc(syscall(SYS_landlock_add_rule, ruleset,
			      LANDLOCK_RULE_PATH_BENEATH, &beneath, 0));
}

/* landlock_fill() - the names of the policy, and the directories above them */
static int landlock_fill(int ruleset, const struct rules *policy,
			 uint64_t handled)
{
	size_t i;
	int rc;

	rc = landlock_allow(ruleset, "/", LANDLOCK_ACCESS_FS_READ_DIR);
	for (i = 0; i < policy->n && !rc; i++) {
		const struct rule *r = &policy->v[i];

		if (r->guest)
			rc = landlock_allow(ruleset, r->guest,
					    r->ro ? LL_READ : handled);
	}
	return rc;
}

/* A device is written to on a read-only mount, too: there is no first wall. */
static int check_devices(const struct rules *policy, char *err)
{
	for (size_t i = 0; i < policy->n; i++)
		if (policy->v[i].kind == RULE_DEV && policy->v[i].ro)
			return fail_rule(err, -ENOSYS, &policy->v[i],
					 "a device is read-only by Landlock"
					 " alone, which this kernel does not"
					 " have (Linux 5.19, CONFIG_SECURITY_LANDLOCK,"
					 " lsm=landlock)");
	return 0;
}

/*
 * restrict_names() - the same names again, by Landlock where there is any
 *
 * A second wall only, but for devices, so a kernel without it will do (ENOSYS,
 * EOPNOTSUPP), and so will its first version: that one refused every rename from one directory
 * to another, which the guest would see.
 */
static int restrict_names(const struct rules *policy, char *err)
{
	struct landlock_ruleset_attr attr = { 0 };
	int ruleset cleanup_fd = -1;
	long abi;
	int rc;

	abi = syscall(SYS_landlock_create_ruleset, NULL, 0,
		      LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < 2)
		return check_devices(policy, err);
	attr.handled_access_fs = LL_READ | LL_WRITE;
	if (abi < 3)
		attr.handled_access_fs &= ~LANDLOCK_ACCESS_FS_TRUNCATE;
	ruleset = rc = sys_rc(syscall(SYS_landlock_create_ruleset, &attr,
				      sizeof(attr), 0));
	if (rc >= 0)
		rc = landlock_fill(ruleset, policy, attr.handled_access_fs);
	if (!rc)
		rc = sys_rc(syscall(SYS_landlock_restrict_self, ruleset, 0));
	if (rc < 0)
		return fail(err, rc, "cannot set up Landlock: %s",
			    strerror(-rc));
	return 0;
}

int sandbox_enter(const struct rules *policy, unsigned int uid,
		  unsigned int gid, char err[SANDBOX_ERR_MAX])
{
	bool all = rules_has(policy, RULE_ALL);
	int rc;

	err[0] = '\0';
	rc = set_limits(err);
	if (!rc && !all)
		rc = map_ids(uid, gid, err);
	if (!rc && !all)
		rc = build_root(policy, err);
	if (!rc)
		rc = drop_caps(all && geteuid() == 0 ? FILE_CAPS : 0, err);
	if (rc)
		return rc;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fail(err, -errno, "cannot set no_new_privs: %s",
			    strerror(errno));
	if (chdir("/") < 0)
		return fail(err, -errno, "cannot enter /: %s",
			    strerror(errno));
	return all ? 0 : restrict_names(policy, err);
}

/* ---- filters ---- */

#define ALLOW		SECCOMP_RET_ALLOW
#define REFUSE(errnum)	(SECCOMP_RET_ERRNO | (errnum))

/* What regular files, directories and the streams of sockets have, and what
 * asks for a terminal. */
static const uint32_t file_requests[] = {
	TCGETS, FIONREAD, FIOCLEX, FIONCLEX, FIONBIO, FIGETBSZ, FICLONE,
	FICLONERANGE, FIDEDUPERANGE, FS_IOC_GETFLAGS, FS_IOC_SETFLAGS,
	FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR, FS_IOC_GETVERSION,
	FS_IOC_FIEMAP, SIOCATMARK, SIOCOUTQ,
};

/* They would have the kernel signal a process of the caller's choice. */
static const uint32_t owner_commands[] = { F_SETOWN, F_SETOWN_EX, F_SETSIG,
					   F_NOTIFY, F_SETLEASE };

/*
 * Not AF_UNIX: in the host's network namespace it would reach every abstract
 * socket, whose owners trust credentials (CVE-2020-15257).
 */
static const uint32_t net_families[] = { AF_INET, AF_INET6 };

/* The kernel would go on reading the target's pages after the call. */
static const uint32_t late_options[] = { SO_ZEROCOPY };

/*
 * Beyond the table: what an executor does for itself, and what the kernel has
 * it do when a call with a timeout goes on after an interruption.
 */
static const uint16_t executor_calls[] = {
	SYS_futex, SYS_sched_yield, SYS_dup3, SYS_close, SYS_exit,
	SYS_restart_syscall,
};

/* What leader and mapper do besides; these are never in the table's set. */
static const uint16_t shadow_calls[] = {
	SYS_munmap, SYS_mremap, SYS_clone, SYS_seccomp, SYS_close_range,
	SYS_exit_group,
};

static bool forwards(const struct rules *policy, uint64_t nr)
{
	const struct call *call = calls_get(nr);

	if (!call || !(call->flags & CALL_FORWARD))
		return false;
	if (rules_has(policy, RULE_ALL))
		return true;
	return (!(call->flags & CALL_NET) || rules_has(policy, RULE_NET)) &&
	       (!(call->flags & CALL_EVENTFD) ||
		rules_has(policy, RULE_EVENTFD));
}

enum { LEAF_REFUSE, LEAF_ALLOW, LEAF_OTHER, LEAF_ARG };

/*
 * A call whose verdict is hit if the low word of an argument compares with one
 * of the values, else miss.
 */
struct arg_test {
	uint32_t nr;
	unsigned int arg;
	uint16_t cmp;
	const uint32_t *values;		/* borrowed */
	size_t n;
	uint32_t hit, miss;
	const struct rules *policy;	/* borrowed; or with what its devices
					 * allow (RULE_DEV), or NULL */
};

#define ARG_TESTS_MAX	8

/* A filter before it is written down. */
struct sieve {
	uint8_t leaf[CALL_NR_MAX];
	struct arg_test tests[ARG_TESTS_MAX];
	size_t ntests;
	bool notifies;			/* MAGIC_NOTIFY is told to the daemon */
};

static void sieve_test(struct sieve *s, const struct arg_test *test)
{
	s->leaf[test->nr] = (uint8_t)(LEAF_ARG + s->ntests);
	s->tests[s->ntests++] = *test;
}

#define TEST(sieve, nr, arg, cmp, values, hit, miss) \
	sieve_test(sieve, &(struct arg_test){ nr, arg, cmp, values, \
		   ARRAY_SIZE(values), hit, miss, NULL })

static void sieve_allow(struct sieve *s, const uint16_t *calls, size_t n)
{
	for (size_t i = 0; i < n; i++)
		s->leaf[calls[i]] = LEAF_ALLOW;
}

/*
 * A filter knows of an ioctl its number, not its device: what one rule allows is
 * allowed of all, and if one allows everything there is nothing to test. What is
 * not allowed comes to the daemon, which says so.
 */
static void sieve_requests(struct sieve *s, const struct rules *policy)
{
	struct arg_test test = { SYS_ioctl, 1, BPF_JEQ, file_requests,
				 ARRAY_SIZE(file_requests), ALLOW,
				 REFUSE(ENOTTY), NULL };

	if (!forwards(policy, SYS_ioctl))
		return;
	for (size_t i = 0; i < policy->n; i++) {
		if (policy->v[i].kind != RULE_DEV)
			continue;
		if (!policy->v[i].limited)
			return;
		test.policy = policy;
		test.miss = SECCOMP_RET_TRACE;
	}
	sieve_test(s, &test);
}

/* What an executor may do. */
static void sieve_calls(struct sieve *s, const struct rules *policy)
{
	const bool all = rules_has(policy, RULE_ALL);

	for (uint32_t nr = 0; nr < CALL_NR_MAX; nr++)
		if (forwards(policy, nr))
			s->leaf[nr] = LEAF_ALLOW;
	sieve_allow(s, executor_calls, ARRAY_SIZE(executor_calls));
	if (forwards(policy, SYS_setsockopt))
		TEST(s, SYS_setsockopt, 2, BPF_JEQ, late_options,
		     REFUSE(EPERM), ALLOW);
	if (all)
		return;
	sieve_requests(s, policy);
	TEST(s, SYS_fcntl, 1, BPF_JEQ, owner_commands, REFUSE(EPERM), ALLOW);
	if (forwards(policy, SYS_socket))
		TEST(s, SYS_socket, 0, BPF_JEQ, net_families, ALLOW,
		     REFUSE(EPERM));
	if (forwards(policy, SYS_socketpair))
		TEST(s, SYS_socketpair, 0, BPF_JEQ, net_families, ALLOW,
		     REFUSE(EPERM));
}

static void put_requests(struct bpf_prog *p, const struct rule *rule,
			 uint32_t action)
{
	for (size_t i = 0; i < rule->nrequests; i++) {
		const struct request_range *r = &rule->requests[i];

		bpf_put(p, BPF_JMP | BPF_JGE | BPF_K, r->first, 0, 2);
		bpf_put(p, BPF_JMP | BPF_JGT | BPF_K, r->last, 1, 0);
		bpf_return(p, action);
	}
}

static void put_test(struct bpf_prog *p, const struct arg_test *test)
{
	bpf_load(p, offsetof(struct seccomp_data, args) + 8 * test->arg);
	for (size_t i = 0; i < test->n; i++)
		bpf_if(p, test->cmp, test->values[i], test->hit);
	for (size_t i = 0; test->policy && i < test->policy->n; i++)
		put_requests(p, &test->policy->v[i], test->hit);
	bpf_return(p, test->miss);
}

/*
 * Only this architecture's calls come to their leaves. x32 calls bear the same
 * architecture, but a bit in their numbers, which are compared whole, keeps
 * them from being any call that is allowed.
 */
static int sieve_write(const struct sieve *s, struct sock_fprog *out)
{
	struct bpf_prog p = { .n = 0 };

	bpf_load(&p, offsetof(struct seccomp_data, arch));
	bpf_put(&p, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	bpf_return(&p, SECCOMP_RET_KILL_PROCESS);
	bpf_load(&p, offsetof(struct seccomp_data, nr));
	bpf_switch(&p, s->leaf, CALL_NR_MAX, LEAF_OTHER);
	bpf_leaf(&p, LEAF_ALLOW);
	bpf_return(&p, ALLOW);
	for (size_t i = 0; i < s->ntests; i++) {
		bpf_leaf(&p, (uint8_t)(LEAF_ARG + i));
		put_test(&p, &s->tests[i]);
	}
	bpf_leaf(&p, LEAF_OTHER);
	bpf_if(&p, BPF_JEQ, MAGIC_STOP, SECCOMP_RET_TRACE);
	if (s->notifies)
		bpf_if(&p, BPF_JEQ, MAGIC_NOTIFY, SECCOMP_RET_USER_NOTIF);
	bpf_leaf(&p, LEAF_REFUSE);
	bpf_return(&p, REFUSE(EPERM));
	if (p.n > ARRAY_SIZE(p.v))
		return -E2BIG;
	out->filter = malloc(p.n * sizeof(*p.v));
	if (!out->filter)
		return -ENOMEM;
	memcpy(out->filter, p.v, p.n * sizeof(*p.v));
	out->len = (unsigned short)p.n;
	return 0;
}

int sandbox_filter_shadow(const struct rules *policy, struct sock_fprog *out)
{
	static const uint32_t exec[] = { PROT_EXEC };
	static const uint32_t set_name[] = { PR_SET_NAME };
	struct sieve s = { .notifies = true };

	sieve_calls(&s, policy);
	sieve_allow(&s, shadow_calls, ARRAY_SIZE(shadow_calls));
	TEST(&s, SYS_mmap, 2, BPF_JSET, exec, REFUSE(EPERM), ALLOW);
	TEST(&s, SYS_mprotect, 2, BPF_JSET, exec, REFUSE(EPERM), ALLOW);
	TEST(&s, SYS_prctl, 0, BPF_JEQ, set_name, ALLOW, REFUSE(EPERM));
	return sieve_write(&s, out);
}

int sandbox_filter_executor(const struct rules *policy, struct sock_fprog *out)
{
	struct sieve s = { .notifies = false };

	sieve_calls(&s, policy);
	return sieve_write(&s, out);
}
