# Completion for dflock(1) in bash. Copy it to /usr/share/bash-completion/completions/dflock, or source it.

_dflock() {
    local cur=${COMP_WORDS[COMP_CWORD]} word i=1 key=
    COMPREPLY=()
    # Skips the options before the key; an option with a value takes the next word too.
    while ((i < COMP_CWORD)); do
        word=${COMP_WORDS[i]}
        case $word in
        --server | --token-file | --id | --group | --lease | --min-hold | --max-hold | --kill-after | --on-lost | --left | \
            --wait | --conflict-exit-code | --limit | --output | -[nqv]*[wElo] | -[wElo])
            ((i += 1))
            # Bash splits words at = and at :, so = may stand between an option and its value, and a value
            # with colons is several words.
            [[ ${COMP_WORDS[i]} == = ]] && ((i += 1))
            while [[ ${COMP_WORDS[i + 1]} == :* ]]; do ((i += 2)); done
            if ((i >= COMP_CWORD)); then
                _dflock_value "$word" "${cur#=}"
                return 0
            fi
            ;;
        -*) ;;
        *)
            key=$word
            break
            ;;
        esac
        ((i += 1))
    done
    if [[ -z $key ]]; then
        if [[ $cur == -* ]]; then
            COMPREPLY=($(compgen -W '-n --nonblock -w --wait -E --conflict-exit-code -q --skip-ok -l --limit
                --lease --min-hold --max-hold --on-lost --left --kill-after --server --token-file --id --group -o --output
                -v --verbose -h --help -V --version' -- "$cur"))
        else
            COMPREPLY=($(compgen -W 'hold acquire renew release ls stat ping signal listen bench version help' -- "$cur"))
        fi
        return 0
    fi
    ((i += 1))
    if ((i == COMP_CWORD)) || [[ ${COMP_WORDS[i]} != -- && ${COMP_WORDS[i]} != -c ]]; then
        case $key in
        hold | acquire | renew | release | ls | stat | ping | signal | listen | bench | version | help)
            _dflock_step "$key" "$i"
            return 0
            ;;
        esac
    fi
    [[ ${COMP_WORDS[i]} == -c ]] && return 0
    [[ ${COMP_WORDS[i]} == -- ]] && ((i < COMP_CWORD)) && ((i += 1))
    if declare -F _command_offset >/dev/null; then
        _command_offset "$i"
    elif ((i == COMP_CWORD)); then
        COMPREPLY=($(compgen -c -- "$cur"))
    else
        _dflock_files "$cur"
    fi
}

# Options may stand anywhere behind a step. Its keys and tokens cannot be completed.
_dflock_step() {
    local word=${COMP_WORDS[COMP_CWORD - 1]} list
    [[ $word == = ]] && word=${COMP_WORDS[COMP_CWORD - 2]}
    if ((COMP_CWORD > $2)); then
        case $word in
        --shared-key | --json | --help | --verbose | --nonblock | --skip-ok) ;;
        --* | -*[wElo])
            _dflock_value "$word" "${cur#=}"
            return 0
            ;;
        esac
    fi
    [[ $cur == -* ]] || return 0
    case $1 in
    acquire) list='-n --nonblock -w --wait -E --conflict-exit-code -q --skip-ok -l --limit --lease --id -o --output' ;;
    hold)
        list='-n --nonblock -w --wait -E --conflict-exit-code -q --skip-ok -l --limit --lease --min-hold --max-hold
            --id -o --output'
        ;;
    renew) list='-l --limit --lease --id -o --output' ;;
    release) list='-l --limit --id' ;;
    stat) list='-l --limit -o --output' ;;
    ls | signal) list='-o --output' ;;
    listen) list='--group -o --output' ;;
    bench)
        COMPREPLY=($(compgen -W '--scenario --workers --rounds --seconds --connections --shared-key --pipeline --key
            --timeout --lease --clients --locks --iterations --against --repeat --pause --server-pid --json --report
            --server --token-file -h --help' -- "$cur"))
        return 0
        ;;
    esac
    COMPREPLY=($(compgen -W "$list --server --token-file -v --verbose -h --help" -- "$cur"))
}

_dflock_value() {
    case $1 in
    --left) COMPREPLY=($(compgen -W 'stop wait' -- "$2")) ;;
    --on-lost) COMPREPLY=($(compgen -W 'kill term ignore' -- "$2")) ;;
    --output | -o | -[!-]*o) COMPREPLY=($(compgen -W 'sh json' -- "$2")) ;;
    --scenario)
        COMPREPLY=($(compgen -W 'uncontended contended pipelined many held churn expiry all' -- "$2"))
        ;;
    --token-file | --report) _dflock_files "$2" ;;
    --server | --against)
        # The port follows without a space.
        compopt -o nospace 2>/dev/null
        COMPREPLY=($(compgen -A hostname -S : -- "$2"))
        ;;
    esac
}

# Lets bash quote these words as names of files.
_dflock_files() {
    compopt -o filenames 2>/dev/null
    COMPREPLY=($(compgen -f -- "$1"))
}

complete -F _dflock dflock
