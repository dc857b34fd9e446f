# Completion for dflock(1) in fish. Goes to a directory of $fish_complete_path.

# Prints the words from the key on; the last is the one being typed.
function __dflock_words
    set -l words (commandline -opc) (commandline -ct)
    set -e words[1]
    while set -q words[2]
        switch $words[1]
            case --server --token-file --id --group --lease --min-hold --max-hold --kill-after --on-lost --wait \
                --conflict-exit-code --limit --output -w -E -l -o '-[nqv]*[wElo]'
                set -e words[1]
            case '-*'
            case '*'
                break
        end
        set -e words[1]
    end
    printf '%s\n' $words
end

function __dflock_wants_key
    test (count (__dflock_words)) -le 1
end

# The command being typed, as the shell completes commands.
function __dflock_command
    set -l words (__dflock_words)
    test (count $words) -gt 1; or return
    if test "$words[2]" = --
        set -e words[2]
        test (count $words) -gt 1; or return
    else if test "$words[2]" = -c; or contains -- $words[1] acquire renew release ls stat ping signal listen version
        return
    end
    set -e words[1]
    set -l line (string join ' ' -- (string escape -- $words[1..-2]) $words[-1])
    string match -q -- '-*' $line; or complete -C $line
end

complete -c dflock -f
complete -c dflock -n __dflock_wants_key -s n -l nonblock -d 'do not wait'
complete -c dflock -n __dflock_wants_key -s w -l wait -x -d 'wait at most so many seconds'
complete -c dflock -n __dflock_wants_key -s E -l conflict-exit-code -x -d 'exit status when the lock is not free in time'
complete -c dflock -n __dflock_wants_key -s q -l skip-ok -d 'exit 0 then, and say nothing'
complete -c dflock -n __dflock_wants_key -s l -l limit -x -d 'a semaphore that so many may hold at once'
complete -c dflock -n __dflock_wants_key -l lease -x -d 'how long the lock outlives a failure'
complete -c dflock -n __dflock_wants_key -l min-hold -x -d 'hold it at least so long'
complete -c dflock -n __dflock_wants_key -l max-hold -x -d 'stop the command after so long'
complete -c dflock -n __dflock_wants_key -l on-lost -x -a 'kill term ignore' -d 'what becomes of the command when the lock is lost'
complete -c dflock -n __dflock_wants_key -l kill-after -x -d 'from TERM to KILL'
complete -c dflock -n __dflock_wants_key -l server -x -a '(__fish_print_hostnames):' -d 'where to ask'
complete -c dflock -n __dflock_wants_key -l token-file -r -F -d 'what to say to a server that asks who you are'
complete -c dflock -n __dflock_wants_key -l id -x -d 'who waits and holds'
complete -c dflock -n __dflock_wants_key -l group -x -d 'with listen, those of a group take turns'
complete -c dflock -n __dflock_wants_key -s o -l output -x -a 'sh json' -d 'how to print what is found'
complete -c dflock -n __dflock_wants_key -s v -l verbose -d 'say on stderr what happens'
complete -c dflock -n __dflock_wants_key -s h -l help -d 'print the options'
complete -c dflock -n __dflock_wants_key -s V -l version -d 'print the version'
complete -c dflock -n __dflock_wants_key -a acquire -d 'take a lock, and print its token'
complete -c dflock -n __dflock_wants_key -a renew -d 'begin the lease anew'
complete -c dflock -n __dflock_wants_key -a release -d 'give the lock back'
complete -c dflock -n __dflock_wants_key -a ls -d 'list the keys in use'
complete -c dflock -n __dflock_wants_key -a stat -d 'show one key'
complete -c dflock -n __dflock_wants_key -a ping -d 'see whether the servers answer'
complete -c dflock -n __dflock_wants_key -a signal -d 'tell those who listen to a channel'
complete -c dflock -n __dflock_wants_key -a listen -d 'print what is signalled'
complete -c dflock -n __dflock_wants_key -a version -d 'print the version'
complete -c dflock -a '(__dflock_command)'
