//! Signals: a connection that listens to a pattern receives what is signalled to the channels that match. A signal that
//! arrives while the client waits for another answer is kept for [`Client::hear`], up to a bound. Invariant: signals
//! are heard in the order in which they arrived, and those that found no room are counted.
//!
//! The server keeps no signal: a client that does not listen at that moment misses it, and a client that does not read
//! for long is disconnected. So look when a signal comes, and look now and then without one.
//!
//! ```no_run
//! use std::time::Duration;
//! use dflockd::client::{Client, Error, Options};
//!
//! # fn look(_what: Option<&[u8]>) {}
//! # fn main() -> Result<(), Error> {
//! let mut client = Client::connect("127.0.0.1:6388", &Options::default())?;
//! client.listen(b"jobs.>", Some(b"workers"))?;
//! look(None);
//! loop {
//!     match client.hear(Duration::from_secs(30))? {
//!         Some(signal) => look(Some(&signal.payload)),
//!         // Nothing came: is the server still there?
//!         None => client.ping()?,
//!     }
//! }
//! # }
//! ```
//!
//! ```no_run
//! # use dflockd::client::{Client, Error, Options};
//! # fn main() -> Result<(), Error> {
//! let mut client = Client::connect("127.0.0.1:6388", &Options::default())?;
//! let receivers = client.signal(b"jobs.mail", b"letter 7")?;
//! println!("{receivers} heard of it");
//! # Ok(())
//! # }
//! ```

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::time::Duration;

use super::{Client, Error, Us, micros};
use crate::command::Reply;
use crate::sys;
use crate::wire::ask;
use crate::wire::text::{self, LINE_MAX};

/// How many signals are kept at most between two calls of [`Client::hear`].
pub const KEPT_MAX: usize = 1024;
/// How many bytes of channels and payloads are kept at most.
pub const KEPT_BYTES_MAX: usize = 1 << 20;
/// The shortest wait for a signal, so that a wait of zero reads the socket once.
const LOOK: Us = 1000;

/// A payload and the channel that it was signalled to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signal {
    /// The channel.
    pub channel: Vec<u8>,
    /// The payload as it was sent: any bytes but LF, up to 65,536 with the channel.
    pub payload: Vec<u8>,
}

/// Signals that came while the client was asking for something else.
#[derive(Debug, Default)]
pub(super) struct Heard {
    kept: VecDeque<Signal>,
    bytes: usize,
    missed: u64,
}

impl Heard {
    fn keep(&mut self, signal: Signal) {
        let bytes = self.bytes + signal.len();
        if self.kept.len() == KEPT_MAX || bytes > KEPT_BYTES_MAX {
            self.missed += 1;
            return;
        }
        self.bytes = bytes;
        self.kept.push_back(signal);
    }

    fn take(&mut self) -> Option<Signal> {
        let signal = self.kept.pop_front()?;
        self.bytes -= signal.len();
        Some(signal)
    }
}

impl Signal {
    /// A signal that can be sent. [`Error::Channel`] unless the channel is 1 to 256 bytes without SP, TAB, CR, LF, `*`
    /// and `>`. [`Error::Payload`] unless the payload has a byte that is no blank, has no LF and no CR at its end, and
    /// is, with its channel, at most 65,531 bytes.
    pub fn new(channel: &[u8], payload: &[u8]) -> Result<Signal, Error> {
        check(channel, payload)?;
        Ok(Signal {
            channel: channel.to_vec(),
            payload: payload.to_vec(),
        })
    }

    fn of(line: &[u8]) -> Option<Signal> {
        let (channel, payload) = ask::push(line)?;
        Some(Signal {
            channel: channel.to_vec(),
            payload: payload.to_vec(),
        })
    }

    fn len(&self) -> usize {
        self.channel.len() + self.payload.len()
    }
}

impl Client {
    /// Listens to the channels that match `pattern`: parts with dots between them, where `*` stands for any one part
    /// and `>`, as the last, for one or more. Without a group this connection hears each signal once, however many of
    /// its patterns match. Connections with the same pattern and the same group take turns. Listening again changes
    /// nothing.
    ///
    /// Keep the connection for listening: once a [`super::Lock`] has it, nothing can be heard on it any more.
    ///
    /// [`Error::Pattern`] and [`Error::Group`] if they cannot be one. [`super::Refusal::Error`] if this connection has
    /// as many subscriptions as the server allows, or the server knows no signals; [`super::Refusal::Draining`].
    pub fn listen(&mut self, pattern: &[u8], group: Option<&[u8]>) -> Result<(), Error> {
        let (pattern, group) = checked(pattern, group)?;
        let mut request = Vec::new();
        ask::listen(pattern, group, &mut request);
        self.is_told_ok(&request, sys::now().saturating_add(self.patience))?;
        self.heard.get_or_insert_default();
        Ok(())
    }

    /// Ends a [`Client::listen`], with the same errors; if there was none, nothing changes. Signals that have arrived
    /// can still be heard.
    pub fn unlisten(&mut self, pattern: &[u8], group: Option<&[u8]>) -> Result<(), Error> {
        let (pattern, group) = checked(pattern, group)?;
        let mut request = Vec::new();
        ask::unlisten(pattern, group, &mut request);
        self.is_told_ok(&request, sys::now().saturating_add(self.patience))
    }

    /// Sends a signal to `channel`, which has no wildcards. Returns how many received it: connections that listen
    /// without a group, and groups. To receive a signal is not yet to read it.
    ///
    /// [`Error::Channel`] and [`Error::Payload`] as in [`Signal::new`], [`super::Refusal::Draining`].
    pub fn signal(&mut self, channel: &[u8], payload: &[u8]) -> Result<u64, Error> {
        check(channel, payload)?;
        let mut request = Vec::new();
        ask::signal(channel, payload, &mut request);
        let until = sys::now().saturating_add(self.patience);
        let line = self.exchange(&request, LINE_MAX, until)?;
        if let Some(receivers) = ask::count(&line) {
            return Ok(receivers);
        }
        let reply = self.understood(&line)?;
        Err(self.out_of_step(reply))
    }

    /// Waits for the next signal; None if none came within `wait`. A wait of zero looks whether one has arrived.
    /// Signals that were kept come first, even when the connection has failed.
    ///
    /// None does not mean that the server is there: a [`Client::ping`] asks it. [`Error::Io`] when the connection ends,
    /// also because it was not read for long.
    pub fn hear(&mut self, wait: Duration) -> Result<Option<Signal>, Error> {
        if let Some(signal) = self.heard.as_mut().and_then(Heard::take) {
            return Ok(Some(signal));
        }
        self.demand_whole()?;
        let until = sys::now().saturating_add(micros(wait).max(LOOK));
        let line = match self.line(LINE_MAX, until) {
            Ok(line) => line,
            Err(Error::Io(e)) if e.kind() == ErrorKind::TimedOut => return Ok(None),
            Err(error) => {
                self.is_broken = true;
                return Err(error);
            }
        };
        if self.heard.is_some()
            && let Some(signal) = Signal::of(&line)
        {
            return Ok(Some(signal));
        }
        self.is_broken = true;
        match ask::answer(&line) {
            // The server has said why it closes.
            Some(Reply::Refused(refusal)) => Err(Error::Refused(refusal)),
            _ => Err(self.not_understood(&line)),
        }
    }

    /// How many signals found no room while another answer was awaited: 1024 are kept, and 1 MiB.
    pub fn missed(&self) -> u64 {
        self.heard.as_ref().map_or(0, |heard| heard.missed)
    }

    /// Keeps the signals that came since the last answer. False if anything else came.
    pub(super) fn keep_heard(&mut self) -> Result<bool, Error> {
        while self.heard.is_some()
            && ask::is_push(&self.input)
            && text::find_lf(&self.input).is_some()
        {
            let line = self.line(LINE_MAX, Us::MAX)?;
            self.keep(&line)?;
        }
        let rest = &self.input[..];
        let is_push = ask::PUSH.starts_with(rest) || ask::is_push(rest);
        Ok(rest.is_empty() || (self.heard.is_some() && is_push))
    }

    /// The next line that is no signal; signals before it are kept.
    pub(super) fn answer(&mut self, line_max: usize, until: Us) -> Result<Vec<u8>, Error> {
        loop {
            let line = self.line(line_max, until)?;
            if self.heard.is_none() || !ask::is_push(&line) {
                return Ok(line);
            }
            self.keep(&line)?;
        }
    }

    fn keep(&mut self, line: &[u8]) -> Result<(), Error> {
        match (&mut self.heard, Signal::of(line)) {
            (Some(heard), Some(signal)) => heard.keep(signal),
            _ => return Err(self.not_understood(line)),
        }
        Ok(())
    }
}

fn check(channel: &[u8], payload: &[u8]) -> Result<(), Error> {
    if text::channel(channel).is_none() || channel.len() > LINE_MAX {
        let rule = "a channel is 1 to 256 bytes without SP, TAB, CR, LF, * or >";
        return Err(Error::Channel(rule));
    }
    if payload.ends_with(b"\r") || text::find_lf(payload).is_some() {
        return Err(Error::Payload("a payload has no LF, and no CR at its end"));
    }
    if text::payload(channel, payload).is_none() {
        let rule = "a payload is not blank, and 65,531 bytes with its channel at most";
        return Err(Error::Payload(rule));
    }
    Ok(())
}

/// Checks what [`Client::listen`] would check and sends nothing: the pattern as it is sent, and the group, empty for
/// None. [`Error::Pattern`] and [`Error::Group`] if they cannot be one.
pub fn checked<'a>(
    pattern: &'a [u8],
    group: Option<&'a [u8]>,
) -> Result<(&'a [u8], &'a [u8]), Error> {
    if text::pattern(pattern).is_none() || pattern.len() > LINE_MAX {
        let rule = "a pattern is 1 to 256 bytes without SP, TAB, CR or LF; \
                    * is a whole part of it, and > the last";
        return Err(Error::Pattern(rule));
    }
    let Some(group) = group else {
        return Ok((pattern, b""));
    };
    let is_group = (1..=LINE_MAX).contains(&group.len())
        && group.trim_ascii() == group
        && text::find_lf(group).is_none();
    if !is_group {
        let rule = "a group is 1 to 256 bytes without LF or a blank at its ends";
        return Err(Error::Group(rule));
    }
    Ok((pattern, group))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signal(payload: &[u8]) -> Signal {
        Signal {
            channel: b"c".to_vec(),
            payload: payload.to_vec(),
        }
    }

    #[test]
    fn so_many_signals_are_kept_and_the_others_counted() {
        let mut heard = Heard::default();
        for n in 0..=KEPT_MAX {
            heard.keep(signal(n.to_string().as_bytes()));
        }
        assert_eq!((heard.kept.len(), heard.missed), (KEPT_MAX, 1));
        assert_eq!(heard.take(), Some(signal(b"0")));
        heard.keep(signal(b"last"));
        assert_eq!(heard.kept.back(), Some(&signal(b"last")));
        while heard.take().is_some() {}
        assert_eq!((heard.bytes, heard.missed), (0, 1));
    }

    #[test]
    fn so_many_bytes_are_kept_and_no_more() {
        let mut heard = Heard::default();
        let large = signal(&[b'x'; 65_529]);
        for _ in 0..100 {
            heard.keep(large.clone());
        }
        assert_eq!((heard.kept.len(), heard.missed), (16, 84));
        assert!(heard.bytes <= KEPT_BYTES_MAX);
        heard.keep(signal(b"there is room for a small one"));
        assert_eq!(heard.missed, 84);
    }

    #[test]
    fn patterns_and_groups_are_checked_before_they_are_sent() {
        for pattern in [&b"a"[..], b"a.*", ">".as_bytes(), b"a..b", &[b'a'; 256]] {
            assert!(checked(pattern, None).is_ok(), "{pattern:?}");
        }
        for pattern in [&b""[..], b"a b", b"a*", b">.a", b"a\n", &[b'a'; 257]] {
            assert!(
                matches!(checked(pattern, None), Err(Error::Pattern(_))),
                "{pattern:?}"
            );
        }
        for group in [&b"g"[..], b"g h", &[0xff; 256]] {
            assert!(checked(b"a", Some(group)).is_ok(), "{group:?}");
        }
        for group in [&b""[..], b" g", b"g\r", b"g\nh", &[b'g'; 257]] {
            assert!(
                matches!(checked(b"a", Some(group)), Err(Error::Group(_))),
                "{group:?}"
            );
        }
    }
}
