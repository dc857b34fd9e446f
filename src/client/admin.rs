//! What an administrator asks a server: its state, who has a key, and the end of a hold by force. Invariant: a long answer
//! may take as long as it needs, if no pause between two parts of it is longer than the patience.

use super::{Client, Error, Key};
use crate::command::Command;
use crate::sys;
use crate::wire::ask;
use crate::wire::text::LINE_MAX;

/// The longest answer to `stats` or `show`, in bytes.
const STATS_MAX: usize = 1 << 30;

impl Client {
    /// The state of the server: one line of JSON, as in dflockd-protocol(7), of at most 1 GiB. It may take as long as
    /// it needs, if no pause between two parts of it is longer than the patience.
    pub fn stats(&mut self) -> Result<String, Error> {
        let mut request = Vec::new();
        ask::stats(&mut request);
        self.listing(&request)
    }

    /// Who holds `key` and who waits for it: one line of JSON, as in dflockd-protocol(7). It takes as long as it needs, as
    /// [`Client::stats`].
    ///
    /// [`Refusal::Error`] from a server that does not know the question.
    pub fn show(&mut self, key: &Key<'_>) -> Result<String, Error> {
        let mut request = Vec::new();
        ask::show(key.space, key.name, &mut request);
        self.listing(&request)
    }

    /// Ends the holds of `key` by force, as an administrator: all that there are now, or the one with this fence. Returns
    /// how many that were. Waiters are served next; a former holder learns of it at its next renewal or release.
    ///
    /// [`Refusal::Auth`] if this connection is no administrator's: the secret of the [`Options`] is then not that of
    /// the server's `--admin-token`. [`Refusal::Error`] from a server that does not know the request.
    pub fn break_holds(&mut self, key: &Key<'_>, fence: Option<u64>) -> Result<u64, Error> {
        let command = Command::Break {
            space: key.space,
            key: key.name,
            fence,
        };
        let mut request = Vec::new();
        ask::command(&command, &mut request);
        let until = sys::now().saturating_add(self.patience);
        let line = self.exchange(&request, LINE_MAX, until)?;
        match ask::count(&line) {
            Some(holds) => Ok(holds),
            None => {
                let reply = self.understood(&line)?;
                Err(self.out_of_step(reply))
            }
        }
    }

    /// Sends a question whose answer is one long line of JSON.
    fn listing(&mut self, request: &[u8]) -> Result<String, Error> {
        let until = sys::now().saturating_add(self.patience);
        let mut line = self.exchange(request, STATS_MAX, until)?;
        if !line.starts_with(b"ok {") {
            let reply = self.understood(&line)?;
            return Err(self.out_of_step(reply));
        }
        line.drain(..b"ok ".len());
        String::from_utf8(line).map_err(|error| self.not_understood(error.as_bytes()))
    }
}
