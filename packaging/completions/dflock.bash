# Completion for dflock(1) in bash. Goes to /usr/share/bash-completion/completions/dflock, or is sourced.

_dflock() {
    local cur=${COMP_WORDS[COMP_CWORD]} word i=1 key=
    COMPREPLY=()
    # Over the options before the key; those with a value take the next word too.
    while ((i < COMP_CWORD)); do
        word=${COMP_WORDS[i]}
        case $word in
        --server | --token-file | --id | --group | --lease | --min-hold | --max-hold | --kill-after | --on-lost | \
            --wait | --conflict-exit-code | --limit | --output | -[nqv]*[wElo] | -[wElo])
            ((i += 1))
            # Where = splits words, it stands between the option and its value.
            [[ ${COMP_WORDS[i]} == = ]] && ((i += 1))
            if ((i >= COMP_CWORD)); then
                _dflock_value "$word" "${cur#=}"
                return
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
                --lease --min-hold --max-hold --on-lost --kill-after --server --token-file --id --group -o --output
                -v --verbose -h --help -V --version' -- "$cur"))
        else
            COMPREPLY=($(compgen -W 'acquire renew release ls stat ping signal listen version' -- "$cur"))
        fi
        return
    fi
    # The steps want keys and tokens, which nobody can guess.
    [[ ${COMP_WORDS[i + 1]} != -- && $key == listen ]] && ((COMP_CWORD == i + 2)) &&
        COMPREPLY=($(compgen -W --group -- "$cur"))
    [[ ${COMP_WORDS[i + 1]} != -- && " acquire renew release ls stat ping signal listen version " == *" $key "* ]] && return
    ((i += 1))
    [[ ${COMP_WORDS[i]} == -c ]] && return
    [[ ${COMP_WORDS[i]} == -- ]] && ((i < COMP_CWORD)) && ((i += 1))
    if declare -F _command_offset >/dev/null; then
        _command_offset "$i"
    elif ((i == COMP_CWORD)); then
        COMPREPLY=($(compgen -c -- "$cur"))
    else
        COMPREPLY=($(compgen -f -- "$cur"))
    fi
}

_dflock_value() {
    case $1 in
    --on-lost) COMPREPLY=($(compgen -W 'kill term ignore' -- "$2")) ;;
    --output | -o | -[!-]*o) COMPREPLY=($(compgen -W 'sh json' -- "$2")) ;;
    --token-file) COMPREPLY=($(compgen -f -- "$2")) ;;
    --server) COMPREPLY=($(compgen -A hostname -S : -- "$2")) ;;
    esac
}

complete -o filenames -F _dflock dflock
