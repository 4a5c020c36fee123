/* SPDX-License-Identifier: MIT */
/* machines.c - probes: what this machine is, and what runs on it */
#include "tool/probes.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/num.h"
#include "process/proc.h"
#include "vm/vm.h"
#include "wire/channel.h"
#include "wire/device.h"

#define CPUID_HYPERVISOR (1U << 31)	/* ecx of leaf 1 */
#define LOCKDOWN	"/sys/kernel/security/lockdown"
#define NO_DEVICE	"this VM has no ivshmem device"
#define SOURCE		"/dev/null"	/* what is forwarded, to see it work */
#define NAME		"/darkshadow-doctor"

#define RAM_SHARED	"-object memory-backend-memfd,id=ram,size=SIZE," \
			"share=on -machine memory-backend=ram"
#define PLAIN		"-object memory-backend-file,id=ds,mem-path=" \
			"/dev/shm/ds,size=4M,share=on -device" \
			" ivshmem-plain,memdev=ds"
#define DOORBELL	"-chardev socket,id=ds,path=PATH,server=on,wait=on" \
			" -device ivshmem-doorbell,vectors=1,chardev=ds"

/* --- processors ----------------------------------------------------------- */

void probe_cpus(struct finding *f)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 :
		CPU_COUNT(&set);

	if (n > 1) {
		finding_say(f, PASS, "%d processors: who waits can look for the"
			    " answer", n);
		return;
	}
	finding_say(f, WARN, "one processor: whoever waits has to sleep, and"
		    " calls take several times as long");
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
		finding_remedy(f, "taskset -pc 0-$(($(nproc --all) - 1)) $$");
	else
		finding_remedy(f, "give this machine a second processor, as by"
			       " QEMU's -smp 2");
}

void probe_kvm(struct finding *f)
{
	int fd cleanup_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0 && ioctl(fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION) {
		finding_say(f, PASS, "/dev/kvm answers");
	} else if (errno == EACCES) {
		finding_say(f, WARN, "/dev/kvm is not for this user: VMs are"
			    " emulated");
		finding_remedy(f, "usermod -aG kvm $USER (as root)");
	} else {
		finding_say(f, WARN, "/dev/kvm: %s: VMs are emulated",
			    strerror(errno));
		finding_remedy(f, "modprobe kvm_intel or modprobe kvm_amd%s",
			       probe_as_root());
	}
}

/* --- a guest -------------------------------------------------------------- */

static bool is_guest(void)
{
	unsigned int a, b, c = 0, d;

	return access(DEVICE_MMAPPER, F_OK) == 0 ||
	       (__get_cpuid(1, &a, &b, &c, &d) && c & CPUID_HYPERVISOR);
}

static void lack_device(struct finding *f, const char *name, const char *args)
{
	finding_say(f, FAIL, "%s", is_guest() ? name : "this is not a VM");
	finding_remedy(f, "start the VM with %s", args);
}

static bool is_enabled(const char *dir)
{
	char path[PATH_MAX + 16], *text cleanup_free = NULL;

	snprintf(path, sizeof(path), "%s/enable", dir);
	return fd_read_all(path, 16, &text) > 0 && *text != '0';
}

static bool locked_down(void)
{
	char *text cleanup_free = NULL;

	return fd_read_all(LOCKDOWN, 256, &text) > 0 &&
	       !strstr(text, "[none]");
}

static void explain_device(struct finding *f, const char *path, int err)
{
	finding_say(f, FAIL, "%s: %s", path, strerror(err));
	if (locked_down())
		finding_remedy(f, "boot the guest without lockdown= and without"
			       " Secure Boot");
	else if (!finding_refused(f, path, err))
		finding_remedy(f, "run darkshadow as root, or chown it to this"
			       " user (as root)");
}

/* A page of the device, or NULL and errno. */
static void *map_page(const char *path, int prot)
{
	int fd cleanup_fd = open(path, O_RDWR | O_CLOEXEC);
	void *p = fd < 0 ? MAP_FAILED : mmap(NULL, PAGE_BYTES, prot,
					     MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* What is not enabled does not answer: then it is not read. */
void probe_device(struct finding *f)
{
	const volatile struct shm_header *h;
	char path[PATH_MAX + 16];
	struct device dev;
	bool served = false;

	device_find(DEVICE_PCI, DEVICE_MMAPPER, DEVICE_NONE, &dev);
	if (dev.kind == DEVICE_NONE) {
		lack_device(f, NO_DEVICE, PLAIN);
		return;
	}
	snprintf(path, sizeof(path), "%s%s", dev.path,
		 dev.kind == DEVICE_FILE ? "" : "/resource2");
	h = map_page(path, PROT_READ);
	if (!h) {
		explain_device(f, path, errno);
		return;
	}
	if (dev.kind == DEVICE_FILE || is_enabled(dev.path))
		served = h->magic == SHM_MAGIC;
	finding_say(f, PASS, "%s, where %s", dev.path, served ?
		    "a daemon is or has been" : "no daemon has been yet");
}

void probe_doorbell(struct finding *f)
{
	char path[PATH_MAX + 16];
	struct device dev;

	device_find(DEVICE_PCI, DEVICE_MMAPPER, DEVICE_NONE, &dev);
	if (dev.kind != DEVICE_DOORBELL) {
		lack_device(f, dev.kind == DEVICE_NONE ? NO_DEVICE :
			    "the device of this VM has no doorbell", DOORBELL);
		return;
	}
	for (int bar = 0; bar <= 2; bar += 2) {
		snprintf(path, sizeof(path), "%s/resource%d", dev.path, bar);
		if (!map_page(path, PROT_READ | PROT_WRITE)) {
			explain_device(f, path, errno);
			return;
		}
	}
	finding_say(f, PASS, "%s can be rung", dev.path);
}

/* --- a host --------------------------------------------------------------- */

/* Which VMs are looked at, and what was found. */
struct vms {
	const char *qemu, *uml;		/* words of their command lines; "" */
	size_t seen;
	size_t fit;			/* that can be shadowed */
	char name[VM_NAME_MAX + 32];	/* of the last of these, ... */
	const char *has;		/* ... and its word */
	char why[VM_ERR_MAX + VM_NAME_MAX + 32];	/* of what cannot */
};

static bool has_word(pid_t pid, const char *word)
{
	struct proc_args args;
	bool has = false;

	if (proc_args_read(pid, &args))
		return false;
	for (size_t i = 0; i < args.n && !has; i++)
		has = strstr(args.v[i], word);
	proc_args_fini(&args);
	return has;
}

static void look_at(const struct vm_seen *seen, struct vms *all)
{
	const char *word = seen->kind == VM_QEMU ? all->qemu : all->uml;
	char err[VM_ERR_MAX];
	struct vm *vm = NULL;

	if (!has_word(seen->pid, word))
		return;
	all->seen++;
	if (vm_open_pid(seen->pid, &vm, err)) {
		snprintf(all->why, sizeof(all->why), "%s (process %d): %s",
			 seen->name, seen->pid, err);
		return;
	}
	vm_free(vm);
	all->fit++;
	all->has = word;
	snprintf(all->name, sizeof(all->name), "%s (process %d)", seen->name,
		 seen->pid);
}

/* false: there is none that fits, and f says why. */
static bool look_at_all(struct finding *f, struct vms *all)
{
	struct vm_seen *v = NULL;
	size_t n = 0;
	int err = vm_list(&v, &n);

	for (size_t i = 0; !err && i < n; i++)
		look_at(&v[i], all);
	free(v);
	if (err) {
		finding_refused(f, "processes cannot be listed", -err);
		finding_remedy(f, "mount -t proc proc /proc%s",
			       probe_as_root());
	} else if (!n) {
		finding_say(f, FAIL, "no VM runs here");
		finding_remedy(f, "qemu-system-x86_64 -name NAME " RAM_SHARED
			       " " PLAIN);
	} else if (!all->fit && all->seen) {
		finding_say(f, FAIL, "no VM here can be shadowed: %s",
			    all->why);
		finding_remedy(f, "start QEMU with " RAM_SHARED);
	}
	return all->fit > 0;
}

void probe_vms(struct finding *f)
{
	struct vms all = { .qemu = "", .uml = "" };

	if (look_at_all(f, &all))
		finding_say(f, PASS, "%zu of %zu VMs can be shadowed, see"
			    " darkshadow vms", all.fit, all.seen);
}

/* The device may be on no command line: then it is missed. */
static void probe_vm_device(struct finding *f, struct vms *all,
			    const char *args)
{
	finding_say(f, FAIL, "no VM here has %s", all->qemu);
	finding_remedy(f, "start QEMU with %s", args);
	if (!look_at_all(f, all))
		return;
	finding_say(f, PASS, "%s has %s", all->name, all->has);
	*f->remedy = '\0';
}

/* User-Mode Linux ends the word at its comma: parse_iomem() in its physmem.c */
void probe_vm_shm(struct finding *f)
{
	struct vms all = { .qemu = "ivshmem-plain", .uml = "iomem=mmapper" };

	probe_vm_device(f, &all, PLAIN ", or User-Mode Linux with"
			" iomem=mmapper,/dev/shm/ds");
}

/* User-Mode Linux has no such thing. */
void probe_vm_doorbell(struct finding *f)
{
	struct vms all = { .qemu = "ivshmem-doorbell", .uml = "\n" };

	probe_vm_device(f, &all, DOORBELL);
}

/* --- all of it ------------------------------------------------------------ */

static _Noreturn void run_ourselves(int out)
{
	dup2(out, STDERR_FILENO);
	execl("/proc/self/exe", "darkshadow", "run", "-q", "-t", "loopback",
	      "-f", "dev:" NAME "=" SOURCE, "--", "/bin/sh", "-c",
	      ": <" NAME, NULL);
	dprintf(STDERR_FILENO, "/proc/self/exe: %s", strerror(errno));
	_exit(126);
}

/* A command whose only call of interest is for the host. */
void probe_whole(struct finding *f)
{
	char said[512] = "";
	int out[2], status = -1;
	ssize_t n = -1;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) < 0) {
		finding_refused(f, "pipe2", errno);
		return;
	}
	pid = probe_child();
	if (pid == 0)
		run_ourselves(out[1]);
	close(out[1]);
	if (pid > 0) {
		status = probe_wait(pid);
		n = read(out[0], said, sizeof(said) - 1);
	}
	if (status == 0) {
		finding_say(f, PASS, "a command has run, and its shadow");
		return;
	}
	said[n > 0 ? strcspn(said, "\n") : 0] = '\0';
	finding_say(f, FAIL, "a command cannot be run with a shadow: %s",
		    *said ? said : "nothing was said");
	finding_remedy(f, "darkshadow run -vv -f dev:" NAME "=" SOURCE
		       " -- sh -c ': <" NAME "'");
}
