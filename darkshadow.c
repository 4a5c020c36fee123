/* SPDX-License-Identifier: MIT */
/* darkshadow.c - the command table */
#include <argp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/exit.h"
#include "base/log.h"
#include "guest/run.h"
#include "guest/sniff.h"
#include "host/host.h"
#include "tool/doctor.h"
#include "tool/maps.h"
#include "tool/study.h"
#include "tool/vms.h"

const char *argp_program_version = "darkshadow " DARKSHADOW_VERSION;

/* The guest side knows of the host side no more than this. */
static int run(int argc, char **argv)
{
	return run_main(argc, argv, host_serve_one);
}

static int sniff(int argc, char **argv)
{
	return sniff_main(argc, argv, host_serve_one);
}

static const struct command {
	const char *name;
	const char *title;		/* argv[0] in its messages */
	int (*main)(int argc, char **argv);
	const char *what;
} commands[] = {
	{ "run", "darkshadow run", run,
	  "launch a command whose system calls the host carries out" },
	{ "host", "darkshadow host", host_main,
	  "carry out the system calls of such commands" },
	{ "sniff", "darkshadow sniff", sniff,
	  "run a command, and write a policy of what it uses" },
	{ "vms", "darkshadow vms", vms_main,
	  "list virtual machines, and whether they can be shadowed" },
	{ "maps", "darkshadow maps", maps_main,
	  "show an address space as extents, which shadows map" },
	{ "study", "darkshadow study", study_main,
	  "sample the page tables of all processes, and report on them" },
	{ "doctor", "darkshadow doctor", doctor_main,
	  "find out what is missing here, and say what to type" },
};

static void usage(FILE *f)
{
	fprintf(f, "Usage: darkshadow COMMAND [OPTION...] [ARG...]\n\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		fprintf(f, "  %-8s%s\n", commands[i].name, commands[i].what);
	fprintf(f, "\n`darkshadow COMMAND --help` or `darkshadow help COMMAND`"
		" says more; see also darkshadow(1).\n\nExample:\n"
		"  darkshadow run --forward path:/mnt/host=/srv/data:ro --"
		" ls -l /mnt/host\n");
}

int main(int argc, char **argv)
{
	static char help[] = "--help";
	const char *name = argc > 1 ? argv[1] : "";
	bool helping = strcmp(name, "help") == 0 && argc > 2;

	if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
		puts(argp_program_version);
		return 0;
	}
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 ||
	    (strcmp(name, "help") == 0 && !helping)) {
		usage(stdout);
		return 0;
	}
	if (helping) {
		name = argv[2];
		argv[2] = help;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (strcmp(commands[i].name, name) != 0)
			continue;
		argv[1] = (char *)commands[i].title;
		return commands[i].main(argc - 1, argv + 1);
	}
	if (argc < 2)
		usage(stderr);
	else
		log_err("%s: no such command; expected run, host, sniff, vms,"
			" maps, study or doctor (see darkshadow --help)",
			name);
	return EXIT_OWN_FAILURE;
}
