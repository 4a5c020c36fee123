#!/usr/bin/env bats
# vm.bats - the bench itself: real guests boot and run commands as tests need

# What is in single quotes is for the guest's shell; bats sets stderr.
# shellcheck disable=SC2016,SC2154

load helpers

KINDS="uml qemu"

setup_file() {
	local kind pids=() pid

	BUILD=$(cd "${BUILD:-$BATS_TEST_DIRNAME/../build}" && pwd)
	VM=$BATS_TEST_DIRNAME/vm
	VMS=$(mktemp -d /tmp/ds-vm.XXXXXX)
	chmod 755 "$VMS"
	export BUILD VM VMS
	"$VM/kernels.sh"
	for kind in $KINDS; do
		DS_VM_DIR=$VMS/$kind "$VM/vm.sh" start "$kind" \
			--name "test-$kind" 3>&- &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid"
	done
}

teardown_file() {
	local kind

	for kind in $KINDS; do
		DS_VM_DIR=$VMS/$kind "$VM/vm.sh" stop
	done
	rm -rf "$VMS"
}

setup() {
	common_setup
}

# guest CMD... - in the machine that "each" is at
guest() {
	timeout --foreground -k 10 "$DS_TEST_TIMEOUT" "$VM/guest" "$@" 3>&-
}

# each FUNCTION - for both machines; the first that fails is named
each() {
	local kind

	for kind in $KINDS; do
		export DS_VM_DIR=$VMS/$kind
		echo "in $kind:"
		"$1" "$kind"
	done
}

@test "the kernel is the guest's own" {
	own_kernel() {
		run -0 guest uname -rn
		[ "${output%% *}" = "test-$1" ]
		[ "${output#* }" != "$(uname -r)" ]
	}
	each own_kernel
}

@test "output, error, input and status pass through" {
	streams() {
		run -7 --separate-stderr guest sh -c \
			'echo out; echo err >&2; exit 7'
		[ "$output" = out ]
		[ "$stderr" = err ]
		run -0 guest cat <<<"to and fro"
		[ "$output" = "to and fro" ]
		run -0 guest cat </dev/null
		[ -z "$output" ]
	}
	each streams
}

@test "output and error that are one file keep their order" {
	order() {
		run -0 guest sh -c 'for i in 1 2 3; do echo $i; echo $i >&2; done'
		[ "$output" = $'1\n1\n2\n2\n3\n3' ]
	}
	each order
}

@test "a command that a signal kills looks so" {
	killed() {
		run -143 guest sh -c 'kill -TERM $$'
		run -137 guest sh -c 'kill -KILL $$'
	}
	each killed
}

@test "what cannot be run says so" {
	cannot() {
		run -127 guest /no/such/command
		[[ $output == *"/no/such/command"*"No such file"* ]]
		run -126 guest /etc/passwd
		[[ $output == *"/etc/passwd"*"Permission denied"* ]]
	}
	each cannot
}

@test "directory, environment, umask and user are the caller's" {
	context() {
		cd "$HOSTDIR"
		run -0 env PROBE="a b" sh -c 'umask 027 && "$@"' sh \
			"$VM/guest" sh -c 'pwd; echo "$PROBE"; umask; id -u'
		[ "$output" = "$HOSTDIR"$'\na b\n0027\n0' ]
		as_user
		run -0 "${DS_AS[@]}" "$VM/guest" id -u
		[ "$output" = "$(id -u nobody)" ]
	}
	each context
}

@test "the host's files are there, and what is written gets to the host" {
	files() {
		run -0 guest cat "$TESTDIR/secret"
		[ "$output" = "the secret of the host" ]
		guest sh -c 'echo guest >"$1"; rm "$2"' sh \
			"$TESTDIR/written" "$TESTDIR/secret"
		[ "$(cat "$TESTDIR/written")" = guest ]
		[ ! -e "$TESTDIR/secret" ]
		echo "the secret of the host" >"$TESTDIR/secret"
		echo "changed by the host" >"$TESTDIR/written"
		run -0 guest cat "$TESTDIR/written"
		[ "$output" = "changed by the host" ]
	}
	each files
}

@test "a directory is the guest's own" {
	local_files() {
		guest sh -c 'mkfifo /run/ds-local/fifo && rm /run/ds-local/fifo'
		guest sh -c 'echo x >/run/ds-local/x'
		[ ! -e /run/ds-local ]
	}
	each local_files
}

@test "two commands run at once, and see each other" {
	at_once() {
		guest sh -c 'until [ -e /run/ds-local/go ]; do sleep 0.1; done
			echo first' >"$TESTDIR/first" &
		run -0 guest sh -c 'echo second; : >/run/ds-local/go'
		[ "$output" = second ]
		wait $!
		[ "$(cat "$TESTDIR/first")" = first ]
	}
	each at_once
}

@test "20 MB of output are unharmed, also while another reads nothing" {
	local wanted

	wanted=$(seq 2600000 | head -c 20000000 | sha256sum)
	much() {
		mkfifo "$TESTDIR/full-$1"
		exec 7<>"$TESTDIR/full-$1"
		"$VM/guest" -k cat /dev/zero >&7 3>&- 7>&- &
		guest sh -c 'seq 2600000 | head -c 20000000' |
			sha256sum >"$TESTDIR/sum"
		kill -KILL $!
		wait $! 2>/dev/null || true
		exec 7>&-
		[ "$(cat "$TESTDIR/sum")" = "$wanted" ]
	}
	each much
}

@test "2 MB of input are unharmed" {
	local wanted

	seq 400000 | head -c 2000000 >"$TESTDIR/input"
	wanted=$(sha256sum <"$TESTDIR/input")
	input() {
		run -0 guest sha256sum <"$TESTDIR/input"
		[ "$output" = "$wanted" ]
	}
	each input
}

@test "signals are passed on, and an early reader's end is noticed" {
	signals() {
		"$VM/guest" sh -c 'trap "echo caught; exit 3" USR1; echo ready
			while :; do sleep 0.1; done' >"$TESTDIR/caught" 3>&- &
		eventually grep -q ready "$TESTDIR/caught"
		kill -USR1 $!
		status=0
		wait $! || status=$?
		[ "$status" -eq 3 ]
		grep -q caught "$TESTDIR/caught"
		run -0 bash -o pipefail -c '"$1" sh -c "yes; :" | head -n 1' \
			bash "$VM/guest"
		[ "$output" = y ]
	}
	each signals
}

@test "a command whose client is killed does not stay" {
	orphan() {
		for option in "" -k; do
			# shellcheck disable=SC2086
			"$VM/guest" $option sh -c 'echo $$; exec sleep 1000' \
				>"$TESTDIR/pid" 3>&- &
			eventually test -s "$TESTDIR/pid"
			guest test -d "/proc/$(cat "$TESTDIR/pid")"
			kill -KILL $!
			eventually guest test ! -d \
				"/proc/$(cat "$TESTDIR/pid")"
			rm "$TESTDIR/pid"
		done
	}
	each orphan
}

@test "output of those whom a command leaves behind still comes" {
	behind() {
		run -0 guest sh -c '(sleep 0.3; echo late) & echo early'
		[ "$output" = $'early\nlate' ]
	}
	each behind
}

# ram_of KIND - path of the VMM's descriptor of the guest's memory
ram_of() {
	local pid fd

	pid=$(cat "$VMS/$1/vmm.pid")
	for fd in "/proc/$pid/fd"/*; do
		case $(readlink "$fd") in
		/memfd:memory-backend-memfd*) echo "$fd" ;;
		"/dev/shm/"*" (deleted)") echo "$fd" ;;
		esac
	done
}

@test "a page's frame number leads to it in the machine's memory" {
	frame() {
		local pfn

		mkfifo "$TESTDIR/hold-$1"
		guest "$BUILD/vm/probe" page "needle in $1" \
			<"$TESTDIR/hold-$1" >"$TESTDIR/frame" &
		exec 7>"$TESTDIR/hold-$1"
		eventually test -s "$TESTDIR/frame"
		pfn=$(cat "$TESTDIR/frame")
		[ "$pfn" -gt 0 ]
		run -0 dd if="$(ram_of "$1")" bs=4096 skip="$pfn" count=1 \
			status=none
		exec 7>&-
		wait $!
		rm "$TESTDIR/frame"
		[[ $output == "needle in $1"* ]]
	}
	each frame
}

@test "pagemap shows what is the guest's own" {
	pagemap() {
		run -0 guest "$BUILD/vm/probe" pagemap "$TESTDIR/secret"
		[[ $output == *"anonymous: present 1 swapped 0 file 0 \
exclusive 1 frame yes"* ]]
		[[ $output == *"zero page: present 1 swapped 0 file 0 \
exclusive 0 frame yes"* ]]
	}
	each pagemap
}

@test "host and guest share the memory of ivshmem or mmapper" {
	shared() {
		local device=/dev/mmapper

		if [ "$1" = qemu ]; then
			device=$(guest sh -c 'grep -l 0x1110 \
				/sys/bus/pci/devices/*/device')
			device=${device%/device}/resource2
		fi
		"$BUILD/vm/probe" poke "$VMS/$1/shm" 4096 "from the host"
		run -0 guest "$BUILD/vm/probe" peek "$device" 4096
		[ "$output" = "from the host" ]
		guest "$BUILD/vm/probe" poke "$device" 4000000 "from $1"
		run -0 "$BUILD/vm/probe" peek "$VMS/$1/shm" 4000000
		[ "$output" = "from $1" ]
	}
	each shared
}

@test "io_uring pins anonymous memory" {
	uring() {
		run -0 guest "$BUILD/vm/probe" uring "$TESTDIR/secret"
		[[ $output == *"io_uring_setup: ok"* ]]
		[[ $output == *"anonymous buffer: ok"* ]]
	}
	each uring
}

# session_gone SID,SID - nothing lives of them
session_gone() {
	! grep -qv '^Z' <<<"$(ps -s "$1" -o stat= || echo Z)"
}

@test "killing the VMM or the mux leaves nothing, and the next start works" {
	local victim sid dir=$VMS/killed

	export DS_VM_DIR=$dir
	for victim in vmm.pid mux.pid; do
		"$VM/vm.sh" start uml
		sid=$(cat "$dir/mux.pid"),$(cat "$dir/vmm.pid")
		"$VM/guest" sleep 1000 3>&- &
		guest true
		kill -KILL "$(cat "$dir/$victim")"
		status=0
		wait $! || status=$?
		[ "$status" -eq 125 ]
		"$VM/vm.sh" wait 10
		"$VM/vm.sh" stop
		eventually session_gone "$sid"
	done
	run -125 guest true
	[[ $output == *"does the virtual machine run"* ]]
}
