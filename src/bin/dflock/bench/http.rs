//! REST as bench speaks it: an acquire and a release as requests of HTTP/1.1 on a connection that stays open, and what
//! an answer means. It knows only what dflockd answers: a head, and a body as long as `Content-Length` says. No socket.
//! Invariant: nothing is allocated to write a request or to read an answer.

use dflockd::command::{SECOND, Token, Us};
use dflockd::wire::text;

use super::answer::{Answer, Asked, Heard};

/// The lines that all requests to a server have: where it is, and the token, if it wants one.
pub fn common(address: &str, secret: Option<&[u8]>) -> Vec<u8> {
    let mut lines = format!("Host: {address}\r\n").into_bytes();
    if let Some(secret) = secret {
        lines.extend_from_slice(b"Authorization: Bearer ");
        lines.extend_from_slice(secret);
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

/// Appends the question whether there is a dflockd that takes the token.
pub fn greeting(common: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"GET /locks/stats HTTP/1.1\r\n");
    out.extend_from_slice(common);
    out.extend_from_slice(b"Connection: close\r\n\r\n");
}

/// Appends an acquire. Both times are whole seconds.
pub fn acquire(common: &[u8], key: &[u8], lease: Us, wait: Us, out: &mut Vec<u8>) {
    let (lease, wait) = (lease / SECOND, wait / SECOND);
    let begin: [&[u8]; 2] = [b"{\"timeout\":", b",\"waitTimeout\":"];
    let length = begin.map(<[u8]>::len).iter().sum::<usize>() + digits(lease) + digits(wait) + 1;
    head(common, key, b"/acquire", length, out);
    out.extend_from_slice(begin[0]);
    text::write_number(lease, out);
    out.extend_from_slice(begin[1]);
    text::write_number(wait, out);
    out.push(b'}');
}

/// Appends a release.
pub fn release(common: &[u8], key: &[u8], token: Token, out: &mut Vec<u8>) {
    let begin = b"{\"renewalToken\":\"";
    head(common, key, b"/release", begin.len() + 32 + 2, out);
    out.extend_from_slice(begin);
    text::write_token(token, out);
    out.extend_from_slice(b"\"}");
}

fn head(common: &[u8], key: &[u8], what: &[u8], length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"POST /locks/");
    for &byte in key {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(byte);
        } else {
            // RFC 3986, 2.1.
            let digits = b"0123456789ABCDEF";
            out.push(b'%');
            out.push(digits[usize::from(byte >> 4)]);
            out.push(digits[usize::from(byte & 15)]);
        }
    }
    out.extend_from_slice(what);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    out.extend_from_slice(common);
    out.extend_from_slice(b"Content-Length: ");
    text::write_number(length as u64, out);
    out.extend_from_slice(b"\r\n\r\n");
}

fn digits(value: u64) -> usize {
    1 + value.checked_ilog10().unwrap_or(0) as usize
}

/// The head of an answer.
struct Head {
    status: u16,
    /// How long it is, and the body behind it.
    length: usize,
    body: usize,
    closes: bool,
}

/// Reads one answer; None if it has not arrived in full.
pub fn answer(asked: Asked, input: &[u8]) -> Option<Heard> {
    let head = read_head(input)?;
    let used = head.length.saturating_add(head.body);
    let body = input.get(head.length..used)?;
    let answer = match (head.status, asked) {
        (200, Asked::Acquire) => acquired(body),
        (200, _) => Answer::Done,
        _ => Answer::Refused,
    };
    Some(Heard {
        used,
        answer,
        closes: head.closes,
    })
}

fn acquired(body: &[u8]) -> Answer {
    match behind(body, b"\"acquired\":") {
        Some(rest) if rest.starts_with(b"false") => Answer::Timeout,
        Some(rest) if rest.starts_with(b"true") => {
            let token = behind(body, b"\"renewalToken\":\"").and_then(|rest| rest.get(..32));
            let token = token.and_then(text::token);
            token.map_or(Answer::Refused, |token| Answer::Granted(Some(token)))
        }
        _ => Answer::Refused,
    }
}

/// What an answer says, for people: its body, or its first line if it has none.
pub fn shown(answer: &[u8]) -> &[u8] {
    let body = read_head(answer).map_or(&[][..], |head| &answer[head.length..]);
    match text::find_lf(answer) {
        Some(end) if body.is_empty() => &answer[..end],
        _ => body,
    }
}

/// The status of an answer, if it is one.
pub fn status(answer: &[u8]) -> Option<u16> {
    let digits = answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn read_head(input: &[u8]) -> Option<Head> {
    let mut head = Head {
        // Nothing else begins like this, and 0 is no status.
        status: status(input).unwrap_or(0),
        length: 0,
        body: 0,
        closes: false,
    };
    loop {
        let rest = &input[head.length..];
        let end = text::find_lf(rest)?;
        let line = rest[..end].trim_ascii_end();
        head.length += end + 1;
        if line.is_empty() || head.status == 0 {
            return Some(head);
        }
        if let Some(value) = field(line, b"content-length:") {
            let value = std::str::from_utf8(value).ok();
            head.body = value.and_then(|value| value.parse().ok()).unwrap_or(0);
        } else if let Some(value) = field(line, b"connection:") {
            head.closes = value.eq_ignore_ascii_case(b"close");
        }
    }
}

/// The value of a line of the head that has this name.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (front, value) = line.split_at_checked(name.len())?;
    front
        .eq_ignore_ascii_case(name)
        .then_some(value.trim_ascii())
}

/// What follows these bytes where they come first.
fn behind<'a>(bytes: &'a [u8], begin: &[u8]) -> Option<&'a [u8]> {
    let at = bytes
        .windows(begin.len())
        .position(|window| window == begin)?;
    Some(&bytes[at + begin.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_long_as_it_says_and_its_key_is_one_segment() {
        let common = common("h:5000", Some(b"s"));
        let token = Token { fence: 1, salt: 2 };
        let (mut taken, mut freed) = (Vec::new(), Vec::new());
        acquire(&common, b"a/b:%", 10 * SECOND, 0, &mut taken);
        release(&common, b"k", token, &mut freed);
        let head = "HTTP/1.1\r\nHost: h:5000\r\nAuthorization: Bearer s\r\nContent-Length:";
        for (request, path, body) in [
            (
                taken,
                "a%2Fb:%25/acquire",
                "{\"timeout\":10,\"waitTimeout\":0}",
            ),
            (
                freed,
                "k/release",
                "{\"renewalToken\":\"00000000000000010000000000000002\"}",
            ),
        ] {
            let length = body.len();
            let wanted = format!("POST /locks/{path} {head} {length}\r\n\r\n{body}");
            assert_eq!(String::from_utf8(request).expect("it is UTF-8"), wanted);
        }
    }

    #[test]
    fn an_answer_counts_when_it_is_there_in_full() {
        let token = Token { fence: 1, salt: 2 };
        let secret = "\"renewalToken\":\"00000000000000010000000000000002\"";
        for (asked, head, body, wanted) in [
            (
                Asked::Acquire,
                "200 OK\r\nContent-Length",
                &format!("{{\"acquired\":true,{secret}}}"),
                Answer::Granted(Some(token)),
            ),
            (
                Asked::Acquire,
                "200 OK\r\ncontent-length",
                &"{\"acquired\":false,\"renewalToken\":null}".to_string(),
                Answer::Timeout,
            ),
            (
                Asked::Acquire,
                "409 Conflict\r\nContent-Length",
                &"{\"acquired\":true}".to_string(),
                Answer::Refused,
            ),
            (
                Asked::Release,
                "200 OK\r\nDate: x\r\nContent-Length",
                &"{\"released\":true}".to_string(),
                Answer::Done,
            ),
        ] {
            let length = body.len();
            let all = format!("HTTP/1.1 {head}: {length}\r\n\r\n{body}");
            for end in 0..all.len() {
                let part = answer(asked, &all.as_bytes()[..end]);
                assert!(part.is_none(), "{end} of {all}");
            }
            let more = format!("{all}HTTP");
            let heard = answer(asked, more.as_bytes()).expect("it is complete");
            assert_eq!((heard.used, heard.answer), (all.len(), wanted), "{all}");
            assert!(!heard.closes);
            assert_eq!(shown(all.as_bytes()), body.as_bytes());
        }
    }

    #[test]
    fn what_is_no_answer_is_refused_with_its_first_line() {
        let heard = answer(Asked::Acquire, b"error\nmore").expect("a line is enough");
        assert_eq!((heard.used, heard.answer), (6, Answer::Refused));
        assert_eq!(shown(b"error\n"), b"error");
        let last = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        assert!(answer(Asked::Release, last).is_some_and(|heard| heard.closes));
        assert_eq!(shown(last), b"HTTP/1.1 200 OK\r");
    }
}
