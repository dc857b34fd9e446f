//! How a connection begins: the race of the addresses, the secret, the owner, and the same again at the address that
//! answered. Invariant: all of it together takes no longer than one patience.

use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use super::dial::race;
use super::sites::Sites;
use super::{Client, Error, GOODBYE, Key, Options, Owner, Refusal, Token, Us, micros};
use crate::sys;
use crate::wire::ask;
use crate::wire::text::SECRET_MAX;

/// A secret, which no `Debug` shows.
#[derive(Clone)]
pub(super) struct Secret(pub(super) Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What it takes to connect to a server again.
#[derive(Clone, Debug)]
pub(super) struct Home {
    /// All addresses of it. The one that has answered has its turn.
    pub(super) sites: Sites,
    pub(super) secret: Option<Secret>,
}

impl Home {
    /// Another connection, without an owner, to the address that has answered.
    pub(super) fn connect(&self, patience: Us, until: Us) -> Result<Client, Error> {
        let alone = Home {
            sites: Sites::alone(self.sites.site()?),
            secret: self.secret.clone(),
        };
        let mut client = Client::open(alone, None, patience, until)?;
        client.home = self.clone();
        Ok(client)
    }

    /// Releases over a connection of its own, for a second at most. If that fails, the lease ends by itself.
    pub(super) fn release(&self, key: &Key<'_>, token: Token, patience: Us) {
        let patience = patience.min(GOODBYE);
        let until = sys::now().saturating_add(patience);
        if let Ok(mut client) = Client::open(self.clone(), None, patience, until) {
            let _ = client.release(key, token);
        }
    }
}

impl Client {
    /// Connects to `HOST:PORT`, or to one of several with `|` between them, and sends the secret and the owner if you
    /// gave them. `a.example:6388|b.example:6388` are two servers that share their locks, because one of them leads and
    /// the other stands by. All addresses of all hosts are tried, and the first that answers is taken: an address that
    /// refuses is passed over at once, and one that says nothing has a quarter of a second before the next is tried
    /// beside it. While one of several alternatives says nothing, the others are asked again and again, because one of
    /// them may begin to lead. If all refuse, that is the answer. Over TLS the handshake belongs to it. A name is
    /// looked up by a thread, which may outlive this call if the system finds no answer within the patience. A name
    /// that is not found does no harm if another host answers.
    ///
    /// A server that knows no owners answers `error` to one; then this connects again, without.
    ///
    /// [`Error::Refused`] with [`Refusal::Auth`] if the secret is wrong, with [`Refusal::Error`] if the server has
    /// none. Without a secret, [`Refusal::Auth`] may come from here or from the first request. So may
    /// [`Refusal::MaxConnections`], with a secret too: the server has as many connections as it may, from everywhere or
    /// from this address. [`Error::Tls`] if server and client agree on no TLS. [`Error::Io`] if no server answers; its
    /// kind is [`ErrorKind::InvalidInput`] if `server` is no `HOST:PORT`, its host cannot be verified over TLS, or the
    /// secret cannot be one.
    pub fn connect(server: &str, options: &Options) -> Result<Client, Error> {
        let patience = micros(options.patience);
        let until = sys::now().saturating_add(patience);
        let secret = options.secret.clone().map(Secret);
        if let Some(Secret(secret)) = &secret {
            check_secret(secret)?;
        }
        let mut sites = Sites::new(server, options.tls.as_ref())?;
        sites.look_up()?;
        if !sites.has_alternatives() {
            sites.wait(until)?;
        }
        let home = Home { sites, secret };
        Client::open(home, options.id.clone(), patience, until)
    }

    /// Connects to the first of the addresses that answers, before `until`. Of those of `home` it has its turn then.
    fn open(
        mut home: Home,
        owner: Option<Owner>,
        patience: Us,
        until: Us,
    ) -> Result<Client, Error> {
        let is_one_of_several = home.sites.has_alternatives() || home.sites.list().len() > 1;
        let mut first = Vec::new();
        match (&home.secret, &owner) {
            (Some(Secret(secret)), _) => ask::auth(secret, &mut first),
            (None, Some(owner)) => owner.declare(&mut first),
            // Of several addresses the answer says which are alive. One needs no question.
            (None, None) if is_one_of_several => ask::ping(&mut first),
            (None, None) => {}
        }
        let (site, link) = race(&home.sites, &first, until)?;
        home.sites.settle(site.addr);
        let (stream, input) = link.into_blocking()?;
        stream
            .socket()
            .set_write_timeout(Some(Duration::from_micros(patience)))?;
        let mut client = Client {
            stream,
            home,
            input,
            patience,
            is_broken: false,
            owner: None,
            holds: 0,
            heard: None,
            watch: None,
        };
        if first.is_empty() {
            return Ok(client);
        }
        let heard = client.hear_ok(until);
        if client.home.secret.is_some() {
            heard?;
            return match owner {
                Some(owner) => client.with_owner(owner, until),
                None => Ok(client),
            };
        }
        match heard {
            Ok(()) => {
                client.owner = owner;
                Ok(client)
            }
            // It knows no owners, or no pings, and may close the connection.
            Err(Error::Refused(Refusal::Error)) => client.home.connect(patience, until),
            Err(error) => Err(error),
        }
    }
}

fn check_secret(secret: &[u8]) -> io::Result<()> {
    if secret.is_empty() || secret.len() > SECRET_MAX || secret.contains(&b'\n') {
        let rule = "a secret is 1 to 65,536 bytes without LF";
        return Err(io::Error::new(ErrorKind::InvalidInput, rule));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::SECOND;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};
    use std::thread;

    const LONG: Us = 60 * SECOND;

    /// A server of one connection that answers each frame so, and then closes.
    fn plays(listener: &TcpListener, answers: &[&str]) -> String {
        let mut peer = listener.accept().unwrap().0;
        let mut heard = String::new();
        for answer in answers {
            let mut lines = 0;
            while lines < 3 {
                let mut byte = [0];
                peer.read_exact(&mut byte).unwrap();
                heard.push(byte[0].into());
                lines += usize::from(byte[0] == b'\n');
            }
            peer.write_all(answer.as_bytes()).unwrap();
        }
        heard
    }

    fn open(addrs: &[SocketAddr], secret: Option<Secret>, owner: Option<Owner>) -> Client {
        let until = sys::now() + LONG;
        let places: Vec<String> = addrs.iter().map(SocketAddr::to_string).collect();
        let sites = Sites::new(&places.join("|"), None).unwrap();
        let home = Home { sites, secret };
        Client::open(home, owner, LONG, until).unwrap()
    }

    #[test]
    fn of_several_addresses_the_one_that_answers_is_taken_whatever_is_said_first() {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (mute, good) = (listen(), listen());
        let addrs = [&mute, &good].map(|listener| listener.local_addr().unwrap());
        let (secret, owner) = (Secret(b"s".to_vec()), Owner::new(b"me").unwrap());
        let (auth, id, ping) = ("auth\n_\ns\n", "id\n_\nme\n", "ping\n_\n_\n");
        for (secret, owner, heard) in [
            (None, None, vec![ping]),
            (Some(secret.clone()), None, vec![auth]),
            (None, Some(owner.clone()), vec![id]),
            (Some(secret), Some(owner), vec![auth, id]),
        ] {
            let answers = vec!["ok\n"; heard.len()];
            thread::scope(|scope| {
                let server = scope.spawn(|| plays(&good, &answers));
                let client = open(&addrs, secret, owner.clone());
                assert_eq!(client.owner(), owner.as_ref());
                assert_eq!(client.home.sites.site().unwrap().addr, addrs[1]);
                assert_eq!(server.join().unwrap(), heard.concat());
            });
        }
    }

    #[test]
    fn a_server_that_knows_no_pings_or_no_owners_is_used_all_the_same() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let owner = Owner::new(b"me").unwrap();
        for (addrs, owner) in [(vec![addr, addr], None), (vec![addr], Some(owner))] {
            thread::scope(|scope| {
                let server = scope.spawn(|| {
                    plays(&listener, &["error\n"]);
                    plays(&listener, &["ok\n"])
                });
                open(&addrs, None, owner).ping().unwrap();
                assert_eq!(server.join().unwrap(), "ping\n_\n_\n");
            });
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let shown = format!("{:?}", Secret(b"open sesame".to_vec()));
        assert_eq!(shown, "Secret");
    }
}
