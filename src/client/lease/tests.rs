//! The edges of a lease, one by one, and its life behind a network that delays, drops, cuts and goes mute. Invariant: a
//! seed repeats a life.

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
fn a_late_refusal_says_nothing_once_a_later_renewal_was_answered() {
    let moved = || {
        let mut lease = Lease::new(0, 80);
        lease.renewing(40, 80);
        lease.reconnecting(50);
        lease.renewing(50, 80);
        lease
    };
    let mut lease = moved();
    lease.renewed(55, 80);
    lease.refused_late(40);
    assert!(!lease.is_lost(60));
    lease.refused_late(50);
    assert!(lease.is_lost(60));
    // Nobody knows yet that it has moved.
    let mut lease = moved();
    lease.refused_late(40);
    assert!(lease.is_lost(60));
    let mut lease = Lease::unsure(40, 80);
    lease.renewing(40, 80);
    lease.refused_late(40);
    assert!(lease.is_lost(60));
}

#[test]
fn work_that_takes_long_to_end_has_its_answers_in_time() {
    // A second's lease, and work that needs 0.55 s to end.
    let mut lease = Lease::new(0, SECOND);
    lease.spare(550_000);
    assert_eq!(lease.step(0), Step::Wait(200_000));
    lease.renewing(200_000, SECOND);
    // The rest is for another connection.
    assert_eq!(lease.step(200_000), Step::Wait(325_000));
    assert_eq!(lease.step(325_000), Step::Overdue);
    lease.renewed(330_000, SECOND);
    assert_eq!(lease.step(330_000), Step::Wait(400_000));
    // A lease that is long enough is renewed at half time.
    let mut long = Lease::new(0, 33 * SECOND);
    long.spare(6 * SECOND);
    assert_eq!(long.step(0), Step::Wait(33 * SECOND / 2));
    // However long the end takes, an eighth of the lease passes before the renewal.
    let mut short = Lease::new(0, 8 * SECOND);
    short.spare(8 * SECOND);
    assert_eq!(short.step(0), Step::Wait(SECOND));
}

#[test]
fn another_address_is_tried_without_a_pause() {
    let mut lease = Lease::new(0, 8 * SECOND);
    lease.disconnected();
    lease.reconnecting(100);
    lease.disconnected();
    assert_eq!(lease.step(101), Step::Wait(100 + RETRY));
    lease.at_once();
    assert_eq!(lease.step(101), Step::Connect);
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
    fn new(seed: u64, weather: Weather, span: Us) -> World {
        World {
            dice: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            weather,
            held_until: span,
            asked: Vec::new(),
            answers: Vec::new(),
            path: 0,
            paths: vec![(0, true)],
            mute: None,
            span,
        }
    }

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

    /// A renewal is sent on the connection in use. A new one has to be opened first. False if it is cut then.
    fn ask(&mut self, now: Us) -> bool {
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
        let is_cut = self.weather.faults && self.roll(10) == 0;
        if is_cut {
            self.leave(true);
        }
        !is_cut
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
    let mut world = World::new(seed, weather, span);
    let (mut lease, mut now, mut still) = (Lease::new(0, span), 0, 0);
    // The handshake has shown it, and the time to connect with it.
    lease.learn(4 * weather.way);
    while now < length * span {
        world.serve(now);
        world.deliver(now, &mut lease);
        assert!(
            lease.is_lost(now) || lease.until() <= world.held_until,
            "seed {seed} at {now}"
        );
        let mut wake = now;
        still += 1;
        match lease.step(now) {
            Step::Lost => return true,
            Step::Released => unreachable!("nobody gives it back"),
            Step::Wait(until) => {
                let in_time = now < until && until <= lease.until();
                assert!(in_time, "seed {seed} at {now}");
                (wake, still) = (until, 0);
            }
            Step::Renew => {
                lease.renewing(now, span);
                if !world.ask(now) {
                    lease.disconnected();
                }
            }
            step @ (Step::Connect | Step::Overdue) => {
                world.leave(step == Step::Connect);
                lease.reconnecting(now);
                if weather.faults && world.roll(4) == 0 {
                    lease.disconnected();
                }
            }
        }
        assert!(still < 5, "seed {seed} stands still at {now}");
        let asked = world.asked.iter().map(|asked| asked.0);
        let answers = world.answers.iter().map(|answer| answer.0);
        now = asked.chain(answers).fold(wake, Us::min).max(now);
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

/// At any time. A round trip takes less than a fifth of a lease.
#[test]
fn a_hold_moves_from_a_mute_connection_before_its_lease_ends() {
    for tenths in 0..10 {
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
