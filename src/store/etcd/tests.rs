//! The helper thread and a played etcd: one listener a member, which answers as it is told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use super::*;

const NOBODY: &str = r#"{"header":{"revision":"5"}}"#;

/// A member that gives these answers, each to one request, and tells what it was asked.
struct Member {
    url: String,
    asked: Receiver<String>,
}

impl Member {
    fn new(answers: Vec<String>) -> Member {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (ask, asked) = mpsc::channel();
        thread::spawn(move || {
            let mut answers = answers.into_iter();
            let mut next = answers.next();
            while let (Some(_), Ok((mut client, _))) = (&next, listener.accept()) {
                while let Some(answer) = &next
                    && let Some(request) = read(&client)
                {
                    ask.send(request).unwrap();
                    client.write_all(answer.as_bytes()).unwrap();
                    next = answers.next();
                }
            }
        });
        Member { url, asked }
    }

    /// The next request: its first line, its `Authorization` and its body.
    #[track_caller]
    fn was_asked(&self) -> String {
        self.asked.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

/// One request of a connection; None at its end.
fn read(client: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(client);
    let (mut first, mut length, mut user) = (String::new(), 0, String::new());
    lines.read_line(&mut first).ok().filter(|&read| read > 0)?;
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        let lower = line.to_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if lower.starts_with("authorization:") {
            user = line.trim().to_string();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    lines.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    Some([first.trim(), &user, &body].join("|"))
}

fn said(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn settings(members: &[&Member]) -> Settings {
    Settings {
        endpoints: members.iter().map(|member| member.url.clone()).collect(),
        prefix: "x".into(),
        user: None,
        ca: None,
        identity: None,
    }
}

/// The loop's end, which sleeps until it is woken.
struct Woken {
    etcd: Etcd,
    woken: Receiver<()>,
}

impl Woken {
    fn new(settings: Settings) -> Woken {
        let (wake, woken) = mpsc::channel();
        let wake = move || wake.send(()).expect("it waits to be woken");
        let etcd = Etcd::start(Client::new(settings).unwrap(), wake).unwrap();
        Woken { etcd, woken }
    }

    fn look(&self) -> Answer {
        self.etcd.ask(Ask::Look);
        self.woken.recv_timeout(Duration::from_secs(10)).unwrap();
        self.etcd.answer().expect("it was woken for an answer")
    }
}

#[track_caller]
fn failed(answer: Answer) -> (String, String) {
    match answer {
        Answer::Failed(endpoint, why) => (endpoint, why),
        answer => panic!("{answer:?}"),
    }
}

#[track_caller]
fn found_nobody(answer: Answer) {
    assert!(
        matches!(answer, Answer::Told(Told::Head(None))),
        "{answer:?}"
    );
}

#[test]
fn one_member_is_asked_until_it_fails_and_then_the_next() {
    let good = || said("200 OK", NOBODY);
    let busy = said(
        "503 Service Unavailable",
        r#"{"error":"etcdserver: no leader"}"#,
    );
    let (one, two) = (
        Member::new(vec![good(), good(), busy]),
        Member::new(vec![good()]),
    );
    let etcd = Woken::new(settings(&[&one, &two]));
    found_nobody(etcd.look());
    found_nobody(etcd.look());
    assert!(
        one.was_asked()
            .starts_with("POST /v3/kv/range HTTP/1.1||{\"key\"")
    );
    let (endpoint, why) = failed(etcd.look());
    assert_eq!(
        (endpoint, &*why),
        (one.url.clone(), "etcdserver: no leader")
    );
    found_nobody(etcd.look());
    two.was_asked();
}

#[test]
fn an_answer_in_chunks_is_an_answer_and_a_redirection_or_a_cut_is_none() {
    let chunks = NOBODY
        .bytes()
        .map(|byte| format!("1\r\n{}\r\n", byte as char));
    let chunks: String = chunks.collect();
    let chunks = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
    let moved = "HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
    let member = Member::new(vec![chunks, moved.to_string()]);
    let etcd = Woken::new(settings(&[&member]));
    found_nobody(etcd.look());
    let (_, why) = failed(etcd.look());
    assert!(why.starts_with("not an answer of etcd: 307"), "{why}");
    let cut = Member::new(vec![
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_string(),
    ]);
    failed(Woken::new(settings(&[&cut])).look());
}

#[test]
fn a_member_that_is_silent_or_not_there_has_failed_soon() {
    // Nobody takes what the kernel has accepted.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let etcd = Woken::new(Settings {
        endpoints: vec![url],
        ..settings(&[])
    });
    let (_, why) = failed(etcd.look());
    assert_eq!(why, "no answer in 1 s");
    let mut gone = settings(&[]);
    // Nobody listens on a port that was given back.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    gone.endpoints.push(format!("http://{port}"));
    let (_, why) = failed(Woken::new(gone).look());
    assert!(why.contains("refused"), "{why}");
}

#[test]
fn a_user_has_a_token_and_another_one_when_that_is_not_known_any_more() {
    let token = |name: &str| said("200 OK", &format!(r#"{{"header":{{}},"token":"{name}"}}"#));
    let unknown = said(
        "401 Unauthorized",
        r#"{"error":"etcdserver: invalid auth token"}"#,
    );
    let good = || said("200 OK", NOBODY);
    let answers = vec![token("t1"), good(), unknown.clone(), token("t2"), good()];
    let member = Member::new(answers);
    let with_user = |member: &Member| Settings {
        user: Some(("u".into(), "p".into())),
        ..settings(&[member])
    };
    let etcd = Woken::new(with_user(&member));
    found_nobody(etcd.look());
    found_nobody(etcd.look());
    let asked: Vec<String> = (0..5).map(|_| member.was_asked()).collect();
    let users: Vec<&str> = asked
        .iter()
        .map(|each| each.split('|').nth(1).unwrap())
        .collect();
    assert_eq!(&users[..2], ["", "authorization: t1"]);
    assert_eq!(&users[2..], ["authorization: t1", "", "authorization: t2"]);
    // Once: a store that knows no token at all is no better the third time.
    let stubborn = Member::new(vec![
        token("t1"),
        unknown.clone(),
        token("t2"),
        unknown.clone(),
    ]);
    let (_, why) = failed(Woken::new(with_user(&stubborn)).look());
    assert!(why.contains("--etcd-user"), "{why}");
    let nobody = Member::new(vec![unknown]);
    failed(Woken::new(settings(&[&nobody])).look());
}

#[test]
fn a_user_needs_no_token_while_etcd_asks_nobody_who_it_is() {
    let refused = |said_by_etcd: &str| {
        let body = format!(r#"{{"error":"etcdserver: {said_by_etcd}"}}"#);
        said("400 Bad Request", &body)
    };
    let good = || said("200 OK", NOBODY);
    let token = said("200 OK", r#"{"header":{},"token":"t1"}"#);
    let member = Member::new(vec![
        refused("authentication is not enabled"),
        good(),
        good(),
        refused("user name is empty"),
        token,
        good(),
    ]);
    let etcd = Woken::new(Settings {
        user: Some(("u".into(), "p".into())),
        ..settings(&[&member])
    });
    for _ in 0..3 {
        found_nobody(etcd.look());
    }
    let asked: Vec<String> = (0..6).map(|_| member.was_asked()).collect();
    let tokens = asked.iter().map(|each| each.contains("authorization: t1"));
    assert!(
        tokens.eq([false, false, false, false, false, true]),
        "{asked:?}"
    );
}

#[test]
fn a_user_who_may_not_is_told_so_once_and_for_all() {
    let denied = said(
        "403 Forbidden",
        r#"{"error":"etcdserver: permission denied"}"#,
    );
    let member = Member::new(vec![denied]);
    match Woken::new(settings(&[&member])).look() {
        Answer::Hopeless(why) => {
            let denied =
                "etcdserver: permission denied (user of the certificate, or none, keys below ";
            assert!(why.contains(denied), "{why}");
        }
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn a_file_that_is_no_certificate_is_refused_at_the_start() {
    let settings = Settings {
        ca: Some(b"x".to_vec()),
        ..settings(&[])
    };
    match Client::new(settings).err() {
        Some(Unusable::Ca(why)) => assert!(why.starts_with("it has no certificate"), "{why}"),
        other => panic!("{other:?}"),
    }
}
