//! What outlives the process: the ledger survives a loss of power, the journal carries the holds over a restart. Not here:
//! when they are written, which the server decides. Invariant: what a call has kept is there at the next start, or the next
//! start says that it cannot know.

#[cfg(feature = "etcd")]
pub mod etcd;
pub mod history;
pub mod journal;
pub mod leadership;
pub mod ledger;
pub mod log;
mod owner;
pub mod sweep;
