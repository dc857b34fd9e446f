# Completion for dflock(1) in bash. Copy it to /usr/share/bash-completion/completions/dflock, or source it.

_dflock() {
    local cur=${COMP_WORDS[COMP_CWORD]#[:=]} word key= i n
    # The words up to the one being typed, and where each begins in COMP_WORDS. Bash splits words at = and at :, and
    # here they are whole again: `--server=h:1` is one word.
    local -a words=() at=()
    COMPREPLY=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((i > 1)) && [[ $word == [:=]* || ${COMP_WORDS[i - 1]} == *[:=] ]]; then
            words[n]+=$word
        else
            n=${#words[@]}
            words[n]=$word
            at[n]=$i
        fi
    done
    # Skips the options before the key; an option with a value takes the next word too.
    for ((i = 1; i <= n; i++)); do
        word=${words[i]}
        case $word in
        --*=*)
            if ((i == n)); then
                _dflock_value "${word%%=*}" "$cur"
                return 0
            fi
            ;;
        --server | --token-file | --tls-ca | --tls-cert | --tls-key | --tls-server-name | --id | --group | --lease | --min-hold | --max-hold | --kill-after | --on-lost | --left | \
            --wait | --timeout | --conflict-exit-code | --limit | --output | -[nqvxe]*[wElo] | -[wElo])
            # `--lease =` is an option and the = behind it, which bash has split.
            ((i += 1))
            if ((i == n)); then
                _dflock_value "$word" "$cur"
                return 0
            fi
            ;;
        -*) ;;
        *)
            ((i == n)) && break
            key=$word
            break
            ;;
        esac
    done
    if [[ -z $key ]]; then
        if [[ $cur == -* ]]; then
            _dflock_words '-n --nonblock -w --wait -E --conflict-exit-code -q --skip-ok -l --limit
                --lease --min-hold --max-hold --on-lost --left --kill-after --server --token-file --id --group
                --tls --tls-ca --tls-cert --tls-key --tls-server-name
                -o --output -v --verbose -h --help -V --version'
        else
            # No step has a colon, which bash has cut off here.
            [[ ${words[n]} == *[:=]* ]] ||
                _dflock_words 'hold acquire renew release ls stat break ping signal listen bench version help'
            _dflock_keys
        fi
        return 0
    fi
    ((i += 1))
    if ((i == n)) || [[ ${words[i]} != -c && ${words[i]} != --command ]]; then
        case $key in
        hold | acquire | renew | release | ls | stat | break | ping | signal | listen | bench | version | help)
            _dflock_step "$key" "$i"
            return 0
            ;;
        esac
    fi
    [[ ${words[i]} == -c || ${words[i]} == --command ]] && return 0
    [[ ${words[i]} == -- ]] && ((i < n)) && ((i += 1))
    if declare -F _command_offset >/dev/null; then
        _command_offset "${at[i]}"
    elif ((i == n)); then
        _dflock_lines compgen -c -- "$cur"
    else
        _dflock_files "$cur"
    fi
}

# Options may stand anywhere behind a step, whose words begin with number $2. Tokens and fences cannot be completed.
_dflock_step() {
    local i word list before=0
    for ((i = $2; i < n; i++)); do
        word=${words[i]}
        case $word in
        --*=* | --tls | --shared-key | --json | --help | --verbose | --nonblock | --skip-ok | --exclusive | --close | --nb) ;;
        --) ;;
        --?* | -*[wElo])
            ((i += 1))
            if ((i == n)); then
                _dflock_value "$word" "$cur"
                return 0
            fi
            ;;
        -*) ;;
        *) ((before += 1)) ;;
        esac
    done
    if [[ ${words[n]} == --*=* ]]; then
        _dflock_value "${words[n]%%=*}" "$cur"
        return 0
    fi
    if [[ $cur != -* ]] || ((before >= 100)); then
        case $1 in
        hold | acquire | renew | release | ls | stat | break) ((before % 100 == 0)) && _dflock_keys ;;
        esac
        return 0
    fi
    case $1 in
    hold)
        list='-n --nonblock -w --wait -E --conflict-exit-code -q --skip-ok -l --limit --lease --min-hold --max-hold
            --id -o --output'
        ;;
    acquire) list='-n --nonblock -w --wait -E --conflict-exit-code -q --skip-ok -l --limit --lease --id -o --output' ;;
    renew) list='-l --limit --lease --id -o --output' ;;
    release) list='-l --limit --id' ;;
    stat | break) list='-w --wait -l --limit -o --output' ;;
    ls) list='-w --wait -o --output' ;;
    ping) list='-w --wait' ;;
    signal) list='-o --output' ;;
    listen) list='--group -o --output' ;;
    bench)
        _dflock_words '--scenario --workers --rounds --seconds --connections --shared-key --pipeline --key
            --timeout --lease --clients --locks --iterations --against --repeat --pause --server-pid --json --report
            --server --token-file -h --help'
        return 0
        ;;
    esac
    _dflock_words "$list --server --token-file --tls --tls-ca --tls-cert --tls-key --tls-server-name -v --verbose -h --help"
}

_dflock_value() {
    local cur=$2
    case $1 in
    --on-lost) _dflock_words 'kill term ignore' ;;
    --left) _dflock_words 'stop wait' ;;
    --output | -o | -[!-]*o) _dflock_words 'sh json' ;;
    --scenario) _dflock_words 'uncontended contended pipelined many held churn expiry all' ;;
    --token-file | --tls-ca | --tls-cert | --tls-key | --report) _dflock_files "$2" ;;
    --tls-server-name) _dflock_lines compgen -A hostname -- "$2" ;;
    --server | --against)
        # The port follows without a space.
        compopt -o nospace 2>/dev/null
        _dflock_lines compgen -A hostname -S : -- "$2"
        ;;
    esac
}

# Adds those of these words that begin as the word being typed.
_dflock_words() {
    _dflock_lines compgen -W "$1" -- "$cur"
}

# Adds the lines that a command prints, each as one word.
_dflock_lines() {
    local line
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <("$@" 2>/dev/null)
}

# Adds files. Bash quotes them as names of files; a quote or a backslash that was typed is no part of the name.
_dflock_files() {
    compopt -o filenames 2>/dev/null
    local typed=$1
    case $typed in
    [\'\"]*) typed=${typed:1} ;;
    *) typed=${typed//\\/} ;;
    esac
    _dflock_lines compgen -f -- "${typed/#\~\//$HOME/}"
}

# Adds the keys that `dflock ls` shows. It quotes them, so they are taken as they are. A server that does not answer
# within a second has none.
_dflock_keys() {
    local i word row typed=${words[n]} program=${COMP_WORDS[0]/#\~\//$HOME/}
    local -a asked=()
    for ((i = 1; i < n; i++)); do
        case ${words[i]} in
        --server=* | --token-file=* | --tls-*=*) asked+=("${words[i]//[\\\'\"]/}") ;;
        --tls) asked+=(--tls) ;;
        --server | --token-file | --tls-*)
            ((i + 1 < n)) && asked+=("${words[i]}" "${words[i + 1]//[\\\'\"]/}")
            ;;
        esac
    done
    # Bash puts the reply behind the last = or : of what was typed.
    local kept=
    [[ $COMP_WORDBREAKS == *:* && $typed == *[:=]* ]] && kept=${typed%"${typed##*[:=]}"}
    [[ $typed == [\'\"]* ]] && typed=${typed:1}
    while IFS= read -r row; do
        word=${row%% *}
        case $word in
        "$typed"* | \'"$typed"* | "\$'$typed"*) COMPREPLY+=("${word#"$kept"}") ;;
        esac
    done < <(timeout 1 "$program" "${asked[@]}" ls 2>/dev/null </dev/null | tail -n +2)
}

complete -F _dflock dflock
