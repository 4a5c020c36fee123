#!/bin/bash
# SPDX-License-Identifier: MIT
# kernels.sh - what a test's virtual machine starts from, in $BUILD/vm
#
#	uml/	Debian's user-mode-linux, unpacked, not installed
#	cloud/	Debian's kernel for clouds, unpacked, not installed
#	initramfs.cpio	busybox, init and the modules that QEMU's guest needs
#
# What is there already is not fetched again (nothing is asked of the network
# then); the initramfs is made again when what it is made of has changed. To
# have newer kernels, remove the two folders.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
BUILD=${BUILD:-$here/../../build}
mkdir -p "$BUILD/vm"
vm=$(cd "$BUILD/vm" && pwd)

# In the order in which they have to be loaded.
modules=(
	drivers/virtio/virtio_ring
	drivers/virtio/virtio
	drivers/virtio/virtio_pci_legacy_dev
	drivers/virtio/virtio_pci_modern_dev
	drivers/virtio/virtio_pci
	drivers/char/virtio_console
	fs/fuse/fuse
	fs/fuse/virtiofs
)

fail() {
	echo "kernels.sh: $*" >&2
	exit 1
}

# cloud_package - the package that Debian's current cloud kernel is in
cloud_package() {
	apt-cache depends linux-image-cloud-amd64 2>/dev/null |
		sed -n 's/^ *Depends: \(linux-image-[0-9].*-cloud-amd64\)$/\1/p' |
		head -n 1
}

# unpack PACKAGE FOLDER - fetches it and unpacks its files, all or nothing
unpack() {
	local new=$vm/$2.new

	rm -rf "$new"
	mkdir "$new"
	(cd "$new" && apt-get download -qq "$1" 2>apt.log) || {
		cat "$new/apt.log" >&2
		fail "cannot fetch the package $1: is it known to apt" \
			"(apt-get update), does the network work?"
	}
	dpkg-deb -x "$new"/*.deb "$new"
	rm "$new"/*.deb "$new/apt.log"
	mv "$new" "$vm/$2"
}

fetch() {
	local package

	if [ -d "$vm/uml" ] && [ -d "$vm/cloud" ]; then
		return 0
	fi
	command -v dpkg-deb >/dev/null ||
		fail "the guests' kernels are Debian packages: dpkg-deb is" \
			"needed to unpack them"
	package=$(cloud_package)
	if [ -z "$package" ]; then
		apt-get update -qq || fail "cannot get the lists of packages"
		package=$(cloud_package)
	fi
	[ -n "$package" ] || fail "apt knows no linux-image-cloud-amd64"
	[ -d "$vm/uml" ] || unpack user-mode-linux uml
	[ -d "$vm/cloud" ] || unpack "$package" cloud
}

# make_initramfs FOLDER - from what lies in FOLDER, made here
make_initramfs() {
	local module from

	mkdir -p "$1"/{bin,dev,proc,sys,root,modules}
	cp "$(command -v busybox)" "$1/bin/busybox"
	for from in $("$1/bin/busybox" --list); do
		[ "$from" = busybox ] || ln -s busybox "$1/bin/$from"
	done
	cp "$here/init" "$1/init"
	chmod 755 "$1/init"
	for module in "${modules[@]}"; do
		from=("$vm"/cloud/lib/modules/*/kernel/"$module.ko")
		[ -e "${from[0]}" ] || fail "the kernel has no module $module"
		cp "${from[0]}" "$1/modules"
		echo "${module##*/}.ko"
	done >"$1/modules/order"
	(cd "$1" && find . | sort | cpio --quiet -o -H newc -R 0:0)
}

initramfs() {
	local inputs work

	inputs=$(cat "$here/init" "$here/kernels.sh" \
		"$(command -v busybox)" "$vm"/cloud/boot/config-* | sha256sum)
	if [ -e "$vm/initramfs.cpio" ] &&
		[ "$(cat "$vm/initramfs.of" 2>/dev/null)" = "$inputs" ]; then
		return 0
	fi
	work=$(mktemp -d "$vm/initramfs.XXXXXX")
	make_initramfs "$work" >"$vm/initramfs.new"
	rm -rf "$work"
	mv "$vm/initramfs.new" "$vm/initramfs.cpio"
	echo "$inputs" >"$vm/initramfs.of"
}

for tool in busybox cpio; do
	command -v "$tool" >/dev/null ||
		fail "$tool is missing: run tests/deps.sh check"
done
# Two test runs may come here at once.
exec 9>"$vm/lock"
flock 9
fetch
initramfs
