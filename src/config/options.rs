//! The options: one table, and the grammar of their values. The parser, `--help` and the tests of the documents
//! read the table, so an option exists in one place or nowhere. Invariant: every default is in its own range.

use std::net::Ipv6Addr;
use std::ops::RangeInclusive;

use super::Config;
use crate::command::{SECOND, SECONDS_MAX, Us};
use crate::wire::text::SECRET_MAX;

/// One option: everything that is known about it.
pub struct Flag {
    /// Its name on the command line, without the two dashes.
    pub name: &'static str,
    /// Its names in the environment: the current one, then older ones that are still read.
    pub env: &'static [&'static str],
    /// What stands for its value in usage texts; empty for a boolean.
    pub value: &'static str,
    /// The value it has when nobody says anything; empty if it has none.
    pub default: &'static str,
    /// Under which heading it is listed.
    pub group: Group,
    /// What it does, with its range; lines of at most 72 columns.
    pub help: &'static str,
    /// Parses a value and keeps it; an error says what would have been allowed.
    pub set: fn(&mut Config, &str) -> Result<(), String>,
}

/// The headings under which options are listed, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Where clients reach the server.
    Listening,
    /// What becomes of locks.
    Locks,
    /// What clients may take up.
    Limits,
    /// Who may be a client.
    Security,
    /// What the log tells.
    Logging,
    /// Read for the sake of old configurations, without effect.
    Compatibility,
    /// What is printed instead of serving.
    About,
}

impl Group {
    /// Every heading, in the order of `--help` and the man page.
    pub const ALL: [Group; 7] = [
        Group::Listening,
        Group::Locks,
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
            Group::Locks => "Locks and leases",
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
        help: "Listen on this address or host name, without a port.",
        set: |config, text| host(text).map(|value| config.host = value),
    },
    Flag {
        name: "port",
        env: &["DFLOCKD_PORT"],
        value: "PORT",
        default: "6388",
        group: Group::Listening,
        help: "Listen on this TCP port, 0 to 65535; 0 takes any free one, and the\n\
               ready line in the log names it.",
        set: |config, text| integer(text, 0..=65_535, "").map(|value| config.port = value as u16),
    },
    Flag {
        name: "distlockd-port",
        env: &["DFLOCKD_DISTLOCKD_PORT"],
        value: "PORT",
        default: "0",
        group: Group::Listening,
        help: "Listen on this TCP port for clients of the Python server distlockd, 1\n\
               to 65535; 0 is not at all.",
        set: |config, text| {
            integer(text, 0..=65_535, "").map(|value| config.distlockd.port = value as u16)
        },
    },
    Flag {
        name: "distlockd-host",
        env: &["DFLOCKD_DISTLOCKD_HOST"],
        value: "ADDRESS",
        default: "",
        group: Group::Listening,
        help: "Listen for those on this address; that of --host if not said.",
        set: |config, text| host(text).map(|value| config.distlockd.host = Some(value)),
    },
    Flag {
        name: "distlockd-lease",
        env: &["DFLOCKD_DISTLOCKD_LEASE_S"],
        value: "SECONDS",
        default: "10",
        group: Group::Locks,
        help: "How long a lock lasts that such a client took and does not take again,\n\
               1 to 9223372036.",
        set: |config, text| seconds(text, 1).map(|value| config.distlockd.lease = value),
    },
    Flag {
        name: "distlockd-no-auth",
        env: &["DFLOCKD_DISTLOCKD_NO_AUTH"],
        value: "",
        default: "false",
        group: Group::Security,
        help: "Let clients of distlockd, which cannot say a token, in without one;\n\
               with a token and without this, --distlockd-port is refused.",
        set: |config, text| boolean(text).map(|value| config.distlockd.no_auth = value),
    },
    Flag {
        name: "default-lease-ttl",
        env: &["DFLOCKD_DEFAULT_LEASE_TTL_S"],
        value: "SECONDS",
        default: "33",
        group: Group::Locks,
        help: "Lease of an acquire or a renewal that names none, 1 to 9223372036.",
        set: |config, text| seconds(text, 1).map(|value| config.default_lease = value),
    },
    Flag {
        name: "auto-release-on-disconnect",
        env: &["DFLOCKD_AUTO_RELEASE_ON_DISCONNECT"],
        value: "",
        default: "true",
        group: Group::Locks,
        help: "Release what a connection holds when it ends. With\n\
               --no-auto-release-on-disconnect a lock whose client is gone stays held\n\
               until its release or the end of its lease.",
        set: |config, text| boolean(text).map(|value| config.auto_release = value),
    },
    Flag {
        name: "deadlock-detection",
        env: &["DFLOCKD_DEADLOCK_DETECTION", "DEADLOCK_DETECTION"],
        value: "",
        default: "true",
        group: Group::Locks,
        help: "Refuse a wait at once, with error_deadlock, if all who could end it\n\
               wait for who asks.",
        set: |config, text| boolean(text).map(|value| config.deadlock_detection = value),
    },
    Flag {
        name: "gc-max-idle",
        env: &["DFLOCKD_GC_MAX_IDLE_S", "DFLOCKD_GC_MAX_UNUSED_TIME"],
        value: "SECONDS",
        default: "60",
        group: Group::Locks,
        help: "How long a key that nobody uses is remembered, and with it the limit of\n\
               a semaphore, 0 to 9223372036; 0 is not at all.",
        set: |config, text| seconds(text, 0).map(|value| config.max_idle = value),
    },
    Flag {
        name: "shutdown-timeout",
        env: &["DFLOCKD_SHUTDOWN_TIMEOUT_S"],
        value: "SECONDS",
        default: "30",
        group: Group::Locks,
        help: "After SIGTERM or SIGINT, cut the connections that still hold locks\n\
               when this time is over, 0 to 9223372036; 0 waits for ever.",
        set: |config, text| seconds(text, 0).map(|value| config.shutdown_timeout = value),
    },
    Flag {
        name: "max-locks",
        env: &["DFLOCKD_MAX_LOCKS"],
        value: "COUNT",
        default: "1024",
        group: Group::Limits,
        help: "How many keys, locks and semaphores together, may be held or waited\n\
               for at once, 1 to 1000000000; beyond that an acquire of a new key gets\n\
               error_max_locks.",
        set: |config, text| {
            integer(text, 1..=COUNT_MAX, "").map(|value| config.max_locks = value as usize)
        },
    },
    Flag {
        name: "max-waiters",
        env: &["DFLOCKD_MAX_WAITERS"],
        value: "COUNT",
        default: "0",
        group: Group::Limits,
        help: "How many may wait for one key, 0 to 1000000000; beyond that an acquire\n\
               gets error_max_waiters; 0 is any number.",
        set: |config, text| {
            integer(text, 0..=COUNT_MAX, "").map(|value| config.max_waiters = value as u32)
        },
    },
    Flag {
        name: "max-subscriptions",
        env: &["DFLOCKD_MAX_SUBSCRIPTIONS"],
        value: "COUNT",
        default: "0",
        group: Group::Limits,
        help: "Patterns that one connection may listen to, each group counted, 0 to\n\
               1000000000; one more gets error; 0 is any number.",
        set: |config, text| {
            integer(text, 0..=COUNT_MAX, "").map(|value| config.max_subscriptions = value as u32)
        },
    },
    Flag {
        name: "max-connections",
        env: &["DFLOCKD_MAX_CONNECTIONS"],
        value: "COUNT",
        default: "0",
        group: Group::Limits,
        help: "How many connections there may be at once, 0 to 1000000000; one more is\n\
               closed without a word; 0 is any number.",
        set: |config, text| {
            integer(text, 0..=COUNT_MAX, "").map(|value| config.max_connections = value as u32)
        },
    },
    Flag {
        name: "max-connections-per-ip",
        env: &["DFLOCKD_MAX_CONNECTIONS_PER_IP"],
        value: "COUNT",
        default: "0",
        group: Group::Limits,
        help: "The same for the connections from one address, 0 to 1000000000.",
        set: |config, text| {
            integer(text, 0..=COUNT_MAX, "")
                .map(|value| config.max_connections_per_ip = value as u32)
        },
    },
    Flag {
        name: "read-timeout",
        env: &["DFLOCKD_READ_TIMEOUT_S", "DFLOCKD_DFLOCKD_READ_TIMEOUT_S"],
        value: "SECONDS",
        default: "23",
        group: Group::Limits,
        help: "How long a client may take for a line, and how long one that neither\n\
               holds, waits nor listens may be silent, 1 to 9223372036.",
        set: |config, text| seconds(text, 1).map(|value| config.read_timeout = value),
    },
    Flag {
        name: "write-timeout",
        env: &["DFLOCKD_WRITE_TIMEOUT_S"],
        value: "SECONDS",
        default: "5",
        group: Group::Limits,
        help: "How long a client may read nothing of what it is sent before it is cut\n\
               off, 0 to 9223372036; 0 is for ever.",
        set: |config, text| seconds(text, 0).map(|value| config.write_timeout = value),
    },
    Flag {
        name: "auth-token-file",
        env: &["DFLOCKD_AUTH_TOKEN_FILE"],
        value: "FILE",
        default: "",
        group: Group::Security,
        help: "Read from this file, once, what each client has to say before anything\n\
               else.",
        set: |config, text| secret_file(text).map(|value| config.auth.file = Some(value)),
    },
    Flag {
        name: "auth-token",
        env: &["DFLOCKD_AUTH_TOKEN"],
        value: "TOKEN",
        default: "",
        group: Group::Security,
        help: "What each client has to say before anything else. Other users of the\n\
               host can see a command line: a file is better.",
        set: |config, text| secret(text.as_bytes()).map(|value| config.auth.token = Some(value)),
    },
    Flag {
        name: "debug",
        env: &["DFLOCKD_DEBUG"],
        value: "",
        default: "false",
        group: Group::Logging,
        help: "Log events of level debug as well: each deadlock, and each turn of the\n\
               event loop that took longer than any before.",
        set: |config, text| boolean(text).map(|value| config.debug = value),
    },
    Flag {
        name: "lease-sweep-interval",
        env: &["DFLOCKD_LEASE_SWEEP_INTERVAL_S"],
        value: "SECONDS",
        default: "1",
        group: Group::Compatibility,
        help: "Checked, 1 to 9223372036, and without effect: leases end on time,\n\
               nothing sweeps.",
        set: |_, text| seconds(text, 1).map(drop),
    },
    Flag {
        name: "gc-interval",
        env: &["DFLOCKD_GC_INTERVAL_S", "DFLOCKD_GC_LOOP_SLEEP"],
        value: "SECONDS",
        default: "5",
        group: Group::Compatibility,
        help: "Checked, 1 to 9223372036, and without effect: nothing sweeps.",
        set: |_, text| seconds(text, 1).map(drop),
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

/// Options of the contract that this build does not have, and their variables: they are refused by name, since
/// who asks for TLS must not get plain text.
pub(super) static PLANNED: &[(&str, &[&str])] = &[
    ("tls-cert", &["DFLOCKD_TLS_CERT"]),
    ("tls-key", &["DFLOCKD_TLS_KEY"]),
];

/// Records are linked by 32-bit indices; this leaves them room, and is far beyond any memory.
const COUNT_MAX: i64 = 1_000_000_000;

fn integer(text: &str, range: RangeInclusive<i64>, unit: &str) -> Result<i64, String> {
    // Rust's own grammar is the contract's: decimal, optional sign, leading zeros, nothing else.
    match text.parse() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err(format!("{} to {}{unit}", range.start(), range.end())),
    }
}

fn seconds(text: &str, least: i64) -> Result<Us, String> {
    integer(text, least..=SECONDS_MAX as i64, " seconds").map(|value| value as Us * SECOND)
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "0" | "no" | "false" | "off" => Ok(false),
        _ => Err("1, yes, true or on; 0, no, false or off".to_string()),
    }
}

/// Brackets around an IPv6 address, as in a URL, are left away. What has a colon is such an address or has a port.
fn host(text: &str) -> Result<String, String> {
    let inside = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let host = inside.filter(|inside| inside.contains(':')).unwrap_or(text);
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '[' || c == ']';
    let has_port = host.contains(':') && host.parse::<Ipv6Addr>().is_err() && !host.contains('%');
    if host.is_empty() || host.contains(odd) || has_port {
        return Err("an address or a host name, without a port".to_string());
    }
    Ok(host.to_string())
}

fn secret_file(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("the path of a file".to_string())
    } else {
        Ok(text.to_string())
    }
}

/// A secret as it can be said on the line: trimmed, not empty, one line, not over the cap.
pub fn secret(text: &[u8]) -> Result<Vec<u8>, String> {
    let secret = text.trim_ascii();
    if secret.is_empty() || secret.len() > SECRET_MAX || secret.contains(&b'\n') {
        return Err(format!("1 to {SECRET_MAX} bytes on one line"));
    }
    Ok(secret.to_vec())
}
