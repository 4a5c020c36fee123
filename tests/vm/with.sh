#!/bin/bash
# SPDX-License-Identifier: MIT
# with.sh - run a command, bats that is, with a virtual machine that serves as
# the place where targets run: with.sh uml|qemu COMMAND [ARG]...
#
# The machine and its daemon start and end here; the daemon serves all of the
# command's runs. Its policy is "all": how far a shadow gets is then the affair
# of each run's own rules. What tests/helpers.bash makes of it:
#	DS_RUN		`darkshadow run` in the guest
#	DS_VM		uml or qemu
#	DS_VM_DAEMON	process id of the daemon
#	VICTIM_SLOW	see tests/victims/victim.h
# The exit status is the command's; 125: there is no machine to run it with.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
BUILD=$(cd "${BUILD:-$here/../../build}" && pwd)
export BUILD DS_VM=${1:?uml or qemu} DS_VM_DIR DS_VM_DAEMON='' DS_RUN
shift
DS_VM_DIR=$(mktemp -d /tmp/ds-suite.XXXXXX)

# shellcheck disable=SC2317	# called by the trap
finish() {
	if [ -n "$DS_VM_DAEMON" ]; then
		kill "$DS_VM_DAEMON" 2>/dev/null || true
		wait "$DS_VM_DAEMON" || true
	fi
	"$here/vm.sh" stop || true
	rm -rf "$DS_VM_DIR"
}
trap finish EXIT
# The command gets them too, where they come from a terminal.
trap 'exit 130' INT TERM

"$here/vm.sh" start "$DS_VM" --mem 512M || exit 125
"$BUILD/darkshadow" host --vm "pid:$(cat "$DS_VM_DIR/vmm.pid")" \
	--transport "shm:$DS_VM_DIR/shm" --allow all \
	>"$DS_VM_DIR/daemon.log" 2>&1 &
DS_VM_DAEMON=$!
DS_RUN="$BUILD/vm/guest $BUILD/static/darkshadow run --transport shm"
if ! "$BUILD/vm/guest" "$BUILD/static/darkshadow" run --transport shm \
	--forward all -- true; then
	cat "$DS_VM_DIR/daemon.log" >&2
	exit 125
fi
export VICTIM_SLOW=5
export DS_TEST_TIMEOUT=$((2 * ${DS_TEST_TIMEOUT:-60}))
if [ "$DS_VM" = qemu ]; then
	VICTIM_SLOW=20
	DS_TEST_TIMEOUT=$((2 * DS_TEST_TIMEOUT))
fi
status=0
"$@" || status=$?
if ! kill -0 "$DS_VM_DAEMON"; then
	echo "with.sh: the daemon has ended before the tests:" >&2
	cat "$DS_VM_DIR/daemon.log" >&2
	DS_VM_DAEMON=
	exit 125
fi
exit "$status"
