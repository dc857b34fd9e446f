//! A wait in a queue, of a client that blocks. Where another server may lead instead, the one that has the queue is
//! pinged meanwhile over a connection of its own: a wait has no answer for as long as it takes, and the kernel of a
//! stopped server goes on to acknowledge what it gets. Invariant: a wait is given up early only if nobody was there to
//! answer a ping.

use std::io::{self, ErrorKind};

use super::turns::{PAUSE, SILENCE, is_absence};
use super::{Client, Error, Us};
use crate::command::{Command, Reply, SECOND};
use crate::sys;

/// The pings beside a wait.
#[derive(Debug)]
pub(super) struct Watch {
    due: Us,
    /// Where the last one was answered.
    client: Option<Client>,
}

impl Client {
    /// Sends a command that may wait in a queue for so long, and returns what [`Client::ask`] does.
    /// [`ErrorKind::TimedOut`] if the server is silent: after the wait and the patience, or a few seconds after it has
    /// fallen silent if it has alternatives.
    pub(super) fn queue(&mut self, command: &Command<'_>, wait: Us) -> Result<(Us, Reply), Error> {
        if wait > 0 && self.home.sites.has_alternatives() {
            let due = sys::now().saturating_add(PAUSE);
            self.watch = Some(Box::new(Watch { due, client: None }));
        }
        let answer = self.ask(command, beyond(wait, self.patience));
        self.watch = None;
        answer
    }

    /// Pings the server if it has a wait in its queue and a ping is due, for which there is time until then.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if nobody is there to answer.
    pub(super) fn watch(&mut self, until: Us) -> io::Result<()> {
        let now = sys::now();
        // To connect and to be answered may take so long each.
        if until.saturating_sub(now) <= 2 * SILENCE {
            return Ok(());
        }
        let Some(watch) = self.watch.as_mut().filter(|watch| now >= watch.due) else {
            return Ok(());
        };
        let pinged = match watch.client.take() {
            Some(client) => Ok(client),
            None => self.home.connect(SILENCE, now.saturating_add(SILENCE)),
        };
        match pinged.and_then(|mut client| client.ping().map(|()| client)) {
            Ok(client) => watch.client = Some(client),
            Err(Error::Io(error)) if is_absence(&error) => return Err(ErrorKind::TimedOut.into()),
            // An answer of any kind, or the end of the connection, is a sign of the server.
            Err(_) => {}
        }
        watch.due = sys::now().saturating_add(PAUSE);
        Ok(())
    }
}

/// How long the answer to a wait may take. On the wire the wait is rounded up to seconds.
fn beyond(wait: Us, patience: Us) -> Us {
    wait.div_ceil(SECOND)
        .saturating_mul(SECOND)
        .saturating_add(patience)
}
