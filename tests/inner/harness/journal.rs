//! What a network has seen, call by call: what the hub was asked to do, what it then had for each client, and how the
//! lock table looked. Whoever wants to know in which order things happened within a turn reads this.

use std::hash::{DefaultHasher, Hash, Hasher};

use dflockd::command::{SessionId, Space, State, Us};
use dflockd::locks::{Counts, Locks, Waits};

/// What the hub was asked to do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Call {
    /// To greet this client.
    Open(usize),
    /// To take bytes of this client, so many by now, or its end.
    Hear {
        client: usize,
        come: usize,
    },
    Tick {
        heard: Us,
    },
    Drain,
    /// To go on.
    Settle,
    /// To let this client have what there is for it; the lock table is not looked at.
    Flush(usize),
    /// To do without this client: the write to it has failed.
    Break(usize),
}

/// One call and what it led to.
pub struct Entry {
    pub now: Us,
    pub call: Call,
    /// Clients, and the bytes that are new for them.
    pub told: Vec<(usize, Vec<u8>)>,
    pub glance: Glance,
}

/// How a lock table looks from outside.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Glance {
    pub counts: Counts,
    /// By space and name.
    keys: Vec<Look>,
    /// Sessions, and whether they hold or queue.
    pub has: Vec<(SessionId, bool)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Look {
    pub space: Space,
    /// Stands for the name.
    pub name: u64,
    pub limit: u32,
    pub held: u32,
    pub waiting: u32,
    /// What is left of the oldest hold's lease, or how long nobody has used the key.
    pub span: Us,
    owner: Option<u64>,
}

impl Hash for Glance {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let counts = self.counts;
        [
            counts.granted,
            counts.released,
            counts.expired,
            counts.closed,
            counts.broken,
        ]
        .hash(state);
        for key in &self.keys {
            let space = key.space == Space::Lock;
            (space, key.name, key.limit, key.owner).hash(state);
            (key.held, key.waiting, key.span).hash(state);
        }
        for (id, has) in &self.has {
            (id.serial(), has).hash(state);
        }
    }
}

impl Glance {
    pub fn new(locks: &Locks, now: Us, sessions: impl IntoIterator<Item = SessionId>) -> Glance {
        // How long searches for deadlocks took, and who waited, depends on the order in which things happened.
        let counts = Counts {
            searches: 0,
            searches_cut: 0,
            waits: Waits::default(),
            ..locks.counts()
        };
        let mut keys: Vec<Look> = looks(locks, now).collect();
        keys.sort_unstable();
        let sessions = sessions.into_iter();
        let has = sessions.map(|id| (id, locks.has(id))).collect();
        Glance { counts, keys, has }
    }

    /// How many stand in the queue of a key.
    pub fn queue(&self, of: &Look) -> u32 {
        let its = |key: &&Look| key.space == of.space && key.name == of.name;
        self.keys.iter().find(its).map_or(0, |key| key.waiting)
    }

    /// How many stand in queues.
    pub fn waiting(&self) -> i64 {
        self.keys.iter().map(|key| i64::from(key.waiting)).sum()
    }
}

/// All keys, in no order.
pub fn looks(locks: &Locks, now: Us) -> impl Iterator<Item = Look> {
    let views = (0..locks.places()).filter_map(move |place| locks.view(now, place));
    views.map(|view| {
        let (held, waiting, span, owner) = match view.state {
            State::Used {
                held,
                waiting,
                oldest,
            } => {
                let left = oldest.map_or(0, |hold| hold.lease_left);
                let owner = oldest.and_then(|hold| hold.owner);
                (held, waiting, left, owner.map(number))
            }
            State::Idle { span } => (0, 0, span, None),
        };
        Look {
            space: view.space,
            name: number(view.name),
            limit: view.limit,
            held,
            waiting,
            span,
            owner,
        }
    })
}

/// Stands for a name: looks are taken too often to copy it.
pub fn number(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}
