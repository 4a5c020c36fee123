/* SPDX-License-Identifier: MIT */
/*
 * kvm.c - small guests of /dev/kvm, in the memory of this process
 *
 * VICTIM_KVM is the name of the device node (/dev/kvm). What it takes: ioctls
 * that make descriptors, one that is told an address of ours for a guest's
 * memory, a mapping of a descriptor, and a call that runs for as long as the
 * guest does.
 */
#include "victim.h"

#include <linux/kvm.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#define PAGE	4096UL
#define SERIAL	0x3f8

struct machine {
	int kvm, vm, cpu;
	uint8_t *ram;
	size_t ram_size, run_size;
	struct kvm_run *run;
};

static const char *node(void)
{
	const char *name = getenv("VICTIM_KVM");

	return name ? name : "/dev/kvm";
}

static int open_kvm(void)
{
	int fd = open(node(), O_RDWR | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		victim_skip("there is no /dev/kvm");
	check(fd >= 0, "%s: %s", node(), strerror(errno));
	return fd;
}

/* A machine of one processor, in real mode, at the first byte of its code. */
static void build(struct machine *m, const uint8_t *code, size_t len,
		  size_t pages)
{
	struct kvm_userspace_memory_region region = { .slot = 0 };
	struct kvm_sregs sregs;
	struct kvm_regs regs = { .rip = PAGE, .rflags = 2 };

	m->kvm = open_kvm();
	same(ioctl(m->kvm, KVM_GET_API_VERSION, 0), KVM_API_VERSION);
	m->vm = (int)sys(ioctl(m->kvm, KVM_CREATE_VM, 0));
	m->ram_size = pages * PAGE;
	m->ram = mmap(NULL, m->ram_size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(m->ram != MAP_FAILED, "mmap: %s", strerror(errno));
	memcpy(m->ram, code, len);
	region.guest_phys_addr = PAGE;
	region.memory_size = m->ram_size;
	region.userspace_addr = (uint64_t)m->ram;
	sys(ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &region));
	m->cpu = (int)sys(ioctl(m->vm, KVM_CREATE_VCPU, 0));
	m->run_size = (size_t)sys(ioctl(m->kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
	m->run = mmap(NULL, m->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		      m->cpu, 0);
	check(m->run != MAP_FAILED, "mmap of the processor: %s",
	      strerror(errno));
	sys(ioctl(m->cpu, KVM_GET_SREGS, &sregs));
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	sys(ioctl(m->cpu, KVM_SET_SREGS, &sregs));
	sys(ioctl(m->cpu, KVM_SET_REGS, &regs));
}

static void discard(struct machine *m)
{
	sys(munmap(m->run, m->run_size));
	sys(close(m->cpu));
	sys(close(m->vm));
	sys(close(m->kvm));
	sys(munmap(m->ram, m->ram_size));
}

/* What the exit says was written to the port; false: the guest has halted. */
static bool runs(struct machine *m, uint8_t *out)
{
	sys(ioctl(m->cpu, KVM_RUN, 0));
	if (m->run->exit_reason == KVM_EXIT_HLT)
		return false;
	same(m->run->exit_reason, KVM_EXIT_IO);
	same(m->run->io.direction, KVM_EXIT_IO_OUT);
	same(m->run->io.port, SERIAL);
	*out = *((uint8_t *)m->run + m->run->io.data_offset);
	return true;
}

/* 2 + 2, as a digit, and a newline. */
static void adds(void)
{
	static const uint8_t code[] = {
		0xba, 0xf8, 0x03,	/* mov $0x3f8, %dx */
		0x00, 0xd8,		/* add %bl, %al */
		0x04, '0',		/* add $'0', %al */
		0xee,			/* out %al, (%dx) */
		0xb0, '\n',		/* mov $'\n', %al */
		0xee,			/* out %al, (%dx) */
		0xf4,			/* hlt */
	};
	struct kvm_regs regs;
	char text[8] = "";
	struct machine m;
	uint8_t byte;

	build(&m, code, sizeof(code), 1);
	sys(ioctl(m.cpu, KVM_GET_REGS, &regs));
	regs.rax = regs.rbx = 2;
	sys(ioctl(m.cpu, KVM_SET_REGS, &regs));
	for (size_t n = 0; runs(&m, &byte); n++) {
		check(n < sizeof(text) - 1, "it goes on printing");
		text[n] = (char)byte;
	}
	check(strcmp(text, "4\n") == 0, "2 + 2 is %s", text);
	discard(&m);
}

/*
 * A counter in each of several pages, printed byte by byte: the guest writes to
 * memory of ours, and what we write there it sees at its next turn.
 */
static void counts(void)
{
	static const uint8_t code[] = {
		0xba, 0xf8, 0x03,	/* mov $0x3f8, %dx */
		0xbe, 0x00, 0x20,	/* 1: mov $0x2000, %si */
		0xfe, 0x04,		/* 2: incb (%si) */
		0x8a, 0x04,		/* mov (%si), %al */
		0xee,			/* out %al, (%dx) */
		0x81, 0xc6, 0x00, 0x10,	/* add $0x1000, %si */
		0x81, 0xfe, 0x00, 0x60,	/* cmp $0x6000, %si */
		0x75, 0xf1,		/* jne 2b */
		0xeb, 0xec,		/* jmp 1b */
	};
	const int turns = fewer(1000000);
	struct machine m;
	uint8_t want[4] = { 0 }, byte;

	build(&m, code, sizeof(code), 5);
	for (int i = 0; i < turns; i++) {
		uint8_t *there = m.ram + (size_t)(i % 4 + 1) * PAGE;

		check(runs(&m, &byte), "it halts");
		same(byte, ++want[i % 4]);
		same(*there, want[i % 4]);
		if (i % 1000 == 999)
			*there = want[i % 4] = (uint8_t)(i / 1000);
	}
	discard(&m);
}

/* An eventfd of ours that the guest rings, with no exit. */
static void rings(void)
{
	static const uint8_t code[] = {
		0xba, 0xf8, 0x03,	/* mov $0x3f8, %dx */
		0xee,			/* out %al, (%dx) */
		0xee,			/* out %al, (%dx) */
		0xf4,			/* hlt */
	};
	struct kvm_ioeventfd bell = { .addr = SERIAL, .len = 1,
				      .flags = KVM_IOEVENTFD_FLAG_PIO };
	struct machine m;
	uint64_t value = 3;
	uint8_t byte;

	build(&m, code, sizeof(code), 1);
	bell.fd = (int)sys(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	refused(read(bell.fd, &value, sizeof(value)), EAGAIN);
	same(write(bell.fd, &value, sizeof(value)), sizeof(value));
	sys(ioctl(m.vm, KVM_IOEVENTFD, &bell));
	check(!runs(&m, &byte), "an exit for what has an eventfd");
	same(read(bell.fd, &value, sizeof(value)), sizeof(value));
	same(value, 5);
	sys(close(bell.fd));
	discard(&m);
}

static volatile sig_atomic_t rang;

static void ring(int sig)
{
	(void)sig;
	rang++;
}

/* jmp . */
static const uint8_t forever[] = { 0xeb, 0xfe };

static void interrupted(void)
{
	struct sigaction sa = { .sa_handler = ring };
	struct machine m;

	build(&m, forever, sizeof(forever), 1);
	sys(sigaction(SIGALRM, &sa, NULL));
	for (int i = 0; i < fewer(10); i++) {
		rang = 0;
		tick(20000);
		refused(ioctl(m.cpu, KVM_RUN, 0), EINTR);
		tick(0);
		check(rang > 0, "the handler has not run");
		same(m.run->exit_reason, KVM_EXIT_INTR);
	}
	discard(&m);
}

static void *run_forever(void *arg)
{
	struct machine *m = arg;
	long r = ioctl(m->cpu, KVM_RUN, 0);

	return (void *)(r < 0 ? (long)errno : r);
}

/* A processor that runs holds up its own thread only. */
static void beside(void)
{
	struct sigaction sa = { .sa_handler = ring };
	struct machine m;
	pthread_t thread;
	void *ended;

	build(&m, forever, sizeof(forever), 1);
	sys(sigaction(SIGUSR1, &sa, NULL));
	same(pthread_create(&thread, NULL, run_forever, &m), 0);
	for (int i = 0; i < 100; i++)
		same(ioctl(m.kvm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), 1);
	/* Until it is in the call that the signal is to end. */
	do {
		usleep(1000);
		pthread_kill(thread, SIGUSR1);
	} while (pthread_tryjoin_np(thread, &ended) != 0);
	same((long)ended, EINTR);
	discard(&m);
}

/* A number is free again when it has been closed, and not before. */
static void made_again(void)
{
	int kvm = open_kvm();
	int first = (int)sys(ioctl(kvm, KVM_CREATE_VM, 0));
	int second = (int)sys(ioctl(kvm, KVM_CREATE_VM, 0));

	check(first != second, "two machines have one number");
	same(sys(fcntl(first, F_GETFD)), FD_CLOEXEC);
	for (int i = 0; i < fewer(200); i++) {
		sys(close(first));
		refused(ioctl(first, KVM_CHECK_EXTENSION, 0), EBADF);
		same(ioctl(kvm, KVM_CREATE_VM, 0), first);
	}
	same(sys(dup2(first, second)), second);
	sys(close(first));
	check(ioctl(second, KVM_CREATE_VCPU, 0) >= 0, "the copy is another");
	sys(close(second));
	sys(close(kvm));
}

/* Threads that open files meanwhile: their descriptors are other ones. */
static void *open_files(void *stop)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s", in("x"));
	while (!__atomic_load_n((bool *)stop, __ATOMIC_RELAXED)) {
		int fd = (int)sys(open(path, O_RDONLY));
		struct stat st;

		sys(fstat(fd, &st));
		check(S_ISREG(st.st_mode), "a file has become something else");
		sys(close(fd));
	}
	return NULL;
}

static void beside_opens(void)
{
	const time_t until = time(NULL) + 10;
	bool stop = false;
	int kvm = open_kvm();
	pthread_t threads[3];

	put(in("x"), "x");
	for (int i = 0; i < 3; i++)
		same(pthread_create(&threads[i], NULL, open_files, &stop), 0);
	/* To end a guest the kernel waits for all processors: on a busy machine
	 * that takes 50 ms and more. */
	for (int i = 0; i < fewer(300) && time(NULL) < until; i++) {
		int vm = (int)sys(ioctl(kvm, KVM_CREATE_VM, 0));

		same(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), 1);
		sys(close(vm));
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 3; i++)
		same(pthread_join(threads[i], NULL), 0);
	sys(close(kvm));
}

/* A child has them, too, and the parent goes on with its own. */
static void forked(void)
{
	int kvm = open_kvm(), status;
	int vm = (int)sys(ioctl(kvm, KVM_CREATE_VM, 0));
	pid_t pid = (pid_t)sys(fork());

	if (pid == 0) {
		/* KVM: a machine is that of the memory it was made in. */
		refused(ioctl(vm, KVM_CREATE_VCPU, 0), EIO);
		sys(close(vm));
		_exit(0);
	}
	same(waitpid(pid, &status, 0), pid);
	same(status, 0);
	sys(close((int)sys(ioctl(vm, KVM_CREATE_VCPU, 0))));
	sys(close(vm));
	sys(close(kvm));
}

static void refusals(void)
{
	struct kvm_userspace_memory_region region = {
		.memory_size = PAGE, .userspace_addr = (uint64_t)node };
	int kvm = open_kvm();
	int vm = (int)sys(ioctl(kvm, KVM_CREATE_VM, 0));

	refused(ioctl(vm, KVM_SET_USER_MEMORY_REGION, 8), EFAULT);
	refused(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), EINVAL);
	refused(ioctl(kvm, KVM_CREATE_VM, ~0UL), EINVAL);
	refused(ioctl(kvm, 0xdeadbeef, 0), EINVAL);
	sys(close(vm));
	sys(close(kvm));
}

/* What is far behind the request's structure, and whose page nobody has touched. */
static void *asks_far(void *arg)
{
	const size_t len = 48UL << 20;
	const uint32_t n = 256;
	uint8_t *far = map(len, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	struct kvm_cpuid2 *id = (void *)(far + (40UL << 20) + (64UL << 10) -
					 sizeof(*id));
	const int fd = open_kvm();

	id->nent = n;
	sys(ioctl(fd, KVM_GET_SUPPORTED_CPUID, id));
	check(id->nent > 0 && id->nent < n, "%u leaves", id->nent);
	same(id->entries[0].function, 0);
	sys(close(fd));
	sys(munmap(far, len));
	return arg;
}

static void far_memory(void)
{
	pthread_t thread;

	for (int i = 0; i < 2; i++) {
		same(pthread_create(&thread, NULL, asks_far, NULL), 0);
		same(pthread_join(thread, NULL), 0);
	}
}

int main(int argc, char **argv)
{
	static const struct victim_case cases[] = {
		CASE(adds), CASE(counts), CASE(interrupted), CASE(beside),
		CASE(made_again), CASE(beside_opens), CASE(forked),
		CASE(refusals), CASE(far_memory), CASE(rings),
	};

	return VICTIM_MAIN(argc, argv, cases);
}
