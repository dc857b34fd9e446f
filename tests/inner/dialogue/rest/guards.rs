//! Who is let in: secrets, administrators, and the pages of browsers.

use super::*;

fn with_tokens(client: Option<&str>, admin: Option<&str>) -> Dialogue {
    let bytes = |secret: &str| secret.as_bytes().to_vec();
    Dialogue::patient_with(|s| {
        s.secret = client.map(bytes);
        s.admin = admin.map(bytes);
    })
}

impl Dialogue {
    /// A request with these headers besides; returns its answer.
    #[track_caller]
    fn with_headers(&mut self, client: usize, method: &str, path: &str, headers: &str) -> Answer {
        let text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        self.send(client, text);
        self.next_answer(client)
    }
}

#[test]
fn without_its_token_a_client_sees_only_what_is_everybodys() {
    let mut d = with_tokens(Some("secret"), None);
    let a = d.calls();
    for (method, path) in [
        ("GET", "/locks"),
        ("GET", "/locks/stats"),
        ("GET", "/locks/k/status"),
        ("GET", "/metrics"),
        ("POST", "/locks/k/acquire"),
        ("DELETE", "/locks/k"),
    ] {
        let client = d.calls();
        let answer = d.with_headers(client, method, path, "");
        assert_eq!(answer.status, 401, "{method} {path}");
        let challenge = answer.header("WWW-Authenticate");
        assert_eq!(challenge, Some("Bearer realm=\"dflockd\""));
        let right = "Authorization: bearer secret\r\n";
        let client = d.calls();
        assert_ne!(
            d.with_headers(client, method, path, right).status,
            401,
            "{method} {path}"
        );
    }
    for path in ["/", "/health", "/ready", "/openapi.json"] {
        assert_eq!(d.with_headers(a, "GET", path, "").status, 200, "{path}");
    }
    assert_eq!(d.with_headers(a, "GET", "/nothing", "").status, 404);
    assert_eq!(d.with_headers(a, "OPTIONS", "/locks", "").status, 204);
}

#[test]
fn guessing_takes_time_and_ends_the_connection() {
    let mut d = with_tokens(Some("secret"), None);
    let a = d.calls();
    let wrong = "Authorization: Bearer wrong\r\n";
    for turn in 0..4 {
        let answer = d.with_headers(a, "GET", "/locks", wrong);
        assert_eq!(answer.status, 401);
        assert!(
            answer
                .header("WWW-Authenticate")
                .unwrap()
                .contains("invalid_token")
        );
        let health = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
        d.send(a, health);
        d.at(turn * 100 + 99);
        assert_eq!(d.0.clients[a].heard, b"", "it is not served for a moment");
        d.at(turn * 100 + 100);
        assert_eq!(d.next_answer(a).status, 200);
    }
    assert_eq!(d.with_headers(a, "GET", "/locks", wrong).status, 401);
    assert!(d.0.clients[a].shut, "five are enough");
}

#[test]
fn only_an_administrator_breaks() {
    let client = "Authorization: Bearer secret\r\n";
    let admin = "Authorization: Bearer admin\r\n";
    for (tokens, said, status) in [
        ((None, None), "", 200),
        ((Some("secret"), None), client, 200),
        ((Some("secret"), None), "", 401),
        ((Some("secret"), Some("admin")), client, 403),
        ((Some("secret"), Some("admin")), admin, 200),
        ((None, Some("admin")), "", 401),
        ((None, Some("admin")), admin, 200),
    ] {
        let mut d = with_tokens(tokens.0, tokens.1);
        let line = d.connect();
        if tokens.0.is_some() {
            d.says(line, "auth\n_\nsecret\n", "ok\n");
        }
        d.takes(line, "k");
        let a = d.calls();
        let answer = d.with_headers(a, "DELETE", "/locks/k", said);
        assert_eq!(answer.status, status, "{tokens:?} {said:?} {}", answer.body);
    }
    // Without any token only this host may.
    let mut d = with_tokens(None, None);
    let far = d.0.connect_from(Face::Http, "192.0.2.1:9".parse().unwrap());
    d.0.settle();
    for said in ["", "Authorization: Bearer any\r\n"] {
        let answer = d.with_headers(far, "DELETE", "/locks/k", said);
        assert_eq!(answer.field("code"), "admin-required");
        assert!(
            answer
                .field("detail")
                .starts_with("only clients on this host")
        );
    }
    let mut d = with_tokens(Some("secret"), Some("admin"));
    let a = d.calls();
    let answer = d.with_headers(a, "DELETE", "/locks/k", client);
    assert_eq!(answer.field("detail"), "send the admin token");
}

#[test]
fn a_page_of_another_origin_is_refused() {
    let mut d = with_tokens(None, None);
    let a = d.calls();
    for (origin, status) in [
        ("http://localhost", 200),
        ("https://localhost", 403),
        ("http://localhost:81", 403),
        ("http://evil.example", 403),
        ("null", 403),
    ] {
        let headers = format!("Origin: {origin}\r\nContent-Length: 0\r\n");
        let answer = d.with_headers(a, "POST", "/locks/k/acquire", &headers);
        assert_eq!(answer.status, status, "{origin}");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), None);
    }
}

#[test]
fn a_name_that_somebody_else_points_here_is_refused_while_there_is_no_token() {
    let mut d = with_tokens(None, None);
    let a = d.calls();
    for (host, status) in [
        ("localhost:5000", 200),
        ("127.0.0.1:5000", 200),
        ("[::1]:5000", 200),
        ("evil.example:5000", 421),
    ] {
        d.send(a, format!("GET /locks HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let answer = d.next_answer(a);
        assert_eq!(answer.status, status, "{host}");
        // Either is a way out.
        for option in ["--http-host", "--auth-token-file"] {
            assert!(status == 200 || answer.field("detail").contains(option));
        }
    }
    let mut d = with_tokens(Some("secret"), None);
    let a = d.calls();
    let known = "GET /locks HTTP/1.1\r\nHost: any.example\r\nAuthorization: Bearer secret\r\n\r\n";
    d.send(a, known);
    assert_eq!(d.next_answer(a).status, 200);
}

#[test]
fn a_client_that_asks_first_is_told_to_send_its_body() {
    let mut d = with_tokens(Some("secret"), None);
    let (a, b) = (d.calls(), d.calls());
    let head = "POST /locks/k/acquire HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n";
    d.send(a, format!("{head}Authorization: Bearer secret\r\n\r\n"));
    d.hears(a, "HTTP/1.1 100 Continue\r\n\r\n");
    d.send(a, "{");
    d.hears(a, "");
    d.send(a, "}");
    assert_eq!(d.next_answer(a).field("acquired"), "true");
    // A stranger is answered at once, and the body is not read.
    d.send(b, format!("{head}\r\n"));
    let answer = d.next_answer(b);
    assert_eq!(
        (answer.status, answer.header("Connection")),
        (401, Some("close"))
    );
    assert!(d.0.clients[b].shut);
}

#[test]
fn a_stranger_is_refused_before_the_body_and_a_client_sends_it_byte_by_byte() {
    let mut d = with_tokens(Some("secret"), None);
    let (stranger, client) = (d.calls(), d.calls());
    let head = "POST /locks/k/acquire HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n";
    d.send(stranger, format!("{head}\r\n{{"));
    let answer = d.next_answer(stranger);
    assert_eq!(
        (answer.status, answer.header("Connection")),
        (401, Some("close"))
    );
    assert!(d.0.clients[stranger].shut);
    d.send(
        client,
        format!("{head}Authorization: Bearer secret\r\n\r\n{{"),
    );
    for _ in 0..100 {
        d.send(client, " ");
        assert_eq!(d.0.clients[client].heard, b"");
    }
    d.send(client, format!("{}}}", " ".repeat(60_000 - 102)));
    assert_eq!(d.next_answer(client).field("acquired"), "true");
}

#[test]
fn what_follows_a_smuggled_request_is_never_executed() {
    let mut d = Dialogue::patient();
    let behind = request("POST", "/locks/smuggled/acquire", "{}");
    for head in [
        "POST /locks/k/acquire HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /locks/k/acquire HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
        "POST /locks/k/acquire HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "GET /health HTTP/1.1\nHost: localhost\n\n",
        "GET /health HTTP/1.1\r\nHost : localhost\r\n\r\n",
    ] {
        let a = d.calls();
        d.send(a, format!("{head}{behind}"));
        let answer = d.next_answer(a);
        assert!(
            [400, 501].contains(&answer.status),
            "{head:?}: {}",
            answer.status
        );
        assert_eq!(answer.header("Connection"), Some("close"));
        assert_eq!(d.0.clients[a].heard, b"", "one answer: {head:?}");
        assert!(d.0.clients[a].shut);
    }
    assert_eq!(d.0.locks().counts().granted, 0);
}

#[test]
fn a_request_that_does_not_end_is_told_so_and_silence_between_two_is_not() {
    let mut d = Dialogue::with(|s| s.read_timeout = 10 * SECOND);
    let (slow, silent) = (d.calls(), d.calls());
    d.at(1_000);
    d.send(slow, "GET /health HTTP/1.1\r\n");
    d.at(10_999);
    d.send(slow, "Host: x\r\n");
    assert_eq!(d.0.clients[slow].heard, b"");
    d.at(11_000);
    let late = d.next_answer(slow);
    assert_eq!(
        (late.status, late.header("Connection")),
        (408, Some("close"))
    );
    assert_eq!(
        late.header("X-Request-Id"),
        Some(&late.field("instance")[..])
    );
    let counted = "http_requests_total{route=\"unknown\",method=\"other\",code=\"408\"} 1\n";
    assert!(d.0.metrics().contains(counted));
    assert!(d.0.clients[slow].shut);
    d.at(74_999);
    assert!(!d.0.clients[silent].closed);
    d.at(75_000);
    d.hears(silent, "");
    assert!(d.0.clients[silent].closed);
}

#[test]
fn a_body_in_chunks_is_paid_for_each_time_that_it_is_read() {
    let mut d = Dialogue::patient();
    let (busy, other) = (d.calls(), d.calls());
    let head =
        "POST /locks/k/acquire HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(4_096));
    d.0.send_only(busy, format!("{head}1\r\n{{\r\n").as_bytes());
    let mut sent = 0;
    while !d.0.is_behind() && sent < 15 {
        d.0.send_only(busy, chunk.as_bytes());
        sent += 1;
    }
    // 64, 128, 192 and so on, until the share of 1,000 is spent.
    assert_eq!(sent, 7);
    let health = request("GET", "/health", "");
    d.0.send_only(other, health.as_bytes());
    d.0.settle();
    assert_eq!(d.next_answer(other).status, 200);
    d.send(busy, "1\r\n}\r\n0\r\n\r\n");
    assert_eq!(d.next_answer(busy).field("acquired"), "true");
}

#[test]
fn an_empty_line_behind_a_request_begins_no_other() {
    let mut d = Dialogue::with(|s| s.read_timeout = 10 * SECOND);
    let clients = ["\r", "\r\n", "\r\nG"].map(|more| {
        let client = d.calls();
        d.send(client, format!("{}{more}", request("GET", "/health", "")));
        assert_eq!(d.next_answer(client).status, 200);
        client
    });
    d.at(10_000);
    assert_eq!(d.next_answer(clients[2]).status, 408);
    d.at(74_999);
    let health = request("GET", "/health", "");
    d.send(clients[0], format!("\n{health}"));
    assert_eq!(d.next_answer(clients[0]).status, 200);
    assert!(!d.0.clients[clients[1]].closed);
    d.at(75_000);
    d.hears(clients[1], "");
    assert!(d.0.clients[clients[1]].closed);
}
