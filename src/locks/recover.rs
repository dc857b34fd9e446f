//! The holds of a table as facts, and a table from facts. What happened to a hold is stated where it happens; a
//! restatement goes over all holds, so that older facts can be forgotten. Invariant: a recovered hold has the token that
//! its client was told of, and ends no sooner than its client was told.
//!
//! Sessions do not outlive the process. A recovered hold of a declared owner is that owner's, as if its session had left
//! it. Any other one that was bound by its session is nobody's: it passes to the session that renews it.

use super::Locks;
use super::attempt::Attempt;
use super::extra::Extra;
use super::key::Key;
use super::ticket::Ticket;
use crate::base::slab::NIL;
use crate::command::{Bound, Us};
use crate::facts::{Facts, Held, Outbox, Unfit};

/// A turn states holds again until it has so many bytes. The last hold may go beyond, because names and notes can be long.
const RESTATED_A_TURN: usize = 128 * 1024;

impl Locks {
    /// Makes the hold again, at the time `now`. To be called before the first command, for each hold in the order of
    /// their fences. A hold of which no client knows is dropped. The key is made even if there are too many.
    ///
    /// # Errors
    /// No table can have had the hold, beside those that were recovered before.
    pub fn recover(&mut self, now: Us, held: &Held) -> Result<(), Unfit> {
        self.now = self.now.max(now);
        if !held.told {
            return Ok(());
        }
        let is_attempt = held.attempt.is_some() || held.renews.is_some() || held.note.is_some();
        if is_attempt && held.bound == Bound::Session {
            return Err(Unfit);
        }
        let owner = match held.owner {
            Some((realm, name)) => self.owner_by_name(realm, name),
            None if is_attempt => return Err(Unfit),
            None => NIL,
        };
        let key = self.key_for(held);
        let last = self.keys[key].tickets.last;
        let follows = last == NIL || self.tickets[last].token.fence < held.token.fence;
        let fits = self.keys[key].held < held.limit && self.keys[key].limit() == held.limit;
        let has_begun = held.since <= self.now && held.token.fence < self.next_fence;
        if !follows || !fits || !has_begun {
            return Err(Unfit);
        }
        let ticket = Ticket::new(held.since, key, NIL, held.lease);
        let place = self.tickets.insert(ticket);
        self.keys[key].tickets.push_back(&mut self.tickets, place);
        let (attempt, due) = match is_attempt {
            true => self.recover_attempt(owner, place, held),
            false => (NIL, held.end),
        };
        match (owner, held.bound) {
            (NIL, Bound::Session) => self.give_to_nobody(place),
            _ => self.give_to_owner((owner, attempt), place, held.bound),
        }
        self.begin_hold(place, held.token, (held.since, due));
        if attempt != NIL {
            self.index_attempt(attempt);
        }
        self.spans
            .set(place, self.promised(place).saturating_sub(self.now));
        self.counts.adopted += 1;
        Ok(())
    }

    /// States up to `count` holds again, from this place of a ticket on, and no more than a turn has time for. Returns the
    /// place to go on from, None at the end.
    pub fn restate(&self, from: u32, count: u32, facts: &mut Facts) -> Option<u32> {
        let end = from.saturating_add(count).min(self.tickets.places());
        let mut place = from;
        while place < end && facts.bytes().len() < RESTATED_A_TURN {
            if !self.tickets[place].is_vacant() && !self.tickets[place].waits() {
                let attempt = self.attempt_of(self.tickets[place].member);
                facts.held(&self.held_at(place, attempt));
            }
            place += 1;
        }
        (place < self.tickets.places()).then_some(place)
    }

    /// How long the last hold still runs that a client was told of; 0 if there is none. Looks at all holds.
    pub fn left(&self, now: Us) -> Us {
        let places = (0..self.tickets.places()).filter(|&place| {
            let ticket = &self.tickets[place];
            !ticket.is_vacant() && !ticket.waits() && self.is_told(place)
        });
        let ends = places.map(|place| self.promised(place));
        ends.max().map_or(0, |end| end.saturating_sub(now))
    }

    /// The hold is as it is now.
    #[inline]
    pub(super) fn state_hold(&mut self, place: u32, out: &mut Outbox) {
        if out.facts.is_on() {
            self.add_held(place, &mut out.facts);
        }
    }

    #[inline(never)]
    fn add_held(&mut self, place: u32, facts: &mut Facts) {
        let Ticket { due, member, .. } = self.tickets[place];
        // Most holds have no attempt, and a record of those is written in half the time.
        match self.attempt_of(member) {
            NIL => {
                self.note_promise(place, due, facts);
                facts.held_plainly(&self.held_at(place, NIL));
            }
            attempt => {
                self.note_promise(place, self.promised(place), facts);
                facts.held(&self.held_at(place, attempt));
            }
        }
    }

    /// The lease of the hold was renewed.
    pub(super) fn state_renewal(&mut self, place: u32, out: &mut Outbox) {
        let Ticket {
            token, due, member, ..
        } = self.tickets[place];
        if self.attempt_of(member) == NIL {
            self.note_promise(place, due, &mut out.facts);
            return out.facts.renewed(token.fence, due);
        }
        self.note_promise(place, self.promised(place), &mut out.facts);
        let (end, ..) = self.terms_of(place);
        out.facts.renewed(token.fence, end.max(due));
    }

    /// The hold ends.
    pub(super) fn state_end(&mut self, place: u32, out: &mut Outbox) {
        self.spans.end(place);
        out.facts.ended(self.tickets[place].token.fence);
    }

    /// A client may count on the hold until then.
    #[inline(always)]
    fn note_promise(&mut self, place: u32, until: Us, facts: &mut Facts) {
        let span = until.saturating_sub(self.now);
        self.spans.set(place, span);
        facts.promise(span);
    }

    /// Until when a client may count on the hold.
    fn promised(&self, place: u32) -> Us {
        let Ticket { due, member, .. } = self.tickets[place];
        if self.attempt_of(member) == NIL {
            return due;
        }
        let (end, until, _) = self.terms_of(place);
        end.max(until.unwrap_or(0)).max(due)
    }

    /// The hold of this ticket, with its attempt.
    #[inline(always)]
    fn held_at(&self, place: u32, attempt: u32) -> Held<'_> {
        let Ticket {
            token,
            due,
            since,
            lease,
            key,
            member,
            ..
        } = self.tickets[place];
        let key = &self.keys[key];
        let (end, note) = match attempt {
            NIL => (due, None),
            _ => {
                let (end, _, note) = self.terms_of(place);
                (end, note)
            }
        };
        Held {
            token,
            space: key.space(),
            limit: key.limit(),
            key: key.name(),
            owner: self.named_owner(member),
            lease,
            // Until the first step of a hold that renews itself, its lease ends when it is due.
            end: end.max(due),
            since,
            told: match attempt {
                NIL => !self.is_untold(place),
                attempt => !self.attempt(attempt).untold,
            },
            bound: self.bound_of(member),
            attempt: (attempt != NIL)
                .then(|| self.attempt(attempt).given_name())
                .flatten(),
            renews: match attempt {
                NIL => None,
                attempt => self.extra(attempt).and_then(Extra::renews),
            },
            note,
        }
    }

    /// Whether a client may know the token of the hold.
    fn is_told(&self, place: u32) -> bool {
        let attempt = self.attempt_of(self.tickets[place].member);
        if attempt != NIL {
            return !self.attempt(attempt).untold;
        }
        !self.is_untold(place)
    }

    /// The key of the hold, which is made if there is none.
    fn key_for(&mut self, held: &Held) -> u32 {
        let hash = self.secret.hash(held.space, held.key);
        if let Some(key) = self.find(hash, held.space, held.key) {
            return key;
        }
        let key = Key::new(held.space, held.key, held.limit);
        let key = self.keys.insert(key);
        self.table.insert(hash, key);
        key
    }

    fn recover_attempt(&mut self, owner: u32, place: u32, held: &Held) -> (u32, Us) {
        let attempt = self.attempts.slab.insert(Attempt::recovered(
            owner,
            place,
            held.attempt.unwrap_or_default(),
        ));
        let due = match (held.renews, held.note) {
            (None, None) => held.end,
            _ => self.recover_extra(attempt, held),
        };
        (attempt, due)
    }
}
