//! One hold as its client knows it: when to renew, when an answer is overdue, when the lock is lost. It is pure: time
//! is an argument that never decreases, and there is no socket, no thread and no clock. [`super::Lock`] asks it from a
//! thread, dflock(1) from an event loop. Invariant: the deadline is never later than the server's, because it counts
//! from when a request was sent; a lock that is lost stays lost, and nothing is sent for it.
//!
//! ```text
//! request sent          half time    unanswered for too long    deadline
//!      |---- Wait ----------|-- Renew, Wait --|-- Overdue ---------|-- Lost
//!      |<--------------------- the lease as granted -------------->|
//! ```
//!
//! ```
//! use dflockd::client::lease::{Lease, Step};
//!
//! // A lease of 8 s, asked for at 0 s.
//! let mut lease = Lease::new(0, 8_000_000);
//! assert_eq!(lease.step(1_000_000), Step::Wait(4_000_000));
//! assert_eq!(lease.step(4_000_000), Step::Renew);
//! lease.renewing(4_000_000, 8_000_000);
//! assert_eq!(lease.step(4_500_000), Step::Wait(5_000_000));
//! // The answer took a second; the lease counts from the question.
//! lease.renewed(5_000_000, 8_000_000);
//! assert_eq!(lease.until(), 12_000_000);
//! assert_eq!(lease.step(12_000_000), Step::Lost);
//! ```

use crate::command::{SECOND, Us};

/// After a wait of more than this share of a lease, a tenth, nobody here knows how much of the lease is left.
const SHARP: Us = 10;
/// After this share of a lease without an answer, an eighth, the connection may be mute, unless answers have taken
/// longer before.
const MUTE: Us = 8;
/// Round trips that take more than this share of a lease, a sixteenth, make renewals earlier than half time.
const SLOW: Us = 16;
/// The earliest share of a lease at which it is renewed, an eighth.
const EARLIEST: Us = 8;
/// How long after one attempt to connect the next one is made.
const RETRY: Us = SECOND / 10;

/// What is to be done for a hold at an instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Nothing before this instant, which is not after the deadline, unless something is heard.
    Wait(Us),
    /// Send a renewal and call [`Lease::renewing`].
    Renew,
    /// There is no connection: begin one and call [`Lease::reconnecting`], or else [`Lease::lose`].
    Connect,
    /// The connection may be mute. Either begin another, as for `Connect`, or wait for the deadline. The mute one had
    /// better stay open for the length of a lease: its end could be taken for the end of the hold, and its answer may
    /// still come; see [`Lease::renewed_late`].
    Overdue,
    /// The hold is being given back: nothing is renewed any more.
    Released,
    /// Somebody else may have the lock, now and for good.
    Lost,
}

/// A hold: how long it was granted for, and what is under way for it.
#[derive(Clone, Debug)]
pub struct Lease {
    span: Us,
    until: Us,
    phase: Phase,
    path: Path,
    /// No connection is begun before this instant.
    retry: Us,
    /// How long an answer takes, as far as was seen.
    seen: Us,
    /// The connection is new: before the answer it takes another round trip to connect.
    fresh: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Granted, but nobody knows when.
    Unsure,
    Held,
    Released,
    Lost,
}

/// The connection to the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Path {
    /// Nothing is under way; the next renewal is due at this instant.
    Idle(Us),
    /// A renewal was sent at this instant and is not answered.
    Asked(Us),
    /// There is no connection.
    Down,
}

/// Whether a grant that was asked for at `sent` and heard of at `heard` may count from `sent`. A grant out of the queue
/// is younger than its request, by how much is not known: unless this holds, a renewal makes it sharp.
pub fn is_sharp(sent: Us, heard: Us, span: Us) -> bool {
    heard.saturating_sub(sent) <= span / SHARP
}

impl Lease {
    /// A hold that was granted for `span` to a request sent at `sent`.
    pub fn new(sent: Us, span: Us) -> Lease {
        Lease {
            span,
            until: sent.saturating_add(span),
            phase: Phase::Held,
            path: Path::Idle(sent.saturating_add(span / 2)),
            retry: 0,
            seen: 0,
            fresh: false,
        }
    }

    /// A hold that was heard of at `heard`, too long after its request to be sharp. It is to be renewed at once, and
    /// not to be used before [`Lease::is_sure`]. Until then it has no deadline, and how long to wait for the answer is
    /// up to the caller.
    pub fn unsure(heard: Us, span: Us) -> Lease {
        Lease {
            until: Us::MAX,
            phase: Phase::Unsure,
            path: Path::Idle(heard),
            ..Lease::new(heard, span)
        }
    }

    /// An answer has taken so long. Whoever knows that from before the grant says it here; renewals are watched anyway.
    /// The patience for an answer grows with it.
    pub fn learn(&mut self, round_trip: Us) {
        // One slow answer is forgotten bit by bit.
        self.seen = round_trip.max(self.seen - self.seen / 32);
        if self.phase == Phase::Held {
            let due = self.half_time(self.until.saturating_sub(self.span));
            self.hurry(due);
        }
    }

    /// How long the last good answer granted it for.
    pub fn span(&self) -> Us {
        self.span
    }

    /// The deadline: from then on somebody else may have the lock.
    pub fn until(&self) -> Us {
        self.until
    }

    /// Whether somebody else may have the lock.
    pub fn is_lost(&self, now: Us) -> bool {
        match self.phase {
            Phase::Lost => true,
            Phase::Held => now >= self.until,
            Phase::Unsure | Phase::Released => false,
        }
    }

    /// Whether the server has said when the hold ends, and has not refused it since.
    pub fn is_sure(&self) -> bool {
        matches!(self.phase, Phase::Held | Phase::Released)
    }

    /// Whether a renewal is not answered yet.
    pub fn is_renewing(&self) -> bool {
        matches!(self.path, Path::Asked(_))
    }

    /// What is to be done.
    pub fn step(&self, now: Us) -> Step {
        if self.is_lost(now) {
            return Step::Lost;
        }
        if self.phase == Phase::Released {
            return Step::Released;
        }
        let (due, step) = match self.path {
            Path::Idle(due) => (due, Step::Renew),
            Path::Asked(sent) => (self.overdue(sent), Step::Overdue),
            Path::Down => (self.retry, Step::Connect),
        };
        if now >= due {
            step
        } else {
            Step::Wait(due.min(self.until))
        }
    }

    /// When the answer to a renewal that was sent at `sent` is overdue. An answer may take twice as long as it did
    /// before, if that leaves the time to move to another connection; and somewhat longer in any case, up to three
    /// quarters of what is left of the lease.
    fn overdue(&self, sent: Us) -> Us {
        let trips = if self.fresh { 2 } else { 1 };
        let usual = self.seen.saturating_mul(trips);
        let left = self.until.saturating_sub(sent);
        let in_time = left.saturating_sub(self.seen.saturating_mul(3));
        let patience = usual.saturating_mul(2).min(in_time);
        let patience = patience.max(usual.saturating_add(usual / 4));
        sent.saturating_add(patience.min(left / 4 * 3).max(self.span / MUTE))
    }

    /// When a lease that began at `sent` is renewed: at half time, or earlier if answers take so long that there would
    /// be no second try.
    fn half_time(&self, sent: Us) -> Us {
        let slow = self.seen.saturating_sub(self.span / SLOW);
        let early = (self.span / 2).saturating_sub(slow.saturating_mul(4));
        sent.saturating_add(early.max(self.span / EARLIEST))
    }

    /// A renewal for `span` is being sent. If that is less than what is left, the lease ends that much earlier, whether
    /// or not the answer arrives.
    pub fn renewing(&mut self, now: Us, span: Us) {
        self.path = Path::Asked(now);
        if self.is_sure() {
            self.until = self.until.min(now.saturating_add(span));
        }
    }

    /// The server has answered the renewal: the hold lasts for `span` from when that was sent. An answer after the
    /// deadline, or to no question, changes nothing.
    pub fn renewed(&mut self, now: Us, span: Us) {
        let Path::Asked(sent) = self.path else {
            return;
        };
        if self.is_lost(now) {
            return self.lose();
        }
        let trips = if self.fresh { 2 } else { 1 };
        self.learn(now.saturating_sub(sent) / trips);
        (self.span, self.until, self.fresh) = (span, sent.saturating_add(span), false);
        self.path = Path::Idle(self.half_time(sent));
        if self.phase == Phase::Unsure {
            self.phase = Phase::Held;
        }
    }

    /// The server has answered a renewal that was sent at `sent` on a connection that was given up as mute. It counts
    /// as any other, if all renewals ask for the same span. The hold may have moved back to that connection, so a
    /// renewal is due at once on the one in use; until that is answered, keep the mute one open.
    pub fn renewed_late(&mut self, now: Us, sent: Us, span: Us) {
        if self.is_lost(now) {
            return self.lose();
        }
        let until = sent.saturating_add(span);
        match self.phase {
            Phase::Held => self.until = self.until.max(until),
            // It says nothing of the hold as it is now.
            Phase::Unsure if now >= until => {}
            Phase::Unsure => (self.phase, self.until) = (Phase::Held, until),
            Phase::Released | Phase::Lost => return,
        }
        self.learn(now.saturating_sub(sent));
        self.hurry(now);
    }

    /// The next renewal is due at this instant, if not before, unless one is under way.
    pub fn hurry(&mut self, at: Us) {
        if let Path::Idle(due) = &mut self.path {
            *due = at.min(*due);
        }
    }

    /// The server has answered something else, or nobody will try any more. A hold that is being given back stays so.
    pub fn lose(&mut self) {
        if self.phase != Phase::Released {
            self.phase = Phase::Lost;
        }
    }

    /// The connection has ended, or could not be begun. The hold may outlive it.
    pub fn disconnected(&mut self) {
        self.path = Path::Down;
    }

    /// Another connection is being begun. A renewal is due there at once, which moves the hold to it.
    pub fn reconnecting(&mut self, now: Us) {
        self.retry = now.saturating_add(RETRY);
        self.path = Path::Idle(now);
        self.fresh = true;
    }

    /// The hold is about to be given back. False if it is lost, so that there is nothing to give back.
    pub fn release(&mut self, now: Us) -> bool {
        self.phase = match self.is_lost(now) {
            true => Phase::Lost,
            false => Phase::Released,
        };
        self.phase == Phase::Released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_is_due_at_half_time_and_not_before() {
        let lease = Lease::new(100, 80);
        assert_eq!(lease.step(100), Step::Wait(140));
        assert_eq!(lease.step(139), Step::Wait(140));
        assert_eq!(lease.step(140), Step::Renew);
        assert_eq!(lease.step(179), Step::Renew);
    }

    #[test]
    fn a_lock_is_lost_at_its_deadline_whatever_comes_later() {
        let mut lease = Lease::new(100, 80);
        lease.renewing(140, 80);
        assert!(!lease.is_lost(179) && lease.is_lost(180));
        lease.renewed(180, 80);
        assert_eq!((lease.step(180), lease.until()), (Step::Lost, 180));
        assert!(!lease.release(180));
        lease.renewing(181, 80);
        lease.renewed(181, 80);
        lease.reconnecting(181);
        assert_eq!(lease.step(181), Step::Lost);
    }

    #[test]
    fn an_answer_counts_from_its_question() {
        let mut lease = Lease::new(0, 80);
        lease.renewing(40, 80);
        lease.renewed(79, 16);
        assert_eq!((lease.until(), lease.span()), (56, 16));
        // It was over before it was heard of.
        assert_eq!(lease.step(79), Step::Lost);
    }

    #[test]
    fn an_answer_to_no_question_changes_nothing() {
        let mut lease = Lease::new(0, 80);
        lease.renewed(10, 1000);
        assert_eq!((lease.until(), lease.step(10)), (80, Step::Wait(40)));
    }

    #[test]
    fn a_renewal_for_less_counts_though_its_answer_never_comes() {
        let mut lease = Lease::new(0, 80);
        lease.renewing(40, 16);
        assert_eq!((lease.until(), lease.step(56)), (56, Step::Lost));
        let mut lease = Lease::new(0, 80);
        lease.renewing(40, 800);
        assert_eq!(lease.until(), 80);
    }

    #[test]
    fn an_answer_is_overdue_after_an_eighth_of_the_lease() {
        let mut lease = Lease::new(0, 80);
        lease.renewing(40, 80);
        assert_eq!(lease.step(49), Step::Wait(50));
        assert_eq!(lease.step(50), Step::Overdue);
        lease.reconnecting(50);
        assert_eq!(lease.step(50), Step::Renew);
    }

    #[test]
    fn a_connection_that_is_gone_is_begun_again_at_once_and_then_at_a_pace() {
        let mut lease = Lease::new(0, 80 * SECOND);
        lease.disconnected();
        assert_eq!(lease.step(5), Step::Connect);
        lease.reconnecting(5);
        lease.disconnected();
        assert_eq!(lease.step(5), Step::Wait(5 + RETRY));
        assert_eq!(lease.step(5 + RETRY), Step::Connect);
        // The deadline comes first.
        let mut short = Lease::new(0, 8);
        short.reconnecting(5);
        short.disconnected();
        assert_eq!(short.step(5), Step::Wait(8));
    }

    #[test]
    fn a_hold_that_is_given_back_is_not_renewed_and_not_lost() {
        let mut lease = Lease::new(0, 80);
        lease.renewing(40, 80);
        assert!(lease.release(79));
        lease.lose();
        assert_eq!(lease.step(1000), Step::Released);
        lease.renewed(1000, 80);
        assert_eq!(lease.step(1000), Step::Released);
    }

    #[test]
    fn a_grant_out_of_the_queue_is_renewed_before_it_is_sure() {
        assert!(is_sharp(0, 8, 80) && !is_sharp(0, 9, 80));
        assert!(is_sharp(9, 8, 80));
        let mut lease = Lease::unsure(1000, 80);
        assert_eq!((lease.step(1000), lease.is_sure()), (Step::Renew, false));
        lease.renewing(1000, 80);
        assert_eq!(
            (lease.step(1009), lease.is_sure()),
            (Step::Wait(1010), false)
        );
        lease.renewed(1009, 80);
        assert_eq!((lease.until(), lease.is_sure()), (1080, true));
        // However late the answer is, it says what is left; here that is nothing.
        let mut lease = Lease::unsure(1000, 80);
        lease.renewing(1000, 80);
        assert!(!lease.is_lost(1080));
        lease.renewed(1080, 80);
        assert!(lease.is_sure() && lease.is_lost(1080));
        let mut lease = Lease::unsure(1000, 80);
        lease.renewing(1000, 80);
        lease.lose();
        assert_eq!((lease.step(1000), lease.is_sure()), (Step::Lost, false));
    }

    #[test]
    fn spans_at_the_end_of_time_do_not_overflow() {
        let mut lease = Lease::new(Us::MAX - 1, Us::MAX);
        lease.renewing(Us::MAX - 1, Us::MAX);
        lease.reconnecting(Us::MAX - 1);
        lease.disconnected();
        assert_eq!(lease.step(Us::MAX - 1), Step::Wait(Us::MAX));
        assert_eq!(lease.step(Us::MAX), Step::Lost);
    }

    #[test]
    fn the_patience_for_an_answer_grows_with_what_was_seen() {
        let asked = |seen| {
            let mut lease = Lease::new(0, 800);
            lease.learn(seen);
            lease.renewing(200, 800);
            lease
        };
        assert_eq!(asked(50).step(200), Step::Wait(300));
        assert_eq!(asked(80).step(200), Step::Wait(360));
        // Three more round trips are kept for another connection, but no answer is overdue before it was due.
        assert_eq!(asked(150).step(200), Step::Wait(387));
        assert_eq!(asked(200).step(200), Step::Wait(450));
        // On a new connection the answer takes two.
        let mut lease = asked(80);
        lease.reconnecting(360);
        lease.renewing(360, 800);
        assert_eq!(lease.step(360), Step::Wait(560));
    }

    #[test]
    fn a_slow_answer_is_forgotten_bit_by_bit() {
        let mut lease = Lease::new(0, 800);
        let mut answer = |sent, heard| {
            lease.renewing(sent, 800);
            lease.renewed(heard, 800);
            lease.renewing(heard, 800);
            match lease.step(heard) {
                Step::Wait(until) => until - heard,
                step => panic!("{step:?}"),
            }
        };
        assert_eq!(answer(100, 200), 200);
        assert_eq!(answer(300, 301), 194);
        for n in 4..60 {
            answer(n * 100, n * 100 + 1);
        }
        assert_eq!(answer(6000, 6001), 100);
    }

    #[test]
    fn a_renewal_comes_earlier_where_answers_are_slow() {
        for (seen, due) in [(0, 400), (50, 400), (75, 300), (100, 200), (200, 100)] {
            let mut lease = Lease::new(0, 800);
            lease.learn(seen);
            lease.renewing(0, 800);
            lease.renewed(seen, 800);
            let step = if due > seen {
                Step::Wait(due)
            } else {
                Step::Renew
            };
            assert_eq!(lease.step(seen), step, "{seen}");
        }
    }

    #[test]
    fn a_late_answer_counts_from_its_question_and_the_hold_is_fetched_back() {
        let mut lease = Lease::new(0, 80);
        lease.renewing(40, 80);
        lease.reconnecting(50);
        lease.renewing(50, 80);
        lease.renewed(55, 80);
        lease.renewed_late(60, 40, 80);
        // The newer answer says more.
        assert_eq!((lease.until(), lease.step(60)), (130, Step::Renew));
        let mut lease = Lease::new(0, 80);
        lease.renewing(40, 80);
        lease.reconnecting(50);
        lease.renewing(50, 80);
        lease.renewed_late(79, 40, 80);
        assert_eq!((lease.until(), lease.is_renewing()), (120, true));
        // Too late is too late.
        lease.renewed_late(120, 50, 80);
        assert_eq!(lease.step(120), Step::Lost);
        let mut lease = Lease::unsure(0, 80);
        lease.renewing(0, 80);
        lease.reconnecting(10);
        lease.renewed_late(80, 0, 80);
        assert!(!lease.is_sure());
        lease.renewed_late(79, 0, 80);
        assert!(lease.is_sure() && lease.is_lost(80));
    }

    /// What a network does.
    #[derive(Clone, Copy)]
    struct Weather {
        /// How long a message is on its way, at most; no less than half of it.
        way: Us,
        /// A message may take half a lease, an answer may be lost, and a connection may be cut.
        faults: bool,
        /// After this instant the connection in use is mute; others are not.
        mute_at: Us,
    }

    /// A server that renews, behind a network that delays, drops and cuts.
    struct World {
        dice: u64,
        weather: Weather,
        /// When the server's lease ends.
        held_until: Us,
        /// Requests on their way to the server, and the connection that each is on.
        asked: Vec<(Us, u32)>,
        /// Answers on their way back.
        answers: Vec<(Us, u32, Option<Us>)>,
        /// The connection in use.
        path: u32,
        /// Of each connection, when a renewal was sent there last, and whether it can still be heard.
        paths: Vec<(Us, bool)>,
        /// The connection that is mute.
        mute: Option<u32>,
        span: Us,
    }

    impl World {
        fn roll(&mut self, sides: u64) -> u64 {
            self.dice ^= self.dice << 13;
            self.dice ^= self.dice >> 7;
            self.dice ^= self.dice << 17;
            self.dice % sides
        }

        /// How long a message is on its way; with faults it is up to half a lease every third time.
        fn delay(&mut self) -> Us {
            let way = match self.weather.faults && self.roll(3) == 1 {
                true => self.span / 2,
                false => self.weather.way,
            };
            1 + way / 2 + self.roll((way / 2).max(1))
        }

        /// A renewal is sent on the connection in use. A new one has to be opened first.
        fn ask(&mut self, now: Us) {
            let path = self.path as usize;
            let mut at = now.saturating_add(self.delay());
            if path == self.paths.len() {
                self.paths.push((now, true));
                at += 2 * self.weather.way;
            }
            self.paths[path].0 = now;
            if path == 0 && now >= self.weather.mute_at {
                self.mute = Some(self.path);
            }
            if self.mute != Some(self.path) {
                self.asked.push((at, self.path));
            }
        }

        /// Another connection is begun; the one before can still be heard unless it has ended.
        fn leave(&mut self, has_ended: bool) {
            let path = self.path as usize;
            if path == self.paths.len() {
                self.paths.push((0, false));
            }
            self.paths[path].1 &= !has_ended;
            self.path += 1;
        }

        /// The server reads what has arrived, in order.
        fn serve(&mut self, now: Us) {
            self.asked.sort_unstable();
            while let Some(&(at, path)) = self.asked.first().filter(|(at, _)| *at <= now) {
                self.asked.remove(0);
                let renewed = at < self.held_until;
                if renewed {
                    self.held_until = at + self.span;
                }
                let late = at + self.delay();
                // One in three answers is lost with its connection.
                if !self.weather.faults || self.roll(3) > 0 {
                    self.answers
                        .push((late, path, renewed.then_some(self.span)));
                }
            }
        }

        /// The client reads what has arrived, in time or late.
        fn deliver(&mut self, now: Us, lease: &mut Lease) {
            while let Some(at) = self.answers.iter().position(|(at, ..)| *at <= now) {
                let (_, path, span) = self.answers.remove(at);
                let (sent, is_open) = self.paths[path as usize];
                match span {
                    _ if !is_open => {}
                    Some(span) if path == self.path => lease.renewed(now, span),
                    Some(span) => lease.renewed_late(now, sent, span),
                    None => lease.lose(),
                }
            }
        }
    }

    /// Lets a lease live for up to so many times its length, and says whether it was lost.
    fn live(seed: u64, weather: Weather, length: u64) -> bool {
        let span = 10 * SECOND;
        let mut world = World {
            dice: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            weather,
            held_until: span,
            asked: Vec::new(),
            answers: Vec::new(),
            path: 0,
            paths: vec![(0, true)],
            mute: None,
            span,
        };
        let (mut lease, mut now, mut still) = (Lease::new(0, span), 0, 0);
        // The handshake has shown it.
        lease.learn(2 * weather.way);
        while now < length * span {
            world.serve(now);
            world.deliver(now, &mut lease);
            assert!(
                lease.is_lost(now) || lease.until() <= world.held_until,
                "seed {seed} at {now}"
            );
            let wake = match lease.step(now) {
                Step::Lost => return true,
                Step::Released => unreachable!("nobody gives it back"),
                Step::Wait(until) => {
                    assert!(
                        now < until && until <= lease.until(),
                        "seed {seed} at {now}"
                    );
                    still = 0;
                    until
                }
                Step::Renew => {
                    lease.renewing(now, span);
                    world.ask(now);
                    if weather.faults && world.roll(10) == 0 {
                        world.leave(true);
                        lease.disconnected();
                    }
                    now
                }
                step @ (Step::Connect | Step::Overdue) => {
                    world.leave(step == Step::Connect);
                    lease.reconnecting(now);
                    if weather.faults && world.roll(4) == 0 {
                        lease.disconnected();
                    }
                    now
                }
            };
            still += 1;
            assert!(still < 5, "seed {seed} stands still at {now}");
            let events = world.asked.iter().map(|asked| asked.0);
            let next = events
                .chain(world.answers.iter().map(|answer| answer.0))
                .min();
            now = wake.min(next.unwrap_or(wake)).max(now);
        }
        false
    }

    const GOOD: Weather = Weather {
        way: SECOND / 5,
        faults: false,
        mute_at: Us::MAX,
    };

    fn lost(count: u64, weather: Weather, length: u64) -> usize {
        let seeds = 1..=count;
        seeds.filter(|&seed| live(seed, weather, length)).count()
    }

    #[test]
    fn the_deadline_is_never_later_than_the_servers() {
        let faults = true;
        let lost = lost(2000, Weather { faults, ..GOOD }, 3);
        // The network is bad enough to lose some, and good enough to keep some.

        assert!((300..1700).contains(&lost), "{lost}");
    }

    #[test]
    fn a_lease_on_a_good_network_is_never_lost() {
        assert_eq!(lost(200, GOOD, 10), 0);
    }

    /// A round trip takes a quarter of a lease at most.
    #[test]
    fn a_lease_of_few_round_trips_is_never_lost() {
        for part in 0..=8 {
            let way = part * 10 * SECOND / 64;
            assert_eq!(lost(200, Weather { way, ..GOOD }, 10), 0, "{part}");
        }
    }

    /// At any time. A round trip takes a fifth of a lease at most.
    #[test]
    fn a_hold_moves_from_a_mute_connection_before_its_lease_ends() {
        for tenths in 0..=10 {
            let way = tenths * SECOND / 10;
            for second in 0..30 {
                let mute_at = second * SECOND;
                let weather = Weather {
                    way,
                    mute_at,
                    ..GOOD
                };
                assert_eq!(lost(20, weather, 5), 0, "{tenths} at {second} s");
            }
        }
    }
}
