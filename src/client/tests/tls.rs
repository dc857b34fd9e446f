//! The client over TLS, against a server of this library's own TLS in a thread.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use mio::{Events, Poll, Token};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use super::peer::{LONG, Peer, config, file, serve, shake};
use crate::client::dial::race;
use crate::client::link::Link;
use crate::client::sites::Sites;
use crate::client::{
    Client, Connector, Error, Key, Lock, Options, Tls, TlsError, TlsFiles, TlsPart,
};
use crate::command::SECOND;
use crate::sys;
use crate::tls::VERSIONS;

const TOKEN: &str = "18e9eb98d4e91d15c5bb0cdc3986ff01";

/// What a client has that trusts this authority.
fn trusting(ca: &str) -> TlsFiles {
    TlsFiles {
        ca: Some(file(ca)),
        ..TlsFiles::default()
    }
}

fn options(files: &TlsFiles) -> Options {
    Options {
        tls: Some(Tls::new(files).unwrap()),
        patience: LONG,
        ..Options::default()
    }
}

fn good() -> Options {
    options(&trusting("ca.pem"))
}

fn tls_error(result: Result<Client, Error>) -> TlsError {
    match result.and_then(|mut client| client.ping()) {
        Err(Error::Tls(error)) => error,
        other => panic!("no error of TLS: {other:?}"),
    }
}

#[test]
fn a_client_is_answered_over_either_version() {
    for version in [&TLS12, &TLS13] {
        for host in ["127.0.0.1", "localhost"] {
            let config = config("server", &[version], false);
            let (addr, server) = serve(config, move |mut peer| {
                let heard = peer.answer(&["ok\n", "ok\n"]);
                assert_eq!(peer.0.conn.protocol_version(), Some(version.version));
                heard
            });
            let port = addr.rsplit_once(':').unwrap().1;
            let mut client = Client::connect(&format!("{host}:{port}"), &good()).unwrap();
            client.ping().unwrap();
            // A name may have several addresses: then the first question finds the one that lives.
            let _ = client.ping();
            drop(client);
            assert!(server.join().unwrap().starts_with("ping\n_\n_\nping\n"));
        }
    }
}

#[test]
fn bytes_may_come_one_by_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let config = config("server", VERSIONS, false);
    let server = thread::spawn(move || {
        let mut peer = Peer::over(listener.accept().unwrap().0, &config, true);
        peer.answer(&["ok\n", "ok 3\n"])
    });
    let mut client = Client::connect(&addr, &good()).unwrap();
    client.ping().unwrap();
    assert_eq!(client.signal(b"c", b"p").unwrap(), 3);
    assert_eq!(server.join().unwrap(), "ping\n_\n_\nsignal\nc\np\n");
}

#[test]
fn a_certificate_that_cannot_be_trusted_is_told_apart_and_nothing_is_said_to_it() {
    let wrong_name = || TlsError::WrongName {
        wanted: "127.0.0.1".to_string(),
        names: vec!["elsewhere.example".to_string()],
    };
    let as_authority = "it is that of an authority, which has to sign another for it";
    for (server, ca, error) in [
        ("server", "other.pem", TlsError::UnknownIssuer),
        ("elsewhere", "ca.pem", wrong_name()),
        ("old", "ca.pem", TlsError::Expired),
        ("ca", "ca.pem", TlsError::Unusable(as_authority.to_string())),
    ] {
        for version in [&TLS12, &TLS13] {
            let (addr, peer) = shake(config(server, &[version], false));
            let options = Options {
                secret: Some(b"sesame".to_vec()),
                ..options(&trusting(ca))
            };
            assert_eq!(
                tls_error(Client::connect(&addr, &options)),
                error,
                "{server}"
            );
            // The alert, and no byte of the secret.
            assert!(peer.join().unwrap().is_err());
        }
    }
}

#[test]
fn a_name_that_is_given_is_wanted_instead_of_the_host() {
    let named = |name: &str| TlsFiles {
        server_name: Some(name.to_string()),
        ..trusting("ca.pem")
    };
    let (addr, server) = serve(config("elsewhere", VERSIONS, false), |mut peer| {
        peer.answer(&["ok\n"])
    });
    let options_ = options(&named("elsewhere.example"));
    Client::connect(&addr, &options_).unwrap().ping().unwrap();
    server.join().unwrap();
    let (addr, server) = shake(config("server", VERSIONS, false));
    let error = tls_error(Client::connect(&addr, &options_));
    assert!(matches!(error, TlsError::WrongName { .. }), "{error}");
    assert!(server.join().unwrap().is_err());
    let bad = Tls::new(&named("a b")).unwrap_err();
    assert_eq!(bad.part, TlsPart::ServerName);
    assert_eq!(bad.to_string(), "want a host, not \"a b\"");
    let error = Tls::new(&trusting("ca.pem"))
        .unwrap()
        .to("a b:1")
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_server_may_want_a_certificate_of_the_client() {
    let with = |name: &str| TlsFiles {
        certificate: Some(file(&format!("{name}.pem"))),
        key: Some(file(&format!("{name}.key"))),
        ..trusting("ca.pem")
    };
    for version in [&TLS12, &TLS13] {
        let config = config("server", &[version], true);
        let (addr, server) = serve(Arc::clone(&config), |mut peer| peer.answer(&["ok\n"]));
        let mut client = Client::connect(&addr, &options(&with("me"))).unwrap();
        client.ping().unwrap();
        server.join().unwrap();
        let (addr, server) = shake(Arc::clone(&config));
        let error = tls_error(Client::connect(&addr, &good()));
        assert_eq!(error, TlsError::WantsCertificate, "{version:?}");
        assert!(server.join().unwrap().is_err());
        let (addr, server) = shake(config);
        let error = tls_error(Client::connect(&addr, &options(&with("stranger"))));
        assert!(
            matches!(error, TlsError::Refused(_)),
            "{version:?}: {error}"
        );
        assert!(server.join().unwrap().is_err());
    }
}

#[test]
fn one_end_without_tls_is_told_to_the_other() {
    // The server takes no line that is so long, or so it seems to it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let mut peer = listener.accept().unwrap().0;
        peer.read_exact(&mut [0; 5]).unwrap();
        peer.write_all(b"error\n").unwrap();
        peer
    });
    assert_eq!(tls_error(Client::connect(&addr, &good())), TlsError::NoTls);
    drop(server.join().unwrap());
    let (addr, server) = shake(config("server", VERSIONS, false));
    let client = Client::connect(&addr, &Options::default());
    assert_eq!(tls_error(client), TlsError::OnlyTls);
    assert!(server.join().unwrap().is_err());
    // And on a link.
    let (addr, server) = shake(config("server", VERSIONS, false));
    let mut poll = Poll::new().unwrap();
    let mut link = Link::open(addr.parse().unwrap(), None, poll.registry(), Token(0)).unwrap();
    link.output().extend_from_slice(b"ping\n_\n_\n");
    hear(&mut poll, &mut link);
    assert_eq!(link.tls_error(), Some(&TlsError::OnlyTls));
    assert!(server.join().unwrap().is_err());
}

#[test]
fn a_server_that_closes_or_hangs_in_the_handshake_is_an_error_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let closing = thread::spawn(move || {
        let mut peer = listener.accept().unwrap().0;
        while !matches!(peer.read(&mut [0; 4096]), Ok(n) if n > 5) {}
        listener
    });
    let Error::Io(error) = Client::connect(&addr, &good()).unwrap_err() else {
        panic!("another error");
    };
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert!(error.to_string().contains("TLS handshake"), "{error}");
    let _mute = closing.join().unwrap();
    let hasty = Options {
        patience: Duration::from_millis(300),
        ..good()
    };
    let before = sys::now();
    let Error::Io(error) = Client::connect(&addr, &hasty).unwrap_err() else {
        panic!("another error");
    };
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("TLS handshake"), "{error}");
    let lasted = Duration::from_micros(sys::now() - before);
    assert!((hasty.patience..LONG).contains(&lasted));
}

/// An address that takes the connection and shakes no hands is no answer.
#[test]
fn in_the_race_an_address_counts_when_its_handshake_is_done() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let connector = Tls::new(&trusting("ca.pem"))
        .unwrap()
        .to("localhost:1")
        .unwrap();
    for question in [&b""[..], b"ping\n_\n_\n"] {
        let (addr, server) = serve(config("server", VERSIONS, false), |mut peer| {
            peer.answer(&["ok\n"])
        });
        let addrs = [mute.local_addr().unwrap(), addr.parse().unwrap()];
        let until = sys::now() + 60 * SECOND;
        let (won, link) = race(&sites(addrs, &connector), question, until).unwrap();
        assert_eq!(won.addr, addrs[1]);
        let (mut stream, input) = link.into_blocking().unwrap();
        match question {
            b"" => stream.write_all(b"ping\n_\n_\n").unwrap(),
            _ => assert_eq!(input, b"ok\n"),
        }
        server.join().unwrap();
    }
    // That nobody is trusted says more than that nobody is there.
    let (addr, _server) = shake(config("elsewhere", VERSIONS, false));
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let addrs = [addr.parse().unwrap(), gone];
    let until = sys::now() + 60 * SECOND;
    let lost = race(&sites(addrs, &connector), b"", until).unwrap_err();
    assert!(TlsError::within(&lost).is_some(), "{lost}");
}

/// Both with one name in their certificates.
fn sites(addrs: [SocketAddr; 2], connector: &Connector) -> Sites {
    let places = addrs.map(|addr| addr.to_string()).join("|");
    Sites::new(&places, Some(&connector.clone().into())).unwrap()
}

#[test]
fn each_alternative_is_verified_by_its_own_host_unless_a_name_is_given() {
    let files = trusting("ca.pem");
    let named = TlsFiles {
        server_name: Some("locks.example".to_string()),
        ..files.clone()
    };
    for (files, names) in [
        (files, ["a.example", "b.example"]),
        (named, ["locks.example"; 2]),
    ] {
        let tls = Tls::new(&files).unwrap();
        let sites = Sites::new("a.example:1|b.example:1", Some(&tls)).unwrap();
        let shown = format!("{sites:?}");
        let at = names.map(|name| shown.find(&format!("DnsName({name:?})")));
        assert!(at[0].is_some() && at[1].is_some(), "{shown}");
    }
    let tls = Tls::new(&trusting("ca.pem")).unwrap();
    let bad = Sites::new("a.example:1|a b:1", Some(&tls)).unwrap_err();
    assert!(bad.to_string().starts_with("\"a b\" is no name"), "{bad}");
}

/// Goes on until there is a line or an end; no event is missed that does not come.
fn hear(poll: &mut Poll, link: &mut Link) -> Option<Vec<u8>> {
    let mut events = Events::with_capacity(1);
    loop {
        link.move_on();
        match link.line() {
            None if !link.is_ended() => {
                poll.poll(&mut events, Some(LONG)).unwrap();
                assert!(!events.is_empty(), "nothing comes");
            }
            line => return line,
        }
    }
}

fn link(addr: &str, poll: &Poll) -> Link {
    let connector = Tls::new(&trusting("ca.pem")).unwrap().to(addr).unwrap();
    let addr = addr.parse().unwrap();
    Link::open(addr, Some(&connector), poll.registry(), Token(0)).unwrap()
}

#[test]
fn no_line_is_left_in_the_session_while_the_loop_sleeps() {
    leaves_nothing(&TLS12);
    leaves_nothing(&TLS13);
}

fn leaves_nothing(version: &'static SupportedProtocolVersion) {
    let line = format!("{}\n", "x".repeat(30_000));
    let (said, says) = mpsc::channel();
    let (addr, server) = serve(config("server", &[version], false), move |mut peer| {
        peer.frame();
        // One write, several records, and many reads of the client.
        peer.say(&line.repeat(4));
        peer.frame();
        // Many records, more than the library takes from the socket at a time.
        (0..300).for_each(|_| peer.say("a line of its own record\n"));
        said.send(()).unwrap();
        peer.frame()
    });
    let mut poll = Poll::new().unwrap();
    let mut link = link(&addr, &poll);
    link.output().extend_from_slice(b"ping\n_\n_\n");
    let mut events = Events::with_capacity(1);
    while !link.is_connected() {
        poll.poll(&mut events, Some(LONG)).unwrap();
        link.move_on();
    }
    // The output has waited for the end of the handshake, for which no other event may come.
    assert!(link.has_sent());
    for _ in 0..4 {
        assert_eq!(hear(&mut poll, &mut link).unwrap().len(), 30_000);
    }
    assert!(link.has_sent());
    link.output().extend_from_slice(b"ping\n_\n_\n");
    link.move_on();
    // All of it is in the socket, and no event comes any more.
    says.recv().unwrap();
    link.move_on();
    assert_eq!(std::iter::from_fn(|| link.line()).count(), 300);
    link.output().extend_from_slice(b"a\nb\nc\n");
    assert_eq!(hear(&mut poll, &mut link), None);
    assert!(link.why().is_none());
    assert_eq!(server.join().unwrap(), "a\nb\nc\n");
}

#[test]
fn the_blocking_client_takes_what_is_in_the_session_before_it_waits() {
    let (addr, server) = serve(config("server", VERSIONS, false), |mut peer| {
        peer.answer(&["ok\n"]);
        let payload = "x".repeat(9000);
        peer.say(&format!("sig c {payload}\n").repeat(20));
        // No byte comes any more until the client hangs up.
        let _ = peer.0.read(&mut [0]);
    });
    let mut client = Client::connect(&addr, &good()).unwrap();
    client.listen(b"c", None).unwrap();
    for _ in 0..20 {
        let signal = client.hear(LONG).unwrap().unwrap();
        assert_eq!(signal.payload.len(), 9000);
    }
    drop(client);
    server.join().unwrap();
}

#[test]
fn the_end_is_said_before_it_comes() {
    let (addr, server) = serve(config("server", VERSIONS, false), |mut peer| {
        peer.answer(&["ok\n"]);
        // Without close_notify this is an error.
        let end = peer.0.read(&mut [0]);
        peer.say("timeout\n");
        end
    });
    let mut poll = Poll::new().unwrap();
    let mut link = link(&addr, &poll);
    link.output().extend_from_slice(b"ping\n_\n_\n");
    assert_eq!(hear(&mut poll, &mut link).unwrap(), b"ok");
    assert!(link.shut_down());
    assert_eq!(hear(&mut poll, &mut link).unwrap(), b"timeout");
    assert_eq!(server.join().unwrap().unwrap(), 0);
    // An acquire that is given up.
    let (addr, server) = serve(config("server", VERSIONS, false), |mut peer| {
        peer.frame();
        peer.0.read(&mut [0])
    });
    let hasty = Options {
        patience: Duration::from_millis(300),
        ..good()
    };
    let mut client = Client::connect(&addr, &hasty).unwrap();
    let key = Key::lock(b"k").unwrap();
    client.acquire(&key, Duration::ZERO, None).unwrap_err();
    assert_eq!(server.join().unwrap().unwrap(), 0);
}

/// The connection ends after the grant. The lock goes on over another one, and is given back over a third.
#[test]
fn a_lock_outlives_its_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (moved, has_moved) = mpsc::channel();
    let server = thread::spawn(move || {
        let config = config("server", VERSIONS, false);
        let accept = || Peer::over(listener.accept().unwrap().0, &config, false);
        let granted = format!("ok {TOKEN} 33\n");
        let mut heard = accept().answer(&["ok\n", &granted]);
        heard += &accept().answer(&["ok\n", "ok 33\n"]);
        let mut third = accept();
        heard += &third.answer(&["ok\n", "ok 33\n"]);
        moved.send(()).unwrap();
        heard + &third.answer(&["ok\n"])
    });
    let client = Client::connect(&addr, &good()).unwrap();
    let key = Key::lock(b"k").unwrap();
    let lock = Lock::acquire(client, key, Duration::ZERO, None).unwrap();
    // The server ends two connections by itself, and waits for the release on the third.
    has_moved.recv_timeout(Duration::from_secs(60)).unwrap();
    lock.release().unwrap();
    let heard = server.join().unwrap();
    assert_eq!(
        heard.matches(&format!("\nk\n{TOKEN}")).count(),
        3,
        "{heard}"
    );
    assert!(heard.ends_with(&format!("r\nk\n{TOKEN}\n")), "{heard}");
}

#[test]
fn a_bad_file_is_told_by_its_part_and_its_name() {
    fs::write(file("empty.pem"), "").unwrap();
    let bad = |files: TlsFiles| {
        let bad = Tls::new(&files).unwrap_err();
        (bad.part, bad.to_string())
    };
    let (part, text) = bad(trusting("nothing.pem"));
    assert_eq!(part, TlsPart::Ca);
    assert!(
        text.starts_with("cannot read \"") && text.contains("nothing.pem"),
        "{text}"
    );
    let (part, text) = bad(trusting("empty.pem"));
    assert_eq!(part, TlsPart::Ca);
    assert!(
        text.contains("empty.pem\": it has no certificate"),
        "{text}"
    );
    let own = |certificate: Option<&str>, key: Option<&str>| TlsFiles {
        certificate: certificate.map(file),
        key: key.map(file),
        ..trusting("ca.pem")
    };
    for (certificate, key, part) in [
        (Some("me.pem"), None, TlsPart::Key),
        (None, Some("me.key"), TlsPart::Certificate),
        (Some("me.key"), Some("me.key"), TlsPart::Certificate),
        (Some("me.pem"), Some("me.pem"), TlsPart::Key),
        (Some("me.pem"), Some("server.key"), TlsPart::Key),
    ] {
        let (found, text) = bad(own(certificate, key));
        assert_eq!(found, part, "{text}");
        assert!(!text.contains("BEGIN EC"), "{text}");
    }
    Tls::new(&own(Some("me.pem"), Some("me.key"))).unwrap();
}
