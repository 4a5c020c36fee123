/* SPDX-License-Identifier: MIT */
/*
 * storm-sites.h - the system calls of storm.c in assembly
 *
 * One function for each manner in which compilers and libraries write a system
 * call. It fills the registers, flags, red zone and stack from a struct regs,
 * makes the call, and leaves in storm_out what it then finds, which takes
 * neither a register nor the stack. From NAME_ready to NAME_after (the address
 * behind the call) all but rax, rcx and r11 is as it was given.
 */
#ifndef TESTS_STORM_SITES_H
#define TESTS_STORM_SITES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>

/* Offsets into struct regs, for assembly. */
#define R_FLAGS		128
#define R_MXCSR		136
#define R_FCW		140
#define R_BELOW		144
#define R_ABOVE		272
#define R_ST0		336
#define R_YMM		352

struct regs {
	uint64_t gpr[16];
	uint64_t flags;
	uint32_t mxcsr;
	uint16_t fcw, pad;
	uint64_t below[16];	/* the red zone */
	uint64_t above[8];
	double st0;
	uint64_t pad2;
	uint64_t ymm[16][4];
};

_Static_assert(offsetof(struct regs, flags) == R_FLAGS, "asm");
_Static_assert(offsetof(struct regs, mxcsr) == R_MXCSR, "asm");
_Static_assert(offsetof(struct regs, fcw) == R_FCW, "asm");
_Static_assert(offsetof(struct regs, below) == R_BELOW, "asm");
_Static_assert(offsetof(struct regs, above) == R_ABOVE, "asm");
_Static_assert(offsetof(struct regs, st0) == R_ST0, "asm");
_Static_assert(offsetof(struct regs, ymm) == R_YMM, "asm");

/* The order of gpr[]. */
enum { RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8, R9, R10, R11, R12, R13,
       R14, R15 };

static const char *const gpr_names[16] = {
	"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp",
	"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
};

static const int gpr_greg[16] = {
	REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RBP, REG_RSP,
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

#define FLAG_CF 0x1
#define FLAG_PF 0x4
#define FLAG_AF 0x10
#define FLAG_ZF 0x40
#define FLAG_SF 0x80
#define FLAG_DF 0x400
#define FLAG_OF 0x800
#define FLAGS_ALWAYS 0x202	/* interrupts are on; a bit that is one */
#define FLAGS_OURS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | \
		    FLAG_DF | FLAG_OF)

/* Where a site leaves what it found; and rsp as it was at the call. */
#define OF_THREAD __thread __attribute__((tls_model("local-exec")))
extern OF_THREAD struct regs storm_out;
extern OF_THREAD uint64_t storm_sp;
extern unsigned char storm_avx;
extern const uint32_t storm_mxcsr;
OF_THREAD struct regs storm_out;
OF_THREAD uint64_t storm_sp;
unsigned char storm_avx;
const uint32_t storm_mxcsr = 0x1f80;

#define STR_(x) #x
#define STR(x) STR_(x)
#define EACH_VECTOR ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
#define IN(off) STR(off) "(%rdi)"
#define OUT(off) "%fs:storm_out@tpoff+" STR(off)

/* rdi: struct regs. From popfq on nothing may change the flags. */
#define SITE_ENTER							\
	"push %rbx\n push %rbp\n push %r12\n push %r13\n"		\
	"push %r14\n push %r15\n sub $72, %rsp\n"			\
	"mov %rsp, %fs:storm_sp@tpoff\n"				\
	"cmpb $0, storm_avx(%rip)\n je 1f\n"				\
	EACH_VECTOR							\
	"vmovdqu " STR(R_YMM) "+32*\\n(%rdi), %ymm\\n\n .endr\n"	\
	"jmp 2f\n1:\n"							\
	EACH_VECTOR							\
	"movdqu " STR(R_YMM) "+32*\\n(%rdi), %xmm\\n\n .endr\n"		\
	"2: ldmxcsr " IN(R_MXCSR) "\n fldcw " IN(R_FCW) "\n"		\
	"fldl " IN(R_ST0) "\n"						\
	"pushq " IN(R_FLAGS) "\n popfq\n"				\
	".set storm_i, 0\n .rept 16\n"					\
	"mov " STR(R_BELOW) "+storm_i(%rdi), %rax\n"			\
	"mov %rax, -128+storm_i(%rsp)\n"				\
	".set storm_i, storm_i + 8\n .endr\n"				\
	".set storm_i, 0\n .rept 8\n"					\
	"mov " STR(R_ABOVE) "+storm_i(%rdi), %rax\n"			\
	"mov %rax, storm_i(%rsp)\n"					\
	".set storm_i, storm_i + 8\n .endr\n"				\
	"mov 0(%rdi), %rax\n mov 8(%rdi), %rbx\n"			\
	"mov 16(%rdi), %rcx\n mov 24(%rdi), %rdx\n"			\
	"mov 32(%rdi), %rsi\n mov 48(%rdi), %rbp\n"			\
	"mov 64(%rdi), %r8\n mov 72(%rdi), %r9\n"			\
	"mov 80(%rdi), %r10\n mov 88(%rdi), %r11\n"			\
	"mov 96(%rdi), %r12\n mov 104(%rdi), %r13\n"			\
	"mov 112(%rdi), %r14\n mov 120(%rdi), %r15\n"			\
	"mov 40(%rdi), %rdi\n"

/* The stack comes last: pushfq writes into the red zone. */
#define SITE_LEAVE							\
	"mov %rax, " OUT(0) "\n mov %rbx, " OUT(8) "\n"			\
	"mov %rcx, " OUT(16) "\n mov %rdx, " OUT(24) "\n"		\
	"mov %rsi, " OUT(32) "\n mov %rdi, " OUT(40) "\n"		\
	"mov %rbp, " OUT(48) "\n mov %rsp, " OUT(56) "\n"		\
	"mov %r8, " OUT(64) "\n mov %r9, " OUT(72) "\n"			\
	"mov %r10, " OUT(80) "\n mov %r11, " OUT(88) "\n"		\
	"mov %r12, " OUT(96) "\n mov %r13, " OUT(104) "\n"		\
	"mov %r14, " OUT(112) "\n mov %r15, " OUT(120) "\n"		\
	".set storm_i, 0\n .rept 16\n"					\
	"mov -128+storm_i(%rsp), %rax\n"				\
	"mov %rax, " OUT(R_BELOW) "+storm_i\n"				\
	".set storm_i, storm_i + 8\n .endr\n"				\
	".set storm_i, 0\n .rept 8\n"					\
	"mov storm_i(%rsp), %rax\n"					\
	"mov %rax, " OUT(R_ABOVE) "+storm_i\n"				\
	".set storm_i, storm_i + 8\n .endr\n"				\
	"pushfq\n pop %rax\n mov %rax, " OUT(R_FLAGS) "\n cld\n"	\
	"cmpb $0, storm_avx(%rip)\n je 1f\n"				\
	EACH_VECTOR							\
	"vmovdqu %ymm\\n, " OUT(R_YMM) "+32*\\n\n .endr\n"		\
	"vzeroupper\n jmp 2f\n1:\n"					\
	EACH_VECTOR							\
	"movdqu %xmm\\n, " OUT(R_YMM) "+32*\\n\n .endr\n"		\
	"2: stmxcsr " OUT(R_MXCSR) "\n fnstcw " OUT(R_FCW) "\n"		\
	"fstpl " OUT(R_ST0) "\n fninit\n ldmxcsr storm_mxcsr(%rip)\n"	\
	"add $72, %rsp\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n"	\
	"pop %rbp\n pop %rbx\n ret\n"

/* What a site's own instructions do to the flags, before and behind. */
enum { KEPT = 0, XORED = 1, COMPARED = 2 };

struct site {
	const char *name;
	long nr;		/* -1: any, by the registers */
	int flags;
	void (*make)(const struct regs *in);
	const char *ready, *call, *after;
};

#define MOV_IMM(nr) "mov $" STR(nr) ", %eax\n"
#define MOV_IMM64(nr) "mov $" STR(nr) ", %rax\n"
#define CMP_AFTER "cmp $-4095, %rax\n jae 9f\n 9:\n"
#define CMP_EAX_AFTER "cmp $-4096, %eax\n ja 9f\n 9:\n"
#define TEST_AFTER "test %rax, %rax\n js 9f\n 9:\n"
/* Jumped to, so that nothing beside it can be moved. */
#define JUMPED_TO "jmp 8f\n hlt\n .p2align 4\n 8:\n"
/* A loop back to the instruction, which is never taken: rcx is an address. */
#define LOOP_AFTER "jrcxz 8b\n"

#define SITES(S)							\
	S(imm_read, SYS_read, MOV_IMM(__NR_read), "", KEPT)		\
	S(imm_write, SYS_write, MOV_IMM(__NR_write), "", KEPT)		\
	S(imm_pread64, SYS_pread64, MOV_IMM(__NR_pread64), "", KEPT)	\
	S(imm_pwrite64, SYS_pwrite64, MOV_IMM(__NR_pwrite64), "", KEPT)	\
	S(imm_fstat, SYS_fstat, MOV_IMM(__NR_fstat), "", KEPT)		\
	S(imm_lseek, SYS_lseek, MOV_IMM(__NR_lseek), "", KEPT)		\
	S(imm_openat, SYS_openat, MOV_IMM(__NR_openat), "", KEPT)	\
	S(imm_close, SYS_close, MOV_IMM(__NR_close), "", KEPT)		\
	S(imm_dup, SYS_dup, MOV_IMM(__NR_dup), "", KEPT)		\
	S(imm_mmap, SYS_mmap, MOV_IMM(__NR_mmap), "", KEPT)		\
	S(imm_munmap, SYS_munmap, MOV_IMM(__NR_munmap), "", KEPT)	\
	S(imm_getpid, SYS_getpid, MOV_IMM(__NR_getpid), "", KEPT)	\
	S(imm_futex, SYS_futex, MOV_IMM(__NR_futex), "", KEPT)		\
	S(imm_sched_yield, SYS_sched_yield, MOV_IMM(__NR_sched_yield),	\
	  "", KEPT)							\
	S(imm_clock_nanosleep, SYS_clock_nanosleep,			\
	  MOV_IMM(__NR_clock_nanosleep), "", KEPT)			\
	S(imm64_pread64, SYS_pread64, MOV_IMM64(__NR_pread64), "", KEPT)\
	S(imm64_getpid, SYS_getpid, MOV_IMM64(__NR_getpid), "", KEPT)	\
	S(xor_read, SYS_read, "xor %eax, %eax\n", "", XORED)		\
	S(xor_cmp_read, SYS_read, "xor %eax, %eax\n", CMP_AFTER,	\
	  XORED | COMPARED)						\
	S(cmp_pread64, SYS_pread64, MOV_IMM(__NR_pread64), CMP_AFTER,	\
	  COMPARED)							\
	S(cmp_pwrite64, SYS_pwrite64, MOV_IMM(__NR_pwrite64),		\
	  CMP_EAX_AFTER, COMPARED)					\
	S(cmp_getpid, SYS_getpid, MOV_IMM(__NR_getpid), CMP_AFTER,	\
	  COMPARED)							\
	S(test_write, SYS_write, MOV_IMM(__NR_write), TEST_AFTER,	\
	  COMPARED)							\
	S(mov_ebx, -1, "mov %ebx, %eax\n", "", KEPT)			\
	S(mov_ebx_cmp, -1, "mov %ebx, %eax\n", CMP_AFTER, COMPARED)	\
	S(mov_r12, -1, "mov %r12, %rax\n", "", KEPT)			\
	S(on_stack, -1, "mov (%rsp), %rax\n", "", KEPT)			\
	S(on_stack_cmp, -1, "mov (%rsp), %rax\n", CMP_AFTER, COMPARED)	\
	S(bare, -1, "", "", KEPT)					\
	S(bare_cmp, -1, "", CMP_AFTER, COMPARED)			\
	S(jumped_to, -1, JUMPED_TO, "", KEPT)				\
	S(looped, -1, JUMPED_TO, LOOP_AFTER, KEPT)

#define SITE_CODE(name, nr, before, behind, flags)			\
	__asm__(							\
	".text\n .p2align 4\n .globl site_" #name "\n"			\
	".type site_" #name ", @function\n"				\
	"site_" #name ":\n" SITE_ENTER					\
	".globl site_" #name "_ready\n site_" #name "_ready:\n" before	\
	".globl site_" #name "_call\n site_" #name "_call:\n"		\
	"syscall\n"							\
	".globl site_" #name "_after\n site_" #name "_after:\n" behind	\
	SITE_LEAVE							\
	".size site_" #name ", . - site_" #name "\n");			\
	void site_##name(const struct regs *in);			\
	extern const char site_##name##_ready[], site_##name##_call[],	\
		site_##name##_after[];

SITES(SITE_CODE)

#define SITE_ENTRY(name, nr, before, behind, flags)			\
	{ #name, nr, flags, site_##name, site_##name##_ready,		\
	  site_##name##_call, site_##name##_after },

static const struct site sites[] = { SITES(SITE_ENTRY) };

#define NSITES (sizeof(sites) / sizeof(sites[0]))

#endif
