# SPDX-License-Identifier: MIT
# darkshadow.fish - completion for fish

# The index of the first word of the COMMAND of run, sniff or maps among the words
# of the line; fails where the cursor is before it. That of maps stands behind --
# only.
function __fish_darkshadow_start
    set -l words (commandline -opc)
    set -l i 3
    while test $i -le (count $words)
        switch $words[$i]
            case --
                echo (math $i + 1)
                return 0
            case -f -p -t -o --forward --policy --transport --trace --timeout --output
                set i (math $i + 1)
            case '-*'
            case '*'
                test $words[2] = maps
                and return 1
                echo $i
                return 0
        end
        set i (math $i + 1)
    end
    # One past the end: the word at the cursor is the COMMAND, if it is one.
    test $words[2] != maps
    and test $i -eq (math (count $words) + 1)
    and not string match -q -- '-*' (commandline -ct)
    and echo $i
end

# Is the cursor behind darkshadow $argv[1], and before a COMMAND?
function __fish_darkshadow_in
    set -l words (commandline -opc)
    test (count $words) -ge 2
    and test $words[2] = $argv[1]
    or return 1
    not contains $argv[1] run sniff maps
    or not __fish_darkshadow_start >/dev/null
end

function __fish_darkshadow_in_command
    set -l words (commandline -opc)
    test (count $words) -ge 2
    and contains $words[2] run sniff maps
    and __fish_darkshadow_start >/dev/null
end

function __fish_darkshadow_command
    set -l words (commandline -opc)
    set -l start (__fish_darkshadow_start)
    set -l command $words[$start..-1]
    test $start -le (count $words)
    or set command
    complete -C (string join -- ' ' (string escape -- $command) \
        (commandline -ct))
end

# What was typed of the value of the option at the cursor.
function __fish_darkshadow_value
    string replace -r -- '^--[a-z]+=' '' (commandline -ct)
end

# Files whose name begins with $argv[2], each after $argv[1].
function __fish_darkshadow_files
    for name in (__fish_complete_path $argv[2])
        echo $argv[1]$name
    end
end

function __fish_darkshadow_rules
    set -l value (__fish_darkshadow_value)
    switch $value
        case 'path:*:*'
            set -l head (string replace -r ':[^:]*$' '' -- $value)
            printf '%s\t%s\n' $head:ro 'read only' $head:rw 'read and write'
        case 'path:*=*' 'dev:*=*'
            set -l parts (string split -m 1 = -- $value)
            __fish_darkshadow_files $parts[1]= $parts[2]
        case 'path:*' 'dev:?*'
            set -l parts (string split -m 1 : -- $value)
            __fish_darkshadow_files $parts[1]: $parts[2]
        case dev:
            __fish_darkshadow_files dev: /dev/
        case '*'
            printf '%s\t%s\n' path: 'a directory or file' \
                dev: 'a device node' \
                net 'sockets of the network of the host' \
                eventfd 'eventfds are of the host' \
                fuse 'file systems by /dev/fuse are mounted' \
                all 'all but what is of the process itself'
    end
end

function __fish_darkshadow_transports
    set -l value (__fish_darkshadow_value)
    for head in loopback: shm: hypercall:connect= hypercall:
        if string match -q -- $head'*' $value
            __fish_darkshadow_files $head (string replace -- $head '' $value)
            return
        end
    end
    if test $argv[1] = run
        printf '%s\t%s\n' auto choose loopback 'start a sibling host here' \
            shm 'by the shared memory of this virtual machine' \
            hypercall 'the same with a doorbell'
    else
        printf '%s\t%s\n' hypercall:connect= 'a socket where QEMU listens'
    end
    printf '%s\t%s\n' loopback: 'the socket of a daemon' \
        shm: 'a file of shared memory' hypercall: 'a socket, or a device'
end

# Not the names of machines: to list them, their monitors are asked.
function __fish_darkshadow_vms
    set -l value (__fish_darkshadow_value)
    if string match -q 'qmp:*' -- $value
        __fish_darkshadow_files qmp: (string replace qmp: '' -- $value)
        return
    end
    printf '%s\t%s\n' uml: 'a User-Mode Linux' pid: 'a process' \
        qmp: 'a QMP socket'
end

complete -c darkshadow -f

complete -c darkshadow -n __fish_use_subcommand -l help -d 'Show how darkshadow is used'
complete -c darkshadow -n __fish_use_subcommand -l version -d 'Show the version'
complete -c darkshadow -n __fish_use_subcommand -a run -d 'Run a program with forwarded calls'
complete -c darkshadow -n __fish_use_subcommand -a host -d 'Carry out calls for runs'
complete -c darkshadow -n __fish_use_subcommand -a sniff -d 'Write a policy of what a program uses'
complete -c darkshadow -n __fish_use_subcommand -a vms -d 'List virtual machines'
complete -c darkshadow -n __fish_use_subcommand -a maps -d 'Show an address space as extents'
complete -c darkshadow -n __fish_use_subcommand -a study -d 'Sample page tables, and report on them'
complete -c darkshadow -n __fish_use_subcommand -a doctor -d 'Find out what is missing here'
complete -c darkshadow -n __fish_use_subcommand -a help -d 'Show how a command is used'

complete -c darkshadow -n '__fish_darkshadow_in help' -a 'run host sniff vms maps study doctor'

set -l in_run -c darkshadow -n '__fish_darkshadow_in run'
complete $in_run -s f -l forward -x -a '(__fish_darkshadow_rules)' -d 'Forward what RULE names'
complete $in_run -s p -l policy -r -F -d 'Policy of the sibling host'
complete $in_run -s t -l transport -x -a '(__fish_darkshadow_transports run)' -d 'How to reach the daemon'
complete $in_run -l max-regions -x -d 'Regions that a shadow maps at most'
complete $in_run -l eager -x -a '1M 4M 16M 64M' -d 'Present at once up to this size'
complete $in_run -l no-patch -d 'Leave the code of the command alone'
complete $in_run -l huge -x -a '0 2M 16M 64M' -d 'Huge pages from this size on'
complete $in_run -l verify -d 'Compare what shadows map'
complete $in_run -l pins -x -a 'io_uring xdp' -d 'How memory is kept where it is'
complete $in_run -s s -l stats -d 'Print counters at exit'
complete $in_run -l trace -r -F -a '-\tstandard\ error' -d 'Write a line a forwarded call'
complete $in_run -l timeout -x -a '1 5 10 30 60' -d 'Seconds to wait for the daemon'
complete $in_run -s q -l quiet -d 'Say less'
complete $in_run -s v -l verbose -d 'Say more'
complete $in_run -l help -d 'Show how run is used'

set -l in_host -c darkshadow -n '__fish_darkshadow_in host'
complete $in_host -s t -l transport -x -a '(__fish_darkshadow_transports host)' -d 'Where to listen'
complete $in_host -s p -l policy -r -F -d 'What runs may do'
complete $in_host -s a -l allow -x -a '(__fish_darkshadow_rules)' -d 'Allow what RULE names'
complete $in_host -s m -l vm -x -a '(__fish_darkshadow_vms)' -d 'Serve the runs inside a VM'
complete $in_host -s w -l wait -d 'Wait for the VM'
complete $in_host -s W -l window -x -a '16M 64M 256M qmp' -d 'Room for memory of devices, or qmp'
complete $in_host -s q -l quiet -d 'Say less'
complete $in_host -s v -l verbose -d 'Say more'
complete $in_host -l help -d 'Show how host is used'

set -l in_sniff -c darkshadow -n '__fish_darkshadow_in sniff'
complete $in_sniff -s o -l output -r -F -d 'Write the policy to FILE'
complete $in_sniff -l system -d 'List what every Linux has as well'
complete $in_sniff -l help -d 'Show how sniff is used'

set -l in_vms -c darkshadow -n '__fish_darkshadow_in vms'
complete $in_vms -s j -l json -d 'Print JSON'
complete $in_vms -l help -d 'Show how vms is used'

set -l in_maps -c darkshadow -n '__fish_darkshadow_in maps'
complete $in_maps -l collapse -d 'Make huge pages of a command at its end'
complete $in_maps -s j -l json -d 'Print JSON'
complete $in_maps -s o -l output -r -F -d 'Write to FILE'
complete $in_maps -l proc -x -a '(__fish_complete_directories)' -d 'Read recorded data in DIR'
complete $in_maps -s s -l summary -d 'Print the totals only'
complete $in_maps -l help -d 'Show how maps is used'
complete $in_maps -x -a '(__fish_complete_pids)'

set -l in_doctor -c darkshadow -n '__fish_darkshadow_in doctor'
complete $in_doctor -s j -l json -d 'Print JSON'
complete $in_doctor -l help -d 'Show how doctor is used'
complete $in_doctor -a run -d 'The guest side'
complete $in_doctor -a host -d 'The host side'
complete $in_doctor -a 'loopback shm hypercall' -d 'A transport'

set -l in_study -c darkshadow -n '__fish_darkshadow_in study'
complete $in_study -a 'report\t"Report what a study has found" (__fish_complete_directories)'
complete $in_study -s o -l out -x -a '(__fish_complete_directories)' -d 'Where the study, or its report, is'
complete $in_study -s i -l interval -x -a '1m 15m 1h' -d 'Take a sample every TIME'
complete $in_study -s c -l count -x -a '96 672' -d 'End when there are N samples'
complete $in_study -l once -d 'Take one more sample'
complete $in_study -l names -d 'Write names, not hashes'
complete $in_study -s j -l json -d 'Print the report as JSON'
complete $in_study -l help -d 'Show how study is used'

complete -c darkshadow -n __fish_darkshadow_in_command -x -a '(__fish_darkshadow_command)'
