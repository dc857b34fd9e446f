//! Signals: a connection that listens to patterns is told what is signalled to channels, at any time between two answers.
//! What comes while it asks for something else is kept for [`Client::hear`], up to a bound. Invariant: signals come out in
//! the order in which they came in, and those that there was no room for are counted.
//!
//! The server keeps no signal: who does not listen at that moment does not get it, and whoever does not read for long is
//! cut off. So a signal is a reason to look, and never the only one.
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
//!         // It is silent: is the server still there?
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
/// And how many bytes of channels and payloads.
pub const KEPT_BYTES_MAX: usize = 1 << 20;
/// The shortest wait for a signal: it looks whether there is one.
const LOOK: Us = 1000;

/// What was signalled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signal {
    /// Where to.
    pub channel: Vec<u8>,
    /// What, as it was sent: any bytes but LF, up to 65,536 with the channel.
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
    /// A signal that can be sent. [`Error::Channel`] unless the channel is 1 to 256 bytes and has no SP, TAB, CR, LF, `*`
    /// or `>`; [`Error::Payload`] unless the payload has something that is no blank in it, no LF, no CR at its end, and
    /// with its channel not more than 65,531 bytes.
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
    /// From now on hears what is signalled to channels like `pattern`: parts with dots between them, of which `*` is any
    /// one, and `>`, as the last, any one or more. Those who say the same pattern and the same group take turns; without
    /// a group each hears everything, and once, however many of its patterns match. To say so again changes nothing.
    ///
    /// A connection that listens is better used for nothing else for long: who gives it to a [`super::Lock`] cannot hear
    /// any more.
    ///
    /// [`Error::Pattern`] and [`Error::Group`] if they cannot be one, [`super::Refusal::Error`] if the server has enough
    /// of this connection, or knows no signals; [`super::Refusal::Draining`].
    pub fn listen(&mut self, pattern: &[u8], group: Option<&[u8]>) -> Result<(), Error> {
        let (pattern, group) = checked(pattern, group)?;
        let mut request = Vec::new();
        ask::listen(pattern, group, &mut request);
        self.is_told_ok(&request, sys::now().saturating_add(self.patience))?;
        self.heard.get_or_insert_default();
        Ok(())
    }

    /// Takes a [`Client::listen`] back, which may not have been; its errors are the same. What came before can still be
    /// heard.
    pub fn unlisten(&mut self, pattern: &[u8], group: Option<&[u8]>) -> Result<(), Error> {
        let (pattern, group) = checked(pattern, group)?;
        let mut request = Vec::new();
        ask::unlisten(pattern, group, &mut request);
        self.is_told_ok(&request, sys::now().saturating_add(self.patience))
    }

    /// Tells everybody who listens to `channel`, which has no wildcards. Returns how many were told: connections that
    /// listen without a group, and groups. That they were told does not mean that they read it.
    ///
    /// [`Error::Channel`] and [`Error::Payload`] as in [`Signal::new`], [`super::Refusal::Draining`].
    pub fn signal(&mut self, channel: &[u8], payload: &[u8]) -> Result<u64, Error> {
        check(channel, payload)?;
        let mut request = Vec::new();
        ask::signal(channel, payload, &mut request);
        let until = sys::now().saturating_add(self.patience);
        let line = self.exchange(&request, LINE_MAX, until)?;
        if let Some(receivers) = ask::receivers(&line) {
            return Ok(receivers);
        }
        let reply = self.understood(&line)?;
        Err(self.out_of_step(reply))
    }

    /// The next signal, as soon as it is there, or None when none came for so long; a wait of zero looks whether one has
    /// come. What came while something else was asked comes first, also once the connection has failed.
    ///
    /// Silence does not say that the server is there: [`Client::ping`] does. [`Error::Io`] when the connection ends, also
    /// because it was not read for long.
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
            // Its last word.
            Some(Reply::Refused(refusal)) => Err(Error::Refused(refusal)),
            _ => Err(self.nonsense(&line)),
        }
    }

    /// How many signals came while something else was asked, and found no room: 1024 are kept, and 1 MiB.
    pub fn missed(&self) -> u64 {
        self.heard.as_ref().map_or(0, |heard| heard.missed)
    }

    /// Keeps what came since the last answer. False if that is not signals alone.
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

    /// The next line that is no signal; those are kept.
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
            _ => return Err(self.nonsense(line)),
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

/// Whether that can be listened to, without doing so: the pattern as it is sent, and the group, empty for None.
/// [`Error::Pattern`] and [`Error::Group`] if not.
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
