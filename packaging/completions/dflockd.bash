# Completion for dflockd(8) in bash. Copy it to /usr/share/bash-completion/completions/dflockd, or source it.

_dflockd() {
    local cur=${COMP_WORDS[COMP_CWORD]#=} word=${COMP_WORDS[COMP_CWORD - 1]} line
    COMPREPLY=()
    # Bash splits words at =, which then stands between an option and its value.
    [[ $word == = ]] && word=${COMP_WORDS[COMP_CWORD - 2]}
    case $word in
    --*-file | --tls-cert | --tls-key | --tls-client-ca | --etcd-ca | --etcd-cert | --etcd-key | --*-dir)
        compopt -o filenames 2>/dev/null
        # A quote or a backslash that was typed is no part of the name.
        case $cur in
        [\'\"]*) cur=${cur:1} ;;
        *) cur=${cur//\\/} ;;
        esac
        cur=${cur/#\~\//$HOME/}
        set -- compgen -f
        [[ $word == --*-dir ]] && set -- compgen -d
        ;;
    --host | --distlockd-host | --http-host) set -- compgen -A hostname ;;
    *)
        [[ $cur == -* ]] || return 0
        set -- compgen -W '--host --port --distlockd-port --distlockd-host --default-lease-ttl --distlockd-lease
        --max-lease --state-dir --run-dir --fence-state-file --restart-grace --reset-state --no-reset-state
        --handover --no-handover
        --etcd --etcd-prefix --node --failover-after --etcd-user --etcd-password-file --etcd-ca --etcd-cert --etcd-key
        --etcd-compact --no-etcd-compact
        --http-port --http-host --http-default-timeout --http-max-timeout --http-renewal-interval --http-max-wait
        --http-cors-allowed-origins --metrics-public --no-metrics-public
        --tls-cert --tls-key --tls-client-ca --http-tls --no-http-tls --distlockd-tls --no-distlockd-tls
        --auto-release-on-disconnect --no-auto-release-on-disconnect --deadlock-detection
        --no-deadlock-detection --gc-max-idle --shutdown-timeout --max-locks --max-waiters
        --max-holds --max-subscriptions --max-backlog --max-connections --max-connections-per-ip
        --read-timeout --write-timeout --auth-token-file --auth-token --admin-token-file --admin-token
        --distlockd-no-auth --no-distlockd-no-auth --log-locks --no-log-locks --debug --no-debug
        --lease-sweep-interval --gc-interval --check --no-check -V --version -h --help'
        ;;
    esac
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <("$@" -- "$cur" 2>/dev/null)
}

complete -F _dflockd dflockd
