//! Claims, as the judge of the lock table sees them: holds that are no session's but an owner's, who never waits. An
//! owner is a realm and a name: who has claimed is a stranger to sessions that have declared an equal name.

use super::{End, Hold, Judge, NAMES, Who, Wish};
use dflockd::command::{Refusal, Reply, SessionId};

/// What those who claim are called; the first are what sessions declare, too.
pub const CLAIMANTS: [&[u8]; 5] = [NAMES[0], NAMES[1], NAMES[2], b"", &[0xff; 300]];

impl Judge {
    /// What a claim was told.
    pub(super) fn claimed(
        &mut self,
        from: SessionId,
        name: usize,
        own: Option<Reply>,
        entering: Result<Wish, Refusal>,
    ) {
        let Wish { key, limit, lease } = match entering {
            Ok(wish) => wish,
            Err(refusal) => return assert_eq!(own, Some(Reply::Refused(refusal))),
        };
        self.promote_free(key, limit);
        let waiting = self.waits.iter().any(|wait| wait.key == key);
        let due = self.now.saturating_add(lease);
        let its = |hold: &&mut Hold| hold.key == key && hold.who == Who::Claim(name);
        match (self.holds.iter_mut().find(its), own) {
            (Some(hold), Some(Reply::Granted { token, lease: told })) => {
                assert!(hold.is(key, token), "it has another");
                assert_eq!(lease, told, "S6: the lease is what the server says");
                hold.due = due;
            }
            (None, Some(Reply::Granted { token, lease: told })) => {
                assert_eq!(lease, told, "S6: the lease is what the server says");
                assert!(!waiting, "S2: nobody barges");
                self.flow.claimed += 1;
                self.grant(from, key, token, lease, false);
                let hold = self.holds.last_mut().expect("it was just granted");
                (hold.owner, hold.who) = (None, Who::Claim(name));
            }
            (hold, Some(Reply::Timeout)) => {
                assert!(hold.is_none(), "it is its own");
                let busy = waiting || self.held(key).next().is_some() || self.is_quarantined();
                assert!(busy, "a free lock was refused");
            }
            (_, own) => panic!("{own:?} answers no claim"),
        }
    }

    /// What who gives back a claim was told.
    pub(super) fn yielded(&mut self, key: usize, name: usize, own: Option<Reply>) {
        let is_its = |hold: &Hold| hold.key == key && hold.who == Who::Claim(name);
        let hold = self.holds.iter().find(|hold| is_its(hold));
        match own {
            Some(Reply::Released) => {
                assert!(hold.is_some(), "S8: nothing is held by this owner");
                self.released += 1;
                self.end_holds(End::Otherwise, is_its);
            }
            Some(Reply::Refused(Refusal::Error)) => {
                assert!(hold.is_none_or(|hold| hold.fading), "a hold ended early");
                self.end_holds(End::Expired, is_its);
            }
            _ => panic!("S4: {own:?} is no answer"),
        }
    }
}
