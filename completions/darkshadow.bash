# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# darkshadow.bash - completion for bash
#
# readline splits words at "=" and ":" too, so "--forward=path:/mnt" arrives
# as five words. _darkshadow_words puts them together again; what is offered
# is cut at the last such break before readline sees it.

# Sets words, cword and first of the caller: the words up to the cursor, and
# where in COMP_WORDS each of them begins.
_darkshadow_words() {
	local line=${COMP_LINE-} word i

	words=() first=() cword=-1
	for ((i = 0; i <= COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if ((i == 0)) || [[ $line == [[:blank:]]* ]]; then
			words[++cword]=$word
			first[cword]=$i
			line=${line#"${line%%[![:blank:]]*}"}
		else
			words[cword]+=$word
		fi
		line=${line#"$word"}
	done
}

# Offers "$1" + each name of a file that begins with $2.
_darkshadow_files() {
	compopt -o filenames -o nospace 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -P "$1" -f -- "$2")
}

_darkshadow_wordlist() {
	mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2")
}

_darkshadow_rule() {
	local cur=$1 rest

	case $cur in
	path:*:*)
		_darkshadow_wordlist "${cur%:*}:ro ${cur%:*}:rw" "$cur"
		;;
	path:*=*|dev:*=*)
		_darkshadow_files "${cur%%=*}=" "${cur#*=}"
		;;
	path:*)
		_darkshadow_files path: "${cur#*:}"
		;;
	dev:*)
		rest=${cur#*:}
		_darkshadow_files dev: "${rest:-/dev/}"
		;;
	*)
		compopt -o nospace 2>/dev/null
		_darkshadow_wordlist 'path: dev: net eventfd fuse all' "$cur"
		;;
	esac
}

# $1: the names of the transports for this command, $2: what was typed
_darkshadow_transport() {
	case $2 in
	hypercall:connect=*)
		_darkshadow_files hypercall:connect= "${2#*=}"
		;;
	loopback:*|shm:*|hypercall:*)
		_darkshadow_files "${2%%:*}:" "${2#*:}"
		;;
	*)
		compopt -o nospace 2>/dev/null
		_darkshadow_wordlist "$1" "$2"
		;;
	esac
}

# Not the names of machines: to list them, their monitors are asked.
_darkshadow_vm() {
	case $1 in
	qmp:*)
		_darkshadow_files qmp: "${1#*:}"
		;;
	*)
		compopt -o nospace 2>/dev/null
		_darkshadow_wordlist 'uml: pid: qmp:' "$1"
		;;
	esac
}

# The value of option $2 of command $1, of which $3 has been typed.
# Not 0: the option takes no value.
_darkshadow_value() {
	case $1$2 in
	run-f|run--forward|host-a|host--allow)
		_darkshadow_rule "$3"
		;;
	run-p|run--policy|host-p|host--policy|sniff-o|sniff--output|\
	maps-o|maps--output|maps--proc|study-o|study--out)
		_darkshadow_files '' "$3"
		;;
	study-i|study--interval)
		_darkshadow_wordlist '1m 15m 1h' "$3"
		;;
	study-c|study--count)
		_darkshadow_wordlist '96 672' "$3"
		;;
	run--trace)
		_darkshadow_files '' "$3"
		[[ -n $3 ]] || COMPREPLY+=(-)
		;;
	run-t|run--transport)
		_darkshadow_transport 'auto loopback loopback: shm shm:
			hypercall hypercall:' "$3"
		;;
	host-t|host--transport)
		_darkshadow_transport 'loopback: shm: hypercall:
			hypercall:connect=' "$3"
		;;
	host-m|host--vm)
		_darkshadow_vm "$3"
		;;
	host-W|host--window)
		_darkshadow_wordlist '16M 64M 256M qmp' "$3"
		;;
	run--huge)
		_darkshadow_wordlist '0 2M 16M 64M' "$3"
		;;
	run--pins)
		_darkshadow_wordlist 'io_uring xdp' "$3"
		;;
	run--timeout)
		_darkshadow_wordlist '1 5 10 30 60' "$3"
		;;
	*)
		return 1
		;;
	esac
}

_darkshadow_options() {
	case $1 in
	run)
		echo '-f --forward= -p --policy= -t --transport= -s --stats
			--eager= --max-regions= --huge= --no-patch --verify --pins= --trace= --timeout= -q --quiet -v --verbose --help'
		;;
	host)
		echo '-t --transport= -p --policy= -a --allow= -m --vm=
			-w --wait -W --window= -q --quiet -v --verbose --help'
		;;
	sniff)
		echo '-o --output= --system --help'
		;;
	vms|doctor)
		echo '-j --json --help'
		;;
	maps)
		echo '--collapse -j --json -o --output= --proc= -s --summary --help'
		;;
	study)
		echo '-o --out= -i --interval= -c --count= --once --names
			-j --json --help'
		;;
	*)
		echo '--help --version'
		;;
	esac
}

# Prints the index of the first word of the COMMAND of run, sniff or maps, or
# nothing where the cursor is before it or on an option. That of maps stands
# behind -- only.
_darkshadow_command_start() {
	local i

	for ((i = 2; i <= cword; i++)); do
		case ${words[i]} in
		--)
			((i < cword)) && echo $((i + 1))
			return
			;;
		-f|-p|-t|-o|--forward|--policy|--transport|--trace|--timeout|--output)
			((++i))
			;;
		-*)
			;;
		*)
			[[ ${words[1]} == maps ]] || echo "$i"
			return
			;;
		esac
	done
}

_darkshadow_pids() {
	_darkshadow_wordlist "$(cd /proc && printf '%s ' [1-9]*)" "$1"
}

# COMMAND and its arguments, by the completion that COMMAND has of its own.
_darkshadow_command() {
	local start=$1

	if declare -F _command_offset >/dev/null; then
		_command_offset "${first[start]}"
	elif ((start == cword)); then
		mapfile -t COMPREPLY < <(compgen -c -- "${words[cword]}")
	else
		_darkshadow_files '' "${words[cword]}"
	fi
}

# $1: the option and "=" where both are part of the word, $2: the rest of it.
# What stands before readline's last break is on the line already.
_darkshadow_trim() {
	local breaks=${COMP_WORDBREAKS//[!=:]/} head=

	[[ $breaks == *=* ]] || COMPREPLY=("${COMPREPLY[@]/#/$1}")
	[[ -z $breaks ]] || head=${2%"${2##*["$breaks"]}"}
	[[ -z $head ]] || COMPREPLY=("${COMPREPLY[@]/#"$head"/}")
}

_darkshadow() {
	local words first cword cur prev command start

	COMPREPLY=()
	_darkshadow_words
	cur=${words[cword]} prev=${words[cword - 1]}
	if ((cword == 1)); then
		_darkshadow_wordlist "run host sniff vms maps study doctor help $(_darkshadow_options '')" \
			"$cur"
		return
	fi
	command=${words[1]}
	if [[ $command == help ]]; then
		((cword > 2)) || _darkshadow_wordlist 'run host sniff vms maps study doctor' \
			"$cur"
		return
	fi
	if [[ $command == @(run|sniff|maps) ]]; then
		start=$(_darkshadow_command_start)
		if [[ -n $start ]]; then
			_darkshadow_command "$start"
			return
		fi
	fi

	if [[ $cur == --*=* ]]; then
		_darkshadow_value "$command" "${cur%%=*}" "${cur#*=}" || return
		_darkshadow_trim "${cur%%=*}=" "${cur#*=}"
	elif _darkshadow_value "$command" "$prev" "$cur"; then
		_darkshadow_trim '' "$cur"
	elif [[ $command == doctor && $cur != -* ]]; then
		_darkshadow_wordlist 'run host loopback shm hypercall' "$cur"
	elif [[ $command == study && $cur != -* ]]; then
		if [[ $prev == report ]]; then
			_darkshadow_files '' "$cur"
		elif ((cword == 2)); then
			_darkshadow_wordlist report "$cur"
		fi
	elif [[ $cur == -* || $command == @(host|vms) ]]; then
		_darkshadow_wordlist "$(_darkshadow_options "$command")" "$cur"
		[[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace 2>/dev/null
	elif [[ $command == maps ]]; then
		_darkshadow_pids "$cur"
	fi
	return 0
}

complete -F _darkshadow darkshadow
