#!/bin/bash
# SPDX-License-Identifier: MIT
# torture.sh - a target that tortures its memory, in a guest that tortures its
# memory, too
#
#	torture.sh qemu|uml SECONDS [SEED [OPTION-OF-RUN]...]
#
# Beside the target run, where the guest's kernel has them: compaction, KSM and
# khugepaged as aggressive as they get, dropping of caches, NUMA balancing,
# swap on zram, and a program that takes most of the memory and gives it back.
# 0 if the target saw nothing wrong, and of the pages that were compared (there
# have to be some) none was stale. 3 if stale pages are all that was wrong.
#
# The machine is this script's own, and is killed at its end: what a target
# does to its guest with --debug-no-pins is nobody else's business.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
BUILD=$(cd "${BUILD:-$here/../../build}" && pwd)
kind=$1 seconds=$2 seed=${3:-$RANDOM}
shift $(($# > 3 ? 3 : $#))
: "${TORTURE_MEM:=384M}"

work=$(mktemp -d /tmp/ds-torture.XXXXXX)
chmod 755 "$work"
mkdir "$work/files"
export DS_VM_DIR=$work/vm
daemon=

cleanup() {
	if [ -n "$daemon" ]; then
		kill "$daemon" 2>/dev/null || true
		wait "$daemon" 2>/dev/null || true
	fi
	"$here/vm.sh" kill || true
	rm -rf "$work"
}
trap cleanup EXIT

guest() {
	timeout --foreground -k 10 $((seconds + 120)) "$here/guest" "$@"
}

name=$(basename "$work")
"$here/vm.sh" start "$kind" --name "$name" --mem "$TORTURE_MEM" \
	--append "numa=fake=2"
"$BUILD/darkshadow" host --vm "$name" --transport "shm:$DS_VM_DIR/shm" \
	--allow "path:/mnt/ds-torture=$work/files" >"$work/host.log" 2>&1 &
daemon=$!

# What is written to a file that is not there, or not writable, is not missed.
# shellcheck disable=SC2016	# the guest's shell
noise='
tune() { [ -w "$2" ] && echo "$1" >"$2" && echo "tuned: $2"; } 2>/dev/null
mm=/sys/kernel/mm
tune 1 $mm/ksm/run
tune 1000 $mm/ksm/pages_to_scan
tune 5 $mm/ksm/sleep_millisecs
tune always $mm/transparent_hugepage/enabled
tune advise $mm/transparent_hugepage/shmem_enabled
tune 4096 $mm/transparent_hugepage/khugepaged/pages_to_scan
tune 5 $mm/transparent_hugepage/khugepaged/scan_sleep_millisecs
tune 5 $mm/transparent_hugepage/khugepaged/alloc_sleep_millisecs
tune 1 /proc/sys/kernel/numa_balancing
tune 100 /proc/sys/vm/compaction_proactiveness
tune 100 /proc/sys/vm/swappiness
for module in mm/zsmalloc lib/lzo/lzo_compress crypto/lzo crypto/lzo-rle \
	drivers/block/zram/zram; do
	busybox insmod "$1/$(uname -r)/kernel/$module.ko" 2>/dev/null
done
if [ -e /sys/block/zram0/disksize ]; then
	echo 128M >/sys/block/zram0/disksize &&
		mkswap /dev/zram0 >/dev/null && swapon /dev/zram0 &&
		echo "tuned: swap on zram"
fi
exec >/dev/null 2>&1
(while :; do echo 1 >/proc/sys/vm/compact_memory; sleep 0.2; done) &
(while :; do echo 3 >/proc/sys/vm/drop_caches; sleep 1; done) &
(while :; do "$2" pressure 105 3; sleep 2; done) &
wait'
if [ "$kind" = uml ]; then
	modules=$BUILD/vm/uml/usr/lib/uml/modules
else
	modules=$BUILD/vm/cloud/lib/modules
fi
guest sh -c "$noise" sh "$modules" "$BUILD/vm/probe" 2>>"$work/noise" &

status=0
guest env VICTIM_SHADOWED=1 VICTIM_LOCAL=/run/ds-local \
	"$BUILD/static/darkshadow" run --transport shm --stats --verify "$@" \
	--forward "path:/mnt/ds-torture=$work/files" -- \
	"$BUILD/victims/torture" /mnt/ds-torture "$seconds" "$seed" \
	>"$work/out" 2>&1 || status=$?
# Many stale pages look alike.
grep -v 'is stale' "$work/out" || true
cat "$work/noise"
grep -m 5 'is stale' "$work/out" || true
guest sh -c 'grep -E "^(compact_(migrate_scanned|success|fail)|pgmigrate_succ|\
thp_collapse_alloc|pswpout|drop_slab|numa_pages_migrated|pgsteal_anon|\
ksm_swpin_copy) " /proc/vmstat; cat /sys/kernel/mm/ksm/pages_sharing' |
	tr '\n' ' ' || true
echo
read -r compared stale < <(sed -n \
	's/.*verify: \([0-9]*\) pages compared, \([0-9]*\) stale/\1 \2/p' \
	"$work/out") || compared=0
echo "$kind: seed $seed: status $status, $compared pages compared," \
	"${stale:-?} stale"
if [ "$status" -ne 0 ] || [ "$compared" -lt 100 ]; then
	tail -n 5 "$work/host.log"
	exit 1
fi
[ "$stale" -eq 0 ] || exit 3
