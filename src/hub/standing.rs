//! Where this server stands among those that share its store. Invariant: a hub that stands by carries out nothing that has
//! to do with locks, and says who leads.

use super::Hub;
use crate::command::Us;

/// The part of a server among others, as its store has told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it leads.
    pub leads: bool,
    /// The revision of the head that was seen last.
    pub revision: u64,
    /// When the last request went out that the store has answered.
    pub answered: Us,
}

impl Standing {
    /// The name of the part, as people see it.
    pub fn role(self) -> &'static str {
        match self.leads {
            true => "leader",
            false => "standby",
        }
    }
}

impl Hub {
    /// The server has this part, as it was told last.
    pub fn set_standing(&mut self, standing: Standing) {
        self.standing = Some(standing);
    }

    /// The server does not lead. `known` says who does, in words for people.
    pub fn stand_by(&mut self, known: &str) {
        if self.known.as_deref() != Some(known) {
            self.known = Some(known.into());
        }
    }

    /// What a client is told that wants something of a server that does not lead.
    #[cfg(feature = "http")]
    pub(super) fn refers_to(&self) -> Option<String> {
        let known = self.known.as_deref()?;
        Some(format!("this server stands by; {known}"))
    }
}
