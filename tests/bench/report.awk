# SPDX-License-Identifier: MIT
# report.awk - lines "SIDE NAME NANOSECONDS" to tables, or to JSON (json=1)
#
# A figure is the median of its lines; a ratio is to native. What of a side is
# absent is left out.

function call(name, text) { say[name] = text; kind[name] = "call" }
function program(name, text) { say[name] = text; kind[name] = "program" }

BEGIN {
	call("pread_1", "forwarded pread of 1 byte")
	call("pread_1_p50", "  a single one, median")
	call("pread_1_p99", "  99 % are faster than")
	call("pread_1m", "forwarded pread of 1 MiB")
	call("fstat", "forwarded fstat")
	call("threads_1", "forwarded pread by a thread")
	call("threads_8", "  by 8 at once, each one's share")
	call("map_pread", "mmap, forwarded pread, munmap")
	call("getpid", "unforwarded getpid")
	call("read_local", "unforwarded read of 1 byte")
	call("mmap_untouched", "mmap and munmap of 1 MiB")
	call("mmap_munmap", "  a page of it touched")
	call("mmap_touched", "  all of it touched")
	call("device_load", "64 KiB loaded from a mapped device")
	call("own_load", "  from memory of one's own")
	call("device_store", "64 KiB stored to a mapped device")
	call("own_store", "  to memory of one's own")
	call("device_map", "mmap, touch and munmap of a device")
	call("pagemap", "page table of a million pages")
	call("pagemap_scattered", "  of pages without order")
	call("fork_exec", "fork, exec and wait of /bin/true")
	call("startup", "start-up to main")
	call("pingpong", "spinning threads, a round trip")
	call("pingpong_p50", "  a single one, median")
	call("pingpong_p99", "  99 % are faster than")
	program("find", "find, 20000 files")
	program("git_status", "git status, 3000 files")
	program("git_large", "git status, 20000 files")
	program("sqlite_10k", "sqlite3, 100 times 100 inserts")
	program("sqlite_each", "sqlite3, 200 times 1")
	program("sqlite_nosync", "  1000 times 1, not synchronous")
	program("python", "python3, nothing forwarded")
	program("gcc", "gcc -c, 150 headers")
	kind["idle_cpu"] = "idle"
	ncalls = split("pread_1 pread_1_p50 pread_1_p99 pread_1m fstat " \
		"threads_1 threads_8 map_pread getpid read_local " \
		"mmap_untouched mmap_munmap mmap_touched device_load own_load " \
		"device_store own_store device_map pagemap " \
		"pagemap_scattered fork_exec startup " \
		"pingpong pingpong_p50 pingpong_p99", calls, " ")
	nprograms = split("find git_status git_large sqlite_10k sqlite_each " \
		"sqlite_nosync python gcc", programs, " ")
	nsides = split("native darkshadow no_patch strace strace_bpf proot",
		sides, " ")
	head["native"] = "native"
	head["darkshadow"] = "darkshadow"
	head["no_patch"] = "--no-patch"
	head["strace"] = "strace"
	head["strace_bpf"] = "strace-bpf"
	head["proot"] = "proot"
}

{
	if (!($2 in kind)) {
		print "report.awk: what is " $2 "?" >"/dev/stderr"
		exit 1
	}
	v[$1, $2, ++count[$1, $2]] = $3 + 0
	here[$1, kind[$2]]
}

function has(side, name) { return (side, name) in count }

function median(side, name,    n, i, j, t, a) {
	n = count[side, name]
	for (i = 1; i <= n; i++)
		a[i] = v[side, name, i]
	for (i = 2; i <= n; i++)
		for (j = i; j > 1 && a[j] < a[j - 1]; j--) {
			t = a[j]; a[j] = a[j - 1]; a[j - 1] = t
		}
	return a[int((n + 1) / 2)]
}

function ratio(side, name) {
	return median(side, name) / median("native", name)
}

# gain(side) - how many times as much 8 threads get done as one
function gain(side) {
	return median(side, "threads_1") / median(side, "threads_8")
}

# Every side of the kind: its time, and its ratio but for native.
function table(title, of_kind, names, n, unit, ns,    i, k, side, name) {
	printf "%-34s", title
	for (k = 1; k <= nsides; k++) {
		side = sides[k]
		if ((side, of_kind) in here)
			printf " %13s%s", head[side],
				k == 1 ? "" : "   ratio"
	}
	print ""
	for (i = 1; i <= n; i++) {
		name = names[i]
		if (!has("native", name))
			continue
		printf "%-34s", say[name]
		for (k = 1; k <= nsides; k++) {
			side = sides[k]
			if (!has(side, name))
				continue
			printf " %10.2f %s", median(side, name) / ns, unit
			if (k > 1)
				printf " %7.2f", ratio(side, name)
		}
		print ""
	}
}

function tables(    k, side) {
	if (("native", "call") in here)
		table("", "call", calls, ncalls, "us", 1000)
	for (k = 1; k <= 3; k++) {
		side = sides[k]
		if (has(side, "threads_8"))
			printf "8 threads at once, %s: %.2f times one\n",
				head[side], gain(side)
	}
	for (k = 1; k <= 3; k++) {
		side = sides[k]
		if (has(side, "idle_cpu"))
			printf "CPU time in %d s of rest, %s: %.3f ms\n",
				rest_s, head[side],
				median(side, "idle_cpu") / 1e6
	}
	if (("native", "program") in here)
		table("whole programs", "program", programs, nprograms, "ms",
			1e6)
}

function object(name, body) {
	printf "%s\n  \"%s\": {%s}", comma, name, substr(body, 3)
	comma = ","
}

function object_of(name,    k, side, body, key) {
	for (k = 1; k <= nsides; k++) {
		side = sides[k]
		if (!has(side, name))
			continue
		body = body sprintf(", \"%s_ns\": %.1f", side,
			median(side, name))
		key = side == "darkshadow" ? "ratio" : side "_ratio"
		if (side != "native" && kind[name] != "idle")
			body = body sprintf(", \"%s\": %.3f", key,
				ratio(side, name))
	}
	if (body)
		object(name, body)
}

function all_json(    i, body) {
	printf "{"
	for (i = 1; i <= ncalls; i++)
		object_of(calls[i])
	for (i = 1; i <= 3; i++)
		if (has(sides[i], "threads_8"))
			body = body sprintf(", \"%s\": %.3f", sides[i],
				gain(sides[i]))
	if (body)
		object("threads_8_gain", body)
	object_of("idle_cpu")
	for (i = 1; i <= nprograms; i++)
		object_of(programs[i])
	print "\n}"
}

END {
	if (json)
		all_json()
	else
		tables()
}
