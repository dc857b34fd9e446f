//! The tests of the inner rings: no socket, no clock, no process. Dialogues say what clients hear, simulations look for
//! what nobody has thought of, and judges know the rules.

mod dialogue;
mod ha_sim;
mod harness;
mod hub_sim;
mod judges;
mod knots;
mod locks_sim;
mod signals_sim;
