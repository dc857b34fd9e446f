//! Answers, read again as a client reads them: by httparse and serde_json.

use serde_json::{Value, json};

use super::super::answer::*;
use super::super::{Answer, Clock, Exchange, Granted, Problem, admit, problem};
use super::{settings, whole};
use crate::command::{SECOND, Space, Token};

/// 2026-11-21 00:00:30.250999.
const CLOCK: Clock = Clock {
    now: 9 * SECOND,
    wall_us: 1_795_219_230_250_999,
};
const TOKEN: Token = Token {
    fence: 0x18a3_f217_b3c4_d87f,
    salt: 0x7f3c_1f2b_3e9a_8d6e,
};

fn exchange(request: &str) -> Exchange {
    let mut exchange = whole(request.as_bytes()).0;
    exchange.arrived = CLOCK.now - 2_500_999;
    exchange
}

fn acquire() -> Exchange {
    exchange(
        "POST /locks/user:123/acquire HTTP/1.1\r\nHost: h\r\nX-Request-Id: r1\r\n\
         Content-Length: 26\r\n\r\n{\"clientId\":\"client-123\" }",
    )
}

/// An answer as a client reads it: its status, its headers and its body.
struct Read {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Read {
    fn of(bytes: &[u8]) -> Read {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut headers);
        let end = answer.parse(bytes).expect("an answer");
        let httparse::Status::Complete(end) = end else {
            panic!("the answer is cut off");
        };
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).expect("text");
        let headers = answer.headers.iter();
        Read {
            status: answer.code.expect("whole"),
            headers: headers
                .map(|h| (h.name.to_string(), text(h.value)))
                .collect(),
            body: bytes[end..].to_vec(),
        }
    }

    /// The one value of a header; empty if there is none.
    fn header(&self, name: &str) -> &str {
        let mut values = self.headers.iter().filter(|(known, _)| known == name);
        let value = values.next().map_or("", |(_, value)| value);
        assert!(values.next().is_none(), "two headers {name}");
        value
    }

    fn json(&self) -> Value {
        assert_eq!(self.header("Content-Length"), self.body.len().to_string());
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

fn answered(answer: &Answer, exchange: &Exchange) -> Read {
    let mut out = Vec::new();
    write(answer, exchange, CLOCK, &mut out);
    Read::of(&out)
}

fn refused(problem: &Problem, exchange: &Exchange) -> Read {
    let mut out = Vec::new();
    write_problem(problem, exchange, CLOCK, &mut out);
    Read::of(&out)
}

#[test]
fn a_grant_is_the_seeds_answer_and_a_little_more() {
    let granted = |renews| {
        Answer::Granted(Granted {
            client: b"client-123",
            token: TOKEN,
            lease: 30 * SECOND,
            waited: 2_500_999,
            renews,
        })
    };
    let mut out = Vec::new();
    write(&granted(None), &acquire(), CLOCK, &mut out);
    let wanted = "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 00:00:30 GMT\r\nKeep-Alive: timeout=75\r\n\
         X-Request-Id: r1\r\nCache-Control: no-store\r\nContent-Type: application/json\r\nContent-Length: 245\r\n\r\n\
         {\"lockId\":\"lock-18a3f217b3c4d87f\",\"lockName\":\"user:123\",\"clientId\":\"client-123\",\
         \"acquired\":true,\"expiresAt\":\"2026-11-21T00:01:00.250Z\",\
         \"renewalToken\":\"18a3f217b3c4d87f7f3c1f2b3e9a8d6e\",\"waitTime\":2.5,\
         \"ttl\":30.0,\"fencingToken\":\"18a3f217b3c4d87f\"}";
    assert_eq!(String::from_utf8(out).expect("text"), wanted);
    let json = answered(&granted(Some(300 * SECOND)), &acquire()).json();
    assert_eq!(json["autoRenewUntil"], "2026-11-21T00:05:30.250Z");
}

#[test]
fn no_grant_has_no_token_and_says_why() {
    let answer = |kept| Answer::NotGranted {
        client: b"client-123",
        waited: 10 * SECOND,
        reason: "timeout",
        kept,
    };
    let json = |kept| answered(&answer(kept), &acquire()).json();
    let mut wanted = json!({
        "lockId": null, "lockName": "user:123", "clientId": "client-123", "acquired": false,
        "expiresAt": null, "renewalToken": null, "waitTime": 10.0, "reason": "timeout",
    });
    assert_eq!(json(None), wanted);
    wanted["placeKept"] = json!(5.0);
    assert_eq!(json(Some(5 * SECOND)), wanted);
}

#[test]
fn the_end_of_holds_is_told_with_their_names() {
    let json = |client: Option<&[u8]>, fence| {
        answered(&Answer::Released { client, fence }, &acquire()).json()
    };
    assert_eq!(
        json(Some(b"a\"\xff\n"), Some(1)),
        json!({"lockName": "user:123", "lockId": "lock-0000000000000001", "clientId": "a\"\u{fffd}\n", "released": true})
    );
    assert_eq!(
        json(None, None),
        json!({"lockName": "user:123", "lockId": null, "clientId": null, "released": false})
    );
    let holds = [(1, b"a".to_vec()), (2, b"b".to_vec())];
    let broken = |holds| {
        let answer = Answer::Broken {
            count: 2,
            holds,
            waiting: 7,
        };
        answered(&answer, &acquire()).json()
    };
    assert_eq!(
        broken(&holds[..]),
        json!({"lockName": "user:123", "released": true, "count": 2, "waiters": 7, "locks": [
            {"lockId": "lock-0000000000000001", "clientId": "a"},
            {"lockId": "lock-0000000000000002", "clientId": "b"},
        ]})
    );
    assert_eq!(broken(&[])["locks"], json!([]));
}

#[test]
fn a_problem_says_what_is_wrong_and_to_an_acquire_that_nothing_was_granted() {
    let answer = refused(&Problem::new("max-locks", "there are 5"), &acquire());
    assert_eq!((answer.status, answer.header("Retry-After")), (503, "1"));
    assert_eq!(answer.header("Content-Type"), "application/problem+json");
    assert_eq!(
        answer.json(),
        json!({
            "type": "urn:dflockd:problem:max-locks", "title": "There are too many locks", "status": 503,
            "detail": "there are 5", "instance": "r1", "code": "max-locks", "acquired": false,
            "lockName": "user:123", "clientId": "client-123", "waitTime": 2.5,
        })
    );
    let cycle = [
        (b"a".to_vec(), b"k".to_vec()),
        (b"b".to_vec(), b"\xff".to_vec()),
    ];
    let answer = answered(
        &Answer::Deadlock {
            client: b"a",
            waited: 0,
            cycle: &cycle,
        },
        &acquire(),
    );
    assert_eq!(answer.status, 409);
    let json = answer.json();
    assert_eq!(
        (&json["code"], &json["acquired"]),
        (&json!("deadlock"), &json!(false))
    );
    let wanted =
        json!([{"clientId": "a", "waitsFor": "k"}, {"clientId": "b", "waitsFor": "\u{fffd}"}]);
    assert_eq!(json["cycle"], wanted);
}

#[test]
fn each_problem_has_the_headers_of_its_status() {
    let get = exchange("GET /locks?limit=0&after=x HTTP/1.1\r\nHost: h\r\n\r\n");
    let problem = get.asked.as_ref().expect_err("two fields are wrong");
    let answer = refused(problem, &get);
    assert_eq!(answer.status, 422);
    let errors = answer.json()["errors"].clone();
    let wanted = json!({"field": "limit", "detail": "want a whole number, 1 to 1000"});
    assert_eq!(
        (&errors[0], &errors[1]["field"]),
        (&wanted, &json!("after"))
    );
    let put = exchange("PUT /health HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = refused(put.asked.as_ref().expect_err("no such method"), &put);
    assert_eq!(
        (answer.status, answer.header("Allow")),
        (405, "GET, HEAD, OPTIONS")
    );
    let unauthorized = Problem::new("unauthorized", "send the token");
    let mut get = exchange("GET /locks HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = refused(&unauthorized, &get);
    assert_eq!(
        answer.header("WWW-Authenticate"),
        "Bearer realm=\"dflockd\""
    );
    get.credential = Some(b"wrong".to_vec());
    let wanted = "Bearer realm=\"dflockd\", error=\"invalid_token\"";
    assert_eq!(
        refused(&unauthorized, &get).header("WWW-Authenticate"),
        wanted
    );
    let late = Problem::new("request-timeout", "too slow");
    let late = refused(&late, &Exchange::unread(late.clone()));
    assert_eq!((late.status, late.header("Connection")), (408, "close"));
    assert!(late.header("Keep-Alive").is_empty() && late.json().get("acquired").is_none());
    assert_eq!(
        refused(&Problem::nothing_held(Space::Lock), &get).status,
        404
    );
}

#[test]
fn every_status_has_its_reason() {
    for (code, status, _) in problem::CODES {
        let mut out = Vec::new();
        write_problem(&Problem::new(code, "why"), &acquire(), CLOCK, &mut out);
        let out = String::from_utf8(out).expect("text");
        let line = out.lines().next().expect("a status line");
        let reason = line.strip_prefix(&format!("HTTP/1.1 {status} "));
        assert!(reason.is_some_and(|reason| reason.len() > 3), "{line}");
    }
}

#[test]
fn every_answer_can_be_told_from_the_next() {
    for (connection, version, keep_alive, wanted) in [
        ("", "1.1", "timeout=75", ""),
        ("Connection: close\r\n", "1.1", "", "close"),
        ("", "1.0", "", "close"),
        (
            "Connection: keep-alive\r\n",
            "1.0",
            "timeout=75",
            "keep-alive",
        ),
    ] {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let path = "/openapi.json";
            let head = format!("{method} {path} HTTP/{version}\r\nHost: h\r\n{connection}\r\n");
            let exchange = exchange(&head);
            let (mut body, mut none) = (Vec::new(), Vec::new());
            write_body("a/b", b"12345", &[], &exchange, CLOCK, &mut body);
            write_no_content(&exchange, CLOCK, &mut none);
            let problem = refused(&Problem::new("draining", "wait"), &exchange);
            let (body, none) = (Read::of(&body), Read::of(&none));
            for answer in [&body, &none, &problem] {
                assert_eq!(answer.header("Keep-Alive"), keep_alive);
                assert_eq!(answer.header("Connection"), wanted);
                assert_eq!(answer.header("Date"), "Sat, 21 Nov 2026 00:00:30 GMT");
                assert_eq!(answer.header("Cache-Control"), "no-store");
                assert!(answer.header("Transfer-Encoding").is_empty());
            }
            let is_head = method == "HEAD";
            let length = problem
                .header("Content-Length")
                .parse::<usize>()
                .expect("a length");
            assert_eq!(problem.body.len(), if is_head { 0 } else { length });
            assert!(length > 100);
            assert_eq!(body.header("Content-Length"), "5");
            assert_eq!(body.body, if is_head { &b""[..] } else { b"12345" });
            // RFC 9110, 8.6: no length, as there is no body.
            assert!(none.header("Content-Length").is_empty() && none.body.is_empty());
            assert_eq!(none.header("Allow"), "GET, HEAD, OPTIONS");
        }
    }
    let mut out = Vec::new();
    write_interim(&mut out);
    assert_eq!(Read::of(&out).status, 100);
}

#[test]
fn what_a_client_has_already_is_not_sent_again() {
    for (tags, status) in [
        ("\"v1\"", 304),
        ("W/\"v1\"", 304),
        ("\"v0\" , \"v1\"", 304),
        ("*", 304),
        ("\"v10\"", 200),
        ("v1", 200),
        ("", 200),
    ] {
        let head =
            format!("GET /openapi.json HTTP/1.1\r\nHost: h\r\nIf-None-Match: {tags}\r\n\r\n");
        let more = [("ETag", "\"v1\""), ("Cache-Control", "no-cache")];
        let mut out = Vec::new();
        write_body(
            "application/json",
            b"{}",
            &more,
            &exchange(&head),
            CLOCK,
            &mut out,
        );
        let answer = Read::of(&out);
        assert_eq!(answer.status, status, "{tags}");
        assert_eq!(answer.body.is_empty(), status == 304);
        assert_eq!(
            (answer.header("ETag"), answer.header("Cache-Control")),
            ("\"v1\"", "no-cache")
        );
    }
}

#[test]
fn a_page_may_read_an_answer_only_if_its_origin_was_admitted() {
    let shared = "https://ops.example";
    let preflight = |origin: &str| {
        let mut exchange = exchange(&format!(
            "OPTIONS /locks/a/acquire HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\
             Access-Control-Request-Method: POST\r\n\r\n"
        ));
        let admitted = admit(&mut exchange, &settings(), false);
        let mut out = Vec::new();
        match admitted {
            Ok(()) => write_no_content(&exchange, CLOCK, &mut out),
            Err(problem) => write_problem(&problem, &exchange, CLOCK, &mut out),
        }
        Read::of(&out)
    };
    let answer = preflight(shared);
    assert_eq!(answer.status, 204);
    for (header, value) in [
        ("Access-Control-Allow-Origin", shared),
        ("Vary", "Origin"),
        ("Access-Control-Allow-Methods", "POST, OPTIONS"),
        (
            "Access-Control-Allow-Headers",
            "Authorization, Content-Type, X-Request-Id",
        ),
        ("Access-Control-Max-Age", "600"),
        ("Access-Control-Allow-Credentials", ""),
    ] {
        assert_eq!(answer.header(header), value);
    }
    for (origin, status) in [("http://localhost", 204), ("http://evil.example", 403)] {
        let answer = preflight(origin);
        assert_eq!(answer.status, status);
        let mut names = answer.headers.iter().map(|(name, _)| name);
        assert!(names.all(|name| !name.starts_with("Access-Control") && name != "Vary"));
    }
    let mut get = exchange(&format!(
        "GET /health HTTP/1.1\r\nHost: h\r\nOrigin: {shared}\r\n\r\n"
    ));
    let problem = Problem::new("draining", "wait");
    let misdirected = admit(&mut get, &settings(), false).expect_err("the name is not ours");
    let answer = refused(&misdirected, &get);
    assert!(answer.header("Access-Control-Allow-Origin").is_empty());
    admit(&mut get, &settings(), true).expect("whoever knows the secret is trusted");
    let answer = refused(&problem, &get);
    assert_eq!(answer.header("Access-Control-Allow-Origin"), shared);
}

#[test]
fn numbers_are_rounded_down_and_dates_are_right() {
    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text")
    }
    for (span, wanted) in [
        (0, "0.0"),
        (999, "0.0"),
        (1_000, "0.001"),
        (10_999, "0.01"),
        (100_000, "0.1"),
        (999_999, "0.999"),
        (30_000_000, "30.0"),
        (10_050_000, "10.05"),
        (9_223_372_036_000_000, "9223372036.0"),
    ] {
        assert_eq!(text(|out| write_seconds("", span, out)), wanted);
    }
    for (second, wanted) in [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT"),
    ] {
        let wall_us = second * SECOND + 999_999;
        let mut out = Vec::new();
        write_no_content(&acquire(), Clock { wall_us, ..CLOCK }, &mut out);
        assert_eq!(Read::of(&out).header("Date"), wanted);
    }
    let last = 253_402_300_799_999_999;
    assert_eq!(
        text(|out| write_instant("", last, out)),
        "\"9999-12-31T23:59:59.999Z\""
    );
}
