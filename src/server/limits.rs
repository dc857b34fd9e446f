//! How many connections there are, in all and from each address, and whether one more may come in. A connection counts
//! from accept to close. Invariant: addresses are kept only if there is a limit for each.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::base::grid::Grid;

/// The connections there are, and their limits.
pub(super) struct Limits {
    most: u32,
    most_per_ip: u32,
    count: u32,
    /// A map that gives memory back as it shrinks.
    by_ip: BTreeMap<IpAddr, u32>,
    /// The address of each connection, by slot of its session; empty without a limit per address.
    by_slot: Grid<Option<IpAddr>>,
}

impl Limits {
    /// No connections; a limit of 0 sets none.
    pub fn new(most: u32, most_per_ip: u32) -> Limits {
        Limits {
            most,
            most_per_ip,
            count: 0,
            by_ip: BTreeMap::new(),
            by_slot: Grid::new(),
        }
    }

    /// Whether one more from this address is within the limits.
    pub fn may_enter(&self, ip: IpAddr) -> bool {
        let from_there = self.by_ip.get(&ip.to_canonical()).copied().unwrap_or(0);
        let fits = |count: u32, most: u32| most == 0 || count < most;
        fits(self.count, self.most) && fits(from_there, self.most_per_ip)
    }

    /// A connection from this address is in, with this slot.
    pub fn enter(&mut self, slot: u32, ip: IpAddr) {
        self.count += 1;
        if self.most_per_ip == 0 {
            return;
        }
        let ip = ip.to_canonical();
        *self.by_slot.take(slot as usize) = Some(ip);
        *self.by_ip.entry(ip).or_default() += 1;
    }

    /// The connection with this slot is closed.
    pub fn leave(&mut self, slot: u32) {
        self.count -= 1;
        let Some(ip) = self.by_slot.free(slot as usize) else {
            return;
        };
        let left = self.by_ip.get_mut(&ip).expect("who is in was counted");
        *left -= 1;
        if *left == 0 {
            self.by_ip.remove(&ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_in_all_and_for_each_address_and_places_come_free() {
        let (one, two) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        let mut limits = Limits::new(3, 2);
        limits.enter(0, one);
        limits.enter(1, mapped);
        assert!(!limits.may_enter(one) && !limits.may_enter(mapped) && limits.may_enter(two));
        limits.enter(7, two);
        assert!(!limits.may_enter(two));
        limits.leave(0);
        assert!(limits.may_enter(one) && limits.may_enter(two));
        limits.leave(1);
        limits.leave(7);
        assert!(limits.by_ip.is_empty() && limits.count == 0);
    }

    #[test]
    fn zero_is_no_limit() {
        let mut limits = Limits::new(0, 0);
        let ip = "::1".parse().unwrap();
        for slot in 0..1000 {
            assert!(limits.may_enter(ip));
            limits.enter(slot, ip);
        }
        assert!(limits.by_slot.iter().next().is_none());
    }
}
