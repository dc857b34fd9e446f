//! The owner of the waits and holds of a connection: a name that the connection declares first. The server looks for
//! deadlocks among owners, and moves a hold between connections of one owner; nothing is decided here. Invariant: a
//! unique owner is unique among all hosts.

use std::fs;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Client, Error, Refusal, Us};
use crate::command::Command;
use crate::sys;
use crate::wire::{ask, text};

/// How much of the host's name a unique owner has, in bytes.
const HOST_MAX: usize = 64;
/// Unique owners so far. Global, because they must be unique in the process.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// An owner: one actor that does one thing after the other, on any number of connections. Two actors that work side by
/// side must not share an owner: when one waits for the other, the server takes that for a deadlock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner(Vec<u8>);

impl Owner {
    /// An owner by its name: 1 to 128 printable bytes of ASCII, no blank at its ends; [`Error::Owner`] if not.
    pub fn new(name: &[u8]) -> Result<Owner, Error> {
        if text::owner(name.trim_ascii()) != Some(name) {
            let rule = "an owner is 1 to 128 printable bytes without a blank at its ends";
            return Err(Error::Owner(rule));
        }
        Ok(Owner(name.to_vec()))
    }

    /// A unique owner, made of host, process, a count and the time, as in `web3:4711:1:18e9eb98d4e91d15`. The time is
    /// there because processes in containers share host names and numbers.
    pub fn unique() -> Owner {
        let host = fs::read("/proc/sys/kernel/hostname").unwrap_or_default();
        let is_plain = |byte: &&u8| byte.is_ascii_alphanumeric() || b"-._".contains(*byte);
        let host = host.iter().filter(is_plain).take(HOST_MAX);
        let mut name: Vec<u8> = host.copied().collect();
        let (pid, count) = (process::id(), COUNT.fetch_add(1, Ordering::Relaxed) + 1);
        name.extend_from_slice(format!(":{pid}:{count}:{:016x}", sys::unix_now_ns()).as_bytes());
        Owner(name)
    }

    /// The name.
    pub fn name(&self) -> &[u8] {
        &self.0
    }

    /// Appends the request that declares it.
    pub(super) fn declare(&self, out: &mut Vec<u8>) {
        ask::command(&Command::Declare { owner: &self.0 }, out);
    }
}

impl Client {
    /// The owner that this connection has declared.
    pub fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    /// This connection as one of `owner`, or, if the server refuses that, another one without an owner: the server
    /// knows none, and may close a connection that declares one. This connection must hold nothing.
    pub(super) fn with_owner(mut self, owner: Owner, until: Us) -> Result<Client, Error> {
        let mut request = Vec::new();
        owner.declare(&mut request);
        match self.is_told_ok(&request, until) {
            Ok(()) => {
                self.owner = Some(owner);
                Ok(self)
            }
            Err(Error::Refused(Refusal::Error)) => self.home.connect(self.patience, until),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_printable_and_has_no_blank_at_its_ends() {
        for name in [&b"a"[..], b"a b", &[b'~'; 128]] {
            assert_eq!(Owner::new(name).unwrap().name(), name);
        }
        for name in [
            &b""[..],
            b" a",
            b"a ",
            b"a\tb",
            b"a\n",
            b"\xff",
            &[b'a'; 129],
        ] {
            assert!(matches!(Owner::new(name), Err(Error::Owner(_))), "{name:?}");
        }
    }

    #[test]
    fn unique_ones_differ_and_are_owners() {
        let (one, two) = (Owner::unique(), Owner::unique());
        assert_ne!(one, two);
        assert_eq!(Owner::new(one.name()).unwrap(), one);
        let longest = HOST_MAX + format!(":{}:{}:", u32::MAX, u64::MAX).len() + 16;
        assert!(longest <= text::OWNER_MAX);
    }
}
