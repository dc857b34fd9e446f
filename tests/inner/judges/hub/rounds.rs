//! Who has to hear a signal, as the judge of the hub sees it: everybody who listens without a group, one of each
//! group, and in a group everybody in turn; and that its publisher is told how many those were.

use std::collections::BTreeMap;

use super::Judge;
use super::pushes::{Wish, ways};
use crate::harness::Net;

/// Who has heard the signals to a group since it is known who takes turns.
pub type Rounds = BTreeMap<Wish, Vec<usize>>;

/// A signal that was answered in this turn.
struct Call {
    letter: usize,
    publisher: usize,
    channel: usize,
    /// What its publisher listened to then.
    wishes: Vec<Wish>,
    count: u64,
}

/// What is known of a group that a signal is for.
struct Group {
    /// Somebody has listened all the time, and had room.
    sure: bool,
    /// One that was cut off has perhaps got it.
    lost: bool,
}

/// One of the groups that a signal reaches, until it is found out whom.
struct Seat {
    wish: Wish,
    members: Vec<usize>,
    taken: Option<usize>,
}

impl Judge {
    /// Was it told to whom it had to be, and to nobody else?
    pub(super) fn judge_receivers(&mut self, net: &Net, opened: &[usize]) {
        for call in self.calls(opened) {
            self.judge_call(net, opened, &call);
        }
    }

    fn calls(&self, opened: &[usize]) -> Vec<Call> {
        let told = opened.iter().flat_map(|&at| {
            let ear = &self.peers[at].ear;
            ear.told.iter().map(move |&(letter, stage, count)| Call {
                letter,
                publisher: at,
                channel: self.letters[letter].channel,
                wishes: ear.stages[stage].clone(),
                count,
            })
        });
        told.collect()
    }

    fn judge_call(&self, net: &Net, opened: &[usize], call: &Call) {
        let (mut least, mut most, mut sum) = (0, 0, 0);
        let (mut groups, mut all_told) = (BTreeMap::new(), true);
        for &at in opened {
            let ends = self.peers[at].over.is_some();
            let veiled = self.peers[at].ear.veiled;
            let lost = veiled || ends && net.clients[at].closed && !self.is_jammed(net, at);
            let stages = self.stages(at, call);
            let alone = |wishes: &Vec<Wish>| ways(wishes, call.channel).any(|wish| wish.1 == 0);
            let sure = usize::from(!ends && !veiled && stages.iter().all(alone));
            let maybe = usize::from(stages.iter().any(alone));
            let copies = self.peers[at].ear.copies(call.letter);
            assert!(copies >= sure, "a signal is lost");
            let before = groups.len();
            let its = grouped(&stages, call.channel);
            assert!(copies <= maybe + its.len(), "it is told too often");
            for wish in its {
                let stays = stages.iter().all(|wishes| wishes.contains(&wish));
                let group = groups.entry(wish).or_insert(Group {
                    sure: false,
                    lost: false,
                });
                group.sure |= stays && !ends && !veiled && !self.is_perhaps_jammed(net, at);
                group.lost |= lost;
            }
            let listens = maybe > 0 || groups.len() > before;
            all_told &= !lost || !listens && self.perhaps_wishes(net, at).is_empty();
            (least, most, sum) = (least + sure, most + maybe, sum + copies);
        }
        let surely = |group: &&Group| group.sure && !group.lost;
        least += groups.values().filter(surely).count();
        most += groups.len();
        assert!((least..=most).contains(&sum), "a group is for one of it");
        let count = call.count as usize;
        assert!(count >= sum, "it has reached more");
        assert!(!all_told || count == sum, "it has not reached so many");
    }

    /// What a client perhaps listened to when the signal came by.
    fn stages(&self, at: usize, call: &Call) -> Vec<Vec<Wish>> {
        if at == call.publisher {
            return vec![call.wishes.clone()];
        }
        self.peers[at].ear.stages.clone()
    }

    /// S2 of signals: who was in turn? Only where one client acts it is known who was.
    pub(super) fn judge_rounds(&mut self, net: &Net, opened: &[usize]) {
        let calls = self.calls(opened);
        let one = calls
            .windows(2)
            .all(|two| two[0].publisher == two[1].publisher);
        let peers = || opened.iter().map(|&at| &self.peers[at]);
        let stay = peers().all(|peer| peer.over.is_none() && !peer.ear.veiled);
        let heard = peers().any(|peer| !peer.ear.heard.is_empty());
        let steady = peers().all(|peer| peer.ear.stages.len() == 1);
        if !stay || heard && (!one || !steady) {
            return self.rounds.clear();
        }
        for &at in opened {
            let stages = &self.peers[at].ear.stages;
            let changed = |wish: &Wish| !stages.iter().all(|wishes| wishes.contains(wish));
            let changed = stages.concat().into_iter().filter(changed);
            for wish in changed.collect::<Vec<_>>() {
                self.rounds.remove(&wish);
            }
        }
        for call in calls.iter().filter(|_| steady) {
            for seat in self.seats(opened, call) {
                self.judge_seat(net, seat);
            }
        }
    }

    fn judge_seat(&mut self, net: &Net, seat: Seat) {
        let jammed = |&at: &usize| self.is_perhaps_jammed(net, at);
        let Some(taken) = seat.taken.filter(|_| !seat.members.iter().any(jammed)) else {
            self.rounds.remove(&seat.wish);
            return;
        };
        let rounds = self.rounds.entry(seat.wish).or_default();
        let recent = rounds.iter().rev().take(seat.members.len() - 1);
        let waits = recent.copied().all(|other| other != taken);
        assert!(waits, "the others of its group come first");
        rounds.push(taken);
    }

    /// Finds out who has got a signal for which group, as far as that is certain.
    fn seats(&self, opened: &[usize], call: &Call) -> Vec<Seat> {
        let mut seats: BTreeMap<Wish, Seat> = BTreeMap::new();
        let mut owed: BTreeMap<usize, usize> = BTreeMap::new();
        for &at in opened {
            let ear = &self.peers[at].ear;
            let (mut copies, mut alone) = (ear.copies(call.letter), false);
            for wish in ways(&ear.wishes, call.channel) {
                alone |= wish.1 == 0;
                if wish.1 > 0 {
                    let seat = seats.entry(wish).or_insert(Seat {
                        wish,
                        members: Vec::new(),
                        taken: None,
                    });
                    seat.members.push(at);
                }
            }
            copies = copies.saturating_sub(usize::from(alone));
            owed.insert(at, copies);
        }
        let mut seats: Vec<Seat> = seats.into_values().collect();
        while let Some((place, at)) = certain(&seats, &owed) {
            seats[place].taken = Some(at);
            *owed.get_mut(&at).expect("it was there") -= 1;
        }
        let known = seats.iter().all(|seat| seat.taken.is_some());
        let left = owed.values().sum::<usize>();
        assert!(!known || left == 0, "a group has heard it twice");
        seats
    }
}

/// A seat that only one can have taken, or one of all those that its client must have taken.
fn certain(seats: &[Seat], owed: &BTreeMap<usize, usize>) -> Option<(usize, usize)> {
    let free = || {
        seats
            .iter()
            .enumerate()
            .filter(|seat| seat.1.taken.is_none())
    };
    for (place, seat) in free() {
        let mut able = seat.members.iter().filter(|at| owed[at] > 0);
        match (able.next(), able.next()) {
            (None, _) => panic!("a group has not heard it"),
            (Some(&at), None) => return Some((place, at)),
            _ => {}
        }
    }
    free().find_map(|(place, seat)| {
        let could = |at: usize| free().filter(|seat| seat.1.members.contains(&at)).count();
        let mut must = seat.members.iter().filter(|&&at| owed[&at] > 0);
        let at = must.find(|&&at| could(at) == owed[&at])?;
        Some((place, *at))
    })
}

/// The groups in which any of these listens to a channel.
fn grouped(stages: &[Vec<Wish>], channel: usize) -> Vec<Wish> {
    let all = stages.iter().flat_map(|wishes| ways(wishes, channel));
    let mut all: Vec<Wish> = all.filter(|wish| wish.1 > 0).collect();
    all.sort_unstable();
    all.dedup();
    all
}
