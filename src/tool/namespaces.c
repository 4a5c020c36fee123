/* SPDX-License-Identifier: MIT */
/*
 * namespaces.c - probes: what the sandbox of a shadow is made of
 *
 * The same calls as host/sandbox.c makes, in namespaces that end with the
 * probe: nothing of them is seen outside.
 */
#include "tool/probes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/num.h"

#ifndef MNT_DETACH	/* <sys/mount.h> and <linux/mount.h> are at odds */
#define MNT_DETACH	2
#endif

#define PLACE		"place"
#define LSMS		"/sys/kernel/security/lsm"
#define USERNS_CLONE	"kernel.unprivileged_userns_clone"
#define USERNS_APPARMOR	"kernel.apparmor_restrict_unprivileged_userns"
#define AS_ROOT		"run the host side as root, or "

/* --- whose namespaces ----------------------------------------------------- */

static bool privileged(void)
{
	return probe_caps() >> CAP_SYS_ADMIN & 1;
}

/* A setting that allows none, or NULL. */
static const char *none_allowed(void)
{
	static const char *const names[] = {
		"user.max_user_namespaces", "user.max_mnt_namespaces",
		"user.max_pid_namespaces", "user.max_ipc_namespaces",
		"user.max_uts_namespaces", "user.max_net_namespaces",
	};

	for (size_t i = privileged() ? 1 : 0; i < ARRAY_SIZE(names); i++)
		if (probe_sysctl(names[i]) == 0)
			return names[i];
	return NULL;
}

static void explain(struct finding *f, const char *what, int err)
{
	const char *none = none_allowed();
	bool told = finding_refused(f, what, err);

	if (none)
		finding_remedy(f, "sysctl -w %s=15000%s", none,
			       probe_as_root());
	else if (privileged() && !told)
		finding_remedy(f, "run the host side outside of the container,"
			       " chroot or sandbox that this is");
	else if (probe_sysctl(USERNS_CLONE) == 0)
		finding_remedy(f, AS_ROOT "sysctl -w " USERNS_CLONE "=1 (as"
			       " root)");
	else if (probe_sysctl(USERNS_APPARMOR) > 0)
		finding_remedy(f, AS_ROOT "sysctl -w " USERNS_APPARMOR "=0 (as"
			       " root)");
	else if (!told)
		finding_remedy(f, "run the host side as root, outside of a"
			       " chroot");
}

static int write_file(const char *path, const char *text)
{
	int fd cleanup_fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int map_ids(uid_t uid, gid_t gid)
{
	char line[64];
	int err = write_file("/proc/self/setgroups", "deny");

	snprintf(line, sizeof(line), "%u %u 1\n", uid, uid);
	if (!err)
		err = write_file("/proc/self/uid_map", line);
	snprintf(line, sizeof(line), "%u %u 1\n", gid, gid);
	return err ? err : write_file("/proc/self/gid_map", line);
}

/* What a child in new namespaces does; f is shared with it. */
typedef void inside_fn(struct finding *f);

static void found_namespaces(struct finding *f)
{
	finding_say(f, PASS, "namespaces can be made");
}

/* One probe says why there are none; what needs them cannot be tried then. */
static void lack(struct finding *f, inside_fn *fn, const char *what, int err)
{
	if (fn == found_namespaces)
		explain(f, what, err);
	else
		finding_say(f, SKIP, "cannot be tried without namespaces");
}

static _Noreturn void go_inside(struct finding *f, inside_fn *fn, uid_t uid,
				gid_t gid, bool user)
{
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	err = user ? map_ids(uid, gid) : 0;
	if (err)
		lack(f, fn, "a user namespace cannot be given its user", -err);
	/*
	 * Ubuntu gives an ordinary user such a namespace without the power
	 * that goes with it: this is where it is missed.
	 */
	else if (syscall(SYS_mount, NULL, "/", NULL, MS_REC | MS_PRIVATE,
			 NULL) < 0)
		lack(f, fn, "mounts cannot be made private", errno);
	else
		fn(f);
	_exit(0);
}

static void with_namespaces(struct finding *f, inside_fn *fn)
{
	const bool user = !privileged();
	const uid_t uid = getuid();
	const gid_t gid = getgid();
	const unsigned long flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC |
				    CLONE_NEWUTS | CLONE_NEWNET |
				    (user ? CLONE_NEWUSER : 0);
	pid_t pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
	int status;

	if (pid == 0)
		go_inside(f, fn, uid, gid, user);
	if (pid < 0) {
		lack(f, fn, user ? "user namespaces are refused" :
		     "namespaces are refused", errno);
		return;
	}
	status = probe_wait(pid);
	if (status > 0 && WIFSIGNALED(status))
		finding_killed(f, WTERMSIG(status));
}

void probe_namespaces(struct finding *f)
{
	with_namespaces(f, found_namespaces);
}

/* --- the root ------------------------------------------------------------- */

static int make_tmpfs(void)
{
	int fs cleanup_fd = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
	int fd;

	if (fs < 0 ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "size", "64k", 0) ||
	    syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		return -errno;
	fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID);
	return fd < 0 ? -errno : fd;
}

/* All that is mounted, read-only, as a rule would have it. */
static int make_tree(void)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY |
						MOUNT_ATTR_NOSUID };
	int fd cleanup_fd = (int)syscall(SYS_open_tree, AT_FDCWD, "/",
					 OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
					 AT_RECURSIVE);

	if (fd < 0 || syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH |
			      AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return -errno;
	return steal_fd(&fd);
}

static int put_tree(int tree, int root)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC,
				.resolve = RESOLVE_BENEATH |
					   RESOLVE_NO_SYMLINKS };
	int place cleanup_fd = -1;

	if (mkdirat(root, PLACE, 0755) < 0)
		return -errno;
	place = (int)syscall(SYS_openat2, root, PLACE, &how, sizeof(how));
	if (place < 0)
		return -errno;
	return syscall(SYS_move_mount, tree, "", place, "",
		       MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0 ?
	       -errno : 0;
}

static int switch_to(int root)
{
	int old cleanup_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (old < 0 || fchdir(root) < 0 ||
	    syscall(SYS_pivot_root, ".", ".") < 0 || fchdir(old) < 0 ||
	    syscall(SYS_umount2, ".", MNT_DETACH) < 0)
		return -errno;
	return 0;
}

static void explain_mount(struct finding *f, const char *what, int err)
{
	if (!finding_refused(f, what, err))
		finding_remedy(f, "a kernel of Linux 5.14 or later, and a"
			       " security profile that allows mounts in a"
			       " namespace of their own");
}

static void build_root(struct finding *f)
{
	int root cleanup_fd = make_tmpfs(), tree cleanup_fd = -1, err = 0;

	if (root < 0) {
		explain_mount(f, "a tmpfs cannot be made", -root);
		return;
	}
	tree = make_tree();
	if (tree < 0)
		err = tree;
	else if (syscall(SYS_move_mount, root, "", AT_FDCWD, "/",
			 MOVE_MOUNT_F_EMPTY_PATH) < 0)
		err = -errno;
	if (!err)
		err = put_tree(tree, root);
	if (err) {
		explain_mount(f, "a tree cannot be mounted", -err);
		return;
	}
	err = switch_to(root);
	if (err == -EINVAL) {
		finding_say(f, FAIL, "the root is a chroot or an initramfs,"
			    " which cannot be left (pivot_root)");
		finding_remedy(f, "run the host side outside of the chroot,"
			       " or switch_root from the initramfs first");
	} else if (err) {
		explain_mount(f, "the root cannot be left", -err);
	} else {
		finding_say(f, PASS, "a root of its own can be made for a"
			    " shadow");
	}
}

void probe_root(struct finding *f)
{
	with_namespaces(f, build_root);
}

void probe_landlock(struct finding *f)
{
	const long abi = syscall(SYS_landlock_create_ruleset, NULL, 0,
				 LANDLOCK_CREATE_RULESET_VERSION);

	const bool off = abi < 0 && errno == EOPNOTSUPP;
	char *lsm cleanup_free = NULL;

	if (abi >= 2) {
		finding_say(f, PASS, "Landlock, version %ld", abi);
		return;
	}
	finding_say(f, WARN, "%s: rules that have a device read-only are"
		    " refused", abi < 0 ? "there is no Landlock" :
		    "Landlock's first version is of no use");
	if (off && fd_read_all(LSMS, 1024, &lsm) > 0)
		finding_remedy(f, "boot with lsm=landlock,%.*s",
			       (int)strcspn(lsm, "\n"), lsm);
	else
		finding_remedy(f, "a kernel of Linux 5.19 or later with"
			       " CONFIG_SECURITY_LANDLOCK");
}
