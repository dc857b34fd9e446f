//! Addresses that other hosts can reach, and what is open to them there. Invariant: names are not resolved.

use std::net::IpAddr;

use super::Config;

/// The warning about an address that other hosts can reach: which protections are off.
pub(super) fn exposure(config: &Config) -> Option<String> {
    let Config {
        distlockd, http, ..
    } = config;
    let host = |port: Option<u16>, own: &'_ Option<String>| {
        let host = own.as_ref().unwrap_or(&config.host);
        port.map(|_| host.clone()).filter(|host| !is_loopback(host))
    };
    let distlockd = host(distlockd.port, &distlockd.host);
    let http_host = host(http.port, &http.host);
    let lines = host(Some(config.port), &None);
    let is_distlockd = distlockd.is_some();
    let host = lines.or(distlockd).or(http_host.clone())?;
    let mut open = Vec::new();
    let is_plain = config.tls.cert.is_some() && !config.tls.http && http_host.is_some();
    if is_plain {
        open.push(
            "HTTP is without TLS there: --http-host=127.0.0.1 lets only a proxy in".to_string(),
        );
    }
    // A client without a certificate is not let in.
    let are_known =
        config.tls.client_ca.is_some() && !is_plain && (!is_distlockd || config.tls.distlockd);
    if !config.has_auth() && !are_known {
        open.push("without --auth-token-file any client can take any lock".to_string());
    } else if config.has_auth() && is_distlockd {
        open.push("with --distlockd-no-auth any distlockd client can take any lock".to_string());
    }
    let limits = [
        ("--max-connections", config.max_connections == 0),
        (
            "--max-connections-per-ip",
            config.max_connections_per_ip == 0,
        ),
        ("--max-waiters", config.max_waiters == 0),
        ("--max-holds", config.max_holds == 0),
        ("--max-subscriptions", config.max_subscriptions == 0),
        ("--max-backlog", config.max_backlog == 0),
    ];
    let unlimited: Vec<&str> = limits
        .iter()
        .filter(|limit| limit.1)
        .map(|limit| limit.0)
        .collect();
    if !unlimited.is_empty() {
        open.push(format!("without a limit: {}", unlimited.join(", ")));
    }
    let open = (!open.is_empty()).then(|| open.join("; "))?;
    Some(format!("host {host} is not a loopback address; {open}"))
}

/// Names are not resolved here: only "localhost" counts, because it always means loopback.
pub(super) fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}
