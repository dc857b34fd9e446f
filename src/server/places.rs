//! Where clients are to come in: for each face its host, that host's addresses and its port. A name server is asked once, at
//! the start: later it would keep all clients waiting. Not here: sockets. Invariant: the line protocol comes last.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use crate::config::{Config, Distlockd};
use crate::wire::Face;

/// All places, and how many connections there may be.
pub(super) struct Places {
    pub all: Vec<Place>,
    pub max_connections: u32,
    pub max_connections_per_ip: u32,
}

/// Where clients of one face are to come in, and the options that say so.
pub(super) struct Place {
    pub face: Face,
    pub host: String,
    pub port: u16,
    pub host_flag: &'static str,
    pub addrs: io::Result<Vec<SocketAddr>>,
}

impl Places {
    /// The places of the faces that are wanted, as the options name them.
    pub fn find(config: &Config, is_wanted: impl Fn(Face) -> bool) -> Places {
        let wanted = faces(config).into_iter().filter(|one| is_wanted(one.0));
        Places {
            all: wanted.map(Place::new).collect(),
            max_connections: config.max_connections,
            max_connections_per_ip: config.max_connections_per_ip,
        }
    }

    /// A message for each host whose name has no address.
    pub fn unknown(&self) -> Vec<String> {
        let error = |place: &Place| {
            let error = place.addrs.as_ref().err()?;
            let Place {
                host_flag, host, ..
            } = place;
            Some(format!("{host_flag}: no address for {host:?}: {error}"))
        };
        let mut texts: Vec<String> = self.all.iter().filter_map(error).collect();
        // Two faces may share a host.
        texts.dedup();
        texts
    }
}

impl Place {
    fn new((face, host, port, host_flag): Named) -> Place {
        Place {
            face,
            host: host.to_string(),
            port,
            host_flag,
            addrs: resolve(host, port),
        }
    }
}

/// A face, its host and port, and the option for the host.
type Named<'a> = (Face, &'a str, u16, &'static str);

/// The faces that the options name.
fn faces(config: &Config) -> Vec<Named<'_>> {
    let Distlockd { port, host, .. } = &config.distlockd;
    let mut faces: Vec<Named> = Vec::new();
    if let Some(port) = *port {
        let flag = host.as_ref().map_or("--host", |_| "--distlockd-host");
        let host = host.as_ref().unwrap_or(&config.host);
        faces.push((Face::Distlockd, host, port, flag));
    }
    #[cfg(feature = "http")]
    if let Some(port) = config.http.port {
        let flag = config
            .http
            .host
            .as_ref()
            .map_or("--host", |_| "--http-host");
        let host = config.http.host.as_ref().unwrap_or(&config.host);
        faces.push((Face::Http, host, port, flag));
    }
    faces.push((Face::Text, &config.host, config.port, "--host"));
    faces
}

/// The addresses of a host, each once.
fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut addrs = Vec::new();
    for addr in (host, port).to_socket_addrs()? {
        if !addrs.contains(&addr) {
            addrs.push(addr);
        }
    }
    Ok(addrs)
}
