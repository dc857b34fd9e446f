//! What would serve any program, containers and the calendar: they know nothing of locks, sessions or protocols. Each
//! container keeps its values at places that are small integers, so that links between them cost four bytes and no
//! reference counting.

pub mod buffer;
pub mod date;
pub mod list;
pub mod name;
pub mod slab;
pub mod table;
pub mod wheel;
