//! A hierarchical timer wheel: eleven levels of 64 slots cover every u64 microsecond exactly, so there is no horizon
//! and no overflow list. Insert and cancel are O(1) and allocate nothing: the links are in the timed records, which
//! live elsewhere. Timers come out in the order of slots, never early. After Varghese and Lauck, "Hashed and
//! Hierarchical Timing Wheels" (SOSP 1987); the level is found by the highest bit in which two times differ.
//!
//! Times are numbers in base 64 here. Invariant: a timer on level L has the same digits above L as `elapsed`, and a
//! larger digit at L (at level 0 an equal one is possible). Only in the slot that is being emptied downwards is the
//! digit equal.

use crate::base::slab::NIL;
use crate::command::Us;

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 11;
/// A bit of `Link::prev`: the record is the first of its slot, and the other bits are the number of that slot.
const HEAD: u32 = 1 << 31;

/// The part of a record that the wheel uses: its neighbours in the list of its slot.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    prev: u32,
    next: u32,
}

impl Link {
    /// Whether its record is in a wheel.
    pub fn is_filed(&self) -> bool {
        self.prev != NIL
    }
}

impl Default for Link {
    fn default() -> Link {
        Link {
            prev: NIL,
            next: NIL,
        }
    }
}

/// Records that can be timed, at places below 2^31.
pub trait Timers {
    /// The link of the record at `place`, which only the wheel changes.
    fn link(&mut self, place: u32) -> &mut Link;
    /// When the record is due. This may move later while the timer is filed: a caller that pops it too early files it
    /// again.
    fn due(&self, place: u32) -> Us;
}

/// A timer wheel over records that live elsewhere.
pub struct Wheel {
    heads: [[u32; SLOTS]; LEVELS],
    /// A bit for each slot that has timers, and in `levels` one for each level that has any: most have none, and every
    /// turn asks.
    occupied: [u64; LEVELS],
    levels: u32,
    /// Everything due before this has been popped.
    elapsed: Us,
}

impl Wheel {
    /// An empty wheel at time 0.
    pub fn new() -> Wheel {
        Wheel {
            heads: [[NIL; SLOTS]; LEVELS],
            occupied: [0; LEVELS],
            levels: 0,
            elapsed: 0,
        }
    }

    /// Files the record at `place` under its due time, or for the next pop if that has passed.
    pub fn insert(&mut self, timers: &mut impl Timers, place: u32) {
        let due = timers.due(place).max(self.elapsed);
        let level = ((u64::BITS - 1 - ((due ^ self.elapsed) | 1).leading_zeros()) / BITS) as usize;
        let slot = digit(due, level);
        let next = self.heads[level][slot];
        let link = timers.link(place);
        assert!(!link.is_filed(), "a timer is filed once");
        *link = Link {
            prev: HEAD | (level * SLOTS + slot) as u32,
            next,
        };
        if next != NIL {
            timers.link(next).prev = place;
        }
        self.heads[level][slot] = place;
        self.occupied[level] |= 1 << slot;
        self.levels |= 1 << level;
    }

    /// Takes the record at `place` out, if it is in.
    pub fn cancel(&mut self, timers: &mut impl Timers, place: u32) {
        let Link { prev, next } = std::mem::take(timers.link(place));
        if prev == NIL {
            return;
        }
        if next != NIL {
            timers.link(next).prev = prev;
        }
        if prev & HEAD == 0 {
            timers.link(prev).next = next;
            return;
        }
        let (level, slot) = (
            (prev & !HEAD) as usize / SLOTS,
            (prev & !HEAD) as usize % SLOTS,
        );
        self.heads[level][slot] = next;
        if next == NIL {
            self.occupied[level] &= !(1 << slot);
            self.levels &= !(u32::from(self.occupied[level] == 0) << level);
        }
    }

    /// Takes out a timer that was filed for `now` or earlier. To move a timer down a level costs one of `fuel`. When
    /// the fuel is spent this returns None, and `next` stays in the past until a later call goes on.
    pub fn pop(&mut self, timers: &mut impl Timers, now: Us, fuel: &mut u32) -> Option<u32> {
        loop {
            let Some((level, slot, start)) = self.first().filter(|&(_, _, start)| start <= now)
            else {
                self.elapsed = self.elapsed.max(now);
                return None;
            };
            self.elapsed = start;
            let place = self.heads[level][slot];
            if level > 0 {
                if *fuel == 0 {
                    return None;
                }
                *fuel -= 1;
            }
            self.cancel(timers, place);
            if level == 0 {
                return Some(place);
            }
            self.insert(timers, place);
        }
    }

    /// When to call `pop` next: never later than the earliest timer, perhaps earlier.
    pub fn next(&self) -> Option<Us> {
        self.first().map(|(_, _, start)| start)
    }

    /// The occupied slot that begins first. Where two begin at once it is that of the higher level: its timers may
    /// belong below the other.
    fn first(&self) -> Option<(usize, usize, Us)> {
        let mut best: Option<(usize, usize, Us)> = None;
        let mut levels = self.levels;
        while levels != 0 {
            let level = levels.trailing_zeros() as usize;
            levels &= levels - 1;
            let slot = self.occupied[level].trailing_zeros() as usize;
            let above = u64::MAX.checked_shl(BITS * (level as u32 + 1)).unwrap_or(0);
            let start =
                (self.elapsed & above | (slot as u64) << (BITS * level as u32)).max(self.elapsed);
            if best.is_none_or(|(_, _, earliest)| start <= earliest) {
                best = Some((level, slot, start));
            }
        }
        best
    }
}

impl Default for Wheel {
    fn default() -> Wheel {
        Wheel::new()
    }
}

fn digit(time: Us, level: usize) -> usize {
    (time >> (BITS * level as u32)) as usize & (SLOTS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Records(Vec<(Us, Link)>);

    impl Timers for Records {
        fn link(&mut self, place: u32) -> &mut Link {
            &mut self.0[place as usize].1
        }
        fn due(&self, place: u32) -> Us {
            self.0[place as usize].0
        }
    }

    struct Dice(u64);

    impl Dice {
        fn below(&mut self, n: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % n
        }
    }

    /// Inserts, cancels, postponements and jumps of time, against a plain list.
    fn against_a_sorted_list(seed: u64, spread_bits: u32, steps: u32) {
        let mut dice = Dice(seed * 2 + 1);
        let mut wheel = Wheel::new();
        let mut records = Records(Vec::new());
        let mut filed: Vec<u32> = Vec::new();
        let mut spare: Vec<u32> = Vec::new();
        let mut now = dice.below(1 << 40);
        for _ in 0..steps {
            match dice.below(10) {
                0..4 => {
                    let bits = dice.below(u64::from(spread_bits) + 1);
                    let due = now + dice.below(1 << bits);
                    let place = spare.pop().unwrap_or_else(|| {
                        records.0.push((0, Link::default()));
                        records.0.len() as u32 - 1
                    });
                    records.0[place as usize].0 = due;
                    wheel.insert(&mut records, place);
                    filed.push(place);
                }
                4 if !filed.is_empty() => {
                    let place = filed.swap_remove(dice.below(filed.len() as u64) as usize);
                    wheel.cancel(&mut records, place);
                    assert!(!records.link(place).is_filed());
                    wheel.cancel(&mut records, place);
                    spare.push(place);
                }
                5 if !filed.is_empty() => {
                    let place = filed[dice.below(filed.len() as u64) as usize];
                    records.0[place as usize].0 += dice.below(1 << spread_bits);
                }
                6 => {
                    let bits = dice.below(u64::from(spread_bits) + 1);
                    now += dice.below(1 << bits);
                }
                7 => now = wheel.next().unwrap_or(now).max(now),
                _ => {}
            }
            let earliest = filed.iter().map(|&p| records.due(p)).min();
            assert!(
                wheel.next() <= earliest || earliest.is_none(),
                "next is never late"
            );
            assert_eq!(wheel.next().is_none(), filed.is_empty());
            let mut fuel = if dice.below(4) == 0 {
                dice.below(3) as u32
            } else {
                u32::MAX
            };
            while let Some(place) = wheel.pop(&mut records, now, &mut fuel) {
                if records.due(place) > now {
                    wheel.insert(&mut records, place);
                    continue;
                }
                filed.retain(|&p| p != place);
                spare.push(place);
            }
            if fuel > 0 {
                assert!(
                    filed.iter().all(|&p| records.due(p) > now),
                    "everything due came out"
                );
            }
        }
        while let Some(next) = wheel.next() {
            now = now.max(next);
            let mut fuel = u32::MAX;
            while let Some(place) = wheel.pop(&mut records, now, &mut fuel) {
                assert!(filed.contains(&place));
                if records.due(place) > now {
                    wheel.insert(&mut records, place);
                } else {
                    filed.retain(|&p| p != place);
                }
            }
        }
        assert!(filed.is_empty(), "a cascade loses nothing");
    }

    #[test]
    fn it_agrees_with_a_sorted_list_over_spreads_of_up_to_2_to_the_40_us() {
        for seed in 0..60 {
            for spread_bits in [6, 13, 24, 40] {
                against_a_sorted_list(seed + u64::from(spread_bits) * 1000, spread_bits, 500);
            }
        }
    }

    #[test]
    fn timers_come_out_sorted_when_none_is_postponed() {
        let mut dice = Dice(99);
        let mut wheel = Wheel::new();
        let mut records = Records(
            (0..2000)
                .map(|_| (dice.below(1 << 40), Link::default()))
                .collect(),
        );
        (0..2000).for_each(|place| wheel.insert(&mut records, place));
        let mut out = Vec::new();
        while let Some(place) = wheel.pop(&mut records, Us::MAX, &mut u32::MAX.clone()) {
            out.push(records.due(place));
        }
        assert_eq!(out.len(), 2000);
        assert!(out.is_sorted());
    }

    #[test]
    fn the_last_microsecond_of_time_and_the_past_can_be_filed() {
        let mut wheel = Wheel::new();
        let mut records = Records(vec![(Us::MAX, Link::default()), (5, Link::default())]);
        assert_eq!(wheel.pop(&mut records, 1000, &mut 9), None);
        wheel.insert(&mut records, 0);
        wheel.insert(&mut records, 1);
        assert_eq!(wheel.pop(&mut records, 1000, &mut 9), Some(1));
        assert_eq!(wheel.pop(&mut records, Us::MAX - 1, &mut 99), None);
        assert_eq!(wheel.pop(&mut records, Us::MAX, &mut 99), Some(0));
    }
}
