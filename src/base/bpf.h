/* SPDX-License-Identifier: MIT */
/*
 * bpf.h - classic BPF programs: written, and read
 *
 * The kernel runs a seccomp filter once for every call that there is when it is
 * installed, to know what it always allows (seccomp_cache_prepare() in
 * kernel/seccomp.c): a program that compares with one number after the other
 * takes 0.3 ms for that, every time. So numbers are found by halving.
 */
#ifndef BASE_BPF_H
#define BASE_BPF_H

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>

#define BPF_INSNS_MAX	1024	/* of ours */
#define BPF_WORDS	16	/* of what a program is run on */

struct bpf_prog {
	struct sock_filter v[BPF_INSNS_MAX];
	size_t n;		/* goes on counting beyond what fits */
};

void bpf_put(struct bpf_prog *p, uint16_t code, uint32_t k, uint8_t jt,
	     uint8_t jf);

/* bpf_load() - the accumulator is the 32 bits at this offset of the data */
void bpf_load(struct bpf_prog *p, size_t offset);

/* bpf_return() - the program ends here, with this action */
void bpf_return(struct bpf_prog *p, uint32_t action);

/* bpf_if() - it ends if the accumulator compares (BPF_JEQ ...) with k */
void bpf_if(struct bpf_prog *p, uint16_t cmp, uint32_t k, uint32_t action);

/*
 * bpf_switch() - go on where the accumulator's number has its code
 *
 * leaf: whose code that is, for each number below n; above: for all others.
 * The code of every leaf that occurs follows, each behind a bpf_leaf(), which
 * has to end there: nothing falls through from one to the next.
 */
void bpf_switch(struct bpf_prog *p, const uint8_t *leaf, uint32_t n,
		uint8_t above);
void bpf_leaf(struct bpf_prog *p, uint8_t leaf);

/* struct seccomp_data in words, as far as they are known. */
struct bpf_data {
	uint32_t w[BPF_WORDS];
	uint16_t unknown;	/* bit n: w[n] is not known */
};

/*
 * bpf_run() - what a program of seccomp's returns; it may be anybody's
 *
 * As the kernel would, with those instructions that seccomp has of classic BPF
 * (seccomp_check_filter() in kernel/seccomp.c). 0 and *action; -EINVAL: it is
 * not such a program, as far as it was run; -ENODATA: what it returns depends
 * on a word that is not known.
 */
int bpf_run(const struct sock_filter *v, size_t n, const struct bpf_data *data,
	    uint32_t *action);

#endif
