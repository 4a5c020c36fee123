# SPDX-License-Identifier: MIT
# darkshadow: `make`, `make demo`, `make check [T=name] [VM=loopback|base|uml|qemu]`,
# `make lint`
#
# Libraries, and why: capstone decodes instructions, argp is glibc's own command
# line parser. jansson reads and writes JSON (QEMU's monitor, vms --json): like
# json-c it has a static archive in Debian, but an API of one header without
# macros that hide ownership. bats-core runs the tests. The BPF of the sandbox
# is our own: libseccomp cannot say "this list, and otherwise ENOTTY" of ioctl
# requests.

prefix	?= /usr/local
bindir	?= $(prefix)/bin
mandir	?= $(prefix)/share/man
datadir	?= $(prefix)/share
BUILD	?= build
PYTHON	?= /usr/bin/python3
TORTURE_SECONDS ?= 300
V	?= 0
T	?= *

VERSION	:= 0.1
PKGS	:= capstone jansson

CFLAGS	?= -O2 -g
WARN	:= -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	   -Wformat=2 -Wvla -Wundef $(if $(WERROR),-Werror)
# What a check for NULL reports goes on, and gcc then warns of what follows.
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -Wno-nonnull)
STD	:= -std=gnu11 -D_GNU_SOURCE -DDARKSHADOW_VERSION='"$(VERSION)"'
INC	:= -I. -Isrc $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
LIBS	= $(shell pkg-config $(if $(STATIC),--static) --libs $(PKGS)) -lm

# One static binary, where there are archives to make it from: each `run` starts
# three processes from it, and to relocate capstone's tables and copy the pages
# of them takes longer than all that a small program does (2 of 8 ms).
# Sanitizers need their shared libraries.
ifeq ($(STATIC),)
HAVE_ARCHIVES := $(foreach lib,$(PKGS:%=lib%.a) libc.a,\
	$(findstring /,$(shell $(CC) -print-file-name=$(lib))))
STATIC	:= $(if $(SAN),,$(if $(filter 3,$(words $(HAVE_ARCHIVES))),1))
endif
ifeq ($(STATIC),0)
override STATIC :=
endif
ALLC	= $(STD) $(INC) $(WARN) $(SANFLAGS) $(CFLAGS) $(CPPFLAGS)
ALLLD	= $(SANFLAGS) $(if $(STATIC),-static) $(LDFLAGS)

ifneq ($(SAN),)
BUILD	:= build/san
endif

Q	:= $(if $(filter 1,$(V)),,@)
say	= $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' '$(1)' '$(2)')

SRC	:= $(wildcard src/*/*.c)
OBJ	:= $(SRC:%.c=$(BUILD)/%.o) $(BUILD)/capsule/blobs.o
BIN	:= $(BUILD)/darkshadow
UNITS	:= $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/*.c))
VICTIMS	:= $(patsubst tests/victims/%.c,$(BUILD)/victims/%,\
	     $(wildcard tests/victims/*.c))
VMTOOLS	:= $(patsubst tests/vm/%.c,$(BUILD)/vm/%,\
	     $(filter-out %/xstate.c,$(wildcard tests/vm/*.c))) \
	   $(BUILD)/vm/xstate.so
BENCH	:= $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(wildcard tests/bench/*.c))

all: $(BIN)

# Objects remember the flags they were built with.
FLAGS_NOW := $(CC) $(ALLC) $(ALLLD)
$(shell mkdir -p $(BUILD); [ "$$(cat $(BUILD)/.flags 2>/dev/null)" = \
	"$$(printf %s '$(subst ','\'',$(FLAGS_NOW))')" ] || \
	printf %s '$(subst ','\'',$(FLAGS_NOW))' > $(BUILD)/.flags)

$(BIN): $(BUILD)/darkshadow.o $(OBJ)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALLLD) -o $@ $^ $(LIBS)

$(BUILD)/%.o: %.c $(BUILD)/.flags
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALLC) -MMD -MP -c -o $@ $<

# The blobs run where no sanitizer and no user flag may follow.
STUBFLAGS := -std=gnu11 $(WARN) -O2 -ffreestanding -fpie \
	-mgeneral-regs-only -fno-stack-protector -fcf-protection=none \
	-fno-jump-tables -fno-asynchronous-unwind-tables -fno-builtin
$(BUILD)/capsule/stub.o: capsule/stub.c capsule/abi.h Makefile
	$(call say,BLOB,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -I. $(STUBFLAGS) -c -o $@ $<

$(BUILD)/capsule/gate.bin: capsule/gate.S capsule/gate.ld capsule/abi.h \
		capsule/batch.inc $(BUILD)/capsule/stub.o
	$(call say,BLOB,$<)
	$(Q)$(CC) -I. -c -o $(@D)/gate.o $<
	$(Q)$(CC) -nostdlib -static -Wl,-T,capsule/gate.ld,--build-id=none \
		-o $@.elf $(@D)/gate.o $(BUILD)/capsule/stub.o
	$(Q)objcopy -O binary -j .text $@.elf $@

$(BUILD)/capsule/capsule.elf: capsule/capsule.S capsule/capsule.ld \
		capsule/abi.h capsule/batch.inc
	$(call say,BLOB,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -I. -nostdlib -static -Wl,-T,capsule/capsule.ld \
		-Wl,--build-id=none -o $@ $<

$(BUILD)/capsule/blobs.o: capsule/blobs.S $(BUILD)/capsule/gate.bin \
		$(BUILD)/capsule/capsule.elf
	$(Q)$(CC) -c -Wa,-I$(BUILD)/capsule -o $@ $<

$(BUILD)/unit/%: tests/unit/%.c $(OBJ)
	$(call say,UNIT,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALLC) $(ALLLD) -MMD -MP -o $@ $< $(OBJ) $(LIBS)

# Victims are programs as users have them: no sanitizer, no house flags.
STATIC_VICTIMS := $(BUILD)/victims/static $(BUILD)/victims/static-pie
$(BUILD)/victims/%: tests/victims/%.c $(wildcard tests/victims/*.h) capsule/abi.h
	$(call say,VICTIM,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE -I. -O1 -g -Wall -Wextra -pthread \
		$$(sed -n 's|^ \* build: ||p' $<) -o $@ $<

# What runs in a virtual machine, or beside one, needs nothing of its root.
$(BUILD)/vm/%: tests/vm/%.c tests/vm/link.h $(wildcard src/wire/*.h)
	$(call say,VM,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(STD) -I. -Isrc $(WARN) -O2 -g -static -o $@ $<

$(BUILD)/vm/xstate.so: tests/vm/xstate.c
	$(call say,VM,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(STD) $(WARN) -O2 -g -fPIC -shared -o $@ $<

$(BUILD)/bench/%: tests/bench/%.c
	$(call say,BENCH,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE -I. -O2 -g -Wall -Wextra -pthread \
		-o $@ $<

# What runs in a guest, which has no libraries for it.
static: $(if $(STATIC),$(BIN))
ifneq ($(STATIC),)
	$(Q)mkdir -p $(BUILD)/static
	$(Q)ln -f $(BIN) $(BUILD)/static/darkshadow
else
	$(Q)$(MAKE) --no-print-directory STATIC=1 SAN= BUILD=$(BUILD)/static \
		$(BUILD)/static/darkshadow
endif

tests-built: $(BIN) $(UNITS) $(VICTIMS) $(VMTOOLS)
	$(Q)$(MAKE) --no-print-directory static

check: deps-check
	$(Q)$(MAKE) --no-print-directory tests-built
	$(Q)BUILD=$(abspath $(BUILD)) tests/check.sh '$(T)' $(VM)

# Ten minutes of a target and a guest that both do their worst.
torture: deps-check
	$(Q)$(MAKE) --no-print-directory tests-built
	$(Q)for kind in qemu uml; do BUILD=$(abspath $(BUILD)) \
		tests/vm/torture.sh $$kind $(TORTURE_SECONDS) || exit 1; done

# A million calls under a hail of signals; tests/storm.bats has short ones.
storm: $(BIN) $(BUILD)/victims/storm
	$(Q)BUILD=$(abspath $(BUILD)) tests/storm.sh $(STORMFLAGS)

judge: $(BIN)
	$(Q)BUILD=$(abspath $(BUILD)) tests/judge/judge.sh $(JUDGE)

selftests: deps-check
	$(Q)$(MAKE) --no-print-directory $(BIN)
	$(Q)BUILD=$(abspath $(BUILD)) tests/judge/selftests.sh $(SELFTESTS)

# Long, and of another seed each time; a short one is part of the tests.
kill-vm: tests-built
	$(Q)BUILD=$(abspath $(BUILD)) tests/vm/kill.sh uml 100
	$(Q)BUILD=$(abspath $(BUILD)) tests/vm/kill.sh qemu 15

# What is not there is not compared with.
bench: $(BIN) $(BENCH)
	$(Q)tests/deps.sh bench >&2 || true
	$(Q)BUILD=$(abspath $(BUILD)) tests/bench/bench.sh $(BENCHFLAGS)

bench-vm: deps-check
	$(Q)$(MAKE) --no-print-directory $(BIN) static $(BENCH) $(VMTOOLS)
	$(Q)BUILD=$(abspath $(BUILD)) tests/vm/bench.sh $(BENCHFLAGS)

demo: deps-build
	$(Q)$(MAKE) --no-print-directory $(BIN)
	$(Q)BUILD=$(abspath $(BUILD)) tests/demo.sh

# What is missing is installed where we may (root on Debian), named otherwise.
deps-build:
	$(Q)tests/deps.sh build
deps-check:
	$(Q)tests/deps.sh check

lint: deps-check
	$(Q)BUILD=$(abspath $(BUILD)) CFLAGS_LINT='-std=gnu11 -D_GNU_SOURCE \
		-DDARKSHADOW_VERSION="" $(INC)' tests/lint.sh

install: $(BIN)
	install -D -m 755 $(BIN) $(DESTDIR)$(bindir)/darkshadow
	for page in man/*.1; do install -D -m 644 $$page \
		$(DESTDIR)$(mandir)/man1/$${page##*/}; done
	for page in man/*.5; do install -D -m 644 $$page \
		$(DESTDIR)$(mandir)/man5/$${page##*/}; done
	install -D -m 644 completions/darkshadow.bash \
		$(DESTDIR)$(datadir)/bash-completion/completions/darkshadow
	install -D -m 644 completions/_darkshadow \
		$(DESTDIR)$(datadir)/zsh/site-functions/_darkshadow
	install -D -m 644 completions/darkshadow.fish \
		$(DESTDIR)$(datadir)/fish/vendor_completions.d/darkshadow.fish

clean:
	rm -rf build

.PHONY: all static check torture storm judge selftests bench bench-vm kill-vm \
	demo lint install clean tests-built deps-build deps-check
-include $(OBJ:.o=.d) $(BUILD)/darkshadow.d $(UNITS:=.d)
