/* SPDX-License-Identifier: MIT */
/* sniff.h - `darkshadow sniff`: what a program uses, as a policy */
#ifndef GUEST_SNIFF_H
#define GUEST_SNIFF_H

#include "guest/run.h"

struct sniffer;
struct tracer;
struct task;
struct call;

/* sniff_main() - exit status: that of the command */
int sniff_main(int argc, char **argv, sibling_fn sibling);

/* sniff_call() - a target has stopped at a call: what does it name? */
void sniff_call(struct sniffer *s, struct tracer *tr, struct task *t,
		const struct call *c);

#endif
