//! The grammar of the values that options take. Invariant: an error is one line that says which values are wanted.

use std::net::Ipv6Addr;
use std::num::IntErrorKind;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::File;
use crate::command::{SECOND, SECONDS_MAX, Us};

/// Records are linked by 32-bit indices. This leaves room for them, and no host has the memory for so many.
const COUNT_MAX: i64 = 1_000_000_000;
/// The longest name in etcd, in bytes.
const NAME_MAX: usize = 256;
/// The largest budget of memory, in bytes.
const BYTES_MAX: i64 = 1_000_000_000_000;

/// A number in a range; `what` names it, with its unit, for the error.
pub(super) fn integer(text: &str, range: RangeInclusive<i64>, what: &str) -> Result<i64, String> {
    let (least, most) = (*range.start(), *range.end());
    let want = format!("want {what}, {least} to {most}");
    // Rust's own grammar is the contract's: decimal, optional sign, leading zeros, nothing else.
    let is_above = match text.parse::<i64>() {
        Ok(value) if range.contains(&value) => return Ok(value),
        Ok(value) => value > most,
        Err(e) if *e.kind() == IntErrorKind::PosOverflow => true,
        Err(e) if *e.kind() == IntErrorKind::NegOverflow => false,
        Err(_) => return Err(want),
    };
    Err(match is_above {
        true => format!("above {most}; {want}"),
        false => format!("below {least}; {want}"),
    })
}

pub(super) fn count(text: &str, least: i64) -> Result<i64, String> {
    integer(text, least..=COUNT_MAX, "a whole number")
}

pub(super) fn bytes(text: &str) -> Result<usize, String> {
    integer(text, 0..=BYTES_MAX, "a number of bytes")
        .map(|value| usize::try_from(value).unwrap_or(usize::MAX))
}

pub(super) fn seconds(text: &str, least: i64) -> Result<Us, String> {
    integer(text, least..=SECONDS_MAX as i64, "whole seconds").map(|value| value as Us * SECOND)
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "0" | "no" | "false" | "off" => Ok(false),
        _ => Err("want true or false (or 1, yes, on, 0, no, off)".to_string()),
    }
}

/// Takes the brackets off an IPv6 address, as a URL has them. A text with a colon in it that is no such address has a
/// port, and is refused.
pub(super) fn host(text: &str) -> Result<String, String> {
    let inside = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let host = inside.filter(|inside| inside.contains(':')).unwrap_or(text);
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '[' || c == ']';
    let has_port = host.contains(':') && host.parse::<Ipv6Addr>().is_err() && !host.contains('%');
    if host.is_empty() || host.contains(odd) || has_port {
        return Err("want an address or a host name, without a port".to_string());
    }
    Ok(host.to_string())
}

/// Origins, with commas between, each as browsers send it: in lower case and without the usual port of its scheme.
pub(super) fn origins(text: &str) -> Result<Vec<String>, String> {
    text.split(',')
        .map(|origin| self::origin(origin.trim()))
        .collect()
}

/// An origin: RFC 6454, 6.2.
fn origin(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let plain = match lower.split_once("://") {
        Some(("http", place)) => Some(("http", place.strip_suffix(":80").unwrap_or(place))),
        Some(("https", place)) => Some(("https", place.strip_suffix(":443").unwrap_or(place))),
        _ => None,
    };
    let (name, port) = match plain.map(|(_, place)| (place, place.rsplit_once(':'))) {
        // In brackets a colon belongs to an IPv6 address.
        Some((_, Some((name, port)))) if !port.ends_with(']') => (name, Some(port)),
        Some((place, _)) => (place, None),
        None => ("", None),
    };
    let inside = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let is_name = |name: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        !name.is_empty() && name.chars().all(is_plain)
    };
    let is_host = match inside {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => is_name(name),
    };
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    match plain {
        Some((scheme, place)) if is_host && port.is_none_or(is_port) => {
            Ok(format!("{scheme}://{place}"))
        }
        _ => Err("want origins, each http://HOST or https://HOST, perhaps with :PORT, with commas between".to_string()),
    }
}

/// The addresses of etcd, with commas between.
pub(super) fn endpoints(text: &str) -> Result<Vec<String>, String> {
    let want = |_| {
        "want the addresses of etcd, each http://HOST:PORT or https://HOST:PORT, with commas between"
            .to_string()
    };
    let each = text.split(',').map(|endpoint| endpoint.trim());
    let with_port = |endpoint: &str| {
        let endpoint = endpoint.strip_suffix('/').unwrap_or(endpoint);
        let origin = origin(endpoint).map_err(want)?;
        match has_port(endpoint) {
            true => Ok(origin),
            false => Err(format!(
                "want a port in {endpoint}, which is {endpoint}:2379 unless etcd was told otherwise"
            )),
        }
    };
    each.map(with_port).collect()
}

/// Whether an origin names its port. In brackets a colon belongs to an IPv6 address.
fn has_port(origin: &str) -> bool {
    let (_, place) = origin.split_once("://").unwrap_or_default();
    let port = place.rsplit_once(':');
    port.is_some_and(|(_, port)| !port.ends_with(']'))
}

/// The beginning of all keys in etcd.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    let want =
        || format!("want 1 to {NAME_MAX} bytes, without blanks and without a slash at the end");
    node(text)
        .ok()
        .filter(|text| !text.ends_with('/'))
        .ok_or_else(want)
}

/// The name of a server, or of a user of etcd.
pub(super) fn node(text: &str) -> Result<String, String> {
    let odd = |c: char| c.is_whitespace() || c.is_control();
    match text.len() {
        1..=NAME_MAX if !text.contains(odd) => Ok(text.to_string()),
        _ => Err(format!(
            "want a name of 1 to {NAME_MAX} bytes, without blanks"
        )),
    }
}

/// A file. Which option has named it is noted later.
pub(super) fn file(text: &str) -> Result<File, String> {
    secret_file(text).map(|path| File {
        path,
        from: String::new(),
    })
}

pub(super) fn secret_file(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("want the path of a file".to_string())
    } else {
        Ok(text.to_string())
    }
}

pub(super) fn folder(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        Err("want the path of a folder".to_string())
    } else {
        Ok(text.into())
    }
}
