//! What can be tried without a server; and, in `tls`, a client over TLS.

#[cfg(feature = "tls")]
mod peer;
#[cfg(feature = "tls")]
mod tls;

use super::*;

#[test]
fn a_key_has_1_to_256_bytes_and_no_blank() {
    for name in [&b"k"[..], &[0xff; 256], b"\x00{}"] {
        assert!(Key::lock(name).is_ok(), "{name:?}");
        assert!(Key::semaphore(name, 1).is_ok(), "{name:?}");
    }
    for name in [&b""[..], &[b'k'; 257], b"a b", b"a\tb", b"a\r", b"a\n"] {
        assert!(matches!(Key::lock(name), Err(Error::Key(_))), "{name:?}");
        assert!(
            matches!(Key::semaphore(name, 1), Err(Error::Key(_))),
            "{name:?}"
        );
    }
}

#[test]
fn a_limit_is_1_to_1_048_576() {
    for limit in [1, 1_048_576] {
        assert!(Key::semaphore(b"k", limit).is_ok());
    }
    for limit in [0, 1_048_577, u32::MAX] {
        assert!(matches!(Key::semaphore(b"k", limit), Err(Error::Key(_))));
    }
}

#[test]
fn a_span_is_what_the_protocol_can_say_and_never_shorter_than_asked() {
    assert_eq!(span(Duration::ZERO), 0);
    assert_eq!(span(Duration::from_nanos(1)), 1);
    assert_eq!(span(Duration::from_millis(1500)), 1_500_000);
    assert_eq!(span(Duration::MAX), SECONDS_MAX * SECOND);
}

#[test]
fn every_error_says_what_it_is() {
    let errors = [
        (
            Error::Key("a key is 1 to 256 bytes"),
            "a key is 1 to 256 bytes",
        ),
        (Error::Io(ErrorKind::TimedOut.into()), "timed out"),
        (Error::Timeout, "the wait is over"),
        (
            Error::Refused(Refusal::Draining),
            "the server is about to stop",
        ),
        (
            Error::Protocol(answered(b"HTTP/1.1")),
            "the server is not a dflockd server: it answered \"HTTP/1.1\"",
        ),
    ];
    for (error, text) in errors {
        assert_eq!(error.to_string(), text);
    }
}
