//! How many connections there are, in all and from each address, and whether one more may come in. A connection counts
//! from accept to close. Invariant: addresses are kept only if there is a limit for each.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use crate::base::grid::Grid;

/// The part of an IPv6 address that names a network. A client may choose the rest as it likes; RFC 4291, 2.5.1.
const NETWORK: u128 = !0 << 64;

/// The limit that keeps a connection out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Over {
    All,
    PerIp,
}

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

    /// The limit that one more from this address would be over, if there is one.
    pub fn keeps_out(&self, ip: IpAddr) -> Option<Over> {
        let is_over = |count: u32, most: u32| most > 0 && count >= most;
        if is_over(self.count, self.most) {
            return Some(Over::All);
        }
        let from_there = self.by_ip.get(&origin(ip)).copied().unwrap_or(0);
        is_over(from_there, self.most_per_ip).then_some(Over::PerIp)
    }

    /// How many connections there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// A connection from this address is in, with this slot.
    pub fn enter(&mut self, slot: u32, ip: IpAddr) {
        self.count += 1;
        if self.most_per_ip == 0 {
            return;
        }
        let ip = origin(ip);
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

/// The address under which a connection is counted: an IPv4 address, mapped into IPv6 or not, or the /64 network of an
/// IPv6 address.
fn origin(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & NETWORK).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Limits {
        fn may_enter(&self, ip: IpAddr) -> bool {
            self.keeps_out(ip).is_none()
        }
    }

    #[test]
    fn all_addresses_of_an_ipv6_network_are_one_client() {
        let at = |text: &str| -> IpAddr { text.parse().unwrap() };
        let mut limits = Limits::new(0, 1);
        limits.enter(0, at("2001:db8:0:1::7"));
        for same in ["2001:db8:0:1::7", "2001:db8:0:1:ffff::", "2001:db8:0:1::"] {
            assert_eq!(limits.keeps_out(at(same)), Some(Over::PerIp), "{same}");
        }
        for other in ["2001:db8:0:2::7", "2001:db8::7", "::ffff:32.1.13.184"] {
            assert!(limits.may_enter(at(other)), "{other}");
        }
        // Mapped addresses are all in one network of IPv6, and each is a client of its own.
        limits.enter(1, at("::ffff:10.0.0.1"));
        assert!(!limits.may_enter(at("10.0.0.1")));
        assert!(limits.may_enter(at("::ffff:10.0.0.2")));
        limits.leave(0);
        assert!(limits.may_enter(at("2001:db8:0:1::8")));
    }

    #[test]
    fn the_limit_that_keeps_out_is_named() {
        let (one, two) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mut limits = Limits::new(2, 1);
        limits.enter(0, one);
        assert_eq!(limits.keeps_out(one), Some(Over::PerIp));
        assert_eq!(limits.keeps_out(two), None);
        limits.enter(1, two);
        assert_eq!(limits.keeps_out(one), Some(Over::All));
    }

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
