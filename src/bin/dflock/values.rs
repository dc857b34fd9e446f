//! The values of options and variables, each read strictly. A mistake is one line of text that begins with the name of
//! the option or the variable. Invariant: a value that is returned is within its range.

use std::ffi::OsStr;
use std::net::SocketAddrV6;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;

use dflockd::client::Owner;
use dflockd::command::{SECOND, SECONDS_MAX, Us};
use dflockd::config;

/// The port of a server that is named without one.
pub const PORT: u16 = 6388;
/// How many hexadecimal digits a fence has, at the beginning of a token.
const FENCE_DIGITS: usize = 16;
const TOKEN_DIGITS: usize = 32;

/// Splits a list of servers, each perhaps with `|` between its alternatives; a missing port is dflockd's.
pub fn addresses(name: &str, list: &OsStr) -> Result<Vec<String>, String> {
    let forms = "HOST:PORT[,HOST:PORT...], IPv6 in brackets, | between alternatives of one server";
    let wanted = || want(name, list.as_bytes(), forms);
    let list = list.to_str().ok_or_else(wanted)?;
    list.split(',')
        .map(|server| alternatives(name, server).unwrap_or_else(|| Err(wanted())))
        .collect()
}

/// A server with a port at each of its alternatives. None if one is no address.
pub fn alternatives(name: &str, server: &str) -> Option<Result<String, String>> {
    let places: Vec<&str> = server.split('|').map(str::trim).collect();
    if places.len() > 1 && places.contains(&"") {
        let wanted = "HOST:PORT on both sides of each |";
        return Some(Err(want(name, server.as_bytes(), wanted)));
    }
    let places = places.into_iter().map(|place| address(place, Some(PORT)));
    let places: Vec<String> = places.collect::<Option<_>>()?;
    Some(Ok(places.join("|")))
}

/// A host and its port; `port` if it has none. Only an IPv6 address has colons, and it has brackets around them.
pub fn address(text: &str, port: Option<u16>) -> Option<String> {
    let end = match text.find(']') {
        Some(at) => at + 1,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(end);
    let port = match rest.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        None if rest.is_empty() => port?,
        _ => return None,
    };
    let address = format!("{host}:{port}");
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || "/|@[]".contains(c);
    let is_name = !host.is_empty() && !host.contains(is_odd);
    let is_good = port > 0 && (is_name || address.parse::<SocketAddrV6>().is_ok());
    is_good.then_some(address)
}

/// The token in a file.
pub fn secret(name: &str, path: &OsStr) -> Result<Vec<u8>, String> {
    config::secret_in(name, path).map_err(|e| e.to_string())
}

pub fn owner(name: &str, id: &OsStr) -> Result<Owner, String> {
    Owner::new(id.as_bytes()).map_err(|e| format!("{name}: {e}"))
}

/// Seconds, perhaps with decimals, in microseconds; `least` is in microseconds too.
pub fn span(name: &str, value: &OsStr, least: Us) -> Result<Us, String> {
    let wanted = || {
        let more = if least > 0 { "more than 0" } else { "0" };
        let text = format!("seconds, {more} to {SECONDS_MAX}, decimals allowed");
        want(name, value.as_bytes(), &text)
    };
    let text = value.to_str().ok_or_else(wanted)?;
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // A decimal point may come first, but not last.
    let whole = if whole.is_empty() && value.len() > 1 {
        "0"
    } else {
        whole
    };
    if !is_number(whole) || !is_number(part) {
        return Err(wanted());
    }
    let whole: u64 = whole.parse().map_err(|_| wanted())?;
    let micros: u64 = format!("{part:0<6}")[..6].parse().map_err(|_| wanted())?;
    let span = whole.saturating_mul(SECOND).saturating_add(micros);
    if whole > SECONDS_MAX || span < least {
        return Err(wanted());
    }
    Ok(span)
}

/// A decimal number within its range. `what` is what it counts, in the words of a message: "a whole number", "whole
/// seconds".
pub fn number(
    name: &str,
    value: &OsStr,
    what: &str,
    range: RangeInclusive<u64>,
) -> Result<u64, String> {
    value
        .to_str()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            want(
                name,
                value.as_bytes(),
                &format!("{what}, {least} to {most}"),
            )
        })
}

/// The fence of a hold: decimal as dflock prints it, or 16 hexadecimal digits, which a token begins with and the server
/// prints. No fence has 16 decimal digits: it is never less than the nanoseconds since 1970.
pub fn fence(value: &OsStr) -> Result<u64, String> {
    let text = value.to_str().unwrap_or_default();
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    let fence = match text.len() {
        FENCE_DIGITS if is_hex => u64::from_str_radix(text, 16).ok(),
        _ if is_decimal => text.parse().ok(),
        _ => None,
    };
    let wanted = "a decimal number above 0, or exactly 16 hexadecimal digits";
    fence
        .filter(|&fence| fence > 0)
        .ok_or_else(|| match text.len() {
            // A token proves a hold: it is not repeated on a screen or in a log.
            TOKEN_DIGITS if is_hex => {
                format!("FENCE: want {wanted}: the first 16 digits of this token")
            }
            _ => want("FENCE", value.as_bytes(), wanted),
        })
}

/// The message for what lexopt cannot read: an option without its value, or with one too many.
pub fn unread(error: lexopt::Error) -> String {
    match error {
        lexopt::Error::MissingValue {
            option: Some(option),
        } => format!("{option}: want a value behind it"),
        lexopt::Error::UnexpectedValue { option, value } => {
            format!("{option}: want no value, not {value:?}")
        }
        error => error.to_string(),
    }
}

/// The message for a bad value.
pub fn want(name: &str, value: &[u8], wanted: &str) -> String {
    let value = String::from_utf8_lossy(value);
    format!("{name}: want {wanted}, not {value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_perhaps_a_port() {
        for (text, meant) in [
            ("h:1", "h:1"),
            ("h", "h:6388"),
            ("127.0.0.1", "127.0.0.1:6388"),
            ("[::1]", "[::1]:6388"),
            ("[::1]:65535", "[::1]:65535"),
            ("b\u{fc}ro:7", "b\u{fc}ro:7"),
        ] {
            assert_eq!(address(text, Some(PORT)).as_deref(), Some(meant));
        }
        for text in [
            "",
            ":1",
            "h:",
            "h:0",
            "h:+1",
            "h:65536",
            "h:1:2",
            "::1",
            "::1:6388",
            "[::1",
            "::1]",
            "[]:1",
            "[::1]1",
            "[h]:1",
            "http://h",
            "http://h:1",
            "//h",
            "h/",
            "h:1/",
            "a|b",
            "me@h",
            "a b",
            "a\n",
        ] {
            assert_eq!(address(text, Some(PORT)), None, "{text:?}");
        }
        assert_eq!(address("h", None), None);
    }

    #[test]
    fn a_fence_is_decimal_or_has_sixteen_hexadecimal_digits() {
        let of = |text: &str| fence(OsStr::new(text));
        for (text, meant) in [
            ("1", 1),
            ("1795224968123456789", 1795224968123456789),
            ("18446744073709551615", u64::MAX),
            ("18e9eb98d4e91d15", 0x18e9eb98d4e91d15),
            ("18E9EB98D4E91D15", 0x18e9eb98d4e91d15),
            ("1234567890123456", 0x1234567890123456),
        ] {
            assert_eq!(of(text), Ok(meant), "{text}");
        }
        for text in [
            "",
            "0",
            "0000000000000000",
            "-1",
            "+1",
            "18e9",
            "18e9eb98d4e91d1",
            "+8e9eb98d4e91d15",
            "18446744073709551616",
            "0x18e9eb98d4e91d15",
        ] {
            let message = of(text).unwrap_err();
            assert!(message.ends_with(&format!("not {text:?}")), "{message}");
        }
        let token = "18e9eb98d4e91d15c5bb0cdc3986ff01";
        let message = of(token).unwrap_err();
        assert!(!message.contains(&token[16..]), "{message}");
    }
}
