//! Claims: holds that belong to an owner of distlockd's realm, and to no session. The owner's name alone takes a claim
//! and gives it back; otherwise the end of its lease ends it. Invariant: a claim never waits.

use super::Locks;
use super::acquire::Wish;
use super::event::End;
use super::ticket::Ticket;
use crate::command::{Realm, Refusal, Reply, SessionId, Space};
use crate::facts::Outbox;

impl Locks {
    /// Takes a slot of the key for the owner, if one is free or the owner holds the key already.
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
            // The owner's own hold is granted again, with a new lease: the first answer may have been lost.
            entered => {
                let Some(place) = self.find_claim(wish.space, wish.name, realm, owner) else {
                    if let Ok((key, _)) = entered {
                        self.retire_if_unused(key);
                    }
                    return Reply::Timeout;
                };
                self.set_due(place, self.now.saturating_add(lease), out);
                let Ticket { token, .. } = self.tickets[place];
                return Reply::Granted { token, lease };
            }
        };
        let owner = self.owner_by_name(realm, owner);
        self.counts.claimed += 1;
        self.grant_to_owner(owner, key, lease, (None, None), out)
    }

    /// Gives the owner's hold back.
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

    /// The hold that this owner has of a lock.
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
