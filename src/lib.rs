//! dflockd.

pub mod buffer;
pub mod command;
pub mod hub;
pub mod locks;
pub mod slab;
pub mod table;
pub mod wheel;
pub mod wire;
