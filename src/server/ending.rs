//! How the server ends: a signal comes, holders finish or the next server goes on with what they hold, and the last
//! requests are answered. Invariant: a request that had come before the signal is carried out and answered, unless the
//! lead is lost.

use std::io;
use std::time::Duration;

use mio::Events;

use super::{CUT_HOLD, Server, trail, unix_us};
use crate::command::Us;
use crate::facts::Protection;
use crate::log::Fields;

/// How often the doors accept what they can before they close: more than a backlog of connections (listen(2)).
const LAST_ACCEPTS: usize = 16;
/// Signals within this of the first are the same one: timeout(1) sends it to the process and to its group, and a
/// wrapper hands on what the terminal has sent already.
const SAME_SIGNAL: Us = 100_000;

impl Server {
    /// Signals have come.
    pub(super) fn signalled(&mut self) {
        while let Some(signal) = self.signals.take() {
            match self.draining {
                _ if signal == libc::SIGHUP => {
                    self.manager.reloading(self.now);
                    self.reload();
                    self.manager.reloaded(self.now);
                }
                None if self.cluster.is_some() => self.hand_over_lead(),
                None if self.hands_over && self.keep.protection() == Protection::Journal => {
                    self.hand_over();
                }
                None => self.drain(),
                Some(since) if self.now <= since.saturating_add(SAME_SIGNAL) => {}
                Some(_) => self.cut = true,
            }
        }
    }

    /// The next server goes on with what is held, so nobody has to finish.
    fn hand_over(&mut self) {
        self.draining = Some(self.now);
        self.log.info(unix_us(), "handing-over", &[]);
        self.manager.stopping(self.now, self.load());
        self.cut = true;
    }

    fn drain(&mut self) {
        self.draining = Some(self.now);
        let (connections, holds) = (self.hub.lines(), self.hub.locks().held_by_sessions());
        let detached = self.hub.locks().held_without_session();
        let fields: Fields = &[
            ("connections", &connections),
            ("holds", &holds),
            ("detached", &detached),
        ];
        self.log.info(unix_us(), "draining", fields);
        self.manager.stopping(self.now, self.load());
        self.hub.drain();
    }

    /// Nothing is held any more: newcomers of the line protocol are not awaited. A client that has connected already is
    /// turned away like the others, not reset. At a socket that is the manager's it waits for the next process.
    pub(super) fn close_doors(&mut self) -> io::Result<()> {
        self.doors.leave_to_others(self.poll.registry());
        self.accept_all();
        self.doors.close_lines(self.poll.registry());
        self.sockets.handshakes.hurry();
        self.settle()
    }

    /// Takes in all clients that have connected already.
    pub(super) fn accept_all(&mut self) {
        for _ in 0..LAST_ACCEPTS {
            self.doors.accept_again();
            self.accept();
            if !self.doors.may_accept() {
                break;
            }
        }
    }

    /// Says what is left, to people and to the next server.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        let Server {
            doors,
            refusals,
            log,
            hub,
            keep,
            cluster,
            ..
        } = self;
        doors.report(Us::MAX, log);
        refusals.report(Us::MAX, log);
        let (cut, holds) = (hub.lines(), hub.locks().held_by_sessions());
        // The next server has the others.
        if cluster.is_none() && keep.protection() != Protection::Journal {
            hub.note_kept();
            trail::log_events(hub, CUT_HOLD, log);
        }
        let detached = hub.locks().held_without_session();
        let fields: Fields = &[("cut", &cut), ("holds", &holds), ("detached", &detached)];
        log.info(unix_us(), "stopped", fields);
        keep.stop(self.now, hub)
    }

    /// Answers the requests that have come by now: their clients cannot know that the server has ended. Newcomers at the
    /// sockets of a service manager are left to the next process.
    pub(super) fn last_turn(&mut self, events: &mut Events) -> io::Result<()> {
        self.doors.leave_to_others(self.poll.registry());
        self.poll(events, Some(Duration::ZERO))?;
        self.turn(events)
    }
}
