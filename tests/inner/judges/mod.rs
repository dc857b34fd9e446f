//! Judges of the inner rings: each knows the rules of the contract and not the code, is shown what was asked and
//! answered, and panics if that was not legal.

pub mod hub;
pub mod locks;
pub mod signals;
