//! Pub/sub signals: which sessions listen to which patterns, and which of them a signal to a channel goes to. No signal
//! is stored: a session that does not listen at that moment never gets it. Nothing is sent here: the hub does that.
//! Invariant: `check`; and work that grows with the number of listeners is cut into slices.
//!
//! The listeners of one pattern and one group are an audience, in the order in which they came. Without a group all of
//! an audience get a signal; in a group its members take turns. Audiences hang on their pattern (`patterns.rs`); a
//! signal walks the patterns that match its channel (`emission.rs`).

mod check;
mod emission;
mod patterns;

use std::collections::VecDeque;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::base::grid::Grid;
use crate::base::list::{Linked, List, Neighbours};
use crate::base::name::Name;
use crate::base::slab::{NIL, Slab};
use crate::base::table::Table;
use crate::command::SessionId;
use emission::Emission;
pub use emission::Next;
use patterns::{OF_PATTERN, Patterns};

/// All subscriptions, and the signals that are under way to them.
pub struct Signals {
    hash: Hash,
    patterns: Patterns,
    audiences: Slab<Audience>,
    by_group: Table,
    subscriptions: Slab<Subscription>,
    by_listener: Table,
    /// Indexed by the slot of the session.
    listeners: Grid<Listener>,
    /// Slots of sessions that are gone and still have subscriptions.
    leaving: VecDeque<u32>,
    /// Signals under way; a place is used again.
    emissions: Vec<Emission>,
    /// How many emissions have begun.
    emitted: u64,
    /// Subscriptions that a session may have; 0 sets no limit.
    most: u32,
}

/// The listeners of one pattern and one group.
struct Audience {
    /// NIL in a free place.
    pattern: u32,
    /// Empty without a group.
    group: Name,
    members: List<OF_AUDIENCE>,
    count: u32,
    /// In a group: the subscription whose turn it is; NIL for the oldest.
    turn: u32,
    lane: Neighbours,
}

/// One listener in one audience.
struct Subscription {
    audience: u32,
    /// NIL in a free place.
    listener: u32,
    lanes: [Neighbours; 2],
}

/// Fuel for one session that is gone, before the next one has its turn.
const LEAVE_SLICE: u32 = 500;

/// The lanes of [`List`]: subscriptions of one audience, and of one listener.
const OF_AUDIENCE: usize = 0;
const OF_LISTENER: usize = 1;

#[derive(Default)]
struct Listener {
    id: SessionId,
    subscriptions: List<OF_LISTENER>,
    count: u32,
    leaving: bool,
}

/// What a listing shows of an audience.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View<'a> {
    /// The pattern, as sent.
    pub pattern: Vec<u8>,
    /// Its group; empty without one.
    pub group: &'a [u8],
    /// How many sessions listen.
    pub listeners: u32,
}

impl Signals {
    /// An empty set. A session may have `most` subscriptions; 0 sets no limit. Clients choose patterns and groups, so
    /// hashes are keyed with `secret`, 16 random bytes.
    pub fn new(most: u32, secret: &[u8; 16]) -> Signals {
        let hash = Hash(SipHasher13::new_with_key(secret));
        Signals {
            hash,
            patterns: Patterns::new(),
            audiences: Slab::new(),
            by_group: Table::new(),
            subscriptions: Slab::new(),
            by_listener: Table::new(),
            listeners: Grid::new(),
            leaving: VecDeque::new(),
            emissions: Vec::new(),
            emitted: 0,
            most,
        }
    }

    /// The session listens to `pattern`, in a group unless `group` is empty. If it does already, nothing changes. False
    /// if this would be one subscription too many.
    pub fn listen(&mut self, id: SessionId, pattern: &[u8], group: &[u8]) -> bool {
        let slot = self.ensure_listener(id);
        if self.find(slot, pattern, group).is_some() {
            return true;
        }
        let count = self.listeners[slot as usize].count;
        if self.most > 0 && count >= self.most {
            return false;
        }
        let audience = self.audience(pattern, group);
        let place = self.subscriptions.insert(Subscription {
            audience,
            listener: slot,
            lanes: [Neighbours::default(); 2],
        });
        self.by_listener
            .insert(self.hash.pair(audience, slot), place);
        let Audience { members, count, .. } = &mut self.audiences[audience];
        members.push_back(&mut self.subscriptions, place);
        *count += 1;
        let listener = &mut self.listeners[slot as usize];
        listener
            .subscriptions
            .push_back(&mut self.subscriptions, place);
        listener.count += 1;
        self.member_added(audience);
        true
    }

    /// The session stops listening to this. If it did not listen, nothing changes.
    pub fn unlisten(&mut self, id: SessionId, pattern: &[u8], group: &[u8]) {
        if self.has(id)
            && let Some(place) = self.find(id.slot(), pattern, group)
        {
            self.cancel(place);
        }
    }

    /// Whether the session listens to anything.
    pub fn has(&self, id: SessionId) -> bool {
        self.listeners
            .get(id.slot() as usize)
            .is_some_and(|listener| listener.id == id && listener.count > 0)
    }

    /// The session is gone, and gets no signal any more. True if nothing is left of it; else `leave_some` will return
    /// it.
    pub fn leave(&mut self, id: SessionId) -> bool {
        let slot = id.slot() as usize;
        if !self.has(id) {
            if self.listeners[slot].id == id {
                self.listeners.free(slot);
            }
            return true;
        }
        self.listeners[slot].leaving = true;
        self.leaving.push_back(id.slot());
        false
    }

    /// Removes subscriptions of sessions that are gone, a slice of each in turn. One costs a unit of fuel (some 100
    /// ns), and another for each part of a pattern that goes with it. Returns a session of which nothing is left now.
    pub fn leave_some(&mut self, fuel: &mut u32) -> Option<SessionId> {
        while *fuel > 0 {
            let slot = self.leaving.pop_front()?;
            let Listener { id, .. } = self.listeners[slot as usize];
            let mut slice = LEAVE_SLICE.min(*fuel);
            *fuel -= slice;
            while slice > 0 {
                let place = self.listeners[slot as usize].subscriptions.first;
                if place == NIL {
                    *fuel += slice - 1;
                    self.listeners.free(slot as usize);
                    return Some(id);
                }
                slice = slice.saturating_sub(self.cancel(place));
            }
            if *fuel > 0 {
                self.leaving.push_back(slot);
            } else {
                // The fuel ended within its slice: it goes first next time.
                self.leaving.push_front(slot);
            }
        }
        None
    }

    /// Whether sessions that are gone still have subscriptions.
    pub fn is_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// One above the highest place that [`Signals::view`] may be asked for.
    pub fn places(&self) -> u32 {
        self.audiences.places()
    }

    /// The audience at a place, None if the place is free. A listing may take many turns: it may miss, or see twice, an
    /// audience that comes or goes meanwhile.
    pub fn view(&self, place: u32) -> Option<View<'_>> {
        let audience = &self.audiences[place];
        (audience.pattern != NIL).then(|| View {
            pattern: self.patterns.text(audience.pattern),
            group: audience.group.bytes(),
            listeners: audience.count,
        })
    }

    /// The session's place in `listeners`, which is made on its first visit.
    fn ensure_listener(&mut self, id: SessionId) -> u32 {
        let slot = id.slot() as usize;
        let listener = self.listeners.take(slot);
        if listener.id != id {
            assert!(
                listener.count == 0,
                "a slot is used again only after its session has left"
            );
            *listener = Listener {
                id,
                ..Listener::default()
            };
        }
        assert!(!listener.leaving, "a session that is gone does not listen");
        slot as u32
    }

    fn find(&self, slot: u32, pattern: &[u8], group: &[u8]) -> Option<u32> {
        let pattern = self.patterns.find(&self.hash, pattern)?;
        let audience = self.find_audience(pattern, group)?;
        let is_it = |place: u32| {
            let subscription = &self.subscriptions[place];
            (subscription.audience, subscription.listener) == (audience, slot)
        };
        self.by_listener.find(self.hash.pair(audience, slot), is_it)
    }

    fn find_audience(&self, pattern: u32, group: &[u8]) -> Option<u32> {
        self.by_group.find(self.hash.part(pattern, group), |place| {
            let audience = &self.audiences[place];
            audience.pattern == pattern && audience.group.is(group)
        })
    }

    /// The audience of a pattern and a group, which is made if there is none.
    fn audience(&mut self, pattern: &[u8], group: &[u8]) -> u32 {
        let pattern = self.patterns.make(&self.hash, pattern);
        if let Some(place) = self.find_audience(pattern, group) {
            return place;
        }
        let place = self.audiences.insert(Audience {
            pattern,
            group: Name::new(group),
            ..Audience::default()
        });
        self.by_group.insert(self.hash.part(pattern, group), place);
        self.patterns
            .audiences(pattern)
            .push_back(&mut self.audiences, place);
        place
    }

    /// Ends a subscription. An audience goes with its last subscription, and a pattern with its last audience. Returns
    /// the cost, in fuel.
    fn cancel(&mut self, place: u32) -> u32 {
        self.move_off(place);
        let Subscription {
            audience, listener, ..
        } = self.subscriptions[place];
        self.by_listener
            .remove(self.hash.pair(audience, listener), place);
        let of = &mut self.listeners[listener as usize];
        of.subscriptions.remove(&mut self.subscriptions, place);
        of.count -= 1;
        let Audience {
            members,
            count,
            turn,
            pattern,
            group,
            ..
        } = &mut self.audiences[audience];
        if *turn == place {
            *turn = self.subscriptions[place].next(OF_AUDIENCE);
        }
        members.remove(&mut self.subscriptions, place);
        self.subscriptions.remove(place);
        *count -= 1;
        if *count > 0 {
            return 1;
        }
        let pattern = *pattern;
        let hash = self.hash.part(pattern, group.bytes());
        self.by_group.remove(hash, audience);
        self.patterns
            .audiences(pattern)
            .remove(&mut self.audiences, audience);
        self.audiences.remove(audience);
        1 + self.patterns.prune(&self.hash, pattern)
    }
}

impl Audience {
    fn is_group(&self) -> bool {
        !self.group.bytes().is_empty()
    }
}

impl Default for Audience {
    fn default() -> Audience {
        Audience {
            pattern: NIL,
            group: Name::default(),
            members: List::default(),
            count: 0,
            turn: NIL,
            lane: Neighbours::default(),
        }
    }
}

impl Default for Subscription {
    fn default() -> Subscription {
        Subscription {
            audience: NIL,
            listener: NIL,
            lanes: [Neighbours::default(); 2],
        }
    }
}

impl Linked for Subscription {
    fn lane(&mut self, lane: usize) -> &mut Neighbours {
        &mut self.lanes[lane]
    }

    fn next(&self, lane: usize) -> u32 {
        self.lanes[lane].next
    }
}

impl Linked for Audience {
    fn lane(&mut self, lane: usize) -> &mut Neighbours {
        assert!(lane == OF_PATTERN, "an audience is in one list");
        &mut self.lane
    }

    fn next(&self, _: usize) -> u32 {
        self.lane.next
    }
}

/// Keyed hashes for the tables here.
struct Hash(SipHasher13);

impl Hash {
    /// The hash of a name below a place: a part of a pattern below its parent, a group below its pattern.
    fn part(&self, under: u32, name: &[u8]) -> u32 {
        let mut hasher = self.0;
        hasher.write(&under.to_le_bytes());
        hasher.write(name);
        hasher.finish() as u32
    }

    fn pair(&self, audience: u32, listener: u32) -> u32 {
        self.part(audience, &listener.to_le_bytes())
    }
}

/// How many parts a pattern or a channel has.
pub fn parts(name: &[u8]) -> u32 {
    1 + name.iter().filter(|&&byte| byte == b'.').count() as u32
}
