//! The options: one table. The parser, `--help` and the tests of the documents
//! read this table and no other. Invariant: every default is in its own range.

use super::secret::secret;
use super::values::{
    boolean, bytes, count, endpoints, file, folder, host, integer, node, origins, prefix, seconds,
    secret_file,
};
use super::{Config, State};
use crate::command::{SECOND, Us};

/// One option: everything that is known about it.
pub struct Flag {
    /// Its name on the command line, without the two dashes.
    pub name: &'static str,
    /// Its names in the environment: the current one, then others that are still read. Of those, a name that begins
    /// with `DFLOCKD_` is an older one; another kind of server gave the same setting a name without that.
    pub env: &'static [&'static str],
    /// The word that stands for its value in usage texts; empty for a boolean.
    pub value: &'static str,
    /// Its value when neither a flag nor a variable sets it; empty if it has none.
    pub default: &'static str,
    /// The heading under which it is listed.
    pub group: Group,
    /// Its effect, with unit and range; lines of at most 72 columns.
    pub help: &'static str,
    /// Parses a value and stores it; an error says which values are wanted, and what is wrong if that is less plain.
    pub set: fn(&mut Config, &str) -> Result<(), String>,
}

/// The headings under which options are listed, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Where clients reach the server.
    Listening,
    /// The REST face. A build without it lists none of these and refuses them.
    Http,
    /// TLS. A build without it lists none of these and refuses them.
    Tls,
    /// How long locks last, and what ends them.
    Locks,
    /// The files that outlive the process.
    Restart,
    /// The store that several servers share. A build without it lists none of these and refuses them.
    Etcd,
    /// How much of the server clients may use.
    Limits,
    /// Which clients are let in.
    Security,
    /// The lines of the log.
    Logging,
    /// Accepted so that old configurations still start; without effect.
    Compatibility,
    /// Printed instead of serving.
    About,
}

impl Group {
    /// Every heading, in the order of `--help` and the man page.
    pub const ALL: &[Group] = &[
        Group::Listening,
        #[cfg(feature = "http")]
        Group::Http,
        #[cfg(feature = "tls")]
        Group::Tls,
        Group::Locks,
        Group::Restart,
        #[cfg(feature = "etcd")]
        Group::Etcd,
        Group::Limits,
        Group::Security,
        Group::Logging,
        Group::Compatibility,
        Group::About,
    ];

    /// The heading itself.
    pub fn title(self) -> &'static str {
        match self {
            Group::Listening => "Listening",
            Group::Http => "HTTP",
            Group::Tls => "TLS",
            Group::Locks => "Locks and leases",
            Group::Restart => "Restart safety",
            Group::Etcd => "High availability",
            Group::Limits => "Limits",
            Group::Security => "Security",
            Group::Logging => "Logging",
            Group::Compatibility => "Accepted for compatibility",
            Group::About => "About",
        }
    }
}

/// Every option there is.
pub static OPTIONS: &[Flag] = &[
    Flag {
        name: "host",
        env: &["DFLOCKD_HOST"],
        value: "ADDRESS",
        default: "127.0.0.1",
        group: Group::Listening,
        help: "Listen on this address or host name, given without a port.",
        set: |config, text| host(text).map(|value| config.host = value),
    },
    Flag {
        name: "port",
        env: &["DFLOCKD_PORT"],
        value: "PORT",
        default: "6388",
        group: Group::Listening,
        help: "Listen on this TCP port, 0 to 65535. With 0 the kernel chooses a free\n\
               port, and the log names it.",
        set: |config, text| {
            integer(text, 0..=65_535, "a port").map(|value| config.port = value as u16)
        },
    },
    Flag {
        name: "distlockd-port",
        env: &["DFLOCKD_DISTLOCKD_PORT"],
        value: "PORT",
        default: "",
        group: Group::Listening,
        help: "Listen on this TCP port too, for clients of the Python server\n\
               distlockd, 0 to 65535. With 0 the kernel chooses a free port, and the\n\
               log names it. Without this option there is no such port.",
        set: |config, text| {
            integer(text, 0..=65_535, "a port")
                .map(|value| config.distlockd.port = Some(value as u16))
        },
    },
    Flag {
        name: "distlockd-host",
        env: &["DFLOCKD_DISTLOCKD_HOST"],
        value: "ADDRESS",
        default: "",
        group: Group::Listening,
        help: "Listen for distlockd clients on this address or host name. Without it\n\
               they share the address of --host.",
        set: |config, text| host(text).map(|value| config.distlockd.host = Some(value)),
    },
    Flag {
        name: "http-port",
        env: &["DFLOCKD_HTTP_PORT"],
        value: "PORT",
        default: "",
        group: Group::Http,
        help: "Listen on this TCP port too, for clients that speak HTTP, 0 to 65535.\n\
               With 0 the kernel chooses a free port, and the log names it. Without\n\
               this option there is no such port.",
        set: |config, text| {
            integer(text, 0..=65_535, "a port").map(|value| config.http.port = Some(value as u16))
        },
    },
    Flag {
        name: "http-host",
        env: &["DFLOCKD_HTTP_HOST"],
        value: "ADDRESS",
        default: "",
        group: Group::Http,
        help: "Listen for HTTP on this address or host name. Without it HTTP has the\n\
               address of --host.",
        set: |config, text| host(text).map(|value| config.http.host = Some(value)),
    },
    Flag {
        name: "http-default-timeout",
        env: &["DFLOCKD_HTTP_DEFAULT_TIMEOUT_S", "DEFAULT_TIMEOUT"],
        value: "SECONDS",
        default: "30",
        group: Group::Http,
        help: "Lease of a lock that is acquired over HTTP without a timeout, in whole\n\
               seconds, 1 to 9223372036; at most --http-max-timeout.",
        set: |config, text| seconds(text, 1).map(|value| config.http.default_timeout = value),
    },
    Flag {
        name: "http-max-timeout",
        env: &["DFLOCKD_HTTP_MAX_TIMEOUT_S", "MAX_TIMEOUT"],
        value: "SECONDS",
        default: "300",
        group: Group::Http,
        help: "The longest lease that a request over HTTP may name, and how long the\n\
               server renews a lock of which its client says nothing, in whole\n\
               seconds, 1 to 9223372036.",
        set: |config, text| seconds(text, 1).map(|value| config.http.max_timeout = value),
    },
    Flag {
        name: "http-renewal-interval",
        env: &["DFLOCKD_HTTP_RENEWAL_INTERVAL_S", "RENEWAL_INTERVAL"],
        value: "SECONDS",
        default: "5",
        group: Group::Http,
        help: "How often the server renews a lock that was acquired with autoRenew, in\n\
               whole seconds, 1 to 9223372036. A lease under three times as long is\n\
               renewed when a third of it has passed.",
        set: |config, text| seconds(text, 1).map(|value| config.http.renewal_interval = value),
    },
    Flag {
        name: "http-max-wait",
        env: &["DFLOCKD_HTTP_MAX_WAIT_S"],
        value: "SECONDS",
        default: "300",
        group: Group::Http,
        help: "The longest waitTimeout that a request over HTTP may name, in whole\n\
               seconds, 1 to 9223372036.",
        set: |config, text| seconds(text, 1).map(|value| config.http.max_wait = value),
    },
    Flag {
        name: "http-cors-allowed-origins",
        env: &["DFLOCKD_HTTP_CORS_ALLOWED_ORIGINS"],
        value: "ORIGINS",
        default: "",
        group: Group::Http,
        help: "Let pages of these origins use HTTP from a browser: one or more of\n\
               http://HOST, https://HOST or the same with :PORT, with commas between.\n\
               Without it only the page of this server may.",
        set: |config, text| origins(text).map(|value| config.http.origins = value),
    },
    Flag {
        name: "metrics-public",
        env: &["DFLOCKD_METRICS_PUBLIC"],
        value: "",
        default: "false",
        group: Group::Http,
        help: "Serve /metrics without the auth token.",
        set: |config, text| boolean(text).map(|value| config.http.metrics_public = value),
    },
    Flag {
        name: "tls-cert",
        env: &["DFLOCKD_TLS_CERT"],
        value: "FILE",
        default: "",
        group: Group::Tls,
        help: "Speak TLS with the certificate in this PEM file, and those of the\n\
               authorities behind it. It is read at start and at SIGHUP. Clients\n\
               without TLS are then dropped.",
        set: |config, text| file(text).map(|value| config.tls.cert = Some(value)),
    },
    Flag {
        name: "tls-key",
        env: &["DFLOCKD_TLS_KEY"],
        value: "FILE",
        default: "",
        group: Group::Tls,
        help: "The private key of --tls-cert, in PEM: PKCS#8, SEC1 or PKCS#1, without a\n\
               passphrase. It is read at start and at SIGHUP.",
        set: |config, text| file(text).map(|value| config.tls.key = Some(value)),
    },
    Flag {
        name: "tls-client-ca",
        env: &["DFLOCKD_TLS_CLIENT_CA"],
        value: "FILE",
        default: "",
        group: Group::Tls,
        help: "Let only clients in that show a certificate of the authorities in this\n\
               PEM file. It is read at start and at SIGHUP.",
        set: |config, text| file(text).map(|value| config.tls.client_ca = Some(value)),
    },
    Flag {
        name: "http-tls",
        env: &["DFLOCKD_HTTP_TLS"],
        value: "",
        default: "true",
        group: Group::Tls,
        help: "With --tls-cert, speak TLS on --http-port too. With --no-http-tls it\n\
               has none: for a proxy that speaks TLS in its place.",
        set: |config, text| boolean(text).map(|value| config.tls.http = value),
    },
    Flag {
        name: "distlockd-tls",
        env: &["DFLOCKD_DISTLOCKD_TLS"],
        value: "",
        default: "false",
        group: Group::Tls,
        help: "With --tls-cert, speak TLS on --distlockd-port too. The published client\n\
               of distlockd has no TLS: a tunnel is needed in front of it.",
        set: |config, text| boolean(text).map(|value| config.tls.distlockd = value),
    },
    Flag {
        name: "default-lease-ttl",
        env: &["DFLOCKD_DEFAULT_LEASE_TTL_S"],
        value: "SECONDS",
        default: "33",
        group: Group::Locks,
        help: "Lease of an acquire or a renewal that names none, in whole seconds,\n\
               1 to 9223372036.",
        set: |config, text| seconds(text, 1).map(|value| config.default_lease = value),
    },
    Flag {
        name: "distlockd-lease",
        env: &["DFLOCKD_DISTLOCKD_LEASE_S"],
        value: "SECONDS",
        default: "10",
        group: Group::Locks,
        help: "Lease of a lock that a distlockd client acquires, in whole seconds,\n\
               1 to 9223372036.",
        set: |config, text| seconds(text, 1).map(|value| config.distlockd.lease = value),
    },
    Flag {
        name: "max-lease",
        env: &["DFLOCKD_MAX_LEASE_S"],
        value: "SECONDS",
        default: "",
        group: Group::Locks,
        help: "The longest lease that a client may ask for, in whole seconds, 1 to\n\
               9223372036. A longer one is answered error. Without this option there\n\
               is no limit.",
        set: |config, text| seconds(text, 1).map(|value| config.max_lease = Some(value)),
    },
    Flag {
        name: "auto-release-on-disconnect",
        env: &["DFLOCKD_AUTO_RELEASE_ON_DISCONNECT"],
        value: "",
        default: "true",
        group: Group::Locks,
        help: "Release the locks of a connection when it ends. With\n\
               --no-auto-release-on-disconnect they stay held until they are released\n\
               or their lease ends.",
        set: |config, text| boolean(text).map(|value| config.auto_release = value),
    },
    Flag {
        name: "deadlock-detection",
        env: &["DFLOCKD_DEADLOCK_DETECTION", "DEADLOCK_DETECTION"],
        value: "",
        default: "true",
        group: Group::Locks,
        help: "Answer error_deadlock at once to a wait that could never end.",
        set: |config, text| boolean(text).map(|value| config.deadlock_detection = value),
    },
    Flag {
        name: "gc-max-idle",
        env: &["DFLOCKD_GC_MAX_IDLE_S", "DFLOCKD_GC_MAX_UNUSED_TIME"],
        value: "SECONDS",
        default: "60",
        group: Group::Locks,
        help: "How long stats shows an unused key, in whole seconds, 0 to 9223372036;\n\
               with 0 it is forgotten at once.",
        set: |config, text| seconds(text, 0).map(|value| config.max_idle = value),
    },
    Flag {
        name: "shutdown-timeout",
        env: &["DFLOCKD_SHUTDOWN_TIMEOUT_S"],
        value: "SECONDS",
        default: "30",
        group: Group::Locks,
        help: "After SIGTERM or SIGINT, how long a connection that holds a lock may\n\
               stay before it is closed, in whole seconds, 0 to 9223372036; 0 sets no\n\
               limit.",
        set: |config, text| seconds(text, 0).map(|value| config.shutdown_timeout = value),
    },
    Flag {
        name: "state-dir",
        env: &["DFLOCKD_STATE_DIR"],
        value: "DIR",
        default: "",
        group: Group::Restart,
        help: "Keep a ledger in this folder: then fences rise over every restart, and\n\
               after a loss of power nothing is granted until all leases from before\n\
               have ended. Without this option it is the first folder that the\n\
               variable STATE_DIRECTORY of systemd names, if there is one.",
        set: |config, text| {
            folder(text).map(|value| config.state.ledger = Some(State::ledger_in(&value)))
        },
    },
    Flag {
        name: "run-dir",
        env: &["DFLOCKD_RUN_DIR"],
        value: "DIR",
        default: "",
        group: Group::Restart,
        help: "Keep a journal of all locks in this folder, best one in memory as /run\n\
               is: then locks outlive a crash and an upgrade. Without this option it is\n\
               the first folder that the variable RUNTIME_DIRECTORY of systemd names,\n\
               otherwise that of --state-dir.",
        set: |config, text| folder(text).map(|value| config.state.journal = Some(value)),
    },
    Flag {
        name: "fence-state-file",
        env: &["DFLOCKD_FENCE_STATE_FILE"],
        value: "FILE",
        default: "",
        group: Group::Restart,
        help: "Keep the ledger in this file, in place of a folder. Then there is a\n\
               journal only with --run-dir.",
        set: |config, text| secret_file(text).map(|value| config.state.ledger = Some(value.into())),
    },
    Flag {
        name: "restart-grace",
        env: &["DFLOCKD_RESTART_GRACE_S"],
        value: "SECONDS",
        default: "0",
        group: Group::Restart,
        help: "Without a ledger, how long the server grants nothing after its start,\n\
               or after it has taken the lead, so that leases from before can end, in\n\
               whole seconds, 0 to 9223372036.",
        set: |config, text| seconds(text, 0).map(|value| config.state.restart_grace = value),
    },
    Flag {
        name: "reset-state",
        env: &["DFLOCKD_RESET_STATE"],
        value: "",
        default: "false",
        group: Group::Restart,
        help: "Begin anew with a ledger that is damaged, lost, of an unknown version or\n\
               none. For one start, when no lease from before can still run.",
        set: |config, text| boolean(text).map(|value| config.state.reset = value),
    },
    Flag {
        name: "handover",
        env: &["DFLOCKD_HANDOVER"],
        value: "",
        default: "false",
        group: Group::Restart,
        help: "At SIGTERM, stop at once instead of waiting for those who hold locks:\n\
               the next server finds their locks in the journal.",
        set: |config, text| boolean(text).map(|value| config.state.handover = value),
    },
    Flag {
        name: "etcd",
        env: &["DFLOCKD_ETCD"],
        value: "URLS",
        default: "",
        group: Group::Etcd,
        help: "Keep all locks in this etcd, which several servers share: one of them\n\
               leads, the others stand by. One or more of http://HOST:PORT or\n\
               https://HOST:PORT, with commas between. Without this option the server\n\
               is alone.",
        set: |config, text| endpoints(text).map(|value| config.etcd.endpoints = value),
    },
    Flag {
        name: "etcd-prefix",
        env: &["DFLOCKD_ETCD_PREFIX"],
        value: "PREFIX",
        default: "/dflockd",
        group: Group::Etcd,
        help: "What the keys in etcd begin with, 1 to 256 bytes, without a slash at the\n\
               end. Servers with the same prefix share their locks.",
        set: |config, text| prefix(text).map(|value| config.etcd.prefix = value),
    },
    Flag {
        name: "node",
        env: &["DFLOCKD_NODE"],
        value: "NAME",
        default: "",
        group: Group::Etcd,
        help: "The name of this server among those that share an etcd, 1 to 256 bytes:\n\
               the same in each of its lives, and no other's. Without it the name is\n\
               --host and --port.",
        set: |config, text| node(text).map(|value| config.etcd.node = value),
    },
    Flag {
        name: "failover-after",
        env: &["DFLOCKD_FAILOVER_AFTER_S"],
        value: "SECONDS",
        default: "5",
        group: Group::Etcd,
        help: "How long the leader may be silent before another server takes its\n\
               place, in whole seconds, 1 to 3600. The same for all of them.",
        set: |config, text| {
            integer(text, 1..=3600, "whole seconds")
                .map(|value| config.etcd.failover_after = value as Us * SECOND)
        },
    },
    Flag {
        name: "etcd-user",
        env: &["DFLOCKD_ETCD_USER"],
        value: "NAME",
        default: "",
        group: Group::Etcd,
        help: "The user of etcd that this server is, with --etcd-password-file.",
        set: |config, text| node(text).map(|value| config.etcd.user = Some(value)),
    },
    Flag {
        name: "etcd-password-file",
        env: &["DFLOCKD_ETCD_PASSWORD_FILE"],
        value: "FILE",
        default: "",
        group: Group::Etcd,
        help: "Read the password of --etcd-user from this file, at start.",
        set: |config, text| file(text).map(|value| config.etcd.password = Some(value)),
    },
    Flag {
        name: "etcd-ca",
        env: &["DFLOCKD_ETCD_CA"],
        value: "FILE",
        default: "",
        group: Group::Etcd,
        help: "Trust an etcd that shows a certificate of the authorities in this PEM\n\
               file, read at start. Without it, those that the machine trusts.",
        set: |config, text| file(text).map(|value| config.etcd.ca = Some(value)),
    },
    Flag {
        name: "etcd-cert",
        env: &["DFLOCKD_ETCD_CERT"],
        value: "FILE",
        default: "",
        group: Group::Etcd,
        help: "Show etcd the certificate in this PEM file, read at start. It should\n\
               have no common name, which etcd takes for a user.",
        set: |config, text| file(text).map(|value| config.etcd.cert = Some(value)),
    },
    Flag {
        name: "etcd-key",
        env: &["DFLOCKD_ETCD_KEY"],
        value: "FILE",
        default: "",
        group: Group::Etcd,
        help: "The private key of --etcd-cert, in PEM, read at start.",
        set: |config, text| file(text).map(|value| config.etcd.key = Some(value)),
    },
    Flag {
        name: "etcd-compact",
        env: &["DFLOCKD_ETCD_COMPACT"],
        value: "",
        default: "true",
        group: Group::Etcd,
        help: "Have etcd forget what was replaced, every 10 s. With --no-etcd-compact\n\
               somebody else must: for an etcd that others use too.",
        set: |config, text| boolean(text).map(|value| config.etcd.compact = value),
    },
    Flag {
        name: "max-locks",
        env: &["DFLOCKD_MAX_LOCKS"],
        value: "COUNT",
        default: "1024",
        group: Group::Limits,
        help: "How many keys may be held or waited for at once, locks and semaphores\n\
               together, 1 to 1000000000. Over it, an acquire of a new key is answered\n\
               error_max_locks.",
        set: |config, text| count(text, 1).map(|value| config.max_locks = value as usize),
    },
    Flag {
        name: "max-waiters",
        env: &["DFLOCKD_MAX_WAITERS"],
        value: "COUNT",
        default: "0",
        group: Group::Limits,
        help: "How many waiters one key may have, 0 to 1000000000; 0 sets no limit.\n\
               Over it, an acquire is answered error_max_waiters.",
        set: |config, text| count(text, 0).map(|value| config.max_waiters = value as u32),
    },
    Flag {
        name: "max-holds",
        env: &["DFLOCKD_MAX_HOLDS"],
        value: "COUNT",
        default: "0",
        group: Group::Limits,
        help: "How many holds, places in queues included, one connection may have,\n\
               0 to 1000000000; 0 sets no limit. Over it, an acquire is answered\n\
               error_max_holds.",
        set: |config, text| count(text, 0).map(|value| config.max_holds = value as u32),
    },
    Flag {
        name: "max-subscriptions",
        env: &["DFLOCKD_MAX_SUBSCRIPTIONS"],
        value: "COUNT",
        default: "0",
        group: Group::Limits,
        help: "How many subscriptions one connection may have, 0 to 1000000000; 0 sets\n\
               no limit. Over it, a listen is answered error.",
        set: |config, text| count(text, 0).map(|value| config.max_subscriptions = value as u32),
    },
    Flag {
        name: "max-backlog",
        env: &["DFLOCKD_MAX_BACKLOG_BYTES"],
        value: "BYTES",
        default: "67108864",
        group: Group::Limits,
        help: "How many bytes of signals may wait for clients that read slowly, for all\n\
               connections together, 0 to 1000000000000; 0 sets no limit. Over it,\n\
               the connection for which most is waiting is closed.",
        set: |config, text| bytes(text).map(|value| config.max_backlog = value),
    },
    Flag {
        name: "max-connections",
        env: &["DFLOCKD_MAX_CONNECTIONS"],
        value: "COUNT",
        default: "0",
        group: Group::Limits,
        help: "How many connections may be open at once, 0 to 1000000000; 0 sets no\n\
               limit. Over it, a new connection is told error_max_connections and\n\
               closed.",
        set: |config, text| count(text, 0).map(|value| config.max_connections = value as u32),
    },
    Flag {
        name: "max-connections-per-ip",
        env: &["DFLOCKD_MAX_CONNECTIONS_PER_IP"],
        value: "COUNT",
        default: "0",
        group: Group::Limits,
        help: "How many connections one address may have open, 0 to 1000000000; 0 sets\n\
               no limit. Over it, a new connection is told error_max_connections and\n\
               closed. The addresses of an IPv6 network (/64) count as one.",
        set: |config, text| {
            count(text, 0).map(|value| config.max_connections_per_ip = value as u32)
        },
    },
    Flag {
        name: "read-timeout",
        env: &["DFLOCKD_READ_TIMEOUT_S", "DFLOCKD_DFLOCKD_READ_TIMEOUT_S"],
        value: "SECONDS",
        default: "23",
        group: Group::Limits,
        help: "How long a client may take to send one line, and how long a connection\n\
               may be silent that neither holds, waits nor listens, in whole seconds,\n\
               1 to 9223372036.",
        set: |config, text| seconds(text, 1).map(|value| config.read_timeout = value),
    },
    Flag {
        name: "write-timeout",
        env: &["DFLOCKD_WRITE_TIMEOUT_S"],
        value: "SECONDS",
        default: "5",
        group: Group::Limits,
        help: "How long a client may leave answers unread before it is disconnected,\n\
               in whole seconds, 0 to 9223372036; 0 sets no limit.",
        set: |config, text| seconds(text, 0).map(|value| config.write_timeout = value),
    },
    Flag {
        name: "auth-token-file",
        env: &["DFLOCKD_AUTH_TOKEN_FILE"],
        value: "FILE",
        default: "",
        group: Group::Security,
        help: "Read the auth token from this file, at start and at SIGHUP. Each client\n\
               must send it before anything else.",
        set: |config, text| secret_file(text).map(|value| config.auth.file = Some(value)),
    },
    Flag {
        name: "auth-token",
        env: &["DFLOCKD_AUTH_TOKEN"],
        value: "TOKEN",
        default: "",
        group: Group::Security,
        help: "The auth token itself. Other users of the host can see a command line:\n\
               --auth-token-file is safer.",
        set: |config, text| secret(text.as_bytes()).map(|value| config.auth.token = Some(value)),
    },
    Flag {
        name: "admin-token-file",
        env: &["DFLOCKD_ADMIN_TOKEN_FILE"],
        value: "FILE",
        default: "",
        group: Group::Security,
        help: "Read the admin token from this file, at start and at SIGHUP. A client\n\
               that sends it may also break locks. Without an admin token the auth\n\
               token is enough for that, or with neither a loopback address.",
        set: |config, text| secret_file(text).map(|value| config.admin.file = Some(value)),
    },
    Flag {
        name: "admin-token",
        env: &["DFLOCKD_ADMIN_TOKEN"],
        value: "TOKEN",
        default: "",
        group: Group::Security,
        help: "The admin token itself. Other users of the host can see a command line:\n\
               --admin-token-file is safer.",
        set: |config, text| secret(text.as_bytes()).map(|value| config.admin.token = Some(value)),
    },
    Flag {
        name: "distlockd-no-auth",
        env: &["DFLOCKD_DISTLOCKD_NO_AUTH"],
        value: "",
        default: "false",
        group: Group::Security,
        help: "Let distlockd clients in without the auth token, which they cannot\n\
               send. With a token and without this option --distlockd-port is refused.",
        set: |config, text| boolean(text).map(|value| config.distlockd.no_auth = value),
    },
    Flag {
        name: "log-locks",
        env: &["DFLOCKD_LOG_LOCKS"],
        value: "",
        default: "false",
        group: Group::Logging,
        help: "Log a line of level info for each grant of a lock, and for each release,\n\
               expiry, close of its connection, and break.",
        set: |config, text| boolean(text).map(|value| config.log_locks = value),
    },
    Flag {
        name: "debug",
        env: &["DFLOCKD_DEBUG"],
        value: "",
        default: "false",
        group: Group::Logging,
        help: "Log events of level debug too: each refused deadlock, and each turn of\n\
               the event loop that took longer than any before.",
        set: |config, text| boolean(text).map(|value| config.debug = value),
    },
    Flag {
        name: "lease-sweep-interval",
        env: &["DFLOCKD_LEASE_SWEEP_INTERVAL_S"],
        value: "SECONDS",
        default: "1",
        group: Group::Compatibility,
        help: "Accepted for old configurations, 1 to 9223372036 seconds, without\n\
               effect: leases end on time and need no sweep.",
        set: |_, text| seconds(text, 1).map(drop),
    },
    Flag {
        name: "gc-interval",
        env: &["DFLOCKD_GC_INTERVAL_S", "DFLOCKD_GC_LOOP_SLEEP"],
        value: "SECONDS",
        default: "5",
        group: Group::Compatibility,
        help: "Accepted for old configurations, 1 to 9223372036 seconds, without\n\
               effect: unused keys need no sweep.",
        set: |_, text| seconds(text, 1).map(drop),
    },
    Flag {
        name: "check",
        env: &[],
        value: "",
        default: "false",
        group: Group::About,
        help: "Read options, environment and files, look up host names, and exit: with\n\
               status 2 and the mistakes on standard error, or with status 0 and every\n\
               setting on standard output, one a line: name, value, source.",
        set: |config, text| boolean(text).map(|value| config.check = value),
    },
    Flag {
        name: "version",
        env: &[],
        value: "",
        default: "",
        group: Group::About,
        help: "Print the version and exit; also -V.",
        set: |_, _| Err("no value".to_string()),
    },
    Flag {
        name: "help",
        env: &[],
        value: "",
        default: "",
        group: Group::About,
        help: "Print this text and exit; also -h.",
        set: |_, _| Err("no value".to_string()),
    },
];

/// Variables of the server whose HTTP interface the REST face has: where that server keeps its locks. They are named in
/// a warning and mean nothing.
pub(super) static REDIS: [&str; 3] = ["REDIS_HOST", "REDIS_PORT", "REDIS_DB"];

/// Variables by which other servers that read `DFLOCKD_` act, and this one cannot; `*` stands for any ending.
pub(super) static FOREIGN: &[&str] = &[
    "DFLOCKD_HTTP_MAX_SESSIONS*",
    "DFLOCKD_HTTP_SESSION_*",
    "DFLOCKD_TLS_*",
    "DFLOCKD_RAFT_*",
    "DFLOCKD_NODE_ID",
    "DFLOCKD_CLUSTER_*",
    "DFLOCKD_ADVERTISE_ADDR",
    "DFLOCKD_ORPHAN_TTL*",
];
