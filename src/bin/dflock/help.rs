//! What `dflock --help` prints. The manual page says more, and a test compares the two.

/// The usage.
pub const HELP: &str = "\
Usage: dflock [options] KEY [--] COMMAND [ARG...]
       dflock [options] KEY -c 'shell text'
       dflock [options] hold KEY
       dflock [options] acquire KEY | renew KEY TOKEN | release KEY TOKEN
       dflock [options] ls [PREFIX] | stat KEY | break KEY [FENCE] | ping | version | help
       dflock [options] signal CHANNEL PAYLOAD | listen PATTERN [--group GROUP]
       dflock [options] bench [bench options]

Runs a command while holding a lock that spans hosts. hold runs nothing: it keeps the lock until stdin ends.

  -n, --nonblock               do not wait
  -w, --wait SECONDS           wait at most this long; with ls, stat, break and ping: for the answers (10)
  -E, --conflict-exit-code N   exit status when the lock is not free in time (1)
  -q, --skip-ok                exit 0 then, and say nothing
  -l, --limit N                a semaphore that N may hold at once
      --lease SECONDS          how long the lock outlives a failure (the server's default)
      --min-hold SECONDS       hold the lock at least this long
      --max-hold SECONDS       stop the command after this long
      --on-lost kill|term|ignore
                               what to do with the command when the lock is lost (kill)
      --left stop|wait         what to do with processes that the command leaves behind (stop)
      --kill-after SECONDS     from TERM to KILL (5, for a lost lock at most a quarter of the lease)
      --id OWNER               the owner of the lock, for deadlocks and lost connections (unique)
      --group GROUP            with listen: listeners of one group take turns
      --server HOST[:PORT][,HOST[:PORT]...]
                               the server; the key picks one of several (127.0.0.1:6388); 'A|B' is one server: B stands
                               by for A
      --token-file FILE        the token for a server that wants one
      --tls                    over TLS; each of the next four says that too
      --tls-ca FILE            the authority of the server's certificate (those that the system trusts)
      --tls-cert FILE          a certificate for a server that wants one
      --tls-key FILE           the key of that certificate
      --tls-server-name NAME   the name that the server's certificate must be for (the host of --server)
  -o, --output sh|json         how to print the result
  -v, --verbose                tell on stderr what happens
  -h, --help                   this
  -V, --version

The spellings of flock(1) are taken too: --nb, --timeout, --command, and -x, -e, --exclusive and --close, which change
nothing. Environment: DFLOCK_SERVER, DFLOCK_TOKEN_FILE, DFLOCK_TLS_CA, DFLOCK_ID. Exit status and examples: man dflock.
";
