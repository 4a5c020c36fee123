/* SPDX-License-Identifier: MIT */
/*
 * probes.h - what `darkshadow doctor` tries out
 *
 * Each of them does what `run` or `host` do, in as few calls as there can be;
 * src/tool/doctor.c has the table that says which of the two that is. What one
 * finds does not depend on what others have found.
 */
#ifndef TOOL_PROBES_H
#define TOOL_PROBES_H

#include "tool/probe.h"

/* processes.c: tracing, filters, descriptors */
probe_fn probe_proc, probe_ptrace, probe_seccomp, probe_notify, probe_pidfd,
	 probe_process_vm, probe_sockets, probe_descriptors, probe_close_range,
	 probe_syscall_info, probe_window;

/* memories.c: memory files, the address space, page frames and pins */
probe_fn probe_arena, probe_exec, probe_gate, probe_capsule, probe_map_count,
	 probe_caps_vm, probe_pagemap, probe_populate, probe_pins, probe_pipe,
	 probe_huge;

/* namespaces.c: what a sandbox is made of */
probe_fn probe_namespaces, probe_root, probe_landlock;

/* machines.c: what this machine is, and what runs on it */
probe_fn probe_cpus, probe_device, probe_doorbell, probe_vms, probe_vm_shm,
	 probe_vm_doorbell, probe_kvm, probe_whole;

#endif
