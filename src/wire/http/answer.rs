//! Answers: status line, headers and body. What the body of a list or a page says is made elsewhere. Invariant: an
//! answer has a length unless it has no body, and nothing that a client sent is in its headers but an id and an origin
//! that were checked.

use super::{Answer, Asked, Clock, Exchange, Granted, Method, Problem, Route, route};
use crate::base::date::Date;
use crate::command::{SECOND, Us};
use crate::wire::json::write_string;
use crate::wire::text::{write_hex, write_number, write_token};

/// The type of most answers, and of the bodies that are read.
pub const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// Appends the answer to a request about a lock.
pub fn write(answer: &Answer, exchange: &Exchange, clock: Clock, out: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(512);
    match *answer {
        Answer::Deadlock {
            client,
            waited,
            cycle,
        } => {
            let problem = Problem::new(
                "deadlock",
                "the clients in the cycle wait for each other; release what you hold, then try again",
            );
            write_members(&problem, &exchange.id, &mut body);
            write_refused(client, waited, exchange, &mut body);
            write_cycle(cycle, &mut body);
            body.push(b'}');
            return write_whole(&problem, exchange, &body, clock, out);
        }
        Answer::Granted(ref granted) => write_granted(granted, exchange, clock, &mut body),
        Answer::NotGranted {
            client,
            waited,
            reason,
            kept,
        } => {
            body.extend_from_slice(b"{\"lockId\":null");
            write_names(client, exchange, &mut body);
            body.extend_from_slice(b",\"acquired\":false,\"expiresAt\":null,\"renewalToken\":null");
            write_seconds(",\"waitTime\":", waited, &mut body);
            body.extend_from_slice(b",\"reason\":");
            write_string(reason.as_bytes(), &mut body);
            if let Some(kept) = kept {
                write_seconds(",\"placeKept\":", kept, &mut body);
            }
        }
        Answer::Released { client, fence } => write_released(client, fence, exchange, &mut body),
        Answer::Broken {
            count,
            holds,
            waiting,
        } => {
            write_broken(holds, exchange, &mut body);
            body.extend_from_slice(format!(",\"count\":{count},\"waiters\":{waiting}").as_bytes());
        }
    }
    body.push(b'}');
    write_body(JSON, &body, &[], exchange, clock, out);
}

fn write_granted(granted: &Granted, exchange: &Exchange, clock: Clock, body: &mut Vec<u8>) {
    let Granted {
        client,
        token,
        lease,
        waited,
        renews,
    } = *granted;
    let end = clock.wall_us.saturating_add(lease);
    write_lock_id("{\"lockId\":", token.fence, body);
    write_names(client, exchange, body);
    write_instant(",\"acquired\":true,\"expiresAt\":", end, body);
    body.extend_from_slice(b",\"renewalToken\":\"");
    write_token(token, body);
    write_seconds("\",\"waitTime\":", waited, body);
    write_seconds(",\"ttl\":", lease, body);
    body.extend_from_slice(b",\"fencingToken\":\"");
    write_hex(token.fence, body);
    body.push(b'"');
    if let Some(renews) = renews {
        let until = clock.wall_us.saturating_add(renews);
        write_instant(",\"autoRenewUntil\":", until, body);
    }
}

fn write_released(
    client: Option<&[u8]>,
    fence: Option<u64>,
    exchange: &Exchange,
    body: &mut Vec<u8>,
) {
    body.extend_from_slice(b"{\"lockName\":");
    write_string(&exchange.name, body);
    match fence {
        Some(fence) => write_lock_id(",\"lockId\":", fence, body),
        None => body.extend_from_slice(b",\"lockId\":null"),
    }
    body.extend_from_slice(b",\"clientId\":");
    match client {
        Some(client) => write_string(client, body),
        None => body.extend_from_slice(b"null"),
    }
    body.extend_from_slice(match fence {
        Some(_) => b",\"released\":true",
        None => b",\"released\":false",
    });
}

fn write_broken(holds: &[(u64, Vec<u8>)], exchange: &Exchange, body: &mut Vec<u8>) {
    body.extend_from_slice(b"{\"lockName\":");
    write_string(&exchange.name, body);
    body.extend_from_slice(b",\"released\":true,\"locks\":[");
    for (at, (fence, client)) in holds.iter().enumerate() {
        let member = if at > 0 {
            ",{\"lockId\":"
        } else {
            "{\"lockId\":"
        };
        write_lock_id(member, *fence, body);
        body.extend_from_slice(b",\"clientId\":");
        write_string(client, body);
        body.push(b'}');
    }
    body.push(b']');
}

fn write_cycle(cycle: &[(Vec<u8>, Vec<u8>)], body: &mut Vec<u8>) {
    body.extend_from_slice(b",\"cycle\":[");
    for (at, (client, key)) in cycle.iter().enumerate() {
        let member: &[u8] = if at > 0 {
            b",{\"clientId\":"
        } else {
            b"{\"clientId\":"
        };
        body.extend_from_slice(member);
        write_string(client, body);
        body.extend_from_slice(b",\"waitsFor\":");
        write_string(key, body);
        body.push(b'}');
    }
    body.push(b']');
}

/// Appends the answer to a request that is not carried out.
pub fn write_problem(problem: &Problem, exchange: &Exchange, clock: Clock, out: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(512);
    write_members(problem, &exchange.id, &mut body);
    if (exchange.route, exchange.method) == (Route::Acquire, Method::Post) {
        let client = match &exchange.asked {
            Ok(Asked::Acquire(asked)) => asked.client.as_deref(),
            _ => None,
        };
        let client = client.unwrap_or_default();
        let waited = clock.now.saturating_sub(exchange.arrived);
        write_refused(client, waited, exchange, &mut body);
    }
    body.push(b'}');
    write_whole(problem, exchange, &body, clock, out);
}

/// Appends the members of a problem, without the bracket that ends it.
fn write_members(problem: &Problem, id: &[u8], body: &mut Vec<u8>) {
    let Problem { code, status, .. } = problem;
    body.extend_from_slice(format!("{{\"type\":\"urn:dflockd:problem:{code}\"").as_bytes());
    let texts = [
        ("title", problem.title().as_bytes()),
        ("detail", problem.detail.as_bytes()),
        ("instance", id),
        ("code", code.as_bytes()),
    ];
    body.extend_from_slice(format!(",\"status\":{status}").as_bytes());
    for (member, text) in texts {
        if !text.is_empty() {
            body.extend_from_slice(format!(",\"{member}\":").as_bytes());
            write_string(text, body);
        }
    }
    if problem.errors.is_empty() {
        return;
    }
    body.extend_from_slice(b",\"errors\":[");
    for (at, (field, why)) in problem.errors.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(b"{\"field\":");
        write_string(field.as_bytes(), body);
        body.extend_from_slice(b",\"detail\":");
        write_string(why.as_bytes(), body);
        body.push(b'}');
    }
    body.push(b']');
}

/// Appends what the answer to an acquire always has, for clients that read only that.
fn write_refused(client: &[u8], waited: Us, exchange: &Exchange, body: &mut Vec<u8>) {
    body.extend_from_slice(b",\"acquired\":false");
    write_names(client, exchange, body);
    write_seconds(",\"waitTime\":", waited, body);
}

/// Appends the names of the lock and of the client; an empty one is unknown.
fn write_names(client: &[u8], exchange: &Exchange, body: &mut Vec<u8>) {
    for (member, name) in [("lockName", &exchange.name[..]), ("clientId", client)] {
        text(&[",\"", member, "\":"], body);
        match name {
            b"" => body.extend_from_slice(b"null"),
            _ => write_string(name, body),
        }
    }
}

/// Appends a whole problem.
fn write_whole(
    problem: &Problem,
    exchange: &Exchange,
    body: &[u8],
    clock: Clock,
    out: &mut Vec<u8>,
) {
    write_head(problem.status, exchange, clock, out);
    match problem.status {
        401 => {
            out.extend_from_slice(b"WWW-Authenticate: Bearer realm=\"dflockd\"");
            if exchange.credential.is_some() {
                out.extend_from_slice(b", error=\"invalid_token\"");
            }
            out.extend_from_slice(b"\r\n");
        }
        405 => header("Allow", problem.allow, out),
        503 => header("Retry-After", "1", out),
        _ => {}
    }
    header("Cache-Control", "no-store", out);
    finish(PROBLEM, body, exchange.method != Method::Head, out);
}

/// Appends an answer of status 200 with this body, or of 304 if `more` has an `ETag` that the client has already. `more`
/// are headers besides the usual ones; a `Cache-Control` among them replaces the usual one.
pub fn write_body(
    content_type: &str,
    body: &[u8],
    more: &[(&str, &str)],
    exchange: &Exchange,
    clock: Clock,
    out: &mut Vec<u8>,
) {
    let tag = more.iter().find(|(name, _)| *name == "ETag");
    let is_known = tag.is_some_and(|(_, tag)| has_tag(&exchange.tags, tag.as_bytes()));
    write_head(if is_known { 304 } else { 200 }, exchange, clock, out);
    if !more.iter().any(|(name, _)| *name == "Cache-Control") {
        header("Cache-Control", "no-store", out);
    }
    for (name, value) in more {
        header(name, value, out);
    }
    match is_known {
        true => out.extend_from_slice(b"\r\n"),
        false => finish(content_type, body, exchange.method != Method::Head, out),
    }
}

/// Whether a list of tags has this one; a weak one is as good (RFC 9110, 13.1.2). Our tags have no comma.
fn has_tag(tags: &[u8], tag: &[u8]) -> bool {
    let mut tags = tags.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    tags.any(|known| known == b"*" || known.strip_prefix(b"W/").unwrap_or(known) == tag)
}

/// Appends the answer to an OPTIONS: the methods of the path, and for a browser that asks, what a page may send.
pub fn write_no_content(exchange: &Exchange, clock: Clock, out: &mut Vec<u8>) {
    let allow = route::allow(exchange.route);
    write_head(204, exchange, clock, out);
    header("Allow", allow, out);
    if exchange.is_shared && exchange.is_preflight {
        header("Access-Control-Allow-Methods", allow, out);
        let headers = "Authorization, Content-Type, X-Request-Id";
        header("Access-Control-Allow-Headers", headers, out);
        header("Access-Control-Max-Age", "600", out);
    }
    header("Cache-Control", "no-store", out);
    out.extend_from_slice(b"\r\n");
}

/// Appends the interim answer: the client shall send the body.
pub fn write_interim(out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// The status of an answer.
pub fn status_of(answer: &[u8]) -> u16 {
    let digits = answer
        .get(9..12)
        .and_then(|digits| str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(500)
}

/// Appends the status line and the headers that every answer has.
fn write_head(status: u16, exchange: &Exchange, clock: Clock, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_number(status.into(), out);
    text(&[" ", reason(status), "\r\nDate: "], out);
    write_date(clock.wall_us, out);
    out.extend_from_slice(b"\r\n");
    if !exchange.keeps_alive {
        header("Connection", "close", out);
    } else {
        if exchange.is_old {
            header("Connection", "keep-alive", out);
        }
        header("Keep-Alive", "timeout=75", out);
    }
    write_own(exchange, out);
}

/// Appends the headers that repeat something of the request.
fn write_own(exchange: &Exchange, out: &mut Vec<u8>) {
    for (name, value) in [
        (
            "X-Request-Id: ",
            Some(&exchange.id).filter(|id| !id.is_empty()),
        ),
        (
            "Vary: Origin\r\nAccess-Control-Allow-Origin: ",
            exchange.origin.as_ref().filter(|_| exchange.is_shared),
        ),
    ] {
        if let Some(value) = value {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn header(name: &str, value: &str, out: &mut Vec<u8>) {
    text(&[name, ": ", value, "\r\n"], out);
}

fn text(parts: &[&str], out: &mut Vec<u8>) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Appends the last headers and the body.
fn finish(content_type: &str, body: &[u8], has_body: bool, out: &mut Vec<u8>) {
    header("Content-Type", content_type, out);
    out.extend_from_slice(b"Content-Length: ");
    write_number(body.len() as u64, out);
    out.extend_from_slice(b"\r\n\r\n");
    if has_body {
        out.extend_from_slice(body);
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => unreachable!("problems have no other"),
    }
}

/// Appends a date as HTTP writes it, `Sun, 06 Nov 1994 08:49:37 GMT`; RFC 9110, 5.6.7.
fn write_date(wall_us: u64, out: &mut Vec<u8>) {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let date = Date::of_unix_ms(wall_us / 1000);
    let day = DAYS[(wall_us / (86_400 * SECOND) % 7) as usize];
    let month = MONTHS[date.month as usize - 1];
    text(&[day, ", "], out);
    write_digits(date.day, 2, out);
    text(&[" ", month, " "], out);
    write_digits(date.year, 4, out);
    out.push(b' ');
    write_time(date, out);
    out.extend_from_slice(b" GMT");
}

/// Appends a member whose value is an instant, in milliseconds, rounded down; RFC 3339.
pub fn write_instant(member: &str, wall_us: u64, out: &mut Vec<u8>) {
    let date = Date::of_unix_ms(wall_us / 1000);
    text(&[member, "\""], out);
    write_digits(date.year, 4, out);
    out.push(b'-');
    write_digits(date.month, 2, out);
    out.push(b'-');
    write_digits(date.day, 2, out);
    out.push(b'T');
    write_time(date, out);
    out.push(b'.');
    write_digits(date.ms, 3, out);
    out.extend_from_slice(b"Z\"");
}

fn write_time(date: Date, out: &mut Vec<u8>) {
    write_digits(date.hour, 2, out);
    out.push(b':');
    write_digits(date.minute, 2, out);
    out.push(b':');
    write_digits(date.second, 2, out);
}

/// Appends a number with zeros before it, up to four digits.
fn write_digits(value: u64, width: usize, out: &mut Vec<u8>) {
    let digits = [1000, 100, 10, 1].map(|place| b'0' + (value / place % 10) as u8);
    out.extend_from_slice(&digits[4 - width..]);
}

/// Appends a member whose value is a span in seconds, rounded down to milliseconds: `2.5`, `30.0`.
pub fn write_seconds(member: &str, span: Us, out: &mut Vec<u8>) {
    out.extend_from_slice(member.as_bytes());
    write_number(span / SECOND, out);
    out.push(b'.');
    write_digits(span % SECOND / 1000, 3, out);
    for _ in 0..2 {
        out.pop_if(|digit| *digit == b'0');
    }
}

/// Appends a member whose value is a lockId.
pub fn write_lock_id(member: &str, fence: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(member.as_bytes());
    out.extend_from_slice(b"\"lock-");
    write_hex(fence, out);
    out.push(b'"');
}
