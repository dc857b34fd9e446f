# Completion for dflock(1) in fish. Copy it into a directory of $fish_complete_path, as dflock.fish.

set -g __dflock_steps hold acquire renew release ls stat break ping signal listen bench version help
# Behind bench there are no options for TLS.
set -g __dflock_talks hold acquire renew release ls stat break ping signal listen version help

# Prints the words from the key on; the last one is the word being typed.
function __dflock_words
    set -l words (commandline -opc) (commandline -ct)
    set -e words[1]
    while set -q words[2]
        switch $words[1]
            case --server --token-file --tls-ca --tls-cert --tls-key --tls-server-name --id --group --lease --min-hold --max-hold --kill-after --on-lost --left --wait \
                --timeout --conflict-exit-code --limit --output -w -E -l -o '-[nqvxe]*[wElo]'
                set -e words[1]
            case '-*'
            case '*'
                break
        end
        set -e words[1]
    end
    printf '%s\n' $words
end

# Prints the keys that `dflock ls` shows, without the quotes that it puts around some; fish cannot read those that
# begin with a dollar sign. A server that does not answer within a second has none.
function __dflock_keys
    set -l words (commandline -opc)
    set -l asked
    for i in (seq 2 (count $words))
        switch $words[$i]
            case --tls '--server=*' '--token-file=*' '--tls-*=*'
                set -a asked $words[$i]
            case --server --token-file '--tls-*'
                set -q words[(math $i + 1)]; and set -a asked $words[$i] $words[(math $i + 1)]
        end
    end
    for row in (timeout 1 $words[1] $asked ls 2>/dev/null </dev/null)[2..-1]
        set -l key (string split -m 1 ' ' -- $row)[1]
        string match -q -- '$*' $key; or string unescape -- $key
    end
end

# True where the first word behind one of these steps stands, options apart.
function __dflock_first_behind
    __dflock_behind $argv; or return
    set -l words (__dflock_words)
    set -e words[1]
    while set -q words[2]
        switch $words[1]
            case --server --token-file --tls-ca --tls-cert --tls-key --tls-server-name --id --lease --min-hold --max-hold --wait --timeout --conflict-exit-code \
                --limit --output -w -E -l -o '-[nqvxe]*[wElo]'
                set -e words[1]
            case '-*'
            case '*'
                return 1
        end
        set -e words[1]
    end
end

function __dflock_wants_key
    test (count (__dflock_words)) -le 1
end

# True if one of these steps stands before the word being typed.
function __dflock_behind
    set -l words (__dflock_words)
    test (count $words) -gt 1; and contains -- $words[1] $argv
    and begin
        test (count $words) -eq 2; or not contains -- $words[2] -c --command
    end
end

# True where an option may stand: before the key, or behind one of these steps.
function __dflock_for
    __dflock_wants_key; or __dflock_behind $argv
end

# Completes the command behind the key as the shell completes commands.
function __dflock_command
    set -l words (__dflock_words)
    test (count $words) -gt 1; or return
    if test "$words[2]" = --; and not contains -- $words[1] $__dflock_steps
        set -e words[2]
        test (count $words) -gt 1; or return
    else if contains -- "$words[2]" -c --command; or contains -- $words[1] $__dflock_steps
        return
    end
    set -e words[1]
    set -l line (string join ' ' -- (string escape -- $words[1..-2]) $words[-1])
    string match -q -- '-*' $line; or complete -C $line
end

complete -c dflock -f
complete -c dflock -n '__dflock_for hold acquire' -s n -l nonblock -d 'do not wait'
complete -c dflock -n '__dflock_for hold acquire ls stat break ping' -s w -l wait -x -d 'wait up to this many seconds'
complete -c dflock -n '__dflock_for hold acquire' -s E -l conflict-exit-code -x -d 'exit status when the lock is not free in time'
complete -c dflock -n '__dflock_for hold acquire' -s q -l skip-ok -d 'exit 0 and print nothing if the lock is not free in time'
complete -c dflock -n '__dflock_for hold acquire renew release stat break' -s l -l limit -x -d 'use a semaphore with this many slots'
complete -c dflock -n '__dflock_for hold acquire renew' -l lease -x -d 'time that a lock outlives a failure'
complete -c dflock -n '__dflock_for hold' -l min-hold -x -d 'hold the lock for at least this time'
complete -c dflock -n '__dflock_for hold' -l max-hold -x -d 'stop the command after this time'
complete -c dflock -n __dflock_wants_key -l on-lost -x -a 'kill term ignore' -d 'what to do with the command when the lock is lost'
complete -c dflock -n __dflock_wants_key -l left -x -a 'stop wait' -d 'what to do with processes that the command leaves behind'
complete -c dflock -n __dflock_wants_key -l kill-after -x -d 'time from SIGTERM to SIGKILL'
complete -c dflock -n '__dflock_for $__dflock_steps' -l server -x -a '(__fish_print_hostnames):' -d 'the server'
complete -c dflock -n '__dflock_for $__dflock_steps' -l token-file -r -F -d 'file with the auth token'
complete -c dflock -n '__dflock_for $__dflock_talks' -l tls -d 'use TLS'
complete -c dflock -n '__dflock_for $__dflock_talks' -l tls-ca -r -F -d 'authority of the certificate of the server'
complete -c dflock -n '__dflock_for $__dflock_talks' -l tls-cert -r -F -d 'certificate for a server that wants one'
complete -c dflock -n '__dflock_for $__dflock_talks' -l tls-key -r -F -d 'key of that certificate'
complete -c dflock -n '__dflock_for $__dflock_talks' -l tls-server-name -x -a '(__fish_print_hostnames)' -d 'name that the certificate of the server must be for'
complete -c dflock -n '__dflock_for hold acquire renew release' -l id -x -d 'owner of the lock'
complete -c dflock -n '__dflock_for listen' -l group -x -d 'members of a group take turns'
complete -c dflock -n '__dflock_for hold acquire renew ls stat break signal listen' -s o -l output -x -a 'sh json' -d 'format of the output'
complete -c dflock -n '__dflock_for hold acquire renew release ls stat break ping signal listen version' -s v -l verbose -d 'tell on stderr what happens'
complete -c dflock -n '__dflock_for $__dflock_steps' -s h -l help -d 'print the options'
complete -c dflock -n __dflock_wants_key -s V -l version -d 'print the version'
complete -c dflock -n __dflock_wants_key -a '(__dflock_keys)' -d key
complete -c dflock -n '__dflock_first_behind hold acquire renew release ls stat break' -a '(__dflock_keys)' -d key
complete -c dflock -n __dflock_wants_key -a hold -d 'keep a lock until standard input ends'
complete -c dflock -n __dflock_wants_key -a acquire -d 'take a lock and print its token'
complete -c dflock -n __dflock_wants_key -a renew -d 'begin the lease anew'
complete -c dflock -n __dflock_wants_key -a release -d 'release the lock'
complete -c dflock -n __dflock_wants_key -a ls -d 'list the keys that are held or waited for'
complete -c dflock -n __dflock_wants_key -a stat -d 'show one key'
complete -c dflock -n __dflock_wants_key -a break -d 'end holds by force'
complete -c dflock -n __dflock_wants_key -a ping -d 'check that all servers answer'
complete -c dflock -n __dflock_wants_key -a signal -d 'send a signal to a channel'
complete -c dflock -n __dflock_wants_key -a listen -d 'print the signals of a pattern'
complete -c dflock -n __dflock_wants_key -a bench -d 'measure servers'
complete -c dflock -n __dflock_wants_key -a version -d 'print the version'
complete -c dflock -n __dflock_wants_key -a help -d 'print the options'
complete -c dflock -n '__dflock_behind bench' -l scenario -x -a 'uncontended contended pipelined many held churn expiry all' -d 'scenarios to measure'
complete -c dflock -n '__dflock_behind bench' -l workers -x -d 'connections at work'
complete -c dflock -n '__dflock_behind bench' -l rounds -x -d 'pairs of lock and release for each worker'
complete -c dflock -n '__dflock_behind bench' -l seconds -x -d 'time to work, instead of --rounds'
complete -c dflock -n '__dflock_behind bench' -l connections -x -d 'all connections'
complete -c dflock -n '__dflock_behind bench' -l shared-key -d 'all workers want one key'
complete -c dflock -n '__dflock_behind bench' -l pipeline -x -d 'locks under way on each connection'
complete -c dflock -n '__dflock_behind bench' -l key -x -d 'beginning of the keys'
complete -c dflock -n '__dflock_behind bench' -l timeout -x -d 'time to wait for a lock'
complete -c dflock -n '__dflock_behind bench' -l lease -x -d 'lease of each lock'
complete -c dflock -n '__dflock_behind bench' -l clients -x -d 'connections of the scenario many'
complete -c dflock -n '__dflock_behind bench' -l locks -x -d 'keys of the scenarios many and held'
complete -c dflock -n '__dflock_behind bench' -l iterations -x -d 'as rounds'
complete -c dflock -n '__dflock_behind bench' -l against -x -a '(__fish_print_hostnames):' -d 'another server to measure'
complete -c dflock -n '__dflock_behind bench' -l repeat -x -d 'runs of each scenario'
complete -c dflock -n '__dflock_behind bench' -l pause -x -d 'milliseconds until a server without a queue is asked again'
complete -c dflock -n '__dflock_behind bench' -l server-pid -x -a '(__fish_complete_pids)' -d 'process of the server, to measure its CPU and memory'
complete -c dflock -n '__dflock_behind bench' -l json -d 'print one JSON object'
complete -c dflock -n '__dflock_behind bench' -l report -r -F -d 'write a page of HTML'
complete -c dflock -a '(__dflock_command)'
