//! A lock server; the map of it grows with it.

pub mod buffer;
pub mod command;
pub mod locks;
pub mod slab;
pub mod table;
pub mod wheel;
pub mod wire;
