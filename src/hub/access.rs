//! Who may do what: the secret that a session must say before anything else, and the administrator's. Invariant: a secret
//! is compared in the same time wherever the two differ, and guessing is slow: a wrong one costs the session its
//! connection, over HTTP the fifth does.

use super::session::Busy;
use super::{Hub, Somebody};
use crate::command::{Refusal, Reply, SessionId};

/// The secrets of the server, each of them perhaps unset.
#[derive(Clone, Debug, Default)]
pub(super) struct Secrets {
    /// Every session must say this one, or the administrator's, first.
    pub client: Option<Vec<u8>>,
    /// The session that says this one may break locks.
    pub admin: Option<Vec<u8>>,
}

impl Secrets {
    /// Whether this is the secret of clients, and whether it is the administrator's.
    pub fn judge(&self, said: &[u8]) -> (bool, bool) {
        let is = |secret: &Option<Vec<u8>>| secret.as_ref().is_some_and(|it| is_equal(it, said));
        (is(&self.client), is(&self.admin))
    }
}

impl Hub {
    /// From now on these are the secrets. Sessions keep what they have. Whether a secret is set stays as it was.
    pub fn set_secrets(&mut self, client: Option<Vec<u8>>, admin: Option<Vec<u8>>) {
        let same =
            |one: &Option<Vec<u8>>, other: &Option<Vec<u8>>| one.is_some() == other.is_some();
        assert!(same(&client, &self.secrets.client) && same(&admin, &self.secrets.admin));
        self.secrets = Secrets { client, admin };
    }

    /// The session says a secret. A second time that is an error, but it may still say the administrator's.
    pub(super) fn authenticate(&mut self, slot: u32, said: &[u8]) {
        let (is_client, is_admin) = self.secrets.judge(said);
        let session = &mut self.sessions[slot];
        session.busy = Busy::Introduced;
        let may_be_admin = self.secrets.admin.is_some() && !session.admin;
        if is_admin && may_be_admin || is_client && !session.trusted {
            session.trusted = true;
            session.admin |= is_admin;
            return self.answer_at_once(slot, Reply::Done);
        }
        if session.trusted && (!may_be_admin || is_client) {
            return self.answer(slot, Reply::Refused(Refusal::Error));
        }
        self.reject(slot);
    }

    /// The session's break goes on in slices. The log is to tell whose it was, even if its connection ends before.
    pub(super) fn note_breaker(&mut self, slot: u32) {
        let session = &self.sessions[slot];
        let peer = session.peer().map(Somebody::from);
        self.breakers.extend(peer.map(|peer| (session.id, peer)));
    }

    /// Whose the session is, or was when it began a break.
    pub(super) fn breaker(&self, id: SessionId) -> Option<Somebody> {
        let known = self.breakers.iter().find(|breaker| breaker.0 == id);
        known.map(|breaker| breaker.1.clone())
    }

    /// Whether the session may end holds by force: as an administrator if there is a secret for one, else with the
    /// secret of all, and without any from this host.
    pub(super) fn may_break(&self, slot: u32) -> bool {
        let session = &self.sessions[slot];
        self.may_administer(slot, session.trusted, session.admin)
    }

    /// The same for one who has said the secret of clients, or of administrators.
    pub(super) fn may_administer(&self, slot: u32, trusted: bool, admin: bool) -> bool {
        match (&self.secrets.admin, &self.secrets.client) {
            (Some(_), _) => admin,
            (None, Some(_)) => trusted,
            (None, None) => self.sessions[slot]
                .peer
                .is_some_and(|peer| peer.ip().is_loopback()),
        }
    }
}

/// Takes the same time wherever the two differ, so that a secret cannot be guessed byte by byte; its length may be known.
fn is_equal(secret: &[u8], said: &[u8]) -> bool {
    secret.len() == said.len()
        && secret
            .iter()
            .zip(said)
            .fold(0, |differ, (a, b)| differ | (a ^ b))
            == 0
}
