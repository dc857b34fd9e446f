//! Several servers that know nothing of each other, and the one of them that has a key. It opens no connection and does
//! not look whether a server is up: a key has one home. Invariant: every program that has the same list in the same
//! order, and takes the CRC-32 modulo its length, finds the same server.
//!
//! A server that another one stands in for is one entry of the list, `a.example:6388|b.example:6388`; see
//! [`Client::connect`](super::Client::connect). Alternatives do not count.
//!
//! ```no_run
//! use std::time::Duration;
//! use dflockd::client::{Client, Error, Key, Lock, Options, Servers};
//!
//! # fn main() -> Result<(), Error> {
//! let servers = Servers::new(["a.example:6388", "b.example:6388"]).expect("a list of two");
//! let name = b"nightly-backup";
//! let client = Client::connect(servers.pick(name), &Options::default())?;
//! let lock = Lock::acquire(client, Key::lock(name)?, Duration::from_secs(10), None)?;
//! # lock.release()
//! # }
//! ```

/// CRC-32/IEEE of every byte.
const SUMS: [u32; 256] = {
    let (mut table, mut byte) = ([0; 256], 0);
    while byte < 256 {
        let (mut sum, mut bit) = (byte as u32, 0);
        while bit < 8 {
            sum = sum >> 1 ^ (0xedb8_8320 * (sum & 1));
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
};

/// A list of servers, at least one, and the strategy that picks one for a key.
#[derive(Clone, Debug)]
pub struct Servers<S = fn(&[u8], usize) -> usize> {
    addresses: Vec<String>,
    strategy: S,
}

impl Servers {
    /// Servers by `HOST:PORT`, each perhaps with alternatives. A key belongs to the server at its CRC-32/IEEE modulo their number. None if the list is
    /// empty.
    pub fn new(addresses: impl IntoIterator<Item = impl Into<String>>) -> Option<Servers> {
        Servers::by(addresses, by_sum)
    }
}

impl<S: Fn(&[u8], usize) -> usize + Send + Sync + 'static> Servers<S> {
    /// Servers with a strategy of yours: it gets the key and the number of servers, and returns the index of one. The
    /// index is taken modulo that number. None if the list is empty.
    pub fn by(
        addresses: impl IntoIterator<Item = impl Into<String>>,
        strategy: S,
    ) -> Option<Servers<S>> {
        let addresses: Vec<String> = addresses.into_iter().map(Into::into).collect();
        (!addresses.is_empty()).then_some(Servers {
            addresses,
            strategy,
        })
    }

    /// The server that has this key.
    pub fn pick(&self, key: &[u8]) -> &str {
        let count = self.addresses.len();
        &self.addresses[(self.strategy)(key, count) % count]
    }
}

fn by_sum(key: &[u8], count: usize) -> usize {
    crc_32(key) as usize % count
}

fn crc_32(bytes: &[u8]) -> u32 {
    let fold = |sum: u32, byte: &u8| sum >> 8 ^ SUMS[(sum as u8 ^ byte) as usize];
    !bytes.iter().fold(!0, fold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_are_those_of_the_protocol() {
        assert_eq!(crc_32(b""), 0);
        assert_eq!(crc_32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc_32(b"my-key"), 0xd6e3_3ac1);
        assert_eq!(crc_32(b"foo"), 0x8c73_6521);
        assert_eq!(crc_32(b"deploy-job"), 0x9695_ceae);
        assert_eq!(crc_32("clé".as_bytes()), 0x06c7_2a74);
        assert_eq!(crc_32(b"worker-pool"), 0xe746_ac78);
    }

    #[test]
    fn a_key_belongs_to_the_server_at_its_sum_modulo_their_number() {
        let servers = Servers::new(["a:1", "b:2"]).unwrap();
        // The sums are above: odd, even.
        assert_eq!(servers.pick(b"my-key"), "b:2");
        assert_eq!(servers.pick(b"deploy-job"), "a:1");
        assert_eq!(Servers::new(["a:1"]).unwrap().pick(b"any"), "a:1");
        let servers = Servers::new(["a:1|b:1", "c:1|d:1|e:1"]).unwrap();
        assert_eq!(servers.pick(b"my-key"), "c:1|d:1|e:1");
        assert_eq!(servers.pick(b"deploy-job"), "a:1|b:1");
    }

    #[test]
    fn no_servers_are_none() {
        assert!(Servers::new([""; 0]).is_none());
        assert!(Servers::by(Vec::<String>::new(), |_, _| 0).is_none());
    }

    #[test]
    fn a_strategy_of_the_callers_is_asked_and_cannot_miss() {
        let servers = Servers::by(["a:1", "b:2"], |key, count| {
            assert_eq!(count, 2);
            key.len()
        });
        let servers = servers.unwrap();
        assert_eq!(servers.pick(b"odd"), "b:2");
        assert_eq!(servers.pick(b"even"), "a:1");
    }
}
