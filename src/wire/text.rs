//! The three-line protocol of dflockd-protocol(7): command, key, argument, each ended by LF; one line back. Pure
//! functions on bytes: what is not whole yet is simply parsed again when there is more. Invariant: all three
//! lines are read before anything is judged, so a bad request never puts the stream out of step.

use crate::command::{Command, Refusal, Reply, SECOND, SECONDS_MAX, Space, Token, Us};

/// The longest line, in bytes between two LF, a trailing CR included.
pub const LINE_MAX: usize = 256;
/// The same for the argument of `auth`.
pub const SECRET_MAX: usize = 65_536;
/// The longest frame that may be incomplete.
pub const FRAME_MAX: usize = 2 * (LINE_MAX + 1) + SECRET_MAX;
/// The largest limit of a semaphore.
pub const LIMIT_MAX: u64 = 1_048_576;

/// Two hex digits for every byte: a grant has 16 of them.
const DIGITS: [[u8; 2]; 256] = {
    let (digits, mut table, mut byte) = (b"0123456789abcdef", [[0; 2]; 256], 0);
    while byte < 256 {
        table[byte] = [digits[byte / 16], digits[byte % 16]];
        byte += 1;
    }
    table
};

/// The value of every lowercase hex digit; of any other byte one that is too large.
const VALUES: [u8; 256] = {
    let (mut table, mut value) = ([u8::MAX; 256], 0);
    while value < 16 {
        table[DIGITS[value][1] as usize] = value as u8;
        value += 1;
    }
    table
};

/// What the head of a stream is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed<'a> {
    /// Not a whole frame yet, but this many lines of one.
    Partial {
        /// 0 to 2.
        lines: u8,
    },
    /// A whole frame that asks for something.
    Done {
        /// Its length in bytes.
        used: usize,
        /// What it asks for.
        request: Request<'a>,
    },
    /// A whole frame that asks for nothing that can be done.
    Bad {
        /// Its length in bytes.
        used: usize,
    },
    /// A line over its cap begins after this many bytes; its end may not have come yet.
    TooLong {
        /// Length of the lines before it in bytes.
        used: usize,
        /// How many those are: 0 to 2.
        lines: u8,
    },
}

/// What a frame asks for: of the lock table, or of the hub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// For the lock table.
    Command(Command<'a>),
    /// Are you there?
    Ping,
    /// Here is the secret.
    Auth(&'a [u8]),
    /// What is there?
    Stats,
}

/// Reads the first frame of `input`.
pub fn parse(input: &[u8]) -> Parsed<'_> {
    let mut lines = [&input[..0]; 3];
    let mut used = 0;
    for done in 0..3 {
        let rest = &input[used..];
        let cap = if done == 2 && lines[0] == b"auth" {
            SECRET_MAX
        } else {
            LINE_MAX
        };
        match find_lf(&rest[..rest.len().min(cap + 1)]) {
            Some(end) => {
                lines[done] = without_cr(&rest[..end]);
                used += end + 1;
            }
            None if rest.len() > cap => {
                return Parsed::TooLong {
                    used,
                    lines: done as u8,
                };
            }
            None => return Parsed::Partial { lines: done as u8 },
        }
    }
    match judge(lines) {
        Some(request) => Parsed::Done { used, request },
        None => Parsed::Bad { used },
    }
}

/// Whether a connection that begins with these bytes speaks HTTP: a browser must not drive this port.
pub fn is_http(input: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"PATCH ",
        b"HEAD ",
        b"OPTIONS ",
        b"DELETE ",
        b"CONNECT ",
        b"TRACE ",
    ];
    METHODS.iter().any(|method| input.starts_with(method))
}

/// Appends the line that says `reply`; notices have none.
pub fn write(reply: Reply, out: &mut Vec<u8>) {
    match reply {
        Reply::Granted { token, lease } => {
            out.extend_from_slice(b"ok ");
            write_grant(token, lease, out);
        }
        Reply::Acquired { token, lease } => {
            out.extend_from_slice(b"acquired ");
            write_grant(token, lease, out);
        }
        Reply::Renewed { lease } => {
            out.extend_from_slice(b"ok ");
            write_seconds(lease, out);
        }
        Reply::Released | Reply::Pong => out.extend_from_slice(b"ok"),
        Reply::Timeout => out.extend_from_slice(b"timeout"),
        Reply::Queued => out.extend_from_slice(b"queued"),
        Reply::Refused(refusal) => out.extend_from_slice(name_of(refusal)),
        Reply::Freed | Reply::Closed => return,
    }
    out.push(b'\n');
}

/// Where the first LF is. Eight bytes at a time: lines are short, and this is a tenth of a request's work.
pub fn find_lf(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    let mut words = bytes.chunks_exact(8);
    let mut at = 0;
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("chunks of eight"));
        // A byte of `zeros` is 0 where the word has an LF; the lowest byte that the next line marks is exact.
        let zeros = word ^ (ONES * u64::from(b'\n'));
        let marks = zeros.wrapping_sub(ONES) & !zeros & (ONES << 7);
        if marks != 0 {
            return Some(at + marks.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    words
        .remainder()
        .iter()
        .position(|&byte| byte == b'\n')
        .map(|end| at + end)
}

fn judge<'a>([command, key, argument]: [&'a [u8]; 3]) -> Option<Request<'a>> {
    let (space, command) = match command {
        b"ping" => return Some(Request::Ping),
        b"stats" => return Some(Request::Stats),
        b"auth" => return Some(Request::Auth(argument.trim_ascii())),
        [b's', command @ (b'l' | b'e' | b'w' | b'n' | b'r')] => (Space::Semaphore, *command),
        [command] => (Space::Lock, *command),
        _ => return None,
    };
    let key = name(key)?;
    let mut words = words(argument);
    let command = match command {
        b'l' => {
            let wait = seconds(words.next()?, 0)?;
            Command::Acquire {
                space,
                key,
                limit: limit(space, &mut words)?,
                wait,
                lease: lease(words)?,
            }
        }
        b'e' => Command::Enqueue {
            space,
            key,
            limit: limit(space, &mut words)?,
            lease: lease(words)?,
        },
        b'w' => Command::Wait {
            space,
            key,
            wait: seconds(argument.trim_ascii(), 0)?,
        },
        b'n' => Command::Renew {
            space,
            key,
            token: token(words.next()?)?,
            lease: lease(words)?,
        },
        b'r' => Command::Release {
            space,
            key,
            token: token(argument.trim_ascii())?,
        },
        _ => return None,
    };
    Some(Request::Command(command))
}

fn without_cr(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b'\r'] = line {
        line = rest;
    }
    line
}

fn name(key: &[u8]) -> Option<&[u8]> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    (!key.is_empty() && !key.iter().any(blank)).then_some(key)
}

fn words(argument: &[u8]) -> impl Iterator<Item = &[u8]> {
    argument
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// The last word, a lease, if there is one; nothing may follow it.
fn lease<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<Option<Us>> {
    let lease = match words.next() {
        Some(word) => Some(seconds(word, 1)?),
        None => None,
    };
    words.next().is_none().then_some(lease)
}

/// The next word, the limit of a semaphore; a lock has a limit of 1 that nobody says.
fn limit<'a>(space: Space, words: &mut impl Iterator<Item = &'a [u8]>) -> Option<u32> {
    match space {
        Space::Lock => Some(1),
        Space::Semaphore => integer(words.next()?, 1, LIMIT_MAX).map(|limit| limit as u32),
    }
}

/// A whole number of seconds from `least` to [`SECONDS_MAX`].
fn seconds(word: &[u8], least: u64) -> Option<Us> {
    integer(word, least, SECONDS_MAX).map(|value| value * SECOND)
}

/// A whole number in a range: decimal, a sign or none, nothing else.
pub(super) fn integer(word: &[u8], least: u64, most: u64) -> Option<u64> {
    let (minus, digits) = match word {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'));
    }
    ((least..=most).contains(&value) && !(minus && value > 0)).then_some(value)
}

/// 32 lowercase hex digits: 16 of the fence, 16 of the salt.
pub fn token(word: &[u8]) -> Option<Token> {
    if word.len() != 32 {
        return None;
    }
    let (mut words, mut seen) = ([0; 2], 0);
    for (word, digits) in words.iter_mut().zip(word.chunks_exact(16)) {
        for &digit in digits {
            let value = VALUES[usize::from(digit)];
            seen |= value;
            *word = *word << 4 | u64::from(value);
        }
    }
    let [fence, salt] = words;
    (seen < 16 && fence != 0).then_some(Token { fence, salt })
}

pub(super) fn name_of(refusal: Refusal) -> &'static [u8] {
    match refusal {
        Refusal::Error => b"error",
        Refusal::MaxLocks => b"error_max_locks",
        Refusal::MaxWaiters => b"error_max_waiters",
        Refusal::LimitMismatch => b"error_limit_mismatch",
        Refusal::AlreadyEnqueued => b"error_already_enqueued",
        Refusal::NotEnqueued => b"error_not_enqueued",
        Refusal::LeaseExpired => b"error_lease_expired",
        Refusal::Draining => b"error_draining",
        Refusal::Auth => b"error_auth",
    }
}

fn write_grant(token: Token, lease: Us, out: &mut Vec<u8>) {
    write_token(token, out);
    out.push(b' ');
    write_seconds(lease, out);
}

/// Appends what [`token`] reads.
pub fn write_token(token: Token, out: &mut Vec<u8>) {
    write_hex(token.fence, out);
    write_hex(token.salt, out);
}

fn write_hex(value: u64, out: &mut Vec<u8>) {
    let digits = value.to_be_bytes().map(|byte| DIGITS[usize::from(byte)]);
    out.extend_from_slice(digits.as_flattened());
}

pub(super) fn write_seconds(span: Us, out: &mut Vec<u8>) {
    let mut value = span / SECOND;
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "00000000000000ff0123456789abcdef";

    fn acquire(key: &[u8], wait: u64, lease: Option<u64>) -> Option<Request<'_>> {
        let lease = lease.map(|s| s * SECOND);
        let command = Command::Acquire {
            space: Space::Lock,
            key,
            limit: 1,
            wait: wait * SECOND,
            lease,
        };
        Some(Request::Command(command))
    }

    fn request(text: &[u8]) -> Option<Request<'_>> {
        match parse(text) {
            Parsed::Done { used, request } => {
                assert_eq!(used, text.len());
                Some(request)
            }
            Parsed::Bad { used } => {
                assert_eq!(used, text.len());
                None
            }
            other => panic!("{other:?} for {text:?}"),
        }
    }

    #[test]
    fn every_command_is_read() {
        let token = Token {
            fence: 255,
            salt: 0x0123_4567_89ab_cdef,
        };
        let (space, key) = (Space::Lock, &b"k"[..]);
        assert_eq!(request(b"l\nk\n10\n"), acquire(key, 10, None));
        assert_eq!(request(b"l\nk\n 10\t 60 \n"), acquire(key, 10, Some(60)));
        let release = Some(Request::Command(Command::Release { space, key, token }));
        assert_eq!(request(format!("r\nk\n  {TOKEN}\t\n").as_bytes()), release);
        let renew = |lease| {
            Some(Request::Command(Command::Renew {
                space,
                key,
                token,
                lease,
            }))
        };
        assert_eq!(request(format!("n\nk\n{TOKEN}\n").as_bytes()), renew(None));
        assert_eq!(
            request(format!("n\nk\n {TOKEN}  7\n").as_bytes()),
            renew(Some(7 * SECOND))
        );
        assert_eq!(request(b"ping\n\n\n"), Some(Request::Ping));
        assert_eq!(request(b"ping\na b\nc d\n"), Some(Request::Ping));
    }

    #[test]
    fn trailing_crs_are_dropped_and_a_cr_elsewhere_spoils_a_key() {
        assert_eq!(request(b"l\r\nk\r\r\n10\r\n"), acquire(b"k", 10, None));
        assert_eq!(request(b"l\nk\rx\n10\n"), None);
        assert_eq!(request(b"l\n\r\n10\n"), None);
    }

    #[test]
    fn a_key_may_be_any_bytes_but_blanks_and_nothing() {
        assert_eq!(
            request(b"l\n\x00\xff\x1b{}\n1\n"),
            acquire(b"\x00\xff\x1b{}", 1, None)
        );
        for key in ["", " ", "a b", "a\tb", " a", "a "] {
            assert_eq!(
                request(format!("l\n{key}\n1\n").as_bytes()),
                None,
                "{key:?}"
            );
        }
    }

    #[test]
    fn numbers_are_decimal_and_in_range_or_the_frame_is_bad() {
        for (word, value) in [
            ("0", 0),
            ("+5", 5),
            ("-0", 0),
            ("0007", 7),
            ("9223372036", SECONDS_MAX),
        ] {
            assert_eq!(
                request(format!("l\nk\n{word}\n").as_bytes()),
                acquire(b"k", value, None),
                "{word}"
            );
        }
        let long_zero = format!("l\nk\n{}9\n", "0".repeat(200));
        assert_eq!(request(long_zero.as_bytes()), acquire(b"k", 9, None));
        for bad in [
            "",
            " ",
            "-1",
            "+",
            "-",
            "x",
            "1x",
            "0x1",
            "1.5",
            "1e3",
            "--1",
            "9223372037",
            "9223372036854775807",
            "18446744073709551616",
            "100000000000000000000",
            "1 0",
            "1 -1",
            "1 9223372037",
            "1 2 3",
            "1 2 x",
            "1 x",
        ] {
            assert_eq!(
                request(format!("l\nk\n{bad}\n").as_bytes()),
                None,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_token_is_32_lowercase_hex_digits_and_nothing_else() {
        let upper = TOKEN.to_uppercase();
        let short = &TOKEN[1..];
        let junk = format!("{TOKEN} x");
        let long = format!("{TOKEN}0");
        let zero = "0".repeat(32);
        for bad in [
            "",
            "  ",
            &upper,
            short,
            &junk,
            &long,
            &zero,
            &TOKEN.replace('f', "g"),
        ] {
            assert_eq!(
                request(format!("r\nk\n{bad}\n").as_bytes()),
                None,
                "{bad:?}"
            );
        }
        for bad in [
            format!("{TOKEN} 0"),
            format!("{TOKEN} x"),
            format!("{TOKEN} 1 2"),
        ] {
            assert_eq!(
                request(format!("n\nk\n{bad}\n").as_bytes()),
                None,
                "{bad:?}"
            );
        }
    }

    #[test]
    fn no_byte_but_16_is_a_digit_anywhere_in_a_token() {
        for at in 0..32 {
            for byte in 0..=255 {
                let mut word = *b"00000000000000ff0123456789abcdef";
                word[at] = byte;
                let is_digit = byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
                assert_eq!(token(&word).is_some(), is_digit, "{byte} at {at}");
            }
        }
    }

    #[test]
    fn commands_are_compared_byte_for_byte() {
        for bad in ["", "L", " l", "l ", "ll", "Ping", "get"] {
            assert_eq!(
                request(format!("{bad}\nk\n1\n").as_bytes()),
                None,
                "{bad:?}"
            );
        }
    }

    /// Each line at its cap and one over, with and without a CR.
    #[test]
    fn a_line_may_have_256_bytes_with_its_cr_and_not_one_more() {
        for line in 0..3 {
            for cr in ["", "\r"] {
                for over in [false, true] {
                    let mut lines = ["l".to_string(), "k".to_string(), "1".to_string()];
                    let room = LINE_MAX - cr.len() + usize::from(over);
                    lines[line] = "0".repeat(room) + cr;
                    let before: usize = lines[..line].iter().map(|l| l.len() + 1).sum();
                    let text = lines.join("\n") + "\n";
                    match parse(text.as_bytes()) {
                        Parsed::TooLong { used, lines } => {
                            assert!(over && used == before && usize::from(lines) == line);
                        }
                        Parsed::Done { .. } | Parsed::Bad { .. } => assert!(!over),
                        Parsed::Partial { .. } => panic!("it was whole"),
                    }
                }
            }
        }
        assert_eq!(parse(&[b'x'; LINE_MAX]), Parsed::Partial { lines: 0 });
        assert_eq!(
            parse(&[b'x'; LINE_MAX + 1]),
            Parsed::TooLong { used: 0, lines: 0 }
        );
    }

    #[test]
    fn every_cut_of_a_frame_is_partial_and_counts_its_lines() {
        let frames = [
            "l\nkey\n10 20\n".to_string(),
            format!("r\nk\n{TOKEN}\n"),
            "?\n\n\n".to_string(),
        ];
        for frame in &frames {
            let whole = parse(frame.as_bytes());
            for cut in 0..frame.len() {
                let lines = frame[..cut].matches('\n').count() as u8;
                assert_eq!(parse(&frame.as_bytes()[..cut]), Parsed::Partial { lines });
            }
            assert_eq!(
                parse(format!("{frame}l\nk").as_bytes()),
                whole,
                "what follows changes nothing"
            );
        }
    }

    #[test]
    fn an_lf_is_found_wherever_it_is() {
        for len in 0..40 {
            for at in 0..len {
                for filler in [0, 9, 11, b'\n' | 0x80, 255] {
                    let mut bytes = vec![filler; len];
                    bytes[at] = b'\n';
                    assert_eq!(find_lf(&bytes), Some(at));
                    bytes[at] = filler;
                    assert_eq!(find_lf(&bytes), None);
                }
            }
        }
    }

    #[test]
    fn replies_are_the_lines_that_clients_parse() {
        let line = |reply| {
            let mut out = Vec::new();
            write(reply, &mut out);
            String::from_utf8(out).unwrap()
        };
        let token = Token {
            fence: 255,
            salt: 0x0123_4567_89ab_cdef,
        };
        assert_eq!(
            line(Reply::Granted {
                token,
                lease: 33 * SECOND
            }),
            format!("ok {TOKEN} 33\n")
        );
        assert_eq!(
            line(Reply::Renewed {
                lease: SECONDS_MAX * SECOND
            }),
            "ok 9223372036\n"
        );
        assert_eq!(line(Reply::Released), "ok\n");
        assert_eq!(line(Reply::Timeout), "timeout\n");
        assert_eq!(line(Reply::Refused(Refusal::MaxLocks)), "error_max_locks\n");
        assert_eq!(line(Reply::Freed), "");
    }

    #[test]
    fn http_is_known_by_its_first_bytes() {
        assert!(is_http(b"GET / HTTP/1.1\r\n") && is_http(b"POST "));
        assert!(!is_http(b"GE") && !is_http(b"GET\n") && !is_http(b"get / "));
    }
}
