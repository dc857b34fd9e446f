//! The server's end of TLS for the tests of the client: certificates that openssl(1) makes, and a peer in a thread that
//! says what it is told to.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use crate::tls::{pem, provider};

pub const LONG: Duration = Duration::from_secs(60);

/// Makes the certificates once: two authorities, `ca` and `other`, and what they have signed.
pub fn room() -> &'static Path {
    static ROOM: OnceLock<PathBuf> = OnceLock::new();
    ROOM.get_or_init(|| {
        let room = format!("client-tls-{}", std::process::id());
        let room = std::env::current_exe().unwrap().with_file_name(room);
        fs::create_dir_all(&room).unwrap();
        for authority in ["ca", "other"] {
            let subject = format!("/CN={authority}");
            let (key, pem) = (format!("{authority}.key"), format!("{authority}.pem"));
            let kind = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
            openssl(
                &room,
                kind,
                &["-subj", &subject, "-keyout", &key, "-out", &pem],
            );
        }
        let local = "subjectAltName=DNS:localhost,IP:127.0.0.1";
        sign(&room, "server", "ca", local, "1");
        sign(&room, "old", "ca", local, "-1");
        sign(
            &room,
            "elsewhere",
            "ca",
            "subjectAltName=DNS:elsewhere.example",
            "1",
        );
        sign(&room, "me", "ca", "extendedKeyUsage=clientAuth", "1");
        sign(
            &room,
            "stranger",
            "other",
            "extendedKeyUsage=clientAuth",
            "1",
        );
        room
    })
}

fn sign(room: &Path, name: &str, authority: &str, extension: &str, days: &str) {
    let [key, csr, ext, pem] = ["key", "csr", "ext", "pem"].map(|end| format!("{name}.{end}"));
    fs::write(
        room.join(&ext),
        format!("{extension}\nbasicConstraints=CA:FALSE\n"),
    )
    .unwrap();
    let subject = format!("/CN={name}");
    let kind = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(
        room,
        kind,
        &["-subj", &subject, "-keyout", &key, "-out", &csr],
    );
    let [ca, ca_key] = ["pem", "key"].map(|end| format!("{authority}.{end}"));
    let words = ["-CA", &ca, "-CAkey", &ca_key, "-in", &csr, "-extfile", &ext];
    openssl(
        room,
        "x509 -req -CAcreateserial",
        &[&words[..], &["-days", days, "-out", &pem]].concat(),
    );
}

fn openssl(room: &Path, kind: &str, words: &[&str]) {
    let mut openssl = Command::new("openssl");
    openssl.current_dir(room).args(kind.split(' ')).args(words);
    let made = openssl
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed");
    let told = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "openssl {kind} {words:?}: {told}");
}

pub fn file(name: &str) -> PathBuf {
    room().join(name)
}

/// A server's configuration with this certificate.
pub fn config(
    name: &str,
    versions: &[&'static SupportedProtocolVersion],
    asks: bool,
) -> Arc<ServerConfig> {
    let text = |end: &str| fs::read(file(&format!("{name}.{end}"))).unwrap();
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap();
    let builder = match asks {
        true => {
            let roots = Arc::new(pem::authorities(&fs::read(file("ca.pem")).unwrap()).unwrap());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
        false => builder.with_no_client_auth(),
    };
    let chain = pem::certificates(&text("pem")).unwrap();
    let config = builder.with_single_cert(chain, pem::key(&text("key")).unwrap());
    Arc::new(config.unwrap())
}

/// The server's end. Its socket may deliver each byte by itself.
pub struct Peer(pub StreamOwned<ServerConnection, Socket>);

pub struct Socket {
    socket: TcpStream,
    is_slow: bool,
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = if self.is_slow { 1 } else { buffer.len() };
        self.socket.read(&mut buffer[..most])
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let most = if self.is_slow { 1 } else { buffer.len() };
        self.socket.write(&buffer[..most])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Peer {
    pub fn over(socket: TcpStream, config: &Arc<ServerConfig>, is_slow: bool) -> Peer {
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        let session = ServerConnection::new(Arc::clone(config)).unwrap();
        Peer(StreamOwned::new(session, Socket { socket, is_slow }))
    }

    /// The three lines of a request.
    pub fn frame(&mut self) -> String {
        let mut heard = String::new();
        while heard.matches('\n').count() < 3 {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            heard.push(byte[0].into());
        }
        heard
    }

    pub fn say(&mut self, line: &str) {
        self.0.write_all(line.as_bytes()).unwrap();
        self.0.flush().unwrap();
    }

    /// Answers requests in turn, and returns them.
    pub fn answer(&mut self, lines: &[&str]) -> String {
        let answer = |line: &&str| {
            let heard = self.frame();
            self.say(line);
            heard
        };
        lines.iter().map(answer).collect()
    }
}

/// A server of one connection.
pub fn serve<T: Send + 'static>(
    config: Arc<ServerConfig>,
    play: impl FnOnce(Peer) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let socket = listener.accept().unwrap().0;
        play(Peer::over(socket, &config, false))
    });
    (addr, server)
}

/// A server that shakes hands, or fails to, and returns why.
pub fn shake(config: Arc<ServerConfig>) -> (String, JoinHandle<io::Result<()>>) {
    serve(config, |mut peer| {
        let shaken = peer.0.read(&mut [0]).map(drop);
        // What is owed to the client, an alert.
        let _ = peer.0.conn.write_tls(&mut peer.0.sock);
        shaken
    })
}
