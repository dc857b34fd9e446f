//! Requests as clients and attackers send them: whole, byte by byte, cut at every place, and with bytes that are
//! changed at random.

mod answers;
mod bodies;
mod requests;

use super::body::{BODY_MAX, EXTENSION_MAX, FRAMING_MAX, TRAILER_MAX};
use super::head::{COUNT_MAX, HEADERS_MAX, LINE_MAX};
use super::*;
use crate::command::SECOND;
use requests::{DOUBTS, GOOD, STOLEN};

pub(super) fn settings() -> Settings {
    Settings {
        default_timeout: 30 * SECOND,
        max_timeout: 300 * SECOND,
        renewal_interval: 5 * SECOND,
        max_wait: 300 * SECOND,
        metrics_public: false,
        is_https: false,
        knows_clients: false,
        host: "locks.example".to_string(),
        origins: vec!["https://ops.example".to_string()],
    }
}

/// The first request of `input`, and its length.
pub(super) fn whole(input: &[u8]) -> (Exchange, usize) {
    let mut out = None;
    match parse(input, &settings(), &mut out) {
        Framed::Done { used } => (*out.expect("done"), used),
        other => panic!("{other:?}: {}", show(input)),
    }
}

fn show(input: &[u8]) -> String {
    input[..input.len().min(500)].escape_ascii().to_string()
}

/// What a connection that sends `input` in pieces that end at these places has asked for, and how often its bytes were
/// looked through.
fn heard(input: &[u8], ends: impl Iterator<Item = usize>) -> (Vec<Exchange>, usize) {
    let (mut at, mut need, mut looks) = (0, 1, 0);
    let mut exchanges = Vec::new();
    for end in ends {
        while end - at >= need {
            let mut out = None;
            looks += 1;
            match parse(&input[at..end], &settings(), &mut out) {
                Framed::Partial { need: more } | Framed::Interim { need: more } => {
                    assert!(more > end - at, "{}", show(input));
                    assert!(more <= FRAME_MAX, "{more}: {}", show(input));
                    need = more;
                }
                Framed::Done { used } => {
                    let exchange = *out.expect("done");
                    assert!((1..=end - at).contains(&used));
                    let goes_on = exchange.keeps_alive;
                    assert!(goes_on || used == end - at, "{}", show(input));
                    exchanges.push(exchange);
                    if !goes_on {
                        return (exchanges, looks);
                    }
                    (at, need) = (at + used, 1);
                }
            }
        }
    }
    (exchanges, looks)
}

/// The same however it is cut; 0 stands for a request that is carried out, other numbers for statuses.
fn statuses(input: &[u8]) -> Vec<u16> {
    let (exchanges, _) = heard(input, [input.len()].into_iter());
    assert_eq!(
        heard(input, 1..=input.len()).0,
        exchanges,
        "{}",
        show(input)
    );
    for cut in 0..input.len() {
        let cut = heard(input, [cut, input.len()].into_iter()).0;
        assert_eq!(cut, exchanges, "{}", show(input));
    }
    exchanges.iter().map(status).collect()
}

fn status(exchange: &Exchange) -> u16 {
    exchange
        .asked
        .as_ref()
        .err()
        .map_or(0, |problem| problem.status)
}

#[test]
fn good_requests_are_read_however_they_come() {
    for request in GOOD {
        assert_eq!(statuses(request.as_bytes()), [0], "{request}");
    }
    let all = GOOD.concat();
    let (exchanges, _) = heard(all.as_bytes(), 1..=all.len());
    assert_eq!(exchanges.len(), GOOD.len());
    assert_eq!(heard(all.as_bytes(), [all.len()].into_iter()).0, exchanges);
}

#[test]
fn a_request_that_asks_for_the_wrong_thing_takes_up_its_own_bytes_alone() {
    let post = |path: &str, more: &str, body: &str| {
        let len = body.len();
        format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len}\r\n{more}\r\n{body}")
    };
    for (request, wanted) in [
        (post("/lock/a/acquire", "", "{}"), 404),
        (post("/locks/a/acquire/", "", "{}"), 404),
        (post("/locks/", "", "{}"), 404),
        (post("/locks/a", "", "{}"), 405),
        (post("/", "", "{}"), 405),
        (post("/locks//acquire", "", "{}"), 400),
        (post("/locks/%2e%2E/acquire", "", "{}"), 400),
        (post("/locks/a%20b/acquire", "", "{}"), 400),
        (post("/%zz", "", "{}"), 400),
        (post("/locks/a/acquire", "", "{"), 400),
        (post("/locks/a/acquire", "", "[]"), 422),
        (post("/locks/a/acquire", "", "{\"limit\":0}"), 422),
        (post("/locks/a/release", "", "{\"clientId\":\"a\"}"), 422),
        (post("/locks/a/renew", "", ""), 422),
        (
            post("/locks/a/acquire", "Content-Type: text/plain\r\n", "{}"),
            415,
        ),
        (
            post("/locks/a/acquire", "Content-Encoding: gzip\r\n", "{}"),
            415,
        ),
        (post("/locks/a/acquire", "Expect: more\r\n", "{}"), 417),
        ("GET /locks?limit=0 HTTP/1.1\r\nHost: h\r\n\r\n".into(), 422),
        ("TRACE /health HTTP/1.1\r\nHost: h\r\n\r\n".into(), 405),
        (
            "PUT /locks/a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx".into(),
            405,
        ),
        ("BREW /health HTTP/1.1\r\nHost: h\r\n\r\n".into(), 501),
        ("get /health HTTP/1.1\r\nHost: h\r\n\r\n".into(), 501),
        ("POST * HTTP/1.1\r\nHost: h\r\n\r\n".into(), 400),
    ] {
        let goes_on = wanted != 400 || !request.starts_with("POST *");
        let two = request.clone() + GOOD[0];
        if request.contains("Expect") {
            // What is wrong is said before the body comes, so the connection ends.
            assert_eq!(whole(two.as_bytes()).1, request.len());
            let head = request.strip_suffix("{}").expect("it has a body");
            let (exchange, used) = whole(head.as_bytes());
            assert_eq!((status(&exchange), used), (417, head.len()));
            assert!(!exchange.keeps_alive);
        } else if goes_on {
            assert_eq!(statuses(two.as_bytes()), [wanted, 0], "{request}");
        } else {
            assert_eq!(statuses(two.as_bytes()), [wanted], "{request}");
        }
    }
}

#[test]
fn after_a_doubt_about_the_end_of_a_request_nothing_is_read() {
    for (what, more, wanted) in DOUBTS {
        let request = format!("{what}{more}{STOLEN}");
        assert_eq!(statuses(request.as_bytes()), [*wanted], "{what}{more}");
        let (exchange, used) = whole(request.as_bytes());
        assert!(!exchange.keeps_alive && used == request.len());
    }
}

/// A request that is as long as it may be in one respect if `len` is that limit.
fn long(what: &str, len: usize) -> String {
    let get = "GET /locks HTTP/1.1\r\nHost: h\r\n";
    let post = "POST /locks/a/acquire HTTP/1.1\r\nHost: h\r\n";
    let chunked = format!("{post}Transfer-Encoding: chunked\r\n\r\n");
    let fill = |around: &str| "x".repeat(len - around.len());
    match what {
        "line" => {
            let query = fill("GET /locks? HTTP/1.1");
            get.replace(" HTTP", &format!("?{query} HTTP")) + "\r\n"
        }
        "headers" => format!("{get}X: {}\r\n\r\n", fill("Host: h\r\nX: \r\n\r\n")),
        "count" => format!("{get}{}\r\n", "X: y\r\n".repeat(len - 1)),
        "body" => {
            let spaces = " ".repeat(len - 2);
            format!("{post}Content-Length: {len}\r\n\r\n{{{spaces}}}")
        }
        "data" => {
            let spaces = " ".repeat(len - 2);
            format!(
                "{chunked}1\r\n{{\r\n{:x}\r\n{spaces}}}\r\n0\r\n\r\n",
                len - 1
            )
        }
        "extension" => format!("{chunked}2;{}\r\n{{}}\r\n0\r\n\r\n", fill(";")),
        "trailer" => format!("{chunked}0\r\nX: {}\r\n\r\n", fill("X: \r\n\r\n")),
        _ => {
            // Five bytes around each chunk, and the line of the last one.
            let (chunks, rest) = ((len - 4) / 5, (len - 4) % 5);
            let (chunks, rest) = ("1\r\n \r\n".repeat(chunks - 1), "x".repeat(rest));
            format!("{chunked}2\r\n{{}}\r\n{chunks}0;{rest}\r\n\r\n")
        }
    }
}

#[test]
fn every_limit_is_where_it_is_said_to_be() {
    for (what, max, wanted) in [
        ("line", LINE_MAX, 414),
        ("headers", HEADERS_MAX, 431),
        ("count", COUNT_MAX, 431),
        ("body", BODY_MAX, 413),
        ("data", BODY_MAX, 413),
        ("extension", EXTENSION_MAX, 400),
        ("trailer", TRAILER_MAX, 400),
        ("framing", FRAMING_MAX, 400),
    ] {
        for (len, wanted) in [
            (max - 1, 0),
            (max, 0),
            (max + 1, wanted),
            (max + 99, wanted),
        ] {
            let request = long(what, len);
            let at_once = heard(request.as_bytes(), [request.len()].into_iter()).0;
            let by_byte = heard(request.as_bytes(), 1..=request.len()).0;
            assert_eq!(at_once, by_byte, "{what} {len}");
            assert_eq!(at_once.len(), 1, "{what} {len}");
            assert_eq!(status(&at_once[0]), wanted, "{what} {len}");
        }
    }
}

#[test]
fn bytes_that_come_one_by_one_are_not_looked_through_each_time() {
    let looks = |input: &str| heard(input.as_bytes(), 1..=input.len());
    let head = "POST /locks/a/acquire HTTP/1.1\r\nHost: h\r\n";
    let (data, short) = ("x".repeat(BODY_MAX - 10), "{}".repeat(5));
    let body = format!("{head}Content-Length: {BODY_MAX}\r\n\r\n{data}{short}");
    let (exchanges, count) = looks(&body);
    assert_eq!(exchanges.len(), 1);
    assert!(count < 80, "{count}");
    let chunk = format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{data}\r\n0\r\n\r\n",
        data.len()
    );
    let (exchanges, count) = looks(&chunk);
    assert_eq!(exchanges.len(), 1);
    assert!(count < 80, "{count}");
    // Chunks of one byte each are refused before they cost much.
    let tiny = "1\r\n \r\n".repeat(BODY_MAX - 2);
    let (exchanges, count) = looks(&format!("{head}Transfer-Encoding: chunked\r\n\r\n{tiny}"));
    assert_eq!(exchanges.iter().map(status).collect::<Vec<_>>(), [400]);
    assert!(count < FRAMING_MAX / 5 + 80, "{count}");
}

#[test]
fn whoever_asks_before_the_body_is_told_to_go_on_if_the_head_is_good() {
    let head = |path: &str, more: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\n{more}\r\n")
    };
    let ask = |input: &str| {
        let mut out = None;
        let framed = parse(input.as_bytes(), &settings(), &mut out);
        (
            framed,
            out.map(|exchange| (status(&exchange), exchange.keeps_alive)),
        )
    };
    let good = head("/locks/a/acquire", "Content-Length: 2\r\n");
    let need = good.len() + 2;
    assert_eq!(ask(&good), (Framed::Interim { need }, Some((0, true))));
    // The head is there all the same, to be refused before the rest is kept.
    let begun = (Framed::Partial { need }, Some((0, true)));
    assert_eq!(ask(&format!("{good}{{")), begun);
    assert_eq!(ask(&good[..good.len() - 1]).1, None);
    let done = Framed::Done { used: need };
    assert_eq!(ask(&format!("{good}{{}}")), (done, Some((0, true))));
    let chunked = head("/locks/a/acquire", "Transfer-Encoding: chunked\r\n");
    let need = chunked.len() + 5;
    assert_eq!(ask(&chunked), (Framed::Interim { need }, Some((0, true))));
    for (path, more, wanted) in [
        ("/nothing", "Content-Length: 2\r\n", 404),
        ("/health", "Content-Length: 2\r\n", 405),
        ("/locks/%zz/acquire", "Content-Length: 2\r\n", 400),
        (
            "/locks/a/acquire",
            "Content-Length: 2\r\nContent-Type: a/b\r\n",
            415,
        ),
        ("/locks/a/acquire", "Content-Length: 65537\r\n", 413),
        (
            "/locks/a/acquire",
            "Content-Length: 2\r\nExpect: x\r\n",
            417,
        ),
    ] {
        let request = head(path, more);
        let done = Framed::Done {
            used: request.len(),
        };
        assert_eq!(
            ask(&request),
            (done, Some((wanted, false))),
            "{path} {more}"
        );
    }
    // Nothing is to come, or the version has no such thing.
    let none = head("/locks/a/acquire", "Content-Length: 0\r\n");
    let done = Framed::Done { used: none.len() };
    assert_eq!(ask(&none), (done, Some((0, true))));
    let old = good.replace("HTTP/1.1", "HTTP/1.0");
    let need = old.len() + 2;
    let begun = (Framed::Partial { need }, Some((0, false)));
    assert_eq!(ask(&old), begun);
}

#[test]
fn a_request_line_of_another_version_is_answered_as_soon_as_it_ends() {
    for (line, wanted) in [
        ("GET /\r\n", 505),
        ("G\r\n", 400),
        ("PRI * HTTP/2.0\r\n", 505),
        ("GET / HTTP/1.1\n", 400),
    ] {
        assert_eq!(statuses(line.as_bytes()), [wanted], "{line}");
    }
}

#[test]
fn the_connection_goes_on_as_the_version_and_the_client_say() {
    for (version, connection, goes_on) in [
        ("1.1", "", true),
        ("1.1", "Connection: Close\r\n", false),
        ("1.1", "Connection: x\r\nConnection: a ,\tCLOSE\r\n", false),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: close, keep-alive\r\n", false),
    ] {
        let one = format!("GET /health HTTP/{version}\r\nHost: h\r\n{connection}\r\n");
        let two = format!("{one}{STOLEN}");
        let count = if goes_on { 2 } else { 1 };
        assert_eq!(statuses(two.as_bytes()).len(), count, "{two}");
    }
}

#[test]
fn what_the_answer_and_the_hub_need_of_a_head_is_kept() {
    let get = |more: &str| {
        let request = format!("GET /openapi.json HTTP/1.1\r\nHost: a:5000\r\n{more}\r\n");
        whole(request.as_bytes()).0
    };
    for (header, secret) in [
        ("Bearer abc", Some(&b"abc"[..])),
        ("bEARER   abc=", Some(b"abc=")),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearerabc", None),
        ("Basic YWJj", None),
    ] {
        let exchange = get(&format!("Authorization: {header}\r\n"));
        assert_eq!(exchange.credential.as_deref(), secret, "{header}");
    }
    let long = "x".repeat(64);
    for (id, kept) in [
        ("a-B_9.x", "a-B_9.x"),
        (&long, &long),
        (&format!("{long}x"), ""),
        ("a b", ""),
        ("a\"b", ""),
        ("é", ""),
    ] {
        let exchange = get(&format!("X-Request-Id: {id}\r\nX-Request-Id: second\r\n"));
        assert_eq!(exchange.id, kept.as_bytes());
    }
    let exchange = get(
        "Origin: https://ops.example\r\nIf-None-Match: W/\"1\"\r\nAccess-Control-Request-Method: POST\r\n",
    );
    assert_eq!(
        exchange.origin.as_deref(),
        Some(&b"https://ops.example"[..])
    );
    assert_eq!(exchange.tags, b"W/\"1\"");
    assert!(exchange.is_preflight && !exchange.is_shared);
    assert_eq!(exchange.host, b"a:5000");
    assert_eq!(whole(GOOD[4].as_bytes()).0.host, b"h:5000");
}

#[test]
fn changed_requests_mean_the_same_however_they_come() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 11) as usize % below
    };
    let parts = [
        "\r",
        "\n",
        "\r\n",
        "0\r\n\r\n",
        " ",
        ":",
        ",",
        "\0",
        "5",
        "a",
        "chunked",
        "Host: h\r\n",
        "%",
        "\x7f",
        "{",
    ];
    let (mut good, mut bad) = (0, 0);
    for _ in 0..4000 {
        let request = GOOD[random(GOOD.len())].to_string() + GOOD[random(GOOD.len())];
        let mut bytes = request.into_bytes();
        for _ in 0..1 + random(3) {
            let (at, part) = (random(bytes.len()), parts[random(parts.len())].bytes());
            let end = (at + random(4)).min(bytes.len());
            drop(bytes.splice(at..end, part));
        }
        bytes.extend_from_slice(STOLEN.as_bytes());
        let (exchanges, _) = heard(&bytes, [bytes.len()].into_iter());
        let (by_byte, _) = heard(&bytes, 1..=bytes.len());
        assert_eq!(exchanges, by_byte, "{}", show(&bytes));
        let cut = random(bytes.len());
        let (cut, _) = heard(&bytes, [cut, bytes.len()].into_iter());
        assert_eq!(exchanges, cut, "{}", show(&bytes));
        let is_bad = exchanges.iter().any(|exchange| status(exchange) > 0);
        *if is_bad { &mut bad } else { &mut good } += 1;
    }
    assert!(good > 100 && bad > 1000, "{good} {bad}");
}
