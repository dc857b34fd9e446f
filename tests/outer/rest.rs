//! The real binary with a door for HTTP: where it is, and that each setting reaches the face behind it. Not here: what the
//! face answers, which dialogues have. Invariant: a connection carries one request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::daemon::{Daemon, LONG, PATIENCE, dflockd};

/// What the server answers to one request with these headers and this body.
pub fn ask(addr: SocketAddr, what: &str, headers: &[&str], body: &str) -> String {
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let first = format!("{what} HTTP/1.1");
    let length = format!("Content-Length: {}", body.len());
    let own = ["Connection: close", &length];
    let head = [&[first.as_str()][..], &own, headers].concat();
    let request = format!("{}\r\n\r\n{body}", head.join("\r\n"));
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

/// The answer to a client on this host.
fn local(daemon: &Daemon, what: &str, body: &str) -> String {
    ask(daemon.http, what, &["Host: localhost"], body)
}

#[track_caller]
pub fn is(answer: &str, status: u16) {
    let wanted = format!("HTTP/1.1 {status} ");
    assert!(answer.starts_with(&wanted), "{answer}");
}

#[track_caller]
pub fn has(answer: &str, text: &str) {
    assert!(answer.contains(text), "{text} in {answer}");
}

/// The value of a field of text.
fn field<'a>(answer: &'a str, name: &str) -> &'a str {
    let (_, rest) = answer.split_once(&format!("\"{name}\":\"")).expect(answer);
    rest.split('"').next().expect("there is a first one")
}

#[test]
fn the_log_names_the_door_before_the_server_is_ready_and_it_leads_to_the_same_locks() {
    let daemon = Daemon::start(&["--http-port", "0"]);
    is(&local(&daemon, "GET /health", ""), 200);
    let answer = local(&daemon, "POST /locks/k/acquire", "");
    is(&answer, 200);
    has(&answer, "\"acquired\":true");
    let mut line = daemon.connect();
    line.says("l", "k", "0", "timeout");
    line.waits("k", LONG);
    let proof = format!(r#"{{"renewalToken":"{}"}}"#, field(&answer, "renewalToken"));
    is(&local(&daemon, "POST /locks/k/release", &proof), 200);
    line.is_granted(33);
    has(
        &local(&daemon, "POST /locks/k/acquire", ""),
        "\"acquired\":false",
    );
}

#[test]
fn without_the_option_there_is_no_door_for_http() {
    let daemon = Daemon::start(&["--http-host", "127.0.0.1"]);
    assert_eq!(daemon.http.port(), 0);
    daemon.signal("TERM");
    assert!(!daemon.end().log.contains("listening-http"));
}

#[test]
fn each_time_is_that_of_its_option() {
    let daemon = Daemon::start(&[
        "--http-port=0",
        "--http-default-timeout=7",
        "--http-max-timeout=20",
        "--http-renewal-interval=3",
        "--http-max-wait=9",
    ]);
    let answer = local(&daemon, "POST /locks/a/acquire", r#"{"autoRenew":true}"#);
    has(&answer, "\"ttl\":7.0");
    for (body, status) in [
        (r#"{"timeout":20}"#, 200),
        (r#"{"timeout":20.1}"#, 422),
        (r#"{"waitTimeout":9}"#, 200),
        (r#"{"waitTimeout":9.1}"#, 422),
    ] {
        let name = body.replace(|c: char| !c.is_ascii_digit(), "");
        is(
            &local(&daemon, &format!("POST /locks/{name}/acquire"), body),
            status,
        );
    }
}

#[test]
fn the_names_of_the_seed_count_and_redis_is_ignored_with_a_warning() {
    let mut command = dflockd(&["--port=0", "--http-port=0", "--http-max-timeout=60"]);
    let env = [
        ("DEFAULT_TIMEOUT", "12"),
        ("MAX_TIMEOUT", "10"),
        ("DEADLOCK_DETECTION", "false"),
        ("REDIS_HOST", "localhost"),
    ];
    command.envs(env);
    let mut daemon = Daemon::spawn(command);
    has(&daemon.event("warning"), "ignored: REDIS_HOST: ");
    let line = daemon.event("listening-http");
    let (_, addr) = line.trim_end().split_once("addr=").expect("an address");
    daemon.http = addr.parse().expect("an address with a port");
    has(&local(&daemon, "POST /locks/k/acquire", ""), "\"ttl\":12.0");
}

#[test]
fn the_guards_of_browsers_know_the_configured_host_and_origins() {
    let daemon = Daemon::start(&[
        "--http-port=0",
        "--http-host=127.0.0.1",
        "--http-cors-allowed-origins=http://a.example",
    ]);
    let ask = |headers: &[&str]| ask(daemon.http, "GET /locks", headers, "");
    is(&ask(&["Host: 127.0.0.1"]), 200);
    is(&ask(&["Host: evil.example"]), 421);
    let host = "Host: localhost";
    let answer = ask(&[host, "Origin: http://a.example"]);
    is(&answer, 200);
    has(
        &answer,
        "\r\nAccess-Control-Allow-Origin: http://a.example\r\n",
    );
    is(&ask(&[host, "Origin: http://b.example"]), 403);
}

#[test]
fn metrics_are_public_only_if_that_is_said() {
    let auth = ["--http-port=0", "--auth-token=s"];
    let secret = "Authorization: Bearer s";
    let daemon = Daemon::start(&auth);
    let metrics = |daemon: &Daemon, headers: &[&str]| ask(daemon.http, "GET /metrics", headers, "");
    is(&metrics(&daemon, &["Host: a"]), 401);
    is(&metrics(&daemon, &["Host: a", secret]), 200);
    let open = Daemon::start(&[&auth[..], &["--metrics-public"]].concat());
    is(&metrics(&open, &["Host: a"]), 200);
    is(&ask(open.http, "GET /locks", &["Host: a"], ""), 401);
}

#[test]
fn two_doors_at_one_address_are_refused_with_the_names_of_their_options() {
    let daemon = Daemon::start(&["--http-port=0"]);
    let port = daemon.http.port().to_string();
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
    let end = Daemon::launch(dflockd(&["--port", &port, "--http-port", &port]));
    let log = end.err().expect("it does not start").log;
    let wanted = "--http-port and --port have the same address";
    assert!(log.contains(wanted), "{log}");
}
