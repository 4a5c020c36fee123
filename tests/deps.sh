#!/bin/sh
# SPDX-License-Identifier: MIT
# deps.sh - what building ("build"), testing ("check") or measuring ("bench")
# needs: installed where we may (root, apt-get), named otherwise
set -u
what=${1:-build}

build_packages="gcc libc6-dev make pkg-config binutils libcapstone-dev \
libjansson-dev"
check_packages="$build_packages bats shellcheck mandoc cppcheck clang-tidy \
sqlite3 git rsync tar findutils python3 libpython3.11-testsuite \
busybox-static fish zsh bsdextrautils util-linux attr procps strace \
cpio libfuse3-dev fuse3 qemu-system-x86 qemu-system-common mount e2fsprogs fio iproute2 \
xz-utils gnuplot-nox libcap-dev libcap-ng-dev libpopt-dev"
bench_packages="$build_packages linux-libc-dev findutils git sqlite3 python3 \
strace proot"

case $what in
build) packages=$build_packages ;;
check) packages=$check_packages ;;
bench) packages=$bench_packages ;;
*) echo "usage: deps.sh build|check|bench" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null; then
	echo "not a Debian system: it is taken on trust that these are here:" \
		"$packages" >&2
	exit 0
fi
missing=
for package in $packages; do
	state=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)
	[ "$state" = 'install ok installed' ] || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
	echo "missing packages; install them with:" >&2
	echo "    sudo apt-get install$missing" >&2
	exit 1
fi
echo "installing:$missing"
apt-get update -qq || exit 1
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq \
		--no-install-recommends $missing >/dev/null
