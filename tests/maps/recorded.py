#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""recorded.py - page tables as text, to be looked at without root

	recorded.py record PID DIR	of a process (root): files into DIR
	recorded.py replay DIR OUT	from there: what /proc/PID has, into OUT

The files: maps, statm and comm as the kernel has them, and "pages", a line
"ADDRESS COUNT FRAME FLAGS" for pages in a row, in hexadecimal but for COUNT.
FLAGS: p present, s swapped, f of a file or shared, x mapped once. FRAME 0 with
p: not told, the same for all pages of the line; "=" before it: that frame for
all of them.
"""
import os
import shutil
import struct
import sys

PAGE = 4096
BITS = {"p": 1 << 63, "s": 1 << 62, "f": 1 << 61, "x": 1 << 56}
PFN = (1 << 55) - 1


def regions(path):
    with open(path, encoding="utf-8") as maps:
        for line in maps:
            start, end = (int(x, 16) for x in line.split()[0].split("-"))
            if start < 1 << 63:
                yield start, end


def rows(pagemap, start, end):
    """Of one mapping: (address, count, frame, flags)"""
    row = None
    for at in range(start, end, PAGE):
        entry, = struct.unpack("<Q", os.pread(pagemap, 8, at // PAGE * 8))
        flags = "".join(f for f, bit in BITS.items() if entry & bit)
        frame = entry & PFN if "p" in flags else 0
        if row and row[3] == flags and (
                frame == row[2] + row[1] if frame else not row[2]):
            row[1] += 1
            continue
        if row and row[3]:
            yield row
        row = [at, 1, frame, flags]
    if row and row[3]:
        yield row


def record(pid, out):
    os.makedirs(out, exist_ok=True)
    for name in "maps", "statm", "comm":
        shutil.copyfile(f"/proc/{pid}/{name}", f"{out}/{name}")
    pagemap = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY)
    with open(f"{out}/pages", "w", encoding="ascii") as pages:
        for start, end in regions(f"{out}/maps"):
            for at, count, frame, flags in rows(pagemap, start, end):
                pages.write(f"{at:x} {count} {frame:x} {flags}\n")


def replay(recorded, out):
    os.makedirs(out, exist_ok=True)
    for name in "maps", "statm", "comm":
        shutil.copyfile(f"{recorded}/{name}", f"{out}/{name}")
    with open(f"{out}/pagemap", "wb") as pagemap:
        end = max(end for _, end in regions(f"{out}/maps"))
        pagemap.truncate(end // PAGE * 8)
        for line in open(f"{recorded}/pages", encoding="ascii"):
            if line.startswith("#"):
                continue
            at, count, frame, flags = line.split()
            same = frame.startswith("=")
            frame = int(frame.lstrip("="), 16)
            step = 1 if frame and not same else 0
            bits = sum(BITS[f] for f in flags)
            pagemap.seek(int(at, 16) // PAGE * 8)
            for i in range(int(count)):
                pagemap.write(struct.pack("<Q", bits | (frame + i * step)))


if __name__ == "__main__":
    {"record": record, "replay": replay}[sys.argv[1]](*sys.argv[2:])
