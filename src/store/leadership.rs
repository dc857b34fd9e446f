//! Which of several servers leads, and which batches of its facts the store that they share has kept. No network, no
//! thread and no clock: what is to be asked goes out, answers and time come in. Invariant: each change names the revision
//! of the head that its server saw last, and the store makes it only if that is still so. So a server that is told that a
//! change was made knows all that was kept before it, and from the moment at which another one takes the lead nothing of
//! this one is kept any more.
//!
//! The head says who leads. A leader changes it with each batch, and when it has been silent for a fifth of its
//! patience. A server that stands by takes the lead, which is such a change as well, when the head has not changed for as
//! long as it has patience, when its leader has left, or when this very node led: then that was a former life.
//!
//! A request without an answer may have been carried out. It is asked again, word for word, until there is an answer: if
//! the head is not what it names any more but has the life and the number of the change, it was made.

use std::collections::VecDeque;

use crate::command::Us;

/// How often a server that stands by looks.
const LOOK: Us = 250_000;
/// How long after a request that had no answer the next one goes out.
const PAUSE: Us = 50_000;
/// How long a page of batches may take, if that is longer than the patience: else a server that cannot read them would keep
/// the others from trying.
const PAGE: Us = 5_000_000;
/// How many bytes of batches an answer has at most, unless one alone has more: etcd reads and sends them in a fraction of
/// the time that it has for an answer. And how many batches, however small they are.
const PAGE_BYTES: u64 = 8 << 20;
const PAGE_BATCHES: u64 = 4096;
/// How long the store may take to give the lead.
const HOPE: Us = 1_000_000;
/// How often the store may forget what has been replaced, and how old that is then.
const COMPACT: Us = 10_000_000;

/// What the store says of who leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Drawn by the first server that ever led.
    pub cluster: [u8; 16],
    /// Drawn by each server when it starts.
    pub life: [u8; 16],
    /// The server, by a name that it has in each of its lives.
    pub node: String,
    /// Where its clients find it.
    pub address: String,
    /// How many changes were made. A batch has the number of the change that it came with.
    pub number: u64,
    /// The bytes of the largest batch that is kept: so a new leader knows how many of them are not too much for an answer.
    pub largest: u64,
    /// Its server has read what those before had kept, and leads. One that ends before it does so is followed like any
    /// other: else it could take the lead and fail for ever, and keep the others from it.
    pub leads: bool,
    /// Its server has stopped, and whoever stands by may lead at once.
    pub left: bool,
}

/// A change of the head, with what else happens in the same moment. It is made whole or not at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// It is made only if the head was changed last at this revision of the store; 0 if there must be no head.
    pub revision: u64,
    /// What the head is then.
    pub head: Head,
    /// A batch that is added under the number of the head.
    pub batch: Option<Vec<u8>>,
    /// Batches with lower numbers than this are removed.
    pub keep_from: Option<u64>,
}

/// What the store is asked. There is one request at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// The head, as it is now for all.
    Look,
    /// A change.
    Change(Change),
    /// The oldest batches from this number on.
    Load {
        /// The lowest number.
        from: u64,
        /// How many at most.
        count: u64,
    },
    /// To forget all that was replaced before this revision.
    Compact {
        /// The revision.
        revision: u64,
    },
}

/// What the store answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// Nothing that can be relied on: what was asked may have happened, and may still happen.
    Nothing,
    /// The head, if there is one, and the revision at which it was changed last.
    Head(Option<(u64, Head)>),
    /// The change was made, and this is the revision of the head now.
    Changed(u64),
    /// The change was not made, because this is the head.
    Refused(Option<(u64, Head)>),
    /// Batches with their numbers, lowest first, and whether there are more.
    Batches(Vec<(u64, Vec<u8>)>, bool),
    /// What was replaced is forgotten.
    Compacted,
}

/// What came of an answer, or of a silence.
#[derive(PartialEq, Eq, Debug)]
pub enum Event {
    /// Nothing that others must act on.
    Nothing,
    /// This server leads: what the leaders before have kept is read now.
    Took,
    /// Some of that, in the order in which it was kept, and whether it is all.
    Read(Vec<(u64, Vec<u8>)>, bool),
    /// The batch that was given is kept.
    Kept,
    /// The others know that this server stops.
    Left,
    /// This server leads no more, and must not say another word.
    Lost(Loss),
}

/// Why a server leads no more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Loss {
    /// A server of another name leads, which is this one.
    Taken(String),
    /// A server of the same name has taken the lead, shortly after this one.
    SameName,
    /// The store has said nothing for so long that others may lead.
    Silence,
    /// Nobody leads, so somebody has removed what the store had.
    Removed,
}

/// Facts on their way to the store, in parts of which each fits into a change.
#[derive(Default)]
pub struct Batch {
    /// The parts, none of them empty.
    pub parts: VecDeque<Vec<u8>>,
    /// With the first of them all holds begin to be stated again.
    pub begins_sweep: bool,
    /// With the last of them that has come to its end, so that nobody needs the batches from before it.
    pub ends_sweep: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Another one leads, perhaps.
    StandingBy,
    /// It has asked for the lead.
    Taking,
    /// It leads, and reads the batches from this number on.
    Loading(u64),
    Leading,
    Leaving,
    Over,
}

/// One server's part in it.
pub struct Leadership {
    phase: Phase,
    /// The head, as this server makes it with its next change, and as it was seen last while another one led.
    next: Head,
    seen: Option<Head>,
    patience: Us,
    /// The revision of the head that was seen last.
    revision: u64,
    /// Since when it has been that, while this server stands by.
    unchanged: Option<Us>,
    /// The last change, until it is known what became of it.
    change: Option<Change>,
    /// When the request went out that has no answer yet.
    asked: Option<Us>,
    /// No request goes out before.
    pause: Us,
    /// When the last request went out that had an answer, and when the last change did.
    answered: Us,
    changed: Us,
    /// When this server asked for the lead or took it, and when it has read the last of what those before had kept.
    took: Us,
    read: Us,
    has_led: bool,
    batch: Batch,
    /// Whether a batch was given whose end is not known.
    has_batch: bool,
    /// The number of the batch with which the sweep began that goes on, or is over last, and the bytes of the largest one
    /// since then.
    swept: u64,
    largest: u64,
    /// How many batches are asked for at once, and at most.
    page: u64,
    page_max: u64,
    compacts: bool,
    /// When the store was last asked to forget, and the revision at that time.
    compacted: (Us, u64),
}

impl Leadership {
    /// A server that stands by. `head` has its life, its node and its address, and the cluster that it founds if nobody has
    /// ever led. `patience` is how long a leader may be silent, at least 1 s; `compacts`, whether the store is asked to
    /// forget what was replaced.
    pub fn new(head: Head, patience: Us, compacts: bool, now: Us) -> Leadership {
        Leadership {
            phase: Phase::StandingBy,
            next: head,
            seen: None,
            patience,
            revision: 0,
            unchanged: None,
            change: None,
            asked: None,
            pause: now,
            answered: now,
            changed: now,
            took: 0,
            read: 0,
            has_led: false,
            batch: Batch::default(),
            has_batch: false,
            swept: 0,
            largest: 0,
            page: 1,
            page_max: 1,
            compacts,
            compacted: (now, 0),
        }
    }

    /// Whether this server leads and has all that those before it have kept.
    pub fn leads(&self) -> bool {
        self.phase == Phase::Leading
    }

    /// Whether a batch can be given.
    pub fn wants_batch(&self) -> bool {
        self.leads() && !self.has_batch
    }

    /// Whether this server has not asked for the lead.
    pub fn stands_by(&self) -> bool {
        self.phase == Phase::StandingBy
    }

    /// Whether this server should have a place for clients: it leads, or is about to. A store that it can read and not
    /// change does not answer in time, and clients that wait here would not look for another server.
    pub fn is_to_lead(&self, now: Us) -> bool {
        match self.phase {
            Phase::Taking => now < self.took.saturating_add(HOPE),
            Phase::Loading(_) | Phase::Leading => true,
            Phase::StandingBy | Phase::Leaving | Phase::Over => false,
        }
    }

    /// The head as this server would have it, with the number of the last change.
    pub fn head(&self) -> &Head {
        &self.next
    }

    /// Who led when this server looked last.
    pub fn leader(&self) -> Option<&Head> {
        self.seen.as_ref().filter(|head| !head.left)
    }

    /// The revision of the head that was seen last.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// When the last request went out that had an answer.
    pub fn answered(&self) -> Us {
        self.answered
    }

    /// Gives a batch to be kept.
    ///
    /// # Panics
    /// One is there already, or this server does not lead.
    pub fn give(&mut self, batch: Batch) {
        assert!(self.wants_batch() && !batch.parts.is_empty());
        (self.batch, self.has_batch) = (batch, true);
    }

    /// This server stops: once what was given is kept, the others are to know. Returns [`Event::Left`] if there is nothing
    /// to wait for.
    pub fn leave(&mut self) -> Event {
        match self.phase {
            Phase::Loading(_) | Phase::Leading | Phase::Leaving => {
                self.phase = Phase::Leaving;
                Event::Nothing
            }
            // It may be made.
            Phase::Taking if self.change.is_some() => {
                self.phase = Phase::Leaving;
                Event::Nothing
            }
            Phase::StandingBy | Phase::Taking | Phase::Over => {
                self.phase = Phase::Over;
                Event::Left
            }
        }
    }

    /// The store may not be asked to forget anything.
    pub fn stop_compacting(&mut self) {
        self.compacts = false;
    }

    /// What to ask now. The answer goes to [`Leadership::told`].
    pub fn ask(&mut self, now: Us) -> Option<Ask> {
        if self.asked.is_some() || now < self.pause {
            return None;
        }
        let ask = match self.phase {
            Phase::StandingBy => Ask::Look,
            Phase::Loading(from) if self.change.is_none() && now < self.beat() => {
                let count = self.page;
                Ask::Load { from, count }
            }
            Phase::Over => return None,
            // Not only when there is nothing else to ask: then a store under load would forget nothing.
            Phase::Leading if self.change.is_none() => match self.compact(now) {
                Some(ask) => ask,
                None => self.change(now)?,
            },
            _ => self.change(now)?,
        };
        self.asked = Some(now);
        Some(ask)
    }

    /// The change that is in doubt, else the next one, if there is a reason for one.
    fn change(&mut self, now: Us) -> Option<Ask> {
        if self.change.is_none() {
            let is_late = now >= self.beat();
            let part = self.batch.parts.pop_front();
            let leaves = self.phase == Phase::Leaving && part.is_none();
            if part.is_none() && !leaves && !is_late && self.phase != Phase::Taking {
                return None;
            }
            self.next.number += 1;
            self.next.leads = self.phase == Phase::Leading;
            self.next.left = leaves;
            let ends_sweep = part
                .as_ref()
                .is_some_and(|part| self.count(part.len() as u64));
            self.change = Some(Change {
                revision: self.revision,
                head: self.next.clone(),
                batch: part,
                keep_from: ends_sweep.then_some(self.swept),
            });
        }
        self.change.clone().map(Ask::Change)
    }

    /// The next change has a part of so many bytes. Whether that is the end of a sweep.
    fn count(&mut self, bytes: u64) -> bool {
        if std::mem::take(&mut self.batch.begins_sweep) {
            (self.swept, self.largest) = (self.next.number, 0);
        }
        self.largest = self.largest.max(bytes);
        self.next.largest = self.next.largest.max(bytes);
        let is_last = self.batch.parts.is_empty();
        let ends_sweep = is_last && std::mem::take(&mut self.batch.ends_sweep);
        if ends_sweep {
            // Those before it go with this change.
            self.next.largest = self.largest;
        }
        ends_sweep
    }

    fn compact(&mut self, now: Us) -> Option<Ask> {
        let (at, revision) = self.compacted;
        if !self.compacts || now < at.saturating_add(COMPACT) {
            return None;
        }
        self.compacted = (now, self.revision);
        // What is forgotten already cannot be forgotten again.
        let has_risen = revision < self.revision;
        (revision > 0 && has_risen).then_some(Ask::Compact { revision })
    }

    /// When a leader that has nothing to keep says that it is there: first as soon as it leads.
    fn beat(&self) -> Us {
        let is_known = self.next.leads || self.phase != Phase::Leading;
        let pause = if is_known { self.patience / 5 } else { 0 };
        self.changed.saturating_add(pause)
    }

    /// The answer to what was asked. `now` is when it came.
    pub fn told(&mut self, now: Us, told: Told) -> Event {
        let asked = self.asked.take().expect("one answer for one request");
        if told == Told::Nothing {
            self.pause = now.saturating_add(PAUSE);
            // Somebody may have led meanwhile.
            self.unchanged = None;
            // It may have been too much.
            self.page = (self.page / 4).max(1);
            return self.silence(now);
        }
        self.answered = asked;
        match (self.phase, told) {
            // The lead was given up meanwhile.
            (Phase::Over, _) => Event::Nothing,
            (Phase::StandingBy, Told::Head(head)) => {
                self.pause = asked.saturating_add(LOOK);
                self.look(asked, now, head)
            }
            (Phase::Loading(_), Told::Batches(batches, has_more)) => {
                self.read = now;
                // A failure need not have been for its length.
                self.page = (self.page * 4).min(self.page_max);
                self.phase = match batches.last() {
                    Some((last, _)) if has_more => Phase::Loading(last.saturating_add(1)),
                    _ => Phase::Leading,
                };
                self.has_led |= self.leads();
                Event::Read(batches, self.leads())
            }
            (_, Told::Changed(revision)) => self.changed(now, revision),
            (_, Told::Refused(head)) => self.refused(now, head),
            (Phase::Leaving, Told::Batches(..)) | (_, Told::Compacted) => Event::Nothing,
            (phase, told) => unreachable!("{told:?} while {phase:?}"),
        }
    }

    /// Time has passed.
    pub fn silence(&mut self, now: Us) -> Event {
        match self.gives_up().is_some_and(|due| due <= now) {
            true => self.lost(Loss::Silence),
            false => Event::Nothing,
        }
    }

    /// When a server that has the lead gives it up, unless the store says something before.
    fn gives_up(&self) -> Option<Us> {
        let silence = self.answered.saturating_add(self.patience);
        match self.phase {
            Phase::Leading | Phase::Leaving => Some(silence),
            Phase::Loading(_) => {
                let page = self.read.saturating_add(self.patience.max(PAGE));
                Some(silence.min(page))
            }
            Phase::StandingBy | Phase::Taking | Phase::Over => None,
        }
    }

    /// When [`Leadership::ask`] or [`Leadership::silence`] is to be called, if nothing happens before.
    pub fn deadline(&self) -> Option<Us> {
        let next = match self.phase {
            Phase::Over => return None,
            _ if self.asked.is_some() => return self.gives_up(),
            Phase::Leading if self.change.is_none() && self.batch.parts.is_empty() => self.beat(),
            _ => self.pause,
        };
        Some(next.max(self.pause))
    }

    /// The head, as it was at some moment since `asked`.
    fn look(&mut self, asked: Us, now: Us, head: Option<(u64, Head)>) -> Event {
        let Some((revision, head)) = head else {
            return self.take(now, 0);
        };
        let is_free = head.left || head.leads && head.node == self.next.node;
        self.next.cluster = head.cluster;
        (self.next.number, self.next.largest) = (head.number, head.largest);
        self.seen = Some(head);
        let is_same = std::mem::replace(&mut self.revision, revision) == revision;
        match self.unchanged {
            _ if is_free => return self.take(now, revision),
            Some(since) if is_same => {
                if asked >= since.saturating_add(self.patience) {
                    return self.take(now, revision);
                }
            }
            _ => self.unchanged = Some(now),
        }
        Event::Nothing
    }

    fn take(&mut self, now: Us, revision: u64) -> Event {
        self.took = now;
        self.revision = revision;
        self.unchanged = None;
        self.pause = 0;
        self.phase = Phase::Taking;
        Event::Nothing
    }

    fn changed(&mut self, now: Us, revision: u64) -> Event {
        let change = self.change.take().expect("one was asked for");
        (self.revision, self.changed) = (revision, self.answered);
        match self.phase {
            Phase::Taking => {
                self.phase = Phase::Loading(0);
                (self.took, self.read) = (now, now);
                self.compacted = (now, 0);
                self.page_max = (PAGE_BYTES / change.head.largest.max(1)).clamp(1, PAGE_BATCHES);
                self.page = self.page_max;
                Event::Took
            }
            Phase::Leaving if change.head.left => {
                self.phase = Phase::Over;
                Event::Left
            }
            _ if change.batch.is_some() && self.batch.parts.is_empty() => {
                self.has_batch = false;
                Event::Kept
            }
            _ => Event::Nothing,
        }
    }

    fn refused(&mut self, now: Us, head: Option<(u64, Head)>) -> Event {
        let change = self.change.as_ref().expect("one was asked for");
        match head {
            Some((revision, head))
                if (head.life, head.number) == (change.head.life, change.head.number) =>
            {
                self.changed(now, revision)
            }
            _ if self.phase == Phase::Taking => {
                // Another one was faster.
                (self.phase, self.change) = (Phase::StandingBy, None);
                Event::Nothing
            }
            Some((_, head)) if head.node == self.next.node => {
                let is_soon = now < self.took.saturating_add(self.patience);
                self.lost(match is_soon {
                    true => Loss::SameName,
                    false => Loss::Taken(head.node),
                })
            }
            Some((_, head)) => self.lost(Loss::Taken(head.node)),
            None => self.lost(Loss::Removed),
        }
    }

    fn lost(&mut self, loss: Loss) -> Event {
        let leaves = self.phase == Phase::Leaving && !self.has_led;
        self.phase = Phase::Over;
        match leaves {
            true => Event::Left,
            false => Event::Lost(loss),
        }
    }
}

#[cfg(test)]
mod tests;
