//! What the lock table counts of waits, renewals and grants, against what its judge has seen of them. A wait leaves a
//! queue in one way, so all that ever queued is in one of the counts or still there.

use super::Judge;
use dflockd::command::{Refusal, Reply, Us};
use dflockd::locks::Counts;

/// What the judge has seen.
#[derive(Clone, Default)]
pub(super) struct Flow {
    pub queued: u64,
    pub timeouts: u64,
    /// Waits in a queue that were refused as deadlocks.
    pub stuck: u64,
    /// Waits of which a drain has told.
    pub drained: u64,
    pub leased: u64,
    pub claimed: u64,
    pub renewals: u64,
    /// Steps of holds that renew themselves which nothing has shown.
    pub unsure_renewals: u64,
    renewal_failures: u64,
    /// Requests that found a queue full.
    refused: u64,
    granted: u64,
    waited: Us,
    longest: Us,
}

impl Judge {
    /// A ticket that had waited since then was granted.
    pub(super) fn served(&mut self, since: Us) {
        let (flow, waited) = (&mut self.flow, self.now - since);
        flow.granted += 1;
        flow.waited += waited;
        flow.longest = flow.longest.max(waited);
    }

    /// The same of a place that was kept: nobody has waited there at the end.
    pub(super) fn served_kept(&mut self, since: Us) {
        self.served(since);
        self.flow.granted -= 1;
        self.flow.leased += 1;
    }

    /// A repeat has taken a place over, at which a session waited until then or not, and waits there if it `goes_on`.
    pub(super) fn note_take_over(&mut self, waited: bool, goes_on: bool, own: Option<Reply>) {
        self.flow.queued += u64::from(goes_on && !waited);
        if waited && !goes_on {
            match own {
                Some(Reply::Refused(Refusal::Deadlock)) => self.flow.stuck += 1,
                _ => self.flow.timeouts += 1,
            }
        }
    }

    pub(super) fn note_renewal(&mut self, found: bool) {
        self.flow.renewals += u64::from(found);
        self.flow.renewal_failures += u64::from(!found);
    }

    pub(super) fn note_own(&mut self, own: Option<Reply>) {
        let is_full = own == Some(Reply::Refused(Refusal::MaxWaiters));
        self.flow.refused += u64::from(is_full);
    }

    pub(super) fn compare_flow(&self, counts: &Counts) {
        let (flow, waits) = (&self.flow, counts.waits);
        assert_eq!((counts.leased, counts.claimed), (flow.leased, flow.claimed));
        let most = flow.renewals + flow.unsure_renewals;
        assert!((flow.renewals..=most).contains(&counts.renewals));
        assert_eq!(counts.renewal_failures, flow.renewal_failures);
        assert_eq!(
            (waits.granted, waits.timeouts, waits.refused),
            (flow.granted, flow.timeouts, flow.refused)
        );
        assert!(waits.drained >= flow.drained);
        // Those of closing sessions may not be taken out yet.
        let (least, ghosts) = (self.waits.len() as u64, self.ghosts.len() as u64);
        assert!((least..=least + ghosts).contains(&counts.waiting));
        let left = waits.granted + waits.timeouts + waits.cancelled + waits.drained + flow.stuck;
        // At a place that is kept nobody waits.
        let kept = self.waits.iter().filter(|wait| wait.kept.is_some()).count() as u64;
        let waiting = counts.waiting - kept;
        assert_eq!(flow.queued, left + waiting, "a wait ends once");
        assert_eq!(waits.times.count(), self.granted, "once for each grant");
        assert_eq!(
            (waits.times.sum(), waits.longest),
            (flow.waited, flow.longest)
        );
    }
}
