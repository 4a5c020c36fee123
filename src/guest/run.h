/* SPDX-License-Identifier: MIT */
/* run.h - `darkshadow run` */
#ifndef GUEST_RUN_H
#define GUEST_RUN_H

#include "wire/rules.h"

/*
 * sibling_fn - the host side of one session, in a process of its own on this
 * machine: until the peer of sock, which is taken over, ends it; 0 or -errno
 */
typedef int (*sibling_fn)(const struct rules *policy, int sock);

/* run_main() - exit status */
int run_main(int argc, char **argv, sibling_fn sibling);

struct argp_state;
struct sniffer;

/*
 * run_sniffed() - a command of which nothing is forwarded: s sees every call of
 * interest (sniff_call()). Exit status.
 */
int run_sniffed(char **command, struct sniffer *s, sibling_fn sibling);

/*
 * run_parse_command() - what argp(3) has no option for: the command
 *
 * With its first word the rest is the command's, options included; none is an
 * error. *command is borrowed from argv.
 */
int run_parse_command(int key, struct argp_state *state, char ***command);

#endif
