//! Getting the lock: stand in the server's queue, and stand there again when the server was lost, until the wait is
//! over. `find` knows the way to the server. Invariant: a wait that ends without the lock has left the queue, and has
//! given back what was granted at that moment.

use dflockd::client::link::Link;
use dflockd::client::sites::Glance;
use dflockd::client::turns::SILENCE;
use dflockd::client::{Owner, answered};
use dflockd::command::{Bound, Command, Refusal, Reply, SECOND, Us};
use dflockd::sys;
use dflockd::wire::ask;

use super::find::{Handshake, Miss, Search, Unheard};
use super::keeper::{Granted, Keeper};
use super::probe::Probe;
use super::release::Peer;
use super::world::World;
use crate::failure::{Failure, TRY_LATER, UNAVAILABLE, tell};
use crate::options::Options;

/// How long a server may take to connect and to answer the first question. Also how long a wait without `-w` looks for
/// a server that it has never waited at.
const PATIENCE: Us = 10 * SECOND;
/// The first pause before a server that was missed is asked again, and the longest.
const PAUSES: (Us, Us) = (SECOND / 20, 2 * SECOND);
/// A place in a queue that was kept for so long makes the next pause a first one.
const LASTING: Us = SECOND;
/// How long after the end of the wait a grant may be confirmed: a round trip.
const CONFIRM: Us = SECOND / 2;
/// How long a grant that was lost on its way may be held against its own owner, if `--lease` does not say so.
const LOST_LEASE: Us = 60 * SECOND;

/// Waits for the lock as long as the options allow.
pub fn acquire(world: &mut World, options: &Options, key: &[u8]) -> Result<Keeper, Failure> {
    let mut wait = Wait::new(world, options, key);
    loop {
        match wait.ask() {
            Ok(keeper) => {
                let kept = match wait.confirm(keeper)? {
                    Some(keeper) => wait.end_lookups(keeper)?,
                    None => None,
                };
                if let Some(mut keeper) = kept {
                    keeper.tell_at_once();
                    return Ok(keeper);
                }
                let what = "the lock was granted and lost while its answer was on its way";
                tell(options.verbose, what);
                if !wait.is_try() {
                    wait.pause(Miss::Lost("a grant was lost".to_string()))?;
                }
            }
            Err(Unheard::Failure(failure)) => return Err(failure),
            Err(Unheard::Miss(miss)) => wait.pause(miss)?,
        }
    }
}

/// A wait for a lock.
struct Wait<'a> {
    search: Search<'a>,
    start: Us,
    over: Us,
    /// Whether any server has answered anything.
    answered: bool,
    /// Whether a server has had this wait in its queue.
    queued: bool,
    /// Until then the server may have a hold of this owner whose grant was lost.
    stray_until: Us,
    /// The next pause.
    pause: Us,
}

impl<'a> Wait<'a> {
    fn new(world: &'a mut World, options: &'a Options, key: &'a [u8]) -> Wait<'a> {
        let start = sys::now();
        Wait {
            search: Search::new(world, options, key),
            start,
            over: start.saturating_add(options.wait),
            answered: false,
            queued: false,
            stray_until: 0,
            pause: PAUSES.0,
        }
    }

    fn is_try(&self) -> bool {
        self.search.options.wait == 0
    }

    /// When nobody is asked any more.
    fn end(&self) -> Us {
        match self.search.options.wait {
            0 => self.start.saturating_add(PATIENCE),
            Us::MAX if !self.queued => self.start.saturating_add(PATIENCE),
            _ => self.over,
        }
    }

    /// Finds the server and waits in its queue.
    fn ask(&mut self) -> Result<Keeper, Unheard> {
        let until = self.end().min(sys::now().saturating_add(PATIENCE));
        let is_only = self.search.look_up(until)?;
        // A new name for each attempt: a grant to the one before may have been lost on its way, and an owner that waits
        // for its own hold would be refused.
        let owner = self.search.options.owner.clone();
        let owner = owner.unwrap_or_else(Owner::unique);
        let mut request = Vec::new();
        if is_only {
            self.request(&mut request);
        }
        let met = self.search.handshake(&owner, &request, until);
        match &met {
            Ok(_) | Err(Unheard::Miss(Miss::Drains | Miss::Full)) => self.answered = true,
            // The request may have arrived.
            Err(_) if is_only => self.expect_stray(),
            Err(_) => {}
        }
        let Handshake {
            peer,
            mut link,
            mut start,
            ..
        } = met?;
        let text = format!("{} is back", self.search.server);
        self.search.news.over(&text);
        // The time to connect is in it, unless a proxy accepted the connection.
        let round_trip = sys::now().saturating_sub(start);
        if !is_only {
            start = sys::now();
            self.request(link.output());
        }
        let begin = sys::now();
        let answer = self.queue(&mut link, &peer, start);
        if sys::now() >= begin.saturating_add(LASTING) {
            self.pause = PAUSES.0;
        }
        match answer {
            Ok(line) => {
                let granted = self.hear(&line, start, &peer)?;
                tell(self.search.options.verbose, "the lock is ours");
                let keeper = Keeper::new(link, peer, &self.search, &granted, round_trip);
                Ok(keeper)
            }
            Err(unheard) => {
                self.expect_stray();
                self.search.leave(Some((peer, link)))?;
                // It was cut or fell silent: the next address has its turn.
                self.search.sites.pass(sys::now(), |_| false);
                Err(unheard)
            }
        }
    }

    /// A grant may be lost on its way from now on.
    fn expect_stray(&mut self) {
        let lease = self.search.options.lease.unwrap_or(LOST_LEASE);
        self.stray_until = sys::now().saturating_add(lease);
    }

    /// Appends the request for the lock, for what is left of the wait.
    fn request(&self, out: &mut Vec<u8>) {
        let options = self.search.options;
        let (space, key) = self.search.key;
        let command = Command::Acquire {
            space,
            key,
            limit: options.limit.unwrap_or(1),
            wait: self.over.saturating_sub(sys::now()),
            lease: options.lease,
            owner: None,
            bound: Bound::Session,
            terms: None,
        };
        ask::command(&command, out);
    }

    /// Waits for the answer to the request that was sent at `start`. Where another server may lead instead, one that is
    /// silent is left: in a queue if it answers no ping, and otherwise because its answer is due.
    fn queue(&mut self, link: &mut Link, peer: &Peer, start: Us) -> Result<Vec<u8>, Unheard> {
        let verbose = self.search.options.verbose;
        let has_others = self.search.sites.has_alternatives();
        let until = match self.is_try() {
            true if has_others => self.end().min(start.saturating_add(SILENCE)),
            true => start.saturating_add(PATIENCE),
            false => self.over,
        };
        let mut probe = (has_others && !self.is_try()).then(|| Probe::new(peer));
        let mut told = self.is_try();
        loop {
            link.move_on();
            if let Some(line) = link.line() {
                return Ok(line);
            }
            if link.is_ended() {
                return Err(match self.search.end_of(link) {
                    Unheard::Miss(Miss::Unreached(why)) => Unheard::Miss(Miss::Lost(why)),
                    unheard => unheard,
                });
            }
            if !std::mem::replace(&mut told, true) {
                self.queued = true;
                tell(verbose, "the lock is not free: waiting");
            }
            if sys::now() >= until {
                return Err(match self.is_try() {
                    true if has_others => Unheard::Miss(Miss::Silent),
                    true => Unheard::unreached("no answer"),
                    false => self.busy().into(),
                });
            }
            let mut next = until;
            if let Some(probe) = &mut probe {
                if probe.move_on(self.search.world) {
                    return Err(Unheard::Miss(Miss::Silent));
                }
                next = next.min(probe.next());
            }
            self.search.sleep(next)?;
        }
    }

    /// Takes the answer to the request for the lock.
    fn hear(&mut self, line: &[u8], sent: Us, peer: &Peer) -> Result<Granted, Unheard> {
        let options = self.search.options;
        Err(match ask::answer(line) {
            Some(Reply::Granted { token, lease }) => {
                return Ok(Granted { token, sent, lease });
            }
            Some(Reply::Timeout) if options.wait != Us::MAX => self.busy().into(),
            // It may be the hold that went to a connection which was lost.
            Some(Reply::Refused(Refusal::Deadlock)) if sys::now() < self.stray_until => {
                Unheard::Miss(Miss::Stray)
            }
            Some(Reply::Refused(Refusal::Deadlock)) => {
                let owner = peer.owner.as_ref().map(Owner::name);
                Failure::deadlock(self.search.key.1, owner).into()
            }
            Some(Reply::Refused(Refusal::LimitMismatch)) => self.search.other_limit().into(),
            Some(Reply::Refused(refusal)) => self.search.refused(refusal),
            _ => self.search.not_dflockd(&answered(line)).into(),
        })
    }

    /// Pauses after a miss, or ends the wait.
    fn pause(&mut self, miss: Miss) -> Result<(), Failure> {
        let now = sys::now();
        let end = self.end();
        // A try has its answer at once, or at the next address.
        let is_over = self.is_try() && !matches!(miss, Miss::Silent);
        if is_over || now >= end {
            return Err(self.verdict(&miss));
        }
        let text = miss.text(&self.search.server);
        self.search.news.trouble(&format!("{text}; asking again"));
        // Half of it is left to chance, so that many that were sent away together do not come back together.
        let chance = sys::unix_now_ns() ^ u64::from(std::process::id()).wrapping_mul(0x9e37_79b9);
        let until = now.saturating_add(self.pause / 2 + chance % (self.pause / 2));
        self.pause = PAUSES.1.min(self.pause * 2);
        while sys::now() < until.min(end) {
            self.search.sleep(until.min(end))?;
        }
        match sys::now() < end {
            true => Ok(()),
            false => Err(self.verdict(&miss)),
        }
    }

    /// The end of a wait that has found no server at last.
    fn verdict(&self, miss: &Miss) -> Failure {
        let status = match miss {
            Miss::Drains | Miss::Full => TRY_LATER,
            _ if self.is_try() || !self.answered => UNAVAILABLE,
            _ => self.search.options.conflict,
        };
        match status {
            // `-q` or `-E 0`: nothing is printed.
            0 => self.busy(),
            _ => Failure::new(status, miss.text(&self.search.server)),
        }
    }

    fn busy(&self) -> Failure {
        tell(self.search.options.verbose, "the lock is not free");
        Failure::silent(self.search.options.conflict)
    }

    /// Renews a hold whose lease may have begun long after it was asked for, over new connections if need be. None if it
    /// is gone. A second request before that is known could wait for this hold.
    fn confirm(&mut self, mut keeper: Keeper) -> Result<Option<Keeper>, Failure> {
        let end = match self.is_try() {
            true => self.end(),
            false => self.over,
        };
        let end = end.max(sys::now().saturating_add(CONFIRM));
        while !keeper.lease.is_sure() {
            keeper.move_on(self.search.world);
            let now = sys::now();
            if keeper.lease.is_sure() || keeper.lease.is_lost(now) || keeper.is_over(now) {
                break;
            }
            let slept = match now >= end {
                true => Err(self.busy()),
                false => self.search.sleep(end.min(keeper.next(now))),
            };
            if let Err(failure) = slept {
                keeper.give_back(self.search.world)?;
                return Err(failure);
            }
        }
        // An answer that came after its own lease is no refusal, but the lock may be another's then.
        let now = sys::now();
        if keeper.lease.is_sure() && !keeper.lease.is_lost(now) {
            return Ok(Some(keeper));
        }
        self.expect_stray();
        keeper.give_back(self.search.world)?;
        Ok(None)
    }

    /// A process that forks has one thread. So this waits for lookups that go on, of other alternatives of the server,
    /// and renews meanwhile. None if the lock is lost.
    fn end_lookups(&mut self, mut keeper: Keeper) -> Result<Option<Keeper>, Failure> {
        let mut glance = Glance::default();
        while self.search.sites.is_looking() {
            let now = sys::now();
            if keeper.lease.is_lost(now) {
                keeper.give_back(self.search.world)?;
                return Ok(None);
            }
            keeper.move_on(self.search.world);
            if let Err(failure) = self.search.sleep(glance.next(now)) {
                keeper.give_back(self.search.world)?;
                return Err(failure);
            }
        }
        self.search.tell_missing();
        Ok(Some(keeper))
    }
}
