//! Which handshakes have begun, which have work to do, and when each must have ended. It knows no socket. Invariant: the
//! deadlines are in their order.

use std::collections::VecDeque;

use crate::command::{SECOND, SessionId, Us, earlier};

/// How long a handshake may take.
const PATIENCE: Us = 5 * SECOND;
/// Handshakes that may have begun. Another one ends the oldest, so that mute clients keep nobody out.
const MOST: usize = 1024;
/// While so many have work to do, more clients wait at the door.
const READY_MAX: usize = 256;

/// The handshakes that have begun.
#[derive(Default)]
pub(super) struct Queue {
    /// How many are not over.
    count: usize,
    /// All of them and some that are over, by when they must have ended.
    due: VecDeque<(Us, SessionId)>,
    /// Sessions whose handshakes have bytes to work on.
    ready: VecDeque<SessionId>,
    /// The time of the turn.
    now: Us,
    /// Until when others come first.
    rests: Us,
}

impl Queue {
    /// A turn begins. If it comes much too late the process has stood still: what has come meanwhile is to be heard first.
    pub fn begin_turn(&mut self, now: Us) {
        self.now = now;
        if let Some(&(due, _)) = self.due.front()
            && due.saturating_add(SECOND) < now
        {
            let span = now - due + PATIENCE;
            self.due.iter_mut().for_each(|(due, _)| *due += span);
        }
    }

    /// A handshake begins.
    pub fn begin(&mut self, id: SessionId) {
        self.count += 1;
        self.due.push_back((self.now.saturating_add(PATIENCE), id));
    }

    /// The server is about to end: no handshake has longer than a second from now on.
    pub fn hurry(&mut self) {
        let most = self.now.saturating_add(SECOND);
        self.due
            .iter_mut()
            .for_each(|(due, _)| *due = (*due).min(most));
    }

    /// One is over.
    pub fn end(&mut self) {
        self.count -= 1;
    }

    /// Takes the oldest if there are too many, or if it has taken too long, and says which. It may be over already.
    pub fn next_late(&mut self) -> Option<(SessionId, &'static str)> {
        let &(due, id) = self.due.front()?;
        let why = if due <= self.now {
            "it took too long"
        } else if self.count > MOST {
            "there were too many at once"
        } else {
            return None;
        };
        self.due.pop_front();
        Some((id, why))
    }

    /// Something has come of one that was not in the queue.
    pub fn push_ready(&mut self, id: SessionId) {
        self.ready.push_back(id);
    }

    /// Takes the next that has work to do, unless others come first.
    pub fn next_ready(&mut self) -> Option<SessionId> {
        (self.now >= self.rests).then(|| self.ready.pop_front())?
    }

    /// A step of one has taken so long while others had work to do: they have as long for that now.
    pub fn rest(&mut self, span: Us) {
        self.rests = self.now.saturating_add(span.saturating_mul(2));
    }

    /// Whether bytes that have come are still in their sockets.
    pub fn is_behind(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether some have work to do now.
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty() && self.now >= self.rests
    }

    /// Whether more clients must wait.
    pub fn is_pressed(&self) -> bool {
        self.ready.len() >= READY_MAX
    }

    /// When the next one goes on after a rest, or must have ended.
    pub fn deadline(&self) -> Option<Us> {
        let rests = (!self.ready.is_empty()).then_some(self.rests);
        earlier(self.due.front().map(|&(due, _)| due), rests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(at: usize) -> SessionId {
        SessionId::new(1 + at as u64, at as u32)
    }

    #[test]
    fn one_more_than_the_most_ends_the_oldest_and_time_ends_each() {
        let mut queue = Queue::default();
        queue.begin_turn(7);
        (0..MOST).for_each(|at| queue.begin(id(at)));
        assert_eq!(queue.next_late(), None);
        queue.begin(id(MOST));
        assert_eq!(
            queue.next_late(),
            Some((id(0), "there were too many at once"))
        );
        queue.end();
        assert_eq!(queue.next_late(), None);
        assert_eq!(queue.deadline(), Some(7 + PATIENCE));
        queue.begin_turn(7 + PATIENCE - 1);
        assert_eq!(queue.next_late(), None);
        queue.begin_turn(7 + PATIENCE);
        for at in 1..=MOST {
            assert_eq!(queue.next_late(), Some((id(at), "it took too long")));
            queue.end();
        }
        assert_eq!((queue.next_late(), queue.deadline()), (None, None));
    }

    #[test]
    fn a_process_that_stood_still_hears_its_clients_before_it_ends_their_handshakes() {
        let mut queue = Queue::default();
        queue.begin(id(0));
        queue.begin_turn(PATIENCE + SECOND + 1);
        assert_eq!(queue.next_late(), None);
        queue.begin_turn(2 * PATIENCE + SECOND + 1);
        assert_eq!(queue.next_late(), Some((id(0), "it took too long")));
    }

    #[test]
    fn at_the_end_of_the_server_no_handshake_takes_long() {
        let mut queue = Queue::default();
        queue.begin(id(0));
        queue.begin_turn(PATIENCE - 1);
        queue.begin(id(1));
        queue.hurry();
        queue.begin_turn(PATIENCE);
        assert_eq!(queue.next_late(), Some((id(0), "it took too long")));
        assert_eq!(queue.next_late(), None);
        queue.begin_turn(PATIENCE - 1 + SECOND);
        assert_eq!(queue.next_late(), Some((id(1), "it took too long")));
    }

    #[test]
    fn clients_wait_while_many_have_work_to_do() {
        let mut queue = Queue::default();
        assert!(!queue.has_work());
        (0..READY_MAX).for_each(|at| queue.push_ready(id(at)));
        assert!(queue.has_work() && queue.is_pressed());
        assert_eq!(queue.next_ready(), Some(id(0)));
        assert!(queue.has_work() && !queue.is_pressed());
    }

    #[test]
    fn after_a_step_others_have_as_long() {
        let mut queue = Queue::default();
        queue.begin_turn(1_000);
        (0..2).for_each(|at| queue.push_ready(id(at)));
        assert_eq!(queue.next_ready(), Some(id(0)));
        // The turn goes on for as long as the step, and they for as long after that.
        queue.rest(300);
        assert!(!queue.has_work());
        assert_eq!((queue.next_ready(), queue.deadline()), (None, Some(1_600)));
        queue.begin_turn(1_600);
        assert!(queue.has_work());
        assert_eq!((queue.next_ready(), queue.deadline()), (Some(id(1)), None));
    }
}
