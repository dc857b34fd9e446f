//! The bodies of requests: a JSON object (RFC 8259) to what it asks for. serde_json finds the members; their values are
//! read here, from the text of each, so that a number of seconds is exact and an object is kept as it was sent.
//! Invariant: a member that a route knows is there at most once, has its type and its range, or is reported; null is
//! the same as no member.

use core::fmt;

use serde_core::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::route::fence;
use super::{Acquire, Asked, Problem, Release, Renew, Route, Settings};
use crate::command::{SECOND, Token, Us};
use crate::wire::text::{self, LIMIT_MAX};

/// How deep a body may be nested, itself included.
pub const DEPTH_MAX: usize = 16;
/// The same for `metadata`.
pub const METADATA_DEPTH_MAX: usize = 8;
/// The longest `metadata`, in bytes as sent.
pub const METADATA_MAX: usize = 4096;
/// The longest `clientId`, in bytes.
pub const CLIENT_MAX: usize = 128;
/// The longest `keepPlace`.
pub const KEEP_MAX: Us = 10 * SECOND;
/// The shortest lease.
pub const LEASE_MIN: Us = SECOND / 10;

const ACQUIRE: &[&str] = &[
    "clientId",
    "timeout",
    "waitTimeout",
    "autoRenew",
    "metadata",
    "limit",
    "requestId",
    "keepPlace",
];
const RELEASE: &[&str] = &["clientId", "lockId", "renewalToken", "requestId"];
const RENEW: &[&str] = &["clientId", "lockId", "renewalToken", "timeout"];

/// Reads the body of a request of this route. An empty one is an empty object.
pub fn body(route: Route, body: &[u8], settings: &Settings) -> Result<Asked, Problem> {
    let read = match route {
        Route::Acquire => acquire,
        Route::Release => release,
        Route::Renew => renew,
        _ => return Ok(Asked::Nothing),
    };
    let known = match route {
        Route::Acquire => ACQUIRE,
        Route::Release => RELEASE,
        _ => RENEW,
    };
    let mut fields = Fields::of(body, known)?;
    let asked = read(&mut fields, settings);
    match fields.errors.is_empty() {
        true => asked,
        false => Err(Problem::fields(fields.errors)),
    }
}

fn acquire(fields: &mut Fields, settings: &Settings) -> Result<Asked, Problem> {
    let asked = Acquire {
        client: fields.client(),
        lease: fields.lease(settings).unwrap_or(settings.default_timeout),
        wait: fields
            .seconds("waitTimeout", 0, settings.max_wait)
            .unwrap_or(0),
        renews: fields.boolean("autoRenew").unwrap_or(false),
        metadata: fields.metadata(),
        limit: fields.limit(),
        attempt: fields.attempt(),
        keep: fields.seconds("keepPlace", 0, KEEP_MAX).unwrap_or(0),
    };
    if asked.keep > 0 && fields.is_absent("requestId") {
        fields.wrong("keepPlace", "want a requestId with it");
    }
    Ok(Asked::Acquire(asked))
}

fn release(fields: &mut Fields, _: &Settings) -> Result<Asked, Problem> {
    let asked = Release {
        client: fields.client(),
        fence: fields.fence(),
        token: fields.token(),
        attempt: fields.attempt(),
    };
    match asked {
        Release {
            fence: None,
            token: None,
            attempt: None,
            ..
        } => Err(Problem::new(
            "missing-lock-id",
            "name the hold by its lockId or its renewalToken, or the attempt by its requestId; \
             the same client may hold the lock anew",
        )),
        // Everybody may see a lockId.
        _ if !fields.is_absent("lockId")
            && fields.is_absent("clientId")
            && fields.is_absent("renewalToken") =>
        {
            fields.wrong("clientId", "want the client of the hold beside its lockId");
            Ok(Asked::Release(asked))
        }
        _ => Ok(Asked::Release(asked)),
    }
}

fn renew(fields: &mut Fields, settings: &Settings) -> Result<Asked, Problem> {
    if fields.is_absent("renewalToken") {
        fields.wrong("renewalToken", "want the renewalToken of the hold");
    }
    Ok(Asked::Renew(Renew {
        token: fields.token().unwrap_or_default(),
        lease: fields.lease(settings),
        fence: fields.fence(),
        client: fields.client(),
    }))
}

/// The members of a body that its route knows, as sent, and what is wrong with them.
struct Fields<'a> {
    known: &'static [&'static str],
    values: [Option<&'a str>; ACQUIRE.len()],
    errors: Vec<(&'static str, String)>,
}

impl<'a> Fields<'a> {
    fn of(body: &'a [u8], known: &'static [&'static str]) -> Result<Fields<'a>, Problem> {
        let mut fields = Fields {
            known,
            values: [None; ACQUIRE.len()],
            errors: Vec::new(),
        };
        if body.is_empty() {
            return Ok(fields);
        }
        let bad = |why: &dyn fmt::Display| Problem::new("invalid-json", why.to_string());
        let text = str::from_utf8(body).map_err(|error| bad(&error))?;
        let depth = depth(text).map_err(|why| bad(&why))?;
        if depth > DEPTH_MAX {
            return Err(bad(&format!("it is nested deeper than {DEPTH_MAX}")));
        }
        let mut source = serde_json::Deserializer::from_str(text);
        if text.trim_ascii_start().starts_with('{') {
            let read = source.deserialize_map(Members(&mut fields));
            read.and_then(|()| source.end())
                .map_err(|error| bad(&error))?;
        } else {
            let read = serde_json::from_str::<&RawValue>(text);
            read.map_err(|error| {
                bad(&format!(
                    "send a JSON object, such as {{\"clientId\":\"ann\"}}: {error}"
                ))
            })?;
            return Err(Problem::fields(vec![("body", "want a JSON object".into())]));
        }
        Ok(fields)
    }

    /// The text of a member. None: there is none, or it is null.
    fn get(&self, field: &str) -> Option<&'a str> {
        let at = self.known.iter().position(|&known| known == field)?;
        self.values[at].filter(|&raw| raw != "null")
    }

    fn is_absent(&self, field: &str) -> bool {
        self.get(field).is_none()
    }

    fn wrong(&mut self, field: &'static str, why: impl Into<String>) {
        self.errors.push((field, why.into()));
    }

    /// Reads a member; `read` answers None if it is not what is wanted.
    fn read<T>(
        &mut self,
        field: &'static str,
        want: impl FnOnce() -> String,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Option<T> {
        let raw = self.get(field)?;
        let value = read(raw);
        if value.is_none() {
            self.wrong(field, want());
        }
        value
    }

    fn client(&mut self) -> Option<Vec<u8>> {
        let want = || format!("want text of 1 to {CLIENT_MAX} bytes without control characters");
        self.read("clientId", want, |raw| {
            let client = string(raw)?;
            let is_name = (1..=CLIENT_MAX).contains(&client.len());
            (is_name && !client.chars().any(char::is_control)).then(|| client.into_bytes())
        })
    }

    fn lease(&mut self, settings: &Settings) -> Option<Us> {
        self.seconds("timeout", LEASE_MIN, settings.max_timeout)
    }

    fn seconds(&mut self, field: &'static str, least: Us, most: Us) -> Option<Us> {
        let want = || {
            let (least, most) = (least as f64 / SECOND as f64, most as f64 / SECOND as f64);
            format!("want a number of seconds, {least} to {most}")
        };
        self.read(field, want, |raw| {
            let span = decimal(raw, 6)?.0;
            (least..=most).contains(&span).then_some(span)
        })
    }

    fn boolean(&mut self, field: &'static str) -> Option<bool> {
        let want = || "want true or false".to_string();
        self.read(field, want, |raw| raw.parse().ok())
    }

    fn metadata(&mut self) -> Option<Box<[u8]>> {
        let want = || {
            format!(
                "want an object of up to {METADATA_MAX} bytes, nested up to {METADATA_DEPTH_MAX} deep"
            )
        };
        self.read("metadata", want, |raw| {
            let fits = raw.len() <= METADATA_MAX
                && depth(raw).is_ok_and(|depth| depth <= METADATA_DEPTH_MAX);
            (raw.starts_with('{') && fits).then(|| raw.as_bytes().into())
        })
    }

    fn limit(&mut self) -> Option<u32> {
        let want = || format!("want a whole number, 1 to {LIMIT_MAX}");
        self.read("limit", want, |raw| {
            let (limit, is_whole) = decimal(raw, 0)?;
            (is_whole && (1..=LIMIT_MAX).contains(&limit)).then_some(limit as u32)
        })
    }

    fn attempt(&mut self) -> Option<Vec<u8>> {
        let want = || "want 16 to 64 of A-Z a-z 0-9 - _".to_string();
        let attempt = self.read("requestId", want, |raw| {
            let attempt = string(raw)?.into_bytes();
            let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
            let is_secret = (16..=64).contains(&attempt.len());
            (is_secret && attempt.iter().all(is_plain)).then_some(attempt)
        })?;
        if self.is_absent("clientId") {
            self.wrong("requestId", "want a clientId with it");
        }
        Some(attempt)
    }

    fn fence(&mut self) -> Option<u64> {
        let want = || "want the lockId of the hold, a text".to_string();
        self.read("lockId", want, |raw| Some(fence(string(raw)?.as_bytes())))
    }

    fn token(&mut self) -> Option<Token> {
        let want = || "want the renewalToken of the hold, a text".to_string();
        self.read("renewalToken", want, |raw| {
            Some(text::token(string(raw)?.as_bytes()).unwrap_or_default())
        })
    }
}

fn string(raw: &str) -> Option<String> {
    serde_json::from_str(raw).ok()
}

/// Reads a JSON number as a multiple of 10^-`scale`, rounded down, and says whether nothing was lost. What is too large
/// becomes the largest number. None: it is below zero, or no number.
fn decimal(raw: &str, scale: i64) -> Option<(u64, bool)> {
    if !raw.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        return None;
    }
    let (is_negative, raw) = match raw.strip_prefix('-') {
        Some(raw) => (true, raw),
        None => (false, raw),
    };
    let (mantissa, exponent) = raw.split_once(['e', 'E']).unwrap_or((raw, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // An exponent that is too large for the type moves the point out of all 64 KiB of digits, too.
    let exponent = exponent.parse().unwrap_or(match exponent.starts_with('-') {
        true => -BEYOND,
        false => BEYOND,
    });
    let places = whole.len() as i64 + i64::clamp(exponent, -BEYOND, BEYOND) + scale;
    let (mut value, mut is_exact, mut seen) = (0_u64, true, 0);
    for digit in whole
        .bytes()
        .chain(fraction.bytes())
        .map(|digit| digit - b'0')
    {
        if seen < places {
            value = value.saturating_mul(10).saturating_add(digit.into());
        } else {
            is_exact &= digit == 0;
        }
        seen += 1;
    }
    while seen < places && (1..u64::MAX).contains(&value) {
        value = value.saturating_mul(10);
        seen += 1;
    }
    let is_zero = value == 0 && is_exact;
    (!is_negative || is_zero).then_some((value, is_exact))
}

/// More than any number of digits in a body.
const BEYOND: i64 = 1 << 20;

/// How deep a JSON text is nested. It is an error if half of a surrogate pair is escaped in it: readers disagree about
/// what that is (RFC 8259, 8.2). Nothing else is checked.
fn depth(text: &str) -> Result<usize, &'static str> {
    // Most bodies open one bracket and escape nothing, and counting brackets is much faster than to walk.
    let opened = text.bytes().filter(|byte| matches!(byte, b'[' | b'{'));
    let opened = opened.count();
    if opened <= 1 && !text.as_bytes().contains(&b'\\') {
        return Ok(opened);
    }
    let (mut depth, mut deepest, mut in_string) = (0_usize, 0, false);
    let (mut at, text) = (0, text.as_bytes());
    // Whether the last thing in a string was the escape of the first half of a pair.
    let mut half = false;
    while let Some(&byte) = text.get(at) {
        let mut unit = 0;
        at += 1;
        match (byte, in_string) {
            (b'"', _) => in_string = !in_string,
            (b'[' | b'{', false) => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (b']' | b'}', false) => depth = depth.saturating_sub(1),
            (b'\\', true) => {
                let escape = &text[at..];
                unit = escape.strip_prefix(b"u").map_or(0, unit_of);
                // An escape that is cut short makes the text invalid, so it does not matter what is skipped.
                at += if escape.starts_with(b"u") { 5 } else { 1 };
            }
            _ => {}
        }
        let is_second = (0xdc00..0xe000).contains(&unit);
        if is_second != half {
            return Err("half of a surrogate pair is escaped in it");
        }
        half = (0xd800..0xdc00).contains(&unit);
    }
    Ok(deepest)
}

/// The code unit of four hex digits; 0 if they are none.
fn unit_of(digits: &[u8]) -> u16 {
    let digits = digits
        .get(..4)
        .and_then(|digits| str::from_utf8(digits).ok());
    digits
        .and_then(|digits| u16::from_str_radix(digits, 16).ok())
        .unwrap_or(0)
}

/// Takes the members of an object: those that are known, each once.
struct Members<'m, 'a>(&'m mut Fields<'a>);

impl<'a> Visitor<'a> for Members<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let fields = self.0;
        while let Some(at) = map.next_key_seed(Key(fields.known))? {
            let Some(at) = at else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if fields.values[at].is_some() {
                let name = fields.known[at];
                return Err(A::Error::custom(format_args!("there are two {name}")));
            }
            let raw: &RawValue = map.next_value()?;
            fields.values[at] = Some(raw.get());
        }
        Ok(())
    }
}

/// Looks a key up in those that are known.
struct Key(&'static [&'static str]);

impl<'a> DeserializeSeed<'a> for Key {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'a>>(self, source: D) -> Result<Option<usize>, D::Error> {
        source.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|&known| known == key))
    }
}
