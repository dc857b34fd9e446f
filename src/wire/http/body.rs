//! The body of a request: so many bytes, or chunks (RFC 9112, 7.1). Invariant: the end of a body is never guessed, and
//! nothing is kept of one before its size is known to be under the cap.

use std::borrow::Cow;

use super::Problem;
use super::head::Length;
use crate::wire::text::find_lf;

/// The longest body, in bytes without the lines of its chunks.
pub const BODY_MAX: usize = 65_536;
/// The longest extension of a chunk, in bytes.
pub const EXTENSION_MAX: usize = 256;
/// The longest trailer, in bytes with the CR LF of each line and the empty line.
pub const TRAILER_MAX: usize = 1024;
/// How many bytes all chunks of a body may have that are not data. It bounds how often the body is looked through, as
/// each chunk may come by itself.
pub const FRAMING_MAX: usize = 16_384;

/// The most digits of the size of a chunk.
const DIGITS_MAX: usize = 8;
/// The shortest end of a chunked body.
const LAST: &[u8] = b"0\r\n\r\n";

/// Where a body ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Extent {
    /// It has not ended, and does not before there are so many bytes of it.
    Partial(usize),
    /// After so many bytes.
    Whole(usize),
    /// Nobody can tell, or it is too long.
    Bad(Problem),
}

/// Finds the end of the body that `input` begins with.
pub fn measure(length: Length, input: &[u8]) -> Extent {
    match length {
        Length::Known(length) if length > BODY_MAX => Extent::Bad(too_large()),
        Length::Known(length) if length > input.len() => Extent::Partial(length),
        Length::Known(length) => Extent::Whole(length),
        Length::Chunked => walk(input, |_| {}),
    }
}

/// The data of a whole body.
pub fn data(length: Length, body: &[u8]) -> Cow<'_, [u8]> {
    match length {
        Length::Known(_) => body.into(),
        Length::Chunked => {
            let mut data = Vec::with_capacity(body.len());
            let end = walk(body, |chunk| data.extend_from_slice(chunk));
            assert!(end == Extent::Whole(body.len()), "it was measured");
            data.into()
        }
    }
}

fn walk<'a>(input: &'a [u8], mut each: impl FnMut(&'a [u8])) -> Extent {
    let (mut at, mut data) = (0, 0);
    loop {
        let size = match size_line(&input[at..]) {
            Ok(Some((size, used))) => {
                at += used;
                size
            }
            Ok(None) => return Extent::Partial(at + least(&input[at..])),
            Err(problem) => return Extent::Bad(problem),
        };
        if at - data > FRAMING_MAX {
            return Extent::Bad(bad("the chunks are too small for so long a body"));
        }
        if size == 0 {
            return trailer(input, at);
        }
        data += size;
        if data > BODY_MAX {
            return Extent::Bad(too_large());
        }
        let (begin, end) = (at, at + size);
        at = end + 2;
        match input.get(end..at.min(input.len())) {
            Some(b"\r\n") => each(&input[begin..end]),
            None | Some(b"" | b"\r") => return Extent::Partial(at + LAST.len()),
            _ => return Extent::Bad(bad("a chunk is longer than it says")),
        }
    }
}

/// Reads the line before a chunk: the size, and the length of the line. None: the line is not whole.
fn size_line(input: &[u8]) -> Result<Option<(usize, usize)>, Problem> {
    const LONGEST: usize = DIGITS_MAX + EXTENSION_MAX + 2;
    let wrong = || bad("the size of a chunk is malformed");
    let Some(end) = find_lf(&input[..input.len().min(LONGEST)]) else {
        return if input.len() < LONGEST {
            Ok(None)
        } else {
            Err(wrong())
        };
    };
    let line = input[..end].strip_suffix(b"\r").ok_or_else(wrong)?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let digits = digits.count();
    let (digits, extension) = line.split_at(digits);
    let is_quiet = |&byte: &u8| byte == b'\t' || !byte.is_ascii_control();
    let is_extension = extension.is_empty() || extension.trim_ascii_start().starts_with(b";");
    if !(1..=DIGITS_MAX).contains(&digits.len())
        || extension.len() > EXTENSION_MAX
        || !is_extension
        || !extension.iter().all(is_quiet)
    {
        return Err(wrong());
    }
    let size = digits.iter().fold(0, |size, &digit| {
        let digit = char::from(digit).to_digit(16).expect("seen above");
        size << 4 | digit as usize
    });
    Ok(Some((size, end + 1)))
}

/// How many bytes there are at least when a body is over whose last known line, `line`, is not whole.
fn least(line: &[u8]) -> usize {
    let more = if line.ends_with(b"\r") { 3 } else { 4 };
    (line.len() + more).max(LAST.len())
}

/// Finds the end of what follows the last chunk, at `at`: header lines, which are dropped, and an empty one.
fn trailer(input: &[u8], at: usize) -> Extent {
    let rest = &input[at..];
    let mut used = 0;
    loop {
        let line = &rest[used..rest.len().min(TRAILER_MAX)];
        let Some(end) = find_lf(line) else {
            let seen = match line {
                b"\r" => 3,
                b"" => 2,
                [.., b'\r'] => 1,
                _ => 0,
            };
            return match rest.len() {
                ..TRAILER_MAX => Extent::Partial(input.len() + 4 - seen),
                _ => Extent::Bad(bad("the trailer is too long")),
            };
        };
        used += end + 1;
        match &line[..end] {
            b"\r" => break,
            [.., b'\r'] => {}
            _ => return Extent::Bad(bad("a line of the trailer ends without CR LF")),
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; TRAILER_MAX / 4];
    match httparse::parse_headers(&rest[..used], &mut headers) {
        Ok(httparse::Status::Complete((end, _))) if end == used => Extent::Whole(at + used),
        _ => Extent::Bad(bad("the trailer is malformed")),
    }
}

fn too_large() -> Problem {
    let detail = format!("a body has at most {BODY_MAX} bytes");
    Problem::new("body-too-large", detail)
}

fn bad(detail: &str) -> Problem {
    Problem::new("bad-request", detail)
}
