//! The three-line protocol of dflockd-protocol(7): command, key and argument, each ended by LF; the answer is one line.
//! Pure functions on bytes: a frame that is not whole yet is parsed again when there is more. Invariant: all three
//! lines are read before any is checked, so a bad request never puts the stream out of step.

use super::{Parsed, Request};
use crate::command::{Bound, Command, Refusal, Reply, SECOND, SECONDS_MAX, Space, Token, Us};

/// The longest line, in bytes between two LF; a CR at its end counts.
pub const LINE_MAX: usize = 256;
/// The same for the argument of `auth`.
pub const SECRET_MAX: usize = 65_536;
/// The same for the payload of `signal`, and for the line that carries it to a listener.
pub const SIGNAL_MAX: usize = 65_536;
/// The longest frame that may be incomplete, in bytes.
pub const FRAME_MAX: usize = 2 * (LINE_MAX + 1) + SECRET_MAX;
/// The longest name of an owner, in bytes.
pub const OWNER_MAX: usize = 128;
/// Parts that a pattern or a channel may have: each costs memory as long as somebody listens, and look-ups with every
/// signal.
pub const PARTS_MAX: usize = 64;
/// The largest limit of a semaphore.
pub const LIMIT_MAX: u64 = 1_048_576;

/// The two hex digits of every byte; a grant has 16 such bytes.
const DIGITS: [[u8; 2]; 256] = {
    let (digits, mut table, mut byte) = (b"0123456789abcdef", [[0; 2]; 256], 0);
    while byte < 256 {
        table[byte] = [digits[byte / 16], digits[byte % 16]];
        byte += 1;
    }
    table
};

/// The value of every lowercase hex digit; for any other byte a value that is too large.
const VALUES: [u8; 256] = {
    let (mut table, mut value) = ([u8::MAX; 256], 0);
    while value < 16 {
        table[DIGITS[value][1] as usize] = value as u8;
        value += 1;
    }
    table
};

/// Reads the first frame of `input`. A session that is not `trusted` yet may send no long line but a secret.
pub fn parse(input: &[u8], trusted: bool) -> Parsed<'_> {
    let mut lines = [&input[..0]; 3];
    let mut used = 0;
    for done in 0..3 {
        let rest = &input[used..];
        let cap = match lines[0] {
            b"auth" if done == 2 => SECRET_MAX,
            b"signal" if done == 2 && trusted => SIGNAL_MAX,
            _ => LINE_MAX,
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
        None => Parsed::Bad {
            used,
            fatal: false,
            why: "",
        },
    }
}

/// Appends the line of `reply`.
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
        Reply::Signalled { receivers } => {
            out.extend_from_slice(b"ok ");
            write_number(receivers, out);
        }
        Reply::Broken { holds } => {
            out.extend_from_slice(b"ok ");
            write_number(holds, out);
        }
        Reply::Released | Reply::Done => out.extend_from_slice(b"ok"),
        Reply::Timeout => out.extend_from_slice(b"timeout"),
        Reply::Queued => out.extend_from_slice(b"queued"),
        Reply::Refused(refusal) => out.extend_from_slice(name_of(refusal).as_bytes()),
        Reply::Kept { .. } | Reply::Superseded | Reply::Cancelled | Reply::Ended { .. } => {
            unreachable!("no line of this face asks for that")
        }
    }
    out.push(b'\n');
}

/// The offset of the first LF. It looks at eight bytes at a time: this is a tenth of a request's work.
pub fn find_lf(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    let mut words = bytes.chunks_exact(8);
    let mut at = 0;
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().expect("chunks of eight"));
        // A byte of `zeros` is 0 where the word has an LF. Of the bytes that `marks` marks, the lowest is exact.
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

/// Whether the first line of `input` is whole and is that of an HTTP request, whatever its method; RFC 9112, 3, and
/// RFC 9113, 3.4. No command looks like this.
pub(super) fn is_http_line(input: &[u8]) -> bool {
    let Some(end) = find_lf(&input[..input.len().min(LINE_MAX + 1)]) else {
        return false;
    };
    let line = without_cr(&input[..end]);
    line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0") || line == b"PRI * HTTP/2.0"
}

fn judge<'a>([command, key, argument]: [&'a [u8]; 3]) -> Option<Request<'a>> {
    let (space, command) = match command {
        b"ping" => return Some(Request::Ping),
        b"stats" => return Some(Request::Stats),
        b"auth" => return Some(Request::Auth(argument.trim_ascii())),
        b"id" => {
            let owner = owner(argument.trim_ascii())?;
            return Some(Request::Command(Command::Declare { owner }));
        }
        b"listen" => return listen(key, argument),
        b"unlisten" => return unlisten(key, argument),
        b"signal" => return signal(key, argument),
        [b's', command @ (b'l' | b'e' | b'w' | b'n' | b'r')] => (Space::Semaphore, *command),
        [command] => (Space::Lock, *command),
        _ => return judge_word(command, key, argument),
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
                owner: None,
                bound: Bound::Session,
                terms: None,
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
            bound: Bound::Session,
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

/// The commands whose names are words, and in the space of semaphores begin with an `s`.
#[cold]
fn judge_word<'a>(command: &'a [u8], key: &'a [u8], argument: &'a [u8]) -> Option<Request<'a>> {
    let (space, word) = match command.strip_prefix(b"s") {
        Some(word @ (b"show" | b"detach" | b"break")) => (Space::Semaphore, word),
        _ => (Space::Lock, command),
    };
    let argument = argument.trim_ascii();
    let key = name(key)?;
    let command = match word {
        b"show" => return Some(Request::Show { space, key }),
        b"detach" => Command::Detach {
            space,
            key,
            token: token(argument)?,
        },
        b"break" => Command::Break {
            space,
            key,
            fence: match argument {
                b"" => None,
                digits => Some(hex(digits.try_into().ok()?)?),
            },
        },
        _ => return None,
    };
    Some(Request::Command(command))
}

fn listen<'a>(key: &'a [u8], argument: &'a [u8]) -> Option<Request<'a>> {
    let (pattern, group) = (pattern(key)?, argument.trim_ascii());
    Some(Request::Listen { pattern, group })
}

fn unlisten<'a>(key: &'a [u8], argument: &'a [u8]) -> Option<Request<'a>> {
    let (pattern, group) = (pattern(key)?, argument.trim_ascii());
    Some(Request::Unlisten { pattern, group })
}

fn signal<'a>(key: &'a [u8], payload: &'a [u8]) -> Option<Request<'a>> {
    let channel = channel(key)?;
    let payload = self::payload(channel, payload)?;
    Some(Request::Signal { channel, payload })
}

/// Checks the name of an owner: ASCII from space to `~`, up to [`OWNER_MAX`] bytes.
pub fn owner(name: &[u8]) -> Option<&[u8]> {
    let is_visible = |byte: &u8| (b' '..=b'~').contains(byte);
    ((1..=OWNER_MAX).contains(&name.len()) && name.iter().all(is_visible)).then_some(name)
}

/// Checks a pattern: a key of few enough parts, in which wildcards are whole parts, and `>` only the last.
pub fn pattern(key: &[u8]) -> Option<&[u8]> {
    let key = name(key).filter(|key| has_few_parts(key))?;
    let mut parts = key.split(|&byte| byte == b'.').rev();
    let is_last = |part: &[u8]| part == b">" || is_inner(part);
    (parts.next().is_some_and(is_last) && parts.all(is_inner)).then_some(key)
}

/// Whether a part may stand anywhere in a pattern.
fn is_inner(part: &[u8]) -> bool {
    part == b"*" || !part.iter().any(|byte| b"*>".contains(byte))
}

/// Checks a channel: a key of few enough parts, without wildcards.
pub fn channel(key: &[u8]) -> Option<&[u8]> {
    name(key).filter(|key| has_few_parts(key) && !key.iter().any(|byte| b"*>".contains(byte)))
}

fn has_few_parts(key: &[u8]) -> bool {
    key.iter().filter(|&&byte| byte == b'.').count() < PARTS_MAX
}

/// Checks the payload of a signal: it is not blank, and the line to a listener is not too long.
pub fn payload<'a>(channel: &[u8], line: &'a [u8]) -> Option<&'a [u8]> {
    let fits = signal_len(channel, line) <= SIGNAL_MAX;
    (fits && !line.trim_ascii().is_empty()).then_some(line)
}

/// Length of the line that carries a signal to a listener, without its LF.
fn signal_len(channel: &[u8], payload: &[u8]) -> usize {
    b"sig ".len() + channel.len() + b" ".len() + payload.len()
}

/// Appends the line that carries a signal to a listener.
pub fn write_signal(channel: &[u8], payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(signal_len(channel, payload) + 1);
    for part in [b"sig ", channel, b" ", payload, b"\n"] {
        out.extend_from_slice(part);
    }
}

fn without_cr(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b'\r'] = line {
        line = rest;
    }
    line
}

/// Checks the name of a key: it is not empty and has no blanks.
pub(super) fn name(key: &[u8]) -> Option<&[u8]> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    (!key.is_empty() && !key.iter().any(blank)).then_some(key)
}

fn words(argument: &[u8]) -> impl Iterator<Item = &[u8]> {
    argument
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// Reads the last word, a lease, if there is one; nothing may follow it.
fn lease<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<Option<Us>> {
    let lease = match words.next() {
        Some(word) => Some(seconds(word, 1)?),
        None => None,
    };
    words.next().is_none().then_some(lease)
}

/// Reads the limit of a semaphore from the next word. A lock has a limit of 1, which is not sent.
fn limit<'a>(space: Space, words: &mut impl Iterator<Item = &'a [u8]>) -> Option<u32> {
    match space {
        Space::Lock => Some(1),
        Space::Semaphore => integer(words.next()?, 1, LIMIT_MAX).map(|limit| limit as u32),
    }
}

/// Reads a whole number of seconds from `least` to [`SECONDS_MAX`].
fn seconds(word: &[u8], least: u64) -> Option<Us> {
    integer(word, least, SECONDS_MAX).map(|value| value * SECOND)
}

/// Reads a whole number in a range: decimal digits, perhaps after a sign, and nothing else.
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

/// Reads a token: 32 lowercase hex digits, 16 of the fence and 16 of the salt.
pub fn token(word: &[u8]) -> Option<Token> {
    let (fence, salt) = word.split_first_chunk()?;
    let (fence, salt) = (hex(fence)?, hex(salt.try_into().ok()?)?);
    (fence != 0).then_some(Token { fence, salt })
}

/// Reads 16 lowercase hex digits.
pub(super) fn hex(digits: &[u8; 16]) -> Option<u64> {
    let (mut value, mut seen) = (0, 0);
    for &digit in digits {
        let digit = VALUES[usize::from(digit)];
        seen |= digit;
        value = value << 4 | u64::from(digit);
    }
    (seen < 16).then_some(value)
}

pub(super) fn name_of(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Error => "error",
        Refusal::MaxLocks => "error_max_locks",
        Refusal::MaxWaiters => "error_max_waiters",
        Refusal::MaxHolds => "error_max_holds",
        Refusal::LimitMismatch => "error_limit_mismatch",
        Refusal::AlreadyEnqueued => "error_already_enqueued",
        Refusal::NotEnqueued => "error_not_enqueued",
        Refusal::LeaseExpired => "error_lease_expired",
        Refusal::Draining => "error_draining",
        Refusal::Quarantine => "error_quarantine",
        Refusal::Deadlock => "error_deadlock",
        Refusal::Auth => "error_auth",
        Refusal::MaxConnections => "error_max_connections",
    }
}

fn write_grant(token: Token, lease: Us, out: &mut Vec<u8>) {
    write_token(token, out);
    out.push(b' ');
    write_seconds(lease, out);
}

/// Appends a token as [`token`] reads it.
pub fn write_token(token: Token, out: &mut Vec<u8>) {
    write_hex(token.fence, out);
    write_hex(token.salt, out);
}

/// The two hex digits of a byte.
pub(super) fn hex_of(byte: u8) -> [u8; 2] {
    DIGITS[usize::from(byte)]
}

pub(super) fn write_hex(value: u64, out: &mut Vec<u8>) {
    let digits = value.to_be_bytes().map(hex_of);
    out.extend_from_slice(digits.as_flattened());
}

pub(super) fn write_seconds(span: Us, out: &mut Vec<u8>) {
    write_number(span / SECOND, out);
}

/// Appends a whole number in decimal.
pub fn write_number(mut value: u64, out: &mut Vec<u8>) {
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
mod tests;
