//! Requests as clients and attackers send them, whole, byte by byte and cut at every place; and answers, read again.

use super::*;
use crate::command::SECOND;

fn settings() -> Settings {
    Settings {
        default_timeout: 30 * SECOND,
        max_timeout: 300 * SECOND,
        renewal_interval: 5 * SECOND,
        max_wait: 300 * SECOND,
        metrics_public: false,
        host: "locks.example".to_string(),
        origins: vec!["https://ops.example".to_string()],
    }
}

/// The first request of `input`, and its length.
fn whole(input: &[u8]) -> (Exchange, usize) {
    let mut out = None;
    match parse(input, &settings(), &mut out) {
        Framed::Done { used } => (*out.expect("done"), used),
        other => panic!("{other:?}: {}", String::from_utf8_lossy(input)),
    }
}

#[test]
fn the_requests_of_the_seed_are_read() {
    let body = r#"{"clientId":"client-123","timeout":30,"waitTimeout":10.5,"autoRenew":true,"metadata":{"a":[1]}}"#;
    let len = body.len();
    let request = format!(
        "POST /locks/user:123/acquire HTTP/1.1\r\nHost: localhost:5000\r\n\
         Content-Type: application/json\r\nContent-Length: {len}\r\n\r\n{body}"
    );
    let (exchange, used) = whole(request.as_bytes());
    assert_eq!(used, request.len());
    assert_eq!(exchange.name, b"user:123");
    let asked = Acquire {
        client: Some(b"client-123".to_vec()),
        lease: 30 * SECOND,
        wait: 10_500_000,
        renews: true,
        metadata: Some(br#"{"a":[1]}"#[..].into()),
        limit: None,
        attempt: None,
        keep: 0,
    };
    assert_eq!(exchange.asked, Ok(Asked::Acquire(asked)));
}
