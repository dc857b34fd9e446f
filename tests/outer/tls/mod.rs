//! TLS over real sockets: openssl(1) and the library of rustls as clients. Not here: the client library and `dflock` over
//! TLS, which `client` and `shell` have. Invariant: as in main.rs.

mod clients;
mod files;
mod session;

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dflockd::tls::{pem, provider};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, ClientConnection, SupportedProtocolVersion, version};

use crate::daemon::pki::{Pki, pki};
use crate::daemon::{Client, Daemon, PATIENCE, Talk, at_once};

/// A client over TLS.
pub type Secure<S = TcpStream> = Talk<rustls::StreamOwned<ClientConnection, S>>;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// What a client knows and shows.
#[derive(Clone, Copy)]
pub struct As<'a> {
    ca: &'a str,
    cert: Option<&'a str>,
    version: &'static SupportedProtocolVersion,
    alpn: &'a [&'a str],
}

pub const ANYBODY: As = As {
    ca: "ca.pem",
    cert: None,
    version: &version::TLS13,
    alpn: &[],
};

impl As<'_> {
    fn config(self, pki: &Pki) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(pem::authorities(&pki.read(self.ca)).unwrap());
        let mut config = match self.cert {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = pem::certificates(&pki.read(name)).unwrap();
                let key = pem::key(&pki.read("client.key")).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = self
            .alpn
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Arc::new(config)
    }

    fn session(self, pki: &Pki) -> ClientConnection {
        session(self.config(pki))
    }

    pub fn over<S: Read + Write>(self, pki: &Pki, stream: S) -> Secure<S> {
        Talk::with(rustls::StreamOwned::new(self.session(pki), stream))
    }

    fn connect(self, pki: &Pki, daemon: &Daemon) -> Secure {
        self.over(pki, tcp(daemon.addr))
    }
}

fn session(config: Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(config, name).unwrap()
}

pub fn tcp(addr: std::net::SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// The server with this certificate and these options besides.
fn serve(pki: &Pki, cert: &str, key: &str, more: &[&str]) -> Daemon {
    let options = pki.options(cert, key);
    let mut args: Vec<&str> = options.iter().map(String::as_str).collect();
    args.extend(more);
    Daemon::start(&args)
}

/// The error of a handshake that must fail, or of the first read after it.
fn failure<S: Read + Write>(client: &mut Secure<S>) -> io::Error {
    let stream = client.stream();
    let sent = stream.write_all(b"ping\n_\n_\n");
    let failed = sent.and_then(|()| stream.read_exact(&mut [0]));
    failed.expect_err("the server refuses it")
}

#[track_caller]
fn is_alert<S: Read + Write>(client: &mut Secure<S>, wanted: AlertDescription) {
    let error = failure(client);
    let inner = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    assert_eq!(
        inner,
        Some(&rustls::Error::AlertReceived(wanted)),
        "{error}"
    );
}

#[test]
fn openssl_is_served_by_each_kind_of_key_with_tls_1_2_and_1_3() {
    let Some(pki) = pki() else { return };
    at_once(
        [
            ("server.pem", "server.key"),
            ("chain.pem", "server.pk8.key"),
            ("rsa.pem", "rsa.key"),
            ("mark.pem", "mark.key"),
        ],
        |(cert, key)| {
            let daemon = serve(pki, cert, key, &[]);
            for version in ["-tls1_2", "-tls1_3"] {
                let mut client = Command::new("openssl")
                    .args(["s_client", "-quiet", "-verify_return_error", version])
                    .args(["-connect", &daemon.addr.to_string()])
                    .args(["-CAfile", &pki.path("ca.pem")])
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                let (mut input, mut output) =
                    (client.stdin.take().unwrap(), client.stdout.take().unwrap());
                input.write_all(b"ping\n_\n_\n").unwrap();
                let mut answer = [0; 3];
                output.read_exact(&mut answer).unwrap();
                assert_eq!(&answer, b"ok\n", "{cert} {version}");
                client.kill().unwrap();
                client.wait().unwrap();
            }
        },
    );
}

#[test]
fn an_older_version_is_refused_by_an_alert() {
    let Some(pki) = pki() else { return };
    let daemon = serve(pki, "server.pem", "server.key", &[]);
    let old = Command::new("openssl")
        .args(["s_client", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"])
        .args(["-connect", &daemon.addr.to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&old.stderr).into_owned();
    assert!(!old.status.success() && said.contains(" alert "), "{said}");
}

/// A socket that takes and gives one byte at a time.
struct Drip(TcpStream);

impl Read for Drip {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(1);
        self.0.read(&mut buffer[..most])
    }
}

impl Write for Drip {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = bytes.len().min(1);
        self.0.write(&bytes[..most])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn records_that_come_byte_by_byte_are_understood() {
    let Some(pki) = pki() else { return };
    let daemon = serve(pki, "server.pem", "server.key", &[]);
    at_once(VERSIONS, |version| {
        let mut client = As { version, ..ANYBODY }.over(pki, Drip(tcp(daemon.addr)));
        let key = format!("{version:?}");
        client.send(format!("l\n{key}\n0\n"));
        let token = client.is_granted(33);
        client.send(format!("r\n{key}\n{token}\nping\n_\n_\n"));
        client.hears("ok");
        client.hears("ok");
    });
}

/// The last message of a handshake and a request in one segment: no edge tells of the request.
#[test]
fn a_request_that_comes_with_the_end_of_the_handshake_is_answered() {
    let Some(pki) = pki() else { return };
    let daemon = serve(pki, "server.pem", "server.key", &[]);
    for version in VERSIONS {
        let mut session = As { version, ..ANYBODY }.session(pki);
        let mut socket = tcp(daemon.addr);
        // Kept until the handshake is over.
        session.writer().write_all(b"ping\n_\n_\n").unwrap();
        while session.is_handshaking() {
            send(&mut session, &mut socket);
            session.read_tls(&mut socket).unwrap();
            session.process_new_packets().unwrap();
        }
        send(&mut session, &mut socket);
        let mut client: Secure = Talk::with(rustls::StreamOwned::new(session, socket));
        client.hears("ok");
    }
}

/// All that a session has to send, in one write.
fn send(session: &mut ClientConnection, socket: &mut TcpStream) {
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes).unwrap();
    }
    socket.write_all(&bytes).unwrap();
}

#[test]
fn a_long_answer_waits_for_a_reader_that_is_stuck_and_comes_whole() {
    const KEYS: usize = 10_000;
    let Some(pki) = pki() else { return };
    let options = ["--max-locks=20000", "--write-timeout=0"];
    let daemon = serve(pki, "server.pem", "server.key", &options);
    at_once(VERSIONS, |version| {
        let mut holder = As { version, ..ANYBODY }.connect(pki, &daemon);
        let name = |at: usize| format!("{version:?}-{at:0>200}");
        for from in (0..KEYS).step_by(100) {
            let frames: String = (from..from + 100)
                .map(|at| format!("l\n{}\n0\n", name(at)))
                .collect();
            holder.send(frames);
            (0..100).for_each(|_| drop(holder.is_granted(33)));
        }
        let mut reader = As { version, ..ANYBODY }.connect(pki, &daemon);
        reader.send("stats\n_\n_\n");
        // It does not read, and nobody else notices.
        holder.says("ping", "_", "_", "ok");
        let mut other = As { version, ..ANYBODY }.connect(pki, &daemon);
        other.says("ping", "_", "_", "ok");
        let listing = reader.line();
        assert!(listing.len() > 2_700_000, "{}", listing.len());
        let parts = listing.split("\"key\":\"").skip(1);
        let mut names: Vec<&str> = parts.map(|part| part.split('"').next().unwrap()).collect();
        names.retain(|name| name.starts_with(&format!("{version:?}")));
        names.sort_unstable();
        let wanted: Vec<String> = (0..KEYS).map(name).collect();
        assert!(names == wanted);
        reader.says("ping", "_", "_", "ok");
    });
}

#[test]
fn clients_without_tls_are_dropped_and_nothing_of_theirs_is_carried_out() {
    let Some(pki) = pki() else { return };
    let mut daemon = serve(pki, "server.pem", "server.key", &["--http-port=0"]);
    for addr in [daemon.addr, daemon.http] {
        for said in [
            "l\nplain\n0\n",
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "\u{16}\u{3}\u{1}xyz\n\n\n\n\n",
        ] {
            let mut client = Client::over(tcp(addr));
            client.send(said);
            let mut heard = Vec::new();
            // A close with input unread may be a reset.
            let _ = client.stream().read_to_end(&mut heard);
            // An alert, of which a client without TLS makes nothing.
            assert!(heard.is_empty() || heard[0] == 0x15, "{heard:?}");
        }
    }
    let line = daemon.event("handshake-failed");
    assert!(
        line.contains(" warn ") && line.contains("speaks no TLS"),
        "{line}"
    );
    ANYBODY.connect(pki, &daemon).takes("plain");
}

#[test]
fn a_client_that_stops_in_its_handshake_is_cut_after_five_seconds_and_harms_nobody() {
    let Some(pki) = pki() else { return };
    let mut daemon = serve(pki, "server.pem", "server.key", &[]);
    let start = Instant::now();
    let mut mute = Client::over(tcp(daemon.addr));
    let mut half = Client::over(tcp(daemon.addr));
    let mut hello = Vec::new();
    ANYBODY.session(pki).write_tls(&mut hello).unwrap();
    half.send(&hello[..hello.len() / 2]);
    ANYBODY.connect(pki, &daemon).says("ping", "_", "_", "ok");
    for client in [&mut mute, &mut half] {
        let mut heard = Vec::new();
        client.stream().read_to_end(&mut heard).unwrap();
        assert!(heard.is_empty(), "{heard:?}");
        let took = start.elapsed();
        assert!(
            (Duration::from_secs(5)..PATIENCE).contains(&took),
            "{took:?}"
        );
    }
    assert!(
        daemon
            .event("handshake-failed")
            .contains("it took too long")
    );
}

#[test]
fn many_clients_that_come_at_once_are_all_served() {
    let Some(pki) = pki() else { return };
    let daemon = serve(pki, "rsa.pem", "rsa.key", &[]);
    // All have said hello before the first is answered to the end.
    let mut clients: Vec<(ClientConnection, TcpStream)> = (0..400)
        .map(|_| {
            let mut client = (ANYBODY.session(pki), tcp(daemon.addr));
            send(&mut client.0, &mut client.1);
            client
        })
        .collect();
    for (session, socket) in clients.drain(..) {
        let mut client: Secure = Talk::with(rustls::StreamOwned::new(session, socket));
        client.says("ping", "_", "_", "ok");
    }
}

#[test]
fn an_end_without_close_notify_is_a_disconnect() {
    let Some(pki) = pki() else { return };
    let daemon = serve(pki, "server.pem", "server.key", &[]);
    for (at, close_notify) in [false, true].into_iter().enumerate() {
        let key = format!("k{at}");
        let mut holder = ANYBODY.connect(pki, &daemon);
        holder.send(format!("l\n{key}\n0\n"));
        holder.is_granted(33);
        let mut waiter = ANYBODY.connect(pki, &daemon);
        waiter.send(format!("l\n{key}\n100\n"));
        if close_notify {
            let stream = holder.stream();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
            // The answer to it, and no reset.
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        } else {
            holder.stream().sock.shutdown(Shutdown::Both).unwrap();
        }
        waiter.is_granted(33);
    }
}

/// The end of TLS in the segment of the last request: no edge tells of it, and the connection stays open.
#[test]
fn a_close_notify_that_comes_with_a_request_is_an_end() {
    let Some(pki) = pki() else { return };
    let daemon = serve(pki, "server.pem", "server.key", &[]);
    for version in VERSIONS {
        let mut holder = As { version, ..ANYBODY }.connect(pki, &daemon);
        holder.takes("k");
        let mut waiter = ANYBODY.connect(pki, &daemon);
        waiter.send("l\nk\n100\n");
        let stream = holder.stream();
        stream.conn.writer().write_all(b"ping\n_\n_\n").unwrap();
        stream.conn.send_close_notify();
        send(&mut stream.conn, &mut stream.sock);
        holder.hears("ok");
        holder.is_closed();
        let token = waiter.is_granted(33);
        waiter.says("r", "k", &token, "ok");
    }
}

#[test]
fn a_server_that_stops_says_so_and_closes_in_order() {
    let Some(pki) = pki() else { return };
    let daemon = serve(pki, "server.pem", "server.key", &[]);
    let mut waiter = ANYBODY.connect(pki, &daemon);
    let mut holder = ANYBODY.connect(pki, &daemon);
    holder.send("l\nk\n0\n");
    let token = holder.is_granted(33);
    waiter.send("l\nk\n100\nping\n_\n_\n");
    ANYBODY.connect(pki, &daemon).says("ping", "_", "_", "ok");
    daemon.signal("TERM");
    waiter.hears("error_draining");
    // rustls tells an end without close_notify as an error.
    waiter.is_closed();
    holder.says("r", "k", &token, "ok");
    holder.is_closed();
    assert_eq!(daemon.end().status, Some(0));
}

#[cfg(feature = "http")]
#[test]
fn http_agrees_on_http_1_1_and_on_nothing_else() {
    let Some(pki) = pki() else { return };
    let daemon = serve(pki, "server.pem", "server.key", &["--http-port=0"]);
    let alpn = |alpn| As { alpn, ..ANYBODY }.over(pki, tcp(daemon.http));
    let mut browser = alpn(&["h2", "http/1.1"]);
    let origin = format!("https://localhost:{}", daemon.http.port());
    let host = &origin["https://".len()..];
    let ask =
        |origin: &str| format!("GET /locks HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n\r\n");
    browser.send(ask(&origin));
    browser.hears("HTTP/1.1 200 OK\r");
    assert_eq!(
        browser.stream().conn.alpn_protocol(),
        Some(&b"http/1.1"[..])
    );
    // Its pages are of https now, and no others are its own.
    let mut other = alpn(&[]);
    other.send(ask(&format!("http://{host}")));
    other.hears("HTTP/1.1 403 Forbidden\r");
    is_alert(&mut alpn(&["h2"]), AlertDescription::NoApplicationProtocol);
}

/// Asks distlockd's face whether the server is well.
fn is_well(mut stream: impl Read + Write) -> bool {
    stream.write_all(&[3, 0, 0, 0, 0]).unwrap();
    let mut answer = [1; 3];
    stream.read_exact(&mut answer).is_ok() && answer == [0, 0, 0]
}

#[test]
fn each_face_has_tls_or_not_as_it_is_told() {
    let Some(pki) = pki() else { return };
    let daemon = serve(pki, "server.pem", "server.key", &["--distlockd-port=0"]);
    assert!(is_well(tcp(daemon.distlockd)));
    ANYBODY.connect(pki, &daemon).says("ping", "_", "_", "ok");
    let more = ["--distlockd-port=0", "--distlockd-tls"];
    let daemon = serve(pki, "server.pem", "server.key", &more);
    assert!(!is_well(tcp(daemon.distlockd)));
    let session = ANYBODY.session(pki);
    assert!(is_well(rustls::StreamOwned::new(
        session,
        tcp(daemon.distlockd)
    )));
}

#[test]
fn a_client_over_a_limit_is_closed_before_its_handshake() {
    let Some(pki) = pki() else { return };
    let daemon = serve(pki, "server.pem", "server.key", &["--max-connections=1"]);
    let mut first = ANYBODY.connect(pki, &daemon);
    first.says("ping", "_", "_", "ok");
    let mut heard = Vec::new();
    let mut second = Client::over(tcp(daemon.addr));
    second.stream().read_to_end(&mut heard).unwrap();
    assert!(heard.is_empty(), "{heard:?}");
    first.says("ping", "_", "_", "ok");
}
