//! Code that would serve any program: containers and the calendar. It knows nothing of locks, sessions or protocols.
//! The linked containers keep values at places, which are u32, so that a link costs four bytes and no reference
//! counting. Invariant: only `command`, for the unit of time, is imported from outside.

pub mod buffer;
pub mod date;
pub mod got;
pub mod grid;
pub mod histogram;
pub mod list;
pub mod name;
pub mod slab;
pub mod table;
pub mod wheel;
