#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# study.bats - page tables of real processes, and reports on recorded ones
#
# tests/study/tables.csv was made for these tests; report.txt and report.json
# are what it says.

# Bats sets status, output and stderr; each test is a subshell.
# shellcheck disable=SC2030,SC2031,SC2154

load helpers

setup() {
	common_setup
	FIXTURES=$BATS_TEST_DIRNAME/study
	STUDY=$TESTDIR/study
	TABLES=$STUDY/tables.csv
	OTHERS=()
}

teardown() {
	local pid

	for pid in "${OTHERS[@]}"; do
		kill -KILL "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	common_teardown
}

need_root() {
	[ "$(id -u)" -eq 0 ] || skip "page frames are told to root alone"
}

study() {
	DS_TEST_MARK=$DS_MARK timeout --foreground -k 10 "$DS_TEST_TIMEOUT" \
		"${DS_AS[@]}" "$DARKSHADOW" study "$@" 3>&-
}

# once ARG... - a sample; processes of others may be protected
once() {
	study --out "$STUDY" --once "$@"
}

# report ARG... - of STUDY, plots and page elsewhere
report() {
	study report "$STUDY" --out "$TESTDIR/report" "$@"
}

# fixture - STUDY is the recorded one
fixture() {
	mkdir -p "$STUDY"
	cp "$FIXTURES/tables.csv" "$TABLES"
}

# row PID - its row of the last sample
row() {
	grep "^[0-9]*,$1," "$TABLES" | tail -n 1
}

# background PROGRAM ARG... - until teardown; OTHER is its pid
background() {
	"$@" 3>&- &
	OTHER=$!
	OTHERS+=("$OTHER")
}

# well_formed - every row has nine fields, the last one is whole
well_formed() {
	awk -F, 'NR > 2 && NF != 9 { bad = 1; print FILENAME ":" NR ": " $0 }
		END { exit bad }' "$TABLES"
	[ -z "$(tail -c 1 "$TABLES")" ]
}

samples() {
	tail -n +3 "$TABLES" | cut -d, -f1 | uniq | wc -l
}

# --- reports ---------------------------------------------------------------

@test "the report of a recorded study is the recorded report" {
	fixture
	report >"$TESTDIR/text"
	diff -u "$FIXTURES/report.txt" <(grep -v '^plots and page' "$TESTDIR/text")
	report --json >"$TESTDIR/json"
	diff -u "$FIXTURES/report.json" "$TESTDIR/json"
}

@test "a report has plots, as SVG and PNG" {
	local name

	fixture
	study report "$STUDY"
	for name in extents ratio size-ratio; do
		/usr/bin/python3 -c '
import sys, xml.dom.minidom
svg = xml.dom.minidom.parse(sys.argv[1]).documentElement
assert svg.tagName == "svg"
assert len(svg.getElementsByTagName("path")) > 10
assert open(sys.argv[2], "rb").read(8) == b"\x89PNG\r\n\x1a\n"' \
			"$STUDY/$name.svg" "$STUDY/$name.png"
	done
}

@test "the page of a report holds all that it shows, and no name can mark it up" {
	fixture
	report
	/usr/bin/python3 - "$TESTDIR/report/report.html" <<'END'
import html.parser, sys
class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.text = [], [], ""
    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href")]
    def handle_data(self, data):
        self.text += data
page = Page()
page.feed(open(sys.argv[1]).read())
assert page.tags.count("svg") == 3, page.tags
assert "script" not in page.tags
assert "<script>" in page.text and "a&b" in page.text
assert all(link.startswith("#") for link in page.links), page.links
END
}

@test "without gnuplot a report has a summary and a page, and says what to install" {
	fixture
	mkdir "$TESTDIR/bin"
	run --separate-stderr env PATH="$TESTDIR/bin" "$DARKSHADOW" study \
		report "$STUDY" --out "$TESTDIR/report"
	[ "$status" -eq 0 ]
	[[ $stderr == *"gnuplot-nox"* ]]
	[[ $output == *"72 page tables in 6 samples"* ]]
	grep -q '<table>' "$TESTDIR/report/report.html"
	run ! grep -q '<svg' "$TESTDIR/report/report.html"
	run ! ls "$TESTDIR"/report/*.svg
}

@test "gnuplot that fails does not cost the page" {
	fixture
	mkdir "$TESTDIR/bin"
	printf '#!/bin/sh\nexit 1\n' >"$TESTDIR/bin/gnuplot"
	chmod +x "$TESTDIR/bin/gnuplot"
	PATH=$TESTDIR/bin:$PATH
	run report
	[ "$status" -eq 0 ]
	[[ $output == *"gnuplot failed"* ]]
	grep -q '<table>' "$TESTDIR/report/report.html"
}

@test "an ordinary user can have a report on what he cannot write" {
	fixture
	study report "$STUDY" >/dev/null
	as_user
	[ "$(id -u)" -ne 0 ] || chown -R root "$STUDY"
	report
	[ -s "$TESTDIR/report/ratio.svg" ]
	run study report "$STUDY"
	if [ "$(id -u)" -eq 0 ]; then
		grep -q 'where you may write' <<<"$output"
		[ "$status" -eq 125 ]
	fi
}

@test "JSON is printed, and nothing is written that was not asked for" {
	fixture
	study report "$STUDY" --json >"$TESTDIR/json"
	cmp "$FIXTURES/report.json" "$TESTDIR/json"
	[ "$(ls "$STUDY")" = tables.csv ]
}

@test "what a link in the directory leads to is not written" {
	fixture
	echo mine >"$TESTDIR/mine"
	ln -s "$TESTDIR/mine" "$STUDY/report.html"
	ln -s "$TESTDIR/mine" "$STUDY/ratio.svg"
	ln -s "$TESTDIR/mine" "$STUDY/plots.gnuplot"
	study report "$STUDY"
	[ "$(cat "$TESTDIR/mine")" = mine ]
	[ -s "$STUDY/ratio.svg" ]
}

@test "a last row that is torn is left out of a report" {
	fixture
	printf '1790009999,1,in' >>"$TABLES"
	run report
	[ "$status" -eq 0 ]
	[[ $output == *"the last row is torn"* ]]
	[[ $output == *"72 page tables in 6 samples"* ]]
}

@test "one table is enough for a report" {
	mkdir "$STUDY"
	{ head -n 2 "$FIXTURES/tables.csv"; echo 1790000000,1,a,1,1,1.000,4,4,0; } \
		>"$TABLES"
	run --separate-stderr report
	[ "$status" -eq 0 ]
	[ -z "$stderr" ]
	[[ $output == *"Spearman"*"none: one of them never changes"* ]]
	[ -s "$TESTDIR/report/size-ratio.svg" ]
}

@test "a study without a row says how to get one" {
	mkdir "$STUDY"
	head -n 2 "$FIXTURES/tables.csv" >"$TABLES"
	run report
	complains "no page table.*--once"
	run study report "$TESTDIR/nothing"
	complains "cannot read a study.*study --out"
}

# refused TEXT PATTERN - a file of rows with this third line
refused() {
	head -n 2 "$FIXTURES/tables.csv" >"$TABLES"
	# shellcheck disable=SC2059 # it has escapes
	printf -- "$1\n1790000000,1,a,1,1,1.000,4,4,0\n" >>"$TABLES"
	run report
	complains "${2:-tables.csv:3: this is no row of a study: remove the line}"
}

@test "what is no row is refused by file and line" {
	local long

	mkdir "$STUDY"
	printf -v long '%0600d' 1
	refused ''
	refused 'x'
	refused ',,,,,,,,'
	refused '1790000000,1,a,1,1,1.000,4,4'
	refused '1790000000,1,a,1,1,1.000,4,4,0,0'
	refused '-1790000000,1,a,1,1,1.000,4,4,0'
	refused '99999999999999,1,a,1,1,1.000,4,4,0'
	refused '1790000000,4294967297,a,1,1,1.000,4,4,0'
	refused '1790000000,1,a,18446744073709551617,1,1.000,4,4,0'
	refused '1790000000,1,a,9999999999999999,1,1.000,4,4,0'
	refused '1790000000,1,a,1,2,1.000,4,4,0'
	refused '1790000000,1,a,1,0,1.000,4,4,0'
	refused '1790000000,1,a,0,0,0.000,4,4,1'
	refused '1790000000,1,a,1,1,nan,4,4,0'
	refused '1790000000,1,a,1,1,,4,4,0'
	refused '1790000000,1,a,1,1,1.000,4,4,0\r'
	refused '1790000000,1, a,1, 1,1.000,4,4,0'
	refused '1790000000,1,\033[2J,1,1,1.000,4,4,0'
	refused '1790000000,1,a\000b,1,1,1.000,4,4,0'
	refused "1790000000,1,$long,1,1,1.000,4,4,0"
	refused "1790000000,1,${long:0:64},1,1,1.000,4,4,0"
}

@test "what is no study, or that of another version, is refused" {
	mkdir "$STUDY"
	: >"$TABLES"
	run report
	complains "does not begin as a study does"
	head -c 5000 /dev/zero >"$TABLES"
	run report
	complains "does not begin as a study does"
	sed '1s/study 1/study 2/' "$FIXTURES/tables.csv" >"$TABLES"
	run report
	complains 'another version of darkshadow \(darkshadow study 2'
	sed '2s/pages,extents/extents,pages/' "$FIXTURES/tables.csv" >"$TABLES"
	run report
	complains "other columns"
	head -n 1 "$FIXTURES/tables.csv" >"$TABLES"
	run report
	complains "no columns"
	rm "$TABLES"
	mkfifo "$TABLES"
	run report
	complains "cannot read a study"
}

@test "a report takes the same memory for a hundred times as many rows" {
	local few many

	mkdir "$STUDY"
	rows 4000 >"$TABLES"
	few=$(peak)
	rows 400000 >"$TABLES"
	many=$(peak)
	echo "$few KiB, $many KiB"
	[ "$many" -lt $((few + 1024)) ]
}

rows() {
	head -n 2 "$FIXTURES/tables.csv"
	awk -v n="$1" 'BEGIN {
		srand(1)
		for (i = 0; i < n; i++) {
			pages = int(2 ^ (20 * rand()))
			extents = int(pages * rand()) + 1
			if (extents > pages)
				extents = pages
			printf "%d,%d,p%d,%d,%d,1,1,1,0\n",
				1790000000 + int(i / 100), 1 + i % 5000,
				i % 5000, pages, extents
		}
	}'
}

# Of darkshadow, that is: gnuplot is told of no more either, but takes more.
peak() {
	mkdir -p "$TESTDIR/bin"
	PATH=$TESTDIR/bin /usr/bin/python3 -c '
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL,
               stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)' \
		"$DARKSHADOW" study report "$STUDY" --out "$TESTDIR/report"
}

# --- samples ---------------------------------------------------------------

# expect PID - pages, extents, VSZ and RSS of a process that is stopped, counted
# by other means; memory that is shared with those that run stays where it is
expect() {
	/usr/bin/python3 - "$1" <<'END'
import struct, sys
pid = sys.argv[1]
pages = extents = 0
with open(f"/proc/{pid}/pagemap", "rb", 0) as pagemap:
    for line in open(f"/proc/{pid}/maps"):
        where, perm = line.split()[:2]
        start, end = (int(x, 16) for x in where.split("-"))
        if perm.startswith("---") or start >= 1 << 63:
            continue
        before = None
        pagemap.seek(start // 4096 * 8)
        n = (end - start) // 4096
        for (e,) in struct.iter_unpack("Q", pagemap.read(8 * n)):
            frame = e & (1 << 55) - 1
            if not e >> 63 or not frame:
                before = None
                continue
            # A private page that others have, or may get, is not ours to write.
            own = "s" in perm or (e >> 56 & 1 and not e >> 61 & 1)
            pages += 1
            extents += before != (frame - 1, own or "w" not in perm)
            before = frame, own or "w" not in perm
statm = open(f"/proc/{pid}/statm").read().split()
print(pages, extents, int(statm[0]) * 4, int(statm[1]) * 4)
END
}

# huge_pages PID - pages of 4 KiB that the kernel says are in huge ones
huge_pages() {
	awk '/^(AnonHugePages|ShmemPmdMapped|FilePmdMapped)/ { kib += $2 }
		END { print kib / 4 }' "/proc/$1/smaps_rollup"
}

@test "a sample has the page table of a process as it is" {
	local try time pid name pages extents ratio vsz rss huge got

	need_root
	background /usr/bin/python3 -c '
import mmap, os, signal
a = mmap.mmap(-1, 1 << 22, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
a.madvise(mmap.MADV_NOHUGEPAGE)
for at in range(0, 1 << 22, 3 * 4096):
    a[at] = 1
os.kill(os.getpid(), signal.SIGSTOP)'
	eventually grep -q '^State:.*stopped' "/proc/$OTHER/status"
	# Between the two looks the kernel may have moved a page.
	for try in 1 2 3; do
		once --names
		IFS=, read -r time pid name pages extents ratio vsz rss huge \
			< <(row "$OTHER")
		got="$pages $extents $vsz $rss"
		diff -u <(expect "$OTHER") <(echo "$got") && break
		[ "$try" -lt 3 ]
	done
	[ "$name" = python3 ]
	[ "$huge" -eq "$(huge_pages "$OTHER")" ]
	[ "$pages" -gt 300 ]
	[ "$ratio" = "$(awk "BEGIN { printf \"%.3f\", $pages / $extents }")" ]
	[ $(($(date +%s) - time)) -lt 60 ]
}

@test "threads share a row, and so does a child that has its parent's memory" {
	local child

	need_root
	background "$VICTIMS/sharing" >"$TESTDIR/child"
	eventually test -s "$TESTDIR/child"
	child=$(cat "$TESTDIR/child")
	once
	[ "$(grep -c "^[0-9]*,$OTHER," "$TABLES")" -eq 1 ]
	run ! grep "^[0-9]*,$child," "$TABLES"
}

@test "threads of the kernel and zombies have no row" {
	local pid

	need_root
	background /usr/bin/python3 -c '
import os, time
pid = os.fork()
if pid == 0:
    os._exit(0)
print(pid, flush=True)
time.sleep(60)' >"$TESTDIR/zombie"
	eventually test -s "$TESTDIR/zombie"
	once
	for pid in $(cat "$TESTDIR/zombie") $(pgrep -P 2 | head -n 20); do
		run ! grep "^[0-9]*,$pid," "$TABLES"
	done
}

@test "huge pages are counted" {
	local huge

	need_root
	grep -q '\[never\]' /sys/kernel/mm/transparent_hugepage/enabled &&
		skip "there are no huge pages here"
	background /usr/bin/python3 -c '
import mmap, os, signal
a = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
a.madvise(mmap.MADV_HUGEPAGE)
for at in range(0, 16 << 20, 4096):
    a[at] = 1
os.kill(os.getpid(), signal.SIGSTOP)'
	eventually grep -q '^State:.*stopped' "/proc/$OTHER/status"
	once
	huge=$(huge_pages "$OTHER")
	[ "$huge" -gt 0 ]
	[ "$(row "$OTHER" | cut -d, -f9)" -eq "$huge" ]
}

@test "processes that come and go meanwhile are no error" {
	need_root
	background sh -c 'while :; do /bin/true; done'
	once
	once
	well_formed
	[ -n "$(row "$OTHER")" ]
}

@test "what a sample has found can be reported" {
	need_root
	once --names
	run --separate-stderr report --json
	[ "$status" -eq 0 ]
	/usr/bin/python3 -c '
import json, sys
v = json.loads(sys.argv[1])
assert v["samples"] == 1 and v["tables"] == int(sys.argv[2]) > 1, v
assert v["extents"]["max"] >= v["extents"]["p50"] > 0, v' \
		"$output" "$(tail -n +3 "$TABLES" | wc -l)"
}

@test "names are hashed, and equal ones equally, unless they are asked for" {
	need_root
	background sleep 60
	background sleep 60
	once
	once
	run ! grep -q sleep "$TABLES"
	grep -q '^time_s,pid,comm_hash,' "$TABLES"
	[ "$(for pid in "${OTHERS[@]}"; do grep "^[0-9]*,$pid," "$TABLES"; done |
		cut -d, -f3 | sort | uniq -c | awk '{ print $1 }')" -eq 4 ]
	[ "$(stat -c %a "$STUDY/key")" = 600 ]
	run once --names
	complains "has hashes of names: go on without --names"
	rm "$STUDY/key"
	run once
	complains "cannot read .*/key"
	rm "$TABLES"
	once --names
	run once
	complains "has names of processes: go on with --names"
	[ "$(row "$OTHER" | cut -d, -f3)" = sleep ]
}

@test "a process may have any name" {
	need_root
	cp /bin/sleep "$TESTDIR/x) R 0 (y,\"z"
	background "$TESTDIR/x) R 0 (y,\"z" 60
	once --names
	[ "$(row "$OTHER" | cut -d, -f3)" = 'x) R 0 (y\x2c\x22z' ]
	report >/dev/null
}

@test "a study ends when it has its samples, those before included" {
	need_root
	study --out "$STUDY" --interval 1s --count 2
	[ "$(samples)" -eq 2 ]
	study --out "$STUDY" --interval 1s --count 2
	[ "$(samples)" -eq 2 ]
	study --out "$STUDY" --interval 1 --count 3
	[ "$(samples)" -eq 3 ]
	sleep 1
	once
	[ "$(samples)" -eq 4 ]
	well_formed
}

@test "a study that goes on waits until its next sample is due" {
	local last

	need_root
	once
	last=$(tail -n 1 "$TABLES" | cut -d, -f1)
	study --out "$STUDY" --interval 3s --count 2
	[ $(($(tail -n 1 "$TABLES" | cut -d, -f1) - last)) -ge 3 ]
}

@test "a study that was killed in the middle of a row goes on after the last whole one" {
	local whole

	need_root
	# The kernel writes as much of a row as fits, and kills the writer.
	run bash -c 'ulimit -c 0; ulimit -f 1
		exec "$1" study --out "$2" --once' bash "$DARKSHADOW" "$STUDY"
	[ "$status" -eq $((128 + 25)) ]
	[ "$(stat -c %s "$TABLES")" -eq 1024 ]
	run ! well_formed
	whole=$(head -c 1024 "$TABLES" | sed '$d')
	run once
	[ "$status" -eq 0 ]
	[[ $output == *"was torn"* ]]
	well_formed
	[ "$(head -n "$(wc -l <<<"$whole")" "$TABLES")" = "$whole" ]
	run --separate-stderr report
	[ "$status" -eq 0 ]
}

@test "a study that was killed as it began begins again" {
	local n

	need_root
	mkdir "$STUDY"
	for n in 0 1 100; do
		head -c "$n" "$FIXTURES/tables.csv" >"$TABLES"
		once
		well_formed
		[ "$(samples)" -eq 1 ]
	done
}

@test "a study that is killed again and again loses nothing" {
	local i before=0

	need_root
	for ((i = 0; i < 10; i++)); do
		DS_TEST_MARK=$DS_MARK "$DARKSHADOW" study --out "$STUDY" \
			--interval 1s 3>&- 2>/dev/null &
		RUN=$!
		sleep "0.$((RANDOM % 9))5"
		kill -KILL "$RUN"
		wait "$RUN" || true
		[ "$(wc -l <"$TABLES")" -ge "$before" ]
		before=$(wc -l <"$TABLES")
	done
	once
	well_formed
}

@test "what is not of a study is not cut off to go on" {
	need_root
	fixture
	sed -i '5s/.*/mine/' "$TABLES"
	cp "$TABLES" "$TESTDIR/before"
	run once --names
	complains "tables.csv:5: this is no row"
	cmp "$TABLES" "$TESTDIR/before"
	echo mine >"$TABLES"
	run once
	complains "does not begin as a study does"
	[ "$(cat "$TABLES")" = mine ]
	ln -sf "$TESTDIR/before" "$TABLES"
	run once
	complains "cannot write"
}

@test "two studies cannot go on in one directory" {
	need_root
	DS_TEST_MARK=$DS_MARK "$DARKSHADOW" study --out "$STUDY" 3>&- 2>/dev/null &
	RUN=$!
	eventually test -s "$TABLES"
	run once
	complains "is being written by another"
}

@test "a disk that is full ends a study, which can go on" {
	need_root
	mkdir "$STUDY"
	mount -t tmpfs -o size=4k none "$STUDY" || skip "no tmpfs here"
	for _ in {1..100}; do
		background sleep 60
	done
	run once --names
	umount -l "$STUDY"
	complains "No space left on device; make room"
}

@test "a terminal sees how far it is" {
	need_root
	run script -qec "'$DARKSHADOW' study --out '$STUDY' --interval 2s \
		--count 2" /dev/null 3>&-
	[ "$status" -eq 0 ]
	[[ $output == *"sample 1 of 2"*"page tables"*"sample 2 of 2 in 0:00:0"* ]]
	run study --out "$STUDY" --count 2
	[ -z "$output" ]
}

@test "an ordinary user is refused, and told why" {
	as_user
	run once
	complains "page tables cannot be read.*run it as root"
	[ ! -e "$STUDY" ]
}

@test "of a thousand processes a sample takes less than 5% of a core" {
	local used

	need_root
	background /usr/bin/python3 -c '
import os, time
for i in range(1000):
    if os.fork() == 0:
        os.execv("/bin/sleep", ["sleep", "600"])
print("up", flush=True)
time.sleep(600)' >"$TESTDIR/up"
	eventually test -s "$TESTDIR/up"
	used=$(/usr/bin/python3 -c '
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(int(1000 * (used.ru_utime + used.ru_stime)))' \
		"$DARKSHADOW" study --out "$STUDY" --once)
	pkill -KILL -P "$OTHER"
	echo "# $used ms of 15 minutes" >&3
	[ "$(tail -n +3 "$TABLES" | wc -l)" -ge 1000 ]
	[ "$used" -lt $((15 * 60 * 1000 * 5 / 100)) ]
}

# --- options ---------------------------------------------------------------

@test "intervals that are none are refused" {
	local text

	for text in '' 0 0s -1 1w 1.5h 15min 367d ' 1s' 99999999999999999999; do
		run study --out "$STUDY" --interval "$text"
		complains "no interval \(expected 1s to 366d"
	done
	[ ! -e "$STUDY" ]
}

@test "options that do not fit are refused" {
	local text

	run study
	complains "give --out DIR"
	for text in 0 -1 1K x ''; do
		run study --out "$STUDY" --count "$text"
		complains "no number of samples"
	done
	run study --out "$STUDY" --once --count 3
	complains "one too many"
	run study --out "$STUDY" --once --json
	complains "--json is for a report"
	run study report
	complains "no directory"
	run study report "$STUDY" --once
	complains "not for a report"
	run study report "$STUDY" "$STUDY"
	complains "unexpected argument"
	run study "$STUDY"
	complains "unexpected argument"
	[ ! -e "$STUDY" ]
}
