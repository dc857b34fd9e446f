//! A connection as bytes: plain or with TLS. Not here: what the bytes say. Invariant: no read and
//! no write waits for longer than a test has patience.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::daemon::PATIENCE;

pub enum Stream {
    Plain(TcpStream),
    Secure(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

impl Stream {
    pub fn connect(addr: SocketAddr, secure: bool) -> io::Result<Stream> {
        let tcp = TcpStream::connect_timeout(&addr, PATIENCE)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        match secure {
            false => Ok(Stream::Plain(tcp)),
            true => Ok(Stream::Secure(Box::new(rustls::StreamOwned::new(
                secure::session(),
                tcp,
            )))),
        }
    }

    /// Says that nothing more will be said.
    pub fn finish(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(tcp) => tcp.shutdown(Shutdown::Write),
            Stream::Secure(stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
                stream.sock.shutdown(Shutdown::Write)
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.read(into),
            Stream::Secure(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(tcp) => tcp.write(bytes),
            Stream::Secure(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(tcp) => tcp.flush(),
            Stream::Secure(stream) => stream.flush(),
        }
    }
}

mod secure {
    use std::sync::{Arc, LazyLock};

    use rustls::crypto::ring;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use crate::daemon::pki::pki;

    /// A client that trusts the tests' authority.
    pub fn session() -> ClientConnection {
        static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
            let pki = pki().expect("the server has a certificate");
            let authority = CertificateDer::from_pem_slice(&pki.read("ca.pem")).unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(authority).unwrap();
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            Arc::new(config)
        });
        let name = ServerName::try_from("localhost").unwrap();
        ClientConnection::new(CONFIG.clone(), name).unwrap()
    }
}
