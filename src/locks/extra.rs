//! What an attempt may ask for besides a hold: a kept place, a note, and a lease that is renewed without its client.
//! Invariant: a hold that renews itself ends when its client has not been heard of for as long as it asked for.

use super::Locks;
use super::ticket::Ticket;
use crate::base::slab::NIL;
use crate::command::{Renewal, Terms, Us};
use crate::facts::{Held, Outbox, Renews};

/// What few attempts ask for.
#[derive(Default)]
pub(super) struct Extra {
    pub keep: Us,
    renewal: Option<Renewal>,
    /// While the hold renews itself: until when, for how long with each step, and when its lease ends. Its ticket is due
    /// at the next step, and has the lease of its grant, which is that of a renewal which names none.
    until: Us,
    step: Us,
    end: Us,
    note: Option<Box<[u8]>>,
}

impl Locks {
    pub(super) fn extra(&self, attempt: u32) -> Option<&Extra> {
        let extra = (attempt != NIL).then(|| self.attempts.slab[attempt].extra)?;
        (extra != NIL).then(|| &self.attempts.extras[extra])
    }

    pub(super) fn extra_mut(&mut self, attempt: u32) -> Option<&mut Extra> {
        let extra = (attempt != NIL).then(|| self.attempts.slab[attempt].extra)?;
        (extra != NIL).then(|| &mut self.attempts.extras[extra])
    }

    /// The attempt asks for this from now on.
    pub(super) fn set_extra(&mut self, attempt: u32, terms: &Terms) {
        let former = std::mem::replace(&mut self.attempts.slab[attempt].extra, NIL);
        if former != NIL {
            self.attempts.extras.remove(former);
        }
        let &Terms {
            keep,
            renewal,
            note,
            ..
        } = terms;
        if keep > 0 || renewal.is_some() || note.is_some() {
            self.attempts.slab[attempt].extra = self.attempts.extras.insert(Extra {
                keep,
                renewal,
                note: note.map(Box::from),
                ..Extra::default()
            });
        }
    }

    /// The hold begins, or its client was heard of: if it renews itself, the time for that begins anew, with steps of
    /// this lease. Returns whether it does.
    pub(super) fn begin_renewal(&mut self, place: u32, lease: Us, out: &mut Outbox) -> bool {
        let Ticket { member, .. } = self.tickets[place];
        let (attempt, now) = (self.attempt_of(member), self.now);
        let Some(extra) = self.extra_mut(attempt) else {
            return false;
        };
        let Some(renewal) = extra.renewal else {
            return false;
        };
        extra.end = extra.end.max(now.saturating_add(lease));
        extra.until = extra.end.max(now.saturating_add(renewal.within));
        extra.step = lease;
        let due = extra.next_step(now);
        self.set_due(place, due, out);
        self.state_hold(place, out);
        true
    }

    /// A place that was kept is a hold now: it renews itself from the next repeat on, if it does.
    pub(super) fn put_off_renewal(&mut self, place: u32) {
        let Ticket { due, member, .. } = self.tickets[place];
        let attempt = self.attempt_of(member);
        if let Some(extra) = self.extra_mut(attempt) {
            (extra.end, extra.until) = (due, due);
        }
    }

    /// A client renews a hold: its lease ends so much later than now.
    pub(super) fn renew_hold(&mut self, place: u32, lease: Us, out: &mut Outbox) {
        let end = self.now.saturating_add(lease);
        let attempt = self.attempt_of(self.tickets[place].member);
        match self.extra_mut(attempt) {
            Some(extra) if extra.renewal.is_some() => {
                extra.end = end;
                self.begin_renewal(place, lease, out);
            }
            _ => self.set_due(place, end, out),
        }
    }

    /// The hold is due. If it renews itself and its lease has not ended by `heard`, it takes a step: true. Its timer is
    /// to be filed again.
    pub(super) fn renews_itself(&mut self, place: u32, heard: Us, out: &mut Outbox) -> bool {
        let Ticket { member, .. } = self.tickets[place];
        let (attempt, now) = (super::owner::attempt_of_orphan(member), self.now);
        let Some(extra) = self.extra_mut(attempt) else {
            return false;
        };
        if extra.renewal.is_none() || extra.end <= heard {
            return false;
        }
        extra.end = extra
            .end
            .max(now.saturating_add(extra.step).min(extra.until));
        let due = extra.next_step(now);
        self.counts.renewals += 1;
        self.set_due(place, due, out);
        true
    }

    /// The hold of this attempt had these terms in a former life of the server. If it renews itself and missed steps
    /// meanwhile, it takes one now. Returns when it is due.
    pub(super) fn recover_extra(&mut self, attempt: u32, held: &Held) -> Us {
        let (now, end) = (self.now, held.end);
        let mut extra = Extra {
            note: held.note.map(Box::from),
            end,
            ..Extra::default()
        };
        if let Some(Renews {
            renewal,
            step,
            until,
        }) = held.renews
        {
            extra.renewal = Some(renewal);
            (extra.step, extra.until) = (step, until.max(end));
            if now < until {
                extra.end = end.max(now.saturating_add(step).min(until));
            }
        }
        let due = match extra.renewal {
            Some(_) => extra.next_step(now),
            None => end,
        };
        self.attempts.slab[attempt].extra = self.attempts.extras.insert(extra);
        due
    }

    /// When the lease of a hold ends, until when it renews itself, and its note.
    pub(super) fn terms_of(&self, place: u32) -> (Us, Option<Us>, Option<&[u8]>) {
        let Ticket { due, member, .. } = self.tickets[place];
        let Some(extra) = self.extra(self.attempt_of(member)) else {
            return (due, None, None);
        };
        let note = extra.note.as_deref();
        match extra.renewal {
            Some(_) if !self.tickets[place].waits() => (extra.end, Some(extra.until), note),
            _ => (due, None, note),
        }
    }
}

impl Extra {
    /// How the hold renews itself, if it does.
    pub fn renews(&self) -> Option<Renews> {
        let (step, until) = (self.step, self.until);
        self.renewal.map(|renewal| Renews {
            renewal,
            step,
            until,
        })
    }

    /// When the hold takes its next step; at the last one its lease ends.
    fn next_step(&self, now: Us) -> Us {
        if self.end >= self.until {
            return self.end;
        }
        let every = self.renewal.map_or(self.step, |renewal| renewal.every);
        let every = every.min(self.step / 3).max(1);
        self.end.min(now.saturating_add(every))
    }
}
