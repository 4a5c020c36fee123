/* SPDX-License-Identifier: MIT */
/*
 * callfmt.c - a forwarded call as one line in strace's notation
 *
 * Theory of operation. The letters of the call table say how each word is to
 * be read; what they cannot say (that openat's mode counts only with O_CREAT,
 * that fcntl's third word depends on the second) is in put_args() and
 * put_fcntl_arg().
 *
 * All of it is the target's doing: the words, the memory they point to, even
 * the result. So no length is trusted: text ends after PATH_MAX bytes, data
 * after str_max, vectors after IOV_SHOWN, and the line where the caller's
 * buffer ends. What cannot be read is shown as the address that it was.
 */
#include "guest/callfmt.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/loop.h>
#include <linux/random.h>
#include <linux/sockios.h>
#include <linux/userfaultfd.h>
#include <linux/vhost.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "base/num.h"
#include "wire/calls.h"

/* Like strace, paths are shown whole; other strings up to str_max bytes. */
#define TEXT_MAX	PATH_MAX
#define READ_CHUNK	256
#define IOV_SHOWN	4
#define MAX_ERRNO	4095

/* One line as it grows. */
struct line {
	const struct callfmt *fmt;
	uint64_t nr;
	const uint64_t *args;
	int64_t result;
	char *out;
	size_t size;
	size_t len;
};

struct name {
	uint64_t value;
	const char *name;
};

#define N(x)		{ (uint64_t)(x), #x }

/* What the kernel means by it: the C library has 0, as 64-bit always is. */
#define KERNEL_O_LARGEFILE	0100000
/* Values of Linux that the C library's headers keep to themselves. */
#define SHIFT_OF_MAP_HUGE	26
#define BITS_OF_MAP_HUGE	0x3f

/* In strace's order; a name of several bits stands before those for one. */
static const struct name open_flags[] = {
	N(O_CREAT), N(O_EXCL), N(O_NOCTTY), N(O_TRUNC), N(O_APPEND),
	N(O_NONBLOCK), N(O_SYNC), N(O_DSYNC), N(O_DIRECT),
	{ KERNEL_O_LARGEFILE, "O_LARGEFILE" },
	N(O_NOFOLLOW), N(O_NOATIME), N(O_CLOEXEC), N(O_PATH), N(O_TMPFILE),
	N(O_DIRECTORY), N(FASYNC),
};

static const struct name at_flags[] = {
	N(AT_SYMLINK_NOFOLLOW), N(AT_SYMLINK_FOLLOW), N(AT_NO_AUTOMOUNT),
	N(AT_EMPTY_PATH), N(AT_STATX_FORCE_SYNC), N(AT_STATX_DONT_SYNC),
	N(AT_RECURSIVE),
};

static const struct name prot_flags[] = {
	N(PROT_READ), N(PROT_WRITE), N(PROT_EXEC), N(PROT_GROWSDOWN),
	N(PROT_GROWSUP),
};

static const struct name map_types[] = {
	N(MAP_SHARED), N(MAP_PRIVATE), N(MAP_SHARED_VALIDATE),
};

static const struct name map_flags[] = {
	N(MAP_FIXED), N(MAP_ANONYMOUS), N(MAP_32BIT), N(MAP_NORESERVE),
	N(MAP_POPULATE), N(MAP_NONBLOCK), N(MAP_GROWSDOWN), N(MAP_DENYWRITE),
	N(MAP_EXECUTABLE), N(MAP_LOCKED), N(MAP_STACK), N(MAP_HUGETLB),
	N(MAP_SYNC), N(MAP_FIXED_NOREPLACE),
};

static const struct name access_modes[] = { N(R_OK), N(W_OK), N(X_OK) };

static const struct name flock_ops[] = {
	N(LOCK_SH), N(LOCK_EX), N(LOCK_NB), N(LOCK_UN),
};

static const struct name fd_flags[] = { N(FD_CLOEXEC) };

static const struct name whences[] = {
	N(SEEK_SET), N(SEEK_CUR), N(SEEK_END), N(SEEK_DATA), N(SEEK_HOLE),
};

static const struct name fcntl_cmds[] = {
	N(F_DUPFD), N(F_GETFD), N(F_SETFD), N(F_GETFL), N(F_SETFL),
	N(F_GETLK), N(F_SETLK), N(F_SETLKW), N(F_SETOWN), N(F_GETOWN),
	N(F_SETSIG), N(F_GETSIG), N(F_SETOWN_EX), N(F_GETOWN_EX),
	N(F_OFD_GETLK), N(F_OFD_SETLK), N(F_OFD_SETLKW), N(F_SETLEASE),
	N(F_GETLEASE), N(F_NOTIFY), N(F_DUPFD_CLOEXEC), N(F_SETPIPE_SZ),
	N(F_GETPIPE_SZ), N(F_ADD_SEALS), N(F_GET_SEALS), N(F_GET_RW_HINT),
	N(F_SET_RW_HINT), N(F_GET_FILE_RW_HINT), N(F_SET_FILE_RW_HINT),
};

/* The common ones of files and terminals, and of devices we care for. */
static const struct name ioctls[] = {
	/* terminals */
	N(TCGETS), N(TCSETS), N(TCSETSW), N(TCSETSF), N(TCGETA), N(TCSETA),
	N(TCGETS2), N(TCSETS2), N(TCSETSW2), N(TCSETSF2), N(TCSBRK),
	N(TCSBRKP), N(TCXONC), N(TCFLSH), N(TIOCEXCL), N(TIOCNXCL),
	N(TIOCSCTTY), N(TIOCNOTTY), N(TIOCGPGRP), N(TIOCSPGRP), N(TIOCGSID),
	N(TIOCOUTQ), N(TIOCSTI), N(TIOCGWINSZ), N(TIOCSWINSZ), N(TIOCMGET),
	N(TIOCMSET), N(TIOCMBIS), N(TIOCMBIC), N(TIOCGETD), N(TIOCSETD),
	N(TIOCGPTN), N(TIOCSPTLCK), N(TIOCGPTPEER), N(TIOCPKT), N(TIOCSBRK),
	N(TIOCCBRK),
	/* any descriptor */
	N(FIONREAD), N(FIONBIO), N(FIOASYNC), N(FIOCLEX), N(FIONCLEX),
	N(FIOQSIZE),
	/* files */
	N(FICLONE), N(FICLONERANGE), N(FIDEDUPERANGE), N(FIBMAP), N(FIGETBSZ),
	N(FIFREEZE), N(FITHAW), N(FITRIM), N(FS_IOC_GETFLAGS),
	N(FS_IOC_SETFLAGS), N(FS_IOC_GETVERSION), N(FS_IOC_SETVERSION),
	N(FS_IOC_FIEMAP), N(FS_IOC_FSGETXATTR), N(FS_IOC_FSSETXATTR),
	N(FS_IOC_GETFSLABEL), N(FS_IOC_SETFSLABEL),
	/* block devices */
	N(BLKROSET), N(BLKROGET), N(BLKRRPART), N(BLKGETSIZE), N(BLKFLSBUF),
	N(BLKSSZGET), N(BLKBSZGET), N(BLKBSZSET), N(BLKGETSIZE64),
	N(BLKIOMIN), N(BLKIOOPT), N(BLKALIGNOFF), N(BLKPBSZGET),
	N(BLKDISCARD), N(BLKSECDISCARD), N(BLKDISCARDZEROES), N(BLKROTATIONAL),
	N(BLKZEROOUT), N(LOOP_SET_FD), N(LOOP_CLR_FD), N(LOOP_SET_STATUS64),
	N(LOOP_GET_STATUS64), N(LOOP_CONFIGURE), N(LOOP_CTL_GET_FREE),
	/* network */
	N(SIOCGIFCONF), N(SIOCGIFNAME), N(SIOCGIFFLAGS), N(SIOCSIFFLAGS),
	N(SIOCGIFADDR), N(SIOCSIFADDR), N(SIOCGIFNETMASK), N(SIOCSIFNETMASK),
	N(SIOCGIFMTU), N(SIOCSIFMTU), N(SIOCGIFHWADDR), N(SIOCSIFHWADDR),
	N(SIOCGIFINDEX), N(SIOCGIFBRDADDR), N(SIOCETHTOOL), N(SIOCADDRT),
	N(SIOCATMARK), N(TUNSETIFF), N(TUNGETIFF), N(TUNSETPERSIST),
	N(TUNSETOWNER), N(TUNSETGROUP), N(TUNGETFEATURES), N(TUNSETOFFLOAD),
	N(TUNSETVNETHDRSZ), N(TUNGETVNETHDRSZ), N(TUNSETSNDBUF),
	N(VHOST_GET_FEATURES), N(VHOST_SET_FEATURES), N(VHOST_SET_OWNER),
	N(VHOST_SET_MEM_TABLE), N(VHOST_SET_VRING_NUM),
	N(VHOST_SET_VRING_ADDR), N(VHOST_SET_VRING_BASE),
	N(VHOST_SET_VRING_KICK), N(VHOST_SET_VRING_CALL),
	N(VHOST_NET_SET_BACKEND),
	/* KVM */
	N(KVM_GET_API_VERSION), N(KVM_CREATE_VM), N(KVM_CHECK_EXTENSION),
	N(KVM_GET_MSR_INDEX_LIST), N(KVM_GET_VCPU_MMAP_SIZE),
	N(KVM_GET_SUPPORTED_CPUID), N(KVM_CREATE_VCPU), N(KVM_GET_DIRTY_LOG),
	N(KVM_SET_USER_MEMORY_REGION), N(KVM_SET_TSS_ADDR),
	N(KVM_SET_IDENTITY_MAP_ADDR), N(KVM_CREATE_IRQCHIP), N(KVM_IRQ_LINE),
	N(KVM_GET_IRQCHIP), N(KVM_SET_IRQCHIP), N(KVM_CREATE_PIT2),
	N(KVM_SET_GSI_ROUTING), N(KVM_IRQFD), N(KVM_IOEVENTFD),
	N(KVM_SET_CLOCK), N(KVM_GET_CLOCK), N(KVM_SIGNAL_MSI),
	N(KVM_CREATE_DEVICE), N(KVM_SET_DEVICE_ATTR), N(KVM_GET_DEVICE_ATTR),
	N(KVM_RUN), N(KVM_GET_REGS), N(KVM_SET_REGS), N(KVM_GET_SREGS),
	N(KVM_SET_SREGS), N(KVM_TRANSLATE), N(KVM_INTERRUPT), N(KVM_GET_MSRS),
	N(KVM_SET_MSRS), N(KVM_GET_FPU), N(KVM_SET_FPU), N(KVM_GET_LAPIC),
	N(KVM_SET_LAPIC), N(KVM_SET_CPUID2), N(KVM_GET_CPUID2),
	N(KVM_SET_SIGNAL_MASK), N(KVM_GET_MP_STATE), N(KVM_SET_MP_STATE),
	N(KVM_SET_GUEST_DEBUG), N(KVM_GET_VCPU_EVENTS),
	N(KVM_SET_VCPU_EVENTS), N(KVM_ENABLE_CAP), N(KVM_GET_XSAVE),
	N(KVM_SET_XSAVE), N(KVM_GET_XCRS), N(KVM_SET_XCRS),
	/* others */
	N(FUSE_DEV_IOC_CLONE), N(RNDGETENTCNT), N(RNDADDTOENTCNT),
	N(RNDADDENTROPY), N(UFFDIO_API), N(UFFDIO_REGISTER), N(UFFDIO_COPY),
};

/* Results that ptrace sees and a program never does. */
static const struct name restarts[] = {
	{ 512, "ERESTARTSYS (To be restarted if SA_RESTART is set)" },
	{ 513, "ERESTARTNOINTR (To be restarted)" },
	{ 514, "ERESTARTNOHAND (To be restarted if no handler)" },
	{ 516, "ERESTART_RESTARTBLOCK (Interrupted by signal)" },
};

/* put() - the only writer of the line: cuts, and always ends it with NUL */
__attribute__((format(printf, 2, 3)))
static void put(struct line *l, const char *fmt, ...)
{
	size_t room = l->size - l->len;
	va_list ap;
	int n;

	if (!room)
		return;
	va_start(ap, fmt);
	n = vsnprintf(l->out + l->len, room, fmt, ap);
	va_end(ap);
	if (n < 0)
		l->out[l->len] = '\0';
	else
		l->len += min_u64((uint64_t)n, room - 1);
}

static void put_hex(struct line *l, uint64_t value)
{
	put(l, "%#llx", (unsigned long long)value);
}

static void put_dec(struct line *l, int64_t value)
{
	put(l, "%lld", (long long)value);
}

static void put_uns(struct line *l, uint64_t value)
{
	put(l, "%llu", (unsigned long long)value);
}

static void put_ptr(struct line *l, uint64_t addr)
{
	if (addr)
		put_hex(l, addr);
	else
		put(l, "NULL");
}

static const char *find_name(const struct name *names, size_t n,
			     uint64_t value)
{
	for (size_t i = 0; i < n; i++) {
		if (names[i].value == value)
			return names[i].name;
	}
	return NULL;
}

/* One of several values, or the number where nobody named it. */
#define put_one_of(l, names, value) \
	put_name(l, names, ARRAY_SIZE(names), value)

static void put_name(struct line *l, const struct name *names, size_t n,
		     uint64_t value)
{
	const char *name = find_name(names, n, value);

	if (name)
		put(l, "%s", name);
	else
		put_hex(l, value);
}

/*
 * Bits joined by "|", those without a name as a number. sep says whether
 * something stands before them already; zero is what no bits are called.
 */
#define put_flags(l, names, value, sep, zero) \
	put_bits(l, names, ARRAY_SIZE(names), value, sep, zero)

static void put_bits(struct line *l, const struct name *names, size_t n,
		     uint64_t value, bool sep, const char *zero)
{
	if (!value && !sep)
		put(l, "%s", zero);
	for (size_t i = 0; i < n; i++) {
		if ((value & names[i].value) != names[i].value)
			continue;
		put(l, "%s%s", sep ? "|" : "", names[i].name);
		value &= ~names[i].value;
		sep = true;
	}
	if (value)
		put(l, "%s%#llx", sep ? "|" : "", (unsigned long long)value);
}

static void put_open_flags(struct line *l, uint32_t flags)
{
	static const char *const modes[] = {
		"O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE",
	};

	put(l, "%s", modes[flags & O_ACCMODE]);
	put_flags(l, open_flags, flags & ~(uint32_t)O_ACCMODE, true, "");
}

static void put_map_flags(struct line *l, uint64_t flags)
{
	uint64_t huge = 0;

	/* The page size of MAP_HUGETLB is a number within the bits. */
	if (flags & MAP_HUGETLB)
		huge = flags >> SHIFT_OF_MAP_HUGE & BITS_OF_MAP_HUGE;
	put_one_of(l, map_types, flags & MAP_TYPE);
	put_flags(l, map_flags, flags & ~(uint64_t)MAP_TYPE &
		  ~(huge << SHIFT_OF_MAP_HUGE), true, "");
	if (huge)
		put(l, "|%u<<MAP_HUGE_SHIFT", (unsigned int)huge);
}

/* 0x200 means something else in each of the calls that have it. */
static void put_at_flags(struct line *l, uint32_t flags)
{
	const char *own = NULL;

	if (l->nr == SYS_unlinkat)
		own = "AT_REMOVEDIR";
	else if (l->nr == SYS_faccessat2)
		own = "AT_EACCESS";
	else if (l->nr == SYS_name_to_handle_at)
		own = "AT_HANDLE_FID";

	if (own && flags & AT_REMOVEDIR) {
		put(l, "%s", own);
		flags &= ~(uint32_t)AT_REMOVEDIR;
		put_flags(l, at_flags, flags, true, "");
	} else {
		put_flags(l, at_flags, flags, false, "0");
	}
}

static void put_byte(struct line *l, unsigned char c, bool digit_follows,
		     const char *special)
{
	static const char plain[] = "\t\n\v\f\r\\\"";
	static const char escape[] = "tnvfr\\\"";
	const char *at = c ? strchr(plain, c) : NULL;

	if (at && (c != '"' || strchr(special, c)))
		put(l, "\\%c", escape[at - plain]);
	else if (c >= ' ' && c < 0x7f && !strchr(special, c))
		put(l, "%c", c);
	else
		put(l, digit_follows ? "\\%03o" : "\\%o", c);
}

/* strace's escapes; special has further bytes that need them. */
static void put_escaped(struct line *l, const char *s, size_t len,
			const char *special)
{
	for (size_t i = 0; i < len && l->len + 1 < l->size; i++) {
		/* "\0" and then "1" must not become "\01". */
		bool digit = i + 1 < len && s[i + 1] >= '0' && s[i + 1] <= '9';

		put_byte(l, (unsigned char)s[i], digit, special);
	}
}

static void put_quoted(struct line *l, const char *s, size_t len, bool cut)
{
	put(l, "\"");
	put_escaped(l, s, len, "\"");
	put(l, cut ? "\"..." : "\"");
}

/*
 * Reads up to len bytes in steps that never cross a page, as a reader may
 * give nothing of a range that is not all there. The bytes read.
 */
static size_t read_mem(const struct callfmt *fmt, uint64_t addr, char *buf,
		       size_t len, bool text)
{
	size_t done = 0;

	while (done < len) {
		uint64_t at = addr + done;
		size_t want = min_u64(len - done, PAGE_BYTES - at % PAGE_BYTES);
		ssize_t got;

		want = min_u64(want, READ_CHUNK);
		got = fmt->read(fmt->ctx, at, buf + done, want);
		if (got <= 0)
			break;
		got = (ssize_t)min_u64((uint64_t)got, want);
		if (text && memchr(buf + done, '\0', (size_t)got))
			return done + (size_t)got;
		done += (size_t)got;
		if ((size_t)got < want)
			break;
	}
	return done;
}

/* NUL-terminated text, its first max bytes. */
static void put_text(struct line *l, uint64_t addr, size_t max)
{
	char buf[TEXT_MAX + 1];
	size_t got, len;

	max = min_u64(max, TEXT_MAX);
	got = addr ? read_mem(l->fmt, addr, buf, max + 1, true) : 0;
	len = strnlen(buf, got);
	/* No end, and no more of it than we wanted: memory ended first. */
	if (len == got && got <= max)
		put_ptr(l, addr);
	else
		put_quoted(l, buf, min_u64(len, max), len > max);
}

/* Bytes that may be anything, the first str_max of len. */
static void put_data(struct line *l, uint64_t addr, uint64_t len)
{
	char buf[TEXT_MAX];
	size_t shown = min_u64(min_u64(len, l->fmt->str_max), sizeof(buf));

	if (!addr || read_mem(l->fmt, addr, buf, shown, false) < shown)
		put_ptr(l, addr);
	else
		put_quoted(l, buf, shown, len > shown);
}

/* What the kernel wrote to a buffer of size bytes, if it did. */
static void put_filled(struct line *l, uint64_t addr, uint64_t size)
{
	bool records = l->nr == SYS_getdents || l->nr == SYS_getdents64;

	if (l->result < 0 || records)
		put_ptr(l, addr);
	else if (l->nr == SYS_getcwd)
		put_text(l, addr, TEXT_MAX);
	else
		put_data(l, addr, min_u64((uint64_t)l->result, size));
}

static bool fills_iovec(uint64_t nr)
{
	return nr == SYS_readv || nr == SYS_preadv || nr == SYS_preadv2 ||
	       nr == SYS_process_vm_readv;
}

/* *left: bytes of the result that the entries before have not used up. */
static void put_iovec(struct line *l, const struct iovec *iov, uint64_t *left)
{
	uint64_t base = (uintptr_t)iov->iov_base;
	uint64_t len = iov->iov_len;

	put(l, "{iov_base=");
	if (!fills_iovec(l->nr)) {
		put_data(l, base, len);
	} else if (l->result < 0) {
		put_ptr(l, base);
	} else {
		put_data(l, base, min_u64(len, *left));
		*left -= min_u64(len, *left);
	}
	put(l, ", iov_len=%llu}", (unsigned long long)len);
}

static void put_iovecs(struct line *l, uint64_t addr, uint64_t count)
{
	uint64_t left = l->result > 0 ? (uint64_t)l->result : 0;
	struct iovec iov;

	if (!addr) {
		put_ptr(l, addr);
		return;
	}
	for (uint64_t i = 0; i < min_u64(count, IOV_SHOWN); i++) {
		uint64_t at = addr + i * sizeof(iov);

		if (read_mem(l->fmt, at, (char *)&iov, sizeof(iov), false) <
		    sizeof(iov)) {
			put(l, i ? ", ... /* %#llx */]" : "%#llx",
			    (unsigned long long)at);
			return;
		}
		put(l, i ? ", " : "[");
		put_iovec(l, &iov, &left);
	}
	if (!count)
		put(l, "[");
	put(l, count > IOV_SHOWN ? ", ...]" : "]");
}

static void put_fd(struct line *l, int fd)
{
	const char *path = NULL;

	put(l, "%d", fd);
	if (fd >= 0 && l->fmt->fd_path)
		path = l->fmt->fd_path(l->fmt->ctx, fd);
	if (!path)
		return;
	put(l, "<");
	put_escaped(l, path, strnlen(path, TEXT_MAX), "<>");
	put(l, ">");
}

static void put_dirfd(struct line *l, int fd)
{
	if (fd == AT_FDCWD)
		put(l, "AT_FDCWD");
	else
		put_fd(l, fd);
}

static void put_access(struct line *l, uint32_t mode)
{
	put_flags(l, access_modes, mode, false, "F_OK");
}

/* fcntl's third word is whatever the second makes of it. */
static void put_fcntl_arg(struct line *l, uint32_t cmd, uint64_t arg)
{
	switch (cmd) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
	case F_SETOWN:
	case F_SETSIG:
	case F_SETPIPE_SZ:
		put_dec(l, (int32_t)arg);
		break;
	case F_SETFD:
		put_flags(l, fd_flags, (uint32_t)arg, false, "0");
		break;
	case F_SETFL:
		put_open_flags(l, (uint32_t)arg);
		break;
	case F_GETLK:
	case F_SETLK:
	case F_SETLKW:
	case F_OFD_GETLK:
	case F_OFD_SETLK:
	case F_OFD_SETLKW:
		put_ptr(l, arg);
		break;
	default:
		put_hex(l, arg);
	}
}

static bool fcntl_has_arg(uint32_t cmd)
{
	return cmd != F_GETFD && cmd != F_GETFL && cmd != F_GETOWN &&
	       cmd != F_GETSIG && cmd != F_GETLEASE && cmd != F_GETPIPE_SZ &&
	       cmd != F_GET_SEALS;
}

/* A text's length limit: paths and link targets are shown whole. */
static size_t text_max(const struct line *l)
{
	bool target = l->nr == SYS_symlink || l->nr == SYS_symlinkat;

	return target ? TEXT_MAX : l->fmt->str_max;
}

/* One word by its letter; next is the word after it, or 0. */
static void put_arg(struct line *l, char letter, uint64_t arg, uint64_t next)
{
	switch (letter) {
	case 'f':
		put_fd(l, (int)arg);
		break;
	case 'd':
		put_dirfd(l, (int)arg);
		break;
	case 'p':
	case 'P':
		put_text(l, arg, TEXT_MAX);
		break;
	case 'T':
		put_text(l, arg, text_max(l));
		break;
	case 'b':
		put_filled(l, arg, next);
		break;
	case 'B':
		put_data(l, arg, next);
		break;
	case 'V':
		put_iovecs(l, arg, next);
		break;
	case 'n':
	case 'u':
		put_uns(l, arg);
		break;
	case 'o':
		put_open_flags(l, (uint32_t)arg);
		break;
	case 'm':
		put(l, "%#03o", (unsigned int)arg);
		break;
	case 't':
		put_at_flags(l, (uint32_t)arg);
		break;
	case 'w':
		put_one_of(l, whences, (uint32_t)arg);
		break;
	case 'F':
		put_one_of(l, fcntl_cmds, (uint32_t)arg);
		break;
	case 'c':
		put_one_of(l, ioctls, (uint32_t)arg);
		break;
	case 'a':
		put_access(l, (uint32_t)arg);
		break;
	case 'k':
		put_flags(l, flock_ops, (uint32_t)arg, false, "0");
		break;
	case 'i':
		put_dec(l, (int32_t)arg);
		break;
	case 'l':
		put_dec(l, (int64_t)arg);
		break;
	case '*':
		put_ptr(l, arg);
		break;
	case 'r':
		put_flags(l, prot_flags, arg, false, "PROT_NONE");
		break;
	case 'M':
		put_map_flags(l, arg);
		break;
	default:
		put_hex(l, arg);
	}
}

static bool creates_file(uint32_t flags)
{
	return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE;
}

static void put_args(struct line *l, const char *letters)
{
	for (int i = 0; i < 6 && letters[i]; i++) {
		char before = i ? letters[i - 1] : '\0';
		uint64_t next = i < 5 ? l->args[i + 1] : 0;

		/* Without O_CREAT the words after the flags are noise. */
		if (before == 'o' && letters[i] == 'm' &&
		    !creates_file((uint32_t)l->args[i - 1]))
			return;
		if (before == 'F' && !fcntl_has_arg((uint32_t)l->args[i - 1]))
			return;
		if (i)
			put(l, ", ");
		if (before == 'F')
			put_fcntl_arg(l, (uint32_t)l->args[i - 1], l->args[i]);
		else
			put_arg(l, letters[i], l->args[i], next);
	}
}

static void put_error(struct line *l, int err)
{
	const char *restart = find_name(restarts, ARRAY_SIZE(restarts),
					(uint64_t)err);
	const char *name = strerrorname_np(err);

	if (restart)
		put(l, "? %s", restart);
	else if (name)
		/* Never translated, and safe in threads: not strerror(). */
		put(l, "-1 %s (%s)", name, strerrordesc_np(err));
	else
		put(l, "-1 ERRNO_%d (Unknown error %d)", err, err);
}

static void put_fcntl_result(struct line *l)
{
	uint32_t cmd = (uint32_t)l->args[1];
	uint32_t result = (uint32_t)l->result;

	if (cmd == F_GETFL) {
		put(l, "%#x (flags ", result);
		put_open_flags(l, result);
		put(l, ")");
	} else if (cmd == F_GETFD && result) {
		put(l, "%#x (flags ", result);
		put_flags(l, fd_flags, result, false, "0");
		put(l, ")");
	} else {
		put_dec(l, l->result);
	}
}

static void put_result(struct line *l)
{
	if (l->result < 0 && l->result >= -MAX_ERRNO) {
		put_error(l, (int)-l->result);
		return;
	}
	switch (l->nr) {
	case SYS_mmap:
	case SYS_mremap:
	case SYS_brk:
	case SYS_shmat:
		put_hex(l, (uint64_t)l->result);
		break;
	case SYS_umask:
		put(l, "%#03o", (unsigned int)l->result);
		break;
	case SYS_fcntl:
		put_fcntl_result(l);
		break;
	default:
		put_dec(l, l->result);
	}
}

size_t callfmt_call(const struct callfmt *fmt, uint64_t nr,
		    const uint64_t args[6], int64_t result, double seconds,
		    char *out, size_t size)
{
	const struct call *call = calls_get(nr);
	struct line l = {
		.fmt = fmt, .nr = nr, .args = args, .result = result,
		.out = out, .size = size,
	};

	if (!size)
		return 0;
	out[0] = '\0';
	if (call)
		put(&l, "%s(", call->name);
	else
		put(&l, "syscall_%#llx(", (unsigned long long)nr);
	put_args(&l, call ? call->args : "xxxxxx");
	put(&l, ") = ");
	put_result(&l);
	/* A clock that went backwards, or nonsense, is no time at all. */
	put(&l, " <%.6f>", seconds > 0 ? seconds : 0.0);
	return l.len;
}
