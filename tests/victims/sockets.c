/* SPDX-License-Identifier: MIT */
/*
 * sockets.c - sockets of the network, as socket(7), ip(7), tcp(7) and udp(7)
 * have them
 *
 * build: -pthread
 *
 * Both ends of every exchange are in here: forwarded, they meet on the host.
 */
#include <arpa/inet.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "victim.h"

#define BULK	(8 << 20)
#define LARGE	(16 << 20)

static struct sockaddr *sa(void *addr)
{
	return addr;
}

static struct sockaddr_in here(uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons(port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

/* A bound socket of a type; its address is the kernel's choice. */
static int bound(int type, struct sockaddr_in *addr)
{
	int fd = (int)sys(socket(AF_INET, type, 0));
	socklen_t len = sizeof(*addr);

	*addr = here(0);
	sys(bind(fd, sa(addr), sizeof(*addr)));
	sys(getsockname(fd, sa(addr), &len));
	same(len, sizeof(*addr));
	check(addr->sin_port != 0, "the socket got no port");
	return fd;
}

static int listening(struct sockaddr_in *addr)
{
	int fd = bound(SOCK_STREAM, addr);

	sys(listen(fd, 8));
	return fd;
}

/* Two ends of one connection. */
static void connected(int pair[2])
{
	struct sockaddr_in addr;
	int l = listening(&addr);

	pair[0] = (int)sys(socket(AF_INET, SOCK_STREAM, 0));
	sys(connect(pair[0], sa(&addr), sizeof(addr)));
	pair[1] = (int)sys(accept(l, NULL, NULL));
	sys(close(l));
}

static void close_both(const int pair[2])
{
	sys(close(pair[0]));
	sys(close(pair[1]));
}

static void stream(void)
{
	struct sockaddr_in addr, peer, own;
	socklen_t len = sizeof(peer);
	int l = listening(&addr), c, s;
	struct stat st;
	char buf[16];

	c = (int)sys(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	same(c, l + 1);
	same(fcntl(c, F_GETFD), FD_CLOEXEC);
	sys(connect(c, sa(&addr), sizeof(addr)));
	s = (int)sys(accept4(l, sa(&peer), &len, SOCK_NONBLOCK | SOCK_CLOEXEC));
	same(s, c + 1);
	same(fcntl(s, F_GETFD), FD_CLOEXEC);
	same(fcntl(s, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	same(len, sizeof(peer));
	len = sizeof(own);
	sys(getsockname(c, sa(&own), &len));
	same(peer.sin_port, own.sin_port);
	len = sizeof(own);
	sys(getpeername(c, sa(&own), &len));
	same(own.sin_port, addr.sin_port);
	same(send(c, "there", 5, 0), 5);
	same(recv(s, buf, sizeof(buf), 0), 5);
	same(memcmp(buf, "there", 5), 0);
	same(write(s, "back", 4), 4);
	same(read(c, buf, sizeof(buf)), 4);
	same(memcmp(buf, "back", 4), 0);
	refused(recv(s, buf, 1, 0), EAGAIN);
	sys(shutdown(c, SHUT_WR));
	same(recv(s, buf, sizeof(buf), 0), 0);
	same(send(s, "still", 5, 0), 5);
	same(recv(c, buf, sizeof(buf), 0), 5);
	sys(fstat(s, &st));
	check(S_ISSOCK(st.st_mode), "it is no socket to fstat");
	refused(lseek(s, 0, SEEK_SET), ESPIPE);
	refused(pread(s, buf, 1, 0), ESPIPE);
	sys(close(s));
	same(recv(c, buf, sizeof(buf), 0), 0);
	sys(close(c));
	refused(recv(c, buf, 1, 0), EBADF);
	sys(close(l));
}

struct bulk {
	int fd;
	unsigned char *mem;
};

static void *bulk_send(void *arg)
{
	const struct bulk *b = arg;

	for (size_t off = 0; off < BULK;)
		off += (size_t)sys(send(b->fd, b->mem + off, BULK - off, 0));
	sys(shutdown(b->fd, SHUT_WR));
	return NULL;
}

static void bulk(void)
{
	struct bulk b;
	unsigned char *to = map(BULK, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	pthread_t sender;
	int pair[2];
	size_t got = 0;

	connected(pair);
	b.fd = pair[0];
	b.mem = map(BULK, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	for (size_t i = 0; i < BULK; i++)
		b.mem[i] = pattern(i);
	pthread_create(&sender, NULL, bulk_send, &b);
	for (long n; (n = sys(recv(pair[1], to + got, BULK - got, 0))) > 0;)
		got += (size_t)n;
	pthread_join(sender, NULL);
	same(got, BULK);
	pattern_check(to, BULK, 0, "8 MiB by TCP");
	close_both(pair);
}

static void datagrams(void)
{
	struct sockaddr_in a, b, from;
	socklen_t len = sizeof(from);
	int one = bound(SOCK_DGRAM, &a), two = bound(SOCK_DGRAM, &b);
	char buf[16];

	same(sendto(one, "a datagram", 10, 0, sa(&b), sizeof(b)), 10);
	same(recvfrom(two, buf, 4, MSG_PEEK | MSG_TRUNC, sa(&from), &len), 10);
	same(from.sin_port, a.sin_port);
	same(recvfrom(two, buf, sizeof(buf), 0, NULL, NULL), 10);
	same(memcmp(buf, "a datagram", 10), 0);
	same(sendto(one, "", 0, 0, sa(&b), sizeof(b)), 0);
	same(recv(two, buf, sizeof(buf), 0), 0);
	/* The address is cut where there is no room for it, and its length told. */
	same(sendto(one, "x", 1, 0, sa(&b), sizeof(b)), 1);
	len = 4;
	memset(&from, 0x77, sizeof(from));
	same(recvfrom(two, buf, 1, 0, sa(&from), &len), 1);
	same(len, sizeof(from));
	same(from.sin_port, a.sin_port);
	same(from.sin_addr.s_addr, 0x77777777);
	refused(send(one, "x", 1, 0), EDESTADDRREQ);
	sys(connect(one, sa(&b), sizeof(b)));
	same(send(one, "x", 1, 0), 1);
	same(recv(two, buf, 1, 0), 1);
	/* Nobody is there: the next call says so. */
	sys(close(two));
	same(send(one, "x", 1, 0), 1);
	refused(recv(one, buf, 1, 0), ECONNREFUSED);
	a.sin_family = AF_UNSPEC;
	sys(connect(one, sa(&a), sizeof(a)));
	refused(send(one, "x", 1, 0), EDESTADDRREQ);
	/* More than a datagram can be. */
	refused(sendto(one, map(70000, PROT_READ, MAP_PRIVATE), 70000, 0,
		       sa(&b), sizeof(b)), EMSGSIZE);
	sys(close(one));
}

/* A message whose parts are far apart in memory that nobody has touched. */
static void messages(void)
{
	struct far {
		struct sockaddr_in name;
		struct iovec v[3];
		union {
			struct cmsghdr align;
			char buf[128];
		} control;
		struct msghdr m;
	};
	char *mem = map(2 * LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	struct far *out = (void *)(mem + (1 << 20)), *in = (void *)(mem + LARGE);
	struct sockaddr_in a, b;
	int one = bound(SOCK_DGRAM, &a), two = bound(SOCK_DGRAM, &b), on = 1;
	const struct in_pktinfo *info;
	struct cmsghdr *c;

	sys(setsockopt(two, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)));
	out->name = b;
	for (size_t i = 0; i < 3; i++) {
		out->v[i].iov_base = mem + (2 + 3 * i) * (1 << 20) - 3;
		out->v[i].iov_len = 7;
		memcpy(out->v[i].iov_base, "0123456", 7);
		in->v[i].iov_base = mem + LARGE + (2 + 3 * i) * (1 << 20) - 5;
		in->v[i].iov_len = i == 2 ? 100 : 10;
	}
	out->m = (struct msghdr){ .msg_name = &out->name,
				  .msg_namelen = sizeof(out->name),
				  .msg_iov = out->v, .msg_iovlen = 3 };
	in->m = (struct msghdr){ .msg_name = &in->name,
				 .msg_namelen = sizeof(in->name),
				 .msg_iov = in->v, .msg_iovlen = 3,
				 .msg_control = &in->control,
				 .msg_controllen = sizeof(in->control) };
	same(sendmsg(one, &out->m, 0), 21);
	same(recvmsg(two, &in->m, 0), 21);
	same(memcmp(in->v[0].iov_base, "0123456012", 10), 0);
	same(memcmp(in->v[1].iov_base, "3456012345", 10), 0);
	same(memcmp(in->v[2].iov_base, "6", 1), 0);
	same(in->m.msg_namelen, sizeof(in->name));
	same(in->name.sin_port, a.sin_port);
	same(in->m.msg_flags, 0);
	c = CMSG_FIRSTHDR(&in->m);
	check(c && c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO,
	      "there is no IP_PKTINFO");
	info = (const void *)CMSG_DATA(c);
	same(info->ipi_addr.s_addr, htonl(INADDR_LOOPBACK));
	/* Without room for all of it. */
	same(sendmsg(one, &out->m, 0), 21);
	in->m.msg_controllen = 4;
	in->m.msg_iovlen = 1;
	same(recvmsg(two, &in->m, MSG_TRUNC), 21);
	same(in->m.msg_flags, MSG_TRUNC | MSG_CTRUNC);
	/* A control message that is sent: where from. */
	out->m.msg_control = &out->control;
	out->m.msg_controllen = CMSG_SPACE(sizeof(*info));
	c = CMSG_FIRSTHDR(&out->m);
	c->cmsg_level = IPPROTO_IP;
	c->cmsg_type = IP_PKTINFO;
	c->cmsg_len = CMSG_LEN(sizeof(*info));
	same(sendmsg(one, &out->m, 0), 21);
	same(recv(two, in, 100, 0), 21);
	sys(close(one));
	sys(close(two));
}

static void many_messages(void)
{
	enum { N = 20 };
	char *mem = map(2 * LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	struct mmsghdr *out = (void *)mem, *in = (void *)(mem + LARGE);
	struct timespec *wait = (void *)(mem + LARGE - 4096);
	struct sockaddr_in a, b, *from = (void *)(mem + LARGE + (9 << 20));
	int one = bound(SOCK_DGRAM, &a), two = bound(SOCK_DGRAM, &b);
	struct iovec *v = (void *)(mem + (9 << 20));

	sys(connect(one, sa(&b), sizeof(b)));
	for (int i = 0; i < N; i++) {
		v[i].iov_base = mem + (1 << 20) + i * 20000;
		v[i].iov_len = (size_t)i + 1;
		memset(v[i].iov_base, 'a' + i, (size_t)i + 1);
		out[i].msg_hdr.msg_iov = &v[i];
		out[i].msg_hdr.msg_iovlen = 1;
		v[N + i].iov_base = mem + LARGE + (1 << 20) + i * 20000;
		v[N + i].iov_len = N;
		in[i].msg_hdr.msg_iov = &v[N + i];
		in[i].msg_hdr.msg_iovlen = 1;
		in[i].msg_hdr.msg_name = &from[i];
		in[i].msg_hdr.msg_namelen = sizeof(from[i]);
	}
	same(sendmmsg(one, out, N, 0), N);
	for (int i = 0; i < N; i++)
		same(out[i].msg_len, i + 1);
	wait->tv_sec = 5;
	same(recvmmsg(two, in, N, 0, wait), N);
	for (int i = 0; i < N; i++) {
		same(in[i].msg_len, i + 1);
		same(((char *)v[N + i].iov_base)[i], 'a' + i);
		same(from[i].sin_port, a.sin_port);
	}
	same(sendmmsg(one, out, 2, 0), 2);
	same(recvmmsg(two, in, N, MSG_WAITFORONE, NULL), 2);
	refused(recvmmsg(two, in, N, MSG_DONTWAIT, NULL), EAGAIN);
	sys(close(one));
	sys(close(two));
}

static void options(void)
{
	int pair[2], value, fd;
	struct tcp_info info;
	struct linger linger = { 1, 7 }, back;
	struct timeval tv = { 0, 50000 };
	socklen_t len = sizeof(value);
	char buf[4];

	connected(pair);
	fd = pair[0];
	sys(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &len));
	same(value, SOCK_STREAM);
	sys(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &len));
	same(value, AF_INET);
	value = 1;
	sys(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof(value)));
	value = 0;
	sys(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &len));
	same(value, 1);
	sys(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	len = sizeof(back);
	sys(getsockopt(fd, SOL_SOCKET, SO_LINGER, &back, &len));
	same(back.l_linger, 7);
	linger.l_onoff = 0;
	sys(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	len = sizeof(info);
	sys(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	same(info.tcpi_state, TCP_ESTABLISHED);
	len = 1;
	info.tcpi_ca_state = 0x55;
	sys(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	same(len, 1);
	same(info.tcpi_ca_state, 0x55);
	sys(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	refused(recv(fd, buf, 1, 0), EAGAIN);
	refused(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, 1), EINVAL);
	refused(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, NULL, 4), EFAULT);
	len = sizeof(value);
	refused(getsockopt(fd, SOL_SOCKET, 9999, &value, &len), ENOPROTOOPT);
	refused(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, (void *)8), EFAULT);
	close_both(pair);
}

static void addresses(void)
{
	struct sockaddr_in addr, other;
	int l = listening(&addr), fd = (int)sys(socket(AF_INET, SOCK_STREAM, 0));
	char path[sizeof(struct sockaddr_un)];
	socklen_t len = sizeof(other);

	refused(bind(fd, sa(&addr), sizeof(addr)), EADDRINUSE);
	other = here(0);
	other.sin_addr.s_addr = htonl(0xc0000201);	/* 192.0.2.1 */
	refused(bind(fd, sa(&other), sizeof(other)), EADDRNOTAVAIL);
	refused(bind(fd, sa(&addr), 3), EINVAL);
	refused(bind(fd, sa(&addr), 5000), EINVAL);
	refused(bind(fd, (void *)16, sizeof(addr)), EFAULT);
	memset(path, 0, sizeof(path));
	refused(connect(fd, sa(path), 1), EINVAL);
	other.sin_family = AF_INET6;
	refused(connect(fd, sa(&other), sizeof(other)), EAFNOSUPPORT);
	refused(accept(fd, NULL, NULL), EINVAL);
	refused(getpeername(fd, sa(&other), &len), ENOTCONN);
	refused(shutdown(fd, SHUT_RD), ENOTCONN);
	refused(send(fd, "", 1, MSG_NOSIGNAL), EPIPE);
	sys(close(l));
	refused(connect(fd, sa(&addr), sizeof(addr)), ECONNREFUSED);
	refused(socket(AF_INET, 77, 0), EINVAL);
	refused(socket(AF_INET, SOCK_STREAM, 77), EPROTONOSUPPORT);
	refused(listen(STDIN_FILENO + 900, 1), EBADF);
	sys(close(fd));
}

static void version6(void)
{
	struct sockaddr_in6 addr = { .sin6_family = AF_INET6,
				     .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	socklen_t len = sizeof(addr);
	int l = socket(AF_INET6, SOCK_STREAM, 0), c, s;
	char buf[8];

	if (l < 0 || bind(l, sa(&addr), sizeof(addr)) < 0)
		victim_skip("there is no IPv6 here");
	sys(listen(l, 1));
	sys(getsockname(l, sa(&addr), &len));
	same(len, sizeof(addr));
	c = (int)sys(socket(AF_INET6, SOCK_STREAM, 0));
	sys(connect(c, sa(&addr), sizeof(addr)));
	len = sizeof(addr);
	s = (int)sys(accept(l, sa(&addr), &len));
	check(IN6_IS_ADDR_LOOPBACK(&addr.sin6_addr), "the peer is not ::1");
	same(write(c, "six", 3), 3);
	same(read(s, buf, sizeof(buf)), 3);
	sys(close(s));
	sys(close(c));
	sys(close(l));
}

static void nonblocking(void)
{
	struct sockaddr_in addr;
	int l = listening(&addr), c, s, value = -1, on = 1;
	struct pollfd p = { .events = POLLOUT };
	socklen_t len = sizeof(value);
	char buf[16];

	c = (int)sys(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	if (connect(c, sa(&addr), sizeof(addr)) < 0)
		same(errno, EINPROGRESS);
	p.fd = c;
	same(poll(&p, 1, 10000), 1);
	same(p.revents, POLLOUT);
	sys(getsockopt(c, SOL_SOCKET, SO_ERROR, &value, &len));
	same(value, 0);
	s = (int)sys(accept(l, NULL, NULL));
	same(fcntl(s, F_GETFL) & O_NONBLOCK, 0);
	refused(recv(s, buf, 1, MSG_DONTWAIT), EAGAIN);
	sys(ioctl(s, FIONBIO, &on));
	refused(recv(s, buf, 1, 0), EAGAIN);
	on = 0;
	sys(ioctl(s, FIONBIO, &on));
	same(send(c, "0123456789", 10, MSG_MORE), 10);
	same(send(c, "ab", 2, 0), 2);
	same(recv(s, buf, 12, MSG_WAITALL | MSG_PEEK), 12);
	sys(ioctl(s, FIONREAD, &value));
	same(value, 12);
	same(recv(s, buf, 12, MSG_WAITALL), 12);
	same(memcmp(buf, "0123456789ab", 12), 0);
	refused(accept4(l, NULL, NULL, 0x10), EINVAL);
	sys(fcntl(l, F_SETFL, O_NONBLOCK));
	refused(accept(l, NULL, NULL), EAGAIN);
	sys(close(s));
	sys(close(c));
	sys(close(l));
}

struct later {
	int fd;
	const char *text;
};

static void *write_later(void *arg)
{
	const struct later *l = arg;

	nap_ms(100);
	same(write(l->fd, l->text, strlen(l->text)), strlen(l->text));
	return NULL;
}

/* Sockets of the host and descriptors of the target's own, in one call. */
static void waiting(void)
{
	int pair[2], pipes[2], ep = (int)sys(epoll_create1(EPOLL_CLOEXEC));
	int event = (int)sys(eventfd(0, EFD_NONBLOCK));
	struct epoll_event ev[4] = { { .events = EPOLLIN | EPOLLRDHUP } };
	struct later later;
	struct timeval tv = { 0, 20000 };
	struct pollfd p[3];
	pthread_t thread;
	fd_set set;
	char buf[16];

	connected(pair);
	sys(pipe(pipes));
	p[0] = (struct pollfd){ .fd = pair[1], .events = POLLIN };
	p[1] = (struct pollfd){ .fd = pipes[0], .events = POLLIN };
	p[2] = (struct pollfd){ .fd = event, .events = POLLIN };
	same(poll(p, 3, 20), 0);
	later = (struct later){ pair[0], "socket" };
	pthread_create(&thread, NULL, write_later, &later);
	same(poll(p, 3, 10000), 1);
	same(p[0].revents, POLLIN);
	same(read(pair[1], buf, sizeof(buf)), 6);
	pthread_join(thread, NULL);
	later = (struct later){ pipes[1], "pipe" };
	pthread_create(&thread, NULL, write_later, &later);
	same(poll(p, 3, 10000), 1);
	same(p[1].revents, POLLIN);
	same(read(pipes[0], buf, sizeof(buf)), 4);
	pthread_join(thread, NULL);
	FD_ZERO(&set);
	FD_SET(pair[1], &set);
	FD_SET(pipes[0], &set);
	same(select(pipes[1] + 1, &set, NULL, NULL, &tv), 0);
	ev[0].data.fd = pair[1];
	sys(epoll_ctl(ep, EPOLL_CTL_ADD, pair[1], ev));
	same(epoll_wait(ep, ev, 4, 0), 0);
	later = (struct later){ pair[0], "again" };
	pthread_create(&thread, NULL, write_later, &later);
	same(epoll_wait(ep, ev, 4, 10000), 1);
	same(ev[0].events, EPOLLIN);
	same(ev[0].data.fd, pair[1]);
	pthread_join(thread, NULL);
	same(read(pair[1], buf, sizeof(buf)), 5);
	sys(shutdown(pair[0], SHUT_WR));
	same(epoll_wait(ep, ev, 4, 10000), 1);
	same(ev[0].events, EPOLLIN | EPOLLRDHUP);
	sys(close(event));
	refused(epoll_ctl(ep, EPOLL_CTL_DEL, event, NULL), EBADF);
	sys(close(ep));
	refused(epoll_ctl(ep, EPOLL_CTL_DEL, pair[1], NULL), EBADF);
	sys(close(pipes[0]));
	sys(close(pipes[1]));
	close_both(pair);
}

static volatile sig_atomic_t seen;

static void on_signal(int sig)
{
	seen = sig;
}

static void broken(void)
{
	struct sigaction act = { .sa_handler = on_signal };
	int pair[2];
	char buf[4];

	connected(pair);
	sys(sigaction(SIGPIPE, &act, NULL));
	sys(close(pair[1]));
	same(send(pair[0], "x", 1, MSG_NOSIGNAL), 1);	/* answered by RST */
	nap_ms(20);
	same(recv(pair[0], buf, 1, 0), 0);
	same(seen, 0);
	refused(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
	same(seen, 0);
	refused(write(pair[0], "x", 1), EPIPE);
	same(seen, SIGPIPE);
	sys(close(pair[0]));
}

static void *signal_later(void *arg)
{
	nap_ms(150);
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	return NULL;
}

static void *signal_and_write(void *arg)
{
	const struct later *l = arg;

	nap_ms(150);
	kill(getpid(), SIGUSR1);
	nap_ms(150);
	same(write(l->fd, l->text, strlen(l->text)), strlen(l->text));
	return NULL;
}

static void interrupted(void)
{
	struct sigaction act = { .sa_handler = on_signal };
	pthread_t self = pthread_self(), thread;
	struct sockaddr_in addr;
	struct later later;
	int pair[2], l = listening(&addr);
	sigset_t block;
	char buf[8];

	connected(pair);
	sys(sigaction(SIGUSR1, &act, NULL));
	pthread_create(&thread, NULL, signal_later, &self);
	refused(recv(pair[0], buf, 1, 0), EINTR);
	same(seen, SIGUSR1);
	pthread_join(thread, NULL);
	pthread_create(&thread, NULL, signal_later, &self);
	refused(accept(l, NULL, NULL), EINTR);
	pthread_join(thread, NULL);
	act.sa_flags = SA_RESTART;
	sys(sigaction(SIGUSR1, &act, NULL));
	seen = 0;
	later = (struct later){ pair[1], "late" };
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &block, NULL);
	pthread_create(&thread, NULL, signal_and_write, &later);
	pthread_sigmask(SIG_UNBLOCK, &block, NULL);
	same(recv(pair[0], buf, sizeof(buf), 0), 4);
	same(seen, SIGUSR1);
	pthread_join(thread, NULL);
	sys(close(l));
	close_both(pair);
}

static void *accept_one(void *arg)
{
	int fd = accept(*(int *)arg, NULL, NULL);

	return (void *)(long)(fd < 0 ? -errno : fd);
}

/* Who waits is woken when another thread shuts the socket down. */
static void shut_down(void)
{
	struct sockaddr_in addr;
	int l = listening(&addr), pair[2];
	pthread_t thread;
	void *result;
	pid_t pid;
	char c;

	pthread_create(&thread, NULL, accept_one, &l);
	nap_ms(100);
	sys(shutdown(l, SHUT_RDWR));
	pthread_join(thread, &result);
	same((long)result, -EINVAL);
	sys(close(l));
	connected(pair);
	spawned(pid)
		same(recv(pair[0], &c, 1, 0), 0);
	nap_ms(100);
	sys(shutdown(pair[0], SHUT_RDWR));
	reap(pid);
	close_both(pair);
}

/* One process a connection; and a program that has it for input and output. */
static void forked(void)
{
	struct sockaddr_in addr;
	int l = listening(&addr), c, s;
	char buf[64];
	pid_t pid;

	spawned(pid) {
		for (int i = 0; i < 3; i++) {
			s = (int)sys(accept(l, NULL, NULL));
			if (fork() == 0) {
				sys(dup2(s, 0));
				sys(dup2(s, 1));
				sys(close(s));
				execlp("tr", "tr", "a-z", "A-Z", NULL);
				_exit(127);
			}
			sys(close(s));
		}
		while (wait(NULL) > 0)
			;
	}
	sys(close(l));
	for (int i = 0; i < 3; i++) {
		size_t n = 0;

		c = (int)sys(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
		sys(connect(c, sa(&addr), sizeof(addr)));
		same(dprintf(c, "connection %d", i), 12);
		sys(shutdown(c, SHUT_WR));
		for (long got; (got = sys(read(c, buf + n, 32))) > 0;)
			n += (size_t)got;
		same(n, 12);
		same(memcmp(buf, "CONNECTION", 10), 0);
		sys(close(c));
	}
	reap(pid);
}

static void bad_pointers(void)
{
	char *closed = map(4096, PROT_NONE, MAP_PRIVATE), buf[8];
	struct iovec v = { closed, 8 }, many[1];
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	struct sockaddr_in a, b;
	int one = bound(SOCK_DGRAM, &a), two = bound(SOCK_DGRAM, &b);
	socklen_t len = sizeof(a);

	sys(connect(one, sa(&b), sizeof(b)));
	refused(send(one, closed, 8, 0), EFAULT);
	refused(sendmsg(one, (void *)closed, 0), EFAULT);
	refused(sendmsg(one, &m, 0), EFAULT);
	m.msg_iov = (void *)closed;
	refused(sendmsg(one, &m, 0), EFAULT);
	m = (struct msghdr){ .msg_iov = many, .msg_iovlen = 1025 };
	refused(sendmsg(one, &m, 0), EMSGSIZE);
	m = (struct msghdr){ .msg_iov = &v, .msg_iovlen = 1, .msg_name = closed,
			     .msg_namelen = 16 };
	v.iov_base = buf;
	refused(sendmsg(one, &m, 0), EFAULT);
	m.msg_name = NULL;
	m.msg_namelen = 0;
	v.iov_len = (size_t)-1;
	refused(sendmsg(one, &m, 0), EINVAL);
	v.iov_len = 8;
	m.msg_control = closed;
	m.msg_controllen = 32;
	refused(sendmsg(one, &m, 0), EFAULT);
	m.msg_name = buf;
	m.msg_namelen = (socklen_t)-1;
	refused(recvmsg(two, &m, MSG_DONTWAIT), EINVAL);
	refused(getsockname(one, (void *)closed, &len), EFAULT);
	refused(getsockname(one, sa(&a), (void *)closed), EFAULT);
	refused(sendmmsg(one, (void *)closed, 1, 0), EFAULT);
	/* What could not be received is lost, as udp(7) has it. */
	same(send(one, "12345678", 8, 0), 8);
	refused(recv(two, closed, 8, 0), EFAULT);
	same(send(one, "x", 1, 0), 1);
	same(recv(two, buf, sizeof(buf), MSG_DONTWAIT), 1);
	sys(close(one));
	sys(close(two));
}

/* From files to sockets: forwarded ones and those of the target's own. */
static void files_sent(void)
{
	const char *names[] = { in("file"), local("file") };
	char *buf = map(1 << 17, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	int pair[2];

	connected(pair);
	for (int i = 0; i < 2; i++) {
		off_t off = 1000;
		size_t got = 0;
		int fd;

		pattern_file(names[i], 1 << 17);
		fd = (int)sys(open(names[i], O_RDONLY));
		same(sendfile(pair[0], fd, &off, 100000), 100000);
		same(off, 101000);
		while (got < 100000)
			got += (size_t)sys(recv(pair[1], buf + got,
						100000 - got, 0));
		pattern_check(buf, 100000, 1000, names[i]);
		sys(close(fd));
		sys(unlink(names[i]));
	}
	close_both(pair);
}

/* Sockets of other families are the target's own. */
static void local_families(void)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	char byte = 'b';
	struct iovec v = { &byte, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1,
			    .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int pair[2], pipes[2], got;

	sys(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	sys(pipe(pipes));
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &pipes[1], sizeof(int));
	same(sendmsg(pair[0], &m, 0), 1);
	m.msg_controllen = sizeof(control);
	same(recvmsg(pair[1], &m, 0), 1);
	memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
	same(write(got, "through", 7), 7);
	fd_holds(pipes[0], "through");
	close_both(pair);
	close_both(pipes);
	sys(close(got));
}

static void urgent(void)
{
	int pair[2], mark = -1;
	char buf[8];

	connected(pair);
	same(send(pair[0], "ab", 2, 0), 2);
	same(send(pair[0], "!", 1, MSG_OOB), 1);
	same(recv(pair[1], buf, 2, MSG_WAITALL), 2);
	sys(ioctl(pair[1], SIOCATMARK, &mark));
	same(mark, 1);
	same(recv(pair[1], buf, 1, MSG_OOB), 1);
	same(buf[0], '!');
	refused(recv(pair[1], buf, 1, MSG_OOB), EINVAL);
	close_both(pair);
}

static void *echo(void *arg)
{
	char buf[512];
	int fd = (int)(long)arg;

	for (long n; (n = sys(recv(fd, buf, sizeof(buf), 0))) > 0;)
		same(send(fd, buf, (size_t)n, 0), n);
	sys(close(fd));
	return NULL;
}

static void *ask_echo(void *arg)
{
	int fd = (int)(long)arg;
	char out[200], in[200];

	for (int i = 0; i < fewer(200); i++) {
		memset(out, i, sizeof(out));
		same(send(fd, out, sizeof(out), 0), sizeof(out));
		same(recv(fd, in, sizeof(in), MSG_WAITALL), sizeof(in));
		same(memcmp(in, out, sizeof(in)), 0);
	}
	sys(shutdown(fd, SHUT_WR));
	return NULL;
}

static void threads(void)
{
	enum { PAIRS = 8 };
	pthread_t thread[2 * PAIRS];
	int pair[2];

	for (int i = 0; i < PAIRS; i++) {
		connected(pair);
		pthread_create(&thread[2 * i], NULL, echo, (void *)(long)pair[0]);
		pthread_create(&thread[2 * i + 1], NULL, ask_echo,
			       (void *)(long)pair[1]);
	}
	for (int i = 0; i < 2 * PAIRS; i++)
		pthread_join(thread[i], NULL);
}

static void copies(void)
{
	struct iovec v[2] = { { (char[]){ 'o', 'n' }, 2 },
			      { (char[]){ 'e' }, 1 } };
	struct sockaddr_in a, b;
	socklen_t len = sizeof(a);
	int pair[2], copy;

	connected(pair);
	copy = (int)sys(fcntl(pair[0], F_DUPFD_CLOEXEC, 40));
	same(copy, 40);
	sys(getsockname(copy, sa(&a), &len));
	sys(getsockname(pair[0], sa(&b), &len));
	same(a.sin_port, b.sin_port);
	sys(fcntl(copy, F_SETFL, O_NONBLOCK));
	same(fcntl(pair[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	sys(close(pair[0]));
	same(writev(copy, v, 2), 3);
	fd_holds(pair[1], "one");
	sys(dup2(pair[1], copy));
	same(read(copy, &len, 1), 0);
	sys(close(copy));
	sys(close(pair[1]));
}

int main(int argc, char **argv)
{
	static const struct victim_case cases[] = {
		CASE(stream), CASE(bulk), CASE(datagrams), CASE(messages),
		CASE(many_messages), CASE(options), CASE(addresses),
		CASE(version6), CASE(nonblocking), CASE(waiting), CASE(broken),
		CASE(interrupted), CASE(shut_down), CASE(forked),
		CASE(bad_pointers), CASE(files_sent), CASE(local_families),
		CASE(urgent), CASE(threads), CASE(copies),
	};

	return VICTIM_MAIN(argc, argv, cases);
}
