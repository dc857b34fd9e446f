//! Says of what clients have seen whether a lock server that keeps its promises could have shown it to them. It knows the
//! promises and no server. Not here: what the clients do.
//!
//! A hold lasts for certain from its grant's arrival until its release leaves or the client's own deadline, whichever is
//! first; the server's view of it begins earlier and ends later. A renewal that was answered shows that the hold has never
//! ended before, so the time before it is certain too, even if it left after the deadline. Invariant: a finding is a broken
//! promise, however slow the machine is and however the threads of the clients take turns.

use std::collections::BTreeMap;
use std::fmt;

use crate::record::{By, Event, Grant, Ms, Ns, SECOND, Space, What};

/// How long a hold that is over is remembered, unless a run has longer pauses. No grant and no renewal is on its way for as
/// long.
const MEMORY: Ns = 15 * SECOND;
/// How many events of a key's history are shown.
const SHOWN: usize = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// More holds than the limit at once.
    Overlap,
    /// A fence that is not above that of a grant that had arrived before this one was asked for.
    FenceFalls,
    /// A fence that two holds have.
    FenceTwice,
    /// A request without its answer.
    Missing,
    /// An answer without a request.
    Doubled,
    /// A connection that was closed by a server that nobody had told to stop.
    CutOff,
    /// A hold that was refused to its client before the client's own deadline, though the journal was there.
    EndedEarly,
}

pub struct Finding {
    pub kind: Kind,
    /// The server that has closed a connection.
    pub server: Option<u64>,
    /// What it is about, and what happened there before.
    text: String,
}

impl fmt::Debug for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.text)
    }
}

/// One client's hold.
struct Hold {
    who: u32,
    grant: Grant,
    got: Ns,
    ended: Option<Ns>,
}

impl Hold {
    /// The end of the time for which it lasts for certain.
    fn end(&self) -> Ns {
        let until = self.grant.until;
        self.ended.map_or(until, |ended| ended.min(until))
    }
}

/// One connection.
struct Link {
    server: u64,
    /// How many requests have no answer yet.
    open: usize,
}

pub struct Judge {
    /// How long a hold that is over is remembered.
    pub memory: Ns,
    holds: BTreeMap<u64, Hold>,
    links: BTreeMap<u64, Link>,
    /// When each server was told to stop.
    downs: BTreeMap<u64, Ns>,
    /// When the journal was lost.
    forgot: Vec<Ns>,
    /// The last arrival and the highest fence of the holds that are not remembered any more.
    floor: (Ns, u64),
    history: Vec<Event>,
    found: Vec<Finding>,
    /// How many holds it has judged.
    pub heard: usize,
}

impl Default for Judge {
    fn default() -> Judge {
        Judge {
            memory: MEMORY,
            holds: BTreeMap::new(),
            links: BTreeMap::new(),
            downs: BTreeMap::new(),
            forgot: Vec::new(),
            floor: (0, 0),
            history: Vec::new(),
            found: Vec::new(),
            heard: 0,
        }
    }
}

impl Judge {
    /// Hears what has happened since the last time; the events of one client are in the order in which it has noted them.
    /// Returns what is wrong.
    pub fn hear(&mut self, mut events: Vec<Event>) -> Vec<Finding> {
        events.sort_by_key(|event| event.at);
        // What the supervisor has done counts for events that another thread had noted before.
        for event in &events {
            match event.what {
                What::Down { server } => drop(self.downs.entry(server).or_insert(event.at)),
                What::Forgot => self.forgot.push(event.at),
                _ => {}
            }
        }
        self.history.extend(events.iter().cloned());
        let now = events.last().map_or(0, |event| event.at);
        for event in events {
            self.take(event);
        }
        self.count_holders();
        self.compare_fences();
        self.forget(now.saturating_sub(self.memory));
        std::mem::take(&mut self.found)
    }

    fn take(&mut self, Event { at, who, what }: Event) {
        match what {
            What::Opened { link, server } => {
                self.links.insert(link, Link { server, open: 0 });
            }
            What::Asked { link } => self.link(link).open += 1,
            What::Answered { link } => match self.link(link).open {
                0 => self.finds(
                    Kind::Doubled,
                    at,
                    &format!("client {who}, link {link}"),
                    None,
                ),
                _ => self.link(link).open -= 1,
            },
            What::Parted { link, by } => self.part(at, who, link, by),
            What::Granted(grant) => {
                let ended = None;
                self.heard += 1;
                let (hold, got) = (grant.hold, at);
                let hold_of = Hold {
                    who,
                    grant,
                    got,
                    ended,
                };
                assert!(
                    self.holds.insert(hold, hold_of).is_none(),
                    "holds are counted"
                );
            }
            What::Renewed { hold, until } => {
                // No client asks for less than it has.
                let grant = &mut self.hold(hold).grant;
                grant.until = grant.until.max(until);
            }
            What::Ended { hold } => {
                let ended = &mut self.hold(hold).ended;
                *ended = Some(ended.map_or(at, |ended| ended.min(at)));
            }
            What::Refused { hold } => {
                let Grant {
                    asked, until, key, ..
                } = self.hold(hold).grant;
                let is_forgotten = self
                    .forgot
                    .iter()
                    .any(|&forgot| asked < forgot && forgot < at);
                if at < until && !is_forgotten {
                    let text = format!("hold {hold} of {key}, deadline {}", Ms(until));
                    self.finds(Kind::EndedEarly, at, &text, Some(key));
                }
            }
            What::Down { .. } | What::Forgot => {}
        }
    }

    fn part(&mut self, at: Ns, who: u32, link: u64, by: By) {
        let Link { server, open } = self.links.remove(&link).expect("it was opened");
        let text = format!("client {who}, link {link}, server {server}, {open} unanswered");
        let down = self.downs.get(&server);
        match by {
            By::Server if down.is_none_or(|&down| at < down) => {
                self.finds(Kind::CutOff, at, &text, None);
                self.found.last_mut().expect("it was just found").server = Some(server);
            }
            By::Patience => self.finds(Kind::Missing, at, &text, None),
            // A client may leave a wait; and whoever is told to stop answers what it still can.
            By::Client | By::Server => {}
        }
    }

    /// Finds the moments at which more clients held a key than may.
    fn count_holders(&mut self) {
        let mut keys: BTreeMap<(Space, &str), Vec<&Hold>> = BTreeMap::new();
        for hold in self.holds.values().filter(|hold| hold.got < hold.end()) {
            let key = (hold.grant.space, hold.grant.key);
            keys.entry(key).or_default().push(hold);
        }
        let mut overlaps = Vec::new();
        for holds in keys.values_mut() {
            holds.sort_by_key(|hold| hold.got);
            let mut inside: Vec<&Hold> = Vec::new();
            for hold in holds {
                inside.retain(|other| hold.got < other.end());
                inside.push(hold);
                if inside.len() > hold.grant.limit {
                    let all: Vec<_> = inside.iter().map(|hold| told(hold)).collect();
                    overlaps.push((hold.got, hold.grant.key, all.join("; ")));
                }
            }
        }
        for (at, key, text) in overlaps {
            self.finds(Kind::Overlap, at, &text, Some(key));
        }
    }

    /// Finds fences that do not rise from each grant to those that are asked for later.
    fn compare_fences(&mut self) {
        let holds = self.holds.values();
        let mut fences: Vec<(u64, &Hold)> = holds
            .filter_map(|hold| Some((hold.grant.fence?, hold)))
            .collect();
        let mut wrong = Vec::new();
        fences.sort_by_key(|(fence, _)| *fence);
        for pair in fences.windows(2) {
            if pair[0].0 == pair[1].0 {
                let (a, b) = (pair[0].1, pair[1].1);
                let text = format!("{}; {}", told(a), told(b));
                wrong.push((Kind::FenceTwice, a.got.max(b.got), text, b.grant.key));
            }
        }
        let mut arrivals = fences.clone();
        arrivals.sort_by_key(|(_, hold)| hold.got);
        fences.sort_by_key(|(_, hold)| hold.grant.asked);
        let mut arrivals = arrivals.into_iter().peekable();
        let mut highest: Option<(u64, &Hold)> = None;
        for (fence, hold) in fences {
            let asked = hold.grant.asked;
            while let Some(before) = arrivals.next_if(|(_, before)| before.got < asked) {
                if highest.is_none_or(|(highest, _)| before.0 > highest) {
                    highest = Some(before);
                }
            }
            let (last, floor) = self.floor;
            let before = match highest {
                Some((highest, other)) if fence <= highest => told(other),
                _ if asked > last && fence <= floor => format!("fence {floor:016x}"),
                _ => continue,
            };
            let text = format!("{} after {before}", told(hold));
            wrong.push((Kind::FenceFalls, hold.got, text, hold.grant.key));
        }
        for (kind, at, text, key) in wrong {
            self.finds(kind, at, &text, Some(key));
        }
    }

    /// Forgets what was over before that moment.
    fn forget(&mut self, before: Ns) {
        let (last, floor) = &mut self.floor;
        self.holds.retain(|_, hold| {
            let stays = hold.end().max(hold.got) >= before;
            if let Some(fence) = hold.grant.fence.filter(|_| !stays) {
                *last = hold.got.max(*last);
                *floor = fence.max(*floor);
            }
            stays
        });
        self.history.retain(|event| event.at >= before);
    }

    fn link(&mut self, link: u64) -> &mut Link {
        self.links.get_mut(&link).expect("it is open")
    }

    fn hold(&mut self, hold: u64) -> &mut Hold {
        self.holds
            .get_mut(&hold)
            .expect("it was granted, and not long ago")
    }

    fn finds(&mut self, kind: Kind, at: Ns, text: &str, key: Option<&str>) {
        // The first ones are enough to understand the others, too.
        let history = match key {
            Some(key) if self.found.len() < 3 => self.history_of(key, at),
            _ => String::new(),
        };
        let text = format!("at {}: {text}{history}", Ms(at));
        let server = None;
        self.found.push(Finding { kind, server, text });
    }

    /// What has happened to a key until that moment and shortly after, and to the servers.
    fn history_of(&self, key: &str, at: Ns) -> String {
        let is_of_key = |hold: &u64| {
            let hold = self.holds.get(hold);
            hold.is_some_and(|hold| hold.grant.key == key)
        };
        let events = self.history.iter().filter(|event| match &event.what {
            What::Granted(grant) => grant.key == key,
            What::Renewed { hold, .. } | What::Ended { hold } | What::Refused { hold } => {
                is_of_key(hold)
            }
            What::Down { .. } | What::Forgot => true,
            _ => false,
        });
        let events: Vec<_> = events.filter(|event| event.at <= at + SECOND).collect();
        let skipped = events.len().saturating_sub(SHOWN);
        let lines = events[skipped..].iter().map(|event| format!("\n  {event}"));
        lines.collect()
    }
}

fn told(hold: &Hold) -> String {
    let (who, got, end) = (hold.who, Ms(hold.got), Ms(hold.end()));
    format!("{} of client {who} from {got} to {end}", hold.grant)
}

#[cfg(test)]
#[path = "judge/tests.rs"]
mod tests;
