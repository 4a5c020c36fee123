/* SPDX-License-Identifier: MIT */
/*
 * tun.c - packets across two tun devices, ds0 and ds1
 *
 * They are there, of this user, and the network that they belong to routes from
 * 10.9.0.0/24 at one to 10.9.1.0/24 at the other and back. VICTIM_TUN is the name
 * of the device node (/dev/net/tun).
 */
#include "victim.h"

#include <arpa/inet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/ioctl.h>

struct packet {
	struct iphdr ip;
	struct udphdr udp;
	uint32_t number;
};

static int attach(const char *name)
{
	const char *node = getenv("VICTIM_TUN") ?: "/dev/net/tun";
	struct ifreq req = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	int fd = (int)sys(open(node, O_RDWR | O_CLOEXEC));

	strcpy(req.ifr_name, name);
	sys(ioctl(fd, TUNSETIFF, &req));
	return fd;
}

/* RFC 1071 */
static uint16_t checksum(const void *data, size_t len)
{
	uint32_t sum = 0;
	uint16_t word;

	for (size_t i = 0; i < len; i += 2) {
		memcpy(&word, (const char *)data + i, 2);
		sum += word;
	}
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* Did it come out as p, one hop on? Other packets are the kernel's own. */
static bool came(int fd, const struct packet *p)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	struct packet got;

	while (poll(&wait, 1, 200) == 1) {
		if (sys(read(fd, &got, sizeof(got))) != sizeof(got) ||
		    memcmp(&got.udp, &p->udp, sizeof(got) - sizeof(got.ip)))
			continue;
		same(got.ip.ttl, p->ip.ttl - 1);
		same(got.ip.daddr, p->ip.daddr);
		return true;
	}
	return false;
}

/* Again after a while: a link that has just come up loses packets. */
static void goes(int in, int out, const char *from, const char *to,
		 uint32_t number)
{
	struct packet p = {
		.ip = { .version = 4, .ihl = 5, .ttl = 64,
			.tot_len = htons(sizeof(p)), .protocol = IPPROTO_UDP,
			.saddr = inet_addr(from), .daddr = inet_addr(to) },
		.number = number,
	};
	int tries = 0;

	p.udp.uh_sport = htons(1);
	p.udp.uh_dport = htons(2);
	p.udp.uh_ulen = htons(sizeof(p) - sizeof(p.ip));
	p.ip.check = checksum(&p.ip, sizeof(p.ip));
	do
		same(write(in, &p, sizeof(p)), sizeof(p));
	while (!came(out, &p) && ++tries < 50);
	check(tries < 50, "no packet comes");
}

static void routes(void)
{
	int fd[2] = { attach("ds0"), attach("ds1") };

	for (uint32_t i = 0; i < 100; i++) {
		goes(fd[0], fd[1], "10.9.0.2", "10.9.1.2", 2 * i);
		goes(fd[1], fd[0], "10.9.1.2", "10.9.0.2", 2 * i + 1);
	}
	sys(close(fd[0]));
	sys(close(fd[1]));
}

int main(int argc, char **argv)
{
	static const struct victim_case cases[] = { CASE(routes) };

	return VICTIM_MAIN(argc, argv, cases);
}
