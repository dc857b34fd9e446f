//! Where a story may have gone wrong: pairs of its steps that perhaps came in another order, and sessions that perhaps did
//! what another is thought to have done.

use dflockd::command::{Reply, SessionId};

use super::{Asked, Hint, Part, RIVALS_MAX, Step};
use crate::judges::locks::Act;

/// Pairs of steps of different sessions within one call: first those about one key, and the latest first.
pub(super) fn rivals(steps: &[Step]) -> Vec<(usize, usize)> {
    let mut pairs = [Vec::new(), Vec::new()];
    for (second, step) in steps.iter().enumerate().rev() {
        if step.id == SessionId::NOBODY || step.act.is_none() {
            continue;
        }
        let key = |step: &Step| step.act.and_then(Act::key);
        let place = |step: &Step| (step.turn, step.call);
        let before = (0..second).rev();
        for first in before.take_while(|&first| place(&steps[first]) == place(step)) {
            let other = &steps[first];
            if other.id != step.id && other.id != SessionId::NOBODY && other.act.is_some() {
                pairs[usize::from(key(other) != key(step))].push((first, second));
            }
        }
    }
    pairs.concat()
}

/// Pairs of requests of different sessions that began to wait in one queue, in different calls of one turn: perhaps each
/// did when the other is thought to have. The latest come first.
pub(super) fn exchanges(steps: &[Step]) -> Vec<(usize, usize)> {
    let mut pairs = delays(steps);
    pairs.retain(|&(first, second)| {
        let between = &steps[first..second];
        between.iter().all(|between| between.id != steps[second].id)
    });
    pairs
}

/// The same: perhaps the first did right behind the second, which did other things before.
pub(super) fn delays(steps: &[Step]) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    for (second, step) in steps.iter().enumerate().rev() {
        if queue(step).is_none() {
            continue;
        }
        let before = (0..second).rev();
        for first in before.take_while(|&first| steps[first].turn == step.turn) {
            let other = &steps[first];
            if queue(other) == queue(step) && other.call != step.call && other.id != step.id {
                pairs.push((first, second));
            }
        }
    }
    pairs
}

/// Calls in which a session began to wait, and others that asked for the same queue in this turn: perhaps one of them did
/// in its place, and it has not come so far. The latest come first.
pub(super) fn stand_ins(path: &[Step], parts: &[Part]) -> Vec<(usize, Hint)> {
    let mut calls = Vec::new();
    for step in path.iter().rev().filter(|step| queue(step).is_some()) {
        let asks_for_it = |ask: &Asked| ask.act.can_queue() && ask.act.key() == queue(step);
        let others = parts.iter().filter(|part| part.id != step.id);
        let others = others.filter(|part| part.asks.iter().any(asks_for_it));
        let before = calls.len();
        calls.extend(others.map(|part| (step.call, Hint::First(part.id))));
        if calls.len() > before {
            calls.push((step.call, Hint::Last(step.id)));
        }
    }
    calls.truncate(RIVALS_MAX);
    calls
}

/// The key in whose queue the session of a step stands from then on.
fn queue(step: &Step) -> Option<usize> {
    let queues = |act: &Act| act.can_queue() || matches!(act, Act::Enqueue { .. });
    let key = step.act.filter(queues).and_then(Act::key);
    let stands = |said: &(SessionId, Reply)| matches!(said.1, Reply::Queued | Reply::Kept { .. });
    let stays = |said: &(SessionId, Reply)| said.0 != step.id || stands(said);
    key.filter(|_| step.said.iter().all(stays))
}
