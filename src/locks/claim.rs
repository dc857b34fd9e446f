//! Claims: holds of an owner that no session has. The owner's name alone takes one and gives it back, and its lease ends it.
//! Invariant: a claim never waits.

use super::Locks;
use super::acquire::Wish;
use super::grant::End;
use super::ticket::Ticket;
use crate::command::{Outbox, Realm, Refusal, Reply, SessionId, Space};

impl Locks {
    /// A hold for an owner that is no session's, until it gives it back or the lease ends.
    pub(super) fn claim(
        &mut self,
        wish: Wish,
        realm: Realm,
        owner: &[u8],
        out: &mut Outbox,
    ) -> Reply {
        let hash = self.secret.hash(wish.space, wish.name);
        let lease = wish.lease;
        let key = match self.enter(hash, wish, out) {
            Ok((key, true)) => key,
            Err(refusal) if refusal != Refusal::MaxWaiters => return Reply::Refused(refusal),
            // The owner's own hold is granted again: it may not have heard of it.
            _ => {
                let Some(place) = self.find_claim(wish.space, wish.name, realm, owner) else {
                    return Reply::Timeout;
                };
                self.set_due(place, self.now.saturating_add(lease));
                let Ticket { token, .. } = self.tickets[place];
                return Reply::Granted { token, lease };
            }
        };
        let owner = self.owner_by_name(realm, owner);
        self.grant_to_owner(owner, key, lease)
    }

    /// The owner gives its hold back.
    pub(super) fn yield_claim(
        &mut self,
        (space, name): (Space, &[u8]),
        realm: Realm,
        owner: &[u8],
        out: &mut Outbox,
    ) -> Reply {
        let Some(place) = self.find_claim(space, name, realm, owner) else {
            return Reply::Refused(Refusal::Error);
        };
        self.end(place, End::Released, SessionId::NOBODY, out);
        Reply::Released
    }

    /// The hold of a lock that this owner has.
    fn find_claim(&self, space: Space, name: &[u8], realm: Realm, owner: &[u8]) -> Option<u32> {
        let owner = self.find_owner(realm, owner)?;
        let key = self.find(self.secret.hash(space, name), space, name)?;
        assert!(self.keys[key].limit() == 1, "only locks are claimed");
        let first = self.keys[key].tickets.first;
        let is_its = self.keys[key].idle().is_none()
            && self.keys[key].held == 1
            && self.owner_of(self.tickets[first].member) == owner;
        is_its.then_some(first)
    }
}
