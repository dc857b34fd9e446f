//! Tests of the edges of the three-line protocol: each frame whole, byte by byte, and cut at every place. Not its
//! rules: the dialogues test those. Invariant: `parse` gives the same request however the bytes arrive.

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
        owner: None,
        bound: Bound::Session,
        terms: None,
    };
    Some(Request::Command(command))
}

fn request(text: &[u8]) -> Option<Request<'_>> {
    match parse(text, true) {
        Parsed::Done { used, request } => {
            assert_eq!(used, text.len());
            Some(request)
        }
        Parsed::Bad { used, .. } => {
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
            bound: Bound::Session,
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
                match parse(text.as_bytes(), true) {
                    Parsed::TooLong { used, lines } => {
                        assert!(over && used == before && usize::from(lines) == line);
                    }
                    Parsed::Done { .. } | Parsed::Bad { .. } => assert!(!over),
                    Parsed::Partial { .. } | Parsed::Short { .. } | Parsed::Interim { .. } => {
                        panic!("the frame is whole")
                    }
                }
            }
        }
    }
    assert_eq!(parse(&[b'x'; LINE_MAX], true), Parsed::Partial { lines: 0 });
    assert_eq!(
        parse(&[b'x'; LINE_MAX + 1], true),
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
        let whole = parse(frame.as_bytes(), true);
        for cut in 0..frame.len() {
            let lines = frame[..cut].matches('\n').count() as u8;
            assert_eq!(
                parse(&frame.as_bytes()[..cut], true),
                Parsed::Partial { lines }
            );
        }
        assert_eq!(
            parse(format!("{frame}l\nk").as_bytes(), true),
            whole,
            "bytes behind a frame change nothing"
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
}
